//! The controller as a process of this machine, under its own ServiceAccount and nothing more. Knows no database.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;

use crate::controlplane::ControlPlane;
use crate::eventually::{Eventually, eventually};
use crate::guard::{Guarded, Spec, log_tail};
use crate::pki::{self, Credential};
use crate::proxy::Proxy;
use crate::{deploy, local_http, paths, ports};

/// The namespace that the controller lives in.
pub const NAMESPACE: &str = "kube-system";
/// Its ServiceAccount.
pub const ACCOUNT: &str = "atomix-controller";
/// The user that the API server takes the controller for.
pub const USER: &str = "system:serviceaccount:kube-system:atomix-controller";

/// The file of its token, in the control plane's folder.
const TOKEN: &str = "controller.token";
/// How long a token lives: the shortest that the API server gives.
const TOKEN_SECS: i64 = 600;
/// How often a fresh token is put in its place: well before the old one ends.
const FRESH_EVERY: Duration = Duration::from_secs(240);
/// How long the controller may take to be ready on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(180);
/// How long it may take to stop when asked.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// How to run it.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Port for metrics and health; a free one if none is given.
    pub metrics: Option<u16>,
    /// Port for the gRPC API; a free one if none is given.
    pub grpc: Option<u16>,
    /// Further environment: its flags, e.g. `ATOMIX_LOG`.
    pub env: Vec<(String, String)>,
    /// Address of something that stands between it and the API server, e.g. `https://127.0.0.1:1234`, under a certificate of the
    /// control plane's authority; the API server itself if none is given.
    pub server: Option<String>,
    /// The program; what [`paths::controller_program`] finds if none is given.
    pub program: Option<PathBuf>,
}

/// A controller of one control plane. It can be stopped and started again, as the same replica; dropping it stops it.
#[derive(Debug)]
pub struct Controller {
    plane: Arc<ControlPlane>,
    spec: Spec,
    replica: String,
    metrics: u16,
    grpc: u16,
    webhook: u16,
    process: Mutex<Option<Guarded>>,
    /// Keeps the token fresh that all replicas use.
    tokens: Option<tokio::task::JoinHandle<()>>,
}

impl Controller {
    /// Applies `deploy/`, starts the controller and returns when it is ready.
    pub async fn install(plane: Arc<ControlPlane>, options: Options) -> Result<Controller> {
        let program = options.program.map_or_else(paths::controller_program, Ok)?;
        let metrics = options.metrics.map_or_else(ports::free, Ok)?;
        let grpc = options.grpc.map_or_else(ports::free, Ok)?;
        let webhook = ports::free()?;
        let webhook_url = format!("https://127.0.0.1:{webhook}");
        deploy::apply(&plane, &webhook_url).await?;

        let token = plane.dir().join(TOKEN);
        refresh(&plane, &token).await?;
        let kubeconfig = plane.kubeconfig("controller");
        let server = options.server.clone().unwrap_or_else(|| plane.server());
        pki::write(&kubeconfig, &pki::kubeconfig(&server, plane.authority().pem(), &Credential::TokenFile(token.clone())))?;

        let mut env: Vec<(String, String)> = [
            ("KUBECONFIG", kubeconfig.display().to_string()),
            ("HOME", plane.dir().display().to_string()),
            ("POD_NAMESPACE", NAMESPACE.to_owned()),
            ("POD_NAME", replica(0)),
            ("CONTROLLER_NAMESPACE", NAMESPACE.to_owned()),
            ("CONTROLLER_NAME", ACCOUNT.to_owned()),
            ("ATOMIX_WEBHOOK_ADDR", format!("127.0.0.1:{webhook}")),
            ("ATOMIX_WEBHOOK_URL", webhook_url),
            ("ATOMIX_METRICS_ADDR", format!("127.0.0.1:{metrics}")),
            ("ATOMIX_GRPC_ADDR", format!("127.0.0.1:{grpc}")),
            // Here all clients come from this machine, and the addresses of pods are made up.
            ("ATOMIX_GRPC_MEMBER_ADDRESSES", "false".to_owned()),
            ("RUST_BACKTRACE", "1".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec();
        env.extend(options.env);
        let log = plane.log("atomix-controller");
        let spec = Spec { name: ACCOUNT.to_owned(), program, args: vec!["run".into()], env, log, grace: STOP_WITHIN };

        let (tokens_plane, tokens_file) = (plane.clone(), token);
        let tokens = tokio::spawn(async move {
            loop {
                tokio::time::sleep(FRESH_EVERY).await;
                // The old token is good for some more rounds, and this one is tried again in the next.
                let _ = refresh(&tokens_plane, &tokens_file).await;
            }
        });
        let (process, tokens) = (Mutex::default(), Some(tokens));
        let controller = Controller { plane, spec, replica: replica(0), metrics, grpc, webhook, process, tokens };
        controller.start().await?;
        Ok(controller)
    }

    /// Starts one more replica beside the first and returns when it is ready. It ends before the first is dropped. The API server
    /// calls webhooks at the first only.
    pub async fn another(&self, number: usize) -> Result<Controller> {
        self.another_through(number, None).await
    }

    /// The same; it reaches the API server through `proxy`, if there is one.
    pub async fn another_through(&self, number: usize, proxy: Option<&Proxy>) -> Result<Controller> {
        let (metrics, grpc, webhook, replica) = (ports::free()?, ports::free()?, ports::free()?, replica(number));
        let mut spec = self.spec.clone();
        spec.log = self.plane.log(&replica);
        spec.env.extend(
            [
                ("POD_NAME", replica.clone()),
                ("ATOMIX_WEBHOOK_ADDR", format!("127.0.0.1:{webhook}")),
                ("ATOMIX_METRICS_ADDR", format!("127.0.0.1:{metrics}")),
                ("ATOMIX_GRPC_ADDR", format!("127.0.0.1:{grpc}")),
            ]
            .map(|(key, value)| (key.to_owned(), value)), // the last of one name counts
        );
        if let Some(proxy) = proxy {
            let kubeconfig = self.plane.kubeconfig(&replica);
            let token = Credential::TokenFile(self.plane.dir().join(TOKEN));
            pki::write(&kubeconfig, &pki::kubeconfig(proxy.address(), self.plane.authority().pem(), &token))?;
            spec.env.push(("KUBECONFIG".to_owned(), kubeconfig.display().to_string()));
        }
        let (plane, process) = (self.plane.clone(), Mutex::default());
        let controller = Controller { plane, spec, replica, metrics, grpc, webhook, process, tokens: None };
        controller.start().await?;
        Ok(controller)
    }

    /// The identity of this replica.
    pub fn replica(&self) -> &str {
        &self.replica
    }

    /// Where its webhook answers.
    pub fn webhook(&self) -> String {
        format!("127.0.0.1:{}", self.webhook)
    }

    /// Where its gRPC API answers, e.g. `127.0.0.1:5679`.
    pub fn grpc(&self) -> String {
        format!("127.0.0.1:{}", self.grpc)
    }

    /// Whether its metrics report that it leads.
    pub async fn leads(&self) -> Result<bool> {
        Ok(self.metrics().await?.lines().any(|line| line == "atomix_leader 1"))
    }

    /// Starts it, if it does not run, and returns when it is ready.
    pub async fn start(&self) -> Result<()> {
        self.start_unready()?;
        self.ready().await
    }

    /// Starts it, if it does not run, and returns at once.
    pub fn start_unready(&self) -> Result<()> {
        let mut process = self.process();
        if process.as_mut().is_none_or(|process| process.ended().is_some()) {
            *process = Some(Guarded::spawn(&self.spec)?);
        }
        Ok(())
    }

    /// Waits until it reports that it is ready.
    pub async fn ready(&self) -> Result<()> {
        let ready = eventually(READY_WITHIN, "the controller is ready", || async {
            if self.ended() {
                return Ok(Eventually::Never("it ended".into()));
            }
            let answer = local_http::get(self.metrics, "/readyz").await?;
            Ok(Eventually::when(answer.status == 200, || format!("{} {}", answer.status, answer.body)))
        });
        ready.await.with_context(|| format!("last lines of its log:\n{}", self.log_tail(20)))
    }

    /// Stops it as Kubernetes does (SIGTERM), and fails if it did not end well and in time.
    pub async fn stop(&self) -> Result<()> {
        let Some(mut process) = self.process().take() else {
            return Ok(());
        };
        let status = tokio::task::spawn_blocking(move || process.stop()).await.context("stopping the controller")??;
        match status.success() {
            true => Ok(()),
            false => {
                bail!("the controller ended with {status} when asked to stop; last lines of its log:\n{}", self.log_tail(20))
            }
        }
    }

    /// Kills it (SIGKILL).
    pub async fn kill(&self) -> Result<()> {
        let Some(mut process) = self.process().take() else {
            return Ok(());
        };
        tokio::task::spawn_blocking(move || process.kill()).await.context("killing the controller")??;
        Ok(())
    }

    /// Stops it, starts it and waits until it is ready.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        self.start().await
    }

    /// Whether it does not run.
    pub fn ended(&self) -> bool {
        self.process().as_mut().is_none_or(|process| process.ended().is_some())
    }

    /// Its process id, if it runs.
    pub fn pid(&self) -> Option<i32> {
        self.process().as_ref().map(Guarded::pid)
    }

    /// Port of its metrics and health.
    pub fn metrics_port(&self) -> u16 {
        self.metrics
    }

    /// Its metrics, as text.
    pub async fn metrics(&self) -> Result<String> {
        Ok(local_http::get(self.metrics, "/metrics").await?.body)
    }

    /// The last lines that it logged.
    pub fn log_tail(&self, lines: usize) -> String {
        log_tail(&self.spec.log, lines)
    }

    /// The control plane that it works on.
    pub fn plane(&self) -> &Arc<ControlPlane> {
        &self.plane
    }

    fn process(&self) -> std::sync::MutexGuard<'_, Option<Guarded>> {
        self.process.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.tokens.take().inspect(tokio::task::JoinHandle::abort);
        drop(self.process().take()); // before the control plane that it connects to
    }
}

fn replica(number: usize) -> String {
    format!("{ACCOUNT}-{number}")
}

/// Puts a fresh token of the ServiceAccount into `file`.
async fn refresh(plane: &ControlPlane, file: &Path) -> Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(plane.client().await?, NAMESPACE);
    let spec = TokenRequestSpec { expiration_seconds: Some(TOKEN_SECS), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let what = || format!("could not get a token of ServiceAccount {NAMESPACE}/{ACCOUNT}");
    let answer = accounts.create_token_request(ACCOUNT, &PostParams::default(), &request).await.with_context(what)?;
    let token = answer.status.with_context(what)?.token;
    pki::write(file, &token)
}
