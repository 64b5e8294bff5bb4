//! Changes one place of an object. Knows nothing of what the places mean.

use proptest::sample::Index;
use serde_json::{Map, Value};

/// Every place below the root of a value, as JSON pointers, parents first.
pub fn places(value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut below = |name: &str, value: &Value| {
        found.push(format!("/{}", name.replace('~', "~0").replace('/', "~1")));
        let path = found.last().cloned().unwrap_or_default();
        found.extend(places(value).into_iter().map(|rest| format!("{path}{rest}")));
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| below(name, value)),
        Value::Array(items) => items.iter().enumerate().for_each(|(n, value)| below(&n.to_string(), value)),
        _ => {}
    }
    found
}

/// One of the places that a manifest owns, and what it might hold instead: nothing (`None`), or something else of its shape. Not
/// all of it will be taken.
pub fn alterations(manifest: &Value, place: Index, removed: bool) -> Option<(String, Vec<Option<Value>>)> {
    let owned = |path: &String| match path.strip_prefix("/metadata") {
        Some(rest) => (rest.starts_with("/labels/") || rest.starts_with("/annotations/")) && !rest.ends_with("~1hash"),
        None => !["/apiVersion", "/kind", "/spec", "/spec/clusterIP", "/spec/ipFamilyPolicy"].contains(&path.as_str()), // allotted for life
    };
    let all: Vec<String> = places(manifest).into_iter().filter(owned).collect();
    let path = (!all.is_empty()).then(|| place.get(&all).clone())?;
    let value = manifest.pointer(&path)?;
    let others = if removed { vec![None] } else { others(value).into_iter().map(Some).collect() };
    Some((path, others))
}

/// The object with something else at a place, or nothing; `None` if nothing leads there.
pub fn with(object: &Value, path: &str, value: Option<&Value>) -> Option<Value> {
    let mut object = object.clone();
    let (parent, name) = path.rsplit_once('/')?;
    match (object.pointer_mut(parent)?, value) {
        (Value::Object(fields), Some(value)) => {
            drop(fields.insert(name.replace("~1", "/").replace("~0", "~"), value.clone()))
        }
        (Value::Object(fields), None) => drop(fields.remove(&name.replace("~1", "/").replace("~0", "~"))),
        (Value::Array(items), Some(value)) => *items.get_mut(name.parse::<usize>().ok()?)? = value.clone(),
        (Value::Array(items), None) => drop(name.parse().ok().filter(|n| *n < items.len()).map(|n: usize| items.remove(n))?),
        _ => return None,
    }
    Some(object)
}

/// Whether the object at a place, or the one around it, has nothing in it (any more).
pub fn is_emptied(object: &Value, path: &str) -> bool {
    let around = path.rsplit_once('/').map_or("", |(around, _)| around);
    let empty = |path: &str| object.pointer(path).and_then(Value::as_object).is_some_and(Map::is_empty);
    empty(path) || empty(around)
}

/// Other values of the same shape; for a word, some that stand elsewhere in Kubernetes.
fn others(value: &Value) -> Vec<Value> {
    match value {
        Value::Null => vec![],
        Value::Bool(value) => vec![(!value).into()],
        Value::Number(number) => {
            number.as_i64().map(|number| vec![(number + 1).into(), (number - 1).into()]).unwrap_or_default()
        }
        Value::String(text) => {
            let words = [
                "UDP",
                "TCP",
                "OnDelete",
                "RollingUpdate",
                "Never",
                "Always",
                "NoSchedule",
                "None",
                "Exists",
                "Retain",
                "7",
            ];
            let other = words.iter().filter(|word| **word != text.as_str()).map(|word| Value::from(*word));
            [format!("{text}x").into()].into_iter().chain(other).collect()
        }
        Value::Array(items) => {
            let reversed: Vec<Value> = items.iter().rev().cloned().collect();
            [reversed, Vec::new()].into_iter().filter(|other| other != items).map(Value::from).collect()
        }
        Value::Object(fields) => {
            if fields.is_empty() {
                vec![]
            } else {
                vec![Map::new().into()]
            }
        }
    }
}
