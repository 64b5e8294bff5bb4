//! Whose turn it is when servers must restart: the replicas', one at a time, then the primary's, so that reads are answered all along. An
//! image that cannot run so stops at the first replica.
//!
//! A primary with replicas is held by its StatefulSet's `partition`, which is as many as it has pods. It is let go when its template is
//! another than what its pod runs and all replicas are ready and done, or when it is down anyway; and held again once it has restarted.

use atomix_sdk::{Health, Live, Members};

/// Fields of StatefulSets that decide.
pub const GENERATION: &str = "/metadata/generation";
/// The generation that its controller has come to.
pub const OBSERVED: &str = "/status/observedGeneration";
/// The template that its pods run.
pub const CURRENT: &str = "/status/currentRevision";
/// The template that they should run.
pub const UPDATE: &str = "/status/updateRevision";

/// Servers of one StatefulSet: what is seen of it, and how they go.
pub struct Set<'a> {
    /// The StatefulSet.
    pub set: Option<&'a Live>,
    /// Its pods.
    pub health: &'a Health,
}

impl<'a> Set<'a> {
    /// Those of `members`.
    pub fn of<C>(members: &'a Members<'a, C>, health: &'a Health) -> Self {
        Self { set: members.seen.object("StatefulSet", &members.name), health }
    }
}

/// Whether a primary with replicas stays as it runs.
pub fn primary_is_held(primary: &Set, replicas: &Set) -> bool {
    let is_down = primary.health.ready == 0;
    let replicas_are_done = revision(replicas) == Revision::Runs && replicas.health.problem.is_none();
    revision(primary) != Revision::Waits || !(replicas_are_done || is_down)
}

/// Whether pods are as their template says.
#[derive(Debug, PartialEq, Eq)]
enum Revision {
    /// They are.
    Runs,
    /// Some are of an older one.
    Waits,
    /// The StatefulSet is new, or was changed and its controller has not come to it.
    Unknown,
}

fn revision(servers: &Set) -> Revision {
    let Some(set) = servers.set else { return Revision::Unknown };
    match (set.integer(GENERATION), set.integer(OBSERVED), set.text(CURRENT), set.text(UPDATE)) {
        (Some(generation), Some(observed), _, _) if generation != observed => Revision::Unknown,
        (Some(_), Some(_), Some(current), Some(update)) if current == update => Revision::Runs,
        (Some(_), Some(_), Some(_), Some(_)) => Revision::Waits,
        _ => Revision::Unknown,
    }
}
