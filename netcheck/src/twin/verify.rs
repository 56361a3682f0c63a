//! The kernel's answer beside the model's.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::analyse::Sample;
use crate::model::{Model, Place};
use crate::packet::{Packet, Transport};
use crate::walk::{Branch, End, Hop, Start, Walker, point};

use super::{Arrival, LeftOut, Twin, TwinError, wire};

/// Packets that are under way at the same time.
const ROUND: usize = 256;
/// Port numbers before connections are forgotten, so that every packet is the first of its flow.
const PORTS: usize = 60_000;

/// What came of sending packets.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Verification {
    /// Packets whose fate was compared.
    pub compared: usize,
    /// Of them, those that arrived somewhere.
    pub arrived: usize,
    /// Packets of which the model does not know where they go.
    pub unknown: usize,
    /// Packets that were not compared, by the reason.
    pub skipped: BTreeMap<String, usize>,
    /// Packets that went elsewhere than the model says.
    pub disagreements: Vec<Disagreement>,
}

/// A packet that went elsewhere than the model says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disagreement {
    /// The packet, in words.
    pub packet: String,
    /// Who sent it.
    pub from: String,
    /// How the model says that it ends, one entry a way it may go.
    pub expected: Vec<String>,
    /// Where it was seen; empty: nowhere.
    pub observed: Vec<String>,
    /// What the model says that it meets.
    pub trace: Vec<Hop>,
}

/// Sends packets into a twin and compares what arrives with what the model says.
///
/// # Errors
/// When connections cannot be forgotten.
pub fn verify(twin: &mut Twin, model: &Model, samples: &[Sample]) -> Result<Verification, TwinError> {
    let mut walker = Walker::new(model);
    let mut verification = Verification::default();
    let incomplete: BTreeMap<usize, String> = incomplete(twin.left_out());
    let mut number = 0;
    for part in samples.chunks(ROUND) {
        if number % PORTS + ROUND > PORTS {
            twin.forget_connections()?;
            number = 0;
        }
        let mut round = Vec::new();
        for sample in part {
            number += 1;
            let sample = own_port(sample, number);
            let branches = walker.branches(sample.packet, sample.start, &point(&sample.packet));
            if branches.iter().any(|branch| matches!(branch.end, End::Unknown(_))) {
                verification.unknown += 1;
            } else if let Some(reason) = obstacle(twin, &incomplete, &sample, &branches).or_else(|| unsendable(model, &sample)) {
                *verification.skipped.entry(reason).or_default() += 1;
            } else {
                round.push((sample, branches));
            }
        }
        let must_arrive = |branches: &[Branch]| branches.iter().all(|branch| matches!(branch.end, End::Delivered { .. }));
        let sent: Vec<(Sample, bool)> = round.iter().map(|(sample, branches)| (*sample, must_arrive(branches))).collect();
        for ((sample, branches), arrivals) in round.iter().zip(twin.send_all(&sent)) {
            match judge(twin, model, branches, &arrivals) {
                Judgement::Skip(reason) => *verification.skipped.entry(reason).or_default() += 1,
                Judgement::Agrees => {
                    verification.compared += 1;
                    verification.arrived += usize::from(!arrivals.is_empty());
                }
                Judgement::Disagrees => {
                    verification.compared += 1;
                    verification.disagreements.push(Disagreement::new(model, sample, branches, &arrivals));
                }
            }
        }
    }
    Ok(verification)
}

/// What a namespace lacks that may decide.
fn incomplete(left_out: &[LeftOut]) -> BTreeMap<usize, String> {
    let mut incomplete = BTreeMap::new();
    for lack in left_out.iter().filter(|lack| lack.decides) {
        incomplete.entry(lack.namespace).or_insert_with(|| lack.what.clone());
    }
    incomplete
}

/// The same packet from a port that no other has: of a connection that is known, rules see only the first packet. A port that rules chose stays.
fn own_port(sample: &Sample, number: usize) -> Sample {
    const USUAL: u16 = 40_000;
    let own = u16::try_from(1024 + number).unwrap_or(u16::MAX);
    let transport = match sample.packet.transport {
        Transport::Tcp { source_port: USUAL, destination_port, flags } => Transport::Tcp { source_port: own, destination_port, flags },
        Transport::Udp { source_port: USUAL, destination_port } => Transport::Udp { source_port: own, destination_port },
        Transport::Icmp { kind, code, .. } => Transport::Icmp { kind, code, id: own },
        Transport::Icmpv6 { kind, code, .. } => Transport::Icmpv6 { kind, code, id: own },
        other @ (Transport::Tcp { .. } | Transport::Udp { .. }) => other,
    };
    let mut packet = Packet { transport, ..sample.packet };
    packet.length = wire::length(&packet);
    Sample { packet, ..*sample }
}

/// Why a packet cannot be compared.
fn obstacle(twin: &Twin, incomplete: &BTreeMap<usize, String>, sample: &Sample, branches: &[Branch]) -> Option<String> {
    if !twin.can_send(sample) {
        return Some("it cannot be sent: the link is not there, or down".to_owned());
    }
    if matches!(sample.start, Start::Wire { to, .. } | Start::Arrival { to, .. } if to.is_group()) {
        return Some("a frame for all arrives at several".to_owned());
    }
    // `__mkroute_output` looks at the source, which a raw socket does not tell it.
    let closed = branches.iter().any(|branch| matches!(branch.end, End::Dropped(_)));
    if matches!(sample.start, Start::Process { .. }) && sample.packet.is_ipv4() && sample.packet.source.is_loopback() && closed {
        return Some("a raw socket sends from a loopback address what a program cannot".to_owned());
    }
    let met = branches.iter().flat_map(|branch| branch.steps.iter().map(|step| step.namespace));
    met.filter_map(|namespace| incomplete.get(&namespace)).next().map(|what| format!("the twin lacks {what}"))
}

/// Why a raw socket does not send a packet as a program does: its header has a source address, of which routing does not know (`raw_sendmsg`).
fn unsendable(model: &Model, sample: &Sample) -> Option<String> {
    let Start::Process { namespace, .. } = sample.start else { return None };
    let content = model.namespace(namespace);
    let fib = if sample.packet.is_ipv4() { &content.fib4 } else { &content.fib6 };
    if sample.packet.source.is_unspecified() {
        return Some("the kernel chooses its address, which its checksum is about".to_owned());
    }
    fib.looks_at_source().then(|| "a raw socket is routed without regard to the packet's address".to_owned())
}

enum Judgement {
    Agrees,
    Disagrees,
    Skip(String),
}

fn judge(twin: &Twin, model: &Model, branches: &[Branch], arrivals: &[Arrival]) -> Judgement {
    let outside: BTreeSet<Place> = arrivals.iter().filter_map(Arrival::by).collect();
    let mut silent = false;
    for branch in branches {
        let leaves: BTreeSet<Place> = branch.leaves().filter(|place| twin.outside.contains_key(place)).collect();
        // A frame to an address that a bridge has not learnt yet goes to all its ports.
        let extra = outside.difference(&leaves).any(|place| model.link(*place).is_none_or(|link| link.master.is_none()));
        if !inside_fits(branch, arrivals) || extra {
            continue;
        }
        let missing: Vec<&Place> = leaves.difference(&outside).collect();
        if missing.is_empty() {
            return Judgement::Agrees;
        }
        silent |= missing.iter().all(|place| twin.outside.get(*place).is_some_and(|outside| !outside.takes_all));
    }
    if silent { Judgement::Skip("nobody outside answers for the address in the twin".to_owned()) } else { Judgement::Disagrees }
}

/// Whether what passed INPUT is what this way says.
fn inside_fits(branch: &Branch, arrivals: &[Arrival]) -> bool {
    let inside: Vec<_> = arrivals
        .iter()
        .filter_map(|arrival| match arrival {
            Arrival::Inside { namespace, seen } => Some((*namespace, seen)),
            Arrival::Outside { .. } => None,
        })
        .collect();
    match (&branch.end, inside.as_slice()) {
        (End::Delivered { namespace }, [(place, seen)]) => {
            let port = branch.packet.transport.ports().map(|(_, port)| port);
            namespace == place
                && seen.source == branch.packet.source
                && seen.destination.is_none_or(|destination| destination == branch.packet.destination)
                && seen.identify().and_then(|(_, ports)| ports).map(|(_, port)| port) == port
        }
        (End::Dropped(_) | End::Left { .. }, []) => true,
        _ => false,
    }
}

impl Arrival {
    fn by(&self) -> Option<Place> {
        match self {
            Self::Inside { .. } => None,
            Self::Outside { by } => Some(*by),
        }
    }
}

impl Branch {
    /// Links that it left by.
    fn leaves(&self) -> impl Iterator<Item = Place> + '_ {
        let last = match &self.end {
            End::Left { by } => Some(*by),
            End::Delivered { .. } | End::Dropped(_) | End::Unknown(_) => None,
        };
        self.exits.iter().copied().chain(last)
    }
}

impl Disagreement {
    fn new(model: &Model, sample: &Sample, branches: &[Branch], arrivals: &[Arrival]) -> Self {
        let from = match sample.start {
            Start::Arrival { .. } => "outside".to_owned(),
            Start::Process { namespace, .. } | Start::Wire { from: Place { namespace, .. }, .. } => model.namespace(namespace).label.clone(),
        };
        let end = |branch: &Branch| match &branch.end {
            End::Delivered { namespace } => format!("delivered to {} as {}", model.namespace(*namespace).label, branch.packet),
            End::Dropped(reason) => format!("dropped in {}: {}", reason.as_hop().at, reason.as_hop().text),
            End::Left { by } => format!("left by {}", model.link(*by).map_or("a link", |link| &link.name)),
            End::Unknown(why) => format!("unknown: {why}"),
        };
        Self {
            packet: sample.packet.to_string(),
            from,
            expected: branches.iter().map(end).collect(),
            observed: arrivals.iter().map(|arrival| arrival.describe(model)).collect(),
            trace: branches.first().map_or_else(Vec::new, |branch| branch.trace(model)),
        }
    }
}
