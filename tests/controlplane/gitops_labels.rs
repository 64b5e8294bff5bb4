//! Tools that own a Database and delete what carries their label: they find nothing of ours. Labels of users are on every object.

use std::collections::BTreeMap;

use harness::conditions::{condition, has};
use harness::fixture::{Namespace, shared_fixture};
use harness::kubectl::Kubectl;
use serde_json::{Value, json};

/// What the controller makes of a Database, with volumes: everything that a label can be on.
const KINDS: &str = "partitions,statefulsets,services,configmaps,poddisruptionbudgets,pods,persistentvolumeclaims";

const CLASS: &str = r"
apiVersion: storage.cloud.atomix.io/v1beta1
kind: RaftStorageClass
metadata: {name: raft}
spec:
  replicas: 1
  volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}
";

fn database(metadata: &Value) -> String {
    json!({
        "apiVersion": "cloud.atomix.io/v1beta3",
        "kind": "Database",
        "metadata": metadata,
        "spec": {"partitions": 2, "partitionsPerCluster": 1, "storageClass": {"kind": "RaftStorageClass", "name": "raft"}},
    })
    .to_string()
}

/// A user's other things, of the kinds that we make too: a tool that prunes looks at those kinds only that it applied itself.
const OTHERS: &str = r"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, labels: {shop: books}}
data: {a: b}
---
apiVersion: v1
kind: Service
metadata: {name: app, labels: {shop: books}}
spec: {ports: [{port: 80}], selector: {app: shop}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: files, labels: {shop: books}}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: app, labels: {shop: books}}
spec: {maxUnavailable: 1, selector: {matchLabels: {app: shop}}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: app, labels: {shop: books}}
spec:
  replicas: 0
  serviceName: app
  selector: {matchLabels: {app: shop}}
  template: {metadata: {labels: {app: shop}}, spec: {containers: [{name: app, image: app}]}}
---
apiVersion: v1
kind: Pod
metadata: {name: app, labels: {shop: books}}
spec: {containers: [{name: app, image: app}]}
";

/// Objects of the database `db`, by kind and name.
async fn objects(ns: &Namespace<'_>) -> BTreeMap<String, Value> {
    let ours = |object: &Value| object["metadata"]["labels"]["database"].as_str().is_some_and(|it| it.starts_with("db"));
    let named = |object: Value| {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"])), object)
    };
    ns.get(KINDS).await.into_iter().filter(ours).map(named).collect()
}

async fn uids(ns: &Namespace<'_>) -> BTreeMap<String, Value> {
    objects(ns).await.into_iter().map(|(name, object)| (name, object["metadata"]["uid"].clone())).collect()
}

#[tokio::test]
async fn labels_of_users_are_on_every_object_and_those_of_tools_on_none() {
    let ns = shared_fixture().await.namespace("owners-labels").await;
    let labels = json!({
        "app": "raft",
        "team": "storage",
        "app.kubernetes.io/name": "shop",
        "app.kubernetes.io/version": "7",
        "example.com/tier": "gold",
        "app.kubernetes.io/instance": "shop",
        "app.kubernetes.io/managed-by": "Helm",
        "applyset.kubernetes.io/part-of": "applyset-a-v1",
        "argocd.argoproj.io/instance": "shop",
        "helm.sh/chart": "shop-1",
        "kapp.k14s.io/app": "1",
        "kustomize.toolkit.fluxcd.io/name": "shop",
        "nobody-listed.example.org/owner": "x",
        "objectset.rio.cattle.io/hash": "x",
    });
    ns.create(CLASS).await;
    ns.create(&database(
        &json!({"name": "db", "labels": labels, "annotations": {"cloud.atomix.io/copy-labels": "example.com/*"}}),
    ))
    .await;
    ns.wait("database/db", "Ready").await;
    let found = objects(&ns).await;
    let kinds: Vec<&str> = KINDS
        .split(',')
        .filter(|kind| !found.keys().any(|it| kind.starts_with(&it.split(' ').next().unwrap().to_lowercase())))
        .collect();
    assert!(kinds.is_empty(), "nothing of {kinds:?} is there: {:?}", found.keys());
    for (name, object) in &found {
        let on = object["metadata"]["labels"].as_object().unwrap();
        // The claims of a StatefulSet carry what selects its pods, and nothing else.
        if !name.starts_with("PersistentVolumeClaim") {
            for (key, value) in [("team", "storage"), ("app.kubernetes.io/name", "shop"), ("example.com/tier", "gold")] {
                assert_eq!(on.get(key), Some(&json!(value)), "{name}: {key}");
            }
            assert_eq!(on["app.kubernetes.io/managed-by"], "atomix-controller", "{name}");
        }
        let copied = ["app", "team", "app.kubernetes.io/name", "app.kubernetes.io/version", "example.com/tier"];
        for (key, value) in labels.as_object().unwrap().iter().filter(|(key, _)| !copied.contains(&key.as_str())) {
            assert_ne!(on.get(key), Some(value), "{name}: {key}");
        }
    }
}

#[tokio::test]
async fn kubectl_prunes_nothing_of_ours_by_apply_set_or_by_label() {
    let fixture = shared_fixture().await;
    let ns = fixture.namespace("owners-prune").await;
    let manifest = format!("{OTHERS}\n---\n{CLASS}\n---\n{}", database(&json!({"name": "db", "labels": {"shop": "books"}})));
    let kubectl = Kubectl::new(&fixture.plane).namespace(&ns.name).env("KUBECTL_APPLYSET", "true");
    let apply = ["apply", "--prune", "--applyset=configmaps/set", "-f", "-"];
    ns.must(kubectl.run_with(apply, &manifest).await).await;
    ns.wait("database/db", "Ready").await;
    let before = uids(&ns).await;
    assert_eq!(ns.one("database/db").await["metadata"]["labels"].as_object().unwrap().len(), 2, "the set's label is on it");

    for round in 1..=2 {
        let output = ns.must(kubectl.run_with(apply, &manifest).await).await;
        assert!(!output.contains("pruned"), "{output}");
        assert_eq!(uids(&ns).await, before, "apply {round} left all as it was");
    }
    // By a label that we do copy: kubectl prunes only what it has applied itself, by its annotation.
    let by_label = ["apply", "--prune", "--selector=shop=books", "-f", "-"];
    for _ in 1..=2 {
        let output = ns.must(ns_kubectl(fixture, &ns).run_with(by_label, &manifest).await).await;
        assert!(!output.contains("pruned"), "{output}");
    }
    assert_eq!(uids(&ns).await, before);

    ns.must(kubectl.run_with(apply, &manifest).await).await; // back into the set, which the plain apply took them out of
    assert_eq!(uids(&ns).await, before);

    // What leaves the set is pruned, and with the Database all that it owns.
    let without = format!("{OTHERS}\n---\n{CLASS}");
    let output = ns.must(kubectl.run_with(apply, &without).await).await;
    assert!(output.contains("database.cloud.atomix.io/db pruned"), "{output}");
    ns.wait_gone("service/db-1").await;
}

fn ns_kubectl(fixture: &harness::fixture::Fixture, ns: &Namespace<'_>) -> Kubectl {
    Kubectl::new(&fixture.plane).namespace(&ns.name)
}

/// An older controller recorded whatever labels there were: pods keep them, since another label would restart them.
#[tokio::test]
async fn pods_keep_the_labels_that_were_recorded_for_them() {
    let ns = shared_fixture().await.namespace("owners-recorded").await;
    let tool = json!({"argocd.argoproj.io/instance": "shop", "team": "storage"});
    ns.create(&database(&json!({"name": "db", "labels": tool}))).await;
    ns.wait("database/db", "Ready=False").await; // it has no class yet, and no plan
    let patch = json!({"status": {"podLabels": tool}}).to_string();
    ns.kubectl(["patch", "database/db", "--subresource=status", "--type=merge", "-p", &patch]).await;
    ns.create(CLASS).await;
    ns.wait("database/db", "Ready").await;
    for (name, object) in objects(&ns).await {
        let on = &object["metadata"]["labels"];
        let expected = if name.starts_with("Pod ") { json!("shop") } else { Value::Null };
        assert_eq!(on["argocd.argoproj.io/instance"], expected, "{name}");
        let selector = &object["spec"]["selector"];
        assert!(!selector.to_string().contains("argocd"), "{name}: {selector}");
    }

    // What was recorded can be taken back: that restarts pods, so it waits until a person accepts it.
    let before = uids(&ns).await;
    let forget = r#"[{"op": "remove", "path": "/status/podLabels"}]"#;
    ns.kubectl(["patch", "database/db", "--subresource=status", "--type=json", "-p", forget]).await;
    let held = ns
        .until("database/db", "the plan is held", |found| found.iter().any(|db| has(db, "Accepted", "False", "Held")))
        .await;
    assert_eq!(uids(&ns).await, before, "nothing is restarted");
    let message = condition(&held[0], "Accepted")["message"].as_str().unwrap();
    let hash = message.split("cloud.atomix.io/accept=").nth(1).unwrap().split_whitespace().next().unwrap();
    ns.kubectl(["annotate", "database/db", &format!("cloud.atomix.io/accept={hash}")]).await;
    ns.until("pods", "no pod has the label any more", |pods| {
        pods.len() == 2 && pods.iter().all(|pod| pod["metadata"]["labels"]["argocd.argoproj.io/instance"].is_null())
    })
    .await;
}
