//! How servers of Valkey and Redis start: the script that their pods run, what it reads, and the message with which it ends. Knows no
//! class.
//!
//! Whether a server may start on the data of its volume can only be found out in its pod. The script converts data to the
//! form that the configuration asks for, or refuses; it holds a primary without data while a replica has some. It ends with
//! one of its exit codes and a termination message `Reason: sentence`, which the plan reads.

use atomix_sdk::code::is_code;
use atomix_sdk::{Members, Reason, Seen, Value, json, one_line, reason, set};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The script, for any `sh`.
const SCRIPT: &str = include_str!(concat!(env!("OUT_DIR"), "/server.sh"));
/// Port that clients and replicas connect to.
pub const PORT: u16 = 6379;

/// The script's exit code when the primary refuses its password, or asks for one that it does not have.
pub const OTHER_PASSWORD: i64 = 77; // EX_NOPERM of sysexits.h
/// Its exit code when the server would not find, or could not read, its data, or lacks a password that it should have.
const REFUSED: i64 = 78;
/// Its exit code when a person has to decide first.
const UNDECIDED: i64 = 79;

/// Names of volumes that are not for a claim.
pub const VOLUMES: [&str; 3] = ["atomix-config", "atomix-run", "atomix-password"];
/// Variables that a class may not set: the client of the servers reads a password from the first two.
pub const ENV: [&str; 3] = ["REDISCLI_AUTH", "VALKEYCLI_AUTH", "HOSTNAME"];
/// What is remembered in the ConfigMap of servers that have never been ready, and read from there.
pub const FIRST_START: &str = "first-start";
/// The JSON pointer to [`FIRST_START`].
pub const FIRST_START_POINTER: &str = "/data/first-start";

/// What a primary does whose volume has no data, while a replica has some or cannot be asked.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[schemars(inline)]
#[allow(missing_docs)] // without them the schema, and the plugin, is smaller
pub enum PrimaryWithoutData {
    #[default]
    Wait,
    CopyFromReplica,
    StartEmpty,
}

impl PrimaryWithoutData {
    fn name(self) -> &'static str {
        match self {
            Self::Wait => "Wait",
            Self::CopyFromReplica => "CopyFromReplica",
            Self::StartEmpty => "StartEmpty",
        }
    }

    /// What follows when a primary loses its data, as the end of a sentence.
    pub fn consequence(self) -> &'static str {
        match self {
            Self::Wait => ", and it waits for a decision as long as a replica has some",
            Self::CopyFromReplica => ", and it copies those of a replica",
            Self::StartEmpty => ", and replicas empty themselves to be like it",
        }
    }
}

/// What the start script reads about the servers.
pub struct Servers<'a> {
    /// The beginning of the names of the server's programs: `valkey` or `redis`.
    pub programs: &'a str,
    /// DNS name of the primary.
    pub primary: String,
    /// DNS names of the replicas.
    pub replicas: Vec<String>,
    /// DNS name of all servers together, where replicas have no name of their own.
    pub all: Option<String>,
    /// How many replicas there should be.
    pub replica_count: u32,
    /// What a primary without data does, and the path of that field of the class.
    pub without_data: (PrimaryWithoutData, &'a str),
    /// Secret and key of the password.
    pub password: Option<(&'a str, &'a str)>,
    /// Configuration of the primary, and of replicas.
    pub config: [String; 2],
    /// Whether the servers have never been ready, nor had volumes: there is nothing that could be lost.
    pub first_start: bool,
    /// The warning about the password, from [`newline`].
    pub newline: Option<Reason>,
}

impl Servers<'_> {
    /// Data of the ConfigMap of these servers.
    pub fn files(&self) -> Value {
        let [primary, replica] = &self.config;
        let mut files = json!({"facts": self.variables(), "primary.conf": primary, "replica.conf": replica});
        if self.first_start {
            set(&mut files, FIRST_START, "true".into());
        }
        if let Some(warning) = &self.newline {
            set(&mut files, "notes", warning.message.as_str().into()); // makes another plan of it, so that the warning becomes an Event
        }
        files
    }

    /// Variables of the script. Names in them are those of objects, which need no quotes.
    fn variables(&self) -> String {
        let mut variables = String::new();
        let mut variable = |name: &str, value: &str| {
            for part in [name, "='", value, "'\n"] {
                variables.push_str(part);
            }
        };
        let (without_data, field) = self.without_data;
        variable("server", self.programs);
        variable("data", "/data");
        variable("run", "/run/server");
        variable("last_words", "/dev/termination-log");
        variable("port", &PORT.to_string());
        variable("primary", &self.primary);
        variable("replicas", &self.replicas.join(" "));
        variable("all", self.all.as_deref().unwrap_or_default());
        variable("replica_count", &self.replica_count.to_string());
        variable("without_data", without_data.name());
        variable("field", field);
        if let Some((secret, key)) = self.password {
            variable("password_file", "/etc/server-password/password");
            variable("password_of", &["key ", key, " of Secret ", secret].concat());
        }
        variables
    }
}

/// The ConfigMap with the script, one for all servers of a database. Servers that run are not restarted when it changes.
pub fn script<C>(seen: &Seen<C>) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": script_name(seen)},
        "data": {"server.sh": SCRIPT},
    })
}

fn script_name<C>(seen: &Seen<C>) -> String {
    format!("{}-server", seen.database.name)
}

/// What distinguishes the pods of servers.
pub struct Server<'a> {
    /// Name of the container.
    pub name: &'a str,
    /// Image of all containers.
    pub image: &'a str,
    /// An [`atomix_sdk::ImagePullPolicy`] as JSON.
    pub image_pull_policy: Value,
    /// Name of the container's [`PORT`].
    pub port_name: &'a str,
    /// Name of the ConfigMap with [`Servers::files`].
    pub config: &'a str,
    /// Secret and key of the password.
    pub password: Option<(&'a str, &'a str)>,
}

impl Server<'_> {
    /// The pod's spec. Its startup probe lasts a day, after which the script starts again: data may take hours to be converted, and a
    /// person may take long to decide.
    pub fn pod<C>(&self, members: &Members<C>) -> Value {
        let mut pod = of_text(include_str!("pod.json"));
        let container = &mut pod["containers"][0];
        set(container, "name", self.name.into());
        self.pulls(container);
        set(container, "ports", json!([{"name": self.port_name, "containerPort": PORT, "protocol": "TCP"}]));
        push(&mut container["volumeMounts"], json!({"name": members.data(), "mountPath": "/data"}));
        let sources = json!([{"configMap": {"name": self.config}}, {"configMap": {"name": script_name(members.seen)}}]);
        let volumes = &mut pod["volumes"];
        set(&mut volumes[0], "projected", json!({"sources": sources}));
        if let Some(data) = members.data_in_pod() {
            push(volumes, data);
        }
        if let Some((secret, key)) = self.password {
            // The kubelet does not wait for a Secret that is not there: the container's message names it.
            let items = json!([{"key": key, "path": "password"}]);
            let secret = json!({"secretName": secret, "items": items, "optional": true});
            push(volumes, json!({"name": VOLUMES[2], "secret": secret}));
            // Before the server: so all its starts in this pod have one password, and a warning about it stays in the pod's status.
            let mut first = of_text(include_str!("password.json"));
            self.pulls(&mut first);
            set(&mut pod, "initContainers", json!([first]));
        }
        pod
    }

    fn pulls(&self, container: &mut Value) {
        set(container, "image", self.image.into());
        set(container, "imagePullPolicy", self.image_pull_policy.clone());
    }
}

/// A constant manifest of this crate: to parse its text takes fewer bytes of a plugin than code that makes it.
fn of_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

fn push(list: &mut Value, item: Value) {
    if let Value::Array(items) = list {
        items.push(item);
    }
}

/// Whether nothing of these servers was there before, so that no data can be lost: their first plan, or none has been ready since.
pub fn is_first_start<C>(seen: &Seen<C>, config: &str, sets: &[&Members<C>], is_ready: bool) -> bool {
    if let Some(live) = seen.object("ConfigMap", config) {
        return live.json(FIRST_START_POINTER).is_some() && !is_ready;
    }
    sets.iter().all(|members| {
        let claims = format!("{}-{}-", members.data(), members.name);
        let live = seen.objects("PersistentVolumeClaim");
        let first = live.partition_point(|claim| claim.name() < claims.as_str());
        let has_claim = live[first..].first().is_some_and(|claim| claim.name().starts_with(&claims));
        !has_claim && seen.object("StatefulSet", &members.name).is_none()
    })
}

/// Why a member that is not ready refused to start, or waits, as its start script wrote.
pub fn refusal_to_start<C>(members: &Members<C>, count: u32) -> Option<Reason> {
    members.names(count).find_map(|name| {
        let pod = members.seen.object("Pod", &name).filter(|pod| !pod.terminating())?; // its last words are old then
        CONTAINERS.iter().find_map(|field| {
            let containers: Vec<Value> = pod.field(field)?;
            containers.iter().find_map(|container| refusal(container, &name))
        })
    })
}

/// Fields of pods with the status of each container.
const CONTAINERS: [&str; 2] = ["/status/initContainerStatuses", "/status/containerStatuses"];

fn refusal(container: &Value, member: &str) -> Option<Reason> {
    if container["ready"] == true {
        return None;
    }
    ["state", "lastState"].iter().find_map(|state| {
        let ended = &container[state]["terminated"];
        let code = ended["exitCode"].as_i64()?;
        if code == REFUSED || code == UNDECIDED { termination_reason(ended, member) } else { None }
    })
}

/// The warning that a password ends in a newline, which is rarely meant to be part of it, from the first member that reports
/// it.
pub fn newline<C>(members: &Members<C>, count: u32) -> Option<Reason> {
    members.names(count).find_map(|name| {
        let pod = members.seen.object("Pod", &name)?;
        if !pod.json(CONTAINERS[0])?.contains(NEWLINE) {
            return None;
        }
        let containers: Vec<Value> = pod.field(CONTAINERS[0])?;
        let warning = containers.iter().find_map(|container| termination_reason(&container["state"]["terminated"], &name));
        warning.filter(|warning| warning.code == NEWLINE)
    })
}

const NEWLINE: &str = "PasswordEndsInNewline";

/// A termination message of the script: a reason and a sentence.
fn termination_reason(ended: &Value, member: &str) -> Option<Reason> {
    let (code, sentence) = ended["message"].as_str()?.split_once(": ").filter(|(code, _)| is_code(code))?;
    Some(reason(code, [member, ": ", &one_line(sentence, MESSAGE_CHARS_MAX)].concat()))
}

const MESSAGE_CHARS_MAX: usize = 900;
