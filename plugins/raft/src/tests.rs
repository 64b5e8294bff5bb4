//! What holds for the plans of all databases; single plans are cases in `tests/golden`.

use atomix_sdk::testing::{self, Planned, pod, ready};
use atomix_sdk::{Remembered, Value, json};

use super::plugin;

/// A request for the database `raft` of `partitions` partitions, `each` of which share a cluster.
fn request(partitions: u32, each: u32, spec: Value, observed: Vec<testing::ObservedObject>) -> testing::Request {
    testing::Request { observed, ..testing::request("RaftStorageClass", "raft", [partitions, each], &spec) }
}

fn planned(request: testing::Request) -> Planned {
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
fn what_runs_is_planned_again_whatever_edit_of_the_class_follows() {
    let claim = json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let started = json!({"replicas": 3, "volumeClaimTemplate": claim});
    let first = planned(request(3, 2, started.clone(), Vec::new()));
    let faster = json!({"replicas": 3, "volumeClaimTemplate": claim, "storageClassName": "fast"});
    for edited in [json!({}), json!({"replicas": 5, "partitionsPerCluster": 1}), json!({"clusters": 3}), faster] {
        for seen in [first.live(plugin()), first.claims(plugin())] {
            let is_started = seen.iter().any(|live| live.kind == "StatefulSet");
            let again = planned(request(3, 2, edited.clone(), seen));
            assert_eq!(again.objects, first.objects, "after an edit to {edited}");
            // Before it is started, volumes keep nothing that an edit could not change.
            let of_volumes = edited.get("storageClassName").is_some();
            assert_eq!(again.plan.unsupported.is_empty(), of_volumes && !is_started, "after an edit to {edited}");
        }
    }
    let unchanged = planned(request(3, 2, started, first.live(plugin()))).plan;
    assert_eq!(unchanged.unsupported, []);
}

#[test]
fn an_older_image_is_not_taken_once_all_members_wrote_to_their_volumes_with_a_newer_one() {
    let claim = json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let image = |tag: &str| format!("atomix/raft-storage-node:{tag}");
    let spec = |tag: &str| json!({"replicas": 3, "image": image(tag), "volumeClaimTemplate": claim});
    let pods = |tag: &str, up: usize| {
        let running = |at: usize| {
            let mut pod = if at < up { ready(&format!("raft-1-{at}")) } else { pod(&format!("raft-1-{at}"), &json!({})) };
            let value = json!(image(tag)).to_string();
            pod.fields.push(testing::ObservedField { pointer: crate::version::IMAGE_OF_POD.into(), value });
            pod
        };
        (0..3).map(running).collect::<Vec<_>>()
    };
    let plan = |tag: &str, before: &Planned, pods: Vec<testing::ObservedObject>| {
        let seen = before.live(plugin()).into_iter().chain(pods).collect();
        planned(request(1, 1, spec(tag), seen))
    };
    let runs = |plan: &Planned| plan.object("members-1")["spec"]["template"]["spec"]["containers"][0]["image"].clone();
    let fresh = planned(request(1, 1, spec("v0.5.3"), Vec::new()));
    let mixed = pods("v0.5.3", 3).into_iter().take(2).chain(pods("v0.4.0", 3).into_iter().skip(2)).collect();
    assert_eq!(runs(&plan("v0.4.0", &fresh, mixed)), json!(image("v0.4.0")), "one is still of the version before");
    let whole = plan("v0.5.3", &fresh, pods("v0.5.3", 3));
    assert_eq!(whole.object("config-1"), fresh.object("config-1"), "nothing is written for members that are ready");
    for older in ["v0.1.0", "v0.4.9"] {
        let first = plan(older, &whole, pods("v0.5.3", 2));
        for there in [pods("v0.5.3", 3), pods("v0.5.3", 1), Vec::new()] {
            let refused = plan(older, &first, there);
            assert_eq!(runs(&refused), json!(image("v0.5.3")));
            assert_eq!(refused.object("config-1")["data"], whole.object("config-1")["data"], "in the form that nodes read");
            let field: Vec<_> = refused.plan.unsupported.iter().map(|it| it.field.as_str()).collect();
            assert_eq!(field, ["spec.image"]);
        }
    }
    // Nor by way of another image, that never became ready.
    let between = plan("v0.5.2", &whole, pods("v0.5.3", 3));
    let then = plan("v0.4.9", &between, Vec::new());
    assert_eq!((runs(&between), then.plan.unsupported.len()), (json!(image("v0.5.2")), 1));
    for taken in ["v0.5.1", "v0.6.0", "v1.0.0", "latest"] {
        let plan = plan(taken, &whole, pods("v0.5.3", 3));
        assert_eq!((runs(&plan), plan.plan.unsupported.len()), (json!(image(taken)), 0));
    }
    // One that never ran is corrected; without volumes nothing is left to read.
    let broken = plan("v9.9.9", &whole, pods("v0.5.3", 3));
    assert_eq!(runs(&plan("v0.5.3", &broken, pods("v0.5.3", 2))), json!(image("v0.5.3")));
    let bare = |tag: &str| json!({"replicas": 3, "image": image(tag)});
    let first = planned(request(1, 1, bare("v0.5.3"), Vec::new()));
    let seen = first.live(plugin()).into_iter().chain(pods("v0.5.3", 3)).collect();
    assert_eq!(runs(&planned(request(1, 1, bare("v0.4.0"), seen))), json!(image("v0.4.0")));
}

#[test]
fn an_annotation_that_holds_nonsense_is_passed_over() {
    let first = planned(request(1, 1, json!({"replicas": 3}), Vec::new()));
    let mut seen = first.live(plugin());
    for live in seen.iter_mut().filter(|live| live.kind == "StatefulSet") {
        for field in live.fields.iter_mut().filter(|field| field.pointer == crate::Started::POINTER) {
            field.value = json!(r#"{"replicas": 70}"#).to_string();
        }
    }
    // The ConfigMap remembers too.
    assert_eq!(planned(request(1, 1, json!({"replicas": 5}), seen)).objects, first.objects);
}

#[test]
fn a_pull_that_fails_again_and_again_is_reported_once() {
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
