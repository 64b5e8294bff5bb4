//! What a running cluster cannot change, as remembered on its own objects. Reads annotations only: live replica counts can drift.

use atomix_sdk::{Plan, Seen, Value, json, text};

use crate::class::{ClaimTemplate, RaftClass};

/// The annotation on StatefulSet, ConfigMap and volume claims that remembers what a cluster was started with.
pub const ANNOTATION: &str = "raft.storage.cloud.atomix.io/running";
/// Where it is read.
pub const POINTER: &str = "/metadata/annotations/raft.storage.cloud.atomix.io~1running";
/// Label of every object of a cluster.
pub const CLUSTER_LABEL: &str = "/metadata/labels/cluster";

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
            claim: said.get("claim").cloned().filter(|claim| !claim.is_null()).map(ClaimTemplate),
            text,
        })
    }

    fn written(mut self) -> Self {
        let said = json!({
            "replicas": self.replicas,
            "partitionsPerCluster": self.partitions_per_cluster,
            "classPartitionsPerCluster": self.asked.0,
            "classClusters": self.asked.1,
            "claim": self.claim.as_ref().map(|claim| &claim.0),
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
        let mut known: Vec<Option<Running>> = Vec::new();
        for live in ["StatefulSet", "ConfigMap", "PersistentVolumeClaim"].iter().flat_map(|kind| seen.objects(kind)) {
            let cluster = live.text(CLUSTER_LABEL).and_then(|label| label.parse::<usize>().ok());
            let Some(cluster) = cluster.filter(|cluster| (1..=CLUSTERS_MAX).contains(cluster)) else {
                continue;
            };
            if known.len() <= cluster {
                known.resize(cluster + 1, None);
            }
            if known[cluster].is_none() {
                known[cluster] = live.text(POINTER).and_then(Running::read);
            }
        }
        let class = &seen.class;
        let layout = known.iter().flatten().next(); // one layout for the whole database
        let fresh = Running {
            replicas: class.replicas,
            partitions_per_cluster: layout
                .map_or(seen.database.partitions_per_cluster, |first| first.partitions_per_cluster),
            asked: layout.map_or_else(|| asked(class), |first| first.asked),
            claim: class.volume_claim_template.clone(),
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
        let class = &seen.class;
        let wanted = class.volume_claim_template.as_ref();
        // The clusters by what they keep: nearly always one group, or none.
        let (mut members, mut volumes) = (Vec::<(&Running, Vec<u32>)>::new(), Vec::<(&Running, Vec<u32>)>::new());
        for &cluster in in_use {
            let running = self.running(cluster);
            if running.replicas != class.replicas {
                match members.iter_mut().find(|(kept, _)| kept.replicas == running.replicas) {
                    Some((_, clusters)) => clusters.push(cluster),
                    None => members.push((running, vec![cluster])),
                }
            }
            if running.claim.as_ref() != wanted {
                match volumes.iter_mut().find(|(kept, _)| kept.claim == running.claim) {
                    Some((_, clusters)) => clusters.push(cluster),
                    None => volumes.push((running, vec![cluster])),
                }
            }
        }
        for (kept, clusters) in members {
            let why = format!(
                "the members of a cluster are fixed once it has started (here {}); create another database",
                named(seen, &clusters)
            );
            plan = plan.not_taken("spec.replicas", class.replicas, kept.replicas, why);
        }
        for (kept, clusters) in volumes.into_iter().take(KEPT_VOLUMES_NAMED_MAX) {
            let why = format!(
                "volumes keep what they were made with (here those of {}); create another database",
                named(seen, &clusters)
            );
            let kept = kept.claim.as_ref();
            plan = match (wanted.and_then(ClaimTemplate::size), kept.and_then(ClaimTemplate::size)) {
                (Some(size), Some(old)) if size != old => {
                    plan.not_taken("spec.volumeClaimTemplate.spec.resources.requests.storage", size, old, why)
                }
                _ => plan.not_taken("spec.volumeClaimTemplate", about(wanted), about(kept), why),
            };
        }
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

/// Most clusters of a database, as the contract says.
const CLUSTERS_MAX: usize = 1024;
const KEPT_VOLUMES_NAMED_MAX: usize = 8;

fn asked(class: &RaftClass) -> (Option<u32>, Option<u32>) {
    (class.partitions_per_cluster, class.clusters)
}

fn about(claim: Option<&ClaimTemplate>) -> String {
    match claim {
        None => "no volume".to_owned(),
        Some(ClaimTemplate(claim)) => text(claim),
    }
}

/// Names of clusters for a sentence: three at most.
fn named(seen: &Seen<RaftClass>, clusters: &[u32]) -> String {
    let name = |cluster: &u32| format!("{}-{cluster}", seen.database.name);
    match clusters {
        [first, second, third, _, ..] => {
            format!("{}, {}, {} and {} more", name(first), name(second), name(third), clusters.len() - 3)
        }
        few => few.iter().map(name).collect::<Vec<_>>().join(", "),
    }
}
