//! Connections of clients: in the clear, or with a certificate that is read again when its files change. Knows nothing of
//! what is sent over them.

use std::io::IoSlice;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use anyhow::Context as _;
use futures::Stream;
use rustix::process::{Resource, getrlimit};
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{self, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use atomix_controller_io::connections::{BoundedStream, Connection, ConnectionLimits, Listener};
use atomix_controller_io::tasks;
use atomix_model::limits;

/// Files of a certificate.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Certificate chain, PEM.
    pub certificate: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
    /// Authorities of which clients must have a certificate, PEM; without them any client is served.
    pub client_authorities: Option<PathBuf>,
}

/// Connections, taken one by one from handshakes that go on side by side.
pub(super) struct ClientStreams(mpsc::Receiver<io::Result<ClientStream>>);

/// A connection of a client, in the clear or with TLS.
pub(super) struct ClientStream(BoundedStream<Transport>);

/// What a connection is made of.
enum Transport {
    Clear(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The connection that a call came in by, as tonic hands it to services.
#[derive(Clone)]
pub(super) struct Origin {
    /// Its connection, which has the address.
    pub connection: Connection,
}

/// What the connections of clients may use.
fn connection_limits() -> ConnectionLimits {
    let files = getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX);
    ConnectionLimits {
        total: limits::GRPC_CONNECTIONS_MAX.min(files / 2),
        per_peer: limits::GRPC_CONNECTIONS_PER_PEER_MAX.min(files / 4),
        opening: limits::HANDSHAKE_MAX,
        opening_bytes: limits::HTTP2_PREFACE_BYTES,
        head: None,
        idle: None, // pings find clients that are gone
    }
}

/// Accepts connections of clients, and does their TLS handshakes side by side.
///
/// # Errors
/// A certificate's file cannot be read or does not fit; the message names it.
pub(super) fn accept(listener: TcpListener, tls: Option<Tls>) -> anyhow::Result<ClientStreams> {
    let mut served = tls.map(Served::read).transpose()?;
    let (sender, taken) = mpsc::channel(1);
    let listener = Listener::new(listener, connection_limits());
    tasks::vital("gRPC connections", async move {
        loop {
            let (stream, _, permit) = tokio::select! {
                accepted = listener.next() => accepted,
                () = sender.closed() => return,
            };
            let Some(served) = &mut served else {
                _ = sender.send(Ok(ClientStream(BoundedStream::new(Transport::Clear(stream), permit)))).await;
                continue;
            };
            let (acceptor, sender) = (served.acceptor(), sender.clone());
            tokio::spawn(async move {
                tokio::select! {
                    accepted = acceptor.accept(stream) => match accepted {
                        Ok(stream) => {
                            let stream = BoundedStream::new(Transport::Tls(Box::new(stream)), permit);
                            _ = sender.send(Ok(ClientStream(stream))).await;
                        }
                        Err(reason) => tracing::debug!(%reason, "a TLS handshake of a gRPC client failed"),
                    },
                    () = permit.opening_ended() => tracing::debug!("a TLS handshake of a gRPC client took too long"),
                }
            });
        }
    });
    Ok(ClientStreams(taken))
}

/// A certificate as it was read last.
struct Served {
    tls: Tls,
    stamps: Vec<Option<SystemTime>>,
    acceptor: TlsAcceptor,
}

impl Served {
    fn read(tls: Tls) -> anyhow::Result<Self> {
        let (stamps, acceptor) = (tls.stamps(), tls.acceptor()?);
        Ok(Self { tls, stamps, acceptor })
    }

    /// The acceptor for the next connection. New files are taken in once they fit together.
    fn acceptor(&mut self) -> TlsAcceptor {
        let stamps = self.tls.stamps();
        if stamps != self.stamps {
            match self.tls.acceptor() {
                Ok(acceptor) => {
                    tracing::info!(certificate = %self.tls.certificate.display(), "certificate read again");
                    (self.stamps, self.acceptor) = (stamps, acceptor);
                }
                Err(error) => tracing::warn!(
                    error = format!("{error:#}"),
                    "the certificate changed and does not fit; the last one is served"
                ),
            }
        }
        self.acceptor.clone()
    }
}

impl Tls {
    fn stamps(&self) -> Vec<Option<SystemTime>> {
        let files = [Some(&self.certificate), Some(&self.key), self.client_authorities.as_ref()].into_iter().flatten();
        files.map(|file| std::fs::metadata(file).and_then(|meta| meta.modified()).ok()).collect()
    }

    fn acceptor(&self) -> anyhow::Result<TlsAcceptor> {
        let certificates = |file: &PathBuf| -> anyhow::Result<Vec<CertificateDer<'static>>> {
            let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
            read.with_context(|| format!("could not read certificates from {}", file.display()))
        };
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .with_context(|| format!("could not read a private key from {}", self.key.display()))?;
        let provider = Arc::new(ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let builder = match &self.client_authorities {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(file)? {
                    roots.add(authority).with_context(|| format!("{} holds no authority", file.display()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.with_context(|| format!("{} cannot be used", file.display()))?)
            }
        };
        let mut config = builder
            .with_single_cert(certificates(&self.certificate)?, key)
            .with_context(|| format!("{} and {} do not fit together", self.certificate.display(), self.key.display()))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// Address of the client of a call.
pub(super) fn remote<T>(request: &tonic::Request<T>) -> Option<IpAddr> {
    Some(request.extensions().get::<Origin>()?.connection.peer())
}

impl Stream for ClientStreams {
    type Item = io::Result<ClientStream>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

impl Connected for ClientStream {
    type ConnectInfo = Origin;

    fn connect_info(&self) -> Origin {
        Origin { connection: self.0.connection() }
    }
}

/// Hands everything on to the field, or to what `match` answers.
macro_rules! delegate {
    ($type:ty, $($pattern:pat => $inner:expr),+) => {
        impl AsyncRead for $type {
            fn poll_read(self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() { $($pattern => Pin::new($inner).poll_read(task, buffer),)+ }
            }
        }

        impl AsyncWrite for $type {
            fn poll_write(self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
                match self.get_mut() { $($pattern => Pin::new($inner).poll_write(task, bytes),)+ }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                task: &mut Context<'_>,
                bytes: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() { $($pattern => Pin::new($inner).poll_write_vectored(task, bytes),)+ }
            }

            fn is_write_vectored(&self) -> bool {
                match self { $($pattern => $inner.is_write_vectored(),)+ }
            }

            fn poll_flush(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() { $($pattern => Pin::new($inner).poll_flush(task),)+ }
            }

            fn poll_shutdown(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() { $($pattern => Pin::new($inner).poll_shutdown(task),)+ }
            }
        }
    };
}

delegate!(Transport, Transport::Clear(it) => it, Transport::Tls(it) => it);
delegate!(ClientStream, ClientStream(it) => it);
