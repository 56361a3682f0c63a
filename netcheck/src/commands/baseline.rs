//! `netcheck baseline save` and `netcheck baseline diff`.

use miette::miette;
use netcheck::analyse::{Attacker, analyse};
use netcheck::drift::Baseline;
use netcheck::model::Model;
use netcheck::report::{Document, text};
use netcheck::snapshot::Snapshot;

use super::output::Output;
use super::{BaselineCommand, Failure, Outcome, source};
use crate::shell::file::SNAPSHOT_OR_BASELINE;

/// Saves what can pass, or tells what changed since it was saved.
pub(crate) fn run(command: &BaselineCommand) -> Result<Outcome, Failure> {
    match command {
        BaselineCommand::Save { source, attacker, output } => {
            let output = Output::open(output.as_deref())?;
            let baseline = of(&source::snapshot(source)?, (*attacker).into());
            let json = serde_json::to_string_pretty(&baseline).map_err(|error| Failure::Usage(miette!("cannot write the baseline: {error}")))?;
            output.write((json + "\n").as_bytes())?;
            Ok(Outcome::Conforms)
        }
        BaselineCommand::Diff { baseline: path, source } => {
            let wrong = |error: &dyn std::fmt::Display| Failure::Usage(miette!("{}: {error}", path.display()));
            let json = source::named(path, SNAPSHOT_OR_BASELINE)?;
            let before = Baseline::from_json(&json).map_err(|error| wrong(&error))?;
            let attacker = Attacker::named(&before.attacker).ok_or_else(|| wrong(&format!("`{}` is no attacker", before.attacker)))?;
            let drift = before.drift(&of(&source::snapshot(source)?, attacker));
            Output::Standard.write(text::drift(&drift).as_bytes())?;
            Ok(if drift.opened.is_empty() { Outcome::Conforms } else { Outcome::Violation })
        }
    }
}

fn of(snapshot: &Snapshot, attacker: Attacker) -> Baseline {
    let model = Model::new(snapshot);
    Baseline::of(&Document::new(snapshot, &model, &analyse(&model, attacker)))
}
