//! Starts and rollouts: from the edit until the last member runs it, and until it has taken too long. Pure: time is an argument.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::{later, standing};
use crate::pass::Pass;
use atomix_model::condition::{ConditionType, Reason};
use atomix_model::crd::database::{DatabaseStatus, ProgressStatus};
use atomix_model::limits;

/// How a start or a rollout goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// What is remembered of it in the status; None if neither is on.
    pub status: Option<ProgressStatus>,
    /// An edit is about to be written.
    pub applying: bool,
    /// Members are being replaced.
    pub rolling: bool,
    /// From when on it is reported what holds a rollout up: a moment of each restart is expected.
    pub reported_from: Option<Timestamp>,
    /// Whether it is reported now.
    pub reported: bool,
    /// Until when members that are missing are on their first start.
    pub starts_until: Option<Timestamp>,
    /// When it will have taken too long, or has.
    pub deadline: Option<Timestamp>,
    /// Whether it has.
    pub overdue: bool,
}

impl Progress {
    /// How it goes now, given the status that stands; `all_ready` is whether every partition is.
    pub fn of(before: &DatabaseStatus, pass: &Pass, all_ready: bool, now: Timestamp) -> Progress {
        let kept = before.progress.clone();
        let (Some(states), Some(rollout)) = (pass.states(), pass.rollout()) else {
            return Progress { status: kept, ..Progress::default() };
        };
        if pass.is_about_to_write() && is_edit(before, pass) {
            return Progress { status: kept, applying: true, ..Progress::default() };
        }
        let was = standing(&before.conditions, ConditionType::Progressing).map(|(_, reason)| reason);
        let degraded = standing(&before.conditions, ConditionType::Degraded).is_some_and(|(status, _)| status == "True");
        let missing = states.iter().any(|state| state.problem.is_some());
        let was_rolling = kept.as_ref().is_some_and(|kept| kept.rolling);
        let replaced = was == Some(Reason::Applying)
            && !degraded
            && before.partitions == pass.stage.start().partitions
            && before.plan.is_some();
        let rolling = rollout.rolling
            || rollout.stale && (was_rolling || was == Some(Reason::Applying))
            || missing && (was_rolling || replaced);
        let starting = kept.is_some() && !rolling;
        if !rolling && all_ready && !(starting && missing) {
            return Progress::default();
        }
        let mut status = ProgressStatus {
            rolling,
            members: rollout.members,
            updated: rollout.updated,
            ready: rollout.ready,
            last_progress_time: Time(now),
        };
        let same = |kept: &ProgressStatus| {
            kept.rolling == rolling && kept.members == rollout.members && was != Some(Reason::Applying)
        };
        if let Some(kept) = kept.filter(same) {
            let grew = status.updated > kept.updated || status.ready > kept.ready;
            (status.updated, status.ready) = (status.updated.max(kept.updated), status.ready.max(kept.ready));
            if !grew {
                status.last_progress_time = kept.last_progress_time;
            }
        }
        let deadline = later(status.last_progress_time.0, limits::PROGRESS_DEADLINE);
        let reported_from = later(status.last_progress_time.0, limits::PROGRESS_REPORTED_AFTER);
        Progress {
            status: Some(status),
            applying: false,
            rolling,
            reported_from: rolling.then_some(reported_from),
            reported: rolling && reported_from <= now,
            starts_until: Some(reported_from).filter(|_| starting && !degraded), // what is lost is Degraded from the beginning
            deadline: Some(deadline),
            overdue: deadline <= now,
        }
    }

    /// How far it has come, in words.
    pub fn words(&self, pass: &Pass) -> String {
        let rollout = pass.rollout().cloned().unwrap_or_default();
        let mut words = match (self.rolling || !rollout.waits.is_empty(), rollout.members) {
            (true, members @ 1..) => format!("{} of {members} members run the new revision", rollout.updated),
            (true, _) => "members are being replaced".to_owned(),
            (false, members @ 1..) if self.overdue => format!("{} of {members} members are ready", rollout.ready),
            (false, _) if pass.states().into_iter().flatten().all(|state| state.ready) => {
                "members are on their way".to_owned()
            }
            (false, _) => "partitions are on their way".to_owned(),
        };
        if self.rolling && rollout.members > 0 && rollout.updated == rollout.members {
            words.push_str(", and not all are ready yet");
        }
        for waits in rollout.waits.iter().take(WAITS_LISTED_MAX) {
            words.push_str("; ");
            words.push_str(waits);
        }
        let mut problems = pass.states().into_iter().flatten().filter_map(|state| Some((state.id, state.problem.as_ref()?)));
        if let Some((id, problem)) = problems.find(|_| self.reported || self.overdue) {
            words.push_str(&format!("; partition {id}: {}", problem.message));
        }
        words
    }
}

/// Until when members that are missing are on their first start, as a status says that stands.
pub fn starts_until(status: &DatabaseStatus) -> Option<Timestamp> {
    let starting = status.progress.as_ref().filter(|progress| !progress.rolling)?;
    let degraded = standing(&status.conditions, ConditionType::Degraded).is_some_and(|(status, _)| status == "True");
    (!degraded).then(|| later(starting.last_progress_time.0, limits::PROGRESS_REPORTED_AFTER))
}

/// Most workloads that are named with what they wait for: a person looks at one of them at a time.
const WAITS_LISTED_MAX: usize = 4;

/// Whether the Database or its class was edited, or another revision of the plugin plans it, rather than that the plan follows what happens.
fn is_edit(before: &DatabaseStatus, pass: &Pass) -> bool {
    let (Some(old), Some(recorded)) = (&before.plan, pass.stage.recorded()) else { return false };
    let made_from =
        |plan: &atomix_model::crd::database::PlanInUse| (plan.generation, plan.class_uid.clone(), plan.class_generation);
    let is_made_by_another = before.plugin.as_ref().is_some_and(|plugin| plugin.digest != recorded.admitted.plugin.digest);
    old.hash != recorded.plan.hash && (made_from(old) != made_from(&recorded.plan) || is_made_by_another)
}
