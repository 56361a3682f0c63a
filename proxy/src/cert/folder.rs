//! The authority's folder: private files 0600, every file whole or not there, one process at a time.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::CertError;

/// Who may read a file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Secrecy {
    /// Its owner: 0600.
    Private,
    /// Everyone who may enter the folder: 0644.
    Public,
}

/// An open, locked folder.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Holds the lock (flock(2)) until it is closed.
    _lock: File,
}

impl Folder {
    /// Opens the folder; makes it first (0700) when it is not there.
    pub(super) fn create(path: &Path) -> Result<Self, CertError> {
        make(path)?;
        Self::open(path)
    }

    pub(super) fn open(path: &Path) -> Result<Self, CertError> {
        let lock = File::open(path).map_err(|source| failed("open", path, source))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(|errno| failed("lock", path, errno.into()))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn create_below(&self, below: &Path) -> Result<(), CertError> {
        make(&self.path.join(below))
    }

    pub(super) fn read(&self, below: &str) -> Result<String, CertError> {
        let path = self.path.join(below);
        fs::read_to_string(&path).map_err(|source| failed("read", &path, source))
    }

    /// Writes a file that must not be there yet.
    pub(super) fn create_new(&self, below: &str, text: &str, secrecy: Secrecy) -> Result<(), CertError> {
        let path = self.path.join(below);
        write_new(&path, text, secrecy).map_err(|source| {
            if source.kind() == io::ErrorKind::AlreadyExists { CertError::AuthorityExists(path.clone()) } else { failed("write", &path, source) }
        })
    }

    /// Writes a file in place of a former one: a reader sees the old text or the new one, never half of it.
    pub(super) fn replace(&self, below: &Path, text: &str, secrecy: Secrecy) -> Result<(), CertError> {
        let path = self.path.join(below);
        let mut fresh = path.clone().into_os_string();
        fresh.push(format!(".{}.new", std::process::id()));
        let fresh = PathBuf::from(fresh);
        let write = || {
            write_new(&fresh, text, secrecy)?;
            fs::rename(&fresh, &path)
        };
        write().map_err(|source| {
            // Best effort: what matters is the error itself.
            let _ = fs::remove_file(&fresh);
            failed("write", &path, source)
        })
    }
}

fn make(path: &Path) -> Result<(), CertError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path).map_err(|source| failed("make", path, source))
}

fn write_new(path: &Path, text: &str, secrecy: Secrecy) -> io::Result<()> {
    let mode = match secrecy {
        Secrecy::Private => 0o600,
        Secrecy::Public => 0o644,
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn failed(what: &'static str, path: &Path, source: io::Error) -> CertError {
    CertError::Io { what, path: path.to_owned(), source }
}

/// The first DNS name or address that a certificate is for.
pub(super) fn first_host(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| IpAddr::from(b).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|b| format!("[{}]", IpAddr::from(b))),
            _ => None,
        },
        GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::Invalid(..)
        | GeneralName::OtherName(..)
        | GeneralName::RFC822Name(_)
        | GeneralName::RegisteredID(_)
        | GeneralName::URI(_)
        | GeneralName::X400Address(_) => None,
    })
}
