//! The controller runs as its ServiceAccount and needs no more than `deploy/` gives it.

use harness::audit::{Request, table};
use harness::controller::USER;
use harness::world::private_world;

#[tokio::test]
async fn the_controller_starts_with_the_rights_of_its_account_alone() {
    let world = private_world("account").await;
    let everything = world.requests_since(Default::default()).await;
    let named = |r: &Request| r.user_agent.starts_with("atomix-controller/");
    let foreign: Vec<_> = everything.iter().filter(|r| named(r) && r.user != USER).cloned().collect();
    let its: Vec<_> = everything.into_iter().filter(|r| r.user == USER).collect();
    assert!(!its.is_empty());
    assert!(foreign.is_empty(), "requests of the controller under another account:\n{}", table(&foreign));
    let refused: Vec<_> = its.into_iter().filter(|r| r.code == 401 || r.code == 403).collect();
    assert!(refused.is_empty(), "rights that the controller lacks:\n{}\n{}", table(&refused), world.controller.log_tail(30));
}

#[tokio::test]
async fn the_controller_stops_when_asked_and_starts_again() {
    let world = private_world("stops").await;
    let first = world.controller.pid().unwrap();
    world.controller.restart().await.unwrap();
    let second = world.controller.pid().unwrap();
    assert_ne!(first, second);
    world.controller.kill().await.unwrap();
    assert!(world.controller.ended());
    world.controller.start().await.unwrap();
    assert!(world.controller.metrics().await.unwrap().contains("# TYPE"));
}
