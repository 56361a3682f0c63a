//! Sockets inside a namespace that this process holds from outside: to send any packet, and to see what passed INPUT.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netdevice::index_to_name;
use rustix::net::sockopt::{set_ip_multicast_if_with_ifindex, set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketAddrAny, SocketFlags, SocketType, recvfrom, sendto, socket_with};
use socket2::SockRef;

use super::wire;

/// Room for everything that one round sends or sees.
const BUFFER: usize = 16 << 20;
/// What the kernel buffers until neighbours answer; a sender that is full waits for it.
const PATIENCE: u32 = 8000;

/// Raw IP sockets of one namespace.
#[derive(Debug)]
pub struct Sockets {
    send4: OwnedFd,
    send6: OwnedFd,
    receive: Vec<(u8, bool, OwnedFd)>,
}

/// A packet that passed INPUT: raw sockets see it after the last hook (`raw_local_deliver`, `raw6_local_deliver`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// IP protocol.
    pub protocol: u8,
    /// Its source.
    pub source: IpAddr,
    /// Its destination: only IPv4 sockets tell.
    pub destination: Option<IpAddr>,
    /// The transport header and what follows.
    pub bytes: Vec<u8>,
}

impl Seen {
    /// The number by which it is known, and its ports.
    #[must_use]
    pub fn identify(&self) -> Option<(u32, Option<(u16, u16)>)> {
        wire::identify(self.protocol, &self.bytes)
    }
}

impl Sockets {
    /// Opens them in the namespace that this thread is in.
    ///
    /// # Errors
    /// Without CAP_NET_RAW.
    pub fn open() -> Result<Self, Errno> {
        const RAW: u32 = 255;
        let mut receive = Vec::new();
        for (protocol, ipv4) in [(1, true), (6, true), (17, true), (6, false), (17, false), (58, false)] {
            receive.push((protocol, ipv4, raw(ipv4, u32::from(protocol))?));
        }
        Ok(Self { send4: raw(true, RAW)?, send6: raw(false, RAW)?, receive })
    }

    /// Sends a whole packet, IP header included, by a link if one is named. That it is refused is an outcome: no such link, no route, or a rule in
    /// OUTPUT.
    pub fn send(&self, packet: &[u8], destination: IpAddr, link: Option<u32>) {
        let socket = if destination.is_ipv4() { &self.send4 } else { &self.send6 };
        let keep_to = |name: Option<&[u8]>| SockRef::from(socket).bind_device(name).is_ok();
        let keeps = |link: u32| index_to_name(socket, link).is_ok_and(|name| keep_to(Some(name.as_bytes())));
        if link.is_some_and(|link| !keeps(link)) {
            return;
        }
        when_there_is_room(|| match destination {
            IpAddr::V4(v4) => sendto(socket, packet, SendFlags::empty(), &SocketAddrV4::new(v4, 0)),
            IpAddr::V6(v6) => sendto(socket, packet, SendFlags::empty(), &SocketAddrV6::new(v6, 0, 0, 0)),
        });
        if link.is_some() {
            keep_to(None);
        }
    }

    /// Everything that has passed INPUT since the last time.
    pub fn drain(&self) -> Vec<Seen> {
        let mut seen = Vec::new();
        let mut buffer = [0_u8; 2048];
        for (protocol, ipv4, socket) in &self.receive {
            while let Ok((_, length, from)) = recvfrom(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                seen.extend(buffer.get(..length).and_then(|bytes| one(*protocol, *ipv4, bytes, from)));
            }
        }
        seen
    }
}

fn raw(ipv4: bool, protocol: u32) -> Result<OwnedFd, Errno> {
    let family = if ipv4 { AddressFamily::INET } else { AddressFamily::INET6 };
    open(family, protocol)
}

fn open(family: AddressFamily, protocol: u32) -> Result<OwnedFd, Errno> {
    let protocol = rustix::net::RawProtocol::new(protocol).map(Protocol::from_raw);
    let socket = socket_with(family, SocketType::RAW, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, protocol)?;
    set_socket_recv_buffer_size_force(&socket, BUFFER)?;
    set_socket_send_buffer_size_force(&socket, BUFFER)?;
    Ok(socket)
}

/// A full socket is not an outcome: its packets wait for neighbours who are not there, which ends.
fn when_there_is_room(send: impl Fn() -> Result<usize, Errno>) {
    for _ in 0..PATIENCE {
        if !matches!(send(), Err(Errno::AGAIN | Errno::NOBUFS)) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// IPv4 sockets give the header too, IPv6 sockets do not.
fn one(protocol: u8, ipv4: bool, bytes: &[u8], from: Option<SocketAddrAny>) -> Option<Seen> {
    if !ipv4 {
        let source = SocketAddrV6::try_from(from?).ok()?;
        return Some(Seen { protocol, source: IpAddr::V6(*source.ip()), destination: None, bytes: bytes.to_vec() });
    }
    let address = |at: usize| bytes.get(at..)?.first_chunk::<4>().copied().map(IpAddr::from);
    let header = usize::from(*bytes.first()? & 15) * 4;
    Some(Seen { protocol, source: address(12)?, destination: address(16), bytes: bytes.get(header..)?.to_vec() })
}

/// A socket that writes frames onto links, and sees those that arrive. `packet(7)`
#[derive(Debug)]
pub struct Wires {
    socket: OwnedFd,
    /// What the kernel calls each link (`struct sockaddr_ll`).
    links: BTreeMap<u32, SocketAddrAny>,
}

impl Wires {
    /// Opens one in the namespace that this thread is in, for links that are up. There must be no rules yet.
    ///
    /// The address of a link cannot be written without unsafe code, so the kernel is made to say it: a datagram is sent by each link, and the socket
    /// sees where it leaves.
    ///
    /// # Errors
    /// Without CAP_NET_RAW.
    pub fn open(links: impl IntoIterator<Item = u32>) -> Result<Self, Errno> {
        // ETH_P_ALL, in network order.
        let all = u32::from(0x0003_u16.to_be());
        let mut wires = Self { socket: open(AddressFamily::PACKET, all)?, links: BTreeMap::new() };
        let udp = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        for link in links {
            wires.drain();
            let marker = [b"netcheck", &link.to_be_bytes()[..]].concat();
            let group = SocketAddrV4::new(Ipv4Addr::new(224, 0, 0, 1), 9);
            let sent = set_ip_multicast_if_with_ifindex(&udp, &Ipv4Addr::UNSPECIFIED, &Ipv4Addr::UNSPECIFIED, link)
                .and_then(|()| sendto(&udp, &marker, SendFlags::empty(), &group));
            if sent.is_ok()
                && let Some((_, address)) = wires.drain().into_iter().find(|(frame, _)| frame.ends_with(&marker))
            {
                wires.links.insert(link, address);
            }
        }
        Ok(wires)
    }

    /// Writes a frame; false when the link is not known.
    pub fn send(&self, link: u32, frame: &[u8]) -> bool {
        let Some(address) = self.links.get(&link) else { return false };
        when_there_is_room(|| sendto(&self.socket, frame, SendFlags::empty(), address));
        true
    }

    /// Whether frames can be written onto a link.
    #[must_use]
    pub fn knows(&self, link: u32) -> bool {
        self.links.contains_key(&link)
    }

    /// Throws away what arrived, and what will.
    pub fn forget(&self) {
        let mut nothing = [0_u8; 1];
        while recvfrom(&self.socket, &mut nothing[..], RecvFlags::DONTWAIT).is_ok() {}
    }

    /// Every frame since the last time, with the link's address.
    pub fn drain(&self) -> Vec<(Vec<u8>, SocketAddrAny)> {
        let mut seen = Vec::new();
        let mut buffer = [0_u8; 2048];
        while let Ok((_, length, from)) = recvfrom(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            seen.extend(buffer.get(..length).map(<[u8]>::to_vec).zip(from));
        }
        seen
    }
}
