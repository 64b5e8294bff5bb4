//! The redis plugin: each cluster of a database is a Redis server that keeps its share of the partitions, behind a proxy that speaks
//! the protocol of Atomix clients.
//!
//! Further servers copy the first; nothing takes its place. The proxy, whose pods clients reach, and the servers are selected apart,
//! and the proxy is led to the first server alone. A partition never moves to another cluster.

mod class;
mod objects;
mod running;
#[cfg(test)]
mod tests;

use atomix_sdk::{CLAIM_FIELD, CLUSTER_LABEL, Class, Kind, POD_FIELDS, PartitionState, Plan, Plugin, Refusal, Seen, reason};

pub use class::RedisClass;
use objects::{API_PORT, Cluster};
use running::{Clusters, POINTER};

atomix_sdk::export!(plugin);

/// What the plugin is.
pub fn plugin() -> Plugin {
    Plugin::new("redis", env!("CARGO_PKG_VERSION"))
        .class(
            Class::new("RedisStorageClass", plan)
                .check(class::check)
                .pods(&objects::ENV)
                .volumes(&[])
                .column("Servers", "integer", ".spec.backend.replicas")
                .column("Proxy", "string", ".spec.proxy.image"),
        )
        .emits(Kind::new("v1", "Service").reads(&[CLUSTER_LABEL, POINTER]))
        .emits(Kind::new("apps/v1", "StatefulSet").reads(&[CLUSTER_LABEL, POINTER]))
        .emits(Kind::new("apps/v1", "Deployment"))
        .watches(Kind::new("v1", "Pod").reads(&POD_FIELDS))
        .watches(Kind::new("v1", "PersistentVolumeClaim").reads(&[CLUSTER_LABEL, POINTER, CLAIM_FIELD]))
}

/// Says which objects the clusters need, and how each partition goes.
fn plan(seen: &Seen<RedisClass>) -> Result<Plan, Refusal> {
    let (class, clusters) = (&seen.class, Clusters::of(seen));
    let (mut plan, mut states) = (Plan::new(), Vec::new());
    for partitions in seen.partitions.chunk_by(|a, b| clusters.home(a.id) == clusters.home(b.id)) {
        let number = clusters.home(partitions[0].id);
        let cluster = Cluster::of(seen, number, clusters.running(number));
        plan = plan
            .object(format!("first-server-{number}"), cluster.first_server())
            .object(format!("servers-{number}"), cluster.servers())
            .object(format!("proxy-{number}"), cluster.proxy());
        let proxy = cluster.proxy.health_of_any(&class.proxy.image);
        let first = cluster.servers.health(1, &class.backend.image);
        let servers = cluster.servers.health(class.backend.replicas, &class.backend.image);
        let problem = match first.ready {
            0 => servers.problem,
            _ => proxy.problem.or(servers.problem),
        };
        for partition in partitions {
            let (id, service) = (partition.id, &partition.service_name);
            plan = plan.object(format!("partition-{id}"), cluster.proxy.service(service, "api", API_PORT));
            let endpoints = vec![seen.endpoint(service, API_PORT)];
            let ready = first.ready + proxy.ready == 2;
            states.push(PartitionState { id, ready, endpoints, problem: problem.clone() });
        }
    }
    plan = states.into_iter().fold(plan, Plan::partition);
    if seen.partitions.iter().any(|partition| clusters.running(clusters.home(partition.id)).claim.is_none()) {
        let how = "without a volumeClaimTemplate the first server's data go with its pod, and its copies empty themselves to be like it";
        plan = plan.warn(reason("DataInPods", how));
    }
    Ok(clusters.note_what_stays(seen, plan))
}
