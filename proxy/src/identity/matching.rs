//! Which configured client an identity is: exactly one, or nobody.

use super::{CertificateIdentity, DnsPattern, Identity, PeerIdentity, SpkiPin, UriPattern};
use crate::config::Client;

/// What an identity must prove to be a client. All that is set must hold; nothing set is everyone, which only a
/// configuration without `clients` means.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Matcher {
    /// One of the certificate's URIs is of this pattern.
    pub uri: Option<UriPattern>,
    /// One of the certificate's DNS names is of this pattern.
    pub dns: Option<DnsPattern>,
    /// The certificate's public key is this one.
    pub spki: Option<SpkiPin>,
    /// The socket peer's user.
    pub uid: Option<u32>,
    /// The socket peer's primary group.
    pub gid: Option<u32>,
}

/// Why an identity is no client of ours. It is refused, and the record says so.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MatchError {
    /// Two or more entries match, so whose policy would it be?
    #[error("`{identity}` matches more than one client: {}", names.join(", "))]
    Ambiguous {
        /// Who it is.
        identity: String,
        /// The entries that match, in the order of the file.
        names: Vec<String>,
    },
    /// No entry matches.
    #[error("`{identity}` matches no client")]
    NoMatch {
        /// Who it is.
        identity: String,
    },
}

/// The one client that `identity` is.
///
/// The clients of all listeners are one list: a URI means the same whichever `client_ca` vouched for it.
///
/// # Errors
/// [`MatchError`] when no entry matches, or more than one.
pub fn match_client<'a>(clients: &'a [Client], identity: &Identity) -> Result<&'a Client, MatchError> {
    let mut matching = clients.iter().filter(|client| client.matcher.matches(identity));
    let Some(first) = matching.next() else {
        return Err(MatchError::NoMatch { identity: identity.to_string() });
    };
    let mut others = matching.peekable();
    if others.peek().is_none() {
        return Ok(first);
    }
    let name = |client: &Client| client.name.as_ref().map_or_else(|| "everyone".to_owned(), |n| format!("`{n}`"));
    let names = std::iter::once(first).chain(others).map(name).collect();
    Err(MatchError::Ambiguous { identity: identity.to_string(), names })
}

impl Matcher {
    /// Whether `identity` proves all that is asked.
    #[must_use]
    pub fn matches(&self, identity: &Identity) -> bool {
        match identity {
            Identity::Certificate(certificate) => self.certificate(certificate),
            Identity::Peer(peer) => self.peer(*peer),
        }
    }

    fn certificate(&self, certificate: &CertificateIdentity) -> bool {
        let Self { uri, dns, spki, uid, gid } = self;
        uri.as_ref().is_none_or(|uri| certificate.uris.iter().any(|found| uri.matches(found)))
            && dns.as_ref().is_none_or(|dns| certificate.dns_names.iter().any(|found| dns.matches(found)))
            && spki.is_none_or(|spki| spki == certificate.spki)
            && uid.is_none()
            && gid.is_none()
    }

    fn peer(&self, peer: PeerIdentity) -> bool {
        let Self { uri, dns, spki, uid, gid } = self;
        uri.is_none() && dns.is_none() && spki.is_none() && uid.is_none_or(|uid| uid == peer.uid) && gid.is_none_or(|gid| gid == peer.gid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PolicyRef;
    use crate::identity::{Serial, UnixSeconds};

    fn client(name: &str, matcher: Matcher) -> Client {
        let policy = PolicyRef::Shipped("ci".into());
        Client { name: Some(name.parse().unwrap()), matcher, policy, tenant: None }
    }

    fn with_uris(uris: &[&str]) -> Identity {
        Identity::Certificate(CertificateIdentity {
            uris: uris.iter().map(|&uri| uri.to_owned()).collect(),
            dns_names: vec!["ops.example.org".into()],
            spki: SpkiPin([7; 32]),
            serial: Serial::from_der_bytes(&[1]),
            issuer: Vec::new(),
            not_before: UnixSeconds(0),
            not_after: UnixSeconds(i64::MAX),
        })
    }

    fn peer(uid: u32, gid: u32) -> Identity {
        Identity::Peer(PeerIdentity { uid, gid, pid: Some(1) })
    }

    #[test]
    fn an_identity_is_exactly_one_client_or_nobody() {
        let uri = |pattern: &str| Matcher { uri: Some(pattern.parse().unwrap()), ..Matcher::default() };
        let pinned = Matcher { spki: Some(SpkiPin([9; 32])), ..uri("spiffe://example.org/pinned") };
        let both = Matcher { uid: Some(2), gid: Some(3), ..Matcher::default() };
        let clients = [
            client("ci", uri("spiffe://example.org/ci/*")),
            client("deploy", uri("spiffe://example.org/*/deploy")),
            client("pinned", pinned),
            client("job", Matcher { uid: Some(1000), ..Matcher::default() }),
            client("both", both),
        ];
        for (name, identity, expected) in [
            ("one", with_uris(&["spiffe://example.org/ci/a"]), "ci"),
            ("one of two URIs", with_uris(&["spiffe://example.org/ci/a", "seawall:client/x"]), "ci"),
            ("by two entries", with_uris(&["spiffe://example.org/ci/deploy"]), "ambiguous `ci`, `deploy`"),
            ("two URIs, two clients", with_uris(&["spiffe://example.org/ci/a", "spiffe://example.org/x/deploy"]), "ambiguous `ci`, `deploy`"),
            ("no entry", with_uris(&["spiffe://example.org/other/a"]), "none"),
            ("no URI", with_uris(&[]), "none"),
            ("URI right, key wrong", with_uris(&["spiffe://example.org/pinned"]), "none"),
            ("user", peer(1000, 1), "job"),
            ("another user", peer(1001, 1000), "none"),
            ("user and group", peer(2, 3), "both"),
            ("user right, group wrong", peer(2, 4), "none"),
        ] {
            let found = match match_client(&clients, &identity) {
                Ok(client) => client.name.as_ref().unwrap().to_string(),
                Err(MatchError::NoMatch { .. }) => "none".into(),
                Err(MatchError::Ambiguous { names, .. }) => {
                    format!("ambiguous {}", names.join(", "))
                }
            };
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn everyone_is_everyone() {
        let everyone = [Client { name: None, ..client("x", Matcher::default()) }];
        for identity in [peer(0, 0), with_uris(&[])] {
            assert!(match_client(&everyone, &identity).is_ok());
        }
    }
}
