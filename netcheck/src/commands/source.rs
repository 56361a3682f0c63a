//! Where a command gets its snapshot from: this host, or a file.

use std::path::Path;

use miette::miette;
use netcheck::snapshot::Snapshot;

use super::{Failure, SourceArguments};
use crate::shell::{collect, privilege};

/// Reads the file that is named, or this host.
pub(crate) fn snapshot(arguments: &SourceArguments) -> Result<Snapshot, Failure> {
    let Some(path) = &arguments.from else {
        privilege::keep_only_what_is_needed().map_err(Failure::Collect)?;
        return collect::collect(&arguments.engine.address()?).map_err(Failure::Collect);
    };
    file(path)
}

/// Reads a snapshot file.
pub(crate) fn file(path: &Path) -> Result<Snapshot, Failure> {
    let json = std::fs::read(path).map_err(|error| Failure::Usage(miette!("cannot read {}: {error}", path.display())))?;
    Snapshot::from_json(&json).map_err(|error| Failure::Usage(miette!("{}: {error}", path.display())))
}
