//! What a running cluster cannot change: its members, and how they reach each other.

use atomix_sdk::{Plan, Remembered, Seen, Value, json};

use crate::class::EtcdClass;

/// What is remembered on StatefulSet, peers' Service and volume claims.
#[derive(Clone, Debug)]
pub struct Started {
    /// Members of the cluster.
    pub replicas: u32,
    /// Secret for connections between members, if they are over TLS: each member's data hold the URLs of the others.
    pub peer_secret: Option<String>,
}

/// The clusters of a database, each with what it was started with.
pub type Clusters = atomix_sdk::Clusters<Started>;
/// A cluster with what it was started with.
pub type Running = atomix_sdk::Running<Started>;

impl Remembered for Started {
    const ANNOTATION: &str = "etcd.storage.cloud.atomix.io/running";
    const POINTER: &str = "/metadata/annotations/etcd.storage.cloud.atomix.io~1running";
    const KINDS: &[&str] = &["StatefulSet", "Service", "PersistentVolumeClaim"];

    fn read(annotation: &Value) -> Option<Self> {
        let replicas = annotation.get("replicas").and_then(Value::as_u64).filter(|replicas| (1..=9).contains(replicas))?;
        let peer_secret = annotation.get("peerSecret").and_then(Value::as_str).map(str::to_owned);
        Some(Self { replicas: replicas as u32, peer_secret })
    }

    fn written(&self) -> Value {
        json!({"replicas": self.replicas, "peerSecret": self.peer_secret})
    }
}

/// What is remembered of each cluster, and what new ones start with.
pub fn clusters(seen: &Seen<EtcdClass>) -> Clusters {
    Clusters::of(seen, |_| Started {
        replicas: seen.class.replicas,
        peer_secret: seen.class.peer_tls.as_ref().map(|tls| tls.secret_name.clone()),
    })
}

/// Names in the plan what the class asks for and the clusters in use cannot take.
pub fn note_what_stays(clusters: &Clusters, seen: &Seen<EtcdClass>, mut plan: Plan) -> Plan {
    let in_use: Vec<u32> = seen.partitions.iter().map(|partition| partition.id).collect();
    plan = clusters.replicas_kept(seen, &in_use, |started| started.replicas, plan);
    let peers = |started: &Started| if started.peer_secret.is_some() { "TLS" } else { "plain text" };
    for (how, names) in clusters.kept(seen, &in_use, peers) {
        let why = format!(
            "members find each other by URLs that stand in their data (here those of {names}); create another database"
        );
        plan = plan.not_taken("spec.peerTls", peers(clusters.fresh()), how, why);
    }
    clusters.claims_kept(seen, &in_use, plan)
}
