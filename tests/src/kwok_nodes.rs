//! Nodes that kwok plays: they are Ready at once, and so are the pods that the scheduler puts on them. Starts no process.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
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
