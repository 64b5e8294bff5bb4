//! Conditions as Kubernetes has them: a transition time moves only with the status. Knows no database.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use atomix_model::condition::{ConditionType, Reason};
use atomix_model::{limits, message_text};

/// Conditions in the making: a transition time moves only with the status.
pub struct Conditions {
    before: Vec<Condition>,
    after: Vec<Condition>,
    generation: Option<i64>,
    now: Timestamp,
}

impl Conditions {
    /// Starts from those that stand.
    pub fn of(before: &[Condition], generation: Option<i64>, now: Timestamp) -> Conditions {
        Conditions { before: before.to_vec(), after: Vec::new(), generation, now }
    }

    /// Sets a condition to true or false.
    pub fn set(&mut self, type_: ConditionType, status: bool, reason: Reason, message: String) {
        self.set_text(type_, if status { "True" } else { "False" }, reason, message);
    }

    /// Sets a condition to True, False or Unknown.
    pub fn set_text(&mut self, type_: ConditionType, status: &str, reason: Reason, message: String) {
        let exact = reason.names_a_digest();
        let reason = word(&reason.to_string());
        let before = self.before.iter().find(|old| old.type_ == type_.as_str() && old.status == status);
        // Another time or identifier in the same words is no change that is worth a write.
        let worded = before.filter(|old| !exact && old.reason == reason && message_text::same(&old.message, &message));
        let message = worded.map_or(message, |old| old.message.clone());
        let condition = Condition {
            type_: type_.as_str().to_owned(),
            status: status.to_owned(),
            reason,
            message: cut(message, limits::CONDITION_MESSAGE_MAX),
            observed_generation: self.generation,
            last_transition_time: before.map_or(Time(self.now), |old| old.last_transition_time.clone()),
        };
        self.remove(type_);
        self.after.push(condition);
    }

    /// Leaves a condition as it was, if it was there.
    pub fn keep(&mut self, type_: ConditionType) {
        let kept = self.before.iter().find(|old| old.type_ == type_.as_str()).cloned();
        self.remove(type_);
        self.after.extend(kept);
    }

    /// Leaves a condition as it was, which holds for the observed generation too.
    pub fn stay(&mut self, type_: ConditionType) {
        self.keep(type_);
        for condition in self.after.iter_mut().filter(|condition| condition.type_ == type_.as_str()) {
            condition.observed_generation = self.generation;
        }
    }

    /// The same for a condition that was False and is so again: its reason and message stay.
    pub fn stay_false(&mut self, type_: ConditionType) {
        let was_false = self.before.iter().any(|old| old.type_ == type_.as_str() && old.status == "False");
        if was_false && self.status(type_) == Some("False") {
            self.stay(type_);
        }
    }

    /// Leaves a condition out.
    pub fn remove(&mut self, type_: ConditionType) {
        self.after.retain(|condition| condition.type_ != type_.as_str());
    }

    /// Status of a condition, if it is set.
    pub fn status(&self, type_: ConditionType) -> Option<&str> {
        self.after.iter().find(|condition| condition.type_ == type_.as_str()).map(|condition| condition.status.as_str())
    }

    /// Reason of a condition, if it is set.
    pub(super) fn reason(&self, type_: ConditionType) -> Option<Reason> {
        self.after.iter().find(|condition| condition.type_ == type_.as_str()).map(|condition| Reason::of(&condition.reason))
    }

    /// Reason and message of a condition, if it is set.
    pub(super) fn reason_and_message(&self, type_: ConditionType) -> Option<(Reason, String)> {
        let found = self.after.iter().find(|condition| condition.type_ == type_.as_str())?;
        Some((Reason::of(&found.reason), found.message.clone()))
    }

    /// The conditions, by type.
    pub fn into_vec(mut self) -> Vec<Condition> {
        self.after.sort_by(|a, b| a.type_.cmp(&b.type_));
        self.after
    }
}

/// A reason as the API accepts it: a word in CamelCase.
pub(super) fn word(reason: &str) -> String {
    let kept: String = reason.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(100).collect();
    let start = kept.trim_start_matches(|c: char| !c.is_ascii_alphabetic());
    if start.is_empty() { "Unknown".to_owned() } else { start.to_owned() }
}

/// A text cut to so many bytes at the most.
pub(super) fn cut(mut text: String, max: usize) -> String {
    if text.len() > max {
        let end = (0..=max - 3).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}
