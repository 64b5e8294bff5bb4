//! The objects of one partition, as the YAML that they become. Decides nothing: takes what runs, and what the class says of the rest.

use atomix_sdk::{Members, Seen, Value, json, set, text};

use crate::class::ValkeyClass;
use crate::running::{ANNOTATION, Running};

/// Port that clients and replicas connect to.
pub const PORT: u16 = 6379;

/// Where servers and their clients on the command line, of either name, take the password from.
const PASSWORD: &str = "REDISCLI_AUTH";
/// Variables that a class may not set.
pub const ENV: [&str; 2] = [PASSWORD, "VALKEYCLI_AUTH"];

/// The volume of what the servers read.
const CONFIG: &str = "config";
/// Names of volumes that are not for a claim.
pub const VOLUMES: [&str; 1] = [CONFIG];

type Servers<'a> = Members<'a, ValkeyClass>;

/// One partition.
pub struct Partition<'a> {
    /// The server that takes writes: a set of one.
    pub primary: Servers<'a>,
    /// Those that follow it.
    pub replicas: Servers<'a>,
}

impl<'a> Partition<'a> {
    /// Partition `id`, as it runs.
    pub fn of(seen: &'a Seen<ValkeyClass>, id: u32, running: &'a Running) -> Self {
        let servers = |name: String, role: &'static str| Members {
            seen,
            cluster: id,
            name,
            role: Some(role),
            memory: Some((ANNOTATION, &running.text)),
            claim: running.claim.as_ref(),
        };
        let database = &seen.database.name;
        let primary = servers(format!("{database}-{id}"), "primary");
        Self { primary, replicas: servers(Self::replicas_name(database, id), "replica") }
    }

    /// Name of the StatefulSet of a partition's replicas.
    pub fn replicas_name(database: &str, id: u32) -> String {
        format!("{database}-{id}-r")
    }
}

/// What the servers read, by their role.
pub fn config(primary: &Servers, replicas: &Servers) -> Value {
    let mut files = json!({"primary.conf": directives(primary, None)});
    if primary.seen.class.replicas > 0 {
        set(&mut files, "replica.conf", directives(replicas, Some(primary)).into());
    }
    primary.remembering(json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": primary.name, "labels": {"cluster": primary.cluster.to_string()}},
        "data": files,
    }))
}

/// The primary.
pub fn primary(primary: &Servers) -> Value {
    primary.set_at_once(1, &directives(primary, None), pod(primary, &primary.name, "primary.conf", is_primary_ready))
}

/// The replicas.
pub fn replicas(primary: &Servers, replicas: &Servers) -> Value {
    let config = directives(replicas, Some(primary));
    let pod = pod(replicas, &primary.name, "replica.conf", is_replica_ready);
    replicas.set_at_once(replicas.seen.class.replicas, &config, pod)
}

/// The configuration of a server that follows `primary`, if it is given.
fn directives(servers: &Servers, primary: Option<&Servers>) -> String {
    let class = &servers.seen.class;
    let append = if class.append_only() { "yes" } else { "no" };
    let mut file = format!("port {PORT}\nprotected-mode no\ndir /data\nappendonly {append}\n");
    let mut line = |directive: &str, value: &str| {
        for part in [directive, " ", value, "\n"] {
            file.push_str(part);
        }
    };
    if class.snapshots().is_some_and(Vec::is_empty) {
        line("save", "\"\"");
    }
    for snapshot in class.snapshots().into_iter().flatten() {
        line("save", &["seconds", "changes"].map(|field| text(&snapshot[field])).join(" "));
    }
    if let Some(primary) = primary {
        line("replicaof", &format!("{} {PORT}", primary.host(&format!("{}-0", primary.name))));
    }
    for (directive, value) in class.directives() {
        line(directive, value);
    }
    file
}

/// Says whether a primary is ready. Loading its data takes a server a while, in which it answers, but not so.
fn is_primary_ready(cli: &str) -> String {
    format!(r#"[ "$({cli} ping)" = PONG ]"#)
}

/// Says whether a replica is ready. One that has lost its primary goes on answering reads, but not one that never had any of its data:
/// the server says an offset of 1 where it has none.
fn is_replica_ready(cli: &str) -> String {
    format!(
        r#"case "$({cli} info replication)" in
*master_link_status:up*) ;;
*slave_repl_offset:[01][!0-9]*) exit 1 ;;
*slave_repl_offset:*) ;;
*) exit 1 ;;
esac"#
    )
}

fn pod(servers: &Servers, config: &str, file: &str, is_ready: fn(&str) -> String) -> Value {
    let class = &servers.seen.class;
    let (server, cli) = (format!("{}-server", class.server.name()), format!("{}-cli", class.server.name()));
    let (mut start, mut env) = (format!("exec {server} /etc/valkey/{file}"), Vec::new());
    if let Some(password) = &class.password {
        // From the environment, since the configuration is no place for a secret.
        start = format!(r#"{start} --requirepass "${PASSWORD}" --masterauth "${PASSWORD}""#);
        let secret = json!({"name": password.secret_name, "key": password.key});
        env.push(json!({"name": PASSWORD, "valueFrom": {"secretKeyRef": secret}}));
    }
    let mut volumes = vec![json!({"name": CONFIG, "configMap": {"name": config}})];
    volumes.extend(servers.data_in_pod());
    json!({
        "containers": [{
            "name": "server",
            "image": class.image(),
            "imagePullPolicy": class.image_pull_policy,
            "command": ["sh", "-c", start],
            "env": env,
            "ports": [{"name": "client", "containerPort": PORT, "protocol": "TCP"}],
            "readinessProbe": {
                "exec": {"command": ["sh", "-c", is_ready(&cli)]},
                "periodSeconds": 5,
                "timeoutSeconds": 5,
                "failureThreshold": 3,
            },
            "livenessProbe": {
                "tcpSocket": {"port": "client"}, // it listens before it has read its data
                "initialDelaySeconds": 30,
                "periodSeconds": 10,
                "timeoutSeconds": 10,
                "failureThreshold": 6,
            },
            "securityContext": {"readOnlyRootFilesystem": true},
            "volumeMounts": [
                {"name": CONFIG, "mountPath": "/etc/valkey", "readOnly": true},
                {"name": servers.data(), "mountPath": "/data"},
            ],
        }],
        "volumes": volumes,
    })
}
