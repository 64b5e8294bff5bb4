//! How far a pass came → conditions, events, and when to look again. Pure: knows no client and no clock; time is an argument.

mod causes;
mod conditions;
mod course;
mod events;
pub mod kstatus;
mod last_written;
mod progress;
mod rollout;

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;

use crate::pass::{Admitted, Health, Pass, Resolved, Stage, Start};
use atomix_model::condition::{ConditionType, Phase, Reason};
use atomix_model::contract::{self, PartitionState, Unsupported};
use atomix_model::crd::database::{DatabaseStatus, PluginInUse};
use atomix_model::crd::partition::{Endpoint, PartitionStatus};
use atomix_model::fault::Fault;
use atomix_model::limits;

pub use causes::{Causes, claims_count, explained, of as causes};
pub use conditions::Conditions;
use course::{Circumstances, Verdict, verdict};
pub use course::{Course, is_cause};
pub use events::{EventNote, events};
pub use last_written::LastWritten;
use progress::Progress;
pub use rollout::{Object, Rollout, of as rollout, reads, unsteady_until};

/// The status after a pass, given the one that stands.
pub fn database(before: &DatabaseStatus, pass: &Pass, now: Timestamp) -> DatabaseStatus {
    let Start { generation, partitions: wanted, ref selector, .. } = *pass.stage.start();
    let (resolved, observed, recorded) = (pass.stage.resolved(), pass.stage.observed(), pass.stage.recorded());
    let (states, planned) = (pass.states(), pass.stage.planned());
    let per_cluster = observed.map(|observed| observed.per_cluster).or(before.partitions_per_cluster);
    let ready_ids: Vec<u32> = states.into_iter().flatten().filter(|state| state.ready).map(|state| state.id).collect();
    let (ready_partitions, ready_clusters, clusters) = match (states, per_cluster) {
        (Some(states), Some(per_cluster)) => {
            let cluster = |id: u32| id.div_ceil(u32::try_from(per_cluster).unwrap_or(1).max(1));
            let clusters = states.iter().map(|state| cluster(state.id)).max().unwrap_or(0);
            let whole = |c: &u32| states.iter().filter(|state| cluster(state.id) == *c).all(|state| state.ready);
            let ready = (1..=clusters).filter(whole).count();
            (count(ready_ids.len()), count(ready), i32::try_from(clusters).unwrap_or(i32::MAX))
        }
        _ => (before.ready_partitions, before.ready_clusters, before.clusters),
    };
    let progress = Progress::of(before, pass, all_ready(before, pass), now);
    let mut conditions = Conditions::of(&before.conditions, Some(generation), now);
    accepted(&mut conditions, before, pass);
    readiness(&mut conditions, before, pass, ready_partitions);
    let missing = worst(states.into_iter().flatten()).is_some() && ready_partitions == before.ready_partitions;
    if missing && judged(before, (pass, &progress), now).0 == Verdict::Stays {
        conditions.stay_false(ConditionType::Ready); // with the cause that is shown
    }
    progressing(&mut conditions, pass, &progress);
    degraded(&mut conditions, before, (pass, &progress), now);
    match resolved.and_then(|resolved| resolved.plugin_outdated.as_ref()) {
        Some((reason, message)) => conditions.set(ConditionType::PluginCurrent, false, reason.clone(), message.clone()),
        None => conditions.remove(ConditionType::PluginCurrent),
    }
    kstatus::database(&mut conditions, pass);
    let phase = phase(&conditions);
    let kinds = pass.stage.applied().map(|applied| &applied.kinds).or(recorded.map(|recorded| &recorded.kinds));
    let group = planned.and_then(|planned| planned.group.as_ref()?.as_ref().ok());
    DatabaseStatus {
        observed_generation: Some(generation),
        phase: Some(phase.to_string()),
        ready: Some(format!("{ready_partitions}/{wanted}")),
        partitions: pass.partitions().unwrap_or(before.partitions),
        ready_partitions,
        clusters,
        ready_clusters,
        partitions_per_cluster: per_cluster,
        selector: Some(selector.clone()),
        pod_labels: observed.map(|observed| observed.pod_labels.clone()).or_else(|| before.pod_labels.clone()),
        storage_class: resolved.map(|resolved| resolved.class.clone()).or_else(|| before.storage_class.clone()),
        plugin: plugin(before, &pass.stage).or_else(|| before.plugin.clone()),
        plan: recorded.map(|recorded| recorded.plan.clone()).or_else(|| before.plan.clone()),
        group: group.cloned().unwrap_or_else(|| before.group.clone()),
        progress: progress.status,
        kinds: kinds.unwrap_or(&before.kinds).clone(),
        conditions: conditions.into_vec(),
    }
}

/// The revision that planned what runs; before anything runs, the one that would.
fn plugin(before: &DatabaseStatus, stage: &Stage) -> Option<PluginInUse> {
    let written = |admitted: &&Admitted| stage.recorded().is_some() || admitted.held.is_some();
    let planned_it = stage.admitted().filter(written).map(|admitted| &admitted.plugin);
    let would = || stage.resolved().filter(|_| before.plan.is_none()).map(|resolved| &resolved.plugin);
    planned_it.or_else(would).cloned()
}

/// The status of a database that cannot be read: what stood there, and that.
pub fn malformed(before: &DatabaseStatus, generation: Option<i64>, message: String, now: Timestamp) -> DatabaseStatus {
    let mut conditions = Conditions::of(&before.conditions, generation, now);
    for (type_, status) in [(ConditionType::Accepted, false), (ConditionType::Ready, false), (ConditionType::Stalled, true)]
    {
        conditions.set(type_, status, Reason::Malformed, message.clone());
    }
    DatabaseStatus {
        observed_generation: generation,
        phase: Some(Phase::Blocked(Reason::Malformed).to_string()),
        conditions: conditions.into_vec(),
        ..before.clone()
    }
}

fn accepted(conditions: &mut Conditions, before: &DatabaseStatus, pass: &Pass) {
    if let Some(failed) = not_planned(before, pass) {
        return conditions.set_text(ConditionType::Accepted, "Unknown", failed.reason(), failed.message().to_owned());
    }
    let not_taken = pass.faults().find(|fault| fault.spec_not_taken());
    if let Some(fault) = not_taken {
        return conditions.set(ConditionType::Accepted, false, fault.reason(), fault.message().to_owned());
    }
    if pass.unsupported().next().is_some() {
        let sentence = |change: &Unsupported| {
            format!("{} stays {} instead of {}: {}", change.field, change.kept, change.wanted, change.why)
        };
        let message = pass.unsupported().map(sentence).collect::<Vec<_>>().join("; ");
        return conditions.set(ConditionType::Accepted, false, Reason::ChangeNotTaken, message);
    }
    match pass.stage.resolved() {
        Some(Resolved { class, fallback: true, .. }) => {
            let message = format!(
                "{} {} is not in namespace {}, which the reference names; the one in namespace {} is used",
                class.kind, class.name, class.wanted_namespace, class.namespace
            );
            conditions.set(ConditionType::Accepted, true, Reason::ClassFromOwnNamespace, message);
        }
        Some(Resolved { class, .. }) => {
            conditions.set(
                ConditionType::Accepted,
                true,
                Reason::Accepted,
                format!("{} {}/{} is used", class.kind, class.namespace, class.name),
            );
        }
        None if pass.stopped.is_none() => conditions.set(ConditionType::Accepted, true, Reason::Accepted, String::new()),
        None => {}
    }
}

/// Why it is not known whether an edit is taken: the plugin failed on it.
fn not_planned<'a>(before: &DatabaseStatus, pass: &'a Pass) -> Option<&'a Fault> {
    let newest_fails = pass.stage.admitted().and_then(|admitted| admitted.newest_fails.as_ref());
    let failed = pass.stopped.as_ref().or(newest_fails).filter(|fault| matches!(fault, Fault::Plugin { .. }))?;
    let made_from = |class_generation| Some((pass.stage.start().generation, class_generation));
    let recorded = pass.stage.recorded().map(|recorded| &recorded.plan);
    let runs = recorded.or(before.plan.as_ref()).map(|plan| (plan.generation, plan.class_generation));
    (runs != made_from(pass.stage.resolved()?.class.generation)).then_some(failed)
}

fn readiness(conditions: &mut Conditions, before: &DatabaseStatus, pass: &Pass, ready: i32) {
    let Start { generation, partitions: wanted, .. } = *pass.stage.start();
    let edited = pass.is_about_to_write() && before.observed_generation != Some(generation);
    let all = all_ready(before, pass);
    if edited && !all {
        conditions.set(ConditionType::Ready, false, Reason::Applying, "the change is being applied".to_owned());
    } else if all {
        let message = match wanted {
            1 => "the partition is ready".to_owned(),
            wanted => format!("all {wanted} partitions are ready"),
        };
        conditions.set(ConditionType::Ready, true, Reason::Ready, message);
    } else if let Some(states) = pass.states() {
        let (fault, there) = (pass.faults().next(), pass.partitions().unwrap_or(before.partitions));
        let count = format!("{ready} of {wanted} partitions are ready");
        let (reason, mut message) = match fault {
            // Members are ready, and something else is not there, or nothing is: that is why.
            Some(fault) if ready == wanted || there == 0 => (fault.reason(), fault.message().to_owned()),
            None if ready == wanted => {
                let missing = pass.missing().map(|missing| format!("{missing} is not there"));
                let partitions = format!("{there} of {wanted} Partition objects are there");
                (Reason::PartitionsNotReady, missing.unwrap_or(partitions))
            }
            Some(fault) => (Reason::PartitionsNotReady, format!("{count}; {}", fault.message())),
            None => (Reason::PartitionsNotReady, count),
        };
        let missing = states.iter().filter(|state| !state.ready);
        if let Some((state, problem)) = worst(missing).filter(|_| reason == Reason::PartitionsNotReady) {
            message = format!("{message}; partition {}: {}", state.id, problem.message);
        }
        conditions.set(ConditionType::Ready, false, reason, message);
    } else if let Some(fault) = pass.faults().next() {
        // No plan could be made. What was known of this generation stays: what runs is left alone.
        let known = before
            .conditions
            .iter()
            .any(|c| c.type_ == ConditionType::Ready.as_str() && c.observed_generation == Some(generation));
        let ran = before.plan.is_some();
        match (known && ran, ran) {
            (true, _) => conditions.keep(ConditionType::Ready),
            (false, true) => {
                conditions.set_text(ConditionType::Ready, "Unknown", fault.reason(), fault.message().to_owned())
            }
            (false, false) => conditions.set(ConditionType::Ready, false, fault.reason(), fault.message().to_owned()),
        }
    }
}

/// Whether every partition wanted is there and answers.
fn all_ready(before: &DatabaseStatus, pass: &Pass) -> bool {
    let Some(states) = pass.states() else { return false };
    let (ready, wanted) = (count(states.iter().filter(|state| state.ready).count()), pass.stage.start().partitions);
    ready == wanted && pass.partitions().unwrap_or(before.partitions) == wanted && pass.missing().is_none()
}

fn progressing(conditions: &mut Conditions, pass: &Pass, progress: &Progress) {
    let retried = pass.faults().find(|fault| fault.retried());
    let ready = conditions.status(ConditionType::Ready) == Some("True");
    let waits = pass.rollout().is_some_and(|rollout| !rollout.waits.is_empty());
    let goes_on = progress.applying || progress.rolling; // whatever else is wrong: of what is taken, not all runs yet
    let mut set = |status, reason: Reason, message| conditions.set(ConditionType::Progressing, status, reason, message);
    match (retried, pass.faults().next().filter(|_| !goes_on)) {
        (Some(fault), _) => set(true, fault.reason(), fault.message().to_owned()),
        (None, Some(fault @ Fault::Waiting { .. })) => {
            set(false, fault.reason(), "goes on by itself when it is there".to_owned());
        }
        (None, Some(fault)) => set(false, fault.reason(), "waits for somebody to act".to_owned()),
        (None, None) if progress.applying => set(true, Reason::Applying, "the change is being applied".to_owned()),
        (None, None) if progress.overdue => set(false, Reason::ProgressDeadlineExceeded, overdue(&progress.words(pass))),
        (None, None) if progress.rolling => set(true, Reason::RollingOut, progress.words(pass)),
        (None, None) if !ready => set(true, Reason::PartitionsNotReady, progress.words(pass)),
        (None, None) if waits => set(false, Reason::WaitsForDeletion, progress.words(pass)),
        (None, None) if progress.status.is_some() => set(true, Reason::MembersStarting, progress.words(pass)),
        (None, None) => set(false, Reason::Settled, String::new()),
    }
}

fn overdue(words: &str) -> String {
    format!("no progress for {} minutes: {words}", limits::PROGRESS_DEADLINE.as_secs() / 60)
}

fn degraded(conditions: &mut Conditions, before: &DatabaseStatus, (pass, progress): (&Pass, &Progress), now: Timestamp) {
    let broken = pass.faults().find(|fault| fault.degrades());
    if let Some(fault) = broken {
        let of_members = standing(&before.conditions, ConditionType::Degraded)
            .is_some_and(|(status, reason)| status == "True" && reason.may_be_of_members());
        let still = pass.states().is_none_or(|states| worst(states).is_some());
        if of_members && still && fault.reason() == Reason::ApiUnavailable {
            return conditions.stay(ConditionType::Degraded); // Progressing has the fault, which passes; that does not
        }
        return conditions.set(ConditionType::Degraded, true, fault.reason(), fault.message().to_owned());
    }
    let stands = standing(&before.conditions, ConditionType::Degraded);
    let of_writes = |reason: &Reason| {
        matches!(reason, Reason::NameTaken | Reason::Forbidden | Reason::NotPruned | Reason::FieldContested)
    };
    if pass.is_about_to_write() && stands.is_some_and(|(status, reason)| status == "True" && of_writes(&reason)) {
        return conditions.stay(ConditionType::Degraded); // whether what could not be written can be shows afterwards
    }
    let Some(states) = pass.states() else {
        if conditions.status(ConditionType::Degraded).is_none() {
            conditions.set(ConditionType::Degraded, false, Reason::AsExpected, String::new());
        } else {
            conditions.keep(ConditionType::Degraded);
        }
        return;
    };
    let worst = worst(states);
    match (judged(before, (pass, progress), now).0, worst) {
        (Verdict::Fine, _) => conditions.set(ConditionType::Degraded, false, Reason::AsExpected, String::new()),
        (Verdict::Stays, _) => conditions.stay(ConditionType::Degraded),
        (Verdict::Bad, Some((state, problem))) => {
            let problems = states.iter().filter(|state| state.problem.is_some()).count();
            let more = match problems {
                0 | 1 => String::new(),
                2 => " (and another partition)".to_owned(),
                _ => format!(" (and {} more partitions)", problems - 1),
            };
            conditions.set(
                ConditionType::Degraded,
                true,
                Reason::of(&problem.code),
                format!("partition {}: {}{more}", state.id, problem.message),
            );
        }
        (Verdict::Overdue, Some((state, problem))) => {
            conditions.set(
                ConditionType::Degraded,
                true,
                Reason::ProgressDeadlineExceeded,
                overdue(&format!("partition {}: {}", state.id, problem.message)),
            );
        }
        (Verdict::Bad | Verdict::Overdue, None) => {
            conditions.set(ConditionType::Degraded, true, Reason::ProgressDeadlineExceeded, overdue(&progress.words(pass)));
        }
    }
}

/// The problem to report first: one with a cause, if there is one.
fn worst<'a>(states: impl IntoIterator<Item = &'a PartitionState>) -> Option<(&'a PartitionState, &'a contract::Reason)> {
    let mut first = None;
    for (state, problem) in states.into_iter().filter_map(|state| Some((state, state.problem.as_ref()?))) {
        if is_cause(problem) {
            return Some((state, problem));
        }
        first = first.or(Some((state, problem)));
    }
    first
}

/// What becomes of a database's condition Degraded while there is no fault.
fn judged(before: &DatabaseStatus, (pass, progress): (&Pass, &Progress), now: Timestamp) -> (Verdict, Option<Timestamp>) {
    let health = pass.stage.planned().map(|planned| planned.health.clone()).unwrap_or_default();
    let degraded = standing(&before.conditions, ConditionType::Degraded).filter(|it| it.0 == "True").map(|it| it.1);
    let under = Circumstances {
        degraded: degraded.filter(Reason::may_be_of_members),
        settled_at: settled_at(&before.conditions, Some(pass.stage.start().generation), progress.starts_until),
        rolling: progress.rolling || progress.applying,
        overdue: progress.overdue,
        unsteady_until: health.unsteady_until,
    };
    verdict(worst(pass.states().into_iter().flatten()).map(|it| it.1), health.course, &under, now)
}

/// Status and reason of a condition that stands.
fn standing(conditions: &[Condition], type_: ConditionType) -> Option<(&str, Reason)> {
    let found = conditions.iter().find(|condition| condition.type_ == type_.as_str())?;
    Some((found.status.as_str(), Reason::of(&found.reason)))
}

/// From when on something has been ready for so long that a missing member is a loss; those that start have their time.
fn settled_at(conditions: &[Condition], generation: Option<i64>, starts_until: Option<Timestamp>) -> Option<Timestamp> {
    let ready =
        conditions.iter().find(|condition| condition.type_ == ConditionType::Ready.as_str() && condition.status == "True");
    let ready = ready.filter(|ready| ready.observed_generation == generation)?;
    Some(later(ready.last_transition_time.0, limits::START_GRACE)).max(starts_until)
}

/// A time so much later.
pub(crate) fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(time)
}

/// When to look again although nothing may happen: a status that stands would be another one then.
pub fn look_again(after: &DatabaseStatus, pass: &Pass, now: Timestamp) -> Option<Duration> {
    if pass.faults().any(|fault| !fault.spec_not_taken()) || pass.states().is_none() {
        return None;
    }
    let progress = Progress::of(after, pass, all_ready(after, pass), now);
    let (_, changes) = judged(after, (pass, &progress), now);
    let deadline = progress.deadline.filter(|deadline| *deadline > now);
    let reported = progress.reported_from.filter(|from| *from > now);
    let next = changes.into_iter().chain(deadline).chain(reported).min()?;
    Some(until(next, now))
}

/// How long it is until a time; never no time at all.
pub fn until(time: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(now)).unwrap_or_default().max(Duration::from_millis(100))
}

fn phase(conditions: &Conditions) -> Phase {
    let is = |type_: ConditionType| conditions.status(type_);
    let blocked = |type_: ConditionType| conditions.reason(type_).map(Phase::Blocked);
    let rolls = matches!(conditions.reason(ConditionType::Progressing), Some(Reason::RollingOut | Reason::Applying));
    match (is(ConditionType::Ready), is(ConditionType::Degraded), is(ConditionType::Accepted)) {
        (Some("True"), Some("True"), _) => Phase::Degraded,
        (Some("True"), _, Some("False")) => blocked(ConditionType::Accepted).unwrap_or(Phase::Ready),
        (Some("True"), _, _) if rolls => Phase::Progressing,
        (Some("True"), _, _) => Phase::Ready,
        (_, _, Some("False")) => blocked(ConditionType::Accepted).unwrap_or(Phase::Progressing),
        (_, Some("True"), _) => blocked(ConditionType::Degraded).unwrap_or(Phase::Degraded),
        _ => Phase::Progressing,
    }
}

/// The status of one partition of a generation, and when it would be another although nothing happens. `database` is the status of
/// its database after the same pass.
pub fn partition(
    before: &PartitionStatus,
    (state, generation): (&PartitionState, i64),
    (database, health): (&DatabaseStatus, &Health),
    now: Timestamp,
) -> (PartitionStatus, Option<Timestamp>) {
    let mut conditions = Conditions::of(&before.conditions, Some(generation), now);
    match (&state.problem, state.ready) {
        (_, true) => conditions.set(ConditionType::Ready, true, Reason::Ready, "enough members are ready".to_owned()),
        (Some(problem), false) => {
            conditions.set(ConditionType::Ready, false, Reason::of(&problem.code), problem.message.clone())
        }
        (None, false) => {
            conditions.set(ConditionType::Ready, false, Reason::MembersNotReady, "too few members are ready".to_owned())
        }
    }
    let (progressing, why) = standing(&database.conditions, ConditionType::Progressing).unzip();
    let starts_until = progress::starts_until(database);
    let course = health.courses.get(&state.id).copied().unwrap_or_default();
    let judge = |conditions: &[Condition]| {
        let under = Circumstances {
            degraded: standing(conditions, ConditionType::Degraded).filter(|it| it.0 == "True").map(|it| it.1),
            settled_at: settled_at(conditions, Some(generation), starts_until),
            rolling: progressing == Some("True") && matches!(why, Some(Reason::RollingOut | Reason::Applying)),
            overdue: why == Some(Reason::ProgressDeadlineExceeded) && state.problem.is_some(),
            unsteady_until: health.unsteady_until,
        };
        verdict(state.problem.as_ref(), course, &under, now)
    };
    match (judge(&before.conditions).0, &state.problem) {
        (Verdict::Stays, problem) => {
            conditions.stay(ConditionType::Degraded);
            if problem.is_some() {
                conditions.stay_false(ConditionType::Ready); // with the cause that is shown
            }
        }
        (Verdict::Overdue, Some(problem)) => {
            conditions.set(ConditionType::Degraded, true, Reason::ProgressDeadlineExceeded, overdue(&problem.message))
        }
        (Verdict::Bad, Some(problem)) => {
            conditions.set(ConditionType::Degraded, true, Reason::of(&problem.code), problem.message.clone())
        }
        _ => conditions.set(ConditionType::Degraded, false, Reason::AsExpected, String::new()),
    }
    kstatus::partition(&mut conditions);
    let endpoints = state.endpoints.iter().map(|e| Endpoint { host: e.host.clone(), port: i32::from(e.port) }).collect();
    let conditions = conditions.into_vec();
    let (_, changes) = judge(&conditions);
    let ready = state.ready;
    (PartitionStatus { observed_generation: Some(generation), ready, endpoints, conditions, election: None }, changes)
}

/// How long the writing of a partition's status may wait: not at all when something has happened, a while when only wording
/// differs or when it has just begun. `None`: nothing is to be written.
pub fn partition_pause(before: Option<&PartitionStatus>, after: &PartitionStatus, age: Duration) -> Option<Duration> {
    let Some(before) = before else {
        let starting = !after.ready && age < limits::PARTITION_WORDING_PAUSE;
        return Some(if starting { limits::PARTITION_WORDING_PAUSE - age } else { Duration::ZERO });
    };
    if before == after {
        return None;
    }
    let happened = before.ready != after.ready
        || before.endpoints != after.endpoints
        || before.observed_generation != after.observed_generation
        || shape(&before.conditions) != shape(&after.conditions);
    Some(if happened { Duration::ZERO } else { limits::PARTITION_WORDING_PAUSE })
}

/// How long the writing of a database's status may wait after the last one. `None`: nothing is to be written.
pub fn database_pause(before: &DatabaseStatus, after: &DatabaseStatus) -> Option<Duration> {
    if before == after {
        return None;
    }
    let worded = |status: &DatabaseStatus| DatabaseStatus {
        conditions: Vec::new(),
        ready: None,
        ready_partitions: 0,
        ready_clusters: 0,
        progress: None,
        ..status.clone()
    };
    let happened = worded(before) != worded(after) || shape(&before.conditions) != shape(&after.conditions);
    Some(if happened { limits::STATUS_PAUSE } else { limits::STATUS_WORDING_PAUSE })
}

/// What makes conditions differ: all but their wording.
fn shape(conditions: &[Condition]) -> Vec<(&str, &str, &str, Option<i64>)> {
    conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str(), c.observed_generation)).collect()
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod revision_tests;
#[cfg(test)]
mod tests;
