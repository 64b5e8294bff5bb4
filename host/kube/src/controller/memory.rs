//! What is remembered of a database between passes. Losing it costs a few requests and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::group;
use atomix_decide::objects;
use atomix_decide::pass::{Observed, Pass};
use atomix_decide::plan_churn::PlanChurn;
use atomix_decide::status::{Course, LastWritten};
use atomix_model::crd::Database;
use atomix_model::fault::Fault;
use atomix_model::limits;

/// Of one database.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// What applying needs.
    pub(super) applied: objects::Memory,
    /// The plugin's last failures, newest first: with the class as it is, with it as it was last taken, and of the revision before.
    failing: Vec<Failing>,
    /// The class that the plugin was asked about last whether it accepts it, and did.
    pub(super) validated: Option<Stamp>,
    /// What its class means as a group: the plugin's last answer.
    pub(super) group: Option<super::group::CachedGroup>,
    /// The status as last written, until the watch brings it.
    pub(super) status: Option<LastWritten>,
    /// When the status was last written.
    pub(super) status_written: Option<Instant>,
    /// When each partition's status was last written.
    pub(super) partitions_written: BTreeMap<u32, Instant>,
    /// How its partitions have gone, by id.
    pub(super) courses: BTreeMap<u32, Course>,
    /// How all of them together have.
    pub(super) course: Course,
    /// How often its plan has changed although nothing was edited.
    pub(super) changes: PlanChurn,
    /// Tries that failed in a row.
    tries: u32,
}

/// What a call of a plugin depends on. With another stamp it is called at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Digest of the plugin.
    pub(super) digest: String,
    /// Generation of the database.
    pub(super) database: i64,
    /// UID and generation of its class.
    pub(super) class: (String, i64),
}

impl Stamp {
    /// The stamp once it is known what a plan may depend on.
    pub(super) fn of(observed: &Observed) -> Stamp {
        Stamp {
            digest: observed.resolved.plugin.digest.clone(),
            database: observed.resolved.start.generation,
            class: observed.planned_from.clone(),
        }
    }
}

/// A plugin that failed for a database.
#[derive(Clone, Debug)]
pub(super) struct Failing {
    stamp: Stamp,
    fault: Fault,
    times: u32,
    until: Instant,
}

impl Failing {
    /// The failure, if it is too early for the same call.
    fn still(&self, stamp: &Stamp, now: Instant) -> Option<Fault> {
        (self.stamp == *stamp && now < self.until).then(|| self.fault.clone())
    }

    /// One more failure, with a longer pause if it is the same plugin and the same database.
    fn again(before: Option<Failing>, stamp: Stamp, fault: Fault, now: Instant) -> Failing {
        let times = before.filter(|failing| failing.stamp == stamp).map_or(0, |failing| failing.times + 1);
        Failing { stamp, fault, times, until: now + pause(times, limits::PLUGIN_RETRY_AFTER_MAX) }
    }
}

impl Memory {
    /// Shows the status as last written, if the watch has not brought it yet; forgets it if it has.
    pub(super) fn refresh(&mut self, database: &mut Database) {
        self.status = self.status.take().filter(|written| written.refresh(database));
    }

    /// The newest resourceVersion that is known of the database.
    pub(super) fn newest(&self, database: &Database) -> String {
        match &self.status {
            Some(written) => written.newest(database),
            None => database.metadata.resource_version.clone().unwrap_or_default(),
        }
    }

    /// Records the results of a pass.
    pub(super) fn record(&mut self, pass: &Pass) {
        if let Some(planned) = pass.stage.planned() {
            (self.course, self.courses) = (planned.health.course, planned.health.courses.clone());
            self.group = group::CachedGroup::of(planned);
        }
    }

    /// The failure of a call of the plugin, if it is too early for the same call.
    pub(super) fn still_failing(&self, stamp: &Stamp, now: Instant) -> Option<Fault> {
        self.failing.iter().find_map(|failing| failing.still(stamp, now))
    }

    /// Records the answer of a call of the plugin: the fault, if it failed.
    pub(super) fn called(&mut self, stamp: Stamp, fault: Option<&Fault>, now: Instant) {
        let (before, others): (Vec<_>, Vec<_>) = self.failing.drain(..).partition(|failing| failing.stamp == stamp);
        if let Some(fault @ Fault::Plugin { .. }) = fault {
            self.failing.push(Failing::again(before.into_iter().next(), stamp, fault.clone(), now));
        }
        self.failing.extend(others.into_iter().take(2));
    }

    /// When something that had to wait may go on, or is no longer reported.
    pub(super) fn again(&self, now: Instant) -> Option<Duration> {
        self.changes.again(now).into_iter().chain(self.applied.again(now)).min()
    }

    /// When what failed is tried again.
    pub(super) fn retry(&mut self, pass: &Pass, now: Instant) -> Option<Duration> {
        if !pass.faults().any(Fault::retried) {
            self.tries = 0;
            return None;
        }
        let only_plugin = pass.faults().all(|fault| matches!(fault, Fault::Plugin { .. }));
        let until = self.failing.iter().map(|failing| failing.until).filter(|until| only_plugin && *until > now);
        if let Some(until) = until.min() {
            return Some(until.saturating_duration_since(now));
        }
        self.tries = self.tries.saturating_add(1);
        Some(pause(self.tries - 1, limits::RETRY_AFTER_MAX))
    }
}

fn pause(times: u32, max: Duration) -> Duration {
    limits::RETRY_AFTER_MIN.saturating_mul(2_u32.saturating_pow(times)).min(max)
}

/// Of all databases, by UID.
#[derive(Default)]
pub struct Memories(Mutex<HashMap<String, Arc<tokio::sync::Mutex<Memory>>>>);

impl Memories {
    /// The memory of one database.
    pub(super) fn of(&self, uid: &str) -> Arc<tokio::sync::Mutex<Memory>> {
        let mut memories = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        memories.entry(uid.to_owned()).or_default().clone()
    }

    /// Forgets all databases but those of these UIDs.
    pub(super) fn retain(&self, is_there: impl Fn(&str) -> bool) {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).retain(|uid, _| is_there(uid));
    }

    /// Forgets a database that is gone.
    pub fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_that_keeps_failing_is_called_less_and_less_and_an_edit_calls_it_at_once() {
        let (now, fault) = (Instant::now(), Fault::Plugin { message: "it trapped".into() });
        let stamp = Stamp { digest: "digest".to_owned(), database: 1, class: ("uid".to_owned(), 1) };
        let first = Failing::again(None, stamp.clone(), fault.clone(), now);
        let second = Failing::again(Some(first.clone()), stamp.clone(), fault.clone(), now);
        assert!(second.until > first.until);
        assert!(second.still(&stamp, now).is_some());
        let others = [
            Stamp { digest: "other".to_owned(), ..stamp.clone() },
            Stamp { database: 2, ..stamp.clone() },
            Stamp { class: ("uid".to_owned(), 2), ..stamp.clone() },
            Stamp { class: ("other".to_owned(), 1), ..stamp },
        ];
        for other in others {
            assert!(second.still(&other, now).is_none(), "{other:?} is another question");
        }
        assert!(pause(40, limits::RETRY_AFTER_MAX) == limits::RETRY_AFTER_MAX);
    }

    #[test]
    fn a_plugin_that_fails_on_a_class_and_on_the_one_before_waits_with_both() {
        let (now, fault) = (Instant::now(), Fault::Plugin { message: "it trapped".into() });
        let stamp = |generation| Stamp { digest: "d".to_owned(), database: 1, class: ("uid".to_owned(), generation) };
        let mut memory = Memory::default();
        for _ in 0..3 {
            memory.called(stamp(2), Some(&fault), now);
            memory.called(stamp(1), Some(&fault), now);
        }
        assert!([1, 2].iter().all(|generation| memory.still_failing(&stamp(*generation), now).is_some()));
        assert!(memory.failing.iter().all(|failing| failing.times == 2), "{:?}", memory.failing);
        memory.called(stamp(1), None, now);
        assert_eq!((memory.failing.len(), memory.still_failing(&stamp(1), now)), (1, None));
        memory.called(stamp(3), Some(&fault), now);
        memory.called(stamp(4), Some(&fault), now);
        memory.called(stamp(5), Some(&fault), now);
        assert_eq!(memory.failing.len(), 3, "no more than three are remembered");
    }
}
