//! Keeps a replica that does not lead from writing: a layer around a client that lets reads through, and writes only while the
//! lease holds. Knows no resource.

use futures::future::{BoxFuture, FutureExt as _, TryFutureExt as _};
use kube::client::Body;
use kube::{Client, Config};
use std::task::{Context, Poll};
use tower::{BoxError, Layer, Service};

use super::{Leadership, Moment};
use crate::api_client::{self, Timeouts};

/// A write that was not begun, or whose answer is no longer awaited, since this replica does not lead. It comes as
/// [`kube::Error::Service`].
#[derive(Debug, thiserror::Error)]
#[error("given up, since this replica does not lead (any more)")]
pub struct NotLeading;

/// A tower layer that refuses writes while this replica does not lead.
#[derive(Clone, Debug)]
pub struct Fence(pub Leadership);

/// A service to which [`Fence`] lets writes through only while this replica leads.
#[derive(Clone, Debug)]
pub struct Fenced<S> {
    inner: S,
    leading: Leadership,
}

/// A client whose writes are begun only while `leading` holds: each try of each of them, also after a wait or when the API
/// server asked to try again. Watches and other reads always pass. Needs a runtime.
///
/// # Errors
/// The cluster's address or credentials cannot be used.
pub fn fenced_client(config: &Config, leading: Leadership) -> kube::Result<Client> {
    api_client::client_with(config, Fence(leading), Timeouts::default())
}

impl<S> Layer<S> for Fence {
    type Service = Fenced<S>;

    fn layer(&self, inner: S) -> Fenced<S> {
        Fenced { inner, leading: self.0.clone() }
    }
}

impl<S> Service<http::Request<Body>> for Fenced<S>
where
    S: Service<http::Request<Body>>,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
    S::Error: Into<BoxError> + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.method() == http::Method::GET {
            return self.inner.call(request).map_err(Into::into).boxed();
        }
        if !self.leading.may_write(Moment::now()) {
            return std::future::ready(Err(NotLeading.into())).boxed();
        }
        let (answer, leading) = (self.inner.call(request).map_err(Into::into), self.leading.clone());
        async move {
            let answer = tokio::select! {
                biased; // one that still waits for its connection is not to go out
                () = leading.runs_out() => Err(NotLeading.into()),
                answer = answer => answer,
            };
            leading.wrote(Moment::now());
            answer
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::client::ClientBuilder;
    use std::sync::Arc;
    use std::time::Duration;

    async fn answer(leading: &Leadership, method: &str) -> Result<u16, String> {
        let echo = tower::service_fn(|_: http::Request<Body>| async {
            Ok::<_, std::io::Error>(http::Response::new(Body::from(b"{}".to_vec())))
        });
        let client = ClientBuilder::new(echo, "default").with_layer(&Fence(leading.clone())).build();
        let request = http::Request::builder().method(method).uri("/api").body(Body::empty()).unwrap();
        client.send(request).await.map(|answer| answer.status().as_u16()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_write_that_hangs_is_given_up_when_the_lease_has_run_out_and_a_renewal_gives_it_time() {
        let begun = Arc::new(tokio::sync::Notify::new());
        let begins = begun.clone();
        let hangs = tower::service_fn(move |_: http::Request<Body>| {
            begins.notify_one();
            std::future::pending::<Result<http::Response<Body>, BoxError>>()
        });
        let (leading, start) = (Leadership::default(), Moment::now());
        let client = ClientBuilder::new(hangs, "default").with_layer(&Fence(leading.clone())).build();
        leading.until(Some(start + Duration::from_millis(50)));
        let request = http::Request::builder().method("PATCH").uri("/api").body(Body::empty()).unwrap();
        let write = tokio::spawn(async move { client.send(request).await.map(drop) });
        begun.notified().await;
        let renewed = start + Duration::from_millis(200);
        leading.until(Some(renewed));
        let error = write.await.unwrap().unwrap_err().to_string();
        assert!(Moment::now() >= renewed && error.contains("does not lead"), "{error}");
    }

    #[tokio::test]
    async fn reads_pass_and_writes_pass_while_the_lease_holds() {
        let leading = Leadership::default();
        let (now, minute) = (Moment::now(), Duration::from_secs(60));
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
