//! Of two replicas one reconciles and the other stands by; it takes over at once when the first stops, and when the lease has run
//! out if the first died or hung. At no moment do two of them write.

use std::time::{Duration, Instant};

use atomix_controller_io::leader::{self, Moment};
use harness::audit::{Mark, Request, table};
use harness::controller::{ACCOUNT, Controller, NAMESPACE, USER};
use harness::eventually::{Eventually, eventually};
use harness::fixture::{Fixture, Namespace, SOON, private_fixture};
use harness::manifests::Manifests;
use harness::proxy::{Proxy, Withheld};
use harness::signal::{Signal, send};
use serde_json::json;
use tokio::sync::watch;

fn database() -> Manifests {
    Manifests::raft(json!({"replicas": 1})).database("db", 1)
}

/// A Lease lasts 15 s after it was renewed and is renewed every few seconds: no other leads earlier than this after its holder died.
const SOONEST: Duration = Duration::from_secs(9);

/// A settled database under two replicas, the first of which leads.
async fn two(fixture: &Fixture) -> (Namespace<'_>, Controller) {
    fixture.install("raft").await.unwrap();
    let ns = fixture.namespace("here").await;
    let second = fixture.controller.another(1).await.unwrap();
    ns.create_ready(&database()).await;
    ns.settled().await;
    assert!(fixture.controller.leads().await.unwrap() && !second.leads().await.unwrap());
    (ns, second)
}

/// Writes of one replica since a mark, but those of leases.
async fn writes(fixture: &Fixture, mark: Mark, by: &Controller) -> Vec<Request> {
    let sign = format!("({})", by.replica());
    let requests = fixture.requests_since(mark).await;
    requests.into_iter().filter(|r| r.user == USER && r.writes() && r.user_agent.contains(&sign)).collect()
}

/// Waits until a replica leads, looking often; returns how long that took.
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
    let fixture = private_fixture("replicas").await;
    let (ns, second) = two(&fixture).await;
    let first = &fixture.controller;
    let mark = fixture.mark().await;
    scale(&ns, 2).await;
    converged(&ns, 2).await;
    ns.settled().await;
    assert!(!writes(&fixture, mark, first).await.is_empty(), "the leader writes");
    let beside = writes(&fixture, mark, &second).await;
    assert!(beside.is_empty(), "a replica that stands by writes nothing:\n{}", table(&beside));
    let counted = |text: String| text.contains("atomix_databases{phase=\"ready\"} 1");
    assert!(counted(second.metrics().await.unwrap()), "a replica that stands by counts what there is");

    // What a replica sees of the others.
    let options = leader::Options { namespace: NAMESPACE.into(), name: ACCOUNT.into(), identity: "observer".into() };
    let (seen, leading) = (watch::Sender::new(leader::Replicas::new("observer")), leader::Leadership::default());
    let (client, mut replicas) = (fixture.plane.client().await.unwrap(), seen.subscribe());
    tokio::spawn(async move { leader::keep_replica_lease(client, &options, &leading, &seen, std::future::pending()).await });
    let all = ["observer", first.replica(), second.replica()];
    replicas.wait_for(|seen| all.iter().all(|one| seen.known().contains_key(*one))).await.unwrap();
    assert!(replicas.borrow().dead(all, Duration::ZERO, Moment::now()).is_empty());

    let mark = fixture.mark().await;
    first.kill().await.unwrap();
    let killed = Instant::now();
    scale(&ns, 3).await;
    leads(&second).await;
    let took = killed.elapsed();
    assert!(took > SOONEST, "it took {took:?}");
    converged(&ns, 3).await;
    assert!(!writes(&fixture, mark, &second).await.is_empty());
    ns.eventually("the first is seen to be dead, and no other", || async {
        let dead = replicas.borrow().dead(all, Duration::ZERO, Moment::now());
        Ok(Eventually::when(dead.into_iter().eq([first.replica()]), || format!("{:?}", *replicas.borrow())))
    })
    .await;

    first.start().await.unwrap();
    assert!(!first.leads().await.unwrap(), "a replica that comes back stands by, and is ready");
    let alive = |seen: &leader::Replicas| seen.dead(all, Duration::ZERO, Moment::now()).is_empty();
    replicas.wait_for(alive).await.unwrap();
    ns.settled().await;
    let mark = fixture.mark().await;
    scale(&ns, 2).await;
    converged(&ns, 2).await;
    let beside = writes(&fixture, mark, first).await;
    assert!(beside.is_empty(), "a replica that stands by writes nothing:\n{}", table(&beside));
}

#[tokio::test]
async fn a_leader_that_is_stopped_hands_over_before_its_lease_runs_out() {
    let fixture = private_fixture("hand-over").await;
    let (ns, second) = two(&fixture).await;
    scale(&ns, 2).await; // there is work to be handed over
    let start = Instant::now();
    send(fixture.controller.pid().unwrap(), Signal::Terminate).unwrap();
    leads(&second).await;
    let took = start.elapsed();
    assert!(took < SOONEST, "it does not wait until the Lease has run out: {took:?}");
    converged(&ns, 2).await;
    scale(&ns, 3).await;
    converged(&ns, 3).await;

    let ended = || async { Ok(Eventually::when(fixture.controller.ended(), || "it runs".into())) };
    eventually(SOON, "the first has ended", ended).await.unwrap();
    let leases = ["get", "leases", "-l", "cloud.atomix.io/replica=true", "-o", "name"];
    let there = fixture.kubectl().namespace("kube-system").run(leases).await.unwrap();
    assert_eq!(there.trim(), format!("lease.coordination.k8s.io/atomix-controller-{}", second.replica()));
}

#[tokio::test]
async fn a_leader_that_hung_begins_no_write_once_it_goes_on() {
    let fixture = private_fixture("hung").await;
    let (ns, second) = two(&fixture).await;
    let first = fixture.controller.pid().unwrap();
    send(first, Signal::Halt).unwrap();
    let halted = Instant::now();
    leads(&second).await;
    let took = halted.elapsed();
    assert!(took > SOONEST, "it took {took:?}");
    ns.settled().await;
    let mark = fixture.mark().await;
    // What waits for the first in its sockets when it goes on: reasons to write, seen before it can know that it leads no
    // more.
    for object in ["service/db-1", "configmap/db-1"] {
        ns.kubectl(["delete", object]).await;
        ns.wait_created(object).await;
    }
    scale(&ns, 2).await;
    send(first, Signal::Resume).unwrap();
    scale(&ns, 3).await;
    converged(&ns, 3).await;
    ns.eventually("the first has noticed that it leads no more", || async {
        Ok(Eventually::when(!fixture.controller.leads().await?, || "its metrics report that it leads".into()))
    })
    .await;
    ns.settled().await;
    let late = writes(&fixture, mark, &fixture.controller).await;
    assert!(late.is_empty(), "written after the lease had run out:\n{}", table(&late));
    assert!(!fixture.controller.ended(), "it stands by again");

    second.stop().await.unwrap();
    leads(&fixture.controller).await;
    scale(&ns, 4).await;
    converged(&ns, 4).await;
}

/// Names and UIDs of all StatefulSets.
async fn sets(ns: &Namespace<'_>) -> Vec<(serde_json::Value, serde_json::Value)> {
    let meta = |set: serde_json::Value| (set["metadata"]["name"].clone(), set["metadata"]["uid"].clone());
    ns.get("statefulsets").await.into_iter().map(meta).collect()
}

#[tokio::test]
async fn a_leader_whose_view_is_older_than_its_predecessors_deeds_undoes_none_of_them() {
    let fixture = private_fixture("stale-view").await;
    fixture.install("raft").await.unwrap();
    let ns = fixture.namespace("here").await;
    let proxy = Proxy::start(&fixture.plane).await.unwrap();
    let second = fixture.controller.another_through(1, Some(&proxy)).await.unwrap();
    ns.create_ready(&database()).await;
    scale(&ns, 3).await;
    converged(&ns, 3).await;
    ns.settled().await;
    assert!(fixture.controller.leads().await.unwrap() && !second.leads().await.unwrap());

    // The second sees what is written for partitions 4 and 5, and not that they are wanted: to it they are to be removed.
    proxy.withhold(Withheld { watches: vec!["databases"], ..Withheld::default() });
    scale(&ns, 5).await;
    converged(&ns, 5).await;
    ns.settled().await;
    let before = sets(&ns).await;
    assert_eq!(before.len(), 5);
    let mark = fixture.mark().await;
    fixture.controller.kill().await.unwrap();
    leads(&second).await;
    let sign = format!("({})", second.replica());
    ns.eventually("the second reads whether what it sees is still so", || async {
        let requests = fixture.requests_since(mark).await;
        let is_read = |it: &Request| it.user_agent.contains(&sign) && it.verb == "get" && it.resource == "databases";
        Ok(Eventually::when(requests.iter().any(is_read), || table(&requests)))
    })
    .await;
    ns.settled().await;
    let acted = writes(&fixture, mark, &second).await;
    let writes_seen: Vec<_> = acted.into_iter().filter(|it| it.namespace == ns.name && it.resource != "events").collect();
    assert!(writes_seen.is_empty(), "written by a view that is old:\n{}", table(&writes_seen));
    assert_eq!(sets(&ns).await, before, "nothing was pruned or made anew");

    proxy.withhold(Withheld::default());
    scale(&ns, 6).await;
    converged(&ns, 6).await;
    assert_eq!(&sets(&ns).await[..5], before, "it has caught up, and goes on from there");
}
