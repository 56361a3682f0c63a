//! Links, addresses, neighbours. `include/uapi/linux/if_link.h`, `if_addr.h`, `neighbour.h`, `if_bridge.h`.

use std::net::IpAddr;

use super::Attributes;
use crate::decode::message::Request;
use crate::snapshot::{Address, Bridge, BridgePort, Fdb, Link, Mac, Neighbour, PortVlan};
use crate::uapi::{
    AF_BRIDGE, IFA_ADDRESS, IFA_LOCAL, IFF_NOARP, IFF_UP, IFLA_ADDRESS, IFLA_AF_SPEC, IFLA_GROUP, IFLA_IFNAME, IFLA_LINK, IFLA_LINKINFO, IFLA_MASTER,
    IFLA_MTU, NLM_F_CREATE, NTF_PROXY, NUD_NOARP, RTM_NEWLINK,
};

const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const EXCLUSIVE: u16 = 0x200;
const REPLACE: u16 = 0x100;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;

/// `struct ifinfomsg`.
fn header(family: u8, index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut fixed = vec![family, 0, 0, 0];
    fixed.extend(index.to_ne_bytes());
    fixed.extend(flags.to_ne_bytes());
    fixed.extend(change.to_ne_bytes());
    fixed
}

/// What makes a link the one it is.
#[derive(Debug, Clone, Copy)]
pub struct Name<'a> {
    /// ifindex.
    pub index: u32,
    /// Its name.
    pub name: &'a str,
    /// Its hardware address.
    pub mac: Option<Mac>,
    /// Largest packet, in bytes; 0 for the usual.
    pub mtu: u32,
    /// Its group.
    pub group: u32,
}

impl<'a> From<&'a Link> for Name<'a> {
    fn from(link: &'a Link) -> Self {
        Self { index: link.index, name: &link.name, mac: link.mac, mtu: link.mtu, group: link.group }
    }
}

impl Name<'_> {
    fn attributes(self) -> Attributes {
        let mut attributes = Attributes::new().string(IFLA_IFNAME, self.name);
        if let Some(mac) = self.mac {
            attributes = attributes.bytes(IFLA_ADDRESS, &mac.0);
        }
        if self.mtu != 0 {
            attributes = attributes.u32(IFLA_MTU, self.mtu);
        }
        if self.group != 0 {
            attributes = attributes.u32(IFLA_GROUP, self.group);
        }
        attributes
    }

    fn create(self, kind: &str, data: &Attributes, more: impl FnOnce(Attributes) -> Attributes) -> Request {
        let info = Attributes::new().string(IFLA_INFO_KIND, kind).nest(IFLA_INFO_DATA, data);
        let attributes = more(self.attributes()).nest(IFLA_LINKINFO, &info);
        Request::new(RTM_NEWLINK, NLM_F_CREATE | EXCLUSIVE, &header(0, self.index, 0, 0)).attributes(attributes.as_slice())
    }
}

/// A veth pair: one end here, the other in the namespace that this descriptor is of.
#[must_use]
pub fn veth(here: Name<'_>, there: Name<'_>, namespace: i32) -> Request {
    const VETH_INFO_PEER: u16 = 1;
    let mut peer = header(0, there.index, 0, 0);
    peer.extend(there.attributes().bytes(IFLA_NET_NS_FD, &namespace.to_ne_bytes()).as_slice());
    here.create("veth", &Attributes::new().bytes(VETH_INFO_PEER, &peer), |attributes| attributes)
}

/// A bridge; it forwards at once, and without spanning tree.
#[must_use]
pub fn bridge(link: Name<'_>, bridge: &Bridge) -> Request {
    let on = u8::from;
    let data = Attributes::new()
        .u32(1, 0)
        .u32(4, bridge.ageing_time)
        .u32(5, 0)
        .u8(36, on(bridge.nf_call_iptables))
        .u8(37, on(bridge.nf_call_ip6tables))
        .u8(38, on(bridge.nf_call_arptables));
    // A kernel without vlan filtering refuses to be told that it is off.
    let data = if bridge.vlan_filtering { data.u8(7, 1).u16(39, bridge.default_pvid) } else { data };
    link.create("bridge", &data, |attributes| attributes)
}

/// A macvlan in the namespace that this descriptor is of, on a link of the namespace that the request is sent in.
#[must_use]
pub fn macvlan(link: Name<'_>, mode: u32, lower: u32, namespace: i32) -> Request {
    link.create("macvlan", &Attributes::new().u32(1, mode), |attributes| {
        attributes.u32(IFLA_LINK, lower).bytes(IFLA_NET_NS_FD, &namespace.to_ne_bytes())
    })
}

/// A vlan device on a link of the same namespace.
#[must_use]
pub fn vlan(link: Name<'_>, id: u16, protocol: u16, lower: u32) -> Request {
    link.create("vlan", &Attributes::new().u16(1, id).be16(5, protocol), |attributes| attributes.u32(IFLA_LINK, lower))
}

/// Makes a link a port of a bridge.
#[must_use]
pub fn attach(index: u32, bridge: u32) -> Request {
    let attributes = Attributes::new().u32(IFLA_MASTER, bridge);
    Request::new(RTM_NEWLINK, 0, &header(0, index, 0, 0)).attributes(attributes.as_slice())
}

/// Switches of a bridge port.
#[must_use]
pub fn port(index: u32, port: &BridgePort) -> Request {
    let on = u8::from;
    let data = Attributes::new()
        .u8(33, on(port.isolated))
        .u8(4, on(port.hairpin))
        .u8(8, on(port.learning))
        .u8(39, on(port.locked))
        .u8(9, on(port.flood))
        .u8(27, on(port.multicast_flood))
        .u8(30, on(port.broadcast_flood))
        .u8(10, on(port.proxy_arp))
        .u8(32, on(port.neigh_suppress));
    let info = Attributes::new().string(IFLA_INFO_SLAVE_KIND, "bridge").nest(IFLA_INFO_SLAVE_DATA, &data);
    let attributes = Attributes::new().nest(IFLA_LINKINFO, &info);
    Request::new(RTM_NEWLINK, 0, &header(0, index, 0, 0)).attributes(attributes.as_slice())
}

/// Sets a link up or down, and whether it asks for neighbours.
#[must_use]
pub fn set(index: u32, up: bool, noarp: bool) -> Request {
    let flags = if up { IFF_UP } else { 0 } | if noarp { IFF_NOARP } else { 0 };
    Request::new(RTM_NEWLINK, 0, &header(0, index, flags, IFF_UP | IFF_NOARP))
}

/// The vlans of a bridge port, or of the bridge itself: added, or removed.
#[must_use]
pub fn vlans(vlan: &PortVlan, of_bridge: bool, add: bool) -> Request {
    const RTM_DELLINK: u16 = 17;
    const SELF: u16 = 2;
    const MASTER: u16 = 1;
    let flags = u16::from(vlan.pvid) << 1 | u16::from(vlan.untagged) << 2;
    let info = |bits: u16, id: u16| [(flags | bits).to_ne_bytes(), id.to_ne_bytes()].concat();
    let list = Attributes::new().u16(0, if of_bridge { SELF } else { MASTER });
    let list = if vlan.first == vlan.last {
        list.bytes(2, &info(0, vlan.first))
    } else {
        list.bytes(2, &info(0x08, vlan.first)).bytes(2, &info(0x10, vlan.last))
    };
    let attributes = Attributes::new().nest(IFLA_AF_SPEC, &list);
    let kind = if add { RTM_SETLINK } else { RTM_DELLINK };
    Request::new(kind, 0, &header(AF_BRIDGE, vlan.link, 0, 0)).attributes(attributes.as_slice())
}

/// `RTM_NEWADDR`; used at once, without looking for duplicates.
#[must_use]
pub fn address(address: &Address) -> Request {
    const NODAD: u32 = 0x02;
    const IFA_BROADCAST: u16 = 4;
    const IFA_FLAGS: u16 = 8;
    let own = address.address.addr();
    let mut fixed = vec![family(own), address.address.prefix_len(), 0, address.scope];
    fixed.extend(address.link.to_ne_bytes());
    let attributes = Attributes::new().address(IFA_LOCAL, own).address(IFA_ADDRESS, address.peer.unwrap_or(own));
    let attributes = match address.broadcast {
        Some(broadcast) => attributes.address(IFA_BROADCAST, broadcast),
        None => attributes,
    };
    Request::new(RTM_NEWADDR, NLM_F_CREATE, &fixed).attributes(attributes.u32(IFA_FLAGS, NODAD).as_slice())
}

/// `RTM_NEWNEIGH` of an IP family.
#[must_use]
pub fn neighbour(neighbour: &Neighbour) -> Request {
    neighbour_message(RTM_NEWNEIGH, NLM_F_CREATE | REPLACE, neighbour)
}

/// `RTM_DELNEIGH` of an IP family.
#[must_use]
pub fn remove_neighbour(neighbour: &Neighbour) -> Request {
    neighbour_message(RTM_DELNEIGH, 0, neighbour)
}

fn neighbour_message(kind: u16, flags: u16, neighbour: &Neighbour) -> Request {
    let mut fixed = vec![family(neighbour.address), 0, 0, 0];
    fixed.extend(neighbour.link.to_ne_bytes());
    fixed.extend(neighbour.state.to_ne_bytes());
    fixed.extend([if neighbour.proxy { NTF_PROXY } else { 0 }, 0]);
    let attributes = Attributes::new().address(1, neighbour.address);
    let attributes = match neighbour.mac {
        Some(mac) => attributes.bytes(2, &mac.0),
        None => attributes,
    };
    Request::new(kind, flags, &fixed).attributes(attributes.as_slice())
}

/// `RTM_NEWNEIGH` of a bridge's forwarding database.
#[must_use]
pub fn fdb(entry: &Fdb) -> Request {
    const NTF_MASTER: u8 = 0x04;
    let mut fixed = vec![AF_BRIDGE, 0, 0, 0];
    fixed.extend(entry.link.to_ne_bytes());
    fixed.extend(NUD_NOARP.to_ne_bytes());
    fixed.extend([NTF_MASTER, 0]);
    let attributes = Attributes::new().bytes(2, &entry.mac.0);
    let attributes = match entry.vlan {
        Some(vlan) => attributes.u16(5, vlan),
        None => attributes,
    };
    Request::new(RTM_NEWNEIGH, NLM_F_CREATE | REPLACE, &fixed).attributes(attributes.as_slice())
}

const fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { 2 } else { 10 }
}
