//! gRPC in front of the view, one file a service. Reads cost no API request; writes are of its own kinds only: Members, Primitives,
//! elections, and groups that clients create. Knows no reconcile.

mod bounds;
mod database;
mod elections;
mod feed;
mod first;
mod groups;
mod listen;
mod manners;
mod membership;
mod primitives;
mod sweep;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::Status;
use tonic::transport::Server;

use crate::cache::{Caches, api as objects_of};
use crate::catalog::Catalog;
use crate::leader::{Leading, Replicas};
use crate::proto::controller::controller_service_server::ControllerServiceServer;
use crate::proto::database::database_service_server::DatabaseServiceServer;
use crate::proto::membership::membership_service_server::MembershipServiceServer;
use crate::proto::primitive::primitive_service_server::PrimitiveServiceServer;
use crate::telemetry::Metrics;
use crate::view::View;
use crate::{limits, names, proto};

pub use bounds::Bounds;
pub use listen::Tls;

/// How the API is served.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where.
    pub listen: SocketAddr,
    /// With which certificate; without one in the clear.
    pub tls: Option<Tls>,
    /// Show only databases of this namespace.
    pub scope: Option<String>,
    /// DNS domain of the cluster.
    pub cluster_domain: String,
    /// Name of this replica, which Members and candidates carry.
    pub replica: String,
    /// Most calls that go on at a time, streams included.
    pub calls_max: usize,
    /// What clients may do.
    pub bounds: Bounds,
}

/// What every service may use.
struct Api {
    client: Client,
    caches: Arc<Caches>,
    kinds: feed::Kinds,
    view: View,
    catalog: Arc<Catalog>,
    loaded: watch::Receiver<bool>,
    bounds: Bounds,
    cluster_domain: String,
    replica: String,
    joined: membership::Joined,
    standing: elections::Standing,
    making_groups: bounds::Making,
    making_primitives: bounds::Making,
    /// True once this replica was told to stop: what its streams held is left to those that clients go to.
    stopping: watch::Receiver<bool>,
}

/// What the API needs of the rest of the process.
pub struct Parts {
    /// Client of the controller.
    pub client: Client,
    /// The plugins, for groups that clients create.
    pub catalog: Arc<Catalog>,
    /// Whether all of them are loaded.
    pub loaded: watch::Receiver<bool>,
    /// Which replicas there are.
    pub replicas: watch::Receiver<Replicas>,
    /// Whether this replica leads: it removes what others left behind.
    pub leading: Leading,
    /// Where calls are counted.
    pub metrics: Arc<Metrics>,
}

/// Serves until `stop` is true and calls have ended, or had their time. `ready` becomes true when the view is filled.
///
/// # Errors
/// The address cannot be had; a certificate cannot be read.
pub async fn serve(
    parts: Parts,
    options: Options,
    ready: watch::Sender<bool>,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(options.listen).await.with_context(|| {
        format!("could not listen on {} for gRPC; set ATOMIX_GRPC_ADDR (or --grpc-addr) to a free address", options.listen)
    })?;
    let api = Arc::new(Api {
        client: parts.client,
        caches: Arc::new(Caches::default()),
        kinds: feed::Kinds::default(),
        view: View::default(),
        catalog: parts.catalog,
        loaded: parts.loaded,
        bounds: options.bounds,
        cluster_domain: options.cluster_domain,
        replica: options.replica,
        joined: membership::Joined::default(),
        standing: elections::Standing::default(),
        making_groups: bounds::Making::default(),
        making_primitives: bounds::Making::default(),
        stopping: stop.clone(),
    });
    let background = [
        tokio::spawn(feed::follow(api.clone(), options.scope, ready.clone())),
        tokio::spawn(sweep::sweep(api.clone(), parts.replicas, parts.leading, ready.subscribe())),
    ];
    let (reporter, health) = tonic_health::server::health_reporter();
    let health_told = tokio::spawn(tell_health(reporter, ready.subscribe(), stop.clone()));
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let manners = manners::Manners::new(parts.metrics, options.calls_max, ready.subscribe(), stop.clone());
    let server = Server::builder()
        .http2_keepalive_interval(Some(limits::GRPC_KEEPALIVE))
        .http2_keepalive_timeout(Some(limits::GRPC_KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(u32::MAX) // or calls beyond it would wait in the client; the layer tells them so
        .layer(manners)
        .add_service(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(
            ControllerServiceServer::new(first::First(api.clone()))
                .max_decoding_message_size(limits::GRPC_REQUEST_BYTES_MAX),
        )
        .add_service(
            DatabaseServiceServer::new(database::Databases(api.clone()))
                .max_decoding_message_size(limits::GRPC_REQUEST_BYTES_MAX),
        )
        .add_service(
            MembershipServiceServer::new(membership::Memberships(api.clone()))
                .max_decoding_message_size(limits::GRPC_REQUEST_BYTES_MAX),
        )
        .add_service(
            PrimitiveServiceServer::new(primitives::Primitives(api.clone()))
                .max_decoding_message_size(limits::GRPC_REQUEST_BYTES_MAX),
        );
    let connections = listen::connections(listener, options.tls)?;
    let told = {
        let mut stop = stop.clone();
        async move { _ = stop.wait_for(|stop| *stop).await }
    };
    let late = {
        let mut stop = stop.clone();
        async move {
            let _ = stop.wait_for(|stop| *stop).await;
            tokio::time::sleep(limits::GRPC_DRAIN).await;
        }
    };
    let served = tokio::select! {
        served = server.serve_with_incoming_shutdown(connections, told) => served.context("could not serve gRPC"),
        () = late => Ok(()),
    };
    background.into_iter().chain([health_told]).for_each(|task| task.abort());
    served
}

/// Says of each service, and of all together, whether it serves.
async fn tell_health(
    reporter: tonic_health::server::HealthReporter,
    mut ready: watch::Receiver<bool>,
    mut stop: watch::Receiver<bool>,
) {
    use tonic_health::ServingStatus::{NotServing, Serving};
    let services = [
        "",
        "atomix.controller.ControllerService",
        "atomix.database.DatabaseService",
        "atomix.membership.MembershipService",
        "atomix.primitive.PrimitiveService",
    ];
    for service in services {
        reporter.set_service_status(service, NotServing).await;
    }
    let _ = ready.wait_for(|ready| *ready).await;
    for service in services {
        reporter.set_service_status(service, Serving).await;
    }
    let _ = stop.wait_for(|stop| *stop).await;
    for service in services {
        reporter.set_service_status(service, NotServing).await;
    }
}

/// The namespace that a client means.
fn namespace(given: &str) -> Result<&str, Status> {
    match given {
        "" => Ok("default"),
        given if names::is_label(given) => Ok(given),
        given => Err(Status::invalid_argument(format!(
            "{given:?} is no namespace: at most 63 lower case letters, digits and '-' are expected"
        ))),
    }
}

/// A field that must be there.
fn given<'a, T>(field: &'a Option<T>, name: &str) -> Result<&'a T, Status> {
    field.as_ref().ok_or_else(|| Status::invalid_argument(format!("{name} is missing")))
}

/// A name that must be there and may not be endless.
fn named<'a>(name: &'a str, what: &str) -> Result<&'a str, Status> {
    match name.len() {
        0 => Err(Status::invalid_argument(format!("{what} is empty"))),
        1..=limits::CLIENT_NAME_BYTES_MAX => Ok(name),
        long => Err(Status::invalid_argument(format!(
            "{what} has {long} bytes; at most {} are accepted",
            limits::CLIENT_NAME_BYTES_MAX
        ))),
    }
}

/// What the API server's refusal means to a client.
fn refused(deed: &str, error: &kube::Error) -> Status {
    let message = format!("could not {deed}: {error}");
    match error {
        kube::Error::Api(status) => match status.code {
            404 => Status::not_found(message),
            403 => Status::permission_denied(message),
            409 => Status::aborted(message),
            400 | 422 => Status::invalid_argument(message),
            429 => Status::resource_exhausted(message),
            _ => Status::unavailable(message),
        },
        _ => Status::unavailable(message),
    }
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

fn is_missing(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

impl Api {
    fn objects(&self, kind: &crate::cache::Kind, namespace: &str) -> kube::Api<kube::api::DynamicObject> {
        objects_of(&self.client, kind, Some(namespace))
    }
}
