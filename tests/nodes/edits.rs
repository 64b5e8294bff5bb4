//! What an edit does to members that run, and to members that cannot: an etcd cluster with a wrong setting, and the
//! correction.

use harness::fixture::fixture_on_nodes;
use serde_json::{Value, json};

use super::etcd::etcd;
use super::storage::Running;

const CLASS: &str = r"
apiVersion: storage.cloud.atomix.io/v1beta1
kind: EtcdStorageClass
metadata: {name: etcd}
spec:
  replicas: 3
  resources: {limits: {memory: 3e8}}
  volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 64Mi}}}}
---
apiVersion: cloud.atomix.io/v1beta3
kind: Database
metadata: {name: etcd}
spec: {partitions: 1, storageClass: {kind: EtcdStorageClass, name: etcd}}
";

/// etcd takes no such heartbeat: no member of the cluster ever starts.
const BROKEN: &str = r#"
apiVersion: storage.cloud.atomix.io/v1beta1
kind: EtcdStorageClass
metadata: {name: broken}
spec:
  replicas: 3
  env: [{name: ETCD_HEARTBEAT_INTERVAL, value: "fast"}]
---
apiVersion: cloud.atomix.io/v1beta3
kind: Database
metadata: {name: broken}
spec: {partitions: 1, storageClass: {kind: EtcdStorageClass, name: broken}}
"#;

const CLAIM: &str = "  volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 64Mi}}}}\n---\napiVersion: cloud";

async fn edit(etcd: &Running, class: &str, spec: Value) {
    let patch = json!({"spec": spec}).to_string();
    etcd.kubectl(&["patch", &format!("etcdstorageclass/{class}"), "--type=merge", "--patch", &patch]).await.unwrap();
}

/// Each member's UID and how often it was started again.
async fn members(etcd: &Running) -> Vec<String> {
    let pods = etcd.ns.get("pods").await;
    let ours = pods.iter().filter(|pod| pod["metadata"]["name"].as_str().unwrap().starts_with("etcd-1-"));
    ours.map(|pod| {
        let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
        format!("{} {} {restarts}", pod["metadata"]["name"], pod["metadata"]["uid"])
    })
    .collect()
}

fn waits_with(pod: &Value, reasons: &[&str]) -> bool {
    let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"];
    reasons.iter().any(|reason| waiting == reason)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_heals_once_its_class_is_mended_and_no_member_that_is_up_is_taken_down() {
    let nodes = fixture_on_nodes().await;
    let etcd = Running::start_as(&nodes, etcd(), "etcd-edits", CLASS).await;
    // Created with a setting that cannot run, on volumes and without them.
    etcd.ns.create(&BROKEN.replacen("---\napiVersion: cloud", CLAIM, 1)).await;
    etcd.ns.create(&BROKEN.replace("broken", "bare")).await;
    etcd.all_write(1).await;
    let started = members(&etcd).await;

    // The same in another spelling: no member restarts.
    edit(&etcd, "etcd", json!({"resources": {"limits": {"memory": "300M"}}, "nodeSelector": {}, "env": []})).await;

    for name in ["broken", "bare"] {
        for member in 0..3 {
            etcd.ns
                .until(&format!("pod/{name}-1-{member}"), "it cannot start", |found| {
                    found.iter().any(|pod| waits_with(pod, &["CrashLoopBackOff"]))
                })
                .await;
        }
        edit(&etcd, name, json!({"env": null})).await;
    }
    for name in ["broken", "bare"] {
        etcd.ns.wait(&format!("database/{name}"), "Ready").await;
        etcd.ns
            .until(&format!("statefulset/{name}-1"), "all members run what the class has now", |found| {
                found.iter().any(|set| set["status"]["updatedReplicas"] == 3 && set["status"]["readyReplicas"] == 3)
            })
            .await;
    }
    etcd.kubectl(&["delete", "databases/broken", "databases/bare"]).await.unwrap();

    // An image that is not there: one member waits for it, the others are left alone, and serve.
    assert_eq!(members(&etcd).await, started);
    edit(&etcd, "etcd", json!({"image": "quay.io/coreos/etcd:v3.6.8-gone"})).await;
    etcd.ns
        .until("pod/etcd-1-2", "its image is not there", |found| {
            found.iter().any(|pod| waits_with(pod, &["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull"]))
        })
        .await;
    etcd.write(1, "second", "while a member waits for its image").await;
    assert_eq!(members(&etcd).await[..2], started[..2]);
    edit(&etcd, "etcd", json!({"image": "quay.io/coreos/etcd:v3.6.8"})).await;
    etcd.ready().await;
    etcd.ns
        .until("statefulset/etcd-1", "all members run the image", |found| {
            found.iter().any(|set| set["status"]["updatedReplicas"] == 3 && set["status"]["readyReplicas"] == 3)
        })
        .await;
    assert_eq!(members(&etcd).await[..2], started[..2], "what was up stays up");
    etcd.all_read(1).await;

    // Deleted without what it made, and made again: taken over by one command, without a restart.
    let running = members(&etcd).await;
    etcd.kubectl(&["delete", "database/etcd", "--cascade=orphan"]).await.unwrap();
    etcd.ns.create(&format!("apiVersion: cloud{}", CLASS.split("---\napiVersion: cloud").nth(1).unwrap())).await;
    etcd.ns
        .until("database/etcd", "what is there is not touched", |found| {
            found.iter().any(|db| db["status"]["conditions"].to_string().contains("cloud.atomix.io/adopt=orphans"))
        })
        .await;
    etcd.kubectl(&["annotate", "database/etcd", "cloud.atomix.io/adopt=orphans"]).await.unwrap();
    etcd.ready().await;
    assert_eq!(members(&etcd).await, running);
    etcd.reads(&etcd.service(1), "second", "while a member waits for its image").await;
    etcd.silent().await;
    etcd.kubectl(&["delete", "database/etcd"]).await.unwrap();
    etcd.ns.wait_gone("statefulset/etcd-1").await;
}
