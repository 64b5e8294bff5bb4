//! The controller's own pods under everything that happens to pods: databases go on unaffected.

use std::time::Duration;

use harness::eventually::{Eventually, eventually};
use harness::fixture::fixture_on_nodes;
use harness::grpc::Clients;
use harness::grpc::database::{DatabaseId, GetDatabaseRequest};
use harness::ports;
use serde_json::Value;
use tonic::transport::Endpoint;

use super::etcd::etcd;
use super::storage::Running;

const ONE_PARTITION: &str = r"
apiVersion: storage.cloud.atomix.io/v1beta1
kind: EtcdStorageClass
metadata: {name: etcd}
spec:
  replicas: 3
  volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 64Mi}}}}
  # Nodes of the tests are taken for lost after eight seconds, and emptied after five more: one whose heartbeat is late keeps its storage.
  tolerations: [{key: node.kubernetes.io/unreachable, operator: Exists}, {key: node.kubernetes.io/not-ready, operator: Exists}]
---
apiVersion: cloud.atomix.io/v1beta3
kind: Database
metadata: {name: etcd}
spec:
  partitions: 1
  storageClass: {kind: EtcdStorageClass, name: etcd}
";

/// Uid and restarts of each storage pod.
async fn pods(etcd: &Running) -> Vec<String> {
    let pods = etcd.ns.get("pods").await;
    let storage = pods.iter().filter(|pod| pod["metadata"]["name"] != "app");
    storage
        .map(|pod| format!("{} {}", pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"]))
        .collect()
}

/// A connection that is given up when its other end no longer answers pings: the replica of a node whose power is cut does
/// not close it.
fn lasting(port: u16) -> Endpoint {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
    endpoint.http2_keep_alive_interval(Duration::from_secs(10)).keep_alive_timeout(Duration::from_secs(5))
}

/// The program's connection answers, again if need be.
async fn answers(clients: &Clients) {
    let id = Some(DatabaseId { name: "etcd".into(), namespace: "controller".into() });
    let answered = eventually(Duration::from_secs(180), "the API answers", || async {
        let mut databases = clients.databases.clone();
        let answer = databases.get_database(GetDatabaseRequest { id: id.clone() }).await?.into_inner();
        let partitions = answer.database.map_or(0, |database| database.partitions.len());
        Ok(Eventually::when(partitions == 1, || format!("{partitions} partitions")))
    });
    answered.await.unwrap();
}

/// What is deleted by mistake comes back: the controller works.
async fn repairs(etcd: &Running) {
    etcd.kubectl(&["delete", "service", "etcd-1"]).await.unwrap();
    etcd.ns.wait_created("service/etcd-1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_do_not_notice_what_happens_to_the_controller() {
    let fixture = fixture_on_nodes().await;
    let deployed = &fixture.controller;
    let kubectl = deployed.kubectl();
    kubectl.run(["cordon", "node3"]).await.unwrap(); // so that no storage runs there
    let etcd = Running::start_as(&fixture, etcd(), "controller", ONE_PARTITION).await;
    etcd.write(1, "first", "of partition 1").await;
    kubectl.run(["uncordon", "node3"]).await.unwrap();
    let before = pods(&etcd).await;
    assert_eq!(before.len(), 3);
    let port = ports::free().unwrap();
    let [_grpc, _metrics] = deployed.forward([(port, 5679), (ports::free().unwrap(), 8080)]).await.unwrap();
    let clients = Clients::over(lasting(port).connect().await.unwrap());
    answers(&clients).await;

    // Each pod is killed, the one that leads too.
    for pod in deployed.pods().await.unwrap() {
        let text = kubectl.run(["get", "pod", &pod, "-o", "json"]).await.unwrap();
        let pod: Value = serde_json::from_str(&text).unwrap();
        fixture.plane.kill_container(&pod).unwrap();
        answers(&clients).await;
    }
    deployed.rolled_out().await.unwrap();
    repairs(&etcd).await;

    // Its node loses power, and comes back.
    let lost = eventually(Duration::from_secs(120), "a replica runs on node3", || async {
        let found = kubectl
            .run([
                "get",
                "pods",
                "-l",
                "app.kubernetes.io/name=atomix-controller",
                "--field-selector=spec.nodeName=node3",
                "-o",
                "name",
            ])
            .await?;
        if !found.trim().is_empty() {
            return Ok(Eventually::Now(()));
        }
        kubectl.run(["rollout", "restart", "deployment/atomix-controller"]).await?;
        deployed.rolled_out().await?;
        Ok(Eventually::NotYet("it does not".into()))
    });
    lost.await.unwrap();
    tokio::task::block_in_place(|| fixture.plane.cut_node(3)).unwrap();
    kubectl.run(["wait", "--for=condition=Ready=Unknown", "node/node3", "--timeout=60s"]).await.unwrap();
    answers(&clients).await;
    repairs(&etcd).await;
    tokio::task::block_in_place(|| fixture.plane.start_node(3)).unwrap();
    kubectl.run(["wait", "--for=condition=Ready", "node/node3", "--timeout=60s"]).await.unwrap();
    deployed.rolled_out().await.unwrap();

    // Every replica is killed for its memory, again and again, until it is given more.
    let limit = |memory: &str, away: &str| {
        format!(
            r#"{{"spec":{{"strategy":{{"rollingUpdate":{{"maxUnavailable":"{away}"}}}},"template":{{"spec":{{"containers":[{{"name":"atomix-controller","resources":{{"limits":{{"memory":"{memory}"}},"requests":{{"memory":"16Mi"}}}}}}]}}}}}}}}"#
        )
    };
    kubectl.run(["patch", "deployment/atomix-controller", "--patch", &limit("16Mi", "100%")]).await.unwrap();
    let killed = eventually(Duration::from_secs(120), "every replica is out of memory", || async {
        let text = kubectl.run(["get", "pods", "-l", "app.kubernetes.io/name=atomix-controller", "-o", "json"]).await?;
        let out = text.matches(r#""reason": "OOMKilled""#).count();
        let list: Value = serde_json::from_str(&text)?;
        let pods = list["items"].as_array().map_or(0, Vec::len);
        Ok(Eventually::when(out >= 2 && pods == 2, || format!("{out} kills, {pods} pods")))
    });
    killed.await.unwrap();
    etcd.kubectl(&["delete", "service", "etcd-1"]).await.unwrap();
    kubectl.run(["patch", "deployment/atomix-controller", "--patch", &limit("2Gi", "0%")]).await.unwrap();
    deployed.rolled_out().await.unwrap();
    etcd.ns.wait_created("service/etcd-1").await;
    answers(&clients).await;

    // The API server and etcd start again.
    for program in ["kube-apiserver", "etcd"] {
        fixture.plane.restart(program).await.unwrap();
        answers(&clients).await;
        repairs(&etcd).await;
    }

    assert_eq!(pods(&etcd).await, before, "storage pods are the same, and none was restarted");
    etcd.ready().await;
    etcd.all_read(1).await;
    etcd.silent().await;
    etcd.kubectl(&["delete", "database/etcd"]).await.unwrap();
}
