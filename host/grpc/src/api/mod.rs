//! gRPC in front of the view, one file a service. Reads cost no API request; writes are of its own kinds only: Members, Primitives,
//! elections, and groups that clients create. Knows no reconcile.

mod call_layer;
mod client_policy;
mod controller_service;
mod database_service;
mod deletion_wait;
mod elections;
mod garbage_collection;
mod groups;
mod informer;
mod listen;
mod membership_service;
mod methods;
pub mod plugins;
mod primitive_service;
mod rate_limit;
mod refused_joins;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::transport::Server;
use tonic::{Response, Status};

use self::plugins::Plugins;
use crate::proto;
use crate::proto::controller::controller_service_server::ControllerServiceServer;
use crate::proto::database::database_service_server::DatabaseServiceServer;
use crate::proto::membership::membership_service_server::MembershipServiceServer;
use crate::proto::primitive::primitive_service_server::PrimitiveServiceServer;
use crate::view::{TooLong, View};
use atomix_controller_io::api_client::said;
use atomix_controller_io::cache::{Caches, api as objects_of};
use atomix_controller_io::leader::{Leadership, Replicas};
use atomix_controller_io::metrics::Metrics;
use atomix_controller_io::tasks;
use atomix_model::{limits, names};

pub use client_policy::ClientPolicy;
pub use listen::Tls;

/// How the API is served, from flags.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// The certificate to serve with; without one, connections are in the clear.
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
    pub policy: ClientPolicy,
}

/// What all services share.
struct Api {
    client: Client,
    caches: Arc<Caches>,
    kinds: informer::Kinds,
    view: View,
    plugins: Arc<dyn Plugins>,
    loaded: watch::Receiver<bool>,
    policy: ClientPolicy,
    cluster_domain: String,
    replica: String,
    members: membership_service::LocalMembers,
    candidates: elections::LocalCandidates,
    write_rates: rate_limit::WriteRates,
    refused_joins: refused_joins::RefusedJoins,
    reserved_groups: client_policy::Reservations,
    reserved_primitives: client_policy::Reservations,
    /// True once this replica was asked to stop: what its streams held is left to those that clients go to.
    stopping: watch::Receiver<bool>,
}

/// What the API needs of the rest of the process.
#[allow(missing_docs)] // its fields explain themselves
pub struct Dependencies {
    pub client: Client,
    /// The plugins, for groups that clients create.
    pub plugins: Arc<dyn Plugins>,
    /// Whether all of them are loaded.
    pub loaded: watch::Receiver<bool>,
    /// All replicas of the controller, dead ones too.
    pub replicas: watch::Receiver<Replicas>,
    /// Whether this replica leads: it removes what others left behind.
    pub leading: Leadership,
    /// Where calls are counted.
    pub metrics: Arc<Metrics>,
}

/// Adds services of ours, whose requests are all bounded.
macro_rules! with_services {
    ($server:expr, $($service:expr),+ $(,)?) => {
        $server$(.add_service($service.max_decoding_message_size(limits::GRPC_REQUEST_BYTES_MAX)))+
    };
}

/// Serves until `stop` is true and calls have ended, or had their time. `ready` becomes true when the view is filled.
///
/// # Errors
/// The address cannot be bound; a certificate cannot be read.
pub async fn serve(
    parts: Dependencies,
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
        kinds: informer::Kinds::default(),
        view: View::default(),
        plugins: parts.plugins,
        loaded: parts.loaded,
        policy: options.policy,
        cluster_domain: options.cluster_domain,
        replica: options.replica,
        members: membership_service::LocalMembers::default(),
        candidates: elections::LocalCandidates::default(),
        write_rates: rate_limit::WriteRates::default(),
        refused_joins: refused_joins::RefusedJoins::default(),
        reserved_groups: client_policy::Reservations::default(),
        reserved_primitives: client_policy::Reservations::default(),
        stopping: stop.clone(),
    });
    let background = [
        tasks::vital("informer", informer::run(api.clone(), options.scope, ready.clone())),
        tasks::vital(
            "garbage-collection",
            garbage_collection::run(api.clone(), parts.replicas, parts.leading, ready.subscribe()),
        ),
    ];
    let (reporter, health) = tonic_health::server::health_reporter();
    let health_published = tasks::vital("health", publish_health(reporter, ready.subscribe(), stop.clone()));
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let call_layer = call_layer::CallLayer::new(parts.metrics, options.calls_max, ready.subscribe(), stop.clone());
    let server = Server::builder()
        .http2_keepalive_interval(Some(limits::GRPC_KEEPALIVE))
        .http2_keepalive_timeout(Some(limits::GRPC_KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(u32::MAX) // or calls beyond it would wait in the client; the layer refuses them instead
        .layer(call_layer)
        .add_service(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);
    let server = with_services!(
        server,
        ControllerServiceServer::new(controller_service::ControllerApi(api.clone())),
        DatabaseServiceServer::new(database_service::DatabaseApi(api.clone())),
        MembershipServiceServer::new(membership_service::MembershipApi(api.clone())),
        PrimitiveServiceServer::new(primitive_service::PrimitiveApi(api.clone())),
    );
    let connections = listen::accept(listener, options.tls)?;
    let stopped = {
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
        served = server.serve_with_incoming_shutdown(connections, stopped) => served.context("could not serve gRPC"),
        () = late => Ok(()),
    };
    background.into_iter().chain([health_published]).for_each(|task| task.abort());
    served
}

/// Publishes for each service, and for all together, whether it serves.
async fn publish_health(
    reporter: tonic_health::server::HealthReporter,
    mut ready: watch::Receiver<bool>,
    mut stop: watch::Receiver<bool>,
) {
    use tonic_health::ServingStatus::{NotServing, Serving};
    let services: Vec<_> = std::iter::once("").chain(methods::services()).collect(); // the empty name is all of them
    for service in &services {
        reporter.set_service_status(*service, NotServing).await;
    }
    let _ = ready.wait_for(|ready| *ready).await;
    for service in &services {
        reporter.set_service_status(*service, Serving).await;
    }
    let _ = stop.wait_for(|stop| *stop).await;
    for service in &services {
        reporter.set_service_status(*service, NotServing).await;
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

/// A field that a request must have.
fn required<'a, T>(field: &'a Option<T>, name: &str) -> Result<&'a T, Status> {
    field.as_ref().ok_or_else(|| Status::invalid_argument(format!("{name} is missing")))
}

/// A name that must not be empty, and may have at most [`limits::CLIENT_NAME_BYTES_MAX`] bytes.
fn required_name<'a>(name: &'a str, what: &str) -> Result<&'a str, Status> {
    match name.len() {
        0 => Err(Status::invalid_argument(format!("{what} is empty"))),
        1..=limits::CLIENT_NAME_BYTES_MAX => Ok(name),
        long => Err(Status::invalid_argument(format!(
            "{what} has {long} bytes; at most {} are accepted",
            limits::CLIENT_NAME_BYTES_MAX
        ))),
    }
}

/// The answer for a list of databases that is encoded already. An empty name stands for all in the namespace.
fn answer(list: Result<proto::Encoded, TooLong>, namespace: &str, name: &str) -> Result<Response<proto::Encoded>, Status> {
    list.map(Response::new).map_err(|TooLong| {
        let most = limits::LIST_BYTES_MAX;
        Status::resource_exhausted(match name {
            "" => format!(
                "the databases of namespace {namespace} have more than {most} bytes together; ask for each by its name"
            ),
            name => format!("the endpoints of database {namespace}/{name} have more than {most} bytes"),
        })
    })
}

/// The gRPC status for an error of the API server; `action` completes "could not …".
fn status_of(action: &str, error: &kube::Error) -> Status {
    let message = format!("could not {action}: {}", said(error));
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
    fn objects(&self, kind: &atomix_model::object::Kind, namespace: &str) -> kube::Api<kube::api::DynamicObject> {
        objects_of(&self.client, kind, Some(namespace))
    }
}
