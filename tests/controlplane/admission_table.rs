//! One table lists what may be written for a database: `tests/admission/`, a manifest a row. The host and the API server's
//! policy, which sees the controller's account only, reach the same verdict on each.

use atomix_decide::admission::{self, Admitted, Kept};
use atomix_model::contract::{ClassSeen, DatabaseSeen, Descriptor, ObjectKind, Plan, PlannedObject, Request};
use atomix_model::crd::{Database, DatabaseSpec};
use atomix_model::grants::Grants;
use harness::controller::USER;
use harness::fixture::{Namespace, shared_fixture};
use harness::paths;
use kube::api::{Api, Patch, PatchParams};
use kube::core::{DynamicObject, GroupVersionKind};
use kube::discovery::ApiResource;
use serde_json::{Value, json};

/// One row: see the head of `tests/admission/pods.yaml`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    row: String,
    #[serde(default)]
    class: Value,
    object: Option<Value>,
    pod: Option<Value>,
    container: Option<Value>,
    metadata: Option<Value>,
    host: Option<String>,
    policy: Option<String>,
    policy_cannot: Option<String>,
    plural: Option<String>,
}

impl Row {
    fn manifest(&self) -> Value {
        if let Some(object) = &self.object {
            return object.clone();
        }
        let labels = json!({"app": "atomix", "database": "d.n"});
        let mut set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "s"}, "spec": {
            "serviceName": "s",
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {
                "automountServiceAccountToken": false,
                "containers": [{"name": "c", "image": "i"}],
            }},
        }});
        let template = &mut set["spec"]["template"];
        for (place, with) in [("/spec", &self.pod), ("/spec/containers/0", &self.container), ("/metadata", &self.metadata)] {
            let place = template.pointer_mut(place).and_then(Value::as_object_mut).unwrap();
            place.extend(with.as_ref().and_then(Value::as_object).cloned().unwrap_or_default());
        }
        if let Some(labels) = set["spec"]["template"]["metadata"].as_object_mut()
            && !labels.contains_key("labels")
        {
            labels.insert("labels".to_owned(), json!({"app": "atomix", "database": "d.n"}));
        }
        set
    }

    fn kind(&self, manifest: &Value) -> ObjectKind {
        let text = |field: &str| manifest[field].as_str().unwrap();
        let (group, version) = text("apiVersion").rsplit_once('/').unwrap_or(("", text("apiVersion")));
        let plural = self.plural.clone().unwrap_or_else(|| format!("{}s", text("kind").to_lowercase()));
        ObjectKind { group: group.into(), version: version.into(), kind: text("kind").into(), plural, reads: Vec::new() }
    }
}

fn rows() -> Vec<Row> {
    let files = std::fs::read_dir(paths::root().join("tests/admission")).unwrap();
    files
        .flat_map(|file| {
            serde_saphyr::from_str::<Vec<Row>>(&std::fs::read_to_string(file.unwrap().path()).unwrap()).unwrap()
        })
        .collect()
}

fn admitted(row: &Row, database: &Database) -> Result<Admitted, String> {
    let manifest = row.manifest();
    let grants = Grants::of(&json!({"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}));
    let descriptor = Descriptor {
        name: "p".into(),
        version: "1".into(),
        class_kinds: Vec::new(),
        emits: vec![row.kind(&manifest)],
        watches: Vec::new(),
    };
    let spec = if row.class.is_null() { json!({}) } else { row.class.clone() };
    let request = Request {
        database: DatabaseSeen {
            namespace: "n".into(),
            name: "d".into(),
            partitions: 1,
            partitions_per_cluster: 1,
            labels: Vec::new(),
            database_label: "d.n".into(),
        },
        class: ClassSeen { kind: "C".into(), version: "v1".into(), name: "c".into(), spec },
        partitions: Vec::new(),
        observed: Vec::new(),
        cluster_domain: "cluster.local".into(),
        features: Vec::new(),
    };
    let plan = Plan {
        objects: vec![PlannedObject { id: "it".into(), manifest }],
        partitions: Vec::new(),
        unsupported: Vec::new(),
        notes: Vec::new(),
    };
    admission::admit(&plan, &request, database, &descriptor, &grants, "kube-system.atomix-controller", &Kept::default())
}

/// Definitions of what other projects bring: of gateways and of snapshots.
fn definition(kind: &str, plural: &str, group: &str) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}"), "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"}},
        "spec": {"group": group, "scope": "Namespaced", "names": {"kind": kind, "plural": plural},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}})
}

/// Sends a manifest to the API server by dry run, as the controller's account.
async fn taken(ns: &Namespace<'_>, kind: &ObjectKind, manifest: &Value) -> Result<(), String> {
    let client = ns.fixture().plane.client_as("controller").await.unwrap();
    let gvk = GroupVersionKind::gvk(&kind.group, &kind.version, &kind.kind);
    let api: Api<DynamicObject> =
        Api::namespaced_with(client, &ns.name, &ApiResource::from_gvk_with_plural(&gvk, &kind.plural));
    let params = PatchParams { dry_run: true, ..PatchParams::apply("atomix-controller").force() };
    api.patch("s", &params, &Patch::Apply(manifest)).await.map(drop).map_err(|error| error.to_string())
}

#[tokio::test]
async fn the_policy_gives_each_row_the_verdict_of_the_host() {
    let ns = shared_fixture().await.namespace("n").await;
    for (kind, plural, group) in [
        ("HTTPRoute", "httproutes", "gateway.networking.k8s.io"),
        ("ReferenceGrant", "referencegrants", "gateway.networking.k8s.io"),
        ("VolumeSnapshot", "volumesnapshots", "snapshot.storage.k8s.io"),
    ] {
        ns.create(&definition(kind, plural, group).to_string()).await;
        ns.kubectl(["wait", "--for=condition=Established", "--timeout=60s", &format!("crd/{plural}.{group}")]).await;
    }
    ns.create("{apiVersion: cloud.atomix.io/v1beta3, kind: Database, metadata: {name: d}, spec: {storageClass: {kind: Nobodys, name: a}}}").await;
    ns.kubectl(["create", "rolebinding", "all", "--clusterrole=cluster-admin", &format!("--user={USER}")]).await;
    let live = ns.one("database/d").await;
    let mut database = Database::new("d", DatabaseSpec { partitions: 1, ..DatabaseSpec::default() });
    database.metadata.namespace = Some("n".into());
    database.metadata.uid = live["metadata"]["uid"].as_str().map(str::to_owned);
    let owner =
        json!([{"apiVersion": "cloud.atomix.io/v1beta3", "kind": "Database", "name": "d", "uid": live["metadata"]["uid"]}]);
    let harmless: Row = serde_saphyr::from_str("{row: harmless}").unwrap();
    ns.eventually("the account has all rights in the namespace", || async {
        let manifest = admitted(&harmless, &database).unwrap().objects.remove(0).manifest;
        let answer = taken(&ns, &harmless.kind(&manifest), &manifest).await;
        Ok(harness::eventually::Eventually::when(answer.is_ok(), || format!("{answer:?}")))
    })
    .await;

    let (mut wrong, rows) = (Vec::new(), rows());
    for row in &rows {
        let (manifest, host) = match admitted(row, &database) {
            Ok(admitted) => (admitted.objects.into_iter().next().unwrap().manifest, None),
            Err(error) => {
                let mut manifest = row.manifest();
                manifest["metadata"]["namespace"] = json!("n");
                manifest["metadata"]["labels"]["app"] = json!("atomix");
                manifest["metadata"]["labels"]["database"] = json!("d.n");
                manifest["metadata"]["ownerReferences"] = owner.clone();
                (manifest, Some(error))
            }
        };
        let policy = taken(&ns, &row.kind(&manifest), &manifest).await.err();
        let fits = |error: &Option<String>, wanted: &Option<String>| match (error, wanted) {
            (Some(error), Some(wanted)) => error.contains(wanted.as_str()),
            (error, wanted) => error.is_none() && wanted.is_none(),
        };
        if !fits(&host, &row.host) || !fits(&policy, &row.policy) {
            wrong.push(format!("{}\n  host: {host:?}\n  policy: {policy:?}", row.row));
        }
        if (row.host.is_some() != row.policy.is_some()) != row.policy_cannot.is_some() {
            wrong.push(format!("{}: the two differ, and the row does not give the reason", row.row));
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[tokio::test]
async fn the_controllers_account_connects_to_nothing() {
    let ns = shared_fixture().await.namespace("connect").await;
    ns.kubectl(["create", "rolebinding", "all", "--clusterrole=cluster-admin", &format!("--user={USER}")]).await;
    let client = ns.fixture().plane.client_as("controller").await.unwrap();
    for path in [
        "pods/a/exec?command=sh&stdout=true",
        "pods/a/attach?stdout=true",
        "pods/a/portforward?ports=1",
        "pods/a/proxy",
        "services/a/proxy",
    ] {
        let uri = format!("/api/v1/namespaces/connect/{path}");
        let resource = path.split(['/', '?']).collect::<Vec<_>>();
        let wanted = format!("the controller may not write {}/{}", resource[0], resource[2]);
        ns.eventually("the right is there and the policy refuses all the same", || async {
            let request = http::Request::get(&uri).body(Vec::new()).unwrap();
            let refusal = client.request_text(request).await.expect_err("nothing is connected").to_string();
            let seen = refusal.contains("KindRefused") && refusal.contains(&wanted);
            Ok(harness::eventually::Eventually::when(seen, || refusal))
        })
        .await;
    }
}
