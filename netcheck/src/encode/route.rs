//! Routes and policy rules. `include/uapi/linux/rtnetlink.h`, `fib_rules.h`.

use crate::uapi::{FIB_RULE_INVERT, NLM_F_APPEND, NLM_F_CREATE};
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Attributes, Lack, octets};
use crate::decode::message::Request;
use crate::snapshot::{Family, NextHop, PolicyRule, PortRange, Route, RouteKind, RuleAction};

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;

/// `RTM_NEWROUTE`.
///
/// # Errors
/// When it has an encapsulation or a type that is not known.
pub fn route(route: &Route) -> Result<Request, Lack> {
    let unknown = || Lack::Decides(format!("the route to {}", route.destination));
    if matches!(route.kind, RouteKind::Other(_)) || route.next_hops.iter().any(|hop| hop.encapsulated) {
        return Err(unknown());
    }
    Ok(message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_APPEND, route))
}

/// `RTM_DELROUTE`.
#[must_use]
pub fn remove_route(route: &Route) -> Request {
    message(RTM_DELROUTE, 0, route)
}

fn message(kind: u16, flags: u16, route: &Route) -> Request {
    let own = kind_number(route.kind);
    let source_length = route.source.map_or(0, |source| source.prefix_len());
    let onlink = if route.next_hops.iter().any(|hop| hop.onlink) { ONLINK } else { 0 };
    let mut fixed =
        vec![family(route.destination.addr()), route.destination.prefix_len(), source_length, route.tos, 0, route.protocol, route.scope, own];
    fixed.extend(u32::from(onlink).to_ne_bytes());
    let mut attributes = Attributes::new().address(1, route.destination.addr()).u32(15, route.table);
    if let Some(source) = route.source {
        attributes = attributes.address(2, source.addr());
    }
    if route.metric != 0 {
        attributes = attributes.u32(6, route.metric);
    }
    if let Some(source) = route.preferred_source {
        attributes = attributes.address(7, source);
    }
    attributes = match route.next_hops.as_slice() {
        [] => attributes,
        [hop] => {
            let attributes = hop.oif.map_or(attributes.clone(), |oif| attributes.u32(4, oif));
            gateway(attributes, route, hop)
        }
        hops => {
            let list: Vec<u8> = hops.iter().flat_map(|hop| multipath(route, hop)).collect();
            attributes.bytes(9, &list)
        }
    };
    Request::new(kind, flags, &fixed).attributes(attributes.as_slice())
}

const ONLINK: u8 = 4;

/// `struct rtnexthop` and what follows it.
fn multipath(route: &Route, hop: &NextHop) -> Vec<u8> {
    let attributes = gateway(Attributes::new(), route, hop);
    let length = u16::try_from(8 + attributes.as_slice().len()).unwrap_or(u16::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend([if hop.onlink { ONLINK } else { 0 }, 0]);
    bytes.extend(hop.oif.unwrap_or(0).to_ne_bytes());
    bytes.extend(attributes.as_slice());
    bytes
}

/// `RTA_GATEWAY`, or `RTA_VIA` for one of the other family.
fn gateway(attributes: Attributes, route: &Route, hop: &NextHop) -> Attributes {
    match hop.gateway {
        Some(gateway) if gateway.is_ipv4() == route.destination.addr().is_ipv4() => attributes.address(5, gateway),
        Some(gateway) => attributes.bytes(18, &[&u16::from(family(gateway)).to_ne_bytes()[..], &octets(gateway)].concat()),
        None => attributes,
    }
}

const fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { 2 } else { 10 }
}

const fn kind_number(kind: RouteKind) -> u8 {
    match kind {
        RouteKind::Unicast => 1,
        RouteKind::Local => 2,
        RouteKind::Broadcast => 3,
        RouteKind::Anycast => 4,
        RouteKind::Multicast => 5,
        RouteKind::Blackhole => 6,
        RouteKind::Unreachable => 7,
        RouteKind::Prohibit => 8,
        RouteKind::Throw => 9,
        RouteKind::Other(other) => other,
    }
}

/// `RTM_NEWRULE`.
///
/// # Errors
/// When it has conditions that are not known, or is about users.
pub fn rule(rule: &PolicyRule) -> Result<Request, Lack> {
    if !rule.unknown.is_empty() || rule.users.is_some() || matches!(rule.action, RuleAction::Other(_)) {
        return Err(Lack::Decides(format!("policy rule {}", rule.priority)));
    }
    Ok(rule_message(RTM_NEWRULE, NLM_F_CREATE, rule))
}

/// `RTM_DELRULE`.
#[must_use]
pub fn remove_rule(rule: &PolicyRule) -> Request {
    rule_message(RTM_DELRULE, 0, rule)
}

fn rule_message(kind: u16, flags: u16, rule: &PolicyRule) -> Request {
    let (action, table, target) = match rule.action {
        RuleAction::Table(table) => (1, table, None),
        RuleAction::Goto(priority) => (2, 0, Some(priority)),
        RuleAction::Nop => (3, 0, None),
        RuleAction::Blackhole => (6, 0, None),
        RuleAction::Unreachable => (7, 0, None),
        RuleAction::Prohibit => (8, 0, None),
        RuleAction::Other(other) => (other, 0, None),
    };
    let number = if rule.family == Family::Ip { 2 } else { 10 };
    let length = |net: Option<IpNet>| net.map_or(0, |net| net.prefix_len());
    let mut fixed = vec![number, length(rule.destination), length(rule.source), rule.tos, 0, 0, 0, action];
    fixed.extend((if rule.invert { FIB_RULE_INVERT } else { 0 }).to_ne_bytes());
    let optional = |attributes: Attributes, kind, value: Option<u32>| value.map_or(attributes.clone(), |value| attributes.u32(kind, value));
    let address = |attributes: Attributes, kind, net: Option<IpNet>| net.map_or(attributes.clone(), |net| attributes.address(kind, net.addr()));
    let name = |attributes: Attributes, kind, name: &Option<String>| name.as_ref().map_or(attributes.clone(), |name| attributes.string(kind, name));
    let ports = |attributes: Attributes, kind, range: Option<PortRange>| {
        range.map_or(attributes.clone(), |PortRange { first, last }| attributes.bytes(kind, &[first.to_ne_bytes(), last.to_ne_bytes()].concat()))
    };
    let mut attributes = Attributes::new().u32(6, rule.priority);
    attributes = optional(attributes, 15, Some(table).filter(|table| *table != 0 && !rule.l3mdev));
    attributes = optional(attributes, 4, target);
    attributes = address(address(attributes, 1, rule.destination), 2, rule.source);
    attributes = name(name(attributes, 3, &rule.iif), 17, &rule.oif);
    if rule.fwmask != 0 {
        attributes = attributes.u32(10, rule.fwmark).u32(16, rule.fwmask);
    }
    if rule.ip_protocol != 0 {
        attributes = attributes.u8(22, rule.ip_protocol);
    }
    attributes = ports(ports(attributes, 23, rule.source_ports), 24, rule.destination_ports);
    attributes = optional(optional(attributes, 14, rule.suppress_prefix_length), 13, rule.suppress_group);
    if rule.l3mdev {
        attributes = attributes.u8(19, 1);
    }
    Request::new(kind, flags, &fixed).attributes(attributes.as_slice())
}
