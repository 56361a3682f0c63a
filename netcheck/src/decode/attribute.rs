//! Netlink attributes: length, type, payload, padding to four bytes. `include/uapi/linux/netlink.h`, `struct nlattr`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{DecodeError, missing};

/// `NLA_TYPE_MASK`: the two highest bits say "nested" and "network order".
const TYPE_MASK: u16 = 0x3fff;
const HEADER: usize = 4;

/// The attributes of one message or of one nest, in order.
#[derive(Debug, Clone)]
pub struct Attributes<'a>(Vec<(u16, &'a [u8])>);

impl<'a> Attributes<'a> {
    /// Splits bytes into attributes.
    ///
    /// # Errors
    /// When a length leads outside.
    pub fn parse(mut bytes: &'a [u8], what: &'static str) -> Result<Self, DecodeError> {
        let truncated = DecodeError::Truncated { what };
        let mut attributes = Vec::with_capacity(8);
        while bytes.len() >= HEADER {
            let length = usize::from(u16_at(bytes, 0).ok_or(truncated.clone())?);
            let kind = u16_at(bytes, 2).ok_or(truncated.clone())? & TYPE_MASK;
            let payload = bytes.get(HEADER..length).ok_or(truncated.clone())?;
            attributes.push((kind, payload));
            bytes = bytes.get(align(length)..).unwrap_or_default();
        }
        Ok(Self(attributes))
    }

    /// The last attribute of a type, as the kernel's own parser takes it.
    #[must_use]
    pub fn find(&self, kind: u16) -> Option<&'a [u8]> {
        self.0.iter().rev().find(|(found, _)| *found == kind).map(|(_, payload)| *payload)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &'a [u8])> + '_ {
        self.0.iter().copied()
    }

    /// Those of one type, for lists.
    pub fn all(&self, kind: u16) -> impl Iterator<Item = &'a [u8]> + '_ {
        self.0.iter().filter(move |(found, _)| *found == kind).map(|(_, payload)| *payload)
    }

    /// Whether there is one of this type.
    #[must_use]
    pub fn has(&self, kind: u16) -> bool {
        self.find(kind).is_some()
    }

    /// A nest; none if it is not there.
    ///
    /// # Errors
    /// When it is there and malformed.
    pub fn nested(&self, kind: u16, what: &'static str) -> Result<Option<Self>, DecodeError> {
        self.find(kind).map(|payload| Self::parse(payload, what)).transpose()
    }

    /// An integer in host order.
    #[must_use]
    pub fn u8(&self, kind: u16) -> Option<u8> {
        self.find(kind)?.first().copied()
    }

    /// An integer in host order.
    #[must_use]
    pub fn u16(&self, kind: u16) -> Option<u16> {
        u16_at(self.find(kind)?, 0)
    }

    /// An integer in host order.
    #[must_use]
    pub fn u32(&self, kind: u16) -> Option<u32> {
        u32_at(self.find(kind)?, 0)
    }

    /// An integer in network order.
    #[must_use]
    pub fn be16(&self, kind: u16) -> Option<u16> {
        be16_at(self.find(kind)?, 0)
    }

    /// An integer in network order.
    #[must_use]
    pub fn be32(&self, kind: u16) -> Option<u32> {
        be32_at(self.find(kind)?, 0)
    }

    /// An integer in network order.
    #[must_use]
    pub fn be64(&self, kind: u16) -> Option<u64> {
        self.find(kind)?.first_chunk().copied().map(u64::from_be_bytes)
    }

    /// An integer in network order that is always there.
    ///
    /// # Errors
    /// When it is not.
    pub fn need_be32(&self, kind: u16, what: &'static str) -> Result<u32, DecodeError> {
        self.be32(kind).ok_or(missing(what))
    }

    /// A string, without what follows the zero. Bytes that are not UTF-8 are replaced: names are for matching and printing.
    #[must_use]
    pub fn string(&self, kind: u16) -> Option<String> {
        self.find(kind).map(string)
    }

    /// An address of four or sixteen bytes.
    #[must_use]
    pub fn address(&self, kind: u16) -> Option<IpAddr> {
        address(self.find(kind)?)
    }

    /// An address and how many of its bits count.
    #[must_use]
    pub fn prefix(&self, kind: u16, length: u8) -> Option<IpNet> {
        IpNet::new(self.address(kind)?, length).ok()
    }
}

/// Rounds up to the alignment of netlink.
#[must_use]
pub const fn align(length: usize) -> usize {
    (length + 3) & !3
}

/// Up to the first zero.
#[must_use]
pub fn string(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// Four bytes are IPv4, sixteen IPv6.
#[must_use]
pub fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(four).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|sixteen| Ipv6Addr::from(sixteen).into())
}

/// An integer in host order.
#[must_use]
pub fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

/// An integer in host order.
#[must_use]
pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

/// An integer in network order.
#[must_use]
pub fn be16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..)?.first_chunk().copied().map(u16::from_be_bytes)
}

/// An integer in network order.
#[must_use]
pub fn be32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().copied().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_attributes_are_errors_or_end_quietly() {
        let truncated = Err(DecodeError::Truncated { what: "test" });
        let cases: [(&str, &[u8], Result<usize, DecodeError>); 5] = [
            ("empty", &[], Ok(0)),
            ("one", &[5, 0, 1, 0, 7], Ok(1)),
            ("shorter than its header", &[3, 0, 1, 0], truncated.clone()),
            ("zero length", &[0, 0, 1, 0, 0, 0, 0, 0], truncated.clone()),
            ("longer than the message", &[9, 0, 1, 0, 0, 0, 0, 0], truncated),
        ];
        for (name, bytes, expected) in cases {
            assert_eq!(Attributes::parse(bytes, "test").map(|found| found.0.len()), expected, "{name}");
        }
    }

    #[test]
    fn last_of_a_type_counts_and_flags_of_the_type_do_not() {
        let bytes = [5, 0, 1, 0x80, 7, 0, 0, 0, 5, 0, 1, 0x40, 8, 0, 0, 0];
        assert_eq!(Attributes::parse(&bytes, "test").unwrap().u8(1), Some(8));
    }
}
