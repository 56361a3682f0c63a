//! `netcheck snapshot`.

use miette::miette;

use super::output::Output;
use super::{Failure, Outcome, SnapshotArguments};
use crate::shell::{collect, privilege};

/// Collects and writes.
pub(crate) fn run(arguments: &SnapshotArguments) -> Result<Outcome, Failure> {
    let output = Output::open(arguments.output.as_deref())?;
    let engine = arguments.engine.endpoint()?;
    privilege::keep_only_what_is_needed().map_err(Failure::Collect)?;
    let snapshot = collect::collect(engine.as_ref()).map_err(Failure::Collect)?;
    let json = snapshot.to_json().map_err(|error| Failure::Collect(miette!("{error}")))?;
    output.write(&json)?;
    Ok(Outcome::Conforms)
}
