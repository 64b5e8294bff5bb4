//! Events that go with the transitions between two statuses: each once, however often it is looked at.

use std::fmt::Display;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::conditions::cut;
use atomix_model::condition::{ConditionType, EventReason, Reason};
use atomix_model::contract::Note;
use atomix_model::crd::database::DatabaseStatus;
use atomix_model::limits;

/// An Event to send with the transition that caused it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventNote {
    /// Whether it is a warning.
    pub warning: bool,
    /// Reason in CamelCase.
    pub reason: String,
    /// What happened.
    pub note: String,
}

/// Events for the transitions between two statuses, and the plugin's notes where its plan is a new one.
pub fn events(before: &DatabaseStatus, after: &DatabaseStatus, notes: &[Note]) -> Vec<EventNote> {
    let mut events = Vec::new();
    let mut emit = |warning, reason: &dyn Display, note: String| {
        events.push(EventNote { warning, reason: reason.to_string(), note: cut(note, limits::EVENT_NOTE_MAX) })
    };
    if before.partitions != after.partitions {
        let change =
            if before.partitions < after.partitions { EventReason::PartitionsAdded } else { EventReason::PartitionsRemoved };
        let noun = if after.partitions == 1 { "partition" } else { "partitions" };
        emit(false, &change, format!("{} {noun} instead of {}", after.partitions, before.partitions));
    }
    rollout(before, after, &mut emit);
    let planned = progressing(after).is_some_and(|(_, reason)| matches!(reason, Reason::Applying | Reason::RollingOut));
    let cause = |status: &DatabaseStatus| {
        let degraded =
            status.conditions.iter().find(|it| it.type_ == ConditionType::Degraded.as_str() && it.status == "True")?;
        Some(Reason::of(&degraded.reason)).filter(|reason| *reason != Reason::MembersNotReady)
    };
    let same_cause = cause(before).is_some() && cause(before) == cause(after);
    for condition in &after.conditions {
        let old = before.conditions.iter().find(|old| old.type_ == condition.type_);
        let (was, why) = old.map_or(("", ""), |old| (old.status.as_str(), old.reason.as_str()));
        let Some(type_) = ConditionType::of(&condition.type_) else { continue };
        let changed = was != condition.status || (condition.status == bad(type_) && why != condition.reason);
        if !changed {
            continue;
        }
        let reason = Reason::of(&condition.reason);
        match (type_, condition.status.as_str()) {
            (ConditionType::Ready, _) if same_cause => {} // up for a moment, and down again for the same cause
            (ConditionType::Ready, "True") => emit(false, &reason, condition.message.clone()),
            (ConditionType::Ready, _) if was == "True" && before.observed_generation == after.observed_generation => {
                emit(!planned, &EventReason::NotReady, condition.message.clone());
            }
            (ConditionType::Accepted, "False") => emit(true, &reason, condition.message.clone()),
            (ConditionType::Accepted, "True") if was == "False" || reason != Reason::Accepted => {
                emit(false, &reason, condition.message.clone());
            }
            (ConditionType::Degraded, "True") if before.plan.is_some() && reason != Reason::ProgressDeadlineExceeded => {
                emit(true, &reason, condition.message.clone())
            }
            (ConditionType::Degraded, "False") if was == "True" => {
                let message = match Reason::of(why) {
                    why if why.may_be_of_members() => "nothing is missing any more".to_owned(),
                    why => format!("{why} is over"),
                };
                emit(false, &EventReason::Recovered, message)
            }
            (ConditionType::PluginCurrent, "False") if reason == Reason::Removed => {
                emit(true, &EventReason::PluginRemoved, condition.message.clone())
            }
            (ConditionType::PluginCurrent, "False") if reason == Reason::Pinned => {
                emit(false, &reason, condition.message.clone())
            }
            (ConditionType::PluginCurrent, "False") => emit(true, &EventReason::PluginRefused, condition.message.clone()),
            _ => {}
        }
    }
    let hash = |status: &DatabaseStatus| status.plan.as_ref().map(|plan| plan.hash.clone());
    if hash(before) != hash(after) {
        notes.iter().for_each(|note| emit(note.warning, &note.reason.code, note.reason.message.clone()));
    }
    events
}

/// The beginning and the end of a rollout.
fn rollout(before: &DatabaseStatus, after: &DatabaseStatus, emit: &mut impl FnMut(bool, &dyn Display, String)) {
    let is_rolling = |status: &DatabaseStatus| status.progress.as_ref().is_some_and(|progress| progress.rolling);
    let why = |status| progressing(status).map(|(_, reason)| reason);
    let (was, is) = (why(before), why(after));
    let words = || progressing(after).map(|(message, _)| message.to_owned()).unwrap_or_default();
    if is == Some(Reason::RollingOut) && !matches!(was, Some(Reason::RollingOut | Reason::ProgressDeadlineExceeded)) {
        emit(false, &EventReason::RolloutStarted, words());
    }
    if is == Some(Reason::ProgressDeadlineExceeded) && was != is {
        emit(true, &Reason::ProgressDeadlineExceeded, words());
    }
    if is_rolling(before) && after.progress.is_none() && is != Some(Reason::WaitsForDeletion) {
        emit(false, &EventReason::RolledOut, "all members run the new revision".to_owned());
    }
}

/// Message and reason of Progressing.
fn progressing(status: &DatabaseStatus) -> Option<(&str, Reason)> {
    let condition =
        status.conditions.iter().find(|condition: &&Condition| condition.type_ == ConditionType::Progressing.as_str())?;
    Some((&condition.message, Reason::of(&condition.reason)))
}

fn bad(type_: ConditionType) -> &'static str {
    if matches!(type_, ConditionType::Degraded | ConditionType::Progressing) { "True" } else { "False" }
}
