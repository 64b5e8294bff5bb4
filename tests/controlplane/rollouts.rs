//! Rollouts as `kubectl wait` sees them: from an edit until its last member runs it.

use std::sync::{Arc, Mutex};

use futures::TryStreamExt;
use harness::conditions::{condition, has};
use harness::fixture::shared_fixture;
use harness::manifests::Manifests;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};

fn database() -> Manifests {
    Manifests::raft(json!({"replicas": 3})).database("db", json!({"partitions": 2, "partitionsPerCluster": 1}))
}

#[tokio::test]
async fn a_rollout_is_seen_in_every_status_from_the_edit_until_its_last_member_is_back() {
    let ns = shared_fixture().await.namespace("rollouts").await;
    ns.create_ready(&database()).await;
    ns.settled().await;
    let statuses = Arc::new(Mutex::new(Vec::new()));
    let (recorded, databases) = (statuses.clone(), ns.api("cloud.atomix.io", "v1beta3", "Database", "databases"));
    let listener = tokio::spawn(async move {
        let mut changes = std::pin::pin!(watcher(databases, watcher::Config::default()).default_backoff().applied_objects());
        while let Ok(Some(database)) = changes.try_next().await {
            recorded.lock().unwrap().push(database.data["status"].clone());
        }
    });

    // As documented: first the generation, then the end of its rollout.
    let edit = r#"{"spec":{"image":"atomix/raft-storage-node:v0.5.4"}}"#;
    ns.kubectl(["patch", "raftstorageclass/raft", "--type=merge", "--patch", edit]).await;
    let generation = ns.kubectl(["get", "raftstorageclass/raft", "-o=jsonpath={.metadata.generation}"]).await;
    let seen = format!("--for=jsonpath={{.status.storageClass.generation}}={}", generation.trim());
    ns.kubectl(["wait", &seen, "database/db", "--timeout=60s"]).await;
    ns.kubectl(["wait", "--for=condition=Progressing=false", "database/db", "--timeout=60s"]).await;
    let pods = ns.get("pods").await;
    let image = |pod: &Value| pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default().to_owned();
    let done = pods.iter().filter(|pod| image(pod).ends_with("v0.5.4") && has(pod, "Ready", "True", "")).count();
    assert_eq!((done, pods.len()), (6, 6), "kubectl waited for all of them");
    let database = ns.one("database/db").await;
    assert!(has(&database, "Ready", "True", "") && has(&database, "Degraded", "False", ""), "{}", database["status"]);
    assert!(database["status"]["progress"].is_null(), "{}", database["status"]);

    listener.abort();
    let statuses = statuses.lock().unwrap().clone();
    let of = |status: &Value, type_: &str| condition(&json!({"status": status}), type_).clone();
    let messages: Vec<String> =
        statuses.iter().map(|status| of(status, "Progressing")["message"].as_str().unwrap_or_default().to_owned()).collect();
    assert!(messages.iter().any(|message| message.ends_with("of 6 members run the new revision")), "{messages:?}");
    assert!(statuses.iter().all(|status| of(status, "Degraded")["status"] == "False"), "planned restarts: {statuses:#?}");
    let events = ns.get("events").await;
    let count = |reason: &str| {
        events.iter().filter(|it| it["reason"] == reason && it["involvedObject"]["kind"] == "Database").count()
    };
    assert_eq!((count("RolloutStarted"), count("RolledOut")), (1, 1));
    let warnings: Vec<_> =
        events.iter().filter(|it| it["type"] == "Warning" && it["involvedObject"]["kind"] == "Database").collect();
    assert!(warnings.is_empty(), "{warnings:?}");

    // An edit that no member has to restart for is over at once, and its conditions have its generation.
    let edit = r#"{"metadata":{"labels":{"a":"b"}},"spec":{"partitionsPerCluster":1}}"#;
    ns.kubectl(["patch", "raftstorageclass/raft", "--type=merge", "--patch", edit]).await;
    let generation = ns.one("raftstorageclass/raft").await["metadata"]["generation"].clone();
    ns.until("database/db", "the next generation is seen", |found| {
        found
            .iter()
            .any(|it| it["status"]["storageClass"]["generation"] == generation && has(it, "Progressing", "False", ""))
    })
    .await;
}

#[tokio::test]
async fn an_edit_takes_no_member_down_while_another_is_coming_back() {
    let ns = shared_fixture().await.namespace("waiting").await;
    ns.create_ready(&database()).await;
    ns.settled().await;
    let uids = |pods: &[Value]| -> Vec<Value> { pods.iter().map(|pod| pod["metadata"]["uid"].clone()).collect() };
    ns.set_pod_ready("db-1-0", false).await;
    ns.until("partition/db-1", "a member is away", |found| found.iter().any(|it| has(it, "Degraded", "True", ""))).await;
    let before = uids(&ns.get("pods").await);

    let edit = r#"{"spec":{"image":"atomix/raft-storage-node:v0.5.4"}}"#;
    ns.kubectl(["patch", "raftstorageclass/raft", "--type=merge", "--patch", edit]).await;
    ns.until("database/db", "the rollout waits, and says so", |found| {
        let message = found.first().and_then(|db| condition(db, "Progressing")["message"].as_str());
        message.is_some_and(|message| message.contains("db-1 waits for members that are coming back, until "))
    })
    .await;
    ns.until("pods", "the cluster without a loss is rolled out meanwhile", |pods| {
        let second = |pod: &&Value| pod["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("db-2-"));
        pods.iter().filter(second).filter(|pod| !before.contains(&pod["metadata"]["uid"])).count() == 3
    })
    .await;
    let pods = ns.get("pods").await;
    assert_eq!(uids(&pods[..3]), before[..3], "no member of the other restarts");
    let set = ns.one("statefulset/db-1").await;
    assert_eq!(set["spec"]["updateStrategy"]["rollingUpdate"]["partition"], 3);
    assert!(has(&ns.one("database/db").await, "Accepted", "True", ""), "the edit is taken");

    ns.set_pod_ready("db-1-0", true).await;
    ns.until("pods", "it is back, and all run the edit", |pods| {
        let is_new = |pod: &Value| !before.contains(&pod["metadata"]["uid"]) && has(pod, "Ready", "True", "");
        pods.len() == 6 && pods.iter().all(is_new)
    })
    .await;
    ns.until("database/db", "the rollout is over", |found| found.iter().any(|db| has(db, "Progressing", "False", ""))).await;
    let set = ns.one("statefulset/db-1").await;
    assert!(set["metadata"]["annotations"]["cloud.atomix.io/waits-until"].is_null(), "{set}");
    assert_eq!(set["spec"]["updateStrategy"]["rollingUpdate"]["partition"].as_i64().unwrap_or(0), 0, "{set}");
}
