//! A Database that does not fit its definition, as it can be stored where somebody relaxed the definition or restored another one.
//! What the definition refuses is not applied: what runs goes on as its status recorded it.

use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::observe;
use crate::schema::{self, Misfit};
use atomix_model::contract::Unsupported;
use atomix_model::crd::{Database, DatabaseSpec, DatabaseStatus, PARTITIONS_MAX, VERSION, definitions};

/// A Database of which nothing runs and that cannot be read, or of which too little was recorded to go on by.
#[derive(Debug)]
pub struct Malformed {
    /// What its status recorded, as far as it can be read.
    pub status: Box<DatabaseStatus>,
    /// Which fields do not fit, what was found and what is accepted.
    pub message: String,
}

/// A stored Database as a type, with the fields of its spec that are not taken as they stand there.
///
/// # Errors
/// It does not fit, and nothing of it runs yet.
pub fn read(mut object: Value) -> Result<(Database, Vec<Unsupported>), Malformed> {
    let recorded = object.as_object_mut().and_then(|fields| fields.remove("status")).unwrap_or(Value::Null);
    let status = readable(&recorded);
    let error = match Database::deserialize(&object) {
        Ok(database) if is_in_bounds(&database.spec) => return Ok((Database { status, ..database }, Vec::new())),
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    };
    let misfits = schema::misfits("spec", &SPEC, object.get("spec").unwrap_or(&Value::Null));
    let kept = status.as_ref().filter(|_| !misfits.is_empty()).and_then(observe::recorded_spec);
    if let Some(spec) = kept.filter(is_in_bounds) {
        object["spec"] = json!(spec);
        if let Ok(database) = Database::deserialize(&object) {
            let not_taken = misfits.into_iter().map(|misfit| not_taken(misfit, &spec)).collect();
            return Ok((Database { status, ..database }, not_taken));
        }
    }
    let named: Vec<_> = misfits.iter().map(ToString::to_string).collect();
    let what = if named.is_empty() { error } else { named.join("; ") };
    let message = format!("the object does not fit its schema: {what}");
    Err(Malformed { status: status.unwrap_or_default().into(), message })
}

/// The schema of the spec of a Database, in the version that is stored.
static SPEC: LazyLock<Value> = LazyLock::new(|| json!(definitions::database_spec(VERSION).unwrap_or_default()));

/// Whether the numbers, which the type takes in any size, are those that the definition accepts.
fn is_in_bounds(spec: &DatabaseSpec) -> bool {
    [Some(spec.partitions), spec.partitions_per_cluster]
        .into_iter()
        .flatten()
        .all(|count| (1..=PARTITIONS_MAX).contains(&count))
}

fn not_taken(misfit: Misfit, spec: &DatabaseSpec) -> Unsupported {
    let kept = match misfit.path.as_str() {
        "spec.partitions" => spec.partitions.to_string(),
        "spec.partitionsPerCluster" => {
            spec.partitions_per_cluster.map_or_else(|| "as it was".to_owned(), |count| count.to_string())
        }
        _ => "as it was".to_owned(),
    };
    Unsupported {
        field: misfit.path,
        wanted: misfit.found.unwrap_or_else(|| "nothing".to_owned()),
        kept,
        why: misfit.expected,
    }
}

/// A status, or of one that cannot be read as a whole all fields that can.
fn readable(status: &Value) -> Option<DatabaseStatus> {
    let fields = status.as_object()?;
    if let Ok(status) = DatabaseStatus::deserialize(status) {
        return Some(status);
    }
    let reads = |(name, value): &(&String, &Value)| {
        let alone = serde_json::Map::from_iter([((*name).clone(), (*value).clone())]);
        serde_json::from_value::<DatabaseStatus>(alone.into()).is_ok()
    };
    let kept: serde_json::Map<_, _> =
        fields.iter().filter(reads).map(|(name, value)| (name.clone(), value.clone())).collect();
    serde_json::from_value(kept.into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(spec: Value) -> Value {
        let kind = json!({"version": "v1", "kind": "ConfigMap", "plural": "configmaps"});
        let plan = json!({"hash": "h", "generation": 2, "classUid": "u", "classGeneration": 1, "partitions": 3});
        let class =
            json!({"kind": "KvStorageClass", "namespace": "ns", "name": "c", "generation": 1, "wantedNamespace": ""});
        let status = json!({"kinds": [kind], "plan": plan, "partitionsPerCluster": 2, "storageClass": class});
        json!({"metadata": {"name": "db", "namespace": "ns"}, "spec": spec, "status": status})
    }

    fn class() -> Value {
        json!({"kind": "KvStorageClass", "name": "c"})
    }

    #[test]
    fn a_field_that_does_not_fit_leaves_what_runs_as_it_was_recorded() {
        let recorded = DatabaseSpec {
            partitions: 3,
            partitions_per_cluster: Some(2),
            storage_class: serde_json::from_value(class()).unwrap(),
        };
        for (spec, field, wanted, kept) in [
            (json!({"partitions": "three", "storageClass": class()}), "spec.partitions", "\"three\"", "3"),
            (json!({"partitions": -5, "storageClass": class()}), "spec.partitions", "-5", "3"),
            (json!({"partitions": 0, "storageClass": class()}), "spec.partitions", "0", "3"),
            (json!({"partitions": 1025, "storageClass": class()}), "spec.partitions", "1025", "3"),
            (json!({"partitions": 99_999_999_999_i64, "storageClass": class()}), "spec.partitions", "99999999999", "3"),
            (
                json!({"partitions": 4, "partitionsPerCluster": 0, "storageClass": class()}),
                "spec.partitionsPerCluster",
                "0",
                "2",
            ),
            (json!({"partitions": 4, "storageClass": 7}), "spec.storageClass", "7", "as it was"),
            (json!({"partitions": 4}), "spec.storageClass", "nothing", "as it was"),
            (Value::Null, "spec", "null", "as it was"),
        ] {
            let (database, not_taken) = read(running(spec.clone())).unwrap_or_else(|error| panic!("{spec}: {error:?}"));
            assert_eq!(database.spec, recorded, "{spec}");
            assert_eq!(database.status.map(|status| status.kinds.len()), Some(1), "{spec}");
            let [change] = not_taken.as_slice() else { panic!("{spec}: {not_taken:?}") };
            assert_eq!(
                (change.field.as_str(), change.wanted.as_str(), change.kept.as_str()),
                (field, wanted, kept),
                "{spec}"
            );
        }
        let fits = json!({"partitions": 4, "storageClass": class(), "brought by a newer definition": 1});
        let (database, not_taken) = read(running(fits)).unwrap();
        assert_eq!((database.spec.partitions, not_taken), (4, Vec::new()));
    }

    #[test]
    fn where_nothing_runs_the_message_names_the_field() {
        for (spec, expected) in [
            (json!({"partitions": "three", "storageClass": class()}), "spec.partitions is \"three\"; integer is expected"),
            (json!({"partitions": 0, "storageClass": class()}), "spec.partitions is 0; at least 1 is accepted"),
            (json!({"partitions": 1}), "spec.storageClass is missing"),
            (Value::Null, "spec is null; object is expected"),
        ] {
            let error = read(json!({"metadata": {"name": "db"}, "spec": spec})).unwrap_err();
            assert!(error.message.contains(expected), "{}", error.message);
        }
        let mut tampered = running(json!({"partitions": 0, "storageClass": class()}));
        tampered["status"]["plan"]["partitions"] = json!(-3);
        assert!(read(tampered).unwrap_err().message.contains("at least 1"), "what was recorded does not fit either");
    }

    #[test]
    fn of_a_status_that_was_tampered_with_every_field_that_can_be_read_is_kept() {
        let kind = json!({"version": "v1", "kind": "ConfigMap", "plural": "configmaps"});
        let plan = json!({"hash": "h", "generation": 2, "classUid": "u", "classGeneration": 1});
        let status = readable(&json!({"kinds": [kind], "plan": plan, "partitions": "three", "conditions": 5}));
        let status = status.expect("two fields can be read");
        assert_eq!((status.kinds.len(), status.plan.map(|plan| plan.generation)), (1, Some(2)));
        assert_eq!((status.partitions, status.conditions.len()), (0, 0));
        assert_eq!(readable(&Value::Null), None);
        assert_eq!(readable(&json!("text")), None);
    }
}
