//! What is remembered of a database between passes. Losing it costs a few requests and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kube::ResourceExt;

use crate::apply;
use crate::crd::{Database, DatabaseStatus};
use crate::fault::Fault;
use crate::limits;

/// Of one database.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// What applying needs.
    pub(super) applied: apply::Memory,
    /// The plugin's last failure.
    pub(super) failing: Option<Failing>,
    /// What its class means as a group, as the plugin said last.
    pub(super) group: Option<super::group::Told>,
    /// The status as last written, and the resourceVersion that it got.
    pub(super) status: Option<(u64, DatabaseStatus)>,
    /// When the status was last written.
    pub(super) status_written: Option<Instant>,
    /// When each partition's status was last written.
    pub(super) partitions_written: BTreeMap<u32, Instant>,
    /// Tries that failed in a row.
    tries: u32,
}

/// A plugin that failed for a database.
#[derive(Clone, Debug)]
pub(super) struct Failing {
    /// Digest of the plugin and generation of the database.
    stamp: (String, i64),
    fault: Fault,
    times: u32,
    until: Instant,
}

impl Failing {
    /// The failure, if the same would be asked again too early.
    pub(super) fn still(&self, stamp: &(String, i64), now: Instant) -> Option<Fault> {
        (self.stamp == *stamp && now < self.until).then(|| self.fault.clone())
    }

    /// One more failure, with a longer pause if it is the same plugin and the same database.
    pub(super) fn again(before: Option<Failing>, stamp: (String, i64), fault: Fault, now: Instant) -> Failing {
        let times = before.filter(|failing| failing.stamp == stamp).map_or(0, |failing| failing.times + 1);
        Failing { stamp, fault, times, until: now + pause(times, limits::PLUGIN_RETRY_AFTER_MAX) }
    }
}

impl Memory {
    /// Shows the status as last written, if the watch has not brought it yet.
    pub(super) fn refresh(&self, database: &mut Database) {
        let version = database.resource_version().and_then(|version| version.parse().ok()).unwrap_or(0);
        if let Some((written, status)) = &self.status
            && *written > version
        {
            database.status = Some(status.clone());
        }
    }

    /// When what failed is tried again.
    pub(super) fn retry(&mut self, faults: &[Fault], now: Instant) -> Option<Duration> {
        if !faults.iter().any(Fault::retried) {
            self.tries = 0;
            return None;
        }
        let plugin = self.failing.as_ref().filter(|_| faults.iter().all(|fault| matches!(fault, Fault::Plugin { .. })));
        if let Some(failing) = plugin {
            return Some(failing.until.saturating_duration_since(now));
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

    /// Forgets a database that is gone.
    pub fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_that_keeps_failing_is_asked_less_and_less_and_an_edit_asks_at_once() {
        let (now, fault) = (Instant::now(), Fault::Plugin { message: "it trapped".into() });
        let stamp = ("digest".to_owned(), 1);
        let first = Failing::again(None, stamp.clone(), fault.clone(), now);
        let second = Failing::again(Some(first.clone()), stamp.clone(), fault.clone(), now);
        assert!(second.until > first.until);
        assert!(second.still(&stamp, now).is_some());
        assert!(second.still(&("digest".to_owned(), 2), now).is_none(), "another generation is another question");
        assert!(pause(40, limits::RETRY_AFTER_MAX) == limits::RETRY_AFTER_MAX);
    }
}
