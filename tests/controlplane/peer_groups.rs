//! Groups of peers and elections over gRPC, through one replica and through two, also when one is killed.

use std::collections::BTreeSet;
use std::time::Duration;

use harness::controller::Options;
use harness::eventually::Eventually;
use harness::fixture::{Namespace, SOON, private_fixture, private_fixture_with, shared_fixture};
use harness::grpc::controller::{
    PartitionElectionRequest, PartitionElectionResponse, PartitionGroupId, PartitionId, PrimaryTerm,
};
use harness::grpc::membership::{GroupId, JoinGroupRequest, JoinGroupResponse, Member, MemberId};
use harness::grpc::{Clients, dial};
use harness::manifests::{Manifests, pods};
use tonic::transport::Endpoint;
use tonic::{Code, Status, Streaming};

fn group(ns: &Namespace<'_>, name: &str) -> Option<GroupId> {
    Some(GroupId { name: name.to_owned(), namespace: ns.name.clone() })
}

fn join(ns: &Namespace<'_>, group_name: &str, member: &str) -> JoinGroupRequest {
    let id = Some(MemberId { name: member.to_owned(), namespace: ns.name.clone() });
    let member = Some(Member { id, host: format!("{member}.host"), port: 8080 });
    JoinGroupRequest { member, group_id: group(ns, group_name) }
}

fn watch(ns: &Namespace<'_>, group_name: &str) -> JoinGroupRequest {
    JoinGroupRequest { member: None, group_id: group(ns, group_name) }
}

fn names(membership: &JoinGroupResponse) -> Vec<&str> {
    membership.members.iter().map(|member| member.id.as_ref().unwrap().name.as_str()).collect()
}

async fn next<T>(stream: &mut Streaming<T>) -> Result<Option<T>, Status> {
    tokio::time::timeout(SOON, stream.message()).await.expect("the stream sends something soon")
}

/// Reads until the membership is this one; every membership on the way is answered.
async fn until(stream: &mut Streaming<JoinGroupResponse>, wanted: &[&str]) -> Vec<Vec<String>> {
    let mut seen = Vec::new();
    loop {
        let membership = next(stream).await.unwrap().expect("the stream goes on");
        seen.push(names(&membership).into_iter().map(str::to_owned).collect::<Vec<_>>());
        if seen.last().unwrap() == wanted {
            return seen;
        }
    }
}

async fn clients(address: &str) -> Clients {
    dial(address).await.unwrap()
}

#[tokio::test]
async fn peers_join_see_each_other_and_leave() {
    let ns = shared_fixture().await.namespace("peers").await;
    ns.create(&pods(["a", "b"])).await;
    let address = ns.fixture().controller.grpc();
    let mut watcher = clients(&address).await.membership.join_group(watch(&ns, "G/1")).await.unwrap().into_inner();
    let first = next(&mut watcher).await.unwrap().unwrap();
    assert_eq!(
        (first.group_id.clone(), names(&first).len()),
        (group(&ns, "G/1"), 0),
        "the first answer comes even if it is empty"
    );

    let mut b = clients(&address).await.membership.join_group(join(&ns, "G/1", "b")).await.unwrap().into_inner();
    let own = next(&mut b).await.unwrap().unwrap();
    assert_eq!(names(&own), ["b"], "a joiner sees itself");
    assert_eq!((own.members[0].host.as_str(), own.members[0].port), ("b.host", 8080));
    let mut a = clients(&address).await.membership.join_group(join(&ns, "G/1", "a")).await.unwrap().into_inner();
    assert_eq!(until(&mut a, &["a", "b"]).await.len(), 1);
    assert_eq!(until(&mut watcher, &["a", "b"]).await, [vec!["b"], vec!["a", "b"]], "whole, sorted, only what changed");

    let member = ns.get("members").await.into_iter().find(|it| it["properties"]["metadata"]["name"] == "a").unwrap();
    assert_eq!(member["metadata"]["ownerReferences"][0]["kind"], "Pod");
    assert_eq!(member["properties"]["metadata"]["namespace"], "G/1");
    ns.kubectl(["delete", "member", member["metadata"]["name"].as_str().unwrap()]).await;
    ns.until("members", "a member whose stream is open comes again", |members| members.len() == 2).await;

    let second = clients(&address).await.membership.join_group(join(&ns, "G/1", "a")).await.unwrap().into_inner();
    drop(second);
    drop(b);
    let seen = until(&mut watcher, &["a"]).await;
    assert!(seen.iter().all(|membership| !membership.is_empty()), "a member with another stream stays: {seen:?}");
    drop(a);
    until(&mut watcher, &[]).await;
    ns.until("members", "those that left are gone", |members| members.is_empty()).await;
}

#[tokio::test]
async fn a_member_whose_program_hangs_is_removed_and_so_is_one_that_is_killed() {
    let ns = shared_fixture().await.namespace("peers-hung").await;
    ns.create(&pods(["hung", "killed"])).await;
    let grpcurl = tokio::task::spawn_blocking(harness::goclient::grpcurl).await.unwrap().unwrap();
    let join = |member: &str| {
        let id = serde_json::json!({"name": member, "namespace": ns.name});
        let group = serde_json::json!({"name": "g", "namespace": ns.name});
        let request = serde_json::json!({"member": {"id": id, "host": "h", "port": 1}, "group_id": group}).to_string();
        let mut program = std::process::Command::new(&grpcurl);
        program.args(["-plaintext", "-d", &request, &ns.fixture().controller.grpc()]);
        program.arg("atomix.membership.MembershipService/JoinGroup").stdout(std::process::Stdio::null());
        program.spawn().unwrap()
    };
    let (mut hung, mut killed) = (join("hung"), join("killed"));
    let mut watcher = clients(&ns.fixture().controller.grpc()).await.membership.join_group(watch(&ns, "g")).await;
    let watcher = watcher.as_mut().unwrap().get_mut();
    until(watcher, &["hung", "killed"]).await;
    killed.kill().unwrap();
    until(watcher, &["hung"]).await;
    let stopped = std::time::Instant::now();
    harness::signal::send(hung.id() as i32, harness::signal::Signal::Halt).unwrap();
    until(watcher, &[]).await;
    println!("the keep-alive noticed after {:?}", stopped.elapsed());
    hung.kill().unwrap();
    hung.wait().unwrap();
    killed.wait().unwrap();
}

#[tokio::test]
async fn what_is_no_pod_joins_no_group() {
    let ns = shared_fixture().await.namespace("peers-refused").await;
    let mut clients = clients(&ns.fixture().controller.grpc()).await;
    let mut refused = async |request: JoinGroupRequest| clients.membership.join_group(request).await.map(drop).unwrap_err();
    let status = refused(join(&ns, "g", "nobody")).await;
    assert_eq!(status.code(), Code::NotFound, "{status}");
    for bad in ["", "A", "../x", "a/b"] {
        assert_eq!(refused(join(&ns, "g", bad)).await.code(), Code::InvalidArgument, "{bad}");
    }
    let mut elsewhere = join(&ns, "g", "a");
    elsewhere.member.as_mut().unwrap().id.as_mut().unwrap().namespace = "default".to_owned();
    assert_eq!(refused(elsewhere).await.code(), Code::InvalidArgument);
    let mut odd = join(&ns, "g", "a");
    odd.member.as_mut().unwrap().port = 70_000;
    assert_eq!(refused(odd).await.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_pod_joins_from_its_own_address_only() {
    let env = vec![("ATOMIX_GRPC_MEMBER_ADDRESSES".to_owned(), "true".to_owned())];
    let fixture = private_fixture_with("peers-address", Options { env, ..Options::default() }).await;
    let ns = fixture.namespace("address").await;
    ns.create(&pods(["a"])).await;
    ns.wait("pod/a", "Ready").await;
    let mut clients = clients(&fixture.controller.grpc()).await;
    let status = clients.membership.join_group(join(&ns, "g", "a")).await.map(drop).unwrap_err();
    assert!(status.code() == Code::PermissionDenied && status.message().contains("comes from 127.0.0.1"), "{status}");
    assert!(ns.get("members").await.is_empty());
    let address = r#"{"status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}}"#;
    ns.kubectl(["patch", "pod/a", "--subresource=status", "--type=merge", "-p", address]).await;
    let mut stream = clients.membership.join_group(join(&ns, "g", "a")).await.unwrap().into_inner();
    assert_eq!(names(&next(&mut stream).await.unwrap().unwrap()), ["a"]);
}

/// A member that stays whatever happens: it joins again wherever it can as soon as its stream ends.
fn persistent(addresses: Vec<String>, request: JoinGroupRequest) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        for address in addresses.iter().cycle() {
            if let Ok(mut clients) = dial(address).await
                && let Ok(answer) = clients.membership.join_group(request.clone()).await
            {
                let mut stream = answer.into_inner();
                while let Ok(Some(_)) = stream.message().await {}
            }
            tokio::time::sleep(Duration::from_millis(100)).await; // as a client's back-off
        }
    })
}

#[tokio::test]
async fn two_hundred_members_outlive_the_controller_without_a_flap() {
    const MEMBERS: usize = 200;
    let fixture = private_fixture("peers-crash").await;
    let ns = fixture.namespace("crash").await;
    ns.create(&pods((0..MEMBERS).map(|at| format!("p{at:03}")))).await;
    let address = fixture.controller.grpc();
    let all: Vec<String> = (0..MEMBERS).map(|at| format!("p{at:03}")).collect();
    let joined: Vec<_> = all.iter().map(|name| persistent(vec![address.clone()], join(&ns, "g", name))).collect();
    ns.until("members", "all have joined", |members| members.len() == MEMBERS).await;

    // Half of the clients die with the controller and never come back; the others rejoin.
    fixture.controller.kill().await.unwrap();
    joined.iter().step_by(2).for_each(tokio::task::JoinHandle::abort);
    let alive: BTreeSet<&String> = all.iter().skip(1).step_by(2).collect();
    fixture.controller.start().await.unwrap();
    let mut watcher = clients(&address).await.membership.join_group(watch(&ns, "g")).await.unwrap().into_inner();
    let mut last = all.len();
    loop {
        let membership = next(&mut watcher).await.unwrap().unwrap();
        let found = names(&membership);
        let here: BTreeSet<&str> = found.iter().copied().collect();
        let flapped: Vec<_> = alive.iter().filter(|name| !here.contains(name.as_str())).collect();
        assert!(flapped.is_empty(), "who rejoined was never missing: {flapped:?}");
        assert!(found.len() <= last, "a ghost came back");
        last = found.len();
        if last == alive.len() {
            break;
        }
    }
    ns.until("members", "no ghost stays", |members| members.len() == MEMBERS / 2).await;
    joined.iter().for_each(tokio::task::JoinHandle::abort);
    ns.until("members", "all leave", |members| members.is_empty()).await;
}

fn two_partitions() -> Manifests {
    Manifests::cache().database("db", 2)
}

fn enter(ns: &Namespace<'_>, partition: i32, member: &str) -> PartitionElectionRequest {
    let group = Some(PartitionGroupId { name: "db".to_owned(), namespace: ns.name.clone() });
    PartitionElectionRequest {
        partition_id: Some(PartitionId { partition, group, cluster: None }),
        member: member.to_owned(),
    }
}

async fn term(stream: &mut Streaming<PartitionElectionResponse>) -> PrimaryTerm {
    next(stream).await.unwrap().expect("the stream goes on").term.unwrap()
}

async fn term_until(stream: &mut Streaming<PartitionElectionResponse>, holds: impl Fn(&PrimaryTerm) -> bool) -> PrimaryTerm {
    let mut last = 0;
    loop {
        let term = term(stream).await;
        assert!(term.term >= last, "a term fell");
        last = term.term;
        if holds(&term) {
            return term;
        }
    }
}

#[tokio::test]
async fn a_lost_primary_is_replaced_by_the_candidate_that_waited_longest() {
    let ns = shared_fixture().await.namespace("elections").await;
    ns.create_ready(&two_partitions()).await;
    let address = ns.fixture().controller.grpc();
    let mut a = clients(&address).await.first.enter_election(enter(&ns, 1, "a")).await.unwrap().into_inner();
    let expected = |term, primary: &str, candidates: &[&str]| PrimaryTerm {
        term,
        primary: primary.to_owned(),
        candidates: candidates.iter().map(|name| (*name).to_owned()).collect(),
    };
    let first = term(&mut a).await;
    assert_eq!(first, expected(first.term, "a", &["a"]));
    let mut c = clients(&address).await.first.enter_election(enter(&ns, 1, "c")).await.unwrap().into_inner();
    let mut b = clients(&address).await.first.enter_election(enter(&ns, 1, "b")).await.unwrap().into_inner();
    assert_eq!(term(&mut c).await, expected(first.term, "a", &["a", "c"]));
    assert_eq!(term(&mut b).await, expected(first.term, "a", &["a", "c", "b"]), "in order of entry");
    drop(a);
    let second = first.term + 1;
    let full = expected(second, "c", &["c", "b"]);
    assert_eq!(term_until(&mut b, |it| it.term == second).await, full);
    assert_eq!(term_until(&mut c, |it| it.term == second).await, full);
    let partition = ns.one("partition/db-1").await;
    assert_eq!(
        (&partition["status"]["election"]["term"], &partition["status"]["election"]["primary"]),
        (&second.into(), &"c".into())
    );
    let other = clients(&address).await.first.enter_election(enter(&ns, 2, "b")).await.unwrap().into_inner().message().await;
    let other = other.unwrap().unwrap().term.unwrap();
    assert_eq!(other, expected(other.term, "b", &["b"]), "each partition has its own");

    let status = clients(&address).await.first.enter_election(enter(&ns, 3, "b")).await.map(drop).unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let status = clients(&address).await.first.enter_election(enter(&ns, 1, "")).await.map(drop).unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    drop(c);
    drop(b);
    ns.until("partition/db-1", "there is no candidate any more", |found| found[0]["status"]["election"]["primary"] == "")
        .await;
    let mut d = clients(&address).await.first.enter_election(enter(&ns, 1, "d")).await.unwrap().into_inner();
    assert!(term(&mut d).await.term > second, "terms only grow");
}

#[tokio::test]
async fn members_and_elections_outlive_a_replica_that_is_killed() {
    let fixture = private_fixture("peers-replicas").await;
    fixture.install("cache").await.unwrap();
    let ns = fixture.namespace("replicas").await;
    ns.create_ready(&two_partitions()).await;
    ns.create(&pods(["a", "b", "gone"])).await;
    let second = fixture.controller.another(1).await.unwrap();
    let (one, two) = (fixture.controller.grpc(), second.grpc());

    // `a` and `gone` are joined through the first replica, `b` through the second; all see the same.
    let a = persistent(vec![one.clone(), two.clone()], join(&ns, "g", "a"));
    let _gone = clients(&one).await.membership.join_group(join(&ns, "g", "gone")).await.unwrap();
    let mut b = clients(&two).await.membership.join_group(join(&ns, "g", "b")).await.unwrap().into_inner();
    until(&mut b, &["a", "b", "gone"]).await;
    let mut lost = clients(&one).await.first.enter_election(enter(&ns, 1, "first")).await.unwrap().into_inner();
    assert_eq!(term(&mut lost).await.primary, "first");
    let mut heir = clients(&two).await.first.enter_election(enter(&ns, 1, "second")).await.unwrap().into_inner();
    let before = term_until(&mut heir, |it| it.candidates.len() == 2).await;
    assert_eq!(before.primary, "first", "one election through both replicas");
    term_until(&mut lost, |it| it.candidates.len() == 2).await;

    fixture.controller.kill().await.unwrap();
    let seen = until(&mut b, &["a", "b"]).await;
    assert!(seen.iter().all(|membership| membership.contains(&"a".to_owned())), "who rejoined was never missing: {seen:?}");
    let after = term_until(&mut heir, |it| it.primary == "second").await;
    assert_eq!((after.term, after.candidates.as_slice()), (before.term + 1, &["second".to_owned()][..]));

    // A stop ends the streams of clients, which go elsewhere.
    fixture.controller.start().await.unwrap();
    second.stop().await.unwrap();
    let ended = loop {
        match next(&mut heir).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended without a word"),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::Unavailable, "{ended}");
    let mut again = clients(&one).await.first.enter_election(enter(&ns, 1, "second")).await.unwrap().into_inner();
    let term = term(&mut again).await;
    assert_eq!(
        (term.term, term.primary.as_str()),
        (after.term, "second"),
        "a primary that comes back in time keeps the term"
    );
    let left: Vec<String> = ns
        .eventually("only running programs are members", || async {
            let members = ns.get("members").await;
            let names = members.iter().map(|it| it["properties"]["metadata"]["name"].as_str().unwrap().to_owned());
            let names: Vec<String> = names.collect();
            Ok(if names == ["a"] { Eventually::Now(names) } else { Eventually::NotYet(format!("{names:?}")) })
        })
        .await;
    assert_eq!(left, ["a"]);
    a.abort();
}

#[tokio::test]
async fn a_slow_reader_gets_the_latest_and_no_backlog() {
    const PEERS: usize = 70;
    const CHANGES: i32 = 300;
    let ns = shared_fixture().await.namespace("peers-slow").await;
    ns.create(&pods(["a"])).await;
    // Members that no stream holds, with which each membership is larger than the window of the slow reader.
    let peer = |at: usize| {
        let host = "h".repeat(1000);
        format!(
            "---\napiVersion: cloud.atomix.io/v1beta3\nkind: Member\nmetadata: {{name: p{at}}}\nproperties: \
             {{metadata: {{namespace: g, name: p{at}}}, service: {host}, port: 1}}\n"
        )
    };
    ns.create(&(0..PEERS).map(peer).collect::<String>()).await;
    let address = ns.fixture().controller.grpc();
    let mut joining = clients(&address).await.membership;
    let mut quick = clients(&address).await.membership.join_group(watch(&ns, "g")).await.unwrap().into_inner();
    while next(&mut quick).await.unwrap().unwrap().members.len() < PEERS {}

    let small = Endpoint::from_shared(format!("http://{address}")).unwrap().initial_stream_window_size(65_535);
    let mut slow = Clients::over(small.connect().await.unwrap()).membership;
    let mut slow = slow.join_group(watch(&ns, "g")).await.unwrap().into_inner();
    let port = |membership: JoinGroupResponse| Some(membership.members.into_iter().find(|it| it.host == "a.host")?.port);
    let mut held = None;
    for now in 1..=CHANGES {
        let mut request = join(&ns, "g", "a");
        request.member.as_mut().unwrap().port = now;
        held = Some(joining.join_group(request).await.unwrap()); // the one before ends when this one is there
        while port(next(&mut quick).await.unwrap().unwrap()) != Some(now) {} // each change is sent
    }
    let mut read = 1;
    while port(next(&mut slow).await.unwrap().unwrap()) != Some(CHANGES) {
        read += 1;
    }
    assert!(read <= 3, "{read} memberships for {CHANGES} changes: what was under way, and the latest");
    drop(held);
}
