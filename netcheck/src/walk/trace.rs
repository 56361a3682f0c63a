//! What a packet met, kept small while walking and put into words afterwards.

use std::net::IpAddr;

use serde::Serialize;

use crate::model::netfilter::{ChainAt, Layer};
use crate::model::{Model, Tags};
use crate::snapshot::{Family, Hook, Mac};

use super::conntrack::NatKindAt;

/// One thing that a packet met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) namespace: usize,
    pub(crate) what: What,
}

/// What it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    Arrived { link: u32, tags: Tags },
    Bridged { bridge: u32, from: Option<u32>, to: u32 },
    Delivered { link: u32 },
    Left { link: u32 },
    MasqueradedElsewhere,
    Nat { kind: NatKindAt, address: IpAddr, port: u16 },
    Policy { hook: Hook, layer: Layer, chain: ChainAt },
    Received { link: u32 },
    Route { destination: ipnet::IpNet, local: bool, link: Option<u32>, gateway: Option<IpAddr> },
    Rule { hook: Hook, layer: Layer, chain: ChainAt, rule: usize, did: Did },
    Sent { link: Option<u32> },
    Wrote { link: u32, to: Mac, tags: Tags },
}

/// What a rule did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Did {
    Accept,
    Drop,
    Jump,
}

/// One thing that a packet met, in words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Hop {
    /// The namespace: container names, `host`, or a name of its own.
    pub at: String,
    /// What kind of thing: `sent`, `route`, `rule`, `policy`, `nat`, `bridge`, `link`, `delivered`, `left`.
    pub kind: &'static str,
    /// What happened.
    pub text: String,
    /// Netfilter's hook, for rules and policies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook: Option<&'static str>,
    /// Family and name of the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// The chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain: Option<String>,
    /// The rule's handle, as `nft -a list ruleset` shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handle: Option<u64>,
    /// The rule's comment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// Why a packet went nowhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Reason(Box<Hop>);

impl Reason {
    pub(crate) fn hop(hop: Hop) -> Self {
        Self(Box::new(hop))
    }

    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::hop(Hop { kind: "path", text: text.into(), ..Hop::default() })
    }

    pub(crate) fn at(namespace: &str, kind: &'static str, text: impl Into<String>) -> Self {
        Self::hop(Hop { at: namespace.to_owned(), kind, text: text.into(), ..Hop::default() })
    }

    /// Where and what it was.
    #[must_use]
    pub fn as_hop(&self) -> &Hop {
        &self.0
    }
}

impl Default for Hop {
    fn default() -> Self {
        Self { at: String::new(), kind: "path", text: String::new(), hook: None, table: None, chain: None, handle: None, comment: None }
    }
}

impl Step {
    pub(crate) fn hop(&self, model: &Model) -> Hop {
        let namespace = model.namespace(self.namespace);
        let link = |index: u32| namespace.links.get(&index).map_or_else(|| format!("link {index}"), |link| link.name.clone());
        let hop = |kind: &'static str, text: String| Hop { at: namespace.label.clone(), kind, text, ..Hop::default() };
        match &self.what {
            What::Arrived { link: index, tags } => hop("link", format!("arrives on {}{}", link(*index), tagged(*tags))),
            What::Received { link: index } => hop("link", format!("received by {}", link(*index))),
            What::Wrote { link: index, to, tags } => hop("sent", format!("written to {} for {to}{}", link(*index), tagged(*tags))),
            What::MasqueradedElsewhere => hop("nat", "drops: the connection is masqueraded with the address of another link".to_owned()),
            What::Sent { link: None } => hop("sent", "sent".to_owned()),
            What::Sent { link: Some(index) } => hop("sent", format!("sent by {}", link(*index))),
            What::Delivered { link: index } => hop("delivered", format!("passes INPUT, came by {}", link(*index))),
            What::Left { link: index } => hop("left", format!("leaves by {}", link(*index))),
            What::Bridged { bridge, from, to } => {
                let from = from.map_or_else(|| "itself".to_owned(), link);
                hop("bridge", format!("bridge {} from {from} to {}", link(*bridge), link(*to)))
            }
            What::Nat { kind, address, port } => {
                let which = if *kind == NatKindAt::Destination { "destination" } else { "source" };
                hop("nat", format!("{which} becomes {} port {port}", address))
            }
            What::Route { destination, local, link: out, gateway } => {
                let local = if *local { "local " } else { "" };
                let via = gateway.map_or_else(String::new, |gateway| format!(" via {gateway}"));
                let out = out.map_or_else(String::new, |index| format!(" dev {}", link(index)));
                hop("route", format!("{local}{destination}{via}{out}"))
            }
            What::Policy { hook, chain, .. } => {
                let (table, chain) = names(namespace, *chain);
                Hop {
                    hook: Some(hook_name(*hook)),
                    text: format!("policy drop of {table} {chain}"),
                    table: Some(table),
                    chain: Some(chain),
                    ..hop_of(namespace, "policy")
                }
            }
            What::Rule { hook, chain, rule, did, .. } => {
                let found = namespace.rules.chain(*chain).and_then(|chain| chain.rules.get(*rule));
                let (table, chain) = names(namespace, *chain);
                let handle = found.map(|rule| rule.handle);
                let comment = found.and_then(|rule| rule.comment.clone());
                let did = match did {
                    Did::Accept => "accepts",
                    Did::Drop => "drops",
                    Did::Jump => "jumps",
                };
                // Users of iptables count rules, users of nft name their handles.
                let said = comment.as_ref().map_or_else(String::new, |comment| format!(", {comment}"));
                let text = format!("{table} {chain} rule {} (handle {}{said}) {did}", rule + 1, handle.unwrap_or(0));
                Hop { text, hook: Some(hook_name(*hook)), table: Some(table), chain: Some(chain), handle, comment, ..hop_of(namespace, "rule") }
            }
        }
    }
}

/// The tags of a frame, in words.
fn tagged(tags: Tags) -> String {
    let word = |id: u16| if id == 0 { " with a priority tag".to_owned() } else { format!(" in vlan {id}") };
    tags.iter().map(word).collect()
}

fn hop_of(namespace: &crate::model::Namespace, kind: &'static str) -> Hop {
    Hop { at: namespace.label.clone(), kind, ..Hop::default() }
}

fn names(namespace: &crate::model::Namespace, at: ChainAt) -> (String, String) {
    let table = namespace.rules.table(at.table);
    let chain = namespace.rules.chain(at).map_or_else(String::new, |chain| chain.name.clone());
    (table.map_or_else(String::new, |table| format!("{} {}", family_name(table.family), table.name)), chain)
}

const fn family_name(family: Family) -> &'static str {
    match family {
        Family::Arp => "arp",
        Family::Bridge => "bridge",
        Family::Inet => "inet",
        Family::Ip => "ip",
        Family::Ip6 => "ip6",
        Family::Netdev => "netdev",
        Family::Other(_) => "other",
    }
}

const fn hook_name(hook: Hook) -> &'static str {
    match hook {
        Hook::Egress => "egress",
        Hook::Forward => "forward",
        Hook::Ingress => "ingress",
        Hook::Input => "input",
        Hook::Output => "output",
        Hook::Postrouting => "postrouting",
        Hook::Prerouting => "prerouting",
        Hook::Other(_) => "other",
    }
}
