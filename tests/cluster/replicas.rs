//! Of two replicas one reconciles and the other stands by; it takes over at once when the first stops, and when the lease has run
//! out if the first died or hung. At no moment do two of them write.

use std::time::{Duration, Instant};

use atomix_controller::leader;
use harness::audit::{Mark, Request, table};
use harness::controller::{ACCOUNT, Controller, NAMESPACE, USER};
use harness::eventually::{Eventually, eventually};
use harness::signal::{Signal, send};
use harness::world::{Namespace, SOON, World, private_world};
use tokio::sync::watch;

const DATABASE: &str = r"
apiVersion: storage.cloud.atomix.io/v1beta1
kind: RaftStorageClass
metadata: {name: raft}
spec: {replicas: 1}
---
apiVersion: cloud.atomix.io/v1beta3
kind: Database
metadata: {name: db}
spec:
  partitions: 1
  storageClass: {kind: RaftStorageClass, name: raft}
";

/// How long a lease lasts that is not renewed, and what comes after it on a busy machine.
const LEASE: Duration = Duration::from_secs(15);

/// A settled database under two replicas, the first of which leads.
async fn two(world: &World) -> (Namespace<'_>, Controller) {
    world.install("raft").await.unwrap();
    let ns = world.namespace("here").await;
    let second = world.controller.another(1).await.unwrap();
    ns.create(DATABASE).await;
    ns.wait("database/db", "Ready").await;
    ns.settled().await;
    assert!(world.controller.leads().await.unwrap() && !second.leads().await.unwrap());
    (ns, second)
}

/// Writes of one replica since a mark, but those of leases.
async fn writes(world: &World, mark: Mark, by: &Controller) -> Vec<Request> {
    let sign = format!("({})", by.replica());
    let requests = world.requests_since(mark).await;
    requests.into_iter().filter(|r| r.user == USER && r.writes() && r.user_agent.contains(&sign)).collect()
}

/// Waits until a replica leads, looking often; answers how long that took.
async fn leads(replica: &Controller) -> Duration {
    let (start, sentence) = (Instant::now(), format!("{} leads", replica.replica()));
    let led = eventually(SOON, &sentence, || async { Ok(Eventually::when(replica.leads().await?, || replica.log_tail(5))) });
    led.await.unwrap();
    start.elapsed()
}

async fn scale(ns: &Namespace<'_>, partitions: usize) {
    ns.kubectl(["scale", "database/db", &format!("--replicas={partitions}")]).await;
}

async fn converged(ns: &Namespace<'_>, partitions: usize) {
    ns.until("database/db", &format!("{partitions} partitions are ready"), |found| {
        found.iter().any(|db| db["status"]["readyPartitions"] == partitions)
    })
    .await;
}

#[tokio::test]
async fn one_of_two_writes_and_the_other_takes_over_when_it_dies() {
    let world = private_world("replicas").await;
    let (ns, second) = two(&world).await;
    let first = &world.controller;
    let mark = world.mark().await;
    scale(&ns, 2).await;
    converged(&ns, 2).await;
    ns.settled().await;
    assert!(!writes(&world, mark, first).await.is_empty(), "the leader writes");
    let beside = writes(&world, mark, &second).await;
    assert!(beside.is_empty(), "who stands by writes nothing:\n{}", table(&beside));
    let counted = |text: String| text.contains("atomix_databases{phase=\"ready\"} 1");
    assert!(counted(second.metrics().await.unwrap()), "who stands by counts what there is");

    // What a replica sees of the others.
    let options = leader::Options { namespace: NAMESPACE.into(), name: ACCOUNT.into(), identity: "observer".into() };
    let (seen, leading) = (watch::Sender::new(leader::Replicas::new("observer")), leader::Leading::default());
    let (client, mut replicas) = (world.plane.client().await.unwrap(), seen.subscribe());
    tokio::spawn(async move { leader::attend(client, &options, &leading, &seen, std::future::pending()).await });
    let all = ["observer", first.replica(), second.replica()];
    replicas.wait_for(|seen| all.iter().all(|one| seen.known().contains_key(*one))).await.unwrap();
    assert!(replicas.borrow().dead(all, Duration::ZERO, Instant::now()).is_empty());

    let mark = world.mark().await;
    first.kill().await.unwrap();
    let killed = Instant::now();
    scale(&ns, 3).await;
    leads(&second).await;
    let took = killed.elapsed();
    assert!(took > LEASE - Duration::from_secs(6) && took < LEASE + Duration::from_secs(5), "it took {took:?}");
    converged(&ns, 3).await;
    assert!(!writes(&world, mark, &second).await.is_empty());
    ns.eventually("the first is seen to be dead, and no other", || async {
        let dead = replicas.borrow().dead(all, Duration::ZERO, Instant::now());
        Ok(Eventually::when(dead.into_iter().eq([first.replica()]), || format!("{:?}", *replicas.borrow())))
    })
    .await;

    first.start().await.unwrap();
    assert!(!first.leads().await.unwrap(), "who comes back stands by, and is ready");
    let alive = |seen: &leader::Replicas| seen.dead(all, Duration::ZERO, Instant::now()).is_empty();
    replicas.wait_for(alive).await.unwrap();
    ns.settled().await;
    let mark = world.mark().await;
    scale(&ns, 2).await;
    converged(&ns, 2).await;
    let beside = writes(&world, mark, first).await;
    assert!(beside.is_empty(), "who stands by writes nothing:\n{}", table(&beside));
}

#[tokio::test]
async fn a_leader_that_is_told_to_stop_hands_over_within_two_seconds() {
    let world = private_world("hand-over").await;
    let (ns, second) = two(&world).await;
    scale(&ns, 2).await; // there is work to be handed over
    let start = Instant::now();
    send(world.controller.pid().unwrap(), Signal::Terminate).unwrap();
    leads(&second).await;
    let took = start.elapsed();
    assert!(took < Duration::from_secs(2), "it took {took:?}");
    converged(&ns, 2).await;
    scale(&ns, 3).await;
    converged(&ns, 3).await;

    let ended = || async { Ok(Eventually::when(world.controller.ended(), || "it runs".into())) };
    eventually(SOON, "the first has ended", ended).await.unwrap();
    let leases = ["get", "leases", "-l", "cloud.atomix.io/replica=true", "-o", "name"];
    let there = world.kubectl().namespace("kube-system").run(leases).await.unwrap();
    assert_eq!(there.trim(), format!("lease.coordination.k8s.io/atomix-controller-{}", second.replica()));
}

#[tokio::test]
async fn a_leader_that_hung_begins_no_write_once_it_goes_on() {
    let world = private_world("hung").await;
    let (ns, second) = two(&world).await;
    let first = world.controller.pid().unwrap();
    send(first, Signal::Halt).unwrap();
    let halted = Instant::now();
    leads(&second).await;
    let took = halted.elapsed();
    assert!(took > LEASE - Duration::from_secs(6) && took < LEASE + Duration::from_secs(5), "it took {took:?}");
    ns.settled().await;
    let mark = world.mark().await;
    // What waits for the first in its sockets when it goes on: reasons to write, seen before anything tells that it leads no more.
    for object in ["service/db-1", "configmap/db-1"] {
        ns.kubectl(["delete", object]).await;
        ns.wait_created(object).await;
    }
    scale(&ns, 2).await;
    send(first, Signal::Resume).unwrap();
    scale(&ns, 3).await;
    converged(&ns, 3).await;
    ns.eventually("the first knows that it leads no more", || async {
        Ok(Eventually::when(!world.controller.leads().await?, || "its metrics say that it leads".into()))
    })
    .await;
    ns.settled().await;
    let late = writes(&world, mark, &world.controller).await;
    assert!(late.is_empty(), "written after the lease had run out:\n{}", table(&late));
    assert!(!world.controller.ended(), "it stands by again");

    second.stop().await.unwrap();
    leads(&world.controller).await;
    scale(&ns, 4).await;
    converged(&ns, 4).await;
}
