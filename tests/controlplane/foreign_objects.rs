//! What belongs to another owner is reported and never touched.

use harness::conditions::{condition, has};
use harness::controller::USER;
use harness::fixture::{private_fixture, shared_fixture};
use harness::manifests::Manifests;
use serde_json::{Value, json};

fn class() -> Manifests {
    Manifests::raft(json!({"replicas": 1}))
}

fn database() -> Manifests {
    Manifests::on("RaftStorageClass", "raft").database("db", 1)
}

const FOREIGN: &str = r"
apiVersion: v1
kind: Service
metadata: {name: db-1, labels: {mine: 'yes'}}
spec: {ports: [{port: 80}], selector: {app: mine}}
";

#[tokio::test]
async fn a_foreign_object_of_the_same_name_is_reported_and_left_and_when_it_goes_things_go_on() {
    let ns = shared_fixture().await.namespace("foreign").await;
    ns.create(FOREIGN).await;
    let before = ns.one("service/db-1").await;
    ns.create(class()).await;
    ns.create(database()).await;
    let database = ns
        .until("database/db", "the name that is taken is reported", |found| {
            found.iter().any(|db| has(db, "Degraded", "True", "NameTaken"))
        })
        .await;
    let message = condition(&database[0], "Degraded")["message"].as_str().unwrap().to_owned();
    assert!(message.contains("Service db-1"), "{message}");
    ns.wait_created("statefulset/db-1").await;
    assert_eq!(ns.one("service/db-1").await, before, "not one field was touched");
    ns.until("statefulset/db-1", "its member is ready", |found| found.iter().any(|it| it["status"]["readyReplicas"] == 1))
        .await;
    let unreachable = |it: &Value| has(it, "Ready", "False", "NotFound") && has(it, "Reconciling", "True", "NotFound");
    let partition =
        ns.until("partition/db-1", "nobody reaches it by that Service", |found| found.iter().any(unreachable)).await;
    assert_ne!(partition[0]["status"]["ready"], json!(true), "{partition:?}");
    let message = condition(&partition[0], "Ready")["message"].as_str().unwrap().to_owned();
    assert!(message.contains("Service db-1"), "{message}");
    assert_eq!(ns.one("database/db").await["status"]["readyPartitions"], json!(0));

    ns.kubectl(["delete", "service/db-1"]).await;
    ns.until("service/db-1", "it is ours now", |found| {
        found.iter().any(|it| it["metadata"]["labels"]["database"] == "db.foreign")
    })
    .await;
    ns.wait("database/db", "Ready").await;
    ns.until("database/db", "nothing is wrong any more", |found| found.iter().any(|db| has(db, "Degraded", "False", "")))
        .await;
}

#[tokio::test]
async fn a_name_that_is_taken_stays_so_while_the_plan_changes() {
    let fixture = private_fixture("taken").await;
    fixture.install("etcd").await.unwrap();
    let ns = fixture.namespace("taken").await;
    ns.create(FOREIGN).await;
    let claim = json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let spec = json!({"replicas": 1, "volumeClaimTemplate": claim});
    ns.create(Manifests::class("EtcdStorageClass", "etcd", spec).database("db", 1)).await;
    ns.until("database/db", "the name that is taken is reported", |found| {
        found.iter().any(|db| has(db, "Degraded", "True", "NameTaken"))
    })
    .await;
    // What the ConfigMap says is another thing once the member was ready.
    ns.until("configmap/db-1", "the cluster is formed", |found| {
        found.iter().any(|it| it["data"]["initial-cluster-state"] == "existing")
    })
    .await;
    ns.settled().await;
    assert!(
        has(&ns.one("database/db").await, "Degraded", "True", "NameTaken"),
        "{:#}",
        ns.one("database/db").await["status"]
    );
    let told: Vec<Value> =
        ns.get("events").await.into_iter().filter(|it| it["involvedObject"]["kind"] == "Database").collect();
    assert!(told.iter().all(|it| !["Recovered", "Ready", "Invalid"].contains(&it["reason"].as_str().unwrap())), "{told:#?}");
    ns.kubectl(["delete", "service/db-1"]).await;
    ns.wait("database/db", "Ready").await;
}

#[tokio::test]
async fn a_partition_of_another_owner_is_looked_up_reported_and_left() {
    let fixture = shared_fixture().await;
    let ns = fixture.namespace("foreign-partition").await;
    ns.create("{apiVersion: cloud.atomix.io/v1beta3, kind: Partition, metadata: {name: db-1}, spec: {partitionId: 7, serviceName: mine}}")
        .await;
    let before = ns.one("partition/db-1").await;
    ns.create(class()).await;
    let mark = fixture.mark().await;
    ns.create(database()).await;
    let database = ns
        .until("database/db", "the name that is taken is reported", |found| {
            found.iter().any(|db| has(db, "Degraded", "True", "NameTaken"))
        })
        .await;
    let message = condition(&database[0], "Degraded")["message"].as_str().unwrap().to_owned();
    assert!(message.contains("Partition db-1"), "{message}");
    assert_eq!(ns.one("partition/db-1").await, before, "not one field was touched");
    let requests = fixture.requests_since(mark).await;
    let looked: Vec<_> = requests
        .iter()
        .filter(|it| it.user == USER && it.namespace == ns.name && it.resource == "partitions" && it.verb == "get")
        .collect();
    assert!(!looked.is_empty() && looked.iter().all(|it| it.code == 200), "{looked:?}");
    ns.kubectl(["delete", "partition/db-1"]).await;
    ns.wait("database/db", "Ready").await;
}

#[tokio::test]
async fn no_pod_mounts_what_belongs_to_another_owner_under_a_name_of_the_plan() {
    let ns = shared_fixture().await.namespace("mounting").await;
    ns.create("{apiVersion: v1, kind: ConfigMap, metadata: {name: db-1}, data: {secret: theirs}}").await;
    ns.create(class()).await;
    ns.create(database()).await;
    ns.until("database/db", "the name that is taken is reported", |found| {
        found.iter().any(|db| has(db, "Degraded", "True", "NameTaken"))
    })
    .await;
    ns.wait_created("service/db-1").await;
    assert_eq!(ns.get("statefulset").await.len(), 0, "its pods would read the ConfigMap of another owner");
    ns.kubectl(["delete", "configmap/db-1"]).await;
    ns.wait("database/db", "Ready").await;
}

#[tokio::test]
async fn a_foreign_object_that_poses_as_ours_is_not_adopted_either() {
    let ns = shared_fixture().await.namespace("posing").await;
    ns.create(class()).await;
    ns.create(&FOREIGN.replace("mine: 'yes'", "app: atomix, database: db.posing")).await;
    let before = ns.one("service/db-1").await;
    ns.create(database()).await;
    ns.until("database/db", "the name that is taken is reported", |found| {
        found.iter().any(|db| has(db, "Degraded", "True", "NameTaken"))
    })
    .await;
    assert_eq!(ns.one("service/db-1").await, before);
    ns.kubectl(["delete", "database/db", "--cascade=foreground"]).await;
    assert_eq!(ns.one("service/db-1").await, before, "it is not removed with the database");
}

#[tokio::test]
async fn a_database_made_again_waits_for_the_objects_of_the_one_before() {
    let ns = shared_fixture().await.namespace("again").await;
    ns.create(class()).await;
    ns.create_ready(&database()).await;
    let first = ns.one("database/db").await["metadata"]["uid"].clone();
    let hold = r#"{"metadata":{"finalizers":["example.com/hold"]}}"#;
    ns.kubectl(["patch", "service/db-1", "--type=merge", "-p", hold]).await;
    ns.kubectl(["delete", "database/db"]).await;
    ns.create(database()).await;
    let second = ns.one("database/db").await["metadata"]["uid"].clone();
    assert_ne!(first, second);
    let owner = |object: &Value| object["metadata"]["ownerReferences"][0]["uid"].clone();
    ns.until("service/db-1", "the old Service is on its way out", |found| {
        found.iter().any(|it| !it["metadata"]["deletionTimestamp"].is_null())
    })
    .await;
    ns.until("database/db", "what is in the way is named", |found| {
        found.iter().any(|db| has(db, "Degraded", "True", "NameTaken") || has(db, "Accepted", "False", "Terminating"))
    })
    .await;
    assert_eq!(owner(&ns.one("service/db-1").await), first, "the old one was not adopted");
    ns.kubectl(["patch", "service/db-1", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]).await;
    ns.until("service/db-1", "the new database's own Service", |found| found.iter().any(|it| owner(it) == second)).await;
    ns.wait("database/db", "Ready").await;
    for kind in ["statefulsets", "configmaps", "partitions"] {
        let ours = ns.get(kind).await.into_iter().filter(|it| it["metadata"]["name"] == "db-1");
        assert!(ours.into_iter().all(|it| owner(&it) == json!(second)), "{kind}");
    }
}

#[tokio::test]
async fn databases_in_the_controllers_own_namespace_are_refused() {
    let fixture = shared_fixture().await;
    let admin = fixture.kubectl().namespace("kube-system");
    admin
        .run_with(["create", "-f", "-"], &Manifests::on("RaftStorageClass", "raft").database("misplaced", 1).to_string())
        .await
        .unwrap();
    let ns = fixture.namespace("misplaced").await;
    ns.eventually("it is refused", || async {
        let phase = admin.run(["get", "database/misplaced", "-o", "jsonpath={.status.phase}"]).await?;
        Ok(if phase == "NamespaceRefused" {
            harness::eventually::Eventually::Now(())
        } else {
            harness::eventually::Eventually::NotYet(phase)
        })
    })
    .await;
    admin.run(["delete", "database/misplaced"]).await.unwrap();
}
