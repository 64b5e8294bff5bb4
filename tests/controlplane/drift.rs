//! What others changed or deleted comes back at once, also when it happened while the controller was down; what others add
//! stays.

use harness::audit::table;
use harness::controller::USER;
use harness::fixture::{private_fixture, shared_fixture};
use harness::manifests::Manifests;
use serde_json::json;

fn database() -> Manifests {
    Manifests::raft(json!({"replicas": 3})).database("db", 1)
}

#[tokio::test]
async fn an_edited_field_and_a_deleted_object_come_back() {
    let ns = shared_fixture().await.namespace("drift").await;
    ns.create_ready(&database()).await;
    ns.kubectl(["scale", "statefulset/db-1", "--replicas=1"]).await;
    ns.until("statefulset/db-1", "three replicas again", |found| found.iter().any(|set| set["spec"]["replicas"] == 3)).await;
    for object in ["service/db-1", "service/db-1-hs", "configmap/db-1", "poddisruptionbudget/db-1", "partition/db-1"] {
        let uid = ns.one(object).await["metadata"]["uid"].clone();
        ns.kubectl(["delete", object]).await;
        ns.until(object, &format!("{object} is made again"), |found| found.iter().any(|it| it["metadata"]["uid"] != uid))
            .await;
    }
    let patch = r#"[{"op": "remove", "path": "/spec/selector/cluster"}]"#;
    ns.kubectl(["patch", "service/db-1", "--type=json", "-p", patch]).await;
    ns.until("service/db-1", "the selector is whole again", |found| {
        found.iter().any(|it| it["spec"]["selector"]["cluster"] == "1")
    })
    .await;
    let patch = r#"{"metadata":{"labels":{"database":null}}}"#;
    ns.kubectl(["patch", "configmap/db-1", "--type=merge", "-p", patch]).await;
    ns.until("configmap/db-1", "the label that names its database is back", |found| {
        found.iter().any(|it| it["metadata"]["labels"]["database"] == "db.drift")
    })
    .await;
    ns.wait("database/db", "Ready").await;
}

#[tokio::test]
async fn what_others_add_stays_and_costs_no_request() {
    let fixture = shared_fixture().await;
    let ns = fixture.namespace("additions").await;
    ns.create_ready(&database()).await;
    ns.settled().await;
    let mark = fixture.mark().await;
    ns.kubectl(["annotate", "statefulset/db-1", "service/db-1", "example.com/note=hello"]).await;
    ns.kubectl(["label", "configmap/db-1", "example.com/team=blue"]).await;
    ns.kubectl(["annotate", "database/db", "example.com/seen=yes"]).await;
    // Something that does need a write, after which the rest must have been seen too.
    ns.kubectl(["delete", "service/db-1-hs"]).await;
    ns.wait_created("service/db-1-hs").await;
    let requests = fixture.requests_since(mark).await;
    let ours: Vec<_> = requests.iter().filter(|r| r.user == USER && r.namespace == "additions" && r.writes()).collect();
    assert_eq!(ours.len(), 1, "{}", table(&requests));
    assert_eq!(ns.one("statefulset/db-1").await["metadata"]["annotations"]["example.com/note"], json!("hello"));
}

#[tokio::test]
async fn drift_and_deletion_while_the_controller_was_down_are_made_good() {
    let fixture = private_fixture("down").await;
    fixture.install("raft").await.unwrap();
    let ns = fixture.namespace("down").await;
    ns.create_ready(&database().database("gone", 1)).await;
    fixture.controller.kill().await.unwrap();
    ns.kubectl(["scale", "statefulset/db-1", "--replicas=2"]).await;
    ns.kubectl(["delete", "service/db-1"]).await;
    ns.kubectl(["delete", "database/gone"]).await;
    ns.wait_gone("statefulset/gone-1").await; // Kubernetes' own garbage collection
    ns.wait_gone("partition/gone-1").await;
    ns.wait_gone("service/gone-1").await;
    fixture.controller.start().await.unwrap();
    ns.wait_created("service/db-1").await;
    ns.until("statefulset/db-1", "three replicas again", |found| found.iter().any(|set| set["spec"]["replicas"] == 3)).await;
    ns.wait("database/db", "Ready").await;
    assert!(ns.get("partitions").await.iter().all(|partition| partition["metadata"]["labels"]["database"] == "db"));
}
