//! What an operator sees from outside: log lines, metrics, health. Knows no resource and no client.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use atomix_controller_io::connections::{ConnectionLimits, Listener, Origin, with_request_timeout};
use atomix_controller_io::metrics::{self, Metrics};
use atomix_model::limits;

/// What the connections to the server of metrics and health may use.
const CONNECTION_LIMITS: ConnectionLimits = ConnectionLimits {
    total: limits::METRICS_CONNECTIONS_MAX,
    per_peer: limits::METRICS_CONNECTIONS_PER_PEER_MAX,
    opening: limits::HANDSHAKE_MAX,
    opening_bytes: 0,
    head: Some(limits::HTTP_HEAD_MAX),
    idle: Some(limits::HTTP_IDLE_MAX),
};

/// The variable that sets which log lines are written, e.g. `info` or `warn,atomix_controller=debug`.
pub const LOG_VARIABLE: &str = "ATOMIX_LOG";
/// The variable that sets where metrics and health are served.
pub const LISTEN_VARIABLE: &str = "ATOMIX_METRICS_ADDR";

/// What a log line looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts writing log lines to standard error.
///
/// # Errors
/// `filter` is no filter in the syntax of tracing's `EnvFilter`, or log lines are being written already.
pub fn log(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let parsed = EnvFilter::try_new(filter)
        .with_context(|| format!("{LOG_VARIABLE}: {filter:?} is no log filter; accepted are a level (error, warn, info, debug, trace) and target=level, separated by commas"))?;
    let lines = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    }
    .map_err(|error| anyhow::anyhow!("could not start logging: {error}"))
}

/// Whether the process can do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Not yet, or not any more; the text names what is awaited.
    Waiting(String),
    /// It can.
    Ready,
}

/// What is served besides readiness.
#[derive(Clone)]
pub struct Health {
    /// The numbers.
    pub metrics: Arc<Metrics>,
    /// Returns an error that names what is stuck, if anything is.
    pub moves: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
}

/// Takes the address for metrics and health; port 0 takes a free one.
///
/// # Errors
/// The address cannot be bound; the message names it and the variable that sets another.
pub async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("could not listen on {address} for metrics and health; set {LISTEN_VARIABLE} (or --metrics-addr) to a free address")
    })
}

/// Answers `/metrics` (OpenMetrics text), `/healthz` (200 while nothing is stuck, else 503 and what is) and `/readyz` (200 when ready, else 503 and
/// what is awaited) until `stop` resolves and the last answer is given.
///
/// # Errors
/// The listener failed.
pub async fn serve(
    listener: TcpListener,
    health: Health,
    ready: watch::Receiver<Readiness>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let routes = Router::new()
        .route("/healthz", get(healthz).with_state(health.moves))
        .route("/readyz", get(readyz).with_state(ready))
        .route("/metrics", get(exposition).with_state(health.metrics));
    let routes = with_request_timeout(routes, limits::METRICS_TIME_MAX).into_make_service_with_connect_info::<Origin>();
    let served = axum::serve(Listener::new(listener, CONNECTION_LIMITS), routes).with_graceful_shutdown(stop);
    served.await.context("could not serve metrics and health")
}

async fn healthz(State(moves): State<Arc<dyn Fn() -> Result<(), String> + Send + Sync>>) -> impl IntoResponse {
    match moves() {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(stuck) => {
            tracing::error!(stuck, "the process is stuck, and says so at /healthz to be restarted");
            (StatusCode::SERVICE_UNAVAILABLE, format!("{stuck}\n"))
        }
    }
}

async fn readyz(State(ready): State<watch::Receiver<Readiness>>) -> impl IntoResponse {
    match &*ready.borrow() {
        Readiness::Ready => (StatusCode::OK, "ok\n".to_owned()),
        Readiness::Waiting(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn exposition(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics.text())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::oneshot;

    async fn answer(address: SocketAddr, path: &str) -> String {
        let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        connection.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn health_readiness_and_metrics_are_served_until_the_stop() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Arc::new(Metrics::default());
        let (ready, readiness) = watch::channel(Readiness::Waiting("the cache of databases is not filled".into()));
        let (stop, stopped) = oneshot::channel::<()>();
        let (stuck, seen) = watch::channel(Ok(()));
        let health = Health { metrics: metrics.clone(), moves: Arc::new(move || seen.borrow().clone()) };
        let server = tokio::spawn(serve(listener, health, readiness, async move { drop(stopped.await) }));

        assert!(answer(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        let _ = stuck.send_replace(Err("a pass hangs".to_owned()));
        let text = answer(address, "/healthz").await;
        assert!(text.starts_with("HTTP/1.1 503") && text.ends_with("a pass hangs\n"), "{text}");
        let waiting = answer(address, "/readyz").await;
        assert!(
            waiting.starts_with("HTTP/1.1 503") && waiting.ends_with("the cache of databases is not filled\n"),
            "{waiting}"
        );
        ready.send(Readiness::Ready).unwrap();
        assert!(answer(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        metrics.reconciled(metrics::Reconciled::Settled, Duration::from_millis(3));
        let text = answer(address, "/metrics").await;
        assert!(text.contains("content-type: application/openmetrics-text"), "{text}");
        assert!(text.contains("atomix_reconciles_total{result=\"settled\"} 1\n"), "{text}");
        assert!(answer(address, "/else").await.starts_with("HTTP/1.1 404"));

        drop(stop);
        server.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_taken_port_is_named_with_the_variable_that_sets_another() {
        let first = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = first.local_addr().unwrap();
        let text = format!("{:#}", listen(address).await.unwrap_err());
        assert!(text.contains(&address.to_string()) && text.contains("ATOMIX_METRICS_ADDR"), "{text}");
    }

    #[test]
    fn a_wrong_filter_is_named_with_its_variable() {
        let text = format!("{:#}", log("atomix=loud", LogFormat::Text).unwrap_err());
        assert!(text.starts_with("ATOMIX_LOG: \"atomix=loud\" is no log filter"), "{text}");
    }
}
