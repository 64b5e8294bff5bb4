//! The objects of one cluster, as the YAML that they become. Decides nothing: takes what runs, and what the class says of the rest.

use atomix_sdk::{Members, Seen, Value, json, text, wire};

use crate::class::RaftClass;
use crate::protocol::protocol_json;
use crate::running::{ANNOTATION, Running};

/// Port that clients connect to.
pub const API_PORT: u16 = 5678;
/// Port that members connect to.
const PROTOCOL_PORT: u16 = 5679;

/// Variables that a class may not set.
pub const ENV: [&str; 1] = ["NODE_ID"];
/// The volume of what the nodes read.
const CONFIG: &str = "config";
/// Names of volumes that are not for a claim.
pub const VOLUMES: [&str; 1] = [CONFIG];

/// One cluster of the database.
pub struct Cluster<'a> {
    /// Its members, all alike.
    pub members: Members<'a, RaftClass>,
    /// What it runs with.
    running: &'a Running,
    /// Its partitions, by id.
    partitions: &'a [wire::Partition],
}

impl<'a> Cluster<'a> {
    /// Cluster `number`, as it runs, with its partitions.
    pub fn of(seen: &'a Seen<RaftClass>, number: u32, running: &'a Running, partitions: &'a [wire::Partition]) -> Self {
        let members = Members {
            seen,
            cluster: number,
            name: format!("{}-{number}", seen.database.name),
            role: None,
            memory: Some((ANNOTATION, &running.text)),
            claim: running.claim.as_ref(),
        };
        Self { members, running, partitions }
    }

    /// Who the members are and which partitions they keep.
    pub fn config(&self) -> Value {
        self.members.remembering(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": self.members.name, "labels": self.members.label()},
            "data": {"cluster.json": self.cluster_json(), "protocol.json": self.protocol_json()},
        }))
    }

    /// Gives each member its name.
    pub fn peers(&self) -> Value {
        self.members.peers(&[("api", API_PORT), ("protocol", PROTOCOL_PORT)])
    }

    /// The members.
    pub fn set(&self) -> Value {
        self.members.set_at_once(self.running.replicas, &self.what_nodes_read(), self.pod())
    }

    fn pod(&self) -> Value {
        let (members, class) = (&self.members, &self.members.seen.class);
        let mut volumes = vec![json!({"name": CONFIG, "configMap": {"name": members.name}})];
        volumes.extend(members.data_in_pod());
        json!({
            "containers": [{
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
                "volumeMounts": [
                    {"name": CONFIG, "mountPath": "/etc/atomix", "readOnly": true},
                    {"name": members.data(), "mountPath": "/var/lib/atomix"},
                ],
            }],
            "volumes": volumes,
        })
    }

    /// The nodes' own format; images of the first era call the list `members`.
    fn cluster_json(&self) -> String {
        let members = &self.members;
        let members: Vec<Value> = members
            .names(self.running.replicas)
            .map(|id| json!({"id": id, "host": members.host(&id), "apiPort": API_PORT, "protocolPort": PROTOCOL_PORT}))
            .collect();
        let partitions: Vec<Value> = self.partitions.iter().map(|partition| json!({"partition": partition.id})).collect();
        let list = if is_first_era(&self.members.seen.class.image) { "members" } else { "replicas" };
        text(&json!({list: members, "partitions": partitions}))
    }

    fn protocol_json(&self) -> String {
        text(&protocol_json(&self.members.seen.class))
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
