//! Passes and the statuses that they become.

use super::conditions::{cut, word};
use super::*;
use crate::pass::{Applied, Observed, Planned, Recorded};
use atomix_model::contract::{MEMBERS_NOT_READY, Note};
use atomix_model::crd::database::{ClassInUse, GroupStatus, PlanInUse, PluginInUse};

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn state(id: u32, ready: bool, problem: Option<&str>) -> PartitionState {
    let problem = problem.map(|code| contract::Reason { code: code.into(), message: format!("{code} in words") });
    PartitionState { id, ready, endpoints: Vec::new(), problem }
}

/// A pass, as far as a status depends on it. Without states it stopped before there was a plan, at the first of its faults.
#[derive(Clone, Debug, Default)]
pub(super) struct Case {
    pub(super) generation: i64,
    pub(super) wanted: i32,
    pub(super) states: Option<Vec<PartitionState>>,
    pub(super) faults: Vec<Fault>,
    pub(super) unsupported: Vec<Unsupported>,
    pub(super) plan: PlanInUse,
    /// The revision that made it.
    pub(super) plugin: PluginInUse,
    pub(super) class_generation: i64,
    pub(super) group: Option<Result<Option<GroupStatus>, Fault>>,
    pub(super) health: Health,
    pub(super) is_about_to_write: bool,
    /// Why it is not the newest plan.
    pub(super) newest_fails: Option<Fault>,
}

impl Case {
    pub(super) fn pass(&self) -> Pass {
        let start = Start { generation: self.generation, partitions: self.wanted, ..Start::default() };
        let mut faults = self.faults.clone().into_iter();
        let Some(states) = self.states.clone() else {
            return Pass { stage: Box::new(start.into()), stopped: faults.next() };
        };
        let class = ClassInUse {
            kind: "C".into(),
            namespace: "n".into(),
            name: "c".into(),
            generation: self.class_generation,
            ..ClassInUse::default()
        };
        let observed =
            Observed { resolved: Resolved { start, class, ..Resolved::default() }, per_cluster: 1, ..Observed::default() };
        let partitions = count(states.len());
        let (group, unsupported, health) = (self.group.clone(), self.unsupported.clone(), self.health.clone());
        let rollout = health.rollout.clone();
        let planned = Planned { observed, states, health, unsupported, group, ..Planned::default() };
        let admitted = Admitted {
            planned,
            partitions,
            plugin: self.plugin.clone(),
            newest_fails: self.newest_fails.clone(),
            ..Admitted::default()
        };
        let recorded = Recorded { admitted, plan: self.plan.clone(), ..Recorded::default() };
        let stage = match self.is_about_to_write {
            true => recorded.into(),
            false => Applied { recorded, partitions, rollout, faults: faults.collect(), ..Applied::default() }.into(),
        };
        Pass { stage: Box::new(stage), stopped: None }
    }
}

pub(super) fn database(before: &DatabaseStatus, case: &Case, now: Timestamp) -> DatabaseStatus {
    super::database(before, &case.pass(), now)
}

fn look_again(after: &DatabaseStatus, case: &Case, now: Timestamp) -> Option<Duration> {
    super::look_again(after, &case.pass(), now)
}

pub(super) fn pass_with(states: Vec<PartitionState>) -> Case {
    Case {
        generation: 1,
        class_generation: 1,
        wanted: i32::try_from(states.len()).unwrap(),
        plan: PlanInUse { hash: "h".into(), ..PlanInUse::default() },
        states: Some(states),
        ..Case::default()
    }
}

fn failed(fault: Fault) -> Case {
    Case { generation: 1, wanted: 1, faults: vec![fault], ..Case::default() }
}

pub(super) fn condition<'a>(status: &'a DatabaseStatus, type_: &str) -> (&'a str, &'a str, &'a str) {
    let found = status.conditions.iter().find(|c| c.type_ == type_).unwrap_or_else(|| panic!("no condition {type_}"));
    (&found.status, &found.reason, &found.message)
}

pub(super) fn settled() -> DatabaseStatus {
    database(&DatabaseStatus::default(), &pass_with(vec![state(1, true, None), state(2, true, None)]), at(0))
}

#[test]
fn a_database_is_ready_when_all_its_partitions_are() {
    let ready = settled();
    assert_eq!(condition(&ready, "Ready").0, "True");
    assert_eq!((ready.phase.as_deref(), ready.ready.as_deref()), (Some("Ready"), Some("2/2")));
    let half = database(&DatabaseStatus::default(), &pass_with(vec![state(1, true, None), state(2, false, None)]), at(0));
    assert_eq!((condition(&half, "Ready").0, condition(&half, "Progressing").0), ("False", "True"));
    assert_eq!((half.ready.as_deref(), half.ready_clusters, half.clusters), (Some("1/2"), 1, 2));
}

#[test]
fn every_condition_has_the_generation_that_it_is_about() {
    assert!(settled().conditions.iter().all(|condition| condition.observed_generation == Some(1)));
    let mut edited = pass_with(vec![state(1, true, None), state(2, true, None)]);
    (edited.generation, edited.is_about_to_write) = (2, true);
    edited.plan = PlanInUse { hash: "i".into(), generation: 2, ..PlanInUse::default() };
    let recorded = database(&settled(), &edited, at(1));
    assert_eq!(
        (condition(&recorded, "Progressing").1, condition(&recorded, "Ready").0),
        ("Applying", "True"),
        "all of them answer"
    );
    edited.states = Some(vec![state(1, true, None), state(2, true, None), state(3, false, None)]);
    edited.wanted = 3;
    assert_eq!(condition(&database(&settled(), &edited, at(1)), "Ready").1, "Applying");
}

#[test]
fn a_transition_time_moves_only_with_the_status() {
    let later = database(&settled(), &pass_with(vec![state(1, true, None), state(2, true, None)]), at(60));
    assert_eq!(later, settled());
    assert_eq!(database_pause(&settled(), &later), None, "nothing is written");
}

/// What is known of how these members have gone, that long.
fn going(mut case: Case, before: Course, second: i64) -> Case {
    let problem = case.states.iter().flatten().find_map(|state| state.problem.as_ref());
    case.health.course = before.after(problem, None, at(second));
    for state in case.states.iter().flatten() {
        case.health.courses.insert(state.id, before.after(state.problem.as_ref(), None, at(second)));
    }
    case
}

#[test]
fn a_member_that_is_missing_degrades_what_has_settled_and_not_what_starts() {
    let missing = || pass_with(vec![state(1, true, Some(MEMBERS_NOT_READY)), state(2, true, None)]);
    let starting = database(&settled(), &missing(), at(1));
    assert_eq!(condition(&starting, "Degraded").0, "False");
    assert!(look_again(&starting, &missing(), at(1)).is_some_and(|left| left <= limits::START_GRACE));
    let lost = database(&settled(), &missing(), at(60));
    assert_eq!((condition(&lost, "Degraded").0, condition(&lost, "Ready").0), ("True", "True"));
    assert_eq!(lost.phase.as_deref(), Some("Degraded"));
    let quorum_lost =
        database(&lost, &pass_with(vec![state(1, false, Some(MEMBERS_NOT_READY)), state(2, true, None)]), at(61));
    assert_eq!((condition(&quorum_lost, "Degraded").0, condition(&quorum_lost, "Ready").0), ("True", "False"));
    let all = |second| {
        let well = Course { well_since: Some(at(62)), ..Course::default() };
        going(pass_with(vec![state(1, true, None), state(2, true, None)]), well, second)
    };
    let back = database(&quorum_lost, &all(62), at(62));
    assert_eq!((condition(&back, "Degraded").0, condition(&back, "Ready").0), ("True", "True"), "it may be for a moment");
    assert_eq!(look_again(&back, &all(62), at(62)), Some(limits::STEADY_AFTER));
    assert!(events(&quorum_lost, &back, &[]).iter().all(|event| event.reason != "Recovered"));
    let recovered = database(&back, &all(67), at(67));
    assert_eq!(condition(&recovered, "Degraded").0, "False");
    assert_eq!(events(&back, &recovered, &[])[0].reason, "Recovered");
    assert_eq!(look_again(&recovered, &all(67), at(67)), None, "it is settled");
}

#[test]
fn a_problem_with_a_cause_is_shown_at_once_and_degrades_when_it_lasts() {
    let failing = || pass_with(vec![state(1, false, Some("ImagePullBackOff"))]);
    let first = going(failing(), Course::default(), 0);
    let status = database(&DatabaseStatus::default(), &first, at(0));
    assert_eq!(condition(&status, "Degraded").0, "False");
    assert!(condition(&status, "Ready").2.contains("ImagePullBackOff in words"));
    assert_eq!(look_again(&status, &first, at(0)), Some(limits::CAUSE_AFTER));
    let (part, changes) =
        partition(&PartitionStatus::default(), (&failing().states.unwrap()[0], 1), (&status, &first.health), at(0));
    assert_eq!(part.conditions.iter().find(|c| c.type_ == "Ready").unwrap().reason, "ImagePullBackOff");
    assert_eq!(changes, Some(later(at(0), limits::CAUSE_AFTER)));
    let lasting = going(failing(), first.health.course, 3);
    let degraded = database(&status, &lasting, at(3));
    assert_eq!(condition(&degraded, "Degraded").1, "ImagePullBackOff");
    let (part, _) = partition(&part, (&failing().states.unwrap()[0], 1), (&degraded, &lasting.health), at(3));
    assert_eq!(part.conditions.iter().find(|c| c.type_ == "Degraded").unwrap().reason, "ImagePullBackOff");
}

#[test]
fn a_container_that_keeps_exiting_is_one_story_however_often_it_is_up_for_a_moment() {
    let crash = || pass_with(vec![state(1, false, Some("CrashLoopBackOff"))]);
    let (mut status, mut course, mut written, mut reasons) = (DatabaseStatus::default(), Course::default(), 0, Vec::new());
    let mut pass = |it: Case, second: i64| {
        let it = going(it, course, second);
        course = it.health.course;
        let after = database(&status, &it, at(second));
        if after != status {
            written += 1;
            reasons.extend(events(&status, &after, &[]).into_iter().map(|event| event.reason));
        }
        status = after;
        (condition(&status, "Degraded").0.to_owned(), written)
    };
    pass(crash(), 0);
    assert_eq!(pass(crash(), 10).0, "True");
    let mut before = 0;
    for cycle in 1..=10 {
        let second = cycle * 60;
        let mut up = pass_with(vec![state(1, true, None)]);
        up.health.unsteady_until = Some(at(second + 30)); // it was up for as long before
        for (it, second) in
            [(crash(), second), (pass_with(vec![state(1, false, Some(MEMBERS_NOT_READY))]), second + 1), (up, second + 2)]
        {
            let (degraded, writes) = pass(it, second);
            assert_eq!(degraded, "True", "cycle {cycle}");
            before = writes;
        }
        assert_eq!(pass(crash(), second + 9).0, "True");
    }
    assert!(
        before <= 2 + 3 * 10,
        "{before} writes: a server that is up for a moment is ready for it, and nothing else is news"
    );
    assert!(!reasons.contains(&"Recovered".to_owned()), "{reasons:?}");
    assert_eq!(reasons.len(), 2, "it is reported once: {reasons:?}");
}

/// Workloads of two partitions with three members each.
fn rolled(updated: i32, rolling: bool, states: Vec<PartitionState>) -> Case {
    let rollout = Rollout { members: 6, updated, ready: 6, rolling, ..Rollout::default() };
    Case { health: Health { rollout, ..Health::default() }, ..pass_with(states) }
}

pub(super) fn both() -> Vec<PartitionState> {
    vec![state(1, true, None), state(2, true, None)]
}

#[test]
fn a_rollout_is_seen_from_the_edit_until_its_last_member_is_back() {
    let before = database(&DatabaseStatus::default(), &rolled(6, false, both()), at(0));
    assert_eq!(condition(&before, "Progressing"), ("False", "Settled", ""));
    let edit = |mut it: Case| {
        it.plan = PlanInUse { hash: "i".into(), class_generation: 2, ..PlanInUse::default() };
        it.class_generation = 2;
        it
    };
    let recorded = database(&before, &edit(Case { is_about_to_write: true, ..rolled(6, false, both()) }), at(60));
    assert_eq!(recorded.storage_class.as_ref().unwrap().generation, 2);
    assert_eq!(
        condition(&recorded, "Progressing").0,
        "True",
        "a client that waits for generation 2 must not take it for done"
    );
    assert_eq!(recorded.phase.as_deref(), Some("Progressing"), "the column says so too");
    let mut written = edit(rolled(0, false, both()));
    written.health.rollout.stale = true;
    let written = database(&recorded, &written, at(61));
    assert_eq!(condition(&written, "Progressing"), ("True", "RollingOut", "0 of 6 members run the new revision"));
    assert_eq!((condition(&written, "Ready").0, written.phase.as_deref()), ("True", Some("Progressing")));
    assert_eq!(events(&recorded, &written, &[]).iter().map(|it| it.reason.as_str()).collect::<Vec<_>>(), ["RolloutStarted"]);

    let one_restarts = || vec![state(1, true, Some(MEMBERS_NOT_READY)), state(2, true, None)];
    let halfway = database(&written, &edit(rolled(2, true, one_restarts())), at(90));
    assert_eq!(condition(&halfway, "Progressing").2, "2 of 6 members run the new revision");
    assert_eq!(condition(&halfway, "Degraded").0, "False", "it restarts as planned");
    assert_eq!(events(&written, &halfway, &[]), []);
    let still = database(&halfway, &edit(rolled(2, true, one_restarts())), at(121));
    let held_up = format!("2 of 6 members run the new revision; partition 1: {MEMBERS_NOT_READY} in words");
    assert_eq!(condition(&still, "Progressing").2, held_up, "it has not moved for a while");
    let lost = || vec![state(1, false, Some(MEMBERS_NOT_READY)), state(2, true, None)];
    let down = database(&halfway, &edit(rolled(3, true, lost())), at(95));
    assert_eq!(condition(&down, "Ready").0, "False");
    assert!(events(&halfway, &down, &[]).iter().all(|event| !event.warning), "as planned too");
    let failing = going(
        edit(rolled(3, true, vec![state(1, false, Some("ImagePullBackOff")), state(2, true, None)])),
        Course::default(),
        100,
    );
    let failing = database(&down, &going(failing.clone(), failing.health.course, 110), at(110));
    assert_eq!(condition(&failing, "Degraded").1, "ImagePullBackOff", "a cause counts in a rollout too");

    let last = database(&down, &edit(rolled(6, false, one_restarts())), at(120));
    assert_eq!(condition(&last, "Progressing").2, "6 of 6 members run the new revision, and not all are ready yet");
    let done = database(&last, &edit(rolled(6, false, both())), at(130));
    assert_eq!((condition(&done, "Progressing").1, done.progress.is_none()), ("Settled", true));
    assert_eq!(
        events(&last, &done, &[]).iter().map(|it| it.reason.as_str()).collect::<Vec<_>>(),
        ["RolledOut", "Ready"][..1 + usize::from(condition(&last, "Ready").0 == "False")]
    );
}

#[test]
fn what_follows_what_happens_is_no_edit_and_what_waits_for_somebody_is_not_on_its_way() {
    let before = database(&DatabaseStatus::default(), &rolled(6, false, both()), at(0));
    let follows = Case {
        is_about_to_write: true,
        plan: PlanInUse { hash: "i".into(), ..PlanInUse::default() },
        ..rolled(6, false, both())
    };
    assert_eq!(condition(&database(&before, &follows, at(60)), "Progressing").1, "Settled");
    let mut stale = rolled(6, false, both());
    stale.health.rollout.stale = true;
    assert_eq!(condition(&database(&before, &stale, at(60)), "Progressing").1, "Settled");
    let mut waits = rolled(4, false, both());
    waits.health.rollout.waits = vec!["s replaces pods only when they are deleted".into()];
    let waits = database(&before, &waits, at(60));
    let message = "4 of 6 members run the new revision; s replaces pods only when they are deleted";
    assert_eq!(condition(&waits, "Progressing"), ("False", "WaitsForDeletion", message));
}

#[test]
fn a_start_and_a_rollout_without_progress_have_an_end_also_over_a_restart_of_the_controller() {
    let nothing = || pass_with(vec![state(1, false, Some(MEMBERS_NOT_READY))]);
    let minutes = |number: i64| at(number * 60);
    let starting = database(&DatabaseStatus::default(), &nothing(), minutes(0));
    assert_eq!(condition(&starting, "Progressing").0, "True");
    assert_eq!(look_again(&starting, &nothing(), minutes(0)), Some(limits::PROGRESS_DEADLINE));
    let status: DatabaseStatus = serde_json::from_value(serde_json::to_value(&starting).unwrap()).unwrap();
    let overdue = database(&status, &nothing(), minutes(10));
    assert_eq!(
        (condition(&overdue, "Progressing").0, condition(&overdue, "Progressing").1),
        ("False", "ProgressDeadlineExceeded")
    );
    let message = condition(&overdue, "Progressing").2;
    assert!(
        message.ends_with("on their way; partition 1: MembersNotReady in words"),
        "what holds it up is named: {message}"
    );
    let (degraded, why, message) = condition(&overdue, "Degraded");
    assert_eq!((degraded, why), ("True", "ProgressDeadlineExceeded"));
    assert!(message.contains("no progress for 10 minutes") && message.contains("MembersNotReady in words"), "{message}");
    let sent = events(&DatabaseStatus { plan: None, ..starting.clone() }, &overdue, &[]);
    assert_eq!(sent.iter().filter(|event| event.reason == "ProgressDeadlineExceeded").count(), 1);
    assert_eq!(database(&overdue, &nothing(), minutes(60)), overdue, "it is reported once");
    assert_eq!(look_again(&overdue, &nothing(), minutes(10)), None);
    let caused = pass_with(vec![state(1, false, Some("FailedMount"))]);
    assert_eq!(
        condition(&database(&overdue, &caused, minutes(11)), "Degraded").1,
        "FailedMount",
        "the cause, once it is known"
    );

    let rolling = database(&DatabaseStatus::default(), &rolled(2, true, both()), minutes(0));
    let further = database(&rolling, &rolled(3, true, both()), minutes(9));
    assert_eq!(condition(&database(&further, &rolled(3, true, both()), minutes(18)), "Progressing").1, "RollingOut");
    let stuck = database(&further, &rolled(3, true, both()), minutes(19));
    assert_eq!(
        (condition(&stuck, "Progressing").1, condition(&stuck, "Degraded").1),
        ("ProgressDeadlineExceeded", "ProgressDeadlineExceeded")
    );
    let on = database(&stuck, &rolled(4, true, both()), minutes(20));
    assert_eq!(condition(&on, "Progressing").1, "RollingOut");
    assert!(events(&stuck, &on, &[]).iter().all(|event| event.reason != "RolloutStarted"), "it is still the same");
}

#[test]
fn a_start_lasts_until_its_last_member_is_up_and_one_that_is_lost_is_no_start() {
    let grown = |third, ready| {
        let states = both().into_iter().chain([third]).collect();
        let rollout = Rollout { members: 6, updated: 6, ready, ..Rollout::default() };
        let plan = PlanInUse { hash: "i".into(), generation: 2, ..PlanInUse::default() };
        Case { generation: 2, plan, health: Health { rollout, ..Health::default() }, ..pass_with(states) }
    };
    let (down, half) = (|| state(3, false, Some(MEMBERS_NOT_READY)), || state(3, true, Some(MEMBERS_NOT_READY)));
    let mut recorded = database(&settled(), &Case { is_about_to_write: true, ..grown(down(), 4) }, at(60));
    recorded.partitions = 2; // there is no third one yet
    let started = database(&recorded, &grown(down(), 4), at(61));
    assert_eq!(condition(&started, "Progressing"), ("True", "PartitionsNotReady", "partitions are on their way"));
    let answers = database(&started, &grown(half(), 5), at(70));
    let later_on = database(&answers, &grown(half(), 5), at(90));
    for status in [&answers, &later_on] {
        assert_eq!((condition(status, "Ready").0, condition(status, "Degraded").0), ("True", "False"));
        assert_eq!(condition(status, "Progressing"), ("True", "MembersStarting", "members are on their way"));
    }
    assert!(events(&started, &later_on, &[]).iter().all(|event| !event.warning));
    let third = |status: &DatabaseStatus, from: &PartitionStatus, now| {
        let health = Health::default();
        partition(from, (&half(), 1), (status, &health), now).0
    };
    let degraded = |it: &PartitionStatus| it.conditions.iter().find(|it| it.type_ == "Degraded").unwrap().status.clone();
    let of_third = third(&later_on, &third(&answers, &PartitionStatus::default(), at(70)), at(90));
    assert_eq!(degraded(&of_third), "False");

    let whole = database(&later_on, &grown(state(3, true, None), 6), at(95));
    assert_eq!((condition(&whole, "Progressing").1, whole.progress.is_none()), ("Settled", true));
    let still = at(70 + i64::try_from(limits::PROGRESS_REPORTED_AFTER.as_secs()).unwrap());
    let stands = database(&later_on, &grown(half(), 5), still);
    assert_eq!(condition(&stands, "Degraded").1, MEMBERS_NOT_READY, "it does not come up");
    assert_eq!(degraded(&third(&stands, &of_third, still)), "True");

    let lost = database(&whole, &grown(down(), 4), at(120));
    assert_eq!(condition(&lost, "Degraded").1, MEMBERS_NOT_READY);
    assert_eq!(degraded(&third(&lost, &third(&whole, &PartitionStatus::default(), at(95)), at(120))), "True");
    assert_eq!(condition(&database(&lost, &grown(down(), 4), at(121)), "Degraded").0, "True", "also a moment later");
}

#[test]
fn what_the_cluster_gets_over_hides_no_cause_of_a_member() {
    let crashing = || pass_with(vec![state(1, false, Some("CrashLoopBackOff")), state(2, true, None)]);
    let degraded = database(&settled(), &crashing(), at(60));
    let between = || pass_with(vec![state(1, false, Some(MEMBERS_NOT_READY)), state(2, true, None)]);
    for reason in [Reason::ApiUnavailable, Reason::Conflict] {
        let fault = Fault::Cluster { reason: reason.clone(), message: "in words".into() };
        let failed = database(&degraded, &Case { faults: vec![fault.clone()], ..crashing() }, at(61));
        assert_eq!(condition(&failed, "Degraded").1, "CrashLoopBackOff");
        assert_eq!(condition(&failed, "Progressing"), ("True", reason.to_string().as_str(), "in words"));
        assert_eq!(events(&degraded, &failed, &[]), []);
        let after = database(&failed, &between(), at(62));
        assert_eq!(condition(&after, "Degraded").0, "True", "it is not over");
        assert_eq!(events(&failed, &after, &[]), []);
        let well = database(&settled(), &Case { faults: vec![fault], ..pass_with(both()) }, at(60));
        assert_eq!(condition(&well, "Degraded").0 == "True", reason == Reason::ApiUnavailable);
    }
}

#[test]
fn what_a_person_types_is_shown_as_it_is_now() {
    let held = |hash: &str| {
        let fault = Fault::Held { plan: hash.into(), message: format!("set the annotation a={hash} on the database") };
        Case { faults: vec![fault], ..pass_with(both()) }
    };
    let (old, new) = ("6b74be2b5d5be7f1c5d6b8c0ad14f1c2", "0f3c9f5e5b7c4c0e9a530d3b2a1c9e77");
    let before = database(&settled(), &held(old), at(60));
    let after = database(&before, &held(new), at(61));
    assert!(condition(&after, "Accepted").2.contains(new), "{:?}", condition(&after, "Accepted"));
}

#[test]
fn what_could_not_be_written_is_not_over_before_it_is_written() {
    let taken = Fault::Cluster { reason: Reason::NameTaken, message: "Service db-1 is there already".into() };
    let before = database(&settled(), &Case { faults: vec![taken], ..pass_with(both()) }, at(60));
    let recorded = database(&before, &Case { is_about_to_write: true, ..pass_with(both()) }, at(61));
    assert_eq!(condition(&recorded, "Degraded").1, "NameTaken");
    assert_eq!(events(&before, &recorded, &[]), []);
    assert_eq!(condition(&database(&recorded, &pass_with(both()), at(62)), "Degraded").0, "False");
    let failed = Fault::Plugin { message: "plugin p trapped".into() };
    let before = database(&settled(), &Case { faults: vec![failed], ..pass_with(both()) }, at(60));
    let planned = database(&before, &Case { is_about_to_write: true, ..pass_with(both()) }, at(61));
    assert_eq!(condition(&planned, "Degraded").0, "False", "the plugin has answered");
}

#[test]
fn a_bad_plugin_leaves_what_is_known_and_is_reported() {
    let status = database(&settled(), &failed(Fault::Plugin { message: "plugin p trapped".into() }), at(60));
    assert_eq!(condition(&status, "Ready").0, "True");
    assert_eq!(condition(&status, "Degraded"), ("True", "PluginFailed", "plugin p trapped"));
    assert_eq!(status.plan, settled().plan);
    let start = Start { generation: 1, ..Start::default() };
    let failed_on = |generation| {
        let resolved = Resolved {
            start: start.clone(),
            class: ClassInUse { generation, ..ClassInUse::default() },
            ..Resolved::default()
        };
        let fault = Fault::Plugin { message: "plugin p trapped".into() };
        let observed = Observed { resolved, ..Observed::default() };
        let before = DatabaseStatus {
            plan: Some(PlanInUse { generation: 1, class_generation: 1, ..PlanInUse::default() }),
            ..settled()
        };
        super::database(&before, &Pass::from(Err(crate::pass::Stopped::after(observed, fault))), at(60))
    };
    assert_eq!(condition(&failed_on(1), "Accepted").0, "True", "what runs was made from it");
    assert_eq!(condition(&failed_on(2), "Accepted"), ("Unknown", "PluginFailed", "plugin p trapped"));
    let new =
        database(&DatabaseStatus::default(), &failed(Fault::waiting(Reason::NoPlugin, "no plugin serves kind C")), at(0));
    assert_eq!((condition(&new, "Ready").1, condition(&new, "Accepted").1), ("NoPlugin", "NoPlugin"));
    assert_eq!(new.phase.as_deref(), Some("NoPlugin"));
}

#[test]
fn what_the_controller_could_not_do_is_over_as_soon_as_it_is_done() {
    for reason in [Reason::Forbidden, Reason::ApiUnavailable, Reason::NameTaken, Reason::FieldContested] {
        let fault = Fault::Cluster { reason: reason.clone(), message: "could not apply Service db-1".into() };
        let failing = database(&DatabaseStatus::default(), &failed(fault), at(0));
        assert_eq!(condition(&failing, "Degraded").1, reason.to_string());
        let starting = database(&failing, &pass_with(vec![state(1, false, Some(MEMBERS_NOT_READY))]), at(1));
        assert_eq!(condition(&starting, "Degraded"), ("False", "AsExpected", ""), "{reason}");
        let recovered: Vec<_> =
            events(&failing, &starting, &[]).into_iter().filter(|event| event.reason == "Recovered").collect();
        assert_eq!(recovered[0].note, format!("{reason} is over"), "members are missing still");
        let ready = database(&starting, &pass_with(vec![state(1, true, None)]), at(2));
        assert_eq!(ready.phase.as_deref(), Some("Ready"), "{reason}");
        assert!(events(&starting, &ready, &[]).iter().any(|event| event.reason == "Ready"), "{reason}");
    }
}

#[test]
fn a_change_that_was_not_taken_is_named_and_all_else_goes_on() {
    let mut it = pass_with(vec![state(1, true, None)]);
    it.unsupported =
        vec![Unsupported { field: "spec.replicas".into(), wanted: "5".into(), kept: "3".into(), why: "fixed".into() }];
    let status = database(&DatabaseStatus::default(), &it, at(0));
    assert_eq!(condition(&status, "Accepted"), ("False", "ChangeNotTaken", "spec.replicas stays 3 instead of 5: fixed"));
    assert_eq!((condition(&status, "Ready").0, status.phase.as_deref()), ("True", Some("ChangeNotTaken")));
}

#[test]
fn events_report_transitions_once() {
    let before = DatabaseStatus::default();
    let ready = settled();
    let sent: Vec<_> = events(&before, &ready, &[]).into_iter().map(|event| event.reason).collect();
    assert_eq!(sent, ["PartitionsAdded", "Ready"]);
    assert_eq!(events(&ready, &ready, &[]), []);
    let lost = database(&ready, &pass_with(vec![state(1, true, Some(MEMBERS_NOT_READY)), state(2, true, None)]), at(60));
    let sent = events(&ready, &lost, &[]);
    assert_eq!((sent.len(), sent[0].warning, sent[0].reason.as_str()), (1, true, MEMBERS_NOT_READY));
    let note = Note {
        warning: false,
        reason: contract::Reason { code: "Even".into(), message: "an even number of replicas".into() },
    };
    assert_eq!(events(&ready, &lost, std::slice::from_ref(&note)).len(), 1, "a note comes with a new plan only");
    let mut replanned = ready.clone();
    replanned.plan = Some(PlanInUse { hash: "other".into(), ..PlanInUse::default() });
    assert_eq!(events(&ready, &replanned, &[note])[0].reason, "Even");
}

#[test]
fn what_the_class_means_as_a_group_stays_until_the_plugin_returns_another() {
    let group = |partition_size| GroupStatus { partition_size, ..GroupStatus::default() };
    let pass = |group| Case { group, ..pass_with(vec![state(1, true, None)]) };
    let before = database(&DatabaseStatus::default(), &pass(Some(Ok(Some(group(3))))), at(0));
    assert_eq!(before.group, Some(group(3)));
    assert_eq!(database(&before, &pass(None), at(1)).group, Some(group(3)), "no plugin was called");
    assert_eq!(database(&before, &pass(Some(Ok(None))), at(1)).group, None, "a plugin without groups");
    let after = database(&before, &pass(Some(Ok(Some(group(5))))), at(1));
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
