//! Where a command gets its snapshot from: this host, or a file.

use std::path::Path;

use miette::miette;
use netcheck::snapshot::Snapshot;

use super::{Failure, SourceArguments};
use crate::shell::{collect, privilege};

/// Reads the file that is named, or this host.
pub(crate) fn snapshot(arguments: &SourceArguments) -> Result<Snapshot, Failure> {
    if arguments.from.is_none() {
        privilege::keep_only_what_is_needed().map_err(Failure::Collect)?;
    }
    with_these_privileges(arguments)
}

/// The same, with the privileges that this process has.
pub(crate) fn with_these_privileges(arguments: &SourceArguments) -> Result<Snapshot, Failure> {
    match &arguments.from {
        Some(path) => file(path),
        None => collect::collect(&arguments.engine.address()?).map_err(Failure::Collect),
    }
}

/// Reads a snapshot file.
pub(crate) fn file(path: &Path) -> Result<Snapshot, Failure> {
    let json = std::fs::read(path).map_err(|error| Failure::Usage(miette!("cannot read {}: {error}", path.display())))?;
    Snapshot::from_json(&json).map_err(|error| Failure::Usage(miette!("{}: {error}", path.display())))
}
