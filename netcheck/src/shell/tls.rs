//! The engine behind TLS 1.3: its certificate by an authority that we name, and ours by one that it knows.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::{Error as PemError, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::file::{self, FileError};

/// Files of certificates. What is not named is in `DOCKER_CERT_PATH`, or `~/.docker`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files {
    /// The authority of the engine's certificate.
    pub(crate) ca: Option<PathBuf>,
    /// Our certificate.
    pub(crate) certificate: Option<PathBuf>,
    /// Its key.
    pub(crate) key: Option<PathBuf>,
}

/// Why TLS cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// A file is not PEM, or has nothing of the kind in it.
    #[error("there is no {what} in {}: {source}", path.display())]
    File {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: PemError,
    },
    /// The host is neither a name nor an address.
    #[error("no certificate can name the host `{0}`")]
    Name(String),
    /// A file cannot be read.
    #[error("the {what}: {source}")]
    Unreadable {
        /// What it is.
        what: &'static str,
        /// Which file, and why.
        #[source]
        source: FileError,
    },
    /// The certificates do not go together.
    #[error("the certificates cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

/// Where the engine is, and everything that a handshake with it needs.
#[derive(Clone)]
pub(crate) struct Tls {
    /// Its host.
    pub(crate) host: String,
    /// Its port.
    pub(crate) port: u16,
    name: ServerName<'static>,
    connector: tokio_rustls::TlsConnector,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tls://{}:{}", self.host, self.port)
    }
}

impl Tls {
    /// Reads the certificates.
    pub(crate) fn new(host: &str, port: u16, files: &Files) -> Result<Self, TlsError> {
        let path = |named: &Option<PathBuf>, usual: &str| named.clone().unwrap_or_else(|| directory().join(usual));
        let mut roots = RootCertStore::empty();
        for ca in certificates(&path(&files.ca, "ca.pem"), "authority (--tlscacert)")? {
            roots.add(ca)?;
        }
        let certificate = certificates(&path(&files.certificate, "cert.pem"), "certificate (--tlscert)")?;
        let (key, what) = (path(&files.key, "key.pem"), "private key (--tlskey)");
        let key = PrivateKeyDer::from_pem_slice(&content(&key, what)?).map_err(|source| TlsError::File { what, path: key, source })?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(certificate, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Name(host.to_owned()))?;
        Ok(Self { host: host.to_owned(), port, name, connector: Arc::new(config).into() })
    }

    /// Shakes hands.
    pub(crate) async fn handshake(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        self.connector.connect(self.name.clone(), stream).await
    }
}

/// Where `docker` looks for certificates.
fn directory() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("DOCKER_CERT_PATH").or_else(|| Some(set("HOME")?.join(".docker"))).unwrap_or_default()
}

fn certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |source| TlsError::File { what, path: path.to_owned(), source };
    let found: Vec<_> = CertificateDer::pem_slice_iter(&content(path, what)?).collect::<Result<_, _>>().map_err(wrong)?;
    if found.is_empty() { Err(wrong(PemError::NoItemsFound)) } else { Ok(found) }
}

fn content(path: &Path, what: &'static str) -> Result<Vec<u8>, TlsError> {
    file::read(path, file::CERTIFICATES).map_err(|source| TlsError::Unreadable { what, source })
}
