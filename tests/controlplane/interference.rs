//! Interference from outside: policies and field managers of others, plans that never settle, kinds that may not be read.

use harness::audit::table;
use harness::conditions::{condition, has};
use harness::controller::USER;
use harness::fixture::{Namespace, private_fixture};
use harness::manifests::Manifests;
use serde_json::{Value, json};

fn web() -> Manifests {
    Manifests::class("WebStorageClass", "web", json!({"image": "web"})).database("db", 1)
}

async fn class(ns: &Namespace<'_>, spec: Value) {
    let patch = json!({"spec": spec}).to_string();
    ns.kubectl(["patch", "webstorageclass/web", "--type=merge", "-p", &patch]).await;
}

fn message(db: &Value, type_: &str) -> String {
    condition(db, type_)["message"].as_str().unwrap_or_default().to_owned()
}

async fn until_condition(ns: &Namespace<'_>, type_: &str, status: &str, reason: &str, words: &[&str]) -> Value {
    let sentence = format!("{type_} is {status}, {reason}, and its message has {words:?}");
    let found = ns
        .until("database/db", &sentence, |found| {
            let holds_words = |db: &Value| words.iter().all(|word| message(db, type_).contains(word));
            found.iter().any(|db| has(db, type_, status, reason) && holds_words(db))
        })
        .await;
    found.into_iter().next().unwrap()
}

#[tokio::test]
async fn what_the_api_refuses_for_reasons_of_others_is_reported_and_heals_when_they_are_gone() {
    let fixture = private_fixture("refusals").await;
    fixture.install("web").await.unwrap();
    let ns = fixture.namespace("refusals").await;
    let policy = |rule: &str| {
        format!(
            r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {{name: theirs}}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules: [{{apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [services]}}]
    namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: refusals}}}}
  validations: [{{expression: "{rule}", message: "services here need a blessing"}}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{name: theirs}}
spec: {{policyName: theirs, validationActions: [Deny]}}
"#
        )
    };
    ns.create(&policy("object.metadata.name == 'kubernetes'")).await;
    ns.eventually("the policy is in force", || async {
        let service =
            r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"ports": [{"port": 1}]}}"#;
        let tried =
            fixture.kubectl().namespace("refusals").run_with(["create", "--dry-run=server", "-f", "-"], service).await;
        Ok(harness::eventually::Eventually::when(tried.is_err(), || "it is not".to_owned()))
    })
    .await;
    ns.create(web()).await;
    let words = ["Service db-1", "services here need a blessing", "plugin web", "WebStorageClass refusals/web"];
    let db = until_condition(&ns, "Accepted", "False", "Invalid", &words).await;
    assert!(message(&db, "Ready").contains("services here need a blessing"), "{db:#}");
    let mark = fixture.mark().await;
    // Whatever starts a pass meanwhile, the same is not sent again at once.
    for turn in 0..5 {
        ns.kubectl(["annotate", "--overwrite", "webstorageclass/web", &format!("turn={turn}")]).await;
    }
    let tries = |requests: &[harness::audit::Request]| {
        requests.iter().filter(|r| r.user == USER && r.writes() && r.uri.contains("/services/")).count()
    };
    let requests = fixture.requests_since(mark).await;
    assert!(tries(&requests) <= 1, "{}", table(&requests));
    ns.kubectl(["delete", "validatingadmissionpolicybinding/theirs", "validatingadmissionpolicy/theirs"]).await;
    ns.wait("database/db", "Ready").await;
    until_condition(&ns, "Accepted", "True", "", &[]).await;

    // The same for an edit, which is tried by a dry run.
    ns.create(&policy("!has(object.metadata.labels) || !('hue' in object.metadata.labels)")).await;
    ns.eventually("the policy is in force", || async {
        let service = r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x", "labels": {"hue": "x"}}, "spec": {"ports": [{"port": 1}]}}"#;
        let tried = fixture.kubectl().namespace("refusals").run_with(["create", "--dry-run=server", "-f", "-"], service).await;
        Ok(harness::eventually::Eventually::when(tried.is_err(), || "it is not".to_owned()))
    })
    .await;
    ns.kubectl(["label", "database/db", "hue=blue"]).await;
    until_condition(
        &ns,
        "Accepted",
        "False",
        "Invalid",
        &["services here need a blessing", "nothing of the change is applied"],
    )
    .await;
    ns.kubectl(["delete", "validatingadmissionpolicybinding/theirs", "validatingadmissionpolicy/theirs"]).await;
    until_condition(&ns, "Accepted", "True", "", &[]).await;
    assert_eq!(ns.one("service/db-1").await["metadata"]["labels"]["hue"], "blue");

    // What the plugin should not have planned is its fault, by name, whatever code the API server answers with; nothing else changes.
    for (trouble, words) in [("PortOfNone", "70000"), ("UnknownField", "nonsense")] {
        class(&ns, json!({"trouble": trouble, "image": "other"})).await;
        let db = until_condition(&ns, "Accepted", "False", "Invalid", &["Service db-1", words, "plugin web"]).await;
        assert!(has(&db, "Ready", "True", ""), "{db:#}");
        class(&ns, json!({"trouble": null, "image": "web"})).await;
        until_condition(&ns, "Accepted", "True", "", &[]).await;
    }

    // A class that ends the plugin's failure is taken at once, and what a plugin waits for is reported under any code.
    class(&ns, json!({"trouble": "Panics"})).await;
    let panicked = "plan gave no answer: it panicked: the class asks for it (tests/guests/web/src/lib.rs:";
    until_condition(&ns, "Degraded", "True", "PluginFailed", &[panicked]).await;
    ns.kubectl(["delete", "service/db-1"]).await;
    class(&ns, json!({"trouble": null})).await;
    ns.wait_created("service/db-1").await;
    ns.wait("database/db", "Ready").await;
    class(&ns, json!({"refuse": "because"})).await;
    until_condition(&ns, "Accepted", "False", "Starting", &["because"]).await;

    // A recorded generation that is ahead of the database's own is no later edit, but was written by hand: the API server is
    // read.
    let patch = json!({"status": {"plan": {"generation": 99}}}).to_string();
    ns.kubectl(["patch", "database/db", "--subresource=status", "--type=merge", "-p", &patch]).await;
    class(&ns, json!({"refuse": null, "replicas": 2})).await;
    ns.until("deployment/db-1", "the edit is written", |found| found.iter().any(|it| it["spec"]["replicas"] == 2)).await;
    ns.until("database/db", "the generation is right again", |found| {
        found.iter().any(|db| db["status"]["plan"]["generation"] == 1 && has(db, "Ready", "True", ""))
    })
    .await;

    // What was reported again is a patch of its series.
    let requests = fixture.requests_since(Default::default()).await;
    let series: Vec<_> =
        requests.into_iter().filter(|it| it.user == USER && it.resource == "events" && it.verb == "patch").collect();
    assert!(!series.is_empty() && series.iter().all(|it| it.code == 200), "{}", table(&series));
}

#[tokio::test]
async fn a_competing_writer_is_named_and_answered_less_and_less_often() {
    let fixture = private_fixture("fights").await;
    fixture.install("web").await.unwrap();
    let ns = fixture.namespace("fights").await;
    ns.create_ready(&web()).await;
    let mark = fixture.mark().await;
    for turn in 2..100 {
        let patch = json!({"spec": {"replicas": turn % 3 + 2}}).to_string();
        ns.kubectl(["patch", "deployment/db-1", "--field-manager=their-scaler", "--type=merge", "-p", &patch]).await;
        let contested = ns.one("database/db").await;
        if has(&contested, "Degraded", "True", "FieldContested") {
            break;
        }
    }
    let db =
        until_condition(&ns, "Degraded", "True", "FieldContested", &["Deployment db-1", "spec.replicas", "their-scaler"])
            .await;
    assert!(has(&db, "Ready", "True", ""), "{db:#}");
    for turn in 0..40 {
        let patch = json!({"spec": {"replicas": turn % 3 + 2}}).to_string();
        ns.kubectl(["patch", "deployment/db-1", "--field-manager=their-scaler", "--type=merge", "-p", &patch]).await;
    }
    let requests = fixture.requests_since(mark).await;
    let ours = requests.iter().filter(|r| r.user == USER && r.writes() && r.uri.contains("/deployments/")).count();
    assert!((8..20).contains(&ours), "{ours} repairs\n{}", table(&requests));
    // An edit is no repair: it is written at once.
    class(&ns, json!({"replicas": 2})).await;
    ns.until("deployment/db-1", "the edit is written", |found| found.iter().any(|it| it["spec"]["replicas"] == 2)).await;
}

#[tokio::test]
async fn a_plan_that_depends_on_what_it_wrote_is_named_and_written_less_and_less_often() {
    let fixture = private_fixture("counts").await;
    fixture.install("web").await.unwrap();
    let ns = fixture.namespace("counts").await;
    ns.create_ready(&web()).await;
    let mark = fixture.mark().await;
    class(&ns, json!({"trouble": "Counts"})).await;
    let words = ["plugin web", "ConfigMap db-1: data.count", "report it to the plugin's author"];
    let db = until_condition(&ns, "Degraded", "True", "PlanUnsettled", &words).await;
    assert!(has(&db, "Ready", "True", ""), "{db:#}");
    let requests = fixture.requests_since(mark).await;
    let ours = requests.iter().filter(|r| r.user == USER && r.writes() && r.uri.contains("/configmaps/")).count();
    assert!(ours <= 12, "{ours} writes\n{}", table(&requests));
    class(&ns, json!({"trouble": null, "settings": true})).await;
    ns.until("configmap/db-1", "a class that ends it is written at once", |found| {
        found.iter().any(|it| it["data"]["count"] == "0")
    })
    .await;
}

#[tokio::test]
async fn what_an_earlier_plan_left_is_named_where_it_may_not_be_removed_or_looked_for() {
    let fixture = private_fixture("leftovers").await;
    fixture.install("web").await.unwrap();
    let ns = fixture.namespace("leftovers").await;
    let admin = fixture.kubectl();
    ns.create(web()).await;
    class(&ns, json!({"settings": true})).await;
    ns.wait_created("configmap/db-1").await;
    ns.wait("database/db", "Ready").await;

    // The plugin's own role counts, whatever the account may do by others'.
    let role: Value =
        serde_json::from_str(&admin.run(["get", "clusterrole/atomix-plugin-web", "-o", "json"]).await.unwrap()).unwrap();
    let mut poor = role.clone();
    let mut others = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "others", "labels": role["metadata"]["labels"]}, "rules": []});
    for rule in poor["rules"].as_array_mut().unwrap() {
        if rule["resources"].as_array().unwrap().contains(&json!("configmaps")) {
            others["rules"].as_array_mut().unwrap().push(rule.clone());
            rule["verbs"] = json!(["get", "list", "watch", "create", "patch", "update"]);
        }
    }
    poor["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    admin.run_with(["create", "-f", "-"], &others.to_string()).await.unwrap();
    admin.run_with(["replace", "-f", "-"], &poor.to_string()).await.unwrap();
    class(&ns, json!({"settings": false})).await;
    until_condition(&ns, "Degraded", "True", "NotPruned", &["ConfigMap db-1", "plugin web", "delete", "configmaps"]).await;
    ns.one("configmap/db-1").await;
    let mut whole = role.clone();
    whole["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    admin.run_with(["replace", "-f", "-"], &whole.to_string()).await.unwrap();
    ns.wait_gone("configmap/db-1").await;
    let db = until_condition(&ns, "Degraded", "False", "", &[]).await;
    let kinds =
        |db: &Value| db["status"]["kinds"].as_array().unwrap().iter().map(|kind| kind["kind"].clone()).collect::<Vec<_>>();
    assert!(!kinds(&db).contains(&json!("ConfigMap")), "{:?}", kinds(&db));

    // A kind that was written once, by a revision that is gone with its rights. What else is to be done is done.
    let mut recorded = kinds_of(&db);
    recorded.push(json!({"group": "apps", "version": "v1", "kind": "DaemonSet", "plural": "daemonsets"}));
    let patch = json!({"status": {"kinds": recorded}}).to_string();
    ns.kubectl(["scale", "database/db", "--replicas=2"]).await;
    ns.wait_created("service/db-2").await;
    ns.wait("database/db", "Ready").await;
    ns.kubectl(["patch", "database/db", "--subresource=status", "--type=merge", "-p", &patch]).await;
    until_condition(&ns, "Degraded", "True", "NotPruned", &["DaemonSet", "cannot be looked for", "database=db.leftovers"])
        .await;
    ns.kubectl(["scale", "database/db", "--replicas=1"]).await;
    ns.wait_gone("service/db-2").await;
    ns.until("database/db", "it is ready with one partition", |found| {
        found.iter().any(|db| has(db, "Ready", "True", "") && db["status"]["ready"] == "1/1")
    })
    .await;
    let rule = json!({"apiGroups": ["apps"], "resources": ["daemonsets"], "verbs": ["get", "list", "watch"]});
    others["rules"].as_array_mut().unwrap().push(rule);
    admin.run_with(["replace", "-f", "-"], &others.to_string()).await.unwrap();
    ns.until("database/db", "the kind is known to be gone", |found| {
        found.iter().any(|db| has(db, "Degraded", "False", "") && !kinds(db).contains(&json!("DaemonSet")))
    })
    .await;
}

fn kinds_of(db: &Value) -> Vec<Value> {
    db["status"]["kinds"].as_array().unwrap().clone()
}
