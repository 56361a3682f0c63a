//! Versions of the Engine API.

use std::fmt;

/// A version `1.N` of the Engine API that this crate knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u8);

impl Version {
    /// The oldest version that is decoded. Below it `start` takes a host configuration (API 1.23: `POST /containers/{id}/start`).
    pub const MIN: Self = Self(24);
    /// The newest version whose fields are all known here.
    pub const MAX: Self = Self(55);

    /// Version `1.minor`; `None` outside of what is known.
    #[must_use]
    pub const fn new(minor: u8) -> Option<Self> {
        if minor >= Self::MIN.0 && minor <= Self::MAX.0 { Some(Self(minor)) } else { None }
    }

    /// For tables: clamps to what is known.
    #[must_use]
    pub(crate) const fn table(minor: u8) -> Self {
        match Self::new(minor) {
            Some(version) => version,
            None if minor < Self::MIN.0 => Self::MIN,
            None => Self::MAX,
        }
    }

    /// The `N` of `1.N`.
    #[must_use]
    pub const fn minor(self) -> u8 {
        self.0
    }

    /// Reads `1.41`, exactly so: no leading zero, no further component.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let minor = text.strip_prefix("1.")?;
        (minor.len() == 2 && minor.bytes().all(|b| b.is_ascii_digit())).then(|| minor.parse().ok()).flatten().and_then(Self::new)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.0)
    }
}
