//! The authority's revocation list (RFC 5280 §5).

use std::path::Path;

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject as _;
use time::OffsetDateTime;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use super::folder::Secrecy;
use super::{Authority, CRL_LIFETIME, CertError, validity};
use crate::identity::{Serial, UnixSeconds};

/// What a list says of one certificate.
#[derive(Clone, Debug)]
pub(super) struct Revoked {
    serial: Serial,
    at: UnixSeconds,
}

/// What [`Authority::revoke`] did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Revocation {
    /// It was in the list already; the list is signed anew all the same.
    Already,
    /// It is in the list now.
    Done,
}

impl Authority {
    /// Puts a certificate into `crl.pem`, by its serial number, and signs the list anew.
    ///
    /// A proxy that reads this list refuses the certificate at once, and closes its open connections.
    ///
    /// # Errors
    /// The list cannot be read or written. It is never started afresh.
    pub fn revoke(&self, serial: &Serial, now: UnixSeconds) -> Result<Revocation, CertError> {
        let mut revoked = self.revoked()?;
        let already = revoked.iter().any(|entry| entry.serial == *serial);
        if !already {
            revoked.push(Revoked { serial: serial.clone(), at: now });
        }
        self.sign_crl(&revoked, now)?;
        Ok(if already { Revocation::Already } else { Revocation::Done })
    }

    /// What the list has.
    pub(super) fn revoked(&self) -> Result<Vec<Revoked>, CertError> {
        let broken = |why: String| CertError::Crl { path: self.folder.path().join("crl.pem"), why };
        let der = CertificateRevocationListDer::from_pem_slice(self.folder.read("crl.pem")?.as_bytes()).map_err(|why| broken(why.to_string()))?;
        let (_, list) = CertificateRevocationList::from_der(&der).map_err(|why| broken(why.to_string()))?;
        Ok(list
            .iter_revoked_certificates()
            .map(|entry| Revoked { serial: Serial::from_der_bytes(entry.raw_serial()), at: UnixSeconds(entry.revocation_date.timestamp()) })
            .collect())
    }

    pub(super) fn sign_crl(&self, revoked: &[Revoked], now: UnixSeconds) -> Result<(), CertError> {
        let (this_update, next_update) = validity(now, CRL_LIFETIME, None)?;
        let params = CertificateRevocationListParams {
            this_update,
            next_update,
            // RFC 5280 §5.2.3 asks for a number that grows; the time does, and needs no state.
            crl_number: SerialNumber::from_slice(&now.0.max(1).to_be_bytes()),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect::<Result<_, _>>()?,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let pem = params.signed_by(&self.issuer)?.pem()?;
        self.folder.replace(Path::new("crl.pem"), &pem, Secrecy::Public)
    }
}

fn entry(revoked: &Revoked) -> Result<RevokedCertParams, CertError> {
    let at = OffsetDateTime::from_unix_timestamp(revoked.at.0);
    Ok(RevokedCertParams {
        serial_number: SerialNumber::from_slice(revoked.serial.as_bytes()),
        revocation_time: at.map_err(|_| CertError::Lifetime(CRL_LIFETIME))?,
        // RFC 5280 §5.3.1: the reason should be absent rather than "unspecified".
        reason_code: None,
        invalidity_date: None,
    })
}
