//! Links and what is attached to them: wiring, bridge ports, per-device switches, addresses, neighbours.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Bytes, Mac, NamespaceId};

/// A network interface. `include/uapi/linux/if_link.h`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// ifindex, unique in its namespace.
    pub index: u32,
    /// Its name; rules match on it.
    pub name: String,
    /// What it is, with what only this kind has.
    pub kind: LinkKind,
    /// Ethernet address; none on links without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// `IFF_UP`: set by the administrator.
    pub up: bool,
    /// `IFF_LOWER_UP`: the other end is there and up.
    pub running: bool,
    /// `IFF_NOARP`: no neighbour resolution.
    #[serde(default)]
    pub noarp: bool,
    /// Index of the bridge, bond or VRF that it is a port of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<u32>,
    /// The other end, for a veth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Peer>,
    /// How it behaves as a port, when its master is a bridge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<BridgePort>,
    /// `net.ipv4.conf.NAME`, none when IPv4 is not attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<Ipv4Conf>,
    /// `net.ipv6.conf.NAME`, none when IPv6 is not attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Conf>,
    /// The group of the link; rules match on it.
    #[serde(default)]
    pub group: u32,
}

/// The other end of a veth, or what lies below a macvlan or vlan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// ifindex there.
    pub index: u32,
    /// The namespace it is in; none when it has an id here but was not found: an unknown endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<NamespaceId>,
}

/// What lies below a macvlan, ipvlan or vlan.
pub type Lower = Peer;

/// What a link is (`IFLA_INFO_KIND`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkKind {
    /// A bridge.
    Bridge(Bridge),
    /// A link to nowhere.
    Dummy,
    /// A copy of its lower link with the same hardware address.
    Ipvlan {
        /// What it is on.
        lower: Option<Lower>,
        /// `IPVLAN_MODE_L2` 0, `L3` 1, `L3S` 2.
        mode: u16,
        /// `IPVLAN_F_PRIVATE` 1, `IPVLAN_F_VEPA` 2.
        flags: u16,
    },
    /// `lo`.
    Loopback,
    /// A copy of its lower link with a hardware address of its own.
    Macvlan {
        /// What it is on.
        lower: Option<Lower>,
        /// `MACVLAN_MODE_PRIVATE` 1, `VEPA` 2, `BRIDGE` 4, `PASSTHRU` 8, `SOURCE` 16.
        mode: u32,
    },
    /// No kind: hardware, or a driver that does not say.
    Physical,
    /// A layer-3 or layer-2 tunnel to a process.
    Tun,
    /// One end of a pair; the other is [`Link::peer`].
    Veth,
    /// The packets of its lower link that carry a tag.
    Vlan {
        /// What it is on.
        lower: Option<Lower>,
        /// The tag.
        id: u16,
        /// Ethernet type of the tag: 0x8100 or 0x88a8.
        protocol: u16,
    },
    /// A routing domain.
    Vrf {
        /// Its routing table.
        table: u32,
    },
    /// An Ethernet over UDP.
    Vxlan {
        /// The network's identifier.
        vni: u32,
    },
    /// Any other kind, by its name: not modelled.
    Other(String),
}

/// Kinds of links whose packets come in others, by the kernel's names, and whether these others are datagrams of UDP alone.
const TUNNELS: [(&str, bool); 21] = [
    ("amt", true),
    ("bareudp", true),
    ("batadv", false),
    ("erspan", false),
    ("geneve", true),
    ("gre", false),
    ("gretap", false),
    ("gtp", true),
    ("ip6erspan", false),
    ("ip6gre", false),
    ("ip6gretap", false),
    ("ip6tnl", false),
    ("ipip", false),
    ("l2tpeth", false),
    ("ovpn", false),
    ("sit", false),
    ("vti", false),
    ("vti6", false),
    ("vxlan", true),
    ("wireguard", true),
    ("xfrm", false),
];

impl LinkKind {
    /// Whether the kernel unwraps packets that arrive elsewhere, and takes what is in them for arrived here.
    #[must_use]
    pub fn unwraps(&self) -> bool {
        self.tunnel().is_some()
    }

    /// Whether what it unwraps comes in datagrams of UDP alone.
    #[must_use]
    pub fn is_over_udp(&self) -> bool {
        self.tunnel() == Some(true)
    }

    /// Of a tunnel, whether it is one over UDP.
    fn tunnel(&self) -> Option<bool> {
        let name = match self {
            Self::Vxlan { .. } => "vxlan",
            Self::Other(kind) => kind.as_str(),
            Self::Bridge(_)
            | Self::Dummy
            | Self::Ipvlan { .. }
            | Self::Loopback
            | Self::Macvlan { .. }
            | Self::Physical
            | Self::Tun
            | Self::Veth
            | Self::Vlan { .. }
            | Self::Vrf { .. } => return None,
        };
        TUNNELS.iter().find(|(kind, _)| *kind == name).map(|(_, over_udp)| *over_udp)
    }

    /// The link that one of this kind is stacked on, as far as it is known; `None`: such a link stands by itself, or has a peer.
    #[must_use]
    pub fn stacked_on(&self) -> Option<Option<Lower>> {
        match self {
            Self::Macvlan { lower, .. } | Self::Ipvlan { lower, .. } | Self::Vlan { lower, .. } => Some(*lower),
            Self::Bridge(_)
            | Self::Dummy
            | Self::Loopback
            | Self::Physical
            | Self::Tun
            | Self::Veth
            | Self::Vrf { .. }
            | Self::Vxlan { .. }
            | Self::Other(_) => None,
        }
    }
}

/// Switches of a bridge (`IFLA_BR_*`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bridge {
    /// Whether ports carry vlans.
    pub vlan_filtering: bool,
    /// The vlan of untagged frames.
    pub default_pvid: u16,
    /// Hands frames to iptables even if the sysctl says no.
    pub nf_call_iptables: bool,
    /// The same for ip6tables.
    pub nf_call_ip6tables: bool,
    /// The same for arptables.
    pub nf_call_arptables: bool,
    /// Spanning tree: 0 off, 1 in the kernel, 2 in a program.
    pub stp_state: u32,
    /// Seconds after which a learnt address is forgotten, in hundredths; 0 learns nothing and floods everything.
    pub ageing_time: u32,
}

/// Switches of a bridge port (`IFLA_BRPORT_*`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BridgePort {
    /// Forwards frames, or is about to: `BR_STATE_LISTENING`, `BR_STATE_LEARNING`, `BR_STATE_FORWARDING`.
    pub forwarding: bool,
    /// Does not exchange frames with other isolated ports.
    pub isolated: bool,
    /// May send a frame back where it came from.
    pub hairpin: bool,
    /// Learns source addresses.
    pub learning: bool,
    /// Accepts only frames whose source address is in the fdb.
    pub locked: bool,
    /// Sends frames to unknown addresses.
    pub flood: bool,
    /// Sends multicast frames.
    pub multicast_flood: bool,
    /// Sends broadcast frames.
    pub broadcast_flood: bool,
    /// Answers ARP on behalf of others.
    pub proxy_arp: bool,
    /// Does not flood ARP that it can answer.
    pub neigh_suppress: bool,
    /// Maps vlans to tunnels.
    pub vlan_tunnel: bool,
    /// Another port sends in its place when it has no carrier.
    pub backup: bool,
}

/// IPv4 switches of a device, or of `all` and `default`. `include/uapi/linux/ip.h`, `IPV4_DEVCONF_*`.
///
/// How `all` and the device combine is the reader's affair: `rp_filter` is the larger, `route_localnet`, `accept_local`, `proxy_arp`
/// and `accept_redirects` have rules of their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ipv4Conf {
    /// Packets that arrive here may be forwarded.
    pub forwarding: bool,
    /// 0 off, 1 strict, 2 loose.
    pub rp_filter: u8,
    /// Routes 127.0.0.0/8 like any other address.
    pub route_localnet: bool,
    /// Accepts packets with a local source address.
    pub accept_local: bool,
    /// Reverse path looks at the mark too.
    pub src_valid_mark: bool,
    /// Answers ARP for addresses it has a route to.
    pub proxy_arp: bool,
    /// Answers ARP for addresses behind the same device.
    pub proxy_arp_pvlan: bool,
    /// Which local addresses ARP answers for.
    pub arp_ignore: u8,
    /// Which source address ARP asks with.
    pub arp_announce: u8,
    /// Believes gratuitous ARP for unknown neighbours.
    pub arp_accept: u8,
    /// Believes ICMP redirects.
    pub accept_redirects: bool,
    /// Sends ICMP redirects.
    pub send_redirects: bool,
    /// Accepts source routes.
    pub accept_source_route: bool,
}

/// IPv6 switches of a device, or of `all` and `default`. `include/uapi/linux/ipv6.h`, `DEVCONF_*`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ipv6Conf {
    /// Packets that arrive here may be forwarded.
    pub forwarding: bool,
    /// Forwards even if `all` does not (Linux 6.17).
    pub force_forwarding: bool,
    /// No IPv6 here.
    pub disable_ipv6: bool,
    /// 0 no, 1 unless forwarding, 2 always.
    pub accept_ra: u8,
    /// Believes ICMPv6 redirects.
    pub accept_redirects: bool,
    /// Answers neighbour solicitations for proxy entries.
    pub proxy_ndp: bool,
    /// Reverse path of segment routing; negative accepts none.
    pub accept_source_route: i32,
}

/// An address of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// ifindex of the link.
    pub link: u32,
    /// The local address with the length of its subnet.
    pub address: IpNet,
    /// The other end of a point-to-point link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<IpAddr>,
    /// The subnet's broadcast address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broadcast: Option<IpAddr>,
    /// `RT_SCOPE_UNIVERSE` 0, `SITE` 200, `LINK` 253, `HOST` 254.
    pub scope: u8,
    /// Not the first of its subnet (IPv4), or temporary (IPv6).
    #[serde(default)]
    pub secondary: bool,
    /// Duplicate address detection has failed: the address is not used. While it is running, the address is about to be.
    #[serde(default)]
    pub unusable: bool,
}

/// What a neighbour's hardware address is thought to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// ifindex of the link.
    pub link: u32,
    /// Whose.
    pub address: IpAddr,
    /// None while it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// `NUD_*` bits: 0x02 reachable, 0x04 stale, 0x80 permanent, …
    pub state: u16,
    /// An address that is answered for, not one that was learnt (`NTF_PROXY`).
    #[serde(default)]
    pub proxy: bool,
    /// Said to be a router (`NTF_ROUTER`).
    #[serde(default)]
    pub router: bool,
}

/// Where a bridge sends frames for a hardware address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fdb {
    /// ifindex of the port (or of the bridge itself).
    pub link: u32,
    /// ifindex of the bridge; none for an entry of the device's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<u32>,
    /// The address.
    pub mac: Mac,
    /// In which vlan; none for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Belongs to the bridge itself (`NUD_PERMANENT`).
    pub permanent: bool,
    /// Set by hand: learning does not move it (`NUD_NOARP`).
    pub fixed: bool,
    /// Remote address of a tunnel's entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<Bytes>,
}

/// A vlan that a bridge port, or the bridge itself, is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortVlan {
    /// ifindex of the port or the bridge.
    pub link: u32,
    /// First vlan.
    pub first: u16,
    /// Last vlan, included.
    pub last: u16,
    /// Untagged frames that arrive are in it.
    pub pvid: bool,
    /// Frames leave without tag.
    pub untagged: bool,
}
