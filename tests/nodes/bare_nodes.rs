//! The nodes themselves, before anything of ours runs on them.

use std::sync::Arc;
use std::time::Duration;

use harness::controlplane::{ControlPlane, StartOptions};
use harness::eventually::{Eventually, eventually};
use harness::kubectl::Kubectl;
use harness::paths;

const LIMIT: Duration = Duration::from_secs(180);

/// Two pods that keep a volume each, preferably on different nodes, and a Service over them.
const PODS: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: None, selector: {app: web}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec:
  serviceName: web
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      securityContext: {runAsUser: 1000, runAsNonRoot: true, fsGroup: 1000}
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}}
      containers:
      - name: client
        image: atomix.test/client:1
        args: [wait]
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 64Mi}}}
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_resolve_each_other_and_find_their_data_after_a_power_cut_here_and_elsewhere() {
    let options = StartOptions::real(paths::state().join("tests/machines"), 2, Vec::new());
    let plane = Arc::new(ControlPlane::start(options).await.unwrap());
    let kubectl = Kubectl::new(&plane);
    kubectl.run_with(["create", "-f", "-"], PODS).await.unwrap();
    let ready = ["rollout", "status", "statefulset/web", "--timeout=90s"];
    kubectl.run(ready).await.unwrap();
    kubectl.run(["exec", "web-0", "--", "client", "write", "/data/a", "written before"]).await.unwrap();
    let dns = ["rollout", "status", "deployment/coredns", "--namespace=kube-system", "--timeout=90s"];
    kubectl.run(dns).await.unwrap();
    let looked_up = eventually(LIMIT, "a pod finds the other by name", || async {
        let found = kubectl.run(["exec", "web-1", "--", "client", "lookup", "web-0.web.default.svc.cluster.local"]).await?;
        Ok(Eventually::Now(found))
    });
    assert!(looked_up.await.unwrap().starts_with("10.241."));

    // Its node loses power: there it cannot be known to have stopped, so that a person declares it, and it comes up
    // elsewhere.
    let node = kubectl.run(["get", "pod", "web-0", "-o", "jsonpath={.spec.nodeName}"]).await.unwrap();
    let number: usize = node.trim_start_matches("node").parse().unwrap();
    let cut = plane.clone();
    tokio::task::spawn_blocking(move || cut.cut_node(number)).await.unwrap().unwrap();
    kubectl.run(["wait", "--for=condition=Ready=Unknown", &format!("node/{node}"), "--timeout=60s"]).await.unwrap();
    kubectl
        .run(["patch", "statefulset/web", "--patch", r#"{"spec":{"template":{"spec":{"topologySpreadConstraints":null}}}}"#])
        .await
        .unwrap();
    kubectl.run(["delete", "pod", "web-0", "--force", "--grace-period=0"]).await.unwrap();
    kubectl.run(["wait", "--for=condition=Ready", "pod/web-0", "--timeout=60s"]).await.unwrap();
    let elsewhere = kubectl.run(["get", "pod", "web-0", "-o", "jsonpath={.spec.nodeName}"]).await.unwrap();
    assert_ne!(elsewhere, node);
    let read = ["exec", "web-0", "--", "client", "read", "/data/a"];
    assert_eq!(kubectl.run(read).await.unwrap().trim(), "written before");

    // Its power is back: the node is Ready, and pods run on it again.
    let on = plane.clone();
    tokio::task::spawn_blocking(move || on.start_node(number)).await.unwrap().unwrap();
    kubectl.run(["wait", "--for=condition=Ready", &format!("node/{node}"), "--timeout=60s"]).await.unwrap();
    kubectl.run(["delete", "pod", "web-0", "web-1"]).await.unwrap();
    kubectl.run(ready).await.unwrap();
    assert_eq!(kubectl.run(read).await.unwrap().trim(), "written before");
}
