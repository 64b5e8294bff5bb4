//! The places of an object and what may be put there, by the schema of its definition. Knows no definition and no class.

use std::fmt;

use harness::seed::Dice;
use serde_json::{Map, Value, json};

/// A step on the way to a place.
#[derive(Clone, Debug, PartialEq)]
pub enum Key {
    Field(String),
    Item(usize),
}

/// Where a value stands, from the object's root.
#[derive(Clone, Debug, PartialEq)]
pub struct Path(pub Vec<Key>);

/// A place, and what its schema says of it: nothing where anything may stand.
#[derive(Clone, Debug)]
pub struct Place {
    pub path: Path,
    pub schema: Value,
}

/// What is put to a place: a value, or nothing.
pub type Put = Option<Value>;

impl Path {
    /// The path of a field.
    pub fn of(fields: &[&str]) -> Path {
        Path(fields.iter().map(|field| Key::Field((*field).to_owned())).collect())
    }

    fn and(&self, key: Key) -> Path {
        Path([&self.0[..], &[key]].concat())
    }

    /// Names of fields on the way, without the numbers of items.
    pub fn fields(&self) -> Vec<&str> {
        let fields = self.0.iter().filter_map(|key| match key {
            Key::Field(name) => Some(name.as_str()),
            Key::Item(_) => None,
        });
        fields.collect()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, key) in self.0.iter().enumerate() {
            match key {
                Key::Field(name) if at == 0 => write!(f, "{name}")?,
                Key::Field(name) => write!(f, ".{name}")?,
                Key::Item(number) => write!(f, "[{number}]")?,
            }
        }
        Ok(())
    }
}

/// Every place of a value of this schema: each field that it may have, and what is in those that it has.
pub fn places(path: &Path, schema: &Value, value: Option<&Value>) -> Vec<Place> {
    let mut found = Vec::new();
    let mut below = |key: Key, schema: &Value, value: Option<&Value>| {
        let path = path.and(key);
        found.push(Place { path: path.clone(), schema: schema.clone() });
        found.extend(places(&path, schema, value));
    };
    let none = Map::new();
    let known = schema["properties"].as_object().unwrap_or(&none);
    for (name, inner) in known {
        below(Key::Field(name.clone()), inner, value.and_then(|value| value.get(name)));
    }
    for (name, inner) in
        value.and_then(Value::as_object).into_iter().flatten().filter(|(name, _)| !known.contains_key(*name))
    {
        below(Key::Field(name.clone()), &schema["additionalProperties"], Some(inner));
    }
    for (number, inner) in value.and_then(Value::as_array).into_iter().flatten().enumerate() {
        below(Key::Item(number), &schema["items"], Some(inner));
    }
    found
}

/// What stands at a place.
pub fn at<'v>(object: &'v Value, path: &Path) -> Option<&'v Value> {
    path.0.iter().try_fold(object, |value, key| match key {
        Key::Field(name) => value.get(name),
        Key::Item(number) => value.get(*number),
    })
}

/// The object with this at the place; None if nothing leads there.
pub fn with(object: &Value, path: &Path, put: &Put) -> Option<Value> {
    let mut object = object.clone();
    let (last, way) = path.0.split_last()?;
    let mut at = &mut object;
    for key in way {
        at = match key {
            Key::Field(name) => {
                if at[name.as_str()].is_null() {
                    at[name.as_str()] = json!({});
                }
                at.get_mut(name)?
            }
            Key::Item(number) => at.get_mut(*number)?,
        };
    }
    match (last, put) {
        (Key::Field(name), Some(value)) => drop(at.as_object_mut()?.insert(name.clone(), value.clone())),
        (Key::Field(name), None) => drop(at.as_object_mut()?.remove(name)?),
        (Key::Item(number), Some(value)) => *at.get_mut(*number)? = value.clone(),
        (Key::Item(number), None) => drop(at.as_array_mut().filter(|items| *number < items.len())?.remove(*number)),
    }
    Some(object)
}

/// What may be put to a place: what its schema accepts, what lies at its bounds, and what is beyond them.
pub fn puts(schema: &Value) -> Vec<Put> {
    let mut values = vec![json!(null)];
    let kind = schema["type"].as_str().unwrap_or_default();
    if let Some(words) = schema["enum"].as_array() {
        values.extend(words.iter().cloned());
        values.extend(["Sometimes", ""].map(Value::from));
    }
    match kind {
        "integer" | "number" => values.extend(numbers(schema)),
        "string" if schema["enum"].is_null() => values.extend(texts(schema)),
        "string" => values.push(json!(5)),
        "boolean" => values.extend([json!(true), json!(false), json!("true"), json!(1)]),
        "array" => {
            let item = sample(&schema["items"]);
            values.extend([
                json!([]),
                json!([item]),
                json!([item, item]),
                json!([null]),
                json!([[]]),
                json!({}),
                json!("x"),
            ]);
        }
        "object" => {
            let full = sample(schema);
            let mut more = full.clone();
            more["bogus"] = json!(1);
            values.extend([json!({}), full, more, json!({"": "x"}), json!([]), json!("x"), json!(5)]);
        }
        _ => values.extend([json!({}), json!({"bogus": 1}), json!([]), json!("x"), json!(5), json!(true)]),
    }
    [None].into_iter().chain(values.into_iter().map(Some)).collect()
}

/// One of these.
pub fn one_of(dice: &Dice, puts: &[Put]) -> Put {
    dice.one_of(puts).clone()
}

/// A value that the schema accepts, with all fields that it has.
fn sample(schema: &Value) -> Value {
    if let Some(default) = schema.get("default") {
        return default.clone();
    }
    if let Some(word) = schema["enum"].get(0) {
        return word.clone();
    }
    match schema["type"].as_str().unwrap_or_default() {
        "integer" | "number" => schema.get("minimum").cloned().unwrap_or(json!(1)),
        "string" => json!("a"),
        "boolean" => json!(true),
        "array" => json!([]),
        "object" => {
            let fields = schema["properties"].as_object().into_iter().flatten();
            let fields: Map<String, Value> = fields.map(|(name, inner)| (name.clone(), sample(inner))).collect();
            match schema["additionalProperties"].is_object() {
                true => json!({"a": sample(&schema["additionalProperties"])}),
                false => fields.into(),
            }
        }
        _ => json!({}),
    }
}

fn numbers(schema: &Value) -> Vec<Value> {
    let bound = |name: &str| schema[name].as_f64().map(|bound| bound as i64);
    let (min, max) = (bound("minimum"), bound("maximum"));
    let near = [min.map(|it| it - 1), min, min.map(|it| it + 1), max.map(|it| it - 1), max, max.map(|it| it + 1)];
    let mut all: Vec<i64> = near.into_iter().flatten().chain([-1, 0, 1, 2, i64::MAX]).collect();
    all.sort_unstable();
    all.dedup();
    let others = [json!("3"), json!(1.5), json!(1e300), json!(true), json!({})];
    all.into_iter().map(Value::from).chain(others).collect()
}

fn texts(schema: &Value) -> Vec<Value> {
    let max = schema["maxLength"].as_u64().unwrap_or(253) as usize;
    let known = ["", "a", "A b", "a-", "ä", "..", "a/b", "\u{1b}[2J", "a\nb", "1Ki", "0", "1.5", "10s", "-1", "null"];
    let long = [max, max + 1].map(|length| "x".repeat(length).into());
    known.map(Value::from).into_iter().chain(long).chain([json!(7), json!(true), json!([])]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_is_found_and_can_be_changed() {
        let schema = json!({"type": "object", "properties": {
            "count": {"type": "integer", "minimum": 1, "maximum": 9},
            "list": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
            "words": {"type": "object", "additionalProperties": {"type": "string"}},
            "part": {"type": "object", "properties": {"on": {"type": "boolean"}}},
        }});
        let value = json!({"list": [{"name": "a"}], "words": {"b": "c"}});
        let found = places(&Path::of(&["spec"]), &schema, Some(&value));
        let paths: Vec<String> = found.iter().map(|place| place.path.to_string()).collect();
        let expected = ["count", "list", "list[0]", "list[0].name", "part", "part.on", "words", "words.b"];
        assert_eq!(paths, expected.map(|path| format!("spec.{path}")));
        let object = json!({ "spec": value });
        let changed = with(&object, &found[3].path, &Some(json!(5))).unwrap();
        assert_eq!(changed["spec"]["list"], json!([{"name": 5}]));
        assert_eq!(with(&object, &found[5].path, &Some(json!(true))).unwrap()["spec"]["part"], json!({"on": true}));
        assert_eq!(with(&object, &found[2].path, &None).unwrap()["spec"]["list"], json!([]));
        assert_eq!(with(&object, &found[0].path, &None), None, "nothing is there to be removed");
        let counts = puts(&found[0].schema);
        for bound in [json!(0), json!(1), json!(9), json!(10), json!(1.5), json!("3"), Value::Null] {
            assert!(counts.contains(&Some(bound.clone())), "{bound}");
        }
    }
}
