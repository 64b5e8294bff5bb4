//! Valkey of Debian 13: a primary and a replica a partition, as in the example; the servers behind the old Redis class; and
//! the settings that a class may have for either.

use std::time::Duration;

use harness::deployed_controller::DeployedController;
use harness::eventually::{Eventually, eventually};
use harness::fixture::{Namespace, fixture_on_nodes};

use super::storage::{Running, Storage};

/// How Valkey and Redis are written and read: commands in their own protocol.
pub fn valkey(name: &'static str) -> Storage {
    Storage {
        name,
        port: 6379,
        write: |at, key, value| ["resp", at, "SET", key, value].map(str::to_owned).to_vec(),
        read: |at, key| ["resp", at, "GET", key].map(str::to_owned).to_vec(),
        shown: str::to_owned,
        secret: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn valkey_keeps_what_was_written_whatever_happens_to_it() {
    let nodes = fixture_on_nodes().await;
    let valkey = Running::start(&nodes, valkey("valkey")).await;
    valkey.all_write(2).await;
    valkey.all_read(2).await;
    for partition in 1..=2 {
        for member in [
            format!("valkey-{partition}-0.valkey-{partition}-hs"),
            format!("valkey-{partition}-r-0.valkey-{partition}-r-hs"),
        ] {
            valkey.reads(&member, "first", &format!("of partition {partition}")).await;
        }
        valkey.reads(&format!("valkey-{partition}-r"), "first", &format!("of partition {partition}")).await;
    }
    valkey.silent().await;

    // A primary is killed, then its pod deleted: it is back on its volume.
    valkey.listen().await;
    valkey.kill_process("valkey-1-0").await;
    valkey.reported_missing().await;
    valkey.ready().await;
    valkey.all_read(2).await;
    valkey.listen().await;
    valkey.kubectl(&["delete", "pod", "valkey-2-0"]).await.unwrap();
    valkey.reported_missing().await;
    valkey.ready().await;
    valkey.all_read(2).await;

    // A primary's node loses power: nothing takes its place, its replica answers reads, and it comes back.
    let away = valkey.ns.kubectl(["get", "pod", "valkey-1-r-0", "-o", "jsonpath={.spec.nodeName}"]).await;
    let at = valkey.ns.kubectl(["get", "pod", "valkey-1-0", "-o", "jsonpath={.spec.nodeName}"]).await;
    assert_ne!(at, away, "primary and replica are on different nodes");
    valkey.listen().await;
    let node = valkey.cut_node_of("valkey-1-0").await;
    valkey.ns.wait("database/valkey", "Ready=False").await;
    valkey.reported_missing().await;
    valkey.reads("valkey-1-r-0.valkey-1-r-hs", "first", "of partition 1").await;
    assert!(valkey.try_write(1, "dark", "lost").await.is_err(), "a write waits or fails while there is no primary");
    valkey.start_node(node);
    valkey.ready().await;
    valkey.all_read(2).await;

    // A whole set is deleted, an image edited, partitions taken and given back: the volumes are taken up again.
    let claims = valkey.claims().await;
    assert_eq!(claims.len(), 4);
    valkey.listen().await;
    valkey.kubectl(&["delete", "statefulset", "valkey-1"]).await.unwrap();
    valkey.reported_missing().await;
    valkey.ready().await;
    valkey.all_read(2).await;
    let edit = r#"{"spec":{"image":"valkey/valkey:8.1-again"}}"#;
    valkey.kubectl(&["patch", "valkeystorageclass/valkey", "--type=merge", "--patch", edit]).await.unwrap();
    // Replicas restart before their primary, so that one of both answers reads all along.
    let images = ["get", "pods", "-l", "app=atomix", "-o", "jsonpath={.items[*].spec.containers[0].image}"];
    for round in 0.. {
        for partition in 1..=2 {
            let primary = valkey.try_read(&format!("valkey-{partition}"), "first").await;
            let replica = valkey.try_read(&format!("valkey-{partition}-r"), "first").await;
            assert!(primary.is_ok() || replica.is_ok(), "round {round}: {primary:?}, {replica:?}");
        }
        let rolled = valkey.kubectl(&images).await.unwrap();
        if rolled.split_whitespace().filter(|image| image.ends_with("-again")).count() == 4 {
            break;
        }
        assert!(round < 1000, "the new image does not reach all servers: {rolled}");
    }
    valkey.ready().await;
    valkey.all_read(2).await;
    valkey.kubectl(&["scale", "database/valkey", "--replicas=1"]).await.unwrap();
    valkey.ns.wait_gone("pod/valkey-2-0").await;
    valkey.ready().await;
    valkey.all_read(1).await;
    valkey.kubectl(&["scale", "database/valkey", "--replicas=2"]).await.unwrap();
    valkey.ready().await;
    valkey.all_read(2).await;
    assert_eq!(valkey.claims().await, claims);
    valkey.silent().await;
    valkey.kubectl(&["delete", "database/valkey"]).await.unwrap();
    valkey.ns.wait_gone("statefulset/valkey-1").await;
    assert_eq!(valkey.claims().await, claims);
}

/// The proxy's image cannot be had: its pod cannot start, and the Database reports it. The servers behind it run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_servers_behind_the_old_redis_class_run_and_copy_the_first() {
    let fixture = fixture_on_nodes().await;
    let ns = fixture.namespace("redis").await;
    ns.create_file("deploy/examples/redis.yaml").await;
    ns.kubectl(["patch", "redisstorageclass/redis", "--type=merge", "--patch", r#"{"spec":{"backend":{"replicas":2}}}"#])
        .await;
    let image = format!("--image={}", harness::images::CLIENT);
    ns.kubectl(["run", "app", "--restart=Never", &image, "--", "wait"]).await;
    ns.wait("pod/app", "Ready").await;
    ns.until("database/redis", "the proxy's image is what is missing", |found| {
        found.iter().any(|database| database["status"].to_string().contains("ImagePullBackOff"))
    })
    .await;
    ns.until("statefulset/redis-1", "both servers are ready", |found| {
        found.iter().any(|set| set["status"]["readyReplicas"] == 2)
    })
    .await;
    // The Service leads to the first server alone, as the proxy must not write to a copy: the second is read by its address.
    run(&ns, "redis-1-hs", &["SET", "first", "written"]).await.unwrap();
    let second = ns.kubectl(["get", "pod", "redis-1-1", "-o", "jsonpath={.status.podIP}"]).await;
    ns.eventually("the second server has it", || async {
        let read = run(&ns, &second, &["GET", "first"]).await?;
        Ok(Eventually::when(read.trim() == "written", || read))
    })
    .await;
    // The first server loses its volume: it waits, and the copy keeps what it has, until the class has what to do.
    ns.kubectl(["delete", "pvc", "data-redis-1-0", "--wait=false"]).await;
    ns.kubectl(["delete", "pod", "redis-1-0"]).await;
    ns.until("database/redis", "the first server waits", |found| {
        found.iter().any(|database| database["status"].to_string().contains("PrimaryWithoutData"))
    })
    .await;
    let second = ns.kubectl(["get", "pod", "redis-1-1", "-o", "jsonpath={.status.podIP}"]).await;
    assert_eq!(run(&ns, &second, &["GET", "first"]).await.unwrap().trim(), "written");
    let word = r#"{"spec":{"backend":{"primaryWithoutData":"CopyFromReplica"}}}"#;
    ns.kubectl(["patch", "redisstorageclass/redis", "--type=merge", "--patch", word]).await;
    let mounted_and_copied = Duration::from_secs(240); // the kubelet brings a ConfigMap to its pods within a minute or two
    let done = eventually(mounted_and_copied, "both servers are ready", || async {
        let set = ns.one("statefulset/redis-1").await;
        Ok(Eventually::when(set["status"]["readyReplicas"] == 2, || set["status"].to_string()))
    });
    ns.must(done.await).await;
    assert_eq!(run(&ns, "redis-1-hs", &["GET", "first"]).await.unwrap().trim(), "written");
    ns.kubectl(["delete", "database/redis"]).await;
}

/// All settings of a class for its pods, and a password. Nodes that pass are 1 and 2 by the affinity, 2 and 3 by the
/// selector; only pods that tolerate the taint run on 2.
const SECURED: &str = r"
apiVersion: v1
kind: Secret
metadata: {name: secured}
stringData: {password: 'of $two words'}
---
apiVersion: storage.cloud.atomix.io/v1beta1
kind: ValkeyStorageClass
metadata: {name: secured}
spec:
  server: SERVER
  replicas: 1
  password: {secretName: secured}
  imagePullSecrets: [{name: registry}]
  nodeSelector: {atomix.test/storage: here}
  tolerations: [{key: atomix.test/storage, operator: Exists}]
  affinity:
    nodeAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: NotIn, values: [node3]}]}]
  securityContext: {runAsUser: 1001, runAsGroup: 1001, fsGroup: 1001}
  priorityClassName: storage
  env: [{name: GREETING, value: hello}]
  resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 64Mi}}
  storageClassName: other
  volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 64Mi}}}}
---
apiVersion: cloud.atomix.io/v1beta3
kind: Database
metadata: {name: secured}
spec:
  partitions: 1
  storageClass: {kind: ValkeyStorageClass, name: secured}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_require_their_password_and_pods_are_as_in_the_class() {
    let nodes = fixture_on_nodes().await;
    let kubectl = nodes.kubectl();
    let (label, taint) = ("atomix.test/storage=here", "atomix.test/storage=only:NoSchedule");
    kubectl.run(["label", "node", "node2", "node3", label]).await.unwrap();
    kubectl.run(["taint", "node", "node2", "node3", taint]).await.unwrap();
    kubectl.run(["create", "priorityclass", "storage", "--value=1000"]).await.unwrap();
    let other = format!(
        "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {{name: other}}\nprovisioner: {}\nreclaimPolicy: Retain\n",
        harness::volumes::PROVISIONER
    );
    kubectl.run_with(["create", "-f", "-"], &other).await.unwrap();
    for server in ["valkey", "redis"] {
        let secured = Storage { secret: Some("secured"), ..valkey("secured") };
        let manifest = SECURED.replace("SERVER", server);
        let servers = Running::start_as(&nodes, secured, &format!("secured-{server}"), &manifest).await;
        servers.all_write(1).await;
        for at in ["secured-1", "secured-1-0.secured-1-hs", "secured-1-r"] {
            servers.reads(at, "first", "of partition 1").await;
        }
        let cli = format!("{server}-cli");
        for host in ["secured-1", "secured-1-r"] {
            let run = ["exec", "secured-1-0", "--", &cli, "-h", host, "get", "first"];
            let refused = servers.kubectl(&run).await.unwrap();
            assert!(refused.contains("NOAUTH"), "{server}: {host}: {refused}");
        }
        for (program, printed) in [("id -u", "1001"), ("id -g", "1001"), ("printenv GREETING", "hello")] {
            let command = ["exec", "secured-1-0", "-c", "server", "--"].into_iter().chain(program.split(' '));
            assert_eq!(servers.ns.kubectl(command).await.trim(), printed, "{server}: {program}");
        }
        let pods = servers.ns.get("pods").await;
        let pods: Vec<_> = pods.iter().filter(|pod| pod["metadata"]["name"] != "app").map(|pod| &pod["spec"]).collect();
        assert_eq!(pods.len(), 2);
        for pod in pods {
            assert_eq!(pod["nodeName"], "node2");
            assert_eq!(pod["priority"], 1000);
            assert_eq!(pod["imagePullSecrets"][0]["name"], "registry");
            assert_eq!(pod["containers"][0]["resources"]["limits"]["memory"], "64Mi");
        }
        for claim in servers.ns.get("persistentvolumeclaims").await {
            assert_eq!(claim["spec"]["storageClassName"], "other");
        }

        servers.kill_process("secured-1-0").await;
        servers.ready().await;
        servers.all_read(1).await;
        passwords_come_and_go(&servers).await;
        servers.kubectl(&["delete", "database/secured"]).await.unwrap();
        servers.ns.wait_gone("statefulset/secured-1").await;
    }
    kubectl.run(["taint", "node", "node2", "node3", "atomix.test/storage-"]).await.unwrap();
    kubectl.run(["label", "node", "node2", "node3", "atomix.test/storage-"]).await.unwrap();
}

/// A replica that has another password than its primary cannot follow it: the primary does not wait for it then.
async fn passwords_come_and_go(servers: &Running) {
    let secret = |name: &str, password: &str| {
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {{password: {password}}}\n")
    };
    let class = |password: &str| format!(r#"{{"spec":{{"password":{password}}}}}"#);
    servers.ns.create(&secret("another", "another")).await;
    for (what, password) in
        [("changed", r#"{"secretName":"another"}"#), ("dropped", "null"), ("added", r#"{"secretName":"another"}"#)]
    {
        servers
            .kubectl(&["patch", "valkeystorageclass/secured", "--type=merge", "--patch", &class(password)])
            .await
            .unwrap();
        servers
            .ns
            .until("pods", "both servers have the password", |pods| {
                let volumes = |pod: &serde_json::Value| pod["spec"]["volumes"].to_string();
                let servers: Vec<_> = pods.iter().filter(|pod| pod["metadata"]["name"] != "app").map(volumes).collect();
                servers.len() == 2 && servers.iter().all(|volumes| volumes.contains("another") == (password != "null"))
            })
            .await;
        follows(servers, what).await;
    }
    servers.kubectl(&["patch", "secret/another", "--patch", r#"{"stringData":{"password":"one more"}}"#]).await.unwrap();
    servers.kubectl(&["rollout", "restart", "statefulset/secured-1-r", "statefulset/secured-1"]).await.unwrap();
    servers
        .ns
        .until("pods", "both servers have restarted", |pods| {
            let restarted =
                |pod: &&serde_json::Value| !pod["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"].is_null();
            pods.iter().filter(restarted).count() == 2
        })
        .await;
    follows(servers, "restarted").await;
}

/// What is written to the primary is read from its replica, each in its own pod with the password that it has.
async fn follows(servers: &Running, value: &str) {
    servers.ready().await;
    let run = |pod: &str, words: &[&str]| {
        let all: Vec<String> = ["exec", pod, "-c", "server", "--", "sh", "/etc/server/server.sh", "cli"]
            .iter()
            .chain(words)
            .map(|word| (*word).to_owned())
            .collect();
        async move { servers.kubectl(&all.iter().map(String::as_str).collect::<Vec<_>>()).await }
    };
    assert_eq!(run("secured-1-0", &["get", "first"]).await.unwrap().trim(), "of partition 1", "{value}");
    assert_eq!(run("secured-1-0", &["set", "password", value]).await.unwrap().trim(), "OK", "{value}");
    // A replica that was connected to the primary before, whose pod is gone without closing the connection, notices it after
    // repl-timeout (60 s).
    let done = eventually(Duration::from_secs(300), "the replica has it", || async {
        let read = run("secured-1-r-0", &["get", "password"]).await?;
        Ok(Eventually::when(read.trim() == value, || read))
    })
    .await;
    servers.ns.must(done).await;
}

async fn run(ns: &Namespace<'_, DeployedController>, host: &str, words: &[&str]) -> anyhow::Result<String> {
    let address = format!("{host}:6379");
    let client = ["exec", "app", "--", "client", "resp", &address];
    ns.fixture().kubectl().namespace(&ns.name).run(client.into_iter().chain(words.iter().copied())).await
}
