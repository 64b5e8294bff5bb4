//! The walk of programs written for Atomix 4's first year, by cluster names only: unmodified published Go clients, in pods.
//!
//! The storage nodes of that year cannot be had. In their place stands `tests/oldclients/node`, on the published modules that they
//! were built on: it reads the `cluster.json` and `protocol.json` that are rendered as strictly as they did, and answers sessions and
//! locks on the rendered ports. It replicates nothing: the first member leads, the others send clients on to it by its name.

use harness::fixture::fixture_on_nodes;
use harness::oldclients::{CLIENTS, GENERATIONS};

const API: &str = "atomix-controller.kube-system.svc.cluster.local:5679";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_every_generation_lock_and_unlock_on_the_example_of_old() {
    let fixture = fixture_on_nodes().await;
    let ns = fixture.namespace("old-clients").await;
    ns.create_file("deploy/examples/raft.yaml").await;
    ns.wait("database/raft", "Ready").await;
    for generation in GENERATIONS {
        let program = format!("old-client-{generation}");
        let image = format!("--image={CLIENTS}");
        let words = [
            "run",
            &program,
            "--restart=Never",
            &image,
            "--command",
            "--",
            &program,
            "-within",
            "60s",
            API,
            &ns.name,
            "raft",
        ];
        ns.kubectl(words).await;
        ns.until(&format!("pod/{program}"), "the program has ended", |found| {
            found.iter().any(|pod| matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")))
        })
        .await;
        let printed = ns.kubectl(["logs", &program]).await;
        for step in ["New", "GetLock", "Lock", "Unlock"] {
            assert!(printed.contains(&format!(r#""step":"{step}""#)), "{program}: {step}: {printed}");
        }
        assert!(!printed.contains("error"), "{program}: {printed}");
    }
    ns.kubectl(["delete", "database/raft"]).await;
}
