//! Routes and policy rules. `include/uapi/linux/rtnetlink.h`, `fib_rules.h`.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::table::Family;

/// One route of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// 254 main, 255 local, 253 default, or any other.
    pub table: u32,
    /// Where to; `0.0.0.0/0` or `::/0` for everything.
    pub destination: IpNet,
    /// From where (IPv6 subtrees); none for anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpNet>,
    /// What happens to the packet.
    pub kind: RouteKind,
    /// Only for packets with this TOS, 0 for all.
    #[serde(default)]
    pub tos: u8,
    /// The lower is preferred among equal destinations.
    pub metric: u32,
    /// Who made it: 2 kernel, 3 boot, 4 static, 9 router advertisement, …
    pub protocol: u8,
    /// `RT_SCOPE_*`: 0 universe, 253 link, 254 host.
    pub scope: u8,
    /// Source address that the host uses for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_source: Option<IpAddr>,
    /// Where it goes; more than one is multipath (any of them). Empty for kinds that go nowhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub next_hops: Vec<NextHop>,
}

/// One way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextHop {
    /// ifindex of the link that it leaves by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oif: Option<u32>,
    /// The router; none when the destination is on the link. May be of the other family (`via inet6`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// `RTNH_F_DEAD` or `RTNH_F_LINKDOWN`: not used.
    #[serde(default)]
    pub dead: bool,
    /// The gateway is on the link though no address says so.
    #[serde(default)]
    pub onlink: bool,
    /// It is encapsulated (`RTA_ENCAP_TYPE`): not modelled, there is a gap.
    #[serde(default)]
    pub encapsulated: bool,
}

/// What a route does (`RTN_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteKind {
    /// To any one of several; on a host, as local.
    Anycast,
    /// Dropped without a word.
    Blackhole,
    /// Delivered here as broadcast.
    Broadcast,
    /// Delivered here.
    Local,
    /// Multicast.
    Multicast,
    /// Refused: administratively prohibited.
    Prohibit,
    /// Goes on with the next rule.
    Throw,
    /// Forwarded.
    Unicast,
    /// Refused: host unreachable.
    Unreachable,
    /// Any other type by its number, or one by a next hop object that was not read: not modelled.
    Other(u8),
}

/// A policy rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRule {
    /// `Ip` or `Ip6`.
    pub family: Family,
    /// Rules are tried from the lowest.
    pub priority: u32,
    /// What happens when it matches.
    pub action: RuleAction,
    /// Matches when its conditions do not (`FIB_RULE_INVERT`).
    #[serde(default)]
    pub invert: bool,
    /// Source prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpNet>,
    /// Destination prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<IpNet>,
    /// Name of the link that it arrived by; `lo` for the host's own packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iif: Option<String>,
    /// Name of the link that the socket is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oif: Option<String>,
    /// The mark, under `fwmask`.
    #[serde(default)]
    pub fwmark: u32,
    /// Bits of the mark that count; 0 and mark 0: any mark.
    #[serde(default)]
    pub fwmask: u32,
    /// TOS, 0 for any.
    #[serde(default)]
    pub tos: u8,
    /// IP protocol, 0 for any.
    #[serde(default)]
    pub ip_protocol: u8,
    /// Source ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ports: Option<PortRange>,
    /// Destination ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_ports: Option<PortRange>,
    /// Users whose own packets it is about; other packets never match. First and last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<(u32, u32)>,
    /// A found route is ignored if its prefix is this short or shorter (`suppress_prefixlength`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suppress_prefix_length: Option<u32>,
    /// A found route is ignored if its link is in this group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suppress_group: Option<u32>,
    /// Looks up the table of the VRF that the packet is in.
    #[serde(default)]
    pub l3mdev: bool,
    /// Attributes that are not understood: the rule may match less than it seems to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<u16>,
}

/// What a policy rule does (`FR_ACT_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleAction {
    /// Drops.
    Blackhole,
    /// Goes on at the rule with this priority.
    Goto(u32),
    /// Does nothing; goes on.
    Nop,
    /// Refuses: prohibited.
    Prohibit,
    /// Looks up this table.
    Table(u32),
    /// Refuses: unreachable.
    Unreachable,
    /// Any other action by its number: not modelled.
    Other(u8),
}

/// Ports, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortRange {
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
}
