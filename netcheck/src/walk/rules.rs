//! Runs the bytecode of nf_tables. `net/netfilter/nf_tables_core.c`, `nft_*.c`.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use crate::model::Namespace;
use crate::model::fib::{Found, Key};
use crate::model::netfilter::{ChainAt, Layer, NfTable, SearchSet};
use crate::packet::{BESIDES_SYN, Transport};
use crate::snapshot::{
    BitOperation, CmpOperation, CtKey, Data, Direction, Element, Expression, ExthdrKind, FibResult, Hook, Link, Mac, MetaKey, NatKind, PayloadBase,
    RangeOperation, Register, Verdict,
};
use crate::space::{Field, Ranges};

use super::classes::Guarded;
use super::conntrack::{NatKindAt, NatTo};
use super::header::{Cell, Header, Number, Origin, Variable};
use super::trace::{Did, What};
use super::{Ct, End, Frame, Headers, Skb, Walker};

/// Where rules run.
#[derive(Debug, Clone, Copy)]
pub(super) struct At<'m> {
    pub(super) namespace: usize,
    pub(super) content: &'m Namespace,
    pub(super) layer: Layer,
    pub(super) hook: Hook,
    pub(super) iif: Option<&'m Link>,
    pub(super) oif: Option<&'m Link>,
    pub(super) physical_in: Option<&'m Link>,
    pub(super) physical_out: Option<&'m Link>,
    /// The link that the kernel has in the packet, for what looks at it instead of the hook's.
    pub(super) chain: ChainAt,
}

/// What a chain says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Accept,
    Drop,
    /// It fell off its end, or returned.
    Next,
}

/// What a rule says.
enum Ran<'m> {
    Accept,
    Drop,
    Goto(&'m str),
    Jump(&'m str),
    /// It did not match, or it did and there is nothing more to say.
    Next,
    Return,
}

/// What an expression says.
pub(super) enum Step<'m> {
    Break,
    Go,
    Say(&'m Verdict),
    Accept,
    Drop,
}

/// What a packet is like for the rules of a base chain, besides what stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Met {
    mark: [Cell; 4],
    header: Header,
    ct: Ct,
    /// How often a connection was changed.
    changes: u64,
}

/// Places of rules in several lists, ascending, in one order.
struct Merged<'d>([&'d [u32]; 4]);

impl Iterator for Merged<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let list = self.0.iter_mut().filter(|list| !list.is_empty()).min_by_key(|list| list.first().copied())?;
        let (first, rest) = list.split_first()?;
        *list = rest;
        Some(*first)
    }
}

/// Sixteen words of four bytes.
pub(super) struct Registers([Cell; 64]);

impl Registers {
    fn new() -> Self {
        Self([Cell::fixed(0); 64])
    }

    pub(super) fn read(&self, register: Register, len: usize) -> &[Cell] {
        let from = self.0.get(usize::from(register.0) * 4..).unwrap_or_default();
        from.get(..len).unwrap_or(from)
    }

    /// Writes bytes and zeros to the end of the last word.
    fn write(&mut self, register: Register, cells: impl IntoIterator<Item = Cell>) {
        let mut slots = self.0.iter_mut().skip(usize::from(register.0) * 4);
        let mut written = 0_usize;
        for cell in cells {
            if let Some(slot) = slots.next() {
                *slot = cell;
                written += 1;
            }
        }
        while !written.is_multiple_of(4) {
            if let Some(slot) = slots.next() {
                *slot = Cell::fixed(0);
            }
            written += 1;
        }
    }

    fn write_bytes(&mut self, register: Register, bytes: &[u8]) {
        self.write(register, bytes.iter().map(|byte| Cell::fixed(*byte)));
    }
}

/// `NFT_RT_NEXTHOP6` and `NFT_SOCKET_CGROUPV2`, which are longer than a word.
const RT_NEXTHOP6: u32 = 2;
const SOCKET_CGROUP: u32 = 3;
const DEEPEST: u32 = 16;
/// `IPPROTO_FRAGMENT`, and the least that every fragment but the last has.
const FRAGMENT: u8 = 44;
const SMALLEST_FRAGMENT: usize = 8;
const IFNAMSIZ: usize = 16;
/// Bytes of a helper's name.
const HELPER: usize = 16;
/// Bytes of a connection's labels.
const LABELS: usize = 16;

impl<'m> Walker<'m> {
    /// `nft_do_chain`, from one chain on.
    pub(super) fn chain(&mut self, at: &At<'m>, chain: usize, skb: &mut Skb, depth: u32) -> Result<Flow, End> {
        let Some(table) = at.content.rules.table(at.chain.table) else {
            return Ok(Flow::Next);
        };
        if depth > DEEPEST {
            return Err(End::Unknown(format!("chains call each other too deeply in table {}", table.name)));
        }
        let Some(shortcuts) = table.shortcuts(chain).filter(|_| !is_hidden(at, skb)) else {
            return self.every_rule(at, table, chain, skb, depth);
        };
        let dispatch = self.dispatch(at, chain, shortcuts, skb);
        let (destination, port) = (skb.header.destination, skb.header.destination_port);
        let random = !destination.known && !dispatch.by_destination.is_empty() || !port.known && !dispatch.by_port.is_empty();
        if random {
            return self.every_rule(at, table, chain, skb, depth);
        }
        self.keep_class(destination, &dispatch.by_destination);
        self.keep_class(port, &dispatch.by_port);
        self.keep_way(at, &dispatch.by_out);
        let out = at.oif.map_or(0, |link| u128::from(link.index));
        let (by_port, class) = dispatch.by_port.find(port.value);
        self.found_by_port |= class.is_some();
        let met = Merged([&dispatch.always, dispatch.by_destination.find(destination.value).0, by_port, dispatch.by_out.find(out).0]);
        for rule in met {
            self.looked += 1;
            let index = usize::try_from(rule).unwrap_or(usize::MAX);
            let Some(head) = shortcuts.head(index) else { continue };
            let from = match self.guarded(at, skb, head, &dispatch) {
                Guarded::Fails => continue,
                Guarded::Holds => head.rest,
                Guarded::Unsure => 0,
            };
            if head.translation.is_some()
                && let Some(place) = by_port.iter().position(|known| *known == rule)
            {
                self.offered = class.and_then(|class| class.translations.get(place)?.clone()).filter(|_| self.differ_in_port(port));
                if self.offered.is_none() {
                    self.pin(port);
                }
            }
            let flow = self.run_rule(at, table, (chain, index, from), skb, depth);
            self.offered = None;
            if let Some(flow) = flow? {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    /// A chain that another one leads to. One that had nothing to say to this packet, as it is, has nothing to say again: chains that call others
    /// twice would be run more often than anybody can wait for.
    fn called(&mut self, at: &At<'m>, chain: usize, skb: &mut Skb, depth: u32) -> Result<Flow, End> {
        let before = self.condition_of(skb);
        if self.silent.as_ref().is_some_and(|(met, chains)| *met == before && chains.contains(&chain)) {
            return Ok(Flow::Next);
        }
        let choices = self.taken.len();
        let flow = self.chain(at, chain, skb, depth)?;
        if flow == Flow::Next && choices == self.taken.len() && before == self.condition_of(skb) {
            match &mut self.silent {
                Some((met, chains)) if *met == before => {
                    chains.insert(chain);
                }
                _ => self.silent = Some((before, BTreeSet::from([chain]))),
            }
        }
        Ok(flow)
    }

    /// What rules may have changed.
    const fn condition_of(&self, skb: &Skb) -> Met {
        Met { mark: skb.mark, header: skb.header, ct: skb.ct, changes: self.changes }
    }

    /// All rules of a chain, one after the other.
    #[expect(clippy::too_many_arguments, reason = "what is asked, of whom, and where it is")]
    fn every_rule(&mut self, at: &At<'m>, table: &'m NfTable, chain: usize, skb: &mut Skb, depth: u32) -> Result<Flow, End> {
        let rules = table.chains.get(chain).map_or(0, |chain| chain.rules.len());
        for index in 0..rules {
            self.looked += 1;
            if let Some(flow) = self.run_rule(at, table, (chain, index, 0), skb, depth)? {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    /// One rule of a chain, from an instruction on; none when the next rule is run.
    #[expect(clippy::too_many_arguments, reason = "what is asked, of whom, and where it is")]
    fn run_rule(
        &mut self,
        at: &At<'m>,
        table: &'m NfTable,
        (chain, index, from): (usize, usize, usize),
        skb: &mut Skb,
        depth: u32,
    ) -> Result<Option<Flow>, End> {
        let Some(rule) = table.chains.get(chain).and_then(|chain| chain.rules.get(index)) else {
            return Ok(None);
        };
        let ran = self.rule(at, table, rule.expressions.get(from..).unwrap_or_default(), skb)?;
        let met = |did: Did| What::Rule { hook: at.hook, layer: at.layer, chain: ChainAt { chain, ..at.chain }, rule: index, did };
        match ran {
            Ran::Next => Ok(None),
            Ran::Accept => {
                self.note(at.namespace, met(Did::Accept));
                Ok(Some(Flow::Accept))
            }
            Ran::Drop => {
                self.note(at.namespace, met(Did::Drop));
                Ok(Some(Flow::Drop))
            }
            Ran::Return => Ok(Some(Flow::Next)),
            Ran::Jump(name) | Ran::Goto(name) => {
                self.note(at.namespace, met(Did::Jump));
                let Some(target) = table.chain_named(name) else {
                    return Err(End::Unknown(format!("chain {name} is not in the snapshot")));
                };
                let flow = self.called(at, target, skb, depth + 1)?;
                Ok((flow != Flow::Next || matches!(ran, Ran::Goto(_))).then_some(flow))
            }
        }
    }

    fn rule(&mut self, at: &At<'m>, table: &'m NfTable, expressions: &'m [Expression], skb: &mut Skb) -> Result<Ran<'m>, End> {
        let mut registers = Registers::new();
        for expression in expressions {
            match self.expression(at, table, expression, &mut registers, skb)? {
                Step::Go => {}
                Step::Break => return Ok(Ran::Next),
                Step::Accept => return Ok(Ran::Accept),
                Step::Drop => return Ok(Ran::Drop),
                Step::Say(verdict) => match verdict {
                    Verdict::Continue => {}
                    Verdict::Break => return Ok(Ran::Next),
                    Verdict::Accept => return Ok(Ran::Accept),
                    Verdict::Drop => return Ok(Ran::Drop),
                    Verdict::Goto(name) => return Ok(Ran::Goto(name)),
                    Verdict::Jump(name) => return Ok(Ran::Jump(name)),
                    Verdict::Return => return Ok(Ran::Return),
                    Verdict::Queue => {
                        return Err(End::Unknown("a program decides (queue)".to_owned()));
                    }
                    Verdict::Other(number) => {
                        return Err(End::Unknown(format!("verdict {number}")));
                    }
                },
            }
        }
        Ok(Ran::Next)
    }

    #[expect(clippy::too_many_lines, reason = "one arm an instruction")]
    #[expect(clippy::too_many_arguments, reason = "what is asked, of whom, and where it is")]
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else there is goes the same way")]
    fn expression(
        &mut self,
        at: &At<'m>,
        table: &'m NfTable,
        expression: &'m Expression,
        registers: &mut Registers,
        skb: &mut Skb,
    ) -> Result<Step<'m>, End> {
        let matched = |yes: bool| if yes { Step::Go } else { Step::Break };
        Ok(match expression {
            Expression::Cmp { source, operation, value } => {
                let cells = registers.read(*source, value.len());
                matched(self.compare(skb, cells, *operation, value.as_slice()))
            }
            Expression::Range { source, operation, from, to } => {
                let cells = registers.read(*source, from.len());
                let inside = self.within(skb, cells, from.as_slice(), to.as_slice());
                matched(inside == (*operation == RangeOperation::Eq))
            }
            Expression::Payload { into, base, offset, len } => match self.payload(at, skb, *base, *offset, *len)? {
                Some(cells) => {
                    registers.write(*into, cells);
                    Step::Go
                }
                None => Step::Break,
            },
            Expression::Meta { key, into } => match self.meta(at, skb, *key)? {
                Some(cells) => {
                    registers.write(*into, cells);
                    Step::Go
                }
                None => Step::Break,
            },
            Expression::Ct { key, direction, into } => match self.ct(at, skb, *key, *direction)? {
                Some(cells) => {
                    registers.write(*into, cells);
                    Step::Go
                }
                None => Step::Break,
            },
            Expression::Immediate { into: Some(into), data: Data::Value(bytes) } => {
                registers.write_bytes(*into, bytes.as_slice());
                Step::Go
            }
            Expression::Immediate { data: Data::Verdict(verdict), .. } => Step::Say(verdict),
            Expression::Immediate { into: None, data: Data::Value(_) } => Step::Go,
            Expression::Bitwise { source, into, len, operation } => {
                let cells = self.bitwise(skb, registers, *source, *len, operation);
                registers.write(*into, cells);
                Step::Go
            }
            Expression::Byteorder { source, into, len, size, .. } => {
                let mut cells = registers.read(*source, usize::try_from(*len).unwrap_or(0)).to_vec();
                if self.model.little_endian {
                    let size = usize::try_from(*size).unwrap_or(2).max(1);
                    cells.chunks_mut(size).for_each(<[Cell]>::reverse);
                }
                registers.write(*into, cells);
                Step::Go
            }
            Expression::Lookup { set, source, into, invert, verdict } => {
                let Some(search) = table.set(set) else {
                    return Err(End::Unknown(format!("set {set} is not in the snapshot")));
                };
                let key = registers.read(*source, usize::try_from(search.set.key_len).unwrap_or(0));
                match self.lookup(at, skb, search, key)? {
                    Some(_) if *invert => Step::Break,
                    None if *invert => Step::Go,
                    None => Step::Break,
                    Some(element) => match (&element.data, into) {
                        (Some(Data::Verdict(found)), _) if *verdict => Step::Say(found),
                        (Some(Data::Value(bytes)), Some(into)) => {
                            registers.write_bytes(*into, bytes.as_slice());
                            Step::Go
                        }
                        _ => Step::Go,
                    },
                }
            }
            Expression::Match(condition) => matched(self.compat_match(at, skb, condition)?),
            Expression::Target(target) => self.compat_target(at, skb, target)?,
            Expression::Counter | Expression::Last | Expression::Log { .. } | Expression::FlowOffload { .. } => Step::Go,
            Expression::Reject { .. } => Step::Drop,
            Expression::Limit { .. } | Expression::Quota { .. } | Expression::Connlimit { .. } => {
                matched(self.perhaps("a limit on rate, volume or connections"))
            }
            Expression::Dynset { set, .. } => matched(self.perhaps(format!("whether an element can be added to set {set}"))),
            Expression::MetaSet { key, source } => {
                self.meta_set(skb, *key, registers.read(*source, 4))?;
                Step::Go
            }
            Expression::CtSet { key, source, .. } => {
                self.ct_set(at, skb, *key, registers.read(*source, 4))?;
                Step::Go
            }
            Expression::Notrack => {
                if skb.ct == Ct::None {
                    skb.ct = Ct::Untracked;
                }
                Step::Go
            }
            Expression::Nat { kind, addresses, ports, flags, .. } => {
                let to = NatTo {
                    addresses: addresses.map(|between| self.addresses_in(skb, registers, between)).transpose()?,
                    ports: ports.map(|between| self.ports_in(skb, registers, between)).transpose()?,
                    flags: *flags,
                };
                let manip = if *kind == NatKind::Dnat { NatKindAt::Destination } else { NatKindAt::Source };
                self.translate(at, skb, manip, &to)?
            }
            Expression::Masq { flags, ports } => {
                let ports = ports.map(|between| self.ports_in(skb, registers, between)).transpose()?;
                self.masquerade(at, skb, ports, *flags)?
            }
            Expression::Redir { flags, ports } => {
                let ports = ports.map(|between| self.ports_in(skb, registers, between)).transpose()?;
                self.redirect(at, skb, ports, *flags)?
            }
            Expression::Fib { into, result, flags } => match self.fib_expression(at, skb, *result, *flags)? {
                Some(cells) => {
                    registers.write(*into, cells);
                    Step::Go
                }
                None => Step::Break,
            },
            Expression::Exthdr { into, kind, header, present, len, .. } => match kind {
                ExthdrKind::Tcp if matches!(skb.header.transport, Transport::Tcp { .. }) => {
                    registers.write(*into, vec![Cell::unknown(); usize::try_from(*len).unwrap_or(1).max(1)]);
                    Step::Go
                }
                ExthdrKind::Ipv4 | ExthdrKind::Ipv6
                    if skb.headers > Headers::Usual
                        && (*kind == ExthdrKind::Ipv4) == skb.header.ipv4
                        && (*header != FRAGMENT || may_be_fragment(at, skb)) =>
                {
                    if !*present && !self.perhaps("headers that the sender chooses") {
                        return Ok(Step::Break);
                    }
                    let len = usize::try_from(*len).unwrap_or(1).max(1);
                    let flag = Cell { value: 0, origin: Origin::Unknown { mask: 1 } };
                    registers.write(*into, if *present { vec![flag] } else { vec![Cell::unknown(); len] });
                    Step::Go
                }
                _ if *present => {
                    registers.write_bytes(*into, &[0]);
                    Step::Go
                }
                _ => Step::Break,
            },
            Expression::Hash { into, .. } | Expression::Numgen { into, .. } => {
                registers.write(*into, [Cell::unknown(); 4]);
                Step::Go
            }
            Expression::Rt { key, into } => {
                let len = if *key == RT_NEXTHOP6 { 16 } else { 4 };
                registers.write(*into, vec![Cell::unknown(); len]);
                Step::Go
            }
            Expression::Socket { key, into, .. } => {
                let len = if *key == SOCKET_CGROUP { 8 } else { 4 };
                registers.write(*into, vec![Cell::unknown(); len]);
                Step::Go
            }
            Expression::Objref { kind, name, .. } => match kind {
                // Helpers and expectations are looked at where connections begin.
                1 | 3 | 7 | 8 | 9 => Step::Go,
                2 | 4 | 5 => matched(self.perhaps(format!("limit {name}"))),
                other => return Err(End::Unknown(format!("object {name} of kind {other}"))),
            },
            Expression::PayloadSet { source, base, offset, len } => {
                let cells = registers.read(*source, usize::try_from(*len).unwrap_or(0));
                self.payload_set(skb, *base, *offset, cells)?;
                Step::Go
            }
            // The copy goes by another way, to whoever is there.
            Expression::Dup => {
                self.undecided = true;
                return Err(End::Unknown("a rule sends a copy elsewhere (dup)".to_owned()));
            }
            Expression::Fwd { .. } => {
                self.undecided = true;
                return Err(End::Unknown("a rule forwards the frame to another link".to_owned()));
            }
            Expression::Queue => return Err(End::Unknown("a program decides (queue)".to_owned())),
            Expression::Tproxy { .. } => {
                return Err(End::Unknown("a transparent proxy may take it".to_owned()));
            }
            Expression::Opaque { name, .. } => {
                return Err(End::Unknown(format!("instruction {name} is not understood")));
            }
        })
    }

    /// Compares bytes with a constant.
    fn compare(&mut self, skb: &Skb, cells: &[Cell], operation: CmpOperation, value: &[u8]) -> bool {
        match operation {
            CmpOperation::Eq => self.equal(skb, cells, value),
            CmpOperation::Neq => !self.equal(skb, cells, value),
            CmpOperation::Lt => self.order(skb, cells, value) == Ordering::Less,
            CmpOperation::Gte => self.order(skb, cells, value) != Ordering::Less,
            CmpOperation::Gt => self.order(skb, cells, value) == Ordering::Greater,
            CmpOperation::Lte => self.order(skb, cells, value) != Ordering::Greater,
        }
    }

    /// Whether bytes have these values.
    pub(super) fn equal(&mut self, skb: &Skb, cells: &[Cell], value: &[u8]) -> bool {
        let mut unknown = false;
        for (cell, want) in cells.iter().zip(value) {
            match cell.origin {
                Origin::Fixed if cell.value != *want => return false,
                Origin::Unknown { mask } if (cell.value ^ want) & !mask != 0 => return false,
                Origin::Of { mask, xor, .. } if (want ^ xor) & !mask != 0 => return false,
                Origin::Unknown { .. } => unknown = true,
                Origin::Fixed | Origin::Of { .. } => {}
            }
        }
        let mut conditions: Vec<(Variable, u128, u128, bool)> = Vec::new();
        for (cell, want) in cells.iter().zip(value) {
            let Origin::Of { field, byte, mask, xor } = cell.origin else {
                continue;
            };
            let same = cell.value == *want;
            let shift = u32::from(byte) * 8;
            let (mask, bits) = (u128::from(mask) << shift, u128::from(want ^ xor) << shift);
            match conditions.iter_mut().find(|(known, ..)| *known == field) {
                Some((_, masks, wanted, alike)) => {
                    *masks |= mask;
                    *wanted |= bits;
                    *alike &= same;
                }
                None => conditions.push((field, mask, bits, same)),
            }
        }
        let mut alike = Vec::new();
        for (field, mask, wanted, same) in conditions {
            let values = masked(mask, wanted, width(field, skb.header.bits()));
            match (values, same) {
                (Some(values), true) => alike.push((field, values)),
                (Some(values), false) => {
                    self.exclude(field, &values);
                    return false;
                }
                (None, same) if !self.is_free(field) => {
                    if !same {
                        return false;
                    }
                }
                (None, _) => unknown = true,
            }
        }
        if unknown && !self.perhaps("bytes that the sender chooses and that are not followed") {
            return false;
        }
        for (field, values) in alike {
            self.narrow(field, &values);
        }
        true
    }

    /// How bytes compare with a constant, as `memcmp`.
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else there is goes the same way")]
    fn order(&mut self, skb: &Skb, cells: &[Cell], value: &[u8]) -> Ordering {
        if let Some(field) = whole_field(cells, skb.header.bits()) {
            let (own, bound) = (value_of(cells), big_endian(value));
            let order = own.cmp(&bound);
            let same = match order {
                Ordering::Less => bound.checked_sub(1).map_or_else(Ranges::empty, |below| Ranges::between(0, below)),
                Ordering::Equal => Ranges::one(bound),
                Ordering::Greater => bound.checked_add(1).map_or_else(Ranges::empty, |above| Ranges::between(above, u128::MAX)),
            };
            self.narrow(field, &same);
            return order;
        }
        self.pin_cells(skb, cells);
        for (cell, want) in cells.iter().zip(value) {
            if matches!(cell.origin, Origin::Unknown { .. }) {
                return match self.choose(3, "bytes that the sender chooses and that are not followed") {
                    0 => Ordering::Less,
                    1 => Ordering::Equal,
                    _ => Ordering::Greater,
                };
            }
            match cell.value.cmp(want) {
                Ordering::Equal => {}
                other => return other,
            }
        }
        Ordering::Equal
    }

    /// Whether bytes lie between two constants, both included.
    fn within(&mut self, skb: &Skb, cells: &[Cell], from: &[u8], to: &[u8]) -> bool {
        if let Some(field) = whole_field(cells, skb.header.bits()) {
            let ranges = Ranges::between(big_endian(from), big_endian(to));
            let inside = ranges.contains(value_of(cells));
            if inside {
                self.narrow(field, &ranges);
            } else {
                self.exclude(field, &ranges);
            }
            return inside;
        }
        if from == to {
            return self.equal(skb, cells, from);
        }
        self.order(skb, cells, from) != Ordering::Less && self.order(skb, cells, to) != Ordering::Greater
    }

    pub(super) fn pin_cells(&mut self, skb: &Skb, cells: &[Cell]) {
        for cell in cells {
            if let Origin::Of { field, .. } = cell.origin {
                self.pin_variable(skb, field);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what is asked, of whom, and where it is")]
    fn bitwise(&mut self, skb: &Skb, registers: &Registers, source: Register, len: u32, operation: &BitOperation) -> Vec<Cell> {
        let len = usize::try_from(len).unwrap_or(0);
        let cells = registers.read(source, len);
        let both = |walker: &mut Self, other: Register, combine: fn(u8, u8) -> u8| {
            let others = registers.read(other, len);
            walker.pin_cells(skb, cells);
            walker.pin_cells(skb, others);
            let unknown = |cell: &Cell| matches!(cell.origin, Origin::Unknown { .. });
            let one = |(left, right): (&Cell, &Cell)| {
                if unknown(left) || unknown(right) { Cell::unknown() } else { Cell::fixed(combine(left.value, right.value)) }
            };
            cells.iter().zip(others).map(one).collect()
        };
        match operation {
            BitOperation::Mask { mask, xor } => {
                let masks = mask.as_slice().iter().zip(xor.as_slice());
                cells.iter().zip(masks).map(|(cell, (mask, xor))| cell.masked(*mask, *xor)).collect()
            }
            BitOperation::And(other) => both(self, *other, |left, right| left & right),
            BitOperation::Or(other) => both(self, *other, |left, right| left | right),
            BitOperation::Xor(other) => both(self, *other, |left, right| left ^ right),
            BitOperation::ShiftLeft(bits) | BitOperation::ShiftRight(bits) => {
                self.pin_cells(skb, cells);
                if cells.iter().any(|cell| matches!(cell.origin, Origin::Unknown { .. })) {
                    return vec![Cell::unknown(); len];
                }
                let bytes: Vec<u8> = cells.iter().map(|cell| cell.value).collect();
                let left = matches!(operation, BitOperation::ShiftLeft(_));
                shift_words(&bytes, *bits, left, self.model.little_endian).into_iter().map(Cell::fixed).collect()
            }
        }
    }

    /// Finds the element for a key. `nft_lookup_eval`.
    fn lookup(&mut self, at: &At<'m>, skb: &mut Skb, search: &'m SearchSet, key: &[Cell]) -> Result<Option<&'m Element>, End> {
        let found = self.search(skb, search, key);
        let filled = || format!("set {} is filled by earlier packets", search.set.name);
        // What is added to a map since comes before what stands for all other keys.
        let settled = found.filter(|element| !(element.catch_all && search.grows && search.set.flags.map && self.perhaps(filled())));
        let Some(element) = settled else {
            if !search.grows || found.is_none() && !self.perhaps(filled()) {
                return Ok(None);
            }
            static FILLED: Element = Element {
                from: crate::snapshot::Bytes(Vec::new()),
                to: crate::snapshot::Bytes(Vec::new()),
                catch_all: false,
                data: None,
                object: None,
                expires_ms: None,
                expressions: Vec::new(),
            };
            return if search.set.flags.map { Err(End::Unknown(filled())) } else { Ok(Some(&FILLED)) };
        };
        if search.loses(element) && !self.perhaps(format!("an element of set {} that may be deleted or expire", search.set.name)) {
            return if search.grows && search.set.flags.map { Err(End::Unknown(filled())) } else { Ok(None) };
        }
        let mut registers = Registers::new();
        let Some(table) = at.content.rules.table(at.chain.table) else {
            return Ok(Some(element));
        };
        for expression in &element.expressions {
            if let Step::Break = self.expression(at, table, expression, &mut registers, skb)? {
                return Ok(None);
            }
        }
        Ok(Some(element))
    }

    fn search(&mut self, skb: &Skb, search: &'m SearchSet, key: &[Cell]) -> Option<&'m Element> {
        let fields: Vec<u32> = if search.set.fields.is_empty() { vec![search.set.key_len] } else { search.set.fields.clone() };
        if let (Some(field), Some(keys)) = (whole_field(key, skb.header.bits()), &search.keys) {
            let value = value_of(key);
            let bytes: Vec<u8> = key.iter().map(|cell| cell.value).collect();
            if keys.contains(value) {
                let element = element_for(&search.set.elements, &bytes)?;
                self.narrow(field, &Ranges::between(big_endian(element.from.as_slice()), big_endian(element.to.as_slice())));
                return Some(element);
            }
            self.exclude(field, keys);
            return search.catch_all.as_ref();
        }
        if key.iter().all(|cell| cell.origin == Origin::Fixed) && fields.len() == 1 {
            let bytes: Vec<u8> = key.iter().map(|cell| cell.value).collect();
            return element_for(&search.set.elements, &bytes).or(search.catch_all.as_ref());
        }
        for element in &search.set.elements {
            if self.element_matches(skb, &fields, key, element) {
                return Some(element);
            }
        }
        search.catch_all.as_ref()
    }

    fn element_matches(&mut self, skb: &Skb, fields: &[u32], key: &[Cell], element: &Element) -> bool {
        let mut start = 0;
        let parts: Vec<(usize, usize)> = fields
            .iter()
            .map(|len| {
                let len = usize::try_from(*len).unwrap_or(0);
                let part = (start, len);
                start += len.next_multiple_of(4);
                part
            })
            .collect();
        let slice = |bytes: &[u8], (start, len): (usize, usize)| -> Vec<u8> { bytes.iter().skip(start).take(len).copied().collect() };
        // First what needs no condition on the packet, so that a miss narrows as little as can be.
        let fixed = |part: (usize, usize)| key.iter().skip(part.0).take(part.1).all(|cell| cell.origin == Origin::Fixed);
        let (sure, open): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| fixed(*part));
        for part in sure.into_iter().chain(open) {
            let cells: Vec<Cell> = key.iter().skip(part.0).take(part.1).copied().collect();
            if !self.within(skb, &cells, &slice(element.from.as_slice(), part), &slice(element.to.as_slice(), part)) {
                return false;
            }
        }
        true
    }

    /// Bytes of a header; none: the expression breaks. `nft_payload_eval`.
    #[expect(clippy::too_many_arguments, reason = "what is asked, of whom, and where it is")]
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else there is goes the same way")]
    fn payload(&mut self, at: &At<'m>, skb: &Skb, base: PayloadBase, offset: u32, len: u32) -> Result<Option<Vec<Cell>>, End> {
        let (offset, len) = (usize::try_from(offset).unwrap_or(0), usize::try_from(len).unwrap_or(0));
        let hidden = is_hidden(at, skb);
        let bytes: Vec<Cell> = match base {
            PayloadBase::Network if hidden => return Ok(Some(vec![Cell::unknown(); len])),
            PayloadBase::Transport if hidden => return Ok(None),
            PayloadBase::Network if at.layer == Layer::Arp => return Ok(None),
            PayloadBase::Network => {
                let mut all = self.network_header(at, skb, offset);
                // Options and extension headers come before the transport's.
                if skb.headers == Headers::Usual {
                    all.extend(transport_header(skb));
                }
                all
            }
            // Whoever writes packets may have the rest of the header in another fragment.
            PayloadBase::Transport
                if offset + len > SMALLEST_FRAGMENT
                    && skb.headers == Headers::Forged
                    && may_be_fragment(at, skb)
                    && self.perhaps("a header in several fragments") =>
            {
                return Ok(None);
            }
            PayloadBase::Transport => transport_header(skb),
            PayloadBase::Link => match skb.frame {
                // What the host sends has no such header yet where the IP stack asks, and has one where its bridge does.
                Some(frame) if at.hook != Hook::Output || at.layer == Layer::Bridge => link_header(frame, skb.header.ipv4),
                _ => return Ok(None),
            },
            PayloadBase::Inner | PayloadBase::Tunnel => vec![Cell::unknown(); offset + len],
            PayloadBase::Other(number) => {
                return Err(End::Unknown(format!("payload base {number}")));
            }
        };
        let length = usize::from(skb.header.length.port());
        let network = if skb.header.ipv4 { 20 } else { 40 };
        let available = match base {
            PayloadBase::Network => length,
            PayloadBase::Transport => length.saturating_sub(network),
            _ => usize::MAX,
        };
        if offset + len > available {
            self.pin(skb.header.length);
            return Ok(None);
        }
        let rest = std::iter::repeat(Cell::unknown());
        Ok(Some(bytes.into_iter().chain(rest).skip(offset).take(len).collect()))
    }

    fn network_header(&mut self, at: &At<'m>, skb: &Skb, from: usize) -> Vec<Cell> {
        let header = &skb.header;
        let mut bytes = Vec::with_capacity(60);
        if header.ipv4 {
            bytes.push(if skb.headers > Headers::Usual { Cell { value: 0x45, origin: Origin::Unknown { mask: 0x0f } } } else { Cell::fixed(0x45) });
            bytes.extend(Cell::of_number(header.tos, 1));
            bytes.extend(Cell::of_number(header.length, 2));
            bytes.extend([Cell::unknown(), Cell::unknown()]);
            // Don't-fragment is the sender's choice; the rest says whether this is a whole packet.
            let (flags, offset) = if may_be_fragment(at, skb) { (0x7f, 0xff) } else { (0x40, 0) };
            bytes.extend([flags, offset].map(|mask| Cell { value: 0, origin: Origin::Unknown { mask } }));
            bytes.extend([Cell::unknown(), Cell::fixed(header.protocol), Cell::unknown(), Cell::unknown()]);
            bytes.extend(Cell::of_number(header.source, 4));
            bytes.extend(Cell::of_number(header.destination, 4));
        } else {
            // The class straddles two bytes: whoever reads them keeps to this one.
            if from < 2 {
                self.pin(header.tos);
            }
            let tos = header.tos.byte();
            let (class, label) = if header.tos.known { (Origin::Fixed, 0x0f) } else { (Origin::Unknown { mask: 0x0f }, 0xff) };
            bytes.push(Cell { value: 0x60 | tos >> 4, origin: class });
            bytes.push(Cell { value: tos << 4, origin: Origin::Unknown { mask: label } });
            bytes.extend([Cell::unknown(); 4]);
            // With extension headers, the first of them is named here.
            bytes.push(if skb.headers > Headers::Usual { Cell::unknown() } else { Cell::fixed(header.protocol) });
            bytes.push(Cell::unknown());
            bytes.extend(Cell::of_number(header.source, 16));
            bytes.extend(Cell::of_number(header.destination, 16));
        }
        bytes
    }

    fn payload_set(&mut self, skb: &mut Skb, base: PayloadBase, offset: u32, cells: &[Cell]) -> Result<(), End> {
        let (source, destination, size) = if skb.header.ipv4 { (12, 16, 4) } else { (8, 24, 16) };
        let len = u32::try_from(cells.len()).unwrap_or(0);
        let whole = |start: u32, size: u32| offset == start && len == size;
        let touches = |start: u32, size: u32| offset < start + size && start < offset + len;
        let fixed = cells.iter().all(|cell| cell.origin == Origin::Fixed);
        let value = Number::fixed(big_endian(&cells.iter().map(|cell| cell.value).collect::<Vec<u8>>()));
        match base {
            PayloadBase::Network if fixed && whole(source, size) => skb.header.source = value,
            PayloadBase::Network if fixed && whole(destination, size) => skb.header.destination = value,
            PayloadBase::Transport if fixed && whole(0, 2) => skb.header.source_port = value,
            PayloadBase::Transport if fixed && whole(2, 2) => skb.header.destination_port = value,
            PayloadBase::Network if touches(source, size) || touches(destination, size) || touches(0, 8) => {
                return Err(End::Unknown("a rule rewrites the IP header".to_owned()));
            }
            PayloadBase::Network | PayloadBase::Inner => {}
            PayloadBase::Transport if offset >= 16 => {}
            PayloadBase::Link | PayloadBase::Transport | PayloadBase::Tunnel | PayloadBase::Other(_) => {
                return Err(End::Unknown("a rule rewrites the packet".to_owned()));
            }
        }
        Ok(())
    }

    /// `nft_meta_get_eval`; none: the expression breaks.
    fn meta(&mut self, at: &At<'m>, skb: &Skb, key: MetaKey) -> Result<Option<Vec<Cell>>, End> {
        let little = self.model.little_endian;
        let word = |value: u32| Some(host_order(value, little));
        let byte = |value: u8| Some(vec![Cell::fixed(value)]);
        let name = |link: Option<&Link>| Some(padded_name(link.map_or("", |link| &link.name)));
        // `nft_meta_store_ifkind`: links that nobody has made have none.
        let kind = |link: &Link| link_kind(link).map(padded_name);
        Ok(match key {
            MetaKey::Len => {
                let mut cells: Vec<Cell> = Cell::of_number(skb.header.length, 4).collect();
                if little {
                    cells.reverse();
                }
                Some(cells)
            }
            MetaKey::Protocol if is_hidden(at, skb) => Some(PRIORITY_TAG.to_vec()),
            MetaKey::L4Proto if is_hidden(at, skb) => None,
            MetaKey::Protocol => Some(ether_type(skb.header.ipv4).map(Cell::fixed).to_vec()),
            MetaKey::Mark => Some(skb.mark.to_vec()),
            // `nft_meta_store_ifindex`: 0 without a link.
            MetaKey::Iif => word(at.iif.map_or(0, |link| link.index)),
            MetaKey::Oif => word(self.way_out(at).map_or(0, |link| link.index)),
            MetaKey::IifName => name(at.iif),
            MetaKey::OifName => name(self.way_out(at)),
            MetaKey::IifType => at.iif.map(|link| host_order_short(arphrd(link), little)),
            MetaKey::OifType => self.way_out(at).map(|link| host_order_short(arphrd(link), little)),
            MetaKey::IifGroup => at.iif.and_then(|link| word(link.group)),
            MetaKey::OifGroup => self.way_out(at).and_then(|link| word(link.group)),
            MetaKey::IifKind => at.iif.and_then(kind),
            MetaKey::OifKind => self.way_out(at).and_then(kind),
            MetaKey::Sdif | MetaKey::SdifName if at.iif.is_some_and(|link| is_of_vrf(at, link)) => {
                return Err(End::Unknown("which link of a VRF it came by".to_owned()));
            }
            MetaKey::SdifName => name(None),
            MetaKey::Sdif => word(0),
            MetaKey::NfProto => byte(if skb.header.ipv4 { 2 } else { 10 }),
            MetaKey::L4Proto => byte(skb.header.protocol),
            MetaKey::PktType => byte(packet_type(at, skb)),
            MetaKey::NfTrace => byte(0),
            MetaKey::SecPath => byte(0),
            MetaKey::BriIifName => name(at.iif.and_then(|link| link.master).and_then(|master| at.content.links.get(&master))),
            MetaKey::BriOifName => name(self.way_out(at).and_then(|link| link.master).and_then(|master| at.content.links.get(&master))),
            // The realm of a route, which is not read.
            MetaKey::RtClassId => Some(vec![Cell::unknown(); 4]),
            MetaKey::SkUid | MetaKey::SkGid | MetaKey::Cgroup if matches!(at.hook, Hook::Output | Hook::Postrouting) && at.iif.is_none() => {
                Some(vec![Cell::unknown(); 4])
            }
            // `udp_v4_early_demux`: a connected socket is found before INPUT.
            MetaKey::SkUid | MetaKey::SkGid | MetaKey::Cgroup => {
                self.may_have_socket(at, skb, "whether a connected socket waits for it").then(|| vec![Cell::unknown(); 4])
            }
            MetaKey::Priority | MetaKey::SecMark | MetaKey::Cpu | MetaKey::PRandom | MetaKey::TimeHour => Some(vec![Cell::unknown(); 4]),
            MetaKey::TimeNs => Some(vec![Cell::unknown(); 8]),
            MetaKey::TimeDay => Some(vec![Cell::unknown()]),
            MetaKey::BriIifPvid | MetaKey::BriIifVproto | MetaKey::BriBroute | MetaKey::BriIifHwAddr | MetaKey::Other(_) => {
                return Err(End::Unknown(format!("meta key {key:?}")));
            }
        })
    }

    /// Whether a packet that arrives has a socket when rules see it: only a datagram in INPUT may have one.
    pub(super) fn may_have_socket(&mut self, at: &At<'m>, skb: &Skb, why: &str) -> bool {
        at.hook == Hook::Input && matches!(skb.header.transport, Transport::Udp { .. }) && self.perhaps(why)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else there is goes the same way")]
    pub(super) fn meta_set(&mut self, skb: &mut Skb, key: MetaKey, cells: &[Cell]) -> Result<(), End> {
        match key {
            MetaKey::Mark => {
                for (slot, cell) in skb.mark.iter_mut().zip(cells) {
                    *slot = *cell;
                }
                Ok(())
            }
            MetaKey::Priority | MetaKey::NfTrace | MetaKey::SecMark => Ok(()),
            other => Err(End::Unknown(format!("a rule sets meta {other:?}"))),
        }
    }

    /// `nft_fib*_eval`.
    fn fib_expression(&mut self, at: &At<'m>, skb: &mut Skb, result: FibResult, flags: u32) -> Result<Option<Vec<Cell>>, End> {
        const SADDR: u32 = 1;
        const DADDR: u32 = 2;
        const MARK: u32 = 4;
        const IIF: u32 = 8;
        const OIF: u32 = 16;
        const PRESENT: u32 = 32;
        // For the reverse path, source and destination are exchanged; the link is only a hint to compare with.
        let header = if flags & SADDR != 0 { skb.header.reversed() } else { skb.header };
        let number = header.destination;
        let device = if flags & IIF != 0 {
            at.iif
        } else if flags & OIF != 0 {
            self.way_out(at)
        } else {
            None
        };
        if flags & (SADDR | DADDR) == 0 {
            return Err(End::Unknown("fib without an address".to_owned()));
        }
        let little = self.model.little_endian;
        // `nft_fib6_flowi_init`: a link-local address is looked for on its link only.
        let link_local = Ranges::between(0xfe80 << 112, (0xfec0 << 112) - 1);
        let strict = if !skb.header.ipv4 && self.test(number, &link_local) {
            device.or(at.iif).or_else(|| self.way_out(at)).map(|link| link.index)
        } else {
            None
        };
        if result == FibResult::AddressType {
            let kind = self.address_type(at.namespace, skb, number, device, strict)?;
            return Ok(Some(host_order(u32::from(kind), little)));
        }
        let mark = if flags & MARK != 0 { self.mark_value(skb)? } else { 0 };
        let ipv4 = skb.header.ipv4;
        let fib = if ipv4 { &at.content.fib4 } else { &at.content.fib6 };
        let (destination, source, tos) = (number.value, header.source.value, header.tos.byte());
        let key = Key { destination, source, iif: "lo", mark, tos, strict, ..Key::default() };
        let found = self.fib(fib, &key, &header);
        let looped = matches!(at.hook, Hook::Prerouting | Hook::Input | Hook::Ingress) && at.iif.is_some_and(|link| link.name == "lo");
        let oif = match found {
            // `nft_fib_can_skip`: what came by loopback is always found there.
            _ if looped => at.iif.map(|link| link.index),
            Found::Route { route, next_hops } if route.kind == crate::snapshot::RouteKind::Unicast => {
                let wanted = device.map(|link| link.index);
                match wanted {
                    Some(index) if next_hops.iter().any(|hop| hop.oif == Some(index)) => Some(index),
                    Some(_) => None,
                    None => next_hops.first().and_then(|hop| hop.oif),
                }
            }
            Found::Unknown(why) => return Err(End::Unknown(why)),
            Found::Route { .. } | Found::Refused(_) | Found::Nothing => None,
        };
        if flags & PRESENT != 0 {
            return Ok(Some(vec![Cell::fixed(u8::from(oif.is_some()))]));
        }
        Ok(Some(match result {
            FibResult::OifName => padded_name(oif.and_then(|index| at.content.links.get(&index)).map_or("", |link| &link.name)),
            FibResult::Oif | FibResult::AddressType => host_order(oif.unwrap_or(0), little),
        }))
    }

    /// What a translation finds in two registers. It may be of the packet itself: then the value is this packet's, and speaks for no other.
    fn addresses_in(&mut self, skb: &Skb, registers: &Registers, (from, to): (Register, Register)) -> Result<(u128, u128), End> {
        let len = if skb.header.ipv4 { 4 } else { 16 };
        Ok((self.settled(skb, registers.read(from, len))?, self.settled(skb, registers.read(to, len))?))
    }

    fn ports_in(&mut self, skb: &Skb, registers: &Registers, (from, to): (Register, Register)) -> Result<(u16, u16), End> {
        let mut port = |register: Register| self.settled(skb, registers.read(register, 2)).map(|value| Number::fixed(value).port());
        Ok((port(from)?, port(to)?))
    }

    /// The value of these bytes; keeps to packets that have the same.
    fn settled(&mut self, skb: &Skb, cells: &[Cell]) -> Result<u128, End> {
        if cells.iter().any(|cell| matches!(cell.origin, Origin::Unknown { .. })) {
            return Err(End::Unknown("translated to what is not followed".to_owned()));
        }
        self.pin_cells(skb, cells);
        Ok(value_of(cells))
    }

    pub(super) fn mark_value(&mut self, skb: &Skb) -> Result<u32, End> {
        let mark = skb.mark;
        self.pin_cells(skb, &mark);
        if mark.iter().any(|cell| matches!(cell.origin, Origin::Unknown { .. })) {
            return Err(End::Unknown("a mark that is not known".to_owned()));
        }
        let bytes = mark.map(|cell| cell.value);
        Ok(if self.model.little_endian { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    /// The mark that a route is looked up with: zero where no rule asks for it.
    pub(super) fn mark_of_route(&mut self, namespace: usize, skb: &Skb) -> Result<u32, End> {
        let content = self.model.namespace(namespace);
        let fib = if skb.header.ipv4 { &content.fib4 } else { &content.fib6 };
        if fib.looks_at_mark() { self.mark_value(skb) } else { Ok(0) }
    }

    pub(super) fn mark_cells(&self, mark: u32) -> [Cell; 4] {
        (if self.model.little_endian { mark.to_le_bytes() } else { mark.to_be_bytes() }).map(Cell::fixed)
    }

    /// `nft_ct_get_eval`; none: the expression breaks.
    fn ct(&mut self, at: &At<'m>, skb: &Skb, key: CtKey, direction: Option<Direction>) -> Result<Option<Vec<Cell>>, End> {
        let little = self.model.little_endian;
        let word = |value: u32| Some(host_order(value, little));
        if key == CtKey::State {
            return Ok(word(u32::from(self.state_bits(at.namespace, skb))));
        }
        let Some((connection, reply)) = self.connection(at.namespace, skb) else {
            return Ok(None);
        };
        let reply_direction = match direction {
            Some(Direction::Original) | None => false,
            Some(Direction::Reply) => true,
        };
        let tuple = if reply_direction { connection.reply } else { connection.original };
        let address = if skb.header.ipv4 { 4 } else { 16 };
        Ok(match key {
            CtKey::State => None,
            CtKey::Direction => Some(vec![Cell::fixed(u8::from(reply))]),
            CtKey::Status => word(connection.status()),
            CtKey::Mark => Some(connection.mark.to_vec()),
            CtKey::L3Protocol => Some(vec![Cell::fixed(if skb.header.ipv4 { 2 } else { 10 })]),
            CtKey::Protocol => Some(vec![Cell::fixed(skb.header.protocol)]),
            CtKey::Src | CtKey::SrcIp | CtKey::SrcIp6 => Some(Cell::of_number(tuple.source, address).collect()),
            CtKey::Dst | CtKey::DstIp | CtKey::DstIp6 => Some(Cell::of_number(tuple.destination, address).collect()),
            CtKey::ProtoSrc => Some(Cell::of_number(tuple.source_port, 2).collect()),
            CtKey::ProtoDst => Some(Cell::of_number(tuple.destination_port, 2).collect()),
            // That of the connection which announced this one; it may have none.
            CtKey::Helper => connection.expected.then(|| vec![Cell::unknown(); HELPER]),
            CtKey::Labels => Some(vec![if connection.labelled { Cell::unknown() } else { Cell::fixed(0) }; LABELS]),
            CtKey::Zone => Some(host_order_short(0, little)),
            CtKey::SecMark | CtKey::Expiration | CtKey::Pkts | CtKey::Bytes | CtKey::AvgPkt | CtKey::EventMask | CtKey::Id => {
                Some(vec![Cell::unknown(); 8])
            }
            CtKey::Other(number) => return Err(End::Unknown(format!("ct key {number}"))),
        })
    }
}

/// Whether rules may see fragments of a packet. `ip_local_deliver` puts IPv4 together before INPUT, `nf_defrag_ipv4` and `nf_defrag_ipv6` do before all
/// rules of the IP stack where connections are tracked.
fn may_be_fragment(at: &At<'_>, skb: &Skb) -> bool {
    let ipv4 = skb.header.ipv4;
    skb.headers > Headers::Usual
        && !(at.hook == Hook::Input && ipv4)
        && at.content.rules.table(at.chain.table).is_none_or(|table| !table.sees_whole(ipv4))
}

/// Whether rules see a frame in which they do not find the packet. `nft_do_chain_bridge`, `nft_do_chain_netdev`.
fn is_hidden(at: &At<'_>, skb: &Skb) -> bool {
    let behind = skb.frame.is_some_and(|frame| frame.tags.inner.is_some());
    (behind || skb.hidden == Some(true)) && (at.layer == Layer::Bridge || matches!(at.hook, Hook::Ingress | Hook::Egress))
}

/// `skb->pkt_type`: whom the frame is for, as seen by the link that took it. `eth_type_trans`, `br_handle_frame`.
pub(super) fn packet_type(at: &At<'_>, skb: &Skb) -> u8 {
    const HOST: u8 = 0;
    const BROADCAST: u8 = 1;
    const MULTICAST: u8 = 2;
    const OTHERHOST: u8 = 3;
    let Some(frame) = skb.frame else { return HOST };
    let bridged = at.layer == Layer::Bridge || matches!(at.hook, Hook::Ingress | Hook::Egress);
    let own = |link: &Link| link.mac.is_some() && link.mac == frame.destination;
    let came_by = at.iif.is_some_and(|link| own(link) || link.master.and_then(|master| at.content.links.get(&master)).is_some_and(own));
    match frame.destination {
        Some(Mac::BROADCAST) => BROADCAST,
        Some(mac) if mac.is_group() => MULTICAST,
        // br_netfilter shows rules of the IP stack all frames as its own.
        _ if !bridged => HOST,
        // It stays what it was, `br_nf_pre_routing_finish`.
        _ if skb.redirected => HOST,
        _ if at.iif.is_none() => {
            if skb.bridged {
                OTHERHOST
            } else {
                HOST
            }
        }
        _ if came_by => HOST,
        _ => OTHERHOST,
    }
}

fn is_of_vrf(at: &At<'_>, link: &Link) -> bool {
    let vrf = |link: &Link| matches!(link.kind, crate::snapshot::LinkKind::Vrf { .. });
    vrf(link) || link.master.and_then(|master| at.content.links.get(&master)).is_some_and(vrf)
}

fn value_of(cells: &[Cell]) -> u128 {
    cells.iter().fold(0, |sum, cell| sum << 8 | u128::from(cell.value))
}

/// The field that these bytes are all of, in order and unchanged.
fn whole_field(cells: &[Cell], bits: u32) -> Option<Variable> {
    let Origin::Of { field, .. } = cells.first()?.origin else {
        return None;
    };
    let bytes = width(field, bits) / 8;
    let in_order = cells
        .iter()
        .zip((0..bytes).rev())
        .all(|(cell, want)| matches!(cell.origin, Origin::Of { field: own, byte, mask: 0xff, xor: 0 } if own == field && u32::from(byte) == want));
    (in_order && u32::try_from(cells.len()) == Ok(bytes)).then_some(field)
}

/// Bits of a variable, where addresses have so many.
const fn width(variable: Variable, bits: u32) -> u32 {
    match variable {
        Variable::Address | Variable::Sent(Field::Source | Field::Destination) => bits,
        Variable::Port | Variable::Sent(Field::SourcePort | Field::DestinationPort | Field::Length) => 16,
        Variable::Sent(Field::Tos | Field::Ttl) => 8,
    }
}

/// The numbers of so many bits that have these under a mask; none when they are too many ranges.
pub(super) fn masked(mask: u128, wanted: u128, width: u32) -> Option<Ranges> {
    /// Bits that a mask leaves out above the lowest one that it has: as many as a port can have.
    const MOST_HOLES: u32 = 15;
    let free = !mask & (u128::MAX >> (128 - width.clamp(1, 128)));
    let low = (1_u128.checked_shl(mask.trailing_zeros()).unwrap_or(0)).wrapping_sub(1) & free;
    let holes = free & !low;
    if holes.count_ones() > MOST_HOLES {
        return None;
    }
    // Every subset of the holes, ascending.
    let subsets = std::iter::successors(Some(0_u128), |subset| Some(subset.wrapping_sub(holes) & holes).filter(|next| *next != 0));
    Some(Ranges::union_of(subsets.map(|subset| (wanted | subset, wanted | subset | low))))
}

pub(super) fn big_endian(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}

fn element_for<'a>(elements: &'a [Element], key: &[u8]) -> Option<&'a Element> {
    let after = elements.partition_point(|element| element.from.as_slice() <= key);
    elements.get(after.checked_sub(1)?).filter(|element| key <= element.to.as_slice())
}

fn shift_words(bytes: &[u8], bits: u32, left: bool, little: bool) -> Vec<u8> {
    // Words are in host order; the carry runs from the last word to the first (left), or the other way.
    let read = |word: &[u8]| word.try_into().map_or(0, |word: [u8; 4]| if little { u32::from_le_bytes(word) } else { u32::from_be_bytes(word) });
    let mut words: Vec<u32> = bytes.chunks(4).map(read).collect();
    let mut carry = 0;
    if left {
        for word in words.iter_mut().rev() {
            let next = word.checked_shr(32 - bits).unwrap_or(0);
            *word = word.checked_shl(bits).unwrap_or(0) | carry;
            carry = next;
        }
    } else {
        for word in &mut words {
            let next = word.checked_shl(32 - bits).unwrap_or(0);
            *word = carry | word.checked_shr(bits).unwrap_or(0);
            carry = next;
        }
    }
    words.into_iter().flat_map(|word| if little { word.to_le_bytes() } else { word.to_be_bytes() }).collect()
}

fn transport_header(skb: &Skb) -> Vec<Cell> {
    let header = &skb.header;
    let ports = || Cell::of_number(header.source_port, 2).chain(Cell::of_number(header.destination_port, 2));
    match header.transport {
        Transport::Tcp { flags, .. } => {
            let mut bytes: Vec<Cell> = ports().collect();
            bytes.extend([Cell::unknown(); 9]);
            bytes.push(if skb.headers == Headers::Forged {
                Cell { value: flags, origin: Origin::Unknown { mask: BESIDES_SYN } }
            } else {
                Cell::fixed(flags)
            });
            bytes
        }
        Transport::Udp { .. } => ports().collect(),
        Transport::Icmp { kind, code, id } | Transport::Icmpv6 { kind, code, id } => {
            let mut bytes = vec![Cell::fixed(kind), Cell::fixed(code), Cell::unknown(), Cell::unknown()];
            bytes.extend(id.to_be_bytes().map(|byte| Cell { value: byte, origin: Origin::Unknown { mask: 0xff } }));
            bytes
        }
    }
}

fn link_header(frame: Frame, ipv4: bool) -> Vec<Cell> {
    let mut bytes = Vec::with_capacity(14);
    for address in [frame.destination, frame.source] {
        match address {
            Some(mac) => bytes.extend(mac.0.map(Cell::fixed)),
            None => bytes.extend([Cell::unknown(); 6]),
        }
    }
    for id in frame.tags.iter() {
        let [high, low] = id.to_be_bytes();
        // A priority tag may be of either kind; priority and drop eligibility are the sender's choice.
        bytes.extend(if id == 0 { PRIORITY_TAG } else { [Cell::fixed(0x81), Cell::fixed(0)] });
        bytes.extend([Cell { value: high & 0x0f, origin: Origin::Unknown { mask: 0xf0 } }, Cell::fixed(low)]);
    }
    bytes.extend(ether_type(ipv4).map(Cell::fixed));
    bytes
}

/// The Ethernet type of a priority tag: 802.1Q's or 802.1ad's.
const PRIORITY_TAG: [Cell; 2] =
    [Cell { value: 0x81, origin: Origin::Unknown { mask: 0x09 } }, Cell { value: 0x00, origin: Origin::Unknown { mask: 0xa8 } }];

const fn ether_type(ipv4: bool) -> [u8; 2] {
    if ipv4 { [0x08, 0x00] } else { [0x86, 0xdd] }
}

pub(super) fn host_order(value: u32, little: bool) -> Vec<Cell> {
    (if little { value.to_le_bytes() } else { value.to_be_bytes() }).map(Cell::fixed).to_vec()
}

fn host_order_short(value: u16, little: bool) -> Vec<Cell> {
    (if little { value.to_le_bytes() } else { value.to_be_bytes() }).map(Cell::fixed).to_vec()
}

fn padded_name(name: &str) -> Vec<Cell> {
    let zeros = std::iter::repeat(0);
    name.bytes().chain(zeros).take(IFNAMSIZ).map(Cell::fixed).collect()
}

#[expect(clippy::wildcard_enum_match_arm, reason = "whatever else there is goes the same way")]
const fn arphrd(link: &Link) -> u16 {
    match link.kind {
        crate::snapshot::LinkKind::Loopback => 772,
        crate::snapshot::LinkKind::Tun => 65534,
        _ => 1,
    }
}

fn link_kind(link: &Link) -> Option<&str> {
    use crate::snapshot::LinkKind;
    Some(match &link.kind {
        LinkKind::Bridge(_) => "bridge",
        LinkKind::Dummy => "dummy",
        LinkKind::Ipvlan { .. } => "ipvlan",
        LinkKind::Macvlan { .. } => "macvlan",
        LinkKind::Tun => "tun",
        LinkKind::Veth => "veth",
        LinkKind::Vlan { .. } => "vlan",
        LinkKind::Vrf { .. } => "vrf",
        LinkKind::Vxlan { .. } => "vxlan",
        LinkKind::Loopback | LinkKind::Physical => return None,
        LinkKind::Other(name) => name,
    })
}
