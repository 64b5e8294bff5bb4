//! What is observed of a database besides its plugin's plan: how far its workloads have come, and why members are missing
//! where only conditions and Events of Kubernetes report it. Watches Events only while something is unexplained.

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use std::time::Duration;

use super::{Context, Memory};
use crate::catalog::Plugin;
use atomix_decide::observe;
use atomix_decide::pass::Health;
use atomix_decide::status::{self, Course, Object, Rollout};
use atomix_model::contract::{ObjectKind, PartitionState, Plan};
use atomix_model::crd::Database;
use atomix_model::limits;
use atomix_model::names;
use atomix_model::object::Objects as _;
use atomix_model::object::{Key, Kind};

/// The state of each partition, with causes where the plugin gives none; and how partitions and workloads have gone up to
/// now.
pub(super) fn look(
    database: &Database,
    plugin: &Plugin,
    plan: &Plan,
    ctx: &Context,
    memory: &Memory,
) -> (Vec<PartitionState>, Health) {
    let now = Timestamp::now();
    let objects = objects(database, &plugin.object_kinds(), ctx);
    let planned = &plan.partitions;
    let problem = planned.iter().find_map(|state| state.problem.as_ref());
    let unexplained = planned.iter().filter_map(|state| state.problem.as_ref()).find(|it| !status::is_cause(it));
    let silent = memory.course.after(unexplained.or(problem), None, now);
    let (events, retry) = reported_events(database, ctx, silent, now);
    let claims = status::claims_count(silent, now);
    let causes = match unexplained {
        Some(_) => status::causes(&objects, &events, claims == Some(Ok(())), now),
        None => status::Causes::new(),
    };
    let mut found = planned.clone();
    for state in &mut found {
        let cause = state.problem.as_ref().filter(|problem| !status::is_cause(problem)).and_then(|_| {
            let cluster = cluster(database, state.id, ctx);
            causes.get(cluster.as_deref().unwrap_or_default()).or_else(|| causes.get(""))
        });
        if let (Some(problem), Some(cause)) = (&mut state.problem, cause) {
            *problem = status::explained(problem, cause);
        }
    }
    let course = |planned: &PartitionState, found: &PartitionState| {
        let before = memory.courses.get(&planned.id).copied().unwrap_or_default();
        (planned.id, before.after(planned.problem.as_ref(), found.problem.as_ref(), now))
    };
    let cause = found.iter().filter_map(|state| state.problem.as_ref()).find(|problem| status::is_cause(problem));
    let claims = claims.and_then(Result::err).map(|at| status::until(at, now));
    let health = Health {
        courses: planned.iter().zip(&found).map(|(planned, found)| course(planned, found)).collect(),
        course: memory.course.after(unexplained.or(problem), cause, now),
        rollout: status::rollout(&objects),
        unsteady_until: status::unsteady_until(&objects),
        look_again: retry.into_iter().chain(claims).min(),
    };
    (found, health)
}

/// How far workloads have come.
pub(super) fn rollout(database: &Database, plugin: &Plugin, ctx: &Context) -> Rollout {
    status::rollout(&objects(database, &plugin.object_kinds(), ctx))
}

/// Stops reading Events for the database.
pub(super) fn leave(database: &Database, ctx: &Context) {
    ctx.event_cache.leave(&asker(database));
}

/// Live objects of the database that may show its state.
fn objects(database: &Database, kinds: &[&ObjectKind], ctx: &Context) -> Vec<Object> {
    let (namespace, name) = (database.namespace().unwrap_or_default(), database.name_any());
    let label = names::database_label(&namespace, &name);
    let mut kinds: Vec<Kind> = kinds.iter().map(|kind| Kind::from(*kind)).collect();
    kinds.retain(|kind| !status::reads(kind).is_empty());
    kinds.sort();
    kinds.dedup();
    let uid = database.uid();
    let of_kind = |kind: Kind| {
        let live = ctx.caches.of_database(&kind, &namespace, &label);
        // What has owners among Databases is of the one that owns it; pods and claims have others.
        let mine = live.into_iter().filter(|live| live.owner().is_none_or(|owner| Some(owner) == uid.as_deref()));
        mine.map(|live| (kind.clone(), live)).collect::<Vec<_>>()
    };
    kinds.into_iter().flat_map(of_kind).collect()
}

/// The Events, once something has been unexplained for a while; and when to try again, if it is too early or other
/// namespaces are watched.
fn reported_events(
    database: &Database,
    ctx: &Context,
    course: Course,
    now: Timestamp,
) -> (Vec<atomix_model::object::Told>, Option<Duration>) {
    let asker = asker(database);
    match course.asks_events(now) {
        None => {
            ctx.event_cache.leave(&asker);
            (Vec::new(), None)
        }
        Some(Err(from)) => (Vec::new(), Some(status::until(from, now))),
        Some(Ok(())) => match ctx.event_cache.ask(&asker) {
            Some(events) => (events, None),
            None => (Vec::new(), Some(limits::EVENT_NAMESPACE_RETRY)),
        },
    }
}

fn asker(database: &Database) -> Key {
    Key::new(database.namespace().unwrap_or_default(), database.name_any())
}

/// The label `cluster` of the pods that a partition's Service selects.
fn cluster(database: &Database, partition: u32, ctx: &Context) -> Option<String> {
    let service = Kind { group: String::new(), version: "v1".into(), kind: "Service".into(), plural: "services".into() };
    let key = Key::new(database.namespace()?, observe::partition_name(&database.name_any(), partition));
    Some(ctx.caches.find(&service, &key)?.body.pointer("/spec/selector/cluster")?.as_str()?.to_owned())
}
