//! A policy that allows what passes now and nothing more: a start for people who want less.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use policies::isolation::{Party, PartyKind};

use crate::report::document::PortsView;

use super::{Against, Comparison, State, parties};

/// The policy, as YAML: the preset of the comparison, and a rule for each flow beyond it. Containers of one compose service are a group.
#[must_use]
pub fn draft(comparison: &Comparison<'_>) -> String {
    let parties = parties(comparison.snapshot, comparison.model);
    let by_name: BTreeMap<&str, &Party> = parties.iter().map(|party| (party.name.as_str(), party)).collect();
    let mut rules: BTreeMap<(String, Vec<PortsView>), BTreeSet<String>> = BTreeMap::new();
    for ((from, to), pair) in comparison.reachability.pairs() {
        let (Some(from), Some(to)) = (by_name.get(from), by_name.get(to)) else { continue };
        let beyond = Against::new(&pair, State::Open, &comparison.isolation.allowed(from, to));
        if !beyond.is_empty() {
            rules.entry((side(to), beyond.view())).or_default().insert(side(from));
        }
    }
    let mut out = String::from("# What passes on this host now, and nothing more. Take away what should not be.\n");
    // Writing to a string does not fail.
    let _ = writeln!(out, "version: 1\npreset: {}", comparison.isolation.preset.name());
    groups(&mut out, &parties);
    if !rules.is_empty() {
        let _ = writeln!(out, "allow:");
    }
    for ((to, flows), from) in rules {
        let from: Vec<String> = from.into_iter().map(|name| quoted(&name)).collect();
        let _ = writeln!(out, "  - {{ from: [{}], to: {}{} }}", from.join(", "), quoted(&to), protocols(&flows));
    }
    out
}

fn groups(out: &mut String, parties: &[Party]) {
    let services: BTreeSet<(&str, &str)> = parties.iter().filter_map(|party| Some((party.project.as_deref()?, party.service.as_deref()?))).collect();
    if !services.is_empty() {
        let _ = writeln!(out, "groups:");
    }
    for (project, service) in services {
        let name = quoted(&format!("{project}.{service}"));
        let _ = writeln!(out, "  {name}: {{ project: {}, service: {} }}", quoted(project), quoted(service));
    }
}

/// The group of a party, or its name.
fn side(party: &Party) -> String {
    match (party.kind, &party.project, &party.service) {
        (PartyKind::Host, ..) => "host".to_owned(),
        (PartyKind::Outside, ..) => "outside".to_owned(),
        (_, Some(project), Some(service)) => format!("{project}.{service}"),
        _ => party.name.clone(),
    }
}

fn protocols(flows: &[PortsView]) -> String {
    let icmp = flows.iter().any(|flow| flow.ports.is_empty());
    let ported = flows.iter().filter(|flow| !flow.ports.is_empty()).map(|flow| format!(", {}: [{}]", flow.protocol, flow.ports.join(", ")));
    ported.chain(icmp.then(|| ", icmp: true".to_owned())).collect()
}

/// A string that YAML reads as it is, whatever is in it.
fn quoted(text: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-' | '.');
    if !text.is_empty() && text.starts_with(|first: char| first.is_ascii_alphabetic()) && text.chars().all(plain) {
        return text.to_owned();
    }
    serde_json::Value::from(text).to_string()
}
