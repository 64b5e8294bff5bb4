//! Joins that were refused a moment ago, so that a client that tries again and again costs the API server nothing. What was
//! accepted is not remembered: a Pod may be made anew under its name. Knows no Pod.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Instant;

use parking_lot::Mutex;
use tonic::Status;

use atomix_model::limits;

/// The refused caller: namespace and name of the Pod, and where the call came from.
pub(super) type Caller = (String, String, Option<IpAddr>);

/// A refusal, since when it is kept, and how often the Pod was looked up since then.
struct Refusal {
    status: Status,
    since: Instant,
    looks: u32,
}

/// Refusals, each kept for [`limits::JOIN_REFUSAL_KEPT`].
#[derive(Default)]
pub(super) struct RefusedJoins(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    refusals: HashMap<Caller, Refusal>,
    /// In the order in which they came.
    order: VecDeque<Caller>,
}

impl RefusedJoins {
    /// The refusal of a moment ago, once it was found often enough not to be looked up again.
    pub(super) fn recent(&self, caller: &Caller, now: Instant) -> Option<Status> {
        let mut kept = self.0.lock();
        kept.forget(now);
        kept.refusals
            .get(caller)
            .filter(|refusal| refusal.looks >= limits::JOIN_LOOKS_MAX)
            .map(|refusal| refusal.status.clone())
    }

    /// Records a refusal that is answered now.
    pub(super) fn record(&self, caller: Caller, status: &Status, now: Instant) {
        let mut kept = self.0.lock();
        kept.forget(now);
        if let Some(refusal) = kept.refusals.get_mut(&caller) {
            refusal.looks += 1;
            return;
        }
        if kept.refusals.len() >= limits::JOIN_REFUSALS_MAX {
            kept.drop_first();
        }
        kept.order.push_back(caller.clone());
        kept.refusals.insert(caller, Refusal { status: status.clone(), since: now, looks: 1 });
    }
}

impl Kept {
    fn forget(&mut self, now: Instant) {
        while let Some(first) = self.order.front() {
            let since = self.refusals.get(first).map(|refusal| refusal.since);
            if since.is_some_and(|since| now < since + limits::JOIN_REFUSAL_KEPT) {
                return;
            }
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some(first) = self.order.pop_front() {
            self.refusals.remove(&first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn caller(name: &str) -> Caller {
        ("n".to_owned(), name.to_owned(), None)
    }

    #[test]
    fn a_refusal_is_repeated_for_a_moment_and_there_are_never_too_many() {
        let (joins, start) = (RefusedJoins::default(), Instant::now());
        for _ in 0..limits::JOIN_LOOKS_MAX {
            assert!(joins.recent(&caller("a"), start).is_none(), "a caller that tries now and then is always looked up");
            joins.record(caller("a"), &Status::not_found("there is none"), start);
        }
        let soon = start + limits::JOIN_REFUSAL_KEPT - Duration::from_millis(1);
        assert_eq!(joins.recent(&caller("a"), soon).map(|status| status.code()), Some(tonic::Code::NotFound));
        assert!(joins.recent(&caller("b"), soon).is_none());
        joins.record(caller("a"), &Status::not_found("still none"), soon);
        assert!(joins.recent(&caller("a"), start + limits::JOIN_REFUSAL_KEPT).is_none(), "another try does not renew it");
        for at in 0..10_000 {
            (0..limits::JOIN_LOOKS_MAX)
                .for_each(|_| joins.record(caller(&format!("p{at}")), &Status::not_found("none"), start));
        }
        let count = |joins: &RefusedJoins| {
            let kept = joins.0.lock();
            (kept.refusals.len(), kept.order.len())
        };
        assert_eq!(count(&joins), (limits::JOIN_REFUSALS_MAX, limits::JOIN_REFUSALS_MAX));
        assert!(joins.recent(&caller("p9999"), start).is_some() && joins.recent(&caller("p0"), start).is_none());
        assert!(joins.recent(&caller("p9999"), start + limits::JOIN_REFUSAL_KEPT).is_none());
        assert_eq!(count(&joins), (0, 0));
    }
}
