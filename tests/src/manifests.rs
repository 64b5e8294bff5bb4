//! Manifests that tests begin with, as values instead of pasted YAML: a storage class, databases on it, pods. Knows no cluster.
//!
//! ```
//! use harness::manifests::Manifests;
//! use serde_json::json;
//!
//! let two = Manifests::raft(json!({"replicas": 1})).database("a", 1).database("b", json!({"partitions": 2}));
//! assert_eq!(two.databases(), ["a", "b"]);
//! ```

use std::fmt::{self, Display, Formatter};

use serde_json::{Value, json};

/// Manifests in the order in which they are created. As text they are JSON documents that kubectl reads.
#[derive(Clone, Debug)]
pub struct Manifests {
    /// Kind and name of the class on which databases lie.
    class: (String, String),
    documents: Vec<Value>,
}

/// The spec of a Database without its class, or the number of its partitions alone.
#[derive(Clone, Debug)]
pub struct DatabaseSpec(Value);

impl From<Value> for DatabaseSpec {
    fn from(spec: Value) -> Self {
        DatabaseSpec(spec)
    }
}

impl From<u32> for DatabaseSpec {
    fn from(partitions: u32) -> Self {
        DatabaseSpec(json!({"partitions": partitions}))
    }
}

impl Manifests {
    /// A class of storage, on which the databases that follow lie.
    pub fn class(kind: &str, name: &str, spec: Value) -> Manifests {
        let document = json!({
            "apiVersion": "storage.cloud.atomix.io/v1beta1",
            "kind": kind,
            "metadata": {"name": name},
            "spec": spec,
        });
        Manifests { documents: vec![document], ..Manifests::on(kind, name) }
    }

    /// The RaftStorageClass `raft`.
    pub fn raft(spec: Value) -> Manifests {
        Manifests::class("RaftStorageClass", "raft", spec)
    }

    /// The CacheStorageClass `db`, with an empty spec.
    pub fn cache() -> Manifests {
        Manifests::class("CacheStorageClass", "db", json!({}))
    }

    /// Nothing yet: databases that follow lie on a class that is made elsewhere, or nowhere.
    pub fn on(kind: &str, name: &str) -> Manifests {
        Manifests { class: (kind.to_owned(), name.to_owned()), documents: Vec::new() }
    }

    /// A Database on the class. What the spec has in `storageClass` is added to its kind and name.
    #[must_use]
    pub fn database(self, name: &str, spec: impl Into<DatabaseSpec>) -> Manifests {
        self.labelled_database(json!({"name": name}), spec)
    }

    /// A Database with this metadata.
    #[must_use]
    pub fn labelled_database(mut self, metadata: Value, spec: impl Into<DatabaseSpec>) -> Manifests {
        let DatabaseSpec(mut spec) = spec.into();
        let (kind, name) = &self.class;
        spec["storageClass"]["kind"] = kind.as_str().into();
        spec["storageClass"]["name"] = name.as_str().into();
        self.documents.push(json!({
            "apiVersion": "cloud.atomix.io/v1beta3",
            "kind": "Database",
            "metadata": metadata,
            "spec": spec,
        }));
        self
    }

    /// Pods of programs, which identify themselves by their names.
    #[must_use]
    pub fn pods<S: AsRef<str>>(mut self, names: impl IntoIterator<Item = S>) -> Manifests {
        self.documents.extend(names.into_iter().map(|name| pod(name.as_ref())));
        self
    }

    /// These, then the others.
    #[must_use]
    pub fn and(mut self, others: Manifests) -> Manifests {
        self.documents.extend(others.documents);
        self
    }

    /// Names of the databases.
    pub fn databases(&self) -> Vec<&str> {
        let databases = self.documents.iter().filter(|document| document["kind"] == "Database");
        databases.filter_map(|database| database["metadata"]["name"].as_str()).collect()
    }
}

impl Display for Manifests {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.documents.iter().try_for_each(|document| writeln!(f, "---\n{document}"))
    }
}

/// Pods of programs, as text for kubectl.
pub fn pods<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    names.into_iter().map(|name| format!("---\n{}\n", pod(name.as_ref()))).collect()
}

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "peer", "image": "peer"}]},
    })
}

/// A value after a merge patch (RFC 7386).
pub fn merged(mut into: Value, patch: &Value) -> Value {
    let Value::Object(fields) = patch else { return if patch.is_null() { into } else { patch.clone() } };
    if !into.is_object() {
        into = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            into.as_object_mut().expect("it is one by now").remove(name);
        } else {
            let before = into.get(name).cloned().unwrap_or(Value::Null);
            into[name.as_str()] = merged(before, value);
        }
    }
    into
}
