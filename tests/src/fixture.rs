//! What a test starts from: a control plane with the controller on it, and a namespace of the test's own.
//!
//! ```no_run
//! # async fn test() {
//! let ns = harness::fixture::shared_fixture().await.namespace("example").await;
//! ns.create_file("dist/examples/raft.yaml").await;
//! ns.wait("database/raft", "Ready").await;
//! assert_eq!(ns.get("partitions").await.len(), 3);
//! # }
//! ```
//!
//! Everything here panics with the state of the cluster: it is for tests.

use std::fmt::Display;
use std::future::Future;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use kube::core::{DynamicObject, GroupVersionKind};
use kube::discovery::ApiResource;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

use crate::audit::{Mark, Request};
use crate::controller::{Controller, Options, USER};
use crate::controlplane::{ControlPlane, StartOptions};
use crate::deployed_controller::{self, DeployedController};
use crate::eventually::{Eventually, eventually, patient};
use crate::kubectl::Kubectl;
use crate::manifests::Manifests;
use crate::{dist, kwok_nodes, paths, reads};

/// How long a test waits for something that should come at once, on a slow machine that is busy with other work.
pub const SOON: Duration = Duration::from_secs(180);

/// A control plane with the controller on it: a process of this machine, or pods on real nodes ([`DeployedController`]).
#[derive(Debug)]
#[allow(missing_docs)] // its fields explain themselves
pub struct Fixture<C = Controller> {
    pub plane: Arc<ControlPlane>,
    pub controller: C,
}

/// A controller whose log can be read.
pub trait ControllerLog {
    /// The last lines of its log, of each replica.
    fn log_of_each_replica(&self, lines: usize) -> impl Future<Output = String>;
}

impl ControllerLog for Controller {
    async fn log_of_each_replica(&self, lines: usize) -> String {
        self.log_tail(lines)
    }
}

// What lives as long as the test program runs here: the runtime of a test ends with the test.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    built.expect("a runtime needs no more than two threads")
});

/// The fixture that tests share, with the plugins raft and cache installed: started once, by the first test that needs it.
/// For tests that look at their own namespace only.
pub async fn shared_fixture() -> &'static Fixture {
    static SHARED: OnceCell<Result<Fixture, String>> = OnceCell::const_new();
    let start = || async {
        let started = RUNTIME.spawn(async {
            let fixture = start("shared", Options::default()).await?;
            for plugin in ["raft", "cache"] {
                fixture.install(plugin).await?;
            }
            for plugin in ["raft", "cache"] {
                fixture.serves(plugin).await?;
            }
            anyhow::Ok(fixture)
        });
        started.await.map_err(|error| error.to_string())?.map_err(|error| format!("{error:#}"))
    };
    match SHARED.get_or_init(start).await {
        Ok(fixture) => fixture,
        Err(error) => panic!("the shared fixture did not start: {error}"),
    }
}

/// A fixture of a test's own, without plugins: for tests that assert on the whole cluster or stop the controller.
pub async fn private_fixture(name: &str) -> Fixture {
    private_fixture_with(name, Options::default()).await
}

/// The same, with options of the controller.
pub async fn private_fixture_with(name: &str, options: Options) -> Fixture {
    let name = name.to_owned();
    let started = RUNTIME.spawn(async move { start(&name, options).await });
    match started.await {
        Ok(Ok(fixture)) => fixture,
        Ok(Err(error)) => panic!("the fixture did not start: {error:#}"),
        Err(error) => panic!("the fixture did not start: {error}"),
    }
}

/// A control plane of a test's own, without the controller.
pub async fn private_plane(name: &str) -> Arc<ControlPlane> {
    let name = name.to_owned();
    let started = RUNTIME.spawn(async move { ControlPlane::start(StartOptions::new(dir(&name))).await });
    match started.await {
        Ok(Ok(plane)) => Arc::new(plane),
        Ok(Err(error)) => panic!("the control plane did not start: {error:#}"),
        Err(error) => panic!("the control plane did not start: {error}"),
    }
}

/// A fixture on real nodes, for one test at a time: three nodes, the controller as its Deployment, the plugins of real storage. Goes
/// back when it is dropped.
#[derive(Debug)]
pub struct NodesFixture {
    /// The fixture itself, which outlives the test.
    pub fixture: &'static Fixture<DeployedController>,
}

// Those that no test has now, and how many there are in all.
static NODES_FIXTURES: Mutex<(Vec<&Fixture<DeployedController>>, usize)> = Mutex::new((Vec::new(), 0));

/// A fixture that no other test has, started if there is none: there are as many as tests run at once.
pub async fn fixture_on_nodes() -> NodesFixture {
    let (idle, number) = {
        let mut fixtures = NODES_FIXTURES.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = fixtures.0.pop();
        fixtures.1 += usize::from(idle.is_none());
        (idle, fixtures.1)
    };
    if let Some(fixture) = idle {
        return NodesFixture { fixture };
    }
    match RUNTIME.spawn(start_on_nodes(number)).await {
        Ok(Ok(fixture)) => NodesFixture { fixture: Box::leak(Box::new(fixture)) },
        Ok(Err(error)) => panic!("the fixture on real nodes did not start: {error:#}"),
        Err(error) => panic!("the fixture on real nodes did not start: {error}"),
    }
}

impl Drop for NodesFixture {
    fn drop(&mut self) {
        NODES_FIXTURES.lock().unwrap_or_else(PoisonError::into_inner).0.push(self.fixture);
    }
}

impl Deref for NodesFixture {
    type Target = Fixture<DeployedController>;

    fn deref(&self) -> &Fixture<DeployedController> {
        self.fixture
    }
}

async fn start_on_nodes(number: usize) -> Result<Fixture<DeployedController>> {
    static IMAGES: OnceCell<Vec<PathBuf>> = OnceCell::const_new(); // a fixture reads them while the next one starts
    let make = || {
        dist::build_unless_prebuilt()?;
        deployed_controller::images()
    };
    let made = || async { tokio::task::spawn_blocking(make).await.context("making images")? };
    let images = IMAGES.get_or_try_init(made).await?.clone();
    let plane = Arc::new(ControlPlane::start(StartOptions::real(dir(&format!("nodes-{number}")), 3, images)).await?);
    let controller = DeployedController::install(plane.clone()).await?;
    let fixture = Fixture { plane, controller };
    for plugin in deployed_controller::PLUGINS {
        fixture.install(plugin).await?;
    }
    Ok(fixture)
}

fn dir(name: &str) -> std::path::PathBuf {
    paths::tests().join(name)
}

async fn start(name: &str, options: Options) -> Result<Fixture> {
    static BUILT: OnceCell<()> = OnceCell::const_new();
    let build = || async { tokio::task::spawn_blocking(dist::build_unless_prebuilt).await.context("building")? };
    BUILT.get_or_try_init(build).await?;
    let plane = Arc::new(ControlPlane::start(StartOptions::new(dir(name))).await?);
    let controller = Controller::install(plane.clone(), options).await?;
    Ok(Fixture { plane, controller })
}

impl<C: ControllerLog> Fixture<C> {
    /// Makes a namespace of its own for a test.
    pub async fn namespace(&self, name: &str) -> Namespace<'_, C> {
        must(self.kubectl().run(["create", "namespace", name]).await);
        self.existing(name).await
    }

    /// A namespace that is there.
    pub async fn existing(&self, name: &str) -> Namespace<'_, C> {
        let client = must(self.plane.client().await);
        Namespace { fixture: self, name: name.to_owned(), kubectl: self.kubectl().namespace(name), client }
    }

    /// Applies a packed plugin of `dist/plugins` and waits until the definitions that it brings are served.
    pub async fn install(&self, plugin: &str) -> Result<()> {
        let kubectl = Kubectl::new(&self.plane);
        let file = dist::plugin(plugin).display().to_string();
        kubectl.run(["apply", "--server-side", "--force-conflicts", "-f", &file]).await?;
        let printed = kubectl.run(["get", "-f", &file, "-o", "name"]).await?;
        let definitions: Vec<&str> = printed.lines().filter(|line| line.starts_with("customresourcedefinition")).collect();
        if !definitions.is_empty() {
            let wait = ["wait", "--for=condition=Established", "--timeout=30s"];
            kubectl.run(wait.into_iter().chain(definitions)).await?;
        }
        Ok(())
    }

    /// Waits until a plugin serves.
    pub async fn serves(&self, plugin: &str) -> Result<()> {
        let kubectl = Kubectl::new(&self.plane).namespace("kube-system");
        eventually(SOON, &format!("plugin {plugin} serves"), || async {
            let phase = kubectl.run(["get", &format!("storageplugin/{plugin}"), "-o", "jsonpath={.status.phase}"]).await?;
            Ok(Eventually::when(phase == "Serving", || phase))
        })
        .await
    }

    /// kubectl in namespace `default`, as a user who may do everything.
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(&self.plane)
    }

    /// This moment in the audit log.
    pub async fn mark(&self) -> Mark {
        must(self.plane.audit().mark(&self.plane).await)
    }

    /// The requests since a mark.
    pub async fn requests_since(&self, mark: Mark) -> Vec<Request> {
        must(self.plane.audit().since(&self.plane, mark).await)
    }

    /// What stands in the cluster, and the last lines of the controller's log: for when something did not come.
    pub async fn describe(&self, namespace: Option<&str>) -> String {
        let scope = namespace.map_or("--all-namespaces".to_owned(), |name| format!("--namespace={name}"));
        let mut text = String::new();
        let wide = ["-o", "wide"];
        for (kinds, options) in [
            ("databases,partitions", &wide[..]),
            ("statefulsets,deployments,pods,services,configmaps,persistentvolumeclaims", &wide[..]),
            ("databases", &["-o", "jsonpath={range .items[*]}{.metadata.name}: {.status}{\"\\n\"}{end}"][..]),
            ("events", &["--sort-by=.lastTimestamp"][..]),
        ] {
            let args = ["get", kinds, &scope].into_iter().chain(options.iter().copied());
            let shown = self.kubectl().run(args).await.unwrap_or_else(|error| format!("{error:#}"));
            text.push_str(&format!("--- {kinds}\n{}\n", shown.trim_end()));
        }
        let plugins = self.kubectl().run(["get", "storageplugins", "--all-namespaces", "-o", "wide"]).await;
        text.push_str(&format!("--- storageplugins\n{}", plugins.unwrap_or_else(|error| format!("{error:#}"))));
        text.push_str(&format!("--- log of the controller\n{}\n", self.controller.log_of_each_replica(60).await));
        text
    }
}

/// A namespace of one test.
#[allow(missing_docs)] // its fields explain themselves
pub struct Namespace<'w, C = Controller> {
    fixture: &'w Fixture<C>,
    pub name: String,
    kubectl: Kubectl,
    /// A client that may do everything.
    pub client: kube::Client,
}

impl<C: ControllerLog> Namespace<'_, C> {
    /// `kubectl create -f -`.
    pub async fn create(&self, yaml: impl Display) {
        let done = self.kubectl.run_with(["create", "-f", "-"], &yaml.to_string()).await;
        self.must(done).await;
    }

    /// Creates manifests and waits until their databases are Ready.
    pub async fn create_ready(&self, manifests: &Manifests) {
        self.create(manifests).await;
        for name in manifests.databases() {
            self.wait(&format!("database/{name}"), "Ready").await;
        }
    }

    /// `kubectl create -f FILE`, the path being that in the checkout.
    pub async fn create_file(&self, file: impl AsRef<Path>) {
        let path = paths::root().join(file).display().to_string();
        self.kubectl(["create", "-f", &path]).await;
    }

    /// `kubectl apply -f -`.
    pub async fn apply(&self, yaml: &str) {
        let done = self.kubectl.run_with(["apply", "-f", "-"], yaml).await;
        self.must(done).await;
    }

    /// Runs kubectl in this namespace and returns its standard output.
    pub async fn kubectl<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> String {
        let printed = self.kubectl.run(args).await;
        self.must(printed).await
    }

    /// Runs kubectl in this namespace for a failure, and returns its output.
    pub async fn kubectl_fails<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> String {
        match self.kubectl.run(args).await {
            Ok(printed) => panic!("kubectl was expected to fail and printed: {printed}"),
            Err(error) => format!("{error:#}"),
        }
    }

    /// Runs kubectl in this namespace, with `input` on standard input, and returns all its output, warnings and errors too.
    pub async fn kubectl_output(&self, args: &[&str], input: Option<&str>) -> String {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let printed = self.must(self.kubectl.try_run(&args, input).await).await;
        printed.stdout + &printed.stderr
    }

    /// Tries to create an object and returns why the API server refused it.
    pub async fn refused(&self, yaml: &str) -> String {
        match self.kubectl.run_with(["create", "-f", "-"], yaml).await {
            Ok(printed) => panic!("the API server was expected to refuse this and did not: {printed}"),
            Err(error) => format!("{error:#}"),
        }
    }

    /// Waits until an object, e.g. `database/raft`, is there and has this condition, e.g. `Ready` or `Ready=False`.
    pub async fn wait(&self, object: &str, condition: &str) {
        let limit = format!("--timeout={}s", patient(SOON).as_secs());
        let there = self.kubectl.run(["wait", "--for=create", object, &limit]).await;
        self.must(there).await;
        let holds = self.kubectl.run(["wait", &format!("--for=condition={condition}"), object, &limit]).await;
        self.must(holds).await;
    }

    /// Waits until the controller has written nothing here for two seconds: the last status and its Event may follow a moment
    /// after a condition, and a test that counts writes counts from then on.
    pub async fn settled(&self) {
        self.eventually("the controller writes nothing more", || async {
            let mark = self.fixture.mark().await;
            tokio::time::sleep(Duration::from_secs(2)).await; // nothing announces that nothing comes
            let requests = self.fixture.requests_since(mark).await;
            let busy = requests.iter().filter(|r| r.user == USER && r.namespace == self.name && r.writes()).count();
            Ok(Eventually::when(busy == 0, || format!("{busy} writes")))
        })
        .await;
    }

    /// Waits until an object, e.g. `service/raft-1`, is there.
    pub async fn wait_created(&self, object: &str) {
        let done =
            self.kubectl.run(["wait", "--for=create", object, &format!("--timeout={}s", patient(SOON).as_secs())]).await;
        self.must(done).await;
    }

    /// Waits until an object is gone.
    pub async fn wait_gone(&self, object: &str) {
        let done =
            self.kubectl.run(["wait", "--for=delete", object, &format!("--timeout={}s", patient(SOON).as_secs())]).await;
        self.must(done).await;
    }

    /// Looks at objects (what `kubectl get WHAT -o json` names, e.g. `database/raft` or `pods`) until `holds` is true of
    /// them; returns them. An object that is not there is no object.
    pub async fn until(&self, what: &str, sentence: &str, holds: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        self.eventually(sentence, || async {
            let found = self.list(what).await?;
            if holds(&found) { Ok(Eventually::Now(found)) } else { Ok(Eventually::NotYet(brief(&found))) }
        })
        .await
    }

    /// Waits for anything at most [`SOON`]; prints the state of the cluster when it does not come.
    pub async fn eventually<T, L, F>(&self, sentence: &str, look: L) -> T
    where
        L: FnMut() -> F,
        F: Future<Output = Result<Eventually<T>>>,
    {
        let came = eventually(SOON, sentence, look).await;
        self.must(came).await
    }

    /// The objects that `kubectl get WHAT -o json` finds: none, one or many.
    pub async fn get(&self, what: &str) -> Vec<Value> {
        let found = self.list(what).await;
        self.must(found).await
    }

    /// The one object, e.g. `database/raft`.
    pub async fn one(&self, what: &str) -> Value {
        let mut found = self.get(what).await;
        let one = if found.len() == 1 { found.pop() } else { None };
        self.must(one.with_context(|| format!("{} objects are {what}", found.len()))).await
    }

    /// Makes a running pod ready or not, as its probe would.
    pub async fn set_pod_ready(&self, pod: &str, ready: bool) {
        let done = kwok_nodes::set_pod_ready(&self.client, &self.name, pod, ready).await;
        self.must(done).await;
    }

    /// An interface to any kind, for what kubectl is too slow or too coarse for.
    pub fn api(&self, group: &str, version: &str, kind: &str, plural: &str) -> kube::Api<DynamicObject> {
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        kube::Api::namespaced_with(self.client.clone(), &self.name, &resource)
    }

    /// The fixture that the namespace belongs to.
    pub fn fixture(&self) -> &Fixture<C> {
        self.fixture
    }

    /// Takes the value, or panics with the error and with what stands in this namespace.
    pub async fn must<T, E: Into<anyhow::Error>>(&self, result: Result<T, E>) -> T {
        match result {
            Ok(value) => value,
            Err(error) => panic!("{:#}\n{}", error.into(), self.fixture.describe(Some(&self.name)).await),
        }
    }

    async fn list(&self, what: &str) -> Result<Vec<Value>> {
        if let Some(found) = reads::find(&self.client, &self.name, what).await {
            return found;
        }
        let printed = self.kubectl.run(["get", what, "--ignore-not-found", "-o", "json"]).await?;
        if printed.trim().is_empty() {
            return Ok(Vec::new());
        }
        let mut found: Value = serde_json::from_str(&printed).context("kubectl does not print JSON")?;
        match found.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => Ok(items),
            _ => Ok(vec![found]),
        }
    }
}

fn brief(objects: &[Value]) -> String {
    let line = |object: &Value| {
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        format!("{name}: {}", object.get("status").unwrap_or(&Value::Null))
    };
    let lines: Vec<String> = objects.iter().map(line).collect();
    format!("{} found: {}", objects.len(), lines.join("; "))
}

fn must<T, E: Display + std::fmt::Debug>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error:?}"),
    }
}
