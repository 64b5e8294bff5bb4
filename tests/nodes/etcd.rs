//! etcd: three clusters of three, as the example says; and one that trusts nobody without a certificate.

use std::time::Duration;

use harness::paths;
use harness::pki::{Authority, base64};
use harness::world::world_on_nodes;
use serde_json::json;

use super::storage::{Running, Storage};

/// How etcd is asked: its API as JSON over HTTP.
pub fn etcd() -> Storage {
    Storage {
        name: "etcd",
        port: 2379,
        write: |at, key, value| {
            let (key, value) = (base64(key.as_bytes()), base64(value.as_bytes()));
            ["post".into(), format!("http://{at}/v3/kv/put"), format!(r#"{{"key":"{key}","value":"{value}"}}"#)].into()
        },
        read: |at, key| {
            let key = base64(key.as_bytes());
            ["post".into(), format!("http://{at}/v3/kv/range"), format!(r#"{{"key":"{key}"}}"#)].into()
        },
        shown: |value| base64(value.as_bytes()),
        secret: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_keeps_what_was_written_whatever_happens_to_it() {
    let nodes = world_on_nodes().await;
    let etcd = Running::start(&nodes, etcd()).await;
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

/// Where certificates are for: names as the plugin's page has them.
const SECURED: &str = "etcd-secured";

/// The same over TLS, by names that certificates are for.
fn etcd_over_tls() -> Storage {
    fn url(at: &str, path: &str) -> String {
        format!("https://{}/v3/kv/{path}", at.replace(':', &format!(".{SECURED}.svc.cluster.local:")))
    }
    Storage {
        name: "secured",
        write: |at, key, value| {
            let (key, value) = (base64(key.as_bytes()), base64(value.as_bytes()));
            ["post".into(), url(at, "put"), format!(r#"{{"key":"{key}","value":"{value}"}}"#)].into()
        },
        read: |at, key| ["post".into(), url(at, "range"), format!(r#"{{"key":"{}"}}"#, base64(key.as_bytes()))].into(),
        secret: Some("program"),
        ..etcd()
    }
}

fn secret(name: &str, authority: &Authority, (certificate, key): (String, String)) -> String {
    let data = json!({"ca.crt": authority.pem(), "tls.crt": certificate, "tls.key": key});
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}).to_string()
}

const CLASS: &str = r"
apiVersion: storage.cloud.atomix.io/v1beta1
kind: EtcdStorageClass
metadata: {name: secured}
spec:
  clientTls: {secretName: members, clientCertAuth: true}
  peerTls: {secretName: peers}
  volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 64Mi}}}}
---
apiVersion: cloud.atomix.io/v1beta3
kind: Database
metadata: {name: secured}
spec:
  partitions: 1
  storageClass: {kind: EtcdStorageClass, name: secured}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_with_certificates_answers_those_who_have_one_and_nobody_else() {
    let authorities = paths::state().join("tests/etcd-secured");
    let (clients, peers) =
        (Authority::new(&authorities.join("clients")).unwrap(), Authority::new(&authorities.join("peers")).unwrap());
    let names = ["secured-1.etcd-secured.svc.cluster.local", "*.secured-1-hs.etcd-secured.svc.cluster.local"];
    let secrets = [
        secret("members", &clients, clients.members(&names).unwrap()),
        secret("peers", &peers, peers.members(&names).unwrap()),
        secret("program", &clients, clients.members(&[]).unwrap()),
    ];
    let manifest = format!("{}\n---{CLASS}", secrets.join("\n---\n"));
    let nodes = world_on_nodes().await;
    let etcd = Running::start_as(&nodes, etcd_over_tls(), SECURED, &manifest).await;
    etcd.all_write(1).await;
    for at in ["secured-1", "secured-1-0.secured-1-hs", "secured-1-1.secured-1-hs", "secured-1-2.secured-1-hs"] {
        etcd.reads(at, "first", "of partition 1").await;
    }

    // Members prove who they are to clients and to each other: neither port answers in plain text, nor who has no certificate, nor
    // who has one of somebody else.
    for plain in ["http://secured-1:2379/version", "http://secured-1-0.secured-1-hs:2380/version"] {
        let answer = etcd.client(&["get".to_owned(), plain.to_owned()]).await;
        assert!(answer.is_err(), "{plain}: {answer:?}");
    }
    let etcdctl = |with: &[&'static str]| {
        let ask = ["exec", "secured-1-0", "--", "etcdctl", "--command-timeout=5s", "--dial-timeout=5s", "get", "first"];
        let to = "--endpoints=https://secured-1.etcd-secured.svc.cluster.local:2379";
        ask.into_iter().chain([to, "--cacert=/etc/etcd/client-tls/ca.crt"]).chain(with.iter().copied()).collect::<Vec<_>>()
    };
    let own = etcdctl(&["--cert=/etc/etcd/client-tls/tls.crt", "--key=/etc/etcd/client-tls/tls.key"]);
    assert!(etcd.kubectl(&own).await.unwrap().contains("of partition 1"));
    let foreign = etcdctl(&["--cert=/etc/etcd/peer-tls/tls.crt", "--key=/etc/etcd/peer-tls/tls.key"]);
    for refused in [etcdctl(&[]), foreign] {
        let answer = etcd.kubectl(&refused).await;
        assert!(answer.is_err(), "{refused:?}: {answer:?}");
    }

    // A member that is killed is known again.
    etcd.kill_process("secured-1-0").await;
    etcd.ready().await;
    etcd.reads("secured-1-0.secured-1-hs", "first", "of partition 1").await;
    etcd.kubectl(&["delete", "database/secured"]).await.unwrap();
}
