//! An object as the caches keep it: compact JSON, a tenth of what it takes once it is parsed. Knows no cache.

use std::sync::Arc;

use serde_json::Value;

use atomix_model::object::{Key, Live};

/// A version of an object.
#[derive(Debug)]
pub struct Packed {
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) uid: Box<str>,
    pub(super) version: u64,
    /// The label that names the database to which it belongs.
    pub(super) label: Option<Arc<str>>,
    /// What was kept of the object, with its fields sorted: two are the same if their bytes are.
    body: Box<[u8]>,
}

impl Packed {
    /// Packs an object. What it has in common with one `beside` it is held once.
    pub(super) fn of(live: &Live, beside: Option<&Packed>) -> Packed {
        let shared = |text: &str, held: Option<&Arc<str>>| match held {
            Some(held) if **held == *text => held.clone(),
            _ => text.into(),
        };
        Packed {
            namespace: shared(&live.namespace, beside.map(|beside| &beside.namespace)),
            name: shared(&live.name, beside.map(|beside| &beside.name)),
            uid: live.uid.as_str().into(),
            version: live.version,
            label: live.database_label().map(|label| shared(label, beside.and_then(|beside| beside.label.as_ref()))),
            body: live.body.to_string().into_bytes().into(),
        }
    }

    /// The object itself.
    pub fn live(&self) -> Live {
        let body: Value = serde_json::from_slice(&self.body).expect("it was made from a value");
        let (namespace, name) = (self.namespace.to_string(), self.name.to_string());
        Live { namespace, name, uid: self.uid.to_string(), version: self.version, body }
    }

    /// Namespace and name.
    pub fn key(&self) -> Key {
        Key::new(&*self.namespace, &*self.name)
    }

    /// The label that names the database to which it belongs.
    pub fn database_label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// Whether two versions of an object differ in nothing that was kept.
    pub(super) fn same_as(&self, other: &Packed) -> bool {
        self.uid == other.uid && self.body == other.body
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn live(name: &str, body: Value) -> Live {
        Live { namespace: "n".into(), name: name.into(), uid: "u".into(), version: 7, body }
    }

    #[test]
    fn what_is_unpacked_is_what_was_packed() {
        let body = json!({"spec": {"b": 1, "a": [1.5, -0.1, 18_446_744_073_709_551_615_u64, null, true, "\u{1F600}\n"]},
            "metadata": {"name": "a", "labels": {"database": "d.n"}}});
        let (given, other) = (live("a", body.clone()), live("b", json!({"metadata": {"labels": {"database": "d.n"}}})));
        for beside in [None, Some(&Packed::of(&other, None))] {
            let packed = Packed::of(&given, beside);
            let back = packed.live();
            assert_eq!((back.namespace, back.name, back.uid, back.version), ("n".into(), "a".into(), "u".into(), 7));
            assert_eq!((back.body, packed.database_label(), packed.key()), (body.clone(), Some("d.n"), Key::new("n", "a")));
        }
    }

    #[test]
    fn two_are_the_same_whatever_the_order_of_their_fields() {
        let parsed = |text: &str| Packed::of(&live("a", serde_json::from_str(text).unwrap()), None);
        let given = parsed(r#"{"spec": {"a": 1, "b": 2}}"#);
        assert!(given.same_as(&parsed(r#"{"spec":{"b":2,"a":1}}"#)));
        assert!(!given.same_as(&parsed(r#"{"spec":{"b":2,"a":2}}"#)));
        assert!(!given.same_as(&Packed { uid: "other".into(), ..parsed(r#"{"spec":{"b":2,"a":1}}"#) }));
    }

    #[test]
    fn names_that_neighbours_have_in_common_are_held_once() {
        let body = |label: &str| json!({"metadata": {"labels": {"database": label}}});
        let first = Packed::of(&live("a", body("d.n")), None);
        let (second, third) =
            (Packed::of(&live("b", body("d.n")), Some(&first)), Packed::of(&live("c", body("e.n")), Some(&first)));
        let label = |packed: &Packed| packed.label.clone().expect("it has one");
        assert!(Arc::ptr_eq(&first.namespace, &second.namespace) && Arc::ptr_eq(&label(&first), &label(&second)));
        assert_eq!(third.database_label(), Some("e.n"));
    }
}
