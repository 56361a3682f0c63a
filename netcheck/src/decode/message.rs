//! The netlink envelope. `include/uapi/linux/netlink.h`, `struct nlmsghdr`.

use super::DecodeError;
use super::attribute::{align, u16_at, u32_at};

const HEADER: usize = 16;

/// `NLM_F_REQUEST`.
pub const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`.
pub const ACK: u16 = 0x4;
/// `NLM_F_DUMP`.
pub const DUMP: u16 = 0x300;
/// `NLM_F_DUMP_INTR`: the state changed while it was dumped.
pub const DUMP_INTERRUPTED: u16 = 0x10;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// One message of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// `RTM_*`, or subsystem and message of nfnetlink.
    pub kind: u16,
    /// `NLM_F_*`.
    pub flags: u16,
    /// The request that it answers.
    pub sequence: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

/// What a message means for the exchange it is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Something was told.
    Item(Message<'a>),
    /// The request is answered: 0, or the positive `errno`.
    End(i32),
}

impl<'a> Message<'a> {
    /// Splits a datagram.
    ///
    /// # Errors
    /// When a length leads outside.
    pub fn parse(mut datagram: &'a [u8]) -> Result<Vec<Self>, DecodeError> {
        let mut messages = Vec::new();
        while !datagram.is_empty() {
            let (message, length) = Self::first(datagram).ok_or(DecodeError::Truncated { what: "netlink message" })?;
            messages.push(message);
            datagram = datagram.get(align(length)..).unwrap_or_default();
        }
        Ok(messages)
    }

    fn first(datagram: &'a [u8]) -> Option<(Self, usize)> {
        let length = usize::try_from(u32_at(datagram, 0)?).ok()?;
        let message =
            Self { kind: u16_at(datagram, 4)?, flags: u16_at(datagram, 6)?, sequence: u32_at(datagram, 8)?, payload: datagram.get(HEADER..length)? };
        Some((message, length))
    }

    /// Whether this ends the exchange.
    ///
    /// # Errors
    /// When it says so and is too short to say how.
    pub fn step(self) -> Result<Step<'a>, DecodeError> {
        match self.kind {
            NLMSG_DONE => Ok(Step::End(self.code().unwrap_or(0))),
            NLMSG_ERROR => self.code().map(Step::End).ok_or(DecodeError::Truncated { what: "netlink error" }),
            _ => Ok(Step::Item(self)),
        }
    }

    fn code(self) -> Option<i32> {
        self.payload.first_chunk().copied().map(i32::from_ne_bytes).map(i32::wrapping_neg)
    }
}

/// A request that is being written.
#[derive(Debug, Clone)]
pub struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// Starts a message with the fixed header of its family.
    #[must_use]
    pub fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(fixed);
        let mut request = Self { bytes };
        request.pad();
        request
    }

    /// With these flags too.
    #[must_use]
    pub fn flagged(mut self, flags: u16) -> Self {
        if let Some([low, high]) = self.bytes.get_mut(6..8) {
            let all = u16::from_ne_bytes([*low, *high]) | flags;
            [*low, *high] = all.to_ne_bytes();
        }
        self
    }

    /// Adds an attribute.
    #[must_use]
    pub fn attribute(mut self, kind: u16, payload: &[u8]) -> Self {
        let length = u16::try_from(payload.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(payload);
        self.pad();
        self
    }

    /// Adds attributes that are written already.
    #[must_use]
    pub fn attributes(mut self, written: &[u8]) -> Self {
        self.bytes.extend_from_slice(written);
        self.pad();
        self
    }

    /// What follows the fixed header of netlink.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.bytes.get(HEADER..).unwrap_or_default()
    }

    /// Adds a string with its final zero.
    #[must_use]
    pub fn string(self, kind: u16, text: &str) -> Self {
        let mut payload = text.as_bytes().to_vec();
        payload.push(0);
        self.attribute(kind, &payload)
    }

    /// The datagram, with its length and sequence number.
    #[must_use]
    pub fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        for (place, value) in [(0, length), (8, sequence)] {
            if let Some(slot) = self.bytes.get_mut(place..place + 4) {
                slot.copy_from_slice(&value.to_ne_bytes());
            }
        }
        self.bytes
    }

    fn pad(&mut self) {
        self.bytes.resize(align(self.bytes.len()), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_request_is_read_back() {
        let datagram = Request::new(18, DUMP, &[0; 16]).string(3, "eth0").finish(7);
        let messages = Message::parse(&datagram).unwrap();
        assert_eq!(messages.len(), 1);
        assert_eq!((messages[0].kind, messages[0].flags, messages[0].sequence), (18, DUMP | REQUEST, 7));
        assert_eq!(messages[0].payload.len(), 16 + 12);
    }

    #[test]
    fn truncated_datagrams_are_errors() {
        let datagram = Request::new(18, DUMP, &[0; 16]).finish(7);
        for cut in 1..datagram.len() {
            assert!(Message::parse(&datagram[..cut]).is_err(), "cut at {cut}");
        }
    }
}
