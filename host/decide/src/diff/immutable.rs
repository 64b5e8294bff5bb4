//! Fields that Kubernetes lets no client change once an object is there. Found before anything is written, so that an edit
//! that runs into one is not applied in part. Knows the kinds of Kubernetes' own groups; others are left to the API server.
//!
//! Source: the update validation of v1.36, `pkg/apis/*/validation/validation.go`.

use serde_json::{Map, Value, json};

use super::{Difference, check_applied};

/// What the absence of a field in a manifest stands for.
enum Absent {
    /// This value, as JSON text: the API server's default.
    Means(&'static str),
    /// Whatever is there: the API server keeps it, or made it.
    Anything,
}

use Absent::{Anything, Means};

/// Group and kind, and the fields of its spec that are fixed.
type Row = (&'static str, &'static str, &'static [(&'static str, Absent)]);

const FIXED: &[Row] = &[
    (
        "apps",
        "StatefulSet",
        &[
            ("selector", Means("{}")),
            ("serviceName", Means("\"\"")),
            ("podManagementPolicy", Means("\"OrderedReady\"")),
            ("volumeClaimTemplates", Means("[]")),
        ],
    ),
    ("apps", "Deployment", &[("selector", Means("{}"))]),
    ("apps", "DaemonSet", &[("selector", Means("{}"))]),
    ("apps", "ReplicaSet", &[("selector", Means("{}"))]),
    (
        "batch",
        "Job",
        &[
            ("backoffLimitPerIndex", Means("null")),
            ("completionMode", Means("\"NonIndexed\"")),
            ("managedBy", Means("null")),
            ("podFailurePolicy", Means("null")),
            ("selector", Anything),
            ("successPolicy", Means("null")),
            ("template", Anything),
        ],
    ),
    ("", "Service", &[("loadBalancerClass", Means("null"))]),
];

/// The first field that stands in the way of making the live object as in the manifest, if there is one: both are of the
/// same kind and name.
pub fn immutable_change(manifest: &Value, live: &Value) -> Option<Difference> {
    let group = manifest["apiVersion"].as_str()?.rsplit_once('/').map_or("", |(group, _)| group);
    let kind = manifest["kind"].as_str()?;
    let rows = FIXED.iter().filter(|(of, named, _)| (*of, *named) == (group, kind));
    let fixed = rows.flat_map(|(_, _, fields)| fields.iter()).find_map(|(field, absent)| {
        let suspended = kind == "Job" && *field == "template" && live["spec"]["suspend"] == json!(true);
        if suspended { None } else { changed(manifest, live, "spec", field, absent) }
    });
    fixed.or_else(|| match (group, kind) {
        ("", "Service") => address(manifest, live),
        ("", "ConfigMap" | "Secret") if live["immutable"] == json!(true) => frozen(manifest, live),
        ("discovery.k8s.io", "EndpointSlice") => at_root(manifest, live, "addressType"),
        _ => None,
    })
}

fn changed(manifest: &Value, live: &Value, section: &str, field: &str, absent: &Absent) -> Option<Difference> {
    let effective = |root: &Value| {
        let value = root[section].get(field).filter(|value| !value.is_null()).cloned();
        value.or_else(|| match absent {
            Means(text) => Some(serde_json::from_str(text).expect("the table holds JSON")),
            Anything => None,
        })
    };
    let (wanted, found) = (effective(manifest)?, effective(live)?);
    let nothing = wanted.is_null() || wanted.as_array().is_some_and(Vec::is_empty) || wanted == "";
    if nothing {
        let path = format!("{section}.{field}");
        return (found != wanted).then_some(Difference { path, wanted: None, found: Some(found) });
    }
    let with =
        |value: Value| json!({"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], section: {field: value}});
    check_applied(&with(wanted), &with(found)).err()
}

/// A Service has an address of its own, or none: neither becomes the other.
fn address(manifest: &Value, live: &Value) -> Option<Difference> {
    let text = |root: &Value, field: &str| root["spec"][field].as_str().unwrap_or_default().to_owned();
    let external = |root: &Value| text(root, "type") == "ExternalName";
    let (wanted, found) = (text(manifest, "clusterIP"), text(live, "clusterIP"));
    if external(manifest) || external(live) || found.is_empty() || wanted == found {
        return None;
    }
    let shown = |address: &str| json!(if address.is_empty() { "an address of its own" } else { address });
    let differs = !wanted.is_empty() || found == "None";
    differs.then(|| Difference {
        path: "spec.clusterIP".to_owned(),
        wanted: Some(shown(&wanted)),
        found: Some(shown(&found)),
    })
}

/// What was made immutable stays so, with all that it holds.
fn frozen(manifest: &Value, live: &Value) -> Option<Difference> {
    let held = |root: &Value, field: &str| match root.get(field) {
        Some(Value::Object(fields)) => fields.clone(),
        _ => Map::new(),
    };
    let part = ["data", "binaryData", "stringData"].into_iter().find(|part| held(manifest, part) != held(live, part));
    let path = part.map(str::to_owned).or_else(|| (manifest["immutable"] != json!(true)).then(|| "immutable".to_owned()))?;
    let value = |root: &Value| root.get(&path).cloned();
    Some(Difference { wanted: value(manifest), found: value(live), path })
}

fn at_root(manifest: &Value, live: &Value, field: &str) -> Option<Difference> {
    let value = |root: &Value| root.get(field).cloned();
    (value(manifest) != value(live)).then(|| Difference {
        path: field.to_owned(),
        wanted: value(manifest),
        found: value(live),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(change: impl FnOnce(&mut Value)) -> Value {
        let mut set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "s"}, "spec": {
            "replicas": 3, "serviceName": "s-hs", "podManagementPolicy": "Parallel", "selector": {"matchLabels": {"a": "b"}},
            "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}},
            "volumeClaimTemplates": [{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]}});
        change(&mut set);
        set
    }

    fn live() -> Value {
        set(|set| {
            set["spec"]["volumeClaimTemplates"][0]["spec"]["volumeMode"] = json!("Filesystem");
            set["spec"]["volumeClaimTemplates"][0]["status"] = json!({"phase": "Pending"});
            set["spec"]["revisionHistoryLimit"] = json!(10);
        })
    }

    #[test]
    fn what_may_change_and_what_is_only_spelled_otherwise_stands_in_no_way() {
        let claim = "/spec/volumeClaimTemplates/0/spec/resources/requests/storage";
        for change in [
            (|_: &mut Value| {}) as fn(&mut Value),
            |set| set["spec"]["replicas"] = json!(5),
            |set| set["spec"]["template"]["spec"]["containers"][0]["image"] = json!("another"),
            |set| set["spec"]["updateStrategy"] = json!({"type": "OnDelete"}),
            |set| set["spec"]["minReadySeconds"] = json!(3),
        ] {
            assert_eq!(immutable_change(&set(change), &live()), None);
        }
        let respelled = set(|set| *set.pointer_mut(claim).unwrap() = json!("1024Mi"));
        assert_eq!(immutable_change(&respelled, &live()), None);
    }

    #[test]
    fn each_fixed_field_of_a_set_is_named_with_what_was_found_and_what_is_wanted() {
        for (change, path) in [
            ((|set: &mut Value| set["spec"]["serviceName"] = json!("other")) as fn(&mut Value), "spec.serviceName"),
            (|set| set["spec"]["podManagementPolicy"] = json!("OrderedReady"), "spec.podManagementPolicy"),
            (|set| drop(set["spec"].as_object_mut().unwrap().remove("podManagementPolicy")), "spec.podManagementPolicy"),
            (|set| drop(set["spec"].as_object_mut().unwrap().remove("volumeClaimTemplates")), "spec.volumeClaimTemplates"),
            (|set| set["spec"]["selector"]["matchLabels"]["more"] = json!("x"), "spec.selector.matchLabels.more"),
            (|set| set["spec"]["selector"]["matchLabels"] = json!({"more": "x"}), "spec.selector.matchLabels.more"),
            (
                |set| set["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] = json!("2Gi"),
                "spec.volumeClaimTemplates[0].spec.resources.requests.storage",
            ),
        ] {
            let found = immutable_change(&set(change), &live()).unwrap_or_else(|| panic!("{path} stands in no way"));
            assert_eq!(found.path, path);
        }
    }

    #[test]
    fn a_service_keeps_its_address_or_that_it_has_none() {
        let service = |spec: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": spec});
        let (headless, plain) = (service(json!({"clusterIP": "None"})), service(json!({})));
        let with_address = service(json!({"clusterIP": "10.0.0.7", "type": "ClusterIP"}));
        assert_eq!(immutable_change(&plain, &with_address), None);
        assert_eq!(immutable_change(&headless, &headless), None);
        for (wanted, found) in [(&headless, &with_address), (&plain, &headless)] {
            assert_eq!(immutable_change(wanted, found).unwrap().path, "spec.clusterIP");
        }
    }

    #[test]
    fn what_was_made_immutable_is() {
        let map = |data: &str, immutable: bool| json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": data}, "immutable": immutable});
        assert_eq!(immutable_change(&map("1", true), &map("1", true)), None);
        assert_eq!(immutable_change(&map("2", true), &map("1", false)), None);
        assert_eq!(immutable_change(&map("2", true), &map("1", true)).unwrap().path, "data");
        assert_eq!(immutable_change(&map("1", false), &map("1", true)).unwrap().path, "immutable");
    }

    #[test]
    fn a_job_keeps_its_template_and_a_deployment_its_selector() {
        let job = |image: &str| json!({"apiVersion": "batch/v1", "kind": "Job", "spec": {"backoffLimit": 1, "template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
        assert_eq!(immutable_change(&job("a"), &job("a")), None);
        assert!(immutable_change(&job("b"), &job("a")).unwrap().path.starts_with("spec.template"));
        let deployment = |label: &str| json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"selector": {"matchLabels": {"a": label}}}});
        assert_eq!(immutable_change(&deployment("b"), &deployment("a")).unwrap().path, "spec.selector.matchLabels.a");
        assert_eq!(immutable_change(&json!({"apiVersion": "example.com/v1", "kind": "Deployment"}), &deployment("a")), None);
    }
}
