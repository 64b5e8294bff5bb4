//! The redis plugin: each cluster of a database is a Redis server that keeps its share of the partitions, behind a proxy
//! that serves the protocol of Atomix clients.
//!
//! Further servers copy the first; nothing takes its place. The proxy, whose pods clients reach, and the servers have
//! selectors of their own, and the proxy connects to the first server alone. A partition never moves to another cluster.

mod class;
mod objects;
mod running;
#[cfg(test)]
mod tests;

use atomix_resp::FIRST_START_POINTER;
use atomix_sdk::{
    CLAIM_FIELDS, CLAIM_MARK, CLUSTER_LABEL, Class, Kind, POD_FIELDS, PartitionState, Plan, Plugin, Refusal, Remembered,
    Seen, code, reason,
};

pub use class::RedisClass;
use objects::{API_PORT, Cluster};
use running::Started;

atomix_sdk::export!(plugin);

/// The plugin: its class and the kinds of objects that it plans and reads.
pub fn plugin() -> Plugin {
    Plugin::new("redis", env!("CARGO_PKG_VERSION"))
        .class(
            Class::new("RedisStorageClass", plan)
                .check(class::check)
                .pods(&atomix_resp::ENV)
                .volumes(&atomix_resp::VOLUMES)
                .column("Servers", "integer", ".spec.backend.replicas")
                .column("Proxy", "string", ".spec.proxy.image"),
        )
        .emits(Kind::new("v1", "ConfigMap").reads(&[CLUSTER_LABEL, FIRST_START_POINTER]))
        .emits(Kind::new("v1", "Service").reads(&[CLUSTER_LABEL, Started::POINTER]))
        .emits(Kind::new("apps/v1", "StatefulSet").reads(&[CLUSTER_LABEL, Started::POINTER, CLAIM_MARK]))
        .emits(Kind::new("apps/v1", "Deployment"))
        .watches(Kind::new("v1", "Pod").reads(&POD_FIELDS))
        .watches(Kind::new("v1", "PersistentVolumeClaim").reads(&CLAIM_FIELDS))
}

/// Plans the objects of each cluster, with the state of each partition.
fn plan(seen: &Seen<RedisClass>) -> Result<Plan, Refusal> {
    let (class, clusters) = (&seen.class, running::clusters(seen));
    let (mut plan, mut states) = (Plan::new().object("script", atomix_resp::script(seen)), Vec::new());
    for partitions in seen.partitions.chunk_by(|a, b| running::home(&clusters, a.id) == running::home(&clusters, b.id)) {
        let number = running::home(&clusters, partitions[0].id);
        let cluster = Cluster::of(seen, number, clusters.running(number));
        let proxy = cluster.proxy.health_of_any();
        let first = cluster.servers.health(1);
        let servers = cluster.servers.health(class.backend.replicas);
        let backends = &cluster.servers;
        let first_start = atomix_resp::is_first_start(seen, &backends.name, &[backends], first.ready == 1);
        let others = backends.claims_of_others(class.backend.replicas);
        plan = plan
            .object(format!("config-{number}"), cluster.config(first_start))
            .object(format!("first-server-{number}"), cluster.first_server())
            .object(format!("all-servers-{number}"), cluster.all_servers());
        if others.is_none() {
            plan = plan.object(format!("servers-{number}"), cluster.servers());
        }
        plan = plan.object(format!("proxy-{number}"), cluster.proxy());
        let of_servers = match servers.problem {
            Some(problem) => atomix_resp::refusal_to_start(backends, class.backend.replicas).or(Some(problem)),
            None => None,
        };
        let problem = match first.ready {
            _ if others.is_some() => others,
            0 => of_servers,
            _ => proxy.problem.or(of_servers),
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
    if seen.partitions.iter().any(|partition| clusters.running(running::home(&clusters, partition.id)).claim.is_none()) {
        let too = if class.backend.replicas > 1 { class.backend.primary_without_data.consequence() } else { "" };
        let how = format!("without a volumeClaimTemplate the first server's data go with its pod{too}");
        plan = plan.warn(reason(code::DATA_IN_PODS, how));
    }
    Ok(running::note_what_stays(&clusters, seen, plan))
}
