//! One object at a time on a real API server: written by us when we decide so, and by another client. Counts our writes.

use std::cell::{Cell, RefCell};

use atomix_controller_kube::apply::overwrite::overwrite;
use atomix_decide::admission::Stamped;
use atomix_decide::diff::with_live_spelling;
use atomix_decide::objects::{Decision, Owner, decide};
use atomix_model::names::{self, HASH};
use atomix_model::object::{Kind, Live, Trim};
use harness::eventually::{Eventually, eventually};
use harness::fixture::{SOON, shared_fixture};
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use super::manifests::named;

/// Passes after which what is not settled never will be.
const PASSES_MAX: usize = 6;
/// UID of the database that everything here names as its owner; there is no such database, whose own objects would be in the
/// way.
const OWNER: &str = "00000000-0000-0000-0000-000000000000";

/// A namespace in which nothing runs.
pub struct Fixture {
    client: Client,
    namespace: String,
    born: Cell<usize>,
    tally: RefCell<(u32, u32)>,
    overwrites: Cell<usize>,
}

impl Fixture {
    /// Makes a namespace of its own, in which no pod comes to be: only objects are looked at.
    pub async fn new(name: &str) -> Fixture {
        let client = shared_fixture().await.plane.client().await.unwrap();
        let fixture = Fixture {
            client,
            namespace: format!("diff-{name}"),
            born: Cell::new(0),
            tally: RefCell::default(),
            overwrites: Cell::new(0),
        };
        let space = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": fixture.namespace}});
        let api: Api<DynamicObject> = Api::all_with(fixture.client.clone(), &resource(&space));
        api.patch(&fixture.namespace, &manager(), &Patch::Apply(&space)).await.unwrap();
        let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}});
        let api = fixture.api(&quota);
        api.patch("none", &manager(), &Patch::Apply(&quota)).await.unwrap();
        let in_force = || async {
            let quota = api.get("none").await?;
            Ok(Eventually::when(quota.data["status"]["hard"]["pods"] == "0", || "the quota is not in force".to_owned()))
        };
        eventually(SOON, "no pod can be made", in_force).await.unwrap();
        fixture
    }

    /// How many alterations the API server took, and how many it refused.
    pub fn tally(&self) -> (u32, u32) {
        *self.tally.borrow()
    }

    /// How often an apply could not repair, and the object was overwritten.
    pub fn overwrites(&self) -> usize {
        self.overwrites.get()
    }

    /// The manifest with its hash, as it will be applied; a manifest without a name gets one.
    pub fn stamped(&self, manifest: &Value) -> Value {
        let mut manifest = manifest.clone();
        if manifest["metadata"].get("name").is_none() {
            self.born.set(self.born.get() + 1);
            manifest = named(manifest, &self.namespace, &format!("x{}", self.born.get()));
        }
        if let Some(annotations) = manifest["metadata"]["annotations"].as_object_mut() {
            annotations.remove(HASH);
        }
        let hash = names::hash_json(&manifest);
        if !manifest["metadata"]["annotations"].is_object() {
            manifest["metadata"]["annotations"] = json!({});
        }
        manifest["metadata"]["annotations"][HASH] = hash.into();
        manifest
    }

    /// Passes over the object until nothing is to be written; returns how often something was.
    pub async fn settle(&self, desired: &Value) -> Result<usize, String> {
        let (mut reason, mut writes) = (String::new(), 0);
        let owner = Owner { namespace: "", uid: OWNER, name: "", adopts: None };
        for _ in 0..PASSES_MAX {
            let live = self.cached(desired).await?;
            match decide(&stamped(desired), live.as_ref(), &owner, None) {
                Decision::Leave => return Ok(writes),
                Decision::Write(why) => reason = why,
                other => return Err(format!("{other:?}")),
            }
            let spelled = live.as_ref().map_or_else(|| desired.clone(), |live| with_live_spelling(&live.body, desired));
            let desired = &spelled;
            let (api, hash) = (self.api(desired), desired["metadata"]["annotations"][HASH].as_str());
            let written = match api.patch(name(desired), &manager(), &Patch::Apply(desired)).await {
                Err(kube::Error::Api(status))
                    if status.code == 422 && live.as_ref().is_some_and(|live| live.annotation(HASH) == hash) =>
                {
                    let live = live.ok_or("no live object")?;
                    self.overwrites.set(self.overwrites.get() + 1);
                    overwrite(&api, desired, &live).await
                }
                written => written,
            };
            match written {
                Err(kube::Error::Api(status)) if status.code == 409 => {} // a controller wrote the status meanwhile
                Err(error) => return Err(format!("{reason}, then: {error}\n{desired:#}")),
                Ok(_) => writes += 1,
            }
        }
        Err(format!("{PASSES_MAX} passes and still not settled: {reason}\n{desired:#}\n{:#}", self.live(desired).await?))
    }

    /// What is there now.
    pub async fn live(&self, desired: &Value) -> Result<Value, String> {
        let live = self.api(desired).get(name(desired)).await.map_err(|error| format!("get: {error}"))?;
        serde_json::to_value(live).map_err(|error| error.to_string())
    }

    /// What would be there if it were written for the first time.
    pub async fn as_new(&self, desired: &Value) -> Result<Value, String> {
        let other = named(desired.clone(), &self.namespace, "new");
        let params = manager().dry_run();
        let new = self
            .api(desired)
            .patch("new", &params, &Patch::Apply(&other))
            .await
            .map_err(|error| format!("dry run: {error}"))?;
        serde_json::to_value(new).map_err(|error| error.to_string())
    }

    /// Whether the API server would take the change, and the manifest as a new one too.
    pub async fn is_valid(&self, desired: &Value) -> Result<bool, String> {
        let params = manager().dry_run();
        for name in [name(desired), "new"] {
            let manifest = named(desired.clone(), &self.namespace, name);
            let answer = self.api(desired).patch(name, &params, &Patch::Apply(&manifest)).await;
            if !self.taken(answer.map(drop))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Lets another client replace the object; false if the API server refuses it.
    pub async fn replaced_by_another(&self, object: &Value) -> Result<bool, String> {
        let mut object = object.clone();
        let params = PostParams { field_manager: Some("somebody".into()), ..PostParams::default() };
        for _ in 0..10 {
            let body: DynamicObject = serde_json::from_value(object.clone()).map_err(|error| error.to_string())?;
            match self.api(&object).replace(name(&object), &params, &body).await {
                // Controllers write the status meanwhile.
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    object["metadata"]["resourceVersion"] = self.live(&object).await?["metadata"]["resourceVersion"].take();
                }
                answer => return self.taken(answer.map(drop)),
            }
        }
        Err("ten conflicts in a row".into())
    }

    /// Removes the object and makes it anew, without what others left in it.
    pub async fn renew(&self, desired: &Value) -> Result<(), String> {
        self.remove(desired).await?;
        self.settle(desired).await.map(drop)
    }

    /// Removes the object.
    pub async fn remove(&self, desired: &Value) -> Result<(), String> {
        self.api(desired)
            .delete(name(desired), &DeleteParams::background())
            .await
            .map(drop)
            .map_err(|error| format!("delete: {error}"))
    }

    /// What the controller's cache would hold of it.
    async fn cached(&self, desired: &Value) -> Result<Option<Live>, String> {
        let live = self.api(desired).get_opt(name(desired)).await.map_err(|error| format!("get: {error}"))?;
        let mut live = serde_json::to_value(live).map_err(|error| error.to_string())?;
        if let Some(metadata) = live.get_mut("metadata") {
            // Not in the object itself: the garbage collector of the cluster would look for the owner.
            metadata["ownerReferences"] =
                json!([{"apiVersion": "cloud.atomix.io/v1beta3", "kind": "Database", "uid": OWNER}]);
        }
        Ok(Trim::whole([]).live(&kind(desired), live))
    }

    /// Whether an alteration was taken; that it was refused is no error.
    fn taken(&self, answer: kube::Result<()>) -> Result<bool, String> {
        let mut tally = self.tally.borrow_mut();
        match answer {
            Ok(()) => tally.0 += 1,
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 422 | 500) => {
                tally.1 += 1;
                return Ok(false);
            }
            Err(error) => return Err(error.to_string()),
        }
        Ok(true)
    }

    fn api(&self, object: &Value) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource(object))
    }
}

fn stamped(desired: &Value) -> Stamped {
    Stamped {
        kind: kind(desired),
        name: name(desired).to_owned(),
        manifest: desired.clone(),
        hash: desired["metadata"]["annotations"][HASH].as_str().unwrap_or_default().to_owned(),
        template: None,
        legacy_hashes: Default::default(),
        once: false,
    }
}

fn manager() -> PatchParams {
    PatchParams::apply(names::MANAGER).force()
}

fn resource(object: &Value) -> ApiResource {
    let (group, version) = object["apiVersion"].as_str().and_then(|v| v.split_once('/')).unwrap_or(("", "v1"));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, object["kind"].as_str().unwrap_or("")))
}

fn kind(object: &Value) -> Kind {
    let ApiResource { group, version, kind, plural, .. } = resource(object);
    Kind { group, version, kind, plural }
}

/// An object without what distinguishes it from another of the same content.
pub fn substance(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    let own = ["name", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"];
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|field, _| !own.contains(&field.as_str()));
    }
    if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove("deployment.kubernetes.io/revision");
    }
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        spec.retain(|field, _| !field.starts_with("clusterIP")); // allotted once and for all
    }
    without_what_means_nothing(&mut object);
    object
}

/// Takes away what means the same as its absence, though the API server keeps the two apart.
fn without_what_means_nothing(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(without_what_means_nothing),
        Value::Object(fields) => {
            fields.values_mut().for_each(without_what_means_nothing);
            fields.retain(|name, value| match name.as_str() {
                "optional" | "privileged" | "readOnlyRootFilesystem" | "shareProcessNamespace" => *value != json!(false),
                "operator" => *value != json!("Equal"),
                "affinity" | "capabilities" | "dnsConfig" | "lifecycle" | "nodeAffinity" | "podAffinity"
                | "podAntiAffinity" | "resources" | "seLinuxOptions" | "securityContext" | "windowsOptions" => {
                    *value != json!({})
                }
                _ => true,
            });
        }
        _ => {}
    }
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or("")
}
