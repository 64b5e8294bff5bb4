//! The etcd plugin: each partition of a database is an etcd cluster of its own, a StatefulSet of its members.
//!
//! An etcd cluster is one log with one leader, so partitions that shared one would share its limits, and would have to be kept apart
//! by prefixes that clients agree on. So `partitionsPerCluster` of a database decides nothing here: partition 7 is cluster 7. Members
//! and volumes of a cluster are fixed once it has started; what runs is remembered on its objects and volumes.

mod class;
mod objects;
mod running;
#[cfg(test)]
mod tests;

use atomix_sdk::{CLAIM_FIELD, CLUSTER_LABEL, Class, Kind, POD_FIELDS, PartitionState, Plan, Plugin, Refusal, Seen, reason};

pub use class::EtcdClass;
use objects::{CLIENT_PORT, Cluster};
use running::{Clusters, POINTER};

atomix_sdk::export!(plugin);

/// What the plugin is.
pub fn plugin() -> Plugin {
    Plugin::new("etcd", env!("CARGO_PKG_VERSION"))
        .class(
            Class::new("EtcdStorageClass", plan)
                .check(class::check)
                .pods(&objects::ENV)
                .volumes(&objects::VOLUMES)
                .column("Replicas", "integer", ".spec.replicas")
                .column("Image", "string", ".spec.image"),
        )
        .emits(Kind::new("v1", "Service").reads(&[CLUSTER_LABEL, POINTER]))
        .emits(Kind::new("apps/v1", "StatefulSet").reads(&[CLUSTER_LABEL, POINTER]))
        .emits(Kind::new("policy/v1", "PodDisruptionBudget"))
        .watches(Kind::new("v1", "Pod").reads(&POD_FIELDS))
        .watches(Kind::new("v1", "PersistentVolumeClaim").reads(&[CLUSTER_LABEL, POINTER, CLAIM_FIELD]))
}

/// Says which objects the clusters need, and how each goes.
fn plan(seen: &Seen<EtcdClass>) -> Result<Plan, Refusal> {
    let clusters = Clusters::of(seen);
    let mut plan = Plan::new();
    for partition in &seen.partitions {
        let (id, service) = (partition.id, &partition.service_name);
        let running = clusters.running(id);
        let cluster = Cluster::of(seen, id, running);
        let health = cluster.members.health(running.replicas, &seen.class.image);
        plan = plan
            .object(format!("peers-{id}"), cluster.peers()) // must resolve before members start
            .object(format!("members-{id}"), cluster.set())
            .object(format!("budget-{id}"), cluster.members.quorum_budget(running.replicas))
            .object(format!("partition-{id}"), cluster.members.service(service, "client", CLIENT_PORT))
            .partition(PartitionState {
                id,
                ready: health.quorum(),
                endpoints: vec![seen.endpoint(service, CLIENT_PORT)],
                problem: health.problem,
            });
    }
    if seen.partitions.iter().any(|partition| clusters.running(partition.id).claim.is_none()) {
        plan = plan.warn(reason(
            "DataInPods",
            "without a volumeClaimTemplate a member's data go with its pod, and a cluster of several does not take it back without \
             them; changes of the class reach a member only when its pod is deleted by hand",
        ));
    }
    Ok(clusters.note_what_stays(seen, plan))
}
