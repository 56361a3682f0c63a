//! What the engine knows about the objects that a request names, as far as a decision needs it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::demand::Bind;

/// A kind of engine object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectKind {
    /// A container.
    Container,
    /// A process in a container.
    Exec,
    /// An image.
    Image,
    /// A network.
    Network,
    /// A volume.
    Volume,
}

impl ObjectKind {
    /// As messages name it; Docker's own words, which clients look for (`No such container: x`).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Exec => "exec instance",
            Self::Image => "image",
            Self::Network => "network",
            Self::Volume => "volume",
        }
    }
}

/// Whose an object is, seen from the tenant that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// It carries no owner label.
    Nobody,
    /// It carries another tenant's.
    Other,
    /// It carries the asking tenant's.
    Own,
}

/// An engine object, as the engine described it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// What it is.
    pub kind: ObjectKind,
    /// Its full id; for a volume its name.
    pub id: String,
    /// Its name, as people see it.
    pub name: String,
    /// How the request named it. Only this is told to a client that must not know of it.
    pub asked: String,
    /// Whose it is.
    pub owner: Owner,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// An image's tags and digests, as the engine lists them.
    pub references: Vec<String>,
    /// What an image brings to containers and builds that begin with it.
    pub brings: Brings,
    /// The host paths that a container mounts.
    pub binds: Vec<Bind>,
    /// Where a container has something mounted.
    pub mounted: BTreeSet<String>,
    /// What an exec runs as.
    pub process: Process,
}

/// What an exec was made to run as (`ProcessConfig` in `GET /exec/{id}/json`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Process {
    /// With all capabilities.
    pub privileged: bool,
    /// Its user; empty: the container's.
    pub user: String,
}

/// What an image brings to what begins with it, besides its files and what a request can say anew (`Config` in `GET /images/{name}/json`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Brings {
    /// Its health check, where a container has none of its own (`Healthcheck.Test`).
    pub health: Vec<String>,
    /// Its `ONBUILD` instructions, which run in builds.
    pub triggers: Vec<String>,
    /// The ports that it says its containers listen on.
    pub ports: Vec<String>,
    /// Where its containers get volumes.
    pub volumes: Vec<String>,
    /// Where its processes start, unless another place is asked for; empty: `/`.
    pub working_dir: String,
}

impl ObjectKind {
    /// What [`KIND_LABEL`](crate::KIND_LABEL) says on objects that can inherit labels; `None`: they cannot.
    #[must_use]
    pub const fn label(self) -> Option<&'static str> {
        match self {
            Self::Container | Self::Exec => Some("container"),
            Self::Image => Some("image"),
            Self::Network | Self::Volume => None,
        }
    }

    /// Whose an object with these labels is.
    #[must_use]
    pub fn owner(self, labels: &BTreeMap<String, String>, tenant: &str) -> Owner {
        let inherited = self.label().is_some_and(|kind| labels.get(crate::KIND_LABEL).map(String::as_str) != Some(kind));
        match labels.get(crate::OWNER_LABEL).map(String::as_str) {
            // Empty is how an image that is built on somebody's is given back to nobody.
            None | Some("") => Owner::Nobody,
            Some(owner) if owner == tenant && !inherited => Owner::Own,
            Some(_) => Owner::Other,
        }
    }
}

impl Object {
    /// One of which nothing is known but its name.
    #[must_use]
    pub fn named(kind: ObjectKind, name: &str, owner: Owner) -> Self {
        Self {
            kind,
            id: name.to_owned(),
            name: name.to_owned(),
            asked: name.to_owned(),
            owner,
            labels: BTreeMap::new(),
            references: Vec::new(),
            brings: Brings::default(),
            binds: Vec::new(),
            mounted: BTreeSet::new(),
            process: Process::default(),
        }
    }

    /// Whether it is a network that every engine has: `bridge`, `host`, `none`.
    #[must_use]
    pub fn is_predefined_network(&self) -> bool {
        self.kind == ObjectKind::Network && PREDEFINED_NETWORKS.contains(&self.name.as_str())
    }
}

/// The networks that every engine has (moby api/types/container/hostconfig_unix.go; `default` is `bridge`).
pub const PREDEFINED_NETWORKS: [&str; 3] = ["bridge", "host", "none"];

/// An object as a request names it: a name, an id, the beginning of an id, an image reference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// What it is.
    pub kind: ObjectKind,
    /// As it was written.
    pub name: String,
}

/// What the engine said to each reference of a request.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    found: BTreeMap<Reference, Option<Rc<Object>>>,
    plain_paths: BTreeSet<String>,
    unseen_paths: BTreeSet<String>,
    writable_below: BTreeSet<String>,
    unseen_volumes: BTreeSet<String>,
}

impl Facts {
    /// Records an answer; `None`: there is no such object.
    pub fn insert(&mut self, reference: Reference, object: Option<Rc<Object>>) {
        self.found.insert(reference, object);
    }

    /// The object that a reference means; `None` when there is none, or when nobody asked.
    #[must_use]
    pub fn object(&self, kind: ObjectKind, name: &str) -> Option<&Rc<Object>> {
        self.found.get(&Reference { kind, name: name.to_owned() }).and_then(Option::as_ref)
    }

    /// Records that no part of a host path is a symbolic link.
    pub fn insert_plain_path(&mut self, path: String) {
        self.plain_paths.insert(path);
    }

    /// Whether a host path is known to go through no symbolic link.
    #[must_use]
    pub fn is_plain(&self, path: &str) -> bool {
        self.plain_paths.contains(path)
    }

    /// Records that a host path does not answer.
    pub fn insert_unseen_path(&mut self, path: String) {
        self.unseen_paths.insert(path);
    }

    /// Whether a host path was looked at, and did not answer.
    #[must_use]
    pub fn is_unseen(&self, path: &str) -> bool {
        self.unseen_paths.contains(path)
    }

    /// Records that something is mounted below a host path, which a read-only mount of it leaves writable.
    pub fn insert_writable_below(&mut self, path: String) {
        self.writable_below.insert(path);
    }

    /// Whether a read-only mount of a host path lets something below it be written.
    #[must_use]
    pub fn is_writable_below(&self, path: &str) -> bool {
        self.writable_below.contains(path)
    }

    /// Records that a volume is not there yet, or was never in any container: no process can have anything of it open.
    pub fn insert_unseen_volume(&mut self, name: String) {
        self.unseen_volumes.insert(name);
    }

    /// Whether no process has ever seen a volume.
    #[must_use]
    pub fn is_unseen_volume(&self, volume: &str) -> bool {
        self.unseen_volumes.contains(volume)
    }

    /// Whether the engine was asked about it.
    #[must_use]
    pub fn knows(&self, reference: &Reference) -> bool {
        self.found.contains_key(reference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KIND_LABEL, OWNER_LABEL};

    #[test]
    fn an_owner_counts_on_what_it_was_set_on() {
        for (owner, kind, expected) in [
            (None, None, Owner::Nobody),
            (Some("me"), Some("image"), Owner::Own),
            (Some("me"), Some("container"), Owner::Other),
            (Some("me"), None, Owner::Other),
            (Some("you"), Some("image"), Owner::Other),
            (Some(""), Some("image"), Owner::Nobody),
        ] {
            let labels = [(OWNER_LABEL, owner), (KIND_LABEL, kind)].into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())));
            assert_eq!(ObjectKind::Image.owner(&labels.collect(), "me"), expected, "{owner:?} {kind:?}");
        }
    }
}
