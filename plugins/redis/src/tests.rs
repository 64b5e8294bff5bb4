//! What holds for the plans of all databases; single plans are cases in `tests/golden`.

use atomix_sdk::testing::{self, Planned, ready};
use atomix_sdk::{Value, json};

use super::plugin;

fn planned(partitions: [u32; 2], spec: &Value, observed: Vec<testing::ObservedObject>) -> Planned {
    let request = testing::request("RedisStorageClass", "redis", partitions, spec);
    testing::planned(&plugin(), testing::Request { observed, ..request })
}

/// A pod of the proxy of cluster 1, which is ready.
fn proxy() -> testing::ObservedObject {
    ready("redis-1-proxy-5f6d8-x7k2p")
}

#[test]
fn a_growing_database_moves_no_partition_and_leaves_every_cluster_as_it_is() {
    for each in 1..=4 {
        let mut before = planned([1, each], &json!({}), Vec::new());
        for partitions in 2..=9 {
            let after = planned([partitions, each], &json!({}), before.live(plugin()));
            for (id, object) in &before.objects {
                assert_eq!(after.object(id), object, "{each} a cluster, now {partitions}");
            }
            before = after;
        }
    }
}

#[test]
fn no_selector_takes_pods_of_another() {
    let plan = planned([2, 1], &json!({"backend": {"replicas": 3}}), Vec::new());
    let pods = ["servers-1", "proxy-1", "servers-2", "proxy-2"].map(|id| &plan.object(id)["spec"]);
    for (at, one) in pods.iter().enumerate() {
        for (other, labels) in pods.iter().map(|spec| &spec["template"]["metadata"]["labels"]).enumerate() {
            let selector = one["selector"]["matchLabels"].as_object().expect("a selector");
            let takes = selector.iter().all(|(key, value)| labels[key] == *value);
            assert_eq!(takes, at == other, "{selector:?} and {labels}");
        }
    }
    assert_eq!(plan.object("partition-2")["spec"]["selector"], plan.object("proxy-2")["spec"]["selector"]["matchLabels"]);
}

#[test]
fn more_servers_restart_none() {
    let template = |replicas: u32| {
        let plan = planned([1, 1], &json!({"backend": {"replicas": replicas}}), Vec::new());
        plan.object("servers-1")["spec"]["template"].clone()
    };
    assert_eq!(template(1), template(9));
}

#[test]
fn the_first_server_and_the_proxy_decide() {
    for (up, is_ready, whole) in [
        (vec![], false, false),
        (vec![ready("redis-1-0"), ready("redis-1-1")], false, false),
        (vec![proxy(), ready("redis-1-1")], false, false),
        (vec![proxy(), ready("redis-1-0")], true, false),
        (vec![proxy(), ready("redis-1-0"), ready("redis-1-1")], true, true),
    ] {
        let mut up = up;
        up.sort_by(|a, b| a.name.cmp(&b.name));
        let state = planned([1, 1], &json!({"backend": {"replicas": 2}}), up).plan.partitions.remove(0);
        assert_eq!((state.ready, state.problem.is_none()), (is_ready, whole), "{state:?}");
    }
}

#[test]
fn what_runs_is_planned_again_whatever_edit_of_the_class_follows() {
    let volume = |size: &str| json!({"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}}});
    let first = planned([4, 2], &volume("1Gi"), Vec::new());
    for (partitions, spec) in [([4, 2], volume("2Gi")), ([4, 2], json!({})), ([4, 1], volume("1Gi"))] {
        let again = planned(partitions, &spec, first.live(plugin()));
        assert!(again.objects == first.objects);
        assert_eq!(again.plan.unsupported.len(), 1);
        // On volumes that were kept, servers do not start for the first time, which their ConfigMap records.
        let again = planned(partitions, &spec, first.claims(plugin()));
        // Nor do they start on volumes that are smaller than what is asked for.
        let is_withheld = |object: &Value| object["kind"] == "StatefulSet" && spec.to_string().contains("2Gi");
        let expected: Vec<_> = first.objects.iter().filter(|(_, object)| !is_withheld(object)).collect();
        for ((id, object), (_, before)) in again.objects.iter().zip(&expected) {
            assert!(object == before || id.starts_with("config-"), "{id}");
        }
        let kept = usize::from(partitions == [4, 1]); // where partitions are stays, though nothing runs
        assert_eq!((again.objects.len(), again.plan.unsupported.len()), (expected.len(), kept));
    }
}
