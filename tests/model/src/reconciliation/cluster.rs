//! What the API server holds in the model, what others may do to it, and how it answers writes. A view of it is what a cache holds.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use atomix_model::crd::database::DatabaseStatus;
use atomix_model::crd::{Database, DatabaseSpec, STORAGE_GROUP, StorageClassRef};
use atomix_model::names;
use atomix_model::object::{Key, Kind, Live, Objects, State, Trim};
use serde_json::{Value, json};

use super::storage::{Revision, SLOTS, Slot, class_kind};

/// The namespace of all of it.
pub const NAMESPACE: &str = "n";

/// A value that is compared by a hash of its text, made once.
#[derive(Clone)]
pub struct Fingerprinted<T>(pub Arc<T>, u64);

impl<T: serde::Serialize> Fingerprinted<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Fingerprinted<T> {
        let mut hasher = std::hash::DefaultHasher::new();
        serde_json::to_string(&value).expect("it is plain data").hash(&mut hasher);
        Fingerprinted(Arc::new(value), hasher.finish())
    }
}

impl<T> PartialEq for Fingerprinted<T> {
    fn eq(&self, other: &Fingerprinted<T>) -> bool {
        self.1 == other.1
    }
}

impl<T> Eq for Fingerprinted<T> {}

impl<T> Hash for Fingerprinted<T> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.1.hash(hasher);
    }
}

impl<T> std::fmt::Debug for Fingerprinted<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x}", self.1 >> 32)
    }
}

/// The Database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // its fields explain themselves
pub struct DatabaseAt {
    pub version: u8,
    pub generation: u8,
    pub partitions: u8,
    /// The plan that was accepted.
    pub accepted: Option<Arc<str>>,
    pub status: Fingerprinted<DatabaseStatus>,
}

impl DatabaseAt {
    /// As the API server would show it.
    pub fn object(&self) -> Database {
        let class = StorageClassRef {
            group: STORAGE_GROUP.to_owned(),
            version: None,
            kind: class_kind().kind,
            namespace: None,
            name: "c".to_owned(),
        };
        let spec = DatabaseSpec { partitions: self.partitions.into(), partitions_per_cluster: None, storage_class: class };
        let mut database = Database::new("d", spec);
        database.metadata.namespace = Some(NAMESPACE.to_owned());
        database.metadata.uid = Some("database".to_owned());
        database.metadata.generation = Some(self.generation.into());
        database.metadata.resource_version = Some(self.version.to_string());
        let accepted = self.accepted.iter().map(|hash| (names::ACCEPT.to_owned(), hash.to_string()));
        database.metadata.annotations = Some(accepted.collect());
        database.status = Some((*self.status.0).clone());
        database
    }
}

/// The class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // its fields explain themselves
pub struct ClassAt {
    pub generation: u8,
    pub image: u8,
}

/// An object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // its fields explain themselves
pub struct Object {
    pub uid: u8,
    pub version: u8,
    /// What it holds; None if it belongs to another owner.
    pub manifest: Option<Fingerprinted<Value>>,
}

/// Objects by place.
pub type Placed = [Option<Object>; SLOTS.len()];

/// What a cache holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // its fields explain themselves
pub struct View {
    pub database: DatabaseAt,
    pub class: ClassAt,
    /// Ours only: caches select by label.
    pub objects: Placed,
}

/// What the API server holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    /// The Database, its class and its objects, those of others too.
    pub now: View,
    /// The bytes of the plugin that are installed.
    pub plugin: Revision,
    /// The last version and UID of each place.
    counted: [u8; SLOTS.len()],
}

/// Why a write was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refused {
    /// By the admission policy: the object belongs to another owner.
    Taken,
    /// A precondition does not hold.
    Conflict,
}

/// What others do to the objects of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Meddling {
    /// Another client edits it.
    Edit,
    /// Another client deletes it.
    Delete,
    /// Another client deletes it and makes another of the name.
    Replace,
    /// The one of another owner goes.
    Vacate,
}

impl Server {
    /// A Database that no replica has seen yet, with its class and its plugin.
    pub fn new() -> Server {
        let status = Fingerprinted::new(DatabaseStatus::default());
        let database = DatabaseAt { version: 1, generation: 1, partitions: 2, accepted: None, status };
        let class = ClassAt { generation: 1, image: 0 };
        let now = View { database, class, objects: Default::default() };
        Server { now, plugin: Revision::First, counted: [0; SLOTS.len()] }
    }

    /// What a cache would hold.
    pub fn seen(&self, slot: Slot) -> Option<&Object> {
        self.now.objects[slot.index()].as_ref().filter(|object| object.manifest.is_some())
    }

    /// A server-side apply with force.
    pub fn apply(
        &mut self,
        (slot, manifest): (Slot, &Fingerprinted<Value>),
        is_once: bool,
        is_guarded: bool,
    ) -> Result<(), Refused> {
        match &self.now.objects[slot.index()] {
            Some(there) if is_guarded && (there.manifest.is_none() || is_once) => return Err(Refused::Taken),
            Some(there) if there.manifest.as_ref() == Some(manifest) => {}
            Some(there) => {
                let uid = there.uid;
                self.put(slot, uid, Some(manifest.clone()));
            }
            None => {
                let uid = self.counted[slot.index()] + 1;
                self.put(slot, uid, Some(manifest.clone()));
            }
        }
        Ok(())
    }

    /// A deletion of what has this UID, or of whatever is there.
    pub fn delete(&mut self, slot: Slot, uid: Option<u8>, is_guarded: bool) -> Result<(), Refused> {
        match &self.now.objects[slot.index()] {
            Some(there) if uid.is_some_and(|uid| uid != there.uid) => return Err(Refused::Conflict),
            Some(there) if is_guarded && there.manifest.is_none() => return Err(Refused::Taken),
            _ => {}
        }
        self.now.objects[slot.index()] = None;
        Ok(())
    }

    /// A status of the version that was seen.
    pub fn record(&mut self, status: &Fingerprinted<DatabaseStatus>, seen: u8) -> Result<(), Refused> {
        let database = &mut self.now.database;
        if seen != database.version {
            return Err(Refused::Conflict);
        }
        if database.status != *status {
            database.status = status.clone();
            database.version += 1;
        }
        Ok(())
    }

    /// What another client does; false if there is nothing to do.
    pub fn meddle(&mut self, slot: Slot, how: Meddling) -> bool {
        let index = slot.index();
        let Some(there) = self.now.objects[index].clone() else { return false };
        match (how, &there.manifest) {
            (Meddling::Vacate, None) | (Meddling::Delete, Some(_)) => self.now.objects[index] = None,
            (Meddling::Replace, Some(_)) => self.put(slot, self.counted[index] + 1, None),
            (Meddling::Edit, Some(manifest)) => {
                let mut edited = (*manifest.0).clone();
                match slot {
                    Slot::Set => edited["spec"]["replicas"] = json!(9),
                    Slot::ConfigMap => edited["data"]["setting"] = json!("theirs"),
                    _ => return false,
                }
                let edited = Fingerprinted::new(edited);
                if edited == *manifest {
                    return false;
                }
                self.put(slot, there.uid, Some(edited));
            }
            _ => return false,
        }
        true
    }

    fn put(&mut self, slot: Slot, uid: u8, manifest: Option<Fingerprinted<Value>>) {
        let counted = &mut self.counted[slot.index()];
        *counted += 1;
        self.now.objects[slot.index()] = Some(Object { uid, version: *counted, manifest });
    }
}

impl Default for Server {
    fn default() -> Server {
        Server::new()
    }
}

/// A view as deciding looks things up in it, with the places whose kinds are watched.
pub struct Lookup<'a>(pub &'a View, pub &'a [bool; SLOTS.len()]);

impl Lookup<'_> {
    fn live(&self, slot: Slot) -> Option<Arc<Live>> {
        let object = self.0.objects[slot.index()].as_ref()?;
        let mut body = (*object.manifest.as_ref()?.0).clone();
        body["metadata"]["uid"] = json!(format!("{slot:?}-{}", object.uid));
        body["metadata"]["resourceVersion"] = json!(object.version.to_string());
        Trim::whole([]).live(&slot.kind(), body).map(Arc::new)
    }

    /// The class.
    pub fn class(&self) -> Arc<Live> {
        let ClassAt { generation, image } = self.0.class;
        let body = json!({
            "metadata": {"name": "c", "namespace": NAMESPACE, "uid": "class", "resourceVersion": generation.to_string(),
                "generation": generation},
            "spec": {"image": image},
        });
        Arc::new(Trim::whole([]).live(&Kind::from(&class_kind()), body).expect("it is an object"))
    }
}

impl Objects for Lookup<'_> {
    fn find(&self, kind: &Kind, key: &Key) -> Option<Arc<Live>> {
        if *kind == Kind::from(&class_kind()) {
            return Some(self.class()).filter(|class| class.name == key.name);
        }
        self.live(Slot::of(kind, &key.name)?)
    }

    fn of_database(&self, kind: &Kind, _: &str, label: &str) -> Vec<Arc<Live>> {
        let slots = SLOTS.into_iter().filter(|slot| slot.kind() == *kind);
        let labelled = |live: &Arc<Live>| live.database_label() == Some(label);
        let found: BTreeMap<_, _> =
            slots.filter_map(|slot| self.live(slot)).filter(labelled).map(|live| (live.name.clone(), live)).collect();
        found.into_values().collect()
    }

    fn state(&self, kind: &Kind) -> State {
        let is_watched = |slot: &Slot| slot.kind() == *kind && self.1[slot.index()];
        match *kind == Kind::from(&class_kind()) || SLOTS.iter().any(is_watched) {
            true => State::Synced,
            false => State::Starting,
        }
    }
}
