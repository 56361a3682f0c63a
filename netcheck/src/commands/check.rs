//! `netcheck check`.

use std::io::{IsTerminal, Write};
use std::path::Path;

use miette::miette;
use netcheck::analyse::{Attacker, analyse};
use netcheck::compare::{Comparison, Conclusion};
use netcheck::model::Model;
use netcheck::report::{Document, html, junit, prometheus, sarif, svg, text};
use netcheck::snapshot::Snapshot;
use policies::isolation::{self, Isolation, Preset};

use super::output::Output;
use super::{CheckArguments, Failure, Format, Outcome, source};
use crate::shell::file;

/// Collects or reads, analyses, compares, writes.
pub(crate) fn run(arguments: &CheckArguments) -> Result<Outcome, Failure> {
    let isolation = policy(&arguments.policy)?;
    let output = Output::open(arguments.output.as_deref())?;
    progress("reading");
    let snapshot = source::snapshot(&arguments.source)?;
    progress(&format!("analysing {} namespaces", snapshot.namespaces.len()));
    let attacker = arguments.attacker.map(Attacker::from);
    let (document, conclusion) = compare(&snapshot, &isolation, attacker);
    progress("");
    output.write(render(&document, arguments.format)?.as_bytes())?;
    Ok(outcome(conclusion))
}

/// Says what is being done, to somebody who waits at a terminal; the next word takes its place.
fn progress(what: &str) {
    let mut terminal = std::io::stderr();
    if terminal.is_terminal() {
        let dots = if what.is_empty() { "" } else { " …" };
        // Nobody has to see it.
        let _ = write!(terminal, "\r\x1b[K{what}{dots}");
    }
}

/// The exit status of a conclusion.
pub(crate) const fn outcome(conclusion: Conclusion) -> Outcome {
    match conclusion {
        Conclusion::Conforms => Outcome::Conforms,
        Conclusion::Unknown => Outcome::Unknown,
        Conclusion::Violation => Outcome::Violation,
    }
}

/// A preset by its name, or a file.
pub(crate) fn policy(name: &str) -> Result<Isolation, Failure> {
    if let Some(preset) = Preset::named(name) {
        return Ok(Isolation::preset(preset));
    }
    let wrong = |why: String| Failure::Usage(miette!(help = "name a file, or one of docker-default and strict", "no policy: {why}"));
    let text = file::read(Path::new(name), file::POLICY).map_err(|error| wrong(error.to_string()))?;
    let text = String::from_utf8(text).map_err(|_| wrong(format!("{name} is not text")))?;
    Isolation::parse(name, &text).map_err(Failure::Policy)
}

/// Everything between a snapshot and what is told of it.
pub(crate) fn compare(snapshot: &Snapshot, isolation: &Isolation, attacker: Option<Attacker>) -> (Document, Conclusion) {
    let attacker = attacker.or(isolation.attacker.map(of_policy)).unwrap_or(Attacker::Process);
    let model = Model::new(snapshot);
    let reachability = analyse(&model, attacker);
    let now = jiff::Timestamp::now().to_string();
    // The date, in UTC, is the first ten characters.
    let today = now.get(..10).unwrap_or_default();
    let comparison = Comparison { snapshot, model: &model, reachability: &reachability, isolation, today };
    comparison.document()
}

const fn of_policy(attacker: isolation::Attacker) -> Attacker {
    match attacker {
        isolation::Attacker::NetAdmin => Attacker::NetAdmin,
        isolation::Attacker::NetRaw => Attacker::NetRaw,
        isolation::Attacker::Process => Attacker::Process,
    }
}

/// Writes a result in a format.
pub(crate) fn render(document: &Document, format: Format) -> Result<String, Failure> {
    let json = |result: Result<String, serde_json::Error>| result.map_err(|error| Failure::Usage(miette!("cannot write the result: {error}")));
    match format {
        Format::Text => Ok(text::document(document)),
        Format::Json => json(serde_json::to_string_pretty(document)).map(|json| json + "\n"),
        Format::Html => Ok(html::page(document)),
        Format::Sarif => json(sarif::log(document)),
        Format::Junit => Ok(junit::suite(document)),
        Format::Prometheus => Ok(prometheus::metrics(Some(document), true)),
        Format::Svg => Ok(svg::picture(document)),
    }
}
