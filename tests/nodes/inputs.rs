//! What the application says matches what the spec says: an etcd and a Valkey are walked through edits in an order that the seed gives,
//! and after each one the servers themselves are asked how they run.

use std::time::Duration;

use anyhow::{Context, Result};
use harness::eventually::{Eventually, eventually};
use harness::fixture::fixture_on_nodes;
use harness::seed::{self, Dice};
use serde_json::{Value, json};

use super::etcd::etcd;
use super::storage::Running;
use super::valkey::valkey;

/// How long an edit may take until the last server runs it: a rollout of three members on a busy machine.
const STEP_WITHIN: Duration = Duration::from_secs(360);
/// Edits of each.
const STEPS: usize = 5;

const ETCD: &str = "
apiVersion: storage.cloud.atomix.io/v1beta1
kind: EtcdStorageClass
metadata: {name: etcd}
spec:
  replicas: 3
  volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 64Mi}}}}
---
apiVersion: cloud.atomix.io/v1beta3
kind: Database
metadata: {name: etcd}
spec: {partitions: 1, storageClass: {kind: EtcdStorageClass, name: etcd}}
";
const VALKEY: &str = "
apiVersion: storage.cloud.atomix.io/v1beta1
kind: ValkeyStorageClass
metadata: {name: valkey}
spec:
  replicas: 1
  config: {maxmemory: 40mb}
  volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 64Mi}}}}
---
apiVersion: cloud.atomix.io/v1beta3
kind: Database
metadata: {name: valkey}
spec: {partitions: 1, storageClass: {kind: ValkeyStorageClass, name: valkey}}
";

/// Edits of the class, or of the Database where it is about partitions.
fn edits_of_etcd() -> Vec<Value> {
    vec![
        json!({"quotaBackendBytes": 33_554_432}),
        json!({"quotaBackendBytes": 67_108_864, "autoCompactionMode": "periodic", "autoCompactionRetention": "90m"}),
        json!({"autoCompactionMode": "revision", "autoCompactionRetention": "1000"}),
        json!({"autoCompactionMode": null, "autoCompactionRetention": null, "quotaBackendBytes": null}),
        json!({"image": "quay.io/coreos/etcd:v3.6.8-again", "env": [{"name": "ETCD_MAX_TXN_OPS", "value": "64"}]}),
        json!({"partitions": 2}),
        json!({"partitions": 1}),
    ]
}

fn edits_of_valkey() -> Vec<Value> {
    vec![
        json!({"config": {"maxmemory": "50mb", "maxmemory-policy": "allkeys-lru"}}),
        json!({"config": {"maxmemory": null, "hz": "25"}}),
        json!({"persistence": {"appendOnly": false}}),
        json!({"persistence": {"appendOnly": true, "snapshots": [{"seconds": 60, "changes": 7}, {"seconds": 900, "changes": 1}]}}),
        json!({"persistence": {"snapshots": []}}),
        json!({"replicas": 2}),
        json!({"replicas": 0}),
        json!({"partitions": 2}),
        json!({"partitions": 1}),
    ]
}

/// What is asked of a server, and what its answer must say.
struct Question {
    words: Vec<String>,
    /// Texts that the answer has, and texts that it has not.
    says: Vec<String>,
    says_not: Vec<String>,
}

impl Question {
    fn new(words: &[&str], says: impl IntoIterator<Item = String>) -> Question {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        Question { words, says: says.into_iter().collect(), says_not: Vec::new() }
    }
}

/// What each member of etcd must say, by the specs of class and Database.
fn of_etcd(class: &Value, database: &Value) -> Vec<Question> {
    let mut all = Vec::new();
    let replicas = class["replicas"].as_u64().unwrap_or(3);
    let flags = [
        ("--auto-compaction-mode=revision", class["autoCompactionMode"] == "revision"),
        ("--auto-compaction-retention=1h30m", class["autoCompactionRetention"] == "90m"),
        ("--auto-compaction-retention=1000", class["autoCompactionRetention"] == "1000"),
    ];
    for partition in 1..=database["partitions"].as_u64().unwrap_or(1) {
        let names: Vec<String> = (0..replicas).map(|member| format!("etcd-{partition}-{member}")).collect();
        for name in &names {
            let host = format!("{name}.etcd-{partition}-hs");
            let members = names.iter().map(|name| format!("\"name\":\"{name}\""));
            all.push(Question::new(&["post", &format!("http://{host}:2379/v3/cluster/member/list"), "{}"], members));
            // etcd's default is 2 GiB.
            let quota = class["quotaBackendBytes"].as_f64().unwrap_or(2_147_483_648.0);
            let metric = format!("etcd_server_quota_backend_bytes {}", go(quota));
            all.push(Question::new(&["get", &format!("http://{host}:2381/metrics")], [metric]));
            let command_line = &["get", &format!("http://{host}:2379/debug/vars")];
            let said = |wanted: bool| flags.iter().filter(move |(_, is)| *is == wanted).map(|(flag, _)| (*flag).to_owned());
            let says_not = said(false).collect();
            all.push(Question { says_not, ..Question::new(command_line, said(true)) });
        }
    }
    all
}

/// A number as Go's metrics print it, from seven digits on.
fn go(number: f64) -> String {
    let text = format!("{number:e}");
    let (mantissa, exponent) = text.split_once('e').expect("an exponent");
    format!("{mantissa}e+{exponent:0>2}")
}

/// What primaries and replicas must say.
fn of_valkey(class: &Value, database: &Value) -> Vec<Question> {
    let mut all = Vec::new();
    let replicas = class["replicas"].as_u64().unwrap_or(0);
    let append_only = if class["persistence"]["appendOnly"] == false { "no" } else { "yes" };
    let save = match class["persistence"]["snapshots"].as_array() {
        None => "3600 1 300 100 60 10000".to_owned(), // the server's own
        Some(list) => list.iter().map(|it| format!("{} {}", it["seconds"], it["changes"])).collect::<Vec<_>>().join(" "),
    };
    let config = |name: &str, default: &str| class["config"][name].as_str().unwrap_or(default).to_owned();
    let bytes = |text: String| match text.strip_suffix("mb") {
        Some(megabytes) => (megabytes.parse::<u64>().unwrap_or_default() << 20).to_string(),
        None => text,
    };
    let asked = [
        ("appendonly", append_only.to_owned()),
        ("save", save),
        ("maxmemory", bytes(config("maxmemory", "0"))),
        ("maxmemory-policy", config("maxmemory-policy", "noeviction")),
        ("hz", config("hz", "10")),
    ];
    for partition in 1..=database["partitions"].as_u64().unwrap_or(1) {
        let primary = format!("valkey-{partition}-0.valkey-{partition}-hs");
        let of_replica = |number: u64| format!("valkey-{partition}-r-{number}.valkey-{partition}-r-hs");
        for host in [primary.clone()].into_iter().chain((0..replicas).map(of_replica)) {
            let address = format!("{host}:6379");
            for (name, value) in &asked {
                let says = format!("{name}\n{value}\n");
                all.push(Question::new(&["resp", &address, "CONFIG", "GET", name], [says]));
            }
            let role: &[&str] = if host == primary { &["role:master"] } else { &["role:slave", "master_link_status:up"] };
            let says = role.iter().map(|line| (*line).to_owned());
            let count = (host == primary).then(|| format!("connected_slaves:{replicas}"));
            all.push(Question::new(&["resp", &address, "INFO", "replication"], says.chain(count)));
        }
    }
    all
}

/// Walks a database through edits of an order that the dice give, and asks its servers after each.
async fn walk(
    running: &Running,
    kind: &str,
    dice: &Dice,
    mut edits: Vec<Value>,
    questions: fn(&Value, &Value) -> Vec<Question>,
) {
    let name = running.storage.name;
    let mut asked = 0;
    let mut said = String::new();
    for number in 0..=STEPS {
        if number > 0 {
            let edit = edits.swap_remove(dice.below(edits.len() as u64) as usize);
            let object = if edit["partitions"].is_null() { format!("{kind}/{name}") } else { running.database() };
            said = format!("{name}, edit {number}: {edit}");
            let patch = json!({ "spec": edit }).to_string();
            running.kubectl(&["patch", &object, "--type=merge", "--patch", &patch]).await.unwrap();
        }
        let (class, database) = settled(running, kind, &said).await;
        for question in questions(&class, &database) {
            let answers = eventually(STEP_WITHIN, &said, || async {
                let answer = running.client(&question.words).await?;
                let wrong = question.says.iter().any(|text| !answer.contains(text))
                    || question.says_not.iter().any(|text| answer.contains(text));
                let short: String = answer.chars().take(2000).collect();
                Ok(Eventually::when(!wrong, || {
                    format!(
                        "{:?}: {:?} are expected, {:?} are not: {short}",
                        question.words, question.says, question.says_not
                    )
                }))
            });
            running.ns.must(answers.await).await;
            asked += 1;
        }
    }
    println!("{name}: {asked} answers as the spec says");
    assert!(asked > STEPS);
}

/// Waits until the last member runs what was edited; returns the specs of class and Database.
async fn settled(running: &Running, kind: &str, said: &str) -> (Value, Value) {
    let look = |object: String| async move {
        let text = running.kubectl(&["get", &object, "-o", "json"]).await?;
        serde_json::from_str::<Value>(&text).context("kubectl prints JSON")
    };
    let done = eventually(STEP_WITHIN, said, || async {
        let class = look(format!("{kind}/{}", running.storage.name)).await?;
        let database = look(running.database()).await?;
        let status = &database["status"];
        let is = |kind: &str, value: &str| {
            let conditions = status["conditions"].as_array().into_iter().flatten();
            conditions.filter(|it| it["type"] == kind).any(|it| it["status"] == value)
        };
        let speaks = status["observedGeneration"] == database["metadata"]["generation"]
            && status["storageClass"]["generation"] == class["metadata"]["generation"];
        let holds =
            speaks && is("Ready", "True") && is("Accepted", "True") && is("Progressing", "False") && is("Degraded", "False");
        Ok(match holds {
            true => Eventually::Now((class["spec"].clone(), database["spec"].clone())),
            false => Eventually::NotYet(status.to_string()),
        })
    });
    let result: Result<_> = done.await;
    running.ns.must(result).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_servers_say_is_what_the_spec_says() {
    let nodes = fixture_on_nodes().await;
    let seed = seed::seed();
    println!("ATOMIX_FUZZ_SEED={seed}");
    let (etcd, valkey) = tokio::join!(
        Running::start_as(&nodes, etcd(), "inputs-etcd", ETCD),
        Running::start_as(&nodes, valkey("valkey"), "inputs-valkey", VALKEY)
    );
    let dice = [Dice::new(seed), Dice::new(seed.wrapping_add(1))];
    tokio::join!(
        walk(&etcd, "etcdstorageclass", &dice[0], edits_of_etcd(), of_etcd),
        walk(&valkey, "valkeystorageclass", &dice[1], edits_of_valkey(), of_valkey)
    );
    for running in [&etcd, &valkey] {
        running.kubectl(&["delete", &running.database()]).await.unwrap();
        running.ns.wait_gone(&format!("statefulset/{}", running.service(1))).await;
    }
}
