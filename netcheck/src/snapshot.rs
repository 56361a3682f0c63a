//! What was read from a host, and nothing that was concluded from it.
//!
//! A [`Snapshot`] is the only thing that passes between the privileged collector and everything else: it is plain data,
//! it is written to a file as JSON, and whoever has the file can repeat every answer without the host.
//!
//! ```text
//!   Snapshot
//!    ├─ namespaces ─┬─ links        who is wired to whom, bridge ports, per-device switches     [`Link`]
//!    │              ├─ addresses, routes, rules, neighbours, fdb, vlans                         [`Route`] …
//!    │              ├─ tables       nf_tables as the bytecode the kernel runs                   [`Table`] [`Expression`]
//!    │              ├─ ipsets, sockets, sysctls
//!    ├─ engine      what the engine says it made: containers, networks                          [`Engine`]
//!    └─ gaps        what is there and cannot be read or modelled                                [`Gap`]
//! ```
//!
//! # For those who compute with it
//!
//! - Namespaces refer to each other by [`NamespaceId`] only; names are for people. [`Peer`] is the one edge between two
//!   namespaces, besides `lower` of macvlan, ipvlan and vlan.
//! - Containers are in [`Engine::containers`] and point to their namespace; several may point to the same one.
//! - Registers are normalised to the index of a 4-byte word: `NFT_REG_1` and `NFT_REG32_00` are both word 0, `NFT_REG_2` is word 4.
//!   The verdict register does not appear: an expression that sets it holds a [`Verdict`].
//! - What is in a register is bytes in memory order. Packet bytes are in network order; `meta`, `ct` and `fib` load in host
//!   order, see [`Snapshot::little_endian`]. `cmp` and `range` compare bytes, as the kernel does (`memcmp`).
//! - Set elements are ranges of keys with both ends included ([`Element`]); the kernel's end markers are gone.
//! - Whatever was not understood is an `Opaque` variant, never left out. A [`Gap`] without a namespace is about the whole host.
//! - Lists are in the order of the kernel's dump. For chains of one hook and one priority that is the order of creation within a table.
//!
//! Everything that a container controls (names, labels, comments) is kept as it was read; who prints it escapes it.

pub mod bytes;
mod compat;
mod engine;
mod expression;
mod link;
mod route;
mod socket;
mod table;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use bytes::{Bytes, Mac};
pub use compat::{
    AddressType, CtMatch, IcmpMatch, IpRange, Match, Multiport, MultiportKind, NatRange, PortMatch, SetMatch, SetTarget, Target, TcpFlags,
};
pub use engine::{Attachment, Capabilities, Container, Engine, Network, PublishedPort, Subnet};
pub use expression::{
    BitOperation, CmpOperation, CtKey, Data, Direction, Expression, ExthdrKind, FibResult, LimitUnit, MetaKey, NatKind, PayloadBase, RangeOperation,
    Register, Verdict,
};
pub use link::{Address, Bridge, BridgePort, Fdb, Ipv4Conf, Ipv6Conf, Link, LinkKind, Lower, Neighbour, Peer, PortVlan};
pub use route::{NextHop, PolicyRule, PortRange, Route, RouteKind, RuleAction};
pub use socket::{Owner, Proxy, Socket};
pub use table::{BaseChain, Chain, ChainKind, Element, Family, Flowtable, Hook, IpSet, IpSetElement, NfObject, NfRule, Policy, Set, SetFlags, Table};

/// The version of the format that this library reads and writes.
pub const VERSION: u32 = 1;

/// Everything that was read from one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`VERSION`] of the writer. A reader refuses what is newer than itself.
    pub version: u32,
    /// When it was taken: RFC 3339, UTC.
    pub taken: String,
    /// The host's name, as the kernel has it.
    pub host: String,
    /// The kernel's release: semantics depend on it.
    pub kernel: String,
    /// Whether the host stores integers with their least significant byte first; registers hold host order.
    pub little_endian: bool,
    /// The namespace that the collector was started in.
    pub this_host: NamespaceId,
    /// Each network namespace once, this host's first.
    pub namespaces: Vec<Namespace>,
    /// What the engine said, when one was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<Engine>,
    /// What is known to be missing or not modelled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
}

/// Why a file is not a snapshot that can be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It is not JSON, or not of this shape.
    #[error("this is not a snapshot: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A newer netcheck wrote it.
    #[error("the snapshot has format {found}, this netcheck reads up to {VERSION}: update netcheck")]
    TooNew {
        /// The file's version.
        found: u32,
    },
    /// A reference leads nowhere.
    #[error("the snapshot names its host as namespace {0}, which is not in it")]
    NoHost(NamespaceId),
}

impl Snapshot {
    /// Reads a snapshot file.
    ///
    /// # Errors
    /// When the bytes are not a snapshot of a version that is known here.
    pub fn from_json(json: &[u8]) -> Result<Self, SnapshotError> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let head: Head = serde_json::from_slice(json)?;
        if head.version > VERSION {
            return Err(SnapshotError::TooNew { found: head.version });
        }
        let snapshot: Self = serde_json::from_slice(json)?;
        if snapshot.namespace(snapshot.this_host).is_none() {
            return Err(SnapshotError::NoHost(snapshot.this_host));
        }
        Ok(snapshot)
    }

    /// The file's content.
    ///
    /// # Errors
    /// Never for a value that was read or collected; the writer's signature asks for it.
    pub fn to_json(&self) -> Result<Vec<u8>, SnapshotError> {
        let mut json = serde_json::to_vec(self)?;
        json.push(b'\n');
        Ok(json)
    }

    /// The namespace with this id.
    #[must_use]
    pub fn namespace(&self, id: NamespaceId) -> Option<&Namespace> {
        self.namespaces.iter().find(|namespace| namespace.id == id)
    }

    /// The containers, none without an engine.
    #[must_use]
    pub fn containers(&self) -> &[Container] {
        self.engine.as_ref().map_or(&[], |engine| engine.containers.as_slice())
    }
}

/// Identifies a network namespace within one snapshot: the inode of its nsfs file, which was held open while it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NamespaceId(pub u64);

impl fmt::Display for NamespaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its identity.
    pub id: NamespaceId,
    /// Its names under `/run/netns`, sorted. Container names are with the containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Files it is mounted on: the engine's sandbox key, `/run/netns/NAME`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Processes in it, the lowest few of them, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pids: Vec<u32>,
    /// Its links. Empty when it could not be entered: then there is a [`Gap`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// Addresses of its links.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Address>,
    /// Routes of all tables, both families.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Policy rules of both families, in the order they are tried (by priority within a family).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<PolicyRule>,
    /// Neighbour entries of both families.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub neighbours: Vec<Neighbour>,
    /// Forwarding databases of bridges.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fdb: Vec<Fdb>,
    /// Vlans of bridge ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vlans: Vec<PortVlan>,
    /// `net.ipv4.conf.all`.
    #[serde(default)]
    pub ipv4_all: Ipv4Conf,
    /// `net.ipv4.conf.default`: what a new link gets.
    #[serde(default)]
    pub ipv4_default: Ipv4Conf,
    /// `net.ipv6.conf.all`.
    #[serde(default)]
    pub ipv6_all: Ipv6Conf,
    /// `net.ipv6.conf.default`.
    #[serde(default)]
    pub ipv6_default: Ipv6Conf,
    /// Other switches that decide, by their name under `/proc/sys`: `net/bridge/bridge-nf-call-iptables` (absent: the module is not there), …
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// nf_tables of every family.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<Table>,
    /// The generation of the rule set that was read.
    #[serde(default)]
    pub generation: u32,
    /// ipsets, which iptables rules refer to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ipsets: Vec<IpSet>,
    /// Sockets that wait for somebody: TCP listeners, unconnected UDP, raw.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sockets: Vec<Socket>,
}

impl Default for NamespaceId {
    /// An id that no namespace has: nsfs inodes start far above.
    fn default() -> Self {
        Self(0)
    }
}

impl Namespace {
    /// The link with this index.
    #[must_use]
    pub fn link(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }
}

/// Something that is there and that no answer may ignore.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Gap {
    /// What kind of thing.
    pub kind: GapKind,
    /// Where; none when it is about the host as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<NamespaceId>,
    /// On which link, when it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<u32>,
    /// For people: which program, table, service; or the error.
    pub detail: String,
}

/// The kinds of gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GapKind {
    /// A BPF program on a netfilter hook, a cgroup or a socket lookup.
    Bpf,
    /// A namespace vanished while it was read: what was in it is gone.
    Disappeared,
    /// The engine could not be asked, or said something that was not understood.
    Engine,
    /// A flowtable: established flows pass it without the forward chain.
    Flowtable,
    /// The state kept changing while it was read.
    Inconsistent,
    /// IPVS services steal packets in INPUT.
    Ipvs,
    /// Tables of the legacy `ip_tables` (or `ip6_tables`, `arp_tables`, `ebtables`) run beside nf_tables.
    LegacyTables,
    /// A namespace is known to exist and could not be entered.
    NotEntered,
    /// A dump failed: this part of the namespace is missing.
    NotRead,
    /// A qdisc or filter of traffic control may redirect or drop.
    TrafficControl,
    /// An encapsulation on a route (MPLS, SEG6, BPF…).
    RouteEncapsulation,
    /// An XDP program on a link.
    Xdp,
    /// IPsec policies.
    Xfrm,
}
