//! What running clusters cannot change, as remembered on their own objects: which partitions each keeps, and its volumes.

use atomix_sdk::{ClaimTemplate, Plan, Seen, Value, json, text};

use crate::class::RedisClass;

/// The annotation on StatefulSet, servers' Service and volume claims that remembers what a cluster was started with.
pub const ANNOTATION: &str = "redis.storage.cloud.atomix.io/running";
/// Where it is read.
pub const POINTER: &str = "/metadata/annotations/redis.storage.cloud.atomix.io~1running";

/// What a cluster was started with.
#[derive(Clone, Debug)]
pub struct Running {
    /// Partitions that share a cluster, for all clusters of the database.
    partitions_per_cluster: u32,
    /// Volume of each server.
    pub claim: Option<ClaimTemplate>,
    /// The annotation's text. It is written back as it was read: a claim template cannot be changed in any letter.
    pub text: String,
}

impl Running {
    /// Reads the annotation; None if it holds nothing that makes sense.
    fn read(text: String) -> Option<Self> {
        let said: Value = serde_json::from_str(&text).ok()?;
        let count = said.get("partitionsPerCluster").and_then(Value::as_u64).and_then(|count| u32::try_from(count).ok());
        let partitions_per_cluster = count.filter(|&count| count > 0)?;
        Some(Self { partitions_per_cluster, claim: ClaimTemplate::remembered(said.get("claim")), text })
    }
}

/// The clusters that run or did so on volumes that were kept, and what new ones start with.
pub struct Clusters {
    known: Vec<Option<Running>>, // by number, from 1
    fresh: Running,
}

impl Clusters {
    /// Reads what is remembered of each cluster.
    pub fn of(seen: &Seen<RedisClass>) -> Self {
        let known = seen.remembered(&["StatefulSet", "Service", "PersistentVolumeClaim"], POINTER, Running::read);
        let layout = known.iter().flatten().next(); // one layout for the whole database
        let partitions_per_cluster =
            layout.map_or(seen.database.partitions_per_cluster, |first| first.partitions_per_cluster);
        let claim = seen.pods.claim();
        let text = text(&json!({
            "partitionsPerCluster": partitions_per_cluster,
            "claim": claim.as_ref().map(ClaimTemplate::json),
        }));
        Self { known, fresh: Running { partitions_per_cluster, claim, text } }
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
    pub fn note_what_stays(&self, seen: &Seen<RedisClass>, mut plan: Plan) -> Plan {
        let last = seen.partitions.last().map_or(0, |partition| self.home(partition.id));
        let claims =
            (1..=last).map(|cluster| (format!("{}-{cluster}", seen.database.name), self.running(cluster).claim.as_ref()));
        plan = plan.claims_kept(self.fresh.claim.as_ref(), claims);
        let (wanted, kept) = (seen.database.partitions_per_cluster, self.fresh.partitions_per_cluster);
        if wanted != kept {
            let why =
                "a partition never moves to another cluster, since its data would stay behind; create another database";
            plan = plan.not_taken("database.spec.partitionsPerCluster", wanted, kept, why);
        }
        plan
    }
}
