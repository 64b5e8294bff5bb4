//! Conversion and reviews over HTTPS. Serves whatever the controller is doing; verdicts on objects come from the
//! [`admission_review::Reviewer`]. Keeps its own certificates, and publishes their authority to the API server.

pub mod admission_review;
mod ca_bundle;
pub mod certs;
pub mod conversion_review;
mod listen;
mod read_permits;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::watch;

use atomix_controller_io::connections::{Origin, with_request_timeout};
use atomix_model::limits;

/// Name of the Secret that keeps the authority. It ships empty with the controller's manifest.
pub const SECRET: &str = "atomix-controller-webhook";

/// Where the webhook is and by which names the API server reaches it.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // its fields explain themselves
pub struct Options {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Namespace of the controller, of its Service and of the Secret that keeps the authority.
    pub namespace: String,
    pub service: String,
    /// DNS domain of the cluster, e.g. cluster.local.
    pub cluster_domain: String,
}

/// Serves until `stop`, then lets open requests end. `ready` turns true once the definition of databases carries the
/// authority of what is served. Errors of the API server are tried again for ever; only errors that cannot end by themselves
/// are returned.
pub async fn serve(
    client: Client,
    options: Options,
    reviewer: admission_review::Reviewer,
    ready: watch::Sender<bool>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("cannot listen on {} for the webhook: is another controller running?", options.listen))?;
    let served = Arc::new(certs::Served::default());
    let connections = listen::prepare(listener, Arc::clone(&served))?;
    let trusted = ca_bundle::sync(client, &options, &served, &ready);
    let routes = conversion_review::router().merge(admission_review::router(reviewer));
    let routes = with_request_timeout(routes, limits::REVIEW_TIME_MAX).into_make_service_with_connect_info::<Origin>();
    let answered = axum::serve(connections, routes).with_graceful_shutdown(stop);
    tokio::select! {
        ended = answered => ended.context("the webhook's server ended"),
        never = trusted => match never {},
    }
}

impl Options {
    /// All names by which the Service is reached from within the cluster.
    fn names(&self) -> Vec<String> {
        let Self { service, namespace, cluster_domain, .. } = self;
        vec![
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.{cluster_domain}"),
            format!("{service}.{namespace}"),
            service.clone(),
            "localhost".to_owned(),
        ]
    }
}
