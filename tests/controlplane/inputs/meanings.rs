//! What no schema says of the fields of Databases and classes: values that are taken, values that are refused, and fields that running
//! storage keeps. From the plugins' pages and docs/operate.md#edits. Knows no cluster.

use serde_json::{Value, json};

use super::places::Put;

/// What becomes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is taken, and becomes what a fresh controller makes of it.
    Taken,
    /// It is taken, and pods wait for what is not there; it can be undone.
    Waits,
    /// It is refused, or not taken, by the field's name; never silently.
    Refused,
    /// One of these.
    Either,
}

/// What an edit of a field may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All that is made from it.
    Everything,
    /// All that is made from it; but what was there before counts, so that a fresh controller makes something else.
    Remembered,
    /// Nothing that runs: it counts when a database is created, or for nobody.
    Nothing,
}

/// What an edit of the field of an object of this kind may change.
pub fn reach(kind: &str, fields: &[&str]) -> Reach {
    match (kind, fields) {
        ("Database", ["spec", "partitions" | "clusters"]) => Reach::Everything,
        ("Database", _) => Reach::Nothing, // the reference, how partitions share clusters, annotations
        (_, ["spec", "volumeClaimTemplate" | "storageClassName", ..]) => Reach::Nothing,
        ("RaftStorageClass", ["spec", "replicas" | "partitionsPerCluster" | "clusters"]) => Reach::Nothing,
        ("EtcdStorageClass", ["spec", "replicas"]) => Reach::Nothing,
        // The one that the members were started with is remembered.
        ("EtcdStorageClass", ["spec", "peerTls", ..]) => Reach::Remembered,
        // So is the newest version that ran.
        ("EtcdStorageClass" | "RaftStorageClass", ["spec", "image"]) => Reach::Remembered,
        _ => Reach::Everything,
    }
}

/// Fields that a message may name in place of another, since the two are judged together.
pub fn related(field: &str) -> &'static [&'static str] {
    match field {
        "autoCompactionMode" => &["autoCompactionRetention"],
        "clusters" | "partitions" => &["clusters", "partitions", "partitionsPerCluster"],
        "securityContext" | "securityContextUnset" => &["securityContext", "securityContextUnset"],
        "storageClassName" | "volumeClaimTemplate" => &["storageClassName", "volumeClaimTemplate"],
        "storage" | "template" => &["storage", "storageClass"],
        "labels" | "annotations" => &["labels", "annotations"],
        _ => &[],
    }
}

/// Values of a field of an object of this kind, with what becomes of each; `spec` is what stands there now.
pub fn values(kind: &str, fields: &[&str], spec: &Value) -> Vec<(Put, Verdict)> {
    let (taken, waits, refused) = match (kind, fields) {
        ("Database", _) => database(fields),
        (_, ["spec", "volumeClaimTemplate" | "storageClassName", ..]) => return volumes(&fields[1..], spec),
        (_, ["spec", rest @ ..]) => match of_kind(kind, rest) {
            known if known != Known::default() => known,
            _ => of_every_class(kind, rest),
        },
        _ => Known::default(),
    };
    let all = [(taken, Verdict::Taken), (waits, Verdict::Waits), (refused, Verdict::Refused)];
    all.into_iter().flat_map(|(values, verdict)| values.into_iter().map(move |value| (Some(value), verdict))).collect()
}

/// Values that are taken, taken and waited for, refused.
type Known = (Vec<Value>, Vec<Value>, Vec<Value>);

fn known<const T: usize, const R: usize>(taken: [Value; T], refused: [Value; R]) -> Known {
    (taken.into(), Vec::new(), refused.into())
}

fn database(fields: &[&str]) -> Known {
    match fields {
        ["spec", "partitions" | "clusters"] => known([json!(1), json!(2), json!(3), json!(4)], [json!(0), json!(1025)]),
        ["spec", "partitionsPerCluster"] | ["spec", "template", "spec", "partitions"] => known([], [json!(7), json!(0)]),
        ["spec", "storageClass", field] | ["spec", "template", "spec", "storage", field] => match *field {
            "kind" => known([], [json!("OtherStorageClass"), json!("")]),
            "name" => known([], [json!("other"), json!("")]),
            "group" => known([json!(""), json!("storage.cloud.atomix.io")], [json!("example.com")]),
            "version" => known([json!("v1beta1")], [json!("v9")]),
            "namespace" => known([json!("")], [json!("kube-system")]),
            _ => Known::default(),
        },
        ["metadata", "labels"] => known(
            [
                json!({"team": "storage"}),
                json!({"app.kubernetes.io/name": "shop", "argocd.argoproj.io/instance": "shop"}),
                json!({"example.com/tier": "gold", "tier": ""}),
                json!({"a".repeat(63): "x".repeat(63)}),
                json!({"app": "other", "database": "other"}),
            ],
            [json!({"a b": "c"}), json!({"a": "b c"}), json!({"a": "x".repeat(64)}), json!({"a": 5}), json!({"": "a"})],
        ),
        ["metadata", "annotations"] => known(
            [
                json!({"cloud.atomix.io/copy-labels": ""}),
                json!({"cloud.atomix.io/copy-labels": "*, /*, a b\u{e4}\n,,"}),
                json!({"cloud.atomix.io/accept": "0123456789abcdef"}),
                json!({"cloud.atomix.io/accept": ""}),
                json!({"cloud.atomix.io/adopt": "orphans"}),
                json!({"cloud.atomix.io/adopt": "everything"}),
                json!({"cloud.atomix.io/disposable": "true", "cloud.atomix.io/hash": "0", "cloud.atomix.io/asked-by-class": "x"}),
                json!({"example.com/note": "x".repeat(5000)}),
            ],
            [json!({"cloud.atomix.io/accept": 5}), json!({"a b": "c"}), json!({"": ""})],
        ),
        _ => Known::default(),
    }
}

/// Volumes of running storage stay what they are, in whatever words that is said.
fn volumes(fields: &[&str], spec: &Value) -> Vec<(Put, Verdict)> {
    let has = !spec["volumeClaimTemplate"].is_null();
    let template =
        |storage: &str| json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}}});
    let same = if has { Verdict::Taken } else { Verdict::Refused };
    let put = |value: Value, verdict| (Some(value), verdict);
    match fields {
        ["volumeClaimTemplate"] => vec![
            put(template("1024Mi"), same),
            put(template("1073741824"), same),
            put(template("2Gi"), Verdict::Refused),
            put(template("1Ki"), Verdict::Refused),
            put(template("0"), Verdict::Refused),
            put(template("1Zi"), Verdict::Refused),
            put(json!({"spec": {}}), Verdict::Refused),
            put(json!({}), Verdict::Refused),
            (None, Verdict::Refused),
        ],
        [.., "storage"] => vec![
            put(json!("1024Mi"), Verdict::Taken),
            put(json!("1.5Gi"), Verdict::Refused),
            put(json!("512Mi"), Verdict::Refused),
            put(json!("big"), Verdict::Refused),
            put(json!(0), Verdict::Refused),
        ],
        ["storageClassName"] => ["fast", "", "A b"].map(|name| put(json!(name), Verdict::Refused)).into(),
        _ => Vec::new(),
    }
}

/// Fields that one kind of class has.
fn of_kind(kind: &str, fields: &[&str]) -> Known {
    let duration = || {
        let taken = ["7s", "500ms", "1h", "1ns", "1.5s", "2m30s"].map(Value::from);
        known(taken, ["", "0s", "-1s", "1d", "soon", "90", "999999999h"].map(Value::from))
    };
    match (kind, fields) {
        ("RaftStorageClass", ["replicas"]) => known([], [2, 5, 9, 10, 0].map(Value::from)),
        ("RaftStorageClass", ["electionTimeout" | "heartbeatInterval" | "snapshotInterval"]) => duration(),
        ("RaftStorageClass", ["snapshotThreshold"]) => {
            known([json!(1), json!(5000), json!(i64::MAX)], [json!(0), json!(-1)])
        }
        ("RaftStorageClass", ["image"]) => known(
            ["atomix/raft-storage-node:v0.5.4", "atomix/raft-storage-node:v0.6.0", "atomix/raft-storage-node:latest"]
                .map(Value::from),
            ["", "a b", "a\tb"].map(Value::from),
        ),
        ("EtcdStorageClass", ["replicas"]) => known([], [2, 4, 5, 9, 10, 0].map(Value::from)),
        ("EtcdStorageClass", ["autoCompactionRetention"]) => {
            known([], ["", "1d", "soon", "-1h", "1.5", "99999999999999999999"].map(Value::from))
        }
        ("EtcdStorageClass", ["quotaBackendBytes"]) => {
            known([json!(1), json!(1_u64 << 33), json!(i64::MAX)], [json!(0), json!(-1)])
        }
        ("EtcdStorageClass", ["clientTls"]) => known(
            [json!({"secretName": "a"}), json!({"secretName": "a.b-c", "clientCertAuth": true})],
            [json!({}), json!({"secretName": "A_b"}), json!({"secretName": ""}), json!({"secretName": "x".repeat(254)})],
        ),
        ("EtcdStorageClass", ["clientTls" | "peerTls", "secretName"]) => known([], [json!("A_b"), json!(""), json!("a/b")]),
        ("EtcdStorageClass", ["image"]) => known(
            ["quay.io/coreos/etcd:v3.6.9", "quay.io/coreos/etcd:v3.7.0", "quay.io/coreos/etcd:latest"].map(Value::from),
            ["", "a b", "quay.io/coreos/etcd:v3.5.21", "quay.io/coreos/etcd:v3.8.0"].map(Value::from),
        ),
        ("ValkeyStorageClass", ["replicas"]) => known([json!(0), json!(1), json!(3)], [json!(9), json!(-1)]),
        ("ValkeyStorageClass", ["config"]) => known(
            [
                json!({}),
                json!({"maxmemory": "100mb"}),
                json!({"hz": "20", "maxmemory-policy": "allkeys-lru"}),
                json!({"maxmemory": "100Mi"}), // refused by the server alone, which is played here
            ],
            [
                json!({"dir": "/x"}),
                json!({"port": "1"}),
                json!({"appendonly": "no"}),
                json!({"Maxmemory": "1"}),
                json!({"hz": ""}),
                json!({"hz": "20\ndir /x"}),
                json!({"": "x"}),
                json!({"hz": 20}),
            ],
        ),
        ("ValkeyStorageClass", ["persistence", "snapshots"]) => known(
            [
                json!([]),
                json!([{"seconds": 60, "changes": 1}]),
                json!([{"seconds": 1, "changes": 1}, {"seconds": 900, "changes": 9}]),
            ],
            [json!([{"seconds": 0, "changes": 1}]), json!([{"seconds": 60}]), json!([{}]), json!("60 1")],
        ),
        ("ValkeyStorageClass", ["password"]) => known(
            [json!({"secretName": "pw"}), json!({"secretName": "pw", "key": "other.key"})],
            [
                json!({}),
                json!({"secretName": "A_b"}),
                json!({"secretName": "pw", "key": "a/b"}),
                json!({"secretName": "pw", "key": ""}),
            ],
        ),
        ("ValkeyStorageClass", ["image"]) => {
            known(["valkey/valkey:8.1.9", "valkey/valkey:latest"].map(Value::from), ["", "a b"].map(Value::from))
        }
        ("RedisStorageClass", ["backend", "replicas"]) => known([json!(1), json!(2), json!(3)], [json!(0), json!(10)]),
        (_, ["imagePullPolicy"] | ["proxy" | "backend", "imagePullPolicy"]) => {
            known(["Always", "Never"].map(Value::from), [json!("Sometimes")])
        }
        (_, ["image"] | ["proxy" | "backend", "image"]) => {
            known(["registry:5000/a/b:v9", "a@sha256:0123"].map(Value::from), ["", "a b", "a\n"].map(Value::from))
        }
        _ => Known::default(),
    }
}

/// Fields that every class has for its pods, as they stand in pods.
fn of_every_class(kind: &str, fields: &[&str]) -> Known {
    match fields {
        ["imagePullSecrets"] => known([json!([{"name": "pull"}]), json!([])], [json!([{"nme": "x"}])]),
        ["nodeSelector"] => (
            vec![json!({}), json!({"kubernetes.io/os": "linux"})],
            vec![json!({"place": "nowhere"})],
            vec![json!({"a b": "c"}), json!({"a": 5}), json!({"": "a"})],
        ),
        ["tolerations"] => known(
            [
                json!([]),
                json!([{"key": "a", "operator": "Exists"}]),
                json!([{"key": "b", "effect": "NoSchedule", "value": "c"}]),
            ],
            [
                json!([{"key": "a", "operator": "Sometimes"}]),
                json!([{"key": "a", "operator": "Exists", "value": "b"}]),
                json!([{"key": "a", "operator": "Exists", "bogus": 1}]),
                json!([{"operator": "Equal", "value": "b"}]),
            ],
        ),
        ["affinity"] => known(
            [
                json!({}),
                json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 1, "preference": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}]}}),
            ],
            [
                json!({"bogus": {}}),
                json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}),
                json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": ""}]}}),
                json!({"nodeAffinity": 5}),
            ],
        ),
        ["securityContext"] => known(
            [json!({"runAsUser": 2000}), json!({"supplementalGroups": [1, 2]}), json!({"fsGroup": null}), json!({})],
            [
                json!({"runAsUser": -1}),
                json!({"runAsUser": "x"}),
                json!({"bogus": 1}),
                json!({"seccompProfile": {"type": "Unconfined"}}),
                json!({"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}),
                json!({"fsGroupChangePolicy": "Sometimes"}),
            ],
        ),
        ["securityContextUnset"] => {
            known([json!([]), json!(["runAsUser"]), json!(["fsGroup", "runAsGroup"])], [json!(["bogus"])])
        }
        ["priorityClassName"] => (vec![json!("gold"), json!("")], vec![json!("nowhere")], vec![json!("A b")]),
        ["env"] => {
            let reserved = match kind {
                "EtcdStorageClass" => ["POD_NAME", "ETCD_DATA_DIR"],
                "ValkeyStorageClass" | "RedisStorageClass" => ["REDISCLI_AUTH", "HOSTNAME"],
                _ => ["NODE_ID"; 2],
            };
            known(
                [
                    json!([]),
                    json!([{"name": "TZ", "value": "UTC"}]),
                    json!([{"name": "B", "value": ""}, {"name": "A"}]),
                    json!([{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]),
                ],
                [
                    json!([{}]),
                    json!([{"name": ""}]),
                    json!([{"name": "A", "value": 5}]),
                    json!([{"name": "A"}, {"name": "A"}]),
                    json!([{"name": "A=B"}]),
                    json!([{"name": "IP", "valueFrom": {}}]),
                    json!([{"name": "A", "value": "b", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]),
                    json!([{"name": reserved[0], "value": "x"}]),
                    json!([{"name": reserved[1], "value": "x"}]),
                ],
            )
        }
        ["resources"] => known(
            [
                json!({}),
                json!({"requests": {"cpu": "100m", "memory": "1Ki"}}),
                json!({"limits": {"cpu": "1.5", "memory": "1Gi"}}),
                json!({"requests": {"cpu": 0}}),
                json!({"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}),
            ],
            [
                json!({"cpu": 1}),
                json!({"limits": {"memory": "1Zi"}}),
                json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
                json!({"requests": {"cpu": "-1"}}),
                json!({"requests": {"bogus": "1"}}),
                json!({"limits": {"memory": ""}}),
                json!({"claims": [{"name": "x"}]}),
            ],
        ),
        ["env", "name"] => known([json!("TZ")], [json!(""), json!("A=B")]),
        ["env", "valueFrom"] => known([], [json!({}), json!({"fieldRef": null})]),
        ["env", "value"] => known([json!(""), json!("a\nb\u{e4}$(X)")], [json!(5), json!({})]),
        _ => Known::default(),
    }
}
