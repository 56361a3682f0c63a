//! The result of a check, as it is written in JSON. `schema/check.json` describes it.

use serde::{Deserialize, Serialize};

use crate::analyse::{Pair, Reachability};
use crate::model::Model;
use crate::packet::Protocol;
use crate::snapshot::Snapshot;
use crate::space::Ranges;
use crate::walk::Hop;

/// The name and version of the format.
pub const SCHEMA: &str = "netcheck/check/1";

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// [`SCHEMA`].
    pub schema: String,
    /// The host's name.
    pub host: String,
    /// When it was read: RFC 3339.
    pub taken: String,
    /// What the sender was supposed to be able to do.
    pub attacker: String,
    /// The policy that it was compared with.
    pub policy: String,
    /// Names of endpoints, sorted.
    pub endpoints: Vec<String>,
    /// What endpoints are, in the same order.
    pub parties: Vec<PartyView>,
    /// What can pass, one entry an ordered pair that was answered.
    pub flows: Vec<FlowView>,
    /// What contradicts the policy, the most severe first.
    pub violations: Vec<Violation>,
    /// What is excepted from the policy for now.
    pub excepted: Vec<Violation>,
    /// What could not be read or is not modelled.
    pub gaps: Vec<String>,
    /// What is odd about the host or the policy: no uplink, rules about nobody, exceptions that have ended.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// What an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartyView {
    /// Its name.
    pub name: String,
    /// `container`, `host`, `metadata`, `outside`, or `namespace` for one that the engine does not know.
    pub kind: String,
    /// Networks that it is attached to.
    pub networks: Vec<String>,
    /// Its addresses.
    pub addresses: Vec<String>,
}

/// What can pass from one endpoint to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowView {
    /// The sender.
    pub from: String,
    /// The receiver.
    pub to: String,
    /// What passes.
    pub open: Vec<PortsView>,
    /// What may pass.
    pub unknown: Vec<PortsView>,
}

/// Ports of one protocol.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortsView {
    /// `icmp`, `icmpv6`, `tcp` or `udp`.
    pub protocol: String,
    /// `80` or `8000-8999`; empty for protocols without ports.
    pub ports: Vec<String>,
}

/// A flow that contradicts the policy, or one that it requires and that is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// What kind: `cross-network`, `internal-egress`, `icc`, `outside-in`, …
    pub kind: String,
    /// How bad.
    pub severity: Severity,
    /// The sender; for a requirement about nobody, whom its rule names.
    pub from: String,
    /// The receiver, in the same way.
    pub to: String,
    /// What passes, or does not, against the policy.
    pub flows: Vec<PortsView>,
    /// Whether it passes, may pass, or does not pass though it is required.
    pub state: State,
    /// A packet that passes, in words.
    pub witness: Option<String>,
    /// What the packet meets.
    pub trace: Vec<Step>,
    /// Why the policy forbids it.
    pub why: String,
    /// The smallest change that ends it, as a command or an advice.
    pub fix: String,
}

/// How bad a violation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Somebody from outside reaches what was promised to be closed, or everything is open.
    Critical,
    /// A promise of isolation is broken.
    High,
    /// A weakness that needs more than a plain process, or a narrow flow.
    Medium,
    /// Something to know.
    Low,
}

impl Severity {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }
}

/// What is known of a flow that is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is required and does not pass.
    Closed,
    /// It passes.
    Open,
    /// Something on the way is not understood.
    Unknown,
}

/// One thing that a packet meets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    /// In which namespace.
    pub at: String,
    /// `sent`, `route`, `rule`, `policy`, `nat`, `bridge`, `link`, `proxy`, `delivered`, `left`.
    pub kind: String,
    /// What happens.
    pub text: String,
    /// Netfilter's hook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook: Option<String>,
    /// Family and name of the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// The chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain: Option<String>,
    /// The rule's handle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handle: Option<u64>,
    /// The rule's comment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

impl From<&Hop> for Step {
    fn from(hop: &Hop) -> Self {
        Self {
            at: hop.at.clone(),
            kind: hop.kind.to_owned(),
            text: hop.text.clone(),
            hook: hop.hook.map(str::to_owned),
            table: hop.table.clone(),
            chain: hop.chain.clone(),
            handle: hop.handle,
            comment: hop.comment.clone(),
        }
    }
}

impl Document {
    /// What was computed, before it is compared with anything.
    #[must_use]
    pub fn new(snapshot: &Snapshot, model: &Model, reachability: &Reachability) -> Self {
        let gap = |gap: &crate::snapshot::Gap| {
            let kind = serde_json::to_value(gap.kind).unwrap_or_default();
            let place = gap.namespace.and_then(|id| model.place_of(id));
            let place = place.map_or_else(String::new, |place| format!(" in {}", model.namespace(place).label));
            format!("{}{place}: {}", kind.as_str().unwrap_or_default(), gap.detail)
        };
        Self {
            schema: SCHEMA.to_owned(),
            host: snapshot.host.clone(),
            taken: snapshot.taken.clone(),
            attacker: reachability.attacker.name().to_owned(),
            policy: String::new(),
            endpoints: reachability.endpoints.clone(),
            parties: Vec::new(),
            flows: reachability.pairs().map(|((from, to), pair)| FlowView::new(from, to, &pair)).collect(),
            violations: Vec::new(),
            excepted: Vec::new(),
            gaps: snapshot.gaps.iter().map(gap).collect(),
            notes: Vec::new(),
        }
    }
}

impl FlowView {
    fn new(from: &str, to: &str, pair: &Pair) -> Self {
        let ports =
            |of: &dyn Fn(Protocol) -> Ranges| Protocol::ALL.into_iter().filter_map(|protocol| PortsView::new(protocol, &of(protocol))).collect();
        Self {
            from: from.to_owned(),
            to: to.to_owned(),
            open: ports(&|protocol| pair.open_ports(protocol)),
            unknown: ports(&|protocol| pair.unknown_ports(protocol)),
        }
    }
}

impl PortsView {
    /// Ports in words; none when there are none.
    #[must_use]
    pub fn new(protocol: Protocol, ports: &Ranges) -> Option<Self> {
        if ports.is_empty() {
            return None;
        }
        let range = |(first, last): &(u128, u128)| {
            if first == last { first.to_string() } else { format!("{first}-{last}") }
        };
        let ports = if protocol.has_ports() { ports.as_slice().iter().map(range).collect() } else { Vec::new() };
        Some(Self { protocol: protocol.name().to_owned(), ports })
    }
}

impl std::fmt::Display for PortsView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.protocol)?;
        match self.ports.as_slice() {
            [] => Ok(()),
            [all] if all == "1-65535" || all == "0-65535" => Ok(()),
            ports => write!(f, "/{}", ports.join(",")),
        }
    }
}
