//! What rules ask for first, so that a packet meets only those that can match it.
//!
//! Most rules of a large host begin with a link, an address or a port that is not the packet's. These first comparisons are kept
//! beside the bytecode as guards. A [`super::dispatch::Dispatch`] finds by them the rules that a packet can meet in a chain, and the
//! packets that meet rules of the same shape. This changes nothing about what a chain says: the instructions after the guards are
//! run as they are.

use std::collections::BTreeMap;

use crate::model::fib::number;
use crate::snapshot::{
    Chain, CmpOperation, Data, Expression, Match, MetaKey, NatKind, NatRange, PayloadBase, PortMatch, PortRange, Register, Target,
};

/// A comparison that must hold for a rule to match.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Guard {
    Address {
        source: bool,
        ipv4: bool,
        value: u128,
        is: bool,
    },
    Family {
        ipv4: bool,
        is: bool,
    },
    /// The link by which the packet comes, or goes out; none when no link of the namespace has the name.
    Link {
        out: bool,
        index: Option<u32>,
        is: bool,
    },
    Port {
        source: bool,
        port: u16,
        is: bool,
    },
    /// A byte that only an IPv4 header has there, or the protocol of either.
    Protocol {
        number: u8,
        ipv4_only: bool,
        is: bool,
    },
}

/// What rules are found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Destination { ipv4: bool },
    DestinationPort,
    Out,
}

/// The beginning of a rule.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) guards: Vec<Guard>,
    /// Where the instructions after the guards begin; 0 when these need what was loaded for the guards.
    pub(crate) rest: usize,
    /// Where the rest sends the packet, when it does nothing but translate its destination to one address and port.
    pub(crate) translation: Option<(u128, u16)>,
    /// The guard that it is found by: when the way out is known, and while it is not.
    found_by: [Option<(Key, u128)>; 2],
}

/// A comparison that is decided before a chain begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Early {
    Family { ipv4: bool, is: bool },
    Link { out: bool, index: Option<u32>, is: bool },
    Protocol { number: u8, ipv4_only: bool, is: bool },
}

/// The heads of a chain.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shortcuts {
    heads: Vec<Head>,
    /// What rules ask for that is decided before the chain begins: many ask for the same.
    early: Vec<Vec<Early>>,
    /// For each rule, which of these it asks for, and what it is found by. As above.
    rules: Vec<(usize, [Option<Key>; 2])>,
    /// Rules of the same shape differ only in the value they are found by; those found by a port, in the target of a translation too.
    /// As above.
    shapes: [Vec<u32>; 2],
    /// Rules by what they are found by, and in their order. As above.
    by_key: [Vec<(Key, u128, u32)>; 2],
}

impl Shortcuts {
    /// `links` are the names of the namespace's links.
    pub(crate) fn new(chain: &Chain, links: &BTreeMap<String, u32>) -> Self {
        let mut shapes: BTreeMap<Shape<'_>, u32> = BTreeMap::new();
        let parsed: Vec<(Vec<Guard>, usize)> = chain.rules.iter().map(|rule| guards(&rule.expressions, links)).collect();
        let mut heads = Vec::with_capacity(parsed.len());
        let (mut early, mut rules) = (BTreeMap::new(), Vec::with_capacity(parsed.len()));
        let (mut shapes_known, mut shapes_open) = (Vec::with_capacity(parsed.len()), Vec::with_capacity(parsed.len()));
        for (rule, (guards, rest)) in chain.rules.iter().zip(&parsed) {
            let after = rule.expressions.get(*rest..).unwrap_or_default();
            let translation = translation(after);
            let found_by = [find_by(guards, false), find_by(guards, true)];
            let mut shape = |open: bool, found: Option<(Key, u128)>| {
                let remaining =
                    guards.iter().filter(|guard| guard.depends(open) && found.is_none_or(|found| guard.found(open) != Some(found))).collect();
                let next = u32::try_from(shapes.len()).unwrap_or(u32::MAX);
                let shape = match (found, translation) {
                    (Some((Key::DestinationPort, _)), Some((_, ipv4))) => (remaining, Some(ipv4), [].as_slice()),
                    _ => (remaining, None, after),
                };
                *shapes.entry(shape).or_insert(next)
            };
            let [known, open] = found_by;
            shapes_known.push(shape(false, known));
            shapes_open.push(shape(true, open));
            let next = early.len();
            let asks = *early.entry(guards.iter().filter_map(Guard::early).collect::<Vec<_>>()).or_insert(next);
            rules.push((asks, found_by.map(|found| found.map(|(key, _)| key))));
            heads.push(Head { guards: guards.clone(), rest: *rest, translation: translation.map(|(to, _)| to), found_by });
        }
        let sorted = |open: usize| {
            let with = |(index, head): (usize, &Head)| {
                let (key, value) = head.found_by.get(open).copied().flatten()?;
                Some((key, value, u32::try_from(index).ok()?))
            };
            let mut by_key: Vec<(Key, u128, u32)> = heads.iter().enumerate().filter_map(with).collect();
            by_key.sort_unstable();
            by_key
        };
        let by_key = [sorted(0), sorted(1)];
        let mut early: Vec<(Vec<Early>, usize)> = early.into_iter().collect();
        early.sort_by_key(|(_, place)| *place);
        let early = early.into_iter().map(|(asks, _)| asks).collect();
        Self { heads, early, rules, shapes: [shapes_known, shapes_open], by_key }
    }

    pub(crate) fn heads(&self) -> &[Head] {
        &self.heads
    }

    /// What rules ask for that is decided before the chain begins.
    pub(crate) fn early(&self) -> &[Vec<Early>] {
        &self.early
    }

    /// For each rule, which of [`Self::early`] it asks for, and what it is found by.
    pub(crate) fn rules(&self, open: bool) -> impl Iterator<Item = (usize, Option<Key>)> {
        self.rules.iter().map(move |(asks, [known, unknown])| (*asks, if open { *unknown } else { *known }))
    }

    /// For each rule, its shape.
    pub(crate) fn shapes(&self, open: bool) -> &[u32] {
        let [known, unknown] = &self.shapes;
        if open { unknown } else { known }
    }

    pub(crate) fn head(&self, rule: usize) -> Option<&Head> {
        self.heads.get(rule)
    }

    /// Rules that are found by something, in the order of it and then their own.
    pub(crate) fn by_key(&self, open: bool) -> &[(Key, u128, u32)] {
        let [known, unknown] = &self.by_key;
        if open { unknown } else { known }
    }
}

/// Guards besides the one that a rule is found by, the family of a translation, and what comes after the guards.
type Shape<'c> = (Vec<&'c Guard>, Option<bool>, &'c [Expression]);

impl Head {
    pub(crate) fn found_by(&self, open: bool) -> Option<(Key, u128)> {
        let [known, unknown] = self.found_by;
        if open { unknown } else { known }
    }
}

impl Guard {
    const fn early(&self) -> Option<Early> {
        match *self {
            Self::Address { .. } | Self::Port { .. } => None,
            Self::Family { ipv4, is } => Some(Early::Family { ipv4, is }),
            Self::Link { out, index, is } => Some(Early::Link { out, index, is }),
            Self::Protocol { number, ipv4_only, is } => Some(Early::Protocol { number, ipv4_only, is }),
        }
    }

    /// Whether it depends on what the sender chose, or on the way out while that is open.
    const fn depends(&self, open: bool) -> bool {
        match self {
            Self::Address { .. } | Self::Port { .. } => true,
            Self::Link { out, .. } => *out && open,
            Self::Family { .. } | Self::Protocol { .. } => false,
        }
    }

    /// What a rule with this guard can be found by.
    pub(crate) fn found(&self, open: bool) -> Option<(Key, u128)> {
        match self {
            Self::Address { source: false, ipv4, value, is: true } => Some((Key::Destination { ipv4: *ipv4 }, *value)),
            Self::Port { source: false, port, is: true } => Some((Key::DestinationPort, u128::from(*port))),
            Self::Link { out: true, index: Some(index), is: true } if open => Some((Key::Out, u128::from(*index))),
            Self::Address { .. } | Self::Family { .. } | Self::Link { .. } | Self::Port { .. } | Self::Protocol { .. } => None,
        }
    }
}

/// The most telling guard.
fn find_by(guards: &[Guard], open: bool) -> Option<(Key, u128)> {
    guards.iter().filter_map(|guard| guard.found(open)).min_by_key(|(key, _)| *key)
}

/// What is in a register.
#[derive(Clone, Copy)]
enum Loaded {
    Address { source: bool, ipv4: bool },
    Family,
    Link { out: bool },
    Port { source: bool },
    Protocol { ipv4_only: bool },
}

/// The comparisons that a rule begins with, and where what comes after them begins.
#[expect(clippy::wildcard_enum_match_arm, reason = "whatever else there is ends the guards")]
fn guards(expressions: &[Expression], links: &BTreeMap<String, u32>) -> (Vec<Guard>, usize) {
    let mut guards = Vec::new();
    let mut loaded: Option<(Register, Loaded)> = None;
    let mut registers = Vec::new();
    // A load that no guard has used belongs to what comes after.
    let mut rest = 0;
    for (place, expression) in expressions.iter().enumerate() {
        match expression {
            Expression::Payload { into, base, offset, len } => {
                loaded = payload(*base, *offset, *len).map(|what| (*into, what));
                registers.push(*into);
            }
            Expression::Meta { into, key } => {
                loaded = meta(*key).map(|what| (*into, what));
                registers.push(*into);
            }
            Expression::Cmp { source, operation: operation @ (CmpOperation::Eq | CmpOperation::Neq), value } => {
                let what = loaded.filter(|(register, _)| register == source).map(|(_, what)| what);
                let Some(guard) = what.and_then(|what| guard(what, value.as_slice(), *operation == CmpOperation::Eq, links)) else { break };
                guards.push(guard);
                rest = place + 1;
                continue;
            }
            Expression::Counter | Expression::Match(Match::Comment(_)) => {
                if loaded.is_none() || rest == place {
                    rest = place + 1;
                }
                continue;
            }
            Expression::Match(Match::Tcp { ports, flags: None, option: 0, .. }) if guards_of(ports, 6).is_some() && rest == place => {
                guards.extend(guards_of(ports, 6).into_iter().flatten());
                rest = place + 1;
                continue;
            }
            Expression::Match(Match::Udp(ports)) if guards_of(ports, 17).is_some() && rest == place => {
                guards.extend(guards_of(ports, 17).into_iter().flatten());
                rest = place + 1;
                continue;
            }
            _ => break,
        }
        if loaded.is_none() {
            break;
        }
    }
    let after = expressions.get(rest..).unwrap_or_default();
    if !needs_none(after, &registers) {
        rest = 0;
    }
    (guards, rest)
}

/// `-m tcp --dport 80` or nothing at all, as guards.
fn guards_of(ports: &PortMatch, protocol: u8) -> Option<Vec<Guard>> {
    const ALL: PortRange = PortRange { first: 0, last: 65535 };
    let mut guards = vec![Guard::Protocol { number: protocol, ipv4_only: false, is: true }];
    for (range, invert, source) in [(ports.source, ports.invert_source, true), (ports.destination, ports.invert_destination, false)] {
        if range == ALL && !invert {
            continue;
        }
        if range.first != range.last {
            return None;
        }
        guards.push(Guard::Port { source, port: range.first, is: !invert });
    }
    Some(guards)
}

/// Whether instructions read none of these registers before they write them. What is not known to be so is not.
#[expect(clippy::wildcard_enum_match_arm, reason = "whatever else there is may read anything")]
fn needs_none(expressions: &[Expression], registers: &[Register]) -> bool {
    const QUARTER: u8 = 4;
    let mut left: Vec<Register> = registers.to_vec();
    for expression in expressions {
        match expression {
            Expression::Payload { into, .. }
            | Expression::Meta { into, .. }
            | Expression::Ct { into, .. }
            | Expression::Fib { into, .. }
            | Expression::Immediate { into: Some(into), .. } => left.retain(|register| register != into),
            Expression::Cmp { source, .. }
            | Expression::Range { source, .. }
            | Expression::MetaSet { source, .. }
            | Expression::CtSet { source, .. }
            | Expression::Bitwise { source, operation: crate::snapshot::BitOperation::Mask { .. }, .. }
            | Expression::Byteorder { source, .. } => {
                // A value is of at most sixteen bytes.
                if left.iter().any(|register| (source.0..source.0.saturating_add(QUARTER)).contains(&register.0)) {
                    return false;
                }
            }
            Expression::Lookup { source, .. } if left.iter().all(|register| register < source) => {}
            Expression::Nat { addresses, ports, .. } => {
                let read = addresses.iter().chain(ports).flat_map(|(from, to)| [from, to]);
                if read.into_iter().any(|register| left.contains(register)) {
                    return false;
                }
            }
            Expression::Masq { ports: None, .. } | Expression::Redir { ports: None, .. } => {}
            Expression::Counter
            | Expression::Last
            | Expression::Log { .. }
            | Expression::Immediate { into: None, .. }
            | Expression::Match(_)
            | Expression::Target(_)
            | Expression::Reject { .. }
            | Expression::Limit { .. }
            | Expression::Quota { .. }
            | Expression::Connlimit { .. }
            | Expression::Notrack
            | Expression::Queue => {}
            _ => return false,
        }
    }
    true
}

/// The one address and port that instructions translate the destination to, and its family, when they do nothing else.
#[expect(clippy::wildcard_enum_match_arm, reason = "whatever else there is does something else")]
fn translation(expressions: &[Expression]) -> Option<((u128, u16), bool)> {
    const PLAIN: u32 = 1 | 2 | 8;
    let does = |expression: &&Expression| !matches!(expression, Expression::Counter);
    let mut left = expressions.iter().filter(does);
    let found = match left.next()? {
        Expression::Target(Target::Dnat(NatRange { flags, addresses: Some((from, to)), ports: Some(ports) }))
            if from == to && ports.first == ports.last && flags & !PLAIN == 0 =>
        {
            ((number(*from), ports.first), from.is_ipv4())
        }
        Expression::Immediate { into: Some(first), data: Data::Value(address) } => {
            let Expression::Immediate { into: Some(second), data: Data::Value(port) } = left.next()? else { return None };
            let Expression::Nat { kind: NatKind::Dnat, addresses: Some(addresses), ports: Some(ports), flags, .. } = left.next()? else {
                return None;
            };
            let [high, low] = port.as_slice() else { return None };
            let ipv4 = address.as_slice().len() == 4;
            if *addresses != (*first, *first) || *ports != (*second, *second) || flags & !PLAIN != 0 || !(ipv4 || address.as_slice().len() == 16) {
                return None;
            }
            ((big_endian(address.as_slice()), u16::from_be_bytes([*high, *low])), ipv4)
        }
        _ => return None,
    };
    left.next().is_none().then_some(found)
}

const fn payload(base: PayloadBase, offset: u32, len: u32) -> Option<Loaded> {
    Some(match (base, offset, len) {
        (PayloadBase::Network, 9, 1) => Loaded::Protocol { ipv4_only: true },
        (PayloadBase::Network, 12, 4) => Loaded::Address { source: true, ipv4: true },
        (PayloadBase::Network, 16, 4) => Loaded::Address { source: false, ipv4: true },
        (PayloadBase::Network, 8, 16) => Loaded::Address { source: true, ipv4: false },
        (PayloadBase::Network, 24, 16) => Loaded::Address { source: false, ipv4: false },
        (PayloadBase::Transport, 0, 2) => Loaded::Port { source: true },
        (PayloadBase::Transport, 2, 2) => Loaded::Port { source: false },
        _ => return None,
    })
}

#[expect(clippy::wildcard_enum_match_arm, reason = "whatever else there is goes the same way")]
const fn meta(key: MetaKey) -> Option<Loaded> {
    Some(match key {
        MetaKey::IifName => Loaded::Link { out: false },
        MetaKey::OifName => Loaded::Link { out: true },
        MetaKey::L4Proto => Loaded::Protocol { ipv4_only: false },
        MetaKey::NfProto => Loaded::Family,
        _ => return None,
    })
}

fn guard(what: Loaded, value: &[u8], is: bool, links: &BTreeMap<String, u32>) -> Option<Guard> {
    match (what, value) {
        (Loaded::Address { source, ipv4 }, _) if value.len() == if ipv4 { 4 } else { 16 } => {
            Some(Guard::Address { source, ipv4, value: big_endian(value), is })
        }
        (Loaded::Port { source }, [high, low]) => Some(Guard::Port { source, port: u16::from_be_bytes([*high, *low]), is }),
        (Loaded::Protocol { ipv4_only }, [number]) => Some(Guard::Protocol { number: *number, ipv4_only, is }),
        (Loaded::Family, [2]) => Some(Guard::Family { ipv4: true, is }),
        (Loaded::Family, [10]) => Some(Guard::Family { ipv4: false, is }),
        (Loaded::Link { out }, _) => {
            // Without its end it would be the beginning of a name.
            let end = value.iter().position(|byte| *byte == 0).filter(|end| *end > 0)?;
            let name = std::str::from_utf8(value.get(..end)?).ok()?;
            let padded = value.iter().skip(end).all(|byte| *byte == 0);
            padded.then(|| Guard::Link { out, index: links.get(name).copied(), is })
        }
        _ => None,
    }
}

fn big_endian(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}
