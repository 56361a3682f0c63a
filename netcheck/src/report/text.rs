//! For a terminal.

use std::collections::{BTreeMap, BTreeSet};

use crate::analyse::{Answer, Explanation};
use crate::drift::{Baseline, Drift};

use super::document::{Document, FlowView, State, Step, Violation};

/// Names that take more room than this are cut in the matrix.
const COLUMN: usize = 12;
/// More endpoints than this are too many for a matrix.
const LARGEST: usize = 80;
/// More violations than this are only counted; JSON and HTML have all of them.
const PRINTED: usize = 50;

/// Text from a container with what could move the cursor, colour the terminal, or reorder or hide what stands beside it made visible: `\u{1b}`.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\'' | '\\' => out.push(character),
            other => out.extend(other.escape_debug()),
        }
    }
    out
}

/// The same for a text of several lines.
#[must_use]
pub fn plain_lines(text: &str) -> String {
    text.split('\n').map(plain).collect::<Vec<_>>().join("\n")
}

/// Adds one line, with what is in it made visible.
pub fn line(out: &mut String, text: &str) {
    out.push_str(&plain(text));
    out.push('\n');
}

/// A word of a command that somebody may copy into a shell: names of links and namespaces are chosen by others.
#[must_use]
pub fn word(text: &str) -> String {
    let harmless = |character: char| character.is_ascii_alphanumeric() || "-_.,:=@%+/".contains(character);
    if !text.is_empty() && text.chars().all(harmless) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// The answer to one question.
#[must_use]
pub fn explanation(answer: &Explanation) -> String {
    let mut out = String::new();
    let port = answer.port.map_or_else(String::new, |port| format!("/{port}"));
    let verdict = match answer.answer {
        Answer::Closed => "closed",
        Answer::Open if answer.reply => "open",
        Answer::Open => "open, one way: no answer comes back",
        Answer::Unknown => "unknown",
    };
    let (protocol, attacker) = (answer.protocol.name(), answer.attacker.name());
    line(&mut out, &format!("{} → {} {protocol}{port} (attacker: {attacker}): {verdict}", answer.from, answer.to));
    if let Some(witness) = &answer.witness {
        line(&mut out, &format!("  packet  {witness}"));
    }
    path(&mut out, answer.trace.iter().map(Step::from));
    for reason in &answer.closed_by {
        line(&mut out, &format!("  closed  {}", step(&Step::from(reason.as_hop()))));
    }
    for reason in &answer.unknown_because {
        line(&mut out, &format!("  unknown {reason}"));
    }
    out
}

fn path(out: &mut String, steps: impl Iterator<Item = Step>) {
    let mut place = String::new();
    for one in steps {
        let here = if one.at == place { "" } else { one.at.as_str() };
        line(out, &format!("  {here:<12}  {}", step(&Step { at: String::new(), ..one.clone() })));
        place = one.at;
    }
}

/// One step: where, at which hook, what.
fn step(step: &Step) -> String {
    let place = if step.at.is_empty() { String::new() } else { format!("{}: ", step.at) };
    let kind = step.hook.as_ref().map_or(step.kind.as_str(), String::as_str);
    format!("{place}{kind:<11} {}", step.text)
}

/// The result of a check: matrix, violations, gaps.
#[must_use]
pub fn document(document: &Document) -> String {
    let mut out = String::new();
    line(&mut out, &format!("{}, {}, attacker: {}, policy: {}", document.host, document.taken, document.attacker, document.policy));
    line(&mut out, "");
    matrix(&mut out, document);
    for violation in document.violations.iter().take(PRINTED) {
        line(&mut out, "");
        one(&mut out, violation);
    }
    if document.violations.len() > PRINTED {
        line(&mut out, "");
        line(&mut out, &format!("… and {} more: --format json or html shows all", document.violations.len() - PRINTED));
    }
    for violation in &document.excepted {
        line(&mut out, "");
        line(&mut out, &format!("excepted for now: {}", title(violation)));
    }
    if !document.gaps.is_empty() {
        line(&mut out, "");
        line(&mut out, "not covered:");
        for gap in &document.gaps {
            line(&mut out, &format!("  {gap}"));
        }
    }
    if !document.notes.is_empty() {
        line(&mut out, "");
    }
    for note in &document.notes {
        line(&mut out, &format!("note: {note}"));
    }
    line(&mut out, "");
    line(&mut out, &summary(document));
    out
}

/// One line: what was found.
#[must_use]
pub fn summary(document: &Document) -> String {
    let count = |state| document.violations.iter().filter(|one| one.state == state).count();
    let pairs = document.flows.len();
    let (open, unknown, missing) = (count(State::Open), count(State::Unknown), count(State::Closed));
    if open + unknown + missing == 0 {
        return format!("conforms: {pairs} pairs of {} endpoints", document.endpoints.len());
    }
    format!("{open} violations, {unknown} unknown where isolation is required, {missing} required and missing; {pairs} pairs")
}

/// Who reaches whom. Receivers are columns. Of many endpoints only those in a violation are shown.
fn matrix(out: &mut String, document: &Document) {
    let shown = shown(document);
    if shown.len() < document.endpoints.len() {
        line(out, &format!("{} of {} endpoints: those in a violation", shown.len(), document.endpoints.len()));
    }
    if shown.is_empty() {
        return;
    }
    let names: Vec<String> = shown.iter().map(|name| short(&plain(name))).collect();
    let flows: BTreeMap<(&str, &str), &FlowView> = document.flows.iter().map(|flow| ((flow.from.as_str(), flow.to.as_str()), flow)).collect();
    let bad: BTreeSet<(&str, &str)> = document.violations.iter().map(|violation| (violation.from.as_str(), violation.to.as_str())).collect();
    let left = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(9);
    let head: Vec<String> = names.iter().map(|name| format!("{name:>4}")).collect();
    line(out, &format!("{:<left$} {}", "from \\ to", head.join(" ")));
    for (from, name) in shown.iter().zip(&names) {
        let cells: Vec<String> = shown
            .iter()
            .zip(&head)
            .map(|(to, head)| {
                let cell = cell(flows.get(&(*from, *to)).copied(), from == to);
                let mark = if bad.contains(&(*from, *to)) { "!" } else { "" };
                let cell = format!("{cell}{mark}");
                let width = head.chars().count();
                format!("{cell:>width$}")
            })
            .collect();
        line(out, &format!("{name:<left$} {}", cells.join(" ")));
    }
    line(out, "+ all tcp and udp, o some, . nothing, ? unknown, - itself, ! against the policy");
}

/// Endpoints that the matrix has room for.
pub(crate) fn shown(document: &Document) -> Vec<&str> {
    let all = document.endpoints.iter().map(String::as_str);
    if document.endpoints.len() <= LARGEST {
        return all.collect();
    }
    let bad: BTreeSet<&str> = document.violations.iter().flat_map(|one| [one.from.as_str(), one.to.as_str()]).collect();
    all.filter(|name| bad.contains(name)).take(LARGEST).collect()
}

fn cell(flow: Option<&FlowView>, same: bool) -> &'static str {
    let Some(flow) = flow else { return if same { "-" } else { " " } };
    let everything =
        |protocol: &str| flow.open.iter().any(|ports| ports.protocol == protocol && matches!(ports.ports.as_slice(), [all] if all == "1-65535"));
    if everything("tcp") && everything("udp") {
        "+"
    } else if !flow.unknown.is_empty() {
        "?"
    } else if flow.open.is_empty() {
        "."
    } else {
        "o"
    }
}

fn short(name: &str) -> String {
    if name.chars().count() <= COLUMN {
        return name.to_owned();
    }
    let kept: String = name.chars().take(COLUMN - 1).collect();
    format!("{kept}…")
}

/// Kind, who, whom, what.
#[must_use]
pub fn title(violation: &Violation) -> String {
    let flows: Vec<String> = violation.flows.iter().map(ToString::to_string).collect();
    let state = match violation.state {
        State::Closed => "does not reach",
        State::Open => "reaches",
        State::Unknown => "may reach",
    };
    format!("{}: {} {state} {} {}", violation.kind, plain(&violation.from), plain(&violation.to), flows.join(" "))
}

/// What changed.
#[must_use]
pub fn drift(drift: &Drift) -> String {
    let mut out = String::new();
    for (word, names) in [("new endpoint", &drift.appeared), ("gone endpoint", &drift.vanished)] {
        for name in names {
            line(&mut out, &format!("{word}: {name}"));
        }
    }
    for (word, changes) in [("opened", &drift.opened), ("closed", &drift.closed)] {
        for change in changes {
            let flows: Vec<String> = change.flows.iter().map(ToString::to_string).collect();
            line(&mut out, &format!("{word}: {} → {} {}", change.from, change.to, flows.join(" ")));
        }
    }
    if drift.is_empty() {
        line(&mut out, "nothing changed");
    }
    out
}

/// What is new since an earlier result: flows, endpoints, and violations, which come with the day too. None when nothing is.
#[must_use]
pub fn news(before: &Document, now: &Document) -> Option<String> {
    let changed = Baseline::of(before).drift(&Baseline::of(now));
    let key = |one: &Violation| (one.from.clone(), one.to.clone(), one.kind.clone(), one.state, one.flows.clone());
    let known: BTreeSet<_> = before.violations.iter().map(key).collect();
    let fresh: Vec<&Violation> = now.violations.iter().filter(|violation| !known.contains(&key(violation))).collect();
    if changed.is_empty() && fresh.is_empty() {
        return None;
    }
    let mut out = String::new();
    line(&mut out, &now.taken);
    if !changed.is_empty() {
        out += &drift(&changed);
    }
    for violation in fresh.iter().take(PRINTED) {
        one(&mut out, violation);
    }
    if fresh.len() > PRINTED {
        line(&mut out, &format!("… and {} more that are new", fresh.len() - PRINTED));
    }
    line(&mut out, &summary(now));
    Some(out)
}

/// Everything about one violation.
#[must_use]
pub fn violation(violation: &Violation) -> String {
    let mut out = String::new();
    one(&mut out, violation);
    out
}

fn one(out: &mut String, violation: &Violation) {
    let state = if violation.state == State::Unknown { "UNKNOWN" } else { "VIOLATION" };
    line(out, &format!("{state} [{}] {}", violation.severity.name(), title(violation)));
    line(out, &format!("  why     {}", violation.why));
    if let Some(witness) = &violation.witness {
        line(out, &format!("  packet  {witness}"));
    }
    path(out, violation.trace.iter().cloned());
    if !violation.fix.is_empty() {
        line(out, &format!("  fix     {}", violation.fix));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_for_a_shell_stays_one() {
        for (text, expected) in [("br-a", "br-a"), ("", "''"), ("a b", "'a b'"), ("$(id)", "'$(id)'"), ("a';id", r"'a'\'';id'")] {
            assert_eq!(word(text), expected);
        }
    }

    #[test]
    fn what_could_act_on_a_terminal_or_hide_is_visible() {
        let cases = [
            ("web-1 \"a\" 'b' \\ é → 網", "web-1 \"a\" 'b' \\ é → 網"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("a\r\nb\tc\0", "a\\r\\nb\\tc\\0"),
            ("\u{7f}\u{9b}31m", "\\u{7f}\\u{9b}31m"),
            ("\u{61c}\u{200e}\u{200f}\u{202e}\u{2066}", "\\u{61c}\\u{200e}\\u{200f}\\u{202e}\\u{2066}"),
            ("\u{2028}\u{2029}", "\\u{2028}\\u{2029}"),
            ("a\u{200b}\u{200d}\u{2060}\u{feff}\u{ad}", "a\\u{200b}\\u{200d}\\u{2060}\\u{feff}\\u{ad}"),
            ("\u{e0041}\u{a0}", "\\u{e0041}\\u{a0}"),
        ];
        for (text, expected) in cases {
            assert_eq!(plain(text), expected, "{text:?}");
        }
        assert_eq!(plain_lines("a\n\u{1b}b\n"), "a\n\\u{1b}b\n");
    }
}
