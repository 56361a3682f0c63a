//! Sets of packets: one set of numbers a header field, and their product.
//!
//! A walk follows one packet; the [`Space`] beside it says which other packets would have been treated in exactly the same
//! way. Only what a rule or route really looked at narrows it, so one walk usually speaks for thousands of packets.

use std::fmt;

/// A set of numbers: sorted, disjoint, not adjacent, both ends included.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ranges(Vec<(u128, u128)>);

impl Ranges {
    /// The empty set.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Vec::new())
    }

    /// Every number from `first` to `last`; empty when `first` is above `last`.
    #[must_use]
    pub fn between(first: u128, last: u128) -> Self {
        if first <= last { Self(vec![(first, last)]) } else { Self::empty() }
    }

    /// One number.
    #[must_use]
    pub fn one(value: u128) -> Self {
        Self(vec![(value, value)])
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
        Self(merged)
    }

    /// The ranges, ascending.
    #[must_use]
    pub fn as_slice(&self) -> &[(u128, u128)] {
        &self.0
    }

    /// Whether no number is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether exactly one number is in it.
    #[must_use]
    pub fn is_one(&self) -> bool {
        matches!(self.0.as_slice(), [(first, last)] if first == last)
    }

    /// The smallest number in it.
    #[must_use]
    pub fn first(&self) -> Option<u128> {
        self.0.first().map(|range| range.0)
    }

    /// Whether `value` is in it.
    #[must_use]
    pub fn contains(&self, value: u128) -> bool {
        let after = self.0.partition_point(|range| range.0 <= value);
        after.checked_sub(1).and_then(|index| self.0.get(index)).is_some_and(|range| value <= range.1)
    }

    /// Both ends, when it is one range.
    #[must_use]
    pub fn as_one_range(&self) -> Option<(u128, u128)> {
        match self.0.as_slice() {
            [range] => Some(*range),
            _ => None,
        }
    }

    /// What is in both.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut both = Vec::new();
        while let (Some(&&(a, b)), Some(&&(c, d))) = (left.peek(), right.peek()) {
            if a.max(c) <= b.min(d) {
                both.push((a.max(c), b.min(d)));
            }
            if b < d {
                left.next();
            } else {
                right.next();
            }
        }
        Self(both)
    }

    /// What is here and not in `other`.
    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        if other.is_empty() {
            return self.clone();
        }
        let mut rest = Vec::new();
        for &(first, last) in &self.0 {
            let mut from = Some(first);
            let start = other.0.partition_point(|range| range.1 < first);
            for &(cut_first, cut_last) in other.0.iter().skip(start) {
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
        Self(rest)
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self::union_of(self.0.iter().chain(&other.0).copied())
    }

    /// How many numbers are in it, at most `u128::MAX`.
    #[must_use]
    pub fn count(&self) -> u128 {
        self.0.iter().fold(0_u128, |sum, (first, last)| sum.saturating_add((last - first).saturating_add(1)))
    }
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.0.iter().enumerate() {
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
        *self.of_mut(field) = values;
        self
    }

    /// Keeps only the packets whose `field` is in `values`.
    pub fn narrow(&mut self, field: Field, values: &Ranges) {
        if !self.of(field).is_one() {
            *self.of_mut(field) = self.of(field).intersect(values);
        }
    }

    /// Keeps only the packets whose `field` is not in `values`.
    pub fn exclude(&mut self, field: Field, values: &Ranges) {
        if !self.of(field).is_one() {
            *self.of_mut(field) = self.of(field).subtract(values);
        }
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

    /// What is here and not in `other`, as disjoint products.
    #[must_use]
    pub fn subtract(&self, other: &Self) -> Vec<Self> {
        if self.intersect(other).is_empty() {
            return vec![self.clone()];
        }
        let mut common = self.clone();
        let mut rest = Vec::new();
        for field in Field::ALL {
            let outside = common.of(field).subtract(other.of(field));
            if !outside.is_empty() {
                rest.push(common.clone().with(field, outside));
                let inside = common.of(field).intersect(other.of(field));
                common = common.with(field, inside);
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
        let mut pieces = full.subtract(&part);
        pieces.push(full.intersect(&part));
        for source in 0..10 {
            for port in 0..10 {
                let point = Space::point([0; 7]).with(Field::Source, Ranges::one(source)).with(Field::DestinationPort, Ranges::one(port));
                assert_eq!(pieces.iter().filter(|piece| !piece.intersect(&point).is_empty()).count(), 1);
            }
        }
    }
}
