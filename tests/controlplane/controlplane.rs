//! The control plane itself: real, quick, and counted.

use std::time::{Duration, Instant};

use harness::audit::table;
use harness::controlplane::{ControlPlane, StartOptions};
use harness::guard::gone_within;
use harness::kubectl::Kubectl;
use harness::paths;

const STATEFUL_SET: &str = r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec:
  serviceName: web
  replicas: 3
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: web, volumeMounts: [{name: data, mountPath: /data}]}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
"#;

#[tokio::test]
async fn a_stateful_set_with_claims_becomes_ready_and_requests_are_counted() {
    let start = Instant::now();
    let plane = ControlPlane::start(StartOptions::new(paths::state().join("tests/controlplane"))).await.unwrap();
    println!("ready after {:?}", start.elapsed());
    let kubectl = Kubectl::new(&plane);
    let mark = plane.audit().mark(&plane).await.unwrap();
    kubectl.run_with(["create", "-f", "-"], STATEFUL_SET).await.unwrap();
    kubectl.run(["rollout", "status", "statefulset/web", "--timeout=60s"]).await.unwrap();
    println!("stateful set after {:?}", start.elapsed());
    println!("{}", kubectl.run(["get", "nodes,pods,pvc,pv,statefulsets", "-o", "wide"]).await.unwrap());

    let requests = plane.audit().since(&plane, mark).await.unwrap();
    let created: Vec<_> = requests.iter().filter(|r| r.verb == "create" && r.resource == "pods").collect();
    assert_eq!(created.len(), 3, "{}", table(&requests));
    assert!(created.iter().all(|r| r.user == "system:serviceaccount:kube-system:statefulset-controller"));
    let ours: Vec<_> =
        requests.iter().filter(|r| r.user == "harness" && r.writes() && r.resource != "persistentvolumes").collect();
    assert_eq!(ours.len(), 1, "{}", table(&requests));
    assert!(ours[0].user_agent.starts_with("kubectl/"), "{:?}", ours[0]);

    let stored = plane.stored("/registry/statefulsets/default/web").await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&stored).contains("StatefulSet"));

    let pids = plane.pids();
    assert_eq!(pids.len(), 5);
    drop(plane);
    assert!(pids.into_iter().all(|pid| gone_within(pid, Duration::from_secs(10))));
}
