//! Follows one packet through hooks, bridges, routes and namespaces, as the kernel would.
//!
//! This is the reference that everything else rests on. A walk is concrete: every field of the packet has one value. Beside it
//! a [`Space`] is narrowed by whatever was looked at, so that it holds exactly packets which would have been treated the same;
//! the analysis asks for walks until nothing is left over.
//!
//! ```text
//!   Start ─▶ OUTPUT ─▶ POSTROUTING ─▶ transmit ═▶ receive ─▶ bridge (br_netfilter) ─▶ transmit …
//!                                          ▲          └────▶ PREROUTING ─▶ route ─▶ INPUT ─▶ Delivered
//!                                          └───── POSTROUTING ◀─ FORWARD ◀───┘
//! ```
//!
//! Where something cannot be known (an opaque match, a rate limit, which of two neighbours answers) the walk takes one branch
//! of several; [`Walker::branches`] takes all of them.

mod classes;
mod compat;
mod conntrack;
mod header;
mod hooks;
mod layer2;
mod layer3;
mod rules;
mod trace;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;

use crate::model::dispatch::{Dispatch, Met, Translations};
use crate::model::fib::Fib;
use crate::model::netfilter::ChainAt;
use crate::model::{Model, Place, Reach, Tags};
use crate::packet::{Packet, Transport};
use crate::snapshot::Mac;
use crate::space::{Field, Ranges, Space};

use conntrack::Connection;
pub(crate) use header::Header;
pub(crate) use header::address as address_of;
use header::{Cell, Number, Variable};
pub(crate) use layer3::not_unicast4;
pub use trace::{Hop, Reason};
pub(crate) use trace::{Step, What};

/// How a packet comes into being.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Start {
    /// It arrives on a link from outside of all that is known.
    Arrival {
        /// The link.
        at: Place,
        /// Hardware address it is sent to.
        to: Mac,
        /// The tags it carries.
        tags: Tags,
        /// What of its headers is not followed is unusual.
        forged: bool,
    },
    /// A program sends it: it passes OUTPUT and is routed.
    Process {
        /// In this namespace.
        namespace: usize,
        /// Through this link, which link-local destinations need, and to which any program may keep (`SO_BINDTODEVICE`).
        link: Option<u32>,
    },
    /// A program writes the frame onto a link: no routing, no OUTPUT.
    Wire {
        /// The link that it leaves by.
        from: Place,
        /// Hardware address it is sent to.
        to: Mac,
        /// The tags it carries.
        tags: Tags,
        /// It does not come from the link's own hardware address, but from any other, and what of its headers is not followed is unusual: further
        /// flags of a SYN, extension headers, options.
        forged: bool,
    },
}

impl Start {
    /// Whether its program keeps to a link although the packet can do without.
    pub(crate) fn is_bound(&self, packet: &Packet) -> bool {
        let link_local = matches!(packet.destination, IpAddr::V6(v6) if v6.is_unicast_link_local());
        matches!(self, Self::Process { link: Some(_), .. }) && !link_local
    }
}

/// How a walk ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It passed INPUT of a namespace.
    Delivered {
        /// The namespace.
        namespace: usize,
    },
    /// It went nowhere.
    Dropped(Reason),
    /// It left by a link whose other end is outside.
    Left {
        /// The link.
        by: Place,
    },
    /// Something that is not modelled decides.
    Unknown(String),
}

/// One way that a packet may go.
#[derive(Debug, Clone)]
pub struct Branch {
    /// Where it ended.
    pub end: End,
    /// The packet as it arrived there.
    pub packet: Packet,
    /// What it met.
    pub(crate) steps: Vec<Step>,
    /// Uplinks that it left by on its way.
    pub exits: Vec<Place>,
    /// Packets that go the same way for the same reasons.
    pub space: Space,
    /// Destination port at the end: whether it is still the sender's own.
    pub(crate) header: Header,
    /// What could not be known: empty when this is the only way.
    pub doubts: Vec<String>,
    /// A chain had rules for its port, whatever address it is for.
    pub(crate) found_by_port: bool,
    /// It ended before its destination was decided: something on the rest of its way may rewrite it, or take the packet.
    pub(crate) undecided: bool,
    connections: BTreeMap<usize, Vec<Connection>>,
    last_receiver: Option<Place>,
    /// Where packets of the space were sent instead, when a translation was walked for several ports at once.
    translated: Option<Rc<Translations>>,
}

/// Follows packets through one model, and remembers what does not change between walks.
#[derive(Debug)]
pub struct Walker<'m> {
    model: &'m Model,
    reach: BTreeMap<(Place, Tags), Rc<Reach>>,
    space: Space,
    steps: Vec<Step>,
    exits: Vec<Place>,
    connections: BTreeMap<usize, Vec<Connection>>,
    script: Vec<usize>,
    taken: Vec<Taken>,
    last_receiver: Option<Place>,
    nested: u32,
    /// Where OUTPUT sent the packet after all.
    rerouted: Option<layer3::Way>,
    undecided: bool,
    found_by_port: bool,
    /// Rules that were looked at, and places that packets came to, on all walks.
    looked: u64,
    /// Fields that had more than one value at the start: only these can be narrowed.
    free: [bool; 7],
    conditions: Vec<(Variable, Condition)>,
    ports: BTreeMap<(Place, Tags), Rc<layer2::Ports>>,
    neighbours: BTreeMap<(Place, bool), Rc<layer2::Neighbours>>,
    dispatches: BTreeMap<(usize, ChainAt, Met), Rc<Dispatch>>,
    /// Where routes by links lead, for what was asked of the links.
    routed: Vec<(&'m Fib, Vec<Condition>, Ranges)>,
    /// The way out, while packets that leave by different links are walked together.
    open_way: Option<classes::OpenWay<'m>>,
    /// Translations that the rule which runs may make for all ports at once.
    offered: Option<Rc<Translations>>,
    translated: Option<Rc<Translations>>,
    /// Chains that had nothing to say to a packet, as it was then, in the base chain that runs.
    silent: Option<(rules::Met, BTreeSet<usize>)>,
    /// How often rules changed a connection.
    changes: u64,
    /// Which order was taken of chains that have several, by where they are kept.
    orders: BTreeMap<usize, usize>,
    /// Packets come from sockets with marks and ways past egress of their sender's choice.
    sockets: bool,
    /// Which headers packets may have at least.
    least: Headers,
    /// Addresses that packets were kept to, one by one, and whether this walk had one too many.
    pinned: BTreeSet<(Field, u128)>,
    overrun: bool,
    /// Who is walked for others that send alike, and the IPv4 addresses of all of them.
    speaker: Option<(usize, Ranges)>,
}

/// What a number was found to be; kept until the walk ends, for there are many.
#[derive(Debug, Clone, PartialEq)]
enum Condition {
    In(Ranges),
    NotIn(Ranges),
    NotBetween(u128, u128),
}

#[derive(Debug, Clone)]
struct Taken {
    choice: usize,
    of: usize,
    why: String,
}

/// A packet inside a namespace: what the kernel keeps in `struct sk_buff`.
#[derive(Debug, Clone)]
struct Skb {
    header: Header,
    /// What the sender chose, in the order of [`Field::ALL`].
    sent: [u128; 7],
    /// Address and port that a translation gave to the destination, while others are walked with it.
    translated: (u128, u16),
    mark: [Cell; 4],
    ct: Ct,
    frame: Option<Frame>,
    /// br_netfilter has run PREROUTING for it: the IP stack will not.
    prerouted: bool,
    /// br_netfilter has routed it after a translation: it goes up with its route.
    bridge_routed: bool,
    /// The bridge port that it came in by, while br_netfilter knows.
    physical_in: Option<Place>,
    /// What of its headers is not followed and may be unusual.
    headers: Headers,
    /// Came by a bridge port, and goes on to another one.
    bridged: bool,
    /// A frame for the bridge itself, which rules have sent on to another port.
    redirected: bool,
    /// Came by `lo` with its route: no second routing decision.
    looped: bool,
    /// The link that its program keeps to.
    bound: Option<u32>,
    /// Its sender, while that is a neighbour who takes another way when a router tells it so.
    redirectable: Option<usize>,
    /// Whether it is behind a second priority tag, so that rules which see frames do not find the packet; none before the first of them.
    hidden: Option<bool>,
    hops: u32,
}

/// Which headers a packet may have that are not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Headers {
    /// No others: it is whole, and has neither options nor extension headers.
    Usual,
    /// What any program may choose: options, routing headers, and that it is sent in fragments. `ip_options_compile`, `do_ipv6_setsockopt`.
    Chosen,
    /// And what only who writes packets may: all extension headers, further flags of a SYN, fragments of any size.
    Forged,
}

impl Headers {
    const fn forged(forged: bool) -> Self {
        if forged { Self::Forged } else { Self::Usual }
    }
}

/// What conntrack knows of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ct {
    /// Nothing: rules see `invalid`.
    None,
    /// Deliberately nothing.
    Untracked,
    /// A connection, and whether this packet is of its reply direction.
    Of { connection: usize, reply: bool, established: bool },
}

/// An Ethernet header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    /// None: any that the sender chooses.
    source: Option<Mac>,
    /// None: a neighbour outside, whose address is not known.
    destination: Option<Mac>,
    /// Bridges leave a priority tag where it is, br_netfilter does not look behind any, and whoever receives the frame takes one off.
    tags: Tags,
}

impl Frame {
    /// Whether it is for several: to a broadcast or multicast address.
    fn is_group(&self) -> bool {
        self.destination.is_some_and(Mac::is_group)
    }
}

/// Where the packet is next.
#[derive(Debug)]
enum Next {
    /// `dev_queue_xmit`.
    Transmit(Place),
    /// `netif_receive_skb`.
    Receive(Place),
    /// `ip_rcv`, `ipv6_rcv`.
    Input(Place),
}

/// More places than any sane path has: a routing loop.
const MOST_HOPS: u32 = 64;
const MOST_BRANCHES: usize = 64;

/// Follows `packet` from `start`, on every way it may take.
#[must_use]
pub fn walk(model: &Model, packet: Packet, start: Start) -> Vec<Branch> {
    Walker::new(model).branches(packet, start, &point(&packet))
}

/// The space of this one packet.
#[must_use]
pub fn point(packet: &Packet) -> Space {
    Space::point(Header::values(packet))
}

impl<'m> Walker<'m> {
    /// A walker for this model.
    #[must_use]
    pub fn new(model: &'m Model) -> Self {
        Self {
            model,
            reach: BTreeMap::new(),
            space: Space::point([0; 7]),
            steps: Vec::new(),
            exits: Vec::new(),
            connections: BTreeMap::new(),
            script: Vec::new(),
            taken: Vec::new(),
            last_receiver: None,
            nested: 0,
            rerouted: None,
            undecided: false,
            found_by_port: false,
            looked: 0,
            free: [false; 7],
            conditions: Vec::new(),
            ports: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            dispatches: BTreeMap::new(),
            routed: Vec::new(),
            open_way: None,
            offered: None,
            translated: None,
            silent: None,
            changes: 0,
            orders: BTreeMap::new(),
            sockets: false,
            least: Headers::Usual,
            pinned: BTreeSet::new(),
            overrun: false,
            speaker: None,
        }
    }

    /// Walks what one namespace sends for others from now on, each with its own addresses of these; for nobody but itself when there are none.
    pub(crate) fn speak(&mut self, speaker: Option<(usize, Ranges)>) {
        self.speaker = speaker;
    }

    /// Walks packets with headers of their program's choice from now on, or with usual ones; whether it did so before.
    pub(crate) fn choose_headers(&mut self, chosen: bool) -> bool {
        let least = if chosen { Headers::Chosen } else { Headers::Usual };
        std::mem::replace(&mut self.least, least) == Headers::Chosen
    }

    /// Walks packets from sockets of their sender's choice from now on, or from usual ones; whether it did so before.
    pub(crate) const fn choose_sockets(&mut self, chosen: bool) -> bool {
        std::mem::replace(&mut self.sockets, chosen)
    }

    /// How many rules it has looked at, and places it has come to.
    pub(crate) const fn looked(&self) -> u64 {
        self.looked
    }

    /// The model it walks.
    #[must_use]
    pub const fn model(&self) -> &'m Model {
        self.model
    }

    /// Every way that `packet`, one of `space`, may take. More than one only when something on the way cannot be known.
    pub fn branches(&mut self, packet: Packet, start: Start, space: &Space) -> Vec<Branch> {
        self.all(&Skb::new(&packet), start, space, &BTreeMap::new())
    }

    /// Every way that the answer to a delivered packet may take.
    pub fn answers(&mut self, delivered: &Branch) -> Vec<Branch> {
        let End::Delivered { namespace } = delivered.end else {
            return Vec::new();
        };
        let arrived = &delivered.packet;
        let mut answer = Packet::new(arrived.destination, arrived.source, arrived.answer());
        answer.tos = arrived.tos;
        let local = |address: IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let link = delivered.last_receiver.filter(|_| local(answer.destination)).map(|place| place.link);
        let space = Space::point(Header::values(&answer));
        let mut connections = delivered.connections.clone();
        connections.values_mut().flatten().for_each(Connection::settle);
        let mut skb = Skb::new(&answer);
        skb.header.keep_random(&delivered.header);
        self.all(&skb, Start::Process { namespace, link }, &space, &connections)
    }

    fn all(&mut self, sent: &Skb, start: Start, space: &Space, connections: &BTreeMap<usize, Vec<Connection>>) -> Vec<Branch> {
        let mut branches = Vec::new();
        let mut script = Vec::new();
        loop {
            self.space = space.clone();
            self.free = Field::ALL.map(|field| !space.of(field).is_one());
            self.conditions.clear();
            self.open_way = None;
            self.offered = None;
            self.translated = None;
            self.steps = Vec::new();
            self.exits = Vec::new();
            self.connections = connections.clone();
            self.script = script;
            self.taken = Vec::new();
            self.last_receiver = None;
            self.nested = 0;
            self.undecided = true;
            self.found_by_port = false;
            self.overrun = false;
            self.orders.clear();
            let mut skb = sent.clone();
            let mut end = self.run(&mut skb, start);
            // What it did need not hold for all that it speaks for.
            if self.overrun {
                self.undecided = true;
                end = End::Unknown("too many addresses to look at one by one".to_owned());
            }
            // Who arrives somewhere is filed under its address; of who is lost no more is asked.
            match end {
                End::Delivered { .. } | End::Left { .. } => self.pin_variable(&skb, Variable::Address),
                End::Unknown(_) => self.pin_translation(&skb),
                End::Dropped(_) => {}
            }
            branches.push(self.finish(end, &skb));
            let Some(next) = next_script(&self.taken) else {
                return branches;
            };
            if branches.len() >= MOST_BRANCHES {
                self.undecided = true;
                let mut last = self.finish(End::Unknown("too many ways to go".to_owned()), &skb);
                last.doubts.push("too many ways to go".to_owned());
                branches.push(last);
                return branches;
            }
            script = next;
        }
    }

    fn finish(&mut self, end: End, skb: &Skb) -> Branch {
        self.settle();
        Branch {
            end,
            packet: skb.header.packet(),
            steps: std::mem::take(&mut self.steps),
            exits: std::mem::take(&mut self.exits),
            space: self.space.clone(),
            header: skb.header,
            found_by_port: self.found_by_port,
            undecided: self.undecided,
            doubts: self.taken.iter().map(|taken| taken.why.clone()).collect(),
            connections: std::mem::take(&mut self.connections),
            last_receiver: self.last_receiver,
            translated: self.translated.clone(),
        }
    }

    fn run(&mut self, skb: &mut Skb, start: Start) -> End {
        match self.try_run(skb, start) {
            Ok(end) | Err(end) => end,
        }
    }

    fn try_run(&mut self, skb: &mut Skb, start: Start) -> Result<End, End> {
        // `sk_setsockopt`: since Linux 5.17, SO_MARK takes CAP_NET_RAW only.
        if self.sockets {
            skb.mark = [Cell::unknown(); 4];
        }
        let mut next = match start {
            Start::Process { namespace, link } => self.send(namespace, link, skb)?,
            Start::Wire { from, to, tags, forged } => {
                let source = self.model.link(from).and_then(|link| link.mac).filter(|_| !forged);
                skb.headers = Headers::forged(forged);
                skb.frame = Some(Frame { source, destination: Some(to), tags });
                self.steps.push(Step { namespace: from.namespace, what: What::Wrote { link: from.link, to, tags } });
                Next::Transmit(from)
            }
            Start::Arrival { at, to, tags, forged } => {
                skb.headers = Headers::forged(forged);
                skb.frame = Some(Frame { source: None, destination: Some(to), tags });
                self.steps.push(Step { namespace: at.namespace, what: What::Arrived { link: at.link, tags } });
                Next::Receive(at)
            }
        };
        skb.headers = skb.headers.max(self.least);
        loop {
            skb.hops += 1;
            self.looked += 1;
            if skb.hops > MOST_HOPS {
                return Err(End::Dropped(Reason::text("it goes round in circles until its TTL ends")));
            }
            next = match next {
                Next::Transmit(place) => self.transmit(place, skb)?,
                Next::Receive(place) => self.receive(place, skb)?,
                Next::Input(place) => match self.input(place, skb)? {
                    Some(next) => next,
                    None => {
                        return Ok(End::Delivered { namespace: place.namespace });
                    }
                },
            };
        }
    }

    /// Takes one of `of` ways, because nobody can know which the kernel takes.
    fn choose(&mut self, of: usize, why: impl Into<String>) -> usize {
        let choice = self.script.get(self.taken.len()).copied().unwrap_or(0);
        self.taken.push(Taken { choice, of, why: why.into() });
        choice
    }

    /// Whether something that may or may not be so is taken to be so on this way.
    fn perhaps(&mut self, why: impl Into<String>) -> bool {
        self.choose(2, why) == 0
    }

    /// Whether a field's value is in `ranges`; keeps to packets for which the answer is the same.
    fn test(&mut self, number: Number, ranges: &Ranges) -> bool {
        if !number.known {
            return self.perhaps("a port or address that the kernel picks at random");
        }
        let inside = ranges.contains(number.value);
        if let Some(field) = number.field {
            if inside {
                self.narrow(field, ranges);
            } else {
                self.exclude(field, ranges);
            }
        }
        inside
    }

    fn reach(&mut self, from: Place, tags: Tags) -> Rc<Reach> {
        let model = self.model;
        Rc::clone(self.reach.entry((from, tags)).or_insert_with(|| Rc::new(model.reach(from, tags))))
    }

    /// Whether what leaves by a link, untagged, may leave all that is known.
    pub(crate) fn leads_out(&mut self, place: Place) -> bool {
        self.model.uplinks.contains(&place) || !self.reach(place, Tags::NONE).exits.is_empty()
    }

    fn note(&mut self, namespace: usize, what: What) {
        self.steps.push(Step { namespace, what });
    }
}

impl Skb {
    fn new(packet: &Packet) -> Self {
        Self {
            header: Header::new(packet),
            sent: Header::values(packet),
            translated: (0, 0),
            mark: [Cell::fixed(0); 4],
            ct: Ct::None,
            frame: None,
            prerouted: false,
            bridge_routed: false,
            physical_in: None,
            headers: Headers::Usual,
            bridged: false,
            redirected: false,
            looped: false,
            bound: None,
            redirectable: None,
            hidden: None,
            hops: 0,
        }
    }
}

/// The next combination of choices, depth first.
fn next_script(taken: &[Taken]) -> Option<Vec<usize>> {
    let last = taken.iter().rposition(|taken| taken.choice + 1 < taken.of)?;
    let mut script: Vec<usize> = taken.iter().take(last + 1).map(|taken| taken.choice).collect();
    if let Some(choice) = script.last_mut() {
        *choice += 1;
    }
    Some(script)
}

impl Branch {
    /// What the packet met, in words.
    #[must_use]
    pub fn trace(&self, model: &Model) -> Vec<Hop> {
        self.steps.iter().map(|step| step.hop(model)).collect()
    }

    /// Whether its destination address is still the one the sender chose.
    #[must_use]
    pub(crate) fn keeps_destination(&self) -> bool {
        self.header.destination.field == Some(Variable::Sent(Field::Destination))
    }

    /// The destinations that packets of a class of it have now.
    pub(crate) fn destinations(&self, class: &Space) -> Ranges {
        if self.keeps_destination() { class.of(Field::Destination).clone() } else { Ranges::one(self.header.destination.value) }
    }

    /// Whether its destination address is one value, or the sender's own choice: of several targets of a translation, those who arrive and
    /// those whose fate is unknown were kept to one.
    pub(crate) fn knows_destination(&self) -> bool {
        self.header.destination.known && !self.undecided
    }

    /// The link that the last route led to.
    pub(crate) fn routed_to(&self) -> Option<Place> {
        let link = |step: &Step| if let What::Route { link, .. } = step.what { Some((link, step.namespace)) } else { None };
        let (link, namespace) = self.steps.iter().rev().find_map(link)?;
        Some(Place { link: link?, namespace })
    }

    /// Of the ports of a class that rules of one shape translate to several addresses, one for each address.
    pub(crate) fn translated_ports(&self, class: &Space) -> Vec<u16> {
        self.translated.as_ref().map_or_else(Vec::new, |translated| translated.one_each(class.of(Field::DestinationPort)))
    }

    /// Source and destination port that it arrived with; none in the place of one that the kernel picks at random.
    #[must_use]
    pub fn ports(&self) -> Option<(Option<u16>, Option<u16>)> {
        let port = |number: Number| number.known.then(|| number.port());
        self.packet.transport.ports().map(|_| (port(self.header.source_port), port(self.header.destination_port)))
    }

    /// The destination port it arrived with.
    #[must_use]
    pub(crate) const fn arrival_port(&self) -> u16 {
        match self.packet.transport {
            Transport::Tcp { destination_port, .. } | Transport::Udp { destination_port, .. } => destination_port,
            Transport::Icmp { .. } | Transport::Icmpv6 { .. } => 0,
        }
    }

    /// The destination ports that packets of a class arrive with.
    #[must_use]
    pub(crate) fn arrival_ports(&self, class: &Space) -> Ranges {
        let sent = class.of(Field::DestinationPort);
        match (self.header.destination_port.field, &self.translated) {
            (Some(Variable::Sent(Field::DestinationPort)), _) => sent.clone(),
            (Some(Variable::Port), Some(translated)) => translated.ports(sent),
            _ => Ranges::one(u128::from(self.arrival_port())),
        }
    }

    /// The port that a packet of a class is sent to, so that it arrives at this one; none when none does.
    #[must_use]
    pub(crate) fn sent_port(&self, class: &Space, arrives: u16) -> Option<u16> {
        let sent = class.of(Field::DestinationPort);
        match (self.header.destination_port.field, &self.translated) {
            (Some(Variable::Sent(Field::DestinationPort)), _) => sent.contains(u128::from(arrives)).then_some(arrives),
            (Some(Variable::Port), Some(translated)) => translated.sent_to(sent, arrives),
            _ => sent.first().filter(|_| arrives == self.arrival_port()).and_then(|port| u16::try_from(port).ok()),
        }
    }
}
