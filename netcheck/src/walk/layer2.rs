//! Links, bridges and neighbours. `net/bridge/br_{input,forward,device}.c`, `br_netfilter_hooks.c`, `net/ipv4/arp.c`, `net/ipv6/ndisc.c`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use crate::model::fib::number;
use crate::model::{Namespace, Place, Tags, is_bridge_port, vlan_in, vlan_out};
use crate::packet::{Packet, Transport};
use crate::snapshot::{Bridge, BridgePort, Hook, Link, LinkKind, Mac};
use crate::space::Ranges;

use super::header::{Number, address};
use super::hooks::{Links, Part};
use super::layer3::Routed;
use super::trace::{Reason, What};
use super::{Ct, End, Frame, Next, Skb, Walker};

/// Whose copy is followed of what is sent to several.
const COPY: &str = "which copy of a frame that is for all";

/// Where a bridge finds hardware addresses.
#[derive(Debug, Default)]
pub(super) struct Ports {
    by_mac: BTreeMap<Mac, Vec<u32>>,
    /// All that are in the vlan.
    all: Vec<u32>,
    /// Ports that lead outside.
    exits: Vec<u32>,
    /// Ports whose other end is not known.
    unknown: Vec<u32>,
}

/// Who may answer for an address, so that most neighbours need not be asked.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    by_address: BTreeMap<u128, Vec<Place>>,
    /// Addresses that whole ranges of somebody's are of: everybody is asked.
    wide: Ranges,
    /// All addresses that somebody has who answers only for its own.
    addresses: Ranges,
    /// Neighbours that may answer for others than themselves.
    others: Vec<Place>,
    all: Vec<Place>,
}

const FEW: u128 = 16;

impl<'m> Walker<'m> {
    /// `dev_queue_xmit`.
    pub(super) fn transmit(&mut self, place: Place, skb: &mut Skb) -> Result<Next, End> {
        let Some(link) = self.model.link(place) else {
            return Err(self.lost(place));
        };
        self.usable(place, link)?;
        // `__dev_direct_xmit`: AF_XDP passes by what is hooked there.
        let wrote = self.sockets && self.steps.last().is_some_and(|step| matches!(step.what, What::Wrote { .. }));
        if !(wrote && self.perhaps("whether its socket sends past the egress of the link")) {
            self.device_hook(place, Hook::Egress, skb)?;
        }
        let uplink = self.model.uplinks.contains(&place);
        if uplink {
            self.note(place.namespace, What::Left { link: place.link });
            self.exits.push(place);
        }
        match &link.kind {
            LinkKind::Veth => {
                let peer = self.model.peer_place(link.peer);
                let Some(peer) = peer.filter(|peer| self.model.link(*peer).is_some()) else {
                    return Err(self.beyond(place, uplink, format!("the other end of {} is not known", link.name)));
                };
                Self::scrub(skb, peer.namespace != place.namespace);
                Ok(Next::Receive(peer))
            }
            LinkKind::Bridge(bridge) => self.bridge_xmit(place, bridge, skb),
            LinkKind::Macvlan { mode, .. } => self.macvlan_xmit(place, *mode, skb),
            LinkKind::Vlan { id, .. } => {
                let Some(lower) = self.model.lower_of(place) else {
                    return Err(self.lost(place));
                };
                if let Some(frame) = &mut skb.frame {
                    let Some(tags) = frame.tags.push(*id) else {
                        return Err(End::Unknown("a frame with more than two tags".to_owned()));
                    };
                    frame.tags = tags;
                }
                Ok(Next::Transmit(lower))
            }
            LinkKind::Physical => Err(End::Left { by: place }),
            LinkKind::Dummy => Err(self.drop_at(place.namespace, "link", format!("{} leads nowhere", link.name))),
            LinkKind::Loopback => Ok(Next::Input(place)),
            LinkKind::Ipvlan { .. } | LinkKind::Tun | LinkKind::Vrf { .. } | LinkKind::Vxlan { .. } | LinkKind::Other(_) => {
                Err(self.beyond(place, uplink, format!("what is behind {} is not known", link.name)))
            }
        }
    }

    fn macvlan_xmit(&mut self, place: Place, mode: u32, skb: &mut Skb) -> Result<Next, End> {
        const BRIDGE: u32 = 4;
        let Some(lower) = self.model.lower_of(place) else {
            return Err(self.lost(place));
        };
        let destination = skb.frame.and_then(|frame| frame.destination);
        // `macvlan_open`: those that are down are not found.
        let is_sibling = |upper: &Place| {
            let taken = |link: &Link| link.up && matches!(link.kind, LinkKind::Macvlan { mode: BRIDGE, .. }) && link.mac == destination;
            *upper != place && self.model.link(*upper).is_some_and(taken)
        };
        if mode == BRIDGE && self.model.uppers_of(lower).iter().any(is_sibling) {
            Self::scrub(skb, lower.namespace != place.namespace);
            return Ok(Next::Receive(lower));
        }
        Ok(Next::Transmit(lower))
    }

    /// Where a link leads that ends outside of all that is known: what goes there does not come back as the same packet.
    fn beyond(&mut self, by: Place, uplink: bool, why: String) -> End {
        self.undecided = false;
        if uplink { End::Left { by } } else { End::Unknown(why) }
    }

    /// Whether a link carries anything at all.
    fn usable(&mut self, place: Place, link: &Link) -> Result<(), End> {
        let content = self.model.namespace(place.namespace);
        if !link.up {
            return Err(self.drop_at(place.namespace, "link", format!("{} is down", link.name)));
        }
        if let Some(gap) = content.opaque_links.get(&place.link) {
            self.undecided = true;
            return Err(End::Unknown(format!("{}: {gap}", link.name)));
        }
        Ok(())
    }

    /// `netif_receive_skb`.
    pub(super) fn receive(&mut self, place: Place, skb: &mut Skb) -> Result<Next, End> {
        const PASSTHRU: u32 = 8;
        const SOURCE: u32 = 16;
        let Some(link) = self.model.link(place) else {
            return Err(self.lost(place));
        };
        self.usable(place, link)?;
        self.undecided = true;
        skb.redirected = false;
        self.device_hook(place, Hook::Ingress, skb)?;
        let Some(frame) = skb.frame else {
            return Ok(Next::Input(place));
        };
        let uppers = self.model.uppers_of(place);
        if let Some(id) = frame.tags.outer {
            let tagged = uppers
                .iter()
                .find(|upper| self.model.link(**upper).is_some_and(|link| matches!(link.kind, LinkKind::Vlan { id: own, .. } if own == id)));
            if let Some(tagged) = tagged {
                skb.frame = Some(Frame { tags: frame.tags.pop(), ..frame });
                return Ok(Next::Receive(*tagged));
            }
        }
        if is_bridge_port(link) {
            return self.bridge_receive(place, link, frame, skb);
        }
        if link.master.is_some() && !self.master_is_vrf(place, link) {
            return Err(End::Unknown(format!("{} has a master that is not a bridge", link.name)));
        }
        for upper in uppers {
            match self.model.link(upper).filter(|link| link.up).map(|link| (&link.kind, link.mac)) {
                Some((LinkKind::Macvlan { mode, .. }, mac))
                    if mac == frame.destination
                        || *mode == PASSTHRU
                        || (frame.is_group() && self.perhaps(COPY))
                        || (*mode == SOURCE && self.perhaps("whether a macvlan takes frames from this hardware address")) =>
                {
                    return self.up_to_macvlan(place, upper, skb);
                }
                Some((LinkKind::Ipvlan { .. }, _)) => {
                    return Err(End::Unknown(format!("an ipvlan on {}", link.name)));
                }
                _ => {}
            }
        }
        if frame.tags.outer == Some(0) && frame.tags.inner.is_some_and(|id| id != 0) {
            return Err(End::Unknown("a vlan's tag behind a priority tag".to_owned()));
        }
        if frame.tags.outer.is_some_and(|id| id != 0) {
            return Err(self.drop_at(place.namespace, "link", format!("{} has no such vlan", link.name)));
        }
        if frame.destination != link.mac && frame.destination.is_some_and(|mac| !mac.is_group()) && link.mac.is_some() {
            return Err(self.drop_at(place.namespace, "link", format!("the frame is not for {}", link.name)));
        }
        if frame.destination.is_none() && link.mac.is_some() {
            return Err(self.drop_at(place.namespace, "link", format!("the frame is for another neighbour than {}", link.name)));
        }
        skb.frame = Some(Frame { tags: Tags::NONE, ..frame });
        Ok(Next::Input(place))
    }

    /// `macvlan_handle_frame`: nothing but the device is changed, so that marks come along, and what a bridge's netfilter keeps of a packet.
    fn up_to_macvlan(&self, lower: Place, upper: Place, skb: &mut Skb) -> Result<Next, End> {
        if upper.namespace != lower.namespace {
            let kept = skb.prerouted || skb.ct != Ct::None;
            if kept && self.model.namespace(upper.namespace).rules.has_rules_for_arrivals() {
                return Err(End::Unknown("a macvlan's packet of which another namespace has kept track".to_owned()));
            }
            Self::scrub(skb, false);
        }
        Ok(Next::Receive(upper))
    }

    fn master_is_vrf(&self, place: Place, link: &Link) -> bool {
        let master = link.master.and_then(|master| self.model.link(Place { link: master, ..place }));
        master.is_some_and(|master| matches!(master.kind, LinkKind::Vrf { .. }))
    }

    /// `br_handle_frame`.
    fn bridge_receive(&mut self, place: Place, link: &'m Link, frame: Frame, skb: &mut Skb) -> Result<Next, End> {
        let content = self.model.namespace(place.namespace);
        let (Some(port), Some(bridge_index)) = (&link.port, link.master) else {
            return Err(self.lost(place));
        };
        let bridge_place = Place { link: bridge_index, ..place };
        let Some((bridge, switches)) = bridge_of(content, bridge_index) else {
            return Err(self.lost(bridge_place));
        };
        if let Some(gap) = content.opaque.first() {
            self.undecided = true;
            return Err(End::Unknown(gap.clone()));
        }
        if !bridge.up || !port.forwarding {
            return Err(self.drop_at(place.namespace, "bridge", format!("port {} does not forward", link.name)));
        }
        if port.locked || port.vlan_tunnel {
            return Err(End::Unknown(format!("port {} is locked or maps vlans to tunnels", link.name)));
        }
        let links = Links { iif: Some(link), ..Links::default() };
        self.bridge_hook(place.namespace, Hook::Prerouting, links, Part::Before, skb)?;
        let mut destination = frame.destination;
        if frame.tags.outer.is_none() && calls_netfilter(content, switches, skb.header.ipv4) {
            destination = self.bridge_prerouting(place, bridge_place, bridge, destination, skb)?;
        }
        self.bridge_hook(place.namespace, Hook::Prerouting, links, Part::After, skb)?;
        let Ok(tags) = vlan_in(content, switches.vlan_filtering, place.link, frame.tags) else {
            return Err(self.drop_at(place.namespace, "bridge", format!("port {} does not take this vlan", link.name)));
        };
        skb.frame = Some(Frame { destination, tags, ..frame });
        skb.bridged = true;
        let local = destination.is_some_and(|mac| match mac.is_group() {
            true => self.perhaps(COPY),
            false => self.is_own(bridge_place, mac, tags) || self.model.is_macvlan_on(bridge_place, mac),
        });
        if local {
            let Ok(tags) = vlan_out(content, switches.vlan_filtering, bridge_index, tags) else {
                return Err(self.drop_at(place.namespace, "bridge", format!("{} itself is not in this vlan", bridge.name)));
            };
            // `br_pass_frame_up`: the tag is off before rules see the frame.
            skb.frame = Some(Frame { destination, tags, ..frame });
            self.bridge_hook(place.namespace, Hook::Input, links, Part::All, skb)?;
            // The bridge hands it up as its own, whatever port's address it was sent to.
            let kept = destination.filter(|mac| mac.is_group() || self.model.is_macvlan_on(bridge_place, *mac));
            let destination = kept.or(bridge.mac);
            skb.frame = Some(Frame { destination, tags, ..frame });
            return Ok(Next::Receive(bridge_place));
        }
        let to = self.port_for(bridge_place, Some(place), destination, tags)?;
        self.bridge_forward(place, bridge_place, to, skb)
    }

    /// `br_nf_pre_routing`, `br_nf_pre_routing_finish`.
    #[expect(clippy::too_many_arguments, reason = "what is asked, of whom, and where it is")]
    fn bridge_prerouting(
        &mut self,
        place: Place,
        bridge_place: Place,
        bridge: &'m Link,
        destination: Option<Mac>,
        skb: &mut Skb,
    ) -> Result<Option<Mac>, End> {
        skb.physical_in = Some(place);
        let before = skb.header.destination;
        self.ip_hook(place.namespace, Hook::Prerouting, Links { iif: Some(bridge), ..Links::default() }, skb)?;
        skb.prerouted = true;
        if before.value == skb.header.destination.value {
            return Ok(destination);
        }
        let routed = self.route_openly(bridge_place, skb);
        // What goes elsewhere goes up, whichever way it takes from there.
        let elsewhere = !matches!(&routed, Ok(Routed::Forward(way)) if way.link == bridge_place.link);
        self.close_way(elsewhere && !matches!(routed, Err(End::Unknown(_))));
        match routed {
            Ok(Routed::Forward(way)) if !elsewhere => {
                let own = |mac: Mac| bridge.mac == Some(mac) || self.model.link(place).is_some_and(|port| port.mac == Some(mac));
                skb.redirected = destination.is_some_and(own);
                let target = way.gateway.map_or(skb.header.destination, |gateway| Number::fixed(number(gateway)));
                self.resolve(bridge_place, bridge, target, skb.header.ipv4, skb)
            }
            Ok(_) => {
                skb.bridge_routed = true;
                Ok(bridge.mac)
            }
            // `ip_route_input` succeeds with a route that only makes an error: the frame goes up and ends there.
            Err(end) => Err(end),
        }
    }

    /// `br_dev_xmit`.
    fn bridge_xmit(&mut self, place: Place, switches: &Bridge, skb: &mut Skb) -> Result<Next, End> {
        let content = self.model.namespace(place.namespace);
        let Some(frame) = skb.frame else {
            return Err(self.lost(place));
        };
        let Ok(tags) = vlan_in(content, switches.vlan_filtering, place.link, frame.tags) else {
            return Err(self.drop_at(place.namespace, "bridge", "the bridge itself does not take this vlan"));
        };
        (skb.bridged, skb.redirected) = (false, false);
        let to = self.port_for(place, None, frame.destination, tags)?;
        let Some(port) = content.links.get(&to) else {
            return Err(self.lost(Place { link: to, ..place }));
        };
        let tags = self.deliverable(place, None, port, tags)?;
        skb.frame = Some(Frame { tags, ..frame });
        self.note(place.namespace, What::Bridged { bridge: place.link, from: None, to });
        let links = Links { oif: Some(port), ..Links::default() };
        self.bridge_hook(place.namespace, Hook::Output, links, Part::All, skb)?;
        self.bridge_hook(place.namespace, Hook::Postrouting, links, Part::All, skb)?;
        Ok(Next::Transmit(Place { link: to, ..place }))
    }

    /// `__br_forward`, with br_netfilter. Rules see the frame as it leaves; with a tag, those of the IP stack do not.
    fn bridge_forward(&mut self, from: Place, bridge_place: Place, to: u32, skb: &mut Skb) -> Result<Next, End> {
        let content = self.model.namespace(from.namespace);
        let (Some(bridge), Some(input), Some(output)) =
            (content.links.get(&bridge_place.link), content.links.get(&from.link), content.links.get(&to))
        else {
            return Err(self.lost(bridge_place));
        };
        let tags = self.deliverable(bridge_place, Some(input), output, skb.frame.map_or(Tags::NONE, |frame| frame.tags))?;
        skb.frame = skb.frame.map(|frame| Frame { tags, ..frame });
        skb.prerouted &= tags.outer.is_none();
        self.note(from.namespace, What::Bridged { bridge: bridge_place.link, from: Some(from.link), to });
        let links = Links { iif: Some(input), oif: Some(output), ..Links::default() };
        let ip = Links { iif: Some(bridge), oif: Some(bridge), physical_out: Some(output) };
        self.bridge_hook(from.namespace, Hook::Forward, links, Part::Before, skb)?;
        if skb.prerouted {
            self.ip_hook(from.namespace, Hook::Forward, ip, skb)?;
        }
        self.bridge_hook(from.namespace, Hook::Forward, links, Part::After, skb)?;
        let links = Links { oif: Some(output), ..Links::default() };
        self.bridge_hook(from.namespace, Hook::Postrouting, links, Part::Before, skb)?;
        if skb.prerouted {
            self.ip_hook(from.namespace, Hook::Postrouting, Links { iif: None, ..ip }, skb)?;
        }
        self.bridge_hook(from.namespace, Hook::Postrouting, links, Part::After, skb)?;
        skb.prerouted = false;
        Ok(Next::Transmit(Place { link: to, ..bridge_place }))
    }

    /// `should_deliver`, and the tags that a frame then leaves with.
    fn deliverable(&mut self, bridge: Place, from: Option<&Link>, to: &Link, tags: Tags) -> Result<Tags, End> {
        let content = self.model.namespace(bridge.namespace);
        let Some((_, switches)) = bridge_of(content, bridge.link) else {
            return Err(self.lost(bridge));
        };
        let Some(port) = &to.port else {
            return Err(self.lost(Place { link: to.index, ..bridge }));
        };
        let isolated = |port: &BridgePort| port.isolated;
        let out = vlan_out(content, switches.vlan_filtering, to.index, tags);
        let why = if !port.forwarding || !to.up {
            Some(format!("port {} does not forward", to.name))
        } else if from.is_some_and(|from| from.index == to.index) && !port.hairpin {
            Some(format!("port {} does not send frames back (no hairpin mode)", to.name))
        } else if port.isolated && from.and_then(|from| from.port.as_ref()).is_some_and(isolated) {
            Some("both ports are isolated".to_owned())
        } else {
            None
        };
        let why = why.map_or_else(|| out.map_err(|()| format!("port {} is not in this vlan", to.name)), Err);
        why.map_err(|why| self.drop_at(bridge.namespace, "bridge", why))
    }

    /// Whether a bridge takes what is sent to a hardware address: what address a port has does not count (`BR_FDB_LOCAL`).
    fn is_own(&mut self, bridge: Place, mac: Mac, tags: Tags) -> bool {
        let content = self.model.namespace(bridge.namespace);
        let vlan = fdb_vlan(content, bridge, tags);
        let own = |vlan: Option<u16>| content.fdb_of(bridge.link, mac).iter().any(|entry| entry.permanent && entry.vlan == vlan);
        // `BROPT_FDB_LOCAL_VLAN_0`.
        own(vlan) || own(None) && self.perhaps("whether a hardware address is the bridge's own in every vlan")
    }

    /// The port behind which a hardware address is. `br_fdb_find_rcu`, with learning done.
    fn port_for(&mut self, bridge: Place, from: Option<Place>, mac: Option<Mac>, tags: Tags) -> Result<u32, End> {
        let content = self.model.namespace(bridge.namespace);
        // `br_forward`.
        let replaced = |link: &Link| link.port.as_ref().is_some_and(|port| port.backup) && !(link.up && link.running);
        let mut links = content.ports_of(bridge.link).iter().filter_map(|port| content.links.get(port));
        if !mac.is_some_and(Mac::is_group) && links.any(replaced) {
            self.undecided = true;
            return Err(End::Unknown("another port may stand in for one without carrier".to_owned()));
        }
        let vlan = fdb_vlan(content, bridge, tags);
        let mut fixed = mac.map_or(&[][..], |mac| content.fdb_of(bridge.link, mac)).iter().filter(|entry| entry.fixed);
        if let Some(entry) = fixed.find(|entry| entry.vlan == vlan) {
            return Ok(entry.link);
        }
        let known = self.ports_of(bridge, tags);
        if mac.is_some_and(Mac::is_group) {
            return self.copy_for(bridge, from, &known);
        }
        let elsewhere = |ports: &[u32]| ports.iter().copied().filter(|port| from.is_none_or(|from| from.link != *port)).collect::<Vec<u32>>();
        let mut candidates = mac.and_then(|mac| known.by_mac.get(&mac)).cloned().unwrap_or_default();
        let (exits, unknown) = (elsewhere(&known.exits), elsewhere(&known.unknown));
        if candidates.len() > 1 {
            let others = elsewhere(&candidates);
            candidates = if others.is_empty() { candidates } else { others };
        }
        let ports = if !candidates.is_empty() {
            candidates
        } else if !exits.is_empty() {
            exits
        } else {
            unknown
        };
        if ports.is_empty() && self.model.frames_divert() {
            self.undecided = true;
            return Err(End::Unknown("whether somebody takes frames for a hardware address that nobody has".to_owned()));
        }
        if ports.is_empty() {
            return Err(self.drop_at(bridge.namespace, "bridge", "nobody behind the bridge has this hardware address"));
        }
        let choice = if ports.len() > 1 { self.choose(ports.len(), "behind which port a hardware address is") } else { 0 };
        ports.get(choice).copied().ok_or_else(|| self.lost(bridge))
    }

    /// One of the ports that a frame for all is sent to.
    fn copy_for(&mut self, bridge: Place, from: Option<Place>, known: &Ports) -> Result<u32, End> {
        let others: Vec<u32> = known.all.iter().copied().filter(|port| from.is_none_or(|from| from.link != *port)).collect();
        let choice = if others.len() > 1 { self.choose(others.len(), COPY) } else { 0 };
        others.get(choice).copied().ok_or_else(|| self.drop_at(bridge.namespace, "bridge", "it has no other port"))
    }

    /// What is behind each port of a bridge, in one vlan.
    fn ports_of(&mut self, bridge: Place, tags: Tags) -> Rc<Ports> {
        if let Some(known) = self.ports.get(&(bridge, tags)) {
            return Rc::clone(known);
        }
        let content = self.model.namespace(bridge.namespace);
        let filtering = bridge_of(content, bridge.link).is_some_and(|(_, switches)| switches.vlan_filtering);
        let mut ports = Ports::default();
        for port in content.ports_of(bridge.link) {
            let Ok(out) = vlan_out(content, filtering, *port, tags) else {
                continue;
            };
            ports.all.push(*port);
            let reach = self.reach(Place { link: *port, ..bridge }, out);
            for mac in reach.receivers.iter().filter_map(|place| self.model.link(*place)?.mac) {
                let known = ports.by_mac.entry(mac).or_default();
                if known.last() != Some(port) {
                    known.push(*port);
                }
            }
            if !reach.exits.is_empty() {
                ports.exits.push(*port);
            } else if !reach.unknown.is_empty() {
                ports.unknown.push(*port);
            }
        }
        let ports = Rc::new(ports);
        self.ports.insert((bridge, tags), Rc::clone(&ports));
        ports
    }

    /// Neighbour resolution: the hardware address that answers for an address, none for a neighbour outside.
    #[expect(clippy::too_many_arguments, reason = "what is asked, of whom, and where it is")]
    pub(super) fn resolve(&mut self, place: Place, link: &'m Link, target: Number, ipv4: bool, skb: &mut Skb) -> Result<Option<Mac>, End> {
        let content = self.model.namespace(place.namespace);
        let address = address(target.value, ipv4);
        if let Some(mac) = content.fixed_neighbour(place.link, address) {
            self.narrow_number(target, &Ranges::one(target.value));
            return Ok(Some(mac));
        }
        let fixed = content.fixed_neighbours(place.link, ipv4);
        if !fixed.is_empty() {
            self.exclude_number(target, &fixed);
        }
        // `arp_constructor`, `ndisc_constructor`: without resolution frames are for the link itself, where it has hardware addresses.
        if link.noarp {
            return Ok(link.mac);
        }
        let reach = self.reach(place, Tags::NONE);
        let neighbours = self.neighbours(place, ipv4);
        let holders = neighbours.by_address.get(&target.value);
        let asked: &[Place] = if neighbours.wide.contains(target.value) {
            &neighbours.all
        } else {
            if holders.is_some() {
                self.narrow_number(target, &Ranges::one(target.value));
            } else {
                self.exclude_number(target, &neighbours.addresses);
            }
            &neighbours.others
        };
        let mut answers: Vec<Place> = Vec::new();
        for receiver in holders.into_iter().flatten().filter(|holder| !asked.contains(holder)).chain(asked) {
            let answers_here = if ipv4 { self.answers_arp(place, *receiver, target, skb)? } else { self.answers_ndp(place, *receiver, target, skb)? };
            let not_asked = if ipv4 { &reach.no_broadcast } else { &reach.no_multicast };
            if answers_here && (!not_asked.contains(receiver) || self.perhaps("whether a neighbour that is not asked is known from earlier")) {
                answers.push(*receiver);
            }
        }
        let mut macs: Vec<Mac> = answers.iter().filter_map(|place| self.model.link(*place)?.mac).collect();
        macs.sort_unstable();
        macs.dedup();
        match macs.as_slice() {
            [mac] => return Ok(Some(*mac)),
            [] => {}
            several => {
                let choice = self.choose(several.len(), format!("which of several neighbours answers for {address}"));
                return Ok(several.get(choice).copied());
            }
        }
        if self.leads_out(place) {
            return Ok(None);
        }
        if !reach.unknown.is_empty() {
            return Err(End::Unknown(format!("whether anybody answers for {address} behind {}", link.name)));
        }
        Err(self.drop_at(place.namespace, "neighbour", format!("no neighbour on {} answers for {address}", link.name)))
    }

    /// Who may answer for which address when a link asks.
    fn neighbours(&mut self, place: Place, ipv4: bool) -> Rc<Neighbours> {
        if let Some(known) = self.neighbours.get(&(place, ipv4)) {
            return Rc::clone(known);
        }
        let mut neighbours = Neighbours::default();
        let (mut single, mut wide) = (Vec::new(), Vec::new());
        let reach = self.reach(place, Tags::NONE);
        for receiver in reach.receivers.iter().filter(|receiver| **receiver != place) {
            neighbours.all.push(*receiver);
            let content = self.model.namespace(receiver.namespace);
            let proxies = content.links.get(&receiver.link).and_then(|link| link.ipv6).is_some_and(|conf| conf.proxy_ndp);
            let for_others = if ipv4 { content.answers_for_others() || content.rules.filters_arp() } else { proxies };
            if for_others {
                neighbours.others.push(*receiver);
                continue;
            }
            let own = if ipv4 { self.model.arp_answerable(receiver.namespace).clone() } else { content.answers6(receiver.link) };
            for &(first, last) in own.as_slice() {
                // A few addresses in a row are as good as single ones.
                if last - first < FEW {
                    single.push((first, last));
                    (first..=last).for_each(|address| neighbours.by_address.entry(address).or_default().push(*receiver));
                } else {
                    wide.push((first, last));
                }
            }
        }
        neighbours.addresses = Ranges::union_of(single.into_iter().chain(wide.iter().copied()));
        neighbours.wide = Ranges::union_of(wide);
        let neighbours = Rc::new(neighbours);
        self.neighbours.insert((place, ipv4), Rc::clone(&neighbours));
        neighbours
    }

    /// `arp_process`.
    fn answers_arp(&mut self, asker: Place, receiver: Place, target: Number, skb: &mut Skb) -> Result<bool, End> {
        let (content, asking) = (self.model.namespace(receiver.namespace), self.model.namespace(asker.namespace));
        let Some(link) = content.links.get(&receiver.link) else {
            return Ok(false);
        };
        if link.noarp || content.rules.filters_arp() && !self.perhaps("rules for ARP") {
            return Ok(false);
        }
        // Quick: most neighbours have only their own addresses.
        let own = self.model.arp_answerable(receiver.namespace);
        if !content.answers_for_others() && !self.test(target, own) {
            return Ok(false);
        }
        let source = self.arp_source(asker, asking, target, skb)?;
        let mut probe = skb.clone();
        probe.header.source = source;
        probe.header.destination = target;
        probe.header.ipv4 = true;
        probe.mark = [super::Cell::fixed(0); 4];
        match self.route_input(receiver, &mut probe) {
            Ok(Routed::Local) => {
                self.steps.pop();
                let ignore = link.ipv4.map_or(0, |conf| conf.arp_ignore).max(content.ipv4_all.arp_ignore);
                Ok(match ignore {
                    0 => true,
                    1 | 2 => {
                        let on_link = Ranges::union_of(content.addresses_of(receiver.link).iter().map(|own| {
                            let own = number(own.address.addr());
                            (own, own)
                        }));
                        self.test(target, &on_link)
                    }
                    8 => false,
                    _ => self.perhaps("arp_ignore"),
                })
            }
            Ok(Routed::Forward(way)) => {
                self.steps.pop();
                let proxy = content.ipv4_either(link, |conf| conf.proxy_arp) && way.link != receiver.link;
                let pvlan = content.ipv4_either(link, |conf| conf.proxy_arp_pvlan) && way.link == receiver.link;
                let entry = self.test(target, &content.proxied(receiver.link, true));
                Ok(proxy || pvlan || entry)
            }
            Err(End::Unknown(why)) => Err(End::Unknown(why)),
            // It does not answer, but whoever it has asked itself knows it all the same.
            Err(_) => Ok(self.test(target, own) && self.perhaps("whether a neighbour that does not answer is known from earlier")),
        }
    }

    /// `arp_solicit`: whom the question comes from.
    fn arp_source(&mut self, asker: Place, asking: &Namespace, target: Number, skb: &Skb) -> Result<Number, End> {
        let announce = asking.links.get(&asker.link).and_then(|link| link.ipv4).map_or(0, |conf| conf.arp_announce).max(asking.ipv4_all.arp_announce);
        // What it sends for others is as they send it: from an address of their own.
        let own4 = match &self.speaker {
            Some((speaker, of_all)) if *speaker == asker.namespace && skb.hops == 0 => of_all.clone(),
            _ => asking.own4().clone(),
        };
        if announce == 0 && skb.header.ipv4 && self.test(skb.header.source, &own4) {
            return Ok(skb.header.source);
        }
        let own = asking.addresses_of(asker.link);
        let target = address(target.value, true);
        let near = own.iter().find(|own| own.address.contains(&target) && !own.secondary);
        let any = near.or_else(|| own.iter().find(|own| own.address.addr().is_ipv4()));
        let elsewhere = any.or_else(|| asking.addresses().find(|own| own.address.addr().is_ipv4() && own.scope == 0));
        Ok(Number::fixed(elsewhere.map_or(0, |own| number(own.address.addr()))))
    }

    /// `ndisc_recv_ns`, and whether the question and its answer pass the rules on their way.
    fn answers_ndp(&mut self, asker: Place, receiver: Place, target: Number, skb: &mut Skb) -> Result<bool, End> {
        let content = self.model.namespace(receiver.namespace);
        let Some(link) = content.links.get(&receiver.link).filter(|link| !link.noarp && link.ipv6.is_some_and(|conf| !conf.disable_ipv6)) else {
            return Ok(false);
        };
        let holds = self.test(target, &content.answers6(receiver.link));
        let proxied = link.ipv6.is_some_and(|conf| conf.proxy_ndp) && self.test(target, &content.proxied(receiver.link, false));
        if !holds && !proxied {
            return Ok(false);
        }
        // Who is not asked, or does not answer, is known to whom it has asked itself.
        Ok(self.solicitation_passes(asker, receiver, target, skb)? || self.perhaps("whether a neighbour that does not answer is known from earlier"))
    }

    /// Walks the solicitation to the neighbour and the advertisement back.
    fn solicitation_passes(&mut self, asker: Place, receiver: Place, target: Number, skb: &Skb) -> Result<bool, End> {
        const MOST_NESTED: u32 = 1;
        if self.nested >= MOST_NESTED {
            return Ok(true);
        }
        self.pin(target);
        let (Some(from), Some(to)) = (self.model.link(asker), self.model.link(receiver)) else {
            return Ok(false);
        };
        let local = |place: Place| {
            let own = self.model.namespace(place.namespace).addresses_of(place.link);
            own.iter().map(|own| own.address.addr()).find(|own| matches!(own, IpAddr::V6(v6) if v6.is_unicast_link_local()))
        };
        let own = self.model.namespace(asker.namespace).addresses_of(asker.link).iter().map(|own| number(own.address.addr()));
        let own = Ranges::union_of(own.map(|own| (own, own)));
        let sender = if !skb.header.ipv4 && self.test(skb.header.source, &own) {
            address(skb.header.source.value, false)
        } else {
            local(asker).unwrap_or(address(0, false))
        };
        let group = (0xff02_u128 << 112) | (1 << 32) | 0xff00_0000 | (target.value & 0x00ff_ffff);
        let target = address(target.value, false);
        let question = Packet::new(sender, address(group, false), Transport::Icmpv6 { kind: 135, code: 0, id: 0 });
        let answer = Packet::new(target, sender, Transport::Icmpv6 { kind: 136, code: 0, id: 0 });
        let steps = self.steps.len();
        let (exits, last, undecided) = (self.exits.clone(), self.last_receiver, self.undecided);
        self.nested += 1;
        let passes = self
            .carry(asker, from, receiver, to.mac, &question)
            .and_then(|there| if there { self.carry(receiver, to, asker, from.mac, &answer) } else { Ok(false) });
        self.nested -= 1;
        self.steps.truncate(steps);
        self.exits = exits;
        self.last_receiver = last;
        self.undecided = undecided;
        passes
    }

    /// Whether a packet of the kernel's own reaches a neighbour's INPUT.
    #[expect(clippy::too_many_arguments, reason = "what is asked, of whom, and where it is")]
    fn carry(&mut self, from: Place, link: &'m Link, to: Place, mac: Option<Mac>, packet: &Packet) -> Result<bool, End> {
        let mut skb = Skb::new(packet);
        for number in [&mut skb.header.source, &mut skb.header.destination, &mut skb.header.tos, &mut skb.header.length] {
            number.field = None;
        }
        let links = Links { oif: Some(link), ..Links::default() };
        let sent = self
            .ip_hook(from.namespace, Hook::Output, links, &mut skb)
            .and_then(|()| self.ip_hook(from.namespace, Hook::Postrouting, links, &mut skb));
        let end = match sent {
            Ok(()) => {
                skb.frame = Some(Frame { source: link.mac, destination: mac, tags: Tags::NONE });
                self.carry_on(from, &mut skb)
            }
            Err(end) => end,
        };
        match end {
            End::Delivered { namespace } => Ok(namespace == to.namespace),
            End::Dropped(_) | End::Left { .. } => Ok(false),
            End::Unknown(why) => Err(End::Unknown(why)),
        }
    }

    fn carry_on(&mut self, from: Place, skb: &mut Skb) -> End {
        let mut next = Next::Transmit(from);
        for _ in 0..super::MOST_HOPS {
            let step = match next {
                Next::Transmit(place) => self.transmit(place, skb),
                Next::Receive(place) => self.receive(place, skb),
                Next::Input(place) => match self.input(place, skb) {
                    Ok(Some(next)) => Ok(next),
                    Ok(None) => {
                        return End::Delivered { namespace: place.namespace };
                    }
                    Err(end) => Err(end),
                },
            };
            match step {
                Ok(step) => next = step,
                Err(end) => return end,
            }
        }
        End::Dropped(Reason::text("it goes round in circles"))
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "whatever else there is goes the same way")]
fn bridge_of(content: &Namespace, index: u32) -> Option<(&Link, &Bridge)> {
    let link = content.links.get(&index)?;
    match &link.kind {
        LinkKind::Bridge(switches) => Some((link, switches)),
        _ => None,
    }
}

/// The vlan that the fdb is asked about: none where vlans are not looked at.
fn fdb_vlan(content: &Namespace, bridge: Place, tags: Tags) -> Option<u16> {
    tags.outer.filter(|_| bridge_of(content, bridge.link).is_some_and(|(_, switches)| switches.vlan_filtering))
}

/// Whether br_netfilter takes a frame: the sysctl or the bridge's own flag.
const fn calls_netfilter(content: &Namespace, switches: &Bridge, ipv4: bool) -> bool {
    if ipv4 { content.bridge_calls_iptables || switches.nf_call_iptables } else { content.bridge_calls_ip6tables || switches.nf_call_ip6tables }
}
