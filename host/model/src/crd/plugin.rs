//! StoragePlugin: what became of each plugin, for `kubectl get storageplugins`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// A StoragePlugin tells what became of a plugin that a ConfigMap brought. The controller writes it. Its annotation
/// `storage.cloud.atomix.io/revision` says which revision serves; editing anything else of it changes nothing.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "storage.cloud.atomix.io",
    version = "v1beta1",
    kind = "StoragePlugin",
    plural = "storageplugins",
    shortname = "sp",
    category = "atomix",
    namespaced,
    status = "StoragePluginStatus",
    derive = "PartialEq",
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version", description = "Version that serves"),
    printcolumn(
        name = "Digest",
        type_ = "string",
        json_path = ".status.shortDigest",
        description = "Start of the SHA-256 of the bytes that serve"
    ),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "Serving; Loading or Refused (an older revision may serve on); Removed; Pinned or RevisionNotKept (by annotation)"
    ),
    printcolumn(
        name = "Classes",
        type_ = "integer",
        json_path = ".status.classes",
        description = "Class objects of the plugin's kinds"
    ),
    printcolumn(
        name = "Databases",
        type_ = "integer",
        json_path = ".status.databases",
        description = "Databases that use the plugin"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Kinds",
        type_ = "string",
        json_path = ".status.kinds",
        priority = 1,
        description = "Class kinds that the plugin serves"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.message",
        priority = 1,
        description = "What is wrong"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct StoragePluginSpec {}

/// What became of the plugin.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StoragePluginStatus {
    /// The generation of the object that this status is of; -1 while nobody has written it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Serving: the newest bytes serve. Loading: they are being loaded; the revision named here serves meanwhile. Refused: the newest bytes were refused; the revision named here serves on, if there is
    /// one. Removed: the ConfigMap is gone; the revision named here serves on until the StoragePlugin is deleted. Pinned: the revision that the
    /// annotation `storage.cloud.atomix.io/revision` names serves, and the newest bytes do not. RevisionNotKept: there is no such revision; what
    /// served serves on.
    #[serde(default)]
    pub phase: String,
    /// Version of the revision that serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// SHA-256 of the bytes that serve, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The first twelve characters of the digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_digest: Option<String>,
    /// SHA-256 of the newest bytes, if these were refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_digest: Option<String>,
    /// What is wrong, if something is, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Version of the contract that the plugin was built against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract: Option<String>,
    /// ConfigMap that the plugin came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<String>,
    /// Kinds of storage class that the plugin serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<String>,
    /// How many class objects of these kinds there are.
    #[serde(default)]
    pub classes: i32,
    /// How many databases use the plugin.
    #[serde(default)]
    pub databases: i32,
    /// Revisions that are kept, or that databases run: the one that serves first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["digest".into()]))]
    pub revisions: Vec<RevisionStatus>,
    /// When the revision that serves took over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Ready: a revision serves. Degraded: the newest bytes were refused, or are gone. Reconciling: they are being loaded. Stalled: they were
    /// refused or are gone, and somebody must act. The last two are absent when they do not hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// A revision of the plugin.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionStatus {
    /// SHA-256 of its bytes, in hexadecimal.
    pub digest: String,
    /// Version that it gives itself.
    pub version: String,
    /// How many databases run what it planned.
    #[serde(default)]
    pub databases: i32,
    /// How many databases name it by their annotation `storage.cloud.atomix.io/revision`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pinned: i32,
    /// When it took over, the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// ConfigMap that keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<String>,
}

fn is_zero(count: &i32) -> bool {
    *count == 0
}
