//! Classes: edits reach the right databases and only those; kinds that no plugin serves; a hundred databases at once.

use harness::audit::table;
use harness::conditions::{condition, has};
use harness::controller::{Options, USER};
use harness::fixture::{private_fixture_with, shared_fixture};
use serde_json::{Value, json};

fn class(name: &str) -> String {
    format!(
        "apiVersion: storage.cloud.atomix.io/v1beta1\nkind: RaftStorageClass\nmetadata: {{name: {name}}}\nspec: {{replicas: 1}}\n---\n"
    )
}

fn database(name: &str, kind: &str, class: &str) -> String {
    format!(
        "apiVersion: cloud.atomix.io/v1beta3\nkind: Database\nmetadata: {{name: {name}}}\nspec:\n  partitions: 1\n  storageClass: {{kind: {kind}, name: {class}}}\n---\n"
    )
}

#[tokio::test]
async fn an_edited_class_reaches_its_databases_and_only_those() {
    let fixture = shared_fixture().await;
    let ns = fixture.namespace("edit").await;
    let both =
        [class("one"), class("two"), database("a", "RaftStorageClass", "one"), database("b", "RaftStorageClass", "two")]
            .concat();
    ns.create(&both).await;
    ns.wait("database/a", "Ready").await;
    ns.wait("database/b", "Ready").await;
    ns.settled().await;
    let mark = fixture.mark().await;
    let patch = r#"{"spec":{"image":"atomix/raft-storage-node:v0.5.4"}}"#;
    ns.kubectl(["patch", "raftstorageclass/one", "--type=merge", "-p", patch]).await;
    let image =
        |set: &serde_json::Value| set["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned();
    ns.until("statefulset/a-1", "the image is the new one", |found| found.iter().any(|set| image(set).ends_with("v0.5.4")))
        .await;
    ns.until("database/a", "it settles", |found| found.iter().any(|db| db["status"]["plan"]["classGeneration"] == 2)).await;
    assert!(image(&ns.one("statefulset/b-1").await).ends_with("v0.5.3"));
    let requests = fixture.requests_since(mark).await;
    let writes: Vec<_> = requests.iter().filter(|r| r.user == USER && r.namespace == "edit" && r.writes()).collect();
    assert!(writes.iter().all(|r| !r.name.starts_with('b')), "{}", table(&requests));
    let sets = writes.iter().filter(|r| r.resource == "statefulsets").count();
    assert_eq!(sets, 1, "only what differs is written: {}", table(&requests));
}

#[tokio::test]
async fn a_kind_that_no_plugin_serves_is_answered_with_those_that_exist_and_mended_by_an_edit() {
    let ns = shared_fixture().await.namespace("wrong-kind").await;
    ns.create(&[class("raft"), database("db", "RaftStorage", "raft")].concat()).await;
    ns.until("database/db", "all kinds are named", |found| {
        let named = |db: &serde_json::Value| {
            let message = condition(db, "Ready")["message"].as_str().unwrap_or_default();
            ["kind RaftStorage;", "RaftStorageClass", "CacheStorageClass"].iter().all(|word| message.contains(word))
        };
        found.iter().any(|db| has(db, "Ready", "False", "NoPlugin") && named(db))
    })
    .await;
    assert!(ns.get("statefulsets").await.is_empty());
    ns.kubectl(["patch", "database/db", "--type=merge", "-p", r#"{"spec":{"storageClass":{"kind":"RaftStorageClass"}}}"#])
        .await;
    ns.wait("database/db", "Ready").await;
}

#[tokio::test]
async fn the_class_first_found_stays_the_one() {
    let fixture = shared_fixture().await;
    let ns = fixture.namespace("sticky").await;
    let elsewhere = fixture.namespace("sticky-elsewhere").await;
    ns.create(&class("raft")).await;
    ns.create(
        &database("db", "RaftStorageClass", "raft").replace("name: raft}", "name: raft, namespace: sticky-elsewhere}"),
    )
    .await;
    ns.wait("database/db", "Ready").await;
    ns.settled().await;
    let mark = fixture.mark().await;
    elsewhere.create(&class("raft").replace("replicas: 1", "replicas: 3")).await;
    // A write that must come after the new class was seen.
    ns.kubectl(["delete", "service/db-1"]).await;
    ns.wait_created("service/db-1").await;
    let database = ns.one("database/db").await;
    assert_eq!(database["status"]["storageClass"]["namespace"], "sticky");
    let requests = fixture.requests_since(mark).await;
    let writes = requests.iter().filter(|r| r.user == USER && r.namespace == "sticky" && r.writes()).count();
    assert_eq!(writes, 1, "{}", table(&requests));
}

#[tokio::test]
async fn two_plugins_two_classes_and_a_hundred_databases_at_once() {
    let ns = shared_fixture().await.namespace("hundred").await;
    let caches =
        "apiVersion: storage.cloud.atomix.io/v1beta1\nkind: CacheStorageClass\nmetadata: {name: cache}\nspec: {}\n---\n";
    let databases = (0..100).map(|i| {
        let (kind, class) = if i % 2 == 0 { ("RaftStorageClass", "raft") } else { ("CacheStorageClass", "cache") };
        database(&format!("db-{i}"), kind, class)
    });
    ns.create(&[class("raft"), caches.to_owned()].into_iter().chain(databases).collect::<String>()).await;
    ns.until("databases", "a hundred databases are ready", |found| {
        found.len() == 100 && found.iter().all(|db| has(db, "Ready", "True", ""))
    })
    .await;
    assert_eq!(ns.get("partitions").await.len(), 100);
    ns.kubectl(["delete", "databases", "--all"]).await;
    ns.until("partitions,statefulsets,services", "all that was theirs is gone", |found| found.is_empty()).await;
}

#[tokio::test]
async fn a_label_on_a_database_reaches_its_objects_and_restarts_nothing() {
    let ns = shared_fixture().await.namespace("labels").await;
    let labelled = database("db", "RaftStorageClass", "raft").replace("{name: db}", "{name: db, labels: {team: blue}}");
    ns.create(&[class("raft"), labelled].concat()).await;
    ns.wait("database/db", "Ready").await;
    let before = (ns.one("pod/db-1-0").await, ns.one("statefulset/db-1").await);
    assert_eq!(before.0["metadata"]["labels"]["team"], "blue", "pods have the labels that the database started with");
    ns.kubectl(["label", "database/db", "team=red", "--overwrite"]).await;
    for object in ["statefulset/db-1", "service/db-1", "configmap/db-1", "partition/db-1"] {
        ns.until(object, "it has the new label", |found| found.iter().any(|it| it["metadata"]["labels"]["team"] == "red"))
            .await;
    }
    let after = (ns.one("pod/db-1-0").await, ns.one("statefulset/db-1").await);
    assert_eq!(after.0["metadata"]["uid"], before.0["metadata"]["uid"]);
    assert_eq!(after.1["metadata"]["generation"], before.1["metadata"]["generation"]);
    let database = ns.one("database/db").await;
    assert!(has(&database, "Accepted", "True", "") && has(&database, "Ready", "True", ""), "{database}");
}

#[tokio::test]
async fn a_controller_bound_to_one_namespace_serves_that_and_no_other() {
    let env = [("CONTROLLER_SCOPE", "namespace"), ("POD_NAMESPACE", "inside")];
    let env = env.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    let fixture = private_fixture_with("scope", Options { env, ..Options::default() }).await;
    fixture.install("raft").await.unwrap();
    let (inside, outside) = (fixture.namespace("inside").await, fixture.namespace("outside").await);
    for ns in [&outside, &inside] {
        ns.create(&[class("raft"), database("db", "RaftStorageClass", "raft")].concat()).await;
    }
    inside.wait("database/db", "Ready").await;
    let status = outside.one("database/db").await["status"].clone();
    assert_eq!(
        (&status["observedGeneration"], &status["phase"]),
        (&json!(-1), &Value::Null),
        "no controller has written it"
    );
    assert!(outside.get("partitions").await.is_empty());
}

/// A cache whose pods leave user and groups to the platform.
fn of_the_platform(name: &str, unset: &str) -> String {
    format!(
        "apiVersion: storage.cloud.atomix.io/v1beta1\nkind: CacheStorageClass\nmetadata: {{name: {name}}}\nspec:\n  image: c\n  {unset}\n---\n"
    )
}

#[tokio::test]
async fn what_is_left_to_the_platform_can_be_set_in_every_way_of_applying() {
    let fixture = shared_fixture().await;
    let ns = fixture.namespace("platform").await;
    let unset = "securityContextUnset: [runAsUser, runAsGroup, fsGroup]";
    let kubectl = fixture.kubectl().namespace(&ns.name);
    ns.create(&of_the_platform("replaced", "securityContext: {}")).await;
    for (name, way) in [
        ("created", &["create", "-f", "-"][..]),
        ("applied", &["apply", "-f", "-"]),
        ("server", &["apply", "--server-side", "-f", "-"]),
        ("replaced", &["replace", "-f", "-"]),
    ] {
        ns.must(kubectl.run_with(way.iter().copied(), &of_the_platform(name, unset)).await).await;
        ns.create(&database(name, "CacheStorageClass", name)).await;
        let set = format!("statefulset/{name}-1");
        ns.wait_created(&set).await;
        let context = ns.one(&set).await["spec"]["template"]["spec"]["securityContext"].clone();
        let expected = serde_json::json!({
            "runAsNonRoot": true, "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"}
        });
        assert_eq!(context, expected, "{name}");
    }
    let refused = ns.refused(&of_the_platform("wrong", "securityContextUnset: [privileged]")).await;
    assert!(refused.contains("securityContextUnset[0]") && refused.contains("runAsUser"), "{refused}");
}

#[tokio::test]
async fn a_claim_of_another_kind_is_named_and_not_taken_up_until_it_is_gone() {
    let ns = shared_fixture().await.namespace("claims").await;
    let claim = |name: &str, cluster: usize, kind: &str| {
        serde_json::json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {
            "name": name,
            "labels": {"app": "atomix", "database": "x.claims", "cluster": cluster.to_string()},
            "annotations": {"storage.cloud.atomix.io/class-kind": kind},
        }, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})
        .to_string()
    };
    let volumes = "volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1024Mi}}}}";
    let class = class("x").replace("replicas: 1", &format!("replicas: 1, partitionsPerCluster: 1, {volumes}"));
    ns.create(&claim("data-x-1-0", 1, "OtherStorageClass")).await;
    ns.create(&claim("data-x-2-0", 2, "RaftStorageClass")).await;
    ns.create(&[class, database("x", "RaftStorageClass", "x").replace("partitions: 1", "partitions: 2")].concat()).await;
    ns.until("database/x", "the claim is named", |found| {
        found.iter().any(|db| {
            let text = db["status"]["conditions"].to_string();
            text.contains("ClaimOfAnother") && text.contains("claim data-x-1-0 holds data of kind OtherStorageClass")
        })
    })
    .await;
    ns.wait_created("statefulset/x-2").await;
    ns.settled().await;
    assert_eq!(ns.get("statefulsets").await.len(), 1, "the other partition goes on");
    ns.kubectl(["delete", "pvc", "data-x-1-0", "--wait=false"]).await;
    ns.wait("database/x", "Ready").await;
    let set = ns.one("statefulset/x-1").await;
    let marks = &set["spec"]["volumeClaimTemplates"][0]["metadata"]["annotations"];
    assert_eq!(marks["storage.cloud.atomix.io/class-kind"], "RaftStorageClass");
    ns.settled().await;
    assert_eq!(ns.one("database/x").await["status"]["plan"]["classGeneration"], 1);
}
