//! What a plan may depend on, distilled from the caches and sorted. Knows no plugin's inside and no client.

use std::collections::BTreeMap;

use serde_json::Value;

use atomix_model::condition::Reason;
use atomix_model::contract::{
    ClassKind, ClassSeen, DatabaseSeen, Descriptor, ObjectKind, Observed, PartitionWanted, Request, Unsupported,
};
use atomix_model::crd::database::ClassInUse;
use atomix_model::crd::{Database, DatabaseSpec, DatabaseStatus, StorageClassRef};
use atomix_model::fault::Fault;
use atomix_model::object::{Kind, Live, Objects, State};
use atomix_model::{labels, names};

/// Everything that a plan may depend on, as the contract shapes it. The kinds observed are all synced.
pub fn observe(
    database: &Database,
    class: &Class,
    per_cluster: u32,
    descriptor: &Descriptor,
    objects: &dyn Objects,
    cluster_domain: &str,
) -> Result<Request, Fault> {
    let namespace = database.metadata.namespace.clone().unwrap_or_default();
    let label = names::database_label(&namespace, database.metadata.name.as_deref().unwrap_or_default());
    let mut observed = Vec::new();
    for kind in descriptor.emits.iter().chain(&descriptor.watches) {
        synced(objects, &Kind::from(kind))?;
        let live = objects.of_database(&Kind::from(kind), &namespace, &label);
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
        i32::try_from(number).ok().filter(|number| (1..=atomix_model::crd::PARTITIONS_MAX).contains(number))
    }
}

/// Name of a partition, and of its Service.
pub fn partition_name(database: &str, id: u32) -> String {
    format!("{database}-{id}")
}

/// Finds the class that a database uses. Once found it stays the one, until the database's reference is edited: a class that
/// appears later elsewhere changes nothing, and one deleted and made again under its name is the same class.
pub fn class(database: &Database, kind: &ClassKind, objects: &dyn Objects) -> Result<Class, Fault> {
    let wanted = &database.spec.storage_class;
    let own = database.metadata.namespace.clone().unwrap_or_default();
    let stored = Kind::from(kind);
    match objects.state(&stored) {
        State::Absent => {
            return Err(Fault::waiting(
                Reason::DefinitionMissing,
                format!(
                    "the definition {}.{} is not installed; `atomix-controller plugin pack` prints it",
                    kind.plural, stored.group
                ),
            ));
        }
        State::Starting => {
            return Err(Fault::Unseen { message: format!("objects of kind {} are being listed", kind.kind) });
        }
        State::Failing(message) => {
            let message = format!("objects of kind {} cannot be watched: {message}", kind.kind);
            return Err(Fault::Cluster { reason: Reason::WatchFailed, message });
        }
        State::Synced => {}
    }
    if let Some(version) = wanted.version.as_ref().filter(|version| !kind.versions.contains(version)) {
        let message =
            format!("spec.storageClass.version is {version}, but {} is served in {}", kind.kind, kind.versions.join(", "));
        return Err(Fault::user(Reason::ClassVersionNotServed, message));
    }
    let wanted_namespace = wanted.namespace.clone().unwrap_or_default();
    let in_use = database.status.as_ref().and_then(|status| status.storage_class.clone());
    let sticky = in_use.filter(|in_use| names_it(wanted, in_use, &own));
    let version = wanted.version.clone().or_else(|| {
        let in_use = sticky.as_ref().and_then(|in_use| in_use.version.clone());
        in_use.filter(|version| kind.versions.contains(version)).or_else(|| kind.versions.first().cloned())
    });
    let places: Vec<String> = match &sticky {
        Some(in_use) => vec![in_use.namespace.clone()],
        None if wanted_namespace.is_empty() || wanted_namespace == own => vec![own.clone()],
        None => vec![wanted_namespace.clone(), own.clone()],
    };
    let found = places.iter().find_map(|namespace| {
        let live = objects.find(&stored, &atomix_model::object::Key::new(namespace, &wanted.name))?;
        (!of_an_older_one(&live, database)).then(|| (namespace.clone(), live))
    });
    let Some((namespace, live)) = found else {
        let places: Vec<_> = places.iter().map(|namespace| format!("namespace {namespace}")).collect();
        let message = format!("there is no {} {} in {}", wanted.kind, wanted.name, places.join(" nor in "));
        return Err(Fault::waiting(Reason::ClassNotFound, message));
    };
    Ok(Class {
        fallback: !wanted_namespace.is_empty() && namespace != wanted_namespace,
        in_use: ClassInUse {
            kind: wanted.kind.clone(),
            own_namespace: Some(namespace == own),
            namespace,
            name: wanted.name.clone(),
            generation: live.generation(),
            wanted_namespace,
            version: version.clone(),
        },
        version: version.unwrap_or_default(),
        live,
    })
}

/// Whether a class is owned by an older database of the same name: it is about to be garbage collected, and describes that
/// earlier one.
fn of_an_older_one(class: &Live, database: &Database) -> bool {
    let owners = class.body.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let mut same_name = owners.into_iter().flatten().filter(|owner| {
        atomix_model::object::is_database(owner) && owner["name"].as_str() == database.metadata.name.as_deref()
    });
    let (own, class_namespace) = (database.metadata.namespace.as_deref(), class.namespace.as_str());
    let uid = database.metadata.uid.as_deref();
    own == Some(class_namespace) && same_name.clone().next().is_some() && same_name.all(|owner| owner["uid"].as_str() != uid)
}

/// Whether a reference names the class that is in use, by whatever spelling: no namespace is the database's own.
fn names_it(wanted: &StorageClassRef, in_use: &ClassInUse, own: &str) -> bool {
    let place = |namespace: &str| if namespace.is_empty() { own.to_owned() } else { namespace.to_owned() };
    let named = place(wanted.namespace.as_deref().unwrap_or_default());
    wanted.kind == in_use.kind
        && wanted.name == in_use.name
        && (named == place(&in_use.wanted_namespace) || named == in_use.namespace)
}

/// The spec that a database runs by, as its status recorded it. None if nothing runs.
pub fn recorded_spec(status: &DatabaseStatus) -> Option<DatabaseSpec> {
    let in_use = status.storage_class.clone()?;
    Some(DatabaseSpec {
        partitions: status.plan.as_ref()?.partitions?,
        partitions_per_cluster: status.partitions_per_cluster,
        storage_class: reference(in_use),
    })
}

/// A reference that names the class in use.
fn reference(in_use: ClassInUse) -> StorageClassRef {
    StorageClassRef {
        group: atomix_model::crd::STORAGE_GROUP.to_owned(),
        version: None,
        kind: in_use.kind,
        namespace: Some(in_use.wanted_namespace).filter(|namespace| !namespace.is_empty()),
        name: in_use.name,
    }
}

/// A running database stays on its class, and on how its partitions share clusters, whatever its spec is now. The API
/// server refuses such an edit; where it did not (with an older definition), no part of it is applied: the spec becomes what
/// runs, and the changes that are not made are returned.
pub fn keep_what_runs(database: &mut Database) -> Vec<Unsupported> {
    let own = database.metadata.namespace.clone().unwrap_or_default();
    let Some(status) = database.status.as_ref() else { return Vec::new() };
    let (Some(plan), Some(in_use)) = (status.plan.clone(), status.storage_class.clone()) else { return Vec::new() };
    let mut kept = Vec::new();
    let decided = status.partitions_per_cluster;
    let per_cluster =
        database.spec.partitions_per_cluster.filter(|wanted| decided.is_some_and(|decided| decided != *wanted));
    if let Some(wanted) = per_cluster {
        database.spec.partitions_per_cluster = decided;
        kept.push(Unsupported {
            field: "spec.partitionsPerCluster".to_owned(),
            wanted: wanted.to_string(),
            kept: decided.unwrap_or_default().to_string(),
            why: "partitions do not move between clusters; create another database".to_owned(),
        });
    }
    let class = &mut database.spec.storage_class;
    let group = Some(class.group.as_str()).filter(|group| !["", atomix_model::crd::STORAGE_GROUP].contains(group));
    let version = class.version.as_deref().filter(|wanted| in_use.version.as_deref().is_some_and(|used| used != *wanted));
    if group.is_some() || version.is_some() || !names_it(class, &in_use, &own) {
        let named = |kind: &str, namespace: &str, name: &str| match namespace {
            "" => format!("{kind} {name}"),
            namespace => format!("{kind} {namespace}/{name}"),
        };
        let mut wanted = named(&class.kind, class.namespace.as_deref().unwrap_or_default(), &class.name);
        for more in group.into_iter().chain(version) {
            wanted = format!("{wanted} of {more}");
        }
        kept.push(Unsupported {
            field: "spec.storageClass".to_owned(),
            wanted,
            kept: named(&in_use.kind, &in_use.namespace, &in_use.name),
            why: "data do not move to another class, so that no part of the change is taken; create another database"
                .to_owned(),
        });
        *class = reference(in_use);
    }
    if let Some(partitions) = plan.partitions.filter(|_| !kept.is_empty()) {
        database.spec.partitions = partitions;
    }
    kept
}

/// Labels of the database that its pods carry, as they were when it was first planned: decided once, since another label in a pod
/// template restarts pods.
pub fn pod_labels(database: &Database) -> BTreeMap<String, String> {
    let decided = database.status.as_ref().and_then(|status| status.pod_labels.clone());
    decided.unwrap_or_else(|| labels::copied(&database.metadata))
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

/// That a kind's cache is whole; else why it is not, and whether it comes by itself.
pub fn synced(objects: &dyn Objects, kind: &Kind) -> Result<(), Fault> {
    match objects.state(kind) {
        State::Synced => Ok(()),
        State::Starting => Err(Fault::Unseen { message: format!("objects of kind {} are being listed", kind.kind) }),
        State::Absent => Err(Fault::waiting(
            Reason::DefinitionMissing,
            format!("the cluster serves no {} in {}/{}", kind.kind, kind.group, kind.version),
        )),
        State::Failing(message) => {
            let message = format!("objects of kind {} cannot be watched: {message}", kind.kind);
            Err(Fault::Cluster { reason: Reason::WatchFailed, message })
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
