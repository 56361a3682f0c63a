//! Links, addresses, neighbours. `include/uapi/linux/if_link.h`, `if_addr.h`, `neighbour.h`, `if_bridge.h`, `netconf.h`.

use super::attribute::{Attributes, string, u16_at, u32_at};
use super::{DecodeError, missing};
use crate::snapshot::{Address, Bridge, BridgePort, Bytes, Fdb, Ipv4Conf, Ipv6Conf, Link, LinkKind, Mac, NamespaceId, Neighbour, Peer, PortVlan};
use crate::uapi::{
    AF_BRIDGE, IFA_ADDRESS, IFA_LOCAL, IFF_NOARP, IFF_UP, IFLA_ADDRESS, IFLA_AF_SPEC, IFLA_GROUP, IFLA_IFNAME, IFLA_LINK, IFLA_LINKINFO, IFLA_MASTER,
    IFLA_MTU, NTF_PROXY, NUD_NOARP, NUD_PERMANENT,
};

const IFF_LOWER_UP: u32 = 0x1_0000;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_XDP: u16 = 43;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const ARPHRD_LOOPBACK: u16 = 772;

/// A link and what the dump says about it beside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodedLink {
    /// The link.
    pub link: Link,
    /// An XDP program is attached.
    pub xdp: bool,
    /// The name of its queueing discipline (`IFLA_QDISC`).
    pub qdisc: Option<String>,
}

/// `RTM_NEWLINK`. `namespace_of` translates the id of a namespace as seen from here; none is here itself.
///
/// # Errors
/// When it is malformed.
pub fn link(payload: &[u8], namespace_of: &dyn Fn(Option<i32>) -> Option<NamespaceId>) -> Result<DecodedLink, DecodeError> {
    let what = "link message";
    let truncated = DecodeError::Truncated { what };
    let hardware = u16_at(payload, 2).ok_or(truncated.clone())?;
    let index = u32_at(payload, 4).ok_or(truncated.clone())?;
    let flags = u32_at(payload, 8).ok_or(truncated.clone())?;
    let attributes = Attributes::parse(payload.get(16..).ok_or(truncated)?, what)?;
    let other_end = attributes.u32(IFLA_LINK).filter(|other| *other != 0).map(|other| Peer {
        index: other,
        namespace: namespace_of(attributes.u32(IFLA_LINK_NETNSID).map(|id| i32::from_ne_bytes(id.to_ne_bytes()))),
    });
    let info = attributes.nested(IFLA_LINKINFO, "link info")?;
    let kind = kind(hardware, info.as_ref(), other_end)?;
    let switches = attributes.nested(IFLA_AF_SPEC, "link families")?;
    let switches = switches.as_ref();
    let link = Link {
        index,
        name: attributes.string(IFLA_IFNAME).ok_or(missing("link name"))?,
        mac: attributes.find(IFLA_ADDRESS).and_then(|bytes| bytes.try_into().ok()).map(Mac),
        mtu: attributes.u32(IFLA_MTU).unwrap_or(0),
        up: flags & IFF_UP != 0,
        running: flags & IFF_LOWER_UP != 0,
        noarp: flags & IFF_NOARP != 0,
        master: attributes.u32(IFLA_MASTER),
        peer: (kind == LinkKind::Veth).then_some(other_end).flatten(),
        port: info.as_ref().map_or(Ok(None), port)?,
        ipv4: switches.map_or(Ok(None), ipv4_of_link)?,
        ipv6: switches.map_or(Ok(None), ipv6_of_link)?,
        group: attributes.u32(IFLA_GROUP).unwrap_or(0),
        kind,
    };
    let xdp = attributes.nested(IFLA_XDP, "xdp")?.and_then(|xdp| xdp.u8(2)).unwrap_or(0) != 0;
    Ok(DecodedLink { link, xdp, qdisc: attributes.string(6) })
}

fn kind(hardware: u16, info: Option<&Attributes<'_>>, lower: Option<Peer>) -> Result<LinkKind, DecodeError> {
    let Some(name) = info.and_then(|info| info.string(1)) else {
        let loopback = hardware == ARPHRD_LOOPBACK;
        return Ok(if loopback { LinkKind::Loopback } else { LinkKind::Physical });
    };
    let data = info.map_or(Ok(None), |info| info.nested(2, "link data"))?;
    let data = match data {
        Some(data) => data,
        None => Attributes::parse(&[], "link data")?,
    };
    Ok(match name.as_str() {
        "bridge" => LinkKind::Bridge(bridge(&data)),
        "dummy" => LinkKind::Dummy,
        "ipvlan" | "ipvtap" => LinkKind::Ipvlan { lower, mode: data.u16(1).unwrap_or(0), flags: data.u16(2).unwrap_or(0) },
        "macvlan" | "macvtap" => LinkKind::Macvlan { lower, mode: data.u32(1).unwrap_or(0) },
        "tun" => LinkKind::Tun,
        "veth" => LinkKind::Veth,
        "vlan" => LinkKind::Vlan { lower, id: data.u16(1).unwrap_or(0), protocol: data.be16(5).unwrap_or(0x8100) },
        "vrf" => LinkKind::Vrf { table: data.u32(1).unwrap_or(0) },
        "vxlan" => LinkKind::Vxlan { vni: data.u32(1).unwrap_or(0) },
        _ => LinkKind::Other(name),
    })
}

/// `IFLA_BR_*`.
fn bridge(data: &Attributes<'_>) -> Bridge {
    let on = |kind| data.u8(kind).unwrap_or(0) != 0;
    Bridge {
        vlan_filtering: on(7),
        default_pvid: data.u16(39).unwrap_or(0),
        nf_call_iptables: on(36),
        nf_call_ip6tables: on(37),
        nf_call_arptables: on(38),
        stp_state: data.u32(5).unwrap_or(0),
        ageing_time: data.u32(4).unwrap_or(0),
    }
}

/// `IFLA_BRPORT_*`.
fn port(info: &Attributes<'_>) -> Result<Option<BridgePort>, DecodeError> {
    if info.string(4).as_deref() != Some("bridge") {
        return Ok(None);
    }
    const IFLA_BRPORT_BACKUP_PORT: u16 = 34;
    const LISTENING: u8 = 1;
    const FORWARDING: u8 = 3;
    let Some(data) = info.nested(5, "bridge port")? else {
        return Ok(None);
    };
    let on = |kind| data.u8(kind).unwrap_or(0) != 0;
    Ok(Some(BridgePort {
        forwarding: data.u8(1).is_some_and(|state| (LISTENING..=FORWARDING).contains(&state)),
        isolated: on(33),
        hairpin: on(4),
        learning: on(8),
        locked: on(39),
        flood: on(9),
        multicast_flood: on(27),
        broadcast_flood: on(30),
        proxy_arp: on(10) || on(12),
        neigh_suppress: on(32),
        vlan_tunnel: on(29),
        backup: data.find(IFLA_BRPORT_BACKUP_PORT).is_some(),
    }))
}

fn ipv4_of_link(families: &Attributes<'_>) -> Result<Option<Ipv4Conf>, DecodeError> {
    let Some(family) = families.nested(AF_INET, "ipv4 of link")? else {
        return Ok(None);
    };
    Ok(family.find(1).map(ipv4_conf))
}

/// An array of `u32`, by `IPV4_DEVCONF_* - 1`.
fn ipv4_conf(array: &[u8]) -> Ipv4Conf {
    let value = |devconf: usize| u32_at(array, (devconf - 1) * 4).unwrap_or(0);
    let small = |devconf| u8::try_from(value(devconf)).unwrap_or(u8::MAX);
    let on = |devconf| value(devconf) != 0;
    Ipv4Conf {
        forwarding: on(1),
        rp_filter: small(8),
        route_localnet: on(26),
        accept_local: on(23),
        src_valid_mark: on(24),
        proxy_arp: on(3),
        proxy_arp_pvlan: on(25),
        arp_ignore: small(19),
        arp_announce: small(18),
        arp_accept: small(21),
        accept_redirects: on(4),
        send_redirects: on(6),
        accept_source_route: on(9),
    }
}

fn ipv6_of_link(families: &Attributes<'_>) -> Result<Option<Ipv6Conf>, DecodeError> {
    let Some(family) = families.nested(AF_INET6, "ipv6 of link")? else {
        return Ok(None);
    };
    Ok(family.find(2).map(ipv6_conf))
}

/// An array of `s32`, by `DEVCONF_*`.
fn ipv6_conf(array: &[u8]) -> Ipv6Conf {
    let value = |devconf: usize| u32_at(array, devconf * 4).unwrap_or(0);
    let on = |devconf| value(devconf) != 0;
    Ipv6Conf {
        forwarding: on(0),
        force_forwarding: on(59),
        disable_ipv6: on(26),
        accept_ra: u8::try_from(value(3)).unwrap_or(u8::MAX),
        accept_redirects: on(4),
        proxy_ndp: on(22),
        accept_source_route: i32::from_ne_bytes(value(24).to_ne_bytes()),
    }
}

/// `RTM_NEWNETCONF` of `all` or `default`: what of it can be read by netlink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Netconf {
    /// `AF_INET` 2 or `AF_INET6` 10.
    pub family: u8,
    /// -1 is `all`, -2 is `default`, others are links.
    pub index: i32,
    /// `forwarding`.
    pub forwarding: Option<bool>,
    /// `rp_filter`.
    pub rp_filter: Option<u8>,
    /// `proxy_arp` or `proxy_ndp`.
    pub proxy_neigh: Option<bool>,
    /// `force_forwarding`.
    pub force_forwarding: Option<bool>,
}

/// `RTM_NEWNETCONF`.
///
/// # Errors
/// When it is malformed.
pub fn netconf(payload: &[u8]) -> Result<Netconf, DecodeError> {
    let what = "netconf message";
    let family = *payload.first().ok_or(DecodeError::Truncated { what })?;
    let attributes = Attributes::parse(payload.get(4..).unwrap_or_default(), what)?;
    let number = |kind| attributes.u32(kind).map(|value| i32::from_ne_bytes(value.to_ne_bytes()));
    let on = |kind| number(kind).map(|value| value != 0);
    Ok(Netconf {
        family,
        index: number(1).ok_or(missing("netconf index"))?,
        forwarding: on(2),
        rp_filter: number(3).map(|value| u8::try_from(value).unwrap_or(u8::MAX)),
        proxy_neigh: on(5),
        force_forwarding: on(9),
    })
}

/// `RTM_NEWADDR`.
///
/// # Errors
/// When it is malformed.
pub fn address(payload: &[u8]) -> Result<Address, DecodeError> {
    const SECONDARY: u32 = 0x01;
    const DAD_FAILED: u32 = 0x08;
    let what = "address message";
    let &[_, length, flags, scope, ..] = payload else {
        return Err(DecodeError::Truncated { what });
    };
    let link = u32_at(payload, 4).ok_or(DecodeError::Truncated { what })?;
    let attributes = Attributes::parse(payload.get(8..).unwrap_or_default(), what)?;
    let flags = attributes.u32(8).unwrap_or(u32::from(flags));
    // For IPv4 IFA_LOCAL is the address and IFA_ADDRESS the peer, equal unless the link is point to point.
    let (own, peer) = match (attributes.address(IFA_LOCAL), attributes.address(IFA_ADDRESS)) {
        (Some(own), peer) => (own, peer.filter(|peer| *peer != own)),
        (None, Some(own)) => (own, None),
        (None, None) => return Err(missing("address")),
    };
    Ok(Address {
        link,
        address: ipnet::IpNet::new(own, length).map_err(|_| DecodeError::Invalid { what })?,
        peer,
        broadcast: attributes.address(4),
        scope,
        secondary: flags & SECONDARY != 0,
        unusable: flags & DAD_FAILED != 0,
    })
}

/// `RTM_NEWNEIGH` of an IP family or of `AF_BRIDGE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecodedNeighbour {
    /// An entry of a forwarding database.
    Fdb(Fdb),
    /// An entry of a neighbour table.
    Neighbour(Neighbour),
}

/// `RTM_NEWNEIGH`.
///
/// # Errors
/// When it is malformed.
pub fn neighbour(payload: &[u8]) -> Result<DecodedNeighbour, DecodeError> {
    const NTF_ROUTER: u8 = 0x80;
    let what = "neighbour message";
    let truncated = DecodeError::Truncated { what };
    let family = *payload.first().ok_or(truncated.clone())?;
    let link = u32_at(payload, 4).ok_or(truncated.clone())?;
    let state = u16_at(payload, 8).ok_or(truncated.clone())?;
    let flags = *payload.get(10).ok_or(truncated.clone())?;
    let attributes = Attributes::parse(payload.get(12..).ok_or(truncated)?, what)?;
    let mac = attributes.find(2).and_then(|bytes| bytes.try_into().ok()).map(Mac);
    if family == AF_BRIDGE {
        return Ok(DecodedNeighbour::Fdb(Fdb {
            link,
            bridge: attributes.u32(9),
            mac: mac.ok_or(missing("hardware address of an fdb entry"))?,
            vlan: attributes.u16(5),
            permanent: state & NUD_PERMANENT != 0,
            fixed: state & NUD_NOARP != 0,
            remote: attributes.find(1).map(Bytes::from),
        }));
    }
    Ok(DecodedNeighbour::Neighbour(Neighbour {
        link,
        address: attributes.address(1).ok_or(missing("address of a neighbour"))?,
        mac,
        state,
        proxy: flags & NTF_PROXY != 0,
        router: flags & NTF_ROUTER != 0,
    }))
}

/// `RTM_NEWLINK` of `AF_BRIDGE` with `RTEXT_FILTER_BRVLAN`: the vlans of one port or bridge.
///
/// # Errors
/// When it is malformed.
pub fn port_vlans(payload: &[u8]) -> Result<Vec<PortVlan>, DecodeError> {
    const PVID: u16 = 0x02;
    const UNTAGGED: u16 = 0x04;
    const RANGE_BEGIN: u16 = 0x08;
    const RANGE_END: u16 = 0x10;
    let what = "bridge vlan message";
    let link = u32_at(payload, 4).ok_or(DecodeError::Truncated { what })?;
    let attributes = Attributes::parse(payload.get(16..).unwrap_or_default(), what)?;
    let Some(families) = attributes.nested(IFLA_AF_SPEC, what)? else {
        return Ok(Vec::new());
    };
    let mut vlans = Vec::new();
    let mut begin = None;
    for info in families.all(2) {
        let flags = u16_at(info, 0).ok_or(DecodeError::Truncated { what })?;
        let id = u16_at(info, 2).ok_or(DecodeError::Truncated { what })?;
        if flags & RANGE_BEGIN != 0 {
            begin = Some(id);
            continue;
        }
        let first = if flags & RANGE_END != 0 { begin.take().unwrap_or(id) } else { id };
        let (pvid, untagged) = (flags & PVID != 0, flags & UNTAGGED != 0);
        vlans.push(PortVlan { link, first, last: id, pvid, untagged });
    }
    Ok(vlans)
}

/// `RTM_NEWNSID`: the id that a namespace has here; none when it has none.
///
/// # Errors
/// When it is malformed.
pub fn nsid(payload: &[u8]) -> Result<Option<i32>, DecodeError> {
    let attributes = Attributes::parse(payload.get(4..).unwrap_or_default(), "nsid message")?;
    let id = attributes.u32(1).map(|value| i32::from_ne_bytes(value.to_ne_bytes()));
    Ok(id.filter(|id| *id >= 0))
}

/// What classifies packets on a link, or holds what does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficControl {
    /// ifindex of the link.
    pub link: u32,
    /// By which filters refer to a queueing discipline.
    pub handle: u32,
    /// Like `clsact` or `bpf`.
    pub kind: String,
}

/// `RTM_NEWQDISC` and `RTM_NEWTFILTER`.
///
/// # Errors
/// When it is malformed.
pub fn traffic_control(payload: &[u8]) -> Result<TrafficControl, DecodeError> {
    let what = "traffic control message";
    let word = |at: usize| u32_at(payload, at).ok_or(DecodeError::Truncated { what });
    let (link, handle) = (word(4)?, word(8)?);
    let attributes = Attributes::parse(payload.get(20..).unwrap_or_default(), what)?;
    Ok(TrafficControl { link, handle, kind: attributes.find(1).map(string).unwrap_or_default() })
}
