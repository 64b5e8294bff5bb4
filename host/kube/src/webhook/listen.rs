//! TLS connections, taken one by one from handshakes that go on side by side. Knows nothing of what is sent over them.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::certs::Served;
use atomix_controller_io::connections::{BoundedStream, ConnectionLimits, Listener, PreparedConnections};
use atomix_controller_io::tasks;
use atomix_model::limits;

/// What the connections to the webhook may use.
const CONNECTION_LIMITS: ConnectionLimits = ConnectionLimits {
    total: limits::WEBHOOK_CONNECTIONS_MAX,
    per_peer: limits::WEBHOOK_CONNECTIONS_PER_PEER_MAX,
    opening: limits::HANDSHAKE_MAX,
    opening_bytes: 0,
    head: Some(limits::HTTP_HEAD_MAX),
    idle: Some(limits::HTTP_IDLE_MAX),
};

/// A connection whose TLS handshake is done.
type Connection = BoundedStream<TlsStream<TcpStream>>;

/// Accepts TLS connections with the certificate that is served at the time.
pub fn prepare(listener: TcpListener, served: Arc<Served>) -> anyhow::Result<PreparedConnections<TlsStream<TcpStream>>> {
    let mut tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(served);
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let (sender, ready) = mpsc::channel(1);
    let address = listener.local_addr()?;
    let accepting = accept(Listener::new(listener, CONNECTION_LIMITS), TlsAcceptor::from(Arc::new(tls)), sender);
    let preparing = tasks::vital("webhook connections", accepting);
    Ok(PreparedConnections { ready, address, preparing })
}

async fn accept(listener: Listener, tls: TlsAcceptor, shaken: mpsc::Sender<Connection>) {
    loop {
        let (stream, _, permit) = listener.next().await;
        let (tls, shaken) = (tls.clone(), shaken.clone());
        tokio::spawn(async move {
            tokio::select! {
                accepted = tls.accept(stream) => match accepted {
                    Ok(stream) => _ = shaken.send(BoundedStream::new(stream, permit)).await,
                    Err(reason) => tracing::debug!(%reason, "a TLS handshake with the webhook failed"),
                },
                () = permit.opening_ended() => tracing::debug!("a TLS handshake with the webhook took too long"),
            }
        });
    }
}
