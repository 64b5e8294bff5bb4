//! A live object, cut down to what deciding needs.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Key, Kind};

/// An object as the API last showed it, without what is never read.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // its fields explain themselves
pub struct Live {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// `metadata.resourceVersion`; numbers of one kind can be compared.
    pub version: u64,
    /// What was kept of the object.
    pub body: Value,
}

impl Live {
    /// Namespace and name.
    pub fn key(&self) -> Key {
        Key::new(&self.namespace, &self.name)
    }

    /// The label that names the database to which it belongs.
    pub fn database_label(&self) -> Option<&str> {
        self.body.pointer("/metadata/labels/database")?.as_str()
    }

    /// An annotation's value.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.body.get("metadata")?.get("annotations")?.get(name)?.as_str()
    }

    /// Whether it is on its way out.
    pub fn terminating(&self) -> bool {
        self.body.pointer("/metadata/deletionTimestamp").is_some()
    }

    /// `metadata.generation`, 0 if it has none.
    pub fn generation(&self) -> i64 {
        self.body.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0)
    }

    /// UID of the Database that owns it, if one does.
    pub fn owner(&self) -> Option<&str> {
        let owners = self.body.pointer("/metadata/ownerReferences")?.as_array()?;
        owners.iter().find(|owner| is_database(owner))?["uid"].as_str()
    }

    /// Whether two versions of an object differ in nothing that was kept.
    pub fn same_as(&self, other: &Live) -> bool {
        self.uid == other.uid && self.body == other.body
    }
}

/// Whether an ownerReference names a Database, of whatever version.
pub fn is_database(owner: &Value) -> bool {
    let group = owner["apiVersion"].as_str().and_then(|version| version.split_once('/')).map(|(group, _)| group);
    owner["kind"] == "Database" && group == Some(crate::crd::GROUP)
}

/// What of an object is kept.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Trim {
    /// Whether all but the status is kept: for kinds that we write or look into.
    pub whole: bool,
    /// JSON pointers of fields kept besides.
    pub reads: BTreeSet<String>,
}

const METADATA: [&str; 9] = [
    "name",
    "namespace",
    "uid",
    "labels",
    "annotations",
    "ownerReferences",
    "creationTimestamp",
    "deletionTimestamp",
    "generation",
];

impl Trim {
    /// Keeps all but the status, and of the status these pointers.
    pub fn whole(reads: impl IntoIterator<Item = String>) -> Trim {
        Trim { whole: true, reads: reads.into_iter().collect() }
    }

    /// Keeps what both keep.
    pub fn merge(&mut self, other: &Trim) {
        self.whole |= other.whole;
        self.reads.extend(other.reads.iter().cloned());
    }

    /// Cuts an object down; `None` if it lacks what every object of the API has.
    pub fn live(&self, kind: &Kind, mut object: Value) -> Option<Live> {
        let meta = object.get_mut("metadata")?.as_object_mut()?;
        let text = |field: &str, meta: &Map<String, Value>| meta.get(field).and_then(Value::as_str).map(str::to_owned);
        let namespace = text("namespace", meta).unwrap_or_default();
        let (name, uid) = (text("name", meta)?, text("uid", meta)?);
        let version = text("resourceVersion", meta)?.parse().ok()?;
        let mut kept: Vec<(&String, Value)> =
            self.reads.iter().filter_map(|pointer| Some((pointer, object.pointer(pointer)?.clone()))).collect();
        let meta = object.get_mut("metadata")?.as_object_mut()?;
        meta.retain(|field, _| METADATA.contains(&field.as_str()));
        if !self.whole {
            meta.remove("annotations");
            let meta = Value::Object(std::mem::take(meta));
            object = serde_json::json!({ "metadata": meta });
        } else if let Some(fields) = object.as_object_mut() {
            fields.remove("status");
            let version =
                if kind.group.is_empty() { kind.version.clone() } else { format!("{}/{}", kind.group, kind.version) };
            fields.insert("apiVersion".to_owned(), Value::String(version)); // objects in lists lack both
            fields.insert("kind".to_owned(), Value::String(kind.kind.clone()));
        }
        for (pointer, value) in kept.drain(..) {
            set(&mut object, pointer, value);
        }
        Some(Live { namespace, name, uid, version, body: object })
    }
}

/// Puts a value where a JSON pointer leads; what lies on the way and is missing becomes an object.
fn set(object: &mut Value, pointer: &str, value: Value) {
    let mut place = object;
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        if !place.is_object() && !place.is_array() {
            *place = Value::Object(Map::new());
        }
        place = match place {
            Value::Array(items) => match part.parse::<usize>().ok().filter(|i| *i < items.len()) {
                Some(index) => &mut items[index],
                None => return, // kept whole already, or not there
            },
            Value::Object(fields) => fields.entry(part).or_insert(Value::Null),
            _ => return,
        };
    }
    *place = value;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_watched_object_keeps_only_what_is_read() {
        let trim =
            Trim { whole: false, reads: ["/status/phase".to_owned(), "/metadata/annotations/a~1b".to_owned()].into() };
        let live = trim
            .live(&Kind::default(), json!({"apiVersion": "v1", "kind": "Pod", "spec": {"x": 1}, "status": {"phase": "Running", "podIP": "10.0.0.1"},
                "metadata": {"name": "p", "namespace": "n", "uid": "u", "resourceVersion": "5", "annotations": {"a/b": "c", "d": "e"}}}))
            .unwrap();
        assert_eq!(
            live.body,
            json!({"metadata": {"name": "p", "namespace": "n", "uid": "u", "annotations": {"a/b": "c"}}, "status": {"phase": "Running"}})
        );
    }

    #[test]
    fn an_object_without_metadata_is_no_object() {
        assert!(Trim::default().live(&Kind::default(), json!({"spec": {}})).is_none());
        assert!(Trim::default().live(&Kind::default(), json!([])).is_none());
    }
}
