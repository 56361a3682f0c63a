//! One question: can this one reach that one there.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;

use crate::model::{EndpointKind, METADATA, Model};
use crate::packet::{Packet, Protocol};
use crate::space::{Field, Ranges};
use crate::walk::{End, Hop, Reason, Start, Walker, point};

use super::{Attacker, Explorer, Flow, Found, Only, Origin, Pair, all_ports};
use crate::model::fib::number;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The sender's name.
    pub from: String,
    /// The target's name, or an address.
    pub to: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Port that the packet arrives at; for an address, that it is sent to. None for protocols without ports.
    pub port: Option<u16>,
    /// What the sender is able to do.
    pub attacker: Attacker,
}

/// Three values: what is not known is never closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// No packet of the kind arrives.
    Closed,
    /// The witness arrives.
    Open,
    /// It may arrive.
    Unknown,
}

/// The answer and its reasons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The sender's name.
    pub from: String,
    /// The target's name or address.
    pub to: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Port.
    pub port: Option<u16>,
    /// What the sender is able to do.
    pub attacker: Attacker,
    /// The answer.
    pub answer: Answer,
    /// When open: whether an answer can come back.
    pub reply: bool,
    /// When open: the packet as it is sent.
    pub witness: Option<Packet>,
    /// When open: how the witness comes into being; none when both ends share a namespace.
    #[serde(skip)]
    pub start: Option<Start>,
    /// Hops, hooks, rules and routes that the witness meets, in order.
    pub trace: Vec<Hop>,
    /// When closed: what closes it.
    pub closed_by: Vec<Reason>,
    /// When unknown: what is not known.
    pub unknown_because: Vec<String>,
}

/// A question that cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    /// No endpoint has this name.
    #[error("no endpoint is called `{0}`")]
    NoEndpoint(String),
    /// A protocol with ports needs one.
    #[error("{0} needs a port: `{0}/80`")]
    NoPort(&'static str),
}

/// Answers one question.
///
/// # Errors
/// When a name is not known or the port is missing.
pub fn explain(model: &Model, question: &Question) -> Result<Explanation, QuestionError> {
    let from = endpoint(model, &question.from)?;
    let address = question.to.parse::<IpAddr>().ok();
    let to = if address.is_some() { None } else { Some(endpoint(model, &question.to)?) };
    let port = match (question.protocol.has_ports(), question.port) {
        (true, None) => return Err(QuestionError::NoPort(question.protocol.name())),
        (true, Some(port)) => u128::from(port),
        (false, _) => 1,
    };
    let origin = match from {
        EndpointKind::Inside(namespace) => Some(namespace),
        EndpointKind::Outside => None,
        EndpointKind::Metadata => return Ok(question.closed(vec![Reason::text("the metadata service only receives")])),
        EndpointKind::Lost => {
            return Ok(question.unknown(vec!["the sender's namespace was not found".to_owned()]));
        }
    };
    let mut explorer = Explorer::new(model);
    let ports = if address.is_some() { Ranges::one(port) } else { all_ports() };
    let destinations: Vec<IpAddr> = match to {
        Some(EndpointKind::Metadata) => METADATA.to_vec(),
        Some(EndpointKind::Inside(_) | EndpointKind::Lost | EndpointKind::Outside) | None => address.into_iter().collect(),
    };
    let only = Only { protocol: Some(question.protocol), ports, destinations };
    let found = explorer.explore_all(&Origin::only(origin), question.attacker, Some(&only));
    let pair = match to {
        Some(EndpointKind::Metadata) | None => found.any(model, origin),
        Some(to) => found.pair(model, origin, to),
    };
    // An address is asked about as it is sent to: whatever port the packet arrives at counts.
    let at_port = |flow: &&Flow| flow.protocol == question.protocol && (address.is_some() || flow.ports.contains(port));
    if let Some(flow) = Flow::likeliest(model, from, pair.open.iter().filter(at_port), |flow| flow) {
        return Ok(question.open(model, from, &flow.at(model, port, address.is_some())));
    }
    let doubts: BTreeSet<String> = pair.unknown.iter().filter(at_port).flat_map(|flow| flow.doubts.iter().cloned()).collect();
    if !doubts.is_empty() {
        return Ok(question.unknown(doubts.into_iter().collect()));
    }
    let targets = match (address, to) {
        (Some(address), _) => vec![address],
        (None, Some(EndpointKind::Metadata)) => METADATA.to_vec(),
        (None, Some(EndpointKind::Inside(namespace))) => {
            model.namespace(namespace).addresses().map(|own| own.address.addr()).filter(|own| !own.is_loopback()).collect()
        }
        (None, Some(EndpointKind::Outside)) => SOMEBODY_OUTSIDE.to_vec(),
        (None, _) => Vec::new(),
    };
    let no_uplink = model.uplinks.is_empty() && [Some(from), to].contains(&Some(EndpointKind::Outside));
    let nothing_outside = Reason::at(&model.namespace(model.host).label, "link", "there is no uplink: nothing is outside of this host");
    let mut closers = closers(model, &found, &targets, port);
    if closers.is_empty() && !no_uplink {
        closers.push(Reason::text(format!("{} has no address to send this from, or no link to send it by", question.from)));
    }
    Ok(question.closed(no_uplink.then_some(nothing_outside).into_iter().chain(closers).collect()))
}

/// Addresses that are kept for examples, for what is sent to everybody outside (RFC 5737, RFC 3849).
const SOMEBODY_OUTSIDE: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

fn endpoint(model: &Model, name: &str) -> Result<EndpointKind, QuestionError> {
    model.endpoint(name).map(|endpoint| endpoint.kind).ok_or_else(|| QuestionError::NoEndpoint(name.to_owned()))
}

/// What dropped the packets that were meant for the target: those sent to its addresses, or all if it has none. Rules say more than the absence
/// of a route, and come first.
fn closers(model: &Model, found: &Found, targets: &[IpAddr], port: u128) -> Vec<Reason> {
    const MOST: usize = 16;
    let mut walker = Walker::new(model);
    let mut reasons: BTreeSet<(bool, bool, bool, Reason)> = BTreeSet::new();
    for lost in &found.dropped {
        let ports = lost.space.of(Field::DestinationPort);
        let destinations = lost.space.of(Field::Destination);
        let meant = |target: &&IpAddr| target.is_ipv4() == lost.packet.is_ipv4() && destinations.contains(number(**target));
        let target = targets.iter().find(meant);
        let has_port = lost.packet.transport.ports().is_none() || ports.contains(port);
        if !has_port || (target.is_none() && !targets.is_empty()) {
            continue;
        }
        // The same, told of the very packet that was asked about.
        let asked = Packet {
            destination: target.copied().unwrap_or(lost.packet.destination),
            transport: lost.packet.transport.to_port(u16::try_from(port).unwrap_or(0)),
            ..lost.packet
        };
        let branches = walker.branches(asked, lost.start, &point(&asked));
        let reason = branches.into_iter().find_map(|branch| match branch.end {
            End::Dropped(reason) => Some(reason),
            End::Delivered { .. } | End::Left { .. } | End::Unknown(_) => None,
        });
        let reason = reason.unwrap_or_else(|| lost.reason.clone());
        let says_little = !matches!(reason.as_hop().kind, "rule" | "policy");
        let unlikely = lost.packet.source.is_loopback() || lost.start.is_bound(&asked);
        reasons.insert((unlikely, says_little, !asked.is_ipv4(), reason));
    }
    // A loopback source, or a link of one's own choice, is nobody's first try: that it goes nowhere is told when nothing else was sent.
    let natural = reasons.iter().any(|(unlikely, ..)| !unlikely);
    let told = reasons.into_iter().filter(|(unlikely, ..)| !(natural && *unlikely));
    told.map(|(.., reason)| reason).take(MOST).collect()
}

impl Found {
    /// Whatever arrives anywhere.
    pub(super) fn any(&self, model: &Model, origin: Option<usize>) -> Pair {
        let mut pair = Pair::default();
        for place in self.open.keys().chain(self.unknown.keys()) {
            let to = place.map_or(EndpointKind::Outside, EndpointKind::Inside);
            if *place == origin {
                pair.open.extend(self.open.get(place).into_iter().flatten().cloned());
                pair.unknown.extend(self.unknown.get(place).into_iter().flatten().cloned());
                continue;
            }
            let part = self.pair(model, origin, to);
            pair.open.extend(part.open);
            pair.unknown.extend(part.unknown);
        }
        pair.unknown.extend(self.anywhere.iter().cloned());
        if let Some(gap) = model.gaps.first() {
            pair.unknown.extend(Pair::doubtful(gap).unknown);
        }
        pair
    }
}

impl Flow {
    /// The same flow with a witness that arrives at this port.
    pub(crate) fn at(&self, model: &Model, port: u128, sent_to: bool) -> Self {
        let mut flow = self.clone();
        let port = u16::try_from(port).unwrap_or(0);
        if !self.protocol.has_ports() || self.proxy.is_some() || sent_to {
            return flow;
        }
        let changed = Packet { transport: flow.witness.transport.to_port(port), ..flow.witness };
        if self.start.is_none() {
            return Self { witness: changed, ..flow };
        }
        let other = Self { witness: changed, ..flow.clone() };
        let arrives = |flow: &Self| {
            flow.branch(&mut crate::walk::Walker::new(model))
                .is_some_and(|branch| (!matches!(branch.end, End::Dropped(_)) || !branch.exits.is_empty()) && branch.arrival_port() == port)
        };
        if !arrives(&flow) && arrives(&other) {
            flow = other;
        }
        flow
    }
}

impl Question {
    fn answered(&self, answer: Answer) -> Explanation {
        Explanation {
            from: self.from.clone(),
            to: self.to.clone(),
            protocol: self.protocol,
            port: self.port,
            attacker: self.attacker,
            answer,
            reply: false,
            witness: None,
            start: None,
            trace: Vec::new(),
            closed_by: Vec::new(),
            unknown_because: Vec::new(),
        }
    }

    fn open(&self, model: &Model, from: EndpointKind, flow: &Flow) -> Explanation {
        Explanation {
            reply: flow.replies(model, from),
            witness: Some(flow.witness),
            start: flow.start,
            trace: flow.trace(model),
            ..self.answered(Answer::Open)
        }
    }

    fn closed(&self, closed_by: Vec<Reason>) -> Explanation {
        Explanation { closed_by, ..self.answered(Answer::Closed) }
    }

    fn unknown(&self, unknown_because: Vec<String>) -> Explanation {
        Explanation { unknown_because, ..self.answered(Answer::Unknown) }
    }
}
