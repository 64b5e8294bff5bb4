//! What a running cluster cannot change, as remembered on its own objects. Reads annotations only: live replica counts can drift.

use atomix_sdk::{ClaimTemplate, Plan, Seen, Value, json, kept, text};

use crate::class::RaftClass;

/// The annotation on StatefulSet, ConfigMap and volume claims that remembers what a cluster was started with.
pub const ANNOTATION: &str = "raft.storage.cloud.atomix.io/running";
/// Where it is read.
pub const POINTER: &str = "/metadata/annotations/raft.storage.cloud.atomix.io~1running";

/// What a cluster was started with.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    /// Members of the cluster.
    pub replicas: u32,
    /// Partitions that share a cluster, for all clusters of the database.
    pub partitions_per_cluster: u32,
    /// What the class said of the layout when the database was first planned: partitions per cluster, clusters.
    asked: (Option<u32>, Option<u32>),
    /// Volume of each member.
    pub claim: Option<ClaimTemplate>,
    /// The annotation's text. It is written back as it was read: a claim template cannot be changed in any letter.
    pub text: String,
}

impl Running {
    /// Reads the annotation; None if it holds nothing that makes sense.
    fn read(text: String) -> Option<Self> {
        let said: Value = serde_json::from_str(&text).ok()?;
        let number = |field: &str| said.get(field).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok());
        Some(Self {
            replicas: number("replicas").filter(|replicas| (1..=9).contains(replicas))?,
            partitions_per_cluster: number("partitionsPerCluster").filter(|&count| count > 0)?,
            asked: (number("classPartitionsPerCluster"), number("classClusters")),
            claim: ClaimTemplate::remembered(said.get("claim")),
            text,
        })
    }

    fn written(mut self) -> Self {
        let said = json!({
            "replicas": self.replicas,
            "partitionsPerCluster": self.partitions_per_cluster,
            "classPartitionsPerCluster": self.asked.0,
            "classClusters": self.asked.1,
            "claim": self.claim.as_ref().map(ClaimTemplate::json),
        });
        self.text = text(&said);
        self
    }
}

/// The clusters that run or did so on volumes that were kept, and what new ones start with.
pub struct Clusters {
    known: Vec<Option<Running>>, // by number, from 1
    fresh: Running,
}

impl Clusters {
    /// Reads what is remembered of each cluster: on the StatefulSet, else the ConfigMap, else a volume claim.
    pub fn of(seen: &Seen<RaftClass>) -> Self {
        let known = seen.remembered(&["StatefulSet", "ConfigMap", "PersistentVolumeClaim"], POINTER, Running::read);
        let class = &seen.class;
        let layout = known.iter().flatten().next(); // one layout for the whole database
        let fresh = Running {
            replicas: class.replicas,
            partitions_per_cluster: layout
                .map_or(seen.database.partitions_per_cluster, |first| first.partitions_per_cluster),
            asked: layout.map_or_else(|| asked(class), |first| first.asked),
            claim: seen.pods.claim(),
            text: String::new(),
        };
        Self { known, fresh: fresh.written() }
    }

    /// What a cluster runs with, or starts with.
    pub fn running(&self, cluster: u32) -> &Running {
        self.known.get(cluster as usize).and_then(Option::as_ref).unwrap_or(&self.fresh)
    }

    /// The cluster in which a partition lives for ever.
    pub fn home(&self, partition: u32) -> u32 {
        partition.div_ceil(self.fresh.partitions_per_cluster.max(1))
    }

    /// Names what the class and the database ask for and the clusters in use cannot take.
    pub fn note_what_stays(&self, seen: &Seen<RaftClass>, in_use: &[u32], mut plan: Plan) -> Plan {
        let in_use = || {
            let name = |cluster: u32| format!("{}-{cluster}", seen.database.name);
            in_use.iter().map(move |&cluster| (name(cluster), self.running(cluster)))
        };
        let wanted = &self.fresh;
        for (replicas, names) in kept(&wanted.replicas, in_use().map(|(name, running)| (name, running.replicas))) {
            let why =
                format!("the members of a cluster are fixed once it has started (here {names}); create another database");
            plan = plan.not_taken("spec.replicas", wanted.replicas, replicas, why);
        }
        plan = plan.claims_kept(wanted.claim.as_ref(), in_use().map(|(name, running)| (name, running.claim.as_ref())));
        self.note_layout(seen, plan)
    }

    fn note_layout(&self, seen: &Seen<RaftClass>, mut plan: Plan) -> Plan {
        let (class, database, kept) = (&seen.class, &seen.database, self.fresh.partitions_per_cluster);
        let why = "a partition never moves to another cluster, since its data would stay behind; create another database";
        let moved = |now: Option<u32>, then: Option<u32>| now.filter(|_| now != then);
        let by_clusters = |clusters: u32| database.partitions.div_ceil(clusters.max(1));
        if database.partitions_per_cluster != kept {
            return plan.not_taken("database.spec.partitionsPerCluster", database.partitions_per_cluster, kept, why);
        }
        if let Some(wanted) = moved(class.partitions_per_cluster, self.fresh.asked.0).filter(|&n| n != kept) {
            plan = plan.not_taken("spec.partitionsPerCluster", wanted, kept, why);
        }
        if let Some(wanted) = moved(class.clusters, self.fresh.asked.1).filter(|&n| by_clusters(n) != kept) {
            plan = plan.not_taken("spec.clusters", wanted, database.partitions.div_ceil(kept.max(1)), why);
        }
        plan
    }
}

fn asked(class: &RaftClass) -> (Option<u32>, Option<u32>) {
    (class.partitions_per_cluster, class.clusters)
}
