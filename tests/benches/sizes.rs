//! What many databases cost: time until all their objects are there, against a plain writer of the same objects; requests, memory and
//! processor time of the controller, as it settles and after a restart.
//!
//! The control plane runs no other controller while it is measured: no pod comes, and what is counted is ours. `ATOMIX_SIZES=100,1000`
//! says how many databases there are in each run, and `ATOMIX_CONTROLLER` which program is measured, if not one of this profile.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use harness::audit::table;
use harness::controller::{Options, USER};
use harness::eventually::{Eventually, eventually};
use harness::fixture::{Fixture, Namespace, private_fixture_with};
use harness::usage::Usage;
use harness::{dist, paths};
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

const SIZES: [usize; 2] = [100, 300];
const PARTITIONS: usize = 3;
/// Requests at a time, of whoever writes.
const AT_ONCE: usize = 16;
/// How long it is listened whether the controller is silent.
const SILENCE: Duration = Duration::from_secs(30);
/// How long anything may take before this is given up.
const PATIENCE: Duration = Duration::from_secs(1800);

/// The kinds that are made for a database, and how many of each.
const CHILDREN: [(&str, &str, &str, &str, usize); 5] = [
    ("cloud.atomix.io", "v1beta3", "Partition", "partitions", PARTITIONS),
    ("", "v1", "ConfigMap", "configmaps", PARTITIONS),
    ("", "v1", "Service", "services", 2 * PARTITIONS),
    ("apps", "v1", "StatefulSet", "statefulsets", PARTITIONS),
    ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", PARTITIONS),
];

fn main() -> Result<()> {
    dist::build_unless_prebuilt()?;
    let program = program()?;
    let sizes = match std::env::var("ATOMIX_SIZES") {
        Ok(sizes) => sizes.split(',').map(|size| size.trim().parse()).collect::<Result<_, _>>().context("ATOMIX_SIZES")?,
        Err(_) => SIZES.to_vec(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut measured = Vec::new();
    for databases in sizes {
        measured.push(runtime.block_on(measure(program.clone(), databases))?);
    }
    print(&measured);
    let folder = paths::state().join("bench");
    std::fs::create_dir_all(&folder)?;
    let report = json!({"partitions": PARTITIONS, "childrenOfEach": children(1), "sizes": measured.iter().map(Size::json).collect::<Vec<_>>()});
    std::fs::write(folder.join("sizes.json"), format!("{report:#}\n"))?;
    for size in &measured {
        ensure!(size.written_by_restart == 0, "{} databases: a restart wrote {}", size.databases, size.written_by_restart);
    }
    Ok(())
}

/// The controller that is measured.
fn program() -> Result<PathBuf> {
    if std::env::var_os("ATOMIX_CONTROLLER").is_some() {
        return paths::controller_program();
    }
    let (profile, folder) = if cfg!(debug_assertions) { ("dev", "debug") } else { ("release", "release") };
    // With the harness beside it, so that what both depend on is built once.
    let packages = ["--package", "atomix-controller", "--package", "atomix-tests", "--bin", "atomix-controller"];
    dist::cargo(&[&["build", "--profile", profile][..], &packages].concat())?;
    Ok(paths::cargo_target().join(folder).join("atomix-controller"))
}

/// What so many databases cost.
struct Size {
    databases: usize,
    /// From the first request for a database until the last object of all is there; the same objects by server-side apply; by POST.
    secs: [f64; 3],
    /// Requests of the controller, watches and Leases aside, until all objects are there, and until it has written its last status.
    requests: [usize; 2],
    passes: f64,
    /// Without databases, with them, and after a restart.
    usage: [Usage; 3],
    ready_after_restart_secs: f64,
    written_by_restart: usize,
    requests_while_settled: usize,
}

async fn measure(program: PathBuf, databases: usize) -> Result<Size> {
    let options = Options { program: Some(program), ..Options::default() };
    let fixture = private_fixture_with(&format!("bench-sizes-{databases}"), options).await;
    let ns = prepared(&fixture).await?;
    let usage = || Usage::of(fixture.controller.pid().context("the controller runs")?);
    let (empty, passes_before, mark) = (usage()?, passes(&fixture).await?, fixture.mark().await);

    let start = Instant::now();
    create_databases(&ns, databases).await?;
    all_there(&ns, databases).await?;
    let ours = start.elapsed().as_secs_f64();
    let until_there = requests(&fixture, mark).await.len();
    ns.settled().await;
    let (settled, passes) = (usage()?, passes(&fixture).await? - passes_before);
    let until_settled = requests(&fixture, mark).await.len();
    let mark = fixture.mark().await;
    tokio::time::sleep(SILENCE).await;
    let while_settled = requests(&fixture, mark).await;

    fixture.controller.stop().await?;
    let (mark, start) = (fixture.mark().await, Instant::now());
    fixture.controller.start().await?;
    let ready_after_restart_secs = start.elapsed().as_secs_f64();
    ns.settled().await;
    tokio::time::sleep(SILENCE).await;
    let (restarted, since_restart) = (usage()?, fixture.requests_since(mark).await);
    let written: Vec<_> = since_restart.into_iter().filter(|request| request.user == USER && request.writes()).collect();

    fixture.controller.stop().await?; // what others write is not its concern
    let objects = objects(&ns).await?;
    ensure!(objects.len() == children(databases), "{} objects were made", objects.len());
    let applied = write(&fixture.namespace("applied").await, &objects, By::Apply).await?;
    let posted = write(&fixture.namespace("posted").await, &objects, By::Post).await?;
    print!("{databases} databases: requests while settled\n{}", table(&while_settled));
    print!("{databases} databases: written by the restart\n{}", table(&written));
    Ok(Size {
        databases,
        secs: [ours, applied, posted],
        requests: [until_there, until_settled],
        passes,
        usage: [empty, settled, restarted],
        ready_after_restart_secs,
        written_by_restart: written.len(),
        requests_while_settled: while_settled.len(),
    })
}

/// Installs a plugin and sees that it may write what it plans, then ends all other controllers. Returns an empty namespace.
async fn prepared(fixture: &Fixture) -> Result<Namespace<'_>> {
    fixture.install("raft").await?;
    fixture.serves("raft").await?;
    let class =
        "apiVersion: storage.cloud.atomix.io/v1beta1\nkind: RaftStorageClass\nmetadata: {name: raft}\nspec: {replicas: 3}\n";
    let first = fixture.namespace("first").await;
    first.create(class).await;
    create_databases(&first, 1).await?;
    first.wait("database/db-0", "Ready").await;
    first.kubectl(["delete", "database/db-0", "--cascade=foreground"]).await;
    let ns = fixture.namespace("bench").await;
    ns.create(class).await;
    let authority = "configmap/kube-root-ca.crt"; // of every namespace, and no child of a database
    ns.until(authority, "it is there", |found| !found.is_empty()).await;
    for program in ["kwok", "kube-scheduler", "kube-controller-manager"] {
        fixture.plane.kill(program).await?;
    }
    ns.kubectl(["delete", authority]).await;
    Ok(ns)
}

async fn create_databases(ns: &Namespace<'_>, databases: usize) -> Result<()> {
    let api = ns.api("cloud.atomix.io", "v1beta3", "Database", "databases");
    let made = stream::iter(0..databases).map(|at| {
        let object = json!({
            "apiVersion": "cloud.atomix.io/v1beta3", "kind": "Database", "metadata": {"name": format!("db-{at}")},
            "spec": {"partitions": PARTITIONS, "partitionsPerCluster": 1, "storageClass": {"kind": "RaftStorageClass", "name": "raft"}},
        });
        let api = &api;
        async move {
            match api.create(&PostParams::default(), &serde_json::from_value(object)?).await {
                Err(kube::Error::Api(status)) if status.code == 409 => {} // a request that was not answered in time, and sent again
                created => drop(created?),
            }
            anyhow::Ok(())
        }
    });
    made.buffer_unordered(AT_ONCE).try_collect().await
}

fn children(databases: usize) -> usize {
    databases * CHILDREN.iter().map(|(.., of_each)| of_each).sum::<usize>()
}

/// Waits until all objects of the databases are there.
async fn all_there(ns: &Namespace<'_>, databases: usize) -> Result<()> {
    let all = eventually(PATIENCE, "all objects are there", || async {
        let mut there = 0;
        for (group, version, kind, plural, _) in CHILDREN {
            let found = ns.api(group, version, kind, plural).list_metadata(&ListParams::default().limit(1)).await?;
            there += found.items.len() + usize::try_from(found.metadata.remaining_item_count.unwrap_or(0))?;
        }
        Ok(Eventually::when(there >= children(databases), || format!("{there} are")))
    });
    all.await
}

/// Requests of the controller since a mark, but for watches and Leases.
async fn requests(fixture: &Fixture, mark: harness::audit::Mark) -> Vec<harness::audit::Request> {
    let mut requests = fixture.requests_since(mark).await;
    requests.retain(|request| request.user == USER && request.verb != "watch");
    requests
}

/// Passes over databases so far.
async fn passes(fixture: &Fixture) -> Result<f64> {
    let metrics = fixture.controller.metrics().await?;
    let lines = metrics.lines().filter(|line| line.starts_with("atomix_reconciles_total"));
    Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
}

/// An object that is written again elsewhere.
struct Original {
    kind: (&'static str, &'static str, &'static str, &'static str),
    object: Value,
}

/// The objects of the databases, as they were written.
async fn objects(ns: &Namespace<'_>) -> Result<Vec<Original>> {
    let mut objects = Vec::new();
    for (group, version, kind, plural, _) in CHILDREN {
        let listed = ns.api(group, version, kind, plural).list(&ListParams::default()).await?;
        for object in listed.items {
            let mut object = serde_json::to_value(object)?;
            object["apiVersion"] = if group.is_empty() { version.into() } else { format!("{group}/{version}").into() };
            object["kind"] = kind.into();
            for field in ["uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "namespace"] {
                object["metadata"].as_object_mut().context("an object has metadata")?.remove(field);
            }
            object.as_object_mut().context("it is an object")?.remove("status");
            if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
                && spec.get("clusterIP").is_some_and(|address| address != "None")
            {
                spec.retain(|field, _| !field.starts_with("clusterIP")); // of one Service only
            }
            objects.push(Original { kind: (group, version, kind, plural), object });
        }
    }
    Ok(objects)
}

/// How a plain writer writes.
#[derive(Clone, Copy)]
enum By {
    Apply,
    Post,
}

/// Writes objects with nothing else to do; returns how many seconds that took.
async fn write(ns: &Namespace<'_>, objects: &[Original], by: By) -> Result<f64> {
    let start = Instant::now();
    let written = stream::iter(objects).map(|Original { kind: (group, version, kind, plural), object }| async move {
        let api = ns.api(group, version, kind, plural);
        let name = object["metadata"]["name"].as_str().context("it has a name")?;
        let _: DynamicObject = match by {
            By::Apply => api.patch(name, &PatchParams::apply("bench").force(), &Patch::Apply(object)).await?,
            By::Post => api.create(&PostParams::default(), &serde_json::from_value(object.clone())?).await?,
        };
        anyhow::Ok(())
    });
    written.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    Ok(start.elapsed().as_secs_f64())
}

impl Size {
    fn json(&self) -> Value {
        let [ours, applied, posted] = self.secs;
        let usage = |usage: &Usage| json!({"residentMib": mib(usage.resident_kib), "residentMibPeak": mib(usage.resident_kib_peak), "cpuSecs": usage.cpu_secs});
        json!({
            "databases": self.databases, "secs": ours, "secsOfPlainApply": applied, "secsOfPlainPost": posted,
            "requestsUntilThere": self.requests[0], "requestsUntilSettled": self.requests[1], "passes": self.passes,
            "empty": usage(&self.usage[0]), "settled": usage(&self.usage[1]), "restarted": usage(&self.usage[2]),
            "readyAfterRestartSecs": self.ready_after_restart_secs, "writtenByRestart": self.written_by_restart,
            "requestsWhileSettled": self.requests_while_settled,
        })
    }
}

fn mib(kib: f64) -> f64 {
    kib / 1024.0
}

fn print(sizes: &[Size]) {
    let line = |name: &str, value: &dyn Fn(&Size) -> f64, digits: usize| {
        print!("  {name:<58}");
        sizes.iter().for_each(|size| print!(" {:>9.digits$}", value(size)));
        println!();
    };
    println!(
        "databases of {PARTITIONS} partitions in as many clusters, {} objects each; {AT_ONCE} requests at a time",
        children(1)
    );
    line("databases", &|it| it.databases as f64, 0);
    line("seconds from the first request to the last object", &|it| it.secs[0], 1);
    line("  divided by those of plain server-side apply", &|it| it.secs[0] / it.secs[1], 2);
    line("  divided by those of plain POST", &|it| it.secs[0] / it.secs[2], 2);
    line("requests for each database until its objects are there", &|it| it.requests[0] as f64 / it.databases as f64, 1);
    line("  until its status is", &|it| it.requests[1] as f64 / it.databases as f64, 1);
    line("passes over each database", &|it| it.passes / it.databases as f64, 1);
    line("processor seconds until settled", &|it| it.usage[1].cpu_secs - it.usage[0].cpu_secs, 1);
    line("resident MiB without databases", &|it| mib(it.usage[0].resident_kib), 1);
    line("  with them", &|it| mib(it.usage[1].resident_kib), 1);
    line("  at most until then", &|it| mib(it.usage[1].resident_kib_peak), 1);
    line("  after a restart", &|it| mib(it.usage[2].resident_kib), 1);
    line("  at most since the restart", &|it| mib(it.usage[2].resident_kib_peak), 1);
    line("seconds until ready after a restart", &|it| it.ready_after_restart_secs, 1);
    line("  processor seconds until settled", &|it| it.usage[2].cpu_secs, 1);
    line("  writes", &|it| it.written_by_restart as f64, 0);
    line("requests in 30 settled seconds", &|it| it.requests_while_settled as f64, 0);
}
