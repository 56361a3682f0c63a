//! Where a command writes. The file is opened before anything else is done, so that a wrong path costs no time and needs no privilege
//! that was given up meanwhile.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use miette::miette;

use super::Failure;

/// A file, or the standard output.
#[derive(Debug)]
pub(crate) enum Output {
    /// A file, with its name for messages.
    File(File, PathBuf),
    /// The standard output.
    Standard,
}

impl Output {
    /// Creates the file, if one is named.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(Self::Standard) };
        let file = File::create(path).map_err(|error| Failure::Usage(miette!("cannot write {}: {error}", path.display())))?;
        Ok(Self::File(file, path.to_owned()))
    }

    /// Writes all of it. A reader of the standard output that has seen enough is not an error.
    pub(crate) fn write(self, content: &[u8]) -> Result<(), Failure> {
        let (result, name) = match self {
            Self::File(mut file, path) => (file.write_all(content), path.display().to_string()),
            Self::Standard => (io::stdout().lock().write_all(content), "standard output".to_owned()),
        };
        match result {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Usage(miette!("cannot write {name}: {error}"))),
            _ => Ok(()),
        }
    }
}
