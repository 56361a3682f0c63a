//! Sets of ports and of flows.

use std::fmt;

/// A protocol that flows are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// ICMP echo.
    Icmp,
    /// ICMPv6 echo.
    Icmpv6,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A set of ports: sorted, disjoint, not adjacent, both ends included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ports(Vec<(u16, u16)>);

impl Ports {
    /// All that can be used.
    #[must_use]
    pub fn all() -> Self {
        Self(vec![(1, u16::MAX)])
    }

    /// One.
    #[must_use]
    pub fn one(port: u16) -> Self {
        Self(vec![(port, port)])
    }

    /// `443` or `8000-8999`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (first.trim().parse::<u16>().ok()?, last.trim().parse::<u16>().ok()?);
        (first != 0 && first <= last).then(|| Self(vec![(first, last)]))
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it has this one.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&port))
    }

    /// The ranges, ascending.
    #[must_use]
    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.0
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut sorted: Vec<(u16, u16)> = self.0.iter().chain(&other.0).copied().collect();
        sorted.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::with_capacity(sorted.len());
        for (first, last) in sorted {
            match merged.last_mut() {
                Some(previous) if first <= previous.1.saturating_add(1) => previous.1 = previous.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }
}

impl fmt::Display for Ports {
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

/// A set of flows between two parties.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flows {
    /// Destination ports of TCP.
    pub tcp: Ports,
    /// Destination ports of UDP.
    pub udp: Ports,
    /// ICMP echo.
    pub icmp: bool,
    /// ICMPv6 echo.
    pub icmpv6: bool,
}

impl Flows {
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self { tcp: Ports::all(), udp: Ports::all(), icmp: true, icmpv6: true }
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tcp.is_empty() && self.udp.is_empty() && !self.icmp && !self.icmpv6
    }

    /// Ports of a protocol; all of them for one without ports that is in it.
    #[must_use]
    pub fn ports(&self, protocol: Protocol) -> Ports {
        let all = |on: bool| if on { Ports::all() } else { Ports::default() };
        match protocol {
            Protocol::Icmp => all(self.icmp),
            Protocol::Icmpv6 => all(self.icmpv6),
            Protocol::Tcp => self.tcp.clone(),
            Protocol::Udp => self.udp.clone(),
        }
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self { tcp: self.tcp.union(&other.tcp), udp: self.udp.union(&other.udp), icmp: self.icmp || other.icmp, icmpv6: self.icmpv6 || other.icmpv6 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_merged_when_they_touch() {
        let ports = ["8000-8999", "80", "9000", "8500-8600"].iter().fold(Ports::default(), |all, text| all.union(&Ports::parse(text).unwrap()));
        assert_eq!(ports.to_string(), "80,8000-9000");
    }
}
