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

use atomix_sdk::{CLAIM_FIELD, CLUSTER_LABEL, Class, Kind, POD_FIELDS, PartitionState, Plan, Plugin, Refusal, Seen, reason};

pub use class::RaftClass;
use objects::{API_PORT, Cluster};
use running::{Clusters, POINTER};

atomix_sdk::export!(plugin, groups);

/// What the plugin is.
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
        .emits(Kind::new("v1", "ConfigMap").reads(&[CLUSTER_LABEL, POINTER]))
        .emits(Kind::new("v1", "Service"))
        .emits(Kind::new("apps/v1", "StatefulSet").reads(&[CLUSTER_LABEL, POINTER]))
        .emits(Kind::new("policy/v1", "PodDisruptionBudget"))
        .watches(Kind::new("v1", "Pod").reads(&POD_FIELDS))
        .watches(Kind::new("v1", "PersistentVolumeClaim").reads(&[CLUSTER_LABEL, POINTER, CLAIM_FIELD]))
}

/// Says which objects the clusters need, and how each partition goes.
fn plan(seen: &Seen<RaftClass>) -> Result<Plan, Refusal> {
    let clusters = Clusters::of(seen);
    let (mut plan, mut states, mut in_use) = (Plan::new(), Vec::new(), Vec::new());
    for partitions in seen.partitions.chunk_by(|a, b| clusters.home(a.id) == clusters.home(b.id)) {
        let number = clusters.home(partitions[0].id);
        let running = clusters.running(number);
        let cluster = Cluster::of(seen, number, running, partitions);
        let health = cluster.members.health(running.replicas, &seen.class.image);
        plan = plan
            .object(format!("config-{number}"), cluster.config())
            .object(format!("peers-{number}"), cluster.peers()) // must resolve before members start
            .object(format!("members-{number}"), cluster.set())
            .object(format!("budget-{number}"), cluster.members.quorum_budget(running.replicas));
        for partition in partitions {
            let (id, service) = (partition.id, &partition.service_name);
            plan = plan.object(format!("partition-{id}"), cluster.members.service(service, "api", API_PORT));
            let endpoints = vec![seen.endpoint(service, API_PORT)];
            states.push(PartitionState { id, ready: health.quorum(), endpoints, problem: health.problem.clone() });
        }
        in_use.push(number);
    }
    plan = states.into_iter().fold(plan, Plan::partition);
    if seen.class.replicas.is_multiple_of(2) {
        let (even, odd) = (seen.class.replicas, seen.class.replicas - 1);
        let message = format!("{even} members can lose {}, no more than {odd} can: an odd number is better", (even - 1) / 2);
        plan = plan.warn(reason("EvenReplicas", message));
    }
    Ok(clusters.note_what_stays(seen, &in_use, plan))
}
