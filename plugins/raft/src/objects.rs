//! The objects of one cluster, as the YAML that they become. Decides nothing: takes what runs, and what the class says of the rest.

use atomix_sdk::{Seen, Value, hash, json, set, text, wire};

use crate::class::{ClaimTemplate, RaftClass};
use crate::protocol::protocol_json;
use crate::running::{ANNOTATION, Running};

/// Port that clients connect to.
pub const API_PORT: u16 = 5678;
/// Port that members connect to.
const PROTOCOL_PORT: u16 = 5679;

/// One cluster of the database.
pub struct Cluster<'a> {
    /// All that is seen.
    pub seen: &'a Seen<RaftClass>,
    /// Number, from 1.
    pub number: u32,
    /// `<database>-<number>`.
    pub name: String,
    /// What it runs with.
    pub running: &'a Running,
    /// Its partitions, by id.
    pub partitions: &'a [wire::Partition],
}

impl Cluster<'_> {
    /// Who the members are and which partitions they keep.
    pub fn config(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": self.name, "labels": self.label(), "annotations": {ANNOTATION: self.running.text}},
            "data": {"cluster.json": self.cluster_json(), "protocol.json": self.protocol_json()},
        })
    }

    /// Gives each member a name, also before it is ready: members must find each other to become so.
    pub fn peers(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": self.peers_name(), "labels": self.label()},
            "spec": {
                "clusterIP": "None",
                "publishNotReadyAddresses": true,
                "selector": self.seen.selector(self.number),
                "ports": [
                    {"name": "api", "port": API_PORT, "protocol": "TCP"},
                    {"name": "protocol", "port": PROTOCOL_PORT, "protocol": "TCP"},
                ],
            },
        })
    }

    /// The members.
    pub fn members(&self) -> Value {
        let selector = self.seen.selector(self.number);
        let mut members = json!({
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": self.name, "labels": self.label(), "annotations": {ANNOTATION: self.running.text}},
            "spec": {
                "replicas": self.running.replicas,
                "serviceName": self.peers_name(),
                "podManagementPolicy": "Parallel", // no member is ready without a quorum of them
                "selector": {"matchLabels": selector},
                "template": {
                    "metadata": {
                        "labels": self.seen.pod_labels(self.number),
                        "annotations": {"storage.cloud.atomix.io/config-hash": hash(&self.what_nodes_read())},
                    },
                    "spec": self.pod(&selector),
                },
            },
        });
        if let (Some(spec), Some(claim)) = (members.get_mut("spec"), self.claim()) {
            set(spec, "volumeClaimTemplates", vec![claim].into());
        }
        members
    }

    /// Lets a drain of nodes take no more members at a time than a quorum can spare. One or two members can spare none: a drain costs
    /// a pause there, rather than being blocked for ever.
    pub fn budget(&self) -> Value {
        json!({
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": self.name, "labels": self.label()},
            "spec": {
                "maxUnavailable": ((self.running.replicas - 1) / 2).max(1),
                "selector": {"matchLabels": self.seen.selector(self.number)},
            },
        })
    }

    /// What clients of a partition connect to.
    pub fn partition_service(&self, name: &str) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "labels": self.label()},
            "spec": {
                "selector": self.seen.selector(self.number),
                "ports": [{"name": "api", "port": API_PORT, "targetPort": "api", "protocol": "TCP"}],
            },
        })
    }

    fn pod(&self, selector: &Value) -> Value {
        let class = &self.seen.class;
        let mut container = json!({
            "name": "raft",
            "image": class.image,
            "imagePullPolicy": class.image_pull_policy,
            "args": ["$(NODE_ID)", "/etc/atomix/cluster.json", "/etc/atomix/protocol.json"],
            "env": [{"name": "NODE_ID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "ports": [
                {"name": "api", "containerPort": API_PORT, "protocol": "TCP"},
                {"name": "protocol", "containerPort": PROTOCOL_PORT, "protocol": "TCP"},
            ],
            "readinessProbe": {
                "exec": {"command": ["stat", "/tmp/atomix-ready"]},
                "initialDelaySeconds": 5,
                "periodSeconds": 5,
                "timeoutSeconds": 10,
                "failureThreshold": 3,
            },
            "livenessProbe": {
                "tcpSocket": {"port": "protocol"},
                "initialDelaySeconds": 60, // replaying a long log comes first
                "timeoutSeconds": 10,
            },
            "securityContext": {"allowPrivilegeEscalation": false},
            "volumeMounts": [
                {"name": "config", "mountPath": "/etc/atomix", "readOnly": true},
                {"name": self.volume_name(), "mountPath": "/var/lib/atomix"},
            ],
        });
        if let Some(resources) = &class.resources {
            set(&mut container, "resources", resources.clone());
        }
        let mut volumes = vec![json!({"name": "config", "configMap": {"name": self.name}})];
        if self.running.claim.is_none() {
            volumes.push(json!({"name": self.volume_name(), "emptyDir": {}}));
        }
        json!({
            "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
                "weight": 100,
                "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": selector}},
            }]}},
            "topologySpreadConstraints": [{
                "maxSkew": 1,
                "topologyKey": "topology.kubernetes.io/zone",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector},
            }],
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
            "volumes": volumes,
        })
    }

    /// The claim of each member; it remembers what the cluster runs with, for a database made anew on volumes that were kept.
    fn claim(&self) -> Option<Value> {
        let ClaimTemplate(template) = self.running.claim.as_ref()?;
        let part = |part: &Value| part.as_object().cloned().unwrap_or_default();
        let mut annotations = part(&template["metadata"]["annotations"]);
        annotations.insert(ANNOTATION.to_owned(), self.running.text.as_str().into());
        let mut metadata = json!({"name": self.volume_name(), "annotations": annotations});
        if let Some(labels) = template["metadata"].get("labels") {
            set(&mut metadata, "labels", labels.clone());
        }
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": part(&template["spec"])});
        Some(claim)
    }

    /// The nodes' own format; images of the first era call the list `members`.
    fn cluster_json(&self) -> String {
        let (namespace, domain) = (&self.seen.database.namespace, &self.seen.cluster_domain);
        let members = (0..self.running.replicas).map(|i| {
            let id = format!("{}-{i}", self.name);
            let host = format!("{id}.{}.{namespace}.svc.{domain}", self.peers_name());
            json!({"id": id, "host": host, "apiPort": API_PORT, "protocolPort": PROTOCOL_PORT})
        });
        let members: Vec<Value> = members.collect();
        let partitions: Vec<Value> = self.partitions.iter().map(|partition| json!({"partition": partition.id})).collect();
        let list = if is_first_era(&self.seen.class.image) { "members" } else { "replicas" };
        text(&json!({list: members, "partitions": partitions}))
    }

    fn protocol_json(&self) -> String {
        text(&protocol_json(&self.seen.class))
    }

    /// What a node reads when it starts: members restart when it changes. `protocol.json` counts once it says anything.
    fn what_nodes_read(&self) -> String {
        let mut read = self.cluster_json();
        let protocol = self.protocol_json();
        if protocol != "{}" {
            read.push_str(&protocol);
        }
        read
    }

    fn label(&self) -> Value {
        json!({"cluster": self.number.to_string()})
    }

    fn peers_name(&self) -> String {
        format!("{}-hs", self.name)
    }

    fn volume_name(&self) -> &str {
        self.running.claim.as_ref().map_or("data", |claim| claim.name())
    }
}

/// Whether an image, whatever its registry, tag and digest, is named `raft-replica`.
fn is_first_era(image: &str) -> bool {
    let (mut from, mut to) = (0, image.len());
    for (at, byte) in image.bytes().enumerate() {
        match byte {
            b'@' => {
                to = to.min(at);
                break;
            }
            b'/' => (from, to) = (at + 1, image.len()),
            b':' => to = to.min(at),
            _ => {}
        }
    }
    image.as_bytes()[from..to].ends_with(b"raft-replica")
}

#[cfg(test)]
mod tests {
    use super::is_first_era;

    #[test]
    fn the_image_name_tells_the_shape_of_its_configuration() {
        for image in [
            "atomix/raft-replica:latest",
            "raft-replica",
            "registry:5000/x/raft-replica@sha256:00",
            "a/raft-replica:v1@sha256:0",
        ] {
            assert!(is_first_era(image), "{image}");
        }
        for image in ["atomix/raft-storage-node:v0.5.3", "raft-replica/node:1", "raft-replica:5000/node"] {
            assert!(!is_first_era(image), "{image}");
        }
    }
}
