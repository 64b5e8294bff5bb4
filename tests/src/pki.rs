//! Keys and certificates of a control plane, and kubeconfigs made of them. Knows no process.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::json;

/// The certificate authority of one control plane. The server has a certificate of its own: Rust's TLS refuses a server whose
/// certificate is also the authority's.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes one; its certificate goes into `dir` as ca.crt.
    pub fn new(dir: &Path) -> Result<Authority> {
        fs::create_dir_all(dir).with_context(|| format!("could not make {}", dir.display()))?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, "atomix-cluster-ca");
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        write(&dir.join("ca.crt"), &pem)?;
        Ok(Authority { dir: dir.to_owned(), pem, issuer: Issuer::new(params, key) })
    }

    /// The authority's certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Path of the authority's certificate.
    pub fn certificate(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// Writes NAME.crt and NAME.key for a server with these names and addresses.
    pub fn server(&self, name: &str, alt_names: &[&str]) -> Result<()> {
        let alt_names: Vec<String> = alt_names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(alt_names)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let (certificate, key) = self.sign(params)?;
        write(&self.dir.join(format!("{name}.crt")), &certificate)?;
        write(&self.dir.join(format!("{name}.key")), &key)
    }

    /// A certificate and key for a client: the API server takes `user` as its name and `group` as its group.
    pub fn client(&self, user: &str, group: Option<&str>) -> Result<Credential> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let (certificate, key) = self.sign(params)?;
        Ok(Credential::Certificate { user: user.to_owned(), certificate, key })
    }

    /// A certificate and key, PEM, for servers of these names that are also each other's clients, as members of a cluster are.
    pub fn members(&self, alt_names: &[&str]) -> Result<(String, String)> {
        let alt_names: Vec<String> = alt_names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(alt_names)?;
        params.distinguished_name.push(DnType::CommonName, "members");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    /// Writes NAME.key, a key to sign service-account tokens with, and NAME.pub, its public half.
    pub fn signing_key(&self, name: &str) -> Result<()> {
        let key = KeyPair::generate()?;
        write(&self.dir.join(format!("{name}.key")), &key.serialize_pem())?;
        write(&self.dir.join(format!("{name}.pub")), &key.public_key_pem())
    }

    fn sign(&self, mut params: CertificateParams) -> Result<(String, String)> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

/// How a client authenticates.
#[derive(Clone, Debug)]
pub enum Credential {
    /// By a certificate.
    Certificate {
        /// Its name.
        user: String,
        /// PEM.
        certificate: String,
        /// PEM.
        key: String,
    },
    /// By a token in a file, read again when it changes.
    TokenFile(PathBuf),
}

/// A kubeconfig for the API server at `server`, as text (JSON, which is YAML).
pub fn kubeconfig(server: &str, authority: &str, credential: &Credential) -> String {
    let (name, user) = match credential {
        Credential::Certificate { user, certificate, key } => (
            user.as_str(),
            json!({"client-certificate-data": base64(certificate.as_bytes()), "client-key-data": base64(key.as_bytes())}),
        ),
        Credential::TokenFile(path) => ("token", json!({"tokenFile": path})),
    };
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "atomix", "cluster": {"server": server, "certificate-authority-data": base64(authority.as_bytes())}}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "atomix", "context": {"cluster": "atomix", "user": name}}],
        "current-context": "atomix",
    });
    format!("{config:#}\n")
}

/// Writes a file that only its owner may read, whole or not at all.
pub fn write(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let fresh = path.with_extension("new");
    let failed = || format!("could not write {}", path.display());
    let mut file =
        fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&fresh).with_context(failed)?;
    file.write_all(text.as_bytes()).with_context(failed)?;
    fs::rename(&fresh, path).with_context(failed)
}

/// Standard base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    let text = serde_json::to_value(k8s_openapi::ByteString(bytes.to_vec())).expect("bytes are always base64");
    text.as_str().expect("a ByteString is a string").to_owned()
}

/// The bytes behind standard base64.
pub fn from_base64(text: &str) -> Result<Vec<u8>> {
    let bytes: k8s_openapi::ByteString = serde_json::from_value(text.into()).context("not base64")?;
    Ok(bytes.0)
}
