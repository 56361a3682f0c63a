//! Where a command gets its snapshot from: this host, or a file.

use std::path::Path;

use miette::miette;
use netcheck::snapshot::Snapshot;

use super::{Failure, SourceArguments};
use crate::shell::{collect, file, privilege};

/// Reads the file that is named, or this host.
pub(crate) fn snapshot(arguments: &SourceArguments) -> Result<Snapshot, Failure> {
    if let Some(path) = &arguments.from {
        return file(path);
    }
    reading(arguments, privilege::keep_only_what_is_needed)
}

/// The same for one that builds a twin afterwards.
pub(crate) fn snapshot_for_twin(arguments: &SourceArguments) -> Result<Snapshot, Failure> {
    if let Some(path) = &arguments.from {
        let snapshot = file(path)?;
        privilege::keep_only_what_a_twin_needs().map_err(Failure::Collect)?;
        return Ok(snapshot);
    }
    reading(arguments, privilege::keep_only_what_a_twin_needs)
}

fn reading(arguments: &SourceArguments, give_up: fn() -> miette::Result<()>) -> Result<Snapshot, Failure> {
    let engine = arguments.engine.endpoint()?;
    give_up().map_err(Failure::Collect)?;
    collect::collect(engine.as_ref()).map_err(Failure::Collect)
}

/// Reads a file that is named on the command line.
pub(crate) fn named(path: &Path, limit: file::Limit) -> Result<Vec<u8>, Failure> {
    file::read(path, limit).map_err(|error| Failure::Usage(miette!("{error}")))
}

/// Reads a snapshot file.
pub(crate) fn file(path: &Path) -> Result<Snapshot, Failure> {
    let json = named(path, file::SNAPSHOT_OR_BASELINE)?;
    Snapshot::from_json(&json).map_err(|error| Failure::Usage(miette!("{}: {error}", path.display())))
}
