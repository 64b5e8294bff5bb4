//! For tests of plans, which run natively: requests, what the API server would show of a plan, and pods that are ready or not.

use serde_json::Value;

pub use crate::types::{
    Note, Object, ObservedClass, ObservedField, ObservedObject, Request, StoragePlan, UnsupportedChange,
};
use crate::{Database, Partition, Plugin, json, wire};

/// A request for the database `name` in namespace `default`: `partitions` of them, `each` in a cluster, on a class of this kind and
/// spec.
pub fn request(kind: &str, name: &str, [partitions, each]: [u32; 2], spec: &Value) -> Request {
    Request {
        database: Database {
            namespace: "default".into(),
            name: name.into(),
            partitions,
            partitions_per_cluster: each,
            labels: Vec::new(),
            database_label: format!("{name}.default"),
        },
        class: ObservedClass { kind: kind.into(), version: "v1beta1".into(), name: name.into(), spec: spec.to_string() },
        partitions: (1..=partitions)
            .map(|id| Partition { id, cluster: id.div_ceil(each), service_name: format!("{name}-{id}") })
            .collect(),
        observed: Vec::new(),
        cluster_domain: "cluster.local".into(),
        features: Vec::new(),
    }
}

/// A plan, and its objects as JSON, each with its id.
pub struct Planned {
    /// Each object with its id, as JSON.
    pub objects: Vec<(String, Value)>,
    /// The plan as the contract has it.
    pub plan: StoragePlan,
}

/// The plugin's answer, which must be a plan.
#[track_caller]
pub fn planned(plugin: &Plugin, request: Request) -> Planned {
    let plan = plugin.plan(request).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"));
    let parse = |object: &Object| (object.id.clone(), serde_json::from_str(&object.manifest).expect("a manifest is JSON"));
    Planned { objects: plan.objects.iter().map(parse).collect(), plan }
}

impl Planned {
    /// The object with this id.
    #[track_caller]
    pub fn object(&self, id: &str) -> &Value {
        let found = self.objects.iter().find(|(it, _)| it == id);
        found.map(|(_, object)| object).unwrap_or_else(|| panic!("the plan has no object {id}"))
    }

    /// What the API server would show of the objects, as far as the plugin asks for it.
    pub fn live(&self, plugin: Plugin) -> Vec<ObservedObject> {
        let reads = plugin.describe().emits;
        let shown = self.objects.iter().map(|(_, manifest)| {
            let kind = reads.iter().find(|kind| kind.kind == text(manifest, "/kind")).expect("a kind of the descriptor");
            shown(kind, manifest, text(manifest, "/metadata/name"))
        });
        sorted(shown.collect())
    }

    /// The claims that StatefulSets would have made, as far as the plugin asks for them: what is left of a database that is gone.
    pub fn claims(&self, plugin: Plugin) -> Vec<ObservedObject> {
        let watches = plugin.describe().watches;
        let Some(kind) = watches.iter().find(|kind| kind.kind == "PersistentVolumeClaim") else { return Vec::new() };
        let mut claims = Vec::new();
        for (_, set) in self.objects.iter().filter(|(_, object)| object["kind"] == "StatefulSet") {
            for template in set["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten() {
                let mut claim = template.clone();
                claim["metadata"]["labels"] = set["spec"]["selector"]["matchLabels"].clone();
                claim["status"] = json!({"phase": "Bound"});
                for at in 0..set["spec"]["replicas"].as_u64().unwrap_or(1) {
                    let name = format!("{}-{}-{at}", text(template, "/metadata/name"), text(set, "/metadata/name"));
                    claims.push(shown(kind, &claim, name));
                }
            }
        }
        sorted(claims)
    }
}

/// A pod with this status.
pub fn pod(name: &str, status: &Value) -> ObservedObject {
    let fields = status
        .as_object()
        .into_iter()
        .flatten()
        .map(|(field, value)| ObservedField { pointer: format!("/status/{field}"), value: value.to_string() });
    let fields = fields.collect();
    ObservedObject { group: String::new(), kind: "Pod".into(), name: name.into(), terminating: false, fields }
}

/// A pod that is ready.
pub fn ready(name: &str) -> ObservedObject {
    pod(name, &json!({"conditions": [{"type": "Ready", "status": "True"}]}))
}

fn text(of: &Value, pointer: &str) -> String {
    of.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn shown(kind: &wire::ObjectKind, manifest: &Value, name: String) -> ObservedObject {
    let field = |pointer: &String| {
        let value = manifest.pointer(pointer)?.to_string();
        Some(ObservedField { pointer: pointer.clone(), value })
    };
    let fields = kind.reads.iter().filter_map(field).collect();
    ObservedObject { group: kind.group.clone(), kind: kind.kind.clone(), name, terminating: false, fields }
}

/// As the controller sorts them.
fn sorted(mut live: Vec<ObservedObject>) -> Vec<ObservedObject> {
    live.sort_by(|a, b| (&a.group, &a.kind, &a.name).cmp(&(&b.group, &b.kind, &b.name)));
    live
}
