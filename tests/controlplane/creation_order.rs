//! Order of creation does not matter: each piece that is missing is named, and things go on by themselves when it arrives.

use harness::conditions::{condition, has};
use harness::dist;
use harness::fixture::{Fixture, private_fixture};
use harness::manifests::Manifests;
use serde_json::{Value, json};

fn class() -> Manifests {
    Manifests::raft(json!({"replicas": 1}))
}

fn database() -> Manifests {
    Manifests::on("RaftStorageClass", "raft").database("db", 1)
}

/// Every order of database, definition, class and plugin, but that a class needs its definition.
fn orders() -> Vec<[&'static str; 4]> {
    let pieces = ["database", "definition", "class", "plugin"];
    let mut orders = Vec::new();
    for code in 0..256_usize {
        let at = [code & 3, (code >> 2) & 3, (code >> 4) & 3, code >> 6];
        let place = |piece| at.iter().position(|i| pieces[*i] == piece);
        let is_order = (0..4).all(|i| at.contains(&i)) && place("definition") < place("class");
        if is_order {
            orders.push(at.map(|i| pieces[i]));
        }
    }
    orders
}

async fn apply(fixture: &Fixture, kind: &str) {
    fixture.kubectl().run_with(["apply", "-f", "-"], &packed("raft", kind)).await.unwrap();
}

/// The documents of a packed plugin, by kind.
fn packed(plugin: &str, kind: &str) -> String {
    let text = std::fs::read_to_string(dist::plugin(plugin)).unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let found: Vec<_> = documents.iter().filter(|document| document["kind"] == kind).map(Value::to_string).collect();
    assert!(!found.is_empty(), "{plugin} has no {kind}");
    found.join("\n---\n")
}

#[tokio::test]
async fn database_definition_class_and_plugin_may_come_in_any_order() {
    let fixture = private_fixture("orders").await;
    let orders = orders();
    assert_eq!(orders.len(), 12);
    for (round, order) in orders.into_iter().enumerate() {
        let ns = fixture.namespace(&format!("order-{round}")).await;
        let mut there: Vec<&str> = Vec::new();
        for piece in order {
            match piece {
                "class" => {
                    ns.kubectl(["wait", "--for=condition=Established", "crd/raftstorageclasses.storage.cloud.atomix.io"])
                        .await;
                    ns.create(class()).await;
                }
                "definition" => apply(&fixture, "CustomResourceDefinition").await,
                "database" => ns.create(database()).await,
                // The role before the ConfigMap or after it: both must do.
                _ if round % 2 == 0 => (apply(&fixture, "ClusterRole").await, apply(&fixture, "ConfigMap").await).1,
                _ => (apply(&fixture, "ConfigMap").await, apply(&fixture, "ClusterRole").await).1,
            }
            there.push(piece);
            if there.contains(&"database") && there.len() < order.len() {
                let missing = match () {
                    () if !there.contains(&"plugin") => "NoPlugin",
                    () if !there.contains(&"definition") => "DefinitionMissing",
                    () => "ClassNotFound",
                };
                ns.until("database/db", &format!("{there:?}: what is missing is named: {missing}"), |found| {
                    found.iter().any(|db| has(db, "Ready", "False", missing) && has(db, "Accepted", "False", missing))
                })
                .await;
            }
        }
        ns.wait("database/db", "Ready").await;
        ns.kubectl(["delete", "database/db", "--cascade=foreground"]).await;
        for kind in ["ConfigMap", "ClusterRole", "CustomResourceDefinition"] {
            fixture.kubectl().run_with(["delete", "-f", "-"], &packed("raft", kind)).await.unwrap();
        }
        fixture.kubectl().run(["delete", "storageplugin/raft", "-n", "kube-system", "--ignore-not-found"]).await.unwrap();
        fixture
            .kubectl()
            .run(["wait", "--for=delete", "crd/raftstorageclasses.storage.cloud.atomix.io", "--timeout=60s"])
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn deleting_plugin_class_or_definition_prunes_nothing() {
    let fixture = private_fixture("pieces").await;
    fixture.install("raft").await.unwrap();
    let ns = fixture.namespace("pieces").await;
    ns.create(class()).await;
    ns.create(database()).await;
    ns.wait("database/db", "Ready").await;
    let uid = ns.one("statefulset/db-1").await["metadata"]["uid"].clone();

    ns.kubectl(["delete", "raftstorageclass/raft"]).await;
    let named = |reason: &'static str| {
        move |found: &[Value]| found.iter().any(|db| has(db, "Accepted", "False", reason) && has(db, "Ready", "True", ""))
    };
    ns.until("database/db", "the missing class is named", named("ClassNotFound")).await;
    ns.create(class()).await;
    ns.until("database/db", "the class is back", |found| found.iter().any(|db| has(db, "Accepted", "True", ""))).await;

    let kube_system = fixture.kubectl().namespace("kube-system");
    kube_system.run(["delete", "configmap/atomix-plugin-raft"]).await.unwrap();
    ns.until("database/db", "the plugin is reported as removed", |found| {
        found.iter().any(|db| has(db, "PluginCurrent", "False", "Removed") && has(db, "Accepted", "True", ""))
    })
    .await;
    kube_system.run(["delete", "storageplugin/raft"]).await.unwrap();
    ns.until("database/db", "the missing plugin is named", named("NoPlugin")).await;
    fixture.install("raft").await.unwrap();
    ns.until("database/db", "the plugin is back", |found| found.iter().any(|db| has(db, "Accepted", "True", ""))).await;

    fixture.kubectl().run(["delete", "crd/raftstorageclasses.storage.cloud.atomix.io"]).await.unwrap();
    let database = ns
        .until("database/db", "the missing definition is named", |found| {
            found
                .iter()
                .any(|db| has(db, "Accepted", "False", "DefinitionMissing") || has(db, "Accepted", "False", "ClassNotFound"))
        })
        .await;
    assert!(has(&database[0], "Ready", "True", ""), "{}", condition(&database[0], "Ready"));
    assert_eq!(ns.one("statefulset/db-1").await["metadata"]["uid"], uid, "what runs was left alone");
    assert_eq!(ns.get("partitions").await.len(), 1);
}
