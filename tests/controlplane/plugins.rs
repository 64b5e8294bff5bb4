//! Plugins come, are replaced, refused, held and removed while databases run.

use harness::audit::table;
use harness::conditions::{condition, has};
use harness::controller::USER;
use harness::dist;
use harness::eventually::Eventually;
use harness::fixture::{Fixture, Namespace, private_fixture};
use harness::manifests::Manifests;
use harness::reads;
use serde_json::{Value, json};

fn database() -> Manifests {
    Manifests::raft(json!({"replicas": 1})).database("db", 1)
}

/// A StoragePlugin once `holds` is true of it.
async fn plugin(fixture: &Fixture, ns: &Namespace<'_>, sentence: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let client = fixture.plane.client().await.unwrap();
    ns.eventually(sentence, || async {
        let found = reads::one(&client, "kube-system", "storageplugin/raft").await?;
        Ok(if holds(&found) { Eventually::Now(found) } else { Eventually::NotYet(found["status"].to_string()) })
    })
    .await
}

/// Replaces the bytes of the plugin raft.
pub async fn replace(fixture: &Fixture, bytes: &[u8]) {
    let bytes = k8s_openapi::ByteString(bytes.to_vec());
    let patch = json!({"binaryData": {"plugin.wasm.gz": null, "plugin.wasm": bytes}});
    let admin = fixture.kubectl().namespace("kube-system");
    let args = ["patch", "configmap/atomix-plugin-raft", "--type=merge", "--patch-file=/dev/stdin"]; // too long for an argument
    admin.run_with(args, &patch.to_string()).await.unwrap();
}

/// The plugin's bytes with a custom section appended: another digest, the same plans.
pub fn same_with_another_digest() -> Vec<u8> {
    let mut bytes = std::fs::read(dist::wasm("raft")).unwrap();
    bytes.extend([0, 4, 1, b'x', 0, 0]); // section 0 (custom) of four bytes: a name of one, and two more
    bytes
}

/// The same plugin under another name: it would serve the same kind.
pub fn renamed_raft() -> Vec<u8> {
    let (mut bytes, old, new) = (std::fs::read(dist::wasm("raft")).unwrap(), b"raft0.1.0", b"rift0.1.0");
    let at: Vec<usize> = (0..bytes.len() - old.len()).filter(|at| bytes[*at..].starts_with(old)).collect();
    assert!(!at.is_empty());
    at.into_iter().for_each(|at| bytes[at..at + new.len()].copy_from_slice(new));
    bytes
}

/// A ConfigMap that says that it keeps these bytes as a revision, which somebody else than the controller has made.
async fn claim(fixture: &Fixture, plugin: &str, bytes: &[u8]) {
    let digest = atomix_sandbox::digest_of(bytes);
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": format!("atomix-revision-{plugin}-{}", &digest[..12]),
            "labels": {"storage.cloud.atomix.io/revision-of": plugin},
            "annotations": {"storage.cloud.atomix.io/digest": digest, "storage.cloud.atomix.io/version": "0.1.0"},
        },
        "immutable": true,
        "binaryData": {"plugin.wasm": k8s_openapi::ByteString(bytes.to_vec())},
    });
    fixture.kubectl().namespace("kube-system").run_with(["create", "-f", "-"], &map.to_string()).await.unwrap();
}

/// The same plugin with another name for the file that says that a node is ready: same length, so the same component.
pub fn one_that_restarts_pods() -> Vec<u8> {
    let bytes = std::fs::read(dist::wasm("raft")).unwrap();
    let (old, new) = (b"/tmp/atomix-ready", b"/tmp/atomix-READY");
    let at: Vec<usize> = (0..bytes.len() - old.len()).filter(|at| &bytes[*at..*at + old.len()] == old).collect();
    assert!(!at.is_empty());
    let mut other = bytes;
    at.into_iter().for_each(|at| other[at..at + new.len()].copy_from_slice(new));
    other
}

#[tokio::test]
async fn replaced_bytes_take_over_and_where_plans_are_the_same_nothing_is_written() {
    let fixture = private_fixture("replaced").await;
    fixture.install("raft").await.unwrap();
    let ns = fixture.namespace("replaced").await;
    ns.create_ready(&database()).await;
    let before = plugin(&fixture, &ns, "the plugin serves one database", |p| {
        p["status"]["databases"] == 1 && p["status"]["classes"] == 1
    })
    .await;
    ns.eventually("metrics count the plugin and the database by phase", || async {
        let text = fixture.controller.metrics().await?;
        let counted = ["atomix_plugins{phase=\"serving\"} 1", "atomix_databases{phase=\"ready\"} 1"];
        Ok(Eventually::when(counted.iter().all(|line| text.contains(line)), || text))
    })
    .await;
    let mark = fixture.mark().await;
    replace(&fixture, &same_with_another_digest()).await;
    let after = plugin(&fixture, &ns, "the new bytes serve", |p| p["status"]["digest"] != before["status"]["digest"]).await;
    assert_eq!((&after["status"]["phase"], &after["status"]["version"]), (&json!("Serving"), &before["status"]["version"]));
    ns.until("database/db", "the status names the new digest", |found| {
        found.iter().any(|db| db["status"]["plugin"]["digest"] == after["status"]["digest"])
    })
    .await;
    let requests = fixture.requests_since(mark).await;
    let writes = requests.iter().filter(|r| r.user == USER && r.writes() && !r.uri.contains("/status"));
    let resources: Vec<_> = writes.map(|r| format!("{} {}", r.verb, r.resource)).collect();
    assert_eq!(resources, ["create configmaps"], "the revision is kept, and nothing else: {}", table(&requests));
}

#[tokio::test]
async fn refused_bytes_leave_the_old_revision_serving_and_are_reported() {
    let fixture = private_fixture("refused").await;
    fixture.install("raft").await.unwrap();
    let ns = fixture.namespace("refused").await;
    ns.create_ready(&database()).await;
    let good = plugin(&fixture, &ns, "the plugin serves", |p| p["status"]["phase"] == "Serving").await;
    for (name, bytes) in harness::hostile::guests() {
        replace(&fixture, &bytes).await;
        let refused = plugin(&fixture, &ns, &format!("{name} is refused"), |p| {
            p["status"]["phase"] == "Refused" && p["status"]["refusedDigest"] == json!(atomix_sandbox::digest_of(&bytes))
        })
        .await;
        assert_eq!(refused["status"]["digest"], good["status"]["digest"], "{name}: the old revision serves on");
        let message = refused["status"]["message"].as_str().unwrap();
        assert!(message.contains("raft") && message.contains(&atomix_sandbox::digest_of(&bytes)[..12]), "{name}: {message}");
        let database = ns
            .until("database/db", &format!("{name}: the database it concerns reports it"), |found| {
                found.iter().any(|db| {
                    has(db, "PluginCurrent", "False", "Refused") && condition(db, "PluginCurrent")["message"] == message
                })
            })
            .await;
        assert!(has(&database[0], "Ready", "True", ""), "{name}");
        ns.kubectl(["delete", "service/db-1"]).await;
        ns.wait_created("service/db-1").await; // the old revision plans on
    }
    let good = same_with_another_digest();
    pin(&fixture, &"0".repeat(64)).await;
    replace(&fixture, &good).await;
    let digest = atomix_sandbox::digest_of(&good);
    let pinned = plugin(&fixture, &ns, "bytes of another digest than is allowed are refused", |p| {
        p["status"]["phase"] == "Refused" && p["status"]["refusedDigest"] == json!(digest)
    })
    .await;
    let message = pinned["status"]["message"].as_str().unwrap();
    assert!(message.contains("annotation storage.cloud.atomix.io/digest allows \"0000"), "{message}");
    pin(&fixture, &digest).await;
    plugin(&fixture, &ns, "good bytes serve again", |p| p["status"]["phase"] == "Serving").await;
    ns.until("database/db", "the condition goes", |found| found.iter().any(|db| !has(db, "PluginCurrent", "False", "")))
        .await;
}

/// Allows one digest of the plugin raft alone.
async fn pin(fixture: &Fixture, digest: &str) {
    let pin = format!("storage.cloud.atomix.io/digest={digest}");
    let annotate = ["annotate", "--overwrite", "configmap", "atomix-plugin-raft", pin.as_str()];
    fixture.kubectl().namespace("kube-system").run(annotate).await.unwrap();
}

/// Applies a ConfigMap that is labelled as the plugin `label` and holds these bytes.
pub async fn bring(fixture: &Fixture, map: &str, label: &str, bytes: &[u8]) {
    let bytes = k8s_openapi::ByteString(bytes.to_vec());
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": map, "labels": {"storage.cloud.atomix.io/plugin": label}},
        "binaryData": {"plugin.wasm": bytes},
    });
    fixture.kubectl().namespace("kube-system").run_with(["create", "-f", "-"], &map.to_string()).await.unwrap();
}

/// The StoragePlugins by name, once `holds` is true of them.
async fn plugins(fixture: &Fixture, ns: &Namespace<'_>, sentence: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let admin = fixture.kubectl().namespace("kube-system");
    ns.eventually(sentence, || async {
        let printed = admin.run(["get", "storageplugins", "-o", "json"]).await?;
        let found: Value = serde_json::from_str(&printed)?;
        let items = found["items"].as_array().cloned().unwrap_or_default();
        let by_name: Value = items
            .iter()
            .map(|it| (it["metadata"]["name"].as_str().unwrap_or_default().to_owned(), it["status"].clone()))
            .collect::<serde_json::Map<_, _>>()
            .into();
        Ok(if holds(&by_name) { Eventually::Now(by_name) } else { Eventually::NotYet(by_name.to_string()) })
    })
    .await
}

#[tokio::test]
async fn bytes_that_cost_too_much_or_are_labelled_badly_block_no_other() {
    let fixture = private_fixture("costly").await;
    let ns = fixture.namespace("costly").await;
    bring(&fixture, "a-misnamed", "Foo", b"no plugin").await;
    let costly = harness::hostile::memory_hog();
    claim(&fixture, "costly", &costly).await;
    bring(&fixture, "b-costly", "costly", &costly).await;
    plugins(&fixture, &ns, "its loading is seen", |all| all["costly"]["phase"] == "Loading").await;
    fixture.install("raft").await.unwrap();
    ns.create_ready(&database()).await;
    let all = plugins(&fixture, &ns, "what costs too much is refused", |all| all["costly"]["phase"] == "Refused").await;
    let message = all["costly"]["message"].as_str().unwrap();
    assert!(message.ends_with("not a plugin: loading it takes more than 768 MiB of memory"), "{message}");
    assert_eq!(all["raft"]["phase"], "Serving");
    let misnamed = all.as_object().unwrap().iter().find(|(name, _)| name.starts_with("foo-")).expect("it is reported").1;
    let message = misnamed["message"].as_str().unwrap();
    assert!(message.contains("of ConfigMap a-misnamed is \"Foo\"; at most 40 lower case letters"), "{message}");
    let pid = fixture.controller.pid().expect("it runs");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")).expect("/proc names it");
    assert!(peak.parse::<u64>().unwrap() < 300 << 10, "{peak} kB were resident: another process was to compile it");
}

#[tokio::test]
async fn a_role_that_grants_less_is_in_effect_at_once_whatever_other_roles_grant() {
    let fixture = private_fixture("narrowed").await;
    fixture.install("raft").await.unwrap();
    fixture.install("cache").await.unwrap(); // its role grants Services too
    let ns = fixture.namespace("narrowed").await;
    ns.create_ready(&database()).await;
    let admin = fixture.kubectl();
    let role = admin.run(["get", "clusterrole/atomix-plugin-raft", "-o", "json"]).await.unwrap();
    admin.run(["delete", "clusterrole/atomix-plugin-raft"]).await.unwrap();
    plugins(&fixture, &ns, "the role is missed", |all| all["raft"]["phase"] == "Refused").await;
    ns.kubectl(["delete", "service/db-1"]).await;
    let database = ns
        .until("database/db", "the plan is not admitted", |found| {
            found.iter().any(|db| has(db, "Degraded", "True", "PluginFailed"))
        })
        .await;
    let message = condition(&database[0], "Degraded")["message"].as_str().unwrap();
    assert!(message.contains("ClusterRole atomix-plugin-raft does not grant create and patch of"), "{message}");
    assert!(ns.kubectl(["get", "services", "-o", "name"]).await.lines().all(|name| name != "service/db-1"));
    let unreachable = |found: &[Value]| found.iter().any(|it| has(it, "Ready", "False", "NotFound"));
    ns.until("partition/db-1", "nobody reaches it, though its members are ready", unreachable).await;
    let mut role: Value = serde_json::from_str(&role).unwrap();
    role["metadata"] = json!({"name": role["metadata"]["name"], "labels": role["metadata"]["labels"]});
    admin.run_with(["create", "-f", "-"], &role.to_string()).await.unwrap();
    ns.wait_created("service/db-1").await;
    ns.wait("database/db", "Ready").await;
}

#[tokio::test]
async fn a_revision_that_would_restart_pods_is_held_until_it_is_accepted() {
    let fixture = private_fixture("held").await;
    fixture.install("raft").await.unwrap();
    let ns = fixture.namespace("held").await;
    ns.create_ready(&database()).await;
    let pod = ns.one("pod/db-1-0").await["metadata"]["uid"].clone();
    let set = ns.one("statefulset/db-1").await;
    replace(&fixture, &one_that_restarts_pods()).await;
    let database = ns
        .until("database/db", "the plan is held", |found| found.iter().any(|db| has(db, "Accepted", "False", "Held")))
        .await;
    let message = condition(&database[0], "Accepted")["message"].as_str().unwrap();
    assert!(message.contains("restart the pods of StatefulSet db-1"), "{message}");
    assert_eq!(ns.one("statefulset/db-1").await["metadata"]["generation"], set["metadata"]["generation"]);
    assert_eq!(ns.one("pod/db-1-0").await["metadata"]["uid"], pod);
    // Meanwhile what runs is repaired, and edited, by the revision that planned it.
    let uid = ns.one("service/db-1").await["metadata"]["uid"].clone();
    ns.kubectl(["delete", "service/db-1"]).await;
    ns.until("service/db-1", "it is made again", |found| found.iter().any(|it| it["metadata"]["uid"] != uid)).await;
    ns.kubectl(["scale", "statefulset/db-1", "--replicas=0"]).await;
    ns.until("statefulset/db-1", "one replica again", |found| found.iter().any(|set| set["spec"]["replicas"] == 1)).await;
    ns.create(Manifests::on("RaftStorageClass", "raft").database("new", 1)).await;
    ns.until("statefulset/new-1", "a new database is of the newest revision", |found| {
        found.iter().any(|set| set["spec"]["template"].to_string().contains("/tmp/atomix-READY"))
    })
    .await;
    let output = ns.kubectl_output(&["scale", "database/db", "--replicas=2", "--dry-run=server"], None).await;
    assert!(!output.contains("Warning"), "an edit restarts nothing of what is held: {output}");
    ns.kubectl(["patch", "database/db", "--type=merge", "-p", r#"{"metadata":{"labels":{"team":"red"}}}"#]).await;
    let found = ns.until("service/db-1", "an edit is let through", |found| {
        found.iter().any(|it| it["metadata"]["labels"]["team"] == "red")
    });
    found.await;
    let database = ns.one("database/db").await;
    assert!(has(&database, "Accepted", "False", "Held"), "{database:#}");
    let of_new = ns.one("database/new").await["status"]["plugin"]["digest"].clone();
    assert_ne!(database["status"]["plugin"]["digest"], of_new, "the status names the revision that planned what runs");
    let template = ns.one("statefulset/db-1").await["spec"]["template"].to_string();
    assert!(template.contains("/tmp/atomix-ready"), "{template}");
    let before = condition(&database, "Accepted")["message"].clone();
    ns.kubectl(["patch", "raftstorageclass/raft", "--type=merge", "-p", r#"{"spec":{"snapshotThreshold":9}}"#]).await;
    let edited = ns
        .until("database/db", "an edit of the class is let through, and another plan is held", |found| {
            let is_edited =
                |db: &&Value| db["status"]["plan"]["classGeneration"] == 2 && has(db, "Accepted", "False", "Held");
            found.iter().find(is_edited).is_some_and(|db| condition(db, "Accepted")["message"] != before)
        })
        .await;
    let message = condition(&edited[0], "Accepted")["message"].as_str().unwrap();
    let hash = message.split("cloud.atomix.io/accept=").nth(1).unwrap().split_whitespace().next().unwrap();
    ns.kubectl(["annotate", "database/db", &format!("cloud.atomix.io/accept={hash}")]).await;
    ns.until("statefulset/db-1", "the plan goes through", |found| {
        found.iter().any(|set| set["spec"]["template"].to_string().contains("/tmp/atomix-READY"))
    })
    .await;
    ns.until("database/db", "nothing is held", |found| {
        found.iter().any(|db| has(db, "Accepted", "True", "") && has(db, "Ready", "True", ""))
    })
    .await;
}

#[tokio::test]
async fn what_a_plugin_may_write_is_its_roles_rules_and_the_first_of_two_config_maps_counts() {
    let fixture = private_fixture("grants").await;
    fixture.install("raft").await.unwrap();
    let ns = fixture.namespace("grants").await;
    ns.create_ready(&database()).await;
    let admin = fixture.kubectl().namespace("kube-system");
    let role = admin.run(["get", "clusterrole/atomix-plugin-raft", "-o", "json"]).await.unwrap();
    let mut poor: Value = serde_json::from_str(&role).unwrap();
    for rule in poor["rules"].as_array_mut().unwrap() {
        if rule["resources"].as_array().unwrap().contains(&json!("poddisruptionbudgets")) {
            rule["verbs"] = json!(["get", "list", "watch"]);
        }
    }
    admin.run_with(["replace", "-f", "-"], &poor.to_string()).await.unwrap();
    let refused = plugin(&fixture, &ns, "it wants more than it was granted", |p| p["status"]["phase"] == "Refused").await;
    assert!(refused["status"]["message"].as_str().unwrap().contains("poddisruptionbudgets"), "{refused}");
    let text = std::fs::read_to_string(dist::plugin("raft")).unwrap();
    admin.run_with(["apply", "-f", "-"], &text).await.unwrap();
    plugin(&fixture, &ns, "granted again, it serves", |p| p["status"]["phase"] == "Serving").await;

    let map: Value =
        serde_json::from_str(&admin.run(["get", "configmap/atomix-plugin-raft", "-o", "json"]).await.unwrap()).unwrap();
    let second = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "second", "labels": map["metadata"]["labels"]}, "binaryData": map["binaryData"]});
    admin.run_with(["create", "-f", "-"], &second.to_string()).await.unwrap();
    let ignored = plugin(&fixture, &ns, "the younger ConfigMap is reported", |p| p["status"]["phase"] == "Refused").await;
    let message = ignored["status"]["message"].as_str().unwrap();
    assert!(message.contains("ConfigMap second is ignored"), "{message}");
    ns.wait("database/db", "Ready").await;
}

#[tokio::test]
async fn a_plugin_that_emits_only_a_deployment_and_a_service_is_served_like_any_other() {
    let fixture = private_fixture("web").await;
    fixture.install("web").await.unwrap();
    let ns = fixture.namespace("web").await;
    ns.create_ready(&Manifests::class("WebStorageClass", "web", json!({"image": "web"})).database("site", 1)).await;
    let deployment = ns.get("deployments").await;
    assert_eq!(deployment.len(), 1);
    let name = deployment[0]["metadata"]["name"].as_str().unwrap().to_owned();
    ns.kubectl(["scale", &format!("deployment/{name}"), "--replicas=0"]).await;
    ns.until(&format!("deployment/{name}"), "drift is repaired", |found| found.iter().any(|it| it["spec"]["replicas"] != 0))
        .await;
    ns.wait("database/site", "Ready").await;
}
