//! nf_tables: tables, chains, rules, sets. `include/uapi/linux/netfilter/nf_tables.h`.

use serde::{Deserialize, Serialize};

use super::Bytes;
use super::expression::{Data, Expression, Verdict};

/// A table of one family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Which packets it sees.
    pub family: Family,
    /// Its name, unique in the family.
    pub name: String,
    /// The kernel's number for it; grows with every table that is made.
    pub handle: u64,
    /// `NFT_TABLE_F_DORMANT`: its base chains are not hooked.
    #[serde(default)]
    pub dormant: bool,
    /// Chains, in the order of their handles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chains: Vec<Chain>,
    /// Sets and maps, anonymous ones too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<Set>,
    /// Named objects: counters, limits, quotas, helpers…
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<NfObject>,
    /// Flowtables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flowtables: Vec<Flowtable>,
}

/// `NFPROTO_*`, as far as nf_tables knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// ARP packets.
    Arp,
    /// Frames on a bridge.
    Bridge,
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// Frames at a device's ingress or egress.
    Netdev,
    /// Any other by its number: not modelled.
    Other(u8),
}

/// A chain of rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Its name; anonymous chains have one like `__chain0`.
    pub name: String,
    /// The kernel's number for it, unique in the table.
    pub handle: u64,
    /// Where packets enter it; none when only jumps lead here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseChain>,
    /// Rules, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<NfRule>,
}

impl Chain {
    /// The instructions of its rules, in order.
    pub fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.rules.iter().flat_map(|rule| &rule.expressions)
    }
}

/// A chain's place among the hooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseChain {
    /// What its rules may do.
    pub kind: ChainKind,
    /// Where on the packet's way.
    pub hook: Hook,
    /// The lowest is first.
    pub priority: i32,
    /// What happens to a packet that falls off its end.
    pub policy: Policy,
    /// Names of the links, for chains of family netdev and ingress hooks. A trailing `*` is a prefix.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
}

/// The type of a base chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChainKind {
    /// Sees every packet.
    Filter,
    /// Sees the first packet of a connection.
    Nat,
    /// Like filter in OUTPUT, and routes again when the packet changed.
    Route,
    /// Any other, by its name: not modelled.
    Other(String),
}

/// A hook. For family netdev, `Ingress` and `Egress`; for the others the five of `NF_INET_*`, and `Ingress` for inet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// Forwarded packets.
    Forward,
    /// Packets for this host.
    Input,
    /// Packets of this host.
    Output,
    /// Leaving packets.
    Postrouting,
    /// Arriving packets.
    Prerouting,
    /// Frames that arrive on a device.
    Ingress,
    /// Frames that leave by a device.
    Egress,
    /// Any other number: not modelled.
    Other(u32),
}

/// A base chain's policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Goes on to the next base chain.
    Accept,
    /// Ends here.
    Drop,
}

/// A rule: expressions that are run from left to right until one does not match or gives a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NfRule {
    /// The kernel's number for it, unique in the table.
    pub handle: u64,
    /// What it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expressions: Vec<Expression>,
    /// The comment that its author left (`NFTNL_UDATA_RULE_COMMENT`, or xt `comment`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// A set, a map or a verdict map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Set {
    /// Its name, unique in the table; `__set0`, `__map0` for anonymous ones.
    pub name: String,
    /// The kernel's number for it.
    pub handle: u64,
    /// What kind of set.
    #[serde(default)]
    pub flags: SetFlags,
    /// The type of its keys as nft writes it (an opaque number to the kernel).
    #[serde(default)]
    pub key_type: u32,
    /// Bytes of a key.
    pub key_len: u32,
    /// Lengths of the fields of a concatenated key, in bytes; each field starts at a multiple of four. Empty: one field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<u32>,
    /// Bytes of a map's values; 0 for verdicts and plain sets.
    #[serde(default)]
    pub data_len: u32,
    /// Elements. Unsorted, as the kernel gave them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elements: Vec<Element>,
    /// Expressions that every element runs when it matches (counters, limits…).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expressions: Vec<Expression>,
}

/// `NFT_SET_*`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SetFlags {
    /// Belongs to one rule.
    pub anonymous: bool,
    /// Does not change while it is bound.
    pub constant: bool,
    /// Has ranges.
    pub interval: bool,
    /// Has values.
    pub map: bool,
    /// Has verdicts for values.
    pub verdicts: bool,
    /// Elements may expire.
    pub timeout: bool,
    /// Rules add elements: what is in it depends on earlier packets.
    pub dynamic: bool,
    /// Values are named objects.
    pub object: bool,
}

/// An element: keys from `from` to `to`, both included, compared byte by byte (field by field when concatenated).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Element {
    /// Lowest key. Empty for the catch-all element, which matches when no other does.
    pub from: Bytes,
    /// Highest key; equal to `from` unless the set has intervals.
    pub to: Bytes,
    /// `NFT_SET_ELEM_CATCHALL`: `*`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub catch_all: bool,
    /// The value, in a map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Data>,
    /// Name of the object, in an object map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Expires in this many milliseconds; none when never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
    /// Expressions it runs when it matches; one that breaks means no match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expressions: Vec<Expression>,
}

impl Element {
    /// The verdict of a verdict map's element.
    #[must_use]
    pub fn verdict(&self) -> Option<&Verdict> {
        match &self.data {
            Some(Data::Verdict(verdict)) => Some(verdict),
            Some(Data::Value(_)) | None => None,
        }
    }
}

/// A named object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NfObject {
    /// `NFT_OBJECT_*`: 1 counter, 2 quota, 3 ct helper, 4 limit, 5 connlimit, 6 tunnel, 7 ct timeout, 8 secmark, 9 ct expectation, 10 synproxy.
    pub kind: u32,
    /// Its name, unique in the table for its kind.
    pub name: String,
}

/// A flowtable: it takes established flows past the forward hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flowtable {
    /// Its name.
    pub name: String,
    /// Links it is on.
    pub devices: Vec<String>,
}

/// An ipset. `include/uapi/linux/netfilter/ipset/ip_set.h`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpSet {
    /// The number by which rules refer to it.
    pub index: u16,
    /// Its name.
    pub name: String,
    /// Its type, like `hash:ip` or `hash:net,port`.
    pub kind: String,
    /// `Ip`, `Ip6`, or other for sets that hold both or neither.
    pub family: Family,
    /// Addresses are looked for under a mask, which is not followed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub masked: bool,
    /// Elements.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elements: Vec<IpSetElement>,
}

/// An element of an ipset: what of it is set depends on the set's type.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IpSetElement {
    /// Address, or first address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<std::net::IpAddr>,
    /// Last address of a range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address_to: Option<std::net::IpAddr>,
    /// Length of the prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<u8>,
    /// Second address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address2: Option<std::net::IpAddr>,
    /// Prefix of the second address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix2: Option<u8>,
    /// IP protocol of the port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u8>,
    /// Port, or first port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Last port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_to: Option<u16>,
    /// Name of a link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Name of another set, in a `list:set`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
    /// Matching it means no match.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub nomatch: bool,
    /// Has attributes that are not understood, or expires.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub uncertain: bool,
}
