//! The one model that every version of the contract turns into. Knows no Kubernetes client; each version's bindings and their
//! adapter stand in a file of their own.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The code of a problem without a known cause: members are not ready. While something starts, this is expected.
pub const MEMBERS_NOT_READY: &str = "MembersNotReady";

/// A plugin's description of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Name of the plugin, a DNS label.
    pub name: String,
    /// The plugin's own version.
    pub version: String,
    /// Kinds of storage class served.
    pub class_kinds: Vec<ClassKind>,
    /// Kinds that plans may hold.
    pub emits: Vec<ObjectKind>,
    /// Kinds only read.
    pub watches: Vec<ObjectKind>,
}

/// A kind of storage class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // its fields explain themselves
pub struct ClassKind {
    /// Kind, e.g. ExampleStorageClass.
    pub kind: String,
    /// Plural in lower case.
    pub plural: String,
    /// Short names for kubectl.
    pub short_names: Vec<String>,
    /// Versions served, the stored one first.
    pub versions: Vec<String>,
    /// OpenAPI v3 schema of `spec`.
    pub spec_schema: Value,
    pub columns: Vec<Column>,
}

/// A printer column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // its fields explain themselves
pub struct Column {
    pub name: String,
    pub data_type: String,
    pub json_path: String,
}

/// A namespaced kind of Kubernetes object, and what is read of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // its fields explain themselves
pub struct ObjectKind {
    /// API group; empty for the core group.
    pub group: String,
    pub version: String,
    pub kind: String,
    /// Plural as in paths.
    pub plural: String,
    /// JSON pointers of the fields read back.
    pub reads: Vec<String>,
}

/// Something wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// Path within the class, e.g. spec.replicas.
    pub path: String,
    /// What is wrong and what is accepted.
    pub message: String,
}

/// Everything that a plan may depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // its fields explain themselves
pub struct Request {
    pub database: DatabaseSeen,
    pub class: ClassSeen,
    /// Its partitions, by id.
    pub partitions: Vec<PartitionWanted>,
    /// Live objects, sorted by group, kind and name.
    #[serde(default)]
    pub observed: Vec<Observed>,
    /// DNS domain of the cluster.
    pub cluster_domain: String,
    /// What this host can do beyond the first form of the contract.
    #[serde(default)]
    pub features: Vec<String>,
}

/// The database as a plan sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // its fields explain themselves
pub struct DatabaseSeen {
    pub namespace: String,
    pub name: String,
    pub partitions: u32,
    /// Partitions that share a cluster.
    pub partitions_per_cluster: u32,
    /// Labels when it was first planned, sorted by key.
    #[serde(default)]
    pub labels: Vec<(String, String)>,
    /// Value of the label `database` on every object.
    pub database_label: String,
}

/// The class as a plan sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // its fields explain themselves
pub struct ClassSeen {
    pub kind: String,
    pub version: String,
    pub name: String,
    /// Spec; `{}` if there is none.
    pub spec: Value,
}

/// One partition to serve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartitionWanted {
    /// Number, from 1.
    pub id: u32,
    /// Cluster, from 1.
    pub cluster: u32,
    /// Service through which clients reach it.
    pub service_name: String,
}

/// A live object: the fields that the plugin asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // its fields explain themselves
pub struct Observed {
    /// API group; empty for the core group.
    pub group: String,
    pub kind: String,
    pub name: String,
    /// Whether it is on its way out.
    #[serde(default)]
    pub terminating: bool,
    /// JSON pointer and value, in the order asked for.
    pub fields: Vec<(String, Value)>,
}

/// What should be, and how it goes: as a plugin answered it, not yet admitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Objects in write order.
    pub objects: Vec<PlannedObject>,
    /// How each partition goes, by id.
    pub partitions: Vec<PartitionState>,
    /// Changes not taken.
    #[serde(default)]
    pub unsupported: Vec<Unsupported>,
    /// Things a person should know.
    #[serde(default)]
    pub notes: Vec<Note>,
}

/// An object to write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // its fields explain themselves
pub struct PlannedObject {
    /// Logical name within the plan.
    pub id: String,
    pub manifest: Value,
}

/// How one partition goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartitionState {
    /// Number.
    pub id: u32,
    /// Whether it answers.
    pub ready: bool,
    /// Where clients connect to.
    pub endpoints: Vec<Endpoint>,
    /// What is missing.
    pub problem: Option<Reason>,
}

/// An address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // its fields explain themselves
pub struct Endpoint {
    /// DNS name or address.
    pub host: String,
    pub port: u16,
}

/// A reason for machines and for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // its fields explain themselves
pub struct Reason {
    /// One word in CamelCase.
    pub code: String,
    pub message: String,
}

/// A change that the running storage cannot make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsupported {
    /// Path within the class.
    pub field: String,
    /// Value asked for.
    pub wanted: String,
    /// Value kept.
    pub kept: String,
    /// Why, and what to do instead.
    pub why: String,
}

/// Something a person should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Whether it is a warning.
    pub warning: bool,
    /// What it is about.
    pub reason: Reason,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Refusal {
    /// An edit is needed.
    Invalid(Vec<FieldError>),
    /// Something must be there first.
    Waiting(Reason),
}

/// A storage class to be made for a group of the old gRPC API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // its fields explain themselves
pub struct GroupClass {
    pub kind: String,
    /// Version of that kind.
    pub version: String,
    pub spec: Value,
}

/// What the old gRPC API shows of a class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// Members of each partition, at least 1.
    pub partition_size: u32,
    /// Full name of the protobuf message.
    pub protocol: String,
    /// The message, encoded.
    pub value: Vec<u8>,
}

/// A text of a guest, cut to what fits into a message.
pub fn short(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Untrusted text as it may be printed: a space stands for each character with which it could write over a terminal, forge
/// lines of a log, or appear in another order than it is in.
pub fn plain(text: &str) -> String {
    let acts = |c: char| {
        let formats = ['\u{200b}'..='\u{200f}', '\u{2028}'..='\u{202e}', '\u{2060}'..='\u{206f}', '\u{feff}'..='\u{feff}'];
        c.is_control() || formats.iter().any(|range| range.contains(&c))
    };
    text.chars().map(|c| if acts(c) { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_others_are_one_line_and_do_nothing_to_a_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\nc\u{85}d\u{202e}e\u{2028}f\u{feff}"), "a [2Jb c d e f ");
        assert_eq!(plain("ä ok 日本"), "ä ok 日本");
    }
}
