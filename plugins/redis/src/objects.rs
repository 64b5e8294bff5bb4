//! The objects of one cluster, as the YAML that they become. It decides nothing: what runs is given, the rest is
//! as the class has it.

use atomix_resp::PORT;
use atomix_sdk::{Members, Seen, Value, json, set};

use crate::class::RedisClass;
use crate::running::Running;

/// Port of the proxy, which clients connect to.
pub const API_PORT: u16 = 5678;

/// Configuration of every server.
const CONFIG: &str = "port 6379\nprotected-mode no\ndir /data\nappendonly yes\n";

/// One cluster of the database, whose objects are to be planned.
pub struct Cluster<'a> {
    /// The Redis servers: the first, and copies of it.
    pub servers: Members<'a, RedisClass>,
    /// The proxy, which clients connect to.
    pub proxy: Members<'a, RedisClass>,
}

impl<'a> Cluster<'a> {
    /// Cluster `number`, as it runs.
    pub fn of(seen: &'a Seen<RedisClass>, number: u32, running: &'a Running) -> Self {
        let name = format!("{}-{number}", seen.database.name);
        Self {
            proxy: Members {
                seen,
                cluster: number,
                name: format!("{name}-proxy"),
                role: Some("proxy"),
                memory: None,
                claim: None,
            },
            servers: Members {
                seen,
                cluster: number,
                name,
                role: Some("backend"),
                memory: running.memory(),
                claim: running.claim.as_ref(),
            },
        }
    }

    /// The Service that selects the first server, and no copy of it, which would refuse writes.
    pub fn first_server(&self) -> Value {
        let mut service = self.servers.peers(&[("redis", PORT)]);
        if let Some(selector) = service.get_mut("spec").and_then(|spec| spec.get_mut("selector")) {
            set(selector, "statefulset.kubernetes.io/pod-name", self.first().into());
        }
        self.servers.remembering(service)
    }

    /// The Service that selects all servers, so that the first finds its copies before it is ready.
    pub fn all_servers(&self) -> Value {
        let mut service = self.servers.peers(&[("redis", PORT)]);
        if let Some(metadata) = service.get_mut("metadata") {
            set(metadata, "name", self.all_name().into());
        }
        service
    }

    /// The ConfigMap that the servers read.
    pub fn config(&self, first_start: bool) -> Value {
        let backend = &self.servers.seen.class.backend;
        let first = self.servers.host(&self.first());
        let servers = atomix_resp::Servers {
            programs: "redis",
            replicas: Vec::new(),
            all: Some(self.servers.seen.endpoint(&self.all_name(), 0).host),
            replica_count: backend.replicas.saturating_sub(1),
            without_data: (backend.primary_without_data, "backend.primaryWithoutData"),
            password: None,
            config: [CONFIG.to_owned(), format!("{CONFIG}replicaof {first} {PORT}\n")],
            primary: first,
            first_start,
            newline: None,
        };
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": self.servers.name, "labels": {"cluster": self.servers.cluster.to_string()}},
            "data": servers.files(),
        })
    }

    /// The StatefulSet of the servers. The first is the one that has not another to copy.
    pub fn servers(&self) -> Value {
        let backend = &self.servers.seen.class.backend;
        let server = atomix_resp::Server {
            name: "redis",
            image: &backend.image,
            image_pull_policy: json!(backend.image_pull_policy),
            port_name: "redis",
            config: &self.servers.name,
            password: None,
        };
        self.servers.set_at_once(backend.replicas, CONFIG, server.pod(&self.servers))
    }

    /// The proxy: one pod, as each of two could take itself for the holder of the clients' sessions.
    pub fn proxy(&self) -> Value {
        let proxy = &self.proxy.seen.class.proxy;
        let redis = self.proxy.seen.endpoint(&self.servers.peers_name(), PORT);
        let pod = json!({
            "containers": [{
                "name": "proxy",
                "image": proxy.image,
                "imagePullPolicy": proxy.image_pull_policy,
                "args": [
                    "--port", API_PORT.to_string(),
                    "--redis-address", format!("{}:{}", redis.host, redis.port),
                ],
                "ports": [{"name": "api", "containerPort": API_PORT, "protocol": "TCP"}],
                "readinessProbe": {
                    "exec": {"command": ["stat", "/tmp/atomix-ready"]},
                    "initialDelaySeconds": 5,
                    "periodSeconds": 5,
                    "timeoutSeconds": 10,
                },
                "livenessProbe": {"tcpSocket": {"port": "api"}, "initialDelaySeconds": 60, "timeoutSeconds": 10},
            }],
        });
        self.proxy.one_at_a_time("", pod)
    }

    fn all_name(&self) -> String {
        format!("{}-all-hs", self.servers.name)
    }

    fn first(&self) -> String {
        format!("{}-0", self.servers.name)
    }
}
