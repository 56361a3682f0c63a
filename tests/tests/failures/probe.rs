//! A witness as a real packet: sent from the namespace of who sends it, and seen in the namespace where it is said to arrive.

use std::fs::File;
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netcheck::analyse::Explanation;
use netcheck::model::{EndpointKind, Model, Place, Tags};
use netcheck::packet::{Packet, Transport};
use netcheck::twin::{Sockets, wire};
use netcheck::walk::{End, Start, walk};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType};

use crate::host::Host;

/// How long something may take that must happen; it is an error beyond that.
const LIMIT: Duration = Duration::from_secs(10);

/// Writes one frame onto a link: the kernel takes no frames over IP sockets.
const WRITE_FRAME: &str = "import socket, sys
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind((sys.argv[1], 0))
link.send(bytes.fromhex(sys.argv[2]))";

/// Sends the witness of an answer, and waits until it is there.
pub(crate) fn arrives(host: &Host, model: &Model, answer: &Explanation) -> Result<()> {
    let witness = answer.witness.context("no witness")?;
    if answer.trace.last().is_some_and(|hop| hop.kind == "proxy") {
        // who writes frames has no connections of its own
        return if matches!(answer.start, Some(Start::Wire { .. })) {
            by_halves(host, model, answer, witness)
        } else {
            connects(host, answer, witness)
        };
    }
    let Some(EndpointKind::Inside(target)) = model.endpoint(&answer.to).map(|endpoint| endpoint.kind) else {
        anyhow::bail!("{} is no namespace", answer.to);
    };
    let start = answer.start.unwrap_or(Start::Process { namespace: target, link: None });
    let (packet, id) = own(model, witness, start, target);
    let ears = Ears::open(&host.namespace(&answer.to)?, packet)?;
    send(host, model, &answer.from, start, packet, id)?;
    until(&format!("{packet} arrives at {}", answer.to), || ears.heard(packet, id, answer.port))
}

fn until(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        ensure!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// The same packet with a source port that no other has, if that port is not what opens the way: a connection that is remembered
/// from an earlier row is another.
fn own(model: &Model, witness: Packet, start: Start, target: usize) -> (Packet, u32) {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let fresh = u16::try_from(id).ok().and_then(|id| id.checked_add(41_000)).unwrap_or(41_000);
    let transport = match witness.transport {
        Transport::Tcp { destination_port, flags, .. } => Transport::Tcp { source_port: fresh, destination_port, flags },
        Transport::Udp { destination_port, .. } => Transport::Udp { source_port: fresh, destination_port },
        Transport::Icmp { kind, code, .. } => Transport::Icmp { kind, code, id: fresh },
        Transport::Icmpv6 { kind, code, .. } => Transport::Icmpv6 { kind, code, id: fresh },
    };
    let other = Packet { transport, ..witness };
    let same = walk(model, other, start).iter().all(|branch| branch.end == End::Delivered { namespace: target });
    (if same { other } else { witness }, 0x5ea0_0000 | id)
}

#[expect(clippy::too_many_arguments, reason = "who sends what how")]
fn send(host: &Host, model: &Model, from: &str, start: Start, packet: Packet, id: u32) -> Result<()> {
    let bytes = wire::bytes(&packet, id);
    match start {
        Start::Process { link, .. } => within(&host.namespace(from)?, || {
            Sockets::open()?.send(&bytes, packet.destination, link);
            Ok(())
        }),
        Start::Wire { from: place, to, tags, forged } => {
            ensure!(!forged, "frames are written with usual headers here");
            write_frame(host, model, from, place, (&to.to_string(), tags), &packet, &bytes)
        }
        Start::Arrival { at, to, tags, .. } => {
            let peer = model.link(at).and_then(|link| model.peer_place(link.peer)).context("nobody is on the other end of the uplink")?;
            write_frame(host, model, from, peer, (&to.to_string(), tags), &packet, &bytes)
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "who writes what where")]
fn write_frame(host: &Host, model: &Model, from: &str, place: Place, (to, tags): (&str, Tags), packet: &Packet, bytes: &[u8]) -> Result<()> {
    let link = model.link(place).context("no such link")?;
    let source = link.mac.context("a link without an address")?.to_string();
    let kind = if packet.is_ipv4() { "0800" } else { "86dd" };
    let payload: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let tag: String = tags.iter().map(|id| format!("8100{id:04x}")).collect();
    let frame = format!("{}{}{tag}{kind}{payload}", to.replace(':', ""), source.replace(':', ""));
    let output = host.inside(from, "python3")?.args(["-c", WRITE_FRAME, &link.name, &frame]).output()?;
    ensure!(output.status.success(), "a frame could not be written: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The first packet of a connection arrives at the proxy's host, and the proxy's own connection at the container.
fn by_halves(host: &Host, model: &Model, answer: &Explanation, witness: Packet) -> Result<()> {
    let start = answer.start.context("no start")?;
    let (packet, id) = own(model, witness, start, model.host);
    let ears = Ears::open(&host.namespace("host")?, packet)?;
    send(host, model, &answer.from, start, packet, id)?;
    let port = packet.transport.ports().map(|(_, port)| port);
    until(&format!("{packet} arrives at the host"), || ears.heard(packet, id, port))?;
    let told = answer.trace.last().map(|hop| hop.text.replace("docker-proxy connects to ", "")).context("no trace")?;
    let (address, port) = told.split_once(" port ").with_context(|| format!("`{told}` is no place"))?;
    connection(host, ("host", &answer.to), SocketAddr::new(address.parse()?, port.parse()?), port.parse()?)
}

/// Through a proxy a connection arrives, not a packet.
fn connects(host: &Host, answer: &Explanation, witness: Packet) -> Result<()> {
    let Transport::Tcp { destination_port, .. } = witness.transport else {
        anyhow::bail!("only connections are followed through a proxy");
    };
    let entry = SocketAddr::new(witness.destination, destination_port);
    connection(host, (&answer.from, &answer.to), entry, answer.port.context("no port")?)
}

/// Somebody connects to `entry`, and somebody who listens on a port gets it.
fn connection(host: &Host, (from, to): (&str, &str), entry: SocketAddr, port: u16) -> Result<()> {
    let listener = within(&host.namespace(to)?, || Ok(TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))?))?;
    listener.set_nonblocking(true)?;
    let caller = within(&host.namespace(from)?, || TcpStream::connect_timeout(&entry, LIMIT).with_context(|| format!("connect to {entry}")))?;
    until(&format!("a connection to {entry} arrives at {to}"), || listener.accept().is_ok())?;
    drop(caller);
    Ok(())
}

/// Does something in a namespace, on a thread that ends there.
fn within<T: Send>(namespace: &Path, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let file = File::open(namespace).with_context(|| namespace.display().to_string())?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let kind = rustix::thread::LinkNameSpaceType::Network;
            rustix::thread::move_into_link_name_space(file.as_fd(), Some(kind))?;
            work()
        });
        thread.join().map_err(|_| anyhow::anyhow!("a thread in {} panicked", namespace.display()))?
    })
}

fn raw(family: AddressFamily, protocol: u8) -> Result<OwnedFd> {
    let protocol = rustix::net::RawProtocol::new(u32::from(protocol)).map(Protocol::from_raw);
    Ok(rustix::net::socket_with(family, SocketType::RAW, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, protocol)?)
}

/// Sees what has passed INPUT of a namespace.
struct Ears(OwnedFd);

impl Ears {
    fn open(namespace: &Path, packet: Packet) -> Result<Self> {
        let family = if packet.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        within(namespace, || raw(family, packet.transport.number())).map(Self)
    }

    /// Whether the packet of this number came, to this port.
    fn heard(&self, packet: Packet, id: u32, port: Option<u16>) -> bool {
        let mut buffer = [0_u8; 2048];
        while let Ok((_, length, _)) = rustix::net::recvfrom(&self.0, &mut buffer[..], RecvFlags::DONTWAIT) {
            let bytes = &buffer[..length];
            let header = if packet.is_ipv4() { usize::from(bytes[0] & 15) * 4 } else { 0 };
            let seen = wire::identify(packet.transport.number(), &bytes[header..]);
            if seen.is_some_and(|(seen, ports)| seen == id && ports.map(|(_, to)| to) == port) {
                return true;
            }
        }
        false
    }
}
