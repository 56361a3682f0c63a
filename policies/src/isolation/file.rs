//! An isolation policy as it is written.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::{MessageFormatter, Spanned, UserMessageFormatter};

use super::{Attacker, Preset, Unknown};

/// Reads a policy.
///
/// # Errors
/// With the path to what is wrong, what was found and what was expected, and the lines around it.
pub(super) fn read(text: &str) -> Result<File, String> {
    let told = |error: &serde_saphyr::Error| error.render_with_formatter(&Words);
    let mut path = String::new();
    let read = serde_saphyr::with_deserializer_from_str(text, |deserializer| {
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            // A value with its place is one level more, which nobody wrote.
            path = error.path().to_string().replace(".value", "");
            error.into_inner()
        })
    });
    read.map_err(|error| if path.is_empty() || path == "." { told(&error) } else { format!("`{path}`: {}", told(&error)) })
}

/// Says what is expected in words of policies, where the reader has its own.
struct Words;

impl MessageFormatter for Words {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the reader says everything else well")]
    fn format_message<'a>(&self, error: &'a serde_saphyr::Error) -> Cow<'a, str> {
        Cow::Borrowed(match error {
            serde_saphyr::Error::Unexpected { expected: "mapping start", .. } => "expected keys with values, like `{ name: web }`",
            serde_saphyr::Error::Unexpected { expected: "sequence start", .. } => "expected a list, like `[web, db]`",
            serde_saphyr::Error::InvalidScalar { ty: "boolean", .. } => "expected `true` or `false`",
            serde_saphyr::Error::NullIntoString { .. } => "there is no value",
            other => return UserMessageFormatter.format_message(other),
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a policy")]
pub(super) struct File {
    pub(super) version: Spanned<u32>,
    #[serde(default)]
    pub(super) preset: Preset,
    #[serde(default, deserialize_with = "given")]
    pub(super) attacker: Option<Attacker>,
    #[serde(default)]
    pub(super) groups: BTreeMap<String, Selectors>,
    #[serde(default)]
    pub(super) allow: Vec<Spanned<RuleFile>>,
    #[serde(default)]
    pub(super) require: Vec<Spanned<RuleFile>>,
    #[serde(default)]
    pub(super) exceptions: Vec<Spanned<RuleFile>>,
    #[serde(default)]
    pub(super) unknown: Unknown,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a rule like `{ from: web, to: db, tcp: [5432] }`")]
pub(super) struct RuleFile {
    pub(super) from: Side,
    pub(super) to: Side,
    #[serde(default, deserialize_with = "given")]
    pub(super) tcp: Option<PortList>,
    #[serde(default, deserialize_with = "given")]
    pub(super) udp: Option<PortList>,
    #[serde(default, deserialize_with = "given")]
    pub(super) icmp: Option<bool>,
    #[serde(default, deserialize_with = "given")]
    pub(super) until: Option<String>,
    #[serde(default, deserialize_with = "given")]
    pub(super) reason: Option<String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a selector like `{ project: shop, service: web }`")]
pub(super) struct SelectorFile {
    #[serde(deserialize_with = "given")]
    pub(super) name: Option<String>,
    #[serde(deserialize_with = "given")]
    pub(super) label: Option<String>,
    #[serde(deserialize_with = "given")]
    pub(super) network: Option<String>,
    #[serde(deserialize_with = "given")]
    pub(super) project: Option<String>,
    #[serde(deserialize_with = "given")]
    pub(super) service: Option<String>,
    #[serde(deserialize_with = "given")]
    pub(super) cidr: Option<String>,
}

impl fmt::Display for SelectorFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, label, network, project, service, cidr } = self;
        let keys = [("name", name), ("label", label), ("network", network), ("project", project), ("service", service), ("cidr", cidr)];
        let given: Vec<String> = keys.iter().filter_map(|(key, value)| Some(format!("{key}: {}", value.as_ref()?))).collect();
        write!(f, "{{ {} }}", given.join(", "))
    }
}

/// Selectors of a group: one, or a list.
pub(super) struct Selectors(pub(super) Vec<SelectorFile>);

/// Whom a rule is from or to.
pub(super) enum Side {
    Names(Vec<String>),
    Selector(SelectorFile),
}

/// Ports and ranges of ports.
pub(super) struct PortList(pub(super) Vec<PortText>);

/// As it is written.
pub(super) struct PortText(pub(super) String);

impl<'de> Deserialize<'de> for Selectors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Selectors;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a selector like `{ project: shop, service: web }`, or a list of them")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Selectors, A::Error> {
                SelectorFile::deserialize(MapAccessDeserializer::new(map)).map(|one| Selectors(vec![one]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Selectors, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Selectors)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for Side {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyOf;
        impl<'de> Visitor<'de> for AnyOf {
            type Value = Side;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name, a list of names, or a selector like `{ label: tier=db }`")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Side, E> {
                Ok(Side::Names(vec![name.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Side, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Side::Names)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Side, A::Error> {
                SelectorFile::deserialize(MapAccessDeserializer::new(map)).map(Side::Selector)
            }
        }
        deserializer.deserialize_any(AnyOf)
    }
}

impl<'de> Deserialize<'de> for PortList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = PortList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of ports like `[443, 8000-8999]`")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<PortList, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(PortList)
            }
        }
        deserializer.deserialize_any(List)
    }
}

impl<'de> Deserialize<'de> for PortText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Port;
        impl Visitor<'_> for Port {
            type Value = PortText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port like 443, or a range like 8000-8999")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<PortText, E> {
                Ok(PortText(number.to_string()))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<PortText, E> {
                Ok(PortText(text.to_owned()))
            }
        }
        deserializer.deserialize_any(Port)
    }
}

/// A key that is there has a value: one that was forgotten must not mean what is meant without the key, which is everything.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
