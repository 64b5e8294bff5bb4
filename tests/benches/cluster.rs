//! What the controller costs the API server and the machine: requests until a database is Ready against the objects that it
//! creates, and resident memory with no database and with a hundred.

use anyhow::{Context, Result, ensure};
use harness::audit::table;
use harness::controller::USER;
use harness::fixture::{Namespace, private_fixture};
use harness::usage::Usage;
use harness::{dist, paths};
use serde_json::{Value, json};

/// Requests for each object created, and those that come on top for the database as a whole.
const RATIO_MAX: f64 = 1.4;
const REQUESTS_ON_TOP: f64 = 6.0;
const PARTITIONS: usize = 10;
const DATABASES: usize = 100;

fn main() -> Result<()> {
    dist::build_unless_prebuilt()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure())
}

async fn measure() -> Result<()> {
    let fixture = private_fixture("bench").await;
    for plugin in ["raft", "cache"] {
        fixture.install(plugin).await?;
    }
    let ns = fixture.namespace("bench").await;
    ns.create(
        "apiVersion: storage.cloud.atomix.io/v1beta1\nkind: RaftStorageClass\nmetadata: {name: raft}\nspec: {replicas: 3}\n",
    )
    .await;
    let memory_before = resident_mib(&fixture.controller)?;

    let mark = fixture.mark().await;
    ns.create(&database("wide", PARTITIONS)).await;
    ns.wait("database/wide", "Ready").await;
    let requests = fixture.requests_since(mark).await;
    let ours: Vec<_> = requests.iter().filter(|request| request.user == USER && request.verb != "watch").cloned().collect();
    let objects = objects(&ns).await;
    let most = RATIO_MAX * objects as f64 + REQUESTS_ON_TOP;
    ns.kubectl(["delete", "database/wide", "--cascade=foreground"]).await;

    let many: String = (0..DATABASES).map(|i| database(&format!("db-{i}"), 1)).collect();
    ns.create(&many).await;
    let ready = |db: &Value| db["status"]["phase"] == "Ready";
    ns.until("databases", "all databases are Ready", |found| found.len() == DATABASES && found.iter().all(ready)).await;
    let memory_after = resident_mib(&fixture.controller)?;

    println!("a database of {PARTITIONS} partitions, a cluster of three each");
    println!("  objects created          {objects:>8}");
    println!("  requests until Ready     {:>8}   (at most {most:.0})", ours.len());
    println!("resident memory            {memory_before:>8.1}   MiB without databases");
    println!("                           {memory_after:>8.1}   MiB with {DATABASES} databases of one partition");
    let report = json!({
        "objects": objects, "requests": ours.len(), "requestsMax": most, "residentMib": memory_before,
        "residentMibWithHundredDatabases": memory_after,
    });
    let folder = paths::state().join("bench");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("cluster.json"), format!("{report:#}\n"))?;
    ensure!(ours.len() as f64 <= most, "too many requests:\n{}", table(&ours));
    Ok(())
}

fn database(name: &str, partitions: usize) -> String {
    format!(
        "---\napiVersion: cloud.atomix.io/v1beta3\nkind: Database\nmetadata: {{name: {name}}}\nspec:\n  partitions: {partitions}\n  partitionsPerCluster: 1\n  storageClass: {{kind: RaftStorageClass, name: raft}}\n"
    )
}

/// Objects that the controller made: all kinds, by their owner.
async fn objects(ns: &Namespace<'_>) -> usize {
    let mut made = 0;
    for kind in ["partitions", "statefulsets", "services", "configmaps", "poddisruptionbudgets"] {
        let owned = |object: &&Value| object["metadata"]["ownerReferences"][0]["kind"] == "Database";
        made += ns.get(kind).await.iter().filter(owned).count();
    }
    made
}

/// Resident memory of the controller's process.
fn resident_mib(controller: &harness::controller::Controller) -> Result<f64> {
    Ok(Usage::of(controller.pid().context("the controller runs")?)?.resident_kib / 1024.0)
}
