//! What an earlier database of the name left behind is taken over by one command of the user, and nothing else is.

use atomix_decide::objects::admission_policy;
use atomix_model::condition::Reason;
use harness::conditions::{condition, has};
use harness::fixture::{Namespace, shared_fixture};
use harness::manifests::Manifests;
use serde_json::{Value, json};

const CLASS: &str = r"
apiVersion: storage.cloud.atomix.io/v1beta1
kind: RaftStorageClass
metadata: {name: raft}
spec: {replicas: 3, resources: {limits: {memory: 1e8}}}
";

fn database() -> Manifests {
    let labelled = json!({"name": "db", "labels": {"team": "blue"}});
    Manifests::on("RaftStorageClass", "raft").labelled_database(labelled, 1)
}

const CHILDREN: &str = "partitions,statefulsets,services,configmaps,poddisruptionbudgets";

/// Objects of the database, without what the cluster keeps for itself.
async fn ours(ns: &Namespace<'_>) -> Vec<Value> {
    let ours = |object: &Value| object["metadata"]["annotations"]["cloud.atomix.io/hash"].is_string();
    ns.get(CHILDREN).await.into_iter().filter(ours).collect()
}

fn owners(objects: &[Value]) -> Vec<Value> {
    objects.iter().map(|object| object["metadata"]["ownerReferences"][0]["uid"].clone()).collect()
}

/// Waits until the garbage collector of Kubernetes has discovered Partitions. It looks for new kinds every half minute;
/// until then it does not orphan them, but deletes them later.
async fn partitions_are_collected(ns: &Namespace<'_>) {
    ns.kubectl(["create", "configmap", "owner"]).await;
    let uid = &ns.one("configmap/owner").await["metadata"]["uid"];
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}]);
    let owned = json!({"apiVersion": "cloud.atomix.io/v1beta3", "kind": "Partition", "spec": {"partitionId": 1, "serviceName": "none"},
        "metadata": {"name": "owned", "ownerReferences": owner}});
    ns.create(&owned.to_string()).await;
    ns.kubectl(["delete", "configmap/owner"]).await;
    ns.wait_gone("partition/owned").await;
}

/// The one command that a status names, run as it is printed.
async fn run_the_printed_command(ns: &Namespace<'_>) {
    let database = ns
        .until("database/db", "the status names the way out", |found| {
            found.iter().any(|db| {
                let message = condition(db, "Degraded")["message"].as_str().unwrap_or_default();
                has(db, "Degraded", "True", "NameTaken") && message.contains("kubectl ") && has(db, "Ready", "False", "")
            })
        })
        .await;
    let message = condition(&database[0], "Degraded")["message"].as_str().unwrap().to_owned();
    let ready = condition(&database[0], "Ready")["message"].as_str().unwrap();
    assert!(!ready.contains("1 of 1 partitions are ready"), "{ready}");
    let command = message.split("kubectl ").nth(1).unwrap();
    let words: Vec<&str> = command.split(' ').take_while(|word| !word.starts_with('(')).collect();
    ns.kubectl(words).await;
}

async fn adopted(ns: &Namespace<'_>, count: usize) {
    let uid = ns.one("database/db").await["metadata"]["uid"].clone();
    ns.wait("database/db", "Ready").await;
    ns.until("database/db", "nothing is wrong any more", |found| found.iter().any(|db| has(db, "Degraded", "False", "")))
        .await;
    ns.settled().await;
    let after = ours(ns).await;
    assert_eq!(owners(&after), vec![uid; count]);
    for object in &after {
        assert_eq!(object["metadata"]["ownerReferences"].as_array().unwrap().len(), 1, "{object}");
    }
}

#[tokio::test]
async fn what_a_deleted_database_left_behind_is_adopted_and_no_pod_restarts() {
    let ns = shared_fixture().await.namespace("adopted").await;
    ns.create(CLASS).await;
    ns.create_ready(&database()).await;
    let pods = |pods: Vec<Value>| pods.iter().map(|pod| pod["metadata"]["uid"].clone()).collect::<Vec<_>>();
    let before = pods(ns.get("pods").await);
    let count = ours(&ns).await.len();
    partitions_are_collected(&ns).await;
    ns.kubectl(["delete", "database/db", "--cascade=orphan"]).await;
    ns.until(CHILDREN, "they have no owner", |found| {
        let of_db = |object: &&Value| object["metadata"]["annotations"]["cloud.atomix.io/hash"].is_string();
        found.iter().filter(of_db).all(|object| object["metadata"]["ownerReferences"].is_null())
    })
    .await;
    // A foreign object under a name of ours: no hash, though its labels are ours.
    ns.kubectl(["delete", "service/db-1"]).await;
    let foreign = json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 80}]},
        "metadata": {"name": "db-1", "labels": {"app": "atomix", "database": "db.adopted"}}});
    ns.create(&foreign.to_string()).await;
    let foreign = ns.one("service/db-1").await;
    // The class is spelled otherwise meanwhile.
    let edit = r#"{"spec": {"resources": {"limits": {"memory": "100M"}}}}"#;
    ns.kubectl(["patch", "raftstorageclass/raft", "--type=merge", "-p", edit]).await;
    ns.create(database()).await;
    ns.kubectl(["annotate", "database/db", "cloud.atomix.io/adopt=all"]).await;
    ns.until("database/db", "another word is none", |found| {
        found
            .iter()
            .any(|db| condition(db, "Degraded")["message"].as_str().unwrap_or_default().contains(r#"(it is "all" now)"#))
    })
    .await;
    for object in ours(&ns).await {
        assert_eq!(object["metadata"]["ownerReferences"], Value::Null, "{object:#}");
    }
    assert_eq!(ours(&ns).await.len(), count - 1);
    run_the_printed_command(&ns).await;
    ns.until("database/db", "what is foreign is in the way", |found| {
        found.iter().any(|db| {
            let message = condition(db, "Degraded")["message"].as_str().unwrap_or_default();
            message.contains("Service db-1 is there already") && !message.contains("kubectl")
        })
    })
    .await;
    assert_eq!(ns.one("service/db-1").await, foreign);
    ns.kubectl(["delete", "service/db-1"]).await;
    adopted(&ns, count).await;
    assert_eq!(pods(ns.get("pods").await), before, "no pod restarts");
    ns.kubectl(["delete", "database/db"]).await; // they are its own: they go with it
    ns.wait_gone("statefulset/db-1").await;
    ns.wait_gone("partition/db-1").await;
}

#[tokio::test]
async fn what_a_backup_brought_back_is_adopted_and_follows_its_class_again() {
    let ns = shared_fixture().await.namespace("restored").await;
    ns.create(CLASS).await;
    ns.create_ready(&database()).await;
    let saved = ours(&ns).await;
    let count = saved.len();
    ns.kubectl(["delete", "database/db"]).await;
    ns.wait_gone("statefulset/db-1").await;
    ns.wait_gone("partition/db-1").await;
    ns.wait_gone("service/db-1").await;
    ns.wait_gone("service/db-1-hs").await;
    ns.wait_gone("configmap/db-1").await;
    ns.wait_gone("poddisruptionbudget/db-1").await;
    // As a tool for backups restores: labels and annotations, no UID and no owner.
    for object in &saved {
        let mut restored = object.clone();
        let fields = restored["metadata"].as_object_mut().unwrap();
        fields.retain(|field, _| ["name", "labels", "annotations"].contains(&field.as_str()));
        restored.as_object_mut().unwrap().remove("status");
        if let Some(spec) = restored.get_mut("spec").and_then(Value::as_object_mut) {
            spec.retain(|field, _| {
                !["clusterIP", "clusterIPs"].contains(&field.as_str()) || object["spec"]["clusterIP"] == "None"
            });
        }
        ns.create(&restored.to_string()).await;
    }
    ns.create(database()).await;
    run_the_printed_command(&ns).await;
    adopted(&ns, count).await;
    // The client that restored it does not manage its fields: what the class drops goes.
    let edit = r#"{"spec": {"resources": null, "env": [{"name": "A", "value": "1"}]}}"#;
    ns.kubectl(["patch", "raftstorageclass/raft", "--type=merge", "-p", edit]).await;
    ns.until("statefulset/db-1", "the limit is gone", |found| {
        found.iter().any(|set| {
            let container = &set["spec"]["template"]["spec"]["containers"][0];
            container["resources"]["limits"].is_null() && container["env"].to_string().contains("\"A\"")
        })
    })
    .await;
}

/// A name, and what makes an object of ours foreign.
type Foreign<'a> = (&'a str, &'a dyn Fn(&mut Value));

/// Applies or deletes as the controller's account.
async fn as_controller(ns: &Namespace<'_>, version: &str, kind: &str, plural: &str) -> kube::Api<kube::core::DynamicObject> {
    let client = ns.fixture().plane.client_as("controller").await.unwrap();
    let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
    let gvk = kube::core::GroupVersionKind::gvk(group, version, kind);
    kube::Api::namespaced_with(client, &ns.name, &kube::discovery::ApiResource::from_gvk_with_plural(&gvk, plural))
}

#[tokio::test]
async fn the_policy_lets_the_account_adopt_what_was_ours_and_nothing_else() {
    let ns = shared_fixture().await.namespace("adopting").await;
    let database = |name: &str| {
        format!(
            "{{apiVersion: cloud.atomix.io/v1beta3, kind: Database, metadata: {{name: {name}}}, spec: {{storageClass: {{kind: Nobodys, name: a}}}}}}"
        )
    };
    ns.create(&database("db")).await;
    let reference = |kind: &str, version: &str, name: &str, uid: &Value| json!({"apiVersion": version, "kind": kind, "name": name, "uid": uid});
    let uid = |name: &'static str| {
        let ns = &ns;
        async move { ns.one(&format!("database/{name}")).await["metadata"]["uid"].clone() }
    };
    let db = uid("db").await;
    let ours = reference("Database", "cloud.atomix.io/v1beta3", "db", &db);
    let map = |name: &str, change: &dyn Fn(&mut Value)| {
        let mut map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"app": "atomix", "database": "db.adopting"},
            "annotations": {"cloud.atomix.io/hash": "h", "cloud.atomix.io/database": "db.adopting"}}, "data": {"a": "1"}});
        change(&mut map);
        map
    };
    let api = as_controller(&ns, "v1", "ConfigMap", "configmaps").await;
    let params = kube::api::PatchParams::apply("atomix-controller").force();
    let take = |name: &str| {
        let wanted = map(name, &|map| {
            map["metadata"]["ownerReferences"] = json!([ours]);
            map["data"]["a"] = json!("2");
        });
        let (api, params, name) = (api.clone(), params.clone(), name.to_owned());
        async move { api.patch(&name, &params, &kube::api::Patch::Apply(&wanted)).await.map_err(|error| error.to_string()) }
    };
    let living = json!([reference("ConfigMap", "v1", "keeper", &json!("u"))]);
    let foreign: [Foreign<'_>; 5] = [
        ("no-hash", &|map| drop(map["metadata"]["annotations"].as_object_mut().unwrap().remove("cloud.atomix.io/hash"))),
        ("no-labels", &|map| drop(map["metadata"].as_object_mut().unwrap().remove("labels"))),
        ("other-app", &|map| map["metadata"]["labels"]["app"] = json!("mine")),
        ("of-another", &|map| map["metadata"]["annotations"]["cloud.atomix.io/database"] = json!("another.adopting")),
        ("owned", &|map| map["metadata"]["ownerReferences"] = living.clone()),
    ];
    ns.create("{apiVersion: v1, kind: ConfigMap, metadata: {name: keeper}}").await;
    for (name, change) in foreign {
        let mut given = map(name, change);
        if name == "owned" {
            given["metadata"]["ownerReferences"][0]["uid"] = ns.one("configmap/keeper").await["metadata"]["uid"].clone();
        }
        ns.create(&given.to_string()).await;
        let refusal = take(name).await.expect_err(name);
        assert!(refusal.contains("NameTaken: ConfigMap adopting/") && refusal.contains("may not change it"), "{refusal}");
        assert_eq!(ns.one(&format!("configmap/{name}")).await["data"]["a"], "1");
    }
    ns.create(&map("orphan", &|_| {}).to_string()).await;
    take("orphan").await.unwrap();
    // Not without becoming its owner, and not to delete it.
    ns.create(&map("left", &|_| {}).to_string()).await;
    let bare = map("left", &|map| map["data"]["a"] = json!("2"));
    let refusal = api.patch("left", &params, &kube::api::Patch::Apply(&bare)).await.unwrap_err();
    let kube::Error::Api(status) = &refusal else { panic!("{refusal}") };
    let causes = &status.details.as_ref().expect("details of the refusal").causes;
    let reasons: Vec<_> = causes.iter().map(|cause| admission_policy::refusal(&cause.message)).collect();
    assert_eq!(reasons, [Some(Reason::NameTaken)], "{refusal}");
    let refusal = api.delete("left", &Default::default()).await.map(drop).unwrap_err().to_string();
    assert!(refusal.contains("NameTaken"), "{refusal}");
}

#[tokio::test]
async fn the_policy_lets_the_account_delete_pods_of_databases_that_are_not_ready_and_no_others() {
    let ns = shared_fixture().await.namespace("deleting").await;
    ns.create(CLASS).await;
    ns.create_ready(&database()).await;
    let mine = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "mine", "labels": {"app": "atomix", "database": "db.deleting"}},
        "spec": {"nodeSelector": {"no": "node"}, "containers": [{"name": "c", "image": "i"}]}});
    ns.create(&mine.to_string()).await;
    let pods = as_controller(&ns, "v1", "Pod", "pods").await;
    for pod in ["db-1-0", "mine"] {
        let refusal = pods.delete(pod, &Default::default()).await.map(drop).unwrap_err().to_string();
        assert!(refusal.contains(&format!("NameTaken: Pod deleting/{pod}")), "{refusal}");
    }
    let before = ns.one("pod/db-1-0").await["metadata"]["uid"].clone();
    ns.set_pod_ready("db-1-0", false).await;
    pods.delete("db-1-0", &Default::default()).await.unwrap();
    ns.until("pod/db-1-0", "its set makes it again", |found| found.iter().any(|pod| pod["metadata"]["uid"] != before)).await;
    let patch = json!({"metadata": {"labels": {"a": "b"}}});
    let refused = pods.patch("db-1-1", &Default::default(), &kube::api::Patch::Merge(&patch)).await;
    assert!(refused.is_err(), "pods are deleted, and never changed");
}
