//! The request target: version, segments, and what may stand in them.
//!
//! The engine's router decodes `%2F` before it routes, takes `/v1.041/` and `/v1.41.0.0/` as 1.41, ignores scheme and host of an
//! absolute target and answers `//` with a redirect (gorilla/mux, measured on four engines). Here a path has one spelling.

use std::borrow::Cow;

use crate::error::DecodeError;
use crate::version::Version;

/// A target split into version, raw path segments and raw query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    pub(crate) version: Option<Version>,
    pub(crate) segments: Vec<&'a str>,
    pub(crate) query: &'a str,
}

/// Splits a target in origin form. Segments stay encoded.
pub(crate) fn split(target: &str) -> Result<Target<'_>, DecodeError> {
    if !target.starts_with('/') {
        return Err(DecodeError::Path("the target must be a path (origin form)"));
    }
    if !target.bytes().all(|b| b.is_ascii_graphic()) || target.contains(['\\', '#']) {
        return Err(DecodeError::Path("a character that does not belong into a path"));
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut segments: Vec<&str> = path.split('/').skip(1).collect();
    if segments.iter().any(|s| s.is_empty() || *s == "." || *s == "..") {
        return Err(DecodeError::Path("an empty or dot segment"));
    }
    let version = match segments.first() {
        Some(first) if looks_like_version(first) => {
            let version = parse_version(first)?;
            segments.remove(0);
            Some(version)
        }
        _ => None,
    };
    Ok(Target { version, segments, query })
}

fn looks_like_version(segment: &str) -> bool {
    segment.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
}

fn parse_version(segment: &str) -> Result<Version, DecodeError> {
    let given = segment.strip_prefix('v').unwrap_or(segment);
    if let Some(version) = Version::parse(given) {
        return Ok(version);
    }
    let canonical = given.split_once('.').filter(|(major, minor)| {
        let number = |text: &str| {
            !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit()) && !(text.len() > 1 && text.starts_with('0'))
        };
        number(major) && number(minor)
    });
    let Some((major, minor)) = canonical else {
        return Err(DecodeError::Path("a version that is not of the form v1.N"));
    };
    let number = |text: &str| text.parse::<u16>().unwrap_or(u16::MAX);
    let old = (number(major), number(minor)) < (1, u16::from(Version::MIN.minor()));
    let (side, bound, limit) = if old { ("old", "Minimum", Version::MIN) } else { ("new", "Maximum", Version::MAX) };
    Err(DecodeError::Version { given: given.to_owned(), side, bound, limit })
}

/// Decodes a name that stands in the path, once.
pub(crate) fn decode_segment(raw: &str) -> Result<Cow<'_, str>, DecodeError> {
    if !raw.contains('%') {
        return Ok(Cow::Borrowed(raw));
    }
    let bytes = percent_decode(raw, false).ok_or(DecodeError::Path("a malformed percent escape"))?;
    let text = String::from_utf8(bytes).map_err(|_| DecodeError::Path("an escape that is not UTF-8"))?;
    if text.chars().any(char::is_control) {
        return Err(DecodeError::Path("a control character"));
    }
    Ok(Cow::Owned(text))
}

/// Undoes percent encoding, and `+` in a query. `None`: malformed.
pub(crate) fn percent_decode(raw: &str, plus_is_space: bool) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(b) = bytes.next() {
        match b {
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                out.push(u8::try_from(high * 16 + low).ok()?);
            }
            b'+' if plus_is_space => out.push(b' '),
            other => out.push(other),
        }
    }
    Some(out)
}

/// Writes text into a path or query: unreserved characters as they are, everything else escaped.
pub(crate) fn percent_encode(text: &str, keep: &[u8], out: &mut String) {
    const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') || keep.contains(&b) {
            out.push(char::from(b));
        } else {
            out.push('%');
            out.extend(HEX.get(usize::from(b >> 4)));
            out.extend(HEX.get(usize::from(b & 15)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_spelling() {
        for target in [
            "containers/json",
            "http://docker/containers/json",
            "*",
            "//_ping",
            "/containers//json",
            "/x/../_ping",
            "/./_ping",
            "/containers/json/",
            "/v1.041/_ping",
            "/v01.41/_ping",
            "/v1.41.0/_ping",
            "/v1.41./_ping",
            "/v1/_ping",
            "/v.1.41/_ping",
            "/containers\\json",
            "/a b",
            "/_ping#x",
        ] {
            assert!(matches!(split(target), Err(DecodeError::Path(_))), "{target}");
        }
    }

    #[test]
    fn versions_outside_are_named() {
        let old = split("/v1.23/_ping").unwrap_err();
        assert!(old.to_string().starts_with("client version 1.23 is too old. Minimum supported API version is 1.24"), "{old}");
        let new = split("/v1.99/_ping").unwrap_err();
        assert!(new.to_string().starts_with("client version 1.99 is too new. Maximum supported API version is 1.55"), "{new}");
    }

    #[test]
    fn splits_version_path_and_query() {
        let target = split("/v1.41/images/a%2Fb/json?x=1?y").unwrap();
        assert_eq!(target, Target { version: Version::new(41), segments: vec!["images", "a%2Fb", "json"], query: "x=1?y" });
    }
}
