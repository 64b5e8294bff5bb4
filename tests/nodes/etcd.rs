//! etcd: three clusters of three, as the example says.

use std::time::Duration;

use super::storage::{Running, Storage};

/// How etcd is asked: its API as JSON over HTTP.
pub fn etcd() -> Storage {
    Storage {
        name: "etcd",
        port: 2379,
        write: |at, key, value| {
            let (key, value) = (harness::pki::base64(key.as_bytes()), harness::pki::base64(value.as_bytes()));
            ["post".into(), format!("http://{at}/v3/kv/put"), format!(r#"{{"key":"{key}","value":"{value}"}}"#)].into()
        },
        read: |at, key| {
            let key = harness::pki::base64(key.as_bytes());
            ["post".into(), format!("http://{at}/v3/kv/range"), format!(r#"{{"key":"{key}"}}"#)].into()
        },
        shown: |value| harness::pki::base64(value.as_bytes()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_keeps_what_was_written_whatever_happens_to_it() {
    let etcd = Running::start(etcd()).await;
    etcd.all_write(3).await;
    etcd.all_read(3).await;
    for partition in 1..=3 {
        for member in 0..3 {
            let host = format!("etcd-{partition}-{member}.etcd-{partition}-hs.etcd.svc.cluster.local");
            etcd.reads(&host, "first", &format!("of partition {partition}")).await;
        }
    }
    etcd.silent().await;

    // A process is killed.
    etcd.listen().await;
    etcd.kill_process("etcd-1-0").await;
    let reasons = etcd.told_missing().await;
    etcd.ready().await;
    assert!(reasons.iter().all(|reason| reason.contains("etcd-1")), "{reasons:?}");
    etcd.all_read(3).await;

    // A pod is deleted.
    etcd.listen().await;
    etcd.kubectl(&["delete", "pod", "etcd-2-1"]).await.unwrap();
    etcd.told_missing().await;
    etcd.ready().await;
    etcd.all_read(3).await;

    // A node goes dark, with a member of each partition or so; the quorum goes on. It comes back.
    etcd.listen().await;
    let node = etcd.cut_node_of("etcd-3-0").await;
    etcd.told_missing().await;
    for partition in 1..=3 {
        etcd.write(partition, "dark", "written while a node was dark").await;
    }
    etcd.start_node(node);
    etcd.ready().await;
    etcd.all_read(3).await;
    for partition in 1..=3 {
        etcd.reads(&etcd.service(partition), "dark", "written while a node was dark").await;
    }

    // A whole set is deleted: drift, repaired at once, on the volumes that were kept.
    let claims = etcd.claims().await;
    assert_eq!(claims.len(), 9);
    etcd.listen().await;
    etcd.kubectl(&["delete", "statefulset", "etcd-1"]).await.unwrap();
    etcd.told_missing().await;
    etcd.ready().await;
    assert_eq!(etcd.claims().await, claims);
    etcd.all_read(3).await;

    // Another image: members restart one at a time, and writes go on.
    let class = "etcdstorageclass/etcd";
    etcd.kubectl(&["patch", class, "--type=merge", "--patch", r#"{"spec":{"image":"quay.io/coreos/etcd:v3.6.8-again"}}"#])
        .await
        .unwrap();
    let images = ["get", "pods", "-l", "app=atomix", "-o", "jsonpath={.items[*].spec.containers[0].image}"];
    for round in 0.. {
        // A connection that a stopping member refuses is made again, as every client does.
        for partition in 1..=3 {
            etcd.writes_within(Duration::from_secs(10), partition, "rolling", &round.to_string()).await;
        }
        let rolled = etcd.kubectl(&images).await.unwrap();
        if rolled.split_whitespace().filter(|image| image.ends_with("-again")).count() == 9 {
            break;
        }
        assert!(round < 1000, "the new image does not reach all members: {rolled}");
    }
    etcd.ready().await;
    etcd.all_read(3).await;

    // Down to one partition and up again: the volumes stay and are taken up again.
    etcd.kubectl(&["scale", "database/etcd", "--replicas=1"]).await.unwrap();
    etcd.ns.wait_gone("statefulset/etcd-3").await;
    etcd.ns.wait_gone("pod/etcd-3-0").await;
    etcd.ready().await;
    assert_eq!(etcd.claims().await, claims);
    etcd.all_read(1).await;
    etcd.kubectl(&["scale", "database/etcd", "--replicas=4"]).await.unwrap();
    etcd.ready().await;
    etcd.all_read(3).await;
    etcd.write(4, "first", "of partition 4").await;
    etcd.silent().await;

    // Deleted: all goes but the volumes.
    etcd.kubectl(&["delete", "database/etcd"]).await.unwrap();
    etcd.ns.wait_gone("statefulset/etcd-1").await;
    etcd.ns.wait_gone("service/etcd-1").await;
    let kept = etcd.claims().await;
    assert_eq!(kept.len(), 12);
    assert!(claims.iter().all(|claim| kept.contains(claim)));
    etcd.silent().await;
}
