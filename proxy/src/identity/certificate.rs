//! A verified leaf certificate ▶ [`CertificateIdentity`].

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::pattern::{is_dns_name, is_uri};
use super::{CertificateIdentity, SpkiPin};

/// Seconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct UnixSeconds(pub i64);

impl UnixSeconds {
    /// The time now. A clock before 1970 is read as 1970, when no certificate is valid yet.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    }
}

/// A certificate's serial number, without leading zeros (RFC 5280 §4.1.2.2), shown as hexadecimal.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Serial(Vec<u8>);

impl Serial {
    /// From the content octets of the DER INTEGER.
    #[must_use]
    pub fn from_der_bytes(bytes: &[u8]) -> Self {
        let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
        Self(bytes.get(start..).unwrap_or_default().to_vec())
    }

    /// Its bytes, most significant first.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::str::FromStr for Serial {
    type Err = CertificateError;

    /// Hexadecimal, with or without the `:` that openssl writes.
    fn from_str(text: &str) -> Result<Self, CertificateError> {
        let digits: String = text.chars().filter(|c| *c != ':').collect();
        let digits = if digits.len().is_multiple_of(2) { digits } else { format!("0{digits}") };
        match super::pattern::from_hex(&digits) {
            Some(bytes) if (1..=20).contains(&bytes.len()) => Ok(Self::from_der_bytes(&bytes)),
            _ => Err(CertificateError::Serial(text.chars().take(80).collect())),
        }
    }
}

/// Why a certificate that chains to the CA still proves nothing to us.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CertificateError {
    /// Not an X.509 certificate.
    #[error("the client's certificate cannot be read: {0}")]
    Der(String),
    /// A name in it that readers could take for different things: control characters, `..`, a wildcard.
    #[error("the client's certificate names `{0}`, which is not a plain URI or DNS name")]
    Name(String),
    /// Not a serial number.
    #[error("`{0}` is not a serial number: expected up to 40 hexadecimal digits")]
    Serial(String),
}

impl CertificateIdentity {
    /// What a leaf certificate says. **The caller has verified it**: chain, validity, usage and revocation.
    ///
    /// # Errors
    /// A certificate that cannot be read, or any URI or DNS name in it that is not plain: control characters, NUL (the
    /// `good\0.evil` of CVE-2009-2408), non-ASCII, dot segments, wildcards. A certificate with one such name is refused whole.
    pub fn of_certificate(der: &[u8]) -> Result<Self, CertificateError> {
        let unreadable = |why: &dyn fmt::Display| CertificateError::Der(why.to_string());
        let (_, certificate) = X509Certificate::from_der(der).map_err(|why| unreadable(&why))?;
        let alternatives = certificate.subject_alternative_name().map_err(|why| unreadable(&why))?;
        let mut uris = Vec::new();
        let mut dns_names = Vec::new();
        for name in alternatives.iter().flat_map(|extension| &extension.value.general_names) {
            #[expect(clippy::wildcard_enum_match_arm, reason = "addresses, e-mail and directory names identify nobody here")]
            match name {
                GeneralName::URI(uri) if is_uri(uri) => uris.push((*uri).to_owned()),
                GeneralName::DNSName(dns) if is_dns_name(dns) => dns_names.push(dns.to_ascii_lowercase()),
                GeneralName::URI(bad) | GeneralName::DNSName(bad) => return Err(bad_name(bad)),
                GeneralName::Invalid(..) => return Err(bad_name("a name that cannot be read")),
                _ => {}
            }
        }
        for names in [&mut uris, &mut dns_names] {
            names.sort();
            names.dedup();
        }
        let validity = certificate.validity();
        Ok(Self {
            uris,
            dns_names,
            spki: SpkiPin(Sha256::digest(certificate.public_key().raw).into()),
            serial: Serial::from_der_bytes(certificate.raw_serial()),
            issuer: certificate.issuer().as_raw().to_vec(),
            not_before: UnixSeconds(validity.not_before.timestamp()),
            not_after: UnixSeconds(validity.not_after.timestamp()),
        })
    }
}

fn bad_name(name: &str) -> CertificateError {
    // Escaped: it goes into a record, and it is not ours.
    CertificateError::Name(name.chars().take(200).collect::<String>().escape_debug().to_string())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn with_names(names: &[SanType]) -> Result<CertificateIdentity, CertificateError> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.to_vec();
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        CertificateIdentity::of_certificate(certificate.der())
    }

    #[test]
    fn a_certificate_with_a_name_that_is_not_plain_is_refused_whole() {
        let uri = |text: &str| SanType::URI(text.try_into().unwrap());
        let dns = |text: &str| SanType::DnsName(text.try_into().unwrap());
        let good = uri("spiffe://example.org/ci/a");
        for bad in [
            uri("spiffe://example.org/ci/a\0.evil"),
            uri("spiffe://example.org/ci/a\nb"),
            uri("spiffe://example.org/ci/../admin"),
            uri("spiffe://example.org/ci/%2E%2e/admin"),
            uri("spiffe://example.org//admin"),
            uri("no-scheme"),
            uri(""),
            dns("ops.example.org\0.evil.test"),
            dns("*.example.org"),
            dns("ops.example.org "),
        ] {
            let found = with_names(&[good.clone(), bad.clone()]);
            assert!(matches!(found, Err(CertificateError::Name(_))), "{bad:?}: {found:?}");
        }
        let names = [good, dns("OPS.example.org"), SanType::Rfc822Name("a@example.org".try_into().unwrap())];
        let found = with_names(&names).unwrap();
        assert_eq!(found.uris, ["spiffe://example.org/ci/a"]);
        assert_eq!(found.dns_names, ["ops.example.org"]);
    }

    #[test]
    fn a_common_name_is_nobody() {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "ops.example.org");
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let found = CertificateIdentity::of_certificate(certificate.der()).unwrap();
        assert_eq!((found.uris, found.dns_names), (vec![], vec![]));
    }

    #[test]
    fn what_is_not_a_certificate_is_refused() {
        for bytes in [&b""[..], b"\x30", b"\x30\x82\xff\xff", &[0; 64]] {
            assert!(matches!(CertificateIdentity::of_certificate(bytes), Err(CertificateError::Der(_))));
        }
    }

    #[test]
    fn reads_serials_as_people_copy_them() {
        for (text, expected) in
            [("0a0b", Some("0a0b")), ("0A:0B", Some("0a0b")), ("a0b", Some("0a0b")), ("0000ff", Some("ff")), ("", None), ("xyz", None)]
        {
            assert_eq!(text.parse::<Serial>().ok().map(|s| s.to_string()).as_deref(), expected, "{text}");
        }
    }
}
