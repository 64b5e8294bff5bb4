//! What the cluster holds, kind by kind: filled by watches and by the answers to our own writes, read by everyone who decides.
//! Knows no plugin and no database logic; it only finds objects by the database that they carry in a label.

mod events;
mod watch;

use atomix_model::object::{Key, Kind, Live, Objects, State, Trim};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

pub use events::Events;
pub use watch::{Change, Wanted, Watches, api, backoff};

/// All caches. Cheap to share; every method takes the lock for an instant only.
#[derive(Default)]
pub struct Caches(Mutex<BTreeMap<Kind, Store>>);

struct Store {
    trim: Trim,
    state: State,
    objects: BTreeMap<Key, Arc<Live>>,
    /// Names of objects by namespace and value of the label `database`.
    labelled: BTreeMap<Key, BTreeSet<String>>,
    /// Objects that our own deletions removed and whose watch event has not come yet: uid by key.
    removed: BTreeMap<Key, String>,
    /// While a list is under way: what was written since it began, and may be newer than it.
    since_list: Option<BTreeSet<Key>>,
}

impl Objects for Caches {
    fn find(&self, kind: &Kind, key: &Key) -> Option<Arc<Live>> {
        self.lock().get(kind)?.objects.get(key).cloned()
    }

    fn of_database(&self, kind: &Kind, namespace: &str, label: &str) -> Vec<Arc<Live>> {
        let stores = self.lock();
        let Some(store) = stores.get(kind) else { return Vec::new() };
        let names = store.labelled.get(&Key::new(namespace, label));
        let find = |name: &String| store.objects.get(&Key::new(namespace, name)).cloned();
        names.into_iter().flatten().filter_map(find).collect()
    }

    fn state(&self, kind: &Kind) -> State {
        self.lock().get(kind).map_or(State::Starting, |store| store.state.clone())
    }
}

impl Caches {
    /// All objects of a kind, by namespace and name.
    pub fn all(&self, kind: &Kind) -> Vec<Arc<Live>> {
        self.lock().get(kind).map(|store| store.objects.values().cloned().collect()).unwrap_or_default()
    }

    /// The API's answer to our own write. Until a newer watch event comes, this is what everyone sees: no decision is made on
    /// anything older.
    pub fn wrote(&self, kind: &Kind, object: serde_json::Value) -> Option<Arc<Live>> {
        let mut stores = self.lock();
        let store = stores.get_mut(kind)?;
        let live = Arc::new(store.trim.live(kind, object)?);
        store.put(live.clone());
        if let Some(written) = &mut store.since_list {
            written.insert(live.key());
        }
        Some(live)
    }

    /// The API's word that an object of this uid is gone by our own deletion.
    pub fn deleted(&self, kind: &Kind, key: &Key, uid: &str) {
        if let Some(store) = self.lock().get_mut(kind)
            && store.objects.get(key).is_some_and(|held| held.uid == uid)
        {
            store.take(key);
            store.removed.insert(key.clone(), uid.to_owned()); // until the watch says so too; if it has, there is none to await
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Kind, Store>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Store {
    fn new(trim: Trim) -> Store {
        Store {
            trim,
            state: State::Starting,
            objects: BTreeMap::new(),
            labelled: BTreeMap::new(),
            removed: BTreeMap::new(),
            since_list: None,
        }
    }

    /// Takes in a version of an object unless a newer one is held. Answers whether anything that is kept has changed.
    fn put(&mut self, live: Arc<Live>) -> bool {
        let key = live.key();
        if self.removed.get(&key).is_some_and(|uid| *uid == live.uid) {
            return false; // an event from before our own deletion
        }
        if let Some(held) = self.objects.get(&key) {
            if held.uid == live.uid && held.version >= live.version {
                return false;
            }
            let same = held.same_as(&live);
            if same {
                self.objects.insert(key, live);
                return false;
            }
        }
        self.take(&key);
        if let Some(label) = live.database_label() {
            self.labelled.entry(Key::new(&live.namespace, label)).or_default().insert(live.name.clone());
        }
        self.objects.insert(key, live);
        true
    }

    /// Makes the store what a list says; answers what differs from before. Newer versions stay only of what we wrote since it began:
    /// versions fall when the cluster's storage is restored from a backup.
    fn replace(&mut self, listed: Vec<Arc<Live>>) -> Vec<Arc<Live>> {
        let written = self.since_list.take().unwrap_or_default();
        let mut gone = std::mem::take(&mut self.objects);
        let mut changed = Vec::new();
        self.labelled.clear();
        self.removed.clear();
        for live in listed {
            let before = gone.remove(&live.key());
            let newer = |held: &&Arc<Live>| held.uid == live.uid && held.version > live.version;
            let newer = before.as_ref().filter(|held| newer(held) && written.contains(&held.key())).cloned();
            let live = newer.unwrap_or(live);
            if before.is_none_or(|held| !held.same_as(&live)) {
                changed.push(live.clone());
            }
            self.put(live);
        }
        changed.extend(gone.into_values()); // one that we wrote after the list was made comes again by its own event
        changed
    }

    /// Removes an object, whatever its version.
    fn take(&mut self, key: &Key) -> Option<Arc<Live>> {
        let held = self.objects.remove(key)?;
        if let Some(label) = held.database_label() {
            let index = Key::new(&held.namespace, label);
            if let Some(names) = self.labelled.get_mut(&index) {
                names.remove(&held.name);
                if names.is_empty() {
                    self.labelled.remove(&index);
                }
            }
        }
        Some(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn kind() -> Kind {
        Kind { group: String::new(), version: "v1".into(), kind: "Thing".into(), plural: "things".into() }
    }

    fn caches() -> Caches {
        let caches = Caches::default();
        caches.lock().insert(kind(), Store::new(Trim::whole(["/status/phase".to_owned()])));
        caches
    }

    fn thing(version: u64, phase: &str) -> serde_json::Value {
        json!({"metadata": {"namespace": "n", "name": "a", "uid": "u", "resourceVersion": version.to_string(),
            "labels": {"database": "d.n"}, "managedFields": [{}]}, "status": {"phase": phase, "noise": version}})
    }

    fn take(caches: &Caches, object: serde_json::Value) -> bool {
        let mut stores = caches.lock();
        let store = stores.get_mut(&kind()).unwrap();
        let live = Arc::new(store.trim.live(&kind(), object).unwrap());
        store.put(live)
    }

    #[test]
    fn an_older_event_never_replaces_the_answer_to_our_own_write() {
        let caches = caches();
        caches.wrote(&kind(), thing(7, "new"));
        assert!(!take(&caches, thing(6, "old")));
        assert_eq!(caches.find(&kind(), &Key::new("n", "a")).unwrap().version, 7);
    }

    #[test]
    fn a_list_counts_whatever_its_versions_but_for_what_was_written_since_it_began() {
        let caches = caches();
        let list = |began: bool, version: u64, phase: &str| {
            let mut stores = caches.lock();
            let store = stores.get_mut(&kind()).unwrap();
            if began {
                store.since_list = Some(BTreeSet::new());
            }
            let live = Arc::new(store.trim.live(&kind(), thing(version, phase)).unwrap());
            store.replace(vec![live]).len()
        };
        let held = || caches.find(&kind(), &Key::new("n", "a")).unwrap().version;
        take(&caches, thing(900, "new"));
        assert_eq!((list(true, 400, "old"), held()), (1, 400), "the storage of the cluster was restored");
        caches.lock().get_mut(&kind()).unwrap().since_list = Some(BTreeSet::new());
        caches.wrote(&kind(), thing(401, "ours"));
        assert_eq!((list(false, 400, "old"), held()), (0, 401), "the list began before our write");
        assert_eq!((list(true, 402, "theirs"), held()), (1, 402));
    }

    #[test]
    fn a_field_that_nobody_reads_wakes_nobody() {
        let caches = caches();
        assert!(take(&caches, thing(1, "a")));
        assert!(!take(&caches, thing(2, "a")), "only noise has changed");
        assert!(take(&caches, thing(3, "b")), "a field that is read has changed");
    }

    #[test]
    fn an_object_that_we_deleted_does_not_come_back_by_a_late_event() {
        let caches = caches();
        take(&caches, thing(1, "a"));
        caches.deleted(&kind(), &Key::new("n", "a"), "u");
        assert!(!take(&caches, thing(2, "a")));
        assert!(caches.of_database(&kind(), "n", "d.n").is_empty());
    }

    #[test]
    fn a_deletion_that_the_watch_told_first_is_not_remembered_and_another_object_of_the_name_stays() {
        let caches = caches();
        let key = Key::new("n", "a");
        for version in 1..100 {
            take(&caches, thing(version, "a"));
            caches.lock().get_mut(&kind()).unwrap().take(&key); // as the watch's event does
            caches.deleted(&kind(), &key, "u");
        }
        take(&caches, thing(200, "a"));
        caches.deleted(&kind(), &key, "older");
        let stores = caches.lock();
        assert_eq!((stores[&kind()].removed.len(), stores[&kind()].objects.len()), (0, 1));
    }

    #[test]
    fn objects_are_found_by_the_label_of_their_database() {
        let caches = caches();
        take(&caches, thing(1, "a"));
        assert_eq!(caches.of_database(&kind(), "n", "d.n").len(), 1);
        assert!(caches.of_database(&kind(), "m", "d.n").is_empty(), "another namespace is another database");
    }
}
