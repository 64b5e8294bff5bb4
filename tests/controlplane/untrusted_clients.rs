//! What untrusted clients may do: they connect and send nothing, request what is being deleted, take names, send too many
//! requests. Others are served all the while, and no answer promises what will not be.

use std::time::Duration;

use atomix_model::limits;
use harness::controller::USER;
use harness::eventually::{Eventually, eventually};
use harness::fixture::{Namespace, private_fixture, shared_fixture};
use harness::grpc::controller as first;
use harness::grpc::database::DatabaseId;
use harness::grpc::membership::{GroupId, JoinGroupRequest, Member, MemberId};
use harness::grpc::primitive::{
    CreatePrimitiveRequest, GetPrimitiveRequest, GetPrimitivesRequest, PrimitiveId, PrimitiveType,
};
use harness::grpc::{Clients, dial};
use harness::local_http;
use harness::manifests::Manifests;
use harness::proxy::{Proxy, Withheld};
use prost::Message as _;
use prost_types::Any;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tonic::Code;

use super::http2_frames::{Wire, framed};

const RAFT: &str = "type.googleapis.com/atomix.raft.config.ProtocolConfig";

fn one_database() -> Manifests {
    Manifests::cache().database("db", 1)
}

async fn clients(ns: &Namespace<'_>) -> Clients {
    dial(&ns.fixture().controller.grpc()).await.unwrap()
}

fn group_id(ns: &Namespace<'_>, name: &str) -> Option<first::PartitionGroupId> {
    Some(first::PartitionGroupId { name: name.to_owned(), namespace: ns.name.clone() })
}

fn create(ns: &Namespace<'_>, name: &str, protocol: &str, partition_size: u32) -> first::CreatePartitionGroupRequest {
    let protocol = Some(Any { type_url: protocol.to_owned(), value: Vec::new() });
    let spec = Some(first::PartitionGroupSpec { partitions: 1, partition_size, protocol });
    first::CreatePartitionGroupRequest { id: group_id(ns, name), spec }
}

fn delete(ns: &Namespace<'_>, name: &str) -> first::DeletePartitionGroupRequest {
    first::DeletePartitionGroupRequest { id: group_id(ns, name) }
}

async fn size(clients: &mut Clients, ns: &Namespace<'_>, name: &str) -> u32 {
    let request = first::GetPartitionGroupsRequest { id: group_id(ns, name) };
    let groups = clients.first.get_partition_groups(request).await.unwrap().into_inner().groups;
    groups.into_iter().next().expect("it is found at once").spec.unwrap().partition_size
}

/// Creates a group as clients do that try again when an answer asks for it.
async fn patiently(clients: &mut Clients, request: first::CreatePartitionGroupRequest) {
    while let Err(status) = clients.first.create_partition_group(request.clone()).await {
        assert_eq!(status.code(), Code::Unavailable, "{status}");
    }
}

/// Connections that send nothing; they stay until they are dropped.
async fn silent(address: &str, count: usize) -> Vec<TcpStream> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(TcpStream::connect(address).await.unwrap());
    }
    all
}

#[tokio::test]
async fn silent_connections_stop_neither_webhook_nor_metrics_nor_api() {
    let fixture = private_fixture("outsiders").await;
    fixture.install("cache").await.unwrap();
    let ns = fixture.namespace("silent").await;
    ns.create_ready(&one_database()).await;
    let mut kept = clients(&ns).await;
    let [webhook, grpc] = [fixture.controller.webhook(), fixture.controller.grpc()];
    let metrics = format!("127.0.0.1:{}", fixture.controller.metrics_port());
    let mut silent = [silent(&webhook, 300).await, silent(&metrics, 300).await, silent(&grpc, 1200).await];

    // From the same address as they come: the worst that can be.
    let old = ns.one("database.v1beta2.cloud.atomix.io/db").await;
    assert_eq!(old["spec"]["clusters"], json!(1), "the API server is answered: {old}");
    assert_eq!(local_http::get(fixture.controller.metrics_port(), "/healthz").await.unwrap().status, 200);
    let request =
        first::GetDatabasesRequest { id: Some(first::DatabaseId { name: "db".into(), namespace: ns.name.clone() }) };
    let answer = kept.first.get_databases(request.clone()).await.unwrap().into_inner();
    assert_eq!(answer.databases.len(), 1, "a client that was connected before");
    clients(&ns).await.first.get_databases(request).await.expect("and one that comes now");

    // A connection that sends nothing is closed, within the time of a handshake and some.
    let mut received = Vec::new();
    for (server, streams) in ["webhook", "grpc"].into_iter().zip([0, 2]) {
        let last = silent[streams].last_mut().unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(30), last.read_to_end(&mut received)).await;
        assert!(ended.is_ok(), "{server}");
    }
}

#[tokio::test]
async fn a_group_waits_for_what_an_older_one_of_its_name_left_behind() {
    let fixture = shared_fixture().await;
    let ns = fixture.namespace("older-groups").await;
    let mut clients = clients(&ns).await;
    clients.first.create_partition_group(create(&ns, "g", RAFT, 3)).await.unwrap();
    assert_eq!(size(&mut clients, &ns, "g").await, 3);
    let hold = r#"{"metadata":{"finalizers":["example.com/held"]}}"#;
    ns.kubectl(["patch", "raftstorageclass/g", "--type=merge", "-p", hold]).await;
    clients.first.delete_partition_group(delete(&ns, "g")).await.unwrap();

    // By hand, since tonic's client counts the same two seconds and may be first to end the call.
    let wire = Wire::dial(&fixture.controller.grpc()).await;
    let method = "/atomix.controller.ControllerService/CreatePartitionGroup";
    let request = framed(&create(&ns, "g", RAFT, 1).encode_to_vec());
    let late = wire.send(method, &[("grpc-timeout", "2S")], request).await.status().await;
    let code = late.as_ref().map(|(code, _)| Code::from_i32(*code));
    assert_eq!(code, Some(Code::DeadlineExceeded), "no OK for what is not: {late:?}");
    assert!(ns.get("databases").await.is_empty(), "and no database that would run on the old class");
    let (mut again, request) = (clients.clone(), create(&ns, "g", RAFT, 1));
    let call = tokio::spawn(async move { patiently(&mut again, request).await });
    // The garbage collector of Kubernetes takes up to a minute to discover a kind that was installed just before.
    let collected = eventually(Duration::from_secs(150), "the old class is collected", || async {
        let class = ns.one("raftstorageclass/g").await;
        Ok(Eventually::when(class["metadata"]["deletionTimestamp"].is_string(), || class["metadata"].to_string()))
    });
    collected.await.unwrap();
    assert!(!call.is_finished(), "{:?}", call.await);
    ns.kubectl(["patch", "raftstorageclass/g", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]).await;
    call.await.unwrap();
    assert_eq!(size(&mut clients, &ns, "g").await, 1);

    // The same without anything that holds it up, again and again, at once after the deletion.
    for round in 0..6_u32 {
        let wanted = 1 + round % 2 * 2;
        clients.first.delete_partition_group(delete(&ns, "g")).await.unwrap();
        patiently(&mut clients, create(&ns, "g", RAFT, wanted)).await;
        assert_eq!(size(&mut clients, &ns, "g").await, wanted, "round {round}");
        let (class, database) = (ns.one("raftstorageclass/g").await, ns.one("database/g").await);
        assert_eq!(class["spec"]["replicas"], json!(wanted), "round {round}");
        assert_eq!(class["metadata"]["ownerReferences"][0]["uid"], database["metadata"]["uid"], "round {round}");
        let set = ns.until("statefulset/g-1", "its pods are as many", |found| {
            found
                .iter()
                .any(|set| set["spec"]["replicas"] == json!(wanted) && set["metadata"]["deletionTimestamp"].is_null())
        });
        set.await;
    }
}

#[tokio::test]
async fn a_group_takes_nobodys_class() {
    let ns = shared_fixture().await.namespace("taken-class").await;
    ns.create(
        "apiVersion: storage.cloud.atomix.io/v1beta1\nkind: RaftStorageClass\nmetadata: {name: mine}\nspec: {replicas: 5}\n",
    )
    .await;
    let refused = clients(&ns).await.first.create_partition_group(create(&ns, "mine", RAFT, 3)).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists, "{refused}");
    assert!(refused.message().contains("RaftStorageClass taken-class/mine exists and is of no group"), "{refused}");
    assert!(ns.get("databases").await.is_empty());
    assert_eq!(ns.one("raftstorageclass/mine").await["spec"]["replicas"], json!(5));
}

#[tokio::test]
async fn a_primitive_of_an_older_database_is_not_one_of_the_new() {
    let ns = shared_fixture().await.namespace("older-primitives").await;
    ns.create_ready(&one_database()).await;
    let mut clients = clients(&ns).await;
    let database = || Some(DatabaseId { name: "db".into(), namespace: ns.name.clone() });
    let primitive = || Some(PrimitiveId { name: "p".into(), namespace: "s".into() });
    let make = || CreatePrimitiveRequest { database: database(), primitive: primitive(), r#type: PrimitiveType::Map.into() };
    clients.primitives.create_primitive(make()).await.unwrap();
    let name = ns.get("primitives").await[0]["metadata"]["name"].as_str().unwrap().to_owned();
    let object = format!("primitive/{name}");
    ns.kubectl(["patch", &object, "--type=merge", "-p", r#"{"metadata":{"finalizers":["example.com/held"]}}"#]).await;
    ns.kubectl(["delete", "database/db"]).await;
    ns.create_ready(&Manifests::on("CacheStorageClass", "db").database("db", 1)).await;
    let get = GetPrimitiveRequest { database: database(), primitive: primitive() };
    ns.eventually("what an older database left is not found", || async {
        let found = clients.clone().primitives.get_primitive(get.clone()).await;
        Ok(Eventually::when(found.is_err_and(|it| it.code() == Code::NotFound), || "found".to_owned()))
    })
    .await;
    let all = GetPrimitivesRequest { database: database(), ..Default::default() };
    assert!(clients.primitives.get_primitives(all).await.unwrap().into_inner().primitives.is_empty());
    let (mut again, request) = (clients.clone(), make());
    let call = tokio::spawn(async move { again.primitives.create_primitive(request).await });
    ns.until(&object, "it is being deleted", |found| found.iter().any(|it| it["metadata"]["deletionTimestamp"].is_string()))
        .await;
    assert!(!call.is_finished(), "no OK for what is going");
    ns.kubectl(["patch", &object, "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]).await;
    call.await.unwrap().expect("once it is gone, the new one is made");
    let (made, database) = (ns.one(&object).await, ns.one("database/db").await);
    assert_eq!(made["metadata"]["ownerReferences"][0]["uid"], database["metadata"]["uid"]);
}

#[tokio::test]
async fn a_refused_join_names_no_address_and_trying_again_costs_next_to_nothing() {
    let fixture = shared_fixture().await;
    let ns = fixture.namespace("join-refused").await;
    let mut clients = clients(&ns).await;
    let join = || {
        let id = Some(MemberId { name: "nobody".into(), namespace: ns.name.clone() });
        let group_id = Some(GroupId { name: "g".into(), namespace: ns.name.clone() });
        JoinGroupRequest { member: Some(Member { id, host: "h".into(), port: 1 }), group_id }
    };
    let mark = fixture.mark().await;
    let began = std::time::Instant::now();
    for _ in 0..200 {
        let refused = clients.membership.join_group(join()).await.map(drop).unwrap_err();
        assert_eq!(refused.code(), Code::NotFound, "{refused}");
    }
    let took = began.elapsed();
    let requests = fixture.requests_since(mark).await;
    let looks = requests.iter().filter(|it| it.user == USER && it.namespace == ns.name && it.resource == "pods").count();
    let most = 6 * (1 + took.as_secs() as usize);
    assert!((1..=most).contains(&looks), "{looks} requests for 200 refusals in {took:?}");
}

#[tokio::test]
async fn a_client_that_writes_without_a_pause_is_slowed_down_and_others_are_not() {
    let fixture = private_fixture("outsiders-writes").await;
    fixture.install("cache").await.unwrap();
    let ns = fixture.namespace("writes").await;
    ns.create_ready(&one_database()).await;
    let mut calls = tokio::task::JoinSet::new();
    for worker in 0..8 {
        let (mut clients, namespace) = (clients(&ns).await, ns.name.clone());
        calls.spawn(async move {
            let mut refused = Vec::new();
            for at in 0..400 {
                let database = Some(DatabaseId { name: "db".into(), namespace: namespace.clone() });
                let primitive = Some(PrimitiveId { name: format!("p-{worker}-{at}"), namespace: String::new() });
                let request = CreatePrimitiveRequest { database, primitive, r#type: PrimitiveType::Map.into() };
                if let Err(status) = clients.primitives.create_primitive(request).await {
                    refused.push(status);
                }
            }
            refused
        });
    }
    let refused: Vec<_> = calls.join_all().await.into_iter().flatten().collect();
    let made = ns.get("primitives").await.len();
    assert!(made >= 1000, "{made}: what is accepted at once is made");
    assert_eq!(made + refused.len(), 3200);
    assert!(!refused.is_empty() && refused.iter().all(|it| it.code() == Code::ResourceExhausted), "{refused:?}");
    assert!(
        refused[0].message().starts_with("too many writes from one address: 1000 at once and 100 a second"),
        "{}",
        refused[0]
    );
    let read = GetPrimitivesRequest {
        database: Some(DatabaseId { name: "db".into(), namespace: ns.name.clone() }),
        ..Default::default()
    };
    assert_eq!(clients(&ns).await.primitives.get_primitives(read).await.unwrap().into_inner().primitives.len(), made);
}

#[tokio::test]
async fn terms_of_an_election_never_go_back_though_its_partition_is_made_anew_unseen() {
    let fixture = private_fixture("outsiders-terms").await;
    fixture.install("cache").await.unwrap();
    let ns = fixture.namespace("terms").await;
    ns.create_ready(&one_database()).await;
    let enter = |member: &str| first::PartitionElectionRequest {
        partition_id: Some(first::PartitionId { partition: 1, group: group_id(&ns, "db"), cluster: None }),
        member: member.to_owned(),
    };
    let mut last = 0;
    for round in 0..3 {
        let mut clients = clients(&ns).await;
        for at in 0..5 {
            let mut stream = clients.first.enter_election(enter(&format!("m{at}"))).await.unwrap().into_inner();
            let term = stream.message().await.unwrap().unwrap().term.unwrap();
            assert!(term.term > last, "round {round}: {} after {last}", term.term);
            last = term.term;
            drop(stream);
            ns.until("partition/db-1", "there is no candidate", |found| {
                found.iter().any(|it| it["status"]["election"]["primary"] == "")
            })
            .await;
        }
        fixture.controller.stop().await.unwrap();
        let before = ns.one("partition/db-1").await["metadata"]["uid"].clone();
        ns.kubectl(["delete", "partition/db-1"]).await;
        fixture.controller.start().await.unwrap();
        ns.until("partition/db-1", "the partition is made anew", |found| {
            found.iter().any(|it| it["metadata"]["uid"] != before && it["status"]["ready"] == true)
        })
        .await;
    }
}

#[tokio::test]
async fn rights_that_vanish_while_a_watch_starts_anew_count_again_as_soon_as_they_are_back() {
    let fixture = private_fixture("outsiders-rights").await;
    fixture.install("cache").await.unwrap();
    let ns = fixture.namespace("rights").await;
    let proxy = Proxy::start(&fixture.plane).await.unwrap();
    let _second = fixture.controller.another_through(1, Some(&proxy)).await.unwrap();
    fixture.controller.stop().await.unwrap();
    ns.create_ready(&one_database()).await;
    let kubectl = fixture.kubectl();
    let role = kubectl.run(["get", "clusterrole", "atomix-controller", "-o", "json"]).await.unwrap();
    let mut less: serde_json::Value = serde_json::from_str(&role).unwrap();
    less["metadata"] = json!({"name": "atomix-controller", "labels": less["metadata"]["labels"]});
    let mut whole = less.clone();
    less["rules"].as_array_mut().unwrap().retain(|rule| rule["resources"] != json!(["partitions"]));
    assert_ne!(less["rules"], whole["rules"], "the role has a rule for partitions");
    kubectl.run_with(["replace", "-f", "-"], &less.to_string()).await.unwrap();
    proxy.end_watches(); // and are refused when they start again
    let reason = |database: &serde_json::Value, reason: &str| {
        let conditions = database["status"]["conditions"].as_array().unwrap();
        conditions.iter().any(|it| it["reason"] == reason)
    };
    ns.until("database/db", "it reports that partitions cannot be watched", |found| reason(&found[0], "WatchFailed")).await;
    whole["metadata"]["resourceVersion"].take();
    kubectl.run_with(["replace", "-f", "-"], &whole.to_string()).await.unwrap();
    let back = std::time::Instant::now();
    ns.until("database/db", "it is whole again by itself", |found| {
        found.iter().any(|database| !reason(database, "WatchFailed"))
    })
    .await;
    println!("whole again after {:?}", back.elapsed());
    ns.wait("database/db", "Ready").await;
}

#[tokio::test]
async fn a_request_whose_answer_never_comes_is_given_up_and_blocks_no_other() {
    let fixture = private_fixture("outsiders-dark").await;
    fixture.install("cache").await.unwrap();
    let ns = fixture.namespace("dark").await;
    let proxy = Proxy::start(&fixture.plane).await.unwrap();
    let second = fixture.controller.another_through(1, Some(&proxy)).await.unwrap();
    fixture.controller.stop().await.unwrap();
    ns.create_ready(&one_database()).await;
    ns.settled().await;

    proxy.withhold(Withheld { requests: vec!["services"], ..Withheld::default() });
    ns.kubectl(["delete", "service/db-1"]).await;
    ns.eventually("the pass waits for an answer", || async {
        Ok(Eventually::when(proxy.unanswered() > 0, || "there was no request".to_owned()))
    })
    .await;
    let dark = std::time::Instant::now();
    proxy.withhold(Withheld::default()); // requests that wait wait for ever; new ones are answered
    ns.create_ready(&Manifests::on("CacheStorageClass", "db").database("other", 1)).await;
    assert!(dark.elapsed() < limits::ANSWER_BEGINS_WITHIN, "nothing else waits: {:?}", dark.elapsed());
    let most = limits::ANSWER_BEGINS_WITHIN + Duration::from_secs(30);
    let back = eventually(most, "the request is made again", || async {
        Ok(Eventually::when(ns.get("service/db-1").await.len() == 1, || second.log_tail(5)))
    });
    back.await.unwrap();
    assert!(dark.elapsed() > limits::ANSWER_BEGINS_WITHIN / 2, "it was given up, not answered: {:?}", dark.elapsed());
    ns.wait("database/db", "Ready").await;
}
