//! Database in the stored version: how many partitions, on which class of storage, and how it goes.

use k8s_openapi::ByteString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::names;
use crate::object::Kind;

/// A Database is split into partitions; a storage plugin runs them on the storage that its class describes.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "cloud.atomix.io",
    version = "v1beta3",
    kind = "Database",
    plural = "databases",
    shortname = "db",
    category = "atomix",
    namespaced,
    status = "DatabaseStatus",
    derive = "PartialEq",
    scale(spec_replicas_path = ".spec.partitions", status_replicas_path = ".status.partitions", label_selector_path = ".status.selector"),
    printcolumn(name = "Class", type_ = "string", json_path = ".spec.storageClass.name", description = "Storage class that the database asks for"),
    printcolumn(name = "Partitions", type_ = "string", json_path = ".status.ready", description = "Partitions that are ready, of all partitions wanted"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase", description = "Where the database stands, in a word"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1, description = "What the Ready condition says"),
    validation = crate::crd::rules::name(),
    validation = crate::crd::rules::class_stays("storageClass"),
    validation = crate::crd::rules::per_cluster_stays("partitionsPerCluster")
)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseSpec {
    /// How many partitions the database has in all (1 to 1024). Raising it adds partitions; lowering it removes the last ones
    /// and keeps their volumes.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1024))]
    pub partitions: i32,

    /// How many partitions share one cluster of storage nodes (1 to 1024). Partition i lives in cluster ⌈i/partitionsPerCluster⌉
    /// for ever, so it cannot be changed. Without it the class decides, and without that all partitions share one cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub partitions_per_cluster: Option<i32>,

    /// The class of storage that the partitions are kept on.
    pub storage_class: StorageClassRef,
}

/// Names a storage class: an object of a kind that a storage plugin brought.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StorageClassRef {
    /// API group of the class: storage.cloud.atomix.io, which is the default.
    #[serde(default = "storage_group")]
    #[schemars(length(max = 253))]
    pub group: String,

    /// API version of the class, e.g. v1beta1. Without it, any version that the plugin serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub version: Option<String>,

    /// Kind of the class. `kubectl get storageplugins -A -o wide` lists the kinds that plugins serve.
    #[schemars(length(min = 1, max = 253))]
    pub kind: String,

    /// Namespace to look the class up in first. If it is not there, or with none given, the database's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub namespace: Option<String>,

    /// Name of the class object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// What the controller has decided for this database and how it goes.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseStatus {
    /// The generation of the spec that this status is of; -1 while nobody has written it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Where the database stands in a word: Ready, Progressing, Degraded, or why it is none of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,

    /// Ready partitions of all wanted, e.g. "2/3".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,

    /// How many partitions exist.
    #[serde(default)]
    pub partitions: i32,

    /// How many partitions are ready: a quorum, or what the storage calls so, of their members is.
    #[serde(default)]
    pub ready_partitions: i32,

    /// How many clusters of storage nodes exist.
    #[serde(default)]
    pub clusters: i32,

    /// How many clusters have all their partitions ready.
    #[serde(default)]
    pub ready_clusters: i32,

    /// Selects the database's pods, e.g. "app=atomix,database=sample.default": for autoscalers, through the scale sub-resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,

    /// How many partitions share a cluster: decided once, when the database is first seen with its class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions_per_cluster: Option<i32>,

    /// Labels of the database that its pods carry, as they were when it was first planned: another label restarts nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_labels: Option<std::collections::BTreeMap<String, String>>,

    /// The class object in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<ClassInUse>,

    /// The plugin that planned what runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PluginInUse>,

    /// The plan that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanInUse>,

    /// What the class means to clients of the first gRPC API, which speak of groups. Absent where the plugin does not serve groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupStatus>,

    /// How far a start or a rollout has come; absent when neither is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressStatus>,

    /// All kinds ever written for this database, so that objects of a kind that a later plan leaves out are still removed.
    #[serde(default, deserialize_with = "well_formed", skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<Kind>,

    /// Ready: all partitions are. Progressing: something is on its way, from an edit until the last member runs it. Degraded:
    /// something needs a look. Reconciling: it goes on by itself. Stalled: somebody must act. The last two are absent when they
    /// do not hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// The class object that a database uses. It changes only when the database's reference is edited.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassInUse {
    /// Kind of the class.
    #[schemars(length(max = 253))]
    pub kind: String,
    /// Namespace in which the class was found.
    #[schemars(length(max = 253))]
    pub namespace: String,
    /// Name of the class.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The generation of the class that this status is of.
    #[serde(default)]
    pub generation: i64,
    /// The namespace that the reference named when the class was found (empty: the database's own), to see an edit of it.
    #[serde(default)]
    pub wanted_namespace: String,
    /// Whether it was found in the database's own namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_namespace: Option<bool>,
    /// API version that the class is used in: the one that the reference names, or the first that the plugin serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub version: Option<String>,
}

/// The plugin revision that planned what runs.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginInUse {
    /// Name of the plugin.
    pub name: String,
    /// Version that the plugin gives itself.
    pub version: String,
    /// SHA-256 of the plugin's bytes, in hexadecimal.
    pub digest: String,
}

/// The plan that runs, and what the database and its class were when it was made.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanInUse {
    /// Hash over all objects of the plan.
    pub hash: String,
    /// Generation of the database that it was made from.
    pub generation: i64,
    /// UID of the class that it was made from.
    pub class_uid: String,
    /// Generation of the class that it was made from.
    pub class_generation: i64,
    /// Partitions of the database that it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i32>,
    /// Spec of the class that it was made from, as JSON: what plans are made from while an edit of the class is not taken. Absent
    /// if it is longer than 16 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_spec: Option<String>,
}

/// How far a start or a rollout has come.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgressStatus {
    /// Whether members are replaced by those of a new revision, rather than started for the first time.
    #[serde(default)]
    pub rolling: bool,
    /// How many members there should be.
    pub members: i32,
    /// How many of them run the new revision.
    pub updated: i32,
    /// The most of them that have been ready at a time since it began.
    pub ready: i32,
    /// When one of these numbers grew last. Without progress for ten minutes it counts as failed.
    pub last_progress_time: Time,
}

/// A class as clients of the first gRPC API see it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupStatus {
    /// Members of each partition.
    pub partition_size: i32,
    /// How the members agree.
    pub protocol: GroupProtocol,
}

/// A protobuf message of any type (google.protobuf.Any).
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupProtocol {
    /// Type of the message: type.googleapis.com/ and its full name.
    pub type_url: String,
    /// The message, encoded, in base64; often empty.
    #[schemars(with = "String")] // no format: an API server takes no empty text as one of format byte
    pub value: ByteString,
}

/// Who may write a status may write anything there: what would lead elsewhere as part of a request's path is no kind.
fn well_formed<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Kind>, D::Error> {
    let mut kinds = Vec::<Kind>::deserialize(deserializer)?;
    kinds.retain(|kind| {
        let group = kind.group.is_empty() || names::is_subdomain(&kind.group);
        group && names::is_label(&kind.version) && names::is_label(&kind.plural)
    });
    Ok(kinds)
}

fn one() -> i32 {
    1
}

fn storage_group() -> String {
    super::STORAGE_GROUP.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_kind_in_a_status_that_would_lead_elsewhere_is_none() {
        let kind = |group: &str, version: &str, plural: &str| json!({"group": group, "version": version, "kind": "A", "plural": plural});
        let kinds = json!([
            kind("apps", "v1", "statefulsets"),
            kind("", "v1", "../namespaces/kube-system/secrets"),
            kind("", "v1", "pods?watch=1#"),
            kind("a/b", "v1", "as"),
            kind("apps", "v1/namespaces/x", "deployments"),
            kind("", "v1", "services"),
        ]);
        let status: DatabaseStatus = serde_json::from_value(json!({"kinds": kinds})).expect("it is read all the same");
        let plurals: Vec<_> = status.kinds.iter().map(|kind| kind.plural.as_str()).collect();
        assert_eq!(plurals, ["statefulsets", "services"]);
    }
}
