//! The etcd plugin: each partition of a database is an etcd cluster of its own, a StatefulSet of its members.
//!
//! An etcd cluster is one log with one leader, so partitions that shared one would share its limits, and would have to be kept apart
//! by prefixes that clients agree on. So `partitionsPerCluster` of a database decides nothing here: partition 7 is cluster 7. Members
//! and volumes of a cluster are fixed once it has started; what runs is remembered on its objects and volumes.

mod class;
mod formed;
mod objects;
mod running;
#[cfg(test)]
mod tests;

use atomix_sdk::{
    CLAIM_FIELDS, CLAIM_MARK, CLUSTER_LABEL, Class, Kind, POD_FIELDS, PartitionState, Plan, Plugin, Refusal, Remembered,
    Seen, code, reason,
};

pub use class::EtcdClass;
use formed::{Formed, IMAGE, STATE_POINTER, UID};
use objects::{CLIENT_PORT, Cluster};
use running::Started;

atomix_sdk::export!(plugin);

/// The plugin: its class and the kinds of objects that it plans and reads.
pub fn plugin() -> Plugin {
    Plugin::new("etcd", env!("CARGO_PKG_VERSION"))
        .class(
            Class::new("EtcdStorageClass", plan)
                .check(class::check)
                .pods(&objects::ENV)
                .env_rule(objects::env_rule)
                .volumes(&objects::VOLUMES)
                .column("Replicas", "integer", ".spec.replicas")
                .column("Image", "string", ".spec.image"),
        )
        .emits(Kind::new("v1", "ConfigMap").reads(&[STATE_POINTER, formed::POINTER]))
        .emits(Kind::new("v1", "Service").reads(&[CLUSTER_LABEL, Started::POINTER, formed::POINTER]))
        .emits(Kind::new("apps/v1", "StatefulSet").reads(&[
            CLUSTER_LABEL,
            Started::POINTER,
            CLAIM_MARK,
            formed::IMAGE_OF_SET,
        ]))
        .emits(Kind::new("policy/v1", "PodDisruptionBudget"))
        .watches(Kind::new("v1", "Pod").reads(&POD_FIELDS).reads_too(&[IMAGE]))
        .watches(Kind::new("v1", "PersistentVolumeClaim").reads(&CLAIM_FIELDS).reads_too(&[UID]))
}

/// Plans the objects of each cluster, with the state of its partition.
fn plan(seen: &Seen<EtcdClass>) -> Result<Plan, Refusal> {
    let clusters = running::clusters(seen);
    let (mut plan, mut image_noted) = (Plan::new(), false);
    for partition in &seen.partitions {
        let (id, service) = (partition.id, &partition.service_name);
        let running = clusters.running(id);
        let cluster = Cluster::of(seen, id, running);
        let health = cluster.members.health(running.with.replicas);
        let not_started =
            cluster.members.claims_of_others(running.with.replicas).or_else(|| cluster.secret_that_nobody_names());
        let formed = Formed::of(&cluster.members, running.with.replicas, &health, not_started.is_none());
        plan = plan
            .object(format!("peers-{id}"), formed.remembering(cluster.peers())) // must resolve before members start
            .object(format!("config-{id}"), formed.config());
        if not_started.is_none() {
            plan = plan.object(format!("members-{id}"), cluster.set(formed.image()));
        }
        if !image_noted {
            (plan, image_noted) = formed.note_image(plan);
        }
        plan = plan
            .object(format!("budget-{id}"), cluster.members.quorum_budget(running.with.replicas))
            .object(format!("partition-{id}"), cluster.members.service(service, "client", CLIENT_PORT))
            .partition(PartitionState {
                id,
                ready: health.quorum(),
                endpoints: vec![seen.endpoint(service, CLIENT_PORT)],
                problem: not_started.or_else(|| formed.problem(running.with.replicas, health.problem)),
            });
    }
    if seen.partitions.iter().any(|partition| clusters.running(partition.id).claim.is_none()) {
        plan = plan.warn(reason(
            code::DATA_IN_PODS,
            "without a volumeClaimTemplate a member's data go with its pod, and a cluster of several does not take it back without \
             them; changes of the class reach a member only when its pod is deleted by hand",
        ));
    }
    Ok(running::note_what_stays(&clusters, seen, plan))
}
