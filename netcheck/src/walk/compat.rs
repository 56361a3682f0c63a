//! Matches and targets of iptables. `net/netfilter/xt_*.c`.

use std::net::IpAddr;

use crate::model::fib::{Found, Key, number};
use crate::packet::{BESIDES_SYN, Transport};
use crate::snapshot::{
    AddressType, CtMatch, Hook, IcmpMatch, IpRange, IpSetElement, Match, Multiport, MultiportKind, NatRange, PortMatch, PortRange, RouteKind,
    SetMatch, Target, TcpFlags,
};
use crate::space::Ranges;

use super::conntrack::{NatKindAt, NatTo, Tuple};
use super::header::{Cell, Number, Origin};
use super::rules::{At, Step, masked, packet_type};
use super::{Ct, End, Headers, Skb, Walker};

impl<'m> Walker<'m> {
    #[expect(clippy::too_many_lines, reason = "one arm a kind")]
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else there is goes the same way")]
    pub(super) fn compat_match(&mut self, at: &At<'m>, skb: &mut Skb, condition: &'m Match) -> Result<bool, End> {
        Ok(match condition {
            Match::Addrtype { source, destination, limit_iif, limit_oif } => {
                let device = if *limit_iif {
                    at.iif
                } else if *limit_oif {
                    self.way_out(at)
                } else {
                    None
                };
                let mut all = true;
                for (condition, number) in [(source, skb.header.source), (destination, skb.header.destination)] {
                    if let (true, Some(AddressType { types, invert })) = (all, condition) {
                        let kind = self.address_type(at.namespace, skb, number, device, None)?;
                        all = (types >> kind & 1 != 0) != *invert;
                    }
                }
                all
            }
            Match::Comment(_) => true,
            Match::Connmark { mark, mask, invert } => match self.connection(at.namespace, skb) {
                Some((connection, _)) => {
                    let cells = connection.mark;
                    self.marked(skb, &cells, *mark, *mask) != *invert
                }
                None => false,
            },
            Match::Mark { mark, mask, invert } => {
                let cells = skb.mark;
                self.marked(skb, &cells, *mark, *mask) != *invert
            }
            Match::Conntrack(condition) => self.conntrack_match(at, skb, condition),
            Match::Icmp(condition) => match skb.header.transport {
                Transport::Icmp { kind, code, .. } => icmp_match(condition, kind, code, true),
                _ => false,
            },
            Match::Icmp6(condition) => match skb.header.transport {
                Transport::Icmpv6 { kind, code, .. } => icmp_match(condition, kind, code, false),
                _ => false,
            },
            Match::Iprange { source, destination } => {
                let mut all = true;
                for (condition, number_of) in [(source, skb.header.source), (destination, skb.header.destination)] {
                    if let (true, Some(IpRange { from, to, invert })) = (all, condition) {
                        all = self.test(number_of, &Ranges::between(number(*from), number(*to))) != *invert;
                    }
                }
                all
            }
            Match::Sometimes(name) => self.perhaps(format!("match {name}")),
            Match::Local(name) => {
                let own = matches!(at.hook, Hook::Output | Hook::Postrouting) && at.iif.is_none();
                let why = format!("match {name}");
                if own || name == "socket" { self.perhaps(why) } else { self.may_have_socket(at, skb, &why) }
            }
            Match::Mac { address, invert } => match skb.frame.and_then(|frame| frame.source) {
                Some(mac) => (mac == *address) != *invert,
                None if skb.frame.is_some() => self.perhaps("the sender's hardware address"),
                None => false,
            },
            Match::Multiport(condition) => self.multiport(skb, condition),
            Match::Physdev { input, output, conditions, invert } => physdev(at, input, output, *conditions, *invert),
            Match::Pkttype { kind, invert } => (*kind == u32::from(packet_type(at, skb))) != *invert,
            Match::Rpfilter { flags } => self.rpfilter(at, skb, *flags)?,
            Match::Set(condition) => self.ipset_match(at, skb, condition),
            Match::Tcp { ports, flags, option, .. } => match skb.header.transport {
                Transport::Tcp { flags: own, .. } => {
                    let flagged = flags.is_none_or(|flags| self.flagged(skb, own, flags) != flags.invert);
                    flagged && self.ports(skb, ports) && (*option == 0 || self.perhaps("options that the sender chooses"))
                }
                _ => false,
            },
            Match::Udp(ports) => matches!(skb.header.transport, Transport::Udp { .. }) && self.ports(skb, ports),
            Match::Opaque { name, revision, .. } => {
                if name == "connlabel" {
                    self.label(at.namespace, skb);
                }
                self.perhaps(format!("match {name} revision {revision} is not understood"))
            }
        })
    }

    pub(super) fn compat_target(&mut self, at: &At<'m>, skb: &mut Skb, target: &'m Target) -> Result<Step<'m>, End> {
        Ok(match target {
            Target::Continue(name) => {
                if matches!(name.as_str(), "DSCP" | "TOS") {
                    skb.header.tos = Number::random(skb.header.tos.value);
                }
                Step::Go
            }
            Target::Set(target) => {
                if target.marks {
                    skb.mark = [Cell::unknown(); 4];
                }
                Step::Go
            }
            Target::Mark { mark, mask } => {
                let value = self.mark_value(skb)?;
                skb.mark = self.mark_cells((value & !mask) ^ mark);
                Step::Go
            }
            Target::Connmark { mode, ctmark, ctmask, nfmask } => {
                self.connmark(at, skb, *mode, [*ctmark, *ctmask, *nfmask])?;
                Step::Go
            }
            Target::Dnat(range) => self.translate(at, skb, NatKindAt::Destination, &nat_to(range))?,
            Target::Snat(range) => self.translate(at, skb, NatKindAt::Source, &nat_to(range))?,
            Target::Masquerade(range) => self.masquerade(at, skb, range.ports.map(|ports| (ports.first, ports.last)), range.flags)?,
            Target::Redirect(range) => self.redirect(at, skb, range.ports.map(|ports| (ports.first, ports.last)), range.flags)?,
            Target::Netmap(range) => {
                let kind = if matches!(at.hook, Hook::Prerouting | Hook::Output) { NatKindAt::Destination } else { NatKindAt::Source };
                const NETMAP: u32 = 64;
                let to = nat_to(range);
                self.translate(at, skb, kind, &NatTo { flags: to.flags | NETMAP, ..to })?
            }
            Target::Notrack | Target::Ct { notrack: true, .. } => {
                if skb.ct == Ct::None {
                    skb.ct = Ct::Untracked;
                }
                Step::Go
            }
            Target::Ct { zone: 0, .. } => Step::Go,
            Target::Ct { zone, .. } => return Err(End::Unknown(format!("conntrack zone {zone}"))),
            Target::Reject { .. } => Step::Drop,
            Target::Tproxy { .. } => {
                return Err(End::Unknown("a transparent proxy may take it".to_owned()));
            }
            Target::Opaque { name, revision, .. } => {
                return Err(End::Unknown(format!("target {name} revision {revision} is not understood")));
            }
        })
    }

    fn marked(&mut self, skb: &Skb, cells: &[Cell; 4], mark: u32, mask: u32) -> bool {
        let bytes = |value: u32| {
            if self.model.little_endian { value.to_le_bytes() } else { value.to_be_bytes() }
        };
        let (mask, mark) = (bytes(mask), bytes(mark));
        let masked: Vec<Cell> = cells.iter().zip(mask).map(|(cell, mask)| cell.masked(mask, 0)).collect();
        self.equal(skb, &masked, &mark)
    }

    fn connmark(&mut self, at: &At<'m>, skb: &mut Skb, mode: u8, [ctmark, ctmask, nfmask]: [u32; 3]) -> Result<(), End> {
        let Some((connection, _)) = self.connection(at.namespace, skb) else {
            return Ok(());
        };
        let cells = connection.mark;
        self.pin_cells(skb, &cells);
        if cells.iter().any(|cell| matches!(cell.origin, Origin::Unknown { .. })) {
            return Err(End::Unknown("a connection mark that is not known".to_owned()));
        }
        let bytes = cells.map(|cell| cell.value);
        let own = if self.model.little_endian { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) };
        match mode {
            0 => {
                let mark = self.mark_cells((own & !ctmask) ^ ctmark);
                self.set_connection_mark(at.namespace, skb, mark);
            }
            1 => {
                let mark = (own & !ctmask) ^ (self.mark_value(skb)? & nfmask);
                let mark = self.mark_cells(mark);
                self.set_connection_mark(at.namespace, skb, mark);
            }
            _ => {
                let mark = (self.mark_value(skb)? & !nfmask) ^ (own & ctmask);
                skb.mark = self.mark_cells(mark);
            }
        }
        Ok(())
    }

    fn ports(&mut self, skb: &Skb, ports: &PortMatch) -> bool {
        self.test(skb.header.source_port, &port_ranges(&ports.source)) != ports.invert_source
            && self.test(skb.header.destination_port, &port_ranges(&ports.destination)) != ports.invert_destination
    }

    fn multiport(&mut self, skb: &Skb, condition: &Multiport) -> bool {
        if skb.header.transport.ports().is_none() {
            return false;
        }
        let ranges = Ranges::union_of(condition.ports.iter().map(|range| (u128::from(range.first), u128::from(range.last))));
        let found = match condition.kind {
            MultiportKind::Source => self.test(skb.header.source_port, &ranges),
            MultiportKind::Destination => self.test(skb.header.destination_port, &ranges),
            MultiportKind::Either => self.test(skb.header.source_port, &ranges) || self.test(skb.header.destination_port, &ranges),
        };
        found != condition.invert
    }

    /// `conntrack_mt`.
    fn conntrack_match(&mut self, at: &At<'m>, skb: &Skb, condition: &CtMatch) -> bool {
        let connection = self.connection(at.namespace, skb).map(|(connection, reply)| (connection.clone(), reply));
        if let Some((wanted, invert)) = condition.state {
            let bits = u16::from(self.state_bits(at.namespace, skb));
            // The untracked bit is 256 here; 64 and 128 ask for translated addresses.
            let mut bits = if bits == 64 { 256 } else { bits };
            if let Some((connection, _)) = &connection {
                bits |= if connection.source_changed { 64 } else { 0 } | if connection.destination_changed { 128 } else { 0 };
            }
            if (bits & wanted != 0) == invert {
                return false;
            }
        }
        let Some((connection, reply)) = connection else {
            return *condition == CtMatch { state: condition.state, ..CtMatch::default() };
        };
        if condition.original.is_some_and(|original| original == reply) {
            return false;
        }
        if let Some((wanted, invert)) = condition.status
            && (connection.status() & u32::from(wanted) != 0) == invert
        {
            return false;
        }
        if let Some((protocol, invert)) = condition.protocol
            && (u16::from(skb.header.protocol) == protocol) == invert
        {
            return false;
        }
        self.tuple_match(&connection.original, condition, true)
            && self.tuple_match(&connection.reply, condition, false)
            && (!condition.expires || self.perhaps("the time until a connection expires"))
    }

    fn tuple_match(&mut self, tuple: &Tuple, condition: &CtMatch, original: bool) -> bool {
        let (source, destination, source_ports, destination_ports) = if original {
            (condition.original_source, condition.original_destination, condition.original_source_ports, condition.original_destination_ports)
        } else {
            (condition.reply_source, condition.reply_destination, condition.reply_source_ports, condition.reply_destination_ports)
        };
        for (condition, value) in [(source, tuple.source), (destination, tuple.destination)] {
            if let Some((net, mask, invert)) = condition
                && self.test_masked(value, net, mask) == invert
            {
                return false;
            }
        }
        for (condition, value) in [(source_ports, tuple.source_port), (destination_ports, tuple.destination_port)] {
            if let Some((range, invert)) = condition
                && self.test(value, &port_ranges(&range)) == invert
            {
                return false;
            }
        }
        true
    }

    fn test_masked(&mut self, value: Number, net: IpAddr, mask: IpAddr) -> bool {
        let width = if net.is_ipv4() { 32 } else { 128 };
        let (net, mask) = (number(net), number(mask));
        let differs = value.known && value.field.is_some_and(|variable| self.is_free(variable));
        match masked(mask, net & mask, width) {
            Some(values) => self.test(value, &values),
            None if differs || !value.known => self.perhaps("an address under a mask that is not followed"),
            None => value.value & mask == net & mask,
        }
    }

    /// `rpfilter_mt`.
    /// Whether flags are as a rule wants them. `tcp_mt`.
    fn flagged(&mut self, skb: &Skb, own: u8, wanted: TcpFlags) -> bool {
        let chosen = if skb.headers == Headers::Forged { wanted.mask & BESIDES_SYN } else { 0 };
        let fits = (own & wanted.mask) | chosen == wanted.set | chosen;
        fits && (chosen == 0 || self.perhaps("flags that the sender chooses"))
    }

    fn rpfilter(&mut self, at: &At<'m>, skb: &mut Skb, flags: u8) -> Result<bool, End> {
        const LOOSE: u8 = 1;
        const VALID_MARK: u8 = 2;
        const ACCEPT_LOCAL: u8 = 4;
        const INVERT: u8 = 8;
        let invert = flags & INVERT != 0;
        let Some(iif) = at.iif else { return Ok(invert) };
        if iif.name == "lo" {
            return Ok(!invert);
        }
        let mark = if flags & VALID_MARK != 0 { self.mark_value(skb)? } else { 0 };
        let header = skb.header.reversed();
        let (destination, source, tos) = (header.destination.value, header.source.value, header.tos.byte());
        let key = Key { destination, source, iif: "lo", mark, tos, ..Key::default() };
        let fib = if header.ipv4 { &at.content.fib4 } else { &at.content.fib6 };
        let passes = match self.fib(fib, &key, &header) {
            Found::Route { route, next_hops } => {
                let kind = route.kind == RouteKind::Unicast || (route.kind == RouteKind::Local && flags & ACCEPT_LOCAL != 0);
                kind && (flags & LOOSE != 0 || next_hops.iter().any(|hop| hop.oif == Some(iif.index)))
            }
            Found::Unknown(why) => return Err(End::Unknown(why)),
            Found::Refused(_) | Found::Nothing => false,
        };
        Ok(passes != invert)
    }

    /// `set_match`.
    fn ipset_match(&mut self, at: &At<'m>, skb: &Skb, condition: &SetMatch) -> bool {
        let Some(set) = at.content.ipsets.get(&condition.index) else {
            return self.perhaps("an ipset that is not in the snapshot");
        };
        let dimensions: Vec<&str> = set.kind.split_once(':').map_or("", |(_, kinds)| kinds).split(',').collect();
        let understood = dimensions.iter().all(|kind| matches!(*kind, "ip" | "net" | "port"));
        if !understood || set.masked || condition.counters {
            return self.perhaps(format!("ipset {} of type {}", set.name, set.kind));
        }
        if at.content.rules.changes_ipset(condition.index) {
            return self.perhaps(format!("ipset {} is filled by earlier packets", set.name));
        }
        let mut best: Option<(u8, bool)> = None;
        for element in &set.elements {
            if self.element_holds(skb, condition, &dimensions, element) {
                if element.uncertain && !self.perhaps(format!("an uncertain element of ipset {}", set.name)) {
                    continue;
                }
                let length = element.prefix.unwrap_or(128);
                if best.is_none_or(|(known, _)| length >= known) {
                    best = Some((length, !element.nomatch));
                }
            }
        }
        best.is_some_and(|(_, matches)| matches) != condition.invert
    }

    fn element_holds(&mut self, skb: &Skb, condition: &SetMatch, dimensions: &[&str], element: &IpSetElement) -> bool {
        let header = skb.header;
        let mut addresses = [(element.address, element.address_to, element.prefix), (element.address2, None, element.prefix2)].into_iter();
        for (kind, bit) in dimensions.iter().zip(1_u8..) {
            let source = condition.source >> bit & 1 != 0;
            let holds = if *kind == "port" {
                let Some(first) = element.port else {
                    return false;
                };
                // `ip_set_get_ip4_port`: of ICMP, type and code.
                let number = match header.transport {
                    Transport::Icmp { kind, code, .. } | Transport::Icmpv6 { kind, code, .. } => {
                        Number::fixed(u128::from(u16::from_be_bytes([kind, code])))
                    }
                    Transport::Tcp { .. } | Transport::Udp { .. } if source => header.source_port,
                    Transport::Tcp { .. } | Transport::Udp { .. } => header.destination_port,
                };
                element.protocol.map_or(header.transport.ports().is_some(), |protocol| protocol == header.protocol)
                    && self.test(number, &Ranges::between(u128::from(first), u128::from(element.port_to.unwrap_or(first))))
            } else {
                let Some((Some(first), last, prefix)) = addresses.next() else {
                    return false;
                };
                let number = if source { header.source } else { header.destination };
                first.is_ipv4() == header.ipv4 && self.test(number, &address_ranges(first, last, prefix))
            };
            if !holds {
                return false;
            }
        }
        true
    }
}

fn address_ranges(first: IpAddr, last: Option<IpAddr>, prefix: Option<u8>) -> Ranges {
    if let Some(last) = last {
        return Ranges::between(number(first), number(last));
    }
    let full = if first.is_ipv4() { 32 } else { 128 };
    let free = full - u32::from(prefix.unwrap_or(128)).min(full);
    let low = if free >= 128 { u128::MAX } else { (1_u128 << free) - 1 };
    let base = number(first) & !low;
    Ranges::between(base, base | low)
}

fn port_ranges(range: &PortRange) -> Ranges {
    Ranges::between(u128::from(range.first), u128::from(range.last))
}

fn nat_to(range: &NatRange) -> NatTo {
    NatTo {
        addresses: range.addresses.map(|(from, to)| (number(from), number(to))),
        ports: range.ports.map(|ports| (ports.first, ports.last)),
        flags: range.flags,
    }
}

fn icmp_match(condition: &IcmpMatch, kind: u8, code: u8, any: bool) -> bool {
    let matches = (any && condition.kind == 0xff) || (kind == condition.kind && (condition.code_from..=condition.code_to).contains(&code));
    matches != condition.invert
}

/// `physdev_mt`.
fn physdev(at: &At<'_>, input: &str, output: &str, conditions: u8, invert: u8) -> bool {
    const IN: u8 = 1;
    const OUT: u8 = 2;
    const BRIDGED: u8 = 4;
    const IS_IN: u8 = 8;
    const IS_OUT: u8 = 16;
    let (port_in, port_out) = (at.physical_in, at.physical_out);
    if port_in.is_none() {
        // Not a bridged packet: only inverted conditions hold.
        return conditions & !invert == 0;
    }
    let named = |name: &str, pattern: &str| pattern.strip_suffix('+').map_or(name == pattern, |prefix| name.starts_with(prefix));
    let holds = |bit: u8, is: bool| conditions & bit == 0 || is != (invert & bit != 0);
    holds(BRIDGED, port_out.is_some())
        && holds(IS_IN, port_in.is_some())
        && holds(IS_OUT, port_out.is_some())
        && holds(IN, port_in.is_some_and(|link| named(&link.name, input)))
        && holds(OUT, port_out.is_some_and(|link| named(&link.name, output)))
}
