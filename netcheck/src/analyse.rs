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

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use crate::model::fib::number;
use crate::model::{EndpointKind, METADATA, Model, Place};
use crate::packet::{Packet, Protocol, Transport};
use crate::snapshot::{Proxy, RouteKind, Socket};
use crate::space::{Field, Ranges, Space};
use crate::walk::{Branch, End, Hop, Reason, Start, Walker};

pub use explain::{Answer, Explanation, Question, QuestionError, explain};
use group::{Groups, Origin};
use origin::{Probe, probes};

/// What the sender is able to do. Each is able to do what those before it are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attacker {
    /// A program without privilege: local addresses of IPv4 and any of IPv6, by the kernel's routing or a link of its choice.
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
    /// How many classes of packets were walked for it.
    pub classes: usize,
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
    analyse_within(model, attacker, MOST_LOOKS)
}

/// The same, when for each sender so many rules and flows may be looked at: what is left over then is unknown.
#[must_use]
pub fn analyse_within(model: &Model, attacker: Attacker, most_looks: u64) -> Reachability {
    let (rows, classes) = rows::rows(model, attacker, most_looks);
    Reachability {
        attacker,
        endpoints: model.endpoints.iter().map(|endpoint| endpoint.name.clone()).collect(),
        classes,
        rows,
        gap: model.gaps.first().cloned(),
    }
}

/// Packets of each class that the analysis tells apart, from every origin: one of those that are open, and of those that are closed one to every
/// address in it that somebody has, for whoever would get it if it were not closed.
///
/// Namespaces of a group are not spoken for by one of them here, so that what the analysis makes of groups can be put to the test too.
#[must_use]
pub fn samples(model: &Model, attacker: Attacker) -> Vec<Sample> {
    let origins = model.namespaces().map(|(place, _)| Origin::only(Some(place))).chain([Origin::outside()]);
    sampled(model, attacker, origins)
}

/// The same from one endpoint; nothing when no endpoint has this name.
#[must_use]
pub fn samples_from(model: &Model, attacker: Attacker, name: &str) -> Vec<Sample> {
    let origin = model.endpoint(name).and_then(|endpoint| match endpoint.kind {
        EndpointKind::Inside(place) => Some(Origin::only(Some(place))),
        EndpointKind::Outside => Some(Origin::outside()),
        EndpointKind::Lost | EndpointKind::Metadata => None,
    });
    sampled(model, attacker, origin.into_iter())
}

fn sampled(model: &Model, attacker: Attacker, origins: impl Iterator<Item = Origin>) -> Vec<Sample> {
    let own: BTreeSet<IpAddr> = model.namespaces().flat_map(|(_, namespace)| namespace.addresses().map(|own| own.address.addr())).collect();
    let mut explorer = Explorer { samples: Some(Samples { own, list: Vec::new() }), ..Explorer::new(model) };
    for origin in origins {
        explorer.explore_all(&origin, attacker, None);
    }
    // Flows are unicast: an address that somebody takes for a broadcast is nobody's.
    let local = model.namespaces().flat_map(|(_, namespace)| namespace.fib4.local_routes());
    let broadcasts: BTreeSet<IpAddr> = local.filter(|route| route.kind == RouteKind::Broadcast).map(|route| route.destination.addr()).collect();
    let mut samples = explorer.samples.unwrap_or_default().list;
    samples.retain(|sample| !broadcasts.contains(&sample.packet.destination));
    samples
}

impl Pair {
    fn doubtful(why: &str) -> Self {
        let nothing = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
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
        let lo = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
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

fn count(of: usize) -> u64 {
    u64::try_from(of).unwrap_or(u64::MAX)
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
                EndpointKind::Lost | EndpointKind::Metadata => false,
            })
    }

    /// The flow that somebody would try: from the address that the kernel chooses, else by the link that it chooses; one that is answered before others.
    pub(crate) fn likeliest<'f, T>(
        model: &Model,
        origin: EndpointKind,
        mut flows: impl Iterator<Item = T> + Clone,
        of: impl Fn(&T) -> &'f Self,
    ) -> Option<T> {
        let natural = flows.clone().find(|one| of(one).is_natural(model));
        let unbound = || flows.clone().filter(|one| !of(one).is_bound());
        let answered = |one: &T| of(one).replies(model, origin);
        let chosen = natural.or_else(|| unbound().find(answered)).or_else(|| unbound().next());
        chosen.or_else(|| flows.clone().find(answered)).or_else(|| flows.next())
    }

    fn is_bound(&self) -> bool {
        self.start.is_some_and(|start| start.is_bound(&self.witness))
    }

    fn is_natural(&self, model: &Model) -> bool {
        match self.start {
            Some(Start::Process { namespace, .. }) if !self.is_bound() => {
                let source = self.witness.source;
                source.is_unspecified() || Walker::new(model).source_for(namespace, self.witness.destination) == Some(source)
            }
            Some(_) => false,
            None => true,
        }
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
    /// How many flows were looked at, to find out whether another one says more.
    looked: u64,
    /// What was dropped, for those who ask why.
    pub(crate) dropped: Vec<Lost>,
}

impl Found {
    fn pair(&self, model: &Model, origin: Option<usize>, to: EndpointKind) -> Pair {
        let entered = match to {
            EndpointKind::Inside(namespace) => model.namespace(namespace).entered,
            EndpointKind::Lost | EndpointKind::Metadata | EndpointKind::Outside => true,
        };
        self.sent(origin, to, entered, model.gaps.first().map(String::as_str))
    }

    /// What an origin sends to an endpoint; `entered` is whether that could be read, `gap` what the host lacks.
    fn sent(&self, origin: Option<usize>, to: EndpointKind, entered: bool, gap: Option<&str>) -> Pair {
        let place = match to {
            EndpointKind::Inside(namespace) if origin == Some(namespace) => return Pair::shared(),
            EndpointKind::Inside(namespace) => Some(namespace),
            EndpointKind::Metadata | EndpointKind::Outside => None,
            EndpointKind::Lost => return Pair::doubtful("its namespace was not found"),
        };
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
        self.looked += count(covered.len());
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

    /// Whether something arrives, or may, where a tunnel's outer packets are unwrapped: in its namespace, or the one that it was moved from, which is
    /// taken to be the host's.
    fn enters(&self, model: &Model, tunnel: Place) -> bool {
        let over_udp = model.link(tunnel).is_some_and(|link| link.kind.is_over_udp());
        let carries = |flow: &Flow| !over_udp || flow.protocol == Protocol::Udp;
        let arrives = |namespace: usize| {
            let flows = [&self.open, &self.unknown].into_iter().filter_map(|flows| flows.get(&Some(namespace)));
            flows.flatten().any(carries)
        };
        arrives(tunnel.namespace) || arrives(model.host) || self.anywhere.iter().any(carries)
    }

    /// Keeps what was found as what may be so, for one reason.
    fn add_doubtful(&mut self, other: Self, why: &str) {
        let doubtful = |flow: Flow| Flow { doubts: vec![why.to_owned()], ..flow };
        for (place, flow) in other.open.into_iter().chain(other.unknown).flat_map(|(place, flows)| flows.into_iter().map(move |flow| (place, flow))) {
            self.add(place, false, doubtful(flow));
        }
        other.anywhere.into_iter().for_each(|flow| self.add_anywhere(doubtful(flow)));
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

/// So many ports of a class are sampled, whatever rules translate them.
const FEW_PORTS: usize = 4;

/// Packets of classes, and the addresses that somebody has.
#[derive(Debug, Default)]
struct Samples {
    own: BTreeSet<IpAddr>,
    list: Vec<Sample>,
}

impl Samples {
    fn add(&mut self, start: Start, packet: Packet, class: &Space, branches: &[Branch]) {
        self.list.push(Sample { start, packet });
        // Ports for which there are rules of one shape are one class, whatever target each has.
        let ports = class.of(Field::DestinationPort).as_slice().iter().take(FEW_PORTS).filter_map(|(first, _)| u16::try_from(*first).ok());
        let ports: BTreeSet<u16> = ports.chain(branches.iter().flat_map(|branch| branch.translated_ports(class))).collect();
        let transports = ports.into_iter().map(|port| packet.transport.to_port(port)).filter(|transport| *transport != packet.transport);
        self.list.extend(transports.map(|transport| Sample { start, packet: Packet { transport, ..packet } }));
        let destinations = class.of(Field::Destination);
        let others = self.own.iter().filter(|own| own.is_ipv4() == packet.is_ipv4() && **own != packet.destination);
        let within = others.filter(|own| destinations.contains(number(**own)));
        self.list.extend(within.map(|own| Sample { start, packet: Packet { destination: *own, ..packet } }));
    }
}

/// Walks whole spaces of packets.
#[derive(Debug)]
pub(crate) struct Explorer<'m> {
    model: &'m Model,
    walker: Walker<'m>,
    /// Who sends alike; nobody, where everybody is asked.
    groups: Arc<Groups>,
    /// Whom a proxy reaches: its namespace, and where it connects to.
    proxied: BTreeMap<(usize, Proxy, Protocol), Behind>,
    /// Packets of each class, when they are wanted.
    samples: Option<Samples>,
    /// A SYN offers ECN.
    offers_ecn: bool,
    /// How many classes were walked.
    classes: usize,
    /// How many rules and flows may be looked at for one sender.
    most_looks: u64,
    /// Flows that were looked at for this one, and rules for those before it.
    looked: u64,
    before: u64,
}

/// Namespaces, and whether it is certain that what is meant for them arrives.
type Behind = Vec<(usize, bool)>;

/// Rules and flows that are looked at for one sender: far more than any sane rule set needs, and a matter of seconds.
const MOST_LOOKS: u64 = 50_000_000;

/// Classes that are walked for one way to make packets of one protocol.
const MOST_CLASSES: usize = 200_000;

impl<'m> Explorer<'m> {
    pub(crate) fn new(model: &'m Model) -> Self {
        Self {
            model,
            walker: Walker::new(model),
            groups: Arc::default(),
            proxied: BTreeMap::new(),
            samples: None,
            offers_ecn: false,
            classes: 0,
            most_looks: MOST_LOOKS,
            looked: 0,
            before: 0,
        }
    }

    /// Forgets what holds only for packets that come by the same links.
    fn forget_chains(&mut self) {
        self.walker.forget_dispatches();
    }

    /// What an origin can send to the metadata service, wherever it goes: a program on the host may answer for it.
    fn metadata(&mut self, origin: &Origin, attacker: Attacker) -> Pair {
        let only = Only { protocol: None, ports: all_ports(), destinations: METADATA.to_vec() };
        self.explore_all(origin, attacker, Some(&only)).any(self.model, origin.namespace())
    }

    /// Everything that an origin can make; `only` keeps to one protocol and a set of destinations and ports.
    pub(crate) fn explore_all(&mut self, origin: &Origin, attacker: Attacker, only: Option<&Only>) -> Found {
        (self.looked, self.before) = (0, self.walker.looked());
        let own4 = |member: &usize| self.model.namespace(*member).own4().as_slice().iter().copied();
        let of_all = || Ranges::union_of(origin.members().iter().flat_map(own4));
        self.walker.speak(origin.namespace().filter(|_| origin.members().len() > 1).map(|speaker| (speaker, of_all())));
        let sent = probes(self.model, &self.groups, origin, attacker);
        let mut found = self.explore_probes(&sent, only);
        if self.model.ecn_matters() {
            self.offers_ecn = true;
            found.add_doubtful(self.explore_probes(&sent, only), "whether the sender's connections offer ECN (tcp_ecn)");
            self.offers_ecn = false;
        }
        if self.model.headers_matter() {
            let (samples, before) = (self.samples.take(), self.walker.choose_headers(true));
            found.add_doubtful(self.explore_probes(&sent, only), "headers that the sender chooses: options, routing headers, fragments");
            self.walker.choose_headers(before);
            self.samples = samples;
        }
        if attacker >= Attacker::NetRaw && origin.members().iter().any(|member| self.model.sockets_matter(*member)) {
            let samples = self.samples.take();
            self.walker.choose_sockets(true);
            found.add_doubtful(
                self.explore_probes(&sent, only),
                "how the sender's socket sends: a mark (SO_MARK), past the egress of its link (AF_XDP)",
            );
            self.walker.choose_sockets(false);
            self.samples = samples;
        }
        let tunnels = self.model.tunnels();
        if !tunnels.is_empty() {
            let samples = self.samples.take();
            let reached = only.is_some().then(|| self.explore_probes(&sent, None));
            self.explore_tunnels(tunnels, reached, only, &mut found);
            self.samples = samples;
        }
        found
    }

    /// What may come out of tunnels whose outer packets arrive where they are unwrapped. Who they are taken from is not known: all of it is unknown.
    fn explore_tunnels(&mut self, mut tunnels: Vec<Place>, mut reached: Option<Found>, only: Option<&Only>, found: &mut Found) {
        loop {
            let entered = |tunnel: &Place| reached.as_ref().unwrap_or(found).enters(self.model, *tunnel);
            let (open, rest): (Vec<Place>, Vec<Place>) = tunnels.into_iter().partition(entered);
            if open.is_empty() {
                return;
            }
            for tunnel in open {
                let name = self.model.link(tunnel).map_or("a tunnel", |link| &link.name);
                let why = format!("{name} of {} unwraps what is sent to it", self.model.namespace(tunnel.namespace).label);
                let probes = origin::unwrapped(self.model, tunnel);
                found.add_doubtful(self.explore_probes(&probes, only), &why);
                if let Some(reached) = &mut reached {
                    reached.add_doubtful(self.explore_probes(&probes, None), &why);
                }
            }
            tunnels = rest;
        }
    }

    fn explore_probes(&mut self, probes: &[Probe], only: Option<&Only>) -> Found {
        let mut found = Found::default();
        for probe in probes {
            for protocol in Protocol::ALL {
                if self.offers_ecn && protocol != Protocol::Tcp {
                    continue;
                }
                if !protocol.runs_over(probe.ipv4) || only.is_some_and(|only| only.protocol.is_some_and(|wanted| wanted != protocol)) {
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
                self.explore(probe, protocol, space, only.is_some(), &mut found);
            }
        }
        self.looked += found.looked;
        found
    }

    #[expect(clippy::too_many_arguments, reason = "what is asked, of whom, and where it is")]
    fn explore(&mut self, probe: &Probe, protocol: Protocol, space: Space, keep_dropped: bool, found: &mut Found) {
        self.walker.forget_pinned();
        let before = self.classes;
        let mut todo = vec![space];
        while let Some(space) = todo.pop() {
            if space.is_empty() {
                continue;
            }
            let usual = probe.representative(protocol, &space);
            let packet = if self.offers_ecn { usual.offering_ecn() } else { usual };
            if self.walker.looked() - self.before + self.looked + found.looked > self.most_looks {
                found.add_anywhere(probe.doubt(protocol, packet, "too many rules and flows to look at"));
                return;
            }
            if self.classes - before >= MOST_CLASSES {
                found.add_anywhere(probe.doubt(protocol, packet, "too many classes of packets"));
                return;
            }
            self.classes += 1;
            let point = Space::point(crate::walk::Header::values(&packet));
            let branches = self.walker.branches(packet, probe.start, &space);
            // Each branch keeps to the space that its walk began with.
            let spaces = branches.iter().map(|branch| Cow::Borrowed(&branch.space));
            let common = spaces.reduce(|left, right| Cow::Owned(left.intersect(&right)));
            let mut class = common.map_or_else(|| space.clone(), Cow::into_owned);
            // A class that lost its own packet would never end; none should.
            if class.intersect(&point).is_empty() {
                class = point;
            }
            if let Some(samples) = &mut self.samples {
                samples.add(probe.start, packet, &class, &branches);
            }
            self.record(probe, protocol, packet, &class, &branches, found);
            let found_by_port = branches.iter().any(|branch| branch.found_by_port);
            if keep_dropped {
                let lost = |branch: Branch| match branch.end {
                    End::Dropped(reason) => Some(Lost { start: probe.start, packet, space: branch.space, reason }),
                    End::Delivered { .. } | End::Left { .. } | End::Unknown(_) => None,
                };
                found.dropped.extend(branches.into_iter().filter_map(lost));
            }
            todo.extend(space.without(&class, order(&class, found_by_port)));
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
            // Most are dropped, and of those nobody asks: of many ports that are translated it is much to tell.
            let ports = || arrival_ports(protocol, class, branch);
            match &branch.end {
                End::Delivered { namespace } => *reached.entry((Some(*namespace), ports())).or_default() += 1,
                End::Unknown(why) if branch.knows_destination() => {
                    let (owners, nobody) = self.model.owners(&branch.destinations(class), branch.packet.is_ipv4());
                    let outside = !nobody.is_empty() || branch.routed_to().is_some_and(|link| self.walker.leads_out(link));
                    for place in owners.into_iter().map(Some).chain(outside.then_some(None)) {
                        found.add(place, false, flow(ports(), vec![why.clone()]));
                    }
                }
                End::Unknown(why) => found.add_anywhere(flow(all_ports(), vec![why.clone()])),
                End::Dropped(_) | End::Left { .. } => {}
            }
            if !branch.exits.is_empty() || matches!(branch.end, End::Left { .. }) {
                *reached.entry((None, ports())).or_default() += 1;
            }
        }
        for ((place, ports), times) in reached {
            let certain = times == branches.len();
            let reached = flow(ports, if certain { Vec::new() } else { doubts() });
            found.add(place, certain, reached);
        }
        for branch in branches {
            let owners = match &branch.end {
                End::Delivered { namespace } => vec![*namespace],
                // What may go anywhere is filed under everybody.
                End::Unknown(_) if branch.knows_destination() => self.model.owners(&branch.destinations(class), branch.packet.is_ipv4()).0,
                End::Dropped(_) | End::Left { .. } | End::Unknown(_) => Vec::new(),
            };
            for namespace in owners {
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
        let anycast = if protocol == Protocol::Tcp && !packet.is_ipv4() { self.model.anycast(namespace) } else { Ranges::empty() };
        for socket in &content.sockets {
            let Some(proxy) = socket.owner.as_ref().and_then(|owner| owner.proxy) else {
                continue;
            };
            let Some(mut entry) = at_socket(protocol, packet, class, branch, socket) else {
                continue;
            };
            let arrives = if branch.keeps_destination() { entry.destination } else { branch.packet.destination };
            if anycast.contains(number(arrives)) {
                let other = branch.destinations(class).subtract(&anycast).first().filter(|_| branch.keeps_destination());
                let Some(other) = other else { continue };
                entry.destination = crate::walk::address_of(other, entry.is_ipv4());
            }
            let mut doubts = branch.doubts.clone();
            if let End::Unknown(why) = &branch.end {
                doubts.push(why.clone());
            }
            let flow = Flow {
                protocol,
                ports: Ranges::one(u128::from(proxy.port)),
                witness: entry,
                start: Some(probe.start),
                proxy: Some(proxy),
                doubts,
                sources: class.of(Field::Source).clone(),
            };
            for (behind, reaches) in self.behind(namespace, proxy, protocol) {
                let certain = certain && reaches && matches!(branch.end, End::Delivered { .. });
                let doubts = match (certain, flow.doubts.is_empty()) {
                    (true, _) => Vec::new(),
                    (false, true) => vec!["it is not known whether the proxy gets through".to_owned()],
                    (false, false) => flow.doubts.clone(),
                };
                found.add(Some(behind), certain, Flow { doubts, ..flow.clone() });
            }
        }
    }
}

/// In which order a class is cut out of what is left. Rules for ports are rules of an address, mostly: cut by ports first, each address would be left
/// over for the ports of each other one. Those that are found by their port alone are for whole sets of addresses.
fn order(class: &Space, found_by_port: bool) -> [Field; 7] {
    use Field::{Destination, DestinationPort, Length, Source, SourcePort, Tos, Ttl};
    if found_by_port && class.of(DestinationPort).is_one() {
        [Length, Ttl, Tos, DestinationPort, SourcePort, Destination, Source]
    } else {
        [Length, Ttl, Tos, Destination, Source, DestinationPort, SourcePort]
    }
}

impl Explorer<'_> {
    /// Namespaces that a proxy's own connection arrives at or may arrive at, and whether it is certain.
    fn behind(&mut self, namespace: usize, proxy: Proxy, protocol: Protocol) -> Behind {
        let (model, walker) = (self.model, &mut self.walker);
        let find = || {
            let (chosen, sockets) = (walker.choose_headers(false), walker.choose_sockets(false));
            let source = if proxy.address.is_ipv4() { "0.0.0.0" } else { "::" }.parse().unwrap_or(proxy.address);
            let source = walker.source_for(namespace, proxy.address).unwrap_or(source);
            let hop = Packet::new(source, proxy.address, protocol.first(40_000, proxy.port));
            let space = Space::point(crate::walk::Header::values(&hop));
            let branches = walker.branches(hop, Start::Process { namespace, link: None }, &space);
            let offers = model.ecn_matters().then(|| walker.branches(hop.offering_ecn(), Start::Process { namespace, link: None }, &space));
            let mut behind: BTreeMap<usize, bool> = BTreeMap::new();
            for branch in branches.iter().chain(offers.iter().flatten()) {
                let places = match branch.end {
                    End::Delivered { namespace } => vec![namespace],
                    End::Unknown(_) if branch.knows_destination() => model.owners(&branch.destinations(&space), branch.packet.is_ipv4()).0,
                    End::Unknown(_) => model.namespaces().map(|(index, _)| index).collect(),
                    End::Dropped(_) | End::Left { .. } => Vec::new(),
                };
                for place in places {
                    let certain = branches.iter().all(|branch| branch.end == End::Delivered { namespace: place });
                    behind.insert(place, certain);
                }
            }
            walker.choose_headers(chosen);
            walker.choose_sockets(sockets);
            behind.into_iter().collect()
        };
        self.proxied.entry((namespace, proxy, protocol)).or_insert_with(find).clone()
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

/// A packet of the analysis, and how it comes into being.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// How.
    pub start: Start,
    /// The packet.
    pub packet: Packet,
}

/// What a question keeps to.
#[derive(Debug, Clone)]
pub(crate) struct Only {
    /// One protocol; all of them when none.
    pub(crate) protocol: Option<Protocol>,
    pub(crate) ports: Ranges,
    /// Destinations; every address when there is none.
    pub(crate) destinations: Vec<IpAddr>,
}

impl Only {
    fn destinations(&self, ipv4: bool) -> Ranges {
        if self.destinations.is_empty() {
            return Ranges::between(0, u128::MAX);
        }
        let of_family = self.destinations.iter().filter(|address| address.is_ipv4() == ipv4).map(|address| number(*address));
        Ranges::union_of(of_family.map(|address| (address, address)))
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
