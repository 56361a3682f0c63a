//! Routing, local delivery and sending. `net/ipv4/{route,ip_input,ip_forward,ip_output,fib_frontend}.c`, `net/ipv6/*`.

use std::net::IpAddr;

use crate::model::fib::{Fib, Found, Key, LOCAL, number, prefix};
use crate::model::{Place, Tags};
use crate::packet::Transport;
use crate::snapshot::{Hook, Link, LinkKind, NextHop, Route, RouteKind};
use crate::space::{Field, Ranges};

use super::header::{Header, Number, address};
use super::hooks::Links;
use super::rules::At;
use super::trace::{Reason, What};
use super::{Condition, Ct, End, Frame, Next, Skb, Walker};

/// Where routing sends an arriving packet.
#[derive(Debug)]
pub(super) enum Routed {
    Local,
    Forward(Way),
}

/// A way out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    pub(super) link: u32,
    pub(super) gateway: Option<IpAddr>,
    /// The source address that the route names.
    pub(super) preferred: Option<IpAddr>,
}

/// RTN_* numbers, as rules see them.
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;
const RTN_BROADCAST: u8 = 3;
const RTN_ANYCAST: u8 = 4;
const RTN_MULTICAST: u8 = 5;

impl<'m> Walker<'m> {
    /// `ip_rcv`, `ipv6_rcv`: none when it was delivered here.
    pub(super) fn input(&mut self, place: Place, skb: &mut Skb) -> Result<Option<Next>, End> {
        let content = self.model.namespace(place.namespace);
        if let Some(gap) = content.opaque.first() {
            self.undecided = true;
            return Err(End::Unknown(gap.clone()));
        }
        let Some(link) = content.links.get(&place.link) else {
            return Err(self.lost(place));
        };
        self.note(place.namespace, What::Received { link: place.link });
        if !skb.header.ipv4 {
            self.check_ipv6(place, link, skb)?;
        }
        if !skb.prerouted {
            self.ip_hook(place.namespace, Hook::Prerouting, Links { iif: Some(link), ..Links::default() }, skb)?;
        }
        skb.prerouted = false;
        let looped = std::mem::take(&mut skb.looped);
        let bridge_routed = std::mem::take(&mut skb.bridge_routed);
        let forwarded = if looped { Ok(None) } else { self.route_and_forward(place, link, bridge_routed, skb) };
        self.close_way(matches!(forwarded, Err(End::Dropped(_))));
        let group = skb.frame.is_some_and(|frame| frame.is_group());
        match forwarded? {
            None => {
                self.last_receiver = Some(place);
                self.ip_hook(place.namespace, Hook::Input, Links { iif: Some(link), ..Links::default() }, skb)?;
                // `tcp_v4_rcv`, `tcp_v6_rcv`.
                if group && matches!(skb.header.transport, Transport::Tcp { .. }) {
                    return Err(self.drop_at(place.namespace, "link", "TCP takes nothing from a frame that is for all"));
                }
                self.note(place.namespace, What::Delivered { link: place.link });
                Ok(None)
            }
            Some((way, links)) => {
                skb.physical_in = None;
                let redirects = skb.redirectable.is_some();
                self.ip_hook(place.namespace, Hook::Postrouting, links, skb).map_err(|end| around(redirects, end))?;
                self.out(Place { link: way.link, ..place }, way.gateway, skb).map(Some)
            }
        }
    }

    /// Routing and FORWARD, with the way open as long as it may be; none when the packet is for this namespace.
    fn route_and_forward(&mut self, place: Place, link: &'m Link, bridge_routed: bool, skb: &mut Skb) -> Result<Option<(Way, Links<'m>)>, End> {
        let content = self.model.namespace(place.namespace);
        let Routed::Forward(way) = self.route_openly(place, skb)? else {
            return Ok(None);
        };
        // `ip_forward`, `ip6_forward`.
        if skb.frame.is_some_and(|frame| frame.is_group()) {
            return Err(self.drop_at(place.namespace, "link", "what came in a frame that is for all is not forwarded"));
        }
        if !skb.header.ipv4 {
            self.check_forward_ipv6(place, link, bridge_routed || way.link == place.link, skb)?;
        }
        let Some(out) = content.links.get(&way.link) else {
            return Err(self.lost(Place { link: way.link, ..place }));
        };
        let links = Links { iif: Some(link), oif: Some(out), ..Links::default() };
        skb.redirectable = skb.redirectable.filter(|sender| way.link == link.index && self.redirects(place, link, way, *sender, skb));
        let redirects = skb.redirectable.is_some();
        self.ip_hook(place.namespace, Hook::Forward, links, skb).map_err(|end| around(redirects, end))?;
        Ok(Some((way, links)))
    }

    /// Whether a router tells a packet's sender of the neighbour that it sends it back to. `__ip_do_redirect`: nobody is shown the way to itself.
    #[expect(clippy::too_many_arguments, reason = "who tells whom of what")]
    fn redirects(&self, place: Place, link: &Link, way: Way, sender: usize, skb: &Skb) -> bool {
        let ipv4 = skb.header.ipv4;
        let next = way.gateway.map_or(skb.header.destination.value, number);
        let sends = !ipv4 || self.model.namespace(place.namespace).ipv4_either(link, |conf| conf.send_redirects);
        sends && !self.model.own(sender, ipv4).contains(next)
    }

    /// Whether a sender takes another way when a router tells it so (`IN_DEV_RX_REDIRECTS`, `ndisc_redirect_rcv`); `all` is read on the host only.
    fn accepts_redirects(&self, place: Place, link: &Link, ipv4: bool) -> bool {
        let all = place.namespace != self.model.host || self.model.namespace(place.namespace).ipv4_all.accept_redirects;
        match (link.ipv4, link.ipv6) {
            (Some(own), _) if ipv4 && own.forwarding => all && own.accept_redirects,
            (Some(own), _) if ipv4 => all || own.accept_redirects,
            (_, Some(own)) if !ipv4 => own.accept_redirects && !own.forwarding,
            _ => false,
        }
    }

    fn check_ipv6(&mut self, place: Place, link: &Link, skb: &Skb) -> Result<(), End> {
        if link.ipv6.is_none_or(|conf| conf.disable_ipv6) {
            return Err(self.drop_at(place.namespace, "link", format!("IPv6 is off on {}", link.name)));
        }
        let loopback = Ranges::one(1);
        let is_lo = link.kind == LinkKind::Loopback;
        if !is_lo && (self.test(skb.header.source, &loopback) || self.test(skb.header.destination, &loopback)) {
            return Err(self.drop_at(place.namespace, "route", "loopback address from outside"));
        }
        if self.test(skb.header.source, &Ranges::between(0xff << 120, u128::MAX)) {
            return Err(self.drop_at(place.namespace, "route", "multicast source"));
        }
        Ok(())
    }

    /// `ip6_forward`: what goes `back` by the link that it came by is redirected, and its source is not looked at. What br_netfilter has
    /// routed after a translation counts as come by the link that it leaves by (`ip6_rcv_core`).
    fn check_forward_ipv6(&mut self, place: Place, link: &Link, back: bool, skb: &Skb) -> Result<(), End> {
        let content = self.model.namespace(place.namespace);
        if !content.ipv6_all.forwarding && !link.ipv6.is_some_and(|conf| conf.force_forwarding) {
            return Err(self.drop_at(place.namespace, "route", "IPv6 forwarding is off"));
        }
        let unroutable = Ranges::union_of([(0, 1), (0xfe80 << 112, (0xfec0 << 112) - 1), (0xff << 120, u128::MAX)]);
        if !back && self.test(skb.header.source, &unroutable) {
            return Err(self.drop_at(place.namespace, "route", "this source address is not forwarded"));
        }
        Ok(())
    }

    /// `ip_route_input_noref`, `ip6_route_input`.
    pub(super) fn route_input(&mut self, place: Place, skb: &mut Skb) -> Result<Routed, End> {
        let routed = self.route_openly(place, skb);
        self.close_way(false);
        routed
    }

    /// The same, with the way left open: [`Self::close_way`] ends that.
    pub(super) fn route_openly(&mut self, place: Place, skb: &mut Skb) -> Result<Routed, End> {
        let content = self.model.namespace(place.namespace);
        let Some(link) = content.links.get(&place.link) else {
            return Err(self.lost(place));
        };
        if skb.header.ipv4 { self.route_input4(place, link, skb) } else { self.route_input6(place, link, skb) }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else there is goes the same way")]
    fn route_input4(&mut self, place: Place, link: &'m Link, skb: &mut Skb) -> Result<Routed, End> {
        let content = self.model.namespace(place.namespace);
        let header = skb.header;
        self.martian(place, link, skb)?;
        if link.ipv4.is_none() {
            return Err(self.drop_at(place.namespace, "link", format!("IPv4 is off on {}", link.name)));
        }
        // `ip_rcv_options`; `all` is read on the host, whose namespaces begin with what it has.
        let routed = self.model.namespace(self.model.host).ipv4_all.accept_source_route && link.ipv4.is_some_and(|conf| conf.accept_source_route);
        if routed && self.perhaps("whether it has a source route") {
            self.undecided = true;
            return Err(End::Unknown(format!("{} accepts source routes", link.name)));
        }
        let mark = self.mark_of_route(place.namespace, skb)?;
        let key = Key {
            destination: header.destination.value,
            source: header.source.value,
            iif: &link.name,
            mark,
            tos: header.tos.byte(),
            transport: Some((header.protocol, header.source_port.port(), header.destination_port.port())),
            vrf_table: self.vrf_table(place),
            ..Key::default()
        };
        let forwarding = link.ipv4.is_some_and(|conf| conf.forwarding);
        let before = self.conditions.len();
        let not_forwarding = |walker: &Self| walker.drop_at(place.namespace, "route", format!("{} does not forward", link.name));
        match self.fib(&content.fib4, &key, &header) {
            Found::Route { route, next_hops } => match route.kind {
                RouteKind::Local => {
                    self.route_note(place.namespace, route, None);
                    self.validate_source(place, link, None, skb)?;
                    Ok(Routed::Local)
                }
                RouteKind::Unicast if !forwarding => Err(not_forwarding(self)),
                RouteKind::Unicast => {
                    let way = self.pick(&next_hops, place)?;
                    self.route_note(place.namespace, route, Some(way));
                    // Sending back by the same link is checked in another way.
                    if way.link != link.index {
                        self.open_way(&content.fib4, header.destination, way.link, before);
                        self.ask_way(|| Condition::NotBetween(link.index.into(), link.index.into()));
                    }
                    self.validate_source(place, link, Some(way.link), skb)?;
                    Ok(Routed::Forward(way))
                }
                other => Err(self.drop_at(place.namespace, "route", format!("{} is {other:?}", route.destination))),
            },
            Found::Unknown(why) => Err(End::Unknown(why)),
            Found::Refused(_) | Found::Nothing if !forwarding => Err(not_forwarding(self)),
            Found::Refused(kind) => Err(self.drop_at(place.namespace, "route", format!("the route says {kind:?}"))),
            Found::Nothing => Err(self.no_route(place.namespace, skb)),
        }
    }

    /// Addresses that no packet from a wire may have. `ip_route_input_slow`.
    fn martian(&mut self, place: Place, link: &Link, skb: &Skb) -> Result<(), End> {
        let content = self.model.namespace(place.namespace);
        let header = skb.header;
        let multicast = Ranges::between(0xe000_0000, 0xefff_ffff);
        let broadcast = Ranges::one(0xffff_ffff);
        let zero = Ranges::one(0);
        let loopback = Ranges::between(0x7f00_0000, 0x7fff_ffff);
        if self.test(header.source, &multicast) || self.test(header.source, &broadcast) || self.test(header.source, &zero) {
            return Err(self.drop_at(place.namespace, "route", "martian source"));
        }
        if self.test(header.destination, &broadcast) || self.test(header.destination, &zero) || self.test(header.destination, &multicast) {
            return Err(self.drop_at(place.namespace, "route", "not a unicast destination"));
        }
        if content.ipv4_either(link, |conf| conf.route_localnet) || link.kind == LinkKind::Loopback {
            return Ok(());
        }
        if self.test(header.destination, &loopback) {
            return Err(self.drop_at(place.namespace, "route", format!("martian destination: route_localnet is off on {}", link.name)));
        }
        if self.test(header.source, &loopback) {
            return Err(self.drop_at(place.namespace, "route", format!("martian source: route_localnet is off on {}", link.name)));
        }
        Ok(())
    }

    /// `fib_validate_source`.
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else there is goes the same way")]
    fn validate_source(&mut self, place: Place, link: &'m Link, oif: Option<u32>, skb: &mut Skb) -> Result<(), End> {
        let content = self.model.namespace(place.namespace);
        let filter = content.rp_filter(link);
        let redirects = content.ipv4_either(link, |conf| conf.send_redirects);
        let accept_local = content.ipv4_either(link, |conf| conf.accept_local);
        if filter == 0 && (oif != Some(link.index) || !redirects) {
            if accept_local {
                return Ok(());
            }
            if !content.fib4.has_custom_rules() {
                return if self.test(skb.header.source, content.own4()) {
                    Err(self.drop_at(place.namespace, "route", "the source is this namespace's own address"))
                } else {
                    Ok(())
                };
            }
        }
        let out_name = oif.and_then(|index| content.links.get(&index)).map_or("lo", |link| &link.name);
        let mark = if content.ipv4_either(link, |conf| conf.src_valid_mark) { self.mark_value(skb)? } else { 0 };
        let header = skb.header.reversed();
        let key = Key {
            destination: header.destination.value,
            source: header.source.value,
            iif: out_name,
            mark,
            tos: header.tos.byte(),
            transport: Some((header.protocol, header.source_port.port(), header.destination_port.port())),
            ..Key::default()
        };
        let strict_fails = || format!("rp_filter: the way back is not through {}", link.name);
        match self.fib(&content.fib4, &key, &header) {
            Found::Route { route, next_hops } => {
                match route.kind {
                    RouteKind::Unicast => {}
                    RouteKind::Local if accept_local => {}
                    _ => {
                        return Err(self.drop_at(place.namespace, "route", "the source is not a unicast address"));
                    }
                }
                let through = next_hops.iter().any(|hop| hop.oif == Some(link.index));
                if through || (route.kind == RouteKind::Local && link.kind == LinkKind::Loopback) {
                    return Ok(());
                }
            }
            Found::Unknown(why) => return Err(End::Unknown(why)),
            Found::Refused(_) | Found::Nothing => {
                return if filter == 0 { Ok(()) } else { Err(self.drop_at(place.namespace, "route", "rp_filter: no way back")) };
            }
        }
        let has_address = content.addresses_of(link.index).iter().any(|own| own.address.addr().is_ipv4());
        if !has_address {
            return if filter == 0 { Ok(()) } else { Err(self.drop_at(place.namespace, "route", strict_fails())) };
        }
        if filter == 1 {
            return Err(self.drop_at(place.namespace, "route", strict_fails()));
        }
        // Loose: that there is any route is enough; the kernel's second lookup only sets a flag.
        Ok(())
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else there is goes the same way")]
    fn route_input6(&mut self, place: Place, link: &'m Link, skb: &mut Skb) -> Result<Routed, End> {
        let content = self.model.namespace(place.namespace);
        let header = skb.header;
        let mark = self.mark_of_route(place.namespace, skb)?;
        if self.test(header.destination, &Ranges::between(0xff << 120, u128::MAX)) {
            return Ok(Routed::Local);
        }
        let strict = self.test(header.destination, &link_local()).then_some(link.index);
        let before = self.conditions.len();
        let key = Key {
            destination: header.destination.value,
            source: header.source.value,
            iif: &link.name,
            mark,
            tos: header.tos.byte(),
            transport: Some((header.protocol, header.source_port.port(), header.destination_port.port())),
            vrf_table: self.vrf_table(place),
            strict,
            oif: None,
        };
        match self.fib(&content.fib6, &key, &header) {
            Found::Route { route, next_hops } => match route.kind {
                RouteKind::Local | RouteKind::Anycast => {
                    self.route_note(place.namespace, route, None);
                    Ok(Routed::Local)
                }
                RouteKind::Unicast => {
                    let way = self.pick(&next_hops, place)?;
                    self.route_note(place.namespace, route, Some(way));
                    // What goes back by the same link is checked in another way, and br_netfilter bridges it.
                    if strict.is_none() && way.link != link.index {
                        self.open_way(&content.fib6, header.destination, way.link, before);
                        self.ask_way(|| Condition::NotBetween(link.index.into(), link.index.into()));
                    }
                    Ok(Routed::Forward(way))
                }
                other => Err(self.drop_at(place.namespace, "route", format!("{} is {other:?}", route.destination))),
            },
            Found::Unknown(why) => Err(End::Unknown(why)),
            Found::Refused(kind) => Err(self.drop_at(place.namespace, "route", format!("the route says {kind:?}"))),
            Found::Nothing => Err(self.no_route(place.namespace, skb)),
        }
    }

    /// Sends a program's packet: `__ip_local_out`, `ip6_local_out`.
    pub(super) fn send(&mut self, namespace: usize, link: Option<u32>, skb: &mut Skb) -> Result<Next, End> {
        let content = self.model.namespace(namespace);
        if let Some(gap) = content.opaque.first() {
            self.undecided = true;
            return Err(End::Unknown(gap.clone()));
        }
        self.note(namespace, What::Sent { link });
        skb.bound = link;
        let mut way = self.route_output(namespace, link, skb)?;
        if skb.header.source.value == 0 {
            skb.header.source = self.chosen_source(namespace, way, skb)?;
            // `ip_route_connect`, `ip6_dst_lookup_tail`.
            if matches!(skb.header.transport, Transport::Tcp { .. }) && skb.header.ipv4 {
                way = self.route_output(namespace, link, skb)?;
            }
        }
        let Some(out) = content.links.get(&way.link) else {
            return Err(self.lost(Place { namespace, link: way.link }));
        };
        self.rerouted = None;
        self.ip_hook(namespace, Hook::Output, Links { oif: Some(out), ..Links::default() }, skb)?;
        let way = self.rerouted.take().unwrap_or(way);
        let Some(out) = content.links.get(&way.link) else {
            return Err(self.lost(Place { namespace, link: way.link }));
        };
        self.ip_hook(namespace, Hook::Postrouting, Links { oif: Some(out), ..Links::default() }, skb)?;
        self.out(Place { namespace, link: way.link }, way.gateway, skb)
    }

    /// The source address that a program's packet to this destination gets.
    pub(crate) fn source_for(&mut self, namespace: usize, destination: IpAddr) -> Option<IpAddr> {
        let content = self.model.namespace(namespace);
        let fib = if destination.is_ipv4() { &content.fib4 } else { &content.fib6 };
        let key = Key { destination: number(destination), iif: "lo", ..Key::default() };
        let Found::Route { route, next_hops } = fib.lookup(&key, &mut Vec::new()) else {
            return None;
        };
        if route.kind == RouteKind::Local {
            return Some(destination);
        }
        let hop = next_hops.first()?;
        self.source_by(namespace, Way { link: hop.oif?, gateway: hop.gateway, preferred: route.preferred_source }, destination)
    }

    /// The same when the route is known. `fib_result_prefsrc`, `inet_select_addr`.
    fn source_by(&self, namespace: usize, way: Way, destination: IpAddr) -> Option<IpAddr> {
        let content = self.model.namespace(namespace);
        let own = content.addresses_of(way.link);
        let same = |address: &IpAddr| address.is_ipv4() == destination.is_ipv4();
        let near = way.gateway.unwrap_or(destination);
        let on_link = own.iter().find(|own| own.address.contains(&near) && !own.unusable);
        let any = on_link.or_else(|| own.iter().find(|own| same(&own.address.addr()) && own.scope == 0 && !own.unusable));
        let elsewhere = || content.addresses().map(|own| own.address.addr()).find(|own| same(own) && !own.is_loopback());
        way.preferred.or_else(|| any.map(|own| own.address.addr())).or_else(elsewhere)
    }

    /// The source address of a packet whose program has chosen none: its route is looked up before. Without any, IPv4 sends from 0.0.0.0.
    fn chosen_source(&mut self, namespace: usize, way: Way, skb: &Skb) -> Result<Number, End> {
        let destination = skb.header.destination;
        if skb.looped {
            return Ok(destination);
        }
        let own = |own: &&crate::snapshot::Address| !own.address.addr().is_ipv4() && own.scope == 0 && !own.unusable;
        if !skb.header.ipv4 && way.preferred.is_none() && self.model.namespace(namespace).addresses_of(way.link).iter().filter(own).count() > 1 {
            return Err(End::Unknown("which of several addresses the kernel sends from".to_owned()));
        }
        match self.source_by(namespace, way, skb.header.address(destination)) {
            Some(source) => Ok(Number::fixed(number(source))),
            None if skb.header.ipv4 => Ok(Number::fixed(0)),
            None => Err(self.drop_at(namespace, "route", "no address to send from")),
        }
    }

    /// `ip_route_me_harder`: asks for the link that the socket is bound to (`SO_BINDTODEVICE`), and not for one that a message was sent by
    /// (`IP_PKTINFO`).
    pub(super) fn reroute(&mut self, namespace: usize, skb: &mut Skb) -> Result<(), End> {
        let link = skb.bound.filter(|_| self.perhaps("whether a program keeps to its link"));
        self.rerouted = Some(self.route_output(namespace, link, skb)?);
        Ok(())
    }

    /// `ip_route_output_key`, `ip6_route_output`.
    pub(super) fn route_output(&mut self, namespace: usize, link: Option<u32>, skb: &mut Skb) -> Result<Way, End> {
        let content = self.model.namespace(namespace);
        let header = skb.header;
        let mark = self.mark_of_route(namespace, skb)?;
        let strict = if header.ipv4 { None } else { link };
        let oif = link.and_then(|index| content.links.get(&index)).map(|link| (link.index, link.name.as_str()));
        let key = Key {
            destination: header.destination.value,
            source: header.source.value,
            iif: "lo",
            oif: if header.ipv4 { oif } else { None },
            mark,
            tos: header.tos.byte(),
            transport: Some((header.protocol, header.source_port.port(), header.destination_port.port())),
            vrf_table: None,
            strict,
        };
        let fib = if header.ipv4 { &content.fib4 } else { &content.fib6 };
        let lo = content.link_named("lo").map_or(1, |link| link.index);
        match self.fib(fib, &key, &header) {
            Found::Route { route, .. } if matches!(route.kind, RouteKind::Local | RouteKind::Anycast) => {
                self.route_note(namespace, route, None);
                skb.looped = true;
                Ok(Way { link: lo, gateway: None, preferred: None })
            }
            Found::Route { route, next_hops } if route.kind == RouteKind::Unicast => {
                let way = Way { preferred: route.preferred_source, ..self.pick(&next_hops, Place { namespace, link: 0 })? };
                self.route_note(namespace, route, Some(way));
                self.check_loopback_source(namespace, way, skb)?;
                skb.looped = false;
                Ok(way)
            }
            Found::Route { route, .. } => Err(self.drop_at(namespace, "route", format!("{} is {:?}", route.destination, route.kind))),
            Found::Unknown(why) => Err(End::Unknown(why)),
            Found::Refused(_) | Found::Nothing if header.ipv4 && oif.is_some() => self.on_link(namespace, link, skb),
            Found::Refused(kind) => Err(self.drop_at(namespace, "route", format!("the route says {kind:?}"))),
            Found::Nothing => Err(self.no_route(namespace, skb)),
        }
    }

    /// What has no route by the link that was asked for is taken to be on it. `ip_route_output_key_hash_rcu`: "Apparently, routing tables are wrong."
    fn on_link(&mut self, namespace: usize, link: Option<u32>, skb: &mut Skb) -> Result<Way, End> {
        let Some(link) = link else { return Err(self.no_route(namespace, skb)) };
        let way = Way { link, gateway: None, preferred: None };
        let destination = skb.header.address(skb.header.destination).into();
        self.note(namespace, What::Route { destination, local: false, link: Some(link), gateway: None });
        self.check_loopback_source(namespace, way, skb)?;
        skb.looped = false;
        Ok(way)
    }

    /// `__mkroute_output`: a loopback source stays on loopback unless `route_localnet` says otherwise.
    fn check_loopback_source(&mut self, namespace: usize, way: Way, skb: &Skb) -> Result<(), End> {
        let content = self.model.namespace(namespace);
        let Some(out) = content.links.get(&way.link) else {
            return Ok(());
        };
        let loopback = Ranges::between(0x7f00_0000, 0x7fff_ffff);
        let guarded = skb.header.ipv4 && out.kind != LinkKind::Loopback && !content.ipv4_either(out, |conf| conf.route_localnet);
        if guarded && self.test(skb.header.source, &loopback) {
            return Err(self.drop_at(namespace, "route", "loopback source on a wire"));
        }
        Ok(())
    }

    /// `neigh_output`: finds the hardware address and hands the packet to the link.
    pub(super) fn out(&mut self, place: Place, gateway: Option<IpAddr>, skb: &mut Skb) -> Result<Next, End> {
        let content = self.model.namespace(place.namespace);
        let Some(link) = content.links.get(&place.link) else {
            return Err(self.lost(place));
        };
        if link.kind == LinkKind::Loopback {
            skb.frame = None;
            return Ok(Next::Input(place));
        }
        if matches!(link.kind, LinkKind::Vrf { .. }) {
            return Err(End::Unknown(format!("{} is a VRF", link.name)));
        }
        let target = gateway.map_or(skb.header.destination, |gateway| Number::fixed(number(gateway)));
        let ipv4 = gateway.map_or(skb.header.ipv4, |gateway| gateway.is_ipv4());
        let fib = if ipv4 { &content.fib4 } else { &content.fib6 };
        let destination = match self.resolve(place, link, target, ipv4, skb) {
            Err(End::Dropped(_)) if gateway.is_some_and(|router| fib.may_pass_over(router)) => {
                return Err(End::Unknown("which of several routes is taken while a router does not answer".to_owned()));
            }
            resolved => resolved?,
        };
        skb.redirectable = (gateway.is_some() && skb.hops == 0 && self.accepts_redirects(place, link, skb.header.ipv4)).then_some(place.namespace);
        skb.frame = Some(Frame { source: link.mac, destination, tags: Tags::NONE });
        skb.hidden = None;
        skb.bridged = false;
        skb.prerouted = false;
        Ok(Next::Transmit(place))
    }

    /// One of several next hops.
    fn pick(&mut self, hops: &[&NextHop], place: Place) -> Result<Way, End> {
        let choice = if hops.len() > 1 { self.choose(hops.len(), "which way of a multipath route") } else { 0 };
        let hop = hops.get(choice).or(hops.first());
        match hop.and_then(|hop| hop.oif.map(|link| Way { link, gateway: hop.gateway, preferred: None })) {
            Some(way) => Ok(way),
            None => Err(self.drop_at(place.namespace, "route", "the route has no link")),
        }
    }

    /// A lookup for packets with these headers that keeps to those for which it has the same answer.
    pub(super) fn fib<'f>(&mut self, fib: &'f Fib, key: &Key<'_>, header: &Header) -> Found<'f> {
        let asked = fib.types_of_service();
        if !asked.is_empty() && !header.tos.known {
            return Found::Unknown("routes for a type of service that rules have changed".to_owned());
        }
        if asked.contains(header.tos.value) {
            self.narrow_number(header.tos, &Ranges::between(header.tos.value & !3, header.tos.value | 3));
        } else if !asked.is_empty() {
            self.exclude_number(header.tos, asked);
        }
        let mut seen = Vec::new();
        let found = fib.lookup(key, &mut seen);
        for (field, ranges) in seen {
            let number = match field {
                Field::Destination => header.destination,
                Field::Source => header.source,
                Field::SourcePort => header.source_port,
                Field::DestinationPort => header.destination_port,
                Field::Tos | Field::Ttl | Field::Length => header.tos,
            };
            if !number.known {
                return Found::Unknown("a route by a port that the kernel picks at random".to_owned());
            }
            self.narrow_number(number, &ranges);
        }
        found
    }

    /// The type of an address as rules see it. `inet_dev_addr_type`, `nft_fib6_eval_type`.
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else there is goes the same way")]
    #[expect(clippy::too_many_arguments, reason = "what is asked, of whom, and where it is")]
    pub(super) fn address_type(
        &mut self,
        namespace: usize,
        skb: &Skb,
        number: Number,
        device: Option<&Link>,
        strict: Option<u32>,
    ) -> Result<u8, End> {
        let content = self.model.namespace(namespace);
        if !number.known {
            return Err(End::Unknown("the type of an address that is not known".to_owned()));
        }
        if skb.header.ipv4 {
            if self.test(number, &Ranges::union_of([(0, 0), (0xffff_ffff, 0xffff_ffff)])) {
                return Ok(RTN_BROADCAST);
            }
            if self.test(number, &Ranges::between(0xe000_0000, 0xefff_ffff)) {
                return Ok(RTN_MULTICAST);
            }
            if device.is_none()
                && let Some((kind, alike)) = content.fib4.kind_in(LOCAL, number.value)
            {
                self.narrow_number(number, alike);
                return Ok(kind.map_or(RTN_UNICAST, route_type));
            }
            let key = Key { destination: number.value, ..Key::default() };
            let mut seen = Vec::new();
            let found = content.fib4.lookup_table(LOCAL, &key, &mut seen);
            for (_, ranges) in seen {
                if let Some(field) = number.field {
                    self.narrow(field, &ranges);
                }
            }
            return Ok(match found {
                Found::Route { route, next_hops } if device.is_none_or(|link| next_hops.iter().any(|hop| hop.oif == Some(link.index))) => {
                    route_type(route.kind)
                }
                _ => RTN_UNICAST,
            });
        }
        if self.test(number, &Ranges::between(0xff << 120, u128::MAX)) {
            return Ok(RTN_MULTICAST);
        }
        let key = Key { destination: number.value, iif: "lo", strict, ..Key::default() };
        match self.fib(&content.fib6, &key, &Header { destination: number, ..skb.header }) {
            Found::Route { route, next_hops } => {
                let here = device.is_none_or(|link| next_hops.iter().any(|hop| hop.oif == Some(link.index)));
                Ok(match route.kind {
                    RouteKind::Local if !here => RTN_UNICAST,
                    kind => route_type(kind),
                })
            }
            Found::Unknown(why) => Err(End::Unknown(why)),
            Found::Refused(kind) => Ok(route_type(kind)),
            Found::Nothing => Ok(7),
        }
    }

    /// The source address that masquerading uses. `inet_select_addr`, `ipv6_dev_get_saddr`.
    pub(super) fn masquerade_source(&mut self, at: &At<'m>, skb: &mut Skb, oif: &Link) -> Result<Option<IpAddr>, End> {
        let own = at.content.addresses_of(oif.index);
        if skb.header.ipv4 {
            let primary = || own.iter().filter(|own| own.address.addr().is_ipv4() && !own.secondary && own.scope == 0);
            if primary().count() > 1 {
                let next = self.next_hop_of(at, oif, skb)?;
                if let Some(near) = primary().find(|own| self.test(next, &Ranges::union_of([prefix(&own.address)]))) {
                    return Ok(Some(near.address.addr()));
                }
            }
            // `inet_select_addr`: a link without a global address borrows one of another link, in their order.
            let others = at.content.addresses().filter(|own| own.address.addr().is_ipv4() && !own.secondary && own.scope == 0);
            return Ok(primary().chain(others).next().map(|own| own.address.addr()));
        }
        let global = |own: &&crate::snapshot::Address| !own.address.addr().is_ipv4() && !own.unusable && own.scope == 0;
        let own6 = |own: &&crate::snapshot::Address| !own.address.addr().is_ipv4() && !own.unusable;
        // A link-local destination is only spoken to from its link's own addresses, best one of the same scope (`ipv6_dev_get_saddr`).
        if !self.is_global(skb) {
            let itself = self.one_of(skb, own.iter().filter(own6));
            return Ok(itself.or_else(|| own.iter().filter(own6).min_by_key(|own| own.scope == 0).map(|own| own.address.addr())));
        }
        if let Some(itself) = self.one_of(skb, at.content.addresses().filter(own6)) {
            return Ok(Some(itself));
        }
        let here: Vec<&crate::snapshot::Address> = own.iter().filter(global).collect();
        let candidates = if here.is_empty() { at.content.addresses().filter(global).collect() } else { here };
        match candidates.as_slice() {
            [] => Ok(own.iter().find(|own| !own.address.addr().is_ipv4() && !own.unusable).map(|own| own.address.addr())),
            [one] => Ok(Some(one.address.addr())),
            [first, ..] => {
                let destination = skb.header.destination.value;
                let common = |own: u128| (own ^ destination).leading_zeros();
                let best = candidates.iter().map(|own| number(own.address.addr())).max_by_key(|own| (common(*own), std::cmp::Reverse(*own)));
                let best = best.unwrap_or_else(|| number(first.address.addr()));
                // Whatever has one bit more in common with the destination than the best has is as near to each of them.
                let free = u128::MAX.checked_shr(common(best) + 1).unwrap_or(0);
                self.narrow_number(skb.header.destination, &Ranges::between(destination & !free, destination | free));
                Ok(Some(address(best, false)))
            }
        }
    }

    /// The destination, if it is one of these addresses; keeps to packets for which that is so, or to those for which it is not.
    fn one_of<'a>(&mut self, skb: &Skb, own: impl Iterator<Item = &'a crate::snapshot::Address>) -> Option<IpAddr> {
        let destination = skb.header.destination;
        let own = Ranges::union_of(own.map(|own| (number(own.address.addr()), number(own.address.addr()))));
        self.test(destination, &own).then(|| {
            self.narrow_number(destination, &Ranges::one(destination.value));
            skb.header.address(destination)
        })
    }

    /// Where a packet that leaves by a link goes next: the destination, or the gateway of its route.
    fn next_hop_of(&mut self, at: &At<'m>, oif: &Link, skb: &mut Skb) -> Result<Number, End> {
        let header = skb.header;
        let key = Key {
            destination: header.destination.value,
            source: header.source.value,
            iif: at.iif.map_or("lo", |link| &link.name),
            mark: self.mark_of_route(at.namespace, skb)?,
            tos: header.tos.byte(),
            ..Key::default()
        };
        let found = self.fib(&at.content.fib4, &key, &header);
        let gateway = match found {
            Found::Route { next_hops, .. } => next_hops.iter().find(|hop| hop.oif == Some(oif.index)).and_then(|hop| hop.gateway),
            Found::Refused(_) | Found::Nothing | Found::Unknown(_) => None,
        };
        Ok(gateway.map_or(header.destination, |gateway| Number::fixed(number(gateway))))
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else there is goes the same way")]
    fn vrf_table(&self, place: Place) -> Option<u32> {
        let content = self.model.namespace(place.namespace);
        let master = content.links.get(&place.link)?.master?;
        match content.links.get(&master)?.kind {
            LinkKind::Vrf { table } => Some(table),
            _ => None,
        }
    }

    fn route_note(&mut self, namespace: usize, route: &Route, way: Option<Way>) {
        let (destination, local) = (route.destination, route.kind == RouteKind::Local);
        self.note(namespace, What::Route { destination, local, link: way.map(|way| way.link), gateway: way.and_then(|way| way.gateway) });
    }

    pub(super) fn drop_at(&self, namespace: usize, kind: &'static str, text: impl Into<String>) -> End {
        End::Dropped(Reason::at(&self.model.namespace(namespace).label, kind, text))
    }

    fn no_route(&self, namespace: usize, skb: &Skb) -> End {
        let destination = skb.header.address(skb.header.destination);
        self.drop_at(namespace, "route", format!("no route to {destination}"))
    }

    pub(super) fn lost(&self, place: Place) -> End {
        End::Unknown(format!("link {} of {} is not in the snapshot", place.link, self.model.namespace(place.namespace).label))
    }

    /// What a veth does to a packet. `skb_scrub_packet`.
    pub(super) fn scrub(skb: &mut Skb, crosses: bool) {
        skb.ct = Ct::None;
        skb.prerouted = false;
        skb.physical_in = None;
        skb.looped = false;
        if crosses {
            skb.mark = [super::Cell::fixed(0); 4];
        }
    }
}

/// What rules of a router drop comes to nothing once its sender was shown the way around it: that is before they are asked (`ip_forward`,
/// `ip6_forward`).
fn around(redirects: bool, end: End) -> End {
    if redirects && matches!(end, End::Dropped(_)) { End::Unknown("the sender may be redirected around the router".to_owned()) } else { end }
}

/// What no IPv4 packet to one host is sent to. `ipv4_is_multicast`, `ipv4_is_lbcast`, `ipv4_is_zeronet`: since 5.3, the rest of 0.0.0.0/8 is unicast,
/// and 240.0.0.0/4 always was.
pub(crate) fn not_unicast4() -> Ranges {
    Ranges::union_of([(0, 0), (0xe000_0000, 0xefff_ffff), (0xffff_ffff, 0xffff_ffff)])
}

pub(super) fn link_local() -> Ranges {
    Ranges::between(0xfe80 << 112, (0xfec0 << 112) - 1)
}

const fn route_type(kind: RouteKind) -> u8 {
    match kind {
        RouteKind::Unicast => RTN_UNICAST,
        RouteKind::Local => RTN_LOCAL,
        RouteKind::Broadcast => RTN_BROADCAST,
        RouteKind::Anycast => RTN_ANYCAST,
        RouteKind::Multicast => RTN_MULTICAST,
        RouteKind::Blackhole => 6,
        RouteKind::Unreachable => 7,
        RouteKind::Prohibit => 8,
        RouteKind::Throw => 9,
        RouteKind::Other(kind) => kind,
    }
}
