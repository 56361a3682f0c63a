//! From files to a policy: reads, includes, and takes the union.

use std::collections::{BTreeMap, BTreeSet};

use engine::demand::{Amount, Flag, Name, Quantity};
use engine::operation::Family;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::grant::{BindGrant, ContainerPattern, ImagePattern, NetworkPattern, OperationKey, Pattern, PortGrant, Scope, TagPattern, VolumePattern};
use crate::shipped;
use crate::syntax::PolicyFile;

/// What is granted.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    pub(crate) name: String,
    pub(crate) fingerprint: String,
    pub(crate) operations: BTreeMap<Family, BTreeMap<OperationKey, BTreeSet<Scope>>>,
    pub(crate) images: BTreeSet<ImagePattern>,
    pub(crate) tags: BTreeSet<TagPattern>,
    pub(crate) binds: BTreeSet<BindGrant>,
    pub(crate) volumes: BTreeSet<VolumePattern>,
    pub(crate) networks: BTreeSet<NetworkPattern>,
    pub(crate) containers: BTreeSet<ContainerPattern>,
    pub(crate) ports: BTreeSet<PortGrant>,
    pub(crate) allow: BTreeSet<Flag>,
    pub(crate) limits: BTreeMap<Quantity, Amount>,
    pub(crate) names: BTreeMap<Name, BTreeSet<Pattern>>,
    pub(crate) fill: Filling,
}

/// Values to fill in, in the units of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filling {
    pub(crate) memory: Option<u64>,
    pub(crate) pids: Option<u64>,
    pub(crate) cpus: Option<u64>,
    pub(crate) swap: Option<u64>,
    pub(crate) tmpfs: Option<u64>,
    pub(crate) cap_drop: BTreeSet<String>,
    pub(crate) no_new_privileges: bool,
    pub(crate) readonly_rootfs: bool,
    pub(crate) user: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
}

/// A policy that cannot be read. Its text points at the place.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CompileError {
    /// Files that include each other.
    #[error("{0} includes itself: {1}")]
    Circle(String, String),
    /// An included file cannot be had.
    #[error("{file}: cannot include `{include}`: {why}")]
    Include {
        /// The file that includes.
        file: String,
        /// What it includes.
        include: String,
        /// Why not.
        why: String,
    },
    /// There is no shipped policy of that name.
    #[error("{0}")]
    NoSuch(String),
    /// The file is not a policy. The text shows the line.
    #[error("{file}: {text}")]
    Syntax {
        /// The file.
        file: String,
        /// The message, with the lines around the place.
        text: String,
    },
    /// A value is none.
    #[error("{file}: {key}: {why}")]
    Value {
        /// The file.
        file: String,
        /// The key.
        key: String,
        /// What is wrong with its value.
        why: String,
    },
}

/// Gives the name and text of a file, from the name of the one that includes it and from what that calls it; or says why not.
pub type Read<'r> = dyn Fn(&str, &str) -> Result<(String, String), String> + 'r;

/// The files of a policy that are being read.
struct Reading<'r> {
    read: &'r Read<'r>,
    /// Those that include the one that is read now.
    above: Vec<String>,
    /// Those that count already.
    done: BTreeSet<String>,
    hash: Sha256,
}

/// A policy's text, and the name that it is called by.
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) text: String,
}

impl Policy {
    /// A policy that is shipped: `ci`, `read-only`, `hardened`, `netcheck`, `admin`.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn shipped(name: &str) -> Result<Self, CompileError> {
        match shipped::text(name) {
            Some(text) => Self::compile(name, text, &|_, include| Err(format!("a shipped policy includes no file `{include}`"))),
            None => Err(CompileError::NoSuch(shipped::no_such(name))),
        }
    }

    /// Compiles a policy. `read` gives the name and text of an included file that is not a shipped policy.
    ///
    /// # Errors
    /// The policy, or one that it includes, cannot be read.
    pub fn compile(name: &str, text: &str, read: &Read<'_>) -> Result<Self, CompileError> {
        let mut policy = Self { name: name.to_owned(), ..Self::default() };
        let mut reading = Reading { read, above: Vec::new(), done: BTreeSet::new(), hash: Sha256::new() };
        policy.add(&Source { name: name.to_owned(), text: text.to_owned() }, &mut reading)?;
        policy.fingerprint = reading.hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Ok(policy)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The beginning of the SHA-256 of all its texts: two policies with the same one grant the same.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn add(&mut self, source: &Source, reading: &mut Reading<'_>) -> Result<(), CompileError> {
        if reading.above.contains(&source.name) {
            return Err(CompileError::Circle(source.name.clone(), reading.above.join(" → ")));
        }
        if !reading.done.insert(source.name.clone()) {
            // A union with itself: what several files include is read once.
            return Ok(());
        }
        reading.hash.update(source.text.as_bytes());
        let file: PolicyFile = parse(source)?;
        reading.above.push(source.name.clone());
        for include in &file.include {
            let included = match shipped::text(include) {
                Some(text) => Source { name: include.clone(), text: text.to_owned() },
                None => {
                    let error = |why| CompileError::Include { file: source.name.clone(), include: include.clone(), why };
                    let (name, text) = (reading.read)(&source.name, include)
                        .map_err(|why| error(if include.contains(['/', '.']) { why } else { shipped::no_such(include) }))?;
                    Source { name, text }
                }
            };
            self.add(&included, reading)?;
        }
        reading.above.pop();
        self.union(file, &source.name)
    }

    fn union(&mut self, file: PolicyFile, name: &str) -> Result<(), CompileError> {
        let value = |key: String, why: String| CompileError::Value { file: name.to_owned(), key, why };
        for (kind, patterns) in file.names() {
            self.names.entry(kind).or_default().extend(patterns.iter().cloned());
        }
        for (quantity, ceiling) in &file.limits {
            let amount = ceiling.amount(quantity.0).map_err(|why| value(format!("limits.{}", quantity.0.word()), why))?;
            let most = self.limits.entry(quantity.0).or_insert(amount);
            *most = larger(*most, amount);
        }
        self.fill.add(&file, &value)?;
        for (family, operations) in file.operations {
            let granted = self.operations.entry(family.0).or_default();
            for (key, scopes) in operations {
                if let OperationKey::One(id) = key
                    && !engine::operation::OPERATIONS.iter().any(|operation| operation.id == id && operation.family == family.0)
                {
                    return Err(value(format!("operations.{}.{id}", family.0.name()), "belongs to another family".to_owned()));
                }
                granted.entry(key).or_default().extend(scopes.iter().cloned());
            }
        }
        self.images.extend(file.images);
        self.tags.extend(file.tags);
        self.binds.extend(file.binds);
        self.volumes.extend(file.volumes);
        self.networks.extend(file.networks);
        self.containers.extend(file.containers);
        self.ports.extend(file.ports);
        self.allow.extend(file.allow.into_iter().map(|key| key.0));
        Ok(())
    }
}

impl Filling {
    fn add(&mut self, file: &PolicyFile, value: &impl Fn(String, String) -> CompileError) -> Result<(), CompileError> {
        let fill = &file.fill;
        for (key, quantity, ceiling, place) in [
            ("memory", Quantity::Memory, &fill.memory, &mut self.memory),
            ("pids", Quantity::Pids, &fill.pids, &mut self.pids),
            ("cpus", Quantity::Cpus, &fill.cpus, &mut self.cpus),
            ("swap", Quantity::Swap, &fill.swap, &mut self.swap),
            ("tmpfs", Quantity::Tmpfs, &fill.tmpfs, &mut self.tmpfs),
        ] {
            let Some(ceiling) = ceiling else { continue };
            let amount = ceiling.amount(quantity).map_err(|why| value(format!("fill.{key}"), why))?;
            // Of two values the smaller is filled in: both policies that are included meant at most theirs.
            *place = match (*place, amount.0) {
                (Some(old), Some(new)) => Some(old.min(new)),
                (old, new) => old.or(new),
            };
        }
        self.cap_drop.extend(fill.cap_drop.iter().map(|name| name.to_ascii_uppercase().trim_start_matches("CAP_").to_owned()));
        self.no_new_privileges |= fill.no_new_privileges;
        self.readonly_rootfs |= fill.readonly_rootfs;
        self.user = fill.user.clone().or_else(|| self.user.take());
        self.labels.extend(fill.labels.clone());
        Ok(())
    }
}

/// The larger of two ceilings.
fn larger(a: Amount, b: Amount) -> Amount {
    match (a.0, b.0) {
        (Some(a), Some(b)) => Amount(Some(a.max(b))),
        _ => Amount(None),
    }
}

fn parse(source: &Source) -> Result<PolicyFile, CompileError> {
    let syntax = |text: String| CompileError::Syntax { file: source.name.clone(), text };
    if source.text.trim().is_empty() {
        return Err(syntax("the file is empty; a policy that grants nothing is `version: 1`".to_owned()));
    }
    let file: PolicyFile = serde_saphyr::from_str(&source.text).map_err(|error| syntax(error.render()))?;
    if !source
        .text
        .lines()
        .any(|line| line.trim_start().starts_with("version") || line.trim_start().starts_with("\"version\"") || line.contains("version:"))
    {
        return Err(syntax("`version: 1` is missing".to_owned()));
    }
    Ok(file)
}
