//! ValkeyStorageClass: what a user writes, and what can be wrong with it. Knows no database.
//!
//! `persistence` and `config` stay JSON, of which this file reads what it needs: as derived types they make the component 4,911 bytes larger
//! (268,257 for 263,346) for the same fuel, and an error in them names no path.

use std::collections::BTreeMap;

use atomix_resp::PrimaryWithoutData;
use atomix_sdk::{
    FieldError, ImagePullPolicy, Value, check_image, check_number, check_secret, check_secret_key, field_error,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Each partition is a Valkey or Redis server of its own, with replicas to read from. It answers while that server does: no replica
/// takes its place.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ValkeyClass {
    /// Which server the image holds: valkey or redis.
    #[serde(default)]
    pub server: Server,

    /// Image of the servers; it must have sh. Without it, valkey/valkey:8.1 or redis:7.2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    image: Option<String>,

    /// When the image is pulled: Always, IfNotPresent or Never.
    #[serde(default)]
    pub image_pull_policy: ImagePullPolicy,

    /// Replicas of each primary (0 to 8), from which clients may read. It may change at any time.
    #[serde(default)]
    #[schemars(range(min = 0, max = 8))]
    pub replicas: u32,

    /// What a primary does whose volume has no data, while a replica has some or cannot be asked: Wait until a person has decided,
    /// CopyFromReplica, or StartEmpty, after which replicas lose theirs. No server restarts when it changes.
    #[serde(default)]
    pub primary_without_data: PrimaryWithoutData,

    /// How data are kept over a restart.
    #[serde(default)]
    #[schemars(with = "Persistence")]
    persistence: Value,

    /// The password that clients and replicas give. Without it, none is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Password")]
    pub password: Option<Password>,

    /// Further directives of the server's configuration, e.g. maxmemory: 100mb.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    config: Value,
}

/// Which server runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
#[allow(missing_docs)] // their own names
pub enum Server {
    #[default]
    Valkey,
    Redis,
}

/// How data are kept over a restart.
#[derive(JsonSchema)]
#[schemars(inline)]
#[allow(dead_code)] // read as JSON, in less code
struct Persistence {
    /// Whether each write is appended to a file, which is synchronised every second.
    #[serde(default = "yes")]
    #[schemars(rename = "appendOnly")]
    append_only: bool,

    /// When the whole is written to a file. Without it, the server's default; an empty list is never.
    #[serde(default)]
    #[schemars(with = "Vec<Snapshot>")]
    snapshots: Value,
}

/// When the whole is written: after so many seconds, if there were so many changes.
#[derive(JsonSchema)]
#[allow(dead_code)] // read as JSON, in less code
#[schemars(inline)]
struct Snapshot {
    /// Seconds since the last one.
    #[schemars(range(min = 1))]
    seconds: u32,
    /// Changes since the last one, at least.
    #[schemars(range(min = 1))]
    changes: u32,
}

/// Where a password stands.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Password {
    /// Secret in the database's namespace.
    pub secret_name: String,
    /// Its key.
    #[serde(default = "key")]
    pub key: String,
}

impl ValkeyClass {
    /// Image of the servers.
    pub fn image(&self) -> &str {
        self.image.as_deref().unwrap_or(self.server.image())
    }

    /// Further directives, each with its value, sorted.
    pub fn directives(&self) -> impl Iterator<Item = (&str, &str)> {
        let directives = self.config.as_object().into_iter().flatten();
        directives.map(|(directive, value)| (directive.as_str(), value.as_str().unwrap_or_default()))
    }

    /// Whether each write is appended to a file.
    pub fn append_only(&self) -> bool {
        self.persistence["appendOnly"].as_bool().unwrap_or(true)
    }

    /// When the whole is written; None leaves it to the server.
    pub fn snapshots(&self) -> Option<&Vec<Value>> {
        self.persistence["snapshots"].as_array()
    }

    /// Secret and key of the password.
    pub fn password(&self) -> Option<(&str, &str)> {
        self.password.as_ref().map(|password| (password.secret_name.as_str(), password.key.as_str()))
    }

    /// Whether a server that restarts has the data it had.
    pub fn persists(&self) -> bool {
        self.append_only() || self.snapshots().is_none_or(|snapshots| !snapshots.is_empty())
    }
}

impl Server {
    /// Its name, which begins those of its programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Valkey => "valkey",
            Self::Redis => "redis",
        }
    }

    fn image(self) -> &'static str {
        match self {
            Self::Valkey => "valkey/valkey:8.1",
            Self::Redis => "redis:7.2",
        }
    }
}

/// Directives that the plugin sets itself, or that would undo what it sets.
const RESERVED: [&str; 20] = [
    "appendonly",
    "aclfile",
    "bind",
    "cluster-enabled",
    "daemonize",
    "dir",
    "include",
    "loadmodule",
    "masterauth",
    "pidfile",
    "port",
    "primaryauth",
    "protected-mode",
    "replicaof",
    "requirepass",
    "save",
    "slaveof",
    "supervised",
    "tls-port",
    "unixsocket",
];

/// Names what is wrong with a class beyond what its schema refuses.
pub fn check(class: &ValkeyClass) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut wrong = |path: &str, message: String| errors.push(field_error(path, message));
    check_image("spec.image", class.image(), class.server.image(), &mut wrong);
    check_number("spec.replicas", (class.replicas.into(), " replicas"), 0..=8, &mut wrong);
    for (field, fits, expected) in [
        ("appendOnly", Value::is_boolean as fn(&Value) -> bool, "true or false is expected"),
        ("snapshots", Value::is_array, "a list is expected"),
    ] {
        if !(class.persistence[field].is_null() || fits(&class.persistence[field])) {
            wrong(&format!("spec.persistence.{field}"), expected.to_owned());
        }
    }
    for (at, snapshot) in class.snapshots().into_iter().flatten().enumerate() {
        for field in ["seconds", "changes"] {
            if snapshot[field].as_u64().is_none_or(|number| number == 0) {
                wrong(&format!("spec.persistence.snapshots[{at}].{field}"), "a number of at least 1 is expected".to_owned());
            }
        }
    }
    if let Some(password) = &class.password {
        check_secret("spec.password.secretName", &password.secret_name, &mut wrong);
        check_secret_key("spec.password.key", &password.key, &mut wrong);
    }
    for (directive, value) in class.directives() {
        let path = format!("spec.config.{directive}");
        let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        if directive.is_empty() || !directive.bytes().all(inner) {
            wrong(&path, "lower case letters, digits and dashes are accepted as a directive".to_owned());
        } else if RESERVED.contains(&directive) {
            wrong(&path, "is set by the plugin".to_owned());
        }
        if value.is_empty() || value.chars().any(char::is_control) {
            wrong(&path, format!("{value:?}; one line is expected"));
        }
    }
    errors
}

fn yes() -> bool {
    true
}

fn key() -> String {
    "password".to_owned()
}
