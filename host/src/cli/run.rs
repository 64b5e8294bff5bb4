//! `atomix-controller run`: the controller itself, until a signal stops it.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::telemetry::{self, LogFormat, Readiness};
use anyhow::Context;
use atomix_controller_grpc::api;
use atomix_controller_io::api_client;
use atomix_controller_io::leader::{self, Leadership, Moment, Replicas};
use atomix_controller_io::metrics::Metrics;
use atomix_controller_io::tasks;
use atomix_controller_kube::catalog::{Catalog, Trial};
use atomix_controller_kube::controller::{self, Options, Progress};
use atomix_controller_kube::webhook;
use atomix_model::limits;
use axum::http::HeaderValue;
use axum::http::header::USER_AGENT;
use clap::{Args as ClapArgs, ValueEnum};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::watch;

/// Run the controller. It finds the cluster by the environment of its pod, or by KUBECONFIG, and stops on SIGTERM or SIGINT.
#[derive(ClapArgs, Debug)]
pub struct Args {
    /// Namespace of the controller: plugins' ConfigMaps are read there, and the webhook's certificate is kept there.
    #[arg(long, env = "CONTROLLER_NAMESPACE", default_value = "kube-system")]
    controller_namespace: String,

    /// Name of the controller: of its Service, its Secret and its admission policy.
    #[arg(long, env = "CONTROLLER_NAME", default_value = "atomix-controller")]
    controller_name: String,

    /// Which databases are served: those of the whole cluster, or only those in the pod's namespace.
    #[arg(long, env = "CONTROLLER_SCOPE", value_enum, default_value_t = Scope::Cluster)]
    scope: Scope,

    /// Namespace of the pod; the one served with --scope=namespace.
    #[arg(long, env = "POD_NAMESPACE", default_value = "kube-system")]
    pod_namespace: String,

    /// Name of the pod: tells replicas apart. Without one, host and process do.
    #[arg(long, env = "POD_NAME")]
    pod_name: Option<String>,

    /// DNS domain of the cluster: ends the host names that clients are given.
    #[arg(long, env = "CLUSTER_DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,

    /// Serve databases in the controller's own namespace too. Who may create them there may also install plugins.
    #[arg(long, env = "ATOMIX_ALLOW_OWN_NAMESPACE")]
    allow_own_namespace: bool,

    /// Address for the conversion webhook (HTTPS).
    #[arg(long, env = "ATOMIX_WEBHOOK_ADDR", default_value = "0.0.0.0:8443", value_name = "IP:PORT")]
    webhook_addr: SocketAddr,

    /// Address for /metrics, /healthz and /readyz (HTTP).
    #[arg(long, env = "ATOMIX_METRICS_ADDR", default_value = "0.0.0.0:8080", value_name = "IP:PORT")]
    metrics_addr: SocketAddr,

    #[command(flatten)]
    grpc: super::grpc::Flags,

    /// What is logged, e.g. `info` or `info,atomix_controller=debug`.
    #[arg(long, env = "ATOMIX_LOG", default_value = "info")]
    log: String,

    /// How it is logged.
    #[arg(long, env = "ATOMIX_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Scope {
    Cluster,
    Namespace,
}

/// Runs until SIGTERM or SIGINT.
pub fn run(args: Args) -> anyhow::Result<()> {
    telemetry::log(&args.log, args.log_format)?;
    raise_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no threads to run on")?;
    runtime.block_on(serve(args))
}

/// Raises the limit of file descriptors as far as the process may: each connection takes one, and a server with many must
/// not leave another without any.
fn raise_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(limits::FILES_WANTED, |most| most.min(limits::FILES_WANTED));
    if current.is_some_and(|current| current < wanted)
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })
    {
        tracing::warn!(%error, "the limit on open files could not be raised");
    }
}

async fn serve(args: Args) -> anyhow::Result<()> {
    let identity = leader::identity(args.pod_name.as_deref());
    let program = std::env::current_exe().context("where this program is cannot be found out")?;
    let trial = Trial::new(program, super::plugin::TRY.to_vec());
    let config = kube_config(&identity).await?;
    let leading = Leadership::default();
    const UNUSABLE: &str = "the cluster's address or credentials cannot be used";
    let fenced = leader::fenced_client(&config, leading.clone()).context(UNUSABLE)?; // writes only while we lead
    let client = api_client::client(&config).context(UNUSABLE)?;
    let listener = telemetry::listen(args.metrics_addr).await?;
    let metrics = Arc::new(Metrics::default());
    let stop = stop_signal()?;
    let (released, left) = watch::channel(false);
    let (webhook_ready, webhook_up) = watch::channel(false);
    let progress = Progress::default();
    let reviewer = progress.reviewer.clone();
    let (api_ready, api_up) = watch::channel(false);
    let scope = matches!(args.scope, Scope::Namespace).then_some(args.pod_namespace);
    let without_databases = (!args.allow_own_namespace).then(|| args.controller_namespace.clone());
    let api_options = args.grpc.options(scope.clone(), without_databases, &args.cluster_domain, &identity);
    let (ready_in, ready) = watch::channel(Readiness::Waiting("the webhook and the caches start".to_owned()));
    let webhook_options = webhook::Options {
        listen: args.webhook_addr,
        namespace: args.controller_namespace.clone(),
        service: args.controller_name.clone(),
        cluster_domain: args.cluster_domain.clone(),
    };
    let lease_options = leader::Options {
        namespace: args.controller_namespace.clone(),
        name: args.controller_name.clone(),
        identity: identity.clone(),
    };
    let options = Options {
        namespace: args.controller_namespace,
        name: args.controller_name,
        cluster_domain: args.cluster_domain,
        scope,
        allow_own_namespace: args.allow_own_namespace,
        identity,
    };
    let moving = leading.clone();
    let health =
        telemetry::Health { metrics: metrics.clone(), moves: Arc::new(move || moving.check_progress(Moment::now())) };
    tasks::vital("readiness", all_ready(webhook_up, progress.listed.subscribe(), api_up, ready_in));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), ?options, "controller starts");
    let catalog = Arc::new(Catalog::default());
    let replicas = watch::Sender::new(Replicas::new(&lease_options.identity));
    let parts = api::Dependencies {
        client: client.clone(),
        plugins: Arc::new(super::groups::Catalogued(catalog.clone())),
        loaded: progress.loaded.subscribe(),
        replicas: replicas.subscribe(),
        leading: leading.clone(),
        metrics: metrics.clone(),
    };
    // On a signal to stop, the leader first hands over; all else goes on until it has.
    let leader = async {
        let replica_lease =
            leader::keep_replica_lease(client.clone(), &lease_options, &leading, &replicas, stopped(stop.clone()));
        tokio::try_join!(leader::lead(client.clone(), &lease_options, &leading, &metrics, stopped(stop)), async {
            replica_lease.await;
            Ok(())
        },)?;
        released.send_replace(true);
        anyhow::Ok(())
    };
    tokio::try_join!(
        leader,
        telemetry::serve(listener, health, ready, stopped(left.clone())),
        webhook::serve(client.clone(), webhook_options, reviewer, webhook_ready, stopped(left.clone())),
        controller::run(fenced, options, trial, catalog, leading.clone(), metrics.clone(), progress, stopped(left.clone())),
        api::serve(parts, api_options, api_ready, left),
    )?;
    tracing::info!("controller has stopped");
    Ok(())
}

async fn kube_config(identity: &str) -> anyhow::Result<kube::Config> {
    let mut config = kube::Config::infer().await.context(
        "no cluster to talk to: neither a pod's ServiceAccount nor a kubeconfig was found; run it in a pod, or set KUBECONFIG",
    )?;
    let agent = format!("atomix-controller/{} ({identity})", env!("CARGO_PKG_VERSION"));
    config.headers.push((USER_AGENT, HeaderValue::try_from(agent).context("this replica's name cannot stand in a header")?));
    Ok(config)
}

async fn all_ready(
    mut webhook: watch::Receiver<bool>,
    mut controller: watch::Receiver<bool>,
    mut api: watch::Receiver<bool>,
    ready: watch::Sender<Readiness>,
) {
    let _ = webhook.wait_for(|up| *up).await;
    ready.send_replace(Readiness::Waiting("plugins are listed".to_owned()));
    let _ = controller.wait_for(|up| *up).await;
    ready.send_replace(Readiness::Waiting("what gRPC clients may see is listed".to_owned()));
    let _ = api.wait_for(|up| *up).await;
    ready.send_replace(Readiness::Ready);
    tracing::info!("controller is ready");
    ready.closed().await;
}

/// Becomes true on SIGTERM or SIGINT.
fn stop_signal() -> anyhow::Result<watch::Receiver<bool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (sender, stop) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tasks::vital("signals", async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        sender.send_replace(true);
        sender.closed().await;
    });
    Ok(stop)
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
