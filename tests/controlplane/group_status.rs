//! Groups of the old gRPC API in a cluster: what the status of a Database records of its class as a group.

use harness::audit::{Request, table};
use harness::controller::USER;
use harness::fixture::shared_fixture;
use harness::manifests::Manifests;
use serde_json::{Value, json};

const RAFT: &str = "atomix.raft.config.ProtocolConfig";

fn databases() -> Manifests {
    let raft = Manifests::raft(json!({"replicas": 1, "electionTimeout": "2s", "snapshotThreshold": 300}));
    let on_raft = raft.database("db", json!({"partitions": 2, "partitionsPerCluster": 1}));
    on_raft.and(Manifests::cache().database("memory", 1))
}

fn group(size: u32, message: &str, base64: &str) -> Value {
    json!({"partitionSize": size, "protocol": {"typeUrl": format!("type.googleapis.com/{message}"), "value": base64}})
}

#[tokio::test]
async fn a_status_records_what_its_class_means_as_a_group_and_follows_an_edit() {
    let fixture = shared_fixture().await;
    let ns = fixture.namespace("groups").await;
    ns.create_ready(&databases()).await;
    let database = ns.one("database/db").await;
    assert_eq!(database["status"]["group"], group(1, RAFT, "CgIIAiCsAg=="), "0a 02 08 02, 20 ac 02");
    let older = ns.one("database.v1beta2.cloud.atomix.io/db").await;
    assert_eq!(older["status"]["group"], database["status"]["group"]);
    let cache = ns.one("database/memory").await;
    assert_eq!(cache["status"]["group"], group(1, "atomix.cache.config.ProtocolConfig", ""));
    let config = ns.one("configmap/db-2").await;
    assert_eq!(config["data"]["protocol.json"], r#"{"electionTimeout":"2s","snapshotThreshold":"300"}"#);
    let set = ns.one("statefulset/db-2").await;
    ns.settled().await;

    let mark = fixture.mark().await;
    let patch = r#"{"spec":{"snapshotThreshold":500,"electionTimeout":null}}"#;
    ns.kubectl(["patch", "raftstorageclass/raft", "--type=merge", "-p", patch]).await;
    ns.until("database/db", "the group follows the class", |found| {
        found.iter().any(|db| db["status"]["group"] == group(1, RAFT, "IPQD"))
    })
    .await;
    ns.until("configmap/db-2", "so do the nodes' files", |found| {
        found.iter().any(|map| map["data"]["protocol.json"] == r#"{"snapshotThreshold":"500"}"#)
    })
    .await;
    ns.until("statefulset/db-2", "and the nodes, which read them when they start", |found| {
        found.iter().any(|now| now["spec"]["template"] != set["spec"]["template"])
    })
    .await;
    ns.wait("database/db", "Ready").await;
    ns.settled().await;
    let requests = fixture.requests_since(mark).await;
    let ours = |r: &&Request| r.user == USER && r.namespace == "groups" && r.writes();
    let reads = requests.iter().filter(|r| r.user == USER && r.verb == "get" && r.namespace == "groups");
    assert_eq!(reads.count(), 0, "it takes no request: {}", table(&requests));
    assert!(
        requests.iter().filter(ours).all(|r| !r.name.starts_with("memory")),
        "the other database is left alone: {}",
        table(&requests)
    );
}
