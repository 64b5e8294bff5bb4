//! Database as the first manifests wrote it: a number of clusters, and a template for the partitions of each. Never stored.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::database::{DatabaseStatus, StorageClassRef};

/// A Database is split into partitions; a storage plugin runs them on the storage that its class describes.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "cloud.atomix.io",
    version = "v1beta2",
    kind = "Database",
    plural = "databases",
    shortname = "db",
    category = "atomix",
    namespaced,
    status = "DatabaseStatus",
    derive = "PartialEq",
    scale(spec_replicas_path = ".spec.clusters", status_replicas_path = ".status.clusters", label_selector_path = ".status.selector"),
    printcolumn(name = "Class", type_ = "string", json_path = ".spec.template.spec.storage.name", description = "Storage class that the database asks for"),
    printcolumn(name = "Partitions", type_ = "string", json_path = ".status.ready", description = "Partitions that are ready, of all partitions wanted"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase", description = "Where the database stands, in a word"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1, description = "What the Ready condition says"),
    validation = crate::crd::rules::name(),
    validation = crate::crd::rules::class_stays("template.spec.storage"),
    validation = crate::crd::rules::per_cluster_stays("template.spec.partitions")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(crate::crd::rules::PRODUCT)
        .message(crate::crd::rules::PRODUCT_MESSAGE)
)]
pub struct DatabaseSpec {
    /// How many clusters of storage nodes the database has (1 to 1024), each with as many partitions as the template says.
    /// Raising it adds clusters; lowering it removes the last ones and keeps their volumes.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1024))]
    pub clusters: i32,

    /// What each cluster holds.
    pub template: ClusterTemplate,
}

/// What each cluster holds.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct ClusterTemplate {
    /// Kept as it is, and not used: labels of pods come from the database's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub metadata: Option<BTreeMap<String, Value>>,

    /// The partitions of a cluster and their storage.
    pub spec: ClusterTemplateSpec,
}

/// The partitions of a cluster and their storage.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct ClusterTemplateSpec {
    /// How many partitions share one cluster (1 to 1024). It cannot be changed: partitions do not move between clusters.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1024))]
    pub partitions: i32,

    /// The class of storage that the partitions are kept on.
    pub storage: StorageClassRef,
}

fn anything(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

fn one() -> i32 {
    1
}
