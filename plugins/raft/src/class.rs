//! RaftStorageClass: what a user writes, and what can be wrong with it. Knows no database.

use std::ops::RangeInclusive;

use atomix_sdk::{FieldError, ImagePullPolicy, check_image, check_number, field_error};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::protocol;

/// Partitions are kept by clusters of Raft nodes; each cluster answers while more than half of its nodes do.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RaftClass {
    /// Nodes of each cluster (1 to 9); an odd number. It is fixed once a cluster has started.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 9))]
    pub replicas: u32,

    /// Image of the nodes.
    #[serde(default = "image")]
    pub image: String,

    /// When the image is pulled: Always, IfNotPresent or Never.
    #[serde(default)]
    pub image_pull_policy: ImagePullPolicy,

    /// Partitions that share a cluster, for databases that do not say so themselves. It counts when a database is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 1024))]
    pub partitions_per_cluster: Option<u32>,

    /// Clusters that a database is spread over, where nothing says how many partitions share one. It counts when a database is
    /// created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = 1024))]
    pub clusters: Option<u32>,

    /// How long a node waits for its leader before it asks for an election, e.g. 2s. Without it, the node's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub election_timeout: Option<String>,

    /// How often a leader shows itself, e.g. 0.5s. Without it, the node's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub heartbeat_interval: Option<String>,

    /// How often a node writes a snapshot, e.g. 60s. Without it, the node's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub snapshot_interval: Option<String>,

    /// Entries of the log after which a node writes a snapshot. Without it, the node's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1))] // any whole number, in the schema of a definition
    pub snapshot_threshold: Option<u64>,
}

/// Nodes that a cluster may have.
pub const NODES: RangeInclusive<u64> = 1..=9;
/// Clusters of a database, and partitions of a cluster, that the schema accepts too.
const SHARES: RangeInclusive<u64> = 1..=1024;

/// Names what is wrong with a class beyond what its schema refuses.
pub fn check(class: &RaftClass) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut wrong = |path: &str, message: String| errors.push(field_error(path, message));
    check_number("spec.replicas", (class.replicas.into(), " nodes"), NODES, &mut wrong);
    check_image("spec.image", &class.image, &image(), &mut wrong);
    for (path, count) in [("spec.partitionsPerCluster", class.partitions_per_cluster), ("spec.clusters", class.clusters)] {
        if let Some(count) = count {
            check_number(path, (count.into(), ""), SHARES, &mut wrong);
        }
    }
    protocol::check(class, &mut wrong);
    errors
}

fn one() -> u32 {
    1
}

fn image() -> String {
    "atomix/raft-storage-node:v0.5.3".to_owned()
}

#[cfg(test)]
mod tests {
    use atomix_sdk::{Value, json};

    fn errors(spec: Value) -> Vec<String> {
        let answer = crate::plugin().validate("RaftStorageClass", &spec.to_string());
        answer.err().into_iter().flatten().map(|error| format!("{}: {}", error.path, error.message)).collect()
    }

    #[test]
    fn an_empty_class_and_a_full_one_are_accepted() {
        assert_eq!(errors(json!({})), [""; 0]);
        let claim = json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        let full = json!({
            "replicas": 3, "image": "registry:5000/raft@sha256:0123", "imagePullPolicy": "Always", "partitionsPerCluster": 4,
            "volumeClaimTemplate": claim, "resources": {"requests": {"cpu": "1"}},
            "electionTimeout": "2s", "heartbeatInterval": "0.5s", "snapshotInterval": "60s", "snapshotThreshold": 1
        });
        assert_eq!(errors(full), [""; 0]);
    }

    #[test]
    fn each_wrong_field_is_named_with_what_is_accepted() {
        let errors = errors(json!({
            "replicas": 10, "image": "a b", "partitionsPerCluster": 0, "resources": {"cpu": 1},
            "electionTimeout": "2", "heartbeatInterval": "0s", "snapshotInterval": "1d", "snapshotThreshold": 0,
            "volumeClaimTemplate": {"metadata": {"name": "config"}, "spec": {"accessModes": [], "resources": {"requests": {"storage": "big"}}}}
        }));
        let paths: Vec<&str> = errors.iter().filter_map(|error| error.split(':').next()).collect();
        assert_eq!(
            paths,
            [
                "spec.replicas",
                "spec.image",
                "spec.partitionsPerCluster",
                "spec.electionTimeout",
                "spec.heartbeatInterval",
                "spec.snapshotInterval",
                "spec.snapshotThreshold",
                "spec.resources.cpu",
                "spec.volumeClaimTemplate.metadata.name",
                "spec.volumeClaimTemplate.spec.accessModes",
                "spec.volumeClaimTemplate.spec.resources.requests.storage"
            ]
        );
    }
}
