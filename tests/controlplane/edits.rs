//! An edit of what runs is taken whole or not at all, what only is spelled otherwise is no edit, and a rollout that waits for members
//! which cannot start goes on without a person.

use std::collections::BTreeMap;

use harness::conditions::{condition, has};
use harness::controller::USER;
use harness::eventually::Eventually;
use harness::fixture::{Namespace, private_fixture, shared_fixture};
use harness::manifests::Manifests;
use serde_json::{Value, json};

const OLD: &str = "databases.v1beta2.cloud.atomix.io";

const CLASSES: &str = r"
apiVersion: storage.cloud.atomix.io/v1beta1
kind: RaftStorageClass
metadata: {name: raft}
spec: {replicas: 3, resources: {limits: {cpu: 1000m, memory: 1e8}}}
---
apiVersion: storage.cloud.atomix.io/v1beta1
kind: RaftStorageClass
metadata: {name: other}
spec: {replicas: 1}
---
apiVersion: storage.cloud.atomix.io/v1beta1
kind: CacheStorageClass
metadata: {name: raft}
spec: {}
";

fn database() -> Manifests {
    Manifests::on("RaftStorageClass", "raft").database("db", json!({"partitions": 2, "partitionsPerCluster": 1}))
}

const CHILDREN: &str = "partitions,statefulsets,deployments,services,configmaps,poddisruptionbudgets,pods";

/// What differs between two looks at the namespace.
pub fn assert_same(now: &BTreeMap<String, Value>, before: &BTreeMap<String, Value>) {
    let all: std::collections::BTreeSet<_> = now.keys().chain(before.keys()).collect();
    for key in all {
        assert_eq!(now.get(key), before.get(key), "{key}");
    }
}

/// What stands in the namespace beside the database: specs, data and owners by kind and name, and each pod by its UID.
pub async fn children(ns: &Namespace<'_>) -> BTreeMap<String, Value> {
    let all = ns.get(CHILDREN).await;
    let key = |object: &Value| format!("{} {}", object["kind"], object["metadata"]["name"]);
    let kept = |object: &Value| {
        let fields = ["spec", "data"].map(|field| object[field].clone());
        json!([object["metadata"]["uid"], object["metadata"]["annotations"]["cloud.atomix.io/hash"], fields])
    };
    all.iter().map(|object| (key(object), kept(object))).collect()
}

#[tokio::test]
async fn the_reference_of_a_running_database_is_fixed_in_both_versions_and_its_spellings_are_free() {
    let ns = shared_fixture().await.namespace("reference").await;
    ns.create(CLASSES).await;
    ns.create_ready(&database()).await;
    ns.settled().await;
    let before = children(&ns).await;
    let patch = |object: String, spec: Value| {
        let ns = &ns;
        async move { ns.kubectl(["patch", &object, "--type=merge", "-p", &json!({"spec": spec}).to_string()]).await }
    };
    let refused = [
        json!({"kind": "CacheStorageClass"}),
        json!({"name": "other"}),
        json!({"namespace": "kube-system"}),
        json!({"group": "example.com"}),
        json!({"version": "v1beta3"}),
    ];
    for reference in &refused {
        for (object, spec) in [
            ("database/db".to_owned(), json!({"partitions": 1, "storageClass": reference})),
            (format!("{OLD}/db"), json!({"clusters": 1, "template": {"spec": {"storage": reference}}})),
        ] {
            let body = json!({"spec": spec}).to_string();
            let refusal = ns.kubectl_fails(["patch", &object, "--type=merge", "-p", &body]).await;
            let sentence = "cannot be changed while the database runs on RaftStorageClass raft";
            assert!(refusal.contains(sentence), "{object} {body}: {refusal}");
        }
    }
    // The same class in other words, and how partitions share clusters.
    for reference in [
        json!({"namespace": "reference"}),
        json!({"namespace": ""}),
        json!({"namespace": null}),
        json!({"version": "v1beta1"}),
        json!({"version": null}),
        json!({"group": ""}),
    ] {
        patch("database/db".to_owned(), json!({"storageClass": reference})).await;
        patch(format!("{OLD}/db"), json!({"template": {"spec": {"storage": reference}}})).await;
    }
    let refusal =
        ns.kubectl_fails(["patch", "database/db", "--type=merge", "-p", r#"{"spec":{"partitionsPerCluster":2}}"#]).await;
    assert!(refusal.contains("cannot be changed once it is decided"), "{refusal}");
    patch("database/db".to_owned(), json!({"partitionsPerCluster": null})).await;
    patch("database/db".to_owned(), json!({"partitionsPerCluster": 1})).await;
    ns.until("database/db", "the spellings are accepted", |found| {
        found
            .iter()
            .any(|db| has(db, "Accepted", "True", "") && db["status"]["observedGeneration"] == db["metadata"]["generation"])
    })
    .await;
    ns.settled().await;
    assert_same(&children(&ns).await, &before);
}

#[tokio::test]
async fn a_database_that_never_ran_may_be_corrected() {
    let ns = shared_fixture().await.namespace("corrected").await;
    ns.create(CLASSES).await;
    let spec = json!({"partitions": 2, "partitionsPerCluster": 1, "storageClass": {"namespace": "nowhere"}});
    ns.create(Manifests::on("RaftStorage", "raaft").database("db", spec)).await;
    ns.until("database/db", "there is no such kind", |found| {
        found.iter().any(|db| has(db, "Accepted", "False", "NoPlugin"))
    })
    .await;
    let patch = r#"{"spec": {"partitionsPerCluster": 2, "storageClass": {"kind": "RaftStorageClass"}}}"#;
    ns.kubectl(["patch", "database/db", "--type=merge", "-p", patch]).await;
    ns.until("database/db", "there is no such class", |found| {
        found.iter().any(|db| has(db, "Accepted", "False", "ClassNotFound"))
    })
    .await;
    let patch = r#"{"spec": {"template": {"spec": {"storage": {"name": "raft", "namespace": null}}}}}"#;
    ns.kubectl(["patch", &format!("{OLD}/db"), "--type=merge", "-p", patch]).await;
    ns.wait("database/db", "Ready").await;
}

#[tokio::test]
async fn where_the_api_let_the_reference_be_changed_no_part_of_the_edit_is_taken() {
    let fixture = private_fixture("let-through").await;
    fixture.install("raft").await.unwrap();
    fixture.install("cache").await.unwrap();
    let ns = fixture.namespace("let-through").await;
    ns.create(CLASSES).await;
    ns.create_ready(&database()).await;
    // A definition without our rules, as an earlier version had it.
    let mut definition: Value =
        serde_json::from_str(&ns.kubectl(["get", "crd/databases.cloud.atomix.io", "-o", "json"]).await).unwrap();
    for version in definition["spec"]["versions"].as_array_mut().unwrap() {
        version["schema"]["openAPIV3Schema"].as_object_mut().unwrap().remove("x-kubernetes-validations");
    }
    fixture.kubectl().run_with(["replace", "-f", "-"], &definition.to_string()).await.unwrap();
    let edit = json!({"spec": {"partitionsPerCluster": 2}}).to_string();
    ns.eventually("the webhook refuses it where the definition does not", || async {
        let refusal = ns.kubectl_fails(["patch", "database/db", "--type=merge", "-p", &edit]).await;
        Ok(Eventually::when(refusal.contains("spec.partitionsPerCluster: stays 1, not 2: partitions do not move"), || {
            refusal
        }))
    })
    .await;
    fixture.kubectl().run(["delete", "validatingwebhookconfiguration/atomix-controller"]).await.unwrap();
    for reference in [json!({"name": "other"}), json!({"kind": "CacheStorageClass", "name": "raft"})] {
        let edit = json!({"spec": {"partitions": 1, "partitionsPerCluster": 2, "storageClass": reference}}).to_string();
        ns.settled().await;
        let before = children(&ns).await;
        ns.eventually("the API server has no rules and asks nobody", || async {
            let done =
                fixture.kubectl().namespace(&ns.name).run(["patch", "database/db", "--type=merge", "-p", &edit]).await;
            Ok(Eventually::when(done.is_ok(), || format!("{done:?}")))
        })
        .await;
        let database = ns
            .until("database/db", "the edit is not taken, and what runs is ready", |found| {
                found.iter().any(|db| {
                    has(db, "Accepted", "False", "ChangeNotTaken")
                        && has(db, "Ready", "True", "")
                        && condition(db, "Ready")["observedGeneration"] == db["metadata"]["generation"]
                })
            })
            .await;
        let message = condition(&database[0], "Accepted")["message"].as_str().unwrap().to_owned();
        assert!(message.contains("spec.storageClass stays RaftStorageClass let-through/raft instead of"), "{message}");
        assert!(message.contains("spec.partitionsPerCluster stays 1 instead of 2"), "{message}");
        ns.settled().await;
        assert_same(&children(&ns).await, &before);
        // What runs is repaired all the same.
        ns.kubectl(["delete", "service/db-2"]).await;
        ns.wait_created("service/db-2").await;
        ns.kubectl(["scale", "statefulset/db-2", "--replicas=1"]).await;
        ns.until("statefulset/db-2", "three replicas again", |found| found.iter().any(|set| set["spec"]["replicas"] == 3))
            .await;
        let back = json!({"spec": {"partitions": 2, "partitionsPerCluster": 1,
            "storageClass": {"kind": "RaftStorageClass", "name": "raft"}}});
        ns.kubectl(["patch", "database/db", "--type=merge", "-p", &back.to_string()]).await;
        ns.until("database/db", "the edit is taken back", |found| found.iter().any(|db| has(db, "Accepted", "True", "")))
            .await;
        ns.until("pods", "all six pods", |pods| pods.len() == 6).await;
        ns.settled().await;
        let now = children(&ns).await;
        assert_eq!(now.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn an_edit_that_the_api_refuses_of_one_object_changes_none() {
    let ns = shared_fixture().await.namespace("refusal").await;
    ns.create(CLASSES).await;
    ns.create_ready(&database()).await;
    ns.settled().await;
    let before = children(&ns).await;
    // The configuration would be written before the set, whose pods may not ask for more than their limit.
    let edit = r#"{"spec": {"electionTimeout": "9s", "resources": {"requests": {"cpu": "2"}}}}"#;
    ns.kubectl(["patch", "raftstorageclass/raft", "--type=merge", "-p", edit]).await;
    let refused = |db: &Value| {
        let message = condition(db, "Accepted")["message"].as_str().unwrap_or_default();
        has(db, "Accepted", "False", "Invalid")
            && message.contains("StatefulSet db-1")
            && message.contains("must be less than or equal to cpu limit")
            && message.contains("nothing of the change is applied")
    };
    ns.until("database/db", "the refusal is reported", |found| found.iter().any(refused)).await;
    ns.settled().await;
    assert_same(&children(&ns).await, &before);
    let database = ns.one("database/db").await;
    assert!(has(&database, "Ready", "True", ""), "{database}");
    // What runs is repaired meanwhile as it was, and scaled.
    ns.kubectl(["delete", "service/db-1", "configmap/db-1"]).await;
    ns.wait_created("service/db-1").await;
    ns.wait_created("configmap/db-1").await;
    assert!(!ns.one("configmap/db-1").await["data"].to_string().contains("9s"));
    ns.kubectl(["scale", "statefulset/db-2", "--replicas=1"]).await;
    ns.until("statefulset/db-2", "three replicas again", |found| found.iter().any(|set| set["spec"]["replicas"] == 3)).await;
    ns.until("database/db", "the refusal is still reported", |found| found.iter().any(refused)).await;
    ns.kubectl([
        "patch",
        "raftstorageclass/raft",
        "--type=merge",
        "-p",
        r#"{"spec": {"resources": {"requests": {"cpu": "1"}}}}"#,
    ])
    .await;
    ns.until("configmap/db-1", "what can be is applied", |found| {
        found.iter().any(|map| map["data"].to_string().contains("9s"))
    })
    .await;
    ns.until("database/db", "and accepted", |found| found.iter().any(|db| has(db, "Accepted", "True", ""))).await;
}

#[tokio::test]
async fn an_object_that_cannot_become_what_is_planned_is_named_before_anything_is_written() {
    let fixture = private_fixture("fixed").await;
    fixture.install("raft").await.unwrap();
    fixture.install("cache").await.unwrap();
    let ns = fixture.namespace("fixed").await;
    ns.create(CLASSES).await;
    ns.create_ready(&database()).await;
    // While the controller is down, another set is put in the place of ours, and the class is edited.
    fixture.controller.kill().await.unwrap();
    let set = ns.one("statefulset/db-2").await;
    let kept = |field: &str| set["metadata"][field].clone();
    let mut other = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "spec": set["spec"],
        "metadata": {"name": "db-2", "labels": kept("labels"), "ownerReferences": kept("ownerReferences")}});
    other["spec"]["serviceName"] = json!("elsewhere");
    ns.kubectl(["delete", "statefulset/db-2", "--cascade=orphan"]).await;
    ns.create(&other.to_string()).await;
    ns.kubectl(["patch", "raftstorageclass/raft", "--type=merge", "-p", r#"{"spec": {"electionTimeout": "9s"}}"#]).await;
    let before = children(&ns).await;
    fixture.controller.start().await.unwrap();
    let named = |db: &Value| {
        let message = condition(db, "Accepted")["message"].as_str().unwrap_or_default();
        let sentence = r#"StatefulSet db-2: spec.serviceName: wanted "db-2-hs", found "elsewhere""#;
        has(db, "Accepted", "False", "ChangeNotTaken") && message.contains(sentence)
    };
    ns.until("database/db", "the field is named", |found| found.iter().any(named)).await;
    ns.settled().await;
    assert_same(&children(&ns).await, &before);
    ns.kubectl(["delete", "statefulset/db-2", "--cascade=orphan"]).await; // the way out
    ns.until("statefulset/db-2", "it is ours again", |found| {
        found.iter().any(|set| set["spec"]["serviceName"] == "db-2-hs")
    })
    .await;
    ns.wait("database/db", "Ready").await;
}

#[tokio::test]
async fn what_is_only_spelled_otherwise_writes_and_restarts_nothing() {
    let fixture = shared_fixture().await;
    let ns = fixture.namespace("spelled").await;
    ns.create(CLASSES).await;
    ns.create_ready(&database()).await;
    ns.settled().await;
    let before = children(&ns).await;
    let mark = fixture.mark().await;
    for spec in [
        json!({"resources": {"limits": {"cpu": "1", "memory": "100M"}}}),
        json!({"resources": {"limits": {"cpu": 1, "memory": 100_000_000}}, "nodeSelector": {}, "imagePullSecrets": []}),
        json!({"tolerations": [], "env": []}),
    ] {
        let edit = json!({"spec": spec}).to_string();
        ns.kubectl(["patch", "raftstorageclass/raft", "--type=merge", "-p", &edit]).await;
        let generation = ns.one("raftstorageclass/raft").await["metadata"]["generation"].clone();
        ns.until("database/db", "the edit was seen", |found| {
            found.iter().any(|db| db["status"]["plan"]["classGeneration"] == generation)
        })
        .await;
    }
    ns.settled().await;
    assert_same(&children(&ns).await, &before);
    let requests = fixture.requests_since(mark).await;
    let writes = requests.iter().filter(|r| r.user == USER && r.namespace == ns.name && r.writes());
    let written: Vec<_> =
        writes.filter(|request| !request.uri.contains("/status") && !request.uri.contains("/events")).collect();
    assert!(written.is_empty(), "{written:?}");
    // With a change beside it, the template keeps the spelling that it has.
    ns.kubectl(["patch", "raftstorageclass/raft", "--type=merge", "-p", r#"{"spec": {"snapshotThreshold": 7}}"#]).await;
    ns.until("configmap/db-1", "the change arrives", |found| found.iter().any(|map| map["data"].to_string().contains('7')))
        .await;
}

#[tokio::test]
async fn a_rollout_that_waits_for_members_that_cannot_start_goes_on() {
    let ns = shared_fixture().await.namespace("stalled").await;
    let placed = |node: &str| format!("spec: {{replicas: 3, nodeSelector: {{place: {node}}}, ");
    ns.create(&CLASSES.replacen("spec: {replicas: 3, ", &placed("node"), 1)).await;
    ns.create(Manifests::on("RaftStorageClass", "raft").database("db", json!({"partitions": 1, "partitionsPerCluster": 1})))
        .await;
    let all_placed =
        |pods: &[Value], node: &str| pods.len() == 3 && pods.iter().all(|pod| pod["spec"]["nodeSelector"]["place"] == node);
    ns.until("pods", "three members that no node takes", |pods| all_placed(pods, "node")).await;
    // Kubernetes replaces one of them and waits for it for ever.
    let edit = |node: Value| json!({"spec": {"nodeSelector": node}}).to_string();
    let class = "raftstorageclass/raft";
    ns.kubectl(["patch", class, "--type=merge", "-p", &edit(json!({"place": "other"}))]).await;
    ns.until("pods", "all members are made again", |pods| all_placed(pods, "other")).await;
    ns.settled().await;
    let uids = |pods: &[Value]| pods.iter().map(|pod| pod["metadata"]["uid"].clone()).collect::<Vec<_>>();
    let before = uids(&ns.get("pods").await);
    ns.kubectl(["annotate", "database/db", "example.com/look=again"]).await;
    ns.settled().await;
    assert_eq!(uids(&ns.get("pods").await), before, "what has the newest revision is left alone");
    ns.kubectl(["patch", class, "--type=merge", "-p", &edit(Value::Null)]).await;
    ns.wait("database/db", "Ready").await;
    ns.until("pods", "all members run", |pods| pods.len() == 3 && pods.iter().all(|pod| has(pod, "Ready", "True", "")))
        .await;
}
