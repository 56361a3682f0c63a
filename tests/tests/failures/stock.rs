//! A host on which nobody changed anything: netcheck says nothing that is not so. Every violation is tried with its packet.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use netcheck::analyse::Answer;
use netcheck::model::Model;
use serde_json::Value;

use crate::host::Host;
use crate::{ask, probe};

/// What a stock host leaks: who may do what, under which preset, and the kinds of violations that there are then.
pub(crate) type Leaks = (&'static str, &'static str, &'static [&'static str]);

/// Checks the host as it is, and sends the packet of every violation.
pub(crate) fn leaks_only(host: &Host, expected: &[Leaks]) -> Result<()> {
    let (file, snapshot) = host.look()?;
    let model = Model::new(&snapshot);
    let mut wrong = Vec::new();
    for (attacker, preset, kinds) in expected {
        let report = host.check(&file, preset, attacker)?;
        let mut found: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for violation in report["violations"].as_array().into_iter().flatten() {
            let shown = format!("{} > {} {}", violation["from"], violation["to"], violation["flows"]);
            found.entry(violation["kind"].as_str().context("a kind")?).or_default().push(shown);
            let tried = tried(host, &model, violation, attacker);
            wrong.extend(tried.err().map(|error| format!("{attacker} {preset}: {} > {}: {error:#}", violation["from"], violation["to"])));
        }
        if found.keys().copied().collect::<BTreeSet<_>>() != kinds.iter().copied().collect() {
            wrong.push(format!("{attacker} {preset}: {found:?}"));
        }
    }
    anyhow::ensure!(wrong.is_empty(), "{} are not as expected:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

fn tried(host: &Host, model: &Model, violation: &Value, attacker: &str) -> Result<()> {
    let text = |name: &str| violation[name].as_str().with_context(|| format!("no {name}"));
    anyhow::ensure!(text("state")? == "open", "it is {} that it is open", violation["state"]);
    // outside is more than the neighbour on the uplink, who is an endpoint too: where else it would arrive cannot be seen, nor is there a
    // metadata service
    if matches!(text("to")?, "outside" | "metadata") {
        return Ok(());
    }
    let flows = violation["flows"].as_array().context("no flows")?;
    let flow = flows.iter().find(|flow| flow["protocol"] == "tcp").or(flows.first()).context("no flow")?;
    let first = flow["ports"][0].as_str().and_then(|range| range.split('-').next()).map_or(String::new(), |port| format!("/{port}"));
    let protocol = flow["protocol"].as_str().context("no protocol")?;
    let answer = ask(model, &format!("{} > {} {protocol}{first} {attacker}", text("from")?, text("to")?))?;
    anyhow::ensure!(answer.answer == Answer::Open, "explain says {:?}", answer.answer);
    probe::arrives(host, model, &answer)
}
