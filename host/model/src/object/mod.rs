//! Kubernetes objects of any kind: what names them, and a live one cut down to what deciding needs. Knows no client.

mod live;

use std::borrow::Cow;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::contract::{ClassKind, ObjectKind};
use crate::crd::STORAGE_GROUP;

pub use live::{Live, Trim, is_database};

/// A kind of object and where the API serves it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Kind {
    /// API group, e.g. `apps`; empty for the core group.
    #[serde(default)]
    pub group: String,
    /// Version of the API, e.g. `v1`.
    pub version: String,
    /// Kind, e.g. `StatefulSet`.
    pub kind: String,
    /// Plural, as in the API's paths, e.g. `statefulsets`.
    pub plural: String,
}

impl Kind {
    /// The kind of a Rust type, ours or Kubernetes'.
    pub fn of<K: kube::Resource<DynamicType = ()>>() -> Kind {
        let text = |of: Cow<'_, str>| of.into_owned();
        Kind {
            group: text(K::group(&())),
            version: text(K::version(&())),
            kind: text(K::kind(&())),
            plural: text(K::plural(&())),
        }
    }

    /// Its resource as in rules of roles and on command lines, e.g. "statefulsets.apps".
    pub fn resource(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }
}

impl From<&ObjectKind> for Kind {
    fn from(kind: &ObjectKind) -> Kind {
        Kind {
            group: kind.group.clone(),
            version: kind.version.clone(),
            kind: kind.kind.clone(),
            plural: kind.plural.clone(),
        }
    }
}

/// The kind of a class, in its stored version.
impl From<&ClassKind> for Kind {
    fn from(kind: &ClassKind) -> Kind {
        Kind {
            group: STORAGE_GROUP.to_owned(),
            version: kind.versions.first().cloned().unwrap_or_default(),
            kind: kind.kind.clone(),
            plural: kind.plural.clone(),
        }
    }
}

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // its fields explain themselves
pub struct Key {
    pub namespace: String,
    pub name: String,
}

impl Key {
    /// A key from its parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Key {
        Key { namespace: namespace.into(), name: name.into() }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// How far a kind's watch has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The first list is not in yet.
    Starting,
    /// The cache is whole.
    Synced,
    /// The API serves no such kind: its definition is not installed.
    Absent,
    /// The controller may not watch it, or the watch fails for another reason; the message has it.
    Failing(String),
}

/// Events of one reason about one object whose messages are the same, times and identifiers aside.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // its fields explain themselves
pub struct Told {
    pub kind: String,
    pub name: String,
    pub uid: String,
    /// Reason in CamelCase.
    pub reason: String,
    /// What happened, in the words of the first Event.
    pub message: String,
    /// Whether it is a warning.
    pub warning: bool,
    /// When the last of them occurred.
    pub last: Timestamp,
}

/// Where live objects are looked up.
pub trait Objects {
    /// The object of that kind and key, if there is one.
    fn find(&self, kind: &Kind, key: &Key) -> Option<Arc<Live>>;

    /// All objects of a kind in `namespace` whose label `database` has this value, by name.
    fn of_database(&self, kind: &Kind, namespace: &str, label: &str) -> Vec<Arc<Live>>;

    /// How far the watch of a kind has come; [`State::Starting`] for a kind that is not watched.
    fn state(&self, kind: &Kind) -> State;
}

impl<T: Objects + ?Sized> Objects for Arc<T> {
    fn find(&self, kind: &Kind, key: &Key) -> Option<Arc<Live>> {
        T::find(self, kind, key)
    }

    fn of_database(&self, kind: &Kind, namespace: &str, label: &str) -> Vec<Arc<Live>> {
        T::of_database(self, kind, namespace, label)
    }

    fn state(&self, kind: &Kind) -> State {
        T::state(self, kind)
    }
}
