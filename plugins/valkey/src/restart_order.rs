//! In which order servers restart: the replicas one at a time, then the primary, so that reads are answered all along. An image that cannot
//! run so stops at the first replica.
//!
//! A primary with replicas is held by its StatefulSet's `partition`, which is as many as it has pods. It is let go when its template is
//! another than what its pod runs and waiting would be of no use: replicas have restarted and are ready, or one cannot follow it until it
//! restarts too, since their passwords differ, or it is down anyway. It is held again once it has restarted.

use atomix_resp::OTHER_PASSWORD;
use atomix_sdk::{Health, Live, Members, Reason, Value, reason};

/// The generation of a StatefulSet, which an edit raises.
pub const GENERATION: &str = "/metadata/generation";
/// The generation that the StatefulSet's controller has acted on.
pub const OBSERVED: &str = "/status/observedGeneration";
/// The revision of the template that its pods run.
pub const CURRENT: &str = "/status/currentRevision";
/// The revision that they should run.
pub const UPDATE: &str = "/status/updateRevision";

/// Whether a primary keeps running as it is, whatever its template is.
pub fn primary_is_held<C>(primary: (&Members<C>, &Health), replicas: (&Members<C>, &Health)) -> bool {
    let (servers, health) = primary;
    let is_down = health.ready == 0;
    let waits_for_nothing = is_down || have_restarted(replicas) || with_other_password(replicas).is_some();
    !(stateful_set(servers).is_some_and(is_behind_its_template) && waits_for_nothing)
}

/// Names a replica that has another password than the primary, if one has.
pub fn passwords_differ<C>(primary: &Members<C>, replicas: (&Members<C>, &Health)) -> Option<Reason> {
    let replica = with_other_password(replicas)?;
    let message = format!(
        "{replica}: its password is not the primary's; after a change of the Secret restart that too: kubectl rollout restart \
         statefulset/{}",
        primary.name
    );
    Some(reason("PasswordsDiffer", message))
}

fn stateful_set<'a, C>(servers: &Members<'a, C>) -> Option<&'a Live> {
    servers.seen.object("StatefulSet", &servers.name)
}

fn is_behind_its_template(live: &Live) -> bool {
    live.json(CURRENT) != live.json(UPDATE)
}

/// Whether all run the newest template, which the StatefulSet's controller has read, and are ready.
fn have_restarted<C>((servers, health): (&Members<C>, &Health)) -> bool {
    let is_observed = |live: &Live| live.json(GENERATION) == live.json(OBSERVED);
    health.problem.is_none() && stateful_set(servers).is_some_and(|live| is_observed(live) && !is_behind_its_template(live))
}

/// Name of a replica whose password the primary refused when the replica last started.
fn with_other_password<C>((servers, health): (&Members<C>, &Health)) -> Option<String> {
    servers.names(health.all).find(|name| {
        let containers: Option<Vec<Value>> =
            servers.seen.object("Pod", name).and_then(|pod| pod.field("/status/containerStatuses"));
        containers.iter().flatten().any(|container| {
            let ended = |state: &str| container[state]["terminated"]["exitCode"] == OTHER_PASSWORD;
            container["ready"] != true && (ended("state") || ended("lastState"))
        })
    })
}
