//! The cache plugin: one node keeps all partitions of a database in memory. Nothing survives the node's pod.
//!
//! Whatever share of the partitions a cluster has elsewhere, all of them live in cluster 1 here: the node of a cache has no peers.

use atomix_sdk::{
    Class, FieldError, Group, Kind, PartitionState, Plan, Plugin, Reason, Refusal, Seen, Value, field_error, hash, json,
    reason, text,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

atomix_sdk::export!(plugin, groups);

/// Partitions are kept in the memory of one node for each database; they are lost with its pod.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CacheClass {
    /// Image of the node.
    #[serde(default = "image")]
    image: String,

    /// When the image is pulled: Always, IfNotPresent or Never.
    #[serde(default)]
    image_pull_policy: ImagePullPolicy,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[allow(missing_docs)] // Kubernetes' own words
enum ImagePullPolicy {
    Always,
    #[default]
    IfNotPresent,
    Never,
}

/// What the plugin is.
pub fn plugin() -> Plugin {
    Plugin::new("cache", env!("CARGO_PKG_VERSION"))
        .class(
            Class::new("CacheStorageClass", plan)
                .check(check)
                .group("atomix.cache.config.ProtocolConfig", spec_of, group_of)
                .column("Image", "string", ".spec.image"),
        )
        .emits(Kind::new("v1", "ConfigMap"))
        .emits(Kind::new("v1", "Service"))
        .emits(Kind::new("apps/v1", "StatefulSet"))
        .watches(Kind::new("v1", "Pod").reads(&["/status/conditions", "/status/containerStatuses"]))
}

const CLUSTER: u32 = 1;
/// Port of clients, and of peers that a cache does not have.
const PORT: u16 = 5678;

fn plan(seen: &Seen<CacheClass>) -> Result<Plan, Refusal> {
    let name = format!("{}-{CLUSTER}", seen.database.name);
    let config = cluster_json(seen, &name);
    let mut plan = Plan::new()
        .object("config", configuration(&name, &config))
        .object("peers", node_service(seen, &name))
        .object("node", node(seen, &name, &config));
    let problem = missing(seen, &format!("{name}-0"));
    for partition in &seen.partitions {
        let (id, service) = (partition.id, &partition.service_name);
        plan = plan.object(format!("partition-{id}"), partition_service(seen, service)).partition(PartitionState {
            id,
            ready: problem.is_none(),
            endpoints: vec![seen.endpoint(service, PORT)],
            problem: problem.clone(),
        });
    }
    Ok(plan)
}

fn configuration(name: &str, config: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"cluster": "1"}},
        "data": {"cluster.json": config, "protocol.json": "{}"},
    })
}

fn node_service(seen: &Seen<CacheClass>, name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": format!("{name}-hs"), "labels": {"cluster": "1"}},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": true,
            "selector": seen.selector(CLUSTER),
            "ports": [{"name": "api", "port": PORT, "protocol": "TCP"}],
        },
    })
}

fn node(seen: &Seen<CacheClass>, name: &str, config: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name, "labels": {"cluster": "1"}},
        "spec": {
            "replicas": 1,
            "serviceName": format!("{name}-hs"),
            "selector": {"matchLabels": seen.selector(CLUSTER)},
            "template": {
                "metadata": {
                    "labels": seen.pod_labels(CLUSTER),
                    "annotations": {"storage.cloud.atomix.io/config-hash": hash(config)},
                },
                "spec": {
                    "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [{
                        "name": "cache",
                        "image": seen.class.image,
                        "imagePullPolicy": seen.class.image_pull_policy,
                        "args": ["$(NODE_ID)", "/etc/atomix/cluster.json", "/etc/atomix/protocol.json"],
                        "env": [{"name": "NODE_ID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                        "ports": [{"name": "api", "containerPort": PORT, "protocol": "TCP"}],
                        "readinessProbe": {
                            "exec": {"command": ["stat", "/tmp/atomix-ready"]},
                            "initialDelaySeconds": 5,
                            "periodSeconds": 5,
                            "timeoutSeconds": 10,
                        },
                        "livenessProbe": {"tcpSocket": {"port": "api"}, "initialDelaySeconds": 60, "timeoutSeconds": 10},
                        "securityContext": {"allowPrivilegeEscalation": false},
                        "volumeMounts": [{"name": "config", "mountPath": "/etc/atomix", "readOnly": true}],
                    }],
                    "volumes": [{"name": "config", "configMap": {"name": name}}],
                },
            },
        },
    })
}

fn partition_service(seen: &Seen<CacheClass>, name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": {"cluster": "1"}},
        "spec": {
            "selector": seen.selector(CLUSTER),
            "ports": [{"name": "api", "port": PORT, "targetPort": "api", "protocol": "TCP"}],
        },
    })
}

fn cluster_json(seen: &Seen<CacheClass>, name: &str) -> String {
    let id = format!("{name}-0");
    let host = format!("{id}.{name}-hs.{}.svc.{}", seen.database.namespace, seen.cluster_domain);
    let partitions: Vec<Value> = seen.partitions.iter().map(|partition| json!({"partition": partition.id})).collect();
    let node = json!({"id": id, "host": host, "apiPort": PORT, "protocolPort": PORT});
    text(&json!({"replicas": [node], "partitions": partitions}))
}

/// Why the node is not ready, if it is not.
fn missing(seen: &Seen<CacheClass>, name: &str) -> Option<Reason> {
    let not_ready = || Some(reason("NodeNotReady", format!("node {name} is not ready")));
    let Some(pod) = seen.object("Pod", name).filter(|pod| !pod.terminating()) else { return not_ready() };
    let conditions: Vec<Value> = pod.field("/status/conditions").unwrap_or_default();
    let holds = |kind: &str, status: &str| conditions.iter().find(|it| it["type"] == kind && it["status"] == status);
    if holds("Ready", "True").is_some() {
        return None;
    }
    if let Some(why) = holds("PodScheduled", "False") {
        let message = why["message"].as_str().unwrap_or("it cannot be scheduled");
        return Some(reason("Unschedulable", format!("node {name}: {message}")));
    }
    let containers: Vec<Value> = pod.field("/status/containerStatuses").unwrap_or_default();
    match containers.iter().find_map(|container| container["state"]["waiting"]["reason"].as_str()) {
        // Two names for one state, which alternate.
        Some("ErrImagePull" | "ImagePullBackOff") => {
            Some(reason("ImagePullBackOff", format!("node {name}: image {} cannot be pulled", seen.class.image)))
        }
        Some("CrashLoopBackOff") => Some(reason("CrashLoopBackOff", format!("node {name}: its container keeps exiting"))),
        _ => not_ready(),
    }
}

fn check(class: &CacheClass) -> Vec<FieldError> {
    match class.image.is_empty() || class.image.contains(char::is_whitespace) {
        true => {
            vec![field_error("spec.image", format!("{} is no image; one like {} is expected", json!(class.image), image()))]
        }
        false => Vec::new(),
    }
}

/// The class that a group asks for. Its message has no fields, so whatever stands in it is unknown and passed over.
fn spec_of(_message: &[u8], partition_size: u32) -> Result<Value, Vec<FieldError>> {
    match partition_size {
        0 | 1 => Ok(json!({})), // 0 is how protobuf says that it is not given
        more => Err(vec![field_error("partition_size", format!("{more} members; a cache has one node, so 1 is accepted"))]),
    }
}

/// The group that a class means.
fn group_of(_class: &CacheClass) -> Group {
    Group { partition_size: 1, value: Vec::new() }
}

fn image() -> String {
    "atomix/cache-storage-node:v0.5.1".to_owned()
}
