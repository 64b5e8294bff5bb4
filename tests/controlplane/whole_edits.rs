//! An edit of a class that what runs cannot take: the API refuses it, and where the API did not, nothing of it is applied, while what runs is
//! repaired and scaled by the class as it was. Every such edit of the tables in `tests/edits`.

use futures::future::join_all;
use harness::conditions::{condition, has};
use harness::fixture::{Fixture, Namespace, private_fixture};
use harness::manifests::{Manifests, merged};
use harness::paths;
use serde_json::{Value, json};

use super::edits::{assert_same, children};

const TABLES: [(&str, &str); 4] = [
    ("raft", "RaftStorageClass"),
    ("etcd", "EtcdStorageClass"),
    ("valkey", "ValkeyStorageClass"),
    ("redis", "RedisStorageClass"),
];
const REVIEWS: &str = "validatingwebhookconfiguration/atomix-controller";
/// What each edit also asks for, and could have alone.
const BESIDE: &str = "11m";

/// A class that a database uses, and edits of it that are not taken.
struct Case {
    kind: &'static str,
    spec: Value,
    edits: Vec<Value>,
}

impl Case {
    fn class(&self) -> String {
        format!("{}/c", self.kind.to_lowercase())
    }

    /// What takes back an edit.
    fn back(&self, edit: &Value) -> Value {
        let fields = edit.as_object().unwrap().keys();
        fields.map(|field| (field.clone(), self.spec.get(field).cloned().unwrap_or(Value::Null))).collect()
    }
}

/// What is not taken of the plugins' tables, by the class that is edited.
fn cases() -> Vec<Case> {
    let mut found: Vec<Case> = Vec::new();
    for (plugin, kind) in TABLES {
        let file = paths::root().join(format!("tests/edits/{plugin}.yaml"));
        let table: Value = serde_saphyr::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        let edits = table["rows"].as_array().unwrap().iter().flat_map(|row| row["edits"].as_array().unwrap());
        for edit in edits.filter(|edit| edit["then"] == "not-taken") {
            let spec = merged(table["base"].clone(), &edit["from"]);
            let mut to = edit["to"].clone();
            to["resources"] = json!({"requests": {"cpu": BESIDE}});
            match found.iter_mut().find(|case| case.kind == kind && case.spec == spec) {
                Some(case) => case.edits.push(to),
                None => found.push(Case { kind, spec, edits: vec![to] }),
            }
        }
    }
    found
}

/// The field of an edit that is not taken.
fn field(edit: &Value) -> &str {
    edit.as_object().unwrap().keys().find(|field| *field != "resources").unwrap()
}

fn body(edit: &Value) -> String {
    json!({"spec": edit}).to_string()
}

#[tokio::test]
async fn an_edit_that_what_runs_cannot_take_is_refused_and_no_part_of_it_applied() {
    let fixture = private_fixture("whole-edits").await;
    for (plugin, _) in TABLES {
        fixture.install(plugin).await.unwrap();
        fixture.serves(plugin).await.unwrap();
    }
    let (cases, mut namespaces) = (cases(), Vec::new());
    assert!(cases.len() >= 8, "{} classes", cases.len());
    for (number, case) in cases.iter().enumerate() {
        let ns = fixture.namespace(&format!("whole-{number}")).await;
        let partitions = json!({"partitions": 2, "partitionsPerCluster": 1});
        let partitions = if case.spec["clusters"].is_null() { partitions } else { json!({"partitions": 6}) };
        ns.create(&Manifests::class(case.kind, "c", case.spec.clone()).database("db", partitions).to_string()).await;
        namespaces.push(ns);
    }
    for ns in &namespaces {
        ns.wait("database/db", "Ready").await;
    }
    let all = || cases.iter().zip(&namespaces);
    // One after another: a review that has no answer within 3 s lets an edit pass.
    for (case, ns) in all() {
        are_refused(ns, case).await;
    }
    fixture.kubectl().run(["delete", REVIEWS]).await.unwrap();
    join_all(all().map(|(case, ns)| are_not_applied(ns, case))).await;
    // The next leader keeps what runs as it was, too.
    let one_a_plugin: Vec<_> = TABLES.iter().map(|(_, kind)| all().find(|(case, _)| case.kind == *kind).unwrap()).collect();
    for (case, ns) in &one_a_plugin {
        is_edited(ns, case, &case.edits[0]).await;
    }
    fixture.controller.kill().await.unwrap();
    for (_, ns) in &one_a_plugin {
        ns.kubectl(["delete", "service/db-1"]).await;
    }
    fixture.controller.start().await.unwrap();
    join_all(one_a_plugin.iter().map(|(_, ns)| is_kept_as_it_was(ns))).await;
    without_a_record(&fixture).await;
}

async fn are_refused(ns: &Namespace<'_>, case: &Case) {
    let before = (ns.one(&case.class()).await["spec"].clone(), children(ns).await);
    for edit in &case.edits {
        let refusal = ns.kubectl_fails(["patch", &case.class(), "--type=merge", "-p", &body(edit)]).await;
        for text in [field(edit), &format!("Database {}/db cannot take this", ns.name), "nothing of the edit is applied"] {
            assert!(refusal.contains(text), "{edit}: {refusal}");
        }
    }
    ns.settled().await;
    assert_eq!(ns.one(&case.class()).await["spec"], before.0);
    assert_same(&children(ns).await, &before.1);
}

/// Makes an edit that is not taken.
async fn is_edited(ns: &Namespace<'_>, case: &Case, edit: &Value) {
    ns.kubectl(["patch", &case.class(), "--type=merge", "-p", &body(edit)]).await;
    let found = ns
        .until("database/db", &format!("{} {edit} is not taken, and what runs is ready", case.kind), |found| {
            found.iter().any(|db| has(db, "Accepted", "False", "ChangeNotTaken") && has(db, "Ready", "True", ""))
        })
        .await;
    let message = condition(&found[0], "Accepted")["message"].clone();
    assert!(message.as_str().unwrap().contains(field(edit)), "{edit}: {message}");
}

async fn are_not_applied(ns: &Namespace<'_>, case: &Case) {
    let before = children(ns).await;
    for edit in &case.edits {
        is_edited(ns, case, edit).await;
        ns.settled().await;
        assert_same(&children(ns).await, &before);
        ns.kubectl(["patch", &case.class(), "--type=merge", "-p", &body(&case.back(edit))]).await;
        ns.until("database/db", "the edit is taken back", |found| found.iter().any(|db| has(db, "Accepted", "True", "")))
            .await;
    }
    ns.settled().await;
    assert_same(&children(ns).await, &before);
}

/// What runs is repaired and scaled by the class as it was.
async fn is_kept_as_it_was(ns: &Namespace<'_>) {
    ns.wait_created("service/db-1").await;
    let partitions = ns.one("database/db").await["spec"]["partitions"].as_i64().unwrap() + 1;
    ns.kubectl(["scale", "database/db", &format!("--replicas={partitions}")]).await;
    let ready = format!("{partitions}/{partitions}");
    ns.until("database/db", "a new partition is ready", |found| {
        found.iter().any(|db| db["status"]["ready"] == ready && has(db, "Accepted", "False", "ChangeNotTaken"))
    })
    .await;
    let all = children(ns).await;
    assert!(all.values().all(|child| !child.to_string().contains(BESIDE)), "no part of the edit is applied: {all:#?}");
}

/// A Database of a release that did not record its class keeps what runs, and takes what else it can.
async fn without_a_record(fixture: &Fixture) {
    let ns = fixture.namespace("kept").await;
    let volume = json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let spec = json!({"replicas": 1, "peerTls": {"secretName": "peers"}, "volumeClaimTemplate": volume});
    ns.create_ready(&Manifests::class("EtcdStorageClass", "etcd", spec).database("db", 2)).await;
    ns.settled().await;
    let before = children(&ns).await;
    let set_peers = async |peers: Value| {
        let patch = json!({"spec": {"peerTls": peers}}).to_string();
        ns.kubectl(["patch", "etcdstorageclass/etcd", "--type=merge", "-p", &patch]).await;
    };
    let not_taken = |db: &Value| {
        let message = condition(db, "Accepted")["message"].as_str().unwrap_or_default();
        has(db, "Accepted", "False", "ChangeNotTaken") && message.contains("spec.peerTls")
    };
    fixture.controller.kill().await.unwrap();
    set_peers(Value::Null).await;
    let forget = r#"[{"op": "remove", "path": "/status/plan/classSpec"}]"#;
    ns.kubectl(["patch", "database/db", "--subresource=status", "--type=json", "-p", forget]).await;
    fixture.controller.start().await.unwrap();
    ns.until("database/db", "the edit is not taken", |found| found.iter().any(not_taken)).await;
    assert_same(&children(&ns).await, &before);

    ns.kubectl(["delete", "service/db-1-hs", "service/db-2"]).await;
    ns.until("services", "both are made again", |services| services.len() == 4).await;
    ns.kubectl(["scale", "database/db", "--replicas=3"]).await;
    ns.until("database/db", "a new partition is there", |found| found.iter().any(|db| db["status"]["ready"] == "3/3")).await;
    assert!(!ns.one("statefulset/db-3").await["spec"]["template"].to_string().contains("peers"), "as the class has it now");

    ns.kubectl(["delete", "statefulset/db-1"]).await;
    let is_explained = |db: &Value| {
        let text = db["status"]["conditions"].to_string();
        has(db, "Degraded", "True", "SecretNotNamed") && text.contains("Set spec.peerTls.secretName of the class to peers")
    };
    ns.until("database/db", "the way out is named", |found| found.iter().any(is_explained)).await;
    ns.kubectl(["delete", "statefulset/db-3"]).await;
    ns.wait_created("statefulset/db-3").await; // what needs no Secret is repaired meanwhile
    set_peers(json!({"secretName": "peers"})).await;
    ns.wait_created("statefulset/db-1").await;
    ns.wait("database/db", "Ready").await;
}
