//! What holds for any JSON, sensible or not, under names that the rules know.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use super::contained;

const NAMES: [&str; 24] = [
    "metadata",
    "labels",
    "ownerReferences",
    "finalizers",
    "uid",
    "spec",
    "template",
    "containers",
    "name",
    "env",
    "value",
    "ports",
    "port",
    "containerPort",
    "protocol",
    "resources",
    "limits",
    "cpu",
    "selector",
    "volumes",
    "volumeClaimTemplates",
    "divisor",
    "data",
    "x",
];

fn anything() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        select(vec![json!(0), json!(1), json!(1.0), json!(-1), json!(1e300), json!(u64::MAX), json!(i64::MIN), json!(80)]),
        select(vec!["", "a", "TCP", "1Gi", "1024Mi", "1e99999999999", "-.", "é", "0.5", "500m"]).prop_map(Value::from),
    ];
    scalar.prop_recursive(8, 96, 6, |inner| {
        prop_oneof![
            1 => proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            3 => proptest::collection::btree_map(select(NAMES.to_vec()), inner, 0..6).prop_map(|fields| fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}

fn object() -> impl Strategy<Value = Value> {
    let kind = select(vec![
        ("apps/v1", "StatefulSet"),
        ("v1", "Service"),
        ("v1", "ConfigMap"),
        ("example.com/v1", "Other"),
        ("", ""),
    ]);
    (kind, anything()).prop_map(|((version, kind), body)| {
        let mut fields = match body {
            Value::Object(fields) => fields,
            other => Map::from_iter([("spec".to_owned(), other)]),
        };
        fields.insert("apiVersion".into(), version.into());
        fields.insert("kind".into(), kind.into());
        Value::Object(fields)
    })
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            fields.into_iter().filter(|(_, value)| !value.is_null()).map(|(k, v)| (k, without_nulls(v))).collect()
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_two_things_can_be_compared(desired in object(), live in object(), odd in anything()) {
        for (desired, live) in [(&desired, &live), (&desired, &odd), (&odd, &desired)] {
            if let Err(difference) = contained(desired, live) {
                prop_assert!(!difference.to_string().is_empty());
            }
        }
    }

    #[test]
    fn everything_is_contained_in_itself(object in object()) {
        prop_assert_eq!(contained(&object, &object), Ok(()));
    }

    #[test]
    fn null_is_absent_on_either_side(object in object()) {
        let bare = without_nulls(object.clone());
        prop_assert_eq!(contained(&object, &bare), Ok(()));
        prop_assert_eq!(contained(&bare, &object), Ok(()));
    }

    #[test]
    fn what_is_contained_stays_so_when_others_add_labels(object in object(), theirs in "[a-z]{9,12}") {
        let mut live = object.clone();
        if let Some(labels) = live.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
            labels.insert(theirs, "x".into());
        }
        prop_assert_eq!(contained(&object, &live), Ok(()));
    }
}
