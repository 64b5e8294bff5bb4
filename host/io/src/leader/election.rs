//! Which replica may lead, decided from the Lease and from when each of its versions was seen. Plain data: time is an
//! argument, and no clock counts but our own.

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use super::{Moment, promised};
use atomix_model::limits;

/// What one replica has seen of the Lease.
#[derive(Clone, Debug)]
pub struct Election {
    identity: String,
    name: String,
    sight: Sight,
    /// When the last renewal that succeeded was begun, if this replica holds the Lease.
    renewed: Option<Moment>,
    /// When a write that failed may be tried again.
    again: Option<Moment>,
    /// The newest version of a Lease that was seen.
    newest: u64,
}

/// The next step of this replica in the election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Read the Lease first: this process stood still for a while, and what was seen of it may be long over.
    Look,
    /// Write [`Election::wanted`].
    Write,
    /// Nothing until the Lease changes, or until then.
    Wait(Option<Moment>),
}

#[derive(Clone, Debug)]
enum Sight {
    /// The Lease has not been read yet.
    Unknown,
    /// Seen, and unchanged in holder and renewal since.
    There { lease: Box<Lease>, since: Moment },
    /// Not there. `free` if no other replica can take itself for the leader.
    Gone { free: bool, since: Moment },
}

impl Election {
    /// Of a replica that has seen nothing yet.
    pub fn new(identity: &str, name: &str) -> Election {
        let (identity, name) = (identity.to_owned(), name.to_owned());
        Election { identity, name, sight: Sight::Unknown, renewed: None, again: None, newest: 0 }
    }

    /// The identity under which this replica holds the Lease.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Identity of the holder of the Lease; empty if it has none.
    pub fn holder(&self) -> &str {
        match &self.sight {
            Sight::There { lease, .. } => holder(lease),
            Sight::Unknown | Sight::Gone { .. } => "",
        }
    }

    /// Records the Lease as it is, or that it is not there. A version older than the newest seen is ignored.
    pub fn see(&mut self, found: Option<Lease>, now: Moment) {
        let Some(lease) = found else {
            let free = match &self.sight {
                // Its holder may have lost it since: only the leader can rule out another one.
                Sight::There { .. } => self.leads_until(now).is_some(),
                Sight::Gone { .. } => return,
                Sight::Unknown => true,
            };
            self.sight = Sight::Gone { free, since: now };
            return;
        };
        self.newest = self.newest.max(version(&lease).unwrap_or_default());
        let mut since = now;
        if let Sight::There { lease: known, since: before } = &self.sight {
            if known.uid() == lease.uid() && version(known) > version(&lease) {
                return;
            }
            if holder(known) == holder(&lease) && renewal(known) == renewal(&lease) {
                since = *before;
            }
        }
        if holder(&lease) != self.identity {
            self.renewed = None;
        }
        self.sight = Sight::There { lease: Box::new(lease), since };
    }

    /// Whether an answer of the API server is older than what it answered before: its store was brought back from a backup. A request
    /// without a resourceVersion is answered from the store itself, so that no answer is late by nature.
    pub fn is_of_the_past(&self, answer: Option<&Lease>) -> bool {
        answer.and_then(version).is_some_and(|version| version < self.newest)
    }

    /// The API server took what we wrote; the request was begun at `began`.
    pub fn written(&mut self, lease: Lease, began: Moment, now: Moment) {
        self.see(Some(lease), now);
        if self.holder() == self.identity {
            (self.renewed, self.again) = (Some(began), None);
        }
    }

    /// We were away for a while, and then looked: others had no time to renew that we could have seen. What others hold counts from
    /// now, and what we hold as far as we renewed it.
    pub fn away(&mut self, now: Moment) {
        if let Sight::There { since, .. } | Sight::Gone { since, .. } = &mut self.sight {
            *since = now;
        }
        if self.leads_until(now).is_none() {
            self.renewed = None;
        }
    }

    /// A write of the Lease failed: it is tried again after a pause.
    pub fn failed(&mut self, now: Moment) {
        self.again = Some(now + limits::LEASE_AGAIN_AFTER);
    }

    /// Until when we lead, if we do. Others wait longer than that from any moment at which they can have seen the renewal.
    pub fn leads_until(&self, now: Moment) -> Option<Moment> {
        let until = self.renewed? + (limits::LEASE_LASTS - limits::LEASE_MARGIN);
        (now < until).then_some(until)
    }

    /// Decides the next step at this moment.
    pub fn next(&self, now: Moment) -> Next {
        let leads_until = self.leads_until(now);
        let due = match &self.sight {
            Sight::Unknown => return Next::Wait(None),
            Sight::There { lease, .. } if holder(lease) == self.identity => match self.renewed.and(leads_until) {
                Some(until) => until - (limits::LEASE_LASTS - limits::LEASE_MARGIN) + limits::LEASE_RENEWED_EVERY,
                None => now, // ours from before a restart, or run out: no other replica took it
            },
            Sight::There { lease, since } if !holder(lease).is_empty() => *since + promised(lease),
            Sight::Gone { free: false, since } => *since + limits::LEASE_LASTS_MAX,
            Sight::There { .. } | Sight::Gone { .. } => now,
        };
        let due = self.again.map_or(due, |again| due.max(again));
        if due <= now { Next::Write } else { Next::Wait(Some(leads_until.map_or(due, |until| due.min(until)))) }
    }

    /// Whether the next write takes the Lease from another replica, or after it.
    pub fn takes_over(&self) -> bool {
        matches!(&self.sight, Sight::There { lease, .. } if holder(lease) != self.identity)
    }

    /// The Lease with this replica as its holder: with the version that was seen, so that it can only replace that one.
    /// `clock` is for people; nothing is decided by it.
    pub fn wanted(&self, clock: Timestamp) -> Lease {
        let mut lease = match &self.sight {
            Sight::There { lease, .. } => (**lease).clone(),
            Sight::Unknown | Sight::Gone { .. } => Lease {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                spec: Some(LeaseSpec { lease_transitions: Some(-1), ..LeaseSpec::default() }), // counts up to none
            },
        };
        let changes = holder(&lease) != self.identity;
        let spec = lease.spec.get_or_insert_default();
        if changes {
            spec.acquire_time = Some(MicroTime(clock));
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
        }
        spec.holder_identity = Some(self.identity.clone());
        spec.lease_duration_seconds = Some(super::lasts_secs());
        spec.renew_time = Some(MicroTime(clock));
        lease
    }

    /// The Lease without a holder, if this replica held it.
    pub fn released(&self, clock: Timestamp) -> Option<Lease> {
        let Sight::There { lease, .. } = &self.sight else { return None };
        let mut lease = (holder(lease) == self.identity).then(|| (**lease).clone())?;
        let spec = lease.spec.get_or_insert_default();
        (spec.holder_identity, spec.renew_time) = (Some(String::new()), Some(MicroTime(clock)));
        Some(lease)
    }
}

fn holder(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}

fn renewal(lease: &Lease) -> Option<Timestamp> {
    lease.spec.as_ref()?.renew_time.as_ref().map(|time| time.0)
}

fn version(lease: &Lease) -> Option<u64> {
    lease.resource_version().and_then(|version| version.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// The API server: it keeps one Lease, and refuses what replaces another version than the last.
    #[derive(Default)]
    struct Server {
        lease: Option<Lease>,
        version: u64,
    }

    impl Server {
        fn put(&mut self, mut lease: Lease) -> Result<Lease, ()> {
            let known = self.lease.as_ref().and_then(|lease| lease.resource_version());
            if lease.resource_version() != known {
                return Err(());
            }
            self.version += 1;
            lease.metadata.resource_version = Some(self.version.to_string());
            self.lease = Some(lease.clone());
            Ok(lease)
        }
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// Lets a replica do all that is due, its wall clock being `clock` seconds old.
    fn act(replica: &mut Election, server: &mut Server, now: Moment, clock: i64) {
        replica.see(server.lease.clone(), now);
        if replica.next(now) == Next::Write {
            match server.put(replica.wanted(Timestamp::from_second(clock).unwrap())) {
                Ok(lease) => replica.written(lease, now, now),
                Err(()) => replica.failed(now),
            }
        }
    }

    fn two() -> (Server, Election, Election, Moment) {
        (Server::default(), Election::new("a", "l"), Election::new("b", "l"), Moment::now())
    }

    #[test]
    fn the_first_leads_at_once_and_the_second_stands_by_while_the_first_renews() {
        let (mut server, mut a, mut b, start) = two();
        for second in 0..60 {
            let now = start + secs(second);
            act(&mut a, &mut server, now, second as i64);
            act(&mut b, &mut server, now, second as i64);
            assert!(a.leads_until(now).is_some() && b.leads_until(now).is_none(), "after {second} s");
        }
        let renewed = server.version;
        assert!((11..=13).contains(&renewed), "a renewal every five seconds, not {renewed} in a minute");
        assert_eq!(server.lease.unwrap().spec.unwrap().lease_transitions, Some(0));
    }

    #[test]
    fn a_dead_leader_is_followed_when_the_lease_has_run_out_and_never_leads_beside_the_next() {
        for skew in [-86_400, 0, 86_400] {
            let (mut server, mut a, mut b, start) = two();
            act(&mut a, &mut server, start, 0);
            act(&mut b, &mut server, start + secs(1), skew);
            let took = (1..60).find(|second| {
                let now = start + secs(*second);
                act(&mut b, &mut server, now, skew + *second as i64);
                assert!(a.leads_until(now).is_none() || b.leads_until(now).is_none(), "both lead after {second} s");
                b.leads_until(now).is_some()
            });
            assert_eq!(took, Some(16), "fifteen seconds from when it saw the Lease, its clock being off by {skew} s");
            let now = start + secs(17);
            act(&mut a, &mut server, now, 17);
            assert!(a.leads_until(now).is_none(), "the first stands by once it is back");
            assert_eq!((a.holder(), server.lease.unwrap().spec.unwrap().lease_transitions), ("b", Some(1)));
        }
    }

    #[test]
    fn what_is_not_renewed_is_not_led_a_while_before_others_may_take_it() {
        let (mut server, mut a, _, start) = two();
        act(&mut a, &mut server, start, 0);
        let until = a.leads_until(start).unwrap();
        assert_eq!(until - start, limits::LEASE_LASTS - limits::LEASE_MARGIN);
        a.failed(start + secs(5));
        assert_eq!(a.next(start + secs(5)), Next::Wait(Some(start + secs(6))), "tried again soon");
        assert!(a.leads_until(until).is_none());
        assert_eq!(a.next(until), Next::Write, "no other replica took it: it may be had again");
        a.failed(until - Duration::from_millis(1));
        assert_eq!(a.next(until - Duration::from_millis(1)), Next::Wait(Some(until)), "the end of it is not slept over");
    }

    #[test]
    fn a_lease_that_was_let_go_is_taken_at_once_and_one_of_our_own_too() {
        let (mut server, mut a, mut b, start) = two();
        act(&mut a, &mut server, start, 0);
        act(&mut b, &mut server, start, 0);
        let mut again = Election::new("a", "l");
        again.see(server.lease.clone(), start);
        assert_eq!((again.next(start), again.takes_over()), (Next::Write, false), "a restart takes its own Lease back");
        assert!(b.released(Timestamp::now()).is_none(), "a replica that does not hold it cannot release it");
        server.put(a.released(Timestamp::now()).unwrap()).unwrap();
        b.see(server.lease.clone(), start);
        assert_eq!((b.next(start), b.takes_over(), b.holder()), (Next::Write, true, ""));
    }

    #[test]
    fn of_two_that_reach_for_it_one_has_it() {
        let (mut server, mut a, mut b, start) = two();
        a.see(None, start);
        b.see(None, start);
        let (of_a, of_b) = (a.wanted(Timestamp::now()), b.wanted(Timestamp::now()));
        a.written(server.put(of_a).unwrap(), start, start);
        assert!(server.put(of_b).is_err());
        b.failed(start);
        act(&mut b, &mut server, start + secs(2), 0);
        assert!(a.leads_until(start + secs(2)).is_some() && b.leads_until(start + secs(2)).is_none());
    }

    #[test]
    fn a_lease_that_somebody_deletes_or_gives_away_never_makes_two_leaders() {
        let (mut server, mut a, mut b, start) = two();
        act(&mut a, &mut server, start, 0);
        act(&mut b, &mut server, start, 0);
        server.lease = None;
        for second in 1..=12 {
            act(&mut b, &mut server, start + secs(second), 0);
            assert!(b.leads_until(start + secs(second)).is_none(), "the first may lead on: {second} s");
        }
        a.see(None, start + secs(1));
        assert_eq!(a.next(start + secs(1)), Next::Write, "the holder makes it anew at once");
        let mut given = a.wanted(Timestamp::now());
        given.spec.as_mut().unwrap().holder_identity = Some("c".into());
        a.see(Some(given), start + secs(2));
        assert!(a.leads_until(start + secs(2)).is_none(), "another holds it: no more");
    }

    #[test]
    fn a_replica_that_has_not_seen_its_successor_waits_when_the_lease_is_deleted() {
        for released in [false, true] {
            let (mut server, mut a, mut b, start) = two();
            act(&mut a, &mut server, start, 0);
            b.see(server.lease.clone(), start);
            if released {
                server.put(a.released(Timestamp::now()).unwrap()).unwrap();
                a.see(server.lease.clone(), start);
            }
            let now = start + limits::LEASE_LASTS;
            act(&mut b, &mut server, now, 15);
            assert!(b.leads_until(now).is_some());
            server.lease = None;
            act(&mut a, &mut server, now, 15);
            assert!(a.leads_until(now).is_none(), "the other leads; released: {released}");
        }
    }

    #[test]
    fn an_older_version_is_ignored() {
        let (mut server, mut a, _, start) = two();
        act(&mut a, &mut server, start, 0);
        let mut old = server.lease.clone().unwrap();
        act(&mut a, &mut server, start + secs(5), 5);
        old.spec.as_mut().unwrap().holder_identity = Some("b".into());
        a.see(Some(old), start + secs(6));
        assert_eq!(a.holder(), "a");
        assert!(a.leads_until(start + secs(6)).is_some());
    }

    #[test]
    fn an_answer_that_is_older_than_one_before_comes_from_a_store_that_was_restored() {
        let (mut server, mut a, _, start) = two();
        act(&mut a, &mut server, start, 0);
        let restored = server.lease.clone();
        act(&mut a, &mut server, start + secs(5), 5);
        assert!(!a.is_of_the_past(server.lease.as_ref()) && !a.is_of_the_past(None));
        assert!(a.is_of_the_past(restored.as_ref()));
        a.see(None, start + secs(6)); // to before there was one
        assert!(a.is_of_the_past(restored.as_ref()), "one that is made then is older, too");
    }

    #[test]
    fn a_replica_that_was_away_does_not_lead_and_lets_others_renew_before_it_takes_their_lease() {
        let (mut server, mut a, mut b, start) = two();
        act(&mut a, &mut server, start, 0);
        act(&mut b, &mut server, start, 0);
        // The machine of both sleeps for an hour.
        let now = start + secs(3600);
        assert!(a.leads_until(now).is_none(), "by a clock that goes on, the Lease has run out");
        assert_eq!(b.next(now), Next::Write, "without a look, the one that stood by would take it");
        b.away(now);
        b.see(server.lease.clone(), now);
        assert_eq!(b.next(now), Next::Wait(Some(now + limits::LEASE_LASTS)), "the holder has its time");
        a.away(now);
        a.see(server.lease.clone(), now);
        assert_eq!(a.next(now), Next::Write);
        act(&mut a, &mut server, now + secs(1), 3601);
        act(&mut b, &mut server, now + secs(1), 3601);
        assert!(a.leads_until(now + secs(1)).is_some() && b.leads_until(now + secs(1)).is_none());

        // Now that of the holder alone, while the other takes over.
        for second in 2..=20 {
            act(&mut b, &mut server, now + secs(second), 0);
        }
        let now = now + secs(20);
        assert!(b.leads_until(now).is_some() && a.leads_until(now).is_none());
        a.away(now);
        a.see(server.lease.clone(), now);
        assert!(matches!(a.next(now), Next::Wait(Some(_))), "it stands by");
    }
}
