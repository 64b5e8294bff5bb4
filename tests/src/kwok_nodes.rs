//! Nodes that kwok plays: they are Ready at once, and so are the pods that the scheduler puts on them; and how these pods end. Starts no
//! process.

use std::future::ready;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::controlplane::ControlPlane;
use crate::eventually::{Eventually, eventually};

/// The annotation by which kwok recognises its nodes; real nodes may stand beside them.
pub const MARK: &str = "kwok.x-k8s.io/node=fake";

/// Creates `count` nodes, each with room for a thousand pods. Returns when all are Ready.
pub async fn create(plane: &ControlPlane, count: usize) -> Result<()> {
    let client = plane.client().await?;
    let nodes: Api<Node> = Api::all(client.clone());
    for number in 1..=count {
        let node = serde_json::from_value(node(number)).context("the node is well-formed")?;
        nodes.create(&PostParams::default(), &node).await.with_context(|| format!("could not create node {number}"))?;
    }
    all_ready(client, count).await
}

/// Waits until `count` nodes are Ready.
pub async fn all_ready(client: kube::Client, count: usize) -> Result<()> {
    let nodes: Api<Node> = Api::all(client);
    eventually(Duration::from_secs(180), "all nodes are Ready", || async {
        let list = nodes.list(&ListParams::default()).await.context("could not list nodes")?;
        let ready = list.iter().filter(|node| is_ready(node)).count();
        Ok(if ready == count { Eventually::Now(()) } else { Eventually::NotYet(format!("{ready} of {count} are")) })
    })
    .await
}

/// Ends pods that are being deleted, as the kubelets of their nodes would, for as long as it is awaited. Of kwok's own stages this is left out:
/// it deletes pods by their names, on a busy machine so late that it meets their successors, which it deletes too, and theirs.
pub async fn end_pods(client: kube::Client) {
    let pods: Api<Pod> = Api::all(client.clone());
    let changes = watcher(pods, watcher::Config::default()).default_backoff().applied_objects();
    let leaving = changes.filter_map(|change| ready(change.ok().filter(is_leaving))); // watched again after a pause
    let end = |pod: Pod| {
        let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
        let this_one = Preconditions { uid: pod.uid(), resource_version: None };
        let params = DeleteParams::default().grace_period(0).preconditions(this_one);
        async move {
            while !is_gone(&pods.delete(&pod.name_any(), &params).await) {
                tokio::time::sleep(AGAIN).await;
            }
        }
    };
    leaving.for_each_concurrent(AT_ONCE, end).await;
}

/// How many pods are ended at a time.
const AT_ONCE: usize = 8;
/// How long until a pod that could not be ended is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// Whether a pod waits for its kubelet to be gone. One whose time is 0 waits for a finalizer alone.
fn is_leaving(pod: &Pod) -> bool {
    let is_on_a_node = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    is_on_a_node && pod.metadata.deletion_timestamp.is_some() && pod.metadata.deletion_grace_period_seconds != Some(0)
}

/// Whether this very pod is gone, or on its way.
fn is_gone<T>(deleted: &kube::Result<T>) -> bool {
    match deleted {
        Ok(_) => true,
        Err(kube::Error::Api(status)) => matches!(status.code, 404 | 409),
        Err(_) => false,
    }
}

/// Makes a running pod's Ready condition true or false, as its probe would on a real node. kwok leaves it so.
pub async fn set_pod_ready(client: &kube::Client, namespace: &str, pod: &str, ready: bool) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let status = if ready { "True" } else { "False" };
    let now = k8s_openapi::jiff::Timestamp::now().to_string();
    let condition = |name: &str| json!({"type": name, "status": status, "lastTransitionTime": now, "reason": "SetByTest"});
    let patch = json!({"status": {"conditions": [condition("Ready"), condition("ContainersReady")]}});
    let patched = pods.patch_status(pod, &PatchParams::default(), &Patch::Strategic(&patch)).await;
    patched.with_context(|| format!("could not set the readiness of pod {namespace}/{pod}"))?;
    Ok(())
}

fn node(number: usize) -> serde_json::Value {
    let name = format!("node-{number}");
    let room = json!({"cpu": "1000", "memory": "1000Gi", "pods": "1000"});
    let (key, value) = MARK.split_once('=').expect("the mark is a pair");
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {key: value},
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "topology.kubernetes.io/zone": format!("zone-{number}"),
                "type": "kwok",
            },
        },
        "status": {"allocatable": room, "capacity": room},
    })
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
}
