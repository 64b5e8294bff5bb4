//! What users see of the definitions, and what the API server refuses on its own: users what cannot be, the controller what is
//! not its to do.

use harness::controller::{NAMESPACE, USER};
use harness::fixture::{Namespace, shared_fixture};
use serde_json::{Value, json};

const NEW: &str = "databases.v1beta3.cloud.atomix.io";
const OLD: &str = "databases.v1beta2.cloud.atomix.io";

/// A class that no plugin serves: the controller makes nothing of it.
const NOWHERE: &str = "{kind: NowhereStorageClass, name: nowhere}";

fn new(name: &str, fields: &str) -> String {
    format!(
        "{{apiVersion: cloud.atomix.io/v1beta3, kind: Database, metadata: {{name: {name}}}, \
         spec: {{{fields} storageClass: {NOWHERE}}}}}"
    )
}

fn old(name: &str, clusters: u32, partitions: u32) -> String {
    format!(
        "{{apiVersion: cloud.atomix.io/v1beta2, kind: Database, metadata: {{name: {name}}}, \
         spec: {{clusters: {clusters}, template: {{spec: {{partitions: {partitions}, storage: {NOWHERE}}}}}}}}}"
    )
}

#[tokio::test]
async fn kubectl_explains_lists_and_scales() {
    let ns = shared_fixture().await.namespace("resources").await;
    let explained = ns.kubectl(["explain", "database.spec.partitionsPerCluster"]).await;
    assert!(explained.contains("Without it the class decides"), "{explained}");
    let explained = ns.kubectl(["explain", "database.spec.template", "--api-version=cloud.atomix.io/v1beta2"]).await;
    assert!(explained.contains("What each cluster holds."), "{explained}");
    let explained = ns.kubectl(["explain", "primitive.properties.type"]).await;
    assert!(explained.contains("LeaderLatch"), "{explained}");

    ns.create(&new("new", "partitions: 4, partitionsPerCluster: 2,")).await;
    ns.create(&old("old", 2, 3)).await;
    let listed = ns.kubectl(["get", "atomix"]).await;
    assert!(listed.contains("database.cloud.atomix.io/new") && listed.contains("CLASS"), "{listed}");
    assert!(ns.kubectl(["get", "db", "new"]).await.contains("nowhere"));

    ns.kubectl(["scale", "database/new", "--replicas=5"]).await;
    assert_eq!(ns.one("database/new").await["spec"]["partitions"], 5);
    ns.kubectl(["scale", &format!("{OLD}/old"), "--replicas=4"]).await;
    assert_eq!(ns.one(&format!("{OLD}/old")).await["spec"]["clusters"], 4);
    assert_eq!(ns.one(&format!("{NEW}/old")).await["spec"]["partitions"], 12);
}

#[tokio::test]
async fn what_cannot_be_is_refused_in_a_sentence() {
    let ns = shared_fixture().await.namespace("rules").await;
    let too_long = "a".repeat(48);
    let unnamed = new("a", "").replace("kind: NowhereStorageClass, ", "");
    for (what, sentence) in [
        (new("1st", ""), "metadata.name must be at most 47 characters"),
        (new(&too_long, ""), "metadata.name must be at most 47 characters"),
        (old("a.b", 1, 1), "metadata.name must be at most 47 characters"),
        (new("a", "partitions: 1025,"), "should be less than or equal to 1024"),
        (new("a", "partitions: 0,"), "should be greater than or equal to 1"),
        (new("a", "partitionsPerCluster: 0,"), "should be greater than or equal to 1"),
        (old("a", 33, 32), "clusters times template.spec.partitions may be at most 1024"),
        (unnamed, "spec.storageClass.kind: Required value"),
        (new("a", "replicas: 3,"), "unknown field \"spec.replicas\""),
    ] {
        let refusal = ns.refused(&what).await;
        assert!(refusal.contains(sentence), "{what}: {refusal}");
    }
    ns.create(&new(&"a".repeat(47), "partitions: 1024,")).await;

    ns.create(&new("fixed", "partitions: 4, partitionsPerCluster: 2,")).await;
    ns.create(&new("free", "partitions: 4,")).await;
    // Once it is decided how partitions share clusters.
    for database in ["fixed", "free"] {
        let decided = r#"{"status": {"partitionsPerCluster": 2}}"#;
        ns.kubectl(["patch", &format!("database/{database}"), "--subresource=status", "--type=merge", "-p", decided]).await;
    }
    for (object, patch, sentence) in [
        ("database/fixed", json!({"partitionsPerCluster": 1}), "partitionsPerCluster cannot be changed"),
        ("database/free", json!({"partitionsPerCluster": 4}), "partitionsPerCluster cannot be changed"),
        (
            &format!("{OLD}/fixed"),
            json!({"template": {"spec": {"partitions": 1}}}),
            "template.spec.partitions cannot be changed",
        ),
        (&format!("{OLD}/fixed"), json!({"clusters": 513}), "may be at most 1024"),
    ] {
        let patch = json!({"spec": patch}).to_string();
        let refusal = ns.kubectl_fails(["patch", object, "--type=merge", "-p", &patch]).await;
        assert!(refusal.contains(sentence), "{object} {patch}: {refusal}");
    }
}

/// References to a database as the one owner. It is there, since the garbage collector removes what has no owner; and no
/// plugin serves its kind of class, so that the controller makes nothing of it.
async fn owner(ns: &Namespace<'_>, name: &str) -> Value {
    ns.create(&format!(
        "apiVersion: cloud.atomix.io/v1beta3\nkind: Database\nmetadata: {{name: {name}}}\nspec: {{storageClass: {{kind: Nobodys, name: a}}}}\n"
    ))
    .await;
    let uid = &ns.one(&format!("database/{name}")).await["metadata"]["uid"];
    json!([{"apiVersion": "cloud.atomix.io/v1beta3", "kind": "Database", "name": name, "uid": uid}])
}

/// Applies as the controller would. The account's rights come from the plugins that the shared fixture has.
async fn apply_as_controller(ns: &Namespace<'_>, object: &Value) -> Result<(), String> {
    let kind = object["kind"].as_str().unwrap();
    let (group, version) = object["apiVersion"].as_str().unwrap().rsplit_once('/').unwrap_or(("", "v1"));
    let api = as_controller(ns, group, version, kind).await;
    let params = kube::api::PatchParams::apply("atomix-controller").force();
    let name = object["metadata"]["name"].as_str().unwrap();
    api.patch(name, &params, &kube::api::Patch::Apply(object)).await.map(|_| ()).map_err(|it| it.to_string())
}

async fn delete_as_controller(ns: &Namespace<'_>, group: &str, version: &str, kind: &str, name: &str) -> Result<(), String> {
    let api = as_controller(ns, group, version, kind).await;
    api.delete(name, &Default::default()).await.map(|_| ()).map_err(|it| it.to_string())
}

async fn as_controller(ns: &Namespace<'_>, group: &str, version: &str, kind: &str) -> kube::Api<kube::core::DynamicObject> {
    let client = ns.fixture().plane.client_as("controller").await.unwrap();
    let gvk = kube::core::GroupVersionKind::gvk(group, version, kind);
    kube::Api::namespaced_with(client, &ns.name, &kube::discovery::ApiResource::from_gvk(&gvk))
}

#[tokio::test]
async fn the_controllers_account_may_change_only_what_a_database_owns() {
    let ns = shared_fixture().await.namespace("policy").await;
    let (ours, earlier) = (owner(&ns, "ours").await, owner(&ns, "earlier").await);
    let map = |name: &str, owners: Option<&Value>, value: &str| {
        let mut map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": value}});
        if let Some(owners) = owners {
            map["metadata"]["ownerReferences"] = owners.clone();
        }
        map
    };
    let refused = |done: Result<(), String>, sentence: &str| {
        let refusal = done.expect_err(sentence);
        assert!(refusal.contains(sentence) && refusal.contains("Forbidden"), "{refusal}");
    };
    ns.create(&map("foreign", None, "mine").to_string()).await;
    refused(
        apply_as_controller(&ns, &map("foreign", Some(&ours), "taken")).await,
        "NameTaken: ConfigMap policy/foreign is there already and belongs to no Database",
    );
    refused(
        delete_as_controller(&ns, "", "v1", "ConfigMap", "foreign").await,
        "NameTaken: ConfigMap policy/foreign belongs to no Database",
    );
    assert_eq!(ns.one("configmap/foreign").await["data"]["a"], "mine");

    apply_as_controller(&ns, &map("earlier", Some(&earlier), "1")).await.unwrap();
    refused(
        apply_as_controller(&ns, &map("earlier", Some(&ours), "2")).await,
        "NameTaken: ConfigMap policy/earlier belongs to another Database, or an older one of the same name",
    );
    let labels = json!({"app": "atomix", "database": "ours.policy"});
    let stateful = |template: Value| {
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {"name": "set", "labels": labels, "ownerReferences": ours},
            "spec": {"serviceName": "set", "replicas": 0, "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": template}}})
    };
    let harmless = json!({"automountServiceAccountToken": false, "containers": [{"name": "c", "image": "i"}]});
    let with = |pointer: &str, value: Value| {
        let mut template = harmless.clone();
        let (place, field) = pointer.rsplit_once('/').unwrap();
        template.pointer_mut(place).unwrap()[field] = value;
        stateful(template)
    };
    ns.until("validatingadmissionpolicy/atomix-controller", "its expressions were checked and nothing was found", |found| {
        found.iter().any(|policy| {
            let status = &policy["status"];
            status["observedGeneration"] == policy["metadata"]["generation"]
                && status["typeChecking"]["expressionWarnings"].is_null()
        })
    })
    .await;

    apply_as_controller(&ns, &stateful(harmless.clone())).await.unwrap();
    apply_as_controller(&ns, &with("/terminationGracePeriodSeconds", json!(1))).await.unwrap();
    refused(
        apply_as_controller(&ns, &with("/hostNetwork", json!(true))).await,
        "PodRefused: StatefulSet policy/set: hostNetwork",
    );
    delete_as_controller(&ns, "apps", "v1", "StatefulSet", "set").await.unwrap();
}

#[tokio::test]
async fn the_controllers_account_may_write_no_lease_but_its_own() {
    let fixture = shared_fixture().await;
    let ns = fixture.namespace("leases").await;
    let client = fixture.plane.client_as("controller").await.unwrap();
    let leases: kube::Api<k8s_openapi::api::coordination::v1::Lease> = kube::Api::namespaced(client, NAMESPACE);
    let foreign = "apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: {name: foreign}\nspec: {holderIdentity: a}\n";
    fixture.kubectl().namespace(NAMESPACE).run_with(["create", "-f", "-"], foreign).await.unwrap();
    let lease = ns.must(leases.get("foreign").await).await;
    for (action, done) in [
        ("replace", leases.replace("foreign", &Default::default(), &lease).await.map(drop)),
        ("delete", leases.delete("foreign", &Default::default()).await.map(drop)),
    ] {
        let refusal = done.expect_err(action).to_string();
        assert!(refusal.contains("LeaseRefused: foreign: the controller may write no Lease but its own"), "{refusal}");
    }
}

#[tokio::test]
async fn a_right_that_was_granted_by_mistake_is_of_no_use() {
    let ns = shared_fixture().await.namespace("mistake").await;
    ns.create(
        r"
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: mistake}
rules: [{apiGroups: ['', rbac.authorization.k8s.io], resources: [secrets, rolebindings, persistentvolumeclaims], verbs: ['*']}]
",
    )
    .await;
    ns.kubectl(["create", "rolebinding", "mistake", "--role=mistake", &format!("--user={USER}")]).await;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "ownerReferences": owner(&ns, "ours").await}});
    ns.eventually("the right is there and the policy refuses all the same", || async {
        let refusal = apply_as_controller(&ns, &secret).await.expect_err("no Secret may be made");
        let wanted = refusal.contains("KindRefused: Secret mistake/s: the controller may not write secrets");
        Ok(harness::eventually::Eventually::when(wanted, || refusal))
    })
    .await;

    let mut claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    apply_as_controller(&ns, &claim).await.unwrap();
    claim["metadata"]["labels"] = json!({"a": "b"});
    for refusal in [
        apply_as_controller(&ns, &claim).await.unwrap_err(),
        delete_as_controller(&ns, "", "v1", "PersistentVolumeClaim", "c").await.unwrap_err(),
    ] {
        assert!(refusal.contains("ClaimKept: PersistentVolumeClaim mistake/c"), "{refusal}");
    }

    // What it writes itself it may not remove.
    let admin = ns.fixture().kubectl();
    let own = [
        "customresourcedefinition/databases.cloud.atomix.io",
        "validatingwebhookconfiguration/atomix-controller",
        "storageplugin/raft",
        "secret/atomix-controller-webhook",
    ];
    let resources = "customresourcedefinitions,validatingwebhookconfigurations,storageplugins,secrets";
    admin
        .run(["create", "clusterrole", "mistake-removes", "--verb=get,delete", &format!("--resource={resources}")])
        .await
        .unwrap();
    let to = ["create", "clusterrolebinding", "mistake-removes", "--clusterrole=mistake-removes"];
    admin.run(to.into_iter().chain([format!("--user={USER}").as_str()])).await.unwrap();
    for name in own {
        ns.eventually(&format!("{name} cannot be removed"), || async {
            let delete = ["--namespace", NAMESPACE, "delete", name, "--dry-run=server", "--as", USER];
            let refusal = admin.run(delete).await.expect_err("the policy lets it be removed").to_string();
            let wanted = refusal.contains("ValidatingAdmissionPolicy 'atomix-controller'");
            Ok(harness::eventually::Eventually::when(wanted, || refusal))
        })
        .await;
    }
    admin.run(["delete", "clusterrole/mistake-removes", "clusterrolebinding/mistake-removes"]).await.unwrap();
}
