//! TLS connections, taken one by one from handshakes that go on side by side. Knows nothing of what is said on them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring;
use tokio::io::{self, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::certs::Served;
use crate::limits;

/// Connections whose handshake is done. Those that are waiting end with the receiver.
pub struct Connections {
    shaken: mpsc::Receiver<Connection>,
    address: std::net::SocketAddr,
    accepting: tokio::task::JoinHandle<()>,
}

/// One of them; it gives its place back when it is dropped.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    _place: OwnedSemaphorePermit,
}

/// Accepts TLS connections with the certificate that is served at the time.
pub fn connections(listener: TcpListener, served: Arc<Served>) -> anyhow::Result<Connections> {
    let mut tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(served);
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let (sender, shaken) = mpsc::channel(1);
    let address = listener.local_addr()?;
    let accepting = tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(tls)), sender));
    Ok(Connections { shaken, address, accepting })
}

async fn accept(mut listener: TcpListener, tls: TlsAcceptor, shaken: mpsc::Sender<Connection>) {
    let places = Arc::new(Semaphore::new(limits::WEBHOOK_CONNECTIONS_MAX));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let (stream, _) = axum::serve::Listener::accept(&mut listener).await;
        let (tls, shaken) = (tls.clone(), shaken.clone());
        tokio::spawn(async move {
            let patience = Duration::from_secs(limits::HANDSHAKE_SECS_MAX);
            match tokio::time::timeout(patience, tls.accept(stream)).await {
                Ok(Ok(stream)) => _ = shaken.send(Connection { stream, _place: place }).await,
                Ok(Err(reason)) => tracing::debug!(%reason, "a TLS handshake with the webhook failed"),
                Err(_) => tracing::debug!("a TLS handshake with the webhook took too long"),
            }
        });
    }
}

impl axum::serve::Listener for Connections {
    type Io = Connection;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Connection, std::net::SocketAddr) {
        match self.shaken.recv().await {
            Some(connection) => (connection, self.address),
            None => std::future::pending().await, // the accepting task ends with this one only
        }
    }

    fn local_addr(&self) -> io::Result<std::net::SocketAddr> {
        Ok(self.address)
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(task, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(task, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}
