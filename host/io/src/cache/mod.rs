//! What the cluster holds, kind by kind: filled by watches and by the answers to our own writes, read by everyone who decides.
//! Knows no plugin and no database logic; it only finds objects by the database that they carry in a label.

mod events;
mod packed;
mod raw_object;
mod store;
mod watch;

use atomix_model::object::{Key, Kind, Live, Objects, State};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use store::{Held, Store};

pub use events::Events;
pub use packed::Packed;
pub use raw_object::RawObject;
pub use watch::{Change, Wanted, Watches, api, backoff, raw_api, watcher_config};

/// All caches. Cheap to share; every method takes the lock for an instant only.
#[derive(Default)]
pub struct Caches(Mutex<BTreeMap<Kind, Store>>);

impl Objects for Caches {
    fn find(&self, kind: &Kind, key: &Key) -> Option<Arc<Live>> {
        let held = self.lock().get(kind)?.find(&key.namespace, &key.name)?.clone();
        Some(self.parsed(kind, held))
    }

    fn of_database(&self, kind: &Kind, namespace: &str, label: &str) -> Vec<Arc<Live>> {
        let held: Vec<Held> = match self.lock().get(kind) {
            Some(store) => store.of_database(namespace, label).cloned().collect(),
            None => Vec::new(),
        };
        held.into_iter().map(|held| self.parsed(kind, held)).collect()
    }

    fn state(&self, kind: &Kind) -> State {
        self.lock().get(kind).map_or(State::Starting, |store| store.state.clone())
    }
}

impl Caches {
    /// All objects of a kind, by namespace and name.
    pub fn all(&self, kind: &Kind) -> Vec<Arc<Live>> {
        let held: Vec<Held> = self.lock().get(kind).map(|store| store.all().cloned().collect()).unwrap_or_default();
        held.into_iter().map(|held| held.parsed.unwrap_or_else(|| Arc::new(held.packed.live()))).collect()
    }

    /// How many objects of a kind there are.
    pub fn count(&self, kind: &Kind) -> usize {
        self.lock().get(kind).map_or(0, |store| store.all().count())
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
            && store.find(&key.namespace, &key.name).is_some_and(|held| *held.packed.uid == *uid)
        {
            store.take(&key.namespace, &key.name);
            store.removed.insert(key.clone(), uid.to_owned()); // until the watch says so too; if it has, there is none to await
        }
    }

    /// An object as it is read: parsed, without the lock, unless it was a short while ago.
    fn parsed(&self, kind: &Kind, Held { packed, parsed }: Held) -> Arc<Live> {
        parsed.unwrap_or_else(|| {
            let live = Arc::new(packed.live());
            if let Some(store) = self.lock().get_mut(kind) {
                store.keep_parsed(&packed, live.clone());
            }
            live
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Kind, Store>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atomix_model::object::Trim;
    use serde_json::json;
    use std::collections::BTreeSet;

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
        store.put(live).is_some()
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
            let live = store.trim.live(&kind(), thing(version, phase)).unwrap();
            store.replace(vec![Arc::new(Packed::of(&live, None))]).len()
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
            caches.lock().get_mut(&kind()).unwrap().take("n", "a"); // as the watch's event does
            caches.deleted(&kind(), &key, "u");
        }
        take(&caches, thing(200, "a"));
        caches.deleted(&kind(), &key, "older");
        let stores = caches.lock();
        assert_eq!((stores[&kind()].removed.len(), stores[&kind()].all().count()), (0, 1));
    }

    #[test]
    fn objects_are_found_by_the_label_of_their_database() {
        let caches = caches();
        take(&caches, thing(1, "a"));
        assert_eq!(caches.of_database(&kind(), "n", "d.n").len(), 1);
        assert!(caches.of_database(&kind(), "m", "d.n").is_empty(), "another namespace is another database");
    }
}
