//! Connection tracking and address translation. `net/netfilter/nf_conntrack_core.c`, `nf_nat_core.c`.

use std::rc::Rc;

use crate::model::dispatch::Translations;
use crate::model::fib::number;
use crate::model::netfilter::ChainAt;
use crate::packet::{ACK, SYN, Transport};
use crate::snapshot::Hook;
use crate::space::Ranges;

use super::header::{Cell, Header, Number, Origin, Variable};
use super::rules::{At, Flow, Step};
use super::trace::What;
use super::{Ct, End, Skb, Walker};

/// A connection that one namespace knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Connection {
    pub(super) original: Tuple,
    /// The answer as it will arrive here.
    pub(super) reply: Tuple,
    /// `IPS_DST_NAT`, `IPS_SRC_NAT`: this address was changed.
    pub(super) destination_changed: bool,
    pub(super) source_changed: bool,
    /// `IPS_DST_NAT_DONE`, `IPS_SRC_NAT_DONE`: the rules were asked.
    pub(super) destination_done: bool,
    pub(super) source_done: bool,
    pub(super) seen_reply: bool,
    pub(super) mark: [Cell; 4],
    /// `IPS_EXPECTED`: a helper, or a rule, has announced it, so that its first packet is `related`.
    pub(super) expected: bool,
    /// A rule has set labels: which, is not followed.
    pub(super) labelled: bool,
    /// The link whose address it was masqueraded with.
    masqueraded: Option<u32>,
    protocol: u8,
}

/// Addresses and ports of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tuple {
    pub(super) source: Number,
    pub(super) destination: Number,
    pub(super) source_port: Number,
    pub(super) destination_port: Number,
}

/// Which address is translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NatKindAt {
    Destination,
    Source,
}

/// What an address and port become.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct NatTo {
    pub(super) addresses: Option<(u128, u128)>,
    pub(super) ports: Option<(u16, u16)>,
    /// `NF_NAT_RANGE_*`.
    pub(super) flags: u32,
}

const RANDOM: u32 = 4 | 16;
const OFFSET: u32 = 32;
const NETMAP: u32 = 64;

impl Tuple {
    fn of(header: &Header) -> Self {
        let Header { source, destination, source_port, destination_port, .. } = *header;
        Self { source, destination, source_port, destination_port }
    }

    /// `nf_ct_invert_tuple`. An echo keeps its identifier.
    fn inverse(self, echo: bool) -> Self {
        let (source_port, destination_port) =
            if echo { (self.source_port, self.destination_port) } else { (self.destination_port, self.source_port) };
        Self { source: self.destination, destination: self.source, source_port, destination_port }
    }

    fn same_values(&self, other: &Self) -> bool {
        self.values() == other.values()
    }

    fn values(&self) -> [u128; 4] {
        [self.source.value, self.destination.value, self.source_port.value, self.destination_port.value]
    }
}

impl Connection {
    /// `IPS_*` bits.
    pub(super) fn status(&self) -> u32 {
        let bit = |on: bool, bit: u32| if on { bit } else { 0 };
        bit(self.expected, 1)
            | bit(self.seen_reply, 2)
            | bit(self.source_changed, 16)
            | bit(self.destination_changed, 32)
            | bit(self.source_done, 128)
            | bit(self.destination_done, 256)
    }

    /// Forgets which numbers were the sender's choice: the next packet is another one.
    pub(super) fn settle(&mut self) {
        for tuple in [&mut self.original, &mut self.reply] {
            for number in [&mut tuple.source, &mut tuple.destination, &mut tuple.source_port, &mut tuple.destination_port] {
                number.field = None;
            }
        }
        for cell in &mut self.mark {
            if matches!(cell.origin, Origin::Of { .. }) {
                cell.origin = Origin::Fixed;
            }
        }
    }

    fn is_echo(&self) -> bool {
        matches!(self.protocol, 1 | 58)
    }
}

impl<'m> Walker<'m> {
    /// The packet's connection, and whether it is of the reply direction.
    pub(super) fn connection(&self, namespace: usize, skb: &Skb) -> Option<(&Connection, bool)> {
        let Ct::Of { connection, reply, .. } = skb.ct else {
            return None;
        };
        self.connections.get(&namespace)?.get(connection).map(|found| (found, reply))
    }

    fn connection_mut(&mut self, namespace: usize, skb: &Skb) -> Option<&mut Connection> {
        let Ct::Of { connection, .. } = skb.ct else {
            return None;
        };
        self.changes += 1;
        self.connections.get_mut(&namespace)?.get_mut(connection)
    }

    /// The bit that `ct state` sees: 1 invalid, 2 established, 4 related, 8 new, 64 untracked.
    pub(super) fn state_bits(&self, namespace: usize, skb: &Skb) -> u8 {
        match skb.ct {
            Ct::None => 1,
            Ct::Untracked => 64,
            Ct::Of { established: true, .. } => 2,
            Ct::Of { .. } if self.connection(namespace, skb).is_some_and(|(connection, _)| connection.expected) => 4,
            Ct::Of { established: false, .. } => 8,
        }
    }

    /// `nf_conntrack_in`.
    pub(super) fn track(&mut self, namespace: usize, skb: &mut Skb) {
        if skb.ct != Ct::None {
            return;
        }
        if let Transport::Icmpv6 { kind: 130..=137 | 143, .. } = skb.header.transport {
            skb.ct = Ct::Untracked;
            return;
        }
        let tuple = Tuple::of(&skb.header);
        let protocol = skb.header.protocol;
        // Which packets are of which connection is not followed for several targets of a translation at once.
        if self.connections.get(&namespace).is_some_and(|known| !known.is_empty()) {
            self.pin_translation(skb);
        }
        let known = self.connections.entry(namespace).or_default();
        for (index, connection) in known.iter_mut().enumerate().filter(|(_, connection)| connection.protocol == protocol) {
            if connection.reply.same_values(&tuple) && is_answer(skb.header.transport) {
                connection.seen_reply = true;
                skb.ct = Ct::Of { connection: index, reply: true, established: true };
                return;
            }
            if connection.original.same_values(&tuple) {
                skb.ct = Ct::Of { connection: index, reply: false, established: connection.seen_reply };
                return;
            }
        }
        if !starts_connection(skb.header.transport) {
            return;
        }
        let echo = matches!(protocol, 1 | 58);
        let answer = tuple.inverse(echo);
        let expected = self.model.namespace(namespace).expects && self.perhaps("whether a conntrack helper expects the connection");
        // The mark is that of the connection which announced it.
        let mark = if expected { [Cell::unknown(); 4] } else { [Cell::fixed(0); 4] };
        let known = self.connections.entry(namespace).or_default();
        known.push(Connection {
            original: tuple,
            reply: answer,
            destination_changed: false,
            source_changed: false,
            destination_done: false,
            source_done: false,
            seen_reply: false,
            mark,
            expected,
            labelled: false,
            masqueraded: None,
            protocol,
        });
        skb.ct = Ct::Of { connection: known.len() - 1, reply: false, established: false };
    }

    /// `nf_nat_inet_fn`: asks the nat chains once a connection, then translates.
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else there is goes the same way")]
    #[expect(clippy::too_many_lines, reason = "one arm a kind")]
    pub(super) fn nat(&mut self, at: &At<'m>, skb: &mut Skb) -> Result<Flow, End> {
        let kind = match at.hook {
            Hook::Prerouting | Hook::Output => NatKindAt::Destination,
            _ => NatKindAt::Source,
        };
        let Ct::Of { reply, established, .. } = skb.ct else {
            return Ok(Flow::Next);
        };
        let done = |connection: &Connection| match kind {
            NatKindAt::Destination => connection.destination_done,
            NatKindAt::Source => connection.source_done,
        };
        if !established && !self.connection(at.namespace, skb).is_none_or(|(connection, _)| done(connection)) {
            if self.connections.get(&at.namespace).is_some_and(|known| known.len() > 1) {
                self.pin_translation(skb);
            }
            let clash = kind == NatKindAt::Source && self.clashes(at.namespace, skb);
            let echo = matches!(skb.header.protocol, 1 | 58);
            // An echo whose identifier is taken gets another one; whether it is translated further was seen to differ.
            let skipped = clash && echo && self.perhaps("two echoes would have the same answer");
            let chains = at.content.rules.nat_at(at.layer, at.hook).filter(|_| !skipped);
            for chain in self.in_order(chains)? {
                let here = At { chain: *chain, ..*at };
                let flow = self.base_chain(&here, skb)?;
                if flow == Flow::Drop {
                    return Ok(Flow::Drop);
                }
                if self.connection(at.namespace, skb).is_none_or(|(connection, _)| done(connection)) {
                    break;
                }
            }
            if let Some(connection) = self.connection_mut(at.namespace, skb) {
                match kind {
                    NatKindAt::Destination => connection.destination_done = true,
                    NatKindAt::Source => connection.source_done = true,
                }
            }
            if kind == NatKindAt::Source && !echo && self.clashes(at.namespace, skb) {
                self.another_port(at.namespace, skb);
            }
        }
        let Some((connection, _)) = self.connection(at.namespace, skb) else {
            return Ok(Flow::Next);
        };
        // `nf_nat_oif_changed`: the address of one link is no good on another, and the connection is given up.
        let elsewhere = |link: u32| at.oif.is_some_and(|out| out.index != link);
        if at.hook == Hook::Postrouting && !reply && connection.masqueraded.is_some_and(elsewhere) {
            self.note(at.namespace, What::MasqueradedElsewhere);
            return Ok(Flow::Drop);
        }
        let changed = match (kind, reply) {
            (NatKindAt::Destination, false) | (NatKindAt::Source, true) => connection.destination_changed,
            (NatKindAt::Source, false) | (NatKindAt::Destination, true) => connection.source_changed,
        };
        if changed {
            let other = if reply { connection.original } else { connection.reply };
            let target = other.inverse(connection.is_echo());
            match kind {
                NatKindAt::Destination => {
                    skb.header.destination = target.destination;
                    skb.header.destination_port = target.destination_port;
                }
                NatKindAt::Source => {
                    skb.header.source = target.source;
                    skb.header.source_port = target.source_port;
                }
            }
        }
        Ok(Flow::Next)
    }

    /// Whether another connection already has the same answer, or began with it. `nf_conntrack_tuple_taken`.
    fn clashes(&self, namespace: usize, skb: &Skb) -> bool {
        let Ct::Of { connection: own, .. } = skb.ct else {
            return false;
        };
        let Some(known) = self.connections.get(&namespace) else {
            return false;
        };
        let Some(mine) = known.get(own) else {
            return false;
        };
        // An echo and its answer differ in their type.
        let taken = |other: &Connection| other.reply.same_values(&mine.reply) || !mine.is_echo() && other.original.same_values(&mine.reply);
        known.iter().enumerate().any(|(index, other)| index != own && other.protocol == mine.protocol && taken(other))
    }

    /// The kernel picks another source port. `nf_nat_l4proto_unique_tuple`.
    fn another_port(&mut self, namespace: usize, skb: &Skb) {
        if let Some(connection) = self.connection_mut(namespace, skb) {
            let taken = connection.reply.destination_port;
            connection.reply.destination_port = Number::random(taken.value ^ 1);
            connection.source_changed = true;
        }
    }

    /// `nf_nat_setup_info`.
    pub(super) fn translate(&mut self, at: &At<'m>, skb: &mut Skb, kind: NatKindAt, to: &NatTo) -> Result<Step<'m>, End> {
        let Some((connection, _)) = self.connection(at.namespace, skb) else {
            return Ok(Step::Accept);
        };
        let echo = connection.is_echo();
        let current = connection.reply.inverse(echo);
        let (old_address, old_port) = match kind {
            NatKindAt::Destination => (current.destination, current.destination_port),
            NatKindAt::Source => (current.source, current.source_port),
        };
        let offered = self.offered.take().filter(|_| kind == NatKindAt::Destination && !echo);
        // Who is sent to one of the targets already may keep address and port: that is told apart one by one.
        if let Some(offered) = offered {
            if old_address.known && !offered.addresses.contains(old_address.value) {
                self.translate_all(at, skb, current, &offered);
                return Ok(Step::Accept);
            }
            self.pin(old_port);
        }
        let address = self.new_address(skb, old_address, to)?;
        let port = if echo { old_port } else { self.new_port(kind, old_port, to)? };
        let changed = address != old_address || port != old_port;
        if changed {
            self.note(at.namespace, What::Nat { kind, address: skb.header.address(address), port: port.port() });
        }
        let mut new = current;
        match kind {
            NatKindAt::Destination => (new.destination, new.destination_port) = (address, port),
            NatKindAt::Source => (new.source, new.source_port) = (address, port),
        }
        if let Some(connection) = self.connection_mut(at.namespace, skb) {
            match kind {
                NatKindAt::Destination => connection.destination_done = true,
                NatKindAt::Source => connection.source_done = true,
            }
            if changed {
                connection.reply = new.inverse(echo);
                match kind {
                    NatKindAt::Destination => connection.destination_changed = true,
                    NatKindAt::Source => connection.source_changed = true,
                }
            }
        }
        Ok(Step::Accept)
    }

    /// Translates packets to different ports by different rules at once.
    fn translate_all(&mut self, at: &At<'m>, skb: &mut Skb, current: Tuple, offered: &Rc<Translations>) {
        let Some((address, port)) = offered.target(current.destination_port.value) else { return };
        self.exclude_number(current.destination, &offered.addresses);
        self.translated = Some(Rc::clone(offered));
        skb.translated = (address, port);
        let address = Number::translated(address, Variable::Address);
        self.note(at.namespace, What::Nat { kind: NatKindAt::Destination, address: skb.header.address(address), port });
        let new = Tuple { destination: address, destination_port: Number::translated(u128::from(port), Variable::Port), ..current };
        if let Some(connection) = self.connection_mut(at.namespace, skb) {
            connection.destination_done = true;
            connection.destination_changed = true;
            connection.reply = new.inverse(false);
        }
    }

    fn new_address(&mut self, skb: &Skb, old: Number, to: &NatTo) -> Result<Number, End> {
        const MOST: u128 = 8;
        let Some((first, last)) = to.addresses else {
            return Ok(old);
        };
        if to.flags & NETMAP != 0 {
            self.pin(old);
            // The range is a prefix: its host bits are those that differ.
            let host = first ^ last;
            return Ok(Number::fixed((first & !host) | (old.value & host)));
        }
        if self.test(old, &Ranges::between(first, last)) {
            return Ok(old);
        }
        let count = last.saturating_sub(first).saturating_add(1);
        if count > MOST {
            return Err(End::Unknown("translated to one of many addresses".to_owned()));
        }
        let choice = if count > 1 { self.choose(usize::try_from(count).unwrap_or(1), "translated to one of several addresses") } else { 0 };
        let _ = skb;
        Ok(Number::fixed(first + u128::try_from(choice).unwrap_or(0)))
    }

    fn new_port(&mut self, kind: NatKindAt, old: Number, to: &NatTo) -> Result<Number, End> {
        const MOST: usize = 8;
        let Some((first, last)) = to.ports else {
            return Ok(if to.flags & RANDOM != 0 { Number::random(old.value) } else { old });
        };
        if to.flags & OFFSET != 0 {
            return Err(End::Unknown("translated to a shifted port".to_owned()));
        }
        if first == last {
            return Ok(if self.test(old, &Ranges::one(u128::from(first))) { old } else { Number::fixed(u128::from(first)) });
        }
        if to.flags & RANDOM == 0 {
            if self.test(old, &Ranges::between(u128::from(first), u128::from(last))) {
                return Ok(old);
            }
            if kind == NatKindAt::Destination {
                let others = usize::from(last.saturating_sub(first));
                if others >= MOST {
                    return Err(End::Unknown("translated to one of many ports".to_owned()));
                }
                // `nf_nat_l4proto_unique_tuple`: the first that the sender has no connection to from the same port.
                let choice = self.choose(others + 1, "translated to the first of several ports that is free");
                return Ok(Number::fixed(u128::from(first) + u128::try_from(choice).unwrap_or(0)));
            }
        }
        Ok(Number::random(u128::from(first)))
    }

    /// `nf_nat_masquerade_ipv4`, `_ipv6`.
    pub(super) fn masquerade(&mut self, at: &At<'m>, skb: &mut Skb, ports: Option<(u16, u16)>, flags: u32) -> Result<Step<'m>, End> {
        let Some(oif) = at.oif else {
            return Ok(Step::Accept);
        };
        let Some(source) = self.masquerade_source(at, skb, oif)? else {
            return Ok(Step::Drop);
        };
        if let Some(connection) = self.connection_mut(at.namespace, skb) {
            connection.masqueraded = Some(oif.index);
        }
        let address = number(source);
        self.translate(at, skb, NatKindAt::Source, &NatTo { addresses: Some((address, address)), ports, flags })
    }

    /// `nf_nat_redirect_ipv4`, `_ipv6`.
    pub(super) fn redirect(&mut self, at: &At<'m>, skb: &mut Skb, ports: Option<(u16, u16)>, flags: u32) -> Result<Step<'m>, End> {
        let ipv4 = skb.header.ipv4;
        let address = if at.hook == Hook::Output {
            Some(if ipv4 { 0x7f00_0001 } else { 1 })
        } else {
            let own = at.iif.map(|link| at.content.addresses_of(link.index)).unwrap_or_default();
            let global = self.is_global(skb);
            own.iter()
                .filter(|own| own.address.addr().is_ipv4() == ipv4 && !own.unusable)
                .find(|own| ipv4 && !own.secondary || !ipv4 && (own.scope == 0) == global)
                .map(|own| number(own.address.addr()))
        };
        let Some(address) = address else {
            return Ok(Step::Drop);
        };
        self.translate(at, skb, NatKindAt::Destination, &NatTo { addresses: Some((address, address)), ports, flags })
    }

    pub(super) fn is_global(&mut self, skb: &Skb) -> bool {
        let link_local = Ranges::between(0xfe80 << 112, (0xfec0 << 112) - 1);
        !self.test(skb.header.destination, &link_local)
    }

    /// `nft_ct_set_eval`.
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else there is goes the same way")]
    pub(super) fn ct_set(&mut self, at: &At<'m>, skb: &mut Skb, key: crate::snapshot::CtKey, cells: &[Cell]) -> Result<(), End> {
        use crate::snapshot::CtKey;
        match key {
            CtKey::Mark => {
                if let Some(connection) = self.connection_mut(at.namespace, skb) {
                    for (slot, cell) in connection.mark.iter_mut().zip(cells) {
                        *slot = *cell;
                    }
                }
                Ok(())
            }
            CtKey::EventMask | CtKey::SecMark | CtKey::Helper | CtKey::Expiration => Ok(()),
            CtKey::Labels => {
                self.label(at.namespace, skb);
                Ok(())
            }
            other => Err(End::Unknown(format!("a rule sets ct {other:?}"))),
        }
    }

    /// A rule sets labels of the connection.
    pub(super) fn label(&mut self, namespace: usize, skb: &Skb) {
        if let Some(connection) = self.connection_mut(namespace, skb) {
            connection.labelled = true;
        }
    }

    pub(super) fn set_connection_mark(&mut self, namespace: usize, skb: &Skb, mark: [Cell; 4]) {
        if let Some(connection) = self.connection_mut(namespace, skb) {
            connection.mark = mark;
        }
    }

    /// A place to run a chain at, for conntrack's own use.
    pub(super) const fn no_chain() -> ChainAt {
        ChainAt { table: usize::MAX, chain: usize::MAX }
    }
}

/// Whether conntrack makes a connection for the first packet of this kind.
const fn starts_connection(transport: Transport) -> bool {
    const FIN: u8 = 1;
    const RST: u8 = 4;
    match transport {
        Transport::Icmp { kind, .. } => matches!(kind, 8 | 13 | 15 | 17),
        Transport::Icmpv6 { kind, .. } => matches!(kind, 128 | 139),
        // `tcp_conntracks[ORIGINAL][…][NONE]`: a SYN, or an ACK of a connection that was there before us.
        Transport::Tcp { flags, .. } => matches!(flags & (SYN | ACK | FIN | RST), SYN | ACK),
        Transport::Udp { .. } => true,
    }
}

const fn is_answer(transport: Transport) -> bool {
    match transport {
        Transport::Icmp { kind, .. } => matches!(kind, 0 | 14 | 16 | 18),
        Transport::Icmpv6 { kind, .. } => matches!(kind, 129 | 140),
        Transport::Tcp { .. } | Transport::Udp { .. } => true,
    }
}
