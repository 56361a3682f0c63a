//! What can pass, compared with what a policy allows: exact differences of sets.
//!
//! ```text
//!   open    − allowed − excepted   ▶ violation, with a packet and its path
//!   unknown − allowed − excepted   ▶ unknown where isolation is required
//!   required − open                ▶ violation: isolated because broken
//! ```

mod advice;
mod draft;
mod parties;

use std::collections::BTreeMap;

use policies::isolation::{Flows, Isolation, Party, PartyKind, Ports, Protocol as Allowed, Rule, Unknown};

use crate::analyse::{Attacker, Flow, Pair, Question, Reachability, explain};
use crate::model::{EndpointKind, Model};
use crate::packet::Protocol;
use crate::report::document::{Document, PartyView, PortsView, Severity, State, Step, Violation};
use crate::snapshot::Snapshot;
use crate::space::Ranges;

pub use draft::draft;
pub use parties::parties;

/// Violations beyond this number have no path: it takes time to walk, and nobody reads so many.
const WITH_PATH: usize = 500;

/// What a comparison comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Conclusion {
    /// Everything that can pass is allowed.
    Conforms,
    /// Something may pass that is not allowed, and the policy does not let that go.
    Unknown,
    /// Something passes that is not allowed, or does not pass that is required.
    Violation,
}

/// What is compared.
#[derive(Debug, Clone, Copy)]
pub struct Comparison<'a> {
    /// What was read.
    pub snapshot: &'a Snapshot,
    /// What it means.
    pub model: &'a Model,
    /// What can pass.
    pub reachability: &'a Reachability,
    /// What is allowed.
    pub isolation: &'a Isolation,
    /// The day, as `2026-11-24`: exceptions end.
    pub today: &'a str,
}

impl Comparison<'_> {
    /// Compares, and puts everything that is worth telling together.
    #[must_use]
    pub fn document(&self) -> (Document, Conclusion) {
        let parties = parties(self.snapshot, self.model);
        let by_name: BTreeMap<&str, &Party> = parties.iter().map(|party| (party.name.as_str(), party)).collect();
        let mut found = Found::default();
        for ((from, to), pair) in self.reachability.pairs() {
            if let (Some(from), Some(to)) = (by_name.get(from), by_name.get(to)) {
                self.pair(&mut found, from, to, &pair);
            }
        }
        found.violations.extend(self.isolation.requirements().iter().filter_map(|rule| self.about_nobody(rule, &parties)));
        let mut document = Document::new(self.snapshot, self.model, self.reachability);
        document.policy.clone_from(&self.isolation.name);
        document.parties = parties.iter().map(view).collect();
        document.notes = self.notes(&parties);
        found
            .violations
            .sort_by(|a, b| (a.state == State::Unknown, a.severity, &a.from, &a.to).cmp(&(b.state == State::Unknown, b.severity, &b.from, &b.to)));
        let conclusion = self.conclusion(&found.violations);
        document.violations = found.violations;
        document.excepted = found.excepted;
        (document, conclusion)
    }

    fn conclusion(&self, violations: &[Violation]) -> Conclusion {
        let unknown = |violation: &Violation| violation.state == State::Unknown;
        if violations.iter().any(|violation| !unknown(violation)) {
            Conclusion::Violation
        } else if violations.iter().any(unknown) && self.isolation.unknown == Unknown::Fail {
            Conclusion::Unknown
        } else {
            Conclusion::Conforms
        }
    }

    fn notes(&self, parties: &[Party]) -> Vec<String> {
        let nobody = self.isolation.permissions().filter_map(|rule| {
            let nobody = rule.nobody(parties)?;
            Some(format!("{}:{}: {nobody} on this host", self.isolation.name, rule.line))
        });
        let ended = self.isolation.ended(self.today).map(|exception| {
            format!("{}:{}: the exception ended on {} ({})", self.isolation.name, exception.rule.line, exception.until, exception.reason)
        });
        let alone = self.model.uplinks.is_empty().then(|| "this host has no uplink: nothing is outside, and nothing comes from there".to_owned());
        nobody.chain(ended).chain(alone).collect()
    }

    fn pair(&self, found: &mut Found, from: &Party, to: &Party, pair: &Pair) {
        let allowed = self.isolation.allowed(from, to);
        let required = self.isolation.required(from, to);
        if pair.open.is_empty() && pair.unknown.is_empty() && required.is_empty() {
            return;
        }
        let excepted: Vec<_> = self.isolation.excepted(from, to, self.today).collect();
        let let_go = excepted.iter().fold(Flows::default(), |all, exception| all.union(&exception.rule.flows));
        for state in [State::Open, State::Unknown] {
            let against = Against::new(pair, state, &allowed);
            let remaining = against.without(&let_go);
            if !remaining.is_empty() {
                let violation = self.violation((from, to), pair, &remaining, found.violations.len() < WITH_PATH);
                found.violations.push(violation);
            }
            let gone = against.within(&let_go);
            if let (false, Some(exception)) = (gone.is_empty(), excepted.first()) {
                let why = format!("excepted until {}: {}", exception.until, exception.reason);
                found.excepted.push(Violation { why, ..self.violation((from, to), pair, &gone, false) });
            }
        }
        let missing = Against::missing(pair, &required);
        if !missing.is_empty() {
            found.violations.push(self.missing(from, to, &missing));
        }
    }

    fn violation(&self, (from, to): (&Party, &Party), pair: &Pair, against: &Against, with_path: bool) -> Violation {
        let (kind, severity, why) = advice::judge(from, to, against.without(&to.published_flows(from.kind == PartyKind::Host)).is_empty());
        let sender = self.model.endpoint(&from.name).filter(|_| with_path && against.state == State::Open);
        let flow = against.flow(pair, sender.map(|sender| (self.model, sender.kind)));
        let flow = flow.map(|(flow, port)| if with_path { flow.at(self.model, port, false) } else { flow.clone() });
        let trace: Vec<Step> = match &flow {
            Some(flow) if with_path => flow.trace(self.model).iter().map(Step::from).collect(),
            _ => Vec::new(),
        };
        let doubts: Vec<String> = flow.iter().flat_map(|flow| flow.doubts.iter().cloned()).collect();
        let known = against.state == State::Open;
        let host = self.snapshot.namespace(self.snapshot.this_host);
        let fix = flow.as_ref().filter(|_| known).map(|flow| advice::fix(host, from, to, (&flow.witness, &trace)));
        Violation {
            kind: kind.to_owned(),
            severity: if known { severity } else { Severity::Medium },
            from: from.name.clone(),
            to: to.name.clone(),
            flows: against.view(),
            state: against.state,
            witness: flow.filter(|_| known).map(|flow| flow.witness.to_string()),
            fix: fix.unwrap_or_default(),
            why: if known { why } else { format!("{why}; it is not known because {}", doubts.join(", ")) },
            trace,
        }
    }

    /// A rule of what is required that nothing can break is none: who should be there is not.
    fn about_nobody(&self, rule: &Rule, parties: &[Party]) -> Option<Violation> {
        let is_answered = |from: &Party, to: &Party| rule.is_about(from, to) && self.reachability.pair(&from.name, &to.name).is_some();
        let looked_at = || parties.iter().any(|from| parties.iter().any(|to| is_answered(from, to)));
        let unasked = || (!looked_at()).then(|| format!("nobody is asked what passes from `{}` to `{}`", rule.from(), rule.to()));
        let nobody = rule.nobody(parties).or_else(unasked)?;
        Some(Violation {
            kind: "required".to_owned(),
            severity: Severity::High,
            from: rule.from(),
            to: rule.to(),
            flows: Against::of(State::Closed, |protocol| ranges(&rule.flows, protocol)).view(),
            state: State::Closed,
            witness: None,
            trace: Vec::new(),
            why: format!("{}:{} requires it, and {nobody} on this host", self.isolation.name, rule.line),
            fix: "start what should be there, or correct the rule".to_owned(),
        })
    }

    fn missing(&self, from: &Party, to: &Party, missing: &Against) -> Violation {
        let first = missing.ports.iter().find_map(|(protocol, ports)| Some((*protocol, ports.first()?)));
        let closed_by = first.map_or_else(Vec::new, |(protocol, port)| {
            let question = Question {
                from: from.name.clone(),
                to: to.name.clone(),
                protocol,
                port: protocol.has_ports().then(|| u16::try_from(port).unwrap_or(0)),
                attacker: Attacker::Process,
            };
            let answer = explain(self.model, &question).map(|answer| answer.closed_by).unwrap_or_default();
            answer.iter().map(|reason| Step::from(reason.as_hop())).collect()
        });
        Violation {
            kind: "required".to_owned(),
            severity: Severity::High,
            from: from.name.clone(),
            to: to.name.clone(),
            flows: missing.view(),
            state: State::Closed,
            witness: None,
            trace: closed_by,
            why: "the policy requires it and it does not pass".to_owned(),
            fix: "see what closes it above".to_owned(),
        }
    }
}

#[derive(Default)]
struct Found {
    violations: Vec<Violation>,
    excepted: Vec<Violation>,
}

/// Ports by protocol that are against the policy.
struct Against {
    state: State,
    ports: BTreeMap<Protocol, Ranges>,
}

impl Against {
    fn new(pair: &Pair, state: State, allowed: &Flows) -> Self {
        let ports = |protocol| match state {
            State::Unknown => pair.unknown_ports(protocol),
            State::Open | State::Closed => pair.open_ports(protocol),
        };
        Self::of(state, |protocol| ports(protocol).subtract(&ranges(allowed, protocol)))
    }

    fn missing(pair: &Pair, required: &Flows) -> Self {
        Self::of(State::Closed, |protocol| ranges(required, protocol).subtract(&pair.open_ports(protocol)).subtract(&pair.unknown_ports(protocol)))
    }

    fn of(state: State, ports: impl Fn(Protocol) -> Ranges) -> Self {
        let all = Protocol::ALL.into_iter().map(|protocol| (protocol, ports(protocol)));
        Self { state, ports: all.filter(|(_, ports)| !ports.is_empty()).collect() }
    }

    fn without(&self, flows: &Flows) -> Self {
        Self::of(self.state, |protocol| self.get(protocol).subtract(&ranges(flows, protocol)))
    }

    fn within(&self, flows: &Flows) -> Self {
        Self::of(self.state, |protocol| self.get(protocol).intersect(&ranges(flows, protocol)))
    }

    fn get(&self, protocol: Protocol) -> Ranges {
        self.ports.get(&protocol).cloned().unwrap_or_default()
    }

    fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }

    fn view(&self) -> Vec<PortsView> {
        self.ports.iter().filter_map(|(protocol, ports)| PortsView::new(*protocol, ports)).collect()
    }

    /// A flow that is against the policy, and a port of it that is; the likeliest when the sender is known.
    fn flow<'p>(&self, pair: &'p Pair, sender: Option<(&Model, EndpointKind)>) -> Option<(&'p Flow, u128)> {
        let flows = if self.state == State::Unknown { &pair.unknown } else { &pair.open };
        // TCP is what people try first.
        let order = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp, Protocol::Icmpv6];
        order.into_iter().find_map(|protocol| {
            let ports = self.ports.get(&protocol)?;
            let mut against = flows.iter().filter(|flow| flow.protocol == protocol).filter_map(|flow| {
                let both = flow.ports.intersect(ports);
                // A port that people know, if it is one of them.
                let port = [80, 22, 443].into_iter().find(|port| both.contains(*port)).or_else(|| both.first())?;
                Some((flow, port))
            });
            match sender {
                Some((model, kind)) => Flow::likeliest(model, kind, against, |(flow, _)| *flow),
                None => against.next(),
            }
        })
    }
}

/// Ports that a policy means, in the analysis' own type.
fn ranges(flows: &Flows, protocol: Protocol) -> Ranges {
    let ports: Ports = flows.ports(match protocol {
        Protocol::Icmp => Allowed::Icmp,
        Protocol::Icmpv6 => Allowed::Icmpv6,
        Protocol::Tcp => Allowed::Tcp,
        Protocol::Udp => Allowed::Udp,
    });
    if !protocol.has_ports() && !ports.is_empty() {
        return Ranges::between(0, 65535);
    }
    Ranges::union_of(ports.ranges().iter().map(|(first, last)| (u128::from(*first), u128::from(*last))))
}

fn view(party: &Party) -> PartyView {
    let kind = match party.kind {
        PartyKind::Container => "container",
        PartyKind::Host => "host",
        PartyKind::Metadata => "metadata",
        PartyKind::Namespace => "namespace",
        PartyKind::Outside => "outside",
    };
    PartyView {
        name: party.name.clone(),
        kind: kind.to_owned(),
        networks: party.networks.keys().cloned().collect(),
        addresses: party.addresses.iter().map(ToString::to_string).collect(),
    }
}
