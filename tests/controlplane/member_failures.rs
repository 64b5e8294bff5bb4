//! Why a member is missing, also where only Events report it: each cause is in the Database's conditions soon, and stays
//! until all is well.

use std::time::{Duration, Instant};

use harness::conditions::{condition, has};
use harness::controller::{Controller, USER};
use harness::eventually::Eventually;
use harness::fixture::{Namespace, shared_fixture};
use serde_json::{Value, json};

/// How long after Kubernetes reported a cause the Database has it.
const REPORTED_WITHIN: Duration = Duration::from_secs(30);

/// A database of one partition on a class of this kind and spec.
fn database(name: &str, kind: &str, spec: &str) -> String {
    format!(
        "apiVersion: storage.cloud.atomix.io/v1beta1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n---\n\
         apiVersion: cloud.atomix.io/v1beta3\nkind: Database\nmetadata: {{name: {name}}}\n\
         spec: {{partitions: 1, storageClass: {{kind: {kind}, name: {name}}}}}\n"
    )
}

/// Waits until Database and Partition of this name are degraded for this reason, in these words.
async fn until_degraded(ns: &Namespace<'_, Controller>, name: &str, reason: &str, words: &str) {
    for object in [format!("database/{name}"), format!("partition/{name}-1")] {
        ns.until(&object, &format!("{object} reports {reason}: {words}"), |found| {
            let has_words =
                |it: &Value, type_| condition(it, type_)["message"].as_str().is_some_and(|message| message.contains(words));
            found.iter().any(|it| has(it, "Degraded", "True", reason) && has_words(it, "Degraded") && has_words(it, "Ready"))
        })
        .await;
    }
}

#[tokio::test]
async fn what_keeps_pods_and_volumes_from_being_made_is_reported_by_the_database_and_goes_with_it() {
    let fixture = shared_fixture().await;
    let (ns, other) = (fixture.namespace("causes").await, fixture.namespace("causes-quiet").await);
    let volumes = fixture.namespace("causes-volumes").await;
    other.create(&database("fine", "RaftStorageClass", "{replicas: 1}")).await;
    other.wait("database/fine", "Ready").await;
    let mark = fixture.mark().await;
    ns.create("apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: team}\nspec: {hard: {pods: '0'}}\n").await;
    ns.until("resourcequota/team", "the quota is in force", |found| found.iter().any(|it| !it["status"]["hard"].is_null()))
        .await;
    let started = Instant::now();
    let volume = |class: &str| {
        format!(
            "{{replicas: 1, volumeClaimTemplate: {{spec: {{storageClassName: {class}, accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}}}}}}}"
        )
    };
    ns.create(&database("set", "RaftStorageClass", "{replicas: 1}")).await;
    ns.create(&database("cache", "CacheStorageClass", "{}")).await;
    volumes.create(&database("volume", "RaftStorageClass", &volume("nowhere"))).await;
    until_degraded(&ns, "set", "FailedCreate", "exceeded quota: team").await;
    until_degraded(&ns, "cache", "FailedCreate", "exceeded quota: team").await;
    until_degraded(&volumes, "volume", "ProvisioningFailed", "nowhere").await;
    assert!(started.elapsed() < REPORTED_WITHIN, "it took {} s", started.elapsed().as_secs());

    // An absent class of priority; and the quota is lifted.
    ns.create(&database("priority", "RaftStorageClass", "{replicas: 1, priorityClassName: gold}")).await;
    until_degraded(&ns, "priority", "FailedCreate", "no PriorityClass with name gold was found").await;
    ns.settled().await; // what is tried again and again, and reported in turn, is written once
    let again = fixture.mark().await;
    ns.kubectl(["delete", "resourcequota", "team"]).await;
    ns.kubectl(["patch", "raftstorageclass/priority", "--type=merge", "--patch", r#"{"spec":{"priorityClassName":null}}"#])
        .await;
    for name in ["set", "cache", "priority"] {
        // Controllers of Kubernetes try again after a growing pause; this makes them try at once.
        ns.kubectl(["annotate", "statefulset", &format!("{name}-1"), "test/wake=now"]).await;
        ns.until(&format!("database/{name}"), "it is ready and nothing is missing", |found| {
            found.iter().any(|it| has(it, "Ready", "True", "") && has(it, "Degraded", "False", "AsExpected"))
        })
        .await;
    }
    ns.eventually("each has recovered once", || async {
        let events = ns.get("events").await;
        let recovered =
            events.iter().filter(|it| it["reason"] == "Recovered" && it["involvedObject"]["kind"] == "Database").count();
        Ok(Eventually::when(recovered == 3, || format!("{recovered}")))
    })
    .await;
    let writes = fixture.requests_since(again).await;
    let storm = writes.iter().filter(|r| r.user == USER && r.resource == "databases/status" && r.name == "set").count();
    assert!(storm <= 6, "{storm} writes of a status until it is well");

    // Events were watched where something was unexplained, and nowhere else.
    ns.kubectl(["delete", "database", "--all"]).await;
    let requests = fixture.requests_since(mark).await;
    let watches = |name: &str| {
        requests
            .iter()
            .filter(|r| r.user == USER && r.resource == "events" && r.verb == "watch" && r.namespace == name)
            .count()
    };
    assert!(watches("causes") >= 2, "two watches");
    assert_eq!(watches("causes-quiet"), 0, "nothing was unexplained there");
}

/// Sets the status of the first container of a pod, as a kubelet does.
async fn set_container_status(ns: &Namespace<'_, Controller>, pod: &str, ready: bool, container: Value) {
    let ready = if ready { "True" } else { "False" };
    let mut container = container;
    for (field, value) in
        [("name", json!("raft")), ("image", json!("i")), ("imageID", json!("")), ("ready", json!(ready == "True"))]
    {
        container[field] = value;
    }
    let conditions = json!([{"type": "Ready", "status": ready}, {"type": "ContainersReady", "status": ready},
        {"type": "PodScheduled", "status": "True"}, {"type": "Initialized", "status": "True"}]);
    let status = json!({"status": {"conditions": conditions, "containerStatuses": [container]}});
    ns.kubectl(["patch", &format!("pod/{pod}"), "--subresource=status", "--type=merge", "-p", &status.to_string()]).await;
}

#[tokio::test]
async fn between_two_exits_of_a_container_nothing_is_better_and_hardly_anything_is_written() {
    let fixture = shared_fixture().await;
    let ns = fixture.namespace("exits").await;
    ns.create(&database("db", "RaftStorageClass", "{replicas: 1}")).await;
    ns.wait("database/db", "Ready").await;
    ns.settled().await;
    let exit = json!({"terminated": {"exitCode": 1, "reason": "Error", "message": "bad directive",
        "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:30Z"}});
    let running = json!({"running": {"startedAt": k8s_openapi::jiff::Timestamp::now().to_string()}});
    set_container_status(&ns, "db-1-0", false, json!({"restartCount": 2, "state": exit, "lastState": {}})).await;
    until_degraded(&ns, "db", "CrashLoopBackOff", "with exit code 1: bad directive").await;
    ns.settled().await;
    let mark = fixture.mark().await;
    let cycles = 4;
    for restarts in 3..3 + cycles {
        let waits = json!({"waiting": {"reason": "CrashLoopBackOff", "message": format!("back-off {restarts}0s")}});
        for (ready, state) in [(false, waits), (false, running.clone()), (true, running.clone()), (false, exit.clone())] {
            set_container_status(&ns, "db-1-0", ready, json!({"restartCount": restarts, "state": state, "lastState": exit}))
                .await;
            let status = if ready { "True" } else { "False" };
            let database = ns
                .until("database/db", "it reports what the kubelet reports", |found| {
                    found.iter().any(|it| has(it, "Ready", status, ""))
                })
                .await;
            assert!(has(&database[0], "Degraded", "True", "CrashLoopBackOff"), "{}", database[0]["status"]);
        }
    }
    let requests = fixture.requests_since(mark).await;
    let writes =
        requests.iter().filter(|r| r.user == USER && r.namespace == "exits" && r.resource == "databases/status").count();
    assert!(writes <= 2 * cycles, "{writes} writes in {cycles} cycles: ready and not ready any more is all that happens");
    let count_events = |events: &[Value], reason: &str| {
        events.iter().filter(|it| it["reason"] == reason && it["involvedObject"]["kind"] == "Database").count()
    };
    assert_eq!(count_events(&ns.get("events").await, "Recovered"), 0);

    // A run that outlasts the one before.
    let steady = json!({"running": {"startedAt": "2026-01-01T00:02:00Z"}});
    set_container_status(&ns, "db-1-0", true, json!({"restartCount": 9, "state": steady, "lastState": exit})).await;
    ns.until("database/db", "it has recovered", |found| found.iter().any(|it| has(it, "Degraded", "False", ""))).await;
    ns.eventually("one Event reports it", || async {
        let events = ns.get("events").await;
        Ok(Eventually::when(count_events(&events, "Recovered") == 1, || format!("{events:?}")))
    })
    .await;
}

#[tokio::test]
async fn what_only_an_event_reports_of_a_pod_is_reported_and_a_failing_probe_is_no_cause() {
    let ns = shared_fixture().await.namespace("told").await;
    ns.create(&database("db", "RaftStorageClass", "{replicas: 1}")).await;
    ns.wait("database/db", "Ready").await;
    let warning = |uid: String, reason: &'static str, message: &'static str| {
        let now = k8s_openapi::jiff::Timestamp::now().to_string();
        let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"generateName": "told-"}, "type": "Warning", "reason": reason,
            "message": message, "firstTimestamp": now, "lastTimestamp": now,
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": "db-1-0", "uid": uid, "namespace": "told"}});
        event.to_string()
    };
    let uid = ns.one("pod/db-1-0").await["metadata"]["uid"].as_str().unwrap().to_owned();
    set_container_status(
        &ns,
        "db-1-0",
        false,
        json!({"restartCount": 0, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}),
    )
    .await;
    ns.create(&warning(uid.clone(), "Unhealthy", "Readiness probe failed: no answer")).await;
    ns.until("database/db", "its message holds that of the probe", |found| {
        let has_message =
            |it: &Value| condition(it, "Ready")["message"].to_string().contains("db-1-0: Readiness probe failed: no answer");
        found.iter().any(|it| has_message(it) && has(it, "Ready", "False", "") && !has(it, "Degraded", "True", "Unhealthy"))
    })
    .await;
    set_container_status(
        &ns,
        "db-1-0",
        false,
        json!({"restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating"}}}),
    )
    .await;
    ns.create(&warning(uid, "FailedMount", "MountVolume.SetUp failed for volume \"tls\" : secret \"not-there\" not found"))
        .await;
    until_degraded(&ns, "db", "FailedMount", "secret \"not-there\" not found").await;
}
