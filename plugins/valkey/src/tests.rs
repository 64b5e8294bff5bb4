//! What holds for every plan, whatever the database; single plans stand as cases of their own.

use atomix_sdk::testing::{self, Planned, ready};
use atomix_sdk::{Value, json, wire};

use super::plugin;

fn request(name: &str, partitions: u32, spec: &Value) -> wire::Request {
    testing::request("ValkeyStorageClass", name, [partitions, partitions], spec)
}

fn planned(partitions: u32, spec: &Value, observed: Vec<wire::ObservedObject>) -> Planned {
    testing::planned(&plugin(), wire::Request { observed, ..request("kv", partitions, spec) })
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

#[test]
fn volumes_stay_whatever_the_class_says_since() {
    let first = planned(2, &volume("1Gi", 1), Vec::new());
    for edited in [volume("2Gi", 1), json!({"replicas": 1})] {
        for seen in [first.live(plugin()), first.claims(plugin())] {
            let again = planned(2, &edited, seen);
            assert_eq!(again.objects, first.objects, "after an edit to {edited}");
            assert_eq!(again.plan.unsupported.len(), 1);
        }
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
        let container = &plan.object(id)["spec"]["template"]["spec"]["containers"][0];
        let start = container["command"][2].as_str().expect("a script");
        assert!(start.ends_with(r#"--requirepass "$REDISCLI_AUTH" --masterauth "$REDISCLI_AUTH""#), "{start}");
        let secret = json!({"name": "s", "key": "password"});
        assert_eq!(container["env"], json!([{"name": "REDISCLI_AUTH", "valueFrom": {"secretKeyRef": secret}}]));
    }
    assert!(!plan.object("config-1").to_string().contains("pass"));
}
