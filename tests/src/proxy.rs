//! A proxy between a controller and its API server, in which a test decides what becomes of each request, answer and event of a
//! watch. Knows no kind.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures::channel::mpsc;
use futures::{SinkExt as _, StreamExt as _};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use kube::client::Body;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::controlplane::ControlPlane;

mod watch_events;

pub use watch_events::EventFate;

/// Most bytes of a request's body: the API server takes no more.
const REQUEST_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Most lists of which the past is kept: more than a controller watches kinds.
const LISTS_MAX: usize = 256;

/// What is withheld.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Withheld {
    /// Plurals whose watches bring nothing: what they would have brought comes once they are let through again.
    pub watches: Vec<&'static str>,
    /// Plurals whose other requests are never answered. They stay so, as on a connection whose other end is gone; later ones
    /// are answered.
    pub requests: Vec<&'static str>,
}

/// What a request asks for, by its method and path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // its fields explain themselves
pub struct Asked {
    pub method: http::Method,
    /// Plural of the kind; empty for other paths.
    pub plural: String,
    /// Namespace, name and sub-resource; each empty if there is none.
    pub namespace: String,
    pub name: String,
    pub subresource: String,
    pub watches: bool,
    /// Whether it is a dry run.
    pub dry_run: bool,
}

impl Asked {
    /// Whether it asks for a change.
    pub fn writes(&self) -> bool {
        !self.dry_run && !matches!(self.method, http::Method::GET | http::Method::HEAD)
    }
}

/// What becomes of a request, or of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is passed on.
    Pass,
    /// It is passed on after so long.
    Late(Duration),
    /// The connection ends instead.
    Cut,
    /// The client waits for ever.
    Dark,
    /// The client is answered with this status and `Retry-After: 1` instead.
    Refuse(StatusCode),
}

/// What a test does to what passes through.
pub trait Interference: Send + Sync {
    /// Before a request reaches the API server.
    fn request(&self, _: &Asked) -> Fate {
        Fate::Pass
    }
    /// When the API server has answered, before the client gets it.
    fn answer(&self, _: &Asked, _: StatusCode) -> Fate {
        Fate::Pass
    }
    /// For each event of a watch.
    fn event(&self, _: &Asked) -> EventFate {
        EventFate::Pass
    }
}

/// Lets everything pass.
struct Nothing;

impl Interference for Nothing {}

/// A proxy on 127.0.0.1. It ends when it is dropped.
pub struct Proxy {
    address: String,
    withheld: watch::Sender<Withheld>,
    ended: watch::Sender<()>,
    shared: Arc<Shared>,
    admin: kube::Client,
    accepting: tokio::task::JoinHandle<()>,
}

/// What the connections share.
struct Shared {
    server: kube::Client,
    inside: TlsAcceptor,
    withheld: watch::Receiver<Withheld>,
    ended: watch::Receiver<()>,
    waiting: AtomicUsize,
    interference: Mutex<Arc<dyn Interference>>,
    /// By path with query, and what the client accepts: what was remembered of it.
    lists: Mutex<BTreeMap<(String, String), Option<Bytes>>>,
    serves_past: AtomicBool,
}

type Answer = Response<UnsyncBoxBody<Bytes, kube::Error>>;

impl Proxy {
    /// Starts a proxy before the API server of a control plane, under a certificate of its authority.
    pub async fn start(plane: &ControlPlane) -> Result<Proxy> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let authority = plane.authority();
        let name = format!("proxy-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        authority.server(&name, &["127.0.0.1"])?;
        let file = |end: &str| authority.certificate().with_file_name(format!("{name}.{end}"));
        let certificate = CertificateDer::from_pem_slice(&fs::read(file("crt"))?)?;
        let key = PrivateKeyDer::from_pem_slice(&fs::read(file("key"))?)?;
        let inside = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key)?;
        // The client's own token passes through; the proxy has none.
        let mut config = kube::Config::new(plane.server().parse().context("the API server's address")?);
        config.root_cert = Some(vec![CertificateDer::from_pem_slice(authority.pem().as_bytes())?.to_vec()]);
        (config.read_timeout, config.write_timeout, config.default_retry) = (None, None, false);
        let server = kube::Client::try_from(config).context("could not make the proxy's client")?;

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no port for the proxy")?;
        let address = format!("https://{}", listener.local_addr()?);
        let (withheld, seen) = watch::channel(Withheld::default());
        let (ended, end) = watch::channel(());
        let shared = Arc::new(Shared {
            server,
            inside: Arc::new(inside).into(),
            withheld: seen,
            ended: end,
            waiting: AtomicUsize::new(0),
            interference: Mutex::new(Arc::new(Nothing)),
            lists: Mutex::default(),
            serves_past: AtomicBool::new(false),
        });
        let on_connections = shared.clone();
        let accepting = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new(); // they end with this task
            while let Ok((stream, _)) = listener.accept().await {
                while open.try_join_next().is_some() {} // those that have ended
                open.spawn(on_connections.clone().serve(stream));
            }
        });
        Ok(Proxy { address, withheld, ended, shared, admin: plane.client().await?, accepting })
    }

    /// Where it answers, e.g. `https://127.0.0.1:1234`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// How many requests came that will never be answered.
    pub fn unanswered(&self) -> usize {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    /// Withholds this from now on, and nothing else.
    pub fn withhold(&self, withheld: Withheld) {
        self.withheld.send_replace(withheld);
    }

    /// Ends the connections of all watches: watchers go on from where they were.
    pub fn end_watches(&self) {
        self.ended.send_replace(());
    }

    /// Does this to what passes from now on, and nothing else.
    pub fn interfere(&self, interference: Arc<dyn Interference>) {
        *locked(&self.shared.interference) = interference;
    }

    /// Lets everything pass again.
    pub fn pass_everything(&self) {
        self.interfere(Arc::new(Nothing));
    }

    /// Remembers the answers at this moment to the lists that were requested until now.
    pub async fn remember_lists(&self) -> Result<()> {
        let asked: Vec<_> = locked(&self.shared.lists).keys().cloned().collect();
        for (path, accepted) in asked {
            let request = Request::get(&path).header(header::ACCEPT, &accepted).body(Body::empty())?;
            let answer = self.admin.send(request).await?;
            let body = answer.status().is_success().then_some(answer.into_body());
            let bytes = match body {
                Some(body) => Some(body.collect().await?.to_bytes()),
                None => None, // of a kind that is not served now
            };
            locked(&self.shared.lists).insert((path, accepted), bytes);
        }
        Ok(())
    }

    /// Answers each list that was remembered as it was then, once. The watch that goes on from there brings what has happened since.
    pub fn serve_past_lists(&self) {
        self.shared.serves_past.store(true, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let Ok(stream) = self.inside.accept(stream).await else { return };
        let shared = &self;
        let service = hyper::service::service_fn(|request| async move { shared.pass(request).await });
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    /// Passes on one request and its answer. An error ends the connection.
    async fn pass(&self, request: Request<Incoming>) -> Result<Answer> {
        let asked = asked(&request);
        let interference = locked(&self.interference).clone();
        if !asked.watches && self.withheld.borrow().requests.iter().any(|withheld| *withheld == asked.plural) {
            self.dark().await;
        }
        if let Some(answer) = self.fate(interference.request(&asked)).await? {
            return Ok(answer);
        }
        if let Some(answer) = self.past(&asked, &request) {
            return Ok(answer);
        }
        let (mut parts, body) = request.into_parts();
        let body =
            http_body_util::Limited::new(body, REQUEST_BYTES_MAX).collect().await.map_err(anyhow::Error::from_boxed)?;
        parts.headers.remove(header::HOST);
        let answer = self.server.send(Request::from_parts(parts, Body::from(body.to_bytes().to_vec()))).await?;
        if let Some(other) = self.fate(interference.answer(&asked, answer.status())).await? {
            return Ok(other);
        }
        if asked.watches && answer.status().is_success() {
            return Ok(self.watch(asked, answer));
        }
        Ok(answer.map(|body| body.boxed_unsync()))
    }

    /// What the client gets instead, if its request or answer is not to be passed on.
    async fn fate(&self, fate: Fate) -> Result<Option<Answer>> {
        match fate {
            Fate::Pass => Ok(None),
            Fate::Late(time) => {
                tokio::time::sleep(time).await;
                Ok(None)
            }
            Fate::Cut => bail!("cut"),
            Fate::Dark => Ok(Some(self.dark().await)),
            Fate::Refuse(status) => {
                let reason = match status {
                    StatusCode::CONFLICT => "Conflict",
                    StatusCode::GONE => "Expired",
                    StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
                    _ => "InternalError",
                };
                let body = serde_json::json!({
                    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "the test has it so",
                    "reason": reason, "code": status.as_u16(),
                });
                Ok(Some(json(status, body.to_string().into_bytes().into())))
            }
        }
    }

    async fn dark(&self) -> Answer {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        std::future::pending().await
    }

    /// The answer to a list as it was, if that is to be served.
    fn past(&self, asked: &Asked, request: &Request<Incoming>) -> Option<Answer> {
        let path = request.uri().path_and_query()?.as_str();
        let is_list =
            !asked.watches && asked.method == http::Method::GET && !asked.plural.is_empty() && asked.name.is_empty();
        if !is_list || path.contains("continue=") {
            return None;
        }
        let accepted = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (mut lists, key) = (locked(&self.lists), (path.to_owned(), accepted.to_owned()));
        if lists.len() >= LISTS_MAX && !lists.contains_key(&key) {
            return None;
        }
        let remembered = lists.entry(key).or_default();
        let bytes = self.serves_past.load(Ordering::Relaxed).then(|| remembered.take())??;
        Some(json(StatusCode::OK, bytes))
    }

    /// Passes on the events of a watch as they come, when they are let through.
    fn watch(&self, asked: Asked, answer: Response<Body>) -> Answer {
        let (head, body) = answer.into_parts();
        let (mut sender, events) = mpsc::channel::<Bytes>(0);
        let (mut withheld, mut ended) = (self.withheld.clone(), self.ended.clone());
        ended.mark_unchanged();
        let interference = locked(&self.interference).clone();
        tokio::spawn(async move {
            let mut lines = watch_events::Lines::new(body);
            loop {
                let events = tokio::select! {
                    events = lines.next(|| interference.event(&asked)) => events,
                    _ = ended.changed() => None,
                };
                let Some(events) = events else { return };
                let _ = withheld.wait_for(|withheld| !withheld.watches.contains(&asked.plural.as_str())).await;
                for event in events {
                    if sender.send(event).await.is_err() {
                        return; // the client has gone
                    }
                }
            }
        });
        Response::from_parts(head, StreamBody::new(events.map(|bytes| Ok(Frame::data(bytes)))).boxed_unsync())
    }
}

fn json(status: StatusCode, bytes: Bytes) -> Answer {
    let body = Full::new(bytes).map_err(|never: Infallible| match never {}).boxed_unsync();
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    if !status.is_success() {
        answer.headers_mut().insert(header::RETRY_AFTER, http::HeaderValue::from_static("1"));
    }
    answer
}

fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a request asks for.
fn asked<B>(request: &Request<B>) -> Asked {
    // /api/v1/..., /apis/GROUP/VERSION/..., each with namespaces/NAMESPACE/ or without, then PLURAL/NAME/SUBRESOURCE.
    let mut parts = request.uri().path().trim_start_matches('/').split('/');
    let skipped = match parts.next() {
        Some("api") => 1,
        Some("apis") => 2,
        _ => return Asked { method: request.method().clone(), ..Asked::default() },
    };
    let mut parts: Vec<&str> = parts.skip(skipped).collect();
    let mut namespace = String::new();
    if parts.first() == Some(&"namespaces") && parts.len() > 2 {
        parts[1].clone_into(&mut namespace);
        parts.drain(..2);
    }
    let part = |at: usize| parts.get(at).copied().unwrap_or_default().to_owned();
    let query = request.uri().query().unwrap_or_default();
    let watches = query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1"));
    let dry_run = query.split('&').any(|pair| pair.starts_with("dryRun="));
    Asked {
        method: request.method().clone(),
        plural: part(0),
        namespace,
        name: part(1),
        subresource: part(2),
        watches,
        dry_run,
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::asked;

    #[test]
    fn a_request_is_recognised_by_its_path() {
        let asks = |target: &str| {
            let it = asked(&Request::get(target).body(()).unwrap());
            format!("{} {} {} {} {}", it.plural, it.namespace, it.name, it.subresource, it.watches)
        };
        assert_eq!(asks("/apis/cloud.atomix.io/v1beta3/databases?watch=true&resourceVersion=1"), "databases    true");
        let status = "/apis/cloud.atomix.io/v1beta3/namespaces/n/databases/db/status?x=1";
        assert_eq!(asks(status), "databases n db status false");
        assert_eq!(asks("/api/v1/namespaces/n/services/db-1"), "services n db-1  false");
        assert_eq!(asks("/api/v1/namespaces/n"), "namespaces  n  false");
        assert_eq!(asks("/version"), "    false");
    }
}
