//! A settled cluster is silent, also when the controller starts again over it.

use std::time::Duration;

use harness::audit::{Request, table};
use harness::controller::USER;
use harness::fixture::private_fixture;
use harness::manifests::Manifests;
use serde_json::json;

/// Requests of the controller that are neither a watch nor the listing before one.
fn acts(requests: &[Request]) -> Vec<&Request> {
    requests.iter().filter(|r| r.user == USER && !["watch", "list"].contains(&r.verb.as_str())).collect()
}

#[tokio::test]
async fn a_settled_half_minute_and_a_restart_write_nothing() {
    let fixture = private_fixture("quiet").await;
    fixture.install("raft").await.unwrap();
    fixture.install("cache").await.unwrap();
    let ns = fixture.namespace("quiet").await;
    ns.create_file("deploy/examples/raft.yaml").await;
    ns.create(Manifests::class("CacheStorageClass", "cache", json!({})).database("cache", 1)).await;
    ns.wait("database/raft", "Ready").await;
    ns.wait("database/cache", "Ready").await;
    ns.eventually("counts of the plugins are written and there is no request for two seconds", || async {
        let mark = fixture.mark().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let requests = fixture.requests_since(mark).await;
        let busy = acts(&requests).len();
        Ok(if busy == 0 {
            harness::eventually::Eventually::Now(())
        } else {
            harness::eventually::Eventually::NotYet(format!("{busy} requests"))
        })
    })
    .await;

    let mark = fixture.mark().await;
    tokio::time::sleep(Duration::from_secs(30)).await; // the time is what is tested
    let requests = fixture.requests_since(mark).await;
    let ours: Vec<_> = requests.iter().filter(|request| request.user == USER).collect();
    assert!(ours.is_empty(), "a settled cluster costs no request:\n{}", table(&requests));

    let mark = fixture.mark().await;
    fixture.controller.restart().await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await; // nothing announces that nothing comes
    let requests = fixture.requests_since(mark).await;
    let acts: Vec<_> = acts(&requests).into_iter().filter(|request| request.verb != "get").collect();
    assert!(acts.is_empty(), "a restart over a settled cluster writes nothing: {acts:?}");
    assert!(requests.iter().all(|r| r.user != USER || r.code < 400), "{}", table(&requests));
}
