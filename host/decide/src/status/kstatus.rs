//! The conditions Reconciling and Stalled, from which Flux, Helm, Argo CD and others read the state (kstatus): true or
//! absent, and never both. Derived from the finished conditions and the faults; knows nothing else.
//!
//! Stalled is what only a person ends. Reconciling is what goes on by itself, be it that something comes which is waited
//! for. Without both, an object is as its spec has it: such tools then call it current.

use super::Conditions;
use crate::pass::Pass;
use atomix_model::condition::{ConditionType, PluginPhase, Reason};
use atomix_model::fault::Fault;

/// Adds what holds to the conditions of a database.
pub(super) fn database(conditions: &mut Conditions, pass: &Pass) {
    let needs_somebody =
        |fault: &&Fault| !matches!(fault, Fault::Waiting { .. } | Fault::Unseen { .. } | Fault::Cluster { .. });
    let by_itself = |fault: &&Fault| !needs_somebody(fault);
    let reason_and_message = |fault: &Fault| (fault.reason(), fault.message().to_owned());
    let stalled = pass.faults().find(needs_somebody).map(reason_and_message);
    let stalled = stalled.or_else(|| {
        pass.unsupported().next().is_some().then(|| conditions.reason_and_message(ConditionType::Accepted)).flatten()
    });
    if let Some((reason, message)) = stalled.or_else(|| ended(conditions)) {
        return conditions.set(ConditionType::Stalled, true, reason, message);
    }
    let waits = pass.faults().find(by_itself).map(reason_and_message);
    let problems = pass.states().into_iter().flatten().filter_map(|state| state.problem.as_ref());
    let member = problems.map(|problem| (Reason::of(&problem.code), problem.message.clone())).next();
    if let Some((reason, message)) = waits.or_else(|| on_its_way(conditions)).or(member) {
        conditions.set(ConditionType::Reconciling, true, reason, message);
    }
}

/// Adds what holds to the conditions of a partition.
pub(super) fn partition(conditions: &mut Conditions) {
    if let Some((reason, message)) = ended(conditions) {
        return conditions.set(ConditionType::Stalled, true, reason, message);
    }
    if let Some((reason, message)) = on_its_way(conditions) {
        conditions.set(ConditionType::Reconciling, true, reason, message);
    }
}

/// Adds what holds to the conditions of a plugin, given its phase: a plugin is refused or removed until a person acts.
pub fn plugin(conditions: &mut Conditions, phase: PluginPhase, message: Option<&str>) {
    let text = message.unwrap_or_default().to_owned();
    match phase {
        PluginPhase::Serving | PluginPhase::Pinned => {}
        PluginPhase::Loading => conditions.set(ConditionType::Reconciling, true, phase.reason(), text),
        PluginPhase::Refused | PluginPhase::Removed | PluginPhase::RevisionNotKept => {
            conditions.set(ConditionType::Stalled, true, phase.reason(), text)
        }
    }
}

/// Reasons of what nothing is wrong with but that it does not go on: it has taken too long, or waits for a person.
const ENDED: [Reason; 2] = [Reason::ProgressDeadlineExceeded, Reason::WaitsForDeletion];

/// Reason and message of such a condition.
fn ended(conditions: &Conditions) -> Option<(Reason, String)> {
    let entry = |(type_, status): (ConditionType, &str)| {
        (conditions.status(type_) == Some(status)).then(|| conditions.reason_and_message(type_)).flatten()
    };
    let cases = [(ConditionType::Progressing, "False"), (ConditionType::Degraded, "True")];
    cases.into_iter().filter_map(entry).find(|(reason, _)| ENDED.contains(reason))
}

/// Reason and message of the first condition by which something is on its way.
fn on_its_way(conditions: &Conditions) -> Option<(Reason, String)> {
    let holds = |type_: ConditionType, wanted: &str| conditions.status(type_).unwrap_or(wanted) == wanted;
    let cases = [(ConditionType::Ready, "True"), (ConditionType::Progressing, "False"), (ConditionType::Degraded, "False")];
    cases
        .into_iter()
        .find(|(type_, wanted)| !holds(*type_, wanted))
        .and_then(|(type_, _)| conditions.reason_and_message(type_))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::super::partition as partition_status;
    use super::super::tests::{Case, database as database_status};
    use super::*;
    use crate::pass::Health;
    use atomix_model::contract::{self, MEMBERS_NOT_READY, PartitionState, Unsupported};
    use atomix_model::crd::database::PlanInUse;
    use atomix_model::crd::{DatabaseStatus, PartitionStatus};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).expect("it is in range")
    }

    fn state(ready: bool, problem: Option<&str>) -> PartitionState {
        let problem = problem.map(|code| contract::Reason { code: code.into(), message: format!("{code} in words") });
        PartitionState { id: 1, ready, endpoints: Vec::new(), problem }
    }

    fn pass_with(state: PartitionState) -> Case {
        Case { generation: 1, wanted: 1, states: Some(vec![state]), ..Case::default() }
    }

    /// What of both a database has, with its reason, after it was ready for a minute.
    fn after_a_minute(case: Case) -> Option<(String, String)> {
        let ready = database_status(&DatabaseStatus::default(), &super::tests::pass_with(state(true, None)), at(0));
        let status = database_status(&ready, &case, at(60));
        of_both(status.conditions)
    }

    fn of_both(conditions: Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>) -> Option<(String, String)> {
        let mut both = conditions.into_iter().filter(|it| ["Reconciling", "Stalled"].contains(&it.type_.as_str()));
        let found = both.next().inspect(|it| assert_eq!(it.status, "True", "{} is absent when it does not hold", it.type_));
        assert!(both.next().is_none(), "never both");
        found.map(|it| (it.type_, it.reason))
    }

    fn is(type_: ConditionType, reason: &str) -> Option<(String, String)> {
        Some((type_.as_str().to_owned(), reason.to_owned()))
    }

    #[test]
    fn what_is_as_asked_has_neither() {
        assert_eq!(after_a_minute(pass_with(state(true, None))), None);
    }

    #[test]
    fn what_a_person_must_end_is_stalled_and_all_else_is_on_its_way() {
        let text = || "in words".to_owned();
        let cases = [
            (Fault::user(Reason::Invalid, "x"), is(ConditionType::Stalled, "Invalid")),
            (Fault::Refused { message: text() }, is(ConditionType::Stalled, "Invalid")),
            (Fault::Plugin { message: text() }, is(ConditionType::Stalled, "PluginFailed")),
            (Fault::Held { plan: text(), message: text() }, is(ConditionType::Stalled, "Held")),
            (Fault::waiting(Reason::NoPlugin, "x"), is(ConditionType::Reconciling, "NoPlugin")),
            (Fault::Cluster { reason: Reason::NameTaken, message: text() }, is(ConditionType::Reconciling, "NameTaken")),
        ];
        for (fault, expected) in cases {
            let fresh = Case { generation: 1, wanted: 1, faults: vec![fault.clone()], ..Case::default() };
            assert_eq!(of_both(database_status(&DatabaseStatus::default(), &fresh, at(0)).conditions), expected);
            assert_eq!(after_a_minute(fresh), expected, "what ran before makes no difference");
            let while_ready = Case { faults: vec![fault], ..pass_with(state(true, None)) };
            assert_eq!(after_a_minute(while_ready), expected, "nor does a plan");
        }
        let cluster = Fault::Cluster { reason: Reason::NameTaken, message: text() };
        let faults = vec![cluster, Fault::user(Reason::Invalid, "x")];
        let both = Case { faults, ..pass_with(state(true, None)) };
        assert_eq!(after_a_minute(both), is(ConditionType::Stalled, "Invalid"), "waiting will not do");
    }

    #[test]
    fn a_change_that_is_not_taken_is_stalled_though_all_is_ready() {
        let change = Unsupported { field: "f".into(), wanted: "2".into(), kept: "1".into(), why: "fixed".into() };
        let kept = Case { unsupported: vec![change], ..pass_with(state(true, None)) };
        assert_eq!(after_a_minute(kept), is(ConditionType::Stalled, "ChangeNotTaken"));
    }

    #[test]
    fn a_member_that_is_missing_is_on_its_way_from_the_first_moment_on() {
        for code in [MEMBERS_NOT_READY, "ImagePullBackOff"] {
            assert_eq!(
                after_a_minute(pass_with(state(true, Some(code)))),
                is(ConditionType::Reconciling, code),
                "also before it counts as lost"
            );
            let starts = database_status(&DatabaseStatus::default(), &pass_with(state(true, Some(code))), at(0));
            assert_eq!(of_both(starts.conditions), is(ConditionType::Reconciling, code));
        }
        assert_eq!(
            after_a_minute(pass_with(state(false, Some(MEMBERS_NOT_READY)))),
            is(ConditionType::Reconciling, "PartitionsNotReady")
        );
        let planned = |hash: &str, generation| {
            let plan = PlanInUse { hash: hash.into(), generation, ..PlanInUse::default() };
            Case { generation, plan, ..pass_with(state(true, None)) }
        };
        let before = database_status(&DatabaseStatus::default(), &planned("a", 1), at(0));
        let edited = Case { is_about_to_write: true, ..planned("b", 2) };
        assert_eq!(
            of_both(database_status(&before, &edited, at(60)).conditions),
            is(ConditionType::Reconciling, "Applying")
        );
    }

    #[test]
    fn a_partition_is_on_its_way_until_it_is_ready_and_whole() {
        let of = |state: PartitionState| {
            let case = pass_with(state.clone());
            let database = database_status(&DatabaseStatus::default(), &case, at(0));
            of_both(
                partition_status(&PartitionStatus::default(), (&state, 1), (&database, &Health::default()), at(0))
                    .0
                    .conditions,
            )
        };
        assert_eq!(of(state(true, None)), None);
        assert_eq!(of(state(false, None)), is(ConditionType::Reconciling, "MembersNotReady"));
        let mut degraded = Conditions::of(&[], Some(1), at(0));
        degraded.set(ConditionType::Ready, true, Reason::Ready, String::new());
        degraded.set(ConditionType::Degraded, true, Reason::of("ImagePullBackOff"), String::new());
        partition(&mut degraded);
        assert_eq!(of_both(degraded.into_vec()), is(ConditionType::Reconciling, "ImagePullBackOff"));
    }

    #[test]
    fn a_plugin_is_done_while_its_newest_bytes_serve() {
        let of = |phase| {
            let mut conditions = Conditions::of(&[], Some(1), at(0));
            plugin(&mut conditions, phase, Some("in words"));
            of_both(conditions.into_vec())
        };
        assert_eq!(of(PluginPhase::Serving), None);
        assert_eq!(of(PluginPhase::Loading), is(ConditionType::Reconciling, "Loading"));
        assert_eq!(
            (of(PluginPhase::Refused), of(PluginPhase::Removed)),
            (is(ConditionType::Stalled, "Refused"), is(ConditionType::Stalled, "Removed"))
        );
    }

    #[test]
    fn what_takes_too_long_or_waits_for_a_person_is_stalled() {
        for (type_, status, reason) in [
            (ConditionType::Progressing, false, "ProgressDeadlineExceeded"),
            (ConditionType::Degraded, true, "ProgressDeadlineExceeded"),
            (ConditionType::Progressing, false, "WaitsForDeletion"),
        ] {
            for ready in [true, false] {
                let made = || {
                    let mut conditions = Conditions::of(&[], Some(1), at(0));
                    conditions.set(ConditionType::Ready, ready, Reason::of("Any"), String::new());
                    conditions.set(type_, status, Reason::of(reason), "in words".into());
                    conditions
                };
                let (mut of_database, mut of_partition) = (made(), made());
                database(&mut of_database, &pass_with(state(ready, None)).pass());
                partition(&mut of_partition);
                assert_eq!(of_both(of_database.into_vec()), is(ConditionType::Stalled, reason));
                assert_eq!(of_both(of_partition.into_vec()), is(ConditionType::Stalled, reason));
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_stalled() {
        assert_eq!(
            of_both(super::super::malformed(&DatabaseStatus::default(), Some(1), "x".into(), at(0)).conditions),
            is(ConditionType::Stalled, "Malformed")
        );
    }
}
