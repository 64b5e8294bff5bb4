//! Kubernetes objects of any kind: what names them, and a live one cut down to what deciding needs. Knows no client.

mod live;

use std::borrow::Cow;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::KubeSchema;
use kube::core::{ApiResource, GroupVersionKind};
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

/// The plural of a kind in a group that Kubernetes itself brings, e.g. "networkpolicies"; None in other groups, where it may be any.
pub fn builtin_plural(group: &str, kind: &str) -> Option<String> {
    let is_builtin = !group.contains('.') || group.ends_with(".k8s.io");
    is_builtin.then(|| ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind)).plural)
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

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::{apps, autoscaling, batch, core, discovery, networking, policy};

    #[test]
    fn the_plurals_of_kubernetes_are_known_from_their_kinds() {
        let all = [
            Kind::of::<core::v1::ConfigMap>(),
            Kind::of::<core::v1::Endpoints>(),
            Kind::of::<core::v1::PersistentVolumeClaim>(),
            Kind::of::<core::v1::PodTemplate>(),
            Kind::of::<core::v1::ReplicationController>(),
            Kind::of::<core::v1::Service>(),
            Kind::of::<core::v1::ServiceAccount>(),
            Kind::of::<apps::v1::DaemonSet>(),
            Kind::of::<apps::v1::Deployment>(),
            Kind::of::<apps::v1::ReplicaSet>(),
            Kind::of::<apps::v1::StatefulSet>(),
            Kind::of::<autoscaling::v2::HorizontalPodAutoscaler>(),
            Kind::of::<batch::v1::CronJob>(),
            Kind::of::<batch::v1::Job>(),
            Kind::of::<discovery::v1::EndpointSlice>(),
            Kind::of::<networking::v1::Ingress>(),
            Kind::of::<networking::v1::NetworkPolicy>(),
            Kind::of::<policy::v1::PodDisruptionBudget>(),
        ];
        for kind in all {
            assert_eq!(builtin_plural(&kind.group, &kind.kind), Some(kind.plural));
        }
        assert_eq!(builtin_plural("gateway.networking.k8s.io", "GRPCRoute").as_deref(), Some("grpcroutes"));
        assert_eq!(builtin_plural("snapshot.storage.k8s.io", "VolumeSnapshot").as_deref(), Some("volumesnapshots"));
        assert_eq!(builtin_plural("example.com", "Octopus"), None);
    }
}
