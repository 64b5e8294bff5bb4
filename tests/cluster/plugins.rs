//! Plugins come, are replaced, refused, held and removed while databases run.

use harness::audit::table;
use harness::controller::USER;
use harness::dist;
use harness::eventually::Eventually;
use harness::world::{Namespace, World, private_world};
use serde_json::{Value, json};

use super::example::{condition, has};

const DATABASE: &str = r"
apiVersion: storage.cloud.atomix.io/v1beta1
kind: RaftStorageClass
metadata: {name: raft}
spec: {replicas: 1}
---
apiVersion: cloud.atomix.io/v1beta3
kind: Database
metadata: {name: db}
spec:
  partitions: 1
  storageClass: {kind: RaftStorageClass, name: raft}
";

/// A StoragePlugin once it is as `holds` says.
async fn plugin(world: &World, ns: &Namespace<'_>, sentence: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let admin = world.kubectl().namespace("kube-system");
    ns.eventually(sentence, || async {
        let printed = admin.run(["get", "storageplugin/raft", "-o", "json"]).await?;
        let found: Value = serde_json::from_str(&printed)?;
        Ok(if holds(&found) { Eventually::Now(found) } else { Eventually::NotYet(found["status"].to_string()) })
    })
    .await
}

/// Replaces the bytes of the plugin raft.
async fn replace(world: &World, bytes: &[u8]) {
    let bytes = k8s_openapi::ByteString(bytes.to_vec());
    let patch = json!({"binaryData": {"plugin.wasm.gz": null, "plugin.wasm": bytes}});
    let admin = world.kubectl().namespace("kube-system");
    let args = ["patch", "configmap/atomix-plugin-raft", "--type=merge", "--patch-file=/dev/stdin"]; // too long for an argument
    admin.run_with(args, &patch.to_string()).await.unwrap();
}

/// The plugin's bytes with a custom section appended: another digest, the same plans.
fn same_with_another_digest() -> Vec<u8> {
    let mut bytes = std::fs::read(dist::wasm("raft")).unwrap();
    bytes.extend([0, 4, 1, b'x', 0, 0]); // section 0 (custom) of four bytes: a name of one, and two more
    bytes
}

#[tokio::test]
async fn replaced_bytes_take_over_and_where_plans_are_the_same_nothing_is_written() {
    let world = private_world("replaced").await;
    world.install("raft").await.unwrap();
    let ns = world.namespace("replaced").await;
    ns.create(DATABASE).await;
    ns.wait("database/db", "Ready").await;
    let before = plugin(&world, &ns, "the plugin serves one database", |p| {
        p["status"]["databases"] == 1 && p["status"]["classes"] == 1
    })
    .await;
    ns.eventually("metrics count the plugin and the database by phase", || async {
        let text = world.controller.metrics().await?;
        let counted = ["atomix_plugins{phase=\"serving\"} 1", "atomix_databases{phase=\"ready\"} 1"];
        Ok(Eventually::when(counted.iter().all(|line| text.contains(line)), || text))
    })
    .await;
    let mark = world.mark().await;
    replace(&world, &same_with_another_digest()).await;
    let after = plugin(&world, &ns, "the new bytes serve", |p| p["status"]["digest"] != before["status"]["digest"]).await;
    assert_eq!((&after["status"]["phase"], &after["status"]["version"]), (&json!("Serving"), &before["status"]["version"]));
    ns.until("database/db", "the status names the new digest", |found| {
        found.iter().any(|db| db["status"]["plugin"]["digest"] == after["status"]["digest"])
    })
    .await;
    let requests = world.requests_since(mark).await;
    let writes: Vec<_> = requests.iter().filter(|r| r.user == USER && r.writes() && !r.uri.contains("/status")).collect();
    assert!(writes.is_empty(), "{}", table(&requests));
}

#[tokio::test]
async fn refused_bytes_leave_the_old_revision_serving_and_say_why() {
    let world = private_world("refused").await;
    world.install("raft").await.unwrap();
    let ns = world.namespace("refused").await;
    ns.create(DATABASE).await;
    ns.wait("database/db", "Ready").await;
    let good = plugin(&world, &ns, "the plugin serves", |p| p["status"]["phase"] == "Serving").await;
    for (name, bytes) in super::hostile::guests() {
        replace(&world, &bytes).await;
        let refused = plugin(&world, &ns, &format!("{name} is refused"), |p| {
            p["status"]["phase"] == "Refused"
                && p["status"]["refusedDigest"] == json!(atomix_controller::sandbox::digest_of(&bytes))
        })
        .await;
        assert_eq!(refused["status"]["digest"], good["status"]["digest"], "{name}: the old revision serves on");
        let message = refused["status"]["message"].as_str().unwrap();
        assert!(
            message.contains("raft") && message.contains(&atomix_controller::sandbox::digest_of(&bytes)[..12]),
            "{name}: {message}"
        );
        let database = ns
            .until("database/db", &format!("{name}: the database it concerns says so"), |found| {
                found.iter().any(|db| {
                    has(db, "PluginCurrent", "False", "Refused") && condition(db, "PluginCurrent")["message"] == message
                })
            })
            .await;
        assert!(has(&database[0], "Ready", "True", ""), "{name}");
        ns.kubectl(["delete", "service/db-1"]).await;
        ns.wait_created("service/db-1").await; // the old revision plans on
    }
    replace(&world, &same_with_another_digest()).await;
    plugin(&world, &ns, "good bytes serve again", |p| p["status"]["phase"] == "Serving").await;
    ns.until("database/db", "the condition goes", |found| found.iter().any(|db| !has(db, "PluginCurrent", "False", "")))
        .await;
}

#[tokio::test]
async fn a_revision_that_would_restart_pods_is_held_until_it_is_accepted() {
    let world = private_world("held").await;
    world.install("raft").await.unwrap();
    let ns = world.namespace("held").await;
    ns.create(DATABASE).await;
    ns.wait("database/db", "Ready").await;
    let pod = ns.one("pod/db-1-0").await["metadata"]["uid"].clone();
    let set = ns.one("statefulset/db-1").await;
    // The same plugin with another name for the file that says that a node is ready: same length, so the same component.
    let bytes = std::fs::read(dist::wasm("raft")).unwrap();
    let (old, new) = (b"/tmp/atomix-ready", b"/tmp/atomix-READY");
    let at: Vec<usize> = (0..bytes.len() - old.len()).filter(|at| &bytes[*at..*at + old.len()] == old).collect();
    assert!(!at.is_empty());
    let mut other = bytes;
    at.into_iter().for_each(|at| other[at..at + new.len()].copy_from_slice(new));
    replace(&world, &other).await;
    let database = ns
        .until("database/db", "the plan is held", |found| found.iter().any(|db| has(db, "Accepted", "False", "Held")))
        .await;
    let message = condition(&database[0], "Accepted")["message"].as_str().unwrap();
    assert!(message.contains("restart the pods of StatefulSet db-1"), "{message}");
    assert_eq!(ns.one("statefulset/db-1").await["metadata"]["generation"], set["metadata"]["generation"]);
    assert_eq!(ns.one("pod/db-1-0").await["metadata"]["uid"], pod);
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
    let world = private_world("grants").await;
    world.install("raft").await.unwrap();
    let ns = world.namespace("grants").await;
    ns.create(DATABASE).await;
    ns.wait("database/db", "Ready").await;
    let admin = world.kubectl().namespace("kube-system");
    let role = admin.run(["get", "clusterrole/atomix-plugin-raft", "-o", "json"]).await.unwrap();
    let mut poor: Value = serde_json::from_str(&role).unwrap();
    for rule in poor["rules"].as_array_mut().unwrap() {
        if rule["resources"].as_array().unwrap().contains(&json!("poddisruptionbudgets")) {
            rule["verbs"] = json!(["get", "list", "watch"]);
        }
    }
    admin.run_with(["replace", "-f", "-"], &poor.to_string()).await.unwrap();
    let refused = plugin(&world, &ns, "it wants more than it was granted", |p| p["status"]["phase"] == "Refused").await;
    assert!(refused["status"]["message"].as_str().unwrap().contains("poddisruptionbudgets"), "{refused}");
    let text = std::fs::read_to_string(dist::plugin("raft")).unwrap();
    admin.run_with(["apply", "-f", "-"], &text).await.unwrap();
    plugin(&world, &ns, "granted again, it serves", |p| p["status"]["phase"] == "Serving").await;

    let map: Value =
        serde_json::from_str(&admin.run(["get", "configmap/atomix-plugin-raft", "-o", "json"]).await.unwrap()).unwrap();
    let second = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "second", "labels": map["metadata"]["labels"]}, "binaryData": map["binaryData"]});
    admin.run_with(["create", "-f", "-"], &second.to_string()).await.unwrap();
    let ignored = plugin(&world, &ns, "the younger ConfigMap is reported", |p| p["status"]["phase"] == "Refused").await;
    let message = ignored["status"]["message"].as_str().unwrap();
    assert!(message.contains("ConfigMap second is ignored"), "{message}");
    ns.wait("database/db", "Ready").await;
}

#[tokio::test]
async fn a_plugin_that_emits_only_a_deployment_and_a_service_is_served_like_any_other() {
    let world = private_world("web").await;
    world.install("web").await.unwrap();
    let ns = world.namespace("web").await;
    ns.create(
        "apiVersion: storage.cloud.atomix.io/v1beta1\nkind: WebStorageClass\nmetadata: {name: web}\nspec: {image: web}\n",
    )
    .await;
    ns.create(
        "apiVersion: cloud.atomix.io/v1beta3\nkind: Database\nmetadata: {name: site}\nspec:\n  partitions: 1\n  storageClass: {kind: WebStorageClass, name: web}\n",
    )
    .await;
    ns.wait("database/site", "Ready").await;
    let deployment = ns.get("deployments").await;
    assert_eq!(deployment.len(), 1);
    let name = deployment[0]["metadata"]["name"].as_str().unwrap().to_owned();
    ns.kubectl(["scale", &format!("deployment/{name}"), "--replicas=0"]).await;
    ns.until(&format!("deployment/{name}"), "drift is repaired", |found| found.iter().any(|it| it["spec"]["replicas"] != 0))
        .await;
    ns.wait("database/site", "Ready").await;
}
