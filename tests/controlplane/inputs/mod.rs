//! Databases are walked through the inputs that definitions describe: valid values, values at a bound and beyond it, other types, unknown
//! fields, nothing; in every field of Database and class, and in labels and annotations. After each step the field is named and nothing
//! has changed, or all is as a fresh controller makes it of the same Database and class.
//!
//! `ATOMIX_FUZZ_SEED=N` makes the steps of a failure again; `make soak` goes on with other seeds until something is found.

mod cluster;
mod labels;
mod meanings;
mod places;
mod walker;

use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::join_all;
use harness::audit::table;
use harness::controller::USER;
use harness::eventually::{Eventually, eventually};
use harness::fixture::{Fixture, SOON, private_fixture};
use harness::seed::{self, Dice};
use serde_json::{Value, json};

use cluster::{Cluster, Resource, State};
use walker::{Base, Schemas, Tally, Walker};

/// Steps of each database; `ATOMIX_FUZZ_TIMES` multiplies them.
const STEPS: u32 = 12;

const STORAGE: &str = "apis/storage.cloud.atomix.io/v1beta1";
const PLUGINS: [&str; 5] = ["raft", "cache", "etcd", "valkey", "redis"];

/// The shapes in which databases begin; each is walked by two.
fn bases() -> Vec<Base> {
    let claim = json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let base =
        |kind: &'static str, plural: &'static str, versions: &'static [&'static str], class_spec: Value, database: Value| {
            let mut database_spec = database;
            database_spec["storageClass"] = json!({"kind": kind, "name": "c"});
            Base { class: Resource { kind, api: STORAGE, plural }, versions, class_spec, database_spec }
        };
    let raft = |spec, database| {
        let versions = &[STORAGE, "apis/storage.cloud.atomix.io/v1beta3"];
        base("RaftStorageClass", "raftstorageclasses", versions, spec, database)
    };
    let etcd = |spec, database| base("EtcdStorageClass", "etcdstorageclasses", &[STORAGE], spec, database);
    let valkey = |spec, database| base("ValkeyStorageClass", "valkeystorageclasses", &[STORAGE], spec, database);
    vec![
        raft(json!({"replicas": 3, "volumeClaimTemplate": claim}), json!({"partitions": 2, "partitionsPerCluster": 1})),
        raft(
            json!({"replicas": 1, "electionTimeout": "2s", "env": [{"name": "TZ", "value": "UTC"}]}),
            json!({"partitions": 3}),
        ),
        base("CacheStorageClass", "cachestorageclasses", &[STORAGE], json!({}), json!({"partitions": 2})),
        etcd(json!({"replicas": 3, "volumeClaimTemplate": claim}), json!({"partitions": 1})),
        etcd(
            json!({"replicas": 1, "peerTls": {"secretName": "peer"}, "clientTls": {"secretName": "client"},
                "autoCompactionMode": "revision", "autoCompactionRetention": "1000", "volumeClaimTemplate": claim}),
            json!({"partitions": 2}),
        ),
        valkey(
            json!({"replicas": 2, "config": {"maxmemory": "50mb"}, "volumeClaimTemplate": claim,
                "persistence": {"snapshots": [{"seconds": 60, "changes": 1}]}}),
            json!({"partitions": 1}),
        ),
        valkey(
            json!({"password": {"secretName": "pw"}, "resources": {"limits": {"memory": "1Gi"}}}),
            json!({"partitions": 2}),
        ),
        base(
            "RedisStorageClass",
            "redisstorageclasses",
            &[STORAGE],
            json!({"backend": {"replicas": 2}, "volumeClaimTemplate": claim}),
            json!({"partitions": 2, "partitionsPerCluster": 1}),
        ),
    ]
}

/// The schemas of specs that are installed, by path of the API and plural.
async fn schemas(cluster: &Cluster) -> Result<Schemas> {
    let list = cluster.get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions").await?;
    let mut found = Schemas::new();
    for definition in list["items"].as_array().context("a list")? {
        let (group, plural) = (&definition["spec"]["group"], &definition["spec"]["names"]["plural"]);
        for version in definition["spec"]["versions"].as_array().into_iter().flatten() {
            let key = [group, &version["name"], plural].map(|value| value.as_str().unwrap_or_default());
            let schema = &version["schema"]["openAPIV3Schema"]["properties"]["spec"];
            found.insert(format!("apis/{}", key.join("/")), schema.clone());
        }
    }
    Ok(found)
}

/// Walks a database through so many steps; an error says which is wrong.
async fn walk(walker: &mut Walker<'_>, steps: u32) -> Result<()> {
    walker.begin().await.context("the beginning")?;
    for number in 1..=steps {
        walker.step(number).await.with_context(|| format!("step {number}"))?;
    }
    Ok(())
}

/// Waits for three seconds in which the controller asks for nothing.
async fn is_silent(fixture: &Fixture) {
    let silent = eventually(SOON, "the controller asks for nothing any more", || async {
        let mark = fixture.mark().await;
        tokio::time::sleep(Duration::from_secs(3)).await; // nothing announces that nothing comes
        let requests = fixture.requests_since(mark).await;
        let asked: Vec<_> = requests.into_iter().filter(|request| request.user == USER).collect();
        Ok(Eventually::when(asked.is_empty(), || table(&asked)))
    });
    silent.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_input_is_refused_by_name_or_becomes_what_a_fresh_controller_makes() {
    let fixture = private_fixture("inputs").await;
    for plugin in PLUGINS {
        fixture.install(plugin).await.unwrap();
    }
    let gold =
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "gold"}, "value": 1});
    fixture.kubectl().run_with(["create", "-f", "-"], &gold.to_string()).await.unwrap();
    let (pid, seed, steps) = (fixture.controller.pid(), seed::seed(), STEPS.saturating_mul(seed::times()));
    let cluster = Cluster(fixture.plane.client().await.unwrap());
    let (schemas, bases) = (schemas(&cluster).await.unwrap(), bases());

    let mut walkers: Vec<Walker> = (0..2 * bases.len())
        .map(|number| Walker {
            cluster: &cluster,
            schemas: &schemas,
            base: &bases[number % bases.len()],
            number,
            dice: Dice::new(seed.wrapping_mul(1000).wrapping_add(number as u64)),
            tally: Tally::default(),
            before: State::default(),
        })
        .collect();
    let walked = join_all(walkers.iter_mut().map(|walker| walk(walker, steps))).await;
    let wrong: Vec<String> = walked
        .into_iter()
        .enumerate()
        .filter_map(|(number, walked)| Some(format!("ATOMIX_FUZZ_SEED={seed}, inputs-{number:02}: {:#}", walked.err()?)))
        .collect();
    assert!(wrong.is_empty(), "{}\n--- log\n{}", wrong.join("\n\n"), fixture.controller.log_tail(30));

    let sum = |of: fn(&Tally) -> usize| walkers.iter().map(|walker| of(&walker.tally)).sum::<usize>();
    let all = [
        ("steps", sum(|it| it.steps)),
        ("refused", sum(|it| it.refused)),
        ("not taken", sum(|it| it.not_taken)),
        ("compared", sum(|it| it.compared)),
        ("undone", sum(|it| it.undone)),
    ];
    println!("seed {seed}: {all:?}");
    assert!(all.iter().all(|(_, count)| *count > 0), "each comes about: {all:?}");
    assert_eq!(fixture.controller.pid(), pid, "the controller was not started again");
    assert!(!fixture.controller.ended());
    assert!(!fixture.controller.log_tail(usize::MAX).contains("panicked"), "{}", fixture.controller.log_tail(40));
    is_silent(&fixture).await;
}
