//! Routes and policy rules. `include/uapi/linux/rtnetlink.h`, `fib_rules.h`.

use crate::uapi::{AF_INET, FIB_RULE_INVERT};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::DecodeError;
use super::attribute::{Attributes, address, u16_at, u32_at};
use crate::snapshot::{Family, NextHop, PolicyRule, PortRange, Route, RouteKind, RuleAction};

const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTA_ENCAP_TYPE: u16 = 21;
const RTA_NH_ID: u16 = 30;

/// `RTM_NEWROUTE`; none for an entry of the route cache.
///
/// # Errors
/// When it is malformed.
pub fn route(payload: &[u8]) -> Result<Option<Route>, DecodeError> {
    const RTM_F_CLONED: u32 = 0x200;
    let what = "route message";
    let &[family, to_length, from_length, tos, table, protocol, scope, kind, ..] = payload else {
        return Err(DecodeError::Truncated { what });
    };
    let flags = u32_at(payload, 8).ok_or(DecodeError::Truncated { what })?;
    if flags & RTM_F_CLONED != 0 {
        return Ok(None);
    }
    let attributes = Attributes::parse(payload.get(12..).unwrap_or_default(), what)?;
    let invalid = DecodeError::Invalid { what };
    let destination = match attributes.find(RTA_DST) {
        Some(_) => attributes.prefix(RTA_DST, to_length).ok_or(invalid.clone())?,
        None => IpNet::new(any(family), to_length).map_err(|_| invalid.clone())?,
    };
    let source = match from_length {
        0 => None,
        length => Some(attributes.prefix(RTA_SRC, length).ok_or(invalid)?),
    };
    let next_hops = next_hops(&attributes, flags)?;
    // `fib_dump_info`, `rt6_fill_node`: with `nexthop_compat_mode` off, of a next hop object there is nothing but its number.
    let by_object = next_hops.is_empty() && attributes.find(RTA_NH_ID).is_some();
    Ok(Some(Route {
        table: attributes.u32(RTA_TABLE).unwrap_or(u32::from(table)),
        destination,
        source,
        kind: if by_object { RouteKind::Other(kind) } else { route_kind(kind) },
        tos,
        metric: attributes.u32(RTA_PRIORITY).unwrap_or(0),
        protocol,
        scope,
        preferred_source: attributes.address(RTA_PREFSRC),
        next_hops,
    }))
}

fn any(family: u8) -> IpAddr {
    if family == AF_INET { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

const fn route_kind(number: u8) -> RouteKind {
    match number {
        1 => RouteKind::Unicast,
        2 => RouteKind::Local,
        3 => RouteKind::Broadcast,
        4 => RouteKind::Anycast,
        5 => RouteKind::Multicast,
        6 => RouteKind::Blackhole,
        7 => RouteKind::Unreachable,
        8 => RouteKind::Prohibit,
        9 => RouteKind::Throw,
        other => RouteKind::Other(other),
    }
}

fn next_hops(route: &Attributes<'_>, flags: u32) -> Result<Vec<NextHop>, DecodeError> {
    if let Some(list) = route.find(RTA_MULTIPATH) {
        return multipath(list);
    }
    let hop = next_hop(route, route.u32(RTA_OIF), flags);
    let nowhere = hop.oif.is_none() && hop.gateway.is_none() && !hop.encapsulated;
    Ok(if nowhere { Vec::new() } else { vec![hop] })
}

/// `struct rtnexthop`: length, flags, hops, index, attributes.
fn multipath(mut list: &[u8]) -> Result<Vec<NextHop>, DecodeError> {
    let what = "next hop";
    let truncated = DecodeError::Truncated { what };
    let mut hops = Vec::new();
    while list.len() >= 8 {
        let length = usize::from(u16_at(list, 0).ok_or(truncated.clone())?);
        let flags = u32::from(*list.get(2).ok_or(truncated.clone())?);
        let attributes = list.get(8..length).ok_or(truncated.clone())?;
        let attributes = Attributes::parse(attributes, what)?;
        hops.push(next_hop(&attributes, u32_at(list, 4), flags));
        list = list.get(super::attribute::align(length)..).unwrap_or_default();
    }
    Ok(hops)
}

fn next_hop(attributes: &Attributes<'_>, oif: Option<u32>, flags: u32) -> NextHop {
    const DEAD_OR_LINKDOWN: u32 = 0x01 | 0x10;
    const ONLINK: u32 = 0x04;
    // RTA_VIA: a family of two bytes, then an address of that family.
    let via = attributes.find(RTA_VIA).and_then(|via| via.get(2..)).and_then(address);
    NextHop {
        oif: oif.filter(|index| *index != 0),
        gateway: attributes.address(RTA_GATEWAY).or(via),
        dead: flags & DEAD_OR_LINKDOWN != 0,
        onlink: flags & ONLINK != 0,
        encapsulated: attributes.u16(RTA_ENCAP_TYPE).unwrap_or(0) != 0,
    }
}

/// `RTM_NEWRULE`.
///
/// # Errors
/// When it is malformed.
pub fn rule(payload: &[u8]) -> Result<PolicyRule, DecodeError> {
    const NO_SUPPRESSION: u32 = u32::MAX;
    let what = "policy rule message";
    let &[family, to_length, from_length, tos, table, _, _, action, ..] = payload else {
        return Err(DecodeError::Truncated { what });
    };
    let flags = u32_at(payload, 8).ok_or(DecodeError::Truncated { what })?;
    let attributes = Attributes::parse(payload.get(12..).unwrap_or_default(), what)?;
    let suppression = |kind| attributes.u32(kind).filter(|value| *value != NO_SUPPRESSION);
    let mark = attributes.u32(10).unwrap_or(0);
    Ok(PolicyRule {
        family: if family == AF_INET { Family::Ip } else { Family::Ip6 },
        priority: attributes.u32(6).unwrap_or(0),
        action: action_of(action, attributes.u32(15).unwrap_or(u32::from(table)), &attributes),
        invert: flags & FIB_RULE_INVERT != 0,
        source: attributes.prefix(2, from_length),
        destination: attributes.prefix(1, to_length),
        iif: attributes.string(3),
        oif: attributes.string(17),
        fwmark: mark,
        fwmask: attributes.u32(16).unwrap_or(if mark == 0 { 0 } else { u32::MAX }),
        tos,
        ip_protocol: attributes.u8(22).unwrap_or(0),
        source_ports: ports(&attributes, 23),
        destination_ports: ports(&attributes, 24),
        users: users(&attributes),
        suppress_prefix_length: suppression(14),
        suppress_group: suppression(13),
        l3mdev: attributes.u8(19).unwrap_or(0) != 0,
        unknown: unknown_conditions(&attributes),
    })
}

fn action_of(number: u8, table: u32, attributes: &Attributes<'_>) -> RuleAction {
    match number {
        1 => RuleAction::Table(table),
        2 => RuleAction::Goto(attributes.u32(4).unwrap_or(0)),
        3 => RuleAction::Nop,
        6 => RuleAction::Blackhole,
        7 => RuleAction::Unreachable,
        8 => RuleAction::Prohibit,
        other => RuleAction::Other(other),
    }
}

/// `struct fib_rule_port_range`, in host order.
fn ports(attributes: &Attributes<'_>, kind: u16) -> Option<PortRange> {
    let range = attributes.find(kind)?;
    Some(PortRange { first: u16_at(range, 0)?, last: u16_at(range, 2)? })
}

/// `struct fib_rule_uid_range`; the whole range is no condition.
fn users(attributes: &Attributes<'_>) -> Option<(u32, u32)> {
    let range = attributes.find(20)?;
    Some((u32_at(range, 0)?, u32_at(range, 4)?)).filter(|range| *range != (0, u32::MAX))
}

/// Conditions that are not decoded above: flow, tunnel id, DSCP, flow label, port masks.
fn unknown_conditions(attributes: &Attributes<'_>) -> Vec<u16> {
    const KNOWN: [u16; 18] = [1, 2, 3, 4, 6, 10, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24];
    // A tunnel id of zero is no condition, and port masks of all ones restrict nothing.
    let harmless = |kind: u16, payload: &[u8]| match kind {
        11 | 12 => payload.iter().all(|byte| *byte == 0),
        28 | 29 => payload.iter().all(|byte| *byte == 0xff),
        _ => false,
    };
    let unknown = attributes.iter().filter(|(kind, payload)| !KNOWN.contains(kind) && !harmless(*kind, payload));
    unknown.map(|(kind, _)| kind).collect()
}
