//! What a running partition cannot change: its volumes, and nothing else.

use atomix_sdk::{Plan, Remembered, Seen, Value, json};

use crate::class::ValkeyClass;

/// What is remembered on StatefulSets, ConfigMap and volume claims, beside the volumes: nothing.
#[derive(Clone, Debug)]
pub struct Started;

/// The partitions of a database, each with its volumes: a partition is a cluster of its own.
pub type Partitions = atomix_sdk::Clusters<Started>;
/// A partition with its volumes.
pub type Running = atomix_sdk::Running<Started>;

impl Remembered for Started {
    const ANNOTATION: &str = "valkey.storage.cloud.atomix.io/running";
    const POINTER: &str = "/metadata/annotations/valkey.storage.cloud.atomix.io~1running";
    const KINDS: &[&str] = &["StatefulSet", "ConfigMap", "PersistentVolumeClaim"];

    fn read(annotation: &Value) -> Option<Self> {
        annotation.get("claim").map(|_| Self)
    }

    fn written(&self) -> Value {
        json!({})
    }
}

/// What is remembered of each partition, and what new ones start with.
pub fn partitions(seen: &Seen<ValkeyClass>) -> Partitions {
    Partitions::of(seen, |_| Started)
}

/// Names in the plan what the class asks for and the partitions cannot take.
pub fn note_what_stays(partitions: &Partitions, seen: &Seen<ValkeyClass>, plan: Plan) -> Plan {
    let in_use: Vec<u32> = seen.partitions.iter().map(|partition| partition.id).collect();
    partitions.claims_kept(seen, &in_use, plan)
}
