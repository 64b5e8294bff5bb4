//! The example every user starts from, word for word, and what comes of it.

use harness::audit::table;
use harness::conditions::condition;
use harness::controller::USER;
use harness::fixture::shared_fixture;
use serde_json::{Value, json};

fn names(objects: &[Value]) -> Vec<String> {
    objects.iter().map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_example_yields_partitions_stateful_sets_pods_and_services_by_their_names() {
    let ns = shared_fixture().await.namespace("example").await;
    ns.create_file("deploy/examples/raft.yaml").await;
    ns.wait("database/raft", "Ready").await;

    assert_eq!(names(&ns.get("partitions").await), ["raft-1", "raft-2", "raft-3"]);
    let sets = ns.get("statefulsets").await;
    assert_eq!(names(&sets), ["raft-1", "raft-2", "raft-3"]);
    assert!(sets.iter().all(|set| set["status"]["readyReplicas"] == 3 || set["spec"]["replicas"] == 3));
    let pods = names(&ns.get("pods").await);
    let expected: Vec<String> = (1..=3).flat_map(|c| (0..3).map(move |m| format!("raft-{c}-{m}"))).collect();
    assert_eq!(pods, expected);
    let services = ns.get("services").await;
    assert_eq!(names(&services), ["raft-1", "raft-1-hs", "raft-2", "raft-2-hs", "raft-3", "raft-3-hs"]);
    for id in 1..=3 {
        let service = ns.one(&format!("service/raft-{id}")).await;
        assert_eq!(service["spec"]["type"], "ClusterIP");
        assert_ne!(service["spec"]["clusterIP"], "None");
        let port = &service["spec"]["ports"][0];
        assert_eq!((&port["name"], &port["port"], &port["protocol"]), (&json!("api"), &json!(5678), &json!("TCP")));
    }
    assert_eq!(ns.get("configmaps").await.len(), 4, "three of ours and Kubernetes' own");

    let map = ns.one("configmap/raft-1").await;
    let cluster: Value = serde_json::from_str(map["data"]["cluster.json"].as_str().unwrap()).unwrap();
    let member = |m: u32| {
        let id = format!("raft-1-{m}");
        let host = format!("{id}.raft-1-hs.example.svc.cluster.local");
        json!({"id": id, "host": host, "apiPort": 5678, "protocolPort": 5679})
    };
    let members: Vec<_> = (0..3).map(member).collect();
    assert_eq!(cluster, json!({"members": members, "partitions": [{"partition": 1}]}), "an image named raft-replica");

    let partition = ns.one("partition/raft-2").await;
    let labels = &partition["metadata"]["labels"];
    for (label, value) in [("app", "atomix"), ("type", "partition"), ("database", "raft"), ("partition", "2")] {
        assert_eq!(labels[label], value, "label {label}");
    }
    assert_eq!(partition["spec"], json!({"partitionId": 2, "serviceName": "raft-2"}));
    assert_eq!(partition["metadata"]["annotations"]["cloud.atomix.io/controller"], "kube-system.atomix-controller");
    let host = "raft-2.example.svc.cluster.local";
    assert_eq!(
        (&partition["status"]["ready"], &partition["status"]["endpoints"]),
        (&json!(true), &json!([{"host": host, "port": 5678}]))
    );

    // What clients of Atomix 4 read of a Partition, where everything else has the database's name with its namespace.
    let partition = ns.one("partition/raft-3").await;
    for (label, value) in [("app", "atomix"), ("type", "partition"), ("database", "raft"), ("partition", "3")] {
        assert_eq!(partition["metadata"]["labels"][label], value, "label {label} of a Partition");
    }
    let controller = "kube-system.atomix-controller";
    for (key, value) in [("controller", controller), ("type", "partition"), ("database", "raft"), ("partition", "3")] {
        let annotations = &partition["metadata"]["annotations"];
        assert_eq!(annotations[format!("cloud.atomix.io/{key}")], value, "annotation {key} of a Partition");
    }
    let set = ns.one("statefulset/raft-3").await;
    assert_eq!(set["metadata"]["annotations"]["cloud.atomix.io/database"], "raft.example");
    for (label, value) in [("app", "atomix"), ("database", "raft.example"), ("cluster", "3")] {
        assert_eq!(set["metadata"]["labels"][label], value, "label {label}");
        assert_eq!(set["spec"]["template"]["metadata"]["labels"][label], value, "label {label} of the pods");
    }
    assert_eq!(set["spec"]["podManagementPolicy"], "Parallel");
    assert_eq!(set["spec"]["serviceName"], "raft-3-hs");
}

#[tokio::test]
async fn the_status_names_the_class_that_is_used_and_that_it_was_the_fallback() {
    let ns = shared_fixture().await.namespace("example-class").await;
    ns.create_file("deploy/examples/raft.yaml").await;
    ns.wait("database/raft", "Ready").await;
    ns.kubectl(["wait", "--for=condition=Progressing=False", "--timeout=60s", "database/raft"]).await; // the last member is up, too
    let database = ns.one("database/raft").await;
    let class = &database["status"]["storageClass"];
    assert_eq!((&class["namespace"], &class["name"]), (&json!("example-class"), &json!("raft")));
    let accepted = condition(&database, "Accepted");
    assert_eq!((&accepted["status"], &accepted["reason"]), (&json!("True"), &json!("ClassFromOwnNamespace")));
    let message = accepted["message"].as_str().unwrap();
    assert!(message.contains("kube-system") && message.contains("example-class"), "{message}");
    assert_eq!(database["status"]["observedGeneration"], database["metadata"]["generation"]);
    let printed = ns.kubectl(["get", "databases"]).await;
    assert!(
        printed.lines().nth(1).is_some_and(|line| line.contains("raft") && line.contains("3/3") && line.contains("Ready")),
        "{printed}"
    );
}

#[tokio::test]
async fn the_controller_acts_as_its_service_account_and_is_refused_nothing() {
    let fixture = shared_fixture().await;
    let mark = fixture.mark().await;
    let ns = fixture.namespace("identity").await;
    ns.create_file("deploy/examples/raft.yaml").await;
    ns.wait("database/raft", "Ready").await;
    let requests = fixture.requests_since(mark).await;
    let here: Vec<_> = requests.iter().filter(|r| r.user_agent.starts_with("atomix-controller/")).collect();
    assert!(!here.is_empty(), "no request has the controller's user agent:\n{}", table(&requests));
    assert!(here.iter().all(|request| request.user == USER), "{}", table(&requests));
    let refused: Vec<_> = here.iter().filter(|request| request.code == 403 && request.namespace == "identity").collect();
    assert!(refused.is_empty(), "{refused:?}");
}

#[tokio::test]
async fn the_examples_of_plain_storages_become_ready_with_the_objects_that_clients_know() {
    let fixture = shared_fixture().await;
    for plugin in ["etcd", "valkey", "redis"] {
        fixture.install(plugin).await.unwrap();
    }
    let numbered = |names: &[&str], many: u32| -> Vec<String> {
        let mut all: Vec<String> =
            (1..=many).flat_map(|id| names.iter().map(move |name| name.replace('#', &id.to_string()))).collect();
        all.sort();
        all
    };
    for (example, partitions, port, sets, pods, services) in [
        (
            "etcd",
            3,
            2379,
            numbered(&["etcd-#"], 3),
            numbered(&["etcd-#-0", "etcd-#-1", "etcd-#-2"], 3),
            numbered(&["etcd-#", "etcd-#-hs"], 3),
        ),
        (
            "valkey",
            2,
            6379,
            numbered(&["valkey-#", "valkey-#-r"], 2),
            numbered(&["valkey-#-0", "valkey-#-r-0"], 2),
            numbered(&["valkey-#", "valkey-#-hs", "valkey-#-r", "valkey-#-r-hs"], 2),
        ),
        (
            "redis",
            3,
            5678,
            numbered(&["redis-#"], 1),
            vec!["redis-1-0".to_owned()],
            ["redis-1", "redis-1-all-hs", "redis-1-hs", "redis-2", "redis-3"].map(str::to_owned).to_vec(),
        ),
    ] {
        let ns = fixture.namespace(&format!("example-{example}")).await;
        ns.create_file(&format!("deploy/examples/{example}.yaml")).await;
        ns.wait(&format!("database/{example}"), "Ready").await;
        assert_eq!(names(&ns.get("partitions").await), numbered(&[&format!("{example}-#")], partitions));
        assert_eq!(names(&ns.get("statefulsets").await), sets);
        assert_eq!(names(&ns.get("services").await), services);
        let mut found = names(&ns.get("pods").await);
        found.retain(|name| !name.contains("proxy"));
        assert_eq!(found, pods);
        let claims = ns.get("persistentvolumeclaims").await;
        assert_eq!(claims.len(), pods.len(), "each server has a volume: {claims:?}");
        let host = format!("{example}-1.example-{example}.svc.cluster.local");
        let partition = ns.one(&format!("partition/{example}-1")).await;
        assert_eq!(partition["status"]["endpoints"], json!([{"host": host, "port": port}]));
    }
}
