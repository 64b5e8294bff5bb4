//! Connections to every server of this process: how many there may be, of one peer and of all, and how long each may stay
//! silent. Knows no protocol: a server reports when a request begins and ends.
//!
//! A new connection is accepted whenever that is possible: when there are too many, the peer with the most loses the one
//! that has been silent for longest. So a peer that only opens connections displaces its own, and never keeps out an API
//! server, a kubelet or a client elsewhere.

mod stream;
mod table;

pub use stream::BoundedStream;
pub use table::{ActiveRequest, Connection, ConnectionTable, Permit};

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use atomix_model::limits;

/// What the connections to one server may use.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Most connections at a time, of all peers together.
    pub total: usize,
    /// Most connections of one address at a time.
    pub per_peer: usize,
    /// Longest from being accepted until the protocol can begin: a TLS handshake, and `opening_bytes` read.
    pub opening: Duration,
    /// How many bytes a client has to send before its connection counts as open.
    pub opening_bytes: usize,
    /// Longest from the first byte of a request until the server reports that it has begun: the time for its headers. None
    /// for a protocol whose server does not report it.
    pub head: Option<Duration>,
    /// Longest between two requests. None for a protocol that finds dead connections by itself.
    pub idle: Option<Duration>,
}

/// A listener that bounds its connections.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    table: ConnectionTable,
}

impl Listener {
    /// Makes a listener that accepts within these limits.
    pub fn new(tcp: TcpListener, limits: ConnectionLimits) -> Listener {
        Listener { tcp, table: ConnectionTable::new(limits) }
    }

    /// The next connection that there is a place for, with that place. What cannot be accepted is tried again after a pause.
    pub async fn next(&self) -> (TcpStream, SocketAddr, Permit) {
        loop {
            let Ok((stream, address)) = self.tcp.accept().await else {
                tokio::time::sleep(limits::ACCEPT_PAUSE).await;
                continue;
            };
            let _ = stream.set_nodelay(true);
            if let Some(permit) = self.table.admit(address.ip()) {
                return (stream, address, permit);
            }
        }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The operating system cannot name the address.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

impl axum::serve::Listener for Listener {
    type Io = BoundedStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        let (stream, address, permit) = self.next().await;
        (BoundedStream::new(stream, permit), address)
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// The connection that a request came in by, for its handler.
#[derive(Clone, Debug)]
pub struct Origin(pub Connection);

impl Connected<IncomingStream<'_, Listener>> for Origin {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Origin {
        Origin(stream.io().connection())
    }
}

/// Connections that a task of its own makes ready, e.g. by a TLS handshake; the task ends with this.
#[allow(missing_docs)] // its fields explain themselves
pub struct PreparedConnections<S> {
    /// Connections whose handshake is done.
    pub ready: mpsc::Receiver<BoundedStream<S>>,
    /// Where it listens.
    pub address: SocketAddr,
    pub preparing: JoinHandle<()>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> axum::serve::Listener for PreparedConnections<S> {
    type Io = BoundedStream<S>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        match self.ready.recv().await {
            Some(connection) => (connection, self.address),
            None => std::future::pending().await, // the task ends with this only
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Connected<IncomingStream<'_, PreparedConnections<S>>> for Origin {
    fn connect_info(stream: IncomingStream<'_, PreparedConnections<S>>) -> Origin {
        Origin(stream.io().connection())
    }
}

impl<S> Drop for PreparedConnections<S> {
    fn drop(&mut self) {
        self.preparing.abort();
    }
}

/// Routes whose requests count as such on their connection, and are given up after `within`.
pub fn with_request_timeout(routes: axum::Router, within: Duration) -> axum::Router {
    use axum::extract::{ConnectInfo, Request};
    use axum::http::StatusCode;
    use axum::middleware::{Next, from_fn};
    use axum::response::{IntoResponse as _, Response};

    async fn count(
        within: Duration,
        ConnectInfo(Origin(connection)): ConnectInfo<Origin>,
        request: Request,
        next: Next,
    ) -> Response {
        let _busy = connection.begin_request();
        match tokio::time::timeout(within, next.run(request)).await {
            Ok(answer) => answer,
            Err(_) => (StatusCode::REQUEST_TIMEOUT, format!("the request took longer than {within:?}\n")).into_response(),
        }
    }
    routes.layer(from_fn(move |origin: ConnectInfo<Origin>, request: Request, next: Next| {
        count(within, origin, request, next)
    }))
}

#[cfg(test)]
mod tests;
