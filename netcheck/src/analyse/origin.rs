//! What an endpoint can send: the ways it has to make a packet, and the addresses it may put into it.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::fib::{number, prefix};
use crate::model::{Model, Place, Reach, Tags};
use crate::packet::{Packet, Protocol};
use crate::snapshot::{Address, LinkKind, Mac};
use crate::space::{Field, Ranges, Space};
use crate::walk::{Start, not_unicast4};

use super::group::Groups;
use super::{Attacker, Flow, Origin, all_ports};

/// One way to make packets.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    pub(crate) start: Start,
    pub(crate) ipv4: bool,
    sources: Ranges,
    destinations: Ranges,
    /// Source that a witness has if it may.
    preferred: Option<u128>,
}

/// A neighbour outside whose hardware address is not known; made up, locally administered.
const NEIGHBOUR: Mac = Mac([0x02, 0, 0, 0, 0, 0x01]);

/// Where 224.0.0.1 is sent: a hardware address of several. RFC 1112 §6.4.
const ALL_HOSTS: Mac = Mac([0x01, 0x00, 0x5e, 0, 0, 0x01]);

/// Every way that an origin has.
pub(crate) fn probes(model: &Model, groups: &Groups, origin: &Origin, attacker: Attacker) -> Vec<Probe> {
    match origin.namespace() {
        Some(namespace) => {
            let mut probes = programs(model, namespace, origin.members());
            if attacker >= Attacker::NetRaw {
                probes.extend(wires(model, groups, namespace));
            }
            probes
        }
        None => model.uplinks.iter().flat_map(|uplink| neighbours(model, *uplink, attacker)).collect(),
    }
}

/// What programs without privilege can send: over IPv4 from any address that is local (`ip_route_output_key_hash_rcu`, `__ip_dev_find`), over IPv6 from
/// any at all (`IPV6_FREEBIND`).
fn programs(model: &Model, namespace: usize, members: &[usize]) -> Vec<Probe> {
    let content = model.namespace(namespace);
    let start = Start::Process { namespace, link: None };
    // Members of a group send alike, each with its own addresses.
    let of_members = || members.iter().flat_map(|member| model.namespace(*member).addresses());
    let own = |wanted: fn(&Address) -> bool| addresses(of_members().filter(|own| wanted(own)));
    let ipv4 = own(|own| own.address.addr().is_ipv4());
    let ipv6 = own(|own| !own.address.addr().is_ipv4() && own.scope != 253);
    let preferred = |ranges: &Ranges| {
        let loopback = |value: u128| value >> 24 == 127 || value == 1;
        ranges.as_slice().iter().map(|range| range.0).find(|value| !loopback(*value))
    };
    let local = members.iter().fold(ipv4.clone(), |local, member| local.union(model.own(*member, true)));
    let any6 = |preferred: Option<u128>| Probe { start, ipv4: false, preferred, sources: unicast6(), destinations: global6() };
    let mut probes = vec![Probe { start, ipv4: true, preferred: preferred(&ipv4), sources: local, destinations: unicast4() }, any6(preferred(&ipv6))];
    // Who leaves the choice of an address to the kernel is routed before there is one, or is given none.
    let unaddressed = preferred(&ipv4).is_none();
    let later = |probe: &&Probe| if probe.ipv4 { unaddressed || content.fib4.looks_at_source() } else { content.fib6.looks_at_source() };
    probes.extend(probes.clone().iter().filter(later).map(|probe| Probe { sources: Ranges::one(0), ..probe.clone() }));
    let free = probes.clone();
    for link in content.links.values().filter(|link| link.kind != LinkKind::Loopback && link.up) {
        let bound = Start::Process { namespace, link: Some(link.index) };
        // Answers to what is asked by a port come by its bridge, which knows nothing of it.
        let usable = |ipv4: bool| link.port.is_none() && if ipv4 { link.ipv4.is_some() } else { link.ipv6.is_some_and(|conf| !conf.disable_ipv6) };
        probes.extend(free.iter().filter(|probe| usable(probe.ipv4)).map(|probe| probe.keeping_to(model, bound)));
        let of_member = |member: &usize| {
            let content = model.namespace(*member);
            let same = content.link_named(&link.name).map_or(0, |link| link.index);
            content.addresses_of(same).iter().filter(|own| !own.address.addr().is_ipv4())
        };
        let own = addresses(members.iter().flat_map(of_member));
        if let Some((first, _)) = own.as_slice().first() {
            probes.push(Probe { start: bound, destinations: link_local6(), ..any6(Some(*first)) });
        }
    }
    probes
}

/// What can be written onto the links of a namespace: any source, to any hardware address that is there.
fn wires(model: &Model, groups: &Groups, namespace: usize) -> Vec<Probe> {
    let content = model.namespace(namespace);
    let alike = Alike::new(model, groups, namespace);
    // A frame for all goes past what someone fixed in a bridge, too.
    let for_all = model.frames_matter() || model.namespaces().any(|(_, namespace)| namespace.has_fixed_ports());
    let mut probes = Vec::new();
    for link in content.links.values().filter(|link| link.up && link.mac.is_some() && link.kind != LinkKind::Loopback) {
        let from = Place { namespace, link: link.index };
        for (tags, reach) in ways(model, model.bridges_look(), |tags| model.reach(from, tags)) {
            // With whose they are, when they are one's only.
            let mut macs: BTreeMap<Mac, Option<usize>> = BTreeMap::new();
            for place in reach.receivers.iter().filter(|place| **place != from) {
                if let Some(mac) = model.link(*place).and_then(|link| link.mac) {
                    macs.entry(mac).and_modify(|owner| *owner = None).or_insert(Some(place.namespace));
                }
            }
            if !reach.exits.is_empty() || model.uplinks.contains(&from) {
                macs.insert(NEIGHBOUR, None);
            }
            if for_all && !macs.is_empty() {
                macs.extend([(Mac::BROADCAST, None), (ALL_HOSTS, None)]);
            }
            let forged = forgeries(model);
            for ((to, owner), forged) in macs.into_iter().flat_map(|to| forged.iter().map(move |forged| (to, *forged))) {
                let [elsewhere4, elsewhere6] = alike.elsewhere(owner);
                let start = Start::Wire { from, to, tags, forged };
                let own =
                    |ipv4: bool| content.addresses_of(link.index).iter().map(|own| own.address.addr()).find(|own| own.is_ipv4() == ipv4).map(number);
                probes.push(Probe { start, ipv4: true, sources: any4(), destinations: unicast4().subtract(&elsewhere4), preferred: own(true) });
                let destinations = unicast6().subtract(&elsewhere6);
                probes.push(Probe { start, ipv4: false, sources: Ranges::between(0, u128::MAX), destinations, preferred: own(false) });
            }
        }
    }
    probes
}

/// Neighbours on a bridge that are alike in all but their addresses.
///
/// What is sent by way of one of them to the address of another is asked of three: whoever has the source address, and whoever is meant, one of the
/// three is neither, and does what all others would.
#[derive(Debug, Default)]
struct Alike {
    /// IPv4 and IPv6 addresses of each group.
    groups: Vec<[Ranges; 2]>,
    /// Those of whom it is not asked, with their group and their own addresses.
    spared: BTreeMap<usize, (usize, [Ranges; 2])>,
}

impl Alike {
    fn new(model: &Model, groups: &Groups, sender: usize) -> Self {
        const ASKED: usize = 3;
        let mut alike = Self::default();
        for members in groups.all() {
            let own = members.iter().filter(|member| **member != sender).map(|member| (*member, own(model, *member)));
            let (asked, spared): (Vec<_>, Vec<_>) = own.enumerate().partition(|(place, _)| *place < ASKED);
            let of = |members: &[(usize, (usize, [Ranges; 2]))]| {
                members.iter().fold([Ranges::empty(), Ranges::empty()], |all, (_, (_, own))| both(&all, own))
            };
            let together = of(&asked);
            let counted = asked.iter().flat_map(|(_, (_, own))| own).map(Ranges::count).sum::<u128>();
            // Two with one address are not two.
            if together.iter().map(Ranges::count).sum::<u128>() == counted {
                let group = alike.groups.len();
                alike.groups.push(both(&together, &of(&spared)));
                alike.spared.extend(spared.into_iter().map(|(_, (member, own))| (member, (group, own))));
            }
        }
        alike
    }

    /// Addresses that are not asked for by way of this one.
    fn elsewhere(&self, owner: Option<usize>) -> [Ranges; 2] {
        let spared = owner.and_then(|owner| self.spared.get(&owner));
        let of = spared.and_then(|(group, own)| Some((self.groups.get(*group)?, own)));
        of.map_or_else(|| [Ranges::empty(), Ranges::empty()], |([all4, all6], [own4, own6])| [all4.subtract(own4), all6.subtract(own6)])
    }
}

/// IPv4 and IPv6 addresses of the one link of a member of a group.
fn own(model: &Model, member: usize) -> [Ranges; 2] {
    let content = model.namespace(member);
    let links = || content.links.values().filter(|link| link.up && link.kind != LinkKind::Loopback);
    let own = || links().flat_map(|link| content.addresses_of(link.index));
    [true, false].map(|ipv4| addresses(own().filter(|own| own.address.addr().is_ipv4() == ipv4)))
}

fn both([left4, left6]: &[Ranges; 2], [right4, right6]: &[Ranges; 2]) -> [Ranges; 2] {
    [left4.union(right4), left6.union(right6)]
}

/// Whether a sender's own frames are forged: as well, where a rule looks at what is.
const fn forgeries(model: &Model) -> &'static [bool] {
    if model.frames_matter() { &[false, true] } else { &[false] }
}

/// Tags that a frame may carry to get somewhere, and where to: none, and those of vlans that lead to somebody, or outside when nothing else does.
/// Where bridges look into frames, a priority tag alone or behind that of a vlan too.
fn ways(model: &Model, looks: bool, reach: impl Fn(Tags) -> Reach) -> Vec<(Tags, Reach)> {
    let untagged = reach(Tags::NONE);
    let leads = |to: &Reach| !to.receivers.is_empty() || (!to.exits.is_empty() && untagged.exits.is_empty());
    let behind = |tags: Tags| Some(Tags { inner: Some(0), ..tags }).filter(|_| looks && tags.inner.is_none());
    let vlans = model.tags().flat_map(|tags| [Some(tags), behind(tags)]).flatten().map(|tags| (tags, reach(tags)));
    let priority = Some(Tags::one(0)).filter(|_| looks).map(|tags| (tags, reach(tags)));
    let vlans = vlans.filter(|(_, to)| leads(to) && (looks || *to != untagged));
    let mut ways: Vec<_> = priority.into_iter().chain(vlans).collect();
    ways.insert(0, (Tags::NONE, untagged));
    ways
}

/// What a neighbour behind an uplink can send.
fn neighbours(model: &Model, at: Place, attacker: Attacker) -> Vec<Probe> {
    let mut probes = Vec::new();
    let raw = attacker >= Attacker::NetRaw;
    let forged = if raw { forgeries(model) } else { &[false] };
    for (tags, reach) in ways(model, raw && model.bridges_look(), |tags| model.arrivals(at, tags)) {
        let near = [true, false].map(|ipv4| (ipv4, subnets(model, &reach.receivers, ipv4)));
        for receiver in &reach.receivers {
            let to = model.link(*receiver).and_then(|link| link.mac).unwrap_or(NEIGHBOUR);
            for (forged, (ipv4, near)) in forged.iter().flat_map(|forged| near.iter().map(|near| (*forged, near))) {
                let start = Start::Arrival { at, to, tags, forged };
                let everything = if *ipv4 { unicast4() } else { unicast6() };
                let own = model.own(receiver.namespace, *ipv4);
                // It routes everything to whoever may pass it on; whom else it sees on its own link, it sends to directly.
                let routes = raw || receiver.namespace == model.host || model.namespace(receiver.namespace).passes_on();
                // Where nobody has an address, nobody knows theirs.
                let honest = if near.is_empty() { everything.subtract(own) } else { near.clone() };
                let any = if *ipv4 { any4() } else { Ranges::between(0, u128::MAX) };
                let preferred = near.as_slice().last().map(|range| range.0);
                let destinations = if routes { everything } else { own.clone() };
                probes.push(Probe { start, ipv4: *ipv4, sources: if raw { any } else { honest }, destinations, preferred });
            }
        }
    }
    probes
}

/// What may be in a packet that a tunnel unwraps: anything.
pub(crate) fn unwrapped(model: &Model, at: Place) -> Vec<Probe> {
    let ways = ways(model, model.bridges_look(), |tags| model.arrivals(at, tags));
    let receivers = ways.into_iter().flat_map(|(tags, reach)| reach.receivers.into_iter().map(move |receiver| (tags, receiver)));
    let frames: BTreeSet<(Tags, Mac)> =
        receivers.map(|(tags, receiver)| (tags, model.link(receiver).and_then(|link| link.mac).unwrap_or(NEIGHBOUR))).collect();
    let starts = frames.into_iter().map(|(tags, to)| Start::Arrival { at, to, tags, forged: true });
    let probes = |start: Start| {
        let ipv4 = Probe { start, ipv4: true, sources: any4(), destinations: unicast4(), preferred: None };
        let ipv6 = Probe { start, ipv4: false, sources: Ranges::between(0, u128::MAX), destinations: unicast6(), preferred: None };
        [ipv4, ipv6]
    };
    starts.flat_map(probes).collect()
}

/// Addresses that neighbours of links on one wire may have: their subnets without the links' own.
fn subnets(model: &Model, links: &[Place], ipv4: bool) -> Ranges {
    let of_links = || {
        let own = links.iter().flat_map(|place| model.namespace(place.namespace).addresses_of(place.link));
        own.filter(move |own| own.address.addr().is_ipv4() == ipv4)
    };
    let whole = Ranges::union_of(of_links().map(|own| prefix(&own.address)));
    let edges = Ranges::union_of(of_links().filter(|_| ipv4).flat_map(|own| {
        let (first, last) = prefix(&own.address);
        [(first, first), (last, last)]
    }));
    whole.subtract(&addresses(of_links())).subtract(&edges)
}

fn addresses<'a>(own: impl Iterator<Item = &'a Address>) -> Ranges {
    Ranges::union_of(own.filter(|own| !own.unusable).map(|own| {
        let own = number(own.address.addr());
        (own, own)
    }))
}

fn any4() -> Ranges {
    Ranges::between(0, 0xffff_ffff)
}

fn unicast4() -> Ranges {
    any4().subtract(&not_unicast4())
}

fn unicast6() -> Ranges {
    Ranges::between(1, (0xff << 120) - 1)
}

fn link_local6() -> Ranges {
    Ranges::between(0xfe80 << 112, (0xfec0 << 112) - 1)
}

fn global6() -> Ranges {
    unicast6().subtract(&link_local6())
}

impl Probe {
    /// The same by one link, without what goes there anyway.
    fn keeping_to(&self, model: &Model, start: Start) -> Self {
        let mut probe = Self { start, ..self.clone() };
        if let Start::Process { namespace, link: Some(link) } = start {
            let content = model.namespace(namespace);
            let fib = if self.ipv4 { &content.fib4 } else { &content.fib6 };
            if fib.has_default_rules() {
                let anyway = fib.plainly_by(|by| by == link).subtract(model.own(namespace, self.ipv4));
                probe.destinations = self.destinations.subtract(&anyway);
            }
        }
        probe
    }

    /// Every packet of a protocol that it can make.
    pub(crate) fn space(&self, protocol: Protocol) -> Space {
        let header: u128 = if self.ipv4 { 20 } else { 40 };
        let least = header + if protocol == Protocol::Tcp { 20 } else { 8 };
        let ports = |of: Ranges| {
            if protocol.has_ports() { of } else { Ranges::one(0) }
        };
        Space::point([0, 0, 40_000, 0, 0, 64, least])
            .with(Field::Source, self.sources.clone())
            .with(Field::Destination, self.destinations.clone())
            .with(Field::SourcePort, if protocol.has_ports() { self.source_ports() } else { Ranges::one(1) })
            .with(Field::DestinationPort, ports(all_ports()))
            .with(Field::Tos, Ranges::between(0, 255))
            .with(Field::Length, Ranges::between(least, 65_535))
    }

    /// Programs are given a port where they ask for none; whoever writes packets may write none.
    fn source_ports(&self) -> Ranges {
        match self.start {
            Start::Process { .. } => all_ports(),
            Start::Arrival { .. } | Start::Wire { .. } => Ranges::between(0, 65535),
        }
    }

    /// A packet of the space that looks as usual as possible.
    pub(crate) fn representative(&self, protocol: Protocol, space: &Space) -> Packet {
        const USUAL: u128 = 40_000;
        let pick = |field: Field, wish: Option<u128>| {
            let values = space.of(field);
            wish.filter(|wish| values.contains(*wish)).or_else(|| values.first()).unwrap_or(0)
        };
        let short = |value: u128| u16::try_from(value).unwrap_or(u16::MAX);
        let transport = protocol.first(short(pick(Field::SourcePort, Some(USUAL))), short(pick(Field::DestinationPort, None)));
        let address = |value: u128| crate::walk::address_of(value, self.ipv4);
        let packet = Packet::new(address(pick(Field::Source, self.preferred)), address(pick(Field::Destination, None)), transport);
        let tos = u8::try_from(pick(Field::Tos, Some(0))).unwrap_or(0);
        Packet { tos, length: short(pick(Field::Length, Some(u128::from(packet.length)))), ..packet }
    }

    /// A flow of which only its protocol is known.
    pub(crate) fn doubt(&self, protocol: Protocol, witness: Packet, why: &str) -> Flow {
        Flow {
            protocol,
            ports: all_ports(),
            witness,
            start: Some(self.start),
            proxy: None,
            doubts: vec![why.to_owned()],
            sources: self.sources.clone(),
        }
    }
}
