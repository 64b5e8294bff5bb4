//! A definition that somebody loosened, or restored from another release, lets in what this one refuses. What runs goes on as it was.

use harness::conditions::{condition, has};
use harness::eventually::Eventually;
use harness::fixture::{Namespace, private_fixture};
use harness::manifests::Manifests;
use serde_json::{Value, json};

use super::edits::{assert_same, children};

const REVIEWS: &str = "validatingwebhookconfiguration/atomix-controller";
const DEFINITION: &str = "crd/databases.cloud.atomix.io";

/// Specs that do not fit, with the field that does not, and what is said of it.
fn misfits() -> Vec<(Value, &'static str, &'static str)> {
    let class = json!({"kind": "RaftStorageClass", "name": "c"});
    vec![
        (json!({"partitions": "three", "storageClass": class}), "spec.partitions", "integer is expected"),
        (json!({"partitions": -5, "storageClass": class}), "spec.partitions", "at least 1 is accepted"),
        (json!({"partitions": 0, "storageClass": class}), "spec.partitions", "at least 1 is accepted"),
        (json!({"partitions": 4_000_000_000_u64, "storageClass": class}), "spec.partitions", "at most 1024 is accepted"),
        (
            json!({"partitions": 2, "partitionsPerCluster": 0, "storageClass": class}),
            "spec.partitionsPerCluster",
            "at least 1",
        ),
        (json!({"partitions": 2, "storageClass": 7}), "spec.storageClass", "object is expected"),
        (json!({"partitions": 2}), "spec.storageClass", "missing"),
        (Value::Null, "spec", "object is expected"),
    ]
}

/// The spec becomes another as a whole.
async fn becomes(ns: &Namespace<'_>, spec: &Value) -> Result<String, String> {
    let patch = json!([{"op": "add", "path": "/spec", "value": spec}]).to_string();
    let kubectl = ns.fixture().kubectl().namespace(&ns.name);
    kubectl.run(["patch", "database/db", "--type=json", "-p", &patch]).await.map_err(|error| format!("{error:#}"))
}

#[tokio::test]
async fn what_a_loosened_definition_lets_in_is_named_and_what_runs_goes_on() {
    let fixture = private_fixture("loosened").await;
    let ns = fixture.namespace("loosened").await;
    fixture.install("raft").await.unwrap();
    fixture.serves("raft").await.unwrap();
    let partitions = json!({"partitions": 2, "partitionsPerCluster": 1});
    ns.create_ready(&Manifests::class("RaftStorageClass", "c", json!({"replicas": 1})).database("db", partitions)).await;
    ns.settled().await;
    let (spec, before) = (ns.one("database/db").await["spec"].clone(), children(&ns).await);

    let other = fixture.namespace("loosened-other").await;
    other.create_ready(&Manifests::class("RaftStorageClass", "c", json!({"replicas": 1})).database("db", 1)).await;

    let mut definition = ns.one(DEFINITION).await;
    for version in definition["spec"]["versions"].as_array_mut().unwrap() {
        version["subresources"].as_object_mut().unwrap().remove("scale");
        let schema = version["schema"]["openAPIV3Schema"].as_object_mut().unwrap();
        schema.remove("x-kubernetes-validations");
        schema.remove("required");
        schema["properties"]["spec"] = json!({"x-kubernetes-preserve-unknown-fields": true});
    }
    fixture.kubectl().run_with(["replace", "-f", "-"], &definition.to_string()).await.unwrap();
    ns.eventually("the definition is loosened, so that the webhook alone refuses", || async {
        let refusal = becomes(&ns, &json!({"partitions": "three"})).await.expect_err("the webhook refuses it");
        Ok(if refusal.contains("stays 2") { Eventually::Now(()) } else { Eventually::NotYet(refusal) })
    })
    .await;
    for (misfit, field, expected) in misfits() {
        let refusal = becomes(&ns, &misfit).await.expect_err("the webhook refuses it");
        assert!(refusal.contains(field) && refusal.contains(expected), "{misfit}: {refusal}");
    }

    let mut reviews = ns.one(REVIEWS).await;
    fixture.kubectl().run(["delete", REVIEWS]).await.unwrap();
    for (misfit, field, expected) in misfits() {
        ns.eventually("nobody refuses it", || async {
            Ok(becomes(&ns, &misfit).await.map_or_else(Eventually::NotYet, |_| Eventually::Now(())))
        })
        .await;
        let is_named = |db: &Value| {
            let message = condition(db, "Accepted")["message"].as_str().unwrap_or_default();
            let seen = db["status"]["observedGeneration"] == db["metadata"]["generation"];
            seen && has(db, "Accepted", "False", "ChangeNotTaken") && message.contains(field) && message.contains(expected)
        };
        let found = ns
            .until("database/db", &format!("{misfit} is not taken, and what runs is ready"), |found| {
                found.iter().any(|db| is_named(db) && has(db, "Ready", "True", "") && db["status"]["ready"] == "2/2")
            })
            .await;
        assert_eq!(found[0]["status"]["plan"]["partitions"], 2, "{misfit}");
        ns.settled().await;
        assert_same(&children(&ns).await, &before);
    }
    // The webhook refuses what is new, and not what somebody else edits of an object that does not fit, such as its finalizers.
    for field in ["uid", "resourceVersion", "managedFields"] {
        reviews["metadata"].as_object_mut().unwrap().remove(field);
    }
    fixture.kubectl().run_with(["create", "-f", "-"], &reviews.to_string()).await.unwrap();
    other
        .eventually("the webhook is asked again", || async {
            let patch = ["patch", "database/db", "--dry-run=server", "--type=merge", "-p", r#"{"spec":{"partitions":-5}}"#];
            let refused = fixture.kubectl().namespace(&other.name).run(patch).await.is_err();
            Ok(Eventually::when(refused, || "it was taken".to_owned()))
        })
        .await;
    ns.kubectl(["annotate", "database/db", "example.com/note=a"]).await;
    // The next leader goes by what was recorded, too.
    fixture.controller.kill().await.unwrap();
    ns.kubectl(["delete", "service/db-1"]).await;
    fixture.controller.start().await.unwrap();
    ns.wait_created("service/db-1").await;

    becomes(&ns, &spec).await.unwrap();
    ns.until("database/db", "it was put right", |found| found.iter().any(|db| has(db, "Accepted", "True", ""))).await;
    ns.settled().await;
    assert_eq!(children(&ns).await.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
}
