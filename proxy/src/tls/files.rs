//! PEM files ▶ certificates, key, revocation lists.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustls::server::VerifierBuilderError;
use rustls_pki_types::pem::{Error as PemError, PemObject};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::config::TlsFiles;
use crate::identity::UnixSeconds;

/// Why a listener or a connection to an engine cannot have TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate is no pair with the key, or cannot be used.
    #[error("the certificate and its key cannot be used")]
    Certificate(#[source] rustls::Error),
    /// A certificate in `client_ca` that is no authority's.
    #[error("`client_ca` cannot be used")]
    ClientCa(#[source] rustls::Error),
    /// Nothing of the kind in a file.
    #[error("there is no {what} in `{}`", path.display())]
    Empty {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// A certificate in the engine's `ca` that is no authority's.
    #[error("the engine's `ca` cannot be used")]
    EngineCa(#[source] rustls::Error),
    /// The engine's host is neither a DNS name nor an address.
    #[error("no certificate can name the engine's host `{0}`")]
    EngineName(String),
    /// Our own certificate has ended: every client would refuse it.
    #[error("the certificate in `{}` has expired", .0.display())]
    Expired(PathBuf),
    /// The work was cut off because the process stops.
    #[error("reading the certificates was cut off")]
    Interrupted,
    /// A file that is not PEM.
    #[error("`{}` is not PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: PemError,
    },
    /// A file that cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The authorities and the revocation lists do not make a verifier.
    #[error("`client_ca` and `client_crl` cannot be used")]
    Verifier(#[source] VerifierBuilderError),
}

/// The content of a listener's files.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) certificate: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) client_ca: Vec<CertificateDer<'static>>,
    pub(super) client_crl: Option<Vec<CertificateRevocationListDer<'static>>>,
    pub(super) stamp: Stamp,
}

/// Which state of the files it is: where each is, how long it is and when it was written, to the nanosecond. `None` for one
/// that is not there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Stamp(Vec<Option<[i64; 5]>>);

impl Stamp {
    pub(super) fn of(files: &TlsFiles) -> Self {
        let of = |path: &PathBuf| {
            let meta = fs::metadata(path).ok()?;
            let number = |n: u64| i64::from_ne_bytes(n.to_ne_bytes());
            Some([number(meta.dev()), number(meta.ino()), number(meta.size()), meta.mtime(), meta.mtime_nsec()])
        };
        let TlsFiles { certificate, key, client_ca, client_crl } = files;
        Self([certificate, key, client_ca].into_iter().chain(client_crl).map(of).collect())
    }
}

impl Loaded {
    pub(super) fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        // Taken first: a file that changes while we read is seen as changed afterwards.
        let stamp = Stamp::of(files);
        let (certificate, key) = pair(&files.certificate, &files.key)?;
        check_end(&files.certificate, certificate.first())?;
        let client_ca = certificates(&files.client_ca)?;
        let lists = |path: &PathBuf| sections(path, "revocation list");
        let client_crl = files.client_crl.as_ref().map(lists).transpose()?;
        Ok(Self { certificate, key, client_ca, client_crl, stamp })
    }
}

/// A certificate with its chain, and its key.
pub(super) fn pair(certificate: &Path, key: &Path) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    warn_when_open(key);
    let mut keys = sections::<PrivateKeyDer<'static>>(key, "private key")?;
    let first = keys.drain(..).next();
    let key = first.ok_or_else(|| TlsError::Empty { what: "private key", path: key.to_owned() })?;
    Ok((certificates(certificate)?, key))
}

pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    sections(path, "certificate")
}

fn sections<T: PemObject>(path: &Path, what: &'static str) -> Result<Vec<T>, TlsError> {
    let bytes = fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })?;
    let found: Vec<T> = T::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(|source| TlsError::Pem { path: path.to_owned(), source })?;
    if found.is_empty() { Err(TlsError::Empty { what, path: path.to_owned() }) } else { Ok(found) }
}

/// A key that more than its owner and group may read, or others than its owner may write, is hardly a secret: say so.
fn warn_when_open(key: &Path) {
    let Ok(meta) = fs::metadata(key) else { return };
    if meta.mode() & 0o037 != 0 {
        let mode = format!("{:04o}", meta.mode() & 0o7777);
        tracing::warn!(key = %key.display(), mode, "others can use this private key: `chmod 600` it");
    }
}

/// Our own certificate must not have ended; two weeks before, the log says it will.
fn check_end(path: &Path, leaf: Option<&CertificateDer<'static>>) -> Result<(), TlsError> {
    let Some((_, certificate)) = leaf.and_then(|leaf| X509Certificate::from_der(leaf).ok()) else {
        // rustls says what is wrong with it when it is used.
        return Ok(());
    };
    let left = certificate.validity().not_after.timestamp().saturating_sub(UnixSeconds::now().0);
    if left < 0 {
        return Err(TlsError::Expired(path.to_owned()));
    }
    if left < SOON {
        tracing::warn!(certificate = %path.display(), days = left / 86_400, "the certificate ends soon");
    }
    Ok(())
}

/// Two weeks, in seconds.
const SOON: i64 = 14 * 86_400;
