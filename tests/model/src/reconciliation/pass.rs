//! One pass over the database, in the order of the controller's `converge`, as a list of the requests that it may make. All that is
//! decided is decided by `atomix_decide`, from what the caches held when the pass began.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use atomix_decide::admission::{self, Admitted, Kept, Stamped};
use atomix_decide::intent::{self, Intent};
use atomix_decide::objects::{self, Decision, Memory, Owner, Standing, Writing, decide};
use atomix_decide::observe::{self, Class};
use atomix_decide::pass::{self, Pass, Planned, Recorded, Resolved, Start, Stopped};
use atomix_decide::plan_churn::PlanChurn;
use atomix_decide::status;
use atomix_model::condition::Reason;
use atomix_model::contract::Plan;
use atomix_model::crd::{Database, DatabaseStatus};
use atomix_model::fault::Fault;
use atomix_model::grants::Grants;
use atomix_model::names;
use atomix_model::object::{Kind, Live};
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::cluster::{Fingerprinted, Lookup, NAMESPACE, View};
use super::seeded::Seeded;
use super::storage::{Revision, SLOTS, Slot, class_kind};

/// The one moment at which everything happens: pauses are no part of the model.
static NOW: LazyLock<Instant> = LazyLock::new(|| {
    #[allow(clippy::disallowed_methods)] // where time begins
    Instant::now()
});

fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// What a pass is decided from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Seen {
    /// The caches when it began, with the status that was written last.
    pub view: View,
    /// The revision that serves.
    pub serving: Revision,
    /// Those that served before in this process.
    pub before: Vec<Revision>,
    /// Kinds that are watched, by place.
    pub watched: [bool; SLOTS.len()],
}

/// A write of an object, or its removal.
#[derive(Clone, Debug)]
pub enum ObjectWrite {
    /// It is applied, once only or whenever it differs.
    Apply(Slot, Fingerprinted<Value>, bool),
    /// It is removed, if it has this UID.
    Remove(Slot, u8),
}

/// The outcome of such a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It is done.
    Done,
    /// The name belongs to another owner.
    Taken,
    /// It was another object by then.
    Conflict,
    /// This replica may not write any more.
    Fenced,
}

/// What a pass does next, and what came of it so far.
#[derive(Clone, Debug)]
pub struct Next {
    /// The write; none after the last.
    pub write: Option<ObjectWrite>,
    /// Whether all has gone well, so that something may be removed.
    pub may_prune: bool,
}

/// The end of a pass: the status, if it differs, and whether there is another pass although nothing happens.
pub type Report = (Option<Fingerprinted<DatabaseStatus>>, bool);

/// What a report is made from, beside the pass.
type ReportKey = (Vec<Outcome>, View, [bool; SLOTS.len()], Option<Fingerprinted<DatabaseStatus>>);

/// A pass, decided.
pub struct Decided {
    nexts: Mutex<HashMap<Vec<Outcome>, Arc<Next>>>,
    reports: Mutex<HashMap<ReportKey, Report>>,
    seeded: Option<Seeded>,
    database: Database,
    /// How far it comes before it writes, and why no further, if it does not.
    ends: Result<(), Stopped>,
    /// Whether the API server is read first, since what is recorded is of a later edit.
    pub is_behind: bool,
    /// What is written; none if the pass only reports: no plan was made, or it is not to be written.
    pub plan: Option<Box<Written>>,
}

/// What is written of a plan.
pub struct Written {
    recorded: Recorded,
    admitted: Admitted,
    standing: Standing,
    /// The hash of the plan.
    pub hash: String,
    /// The status that records it, if it is not recorded already.
    pub record: Option<Fingerprinted<DatabaseStatus>>,
    /// Whether the API server is read to confirm that the Database and its class are as they were seen, if nothing was
    /// recorded.
    pub confirms: bool,
}

/// The plan of a revision for what is seen, and what admission makes of it.
pub fn admitted(seen: &Seen, revision: Revision) -> Option<Admitted> {
    let lookup = Lookup(&seen.view, &seen.watched);
    let database = seen.view.database.object();
    let class = observe::class(&database, &class_kind(), &lookup).ok()?;
    planned(&database, &class, revision, &lookup).ok().map(|(_, admitted)| admitted)
}

fn planned(database: &Database, class: &Class, revision: Revision, lookup: &Lookup) -> Result<(Plan, Admitted), Fault> {
    let grants = Grants::of(&json!({"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}));
    let (descriptor, per_cluster) = (revision.descriptor(), observe::partitions_per_cluster(database, class));
    let request = observe::observe(database, class, per_cluster, &descriptor, lookup, "cluster.local")?;
    let failed = || Fault::Plugin { message: format!("plugin {revision:?} trapped") };
    let plan = revision.plan(&request).ok_or_else(failed)?;
    let kept = Kept::of(&descriptor, database, lookup);
    let admitted = admission::admit(&plan, &request, database, &descriptor, &grants, "kube-system.atomix-controller", &kept);
    let admitted = admitted.map_err(|why| Fault::Plugin { message: format!("not admitted: {why}") })?;
    Ok((plan, admitted))
}

/// Decides a pass.
pub fn decided(seen: &Seen, seeded: Option<Seeded>) -> Decided {
    let mut database = seen.view.database.object();
    let not_taken = observe::keep_what_runs(&mut database);
    let start = Start {
        generation: database.metadata.generation.unwrap_or_default(),
        partitions: database.spec.partitions,
        selector: names::selector(NAMESPACE, "d"),
        not_taken,
    };
    let (is_behind, result) = match to_be_written(seen, seeded, &database, start) {
        Err(stopped) => (false, Err(stopped)),
        Ok(clearance) => clearance,
    };
    let (ends, plan) = match result {
        Ok(written) => (Ok(()), Some(Box::new(written))),
        Err(stopped) => (Err(stopped), None),
    };
    Decided { nexts: Mutex::default(), reports: Mutex::default(), seeded, database, ends, is_behind, plan }
}

type Clearance = (bool, Result<Written, Stopped>);

fn to_be_written(seen: &Seen, seeded: Option<Seeded>, database: &Database, start: Start) -> Result<Clearance, Stopped> {
    let lookup = Lookup(&seen.view, &seen.watched);
    // As `resolve`, `observe`, `plan` and `admit` of the controller.
    let class = match observe::class(database, &class_kind(), &lookup) {
        Ok(class) => class,
        Err(fault) => return Err(Stopped::after(start, fault)),
    };
    let resolved = Resolved {
        start,
        class: class.in_use.clone(),
        class_uid: class.live.uid.clone(),
        fallback: class.fallback,
        plugin: seen.serving.in_use(),
        plugin_outdated: None,
    };
    let recorded = database.status.iter().flat_map(|status| &status.kinds);
    if let Some(fault) = recorded.map(|kind| observe::synced(&lookup, kind)).find_map(Result::err) {
        return Err(Stopped::after(resolved, fault));
    }
    let per_cluster = observe::partitions_per_cluster(database, &class);
    let observed = pass::Observed {
        resolved,
        planned_from: (class.live.uid.clone(), class.live.generation()),
        per_cluster: i32::try_from(per_cluster).unwrap_or(i32::MAX),
        pod_labels: observe::pod_labels(database),
    };
    let (plan, newest) = match planned(database, &class, seen.serving, &lookup) {
        Ok(planned) => planned,
        Err(fault) => return Err(Stopped::after(observed, fault)),
    };
    let mut planned_now = Planned { observed, states: plan.partitions, group: Some(Ok(None)), ..Planned::default() };
    let (mut revision, mut chosen, mut held) = (seen.serving, newest, None);
    let before = database.status.clone().unwrap_or_default();
    let other = objects::planned_otherwise(&before, &chosen, &seen.serving.in_use().digest);
    let other = other.and_then(|other| Revision::of(&other.digest)).filter(|other| seen.before.contains(other));
    if let Some(other) = other
        && let Ok((plan, running)) = planned(database, &class, other, &lookup)
        && let Some(message) = objects::held_back(&chosen, &running, accepted(database, &chosen, seeded))
    {
        held = Some(Fault::Held { plan: chosen.hash.clone(), message });
        (revision, chosen) = (other, running);
        planned_now.states = plan.partitions;
    }
    let owner = Owner::of(database);
    let found = intent::found(&lookup, &owner, &chosen);
    let admitted = pass::Admitted {
        planned: planned_now,
        plugin: revision.in_use(),
        held,
        newest_fails: None,
        partitions: found.partitions,
        missing: found.missing,
    };
    Ok(clear((database, &class, revision), admitted, chosen, (&lookup, seeded)))
}

/// As `Write::record` of the controller.
fn clear(
    (database, class, revision): (&Database, &Class, Revision),
    admitted: pass::Admitted,
    chosen: Admitted,
    (lookup, seeded): (&Lookup, Option<Seeded>),
) -> Clearance {
    let digest = revision.in_use().digest;
    let mut accepting = database.clone();
    if let Some(hash) = accepted(database, &chosen, seeded) {
        accepting.metadata.annotations.get_or_insert_default().insert(names::ACCEPT.to_owned(), hash.to_owned());
    }
    let intent = Intent { database: &accepting, class: &class.live, admitted: &chosen, digest: &digest };
    let standing = match intent.standing(lookup, now()) {
        Ok(standing) => standing,
        Err(fault) => return (false, Err(Stopped::after(admitted, fault))),
    };
    let is_behind = intent.is_behind();
    if let Err(fault) = intent.clear(&standing, &mut PlanChurn::default(), *NOW) {
        return (is_behind, Err(Stopped::after(admitted, fault)));
    }
    let (plan, kinds) = (intent.plan(), intent.kinds().into_iter().collect());
    let pass = Pass { stage: Box::new(Recorded { admitted, plan, kinds }.into()), stopped: None };
    let before = database.status.clone().unwrap_or_default();
    let after = status::database(&before, &pass, now());
    let record = (!intent::is_recorded(&before, &after)).then(|| Fingerprinted::new(after));
    let is_repair =
        |(object, live): (&Stamped, Option<&Live>)| live.is_some_and(|live| object.is_of(live.annotation(names::HASH)));
    let only_repairs = || standing.orphans().is_empty() && standing.pairs(&chosen).all(is_repair);
    let confirms = standing.acts(&chosen, &intent.owner(), &Memory::default(), *NOW)
        && !(seeded == Some(Seeded::RepairsUnconfirmed) && only_repairs());
    let recorded = pass.stage.into_recorded().expect("it is what it was made of");
    let hash = chosen.hash.clone();
    (is_behind, Ok(Written { recorded, admitted: chosen, standing, hash, record, confirms }))
}

/// The plan that was accepted; with the hold taken out, whichever.
fn accepted<'a>(database: &'a Database, plan: &'a Admitted, seeded: Option<Seeded>) -> Option<&'a str> {
    if seeded == Some(Seeded::NothingHeld) { Some(&plan.hash) } else { intent::accepted(database) }
}

impl Decided {
    /// Whether nothing is decided, since something is not seen yet.
    pub fn is_unseen(&self) -> bool {
        matches!(&self.ends, Err(Stopped { fault: Fault::Unseen { .. }, .. }))
    }

    /// What is next, given the outcomes of the writes before.
    pub fn next(&self, done: &[Outcome]) -> Option<Arc<Next>> {
        let written = self.plan.as_ref()?;
        if let Some(next) = self.nexts.lock().get(done) {
            return Some(next.clone());
        }
        let (write, writing) = written.next(done, &self.database, self.seeded);
        let next = Arc::new(Next { write, may_prune: writing.may_prune() });
        self.nexts.lock().insert(done.to_vec(), next.clone());
        Some(next)
    }

    /// The report at the end. `done` has the outcomes of its writes; `view` and `last` are what the caches hold and which
    /// status was written last by then.
    pub fn report(
        &self,
        done: &[Outcome],
        (view, watched): (&View, &[bool; SLOTS.len()]),
        last: Option<&Fingerprinted<DatabaseStatus>>,
    ) -> Report {
        let key = (done.to_vec(), view.clone(), *watched, last.cloned());
        if let Some(report) = self.reports.lock().get(&key) {
            return report.clone();
        }
        let before = last.map(|last| (*last.0).clone()).or_else(|| self.database.status.clone()).unwrap_or_default();
        let pass = Pass::from(match (&self.ends, &self.plan) {
            (Err(stopped), _) => Err(stopped.clone()),
            (Ok(()), written) => {
                let written = written.as_ref().expect("what ends well is a plan");
                Ok(written.applied(done, &self.database, &Lookup(view, watched), self.seeded))
            }
        });
        let after = status::database(&before, &pass, now());
        let differs = status::database_pause(&before, &after).is_some();
        let again = pass.stage.applied().is_some_and(|applied| applied.look_again.is_some());
        let report = (differs.then(|| Fingerprinted::new(after)), again || pass.faults().any(Fault::retried));
        self.reports.lock().insert(key, report.clone());
        report
    }
}

impl Written {
    /// The objects of the plan, by place.
    pub fn fills(&self) -> impl Iterator<Item = Slot> {
        self.admitted.objects.iter().filter_map(|object| Slot::of(&object.kind, &object.name))
    }

    /// As `apply::converge` of the controller: what is next, given the outcomes of the writes before; and how far the
    /// writing has come.
    fn next(&self, done: &[Outcome], database: &Database, seeded: Option<Seeded>) -> (Option<ObjectWrite>, Writing) {
        let owner = Owner::of(database);
        let mut writing = Writing::of(&self.standing, &self.admitted, &owner);
        let mut done = done.iter();
        for (object, live) in self.standing.pairs(&self.admitted) {
            if writing.has_stopped() {
                break;
            }
            if writing.skips(object) {
                continue;
            }
            let title = format!("{} {}", object.kind.kind, object.name);
            let decision = match decide(object, live, &owner, None) {
                Decision::Leave if seeded == Some(Seeded::NothingCompared) && !object.once => Decision::Write(String::new()),
                Decision::Write(_)
                    if seeded == Some(Seeded::NoDriftSeen)
                        && live.is_some_and(|live| object.is_of(live.annotation(names::HASH))) =>
                {
                    Decision::Leave
                }
                decision => decision,
            };
            match decision {
                Decision::Leave => {}
                Decision::Write(_) | Decision::Adopt => match done.next() {
                    Some(Outcome::Done) => writing.wrote(),
                    Some(outcome) => writing.failed(object, outcome.fault(title)),
                    None => {
                        let slot = Slot::of(&object.kind, &object.name).expect("each object has a place");
                        let write = ObjectWrite::Apply(slot, Fingerprinted::new(object.manifest.clone()), object.once);
                        return (Some(write), writing);
                    }
                },
                Decision::Orphan | Decision::Taken(_) => writing.failed(object, Outcome::Taken.fault(title)),
                Decision::Going => writing.failed(object, Fault::waiting(Reason::Terminating, title)),
            }
        }
        if writing.may_prune() || seeded == Some(Seeded::PrunesAnyway) {
            let all = Grants::of(&json!({"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}));
            for removal in self.standing.removals(&owner, &all, "the model") {
                match removal.map(|removal| (removal, done.next())) {
                    Ok((_, Some(Outcome::Done))) => {}
                    Ok((removal, Some(outcome))) => writing.faults.push(outcome.fault(removal.live.name.clone())),
                    Ok((removal, None)) => {
                        let slot = Slot::of(removal.kind, &removal.live.name).expect("each object has a place");
                        let uid = removal.uid().rsplit('-').next().and_then(|uid| uid.parse().ok()).expect("a number");
                        return (Some(ObjectWrite::Remove(slot, uid)), writing);
                    }
                    Err(fault) => writing.faults.push(fault),
                }
            }
        }
        (None, writing)
    }

    /// As `Write::apply` of the controller.
    fn applied(&self, done: &[Outcome], database: &Database, lookup: &Lookup, seeded: Option<Seeded>) -> pass::Applied {
        let (_, writing) = self.next(done, database, seeded);
        let owner = Owner::of(database);
        let found = intent::found(lookup, &owner, &self.admitted);
        let mut kinds: Vec<Kind> = self.recorded.kinds.clone();
        kinds.retain(|kind| !objects::is_rid_of(lookup, &owner, kind, &self.admitted));
        pass::Applied {
            recorded: self.recorded.clone(),
            partitions: found.partitions,
            missing: found.missing,
            kinds,
            look_again: (writing.looks_again() && seeded != Some(Seeded::NoLookAgain)).then_some(Duration::ZERO),
            faults: writing.faults,
            ..pass::Applied::default()
        }
    }
}

impl Outcome {
    fn fault(self, title: String) -> Fault {
        let reason = match self {
            Outcome::Taken => Reason::NameTaken,
            Outcome::Conflict => Reason::Conflict,
            Outcome::Done | Outcome::Fenced => Reason::ApiUnavailable,
        };
        Fault::Cluster { reason, message: title }
    }
}
