//! Which pods keep a set from rolling out, and that a member that is up never goes.

use proptest::prelude::*;
use proptest::sample::select;

use super::super::pods;
use super::*;

const NOW: &str = "2026-01-01T01:00:00Z";
const CREATED: &str = "2026-01-01T00:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// A set of three whose newest revision is `new`.
fn set(change: impl FnOnce(&mut Value)) -> Live {
    let kind =
        Kind { group: "apps".into(), version: "v1".into(), kind: "StatefulSet".into(), plural: "statefulsets".into() };
    let mut set = json!({"metadata": {"name": "s", "namespace": "n", "uid": "set", "resourceVersion": "1", "generation": 2},
        "spec": {"replicas": 3, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}},
        "status": {"observedGeneration": 2, "updateRevision": "new", "currentRevision": "old"}});
    change(&mut set);
    Trim::whole(OF_SETS.map(str::to_owned)).live(&kind, set).unwrap()
}

/// The state of a pod as its kubelet reports it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Unscheduled,
    Creating,
    /// It cannot be started, and never was ready.
    NeverStarts,
    /// It cannot be started again, and was ready once.
    FailsNow,
    /// It has just ended, and was ready once.
    Ended,
    /// It runs, for so many seconds, and its startup probe has not passed.
    Starting(i64),
    /// It runs and has started, and was never ready.
    NeverReady,
    /// It runs and has started, and was ready once.
    NotReady,
    Ready,
}

use State::{Creating, Ended, FailsNow, NeverReady, NeverStarts, NotReady, Starting, Unscheduled};

const STATES: [State; 10] =
    [Unscheduled, Creating, NeverStarts, FailsNow, Ended, Starting(3), Starting(300), NeverReady, NotReady, State::Ready];

fn pod(ordinal: u64, revision: &str, state: State) -> Arc<Live> {
    let mut pod = json!({"metadata": {"name": format!("s-{ordinal}"), "namespace": "n", "uid": format!("p{ordinal}"), "resourceVersion": "5",
        "labels": {"controller-revision-hash": revision},
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "s", "uid": "set", "controller": true}]}});
    let running = |secs: i64, started: bool| {
        let since = now().checked_sub(k8s_openapi::jiff::SignedDuration::from_secs(secs)).unwrap();
        json!([{"name": "c", "restartCount": 0, "started": started, "state": {"running": {"startedAt": since.to_string()}}}])
    };
    let waiting =
        |reason: &str| json!([{"name": "c", "restartCount": 4, "started": false, "state": {"waiting": {"reason": reason}}}]);
    let (containers, since) = match state {
        Unscheduled => {
            pod["status"] = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False"}]});
            return live(pod);
        }
        Creating => (waiting("ContainerCreating"), CREATED),
        NeverStarts => (waiting("CrashLoopBackOff"), CREATED),
        FailsNow => (waiting("CrashLoopBackOff"), "2026-01-01T00:30:00Z"),
        Ended => {
            (json!([{"name": "c", "restartCount": 1, "state": {"terminated": {"exitCode": 1}}}]), "2026-01-01T00:30:00Z")
        }
        Starting(secs) => (running(secs, false), CREATED),
        NeverReady => (running(300, true), CREATED),
        NotReady => (running(300, true), "2026-01-01T00:30:00Z"),
        State::Ready => (running(300, true), "2026-01-01T00:30:00Z"),
    };
    let ready = if state == State::Ready { "True" } else { "False" };
    pod["status"] = json!({"startTime": CREATED, "containerStatuses": containers,
        "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": since}]});
    live(pod)
}

fn live(pod: Value) -> Arc<Live> {
    let trim = Trim { whole: false, reads: OF_PODS.map(str::to_owned).into() };
    Arc::new(trim.live(&pods(), pod).unwrap())
}

/// Names of the pods that go.
fn going(set: &Live, pods: &[(&str, State)]) -> Vec<String> {
    let pods: Vec<_> = (0..).zip(pods).map(|(ordinal, (revision, state))| pod(ordinal, revision, *state)).collect();
    stalled(set, &pods, now()).delete.iter().map(|pod| pod.name.clone()).collect()
}

#[test]
fn members_that_never_started_are_made_again_of_the_new_revision_all_at_once() {
    let set = set(|_| {});
    for state in [Unscheduled, Creating, NeverStarts, Starting(300), NeverReady] {
        assert_eq!(going(&set, &[("old", state), ("old", state), ("old", state)]), ["s-0", "s-1", "s-2"], "{state:?}");
        assert_eq!(going(&set, &[("old", state), ("old", state), ("new", Starting(3))]), ["s-0", "s-1"], "{state:?}");
    }
}

#[test]
fn one_that_never_started_goes_while_the_others_serve() {
    let set = set(|_| {});
    for state in [Unscheduled, NeverStarts, Starting(300)] {
        assert_eq!(going(&set, &[("older", State::Ready), ("older", State::Ready), ("old", state)]), ["s-2"], "{state:?}");
    }
}

#[test]
fn one_that_still_starts_has_its_time() {
    let pods = [pod(0, "old", Starting(3))];
    let stalled = stalled(&set(|_| {}), &pods, now());
    assert!(stalled.delete.is_empty());
    assert_eq!(stalled.again, Some(limits::MEMBER_START - Duration::from_secs(3)));
}

#[test]
fn one_that_was_ready_and_fails_goes_alone_and_not_into_a_revision_that_is_worse() {
    let set = set(|_| {});
    assert_eq!(going(&set, &[("old", FailsNow), ("old", State::Ready), ("old", FailsNow)]), ["s-0"], "one at a time");
    assert!(going(&set, &[("old", FailsNow), ("old", State::Ready), ("new", NeverStarts)]).is_empty());
    assert_eq!(going(&set, &[("old", FailsNow), ("old", State::Ready), ("new", State::Ready)]), ["s-0"]);
    assert_eq!(going(&set, &[("old", FailsNow), ("old", FailsNow), ("new", NeverReady)]), ["s-0", "s-1"], "nothing serves");
    assert!(going(&set, &[("old", Ended), ("old", Ended), ("new", NeverReady)]).is_empty(), "it is started again");
}

#[test]
fn what_has_the_newest_revision_or_would_come_back_with_the_old_one_stays() {
    let all = |revision| [(revision, NeverStarts), (revision, NeverStarts), (revision, NeverStarts)];
    assert!(going(&set(|_| {}), &all("new")).is_empty());
    let partition = |at: i64| set(move |set| set["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = json!(at));
    assert_eq!(going(&partition(1), &all("old")), ["s-1", "s-2"]);
    assert!(going(&partition(3), &all("old")).is_empty());
    let from_five = set(|set| {
        set["spec"]["ordinals"] = json!({"start": 1});
        set["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = json!(1);
    });
    assert_eq!(going(&from_five, &all("old")), ["s-2"]);
}

#[test]
fn nothing_goes_before_kubernetes_has_seen_the_edit_nor_of_another_set() {
    let unseen = set(|set| set["metadata"]["generation"] = json!(3));
    assert!(going(&unseen, &[("old", NeverStarts)]).is_empty());
    let other = set(|set| set["metadata"]["uid"] = json!("another"));
    assert!(going(&other, &[("old", NeverStarts)]).is_empty());
}

#[test]
fn a_set_that_restarts_by_hand_only_keeps_what_ran_once() {
    let by_hand = set(|set| set["spec"]["updateStrategy"] = json!({"type": "OnDelete"}));
    assert_eq!(going(&by_hand, &[("old", NeverStarts), ("old", Unscheduled), ("old", FailsNow)]), ["s-0", "s-1"]);
    assert!(going(&by_hand, &[("old", Starting(300)), ("old", NeverReady), ("old", Ended)]).is_empty());
}

proptest! {
    #[test]
    fn a_member_that_is_up_is_never_taken_down(
        members in proptest::collection::vec((select(vec!["old", "older", "new"]), select(STATES.to_vec())), 1..7),
        by_hand in any::<bool>(),
        partition in 0..4_u64,
    ) {
        let set = set(|set| {
            set["spec"]["updateStrategy"] = match by_hand {
                true => json!({"type": "OnDelete"}),
                false => json!({"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}),
            };
        });
        let gone = going(&set, &members);
        let any_ready = members.iter().any(|(_, state)| *state == State::Ready);
        for (ordinal, (revision, state)) in (0..).zip(&members) {
            if !gone.contains(&format!("s-{ordinal}")) {
                continue;
            }
            prop_assert!(*revision != "new", "it would come back as it is");
            prop_assert!(by_hand || ordinal >= partition, "it would come back of the old revision");
            prop_assert!(![State::Ready, NotReady, Ended, Starting(3)].contains(state), "{state:?} is up, or comes up");
            prop_assert!(*state != NeverReady || !any_ready && !by_hand, "its container runs");
        }
    }
}
