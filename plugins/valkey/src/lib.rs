//! The valkey plugin: each partition of a database is a Valkey or Redis server of its own, the primary, with replicas to read from.
//!
//! Nothing takes the primary's place: it comes back on its volume, and until then writes wait while replicas go on answering reads.
//! The number of replicas may change at any time; the volumes are fixed once a partition has started. When servers must restart, the
//! replicas do so first.

mod class;
mod objects;
mod running;
#[cfg(test)]
mod tests;
mod turns;

use atomix_sdk::{
    CLAIM_FIELD, CLUSTER_LABEL, Class, Kind, POD_FIELDS, PartitionState, Plan, Plugin, Refusal, Seen, field_error, reason,
};

pub use class::ValkeyClass;
use objects::{PORT, Partition};
use running::{POINTER, Partitions};

atomix_sdk::export!(plugin);

const SET_FIELDS: [&str; 6] = [CLUSTER_LABEL, POINTER, turns::GENERATION, turns::OBSERVED, turns::CURRENT, turns::UPDATE];

/// What the plugin is.
pub fn plugin() -> Plugin {
    Plugin::new("valkey", env!("CARGO_PKG_VERSION"))
        .class(
            Class::new("ValkeyStorageClass", plan)
                .check(class::check)
                .pods(&objects::ENV)
                .volumes(&objects::VOLUMES)
                .column("Server", "string", ".spec.server")
                .column("Replicas", "integer", ".spec.replicas")
                .column("Image", "string", ".spec.image"),
        )
        .emits(Kind::new("v1", "ConfigMap").reads(&[CLUSTER_LABEL, POINTER]))
        .emits(Kind::new("v1", "Service"))
        .emits(Kind::new("apps/v1", "StatefulSet").reads(&SET_FIELDS))
        .emits(Kind::new("policy/v1", "PodDisruptionBudget"))
        .watches(Kind::new("v1", "Pod").reads(&POD_FIELDS))
        .watches(Kind::new("v1", "PersistentVolumeClaim").reads(&[CLUSTER_LABEL, POINTER, CLAIM_FIELD]))
}

/// Says which objects the partitions need, and how each goes.
fn plan(seen: &Seen<ValkeyClass>) -> Result<Plan, Refusal> {
    let (class, partitions) = (&seen.class, Partitions::of(seen));
    refuse_long_names(seen)?;
    let mut plan = Plan::new();
    for partition in &seen.partitions {
        let (id, service) = (partition.id, &partition.service_name);
        let Partition { primary, replicas, .. } = &Partition::of(seen, id, partitions.running(id));
        let health = primary.health(1, class.image());
        let (mut problem, mut is_held) = (health.problem.clone(), false);
        plan = plan.object(format!("config-{id}"), objects::config(primary, replicas));
        if class.replicas > 0 {
            let copies = replicas.health(class.replicas, class.image());
            is_held = turns::primary_is_held((primary, &health), (replicas, &copies));
            // Before the primary: so their change is seen no later than its own.
            plan = plan
                .object(format!("replica-names-{id}"), replicas.peers(&[("client", PORT)]))
                .object(format!("replicas-{id}"), objects::replicas(primary, replicas))
                .object(format!("budget-{id}"), replicas.budget(1))
                .object(format!("reads-{id}"), replicas.service(&replicas.name, "client", PORT));
            problem = problem.or(turns::passwords_differ(primary, (replicas, &copies))).or(copies.problem);
        }
        plan = plan
            .object(format!("primary-name-{id}"), primary.peers(&[("client", PORT)]))
            .object(format!("primary-{id}"), objects::primary(primary, is_held));
        plan = plan.object(format!("partition-{id}"), primary.service(service, "client", PORT)).partition(PartitionState {
            id,
            ready: health.ready == 1,
            endpoints: vec![seen.endpoint(service, PORT)],
            problem,
        });
    }
    let in_pods = seen.partitions.iter().any(|partition| partitions.running(partition.id).claim.is_none());
    let forgetful = match (in_pods, class.persists()) {
        (true, _) => Some("without a volumeClaimTemplate the primary's data go with its pod"),
        (false, false) => Some("without persistence the primary's data go when it restarts"),
        (false, true) => None,
    };
    if let Some(how) = forgetful {
        let too = if class.replicas > 0 { ", and replicas empty themselves to be like it" } else { "" };
        plan = plan.warn(reason("DataInPods", format!("{how}{too}")));
    }
    Ok(partitions.note_what_stays(seen, plan))
}

/// A StatefulSet's name ends in a label of its pods with ten characters more.
const SET_NAME_CHARS_MAX: usize = 52;

fn refuse_long_names(seen: &Seen<ValkeyClass>) -> Result<(), Refusal> {
    let last = seen.partitions.last().map_or(1, |partition| partition.id);
    let name = Partition::replicas_name(&seen.database.name, last);
    if seen.class.replicas == 0 || name.len() <= SET_NAME_CHARS_MAX {
        return Ok(());
    }
    let most = seen.database.name.len() + SET_NAME_CHARS_MAX - name.len();
    let message = format!(
        "{name} is too long for the replicas' StatefulSet: with replicas, a database of {last} partitions has a name of at most \
         {most} characters"
    );
    Err(Refusal::Invalid(vec![field_error("database.metadata.name", message)]))
}
