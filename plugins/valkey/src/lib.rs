//! The valkey plugin: each partition of a database is a Valkey or Redis server of its own, the primary, with replicas to read from.
//!
//! Nothing takes the primary's place: it comes back on its volume, and until then writes wait while replicas go on answering reads.
//! The number of replicas may change at any time; the volumes are fixed once a partition has started. When servers must restart, the
//! replicas do so first.

mod class;
mod objects;
mod restart_order;
mod running;
#[cfg(test)]
mod tests;

use atomix_sdk::{
    CLAIM_FIELDS, CLAIM_MARK, CLUSTER_LABEL, Class, Kind, POD_FIELDS, PartitionState, Plan, Plugin, Refusal, Remembered,
    Seen, code, field_error, reason,
};

use atomix_resp::{FIRST_START_POINTER, PORT};
pub use class::ValkeyClass;
use objects::Partition;
use running::Started;

atomix_sdk::export!(plugin);

const SET_FIELDS: [&str; 6] = [
    CLUSTER_LABEL,
    Started::POINTER,
    restart_order::GENERATION,
    restart_order::OBSERVED,
    restart_order::CURRENT,
    restart_order::UPDATE,
];

/// The plugin: its class and the kinds of objects that it plans and reads.
pub fn plugin() -> Plugin {
    Plugin::new("valkey", env!("CARGO_PKG_VERSION"))
        .class(
            Class::new("ValkeyStorageClass", plan)
                .check(class::check)
                .pods(&atomix_resp::ENV)
                .volumes(&atomix_resp::VOLUMES)
                .column("Server", "string", ".spec.server")
                .column("Replicas", "integer", ".spec.replicas")
                .column("Image", "string", ".spec.image"),
        )
        .emits(Kind::new("v1", "ConfigMap").reads(&[CLUSTER_LABEL, Started::POINTER, FIRST_START_POINTER]))
        .emits(Kind::new("v1", "Service"))
        .emits(Kind::new("apps/v1", "StatefulSet").reads(&SET_FIELDS).reads_too(&[CLAIM_MARK]))
        .emits(Kind::new("policy/v1", "PodDisruptionBudget"))
        .watches(Kind::new("v1", "Pod").reads(&POD_FIELDS))
        .watches(Kind::new("v1", "PersistentVolumeClaim").reads(&CLAIM_FIELDS))
}

/// Plans the objects of each partition, with its state.
fn plan(seen: &Seen<ValkeyClass>) -> Result<Plan, Refusal> {
    let (class, partitions) = (&seen.class, running::partitions(seen));
    refuse_long_names(seen)?;
    let mut plan = Plan::new().object("script", atomix_resp::script(seen));
    let mut newline = None;
    for partition in &seen.partitions {
        let (id, service) = (partition.id, &partition.service_name);
        let Partition { primary, replicas, .. } = &Partition::of(seen, id, partitions.running(id));
        let health = primary.health(1);
        let (mut problem, mut is_held) = (health.problem.clone(), false);
        if problem.is_some() {
            problem = atomix_resp::refusal_to_start(primary, 1).or(problem);
        }
        let first_start = atomix_resp::is_first_start(seen, &primary.name, &[primary, replicas], health.ready == 1);
        let ends_in_newline = class
            .password
            .as_ref()
            .and_then(|_| atomix_resp::newline(primary, 1).or_else(|| atomix_resp::newline(replicas, class.replicas)));
        newline = newline.or_else(|| ends_in_newline.clone());
        plan = plan.object(format!("config-{id}"), objects::config(primary, replicas, first_start, ends_in_newline));
        if class.replicas > 0 {
            let copies = replicas.health(class.replicas);
            is_held = restart_order::primary_is_held((primary, &health), (replicas, &copies));
            // Before the primary: so their change is seen no later than its own.
            let others = replicas.claims_of_others(class.replicas);
            plan = plan.object(format!("replica-names-{id}"), replicas.peers(&[("client", PORT)]));
            if others.is_none() {
                plan = plan.object(format!("replicas-{id}"), objects::replicas(primary, replicas));
            }
            plan = plan
                .object(format!("budget-{id}"), replicas.budget(1))
                .object(format!("reads-{id}"), replicas.service(&replicas.name, "client", PORT));
            problem = problem.or(others).or(restart_order::passwords_differ(primary, (replicas, &copies)));
            if problem.is_none() && copies.problem.is_some() {
                problem = atomix_resp::refusal_to_start(replicas, class.replicas).or(copies.problem);
            }
        }
        plan = plan.object(format!("primary-name-{id}"), primary.peers(&[("client", PORT)]));
        match primary.claims_of_others(1) {
            None => plan = plan.object(format!("primary-{id}"), objects::primary(primary, is_held)),
            others => problem = others,
        }
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
        let too = if class.replicas > 0 { class.primary_without_data.consequence() } else { "" };
        plan = plan.warn(reason(code::DATA_IN_PODS, format!("{how}{too}")));
    }
    if let Some(newline) = newline {
        plan = plan.warn(newline);
    }
    Ok(running::note_what_stays(&partitions, seen, plan))
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
