//! Conversion of arbitrary objects, fragments and garbage, both ways.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::json;

use super::*;

const OLD: &str = "cloud.atomix.io/v1beta2";
const NEW: &str = "cloud.atomix.io/v1beta3";

#[test]
fn a_status_is_the_same_in_both_versions() {
    let group = json!({"partitionSize": 3, "protocol": {"typeUrl": "type.googleapis.com/sample.Config", "value": "IKwC"}});
    let new = json!({"apiVersion": NEW, "kind": "Database", "status": {"partitionsPerCluster": 1, "group": group}});
    let old = convert(new.clone(), OLD).unwrap();
    assert_eq!(old["status"], new["status"]);
    assert_eq!(convert(old, NEW), Ok(new));
}

#[test]
fn the_old_example_becomes_three_partitions_in_three_clusters() {
    let old = json!({"apiVersion": OLD, "kind": "Database", "metadata": {"name": "sample"}, "spec": {
        "clusters": 3, "template": {"spec": {"partitions": 1, "storage": {"kind": "SampleStorageClass", "name": "sample"}}}}});
    let new = json!({"apiVersion": NEW, "kind": "Database", "metadata": {"name": "sample"}, "spec": {
        "partitions": 3, "partitionsPerCluster": 1, "storageClass": {"kind": "SampleStorageClass", "name": "sample"}}});
    assert_eq!(convert(old.clone(), NEW), Ok(new.clone()));
    assert_eq!(convert(new, OLD), Ok(old));
}

#[test]
fn a_last_cluster_that_is_not_full_stays_so_until_clusters_are_changed() {
    let new = new(json!({"partitions": 5, "partitionsPerCluster": 2}));
    let mut old = convert(new.clone(), OLD).unwrap();
    assert_eq!(old["spec"], json!({"clusters": 3, "template": {"spec": {"partitions": 2}}}));
    assert_eq!(convert(old.clone(), NEW), Ok(new));

    old["spec"]["clusters"] = json!(4);
    assert_eq!(convert(old, NEW).unwrap(), self::new(json!({"partitions": 8, "partitionsPerCluster": 2})));
}

#[test]
fn what_the_class_decided_shows_in_the_old_version_and_stays_undecided_in_the_new() {
    let mut new = new(json!({"partitions": 4}));
    new["status"] = json!({"partitionsPerCluster": 2});
    let mut old = convert(new.clone(), OLD).unwrap();
    assert_eq!(old["spec"], json!({"clusters": 2, "template": {"spec": {"partitions": 2}}}));
    assert_eq!(convert(old.clone(), NEW), Ok(new.clone()));

    old["spec"]["clusters"] = json!(3);
    new["spec"]["partitions"] = json!(6);
    assert_eq!(convert(old, NEW), Ok(new));
}

#[test]
fn clusters_asked_for_before_anything_was_decided_are_kept() {
    let mut old = convert(new(json!({"partitions": 4})), OLD).unwrap();
    assert_eq!(old["spec"], json!({"clusters": 1, "template": {"spec": {"partitions": 4}}}));
    old["spec"]["clusters"] = json!(3);
    assert_eq!(convert(old, NEW).unwrap(), new(json!({"partitions": 12, "partitionsPerCluster": 4})));
}

#[test]
fn the_metadata_of_a_template_comes_back() {
    let old = json!({"apiVersion": OLD, "kind": "Database", "metadata": {"name": "a"}, "spec": {
        "clusters": 1, "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"partitions": 1}}}});
    let new = convert(old.clone(), NEW).unwrap();
    assert_eq!(new["spec"], json!({"partitions": 1, "partitionsPerCluster": 1}));
    assert_eq!(convert(new, OLD), Ok(old));
}

#[test]
fn nothing_is_invented_for_absent_fields() {
    for (from, to) in [(OLD, NEW), (NEW, OLD)] {
        for rest in
            [json!({}), json!({"metadata": {}}), json!({"metadata": {}, "spec": {}}), json!({"status": {"ready": "1/1"}})]
        {
            let mut given = rest.clone();
            given["apiVersion"] = json!(from);
            given["kind"] = json!("Database");
            let mut expected = given.clone();
            expected["apiVersion"] = json!(to);
            assert_eq!(convert(given, to), Ok(expected));
        }
    }
    let class_only = convert(new(json!({"storageClass": {"name": "a"}})), OLD).unwrap();
    assert_eq!(class_only["spec"], json!({"template": {"spec": {"storage": {"name": "a"}}}}));
    let share_only = convert(new(json!({"partitionsPerCluster": 2})), OLD).unwrap();
    assert_eq!(share_only["spec"], json!({"template": {"spec": {"partitions": 2}}}));
}

#[test]
fn lists_are_converted_item_by_item() {
    let list = |version, items| json!({"apiVersion": version, "kind": "DatabaseList", "metadata": {}, "items": items});
    let given = new(json!({"partitions": 2, "partitionsPerCluster": 1}));
    let old = convert(given.clone(), OLD).unwrap();
    assert_eq!(convert(list(NEW, vec![given]), OLD), Ok(list(OLD, vec![old])));
}

#[test]
fn what_is_no_database_is_refused_by_name() {
    let refused = |object, message: &str| assert_eq!(convert(object, OLD).unwrap_err(), message);
    refused(json!(7), "cannot convert a number: an object is expected");
    refused(
        json!({"apiVersion": NEW, "kind": "Partition", "metadata": {"namespace": "n", "name": "a"}}),
        "Partition n/a: kind is Partition: Database is expected",
    );
    refused(
        json!({"apiVersion": "v1", "kind": "Database"}),
        "Database ?/?: cannot convert from apiVersion v1: cloud.atomix.io/v1beta2 and cloud.atomix.io/v1beta3 are accepted",
    );
    refused(
        json!({"apiVersion": NEW, "kind": "Database", "metadata": {"name": "a", "annotations": 1}, "spec": {"partitions": 3}}),
        "Database ?/a: metadata.annotations is a number: an object is expected",
    );
    assert!(convert(new(json!({})), "cloud.atomix.io/v1").unwrap_err().starts_with("cannot convert to cloud.atomix.io/v1:"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_new_version_survives_the_old(object in object(NEW, new_spec(), NOTE_ON_NEW)) {
        let old = convert(object.clone(), OLD).unwrap();
        only_notes_differ(&object, &old);
        prop_assert_eq!(convert(old, NEW).unwrap(), object);
    }

    #[test]
    fn the_old_version_survives_the_new(object in object(OLD, old_spec(), NOTE_ON_OLD)) {
        let new = convert(object.clone(), NEW).unwrap();
        only_notes_differ(&object, &new);
        prop_assert_eq!(convert(new, OLD).unwrap(), object);
    }

    /// A complete object means the same in both: N partitions, partition i in cluster ⌈i/P⌉.
    #[test]
    fn both_versions_mean_the_same(total in 1..1025u64, given in proptest::option::of(1..1025u64), decided in proptest::option::of(1..1025u64)) {
        let mut object = new(json!({"partitions": total}));
        if let Some(given) = given { object["spec"]["partitionsPerCluster"] = json!(given) }
        if let Some(decided) = decided { object["status"] = json!({"partitionsPerCluster": decided}) }
        let old = convert(object, OLD).unwrap();
        let share = given.or(decided).unwrap_or(total);
        prop_assert_eq!(&old["spec"]["template"]["spec"]["partitions"], &json!(share));
        prop_assert_eq!(&old["spec"]["clusters"], &json!(total.div_ceil(share)));
    }

    /// A note that a person wrote cannot replace a field of the object.
    #[test]
    fn a_forged_note_changes_no_meaning(clusters in 1..33u64, share in 1..33u64, note in note(), status in option(number())) {
        let mut old = json!({"apiVersion": OLD, "kind": "Database", "metadata": {"annotations": {NOTE_ON_OLD: note}}, "spec": {
            "clusters": clusters, "template": {"spec": {"partitions": share, "storage": {"name": "a"}}}}});
        if let Some(status) = status { old["status"] = json!({"partitionsPerCluster": status}) }
        let new = convert(old.clone(), NEW).unwrap();
        prop_assert_eq!(new["spec"]["partitions"].as_u64().unwrap().div_ceil(share), clusters);
        prop_assert_eq!(&new["spec"]["storageClass"], &json!({"name": "a"}));
        if let Some(given) = new["spec"].get("partitionsPerCluster") {
            prop_assert_eq!(given, &json!(share));
        }
        prop_assert_eq!(&convert(new, OLD).unwrap()["spec"], &old["spec"]);
    }

    #[test]
    fn garbage_does_no_harm(garbage in garbage(), kind in prop_oneof![Just("Database"), Just("DatabaseList")], from in versions(), to in versions()) {
        let _ = convert(garbage.clone(), to);
        if let Value::Object(mut object) = garbage {
            object.insert("kind".to_owned(), json!(kind));
            object.insert("apiVersion".to_owned(), json!(from));
            let _ = convert(Value::Object(object), to);
        }
    }
}

fn new(spec: Value) -> Value {
    json!({"apiVersion": NEW, "kind": "Database", "metadata": {"name": "a"}, "spec": spec})
}

/// Conversion may touch labels and annotations of metadata only, and nothing beside spec; here it must leave other annotations too.
fn only_notes_differ(a: &Value, b: &Value) {
    let rest = |it: &Value| {
        let mut it = it.clone();
        it["spec"] = json!(null);
        it["apiVersion"] = json!(null);
        if let Some(annotations) = it["metadata"].get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(NOTE_ON_NEW);
            annotations.remove(NOTE_ON_OLD);
            if annotations.is_empty() {
                it["metadata"].as_object_mut().unwrap().remove("annotations");
            }
        }
        it
    };
    assert_eq!(rest(a), rest(b));
    assert_eq!(a.get("spec").is_some(), b.get("spec").is_some());
}

fn versions() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just(OLD), Just(NEW), Just("cloud.atomix.io/v1"), Just("v1"), Just("")]
}

/// Objects whole and in part. Any annotation may be there but a note of this version (`own`).
fn object(version: &'static str, spec: BoxedStrategy<Value>, own: &'static str) -> BoxedStrategy<Value> {
    let other = if own == NOTE_ON_NEW { NOTE_ON_OLD } else { NOTE_ON_NEW };
    let annotations = proptest::collection::btree_map(
        prop_oneof!["[a-z]{1,3}", Just(own.to_owned()), Just(other.to_owned())],
        prop_oneof![note(), "[a-z{\":]{0,6}"],
        1..4,
    );
    let status = prop_oneof![
        (0..1030i64).prop_map(|it| json!({"partitionsPerCluster": it, "readyPartitions": 1})),
        Just(json!({"ready": "1/3"})),
        garbage(),
    ];
    (option(spec), option(status), proptest::option::of(annotations), option(garbage()))
        .prop_map(move |(spec, status, annotations, labels)| {
            let mut object = json!({"apiVersion": version, "kind": "Database", "metadata": {"name": "a", "uid": "u"}});
            for (field, value) in [("spec", spec), ("status", status)] {
                if let Some(value) = value {
                    object[field] = value;
                }
            }
            if let Some(labels) = labels {
                object["metadata"]["labels"] = labels;
            }
            if let Some(mut annotations) = annotations {
                if annotations.get(own).is_some_and(|it| note_in(&json!(it)).is_some()) {
                    annotations.remove(own);
                }
                if !annotations.is_empty() {
                    object["metadata"]["annotations"] = json!(annotations);
                }
            }
            object
        })
        .boxed()
}

fn new_spec() -> BoxedStrategy<Value> {
    fields(vec![
        ("partitions", number()),
        ("partitionsPerCluster", number()),
        ("storageClass", garbage()),
        ("clusters", garbage()),
        ("template", garbage()),
        ("other", garbage()),
    ])
}

fn old_spec() -> BoxedStrategy<Value> {
    let inner = fields(vec![("partitions", number()), ("storage", garbage()), ("other", garbage())]);
    let template = fields(vec![("metadata", garbage()), ("spec", inner), ("other", garbage())]);
    fields(vec![
        ("clusters", number()),
        ("template", prop_oneof![6 => template, 1 => garbage()].boxed()),
        ("partitions", number()),
        ("storageClass", garbage()),
        ("other", garbage()),
    ])
}

fn note() -> BoxedStrategy<String> {
    fields(vec![
        ("partitions", number()),
        ("decided", any::<bool>().prop_map(|it| json!(it)).boxed()),
        ("spec", prop_oneof![new_spec(), old_spec()].boxed()),
        ("was", "[a-z{}]{0,4}".prop_map(|it| json!(it)).boxed()),
    ])
    .prop_map(|it| it.to_string())
    .boxed()
}

fn number() -> BoxedStrategy<Value> {
    prop_oneof![12 => (1..40u64).prop_map(|it| json!(it)), 3 => (0..3000i64).prop_map(|it| json!(it)), 1 => garbage()]
        .boxed()
}

/// An object with any of these fields.
fn fields(of: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    of.into_iter()
        .map(|(name, value)| option(value).prop_map(move |value| value.map(|value| (name.to_owned(), value))))
        .collect::<Vec<_>>()
        .prop_map(|fields| Value::Object(fields.into_iter().flatten().collect()))
        .boxed()
}

fn option(of: impl Strategy<Value = Value>) -> impl Strategy<Value = Option<Value>> {
    proptest::option::weighted(0.7, of)
}

fn garbage() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    let name = prop_oneof![
        Just("spec"),
        Just("metadata"),
        Just("annotations"),
        Just("template"),
        Just("partitions"),
        Just("partitionsPerCluster"),
        Just("clusters"),
        Just("status"),
        Just("items"),
        Just("kind"),
        Just(NOTE_ON_NEW),
        Just(NOTE_ON_OLD)
    ];
    leaf.prop_recursive(3, 12, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map(name.clone().prop_map(str::to_owned), inner, 0..4).prop_map(|it| json!(it)),
        ]
    })
    .boxed()
}
