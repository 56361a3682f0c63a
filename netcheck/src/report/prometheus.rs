//! For monitoring: the text format of Prometheus, as a textfile collector or `/metrics` serves it.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::document::{Document, State};

/// Counts of what was found, and whether they are still what holds: when the host could not be read again, they are of the time before.
#[must_use]
pub fn metrics(document: Option<&Document>, up: bool) -> String {
    let mut out =
        format!("# HELP netcheck_up Whether the host could be read the last time.\n# TYPE netcheck_up gauge\nnetcheck_up {}\n", u8::from(up));
    if let Some(document) = document {
        counts(document, &mut out);
    }
    out
}

fn counts(document: &Document, out: &mut String) {
    let mut metric = |name: &str, help: &str, samples: &[(String, String)]| {
        // Writing to a string does not fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (labels, value) in samples {
            let _ = writeln!(out, "{name}{labels} {value}");
        }
    };
    let mut by_kind: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for violation in document.violations.iter().filter(|violation| violation.state != State::Unknown) {
        *by_kind.entry((violation.severity.name(), violation.kind.as_str())).or_default() += 1;
    }
    let samples: Vec<(String, String)> =
        by_kind.iter().map(|((severity, kind), count)| (labels(&[("severity", severity), ("kind", kind)]), count.to_string())).collect();
    let total = document.violations.iter().filter(|violation| violation.state != State::Unknown).count();
    let unknown = document.violations.len() - total;
    let open = document.flows.iter().filter(|flow| !flow.open.is_empty()).count();
    let plain = |value: usize| [(String::new(), value.to_string())];
    metric("netcheck_violations", "Pairs of endpoints with flows against the policy, by kind.", &samples);
    metric("netcheck_violations_total_pairs", "Pairs of endpoints with flows against the policy.", &plain(total));
    metric("netcheck_unknown", "Pairs of which it is not known though isolation is required.", &plain(unknown));
    metric("netcheck_pairs", "Ordered pairs of endpoints that were answered.", &plain(document.flows.len()));
    metric("netcheck_pairs_open", "Ordered pairs with any open flow.", &plain(open));
    metric("netcheck_endpoints", "Endpoints.", &plain(document.endpoints.len()));
    metric("netcheck_gaps", "Things that could not be read or are not modelled.", &plain(document.gaps.len()));
    if let Ok(taken) = document.taken.parse::<jiff::Timestamp>() {
        metric("netcheck_last_run_timestamp_seconds", "When the host was read.", &[(String::new(), taken.as_second().to_string())]);
    }
}

/// `{a="b"}`; values are escaped as the format wants it.
fn labels(pairs: &[(&str, &str)]) -> String {
    let escape = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
    format!("{{{}}}", pairs.join(","))
}
