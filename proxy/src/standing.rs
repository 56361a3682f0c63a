//! Whether a container's processes run, what becomes of it, and what others that run share with it: through what they share, they reach its files.

use std::collections::{BTreeMap, BTreeSet};

use engine::OWNER_LABEL;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use crate::dial::EngineError;
use crate::resolve::{Resolver, encode, parse};

/// A container as far as it matters to who walks its files, or waits for it.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Its full id.
    pub id: String,
    /// Its processes are there, frozen or not.
    pub running: bool,
    /// They are frozen.
    pub paused: bool,
    /// The engine is to remove it when it has ended (`docker run --rm`).
    pub removes_itself: bool,
    /// The engine is to start it again when it has ended (`docker run --restart`).
    pub restarts_itself: bool,
    /// Its first process; 0: none.
    pid: u64,
    /// Whose it is; empty: nobody's.
    pub tenant: String,
    /// Namespaces that it takes from a container, by its id, or from the host.
    joined: BTreeSet<String>,
    mounts: Mounts,
}

/// What a container mounts of what others can mount too. A volume that it mounts a thousand times is one.
#[derive(Debug, Default, Clone)]
struct Mounts {
    /// By their names.
    volumes: BTreeMap<String, Volume>,
    /// By their paths, and whether it may write to them.
    directories: BTreeMap<String, bool>,
}

#[derive(Debug, Clone)]
struct Volume {
    source: String,
    writable: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Mount {
    #[serde(rename = "Type")]
    kind: String,
    name: String,
    source: String,
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
    restart_policy: RestartPolicy,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RestartPolicy {
    name: String,
}

impl Standing {
    /// What is to be held for it: itself, the containers whose namespaces it is in, what it mounts. Mounts are held within its tenant: others that
    /// mount the same need not wait for what is under way here.
    #[must_use]
    pub fn places(&self) -> BTreeSet<String> {
        let directories = (!self.mounts.directories.is_empty()).then_some("directories");
        let mounts = self.mounts.volumes.keys().map(String::as_str).chain(directories).map(|name| format!("{name} of {}", self.tenant));
        self.joined.iter().cloned().chain([self.id.clone()]).chain(mounts).collect()
    }

    /// Whether what runs in the other one could change what a copy of this one walks through, which need not run for that: where a mount of it lies,
    /// links of its image say. Shared is a namespace, or files: what reaches a process reaches its root, and an open directory passes through a socket
    /// in either.
    fn is_reached_by(&self, other: &Self) -> bool {
        let namespaces = other.joined.contains(&self.id) || self.joined.contains(&other.id) || !self.joined.is_disjoint(&other.joined);
        namespaces || self.mounts.are_reached_by(&other.mounts)
    }
}

impl FromIterator<Mount> for Mounts {
    fn from_iter<I: IntoIterator<Item = Mount>>(listed: I) -> Self {
        let mut mounts = Self::default();
        for Mount { kind: _, name, source, writable } in listed.into_iter().filter(|mount| mount.kind != "tmpfs") {
            if name.is_empty() {
                *mounts.directories.entry(source).or_default() |= writable;
            } else {
                mounts.volumes.entry(name).or_insert(Volume { source, writable }).writable |= writable;
            }
        }
        mounts
    }
}

impl Mounts {
    /// The same files, which one of the two may write to.
    fn are_reached_by(&self, theirs: &Self) -> bool {
        let (few, many) = if self.volumes.len() < theirs.volumes.len() { (self, theirs) } else { (theirs, self) };
        let same = |(name, volume): (&String, &Volume)| many.volumes.get(name).is_some_and(|other| volume.writable || other.writable);
        few.volumes.iter().any(same) || self.lie_in(theirs) || theirs.lie_in(self)
    }

    /// Whether a directory of these is above or below something of the others.
    fn lie_in(&self, others: &Self) -> bool {
        let volumes = || others.volumes.values().map(|volume| (&volume.source, volume.writable));
        let places = || others.directories.iter().map(|(path, writable)| (path, *writable)).chain(volumes());
        let nested = |path: &str, place: &str| !path.is_empty() && !place.is_empty() && (is_below(path, place) || is_below(place, path));
        self.directories.iter().any(|(path, mine)| places().any(|(place, theirs)| (*mine || theirs) && nested(path, place)))
    }
}

fn is_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory.trim_end_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// How a namespace of the host is called.
const OF_THE_HOST: &str = " of the host";

impl HostConfig {
    /// The namespaces that are another's.
    fn joined(self) -> BTreeSet<String> {
        let modes = [("network", self.network_mode), ("pid", self.pid_mode), ("ipc", self.ipc_mode)];
        let joined = modes.into_iter().filter_map(|(kind, mode)| match mode.strip_prefix("container:") {
            Some(id) => Some(id.to_owned()),
            None => (mode == "host").then(|| format!("{kind}{OF_THE_HOST}")),
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
            pid: u64,
        }
        #[derive(Deserialize, Default)]
        #[serde(rename_all = "PascalCase", default)]
        struct Config {
            labels: Option<BTreeMap<String, String>>,
        }
        let Some(body) = self.container(id).await? else { return Ok(None) };
        let Inspect { id, state: State { running, paused, pid }, config, host_config, mounts } = parse(&body)?;
        let (removes_itself, tenant) = (host_config.auto_remove, owner(config.labels));
        let restarts_itself = !matches!(host_config.restart_policy.name.as_str(), "" | "no");
        let (joined, mounts) = (host_config.joined(), mounts.into_iter().collect());
        Ok(Some(Standing { id, running, paused, removes_itself, restarts_itself, pid, tenant, joined, mounts }))
    }

    /// Why it is not certain that a container's first process is still there. Engines say that they have paused one whose process has just ended, and
    /// start it again in a moment.
    ///
    /// # Errors
    /// The engine cannot be asked.
    pub async fn ended(&self, container: &Standing) -> Result<Option<String>, EngineError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Top {
            processes: Option<Vec<Vec<String>>>,
        }
        let Standing { id, pid, .. } = container;
        let version = self.about().await?.version;
        // Of a process that is frozen `ps` can read the number without waiting for it.
        let (status, body) = self.engine().ask("GET", &format!("/v{version}/containers/{id}/top?ps_args=-eo%20pid"), None).await?;
        if status != StatusCode::OK {
            return Ok(Some(format!("{status} {}", String::from_utf8_lossy(&body).trim())));
        }
        let pids = parse::<Top>(&body)?.processes.unwrap_or_default();
        let there = *pid != 0 && pids.iter().flatten().any(|listed| *listed == pid.to_string());
        Ok((!there).then(|| "it ended meanwhile".to_owned()))
    }

    /// The other containers that run and reach the files of this one, however many are in between.
    ///
    /// # Errors
    /// The engine cannot be asked.
    pub async fn reaching(&self, container: &Standing) -> Result<Vec<Standing>, EngineError> {
        let owned = filtered(&json!({ "label": [format!("{OWNER_LABEL}={}", container.tenant)] }));
        let mut own = Vec::new();
        for listed in self.running(if container.tenant.is_empty() { "" } else { &owned }).await? {
            // A list does not tell of all namespaces; those of its own containers a tenant may join.
            let other = if listed.tenant == container.tenant && listed.id != container.id { self.standing(&listed.id).await? } else { None };
            own.extend(other.filter(|other| other.running));
        }
        let mut found = connected(container, own);
        if let Some(filters) = elsewhere(container, &found) {
            let listed = self.running(&filters).await?.into_iter().filter(|other| other.tenant != container.tenant);
            let reach: Vec<Standing> = listed.filter(|other| found.iter().chain([container]).any(|one| one.is_reached_by(other))).collect();
            found.extend(reach);
        }
        Ok(found)
    }

    /// What a list tells of the containers that run.
    async fn running(&self, filters: &str) -> Result<Vec<Standing>, EngineError> {
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
        let body = self.must(&format!("/v{version}/containers/json{filters}")).await?;
        let standing = |Listed { id, labels, host_config, mounts }| {
            let (tenant, joined, mounts) = (owner(labels), host_config.joined(), mounts.into_iter().collect());
            Standing { id, running: true, paused: false, removes_itself: false, restarts_itself: false, pid: 0, tenant, joined, mounts }
        };
        Ok(parse::<Vec<Listed>>(&body)?.into_iter().map(standing).collect())
    }
}

fn filtered(filters: &serde_json::Value) -> String {
    format!("?filters={}", encode(&filters.to_string()))
}

/// Those of a tenant's running containers that are connected with one of them, over others. A namespace of a container that does not run may be
/// anybody's: its members were in it before.
fn connected(container: &Standing, mut own: Vec<Standing>) -> Vec<Standing> {
    let ids: BTreeSet<String> = own.iter().chain([container]).map(|one| one.id.clone()).collect();
    let is_lost = |one: &Standing| one.joined.iter().any(|joined| !joined.ends_with(OF_THE_HOST) && !ids.contains(joined));
    if is_lost(container) {
        return own;
    }
    let mut group: Vec<Standing> = Vec::new();
    // Each is compared with what was found last, and so with another one only once.
    let mut last = vec![container.clone()];
    while !last.is_empty() {
        let is_near = |one: &Standing| is_lost(one) || last.iter().any(|member| member.is_reached_by(one));
        let (near, far): (Vec<_>, Vec<_>) = own.into_iter().partition(is_near);
        group.extend(near.iter().cloned());
        (last, own) = (near, far);
    }
    group
}

/// Lists of running containers among which are all of other tenants that could share something with these, as queries. Not of all containers where that
/// can be known: other tenants' may be of any length.
fn elsewhere(container: &Standing, others: &[Standing]) -> Option<String> {
    let mut group = others.iter().chain([container]);
    let mounts = || others.iter().chain([container]).map(|one| &one.mounts);
    if group.any(|one| one.tenant.is_empty() || !one.joined.is_empty()) || mounts().any(|mounts| !mounts.directories.is_empty()) {
        return Some(String::new());
    }
    let volumes: BTreeSet<&String> = mounts().flat_map(|mounts| mounts.volumes.keys()).collect();
    (!volumes.is_empty()).then(|| filtered(&json!({ "volume": volumes })))
}

fn owner(labels: Option<BTreeMap<String, String>>) -> String {
    labels.and_then(|mut labels| labels.remove(OWNER_LABEL)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(id: &str, joined: &[&str], mounts: &[(&str, bool)]) -> Standing {
        let mount = |(name, writable): &(&str, bool)| Mount {
            kind: if name.starts_with('/') { "bind" } else { "volume" }.to_owned(),
            name: if name.starts_with('/') { String::new() } else { (*name).to_owned() },
            source: if name.starts_with('/') { (*name).to_owned() } else { String::new() },
            writable: *writable,
        };
        let (joined, mounts) = (joined.iter().map(|id| (*id).to_owned()).collect(), mounts.iter().map(mount).collect());
        let (id, tenant) = (id.to_owned(), String::new());
        Standing { id, running: false, paused: false, removes_itself: false, restarts_itself: false, pid: 0, tenant, joined, mounts }
    }

    #[test]
    fn a_container_is_reached_through_whatever_is_shared() {
        let one = container("a", &["c"], &[("v", true), ("/srv/cache", false)]);
        for (other, reached) in [
            (container("b", &[], &[("w", true)]), false),
            (container("b", &[], &[("v", false)]), true),
            (container("b", &[], &[("/srv/cache", false)]), false),
            (container("b", &[], &[("/srv", true)]), true),
            (container("b", &[], &[("/srv/cacheother", true)]), false),
            (container("b", &["a"], &[]), true),
            (container("b", &["c"], &[]), true),
            (container("c", &[], &[]), true),
        ] {
            assert_eq!(one.is_reached_by(&other), reached, "{other:?}");
        }
    }

    #[test]
    fn what_is_connected_is_so_over_others() {
        let near = |one: &Standing, own: Vec<Standing>| connected(one, own).into_iter().map(|other| other.id).collect::<Vec<String>>();
        let alone = container("z", &[], &[("w", true)]);
        let copied = container("a", &[], &[("v", true)]);
        let own = || vec![container("d", &["c"], &[]), container("c", &["b"], &[]), container("b", &[], &[("v", true)]), alone.clone()];
        assert_eq!(near(&copied, own()), ["b", "c", "d"]);
        assert_eq!(near(&alone, own()[..3].to_vec()), Vec::<String>::new());
        // In a namespace of one that does not run any more.
        assert_eq!(near(&copied, vec![container("e", &["gone"], &[]), alone.clone()]), ["e"]);
        assert_eq!(near(&container("a", &["gone"], &[]), vec![alone.clone()]), ["z"]);
    }
}
