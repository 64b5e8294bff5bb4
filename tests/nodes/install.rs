//! The install as printed: `deploy/atomix-controller.yaml` on real nodes.

use harness::eventually::Eventually;
use harness::fixture::fixture_on_nodes;
use harness::images::CLIENT;

/// A database in the older version whose image cannot be had.
const DATABASE: &str = r"
apiVersion: storage.cloud.atomix.io/v1beta1
kind: RaftStorageClass
metadata: {name: raft}
spec: {image: 'example.test/none:1', replicas: 1}
---
apiVersion: cloud.atomix.io/v1beta2
kind: Database
metadata: {name: raft}
spec:
  clusters: 3
  template:
    spec:
      partitions: 1
      storage: {group: storage.cloud.atomix.io, version: v1beta1, kind: RaftStorageClass, name: raft}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_versions_go_through_the_service_and_programs_of_another_namespace_find_the_api_by_name() {
    let fixture = fixture_on_nodes().await;
    let kube_system = fixture.controller.kubectl();
    let nodes = kube_system
        .run(["get", "pods", "-l", "app.kubernetes.io/name=atomix-controller", "-o", "jsonpath={.items[*].spec.nodeName}"])
        .await
        .unwrap();
    let mut nodes: Vec<&str> = nodes.split_whitespace().collect();
    nodes.sort_unstable();
    nodes.dedup();
    assert_eq!(nodes.len(), 2, "two replicas on two nodes: {nodes:?}");

    let ns = fixture.namespace("install").await;
    ns.create(DATABASE).await;
    let old = ns.kubectl(["get", "database.v1beta2.cloud.atomix.io/raft", "-o", "jsonpath={.spec.clusters}"]).await;
    assert_eq!(old, "3", "read in the version it was written in, and stored in the other");
    ns.until("database/raft", "what is missing is reported in its conditions and its column", |found| {
        found.iter().any(|database| database["status"].to_string().contains("ImagePullBackOff"))
    })
    .await;
    let shown = ns.kubectl(["get", "database/raft", "-o", "wide"]).await;
    assert!(shown.contains("ImagePullBackOff"), "{shown}");

    ns.kubectl(["run", "app", "--restart=Never", &format!("--image={CLIENT}"), "--", "wait"]).await;
    ns.wait("pod/app", "Ready").await;
    let query = [
        "exec",
        "app",
        "--",
        "grpcurl",
        "-plaintext",
        "-d",
        r#"{"id":{"name":"raft","namespace":"install"}}"#,
        "atomix-controller.kube-system.svc.cluster.local:5679",
        "atomix.database.DatabaseService/GetDatabase",
    ];
    let answer = ns
        .eventually("the API answers by its name", || async {
            Ok(Eventually::Now(fixture.kubectl().namespace("install").run(query).await?))
        })
        .await;
    assert!(answer.contains("raft-3.install.svc.cluster.local"), "{answer}");
    ns.kubectl(["delete", "database/raft"]).await;
}
