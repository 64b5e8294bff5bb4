//! Both versions of Database on a real API server, and the webhook between them from its first start on.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use atomix_controller_kube::webhook;
use harness::eventually::{Eventually, eventually};
use harness::fixture::{SOON, private_plane, shared_fixture};
use harness::kubectl::Kubectl;
use harness::{deploy, ports};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::core::{DynamicObject, GroupVersionKind};
use kube::discovery::ApiResource;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use tokio::sync::watch;

const NEW: &str = "databases.v1beta3.cloud.atomix.io";
const OLD: &str = "databases.v1beta2.cloud.atomix.io";

#[tokio::test]
async fn what_is_written_in_one_version_is_read_in_the_other_and_stored_in_the_new() {
    let fixture = shared_fixture().await;
    let ns = fixture.namespace("versions").await;
    ns.create(
        r"
apiVersion: cloud.atomix.io/v1beta2
kind: Database
metadata: {name: old, annotations: {mine: kept}}
spec:
  clusters: 2
  template:
    metadata: {labels: {tier: storage}}
    spec: {partitions: 3, storage: {kind: NowhereStorageClass, name: nowhere}}
",
    )
    .await;
    let class = json!({"group": "storage.cloud.atomix.io", "kind": "NowhereStorageClass", "name": "nowhere"});
    let read = ns.one(&format!("{NEW}/old")).await;
    assert_eq!(read["spec"], json!({"partitions": 6, "partitionsPerCluster": 3, "storageClass": class}));
    assert_eq!(read["metadata"]["annotations"]["mine"], "kept");
    let read = ns.one(&format!("{OLD}/old")).await;
    let template = json!({"metadata": {"labels": {"tier": "storage"}}, "spec": {"partitions": 3, "storage": class}});
    assert_eq!(read["spec"], json!({"clusters": 2, "template": template}));
    assert_eq!(read["metadata"]["annotations"], json!({"mine": "kept"}));

    let stored = fixture.plane.stored("/registry/cloud.atomix.io/databases/versions/old").await.unwrap().unwrap();
    let stored: Value = serde_json::from_slice(&stored).unwrap();
    assert_eq!(stored["apiVersion"], "cloud.atomix.io/v1beta3");
    assert_eq!(stored["spec"], json!({"partitions": 6, "partitionsPerCluster": 3, "storageClass": class}));

    ns.create(
        r"
apiVersion: cloud.atomix.io/v1beta3
kind: Database
metadata: {name: new}
spec: {partitions: 5, partitionsPerCluster: 2, storageClass: {kind: NowhereStorageClass, name: nowhere}}
",
    )
    .await;
    let read = ns.one(&format!("{OLD}/new")).await;
    assert_eq!(read["spec"], json!({"clusters": 3, "template": {"spec": {"partitions": 2, "storage": class}}}));
    ns.kubectl(["annotate", &format!("{OLD}/new"), "touched=yes"]).await;
    assert_eq!(ns.one(&format!("{NEW}/new")).await["spec"]["partitions"], 5, "the last cluster stays half full");
    ns.kubectl(["scale", &format!("{OLD}/new"), "--replicas=4"]).await;
    assert_eq!(ns.one(&format!("{NEW}/new")).await["spec"]["partitions"], 8);
}

#[tokio::test]
async fn the_webhook_from_its_first_start_on() {
    let plane = private_plane("webhook").await;
    let [first, second] = [ports::free().unwrap(), ports::free().unwrap()];
    deploy::apply(&plane, &format!("https://127.0.0.1:{first}")).await.unwrap();
    let kubectl = Kubectl::new(&plane);
    let client = plane.client().await.unwrap();

    // Until a controller serves, the stored version works and the old one answers why it does not.
    let databases = [database(&client, "v1beta2"), database(&client, "v1beta3")];
    let given = object("cloud.atomix.io/v1beta3", "early", &json!({"partitions": 3, "storageClass": class()}));
    databases[1].create(&PostParams::default(), &given).await.unwrap();
    let refusal = databases[0].get("early").await.unwrap_err().to_string();
    assert!(refusal.contains("conversion webhook for cloud.atomix.io/v1beta3, Kind=Database failed"), "{refusal}");

    // Two controllers that start at the same time end with one authority.
    let account = "system:serviceaccount:kube-system:atomix-controller";
    plane.identity(account, None).unwrap();
    let mut servers = Vec::new();
    for port in [first, second] {
        let client = plane.client_as("atomix-controller").await.unwrap();
        servers.push(Server::start(client, port));
    }
    for server in &mut servers {
        server.ready.wait_for(|ready| *ready).await.unwrap();
    }
    let authority = || async { authorities(&kubectl).await };
    let (kept, trusted) = authority().await;
    assert_eq!(kept, trusted, "what is kept is what the API server trusts");
    assert!(kept.len() > 100);
    let served = async |what| {
        eventually(SOON, what, || async { Ok(Eventually::Now(databases[0].get("early").await?)) }).await.unwrap();
    };
    served("v1beta2 is served").await;
    servers.remove(0).stop().await;
    let url = format!("https://127.0.0.1:{second}");
    patch_client_config(&kubectl, &json!({"url": format!("{url}/convert")})).await;
    served("the second serves under the same authority").await;

    survives_any_object(&databases).await;

    // Whatever takes the trust away, it comes back.
    patch_client_config(&kubectl, &json!({"caBundle": null})).await;
    trusted_again(&kubectl, "the bundle was removed").await;
    kubectl
        .run(["-n", "kube-system", "patch", "secret", webhook::SECRET, "--type=merge", "-p", r#"{"data":null}"#])
        .await
        .unwrap();
    trusted_again(&kubectl, "the Secret was emptied").await;
    let (renewed, _) = authority().await;
    assert_ne!(renewed, kept);
    kubectl.run(["delete", "crd", "databases.cloud.atomix.io"]).await.unwrap();
    deploy::apply(&plane, &url).await.unwrap();
    trusted_again(&kubectl, "the definition was made anew").await;
    assert_eq!(authority().await.0, renewed, "the authority outlives the definition");

    // A start over what is settled writes nothing.
    servers.pop().unwrap().stop().await;
    let mark = plane.audit().mark(&plane).await.unwrap();
    let client = plane.client_as("atomix-controller").await.unwrap();
    let mut again = Server::start(client, second);
    again.ready.wait_for(|ready| *ready).await.unwrap();
    let requests = plane.audit().since(&plane, mark).await.unwrap();
    let writes: Vec<_> =
        requests.iter().filter(|it| it.user == account && !["list", "watch", "get"].contains(&it.verb.as_str())).collect();
    assert!(writes.is_empty(), "{writes:?}");
    again.stop().await;
}

/// A webhook in this process, under the controller's account.
struct Server {
    ready: watch::Receiver<bool>,
    stop: tokio::sync::oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Server {
    fn start(client: kube::Client, port: u16) -> Self {
        let options = webhook::Options {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            namespace: "kube-system".to_owned(),
            service: "atomix-controller".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
        };
        let (sender, ready) = watch::channel(false);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let stopped = async move {
            let _ = stopped.await;
        };
        Self {
            ready,
            stop,
            ended: tokio::spawn(webhook::serve(
                client,
                options,
                webhook::admission_review::Reviewer::default(),
                sender,
                stopped,
            )),
        }
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        tokio::time::timeout(Duration::from_secs(20), self.ended).await.expect("it stops").unwrap().unwrap();
    }
}

/// What the Secret keeps and what the definition trusts.
async fn authorities(kubectl: &Kubectl) -> (String, String) {
    let path = r"jsonpath={.data.ca\.crt}";
    let kept = kubectl.run(["-n", "kube-system", "get", "secret", webhook::SECRET, "-o", path]).await.unwrap();
    let path = "jsonpath={.spec.conversion.webhook.clientConfig.caBundle}";
    (kept, kubectl.run(["get", "crd", "databases.cloud.atomix.io", "-o", path]).await.unwrap())
}

async fn trusted_again(kubectl: &Kubectl, after: &str) {
    eventually(SOON, after, || async {
        let (kept, trusted) = authorities(kubectl).await;
        kubectl.run(["get", OLD]).await?;
        Ok(Eventually::when(!kept.is_empty() && kept == trusted, || "the two differ".to_owned()))
    })
    .await
    .unwrap();
}

async fn patch_client_config(kubectl: &Kubectl, config: &Value) {
    let patch = json!({"spec": {"conversion": {"webhook": {"clientConfig": config}}}}).to_string();
    kubectl.run(["patch", "crd", "databases.cloud.atomix.io", "--type=merge", "-p", &patch]).await.unwrap();
}

/// For any object, in either version: what is read in the other version and written back as it was read changes nothing; and
/// what is applied in one version can be taken over field by field in the other.
async fn survives_any_object(databases: &[Api<DynamicObject>; 2]) {
    let mut runner = TestRunner::deterministic();
    for round in 0..60 {
        let from = round % 2;
        let (written, read) = (&databases[from], &databases[1 - from]);
        let spec = if from == 0 { old_spec() } else { new_spec() }.new_tree(&mut runner).unwrap().current();
        let version = ["cloud.atomix.io/v1beta2", "cloud.atomix.io/v1beta3"][from];
        let name = format!("any-{round}");
        let created = written.create(&PostParams::default(), &object(version, &name, &spec)).await.unwrap();
        // With the first update, be it of nothing, the API server stores what a status is by default.
        let created = written.replace(&name, &PostParams::default(), &created).await.unwrap();
        let other = read.get(&name).await.unwrap();
        assert_eq!(other.metadata.resource_version, created.metadata.resource_version);
        let back = read.replace(&name, &PostParams::default(), &other).await.unwrap();
        assert_eq!(back.metadata.resource_version, created.metadata.resource_version, "{spec} is not {}", other.data);
        assert_eq!(written.get(&name).await.unwrap().data, created.data);

        let applied = json!({"apiVersion": other.types.as_ref().unwrap().api_version, "kind": "Database",
            "metadata": {"name": name}, "spec": other.data["spec"]});
        let params = PatchParams::apply("someone-else").force();
        let taken = read.patch(&name, &params, &Patch::Apply(&applied)).await.unwrap();
        assert_eq!(taken.data, other.data);
        assert_eq!(written.get(&name).await.unwrap().data, created.data);
        written.delete(&name, &DeleteParams::default()).await.unwrap();
    }
}

fn new_spec() -> BoxedStrategy<Value> {
    (1..1025u32, proptest::option::of(1..1025u32), proptest::option::of("[a-z]{1,9}"))
        .prop_map(|(partitions, share, namespace)| {
            let mut spec = json!({"partitions": partitions, "storageClass": class()});
            if let Some(share) = share {
                spec["partitionsPerCluster"] = json!(share);
            }
            if let Some(namespace) = namespace {
                spec["storageClass"]["namespace"] = json!(namespace);
            }
            spec
        })
        .boxed()
}

fn old_spec() -> BoxedStrategy<Value> {
    let metadata = proptest::option::of(proptest::collection::btree_map("[a-z]{1,5}", any::<i32>(), 0..4));
    (1..1025u32, 1..33u32, metadata)
        .prop_map(|(share, clusters, metadata)| {
            let clusters = clusters.min(1024 / share);
            let mut template = json!({"spec": {"partitions": share, "storage": class()}});
            if let Some(metadata) = metadata {
                template["metadata"] = json!({"labels": metadata});
            }
            json!({"clusters": clusters, "template": template})
        })
        .boxed()
}

fn class() -> Value {
    json!({"group": "storage.cloud.atomix.io", "kind": "NowhereStorageClass", "name": "nowhere"})
}

fn object(version: &str, name: &str, spec: &Value) -> DynamicObject {
    let object = json!({"apiVersion": version, "kind": "Database", "metadata": {"name": name}, "spec": spec});
    serde_json::from_value(object).unwrap()
}

fn database(client: &kube::Client, version: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("cloud.atomix.io", version, "Database");
    Api::namespaced_with(client.clone(), "default", &ApiResource::from_gvk(&kind))
}
