//! Property tests of the diff: what holds for any JSON, sensible or not, under field names of the rules.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use super::{canonical, check_applied, immutable_change, with_live_spelling};

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

/// A set whose fields that have several spellings are in some of them. All mean the same but for `replicas`.
fn set() -> impl Strategy<Value = Value> {
    let one = select(vec![json!("1"), json!("1000m"), json!("1.0"), json!("1e0"), json!(1)]);
    let memory = select(vec![json!("100M"), json!("1e8"), json!("100e6"), json!("100000k"), json!(100_000_000)]);
    let storage = select(vec![json!("1Gi"), json!("1024Mi"), json!("1073741824"), json!(1_073_741_824)]);
    let nothing = |values: Vec<Value>| proptest::option::of(select(values));
    let affinity = nothing(vec![json!({}), json!({"nodeAffinity": {}}), json!({"podAffinity": {}, "nodeAffinity": {}})]);
    let list = || nothing(vec![json!([])]);
    let operator = nothing(vec![json!("Equal")]);
    let no = || nothing(vec![json!(false)]);
    (one, memory, storage, affinity, list(), operator, no(), no(), nothing(vec![json!({}), Value::Null])).prop_map(
        |(cpu, memory, storage, affinity, env, operator, privileged, optional, labels)| {
            let mut set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "s"}, "spec": {
                "replicas": 3, "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {
                    "tolerations": [{"key": "k", "value": "v"}],
                    "containers": [{"name": "c", "resources": {"limits": {"cpu": cpu, "memory": memory}}, "securityContext": {},
                        "envFrom": [{"secretRef": {"name": "s"}}]}],
                    "volumes": [{"name": "v", "emptyDir": {"sizeLimit": storage}}]}},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": storage}}}}]}});
            let mut put = |pointer: &str, field: &str, value: Option<Value>| {
                if let Some(value) = value {
                    set.pointer_mut(pointer).unwrap()[field] = value;
                }
            };
            let pod = "/spec/template/spec";
            put(pod, "affinity", affinity);
            put(&format!("{pod}/containers/0"), "env", env);
            put(&format!("{pod}/tolerations/0"), "operator", operator);
            put(&format!("{pod}/containers/0/securityContext"), "privileged", privileged);
            put(&format!("{pod}/containers/0/envFrom/0/secretRef"), "optional", optional);
            put("/spec/template/metadata", "annotations", labels);
            set
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_only_spelled_otherwise_is_the_same_in_every_respect((one, other) in (set(), set())) {
        prop_assert_eq!(canonical(&one), canonical(&other));
        prop_assert_eq!(check_applied(&one, &other), Ok(()));
        prop_assert_eq!(immutable_change(&one, &other), None);
        let respelled = with_live_spelling(&other, &one);
        prop_assert_eq!(canonical(&respelled), canonical(&one));
        // All that the API server would keep apart is as it is there already.
        let at = |set: &Value, pointer: &str| set["spec"]["template"]["spec"].pointer(pointer).cloned();
        for pointer in ["/affinity", "/tolerations", "/volumes", "/containers/0/resources", "/containers/0/securityContext", "/containers/0/envFrom"] {
            prop_assert_eq!(at(&respelled, pointer), at(&other, pointer), "{}", pointer);
        }
    }

    #[test]
    fn what_means_something_else_never_passes_for_the_same(one in set(), at in 0..6_usize) {
        let (pointer, value) = [
            ("/spec/template/spec/containers/0/resources/limits/cpu", json!("1001m")),
            ("/spec/template/spec/containers/0/resources/limits/memory", json!("100Mi")),
            ("/spec/template/spec/volumes/0/emptyDir", json!({})),
            ("/spec/template/spec/tolerations/0/key", json!("")),
            ("/spec/template/spec/containers/0/name", json!("d")),
            ("/spec/replicas", json!(0)),
        ][at].clone();
        let mut other = one.clone();
        *other.pointer_mut(pointer).unwrap() = value.clone();
        prop_assert_ne!(canonical(&one), canonical(&other));
        prop_assert_eq!(with_live_spelling(&one, &other).pointer(pointer).cloned().unwrap_or_default(), value);
    }

    #[test]
    fn another_spelling_keeps_the_meaning_of_anything((one, other) in (object(), object())) {
        let respelled = with_live_spelling(&other, &one);
        prop_assert_eq!(check_applied(&respelled, &one), Ok(()));
        prop_assert_eq!(canonical(&canonical(&one)), canonical(&one));
    }

    #[test]
    fn any_two_things_can_be_compared(desired in object(), live in object(), odd in anything()) {
        for (desired, live) in [(&desired, &live), (&desired, &odd), (&odd, &desired)] {
            if let Err(difference) = check_applied(desired, live) {
                prop_assert!(!difference.to_string().is_empty());
            }
        }
    }

    #[test]
    fn everything_is_contained_in_itself(object in object()) {
        prop_assert_eq!(check_applied(&object, &object), Ok(()));
    }

    #[test]
    fn null_is_absent_on_either_side(object in object()) {
        let bare = without_nulls(object.clone());
        prop_assert_eq!(check_applied(&object, &bare), Ok(()));
        prop_assert_eq!(check_applied(&bare, &object), Ok(()));
    }

    #[test]
    fn what_is_contained_stays_so_when_others_add_labels(object in object(), theirs in "[a-z]{9,12}") {
        let mut live = object.clone();
        if let Some(labels) = live.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
            labels.insert(theirs, "x".into());
        }
        prop_assert_eq!(check_applied(&object, &live), Ok(()));
    }
}
