//! Who is who: identities to entries of the configuration, with their policies, which can be read anew while we serve.

use std::cell::RefCell;
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
}

/// A client that the configuration knows.
#[derive(Debug, Clone)]
pub struct Known {
    /// The entry's name; empty when everyone is one client.
    pub name: String,
    /// What it may have.
    pub policy: Rc<Policy>,
    /// The owner of what it makes.
    pub tenant: String,
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
        Ok(Self { entries, policies })
    }

    /// Reads the policies again. Requests under way keep the ones that they were judged by.
    ///
    /// # Errors
    /// One of them cannot be used; then all of the former ones stay in use.
    pub fn reload(&self) -> Result<(), LoadError> {
        *self.policies.borrow_mut() = load_all(&self.entries)?;
        Ok(())
    }

    /// The one client that an identity is.
    ///
    /// # Errors
    /// It is none, or more than one.
    pub fn know(&self, identity: &Identity) -> Result<Rc<Known>, MatchError> {
        let client = match_client(&self.entries, identity)?;
        let policies = self.policies.borrow();
        let policy = self.entries.iter().zip(policies.iter()).find(|(entry, _)| std::ptr::eq(*entry, client)).map(|(_, policy)| Rc::clone(policy));
        let tenant = client.tenant.clone().unwrap_or_else(|| identity.tenant());
        Ok(Rc::new(Known {
            name: client.name.as_ref().map(|name| name.as_str().to_owned()).unwrap_or_default(),
            // A policy that grants nothing stands for one that is not there.
            policy: policy.unwrap_or_default(),
            tenant: tenant.as_str().to_owned(),
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
    let base = path.parent().unwrap_or(Path::new(""));
    Ok(Policy::compile(&file, &text, &|include| {
        let included = base.join(include);
        std::fs::read_to_string(&included).map(|text| (included.display().to_string(), text)).map_err(|error| error.to_string())
    })?)
}
