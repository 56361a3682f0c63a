//! Structures of iptables' matches and targets. `include/uapi/linux/netfilter/xt_*.h`; each has the length that the kernel registered,
//! aligned to eight bytes (`XT_ALIGN`).

use std::net::IpAddr;

use super::{Lack, octets};
use crate::snapshot::{AddressType, CtMatch, Family, IcmpMatch, IpRange, Match, Multiport, MultiportKind, NatRange, PortMatch, PortRange, Target};

/// A name, a revision and the structure that goes with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// As in `-m NAME` or `-j NAME`.
    pub name: String,
    /// Which layout.
    pub revision: u32,
    /// The structure.
    pub info: Vec<u8>,
}

/// A structure that is being filled.
struct Info(Vec<u8>);

impl Info {
    fn new(length: usize) -> Self {
        Self(vec![0; length.next_multiple_of(8)])
    }

    fn put(mut self, at: usize, bytes: &[u8]) -> Self {
        if let Some(place) = self.0.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        self
    }

    fn u16(self, at: usize, value: u16) -> Self {
        self.put(at, &value.to_ne_bytes())
    }

    fn be16(self, at: usize, value: u16) -> Self {
        self.put(at, &value.to_be_bytes())
    }

    fn u32(self, at: usize, value: u32) -> Self {
        self.put(at, &value.to_ne_bytes())
    }

    fn flag(self, at: usize, set: bool) -> Self {
        self.put(at, &[u8::from(set)])
    }

    fn called(self, name: &str, revision: u32) -> Extension {
        Extension { name: name.to_owned(), revision, info: self.0 }
    }
}

/// A match.
///
/// # Errors
/// When it was read in less detail than the kernel needs.
pub fn matching(condition: &Match) -> Result<Extension, Lack> {
    let marks = |name, mark: u32, mask: u32, invert| Ok(Info::new(12).u32(0, mark).u32(4, mask).flag(8, invert).called(name, 1));
    match condition {
        Match::Addrtype { source, destination, limit_iif, limit_oif } => Ok(addrtype(*source, *destination, *limit_iif, *limit_oif)),
        Match::Comment(text) => {
            let kept: Vec<u8> = text.bytes().take(255).collect();
            Ok(Info::new(256).put(0, &kept).called("comment", 0))
        }
        Match::Connmark { mark, mask, invert } => marks("connmark", *mark, *mask, *invert),
        Match::Conntrack(condition) if condition.expires => Err(Lack::Perhaps("match conntrack --ctexpire".to_owned())),
        Match::Conntrack(condition) => Ok(conntrack(condition)),
        Match::Icmp(condition) => Ok(icmp("icmp", condition)),
        Match::Icmp6(condition) => Ok(icmp("icmp6", condition)),
        Match::Iprange { source, destination } => Ok(iprange(*source, *destination)),
        Match::Sometimes(name) | Match::Local(name) => Err(Lack::Perhaps(format!("match {name}"))),
        Match::Mac { address, invert } => Ok(Info::new(12).put(0, &address.0).u32(8, u32::from(*invert)).called("mac", 0)),
        Match::Mark { mark, mask, invert } => marks("mark", *mark, *mask, *invert),
        Match::Multiport(condition) => multiport(condition),
        Match::Physdev { input, output, conditions, invert } => {
            let info = physdev_name(physdev_name(Info::new(66), 0, input), 32, output);
            Ok(info.put(64, &[*invert, *conditions]).called("physdev", 0))
        }
        Match::Pkttype { kind, invert } => Ok(Info::new(8).u32(0, *kind).u32(4, u32::from(*invert)).called("pkttype", 0)),
        Match::Rpfilter { flags } => Ok(Info::new(1).put(0, &[*flags]).called("rpfilter", 0)),
        Match::Set(condition) => Err(Lack::Decides(format!("match set: ipset {}", condition.index))),
        Match::Tcp { ports, flags, option, invert_option } => {
            let (info, mut inverted) = port_match(Info::new(12), ports);
            inverted |= u8::from(flags.is_some_and(|flags| flags.invert)) << 2 | u8::from(*invert_option) << 3;
            let (mask, set) = flags.map_or((0, 0), |flags| (flags.mask, flags.set));
            Ok(info.put(8, &[*option, mask, set, inverted]).called("tcp", 0))
        }
        Match::Udp(ports) => {
            let (info, inverted) = port_match(Info::new(9), ports);
            Ok(info.put(8, &[inverted]).called("udp", 0))
        }
        Match::Opaque { name, revision, bytes } => Ok(Extension { name: name.clone(), revision: *revision, info: bytes.0.clone() }),
    }
}

/// `struct xt_addrtype_info_v1`.
fn addrtype(source: Option<AddressType>, destination: Option<AddressType>, limit_iif: bool, limit_oif: bool) -> Extension {
    let types = |of: Option<AddressType>| of.map_or(0, |of| of.types);
    let inverted = |of: Option<AddressType>| u32::from(of.is_some_and(|of| of.invert));
    let flags = inverted(source) | inverted(destination) << 1 | u32::from(limit_iif) << 2 | u32::from(limit_oif) << 3;
    Info::new(8).u16(0, types(source)).u16(2, types(destination)).u32(4, flags).called("addrtype", 1)
}

/// `struct xt_conntrack_mtinfo3`.
fn conntrack(condition: &CtMatch) -> Extension {
    let mut info = Info::new(164);
    let (mut flags, mut inverted) = (0_u16, 0_u16);
    let mut note = |bit: u16, invert: bool| {
        flags |= bit;
        inverted |= if invert { bit } else { 0 };
    };
    if let Some((state, invert)) = condition.state {
        note(0x1, invert);
        info = info.u16(150, state);
    }
    if let Some((status, invert)) = condition.status {
        note(0x40, invert);
        info = info.u16(152, status);
    }
    if let Some(original) = condition.original {
        note(0x1000, !original);
    }
    if let Some((protocol, invert)) = condition.protocol {
        note(0x2, invert);
        info = info.u16(136, protocol);
    }
    let addresses = [
        (0x4, 0, &condition.original_source),
        (0x8, 32, &condition.original_destination),
        (0x10, 64, &condition.reply_source),
        (0x20, 96, &condition.reply_destination),
    ];
    for (bit, at, address) in addresses {
        if let Some((address, mask, invert)) = address {
            note(bit, *invert);
            info = info.put(at, &octets(*address)).put(at + 16, &octets(*mask));
        }
    }
    let ports = [
        (0x100, 138, 154, &condition.original_source_ports),
        (0x200, 140, 156, &condition.original_destination_ports),
        (0x400, 142, 158, &condition.reply_source_ports),
        (0x800, 144, 160, &condition.reply_destination_ports),
    ];
    for (bit, low, high, range) in ports {
        if let Some((PortRange { first, last }, invert)) = range {
            note(bit, *invert);
            info = info.u16(low, *first).u16(high, *last);
        }
    }
    info.u16(146, flags).u16(148, inverted).called("conntrack", 3)
}

/// `struct ipt_icmp`, `struct ip6t_icmp`.
fn icmp(name: &str, condition: &IcmpMatch) -> Extension {
    let IcmpMatch { kind, code_from, code_to, invert } = *condition;
    Info::new(4).put(0, &[kind, code_from, code_to, u8::from(invert)]).called(name, 0)
}

/// `struct xt_iprange_mtinfo`.
fn iprange(source: Option<IpRange>, destination: Option<IpRange>) -> Extension {
    let mut info = Info::new(65);
    let mut flags = 0;
    for (range, at, bit) in [(source, 0, 0x1_u8), (destination, 32, 0x2)] {
        if let Some(IpRange { from, to, invert }) = range {
            info = info.put(at, &octets(from)).put(at + 16, &octets(to));
            flags |= bit | if invert { bit << 4 } else { 0 };
        }
    }
    info.put(64, &[flags]).called("iprange", 1)
}

/// `struct xt_multiport_v1`: at most fifteen ports, of which a range takes two.
fn multiport(condition: &Multiport) -> Result<Extension, Lack> {
    let mut info = Info::new(48);
    let mut count = 0_u8;
    for PortRange { first, last } in &condition.ports {
        for (port, begins) in [(first, first != last), (last, false)] {
            if count >= 15 {
                return Err(Lack::Decides("match multiport with more ports than it can have".to_owned()));
            }
            let at = usize::from(count);
            info = info.u16(2 + 2 * at, *port).flag(32 + at, begins);
            count += 1;
            if first == last {
                break;
            }
        }
    }
    let kind = match condition.kind {
        MultiportKind::Source => 0,
        MultiportKind::Destination => 1,
        MultiportKind::Either => 2,
    };
    Ok(info.put(0, &[kind, count]).flag(47, condition.invert).called("multiport", 1))
}

/// A name and the mask of what counts in it: the final zero too, unless it is a prefix.
fn physdev_name(info: Info, at: usize, name: &str) -> Info {
    let (text, counted) = match name.strip_suffix('+') {
        Some(prefix) => (prefix, prefix.len()),
        None if name.is_empty() => ("", 0),
        None => (name, name.len() + 1),
    };
    info.put(at, text.as_bytes()).put(at + 16, &vec![0xff; counted.min(16)])
}

/// The ports of `struct xt_tcp` and `struct xt_udp`, and which of them are inverted.
fn port_match(info: Info, ports: &PortMatch) -> (Info, u8) {
    let info = info.u16(0, ports.source.first).u16(2, ports.source.last).u16(4, ports.destination.first).u16(6, ports.destination.last);
    (info, u8::from(ports.invert_source) | u8::from(ports.invert_destination) << 1)
}

/// A target.
///
/// # Errors
/// When it was read in less detail than the kernel needs.
pub fn target(target: &Target, family: Family) -> Result<Extension, Lack> {
    match target {
        Target::Continue(name) => Err(Lack::Harmless(format!("target {name}"))),
        Target::Connmark { mode, ctmark, ctmask, nfmask } => {
            Ok(Info::new(13).u32(0, *ctmark).u32(4, *ctmask).u32(8, *nfmask).put(12, &[*mode]).called("CONNMARK", 1))
        }
        Target::Dnat(range) => Ok(range2(range).called("DNAT", 2)),
        Target::Snat(range) => Ok(range2(range).called("SNAT", 2)),
        Target::Mark { mark, mask } => Ok(Info::new(8).u32(0, *mark).u32(4, *mask).called("MARK", 2)),
        Target::Masquerade(range) => Ok(old_range(range, family).called("MASQUERADE", 0)),
        Target::Netmap(range) => Ok(old_range(range, family).called("NETMAP", 0)),
        Target::Redirect(range) => Ok(old_range(range, family).called("REDIRECT", 0)),
        Target::Notrack => Ok(Info::new(72).u16(0, 1).called("CT", 1)),
        Target::Ct { zone, notrack, .. } => Ok(Info::new(72).u16(0, u16::from(*notrack)).u16(2, *zone).called("CT", 1)),
        Target::Reject { with } => Ok(Info::new(4).u32(0, *with).called("REJECT", 0)),
        Target::Set(_) => Err(Lack::Harmless("target SET".to_owned())),
        // The model never says where a packet goes that meets one of these.
        Target::Tproxy { .. } => Err(Lack::Perhaps("target TPROXY".to_owned())),
        Target::Opaque { name, .. } => Err(Lack::Perhaps(format!("target {name}"))),
    }
}

/// `struct nf_nat_range2`.
fn range2(range: &NatRange) -> Info {
    new_range(Info::new(44), range)
}

/// `struct nf_nat_range`, of which the newer one is a continuation.
fn new_range(mut info: Info, range: &NatRange) -> Info {
    info = info.u32(0, range.flags);
    if let Some((from, to)) = range.addresses {
        info = info.put(4, &octets(from)).put(20, &octets(to));
    }
    match range.ports {
        Some(PortRange { first, last }) => info.be16(36, first).be16(38, last),
        None => info,
    }
}

/// What MASQUERADE, NETMAP and REDIRECT have: `struct nf_nat_range` for IPv6, `struct nf_nat_ipv4_multi_range_compat` for IPv4.
fn old_range(range: &NatRange, family: Family) -> Info {
    if family == Family::Ip6 {
        return new_range(Info::new(40), range);
    }
    let mut info = Info::new(20).u32(0, 1).u32(4, range.flags);
    if let Some((IpAddr::V4(from), IpAddr::V4(to))) = range.addresses {
        info = info.put(8, &from.octets()).put(12, &to.octets());
    }
    match range.ports {
        Some(PortRange { first, last }) => info.be16(16, first).be16(18, last),
        None => info,
    }
}
