//! Joins that were refused a moment ago, so that asking again and again costs the API server nothing. What was taken is not
//! remembered: a Pod may be made anew under its name. Knows no Pod.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Instant;

use parking_lot::Mutex;
use tonic::Status;

use atomix_model::limits;

/// Who was refused: namespace and name of the Pod, and where the call came from.
pub(super) type Caller = (String, String, Option<IpAddr>);

/// A refusal, since when it is kept, and how often the Pod was looked up since then.
struct Refusal {
    status: Status,
    since: Instant,
    looks: u32,
}

/// RefusedJoins, until a while after each.
#[derive(Default)]
pub(super) struct RefusedJoins(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    told: HashMap<Caller, Refusal>,
    /// In the order in which they came.
    order: VecDeque<Caller>,
}

impl RefusedJoins {
    /// The refusal of a moment ago, once it was found often enough not to be looked up again.
    pub(super) fn recent(&self, who: &Caller, now: Instant) -> Option<Status> {
        let mut kept = self.0.lock();
        kept.forget(now);
        kept.told.get(who).filter(|told| told.looks >= limits::JOIN_LOOKS_MAX).map(|told| told.status.clone())
    }

    /// Records a refusal that is answered now.
    pub(super) fn record(&self, who: Caller, status: &Status, now: Instant) {
        let mut kept = self.0.lock();
        kept.forget(now);
        if let Some(told) = kept.told.get_mut(&who) {
            told.looks += 1;
            return;
        }
        if kept.told.len() >= limits::JOIN_REFUSALS_MAX {
            kept.drop_first();
        }
        kept.order.push_back(who.clone());
        kept.told.insert(who, Refusal { status: status.clone(), since: now, looks: 1 });
    }
}

impl Kept {
    fn forget(&mut self, now: Instant) {
        while let Some(first) = self.order.front() {
            let since = self.told.get(first).map(|told| told.since);
            if since.is_some_and(|since| now < since + limits::JOIN_REFUSAL_KEPT) {
                return;
            }
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some(first) = self.order.pop_front() {
            self.told.remove(&first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn who(name: &str) -> Caller {
        ("n".to_owned(), name.to_owned(), None)
    }

    #[test]
    fn a_refusal_is_told_again_for_a_moment_and_there_are_never_too_many() {
        let (joins, start) = (RefusedJoins::default(), Instant::now());
        for _ in 0..limits::JOIN_LOOKS_MAX {
            assert!(joins.recent(&who("a"), start).is_none(), "who asks now and then is always looked up");
            joins.record(who("a"), &Status::not_found("there is none"), start);
        }
        let soon = start + limits::JOIN_REFUSAL_KEPT - Duration::from_millis(1);
        assert_eq!(joins.recent(&who("a"), soon).map(|status| status.code()), Some(tonic::Code::NotFound));
        assert!(joins.recent(&who("b"), soon).is_none());
        joins.record(who("a"), &Status::not_found("still none"), soon);
        assert!(joins.recent(&who("a"), start + limits::JOIN_REFUSAL_KEPT).is_none(), "being asked does not renew it");
        for at in 0..10_000 {
            (0..limits::JOIN_LOOKS_MAX)
                .for_each(|_| joins.record(who(&format!("p{at}")), &Status::not_found("none"), start));
        }
        let count = |joins: &RefusedJoins| {
            let kept = joins.0.lock();
            (kept.told.len(), kept.order.len())
        };
        assert_eq!(count(&joins), (limits::JOIN_REFUSALS_MAX, limits::JOIN_REFUSALS_MAX));
        assert!(joins.recent(&who("p9999"), start).is_some() && joins.recent(&who("p0"), start).is_none());
        assert!(joins.recent(&who("p9999"), start + limits::JOIN_REFUSAL_KEPT).is_none());
        assert_eq!(count(&joins), (0, 0));
    }
}
