//! What holds for the plans of all databases; single plans are cases in `tests/golden`.

use atomix_sdk::testing::{self, Planned, ready};
use atomix_sdk::{Value, json};

use super::plugin;

fn request(partitions: u32, spec: &Value) -> testing::Request {
    testing::request("EtcdStorageClass", "kv", [partitions, partitions], spec)
}

fn planned(partitions: u32, spec: &Value, observed: Vec<testing::ObservedObject>) -> Planned {
    testing::planned(&plugin(), testing::Request { observed, ..request(partitions, spec) })
}

fn with_volume(mut spec: Value) -> Value {
    spec["volumeClaimTemplate"] =
        json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    spec
}

/// Paths and messages of what is wrong with a spec.
fn wrong(spec: &Value) -> Vec<String> {
    let answer = plugin().validate("EtcdStorageClass", &spec.to_string());
    answer.err().into_iter().flatten().map(|error| format!("{}: {}", error.path, error.message)).collect()
}

#[test]
fn a_growing_database_leaves_every_cluster_as_it_is() {
    let spec = with_volume(json!({}));
    let mut before = planned(1, &spec, Vec::new());
    for partitions in 2..=9 {
        let after = planned(partitions, &spec, before.live(plugin()));
        assert_eq!(after.objects[..before.objects.len()], before.objects);
        assert_eq!(after.objects.len(), 5 * partitions as usize);
        before = after;
    }
}

#[test]
fn partitions_never_share_a_cluster() {
    for each in 1..=5 {
        let request = testing::request("EtcdStorageClass", "kv", [5, each], &json!({}));
        let plan = testing::planned(&plugin(), request);
        assert_eq!(plan.objects, planned(5, &json!({}), Vec::new()).objects, "{each} in a cluster");
    }
}

#[test]
fn what_runs_is_planned_again_whatever_edit_of_the_class_follows() {
    let started = with_volume(json!({"peerTls": {"secretName": "peers"}}));
    let first = planned(2, &started, Vec::new());
    let mut larger = started.clone();
    larger["volumeClaimTemplate"]["spec"]["resources"]["requests"]["storage"] = json!("2Gi");
    let mut faster = started.clone();
    faster["storageClassName"] = json!("fast");
    let mut plain = started.clone();
    plain["peerTls"] = json!(null);
    let mut more = started.clone();
    more["replicas"] = json!(5);
    let without = json!({"peerTls": {"secretName": "peers"}});
    for (edited, field) in [
        (larger, "spec.volumeClaimTemplate.spec.resources.requests.storage"),
        (faster, "spec.storageClassName"),
        (plain, "spec.peerTls"),
        (more, "spec.replicas"),
        (without, "spec.volumeClaimTemplate"),
    ] {
        for seen in [first.live(plugin()), first.claims(plugin())] {
            // A StatefulSet that is gone is not made again with a Secret that nobody names, which no plan may mount, nor with claims that
            // are smaller than what is asked for.
            let is_started = seen.iter().any(|live| live.kind == "StatefulSet");
            let why_not = match field {
                _ if is_started => None,
                "spec.peerTls" => Some("SecretNotNamed"),
                "spec.volumeClaimTemplate.spec.resources.requests.storage" => Some("ClaimOfAnother"),
                _ => None,
            };
            let expected = first.objects.iter().filter(|(id, _)| !(why_not.is_some() && id.starts_with("members-")));
            let again = planned(2, &edited, seen);
            assert!(again.objects.iter().eq(expected), "after an edit to {edited}");
            let problems: Vec<_> = again.plan.partitions.iter().filter_map(|state| state.problem.as_ref()).collect();
            for (code, words) in [("SecretNotNamed", "peers"), ("ClaimOfAnother", "not for 2Gi")] {
                let is_named = problems.iter().any(|problem| problem.code == code && problem.message.contains(words));
                assert_eq!(is_named, why_not == Some(code), "{problems:?}");
            }
            let fields: Vec<_> = again.plan.unsupported.iter().map(|change| change.field.as_str()).collect();
            let of_volumes = field.starts_with("spec.volumeClaimTemplate") || field == "spec.storageClassName";
            assert_eq!(fields, if of_volumes && !is_started { vec![] } else { vec![field] });
        }
    }
    assert_eq!(planned(2, &started, first.live(plugin())).plan.unsupported, []);
}

#[test]
fn a_partition_that_comes_back_takes_its_volumes_up_with_the_members_it_had() {
    let three = planned(3, &with_volume(json!({})), Vec::new());
    let five = with_volume(json!({"replicas": 5}));
    let kept: Vec<_> = three.claims(plugin()).into_iter().filter(|claim| claim.name.starts_with("data-kv-3-")).collect();
    assert_eq!(kept.len(), 3);
    let again = planned(3, &five, kept);
    assert_eq!(again.object("members-3"), three.object("members-3"));
    assert_eq!(again.object("members-1")["spec"]["replicas"], 5, "one that never was is as in the class");
}

#[test]
fn a_quorum_decides() {
    for replicas in [1, 3, 5, 7, 9] {
        for up in 0..=replicas {
            let pods = (0..up).map(|at| ready(&format!("kv-1-{at}"))).collect();
            let state = planned(1, &json!({"replicas": replicas}), pods).plan.partitions.remove(0);
            assert_eq!(state.ready, 2 * up > replicas, "{up} of {replicas}");
            assert_eq!(state.problem.is_none(), up == replicas, "{up} of {replicas}");
        }
    }
}

#[test]
fn every_member_names_all_members_and_no_flag_stands_twice() {
    let spec =
        json!({"replicas": 5, "clientTls": {"secretName": "a", "clientCertAuth": true}, "peerTls": {"secretName": "b"}});
    let plan = planned(1, &spec, Vec::new());
    let container = &plan.object("members-1")["spec"]["template"]["spec"]["containers"][0];
    let flags: Vec<(&str, &str)> = container["args"]
        .as_array()
        .expect("flags")
        .iter()
        .filter_map(|flag| flag.as_str()?.strip_prefix("--")?.split_once('='))
        .collect();
    let (_, all) = flags.iter().find(|(flag, _)| *flag == "initial-cluster").expect("members are named");
    let expected: Vec<String> =
        (0..5).map(|at| format!("kv-1-{at}=https://kv-1-{at}.kv-1-hs.default.svc.cluster.local:2380")).collect();
    assert_eq!(*all, expected.join(","));
    for (at, (flag, _)) in flags.iter().enumerate() {
        assert!(!flags[..at].iter().any(|(other, _)| other == flag), "--{flag} stands twice");
        let variable = format!("ETCD_{}", flag.to_uppercase().replace('-', "_"));
        assert!(crate::objects::env_rule(&variable).is_some(), "a class can set {variable}, which is given as a flag");
    }
}

#[test]
fn variables_tune_members_and_do_nothing_else() {
    let moving = "DATA_DIR WAL_DIR CONFIG_FILE NAME FORCE_NEW_CLUSTER UNSAFE_NO_FSYNC DISCOVERY DISCOVERY_SRV DISCOVERY_ENDPOINTS \
        INITIAL_CLUSTER INITIAL_CLUSTER_STATE INITIAL_CLUSTER_TOKEN INITIAL_ADVERTISE_PEER_URLS ADVERTISE_CLIENT_URLS \
        LISTEN_PEER_URLS LISTEN_CLIENT_URLS LISTEN_CLIENT_HTTP_URLS LISTEN_METRICS_URLS PROXY AUTO_TLS PEER_AUTO_TLS CERT_FILE KEY_FILE \
        TRUSTED_CA_FILE CLIENT_CERT_AUTH PEER_CERT_FILE PEER_CLIENT_CERT_AUTH PEER_TRUSTED_CA_FILE STRICT_RECONFIG_CHECK \
        AUTO_COMPACTION_MODE QUOTA_BACKEND_BYTES V2_DEPRECATION ENABLE_V2 EXPERIMENTAL_ENABLE_V2V3 EXPERIMENTAL_SET_MEMBER_LOCALADDR \
        SOMETHING_OF_ETCD_4";
    for flag in moving.split_whitespace() {
        let errors = wrong(&json!({"env": [{"name": format!("ETCD_{flag}"), "value": "x"}]}));
        assert_eq!(errors.len(), 1, "ETCD_{flag}: {errors:?}");
        assert!(errors[0].starts_with("spec.env[0].name: ETCD_"), "{errors:?}");
    }
    let tuning = "ETCD_HEARTBEAT_INTERVAL ETCD_ELECTION_TIMEOUT ETCD_SNAPSHOT_COUNT ETCD_LOG_LEVEL ETCD_LOGGER ETCD_METRICS \
        ETCD_MAX_REQUEST_BYTES ETCD_MAX_WALS ETCD_GRPC_KEEPALIVE_TIMEOUT ETCD_CIPHER_SUITES ETCD_BACKEND_BATCH_LIMIT ETCD_CORS \
        ETCD_EXPERIMENTAL_WARNING_APPLY_DURATION ETCD_EXPERIMENTAL_CORRUPT_CHECK_TIME ETCD_FEATURE_GATES ETCD_PRE_VOTE GOMAXPROCS TZ \
        ETCDCTL_API";
    for variable in tuning.split_whitespace() {
        assert_eq!(wrong(&json!({"env": [{"name": variable, "value": "x"}]})), [""; 0], "{variable}");
    }
}

#[test]
fn an_edit_of_the_spelling_changes_nothing() {
    let flags = |spec: &Value| planned(1, spec, Vec::new()).object("members-1")["spec"]["template"].clone();
    for (one, other) in [
        (json!({"autoCompactionRetention": "1h"}), json!({"autoCompactionRetention": "60m"})),
        (
            json!({"autoCompactionRetention": "1h30m"}),
            json!({"autoCompactionRetention": "1.5h", "autoCompactionMode": "periodic"}),
        ),
        (
            json!({"autoCompactionRetention": "1000", "autoCompactionMode": "revision"}),
            json!({"autoCompactionRetention": "01000", "autoCompactionMode": "revision"}),
        ),
        (
            json!({}),
            json!({"env": [], "tolerations": [], "clientTls": null, "resources": {}, "nodeSelector": {}, "priorityClassName": "", "imagePullPolicy": "IfNotPresent", "replicas": 3}),
        ),
    ] {
        assert_eq!(flags(&one), flags(&other), "{one} and {other}");
    }
}

#[test]
fn each_wrong_field_is_named_with_what_is_accepted() {
    let none = [""; 0];
    assert_eq!(wrong(&json!({})), none);
    assert_eq!(
        wrong(&with_volume(
            json!({"autoCompactionMode": "revision", "autoCompactionRetention": "1000", "storageClassName": "x"})
        )),
        none
    );
    let errors = wrong(&json!({
        "replicas": 4, "image": "", "autoCompactionMode": "revision", "autoCompactionRetention": "1h", "quotaBackendBytes": 0,
        "clientTls": {"secretName": ""}, "peerTls": {"secretName": "A"}, "storageClassName": "fast", "nodeSelector": [],
        "env": [{"name": "ETCD_NAME"}, {"value": "x"}, {"name": "A"}, {"name": "A"}], "resources": {"cpu": 1},
        "imagePullSecrets": "x", "priorityClassName": 1
    }));
    let paths: Vec<&str> = errors.iter().filter_map(|error| error.split(':').next()).collect();
    assert_eq!(
        paths,
        [
            "spec.replicas",
            "spec.image",
            "spec.autoCompactionRetention",
            "spec.quotaBackendBytes",
            "spec.clientTls.secretName",
            "spec.peerTls.secretName",
            "spec.nodeSelector",
            "spec.imagePullSecrets",
            "spec.priorityClassName",
            "spec.resources.cpu",
            "spec.env[0].name",
            "spec.env[1].name",
            "spec.env[3].name",
            "spec.storageClassName"
        ]
    );
}
