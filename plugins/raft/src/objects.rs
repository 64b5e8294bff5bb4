//! The objects of one cluster, as the YAML that they become. It decides nothing: what runs is given, the rest is
//! as the class has it.

use atomix_sdk::{Members, Partition, Seen, Value, image_parts, image_version, json, text};

use crate::class::RaftClass;
use crate::protocol::protocol_json;
use crate::running::Running;

/// Port that clients connect to.
pub const API_PORT: u16 = 5678;
/// Port that members connect to.
const PROTOCOL_PORT: u16 = 5679;

/// Variables that a class may not set.
pub const ENV: [&str; 1] = ["NODE_ID"];
/// The volume with the files that nodes read.
const CONFIG: &str = "config";
/// Names of volumes that are not for a claim.
pub const VOLUMES: [&str; 1] = [CONFIG];

/// One cluster of the database, whose objects are to be planned.
pub struct Cluster<'a> {
    /// The members, which run alike.
    pub members: Members<'a, RaftClass>,
    /// What it was started with.
    running: &'a Running,
    /// The partitions that it keeps, by id.
    partitions: &'a [Partition],
}

impl<'a> Cluster<'a> {
    /// Cluster `number`, as it runs, with its partitions.
    pub fn of(seen: &'a Seen<RaftClass>, number: u32, running: &'a Running, partitions: &'a [Partition]) -> Self {
        let members = Members {
            seen,
            cluster: number,
            name: format!("{}-{number}", seen.database.name),
            role: None,
            memory: running.memory(),
            claim: running.claim.as_ref(),
        };
        Self { members, running, partitions }
    }

    /// The ConfigMap that lists the members and the partitions that they keep.
    pub fn config(&self, image: &str) -> Value {
        self.members.remembering(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": self.members.name, "labels": self.members.label()},
            "data": {"cluster.json": self.cluster_json(image), "protocol.json": self.protocol_json()},
        }))
    }

    /// The Service that gives each member a name.
    pub fn peers(&self) -> Value {
        self.members.peers(&[("api", API_PORT), ("protocol", PROTOCOL_PORT)])
    }

    /// The StatefulSet of the members.
    pub fn set(&self, image: &str) -> Value {
        self.members.set_at_once(self.running.with.replicas, &self.what_nodes_read(image), self.pod(image))
    }

    fn pod(&self, image: &str) -> Value {
        let (members, class) = (&self.members, &self.members.seen.class);
        let mut volumes = vec![json!({"name": CONFIG, "configMap": {"name": members.name}})];
        volumes.extend(members.data_in_pod());
        json!({
            "containers": [{
                "name": "raft",
                "image": image,
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

    /// The nodes' own format; images of v0.1 call the list `members`.
    fn cluster_json(&self, image: &str) -> String {
        let members = &self.members;
        let members: Vec<Value> = members
            .names(self.running.with.replicas)
            .map(|id| json!({"id": id, "host": members.host(&id), "apiPort": API_PORT, "protocolPort": PROTOCOL_PORT}))
            .collect();
        let partitions: Vec<Value> = self.partitions.iter().map(|partition| json!({"partition": partition.id})).collect();
        let list = if is_v0_1(image) { "members" } else { "replicas" };
        text(&json!({list: members, "partitions": partitions}))
    }

    fn protocol_json(&self) -> String {
        text(&protocol_json(&self.members.seen.class))
    }

    /// What a node reads when it starts: members restart when it changes. An empty `protocol.json` does not count.
    fn what_nodes_read(&self, image: &str) -> String {
        let mut read = self.cluster_json(image);
        let protocol = self.protocol_json();
        if protocol != "{}" {
            read.push_str(&protocol);
        }
        read
    }
}

/// Whether an image, whatever its registry and digest, is one of v0.1: `raft-replica` of any tag, or `raft-storage-node` of
/// a tag v0.1.
fn is_v0_1(image: &str) -> bool {
    let (name, _) = image_parts(image);
    name.ends_with("raft-replica") || name.ends_with("raft-storage-node") && image_version(image) == Some((0, 1))
}

#[cfg(test)]
mod tests {
    use super::is_v0_1;

    #[test]
    fn the_image_name_decides_the_form_of_its_configuration() {
        for image in [
            "atomix/raft-replica:latest",
            "raft-replica",
            "registry:5000/x/raft-replica@sha256:00",
            "a/raft-replica:v1@sha256:0",
            "atomix/raft-storage-node:v0.1.0",
            "raft-storage-node:v0.1.12",
            "docker.io/atomix/raft-storage-node:v0.1.0@sha256:00",
            "registry:5000/atomix/raft-storage-node:v0.1.0",
        ] {
            assert!(is_v0_1(image), "{image}");
        }
        for image in [
            "atomix/raft-storage-node:v0.5.3",
            "atomix/raft-storage-node:v0.2.0",
            "atomix/raft-storage-node:v0.10.0",
            "atomix/raft-storage-node:v1.0.1",
            "atomix/raft-storage-node:latest",
            "atomix/raft-storage-node",
            "atomix/raft-storage-node@sha256:v0.1.0",
            "v0.1.0/raft-storage-node:v0.5.3",
            "atomix/other:v0.1.0",
            "raft-replica/node:1",
            "raft-replica:5000/node",
        ] {
            assert!(!is_v0_1(image), "{image}");
        }
    }
}
