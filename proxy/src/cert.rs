//! The small certificate authority behind `seawall cert`: a folder, and nothing else.
//!
//! ```text
//!   DIR/ca.pem  ca-key.pem  crl.pem          the authority, and what it revoked
//!   DIR/server/{cert,key}.pem                for a `tls://` listener
//!   DIR/clients/NAME/{ca,cert,key}.pem       what DOCKER_CERT_PATH wants
//! ```
//!
//! Keys are ECDSA P-256: every docker CLI takes them, and a handshake costs an eighth of one with RSA-4096. Serial numbers
//! are 128 random bits. Each certificate is for one use (RFC 5280 §4.2.1.12): a server's cannot be a client's.

mod folder;
mod revocation;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use time::OffsetDateTime;

use crate::config::ClientName;
use crate::identity::{CertificateError, CertificateIdentity, Serial, UnixSeconds, is_dns_name, is_uri};
use folder::{Folder, Secrecy};
pub use revocation::Revocation;

/// How long an authority lasts.
pub const CA_LIFETIME: Duration = Duration::from_secs(3650 * DAY);
/// How long a server's certificate lasts when nobody says.
pub const SERVER_LIFETIME: Duration = Duration::from_secs(365 * DAY);
/// How long a client's certificate lasts when nobody says.
pub const CLIENT_LIFETIME: Duration = Duration::from_secs(30 * DAY);
/// How long a revocation list may be used. It is signed again whenever the authority signs anything.
pub const CRL_LIFETIME: Duration = Duration::from_secs(365 * DAY);
/// Certificates are valid from a little before now: clocks differ.
const CLOCK_SKEW: i64 = 300;
const DAY: u64 = 86_400;

/// Why the authority did not do it. Always the fault of who asked, or of the disk.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// `DIR` has an authority already; a second one would void every certificate of the first.
    #[error("`{}` is there already: an authority is never overwritten", .0.display())]
    AuthorityExists(PathBuf),
    /// The authority's own certificate has ended.
    #[error("the authority in `{}` has expired", .0.display())]
    AuthorityExpired(PathBuf),
    /// A certificate in the folder that cannot be read.
    #[error("cannot read the certificate `{}`", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: CertificateError,
    },
    /// The revocation list cannot be read; it is never started afresh, that would forgive everyone in it.
    #[error("cannot read the revocation list `{}`: {why}", path.display())]
    Crl {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Not a DNS name.
    #[error("`{0}` is not a DNS name")]
    Dns(String),
    /// Not a host for a server's certificate.
    #[error("`{0}` is neither a DNS name nor an IP address")]
    Host(String),
    /// A file or folder.
    #[error("cannot {what} `{}`", path.display())]
    Io {
        /// Which step.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// A life of no length, or one that no calendar has.
    #[error("a certificate cannot last `{0:?}`")]
    Lifetime(Duration),
    /// No authority in `DIR`.
    #[error("there is no authority in `{}`: `seawall cert init` makes one", .0.display())]
    NoAuthority(PathBuf),
    /// No random numbers.
    #[error("the system gave no random numbers")]
    Random,
    /// Not a serial number.
    #[error(transparent)]
    Serial(CertificateError),
    /// Signing failed.
    #[error("cannot sign")]
    Sign(#[from] rcgen::Error),
    /// Not a URI.
    #[error("`{0}` is not a plain URI: expected `scheme:…` in ASCII, without `..` and empty segments")]
    Uri(String),
}

/// A certificate that was made: where it is, and what it says.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The folder with `cert.pem` and `key.pem`.
    pub folder: PathBuf,
    /// What it proves to us.
    pub identity: CertificateIdentity,
}

/// The authority in a folder.
#[derive(Debug)]
pub struct Authority {
    folder: Folder,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateIdentity,
}

/// What a client's certificate is to say.
#[derive(Clone, Debug)]
pub struct ClientRequest {
    /// Its name, also the folder's.
    pub name: ClientName,
    /// Its URIs; with no DNS names either, it is `seawall:client/NAME`.
    pub uris: Vec<String>,
    /// Its DNS names.
    pub dns_names: Vec<String>,
    /// How long it lasts.
    pub ttl: Duration,
}

impl Authority {
    /// Makes an authority in `dir`: `ca.pem`, `ca-key.pem`, and a revocation list with nothing in it.
    ///
    /// # Errors
    /// There is one already, or the files cannot be written.
    pub fn init(dir: &Path, now: UnixSeconds) -> Result<Self, CertError> {
        let folder = Folder::create(dir)?;
        if let Some(there) = ["ca.pem", "ca-key.pem"].into_iter().map(|f| dir.join(f)).find(|path| path.exists()) {
            return Err(CertError::AuthorityExists(there));
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let serial = random_serial()?;
        let mut params = CertificateParams::default();
        // The serial in the name keeps two authorities apart: a revocation list is found by its issuer's name.
        params.distinguished_name = common_name(&format!("Seawall CA {serial}"));
        params.serial_number = Some(SerialNumber::from_slice(serial.as_bytes()));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = validity(now, CA_LIFETIME, None)?;
        let certificate = params.self_signed(&key)?;
        folder.create_new("ca-key.pem", &key.serialize_pem(), Secrecy::Private)?;
        folder.create_new("ca.pem", &certificate.pem(), Secrecy::Public)?;
        let authority = Self::of_folder(folder)?;
        authority.sign_crl(&[], now)?;
        Ok(authority)
    }

    /// The authority that is in `dir`. Only one process at a time has it open, so that no revocation is lost.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn open(dir: &Path) -> Result<Self, CertError> {
        if !dir.join("ca.pem").exists() {
            return Err(CertError::NoAuthority(dir.to_owned()));
        }
        Self::of_folder(Folder::open(dir)?)
    }

    fn of_folder(folder: Folder) -> Result<Self, CertError> {
        let certificate_pem = folder.read("ca.pem")?;
        let key = KeyPair::from_pem(&folder.read("ca-key.pem")?)?;
        let certificate = certificate(&folder.path().join("ca.pem"), &certificate_pem)?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key)?;
        Ok(Self { folder, issuer, certificate })
    }

    /// Makes `server/{cert,key}.pem` for these names and addresses; a former pair is replaced.
    ///
    /// # Errors
    /// A host that is neither a name nor an address, a life that cannot be, or the disk.
    pub fn server(&self, hosts: &[String], ttl: Duration, now: UnixSeconds) -> Result<Issued, CertError> {
        let mut params = CertificateParams::default();
        for host in hosts {
            params.subject_alt_names.push(match host.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) if is_dns_name(host) => SanType::DnsName(host.as_str().try_into()?),
                Err(_) => return Err(CertError::Host(host.clone())),
            });
        }
        params.distinguished_name = common_name(hosts.first().map_or("seawall", String::as_str));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params, Path::new("server"), ttl, now)
    }

    /// Makes `clients/NAME/{ca,cert,key}.pem`; a former certificate of that name stays valid until it ends or is revoked.
    ///
    /// # Errors
    /// A URI or DNS name that is not plain, a life that cannot be, or the disk.
    pub fn client(&self, request: &ClientRequest, now: UnixSeconds) -> Result<Issued, CertError> {
        let mut params = CertificateParams::default();
        let named = request.uris.is_empty() && request.dns_names.is_empty();
        let own = named.then(|| format!("seawall:client/{}", request.name));
        for uri in request.uris.iter().chain(&own) {
            let san = if is_uri(uri) {
                uri.as_str().try_into()?
            } else {
                return Err(CertError::Uri(uri.clone()));
            };
            params.subject_alt_names.push(SanType::URI(san));
        }
        for name in &request.dns_names {
            let san = if is_dns_name(name) {
                name.as_str().try_into()?
            } else {
                return Err(CertError::Dns(name.clone()));
            };
            params.subject_alt_names.push(SanType::DnsName(san));
        }
        params.distinguished_name = common_name(request.name.as_str());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let below = Path::new("clients").join(request.name.as_str());
        let issued = self.issue(params, &below, request.ttl, now)?;
        self.folder.replace(&below.join("ca.pem"), &self.folder.read("ca.pem")?, Secrecy::Public)?;
        Ok(issued)
    }

    fn issue(&self, mut params: CertificateParams, below: &Path, ttl: Duration, now: UnixSeconds) -> Result<Issued, CertError> {
        if now > self.certificate.not_after {
            return Err(CertError::AuthorityExpired(self.folder.path().to_owned()));
        }
        // What cannot be signed anew leaves what was issued before.
        let revoked = self.revoked()?;
        let serial = random_serial()?;
        params.serial_number = Some(SerialNumber::from_slice(serial.as_bytes()));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = validity(now, ttl, Some(self.certificate.not_after))?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let signed = params.signed_by(&key, &self.issuer)?;
        self.folder.create_below(below)?;
        self.folder.replace(&below.join("key.pem"), &key.serialize_pem(), Secrecy::Private)?;
        self.folder.replace(&below.join("cert.pem"), &signed.pem(), Secrecy::Public)?;
        self.sign_crl(&revoked, now)?;
        let folder = self.folder.path().join(below);
        let identity = identity(&folder.join("cert.pem"), signed.der())?;
        Ok(Issued { folder, identity })
    }

    /// The host that the server's certificate is for, to tell a client where to go; none when there is no certificate yet.
    #[must_use]
    pub fn server_host(&self) -> Option<String> {
        let pem = self.folder.read("server/cert.pem").ok()?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        folder::first_host(&der)
    }
}

/// What a PEM certificate in the folder says.
fn certificate(path: &Path, pem: &str) -> Result<CertificateIdentity, CertError> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|why| CertError::Certificate { path: path.to_owned(), source: CertificateError::Der(why.to_string()) })?;
    identity(path, &der)
}

fn identity(path: &Path, der: &[u8]) -> Result<CertificateIdentity, CertError> {
    CertificateIdentity::of_certificate(der).map_err(|source| CertError::Certificate { path: path.to_owned(), source })
}

fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

/// 128 random bits, positive and without a leading zero (RFC 5280 §4.1.2.2: at most 20 octets).
fn random_serial() -> Result<Serial, CertError> {
    let mut bytes = [0_u8; 16];
    let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_| CertError::Random)?;
    // The first bit clear keeps it positive, the second set keeps its length: 126 bits are left to chance.
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(Serial::from_der_bytes(&bytes))
}

/// From a little before `now`, for `ttl`, and no longer than the authority itself.
fn validity(now: UnixSeconds, ttl: Duration, end: Option<UnixSeconds>) -> Result<(OffsetDateTime, OffsetDateTime), CertError> {
    let impossible = || CertError::Lifetime(ttl);
    let seconds = i64::try_from(ttl.as_secs()).ok().filter(|seconds| *seconds > 0).ok_or_else(impossible)?;
    let last = now.0.checked_add(seconds).ok_or_else(impossible)?;
    let last = end.map_or(last, |end| last.min(end.0));
    let first = now.0.saturating_sub(CLOCK_SKEW);
    let moment = |at| OffsetDateTime::from_unix_timestamp(at).map_err(|_| impossible());
    Ok((moment(first)?, moment(last)?))
}

#[cfg(test)]
mod tests;
