//! What a running cluster cannot change, as remembered on its own objects. Reads annotations only: live replica counts can drift.

use atomix_sdk::{ClaimTemplate, Plan, Seen, Value, json, kept, text};

use crate::class::EtcdClass;

/// The annotation on StatefulSet, peers' Service and volume claims that remembers what a cluster was started with.
pub const ANNOTATION: &str = "etcd.storage.cloud.atomix.io/running";
/// Where it is read.
pub const POINTER: &str = "/metadata/annotations/etcd.storage.cloud.atomix.io~1running";

/// What a cluster was started with.
#[derive(Clone, Debug)]
pub struct Running {
    /// Members of the cluster.
    pub replicas: u32,
    /// Secret for connections between members, if they are over TLS: each member's data hold the URLs of the others.
    pub peer_secret: Option<String>,
    /// Volume of each member.
    pub claim: Option<ClaimTemplate>,
    /// The annotation's text. It is written back as it was read: a claim template cannot be changed in any letter.
    pub text: String,
}

impl Running {
    /// Reads the annotation; None if it holds nothing that makes sense.
    fn read(text: String) -> Option<Self> {
        let said: Value = serde_json::from_str(&text).ok()?;
        let replicas = said.get("replicas").and_then(Value::as_u64).filter(|replicas| (1..=9).contains(replicas))?;
        Some(Self {
            replicas: replicas as u32,
            peer_secret: said.get("peerSecret").and_then(Value::as_str).map(str::to_owned),
            claim: ClaimTemplate::remembered(said.get("claim")),
            text,
        })
    }

    fn written(mut self) -> Self {
        self.text = text(&json!({
            "replicas": self.replicas,
            "peerSecret": self.peer_secret,
            "claim": self.claim.as_ref().map(ClaimTemplate::json),
        }));
        self
    }
}

/// The clusters that run or did so on volumes that were kept, and what new ones start with.
pub struct Clusters {
    known: Vec<Option<Running>>, // by number, from 1
    fresh: Running,
}

impl Clusters {
    /// Reads what is remembered of each cluster.
    pub fn of(seen: &Seen<EtcdClass>) -> Self {
        let known = seen.remembered(&["StatefulSet", "Service", "PersistentVolumeClaim"], POINTER, Running::read);
        let class = &seen.class;
        let fresh = Running {
            replicas: class.replicas,
            peer_secret: class.peer_tls.as_ref().map(|tls| tls.secret_name.clone()),
            claim: seen.pods.claim(),
            text: String::new(),
        };
        Self { known, fresh: fresh.written() }
    }

    /// What a cluster runs with, or starts with.
    pub fn running(&self, cluster: u32) -> &Running {
        self.known.get(cluster as usize).and_then(Option::as_ref).unwrap_or(&self.fresh)
    }

    /// Names what the class asks for and the clusters in use cannot take.
    pub fn note_what_stays(&self, seen: &Seen<EtcdClass>, mut plan: Plan) -> Plan {
        let in_use = || {
            let name = |partition: u32| format!("{}-{partition}", seen.database.name);
            seen.partitions.iter().map(move |partition| (name(partition.id), self.running(partition.id)))
        };
        let wanted = &self.fresh;
        for (replicas, names) in kept(&wanted.replicas, in_use().map(|(name, running)| (name, running.replicas))) {
            let why =
                format!("the members of a cluster are fixed once it has started (here {names}); create another database");
            plan = plan.not_taken("spec.replicas", wanted.replicas, replicas, why);
        }
        let peers = |running: &Running| if running.peer_secret.is_some() { "TLS" } else { "plain text" };
        for (how, names) in kept(&peers(wanted), in_use().map(|(name, running)| (name, peers(running)))) {
            let why = format!(
                "members find each other by URLs that stand in their data (here those of {names}); create another database"
            );
            plan = plan.not_taken("spec.peerTls", peers(wanted), how, why);
        }
        plan.claims_kept(wanted.claim.as_ref(), in_use().map(|(name, running)| (name, running.claim.as_ref())))
    }
}
