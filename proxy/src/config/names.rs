//! Names that people give: of a client, and of the owner of what it creates.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A client's name: `[A-Za-z0-9][A-Za-z0-9_.-]*`, at most 64 characters.
///
/// It becomes a folder of `seawall cert`, a field of audit records and a certificate's URI, and this alphabet needs no
/// quoting in any of them: no `/`, no leading dot, nothing that leaves the folder.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClientName(String);

/// The owner of engine objects, as the label `seawall.tenant` carries it: `[A-Za-z0-9][A-Za-z0-9_.-]*`, at most 64
/// characters, when somebody chose it.
///
/// One that is derived from an identity ([`crate::identity::Identity::tenant`]) has a `:` in it, so no choice of a name
/// can collide with it.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tenant(String);

/// Why a text is not a [`ClientName`] or a [`Tenant`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not a name: expected letters, digits, `_`, `.` and `-`, a letter or digit first, at most 64 in all")]
pub struct NameError(String);

impl ClientName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Tenant {
    /// The tenant as the label carries it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A tenant made from an identity: `KIND:TEXT`, with a `:` that no chosen name has.
    pub(crate) fn derived(kind: &'static str, text: impl fmt::Display) -> Self {
        Self(format!("{kind}:{text}"))
    }
}

impl FromStr for ClientName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        name(text).map(Self)
    }
}

impl FromStr for Tenant {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        name(text).map(Self)
    }
}

impl TryFrom<String> for ClientName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl TryFrom<String> for Tenant {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ClientName> for String {
    fn from(name: ClientName) -> Self {
        name.0
    }
}

impl From<Tenant> for String {
    fn from(tenant: Tenant) -> Self {
        tenant.0
    }
}

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn name(text: &str) -> Result<String, NameError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts && text.len() <= 64 && text.chars().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err(NameError(text.chars().take(80).collect::<String>().escape_debug().to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leaves_no_folder_and_needs_no_quotes() {
        for (text, expected) in [
            ("ci", true),
            ("team-a.job_7", true),
            ("7", true),
            ("", false),
            ("..", false),
            (".hidden", false),
            ("-rf", false),
            ("a/b", false),
            ("../ca", false),
            ("a b", false),
            ("a\0b", false),
            ("ключ", false),
            ("uid:1000", false),
        ] {
            assert_eq!(text.parse::<ClientName>().is_ok(), expected, "{text:?}");
            assert_eq!(text.parse::<Tenant>().is_ok(), expected, "{text:?}");
        }
        assert!("x".repeat(65).parse::<ClientName>().is_err());
    }
}
