//! The webhook's certificates: a long-lived authority, and short-lived certificates under it. Plain functions of the time; knows
//! no cluster and no connection.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, RwLock};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use time::{Duration, OffsetDateTime};

use atomix_model::limits;

/// What signs the webhook's certificates, as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Authority {
    /// Its certificate, which goes into the definition.
    pub certificate_pem: String,
    /// Its private key, PEM.
    pub key_pem: String,
    /// When its certificate ends, in seconds since 1970.
    pub expires: i64,
}

impl Authority {
    /// A new authority, good from a day ago, since clocks differ.
    pub fn new(now: OffsetDateTime) -> anyhow::Result<Self> {
        let key = KeyPair::generate().context("could not make the key of the webhook's authority")?;
        let expires = now + Duration::days(limits::AUTHORITY_DAYS);
        let mut params = authority_params();
        params.not_before = now - Duration::days(1);
        params.not_after = expires;
        let certificate = params.self_signed(&key).context("could not make the webhook's authority")?;
        Ok(Self { certificate_pem: certificate.pem(), key_pem: key.serialize_pem(), expires: expires.unix_timestamp() })
    }

    /// A new certificate for these DNS names and for 127.0.0.1. It is tried as a client would, so that an authority that was
    /// edited, or whose parts do not belong together, is an error here and not at the API server.
    pub fn certificate(&self, names: &[String], now: OffsetDateTime) -> anyhow::Result<CertifiedKey> {
        anyhow::ensure!(
            self.expires > (now + Duration::days(limits::AUTHORITY_DAYS_LEFT_MIN)).unix_timestamp(),
            "the webhook's authority ends within {} days",
            limits::AUTHORITY_DAYS_LEFT_MIN
        );
        let authority_key = KeyPair::from_pem(&self.key_pem).context("the key of the webhook's authority cannot be read")?;
        let key = KeyPair::generate().context("could not make the key of the webhook's certificate")?;
        let mut params = CertificateParams::new(names).context("the webhook's names make no certificate")?;
        params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        params.distinguished_name.push(DnType::CommonName, "atomix-controller webhook");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = now - Duration::days(1);
        params.not_after = now + Duration::hours(limits::CERTIFICATE_HOURS);
        let certificate = params
            .signed_by(&key, &Issuer::from_params(&authority_params(), &authority_key))
            .context("could not sign the webhook's certificate")?
            .der()
            .clone();
        self.accepts(&certificate, names, now)?;

        let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let private = ring::sign::any_supported_type(&private).context("the webhook's key cannot be used")?;
        Ok(CertifiedKey::new(vec![certificate], private))
    }

    fn accepts(&self, certificate: &CertificateDer<'_>, names: &[String], now: OffsetDateTime) -> anyhow::Result<()> {
        let authority = CertificateDer::from_pem_slice(self.certificate_pem.as_bytes())
            .context("the certificate of the webhook's authority cannot be read")?;
        let mut roots = RootCertStore::empty();
        roots.add(authority).context("the certificate of the webhook's authority is none")?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider())).build()?;
        let seconds = u64::try_from(now.unix_timestamp()).context("the clock stands before 1970")?;
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        for name in names {
            let server = ServerName::try_from(name.as_str()).with_context(|| format!("{name} is no DNS name"))?;
            verifier
                .verify_server_cert(certificate, &[], &server, &[], now)
                .context("the parts of the webhook's authority do not belong together")?;
        }
        Ok(())
    }
}

/// What an authority is beside its key and its dates: always the same, so that the certificate alone need not be read for it.
fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "atomix-controller webhook authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// The certificate that connections are answered with from now on. Empty until there is one: handshakes fail.
#[derive(Debug, Default)]
pub struct Served(RwLock<Option<Arc<CertifiedKey>>>);

impl Served {
    /// Answers new connections with this one; those that are open go on.
    pub fn replace(&self, certificate: CertifiedKey) {
        *self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Arc::new(certificate));
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn names() -> Vec<String> {
        vec!["atomix-controller.kube-system.svc".to_owned()]
    }

    #[test]
    fn an_authority_signs_for_the_service_and_for_loopback() {
        let now = OffsetDateTime::now_utc();
        let authority = Authority::new(now).unwrap();
        let certificate = authority.certificate(&names(), now).unwrap();
        authority.accepts(&certificate.cert[0], &["127.0.0.1".to_owned()], now).unwrap();
        assert!(authority.accepts(&certificate.cert[0], &["elsewhere.svc".to_owned()], now).is_err());
        let later = now + Duration::hours(limits::CERTIFICATE_HOURS + 1);
        assert!(authority.accepts(&certificate.cert[0], &names(), later).is_err(), "certificates live shortly");
        authority.certificate(&names(), later).unwrap();
    }

    #[test]
    fn an_authority_that_was_edited_or_is_old_signs_nothing() {
        let now = OffsetDateTime::now_utc();
        let authority = Authority::new(now).unwrap();
        let other = Authority::new(now).unwrap();
        let refused = |it: Authority| it.certificate(&names(), now).unwrap_err().to_string();
        assert_eq!(
            refused(Authority { key_pem: other.key_pem, ..authority.clone() }),
            "the parts of the webhook's authority do not belong together"
        );
        assert_eq!(
            refused(Authority { key_pem: String::new(), ..authority.clone() }),
            "the key of the webhook's authority cannot be read"
        );
        assert_eq!(
            refused(Authority { certificate_pem: "x".to_owned(), ..authority.clone() }),
            "the certificate of the webhook's authority cannot be read"
        );
        let old = now + Duration::days(limits::AUTHORITY_DAYS - 1);
        assert_eq!(
            authority.certificate(&names(), old).unwrap_err().to_string(),
            "the webhook's authority ends within 90 days"
        );
    }
}
