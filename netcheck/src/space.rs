//! Sets of packets: one set of numbers a header field, and their product.
//!
//! A walk follows one packet; the [`Space`] beside it says which other packets would have been treated in exactly the same
//! way. Only what a rule or route really looked at narrows it, so one walk usually speaks for thousands of packets.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A set of numbers: sorted, disjoint, not adjacent, both ends included.
///
/// Most sets are one range and are kept in place; larger ones are shared, for walks copy them much more often than they make new ones.
#[derive(Clone, Default)]
pub struct Ranges(Held);

#[derive(Clone, Default)]
enum Held {
    One((u128, u128)),
    Several(Arc<Vec<(u128, u128)>>),
    #[default]
    Zero,
}

impl From<Vec<(u128, u128)>> for Held {
    /// The ranges are sorted, disjoint and not adjacent.
    fn from(ranges: Vec<(u128, u128)>) -> Self {
        match ranges.as_slice() {
            [] => Self::Zero,
            [range] => Self::One(*range),
            _ => Self::Several(Arc::new(ranges)),
        }
    }
}

impl PartialEq for Ranges {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Held::Several(left), Held::Several(right)) if Arc::ptr_eq(left, right) => true,
            _ => self.as_slice() == other.as_slice(),
        }
    }
}

impl Eq for Ranges {}

impl PartialOrd for Ranges {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranges {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

impl Hash for Ranges {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

impl fmt::Debug for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ranges").field(&self.as_slice()).finish()
    }
}

impl Ranges {
    /// The empty set.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Held::Zero)
    }

    /// Every number from `first` to `last`; empty when `first` is above `last`.
    #[must_use]
    pub const fn between(first: u128, last: u128) -> Self {
        if first <= last { Self(Held::One((first, last))) } else { Self::empty() }
    }

    /// One number.
    #[must_use]
    pub const fn one(value: u128) -> Self {
        Self(Held::One((value, value)))
    }

    /// The union of ranges in any order, overlapping or not.
    #[must_use]
    pub fn union_of(ranges: impl IntoIterator<Item = (u128, u128)>) -> Self {
        let mut sorted: Vec<(u128, u128)> = ranges.into_iter().filter(|(first, last)| first <= last).collect();
        sorted.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(sorted.len());
        for (first, last) in sorted {
            match merged.last_mut() {
                Some(previous) if first <= previous.1.saturating_add(1) => previous.1 = previous.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Self(merged.into())
    }

    /// The ranges, ascending.
    #[must_use]
    pub fn as_slice(&self) -> &[(u128, u128)] {
        match &self.0 {
            Held::Zero => &[],
            Held::One(range) => std::slice::from_ref(range),
            Held::Several(ranges) => ranges,
        }
    }

    /// Whether no number is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self.0, Held::Zero)
    }

    /// Whether exactly one number is in it.
    #[must_use]
    pub fn is_one(&self) -> bool {
        matches!(self.0, Held::One((first, last)) if first == last)
    }

    /// The smallest number in it.
    #[must_use]
    pub fn first(&self) -> Option<u128> {
        self.as_slice().first().map(|range| range.0)
    }

    /// Whether `value` is in it.
    #[must_use]
    pub fn contains(&self, value: u128) -> bool {
        let ranges = self.as_slice();
        let after = ranges.partition_point(|range| range.0 <= value);
        after.checked_sub(1).and_then(|index| ranges.get(index)).is_some_and(|range| value <= range.1)
    }

    /// Both ends, when it is one range.
    #[must_use]
    pub fn as_one_range(&self) -> Option<(u128, u128)> {
        match self.0 {
            Held::One(range) => Some(range),
            Held::Several(_) | Held::Zero => None,
        }
    }

    /// What is in both.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        if let (Held::One((a, b)), Held::One((c, d))) = (&self.0, &other.0) {
            return Self::between(*a.max(c), *b.min(d));
        }
        let (few, many) = if self.as_slice().len() <= other.as_slice().len() { (self, other) } else { (other, self) };
        if few.encloses(many) {
            return many.clone();
        }
        let ranges = many.as_slice();
        let mut both = Vec::new();
        let mut from = 0;
        for &(first, last) in few.as_slice() {
            from = reaching(ranges, from, first);
            let overlapping = ranges.iter().skip(from).take_while(|range| range.0 <= last);
            both.extend(overlapping.map(|range| (range.0.max(first), range.1.min(last))));
        }
        if both.len() == ranges.len() && both == ranges {
            return many.clone();
        }
        Self(both.into())
    }

    /// Whether it is at once clear that everything of `other` is in it: they are one list, or it is one range around the other.
    fn encloses(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Held::Several(left), Held::Several(right)) => Arc::ptr_eq(left, right),
            (Held::One((first, last)), Held::Several(inner)) => {
                inner.first().is_some_and(|range| *first <= range.0) && inner.last().is_some_and(|range| range.1 <= *last)
            }
            _ => false,
        }
    }

    /// What is here and not in `other`.
    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        if self.is_disjoint(other) {
            return self.clone();
        }
        let mut rest = Vec::new();
        let mut start = 0;
        for &(first, last) in self.as_slice() {
            let mut from = Some(first);
            start = reaching(other.as_slice(), start, first);
            for &(cut_first, cut_last) in other.as_slice().iter().skip(start) {
                let Some(begin) = from else { break };
                if cut_first > last {
                    break;
                }
                if cut_first > begin {
                    rest.push((begin, cut_first - 1));
                }
                from = cut_last.checked_add(1).filter(|next| *next <= last);
            }
            if let Some(begin) = from {
                rest.push((begin, last));
            }
        }
        Self(rest.into())
    }

    /// Whether nothing is in both.
    #[must_use]
    pub fn is_disjoint(&self, other: &Self) -> bool {
        let (few, many) = if self.as_slice().len() <= other.as_slice().len() { (self, other) } else { (other, self) };
        let ranges = many.as_slice();
        let mut from = 0;
        few.as_slice().iter().all(|(first, last)| {
            from = reaching(ranges, from, *first);
            ranges.get(from).is_none_or(|range| range.0 > *last)
        })
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self::union_of(self.as_slice().iter().chain(other.as_slice()).copied())
    }

    /// How many numbers are in it, at most `u128::MAX`.
    #[must_use]
    pub fn count(&self) -> u128 {
        self.as_slice().iter().fold(0_u128, |sum, (first, last)| sum.saturating_add((last - first).saturating_add(1)))
    }
}

/// The first range from a place on that does not end before a number. Mostly it is near, so what is near is looked at first.
fn reaching(ranges: &[(u128, u128)], mut from: usize, number: u128) -> usize {
    let before = |range: &(u128, u128)| range.1 < number;
    let mut step = 1;
    while ranges.get(from + step - 1).is_some_and(before) {
        from += step;
        step *= 2;
    }
    let end = ranges.len().min(from + step - 1);
    from + ranges.get(from..end).unwrap_or_default().partition_point(before)
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.as_slice().iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

/// The header fields that a sender chooses and that rules and routes look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// Source address; IPv4 in the low 32 bits.
    Source,
    /// Destination address; IPv4 in the low 32 bits.
    Destination,
    /// Source port of TCP, UDP and SCTP.
    SourcePort,
    /// Destination port of TCP, UDP and SCTP.
    DestinationPort,
    /// Type of service, or traffic class.
    Tos,
    /// Time to live, or hop limit, as it leaves the sender.
    Ttl,
    /// Bytes of the whole packet with its IP header.
    Length,
}

impl Field {
    /// All of them.
    pub const ALL: [Self; 7] = [Self::Source, Self::Destination, Self::SourcePort, Self::DestinationPort, Self::Tos, Self::Ttl, Self::Length];

    /// Its place in [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Source => 0,
            Self::Destination => 1,
            Self::SourcePort => 2,
            Self::DestinationPort => 3,
            Self::Tos => 4,
            Self::Ttl => 5,
            Self::Length => 6,
        }
    }
}

/// A product of sets, one a field: the packets whose every field is in the field's set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Space {
    fields: [Ranges; 7],
}

impl Space {
    /// Packets with these values and no other.
    #[must_use]
    pub fn point(values: [u128; 7]) -> Self {
        Self { fields: values.map(Ranges::one) }
    }

    /// The values that `field` may have.
    #[must_use]
    pub fn of(&self, field: Field) -> &Ranges {
        let [source, destination, source_port, destination_port, tos, ttl, length] = &self.fields;
        match field {
            Field::Source => source,
            Field::Destination => destination,
            Field::SourcePort => source_port,
            Field::DestinationPort => destination_port,
            Field::Tos => tos,
            Field::Ttl => ttl,
            Field::Length => length,
        }
    }

    fn of_mut(&mut self, field: Field) -> &mut Ranges {
        let [source, destination, source_port, destination_port, tos, ttl, length] = &mut self.fields;
        match field {
            Field::Source => source,
            Field::Destination => destination,
            Field::SourcePort => source_port,
            Field::DestinationPort => destination_port,
            Field::Tos => tos,
            Field::Ttl => ttl,
            Field::Length => length,
        }
    }

    /// The same, with another set for `field`.
    #[must_use]
    pub fn with(mut self, field: Field, values: Ranges) -> Self {
        self.set(field, values);
        self
    }

    /// Gives `field` another set.
    pub fn set(&mut self, field: Field, values: Ranges) {
        *self.of_mut(field) = values;
    }

    /// Whether no packet is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.iter().any(Ranges::is_empty)
    }

    /// What is in both.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let mut both = self.clone();
        for field in Field::ALL {
            *both.of_mut(field) = self.of(field).intersect(other.of(field));
        }
        both
    }

    /// Whether nothing is in both.
    #[must_use]
    pub fn is_disjoint(&self, other: &Self) -> bool {
        Field::ALL.into_iter().any(|field| self.of(field).is_disjoint(other.of(field)))
    }

    /// Whether the packet with these values is in it.
    #[must_use]
    pub fn contains(&self, values: [u128; 7]) -> bool {
        self.fields.iter().zip(values).all(|(field, value)| field.contains(value))
    }

    /// What is here and not in a `part` of it, as disjoint products: what is cut off by the first field has the whole of the others.
    #[must_use]
    pub fn without(&self, part: &Self, order: [Field; 7]) -> Vec<Self> {
        let mut common = self.clone();
        let mut rest = Vec::new();
        for field in order.into_iter().filter(|field| self.of(*field) != part.of(*field)) {
            let outside = common.of(field).subtract(part.of(field));
            if !outside.is_empty() {
                rest.push(common.clone().with(field, outside));
                common.set(field, part.of(field).clone());
            }
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_sets() {
        let odd = Ranges::union_of([(5, 9), (1, 3), (4, 4), (20, u128::MAX)]);
        assert_eq!(odd.as_slice(), [(1, 9), (20, u128::MAX)]);
        assert_eq!(odd.subtract(&Ranges::between(3, 30)).as_slice(), [(1, 2), (31, u128::MAX)]);
        assert_eq!(odd.subtract(&odd), Ranges::empty());
        assert_eq!(odd.intersect(&Ranges::between(9, 20)).as_slice(), [(9, 9), (20, 20)]);
        assert!(odd.contains(9) && !odd.contains(10) && odd.contains(u128::MAX) && !odd.contains(0));
    }

    #[test]
    fn difference_and_intersection_cover_a_space_once() {
        let full = Space::point([0; 7]).with(Field::Source, Ranges::between(0, 9)).with(Field::DestinationPort, Ranges::between(0, 9));
        let part = full.clone().with(Field::Source, Ranges::between(3, 5)).with(Field::DestinationPort, Ranges::union_of([(2, 2), (7, 20)]));
        let common = full.intersect(&part);
        let mut pieces = full.without(&common, Field::ALL);
        pieces.push(common);
        for source in 0..10 {
            for port in 0..10 {
                let point = Space::point([0; 7]).with(Field::Source, Ranges::one(source)).with(Field::DestinationPort, Ranges::one(port));
                assert_eq!(pieces.iter().filter(|piece| !piece.intersect(&point).is_empty()).count(), 1);
            }
        }
    }
}
