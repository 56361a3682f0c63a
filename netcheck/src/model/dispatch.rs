//! Which rules of a chain a packet can meet, and which packets meet rules of the same shape.
//!
//! Links and protocol are known when a chain begins; of its rules, those that ask for others are out of the question. The rest are
//! found by an address, a port or the way out. Two addresses for which a chain has rules of the same shapes at the same places are
//! treated the same by it, though they meet different rules: they are one class, and one walk speaks for both. That is what keeps
//! the number of walks from growing with the number of rules: all addresses that a chain drops, each with a rule of its own, are
//! walked once; all ports that it translates, each to a target of its own, are walked together until something tells the targets
//! apart.
//!
//! ```text
//!   -d 10.0.0.2 ! -i br-a -j DROP          from br-c: {10.0.0.2, 10.0.0.3, 10.0.1.2} are one class,
//!   -d 10.0.0.3 ! -i br-a -j DROP          from br-a: {10.0.1.2} is one, and the rest is another
//!   -d 10.0.1.2 ! -i br-b -j DROP
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::space::Ranges;

use super::shortcut::{Early, Head, Key, Shortcuts};

/// What is known of a packet when a chain begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Met {
    pub(crate) iif: Option<u32>,
    pub(crate) out: Out,
    pub(crate) protocol: u8,
    pub(crate) ipv4: bool,
    pub(crate) ports: bool,
}

/// By which link a packet goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Out {
    By(Option<u32>),
    /// By different ones for packets that are walked together.
    Open,
}

/// The rules of a chain for packets of which the same is known.
#[derive(Debug)]
pub(crate) struct Dispatch {
    met: Met,
    /// Whether the way out is open.
    pub(crate) open: bool,
    /// Rules that are not found by anything.
    pub(crate) always: Vec<u32>,
    pub(crate) by_destination: Partition,
    pub(crate) by_port: Partition,
    pub(crate) by_out: Partition,
}

/// Rules by the value they are found by.
#[derive(Debug, Default)]
pub(crate) struct Partition {
    /// Values, ascending, each with its class and the end of its rules in `rules`.
    values: Vec<(u128, usize, usize)>,
    rules: Vec<u32>,
    classes: Vec<Class>,
    /// All values.
    pub(crate) keys: Ranges,
}

/// Values that are treated the same.
#[derive(Debug, Default)]
pub(crate) struct Class {
    pub(crate) values: Ranges,
    /// For each of its rules, where it translates to for every value, if that is all it does.
    pub(crate) translations: Vec<Option<Rc<Translations>>>,
}

/// Where the destination goes for each port that it had.
#[derive(Debug, Default)]
pub(crate) struct Translations {
    /// Port, and the address and port it becomes; ascending.
    targets: Vec<(u128, u128, u16)>,
    /// The same by address: address, port that it becomes, port.
    by_address: Vec<(u128, u16, u128)>,
    pub(crate) addresses: Ranges,
    /// All ports.
    keys: Ranges,
}

impl Dispatch {
    pub(crate) fn new(shortcuts: &Shortcuts, met: Met) -> Self {
        let open = met.out == Out::Open;
        let (always, by_destination, by_port, by_out) = Default::default();
        let mut dispatch = Self { met, open, always, by_destination, by_port, by_out };
        let mut before = 0_u32;
        // For each rule that can match, how many rules before it are found by something else: those stay where they are.
        let mut places: Vec<Option<u32>> = vec![None; shortcuts.heads().len()];
        let mut met_before = [0_u32; 3];
        let fails: Vec<bool> = shortcuts.early().iter().map(|early| early.iter().any(|early| early.fails(met))).collect();
        for ((index, (asks, found_by)), place) in (0_u32..).zip(shortcuts.rules(open)).zip(&mut places) {
            if fails.get(asks).copied().unwrap_or(false) {
                continue;
            }
            let key = found_by.filter(|key| key.fits(met));
            let own = key.map_or(0, |key| met_before.get(key.place()).copied().unwrap_or(0));
            *place = Some(before - own);
            before += 1;
            match key.and_then(|key| met_before.get_mut(key.place())) {
                Some(count) => *count += 1,
                None => dispatch.always.push(index),
            }
        }
        for group in shortcuts.by_key(open).chunk_by(|left, right| left.0 == right.0) {
            let Some((key, ..)) = group.first() else { continue };
            if met_before.get(key.place()).is_some_and(|count| *count > 0) && key.fits(met) {
                *dispatch.by(*key) = Partition::new(group, &places, shortcuts, open);
            }
        }
        dispatch
    }

    /// What a rule was found by.
    pub(crate) fn found(&self, head: &Head) -> Option<(Key, u128)> {
        head.found_by(self.open).filter(|(key, _)| key.fits(self.met))
    }

    const fn by(&mut self, key: Key) -> &mut Partition {
        match key {
            Key::Destination { .. } => &mut self.by_destination,
            Key::DestinationPort => &mut self.by_port,
            Key::Out => &mut self.by_out,
        }
    }
}

impl Key {
    /// Whether packets have it.
    fn fits(self, met: Met) -> bool {
        match self {
            Self::Destination { ipv4 } => ipv4 == met.ipv4,
            Self::DestinationPort => met.ports,
            Self::Out => met.out == Out::Open,
        }
    }

    const fn place(self) -> usize {
        match self {
            Self::Destination { .. } => 0,
            Self::DestinationPort => 1,
            Self::Out => 2,
        }
    }
}

impl Early {
    /// Whether it does not hold.
    fn fails(&self, met: Met) -> bool {
        match self {
            Self::Family { ipv4, is } => (met.ipv4 == *ipv4) != *is,
            Self::Link { out: false, index, is } => (index.is_some() && met.iif == *index) != *is,
            Self::Link { out: true, index, is } => match met.out {
                Out::By(link) => (index.is_some() && link == *index) != *is,
                Out::Open => index.is_none() && *is,
            },
            Self::Protocol { number, ipv4_only, is } => (met.ipv4 || !ipv4_only) && (met.protocol == *number) != *is,
        }
    }
}

impl Partition {
    /// `found` is sorted by value and rule; `places` has none for rules that cannot match.
    fn new(found: &[(Key, u128, u32)], places: &[Option<u32>], shortcuts: &Shortcuts, open: bool) -> Self {
        let mut partition = Self::default();
        let (heads, shapes) = (shortcuts.heads(), shortcuts.shapes(open));
        let mut known: BTreeMap<Vec<(u32, u32)>, usize> = BTreeMap::new();
        // For each class, how many rules its values have, and where these begin.
        let mut members: Vec<(usize, Vec<(u128, usize)>)> = Vec::new();
        let (mut likeness, mut before) = (Vec::new(), Vec::new());
        let mut class = 0;
        for rules in found.chunk_by(|left, right| left.1 == right.1) {
            let Some((_, value, _)) = rules.first() else { continue };
            likeness.clear();
            let start = partition.rules.len();
            for (_, _, rule) in rules {
                let index = usize::try_from(*rule).unwrap_or(usize::MAX);
                if let (Some(Some(place)), Some(shape)) = (places.get(index), shapes.get(index)) {
                    likeness.push((*place, *shape));
                    partition.rules.push(*rule);
                }
            }
            if likeness.is_empty() {
                continue;
            }
            // Mostly the next value is like the one before.
            if likeness != before {
                class = known.get(&likeness).copied().unwrap_or_else(|| {
                    known.insert(likeness.clone(), members.len());
                    members.push((likeness.len(), Vec::new()));
                    members.len() - 1
                });
                std::mem::swap(&mut likeness, &mut before);
            }
            if let Some((_, members)) = members.get_mut(class) {
                members.push((*value, start));
            }
            partition.values.push((*value, class, partition.rules.len()));
        }
        partition.keys = Ranges::union_of(partition.values.iter().map(|(value, ..)| (*value, *value)));
        partition.classes = members.iter().map(|(count, members)| Class::new(*count, members, &partition.rules, heads)).collect();
        partition
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The rules for a value, and its class; none when no rule asks for it.
    pub(crate) fn find(&self, value: u128) -> (&[u32], Option<&Class>) {
        let place = self.values.partition_point(|(known, ..)| *known < value);
        let Some((_, class, end)) = self.values.get(place).filter(|(known, ..)| *known == value) else {
            return (&[], None);
        };
        let start = place.checked_sub(1).and_then(|before| self.values.get(before)).map_or(0, |(_, _, end)| *end);
        (self.rules.get(start..*end).unwrap_or_default(), self.classes.get(*class))
    }
}

/// Translations are looked for in so many rules of a value.
const MOST_RULES: usize = 8;

impl Class {
    /// `members` are values and where their rules begin: `count` for each.
    fn new(count: usize, members: &[(u128, usize)], rules: &[u32], heads: &[Head]) -> Self {
        let values = Ranges::union_of(members.iter().map(|(value, _)| (*value, *value)));
        let translates = |offset: usize, start: usize| {
            let rule = rules.get(start + offset)?;
            heads.get(usize::try_from(*rule).ok()?)?.translation
        };
        let translations = (0..count.min(MOST_RULES))
            .map(|offset| {
                let of = |(value, start): &(u128, usize)| translates(offset, *start).map(|(address, port)| (*value, address, port));
                let targets: Vec<(u128, u128, u16)> = members.iter().map_while(of).collect();
                (targets.len() == members.len()).then(|| Rc::new(Translations::new(targets, values.clone())))
            })
            .collect();
        Self { values, translations }
    }
}

impl Translations {
    fn new(targets: Vec<(u128, u128, u16)>, keys: Ranges) -> Self {
        let mut by_address: Vec<(u128, u16, u128)> = targets.iter().map(|(sent, address, port)| (*address, *port, *sent)).collect();
        by_address.sort_unstable();
        let addresses = Ranges::union_of(by_address.iter().map(|(address, ..)| (*address, *address)));
        Self { targets, by_address, addresses, keys }
    }

    /// Every port that there is.
    pub(crate) const fn all_ports() -> Ranges {
        Ranges::between(0, 65_535)
    }

    /// The target for a port.
    pub(crate) fn target(&self, port: u128) -> Option<(u128, u16)> {
        self.of(&Ranges::one(port)).next().map(|(_, address, port)| (*address, *port))
    }

    /// The ports that become one of these ports at one of these addresses.
    pub(crate) fn sent(&self, addresses: &Ranges, becomes: &Ranges) -> Ranges {
        let others = self.addresses.subtract(addresses);
        if *becomes != Self::all_ports() {
            return Ranges::union_of(self.at(addresses, becomes));
        }
        // Mostly some addresses are left out, or most.
        if others.as_slice().len() < addresses.as_slice().len() {
            return self.keys.subtract(&Ranges::union_of(self.at(&others, becomes)));
        }
        Ranges::union_of(self.at(addresses, becomes))
    }

    fn at<'t>(&'t self, addresses: &'t Ranges, becomes: &'t Ranges) -> impl Iterator<Item = (u128, u128)> + 't {
        let at = addresses.as_slice().iter().flat_map(|(first, last)| {
            let from = self.by_address.partition_point(|(address, ..)| address < first);
            self.by_address.iter().skip(from).take_while(move |(address, ..)| address <= last)
        });
        at.filter(|(_, port, _)| becomes.contains(u128::from(*port))).map(|(_, _, sent)| (*sent, *sent))
    }

    /// The ports that these ports become.
    pub(crate) fn ports(&self, sent: &Ranges) -> Ranges {
        Ranges::union_of(self.of(sent).map(|(_, _, port)| (u128::from(*port), u128::from(*port))))
    }

    /// One of these ports that becomes `arrives`.
    pub(crate) fn sent_to(&self, sent: &Ranges, arrives: u16) -> Option<u16> {
        self.of(sent).find(|(_, _, becomes)| *becomes == arrives).and_then(|(port, ..)| u16::try_from(*port).ok())
    }

    /// Of these ports one for each address that they are sent to.
    pub(crate) fn one_each(&self, sent: &Ranges) -> Vec<u16> {
        let mut seen = BTreeSet::new();
        self.of(sent).filter(|(_, address, _)| seen.insert(*address)).filter_map(|(port, ..)| u16::try_from(*port).ok()).collect()
    }

    fn of<'t>(&'t self, sent: &'t Ranges) -> impl Iterator<Item = &'t (u128, u128, u16)> {
        sent.as_slice().iter().flat_map(|(first, last)| {
            let from = self.targets.partition_point(|(port, ..)| port < first);
            self.targets.iter().skip(from).take_while(move |(port, ..)| port <= last)
        })
    }
}
