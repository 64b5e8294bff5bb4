//! What a running cluster cannot change: its members, and which partitions it keeps.

use atomix_sdk::{Plan, Remembered, Seen, Value, json};

use crate::class::{NODES, RaftClass};

/// What is remembered on StatefulSet, ConfigMap and volume claims.
#[derive(Clone, Debug, PartialEq)]
pub struct Started {
    /// Members of the cluster.
    pub replicas: u32,
    /// Partitions that share a cluster, for all clusters of the database.
    pub partitions_per_cluster: u32,
    /// The class's layout when the database was first planned: partitions per cluster, clusters.
    layout: (Option<u32>, Option<u32>),
}

/// The clusters of a database, each with what it was started with.
pub type Clusters = atomix_sdk::Clusters<Started>;
/// A cluster with what it was started with.
pub type Running = atomix_sdk::Running<Started>;

impl Remembered for Started {
    const ANNOTATION: &str = "raft.storage.cloud.atomix.io/running";
    const POINTER: &str = "/metadata/annotations/raft.storage.cloud.atomix.io~1running";
    const KINDS: &[&str] = &["StatefulSet", "ConfigMap", "PersistentVolumeClaim"];

    fn read(annotation: &Value) -> Option<Self> {
        let number =
            |field: &str| annotation.get(field).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok());
        Some(Self {
            replicas: number("replicas").filter(|&replicas| NODES.contains(&replicas.into()))?,
            partitions_per_cluster: number("partitionsPerCluster").filter(|&count| count > 0)?,
            layout: (number("classPartitionsPerCluster"), number("classClusters")),
        })
    }

    fn written(&self) -> Value {
        json!({
            "replicas": self.replicas,
            "partitionsPerCluster": self.partitions_per_cluster,
            "classPartitionsPerCluster": self.layout.0,
            "classClusters": self.layout.1,
        })
    }
}

/// What is remembered of each cluster, and what new ones start with: one layout for the whole database.
pub fn clusters(seen: &Seen<RaftClass>) -> Clusters {
    let class = &seen.class;
    Clusters::of(seen, |first| Started {
        replicas: class.replicas,
        partitions_per_cluster: first.map_or(seen.database.partitions_per_cluster, |first| first.partitions_per_cluster),
        layout: first.map_or((class.partitions_per_cluster, class.clusters), |first| first.layout),
    })
}

/// The cluster in which a partition lives for ever.
pub fn home(clusters: &Clusters, partition: u32) -> u32 {
    partition.div_ceil(clusters.fresh().partitions_per_cluster.max(1))
}

/// Names in the plan what the class and the database ask for and the clusters in use cannot take.
pub fn note_what_stays(clusters: &Clusters, seen: &Seen<RaftClass>, in_use: &[u32], mut plan: Plan) -> Plan {
    plan = clusters.replicas_kept(seen, in_use, |started| started.replicas, plan);
    plan = clusters.claims_kept(seen, in_use, plan);
    note_layout(clusters.fresh(), seen, plan)
}

fn note_layout(fresh: &Started, seen: &Seen<RaftClass>, mut plan: Plan) -> Plan {
    let (class, database, kept) = (&seen.class, &seen.database, fresh.partitions_per_cluster);
    let why = "a partition never moves to another cluster, since its data would stay behind; create another database";
    let moved = |now: Option<u32>, then: Option<u32>| now.filter(|_| now != then);
    let by_clusters = |clusters: u32| database.partitions.div_ceil(clusters.max(1));
    if database.partitions_per_cluster != kept {
        return plan.not_taken("database.spec.partitionsPerCluster", database.partitions_per_cluster, kept, why);
    }
    if let Some(wanted) = moved(class.partitions_per_cluster, fresh.layout.0).filter(|&n| n != kept) {
        plan = plan.not_taken("spec.partitionsPerCluster", wanted, kept, why);
    }
    if let Some(wanted) = moved(class.clusters, fresh.layout.1).filter(|&n| by_clusters(n) != kept) {
        plan = plan.not_taken("spec.clusters", wanted, database.partitions.div_ceil(kept.max(1)), why);
    }
    plan
}
