//! A netlink socket: one request, its answers. The socket belongs to the namespace that its maker was in.

use std::os::fd::OwnedFd;
use std::time::Duration;

use netcheck::decode::DecodeError;
use netcheck::decode::message::{DUMP, DUMP_INTERRUPTED, Message, Request, Step};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

/// The kernel fills datagrams up to this size when it dumps.
const BUFFER: usize = 64 * 1024;
/// A dump that keeps being interrupted is given up after so many times.
const ATTEMPTS: u32 = 8;
/// The kernel answers at once; this only bounds what a bug of ours could cost.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The kernel refused, or the socket failed.
    #[error("{what}: {source}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// Its errno.
        #[source]
        source: Errno,
    },
    /// The answer is not what the kernel's headers say.
    #[error("{what}: {source}")]
    Malformed {
        /// What was asked for.
        what: &'static str,
        /// Where.
        #[source]
        source: DecodeError,
    },
    /// The state changed each time it was read.
    #[error("{what}: changed {ATTEMPTS} times while it was read")]
    Unstable {
        /// What was asked for.
        what: &'static str,
    },
}

impl ReadError {
    /// The part of the kernel that would answer is not there.
    pub(crate) fn is_absent(&self) -> bool {
        let absent = [Errno::OPNOTSUPP, Errno::PROTONOSUPPORT, Errno::NOENT, Errno::INVAL, Errno::AFNOSUPPORT];
        matches!(self, Self::Refused { source, .. } if absent.contains(source))
    }
}

/// A socket and what the last requests left.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Connection {
    /// Opens a socket in the namespace that this thread is in.
    pub(crate) fn open(protocol: Option<Protocol>, what: &'static str) -> Result<Self, ReadError> {
        let refused = |source| ReadError::Refused { what, source };
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol).map_err(refused)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE)).map_err(refused)?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; BUFFER] })
    }

    /// Asks for everything of a kind, again if it changed meanwhile.
    pub(crate) fn dump<T>(
        &mut self,
        what: &'static str,
        request: &Request,
        mut item: impl FnMut(Message<'_>) -> Result<Option<T>, DecodeError>,
    ) -> Result<Vec<T>, ReadError> {
        for _ in 0..ATTEMPTS {
            let mut items = Vec::new();
            let keep = |message: Message<'_>| {
                items.extend(item(message)?);
                Ok(())
            };
            if self.exchange(what, request, true, keep)? {
                return Ok(items);
            }
        }
        Err(ReadError::Unstable { what })
    }

    /// Asks for one thing.
    pub(crate) fn get<T>(
        &mut self,
        what: &'static str,
        request: &Request,
        item: impl Fn(Message<'_>) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, ReadError> {
        let mut found = None;
        self.exchange(what, request, false, |message| {
            found = Some(item(message)?);
            Ok(())
        })?;
        Ok(found)
    }

    /// One request; false when the kernel says that the dump was interrupted.
    fn exchange(
        &mut self,
        what: &'static str,
        request: &Request,
        dump: bool,
        mut item: impl FnMut(Message<'_>) -> Result<(), DecodeError>,
    ) -> Result<bool, ReadError> {
        let refused = |source| ReadError::Refused { what, source };
        let malformed = |source| ReadError::Malformed { what, source };
        self.sequence += 1;
        let datagram = request.clone().finish(self.sequence);
        let kernel = SocketAddrNetlink::new(0, 0);
        sendto(&self.socket, &datagram, SendFlags::empty(), &kernel).map_err(refused)?;
        let mut whole = true;
        loop {
            let (_, length) = recv_retrying(&self.socket, &mut self.buffer).map_err(refused)?;
            let Some(received) = self.buffer.get(..length) else {
                return Err(malformed(DecodeError::Truncated { what }));
            };
            for message in Message::parse(received).map_err(malformed)? {
                if message.sequence != self.sequence {
                    continue;
                }
                whole &= message.flags & DUMP_INTERRUPTED == 0;
                match message.step().map_err(malformed)? {
                    Step::End(0) => return Ok(whole),
                    Step::End(code) => return Err(refused(Errno::from_raw_os_error(code))),
                    Step::Item(message) => item(message).map_err(malformed)?,
                }
                if !dump {
                    return Ok(whole);
                }
            }
        }
    }
}

fn recv_retrying(socket: &OwnedFd, buffer: &mut [u8]) -> Result<(usize, usize), Errno> {
    loop {
        match recv(socket, &mut *buffer, RecvFlags::TRUNC) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// `NETLINK_ROUTE` is 0, which is the protocol that is not named.
pub(crate) const ROUTE: Option<Protocol> = None;

/// A request for everything of a kind.
pub(crate) fn dump_request(kind: u16, fixed: &[u8]) -> Request {
    Request::new(kind, DUMP, fixed)
}
