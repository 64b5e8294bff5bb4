//! Which replicas there are, and which are dead: from their Leases and from when each renewal was seen. Plain data; time is
//! an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use super::{Moment, promised};
use atomix_model::limits;

/// All replicas that were seen, this one among them.
#[derive(Clone, Debug, PartialEq)]
pub struct Replicas {
    own: String,
    /// When all Leases were listed for the first time.
    listed: Option<Moment>,
    known: BTreeMap<String, Replica>,
}

/// What is known of one replica.
#[derive(Clone, Debug, PartialEq)]
pub struct Replica {
    /// When we saw its last renewal, or saw its Lease go.
    pub seen: Moment,
    /// Its Lease, while it is there.
    pub lease: Option<Held>,
}

/// What was last seen of the Lease of a replica.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // its fields explain themselves
pub struct Held {
    pub name: String,
    /// Its resourceVersion: a deletion is refused if it has changed since.
    pub version: Option<String>,
    /// How long after a renewal it runs out.
    pub lasts: Duration,
    renewed: Option<Timestamp>,
}

impl Replicas {
    /// As a replica starts: it has seen no other.
    pub fn new(own: &str) -> Replicas {
        Replicas { own: own.to_owned(), listed: None, known: BTreeMap::new() }
    }

    /// Replicas by identity, dead ones too.
    pub fn known(&self) -> &BTreeMap<String, Replica> {
        &self.known
    }

    /// Which of these replicas have been dead for at least `grace`: their Lease ran out, was deleted, or has not been there
    /// since we began to look. None while this replica does not see its own renewals: then its watch is what fails. `grace`
    /// is at most [`limits::REPLICA_KEPT`], for so long the end of a replica is remembered.
    pub fn dead<'a>(
        &self,
        identities: impl IntoIterator<Item = &'a str>,
        grace: Duration,
        now: Moment,
    ) -> BTreeSet<&'a str> {
        let (true, Some(listed)) = (self.sees(now), self.listed) else { return BTreeSet::new() };
        let since = |identity: &str| self.known.get(identity).map_or(listed, Replica::ends);
        identities.into_iter().filter(|identity| since(identity) + grace <= now).collect()
    }

    /// Leases of replicas that have been dead for so long that nothing reads them any more.
    pub(super) fn forgotten(&self, now: Moment) -> Vec<Held> {
        let dead = self.dead(self.known.keys().map(String::as_str), limits::REPLICA_KEPT, now);
        dead.into_iter().filter_map(|identity| self.known.get(identity)?.lease.clone()).collect()
    }

    /// Records a Lease that came or changed.
    pub(super) fn see(&mut self, lease: &Lease, now: Moment) {
        let (identity, held) = held(lease);
        let same = |known: &&Replica| known.lease.as_ref().is_some_and(|known| known.renewed == held.renewed);
        let seen = self.known.get(&identity).filter(same).map_or(now, |known| known.seen);
        self.known.insert(identity, Replica { seen, lease: Some(held) });
    }

    /// Records that a Lease was deleted.
    pub(super) fn lose(&mut self, lease: &Lease, now: Moment) {
        self.known.insert(held(lease).0, Replica { seen: now, lease: None });
    }

    /// Records all Leases that there are.
    pub(super) fn list(&mut self, leases: &[Lease], now: Moment) {
        let there: BTreeSet<String> = leases.iter().map(|lease| held(lease).0).collect();
        for (identity, replica) in &mut self.known {
            if replica.lease.is_some() && !there.contains(identity) {
                *replica = Replica { seen: now, lease: None };
            }
        }
        leases.iter().for_each(|lease| self.see(lease, now));
        self.listed = self.listed.or(Some(now));
    }

    /// Drops what is remembered of replicas without a Lease after a while, so that memory is bounded by what there is.
    pub(super) fn forget(&mut self, now: Moment) {
        self.known.retain(|_, replica| replica.lease.is_some() || now < replica.seen + limits::REPLICA_KEPT);
    }

    fn sees(&self, now: Moment) -> bool {
        self.known.get(&self.own).is_some_and(|own| own.lease.is_some() && now < own.ends())
    }
}

impl Replica {
    /// When it counts, or counted, as dead unless it renews its Lease.
    fn ends(&self) -> Moment {
        self.seen + self.lease.as_ref().map_or(Duration::ZERO, |held| held.lasts)
    }
}

fn held(lease: &Lease) -> (String, Held) {
    let spec = lease.spec.as_ref();
    let identity = spec.and_then(|spec| spec.holder_identity.clone()).unwrap_or_else(|| lease.name_any());
    let renewed = spec.and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0);
    (identity, Held { name: lease.name_any(), version: lease.resource_version(), lasts: promised(lease), renewed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::coordination::v1::LeaseSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

    fn lease(identity: &str, renewed: i64) -> Lease {
        Lease {
            metadata: ObjectMeta { name: Some(format!("c-{identity}")), ..ObjectMeta::default() },
            spec: Some(LeaseSpec {
                holder_identity: Some(identity.into()),
                lease_duration_seconds: Some(15),
                renew_time: Some(MicroTime(Timestamp::from_second(renewed).unwrap())),
                ..LeaseSpec::default()
            }),
        }
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_replica_is_dead_when_its_lease_ran_out_by_our_clock_and_the_grace_is_over() {
        let (start, mut replicas) = (Moment::now(), Replicas::new("a"));
        replicas.list(&[lease("a", 0), lease("b", -9999), lease("c", 9999)], start); // their clocks are off: no matter
        let all = ["a", "b", "c"];
        for second in 1..100 {
            let now = start + secs(second);
            replicas.see(&lease("a", second as i64), now);
            if second < 50 {
                replicas.see(&lease("b", second as i64 - 9999), now);
            }
            replicas.see(&lease("c", 9999), now); // seen again without a renewal: a label was edited
            let dead = replicas.dead(all, secs(20), now);
            assert_eq!(dead.contains("c"), second >= 35, "{second} s");
            assert_eq!(dead.contains("b"), second >= 49 + 35, "{second} s");
            assert!(!dead.contains("a"));
        }
    }

    #[test]
    fn a_deleted_lease_counts_at_once_and_one_never_seen_from_when_we_looked() {
        let (start, mut replicas) = (Moment::now(), Replicas::new("a"));
        assert!(replicas.dead(["x"], Duration::ZERO, start).is_empty(), "nothing is known before the first list");
        replicas.list(&[lease("a", 0), lease("b", 0), lease("c", 0)], start);
        replicas.lose(&lease("b", 0), start + secs(4));
        replicas.list(&[lease("a", 5)], start + secs(5));
        let at =
            |second| replicas.dead(["a", "b", "c", "x"], secs(10), start + secs(second)).into_iter().collect::<Vec<_>>();
        assert_eq!(at(9), Vec::<&str>::new());
        assert_eq!(at(10), ["x"]);
        assert_eq!(at(14), ["b", "x"]);
        assert_eq!(at(15), ["b", "c", "x"]);
    }

    #[test]
    fn a_replica_that_does_not_see_its_own_renewals_counts_none_as_dead() {
        let (start, mut replicas) = (Moment::now(), Replicas::new("a"));
        replicas.list(&[lease("a", 0), lease("b", 0)], start);
        assert!(replicas.dead(["b"], Duration::ZERO, start + secs(60)).is_empty());
        replicas.see(&lease("b", 60), start + secs(60)); // what was missed comes in order
        replicas.see(&lease("a", 61), start + secs(60));
        assert!(replicas.dead(["b"], Duration::ZERO, start + secs(60)).is_empty());
    }

    #[test]
    fn what_is_not_read_any_more_is_removed_and_forgotten() {
        let (start, mut replicas) = (Moment::now(), Replicas::new("a"));
        replicas.list(&[lease("a", 0), lease("b", 0), lease("c", 0)], start);
        replicas.lose(&lease("c", 0), start);
        let later = start + limits::REPLICA_KEPT + secs(14);
        replicas.see(&lease("a", 1), later);
        assert!(replicas.forgotten(later).is_empty(), "its lease ran out less than an hour ago");
        let later = later + secs(1);
        assert_eq!(replicas.forgotten(later).into_iter().map(|held| held.name).collect::<Vec<_>>(), ["c-b"]);
        replicas.forget(later);
        assert_eq!(replicas.known().keys().collect::<Vec<_>>(), ["a", "b"]);
    }
}
