//! Header fields during a walk: a value, and whether it is still what the sender chose.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::fib::number;
use crate::packet::{Packet, Transport};
use crate::space::Field;

/// What differs between the packets that are walked together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variable {
    /// The address that a translation gave to the destination.
    Address,
    /// The port that a translation gave to the destination.
    Port,
    /// What the sender chose.
    Sent(Field),
}

/// A number in a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number {
    /// Its value on this walk.
    pub(crate) value: u128,
    /// What it is a copy of; none once it was rewritten with something that is the same for all.
    pub(crate) field: Option<Variable>,
    /// False when the kernel picks it at random.
    pub(crate) known: bool,
}

impl Number {
    pub(crate) const fn fixed(value: u128) -> Self {
        Self { value, field: None, known: true }
    }

    const fn sent(value: u128, field: Field) -> Self {
        Self { value, field: Some(Variable::Sent(field)), known: true }
    }

    pub(crate) const fn translated(value: u128, variable: Variable) -> Self {
        Self { value, field: Some(variable), known: true }
    }

    pub(crate) const fn random(value: u128) -> Self {
        Self { value, field: None, known: false }
    }

    pub(crate) fn port(self) -> u16 {
        u16::try_from(self.value & 0xffff).unwrap_or(0)
    }

    pub(crate) fn byte(self) -> u8 {
        u8::try_from(self.value & 0xff).unwrap_or(0)
    }
}

/// The headers of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) ipv4: bool,
    pub(crate) protocol: u8,
    pub(crate) source: Number,
    pub(crate) destination: Number,
    /// Source port, or identifier of an echo.
    pub(crate) source_port: Number,
    pub(crate) destination_port: Number,
    pub(crate) tos: Number,
    pub(crate) length: Number,
    pub(crate) transport: Transport,
}

impl Header {
    pub(crate) fn new(packet: &Packet) -> Self {
        let [source, destination, source_port, destination_port, tos, _, length] = Self::values(packet);
        let ports = packet.transport.ports().is_some();
        Self {
            ipv4: packet.is_ipv4(),
            protocol: packet.transport.number(),
            source: Number::sent(source, Field::Source),
            destination: Number::sent(destination, Field::Destination),
            source_port: if ports { Number::sent(source_port, Field::SourcePort) } else { Number::fixed(source_port) },
            destination_port: if ports { Number::sent(destination_port, Field::DestinationPort) } else { Number::fixed(0) },
            tos: Number::sent(tos, Field::Tos),
            length: Number::sent(length, Field::Length),
            transport: packet.transport,
        }
    }

    /// An answer goes to ports that nobody knows before, if the kernel picked them at random for what it answers.
    pub(crate) fn keep_random(&mut self, asked: &Self) {
        let back = asked.reversed();
        for (port, asked) in [(&mut self.source_port, back.source_port), (&mut self.destination_port, back.destination_port)] {
            if !asked.known {
                *port = asked;
            }
        }
    }

    /// The same of a packet that goes back.
    pub(crate) const fn reversed(&self) -> Self {
        Self { source: self.destination, destination: self.source, source_port: self.destination_port, destination_port: self.source_port, ..*self }
    }

    /// The packet's fields in the order of [`Field::ALL`].
    pub(crate) fn values(packet: &Packet) -> [u128; 7] {
        let (source_port, destination_port) = match packet.transport {
            Transport::Icmp { id, .. } | Transport::Icmpv6 { id, .. } => (id, 0),
            Transport::Tcp { source_port, destination_port, .. } | Transport::Udp { source_port, destination_port } => {
                (source_port, destination_port)
            }
        };
        [
            number(packet.source),
            number(packet.destination),
            u128::from(source_port),
            u128::from(destination_port),
            u128::from(packet.tos),
            64,
            u128::from(packet.length),
        ]
    }

    pub(crate) fn packet(&self) -> Packet {
        let (source_port, destination_port) = (self.source_port.port(), self.destination_port.port());
        let transport = match self.transport {
            Transport::Tcp { flags, .. } => Transport::Tcp { source_port, destination_port, flags },
            Transport::Udp { .. } => Transport::Udp { source_port, destination_port },
            icmp @ (Transport::Icmp { .. } | Transport::Icmpv6 { .. }) => icmp,
        };
        Packet {
            source: self.address(self.source),
            destination: self.address(self.destination),
            transport,
            tos: self.tos.byte(),
            length: self.length.port(),
        }
    }

    pub(crate) fn address(&self, number: Number) -> IpAddr {
        address(number.value, self.ipv4)
    }

    /// Bits of an address.
    pub(crate) const fn bits(&self) -> u32 {
        if self.ipv4 { 32 } else { 128 }
    }
}

/// A number as an address.
pub(crate) fn address(value: u128, ipv4: bool) -> IpAddr {
    if ipv4 { IpAddr::V4(Ipv4Addr::from(u32::try_from(value & 0xffff_ffff).unwrap_or(0))) } else { IpAddr::V6(Ipv6Addr::from(value)) }
}

/// One byte of a register or a header: its value, and where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) value: u8,
    pub(crate) origin: Origin,
}

/// Where a byte comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Always this value.
    Fixed,
    /// `(byte & mask) ^ xor` of what differs; byte 0 is the lowest.
    Of { field: Variable, byte: u8, mask: u8, xor: u8 },
    /// The bits in the mask may be anything.
    Unknown { mask: u8 },
}

impl Cell {
    pub(crate) const fn fixed(value: u8) -> Self {
        Self { value, origin: Origin::Fixed }
    }

    pub(crate) const fn unknown() -> Self {
        Self { value: 0, origin: Origin::Unknown { mask: 0xff } }
    }

    /// `(self & mask) ^ xor`.
    pub(crate) const fn masked(self, mask: u8, xor: u8) -> Self {
        let value = (self.value & mask) ^ xor;
        let origin = match self.origin {
            Origin::Fixed => Origin::Fixed,
            Origin::Of { field, byte, mask: own, xor: flipped } => {
                if own & mask == 0 {
                    Origin::Fixed
                } else {
                    Origin::Of { field, byte, mask: own & mask, xor: (flipped & mask) ^ xor }
                }
            }
            Origin::Unknown { mask: own } => {
                if own & mask == 0 {
                    Origin::Fixed
                } else {
                    Origin::Unknown { mask: own & mask }
                }
            }
        };
        Self { value, origin }
    }

    /// The bytes of a number of this many bytes, highest first.
    pub(crate) fn of_number(number: Number, bytes: u8) -> impl Iterator<Item = Self> {
        (0..bytes).rev().map(move |byte| {
            let value = u8::try_from(number.value >> (u32::from(byte) * 8) & 0xff).unwrap_or(0);
            let origin = match number.field {
                _ if !number.known => Origin::Unknown { mask: 0xff },
                Some(field) => Origin::Of { field, byte, mask: 0xff, xor: 0 },
                None => Origin::Fixed,
            };
            Self { value, origin }
        })
    }
}
