//! Partitions come and go; those that exist stay where they are, and data stays when they go.

use harness::controller::USER;
use harness::world::world;
use serde_json::{Value, json};

const WITH_VOLUMES: &str = r"
apiVersion: storage.cloud.atomix.io/v1beta1
kind: RaftStorageClass
metadata: {name: raft}
spec:
  replicas: 1
  partitionsPerCluster: 2
  volumeClaimTemplate:
    metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: cloud.atomix.io/v1beta3
kind: Database
metadata: {name: db}
spec:
  partitions: 2
  storageClass: {kind: RaftStorageClass, name: raft}
";

fn uids(objects: &[Value]) -> Vec<(String, String)> {
    let text = |object: &Value, field: &str| object["metadata"][field].as_str().unwrap().to_owned();
    objects.iter().map(|object| (text(object, "name"), text(object, "uid"))).collect()
}

#[tokio::test]
async fn growing_adds_clusters_and_touches_none_that_exist_and_shrinking_keeps_volumes() {
    let ns = world().await.namespace("scale").await;
    ns.create(WITH_VOLUMES).await;
    ns.wait("database/db", "Ready").await;
    let before = (uids(&ns.get("pods").await), ns.one("statefulset/db-1").await["metadata"]["generation"].clone());

    ns.kubectl(["scale", "database/db", "--replicas=4"]).await;
    ns.until("database/db", "four partitions are ready", |found| {
        found
            .iter()
            .any(|db| db["status"]["ready"] == "4/4" && db["status"]["clusters"] == 2 && db["status"]["phase"] == "Ready")
    })
    .await;
    let pods = uids(&ns.get("pods").await);
    assert!(before.0.iter().all(|pod| pods.contains(pod)), "no pod was restarted: {before:?}, {pods:?}");
    assert_eq!(ns.one("statefulset/db-1").await["metadata"]["generation"], before.1, "the first cluster was not touched");
    assert_eq!(pods.len(), 2);
    let claims = uids(&ns.get("persistentvolumeclaims").await);
    assert_eq!(claims.len(), 2);

    ns.kubectl(["scale", "database/db", "--replicas=2"]).await;
    ns.wait_gone("statefulset/db-2").await;
    ns.wait_gone("partition/db-3").await;
    ns.wait_gone("service/db-4").await;
    ns.until("database/db", "two partitions are left", |found| found.iter().any(|db| db["status"]["ready"] == "2/2")).await;
    assert_eq!(uids(&ns.get("persistentvolumeclaims").await), claims, "volumes stay");
    assert_eq!(uids(&ns.get("pods").await), before.0, "the first partitions live on in their cluster");
    let owners: Vec<_> =
        ns.get("persistentvolumeclaims").await.iter().map(|claim| claim["metadata"]["ownerReferences"].clone()).collect();
    assert!(owners.iter().all(Value::is_null), "{owners:?}");
}

#[tokio::test]
async fn a_scale_takes_no_more_requests_than_objects_ask_for() {
    let world = world().await;
    let mark = world.mark().await;
    let ns = world.namespace("scale-requests").await;
    ns.create(
        &WITH_VOLUMES.replace("partitions: 2\n  storageClass", "partitions: 10\n  partitionsPerCluster: 1\n  storageClass"),
    )
    .await;
    ns.wait("database/db", "Ready").await;
    let created = ["partitions", "statefulsets", "services", "poddisruptionbudgets"];
    let mut objects = ns.get("configmaps").await.len() - 1;
    for kind in created {
        objects += ns.get(kind).await.len();
    }
    assert!(objects >= 50, "{objects} objects");
    let requests = world.requests_since(mark).await;
    let ours = requests.iter().filter(|r| r.user == USER && r.namespace == "scale-requests" && r.verb != "watch").count();
    let limit = objects * 14 / 10 + 6;
    assert!(ours <= limit, "{ours} requests for {objects} objects; at most {limit}");
    println!("{ours} requests until Ready for {objects} objects");
}

#[tokio::test]
async fn a_change_of_replicas_is_not_taken_and_everything_else_goes_on() {
    let ns = world().await.namespace("replicas").await;
    ns.create(WITH_VOLUMES).await;
    ns.wait("database/db", "Ready").await;
    ns.kubectl([
        "patch",
        "raftstorageclass/raft",
        "--type=merge",
        "-p",
        r#"{"spec":{"replicas":3,"image":"atomix/raft-storage-node:v0.5.4"}}"#,
    ])
    .await;
    ns.until("statefulset/db-1", "the image is taken", |found| {
        found
            .iter()
            .any(|set| set["spec"]["template"]["spec"]["containers"][0]["image"] == "atomix/raft-storage-node:v0.5.4")
    })
    .await;
    let database = ns
        .until("database/db", "the condition names what was not taken", |found| {
            found.iter().any(|db| super::example::has(db, "Accepted", "False", "ChangeNotTaken"))
        })
        .await;
    let message = super::example::condition(&database[0], "Accepted")["message"].clone();
    assert!(message.as_str().unwrap().contains("replicas"), "{message}");
    assert_eq!(ns.one("statefulset/db-1").await["spec"]["replicas"], 1);
    ns.kubectl(["delete", "service/db-1"]).await;
    ns.wait_created("service/db-1").await;
    ns.kubectl([
        "patch",
        "raftstorageclass/raft",
        "--type=merge",
        "-p",
        r#"{"spec":{"volumeClaimTemplate":{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}}}"#,
    ])
    .await;
    ns.until("database/db", "the volume's size was not taken either", |found| {
        found.iter().any(|db| {
            super::example::condition(db, "Accepted")["message"].as_str().unwrap_or_default().contains("volumeClaimTemplate")
        })
    })
    .await;
    assert_eq!(
        ns.one("statefulset/db-1").await["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"],
        json!({"storage": "1Gi"})
    );
    ns.wait("database/db", "Ready").await;
}
