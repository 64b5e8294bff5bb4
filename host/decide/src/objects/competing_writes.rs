//! Competing writes: an autoscaler, an injector or a second controller changes what we write. Each repair is answered by another edit, so
//! repairs are made less and less often, and the other field manager is named.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::backoff::Backoff;
use crate::admission::Stamped;
use crate::diff::check_applied;
use atomix_model::names;
use atomix_model::object::{Kind, Live};

/// How often the same manifest was written, and what was found changed.
#[derive(Clone, Debug)]
pub struct CompetingWrites {
    hash: String,
    /// None before the first write.
    backoff: Option<Backoff>,
    /// What was changed last, and by whom.
    found: String,
}

impl CompetingWrites {
    /// The row that goes on if this manifest is written now.
    pub fn continued(before: Option<CompetingWrites>, hash: &str, now: Instant) -> CompetingWrites {
        let same =
            before.filter(|writes| writes.hash == hash && writes.backoff.is_some_and(|backoff| backoff.is_active(now)));
        same.unwrap_or_else(|| CompetingWrites { hash: hash.to_owned(), backoff: None, found: String::new() })
    }

    /// Whether it is too early to write the same again.
    pub fn must_wait(&self, now: Instant) -> bool {
        self.backoff.is_some_and(|backoff| backoff.delay(now).is_some())
    }

    /// The row with one more write.
    pub fn written(self, now: Instant) -> CompetingWrites {
        let backoff = self.backoff.map_or_else(|| Backoff::start(now), |backoff| backoff.repeat(now));
        CompetingWrites { backoff: Some(backoff), ..self }
    }

    /// How long from now until the object is to be looked at again.
    pub fn next_check(&self, now: Instant) -> Option<Duration> {
        let backoff = self.backoff?;
        backoff.delay(now).or_else(|| backoff.reported_for(now))
    }

    /// The message for users, once the row is long enough to be reported.
    pub fn message(&self, kind: &Kind, name: &str, now: Instant) -> Option<String> {
        self.backoff?.reported_for(now)?;
        let found = &self.found;
        Some(format!(
            "{} {name} is changed again and again, and set back less and less often: {found}; let only one of the two write it",
            kind.kind
        ))
    }

    /// Whether the message comes with the next write: then the other field manager should be looked up.
    pub fn is_nearly_reported(&self) -> bool {
        self.backoff.is_some_and(Backoff::is_nearly_reported)
    }

    /// The row with the field that was found changed, and by whom as far as `metadata.managedFields` records it.
    pub fn with_competitor(self, object: &Stamped, live: Option<&Live>, managed_fields: &Value) -> CompetingWrites {
        let Some(live) = live else { return CompetingWrites { found: "it is deleted".to_owned(), ..self } };
        let Err(difference) = check_applied(&object.manifest, &live.body) else {
            return CompetingWrites { found: format!("its annotation {} is removed or changed", names::HASH), ..self };
        };
        let others = managers_of(managed_fields, &difference.path);
        let writer = match others.as_slice() {
            [] => "somebody who leaves no name, or another controller of ours".to_owned(),
            others => format!("field manager {}", others.join(", ")),
        };
        CompetingWrites { found: format!("{} is not as planned, by {writer}", difference.path), ..self }
    }
}

/// Names of the managers, without ours, that own the field at a path or something in it (`metadata.managedFields`, whose `fieldsV1`
/// holds an entry `f:<name>` for each field). A path is followed up to its first list.
fn managers_of(managed_fields: &Value, path: &str) -> Vec<String> {
    let plain = path.split('[').next().unwrap_or_default();
    let owns = |entry: &&Value| {
        let mut at = &entry["fieldsV1"];
        plain.split('.').filter(|step| !step.is_empty()).enumerate().all(|(depth, step)| {
            if depth > 0 && at.as_object().is_some_and(|fields| fields.is_empty()) {
                return true; // it is owned as a whole, as an atomic map is, e.g. a selector
            }
            at = &at[format!("f:{step}").as_str()];
            !at.is_null()
        })
    };
    let entries = managed_fields.as_array().into_iter().flatten();
    let named = entries.filter(owns).filter_map(|entry| entry["manager"].as_str());
    let mut names: Vec<_> = named.filter(|name| *name != names::MANAGER).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use atomix_model::limits;

    #[test]
    fn the_manager_that_owns_the_field_is_named_and_no_other() {
        let fields = json!([
            {"manager": names::MANAGER, "fieldsV1": {"f:spec": {"f:template": {}}}},
            {"manager": "scaler", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
            {"manager": "injector", "fieldsV1": {"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"node\"}": {}}}}}}},
            {"manager": "kube-controller-manager", "fieldsV1": {"f:status": {}}},
        ]);
        assert_eq!(managers_of(&fields, "spec.replicas"), ["scaler"]);
        assert_eq!(managers_of(&fields, "spec.template.spec.containers[name=node].image"), ["injector"]);
        assert!(managers_of(&fields, "spec.selector.cluster").is_empty());
        let atomic = json!([{"manager": "rewriter", "fieldsV1": {"f:spec": {"f:selector": {}}}}]);
        assert_eq!(managers_of(&atomic, "spec.selector.cluster"), ["rewriter"]);
        assert!(managers_of(&atomic, "spec.ports[port=80].port").is_empty());
        assert!(managers_of(&Value::Null, "spec.replicas").is_empty());
    }

    #[test]
    fn only_the_same_manifest_again_is_a_competing_write() {
        let mut now = Instant::now();
        let mut writes = None;
        for _ in 0..=limits::REPEATS_WITHOUT_DELAY {
            let next = CompetingWrites::continued(writes, "a", now);
            assert!(!next.must_wait(now));
            writes = Some(next.written(now));
        }
        assert!(CompetingWrites::continued(writes.clone(), "a", now).must_wait(now));
        assert!(!CompetingWrites::continued(writes.clone(), "b", now).must_wait(now), "another plan is written at once");
        assert!(writes.as_ref().unwrap().message(&Kind::default(), "x", now).is_some());
        now += limits::REPEAT_RESET_AFTER;
        assert!(writes.unwrap().message(&Kind::default(), "x", now).is_none());
    }
}
