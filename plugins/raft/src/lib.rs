//! The raft plugin: each cluster of a database is a StatefulSet of Raft nodes that keeps its share of the partitions.
//!
//! Growing a database adds partitions after the last one. Where the last cluster has room for more, its configuration changes and
//! its members restart one after the other; all other clusters are left as they are. The number of members, the volumes and the
//! partitions of a cluster are fixed once it has started: Raft has no safe way to change them by configuration alone.

mod class;
mod objects;
mod protocol;
mod running;
#[cfg(test)]
mod tests;
mod version;

use atomix_sdk::{
    CLAIM_FIELDS, CLAIM_MARK, CLUSTER_LABEL, Class, Kind, POD_FIELDS, PartitionState, Plan, Plugin, Refusal, Remembered,
    Seen, reason,
};

pub use class::RaftClass;
use objects::{API_PORT, Cluster};
use running::Started;
use version::Image;

atomix_sdk::export!(plugin, groups);

/// The plugin: its class and the kinds of objects that it plans and reads.
pub fn plugin() -> Plugin {
    Plugin::new("raft", env!("CARGO_PKG_VERSION"))
        .class(
            Class::new("RaftStorageClass", plan)
                .versions(&["v1beta1", "v1beta3"])
                .check(class::check)
                .pods(&objects::ENV)
                .volumes(&objects::VOLUMES)
                .group(protocol::MESSAGE, protocol::spec_of, protocol::group_of)
                .column("Replicas", "integer", ".spec.replicas")
                .column("Image", "string", ".spec.image"),
        )
        .emits(Kind::new("v1", "ConfigMap").reads(&[CLUSTER_LABEL, Started::POINTER, version::POINTER]))
        .emits(Kind::new("v1", "Service"))
        .emits(Kind::new("apps/v1", "StatefulSet").reads(&[
            CLUSTER_LABEL,
            Started::POINTER,
            CLAIM_MARK,
            version::IMAGE_OF_SET,
        ]))
        .emits(Kind::new("policy/v1", "PodDisruptionBudget"))
        .watches(Kind::new("v1", "Pod").reads(&POD_FIELDS).reads_too(&[version::IMAGE_OF_POD]))
        .watches(Kind::new("v1", "PersistentVolumeClaim").reads(&CLAIM_FIELDS))
}

/// Plans the objects of each cluster, with the state of each partition.
fn plan(seen: &Seen<RaftClass>) -> Result<Plan, Refusal> {
    let clusters = running::clusters(seen);
    let (mut plan, mut states, mut in_use) = (Plan::new(), Vec::new(), Vec::new());
    let mut image_noted = false; // once for all clusters
    for partitions in seen.partitions.chunk_by(|a, b| running::home(&clusters, a.id) == running::home(&clusters, b.id)) {
        let number = running::home(&clusters, partitions[0].id);
        let running = clusters.running(number);
        let cluster = Cluster::of(seen, number, running, partitions);
        let health = cluster.members.health(running.with.replicas);
        let others = cluster.members.claims_of_others(running.with.replicas);
        let image = Image::of(&cluster.members, running.with.replicas, &health);
        let config = image.remembering(cluster.config(&image.name));
        plan = plan.object(format!("config-{number}"), config).object(format!("peers-{number}"), cluster.peers()); // must resolve before members start
        if others.is_none() {
            plan = plan.object(format!("members-{number}"), cluster.set(&image.name));
        }
        if !image_noted {
            (plan, image_noted) = image.note(&cluster.members, plan);
        }
        plan = plan.object(format!("budget-{number}"), cluster.members.quorum_budget(running.with.replicas));
        let problem = others.or(health.problem.clone());
        for partition in partitions {
            let (id, service) = (partition.id, &partition.service_name);
            plan = plan.object(format!("partition-{id}"), cluster.members.service(service, "api", API_PORT));
            let endpoints = vec![seen.endpoint(service, API_PORT)];
            states.push(PartitionState { id, ready: health.quorum(), endpoints, problem: problem.clone() });
        }
        in_use.push(number);
    }
    plan = states.into_iter().fold(plan, Plan::partition);
    if seen.class.replicas.is_multiple_of(2) {
        let (even, odd) = (seen.class.replicas, seen.class.replicas - 1);
        let message = format!("{even} members can lose {}, no more than {odd} can: an odd number is better", (even - 1) / 2);
        plan = plan.warn(reason("EvenReplicas", message));
    }
    Ok(running::note_what_stays(&clusters, seen, &in_use, plan))
}
