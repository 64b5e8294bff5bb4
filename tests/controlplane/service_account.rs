//! The controller runs as its ServiceAccount and needs no more than `deploy/` gives it.

use harness::audit::{Request, table};
use harness::controller::USER;
use harness::fixture::private_fixture;

#[tokio::test]
async fn the_controller_starts_with_the_rights_of_its_account_alone() {
    let fixture = private_fixture("account").await;
    let everything = fixture.requests_since(Default::default()).await;
    let named = |r: &Request| r.user_agent.starts_with("atomix-controller/");
    let foreign: Vec<_> = everything.iter().filter(|r| named(r) && r.user != USER).cloned().collect();
    let its: Vec<_> = everything.into_iter().filter(|r| r.user == USER).collect();
    assert!(!its.is_empty());
    assert!(foreign.is_empty(), "requests of the controller under another account:\n{}", table(&foreign));
    let refused: Vec<_> = its.into_iter().filter(|r| r.code == 401 || r.code == 403).collect();
    assert!(
        refused.is_empty(),
        "rights that the controller lacks:\n{}\n{}",
        table(&refused),
        fixture.controller.log_tail(30)
    );
}

#[tokio::test]
async fn the_controller_stops_when_asked_and_starts_again() {
    let fixture = private_fixture("stops").await;
    let first = fixture.controller.pid().unwrap();
    fixture.controller.restart().await.unwrap();
    let second = fixture.controller.pid().unwrap();
    assert_ne!(first, second);
    fixture.controller.kill().await.unwrap();
    assert!(fixture.controller.ended());
    fixture.controller.start().await.unwrap();
    assert!(fixture.controller.metrics().await.unwrap().contains("# TYPE"));
}
