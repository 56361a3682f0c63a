//! Structures of iptables' matches and targets. `include/uapi/linux/netfilter/xt_*.h`; integers in host order unless the header says `__be`.
//!
//! A name or revision that is not here, or a structure that is too short, is `Opaque`: rules that hold it may match or not.

use std::net::{IpAddr, Ipv4Addr};

use super::attribute::{address, be16_at, string, u16_at, u32_at};
use crate::snapshot::{
    AddressType, Bytes, CtMatch, Family, IcmpMatch, IpRange, Mac, Match, Multiport, MultiportKind, NatRange, PortMatch, PortRange, SetMatch,
    SetTarget, Target, TcpFlags,
};

/// Matches whose outcome depends on chance, time, volume or earlier packets.
const SOMETIMES: [&str; 10] = ["connbytes", "connlimit", "cpu", "hashlimit", "limit", "quota", "recent", "statistic", "time", "rateest"];
/// Matches on the socket that a packet belongs to.
const LOCAL: [&str; 3] = ["cgroup", "owner", "socket"];
/// Targets that do not decide where a packet goes.
const CONTINUE: [&str; 16] = [
    "AUDIT",
    "CHECKSUM",
    "CLASSIFY",
    "CONNSECMARK",
    "DSCP",
    "HL",
    "IDLETIMER",
    "LED",
    "LOG",
    "NFLOG",
    "RATEEST",
    "SECMARK",
    "TCPMSS",
    "TOS",
    "TRACE",
    "TTL",
];

/// The match of this name and revision. Never none: what is not known is [`Match::Opaque`].
#[must_use]
pub fn matching(name: &str, revision: u32, info: &[u8], family: Family) -> Option<Match> {
    let opaque = || Match::Opaque { name: name.to_owned(), revision, bytes: Bytes::from(info) };
    let known = known_match(name, revision, info, family);
    Some(known.unwrap_or_else(opaque))
}

fn known_match(name: &str, revision: u32, info: &[u8], family: Family) -> Option<Match> {
    match (name, revision) {
        ("addrtype", 0) => addrtype_v0(info),
        ("addrtype", 1) => addrtype_v1(info),
        ("comment", 0) => Some(Match::Comment(string(info))),
        ("connmark", 1) => {
            let (mark, mask, invert) = mark(info)?;
            Some(Match::Connmark { mark, mask, invert })
        }
        ("conntrack", 1..=3) => conntrack(revision, info, family).map(Box::new).map(Match::Conntrack),
        ("icmp", 0) => icmp(info).map(Match::Icmp),
        ("icmp6", 0) => icmp(info).map(Match::Icmp6),
        ("iprange", 1) => iprange(info, family),
        ("mac", 0) => Some(Match::Mac { address: Mac(*info.first_chunk()?), invert: u32_at(info, 8)? != 0 }),
        ("mark", 1) => {
            let (mark, mask, invert) = mark(info)?;
            Some(Match::Mark { mark, mask, invert })
        }
        ("multiport", 1) => multiport(info).map(Match::Multiport),
        ("physdev", 0) => physdev(info),
        ("pkttype", 0) => Some(Match::Pkttype { kind: u32_at(info, 0)?, invert: u32_at(info, 4)? != 0 }),
        ("rpfilter", 0) => Some(Match::Rpfilter { flags: *info.first()? }),
        ("set", 1..=4) => set_match(revision, info).map(Match::Set),
        ("state", 0) => {
            Some(Match::Conntrack(Box::new(CtMatch { state: Some((u16::try_from(u32_at(info, 0)?).ok()?, false)), ..CtMatch::default() })))
        }
        ("tcp", 0) => tcp(info),
        ("udp", 0) => Some(Match::Udp(port_match(info, *info.get(8)?)?)),
        _ if SOMETIMES.contains(&name) => Some(Match::Sometimes(name.to_owned())),
        _ if LOCAL.contains(&name) => Some(Match::Local(name.to_owned())),
        _ => None,
    }
}

/// `xt_mark_mtinfo1` and `xt_connmark_mtinfo1`.
fn mark(info: &[u8]) -> Option<(u32, u32, bool)> {
    Some((u32_at(info, 0)?, u32_at(info, 4)?, *info.get(8)? != 0))
}

fn addrtype_v0(info: &[u8]) -> Option<Match> {
    let (source, destination) = (u16_at(info, 0)?, u16_at(info, 2)?);
    Some(Match::Addrtype {
        source: address_type(source, u32_at(info, 4)? != 0),
        destination: address_type(destination, u32_at(info, 8)? != 0),
        limit_iif: false,
        limit_oif: false,
    })
}

fn addrtype_v1(info: &[u8]) -> Option<Match> {
    let (source, destination, flags) = (u16_at(info, 0)?, u16_at(info, 2)?, u32_at(info, 4)?);
    Some(Match::Addrtype {
        source: address_type(source, flags & 1 != 0),
        destination: address_type(destination, flags & 2 != 0),
        limit_iif: flags & 4 != 0,
        limit_oif: flags & 8 != 0,
    })
}

fn address_type(types: u16, invert: bool) -> Option<AddressType> {
    (types != 0).then_some(AddressType { types, invert })
}

/// `xt_conntrack_mtinfo1..3`: eight addresses, two expirations, protocol, four ports, then flags whose place depends on the revision.
fn conntrack(revision: u32, info: &[u8], family: Family) -> Option<CtMatch> {
    let flags = u16_at(info, 146)?;
    let inverted = u16_at(info, 148)?;
    let has = |bit: u16| flags & bit != 0;
    let not = |bit: u16| inverted & bit != 0;
    let (state, status) = match revision {
        1 => (u16::from(*info.get(150)?), u16::from(*info.get(151)?)),
        _ => (u16_at(info, 150)?, u16_at(info, 152)?),
    };
    let masked = |bit, at| match has(bit) {
        true => Some(Some((inet(info, at, family)?, inet(info, at + 16, family)?, not(bit)))),
        false => Some(None),
    };
    let ports = |bit, at, high| match has(bit) {
        true => Some(Some((ct_ports(revision, info, at, high)?, not(bit)))),
        false => Some(None),
    };
    Some(CtMatch {
        state: has(0x1).then_some((state, not(0x1))),
        status: has(0x40).then_some((status, not(0x40))),
        original: has(0x1000).then_some(!not(0x1000)),
        protocol: if has(0x2) { Some((u16_at(info, 136)?, not(0x2))) } else { None },
        original_source: masked(0x4, 0)?,
        original_destination: masked(0x8, 32)?,
        reply_source: masked(0x10, 64)?,
        reply_destination: masked(0x20, 96)?,
        original_source_ports: ports(0x100, 138, 154)?,
        original_destination_ports: ports(0x200, 140, 156)?,
        reply_source_ports: ports(0x400, 142, 158)?,
        reply_destination_ports: ports(0x800, 144, 160)?,
        expires: has(0x80),
    })
}

/// One port in network order before revision 3, a range in host order since.
fn ct_ports(revision: u32, info: &[u8], low: usize, high: usize) -> Option<PortRange> {
    if revision < 3 {
        let port = be16_at(info, low)?;
        return Some(PortRange { first: port, last: port });
    }
    Some(PortRange { first: u16_at(info, low)?, last: u16_at(info, high)? })
}

/// `union nf_inet_addr`, of which IPv4 fills the first four bytes.
fn inet(info: &[u8], at: usize, family: Family) -> Option<IpAddr> {
    let length = if family == Family::Ip6 { 16 } else { 4 };
    info.get(at..at + length).and_then(address)
}

/// `struct ipt_icmp`, `struct ip6t_icmp`.
fn icmp(info: &[u8]) -> Option<IcmpMatch> {
    let &[kind, code_from, code_to, flags, ..] = info else {
        return None;
    };
    Some(IcmpMatch { kind, code_from, code_to, invert: flags & 1 != 0 })
}

fn iprange(info: &[u8], family: Family) -> Option<Match> {
    let flags = *info.get(64)?;
    let range = |has: u8, not: u8, at| match flags & has != 0 {
        true => Some(Some(IpRange { from: inet(info, at, family)?, to: inet(info, at + 16, family)?, invert: flags & not != 0 })),
        false => Some(None),
    };
    Some(Match::Iprange { source: range(0x1, 0x10, 0)?, destination: range(0x2, 0x20, 32)? })
}

/// `struct xt_multiport_v1`: a port whose `pflags` is set begins a range that the next port ends.
fn multiport(info: &[u8]) -> Option<Multiport> {
    let kind = match *info.first()? {
        0 => MultiportKind::Source,
        1 => MultiportKind::Destination,
        2 => MultiportKind::Either,
        _ => return None,
    };
    let count = usize::from(*info.get(1)?);
    let mut ports = Vec::with_capacity(count);
    let mut index = 0;
    while index < count {
        let first = u16_at(info, 2 + 2 * index)?;
        let is_range = *info.get(32 + index)? != 0;
        index += usize::from(is_range);
        ports.push(PortRange { first, last: u16_at(info, 2 + 2 * index)? });
        index += 1;
    }
    Some(Multiport { kind, ports, invert: *info.get(47)? != 0 })
}

/// `struct xt_physdev_info`; a mask of less than the whole name is a prefix.
fn physdev(info: &[u8]) -> Option<Match> {
    let name = |at: usize| {
        let text = string(info.get(at..at + 16)?);
        let mask = info.get(at + 16..at + 32)?;
        let counted = mask.iter().take_while(|byte| **byte != 0).count();
        let prefix = counted > 0 && counted == text.len();
        Some(if prefix { format!("{text}+") } else { text })
    };
    Some(Match::Physdev { input: name(0)?, output: name(32)?, invert: *info.get(64)?, conditions: *info.get(65)? })
}

/// `xt_set_info_match_v1`, `v3`, `v4`: the later ones have counters.
fn set_match(revision: u32, info: &[u8]) -> Option<SetMatch> {
    let &[_, _, dimensions, flags, ..] = info else {
        return None;
    };
    let counters = match revision {
        3 => *info.get(8)? != 0 || *info.get(24)? != 0,
        4 => *info.get(16)? != 0 || *info.get(32)? != 0,
        _ => false,
    };
    Some(SetMatch { index: u16_at(info, 0)?, dimensions, source: flags & 0x0e, invert: flags & 1 != 0, counters })
}

/// `struct xt_tcp`.
fn tcp(info: &[u8]) -> Option<Match> {
    let (option, mask, set, flags) = (*info.get(8)?, *info.get(9)?, *info.get(10)?, *info.get(11)?);
    Some(Match::Tcp {
        ports: port_match(info, flags)?,
        flags: (mask != 0 || flags & 4 != 0).then_some(TcpFlags { mask, set, invert: flags & 4 != 0 }),
        option,
        invert_option: flags & 8 != 0,
    })
}

/// The ports of `struct xt_tcp` and `struct xt_udp`.
fn port_match(info: &[u8], flags: u8) -> Option<PortMatch> {
    let range = |at| Some(PortRange { first: u16_at(info, at)?, last: u16_at(info, at + 2)? });
    Some(PortMatch { source: range(0)?, invert_source: flags & 1 != 0, destination: range(4)?, invert_destination: flags & 2 != 0 })
}

/// The target of this name and revision. Never none: what is not known is [`Target::Opaque`].
#[must_use]
pub fn target(name: &str, revision: u32, info: &[u8], family: Family) -> Option<Target> {
    let opaque = || Target::Opaque { name: name.to_owned(), revision, bytes: Bytes::from(info) };
    let known = known_target(name, revision, info, family);
    Some(known.unwrap_or_else(opaque))
}

fn known_target(name: &str, revision: u32, info: &[u8], family: Family) -> Option<Target> {
    match (name, revision) {
        ("CONNMARK", 1 | 2) => connmark_target(revision, info),
        ("CT", 0..=2) => ct_target(info),
        ("DNAT", _) => nat_range(revision > 0, info, family).map(Target::Dnat),
        ("MARK", 2) => Some(Target::Mark { mark: u32_at(info, 0)?, mask: u32_at(info, 4)? }),
        ("MASQUERADE", 0) => nat_range(family == Family::Ip6, info, family).map(Target::Masquerade),
        ("NETMAP", 0) => nat_range(family == Family::Ip6, info, family).map(Target::Netmap),
        ("NOTRACK", 0) => Some(Target::Notrack),
        ("REDIRECT", 0) => nat_range(family == Family::Ip6, info, family).map(Target::Redirect),
        ("REJECT", 0) => Some(Target::Reject { with: u32_at(info, 0)? }),
        ("SET", 1..=3) => set_target(revision, info),
        ("SNAT", _) => nat_range(revision > 0, info, family).map(Target::Snat),
        ("TPROXY", 0 | 1) => tproxy(revision, info, family),
        _ if CONTINUE.contains(&name) => Some(Target::Continue(name.to_owned())),
        _ => None,
    }
}

/// `struct nf_nat_range` and `nf_nat_range2`, or the older `nf_nat_ipv4_multi_range_compat` of one range.
fn nat_range(new: bool, info: &[u8], family: Family) -> Option<NatRange> {
    const MAP_IPS: u32 = 1;
    const PROTO_SPECIFIED: u32 = 2;
    let flags = u32_at(info, if new { 0 } else { 4 })?;
    let (addresses, ports) = if new {
        ((inet(info, 4, family)?, inet(info, 20, family)?), (36, 38))
    } else {
        ((inet(info, 8, Family::Ip)?, inet(info, 12, Family::Ip)?), (16, 18))
    };
    let ports = PortRange { first: be16_at(info, ports.0)?, last: be16_at(info, ports.1)? };
    Some(NatRange { flags, addresses: (flags & MAP_IPS != 0).then_some(addresses), ports: (flags & PROTO_SPECIFIED != 0).then_some(ports) })
}

/// `xt_connmark_tginfo1` and `2`; the second has a shift, which is not known to the model unless it is none.
fn connmark_target(revision: u32, info: &[u8]) -> Option<Target> {
    let mode = match revision {
        1 => *info.get(12)?,
        _ if *info.get(13)? == 0 => *info.get(14)?,
        _ => return None,
    };
    Some(Target::Connmark { mode, ctmark: u32_at(info, 0)?, ctmask: u32_at(info, 4)?, nfmask: u32_at(info, 8)? })
}

/// `struct xt_ct_target_info`; zones by direction or mark are not known to the model.
fn ct_target(info: &[u8]) -> Option<Target> {
    const NOTRACK: u16 = 0x1;
    const ZONE_BY_DIRECTION_OR_MARK: u16 = 0x4 | 0x8 | 0x10;
    let flags = u16_at(info, 0)?;
    if flags & ZONE_BY_DIRECTION_OR_MARK != 0 {
        return None;
    }
    let helper: Vec<u8> = info.get(12..28)?.iter().copied().take_while(|byte| *byte != 0).collect();
    let helper = (!helper.is_empty()).then(|| String::from_utf8_lossy(&helper).into_owned());
    Some(Target::Ct { zone: u16_at(info, 2)?, notrack: flags & NOTRACK != 0, helper })
}

/// `xt_set_info_target_v1`: two sets, `IPSET_INVALID_ID` for none; `v3` has a third that maps to marks.
fn set_target(revision: u32, info: &[u8]) -> Option<Target> {
    const MAP_SKBMARK: u32 = 1 << 8;
    let set = |at| Some(Some(u16_at(info, at)?).filter(|index| *index != u16::MAX));
    let marks = revision >= 3 && set(8)?.is_some() && u32_at(info, 12)? & MAP_SKBMARK != 0;
    Some(Target::Set(SetTarget { add: set(0)?, delete: set(4)?, marks }))
}

/// `struct xt_tproxy_target_info` and `info_v1`.
fn tproxy(revision: u32, info: &[u8], family: Family) -> Option<Target> {
    let address = match revision {
        0 => IpAddr::V4(Ipv4Addr::from(*info.get(8..)?.first_chunk::<4>()?)),
        _ => inet(info, 8, family)?,
    };
    let port = be16_at(info, if revision == 0 { 12 } else { 24 })?;
    Some(Target::Tproxy { address, port, mask: u32_at(info, 0)?, mark: u32_at(info, 4)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        hex.replace(' ', "").parse::<Bytes>().unwrap().0
    }

    #[test]
    fn structures_as_the_kernel_dumps_them_are_read() {
        let port = |port| PortRange { first: port, last: port };
        let dnat = bytes("03000000 0a010103 00000000 00000000 00000000 0a010103 00000000 00000000 00000000 0050 0050 0000 0000 00000000");
        let to = IpAddr::from([10, 1, 1, 3]);
        assert_eq!(target("DNAT", 2, &dnat, Family::Ip), Some(Target::Dnat(NatRange { flags: 3, addresses: Some((to, to)), ports: Some(port(80)) })));
        assert_eq!(
            matching("addrtype", 1, &bytes("0000040000000000"), Family::Ip),
            Some(Match::Addrtype { source: None, destination: Some(AddressType { types: 4, invert: false }), limit_iif: false, limit_oif: false })
        );
    }

    #[test]
    fn every_name_with_a_short_structure_is_opaque_and_not_a_panic() {
        let names = [
            "addrtype",
            "connmark",
            "conntrack",
            "icmp",
            "icmp6",
            "iprange",
            "mac",
            "mark",
            "multiport",
            "physdev",
            "pkttype",
            "rpfilter",
            "set",
            "state",
            "tcp",
            "udp",
            "DNAT",
            "SNAT",
            "MASQUERADE",
            "REDIRECT",
            "NETMAP",
            "MARK",
            "CONNMARK",
            "CT",
            "REJECT",
            "SET",
            "TPROXY",
        ];
        for name in names {
            for revision in 0..5 {
                for length in 0..200 {
                    let info = vec![0xff; length];
                    assert!(matching(name, revision, &info, Family::Ip).is_some());
                    assert!(target(name, revision, &info, Family::Ip6).is_some());
                }
            }
        }
    }
}
