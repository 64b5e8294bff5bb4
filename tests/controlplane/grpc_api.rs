//! Programs find databases, groups and primitives over gRPC: real sockets, the controller's own process.

use std::collections::BTreeMap;
use std::time::Duration;

use harness::controller::{Options, USER};
use harness::eventually::Eventually;
use harness::fixture::{Namespace, private_fixture_with, shared_fixture};
use harness::grpc::controller as first;
use harness::grpc::database::{Database, DatabaseId, GetDatabaseRequest, GetDatabasesRequest};
use harness::grpc::primitive::{
    CreatePrimitiveRequest, DeletePrimitiveRequest, GetPrimitiveRequest, GetPrimitivesRequest, PrimitiveId,
    PrimitiveMetadata, PrimitiveType,
};
use harness::grpc::{Clients, dial};
use harness::manifests::Manifests;
use prost_types::Any;
use serde_json::Value;
use tonic::{Code, Request};

const RAFT: &str = "type.googleapis.com/atomix.raft.config.ProtocolConfig";
const CACHE: &str = "type.googleapis.com/atomix.cache.config.ProtocolConfig";

async fn clients(ns: &Namespace<'_>) -> Clients {
    ns.must(dial(&ns.fixture().controller.grpc()).await).await
}

/// Waits until a plugin that was just installed serves.
async fn serving(ns: &Namespace<'_>, plugin: &str) {
    let plugin = format!("storageplugin/{plugin}");
    let serves = ["wait", "--namespace=kube-system", "--for=condition=Ready", &plugin, "--timeout=60s"];
    ns.eventually("the plugin serves", || async {
        Ok(match ns.fixture().kubectl().run(serves).await {
            Ok(_) => Eventually::Now(()),
            Err(error) => Eventually::NotYet(format!("{error:#}")),
        })
    })
    .await;
}

fn database_id(ns: &Namespace<'_>, name: &str) -> Option<DatabaseId> {
    Some(DatabaseId { name: name.to_owned(), namespace: ns.name.clone() })
}

fn group_id(ns: &Namespace<'_>, name: &str) -> Option<first::PartitionGroupId> {
    Some(first::PartitionGroupId { name: name.to_owned(), namespace: ns.name.clone() })
}

fn group_spec(partitions: u32, partition_size: u32, type_url: &str, value: &[u8]) -> Option<first::PartitionGroupSpec> {
    let protocol = Some(Any { type_url: type_url.to_owned(), value: value.to_vec() });
    Some(first::PartitionGroupSpec { partitions, partition_size, protocol })
}

async fn groups(clients: &mut Clients, ns: &Namespace<'_>, name: &str) -> Vec<first::PartitionGroup> {
    let request = first::GetPartitionGroupsRequest { id: group_id(ns, name) };
    clients.first.get_partition_groups(request).await.unwrap().into_inner().groups
}

fn endpoints(database: &Database) -> Vec<String> {
    let partition = |it: &harness::grpc::database::Partition| {
        let id = it.partition_id.as_ref().unwrap().partition;
        format!("{id} {}:{}", it.endpoints[0].host, it.endpoints[0].port)
    };
    database.partitions.iter().map(partition).collect()
}

#[tokio::test]
async fn a_database_of_kubectl_is_found_by_both_generations() {
    let ns = shared_fixture().await.namespace("api-databases").await;
    ns.create_file("deploy/examples/raft.yaml").await;
    ns.wait("database/raft", "Ready").await;
    let mut clients = clients(&ns).await;
    let expected: Vec<String> = (1..=3).map(|id| format!("{id} raft-{id}.{}.svc.cluster.local:5678", ns.name)).collect();

    let request = GetDatabaseRequest { id: database_id(&ns, "raft") };
    let one = clients.databases.get_database(request).await.unwrap().into_inner().database.unwrap();
    assert_eq!((one.id.clone(), endpoints(&one)), (database_id(&ns, "raft"), expected.clone()));
    let request = GetDatabasesRequest { namespace: ns.name.clone() };
    assert_eq!(clients.databases.get_databases(request).await.unwrap().into_inner().databases, [one]);

    for name in ["raft", ""] {
        let id = Some(first::DatabaseId { name: name.to_owned(), namespace: ns.name.clone() });
        let answer = clients.first.get_databases(first::GetDatabasesRequest { id }).await.unwrap().into_inner().databases;
        let of = |it: &first::Partition| format!("{} {}:{}", it.partition_id, it.endpoints[0].host, it.endpoints[0].port);
        let found: Vec<_> = answer.iter().flat_map(|database| database.partitions.iter().map(of)).collect();
        assert_eq!(found, expected);
        let group = groups(&mut clients, &ns, name).await.pop().unwrap();
        assert_eq!(group.id, group_id(&ns, "raft"));
        assert_eq!(group.spec, group_spec(3, 3, RAFT, &[]), "what the class means to clients that create groups");
        assert_eq!(group.partitions.iter().map(of).collect::<Vec<_>>(), expected);
    }

    let missing = |name: &str| GetDatabaseRequest { id: database_id(&ns, name) };
    let status = clients.databases.get_database(missing("none")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "there is no database api-databases/none"));
    let status = clients.databases.get_database(GetDatabaseRequest { id: None }).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "id is missing"));
    let request = GetDatabasesRequest { namespace: "../kube-system".to_owned() };
    assert_eq!(clients.databases.get_databases(request).await.unwrap_err().code(), Code::InvalidArgument);
    let request = GetDatabasesRequest { namespace: "nobody-here".to_owned() };
    assert!(clients.databases.get_databases(request).await.unwrap().into_inner().databases.is_empty());
}

#[tokio::test]
async fn reads_cost_no_request_and_a_restart_never_answers_less() {
    let fixture = private_fixture_with("api-quiet", Options::default()).await;
    fixture.install("raft").await.unwrap();
    let ns = fixture.namespace("api-quiet").await;
    ns.create_file("deploy/examples/raft.yaml").await;
    ns.wait("database/raft", "Ready").await;
    ns.settled().await;
    let mut clients = dial(&fixture.controller.grpc()).await.unwrap();
    let mark = fixture.mark().await;
    for _ in 0..100 {
        let request = GetDatabaseRequest { id: database_id(&ns, "raft") };
        clients.databases.get_database(request).await.unwrap();
        assert_eq!(groups(&mut clients, &ns, "").await.len(), 1);
    }
    let requests = fixture.requests_since(mark).await;
    let ours: Vec<_> = requests.iter().filter(|request| request.user == USER).collect();
    assert!(ours.is_empty(), "{ours:?}");

    fixture.controller.stop().await.unwrap();
    fixture.controller.start_unready().unwrap();
    let request = || GetDatabasesRequest { namespace: ns.name.clone() };
    let answer = ns
        .eventually("a server answers", || async {
            let Ok(mut clients) = dial(&fixture.controller.grpc()).await else {
                return Ok(Eventually::NotYet("no server listens".to_owned()));
            };
            match clients.databases.get_databases(request()).await {
                Ok(answer) => Ok(Eventually::Now(answer.into_inner().databases.len())),
                Err(status) if status.code() == Code::Unavailable => Ok(Eventually::NotYet(status.to_string())),
                Err(status) => Err(status.into()),
            }
        })
        .await;
    assert_eq!(answer, 1, "the first answer after a start is whole");
}

#[tokio::test]
async fn groups_are_created_and_deleted_over_grpc() {
    let ns = shared_fixture().await.namespace("api-groups").await;
    let mut clients = clients(&ns).await;
    let create = |name: &str, spec| first::CreatePartitionGroupRequest { id: group_id(&ns, name), spec };
    let raft = || group_spec(2, 3, RAFT, b"\x0a\x02\x08\x05"); // election_timeout = 5 s

    clients.first.create_partition_group(create("made", raft())).await.unwrap();
    let group = groups(&mut clients, &ns, "made").await.pop().expect("what was created is found at once");
    assert_eq!((group.spec, group.partitions.len()), (raft(), 2));
    clients.first.create_partition_group(create("made", raft())).await.expect("repeating it is safe");
    ns.wait("database/made", "Ready").await;
    assert_eq!(groups(&mut clients, &ns, "made").await.pop().unwrap().spec, raft(), "and stays as it was requested");
    let class = ns.one("raftstorageclass/made").await;
    assert_eq!(class["metadata"]["ownerReferences"][0]["uid"], ns.one("database/made").await["metadata"]["uid"]);
    assert_eq!((&class["spec"]["replicas"], &class["spec"]["electionTimeout"]), (&3.into(), &"5s".into()));
    assert_eq!(ns.get("statefulsets").await.len(), 2, "each partition is a cluster of its own");

    for other in [
        group_spec(3, 3, RAFT, b"\x0a\x02\x08\x05"),
        group_spec(2, 1, RAFT, b"\x0a\x02\x08\x05"),
        group_spec(2, 3, RAFT, b""),
    ] {
        let status = clients.first.create_partition_group(create("made", other)).await.unwrap_err();
        assert_eq!(status.code(), Code::AlreadyExists, "{status}");
    }
    clients.first.create_partition_group(create("cached", group_spec(1, 1, CACHE, b""))).await.unwrap();
    let names: Vec<_> = groups(&mut clients, &ns, "").await.into_iter().map(|group| group.id.unwrap().name).collect();
    assert_eq!(names, ["cached", "made"]);

    for (name, spec, expected) in [
        (
            "x",
            group_spec(1, 1, "type.googleapis.com/no.Such", b""),
            "known are atomix.cache.config.ProtocolConfig (plugin cache), atomix.raft.config.ProtocolConfig (plugin raft)",
        ),
        ("x", group_spec(0, 1, RAFT, b""), "spec.partitions is 0"),
        ("x", group_spec(1, 100, RAFT, b""), "partition_size"),
        ("x", group_spec(1, 1, RAFT, b"\xff"), "protocol.value"),
        ("X", group_spec(1, 1, RAFT, b""), "id.name is \"X\""),
        ("", group_spec(1, 1, RAFT, b""), "id.name is empty"),
        ("x", None, "spec is missing"),
    ] {
        let status = clients.first.create_partition_group(create(name, spec)).await.unwrap_err();
        assert!(status.code() == Code::InvalidArgument && status.message().contains(expected), "{status}: {expected}");
    }
    assert_eq!(ns.get("databases").await.len(), 2, "what was refused left nothing");

    let delete = |name: &str| first::DeletePartitionGroupRequest { id: group_id(&ns, name) };
    clients.first.delete_partition_group(delete("made")).await.unwrap();
    assert!(groups(&mut clients, &ns, "made").await.is_empty());
    assert_eq!(clients.first.delete_partition_group(delete("made")).await.unwrap_err().code(), Code::NotFound);
    ns.wait_gone("database/made").await;
    ns.wait_gone("raftstorageclass/made").await;
}

fn create(ns: &Namespace<'_>, scope: &str, name: &str, type_: PrimitiveType) -> CreatePrimitiveRequest {
    let primitive = Some(PrimitiveId { name: name.to_owned(), namespace: scope.to_owned() });
    CreatePrimitiveRequest { database: database_id(ns, "db"), primitive, r#type: type_.into() }
}

#[tokio::test]
async fn primitives_keep_any_name_and_are_created_once() {
    let ns = shared_fixture().await.namespace("api-primitives").await;
    ns.create_ready(&one_database()).await;
    let mut clients = clients(&ns).await;
    let long = "L".repeat(253);
    let names = ["map", "Map", "a/b/c", "../x", &long, "日本 ✓", "a", "a b"];
    let mut made = BTreeMap::new();
    for name in names {
        let request = create(&ns, "Scope/1", name, PrimitiveType::Map);
        let answer = clients.primitives.create_primitive(request.clone()).await.unwrap().into_inner().primitive.unwrap();
        let get = GetPrimitiveRequest { database: request.database.clone(), primitive: request.primitive.clone() };
        let found = clients.primitives.get_primitive(get).await.expect("what was created is found").into_inner();
        assert_eq!(found.primitive.unwrap(), answer);
        assert_eq!((answer.primitive.clone(), answer.r#type()), (request.primitive, PrimitiveType::Map));
        made.insert(name.to_owned(), answer);
    }
    let objects = ns.get("primitives").await;
    let mut stored: Vec<&str> = objects.iter().map(|it| it["properties"]["metadata"]["name"].as_str().unwrap()).collect();
    stored.sort();
    assert_eq!(stored, made.keys().collect::<Vec<_>>(), "each object holds the original");

    let again = clients.primitives.create_primitive(create(&ns, "Scope/1", "map", PrimitiveType::Map)).await.unwrap();
    assert_eq!(again.into_inner().primitive.as_ref(), made.get("map"));
    let status = clients.primitives.create_primitive(create(&ns, "Scope/1", "map", PrimitiveType::Set)).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    clients.primitives.create_primitive(create(&ns, "other", "map", PrimitiveType::Set)).await.expect("another scope");

    let list = async |request: GetPrimitivesRequest| -> Vec<PrimitiveMetadata> {
        clients.clone().primitives.get_primitives(request).await.unwrap().into_inner().primitives
    };
    let all = GetPrimitivesRequest { database: database_id(&ns, "db"), ..Default::default() };
    let id = |name: &str, scope: &str| Some(PrimitiveId { name: name.into(), namespace: scope.into() });
    assert_eq!(list(all.clone()).await.len(), names.len() + 1);
    assert_eq!(list(GetPrimitivesRequest { primitive: id("map", ""), ..all.clone() }).await.len(), 2);
    assert_eq!(list(GetPrimitivesRequest { primitive: id("", "other"), ..all.clone() }).await.len(), 1);
    assert_eq!(list(GetPrimitivesRequest { r#type: PrimitiveType::Set.into(), ..all.clone() }).await.len(), 1);
    assert!(list(GetPrimitivesRequest { database: database_id(&ns, "none"), ..all.clone() }).await.is_empty());
    assert_eq!(list(GetPrimitivesRequest { database: database_id(&ns, ""), ..all.clone() }).await.len(), names.len() + 1);

    let delete = DeletePrimitiveRequest { database: database_id(&ns, "db"), primitive: id("map", "Scope/1") };
    let gone = clients.primitives.delete_primitive(delete.clone()).await.unwrap().into_inner().primitive;
    assert_eq!(gone.as_ref(), made.get("map"));
    assert_eq!(clients.primitives.delete_primitive(delete).await.unwrap_err().code(), Code::NotFound);
    let get = GetPrimitiveRequest { database: database_id(&ns, "db"), primitive: id("map", "Scope/1") };
    assert_eq!(clients.primitives.get_primitive(get).await.unwrap_err().code(), Code::NotFound);
    let mut nowhere = create(&ns, "", "x", PrimitiveType::Map);
    nowhere.database = database_id(&ns, "none");
    assert_eq!(clients.primitives.create_primitive(nowhere).await.unwrap_err().code(), Code::NotFound);
    let mut odd = create(&ns, "", "x", PrimitiveType::Map);
    odd.r#type = 11;
    assert_eq!(clients.primitives.create_primitive(odd).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn fifty_clients_that_create_one_primitive_get_one() {
    let ns = shared_fixture().await.namespace("api-fifty").await;
    ns.create_ready(&one_database()).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (mut clients, request) = (clients(&ns).await, create(&ns, "s", "one", PrimitiveType::Lock));
        calls.spawn(async move { clients.primitives.create_primitive(request).await.map(|answer| answer.into_inner()) });
    }
    let answers: Vec<_> = calls.join_all().await.into_iter().map(Result::unwrap).collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(ns.get("primitives").await.len(), 1);

    ns.kubectl(["delete", "database/db"]).await;
    ns.until("primitives", "primitives go with their database", <[Value]>::is_empty).await;
}

fn one_database() -> Manifests {
    Manifests::cache().database("db", 1)
}

#[tokio::test]
async fn clients_are_bounded_by_flags() {
    let env = |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let options = Options {
        env: env(&[
            ("ATOMIX_GRPC_WRITE_NAMESPACES", "bounded"),
            ("ATOMIX_GRPC_GROUPS_MAX", "2"),
            ("ATOMIX_GRPC_PRIMITIVES_MAX", "3"),
        ]),
        ..Options::default()
    };
    let fixture = private_fixture_with("api-bounds", options).await;
    let start = fixture.mark().await;
    fixture.install("cache").await.unwrap();
    let ns = fixture.namespace("bounded").await;
    serving(&ns, "cache").await;
    let mut clients = clients(&ns).await;
    let group =
        |name: &str| first::CreatePartitionGroupRequest { id: group_id(&ns, name), spec: group_spec(1, 1, CACHE, b"") };
    for name in ["db", "two"] {
        clients.first.create_partition_group(group(name)).await.unwrap();
    }
    let status = clients.first.create_partition_group(group("three")).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::ResourceExhausted, "namespace bounded holds 2 groups, which is the limit")
    );
    clients.first.create_partition_group(group("two")).await.expect("one that is there needs no room");
    for name in ["1", "2", "3"] {
        clients.primitives.create_primitive(create(&ns, "", name, PrimitiveType::Map)).await.unwrap();
    }
    let status = clients.primitives.create_primitive(create(&ns, "", "4", PrimitiveType::Map)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");

    let elsewhere = first::CreatePartitionGroupRequest {
        id: Some(first::PartitionGroupId { name: "db".into(), namespace: "default".into() }),
        spec: group_spec(1, 1, CACHE, b""),
    };
    let status = clients.first.create_partition_group(elsewhere).await.unwrap_err();
    assert!(status.code() == Code::PermissionDenied && status.message().contains("only to bounded"), "{status}");
    let denied = |requests: Vec<harness::audit::Request>| requests.into_iter().filter(|it| it.code == 403).count();
    assert_eq!(denied(fixture.requests_since(start).await), 0);
}

#[tokio::test]
async fn the_server_keeps_limits_and_deadlines_and_reports_its_health() {
    let ns = shared_fixture().await.namespace("api-server").await;
    let mut clients = clients(&ns).await;
    let request = GetDatabasesRequest { namespace: "n".repeat(70_000) };
    let status = clients.databases.get_databases(request).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "a message over the limit: {status}");

    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", ns.fixture().controller.grpc())).unwrap();
    let channel = channel.connect().await.unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    for service in [
        "",
        "atomix.controller.ControllerService",
        "atomix.database.DatabaseService",
        "atomix.membership.MembershipService",
        "atomix.primitive.PrimitiveService",
    ] {
        let request = tonic_health::pb::HealthCheckRequest { service: service.to_owned() };
        assert_eq!(health.check(request).await.unwrap().into_inner().status, 1, "{service} serves");
    }
    let request = tonic_health::pb::HealthCheckRequest { service: "none".to_owned() };
    assert_eq!(health.check(request).await.unwrap_err().code(), Code::NotFound);

    let mut watch = Request::new(harness::grpc::membership::JoinGroupRequest::default());
    watch.set_timeout(Duration::from_millis(500));
    let mut stream = clients.membership.join_group(watch).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some(), "the first answer comes at once");
    let ended = stream.message().await.unwrap_err();
    assert_eq!(ended.code(), Code::DeadlineExceeded, "{ended}");

    let metrics = ns.fixture().controller.metrics().await.unwrap();
    for line in [
        r#"atomix_grpc_calls_total{method="atomix.database.DatabaseService/GetDatabases",code="RESOURCE_EXHAUSTED"}"#,
        r#"atomix_grpc_calls_total{method="atomix.membership.MembershipService/JoinGroup",code="DEADLINE_EXCEEDED"}"#,
        r#"atomix_grpc_call_seconds_count{method="grpc.health.v1.Health/Check"}"#,
    ] {
        assert!(metrics.contains(line), "no {line} in\n{metrics}");
    }
}

#[tokio::test]
async fn a_call_that_runs_when_the_controller_stops_is_answered() {
    let fixture = private_fixture_with("api-stop", Options::default()).await;
    fixture.install("cache").await.unwrap();
    let ns = fixture.namespace("stop").await;
    serving(&ns, "cache").await;
    let mut clients = clients(&ns).await;
    // Hundreds of partitions take their time, and the call waits for them.
    let request = first::CreatePartitionGroupRequest { id: group_id(&ns, "slow"), spec: group_spec(500, 1, CACHE, b"") };
    let call = tokio::spawn(async move { clients.first.create_partition_group(request).await });
    ns.wait_created("database/slow").await;
    assert!(!call.is_finished(), "the call should still run");
    fixture.controller.stop().await.unwrap();
    call.await.unwrap().expect("a call that has begun is answered");
}
