//! One meaning, many spellings: `1000m` is `1`, an empty `affinity` is none. Knows what the rules know, no client and no plugin.

use serde_json::{Map, Value};

use super::rules::{List, Place};
use super::{key_of, quantity};

/// A manifest in the one spelling of all that mean the same. It is for hashes: what is applied keeps its own spelling.
pub fn canonical(manifest: &Value) -> Value {
    let root = Place::root(manifest);
    match manifest {
        Value::Object(fields) => Value::Object(canonical_fields(root, fields)),
        other => other.clone(),
    }
}

fn canonical_fields(at: Place<'_>, fields: &Map<String, Value>) -> Map<String, Value> {
    let kept = fields.iter().filter_map(|(name, value)| {
        let at = at.enter(name);
        let value = canonical_value(at, value);
        (!at.is_dropped(&value)).then(|| (name.clone(), value))
    });
    kept.collect()
}

fn canonical_value(at: Place<'_>, value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(canonical_fields(at, fields)),
        Value::Array(items) => items.iter().map(|item| canonical_value(at, item)).collect(),
        _ if at.is_quantity() => quantity::canonical(value).unwrap_or_else(|| value.clone()),
        _ => value.clone(),
    }
}

/// The manifest with the spelling of the live object wherever both mean the same, so that applying it changes nothing there: the API
/// server keeps some spellings apart (`1e8` and `100M`), and a pod template in another spelling restarts pods.
pub fn with_live_spelling(live: &Value, manifest: &Value) -> Value {
    let root = Place::root(manifest);
    match (manifest, live) {
        (Value::Object(wanted), Value::Object(found)) => Value::Object(fields_as(root, found, wanted)),
        _ => manifest.clone(),
    }
}

fn fields_as(at: Place<'_>, live: &Map<String, Value>, manifest: &Map<String, Value>) -> Map<String, Value> {
    let mut spelled = Map::new();
    for (name, wanted) in manifest {
        let at = at.enter(name);
        match live.get(name) {
            Some(found) => spelled.insert(name.clone(), value_as(at, found, wanted)),
            None if at.means_nothing(wanted) => None,
            None => spelled.insert(name.clone(), wanted.clone()),
        };
    }
    for (name, found) in live.iter().filter(|(name, found)| !manifest.contains_key(*name) && !found.is_null()) {
        if at.enter(name).means_nothing(found) {
            spelled.insert(name.clone(), found.clone());
        }
    }
    spelled
}

fn value_as(at: Place<'_>, live: &Value, manifest: &Value) -> Value {
    match (manifest, live) {
        (Value::Object(wanted), Value::Object(found)) => Value::Object(fields_as(at, found, wanted)),
        (Value::Array(wanted), Value::Array(found)) => {
            let spelled = wanted.iter().enumerate().map(|(nth, wanted)| match counterpart(at, nth, wanted, found) {
                Some(found) => value_as(at, found, wanted),
                None => wanted.clone(),
            });
            spelled.collect()
        }
        _ if at.is_quantity() && quantity::same(manifest, live) => live.clone(),
        _ => manifest.clone(),
    }
}

/// The element of a live list that an element of the manifest's is about.
fn counterpart<'v>(at: Place<'_>, nth: usize, wanted: &Value, found: &'v [Value]) -> Option<&'v Value> {
    match at.list() {
        List::Keyed(keys) => {
            let key = key_of(keys, wanted)?;
            found.iter().find(|found| key_of(keys, found).as_ref() == Some(&key))
        }
        List::Set | List::Whole => found.get(nth),
    }
}
