//! What holds for every plan, whatever the database; single plans stand as cases of their own.

use atomix_sdk::{Value, json, wire};

use super::plugin;

/// A request for the database `raft` of `partitions` partitions, `each` of which share a cluster.
fn request(partitions: u32, each: u32, spec: Value, observed: Vec<wire::ObservedObject>) -> wire::Request {
    wire::Request {
        database: wire::Database {
            namespace: "default".into(),
            name: "raft".into(),
            partitions,
            partitions_per_cluster: each,
            labels: Vec::new(),
            database_label: "raft.default".into(),
        },
        class: wire::Class {
            kind: "RaftStorageClass".into(),
            version: "v1beta1".into(),
            name: "raft".into(),
            spec: spec.to_string(),
        },
        partitions: (1..=partitions)
            .map(|id| wire::Partition { id, cluster: id.div_ceil(each), service_name: format!("raft-{id}") })
            .collect(),
        observed,
        cluster_domain: "cluster.local".into(),
        features: Vec::new(),
    }
}

fn planned(request: wire::Request) -> (Vec<(String, Value)>, wire::StoragePlan) {
    let plan = plugin().plan(request).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    let parse =
        |object: &wire::Object| (object.id.clone(), serde_json::from_str(&object.manifest).expect("a manifest is JSON"));
    (plan.objects.iter().map(parse).collect(), plan)
}

/// What the API server would show of planned objects, as far as the plugin asks for it.
fn live(objects: &[(String, Value)]) -> Vec<wire::ObservedObject> {
    let reads = plugin().describe().emits;
    let mut live: Vec<wire::ObservedObject> = objects
        .iter()
        .map(|(_, manifest)| {
            let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
            let kind = reads.iter().find(|kind| kind.kind == text("/kind")).expect("a kind of the descriptor");
            let field = |pointer: &String| {
                let value = manifest.pointer(pointer)?.to_string();
                Some(wire::ObservedField { pointer: pointer.clone(), value })
            };
            wire::ObservedObject {
                group: kind.group.clone(),
                kind: kind.kind.clone(),
                name: text("/metadata/name"),
                terminating: false,
                fields: kind.reads.iter().filter_map(field).collect(),
            }
        })
        .collect();
    live.sort_by(|a, b| (&a.group, &a.kind, &a.name).cmp(&(&b.group, &b.kind, &b.name)));
    live
}

fn cluster_of(objects: &[(String, Value)], partition: u32) -> Value {
    let id = format!("partition-{partition}");
    let (_, service) = objects.iter().find(|(it, _)| *it == id).expect("each partition has a Service");
    service["spec"]["selector"]["cluster"].clone()
}

#[test]
fn a_growing_database_moves_no_partition_and_touches_no_full_cluster() {
    for each in 1..=5 {
        let mut before = planned(request(1, each, json!({}), Vec::new())).0;
        for partitions in 2..=13 {
            let after = planned(request(partitions, each, json!({}), live(&before))).0;
            for partition in 1..partitions {
                assert_eq!(cluster_of(&before, partition), cluster_of(&after, partition), "partition {partition} moved");
            }
            let full = (partitions - 1) / each;
            for cluster in 1..=full {
                for object in ["config", "peers", "members", "budget"].map(|part| format!("{part}-{cluster}")) {
                    let find = |objects: &[(String, Value)]| objects.iter().find(|(id, _)| *id == object).cloned();
                    assert_eq!(find(&before), find(&after), "{each} a cluster, now {partitions}");
                }
            }
            before = after;
        }
    }
}

#[test]
fn what_runs_is_planned_again_whatever_the_class_says_since() {
    let claim = json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let first = planned(request(3, 2, json!({"replicas": 3, "volumeClaimTemplate": claim}), Vec::new())).0;
    for edited in [json!({}), json!({"replicas": 5, "partitionsPerCluster": 1}), json!({"clusters": 3})] {
        let (objects, plan) = planned(request(3, 2, edited.clone(), live(&first)));
        assert_eq!(objects, first, "after an edit to {edited}");
        assert!(!plan.unsupported.is_empty());
    }
    let unchanged = planned(request(3, 2, json!({"replicas": 3, "volumeClaimTemplate": claim}), live(&first))).1;
    assert_eq!(unchanged.unsupported, []);
}

#[test]
fn an_annotation_that_holds_nonsense_is_passed_over() {
    let first = planned(request(1, 1, json!({"replicas": 3}), Vec::new())).0;
    let mut seen = live(&first);
    for live in seen.iter_mut().filter(|live| live.kind == "StatefulSet") {
        for field in live.fields.iter_mut().filter(|field| field.pointer == crate::POINTER) {
            field.value = json!(r#"{"replicas": 70}"#).to_string();
        }
    }
    assert_eq!(planned(request(1, 1, json!({"replicas": 5}), seen)).0, first); // the ConfigMap remembers too
}

#[test]
fn a_pull_that_fails_again_and_again_is_told_once() {
    let pod = |reason: &str| wire::ObservedObject {
        group: String::new(),
        kind: "Pod".into(),
        name: "raft-1-0".into(),
        terminating: false,
        fields: vec![wire::ObservedField {
            pointer: "/status/containerStatuses".into(),
            value: json!([{"state": {"waiting": {"reason": reason, "message": reason}}}]).to_string(),
        }],
    };
    let states = |reason| planned(request(1, 1, json!({}), vec![pod(reason)])).1.partitions;
    assert_eq!(states("ErrImagePull"), states("ImagePullBackOff"));
    assert_eq!(states("ErrImagePull")[0].problem.as_ref().map(|it| it.code.as_str()), Some("ImagePullBackOff"));
}

#[test]
fn a_quorum_decides() {
    let ready = |name: String| wire::ObservedObject {
        group: String::new(),
        kind: "Pod".into(),
        name,
        terminating: false,
        fields: vec![wire::ObservedField {
            pointer: "/status/conditions".into(),
            value: json!([{"type": "Ready", "status": "True"}]).to_string(),
        }],
    };
    for replicas in 1..=9_u32 {
        for up in 0..=replicas {
            let pods = (0..up).map(|i| ready(format!("raft-1-{i}"))).collect();
            let state = planned(request(1, 1, json!({"replicas": replicas}), pods)).1.partitions.remove(0);
            assert_eq!(state.ready, 2 * up > replicas, "{up} of {replicas}");
            assert_eq!(state.problem.is_none(), up == replicas, "{up} of {replicas}");
        }
    }
}
