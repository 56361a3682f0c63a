//! Routing as the kernel does it: policy rules, tables, longest prefix, and what a lookup depends on.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::snapshot::{NextHop, PolicyRule, PortRange, Route, RouteKind, RuleAction};
use crate::space::{Field, Ranges};

/// Routing of one address family in one namespace.
#[derive(Debug, Clone, Default)]
pub struct Fib {
    tables: BTreeMap<u32, Table>,
    rules: Vec<PolicyRule>,
    custom: bool,
    types_of_service: Ranges,
}

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct Key<'a> {
    /// Where to; IPv4 in the low 32 bits.
    pub destination: u128,
    /// From where, 0 when not chosen yet.
    pub source: u128,
    /// Name of the link that it came by; `lo` for the host's own packets.
    pub iif: &'a str,
    /// Link that it must leave by: index and name.
    pub oif: Option<(u32, &'a str)>,
    /// Packet mark.
    pub mark: u32,
    /// Type of service.
    pub tos: u8,
    /// Protocol, source port and destination port, where the lookup knows them.
    pub transport: Option<(u8, u16, u16)>,
    /// Table of the VRF that the packet is in.
    pub vrf_table: Option<u32>,
    /// IPv6 only: routes of other links than this one do not count (link-local destinations).
    pub strict: Option<u32>,
}

/// What a lookup looked at: the set of values of a field that would have led to the same answer.
pub type Seen<'m> = Vec<(Field, Cow<'m, Ranges>)>;

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Found<'m> {
    /// A route, with the next hops that may be taken (none for local routes without a link).
    Route {
        /// The route.
        route: &'m Route,
        /// The ways it may go.
        next_hops: Vec<&'m NextHop>,
    },
    /// A route or rule that refuses.
    Refused(RouteKind),
    /// No route.
    Nothing,
    /// Something that is not modelled decides.
    Unknown(String),
}

#[derive(Debug, Clone, Default)]
struct Table {
    routes: Vec<Route>,
    /// First value of each stretch of addresses with the same candidates, ascending; the first is 0.
    starts: Vec<u128>,
    /// For each stretch, its class.
    class_of: Vec<usize>,
    classes: Vec<Class>,
    /// Addresses whose first candidate is a plain local route: they are all delivered here alike.
    local: Ranges,
    /// Addresses whose first candidate is a plain route by one link, for each link.
    by_link: BTreeMap<u32, Ranges>,
    /// Addresses whose first candidate says of what kind they are, whatever else a packet has, for each kind; none is no route.
    by_kind: BTreeMap<Option<RouteKind>, Ranges>,
    elsewhere: Elsewhere,
}

/// Addresses that no route sends out by a link, whatever a packet has besides its destination.
#[derive(Debug, Clone, Default)]
struct Elsewhere {
    /// For each link that a route names.
    by_link: BTreeMap<u32, Ranges>,
    /// For all others.
    anywhere: Ranges,
}

/// Addresses with the same candidate routes.
#[derive(Debug, Clone, Default)]
struct Class {
    /// Indices into `routes`, in the order the kernel tries them.
    candidates: Vec<usize>,
    addresses: Ranges,
}

/// The local, main and default tables.
pub const LOCAL: u32 = 255;
/// See [`LOCAL`].
pub const MAIN: u32 = 254;

/// An address as a number; IPv4 in the low 32 bits.
#[must_use]
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// First and last address of a prefix.
#[must_use]
pub fn prefix(net: &IpNet) -> (u128, u128) {
    (number(net.network()), number(net.broadcast()))
}

impl Fib {
    /// Builds the tables of one family. `bits` is 32 or 128.
    #[must_use]
    pub fn new(routes: Vec<Route>, rules: Vec<PolicyRule>, ipv4: bool) -> Self {
        let plain = ipv4 && is_default(&rules);
        let mut by_table: BTreeMap<u32, Vec<Route>> = BTreeMap::new();
        for route in routes {
            // Until a rule is ever added, the kernel keeps the local table inside the main one (`fib_unmerge`).
            let table = if plain && route.table == LOCAL { MAIN } else { route.table };
            by_table.entry(table).or_default().push(route);
        }
        let mut tables: BTreeMap<u32, Table> = by_table.into_iter().map(|(id, routes)| (id, Table::new(routes))).collect();
        let rules = if plain { rules.into_iter().filter(|rule| rule.action != RuleAction::Table(LOCAL)).collect() } else { rules };
        if let (true, Some(main)) = (plain, tables.get(&MAIN)) {
            tables.insert(LOCAL, main.clone());
        }
        let of_routes = tables.values().flat_map(|table| &table.routes).map(|route| route.tos);
        let asked = rules.iter().map(|rule| rule.tos).chain(of_routes).filter(|tos| *tos != 0);
        let types_of_service = Ranges::union_of(asked.map(|tos| (u128::from(tos & !3), u128::from(tos | 3))));
        Self { tables, rules, custom: !plain, types_of_service }
    }

    /// Whether only the kernel's own rules are there.
    #[must_use]
    pub fn has_default_rules(&self) -> bool {
        is_default(&self.rules)
    }

    /// Routes that do not follow from one address alone, in words.
    pub fn described(&self) -> impl Iterator<Item = String> {
        let shared = |route: &&Route| {
            let own = matches!(route.kind, RouteKind::Local | RouteKind::Anycast | RouteKind::Broadcast | RouteKind::Multicast);
            !own || (route.destination.prefix_len() != 32 && route.destination.prefix_len() != 128)
        };
        self.tables.iter().flat_map(move |(id, table)| {
            table
                .routes
                .iter()
                .filter(shared)
                .map(move |route| format!("{id} {} {:?} {} {:?}", route.destination, route.kind, route.tos, route.next_hops))
        })
    }

    /// The types of service that rules or routes are for, with any ECN bits: these are no part of the question. `fib_dscp_masked_match`.
    pub(crate) const fn types_of_service(&self) -> &Ranges {
        &self.types_of_service
    }

    /// Whether a table besides `local` delivers to this namespace.
    pub(crate) fn delivers_elsewhere(&self) -> bool {
        self.tables.values().flat_map(|table| &table.routes).any(|route| route.kind == RouteKind::Local && route.table != LOCAL)
    }

    /// Whether another route may be taken while a router does not answer: over IPv4 another default route of the same metric (`fib_select_default`),
    /// over IPv6 any to the same destination (`find_rr_leaf`).
    pub(crate) fn may_pass_over(&self, router: IpAddr) -> bool {
        let by_it = |route: &Route| route.next_hops.iter().any(|hop| hop.gateway == Some(router));
        let as_good = |route: &Route, other: &Route| {
            let same = route.destination == other.destination && !std::ptr::eq(route, other);
            same && (!router.is_ipv4() || route.destination.prefix_len() == 0 && route.metric == other.metric)
        };
        let passed = |table: &Table| table.routes.iter().any(|route| by_it(route) && table.routes.iter().any(|other| as_good(route, other)));
        self.tables.values().any(passed)
    }

    /// Whether a rule or a route is for some source addresses.
    pub(crate) fn looks_at_source(&self) -> bool {
        self.rules.iter().any(|rule| rule.source.is_some())
            || self.tables.values().flat_map(|table| &table.routes).any(|route| route.source.is_some())
    }

    /// Whether a rule is for some marks.
    pub(crate) fn looks_at_mark(&self) -> bool {
        self.rules.iter().any(|rule| rule.fwmask != 0)
    }

    /// Whether there are rules besides the kernel's own.
    #[must_use]
    pub fn has_custom_rules(&self) -> bool {
        self.custom
    }

    /// Links that a default route leaves by.
    pub fn default_links(&self) -> impl Iterator<Item = u32> {
        let all = self.tables.values().flat_map(|table| &table.routes);
        all.filter(|route| route.destination.prefix_len() == 0 && route.kind == RouteKind::Unicast)
            .flat_map(|route| route.next_hops.iter().filter_map(|hop| hop.oif))
    }

    /// Routes of the local table.
    pub fn local_routes(&self) -> impl Iterator<Item = &Route> {
        self.tables.get(&LOCAL).into_iter().flat_map(|table| &table.routes).filter(|route| route.table == LOCAL)
    }

    /// `fib_rules_lookup`.
    pub fn lookup<'m>(&'m self, key: &Key<'_>, seen: &mut Seen<'m>) -> Found<'m> {
        let mut skip_to = None;
        for rule in &self.rules {
            if skip_to.is_some_and(|priority| rule.priority < priority) {
                continue;
            }
            if !rule.unknown.is_empty() || rule.users.is_some() {
                return Found::Unknown(format!("policy rule {} has conditions that are not modelled", rule.priority));
            }
            if rule_matches(rule, key, seen) == rule.invert {
                continue;
            }
            let table = match rule.action {
                RuleAction::Table(_) if rule.l3mdev => key.vrf_table,
                RuleAction::Table(id) => Some(id),
                RuleAction::Goto(priority) => {
                    skip_to = Some(priority);
                    None
                }
                RuleAction::Nop => None,
                RuleAction::Blackhole => return Found::Refused(RouteKind::Blackhole),
                RuleAction::Prohibit => return Found::Refused(RouteKind::Prohibit),
                RuleAction::Unreachable => return Found::Refused(RouteKind::Unreachable),
                RuleAction::Other(action) => {
                    return Found::Unknown(format!("policy rule with action {action}"));
                }
            };
            let Some(found) = table.and_then(|id| self.tables.get(&id)).and_then(|table| table.lookup(key, seen)) else {
                continue;
            };
            if let Found::Route { route, .. } = &found {
                let length = u32::from(route.destination.prefix_len());
                if rule.suppress_prefix_length.is_some_and(|limit| length <= limit) {
                    continue;
                }
                if rule.suppress_group.is_some() {
                    return Found::Unknown("policy rule with suppress_ifgroup".to_owned());
                }
            }
            return found;
        }
        Found::Nothing
    }

    /// Whether the main table sends this address out by this link, whatever else a packet has, and no rule asks for more.
    pub(crate) fn is_plain(&self, address: u128, link: u32) -> bool {
        let main = self.tables.get(&MAIN).filter(|_| self.has_default_rules());
        main.and_then(|main| main.by_link.get(&link)).is_some_and(|addresses| addresses.contains(address))
    }

    /// Addresses that the main table sends out by one of these links, whatever else a packet has.
    pub(crate) fn plainly_by(&self, links: impl Fn(u32) -> bool) -> Ranges {
        let by = self.tables.get(&MAIN).into_iter().flat_map(|main| &main.by_link).filter(|(link, _)| links(**link));
        Ranges::union_of(by.flat_map(|(_, addresses)| addresses.as_slice().iter().copied()))
    }

    /// Of what kind a table's route to an address is, and what other addresses are of the same, when nothing else matters.
    pub(crate) fn kind_in(&self, table: u32, address: u128) -> Option<(Option<RouteKind>, &Ranges)> {
        let by_kind = self.tables.get(&table).into_iter().flat_map(|table| &table.by_kind);
        by_kind.map(|(kind, addresses)| (*kind, addresses)).find(|(_, addresses)| addresses.contains(address))
    }

    /// One table alone.
    pub fn lookup_table<'m>(&'m self, table: u32, key: &Key<'_>, seen: &mut Seen<'m>) -> Found<'m> {
        self.tables.get(&table).and_then(|table| table.lookup(key, seen)).unwrap_or(Found::Nothing)
    }
}

fn is_default(rules: &[PolicyRule]) -> bool {
    rules.iter().all(|rule| {
        let bare = rule.source.is_none()
            && rule.destination.is_none()
            && rule.iif.is_none()
            && rule.oif.is_none()
            && (rule.fwmark, rule.fwmask, rule.tos, rule.ip_protocol) == (0, 0, 0, 0)
            && rule.source_ports.is_none()
            && rule.destination_ports.is_none()
            && !rule.invert
            && !rule.l3mdev
            && rule.suppress_prefix_length.is_none()
            && rule.unknown.is_empty();
        bare && matches!(
            (rule.priority, rule.action),
            (0, RuleAction::Table(255)) | (32766, RuleAction::Table(254)) | (32767, RuleAction::Table(253))
        )
    })
}

fn rule_matches(rule: &PolicyRule, key: &Key<'_>, seen: &mut Seen<'_>) -> bool {
    if rule.iif.as_deref().is_some_and(|name| name != key.iif) {
        return false;
    }
    if rule.oif.as_deref().is_some_and(|name| key.oif.is_none_or(|(_, oif)| oif != name)) {
        return false;
    }
    if (key.mark ^ rule.fwmark) & rule.fwmask != 0 || (rule.tos != 0 && (rule.tos ^ key.tos) & !3 != 0) {
        return false;
    }
    let ports = [(&rule.source_ports, Field::SourcePort), (&rule.destination_ports, Field::DestinationPort)];
    if rule.ip_protocol != 0 && key.transport.is_none_or(|(protocol, ..)| protocol != rule.ip_protocol) {
        return false;
    }
    for (range, field) in ports {
        let Some(PortRange { first, last }) = range else {
            continue;
        };
        let Some((_, source, destination)) = key.transport else {
            return false;
        };
        let port = if field == Field::SourcePort { source } else { destination };
        let range = Ranges::between(u128::from(*first), u128::from(*last));
        if !look(field, u128::from(port), range, seen) {
            return false;
        }
    }
    let prefixes = [(&rule.source, Field::Source, key.source), (&rule.destination, Field::Destination, key.destination)];
    for (net, field, value) in prefixes {
        let Some(net) = net else { continue };
        let (first, last) = prefix(net);
        if !look(field, value, Ranges::between(first, last), seen) {
            return false;
        }
    }
    true
}

/// Whether `value` is in `ranges`, remembering which other values would have answered the same.
fn look(field: Field, value: u128, ranges: Ranges, seen: &mut Seen<'_>) -> bool {
    let inside = ranges.contains(value);
    let same = if inside { ranges } else { Ranges::between(0, u128::MAX).subtract(&ranges) };
    seen.push((field, Cow::Owned(same)));
    inside
}

/// The kind of a route that is taken whatever a packet has besides its destination.
fn plain_kind(route: &Route) -> Option<RouteKind> {
    let mut usable = route.next_hops.iter().filter(|hop| !hop.dead).peekable();
    let plain = route.tos == 0 && route.source.is_none() && usable.peek().is_some() && !usable.any(|hop| hop.encapsulated);
    let kind = matches!(route.kind, RouteKind::Anycast | RouteKind::Broadcast | RouteKind::Local | RouteKind::Multicast | RouteKind::Unicast);
    (plain && kind).then_some(route.kind)
}

/// The one link that a route leaves by, whatever a packet has besides its destination.
fn plain_link(route: &Route) -> Option<u32> {
    let mut usable = route.next_hops.iter().filter(|hop| !hop.dead);
    let (hop, None) = (usable.next()?, usable.next()) else { return None };
    let plain = route.kind == RouteKind::Unicast && route.tos == 0 && route.source.is_none() && !hop.encapsulated;
    hop.oif.filter(|_| plain)
}

/// Whether a route has no other part in a lookup for one link than to name links.
fn leads_by_links_only(route: &Route) -> bool {
    let kind = matches!(route.kind, RouteKind::Anycast | RouteKind::Broadcast | RouteKind::Local | RouteKind::Multicast | RouteKind::Unicast);
    kind && route.tos == 0 && route.source.is_none()
}

/// The index of a class, and the addresses that are in it.
type Stretches = (usize, Vec<(u128, u128)>);

fn is_plain_local(route: &Route) -> bool {
    route.kind == RouteKind::Local && route.tos == 0 && route.source.is_none() && route.next_hops.iter().any(|hop| !hop.dead)
}

impl Elsewhere {
    fn new(routes: &[Route], classes: &[Class]) -> Self {
        let mut by_link: BTreeMap<u32, Vec<(u128, u128)>> = BTreeMap::new();
        let mut others = Vec::new();
        for class in classes {
            let addresses = || class.addresses.as_slice().iter().copied();
            for route in class.candidates.iter().filter_map(|index| routes.get(*index)) {
                if !leads_by_links_only(route) {
                    others.extend(addresses());
                }
                for link in route.next_hops.iter().filter_map(|hop| hop.oif) {
                    by_link.entry(link).or_default().extend(addresses());
                }
            }
        }
        let anywhere = Ranges::between(0, u128::MAX).subtract(&Ranges::union_of(others));
        let by_link = by_link.into_iter().map(|(link, addresses)| (link, anywhere.subtract(&Ranges::union_of(addresses)))).collect();
        Self { by_link, anywhere }
    }

    fn than(&self, link: u32) -> &Ranges {
        self.by_link.get(&link).unwrap_or(&self.anywhere)
    }
}

impl Table {
    fn new(mut routes: Vec<Route>) -> Self {
        // Longest prefix first, then that of the source, which only IPv6 has (`fib6_node_lookup_1`), then TOS, then metric: the order of
        // `fib_insert_alias` and of fib6 siblings.
        routes.sort_by_key(|route| {
            let source = route.source.map_or(0, |source| source.prefix_len());
            (Reverse(route.destination.prefix_len()), Reverse(source), Reverse(route.tos), route.metric)
        });
        let mut starts = vec![0];
        for route in &routes {
            let (first, last) = prefix(&route.destination);
            starts.push(first);
            starts.extend(last.checked_add(1));
        }
        starts.sort_unstable();
        starts.dedup();
        let mut covering: Vec<Vec<usize>> = vec![Vec::new(); starts.len()];
        for (index, route) in routes.iter().enumerate() {
            let (first, last) = prefix(&route.destination);
            let from = starts.partition_point(|start| *start < first);
            let to = starts.partition_point(|start| *start <= last);
            covering.iter_mut().take(to).skip(from).for_each(|candidates| candidates.push(index));
        }
        let mut table = Self { routes, starts, ..Self::default() };
        let mut known: BTreeMap<Vec<usize>, Stretches> = BTreeMap::new();
        for (index, candidates) in covering.into_iter().enumerate() {
            let first = table.starts.get(index).copied().unwrap_or(0);
            let last = table.starts.get(index + 1).map_or(u128::MAX, |next| next - 1);
            let next = known.len();
            let class = known.entry(candidates).or_insert((next, Vec::new()));
            class.1.push((first, last));
            table.class_of.push(class.0);
        }
        table.local = Ranges::union_of(
            known
                .iter()
                .filter(|(candidates, _)| candidates.first().and_then(|index| table.routes.get(*index)).is_some_and(is_plain_local))
                .flat_map(|(_, (_, addresses))| addresses.iter().copied()),
        );
        let mut by_kind: BTreeMap<Option<RouteKind>, Vec<(u128, u128)>> = BTreeMap::new();
        for (candidates, (_, addresses)) in &known {
            let first = candidates.first().and_then(|index| table.routes.get(*index));
            match first.map(plain_kind) {
                Some(None) => {}
                Some(kind) => by_kind.entry(kind).or_default().extend(addresses),
                None => by_kind.entry(None).or_default().extend(addresses),
            }
        }
        table.by_kind = by_kind.into_iter().map(|(kind, addresses)| (kind, Ranges::union_of(addresses))).collect();
        let mut by_link: BTreeMap<u32, Vec<(u128, u128)>> = BTreeMap::new();
        for (candidates, (_, addresses)) in &known {
            if let Some(link) = candidates.first().and_then(|index| table.routes.get(*index)).and_then(plain_link) {
                by_link.entry(link).or_default().extend(addresses);
            }
        }
        table.by_link = by_link.into_iter().map(|(link, addresses)| (link, Ranges::union_of(addresses))).collect();
        table.classes = vec![Class::default(); known.len()];
        for (candidates, (index, addresses)) in known {
            if let Some(class) = table.classes.get_mut(index) {
                *class = Class { candidates, addresses: Ranges::union_of(addresses) };
            }
        }
        table.elsewhere = Elsewhere::new(&table.routes, &table.classes);
        table
    }

    fn lookup<'m>(&'m self, key: &Key<'_>, seen: &mut Seen<'m>) -> Option<Found<'m>> {
        let links = [key.oif.map(|(link, _)| link), key.strict];
        if let Some(elsewhere) =
            links.into_iter().flatten().map(|link| self.elsewhere.than(link)).find(|addresses| addresses.contains(key.destination))
        {
            seen.push((Field::Destination, Cow::Borrowed(elsewhere)));
            return None;
        }
        let stretch = self.starts.partition_point(|start| *start <= key.destination).checked_sub(1)?;
        let class = self.classes.get(*self.class_of.get(stretch)?)?;
        let first = class.candidates.first().and_then(|index| self.routes.get(*index));
        let alike = if first.is_some_and(is_plain_local) && key.strict.is_none() && key.oif.is_none() { &self.local } else { &class.addresses };
        seen.push((Field::Destination, Cow::Borrowed(alike)));
        for route in class.candidates.iter().filter_map(|index| self.routes.get(*index)) {
            if route.tos != 0 && (route.tos ^ key.tos) & !3 != 0 {
                continue;
            }
            if let Some(net) = &route.source {
                let (first, last) = prefix(net);
                if !look(Field::Source, key.source, Ranges::between(first, last), seen) {
                    continue;
                }
            }
            match route.kind {
                RouteKind::Throw => return None,
                kind @ (RouteKind::Blackhole | RouteKind::Prohibit | RouteKind::Unreachable) => {
                    return Some(Found::Refused(kind));
                }
                RouteKind::Other(kind) => {
                    return Some(Found::Unknown(format!("a route of type {kind}, or by a next hop object")));
                }
                RouteKind::Anycast | RouteKind::Broadcast | RouteKind::Local | RouteKind::Multicast | RouteKind::Unicast => {}
            }
            let usable: Vec<&NextHop> = route
                .next_hops
                .iter()
                .filter(|hop| !hop.dead)
                .filter(|hop| key.oif.is_none_or(|(oif, _)| hop.oif == Some(oif)))
                .filter(|hop| key.strict.is_none_or(|oif| hop.oif == Some(oif)))
                .collect();
            if usable.is_empty() {
                continue;
            }
            if usable.iter().any(|hop| hop.encapsulated) {
                return Some(Found::Unknown(format!("the route to {} is encapsulated", route.destination)));
            }
            return Some(Found::Route { route, next_hops: usable });
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ip -6 route`: the longer source prefix wins, whatever the metrics are.
    #[test]
    fn the_source_prefix_counts_before_the_metric() {
        let route = |source: &str, metric: u32, oif: u32| Route {
            table: MAIN,
            destination: IpNet::new_assert("fd00:2::".parse().unwrap(), 64),
            source: source.parse().ok(),
            kind: RouteKind::Unicast,
            tos: 0,
            metric,
            protocol: 4,
            scope: 0,
            preferred_source: None,
            next_hops: vec![NextHop { oif: Some(oif), gateway: None, dead: false, onlink: false, encapsulated: false }],
        };
        let table = Table::new(vec![route("", 10, 1), route("fd00:1::/64", 100, 2), route("fd00:1::/48", 1, 3)]);
        for (source, link) in [(0xfd00_0001_u128 << 96, 2), ((0xfd00_0001_u128 << 96) | 1 << 64, 3), (0xfd00_0009_u128 << 96, 1)] {
            let key = Key { destination: (0xfd00_0002 << 96) | 1, source, ..Key::default() };
            let found = table.lookup(&key, &mut Vec::new());
            let out = if let Some(Found::Route { next_hops, .. }) = found { next_hops.first().and_then(|hop| hop.oif) } else { None };
            assert_eq!(out, Some(link), "{source:x}");
        }
    }

    /// `ip_route_output_key_hash_rcu`: what has no route by the link that was asked for has none for one reason.
    #[test]
    fn addresses_without_a_route_by_a_link_are_looked_up_together() {
        let route = |destination: &str, kind: RouteKind, oif: u32| Route {
            table: MAIN,
            destination: destination.parse().unwrap(),
            source: None,
            kind,
            tos: 0,
            metric: 0,
            protocol: 4,
            scope: 0,
            preferred_source: None,
            next_hops: vec![NextHop { oif: Some(oif), gateway: None, dead: false, onlink: false, encapsulated: false }],
        };
        let unicast = RouteKind::Unicast;
        let table = Table::new(vec![
            route("0.0.0.0/0", unicast, 1),
            route("10.0.0.0/24", unicast, 2),
            route("10.0.1.0/24", unicast, 3),
            route("10.0.2.0/24", RouteKind::Throw, 1),
        ]);
        let looked_at = |oif: u32, last: u128| {
            let mut seen = Vec::new();
            let key = Key { destination: 0x0a00_0001 + (last << 8), oif: Some((oif, "")), ..Key::default() };
            (table.lookup(&key, &mut seen).is_some(), seen.remove(0).1.into_owned())
        };
        let all = Ranges::between(0, u128::MAX);
        let [own, thrown] = [0x0a00_0000, 0x0a00_0200].map(|first| Ranges::between(first, first + 255));
        assert_eq!(looked_at(2, 0), (true, own.clone()));
        assert_eq!(looked_at(2, 1), (false, all.subtract(&own).subtract(&thrown)));
        assert_eq!(looked_at(2, 2), (false, thrown.clone()));
        assert_eq!(looked_at(9, 1), (false, all.subtract(&thrown)));
        assert_eq!(looked_at(1, 2), (false, thrown));
    }
}
