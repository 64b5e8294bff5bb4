//! Whether a live object is as a manifest has it: compares the two as server-side apply would; knows no client, no clock
//! and no plugin.
//!
//! Containment sees drift: a field of the manifest that was changed or removed in the live object. What others added is
//! none, and neither is what the API server fills in. It cannot see what a newer manifest no longer holds: the hash that
//! `apply` keeps beside it is for that.

mod canonical;
mod immutable;
mod quantity;
mod rules;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use atomix_model::limits;
use rules::{List, Place};

pub use canonical::{canonical, with_live_spelling};
pub use immutable::immutable_change;

/// Checks whether applying `desired` would leave `live` as it is.
///
/// `desired` is a whole manifest (with `apiVersion` and `kind`, which choose the rules), as it would be applied with force;
/// `live` is the object of the same kind, namespace and name as the API server returned it. Exact for the kinds of
/// Kubernetes' own groups that hold workloads and what stands around them. For other kinds (custom resources) it errs
/// towards a difference: one apply too many, never a drift unseen. `status` is not compared where it is a subresource.
///
/// # Errors
/// The first [`Difference`], in the order of field names.
pub fn check_applied(desired: &Value, live: &Value) -> Result<(), Difference> {
    let (Value::Object(wanted), Value::Object(found)) = (desired, live) else {
        return check_equal(desired, live);
    };
    let root = Place::root(desired);
    for (name, wanted) in wanted {
        match name.as_str() {
            "apiVersion" | "kind" => {} // items of a list lack them; the caller found the object by them
            "status" if root.is_known() => {}
            _ => check_field(root.enter(name), name, Some(wanted), found.get(name))?,
        }
    }
    Ok(())
}

/// Where a manifest and a live object differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Path from the object's root, e.g. `spec.template.spec.containers[name=node].image`.
    pub path: String,
    /// The manifest's value; `None` if the manifest allows nothing else there.
    pub wanted: Option<Value>,
    /// What the live object holds there; `None` if nothing.
    pub found: Option<Value>,
}

impl Difference {
    fn here(wanted: Option<&Value>, found: Option<&Value>) -> Self {
        Self { path: String::new(), wanted: wanted.cloned(), found: found.cloned() }
    }

    fn inside(mut self, step: &str) -> Self {
        let joint = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{step}{joint}{}", self.path);
        self
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: wanted {}, found {}", self.path, shown(self.wanted.as_ref()), shown(self.found.as_ref()))
    }
}

impl std::error::Error for Difference {}

fn shown(value: Option<&Value>) -> String {
    let Some(value) = value else { return "nothing".into() };
    let text = value.to_string();
    match text.char_indices().nth(limits::DIFFERENCE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// One field of an object; `None` and null are absent.
fn check_field(at: Place<'_>, name: &str, wanted: Option<&Value>, found: Option<&Value>) -> Result<(), Difference> {
    let present = |value: Option<&Value>| value.is_some_and(|value| !value.is_null());
    match (wanted, found) {
        (Some(wanted), Some(live)) if present(found) => check_value(at, wanted, live),
        (Some(wanted), _) if at.is_dropped(wanted) => Ok(()),
        (None, Some(live)) if !present(found) || at.is_filled_in(live) => Ok(()),
        (None, None) => Ok(()),
        (wanted, _) => Err(Difference::here(wanted, found.filter(|_| present(found)))),
    }
    .map_err(|difference| difference.inside(&step(name)))
}

/// A name as it stands in a path: label keys and the like in brackets.
fn step(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(plain) { name.into() } else { format!("[{name:?}]") }
}

fn check_value(at: Place<'_>, wanted: &Value, found: &Value) -> Result<(), Difference> {
    match (wanted, found) {
        (Value::Null, _) => Ok(()), // nothing is wanted; in a whole map its owner sees what is too many
        (Value::Object(wanted), Value::Object(found)) => check_object(at, wanted, found),
        (Value::Array(wanted), Value::Array(found)) => match at.list() {
            List::Keyed(keys) => check_keyed_list(at, keys, wanted, found),
            List::Set if !wanted.iter().any(|item| item.is_object() || item.is_array()) => check_set(wanted, found),
            List::Set | List::Whole => check_atomic_list(at, wanted, found),
        },
        _ if at.is_quantity() && quantity::same(wanted, found) => Ok(()),
        _ => check_equal(wanted, found),
    }
}

fn check_object(at: Place<'_>, wanted: &Map<String, Value>, found: &Map<String, Value>) -> Result<(), Difference> {
    for (name, wanted) in wanted {
        check_field(at.enter(name), name, Some(wanted), found.get(name))?;
    }
    if at.is_whole() {
        let surplus = |name: &str| wanted.get(name).is_none_or(Value::is_null);
        for (name, live) in found.iter().filter(|(name, _)| surplus(name)) {
            check_field(at.enter(name), name, None, Some(live))?;
        }
    }
    Ok(())
}

/// A list with merge keys: each wanted item is there, once, in the wanted order; items of others may stand between.
/// (An apply puts its items back in its order and folds repetitions of its keys into one: seen on 1.36.)
fn check_keyed_list(at: Place<'_>, keys: &[&str], wanted: &[Value], found: &[Value]) -> Result<(), Difference> {
    let keys_of = |items: &[Value]| items.iter().map(|item| key_of(keys, item)).collect::<Option<Vec<String>>>();
    let (Some(wanted_keys), Some(found_keys)) = (keys_of(wanted), keys_of(found)) else {
        return check_atomic_list(at, wanted, found); // not as the schema has it: nothing to match by
    };
    let mut positions: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (position, key) in found_keys.iter().enumerate() {
        positions.entry(key).or_default().push(position);
    }
    // A repeated key is the API server's to refuse; until then the nth of ours is the nth of theirs.
    let mut taken: BTreeMap<&str, usize> = BTreeMap::new();
    let mut order = Vec::with_capacity(wanted.len());
    for (key, item) in wanted_keys.iter().zip(wanted) {
        let nth = taken.entry(key).or_default();
        let live = positions.get(key.as_str()).and_then(|all| all.get(*nth));
        *nth += 1;
        let inside = |difference: Difference| difference.inside(&format!("[{key}]"));
        let Some(&position) = live else {
            return Err(inside(Difference::here(Some(item), None)));
        };
        check_value(at, item, &found[position]).map_err(inside)?;
        order.push(position);
    }
    let names = |keys: &[&String]| Value::from(keys.iter().map(|key| key.as_str()).collect::<Vec<_>>());
    let ours: Vec<&String> = found_keys.iter().filter(|key| taken.contains_key(key.as_str())).collect();
    if ours.len() != wanted.len() || !order.is_sorted() {
        let wanted = names(&wanted_keys.iter().collect::<Vec<_>>());
        return Err(Difference::here(Some(&wanted), Some(&names(&ours))));
    }
    Ok(())
}

/// The merge key of an item as text, e.g. `containerPort=80,protocol=TCP`; `None` if the item is of another shape.
fn key_of(keys: &[&str], item: &Value) -> Option<String> {
    let item = item.as_object()?;
    let part = |key: &&str| {
        let value = match item.get(*key) {
            Some(Value::String(text)) => text.clone(),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
            None | Some(Value::Null) => rules::key_default(key).into(),
            _ => return None,
        };
        Some(format!("{key}={value}"))
    };
    keys.iter().map(part).collect::<Option<Vec<_>>>().map(|parts| parts.join(","))
}

/// A set: each wanted element is there, wherever.
fn check_set(wanted: &[Value], found: &[Value]) -> Result<(), Difference> {
    match wanted.iter().find(|wanted| !found.iter().any(|found| check_equal(wanted, found).is_ok())) {
        Some(missing) => Err(Difference::here(Some(missing), Some(&Value::from(found)))),
        None => Ok(()),
    }
}

/// A list that is one value: as many elements in the same order, and in them no more than what the server fills in.
fn check_atomic_list(at: Place<'_>, wanted: &[Value], found: &[Value]) -> Result<(), Difference> {
    if wanted.len() != found.len() {
        return Err(Difference::here(Some(&Value::from(wanted)), Some(&Value::from(found))));
    }
    for (n, (wanted, found)) in wanted.iter().zip(found).enumerate() {
        check_value(at.as_whole(), wanted, found).map_err(|difference| difference.inside(&format!("[{n}]")))?;
    }
    Ok(())
}

/// Equal values; 1 and 1.0 are, 80 and "80" are not (they name different ports).
fn check_equal(wanted: &Value, found: &Value) -> Result<(), Difference> {
    let equal = match (wanted, found) {
        (Value::Number(wanted), Value::Number(found)) => {
            wanted == found || wanted.as_f64() == found.as_f64() && !(wanted.is_i64() && found.is_i64())
        }
        _ => wanted == found,
    };
    if equal { Ok(()) } else { Err(Difference::here(Some(wanted), Some(found))) }
}

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;
