//! An isolation policy as it is written.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{Attacker, Preset, Unknown};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) version: Spanned<u32>,
    #[serde(default)]
    pub(super) preset: Preset,
    #[serde(default)]
    pub(super) attacker: Option<Attacker>,
    #[serde(default)]
    pub(super) groups: BTreeMap<String, OneOrMany<SelectorFile>>,
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
#[serde(deny_unknown_fields)]
pub(super) struct RuleFile {
    pub(super) from: Side,
    pub(super) to: Side,
    #[serde(default)]
    pub(super) tcp: Option<Vec<PortText>>,
    #[serde(default)]
    pub(super) udp: Option<Vec<PortText>>,
    #[serde(default)]
    pub(super) icmp: bool,
    #[serde(default)]
    pub(super) until: Option<String>,
    #[serde(default)]
    pub(super) reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    pub(super) fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Side {
    Name(String),
    Names(Vec<String>),
    Selector(SelectorFile),
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum PortText {
    Number(u32),
    Text(String),
}

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SelectorFile {
    pub(super) name: Option<String>,
    pub(super) label: Option<String>,
    pub(super) network: Option<String>,
    pub(super) project: Option<String>,
    pub(super) service: Option<String>,
    pub(super) cidr: Option<IpNet>,
}
