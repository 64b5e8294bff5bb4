//! Two replicas of the controller and one Database: every interleaving of their passes' requests with edits, with what others do to its
//! objects, with another revision of the plugin, with crashes and fail-overs, and with caches that are behind.
//!
//! That it ends is shown without fairness: once nothing disturbs it any more, so many writes at the most are made
//! ([`WRITES_MAX`]), and where nothing is left to do, everything is as it should be.

mod checks;
mod cluster;
mod pass;
mod seeded;
mod storage;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use atomix_model::crd::DatabaseStatus;
use parking_lot::Mutex;
use stateright::{Model, Property};

pub use checks::Broken;
pub use cluster::Meddling;
pub use seeded::Seeded;
pub use storage::{Revision, Slot};

use checks::Plans;
use cluster::{Fingerprinted, Server, View};
use pass::{Decided, ObjectWrite, Outcome, Seen};
use storage::SLOTS;

/// The most writes that may follow the last disturbance: two statuses and six objects for each of two plans, and their removal.
pub const WRITES_MAX: u8 = 20;

/// Something that happens to the controller and that it does not do itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Disturbance {
    /// A user asks for one partition instead of two, or the other way round.
    Scale,
    /// A user asks for another image in the class.
    Image,
    /// A user accepts the plan that the newest revision makes.
    Accept,
    /// Another revision of the plugin is installed.
    Install(Revision),
    /// Another client does something to an object.
    Object(Slot, Meddling),
    /// The replica that leads is killed, and started again. Its caches may be filled with what was.
    Crash,
    /// The replica that leads loses its Lease. Its pass goes on.
    Depose,
}

/// A step of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// From outside.
    Disturb(Disturbance),
    /// A replica takes the free Lease.
    Lead(usize),
    /// A cache of a replica becomes what is there.
    See(usize, What),
    /// A replica that leads begins a pass.
    Begin(usize),
    /// A pass makes its next request, and ends after the last.
    Go(usize),
}

/// A cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // its variants explain themselves
pub enum What {
    Database,
    Class,
    Plugin,
    Object(Slot),
    Everything,
}

/// Both replicas, what the API server holds, and what is still to come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // its fields explain themselves
pub struct State {
    pub server: Server,
    pub replicas: [Replica; 2],
    /// How many disturbances may still come.
    pub left: u8,
    /// Writes since the last disturbance.
    pub writes: u8,
    /// The first promise that was broken.
    pub broken: Option<Broken>,
}

/// One process of the controller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Replica {
    view: View,
    serving: Revision,
    /// Revisions that served before, since its start.
    before: Vec<Revision>,
    /// The status that it wrote last, and the version that the Database got by it.
    written: Option<(u8, Fingerprinted<DatabaseStatus>)>,
    leads: bool,
    /// Something changed since its last pass began.
    triggered: bool,
    /// Its last pass is to be tried again.
    retries: bool,
    running: Option<Arc<Running>>,
}

/// A pass that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Running {
    seen: Seen,
    at: At,
    /// The outcomes of its writes.
    done: Vec<Outcome>,
    /// It belongs to a term that is over.
    is_deposed: bool,
}

/// The next request of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    /// Reads whether the Database and its class are as they were seen, since what is recorded is newer.
    Behind,
    /// Records the plan.
    Record,
    /// Reads the same, since nothing had to be recorded.
    Confirm,
    /// Writes or removes an object.
    ObjectWrite,
    /// Writes the status.
    Report,
}

/// What is explored.
pub struct Reconciliation {
    /// Which disturbances may come.
    pub disturbances: Vec<Disturbance>,
    /// How many of them.
    pub most: u8,
    /// Whether everything was created and settled before.
    pub is_settled: bool,
    /// Whether the admission policy is in force.
    pub is_guarded: bool,
    /// Whether a replica begins to lead before it has seen which revision of the plugin is installed, as the controller's does not: one that
    /// has not, and has not seen the objects either, sets them back to what an earlier revision plans, whatever that disturbs.
    pub has_late_catalogs: bool,
    /// What is broken on purpose.
    pub seeded: Option<Seeded>,
    memo: Mutex<HashMap<Seen, Arc<Decided>>>,
    plans: Plans,
}

impl Reconciliation {
    /// Explores so many of these disturbances, of a database that has settled, with the policy in force.
    pub fn of(disturbances: impl IntoIterator<Item = Disturbance>, most: usize) -> Reconciliation {
        Reconciliation {
            disturbances: disturbances.into_iter().collect(),
            most: u8::try_from(most).unwrap_or(u8::MAX),
            is_settled: true,
            is_guarded: true,
            has_late_catalogs: false,
            seeded: None,
            memo: Mutex::default(),
            plans: Plans::default(),
        }
    }

    fn decided(&self, seen: &Seen) -> Arc<Decided> {
        if let Some(decided) = self.memo.lock().get(seen) {
            return decided.clone();
        }
        let decided = Arc::new(pass::decided(seen, self.seeded));
        self.memo.lock().insert(seen.clone(), decided.clone());
        decided
    }

    fn start(&self) -> State {
        let server = Server::new();
        let replica = Replica {
            view: server.now.clone(),
            serving: server.plugin,
            before: Vec::new(),
            written: None,
            leads: false,
            triggered: false,
            retries: false,
            running: None,
        };
        let [mut leader, standby] = [replica.clone(), replica];
        (leader.leads, leader.triggered) = (true, true);
        State { server, replicas: [leader, standby], left: self.most, writes: 0, broken: None }
    }

    /// Lets the leader do all that there is to do, and both replicas see all of it.
    fn settled(&self, mut state: State) -> State {
        loop {
            let mut actions = Vec::new();
            self.actions(&state, &mut actions);
            let mut own = actions.into_iter().filter(|action| !matches!(action, Action::Disturb(_)));
            let Some(next) = own.find_map(|action| self.next_state(&state, action)) else { return state };
            state = State { writes: 0, ..next };
        }
    }

    fn disturb(&self, state: &mut State, disturbance: Disturbance) -> bool {
        let leader = state.replicas.iter().position(|replica| replica.leads);
        let now = &mut state.server.now;
        match disturbance {
            Disturbance::Scale => {
                now.database.partitions = 3 - now.database.partitions;
                (now.database.generation, now.database.version) = (now.database.generation + 1, now.database.version + 1);
            }
            Disturbance::Image => {
                now.class.image = 1 - now.class.image;
                now.class.generation += 1;
            }
            Disturbance::Accept => {
                let hash = self.plans.newest(&state.server);
                let Some(hash) = hash.filter(|hash| Some(hash) != state.server.now.database.accepted.as_ref()) else {
                    return false;
                };
                let database = &mut state.server.now.database;
                (database.accepted, database.version) = (Some(hash), database.version + 1);
            }
            Disturbance::Install(revision) if state.server.plugin == revision => return false,
            Disturbance::Install(revision) => state.server.plugin = revision,
            Disturbance::Object(slot, how) => return state.server.meddle(slot, how),
            Disturbance::Crash => {
                let Some(at) = leader else { return false };
                let plugin = state.server.plugin;
                let replica = &mut state.replicas[at];
                let view = replica.view.clone();
                *replica = Replica {
                    view,
                    serving: plugin,
                    before: Vec::new(),
                    written: None,
                    leads: false,
                    triggered: false,
                    retries: false,
                    running: None,
                };
            }
            Disturbance::Depose => {
                let Some(at) = leader else { return false };
                let replica = &mut state.replicas[at];
                (replica.leads, replica.triggered, replica.retries) = (false, false, false);
                if let Some(running) = &replica.running {
                    replica.running = Some(Arc::new(Running { is_deposed: true, ..(**running).clone() }));
                }
            }
        }
        true
    }

    fn see(&self, state: &mut State, at: usize, what: What) -> bool {
        let (server, replica) = (&state.server, &mut state.replicas[at]);
        let mut changed = false;
        if matches!(what, What::Database | What::Everything) && replica.view.database != server.now.database {
            replica.view.database = server.now.database.clone();
            changed = true;
        }
        if matches!(what, What::Class | What::Everything) && replica.view.class != server.now.class {
            replica.view.class = server.now.class;
            changed = true;
        }
        if matches!(what, What::Plugin | What::Everything) && replica.serving != server.plugin {
            replica.before.retain(|before| *before != server.plugin && *before != replica.serving);
            replica.before.insert(0, replica.serving);
            replica.serving = server.plugin;
            changed = true;
        }
        for slot in SLOTS {
            let concerned = what == What::Everything || what == What::Object(slot);
            if concerned && replica.view.objects[slot.index()].as_ref() != server.seen(slot) {
                replica.view.objects[slot.index()] = server.seen(slot).cloned();
                changed = true;
            }
        }
        replica.triggered |= changed && replica.leads;
        changed
    }

    /// Begins a pass; one that has nothing to read and nothing to write ends at once.
    fn begin(&self, state: &mut State, at: usize) -> bool {
        let replica = &mut state.replicas[at];
        let seen = replica.seen();
        let decided = self.decided(&seen);
        (replica.triggered, replica.retries) = (false, false);
        if decided.is_unseen() && !decided.is_behind {
            replica.retries = true;
            return true;
        }
        let running = Running {
            at: if decided.is_behind { At::Behind } else { At::Record },
            seen,
            done: Vec::new(),
            is_deposed: false,
        };
        self.proceed(state, at, running);
        true
    }

    /// Goes on to the next request that a pass makes.
    fn proceed(&self, state: &mut State, at: usize, mut running: Running) {
        let decided = self.decided(&running.seen);
        let written = decided.plan.as_deref();
        if running.at == At::Record && written.is_none_or(|written| written.record.is_none()) {
            running.at = At::Confirm;
        }
        if running.at == At::Record && self.seeded == Some(Seeded::NothingRecorded) {
            running.at = At::ObjectWrite;
        }
        if running.at == At::Confirm && written.is_none_or(|written| !written.confirms) {
            running.at = At::ObjectWrite;
        }
        if matches!(running.at, At::Behind | At::Confirm) && self.seeded == Some(Seeded::NothingConfirmed) {
            let next = if running.at == At::Behind { At::Record } else { At::ObjectWrite };
            return self.proceed(state, at, Running { at: next, ..running });
        }
        if running.at == At::ObjectWrite && decided.next(&running.done).is_none_or(|next| next.write.is_none()) {
            running.at = At::Report;
        }
        if running.at == At::Report {
            let replica = &mut state.replicas[at];
            let (status, retries) = replica.report(&decided, &running);
            if status.is_none() {
                replica.retries |= retries;
                replica.running = None;
                return;
            }
        }
        state.replicas[at].running = Some(Arc::new(running));
    }

    /// Makes the next request of a pass.
    fn go(&self, state: &mut State, at: usize) {
        let Some(running) = state.replicas[at].running.take() else { return };
        let mut running = (*running).clone();
        let decided = self.decided(&running.seen);
        let may_write = state.replicas[at].leads || self.seeded == Some(Seeded::NoFence);
        match running.at {
            At::Behind | At::Confirm => {
                let (seen, now) = (&running.seen.view, &state.server.now);
                let is_seen = match self.seeded == Some(Seeded::OnlyGenerationsConfirmed) {
                    true => seen.database.generation == now.database.generation,
                    false => seen.database.version == now.database.version,
                };
                if !is_seen || seen.class.generation != now.class.generation {
                    state.replicas[at].retries = true; // Fault::Unseen
                    return;
                }
                running.at = if running.at == At::Behind { At::Record } else { At::ObjectWrite };
            }
            At::Record => {
                let status = decided.plan.as_ref().and_then(|written| written.record.clone());
                let status = status.expect("it is to be recorded");
                if !may_write || !self.write_status(state, at, &running, &status) {
                    state.replicas[at].retries = true; // Fault::Unseen, or ApiUnavailable
                    return;
                }
                running.at = At::ObjectWrite;
            }
            At::ObjectWrite => {
                let written = decided.plan.as_deref().expect("something is to be written");
                let next = decided.next(&running.done).expect("there is a plan");
                let outcome = match may_write {
                    true => self.perform(state, at, (written, &next)),
                    false => Outcome::Fenced,
                };
                running.done.push(outcome);
            }
            At::Report => {
                let replica = &state.replicas[at];
                let (status, retries) = replica.report(&decided, &running);
                let Some(status) = status else {
                    state.replicas[at].retries |= retries; // what came meanwhile makes it what it was
                    return;
                };
                let is_written = may_write && self.write_status(state, at, &running, &status);
                state.replicas[at].retries |= retries || !is_written;
                return;
            }
        }
        self.proceed(state, at, running);
    }

    fn write_status(&self, state: &mut State, at: usize, running: &Running, status: &Fingerprinted<DatabaseStatus>) -> bool {
        let replica = &state.replicas[at];
        // As `Memory::newest` of the controller.
        let seen = running.seen.view.database.version;
        let newest = replica.written.as_ref().map_or(seen, |(version, _)| seen.max(*version));
        let before = state.server.now.database.clone();
        if state.server.record(status, newest).is_err() {
            return false;
        }
        let broken = self.plans.recorded(&before, &state.server.now.database, &running.seen);
        state.broken = state.broken.or(broken);
        state.writes = state.writes.saturating_add(1);
        state.replicas[at].written = Some((state.server.now.database.version, status.clone()));
        true
    }

    fn perform(&self, state: &mut State, at: usize, (written, next): (&pass::Written, &pass::Next)) -> Outcome {
        let before = state.server.clone();
        let write = next.write.as_ref().expect("something is to be done");
        let (slot, answer) = match write {
            ObjectWrite::Apply(slot, manifest, is_once) => {
                (*slot, state.server.apply((*slot, manifest), *is_once, self.is_guarded))
            }
            ObjectWrite::Remove(slot, uid) => {
                let uid = Some(*uid).filter(|_| self.seeded != Some(Seeded::RemovedByName));
                (*slot, state.server.delete(*slot, uid, self.is_guarded))
            }
        };
        if let Err(refused) = answer {
            return match refused {
                cluster::Refused::Taken => Outcome::Taken,
                cluster::Refused::Conflict => Outcome::Conflict,
            };
        }
        let broken = checks::performed(&before, (write, written, next.may_prune, self.is_guarded));
        state.broken = state.broken.or(broken);
        state.writes = state.writes.saturating_add(1);
        state.replicas[at].view.objects[slot.index()] = state.server.seen(slot).cloned();
        Outcome::Done
    }
}

impl Replica {
    /// What a pass that begins now is decided from.
    fn seen(&self) -> Seen {
        let watched = self.watched();
        let mut view = self.view.clone();
        if let Some((version, status)) = &self.written
            && *version > view.database.version
        {
            view.database.status = status.clone(); // as `LastWritten::refresh`
            view.database.version = *version;
        }
        Seen { view, serving: self.serving, before: self.before.clone(), watched }
    }

    /// As the controller's `watch_set`: what revisions emit that are remembered, and the kinds that the Database's status
    /// records as written.
    fn watched(&self) -> [bool; SLOTS.len()] {
        let emits = |slot: Slot| std::iter::once(&self.serving).chain(&self.before).any(|it| it.emits(slot));
        let recorded = |slot: Slot| self.view.database.status.0.kinds.contains(&slot.kind());
        SLOTS.map(|slot| emits(slot) || recorded(slot))
    }

    fn report(&self, decided: &Decided, running: &Running) -> pass::Report {
        let last = self.written.as_ref().filter(|(version, _)| *version > running.seen.view.database.version);
        decided.report(&running.done, (&self.view, &self.watched()), last.map(|(_, status)| status))
    }

    fn is_behind(&self, server: &Server) -> bool {
        self.view.database != server.now.database
            || self.view.class != server.now.class
            || self.serving != server.plugin
            || SLOTS.iter().any(|slot| self.view.objects[slot.index()].as_ref() != server.seen(*slot))
    }
}

impl Model for Reconciliation {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let start = self.start();
        vec![if self.is_settled { self.settled(start) } else { start }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (at, replica) in state.replicas.iter().enumerate() {
            if replica.running.is_some() {
                actions.push(Action::Go(at));
            } else if replica.leads && (replica.triggered || replica.retries) {
                actions.push(Action::Begin(at));
            }
            let ends = self.seeded == Some(Seeded::PassesOutliveTerms) || replica.running.is_none();
            let ends = ends && (self.has_late_catalogs || replica.serving == state.server.plugin);
            if state.replicas.iter().all(|replica| !replica.leads) && ends {
                actions.push(Action::Lead(at));
            }
            if !replica.is_behind(&state.server) {
                continue;
            }
            if !replica.leads {
                actions.push(Action::See(at, What::Everything));
                continue;
            }
            actions.extend([What::Database, What::Class, What::Plugin].map(|what| Action::See(at, what)));
            actions.extend(SLOTS.map(|slot| Action::See(at, What::Object(slot))));
        }
        if state.left > 0 {
            actions.extend(self.disturbances.iter().map(|disturbance| Action::Disturb(*disturbance)));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        if last.broken.is_some() {
            return None; // what follows shows nothing more
        }
        let mut state = last.clone();
        let is_done = match action {
            Action::Disturb(disturbance) => {
                (state.left, state.writes) = (state.left - 1, 0);
                self.disturb(&mut state, disturbance)
            }
            Action::Lead(at) => {
                let replica = &mut state.replicas[at];
                (replica.leads, replica.triggered) = (true, true);
                true
            }
            Action::See(at, what) => self.see(&mut state, at, what),
            Action::Begin(at) => self.begin(&mut state, at),
            Action::Go(at) => {
                self.go(&mut state, at);
                true
            }
        };
        (is_done && state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no write breaks a promise", |_: &Self, state: &State| state.broken.is_none()),
            Property::always("it falls silent", |_: &Self, state: &State| state.writes <= WRITES_MAX),
            Property::always("it ends as the spec says", |model: &Self, state: &State| model.ends_well(state)),
            Property::sometimes("it settles after all disturbances", |model: &Self, state: &State| {
                state.left == 0 && model.has_settled(state)
            }),
        ]
    }
}
