//! What holds for the plans of all databases; single plans are cases in `tests/golden`.

use atomix_sdk::testing::{self, Planned, ready};
use atomix_sdk::{Value, json};

use super::plugin;

fn request(name: &str, partitions: u32, spec: &Value) -> testing::Request {
    testing::request("ValkeyStorageClass", name, [partitions, partitions], spec)
}

fn planned(partitions: u32, spec: &Value, observed: Vec<testing::ObservedObject>) -> Planned {
    testing::planned(&plugin(), testing::Request { observed, ..request("kv", partitions, spec) })
}

fn volume(size: &str, replicas: u32) -> Value {
    let claim = json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}});
    json!({"replicas": replicas, "volumeClaimTemplate": claim})
}

#[test]
fn a_growing_database_leaves_every_partition_as_it_is() {
    let mut before = planned(1, &volume("1Gi", 2), Vec::new());
    for partitions in 2..=9 {
        let after = planned(partitions, &volume("1Gi", 2), before.live(plugin()));
        assert_eq!(after.objects[..before.objects.len()], before.objects);
        before = after;
    }
}

#[test]
fn more_or_fewer_replicas_restart_nothing() {
    let templates = |replicas: u32| {
        let plan = planned(1, &volume("1Gi", replicas), Vec::new());
        ["primary-1", "replicas-1"].map(|id| plan.object(id)["spec"]["template"].clone())
    };
    assert_eq!(templates(1), templates(8));
    let alone = planned(1, &volume("1Gi", 0), Vec::new());
    assert_eq!(alone.object("primary-1")["spec"]["template"], templates(8)[0]);
    assert!(!alone.objects.iter().any(|(id, _)| id == "replicas-1"));
}

#[test]
fn the_primary_decides() {
    for replicas in 0..=3 {
        for (has_primary, up) in (0..=replicas).flat_map(|up| [(false, up), (true, up)]) {
            let mut pods: Vec<_> = (0..up).map(|at| ready(&format!("kv-1-r-{at}"))).collect();
            if has_primary {
                pods.insert(0, ready("kv-1-0"));
            }
            let state = planned(1, &volume("1Gi", replicas), pods).plan.partitions.remove(0);
            assert_eq!(state.ready, has_primary, "{up} of {replicas}");
            assert_eq!(state.problem.is_none(), has_primary && up == replicas, "{up} of {replicas}");
        }
    }
}

/// A StatefulSet whose pods run revision `current` and should run `update`; `behind` before its controller has come to the change.
fn set(name: &str, current: &str, update: &str, behind: bool) -> testing::ObservedObject {
    let fields = [
        ("/metadata/generation", json!(2)),
        ("/status/observedGeneration", json!(if behind { 1 } else { 2 })),
        ("/status/currentRevision", json!(current)),
        ("/status/updateRevision", json!(update)),
    ];
    let fields = fields.map(|(at, value)| testing::ObservedField { pointer: at.into(), value: value.to_string() }).into();
    testing::ObservedObject {
        group: "apps".into(),
        kind: "StatefulSet".into(),
        name: name.into(),
        terminating: false,
        fields,
    }
}

/// A pod whose container has ended with `code`, and has been `started` again or not.
fn ended(name: &str, code: i64, started: bool) -> testing::ObservedObject {
    let terminated = json!({"terminated": {"exitCode": code}});
    let container = if started {
        json!({"ready": false, "state": {"running": {}}, "lastState": terminated})
    } else {
        json!({"ready": false, "state": terminated, "lastState": {}})
    };
    testing::pod(name, &json!({"phase": "Running", "containerStatuses": [container]}))
}

#[test]
fn a_primary_restarts_after_its_replicas_or_when_it_need_not_wait_for_them() {
    let is_held = |replicas: u32, pods: Vec<testing::ObservedObject>, sets: [testing::ObservedObject; 2]| {
        let plan = planned(1, &volume("1Gi", replicas), pods.into_iter().chain(sets).collect());
        plan.object("primary-1")["spec"].get("updateStrategy").is_some()
    };
    let runs = |name: &str| set(name, "a", "a", false);
    let waits = |name: &str| set(name, "a", "b", false);
    let behind = |name: &str| set(name, "a", "a", true);
    let all = || vec![ready("kv-1-0"), ready("kv-1-r-0")];
    let no_primary = || vec![ready("kv-1-r-0")];
    let no_replica = || vec![ready("kv-1-0")];
    let ended = |code, started| vec![ready("kv-1-0"), ended("kv-1-r-0", code, started)];
    assert!(is_held(1, all(), [runs("kv-1"), runs("kv-1-r")]), "nothing is to be restarted");
    assert!(is_held(1, all(), [waits("kv-1"), waits("kv-1-r")]), "replicas run the old");
    assert!(is_held(1, all(), [waits("kv-1"), behind("kv-1-r")]), "replicas are yet to begin");
    assert!(is_held(1, no_replica(), [waits("kv-1"), runs("kv-1-r")]), "a replica is on its way");
    assert!(!is_held(1, all(), [waits("kv-1"), runs("kv-1-r")]), "replicas are done");
    assert!(
        !is_held(1, all(), [set("kv-1", "a", "b", true), runs("kv-1-r")]),
        "it was let go and its set has not come to it"
    );
    assert!(!is_held(1, no_primary(), [waits("kv-1"), waits("kv-1-r")]), "there is nothing to lose, and replicas need it");
    assert!(is_held(1, no_primary(), [behind("kv-1"), runs("kv-1-r")]), "whether it changes shows only then");
    for started in [false, true] {
        assert!(
            !is_held(1, ended(77, started), [waits("kv-1"), waits("kv-1-r")]),
            "a replica cannot follow it until it restarts"
        );
        assert!(is_held(1, ended(77, started), [runs("kv-1"), waits("kv-1-r")]), "it has no other password to restart with");
        assert!(is_held(1, ended(1, started), [waits("kv-1"), waits("kv-1-r")]), "the new image may be what ends replicas");
    }
    assert!(!is_held(0, vec![ready("kv-1-0")], [waits("kv-1"), waits("kv-1-r")]), "there is no replica to wait for");
    assert!(planned(1, &volume("1Gi", 1), Vec::new()).object("primary-1")["spec"].get("updateStrategy").is_some());
}

#[test]
fn a_replica_with_another_password_is_named() {
    let problem = |code| {
        let pods = vec![ready("kv-1-0"), ready("kv-1-r-0"), ended("kv-1-r-1", code, false)];
        planned(1, &volume("1Gi", 2), pods).plan.partitions.remove(0).problem.expect("one is missing")
    };
    let (refused, other) = (problem(77), problem(1));
    assert_eq!((refused.code.as_str(), other.code.as_str()), ("PasswordsDiffer", "ContainerExited"));
    assert!(refused.message.starts_with("kv-1-r-1: "), "{}", refused.message);
}

#[test]
fn what_a_pod_waited_for_once_is_no_cause_while_it_stops() {
    let ended = json!({"terminated": {"exitCode": 79, "message": "PrimaryWithoutData: kv-1-0 has no data"}});
    let status =
        json!({"containerStatuses": [{"name": "valkey", "ready": false, "state": {"running": {}}, "lastState": ended}]});
    let cause = |terminating| {
        let pod = testing::ObservedObject { terminating, ..testing::pod("kv-1-0", &status) };
        planned(1, &volume("1Gi", 0), vec![pod]).plan.partitions.remove(0).problem.map(|problem| problem.code)
    };
    assert_eq!(cause(false).as_deref(), Some("PrimaryWithoutData"));
    assert_eq!(cause(true).as_deref(), Some("MembersNotReady"));
}

#[test]
fn volumes_stay_whatever_edit_of_the_class_follows() {
    let first = planned(2, &volume("1Gi", 1), Vec::new());
    for edited in [volume("2Gi", 1), json!({"replicas": 1})] {
        let again = planned(2, &edited, first.live(plugin()));
        assert!(again.objects == first.objects, "after an edit to {edited}");
        assert_eq!(again.plan.unsupported.len(), 1);
        // On volumes that were kept, servers do not start for the first time, which their ConfigMap records.
        let again = planned(2, &edited, first.claims(plugin()));
        // Nor do they start on volumes that are smaller than what is asked for.
        let is_withheld = |object: &Value| object["kind"] == "StatefulSet" && edited.to_string().contains("2Gi");
        let expected: Vec<_> = first.objects.iter().filter(|(_, object)| !is_withheld(object)).collect();
        for ((id, object), (_, before)) in again.objects.iter().zip(&expected) {
            assert!(object == before || id.starts_with("config-"), "{id} after an edit to {edited}");
        }
        assert_eq!((again.objects.len(), again.plan.unsupported.len()), (expected.len(), 0), "nothing runs that keeps it");
    }
    let more = planned(2, &volume("1Gi", 3), first.live(plugin()));
    assert_eq!((more.plan.unsupported.len(), &more.object("replicas-2")["spec"]["replicas"]), (0, &json!(3)));
}

#[test]
fn names_end_where_kubernetes_ends_them() {
    for length in 40..=47 {
        let name = "n".repeat(length);
        for (partitions, suffix) in [(9, "-9-r"), (10, "-10-r"), (1024, "-1024-r")] {
            let fits = length + suffix.len() <= 52;
            let answer = plugin().plan(request(&name, partitions, &json!({"replicas": 1})));
            assert_eq!(answer.is_ok(), fits, "{length} characters, {partitions} partitions");
            assert!(plugin().plan(request(&name, partitions, &json!({}))).is_ok(), "there is no suffix without replicas");
        }
    }
}

#[test]
fn no_password_stands_in_any_object_and_both_servers_ask_for_it() {
    let plan = planned(1, &json!({"replicas": 1, "password": {"secretName": "s"}}), Vec::new());
    for id in ["primary-1", "replicas-1"] {
        let pod = &plan.object(id)["spec"]["template"]["spec"];
        let secret = pod["volumes"].as_array().into_iter().flatten().find(|volume| volume["name"] == "atomix-password");
        let items = json!([{"key": "password", "path": "password"}]);
        assert_eq!(secret.expect("a volume")["secret"], json!({"secretName": "s", "items": items, "optional": true}));
        for container in [&pod["initContainers"][0], &pod["containers"][0]] {
            assert!(container["env"].is_null() && container["args"].is_null(), "{container}");
        }
    }
    assert!(!plan.object("config-1").to_string().contains("requirepass"));
}
