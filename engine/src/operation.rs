//! Every operation that an engine routes, API 1.24 to 1.55: the documented ones (api/swagger.yaml) and those that moby's routers serve
//! without documenting them (daemon/server/router/*/*_routes.go, debug, checkpoint, session, grpc).
//!
//! One declaration an operation: method, path, versions, family, effect, query, body. Router, encoder, decision matrix and reference follow.

mod table;

use std::fmt;

use crate::query::Param;
use crate::version::Version;

pub use table::{OPERATIONS, OperationId};

/// One operation of the Engine API: a method and a path template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// Its name: swagger's operation id where it has one.
    pub id: OperationId,
    /// `GET`, `HEAD`, `POST`, `PUT`, `DELETE`.
    pub method: &'static str,
    /// The template, without version: `/containers/{id}/json`.
    pub path: &'static str,
    /// First version that has it.
    pub since: Version,
    /// Last version that has it.
    pub until: Version,
    /// What it is about.
    pub family: Family,
    /// What it does.
    pub effect: Effect,
    /// The keys of its query.
    pub query: &'static [Param],
    /// What its body is.
    pub body: BodyKind,
    /// What its answer is.
    pub answer: Answer,
}

/// What an operation is about. Policies grant by family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Containers, and execs in them.
    Container,
    /// Images, and building them.
    Image,
    /// Networks.
    Network,
    /// Plugins.
    Plugin,
    /// Swarm: nodes, services, tasks, secrets, configs.
    Swarm,
    /// The engine itself.
    System,
    /// Volumes.
    Volume,
}

impl Family {
    /// All of them, in the order in which policies and tables list them.
    pub const ALL: [Self; 7] = [Self::System, Self::Container, Self::Image, Self::Network, Self::Volume, Self::Plugin, Self::Swarm];

    /// As policies write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Network => "network",
            Self::Plugin => "plugin",
            Self::Swarm => "swarm",
            Self::System => "system",
            Self::Volume => "volume",
        }
    }
}

/// What an operation does to the engine. Policies grant by effect, or by the operation's own name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Changes the engine, or hands it to somebody: swarm, plugins, debugging.
    Administer,
    /// Makes an object: create, build, pull.
    Create,
    /// Changes an object: start, stop, update, connect.
    Control,
    /// Removes an object.
    Delete,
    /// Reaches into a container: exec, attach.
    Enter,
    /// Looks.
    Read,
    /// Takes content out or puts it in: archive, export, save, load, push, commit, tag.
    Transfer,
}

impl Effect {
    /// All of them, from the harmless to the rest.
    pub const ALL: [Self; 7] = [Self::Read, Self::Create, Self::Control, Self::Enter, Self::Transfer, Self::Delete, Self::Administer];

    /// As policies write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Administer => "administer",
            Self::Create => "create",
            Self::Control => "control",
            Self::Delete => "delete",
            Self::Enter => "enter",
            Self::Read => "read",
            Self::Transfer => "transfer",
        }
    }
}

/// What an operation's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// A JSON document that is decoded completely.
    Json,
    /// There is none.
    None,
    /// An archive that is streamed.
    Tar,
    /// Not decoded yet: the operation is refused, whatever the policy.
    Untyped,
}

/// What an operation's answer is, as far as forwarding it needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// An answer that ends by itself, soon.
    Plain,
    /// An answer that may take as long as it likes, or never end.
    Stream,
    /// A connection: 101, then bytes both ways.
    Tunnel,
}

impl Operation {
    /// Whether its body is decoded, so that a policy can permit it.
    #[must_use]
    pub fn is_typed(&self) -> bool {
        self.body != BodyKind::Untyped
    }

    /// Finds the operation for a method and raw path segments. Gives the segments of the path that name an object, still encoded.
    pub(crate) fn find<'s, 'a>(method: &str, segments: &'s [&'a str]) -> Option<(&'static Self, &'s [&'a str])> {
        let mut candidates = OPERATIONS.iter().filter(|operation| operation.method == method);
        candidates.find_map(|operation| operation.matches(segments).map(|object| (operation, object)))
    }

    /// The segments that name the object, none of them where the template names none; or `None` when it does not fit.
    fn matches<'s, 'a>(&self, segments: &'s [&'a str]) -> Option<&'s [&'a str]> {
        let mut template = self.path.split('/').skip(1);
        let mut rest = segments;
        while let Some(part) = template.next() {
            if part.starts_with('{') {
                let (name, tail) = rest.split_at_checked(rest.len().checked_sub(template.clone().count())?)?;
                // `{name...}` spans segments, as image names do; any other name is one segment.
                let fits = if part.ends_with("...}") { !name.is_empty() } else { name.len() == 1 };
                let ends = tail.iter().zip(template).all(|(segment, part)| *segment == part || part.starts_with('{'));
                return (fits && ends).then_some(name);
            }
            let (first, others) = rest.split_first()?;
            if *first != part {
                return None;
            }
            rest = others;
        }
        rest.is_empty().then_some(rest)
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
