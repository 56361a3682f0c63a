//! One page for a browser: nothing is loaded from anywhere, no script runs. The matrix' cells are links to what is behind them.

use std::collections::BTreeMap;

use super::document::{Document, FlowView, State, Step, Violation};
use super::junit::escape;
use super::{svg, text};

const STYLE: &str = "
:root{color-scheme:light dark;--bg:#fbfcfd;--fg:#1b2733;--dim:#5d6975;--line:#d9dfe5;--card:#fff;--open:#cfe0f4;--some:#e8f0fa;--bad:#c8102e;--badbg:#fbdfe3;--maybe:#b97700;--maybebg:#fdf0d7;--ok:#1d7a46}
@media (prefers-color-scheme:dark){:root{--bg:#12171c;--fg:#e6ebf0;--dim:#9aa7b4;--line:#2f3a45;--card:#1a2129;--open:#25466b;--some:#1d3048;--bad:#ff5c6c;--badbg:#4a1a22;--maybe:#ffb84d;--maybebg:#463312;--ok:#5ccb8d}}
*{box-sizing:border-box}body{margin:0;padding:24px clamp(12px,4vw,48px) 60px;background:var(--bg);color:var(--fg);font:15px/1.5 ui-sans-serif,system-ui,sans-serif}
h1{font-size:22px;margin:0 0 4px}h2{font-size:16px;margin:32px 0 10px}p.sub{color:var(--dim);margin:0 0 18px}
.sum{display:flex;gap:12px;flex-wrap:wrap;margin:14px 0}.sum div{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:8px 16px}.sum b{display:block;font-size:22px}.sum .red b{color:var(--bad)}.sum .amber b{color:var(--maybe)}.sum .green b{color:var(--ok)}
.scroll{overflow-x:auto}table.m{border-collapse:separate;border-spacing:2px;font-size:13px}table.m th{font-weight:500;text-align:left;padding:2px 8px;white-space:nowrap;position:sticky;left:0;background:var(--bg)}
table.m thead th{position:static;writing-mode:vertical-rl;transform:rotate(180deg);padding:8px 2px;text-align:left}table.m td{padding:0}
table.m td a,table.m td span{display:block;width:28px;height:26px;line-height:26px;text-align:center;border-radius:4px;text-decoration:none;color:var(--fg);background:var(--card);border:1px solid var(--line)}
table.m td a.all{background:var(--open);border-color:transparent}table.m td a.some{background:var(--some);border-color:transparent}table.m td a.q{background:var(--maybebg);color:var(--maybe);border-color:var(--maybe)}table.m td a.bad{background:var(--badbg);color:var(--bad);border-color:var(--bad);font-weight:700}table.m td span{border-color:transparent;background:none;color:var(--dim)}
table.m td a:hover,table.m td a:focus-visible{outline:2px solid currentColor;outline-offset:1px}
.key{color:var(--dim);font-size:13px}.pic{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:8px}.pic svg{width:100%;height:auto;max-height:80vh;display:block}
article{background:var(--card);border:1px solid var(--line);border-left:4px solid var(--bad);border-radius:8px;padding:12px 16px;margin:12px 0;scroll-margin-top:12px}article.unknown{border-left-color:var(--maybe)}article:target,section.pair:target{outline:2px solid var(--bad)}
article h3{margin:0 0 6px;font-size:15px}.sev{display:inline-block;font-size:12px;border-radius:4px;padding:0 7px;margin-right:8px;background:var(--badbg);color:var(--bad)}article.unknown .sev{background:var(--maybebg);color:var(--maybe)}
dl{display:grid;grid-template-columns:64px 1fr;gap:2px 12px;margin:6px 0}dt{color:var(--dim)}dd{margin:0;min-width:0;overflow-wrap:anywhere}code{font:13px ui-monospace,monospace}
ol.path{list-style:none;margin:8px 0;padding:0;font:13px/1.55 ui-monospace,monospace;overflow-x:auto}ol.path li{display:grid;grid-template-columns:minmax(60px,110px) 96px 1fr;gap:10px}ol.path .at{color:var(--dim)}ol.path li.rule{color:var(--fg)}ol.path .k{color:var(--dim)}
section.pair{display:none;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:10px 16px;margin:10px 0}section.pair:target{display:block;outline-color:var(--dim)}ul.gaps{color:var(--dim);padding-left:20px}
";

/// The page.
#[must_use]
pub fn page(document: &Document) -> String {
    let mut out = String::with_capacity(64 * 1024);
    let title = format!("netcheck: {}", document.host);
    write(
        &mut out,
        &format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>{}</title>",
            escape(&title)
        ),
    );
    write(&mut out, &format!("<style>{STYLE}{}</style></head><body>", svg::STYLE));
    write(&mut out, &format!("<h1>Network isolation of {}</h1>", escape(&document.host)));
    write(
        &mut out,
        &format!(
            "<p class=\"sub\">read {} · attacker: {} · policy: {}</p>",
            escape(&document.taken),
            escape(&document.attacker),
            escape(&document.policy)
        ),
    );
    totals(&mut out, document);
    write(&mut out, "<h2>Who reaches whom</h2>");
    matrix(&mut out, document);
    write(&mut out, &format!("<h2>Networks</h2><div class=\"pic\">{}</div>", svg::embedded(document)));
    if !document.violations.is_empty() {
        write(&mut out, "<h2>Violations</h2>");
    }
    for (index, violation) in document.violations.iter().enumerate() {
        article(&mut out, index, violation);
    }
    list(&mut out, "Excepted for now", document.excepted.iter().map(|one| format!("{} — {}", text::title(one), one.why)));
    list(&mut out, "Not covered", document.gaps.iter().cloned());
    list(&mut out, "Notes", document.notes.iter().cloned());
    write(&mut out, "</body></html>\n");
    out
}

fn write(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

fn totals(out: &mut String, document: &Document) {
    let count = |state| document.violations.iter().filter(|one| one.state == state).count();
    let open = count(State::Open) + count(State::Closed);
    let unknown = count(State::Unknown);
    let tile = |class: &str, number: usize, label: &str| format!("<div class=\"{class}\"><b>{number}</b>{label}</div>");
    let color = |number: usize, bad: &'static str| if number == 0 { "green" } else { bad };
    let tiles = [
        tile(color(open, "red"), open, "violations"),
        tile(color(unknown, "amber"), unknown, "unknown where isolation is required"),
        tile("", document.endpoints.len(), "endpoints"),
        tile("", document.flows.len(), "pairs"),
        tile(color(document.gaps.len(), "amber"), document.gaps.len(), "gaps"),
    ];
    write(out, &format!("<div class=\"sum\">{}</div>", tiles.concat()));
}

fn matrix(out: &mut String, document: &Document) {
    let names = text::shown(document);
    if names.len() < document.endpoints.len() {
        write(out, &format!("<p class=\"key\">{} of {} endpoints: those in a violation.</p>", names.len(), document.endpoints.len()));
    }
    let flows: BTreeMap<(&str, &str), &FlowView> = document.flows.iter().map(|flow| ((flow.from.as_str(), flow.to.as_str()), flow)).collect();
    let mut violations: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (index, violation) in document.violations.iter().enumerate() {
        violations.entry((violation.from.as_str(), violation.to.as_str())).or_insert(index);
    }
    write(out, "<div class=\"scroll\"><table class=\"m\"><thead><tr><th></th>");
    for name in &names {
        write(out, &format!("<th scope=\"col\">{}</th>", escape(name)));
    }
    write(out, "</tr></thead><tbody>");
    let mut details = String::new();
    for (row, from) in names.iter().enumerate() {
        write(out, &format!("<tr><th scope=\"row\">{}</th>", escape(from)));
        for (column, to) in names.iter().enumerate() {
            let flow = flows.get(&(*from, *to)).copied();
            let id = format!("p{row}-{column}");
            write(out, &cell(flow, violations.get(&(*from, *to)).copied(), &id));
            if let Some(flow) = flow {
                pair(&mut details, flow, &id);
            }
        }
        write(out, "</tr>");
    }
    write(
        out,
        "</tbody></table></div><p class=\"key\">rows send, columns receive · ● all tcp and udp · ◐ some · empty: nothing · ? unknown · ! against the policy · select a cell to see what is behind it</p>",
    );
    out.push_str(&details);
}

fn cell(flow: Option<&FlowView>, violation: Option<usize>, id: &str) -> String {
    let Some(flow) = flow else { return "<td><span>·</span></td>".to_owned() };
    let all =
        |protocol: &str| flow.open.iter().any(|ports| ports.protocol == protocol && matches!(ports.ports.as_slice(), [one] if one == "1-65535"));
    let (class, sign) = match violation {
        Some(_) => ("bad", "!"),
        None if all("tcp") && all("udp") => ("all", "●"),
        None if !flow.unknown.is_empty() => ("q", "?"),
        None if flow.open.is_empty() => ("", ""),
        None => ("some", "◐"),
    };
    let target = violation.map_or_else(|| id.to_owned(), |index| format!("v{index}"));
    let label = format!("{} to {}", escape(&flow.from), escape(&flow.to));
    format!("<td><a class=\"{class}\" href=\"#{target}\" title=\"{label}\" aria-label=\"{label}\">{sign}</a></td>")
}

fn pair(out: &mut String, flow: &FlowView, id: &str) {
    let words = |ports: &[super::document::PortsView]| match ports {
        [] => "nothing".to_owned(),
        some => some.iter().map(|one| escape(&one.to_string())).collect::<Vec<_>>().join(" "),
    };
    let (from, to) = (escape(&flow.from), escape(&flow.to));
    let command = escape(&format!("netcheck explain {} {} tcp/80", text::word(&flow.from), text::word(&flow.to)));
    write(
        out,
        &format!(
            "<section class=\"pair\" id=\"{id}\"><b>{from} → {to}</b><dl><dt>open</dt><dd><code>{}</code></dd><dt>unknown</dt><dd><code>{}</code></dd><dt>why</dt><dd><code>{command}</code></dd></dl></section>",
            words(&flow.open),
            words(&flow.unknown)
        ),
    );
}

fn article(out: &mut String, index: usize, violation: &Violation) {
    let class = if violation.state == State::Unknown { "unknown" } else { "" };
    write(
        out,
        &format!(
            "<article class=\"{class}\" id=\"v{index}\"><h3><span class=\"sev\">{}</span>{}</h3><dl>",
            violation.severity.name(),
            escape(&text::title(violation))
        ),
    );
    let mut entry = |term: &str, value: &str, code: bool| {
        if value.is_empty() {
            return;
        }
        let value = escape(value);
        let value = if code { format!("<code>{value}</code>") } else { value };
        write(out, &format!("<dt>{term}</dt><dd>{value}</dd>"));
    };
    entry("why", &violation.why, false);
    entry("packet", violation.witness.as_deref().unwrap_or_default(), true);
    entry("fix", &violation.fix, true);
    write(out, "</dl>");
    path(out, &violation.trace);
    write(out, "</article>");
}

fn path(out: &mut String, trace: &[Step]) {
    if trace.is_empty() {
        return;
    }
    write(out, "<details open><summary>path</summary><ol class=\"path\">");
    let mut place = "";
    for step in trace {
        let at = if step.at == place { "" } else { step.at.as_str() };
        let kind = step.hook.as_deref().unwrap_or(&step.kind);
        write(
            out,
            &format!(
                "<li class=\"{}\"><span class=\"at\">{}</span><span class=\"k\">{}</span><span>{}</span></li>",
                escape(&step.kind),
                escape(at),
                escape(kind),
                escape(&step.text)
            ),
        );
        place = &step.at;
    }
    write(out, "</ol></details>");
}

fn list(out: &mut String, title: &str, entries: impl Iterator<Item = String>) {
    let entries: Vec<String> = entries.map(|entry| format!("<li>{}</li>", escape(&entry))).collect();
    if !entries.is_empty() {
        write(out, &format!("<h2>{title}</h2><ul class=\"gaps\">{}</ul>", entries.concat()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::document::{PartyView, SCHEMA, Severity};

    fn hostile() -> Document {
        let name = "<script>alert('x')</script>\"onload=".to_owned();
        let violation = Violation {
            kind: "icc".to_owned(),
            severity: Severity::High,
            from: name.clone(),
            to: name.clone(),
            flows: Vec::new(),
            state: State::Open,
            witness: Some(name.clone()),
            trace: vec![Step { at: name.clone(), kind: "rule".to_owned(), text: name.clone(), comment: Some(name.clone()), ..Step::default() }],
            why: name.clone(),
            fix: name.clone(),
        };
        Document {
            schema: SCHEMA.to_owned(),
            host: name.clone(),
            taken: name.clone(),
            attacker: "process".to_owned(),
            policy: name.clone(),
            endpoints: vec![name.clone()],
            parties: vec![PartyView {
                name: name.clone(),
                kind: "container".to_owned(),
                networks: vec![name.clone()],
                addresses: vec![name.clone()],
            }],
            flows: vec![FlowView { from: name.clone(), to: name.clone(), open: Vec::new(), unknown: Vec::new() }],
            violations: vec![violation],
            excepted: Vec::new(),
            gaps: vec![name.clone()],
            notes: vec![name],
        }
    }

    #[test]
    fn hostile_names_stay_text_in_every_format() {
        let document = hostile();
        for (format, text) in [("html", page(&document)), ("svg", svg::picture(&document)), ("junit", crate::report::junit::suite(&document))] {
            assert!(!text.contains("<script"), "{format}");
            assert!(!text.contains("\"onload"), "{format}");
        }
        assert!(crate::report::sarif::log(&document).is_ok());
    }
}
