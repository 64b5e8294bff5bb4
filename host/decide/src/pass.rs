//! What one pass over a database found out, as values: each step owns what it found and the value of the step before. A pass ends with
//! [`Applied`], or is [`Stopped`] at the last step that went well. Knows nothing of how steps are done.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use crate::status::{Course, Rollout};
use atomix_model::condition::Reason;
use atomix_model::contract::{Note, PartitionState, Unsupported};
use atomix_model::crd::database::{ClassInUse, GroupStatus, PlanInUse, PluginInUse};
use atomix_model::fault::Fault;
use atomix_model::object::Kind;

/// What follows from the Database alone.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Generation of the Database.
    pub generation: i64,
    /// `spec.partitions`
    pub partitions: i32,
    /// The label selector of its pods, as text.
    pub selector: String,
    /// Edits of its spec that what runs cannot take.
    pub not_taken: Vec<Unsupported>,
}

/// The class, and the plugin that serves its kind.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    /// The step before.
    pub start: Start,
    /// The class in use.
    pub class: ClassInUse,
    /// UID of the class.
    pub class_uid: String,
    /// Whether the class was found in another namespace than the reference names.
    pub fallback: bool,
    /// The newest revision that serves the kind.
    pub plugin: PluginInUse,
    /// Why the revision that serves is not what the plugin's ConfigMap holds, if it is not.
    pub plugin_outdated: Option<(Reason, String)>,
}

/// What the caches hold, and what follows from that before any plan.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The step before.
    pub resolved: Resolved,
    /// UID and generation of the class that is planned from: not the newest one while an edit of it is not taken.
    pub planned_from: (String, i64),
    /// How many partitions share a cluster.
    pub per_cluster: i32,
    /// Labels that the pods have.
    pub pod_labels: BTreeMap<String, String>,
}

/// The plugin's answer, and the state of what runs, judged by it.
#[derive(Clone, Debug, Default)]
pub struct Planned {
    /// The step before.
    pub observed: Observed,
    /// The state of each partition, with causes that only Kubernetes reports.
    pub states: Vec<PartitionState>,
    /// How partitions and workloads have come along.
    pub health: Health,
    /// Changes that running storage cannot make.
    pub unsupported: Vec<Unsupported>,
    /// Notes of the plugin for a person.
    pub notes: Vec<Note>,
    /// What the class means as a group of the old gRPC API: None within if the plugin has no groups, [`Fault::Plugin`] if
    /// the call failed.
    pub group: Option<Result<Option<GroupStatus>, Fault>>,
}

/// How partitions and workloads have come along up to now.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// By the partition's id.
    pub courses: BTreeMap<u32, Course>,
    /// All of them together.
    pub course: Course,
    /// How far workloads have come with their newest revision.
    pub rollout: Rollout,
    /// Until when containers that kept exiting may do so again.
    pub unsteady_until: Option<Timestamp>,
    /// When causes are to be looked for again, although no event may come.
    pub look_again: Option<Duration>,
}

/// A plan that may be written, as far as it concerns nothing but itself.
#[derive(Clone, Debug, Default)]
pub struct Admitted {
    /// The step before.
    pub planned: Planned,
    /// The revision whose plan it is.
    pub plugin: PluginInUse,
    /// Why it is not the newest revision's, if it is not.
    pub held: Option<Fault>,
    /// Why it is made from the class as it was before its last edit, or by the revision before the newest: what is wrong with the newest.
    pub newest_fails: Option<Fault>,
    /// How many of the database's Partitions there are.
    pub partitions: i32,
    /// The first object of the plan that is not there, e.g. `Service db-1`.
    pub missing: Option<String>,
}

/// What must not be lost once the first object is written: it stands in the status from here on.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// The step before.
    pub admitted: Admitted,
    /// The plan that is being written or runs.
    pub plan: PlanInUse,
    /// All kinds that were ever written for the database.
    pub kinds: Vec<Kind>,
}

/// The plan is written, but for what went wrong with single objects.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// The step before.
    pub recorded: Recorded,
    /// How many of the database's Partitions there are now.
    pub partitions: i32,
    /// The first object of the plan that is not there even now.
    pub missing: Option<String>,
    /// Kinds of which there may be objects of the database.
    pub kinds: Vec<Kind>,
    /// How far workloads have come, after the writes.
    pub rollout: Rollout,
    /// What went wrong, object by object.
    pub faults: Vec<Fault>,
    /// When to look again although nothing may happen.
    pub look_again: Option<Duration>,
}

/// A pass that could not go on.
#[derive(Clone, Debug)]
pub struct Stopped {
    /// The last step that went well.
    pub after: Box<Stage>,
    /// Why it did not go on.
    pub fault: Fault,
}

impl Stopped {
    /// A pass that went no further than this step.
    pub fn after(stage: impl Into<Stage>, fault: Fault) -> Stopped {
        Stopped { after: Box::new(stage.into()), fault }
    }
}

/// How far a pass has come.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Stage {
    Start(Start),
    Resolved(Resolved),
    Observed(Observed),
    Planned(Planned),
    Admitted(Admitted),
    Recorded(Recorded),
    Applied(Applied),
}

macro_rules! stages {
    ($($stage:ident),*) => {
        $(impl From<$stage> for Stage {
            fn from(stage: $stage) -> Stage {
                Stage::$stage(stage)
            }
        })*
    };
}
stages!(Start, Resolved, Observed, Planned, Admitted, Recorded, Applied);

impl Stage {
    /// What was found first.
    pub fn start(&self) -> &Start {
        match self {
            Stage::Start(start) => start,
            Stage::Resolved(resolved) => &resolved.start,
            Stage::Observed(observed) => &observed.resolved.start,
            Stage::Planned(planned) => &planned.observed.resolved.start,
            Stage::Admitted(admitted) => &admitted.planned.observed.resolved.start,
            Stage::Recorded(recorded) => &recorded.admitted.planned.observed.resolved.start,
            Stage::Applied(applied) => &applied.recorded.admitted.planned.observed.resolved.start,
        }
    }

    /// What was resolved, if it came so far; the same of the stages below.
    pub fn resolved(&self) -> Option<&Resolved> {
        match self {
            Stage::Resolved(resolved) => Some(resolved),
            _ => self.observed().map(|observed| &observed.resolved),
        }
    }

    #[allow(missing_docs)]
    pub fn observed(&self) -> Option<&Observed> {
        match self {
            Stage::Observed(observed) => Some(observed),
            _ => self.planned().map(|planned| &planned.observed),
        }
    }

    #[allow(missing_docs)]
    pub fn planned(&self) -> Option<&Planned> {
        match self {
            Stage::Planned(planned) => Some(planned),
            _ => self.admitted().map(|admitted| &admitted.planned),
        }
    }

    #[allow(missing_docs)]
    pub fn admitted(&self) -> Option<&Admitted> {
        match self {
            Stage::Admitted(admitted) => Some(admitted),
            _ => self.recorded().map(|recorded| &recorded.admitted),
        }
    }

    #[allow(missing_docs)]
    pub fn recorded(&self) -> Option<&Recorded> {
        match self {
            Stage::Recorded(recorded) => Some(recorded),
            _ => self.applied().map(|applied| &applied.recorded),
        }
    }

    /// The value of this step, if it is the last that was made.
    pub fn into_recorded(self) -> Option<Recorded> {
        match self {
            Stage::Recorded(recorded) => Some(recorded),
            _ => None,
        }
    }

    #[allow(missing_docs)]
    pub fn applied(&self) -> Option<&Applied> {
        match self {
            Stage::Applied(applied) => Some(applied),
            _ => None,
        }
    }
}

/// How far a pass came, and why no further.
#[derive(Clone, Debug)]
pub struct Pass {
    /// The last step that went well.
    pub stage: Box<Stage>,
    /// Why it did not go on, if it stopped.
    pub stopped: Option<Fault>,
}

impl From<Result<Applied, Stopped>> for Pass {
    fn from(result: Result<Applied, Stopped>) -> Pass {
        match result {
            Ok(applied) => Pass { stage: Box::new(applied.into()), stopped: None },
            Err(Stopped { after, fault }) => Pass { stage: after, stopped: Some(fault) },
        }
    }
}

impl Pass {
    /// What went wrong, worst first.
    pub fn faults(&self) -> impl Iterator<Item = &Fault> {
        let group = self.stage.planned().and_then(|planned| planned.group.as_ref()?.as_ref().err());
        let newest_fails = self.stage.admitted().and_then(|admitted| admitted.newest_fails.as_ref());
        let held = self.stage.admitted().and_then(|admitted| admitted.held.as_ref());
        let applied = self.stage.applied().map(|applied| applied.faults.as_slice()).unwrap_or_default();
        self.stopped.iter().chain(newest_fails).chain(group).chain(held).chain(applied)
    }

    /// How each partition goes, if there was a plan.
    pub fn states(&self) -> Option<&[PartitionState]> {
        self.stage.planned().map(|planned| planned.states.as_slice())
    }

    /// Changes that running storage cannot make.
    pub fn unsupported(&self) -> impl Iterator<Item = &Unsupported> {
        let planned = self.stage.planned().map(|planned| planned.unsupported.as_slice()).unwrap_or_default();
        self.stage.start().not_taken.iter().chain(planned)
    }

    /// How far workloads have come with their newest revision.
    pub fn rollout(&self) -> Option<&Rollout> {
        let applied = self.stage.applied().map(|applied| &applied.rollout);
        applied.or_else(|| self.stage.planned().map(|planned| &planned.health.rollout))
    }

    /// How many of the database's Partitions there are, if they were counted.
    pub fn partitions(&self) -> Option<i32> {
        let applied = self.stage.applied().map(|applied| applied.partitions);
        applied.or_else(|| self.stage.admitted().map(|admitted| admitted.partitions))
    }

    /// The first object of the plan that is not there and is not about to be made either.
    pub fn missing(&self) -> Option<&str> {
        match &*self.stage {
            Stage::Applied(applied) => applied.missing.as_deref(),
            Stage::Admitted(admitted) => admitted.missing.as_deref(),
            _ => None,
        }
    }

    /// Whether the plan is recorded and about to be written.
    pub fn is_about_to_write(&self) -> bool {
        matches!(*self.stage, Stage::Recorded(_))
    }
}
