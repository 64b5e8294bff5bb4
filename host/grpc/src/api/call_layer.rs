//! A tower layer for what every call has in common: it waits for the view after a start, is counted, is bounded by its
//! deadline, is refused when there are too many, and ends when the server does. Knows no service.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use parking_lot::Mutex;
use tokio::sync::watch;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::listen::Origin;
use super::methods::{Method, method};
use atomix_controller_io::connections::ActiveRequest;
use atomix_controller_io::metrics::Metrics;
use atomix_model::limits;

/// A tower layer around all services.
#[derive(Clone)]
pub(super) struct CallLayer {
    metrics: Arc<Metrics>,
    running: Arc<Running>,
    calls_max: usize,
    ready: watch::Receiver<bool>,
    stop: watch::Receiver<bool>,
}

impl CallLayer {
    pub(super) fn new(
        metrics: Arc<Metrics>,
        calls_max: usize,
        ready: watch::Receiver<bool>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self { metrics, running: Arc::default(), calls_max, ready, stop }
    }
}

impl<S> Layer<S> for CallLayer {
    type Service = CallService<S>;

    fn layer(&self, inner: S) -> CallService<S> {
        CallService { inner, layer: self.clone() }
    }
}

/// A service inside [`CallLayer`].
#[derive(Clone)]
pub(super) struct CallService<S> {
    inner: S,
    layer: CallLayer,
}

impl<S> Service<Request<Body>> for CallService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let ready_again = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready_again);
        let mut layer = self.layer.clone();
        let call = Call::begin(&layer, &request);
        if !is_grpc(request.headers()) {
            return Box::pin(std::future::ready(Ok(call.not_grpc())));
        }
        Box::pin(async move {
            if let Some(refused) = too_many(call.others, layer.calls_max) {
                return Ok(call.end(refused));
            }
            let deadline = call.deadline;
            let answer = async {
                if call.method.waits && !layer.ready().await {
                    return Err(Status::unavailable("the controller starts: what the cluster holds is not listed yet"));
                }
                let Ok(answer) = inner.call(request).await;
                Ok(answer)
            };
            let answer = match deadline {
                Some(deadline) => match tokio::time::timeout_at(deadline.into(), answer).await {
                    Ok(answer) => answer,
                    Err(_) => Err(late()),
                },
                None => answer.await,
            };
            Ok(match answer {
                Ok(answer) => call.answer(answer, layer.stop),
                Err(status) => call.end(status),
            })
        })
    }
}

impl CallLayer {
    /// Waits for a while until the view is filled.
    async fn ready(&mut self) -> bool {
        if *self.ready.borrow() {
            return true;
        }
        let filled = self.ready.wait_for(|ready| *ready);
        matches!(tokio::time::timeout(limits::GRPC_START_WAIT, filled).await, Ok(Ok(_)))
    }
}

/// A call while it goes on; it is counted when it ends, however it does.
struct Call {
    method: Method,
    started: Instant,
    deadline: Option<Instant>,
    metrics: Arc<Metrics>,
    running: Arc<Running>,
    /// IP address of the client, if it is known.
    from: Option<IpAddr>,
    /// How many were running when it came, of all clients and of this one.
    others: (usize, usize),
    /// Its connection answers as long as it goes on.
    _busy: Option<ActiveRequest>,
    code: Code,
}

impl Call {
    fn begin(layer: &CallLayer, request: &Request<Body>) -> Self {
        let started = Instant::now();
        let origin = request.extensions().get::<Origin>();
        let from = origin.map(|origin| origin.connection.peer());
        let timeout = request.headers().get("grpc-timeout").and_then(|timeout| timeout_of(timeout.to_str().ok()?));
        // A little early, or the server beneath would answer CANCELLED first.
        let deadline = timeout.map(|timeout| started + timeout.saturating_sub(Duration::from_millis(3)));
        Self {
            method: method(request.uri().path()),
            started,
            deadline,
            metrics: layer.metrics.clone(),
            running: layer.running.clone(),
            others: layer.running.begin(from),
            from,
            _busy: origin.map(|origin| origin.connection.begin_request()),
            code: Code::Cancelled, // unless the call ends otherwise before the client goes
        }
    }

    /// Ends the call with an error.
    fn end(mut self, status: Status) -> Response<Body> {
        self.code = status.code();
        status.into_http()
    }

    /// Answers what is no call of gRPC.
    fn not_grpc(mut self) -> Response<Body> {
        self.code = Code::Unknown; // as gRPC's clients read it
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        answer
    }

    /// Passes the answer on; the call ends when its body does.
    fn answer(mut self, answer: Response<Body>, stop: watch::Receiver<bool>) -> Response<Body> {
        let (mut parts, body) = answer.into_parts();
        if let Some(code) = code_of(&parts.headers) {
            self.code = match code {
                Code::OutOfRange if too_long(&parts.headers) => Code::ResourceExhausted, // as gRPC's other servers answer
                code => code,
            };
            if self.code != code {
                parts.headers.insert(Status::GRPC_STATUS, (self.code as i32).into());
            }
            return Response::from_parts(parts, body);
        }
        Response::from_parts(parts, Body::new(AnswerBody { inner: Some(body), call: self, stop, cut: None }))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.running.end(self.from);
        self.metrics.called(self.method.name, word(self.code), self.started.elapsed());
        tracing::debug!(method = self.method.name, code = word(self.code), took = ?self.started.elapsed(), "call");
    }
}

/// Calls that go on, of all clients and of each address.
#[derive(Default)]
struct Running(Mutex<(usize, HashMap<Option<IpAddr>, usize>)>);

impl Running {
    /// Counts a call that begins. Returns how many went on before, of all and of that address.
    fn begin(&self, from: Option<IpAddr>) -> (usize, usize) {
        let mut running = self.0.lock();
        let of_it = running.1.entry(from).or_default();
        *of_it += 1;
        let own = *of_it - 1;
        running.0 += 1;
        (running.0 - 1, own)
    }

    fn end(&self, from: Option<IpAddr>) {
        let mut running = self.0.lock();
        running.0 -= 1;
        if let Some(count) = running.1.get_mut(&from) {
            *count -= 1;
            if *count == 0 {
                running.1.remove(&from);
            }
        }
    }
}

/// Why one more call is not taken, when so many go on, of all clients and of its own.
fn too_many((all, own): (usize, usize), most: usize) -> Option<Status> {
    let of_one = most - most / limits::CALLS_LEFT_TO_OTHERS;
    if all >= most {
        return Some(Status::resource_exhausted(format!("{most} calls go on at a time, which is the limit")));
    }
    (own >= of_one).then(|| {
        Status::resource_exhausted(format!(
            "{of_one} calls from one address go on at a time, which is the limit; others are left room"
        ))
    })
}

/// The body of an answer: a message, or a stream of them.
struct AnswerBody {
    inner: Option<Body>,
    call: Call,
    stop: watch::Receiver<bool>,
    /// Comes when the answer is cut off; made once there is something to wait for, which a single message never has.
    cut: Option<BoxFuture<'static, Status>>,
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = Pin::new(inner).poll_frame(context) {
            if let Some(code) = frame.as_ref().and_then(|it| it.as_ref().ok()?.trailers_ref()).and_then(code_of) {
                this.call.code = code;
            }
            return Poll::Ready(frame);
        }
        let cut = this.cut.get_or_insert_with(|| Box::pin(cut(this.call.deadline, this.stop.clone())));
        let Poll::Ready(status) = cut.as_mut().poll(context) else { return Poll::Pending };
        this.inner = None; // what the stream held is given back
        this.call.code = status.code();
        let mut trailers = HeaderMap::new();
        Poll::Ready(Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(http_body::Body::is_end_stream)
    }
}

/// Waits for the deadline of a call, or for the end of the server, and returns which it was.
async fn cut(deadline: Option<Instant>, mut stop: watch::Receiver<bool>) -> Status {
    let stopped = async { _ = stop.wait_for(|stop| *stop).await };
    if let Some(deadline) = deadline {
        if tokio::time::timeout_at(deadline.into(), stopped).await.is_err() {
            return late();
        }
    } else {
        stopped.await;
    }
    Status::unavailable("this replica of the controller stops: go on with another")
}

/// Whether a request is one of gRPC (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>: any other is answered with 415).
fn is_grpc(headers: &HeaderMap) -> bool {
    let rest = headers.get(CONTENT_TYPE).and_then(|content_type| content_type.as_bytes().strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

fn late() -> Status {
    Status::deadline_exceeded("the call's deadline has passed")
}

fn code_of(headers: &HeaderMap) -> Option<Code> {
    Some(Code::from_bytes(headers.get(Status::GRPC_STATUS)?.as_bytes()))
}

/// Whether it is the size of the request that is out of range.
fn too_long(headers: &HeaderMap) -> bool {
    let message = headers.get(Status::GRPC_MESSAGE).and_then(|message| message.to_str().ok());
    message.is_some_and(|message| {
        message.contains("message%20length%20too%20large") || message.contains("message length too large")
    })
}

/// The value of `grpc-timeout`: at most 8 digits and a unit
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
fn timeout_of(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let value: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

/// The name of a status code in gRPC's specification, a label of metrics.
fn word(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        for (text, millis) in [("5S", Some(5000)), ("20m", Some(20)), ("1H", Some(3_600_000)), ("99999999n", Some(99))] {
            assert_eq!(timeout_of(text).map(|timeout| timeout.as_millis()), millis, "{text}");
        }
        for bad in ["", "S", "5", "5s", "-5S", "999999999S", "5é", "é"] {
            assert_eq!(timeout_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn one_address_leaves_room_to_others_and_nothing_is_kept_of_one_that_went() {
        let running = Running::default();
        let address = |last: u8| Some(IpAddr::from([10, 0, 0, last]));
        let taken = |last| (0..20).filter(|_| too_many(running.begin(address(last)), 16).is_none()).count();
        assert_eq!(taken(1), 12, "three quarters");
        (0..8).for_each(|_| running.end(address(1))); // those that were refused
        assert_eq!(taken(2), 4, "and the rest is left to others");
        (0..12).for_each(|_| running.end(address(1)));
        (0..20).for_each(|_| running.end(address(2)));
        assert_eq!((&*running.0.lock()), &(0, HashMap::new()));
        assert!(too_many((2, 2), 3).is_none(), "where few are taken, one may have them all");
    }

    #[test]
    fn only_grpc_is_taken_for_grpc() {
        let of = |content_type: &'static str| {
            is_grpc(&HeaderMap::from_iter([(CONTENT_TYPE, http::HeaderValue::from_static(content_type))]))
        };
        for content_type in ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"] {
            assert!(of(content_type), "{content_type}");
        }
        for content_type in ["", "application/json", "application/grpc-web", "application/grpcx", "text/plain"] {
            assert!(!of(content_type), "{content_type}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }
}
