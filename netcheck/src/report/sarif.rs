//! For code scanning: SARIF 2.1.0. A result a violation; its rule is the kind.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::document::{Document, Severity, State, Violation};
use super::text;

/// A log with one run.
///
/// # Errors
/// Never for a document that was computed; the writer's signature asks for it.
pub fn log(document: &Document) -> Result<String, serde_json::Error> {
    let mut rules: BTreeMap<&str, Value> = BTreeMap::new();
    for violation in &document.violations {
        rules.entry(violation.kind.as_str()).or_insert_with(|| {
            json!({
                "id": violation.kind,
                "shortDescription": { "text": format!("network isolation: {}", violation.kind) },
                "defaultConfiguration": { "level": level(violation) },
            })
        });
    }
    let results: Vec<Value> = document.violations.iter().map(|violation| result(document, violation)).collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "netcheck",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules.into_values().collect::<Vec<Value>>(),
            } },
            "results": results,
        }],
    });
    serde_json::to_string_pretty(&log).map(|text| text + "\n")
}

fn result(document: &Document, violation: &Violation) -> Value {
    let place = |name: &str| json!({ "fullyQualifiedName": format!("{}/{}", text::plain(&document.host), text::plain(name)), "kind": "resource" });
    let steps: Vec<Value> = violation
        .trace
        .iter()
        .map(|step| {
            json!({ "location": {
            "message": { "text": text::plain(&format!("{}: {} {}", step.at, step.kind, step.text)) },
            "logicalLocations": [place(&step.at)],
        } })
        })
        .collect();
    let flows = if steps.is_empty() { json!([]) } else { json!([{ "threadFlows": [{ "locations": steps }] }]) };
    json!({
        "ruleId": violation.kind,
        "level": level(violation),
        "message": { "text": format!("{}. {}. Fix: {}", text::title(violation), text::plain(&violation.why), text::plain(&violation.fix)) },
        "locations": [{ "logicalLocations": [place(&violation.from), place(&violation.to)] }],
        "partialFingerprints": { "pair/v1": text::plain(&format!("{}|{}|{}|{}", document.host, violation.kind, violation.from, violation.to)) },
        "codeFlows": flows,
    })
}

const fn level(violation: &Violation) -> &'static str {
    match (violation.state, violation.severity) {
        (State::Unknown, _) | (_, Severity::Medium) => "warning",
        (_, Severity::Critical | Severity::High) => "error",
        (_, Severity::Low) => "note",
    }
}
