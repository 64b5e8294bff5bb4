//! The cache plugin: one node keeps all partitions of a database in memory. Nothing survives the node's pod.
//!
//! Whatever share of the partitions a cluster has elsewhere, all of them live in cluster 1 here: the node of a cache has no peers.

use atomix_sdk::{
    Class, FieldError, Group, ImagePullPolicy, Kind, Members, POD_FIELDS, PartitionState, Plan, Plugin, Refusal, Seen,
    Value, check_image, field_error, json, text,
};
use schemars::JsonSchema;
use serde::Deserialize;

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

/// The plugin: its class and the kinds of objects that it plans and reads.
pub fn plugin() -> Plugin {
    Plugin::new("cache", env!("CARGO_PKG_VERSION"))
        .class(
            Class::new("CacheStorageClass", plan)
                .check(check)
                .pods(&["NODE_ID"])
                .group("atomix.cache.config.ProtocolConfig", spec_of, group_of)
                .column("Image", "string", ".spec.image"),
        )
        .emits(Kind::new("v1", "ConfigMap"))
        .emits(Kind::new("v1", "Service"))
        .emits(Kind::new("apps/v1", "StatefulSet"))
        .watches(Kind::new("v1", "Pod").reads(&POD_FIELDS))
}

const CLUSTER: u32 = 1;
/// Port of clients, and of peers that a cache does not have.
const PORT: u16 = 5678;

fn plan(seen: &Seen<CacheClass>) -> Result<Plan, Refusal> {
    let name = format!("{}-{CLUSTER}", seen.database.name);
    let node = Members { seen, cluster: CLUSTER, name, role: None, memory: None, claim: None };
    let config = cluster_json(&node);
    let mut plan = Plan::new()
        .object("config", configuration(&node, &config))
        .object("peers", node.peers(&[("api", PORT)]))
        .object("node", node.set(1, &config, pod(&node)));
    let health = node.health(1);
    for partition in &seen.partitions {
        let (id, service) = (partition.id, &partition.service_name);
        plan = plan.object(format!("partition-{id}"), node.service(service, "api", PORT)).partition(PartitionState {
            id,
            ready: health.quorum(),
            endpoints: vec![seen.endpoint(service, PORT)],
            problem: health.problem.clone(),
        });
    }
    Ok(plan)
}

fn configuration(node: &Members<CacheClass>, config: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": node.name, "labels": node.label()},
        "data": {"cluster.json": config, "protocol.json": "{}"},
    })
}

fn pod(node: &Members<CacheClass>) -> Value {
    let class = &node.seen.class;
    json!({
        "containers": [{
            "name": "cache",
            "image": class.image,
            "imagePullPolicy": class.image_pull_policy,
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
            "volumeMounts": [{"name": "config", "mountPath": "/etc/atomix", "readOnly": true}],
        }],
        "volumes": [{"name": "config", "configMap": {"name": node.name}}],
    })
}

fn cluster_json(node: &Members<CacheClass>) -> String {
    let partitions: Vec<Value> = node.seen.partitions.iter().map(|partition| json!({"partition": partition.id})).collect();
    let replicas: Vec<Value> =
        node.names(1).map(|id| json!({"id": id, "host": node.host(&id), "apiPort": PORT, "protocolPort": PORT})).collect();
    text(&json!({"replicas": replicas, "partitions": partitions}))
}

fn check(class: &CacheClass) -> Vec<FieldError> {
    let mut errors = Vec::new();
    check_image("spec.image", &class.image, &image(), &mut |path, message| errors.push(field_error(path, message)));
    errors
}

/// The class that a group asks for. Its message has no fields, so whatever stands in it is unknown and passed over.
fn spec_of(_message: &[u8], partition_size: u32) -> Result<Value, Vec<FieldError>> {
    match partition_size {
        0 | 1 => Ok(json!({})), // in protobuf 0 is a number that is not set
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
