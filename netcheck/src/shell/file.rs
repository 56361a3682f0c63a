//! Files that are named on the command line. They may be pipes and devices, so what is read of them is limited.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A baseline of a thousand endpoints has a million pairs.
pub(crate) const SNAPSHOT_OR_BASELINE: Limit = Limit { mebibytes: 1024 };
/// A draft for a thousand containers has some.
pub(crate) const POLICY: Limit = Limit { mebibytes: 16 };
/// Certificates and keys; a bundle of every public authority is a fraction of one.
pub(crate) const CERTIFICATES: Limit = Limit { mebibytes: 4 };

/// How much of a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit {
    mebibytes: u64,
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// It is larger than anything of its kind.
    #[error("{} is larger than {} MiB, which is the most that is read of such a file", path.display(), limit.mebibytes)]
    Large {
        /// The file.
        path: PathBuf,
        /// What there was to keep to.
        limit: Limit,
    },
    /// It is not there, or may not be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Reads all of it, or nothing.
pub(crate) fn read(path: &Path, limit: Limit) -> Result<Vec<u8>, FileError> {
    let unreadable = |source| FileError::Unreadable { path: path.to_owned(), source };
    let large = || FileError::Large { path: path.to_owned(), limit };
    let most = limit.mebibytes * 1024 * 1024;
    let file = File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.len() > most {
        return Err(large());
    }
    let mut content = Vec::new();
    let length = file.take(most + 1).read_to_end(&mut content).map_err(unreadable)?;
    if u64::try_from(length).is_ok_and(|length| length <= most) { Ok(content) } else { Err(large()) }
}
