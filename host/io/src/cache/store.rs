//! The objects of one kind, packed, with those that were looked at last as they are once parsed. Knows no watch and no lock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use super::packed::Packed;
use atomix_model::limits;
use atomix_model::object::{Key, Live, State, Trim};

/// The objects of one kind.
pub(super) struct Store {
    pub(super) trim: Trim,
    pub(super) state: State,
    namespaces: BTreeMap<Arc<str>, Namespace>,
    /// Those that are held parsed too, in the order in which they came to be, and some that are not there any more.
    parsed: VecDeque<Arc<Packed>>,
    /// Objects that our own deletions removed and whose watch event has not come yet: uid by key.
    pub(super) removed: BTreeMap<Key, String>,
    /// While a list is under way: what was written since it began, and may be newer than it.
    pub(super) since_list: Option<BTreeSet<Key>>,
}

#[derive(Default)]
struct Namespace {
    objects: BTreeMap<Arc<str>, Held>,
    /// Names of objects, sorted, by value of the label `database`.
    labelled: BTreeMap<Arc<str>, Vec<Arc<str>>>,
}

/// An object that is held.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) packed: Arc<Packed>,
    /// The same, if it was looked at a short while ago.
    pub(super) parsed: Option<Arc<Live>>,
}

impl Store {
    pub(super) fn new(trim: Trim) -> Store {
        Store {
            trim,
            state: State::Starting,
            namespaces: BTreeMap::new(),
            parsed: VecDeque::new(),
            removed: BTreeMap::new(),
            since_list: None,
        }
    }

    pub(super) fn find(&self, namespace: &str, name: &str) -> Option<&Held> {
        self.namespaces.get(namespace)?.objects.get(name)
    }

    /// The objects of a namespace with this value of the label `database`, by name.
    pub(super) fn of_database(&self, namespace: &str, label: &str) -> impl Iterator<Item = &Held> {
        let namespace = self.namespaces.get(namespace);
        let names = namespace.and_then(|namespace| namespace.labelled.get(label)).into_iter().flatten();
        names.filter_map(move |name| namespace?.objects.get(name))
    }

    /// All objects, by namespace and name.
    pub(super) fn all(&self) -> impl Iterator<Item = &Held> {
        self.namespaces.values().flat_map(|namespace| namespace.objects.values())
    }

    /// Takes in a version of an object unless a newer one is held. Returns it if anything that is kept has changed.
    pub(super) fn put(&mut self, live: Arc<Live>) -> Option<Arc<Packed>> {
        let beside = self.beside(&live);
        let packed = Arc::new(Packed::of(&live, beside));
        let changed = self.put_packed(packed.clone());
        self.keep_parsed(&packed, live);
        changed.then_some(packed)
    }

    fn put_packed(&mut self, packed: Arc<Packed>) -> bool {
        if self.removed.get(&packed.key()).is_some_and(|uid| **uid == *packed.uid) {
            return false; // an event from before our own deletion
        }
        if let Some(held) = self.held_mut(&packed) {
            if held.packed.uid == packed.uid && held.packed.version >= packed.version {
                return false;
            }
            if held.packed.same_as(&packed) {
                *held = Held { packed, parsed: None };
                return false;
            }
            self.take(&packed.namespace, &packed.name);
        }
        let namespace = self.namespaces.entry(packed.namespace.clone()).or_default();
        if let Some(label) = &packed.label {
            let names = namespace.labelled.entry(label.clone()).or_default();
            if let Err(place) = names.binary_search(&packed.name) {
                names.insert(place, packed.name.clone());
            }
        }
        namespace.objects.insert(packed.name.clone(), Held { packed, parsed: None });
        true
    }

    /// Keeps an object parsed for the next look, if this version of it is held; of those kept so, the oldest is given up.
    pub(super) fn keep_parsed(&mut self, packed: &Arc<Packed>, live: Arc<Live>) {
        let is_this = |held: &&mut Held| Arc::ptr_eq(&held.packed, packed);
        let Some(held) = self.held_mut(packed).filter(is_this).filter(|held| held.parsed.is_none()) else { return };
        held.parsed = Some(live);
        self.parsed.push_back(packed.clone());
        if self.parsed.len() > limits::PARSED_KEPT_MAX
            && let Some(oldest) = self.parsed.pop_front()
            && let Some(held) = self.held_mut(&oldest).filter(|held| Arc::ptr_eq(&held.packed, &oldest))
        {
            held.parsed = None;
        }
    }

    /// Makes the store what a list says; returns what differs from before. Newer versions stay only of what we wrote since it began:
    /// versions fall when the cluster's storage is restored from a backup.
    pub(super) fn replace(&mut self, listed: Vec<Arc<Packed>>) -> Vec<Arc<Packed>> {
        let written = self.since_list.take().unwrap_or_default();
        let mut gone = std::mem::take(&mut self.namespaces);
        let mut changed = Vec::new();
        self.parsed.clear();
        self.removed.clear();
        for packed in listed {
            let before = gone.get_mut(&packed.namespace).and_then(|namespace| namespace.objects.remove(&packed.name));
            let before = before.map(|held| held.packed);
            let newer = |held: &&Arc<Packed>| held.uid == packed.uid && held.version > packed.version;
            let newer = before.as_ref().filter(|held| newer(held) && written.contains(&held.key())).cloned();
            let packed = newer.unwrap_or(packed);
            if before.is_none_or(|held| !held.same_as(&packed)) {
                changed.push(packed.clone());
            }
            self.put_packed(packed);
        }
        let gone = gone.into_values().flat_map(|namespace| namespace.objects.into_values());
        changed.extend(gone.map(|held| held.packed)); // one that we wrote after the list was made comes again by its own event
        changed
    }

    /// Removes an object, whatever its version.
    pub(super) fn take(&mut self, namespace: &str, name: &str) -> Option<Arc<Packed>> {
        let place = self.namespaces.get_mut(namespace)?;
        let packed = place.objects.remove(name)?.packed;
        if let Some(label) = &packed.label
            && let Some(names) = place.labelled.get_mut(label)
        {
            names.retain(|held| **held != *name);
            if names.is_empty() {
                place.labelled.remove(label);
            }
        }
        if place.objects.is_empty() {
            self.namespaces.remove(namespace);
        }
        Some(packed)
    }

    /// The object as it is held, else the one before it by name: both have most in common with it.
    fn beside(&self, live: &Live) -> Option<&Packed> {
        let objects = &self.namespaces.get(live.namespace.as_str())?.objects;
        let (_, held) = objects.range::<str, _>((Bound::Unbounded, Bound::Included(live.name.as_str()))).next_back()?;
        Some(&held.packed)
    }

    fn held_mut(&mut self, packed: &Packed) -> Option<&mut Held> {
        self.namespaces.get_mut(&packed.namespace)?.objects.get_mut(&packed.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atomix_model::object::Kind;
    use serde_json::json;

    fn live(name: &str, version: usize, label: &str) -> Arc<Live> {
        let metadata = json!({"namespace": "n", "name": name, "uid": name, "resourceVersion": version.to_string(), "labels": {"database": label}});
        Arc::new(Trim::whole([]).live(&Kind::default(), json!({"metadata": metadata, "spec": {"x": version}})).unwrap())
    }

    fn names(store: &Store, label: &str) -> Vec<String> {
        store.of_database("n", label).map(|held| held.packed.name.to_string()).collect()
    }

    fn parsed(store: &Store) -> usize {
        store.all().filter(|held| held.parsed.is_some()).count()
    }

    #[test]
    fn no_more_objects_are_held_parsed_than_the_limit_however_they_come_and_go() {
        let mut store = Store::new(Trim::default());
        let many = limits::PARSED_KEPT_MAX * 2;
        for version in 1..=5 {
            for number in 0..many {
                assert!(store.put(live(&number.to_string(), version, "d.n")).is_some());
                assert!(parsed(&store) <= limits::PARSED_KEPT_MAX);
            }
            for number in (0..many).step_by(3) {
                store.take("n", &number.to_string());
            }
            for packed in store.all().map(|held| held.packed.clone()).collect::<Vec<_>>() {
                store.keep_parsed(&packed, Arc::new(packed.live()));
            }
            assert!(parsed(&store) <= limits::PARSED_KEPT_MAX && store.parsed.len() <= limits::PARSED_KEPT_MAX);
        }
        for held in store.all() {
            let (packed, name) = (held.packed.live(), &held.packed.name);
            assert_eq!((&*packed.name, &packed.body["spec"]["x"]), (&**name, &json!(5)));
            assert!(held.parsed.as_ref().is_none_or(|parsed| parsed.version == 5 && parsed.body == packed.body));
        }
    }

    #[test]
    fn an_object_is_kept_parsed_in_the_version_that_is_held_only() {
        let mut store = Store::new(Trim::default());
        let first = store.put(live("a", 1, "d.n")).unwrap();
        store.put(live("a", 2, "d.n"));
        store.keep_parsed(&first, Arc::new(first.live())); // by one who began to parse it before
        assert_eq!(store.find("n", "a").unwrap().parsed.as_ref().unwrap().version, 2);
    }

    #[test]
    fn databases_find_their_objects_by_name_as_they_come_change_their_label_and_go() {
        let mut store = Store::new(Trim::default());
        for name in ["c", "a", "b"] {
            store.put(live(name, 1, "d.n"));
        }
        assert_eq!(names(&store, "d.n"), ["a", "b", "c"]);
        store.put(live("b", 2, "e.n"));
        store.take("n", "c");
        assert_eq!((names(&store, "d.n"), names(&store, "e.n")), (vec!["a".into()], vec!["b".into()]));
        let listed = [live("b", 2, "e.n"), live("d", 3, "e.n")].map(|live| Arc::new(Packed::of(&live, None)));
        let changed = store.replace(listed.into());
        assert_eq!(changed.iter().map(|packed| &*packed.name).collect::<Vec<_>>(), ["d", "a"], "one came and one went");
        assert_eq!((names(&store, "d.n"), names(&store, "e.n")), (vec![], vec!["b".into(), "d".into()]));
        for name in ["b", "d"] {
            store.take("n", name);
        }
        assert!(store.namespaces.is_empty(), "nothing is kept of what went");
    }
}
