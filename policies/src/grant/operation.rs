//! Operations: by family and effect, or by their own name, and on whose objects.

use std::collections::BTreeMap;

use engine::demand::Operate;
use engine::facts::Owner;
use engine::operation::{Effect, OperationId};
use schemars::JsonSchema;
use serde::Deserialize;

use super::from_yaml_string;

/// What a family's operations are granted by: an effect (`read`, `create`, `control`, `enter`, `transfer`, `delete`, `administer`), `all` of
/// them, or the name of one operation, as `ContainerLogs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub enum OperationKey {
    /// Every operation of the family.
    All,
    /// Every operation of one effect.
    Effect(Effect),
    /// One operation.
    One(OperationId),
}

from_yaml_string!(OperationKey, "read");

impl OperationKey {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        let effect = Effect::ALL.into_iter().find(|effect| effect.name() == text).map(Self::Effect);
        effect.or_else(|| OperationId::from_name(text).map(Self::One)).ok_or_else(|| {
            let names =
                Effect::ALL.iter().map(|effect| effect.name()).chain(engine::operation::OPERATIONS.iter().map(|operation| operation.id.name()));
            match names.map(|name| (strsim::damerau_levenshtein(name, text), name)).min() {
                Some((distance, near)) if distance <= 3 => format!("`{text}` is neither an effect nor an operation, did you mean `{near}`?"),
                _ => format!("`{text}` is neither an effect nor an operation"),
            }
        })
    }

    /// Whether it is about an operation.
    #[must_use]
    pub fn covers(self, operation: &engine::operation::Operation) -> bool {
        match self {
            Self::All => true,
            Self::Effect(effect) => operation.effect == effect,
            Self::One(id) => operation.id == id,
        }
    }
}

/// One scope, or several: then any of them is enough.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "`own`, `all`, `label:KEY=VALUE`, or a list of them")]
pub enum Scopes {
    /// One.
    One(Scope),
    /// Several.
    Several(Vec<Scope>),
}

impl Scopes {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        match self {
            Self::One(scope) => std::slice::from_ref(scope).iter(),
            Self::Several(scopes) => scopes.iter(),
        }
    }
}

/// Whose objects: `own` (the tenant's), `all`, or those with a label, as `label:team=web`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub enum Scope {
    /// Everybody's.
    All,
    /// Those with a label.
    Label(String, String),
    /// The tenant's.
    Own,
}

from_yaml_string!(Scope, "own");

impl Scope {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "own" => Ok(Self::Own),
            _ => match text.strip_prefix("label:").and_then(|label| label.split_once('=')) {
                Some((key, value)) if !key.is_empty() => Ok(Self::Label(key.to_owned(), value.to_owned())),
                _ => Err(format!("`{text}` is no scope: write `own`, `all` or `label:KEY=VALUE`")),
            },
        }
    }

    /// Whether an object is in it. An operation without an object is in every scope: what it lists is narrowed.
    #[must_use]
    pub fn covers(&self, operate: &Operate) -> bool {
        let Some(object) = &operate.object else { return true };
        match self {
            Self::All => true,
            Self::Label(key, value) => object.labels.get(key) == Some(value),
            Self::Own => object.owner == Owner::Own,
        }
    }
}

/// The operations of each family.
pub type Operations = BTreeMap<OperationKey, Scopes>;
