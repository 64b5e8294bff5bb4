//! The controller on real nodes: how long an etcd Database takes against the same manifests applied by hand, how fast a replica is
//! ready, and what it takes of memory. As root on Linux.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::deployed_controller::DeployedController;
use harness::eventually::{Eventually, eventually};
use harness::fixture::{Fixture, fixture_on_nodes};
use harness::go::print_progress;
use harness::real_nodes::{self, PAUSE};
use harness::{dist, paths};
use serde_json::{Value, json};

/// A Database takes at most so much of the time of its manifests applied by hand.
const RATIO_MAX: f64 = 1.2;
const START_SECS_MAX: f64 = 2.0;
const ROUNDS: usize = 3;
const DATABASES: usize = 100;
const LABEL: &str = "app.kubernetes.io/name=atomix-controller";

fn main() -> Result<()> {
    real_nodes::require()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(measure())
}

async fn measure() -> Result<()> {
    let nodes = fixture_on_nodes().await;
    let fixture = nodes.fixture;
    let memory_before = resident_mib(fixture).await?;
    let (mut ours, mut plain) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        print_progress(&format!("round {} of {ROUNDS}: etcd as a Database, then by kubectl apply …", round + 1));
        ours.push(as_database(fixture, &format!("ours-{round}")).await?);
        plain.push(by_hand(fixture, &format!("plain-{round}")).await?);
    }
    let (ours, plain) = (median(ours), median(plain));
    print_progress(&format!("{DATABASES} databases …"));
    many(fixture).await?;
    let memory_after = resident_mib(fixture).await?;
    let (node, start) = replica_start(fixture).await?;
    let image = std::fs::metadata(dist::image()?)?.len() as f64 / 1e6;

    println!("etcd, 3 partitions of 3 members on volumes, until all are ready (median of {ROUNDS})");
    println!("  as a Database           {:>8.2}   s", ours.as_secs_f64());
    println!("  by kubectl apply        {:>8.2}   s", plain.as_secs_f64());
    let ratio = ours.as_secs_f64() / plain.as_secs_f64();
    println!("  ratio                   {ratio:>8.2}   (at most {RATIO_MAX})");
    println!("a replica's pod, {DATABASES} databases settled");
    println!("  made until it runs      {:>8.2}   s, the node's own time", node.as_secs_f64());
    println!("  runs until it is ready  {:>8.2}   s (at most {START_SECS_MAX})", start.as_secs_f64());
    println!("the leader's resident memory");
    println!("  without databases       {memory_before:>8.1}   MiB");
    println!("  with {DATABASES}                {memory_after:>8.1}   MiB");
    println!("image                     {image:>8.1}   MB");
    let report = json!({
        "databaseSecs": ours.as_secs_f64(), "byHandSecs": plain.as_secs_f64(), "ratio": ratio, "ratioMax": RATIO_MAX,
        "podStartSecs": node.as_secs_f64(), "readySecs": start.as_secs_f64(), "readySecsMax": START_SECS_MAX,
        "residentMib": memory_before, "residentMibWithHundredDatabases": memory_after, "imageMb": image,
    });
    let folder = paths::state().join("bench");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("nodes.json"), format!("{report:#}\n"))?;
    ensure!(ratio <= RATIO_MAX, "a Database takes too long");
    ensure!(start.as_secs_f64() <= START_SECS_MAX, "a replica takes too long to be ready");
    Ok(())
}

/// The class and Database of the example, in a namespace.
fn example(namespace: &str) -> Result<String> {
    let text = std::fs::read_to_string(dist::example("etcd"))?;
    Ok(text.replace("metadata:\n  name: etcd\n", &format!("metadata:\n  name: etcd\n  namespace: {namespace}\n")))
}

async fn as_database(fixture: &Fixture<DeployedController>, namespace: &str) -> Result<Duration> {
    let kubectl = fixture.kubectl().namespace(namespace);
    kubectl.run(["create", "namespace", namespace]).await?;
    let start = Instant::now();
    kubectl.run_with(["create", "-f", "-"], &example(namespace)?).await?;
    kubectl.run(["wait", "--for=condition=Ready", "database/etcd", "--timeout=180s"]).await?;
    all_ready(fixture, namespace).await?;
    let took = start.elapsed();
    clean(fixture, namespace).await?;
    Ok(took)
}

async fn by_hand(fixture: &Fixture<DeployedController>, namespace: &str) -> Result<Duration> {
    let kubectl = fixture.kubectl().namespace(namespace);
    kubectl.run(["create", "namespace", namespace]).await?;
    let file = paths::state().join("bench/etcd.yaml");
    std::fs::create_dir_all(paths::state().join("bench"))?;
    std::fs::write(&file, example(namespace)?)?;
    let mut render = Command::new(paths::controller_program()?);
    let output = render.arg("render").arg("--plugin").arg(dist::wasm("etcd")).arg("-f").arg(&file).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(&String::from_utf8(output.stdout)?)?;
    objects.retain(|object| !object.is_null() && object["kind"] != "Partition");
    for object in &mut objects {
        object["metadata"].as_object_mut().context("an object has metadata")?.remove("ownerReferences");
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    let start = Instant::now();
    kubectl.run_with(["apply", "-f", "-"], &list).await?;
    all_ready(fixture, namespace).await?;
    let took = start.elapsed();
    clean(fixture, namespace).await?;
    Ok(took)
}

async fn all_ready(fixture: &Fixture<DeployedController>, namespace: &str) -> Result<()> {
    for partition in 1..=3 {
        let set = format!("statefulset/etcd-{partition}");
        fixture.kubectl().namespace(namespace).run(["rollout", "status", &set, "--timeout=180s"]).await?;
    }
    Ok(())
}

async fn clean(fixture: &Fixture<DeployedController>, namespace: &str) -> Result<()> {
    fixture.kubectl().run(["delete", "namespace", namespace, "--timeout=180s"]).await.map(drop)
}

/// A hundred databases of a Deployment each, whose pods do nothing.
async fn many(fixture: &Fixture<DeployedController>) -> Result<()> {
    fixture.install("web").await?;
    let ns = fixture.namespace("many").await;
    let mut manifest = format!(
        "apiVersion: storage.cloud.atomix.io/v1beta1\nkind: WebStorageClass\nmetadata: {{name: web}}\nspec: {{image: '{PAUSE}'}}\n"
    );
    for number in 0..DATABASES {
        manifest.push_str(&format!(
            "---\napiVersion: cloud.atomix.io/v1beta3\nkind: Database\nmetadata: {{name: db-{number}}}\nspec: {{storageClass: {{kind: WebStorageClass, name: web}}}}\n"
        ));
    }
    ns.create(&manifest).await;
    let ready = eventually(Duration::from_secs(300), "all databases are Ready", || async {
        let found = ns.get("databases").await;
        let ready = found.iter().filter(|database| database["status"]["phase"] == "Ready").count();
        Ok(Eventually::when(ready == DATABASES, || format!("{ready} of {DATABASES}")))
    });
    ready.await?;
    ns.settled().await;
    Ok(())
}

/// How long a replica that takes the place of another takes: from its making until it runs, and from then until it is ready.
async fn replica_start(fixture: &Fixture<DeployedController>) -> Result<(Duration, Duration)> {
    let kubectl = fixture.controller.kubectl();
    let before = fixture.controller.pods().await?;
    let first = before.first().context("the controller has a pod")?;
    kubectl.run(["delete", "pod", first, "--wait=false"]).await?;
    let deleted = Instant::now();
    let (mut running, mut ready) = (None, None);
    while ready.is_none() {
        ensure!(deleted.elapsed() < Duration::from_secs(120), "no replica came in the place of {first}");
        let pods: Value = serde_json::from_str(&kubectl.run(["get", "pods", "-l", LABEL, "-o", "json"]).await?)?;
        let items = pods["items"].as_array().cloned().unwrap_or_default();
        let new = items.iter().find(|pod| before.iter().all(|old| pod["metadata"]["name"] != **old));
        let status = new.map(|pod| &pod["status"]["containerStatuses"][0]);
        if status.is_some_and(|status| status["state"]["running"].is_object()) {
            running.get_or_insert_with(Instant::now);
        }
        if status.is_some_and(|status| status["ready"] == true) {
            ready = Some(Instant::now());
        }
    }
    let (running, ready) = (running.context("it ran")?, ready.context("it is ready")?);
    fixture.controller.rolled_out().await?;
    Ok((running - deleted, ready - running))
}

/// Resident memory of the replica that leads.
async fn resident_mib(fixture: &Fixture<DeployedController>) -> Result<f64> {
    let kubectl = fixture.controller.kubectl();
    let leader = kubectl.run(["get", "lease", "atomix-controller", "-o", "jsonpath={.spec.holderIdentity}"]).await?;
    let node = kubectl.run(["get", "pod", &leader, "-o", "jsonpath={.spec.nodeName}"]).await?;
    let number = node.trim_start_matches("node").parse().context("it runs on a real node")?;
    let read = ["sh", "-c", "grep -h VmRSS $(grep -lx atomix-controll /proc/[0-9]*/comm | sed 's/comm$/status/' | head -1)"];
    let line = fixture.plane.with_node(number, |machine| machine.run(&read))?;
    let kib: f64 = line.trim().trim_start_matches("VmRSS:").trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
