//! Connections of clients: in the clear, or with a certificate that is read again when its files change. Knows nothing of what is said
//! on them.

use std::io::IoSlice;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use futures::Stream;
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{self, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::limits;

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
pub(super) struct Connections(mpsc::Receiver<io::Result<Connection>>);

/// One of them.
pub(super) enum Connection {
    Clear(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Accepts connections.
///
/// # Errors
/// A certificate's file cannot be read or does not fit; the message names it.
pub(super) fn connections(listener: TcpListener, tls: Option<Tls>) -> anyhow::Result<Connections> {
    let mut served = tls.map(Served::read).transpose()?;
    let (sender, taken) = mpsc::channel(1);
    tokio::spawn(async move {
        let shaking = Arc::new(Semaphore::new(limits::GRPC_HANDSHAKES_MAX));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = sender.closed() => return,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(limits::GRPC_ACCEPT_PAUSE).await;
                continue;
            };
            let _ = stream.set_nodelay(true);
            let Some(served) = &mut served else {
                _ = sender.send(Ok(Connection::Clear(stream))).await;
                continue;
            };
            let (acceptor, sender) = (served.acceptor(), sender.clone());
            let Ok(place) = shaking.clone().acquire_owned().await else { return };
            tokio::spawn(async move {
                let _place = place;
                let patience = Duration::from_secs(limits::HANDSHAKE_SECS_MAX);
                match tokio::time::timeout(patience, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => _ = sender.send(Ok(Connection::Tls(Box::new(stream)))).await,
                    Ok(Err(reason)) => tracing::debug!(%reason, "a TLS handshake of a gRPC client failed"),
                    Err(_) => tracing::debug!("a TLS handshake of a gRPC client took too long"),
                }
            });
        }
    });
    Ok(Connections(taken))
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
    Some(request.extensions().get::<TcpConnectInfo>()?.remote_addr()?.ip())
}

impl Stream for Connections {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        match self {
            Connection::Clear(stream) => stream.connect_info(),
            Connection::Tls(stream) => stream.get_ref().0.connect_info(),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Clear(stream) => Pin::new(stream).poll_read(task, buffer),
            Connection::Tls(stream) => Pin::new(stream).poll_read(task, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Connection::Clear(stream) => Pin::new(stream).poll_write(task, bytes),
            Connection::Tls(stream) => Pin::new(stream).poll_write(task, bytes),
        }
    }

    // Without these two, each frame of an answer would take two writes: its head and its bytes.
    fn poll_write_vectored(self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Connection::Clear(stream) => Pin::new(stream).poll_write_vectored(task, bytes),
            Connection::Tls(stream) => Pin::new(stream).poll_write_vectored(task, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Connection::Clear(stream) => stream.is_write_vectored(),
            Connection::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Clear(stream) => Pin::new(stream).poll_flush(task),
            Connection::Tls(stream) => Pin::new(stream).poll_flush(task),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Clear(stream) => Pin::new(stream).poll_shutdown(task),
            Connection::Tls(stream) => Pin::new(stream).poll_shutdown(task),
        }
    }
}
