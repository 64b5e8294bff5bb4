//! Members lost and back: quorum kept, quorum lost, recovered, all seen in conditions.

use harness::conditions::{condition, has};
use harness::fixture::shared_fixture;
use harness::manifests::Manifests;
use serde_json::{Value, json};

fn two_clusters(class: Value) -> Manifests {
    Manifests::raft(class).database("db", json!({"partitions": 2, "partitionsPerCluster": 1}))
}

#[tokio::test]
async fn a_lost_member_degrades_a_lost_quorum_is_not_ready_and_both_recover() {
    let ns = shared_fixture().await.namespace("members").await;
    ns.create_ready(&two_clusters(json!({"replicas": 3}))).await;
    ns.set_pod_ready("db-1-0", false).await;
    let database = ns
        .until("database/db", "a member is missing, the quorum holds", |found| {
            found.iter().any(|db| has(db, "Degraded", "True", "MembersNotReady") && has(db, "Ready", "True", "Ready"))
        })
        .await;
    assert_eq!(database[0]["status"]["phase"], "Degraded");
    assert!(condition(&database[0], "Degraded")["message"].as_str().unwrap().contains("2 of 3"));
    ns.wait("partition/db-1", "Degraded").await;
    ns.wait("partition/db-1", "Ready").await;
    ns.wait("partition/db-2", "Degraded=False").await;

    ns.set_pod_ready("db-1-1", false).await;
    let database = ns
        .until("database/db", "the quorum is lost", |found| {
            found.iter().any(|db| has(db, "Ready", "False", "PartitionsNotReady") && has(db, "Degraded", "True", ""))
        })
        .await;
    assert_eq!(database[0]["status"]["ready"], "1/2");
    ns.until("partition/db-1", "the partition does not answer", |found| {
        found.iter().any(|it| it["status"]["ready"] == false)
    })
    .await;

    ns.set_pod_ready("db-1-0", true).await;
    ns.set_pod_ready("db-1-1", true).await;
    ns.until("database/db", "all are back", |found| {
        found
            .iter()
            .any(|db| has(db, "Ready", "True", "") && has(db, "Degraded", "False", "") && db["status"]["phase"] == "Ready")
    })
    .await;
    let events = ns.kubectl(["events", "--for=database/db", "-o", "json"]).await;
    let events: Value = serde_json::from_str(&events).unwrap();
    let reasons: Vec<_> =
        events["items"].as_array().unwrap().iter().map(|event| event["reason"].as_str().unwrap()).collect();
    for reason in ["Ready", "MembersNotReady", "NotReady", "Recovered"] {
        assert!(reasons.contains(&reason), "no event {reason}: {reasons:?}");
    }
}

#[tokio::test]
async fn deleted_pods_come_back_and_the_database_is_ready_again() {
    let ns = shared_fixture().await.namespace("pods").await;
    ns.create_ready(&two_clusters(json!({"replicas": 3}))).await;
    ns.kubectl(["delete", "pod", "--all", "--wait=false"]).await;
    ns.until("pods", "six new pods", |pods| {
        pods.len() == 6
            && pods.iter().all(|pod| pod["metadata"]["deletionTimestamp"].is_null() && has(pod, "Ready", "True", ""))
    })
    .await;
    ns.until("database/db", "ready, and nothing missing", |found| {
        found.iter().any(|db| has(db, "Ready", "True", "") && has(db, "Degraded", "False", ""))
    })
    .await;
}

#[tokio::test]
async fn the_reason_why_a_member_is_not_ready_reaches_partition_and_database() {
    let ns = shared_fixture().await.namespace("reasons").await;
    let resources = json!({"requests": {"storage": "1Gi"}});
    let claim = json!({"storageClassName": "nowhere", "accessModes": ["ReadWriteOnce"], "resources": resources});
    ns.create(two_clusters(json!({"replicas": 1, "volumeClaimTemplate": {"spec": claim}}))).await;
    let names_the_claim = |object: &Value| {
        has(object, "Degraded", "True", "") && condition(object, "Ready")["message"].as_str().unwrap().contains("db-1-0")
    };
    let partition =
        ns.until("partition/db-1", "it names the claim that is pending", |found| found.iter().any(names_the_claim)).await;
    let database = ns.until("database/db", "and so does the database", |found| found.iter().any(names_the_claim)).await;
    for object in [&partition[0], &database[0]] {
        let message = condition(object, "Ready")["message"].as_str().unwrap().to_lowercase();
        assert!(message.contains("claim") || message.contains("schedul"), "{message}");
    }
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_is_named_by_partition_and_database() {
    let ns = shared_fixture().await.namespace("image").await;
    ns.create_ready(&two_clusters(json!({"replicas": 1}))).await;
    // The status that a kubelet sets on such a pod; the nodes here pull nothing.
    let waiting = r#"{"status": {"conditions": [{"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "False"}],
        "containerStatuses": [{"name": "raft", "ready": false, "restartCount": 0, "image": "gone", "imageID": "",
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"gone\""}}}]}}"#;
    ns.kubectl(["patch", "pod/db-1-0", "--subresource=status", "--type=merge", "-p", waiting]).await;
    let named = |object: &Value| {
        let message = condition(object, "Degraded")["message"].as_str().unwrap_or_default();
        has(object, "Degraded", "True", "ImagePullBackOff")
            && message.contains("db-1-0")
            && has(object, "Ready", "False", "")
    };
    for object in ["partition/db-1", "database/db"] {
        ns.until(object, "it names what is wrong with the image", |found| found.iter().any(named)).await;
    }
}
