//! Whether a plan may be written: checks it against what was granted and against what a tenant may do, and stamps each
//! object with namespace, owner, labels and hash. Pure: knows no client and no clock. Only here is an [`Admitted`] made.

mod kept;
mod ownership;
mod pods;
mod references;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::diff::canonical;
use crate::observe::partition_name;
use atomix_model::contract::{Descriptor, Plan, PlannedObject, Request, plain};
use atomix_model::crd::{Database, Partition};
use atomix_model::grants::Grants;
use atomix_model::object::Kind;
use atomix_model::{denied_kinds, names};
pub use kept::Kept;
use ownership::{Asked, Own};

/// A plan that may be written.
#[derive(Clone, Debug)]
#[allow(clippy::manual_non_exhaustive, reason = "sealed against the other modules, not against other crates")]
pub struct Admitted {
    /// Objects in write order, the database's Partitions first.
    pub objects: Vec<Stamped>,
    /// Hash over the plugin's objects, before they were stamped: the same for the same plan, whichever controller makes it.
    pub hash: String,
    _by_admit: (),
}

/// An object as it will be written.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // its fields explain themselves
pub struct Stamped {
    pub kind: Kind,
    pub name: String,
    pub manifest: Value,
    /// Its hash, the same for every spelling; the annotation holds it too.
    pub hash: String,
    /// Hash of its pod template, if it has one, the same for every spelling.
    pub template: Option<String>,
    /// What an earlier version of the controller wrote as the two hashes: those of this one spelling.
    pub legacy_hashes: (String, Option<String>),
    /// Whether it may be written only once, and never changed or removed: volume claims.
    pub once: bool,
}

impl Stamped {
    /// Whether `hash`, as found on a live object, is that of this manifest, in whatever spelling.
    pub fn is_of(&self, hash: Option<&str>) -> bool {
        hash.is_some_and(|hash| hash == self.hash || hash == self.legacy_hashes.0)
    }

    /// Whether its pods name an object, as what they mount or read is named.
    pub fn mounts(&self, name: &str) -> bool {
        fn names(value: &Value, name: &str) -> bool {
            match value {
                Value::String(text) => text == name,
                Value::Array(items) => items.iter().any(|item| names(item, name)),
                Value::Object(fields) => fields.values().any(|field| names(field, name)),
                _ => false,
            }
        }
        let template =
            template_pointer(&self.kind.group, &self.kind.kind).and_then(|pointer| self.manifest.pointer(pointer));
        template.is_some_and(|template| names(template, name))
    }

    /// Whether `hash`, as found on a live object, is that of this pod template; where there is none, nothing differs.
    pub fn has_template(&self, hash: &str) -> bool {
        let known = [self.template.as_deref(), self.legacy_hashes.1.as_deref()];
        self.template.is_none() || known.contains(&Some(hash))
    }
}

#[cfg(test)]
impl Admitted {
    /// A plan as if it had been admitted.
    pub(crate) fn for_tests(objects: Vec<Stamped>, hash: &str) -> Admitted {
        Admitted { objects, hash: hash.to_owned(), _by_admit: () }
    }
}

/// Where a kind keeps its pod template: the one table of kinds that make pods.
const TEMPLATES: [(&str, &str, &str); 8] = [
    ("", "PodTemplate", "/template"),
    ("", "ReplicationController", "/spec/template"),
    ("apps", "DaemonSet", "/spec/template"),
    ("apps", "Deployment", "/spec/template"),
    ("apps", "ReplicaSet", "/spec/template"),
    ("apps", "StatefulSet", "/spec/template"),
    ("batch", "CronJob", "/spec/jobTemplate/spec/template"),
    ("batch", "Job", "/spec/template"),
];

/// Admits a plan, or returns what in it is not allowed and where. `kept` is what running storage holds, whatever its class names by now.
pub fn admit(
    plan: &Plan,
    request: &Request,
    database: &Database,
    descriptor: &Descriptor,
    grants: &Grants,
    controller: &str,
    kept: &Kept,
) -> Result<Admitted, String> {
    let stamp = Stamp::of(database, &request.database.database_label);
    let mut objects: Vec<Stamped> = request
        .partitions
        .iter()
        .map(|partition| partition_object(&stamp, &request.database.name, partition.id, controller))
        .collect();
    let mut hashed = Vec::with_capacity(plan.objects.len());
    let class_kind = descriptor.class_kinds.iter().find(|kind| kind.kind == request.class.kind);
    let own = Own::of(plan, request, class_kind.map(|kind| &kind.spec_schema), kept);
    for object in &plan.objects {
        let in_object = |what: String| plain(&format!("object {:?}: {what}", object.id));
        let kind = kind_of(object, descriptor, grants).map_err(in_object)?;
        let asked = check(&kind, object, request, &own).map_err(in_object)?;
        hashed.push(object.manifest.clone());
        objects.push(stamp.stamped(kind, object.manifest.clone(), &asked));
    }
    // What makes pods comes last: whether what they mount is ours is known only once it is written.
    objects.sort_by_key(|object| object.template.is_some());
    Ok(Admitted { objects, hash: names::hash_json(&Value::Array(hashed)), _by_admit: () })
}

/// Where a manifest of this kind keeps its pod template, as a JSON pointer.
pub fn template_pointer(group: &str, kind: &str) -> Option<&'static str> {
    TEMPLATES.iter().find(|(g, k, _)| *g == group && *k == kind).map(|(_, _, pointer)| *pointer)
}

/// Whether objects of a kind are restricted to what is of their own database. What objects of other kinds do is unknown
/// here.
pub fn is_known(group: &str, kind: &str) -> bool {
    references::is_known(group, kind)
}

fn kind_of(object: &PlannedObject, descriptor: &Descriptor, grants: &Grants) -> Result<Kind, String> {
    let text = |field: &str| object.manifest.get(field).and_then(Value::as_str).unwrap_or_default();
    let (group, version) = text("apiVersion").rsplit_once('/').unwrap_or(("", text("apiVersion")));
    let emitted = descriptor.emits.iter();
    let found = emitted.clone().find(|kind| kind.group == group && kind.version == version && kind.kind == text("kind"));
    let Some(kind) = found else {
        let emits: Vec<_> = emitted.map(|kind| kind.kind.as_str()).collect();
        return Err(format!(
            "apiVersion {:?} and kind {:?} are none of the kinds that the plugin says it emits ({})",
            text("apiVersion"),
            text("kind"),
            emits.join(", ")
        ));
    };
    if denied_kinds::is_never_written(&kind.group, &kind.plural) {
        return Err(format!("no plugin may write {}", kind.plural));
    }
    if !grants.writes(kind) {
        return Err(format!(
            "ClusterRole atomix-plugin-{} does not grant create and patch of {}",
            descriptor.name, kind.plural
        ));
    }
    Ok(Kind::from(kind))
}

fn check(kind: &Kind, object: &PlannedObject, request: &Request, own: &Own<'_>) -> Result<Asked, String> {
    let manifest = &object.manifest;
    let meta = manifest.get("metadata").and_then(Value::as_object).ok_or("it has no metadata")?;
    let settable = ["name", "namespace", "labels", "annotations"];
    if let Some(field) = meta.keys().find(|field| !settable.contains(&field.as_str())) {
        return Err(format!("metadata.{field} is not the plugin's to set"));
    }
    match meta.get("namespace").and_then(Value::as_str) {
        Some(namespace) if namespace != request.database.namespace => {
            return Err(format!(
                "metadata.namespace is {namespace:?}, but all that a database needs lives in its own, {:?}",
                request.database.namespace
            ));
        }
        _ => {}
    }
    for part in ["labels", "annotations"] {
        let mut keys = meta.get(part).and_then(Value::as_object).into_iter().flat_map(Map::keys);
        let ours = [names::HASH, names::TEMPLATE_HASH, names::DATABASE, names::REPLACES, names::ASKED];
        if let Some(name) = keys.find(|key| ours.contains(&key.as_str())) {
            return Err(format!("metadata.{part} holds {name}, which is the controller's"));
        }
    }
    if manifest.get("status").is_some() {
        return Err("it has a status, which is the cluster's to set".to_owned());
    }
    references::labels(meta)?;
    let mut asked = Asked::new();
    references::check(&kind.group, &kind.kind, manifest, own, &mut asked)?;
    retention(manifest, &own.class, &mut asked)?;
    let Some(pointer) = template_pointer(&kind.group, &kind.kind) else { return Ok(asked) };
    let template = manifest.pointer(pointer).ok_or_else(|| format!("it has no pod template at {pointer}"))?;
    let part = |name: &str| template.get(name).unwrap_or(&Value::Null);
    let at = |name: &str, what: String| format!("{}.{name}.{what}", pointer.trim_start_matches('/').replace('/', "."));
    let labels = part("metadata").get("labels");
    if !own.is_labelled(labels) || labels.and_then(|labels| labels.get("app")) != Some(&json!("atomix")) {
        let what = format!("labels must have app: atomix and database: {}, or its pods could pass for others'", own.label);
        return Err(at("metadata", what));
    }
    pods::check_annotations(part("metadata")).map_err(|what| at("metadata", what))?;
    pods::check(part("spec"), own, &mut asked).map_err(|what| at("spec", what))?;
    Ok(asked)
}

/// A policy that deletes volumes with what used them is for the user's class to set, not for the plugin.
fn retention(manifest: &Value, class: &Value, asked: &mut Asked) -> Result<(), String> {
    for when in ["whenDeleted", "whenScaled"] {
        let deletes = |root: &Value, path: &str| {
            root.pointer(path).and_then(|p| p.get(when)).is_some_and(|how| is_set(how) && *how != "Retain")
        };
        if deletes(manifest, "/spec/persistentVolumeClaimRetentionPolicy") {
            if !deletes(class, "/persistentVolumeClaimRetentionPolicy") {
                return Err(format!(
                    "spec.persistentVolumeClaimRetentionPolicy.{when} is Delete, but the class does not ask for it in persistentVolumeClaimRetentionPolicy.{when}"
                ));
            }
            asked.insert("claim-retention");
        }
    }
    Ok(())
}

fn items<'a>(value: &'a Value, field: &str) -> Vec<(usize, &'a Value)> {
    value.get(field).and_then(Value::as_array).into_iter().flatten().enumerate().collect()
}

fn empty(value: &Value) -> bool {
    value.is_null()
        || value.as_array().is_some_and(Vec::is_empty)
        || value.as_object().is_some_and(Map::is_empty)
        || value == ""
}

/// Whether a field is set, however it is spelled: `8080.0` and `"true"` are.
fn is_set(value: &Value) -> bool {
    !(value.is_null() || *value == false || value.as_f64() == Some(0.0) || value == "")
}

/// The text at a pointer; none for anything else.
fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// What every object of one database carries.
struct Stamp {
    namespace: String,
    name: String,
    owner: Value,
    labels: BTreeMap<String, String>,
}

impl Stamp {
    fn of(database: &Database, label: &str) -> Stamp {
        let name = database.metadata.name.clone().unwrap_or_default();
        let mut labels = atomix_model::labels::copied(&database.metadata);
        for (key, value) in [
            ("app", "atomix"),
            ("database", label),
            ("app.kubernetes.io/managed-by", "atomix-controller"),
            ("app.kubernetes.io/part-of", "atomix"),
            ("app.kubernetes.io/instance", label),
        ] {
            labels.insert(key.to_owned(), value.to_owned());
        }
        let owner = json!({
            "apiVersion": format!("{}/{}", atomix_model::crd::GROUP, atomix_model::crd::VERSION),
            "kind": "Database",
            "name": name,
            "uid": database.metadata.uid.clone().unwrap_or_default(),
            "controller": true,
            "blockOwnerDeletion": true,
        });
        Stamp { namespace: database.metadata.namespace.clone().unwrap_or_default(), name, owner, labels }
    }

    fn stamped(&self, kind: Kind, mut manifest: Value, asked: &Asked) -> Stamped {
        drop_nulls(&mut manifest); // null means absent, and in the key of a list item the API server refuses it
        let once = kind.group.is_empty() && kind.plural == "persistentvolumeclaims";
        let pointer = template_pointer(&kind.group, &kind.kind);
        let template = |of: &Value| pointer.and_then(|pointer| of.pointer(pointer)).map(names::hash_json);
        let name = manifest.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let meta = entry(&mut manifest, "metadata");
        meta.insert("namespace".to_owned(), json!(self.namespace));
        if !once {
            meta.insert("ownerReferences".to_owned(), json!([self.owner]));
        }
        let mut labels = self.labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect::<Map<_, _>>();
        if let Some(Value::Object(own)) = meta.remove("labels") {
            own.into_iter().for_each(|(key, value)| {
                if !["app", "database"].contains(&key.as_str()) {
                    labels.insert(key, value);
                }
            });
        }
        meta.insert("labels".to_owned(), Value::Object(labels));
        let mut annotations = match meta.remove("annotations") {
            Some(Value::Object(own)) => own,
            _ => Map::new(),
        };
        annotations.entry(names::DATABASE).or_insert_with(|| json!(format!("{}.{}", self.name, self.namespace)));
        if !asked.is_empty() {
            annotations.insert(names::ASKED.to_owned(), json!(asked.iter().copied().collect::<Vec<_>>().join(",")));
        }
        meta.insert("annotations".to_owned(), Value::Object(annotations));
        let canonical = canonical(&manifest);
        let legacy_hashes = (canonical != manifest).then(|| {
            let template = template(&manifest);
            (hash_of(manifest.clone(), template.as_deref()), template)
        });
        let template = template(&canonical);
        let hash = hash_of(canonical, template.as_deref());
        let legacy_hashes = legacy_hashes.unwrap_or_else(|| (hash.clone(), template.clone()));
        if let Some(annotations) = manifest.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
            annotations.extend(template.iter().map(|template| (names::TEMPLATE_HASH.to_owned(), json!(template))));
            annotations.insert(names::HASH.to_owned(), json!(hash));
        }
        Stamped { kind, name, manifest, hash, template, legacy_hashes, once }
    }
}

/// Hash of a manifest with the hash of its template, if it has one, as an annotation.
fn hash_of(mut manifest: Value, template: Option<&str>) -> String {
    if let (Some(template), Some(annotations)) =
        (template, manifest.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut))
    {
        annotations.insert(names::TEMPLATE_HASH.to_owned(), json!(template));
    }
    names::hash_json(&manifest)
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn entry<'a>(manifest: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    if !manifest.get(field).is_some_and(Value::is_object) {
        manifest[field] = json!({});
    }
    manifest[field].as_object_mut().expect("made an object just above")
}

fn partition_object(stamp: &Stamp, database: &str, id: u32, controller: &str) -> Stamped {
    let name = partition_name(database, id);
    let kind = Kind::of::<Partition>();
    let manifest = json!({
        "apiVersion": format!("{}/{}", kind.group, kind.version),
        "kind": kind.kind,
        "metadata": {
            "name": name,
            "labels": {"type": "partition", "partition": id.to_string()},
            "annotations": {
                (names::CONTROLLER): controller,
                (names::TYPE): "partition",
                (names::DATABASE): database,
                (names::PARTITION): id.to_string(),
            },
        },
        "spec": {"partitionId": id, "serviceName": name},
    });
    let mut partitions = Stamp {
        labels: stamp.labels.clone(),
        namespace: stamp.namespace.clone(),
        name: stamp.name.clone(),
        owner: stamp.owner.clone(),
    };
    partitions.labels.insert("database".to_owned(), database.to_owned()); // a Partition's label is the bare name, as clients select it
    partitions.stamped(kind, manifest, &Asked::new())
}

/// Kinds that an admitted plan writes, sorted.
pub fn kinds(admitted: &Admitted) -> BTreeSet<Kind> {
    admitted.objects.iter().map(|object| object.kind.clone()).collect()
}

#[cfg(test)]
mod tests;
