//! Reading one namespace, by a thread that is in it: links, addresses, routes, sockets.

use netcheck::uapi::{AF_BRIDGE, AF_INET, AF_INET6, RTM_NEWLINK};
use std::collections::BTreeMap;

use netcheck::decode::link::{self, DecodedLink, DecodedNeighbour, TrafficControl};
use netcheck::decode::message::Request;
use netcheck::decode::socket;
use netcheck::snapshot::{Family, Gap, GapKind, LinkKind, Namespace, NamespaceId, Peer, RouteKind, Socket};
use rustix::net::netlink::{SOCK_DIAG, XFRM};

use super::procfs::{self, Unmodelled};
use super::rules;
use netcheck::kernel::enter::Handle;
use netcheck::kernel::netlink::{Connection, ROUTE, ReadError, dump_request};
use netcheck::kernel::routing;

const RTM_GETLINK: u16 = 18;
const RTM_GETADDR: u16 = 22;
const RTM_GETNEIGH: u16 = 30;
const RTM_GETQDISC: u16 = 38;
const RTM_GETTFILTER: u16 = 46;
const RTM_GETNETCONF: u16 = 82;
const RTM_GETNSID: u16 = 90;
const IFLA_EXT_MASK: u16 = 29;

/// What is the same for all namespaces.
#[derive(Debug)]
pub(crate) struct Surroundings<'a> {
    /// All namespaces that are known, this host's first.
    pub(crate) handles: &'a [Handle],
    /// What this kernel has that is not modelled.
    pub(crate) unmodelled: Unmodelled,
    /// Whether IPsec policies can exist: its netlink family is loaded.
    pub(crate) xfrm: bool,
    /// Whether helpers can watch connections without being told to.
    pub(crate) helpers: bool,
    /// The namespace where all switches are read.
    pub(crate) host: NamespaceId,
}

/// A namespace and what could not be read of it.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// What was read.
    pub(crate) namespace: Namespace,
    /// What was not.
    pub(crate) gaps: Vec<Gap>,
}

impl Reading {
    /// Nothing of it could be read.
    pub(crate) fn failed(id: NamespaceId, error: &dyn std::fmt::Display) -> Self {
        let mut reading = Self::default();
        reading.namespace.id = id;
        reading.gap(GapKind::NotEntered, error.to_string());
        reading
    }

    pub(crate) fn gap(&mut self, kind: GapKind, detail: String) {
        self.gaps.push(Gap { kind, namespace: Some(self.namespace.id), link: None, detail });
    }

    fn link_gap(&mut self, kind: GapKind, link: u32, detail: String) {
        let namespace = Some(self.namespace.id);
        self.gaps.push(Gap { kind, namespace, link: Some(link), detail });
    }

    /// The value, or a gap and nothing.
    pub(crate) fn or_gap<T: Default>(&mut self, result: Result<T, ReadError>) -> T {
        result.unwrap_or_else(|error| {
            let unstable = matches!(error, ReadError::Unstable { .. });
            let kind = if unstable { GapKind::Inconsistent } else { GapKind::NotRead };
            self.gap(kind, error.to_string());
            T::default()
        })
    }
}

/// Reads the namespace that this thread is in.
pub(crate) fn namespace(handle: &Handle, around: &Surroundings<'_>) -> Reading {
    let mut reading = Reading::default();
    reading.namespace.id = handle.id;
    match Connection::open(ROUTE, "routing socket") {
        Ok(mut connection) => routing(&mut reading, &mut connection, around),
        Err(error) => reading.gap(GapKind::NotRead, error.to_string()),
    }
    rules::read(&mut reading);
    let sockets = sockets();
    reading.namespace.sockets = reading.or_gap(sockets);
    reading.gaps.extend(around.unmodelled.here(handle.id));
    if around.helpers {
        reading.namespace.sysctls.extend(procfs::conntrack_switches());
    }
    let is_host = handle.id == around.host;
    procfs::ipv4_all(&mut reading.namespace.ipv4_all, is_host);
    if around.xfrm {
        xfrm(&mut reading);
    }
    reading
}

/// Everything of rtnetlink.
fn routing(reading: &mut Reading, connection: &mut Connection, around: &Surroundings<'_>) {
    let links = links(connection);
    let links = reading.or_gap(links);
    record_links(reading, connection, around, links);
    let result = connection.dump("addresses", &dump_request(RTM_GETADDR, &[0; 8]), |message| link::address(message.payload).map(Some));
    reading.namespace.addresses = reading.or_gap(result);
    let result = routing::routes(connection);
    reading.namespace.routes = reading.or_gap(result);
    record_encapsulations(reading);
    let result = routing::policy_rules(connection);
    reading.namespace.rules = reading.or_gap(result);
    neighbours(reading, connection);
    switches(reading, connection);
    traffic_control(reading, connection);
    let bridge = |kind: &LinkKind| matches!(kind, LinkKind::Bridge(_));
    if reading.namespace.links.iter().any(|link| bridge(&link.kind)) {
        bridges(reading, connection);
    }
}

/// Links, with the namespace of the other end still as the id that it has here.
fn links(connection: &mut Connection) -> Result<Vec<DecodedLink>, ReadError> {
    const SKIP_STATISTICS: u32 = 1 << 3;
    let request = dump_request(RTM_GETLINK, &[0; 16]).attribute(IFLA_EXT_MASK, &SKIP_STATISTICS.to_ne_bytes());
    connection.dump("links", &request, |message| {
        // The namespace's id is carried through, and translated when all links are known.
        let carried = |id: Option<i32>| id.map(carry);
        link::link(message.payload, &carried).map(Some)
    })
}

/// An id of a namespace as seen from here, in the place where its own id will be.
fn carry(nsid: i32) -> NamespaceId {
    NamespaceId(u64::from(u32::from_ne_bytes(nsid.to_ne_bytes())))
}

fn record_links(reading: &mut Reading, connection: &mut Connection, around: &Surroundings<'_>, links: Vec<DecodedLink>) {
    let here = reading.namespace.id;
    let others: Vec<NamespaceId> = links.iter().filter_map(|one| other_end(&one.link.kind, one.link.peer)?.namespace).collect();
    let known = translate(connection, around, &others);
    for mut one in links {
        let index = one.link.index;
        if one.xdp {
            reading.link_gap(GapKind::Xdp, index, format!("on {}", one.link.name));
        }
        let fix = |peer: Peer| Peer {
            namespace: match peer.namespace {
                None => Some(here),
                Some(carried) => known.get(&carried).copied(),
            },
            ..peer
        };
        one.link.peer = one.link.peer.map(fix);
        if let LinkKind::Macvlan { lower, .. } | LinkKind::Ipvlan { lower, .. } | LinkKind::Vlan { lower, .. } = &mut one.link.kind {
            *lower = lower.map(fix);
        }
        reading.namespace.links.push(one.link);
    }
}

fn other_end(kind: &LinkKind, peer: Option<Peer>) -> Option<Peer> {
    kind.stacked_on().unwrap_or(peer)
}

/// Asks for the id of each namespace that is known, this host's first, until all that are wanted are found.
fn translate(connection: &mut Connection, around: &Surroundings<'_>, wanted: &[NamespaceId]) -> BTreeMap<NamespaceId, NamespaceId> {
    use std::os::fd::AsRawFd;
    const NETNSA_FD: u16 = 3;
    let mut wanted: std::collections::BTreeSet<NamespaceId> = wanted.iter().copied().collect();
    let mut known = BTreeMap::new();
    for handle in around.handles {
        if wanted.is_empty() {
            break;
        }
        let request = Request::new(RTM_GETNSID, 0, &[0; 4]).attribute(NETNSA_FD, &handle.file.as_raw_fd().to_ne_bytes());
        let id = connection.get("namespace id", &request, |message| link::nsid(message.payload));
        if let Ok(Some(Some(id))) = id
            && wanted.remove(&carry(id))
        {
            known.insert(carry(id), handle.id);
        }
    }
    known
}

fn record_encapsulations(reading: &mut Reading) {
    let encapsulated =
        |route: &&netcheck::snapshot::Route| route.next_hops.iter().any(|hop| hop.encapsulated) || matches!(route.kind, RouteKind::Other(_));
    let routes: Vec<String> = reading.namespace.routes.iter().filter(encapsulated).map(|route| route.destination.to_string()).collect();
    for destination in routes {
        reading.gap(GapKind::RouteEncapsulation, format!("route to {destination}, encapsulated or by a next hop object"));
    }
}

fn neighbours(reading: &mut Reading, connection: &mut Connection) {
    for answered_for in [false, true] {
        let result = routing::neighbours(connection, answered_for);
        let found = reading.or_gap(result);
        reading.namespace.neighbours.extend(found);
    }
}

/// `all` and `default` of both families.
fn switches(reading: &mut Reading, connection: &mut Connection) {
    const NETCONFA_IFINDEX: u16 = 1;
    for family in [AF_INET, AF_INET6] {
        for index in [-1_i32, -2] {
            let request = Request::new(RTM_GETNETCONF, 0, &[family, 0, 0, 0]).attribute(NETCONFA_IFINDEX, &index.to_ne_bytes());
            let result = connection.get("switches", &request, |message| link::netconf(message.payload));
            match result {
                Ok(Some(found)) => record_switches(&mut reading.namespace, found),
                Ok(None) => {}
                Err(error) if error.is_absent() => {}
                Err(error) => reading.gap(GapKind::NotRead, error.to_string()),
            }
        }
    }
}

fn record_switches(namespace: &mut Namespace, found: link::Netconf) {
    if found.family == AF_INET {
        let conf = if found.index == -1 { &mut namespace.ipv4_all } else { &mut namespace.ipv4_default };
        conf.forwarding = found.forwarding.unwrap_or(false);
        conf.rp_filter = found.rp_filter.unwrap_or(0);
        conf.proxy_arp = found.proxy_neigh.unwrap_or(false);
        return;
    }
    let conf = if found.index == -1 { &mut namespace.ipv6_all } else { &mut namespace.ipv6_default };
    conf.forwarding = found.forwarding.unwrap_or(false);
    conf.proxy_ndp = found.proxy_neigh.unwrap_or(false);
    conf.force_forwarding = found.force_forwarding.unwrap_or(false);
}

/// Queueing disciplines that look at packets as they arrive, and filters of those that can hold some.
fn traffic_control(reading: &mut Reading, connection: &mut Connection) {
    const SIMPLE: [&str; 8] = ["bfifo", "codel", "fq", "mq", "noop", "noqueue", "pfifo", "pfifo_fast"];
    // `tcf_block` of their class operations.
    const FILTERED: [&str; 4] = ["cake", "fq_codel", "fq_pie", "sfq"];
    let request = dump_request(RTM_GETQDISC, &[0; 20]);
    let result = connection.dump("queueing disciplines", &request, |message| link::traffic_control(message.payload).map(Some));
    let found = traffic_controls(reading, result);
    for control in found.into_iter().filter(|control| !SIMPLE.contains(&control.kind.as_str())) {
        if !FILTERED.contains(&control.kind.as_str()) {
            reading.link_gap(GapKind::TrafficControl, control.link, control.kind);
            continue;
        }
        let header = [0, control.link, 0, control.handle, 0].map(u32::to_ne_bytes).concat();
        let request = dump_request(RTM_GETTFILTER, &header);
        let result = connection.dump("filters", &request, |message| link::traffic_control(message.payload).map(Some));
        for filter in traffic_controls(reading, result) {
            reading.link_gap(GapKind::TrafficControl, control.link, format!("filter {} of {}", filter.kind, control.kind));
        }
    }
}

/// What was dumped; a kernel without traffic control has none.
fn traffic_controls(reading: &mut Reading, result: Result<Vec<TrafficControl>, ReadError>) -> Vec<TrafficControl> {
    match result {
        Err(error) if error.is_absent() => Vec::new(),
        other => reading.or_gap(other),
    }
}

/// Forwarding databases, vlans and the switches of br_netfilter.
fn bridges(reading: &mut Reading, connection: &mut Connection) {
    const COMPRESSED_VLANS: u32 = 1 << 2;
    let mut header = [0; 12];
    if let Some(family) = header.first_mut() {
        *family = AF_BRIDGE;
    }
    let result = connection.dump("fdb", &dump_request(RTM_GETNEIGH, &header), |message| {
        Ok(match link::neighbour(message.payload)? {
            DecodedNeighbour::Fdb(fdb) => Some(fdb),
            DecodedNeighbour::Neighbour(_) => None,
        })
    });
    reading.namespace.fdb = reading.or_gap(result);
    let mut header = [0; 16];
    if let Some(family) = header.first_mut() {
        *family = AF_BRIDGE;
    }
    let request = dump_request(RTM_GETLINK, &header).attribute(IFLA_EXT_MASK, &COMPRESSED_VLANS.to_ne_bytes());
    let result = connection
        .dump("bridge vlans", &request, |message| if message.kind == RTM_NEWLINK { link::port_vlans(message.payload).map(Some) } else { Ok(None) });
    reading.namespace.vlans = reading.or_gap(result).into_iter().flatten().collect();
    reading.namespace.sysctls.extend(procfs::bridge_switches());
}

/// TCP listeners and unconnected UDP sockets of both families.
fn sockets() -> Result<Vec<Socket>, ReadError> {
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    const LISTEN: u32 = 1 << 10;
    const UNCONNECTED: u32 = 1 << 7;
    let mut connection = Connection::open(Some(SOCK_DIAG), "socket diagnostics")?;
    let mut sockets = Vec::new();
    for (protocol, states) in [(TCP, LISTEN), (UDP, UNCONNECTED)] {
        for family in [AF_INET, AF_INET6] {
            let mut fixed = vec![family, protocol, 0, 0];
            fixed.extend_from_slice(&states.to_ne_bytes());
            fixed.resize(56, 0);
            let request = dump_request(SOCK_DIAG_BY_FAMILY, &fixed);
            let result = connection.dump("sockets", &request, |message| socket::socket(message.payload, protocol).map(Some));
            match result {
                Ok(found) => sockets.extend(found),
                Err(error) if error.is_absent() => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(sockets)
}

/// IPsec policies, of which only the number is of interest: the model has none.
fn xfrm(reading: &mut Reading) {
    const XFRM_MSG_GETPOLICY: u16 = 0x15;
    let count = Connection::open(Some(XFRM), "ipsec socket").and_then(|mut connection| {
        let request = dump_request(XFRM_MSG_GETPOLICY, &[]);
        connection.dump("ipsec policies", &request, |_| Ok(Some(())))
    });
    match count {
        Ok(policies) if policies.is_empty() => {}
        Ok(policies) => reading.gap(GapKind::Xfrm, format!("{} policies", policies.len())),
        Err(error) if error.is_absent() => {}
        Err(error) => reading.gap(GapKind::NotRead, error.to_string()),
    }
}

/// Rules are sorted within a family by the kernel; the families are kept apart here.
pub(crate) fn sort_rules(namespace: &mut Namespace) {
    namespace.rules.sort_by_key(|rule| (rule.family != Family::Ip, rule.priority));
}
