//! What belongs to somebody else is reported and never touched.

use harness::world::world;
use serde_json::{Value, json};

use super::example::{condition, has};

const CLASS: &str = r"
apiVersion: storage.cloud.atomix.io/v1beta1
kind: RaftStorageClass
metadata: {name: raft}
spec: {replicas: 1}
";

const DATABASE: &str = r"
apiVersion: cloud.atomix.io/v1beta3
kind: Database
metadata: {name: db}
spec:
  partitions: 1
  storageClass: {kind: RaftStorageClass, name: raft}
";

const FOREIGN: &str = r"
apiVersion: v1
kind: Service
metadata: {name: db-1, labels: {mine: 'yes'}}
spec: {ports: [{port: 80}], selector: {app: mine}}
";

#[tokio::test]
async fn a_foreign_object_of_the_same_name_is_reported_and_left_and_when_it_goes_things_go_on() {
    let ns = world().await.namespace("foreign").await;
    ns.create(FOREIGN).await;
    let before = ns.one("service/db-1").await;
    ns.create(CLASS).await;
    ns.create(DATABASE).await;
    let database = ns
        .until("database/db", "the name that is taken is reported", |found| {
            found.iter().any(|db| has(db, "Degraded", "True", "NameTaken"))
        })
        .await;
    let message = condition(&database[0], "Degraded")["message"].as_str().unwrap().to_owned();
    assert!(message.contains("Service db-1"), "{message}");
    ns.wait_created("statefulset/db-1").await;
    assert_eq!(ns.one("service/db-1").await, before, "not one field was touched");

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
async fn a_foreign_object_that_poses_as_ours_is_not_adopted_either() {
    let ns = world().await.namespace("posing").await;
    ns.create(CLASS).await;
    ns.create(&FOREIGN.replace("mine: 'yes'", "app: atomix, database: db.posing")).await;
    let before = ns.one("service/db-1").await;
    ns.create(DATABASE).await;
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
    let ns = world().await.namespace("again").await;
    ns.create(CLASS).await;
    ns.create(DATABASE).await;
    ns.wait("database/db", "Ready").await;
    let first = ns.one("database/db").await["metadata"]["uid"].clone();
    let hold = r#"{"metadata":{"finalizers":["example.com/hold"]}}"#;
    ns.kubectl(["patch", "service/db-1", "--type=merge", "-p", hold]).await;
    ns.kubectl(["delete", "database/db"]).await;
    ns.create(DATABASE).await;
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
    let world = world().await;
    let admin = world.kubectl().namespace("kube-system");
    admin.run_with(["create", "-f", "-"], &DATABASE.replace("name: db}", "name: misplaced}")).await.unwrap();
    let ns = world.namespace("misplaced").await;
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
