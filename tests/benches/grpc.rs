//! What the gRPC API costs on top of tonic and of Kubernetes: answers over a thousand databases, against a bare tonic server that
//! answers the same bytes from memory; one member's change to a thousand watchers, against one watch event of the API server; memory
//! of an open stream.
//!
//! The controller and the bare server are programs of this machine, built by one cargo call of this benchmark's own profile, and run
//! side by side; each measurement of one is followed by one of the other. The databases are real objects on a real control plane.
//! They and their partitions are created as the controller would create the latter, owner and labels and all, but without a plugin,
//! which would have pods made for them: the API reads no pod.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use harness::controller::Options;
use harness::eventually::{Eventually, eventually};
use harness::fixture::{Fixture, Namespace, private_fixture_with};
use harness::grpc::Clients;
use harness::grpc::controller::{GetPartitionGroupsRequest, PartitionGroupId};
use harness::grpc::database::{DatabaseId, GetDatabaseRequest};
use harness::grpc::membership::{GroupId, JoinGroupRequest};
use harness::guard::{Guarded, Spec};
use harness::load_generator::{Call, Pace, dial, press};
use harness::usage::Usage;
use harness::{dist, paths, ports};
use kube::ResourceExt;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// The target of the design: answers a second, divided by those of the bare server.
const RATIO_MIN: f64 = 0.8;
const DATABASES: usize = 1000;
const PARTITIONS: usize = 3;
const CALLS: usize = 64;
const CONNECTIONS: [usize; 2] = [1, 8];
/// Measurements of each server, which alternate; the median of their ratios counts.
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(1);
const STREAMS: usize = 1000;
const MEMBERS: usize = 10;
const CHANGES: usize = 40;
/// How long anything may take before this is given up.
const SOON: Duration = Duration::from_secs(120);

fn main() -> Result<()> {
    let programs = programs()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(programs))
}

async fn measure((controller, bare): (PathBuf, PathBuf)) -> Result<()> {
    let options = Options { program: Some(controller), ..Options::default() };
    let fixture = private_fixture_with("bench-grpc", options).await;
    let ns = fixture.namespace("bench").await;
    make_databases(&ns).await?;
    let cases = cases(&fixture, &ns).await?;
    ns.settled().await;

    let (stream_kib, change) = watchers(&fixture, &ns).await?;
    let bare = serve_bare(&fixture, bare, &cases).await?;
    let mut reads = Vec::new();
    for case in &cases {
        for connections in CONNECTIONS {
            reads.push(read(&fixture, &bare, case, connections).await?);
        }
    }

    println!("{DATABASES} databases of {PARTITIONS} partitions, {CALLS} calls at a time; in brackets a bare tonic server");
    println!(
        "  {:<38} {:>7} {:>17} {:>15} {:>15} {:>15} {:>6}",
        "", "bytes", "calls/s", "p50 ms", "p99 ms", "CPU µs/call", "ratio"
    );
    reads.iter().for_each(|read| println!("{}", read.line()));
    println!("  ratio: calls a second divided by those of the bare server   (at least {RATIO_MIN})");
    println!("one member's change to {STREAMS} watchers, milliseconds, median of {CHANGES} changes");
    println!("  until 99 of 100 streams know it  {:>8.1}", change.streams_millis);
    println!("  a watch event of the API server  {:>8.1}", change.event_millis);
    println!("  ratio                            {:>8.1}", change.ratio);
    println!("resident memory of an open stream  {stream_kib:>8.1}   KiB");
    let report = json!({
        "databases": DATABASES, "partitions": PARTITIONS, "callsAtOnce": CALLS, "ratioMin": RATIO_MIN,
        "reads": reads.iter().map(Read::json).collect::<Vec<_>>(),
        "change": {
            "streams": STREAMS, "streamsP99Millis": change.streams_millis, "watchEventMillis": change.event_millis, "ratio": change.ratio,
        },
        "residentKibOfAStream": stream_kib, "profile": PROFILE.0,
    });
    let folder = paths::state().join("bench");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("grpc.json"), format!("{report:#}\n"))?;
    let slow: Vec<String> = reads.iter().filter(|read| read.ratio < RATIO_MIN).map(Read::line).collect();
    ensure!(slow.is_empty(), "less than {RATIO_MIN} of the bare server's rate:\n{}", slow.join("\n"));
    Ok(())
}

/// This benchmark's profile and its folder.
const PROFILE: (&str, &str) = if cfg!(debug_assertions) { ("dev", "debug") } else { ("release", "release") };

/// Builds the controller and the bare server alike, with the harness beside them, so that what all depend on is built once.
fn programs() -> Result<(PathBuf, PathBuf)> {
    let (profile, folder) = PROFILE;
    let (controller, bare) = ("atomix-controller", "atomix-bare-grpc");
    let packages = ["--package", controller, "--package", bare, "--package", "atomix-tests"];
    let args = [&["build", "--profile", profile][..], &packages, &["--bin", controller, "--bin", bare]].concat();
    dist::cargo(&args)?;
    let folder = paths::cargo_target().join(folder);
    Ok((folder.join(controller), folder.join(bare)))
}

async fn make_databases(ns: &Namespace<'_>) -> Result<()> {
    let (databases, partitions) = (api(ns, "Database", "databases"), api(ns, "Partition", "partitions"));
    let made = stream::iter(0..DATABASES).map(|at| {
        let (databases, partitions) = (&databases, &partitions);
        async move {
            let name = format!("db-{at:04}");
            let spec = json!({"partitions": PARTITIONS, "storageClass": {"kind": "RaftStorageClass", "name": "raft"}});
            let database = create(databases, "Database", json!({"name": name}), "spec", spec).await?;
            for id in 1..=PARTITIONS {
                let metadata = json!({
                    "name": format!("{name}-{id}"),
                    "labels": {"app": "atomix", "database": name},
                    "ownerReferences": [{
                        "apiVersion": VERSION, "kind": "Database", "name": name, "uid": database.uid(), "controller": true,
                    }],
                });
                let spec = json!({"partitionId": id, "serviceName": format!("{name}-{id}")});
                create(partitions, "Partition", metadata, "spec", spec).await?;
            }
            anyhow::Ok(())
        }
    });
    made.buffer_unordered(16).try_collect().await
}

const VERSION: &str = "cloud.atomix.io/v1beta3";

fn api(ns: &Namespace<'_>, kind: &str, plural: &str) -> kube::Api<DynamicObject> {
    let (group, version) = VERSION.split_once('/').expect("a group and a version");
    ns.api(group, version, kind, plural)
}

async fn create(
    objects: &kube::Api<DynamicObject>,
    kind: &str,
    metadata: Value,
    field: &str,
    value: Value,
) -> Result<DynamicObject> {
    let object = json!({"apiVersion": VERSION, "kind": kind, "metadata": metadata, field: value});
    Ok(objects.create(&PostParams::default(), &serde_json::from_value(object)?).await?)
}

/// A call and what the controller answers.
struct Case {
    name: &'static str,
    call: Call,
    answer: Bytes,
}

/// Waits until all databases are shown, and keeps the answers.
async fn cases(fixture: &Fixture, ns: &Namespace<'_>) -> Result<Vec<Case>> {
    let channel = dial(&fixture.controller.grpc(), 1).await?.remove(0);
    let id = |name: &str| Some(PartitionGroupId { name: name.to_owned(), namespace: ns.name.clone() });
    let clients = Clients::over(channel.clone());
    let shown = eventually(SOON, "all databases are shown", || {
        let (mut first, request) = (clients.first.clone(), GetPartitionGroupsRequest { id: id("") });
        async move {
            let shown = first.get_partition_groups(request).await?.into_inner().groups.len();
            Ok(Eventually::when(shown == DATABASES, || format!("{shown} are")))
        }
    });
    shown.await?;
    let name = format!("db-{:04}", DATABASES / 2);
    let database = GetDatabaseRequest { id: Some(DatabaseId { name: name.clone(), namespace: ns.name.clone() }) };
    let groups = "/atomix.controller.ControllerService/GetPartitionGroups";
    let calls = [
        ("GetDatabase", Call::new("/atomix.database.DatabaseService/GetDatabase", &database)),
        ("GetPartitionGroups, one", Call::new(groups, &GetPartitionGroupsRequest { id: id(&name) })),
        ("GetPartitionGroups, all", Call::new(groups, &GetPartitionGroupsRequest { id: id("") })),
    ];
    let mut cases = Vec::new();
    for (name, call) in calls {
        let answer = call.once(&channel).await?;
        cases.push(Case { name, call, answer });
    }
    Ok(cases)
}

/// Starts the bare server with the controller's answers, and returns when it gives them.
async fn serve_bare(fixture: &Fixture, program: PathBuf, cases: &[Case]) -> Result<Server> {
    let address = format!("127.0.0.1:{}", ports::free()?);
    let mut args = vec![address.clone()];
    for (at, case) in cases.iter().enumerate() {
        let file = fixture.plane.dir().join(format!("answer-{at}"));
        std::fs::write(&file, &case.answer)?;
        args.push(file.display().to_string());
    }
    let (name, log) = ("bare".to_owned(), fixture.plane.log("bare"));
    let process = Guarded::spawn(&Spec { name, program, args, env: Vec::new(), log, grace: Duration::ZERO })?;
    for case in cases {
        let same = eventually(SOON, "the bare server answers", || async {
            let answer = case.call.once(&dial(&address, 1).await?[0]).await?;
            Ok(Eventually::when(answer == case.answer, || "something else".to_owned()))
        });
        same.await?;
    }
    Ok(Server { address, process })
}

/// The bare server; it ends when this is dropped.
struct Server {
    address: String,
    process: Guarded,
}

/// How a call fares, in the median of all measurements; each pair is the controller and the bare server.
struct Read {
    name: String,
    answer_bytes: usize,
    rate: [f64; 2],
    p50_millis: [f64; 2],
    p99_millis: [f64; 2],
    cpu_micros: [f64; 2],
    ratio: f64,
}

async fn read(fixture: &Fixture, bare: &Server, case: &Case, connections: usize) -> Result<Read> {
    let pids = [fixture.controller.pid().context("the controller runs")?, bare.process.pid()];
    let channels = [dial(&fixture.controller.grpc(), connections).await?, dial(&bare.address, connections).await?];
    let mut paces: [Vec<Pace>; 2] = Default::default();
    let mut cpu_secs = [0.0; 2];
    for round in 0..=ROUNDS {
        for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            let before = Usage::of(pids[side])?.cpu_secs;
            let pace = press(&channels[side], &case.call, case.answer.len(), CALLS, ROUND).await?;
            if round > 0 {
                cpu_secs[side] += Usage::of(pids[side])?.cpu_secs - before;
                paces[side].push(pace);
            } // else it only warms up
        }
    }
    let of = |value: fn(&Pace) -> f64| [0, 1].map(|side| median(paces[side].iter().map(value).collect()));
    let calls = |side: usize| paces[side].iter().map(|pace| pace.calls).sum::<usize>() as f64;
    Ok(Read {
        name: format!("{}, {connections} connection{}", case.name, if connections == 1 { "" } else { "s" }),
        answer_bytes: case.answer.len(),
        rate: of(|pace| pace.rate),
        p50_millis: of(|pace| pace.p50 * 1e3),
        p99_millis: of(|pace| pace.p99 * 1e3),
        cpu_micros: [0, 1].map(|side| cpu_secs[side] / calls(side) * 1e6),
        ratio: median(paces[0].iter().zip(&paces[1]).map(|(ours, bare)| ours.rate / bare.rate).collect()),
    })
}

impl Read {
    fn line(&self) -> String {
        let pair = |[ours, bare]: [f64; 2], digits| format!("{ours:.digits$} ({bare:.digits$})");
        let (rate, cpu) = (pair(self.rate, 0), pair(self.cpu_micros, 0));
        let (p50, p99) = (pair(self.p50_millis, 2), pair(self.p99_millis, 2));
        format!("  {:<38} {:>7} {rate:>17} {p50:>15} {p99:>15} {cpu:>15} {:>6.2}", self.name, self.answer_bytes, self.ratio)
    }

    fn json(&self) -> Value {
        let pair = |[ours, bare]: [f64; 2]| json!({"controller": ours, "bare": bare});
        json!({
            "call": self.name, "answerBytes": self.answer_bytes, "callsPerSec": pair(self.rate), "p50Millis": pair(self.p50_millis),
            "p99Millis": pair(self.p99_millis), "cpuMicrosPerCall": pair(self.cpu_micros), "ratio": self.ratio,
        })
    }
}

/// How fast a change reaches watchers.
struct Change {
    streams_millis: f64,
    event_millis: f64,
    ratio: f64,
}

/// Opens streams of one group; returns what one costs in KiB of resident memory, and how long changes take to reach all.
async fn watchers(fixture: &Fixture, ns: &Namespace<'_>) -> Result<(f64, Change)> {
    let members = api(ns, "Member", "members");
    for at in 0..MEMBERS {
        let name = format!("m-{at}");
        let properties =
            json!({"metadata": {"namespace": "peers", "name": name}, "service": format!("{name}.host"), "port": 8080});
        create(&members, "Member", json!({"name": name}), "properties", properties).await?;
    }
    ns.settled().await;
    let group = Some(GroupId { name: "peers".to_owned(), namespace: ns.name.clone() });
    let call =
        Call::new("/atomix.membership.MembershipService/JoinGroup", &JoinGroupRequest { member: None, group_id: group });
    let channels = dial(&fixture.controller.grpc(), CONNECTIONS[1]).await?;
    for channel in &channels {
        drop(call.stream(channel).await?); // what the connection itself takes is there before streams are counted
    }
    let before = resident_kib(fixture)?;
    let (sender, mut arrivals) = mpsc::unbounded_channel();
    let mut tasks = tokio::task::JoinSet::new();
    for channel in channels.iter().cycle().take(STREAMS) {
        let (mut memberships, sender) = (call.stream(channel).await?, sender.clone());
        memberships.message().await?.context("a stream opens with the membership")?;
        tasks.spawn(async move {
            while let Ok(Some(_)) = memberships.message().await {
                let _ = sender.send(Instant::now());
            }
        });
    }
    let stream_kib = (resident_kib(fixture)? - before) / STREAMS as f64;

    let listed = members.list(&ListParams::default()).await?.metadata.resource_version.unwrap_or_default();
    let mut events = std::pin::pin!(members.watch(&WatchParams::default(), &listed).await?);
    let (mut streams, mut event, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for change in 0..CHANGES {
        let patch = Patch::Merge(json!({"properties": {"port": 9000 + change}}));
        let start = Instant::now();
        let params = PatchParams::default();
        let (written, seen) = tokio::join!(members.patch("m-0", &params, &patch), async {
            while let Some(change_seen) = events.next().await {
                if matches!(change_seen, Ok(WatchEvent::Modified(_))) {
                    return Some(start.elapsed());
                }
            }
            None
        });
        written?;
        let seen = seen.context("the watch of members ended")?.as_secs_f64() * 1e3;
        let mut took = Vec::with_capacity(STREAMS);
        while took.len() < STREAMS {
            let arrival = tokio::time::timeout(SOON, arrivals.recv()).await.context("a stream does not get a change")?;
            took.push((arrival.context("streams are open")? - start).as_secs_f64() * 1e3);
        }
        took.sort_by(f64::total_cmp);
        let last = took[STREAMS * 99 / 100 - 1];
        streams.push(last);
        event.push(seen);
        ratios.push(last / seen);
    }
    let change = Change { streams_millis: median(streams), event_millis: median(event), ratio: median(ratios) };
    Ok((stream_kib, change))
}

/// Resident memory of the controller's process.
fn resident_kib(fixture: &Fixture) -> Result<f64> {
    Ok(Usage::of(fixture.controller.pid().context("the controller runs")?)?.resident_kib)
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}
