//! When the rollout of an edit waits for members that are away, and that it never waits for ever.

use super::super::decision::tests::{OWNER, desired as planned, kind};
use super::super::{Decision, decide, pods};
use super::*;
use atomix_model::object::Trim;

fn at(time: &str) -> Timestamp {
    format!("2026-01-01T{time}Z").parse().unwrap()
}

fn now() -> Timestamp {
    at("01:00:00")
}

/// What is live of it, at these revisions: the one that ran, and the newest.
fn live(of: &Stamped, [current, newest]: [&str; 2]) -> Live {
    let mut set = of.manifest.clone();
    set["metadata"]["uid"] = json!("set");
    set["metadata"]["resourceVersion"] = json!("7");
    set["status"] = json!({"currentRevision": current, "updateRevision": newest});
    Trim::whole(["/status/currentRevision".into(), "/status/updateRevision".into()]).live(&kind(), set).unwrap()
}

/// A pod of revision `old`: ready or not since a time, with this status besides.
fn pod(ordinal: u64, ready: bool, since: &str, more: Value) -> Arc<Live> {
    let mut status = json!({"phase": "Running", "conditions": [
        {"type": "Ready", "status": if ready { "True" } else { "False" }, "lastTransitionTime": at(since).to_string()}]});
    for (field, value) in more.as_object().unwrap() {
        status[field] = value.clone();
    }
    let pod = json!({"metadata": {"name": format!("s-{ordinal}"), "namespace": "n", "uid": format!("p{ordinal}"), "resourceVersion": "5",
        "labels": {"controller-revision-hash": "old"},
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "s", "uid": "set", "controller": true}]},
        "status": status});
    Arc::new(Trim::whole(["/status".into()]).live(&pods(), pod).unwrap())
}

fn up(ordinal: u64) -> Arc<Live> {
    pod(ordinal, true, "00:00:00", json!({}))
}

fn coming_back(ordinal: u64) -> Arc<Live> {
    pod(ordinal, false, "00:59:50", json!({"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}))
}

#[test]
fn an_edit_replaces_no_pod_while_another_is_coming_back() {
    let (before, edit) = (live(&planned("a"), ["old", "old"]), planned("b"));
    let away = [coming_back(0), up(1), up(2)];
    let first = wait(&edit, Some(&before), &away, now()).expect("it waits");
    assert_eq!(
        first.object.manifest["spec"]["updateStrategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 3}})
    );
    assert_eq!(first.left, limits::ROLLOUT_WAITS);
    assert!(matches!(decide(&first.object, Some(&before), &OWNER, None), Decision::Write(_)), "the edit is taken");

    let held = live(&first.object, ["old", "new"]);
    let gone = [up(1), up(2)]; // the set makes it again
    let next = wait(&edit, Some(&held), &gone, at("01:00:30")).expect("it still waits");
    assert_eq!(next.left, limits::ROLLOUT_WAITS - Duration::from_secs(30));
    assert_eq!(decide(&next.object, Some(&held), &OWNER, None), Decision::Leave, "nothing is written meanwhile");
    let another = wait(&planned("c"), Some(&held), &gone, at("01:00:30")).expect("another edit waits as well");
    assert_eq!(another.left, next.left, "and no longer");

    assert!(wait(&edit, Some(&held), &[up(0), up(1), up(2)], at("01:00:40")).is_none(), "it is back");
    assert!(matches!(decide(&edit, Some(&held), &OWNER, None), Decision::Write(_)), "the partition is taken off");
    assert!(wait(&edit, Some(&held), &away, at("01:02:00")).is_none(), "it has had its time");
    let rolling = live(&edit, ["old", "new"]);
    assert!(wait(&edit, Some(&rolling), &away, at("01:02:01")).is_none(), "what has begun goes on");
}

#[test]
fn an_edit_that_may_be_the_repair_does_not_wait() {
    let (before, edit) = (live(&planned("a"), ["old", "old"]), planned("b"));
    let waiting = |reason: &str| json!({"containerStatuses": [{"state": {"waiting": {"reason": reason}}}]});
    for (what, away) in [
        ("it cannot be started", pod(0, false, "00:59:50", waiting("CrashLoopBackOff"))),
        ("its image cannot be had", pod(0, false, "00:59:50", waiting("ImagePullBackOff"))),
        ("it has failed", pod(0, false, "00:59:50", json!({"phase": "Failed"}))),
        ("it cannot be scheduled", {
            let conditions = json!([{"type": "PodScheduled", "status": "False"}]);
            pod(0, false, "00:59:50", json!({"phase": "Pending", "conditions": conditions}))
        }),
        ("it has been away for long", pod(0, false, "00:57:00", json!({}))),
    ] {
        assert!(wait(&edit, Some(&before), &[away, up(1), up(2)], now()).is_none(), "{what}");
    }
    let none_is_up = [coming_back(0), coming_back(1), coming_back(2)];
    assert!(wait(&edit, Some(&before), &none_is_up, now()).is_none(), "there is nothing to protect");
    let halfway = live(&planned("a"), ["old", "new"]);
    assert!(wait(&edit, Some(&halfway), &[up(0), up(1), coming_back(2)], now()).is_none(), "it corrects a rollout");
}

#[test]
fn what_restarts_nothing_waits_for_nothing() {
    let away = [coming_back(0), up(1), up(2)];
    let mut edit = planned("a");
    let before = live(&edit, ["old", "old"]);
    edit.manifest["spec"]["replicas"] = json!(5);
    edit.hash = "another".to_owned();
    assert!(wait(&edit, Some(&before), &away, now()).is_none(), "the template is as it was");
    assert!(wait(&planned("b"), None, &away, now()).is_none(), "there is no set yet");
    assert!(wait(&planned("b"), Some(&before), &[up(0), up(1), up(2)], now()).is_none(), "none is away");
    let mut by_hand = planned("b");
    by_hand.manifest["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
    assert!(wait(&by_hand, Some(&before), &away, now()).is_none(), "its pods are replaced by hand");
    let mut far = before;
    far.body["metadata"]["annotations"][names::WAITS_UNTIL] = json!("2099-01-01T00:00:00Z");
    assert!(wait(&planned("b"), Some(&far), &away, now()).is_none(), "a time that somebody wrote counts no further");
}
