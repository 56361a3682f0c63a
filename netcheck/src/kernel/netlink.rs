//! A netlink socket: one request, its answers. The socket belongs to the namespace that its maker was in.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force, set_socket_timeout};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

use crate::decode::DecodeError;
use crate::decode::message::{ACK, DUMP, DUMP_INTERRUPTED, Message, Request, Step};

/// The kernel fills datagrams up to this size when it dumps.
const BUFFER: usize = 64 * 1024;
/// A dump that keeps being interrupted is given up after so many times.
const ATTEMPTS: u32 = 8;
/// The kernel answers at once; this only bounds what a bug of ours could cost.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
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
    #[must_use]
    pub fn is_absent(&self) -> bool {
        let absent = [Errno::OPNOTSUPP, Errno::PROTONOSUPPORT, Errno::NOENT, Errno::INVAL, Errno::AFNOSUPPORT];
        matches!(self, Self::Refused { source, .. } if absent.contains(source))
    }
}

/// A socket and what the last requests left.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Connection {
    /// Opens a socket in the namespace that this thread is in.
    ///
    /// # Errors
    /// When this kernel has no such protocol.
    pub fn open(protocol: Option<Protocol>, what: &'static str) -> Result<Self, ReadError> {
        let refused = |source| ReadError::Refused { what, source };
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol).map_err(refused)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE)).map_err(refused)?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(BUFFER) })
    }

    /// Asks for everything of a kind, again if it changed meanwhile.
    ///
    /// # Errors
    /// When the kernel refuses, says something that is not understood, or never says it whole.
    pub fn dump<T>(
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
    ///
    /// # Errors
    /// When the kernel refuses, or says something that is not understood.
    pub fn get<T>(
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

    /// Asks for something to be done, and waits until it is.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn order(&mut self, what: &'static str, request: &Request) -> Result<(), ReadError> {
        self.exchange(what, &request.clone().flagged(ACK), true, |_| Ok(())).map(|_| ())
    }

    /// Sends requests to a subsystem of nfnetlink as one transaction, of which the kernel does all or none (`nfnetlink_rcv_batch`). Says which it
    /// refused, by their place, and with which errno; no place: the transaction as a whole.
    ///
    /// # Errors
    /// When the socket fails, or the answer is not understood.
    pub fn transaction(&mut self, what: &'static str, subsystem: u8, requests: &[Request]) -> Result<Vec<(Option<usize>, Errno)>, ReadError> {
        const BEGIN: u16 = 0x10;
        const END: u16 = 0x11;
        let refused = |source| ReadError::Refused { what, source };
        let malformed = |source| ReadError::Malformed { what, source };
        let mut datagram = Vec::new();
        let mut add = |request: Request| {
            self.sequence += 1;
            datagram.extend(request.finish(self.sequence));
            self.sequence
        };
        let first = add(Request::new(BEGIN, 0, &[0, 0, 0, subsystem]));
        let mut last = first;
        for (place, request) in requests.iter().enumerate() {
            let is_last = place + 1 == requests.len();
            last = add(if is_last { request.clone().flagged(ACK) } else { request.clone() });
        }
        add(Request::new(END, 0, &[0, 0, 0, subsystem]));
        // A datagram that does not fit into the socket is refused as a whole.
        set_socket_send_buffer_size_force(&self.socket, datagram.len().saturating_mul(2).max(BUFFER)).map_err(refused)?;
        set_socket_recv_buffer_size_force(&self.socket, datagram.len().saturating_mul(4).max(BUFFER)).map_err(refused)?;
        sendto(&self.socket, &datagram, SendFlags::empty(), &SocketAddrNetlink::new(0, 0)).map_err(refused)?;
        let mut failed = Vec::new();
        while !requests.is_empty() {
            let received = receive(&self.socket, &mut self.buffer).map_err(refused)?.ok_or_else(|| malformed(DecodeError::Truncated { what }))?;
            for message in Message::parse(received).map_err(malformed)? {
                let Step::End(code) = message.step().map_err(malformed)? else { continue };
                let Some(place) = message.sequence.checked_sub(first) else { continue };
                if code != 0 {
                    failed.push((place.checked_sub(1).and_then(|place| usize::try_from(place).ok()), Errno::from_raw_os_error(code)));
                }
                // Of the last one it always says how it went, after everything else; unless the whole fails at its end.
                if message.sequence == last || message.sequence == first {
                    return Ok(failed);
                }
            }
        }
        Ok(failed)
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
            let Some(received) = receive(&self.socket, &mut self.buffer).map_err(refused)? else {
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

/// The next datagram; none when it is larger than the buffer. Nothing is written into the buffer before: a thousand namespaces have four sockets each.
fn receive<'b>(socket: &OwnedFd, buffer: &'b mut Vec<u8>) -> Result<Option<&'b [u8]>, Errno> {
    buffer.clear();
    let length = loop {
        match recv(socket, spare_capacity(buffer), RecvFlags::TRUNC) {
            Err(Errno::INTR) => {}
            result => break result?.1,
        }
    };
    Ok(buffer.get(..length))
}

/// `NETLINK_ROUTE` is 0, which is the protocol that is not named.
pub const ROUTE: Option<Protocol> = None;

/// A request for everything of a kind.
#[must_use]
pub fn dump_request(kind: u16, fixed: &[u8]) -> Request {
    Request::new(kind, DUMP, fixed)
}
