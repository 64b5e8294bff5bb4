//! Data of Valkey and Redis when what decides where or in which form they lie is edited, when volumes are lost, and with
//! passwords of any bytes. That nothing was lost is read back from each server.

use std::time::Duration;

use harness::deployed_controller::DeployedController;
use harness::eventually::{Eventually, eventually};
use harness::fixture::{Namespace, fixture_on_nodes};
use harness::pki::base64;
use serde_json::{Value, json};

/// How long a change may take to reach all servers, one after the other, on a busy machine.
const LIMIT: Duration = Duration::from_secs(600);
/// The script of the servers, with which a person queries them and decides for them.
const SCRIPT: &str = "/etc/server/server.sh";
/// Keys that each test begins with.
const KEYS: usize = 500;

/// A class of that name with a replica and volumes, and a Database of one partition.
fn manifest(name: &str) -> String {
    format!(
        "
apiVersion: storage.cloud.atomix.io/v1beta1
kind: ValkeyStorageClass
metadata: {{name: {name}}}
spec:
  replicas: 1
  volumeClaimTemplate: {{spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 100Mi}}}}}}}}
---
apiVersion: cloud.atomix.io/v1beta3
kind: Database
metadata: {{name: {name}}}
spec: {{partitions: 1, storageClass: {{kind: ValkeyStorageClass, name: {name}}}}}
"
    )
}

/// A Database in its namespace.
struct Db<'a> {
    ns: &'a Namespace<'static, DeployedController>,
    name: &'a str,
}

impl Db<'_> {
    async fn kubectl(&self, args: &[&str]) -> anyhow::Result<String> {
        self.ns.fixture().kubectl().namespace(&self.ns.name).run(args).await
    }

    /// Runs a command on the server of a pod, with the password that it has.
    async fn run(&self, pod: &str, words: &[&str]) -> anyhow::Result<String> {
        let args = [&["exec", pod, "-c", "server", "--", "sh", SCRIPT, "cli"], words].concat();
        Ok(self.kubectl(&args).await?.trim().to_owned())
    }

    async fn until(&self, sentence: &str, holds: impl Fn(&Value) -> bool) {
        let done = eventually(LIMIT, sentence, || async {
            let text = self.kubectl(&["get", "database", self.name, "-o", "json"]).await?;
            let database: Value = serde_json::from_str(&text)?;
            Ok(Eventually::when(holds(&database), || database["status"].to_string()))
        });
        self.ns.must(done.await).await;
    }

    /// Waits until the Database reports why something is missing: a condition's reason and part of its message.
    async fn wait_for_reason(&self, reason: &str, words: &str) {
        self.until(&format!("it reports {reason}: {words}"), |database| {
            conditions(database)
                .any(|one| one["reason"] == reason && one["message"].as_str().is_some_and(|message| message.contains(words)))
        })
        .await;
    }

    /// Waits until all its servers run the class as it is, and nothing is missing.
    async fn settled(&self, pods: &[&str]) {
        let done = eventually(LIMIT, "all servers run the newest revision and are ready", || async {
            let sets: Value = serde_json::from_str(&self.kubectl(&["get", "statefulsets", "-o", "json"]).await?)?;
            let of_it = |set: &&Value| set["metadata"]["name"].as_str().is_some_and(|set| set.starts_with(self.name));
            let sets: Vec<&Value> = sets["items"].as_array().into_iter().flatten().filter(of_it).collect();
            let rolled = |set: &&Value| {
                let (status, spec) = (&set["status"], &set["spec"]);
                status["observedGeneration"] == set["metadata"]["generation"]
                    && status["updateRevision"] == status["currentRevision"]
                    && status["readyReplicas"] == spec["replicas"]
            };
            let database: Value = serde_json::from_str(&self.kubectl(&["get", "database", self.name, "-o", "json"]).await?)?;
            let holds = sets.iter().all(rolled) && calm(&database);
            Ok(Eventually::when(holds, || {
                format!("{} {:?}", database["status"], sets.iter().map(|set| &set["status"]).collect::<Vec<_>>())
            }))
        });
        self.ns.must(done.await).await;
        for pod in pods {
            let sentence = format!("{pod} answers");
            let done = eventually(LIMIT, &sentence, || async {
                Ok(Eventually::when(self.run(pod, &["ping"]).await? == "PONG", String::new))
            });
            self.ns.must(done.await).await;
        }
    }

    async fn edit(&self, spec: &Value) {
        let (class, patch) = (format!("valkeystorageclass/{}", self.name), json!({"spec": spec}).to_string());
        let before = self.revisions().await;
        self.kubectl(&["patch", &class, "--type=merge", "--patch", &patch]).await.unwrap();
        let done = eventually(LIMIT, "the edit has come to the StatefulSets", || async {
            Ok(Eventually::when(self.revisions().await != before, String::new))
        });
        self.ns.must(done.await).await;
    }

    async fn revisions(&self) -> String {
        let query = r"jsonpath={.items[*].spec.template}";
        self.kubectl(&["get", "statefulsets", "-o", query]).await.unwrap()
    }

    /// Every server has so many keys.
    async fn have(&self, keys: usize, pods: &[&str]) {
        for pod in pods {
            let sentence = format!("{pod} has {keys} keys");
            let done = eventually(LIMIT, &sentence, || async {
                let size = self.run(pod, &["dbsize"]).await?;
                Ok(Eventually::when(size == keys.to_string(), || size))
            });
            self.ns.must(done.await).await;
        }
    }

    async fn fill(&self, pod: &str) {
        let fill = format!("for i=1,{KEYS} do redis.call('set','k'..i,i) end return 1");
        assert_eq!(self.run(pod, &["eval", &fill, "0"]).await.unwrap(), "1");
    }

    /// The volume of a server is lost with its pod.
    async fn lose(&self, pod: &str) {
        let claim = format!("data-{pod}");
        self.kubectl(&["delete", "pvc", &claim, "--wait=false"]).await.unwrap();
        self.kubectl(&["delete", "pod", pod]).await.unwrap();
    }
}

fn conditions(database: &Value) -> impl Iterator<Item = &Value> {
    database["status"]["conditions"].as_array().into_iter().flatten()
}

/// Ready and not Degraded, of the newest generation.
fn calm(database: &Value) -> bool {
    let holds = |type_: &str, status: &str| {
        conditions(database).any(|one| {
            one["type"] == type_
                && one["status"] == status
                && one["observedGeneration"] == database["metadata"]["generation"]
        })
    };
    holds("Ready", "True") && holds("Degraded", "False")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_stay_when_their_form_is_edited_and_when_a_primary_loses_its_volume() {
    let nodes = fixture_on_nodes().await;
    let ns = nodes.fixture.namespace("data").await;
    let (db, pods) = (Db { ns: &ns, name: "v" }, ["v-1-0", "v-1-r-0"]);
    ns.create(&manifest("v")).await;
    db.settled(&pods).await;
    db.fill("v-1-0").await;
    db.have(KEYS, &pods).await;

    // Where data lie, and in which form: converted before the server starts.
    db.edit(&json!({"config": {"appendfilename": "other.aof", "appenddirname": "elsewhere"}})).await;
    db.settled(&pods).await;
    db.have(KEYS, &pods).await;
    db.edit(&json!({"persistence": {"appendOnly": false}, "config": {"dbfilename": "snapshot.rdb"}})).await;
    db.settled(&pods).await;
    db.have(KEYS, &pods).await;
    db.edit(&json!({"server": "redis", "persistence": {"appendOnly": true}, "config": null})).await;
    db.settled(&pods).await;
    db.have(KEYS, &pods).await;

    // What cannot be converted stops at the replica, and is reported; the primary serves on.
    db.edit(&json!({"server": "valkey"})).await;
    db.wait_for_reason("DataNotConverted", "cannot be read by Valkey").await;
    db.have(KEYS, &["v-1-0"]).await;
    db.edit(&json!({"server": "redis"})).await;
    db.settled(&pods).await;
    db.have(KEYS, &pods).await;

    // A primary without data waits until a person decides, and its replica keeps what it has.
    db.lose("v-1-0").await;
    db.wait_for_reason("PrimaryWithoutData", "v-1-r-0 has 500 keys").await;
    db.have(KEYS, &["v-1-r-0"]).await;
    db.kubectl(&["exec", "v-1-0", "--", "sh", SCRIPT, "decide", "CopyFromReplica"]).await.unwrap();
    db.settled(&pods).await;
    db.have(KEYS, &pods).await;
    assert_eq!(db.run("v-1-0", &["set", "new", "1"]).await.unwrap(), "OK");
    db.have(KEYS + 1, &pods).await;
    ns.kubectl(["delete", "database/v"]).await;
}

/// A password in base64, and whether the Database becomes Ready with it.
const PASSWORDS: [(&str, &[u8]); 5] = [
    ("special", b"a$b!\"c'`d $%s #%e\\f"),
    ("dash", b"--port 1"),
    ("bytes", b"\x00\x01\xff\x80 x\r"),
    ("newline", b"pw\n"),
    ("empty", b""),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_of_any_bytes_is_the_one_that_servers_require() {
    let nodes = fixture_on_nodes().await;
    let ns = nodes.fixture.namespace("passwords").await;
    for (name, bytes) in PASSWORDS {
        let class = format!("  password: {{secretName: {name}}}\n  replicas: 1\n");
        let secret =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": {"password": base64(bytes)}});
        ns.create(&format!("{secret}\n---{}", manifest(name).replace("  replicas: 1\n", &class))).await;
    }
    for (name, bytes) in PASSWORDS {
        let db = Db { ns: &ns, name };
        if bytes.is_empty() {
            db.wait_for_reason("EmptyPassword", "key password of Secret empty is empty").await;
            continue;
        }
        let (primary, replica) = (format!("{name}-1-0"), format!("{name}-1-r-0"));
        db.settled(&[&primary, &replica]).await;
        assert_eq!(db.run(&primary, &["set", "k", name]).await.unwrap(), "OK");
        db.have(1, &[&primary, &replica]).await;
        let exactly = format!("echo {} | base64 -d | valkey-cli -x auth; valkey-cli get k", base64(bytes));
        let answer = ns.kubectl(["exec", &primary, "-c", "server", "--", "sh", "-c", &exactly]).await;
        assert!(answer.starts_with("OK") && answer.contains("NOAUTH"), "{name}: {answer}");
    }
    ns.eventually("an Event reports that one ends in a newline", || async {
        let events = ns.get("events").await;
        let is_there = events.iter().any(|event| event["reason"] == "PasswordEndsInNewline");
        Ok(Eventually::when(is_there, || format!("{} events", events.len())))
    })
    .await;
    ns.kubectl(["delete", "databases", "--all"]).await;
}
