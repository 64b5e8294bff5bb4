//! What a plan may depend on, distilled from the caches and sorted. Knows no plugin's inside and no client.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cache::{Caches, Kind, Live, State};
use crate::crd::{Database, database::ClassInUse};
use crate::fault::Fault;
use crate::names;
use crate::wit::{ClassKind, ClassSeen, DatabaseSeen, Descriptor, ObjectKind, Observed, PartitionWanted, Request};

/// Everything that a plan may depend on, as the contract shapes it. The kinds observed are all synced.
pub fn observe(
    database: &Database,
    class: &Class,
    per_cluster: u32,
    descriptor: &Descriptor,
    caches: &Caches,
    cluster_domain: &str,
) -> Result<Request, Fault> {
    let namespace = database.metadata.namespace.clone().unwrap_or_default();
    let label = names::database_label(&namespace, database.metadata.name.as_deref().unwrap_or_default());
    let mut observed = Vec::new();
    for kind in descriptor.emits.iter().chain(&descriptor.watches) {
        synced(caches, &self::kind(kind))?;
        let live = caches.of_database(&self::kind(kind), &namespace, &label);
        observed.extend(live.iter().map(|live| seen(kind, live)));
    }
    observed.sort_by(|a, b| (&a.group, &a.kind, &a.name).cmp(&(&b.group, &b.kind, &b.name)));
    Ok(request(database, class, per_cluster, observed, cluster_domain))
}

/// The request for a database of which these objects are there, sorted by group, kind and name.
pub fn request(
    database: &Database,
    class: &Class,
    per_cluster: u32,
    observed: Vec<Observed>,
    cluster_domain: &str,
) -> Request {
    let namespace = database.metadata.namespace.clone().unwrap_or_default();
    let name = database.metadata.name.clone().unwrap_or_default();
    let label = names::database_label(&namespace, &name);
    let partitions = u32::try_from(database.spec.partitions).unwrap_or(1);
    Request {
        database: DatabaseSeen {
            partitions,
            partitions_per_cluster: per_cluster,
            labels: pod_labels(database).into_iter().collect(),
            database_label: label,
            namespace,
            name: name.clone(),
        },
        class: ClassSeen {
            kind: class.in_use.kind.clone(),
            version: class.version.clone(),
            name: class.in_use.name.clone(),
            spec: class.spec(),
        },
        partitions: (1..=partitions)
            .map(|id| PartitionWanted { id, cluster: id.div_ceil(per_cluster), service_name: partition_name(&name, id) })
            .collect(),
        observed,
        cluster_domain: cluster_domain.to_owned(),
        features: Vec::new(),
    }
}

/// The class object that a database uses.
#[derive(Clone, Debug)]
pub struct Class {
    /// Where it was found.
    pub in_use: ClassInUse,
    /// Version asked for, else the stored one.
    pub version: String,
    /// The object.
    pub live: std::sync::Arc<Live>,
    /// Whether it was found in the database's namespace although the reference names another.
    pub fallback: bool,
}

impl Class {
    /// The class's spec, `{}` if it has none.
    pub fn spec(&self) -> Value {
        self.live.body.get("spec").cloned().unwrap_or_else(|| serde_json::json!({}))
    }

    /// A whole number in the spec, within what partitions may be.
    fn number(&self, field: &str) -> Option<i32> {
        let number = self.live.body.get("spec")?.get(field)?.as_i64()?;
        i32::try_from(number).ok().filter(|number| (1..=crate::crd::PARTITIONS_MAX).contains(number))
    }
}

/// Name of a partition, and of its Service.
pub fn partition_name(database: &str, id: u32) -> String {
    format!("{database}-{id}")
}

/// Finds the class that a database uses. Once found it stays the one, until the database's reference is edited: a class that
/// appears later elsewhere changes nothing, and one deleted and made again under its name is the same class.
pub fn class(database: &Database, kind: &ClassKind, caches: &Caches) -> Result<Class, Fault> {
    let wanted = &database.spec.storage_class;
    let own = database.metadata.namespace.clone().unwrap_or_default();
    let stored = class_kind(kind);
    match caches.state(&stored) {
        State::Absent => {
            return Err(Fault::waiting(
                "DefinitionMissing",
                format!(
                    "the definition {}.{} is not installed; `atomix-controller plugin pack` prints it",
                    kind.plural, stored.group
                ),
            ));
        }
        State::Starting => {
            return Err(Fault::waiting("Starting", format!("objects of kind {} are being listed", kind.kind)));
        }
        State::Failing(message) => {
            let message = format!("objects of kind {} cannot be watched: {message}", kind.kind);
            return Err(Fault::Cluster { reason: "WatchFailed", message });
        }
        State::Synced => {}
    }
    if let Some(version) = wanted.version.as_ref().filter(|version| !kind.versions.contains(version)) {
        let message =
            format!("spec.storageClass.version is {version}, but {} is served in {}", kind.kind, kind.versions.join(", "));
        return Err(Fault::user("ClassVersionNotServed", message));
    }
    let wanted_namespace = wanted.namespace.clone().unwrap_or_default();
    let sticky = database.status.as_ref().and_then(|status| status.storage_class.clone()).filter(|in_use| {
        in_use.kind == wanted.kind && in_use.name == wanted.name && in_use.wanted_namespace == wanted_namespace
    });
    let places: Vec<String> = match &sticky {
        Some(in_use) => vec![in_use.namespace.clone()],
        None if wanted_namespace.is_empty() || wanted_namespace == own => vec![own.clone()],
        None => vec![wanted_namespace.clone(), own.clone()],
    };
    let found = places.iter().find_map(|namespace| {
        let live = caches.find(&stored, &crate::cache::Key::new(namespace, &wanted.name))?;
        Some((namespace.clone(), live))
    });
    let Some((namespace, live)) = found else {
        let places: Vec<_> = places.iter().map(|namespace| format!("namespace {namespace}")).collect();
        let message = format!("there is no {} {} in {}", wanted.kind, wanted.name, places.join(" nor in "));
        return Err(Fault::waiting("ClassNotFound", message));
    };
    Ok(Class {
        fallback: !wanted_namespace.is_empty() && namespace != wanted_namespace,
        in_use: ClassInUse { kind: wanted.kind.clone(), namespace, name: wanted.name.clone(), wanted_namespace },
        version: wanted.version.clone().or_else(|| kind.versions.first().cloned()).unwrap_or_default(),
        live,
    })
}

/// Labels of the database when it was first planned: decided once, since another label in a pod template restarts pods.
pub fn pod_labels(database: &Database) -> BTreeMap<String, String> {
    let decided = database.status.as_ref().and_then(|status| status.pod_labels.clone());
    decided.or_else(|| database.metadata.labels.clone()).unwrap_or_default()
}

/// How many partitions share a cluster: decided once, by the database, else by its class, else all of them share one.
pub fn partitions_per_cluster(database: &Database, class: &Class) -> u32 {
    let decided = database.status.as_ref().and_then(|status| status.partitions_per_cluster);
    let by_clusters = || Some(ceil_div(database.spec.partitions, class.number("clusters")?));
    let number = decided
        .or(database.spec.partitions_per_cluster)
        .or_else(|| class.number("partitionsPerCluster"))
        .or_else(by_clusters)
        .unwrap_or(database.spec.partitions);
    u32::try_from(number.max(1)).unwrap_or(1)
}

/// A kind of class as the cache knows it: in its stored version.
pub fn class_kind(kind: &ClassKind) -> Kind {
    Kind {
        group: crate::crd::STORAGE_GROUP.to_owned(),
        version: kind.versions.first().cloned().unwrap_or_default(),
        kind: kind.kind.clone(),
        plural: kind.plural.clone(),
    }
}

/// A plugin's object kind as the cache knows it.
pub fn kind(kind: &ObjectKind) -> Kind {
    Kind { group: kind.group.clone(), version: kind.version.clone(), kind: kind.kind.clone(), plural: kind.plural.clone() }
}

/// That a kind's cache is whole; else why it is not, and whether it comes by itself.
pub fn synced(caches: &Caches, kind: &Kind) -> Result<(), Fault> {
    match caches.state(kind) {
        State::Synced => Ok(()),
        State::Starting => Err(Fault::waiting("Starting", format!("objects of kind {} are being listed", kind.kind))),
        State::Absent => Err(Fault::waiting(
            "DefinitionMissing",
            format!("the cluster serves no {} in {}/{}", kind.kind, kind.group, kind.version),
        )),
        State::Failing(message) => {
            let message = format!("objects of kind {} cannot be watched: {message}", kind.kind);
            Err(Fault::Cluster { reason: "WatchFailed", message })
        }
    }
}

fn seen(kind: &ObjectKind, live: &Live) -> Observed {
    let read = |pointer: &String| Some((pointer.clone(), live.body.pointer(pointer)?.clone()));
    Observed {
        group: kind.group.clone(),
        kind: kind.kind.clone(),
        name: live.name.clone(),
        terminating: live.terminating(),
        fields: kind.reads.iter().filter_map(read).collect(),
    }
}

fn ceil_div(a: i32, b: i32) -> i32 {
    a.max(1).div_euclid(b.max(1)) + i32::from(a.max(1).rem_euclid(b.max(1)) != 0)
}
