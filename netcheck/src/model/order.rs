//! In which order chains of equal priority run.
//!
//! The kernel puts what is hooked before what was hooked earlier with the same priority (`nf_hook_entries_grow` in `net/netfilter/core.c`), and a
//! snapshot does not say when something was hooked: a table may be older than another one and its chain newer. Chains of one table are told by their
//! numbers, whose order is that of their making. So all orders are kept that may be, and that make a difference: rules which do no more than to
//! drop packets say the same in any order, but one that gives a mark and one that asks for it do not.

use std::collections::BTreeMap;
use std::ops::{BitOr, BitOrAssign};

use super::netfilter::{EXPECTATION, HELPER};
use crate::snapshot::{Chain, ChainKind, CtKey, Data, Expression, Match, MetaKey, PayloadBase, Policy, Set, Table, Target, Verdict};

/// What runs at one place, in each order that it may run in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orders<T> {
    /// The likeliest first; that alone when they are too many.
    orders: Vec<Vec<T>>,
    complete: bool,
}

/// Something that is hooked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hooking<T> {
    pub(super) priority: i32,
    /// The table of which it is, where that says when it was hooked: later ones of a table come after earlier ones.
    pub(super) table: Option<usize>,
    pub(super) what: T,
}

/// Orders that are told apart.
const MOST_ORDERS: usize = 24;
/// So many steps are made to find them.
const MOST_STEPS: usize = 4096;

impl<T: Copy> Orders<T> {
    /// `hooked` is in the likeliest order, but for its priorities.
    pub(super) fn new(mut hooked: Vec<Hooking<T>>, effects: impl Fn(T) -> Effects) -> Self {
        hooked.sort_by_key(|one| one.priority);
        let mut orders = vec![Vec::with_capacity(hooked.len())];
        for equals in hooked.chunk_by(|left, right| left.priority == right.priority) {
            let ways = if equals.len() == 1 { Some(vec![vec![0]]) } else { Equals::new(equals, &effects).ways() };
            let what = |place: &usize| equals.get(*place).map(|one| one.what);
            let ways: Vec<Vec<T>> = ways.unwrap_or_default().iter().map(|way| way.iter().filter_map(what).collect()).collect();
            orders = orders.iter().flat_map(|order| ways.iter().map(|way| [order.as_slice(), way].concat())).collect();
            if orders.is_empty() || orders.len() > MOST_ORDERS {
                return Self { orders: vec![hooked.iter().map(|one| one.what).collect()], complete: false };
            }
        }
        Self { orders, complete: true }
    }

    /// How many there are; none when they are too many to tell.
    #[must_use]
    pub fn count(&self) -> Option<usize> {
        self.complete.then_some(self.orders.len())
    }

    /// One of them; the first is the likeliest.
    #[must_use]
    pub fn nth(&self, place: usize) -> &[T] {
        self.orders.get(place).map_or(&[], Vec::as_slice)
    }
}

/// What is hooked at one place with one priority: of each its table, and what it does.
struct Equals(Vec<(Option<usize>, Effects)>);

impl Equals {
    fn new<T: Copy>(equals: &[Hooking<T>], effects: impl Fn(T) -> Effects) -> Self {
        Self(equals.iter().map(|one| (one.table, effects(one.what))).collect())
    }

    /// Every order that makes a difference; none when they are too many.
    fn ways(&self) -> Option<Vec<Vec<usize>>> {
        let alone = |place: &usize| !(0..self.0.len()).any(|other| other != *place && self.disturb(other, *place));
        let (first, left): (Vec<usize>, Vec<usize>) = (0..self.0.len()).partition(alone);
        let mut found = Vec::new();
        self.lengthen(&[], &left, &mut found, &mut 0)?;
        Some(found.into_iter().map(|then| [first.as_slice(), &then].concat()).collect())
    }

    /// Lengthens an order by each that may be next.
    fn lengthen(&self, order: &[usize], left: &[usize], found: &mut Vec<Vec<usize>>, steps: &mut usize) -> Option<()> {
        *steps += 1;
        if *steps > MOST_STEPS || found.len() > MOST_ORDERS {
            return None;
        }
        if left.is_empty() {
            found.push(order.to_vec());
        }
        for (place, next) in left.iter().enumerate() {
            let waits = left.iter().take(place).any(|earlier| self.of_one_table(*earlier, *next));
            // Exchanged with the one before it, it makes an order that does the same.
            let same = order.last().is_some_and(|last| last > next && !self.disturb(*last, *next));
            if !waits && !same {
                let rest: Vec<usize> = left.iter().copied().filter(|other| other != next).collect();
                self.lengthen(&[order, &[*next]].concat(), &rest, found, steps)?;
            }
        }
        Some(())
    }

    fn of_one_table(&self, one: usize, other: usize) -> bool {
        let table = |place: usize| self.0.get(place).and_then(|(table, _)| *table);
        table(one).is_some_and(|own| table(other) == Some(own))
    }

    /// Whether one changes what the other asks for or changes.
    fn disturb(&self, one: usize, other: usize) -> bool {
        let (Some((_, one)), Some((_, other))) = (self.0.get(one), self.0.get(other)) else { return false };
        one.changes & (other.asks | other.changes) != 0 || other.changes & one.asks != 0
    }
}

/// What rules ask for and change, of what is not the same for all of a hook.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Effects {
    asks: u8,
    changes: u8,
}

/// `skb->mark`.
const MARK: u8 = 1;
/// Which connection it is of, and what is known of that.
const CONNECTION: u8 = 2;
/// Addresses, ports, and whatever else may be rewritten.
const HEADER: u8 = 4;
/// Whether it is there at all, besides being dropped: a rule may send it elsewhere.
const PACKET: u8 = 8;

impl BitOr for Effects {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self { asks: self.asks | other.asks, changes: self.changes | other.changes }
    }
}

impl BitOrAssign for Effects {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

impl FromIterator<Self> for Effects {
    fn from_iter<I: IntoIterator<Item = Self>>(all: I) -> Self {
        all.into_iter().fold(Self::default(), BitOr::bitor)
    }
}

impl Effects {
    /// `nf_conntrack_in`.
    pub(super) const CONNTRACK: Self = Self { asks: HEADER, changes: CONNECTION };
    /// `nf_nat_inet_fn`, besides those of its chains.
    pub(super) const NAT: Self = Self { asks: PACKET, changes: HEADER | CONNECTION };
    /// Whatever is not understood.
    const ANY: Self = Self { asks: u8::MAX, changes: u8::MAX };

    const fn asks(what: u8) -> Self {
        Self { asks: what, changes: 0 }
    }

    const fn changes(what: u8) -> Self {
        Self { asks: 0, changes: what }
    }

    /// Of a base chain and all that it leads to.
    pub(super) fn of_chain(table: &Table, chain: &Chain) -> Self {
        let Some(base) = &chain.base else { return Self::default() };
        let mut effects = match base.kind {
            ChainKind::Other(_) => Self::ANY,
            ChainKind::Filter | ChainKind::Nat | ChainKind::Route if base.policy == Policy::Drop => Self::asks(PACKET),
            ChainKind::Filter | ChainKind::Nat | ChainKind::Route => Self::default(),
        };
        let sets: BTreeMap<&str, &Set> = table.sets.iter().map(|set| (set.name.as_str(), set)).collect();
        let mut others: BTreeMap<&str, &Chain> = table.chains.iter().map(|chain| (chain.name.as_str(), chain)).collect();
        let mut left: Vec<&Chain> = others.remove(chain.name.as_str()).into_iter().collect();
        while let Some(chain) = left.pop() {
            for expression in chain.expressions() {
                effects |= Self::asks(PACKET) | Self::of(expression);
                for verdict in verdicts(&sets, expression) {
                    effects |= Self::of_verdict(verdict);
                    if let Verdict::Goto(name) | Verdict::Jump(name) = verdict {
                        left.extend(others.remove(name.as_str()));
                    }
                }
            }
        }
        effects
    }

    /// The same of a nat chain that has rules: it asks whether one before it has translated the packet.
    pub(super) fn of_nat_chain(self) -> Self {
        if self == Self::default() { self } else { self | Self::asks(CONNECTION) }
    }

    const fn of_verdict(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Queue | Verdict::Other(_) => Self::ANY,
            Verdict::Accept | Verdict::Break | Verdict::Continue | Verdict::Drop | Verdict::Goto(_) | Verdict::Jump(_) | Verdict::Return => {
                Self::asks(0)
            }
        }
    }

    fn of(expression: &Expression) -> Self {
        match expression {
            Expression::Meta { key: MetaKey::Mark, .. } => Self::asks(MARK),
            Expression::Payload { base: PayloadBase::Link, .. } | Expression::Meta { .. } => Self::default(),
            Expression::Payload { .. } | Expression::Exthdr { .. } => Self::asks(HEADER),
            Expression::Fib { .. } => Self::asks(HEADER | MARK),
            Expression::Ct { .. } => Self::asks(CONNECTION),
            Expression::MetaSet { key: MetaKey::Mark, .. } => Self::changes(MARK),
            Expression::MetaSet { key: MetaKey::Priority | MetaKey::NfTrace | MetaKey::SecMark, .. } => Self::default(),
            Expression::CtSet { key: CtKey::EventMask | CtKey::SecMark, .. } => Self::default(),
            Expression::CtSet { .. } | Expression::Notrack | Expression::Objref { kind: HELPER | EXPECTATION, .. } => Self::changes(CONNECTION),
            Expression::Nat { .. } | Expression::Masq { .. } | Expression::Redir { .. } => Self::NAT,
            Expression::PayloadSet { base: PayloadBase::Network | PayloadBase::Transport | PayloadBase::Inner, .. } => Self::changes(HEADER),
            Expression::Match(condition) => Self::of_match(condition),
            Expression::Target(target) => Self::of_target(target),
            Expression::Bitwise { .. }
            | Expression::Byteorder { .. }
            | Expression::Cmp { .. }
            | Expression::Connlimit { .. }
            | Expression::Counter
            | Expression::Dynset { .. }
            | Expression::FlowOffload { .. }
            | Expression::Hash { .. }
            | Expression::Immediate { .. }
            | Expression::Last
            | Expression::Limit { .. }
            | Expression::Log { .. }
            | Expression::Lookup { .. }
            | Expression::Numgen { .. }
            | Expression::Objref { .. }
            | Expression::Quota { .. }
            | Expression::Range { .. }
            | Expression::Reject { .. }
            | Expression::Rt { .. }
            | Expression::Socket { .. } => Self::default(),
            Expression::MetaSet { .. }
            | Expression::PayloadSet { .. }
            | Expression::Dup
            | Expression::Fwd { .. }
            | Expression::Opaque { .. }
            | Expression::Queue
            | Expression::Tproxy { .. } => Self::ANY,
        }
    }

    const fn of_match(condition: &Match) -> Self {
        match condition {
            Match::Comment(_) | Match::Local(_) | Match::Mac { .. } | Match::Physdev { .. } | Match::Pkttype { .. } | Match::Sometimes(_) => {
                Self::asks(0)
            }
            Match::Connmark { .. } => Self::asks(CONNECTION),
            Match::Conntrack(_) => Self::asks(CONNECTION | HEADER),
            Match::Mark { .. } => Self::asks(MARK),
            Match::Rpfilter { .. } => Self::asks(HEADER | MARK),
            Match::Addrtype { .. }
            | Match::Icmp(_)
            | Match::Icmp6(_)
            | Match::Iprange { .. }
            | Match::Multiport(_)
            | Match::Set(_)
            | Match::Tcp { .. }
            | Match::Udp(_) => Self::asks(HEADER),
            Match::Opaque { .. } => Self::ANY,
        }
    }

    fn of_target(target: &Target) -> Self {
        match target {
            Target::Continue(name) if name == "LOG" || name == "NFLOG" => Self::default(),
            Target::Continue(_) => Self::changes(HEADER),
            Target::Connmark { .. } => Self { asks: MARK | CONNECTION, changes: MARK | CONNECTION },
            Target::Mark { .. } => Self { asks: MARK, changes: MARK },
            Target::Set(target) if target.marks => Self { asks: HEADER, changes: MARK },
            Target::Reject { .. } | Target::Set(_) => Self::default(),
            Target::Ct { .. } | Target::Notrack => Self::changes(CONNECTION),
            Target::Dnat(_) | Target::Masquerade(_) | Target::Netmap(_) | Target::Redirect(_) | Target::Snat(_) => Self::NAT,
            Target::Opaque { .. } | Target::Tproxy { .. } => Self::ANY,
        }
    }
}

/// What an instruction may say, itself or by a map.
fn verdicts<'t>(sets: &BTreeMap<&str, &'t Set>, expression: &'t Expression) -> Vec<&'t Verdict> {
    let verdict = |data: &'t Data| if let Data::Verdict(verdict) = data { Some(verdict) } else { None };
    if let Expression::Immediate { data, .. } = expression {
        return verdict(data).into_iter().collect();
    }
    let Expression::Lookup { set, verdict: true, .. } = expression else { return Vec::new() };
    let elements = sets.get(set.as_str()).into_iter().flat_map(|set| &set.elements);
    elements.filter_map(|element| element.data.as_ref()).filter_map(verdict).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_those_that_make_a_difference() {
        let (mark, asks, drops) = (Effects::changes(MARK), Effects::asks(MARK | PACKET), Effects::asks(PACKET));
        let cases: [(&str, &[Effects], Option<usize>); 8] = [
            ("nothing", &[], Some(1)),
            ("one", &[mark], Some(1)),
            ("many that drop", &[drops; 100], Some(1)),
            ("a mark and a question for it", &[mark, asks], Some(2)),
            ("a mark, a question for it, and others", &[drops, mark, drops, asks, drops], Some(2)),
            ("two questions", &[asks, mark, asks], Some(4)),
            ("four marks", &[mark; 4], Some(24)),
            ("many questions", &[[mark].as_slice(), &[asks; 100]].concat(), None),
        ];
        for (name, effects, count) in cases {
            let hooked = (0..effects.len()).map(|what| Hooking { priority: 0, table: None, what }).collect();
            let orders = Orders::new(hooked, |what: usize| effects[what]);
            assert_eq!(orders.count(), count, "{name}");
            let different: std::collections::BTreeSet<&[usize]> = orders.orders.iter().map(Vec::as_slice).collect();
            assert!(different.len() == orders.orders.len() && different.iter().all(|order| order.len() == effects.len()), "{name}");
        }
    }

    #[test]
    fn chains_of_one_table_and_of_different_priorities_have_one_order() {
        let hooking = |priority: i32, table: usize, what: usize| Hooking { priority, table: Some(table), what };
        let orders = Orders::new(vec![hooking(1, 0, 0), hooking(0, 1, 1), hooking(0, 1, 2), hooking(0, 2, 3)], |_| Effects::changes(MARK));
        assert_eq!(orders.orders, [[1, 2, 3, 0], [1, 3, 2, 0], [3, 1, 2, 0]]);
    }
}
