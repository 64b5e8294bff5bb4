//! What holds for every plan, whatever the database; single plans stand as cases of their own.

use atomix_sdk::testing::{self, Planned, pod, ready};
use atomix_sdk::{Value, json, wire};

use super::plugin;

/// A request for the database `raft` of `partitions` partitions, `each` of which share a cluster.
fn request(partitions: u32, each: u32, spec: Value, observed: Vec<wire::ObservedObject>) -> wire::Request {
    wire::Request { observed, ..testing::request("RaftStorageClass", "raft", [partitions, each], &spec) }
}

fn planned(request: wire::Request) -> Planned {
    testing::planned(&plugin(), request)
}

fn cluster_of(plan: &Planned, partition: u32) -> Value {
    plan.object(&format!("partition-{partition}"))["spec"]["selector"]["cluster"].clone()
}

#[test]
fn a_growing_database_moves_no_partition_and_touches_no_full_cluster() {
    for each in 1..=5 {
        let mut before = planned(request(1, each, json!({}), Vec::new()));
        for partitions in 2..=13 {
            let after = planned(request(partitions, each, json!({}), before.live(plugin())));
            for partition in 1..partitions {
                assert_eq!(cluster_of(&before, partition), cluster_of(&after, partition), "partition {partition} moved");
            }
            let full = (partitions - 1) / each;
            for cluster in 1..=full {
                for object in ["config", "peers", "members", "budget"].map(|part| format!("{part}-{cluster}")) {
                    assert_eq!(before.object(&object), after.object(&object), "{each} a cluster, now {partitions}");
                }
            }
            before = after;
        }
    }
}

#[test]
fn what_runs_is_planned_again_whatever_the_class_says_since() {
    let claim = json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let started = json!({"replicas": 3, "volumeClaimTemplate": claim});
    let first = planned(request(3, 2, started.clone(), Vec::new()));
    let faster = json!({"replicas": 3, "volumeClaimTemplate": claim, "storageClassName": "fast"});
    for edited in [json!({}), json!({"replicas": 5, "partitionsPerCluster": 1}), json!({"clusters": 3}), faster] {
        for seen in [first.live(plugin()), first.claims(plugin())] {
            let again = planned(request(3, 2, edited.clone(), seen));
            assert_eq!(again.objects, first.objects, "after an edit to {edited}");
            assert!(!again.plan.unsupported.is_empty());
        }
    }
    let unchanged = planned(request(3, 2, started, first.live(plugin()))).plan;
    assert_eq!(unchanged.unsupported, []);
}

#[test]
fn an_annotation_that_holds_nonsense_is_passed_over() {
    let first = planned(request(1, 1, json!({"replicas": 3}), Vec::new()));
    let mut seen = first.live(plugin());
    for live in seen.iter_mut().filter(|live| live.kind == "StatefulSet") {
        for field in live.fields.iter_mut().filter(|field| field.pointer == crate::POINTER) {
            field.value = json!(r#"{"replicas": 70}"#).to_string();
        }
    }
    // The ConfigMap remembers too.
    assert_eq!(planned(request(1, 1, json!({"replicas": 5}), seen)).objects, first.objects);
}

#[test]
fn a_pull_that_fails_again_and_again_is_told_once() {
    let states = |reason: &str| {
        let status = json!({"containerStatuses": [{"state": {"waiting": {"reason": reason, "message": reason}}}]});
        planned(request(1, 1, json!({}), vec![pod("raft-1-0", &status)])).plan.partitions
    };
    assert_eq!(states("ErrImagePull"), states("ImagePullBackOff"));
    assert_eq!(states("ErrImagePull")[0].problem.as_ref().map(|it| it.code.as_str()), Some("ImagePullBackOff"));
}

#[test]
fn a_quorum_decides() {
    for replicas in 1..=9_u32 {
        for up in 0..=replicas {
            let pods = (0..up).map(|at| ready(&format!("raft-1-{at}"))).collect();
            let state = planned(request(1, 1, json!({"replicas": replicas}), pods)).plan.partitions.remove(0);
            assert_eq!(state.ready, 2 * up > replicas, "{up} of {replicas}");
            assert_eq!(state.problem.is_none(), up == replicas, "{up} of {replicas}");
        }
    }
}
