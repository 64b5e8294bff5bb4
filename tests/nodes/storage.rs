//! Storage of any kind under everything that happens to it: what every kind must stand is written once, here.
//!
//! A [`Storage`] has the commands by which a kind is written and read over its own protocol; its file has the steps that it
//! takes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use atomix_model::limits::START_GRACE;
use futures::TryStreamExt;
use harness::audit::table;
use harness::controller::USER;
use harness::deployed_controller::DeployedController;
use harness::eventually::{Eventually, eventually};
use harness::fixture::{Fixture, Namespace, NodesFixture};
use harness::images::CLIENT;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};

/// How long storage may take to come up or back on a busy machine: a lost node shows after 8 s, its pods leave after 5 more.
const LIMIT: Duration = Duration::from_secs(360);

/// How a kind of storage is written and read, as commands of the client in the tests' pod.
pub struct Storage {
    /// Name of the example, its class and its Database.
    pub name: &'static str,
    /// Port of its Services.
    pub port: u16,
    /// Command that stores `value` under `key` at `HOST:PORT`.
    pub write: fn(&str, &str, &str) -> Vec<String>,
    /// Command that prints it.
    pub read: fn(&str, &str) -> Vec<String>,
    /// How a value shows in what that command prints.
    pub shown: fn(&str) -> String,
    /// The Secret with the client's certificate, if servers require one.
    pub secret: Option<&'static str>,
}

/// A Database of that kind in a namespace of its own, and a pod with a client beside it.
pub struct Running {
    /// How it is written and read.
    pub storage: Storage,
    /// Its namespace.
    pub ns: Namespace<'static, DeployedController>,
    statuses: Arc<Mutex<Vec<Value>>>,
    listener: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Running {
    /// Creates the example as printed, in a namespace of that name, and returns when it is Ready.
    pub async fn start(on: &NodesFixture, storage: Storage) -> Running {
        let example = std::fs::read_to_string(harness::dist::example(storage.name)).unwrap();
        let namespace = storage.name;
        Running::start_as(on, storage, namespace, &example).await
    }

    /// The same with another manifest, in another namespace.
    pub async fn start_as(on: &NodesFixture, storage: Storage, namespace: &str, manifest: &str) -> Running {
        let ns = on.fixture.namespace(namespace).await;
        let statuses = Arc::new(Mutex::new(Vec::new()));
        let databases = ns.api("cloud.atomix.io", "v1beta3", "Database", "databases");
        let recorded = statuses.clone();
        let listener = tokio::spawn(async move {
            let mut changes =
                std::pin::pin!(watcher(databases, watcher::Config::default()).default_backoff().applied_objects());
            while let Ok(Some(database)) = changes.try_next().await {
                recorded.lock().unwrap().push(database.data["status"].clone());
            }
        });
        ns.create(manifest).await;
        let running = Running { storage, ns, statuses, listener };
        running.start_client(1).await;
        running.ready().await;
        running
    }

    /// The fixture that the namespace belongs to.
    pub fn fixture(&self) -> &Fixture<DeployedController> {
        self.ns.fixture()
    }

    /// Waits until the Database is Ready and not Degraded, of its newest generation.
    pub async fn ready(&self) {
        let done = eventually(LIMIT, "the Database is Ready and not Degraded", || async {
            let text = self.kubectl(&["get", &self.database(), "-o", "json"]).await?;
            let database: Value = serde_json::from_str(&text)?;
            let holds = |kind: &str, status: &str| {
                database["status"]["conditions"].as_array().is_some_and(|all| {
                    all.iter().any(|one| {
                        one["type"] == kind
                            && one["status"] == status
                            && one["observedGeneration"] == database["metadata"]["generation"]
                    })
                })
            };
            Ok(Eventually::when(holds("Ready", "True") && holds("Degraded", "False"), || database["status"].to_string()))
        });
        self.ns.must(done.await).await;
    }

    /// Stores a value in a partition, waiting for it to be taken.
    pub async fn write(&self, partition: usize, key: &str, value: &str) {
        let words = (self.storage.write)(&self.address(partition), key, value);
        let done = eventually(LIMIT, "the write is taken", || async { Ok(Eventually::Now(self.client(&words).await?)) });
        self.ns.must(done.await).await;
    }

    /// Stores a value in a partition, at once.
    pub async fn try_write(&self, partition: usize, key: &str, value: &str) -> anyhow::Result<String> {
        self.client(&(self.storage.write)(&self.address(partition), key, value)).await
    }

    /// Reads a value from a Service, at once.
    pub async fn try_read(&self, at: &str, key: &str) -> anyhow::Result<String> {
        self.client(&(self.storage.read)(&format!("{at}:{}", self.storage.port), key)).await
    }

    /// Reads a value from a partition's Service, or from a member by its name, until it is the one.
    pub async fn reads(&self, at: &str, key: &str, value: &str) {
        let words = (self.storage.read)(&format!("{at}:{}", self.storage.port), key);
        let sentence = format!("{at} holds {key}");
        let done = eventually(LIMIT, &sentence, || async {
            let read = self.client(&words).await?;
            Ok(Eventually::when(read.contains(&(self.storage.shown)(value)), || read))
        });
        self.ns.must(done.await).await;
    }

    /// Reads what was written to each partition.
    pub async fn all_read(&self, partitions: usize) {
        for partition in 1..=partitions {
            self.reads(&self.service(partition), "first", &format!("of partition {partition}")).await;
        }
    }

    /// Writes to each partition what [`Running::all_read`] reads.
    pub async fn all_write(&self, partitions: usize) {
        for partition in 1..=partitions {
            self.write(partition, "first", &format!("of partition {partition}")).await;
        }
    }

    /// A member is killed in its container: the kubelet starts it again.
    pub async fn kill_process(&self, pod: &str) {
        let text = self.ns.kubectl(["get", "pod", pod, "-o", "json"]).await;
        let pod: Value = serde_json::from_str(&text).unwrap();
        self.fixture().plane.kill_container(&pod).unwrap();
        let name = pod["metadata"]["name"].as_str().unwrap();
        self.ns
            .until(&format!("pod/{name}"), "the kubelet has started it again", |found| {
                found.iter().any(|pod| pod["status"]["containerStatuses"][0]["restartCount"].as_u64() >= Some(1))
            })
            .await;
    }

    /// Starts the pod with the client, on this node.
    async fn start_client(&self, node: usize) {
        let mut pod = json!({"spec": {"nodeName": format!("node{node}")}});
        if let Some(secret) = self.storage.secret {
            let mount = json!({"name": "secret", "mountPath": "/run/secrets/client"});
            pod["spec"]["containers"] = json!([{"name": "app", "volumeMounts": [mount]}]);
            pod["spec"]["volumes"] = json!([{"name": "secret", "secret": {"secretName": secret}}]);
        }
        let (image, overrides) = (format!("--image={CLIENT}"), format!("--overrides={pod}"));
        let merged = "--override-type=strategic";
        self.ns.kubectl(["run", "app", "--restart=Never", &image, &overrides, merged, "--", "wait"]).await;
        self.ns.wait("pod/app", "Ready").await;
    }

    async fn node_of(&self, pod: &str) -> usize {
        let node = self.ns.kubectl(["get", "pod", pod, "-o", "jsonpath={.spec.nodeName}"]).await;
        node.trim_start_matches("node").parse().unwrap()
    }

    /// Cuts the power of the node that a pod runs on, having moved the client away from there; returns its number.
    pub async fn cut_node_of(&self, pod: &str) -> usize {
        let number = self.node_of(pod).await;
        if self.node_of("app").await == number {
            self.ns.kubectl(["delete", "pod", "app", "--grace-period=1"]).await;
            self.start_client(number % 3 + 1).await;
        }
        tokio::task::block_in_place(|| self.fixture().plane.cut_node(number)).unwrap();
        number
    }

    /// Switches a node on again.
    pub fn start_node(&self, number: usize) {
        tokio::task::block_in_place(|| self.fixture().plane.start_node(number)).unwrap();
    }

    /// Waits until the Database has been Ready for so long that a missing member counts as a loss, not as one that starts;
    /// then forgets the statuses recorded so far.
    pub async fn listen(&self) {
        let calm = eventually(LIMIT, "the Database has been Ready for a while", || async {
            let query = r#"-o=jsonpath={.status.conditions[?(@.type=="Ready")].lastTransitionTime}"#;
            let since: Timestamp = self.kubectl(&["get", &self.database(), query]).await?.trim().parse()?;
            let for_secs = Timestamp::now().duration_since(since).as_secs();
            Ok(Eventually::when(for_secs > START_GRACE.as_secs() as i64, || format!("for {for_secs} s")))
        });
        self.ns.must(calm.await).await;
        self.statuses.lock().unwrap().clear();
    }

    /// Waits until the Database has reported, since [`Running::listen`], that it is Degraded or not Ready; returns the
    /// reasons.
    pub async fn reported_missing(&self) -> Vec<String> {
        let done = eventually(LIMIT, "the Database reports that something is missing", || async {
            let reasons = self.reasons();
            Ok(if reasons.is_empty() { Eventually::NotYet("it does not".into()) } else { Eventually::Now(reasons) })
        });
        self.ns.must(done.await).await
    }

    fn reasons(&self) -> Vec<String> {
        let statuses = self.statuses.lock().unwrap();
        let conditions = statuses.iter().flat_map(|status| status["conditions"].as_array().cloned().unwrap_or_default());
        let missing = conditions.filter(|one| {
            one["type"] == "Degraded" && one["status"] == "True" || one["type"] == "Ready" && one["status"] == "False"
        });
        let text = |one: &Value, field: &str| one[field].as_str().unwrap_or_default().to_owned();
        let mut reasons: Vec<String> =
            missing.map(|one| format!("{}: {}", text(&one, "reason"), text(&one, "message"))).collect();
        reasons.dedup();
        reasons
    }

    /// Waits until the controller sends no request to the API server during three seconds.
    pub async fn silent(&self) {
        let fixture = self.fixture();
        let done = eventually(Duration::from_secs(180), "the API is silent", || async {
            let mark = fixture.mark().await;
            tokio::time::sleep(Duration::from_secs(3)).await; // nothing announces that nothing comes
            let requests = fixture.requests_since(mark).await;
            let ours = requests.iter().filter(|request| request.user == USER).count();
            Ok(Eventually::when(ours == 0, || table(&requests)))
        });
        self.ns.must(done.await).await;
    }

    /// kubectl in its namespace.
    pub async fn kubectl(&self, args: &[&str]) -> anyhow::Result<String> {
        self.fixture().kubectl().namespace(&self.ns.name).run(args).await
    }

    /// Runs the client in its pod.
    pub async fn client(&self, words: &[String]) -> anyhow::Result<String> {
        let mut args = vec!["exec", "app", "--", "client"];
        args.extend(words.iter().map(String::as_str));
        self.kubectl(&args).await
    }

    /// `database/NAME`
    pub fn database(&self) -> String {
        format!("database/{}", self.storage.name)
    }

    /// Name of a partition's Service.
    pub fn service(&self, partition: usize) -> String {
        format!("{}-{partition}", self.storage.name)
    }

    fn address(&self, partition: usize) -> String {
        format!("{}:{}", self.service(partition), self.storage.port)
    }

    /// Uids of volume claims by name.
    pub async fn claims(&self) -> Vec<(String, String)> {
        let claims = self.ns.get("persistentvolumeclaims").await;
        let text = |claim: &Value, field: &str| claim["metadata"][field].as_str().unwrap_or_default().to_owned();
        claims.iter().map(|claim| (text(claim, "name"), text(claim, "uid"))).collect()
    }
}
