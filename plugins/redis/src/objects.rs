//! The objects of one cluster, as the YAML that they become. Decides nothing: takes what runs, and what the class says of the rest.

use atomix_sdk::{Members, Seen, Value, json, set};

use crate::class::RedisClass;
use crate::running::{ANNOTATION, Running};

/// Port of the proxy, which clients connect to.
pub const API_PORT: u16 = 5678;
/// Port of the servers.
const REDIS_PORT: u16 = 6379;

/// Variables that a class may not set.
pub const ENV: [&str; 1] = ["POD_NAME"];

/// One cluster of the database.
pub struct Cluster<'a> {
    /// The Redis servers: the first, and copies of it.
    pub servers: Members<'a, RedisClass>,
    /// What clients connect to.
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
                memory: Some((ANNOTATION, &running.text)),
                claim: running.claim.as_ref(),
            },
        }
    }

    /// Leads to the first server, and to no copy of it, which would refuse writes.
    pub fn first_server(&self) -> Value {
        let mut service = self.servers.peers(&[("redis", REDIS_PORT)]);
        if let Some(selector) = service.get_mut("spec").and_then(|spec| spec.get_mut("selector")) {
            set(selector, "statefulset.kubernetes.io/pod-name", self.first().into());
        }
        self.servers.remembering(service)
    }

    /// The servers. The first is the one that has not another to copy.
    pub fn servers(&self) -> Value {
        let backend = &self.servers.seen.class.backend;
        let first = self.first();
        let start = format!(
            "[ \"$POD_NAME\" = {first} ] || set -- --replicaof {} {REDIS_PORT}\n\
             exec redis-server --port {REDIS_PORT} --protected-mode no --dir /data --appendonly yes \"$@\"",
            self.servers.host(&first)
        );
        let pod = json!({
            "containers": [{
                "name": "redis",
                "image": backend.image,
                "imagePullPolicy": backend.image_pull_policy,
                "command": ["sh", "-c", start],
                "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "ports": [{"name": "redis", "containerPort": REDIS_PORT, "protocol": "TCP"}],
                "readinessProbe": {
                    // While it loads its data it answers, but not so.
                    "exec": {"command": ["sh", "-c", "[ \"$(redis-cli ping)\" = PONG ]"]},
                    "periodSeconds": 5,
                    "timeoutSeconds": 5,
                },
                "livenessProbe": {"tcpSocket": {"port": "redis"}, "initialDelaySeconds": 30, "timeoutSeconds": 10},
                "securityContext": {"readOnlyRootFilesystem": true},
                "volumeMounts": [{"name": self.servers.data(), "mountPath": "/data"}],
            }],
            "volumes": self.servers.data_in_pod().into_iter().collect::<Vec<Value>>(),
        });
        self.servers.set_at_once(backend.replicas, "", pod)
    }

    /// The proxy: one pod, as two could both believe that they hold the clients' sessions.
    pub fn proxy(&self) -> Value {
        let proxy = &self.proxy.seen.class.proxy;
        let redis = self.proxy.seen.endpoint(&self.servers.peers_name(), REDIS_PORT);
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

    fn first(&self) -> String {
        format!("{}-0", self.servers.name)
    }
}
