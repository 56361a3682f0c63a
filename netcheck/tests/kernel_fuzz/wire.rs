//! Packets as bytes, with a number in them by which they are known again.

use std::net::IpAddr;

use netcheck::packet::{Packet, Transport};

/// The packet with its IP header; `id` is in the payload, or the sequence number of a segment.
pub(crate) fn bytes(packet: &Packet, id: u32) -> Vec<u8> {
    let mut transport = match packet.transport {
        Transport::Icmp { kind, code, id: echo } | Transport::Icmpv6 { kind, code, id: echo } => {
            let mut bytes = vec![kind, code, 0, 0];
            bytes.extend(echo.to_be_bytes());
            bytes.extend([0, 0]);
            bytes.extend(id.to_be_bytes());
            bytes
        }
        Transport::Tcp { source_port, destination_port, flags } => {
            let mut bytes = Vec::new();
            bytes.extend(source_port.to_be_bytes());
            bytes.extend(destination_port.to_be_bytes());
            bytes.extend(id.to_be_bytes());
            bytes.extend([0, 0, 0, 0, 0x50, flags, 0x20, 0, 0, 0, 0, 0]);
            bytes
        }
        Transport::Udp { source_port, destination_port } => {
            let mut bytes = Vec::new();
            bytes.extend(source_port.to_be_bytes());
            bytes.extend(destination_port.to_be_bytes());
            bytes.extend([0, 12, 0, 0]);
            bytes.extend(id.to_be_bytes());
            bytes
        }
    };
    let place = match packet.transport {
        Transport::Icmp { .. } | Transport::Icmpv6 { .. } => 2,
        Transport::Tcp { .. } => 16,
        Transport::Udp { .. } => 6,
    };
    let sum = checksum(packet, &transport);
    transport[place..place + 2].copy_from_slice(&sum.to_be_bytes());
    let mut whole = header(packet, transport.len());
    whole.extend(transport);
    whole
}

/// Length of the packet that [`bytes`] makes.
pub(crate) fn length(packet: &Packet) -> u16 {
    let ip = if packet.is_ipv4() { 20 } else { 40 };
    ip + match packet.transport {
        Transport::Tcp { .. } => 20,
        Transport::Icmp { .. } | Transport::Icmpv6 { .. } | Transport::Udp { .. } => 12,
    }
}

/// The number in a transport header and its payload, and its ports, if it is one of ours.
pub(crate) fn identify(protocol: u8, bytes: &[u8]) -> Option<(u32, Option<(u16, u16)>)> {
    let word = |at: usize| bytes.get(at..at + 4).map(|four| u32::from_be_bytes(four.try_into().unwrap()));
    let port = |at: usize| bytes.get(at..at + 2).map(|two| u16::from_be_bytes(two.try_into().unwrap()));
    match protocol {
        6 => Some((word(4)?, Some((port(0)?, port(2)?)))).filter(|_| bytes.get(13) == Some(&2)),
        17 => Some((word(8)?, Some((port(0)?, port(2)?)))).filter(|_| bytes.len() == 12),
        1 => Some((word(8)?, None)).filter(|_| bytes[0] == 8 && bytes.len() == 12),
        58 => Some((word(8)?, None)).filter(|_| bytes[0] == 128 && bytes.len() == 12),
        _ => None,
    }
}

fn header(packet: &Packet, payload: usize) -> Vec<u8> {
    match (packet.source, packet.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut bytes = vec![0x45, packet.tos];
            bytes.extend(u16::try_from(20 + payload).unwrap().to_be_bytes());
            bytes.extend([0, 1, 0, 0, 64, packet.transport.number(), 0, 0]);
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
            bytes
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut bytes = vec![0x60 | packet.tos >> 4, packet.tos << 4, 0, 0];
            bytes.extend(u16::try_from(payload).unwrap().to_be_bytes());
            bytes.extend([packet.transport.number(), 64]);
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
            bytes
        }
        _ => panic!("two families"),
    }
}

fn checksum(packet: &Packet, transport: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    let mut add = |bytes: &[u8]| {
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        }
    };
    add(transport);
    if !matches!(packet.transport, Transport::Icmp { .. }) {
        for address in [packet.source, packet.destination] {
            match address {
                IpAddr::V4(v4) => add(&v4.octets()),
                IpAddr::V6(v6) => add(&v6.octets()),
            }
        }
        add(&u32::try_from(transport.len()).unwrap().to_be_bytes());
        add(&[0, packet.transport.number()]);
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let folded = !u16::try_from(sum).unwrap();
    if folded == 0 { 0xffff } else { folded }
}
