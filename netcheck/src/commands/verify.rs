//! `netcheck verify`.

use miette::miette;
use netcheck::analyse::{Sample, samples};
use netcheck::model::Model;
use netcheck::report::text;
use netcheck::snapshot::Snapshot;
use netcheck::twin::{Disagreement, Twin, Verification, verify};
use serde::Serialize;

use super::output::Output;
use super::{ExplainFormat, Failure, Outcome, VerifyArguments, source};

/// The name and version of the format.
const SCHEMA: &str = "netcheck/verify/1";

/// The result, as it is written in JSON. `schema/verify.json` describes it.
#[derive(Debug, Serialize)]
struct Document<'a> {
    schema: &'static str,
    host: &'a str,
    /// When the snapshot was taken.
    taken: &'a str,
    attacker: &'static str,
    /// This machine's, on which the twin ran.
    kernel: String,
    /// Packets that the analysis tells apart; how many of them are sent is limited.
    packets: usize,
    /// What of the snapshot the twin lacks.
    left_out: Vec<Lack>,
    #[serde(flatten)]
    verification: &'a Verification,
}

#[derive(Debug, Serialize)]
struct Lack {
    at: String,
    what: String,
    decides: bool,
}

/// Builds, sends and compares.
pub(crate) fn run(arguments: &VerifyArguments) -> Result<Outcome, Failure> {
    let output = Output::open(arguments.output.as_deref())?;
    let other = arguments.against.as_deref().map(source::file).transpose()?;
    let snapshot = source::snapshot_for_twin(&arguments.source)?;
    let model = Model::new(&snapshot);
    let failed = |error: netcheck::twin::TwinError| Failure::Collect(miette!("{error}"));
    let mut twin = Twin::build(other.as_ref().unwrap_or(&snapshot)).map_err(failed)?;
    let all = samples(&model, arguments.attacker.into());
    let verification = verify(&mut twin, &model, &some(&all, arguments.packets)).map_err(failed)?;
    let document = document(arguments, &snapshot, &model, (&twin, all.len()), &verification);
    let content = match arguments.format {
        ExplainFormat::Json => {
            serde_json::to_string_pretty(&document).map_err(|error| Failure::Usage(miette!("cannot write the result: {error}")))?
        }
        ExplainFormat::Text => told(&document),
    };
    output.write(format!("{}\n", content.trim_end()).as_bytes())?;
    if !verification.disagreements.is_empty() {
        return Ok(Outcome::Disagreement);
    }
    if verification.compared == 0 {
        return Err(Failure::Collect(miette!("no packet could be compared: nothing is verified")));
    }
    Ok(Outcome::Conforms)
}

/// At most so many, evenly chosen.
fn some(all: &[Sample], most: usize) -> Vec<Sample> {
    all.iter().copied().step_by(all.len().div_ceil(most.max(1)).max(1)).collect()
}

fn document<'a>(
    arguments: &VerifyArguments,
    snapshot: &'a Snapshot,
    model: &Model,
    (twin, packets): (&Twin, usize),
    verification: &'a Verification,
) -> Document<'a> {
    let lack =
        |left: &netcheck::twin::LeftOut| Lack { at: model.namespace(left.namespace).label.clone(), what: left.what.clone(), decides: left.decides };
    let attacker: netcheck::analyse::Attacker = arguments.attacker.into();
    Document {
        schema: SCHEMA,
        host: &snapshot.host,
        taken: &snapshot.taken,
        attacker: attacker.name(),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        packets,
        left_out: twin.left_out().iter().map(lack).collect(),
        verification,
    }
}

/// For a terminal.
fn told(document: &Document<'_>) -> String {
    const MOST: usize = 20;
    let Verification { compared, arrived, unknown, skipped, disagreements } = document.verification;
    let skips: usize = skipped.values().sum();
    let sent = compared + skips + unknown;
    let mut out = String::new();
    let wrong = disagreements.len();
    let told = format!("{sent} of {} packets; {compared} sent into a twin on {}", document.packets, document.kernel);
    let (host, attacker) = (document.host, document.attacker);
    text::line(&mut out, &format!("{host} as {attacker}: {told}, {arrived} arrived where they must, {wrong} did not go as computed"));
    if *unknown > 0 {
        text::line(&mut out, &format!("unknown  {unknown} packets: the model does not say where they go"));
    }
    for (reason, count) in skipped {
        text::line(&mut out, &format!("skipped  {count} packets: {reason}"));
    }
    for lack in document.left_out.iter().take(MOST) {
        let decides = if lack.decides { "packets that pass there are skipped" } else { "decides nothing" };
        text::line(&mut out, &format!("left out {} in {}: {decides}", lack.what, lack.at));
    }
    for one in disagreements.iter().take(MOST) {
        disagreement(&mut out, one);
    }
    for (what, all) in [("left out", document.left_out.len()), ("disagreements", wrong)] {
        if all > MOST {
            text::line(&mut out, &format!("… and {} more {what}; --format json has them all", all - MOST));
        }
    }
    out
}

fn disagreement(out: &mut String, one: &Disagreement) {
    let observed = if one.observed.is_empty() { "it arrived nowhere".to_owned() } else { one.observed.join(" and ") };
    text::line(out, "");
    text::line(out, &format!("DISAGREEMENT {} sent by {}", one.packet, one.from));
    text::line(out, &format!("  computed {}", one.expected.join(", or ")));
    text::line(out, &format!("  kernel   {observed}"));
    for hop in &one.trace {
        text::line(out, &format!("    {} {}: {}", hop.at, hop.kind, hop.text));
    }
}
