//! Changes of JSON that leave it JSON: values of other types, of other sizes, absent, doubled, nested. Knows no schema.

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

/// A change of one value.
#[derive(Clone, Debug)]
pub enum Change {
    Replace(Value),
    Remove,
    Double(usize),
    Nest(usize),
    Rename(String),
}

/// Changes, each of a value that its index finds.
pub fn changes() -> impl Strategy<Value = Vec<(Index, Change)>> {
    let change = prop_oneof![
        6 => value().prop_map(Change::Replace),
        2 => Just(Change::Remove),
        1 => (1..400_usize).prop_map(Change::Double),
        1 => (1..60_usize).prop_map(Change::Nest),
        1 => text().prop_map(Change::Rename),
    ];
    prop::collection::vec((any::<Index>(), change), 1..6)
}

/// Values that a field may hold by mistake, or on purpose.
fn value() -> impl Strategy<Value = Value> {
    let odd = [
        json!(null),
        json!(true),
        json!(-1),
        json!(0),
        json!(1),
        json!(3),
        json!(1025),
        json!(65_536),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(0.5),
        json!(1e308),
        json!([]),
        json!({}),
        json!([null]),
        json!({"": ""}),
    ];
    prop_oneof![3 => prop::sample::select(odd.to_vec()), 2 => text().prop_map(Value::from), 1 => any::<i64>().prop_map(Value::from)]
}

/// Texts that mean something somewhere, that end something somewhere, and any.
fn text() -> impl Strategy<Value = String> {
    let known = [
        "",
        "-",
        ".",
        "..",
        "/",
        "a/b",
        "0",
        "-1",
        "1Gi",
        "1e99",
        "9223372036854775808",
        "1h",
        "-5s",
        "data",
        "Always",
        "ä",
        "\u{0}",
        "\u{1b}[2J",
        "\n",
        "\u{202e}",
        "null",
        "{",
        "[",
        "\"",
    ];
    prop_oneof![
        4 => prop::sample::select(known.to_vec()).prop_map(str::to_owned),
        1 => any::<String>(),
        1 => (1..20_000_usize).prop_map(|count| "x".repeat(count)),
        1 => (1..5000_usize).prop_map(|count| "ä".repeat(count)),
        1 => "[a-z0-9.:/@-]{0,80}",
    ]
}

/// Makes a change to a value within another.
pub fn changed(root: &mut Value, (at, change): &(Index, Change)) {
    let mut left = at.index(count(root));
    within(root, &mut left, change);
}

/// Values within a value, itself among them.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        _ => 0,
    }
}

/// Changes the value that comes after `left` others. Returns whether it has been found.
fn within(value: &mut Value, left: &mut usize, change: &Change) -> bool {
    if *left == 0 {
        match change {
            Change::Replace(new) => *value = new.clone(),
            Change::Remove | Change::Rename(_) => *value = Value::Null, // of the root, which has no name
            Change::Double(times) => *value = Value::Array(vec![value.take(); *times]),
            Change::Nest(levels) => *value = (0..*levels).fold(value.take(), |inner, _| json!({"a": inner})),
        }
        return true;
    }
    *left -= 1;
    match value {
        Value::Array(items) => {
            for at in 0..items.len() {
                match (*left == 0, change) {
                    (true, Change::Remove) => drop(items.remove(at)),
                    (true, Change::Double(times)) => {
                        let more = vec![items[at].clone(); *times];
                        items.splice(at..at, more);
                    }
                    _ if within(&mut items[at], left, change) => {}
                    _ => continue,
                }
                return true;
            }
            false
        }
        Value::Object(fields) => {
            for name in fields.keys().cloned().collect::<Vec<_>>() {
                match (*left == 0, change) {
                    (true, Change::Remove) => drop(fields.remove(&name)),
                    (true, Change::Rename(new)) => {
                        let inner = fields.remove(&name).unwrap_or_default();
                        fields.insert(new.clone(), inner);
                    }
                    _ if fields.get_mut(&name).is_some_and(|inner| within(inner, left, change)) => {}
                    _ => continue,
                }
                return true;
            }
            false
        }
        _ => false,
    }
}
