//! Packets as bytes, with a number in them by which they are known again.

use std::net::IpAddr;

use crate::encode::octets;
use crate::model::Tags;
use crate::packet::{ECN, Packet, SYN, Transport};
use crate::snapshot::Mac;

/// The packet with its IP header, as long as it says it is if that is long enough. `id` is in the payload, or the sequence number of a segment.
#[must_use]
pub fn bytes(packet: &Packet, id: u32) -> Vec<u8> {
    let mut transport = match packet.transport {
        Transport::Icmp { kind, code, id: echo } | Transport::Icmpv6 { kind, code, id: echo } => {
            let [high, low] = echo.to_be_bytes();
            let mut bytes = vec![kind, code, 0, 0, high, low, 0, 0];
            bytes.extend(id.to_be_bytes());
            bytes
        }
        Transport::Tcp { source_port, destination_port, flags } => {
            let mut bytes = [source_port.to_be_bytes(), destination_port.to_be_bytes()].concat();
            bytes.extend(id.to_be_bytes());
            bytes.extend([0, 0, 0, 0, 0x50, flags, 0x20, 0, 0, 0, 0, 0]);
            bytes
        }
        Transport::Udp { source_port, destination_port } => {
            let length = usize::from(length(packet)) - header_length(packet);
            let length = u16::try_from(length).unwrap_or(u16::MAX);
            let mut bytes = [source_port.to_be_bytes(), destination_port.to_be_bytes(), length.to_be_bytes(), [0, 0]].concat();
            bytes.extend(id.to_be_bytes());
            bytes
        }
    };
    transport.resize(usize::from(length(packet)) - header_length(packet), 0);
    let place = match packet.transport {
        Transport::Icmp { .. } | Transport::Icmpv6 { .. } => 2,
        Transport::Tcp { .. } => 16,
        Transport::Udp { .. } => 6,
    };
    let sum = transport_checksum(packet, &transport);
    put(&mut transport, place, sum);
    let mut whole = header(packet, transport.len());
    whole.extend(transport);
    whole
}

/// The same as an Ethernet frame.
#[must_use]
pub fn frame(packet: &Packet, id: u32, (source, destination): (Mac, Mac), tags: Tags) -> Vec<u8> {
    let mut bytes = [destination.0, source.0].concat();
    for tag in tags.iter() {
        bytes.extend([0x81, 0]);
        bytes.extend(tag.to_be_bytes());
    }
    bytes.extend(if packet.is_ipv4() { [0x08, 0] } else { [0x86, 0xdd] });
    bytes.extend(self::bytes(packet, id));
    bytes
}

/// Length of the packet that [`bytes()`] makes: a datagram and an echo need room for the number.
#[must_use]
pub fn length(packet: &Packet) -> u16 {
    let least = header_length(packet)
        + match packet.transport {
            Transport::Tcp { .. } => 20,
            Transport::Icmp { .. } | Transport::Icmpv6 { .. } | Transport::Udp { .. } => 12,
        };
    packet.length.max(u16::try_from(least).unwrap_or(u16::MAX))
}

const fn header_length(packet: &Packet) -> usize {
    if packet.is_ipv4() { 20 } else { 40 }
}

/// The number in a transport header and its payload, and its ports, if it is the first packet of a flow or one of ours that answers it.
#[must_use]
pub fn identify(protocol: u8, bytes: &[u8]) -> Option<(u32, Option<(u16, u16)>)> {
    let word = |at: usize| bytes.get(at..)?.first_chunk().copied().map(u32::from_be_bytes);
    let port = |at: usize| bytes.get(at..)?.first_chunk().copied().map(u16::from_be_bytes);
    match protocol {
        6 => Some((word(4)?, Some((port(0)?, port(2)?)))).filter(|_| bytes.get(13).is_some_and(|flags| flags & !ECN == SYN)),
        17 => Some((word(8)?, Some((port(0)?, port(2)?)))),
        1 => Some((word(8)?, None)).filter(|_| bytes.first() == Some(&8)),
        58 => Some((word(8)?, None)).filter(|_| bytes.first() == Some(&128)),
        _ => None,
    }
}

/// The number in an Ethernet frame that holds one of ours.
#[must_use]
pub fn identify_frame(bytes: &[u8]) -> Option<u32> {
    let kind = |at: usize| bytes.get(at..)?.first_chunk().copied().map(u16::from_be_bytes);
    let at = [12, 16, 20].into_iter().find(|at| kind(*at) != Some(0x8100))?;
    let (kind, packet) = (kind(at)?, bytes.get(at + 2..)?);
    let (protocol, length) = match kind {
        0x0800 => (*packet.get(9)?, usize::from(*packet.first()? & 15) * 4),
        0x86dd => (*packet.get(6)?, 40),
        _ => return None,
    };
    identify(protocol, packet.get(length..)?).map(|(id, _)| id)
}

fn header(packet: &Packet, payload: usize) -> Vec<u8> {
    let length = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes();
    let [high, low] = length(if packet.is_ipv4() { 20 + payload } else { payload });
    let protocol = packet.transport.number();
    let mut bytes = if packet.is_ipv4() {
        vec![0x45, packet.tos, high, low, 0, 1, 0, 0, 64, protocol, 0, 0]
    } else {
        vec![0x60 | packet.tos >> 4, packet.tos << 4, 0, 0, high, low, protocol, 64]
    };
    bytes.extend(octets(packet.source));
    bytes.extend(octets(packet.destination));
    if packet.is_ipv4() {
        let sum = fold(&[&bytes]);
        put(&mut bytes, 10, sum);
    }
    bytes
}

/// With the pseudo header, except for ICMP. RFC 9293 §3.1, RFC 768, RFC 4443 §2.3.
fn transport_checksum(packet: &Packet, transport: &[u8]) -> u16 {
    let length = u32::try_from(transport.len()).unwrap_or(u32::MAX).to_be_bytes();
    let (source, destination) = (octets(packet.source), octets(packet.destination));
    let pseudo: [&[u8]; 4] = [&source, &destination, &length, &[0, packet.transport.number()]];
    let sum = match packet.transport {
        Transport::Icmp { .. } => fold(&[transport]),
        Transport::Icmpv6 { .. } | Transport::Tcp { .. } | Transport::Udp { .. } => fold(&[&[transport], &pseudo[..]].concat()),
    };
    if sum == 0 { 0xffff } else { sum }
}

/// The Internet checksum of parts of even length, of which the last may be odd. RFC 1071.
fn fold(parts: &[&[u8]]) -> u16 {
    let pairs = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = pairs.map(|pair| u32::from(pair.first().copied().unwrap_or(0)) << 8 | u32::from(pair.get(1).copied().unwrap_or(0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

/// Whether two addresses are of one family: nothing else can be in one packet.
#[must_use]
pub const fn can_be_written(packet: &Packet) -> bool {
    matches!((packet.source, packet.destination), (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_known_again_whatever_it_carries() {
        let ipv4 = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse::<IpAddr>().unwrap());
        let ipv6 = ["fd00::1", "fd00::2"].map(|text| text.parse::<IpAddr>().unwrap());
        let tcp = Transport::Tcp { source_port: 5, destination_port: 80, flags: SYN };
        let udp = Transport::Udp { source_port: 5, destination_port: 53 };
        let cases = [
            ("tcp", ipv4, tcp, 6, Some((5, 80))),
            ("tcp over IPv6", ipv6, tcp, 6, Some((5, 80))),
            ("udp", ipv4, udp, 17, Some((5, 53))),
            ("icmp", ipv4, Transport::Icmp { kind: 8, code: 0, id: 9 }, 1, None),
            ("icmpv6", ipv6, Transport::Icmpv6 { kind: 128, code: 0, id: 9 }, 58, None),
        ];
        for (name, [source, destination], transport, protocol, ports) in cases {
            for long in [0, 200] {
                let mut packet = Packet::new(source, destination, transport);
                packet.length = packet.length.max(long);
                let bytes = bytes(&packet, 77);
                assert_eq!(bytes.len(), usize::from(length(&packet)), "{name}");
                assert_eq!(identify(protocol, &bytes[header_length(&packet)..]), Some((77, ports)), "{name}");
                for tags in [Tags::NONE, Tags::one(7), Tags { outer: Some(7), inner: Some(0) }] {
                    let frame = frame(&packet, 77, (Mac([2; 6]), Mac([4; 6])), tags);
                    assert_eq!(identify_frame(&frame), Some(77), "{name}");
                }
            }
        }
    }

    /// The example of RFC 1071 §3.
    #[test]
    fn the_checksum_is_the_internets() {
        assert_eq!(fold(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
    }
}
