//! RaftStorageClass: what a user writes, and what can be wrong with it. Knows no database.

use atomix_sdk::{FieldError, Value, field_error, preserve_unknown_fields, text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

    /// The volume that each node keeps its data on. Without it, data live and die with the node's pod. It is fixed once a cluster has
    /// started; volumes are never deleted with the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ClaimFields")]
    pub volume_claim_template: Option<ClaimTemplate>,

    /// Requests and limits of each node, as in a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Value", transform = preserve_unknown_fields)]
    pub resources: Option<Value>,

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

/// What is accepted as a duration.
pub const DURATION: &str = "a duration like 2s or 1.5s";

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[allow(missing_docs)] // Kubernetes' own words
#[schemars(inline)]
pub enum ImagePullPolicy {
    Always,
    #[default]
    IfNotPresent,
    Never,
}

/// A PersistentVolumeClaim to be made for each node.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct ClaimTemplate(pub Value);

/// What is documented of a [`ClaimTemplate`]; further fields are kept.
#[derive(JsonSchema)]
#[allow(dead_code)]
#[schemars(transform = preserve_unknown_fields)]
struct ClaimFields {
    /// Name of the volume (default data), and labels and annotations of the claims.
    #[serde(default)]
    #[schemars(with = "Value", transform = preserve_unknown_fields)]
    metadata: Option<Value>,

    /// Spec of a PersistentVolumeClaim: accessModes, resources.requests.storage, storageClassName …
    #[schemars(transform = preserve_unknown_fields)]
    spec: Value,
}

impl ClaimTemplate {
    /// Name of the volume, and start of the claims' names.
    pub fn name(&self) -> &str {
        self.0["metadata"]["name"].as_str().unwrap_or("data")
    }

    /// Size asked for, e.g. `1Gi`.
    pub fn size(&self) -> Option<&str> {
        self.storage().as_str()
    }

    fn storage(&self) -> &Value {
        &self.0["spec"]["resources"]["requests"]["storage"]
    }
}

/// What the schema cannot say.
pub fn check(class: &RaftClass) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut wrong = |path: &str, message: String| errors.push(field_error(path, message));
    if !(1..=9).contains(&class.replicas) {
        wrong("spec.replicas", format!("{} nodes; 1 to 9 are accepted", class.replicas));
    }
    if class.image.is_empty() || class.image.chars().any(|c| c.is_whitespace() || c.is_control()) {
        wrong("spec.image", format!("{:?} is no image; one like {} is expected", class.image, image()));
    }
    for (path, count) in [("spec.partitionsPerCluster", class.partitions_per_cluster), ("spec.clusters", class.clusters)] {
        if let Some(count) = count.filter(|count| !(1..=1024).contains(count)) {
            wrong(path, format!("{count}; 1 to 1024 are accepted"));
        }
    }
    if let Some(claim) = &class.volume_claim_template {
        check_claim(claim, &mut wrong);
    }
    if let Some(resources) = &class.resources {
        let known = ["requests", "limits", "claims"];
        match resources.as_object() {
            None => wrong("spec.resources", "an object with requests and limits is expected".to_owned()),
            Some(fields) => {
                for field in fields.keys().filter(|field| !known.contains(&field.as_str())) {
                    wrong(&format!("spec.resources.{field}"), "unknown; requests and limits are accepted".to_owned());
                }
            }
        }
    }
    protocol::check(class, &mut wrong);
    errors
}

fn check_claim(claim: &ClaimTemplate, wrong: &mut impl FnMut(&str, String)) {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let name = claim.name();
    if name.is_empty()
        || name.len() > 63
        || !name.chars().all(inner)
        || name.starts_with('-')
        || name.ends_with('-')
        || name == "config"
    {
        let accepted = "at most 63 lower case letters, digits and dashes are accepted, and not config, which is taken";
        wrong("spec.volumeClaimTemplate.metadata.name", format!("{name:?}; {accepted}"));
    }
    let spec = "spec.volumeClaimTemplate.spec";
    if claim.0["spec"]["accessModes"].as_array().is_none_or(|modes| modes.is_empty()) {
        wrong(&format!("{spec}.accessModes"), "missing; [ReadWriteOnce] is what a node needs".to_owned());
    }
    let size = match claim.storage() {
        Value::String(size) if size.starts_with(|c: char| c.is_ascii_digit()) => return,
        Value::Number(_) => return,
        Value::Null => "missing".to_owned(),
        size => text(size),
    };
    wrong(&format!("{spec}.resources.requests.storage"), format!("{size}; a size like 1Gi is expected"));
}

fn one() -> u32 {
    1
}

fn image() -> String {
    "atomix/raft-storage-node:v0.5.3".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use atomix_sdk::json;

    fn errors(spec: Value) -> Vec<String> {
        let class = serde_json::from_value(spec).expect("the spec fits its type");
        check(&class).into_iter().map(|error| format!("{}: {}", error.path, error.message)).collect()
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
        let said = errors(json!({
            "replicas": 10, "image": "a b", "partitionsPerCluster": 0, "resources": {"cpu": 1},
            "electionTimeout": "2", "heartbeatInterval": "0s", "snapshotInterval": "1ms", "snapshotThreshold": 0,
            "volumeClaimTemplate": {"metadata": {"name": "config"}, "spec": {"accessModes": [], "resources": {"requests": {"storage": "big"}}}}
        }));
        let paths: Vec<&str> = said.iter().filter_map(|error| error.split(':').next()).collect();
        assert_eq!(
            paths,
            [
                "spec.replicas",
                "spec.image",
                "spec.partitionsPerCluster",
                "spec.volumeClaimTemplate.metadata.name",
                "spec.volumeClaimTemplate.spec.accessModes",
                "spec.volumeClaimTemplate.spec.resources.requests.storage",
                "spec.resources.cpu",
                "spec.electionTimeout",
                "spec.heartbeatInterval",
                "spec.snapshotInterval",
                "spec.snapshotThreshold"
            ]
        );
    }
}
