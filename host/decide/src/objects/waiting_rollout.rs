//! A rollout that waits for members that are away to come back. Pure: knows no client; time is an argument.
//!
//! A StatefulSet replaces its pods from the last to the first, one at a time, and waits only for those that it has replaced
//! (`stateful_set_control.go`): while a member restarts for another reason, an edit takes one more down, and a quorum with
//! it; for good, if the edit cannot run. So a new template is written with a `partition` that replaces no pod while a
//! member is away that should be back by itself, and the partition is taken off when it is, or after a while: the edit may
//! be what brings it back.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::stalled_rollout::{Member, is_of, is_set};
use crate::admission::Stamped;
use crate::status::later;
use atomix_model::limits;
use atomix_model::names;
use atomix_model::object::Live;

/// A StatefulSet as it is to be written while members are waited for.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The object of the plan, with the partition and the mark.
    pub object: Stamped,
    /// When that ends although nothing happens.
    pub left: Duration,
}

/// The object as it is to be written while a member of the live set is away and should be back by itself; `None` if it is
/// written as planned.
pub fn wait(object: &Stamped, live: Option<&Live>, pods: &[Arc<Live>], now: Timestamp) -> Option<Waiting> {
    let live = live.filter(|live| is_set(&object.kind) && !live.terminating())?;
    let waits = live.annotation(names::WAITS_UNTIL).and_then(|until| until.parse::<Timestamp>().ok());
    let restarts = live.annotation(names::TEMPLATE_HASH).is_some_and(|applied| !object.has_template(applied));
    let until = match waits {
        Some(until) => until,
        None if restarts => Timestamp::from_second(later(now, limits::ROLLOUT_WAITS).as_second()).ok()?, // for people
        None => return None,
    };
    let left = Duration::try_from(until.duration_since(now)).ok().filter(|left| !left.is_zero())?;
    if left > limits::ROLLOUT_WAITS || !is_member_away(live, pods, waits.is_some(), now) {
        return None; // a time beyond the limit is not ours
    }
    let replicas = object.manifest.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1);
    let mut marked = object.clone();
    marked.hash = names::hash_json(&json!([object.hash, until.to_string()]));
    marked.legacy_hashes.0 = marked.hash.clone();
    let spec = marked.manifest.get_mut("spec")?.as_object_mut()?;
    let strategy = spec.entry("updateStrategy").or_insert_with(|| json!({"type": "RollingUpdate"}));
    if strategy["type"].as_str().is_some_and(|kind| kind != "RollingUpdate") {
        return None; // its pods are replaced when they are deleted
    }
    let rolling = strategy.as_object_mut()?.entry("rollingUpdate").or_insert_with(|| json!({}));
    rolling.as_object_mut()?.insert("partition".to_owned(), replicas.into());
    let annotations = marked.manifest.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut)?;
    annotations.insert(names::WAITS_UNTIL.to_owned(), json!(until.to_string()));
    annotations.insert(names::HASH.to_owned(), json!(marked.hash));
    Some(Waiting { object: marked, left })
}

/// Whether a member of the revision that runs is away without a reason that an edit could mend, while others are ready and no
/// rollout is under way.
fn is_member_away(set: &Live, pods: &[Arc<Live>], waits: bool, now: Timestamp) -> bool {
    let text = |pointer: &str| set.body.pointer(pointer).and_then(Value::as_str);
    let Some(runs) = text("/status/currentRevision") else { return false };
    if !waits && text("/status/updateRevision") != Some(runs) {
        return false; // the edit before it is being rolled out: it may be what this one corrects
    }
    let wanted = set.body.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1);
    let members: Vec<Member> = pods.iter().filter(|pod| is_of(pod, set)).map(Member::of).collect();
    let other = members.iter().any(|member| member.revision.is_some_and(|revision| revision != runs));
    let failing = members.iter().any(|member| !member.ready && member.cannot_come_back(now));
    let ready = members.iter().filter(|member| member.ready && !member.pod.terminating()).count();
    !other && !failing && ready > 0 && (ready as u64) < wanted
}

#[cfg(test)]
#[path = "waiting_rollout_tests.rs"]
mod tests;
