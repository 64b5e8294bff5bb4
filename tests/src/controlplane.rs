//! A real Kubernetes control plane on random ports of this machine, with nodes on which pods become Ready without containers.
//! Knows nothing of Atomix.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::assets::{self, Assets};
use crate::audit::{self, Audit};
use crate::eventually::{Eventually, eventually};
use crate::guard::{Guarded, Spec, log_tail};
use crate::pki::{self, Authority};
use crate::{loopback, nodes, ports};

/// How long a control plane may take to answer, on a busy machine; it takes about four seconds on a quiet one.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// Who the harness is to the API server.
pub const ADMIN: &str = "harness";

/// What to start.
#[derive(Clone, Debug)]
pub struct StartOptions {
    /// Folder for all of its state; emptied first.
    pub dir: PathBuf,
    /// How many nodes.
    pub nodes: usize,
}

impl StartOptions {
    /// Three nodes, state in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> StartOptions {
        StartOptions { dir: dir.into(), nodes: 3 }
    }
}

/// A running control plane. Dropping it kills all of it; so does the end of this program, however it comes.
#[derive(Debug)]
pub struct ControlPlane {
    dir: PathBuf,
    assets: Assets,
    authority: Authority,
    server: String,
    etcd: Option<u16>,
    audit: Audit,
    // Held while it runs, so that nobody else empties its folder.
    _lock: fs::File,
    // In the order of starting; they are killed backwards.
    processes: Mutex<Vec<Guarded>>,
}

impl ControlPlane {
    /// Starts one, with programs built before if need be, and returns when its API server answers and its nodes are there.
    pub async fn start(options: StartOptions) -> Result<ControlPlane> {
        let assets = tokio::task::spawn_blocking(assets::build).await.context("building the control plane")??;
        let dir = options.dir;
        let lock = empty(&dir)?;
        let (etcd, peers, secure) = (ports::free()?, ports::free()?, ports::free()?);
        let server = format!("https://127.0.0.1:{secure}");
        let authority = Authority::new(&dir.join("pki"))?;
        let audit = Audit::new(dir.join("audit.log"));
        let plane = ControlPlane {
            dir,
            assets,
            authority,
            server,
            etcd: Some(etcd),
            audit,
            _lock: lock,
            processes: Mutex::default(),
        };
        plane.write_identities()?;
        plane.run("etcd", etcd_flags(&plane.dir, etcd, peers))?;
        plane.run("kube-apiserver", apiserver_flags(&plane.dir, etcd, secure)?)?;
        plane.api_server_ready().await?;
        plane.run("kube-controller-manager", controller_manager_flags(&plane.dir)?)?;
        plane.run("kube-scheduler", scheduler_flags(&plane.dir)?)?;
        plane.run("kwok", kwok_flags(&plane.dir, &plane.assets.stages)?)?;
        nodes::create(&plane, options.nodes).await?;
        Ok(plane)
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
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Its certificate authority: who has a certificate of it is let in.
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

    /// Makes a user, in a group if one is given, writes its kubeconfig and returns the path. What it may do is for RBAC to say.
    pub fn identity(&self, user: &str, group: Option<&str>) -> Result<PathBuf> {
        let path = self.kubeconfig(user.rsplit(':').next().unwrap_or(user));
        let credential = self.authority.client(user, group)?;
        pki::write(&path, &pki::kubeconfig(&self.server, self.authority.pem(), &credential))?;
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
        let port = self.etcd.context("the store of this control plane cannot be asked")?;
        let request = serde_json::json!({"key": pki::base64(key.as_bytes())}).to_string();
        let answer = loopback::post(port, "/v3/kv/range", &request).await?;
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

    fn run(&self, name: &str, args: Vec<String>) -> Result<()> {
        let process = Guarded::spawn(&Spec {
            name: name.to_owned(),
            program: self.assets.program(name).to_owned(),
            args,
            env: vec![("HOME".into(), self.dir.display().to_string())],
            log: self.log(name),
            grace: Duration::ZERO, // nothing of its state is kept
        })?;
        self.processes().push(process);
        Ok(())
    }

    fn write_identities(&self) -> Result<()> {
        let alt_names =
            ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "127.0.0.1", "10.96.0.1"];
        self.authority.server("apiserver", &alt_names)?;
        self.authority.signing_key("service-accounts")?;
        self.identity(ADMIN, Some("system:masters"))?;
        self.identity("system:kube-controller-manager", None)?;
        self.identity("system:kube-scheduler", None)?;
        self.identity("kwok", Some("system:masters"))?;
        Ok(())
    }

    async fn api_server_ready(&self) -> Result<()> {
        let client = self.client().await?;
        let ready = eventually(READY_WITHIN, "the API server is ready", || async {
            if let Some(name) = self.dead() {
                return Ok(Eventually::Never(format!("{name} ended:\n{}", self.log_tail(&name, 20))));
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
        let mut processes = std::mem::take(&mut *self.processes());
        while let Some(process) = processes.pop() {
            drop(process);
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

/// A GET request for [`kube::Client::request_text`].
pub fn get(path: &str) -> Result<http::Request<Vec<u8>>> {
    http::Request::get(path).body(Vec::new()).with_context(|| format!("{path} is no path"))
}

fn etcd_flags(dir: &Path, client: u16, peers: u16) -> Vec<String> {
    vec![
        format!("--data-dir={}", dir.join("etcd").display()),
        "--unsafe-no-fsync".into(),
        format!("--listen-client-urls=http://127.0.0.1:{client}"),
        format!("--advertise-client-urls=http://127.0.0.1:{client}"),
        format!("--listen-peer-urls=http://127.0.0.1:{peers}"),
        format!("--initial-advertise-peer-urls=http://127.0.0.1:{peers}"),
        format!("--initial-cluster=default=http://127.0.0.1:{peers}"),
    ]
}

fn apiserver_flags(dir: &Path, etcd: u16, secure: u16) -> Result<Vec<String>> {
    let policy = dir.join("audit-policy.yaml");
    pki::write(&policy, audit::POLICY)?;
    let pki = dir.join("pki");
    let address = Ipv4Addr::LOCALHOST;
    Ok(vec![
        format!("--etcd-servers=http://127.0.0.1:{etcd}"),
        format!("--bind-address={address}"),
        format!("--advertise-address={address}"),
        "--endpoint-reconciler-type=none".into(), // a loopback address may not be the endpoint of a Service
        format!("--secure-port={secure}"),
        "--service-cluster-ip-range=10.96.0.0/16".into(),
        format!("--tls-cert-file={}", pki.join("apiserver.crt").display()),
        format!("--tls-private-key-file={}", pki.join("apiserver.key").display()),
        format!("--client-ca-file={}", pki.join("ca.crt").display()),
        "--authorization-mode=Node,RBAC".into(),
        "--allow-privileged=true".into(), // as most clusters: what refuses it is then the controller's policy
        "--enable-admission-plugins=NodeRestriction".into(), // beside the default ones
        format!("--service-account-key-file={}", pki.join("service-accounts.pub").display()),
        format!("--service-account-signing-key-file={}", pki.join("service-accounts.key").display()),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
        format!("--audit-policy-file={}", policy.display()),
        format!("--audit-log-path={}", dir.join("audit.log").display()),
        "--audit-log-maxsize=4096".into(), // megabytes; one file for a whole run
    ])
}

fn controller_manager_flags(dir: &Path) -> Result<Vec<String>> {
    let pki = dir.join("pki");
    let mut flags = component_flags(dir, "kube-controller-manager")?;
    flags.extend([
        format!("--service-account-private-key-file={}", pki.join("service-accounts.key").display()),
        format!("--root-ca-file={}", pki.join("ca.crt").display()),
        "--use-service-account-credentials".into(),
        "--concurrent-statefulset-syncs=20".into(),
        "--concurrent-service-endpoint-syncs=20".into(),
    ]);
    Ok(flags)
}

fn scheduler_flags(dir: &Path) -> Result<Vec<String>> {
    component_flags(dir, "kube-scheduler")
}

fn component_flags(dir: &Path, name: &str) -> Result<Vec<String>> {
    let kubeconfig = dir.join(format!("{name}.kubeconfig")).display().to_string();
    Ok(vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--leader-elect=false".into(),
        "--kube-api-qps=500".into(), // the default holds it back by four seconds at the start, and for minutes with many pods
        "--kube-api-burst=1000".into(),
        "--bind-address=127.0.0.1".into(),
        format!("--secure-port={}", ports::free()?),
    ])
}

fn kwok_flags(dir: &Path, stages: &Path) -> Result<Vec<String>> {
    Ok(vec![
        format!("--kubeconfig={}", dir.join("kwok.kubeconfig").display()),
        format!("--config={}", stages.display()),
        format!("--manage-nodes-with-annotation-selector={}", nodes::MARK),
        "--cidr=10.128.0.1/16".into(),
        "--node-ip=10.127.0.1".into(),
        "--node-lease-duration-seconds=40".into(),
        format!("--server-address=127.0.0.1:{}", ports::free()?),
    ])
}
