//! Revisions of a plugin are kept in the cluster: what served serves on, whatever becomes of the process and of what brought it.

use harness::conditions::{condition, has};
use harness::controller::USER;
use harness::eventually::Eventually;
use harness::fixture::{Fixture, Namespace, private_fixture, shared_fixture};
use harness::hostile::guest::{Guest, descriptor, plan};
use harness::manifests::Manifests;
use harness::reads;
use serde_json::{Value, json};

use super::plugins::{one_that_restarts_pods, replace, same_with_another_digest};

fn database() -> Manifests {
    Manifests::raft(json!({"replicas": 1})).database("db", 1)
}

/// The status of the StoragePlugin raft once `holds` is true of it.
async fn plugin(fixture: &Fixture, ns: &Namespace<'_>, sentence: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let client = fixture.plane.client().await.unwrap();
    ns.eventually(sentence, || async {
        let status = reads::one(&client, "kube-system", "storageplugin/raft").await?["status"].take();
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

/// Sets the annotation that names a revision, or takes it away.
async fn name(fixture: &Fixture, ns: &Namespace<'_>, object: &str, value: Option<&str>) {
    let annotation = match value {
        Some(value) => format!("storage.cloud.atomix.io/revision={value}"),
        None => "storage.cloud.atomix.io/revision-".to_owned(),
    };
    let args = ["annotate", "--overwrite", object, &annotation];
    match object.starts_with("storageplugin") {
        true => drop(fixture.kubectl().namespace("kube-system").run(args).await.unwrap()),
        false => drop(ns.kubectl(args).await),
    }
}

#[tokio::test]
async fn a_plugin_goes_back_to_the_revision_that_is_named_and_stays_there() {
    let fixture = private_fixture("goesback").await;
    fixture.install("raft").await.unwrap();
    let ns = fixture.namespace("goesback").await;
    ns.create_ready(&database()).await;
    let first = plugin(&fixture, &ns, "it serves a database", |it| it["revisions"][0]["databases"] == 1).await;
    replace(&fixture, &same_with_another_digest()).await;
    let runs = |digest: &Value| {
        let digest = digest.clone();
        move |found: &[Value]| found.iter().any(|db| db["status"]["plugin"]["digest"] == digest)
    };
    let second = plugin(&fixture, &ns, "the newer serves", |it| it["digest"] != first["digest"]).await;
    ns.until("database/db", "the newer plans it", runs(&second["digest"])).await;
    ns.settled().await;

    let mark = fixture.mark().await;
    name(&fixture, &ns, "storageplugin/raft", first["shortDigest"].as_str()).await;
    let back = plugin(&fixture, &ns, "the older serves", |it| it["phase"] == "Pinned").await;
    assert_eq!((&back["digest"], &back["version"]), (&first["digest"], &first["version"]));
    assert!(back["message"].as_str().unwrap().contains("storage.cloud.atomix.io/revision"), "{back:#}");
    let object = json!({"status": back});
    assert!(has(&object, "Ready", "True", "Serving") && !has(&object, "Stalled", "True", ""), "{object:#}");
    let ready = condition(&object, "Ready")["message"].as_str().unwrap();
    assert!(ready.contains(first["shortDigest"].as_str().unwrap()), "it names the one that serves now: {ready}");
    ns.until("database/db", "the older plans it", runs(&first["digest"])).await;
    ns.until("database/db", "it reports it", |found| found.iter().any(|db| has(db, "PluginCurrent", "False", "Pinned")))
        .await;
    let requests = fixture.requests_since(mark).await;
    let ours = requests.iter().filter(|it| it.user == USER && it.writes());
    let objects: Vec<_> = ours.filter(|it| !it.uri.contains("/status") && !it.uri.contains("/events")).collect();
    assert!(objects.is_empty(), "{objects:?}");

    // Newer bytes are tried and kept, and serve nobody; neither does a restart change that.
    let bytes = one_that_restarts_pods();
    replace(&fixture, &bytes).await;
    let digest = atomix_sandbox::digest_of(&bytes);
    let lists = |it: &Value| it["revisions"].as_array().is_some_and(|all| all.iter().any(|one| one["digest"] == digest));
    plugin(&fixture, &ns, "the newest is listed", |it| lists(it) && it["phase"] == "Pinned").await;
    fixture.controller.restart().await.unwrap();
    is_repaired(&ns).await;
    let same = plugin(&fixture, &ns, "the older serves still", |it| it["phase"] == "Pinned" && lists(it)).await;
    assert_eq!(same["digest"], first["digest"]);
    assert!(runs(&first["digest"])(&[ns.one("database/db").await]));

    // One that is not kept is none, and what serves serves on.
    name(&fixture, &ns, "storageplugin/raft", Some("0123456789ab")).await;
    let none = plugin(&fixture, &ns, "there is none such", |it| it["phase"] == "RevisionNotKept").await;
    assert_eq!(none["digest"], first["digest"]);
    let message = none["message"].as_str().unwrap();
    assert!(message.contains(first["shortDigest"].as_str().unwrap()) && message.contains(&digest[..12]), "{message}");
    assert!(has(&json!({"status": none}), "Stalled", "True", "RevisionNotKept"), "{none:#}");
    is_repaired(&ns).await;

    name(&fixture, &ns, "storageplugin/raft", None).await;
    plugin(&fixture, &ns, "the newest serves", |it| it["phase"] == "Serving" && it["digest"] == digest.as_str()).await;
    ns.until("database/db", "what would restart its pods is held", |found| {
        found.iter().any(|db| has(db, "Accepted", "False", "Held") && !has(db, "PluginCurrent", "False", ""))
    })
    .await;
}

#[tokio::test]
async fn a_database_is_planned_by_the_revision_that_it_names() {
    let fixture = private_fixture("names").await;
    fixture.install("raft").await.unwrap();
    let ns = fixture.namespace("names").await;
    ns.create_ready(&database()).await;
    ns.create(&Manifests::on("RaftStorageClass", "raft").database("other", 1)).await;
    ns.wait("database/other", "Ready").await;
    let first = plugin(&fixture, &ns, "it serves both", |it| it["revisions"][0]["databases"] == 2).await;
    let digest = first["digest"].as_str().unwrap();

    // It is named beforehand, and then a newer one serves the other.
    name(&fixture, &ns, "database/db", Some(&digest[..12])).await;
    plugin(&fixture, &ns, "it is counted", |it| it["revisions"][0]["pinned"] == 1).await;
    replace(&fixture, &same_with_another_digest()).await;
    let second = plugin(&fixture, &ns, "the newer serves", |it| it["digest"] != digest).await;
    let runs = |wanted: &Value| {
        let wanted = wanted.clone();
        move |found: &[Value]| found.iter().any(|db| db["status"]["plugin"]["digest"] == wanted)
    };
    ns.until("database/other", "the newer plans it", runs(&second["digest"])).await;
    let pinned = |found: &[Value]| found.iter().any(|db| has(db, "PluginCurrent", "False", "Pinned"));
    ns.until("database/db", "it says that it is pinned", pinned).await;
    assert!(runs(&first["digest"])(&[ns.one("database/db").await]));

    // That stays so over a restart; it is repaired and edited by that one.
    fixture.controller.restart().await.unwrap();
    is_repaired(&ns).await;
    ns.kubectl(["scale", "database/db", "--replicas=2"]).await;
    ns.until("database/db", "it is scaled", |found| found.iter().any(|db| db["status"]["ready"] == "2/2")).await;
    assert!(runs(&first["digest"])(&[ns.one("database/db").await]));

    // One that is not kept: the one that planned what runs goes on.
    name(&fixture, &ns, "database/db", Some("0123456789ab")).await;
    ns.until("database/db", "there is none such", |found| {
        found.iter().any(|db| {
            let message = condition(db, "Accepted")["message"].as_str().unwrap_or_default();
            has(db, "Accepted", "False", "RevisionNotKept")
                && message.contains(&digest[..12])
                && has(db, "Ready", "True", "")
        })
    })
    .await;
    is_repaired(&ns).await;
    let metadata = json!({"name": "fresh", "annotations": {"storage.cloud.atomix.io/revision": "0123456789ab"}});
    ns.create(&Manifests::on("RaftStorageClass", "raft").labelled_database(metadata, 1)).await;
    ns.until("database/fresh", "nothing plans it", |found| {
        found.iter().any(|db| has(db, "Accepted", "False", "RevisionNotKept") && db["status"]["plan"].is_null())
    })
    .await;
    name(&fixture, &ns, "database/fresh", Some(digest)).await;
    ns.until("database/fresh", "the older plans it", runs(&first["digest"])).await;

    // Without the annotation it goes to what serves.
    name(&fixture, &ns, "database/db", None).await;
    ns.until("database/db", "the newer plans it", |found| runs(&second["digest"])(found) && !pinned(found)).await;
}
