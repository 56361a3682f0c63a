//! Patterns of identities: anchored at both ends, and `*` never crosses a `/` or a dot.
//!
//! | pattern | permits | not |
//! |---|---|---|
//! | `spiffe://example.org/ci/*` | `…/ci/a` | `…/ci/a/b`, `…/ci/`, `…/ci/../x`, `…/ci/a%2Fb`, `…/ci/a?b` |
//! | `spiffe://example.org/ci/job-*` | `…/ci/job-7` | `…/ci/job-`, `…/ci/xjob-7` |
//! | `spiffe://example.org/**` | `…/a`, `…/a/b` | `spiffe://example.org` |
//! | `*.ci.example.org` | `a.ci.example.org` | `a.b.ci.example.org`, `ci.example.org`, `a.ci.example.org.evil.test` |

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A pattern of URIs in a certificate's subject alternative name (RFC 5280 §4.2.1.6; SPIFFE X.509-SVID §2).
///
/// Characters are compared as they are (RFC 3986 §6.2.1): no case folding, no decoding. `*` stands for one or more
/// characters of one path segment, except `/ ? # %`; `**` for one or more whole segments. Neither may stand in the scheme
/// or the authority, so a pattern always names whose namespace it trusts.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct UriPattern(String);

/// A pattern of DNS names in a certificate's subject alternative name.
///
/// Compared without case (RFC 4343 §3). `*` stands for exactly one whole label (RFC 6125 §6.4.3), and may stand for any but
/// the last two.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct DnsPattern(String);

/// SHA-256 of a certificate's SubjectPublicKeyInfo (RFC 7469 §2.4), as `sha256:HEX` or `sha256/BASE64`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpkiPin(pub [u8; 32]);

/// Why a text is not a pattern.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PatternError {
    /// Not a [`DnsPattern`].
    #[error(
        "`{0}` is not a pattern of DNS names: expected labels of letters, digits, `-` and `_`, or `*` for a whole label, \
             but not for the last two"
    )]
    Dns(String),
    /// Not a [`SpkiPin`].
    #[error("`{0}` is not a key's pin: expected `sha256:` and 64 hexadecimal digits, or `sha256/` and 44 characters of base64")]
    Spki(String),
    /// Not a [`UriPattern`].
    #[error("`{0}` is not a pattern of URIs: expected `scheme:…` without spaces, `..` and empty segments")]
    Uri(String),
    /// A wildcard that would trust every scheme or authority.
    #[error("`{0}` has a wildcard before its path: name the scheme and the authority in full")]
    UriAuthority(String),
    /// `**` beside other characters.
    #[error("`{0}` has `**` inside a segment: it stands for whole segments, as in `spiffe://example.org/ci/**`")]
    UriDoubleStar(String),
}

impl UriPattern {
    /// Whether the whole of `uri` is of this pattern.
    #[must_use]
    pub fn matches(&self, uri: &str) -> bool {
        let pattern: Vec<&str> = self.0.split('/').collect();
        let segments: Vec<&str> = uri.split('/').collect();
        segments_match(&pattern, &segments)
    }
}

/// Matches from the left; `**` tries every number of segments from one. Patterns are ours and short.
fn segments_match(pattern: &[&str], segments: &[&str]) -> bool {
    match (pattern.split_first(), segments.split_first()) {
        (None, None) => true,
        (Some((&"**", rest)), Some((segment, behind))) => wild(segment) && (segments_match(rest, behind) || segments_match(pattern, behind)),
        (Some((one, rest)), Some((segment, behind))) => segment_matches(one, segment) && segments_match(rest, behind),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

fn segment_matches(pattern: &str, segment: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else {
        return pattern == segment;
    };
    let Some(rest) = segment.strip_prefix(head) else {
        return false;
    };
    // `*` takes one or more characters; what follows it is matched at every place where it may begin.
    rest.char_indices()
        .map(|(at, c)| at + c.len_utf8())
        .filter_map(|end| rest.split_at_checked(end))
        .any(|(taken, behind)| wild(taken) && segment_matches(tail, behind))
}

/// What a wildcard may stand for: never a dot segment, never something that decodes to a `/` elsewhere.
fn wild(text: &str) -> bool {
    !text.is_empty() && text != "." && text != ".." && !text.contains(['?', '#', '%'])
}

impl DnsPattern {
    /// Whether the whole of `name` is of this pattern.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (mut ours, mut theirs) = (self.0.split('.'), name.split('.'));
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => return true,
                (Some("*"), Some(label)) if !label.is_empty() => {}
                (Some(pattern), Some(label)) if pattern.eq_ignore_ascii_case(label) => {}
                _ => return false,
            }
        }
    }
}

impl FromStr for UriPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let owned = || text.to_owned();
        let (scheme, rest) = text.split_once(':').ok_or_else(|| PatternError::Uri(owned()))?;
        let authority = rest.strip_prefix("//").and_then(|rest| rest.split('/').next()).unwrap_or_default();
        if scheme.contains('*') || authority.contains('*') {
            return Err(PatternError::UriAuthority(owned()));
        }
        if !is_uri(text) {
            return Err(PatternError::Uri(owned()));
        }
        if text.split('/').any(|segment| segment.contains("**") && segment != "**") {
            return Err(PatternError::UriDoubleStar(owned()));
        }
        Ok(Self(owned()))
    }
}

/// A URI that means one thing to every reader: a scheme (RFC 3986 §3.1), then visible ASCII without `\`, without dot
/// segments (also as `%2e`), and without empty segments behind the authority.
pub(crate) fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let path = rest.strip_prefix("//").unwrap_or(rest);
    let dotted = |segment: &str| matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "" | "." | "..");
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
        && text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '\\' | '"' | '<' | '>' | '`'))
        && !path.split('/').any(dotted)
}

/// A DNS name of one host: labels of letters, digits, `-` and `_` (RFC 5890 §2.3.1), never a wildcard.
pub(crate) fn is_dns_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    (1..=63).contains(&label.len()) && label.chars().all(allowed)
}

impl FromStr for DnsPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let labels: Vec<&str> = text.split('.').collect();
        let free = labels.len().saturating_sub(2);
        let good = |(at, label): (usize, &&str)| is_label(label) || (*label == "*" && at < free);
        if text.len() <= 253 && labels.iter().enumerate().all(good) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(PatternError::Dns(text.to_owned()))
        }
    }
}

impl FromStr for SpkiPin {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let bytes = match (text.strip_prefix("sha256:"), text.strip_prefix("sha256/")) {
            (Some(hex), _) => from_hex(hex),
            (_, Some(coded)) => {
                use base64::Engine as _;
                base64::engine::general_purpose::STANDARD.decode(coded).ok()
            }
            (None, None) => None,
        };
        bytes.and_then(|b| b.try_into().ok()).map(Self).ok_or_else(|| PatternError::Spki(text.to_owned()))
    }
}

pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let nibble = |c: &u8| char::from(*c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(nibble(high)? << 4 | nibble(low)?)).collect()
}

impl fmt::Display for UriPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for DnsPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SpkiPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl TryFrom<String> for UriPattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl TryFrom<String> for DnsPattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl TryFrom<String> for SpkiPin {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl From<UriPattern> for String {
    fn from(pattern: UriPattern) -> Self {
        pattern.0
    }
}

impl From<DnsPattern> for String {
    fn from(pattern: DnsPattern) -> Self {
        pattern.0
    }
}

impl From<SpkiPin> for String {
    fn from(pin: SpkiPin) -> Self {
        pin.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_pattern_is_anchored_and_stays_in_its_segment() {
        for (pattern, uri, expected) in [
            ("spiffe://example.org/ci/*", "spiffe://example.org/ci/a", true),
            ("spiffe://example.org/ci/*", "spiffe://example.org/ci/a.b-c_d", true),
            ("spiffe://example.org/ci/*", "spiffe://example.org/ci/a/b", false),
            ("spiffe://example.org/ci/*", "spiffe://example.org/ci/", false),
            ("spiffe://example.org/ci/*", "spiffe://example.org/ci", false),
            ("spiffe://example.org/ci/*", "spiffe://example.org/ci/..", false),
            ("spiffe://example.org/ci/*", "spiffe://example.org/ci/../x", false),
            ("spiffe://example.org/ci/*", "spiffe://example.org/ci/a%2Fb", false),
            ("spiffe://example.org/ci/*", "spiffe://example.org/ci/a?b", false),
            ("spiffe://example.org/ci/*", "spiffe://example.org/ci/a#b", false),
            ("spiffe://example.org/ci/*", "spiffe://example.org.evil/ci/a", false),
            ("spiffe://example.org/ci/*", "spiffe://example.orgevil/ci/a", false),
            ("spiffe://example.org/ci/*", "xspiffe://example.org/ci/a", false),
            ("spiffe://example.org/ci/*", "SPIFFE://example.org/ci/a", false),
            ("spiffe://example.org/ci/*", "spiffe://example.org/ci-evil/a", false),
            ("spiffe://example.org/ci/job-*", "spiffe://example.org/ci/job-7", true),
            ("spiffe://example.org/ci/job-*", "spiffe://example.org/ci/job-", false),
            ("spiffe://example.org/ci/*-*-x", "spiffe://example.org/ci/a-b-c-x", true),
            ("spiffe://example.org/ci/*-x", "spiffe://example.org/ci/a-xy", false),
            ("spiffe://example.org/*/deploy", "spiffe://example.org/a/deploy", true),
            ("spiffe://example.org/*/deploy", "spiffe://example.org/a/b/deploy", false),
            ("spiffe://example.org/**", "spiffe://example.org/a/b", true),
            ("spiffe://example.org/**", "spiffe://example.org/a/../b", false),
            ("spiffe://example.org/**", "spiffe://example.org/a/%2e%2e/b", false),
            ("spiffe://example.org/**", "spiffe://example.org", false),
            ("spiffe://example.org/**/deploy", "spiffe://example.org/a/b/deploy", true),
            ("seawall:client/ci", "seawall:client/ci", true),
            ("seawall:client/*", "seawall:client/ci", true),
            ("seawall:client/*", "seawall:client/ci/x", false),
        ] {
            assert_eq!(pattern.parse::<UriPattern>().unwrap().matches(uri), expected, "{pattern} {uri}");
        }
    }

    #[test]
    fn a_uri_pattern_names_whom_it_trusts() {
        for (text, needle) in [
            ("*://example.org/ci", "before its path"),
            ("spiffe://*/ci", "before its path"),
            ("spiffe://*.example.org/ci", "before its path"),
            ("spiffe://example.org/ci**", "whole segments"),
            ("spiffe://example.org/../ci", "is not a pattern of URIs"),
            ("spiffe://example.org//ci", "is not a pattern of URIs"),
            ("spiffe://example.org/a b", "is not a pattern of URIs"),
            ("example.org", "is not a pattern of URIs"),
            ("", "is not a pattern of URIs"),
        ] {
            let message = text.parse::<UriPattern>().expect_err(text).to_string();
            assert!(message.contains(needle), "{text}: {message}");
        }
    }

    #[test]
    fn a_dns_pattern_is_anchored_and_stays_in_its_label() {
        for (pattern, name, expected) in [
            ("ops.example.org", "ops.example.org", true),
            ("ops.example.org", "OPS.example.ORG", true),
            ("ops.example.org", "ops.example.org.evil.test", false),
            ("ops.example.org", "xops.example.org", false),
            ("ops.example.org", "opsxexample.org", false),
            ("*.ci.example.org", "a.ci.example.org", true),
            ("*.ci.example.org", "a.b.ci.example.org", false),
            ("*.ci.example.org", "ci.example.org", false),
            ("*.ci.example.org", ".ci.example.org", false),
            ("a.*.example.org", "a.b.example.org", true),
        ] {
            assert_eq!(pattern.parse::<DnsPattern>().unwrap().matches(name), expected, "{pattern} {name}");
        }
        for text in ["*", "*.org", "a.*", "a*.example.org", "**.example.org", "a..b", "", "a b.org", "a.b."] {
            assert!(text.parse::<DnsPattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_pin_reads_hexadecimal_and_base64() {
        let hex = format!("sha256:{}", "00".repeat(31) + "0a");
        let coded = format!("sha256/{}Ao=", "A".repeat(41));
        assert_eq!(hex.parse::<SpkiPin>(), coded.parse());
        assert_eq!(hex.parse::<SpkiPin>().map(|pin| pin.to_string()).as_deref(), Ok(hex.as_str()));
        for text in ["", "sha256:", "sha256:00", "sha1:00", "sha256/AAAA", "sha256:zz"] {
            assert!(text.parse::<SpkiPin>().is_err(), "{text}");
        }
    }

    proptest::proptest! {
        /// Whatever a star matches, it is one plain segment of the very namespace that the pattern names.
        #[test]
        fn a_star_is_one_plain_segment(tail in "[a-z./%?#*A-Z0-9:@-]{0,12}") {
            let uri = format!("spiffe://example.org/ci/{tail}");
            let plain = is_uri(&uri) && !tail.contains(['/', '%', '?', '#']);
            let one: UriPattern = "spiffe://example.org/ci/*".parse().unwrap();
            if is_uri(&uri) {
                proptest::prop_assert_eq!(one.matches(&uri), plain, "{}", uri);
            } else {
                proptest::prop_assert!(!one.matches(&uri), "{}", uri);
            }
        }

        /// A pattern without wildcards is its own only match.
        #[test]
        fn a_pattern_without_wildcards_is_itself(a in "[a-z]{1,3}(/[a-z]{1,3}){0,2}", b in "[a-z]{1,3}(/[a-z]{1,3}){0,2}") {
            let pattern: UriPattern = format!("seawall:{a}").parse().unwrap();
            proptest::prop_assert_eq!(pattern.matches(&format!("seawall:{b}")), a == b);
        }

        /// No text makes a parser panic, and what it takes it shows as it took it.
        #[test]
        fn parsing_is_total(text in ".{0,40}") {
            if let Ok(pattern) = text.parse::<UriPattern>() {
                proptest::prop_assert_eq!(pattern.to_string(), text.clone());
            }
            let _ = (text.parse::<DnsPattern>(), text.parse::<SpkiPin>());
        }
    }
}
