//! Why members are missing, as real nodes and Kubernetes' own controllers report it: several databases that cannot start at
//! once, and one that keeps exiting until its class is corrected.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::TryStreamExt;
use harness::deployed_controller::DeployedController;
use harness::eventually::{Eventually, eventually};
use harness::fixture::{Namespace, fixture_on_nodes};
use k8s_openapi::jiff::Timestamp;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};

/// How long after Kubernetes reported a cause the Database has it.
const REPORTED_WITHIN_SECS: i64 = 30;
/// How long a server that keeps exiting may take for five exits (the kubelet waits 10, 20, 40 and 80 s between them), and Kubernetes for
/// its first try of something.
const LIMIT: Duration = Duration::from_secs(360);

/// A database on a class of this kind and spec, both of this name.
fn database(name: &str, kind: &str, spec: Value) -> String {
    let class =
        json!({"apiVersion": "storage.cloud.atomix.io/v1beta1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    let spec = json!({"partitions": 1, "storageClass": {"kind": kind, "name": name}});
    let database =
        json!({"apiVersion": "cloud.atomix.io/v1beta3", "kind": "Database", "metadata": {"name": name}, "spec": spec});
    format!("{class}\n---\n{database}\n")
}

fn condition<'a>(status: &'a Value, type_: &str) -> &'a Value {
    let all = status["conditions"].as_array().into_iter().flatten();
    all.into_iter().find(|condition| condition["type"] == type_).unwrap_or(&Value::Null)
}

/// Waits until a database is degraded for this reason, in these words; Kubernetes itself may take a while on a busy machine.
async fn until_degraded(ns: &Namespace<'_, DeployedController>, name: &str, reason: &str, words: &str) {
    let sentence = format!("{name} reports {reason}: {words}");
    let degraded = eventually(LIMIT, &sentence, || async {
        let database = ns.one(&format!("database/{name}")).await;
        let degraded = condition(&database["status"], "Degraded");
        let holds = degraded["message"].as_str().is_some_and(|message| message.contains(words));
        let holds = holds && degraded["status"] == "True" && degraded["reason"] == reason;
        Ok(Eventually::when(holds, || database["status"].to_string()))
    });
    ns.must(degraded.await).await;
}

/// Asserts that a database was degraded soon after Kubernetes' first Event of this object.
async fn soon(ns: &Namespace<'_, DeployedController>, name: &str, object: &str, reason: &str) {
    let second = |time: &Value| time.as_str().and_then(|time| time.parse::<Timestamp>().ok()).map(Timestamp::as_second);
    let events = ns.get("events").await;
    let of = events.iter().filter(|it| it["involvedObject"]["name"] == object && it["reason"] == reason);
    let occurred = of.filter_map(|it| second(&it["firstTimestamp"]).or_else(|| second(&it["eventTime"]))).min();
    let database = ns.one(&format!("database/{name}")).await;
    let reported = second(&condition(&database["status"], "Degraded")["lastTransitionTime"]).expect("it is degraded");
    let occurred = occurred.unwrap_or_else(|| panic!("no event {reason} of {object}"));
    assert!(reported - occurred <= REPORTED_WITHIN_SECS, "{name}: occurred at {occurred}, reported at {reported}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_that_cannot_start_report_why_and_one_that_keeps_exiting_is_not_better_before_it_is() {
    let nodes = fixture_on_nodes().await;
    let (ns, limited) = (nodes.fixture.namespace("causes").await, nodes.fixture.namespace("causes-limited").await);
    let quota = r#"{"limits.cpu": "2", "limits.memory": 1Gi, "requests.cpu": "1", "requests.memory": 1Gi}"#;
    limited
        .create(&format!("apiVersion: v1\nkind: ResourceQuota\nmetadata: {{name: team}}\nspec: {{hard: {quota}}}\n"))
        .await;
    limited
        .until("resourcequota/team", "the quota is in force", |found| found.iter().any(|it| !it["status"]["hard"].is_null()))
        .await;

    let volume = |class: &str| {
        let spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": class, "resources": {"requests": {"storage": "64Mi"}}});
        json!({"spec": spec})
    };
    limited.create(&database("quota", "EtcdStorageClass", json!({"replicas": 1}))).await;
    ns.create(&database("priority", "EtcdStorageClass", json!({"replicas": 1, "priorityClassName": "gold"}))).await;
    ns.create(&database("tls", "EtcdStorageClass", json!({"replicas": 1, "clientTls": {"secretName": "not-there"}}))).await;
    ns.create(&database("volume", "ValkeyStorageClass", json!({"replicas": 0, "volumeClaimTemplate": volume("nowhere")})))
        .await;
    ns.create(&database(
        "node",
        "ValkeyStorageClass",
        json!({"replicas": 0, "nodeSelector": {"kubernetes.io/hostname": "nowhere"}}),
    ))
    .await;
    ns.create(&database("password", "ValkeyStorageClass", json!({"replicas": 0, "password": {"secretName": "not-there"}})))
        .await;
    ns.create(&database("image", "ValkeyStorageClass", json!({"replicas": 0, "image": "atomix.test/nowhere:1"}))).await;
    until_degraded(&limited, "quota", "FailedCreate", "failed quota: team").await;
    until_degraded(&ns, "priority", "FailedCreate", "no PriorityClass with name gold was found").await;
    until_degraded(&ns, "tls", "FailedMount", "secret \"not-there\" not found").await;
    until_degraded(&ns, "volume", "ProvisioningFailed", "nowhere").await;
    until_degraded(&ns, "node", "Unschedulable", "nodes are available").await;
    until_degraded(&ns, "password", "NoPassword", "there is no key password of Secret not-there").await;
    until_degraded(&ns, "image", "ImagePullBackOff", "image atomix.test/nowhere:1 cannot be pulled").await;
    soon(&limited, "quota", "quota-1", "FailedCreate").await;
    soon(&ns, "priority", "priority-1", "FailedCreate").await;
    soon(&ns, "tls", "tls-1-0", "FailedMount").await;

    // What was missing comes: nothing else is needed.
    ns.kubectl(["create", "priorityclass", "gold", "--value=1000"]).await;
    ns.create("apiVersion: v1\nkind: Secret\nmetadata: {name: not-there}\nstringData: {password: secret}\n").await;
    limited.kubectl(["delete", "resourcequota", "team"]).await;
    for (ns, name) in [(&ns, "priority"), (&ns, "password"), (&limited, "quota")] {
        ns.kubectl(["annotate", "statefulset", &format!("{name}-1"), "test/wake=now"]).await; // else its controller waits, more and more
        let recovers = eventually(LIMIT, "it is ready and nothing is missing", || async {
            let database = ns.one(&format!("database/{name}")).await;
            let holds = |type_, status| condition(&database["status"], type_)["status"] == status;
            Ok(Eventually::when(holds("Ready", "True") && holds("Degraded", "False"), || database["status"].to_string()))
        });
        ns.must(recovers.await).await;
    }
    ns.kubectl(["delete", "database", "--all"]).await;
    limited.kubectl(["delete", "database", "--all"]).await;
    keeps_exiting(&nodes.fixture.namespace("exits").await).await;
}

/// A server that refuses its configuration, until the class is corrected.
async fn keeps_exiting(ns: &Namespace<'_, DeployedController>) {
    let statuses = Arc::new(Mutex::new(Vec::new()));
    let (recorded, databases) = (statuses.clone(), ns.api("cloud.atomix.io", "v1beta3", "Database", "databases"));
    let listener = tokio::spawn(async move {
        let mut changes = std::pin::pin!(watcher(databases, watcher::Config::default()).default_backoff().applied_objects());
        while let Ok(Some(database)) = changes.try_next().await {
            recorded.lock().unwrap().push(database.data["status"].clone());
        }
    });
    ns.create(&database("exits", "ValkeyStorageClass", json!({"replicas": 0, "config": {"maxmemory": "100Mi"}}))).await;
    ns.until("database/exits", "it keeps exiting", |found| {
        found.iter().any(|it| condition(&it["status"], "Degraded")["reason"] == "ConfigRefused")
    })
    .await;
    let since = statuses.lock().unwrap().len();
    let exits = eventually(LIMIT, "it has exited five times", || async {
        let pod = ns.one("pod/exits-1-0").await;
        let restarts = pod["status"]["containerStatuses"][0]["restartCount"].as_u64();
        Ok(Eventually::when(restarts >= Some(5), || format!("{restarts:?}")))
    });
    ns.must(exits.await).await;
    let later = statuses.lock().unwrap()[since..].to_vec();
    assert!(later.iter().all(|it| condition(it, "Degraded")["reason"] == "ConfigRefused"), "{later:#?}");
    assert!(later.len() <= 2, "{} writes while it exits three times: {later:#?}", later.len());

    ns.kubectl([
        "patch",
        "valkeystorageclass/exits",
        "--type=merge",
        "--patch",
        r#"{"spec":{"config":{"maxmemory":"100mb"}}}"#,
    ])
    .await;
    let generation = ns.kubectl(["get", "valkeystorageclass/exits", "-o=jsonpath={.metadata.generation}"]).await;
    let seen = format!("--for=jsonpath={{.status.storageClass.generation}}={}", generation.trim());
    ns.kubectl(["wait", &seen, "database/exits", "--timeout=60s"]).await;
    ns.kubectl(["wait", "--for=condition=Progressing=false", "database/exits", "--timeout=120s"]).await;
    assert_eq!(ns.one("pod/exits-1-0").await["status"]["containerStatuses"][0]["ready"], true, "kubectl has waited for it");
    ns.until("database/exits", "it has recovered", |found| {
        found.iter().any(|it| condition(&it["status"], "Degraded")["status"] == "False")
    })
    .await;
    let count = |events: &[Value], reason: &str| {
        events.iter().filter(|it| it["reason"] == reason && it["involvedObject"]["kind"] == "Database").count()
    };
    ns.eventually("it is reported once", || async {
        let events = ns.get("events").await;
        let counts = ["Recovered", "RolloutStarted", "RolledOut"].map(|reason| count(&events, reason));
        Ok(Eventually::when(counts == [1, 1, 1], || format!("{counts:?}")))
    })
    .await;
    listener.abort();
    let all = statuses.lock().unwrap().clone();
    let better = all
        .iter()
        .skip_while(|it| condition(it, "Degraded")["status"] != "True")
        .position(|it| condition(it, "Degraded")["status"] == "False");
    let until = all.iter().skip_while(|it| condition(it, "Degraded")["status"] != "True").skip(better.unwrap_or(0));
    assert!(until.clone().all(|it| condition(it, "Degraded")["status"] == "False"), "better once and for all: {all:#?}");
    ns.kubectl(["delete", "database/exits"]).await;
}
