//! A real Kubernetes control plane on a random port of this machine: with nodes on which pods become Ready without containers, or
//! with real ones, in namespaces of its own. Knows nothing of Atomix.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::task::AbortHandle;

use crate::assets::{self, Assets};
use crate::audit::Audit;
use crate::eventually::{Eventually, eventually};
use crate::guard::{Guarded, Spec, log_tail};
use crate::kubectl::Kubectl;
use crate::linux_namespaces::LinuxNamespaces;
use crate::pki::{self, Authority, Credential};
use crate::real_nodes::{self, Cluster, RealNode};
use crate::{images, kwok_nodes, local_http, paths, ports, volumes};

mod flags;

/// What a control plane with played nodes runs, in the order of starting.
const PROGRAMS: [&str; 5] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok"];
/// How long a control plane may take to answer, on a busy machine; it takes about four seconds on a quiet one.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// How soon a program that has to run on is looked after.
const RESTARTED_WITHIN: Duration = Duration::from_millis(200);
/// The user name of the harness.
pub const ADMIN: &str = "harness";

/// What to start.
#[derive(Clone, Debug)]
pub struct StartOptions {
    /// Folder for all of its state; emptied first.
    pub dir: PathBuf,
    /// Which nodes.
    pub nodes: Nodes,
}

/// Nodes of a cluster.
#[derive(Clone, Debug)]
pub enum Nodes {
    /// So many nodes that kwok plays: anywhere, without root.
    Played(usize),
    /// So many real ones (1 to 9), with these images besides those that every node has: as root on Linux.
    Real(usize, Vec<PathBuf>),
}

impl StartOptions {
    /// Three nodes that are played, state in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> StartOptions {
        StartOptions { dir: dir.into(), nodes: Nodes::Played(3) }
    }

    /// So many real nodes, state in `dir`.
    pub fn real(dir: impl Into<PathBuf>, nodes: usize, images: Vec<PathBuf>) -> StartOptions {
        StartOptions { dir: dir.into(), nodes: Nodes::Real(nodes, images) }
    }
}

/// A running control plane. Dropping it kills all of it; so does the end of this program, however it comes.
#[derive(Debug)]
pub struct ControlPlane {
    dir: PathBuf,
    assets: Assets,
    authority: Authority,
    port: u16,
    etcd: [u16; 2],
    audit: Audit,
    // Held while it runs, so that no other process empties its folder.
    _lock: fs::File,
    // Plays storage, and kubelets where nodes are played.
    player: Mutex<Option<AbortHandle>>,
    // In the order of starting; they are killed backwards.
    processes: Arc<Mutex<Vec<Guarded>>>,
    real: Option<Real>,
}

/// What a control plane with real nodes has besides. Its parts end in this order.
#[derive(Debug)]
struct Real {
    machines: Mutex<Vec<RealNode>>,
    images: Vec<PathBuf>,
    _server: Guarded,
    namespaces: LinuxNamespaces,
}

impl Real {
    fn lay(dir: &Path, assets: &Assets, nodes: usize, images: Vec<PathBuf>, port: u16) -> Result<Real> {
        if !(1..=9).contains(&nodes) {
            bail!("{nodes} real nodes are asked for; 1 to 9 can be had");
        }
        let name = dir.strip_prefix(paths::state()).unwrap_or(dir).display().to_string();
        let cgroup = format!("atomix-{}-{}", paths::sign(), name.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
        let namespaces = LinuxNamespaces::start(&dir.join("ns"), &cgroup)?;
        real_nodes::lay_bridge(&namespaces)?;
        fs::create_dir_all(dir.join("volumes")).context("could not make the folder of volumes")?;
        let cluster = Cluster { dir: dir.to_owned(), assets: assets.clone(), cgroup, nodes };
        let machines = (1..=nodes).map(|number| RealNode::new(cluster.clone(), number)).collect();
        let server = namespaces.forward(port, &format!("127.0.0.1:{port}"), &dir.join("log/forward.log"))?;
        Ok(Real { machines: Mutex::new(machines), images, _server: server, namespaces })
    }

    fn boot(&self) -> Result<()> {
        let mut machines = self.machines();
        std::thread::scope(|scope| {
            let boots: Vec<_> = machines
                .iter_mut()
                .map(|machine| scope.spawn(move || machine.boot(&self.namespaces, &self.images)))
                .collect();
            boots.into_iter().try_for_each(|boot| boot.join().unwrap_or_else(|_| bail!("a node's start panicked")))
        })
    }

    fn machines(&self) -> std::sync::MutexGuard<'_, Vec<RealNode>> {
        self.machines.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl ControlPlane {
    /// Starts one, with programs built before if need be, and returns when its API server answers and its nodes are there. On a
    /// runtime of several threads.
    pub async fn start(options: StartOptions) -> Result<ControlPlane> {
        let (options, plane) = tokio::task::spawn_blocking(|| ControlPlane::lay(options)).await.context("preparing")??;
        plane.start_program("etcd")?;
        plane.start_program("kube-apiserver")?;
        if let Some(real) = &plane.real {
            tokio::task::block_in_place(|| real.boot())?; // while the API server starts
        }
        plane.api_server_ready().await?;
        plane.start_program("kube-controller-manager")?;
        plane.start_program("kube-scheduler")?;
        match &options.nodes {
            Nodes::Played(count) => {
                plane.start_program("kwok")?;
                kwok_nodes::create(&plane, *count).await?;
            }
            Nodes::Real(..) => plane.join_nodes().await?,
        }
        volumes::create_class(plane.client().await?).await?;
        plane.play().await?;
        Ok(plane)
    }

    fn lay(options: StartOptions) -> Result<(StartOptions, ControlPlane)> {
        let assets = match &options.nodes {
            Nodes::Played(_) => assets::build()?,
            Nodes::Real(..) => {
                real_nodes::require()?;
                assets::build_for_real_nodes()?
            }
        };
        let dir = options.dir.clone();
        let lock = empty(&dir)?;
        let (port, etcd, peers) = (ports::free()?, ports::free()?, ports::free()?);
        let authority = Authority::new(&dir.join("pki"))?;
        let audit = Audit::new(dir.join("audit.log"));
        let real = match &options.nodes {
            Nodes::Played(_) => None,
            Nodes::Real(count, images) => {
                Some(Real::lay(&dir, &assets, *count, [images::base(&assets)?, images.clone()].concat(), port)?)
            }
        };
        let processes = Arc::default();
        let (player, etcd) = (Mutex::default(), [etcd, peers]);
        let plane = ControlPlane { real, dir, assets, authority, port, etcd, audit, _lock: lock, player, processes };
        plane.write_identities()?;
        Ok((options, plane))
    }

    async fn join_nodes(&self) -> Result<()> {
        let Some(real) = &self.real else { return Ok(()) };
        let client = self.client().await?;
        real.machines().iter_mut().try_for_each(RealNode::join)?;
        let dns = paths::root().join("tests/kubernetes/nodes/dns.yaml").display().to_string();
        Kubectl::new(self).run(["create", "-f", &dns]).await?;
        let count = real.machines().len();
        kwok_nodes::all_ready(client, count).await
    }

    /// Makes volumes for claims from now on, and ends pods of nodes that are played, in place of what did before.
    async fn play(&self) -> Result<()> {
        let (client, is_played) = (self.client().await?, self.real.is_none());
        let making = volumes::provision(client.clone(), self.dir.join("volumes"));
        let volumes = async move {
            if let Err(error) = making.await {
                eprintln!("no volumes are made any more: {error:#}");
            }
        };
        let pods = async move {
            if is_played {
                kwok_nodes::end_pods(client).await;
            }
        };
        let task = tokio::spawn(async move { tokio::join!(volumes, pods) });
        let before = self.player.lock().unwrap_or_else(PoisonError::into_inner).replace(task.abort_handle());
        before.iter().for_each(AbortHandle::abort);
        Ok(())
    }

    /// Does something with a real node (from 1).
    pub fn with_node<T>(&self, number: usize, action: impl FnOnce(&mut RealNode) -> Result<T>) -> Result<T> {
        let real = self.real.as_ref().context("the nodes of this cluster are played")?;
        let mut machines = real.machines();
        action(machines.get_mut(number.wrapping_sub(1)).with_context(|| format!("there is no node {number}"))?)
    }

    /// Kills etcd or the API server, starts it again with what it had, and returns when the API server answers.
    pub async fn restart(&self, program: &str) -> Result<()> {
        self.kill(program).await?;
        self.start_program(program)?;
        self.api_server_ready().await
    }

    /// Saves what etcd holds, to go back to by [`ControlPlane::restore`]. Nodes must be played.
    pub async fn save(&self) -> Result<()> {
        self.kill("etcd").await?;
        copy_folder(&self.dir.join("etcd"), &self.dir.join("saved"))?;
        self.start_program("etcd")?;
        self.api_server_ready().await
    }

    /// Brings what etcd held when it was saved back, under revisions of then, as an operator does: nothing runs meanwhile. Returns when
    /// the API server answers.
    pub async fn restore(&self) -> Result<()> {
        for program in PROGRAMS.iter().rev() {
            self.kill(program).await?;
        }
        fs::remove_dir_all(self.dir.join("etcd")).context("could not remove what etcd holds")?;
        copy_folder(&self.dir.join("saved"), &self.dir.join("etcd"))?;
        let (first, others) = PROGRAMS.split_at(2);
        first.iter().try_for_each(|program| self.start_program(program))?;
        self.api_server_ready().await?;
        others.iter().try_for_each(|program| self.start_program(program))?;
        self.play().await // what was watched is of another past
    }

    /// Kills one of its programs, e.g. kube-controller-manager.
    pub async fn kill(&self, program: &str) -> Result<()> {
        let killed = {
            let mut processes = self.processes();
            let at = processes.iter().position(|process| process.name() == program);
            processes.remove(at.with_context(|| format!("{program} does not run"))?)
        };
        tokio::task::spawn_blocking(move || drop(killed)).await.context("killing it")
    }

    /// Cuts the power of a real node (from 1).
    pub fn cut_node(&self, number: usize) -> Result<()> {
        self.with_node(number, RealNode::cut)
    }

    /// Switches a real node (from 1) on again.
    pub fn start_node(&self, number: usize) -> Result<()> {
        let real = self.real.as_ref().context("the nodes of this cluster are played")?;
        self.with_node(number, |machine| {
            machine.boot(&real.namespaces, &[])?; // its images are still there
            machine.join()
        })
    }

    /// Kills (SIGKILL) what runs in the first container of a pod on a real node.
    pub fn kill_container(&self, pod: &serde_json::Value) -> Result<()> {
        let text = |pointer: &str| pod.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or_default();
        let node = text("/spec/nodeName").trim_start_matches("node").parse().context("the pod is on no real node")?;
        let id = text("/status/containerStatuses/0/containerID").rsplit('/').next().unwrap_or_default();
        let kill =
            ["ctr", "--address", "/run/containerd.sock", "--namespace", "k8s.io", "task", "kill", "--signal", "SIGKILL", id];
        self.with_node(node, |machine| machine.run(&kill)).map(drop)
    }

    /// Lets connections to 127.0.0.1:`port` of this machine go to an address that real nodes reach, e.g. that of a pod or Service.
    pub fn forward(&self, port: u16, to: &str) -> Result<Guarded> {
        self.with_node(1, |machine| machine.namespaces()?.forward(port, to, &self.log("forward")))
    }

    /// Folder of its state.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its programs.
    pub fn assets(&self) -> &Assets {
        &self.assets
    }

    /// Address of the API server.
    pub fn server(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Its certificate authority: clients with a certificate of it are admitted.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Which requests the API server answered.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Kubeconfig of an identity that was written: `harness` (may do everything), or what [`ControlPlane::identity`] made.
    pub fn kubeconfig(&self, identity: &str) -> PathBuf {
        self.dir.join(format!("{identity}.kubeconfig"))
    }

    /// Makes a user, in a group if one is given, writes its kubeconfig and returns the path. What it may do is set by RBAC.
    pub fn identity(&self, user: &str, group: Option<&str>) -> Result<PathBuf> {
        let path = self.kubeconfig(user.rsplit(':').next().unwrap_or(user));
        let credential = self.authority.client(user, group)?;
        pki::write(&path, &pki::kubeconfig(&self.server(), self.authority.pem(), &credential))?;
        Ok(path)
    }

    /// A client that may do everything. Each call makes one, for the runtime that calls: a test's own ends with the test.
    pub async fn client(&self) -> Result<kube::Client> {
        self.client_as(ADMIN).await
    }

    /// A client of an identity that was written.
    pub async fn client_as(&self, identity: &str) -> Result<kube::Client> {
        let config = Kubeconfig::read_from(self.kubeconfig(identity)).context("could not read the kubeconfig")?;
        let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await;
        let mut config = config.context("could not use the kubeconfig")?;
        config.headers.push((http::header::USER_AGENT, http::HeaderValue::from_static("atomix-tests")));
        kube::Client::try_from(config).context("could not make a client")
    }

    /// The bytes that etcd holds under a key, e.g. `/registry/cloud.atomix.io/databases/default/raft`.
    pub async fn stored(&self, key: &str) -> Result<Option<Vec<u8>>> {
        if self.real.is_some() {
            bail!("the store of a cluster with real nodes cannot be read from outside");
        }
        let request = serde_json::json!({"key": pki::base64(key.as_bytes())}).to_string();
        let answer = local_http::post(self.etcd[0], "/v3/kv/range", &request).await?;
        let answer: serde_json::Value = serde_json::from_str(&answer.body).context("etcd does not answer JSON")?;
        let value = answer.pointer("/kvs/0/value").and_then(|value| value.as_str());
        value.map(pki::from_base64).transpose()
    }

    /// The last lines of the log of etcd, kube-apiserver, kube-controller-manager, kube-scheduler or kwok.
    pub fn log_tail(&self, program: &str, lines: usize) -> String {
        log_tail(&self.log(program), lines)
    }

    /// Process ids of what runs.
    pub fn pids(&self) -> Vec<i32> {
        self.processes().iter().map(Guarded::pid).collect()
    }

    /// Path of a log in this control plane's folder.
    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.join("log").join(format!("{name}.log"))
    }

    fn processes(&self) -> std::sync::MutexGuard<'_, Vec<Guarded>> {
        self.processes.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn start_program(&self, name: &str) -> Result<()> {
        let args = match name {
            "etcd" => flags::etcd(self),
            "kube-apiserver" => flags::api_server(self)?,
            "kube-controller-manager" => flags::controller_manager(self)?,
            "kwok" => flags::kwok(&self.dir, &self.assets.stages)?,
            other => flags::component(self, other)?,
        };
        let program = self.assets.program(name).to_owned();
        let (program, args) = match &self.real {
            Some(real) => real.namespaces.enter_network(&[vec![program.display().to_string()], args].concat()),
            None => (program, args),
        };
        let spec = Spec {
            name: name.to_owned(),
            program,
            args,
            // A quarter of what the API server computes is the collection of garbage; these processes do not live long.
            env: vec![("HOME".into(), self.dir.display().to_string()), ("GOGC".into(), "300".into())],
            log: self.log(name),
            grace: Duration::ZERO, // nothing of its state is kept
        };
        self.processes().push(Guarded::spawn(&spec)?);
        if name == "kwok" {
            self.keep_running(spec);
        }
        Ok(())
    }

    /// Starts a program again whenever it ends by itself, until it is killed here: kwok 0.8 may end with `concurrent map writes` when there
    /// are pods as it starts.
    fn keep_running(&self, spec: Spec) {
        let processes = Arc::downgrade(&self.processes);
        std::thread::spawn(move || {
            while let Some(processes) = processes.upgrade() {
                {
                    let mut processes = processes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    let Some(process) = processes.iter_mut().find(|it| it.name() == spec.name) else { return };
                    if process.ended().is_some() {
                        match Guarded::spawn(&spec) {
                            Ok(again) => *process = again,
                            Err(_) => return, // its log says why
                        }
                    }
                }
                drop(processes);
                std::thread::sleep(RESTARTED_WITHIN);
            }
        });
    }

    fn write_identities(&self) -> Result<()> {
        let names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
        let names = names.into_iter().chain(["kubernetes.default.svc.cluster.local", "127.0.0.1", "10.96.0.1"]);
        self.authority.server("apiserver", &names.chain([real_nodes::CONTROL_PLANE]).collect::<Vec<_>>())?;
        self.authority.signing_key("service-accounts")?;
        self.identity(ADMIN, Some("system:masters"))?;
        self.identity("system:kube-controller-manager", None)?;
        self.identity("system:kube-scheduler", None)?;
        let Some(real) = &self.real else {
            return self.identity("kwok", Some("system:masters")).map(drop);
        };
        let server = format!("https://{}:{}", real_nodes::CONTROL_PLANE, self.port);
        let on_nodes = |name: &str, user: &str, group: Option<&str>| {
            let credential = self.authority.client(user, group)?;
            pki::write(&self.kubeconfig(name), &pki::kubeconfig(&server, self.authority.pem(), &credential))
        };
        on_nodes("kube-proxy", "system:kube-proxy", None)?;
        for name in real.machines().iter().map(RealNode::name) {
            on_nodes(&name, &format!("system:node:{name}"), Some("system:nodes"))?;
        }
        // For logs and exec the API server calls the kubelets.
        if let Credential::Certificate { certificate, key, .. } =
            self.authority.client("kube-apiserver", Some("system:masters"))?
        {
            pki::write(&self.dir.join("pki/kubelet-client.crt"), &certificate)?;
            pki::write(&self.dir.join("pki/kubelet-client.key"), &key)?;
        }
        Ok(())
    }

    async fn api_server_ready(&self) -> Result<()> {
        let client = self.client().await?;
        let ready = eventually(READY_WITHIN, "the API server is ready", || async {
            if let Some(name) = self.dead() {
                return Ok(Eventually::Never(format!("{name} ended:\n{}", self.log_tail(&name, 40))));
            }
            let request = get("/readyz")?;
            Ok(match client.request_text(request).await {
                Ok(text) if text == "ok" => Eventually::Now(()),
                Ok(text) => Eventually::NotYet(text),
                Err(error) => Eventually::NotYet(format!("{error:#}")),
            })
        });
        ready.await.with_context(|| format!("last lines of its log:\n{}", self.log_tail("kube-apiserver", 10)))
    }

    fn dead(&self) -> Option<String> {
        self.processes().iter_mut().find_map(|process| process.ended().map(|_| process.name().to_owned()))
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.player.get_mut().unwrap_or_else(PoisonError::into_inner).iter().for_each(AbortHandle::abort);
        let mut processes = std::mem::take(&mut *self.processes());
        while let Some(process) = processes.pop() {
            drop(process);
        }
        if let Some(real) = self.real.take() {
            drop(real);
        }
        // Only logs and the audit log are of use afterwards; the rest is 130 MB for each, and gigabytes with real nodes.
        let nodes = (1..=9).map(|number| format!("node{number}"));
        for data in nodes.chain(["etcd", "saved", "volumes"].map(str::to_owned)) {
            fs::remove_dir_all(self.dir.join(data)).ok(); // emptied by the next start all the same
        }
    }
}

/// Makes the folder, or empties it, and locks it with a file beside it.
fn empty(dir: &Path) -> Result<fs::File> {
    let parent = dir.parent().context("a control plane needs a folder")?;
    fs::create_dir_all(parent).with_context(|| format!("could not make {}", parent.display()))?;
    let lock = dir.with_extension("lock");
    let lock = fs::File::create(&lock).with_context(|| format!("could not write {}", lock.display()))?;
    lock.try_lock().with_context(|| format!("another control plane runs in {}", dir.display()))?;
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("could not empty {}", dir.display()))?;
    }
    fs::create_dir_all(dir.join("log")).with_context(|| format!("could not make {}", dir.display()))?;
    Ok(lock)
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("could not make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("could not read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).with_context(|| format!("could not copy {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// A GET request for [`kube::Client::request_text`].
pub fn get(path: &str) -> Result<http::Request<Vec<u8>>> {
    http::Request::get(path).body(Vec::new()).with_context(|| format!("{path} is no path"))
}
