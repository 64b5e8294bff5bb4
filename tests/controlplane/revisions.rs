//! Revisions of a plugin are kept in the cluster: what served serves on, whatever becomes of the process and of what brought it.

use harness::conditions::{condition, has};
use harness::controller::USER;
use harness::eventually::Eventually;
use harness::fixture::{Fixture, Namespace, private_fixture, shared_fixture};
use harness::hostile::guest::{Guest, descriptor, plan};
use harness::manifests::Manifests;
use serde_json::{Value, json};

use super::plugins::{one_that_restarts_pods, replace, same_with_another_digest};

fn database() -> Manifests {
    Manifests::raft(json!({"replicas": 1})).database("db", 1)
}

/// The status of the StoragePlugin raft once `holds` is true of it.
async fn plugin(fixture: &Fixture, ns: &Namespace<'_>, sentence: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let admin = fixture.kubectl().namespace("kube-system");
    ns.eventually(sentence, || async {
        let printed = admin.run(["get", "storageplugin/raft", "-o", "json"]).await?;
        let status = serde_json::from_str::<Value>(&printed)?["status"].take();
        Ok(if holds(&status) { Eventually::Now(status) } else { Eventually::NotYet(status.to_string()) })
    })
    .await
}

/// Digests of the revisions of raft that are kept.
async fn kept(fixture: &Fixture) -> Vec<String> {
    let digest = r"jsonpath={range .items[*]}{.metadata.annotations.storage\.cloud\.atomix\.io/digest}{'\n'}{end}";
    let args = ["get", "configmaps", "-l", "storage.cloud.atomix.io/revision-of=raft", "-o", digest];
    let printed = fixture.kubectl().namespace("kube-system").run(args).await.unwrap();
    printed.lines().map(str::to_owned).collect()
}

/// Deletes a Service and waits until it is made again.
async fn is_repaired(ns: &Namespace<'_>) {
    let uid = ns.one("service/db-1").await["metadata"]["uid"].clone();
    ns.kubectl(["delete", "service/db-1"]).await;
    ns.until("service/db-1", "it is made again", |found| found.iter().any(|it| it["metadata"]["uid"] != uid)).await;
}

#[tokio::test]
async fn what_served_serves_on_after_a_restart_whatever_became_of_its_config_map() {
    let fixture = private_fixture("kept").await;
    fixture.install("raft").await.unwrap();
    let ns = fixture.namespace("kept").await;
    ns.create_ready(&database()).await;
    let good = plugin(&fixture, &ns, "it serves a database", |it| it["revisions"][0]["databases"] == 1).await;
    let digest = good["digest"].as_str().unwrap().to_owned();
    assert_eq!(kept(&fixture).await, std::slice::from_ref(&digest));
    assert_eq!(good["revisions"][0]["digest"], json!(digest));

    // A restart writes nothing.
    ns.settled().await;
    let mark = fixture.mark().await;
    fixture.controller.restart().await.unwrap();
    ns.settled().await;
    let writes = |requests: Vec<harness::audit::Request>| -> Vec<harness::audit::Request> {
        let ours = requests.into_iter().filter(|it| it.user == USER && it.writes());
        ours.filter(|it| !it.uri.contains("/leases") && !it.uri.contains("reviews")).collect()
    };
    let written = writes(fixture.requests_since(mark).await);
    assert!(written.is_empty(), "{}", harness::audit::table(&written));

    // Eight bytes that are no plugin, and a restart.
    replace(&fixture, b"no plugi").await;
    plugin(&fixture, &ns, "they are refused", |it| it["phase"] == "Refused").await;
    fixture.controller.restart().await.unwrap();
    is_repaired(&ns).await;
    let refused = plugin(&fixture, &ns, "they are refused again", |it| it["phase"] == "Refused").await;
    assert_eq!((&refused["digest"], &refused["version"]), (&good["digest"], &good["version"]), "what serves is known");
    let database = ns.one("database/db").await;
    assert!(has(&database, "PluginCurrent", "False", "Refused") && has(&database, "Ready", "True", ""), "{database:#}");

    // The ConfigMap is gone, and a restart: databases report it, and are repaired and edited all the same.
    let admin = fixture.kubectl().namespace("kube-system");
    admin.run(["delete", "configmap/atomix-plugin-raft"]).await.unwrap();
    plugin(&fixture, &ns, "it is removed", |it| it["phase"] == "Removed").await;
    ns.until("database/db", "it reports it", |found| found.iter().any(|db| has(db, "PluginCurrent", "False", "Removed")))
        .await;
    fixture.controller.restart().await.unwrap();
    is_repaired(&ns).await;
    ns.kubectl(["scale", "database/db", "--replicas=2"]).await;
    ns.wait_created("service/db-2").await;
    let removed = plugin(&fixture, &ns, "it is removed", |it| it["phase"] == "Removed").await;
    assert_eq!(removed["digest"], good["digest"]);

    // Its kinds stay its own.
    let other = super::plugins::renamed_raft();
    super::plugins::bring(&fixture, "a-rival", "rift", &other).await;
    let refusal = ns
        .eventually("the rival is refused", || async {
            let path = "jsonpath={.status.phase} {.status.message}";
            let status = admin.run(["get", "storageplugin/rift", "-o", path]).await?;
            Ok(if status.starts_with("Refused ") { Eventually::Now(status) } else { Eventually::NotYet(status) })
        })
        .await;
    assert!(
        refusal.contains("served by plugin raft") && refusal.contains("until its StoragePlugin is deleted"),
        "{refusal}"
    );
    admin.run(["delete", "configmap/a-rival"]).await.unwrap();

    // The same bytes again: nothing is written but the status.
    ns.settled().await;
    let mark = fixture.mark().await;
    fixture.install("raft").await.unwrap();
    plugin(&fixture, &ns, "it serves", |it| it["phase"] == "Serving").await;
    ns.until("database/db", "it is current", |found| found.iter().any(|db| !has(db, "PluginCurrent", "False", ""))).await;
    let written = writes(fixture.requests_since(mark).await);
    let objects: Vec<_> =
        written.into_iter().filter(|it| !it.uri.contains("/status") && !it.uri.contains("/events")).collect();
    assert!(objects.is_empty(), "{}", harness::audit::table(&objects));

    // Nothing keeps it any more once its StoragePlugin is deleted too.
    admin.run(["delete", "configmap/atomix-plugin-raft"]).await.unwrap();
    plugin(&fixture, &ns, "it is removed", |it| it["phase"] == "Removed").await;
    admin.run(["delete", "storageplugin/raft"]).await.unwrap();
    ns.until("database/db", "no plugin serves it", |found| found.iter().any(|db| has(db, "Accepted", "False", "NoPlugin")))
        .await;
    ns.eventually("its revisions are gone", || async {
        let left = kept(&fixture).await;
        Ok(Eventually::when(left.is_empty(), || format!("{left:?}")))
    })
    .await;
    assert!(has(&ns.one("database/db").await, "Ready", "True", ""), "it runs on");
}

#[tokio::test]
async fn what_is_held_is_held_after_a_restart_and_repaired_and_edited_meanwhile() {
    let fixture = private_fixture("heldkept").await;
    fixture.install("raft").await.unwrap();
    let ns = fixture.namespace("heldkept").await;
    ns.create_ready(&database()).await;
    plugin(&fixture, &ns, "it serves a database", |it| it["revisions"][0]["databases"] == 1).await;
    replace(&fixture, &one_that_restarts_pods()).await;
    let held = |found: &[Value]| found.iter().any(|db| has(db, "Accepted", "False", "Held"));
    ns.until("database/db", "the plan is held", held).await;
    let both = plugin(&fixture, &ns, "both revisions are listed", |it| {
        it["revisions"].as_array().is_some_and(|all| all.len() == 2 && all[0]["databases"] == 0 && all[1]["databases"] == 1)
    })
    .await;
    assert_eq!(both["revisions"][0]["digest"], both["digest"], "what serves first");
    ns.settled().await;
    let mark = fixture.mark().await;
    fixture.controller.kill().await.unwrap();
    fixture.controller.start().await.unwrap();
    is_repaired(&ns).await;
    ns.kubectl(["scale", "database/db", "--replicas=2"]).await;
    ns.until("statefulset/db-1", "it is edited, and not restarted", |found| {
        found.iter().any(|set| !set["spec"]["template"].to_string().contains("/tmp/atomix-READY"))
    })
    .await;
    ns.wait_created("service/db-2").await;
    ns.until("database/db", "the plan is held still", held).await;
    let template = ns.one("statefulset/db-1").await["spec"]["template"].to_string();
    assert!(template.contains("/tmp/atomix-ready"), "{template}");
    let requests = fixture.requests_since(mark).await;
    assert!(!requests.iter().any(|it| it.writes() && it.uri.contains("/configmaps") && it.uri.contains("kube-system")));

    // What is accepted goes through, and what served before is dropped once there are enough newer ones.
    let database = ns.one("database/db").await;
    let message = condition(&database, "Accepted")["message"].as_str().unwrap();
    let hash = message.split("cloud.atomix.io/accept=").nth(1).unwrap().split_whitespace().next().unwrap();
    ns.kubectl(["annotate", "database/db", &format!("cloud.atomix.io/accept={hash}")]).await;
    ns.until("database/db", "nothing is held", |found| found.iter().any(|db| has(db, "Accepted", "True", ""))).await;
    plugin(&fixture, &ns, "the newer is in use", |it| it["revisions"][0]["databases"] == 1).await;
    for number in 0..3 {
        let mut bytes = same_with_another_digest();
        bytes.extend([0, 4, 1, b'y', number, 0]);
        replace(&fixture, &bytes).await;
        let digest = atomix_sandbox::digest_of(&bytes);
        plugin(&fixture, &ns, "it is kept", |it| it["digest"] == json!(digest)).await;
    }
    ns.eventually("the first is let go", || async {
        let left = kept(&fixture).await;
        let first = both["revisions"][1]["digest"].as_str().unwrap_or_default().to_owned();
        Ok(Eventually::when(!left.contains(&first) && left.len() <= 5, || format!("{left:?}")))
    })
    .await;
}

#[tokio::test]
async fn the_account_makes_and_deletes_no_config_map_beside_revisions() {
    let ns = shared_fixture().await.namespace("nomaps").await;
    let admin = ns.fixture().kubectl().namespace("kube-system");
    let by_controller = |object: &Value| {
        let (admin, object) = (admin.clone(), object.to_string());
        async move { admin.run_with(["create", "--as", USER, "--dry-run=server", "-f", "-"], &object).await }
    };
    let good = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "atomix-revision-web-0123456789ab",
            "labels": {"storage.cloud.atomix.io/revision-of": "web"},
            "ownerReferences": [{"apiVersion": "storage.cloud.atomix.io/v1beta1", "kind": "StoragePlugin", "name": "web", "uid": "u"}],
        },
        "immutable": true,
    });
    by_controller(&good).await.unwrap();
    type Spoil = fn(&mut Value);
    let bad: [(&str, Spoil); 6] = [
        ("another name", |it| it["metadata"]["name"] = json!("extension-apiserver-authentication")),
        ("no label", |it| it["metadata"]["labels"] = json!({})),
        ("a plugin's label", |it| it["metadata"]["labels"]["storage.cloud.atomix.io/plugin"] = json!("web")),
        ("no owner", |it| it["metadata"]["ownerReferences"] = json!([])),
        ("another owner", |it| it["metadata"]["ownerReferences"][0]["kind"] = json!("Deployment")),
        ("not immutable", |it| it["immutable"] = json!(false)),
    ];
    for (name, spoil) in bad {
        let mut object = good.clone();
        spoil(&mut object);
        let refused = by_controller(&object).await.expect_err(name).to_string();
        assert!(refused.contains("ValidatingAdmissionPolicy 'atomix-controller'"), "{name}: {refused}");
    }
    let args = ["delete", "configmap/kube-root-ca.crt", "--as", USER, "--dry-run=server"];
    let refused = admin.run(args).await.expect_err("it is no revision").to_string();
    assert!(refused.contains("ValidatingAdmissionPolicy 'atomix-controller'"), "{refused}");
    let elsewhere = ns.kubectl_fails(["create", "configmap", "it", "--as", USER]).await;
    assert!(elsewhere.to_lowercase().contains("forbidden"), "{elsewhere}");
    let args = ["patch", "configmap/kube-root-ca.crt", "--as", USER, "--type=merge", "-p", r#"{"data":{"a":"b"}}"#];
    let refused = admin.run(args).await.expect_err("none is changed").to_string();
    let by_role = refused.contains("cannot patch"); // unless a plugin's role lets it
    assert!(by_role || refused.contains("ValidatingAdmissionPolicy 'atomix-controller'"), "{refused}");
}

#[tokio::test]
async fn where_the_newest_revision_fails_the_one_that_planned_what_runs_goes_on() {
    let fixture = private_fixture("failing").await;
    fixture.install("raft").await.unwrap();
    let ns = fixture.namespace("failing").await;
    ns.create_ready(&database()).await;
    let guest = || Guest::new(&descriptor("raft", "RaftStorageClass"), &Ok(plan(&ns.name, "db", [])));
    let endless = "(loop $again (br $again)) (unreachable)";
    for (number, function) in (2..).zip(["plan", "validate"]) {
        let revision = guest().does(function, endless).wasm();
        let digest = atomix_sandbox::digest_of(&revision);
        replace(&fixture, &revision).await;
        plugin(&fixture, &ns, "it serves", |it| it["digest"] == digest.as_str()).await;
        let goes_on = |db: &Value| {
            let message = condition(db, "Degraded")["message"].as_str().unwrap_or_default();
            has(db, "Degraded", "True", "PluginFailed")
                && message.contains(&format!("{function} gave no answer"))
                && message.contains("plugin raft 0.1.0")
                && message.contains("goes on with this database")
                && has(db, "Ready", "True", "")
        };
        ns.until("database/db", "the failure is reported, and who goes on", |found| found.iter().any(goes_on)).await;
        is_repaired(&ns).await;
        let uid = ns.one("statefulset/db-1").await["metadata"]["uid"].clone();
        ns.kubectl(["delete", "statefulset/db-1"]).await;
        ns.until("statefulset/db-1", "it is made again", |found| found.iter().any(|it| it["metadata"]["uid"] != uid)).await;
        ns.wait("database/db", "Ready").await;
        ns.kubectl(["scale", "database/db", &format!("--replicas={number}")]).await;
        let ready = format!("{number}/{number}");
        ns.until("database/db", "it is scaled", |found| {
            found.iter().any(|db| db["status"]["ready"] == ready && has(db, "Accepted", "True", ""))
        })
        .await;
    }
    replace(&fixture, &std::fs::read(harness::dist::wasm("raft")).unwrap()).await;
    ns.until("database/db", "the good one serves again", |found| {
        found.iter().any(|db| has(db, "Degraded", "False", "") && has(db, "Ready", "True", ""))
    })
    .await;
}
