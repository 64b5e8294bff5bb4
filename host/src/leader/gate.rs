//! Keeps a replica that does not lead from writing: a layer around a client that lets reads through, and writes only while the
//! lease holds. Knows no resource.

use std::task::{Context, Poll};
use std::time::Instant;

use futures::TryFutureExt as _;
use futures::future::{Either, MapErr, Ready, ready};
use kube::client::retry::RetryPolicy;
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tower::buffer::BufferLayer;
use tower::retry::RetryLayer;
use tower::{BoxError, Layer, Service};

use super::Leading;
use crate::limits;

/// A write that was not begun, since this replica does not lead. It comes as [`kube::Error::Service`].
#[derive(Debug, thiserror::Error)]
#[error("not begun, since this replica does not lead (any more)")]
pub struct NotLeading;

/// The layer.
#[derive(Clone, Debug)]
pub struct Gate(pub Leading);

/// A service behind the gate.
#[derive(Clone, Debug)]
pub struct Gated<S> {
    inner: S,
    leading: Leading,
}

/// A client whose writes are begun only while `leading` says so: each try of each of them, also after a wait or when the API
/// server asked to try again. Watches and other reads always pass. Needs a runtime.
///
/// # Errors
/// The cluster's address or credentials cannot be used.
pub fn gated(mut config: Config, leading: Leading) -> kube::Result<Client> {
    config.default_retry = false; // it would be inside the gate
    let client = ClientBuilder::try_from(config)?
        .with_layer(&Gate(leading))
        .with_layer(&BufferLayer::new(limits::REQUESTS_WAITING))
        .with_layer(&RetryLayer::new(RetryPolicy::server_retry()));
    Ok(client.build())
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { inner, leading: self.0.clone() }
    }
}

impl<S> Service<http::Request<Body>> for Gated<S>
where
    S: Service<http::Request<Body>>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Either<MapErr<S::Future, fn(S::Error) -> BoxError>, Ready<Result<S::Response, BoxError>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.method() == http::Method::GET || self.leading.may_write(Instant::now()) {
            Either::Left(self.inner.call(request).map_err(Into::into))
        } else {
            Either::Right(ready(Err(NotLeading.into())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn answer(leading: &Leading, method: &str) -> Result<u16, String> {
        let echo = tower::service_fn(|_: http::Request<Body>| async {
            Ok::<_, std::io::Error>(http::Response::new(Body::from(b"{}".to_vec())))
        });
        let client = ClientBuilder::new(echo, "default").with_layer(&Gate(leading.clone())).build();
        let request = http::Request::builder().method(method).uri("/api").body(Body::empty()).unwrap();
        client.send(request).await.map(|answer| answer.status().as_u16()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn reads_pass_and_writes_pass_while_the_lease_holds() {
        let leading = Leading::default();
        let (now, minute) = (Instant::now(), Duration::from_secs(60));
        for (until, writes) in [(None, false), (Some(now + minute), true), (Some(now), false)] {
            leading.until(until);
            assert_eq!(answer(&leading, "GET").await, Ok(200));
            for method in ["POST", "PUT", "PATCH", "DELETE"] {
                match answer(&leading, method).await {
                    Ok(code) => assert!(writes && code == 200, "{method} {until:?}"),
                    Err(error) => assert!(!writes && error.contains("this replica does not lead"), "{error}"),
                }
            }
        }
    }
}
