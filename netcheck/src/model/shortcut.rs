//! Ways to pass over rules that cannot match, without running them.
//!
//! Most rules of a large host begin with a link, an address or a port that is not the packet's. Their first comparisons are kept
//! beside the bytecode; where many rules of a chain begin with different addresses or ports, an index finds those of the packet's.
//! This changes nothing about what a chain says: a rule that is not passed over is run as it is.

use std::collections::BTreeMap;

use crate::snapshot::{Chain, CmpOperation, Expression, MetaKey, PayloadBase, Register};
use crate::space::Ranges;

/// The shortcuts of one chain.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shortcuts {
    guards: Vec<Vec<Guard>>,
    index: Option<Index>,
}

/// A comparison that must hold for a rule to match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Guard {
    Address { source: bool, ipv4: bool, value: u128, is: bool },
    Iif { name: String, is: bool },
    Oif { name: String, is: bool },
    Port { source: bool, port: u16, is: bool },
    Protocol { number: u8, is: bool },
}

/// Rules by what they compare with.
#[derive(Debug, Clone)]
pub(crate) struct Index {
    pub(crate) key: IndexKey,
    /// Every value that some rule compares with.
    pub(crate) keys: Ranges,
    by_value: BTreeMap<u128, Vec<usize>>,
    /// Rules that do not compare it.
    others: Vec<usize>,
}

/// What an index is by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IndexKey {
    Destination { ipv4: bool },
    DestinationPort,
}

impl Shortcuts {
    pub(crate) fn new(chain: &Chain) -> Self {
        let guards: Vec<Vec<Guard>> = chain.rules.iter().map(|rule| guards(&rule.expressions)).collect();
        let keys = [IndexKey::Destination { ipv4: true }, IndexKey::Destination { ipv4: false }, IndexKey::DestinationPort];
        let index = keys.into_iter().find_map(|key| Index::new(key, &guards));
        Self { guards, index }
    }

    pub(crate) fn of(&self, rule: usize) -> &[Guard] {
        self.guards.get(rule).map_or(&[], Vec::as_slice)
    }

    pub(crate) const fn index(&self) -> Option<&Index> {
        self.index.as_ref()
    }
}

impl Index {
    /// An index, if enough rules have something to be found by.
    fn new(key: IndexKey, guards: &[Vec<Guard>]) -> Option<Self> {
        const WORTH_IT: usize = 8;
        let mut index = Self { key, keys: Ranges::empty(), by_value: BTreeMap::new(), others: Vec::new() };
        for (rule, guards) in guards.iter().enumerate() {
            match guards.iter().find_map(|guard| value_for(key, guard)) {
                Some(value) => index.by_value.entry(value).or_default().push(rule),
                None => index.others.push(rule),
            }
        }
        index.keys = Ranges::union_of(index.by_value.keys().map(|value| (*value, *value)));
        (index.by_value.len() >= WORTH_IT).then_some(index)
    }

    pub(crate) fn has(&self, value: u128) -> bool {
        self.by_value.contains_key(&value)
    }

    /// Rules that may match a packet with this value, in their order.
    pub(crate) fn rules(&self, value: u128) -> Vec<usize> {
        let mut rules: Vec<usize> = self.by_value.get(&value).into_iter().flatten().chain(&self.others).copied().collect();
        rules.sort_unstable();
        rules
    }
}

fn value_for(key: IndexKey, guard: &Guard) -> Option<u128> {
    match (key, guard) {
        (IndexKey::Destination { ipv4: wanted }, Guard::Address { source: false, ipv4, value, is: true }) if *ipv4 == wanted => Some(*value),
        (IndexKey::DestinationPort, Guard::Port { source: false, port, is: true }) => Some(u128::from(*port)),
        _ => None,
    }
}

/// What is in a register.
#[derive(Clone, Copy)]
enum Loaded {
    Address { source: bool, ipv4: bool },
    Iif,
    Oif,
    Port { source: bool },
    Protocol,
}

/// The comparisons before anything that has an effect.
#[expect(clippy::wildcard_enum_match_arm, reason = "whatever else there is goes the same way")]
fn guards(expressions: &[Expression]) -> Vec<Guard> {
    let mut guards = Vec::new();
    let mut loaded: Option<(Register, Loaded)> = None;
    for expression in expressions {
        match expression {
            Expression::Payload { into, base, offset, len } => loaded = payload(*base, *offset, *len).map(|what| (*into, what)),
            Expression::Meta { into, key } => loaded = meta(*key).map(|what| (*into, what)),
            Expression::Cmp { source, operation, value } => {
                let is = match operation {
                    CmpOperation::Eq => true,
                    CmpOperation::Neq => false,
                    CmpOperation::Gt | CmpOperation::Gte | CmpOperation::Lt | CmpOperation::Lte => {
                        continue;
                    }
                };
                if let Some((register, what)) = loaded
                    && register == *source
                {
                    guards.extend(guard(what, value.as_slice(), is));
                }
            }
            Expression::Counter | Expression::Match(_) => {}
            Expression::Bitwise { .. } | Expression::Byteorder { .. } | Expression::Ct { .. } | Expression::Fib { .. } => loaded = None,
            _ => return guards,
        }
    }
    guards
}

const fn payload(base: PayloadBase, offset: u32, len: u32) -> Option<Loaded> {
    Some(match (base, offset, len) {
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
        MetaKey::IifName => Loaded::Iif,
        MetaKey::OifName => Loaded::Oif,
        MetaKey::L4Proto => Loaded::Protocol,
        _ => return None,
    })
}

fn guard(what: Loaded, value: &[u8], is: bool) -> Option<Guard> {
    let number = value.iter().fold(0_u128, |sum, byte| sum << 8 | u128::from(*byte));
    match (what, value.len()) {
        (Loaded::Address { source, ipv4 }, 4 | 16) if (value.len() == 4) == ipv4 => Some(Guard::Address { source, ipv4, value: number, is }),
        (Loaded::Port { source }, 2) => Some(Guard::Port { source, port: u16::try_from(number).ok()?, is }),
        (Loaded::Protocol, 1) => Some(Guard::Protocol { number: u8::try_from(number).ok()?, is }),
        (Loaded::Iif | Loaded::Oif, 16) => {
            let end = value.iter().position(|byte| *byte == 0)?;
            let name = String::from_utf8(value.get(..end)?.to_vec()).ok()?;
            Some(if matches!(what, Loaded::Iif) { Guard::Iif { name, is } } else { Guard::Oif { name, is } })
        }
        _ => None,
    }
}
