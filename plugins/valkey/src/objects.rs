//! The objects of one partition, as the YAML that they become. Decides nothing: takes what runs, and what the class says of the rest.

use atomix_sdk::{Members, Seen, Value, json, set, text};

use crate::class::{Server, ValkeyClass};
use crate::running::{ANNOTATION, Running};
use crate::turns::REFUSED;

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

/// The primary; one that is held runs on as it is, whatever its template says.
pub fn primary(primary: &Servers, is_held: bool) -> Value {
    let server = primary.seen.class.server;
    let pod = pod(primary, &primary.name, &start(server, "primary.conf"), &is_primary_ready(server));
    let mut set_of_one = primary.set_at_once(1, &directives(primary, None), pod);
    if is_held && let Some(spec) = set_of_one.get_mut("spec") {
        set(spec, "updateStrategy", json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}));
    }
    set_of_one
}

/// The replicas.
pub fn replicas(primary: &Servers, replicas: &Servers) -> Value {
    let config = directives(replicas, Some(primary));
    let server = replicas.seen.class.server;
    let start = end_if_refused(server, primary) + &start(server, "replica.conf");
    let pod = pod(replicas, &primary.name, &start, &is_replica_ready(server));
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
        line("replicaof", &format!("{} {PORT}", address(primary)));
    }
    for (directive, value) in class.directives() {
        line(directive, value);
    }
    file
}

fn start(server: Server, file: &str) -> String {
    format!("exec {}-server /etc/valkey/{file}", server.name())
}

fn cli(server: Server) -> String {
    format!("{}-cli", server.name())
}

/// DNS name of the primary itself, ready or not.
fn address(primary: &Servers) -> String {
    primary.host(&format!("{}-0", primary.name))
}

/// Ends a replica that could not follow its primary, since one has a password that the other does not know, so that the plan sees why it
/// is not ready. A primary that cannot be asked is no reason. The client gives a password of its environment and prints what becomes of it.
fn end_if_refused(server: Server, primary: &Servers) -> String {
    let (cli, host) = (cli(server), address(primary));
    format!(
        r#"case "$(timeout {ASK_SECS} {cli} -h {host} -p {PORT} ping 2>&1)" in
*AUTH* | *WRONGPASS*) echo "{host} has another password" >&2; exit {REFUSED} ;;
esac
"#
    )
}

/// How long a replica that starts waits for an answer of its primary.
const ASK_SECS: u32 = 5;

/// Says whether a primary is ready. Loading its data takes a server a while, in which it answers, but not so.
fn is_primary_ready(server: Server) -> String {
    format!(r#"[ "$({} ping)" = PONG ]"#, cli(server))
}

/// Says whether a replica is ready. One that has lost its primary goes on answering reads, but not one that never had any of its data:
/// the server says an offset of 1 where it has none.
fn is_replica_ready(server: Server) -> String {
    format!(
        r#"case "$({} info replication)" in
*master_link_status:up*) ;;
*slave_repl_offset:[01][!0-9]*) exit 1 ;;
*slave_repl_offset:*) ;;
*) exit 1 ;;
esac"#,
        cli(server)
    )
}

/// A pod that reads ConfigMap `config` and runs script `start`, to whose end the password is added.
fn pod(servers: &Servers, config: &str, start: &str, is_ready: &str) -> Value {
    let class = &servers.seen.class;
    let (mut start, mut env) = (start.to_owned(), Vec::new());
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
                "exec": {"command": ["sh", "-c", is_ready]},
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
