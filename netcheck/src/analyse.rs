//! Which packets can pass between every two endpoints.
//!
//! From every endpoint, and for every way it can make a packet, the whole space of packets is walked class by class: a walk gives
//! the fate of one packet and of all that are treated like it; what is left over is walked next, until nothing is. So the analysis
//! cannot disagree with the walker, and it knows for each flow a packet that makes it.
//!
//! Two sets are kept: what is delivered on every way a packet may take is *open*; what is delivered on some of them, or may be
//! for all that is known, is *unknown*; only the rest is *closed*.

mod explain;
mod group;
mod origin;
mod rows;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::fib::number;
use crate::model::{EndpointKind, Model};
use crate::packet::{Packet, Protocol, Transport};
use crate::snapshot::{Proxy, Socket};
use crate::space::{Field, Ranges, Space};
use crate::walk::{Branch, End, Hop, Reason, Start, Walker};

pub use explain::{Answer, Explanation, Question, QuestionError, explain};
use group::Origin;
use origin::{Probe, probes};

/// What the sender is able to do. Each is able to do what those before it are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attacker {
    /// A program without privilege: its namespace's own addresses, the kernel's routing.
    Process,
    /// With `CAP_NET_RAW`: any source address, and any destination MAC on its own links.
    NetRaw,
    /// With `CAP_NET_ADMIN`: its own routes, addresses and rules too.
    NetAdmin,
}

impl Attacker {
    /// Its name, as users write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::NetRaw => "net-raw",
            Self::NetAdmin => "net-admin",
        }
    }

    /// The attacker of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Process, Self::NetRaw, Self::NetAdmin].into_iter().find(|attacker| attacker.name() == name)
    }
}

/// What can pass, for every ordered pair of endpoints.
#[derive(Debug, Clone)]
pub struct Reachability {
    /// Who sends.
    pub attacker: Attacker,
    /// Names of the endpoints, sorted.
    pub endpoints: Vec<String>,
    /// For each endpoint, what it sends.
    rows: Vec<rows::Row>,
    /// What the whole host lacks: while there is anything, nothing is closed.
    gap: Option<String>,
}

/// What can pass from one endpoint to another.
#[derive(Debug, Clone, Default)]
pub struct Pair {
    /// What passes.
    pub open: Vec<Flow>,
    /// What may pass.
    pub unknown: Vec<Flow>,
}

/// Packets of one protocol that arrive at some ports.
#[derive(Debug, Clone)]
pub struct Flow {
    /// The protocol.
    pub protocol: Protocol,
    /// Ports they arrive at; without meaning for protocols without ports.
    pub ports: Ranges,
    /// One of them as it is sent.
    pub witness: Packet,
    /// How it comes into being; none when both ends share a namespace.
    pub start: Option<Start>,
    /// The proxy on the host that passes it on, if one does.
    pub proxy: Option<Proxy>,
    /// Why it is not certain.
    pub doubts: Vec<String>,
    /// Source addresses with which it is so.
    pub(crate) sources: Ranges,
}

/// Computes what can pass between all endpoints.
#[must_use]
pub fn analyse(model: &Model, attacker: Attacker) -> Reachability {
    Reachability {
        attacker,
        endpoints: model.endpoints.iter().map(|endpoint| endpoint.name.clone()).collect(),
        rows: rows::rows(model, attacker),
        gap: model.gaps.first().cloned(),
    }
}

impl Pair {
    fn doubtful(why: &str) -> Self {
        let nothing = std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
        let flows = Protocol::ALL.into_iter().map(|protocol| Flow {
            protocol,
            ports: all_ports(),
            witness: Packet::new(nothing, nothing, protocol.first(0, 0)),
            start: None,
            proxy: None,
            doubts: vec![why.to_owned()],
            sources: Ranges::between(0, u128::MAX),
        });
        Self { open: Vec::new(), unknown: flows.collect() }
    }

    /// Everything, between names that share a namespace.
    fn shared() -> Self {
        let lo = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
        let flows = Protocol::ALL.into_iter().map(|protocol| Flow {
            protocol,
            ports: all_ports(),
            witness: Packet::new(lo, lo, protocol.first(40_000, 1)),
            start: None,
            proxy: None,
            doubts: Vec::new(),
            sources: Ranges::between(0, u128::MAX),
        });
        Self { open: flows.collect(), unknown: Vec::new() }
    }

    /// Ports that are open for a protocol; for one without ports, not empty when it is open.
    #[must_use]
    pub fn open_ports(&self, protocol: Protocol) -> Ranges {
        union(&self.open, protocol)
    }

    /// Ports of which it is not known; what is open is not in it.
    #[must_use]
    pub fn unknown_ports(&self, protocol: Protocol) -> Ranges {
        union(&self.unknown, protocol).subtract(&self.open_ports(protocol))
    }
}

fn union(flows: &[Flow], protocol: Protocol) -> Ranges {
    let of = flows.iter().filter(|flow| flow.protocol == protocol);
    Ranges::union_of(of.flat_map(|flow| flow.ports.as_slice().iter().copied()))
}

fn all_ports() -> Ranges {
    Ranges::between(1, 65535)
}

impl Flow {
    /// What the witness meets on its way; empty when both ends share a namespace.
    #[must_use]
    pub fn trace(&self, model: &Model) -> Vec<Hop> {
        let Some(branch) = self.branch(&mut Walker::new(model)) else {
            return Vec::new();
        };
        let mut hops = branch.trace(model);
        if let Some(proxy) = &self.proxy {
            let text = format!("docker-proxy connects to {} port {}", proxy.address, proxy.port);
            let at = hops.last().map_or_else(String::new, |hop| hop.at.clone());
            hops.push(Hop { at, kind: "proxy", text, ..Hop::default() });
        }
        hops
    }

    /// Whether an answer to the witness comes back to the sender.
    #[must_use]
    pub fn replies(&self, model: &Model, origin: EndpointKind) -> bool {
        let mut walker = Walker::new(model);
        let Some(branch) = self.branch(&mut walker) else {
            return true;
        };
        // Who is outside can answer whatever reached it.
        if !matches!(branch.end, End::Delivered { .. }) {
            return true;
        }
        let answers = walker.answers(&branch);
        !answers.is_empty()
            && answers.iter().all(|answer| match origin {
                EndpointKind::Inside(namespace) => answer.end == (End::Delivered { namespace }),
                EndpointKind::Outside => !answer.exits.is_empty() && number(answer.packet.destination) == number(self.witness.source),
                EndpointKind::Lost => false,
            })
    }

    fn branch(&self, walker: &mut Walker<'_>) -> Option<Branch> {
        let space = Space::point(crate::walk::Header::values(&self.witness));
        let branches = walker.branches(self.witness, self.start?, &space);
        let arrives = |branch: &&Branch| matches!(branch.end, End::Delivered { .. } | End::Left { .. });
        branches.iter().find(arrives).or(branches.first()).cloned()
    }
}

/// Everything that was found from one origin.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// By the place it reaches: a namespace, or outside.
    open: BTreeMap<Option<usize>, Vec<Flow>>,
    unknown: BTreeMap<Option<usize>, Vec<Flow>>,
    /// What nobody can say the destination of.
    anywhere: Vec<Flow>,
    covered: BTreeMap<(Option<usize>, bool, Protocol), Covered>,
    /// What was dropped, for those who ask why.
    pub(crate) dropped: Vec<Lost>,
}

impl Found {
    fn pair(&self, model: &Model, origin: Option<usize>, to: EndpointKind) -> Pair {
        let place = match to {
            EndpointKind::Inside(namespace) if origin == Some(namespace) => return Pair::shared(),
            EndpointKind::Inside(namespace) => Some(namespace),
            EndpointKind::Outside => None,
            EndpointKind::Lost => return Pair::doubtful("its namespace was not found"),
        };
        self.at(place, place.is_none_or(|namespace| model.namespace(namespace).entered), model.gaps.first().map(String::as_str))
    }

    /// What reaches a place; `entered` is whether it could be read, `gap` what the host lacks.
    fn at(&self, place: Option<usize>, entered: bool, gap: Option<&str>) -> Pair {
        let of = |flows: &BTreeMap<Option<usize>, Vec<Flow>>| flows.get(&place).cloned().unwrap_or_default();
        let mut pair = Pair { open: of(&self.open), unknown: of(&self.unknown) };
        pair.unknown.extend(self.anywhere.iter().cloned());
        let doubts = [(!entered).then_some("its namespace could not be read"), gap];
        pair.unknown.extend(doubts.into_iter().flatten().flat_map(|doubt| Pair::doubtful(doubt).unknown));
        pair
    }

    /// Keeps a flow unless those before it say the same.
    fn add(&mut self, place: Option<usize>, certain: bool, flow: Flow) {
        let covered = self.covered.entry((place, certain, flow.protocol)).or_default();
        let within = |(sources, ports): &(Ranges, Ranges)| {
            (*sources == flow.sources || flow.sources.subtract(sources).is_empty()) && (*ports == flow.ports || flow.ports.subtract(ports).is_empty())
        };
        if covered.iter().any(within) {
            return;
        }
        match covered.iter_mut().find(|(sources, _)| *sources == flow.sources) {
            Some((_, ports)) => *ports = ports.union(&flow.ports),
            None => covered.push((flow.sources.clone(), flow.ports.clone())),
        }
        let list = if certain { &mut self.open } else { &mut self.unknown };
        list.entry(place).or_default().push(flow);
    }

    /// Keeps a flow that may go to anybody.
    fn add_anywhere(&mut self, flow: Flow) {
        if !self.anywhere.iter().any(|known| known.protocol == flow.protocol && known.doubts == flow.doubts && known.sources == flow.sources) {
            self.anywhere.push(flow);
        }
    }
}

/// A class of packets that went nowhere.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) start: Start,
    /// One of them, as it is sent.
    pub(crate) packet: Packet,
    pub(crate) space: Space,
    pub(crate) reason: Reason,
}

/// Sources and the ports that are known for them.
type Covered = Vec<(Ranges, Ranges)>;

/// Walks whole spaces of packets.
#[derive(Debug)]
pub(crate) struct Explorer<'m> {
    model: &'m Model,
    walker: Walker<'m>,
    proxied: BTreeMap<(usize, Protocol, std::net::IpAddr, u16), bool>,
}

/// More classes than any sane rule set makes: then the rest is unknown.
const MOST_CLASSES: usize = 200_000;

impl<'m> Explorer<'m> {
    pub(crate) fn new(model: &'m Model) -> Self {
        Self { model, walker: Walker::new(model), proxied: BTreeMap::new() }
    }

    /// Forgets what holds only for packets that come by the same links.
    fn forget_chains(&mut self) {
        self.walker.forget_dispatches();
    }

    /// Everything that an origin can make; `only` keeps to one protocol and a set of destinations and ports.
    pub(crate) fn explore_all(&mut self, origin: &Origin, attacker: Attacker, only: Option<&Only>) -> Found {
        let mut found = Found::default();
        for probe in probes(self.model, origin, attacker) {
            for protocol in Protocol::ALL {
                if !protocol.runs_over(probe.ipv4) || only.is_some_and(|only| only.protocol != protocol) {
                    continue;
                }
                let mut space = probe.space(protocol);
                if let Some(only) = only {
                    let family = only.destinations(probe.ipv4);
                    space = space.clone().with(Field::Destination, space.of(Field::Destination).intersect(&family));
                    if protocol.has_ports() {
                        space = space.with(Field::DestinationPort, only.ports.clone());
                    }
                }
                self.explore(&probe, protocol, space, only.is_some(), &mut found);
            }
        }
        found
    }

    #[expect(clippy::too_many_arguments, reason = "what is asked, of whom, and where it is")]
    fn explore(&mut self, probe: &Probe, protocol: Protocol, space: Space, keep_dropped: bool, found: &mut Found) {
        let mut todo = vec![space];
        let mut classes = 0;
        while let Some(space) = todo.pop() {
            if space.is_empty() {
                continue;
            }
            let packet = probe.representative(protocol, &space);
            classes += 1;
            if classes > MOST_CLASSES {
                found.add_anywhere(probe.doubt(protocol, packet, "too many classes of packets"));
                return;
            }
            let point = Space::point(crate::walk::Header::values(&packet));
            let branches = self.walker.branches(packet, probe.start, &space);
            let mut class = branches.iter().fold(space.clone(), |class, branch| class.intersect(&branch.space));
            // A class that lost its own packet would never end; none should.
            if class.intersect(&point).is_empty() {
                class = point;
            }
            self.record(probe, protocol, packet, &class, &branches, found);
            if keep_dropped {
                let lost = |branch: Branch| match branch.end {
                    End::Dropped(reason) => Some(Lost { start: probe.start, packet, space: branch.space, reason }),
                    End::Delivered { .. } | End::Left { .. } | End::Unknown(_) => None,
                };
                found.dropped.extend(branches.into_iter().filter_map(lost));
            }
            todo.extend(space.subtract(&class));
        }
    }

    /// Files one class under the places it reaches.
    #[expect(clippy::too_many_arguments, reason = "what is asked, of whom, and where it is")]
    fn record(&mut self, probe: &Probe, protocol: Protocol, packet: Packet, class: &Space, branches: &[Branch], found: &mut Found) {
        let mut reached: BTreeMap<(Option<usize>, Ranges), usize> = BTreeMap::new();
        let doubts = || {
            let mut doubts: Vec<String> = branches.iter().flat_map(|branch| branch.doubts.iter().cloned()).collect();
            doubts.sort_unstable();
            doubts.dedup();
            doubts
        };
        let flow = |ports: Ranges, doubts: Vec<String>| Flow {
            protocol,
            ports,
            witness: packet,
            start: Some(probe.start),
            proxy: None,
            doubts,
            sources: class.of(Field::Source).clone(),
        };
        for branch in branches {
            let ports = arrival_ports(protocol, class, branch);
            match &branch.end {
                End::Delivered { namespace } => *reached.entry((Some(*namespace), ports.clone())).or_default() += 1,
                End::Unknown(why) => {
                    let doubtful = flow(all_ports(), vec![why.clone()]);
                    match self.model.owner_of(branch.packet.destination).filter(|_| !branch.undecided) {
                        Some(owner) => found.add(Some(owner), false, flow(ports.clone(), vec![why.clone()])),
                        None if branch.undecided => found.add_anywhere(doubtful),
                        None => found.add(None, false, flow(ports.clone(), vec![why.clone()])),
                    }
                }
                End::Dropped(_) | End::Left { .. } => {}
            }
            if !branch.exits.is_empty() || matches!(branch.end, End::Left { .. }) {
                *reached.entry((None, ports)).or_default() += 1;
            }
        }
        for ((place, ports), times) in reached {
            let certain = times == branches.len();
            let reached = flow(ports, if certain { Vec::new() } else { doubts() });
            found.add(place, certain, reached);
        }
        for branch in branches {
            if let End::Delivered { namespace } = branch.end {
                self.record_proxies(probe, protocol, (packet, class), (branch, namespace, branches.len() == 1), found);
            }
        }
    }

    /// What arrives at a docker-proxy's socket goes on to the container behind it.
    #[expect(clippy::too_many_arguments, reason = "what is asked, of whom, and where it is")]
    fn record_proxies(
        &mut self,
        probe: &Probe,
        protocol: Protocol,
        (packet, class): (Packet, &Space),
        (branch, namespace, certain): (&Branch, usize, bool),
        found: &mut Found,
    ) {
        let content = self.model.namespace(namespace);
        for socket in &content.sockets {
            let Some(proxy) = socket.owner.as_ref().and_then(|owner| owner.proxy) else {
                continue;
            };
            let Some(entry) = at_socket(protocol, packet, class, branch, socket) else {
                continue;
            };
            let Some(behind) = self.model.owner_of(proxy.address) else {
                continue;
            };
            let walker = &mut self.walker;
            let reaches = *self.proxied.entry((namespace, protocol, proxy.address, proxy.port)).or_insert_with(|| {
                let source = if proxy.address.is_ipv4() { "0.0.0.0" } else { "::" }.parse().unwrap_or(proxy.address);
                let source = walker.source_for(namespace, proxy.address).unwrap_or(source);
                let hop = Packet::new(source, proxy.address, protocol.first(40_000, proxy.port));
                let space = Space::point(crate::walk::Header::values(&hop));
                let branches = walker.branches(hop, Start::Process { namespace, link: None }, &space);
                branches.iter().all(|branch| branch.end == (End::Delivered { namespace: behind }))
            });
            if !reaches {
                continue;
            }
            let flow = Flow {
                protocol,
                ports: Ranges::one(u128::from(proxy.port)),
                witness: entry,
                start: Some(probe.start),
                proxy: Some(proxy),
                doubts: if certain { Vec::new() } else { branch.doubts.clone() },
                sources: class.of(Field::Source).clone(),
            };
            found.add(Some(behind), certain, flow);
        }
    }
}

/// A packet of the class that the socket takes.
fn at_socket(protocol: Protocol, packet: Packet, class: &Space, branch: &Branch, socket: &Socket) -> Option<Packet> {
    let number_of = packet.transport.number();
    let any = socket.address.is_unspecified();
    let family = socket.address.is_ipv4() == packet.is_ipv4() || (any && !socket.address.is_ipv4() && !socket.v6only);
    if socket.protocol != number_of || !family {
        return None;
    }
    let mut entry = packet;
    if let Some((source_port, _)) = packet.transport.ports() {
        entry.transport = protocol.first(source_port, branch.sent_port(class, socket.port)?);
    }
    if !any {
        let bound = number(socket.address);
        if branch.keeps_destination() {
            if !class.of(Field::Destination).contains(bound) {
                return None;
            }
            entry.destination = socket.address;
        } else if branch.packet.destination != socket.address {
            return None;
        }
    }
    Some(entry)
}

/// The ports that a class arrives at.
fn arrival_ports(protocol: Protocol, class: &Space, branch: &Branch) -> Ranges {
    if !protocol.has_ports() {
        return all_ports();
    }
    branch.arrival_ports(class)
}

/// What a question keeps to.
#[derive(Debug, Clone)]
pub(crate) struct Only {
    pub(crate) protocol: Protocol,
    pub(crate) ports: Ranges,
    /// Destinations; every address when none.
    pub(crate) destination: Option<std::net::IpAddr>,
}

impl Only {
    fn destinations(&self, ipv4: bool) -> Ranges {
        match self.destination {
            None => Ranges::between(0, u128::MAX),
            Some(address) if address.is_ipv4() == ipv4 => Ranges::one(number(address)),
            Some(_) => Ranges::empty(),
        }
    }
}

impl Transport {
    /// The same with other ports; unchanged without ports.
    pub(crate) const fn to_port(self, destination_port: u16) -> Self {
        match self {
            Self::Tcp { source_port, flags, .. } => Self::Tcp { source_port, destination_port, flags },
            Self::Udp { source_port, .. } => Self::Udp { source_port, destination_port },
            other @ (Self::Icmp { .. } | Self::Icmpv6 { .. }) => other,
        }
    }
}
