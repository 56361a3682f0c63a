//! Typed values ▶ bytes that the kernel takes, as pure functions: the way back of [`crate::decode`].
//!
//! What was read in less detail than the kernel needs, like the rate of a limit, cannot be written again. It is a [`Lack`], which says what
//! follows from it; nothing is made up.
//!
//! | module | messages |
//! |---|---|
//! | [`compat`] | structures of iptables' matches and targets |
//! | [`expression`] | nf_tables: instructions |
//! | [`link`] | `RTM_NEWLINK`, `RTM_NEWADDR`, `RTM_NEWNEIGH`, bridge vlans |
//! | [`route`] | `RTM_NEWROUTE`, `RTM_NEWRULE` |
//! | [`table`] | nf_tables: tables, chains, rules, sets, elements |

pub mod compat;
pub mod expression;
pub mod link;
pub mod route;
pub mod table;

use std::net::IpAddr;

use crate::decode::attribute::align;

/// What is missing to write something again, and what follows from leaving it out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lack {
    /// Without it a packet may go elsewhere.
    Decides(String),
    /// It never decides where a packet goes: it is left out of its rule.
    Harmless(String),
    /// It may match or not, for all that is known: without its whole rule a packet goes one of the ways that it may go.
    Perhaps(String),
}

/// Attributes that are being written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    bytes: Vec<u8>,
}

impl Attributes {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes. What is longer than an attribute can be is cut, and the kernel refuses it.
    #[must_use]
    pub fn bytes(mut self, kind: u16, payload: &[u8]) -> Self {
        let length = u16::try_from(payload.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(payload);
        self.bytes.resize(align(self.bytes.len()), 0);
        self
    }

    /// Adds a nest.
    #[must_use]
    pub fn nest(self, kind: u16, nested: &Self) -> Self {
        const NESTED: u16 = 0x8000;
        self.bytes(kind | NESTED, &nested.bytes)
    }

    /// Adds a byte.
    #[must_use]
    pub fn u8(self, kind: u16, value: u8) -> Self {
        self.bytes(kind, &[value])
    }

    /// Adds an integer in host order.
    #[must_use]
    pub fn u16(self, kind: u16, value: u16) -> Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Adds an integer in host order.
    #[must_use]
    pub fn u32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Adds an integer in network order.
    #[must_use]
    pub fn be16(self, kind: u16, value: u16) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Adds an integer in network order.
    #[must_use]
    pub fn be32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Adds a string with its final zero.
    #[must_use]
    pub fn string(self, kind: u16, text: &str) -> Self {
        self.bytes(kind, &[text.as_bytes(), &[0]].concat())
    }

    /// Adds an address.
    #[must_use]
    pub fn address(self, kind: u16, address: IpAddr) -> Self {
        self.bytes(kind, &octets(address))
    }

    /// What was written.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// The bytes of an address.
#[must_use]
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
