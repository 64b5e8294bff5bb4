//! Primitives by database, scope and name.

use std::collections::BTreeMap;

use atomix_model::crd::PrimitiveType;

/// The identity of a primitive. Sorted as lists are.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // its fields explain themselves
pub struct PrimitiveId {
    pub namespace: String,
    pub database: String,
    /// Scope that its clients chose.
    pub scope: String,
    pub name: String,
}

/// A Primitive, as much of it as clients may know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // its fields explain themselves
pub struct PrimitiveSeen {
    /// What identifies it.
    pub id: PrimitiveId,
    pub type_: PrimitiveType,
    /// UID of the Database that owns the object, if one does: once that is gone, so is this, in a while.
    pub owner: Option<String>,
}

/// Which primitives are requested; a field without a value does not narrow.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)] // its fields explain themselves
pub struct Filter {
    pub namespace: Option<String>,
    pub database: Option<String>,
    pub scope: Option<String>,
    pub name: Option<String>,
    pub type_: Option<PrimitiveType>,
}

/// All primitives, by their ids.
#[derive(Default)]
pub struct Primitives {
    /// Primitives by namespace and name of the object.
    objects: BTreeMap<(String, String), PrimitiveSeen>,
    /// Names of objects by the identity of the primitive; the first is the one that counts.
    ids: BTreeMap<PrimitiveId, Vec<String>>,
    /// How many there are in each namespace.
    counts: BTreeMap<String, usize>,
}

impl Primitives {
    /// A Primitive came, changed or went.
    pub fn put(&mut self, namespace: &str, object: &str, seen: Option<PrimitiveSeen>) {
        let key = (namespace.to_owned(), object.to_owned());
        if let Some(before) = self.objects.remove(&key) {
            if let Some(names) = self.ids.get_mut(&before.id) {
                names.retain(|name| name != object);
                if names.is_empty() {
                    self.ids.remove(&before.id);
                }
            }
            let count = self.counts.entry(namespace.to_owned()).or_default();
            *count -= 1;
            if *count == 0 {
                self.counts.remove(namespace);
            }
        }
        if let Some(seen) = seen {
            let names = self.ids.entry(seen.id.clone()).or_default();
            names.push(object.to_owned());
            names.sort();
            *self.counts.entry(namespace.to_owned()).or_default() += 1;
            self.objects.insert(key, seen);
        }
    }

    /// A primitive and the name of its object.
    pub fn find(&self, id: &PrimitiveId) -> Option<(&PrimitiveSeen, &str)> {
        let object = self.ids.get(id)?.first()?;
        Some((self.objects.get(&(id.namespace.clone(), object.clone()))?, object))
    }

    /// How many there are in a namespace.
    pub fn count(&self, namespace: &str) -> usize {
        self.counts.get(namespace).copied().unwrap_or(0)
    }

    /// Those asked for, by namespace, database, scope and name.
    pub fn list<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = &'a PrimitiveSeen> {
        let start = PrimitiveId {
            namespace: filter.namespace.clone().unwrap_or_default(),
            database: filter.namespace.as_ref().and(filter.database.clone()).unwrap_or_default(),
            ..PrimitiveId::default()
        };
        let within = move |id: &PrimitiveId| {
            filter.namespace.as_ref().is_none_or(|namespace| {
                id.namespace == *namespace && filter.database.as_ref().is_none_or(|database| id.database == *database)
            })
        };
        let is = move |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        let found = self.ids.range(start..).take_while(move |(id, _)| within(id)).filter_map(|(id, _)| self.find(id));
        found.map(|(seen, _)| seen).filter(move |seen| {
            is(&filter.database, &seen.id.database)
                && is(&filter.scope, &seen.id.scope)
                && is(&filter.name, &seen.id.name)
                && filter.type_.is_none_or(|type_| type_ == seen.type_)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(namespace: &str, database: &str, scope: &str, name: &str) -> PrimitiveId {
        let text = str::to_owned;
        PrimitiveId { namespace: text(namespace), database: text(database), scope: text(scope), name: text(name) }
    }

    fn all() -> Primitives {
        let mut primitives = Primitives::default();
        for (at, (namespace, database, scope, name, type_)) in [
            ("n", "d", "s", "a", PrimitiveType::Map),
            ("n", "d", "t", "a", PrimitiveType::Set),
            ("n", "e", "s", "b", PrimitiveType::Map),
            ("m", "d", "s", "a", PrimitiveType::Map),
        ]
        .into_iter()
        .enumerate()
        {
            let seen = PrimitiveSeen { id: id(namespace, database, scope, name), type_, owner: None };
            primitives.put(namespace, &format!("o{at}"), Some(seen));
        }
        primitives
    }

    #[test]
    fn every_filter_narrows() {
        let primitives = all();
        let count = |filter: Filter| primitives.list(&filter).count();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(count(Filter::default()), 4);
        assert_eq!(count(Filter { namespace: some("n"), ..Filter::default() }), 3);
        assert_eq!(count(Filter { namespace: some("n"), database: some("d"), ..Filter::default() }), 2);
        assert_eq!(count(Filter { database: some("d"), ..Filter::default() }), 3);
        assert_eq!(count(Filter { scope: some("s"), ..Filter::default() }), 3);
        assert_eq!(count(Filter { name: some("b"), ..Filter::default() }), 1);
        assert_eq!(count(Filter { type_: Some(PrimitiveType::Set), ..Filter::default() }), 1);
        assert_eq!(count(Filter { namespace: some("m"), type_: Some(PrimitiveType::Set), ..Filter::default() }), 0);
    }

    #[test]
    fn two_objects_of_one_primitive_are_one_until_both_went() {
        let mut primitives = all();
        let seen = PrimitiveSeen { id: id("n", "d", "s", "a"), type_: PrimitiveType::Lock, owner: None };
        primitives.put("n", "a-first", Some(seen.clone()));
        assert_eq!(primitives.find(&seen.id), Some((&seen, "a-first")));
        assert_eq!((primitives.list(&Filter::default()).count(), primitives.count("n")), (4, 4));
        primitives.put("n", "a-first", None);
        assert_eq!(primitives.find(&seen.id).map(|found| found.1), Some("o0"));
        primitives.put("n", "o0", None);
        assert_eq!((primitives.find(&seen.id), primitives.count("n")), (None, 2));
        for at in 0..4 {
            ["n", "m"].iter().for_each(|namespace| primitives.put(namespace, &format!("o{at}"), None));
        }
        assert_eq!((primitives.objects.len(), primitives.ids.len(), primitives.counts.len()), (0, 0, 0));
    }
}
