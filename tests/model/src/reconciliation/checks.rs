//! The promises, as what a write may do and what everything is when nothing is left to do. Derived from the table of
//! `storage` and from what the API server holds, not from what a pass decided.

use std::sync::Arc;

use atomix_model::condition::{ConditionType, Reason};
use atomix_model::crd::DatabaseStatus;
use parking_lot::Mutex;
use std::collections::HashMap;

use super::cluster::{DatabaseAt, Fingerprinted, Server};
use super::pass::{self, ObjectWrite, Seen, Written};
use super::storage::{Facts, Revision, SLOTS, Slot};
use super::{Action, Reconciliation, State};
use stateright::Model as _;

/// A promise that a write broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Broken {
    /// An object was written or removed for a plan that is not the recorded one.
    NotRecorded,
    /// An object was written of a kind that the status does not name.
    KindNotRecorded,
    /// What belongs to another owner was written or removed.
    Foreign,
    /// An object of the recorded plan was removed.
    InUse,
    /// A volume claim was changed or removed.
    Claim,
    /// Something was removed although something else could not be written.
    RemovedTooEarly,
    /// A plan was recorded over that of a later edit.
    Older,
    /// Pods are restarted although nothing was edited and it was not accepted.
    Disturbed,
}

/// What is written of a plan, by place.
type Manifests = [Option<Fingerprinted<serde_json::Value>>; SLOTS.len()];

/// What each plan is made of, by its hash.
#[derive(Default)]
pub struct Plans {
    by_hash: Mutex<HashMap<String, Facts>>,
    hashes: Mutex<HashMap<Facts, Arc<str>>>,
    manifests: Mutex<HashMap<Facts, Arc<Manifests>>>,
}

impl Plans {
    /// Hash of the plan of these facts; none if there is no such plan.
    pub fn hash(&self, facts: Facts) -> Option<Arc<str>> {
        if let Some(hash) = self.hashes.lock().get(&facts) {
            return Some(hash.clone());
        }
        let admitted = admitted(facts)?;
        let hash: Arc<str> = admitted.hash.as_str().into();
        self.by_hash.lock().insert(admitted.hash, facts);
        self.hashes.lock().insert(facts, hash.clone());
        Some(hash)
    }

    /// What a recorded plan is made of.
    fn facts(&self, hash: &str) -> Option<Facts> {
        if let Some(facts) = self.by_hash.lock().get(hash) {
            return Some(*facts);
        }
        for revision in [Revision::First, Revision::Trimmed, Revision::Disturbing] {
            for (partitions, image) in [(1, 0), (1, 1), (2, 0), (2, 1)] {
                self.hash(Facts { revision, partitions, image });
            }
        }
        self.by_hash.lock().get(hash).copied()
    }

    fn of(&self, status: &DatabaseStatus) -> Option<Facts> {
        self.facts(&status.plan.as_ref()?.hash)
    }

    /// What the installed revision would plan.
    pub fn newest(&self, server: &Server) -> Option<Arc<str>> {
        self.hash(wanted(server))
    }

    /// The promise that a status written over another broke, if it broke one.
    pub fn recorded(&self, before: &DatabaseAt, after: &DatabaseAt, seen: &Seen) -> Option<Broken> {
        let (old, new) = (before.status.0.plan.as_ref()?, after.status.0.plan.as_ref());
        let Some(new) = new else { return Some(Broken::Older) };
        if new.generation < old.generation || new.class_generation < old.class_generation {
            return Some(Broken::Older);
        }
        let (was, is) = (self.facts(&old.hash)?, self.facts(&new.hash)?);
        // Of an edit, the image is the only thing that restarts pods. Another revision may do so if that was accepted, if an edit came with
        // it and the revision before is not there to go on, or if there was none before.
        let is_accepted = seen.view.database.accepted.as_deref() == Some(new.hash.as_str());
        let is_edited = (new.generation, new.class_generation) != (old.generation, old.class_generation);
        let went_on = seen.before.contains(&was.revision);
        let disturbs = was.template().1 != is.template().1;
        let may = is_accepted || (is_edited && !went_on);
        (disturbs && !may).then_some(Broken::Disturbed)
    }
}

fn wanted(server: &Server) -> Facts {
    let now = &server.now;
    Facts { revision: server.plugin, partitions: now.database.partitions, image: now.class.image }
}

/// The promise that a write of an object broke, if it broke one.
pub fn performed(
    before: &Server,
    (write, written, may_prune, is_guarded): (&ObjectWrite, &Written, bool, bool),
) -> Option<Broken> {
    let (slot, is_removal) = match write {
        ObjectWrite::Apply(slot, ..) => (*slot, false),
        ObjectWrite::Remove(slot, _) => (*slot, true),
    };
    let there = before.now.objects[slot.index()].as_ref();
    let is_foreign = there.is_some_and(|there| there.manifest.is_none());
    if is_foreign && (is_guarded || is_removal) {
        return Some(Broken::Foreign); // without the policy, an apply comes after a read, and another client may write between the two
    }
    let status = &before.now.database.status.0;
    if status.plan.as_ref().map(|plan| plan.hash.as_str()) != Some(written.hash.as_str()) {
        return Some(Broken::NotRecorded);
    }
    if slot == Slot::Claim && there.is_some() {
        return Some(Broken::Claim);
    }
    match is_removal {
        false if !status.kinds.contains(&slot.kind()) => Some(Broken::KindNotRecorded),
        true if written.fills().any(|fills| fills == slot) => Some(Broken::InUse),
        true if !may_prune => Some(Broken::RemovedTooEarly),
        _ => None,
    }
}

impl Reconciliation {
    /// Whether nothing is left to do: one replica leads, sees all there is, and another pass would change nothing.
    pub fn has_settled(&self, state: &State) -> bool {
        let Some(at) = state.replicas.iter().position(|replica| replica.leads) else { return false };
        let is_idle = state.replicas.iter().all(|replica| replica.running.is_none());
        let leader = &state.replicas[at];
        if !is_idle || leader.is_behind(&state.server) {
            return false;
        }
        if !leader.triggered && !leader.retries {
            return true;
        }
        let mut after = state.clone();
        let mut action = Action::Begin(at);
        while let Some(next) = self.next_state(&after, action) {
            after = next;
            if after.replicas[at].running.is_none() {
                break;
            }
            action = Action::Go(at);
        }
        after.server == state.server && !after.replicas[at].is_behind(&after.server)
    }

    /// Whether everything is as it should be, if nothing is left to do.
    pub fn ends_well(&self, state: &State) -> bool {
        state.broken.is_some() || !self.has_settled(state) || self.is_as_it_should_be(state)
    }

    fn is_as_it_should_be(&self, state: &State) -> bool {
        let (server, status) = (&state.server, &state.server.now.database.status.0);
        let is = |type_: ConditionType| {
            let found = status.conditions.iter().find(|condition| condition.type_ == type_.as_str());
            found.map(|condition| (condition.status.as_str(), Reason::of(&condition.reason)))
        };
        if status.observed_generation != Some(server.now.database.generation.into()) {
            return false;
        }
        let (wanted, recorded) = (wanted(server), self.plans.of(status));
        if wanted.revision == Revision::Failing {
            return is(ConditionType::Degraded) == Some(("True", Reason::PluginFailed));
        }
        let taken = SLOTS.iter().any(|slot| {
            wanted.fills(*slot) && server.now.objects[slot.index()].as_ref().is_some_and(|it| it.manifest.is_none())
        });
        let is_held = is(ConditionType::Accepted) == Some(("False", Reason::Held));
        let leader = state.replicas.iter().find(|replica| replica.leads);
        match recorded {
            Some(recorded) if recorded == wanted => {
                let is_ready = is(ConditionType::Ready).is_some_and(|(status, _)| status == "True");
                let is_reported = is(ConditionType::Degraded) == Some(("True", Reason::NameTaken));
                self.holds_all(server, wanted) && !is_held && if taken { is_reported } else { is_ready }
            }
            Some(recorded) => {
                let disturbs = recorded.template().1 != wanted.template().1;
                let is_accepted = server.now.database.accepted == self.plans.hash(wanted);
                let goes_on = leader.is_some_and(|leader| leader.before.contains(&recorded.revision));
                let same_spec = Facts { revision: recorded.revision, ..wanted } == recorded;
                disturbs && !is_accepted && is_held && same_spec && (!goes_on || self.holds_all(server, recorded))
            }
            None => false,
        }
    }

    /// Whether exactly the objects of a plan are there, and as planned.
    fn holds_all(&self, server: &Server, facts: Facts) -> bool {
        let Some(planned) = self.plans.manifests(facts) else { return false };
        SLOTS.iter().zip(&server.now.objects).zip(planned.iter()).all(|((slot, there), planned)| {
            let there = there.as_ref();
            let manifest = there.and_then(|there| there.manifest.as_ref());
            match (planned, there) {
                (Some(_), Some(_)) if *slot == Slot::Claim => true,         // written once
                (Some(_), Some(there)) if there.manifest.is_none() => true, // it is reported
                (Some(_), None) => slot == &Slot::Set && self.waits_for_settings(server),
                (Some(planned), Some(_)) => {
                    manifest == Some(planned) || (slot == &Slot::Set && self.waits_for_settings(server))
                }
                (None, _) => manifest.is_none() || *slot == Slot::Claim || self.has_foreign(server, facts),
            }
        })
    }

    /// Whether the pods' settings belong to another owner: then the pods are not written either.
    fn waits_for_settings(&self, server: &Server) -> bool {
        server.now.objects[Slot::ConfigMap.index()].as_ref().is_some_and(|it| it.manifest.is_none())
    }

    /// Whether a name of the plan is taken: then nothing is removed.
    fn has_foreign(&self, server: &Server, facts: Facts) -> bool {
        SLOTS.iter().any(|slot| {
            facts.fills(*slot) && server.now.objects[slot.index()].as_ref().is_some_and(|it| it.manifest.is_none())
        })
    }
}

impl Plans {
    /// The objects of a plan, by place, as they are written.
    fn manifests(&self, facts: Facts) -> Option<Arc<Manifests>> {
        if let Some(manifests) = self.manifests.lock().get(&facts) {
            return Some(manifests.clone());
        }
        let mut planned = Manifests::default();
        for object in admitted(facts)?.objects {
            planned[Slot::of(&object.kind, &object.name)?.index()] = Some(Fingerprinted::new(object.manifest));
        }
        let planned = Arc::new(planned);
        self.manifests.lock().insert(facts, planned.clone());
        Some(planned)
    }
}

/// The plan of these facts, for a database of which nothing is there.
fn admitted(facts: Facts) -> Option<atomix_decide::admission::Admitted> {
    let mut view = Server::new().now;
    (view.database.partitions, view.class.image) = (facts.partitions, facts.image);
    let seen = Seen { view, serving: facts.revision, before: Vec::new(), watched: [true; SLOTS.len()] };
    pass::admitted(&seen, facts.revision)
}
