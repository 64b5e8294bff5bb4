//! Two replicas and one Lease: every interleaving of requests that are slow, lost, or taken and not answered, of watch
//! events that come late, of crashes, and of a deleted Lease, over a bounded time. What each replica does is decided by the
//! controller's own [`Election`]; the API server is a version that must match.
//!
//! What holds here is what [`reconciliation`](crate::reconciliation) takes for granted: no two replicas may write at a time,
//! and what one began while it led has had [`LEASE_MARGIN`](limits::LEASE_MARGIN) to arrive before another leads. This does
//! not hold if the Lease is deleted while a replica starts: that one takes it for the first ever, and leads beside the other
//! until that one's time is up. So here the Lease is deleted only when both have seen it.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use atomix_controller_io::leader::{Election, Moment, Next};
use atomix_model::limits;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use stateright::{Model, Property};

#[cfg(test)]
mod tests;

/// How long a step of the clock is: the margin, so that a renewal comes late, a leader ends, and another follows at different steps.
const STEP: Duration = limits::LEASE_MARGIN;

/// What is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seeded {
    /// The API server takes a Lease that replaces another version than was seen.
    AnyVersionTaken,
    /// A renewal counts from its answer, not from when it was begun.
    CountsFromAnswer,
}

/// What is explored.
pub struct Elections {
    /// How many steps of the clock.
    pub steps: u8,
    /// How many disturbances.
    pub most: u8,
    /// What is broken on purpose.
    pub seeded: Option<Seeded>,
}

/// A value that is compared by a hash of its text, made once.
#[derive(Clone, Debug)]
pub struct Fingerprinted<T>(Arc<T>, u64);

impl<T: std::fmt::Debug> Fingerprinted<T> {
    fn new(value: T) -> Fingerprinted<T> {
        let mut hasher = std::hash::DefaultHasher::new();
        format!("{value:?}").hash(&mut hasher);
        Fingerprinted(Arc::new(value), hasher.finish())
    }
}

impl<T> PartialEq for Fingerprinted<T> {
    fn eq(&self, other: &Fingerprinted<T>) -> bool {
        self.1 == other.1
    }
}

impl<T> Eq for Fingerprinted<T> {}

impl<T> Hash for Fingerprinted<T> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.1.hash(hasher);
    }
}

/// The Lease, the replicas and the clock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // its fields explain themselves
pub struct State {
    pub step: u8,
    pub lease: Option<Fingerprinted<Lease>>,
    /// The last version that was given.
    pub version: u8,
    pub replicas: [Replica; 2],
    /// How many disturbances may still come.
    pub left: u8,
}

/// One replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // its fields explain themselves
pub struct Replica {
    pub election: Fingerprinted<Election>,
    /// A request that is on its way, or its answer.
    pub request: Option<Request>,
    /// Until which step the last process under this identity might write.
    pub wrote_until: u8,
}

/// A request for the Lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // its fields explain themselves
pub struct Request {
    pub lease: Fingerprinted<Lease>,
    pub began: u8,
    /// What the API server made of it, once it has come there.
    pub answer: Option<Result<Fingerprinted<Lease>, ()>>,
}

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // its variants explain themselves
pub enum Action {
    Tick,
    Send(usize),
    Arrive(usize),
    Receive(usize),
    See(usize),
    /// The request, or its answer, is lost.
    Lose(usize),
    Crash(usize),
    DeleteLease,
}

fn moment(step: u8) -> Moment {
    Moment::of_nanos(0) + STEP * (u32::from(step) + 1000)
}

impl State {
    fn now(&self) -> Moment {
        moment(self.step)
    }

    /// Whether a replica may write.
    fn leads(&self, at: usize) -> bool {
        self.replicas[at].election.0.leads_until(self.now()).is_some()
    }

    /// Keeps until when each might write.
    fn note(&mut self) {
        let now = self.now();
        for replica in &mut self.replicas {
            let until = replica.election.0.leads_until(now).map_or(0, |until| {
                let steps = until.since(moment(0)).as_secs().div_ceil(STEP.as_secs());
                u8::try_from(steps).unwrap_or(u8::MAX)
            });
            replica.wrote_until = replica.wrote_until.max(until);
        }
    }
}

impl Elections {
    fn identity(at: usize) -> &'static str {
        ["a", "b"][at]
    }

    fn arrive(&self, state: &mut State, at: usize) -> bool {
        let Some(request) = &mut state.replicas[at].request else { return false };
        if request.answer.is_some() {
            return false;
        }
        let there = state.lease.as_ref().and_then(|lease| lease.0.metadata.resource_version.clone());
        let is_taken = there == request.lease.0.metadata.resource_version || self.seeded == Some(Seeded::AnyVersionTaken);
        request.answer = Some(if is_taken {
            state.version += 1;
            let mut lease = (*request.lease.0).clone();
            lease.metadata.resource_version = Some(state.version.to_string());
            let lease = Fingerprinted::new(lease);
            state.lease = Some(lease.clone());
            Ok(lease)
        } else {
            Err(())
        });
        true
    }

    fn receive(&self, state: &mut State, at: usize) -> bool {
        let now = state.now();
        let found = state.lease.as_ref().map(|lease| (*lease.0).clone());
        let replica = &mut state.replicas[at];
        let Some(Request { began, answer: Some(answer), .. }) = replica.request.take() else { return false };
        let began = if self.seeded == Some(Seeded::CountsFromAnswer) { now } else { moment(began) };
        replica.change(|election| match answer {
            Ok(lease) => election.written((*lease.0).clone(), began, now),
            Err(()) => {
                election.see(found, now); // a conflict is read again
                election.failed(now);
            }
        });
        true
    }
}

impl Replica {
    fn change(&mut self, change: impl FnOnce(&mut Election)) {
        let mut election = (*self.election.0).clone();
        change(&mut election);
        self.election = Fingerprinted::new(election);
    }
}

impl Model for Elections {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let replica = |at| Replica {
            election: Fingerprinted::new(Election::new(Elections::identity(at), "lease")),
            request: None,
            wrote_until: 0,
        };
        vec![State { step: 0, lease: None, version: 0, replicas: [replica(0), replica(1)], left: self.most }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.step < self.steps {
            actions.push(Action::Tick);
        }
        for at in 0..state.replicas.len() {
            actions.push(Action::See(at));
            match &state.replicas[at].request {
                None => actions.push(Action::Send(at)),
                Some(request) if request.answer.is_none() => actions.push(Action::Arrive(at)),
                Some(_) => actions.push(Action::Receive(at)),
            }
            if state.left > 0 {
                actions.push(Action::Lose(at));
            }
            if state.left > 0 && state.lease.is_some() {
                actions.push(Action::Crash(at));
            }
        }
        // A replica that has never seen the Lease takes one that was deleted for one that was never there: see the head of this file.
        let all_have_seen_it = state.replicas.iter().all(|it| it.request.is_none() && !it.election.0.holder().is_empty());
        if state.left > 0 && all_have_seen_it {
            actions.push(Action::DeleteLease);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let now = state.now();
        match action {
            Action::Tick => state.step += 1,
            Action::See(at) => {
                let found = state.lease.as_ref().map(|lease| (*lease.0).clone());
                state.replicas[at].change(|election| election.see(found, now));
            }
            Action::Send(at) => {
                if state.replicas[at].election.0.next(now) != Next::Write {
                    return None;
                }
                // The time of a renewal, which is for people, is different for each.
                let clock = Timestamp::UNIX_EPOCH + STEP * u32::from(state.step);
                let lease = Fingerprinted::new(state.replicas[at].election.0.wanted(clock));
                state.replicas[at].request = Some(Request { lease, began: state.step, answer: None });
            }
            Action::Arrive(at) => self.arrive(&mut state, at).then_some(())?,
            Action::Receive(at) => self.receive(&mut state, at).then_some(())?,
            Action::Lose(at) => {
                state.left -= 1;
                state.replicas[at].request.take()?;
                state.replicas[at].change(|election| election.failed(now));
            }
            Action::Crash(at) => {
                state.left -= 1;
                state.replicas[at].request = None;
                state.replicas[at].election = Fingerprinted::new(Election::new(Elections::identity(at), "lease"));
            }
            Action::DeleteLease => {
                state.left -= 1;
                state.lease.take()?;
            }
        }
        state.note();
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no two lead at a time", |_, state: &State| !(state.leads(0) && state.leads(1))),
            Property::always("what one began has arrived before the other leads", |_, state: &State| {
                let has_arrived = |until: u8| until == 0 || until < state.step; // one step is the margin
                (0..2).all(|at| !state.leads(at) || has_arrived(state.replicas[1 - at].wrote_until))
            }),
            Property::sometimes("the second follows the first", |_, state: &State| {
                state.leads(1) && state.replicas[0].wrote_until > 0
            }),
        ]
    }
}
