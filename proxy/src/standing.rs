//! Whether a container's processes run, what becomes of it, and what others that run share with it: through what they share, they reach its files.

use std::collections::{BTreeMap, BTreeSet};

use engine::OWNER_LABEL;
use http::StatusCode;
use serde::Deserialize;

use crate::dial::EngineError;
use crate::resolve::{Resolver, parse};

/// A container as far as it matters to who walks its files, or waits for it.
#[derive(Debug)]
pub struct Standing {
    /// Its full id.
    pub id: String,
    /// Its processes are there, frozen or not.
    pub running: bool,
    /// They are frozen.
    pub paused: bool,
    /// The engine is to remove it when it has ended (`docker run --rm`).
    pub removes_itself: bool,
    tenant: String,
    /// Namespaces that it takes from a container, by its id, or from the host.
    joined: BTreeSet<String>,
    mounts: Vec<Mount>,
}

#[derive(Deserialize, Debug, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Mount {
    #[serde(rename = "Type")]
    kind: String,
    name: String,
    source: String,
    destination: String,
    #[serde(rename = "RW")]
    writable: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct HostConfig {
    network_mode: String,
    pid_mode: String,
    ipc_mode: String,
    auto_remove: bool,
}

impl Standing {
    /// What is to be held for it: itself, the containers whose namespaces it is in, what it mounts. Mounts are held within its tenant: others that
    /// mount the same need not wait for what is under way here.
    #[must_use]
    pub fn places(&self) -> BTreeSet<String> {
        let mounts = self.mounts.iter().filter(|mount| mount.is_shareable());
        let mounts = mounts.map(|mount| format!("{} of {}", if mount.name.is_empty() { "directories" } else { &mount.name }, self.tenant));
        self.joined.iter().cloned().chain([self.id.clone()]).chain(mounts).collect()
    }

    /// Whether what runs in the other one could change what a copy of this one walks through.
    fn is_reached_by(&self, other: &Self) -> bool {
        if self.running { self.shares_with(other) } else { self.nests_in(other) }
    }

    /// A namespace, or files: what reaches a process reaches its root, and an open directory passes through a socket in either.
    fn shares_with(&self, other: &Self) -> bool {
        let namespaces = other.joined.contains(&self.id) || self.joined.contains(&other.id) || !self.joined.is_disjoint(&other.joined);
        namespaces || self.mounts.iter().any(|mount| other.mounts.iter().any(|theirs| mount.is_reached_by(theirs)))
    }

    /// A mount of this one lies below another that the other one mounts too, and may write to.
    fn nests_in(&self, other: &Self) -> bool {
        let below = self.mounts.iter().map(|mount| mount.destination.as_str()).chain(ENGINES_OWN);
        let outer: Vec<&Mount> =
            self.mounts.iter().filter(|mount| other.mounts.iter().any(|theirs| theirs.writable && mount.is_reached_by(theirs))).collect();
        below.into_iter().any(|inner| outer.iter().any(|outer| inner != outer.destination && is_below(inner, &outer.destination)))
    }
}

/// What the engine mounts into every container.
const ENGINES_OWN: [&str; 3] = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];

impl Mount {
    fn is_shareable(&self) -> bool {
        self.kind != "tmpfs"
    }

    /// The same files, which one of the two may write to.
    fn is_reached_by(&self, theirs: &Self) -> bool {
        let named = !self.name.is_empty() && self.name == theirs.name;
        let placed = !self.source.is_empty() && !theirs.source.is_empty();
        let same = named || (placed && (is_below(&self.source, &theirs.source) || is_below(&theirs.source, &self.source)));
        same && self.is_shareable() && theirs.is_shareable() && (self.writable || theirs.writable)
    }
}

fn is_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory.trim_end_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl HostConfig {
    /// The namespaces that are another's.
    fn joined(self) -> BTreeSet<String> {
        let modes = [("network", self.network_mode), ("pid", self.pid_mode), ("ipc", self.ipc_mode)];
        let joined = modes.into_iter().filter_map(|(kind, mode)| match mode.strip_prefix("container:") {
            Some(id) => Some(id.to_owned()),
            None => (mode == "host").then(|| format!("{kind} of the host")),
        });
        joined.collect()
    }
}

impl Resolver {
    /// A container as it is now. `None`: there is no such container.
    ///
    /// # Errors
    /// The engine cannot be asked.
    pub async fn standing(&self, id: &str) -> Result<Option<Standing>, EngineError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Inspect {
            id: String,
            #[serde(default)]
            state: State,
            #[serde(default)]
            config: Config,
            #[serde(default)]
            host_config: HostConfig,
            #[serde(default)]
            mounts: Vec<Mount>,
        }
        #[derive(Deserialize, Default)]
        #[serde(rename_all = "PascalCase", default)]
        struct State {
            running: bool,
            paused: bool,
        }
        #[derive(Deserialize, Default)]
        #[serde(rename_all = "PascalCase", default)]
        struct Config {
            labels: Option<BTreeMap<String, String>>,
        }
        let Some(body) = self.container(id).await? else { return Ok(None) };
        let Inspect { id, state: State { running, paused }, config, host_config, mounts } = parse(&body)?;
        let (removes_itself, tenant) = (host_config.auto_remove, owner(config.labels));
        Ok(Some(Standing { id, running, paused, removes_itself, tenant, joined: host_config.joined(), mounts }))
    }

    /// Whether another container that runs reaches the files of this one.
    ///
    /// # Errors
    /// The engine cannot be asked.
    pub async fn is_reached(&self, container: &Standing) -> Result<bool, EngineError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Listed {
            id: String,
            #[serde(default)]
            labels: Option<BTreeMap<String, String>>,
            #[serde(default)]
            host_config: HostConfig,
            #[serde(default)]
            mounts: Vec<Mount>,
        }
        let version = self.about().await?.version;
        let (status, body) = self.engine().ask("GET", &format!("/v{version}/containers/json"), None).await?;
        if status != StatusCode::OK {
            return Err(EngineError::Answer(format!("{status} to a look at the containers that run")));
        }
        for Listed { id, labels, host_config, mounts } in parse::<Vec<Listed>>(&body)? {
            if id == container.id {
                continue;
            }
            let tenant = owner(labels);
            // A list does not tell of all namespaces; those of its own containers a tenant may join.
            let listed = Standing { id, running: true, paused: false, removes_itself: false, joined: host_config.joined(), mounts, tenant };
            let other = if listed.tenant == container.tenant { self.standing(&listed.id).await? } else { None };
            if container.is_reached_by(&listed) || other.is_some_and(|other| container.is_reached_by(&other)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn owner(labels: Option<BTreeMap<String, String>>) -> String {
    labels.and_then(|mut labels| labels.remove(OWNER_LABEL)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(id: &str, running: bool, joined: &[&str], mounts: &[(&str, &str, bool)]) -> Standing {
        let mount = |(name, destination, writable): &(&str, &str, bool)| Mount {
            kind: if name.starts_with('/') { "bind" } else { "volume" }.to_owned(),
            name: if name.starts_with('/') { String::new() } else { (*name).to_owned() },
            source: if name.starts_with('/') { (*name).to_owned() } else { String::new() },
            destination: (*destination).to_owned(),
            writable: *writable,
        };
        let (joined, mounts) = (joined.iter().map(|id| (*id).to_owned()).collect(), mounts.iter().map(mount).collect());
        Standing { id: id.to_owned(), running, paused: false, removes_itself: false, tenant: String::new(), joined, mounts }
    }

    #[test]
    fn what_runs_is_reached_through_whatever_is_shared() {
        let one = container("a", true, &["c"], &[("v", "/v", true), ("/srv/cache", "/cache", false)]);
        for (other, reached) in [
            (container("b", true, &[], &[("w", "/v", true)]), false),
            (container("b", true, &[], &[("v", "/x", false)]), true),
            (container("b", true, &[], &[("/srv/cache", "/x", false)]), false),
            (container("b", true, &[], &[("/srv", "/x", true)]), true),
            (container("b", true, &[], &[("/srv/cacheother", "/x", true)]), false),
            (container("b", true, &["a"], &[]), true),
            (container("b", true, &["c"], &[]), true),
            (container("c", true, &[], &[]), true),
        ] {
            assert_eq!(one.is_reached_by(&other), reached, "{other:?}");
        }
    }

    #[test]
    fn what_does_not_run_is_reached_where_mounts_nest() {
        let other = container("b", true, &["a"], &[("v", "/x", true)]);
        for (mounts, reached) in [
            ([("v", "/v", true), ("w", "/w", true)], false),
            ([("v", "/v", true), ("w", "/v/w", true)], true),
            ([("w", "/w", true), ("v", "/w/v", true)], false),
            ([("v", "/etc", true), ("w", "/w", true)], true),
            ([("v", "/", true), ("w", "/w", true)], true),
        ] {
            assert_eq!(container("a", false, &[], &mounts).is_reached_by(&other), reached, "{mounts:?}");
        }
    }
}
