//! What a snapshot means: namespaces that route, links that are wired, rules that are hooked.
//!
//! Nothing here follows a packet; [`crate::walk`] does. The model only puts what was read into the shape that the kernel keeps it in.

pub(crate) mod dispatch;
pub mod fib;
pub mod netfilter;
pub mod order;
pub(crate) mod shortcut;
mod wiring;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use policies::isolation::is_reserved;

use crate::snapshot::{self, Fdb, GapKind, IpSet, Link, LinkKind, Mac, NamespaceId, Neighbour, PortVlan, Snapshot, Socket};

use crate::space::Ranges;

use fib::Fib;
use netfilter::Ruleset;
pub use wiring::{Place, Reach, Tags};
pub(crate) use wiring::{is_bridge_port, vlan_in, vlan_out};

/// Everything that packets can meet, in one host.
#[derive(Debug, Clone, Default)]
pub struct Model {
    namespaces: Vec<Namespace>,
    by_id: BTreeMap<NamespaceId, usize>,
    nowhere: Namespace,
    uppers: wiring::Uppers,
    redirecting: Vec<usize>,
    bridges_look: bool,
    frames_divert: bool,
    frames_matter: bool,
    headers_matter: bool,
    ecn_matters: bool,
    tags: BTreeSet<Tags>,
    /// The namespace that netcheck was started in.
    pub host: usize,
    /// Links behind which is `outside`: hardware, wherever it is, and what else the host's default routes lead to.
    pub uplinks: Vec<Place>,
    /// Who can be asked about, by name.
    pub endpoints: Vec<Endpoint>,
    /// What the whole host lacks; no answer is *closed* while there is one.
    pub gaps: Vec<String>,
    /// Registers hold integers with their least significant byte first.
    pub little_endian: bool,
}

/// A name that can be asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name: of a container or namespace its own, unless that means something else.
    pub name: String,
    /// What it is.
    pub kind: EndpointKind,
    /// Which of the snapshot's containers, when it is one.
    pub container: Option<usize>,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointKind {
    /// A namespace: a container, the host, or one that only the kernel knows.
    Inside(usize),
    /// A container whose namespace was not found.
    Lost,
    /// The cloud's metadata service, which hands out the host's credentials to whoever reaches it: it only receives.
    Metadata,
    /// Whoever is behind an uplink.
    Outside,
}

/// Addresses of the metadata service: AWS, Azure, Google Cloud and OpenStack on IPv4, AWS on IPv6.
pub const METADATA: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254))];

/// One network namespace.
#[derive(Debug, Clone, Default)]
pub struct Namespace {
    /// For people.
    pub label: String,
    /// Its links, by index.
    pub links: BTreeMap<u32, Link>,
    by_name: BTreeMap<String, u32>,
    addresses: BTreeMap<u32, Vec<snapshot::Address>>,
    neighbours: BTreeMap<(u32, IpAddr), Neighbour>,
    fdb: BTreeMap<(u32, Mac), Vec<Fdb>>,
    vlans: BTreeMap<u32, Vec<PortVlan>>,
    ports: BTreeMap<u32, Vec<u32>>,
    /// Routing of IPv4.
    pub fib4: Fib,
    /// Routing of IPv6.
    pub fib6: Fib,
    /// `net.ipv4.conf.all`.
    pub ipv4_all: snapshot::Ipv4Conf,
    /// `net.ipv6.conf.all`.
    pub ipv6_all: snapshot::Ipv6Conf,
    /// `bridge-nf-call-iptables`.
    pub bridge_calls_iptables: bool,
    /// `bridge-nf-call-ip6tables`.
    pub bridge_calls_ip6tables: bool,
    /// nf_tables.
    pub rules: Ruleset,
    /// ipsets, by index.
    pub ipsets: BTreeMap<u16, IpSet>,
    /// Sockets that wait.
    pub sockets: Vec<Socket>,
    /// What is there and not modelled: a packet that comes here has an unknown fate.
    pub opaque: Vec<String>,
    /// The same, for one link.
    pub opaque_links: BTreeMap<u32, String>,
    /// Whether it could be read.
    pub entered: bool,
    /// Whether connections may be expected because of others: helpers watch them, or rules say so.
    pub expects: bool,
    local4: Ranges,
    local6: Ranges,
    own4: Ranges,
    for_others: bool,
}

impl Model {
    /// Builds the model of a snapshot.
    #[must_use]
    pub fn new(snapshot: &Snapshot) -> Self {
        let mut model = Self { little_endian: snapshot.little_endian, ..Self::default() };
        for namespace in &snapshot.namespaces {
            model.by_id.insert(namespace.id, model.namespaces.len());
            model.namespaces.push(Namespace::new(namespace));
        }
        model.host = model.by_id.get(&snapshot.this_host).copied().unwrap_or(0);
        model.take_gaps(snapshot);
        model.redirecting = model.namespaces().filter(|(_, namespace)| namespace.redirects()).map(|(index, _)| index).collect();
        model.bridges_look = model.namespaces.iter().any(Namespace::bridges_look);
        model.frames_divert = model.namespaces.iter().any(Namespace::diverts_frames);
        model.frames_matter = model.namespaces.iter().any(|namespace| namespace.rules.asks_about_frames());
        model.headers_matter = model.namespaces.iter().any(|namespace| namespace.rules.asks_about_headers());
        model.ecn_matters = model.namespaces.iter().any(|namespace| namespace.rules.asks_about_ecn());
        model.wire();
        model.name_endpoints(snapshot);
        model.find_uplinks();
        model.tags = model.find_tags();
        model
    }

    /// The namespace at this place in the snapshot; an empty one when there is none.
    #[must_use]
    pub fn namespace(&self, index: usize) -> &Namespace {
        self.namespaces.get(index).unwrap_or(&self.nowhere)
    }

    /// All namespaces with their places.
    pub fn namespaces(&self) -> impl Iterator<Item = (usize, &Namespace)> {
        self.namespaces.iter().enumerate()
    }

    /// The place of a namespace.
    #[must_use]
    pub fn place_of(&self, id: NamespaceId) -> Option<usize> {
        self.by_id.get(&id).copied()
    }

    /// The endpoint of this name.
    #[must_use]
    pub fn endpoint(&self, name: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.name == name)
    }

    /// A link by its place.
    #[must_use]
    pub fn link(&self, place: Place) -> Option<&Link> {
        self.namespace(place.namespace).links.get(&place.link)
    }

    /// Addresses that a namespace takes packets for, and TCP no connections: those of a subnet's routers. `ipv6_unicast_destination`.
    #[must_use]
    pub fn anycast(&self, namespace: usize) -> Ranges {
        let routes = self.namespace(namespace).fib6.local_routes().filter(|route| route.kind == snapshot::RouteKind::Anycast);
        Ranges::union_of(routes.map(|route| fib::prefix(&route.destination)))
    }

    /// Addresses that a namespace delivers to itself.
    #[must_use]
    pub(crate) fn own(&self, namespace: usize, ipv4: bool) -> &Ranges {
        let content = self.namespace(namespace);
        if ipv4 { &content.local4 } else { &content.local6 }
    }

    /// IPv4 addresses that a namespace delivers to itself.
    #[must_use]
    pub fn arp_answerable(&self, namespace: usize) -> &Ranges {
        &self.namespace(namespace).local4
    }

    /// Namespaces that deliver one of these addresses to themselves, and the addresses that none of them does.
    #[must_use]
    pub fn owners(&self, addresses: &Ranges, ipv4: bool) -> (Vec<usize>, Ranges) {
        let mut nobody = addresses.clone();
        let mut owners = Vec::new();
        for (index, namespace) in self.namespaces() {
            let own = if ipv4 { &namespace.local4 } else { &namespace.local6 };
            if !addresses.intersect(own).is_empty() {
                owners.push(index);
                nobody = nobody.subtract(own);
            }
        }
        (owners, nobody)
    }

    /// Whether another namespace than this one may rewrite the destination of what it receives, or take it.
    #[must_use]
    pub fn others_redirect(&self, namespace: usize) -> bool {
        self.redirecting.iter().any(|index| *index != namespace)
    }

    /// Whether a bridge, or a rule, may see another frame in one that has a priority tag than in one that has none.
    #[must_use]
    pub const fn bridges_look(&self) -> bool {
        self.bridges_look
    }

    /// Whether it makes a difference how the sockets of a namespace send: a mark comes with a packet until it goes to another namespace, and with one
    /// of a macvlan or vlan to the link that it lies on.
    #[must_use]
    pub fn sockets_matter(&self, namespace: usize) -> bool {
        let links = self.namespace(namespace).links.keys();
        let below = links.filter_map(|link| self.lower_of(Place { namespace, link: *link })).map(|lower| lower.namespace);
        below
            .chain([namespace])
            .map(|index| self.namespace(index))
            .any(|content| content.rules.asks_about_sockets() || content.fib4.looks_at_mark() || content.fib6.looks_at_mark())
    }

    /// Whether somebody may take a frame that is for nobody, and comes to everybody on a bridge.
    #[must_use]
    pub const fn frames_divert(&self) -> bool {
        self.frames_divert
    }

    /// Whether a rule asks for what only a frame of the sender's own making has: hardware addresses, unusual headers.
    #[must_use]
    pub const fn frames_matter(&self) -> bool {
        self.frames_matter
    }

    /// Whether a rule asks for headers that any program may choose.
    #[must_use]
    pub const fn headers_matter(&self) -> bool {
        self.headers_matter
    }

    /// Whether a rule may tell a SYN that offers ECN from another one.
    #[must_use]
    pub const fn ecn_matters(&self) -> bool {
        self.ecn_matters
    }

    /// Tags of vlans that links and bridge ports tell apart, one of all that they treat alike.
    pub(crate) fn tags(&self) -> impl Iterator<Item = Tags> {
        self.tags.iter().copied()
    }

    fn find_tags(&self) -> BTreeSet<Tags> {
        const LAST: u16 = 4094;
        let rules_look = self.namespaces.iter().any(|namespace| namespace.rules.looks_into_frames());
        let of_port =
            |vlan: &PortVlan| if rules_look { vlan.first..=vlan.last } else { vlan.first..=vlan.first }.chain([vlan.last.saturating_add(1)]);
        let ports = self.namespaces.iter().flat_map(Namespace::filtered_vlans).flat_map(of_port);
        let links = self.namespaces.iter().flat_map(|namespace| namespace.links.values());
        let devices =
            links.filter_map(|link| if let LinkKind::Vlan { id, .. } = link.kind { Some([id, id.saturating_add(1)]) } else { None }).flatten();
        let single = ports.chain(devices).filter(|tag| (1..=LAST).contains(tag)).map(Tags::one);
        let id = |place: Place| if let LinkKind::Vlan { id, .. } = self.link(place)?.kind { Some(id) } else { None };
        let places = self.namespaces().flat_map(|(namespace, content)| content.links.keys().map(move |link| Place { namespace, link: *link }));
        // A vlan on a vlan.
        let double = places.filter_map(|place| Tags::one(id(place)?).push(id(self.lower_of(place)?)?));
        single.chain(double).collect()
    }

    fn take_gaps(&mut self, snapshot: &Snapshot) {
        for gap in &snapshot.gaps {
            let text = format!("{:?}: {}", gap.kind, gap.detail);
            let namespace = gap.namespace.and_then(|id| self.by_id.get(&id).copied()).and_then(|index| self.namespaces.get_mut(index));
            match (namespace, gap.link, gap.kind) {
                (_, _, GapKind::Engine | GapKind::Flowtable) => {}
                (Some(namespace), Some(link), _) => {
                    namespace.opaque_links.insert(link, text);
                }
                (Some(namespace), None, _) => namespace.opaque.push(text),
                (None, _, GapKind::Disappeared) => {}
                (None, ..) => self.gaps.push(text),
            }
        }
    }

    fn name_endpoints(&mut self, snapshot: &Snapshot) {
        let mut named = vec![false; self.namespaces.len()];
        let mut names = Names::new(self.host);
        for (index, container) in snapshot.containers().iter().enumerate() {
            let place = container.namespace.and_then(|id| self.place_of(id));
            if let Some(seen) = place.and_then(|index| named.get_mut(index)) {
                *seen = true;
            }
            names.add("container", &container.name, &container.id, (place.map_or(EndpointKind::Lost, EndpointKind::Inside), Some(index)));
        }
        for (index, namespace) in snapshot.namespaces.iter().enumerate() {
            if index == self.host || named.get(index).copied().unwrap_or(true) {
                continue;
            }
            let id = namespace.id.to_string();
            for name in &namespace.names {
                names.add("netns", name, &id, (EndpointKind::Inside(index), None));
            }
            if namespace.names.is_empty() {
                names.add("netns", "", &id, (EndpointKind::Inside(index), None));
            }
        }
        self.endpoints = names.0.into_values().collect();
        let mut labels: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
        for endpoint in &self.endpoints {
            if let EndpointKind::Inside(index) = endpoint.kind {
                labels.entry(index).or_default().push(&endpoint.name);
            }
        }
        for (index, names) in labels {
            if let Some(namespace) = self.namespaces.get_mut(index) {
                namespace.label = names.join("+");
            }
        }
        if let Some(host) = self.namespaces.get_mut(self.host) {
            "host".clone_into(&mut host.label);
        }
    }

    /// Hardware that is up, in whatever namespace, and links of the host with a default route that leads to none; without any, veths of the host
    /// with an address. Those with a default route come first.
    fn find_uplinks(&mut self) {
        let is_hardware = |link: &&Link| link.up && link.kind == LinkKind::Physical;
        let hardware_of = |(namespace, content): (usize, &Namespace)| {
            let links = content.links.values().filter(is_hardware).map(move |link| Place { namespace, link: link.index });
            links.map(|place| self.above(place)).collect::<BTreeSet<_>>()
        };
        self.uplinks = self.namespaces().flat_map(hardware_of).collect();
        let host = self.namespace(self.host);
        let place = |link: u32| Place { namespace: self.host, link };
        let routed: BTreeSet<Place> = host.fib4.default_links().chain(host.fib6.default_links()).map(place).collect();
        let (known, others): (Vec<_>, Vec<_>) =
            routed.into_iter().map(|place| (place, self.reach(place, Tags::NONE).exits)).partition(|(_, exits)| !exits.is_empty());
        let first: BTreeSet<Place> = known.into_iter().flat_map(|(_, exits)| exits).collect();
        let mut found: Vec<Place> = others.into_iter().map(|(place, _)| place).chain(self.uplinks.iter().copied()).collect();
        found.sort_by_key(|place| self.uplinks.contains(place) && !first.contains(place));
        if found.is_empty() {
            let usable = |link: &&Link| link.up && link.master.is_none() && link.kind == LinkKind::Veth && !host.addresses_of(link.index).is_empty();
            found = host.links.values().filter(usable).map(|link| place(link.index)).collect();
        }
        self.uplinks = found;
    }

    /// The link that has what arrives on this one: a bond or team that it is a part of, or itself.
    fn above(&self, place: Place) -> Place {
        let has_all = |link: &&Link| matches!(&link.kind, LinkKind::Other(_));
        let master = self.link(place).filter(|link| link.port.is_none()).and_then(|link| link.master).map(|link| Place { link, ..place });
        master.filter(|master| self.link(*master).filter(has_all).is_some()).unwrap_or(place)
    }
}

/// Endpoints by their names: nobody takes the name of another.
struct Names(BTreeMap<String, Endpoint>);

impl Names {
    /// Those that every host has.
    fn new(host: usize) -> Self {
        let always = [("host", EndpointKind::Inside(host)), ("metadata", EndpointKind::Metadata), ("outside", EndpointKind::Outside)];
        Self(always.map(|(name, kind)| (name.to_owned(), Endpoint { name: name.to_owned(), kind, container: None })).into())
    }

    /// Adds one by its own name; with what it is before that, when the name means something else; by its id, when another has that too.
    fn add(&mut self, what: &str, own: &str, id: &str, (kind, container): (EndpointKind, Option<usize>)) {
        let own_name = Some(own).filter(|name| !name.is_empty());
        let qualified = own_name.map(|name| format!("{what}:{name}"));
        let free = own_name.filter(|name| !is_reserved(name)).map(str::to_owned).into_iter().chain(qualified).chain([format!("{what}:{id}")]);
        let Some(name) = free.into_iter().find(|name| !self.0.contains_key(name)) else { return };
        self.0.insert(name.clone(), Endpoint { name, kind, container });
    }
}

impl Namespace {
    fn new(read: &snapshot::Namespace) -> Self {
        let on = |name: &str| read.sysctls.get(name).is_some_and(|value| value.trim() == "1");
        let (routes4, routes6) = read.routes.iter().cloned().partition(|route| route.destination.addr().is_ipv4());
        let (rules4, rules6) = read.rules.iter().cloned().partition(|rule| rule.family == snapshot::Family::Ip);
        let by_name: BTreeMap<String, u32> = read.links.iter().map(|link| (link.name.clone(), link.index)).collect();
        let mut namespace = Self {
            label: read.names.first().cloned().unwrap_or_else(|| format!("netns:{}", read.id)),
            links: read.links.iter().map(|link| (link.index, link.clone())).collect(),
            fib4: Fib::new(routes4, rules4, true),
            fib6: Fib::new(routes6, rules6, false),
            ipv4_all: read.ipv4_all,
            ipv6_all: read.ipv6_all,
            bridge_calls_iptables: on("net/bridge/bridge-nf-call-iptables"),
            bridge_calls_ip6tables: on("net/bridge/bridge-nf-call-ip6tables"),
            rules: Ruleset::new(&read.tables, &by_name),
            by_name,
            ipsets: read.ipsets.iter().map(|set| (set.index, set.clone())).collect(),
            sockets: read.sockets.clone(),
            expects: on("net/netfilter/nf_conntrack_helper") || read.tables.iter().any(netfilter::expects),
            entered: !read.links.is_empty(),
            ..Self::default()
        };
        namespace.local4 = delivered(&namespace.fib4);
        namespace.local6 = delivered(&namespace.fib6);
        let proxies = |conf: &snapshot::Ipv4Conf| conf.proxy_arp || conf.proxy_arp_pvlan;
        namespace.for_others = proxies(&read.ipv4_all)
            || namespace.fib4.delivers_elsewhere()
            || read.links.iter().any(|link| link.ipv4.as_ref().is_some_and(proxies))
            || read.neighbours.iter().any(|neighbour| neighbour.proxy);
        namespace.own4 = Ranges::union_of(read.addresses.iter().filter(|own| own.address.addr().is_ipv4()).map(|own| {
            let own = fib::number(own.address.addr());
            (own, own)
        }));
        for address in &read.addresses {
            namespace.addresses.entry(address.link).or_default().push(address.clone());
        }
        for neighbour in &read.neighbours {
            namespace.neighbours.insert((neighbour.link, neighbour.address), neighbour.clone());
        }
        for entry in read.fdb.iter().filter(|entry| entry.fixed || entry.permanent) {
            if let Some(bridge) = entry.bridge {
                namespace.fdb.entry((bridge, entry.mac)).or_default().push(entry.clone());
            }
        }
        for vlan in &read.vlans {
            namespace.vlans.entry(vlan.link).or_default().push(vlan.clone());
        }
        for link in &read.links {
            if let (Some(master), Some(_)) = (link.master, &link.port) {
                namespace.ports.entry(master).or_default().push(link.index);
            }
        }
        if read.sysctls.get("net/bridge/bridge-nf-filter-vlan-tagged").is_some_and(|value| value.trim() != "0") {
            namespace.opaque.push("bridge-nf-filter-vlan-tagged is on".to_owned());
        }
        namespace
    }

    /// Whether something here may rewrite the destination of a packet that arrives, or take it.
    fn redirects(&self) -> bool {
        self.is_opaque() || self.rules.has_rules_before_routing()
    }

    /// Whether something here may take a frame that is not for it.
    fn diverts_frames(&self) -> bool {
        self.is_opaque() || self.rules.diverts_frames()
    }

    /// Whether something here is not modelled that may do anything.
    fn is_opaque(&self) -> bool {
        !self.opaque.is_empty() || !self.opaque_links.is_empty()
    }

    /// Whether br_netfilter or rules look into frames, or a link takes those with a priority tag.
    fn bridges_look(&self) -> bool {
        let of_link = |link: &Link| match &link.kind {
            LinkKind::Bridge(bridge) => bridge.nf_call_iptables || bridge.nf_call_ip6tables,
            LinkKind::Vlan { id, .. } => *id == 0,
            LinkKind::Dummy
            | LinkKind::Ipvlan { .. }
            | LinkKind::Loopback
            | LinkKind::Macvlan { .. }
            | LinkKind::Other(_)
            | LinkKind::Physical
            | LinkKind::Tun
            | LinkKind::Veth
            | LinkKind::Vrf { .. }
            | LinkKind::Vxlan { .. } => false,
        };
        self.bridge_calls_iptables || self.bridge_calls_ip6tables || self.rules.looks_into_frames() || self.links.values().any(of_link)
    }

    /// Whether it may answer ARP for addresses that are not in its table of local ones.
    #[must_use]
    pub const fn answers_for_others(&self) -> bool {
        self.for_others
    }

    /// The link of this name.
    #[must_use]
    pub fn link_named(&self, name: &str) -> Option<&Link> {
        self.by_name.get(name).and_then(|index| self.links.get(index))
    }

    /// Addresses of a link, in the kernel's order.
    #[must_use]
    pub fn addresses_of(&self, link: u32) -> &[snapshot::Address] {
        self.addresses.get(&link).map_or(&[], Vec::as_slice)
    }

    /// Its IPv4 addresses.
    #[must_use]
    pub(crate) const fn own4(&self) -> &Ranges {
        &self.own4
    }

    /// IPv4 and IPv6 addresses that it delivers to itself and that are not this link's.
    pub(crate) fn delivers_besides(&self, link: u32) -> [Ranges; 2] {
        let own = |ipv4: bool| {
            let of_link = self.addresses_of(link).iter().map(|own| own.address.addr()).filter(move |own| own.is_ipv4() == ipv4);
            Ranges::union_of(of_link.map(|own| (fib::number(own), fib::number(own))))
        };
        [self.local4.subtract(&own(true)), self.local6.subtract(&own(false))]
    }

    /// Every address, with its link.
    pub fn addresses(&self) -> impl Iterator<Item = &snapshot::Address> {
        self.addresses.values().flatten()
    }

    /// Whether one of the links has this address.
    #[must_use]
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.addresses().any(|own| own.address.addr() == address && !own.unusable)
    }

    /// The neighbour entry that someone fixed, if any.
    #[must_use]
    pub fn fixed_neighbour(&self, link: u32, address: IpAddr) -> Option<Mac> {
        const NOARP_OR_PERMANENT: u16 = 0xc0;
        let entry = self.neighbours.get(&(link, address)).filter(|entry| entry.state & NOARP_OR_PERMANENT != 0 && !entry.proxy)?;
        entry.mac
    }

    /// Addresses of a link's neighbours that someone fixed.
    pub(crate) fn fixed_neighbours(&self, link: u32, ipv4: bool) -> Ranges {
        let of_link = self.neighbours_of(link).map(|(address, _)| address);
        let fixed = of_link.filter(|address| address.is_ipv4() == ipv4 && self.fixed_neighbour(link, *address).is_some());
        Ranges::union_of(fixed.map(|address| (fib::number(address), fib::number(address))))
    }

    /// IPv6 addresses that a link answers for: those of its own that may be used, and as a router's the anycast addresses of its subnets
    /// (`ipv6_chk_acast_addr`; RFC 4291 §2.6.1).
    pub(crate) fn answers6(&self, link: u32) -> Ranges {
        let own = self.addresses_of(link).iter().filter(|own| !own.unusable).map(|own| own.address.addr()).filter(|own| !own.is_ipv4());
        let anycast = self.fib6.local_routes().filter(|route| route.kind == snapshot::RouteKind::Anycast);
        let anycast = anycast.filter(|route| route.next_hops.iter().any(|hop| hop.oif == Some(link))).map(|route| route.destination.addr());
        Ranges::union_of(own.chain(anycast).map(|own| (fib::number(own), fib::number(own))))
    }

    /// Addresses that someone made a link answer for, one by one.
    pub(crate) fn proxied(&self, link: u32, ipv4: bool) -> Ranges {
        let entries = self.neighbours_of(link).filter(|(address, entry)| address.is_ipv4() == ipv4 && entry.proxy);
        Ranges::union_of(entries.map(|(address, _)| (fib::number(address), fib::number(address))))
    }

    fn neighbours_of(&self, link: u32) -> impl Iterator<Item = (IpAddr, &Neighbour)> {
        let first = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        self.neighbours.range((link, first)..).take_while(move |((of, _), _)| *of == link).map(|((_, address), entry)| (*address, entry))
    }

    /// Whether someone fixed where a hardware address is in a bridge.
    #[must_use]
    pub fn has_fixed_ports(&self) -> bool {
        self.fdb.values().flatten().any(|entry| entry.fixed)
    }

    /// Whether someone fixed the hardware address of a neighbour.
    #[must_use]
    pub fn has_fixed_neighbours(&self) -> bool {
        self.neighbours.values().any(|entry| entry.proxy || entry.state & 0xc0 != 0 && !entry.address.is_multicast() && !entry.address.is_loopback())
    }

    /// Routes that do not follow from the addresses alone: where to, by what, which way.
    #[must_use]
    pub fn plain_routes(&self) -> Vec<String> {
        self.fib4.described().chain(self.fib6.described()).collect()
    }

    /// Ports of a bridge.
    #[must_use]
    pub fn ports_of(&self, bridge: u32) -> &[u32] {
        self.ports.get(&bridge).map_or(&[], Vec::as_slice)
    }

    /// What is not learnt of a hardware address in a bridge, in each vlan: where someone fixed it, or that it is the bridge's own.
    pub(crate) fn fdb_of(&self, bridge: u32, mac: Mac) -> &[Fdb] {
        self.fdb.get(&(bridge, mac)).map_or(&[], Vec::as_slice)
    }

    /// The vlan of an untagged frame that arrives on a port.
    #[must_use]
    pub fn pvid(&self, link: u32) -> Option<u16> {
        self.vlans.get(&link).into_iter().flatten().find(|vlan| vlan.pvid).map(|vlan| vlan.first)
    }

    /// Whether a port is in a vlan, and if so whether frames leave it untagged.
    #[must_use]
    pub fn vlan_untagged(&self, link: u32, id: u16) -> Option<bool> {
        self.vlans.get(&link).into_iter().flatten().find(|vlan| (vlan.first..=vlan.last).contains(&id)).map(|vlan| vlan.untagged)
    }

    /// Vlans of bridges that look at them, and of their ports, as ranges.
    fn filtered_vlans(&self) -> impl Iterator<Item = &PortVlan> {
        let filters = |link: &Link| matches!(&link.kind, LinkKind::Bridge(bridge) if bridge.vlan_filtering);
        let bridges = self.links.values().filter(move |link| filters(link)).map(|link| link.index);
        let links = bridges.flat_map(|bridge| self.ports_of(bridge).iter().copied().chain([bridge]));
        links.filter_map(|link| self.vlans.get(&link)).flatten()
    }

    /// Whether there is a way through it: it has several links, or rules that send packets elsewhere.
    pub(crate) fn passes_on(&self) -> bool {
        self.links.values().filter(|link| link.up && link.kind != LinkKind::Loopback).count() > 1 || self.redirects()
    }

    /// Larger of `all` and the device's `rp_filter`. `IN_DEV_RPFILTER`.
    #[must_use]
    pub fn rp_filter(&self, link: &Link) -> u8 {
        link.ipv4.map_or(0, |conf| conf.rp_filter).max(self.ipv4_all.rp_filter)
    }

    /// A switch that `all` or the device turns on.
    #[must_use]
    pub fn ipv4_either(&self, link: &Link, switch: fn(&snapshot::Ipv4Conf) -> bool) -> bool {
        switch(&self.ipv4_all) || link.ipv4.as_ref().is_some_and(switch)
    }
}

/// Addresses that a namespace delivers to itself.
fn delivered(fib: &Fib) -> Ranges {
    let own = fib.local_routes().filter(|route| matches!(route.kind, snapshot::RouteKind::Local | snapshot::RouteKind::Anycast));
    Ranges::union_of(own.map(|route| fib::prefix(&route.destination)))
}
