//! What running clusters cannot change: which partitions each keeps.

use atomix_sdk::{Plan, Remembered, Seen, Value, json};

use crate::class::RedisClass;

/// What is remembered on StatefulSet, servers' Service and volume claims.
#[derive(Clone, Debug)]
pub struct Started {
    /// Partitions that share a cluster, for all clusters of the database.
    partitions_per_cluster: u32,
}

/// The clusters of a database, each with what it was started with.
pub type Clusters = atomix_sdk::Clusters<Started>;
/// A cluster with what it was started with.
pub type Running = atomix_sdk::Running<Started>;

impl Remembered for Started {
    const ANNOTATION: &str = "redis.storage.cloud.atomix.io/running";
    const POINTER: &str = "/metadata/annotations/redis.storage.cloud.atomix.io~1running";
    const KINDS: &[&str] = &["StatefulSet", "Service", "PersistentVolumeClaim"];

    fn read(annotation: &Value) -> Option<Self> {
        let count =
            annotation.get("partitionsPerCluster").and_then(Value::as_u64).and_then(|count| u32::try_from(count).ok());
        Some(Self { partitions_per_cluster: count.filter(|&count| count > 0)? })
    }

    fn written(&self) -> Value {
        json!({"partitionsPerCluster": self.partitions_per_cluster})
    }
}

/// What is remembered of each cluster, and what new ones start with: one layout for the whole database.
pub fn clusters(seen: &Seen<RedisClass>) -> Clusters {
    let asked = seen.database.partitions_per_cluster;
    Clusters::of(seen, |first| Started { partitions_per_cluster: first.map_or(asked, |first| first.partitions_per_cluster) })
}

/// The cluster in which a partition lives for ever.
pub fn home(clusters: &Clusters, partition: u32) -> u32 {
    partition.div_ceil(clusters.fresh().partitions_per_cluster.max(1))
}

/// Names in the plan what the class and the database ask for and the clusters in use cannot take.
pub fn note_what_stays(clusters: &Clusters, seen: &Seen<RedisClass>, mut plan: Plan) -> Plan {
    let last = seen.partitions.last().map_or(0, |partition| home(clusters, partition.id));
    let in_use: Vec<u32> = (1..=last).collect();
    plan = clusters.claims_kept(seen, &in_use, plan);
    let (wanted, kept) = (seen.database.partitions_per_cluster, clusters.fresh().partitions_per_cluster);
    if wanted != kept {
        let why = "a partition never moves to another cluster, since its data would stay behind; create another database";
        plan = plan.not_taken("database.spec.partitionsPerCluster", wanted, kept, why);
    }
    plan
}
