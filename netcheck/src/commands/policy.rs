//! `netcheck policy init` and `netcheck policy check`.

use netcheck::analyse::{Attacker, analyse};
use netcheck::compare::{Comparison, draft, parties};
use netcheck::model::Model;
use netcheck::report::text;
use policies::isolation::{Isolation, Preset};

use super::output::Output;
use super::{Failure, Outcome, PolicyCommand, check, source};

/// Writes a policy that allows what is there, or reads one.
pub(crate) fn run(command: &PolicyCommand) -> Result<Outcome, Failure> {
    match command {
        PolicyCommand::Init { source, output } => {
            let output = Output::open(output.as_deref())?;
            let snapshot = source::snapshot(source)?;
            let model = Model::new(&snapshot);
            let reachability = analyse(&model, Attacker::Process);
            let isolation = Isolation::preset(Preset::Strict);
            let comparison = Comparison { snapshot: &snapshot, model: &model, reachability: &reachability, isolation: &isolation, today: "" };
            output.write(draft(&comparison).as_bytes())?;
            Ok(Outcome::Conforms)
        }
        PolicyCommand::Check { file, from } => {
            let isolation = check::policy(file)?;
            let mut out = String::new();
            text::line(&mut out, &format!("{file}: a policy with preset {}", isolation.preset.name()));
            let mut outcome = Outcome::Conforms;
            if let Some(from) = from {
                let snapshot = source::file(from)?;
                let parties = parties(&snapshot, &Model::new(&snapshot));
                let requirements = isolation.requirements().iter().map(|rule| (rule, Outcome::Violation));
                for (rule, found) in isolation.permissions().map(|rule| (rule, Outcome::Conforms)).chain(requirements) {
                    if let Some(nobody) = rule.nobody(&parties) {
                        text::line(&mut out, &format!("{file}:{}: {nobody} on this host", rule.line));
                        outcome = found;
                    }
                }
            }
            Output::Standard.write(out.as_bytes())?;
            Ok(outcome)
        }
    }
}
