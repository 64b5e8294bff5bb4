//! Partition: one share of a database, the same in both versions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// A Partition is one share of a Database. The controller makes it; clients connect to its Service.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "cloud.atomix.io",
    version = "v1beta3",
    kind = "Partition",
    plural = "partitions",
    category = "atomix",
    namespaced,
    status = "PartitionStatus",
    derive = "PartialEq",
    printcolumn(
        name = "Database",
        type_ = "string",
        json_path = ".metadata.labels.database",
        description = "Database that the partition belongs to"
    ),
    printcolumn(
        name = "ID",
        type_ = "integer",
        json_path = ".spec.partitionId",
        description = "Number of the partition, from 1"
    ),
    printcolumn(
        name = "Service",
        type_ = "string",
        json_path = ".spec.serviceName",
        description = "Service that clients of the partition connect to"
    ),
    printcolumn(
        name = "Ready",
        type_ = "boolean",
        json_path = ".status.ready",
        description = "Whether the partition answers"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1,
        description = "What the Ready condition says"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct PartitionSpec {
    /// Number of the partition within its database, from 1.
    #[schemars(range(min = 1))]
    pub partition_id: i32,
    /// Name of the Service, in the partition's namespace, through which clients reach it.
    #[serde(default)]
    pub service_name: String,
}

/// How a partition goes.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PartitionStatus {
    /// The generation of the spec that this status is of; -1 while nobody has written it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Whether enough members are ready for the partition to answer.
    #[serde(default)]
    pub ready: bool,
    /// Where clients connect to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
    /// Ready: enough members are. Degraded: a member is missing, and why. Reconciling, absent when it does not hold: one of these
    /// is not as it should be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The election of a primary among clients that entered it over gRPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub election: Option<Election>,
}

/// The election of a primary among clients.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Election {
    /// Number of the term: one more with every change of the primary, never less.
    #[serde(default)]
    pub term: i64,
    /// Name of the primary; empty while there is no candidate.
    #[serde(default)]
    pub primary: String,
    /// All candidates in order of entry, the primary included.
    #[serde(default)]
    pub candidates: Vec<Candidate>,
}

/// A client that would be primary.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Replica of the controller that holds its stream.
    #[serde(default)]
    pub replica: String,
}

/// An address that clients connect to.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Endpoint {
    /// DNS name or address.
    pub host: String,
    /// TCP port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}
