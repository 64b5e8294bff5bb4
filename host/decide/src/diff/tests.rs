//! Cases as sentences; live objects are as a v1.36 API server returns them.

use super::check_applied;
use serde_json::{Value, json};

/// Checks one pair: `""` where nothing differs, else the text of the difference.
#[track_caller]
fn check(desired: Value, live: Value, expected: &str) {
    let text = check_applied(&desired, &live).err().map(|difference| difference.to_string()).unwrap_or_default();
    assert_eq!(text, expected, "\ndesired {desired:#}\nlive {live:#}");
}

/// A StatefulSet as a plugin writes it: terse, in its own spelling.
fn desired() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {"name": "a", "namespace": "default", "labels": {}, "annotations": {"x": ""}, "finalizers": []},
        "spec": {
            "replicas": 0, "serviceName": "", "minReadySeconds": 0,
            "selector": {"matchLabels": {"app": "a"}, "matchExpressions": []},
            "volumeClaimTemplates": [{
                "metadata": {"name": "data", "labels": {}},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}}
            }],
            "template": {
                "metadata": {"labels": {"app": "a"}, "annotations": {}},
                "spec": {
                    "automountServiceAccountToken": false, "hostNetwork": false, "nodeSelector": {}, "tolerations": [],
                    "securityContext": {}, "terminationGracePeriodSeconds": 0, "affinity": {}, "initContainers": [],
                    "topologySpreadConstraints": [{
                        "maxSkew": 1, "topologyKey": "h", "whenUnsatisfiable": "ScheduleAnyway",
                        "labelSelector": {"matchLabels": {"app": "a"}}
                    }],
                    "volumes": [
                        {"name": "v", "emptyDir": {}},
                        {"name": "e", "emptyDir": {"sizeLimit": "0.5Gi", "medium": ""}},
                        {"name": "p", "projected": {"sources": [
                            {"serviceAccountToken": {"path": "t"}},
                            {"configMap": {"name": "c", "items": [{"key": "k", "path": "p"}]}},
                            {"downwardAPI": {"items": [{"path": "x", "fieldRef": {"fieldPath": "metadata.name"}}]}}
                        ]}}
                    ],
                    "containers": [{
                        "name": "c", "image": "i", "command": [], "args": ["a"],
                        "env": [
                            {"name": "B", "value": ""},
                            {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                            {"name": "R", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                            {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
                        ],
                        "ports": [{"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}],
                        "resources": {"limits": {"cpu": "0.5", "memory": "1024Mi"}, "requests": {"cpu": "1e-1", "memory": 1_000_000}},
                        "securityContext": {"runAsUser": 0, "capabilities": {}},
                        "livenessProbe": {"httpGet": {"port": "x", "host": "", "httpHeaders": []}, "initialDelaySeconds": 0},
                        "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": false, "subPath": ""}],
                        "lifecycle": null
                    }]
                }
            }
        }
    })
}

/// The same after an apply, word for word from the API server.
fn live() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {
            "annotations": {"x": ""}, "creationTimestamp": "2026-11-24T07:00:22Z", "generation": 1, "name": "a",
            "namespace": "default", "resourceVersion": "216", "uid": "0c4d334c-71b6-4e23-b53a-c6015aea4713"
        },
        "spec": {
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
            "podManagementPolicy": "OrderedReady", "replicas": 0, "revisionHistoryLimit": 10,
            "selector": {"matchLabels": {"app": "a"}}, "serviceName": "",
            "template": {
                "metadata": {"labels": {"app": "a"}},
                "spec": {
                    "affinity": {}, "automountServiceAccountToken": false,
                    "containers": [{
                        "args": ["a"],
                        "env": [
                            {"name": "B"},
                            {"name": "A", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
                            {"name": "R", "valueFrom": {"resourceFieldRef": {"divisor": "0", "resource": "limits.cpu"}}},
                            {"name": "S", "valueFrom": {"secretKeyRef": {"key": "k", "name": "s"}}}
                        ],
                        "image": "i", "imagePullPolicy": "Always",
                        "livenessProbe": {
                            "failureThreshold": 3, "httpGet": {"path": "/", "port": "x", "scheme": "HTTP"}, "periodSeconds": 10,
                            "successThreshold": 1, "timeoutSeconds": 1
                        },
                        "name": "c",
                        "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80, "protocol": "UDP"}],
                        "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}, "requests": {"cpu": "100e-3", "memory": "1M"}},
                        "securityContext": {"capabilities": {}, "runAsUser": 0},
                        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                        "volumeMounts": [{"mountPath": "/v", "name": "v"}]
                    }],
                    "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
                    "securityContext": {}, "terminationGracePeriodSeconds": 0,
                    "topologySpreadConstraints": [{
                        "labelSelector": {"matchLabels": {"app": "a"}}, "maxSkew": 1, "topologyKey": "h",
                        "whenUnsatisfiable": "ScheduleAnyway"
                    }],
                    "volumes": [
                        {"emptyDir": {}, "name": "v"},
                        {"emptyDir": {"sizeLimit": "512Mi"}, "name": "e"},
                        {"name": "p", "projected": {"defaultMode": 420, "sources": [
                            {"serviceAccountToken": {"expirationSeconds": 3600, "path": "t"}},
                            {"configMap": {"items": [{"key": "k", "path": "p"}], "name": "c"}},
                            {"downwardAPI": {"items": [
                                {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}, "path": "x"}
                            ]}}
                        ]}}
                    ]
                }
            },
            "updateStrategy": {"rollingUpdate": {"partition": 0}, "type": "RollingUpdate"},
            "volumeClaimTemplates": [{
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "volumeMode": "Filesystem"},
                "status": {"phase": "Pending"}
            }]
        },
        "status": {"availableReplicas": 0, "replicas": 0}
    })
}

/// The live object with one place changed: to a value, or to nothing.
fn live_with(pointer: &str, value: Option<Value>) -> Value {
    changed(live(), pointer, value)
}

fn changed(mut object: Value, pointer: &str, value: Option<Value>) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = object.pointer_mut(parent).unwrap_or_else(|| panic!("nothing at {parent}"));
    match (parent, value) {
        (Value::Object(fields), Some(value)) => drop(fields.insert(name.into(), value)),
        (Value::Object(fields), None) => drop(fields.remove(name).unwrap()),
        (Value::Array(items), Some(value)) if name == "-" => items.push(value),
        (Value::Array(items), Some(value)) => items[name.parse::<usize>().unwrap()] = value,
        (Value::Array(items), None) => drop(items.remove(name.parse().unwrap())),
        _ => panic!("{pointer} is in a scalar"),
    }
    object
}

const CONTAINER: &str = "/spec/template/spec/containers/0";
const POD: &str = "/spec/template/spec";

#[test]
fn what_was_just_applied_is_there() {
    check(desired(), live(), "");
}

#[test]
fn an_item_of_a_list_comes_without_version_and_kind() {
    check(desired(), changed(changed(live(), "/kind", None), "/apiVersion", None), "");
}

#[test]
fn a_changed_field_differs() {
    for (pointer, value, expected) in [
        ("/spec/replicas", json!(5), "spec.replicas: wanted 0, found 5"),
        ("/metadata/annotations/x", json!("y"), r#"metadata.annotations.x: wanted "", found "y""#),
        (
            &format!("{CONTAINER}/image"),
            json!("other"),
            r#"spec.template.spec.containers[name=c].image: wanted "i", found "other""#,
        ),
        (
            &format!("{CONTAINER}/env/0/value"),
            json!("x"),
            r#"spec.template.spec.containers[name=c].env[name=B].value: wanted "", found "x""#,
        ),
        (
            &format!("{CONTAINER}/resources/limits/cpu"),
            json!("501m"),
            r#"spec.template.spec.containers[name=c].resources.limits.cpu: wanted "0.5", found "501m""#,
        ),
        (
            &format!("{CONTAINER}/livenessProbe/httpGet/port"),
            json!(80),
            r#"spec.template.spec.containers[name=c].livenessProbe.httpGet.port: wanted "x", found 80"#,
        ),
        (
            &format!("{CONTAINER}/args/0"),
            json!("b"),
            r#"spec.template.spec.containers[name=c].args[0]: wanted "a", found "b""#,
        ),
        (
            &format!("{POD}/volumes/1/emptyDir/sizeLimit"),
            json!("1Gi"),
            r#"spec.template.spec.volumes[name=e].emptyDir.sizeLimit: wanted "0.5Gi", found "1Gi""#,
        ),
    ] {
        check(desired(), live_with(pointer, Some(value)), expected);
    }
}

#[test]
fn a_removed_field_differs() {
    for (pointer, expected) in [
        ("/metadata/annotations/x", r#"metadata.annotations.x: wanted "", found nothing"#),
        (
            &format!("{CONTAINER}/resources/limits"),
            "spec.template.spec.containers[name=c].resources.limits: wanted {\"cpu\":\"0.5\",\"memory\":\"1024Mi\"}, found nothing",
        ),
        (
            &format!("{CONTAINER}/env/1"),
            "spec.template.spec.containers[name=c].env[name=A]: wanted {\"name\":\"A\",\"valueFrom\":{\"fieldRef\":{\"fieldPath\":\"metadata.name\"}}}, found nothing",
        ),
        (&format!("{POD}/volumes/0/emptyDir"), "spec.template.spec.volumes[name=v].emptyDir: wanted {}, found nothing"),
        (
            &format!("{POD}/automountServiceAccountToken"),
            "spec.template.spec.automountServiceAccountToken: wanted false, found nothing",
        ),
        (
            &format!("{CONTAINER}/securityContext/runAsUser"),
            "spec.template.spec.containers[name=c].securityContext.runAsUser: wanted 0, found nothing",
        ),
        (
            &format!("{CONTAINER}/ports/1"),
            "spec.template.spec.containers[name=c].ports[containerPort=80,protocol=UDP]: wanted {\"containerPort\":80,\"protocol\":\"UDP\"}, found nothing",
        ),
    ] {
        check(desired(), live_with(pointer, None), expected);
    }
}

#[test]
fn what_others_add_does_not_differ() {
    for (pointer, value) in [
        ("/metadata/labels", json!({"team": "blue"})),
        ("/metadata/annotations/seen", json!("yes")),
        ("/metadata/finalizers", json!(["example.com/theirs"])),
        ("/metadata/ownerReferences", json!([{"uid": "1", "name": "theirs"}])),
        ("/spec/minReadySeconds", json!(0)),
        ("/spec/template/metadata/annotations", json!({"kubectl.kubernetes.io/restartedAt": "now"})),
        (&format!("{POD}/containers/-"), json!({"name": "sidecar", "image": "s"})),
        (&format!("{POD}/initContainers"), json!([{"name": "first", "image": "s"}])),
        (&format!("{POD}/imagePullSecrets"), json!([{"name": "s"}])),
        (&format!("{POD}/priorityClassName"), json!("high")),
        (&format!("{CONTAINER}/env/-"), json!({"name": "THEIRS", "value": "x"})),
        (&format!("{CONTAINER}/volumeMounts/-"), json!({"name": "v", "mountPath": "/w"})),
        (&format!("{CONTAINER}/resources/limits/example.com~1gpu"), json!("1")),
        (&format!("{CONTAINER}/securityContext/capabilities/drop"), json!(["ALL"])),
        (&format!("{POD}/volumes/0/emptyDir/medium"), json!("Memory")),
    ] {
        check(desired(), live_with(pointer, Some(value)), "");
    }
}

#[test]
fn an_addition_to_what_has_one_owner_differs() {
    for (pointer, value, expected) in [
        (
            &format!("{POD}/nodeSelector"),
            json!({"disk": "ssd"}),
            r#"spec.template.spec.nodeSelector.disk: wanted nothing, found "ssd""#,
        ),
        (
            &format!("{POD}/tolerations"),
            json!([{"key": "k"}]),
            r#"spec.template.spec.tolerations: wanted [], found [{"key":"k"}]"#,
        ),
        (
            &format!("{CONTAINER}/command"),
            json!(["sh"]),
            r#"spec.template.spec.containers[name=c].command: wanted [], found ["sh"]"#,
        ),
        (
            &format!("{CONTAINER}/env/3/valueFrom/secretKeyRef/optional"),
            json!(true),
            "spec.template.spec.containers[name=c].env[name=S].valueFrom.secretKeyRef.optional: wanted nothing, found true",
        ),
        (
            &format!("{POD}/topologySpreadConstraints/0/labelSelector/matchLabels/more"),
            json!("x"),
            "spec.template.spec.topologySpreadConstraints[topologyKey=h,whenUnsatisfiable=ScheduleAnyway].labelSelector.matchLabels.more: \
             wanted nothing, found \"x\"",
        ),
    ] {
        check(desired(), live_with(pointer, Some(value)), expected);
    }
    let service = json!({"apiVersion": "v1", "kind": "Service", "spec": {"selector": {"app": "a"}}});
    let narrowed = json!({"spec": {"selector": {"app": "a", "more": "x"}}});
    let open = json!({"apiVersion": "v1", "kind": "Service", "spec": {"selector": {}}});
    check(open.clone(), json!({"spec": {}}), "");
    check(open, narrowed.clone(), r#"spec.selector.app: wanted nothing, found "a""#);
    check(service, narrowed, r#"spec.selector.more: wanted nothing, found "x""#);
}

#[test]
fn items_of_a_merged_list_keep_their_order_among_those_of_others() {
    let pod = |env: &[&str]| {
        let env: Vec<Value> = env.iter().map(|name| json!({"name": name})).collect();
        json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "c", "env": env}]}})
    };
    check(pod(&["A", "B"]), pod(&["X", "A", "Y", "B", "Z"]), "");
    check(
        pod(&["A", "B"]),
        pod(&["B", "X", "A"]),
        r#"spec.containers[name=c].env: wanted ["name=A","name=B"], found ["name=B","name=A"]"#,
    );
    check(pod(&["A"]), pod(&["A", "A"]), r#"spec.containers[name=c].env: wanted ["name=A"], found ["name=A","name=A"]"#);
    check(pod(&["A", "A"]), pod(&["A", "A"]), "");
    check(pod(&["A", "A"]), pod(&["A"]), r#"spec.containers[name=c].env[name=A]: wanted {"name":"A"}, found nothing"#);
    check(pod(&[]), pod(&["X", "X"]), "");
    let nameless = json!({"spec": {"containers": [{"name": "c", "env": [{}, {"name": "A"}]}]}});
    check(pod(&["A"]), nameless, "");
}

#[test]
fn ports_are_told_apart_by_protocol_and_tcp_need_not_be_said() {
    let service = |ports: Value| json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": ports}});
    let wanted =
        service(json!([{"name": "t", "port": 53}, {"name": "u", "port": 53, "protocol": "UDP", "targetPort": "dns"}]));
    check(
        wanted.clone(),
        service(json!([
            {"name": "t", "port": 53, "protocol": "TCP", "targetPort": 53},
            {"name": "u", "port": 53, "protocol": "UDP", "targetPort": "dns"}
        ])),
        "",
    );
    check(
        wanted,
        service(
            json!([{"name": "t", "port": 53, "protocol": "TCP"}, {"name": "t", "port": 53, "protocol": "UDP", "targetPort": 80}]),
        ),
        r#"spec.ports[port=53,protocol=UDP].name: wanted "u", found "t""#,
    );
}

#[test]
fn a_port_number_is_no_port_name() {
    let service =
        |port: Value| json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 1, "targetPort": port}]}});
    check(service(json!(80)), service(json!(80)), "");
    check(service(json!(80)), service(json!(80.0)), "");
    check(service(json!(80)), service(json!("80")), r#"spec.ports[port=1,protocol=TCP].targetPort: wanted 80, found "80""#);
}

#[test]
fn big_numbers_are_not_rounded() {
    let set = |n: i64| json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "spec": {"x": n}});
    check(set(i64::MAX), set(i64::MAX - 1), "spec.x: wanted 9223372036854775807, found 9223372036854775806");
}

#[test]
fn keys_of_a_config_map_are_data_whatever_they_are_called() {
    let map = |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data});
    check(map(json!({"value": ""})), map(json!({})), r#"data.value: wanted "", found nothing"#);
    check(map(json!({"divisor": "1000m"})), map(json!({"divisor": "1"})), r#"data.divisor: wanted "1000m", found "1""#);
    check(map(json!({"a.json": "1"})), map(json!({"a.json": "2"})), r#"data["a.json"]: wanted "1", found "2""#);
    check(map(json!({})), json!({}), "");
    check(map(json!({"a": null})), json!({}), "");
    check(map(json!({"a": "x"})), map(json!({"a": "x", "theirs": "y"})), "");
}

#[test]
fn text_that_looks_like_a_quantity_is_text() {
    let pod = |value: &str| json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "c", "env": [{"name": "N", "value": value}]}]}});
    check(pod("1024Mi"), pod("1Gi"), r#"spec.containers[name=c].env[name=N].value: wanted "1024Mi", found "1Gi""#);
}

#[test]
fn a_disruption_budget_keeps_its_kind_of_number() {
    let budget = |max: Value| json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "spec": {"maxUnavailable": max, "selector": {"matchLabels": {"a": "b"}}}});
    check(budget(json!(1)), budget(json!(1)), "");
    check(budget(json!(1)), budget(json!("1%")), r#"spec.maxUnavailable: wanted 1, found "1%""#);
    check(budget(json!(0)), budget(json!(null)), "spec.maxUnavailable: wanted 0, found nothing");
}

#[test]
fn owners_are_matched_by_uid_and_finalizers_as_a_set() {
    let with = |owners: Value, finalizers: Value| json!({"apiVersion": "example.com/v1", "kind": "X", "metadata": {"ownerReferences": owners, "finalizers": finalizers}});
    let ours = json!({"uid": "1", "name": "a", "controller": true});
    let theirs = json!({"uid": "2", "name": "b"});
    check(with(json!([ours]), json!(["a"])), with(json!([theirs, ours]), json!(["b", "a"])), "");
    check(
        with(json!([ours]), json!([])),
        with(json!([{"uid": "1", "name": "a", "controller": false}]), json!([])),
        "metadata.ownerReferences[uid=1].controller: wanted true, found false",
    );
    check(with(json!([]), json!(["a"])), with(json!([]), json!(["b"])), r#"metadata.finalizers: wanted "a", found ["b"]"#);
}

#[test]
fn custom_resources_are_taken_literally() {
    let custom = |spec: Value| json!({"apiVersion": "cloud.atomix.io/v1beta3", "kind": "Partition", "spec": spec});
    check(custom(json!({"partitionId": 1})), custom(json!({"partitionId": 1, "theirs": 2})), "");
    check(custom(json!({"value": ""})), custom(json!({})), r#"spec.value: wanted "", found nothing"#);
    check(custom(json!({"containers": []})), custom(json!({})), "spec.containers: wanted [], found nothing");
    check(
        custom(json!({"volumes": [{"name": "a"}]})),
        custom(json!({"volumes": [{"name": "b"}, {"name": "a"}]})),
        r#"spec.volumes: wanted [{"name":"a"}], found [{"name":"b"},{"name":"a"}]"#,
    );
    check(custom(json!({"selector": {"a": "b"}})), custom(json!({"selector": {"a": "b", "c": "d"}})), "");
}

#[test]
fn null_wants_nothing() {
    let set = |spec: Value| json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "spec": spec});
    check(set(json!({"replicas": null})), set(json!({})), "");
    check(set(json!({"replicas": null})), set(json!({"replicas": 1})), "");
    check(set(json!({"replicas": 1})), set(json!({"replicas": null})), "spec.replicas: wanted 1, found nothing");
}

#[test]
fn what_is_of_another_shape_differs_and_stops_nobody() {
    let set = |spec: Value| json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "spec": spec});
    check(set(json!({"replicas": 1})), set(json!({"replicas": {}})), "spec.replicas: wanted 1, found {}");
    check(
        set(json!({"volumes": [1]})),
        set(json!({"volumes": [{"name": "a"}]})),
        r#"spec.volumes[0]: wanted 1, found {"name":"a"}"#,
    );
    check(
        set(json!({"volumes": [{}]})),
        set(json!({"volumes": [{}, {}]})),
        r#"spec.volumes: wanted ["name="], found ["name=","name="]"#,
    );
    check(json!(1), json!({}), ": wanted 1, found {}");
}

#[test]
fn a_long_value_is_cut_in_the_text() {
    let map = |text: String| json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": text}});
    let text = check_applied(&map("ä".repeat(1000)), &map("ö".into())).unwrap_err().to_string();
    assert!(text.chars().count() < 200 && text.ends_with("…, found \"ö\""), "{text}");
}
