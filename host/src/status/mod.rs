//! Outcome → conditions, events, and when to look again. Pure: knows no client and no clock; time is an argument.

mod conditions;

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;

use crate::crd::database::{ClassInUse, DatabaseStatus, GroupStatus, KindWritten, PlanInUse, PluginInUse};
use crate::crd::partition::{Endpoint, PartitionStatus};
use crate::fault::Fault;
use crate::limits;
use crate::wit::{MEMBERS_NOT_READY, Note, PartitionState, Reason, Unsupported};

pub use conditions::Conditions;
use conditions::cut;

/// What one pass found out.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Generation of the database.
    pub generation: i64,
    /// Partitions wanted.
    pub wanted: i32,
    /// Partition objects that exist.
    pub partitions: i32,
    /// Partitions that share a cluster, once decided.
    pub per_cluster: Option<i32>,
    /// Labels that the pods have, once decided.
    pub pod_labels: Option<BTreeMap<String, String>>,
    /// The class, once found.
    pub class: Option<ClassInUse>,
    /// Whether the class was found in another namespace than the reference names.
    pub fallback: bool,
    /// The plugin, once there is one.
    pub plugin: Option<PluginInUse>,
    /// What the class means as a group, once asked: None within if the plugin cannot say it.
    pub group: Option<Option<GroupStatus>>,
    /// The plan that is being written or runs.
    pub plan: Option<PlanInUse>,
    /// Kinds ever written.
    pub kinds: Vec<KindWritten>,
    /// How each partition goes, if there was a plan.
    pub states: Option<Vec<PartitionState>>,
    /// Changes that running storage cannot make.
    pub unsupported: Vec<Unsupported>,
    /// What the plugin wants a person to know.
    pub notes: Vec<Note>,
    /// Why newer bytes of the plugin do not serve.
    pub plugin_refused: Option<String>,
    /// What went wrong, worst first.
    pub faults: Vec<Fault>,
    /// Whether this is the word before the first write of a plan.
    pub before_writing: bool,
}

/// An Event to send with the transition that caused it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventNote {
    /// Whether it is a warning.
    pub warning: bool,
    /// Reason in CamelCase.
    pub reason: String,
    /// What happened.
    pub note: String,
}

/// The status that says what a pass found out, given the one that stands.
pub fn database(before: &DatabaseStatus, outcome: &Outcome, now: Timestamp) -> DatabaseStatus {
    let states = outcome.states.as_deref();
    let per_cluster = outcome.per_cluster.or(before.partitions_per_cluster);
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
    let mut conditions = Conditions::of(&before.conditions, Some(outcome.generation), now);
    accepted(&mut conditions, outcome);
    readiness(&mut conditions, before, outcome, ready_partitions);
    degraded(&mut conditions, before, outcome, now);
    match &outcome.plugin_refused {
        Some(message) => conditions.set("PluginCurrent", false, "Refused", message.clone()),
        None => conditions.remove("PluginCurrent"),
    }
    let phase = phase(&conditions);
    DatabaseStatus {
        observed_generation: Some(outcome.generation),
        phase: Some(phase),
        ready: Some(format!("{ready_partitions}/{}", outcome.wanted)),
        partitions: outcome.partitions,
        ready_partitions,
        clusters,
        ready_clusters,
        partitions_per_cluster: per_cluster,
        pod_labels: outcome.pod_labels.clone().or_else(|| before.pod_labels.clone()),
        storage_class: outcome.class.clone().or_else(|| before.storage_class.clone()),
        plugin: outcome.plugin.clone().or_else(|| before.plugin.clone()),
        plan: outcome.plan.clone().or_else(|| before.plan.clone()),
        group: outcome.group.clone().unwrap_or_else(|| before.group.clone()),
        kinds: outcome.kinds.clone(),
        conditions: conditions.into_vec(),
    }
}

fn accepted(conditions: &mut Conditions, outcome: &Outcome) {
    let not_taken = outcome.faults.iter().find(|fault| fault.spec_not_taken());
    if let Some(fault) = not_taken {
        return conditions.set("Accepted", false, fault.reason(), fault.message().to_owned());
    }
    if !outcome.unsupported.is_empty() {
        let sentence = |change: &Unsupported| {
            format!("{} stays {} instead of {}: {}", change.field, change.kept, change.wanted, change.why)
        };
        let message = outcome.unsupported.iter().map(sentence).collect::<Vec<_>>().join("; ");
        return conditions.set("Accepted", false, "ChangeNotTaken", message);
    }
    let class = outcome.class.as_ref();
    match class {
        Some(class) if outcome.fallback => {
            let message = format!(
                "{} {} is not in namespace {}, which the reference names; the one in namespace {} is used",
                class.kind, class.name, class.wanted_namespace, class.namespace
            );
            conditions.set("Accepted", true, "ClassFromOwnNamespace", message);
        }
        Some(class) => {
            conditions.set(
                "Accepted",
                true,
                "Accepted",
                format!("{} {}/{} is used", class.kind, class.namespace, class.name),
            );
        }
        None if outcome.faults.is_empty() => conditions.set("Accepted", true, "Accepted", String::new()),
        None => {}
    }
}

fn readiness(conditions: &mut Conditions, before: &DatabaseStatus, outcome: &Outcome, ready: i32) {
    let edited = outcome.before_writing && before.observed_generation != Some(outcome.generation);
    let all = outcome.states.is_some() && ready == outcome.wanted && outcome.partitions == outcome.wanted;
    if edited {
        conditions.set("Ready", false, "Applying", "the change is being applied".to_owned());
    } else if all {
        let message = match outcome.wanted {
            1 => "the partition is ready".to_owned(),
            wanted => format!("all {wanted} partitions are ready"),
        };
        conditions.set("Ready", true, "Ready", message);
    } else if let Some(states) = &outcome.states {
        let mut message = format!("{ready} of {} partitions are ready", outcome.wanted);
        if let Some((state, problem)) = states.iter().filter(|s| !s.ready).find_map(|s| Some((s, s.problem.as_ref()?))) {
            message = format!("{message}; partition {}: {}", state.id, problem.message);
        }
        conditions.set("Ready", false, "PartitionsNotReady", message);
    } else if let Some(fault) = outcome.faults.first() {
        // No plan could be made. What was known of this generation stays: what runs is left alone.
        let known =
            before.conditions.iter().any(|c| c.type_ == "Ready" && c.observed_generation == Some(outcome.generation));
        let ran = before.plan.is_some();
        match (known && ran, ran) {
            (true, _) => conditions.keep("Ready"),
            (false, true) => conditions.set_text("Ready", "Unknown", fault.reason(), fault.message().to_owned()),
            (false, false) => conditions.set("Ready", false, fault.reason(), fault.message().to_owned()),
        }
    }
    let retried = outcome.faults.iter().find(|fault| fault.retried());
    let ready = conditions.status("Ready") == Some("True");
    match (retried, outcome.faults.first()) {
        (Some(fault), _) => conditions.set("Progressing", true, fault.reason(), fault.message().to_owned()),
        (None, Some(fault @ Fault::Waiting { .. })) => {
            conditions.set("Progressing", false, fault.reason(), "goes on by itself when it is there".to_owned());
        }
        (None, Some(fault)) => conditions.set("Progressing", false, fault.reason(), "waits for somebody to act".to_owned()),
        (None, None) if ready => conditions.set("Progressing", false, "Settled", String::new()),
        (None, None) => conditions.set("Progressing", true, "PartitionsNotReady", "partitions are on their way".to_owned()),
    }
}

fn degraded(conditions: &mut Conditions, before: &DatabaseStatus, outcome: &Outcome, now: Timestamp) {
    let broken = outcome.faults.iter().find(|fault| !fault.spec_not_taken());
    if let Some(fault) = broken {
        return conditions.set("Degraded", true, fault.reason(), fault.message().to_owned());
    }
    let Some(states) = &outcome.states else {
        if conditions.status("Degraded").is_none() {
            conditions.set("Degraded", false, "AsExpected", String::new());
        } else {
            conditions.keep("Degraded");
        }
        return;
    };
    let settled = settled(&before.conditions, Some(outcome.generation), now);
    let problems: Vec<_> = states.iter().filter_map(|state| Some((state, state.problem.as_ref()?))).collect();
    match problems.iter().find(|(_, problem)| counts(problem, settled)) {
        Some((state, problem)) => {
            let more =
                if problems.len() > 1 { format!(" (and {} more partitions)", problems.len() - 1) } else { String::new() };
            conditions.set("Degraded", true, &problem.code, format!("partition {}: {}{more}", state.id, problem.message));
        }
        None => conditions.set("Degraded", false, "AsExpected", String::new()),
    }
}

/// Whether a problem makes what it befalls degraded. Members that are not ready yet are no news while things start; the same is
/// one on what has settled, and a problem with a cause is one at any time.
fn counts(problem: &Reason, settled: bool) -> bool {
    settled || problem.code != MEMBERS_NOT_READY
}

/// Whether something was ready for long enough that a missing member is a loss, or is known to be degraded already.
fn settled(conditions: &[Condition], generation: Option<i64>, now: Timestamp) -> bool {
    conditions.iter().any(|condition| match (condition.type_.as_str(), condition.status.as_str()) {
        ("Ready", "True") => condition.observed_generation == generation && since(condition, now) >= limits::START_GRACE,
        ("Degraded", "True") => condition.reason == MEMBERS_NOT_READY,
        _ => false,
    })
}

fn since(condition: &Condition, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(condition.last_transition_time.0)).unwrap_or_default()
}

/// When to look again although nothing may happen: when members that are still missing begin to count as lost.
pub fn grace_left(status: &DatabaseStatus, states: &[PartitionState], now: Timestamp) -> Option<Duration> {
    let starting = states.iter().any(|state| state.problem.as_ref().is_some_and(|problem| !counts(problem, false)));
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready" && condition.status == "True")?;
    let degraded = status.conditions.iter().any(|condition| condition.type_ == "Degraded" && condition.status == "True");
    (starting && !degraded).then(|| limits::START_GRACE.saturating_sub(since(ready, now)).max(Duration::from_millis(100)))
}

fn phase(conditions: &Conditions) -> String {
    let is = |type_: &str| conditions.status(type_);
    match (is("Ready"), is("Degraded"), is("Accepted")) {
        (Some("True"), Some("True"), _) => "Degraded".to_owned(),
        (Some("True"), _, Some("False")) => conditions.reason("Accepted").unwrap_or("Ready").to_owned(),
        (Some("True"), _, _) => "Ready".to_owned(),
        (_, _, Some("False")) => conditions.reason("Accepted").unwrap_or("Progressing").to_owned(),
        (_, Some("True"), _) => conditions.reason("Degraded").unwrap_or("Degraded").to_owned(),
        _ => "Progressing".to_owned(),
    }
}

/// The status of one partition.
pub fn partition(before: &PartitionStatus, state: &PartitionState, generation: i64, now: Timestamp) -> PartitionStatus {
    let mut conditions = Conditions::of(&before.conditions, Some(generation), now);
    match (&state.problem, state.ready) {
        (_, true) => conditions.set("Ready", true, "Ready", "enough members are ready".to_owned()),
        (Some(problem), false) => conditions.set("Ready", false, &problem.code, problem.message.clone()),
        (None, false) => conditions.set("Ready", false, "MembersNotReady", "too few members are ready".to_owned()),
    }
    let settled = settled(&before.conditions, Some(generation), now);
    match state.problem.as_ref().filter(|problem| counts(problem, settled)) {
        Some(problem) => conditions.set("Degraded", true, &problem.code, problem.message.clone()),
        None => conditions.set("Degraded", false, "AsExpected", String::new()),
    }
    let endpoints = state.endpoints.iter().map(|e| Endpoint { host: e.host.clone(), port: i32::from(e.port) }).collect();
    PartitionStatus {
        observed_generation: Some(generation),
        ready: state.ready,
        endpoints,
        conditions: conditions.into_vec(),
        election: None,
    }
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
        ..status.clone()
    };
    let happened = worded(before) != worded(after) || shape(&before.conditions) != shape(&after.conditions);
    Some(if happened { limits::STATUS_PAUSE } else { limits::STATUS_WORDING_PAUSE })
}

/// Events for the transitions between two statuses, and the plugin's notes where its plan is a new one.
pub fn events(before: &DatabaseStatus, after: &DatabaseStatus, notes: &[Note]) -> Vec<EventNote> {
    let mut events = Vec::new();
    let mut say = |warning, reason: &str, note: String| {
        events.push(EventNote { warning, reason: reason.to_owned(), note: cut(note, limits::EVENT_NOTE_MAX) })
    };
    if before.partitions != after.partitions {
        let deed = if before.partitions < after.partitions { "PartitionsAdded" } else { "PartitionsRemoved" };
        let noun = if after.partitions == 1 { "partition" } else { "partitions" };
        say(false, deed, format!("{} {noun} instead of {}", after.partitions, before.partitions));
    }
    for condition in &after.conditions {
        let old = before.conditions.iter().find(|old| old.type_ == condition.type_);
        let (was, why) = old.map_or(("", ""), |old| (old.status.as_str(), old.reason.as_str()));
        let changed = was != condition.status || (condition.status == bad(&condition.type_) && why != condition.reason);
        if !changed {
            continue;
        }
        match (condition.type_.as_str(), condition.status.as_str()) {
            ("Ready", "True") => say(false, "Ready", condition.message.clone()),
            ("Ready", _) if was == "True" && before.observed_generation == after.observed_generation => {
                say(true, "NotReady", condition.message.clone());
            }
            ("Accepted", "False") if condition.reason != "Starting" => {
                say(true, &condition.reason, condition.message.clone())
            }
            ("Accepted", "True") if was == "False" || condition.reason != "Accepted" => {
                say(false, &condition.reason, condition.message.clone());
            }
            ("Degraded", "True") if before.plan.is_some() => say(true, &condition.reason, condition.message.clone()),
            ("Degraded", "False") if was == "True" => say(false, "Recovered", "nothing is missing any more".to_owned()),
            ("PluginCurrent", "False") => say(true, "PluginRefused", condition.message.clone()),
            _ => {}
        }
    }
    let hash = |status: &DatabaseStatus| status.plan.as_ref().map(|plan| plan.hash.clone());
    if hash(before) != hash(after) {
        notes.iter().for_each(|note| say(note.warning, &note.reason.code, note.reason.message.clone()));
    }
    events
}

fn bad(type_: &str) -> &'static str {
    if matches!(type_, "Degraded" | "Progressing") { "True" } else { "False" }
}

/// What of conditions is news: all but their wording.
fn shape(conditions: &[Condition]) -> Vec<(&str, &str, &str, Option<i64>)> {
    conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str(), c.observed_generation)).collect()
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::conditions::word;
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn state(id: u32, ready: bool, problem: Option<&str>) -> PartitionState {
        let problem = problem.map(|code| Reason { code: code.into(), message: format!("{code} in words") });
        PartitionState { id, ready, endpoints: Vec::new(), problem }
    }

    fn outcome(states: Vec<PartitionState>) -> Outcome {
        let count = i32::try_from(states.len()).unwrap();
        Outcome {
            generation: 1,
            wanted: count,
            partitions: count,
            per_cluster: Some(1),
            class: Some(ClassInUse {
                kind: "C".into(),
                namespace: "n".into(),
                name: "c".into(),
                wanted_namespace: String::new(),
            }),
            plan: Some(PlanInUse { hash: "h".into(), ..PlanInUse::default() }),
            states: Some(states),
            ..Outcome::default()
        }
    }

    fn failed(fault: Fault) -> Outcome {
        Outcome { generation: 1, wanted: 1, faults: vec![fault], ..Outcome::default() }
    }

    fn condition<'a>(status: &'a DatabaseStatus, type_: &str) -> (&'a str, &'a str, &'a str) {
        let found = status.conditions.iter().find(|c| c.type_ == type_).unwrap_or_else(|| panic!("no condition {type_}"));
        (&found.status, &found.reason, &found.message)
    }

    fn settled() -> DatabaseStatus {
        database(&DatabaseStatus::default(), &outcome(vec![state(1, true, None), state(2, true, None)]), at(0))
    }

    #[test]
    fn a_database_is_ready_when_all_its_partitions_are() {
        let ready = settled();
        assert_eq!(condition(&ready, "Ready").0, "True");
        assert_eq!((ready.phase.as_deref(), ready.ready.as_deref()), (Some("Ready"), Some("2/2")));
        let half = database(&DatabaseStatus::default(), &outcome(vec![state(1, true, None), state(2, false, None)]), at(0));
        assert_eq!((condition(&half, "Ready").0, condition(&half, "Progressing").0), ("False", "True"));
        assert_eq!((half.ready.as_deref(), half.ready_clusters, half.clusters), (Some("1/2"), 1, 2));
    }

    #[test]
    fn every_condition_says_of_which_generation_it_speaks() {
        assert!(settled().conditions.iter().all(|condition| condition.observed_generation == Some(1)));
        let mut edited = outcome(vec![state(1, true, None), state(2, true, None)]);
        (edited.generation, edited.before_writing) = (2, true);
        let recorded = database(&settled(), &edited, at(1));
        assert_eq!(condition(&recorded, "Ready").0, "False", "the edit is not written yet");
    }

    #[test]
    fn a_transition_time_moves_only_with_the_status() {
        let later = database(&settled(), &outcome(vec![state(1, true, None), state(2, true, None)]), at(60));
        assert_eq!(later, settled());
        assert_eq!(database_pause(&settled(), &later), None, "nothing is written");
    }

    #[test]
    fn a_member_that_is_missing_degrades_what_has_settled_and_not_what_starts() {
        let missing = || outcome(vec![state(1, true, Some(MEMBERS_NOT_READY)), state(2, true, None)]);
        let starting = database(&settled(), &missing(), at(1));
        assert_eq!(condition(&starting, "Degraded").0, "False");
        assert!(
            grace_left(&starting, missing().states.as_deref().unwrap(), at(1))
                .is_some_and(|left| left <= limits::START_GRACE)
        );
        let lost = database(&settled(), &missing(), at(60));
        assert_eq!((condition(&lost, "Degraded").0, condition(&lost, "Ready").0), ("True", "True"));
        assert_eq!(lost.phase.as_deref(), Some("Degraded"));
        let quorum_lost =
            database(&lost, &outcome(vec![state(1, false, Some(MEMBERS_NOT_READY)), state(2, true, None)]), at(61));
        assert_eq!((condition(&quorum_lost, "Degraded").0, condition(&quorum_lost, "Ready").0), ("True", "False"));
        let back = database(&quorum_lost, &outcome(vec![state(1, true, None), state(2, true, None)]), at(62));
        assert_eq!((condition(&back, "Degraded").0, condition(&back, "Ready").0), ("False", "True"));
    }

    #[test]
    fn a_problem_with_a_cause_is_shown_at_once() {
        let status = database(&DatabaseStatus::default(), &outcome(vec![state(1, false, Some("ImagePullBackOff"))]), at(0));
        assert_eq!(condition(&status, "Degraded").1, "ImagePullBackOff");
        assert!(condition(&status, "Ready").2.contains("ImagePullBackOff in words"));
        let partition = partition(&PartitionStatus::default(), &state(1, false, Some("ImagePullBackOff")), 1, at(0));
        assert_eq!(partition.conditions.iter().find(|c| c.type_ == "Ready").unwrap().reason, "ImagePullBackOff");
    }

    #[test]
    fn a_bad_plugin_leaves_what_is_known_and_says_so() {
        let status = database(&settled(), &failed(Fault::Plugin { message: "plugin p trapped".into() }), at(60));
        assert_eq!(condition(&status, "Ready").0, "True");
        assert_eq!(condition(&status, "Degraded"), ("True", "PluginFailed", "plugin p trapped"));
        assert_eq!(status.plan, settled().plan);
        let new =
            database(&DatabaseStatus::default(), &failed(Fault::waiting("NoPlugin", "no plugin serves kind C")), at(0));
        assert_eq!((condition(&new, "Ready").1, condition(&new, "Accepted").1), ("NoPlugin", "NoPlugin"));
        assert_eq!(new.phase.as_deref(), Some("NoPlugin"));
    }

    #[test]
    fn a_change_that_was_not_taken_is_named_and_all_else_goes_on() {
        let mut it = outcome(vec![state(1, true, None)]);
        it.unsupported =
            vec![Unsupported { field: "spec.replicas".into(), wanted: "5".into(), kept: "3".into(), why: "fixed".into() }];
        let status = database(&DatabaseStatus::default(), &it, at(0));
        assert_eq!(condition(&status, "Accepted"), ("False", "ChangeNotTaken", "spec.replicas stays 3 instead of 5: fixed"));
        assert_eq!((condition(&status, "Ready").0, status.phase.as_deref()), ("True", Some("ChangeNotTaken")));
    }

    #[test]
    fn events_tell_transitions_once() {
        let before = DatabaseStatus::default();
        let ready = settled();
        let told: Vec<_> = events(&before, &ready, &[]).into_iter().map(|event| event.reason).collect();
        assert_eq!(told, ["PartitionsAdded", "Ready"]);
        assert_eq!(events(&ready, &ready, &[]), []);
        let lost = database(&ready, &outcome(vec![state(1, true, Some(MEMBERS_NOT_READY)), state(2, true, None)]), at(60));
        let told = events(&ready, &lost, &[]);
        assert_eq!((told.len(), told[0].warning, told[0].reason.as_str()), (1, true, MEMBERS_NOT_READY));
        let note =
            Note { warning: false, reason: Reason { code: "Even".into(), message: "an even number of replicas".into() } };
        assert_eq!(events(&ready, &lost, std::slice::from_ref(&note)).len(), 1, "a note comes with a new plan only");
        let mut replanned = ready.clone();
        replanned.plan = Some(PlanInUse { hash: "other".into(), ..PlanInUse::default() });
        assert_eq!(events(&ready, &replanned, &[note])[0].reason, "Even");
    }

    #[test]
    fn what_the_class_means_as_a_group_stays_until_the_plugin_says_otherwise() {
        let group = |partition_size| GroupStatus { partition_size, ..GroupStatus::default() };
        let said = |group| Outcome { group, ..outcome(vec![state(1, true, None)]) };
        let before = database(&DatabaseStatus::default(), &said(Some(Some(group(3)))), at(0));
        assert_eq!(before.group, Some(group(3)));
        assert_eq!(database(&before, &said(None), at(1)).group, Some(group(3)), "nobody was asked");
        assert_eq!(database(&before, &said(Some(None)), at(1)).group, None, "a plugin without groups");
        let after = database(&before, &said(Some(Some(group(5)))), at(1));
        assert_eq!(database_pause(&before, &after), Some(limits::STATUS_PAUSE), "it is news");
    }

    #[test]
    fn wording_waits_and_news_does_not() {
        let ready = settled();
        let mut worded = ready.clone();
        worded.conditions[0].message = "other words".into();
        assert_eq!(database_pause(&ready, &worded), Some(limits::STATUS_WORDING_PAUSE));
        worded.conditions[0].reason = "Other".into();
        assert_eq!(database_pause(&ready, &worded), Some(limits::STATUS_PAUSE));
        let young = PartitionStatus::default();
        assert_eq!(
            partition_pause(None, &young, Duration::from_secs(1)),
            Some(limits::PARTITION_WORDING_PAUSE - Duration::from_secs(1))
        );
        let up = PartitionStatus { ready: true, ..PartitionStatus::default() };
        assert_eq!(partition_pause(None, &up, Duration::ZERO), Some(Duration::ZERO));
        assert_eq!(partition_pause(Some(&up), &up, Duration::ZERO), None);
    }

    #[test]
    fn a_reason_is_what_the_api_accepts() {
        assert_eq!(word("image pull: failed!"), "imagepullfailed");
        assert_eq!(word("1st"), "st");
        assert_eq!(word("…"), "Unknown");
        assert_eq!(cut("äöü".repeat(100), 10).len(), 9);
    }
}
