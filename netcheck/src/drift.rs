//! What changed between two results: flows that opened, flows that closed, endpoints that came and went.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::packet::Protocol;
use crate::report::document::{Document, FlowView, PortsView};
use crate::space::Ranges;

/// The name and version of a baseline's format.
pub const SCHEMA: &str = "netcheck/baseline/1";

/// What could pass at some time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// [`SCHEMA`].
    pub schema: String,
    /// When the host was read.
    pub taken: String,
    /// What the sender was supposed to be able to do.
    pub attacker: String,
    /// Endpoints.
    pub endpoints: Vec<String>,
    /// What could pass. What was not known counts as open: it may have been.
    pub flows: Vec<FlowView>,
}

/// Why a file is not a baseline that can be used.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// It is not JSON, or not of this shape.
    #[error("this is not a baseline: {0}")]
    Malformed(#[from] serde_json::Error),
    /// It is something else, or of a newer netcheck.
    #[error("this is not a baseline but `{0}`")]
    Other(String),
}

/// What changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// Endpoints that were not there.
    pub appeared: Vec<String>,
    /// Endpoints that are gone.
    pub vanished: Vec<String>,
    /// Flows that pass, or may pass, and did not.
    pub opened: Vec<Change>,
    /// Flows that passed and do not.
    pub closed: Vec<Change>,
}

/// Flows of one pair that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The sender.
    pub from: String,
    /// The receiver.
    pub to: String,
    /// Which flows.
    pub flows: Vec<PortsView>,
}

impl Baseline {
    /// The baseline of a result.
    #[must_use]
    pub fn of(document: &Document) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            taken: document.taken.clone(),
            attacker: document.attacker.clone(),
            endpoints: document.endpoints.clone(),
            flows: document.flows.clone(),
        }
    }

    /// Reads a baseline file.
    ///
    /// # Errors
    /// When it is not one.
    pub fn from_json(json: &[u8]) -> Result<Self, BaselineError> {
        let baseline: Self = serde_json::from_slice(json)?;
        if baseline.schema != SCHEMA {
            return Err(BaselineError::Other(baseline.schema));
        }
        Ok(baseline)
    }

    /// What changed since. Pairs of which one end came or went are left out: the endpoint is named instead.
    #[must_use]
    pub fn drift(&self, now: &Self) -> Drift {
        let (before, after): (BTreeSet<&String>, BTreeSet<&String>) = (self.endpoints.iter().collect(), now.endpoints.iter().collect());
        let missing = |from: &BTreeSet<&String>, of: &BTreeSet<&String>| of.difference(from).map(|name| (*name).clone()).collect();
        let (old, new) = (by_pair(&self.flows), by_pair(&now.flows));
        let mut drift = Drift { appeared: missing(&before, &after), vanished: missing(&after, &before), ..Drift::default() };
        let pairs: BTreeSet<&(&str, &str)> = old.keys().chain(new.keys()).collect();
        for pair in pairs {
            let known = |name: &str| before.iter().any(|one| *one == name) && after.iter().any(|one| *one == name);
            if !known(pair.0) || !known(pair.1) {
                continue;
            }
            drift.opened.extend(change(*pair, old.get(pair).copied(), new.get(pair).copied()));
            drift.closed.extend(change(*pair, new.get(pair).copied(), old.get(pair).copied()));
        }
        drift
    }
}

impl Drift {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.appeared.is_empty() && self.vanished.is_empty() && self.opened.is_empty() && self.closed.is_empty()
    }
}

fn by_pair(flows: &[FlowView]) -> BTreeMap<(&str, &str), &FlowView> {
    flows.iter().map(|flow| ((flow.from.as_str(), flow.to.as_str()), flow)).collect()
}

/// What is in the second and was not in the first.
fn change(pair: (&str, &str), without: Option<&FlowView>, with: Option<&FlowView>) -> Option<Change> {
    let flows: Vec<PortsView> = Protocol::ALL
        .into_iter()
        .filter_map(|protocol| PortsView::new(protocol, &ports(with, protocol).subtract(&ports(without, protocol))))
        .collect();
    (!flows.is_empty()).then(|| Change { from: pair.0.to_owned(), to: pair.1.to_owned(), flows })
}

fn ports(flow: Option<&FlowView>, protocol: Protocol) -> Ranges {
    let views = flow.into_iter().flat_map(|flow| flow.open.iter().chain(&flow.unknown));
    let own = views.filter(|view| view.protocol == protocol.name());
    Ranges::union_of(own.flat_map(|view| {
        // Protocols without ports are there or not.
        let everything = view.ports.is_empty().then_some((0, 65535));
        let listed = view.ports.iter().filter_map(|text| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            Some((first.parse().ok()?, last.parse().ok()?))
        });
        listed.chain(everything)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(ports: &[&str]) -> Baseline {
        let open = vec![PortsView { protocol: "tcp".to_owned(), ports: ports.iter().map(|port| (*port).to_owned()).collect() }];
        let flow = FlowView { from: "a".to_owned(), to: "b".to_owned(), open, unknown: Vec::new() };
        Baseline {
            schema: SCHEMA.to_owned(),
            taken: String::new(),
            attacker: "process".to_owned(),
            endpoints: vec!["a".to_owned(), "b".to_owned()],
            flows: vec![flow],
        }
    }

    #[test]
    fn drift_is_the_exact_difference() {
        let drift = baseline(&["80", "8000-8999"]).drift(&baseline(&["80", "8500-9100"]));
        assert_eq!(drift.opened[0].flows[0].ports, ["9000-9100"]);
        assert_eq!(drift.closed[0].flows[0].ports, ["8000-8499"]);
        assert!(baseline(&["80"]).drift(&baseline(&["80"])).is_empty());
    }
}
