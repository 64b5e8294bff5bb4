//! Whose turn it is when servers must restart: the replicas', one at a time, then the primary's, so that reads are answered all along. An
//! image that cannot run so stops at the first replica.
//!
//! A primary with replicas is held by its StatefulSet's `partition`, which is as many as it has pods. It is let go when its template is
//! another than what its pod runs and waiting would be of no use: replicas have restarted and are ready, or one cannot follow it until it
//! restarts too, since their passwords differ, or it is down anyway. It is held again once it has restarted.

use atomix_sdk::{Health, Live, Members, Reason, Value, reason};

/// Fields of StatefulSets that decide.
pub const GENERATION: &str = "/metadata/generation";
/// The generation that its controller has come to.
pub const OBSERVED: &str = "/status/observedGeneration";
/// The template that its pods run.
pub const CURRENT: &str = "/status/currentRevision";
/// The template that they should run.
pub const UPDATE: &str = "/status/updateRevision";

/// What a replica exits with when the primary does not take its password, or asks for one that it does not have.
pub const REFUSED: i64 = 77; // EX_NOPERM of sysexits.h

/// Whether a primary with `replicas`, of which `health` says how they go, stays as it runs.
pub fn primary_is_held<C>(primary: (&Members<C>, &Health), replicas: (&Members<C>, &Health)) -> bool {
    let (servers, health) = primary;
    let is_down = health.ready == 0;
    let waits_for_nothing = is_down || is_done(replicas) || refused(replicas).is_some();
    !(set(servers).is_some_and(is_behind_its_template) && waits_for_nothing)
}

/// Says that a replica and the primary have different passwords, if they do.
pub fn passwords_differ<C>(primary: &Members<C>, replicas: (&Members<C>, &Health)) -> Option<Reason> {
    let replica = refused(replicas)?;
    let message = format!(
        "{replica}: its password is not the primary's; after a change of the Secret restart that too: kubectl rollout restart \
         statefulset/{}",
        primary.name
    );
    Some(reason("PasswordsDiffer", message))
}

fn set<'a, C>(servers: &Members<'a, C>) -> Option<&'a Live> {
    servers.seen.object("StatefulSet", &servers.name)
}

fn is_behind_its_template(set: &Live) -> bool {
    set.json(CURRENT) != set.json(UPDATE)
}

/// Whether all run what the template says, which the StatefulSet's controller has read, and are ready.
fn is_done<C>((servers, health): (&Members<C>, &Health)) -> bool {
    let has_come_to_it = |set: &Live| set.json(GENERATION) == set.json(OBSERVED);
    health.problem.is_none() && set(servers).is_some_and(|set| has_come_to_it(set) && !is_behind_its_template(set))
}

/// Name of a replica whose password the primary refused when it last started.
fn refused<C>((servers, health): (&Members<C>, &Health)) -> Option<String> {
    servers.names(health.all).find(|name| {
        let containers: Option<Vec<Value>> =
            servers.seen.object("Pod", name).and_then(|pod| pod.field("/status/containerStatuses"));
        containers.iter().flatten().any(|container| {
            let ended = |state: &str| container[state]["terminated"]["exitCode"] == REFUSED;
            container["ready"] != true && (ended("state") || ended("lastState"))
        })
    })
}
