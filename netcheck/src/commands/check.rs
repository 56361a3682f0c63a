//! `netcheck check`.

use miette::miette;
use netcheck::analyse::{Attacker, analyse};
use netcheck::model::Model;
use netcheck::report::{Document, text};

use super::output::Output;
use super::{CheckArguments, Failure, Format, Outcome, source};

/// Collects or reads, analyses, compares, writes.
pub(crate) fn run(arguments: &CheckArguments) -> Result<Outcome, Failure> {
    let output = Output::open(arguments.output.as_deref())?;
    let snapshot = source::snapshot(&arguments.source)?;
    let model = Model::new(&snapshot);
    let attacker = arguments.attacker.map_or(Attacker::Process, Attacker::from);
    let reachability = analyse(&model, attacker);
    let document = Document::new(&snapshot, &model, &reachability);
    output.write(render(&document, arguments.format)?.as_bytes())?;
    Ok(Outcome::Conforms)
}

fn render(document: &Document, format: Format) -> Result<String, Failure> {
    match format {
        Format::Text => Ok(text::document(document)),
        Format::Json => {
            let json = serde_json::to_string_pretty(document)
                .map_err(|error| Failure::Usage(miette!("cannot write the result: {error}")))?;
            Ok(format!("{json}\n"))
        }
        _ => Err(Failure::Usage(miette!("not there yet"))),
    }
}
