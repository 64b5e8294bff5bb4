//! Random manifests that an API server takes, in many spellings: empty lists and maps, zero values, nulls, quantities in any unit.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

type Any = BoxedStrategy<Value>;

/// A StatefulSet with the name that [`named`] will give it.
pub fn stateful_set() -> Any {
    let spec = object(vec![
        ("replicas", number(0, 3)),
        ("minReadySeconds", number(0, 2)),
        ("revisionHistoryLimit", number(0, 3)),
        ("podManagementPolicy", one([json!("Parallel"), json!("OrderedReady")])),
        ("serviceName", one([json!("peers"), json!("")])),
        ("ordinals", one([json!({}), json!({"start": 1})])),
        (
            "updateStrategy",
            one([
                json!({"type": "OnDelete"}),
                json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}),
                json!({"type": "RollingUpdate"}),
            ]),
        ),
        (
            "persistentVolumeClaimRetentionPolicy",
            one([json!({"whenDeleted": "Delete"}), json!({"whenDeleted": "Retain", "whenScaled": "Delete"})]),
        ),
        (
            "volumeClaimTemplates",
            one([json!([]), json!([claim("1Gi")]), json!([claim("1024Mi")]), json!([of_class("fast")])]),
        ),
    ]);
    (spec, template(), metadata())
        .prop_map(|(spec, template, metadata)| workload("StatefulSet", spec, template, metadata))
        .boxed()
}

/// A Deployment.
pub fn deployment() -> Any {
    let spec = object(vec![
        ("replicas", number(0, 3)),
        ("minReadySeconds", number(0, 2)),
        ("paused", one([json!(true), json!(false)])),
        ("progressDeadlineSeconds", number(100, 102)),
        (
            "strategy",
            one([
                json!({"type": "Recreate"}),
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "50%", "maxUnavailable": 0}}),
                json!({"rollingUpdate": {"maxSurge": 2}}),
            ]),
        ),
    ]);
    (spec, template(), metadata())
        .prop_map(|(spec, template, metadata)| workload("Deployment", spec, template, metadata))
        .boxed()
}

/// A Service.
pub fn service() -> Any {
    let port = object(vec![
        ("protocol", one([json!("TCP"), json!("UDP")])),
        ("targetPort", one([json!(80), json!("api"), json!("8080-x")])),
        ("appProtocol", one([json!("http"), json!("example.com/x")])),
        ("nodePort", one([json!(0)])),
    ]);
    let ports = vec((1..4_i64, port), 1..4).prop_map(|ports| {
        let mut taken = BTreeSet::new();
        let fresh = ports.into_iter().filter(|(port, rest)| taken.insert((*port, rest["protocol"] == "UDP")));
        let named = fresh.enumerate().map(|(n, (port, rest))| merged(json!({"name": format!("p{n}"), "port": port}), rest));
        Value::from(named.collect::<Vec<_>>())
    });
    let spec = object(vec![
        ("selector", one([json!({"app": "a"}), json!({"app": "a", "value": ""}), json!({})])),
        ("publishNotReadyAddresses", one([json!(true), json!(false)])),
        ("clusterIP", one([json!("None")])),
        ("type", one([json!("ClusterIP")])),
        ("sessionAffinity", one([json!("ClientIP"), json!("None")])),
        ("internalTrafficPolicy", one([json!("Local"), json!("Cluster")])),
        ("externalIPs", one([json!([]), json!(["192.0.2.1"]), json!(["192.0.2.1", "192.0.2.2"])])),
        ("ipFamilyPolicy", one([json!("SingleStack")])),
    ]);
    let whole = (spec, ports, metadata()).prop_map(|(mut spec, ports, metadata)| {
        spec["ports"] = ports;
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    });
    whole.boxed()
}

/// A ConfigMap; its keys have names of fields.
pub fn config_map() -> Any {
    let text = || one([json!(""), json!("1024Mi"), json!("{\"a\": [1]}\n"), json!("ä\tö")]);
    let data = object(vec![("value", text()), ("labels", text()), ("a.json", text()), ("limits", text())]);
    let rest = object(vec![
        ("data", data),
        ("binaryData", one([json!({}), json!({"b": "AAEC/w=="})])),
        ("immutable", one([json!(false)])),
    ]);
    (rest, metadata())
        .prop_map(|(rest, metadata)| merged(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}), rest))
        .boxed()
}

/// A PodDisruptionBudget.
pub fn disruption_budget() -> Any {
    let one_of = one([
        json!({"maxUnavailable": 1}),
        json!({"maxUnavailable": "10%"}),
        json!({"minAvailable": 0}),
        json!({"minAvailable": 2}),
    ]);
    let rest = object(vec![
        (
            "selector",
            one([json!({"matchLabels": {"app": "a"}}), json!({}), json!({"matchLabels": {}, "matchExpressions": []})]),
        ),
        ("unhealthyPodEvictionPolicy", one([json!("AlwaysAllow")])),
    ]);
    (one_of, rest, metadata())
        .prop_map(|(one_of, rest, metadata)| {
            json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata, "spec": merged(one_of, rest)})
        })
        .boxed()
}

/// The manifest under a name of its own.
pub fn named(mut manifest: Value, namespace: &str, name: &str) -> Value {
    manifest["metadata"]["name"] = name.into();
    manifest["metadata"]["namespace"] = namespace.into();
    manifest
}

fn workload(kind: &str, mut spec: Value, template: Value, metadata: Value) -> Value {
    spec["selector"] = json!({"matchLabels": {"app": "a"}});
    spec["template"] = template;
    json!({"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec})
}

fn claim(size: &str) -> Value {
    json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}})
}

fn of_class(name: &str) -> Value {
    let mut claim = claim("1Gi");
    claim["spec"]["storageClassName"] = name.into();
    claim
}

fn metadata() -> Any {
    object(vec![
        ("labels", one([json!({}), json!({"app": "a"}), json!({"app": "a", "app.kubernetes.io/name": "x", "ports": ""})])),
        ("annotations", one([json!({}), json!({"example.com/note": "1"}), json!({"value": ""})])),
        ("finalizers", one([json!([])])),
        ("ownerReferences", one([json!([])])),
    ])
}

fn template() -> Any {
    let metadata = object(vec![("annotations", one([json!({}), json!({"example.com/config": "12ab"})]))]);
    let pod = object(vec![
        ("initContainers", containers("i", 0..2)),
        ("volumes", volumes()),
        (
            "tolerations",
            subset([
                json!({"key": "a", "operator": "Exists"}),
                json!({"key": "b", "value": "", "effect": "NoExecute", "tolerationSeconds": 3}),
            ]),
        ),
        ("nodeSelector", one([json!({}), json!({"disk": "ssd"}), json!({"disk": "ssd", "value": ""})])),
        ("affinity", affinity()),
        ("topologySpreadConstraints", spread()),
        ("terminationGracePeriodSeconds", number(0, 2)),
        ("automountServiceAccountToken", one([json!(false), json!(true)])),
        ("enableServiceLinks", one([json!(false), json!(true)])),
        ("shareProcessNamespace", one([json!(false)])),
        ("hostNetwork", one([json!(false)])),
        ("dnsPolicy", one([json!("ClusterFirst"), json!("Default")])),
        ("dnsConfig", one([json!({"options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}], "searches": []})])),
        (
            "hostAliases",
            subset([json!({"ip": "192.0.2.1", "hostnames": ["a"]}), json!({"ip": "192.0.2.2", "hostnames": ["b", "c"]})]),
        ),
        ("imagePullSecrets", subset([json!({"name": "s"}), json!({"name": "t"})])),
        ("readinessGates", one([json!([{"conditionType": "example.com/x"}])])),
        (
            "securityContext",
            one([
                json!({}),
                json!({"runAsUser": 0, "runAsNonRoot": false, "supplementalGroups": [1, 2]}),
                json!({"fsGroup": 1, "sysctls": []}),
            ]),
        ),
        ("serviceAccountName", one([json!("")])),
        ("priorityClassName", one([json!(""), json!("storage")])),
        ("restartPolicy", one([json!("Always")])),
        ("hostname", one([json!(""), json!("h")])),
    ]);
    (metadata, pod, containers("c", 1..3))
        .prop_map(|(mut metadata, mut pod, containers)| {
            metadata["labels"] = json!({"app": "a"});
            pod["containers"] = containers;
            if pod.get("volumes").is_none() {
                pod["volumes"] = json!([{"name": "v0", "emptyDir": {}}]);
            }
            json!({"metadata": metadata, "spec": pod})
        })
        .boxed()
}

fn containers(prefix: &'static str, many: std::ops::Range<usize>) -> Any {
    vec(container(), many)
        .prop_map(move |containers| {
            let named = containers.into_iter().enumerate();
            named.map(|(n, container)| merged(json!({"name": format!("{prefix}{n}")}), container)).collect::<Vec<_>>().into()
        })
        .boxed()
}

fn container() -> Any {
    let rest = object(vec![
        ("command", one([json!([]), json!(["run"])])),
        ("args", one([json!([]), json!(["a", "b", "$(A)"])])),
        ("env", env()),
        (
            "envFrom",
            one([json!([{"configMapRef": {"name": "c"}}, {"prefix": "", "secretRef": {"name": "s", "optional": false}}])]),
        ),
        ("ports", ports()),
        ("resources", resources()),
        ("imagePullPolicy", one([json!("Always"), json!("IfNotPresent")])),
        (
            "volumeMounts",
            one([
                json!([]),
                json!([{"name": "v0", "mountPath": "/a", "readOnly": false, "subPath": ""}, {"name": "v0", "mountPath": "/b"}]),
            ]),
        ),
        (
            "securityContext",
            one([
                json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true}),
                json!({"capabilities": {}, "seccompProfile": {"type": "RuntimeDefault"}, "runAsUser": 0}),
            ]),
        ),
        ("workingDir", one([json!(""), json!("/w")])),
        ("tty", one([json!(false), json!(true)])),
        ("stdin", one([json!(false)])),
        ("terminationMessagePolicy", one([json!("FallbackToLogsOnError")])),
        ("lifecycle", one([json!(null)])),
    ]);
    let image = one([json!("example.com/a:1"), json!("b")]);
    (image, rest).prop_map(|(image, rest)| merged(json!({"image": image}), rest)).boxed()
}

fn env() -> Any {
    subset([
        json!({"name": "A", "value": ""}),
        json!({"name": "B", "value": "1024Mi"}),
        json!({"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}),
        json!({"name": "D", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}),
        json!({"name": "E", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1024Ki"}}}),
        json!({"name": "F", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}),
        json!({"name": "G", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": false}}}),
        json!({"name": "H"}),
    ])
}

fn ports() -> Any {
    subset([
        json!({"containerPort": 53, "name": "dns"}),
        json!({"containerPort": 53, "protocol": "UDP", "name": "dns-udp", "hostPort": 0}),
        json!({"containerPort": 80, "protocol": "TCP"}),
        json!({"containerPort": 81, "name": "x"}),
    ])
}

fn resources() -> Any {
    let cpu = || one([json!("0.5"), json!("500m"), json!(1), json!("1.5"), json!("1000m"), json!("1e-1")]);
    let memory = || {
        one([
            json!("1Gi"),
            json!("1024Mi"),
            json!(1_000_000),
            json!("0.5Gi"),
            json!("128974848"),
            json!("129e6"),
            json!("123Mi"),
        ])
    };
    let limits = || object(vec![("cpu", cpu()), ("memory", memory()), ("example.com/gpu", one([json!(1), json!("2")]))]);
    prop_oneof![
        Just(json!({})),
        limits().prop_map(|limits| json!({"limits": limits.clone()})),
        limits().prop_map(|mut same| {
            if let Some(fields) = same.as_object_mut() {
                fields.remove("example.com/gpu");
            }
            json!({"limits": {}, "requests": same})
        })
    ]
    .boxed()
}

fn volumes() -> Any {
    let source = one([
        json!({"emptyDir": {}}),
        json!({"emptyDir": {"sizeLimit": "0.5Gi", "medium": ""}}),
        json!({"configMap": {"name": "c", "items": [{"key": "k", "path": "p"}], "defaultMode": 0}}),
        json!({"secret": {"secretName": "s", "optional": true}}),
        json!({"persistentVolumeClaim": {"claimName": "x", "readOnly": false}}),
        json!({"projected": {"sources": [
            {"serviceAccountToken": {"path": "t"}},
            {"configMap": {"name": "c", "items": [{"key": "k", "path": "p", "mode": 0}]}},
            {"downwardAPI": {"items": [{"path": "x", "fieldRef": {"fieldPath": "metadata.labels"}}]}}
        ]}}),
    ]);
    vec(source, 1..3)
        .prop_map(|sources| {
            let named = sources.into_iter().enumerate();
            named.map(|(n, source)| merged(json!({"name": format!("v{n}")}), source)).collect::<Vec<_>>().into()
        })
        .boxed()
}

fn affinity() -> Any {
    let term = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "a"}}});
    let required = json!({"nodeSelectorTerms": [{"matchExpressions": [{"key": "k", "operator": "In", "values": ["v"]}]}]});
    one([
        json!({}),
        json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}]}}),
        json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}, "podAffinity": {}}),
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}),
    ])
}

fn spread() -> Any {
    let term = |key: &str, when: &str| json!({"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": when, "labelSelector": {"matchLabels": {"app": "a"}}});
    subset([term("zone", "ScheduleAnyway"), term("zone", "DoNotSchedule"), term("host", "ScheduleAnyway")])
}

/// An object that has each of these fields or not.
fn object(fields: Vec<(&'static str, Any)>) -> Any {
    let (names, values): (Vec<_>, Vec<_>) =
        fields.into_iter().map(|(name, value)| (name, prop::option::weighted(0.4, value))).unzip();
    values
        .prop_map(move |values| {
            names.iter().zip(values).filter_map(|(name, value)| Some((name.to_string(), value?))).collect()
        })
        .boxed()
}

fn one<const N: usize>(values: [Value; N]) -> Any {
    select(values.to_vec()).boxed()
}

/// Some of these, in this order.
fn subset<const N: usize>(values: [Value; N]) -> Any {
    subsequence(values.to_vec(), 0..=N).prop_map(Value::from).boxed()
}

fn number(least: i64, most: i64) -> Any {
    (least..=most).prop_map(Value::from).boxed()
}

fn merged(mut one: Value, other: Value) -> Value {
    if let (Value::Object(fields), Value::Object(more)) = (&mut one, other) {
        fields.extend(more);
    }
    one
}
