//! Who is who: identities to entries of the configuration, with their policies, which can be read anew while we serve.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;

use policies::{CompileError, Policy};
use thiserror::Error;

use crate::config::{Client, PolicyRef};
use crate::identity::{Identity, MatchError, match_client};

/// The clients of a configuration.
#[derive(Debug)]
pub struct Clients {
    entries: Vec<Client>,
    policies: RefCell<Vec<Rc<Policy>>>,
    /// Counts how often the policies were read.
    generation: Cell<u64>,
}

/// A client that the configuration knows.
#[derive(Debug, Clone)]
pub struct Known {
    /// The entry's name; empty when everyone is one client.
    pub name: Rc<str>,
    /// What it may have.
    pub policy: Rc<Policy>,
    /// The policy's name and fingerprint, for the record.
    pub policy_shown: Rc<str>,
    /// The owner of what it makes.
    pub tenant: Rc<str>,
    /// Of the policies: see [`Clients::is_current`].
    generation: u64,
}

/// A policy that cannot be had.
#[derive(Debug, Error)]
pub enum LoadError {
    /// It is not a policy.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// Its file cannot be read.
    #[error("cannot read policy `{file}`: {source}")]
    Read {
        /// The file.
        file: String,
        /// Why not.
        source: std::io::Error,
    },
}

impl Clients {
    /// Reads the policies of all clients.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub fn load(entries: Vec<Client>) -> Result<Self, LoadError> {
        let policies = RefCell::new(load_all(&entries)?);
        Ok(Self { entries, policies, generation: Cell::new(0) })
    }

    /// Reads the policies again. Requests under way keep the ones that they were judged by.
    ///
    /// # Errors
    /// One of them cannot be used; then all of the former ones stay in use.
    pub fn reload(&self) -> Result<(), LoadError> {
        *self.policies.borrow_mut() = load_all(&self.entries)?;
        self.generation.set(self.generation.get() + 1);
        Ok(())
    }

    /// Whether the policies are still those that a client was known by.
    #[must_use]
    pub fn is_current(&self, known: &Known) -> bool {
        known.generation == self.generation.get()
    }

    /// The one client that an identity is.
    ///
    /// # Errors
    /// It is none, or more than one.
    pub fn know(&self, identity: &Identity) -> Result<Rc<Known>, MatchError> {
        let client = match_client(&self.entries, identity)?;
        let policies = self.policies.borrow();
        let policy = self.entries.iter().zip(policies.iter()).find(|(entry, _)| std::ptr::eq(*entry, client)).map(|(_, policy)| Rc::clone(policy));
        // A policy that grants nothing stands for one that is not there.
        let policy = policy.unwrap_or_default();
        let tenant = client.tenant.clone().unwrap_or_else(|| identity.tenant());
        Ok(Rc::new(Known {
            name: client.name.as_ref().map_or("", |name| name.as_str()).into(),
            policy_shown: format!("{}@{}", policy.name(), policy.fingerprint()).into(),
            policy,
            tenant: tenant.as_str().into(),
            generation: self.generation.get(),
        }))
    }
}

fn load_all(entries: &[Client]) -> Result<Vec<Rc<Policy>>, LoadError> {
    entries.iter().map(|client| load(&client.policy).map(Rc::new)).collect()
}

/// Reads a policy by name or file.
///
/// # Errors
/// It cannot be used.
pub fn load(reference: &PolicyRef) -> Result<Policy, LoadError> {
    let path = match reference {
        PolicyRef::Shipped(name) => return Ok(Policy::shipped(name)?),
        PolicyRef::File(path) => path,
    };
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| LoadError::Read { file: file.clone(), source })?;
    Ok(Policy::compile(&file, &text, &|from, include| {
        let included = Path::new(from).parent().unwrap_or(Path::new("")).join(include);
        // One name for one file: then nothing is included without end.
        let read = included.canonicalize().and_then(|file| Ok((file.display().to_string(), std::fs::read_to_string(&file)?)));
        read.map_err(|error| error.to_string())
    })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_includes_is_beside_it() {
        let folder = std::env::temp_dir().join(format!("seawall-includes-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("teams")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), format!("version: 1\n{text}\n")).unwrap();
        write("base.yaml", "ports: [8080]");
        write("teams/web.yaml", "include: [./more.yaml, ../base.yaml]");
        write("teams/more.yaml", "include: [../base.yaml]");
        write("policy.yaml", "include: [./teams/web.yaml]");
        let policy = load(&PolicyRef::File(folder.join("policy.yaml")));
        // By ever longer names for the same files.
        write("base.yaml", "include: [./teams/../teams/web.yaml]");
        let circle = load(&PolicyRef::File(folder.join("policy.yaml")));
        std::fs::remove_dir_all(&folder).unwrap();
        policy.unwrap();
        assert!(circle.unwrap_err().to_string().contains("includes itself"));
    }
}
