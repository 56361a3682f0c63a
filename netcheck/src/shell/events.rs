//! Waiting until the kernel says that links, addresses, routes or rules of this host changed.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

use netcheck::kernel::netlink::ROUTE;

/// A change is followed by others: starting a container takes about this long.
const QUIET: Duration = Duration::from_secs(1);
/// A host that never is quiet is looked at anyway.
const LONGEST: Duration = Duration::from_secs(5);
/// `RTMGRP_LINK`, `IPV4_IFADDR`, `IPV4_ROUTE`, `IPV4_RULE`, `IPV6_IFADDR`, `IPV6_ROUTE`.
const ROUTE_GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400;
/// `NFNLGRP_NFTABLES` is group 7.
const RULE_GROUPS: u32 = 1 << 6;

/// Sockets that hear of changes.
#[derive(Debug)]
pub(crate) struct Events {
    sockets: [OwnedFd; 2],
}

impl Events {
    /// Begins to listen, in the namespace that this thread is in.
    pub(crate) fn subscribe() -> Result<Self, Errno> {
        let open = |protocol: Option<Protocol>, groups| {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
            bind(&socket, &SocketAddrNetlink::new(0, groups))?;
            Ok::<OwnedFd, Errno>(socket)
        };
        Ok(Self { sockets: [open(ROUTE, ROUTE_GROUPS)?, open(Some(NETFILTER), RULE_GROUPS)?] })
    }

    /// Returns after this time, or when something changed and it is quiet again.
    pub(crate) fn wait(&self, longest: Duration) {
        if !self.heard(longest) {
            return;
        }
        let end = Instant::now() + LONGEST;
        while Instant::now() < end && self.heard(QUIET) {}
    }

    /// Whether anything was heard in this time.
    fn heard(&self, time: Duration) -> bool {
        let [a, b] = &self.sockets;
        let mut both = [PollFd::new(a, PollFlags::IN), PollFd::new(b, PollFlags::IN)];
        let time = Timespec { tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX), tv_nsec: time.subsec_nanos().into() };
        let ready = poll(&mut both, Some(&time)).is_ok_and(|ready| ready > 0);
        for socket in &self.sockets {
            let mut buffer = [0; 8192];
            // Nothing left, or more than could be kept: either way something changed.
            while recv(socket, &mut buffer[..], RecvFlags::empty()).is_ok() {}
        }
        ready
    }
}
