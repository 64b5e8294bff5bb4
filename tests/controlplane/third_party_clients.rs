//! Programs of other authors use the gRPC API: a client in Go generated from `proto/`, one of 2020, grpcurl over
//! reflection, a linter.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use harness::fixture::shared_fixture;
use harness::goclient::{self, Programs};
use harness::manifests::Manifests;
use harness::{oldclients, paths, ports};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OnceCell;
use tonic_reflection::pb::v1alpha;
use v1alpha::server_reflection_client::ServerReflectionClient;
use v1alpha::server_reflection_request::MessageRequest;
use v1alpha::server_reflection_response::MessageResponse;

fn database_and_pods() -> Manifests {
    Manifests::cache().database("db", 1).pods(["a", "b"])
}

/// What the Go client prints, a call a line.
const EXPECTED: &str = include_str!("../golden/wire.jsonl");

async fn programs() -> &'static Programs {
    static BUILT: OnceCell<Programs> = OnceCell::const_new();
    let build = || async { tokio::task::spawn_blocking(goclient::build).await.unwrap().unwrap() };
    BUILT.get_or_init(build).await
}

async fn run(program: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(args).current_dir(paths::root());
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn a_go_client_generated_from_the_descriptors_is_understood() {
    let programs = programs().await;
    let ns = shared_fixture().await.namespace("wire").await;
    ns.create_ready(&database_and_pods()).await;
    let output = run(&programs.client, &[&ns.fixture().controller.grpc(), &ns.name]).await;
    assert!(output.status.success(), "{}\n{}", text(&output.stderr), text(&output.stdout));
    let (lines, expected) = (text(&output.stdout).lines(), EXPECTED.lines());
    let mut first_term = None;
    for (line, expected) in lines.zip(expected) {
        assert_eq!(with_terms_from_one(line, &mut first_term), expected);
    }
    assert_eq!(text(&output.stdout).lines().count(), EXPECTED.lines().count(), "{}", text(&output.stdout));
}

/// A line in which terms count from one: where they begin is the API server's business (see `view/elections`).
fn with_terms_from_one(line: &str, first: &mut Option<i64>) -> String {
    const BEFORE: &str = r#""term":{"term":""#;
    let Some((before, rest)) = line.split_once(BEFORE) else { return line.to_owned() };
    let (term, after) = rest.split_once('"').unwrap();
    let term: i64 = term.parse().unwrap();
    format!("{before}{BEFORE}{}\"{after}", term - *first.get_or_insert(term) + 1)
}

/// The published client dials a partition by its name in the cluster, which this machine cannot resolve. Like every client
/// of gRPC it uses `HTTPS_PROXY`: the proxy takes it to a stand-in for the storage node, and refuses any other name.
#[tokio::test]
async fn a_client_of_2020_creates_a_group_locks_on_it_and_deletes_it() {
    let [client, node] = tokio::task::spawn_blocking(oldclients::first).await.unwrap().unwrap();
    let ns = shared_fixture().await.namespace("wire-group").await;
    let port = ports::free().unwrap();
    let cluster = paths::state().join("tests/old-node.json");
    let member = json!({"id": "m", "host": "127.0.0.1", "apiPort": port, "protocolPort": port});
    std::fs::write(&cluster, json!({"replicas": [member], "partitions": [{"partition": 1}]}).to_string()).unwrap();
    let mut serves = tokio::process::Command::new(node);
    serves.arg("m").arg(&cluster).arg("/dev/null").stdout(Stdio::null()).kill_on_drop(true);
    let _node = serves.spawn().unwrap();
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = proxy.local_addr().unwrap();
    tokio::spawn(proxied(proxy, format!("old-group-1.{}.svc.cluster.local:5678", ns.name), port));

    let mut walk = Command::new(client);
    walk.args(["-groups", "-within", "60s", &ns.fixture().controller.grpc(), &ns.name, "old"]);
    walk.env("HTTPS_PROXY", format!("http://{address}")).env_remove("NO_PROXY").env_remove("no_proxy");
    let output = tokio::task::spawn_blocking(move || walk.output()).await.unwrap().unwrap();
    let printed = text(&output.stdout);
    assert!(output.status.success(), "{printed}{}", text(&output.stderr));
    let steps = printed.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let steps: Vec<String> = steps.map(|step| step["step"].as_str().unwrap().to_owned()).collect();
    assert_eq!(
        steps,
        [
            &["New", "GetGroups", "CreateGroup"][..],
            &["GetLock", "Lock", "IsLocked", "Unlock", "IsLocked", "Close"],
            &["GetGroups", "CreateGroup", "CreateGroup of another spec"],
            &["DeleteGroup", "GetGroups", "DeleteGroup again"],
        ]
        .concat()
    );
    ns.until("raftstorageclasses", "the class has gone with its group", |found| found.is_empty()).await;
}

/// Joins each connection that requests `CONNECT` to `name` with the port of this machine.
async fn proxied(proxy: TcpListener, name: String, port: u16) {
    let wanted = format!("CONNECT {name} HTTP/1.1");
    while let Ok((connection, _)) = proxy.accept().await {
        let wanted = wanted.clone();
        tokio::spawn(async move {
            let mut connection = BufReader::new(connection);
            let (mut request_line, mut line) = (String::new(), String::new());
            connection.read_line(&mut request_line).await?;
            while connection.read_line(&mut line).await? > 2 {
                line.clear();
            }
            if request_line.trim_end() != wanted {
                return connection.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n").await;
            }
            let mut node = TcpStream::connect(("127.0.0.1", port)).await?;
            connection.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            tokio::io::copy_bidirectional(&mut connection, &mut node).await.map(drop)
        });
    }
}

#[tokio::test]
async fn grpcurl_finds_its_way_by_reflection() {
    let grpcurl = programs().await.tool("grpcurl");
    let ns = shared_fixture().await.namespace("wire-curl").await;
    ns.create_ready(&database_and_pods()).await;
    let address = ns.fixture().controller.grpc();
    let curl = async |args: &[&str]| run(grpcurl, &[&["-plaintext"], args].concat()).await;

    let services = curl(&[&address, "list"]).await;
    let expected = [
        "atomix.controller.ControllerService",
        "atomix.database.DatabaseService",
        "atomix.membership.MembershipService",
        "atomix.primitive.PrimitiveService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
    ];
    let listed: Vec<&str> = text(&services.stdout).lines().collect();
    assert_eq!(listed, expected, "{}", text(&services.stderr));
    let methods = curl(&[&address, "list", "atomix.controller.ControllerService"]).await;
    let methods: Vec<&str> = text(&methods.stdout).lines().filter_map(|line| line.rsplit('.').next()).collect();
    assert_eq!(
        methods,
        ["CreatePartitionGroup", "DeletePartitionGroup", "EnterElection", "GetDatabases", "GetPartitionGroups"]
    );
    let described = curl(&[&address, "describe", "atomix.membership.MembershipService"]).await;
    let described = text(&described.stdout);
    let method =
        "rpc JoinGroup ( .atomix.membership.JoinGroupRequest ) returns ( stream .atomix.membership.JoinGroupResponse );";
    assert!(described.contains(method) && described.contains("// Joins a group with a member"), "{described}");
    // The Go client is generated anew with every change of proto/; what older ones use must not change.
    let described = curl(&[&address, "describe", "atomix.controller.PartitionEndpoint"]).await;
    let described = text(&described.stdout);
    assert!(described.contains("string host = 1;") && described.contains("int32 port = 2;"), "{described}");

    let call = "atomix.database.DatabaseService/GetDatabases";
    let answer = curl(&["-d", r#"{"namespace": "wire-curl"}"#, &address, call]).await;
    let answer: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap();
    let partition = serde_json::json!({
        "partitionId": {"partition": 1},
        "endpoints": [{"host": "db-1.wire-curl.svc.cluster.local", "port": 5678}],
    });
    let database = serde_json::json!({"id": {"name": "db", "namespace": "wire-curl"}, "partitions": [partition]});
    assert_eq!(answer, serde_json::json!({"databases": [database]}));

    let none = r#"{"id": {"name": "none", "namespace": "wire-curl"}}"#;
    let refused = curl(&["-d", none, &address, "atomix.database.DatabaseService/GetDatabase"]).await;
    assert_eq!(
        (text(&refused.stderr).trim_end(), refused.status.success()),
        ("ERROR:\n  Code: NotFound\n  Message: there is no database wire-curl/none", false)
    );
}

#[tokio::test]
async fn reflection_is_there_for_older_tools_too() {
    let address = shared_fixture().await.controller.grpc();
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let mut client = ServerReflectionClient::new(channel);
    let mut reflect = async |request: MessageRequest| {
        let request = v1alpha::ServerReflectionRequest { host: String::new(), message_request: Some(request) };
        let answers = client.server_reflection_info(futures::stream::iter([request])).await.unwrap();
        answers.into_inner().message().await.unwrap().unwrap().message_response.unwrap()
    };
    let MessageResponse::ListServicesResponse(services) = reflect(MessageRequest::ListServices(String::new())).await else {
        panic!("services are listed")
    };
    let names: Vec<&str> = services.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"atomix.primitive.PrimitiveService"), "{names:?}");
    let symbol = MessageRequest::FileContainingSymbol("atomix.primitive.PrimitiveType".to_owned());
    let MessageResponse::FileDescriptorResponse(files) = reflect(symbol).await else { panic!("a symbol's file is shown") };
    let file: prost_types::FileDescriptorProto = prost::Message::decode(&files.file_descriptor_proto[0][..]).unwrap();
    assert_eq!((file.name(), file.enum_type[0].value.len()), ("atomix/primitive/primitive.proto", 11));
}

#[tokio::test]
async fn the_protocols_files_are_in_good_style() {
    let protolint = programs().await.tool("protolint");
    let output = run(protolint, &["lint", "-config_dir_path", "proto", "proto"]).await;
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}
