//! Partitions come and go; those that exist stay where they are, and data stays when they go.

use std::collections::BTreeMap;

use harness::conditions::has;
use harness::controller::USER;
use harness::fixture::shared_fixture;
use harness::manifests::Manifests;
use serde_json::{Value, json};

fn with_volumes() -> Manifests {
    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let template = json!({"metadata": {"name": "data"}, "spec": claim});
    Manifests::raft(json!({"replicas": 1, "partitionsPerCluster": 2, "volumeClaimTemplate": template}))
}

fn uids(objects: &[Value]) -> Vec<(String, String)> {
    let text = |object: &Value, field: &str| object["metadata"][field].as_str().unwrap().to_owned();
    objects.iter().map(|object| (text(object, "name"), text(object, "uid"))).collect()
}

#[tokio::test]
async fn growing_adds_clusters_and_touches_none_that_exist_and_shrinking_keeps_volumes() {
    let ns = shared_fixture().await.namespace("scale").await;
    ns.create_ready(&with_volumes().database("db", 2)).await;
    let before = (uids(&ns.get("pods").await), ns.one("statefulset/db-1").await["metadata"]["generation"].clone());

    ns.kubectl(["scale", "database/db", "--replicas=4"]).await;
    ns.until("database/db", "four partitions are ready", |found| {
        found
            .iter()
            .any(|db| db["status"]["ready"] == "4/4" && db["status"]["clusters"] == 2 && db["status"]["phase"] == "Ready")
    })
    .await;
    let pods = uids(&ns.get("pods").await);
    assert!(before.0.iter().all(|pod| pods.contains(pod)), "no pod was restarted: {before:?}, {pods:?}");
    assert_eq!(ns.one("statefulset/db-1").await["metadata"]["generation"], before.1, "the first cluster was not touched");
    assert_eq!(pods.len(), 2);
    let claims = uids(&ns.get("persistentvolumeclaims").await);
    assert_eq!(claims.len(), 2);

    ns.kubectl(["scale", "database/db", "--replicas=2"]).await;
    ns.wait_gone("statefulset/db-2").await;
    ns.wait_gone("partition/db-3").await;
    ns.wait_gone("service/db-4").await;
    ns.until("database/db", "two partitions are left", |found| found.iter().any(|db| db["status"]["ready"] == "2/2")).await;
    assert_eq!(uids(&ns.get("persistentvolumeclaims").await), claims, "volumes stay");
    assert_eq!(uids(&ns.get("pods").await), before.0, "the first partitions live on in their cluster");
    let owners: Vec<_> =
        ns.get("persistentvolumeclaims").await.iter().map(|claim| claim["metadata"]["ownerReferences"].clone()).collect();
    assert!(owners.iter().all(Value::is_null), "{owners:?}");
}

#[tokio::test]
async fn a_scale_takes_no_more_requests_than_there_are_objects() {
    let fixture = shared_fixture().await;
    let mark = fixture.mark().await;
    let ns = fixture.namespace("scale-requests").await;
    let partitions = 10;
    ns.create_ready(&with_volumes().database("db", json!({"partitions": partitions, "partitionsPerCluster": 1}))).await;
    let created = ["partitions", "statefulsets", "services", "poddisruptionbudgets"];
    let mut objects = ns.get("configmaps").await.len() - 1;
    for kind in created {
        objects += ns.get(kind).await.len();
    }
    assert!(objects >= 50, "{objects} objects");
    let requests = fixture.requests_since(mark).await;
    let ours = requests.iter().filter(|r| r.user == USER && r.namespace == "scale-requests" && r.verb != "watch");
    let mut counts = BTreeMap::<(&str, &str), usize>::new();
    for request in ours {
        let name = if request.resource == "events" { "" } else { &request.name };
        *counts.entry((&request.resource, name)).or_default() += 1;
    }
    // How many states are seen of a partition and of the database depends on how busy the machine is; of each there is one write at most.
    let most = |resource: &str| counts.iter().filter(|((it, _), _)| *it == resource).map(|(_, count)| *count).max();
    assert!(most("partitions/status") <= Some(5), "no set, no pod, a pod, ready, settled: {counts:?}");
    assert!(most("databases/status") <= Some(partitions + 3), "one for each partition that is ready: {counts:?}");
    assert!(most("events") <= Some(5), "{counts:?}");
    counts.retain(|(resource, _), _| !resource.ends_with("/status") && *resource != "events");
    assert!(counts.values().all(|count| *count == 1), "each object takes one request: {counts:?}");
    assert_eq!(counts.len(), objects, "{counts:?}");
}

fn autoscaler(version: &str, name: &str) -> String {
    json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": {"apiVersion": format!("cloud.atomix.io/{version}"), "kind": "Database", "name": name},
            "minReplicas": 3,
            "maxReplicas": 4,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}],
        },
    })
    .to_string()
}

#[tokio::test]
async fn autoscalers_find_a_databases_pods_and_no_others_in_both_versions() {
    let ns = shared_fixture().await.namespace("autoscale").await;
    ns.create(with_volumes().database("db", 2)).await;
    // Another that shares the class; and one whose name is so long that its label is cut.
    let long = format!("d{}", "b".repeat(46));
    for name in ["other", &long] {
        ns.create(Manifests::on("RaftStorageClass", "raft").database(name, 2)).await;
    }
    for (version, name) in [("v1beta3", "db"), ("v1beta2", "other"), ("v1beta3", &long)] {
        ns.wait(&format!("database/{name}"), "Ready").await;
        let path = format!("/apis/cloud.atomix.io/{version}/namespaces/autoscale/databases/{name}/scale");
        let scale: Value = serde_json::from_str(&ns.kubectl(["get", "--raw", &path]).await).unwrap();
        let selector = scale["status"]["selector"].as_str().unwrap_or_default().to_owned();
        assert!(!selector.is_empty(), "{scale}");
        let selected = ns.kubectl(["get", "pods", "-o", "name", "--selector", &selector]).await;
        let of_its_sets = |pod: &&str| pod.starts_with(&format!("pod/{name}-"));
        assert_eq!(selected.lines().filter(of_its_sets).count(), selected.lines().count(), "{selected}");
        let all = ns.kubectl(["get", "pods", "-o", "name"]).await;
        assert_eq!(selected.lines().count(), all.lines().filter(of_its_sets).count(), "{selected} of {all}");
    }

    // Real autoscalers: they raise what is below their minimum, and then look for metrics of these pods, which there are none of here.
    // Whatever version they are pointed at, they scale the one that the API prefers.
    let scaled = [("v1beta3", "db"), ("v1beta2", "other")];
    for (version, name) in scaled {
        ns.create(&autoscaler(version, name)).await;
    }
    for (_, name) in scaled {
        ns.until(&format!("database/{name}"), "it is as large as it must at least be", |found| {
            found.iter().any(|it| it["spec"]["partitions"] == 3)
        })
        .await;
    }
    for (_, name) in scaled {
        ns.until(&format!("horizontalpodautoscaler/{name}"), "it requests the metrics of its pods", |found| {
            found.iter().any(|it| has(it, "ScalingActive", "False", "FailedGetResourceMetric"))
        })
        .await;
    }
}
