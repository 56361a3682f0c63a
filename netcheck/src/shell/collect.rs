//! The whole collection: discover, enter and read each namespace, and put the snapshot together.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader};

use miette::miette;
use netcheck::snapshot::{Container, Engine, Gap, GapKind, Namespace, NamespaceId, Snapshot, VERSION};

use super::discover::{Discovery, Subject, discover};
use super::engine::{self, Endpoint};
use super::procfs::{self, Unmodelled};
use super::read::{self, Reading, Surroundings};
use netcheck::kernel::enter::{Handle, in_each};

/// `NETLINK_XFRM`.
const XFRM: &str = "6";

/// Collects a snapshot of this host.
pub(crate) fn collect(at: Option<&Endpoint>) -> miette::Result<Snapshot> {
    let mut gaps = Vec::new();
    let mut engine = at.map(|at| engine::ask(at).map_err(|error| miette!("{error}"))).transpose()?;
    let discovery = discover(engine.as_mut()).map_err(|error| miette!("cannot look for namespaces: {error}"))?;
    let host = discovery.host;
    let (owners, bpf) = procfs::owners(&discovery.host_pids);
    gaps.extend(bpf);
    let Discovery { subjects, gaps: found, .. } = discovery;
    gaps.extend(found);
    let mut namespaces = read_all(subjects, host, &mut gaps);
    if let Some(namespace) = namespaces.first_mut() {
        procfs::attribute(namespace, &owners);
    }
    if let (Some(engine), Some(at)) = (engine.as_mut(), at) {
        gaps.extend(confirm(engine, at, &namespaces));
    }
    let kept = reached(host, &namespaces, engine.as_ref());
    namespaces.retain(|namespace| kept.contains(&namespace.id));
    gaps.retain(|gap| gap.namespace.is_none_or(|id| kept.contains(&id)));
    gaps.sort();
    let names = rustix::system::uname();
    Ok(Snapshot {
        version: VERSION,
        taken: jiff::Timestamp::now().to_string(),
        host: names.nodename().to_string_lossy().into_owned(),
        kernel: names.release().to_string_lossy().into_owned(),
        little_endian: cfg!(target_endian = "little"),
        this_host: host,
        namespaces,
        engine,
        gaps,
    })
}

/// Reads every namespace, on as many threads as there are processors.
fn read_all(subjects: Vec<Subject>, host: NamespaceId, gaps: &mut Vec<Gap>) -> Vec<Namespace> {
    let mut handles = Vec::with_capacity(subjects.len());
    let mut named = Vec::with_capacity(subjects.len());
    for Subject { handle, names, paths, pids } in subjects {
        handles.push(handle);
        named.push((names, paths, pids));
    }
    let (unmodelled, helpers) = (Unmodelled::on_this_kernel(), procfs::has_conntrack_switches());
    let around = Surroundings { handles: &handles, unmodelled, xfrm: has_netlink_family(XFRM), helpers, host };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let list: Vec<&Handle> = handles.iter().collect();
    let readings = in_each(&list, threads, |handle| read::namespace(handle, &around), |handle, error| Reading::failed(handle.id, &error));
    let mut namespaces = Vec::with_capacity(readings.len());
    for (reading, (names, paths, pids)) in readings.into_iter().zip(named) {
        let Reading { mut namespace, gaps: missing } = reading;
        read::sort_rules(&mut namespace);
        namespaces.push(Namespace { names, paths, pids, ..namespace });
        gaps.extend(missing);
    }
    namespaces
}

/// Whether the kernel listens on a netlink family: asking would load it.
fn has_netlink_family(number: &str) -> bool {
    File::open("/proc/thread-self/net/netlink").is_ok_and(|sockets| lists_family(BufReader::new(sockets), number))
}

/// Whoever opens sockets of another family makes the list as long as it likes.
fn lists_family(sockets: impl BufRead, number: &str) -> bool {
    sockets.lines().map_while(Result::ok).skip(1).any(|line| line.split_whitespace().nth(1) == Some(number))
}

/// Forgets containers that went away while they were read, and what was found for a container but is not its own.
fn confirm(engine: &mut Engine, at: &Endpoint, namespaces: &[Namespace]) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let gap = |kind, detail| Gap { kind, namespace: None, link: None, detail };
    match engine::running(at) {
        Ok(running) => {
            let running: BTreeSet<String> = running.into_iter().collect();
            engine.containers.retain(|container| {
                let still = running.contains(&container.id);
                if !still {
                    gaps.push(gap(GapKind::Disappeared, format!("container {}", container.name)));
                }
                still
            });
        }
        Err(error) => gaps.push(gap(GapKind::Engine, error.to_string())),
    }
    let by_id: BTreeMap<NamespaceId, &Namespace> = namespaces.iter().map(|namespace| (namespace.id, namespace)).collect();
    for container in &mut engine.containers {
        let Some(namespace) = container.namespace.and_then(|id| by_id.get(&id)) else { continue };
        if !is_of(container, namespace) {
            container.namespace = None;
            let detail = format!("container {}: the namespace of its process is another's", container.name);
            gaps.push(gap(GapKind::NotEntered, detail));
        }
    }
    gaps
}

/// A process id may be of another pid namespace than ours; the hardware addresses that the engine gave tell.
fn is_of(container: &Container, namespace: &Namespace) -> bool {
    let given: Vec<_> = container.attachments.iter().filter_map(|one| one.mac).collect();
    let has = |mac| namespace.links.iter().any(|link| link.mac == Some(mac));
    given.is_empty() || namespace.links.is_empty() || given.into_iter().any(has)
}

/// This host's namespace, those of containers, and those that links lead to from them.
fn reached(host: NamespaceId, namespaces: &[Namespace], engine: Option<&Engine>) -> BTreeSet<NamespaceId> {
    let mut neighbours: BTreeMap<NamespaceId, BTreeSet<NamespaceId>> = BTreeMap::new();
    for namespace in namespaces {
        for link in &namespace.links {
            for other in [link.peer, link.kind.stacked_on().flatten()].into_iter().flatten().filter_map(|peer| peer.namespace) {
                neighbours.entry(namespace.id).or_default().insert(other);
                neighbours.entry(other).or_default().insert(namespace.id);
            }
        }
    }
    let containers = engine.map_or(&[][..], |engine| engine.containers.as_slice());
    let mut waiting: Vec<NamespaceId> = containers.iter().filter_map(|container| container.namespace).chain([host]).collect();
    let mut reached = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if reached.insert(id) {
            waiting.extend(neighbours.get(&id).into_iter().flatten());
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_netlink_family_is_found_behind_any_number_of_sockets() {
        let line = |family: &str| format!("0000000000000000 {family}   1234  00000000 0        0        0     2        0        99999\n");
        let list = format!("sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n{}", line("0").repeat(10_000));
        assert!(!lists_family(list.as_bytes(), XFRM));
        assert!(lists_family((list + &line(XFRM)).as_bytes(), XFRM));
    }
}
