//! A copy of a host's network state in throwaway namespaces, to ask the kernel what the model was asked.
//!
//! Nothing of the host is touched: every namespace of a snapshot is made again without a name, with the same links (by index, name and hardware
//! address), addresses, routes, policy rules, switches and rules; what is behind the host's hardware is one more namespace, which takes what
//! leaves and can write onto the wire. All of it is gone when the [`Twin`] is dropped.
//!
//! ```text
//!   Snapshot ─▶ Twin::build ─▶ namespaces on this kernel ──▶ arrivals ┐
//!      └──────▶ Model ───▶ analyse::samples ──▶ packets ──┴▶ walks ───┴▶ verify: the same, or a disagreement
//! ```
//!
//! What cannot be made again is listed ([`Twin::left_out`]). Where it decides, packets that pass there are not compared but counted as skipped,
//! with the reason. Process-local things (sockets, cgroups) are not copied: what counts is what passes INPUT.

mod build;
mod rules;
mod sockets;
mod switches;
mod verify;
pub mod wire;

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::analyse::Sample;
use crate::kernel::enter::Handle;
use crate::kernel::netlink::{Connection, ReadError};
use crate::model::{Place, Tags};
use crate::packet::Packet;
use crate::snapshot::Mac;
use crate::walk::Start;

pub use sockets::{Seen, Sockets, Wires};
pub use verify::{Disagreement, Verification, verify};

/// Why there is no twin at all.
#[derive(Debug, thiserror::Error)]
pub enum TwinError {
    /// The kernel does not let us.
    #[error("cannot make network namespaces: {0}")]
    Namespace(#[source] std::io::Error),
    /// A netlink socket fails.
    #[error("cannot speak with the kernel: {0}")]
    Netlink(#[from] ReadError),
    /// Raw sockets are refused.
    #[error("cannot open raw sockets: {0}")]
    Sockets(#[source] rustix::io::Errno),
}

/// Something of the snapshot that the twin lacks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftOut {
    /// The namespace, by its place in the snapshot.
    pub namespace: usize,
    /// What, and why.
    pub what: String,
    /// Whether a packet may go elsewhere without it.
    pub decides: bool,
}

/// A copy of a snapshot in the kernel.
#[derive(Debug)]
pub struct Twin {
    rooms: Vec<Room>,
    /// What stands in for what is behind a link, by that link.
    outside: BTreeMap<Place, Outside>,
    /// Where to write a frame so that it arrives on a link: the other end of its pair.
    entries: BTreeMap<Place, Place>,
    left_out: Vec<LeftOut>,
    next_id: u32,
}

/// A namespace of the snapshot.
#[derive(Debug)]
struct Room {
    handle: Handle,
    connection: Connection,
    sockets: Option<Sockets>,
    wires: Option<Wires>,
    macs: BTreeMap<u32, Mac>,
}

/// A namespace for what is behind a link that leads out of the snapshot.
#[derive(Debug)]
struct Outside {
    handle: Handle,
    connection: Connection,
    wires: Option<Wires>,
    mac: Mac,
    /// Takes everything that the link sends, whatever address it is for.
    takes_all: bool,
}

/// Where a packet was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    /// It passed INPUT of a namespace, by its place in the snapshot.
    Inside {
        /// Which.
        namespace: usize,
        /// As it was then.
        seen: Seen,
    },
    /// It left by a link of the snapshot whose other end is not in it.
    Outside {
        /// The link.
        by: Place,
    },
}

/// A hardware address that nobody has.
const FORGED: Mac = Mac([0x02, 0xf0, 0, 0, 0, 0x01]);
/// ifindex of the link in a namespace outside.
const OUTER: u32 = 2;

impl Twin {
    /// What of the snapshot it lacks.
    #[must_use]
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// Sends one packet, and waits for it if it must arrive.
    pub fn send(&mut self, sample: &Sample, must_arrive: bool) -> Vec<Arrival> {
        self.send_all(&[(*sample, must_arrive)]).pop().unwrap_or_default()
    }

    /// Sends packets, and tells for each where it was seen. Those that must arrive are waited for, but not for ever.
    pub fn send_all(&mut self, samples: &[(Sample, bool)]) -> Vec<Vec<Arrival>> {
        self.forget_neighbours();
        self.drain();
        let first = self.next_id;
        for (sample, _) in samples {
            self.put(sample, self.next_id);
            self.next_id = self.next_id.wrapping_add(1);
        }
        let mut arrivals: Vec<Vec<Arrival>> = vec![Vec::new(); samples.len()];
        // Delivery is a part of sending, unless a neighbour has to be found, or the machine is busy.
        let mut quiet = 0;
        for _ in 0..PATIENCE {
            let seen = self.drain();
            quiet = if seen.is_empty() { quiet + 1 } else { 0 };
            for (id, arrival) in seen {
                let place = usize::try_from(id.wrapping_sub(first)).ok();
                let known = place.and_then(|place| arrivals.get_mut(place)).filter(|known| !known.contains(&arrival));
                known.into_iter().for_each(|known| known.push(arrival.clone()));
            }
            let complete = samples.iter().zip(&arrivals).all(|((_, must_arrive), arrivals)| !must_arrive || !arrivals.is_empty());
            if complete && quiet >= QUIET {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        arrivals
    }

    /// Makes a packet come into being.
    fn put(&self, sample: &Sample, id: u32) {
        let packet = &sample.packet;
        match sample.start {
            Start::Process { namespace, link } => {
                if let Some(sockets) = self.rooms.get(namespace).and_then(|room| room.sockets.as_ref()) {
                    sockets.send(&wire::bytes(packet, id), packet.destination, link);
                }
            }
            Start::Wire { from, to, tags, forged } => self.write(from, packet, id, (to, tags, forged)),
            Start::Arrival { at, to, tags, .. } => {
                if let Some(outside) = self.outside.get(&at) {
                    let frame = wire::frame(packet, id, (outside.mac, to), tags);
                    outside.wires.iter().for_each(|wires| {
                        wires.send(OUTER, &frame);
                    });
                } else if let Some(entry) = self.entries.get(&at) {
                    self.write(*entry, packet, id, (to, tags, false));
                }
            }
        }
    }

    fn write(&self, from: Place, packet: &Packet, id: u32, (to, tags, forged): (Mac, Tags, bool)) {
        let Some(room) = self.rooms.get(from.namespace) else { return };
        let source = if forged { FORGED } else { room.macs.get(&from.link).copied().unwrap_or_default() };
        if let Some(wires) = &room.wires {
            wires.send(from.link, &wire::frame(packet, id, (source, to), tags));
        }
    }

    /// Whether the packet can be sent here at all.
    fn can_send(&self, sample: &Sample) -> bool {
        let wired = |place: &Place| self.rooms.get(place.namespace).and_then(|room| room.wires.as_ref()).is_some_and(|wires| wires.knows(place.link));
        wire::can_be_written(&sample.packet)
            && match &sample.start {
                Start::Process { namespace, link } => {
                    let there = |link: u32| wired(&Place { namespace: *namespace, link });
                    self.rooms.get(*namespace).is_some_and(|room| room.sockets.is_some()) && link.is_none_or(there)
                }
                Start::Wire { from, .. } => wired(from),
                Start::Arrival { at, .. } => match self.outside.get(at) {
                    Some(outside) => outside.wires.as_ref().is_some_and(|wires| wires.knows(OUTER)),
                    None => self.entries.get(at).is_some_and(wired),
                },
            }
    }

    /// Everything of ours that arrived since the last time.
    fn drain(&self) -> Vec<(u32, Arrival)> {
        let mut arrivals = Vec::new();
        for (namespace, room) in self.rooms.iter().enumerate() {
            for seen in room.sockets.iter().flat_map(Sockets::drain) {
                if let Some((id, _)) = seen.identify() {
                    arrivals.push((id, Arrival::Inside { namespace, seen }));
                }
            }
            // Frames are only looked at outside; here they would fill the socket.
            room.wires.iter().for_each(Wires::forget);
        }
        for (by, outside) in &self.outside {
            for (frame, _) in outside.wires.iter().flat_map(Wires::drain) {
                arrivals.extend(wire::identify_frame(&frame).map(|id| (id, Arrival::Outside { by: *by })));
            }
        }
        arrivals
    }

    /// Forgets neighbours that were looked for. The kernel has one table of them for all namespaces (`gc_thresh3`, 1024 entries): when it is full, a
    /// packet to one who is not in it is lost.
    fn forget_neighbours(&mut self) {
        self.rooms.iter_mut().for_each(|room| rules::forget_neighbours(&mut room.connection));
    }

    /// Forgets connections, so that port numbers can be used again.
    fn forget_connections(&self) -> Result<(), TwinError> {
        self.rooms.iter().try_for_each(|room| rules::forget_connections(&room.handle))
    }
}

/// Rounds of a millisecond that a packet is waited for.
const PATIENCE: u32 = 5000;
/// Rounds without an arrival after which nothing more is expected.
const QUIET: u32 = 3;

impl Arrival {
    /// In words.
    #[must_use]
    pub fn describe(&self, model: &crate::model::Model) -> String {
        let to = |address: Option<IpAddr>| address.map_or_else(String::new, |address| format!(" for {address}"));
        match self {
            Self::Inside { namespace, seen } => {
                let ports = seen.identify().and_then(|(_, ports)| ports).map_or_else(String::new, |(_, port)| format!(" port {port}"));
                format!("arrived in {} from {}{}{ports}", model.namespace(*namespace).label, seen.source, to(seen.destination))
            }
            Self::Outside { by } => format!("left by {}", model.link(*by).map_or("a link", |link| &link.name)),
        }
    }
}
