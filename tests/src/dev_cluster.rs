//! The cluster for a person to use: one a checkout, in the background until it is taken down. Knows no demo.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::assets::{self, print_progress};
use crate::controller::{Controller, Options};
use crate::controlplane::{ControlPlane, StartOptions};
use crate::deployed_controller::{self, DeployedController};
use crate::guard::{Guarded, log_tail};
use crate::kubectl::Kubectl;
use crate::signal::{self, Signal};
use crate::{dist, goclient, paths, ports, real_nodes};

/// How long the cluster may take to come up on a busy machine, with everything built; it takes about eight seconds on a quiet one.
const UP_WITHIN: Duration = Duration::from_secs(180);
/// How long it may take to go.
const DOWN_WITHIN: Duration = Duration::from_secs(60);
/// Where the gRPC API answers, by default.
const GRPC_PORT: u16 = 5679;
/// Where metrics and health answer, by default.
const METRICS_PORT: u16 = 8080;

/// The description of the running cluster.
#[derive(Debug, PartialEq, Deserialize, Serialize)]
struct Running {
    pid: i32,
    /// How many real nodes; none: they are played.
    nodes: Option<usize>,
    controller: String,
    grpc_port: u16,
    metrics_port: u16,
}

/// Where its files lie.
#[derive(Clone, Debug)]
pub struct Files {
    dir: PathBuf,
}

impl Files {
    /// Below `target/demo`.
    pub fn new() -> Files {
        Files { dir: paths::state().join("demo") }
    }

    /// Kubeconfig of a person who may do everything.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    /// Folder with kubectl and atomix-controller.
    pub fn bin(&self) -> PathBuf {
        self.dir.join("bin")
    }

    fn log(&self) -> PathBuf {
        self.dir.join("serve.log")
    }

    fn running(&self) -> PathBuf {
        self.dir.join("running.json")
    }

    fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }
}

impl Default for Files {
    fn default() -> Files {
        Files::new()
    }
}

/// Builds what is missing and brings the cluster up, with so many real nodes or with nodes that are played, unless it is up. A
/// controller that was built anew replaces the one that runs.
///
/// `built` is called once the controller and the plugins are built, which may be long before Kubernetes is.
pub fn up(nodes: Option<usize>, built: impl FnOnce()) -> Result<()> {
    let files = Files::new();
    fs::create_dir_all(&files.dir).with_context(|| format!("could not make {}", files.dir.display()))?;
    let before = running(&files)?;
    if before.is_none() {
        free_ports()?; // a chosen port that is taken is an error before anything is built
    }
    if nodes.is_some() {
        real_nodes::require()?;
    }
    dist::build()?;
    built();
    if nodes.is_some() {
        assets::build_for_real_nodes()?;
        deployed_controller::images_of_this_machine()?;
    } else {
        assets::build()?;
    }
    if let Some(running) = before {
        if running.controller == digest(&paths::controller_program()?)? && running.nodes == nodes {
            print_progress("the cluster is up already");
            print_next(&files, &running);
            return Ok(());
        }
        print_progress("the controller was built anew, or other nodes are asked for; the cluster starts again …");
        down()?;
    }
    let (grpc_port, metrics_port) = free_ports()?;
    print_progress("starting Kubernetes and the controller …");
    start(&files, nodes, grpc_port, metrics_port)?;
    let running = running(&files)?.context("the cluster went down as soon as it was up")?;
    print_next(&files, &running);
    Ok(())
}

/// Takes the cluster down, if it is up.
pub fn down() -> Result<()> {
    let files = Files::new();
    let Some(running) = running(&files)? else {
        print_progress("the cluster is not up");
        return Ok(());
    };
    signal::send(running.pid, Signal::Terminate).with_context(|| format!("could not stop process {}", running.pid))?;
    let start = Instant::now();
    while is_locked(&files)? {
        if start.elapsed() > DOWN_WITHIN {
            bail!("process {} did not stop within {} s; see {}", running.pid, DOWN_WITHIN.as_secs(), files.log().display());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    print_progress("the cluster is down");
    Ok(())
}

/// Runs the cluster until a signal stops it: the process in the background. The end of standard input stops it too, unless
/// `stay` was read from it before.
pub fn serve(nodes: Option<usize>, grpc_port: u16, metrics_port: u16) -> Result<()> {
    let files = Files::new();
    let lock = File::create(files.lock()).context("could not make the lock")?;
    lock.try_lock().context("another cluster of this checkout runs")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut stop = std::pin::pin!(stop_requested());
        let cluster = tokio::select! {
            cluster = bring_up(&files, nodes, grpc_port, metrics_port) => cluster?,
            stopped = &mut stop => return stopped,
        };
        tokio::select! {
            stopped = &mut stop => stopped?,
            kept = cluster.keep() => kept?,
        }
        fs::remove_file(files.running()).ok(); // it is not read once the lock is free
        cluster.stop().await
    })
}

/// The controller on the cluster: a process of this machine, or pods on real nodes, to which two ports lead.
enum Up {
    Process(Controller),
    Pods(Arc<ControlPlane>, [Guarded; 2]),
}

impl Up {
    /// Does what a cluster does by itself elsewhere: starts the controller again should it end.
    async fn keep(&self) -> Result<()> {
        match self {
            Up::Process(controller) => loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if controller.ended() {
                    print_progress(&format!(
                        "the controller ended and is started again; last lines of its log:\n{}",
                        controller.log_tail(20)
                    ));
                    controller.start_unready()?;
                }
            },
            Up::Pods(..) => std::future::pending().await,
        }
    }

    async fn stop(self) -> Result<()> {
        match self {
            Up::Process(controller) => controller.stop().await,
            Up::Pods(plane, ports) => {
                drop(ports);
                tokio::task::spawn_blocking(|| drop(plane)).await.context("stopping the cluster")
            }
        }
    }
}

async fn bring_up(files: &Files, nodes: Option<usize>, grpc_port: u16, metrics_port: u16) -> Result<Up> {
    let state = files.dir.join("state");
    let (plane, up) = match nodes {
        None => {
            let plane = Arc::new(ControlPlane::start(StartOptions::new(state)).await?);
            let options = Options { metrics: Some(metrics_port), grpc: Some(grpc_port), ..Options::default() };
            (plane.clone(), Up::Process(Controller::install(plane, options).await?))
        }
        Some(nodes) => {
            let images = tokio::task::spawn_blocking(deployed_controller::images_of_this_machine)
                .await
                .context("making images")??;
            let plane = Arc::new(ControlPlane::start(StartOptions::real(state, nodes, images)).await?);
            let controller = DeployedController::install(plane.clone()).await?;
            let ports = controller.forward([(grpc_port, 5679), (metrics_port, 8080)]).await?;
            (plane.clone(), Up::Pods(plane, ports))
        }
    };
    let person = plane.identity("person", None)?;
    let bind = ["create", "clusterrolebinding", "person", "--clusterrole=cluster-admin", "--user=person"];
    Kubectl::new(&plane).run(bind).await?;
    fs::copy(person, files.kubeconfig()).context("could not write the kubeconfig")?;
    let program = paths::controller_program()?;
    fs::create_dir_all(files.bin()).context("could not make the folder of programs")?;
    link(plane.assets().program("kubectl"), &files.bin().join("kubectl"))?;
    link(&program, &files.bin().join("atomix-controller"))?;
    link(&goclient::grpcurl()?, &files.bin().join("grpcurl"))?;
    let pid = std::process::id() as i32;
    let running = Running { pid, nodes, controller: digest(&program)?, grpc_port, metrics_port };
    crate::pki::write(&files.running(), &serde_json::to_string(&running)?)?;
    Ok(up)
}

async fn stop_requested() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (sender, stay) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut word = String::new();
        let read = std::io::stdin().read_to_string(&mut word);
        sender.send(read.is_ok() && word == "stay")
    });
    let left_alone = async {
        if stay.await == Ok(true) {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        () = left_alone => bail!("the process that started the cluster is gone"),
    }
}

fn start(files: &Files, nodes: Option<usize>, grpc_port: u16, metrics_port: u16) -> Result<()> {
    fs::remove_file(files.running()).ok(); // of a cluster that was killed
    let open = || File::create(files.log()).with_context(|| format!("could not write {}", files.log().display()));
    let mut command = Command::new(paths::cluster_program()?);
    command.args(["serve", "--grpc-port", &grpc_port.to_string(), "--metrics-port", &metrics_port.to_string()]);
    command.args(nodes.map(|count| format!("--nodes={count}")));
    command.env_remove("KUBECONFIG").stdin(Stdio::piped()).stdout(open()?).stderr(open()?).process_group(0);
    let mut child = command.spawn().context("could not start the cluster")?;
    let mut word = child.stdin.take().context("standard input is a pipe")?;
    let start = Instant::now();
    while !files.running().is_file() {
        if let Some(status) = child.try_wait()? {
            bail!("the cluster did not come up ({status}):\n{}", log_tail(&files.log(), 30));
        }
        if start.elapsed() > UP_WITHIN {
            bail!("the cluster did not come up within {} s:\n{}", UP_WITHIN.as_secs(), log_tail(&files.log(), 30));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    word.write_all(b"stay").context("the cluster went down as soon as it was up")
}

/// Where the gRPC API of the running cluster answers.
pub fn grpc_address() -> Result<String> {
    let running = running(&Files::new())?.context("no cluster is up: make up brings one up")?;
    Ok(format!("127.0.0.1:{}", running.grpc_port))
}

fn running(files: &Files) -> Result<Option<Running>> {
    if !is_locked(files)? {
        return Ok(None);
    }
    let text = match fs::read_to_string(files.running()) {
        Ok(text) => text,
        Err(_) => bail!("a cluster is coming up or going down at this moment: try again in a few seconds"),
    };
    serde_json::from_str(&text).map(Some).with_context(|| format!("{} is not understood", files.running().display()))
}

/// Whether a process holds the lock: a process id alone may be another's by now.
fn is_locked(files: &Files) -> Result<bool> {
    match File::open(files.lock()) {
        Ok(lock) => Ok(lock.try_lock_shared().is_err()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("could not read {}", files.lock().display())),
    }
}

/// How many real nodes `NODES` asks for.
pub fn nodes_asked() -> Result<Option<usize>> {
    match std::env::var("NODES") {
        Ok(text) if !text.is_empty() => {
            let count = text.parse().ok().filter(|count| (1..=9).contains(count));
            count
                .map(Some)
                .with_context(|| format!("NODES={text}: 1 to 9 real nodes can be had, none at all when it is not set"))
        }
        _ => Ok(None),
    }
}

/// The ports for the gRPC API and for metrics.
fn free_ports() -> Result<(u16, u16)> {
    let grpc = port("ATOMIX_GRPC_PORT", GRPC_PORT, "the gRPC API")?;
    Ok((grpc, port("ATOMIX_METRICS_PORT", METRICS_PORT, "metrics and health")?))
}

fn port(variable: &str, default: u16, what: &str) -> Result<u16> {
    let port = match std::env::var(variable) {
        Ok(text) if !text.is_empty() => {
            text.parse().with_context(|| format!("{variable}={text} is no port (1 to 65535)"))?
        }
        _ => default,
    };
    if ports::is_free(port) {
        return Ok(port);
    }
    if port != default {
        bail!("port {port} of 127.0.0.1, for {what}, is taken: free it, or choose another with {variable}=PORT");
    }
    let other = ports::free()?; // another checkout's cluster may have it
    print_progress(&format!(
        "port {port} of 127.0.0.1 is taken; {what} will be at {other} (or choose one with {variable}=PORT)"
    ));
    Ok(other)
}

fn print_next(files: &Files, running: &Running) {
    let (bin, kubeconfig) = (files.bin(), files.kubeconfig());
    println!(
        "
Kubernetes runs on this machine, and the Atomix controller on it. To use them, in any shell:

    export PATH={}:$PATH KUBECONFIG={}

then, for a first database:

    kubectl create -f dist/plugins/raft.yaml
    kubectl wait --for=condition=Established crd/raftstorageclasses.storage.cloud.atomix.io
    kubectl create -f dist/examples/raft.yaml
    kubectl get atomix

Metrics and health: http://127.0.0.1:{}/metrics, /healthz, /readyz. The gRPC API: 127.0.0.1:{}.
Logs: {}. To take it all down: make down
",
        bin.display(),
        kubeconfig.display(),
        running.metrics_port,
        running.grpc_port,
        files.dir.join("state/log").display()
    );
}

fn digest(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
    Ok(Sha256::digest(&bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

fn link(program: &Path, at: &Path) -> Result<()> {
    fs::remove_file(at).ok(); // of an earlier cluster
    std::os::unix::fs::symlink(program, at).with_context(|| format!("could not make {}", at.display()))
}
