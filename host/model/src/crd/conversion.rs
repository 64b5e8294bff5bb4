//! Database in one version turned into the other, and nothing lost. Pure; knows no server, no review and no time.
//!
//! v1beta3 holds the number of partitions in all, and perhaps how many share a cluster. v1beta2 holds the number of
//! clusters, and the number of partitions in each. What one version has no field for travels in a note: an annotation, since
//! conversion may change nothing else of an object's metadata. A note counts only while it fits the fields beside it: an
//! edit makes it void.
//!
//! API servers convert fragments too (what one field manager owns, even without a spec), so nothing is invented for a field that
//! is absent, and a value that no schema lets through travels as it is: one odd object must not fail a whole list.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{GROUP, PARTITIONS_MAX, VERSION, VERSION_OLD};

type Object = Map<String, Value>;

/// What the schemas let through as a number of partitions or clusters.
const COUNT_MAX: u64 = PARTITIONS_MAX as u64;

/// On a v1beta3 object: what v1beta2 held that v1beta3 has no field for.
pub const NOTE_ON_NEW: &str = "cloud.atomix.io/v1beta2";
/// On a v1beta2 object: what v1beta3 held that v1beta2 has no field for.
pub const NOTE_ON_OLD: &str = "cloud.atomix.io/v1beta3";

/// What the other version held. A field that would be empty is never written.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Note {
    /// Partitions in all, where clusters × partitions would be more: the last cluster is not full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    partitions: Option<u64>,
    /// The partitions per cluster were not given but decided by the class or by default.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    decided: bool,
    /// The rest of the spec.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    spec: Object,
    /// What stood in the note's place before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    was: Option<String>,
}

/// Converts a Database, or a list of them, to `wanted` (group/version). Everything but `apiVersion`, `spec` and the notes among
/// the annotations stays as it is. An error names the object and the field, and means that this is no Database.
pub fn convert(object: Value, wanted: &str) -> Result<Value, String> {
    let Value::Object(mut object) = object else {
        return Err(format!("cannot convert {}: an object is expected", kind_of(&object)));
    };
    let to = version(wanted).ok_or_else(|| format!("cannot convert to {wanted}: {ACCEPTED}"))?;
    let from = match object.get("apiVersion") {
        Some(Value::String(it)) => {
            version(it).ok_or_else(|| format!("{}: cannot convert from apiVersion {it}: {ACCEPTED}", name(&object)))?
        }
        other => {
            return Err(format!("{}: apiVersion is {}: {ACCEPTED}", name(&object), other.map_or("absent", kind_of)));
        }
    };
    match object.get("kind").and_then(Value::as_str) {
        Some("Database") if from == to => {}
        Some("Database") => match to {
            Version::Old => to_old(&mut object)?,
            Version::New => to_new(&mut object)?,
        },
        Some("DatabaseList") => {
            if let Some(Value::Array(items)) = object.get_mut("items") {
                for item in items {
                    *item = convert(item.take(), wanted)?;
                }
            }
        }
        other => {
            return Err(format!("{}: kind is {}: Database is expected", name(&object), other.unwrap_or("absent")));
        }
    }
    object.insert("apiVersion".to_owned(), Value::from(wanted));
    Ok(Value::Object(object))
}

/// v1beta3 → v1beta2. Without a number of partitions per cluster, the one that was decided counts; without that, all share one.
fn to_old(object: &mut Object) -> Result<(), String> {
    let decided = decided(object);
    let found = take_note(object, NOTE_ON_NEW);
    let mut note = Note::default();
    if let Some(mut spec) = take_spec(object) {
        let given = take_count(&mut spec, "partitionsPerCluster");
        let readable = !spec.contains_key("partitionsPerCluster");
        let total = if readable { take_count(&mut spec, "partitions") } else { None };
        let storage = spec.remove("storageClass");
        let per_cluster = given.or_else(|| total.map(|total| decided.unwrap_or(total)));
        let clusters = total.zip(per_cluster).map(|(total, per_cluster)| total.div_ceil(per_cluster));

        note.decided = given.is_none() && total.is_some();
        note.partitions = total.filter(|total| clusters.zip(per_cluster).is_some_and(|(c, p)| c * p != *total));
        note.spec = std::mem::replace(&mut spec, found.spec);
        put_in(&mut spec, "clusters", clusters.map(Value::from));
        put_in_template(&mut spec, "partitions", per_cluster.map(Value::from));
        put_in_template(&mut spec, "storage", storage);
        object.insert("spec".to_owned(), Value::Object(spec));
    }
    put_note(object, NOTE_ON_OLD, note)
}

/// v1beta2 → v1beta3.
fn to_new(object: &mut Object) -> Result<(), String> {
    let decided = decided(object);
    let found = take_note(object, NOTE_ON_OLD);
    let mut note = Note::default();
    if let Some(mut spec) = take_spec(object) {
        let storage = take_from_template(&mut spec, |it| it.remove("storage"));
        let per_cluster = take_from_template(&mut spec, |it| take_count(it, "partitions"));
        let clusters = take_count(&mut spec, "clusters");
        let total = clusters.zip(per_cluster).and_then(|(clusters, per_cluster)| {
            let noted = found.partitions.filter(|it| (1..=COUNT_MAX).contains(it) && it.div_ceil(per_cluster) == clusters);
            noted.or(Some(clusters * per_cluster)).filter(|it| *it <= COUNT_MAX)
        });
        if total.is_none() {
            put_in(&mut spec, "clusters", clusters.map(Value::from)); // means nothing here without the partitions of each: noted
        }
        let still_decided = found.decided && total.is_some() && decided.or(total) == per_cluster;

        note.spec = std::mem::replace(&mut spec, found.spec);
        if total.is_some() {
            spec.remove("partitionsPerCluster"); // a note cannot replace a field of the object
        }
        spec.remove("storageClass");
        put_in(&mut spec, "partitions", total.map(Value::from));
        put_in(&mut spec, "partitionsPerCluster", per_cluster.filter(|_| !still_decided).map(Value::from));
        put_in(&mut spec, "storageClass", storage);
        object.insert("spec".to_owned(), Value::Object(spec));
    }
    put_note(object, NOTE_ON_NEW, note)
}

/// How many partitions share a cluster, as decided for this database.
fn decided(object: &Object) -> Option<u64> {
    count(object.get("status")?.get("partitionsPerCluster")?)
}

/// A number that the schemas let through. Anything else is left where it is and travels in the note.
fn count(value: &Value) -> Option<u64> {
    value.as_u64().filter(|it| (1..=COUNT_MAX).contains(it))
}

fn take_count(fields: &mut Object, field: &str) -> Option<u64> {
    let found = fields.get(field).and_then(count)?;
    fields.remove(field);
    Some(found)
}

fn take_spec(object: &mut Object) -> Option<Object> {
    match object.get_mut("spec")? {
        Value::Object(spec) => Some(std::mem::take(spec)),
        _ => None,
    }
}

/// Takes something out of `template.spec`, and what held nothing else with it.
fn take_from_template<T>(spec: &mut Object, take: impl FnOnce(&mut Object) -> Option<T>) -> Option<T> {
    let template = spec.get_mut("template")?.as_object_mut()?;
    let inner = template.get_mut("spec")?.as_object_mut()?;
    let taken = take(inner)?;
    if inner.is_empty() {
        template.remove("spec");
        if template.is_empty() {
            spec.remove("template");
        }
    }
    Some(taken)
}

fn put_in_template(spec: &mut Object, field: &str, value: Option<Value>) {
    if value.is_some() {
        put_in(object_at(object_at(spec, "template"), "spec"), field, value);
    }
}

fn put_in(fields: &mut Object, field: &str, value: Option<Value>) {
    if let Some(value) = value {
        fields.insert(field.to_owned(), value);
    }
}

/// The object at `field`, made if there is none.
fn object_at<'a>(fields: &'a mut Object, field: &str) -> &'a mut Object {
    let place = fields.entry(field).or_insert_with(|| Value::Object(Object::new()));
    if !place.is_object() {
        *place = Value::Object(Object::new());
    }
    place.as_object_mut().expect("made an object the line before")
}

/// Takes the note off an object and puts back what stood in its place. A text that is no note of ours is left alone.
fn take_note(object: &mut Object, key: &str) -> Note {
    let Some(Value::Object(metadata)) = object.get_mut("metadata") else {
        return Note::default();
    };
    let Some(Value::Object(annotations)) = metadata.get_mut("annotations") else {
        return Note::default();
    };
    let Some(mut note) = annotations.get(key).and_then(note_in) else {
        return Note::default();
    };
    match note.was.take() {
        Some(was) => annotations.insert(key.to_owned(), Value::from(was)),
        None => annotations.remove(key),
    };
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    note
}

/// Writes the note, if it holds anything or if what stands in its place would be taken for one.
fn put_note(object: &mut Object, key: &str, mut note: Note) -> Result<(), String> {
    let there = object.get("metadata").and_then(|it| it.get("annotations")).and_then(|it| it.get(key));
    if note == Note::default() && there.and_then(note_in).is_none() {
        return Ok(());
    }
    note.was = there.and_then(Value::as_str).map(str::to_owned);
    let text =
        serde_json::to_string(&note).map_err(|it| format!("{}: cannot write annotation {key}: {it}", name(object)))?;
    for (path, place) in [
        ("metadata", object.get("metadata")),
        ("metadata.annotations", object.get("metadata").and_then(|it| it.get("annotations"))),
    ] {
        if let Some(other) = place.filter(|it| !it.is_object()) {
            return Err(format!("{}: {path} is {}: an object is expected", name(object), kind_of(other)));
        }
    }
    object_at(object_at(object, "metadata"), "annotations").insert(key.to_owned(), Value::from(text));
    Ok(())
}

fn note_in(text: &Value) -> Option<Note> {
    serde_json::from_str(text.as_str()?).ok()
}

#[derive(Clone, Copy, PartialEq)]
enum Version {
    Old,
    New,
}

const ACCEPTED: &str = "cloud.atomix.io/v1beta2 and cloud.atomix.io/v1beta3 are accepted";

fn version(api_version: &str) -> Option<Version> {
    match api_version.split_once('/')? {
        (GROUP, VERSION_OLD) => Some(Version::Old),
        (GROUP, VERSION) => Some(Version::New),
        _ => None,
    }
}

/// How messages name an object that may be anything.
fn name(object: &Object) -> String {
    let metadata = |field| object.get("metadata").and_then(|it| it.get(field)).and_then(Value::as_str).unwrap_or("?");
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or("object");
    format!("{kind} {}/{}", metadata("namespace"), metadata("name"))
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
#[path = "conversion_tests.rs"]
mod tests;
