//! Image references, normalised as the engine normalises them (`distribution/reference`, normalize.go and regexp.go).

use std::fmt;

/// A name of an image: registry host, repository path, and tag or digest or both.
///
/// `alpine`, `library/alpine`, `docker.io/library/alpine` and `index.docker.io/library/alpine` are the same reference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageReference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl ImageReference {
    /// Reads a reference in any of its spellings.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let invalid = |why: &str| format!("invalid reference format: {why}");
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(parse_digest(digest).ok_or_else(|| invalid("the digest"))?)),
            None => (text, None),
        };
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (name, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid("the tag"));
        }
        let (domain, path) = split_domain(name);
        let path = if domain == DOCKER_IO && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
        if !is_domain(domain) {
            return Err(invalid("the registry host"));
        }
        if !path.split('/').all(is_path_component) || domain.len() + path.len() > 254 {
            return Err(invalid("the repository name (it is lower case: letters, digits, and single `.`, `_`, `-` between them)"));
        }
        Ok(Self { domain: domain.to_owned(), path, tag: tag.map(str::to_owned), digest: digest.map(str::to_owned) })
    }

    /// The registry host, with its port: `docker.io`, `registry.example.com:5000`.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository below the host: `library/alpine`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Host and path: `docker.io/library/alpine`.
    #[must_use]
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The tag, if one is named.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one is named: `sha256:…`.
    #[must_use]
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// The same repository with another tag.
    #[must_use]
    pub fn with_tag(mut self, tag: &str) -> Self {
        self.tag = Some(tag.to_owned());
        self
    }

    /// The same repository, pinned.
    #[must_use]
    pub fn with_digest(mut self, digest: &str) -> Self {
        self.digest = Some(digest.to_owned());
        self
    }

    /// The tag that the engine takes when none is named; `None` when a digest decides.
    #[must_use]
    pub fn effective_tag(&self) -> Option<&str> {
        match (&self.tag, &self.digest) {
            (Some(tag), _) => Some(tag),
            (None, Some(_)) => None,
            (None, None) => Some("latest"),
        }
    }

    /// Whether both name the same thing, with `latest` where no tag is.
    #[must_use]
    pub fn names_same(&self, other: &Self) -> bool {
        self.domain == other.domain
            && self.path == other.path
            && match (&self.digest, &other.digest) {
                (Some(a), Some(b)) => a == b,
                (None, None) => self.effective_tag() == other.effective_tag(),
                _ => false,
            }
    }

    /// The image's bare name, when it is on Docker Hub and has no organisation: `alpine`.
    #[must_use]
    pub fn bare_name(&self) -> Option<&str> {
        (self.domain == DOCKER_IO).then(|| self.path.strip_prefix("library/")).flatten().filter(|name| !name.contains('/'))
    }
}

/// The short spelling, as the engine shows it; the long one where the short one could be read as an image id.
impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bare_name() {
            Some(name) if !name.bytes().all(is_hex) => f.write_str(name)?,
            None if self.domain == DOCKER_IO => f.write_str(&self.path)?,
            Some(_) | None => write!(f, "{}/{}", self.domain, self.path)?,
        }
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

const DOCKER_IO: &str = "docker.io";

/// normalize.go, splitDockerDomain.
fn split_domain(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase()) => {
            (if first == "index.docker.io" { DOCKER_IO } else { first }, rest)
        }
        _ => (DOCKER_IO, name),
    }
}

fn is_domain(domain: &str) -> bool {
    if let Some(bracketed) = domain.strip_prefix('[') {
        return bracketed.split_once(']').is_some_and(|(address, port)| {
            address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
        });
    }
    let (host, port) = domain.split_once(':').map_or((domain, None), |(host, port)| (host, Some(port)));
    port.is_none_or(is_port)
        && host.split('.').all(|label| {
            !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

/// regexp.go: alphanumeric, joined by `.`, `_`, `__` or any number of `-`.
fn is_path_component(component: &str) -> bool {
    let bytes = component.as_bytes();
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut separators: Vec<&[u8]> = bytes.split(alphanumeric).collect();
    bytes.first().is_some_and(alphanumeric) && bytes.last().is_some_and(alphanumeric) && {
        separators.retain(|separator| !separator.is_empty());
        separators.iter().all(|s| matches!(s, [b'.'] | [b'_'] | [b'_', b'_']) || s.iter().all(|b| *b == b'-'))
    }
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128 && tag.bytes().next().is_some_and(word) && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

fn parse_digest(digest: &str) -> Option<&str> {
    digest.strip_prefix("sha256:").filter(|hex| hex.len() == 64 && hex.bytes().all(is_hex)).map(|_| digest)
}

/// Lower-case hexadecimal, as ids are written.
pub(crate) fn is_hex(b: u8) -> bool {
    b.is_ascii_digit() || (b'a'..=b'f').contains(&b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_image_are_one_reference() {
        for spelling in ["alpine", "library/alpine", "docker.io/alpine", "docker.io/library/alpine", "index.docker.io/library/alpine"] {
            let reference = ImageReference::parse(spelling).unwrap();
            assert_eq!(reference.repository(), "docker.io/library/alpine", "{spelling}");
            assert_eq!(reference.to_string(), "alpine", "{spelling}");
        }
    }

    #[test]
    fn hosts_are_told_from_organisations() {
        for (text, domain, path) in [
            ("bitnami/redis", "docker.io", "bitnami/redis"),
            ("localhost/x", "localhost", "x"),
            ("EVILHOST/alpine", "EVILHOST", "alpine"),
            ("a.b/c/d:1", "a.b", "c/d"),
            ("127.0.0.1:5000/x", "127.0.0.1:5000", "x"),
            ("evil.example.com/docker.io/library/alpine", "evil.example.com", "docker.io/library/alpine"),
        ] {
            let reference = ImageReference::parse(text).unwrap();
            assert_eq!((reference.domain(), reference.path()), (domain, path), "{text}");
        }
    }

    #[test]
    fn what_the_grammar_has_not_is_refused() {
        for text in ["", "Alpine", "a//b", "a/../b", "a:", "a:-x", "a@sha256:12", "a b", "a\n", "a._b", "-a", "http://a/b", "a@md5:00"] {
            assert!(ImageReference::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_name_that_could_be_an_id_is_written_in_full() {
        assert_eq!(ImageReference::parse("abc12").unwrap().to_string(), "docker.io/library/abc12");
    }
}
