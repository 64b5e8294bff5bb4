//! How other programs judge every state that our objects can be in: kstatus, which Flux, Helm and others evaluate, and Argo
//! CD's health script. Current and Healthy is only what is as in its manifest.

use std::sync::{Arc, Mutex};

use atomix_model::contract::FieldError;
use futures::StreamExt;
use harness::conditions::{condition, has};
use harness::controller::{Controller, Options};
use harness::deploy;
use harness::dist;
use harness::fixture::{Fixture, Namespace, private_plane};
use harness::gitops::verdicts_on;
use harness::hostile::guest::{Guest, descriptor, plan};
use harness::kubectl::Kubectl;
use harness::manifests::Manifests;
use kube::core::{DynamicObject, GroupVersionKind};
use kube::discovery::ApiResource;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use serde_json::{Value, json};

const DATABASE: &str = "database/db";

fn class(spec: &str) -> String {
    format!(
        "{{apiVersion: storage.cloud.atomix.io/v1beta1, kind: RaftStorageClass, metadata: {{name: raft}}, spec: {spec}}}"
    )
}

fn database(name: &str, reference: &str) -> String {
    format!(
        "{{apiVersion: cloud.atomix.io/v1beta3, kind: Database, metadata: {{name: {name}}}, \
         spec: {{partitions: 2, partitionsPerCluster: 1, storageClass: {reference}}}}}"
    )
}

const RAFT: &str = "{kind: RaftStorageClass, name: raft}";

/// Asserts how an object is judged: kstatus and Argo CD's health.
#[track_caller]
fn counts_as(state: &str, object: &Value, expected: (&str, &str)) {
    let verdict = verdicts_on(std::slice::from_ref(object)).unwrap().remove(0);
    println!("{state:<58} {:<12} {:<12} {}", verdict.kstatus, verdict.health, verdict.why);
    assert_eq!((verdict.kstatus.as_str(), verdict.health.as_str()), expected, "{state}: {verdict:?}\n{object}");
}

/// Waits for a state of an object, and asserts how it is judged.
async fn comes(
    ns: &Namespace<'_>,
    what: &str,
    state: &str,
    holds: impl Fn(&Value) -> bool,
    expected: (&str, &str),
) -> Value {
    let mut found = ns.until(what, state, |found| found.iter().any(&holds)).await;
    counts_as(state, &found[0], expected);
    found.remove(0)
}

fn not_accepted(reason: &str) -> impl Fn(&Value) -> bool + '_ {
    move |object| has(object, "Accepted", "False", reason) && has(object, "Ready", "False", "")
}

fn settled(object: &Value) -> bool {
    let holds =
        |type_: &str| object["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(|it| it["type"] == type_));
    has(object, "Ready", "True", "") && !holds("Reconciling") && !holds("Stalled")
}

/// Every version of every Database, as a client that watches sees them.
async fn versions(plane: &harness::controlplane::ControlPlane) -> Arc<Mutex<Vec<Value>>> {
    let gvk = GroupVersionKind::gvk("cloud.atomix.io", "v1beta3", "Database");
    let api: kube::Api<DynamicObject> =
        kube::Api::all_with(plane.client().await.unwrap(), &ApiResource::from_gvk_with_plural(&gvk, "databases"));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let into = seen.clone();
    tokio::spawn(async move {
        let mut events = Box::pin(watcher::watcher(api, watcher::Config::default()).default_backoff()); // it outlives its API server
        while let Some(event) = events.next().await {
            if let Ok(Event::Apply(object) | Event::InitApply(object)) = event {
                into.lock().unwrap().push(serde_json::to_value(object).unwrap());
            }
        }
    });
    seen
}

const WAITS: (&str, &str) = ("InProgress", "Progressing");
const BROKEN: (&str, &str) = ("InProgress", "Degraded");
const FAILED: (&str, &str) = ("Failed", "Degraded");
const DONE: (&str, &str) = ("Current", "Healthy");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_as_in_its_manifest_is_current() {
    dist::build_unless_prebuilt().unwrap();
    let plane = private_plane("kstatus").await;
    let admin = Kubectl::new(&plane);

    // Before the controller runs. The webhook is nowhere yet, so that only the stored version can be read.
    deploy::apply(&plane, "https://127.0.0.1:1").await.unwrap();
    let seen = versions(&plane).await;
    let partition = "{apiVersion: cloud.atomix.io/v1beta3, kind: Partition, metadata: {name: p}, spec: {partitionId: 1}}";
    let plugin = "{apiVersion: storage.cloud.atomix.io/v1beta1, kind: StoragePlugin, metadata: {name: s}, spec: {}}";
    for (name, text) in
        [("database/early", &*database("early", RAFT)), ("partition/p", partition), ("storageplugin/s", plugin)]
    {
        admin.run_with(["create", "-f", "-"], text).await.unwrap();
        let object: Value = serde_json::from_str(&admin.run(["get", name, "-o", "json"]).await.unwrap()).unwrap();
        assert_eq!(object["status"]["observedGeneration"], -1, "{object}");
        counts_as(&format!("a fresh {name}"), &object, WAITS);
    }
    admin.run(["delete", "partition/p", "storageplugin/s", "database/early"]).await.unwrap();

    let controller = Controller::install(plane.clone(), Options::default()).await.unwrap();
    let fixture = Fixture { plane, controller };
    let ns = fixture.namespace("kstatus").await;

    // What comes may be late: order of creation does not matter.
    ns.create(&database("db", RAFT)).await;
    comes(&ns, DATABASE, "no plugin serves its kind", not_accepted("NoPlugin"), WAITS).await;
    fixture.install("raft").await.unwrap();
    comes(&ns, DATABASE, "its class is not there", not_accepted("ClassNotFound"), WAITS).await;

    // What only an edit ends.
    // No webhook refuses it beforehand, as when the controller is away.
    admin.run(["delete", "validatingwebhookconfiguration/atomix-controller"]).await.unwrap();
    let invalid = class("{replicas: 3, volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce]}}}");
    ns.eventually("no webhook refuses the class", || async {
        let created = admin.clone().namespace(&ns.name).run_with(["create", "-f", "-"], &invalid).await;
        Ok(harness::eventually::Eventually::when(created.is_ok(), || format!("{created:?}")))
    })
    .await;
    comes(&ns, DATABASE, "its class is invalid", not_accepted("Invalid"), FAILED).await;
    // The same of a plugin that says so in `validate` only.
    let wrong = FieldError { path: "spec.a".to_owned(), message: "it is not there".to_owned() };
    let guest = Guest::new(&descriptor("refuses", "RefusesStorageClass"), &Ok(plan(&ns.name, "refused", [])));
    let file = fixture.plane.dir().join("refuses.wasm");
    std::fs::write(&file, guest.refuses(&[wrong]).wasm()).unwrap();
    let packed = harness::dist::pack(&file).unwrap();
    admin.clone().run_with(["apply", "--server-side", "-f", "-"], &packed).await.unwrap();
    admin.run(["wait", "--for=condition=Established", "--timeout=60s", "customresourcedefinitions", "--all"]).await.unwrap();
    fixture.serves("refuses").await.unwrap();
    ns.create(Manifests::class("RefusesStorageClass", "c", serde_json::json!({})).to_string()).await;
    ns.create(&database("refused", "{kind: RefusesStorageClass, name: c}")).await;
    comes(&ns, "database/refused", "its plugin does not accept its class", not_accepted("Invalid"), FAILED).await;
    let message = condition(&ns.one("database/refused").await, "Accepted")["message"].to_string();
    assert!(message.contains("RefusesStorageClass kstatus/c: spec.a: it is not there"), "{message}");
    ns.create(&database("version", "{kind: RaftStorageClass, version: v9, name: raft}")).await;
    comes(&ns, "database/version", "its class is not served in the version", not_accepted("ClassVersionNotServed"), FAILED)
        .await;
    let other = "{kind: RaftStorageClass, group: example.com, name: raft}";
    let group = database("group", other);
    if admin.clone().namespace(&ns.name).run_with(["create", "-f", "-"], &group).await.is_ok() {
        comes(&ns, "database/group", "its class is of another group", not_accepted("ClassGroupUnknown"), FAILED).await;
    }
    let kube_system = admin.clone().namespace("kube-system");
    kube_system.run_with(["create", "-f", "-"], &database("misplaced", RAFT)).await.unwrap();
    let misplaced = ns
        .eventually("a database in the controller's namespace is refused", || async {
            let found: Value = serde_json::from_str(&kube_system.run(["get", "database/misplaced", "-o", "json"]).await?)?;
            let refused = not_accepted("NamespaceRefused")(&found);
            Ok(if refused {
                harness::eventually::Eventually::Now(found)
            } else {
                harness::eventually::Eventually::NotYet(found["status"].to_string())
            })
        })
        .await;
    counts_as("it is in the controller's namespace", &misplaced, FAILED);
    kube_system.run(["delete", "database/misplaced"]).await.unwrap();

    // Ready, in both versions, and what it consists of.
    ns.kubectl(["patch", "raftstorageclass/raft", "--type=merge", "-p", r#"{"spec":{"volumeClaimTemplate":null}}"#]).await;
    comes(&ns, DATABASE, "ready", settled, DONE).await;
    let old = ns.one("databases.v1beta2.cloud.atomix.io/db").await;
    counts_as("ready, read in the older version", &old, DONE);
    comes(&ns, "partition/db-1", "a partition that is ready", settled, DONE).await;
    counts_as("the same, read in the older version", &ns.one("partitions.v1beta2.cloud.atomix.io/db-1").await, DONE);
    let plugins = fixture.namespace("plugins").await; // for its messages only
    let plugin = |state: &'static str, holds: fn(&Value) -> bool, expected| {
        let (kube_system, plugins) = (&kube_system, &plugins);
        async move {
            let found = plugins
                .eventually(state, || async {
                    let read = kube_system.run(["get", "storageplugin/raft", "-o", "json"]).await?;
                    let found: Value = serde_json::from_str(&read)?;
                    Ok(if holds(&found) {
                        harness::eventually::Eventually::Now(found)
                    } else {
                        harness::eventually::Eventually::NotYet(read)
                    })
                })
                .await;
            counts_as(state, &found, expected);
        }
    };
    plugin("a plugin that serves", |it| it["status"]["phase"] == "Serving", DONE).await;

    // Members go and come.
    ns.settled().await;
    ns.set_pod_ready("db-1-2", false).await;
    comes(
        &ns,
        DATABASE,
        "a member is missing",
        |it| has(it, "Degraded", "True", "") && has(it, "Ready", "True", ""),
        BROKEN,
    )
    .await;
    comes(&ns, "partition/db-1", "a partition that misses a member", |it| has(it, "Degraded", "True", ""), BROKEN).await;
    ns.set_pod_ready("db-1-1", false).await;
    comes(&ns, DATABASE, "too few members are there", |it| has(it, "Ready", "False", ""), BROKEN).await;
    comes(&ns, "partition/db-1", "a partition with too few members", |it| has(it, "Ready", "False", ""), BROKEN).await;
    for pod in ["db-1-1", "db-1-2"] {
        ns.set_pod_ready(pod, true).await;
    }
    comes(&ns, DATABASE, "all members are back", settled, DONE).await;

    // An edit that the controller has not seen yet, and then has.
    fixture.controller.stop().await.unwrap();
    ns.kubectl(["scale", DATABASE, "--replicas=3"]).await;
    counts_as("scaled, and the controller is away", &ns.one(DATABASE).await, WAITS);
    fixture.controller.start().await.unwrap();
    comes(&ns, DATABASE, "scaled", |it| settled(it) && it["status"]["ready"] == "3/3", DONE).await;

    // A change that what runs cannot take.
    ns.kubectl(["patch", "raftstorageclass/raft", "--type=merge", "-p", r#"{"spec":{"replicas":5}}"#]).await;
    comes(&ns, DATABASE, "a change is not taken", |it| has(it, "Accepted", "False", "ChangeNotTaken"), FAILED).await;
    ns.kubectl(["patch", "raftstorageclass/raft", "--type=merge", "-p", r#"{"spec":{"replicas":3}}"#]).await;
    comes(&ns, DATABASE, "the change is taken back", settled, DONE).await;

    // Another owner has the name.
    ns.create("{apiVersion: v1, kind: Service, metadata: {name: taken-1}, spec: {ports: [{port: 80}]}}").await;
    ns.create(&database("taken", RAFT)).await;
    comes(&ns, "database/taken", "a name is taken", |it| has(it, "Degraded", "True", "NameTaken"), BROKEN).await;
    ns.kubectl(["delete", "service/taken-1"]).await;
    comes(&ns, "database/taken", "the name is free again", settled, DONE).await;

    // Plugins that are refused, held and removed.
    super::plugins::replace(&fixture, &harness::hostile::guests().remove(0).1).await;
    plugin("a plugin whose newest bytes are refused", |it| it["status"]["phase"] == "Refused", FAILED).await;
    comes(
        &ns,
        DATABASE,
        "its plugin is refused, and the older one serves",
        |it| has(it, "PluginCurrent", "False", ""),
        DONE,
    )
    .await;
    super::plugins::replace(&fixture, &super::plugins::one_that_restarts_pods()).await;
    let held =
        comes(&ns, DATABASE, "a plan is held", |it| has(it, "Accepted", "False", "Held"), ("Failed", "Suspended")).await;
    let message = condition(&held, "Accepted")["message"].as_str().unwrap().to_owned();
    let hash = message.split("cloud.atomix.io/accept=").nth(1).unwrap().split_whitespace().next().unwrap();
    ns.kubectl(["annotate", DATABASE, &format!("cloud.atomix.io/accept={hash}")]).await;
    comes(&ns, DATABASE, "the plan is accepted, and done", |it| settled(it) && has(it, "Accepted", "True", ""), DONE).await;
    kube_system.run(["delete", "configmap/atomix-plugin-raft"]).await.unwrap();
    plugin("a plugin that is removed", |it| it["status"]["phase"] == "Removed", FAILED).await;
    comes(&ns, DATABASE, "its plugin is removed", |it| settled(it) && has(it, "PluginCurrent", "False", "Removed"), DONE)
        .await;
    kube_system.run(["delete", "storageplugin/raft"]).await.unwrap();
    comes(&ns, DATABASE, "nothing is left of its plugin", |it| has(it, "Accepted", "False", "NoPlugin"), WAITS).await;
    fixture.install("raft").await.unwrap();

    // On its way out.
    let hold = r#"{"metadata":{"finalizers":["example.com/hold"]}}"#;
    ns.kubectl(["patch", "database/taken", "--type=merge", "-p", hold]).await;
    ns.kubectl(["delete", "database/taken", "--wait=false"]).await;
    comes(
        &ns,
        "database/taken",
        "deleted",
        |it| !it["metadata"]["deletionTimestamp"].is_null(),
        ("Terminating", "Progressing"),
    )
    .await;
    ns.kubectl(["patch", "database/taken", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]).await;

    // One that fits no schema of ours, as an older definition may have let in.
    let definition: Value =
        serde_json::from_str(&admin.run(["get", "crd/databases.cloud.atomix.io", "-o", "json"]).await.unwrap()).unwrap();
    let at = definition["spec"]["versions"].as_array().unwrap().iter().position(|it| it["name"] == "v1beta3").unwrap();
    let required = format!("/spec/versions/{at}/schema/openAPIV3Schema/properties/spec/required");
    let patch = json!([{"op": "remove", "path": required}]).to_string();
    admin.run(["patch", "crd/databases.cloud.atomix.io", "--type=json", "-p", &patch]).await.unwrap();
    let malformed =
        "{apiVersion: cloud.atomix.io/v1beta3, kind: Database, metadata: {name: malformed}, spec: {partitions: 2}}";
    ns.eventually("the definition is loosened", || async {
        let created = admin.clone().namespace(&ns.name).run_with(["create", "-f", "-"], malformed).await;
        Ok(match created {
            Ok(_) => harness::eventually::Eventually::Now(()),
            Err(error) => harness::eventually::Eventually::NotYet(error.to_string()),
        })
    })
    .await;
    comes(&ns, "database/malformed", "it fits no schema", not_accepted("Malformed"), FAILED).await;

    ns.kubectl(["patch", "database/malformed", "--type=merge", "-p", r#"{"spec":{"partitions":3}}"#]).await;
    let again = |it: &Value| not_accepted("Malformed")(it) && it["status"]["observedGeneration"] == 2;
    comes(&ns, "database/malformed", "it was edited, and fits none still", again, FAILED).await;

    // Whatever was seen on the way: Current is what is accepted, ready and whole in its newest generation, and nothing else.
    let seen: Vec<Value> = seen.lock().unwrap().clone();
    let verdicts = verdicts_on(&seen).unwrap();
    assert!(seen.len() > 30, "{} versions", seen.len());
    for (object, verdict) in seen.iter().zip(verdicts) {
        let is_as_asked = has(object, "Ready", "True", "")
            && has(object, "Accepted", "True", "")
            && has(object, "Degraded", "False", "")
            && has(object, "Progressing", "False", "")
            && object["status"]["observedGeneration"] == object["metadata"]["generation"];
        let current = verdict.kstatus == "Current";
        assert!(!current || is_as_asked, "{object}");
        assert_eq!(verdict.health == "Healthy", current, "{verdict:?} {object}");
    }
}
