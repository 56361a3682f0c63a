//! Who is wired to whom: what a frame that leaves a link reaches without any router.

use std::collections::{BTreeMap, BTreeSet};

use crate::snapshot::{Link, LinkKind, Mac, Peer};

use super::{Model, Namespace};

/// A link in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Index of the namespace in the model.
    pub namespace: usize,
    /// ifindex.
    pub link: u32,
}

/// What a broadcast that leaves a link reaches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Links that hand it to their IP stack.
    pub receivers: Vec<Place>,
    /// Links by which it leaves what is known: hardware.
    pub exits: Vec<Place>,
    /// Links whose other end is not known.
    pub unknown: Vec<Place>,
    /// Receivers behind ports of bridges that pass on no broadcast, as questions of ARP are.
    pub no_broadcast: BTreeSet<Place>,
    /// The same for multicast, as questions of neighbour discovery are.
    pub no_multicast: BTreeSet<Place>,
}

/// The tags of a frame: of vlans, or with id 0 of a priority alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tags {
    /// What links and bridges look at.
    pub outer: Option<u16>,
    /// What is left when that was taken off.
    pub inner: Option<u16>,
}

impl Tags {
    /// No tag.
    pub const NONE: Self = Self { outer: None, inner: None };

    /// One tag.
    #[must_use]
    pub const fn one(id: u16) -> Self {
        Self { outer: Some(id), inner: None }
    }

    /// With one more in front; none when these would be three, which is not followed.
    #[must_use]
    pub const fn push(self, id: u16) -> Option<Self> {
        if self.inner.is_some() { None } else { Some(Self { outer: Some(id), inner: self.outer }) }
    }

    /// Without the first.
    #[must_use]
    pub const fn pop(self) -> Self {
        Self { outer: self.inner, inner: None }
    }

    /// Outermost first.
    pub fn iter(self) -> impl Iterator<Item = u16> {
        self.outer.into_iter().chain(self.inner)
    }
}

/// Links that lie on another one, by that one.
pub(super) type Uppers = BTreeMap<Place, Vec<Place>>;

impl Model {
    /// Where the other end of a veth, or the lower link of a macvlan, is.
    #[must_use]
    pub fn peer_place(&self, peer: Option<Peer>) -> Option<Place> {
        let peer = peer?;
        Some(Place { namespace: self.place_of(peer.namespace?)?, link: peer.index })
    }

    /// Links that lie on this one: macvlans and vlans, in whatever namespace.
    #[must_use]
    pub fn uppers_of(&self, place: Place) -> Vec<Place> {
        self.uppers.get(&place).cloned().unwrap_or_default()
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else there is goes the same way")]
    pub(super) fn wire(&mut self) {
        let mut uppers = Uppers::new();
        for (namespace, content) in self.namespaces() {
            for link in content.links.values() {
                let lower = match &link.kind {
                    LinkKind::Macvlan { lower, .. } | LinkKind::Ipvlan { lower, .. } | LinkKind::Vlan { lower, .. } => *lower,
                    _ => None,
                };
                // A lower link without a namespace is in the same one.
                let lower =
                    lower.map(|lower| Place { namespace: lower.namespace.and_then(|id| self.place_of(id)).unwrap_or(namespace), link: lower.index });
                if let Some(lower) = lower {
                    uppers.entry(lower).or_default().push(Place { namespace, link: link.index });
                }
            }
        }
        self.uppers = uppers;
    }

    /// The lower link of a macvlan, ipvlan or vlan.
    #[must_use]
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else there is goes the same way")]
    pub fn lower_of(&self, place: Place) -> Option<Place> {
        let lower = match &self.link(place)?.kind {
            LinkKind::Macvlan { lower, .. } | LinkKind::Ipvlan { lower, .. } | LinkKind::Vlan { lower, .. } => (*lower)?,
            _ => return None,
        };
        Some(Place { namespace: lower.namespace.and_then(|id| self.place_of(id)).unwrap_or(place.namespace), link: lower.index })
    }

    /// What a broadcast that leaves `from` reaches.
    #[must_use]
    pub fn reach(&self, from: Place, tags: Tags) -> Reach {
        let mut spread = Spread { model: self, reach: Reach::default(), depth: 0, floods: Floods::ALL };
        spread.transmit(from, tags);
        spread.reach.receivers.sort_unstable();
        spread.reach.receivers.dedup();
        spread.reach
    }

    /// What a broadcast that arrives on this link reaches.
    #[must_use]
    pub fn arrivals(&self, at: Place, tags: Tags) -> Reach {
        let mut spread = Spread { model: self, reach: Reach::default(), depth: 0, floods: Floods::ALL };
        spread.receive(at, tags);
        spread.reach.receivers.sort_unstable();
        spread.reach.receivers.dedup();
        spread.reach
    }

    /// Links by which something arrives that was unwrapped from a packet.
    #[must_use]
    pub(crate) fn tunnels(&self) -> Vec<Place> {
        let of = |(namespace, content): (usize, &Namespace)| {
            let links = content.links.values().filter(|link| link.up && link.kind.unwraps());
            links.map(|link| Place { namespace, link: link.index }).collect::<Vec<_>>()
        };
        self.namespaces().flat_map(of).collect()
    }

    /// Whether a macvlan that lies on this link has this hardware address. It makes the link take frames for it (`macvlan_open`, `dev_uc_add`).
    #[must_use]
    pub(crate) fn is_macvlan_on(&self, lower: Place, mac: Mac) -> bool {
        let of =
            |upper: &Place| self.link(*upper).is_some_and(|link| link.up && link.mac == Some(mac) && matches!(link.kind, LinkKind::Macvlan { .. }));
        self.uppers.get(&lower).is_some_and(|uppers| uppers.iter().any(of))
    }
}

/// A broadcast on its way. Loops end at a depth that no sane wiring has.
struct Spread<'m> {
    model: &'m Model,
    reach: Reach,
    depth: u32,
    floods: Floods,
}

/// Whether all ports on a way pass on what is for several.
#[derive(Clone, Copy)]
struct Floods {
    broadcast: bool,
    multicast: bool,
}

impl Floods {
    const ALL: Self = Self { broadcast: true, multicast: true };
}

const DEEPEST: u32 = 32;

impl Spread<'_> {
    fn transmit(&mut self, place: Place, tags: Tags) {
        let Some(link) = self.model.link(place).filter(|link| link.up) else {
            return;
        };
        if self.depth >= DEEPEST {
            return;
        }
        self.depth += 1;
        match &link.kind {
            LinkKind::Veth => match self.model.peer_place(link.peer) {
                Some(peer) if self.model.link(peer).is_some() => self.receive(peer, tags),
                _ => self.beyond(place),
            },
            LinkKind::Bridge(_) => self.bridge(place, None, tags),
            LinkKind::Macvlan { mode, .. } => {
                const BRIDGE: u32 = 4;
                if let Some(lower) = self.model.lower_of(place) {
                    if *mode == BRIDGE {
                        self.macvlans(lower, Some(place), tags);
                    }
                    self.transmit(lower, tags);
                } else {
                    self.reach.unknown.push(place);
                }
            }
            LinkKind::Vlan { id, .. } => match (self.model.lower_of(place), tags.push(*id)) {
                (Some(lower), Some(tags)) => self.transmit(lower, tags),
                _ => self.reach.unknown.push(place),
            },
            LinkKind::Physical => self.reach.exits.push(place),
            LinkKind::Dummy | LinkKind::Loopback => {}
            LinkKind::Ipvlan { .. } | LinkKind::Tun | LinkKind::Vrf { .. } | LinkKind::Vxlan { .. } | LinkKind::Other(_) => {
                self.beyond(place);
            }
        }
        self.depth -= 1;
    }

    /// By a link whose other end is not known.
    fn beyond(&mut self, place: Place) {
        let ends = if self.model.uplinks.contains(&place) { &mut self.reach.exits } else { &mut self.reach.unknown };
        ends.push(place);
    }

    fn receive(&mut self, place: Place, tags: Tags) {
        let Some(link) = self.model.link(place).filter(|link| link.up) else {
            return;
        };
        if let Some(id) = tags.outer
            && let Some(tagged) = self.vlan_device(place, id)
        {
            return self.receive(tagged, tags.pop());
        }
        if let (Some(bridge), Some(_)) = (link.master, &link.port) {
            return self.bridge(Place { link: bridge, ..place }, Some(place), tags);
        }
        self.macvlans(place, None, tags);
        // A tag with id 0 gives a priority only.
        if tags.iter().all(|id| id == 0) {
            self.reach.receivers.push(place);
            if !self.floods.broadcast {
                self.reach.no_broadcast.insert(place);
            }
            if !self.floods.multicast {
                self.reach.no_multicast.insert(place);
            }
        }
    }

    fn vlan_device(&self, lower: Place, id: u16) -> Option<Place> {
        self.model
            .uppers_of(lower)
            .into_iter()
            .find(|upper| self.model.link(*upper).is_some_and(|link| matches!(link.kind, LinkKind::Vlan { id: own, .. } if own == id) && link.up))
    }

    fn macvlans(&mut self, lower: Place, except: Option<Place>, tags: Tags) {
        for upper in self.model.uppers_of(lower) {
            let is_macvlan = self.model.link(upper).is_some_and(|link| matches!(link.kind, LinkKind::Macvlan { .. }));
            if is_macvlan && Some(upper) != except {
                self.receive(upper, tags);
            }
        }
    }

    fn bridge(&mut self, bridge: Place, from: Option<Place>, tags: Tags) {
        let namespace = self.model.namespace(bridge.namespace);
        let Some(link) = namespace.links.get(&bridge.link).filter(|link| link.up) else {
            return;
        };
        let LinkKind::Bridge(switches) = &link.kind else {
            return;
        };
        let entry = from.map_or(bridge.link, |port| port.link);
        let from_port = namespace.links.get(&entry).and_then(|link| link.port.as_ref());
        if from_port.is_some_and(|port| !port.forwarding) {
            return;
        }
        let Ok(tags) = vlan_in(namespace, switches.vlan_filtering, entry, tags) else {
            return;
        };
        if let (Some(_), Ok(inner)) = (from, vlan_out(namespace, switches.vlan_filtering, bridge.link, tags)) {
            self.receive(bridge, inner);
        }
        for port in namespace.ports_of(bridge.link) {
            let same = from.is_some_and(|from| from.link == *port);
            let Some(to) = namespace.links.get(port).and_then(|link| link.port.as_ref()) else {
                continue;
            };
            let isolated = to.isolated && from_port.is_some_and(|port| port.isolated);
            if !to.forwarding || (same && !to.hairpin) || isolated {
                continue;
            }
            if let Ok(tags) = vlan_out(namespace, switches.vlan_filtering, *port, tags) {
                let before = self.floods;
                // `br_flood`: what the bridge itself sends goes by every port.
                if from.is_some() {
                    self.floods.broadcast &= to.broadcast_flood;
                    self.floods.multicast &= to.multicast_flood;
                }
                self.transmit(Place { link: *port, ..bridge }, tags);
                self.floods = before;
            }
        }
    }
}

/// The tags of a frame once it has entered a bridge: of one that looks at vlans, the first says which it is in. `br_allowed_ingress`.
///
/// # Errors
/// When the port does not take it.
pub(crate) fn vlan_in(namespace: &Namespace, filtering: bool, port: u32, tags: Tags) -> Result<Tags, ()> {
    match tags.outer {
        _ if !filtering => Ok(tags),
        None | Some(0) => namespace.pvid(port).map(|id| Tags { outer: Some(id), ..tags }).ok_or(()),
        Some(id) => namespace.vlan_untagged(port, id).map(|_| tags).ok_or(()),
    }
}

/// The tags that a frame has when it leaves a bridge by a port. `br_allowed_egress`, `br_handle_vlan`.
///
/// # Errors
/// When the port is not in the vlan.
pub(crate) fn vlan_out(namespace: &Namespace, filtering: bool, port: u32, tags: Tags) -> Result<Tags, ()> {
    let (true, Some(id)) = (filtering, tags.outer) else {
        return Ok(tags);
    };
    namespace.vlan_untagged(port, id).map(|untagged| if untagged { tags.pop() } else { tags }).ok_or(())
}

/// Whether a link is a port of a bridge.
#[must_use]
pub(crate) fn is_bridge_port(link: &Link) -> bool {
    link.master.is_some() && link.port.is_some()
}
