//! The objects of one partition, as the YAML that they become. It decides nothing: what runs is given, the rest is
//! as the class has it.

use atomix_resp::PORT;
use atomix_sdk::{Members, Reason, Seen, Value, json, set, text};

use crate::class::ValkeyClass;
use crate::running::Running;

type Servers<'a> = Members<'a, ValkeyClass>;

/// One partition, whose objects are to be planned.
pub struct Partition<'a> {
    /// The server that takes writes: a set of one.
    pub primary: Servers<'a>,
    /// The servers that follow the primary.
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
            memory: running.memory(),
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

/// The ConfigMap that the servers read, by their role.
pub fn config(primary: &Servers, replicas: &Servers, first_start: bool, newline: Option<Reason>) -> Value {
    let class = &primary.seen.class;
    let servers = atomix_resp::Servers {
        programs: class.server.name(),
        primary: address(primary),
        replicas: replicas.names(class.replicas).map(|name| replicas.host(&name)).collect(),
        all: None,
        replica_count: class.replicas,
        without_data: (class.primary_without_data, "primaryWithoutData"),
        password: class.password(),
        config: [directives(primary, None), directives(replicas, Some(primary))],
        first_start,
        newline,
    };
    primary.remembering(json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": primary.name, "labels": {"cluster": primary.cluster.to_string()}},
        "data": servers.files(),
    }))
}

/// The StatefulSet of the primary; one that is held runs on as it is, whatever its template is.
pub fn primary(primary: &Servers, is_held: bool) -> Value {
    let mut set_of_one = primary.set_at_once(1, &directives(primary, None), pod(primary, &primary.name));
    if is_held && let Some(spec) = set_of_one.get_mut("spec") {
        set(spec, "updateStrategy", json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}));
    }
    set_of_one
}

/// The StatefulSet of the replicas.
pub fn replicas(primary: &Servers, replicas: &Servers) -> Value {
    let config = directives(replicas, Some(primary));
    replicas.set_at_once(replicas.seen.class.replicas, &config, pod(replicas, &primary.name))
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

/// DNS name of the primary itself, ready or not.
fn address(primary: &Servers) -> String {
    primary.host(&format!("{}-0", primary.name))
}

/// A pod of a server that reads ConfigMap `config`.
fn pod(servers: &Servers, config: &str) -> Value {
    let class = &servers.seen.class;
    let server = atomix_resp::Server {
        name: "server",
        image: class.image(),
        image_pull_policy: json!(class.image_pull_policy),
        port_name: "client",
        config,
        password: class.password(),
    };
    server.pod(servers)
}
