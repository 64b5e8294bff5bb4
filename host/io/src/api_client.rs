//! Clients of the API server whose every request ends: an answer that does not come is given up, and so is a connection
//! whose other end is gone. Knows no resource.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _};
use http_body::{Frame, SizeHint};
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::retry::RetryPolicy;
use kube::client::{Body, ClientBuilder, ConfigExt as _};
use kube::{Client, Config};
use tokio::time::{Instant, Sleep};
use tower::layer::util::Identity;
use tower::retry::RetryLayer;
use tower::util::BoxCloneService;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt as _};

use atomix_model::contract::plain;
use atomix_model::limits;

/// What the API server answered, in its own words, on one line; else why there is no answer.
pub fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => plain(&status.message),
        error => error.to_string(),
    }
}

/// Longest times that requests to the API server may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// From when a request is sent until its answer begins.
    pub begins: Duration,
    /// From when a request is sent until its answer has ended.
    pub ends: Duration,
    /// From when a watch is opened until it ends; a new one then takes its place.
    pub watch_ends: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            begins: limits::ANSWER_BEGINS_WITHIN,
            ends: limits::ANSWER_ENDS_WITHIN,
            watch_ends: limits::WATCH_ENDS_WITHIN,
        }
    }
}

/// An answer that did not come in time. It comes as [`kube::Error::Service`].
#[derive(Debug, thiserror::Error)]
#[error("no answer of the API server within {0:?}: given up")]
pub struct AnswerTimeout(Duration);

/// A service that sends requests, each within its time.
pub type BoxedService = BoxCloneService<http::Request<Body>, http::Response<TimedBody>, BoxError>;

/// A client. Needs a runtime.
///
/// # Errors
/// The cluster's address or credentials cannot be used.
pub fn client(config: &Config) -> kube::Result<Client> {
    client_with(config, Identity::new(), Timeouts::default())
}

/// A client with a layer around each try of each request.
///
/// # Errors
/// The cluster's address or credentials cannot be used.
pub fn client_with<L>(config: &Config, layer: L, times: Timeouts) -> kube::Result<Client>
where
    L: Layer<BoxedService>,
    L::Service: Service<http::Request<Body>, Response = http::Response<TimedBody>> + Clone + Send + 'static,
    <L::Service as Service<http::Request<Body>>>::Error: Into<BoxError>,
    <L::Service as Service<http::Request<Body>>>::Future: Send + 'static,
{
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(limits::CONNECT_WITHIN));
    tcp.set_keepalive(Some(limits::TCP_KEEPALIVE));
    tcp.set_keepalive_interval(Some(limits::TCP_KEEPALIVE_EVERY));
    tcp.set_keepalive_retries(Some(limits::TCP_KEEPALIVE_TRIES));
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(limits::TCP_UNANSWERED_MAX));
    let connector = config.rustls_https_connector_with_connector(tcp)?;
    let http: Http<_, Body> = Http::builder(TokioExecutor::new()).build(connector);
    let sent = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    let sent = InTime { inner: sent, times }.boxed_clone();
    let each_try = layer.layer(sent).map_err(Into::into);
    let service = RetryLayer::new(RetryPolicy::server_retry()).layer(each_try);
    Ok(ClientBuilder::new(service, config.default_namespace.clone()).build())
}

/// Gives up what takes too long.
#[derive(Clone, Debug)]
struct InTime<S> {
    inner: S,
    times: Timeouts,
}

impl<S, B> Service<http::Request<Body>> for InTime<S>
where
    S: Service<http::Request<Body>, Response = http::Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = http::Response<TimedBody>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (Timeouts { begins, ends, watch_ends }, start) = (self.times, Instant::now());
        let within = if is_watch(&request) { watch_ends } else { ends };
        let answer = self.inner.call(request);
        async move {
            let answer = tokio::time::timeout_at(start + begins, answer).await.map_err(|_| AnswerTimeout(begins))??;
            Ok(answer.map(|body| {
                let body = http_body_util::BodyExt::map_err(body, Into::into);
                TimedBody { body: Box::pin(body), end: Box::pin(tokio::time::sleep_until(start + within)), within }
            }))
        }
        .boxed()
    }
}

fn is_watch(request: &http::Request<Body>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1" | "watch"))
}

/// The body of an answer, which ends in time or fails.
pub struct TimedBody {
    body: Pin<Box<dyn http_body::Body<Data = Bytes, Error = BoxError> + Send>>,
    end: Pin<Box<Sleep>>,
    within: Duration,
}

impl http_body::Body for TimedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = self.body.as_mut().poll_frame(task) {
            return Poll::Ready(frame);
        }
        match self.end.as_mut().poll(task) {
            Poll::Ready(()) => Poll::Ready(Some(Err(AnswerTimeout(self.within).into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt as _;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Api;
    use kube::api::{ListParams, Patch, PatchParams, WatchParams};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// A server that accepts connections, reads a request, and sends `text`; then nothing more.
    async fn server_that_sends(text: &'static str) -> Api<ConfigMap> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    while stream.read(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {
                        stream.write_all(text.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        let config = Config::new(format!("http://{address}").parse().unwrap());
        let millis = Duration::from_millis;
        let times = Timeouts { begins: millis(100), ends: millis(200), watch_ends: millis(400) };
        Api::default_namespaced(client_with(&config, Identity::new(), times).unwrap())
    }

    fn outcome<T: std::fmt::Debug>(answer: Result<kube::Result<T>, tokio::time::error::Elapsed>) -> String {
        answer.expect("it is given up").unwrap_err().to_string()
    }

    #[tokio::test]
    async fn an_api_server_that_takes_requests_and_never_answers_blocks_no_caller() {
        let dark = server_that_sends("").await;
        let most = Duration::from_secs(30);
        let within = async |request: &str, error: String| assert!(error.contains("within 100ms"), "{request}: {error}");
        within("get", outcome(tokio::time::timeout(most, dark.get("x")).await)).await;
        within("list", outcome(tokio::time::timeout(most, dark.list(&ListParams::default())).await)).await;
        let patch = Patch::Merge(serde_json::json!({}));
        within("patch", outcome(tokio::time::timeout(most, dark.patch("x", &PatchParams::default(), &patch)).await)).await;
        let watch = tokio::time::timeout(most, dark.watch(&WatchParams::default(), "0")).await;
        within("watch", outcome(watch.map(|watch| watch.map(drop)))).await;
    }

    #[tokio::test]
    async fn an_answer_that_does_not_end_is_given_up_and_a_watch_goes_on_for_longer() {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n{\"kind\":";
        let most = Duration::from_secs(30);
        let start = std::time::Instant::now();
        let half = server_that_sends(head).await;
        let error = outcome(tokio::time::timeout(most, half.list(&ListParams::default())).await);
        assert!(start.elapsed() >= Duration::from_millis(200) && start.elapsed() < most, "{error}");
        let start = std::time::Instant::now();
        let mut watch = half.watch(&WatchParams::default(), "0").await.unwrap().boxed();
        let ended = tokio::time::timeout(most, watch.next()).await.expect("it is given up");
        assert!(!matches!(ended, Some(Ok(_))) && start.elapsed() >= Duration::from_millis(400), "{ended:?}");
    }

    /// Of the connections to a port of this machine, how long the kernel waits before it probes the other end.
    #[cfg(target_os = "linux")]
    fn keepalives(port: u16) -> Vec<Duration> {
        // local, remote, state, queues, timer:when, ... (https://docs.kernel.org/networking/proc_net_tcp.html); 2 is keepalive, and
        // times are hundredths of a second.
        let text = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let ours = rows.filter(|row| row[2].ends_with(&format!(":{port:04X}")) && row[3] == "01");
        let timers = ours.filter_map(|row| row[5].split_once(':').filter(|(timer, _)| *timer == "02"));
        timers.map(|(_, when)| Duration::from_millis(10 * u64::from_str_radix(when, 16).unwrap())).collect()
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_other_end_of_a_silent_connection_is_probed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = Config::new(format!("http://{address}").parse().unwrap());
        let silent: Api<ConfigMap> = Api::default_namespaced(client(&config).unwrap());
        let call = tokio::spawn(async move { silent.get("x").await });
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0, "the request was sent, and its answer is awaited");
        let looks = async {
            loop {
                match keepalives(address.port()).as_slice() {
                    [first] => return *first,
                    _ => tokio::task::yield_now().await, // what it sent is acknowledged first
                }
            }
        };
        let first = tokio::time::timeout(Duration::from_secs(10), looks).await.expect("the kernel keeps it alive");
        assert!(first <= limits::TCP_KEEPALIVE, "{first:?}");
        call.abort();
    }
}
