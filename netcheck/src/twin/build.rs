//! Making the namespaces, and everything in them.

use crate::uapi::NUD_PERMANENT;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::decode::message::Request;
use crate::encode::link::Name;
use crate::encode::{Lack, link as encode, route as encode_route};
use crate::kernel::enter::Handle;
use crate::kernel::netlink::{Connection, ROUTE, ReadError};
use crate::kernel::routing;
use crate::model::Place;
use crate::snapshot::{Address, Link, LinkKind, Mac, Namespace, NamespaceId, PortVlan, Route, RouteKind, Snapshot};

use super::{LeftOut, OUTER, Outside, Room, Sockets, Twin, TwinError, Wires, rules, switches};

/// Of the other end of a link that leads outside; locally administered.
const NEIGHBOUR: Mac = Mac([0x02, 0, 0, 0, 0, 0x01]);
/// Rounds of a millisecond that the kernel's own routes are waited for.
const ROUNDS: u32 = 2000;

impl Twin {
    /// Makes a copy of a snapshot. Needs CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_NET_RAW, and touches no namespace that it has not made.
    ///
    /// # Errors
    /// When namespaces or sockets cannot be had. What else is refused is [left out](Self::left_out).
    pub fn build(snapshot: &Snapshot) -> Result<Self, TwinError> {
        raise_descriptor_limit();
        let mut builder = Builder { snapshot, twin: Self::empty(snapshot)?, places: BTreeMap::new() };
        builder.places = snapshot.namespaces.iter().enumerate().map(|(place, namespace)| (namespace.id, place)).collect();
        builder.links()?;
        builder.configure()?;
        builder.open_wires()?;
        builder.rules()?;
        builder.open_sockets()?;
        let mut twin = builder.twin;
        twin.left_out.sort();
        twin.left_out.dedup();
        Ok(twin)
    }

    fn empty(snapshot: &Snapshot) -> Result<Self, TwinError> {
        let mut twin = Self { rooms: Vec::new(), outside: BTreeMap::new(), entries: BTreeMap::new(), left_out: Vec::new(), next_id: 1 };
        for (namespace, read) in snapshot.namespaces.iter().enumerate() {
            let (handle, connection, failures) = new_namespace()?;
            twin.left_out.extend(failures.into_iter().map(|what| LeftOut { namespace, what, decides: true }));
            let macs = read.links.iter().filter_map(|link| Some((link.index, link.mac?))).collect();
            twin.rooms.push(Room { handle, connection, sockets: None, wires: None, macs });
        }
        Ok(twin)
    }
}

fn new_namespace() -> Result<(Handle, Connection, switches::Failures), TwinError> {
    let handle = Handle::create().map_err(TwinError::Namespace)?;
    let prepare = || Connection::open(ROUTE, "routing socket").map(|connection| (connection, switches::quiet()));
    let (connection, failures) = handle.inside(prepare).map_err(TwinError::Namespace)??;
    Ok((handle, connection, failures))
}

/// A namespace takes about ten descriptors.
fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Without it, large hosts fail with an error that says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

struct Builder<'s> {
    snapshot: &'s Snapshot,
    twin: Twin,
    places: BTreeMap<NamespaceId, usize>,
}

impl<'s> Builder<'s> {
    fn namespaces(&self) -> impl Iterator<Item = (usize, &'s Namespace)> + use<'s> {
        self.snapshot.namespaces.iter().enumerate()
    }

    fn lose(&mut self, namespace: usize, what: String, decides: bool) {
        self.twin.left_out.push(LeftOut { namespace, what, decides });
    }

    /// Has the kernel do something in a namespace; what it refuses is left out.
    fn order(&mut self, namespace: usize, what: impl Fn() -> String, request: &Request) -> Result<bool, TwinError> {
        let Some(room) = self.twin.rooms.get_mut(namespace) else { return Ok(false) };
        match room.connection.order("twin", request) {
            Ok(()) => Ok(true),
            Err(ReadError::Refused { source, .. }) => {
                self.lose(namespace, format!("{}: {source}", what()), true);
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn place_of(&self, here: usize, peer: crate::snapshot::Peer) -> Option<Place> {
        let namespace = peer.namespace.map_or(Some(here), |id| self.places.get(&id).copied())?;
        Some(Place { namespace, link: peer.index })
    }

    fn link(&self, place: Place) -> Option<&'s Link> {
        self.snapshot.namespaces.get(place.namespace)?.link(place.link)
    }

    /// Links, from those that stand by themselves to those that lie on others.
    fn links(&mut self) -> Result<(), TwinError> {
        let mut made: BTreeSet<Place> = BTreeSet::new();
        for (namespace, read) in self.namespaces() {
            for link in &read.links {
                let place = Place { namespace, link: link.index };
                if link.kind.stacked_on().is_none() && !made.contains(&place) {
                    self.plain(place, link, &mut made)?;
                }
            }
        }
        for (namespace, read) in self.namespaces() {
            for link in &read.links {
                let place = Place { namespace, link: link.index };
                if link.kind.stacked_on().is_some() && !made.contains(&place) {
                    self.stacked(place, link, &mut made)?;
                }
            }
        }
        Ok(())
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else there is leads outside")]
    fn plain(&mut self, place: Place, link: &'s Link, made: &mut BTreeSet<Place>) -> Result<(), TwinError> {
        made.insert(place);
        match &link.kind {
            LinkKind::Loopback => Ok(()),
            LinkKind::Bridge(bridge) => {
                self.order(place.namespace, || format!("bridge {}", link.name), &encode::bridge(link.into(), bridge)).map(|_| ())
            }
            LinkKind::Veth => match link.peer.and_then(|peer| self.place_of(place.namespace, peer)).and_then(|peer| Some((peer, self.link(peer)?))) {
                Some((peer, other)) if !made.contains(&peer) => {
                    made.insert(peer);
                    self.twin.entries.insert(place, peer);
                    self.twin.entries.insert(peer, place);
                    let Some(room) = self.twin.rooms.get(peer.namespace) else { return Ok(()) };
                    let request = encode::veth(link.into(), other.into(), room.handle.file.as_raw_fd());
                    let what = || format!("pair {} and {}", link.name, other.name);
                    if !self.order(place.namespace, what, &request)? {
                        self.lose(peer.namespace, what(), true);
                    }
                    Ok(())
                }
                _ => self.stand_in(place, link),
            },
            _ => self.stand_in(place, link),
        }
    }

    /// One end of a pair whose other end is in a namespace of its own: what is behind a link that leads outside.
    fn stand_in(&mut self, place: Place, link: &'s Link) -> Result<(), TwinError> {
        let (handle, connection, _) = new_namespace()?;
        let mac = if link.mac == Some(NEIGHBOUR) { Mac([0x02, 0, 0, 0, 0, 0x02]) } else { NEIGHBOUR };
        let outer = Name { index: OUTER, name: "outer", mac: Some(mac), mtu: link.mtu, group: 0 };
        let request = encode::veth(link.into(), outer, handle.file.as_raw_fd());
        if self.order(place.namespace, || format!("link {}", link.name), &request)? {
            // A port of a bridge, or what others lie on, leaves asking for neighbours to them.
            let alone = link.master.is_none() && !self.is_lower(place);
            self.twin.outside.insert(place, Outside { handle, connection, wires: None, mac, takes_all: alone });
        }
        if link.master.is_some() && link.port.is_none() {
            self.lose(place.namespace, format!("the master of {}", link.name), true);
        }
        Ok(())
    }

    fn is_lower(&self, place: Place) -> bool {
        let on_it = |namespace: usize, link: &Link| link.kind.stacked_on().flatten().and_then(|lower| self.place_of(namespace, lower)) == Some(place);
        self.namespaces().any(|(namespace, read)| read.links.iter().any(|link| on_it(namespace, link)))
    }

    fn stacked(&mut self, place: Place, link: &'s Link, made: &mut BTreeSet<Place>) -> Result<(), TwinError> {
        made.insert(place);
        let lower = link.kind.stacked_on().flatten().and_then(|lower| self.place_of(place.namespace, lower));
        if let Some(lower) = lower
            && let Some(below) = self.link(lower)
            && below.kind.stacked_on().is_some()
            && !made.contains(&lower)
        {
            self.stacked(lower, below, made)?;
        }
        let Some(room) = self.twin.rooms.get(place.namespace) else { return Ok(()) };
        let namespace = room.handle.file.as_raw_fd();
        let request = match (&link.kind, lower) {
            (LinkKind::Vlan { id, protocol, .. }, Some(lower)) if lower.namespace == place.namespace => {
                Some((lower.namespace, encode::vlan(link.into(), *id, *protocol, lower.link)))
            }
            (LinkKind::Macvlan { mode, .. }, Some(lower)) => Some((lower.namespace, encode::macvlan(link.into(), *mode, lower.link, namespace))),
            _ => None,
        };
        let done = match request {
            Some((at, request)) => self.order(at, || format!("link {}", link.name), &request)?,
            None => false,
        };
        if !done {
            self.lose(place.namespace, format!("link {} lies on nothing here", link.name), true);
            self.stand_in(place, link)?;
        }
        Ok(())
    }

    /// Ports, switches, addresses, routes, neighbours.
    fn configure(&mut self) -> Result<(), TwinError> {
        for (namespace, read) in self.namespaces() {
            self.ports(namespace, read)?;
            let failures = match self.twin.rooms.get(namespace) {
                Some(room) => room.handle.inside(|| switches::apply(read)).map_err(TwinError::Namespace)?,
                None => continue,
            };
            failures.into_iter().for_each(|what| self.lose(namespace, what, true));
        }
        for (namespace, read) in self.namespaces() {
            for link in &read.links {
                let takes_all = self.twin.outside.get(&Place { namespace, link: link.index }).is_some_and(|outside| outside.takes_all);
                let request = encode::set(link.index, link.up, link.noarp || takes_all);
                self.order(namespace, || format!("state of {}", link.name), &request)?;
            }
        }
        self.open_outside()?;
        for (namespace, read) in self.namespaces() {
            self.bridges(namespace, read)?;
            for address in read.addresses.iter().filter(|address| !address.unusable && !has_already(address, read)) {
                self.order(namespace, || format!("address {}", address.address), &encode::address(address))?;
            }
        }
        for (namespace, read) in self.namespaces() {
            self.routes(namespace, read)?;
            self.policy_rules(namespace, read)?;
            self.neighbours(namespace, read)?;
        }
        Ok(())
    }

    fn ports(&mut self, namespace: usize, read: &Namespace) -> Result<(), TwinError> {
        for link in &read.links {
            let (Some(master), Some(port)) = (link.master, &link.port) else { continue };
            let what = || format!("port {}", link.name);
            self.order(namespace, what, &encode::attach(link.index, master))?;
            self.order(namespace, what, &encode::port(link.index, port))?;
            if !port.forwarding && link.up && link.running {
                self.lose(namespace, format!("port {} does not forward", link.name), true);
            }
        }
        Ok(())
    }

    /// Vlans of ports, and hardware addresses that somebody fixed.
    fn bridges(&mut self, namespace: usize, read: &Namespace) -> Result<(), TwinError> {
        let filters = |link: &&Link| matches!(&link.kind, LinkKind::Bridge(bridge) if bridge.vlan_filtering);
        let filtering: Vec<u32> = read.links.iter().filter(filters).map(|link| link.index).collect();
        for bridge in &filtering {
            for link in read.links.iter().filter(|link| link.index == *bridge || link.master == Some(*bridge)) {
                // The kernel has put it into the default vlan; what the snapshot says comes instead.
                let default = PortVlan { link: link.index, first: 1, last: 1, pvid: false, untagged: false };
                if let Some(room) = self.twin.rooms.get_mut(namespace) {
                    let _ = room.connection.order("vlan", &encode::vlans(&default, link.index == *bridge, false));
                }
            }
        }
        for vlan in &read.vlans {
            let of_bridge = filtering.contains(&vlan.link);
            let of_port = read.link(vlan.link).and_then(|link| link.master).is_some_and(|master| filtering.contains(&master));
            if of_bridge || of_port {
                self.order(namespace, || format!("vlan {}-{}", vlan.first, vlan.last), &encode::vlans(vlan, of_bridge, true))?;
            }
        }
        for entry in read.fdb.iter().filter(|entry| entry.fixed && !entry.permanent && entry.bridge.is_some()) {
            self.order(namespace, || format!("hardware address {}", entry.mac), &encode::fdb(entry))?;
        }
        Ok(())
    }

    /// Takes out the routes that the kernel made and the snapshot has not, and adds the others: those to neighbours first.
    fn routes(&mut self, namespace: usize, read: &Namespace) -> Result<(), TwinError> {
        let there = self.settled_routes(namespace, read)?;
        for extra in there.iter().filter(|route| !read.routes.contains(route) && decides(route)) {
            self.order(namespace, || format!("a route to {} that is not there", extra.destination), &encode_route::remove_route(extra))?;
        }
        let mut missing: Vec<&Route> = read.routes.iter().filter(|route| !there.contains(route) && decides(route)).collect();
        missing.sort_by_key(|route| route.next_hops.iter().any(|hop| hop.gateway.is_some()));
        for route in missing {
            if !route.next_hops.is_empty() && route.next_hops.iter().all(|hop| hop.dead) {
                continue;
            }
            match encode_route::route(route) {
                Ok(request) => {
                    self.order(namespace, || format!("route to {}", route.destination), &request)?;
                }
                Err(lack) => self.lack(namespace, lack),
            }
        }
        Ok(())
    }

    /// The routes that are there once the kernel has made those of its own: it makes those to IPv6 addresses later (`addrconf_dad_work`).
    fn settled_routes(&mut self, namespace: usize, read: &Namespace) -> Result<Vec<Route>, TwinError> {
        let Some(room) = self.twin.rooms.get_mut(namespace) else { return Ok(Vec::new()) };
        let own = |route: &&Route| route.kind == RouteKind::Local && !route.destination.addr().is_ipv4();
        let mut there: Vec<Route> = Vec::new();
        for _ in 0..ROUNDS {
            there = routing::routes(&mut room.connection)?;
            if read.routes.iter().filter(own).all(|route| there.contains(route)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(there)
    }

    fn lack(&mut self, namespace: usize, lack: Lack) {
        let (Lack::Decides(what) | Lack::Harmless(what) | Lack::Perhaps(what)) = lack;
        self.lose(namespace, what, true);
    }

    fn policy_rules(&mut self, namespace: usize, read: &Namespace) -> Result<(), TwinError> {
        let Some(room) = self.twin.rooms.get_mut(namespace) else { return Ok(()) };
        let there = routing::policy_rules(&mut room.connection)?;
        for missing in read.rules.iter().filter(|rule| !there.contains(rule)) {
            match encode_route::rule(missing) {
                Ok(request) => {
                    self.order(namespace, || format!("policy rule {}", missing.priority), &request)?;
                }
                Err(lack) => self.lack(namespace, lack),
            }
        }
        for extra in there.iter().filter(|rule| !read.rules.contains(rule)) {
            self.order(namespace, || format!("policy rule {} that is not there", extra.priority), &encode_route::remove_rule(extra))?;
        }
        Ok(())
    }

    /// Neighbours that somebody fixed, or that are answered for.
    fn neighbours(&mut self, namespace: usize, read: &Namespace) -> Result<(), TwinError> {
        for neighbour in read.neighbours.iter().filter(|neighbour| neighbour.proxy || neighbour.state & NUD_PERMANENT != 0) {
            if !neighbour.address.is_multicast() && !neighbour.address.is_loopback() {
                self.order(namespace, || format!("neighbour {}", neighbour.address), &encode::neighbour(neighbour))?;
            }
        }
        Ok(())
    }

    /// Sets up the namespaces outside. Where neighbours are asked for, they have the addresses of the routers that the snapshot's routes name.
    fn open_outside(&mut self) -> Result<(), TwinError> {
        let own: BTreeSet<IpAddr> = self.namespaces().flat_map(|(_, read)| read.addresses.iter().map(|own| own.address.addr())).collect();
        let hops = self.namespaces().flat_map(|(_, read)| read.routes.iter().flat_map(|route| &route.next_hops));
        let routers: BTreeSet<IpAddr> = hops.filter_map(|hop| hop.gateway).filter(|gateway| !own.contains(gateway)).collect();
        let running: BTreeMap<Place, bool> =
            self.twin.outside.keys().map(|place| (*place, self.link(*place).is_some_and(|link| link.running))).collect();
        for (place, outside) in &mut self.twin.outside {
            let up = running.get(place).copied().unwrap_or(false);
            outside.connection.order("outer link", &encode::set(OUTER, up, false))?;
            if outside.takes_all || !up {
                continue;
            }
            for router in &routers {
                let length = if router.is_ipv4() { 32 } else { 128 };
                let Ok(address) = ipnet::IpNet::new(*router, length) else { continue };
                let address = Address { link: OUTER, address, peer: None, broadcast: None, scope: 0, secondary: false, unusable: false };
                outside.connection.order("outer address", &encode::address(&address))?;
            }
        }
        Ok(())
    }

    /// Before there are rules.
    fn open_wires(&mut self) -> Result<(), TwinError> {
        for ((_, read), room) in self.snapshot.namespaces.iter().enumerate().zip(&mut self.twin.rooms) {
            let usable = |link: &&Link| link.up && link.mac.is_some() && link.kind != LinkKind::Loopback;
            let links: Vec<u32> = read.links.iter().filter(usable).map(|link| link.index).collect();
            let wires = room.handle.inside(|| Wires::open(links)).map_err(TwinError::Namespace)?;
            room.wires = Some(wires.map_err(TwinError::Sockets)?);
        }
        for outside in self.twin.outside.values_mut() {
            let wires = outside.handle.inside(|| Wires::open([OUTER])).map_err(TwinError::Namespace)?;
            outside.wires = Some(wires.map_err(TwinError::Sockets)?);
        }
        Ok(())
    }

    fn rules(&mut self) -> Result<(), TwinError> {
        for (namespace, read) in self.namespaces() {
            let Some(room) = self.twin.rooms.get(namespace) else { continue };
            let losses = room.handle.inside(|| rules::load(read)).map_err(TwinError::Namespace)??;
            losses.into_iter().for_each(|(what, decides)| self.lose(namespace, what, decides));
        }
        Ok(())
    }

    fn open_sockets(&mut self) -> Result<(), TwinError> {
        for room in &mut self.twin.rooms {
            let sockets = room.handle.inside(Sockets::open).map_err(TwinError::Namespace)?;
            room.sockets = Some(sockets.map_err(TwinError::Sockets)?);
        }
        Ok(())
    }
}

/// Routes to groups are the kernel's own, and no flow is about them.
fn decides(route: &Route) -> bool {
    !matches!(route.kind, RouteKind::Anycast | RouteKind::Broadcast | RouteKind::Multicast) && !route.destination.addr().is_multicast()
}

/// The kernel gives `lo` its addresses when it is set up.
fn has_already(address: &Address, read: &Namespace) -> bool {
    let on_lo = read.link(address.link).is_some_and(|link| link.kind == LinkKind::Loopback && link.up);
    on_lo && (address.address.to_string() == "127.0.0.1/8" || address.address.to_string() == "::1/128")
}
