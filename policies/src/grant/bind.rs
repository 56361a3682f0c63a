//! Host paths in containers.

use engine::demand::Bind;
use engine::types::strings::clean_path;
use schemars::JsonSchema;
use serde::Deserialize;

/// A directory of the host, and what is below it.
///
/// A path below it is granted only where no part of it is a symbolic link, as the proxy sees the host's files.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BindGrant {
    /// The directory: absolute.
    pub source: HostPath,
    /// `ro`: read-only mounts; `rw`: both.
    #[serde(default)]
    pub mode: BindMode,
    /// Propagation modes that may be asked for: `shared`, `rshared`, `slave`, `rslave`. Private ones need no grant.
    #[serde(default)]
    pub propagation: Vec<String>,
    /// SELinux labels of the source may be changed (`z`, `Z`).
    #[serde(default)]
    pub relabel: bool,
}

/// An absolute path of the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct HostPath(String);

super::from_yaml_string!(HostPath, "/srv/ci/cache");

impl HostPath {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        clean_path(text).map(Self).ok_or_else(|| format!("`{text}` is not an absolute path"))
    }
}

/// How a host path may be mounted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BindMode {
    /// Read-only.
    #[default]
    Ro,
    /// Read-only or writable.
    Rw,
}

impl BindGrant {
    /// Whether a path is its directory, or below it as it is written.
    #[must_use]
    pub fn reaches(&self, path: &str) -> bool {
        let rest = path.strip_prefix(self.source.0.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Whether it covers a mount.
    #[must_use]
    pub fn covers(&self, bind: &Bind) -> bool {
        let itself = bind.source == self.source.0;
        (itself || (self.reaches(&bind.source) && bind.plain))
            && (self.mode == BindMode::Rw || !bind.writable)
            && bind.propagation.as_ref().is_none_or(|mode| self.propagation.contains(mode))
            && (self.relabel || !bind.relabel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_covers_itself_and_what_is_below_but_no_neighbour() {
        let grant = BindGrant { source: HostPath::parse("/srv/app/").unwrap(), mode: BindMode::Ro, propagation: vec![], relabel: false };
        let bind =
            |source: &str, writable, plain| Bind { source: source.to_owned(), writable, propagation: None, relabel: false, create: true, plain };
        for (source, writable, plain, covered) in [
            ("/srv/app", false, false, true),
            ("/srv/app/x", false, true, true),
            ("/srv/app/link", false, false, false),
            ("/srv/app-evil", false, true, false),
            ("/srv", false, true, false),
            ("/", false, true, false),
            ("/srv/app", true, true, false),
        ] {
            assert_eq!(grant.covers(&bind(source, writable, plain)), covered, "{source} writable={writable} plain={plain}");
        }
        assert_eq!(["/srv/app", "/srv/app/link", "/srv/app-evil", "/srv", "/"].map(|path| grant.reaches(path)), [true, true, false, false, false]);
        let all = BindGrant { source: HostPath::parse("/").unwrap(), ..grant.clone() };
        assert!(all.reaches("/") && all.reaches("/srv"));
        let shared = Bind { propagation: Some("rshared".to_owned()), ..bind("/srv/app", false, true) };
        assert!(!grant.covers(&shared));
    }
}
