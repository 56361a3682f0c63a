//! What the verified certificate or the socket peer proves, and which configured client that is.
//!
//! An [`Identity`] is made from a certificate that the TLS handshake verified, or from the credentials that the kernel
//! recorded when a peer connected. Nothing a client *says* — a header, a common name, a process id — is any part of it.

mod certificate;
mod matching;
mod pattern;

use std::fmt;

use sha2::{Digest as _, Sha256};

pub use certificate::{CertificateError, Serial, UnixSeconds};
pub use matching::{MatchError, Matcher, match_client};
pub use pattern::{DnsPattern, PatternError, SpkiPin, UriPattern};
pub(crate) use pattern::{is_dns_name, is_uri};

use crate::config::Tenant;

/// What is proven about a client. One connection has one identity, for as long as it lives.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Identity {
    /// The holder of the private key of a certificate that chains to the listener's `client_ca`.
    Certificate(CertificateIdentity),
    /// The process that connected to a unix socket.
    Peer(PeerIdentity),
}

/// What a client's certificate says. The common name is not here on purpose: RFC 6125 §2.3 deprecates it, and CAs let
/// holders choose it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateIdentity {
    /// Its URIs, in order, without doubles (RFC 5280 §4.2.1.6, `uniformResourceIdentifier`).
    pub uris: Vec<String>,
    /// Its DNS names in lower case, in order, without doubles (RFC 5280 §4.2.1.6, `dNSName`).
    pub dns_names: Vec<String>,
    /// SHA-256 of its public key.
    pub spki: SpkiPin,
    /// Its serial number: with the issuer, what a revocation list speaks of.
    pub serial: Serial,
    /// Its issuer's name, DER (RFC 5280 §4.1.2.4).
    pub issuer: Vec<u8>,
    /// The first second in which it is valid.
    pub not_before: UnixSeconds,
    /// The last second in which it is valid (RFC 5280 §4.1.2.5: inclusive).
    pub not_after: UnixSeconds,
}

/// What the kernel recorded at `connect(2)` (unix(7), `SO_PEERCRED`).
///
/// A user that our user namespace does not map appears as 65534: several real users can then share one identity.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PeerIdentity {
    /// The effective user.
    pub uid: u32,
    /// The effective group. Supplementary groups are not recorded.
    pub gid: u32,
    /// The process, for the reader of a record only: numbers are used again, so it proves nothing.
    pub pid: Option<i32>,
}

impl Identity {
    /// Whether the proof holds at `now`: a certificate within its validity, a peer always.
    ///
    /// The handshake has checked it once; a connection can outlive it, so every request asks again.
    #[must_use]
    pub fn valid_at(&self, now: UnixSeconds) -> bool {
        match self {
            Self::Certificate(certificate) => (certificate.not_before..=certificate.not_after).contains(&now),
            Self::Peer(_) => true,
        }
    }

    /// The tenant of a client whose configuration names none: the same for a renewed certificate, different for everyone
    /// else.
    ///
    /// `uid:UID` for a peer. For a certificate `cert:NAME:HASH`: NAME is the end of its first URI or DNS name, for people;
    /// HASH is the first 160 bits of SHA-256 over all its URIs and DNS names, each with its kind and length, so that no two
    /// sets have one text. A certificate without names is its key. The `:` keeps all of these apart from chosen tenants.
    #[must_use]
    pub fn tenant(&self) -> Tenant {
        match self {
            Self::Certificate(certificate) => certificate.tenant(),
            Self::Peer(peer) => Tenant::derived("uid", peer.uid),
        }
    }
}

impl CertificateIdentity {
    fn tenant(&self) -> Tenant {
        let mut hash = Sha256::new();
        let mut feed = |kind: u8, bytes: &[u8]| {
            hash.update([kind]);
            hash.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(bytes);
        };
        self.uris.iter().for_each(|uri| feed(b'u', uri.as_bytes()));
        self.dns_names.iter().for_each(|name| feed(b'd', name.as_bytes()));
        if self.uris.is_empty() && self.dns_names.is_empty() {
            feed(b'k', &self.spki.0);
        }
        let digest: String = hash.finalize().iter().take(20).map(|byte| format!("{byte:02x}")).collect();
        match self.readable_name() {
            Some(name) => Tenant::derived("cert", format_args!("{name}:{digest}")),
            None => Tenant::derived("cert", digest),
        }
    }

    /// The last segment of the first URI, or the first label of the first DNS name, as far as it is plain.
    fn readable_name(&self) -> Option<String> {
        let last = |uri: &String| uri.rsplit(['/', ':']).next().map(str::to_owned);
        let first = |name: &String| name.split('.').next().map(str::to_owned);
        let name = self.uris.first().and_then(last).or_else(|| self.dns_names.first().and_then(first))?;
        let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let name: String = name.chars().filter(plain).take(32).collect();
        (!name.is_empty()).then_some(name)
    }
}

/// For people: the first URI, DNS name or pin; or `uid 1000`.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(certificate) => match certificate.uris.first().or_else(|| certificate.dns_names.first()) {
                Some(name) => f.write_str(name),
                None => write!(f, "{}", certificate.spki),
            },
            Self::Peer(peer) => write!(f, "uid {}", peer.uid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(uris: &[&str], dns_names: &[&str]) -> CertificateIdentity {
        CertificateIdentity {
            uris: uris.iter().map(|&uri| uri.to_owned()).collect(),
            dns_names: dns_names.iter().map(|&name| name.to_owned()).collect(),
            spki: SpkiPin([7; 32]),
            serial: Serial::from_der_bytes(&[1]),
            issuer: Vec::new(),
            not_before: UnixSeconds(100),
            not_after: UnixSeconds(200),
        }
    }

    #[test]
    fn a_certificate_holds_from_its_first_second_to_its_last() {
        let identity = Identity::Certificate(certificate(&["seawall:client/a"], &[]));
        for (now, expected) in [(99, false), (100, true), (200, true), (201, false)] {
            assert_eq!(identity.valid_at(UnixSeconds(now)), expected, "{now}");
        }
        assert!(Identity::Peer(PeerIdentity { uid: 0, gid: 0, pid: None }).valid_at(UnixSeconds(i64::MAX)));
    }

    #[test]
    fn every_identity_has_a_tenant_of_its_own() {
        let cases = [
            certificate(&["seawall:client/a"], &[]),
            certificate(&["seawall:client/b"], &[]),
            certificate(&["spiffe://one.example.org/a"], &[]),
            certificate(&["spiffe://two.example.org/a"], &[]),
            certificate(&["seawall:client/a", "seawall:client/b"], &[]),
            certificate(&["seawall:client/a"], &["a.example.org"]),
            certificate(&[], &["a.example.org"]),
            certificate(&[], &["a.example.org", "b.example.org"]),
            certificate(&[], &[]),
        ];
        let tenants: std::collections::BTreeSet<_> = cases.iter().map(|c| Identity::Certificate(c.clone()).tenant()).collect();
        assert_eq!(tenants.len(), cases.len());
        for tenant in &tenants {
            assert!(tenant.as_str().parse::<Tenant>().is_err(), "a chosen tenant could be {tenant}");
            assert!(tenant.as_str().chars().all(|c| c.is_ascii_alphanumeric() || ":._-".contains(c)), "{tenant}");
        }
        let peer = Identity::Peer(PeerIdentity { uid: 1000, gid: 1000, pid: Some(7) });
        assert_eq!(peer.tenant().as_str(), "uid:1000");
    }

    #[test]
    fn a_renewed_certificate_keeps_its_tenant() {
        let old = certificate(&["seawall:client/a"], &[]);
        let new = CertificateIdentity { spki: SpkiPin([8; 32]), serial: Serial::from_der_bytes(&[2]), not_after: UnixSeconds(900), ..old.clone() };
        assert_eq!(Identity::Certificate(old).tenant(), Identity::Certificate(new).tenant());
    }
}
