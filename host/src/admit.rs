//! May this plan be written? Checks it against what was granted and against what a tenant may do, and stamps each object with
//! namespace, owner, labels and hash. Pure: knows no client and no clock. Only here is an [`Admitted`] made.

mod pods;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::cache::Kind;
use crate::catalog::Grants;
use crate::crd::Database;
use crate::names;
use crate::observe::{self, partition_name};
use crate::wit::{Descriptor, Plan, PlannedObject, Request};

/// A plan that may be written.
#[derive(Clone, Debug)]
#[allow(clippy::manual_non_exhaustive, reason = "sealed against the other rooms, not against other crates")]
pub struct Admitted {
    /// Objects in write order, the database's Partitions first.
    pub objects: Vec<Stamped>,
    /// Hash over the plugin's objects, before they were stamped: the same for the same plan, whoever the controller is.
    pub hash: String,
    _by_admit: (),
}

/// An object as it will be written.
#[derive(Clone, Debug)]
pub struct Stamped {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The whole manifest.
    pub manifest: Value,
    /// Its hash; the annotation holds it too.
    pub hash: String,
    /// Hash of its pod template, if it has one.
    pub template: Option<String>,
    /// Whether it may be written only once, and never changed or removed: volume claims.
    pub once: bool,
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
    ("", "Pod", ""),
    ("", "ReplicationController", "/spec/template"),
    ("apps", "DaemonSet", "/spec/template"),
    ("apps", "Deployment", "/spec/template"),
    ("apps", "ReplicaSet", "/spec/template"),
    ("apps", "StatefulSet", "/spec/template"),
    ("batch", "CronJob", "/spec/jobTemplate/spec/template"),
    ("batch", "Job", "/spec/template"),
];

/// Kinds that no plugin writes, whatever its role says: they would let it read secrets, take rights, or fight the controller.
/// An empty plural stands for the whole group.
const FORBIDDEN: [(&str, &str); 12] = [
    ("", "secrets"),
    ("", "serviceaccounts"),
    ("", "namespaces"),
    ("", "nodes"),
    ("", "persistentvolumes"),
    ("", "pods"), // they do not come back by themselves; and ephemeral ones escape the checks of templates
    ("rbac.authorization.k8s.io", ""),
    ("admissionregistration.k8s.io", ""),
    ("apiextensions.k8s.io", ""),
    ("apiregistration.k8s.io", ""),
    ("cloud.atomix.io", ""),
    ("storage.cloud.atomix.io", ""),
];

/// Admits a plan, or says what in it may not be and where.
pub fn admit(
    plan: &Plan,
    request: &Request,
    database: &Database,
    descriptor: &Descriptor,
    grants: &Grants,
    controller: &str,
) -> Result<Admitted, String> {
    let stamp = Stamp::of(database, &request.database.database_label);
    let mut objects: Vec<Stamped> = request
        .partitions
        .iter()
        .map(|partition| partition_object(&stamp, &request.database.name, partition.id, controller))
        .collect();
    let mut hashed = Vec::with_capacity(plan.objects.len());
    for object in &plan.objects {
        let blame = |what: String| format!("object {:?}: {what}", object.id);
        let kind = kind_of(object, descriptor, grants).map_err(blame)?;
        check(&kind, object, request).map_err(blame)?;
        hashed.push(object.manifest.clone());
        objects.push(stamp.stamped(kind, object.manifest.clone()));
    }
    Ok(Admitted { objects, hash: names::hash_json(&Value::Array(hashed)), _by_admit: () })
}

/// Whether a kind may never be written by a plugin.
pub fn forbidden(group: &str, plural: &str) -> bool {
    FORBIDDEN.iter().any(|(g, p)| *g == group && (p.is_empty() || *p == plural))
}

/// Where a manifest of this kind keeps its pod template, as a JSON pointer.
pub fn template_pointer(group: &str, kind: &str) -> Option<&'static str> {
    TEMPLATES.iter().find(|(g, k, _)| *g == group && *k == kind).map(|(_, _, pointer)| *pointer)
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
    if forbidden(&kind.group, &kind.plural) {
        return Err(format!("no plugin may write {}", kind.plural));
    }
    if !grants.writes(kind) {
        return Err(format!(
            "ClusterRole atomix-plugin-{} does not grant create and patch of {}",
            descriptor.name, kind.plural
        ));
    }
    Ok(observe::kind(kind))
}

fn check(kind: &Kind, object: &PlannedObject, request: &Request) -> Result<(), String> {
    let manifest = &object.manifest;
    let meta = manifest.get("metadata").and_then(Value::as_object).ok_or("it has no metadata")?;
    let own = ["name", "namespace", "labels", "annotations"];
    if let Some(field) = meta.keys().find(|field| !own.contains(&field.as_str())) {
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
        let ours = [names::HASH, names::TEMPLATE_HASH, names::DATABASE, names::SUCCEEDS];
        if let Some(name) = keys.find(|key| ours.contains(&key.as_str())) {
            return Err(format!("metadata.{part} holds {name}, which is the controller's"));
        }
    }
    if manifest.get("status").is_some() {
        return Err("it has a status, which is the cluster's to set".to_owned());
    }
    if kind.group.is_empty() && kind.plural == "services" {
        for field in ["externalIPs", "loadBalancerIP"] {
            if manifest.pointer(&format!("/spec/{field}")).is_some_and(|value| !empty(value)) {
                return Err(format!("spec.{field} takes addresses that may belong to others"));
            }
        }
    }
    retention(manifest, &request.class.spec)?;
    let Some(pointer) = template_pointer(&kind.group, &kind.kind) else { return Ok(()) };
    let template = manifest.pointer(pointer).ok_or_else(|| format!("it has no pod template at {pointer}"))?;
    let part = |name: &str| template.get(name).unwrap_or(&Value::Null);
    let at = |name: &str, what: String| format!("{}.{name}.{what}", pointer.trim_start_matches('/').replace('/', "."));
    pods::check_annotations(part("metadata")).map_err(|what| at("metadata", what))?;
    pods::check(part("spec")).map_err(|what| at("spec", what))
}

/// A policy that deletes volumes with what used them is the user's to ask for, not the plugin's.
fn retention(manifest: &Value, class: &Value) -> Result<(), String> {
    for when in ["whenDeleted", "whenScaled"] {
        let asked = |root: &Value, path: &str| {
            root.pointer(path).and_then(|p| p.get(when)).and_then(Value::as_str) == Some("Delete")
        };
        if asked(manifest, "/spec/persistentVolumeClaimRetentionPolicy")
            && !asked(class, "/persistentVolumeClaimRetentionPolicy")
        {
            return Err(format!(
                "spec.persistentVolumeClaimRetentionPolicy.{when} is Delete, but the class does not ask for it in persistentVolumeClaimRetentionPolicy.{when}"
            ));
        }
    }
    Ok(())
}

fn items<'a>(value: &'a Value, field: &str) -> Vec<(usize, &'a Value)> {
    value.get(field).and_then(Value::as_array).into_iter().flatten().enumerate().collect()
}

fn empty(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty) || value == ""
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
        let mut labels = database.metadata.labels.clone().unwrap_or_default();
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
            "apiVersion": format!("{}/{}", crate::crd::GROUP, crate::crd::VERSION),
            "kind": "Database",
            "name": name,
            "uid": database.metadata.uid.clone().unwrap_or_default(),
            "controller": true,
            "blockOwnerDeletion": true,
        });
        Stamp { namespace: database.metadata.namespace.clone().unwrap_or_default(), name, owner, labels }
    }

    fn stamped(&self, kind: Kind, mut manifest: Value) -> Stamped {
        drop_nulls(&mut manifest); // null says absent, and in the key of a list item the API server refuses it
        let once = kind.group.is_empty() && kind.plural == "persistentvolumeclaims";
        let template =
            template_pointer(&kind.group, &kind.kind).and_then(|pointer| manifest.pointer(pointer)).map(names::hash_json);
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
        if let Some(template) = &template {
            annotations.insert(names::TEMPLATE_HASH.to_owned(), json!(template));
        }
        meta.insert("annotations".to_owned(), Value::Object(annotations));
        let hash = names::hash_json(&manifest);
        if let Some(annotations) = manifest.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
            annotations.insert(names::HASH.to_owned(), json!(hash));
        }
        Stamped { kind, name, manifest, hash, template, once }
    }
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

/// The kind Partition.
pub fn partition_kind() -> Kind {
    Kind {
        group: crate::crd::GROUP.into(),
        version: crate::crd::VERSION.into(),
        kind: "Partition".into(),
        plural: "partitions".into(),
    }
}

fn partition_object(stamp: &Stamp, database: &str, id: u32, controller: &str) -> Stamped {
    let name = partition_name(database, id);
    let kind = partition_kind();
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
    partitions.stamped(kind, manifest)
}

/// Kinds that an admitted plan writes, sorted.
pub fn kinds(admitted: &Admitted) -> BTreeSet<Kind> {
    admitted.objects.iter().map(|object| object.kind.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::DatabaseSpec;
    use crate::wit::{ClassSeen, DatabaseSeen, ObjectKind, PartitionWanted};

    fn object_kind(group: &str, kind: &str, plural: &str) -> ObjectKind {
        ObjectKind { group: group.into(), version: "v1".into(), kind: kind.into(), plural: plural.into(), reads: Vec::new() }
    }

    /// Admits one manifest of a plugin that says it emits StatefulSets, Services, Secrets and ConfigMaps, and may write all but
    /// the last.
    fn check(class: Value, manifest: Value) -> Result<Admitted, String> {
        let emits = vec![
            object_kind("apps", "StatefulSet", "statefulsets"),
            object_kind("", "Service", "services"),
            object_kind("", "Secret", "secrets"),
            object_kind("", "ConfigMap", "configmaps"),
        ];
        let descriptor =
            Descriptor { name: "p".into(), version: "1".into(), class_kinds: Vec::new(), emits, watches: Vec::new() };
        let grants = Grants::of(
            &json!({"rules": [{"apiGroups": ["", "apps"], "resources": ["statefulsets", "services", "secrets"], "verbs": ["create", "patch"]}]}),
        );
        let mut database = Database::new("d", DatabaseSpec { partitions: 1, ..DatabaseSpec::default() });
        database.metadata.namespace = Some("n".into());
        database.metadata.uid = Some("u".into());
        database.metadata.labels = Some([("team".to_owned(), "blue".to_owned())].into());
        let request = Request {
            database: DatabaseSeen {
                namespace: "n".into(),
                name: "d".into(),
                partitions: 1,
                partitions_per_cluster: 1,
                labels: Vec::new(),
                database_label: "d.n".into(),
            },
            class: ClassSeen { kind: "C".into(), version: "v1".into(), name: "c".into(), spec: class },
            partitions: vec![PartitionWanted { id: 1, cluster: 1, service_name: "d-1".into() }],
            observed: Vec::new(),
            cluster_domain: "cluster.local".into(),
            features: Vec::new(),
        };
        let plan = Plan {
            objects: vec![PlannedObject { id: "it".into(), manifest }],
            partitions: Vec::new(),
            unsupported: Vec::new(),
            notes: Vec::new(),
        };
        admit(&plan, &request, &database, &descriptor, &grants, "kube-system.atomix-controller")
    }

    fn set(spec: Value) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "s"}, "spec": {"template": {"spec": spec}}})
    }

    fn refused(manifest: Value, with: &str) {
        let why = check(json!({}), manifest).expect_err("it must be refused");
        assert!(why.contains(with), "{why:?} does not say {with:?}");
    }

    #[test]
    fn every_object_is_stamped_with_namespace_owner_labels_and_hash() {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "labels": {"cluster": "1", "database": "evil"}}});
        let admitted = check(json!({}), service).unwrap();
        assert_eq!(admitted.objects.len(), 2, "the Partition and the Service");
        let meta = &admitted.objects[1].manifest["metadata"];
        assert_eq!(meta["namespace"], "n");
        assert_eq!(meta["ownerReferences"][0]["uid"], "u");
        assert_eq!(meta["labels"]["database"], "d.n", "a plugin cannot pass its objects off as another database's");
        assert_eq!((&meta["labels"]["team"], &meta["labels"]["cluster"]), (&json!("blue"), &json!("1")));
        assert_eq!(meta["annotations"][names::HASH], json!(admitted.objects[1].hash));
        let partition = &admitted.objects[0].manifest;
        assert_eq!(partition["metadata"]["labels"]["database"], "d");
        assert_eq!(partition["metadata"]["annotations"][names::CONTROLLER], "kube-system.atomix-controller");
        assert_eq!(partition["spec"], json!({"partitionId": 1, "serviceName": "d-1"}));
    }

    #[test]
    fn stamps_never_go_into_pod_templates() {
        let given = set(json!({"automountServiceAccountToken": false}));
        let admitted = check(json!({}), given.clone()).unwrap();
        assert_eq!(admitted.objects[1].manifest["spec"], given["spec"]);
        assert!(admitted.objects[1].template.is_some());
    }

    #[test]
    fn null_is_absent() {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 1, "protocol": null}]}});
        assert_eq!(check(json!({}), service).unwrap().objects[1].manifest["spec"], json!({"ports": [{"port": 1}]}));
    }

    #[test]
    fn a_plan_is_hashed_as_the_plugin_made_it() {
        let given = set(json!({"automountServiceAccountToken": false}));
        assert_eq!(check(json!({}), given.clone()).unwrap().hash, names::hash_json(&json!([given])));
    }

    #[test]
    fn what_was_not_granted_or_never_may_be_is_refused() {
        let of = |kind: &str| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}});
        refused(of("ConfigMap"), "does not grant");
        refused(of("Secret"), "no plugin may write secrets");
        refused(of("Pod"), "none of the kinds");
        refused(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x", "namespace": "kube-system"}}),
            "namespace",
        );
        refused(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x", "finalizers": ["a"]}}),
            "finalizers",
        );
        refused(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x", "annotations": {(names::HASH): "a"}}}),
            names::HASH,
        );
        refused(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"externalIPs": ["1.2.3.4"]}}),
            "externalIPs",
        );
        refused(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "status": {}}), "status");
    }

    #[test]
    fn pod_templates_get_what_a_tenant_gets() {
        refused(set(json!({})), "automountServiceAccountToken");
        let cases = [
            (json!({"hostNetwork": true}), "spec.template.spec.hostNetwork"),
            (json!({"hostPID": true}), "hostPID"),
            (json!({"serviceAccountName": "admin"}), "serviceAccountName"),
            (json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}), "volumes[0].hostPath"),
            (
                json!({"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]}),
                "volumes[0].projected",
            ),
            (json!({"containers": [{"securityContext": {"privileged": true}}]}), "containers[0].securityContext.privileged"),
            (json!({"initContainers": [{"securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}]}), "capabilities.add"),
            (json!({"containers": [{"ports": [{"containerPort": 1, "hostPort": 1}]}]}), "hostPort"),
            (json!({"priorityClassName": "system-node-critical"}), "priorityClassName"),
            (json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}), "seccompProfile"),
            (json!({"containers": [{"securityContext": {"appArmorProfile": {"type": "Unconfined"}}}]}), "appArmorProfile"),
            (json!({"securityContext": {"seLinuxOptions": {"type": "spc_t"}}}), "seLinuxOptions.type"),
            (json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}), "kernel.msgmax"),
            (
                json!({"containers": [{"livenessProbe": {"httpGet": {"host": "169.254.169.254"}}}]}),
                "livenessProbe has a host",
            ),
            (
                json!({"containers": [{"lifecycle": {"preStop": {"tcpSocket": {"host": "h"}}}}]}),
                "lifecycle.preStop has a host",
            ),
        ];
        for (mut spec, with) in cases {
            spec["automountServiceAccountToken"] = json!(false);
            refused(set(spec), with);
        }
        let mut noted = set(json!({"automountServiceAccountToken": false}));
        noted["spec"]["template"]["metadata"] =
            json!({"annotations": {"container.apparmor.security.beta.kubernetes.io/c": "unconfined"}});
        refused(noted, "spec.template.metadata.annotations");
    }

    #[test]
    fn what_a_class_may_say_of_its_pods_is_taken() {
        let spec = json!({
            "automountServiceAccountToken": false,
            "imagePullSecrets": [{"name": "registry"}],
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "priorityClassName": "storage",
            "securityContext": {
                "runAsUser": 0,
                "fsGroup": 7,
                "seccompProfile": {"type": "Localhost", "localhostProfile": "a.json"},
                "seLinuxOptions": {"level": "s0:c1,c2", "type": "container_t"},
                "sysctls": [{"name": "net.ipv4.tcp_keepalive_time", "value": "60"}],
            },
            "containers": [{"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}],
        });
        assert!(check(json!({}), set(spec)).is_ok());
    }

    #[test]
    fn volumes_are_deleted_with_what_used_them_only_if_the_class_asks_for_it() {
        let policy = json!({"whenDeleted": "Delete"});
        let mut given = set(json!({"automountServiceAccountToken": false}));
        given["spec"]["persistentVolumeClaimRetentionPolicy"] = policy.clone();
        refused(given.clone(), "whenDeleted");
        assert!(check(json!({"persistentVolumeClaimRetentionPolicy": policy}), given).is_ok());
    }
}
