//! Which namespaces there are: from the kernel (processes, named namespaces) and from the engine, so that one that the engine does not
//! know is seen too.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use netcheck::snapshot::{Container, Engine, Gap, GapKind, NamespaceId};

use super::procfs;
use netcheck::kernel::enter::Handle;

/// Where namespaces are mounted: by `ip netns`, and by engines.
const MOUNTED: [&str; 3] = ["/run/netns", "/var/run/docker/netns", "/run/docker/netns"];
/// Processes that are remembered of a namespace.
const PIDS: usize = 8;

/// A namespace that was found, held open.
#[derive(Debug)]
pub(crate) struct Subject {
    /// It, open.
    pub(crate) handle: Handle,
    /// Its names below `/run/netns`.
    pub(crate) names: Vec<String>,
    /// Where it is mounted.
    pub(crate) paths: Vec<String>,
    /// Processes in it.
    pub(crate) pids: Vec<u32>,
}

/// Everything that was found.
#[derive(Debug)]
pub(crate) struct Discovery {
    /// The namespace that this process was started in.
    pub(crate) host: NamespaceId,
    /// Namespaces, this host's first, then by id.
    pub(crate) subjects: Vec<Subject>,
    /// Processes of this host's namespace, all of them: they may hold its sockets.
    pub(crate) host_pids: Vec<u32>,
    /// What could not be looked at.
    pub(crate) gaps: Vec<Gap>,
}

/// Looks for namespaces, and gives each container of the engine its own.
pub(crate) fn discover(engine: Option<&mut Engine>) -> io::Result<Discovery> {
    let own = Handle::open("/proc/self/ns/net")?.ok_or_else(|| io::Error::other("/proc/self/ns/net is not a namespace: is /proc mounted?"))?;
    let host = own.id;
    let mut search = Search { subjects: BTreeMap::new(), gaps: Vec::new() };
    search.add(own);
    for directory in MOUNTED {
        search.mounted(directory);
    }
    let host_pids = search.processes(host);
    if let Some(engine) = engine {
        for container in &mut engine.containers {
            search.container(container, host);
        }
    }
    let mut subjects: Vec<Subject> = search.subjects.into_values().collect();
    subjects.sort_by_key(|subject| (subject.handle.id != host, subject.handle.id));
    Ok(Discovery { host, subjects, host_pids, gaps: search.gaps })
}

struct Search {
    subjects: BTreeMap<NamespaceId, Subject>,
    gaps: Vec<Gap>,
}

impl Search {
    fn add(&mut self, handle: Handle) -> &mut Subject {
        self.subjects.entry(handle.id).or_insert_with(|| Subject { handle, names: Vec::new(), paths: Vec::new(), pids: Vec::new() })
    }

    /// Namespaces that are mounted on files of a directory. A file that is not one is somebody's leftover.
    fn mounted(&mut self, directory: &str) {
        let Ok(entries) = fs::read_dir(directory) else { return };
        let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        for name in names {
            let path = format!("{directory}/{name}");
            match Handle::open(&path) {
                Ok(Some(handle)) => {
                    let subject = self.add(handle);
                    if !subject.paths.contains(&path) {
                        subject.paths.push(path);
                    }
                    if directory == "/run/netns" {
                        subject.names.push(name);
                    }
                }
                Ok(None) => {}
                // It was unmounted meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.gap(GapKind::NotEntered, format!("{path}: {error}")),
            }
        }
    }

    /// Namespaces of processes. Returns those in this host's. A process that does not show its own is no gap: if links lead to where it
    /// is, they end in a namespace that is not known, and that is one. A proxy that does not show itself is one: what comes to it goes on.
    fn processes(&mut self, host: NamespaceId) -> Vec<u32> {
        let mut on_host = Vec::new();
        for pid in procfs::processes() {
            let Some(id) = procfs::namespace_of(pid) else {
                let command = procfs::command_of(pid);
                if procfs::is_proxy(&command) {
                    self.gap(
                        GapKind::NotEntered,
                        format!("process {pid} ({command}): which sockets it passes on is not known without CAP_SYS_PTRACE"),
                    );
                }
                continue;
            };
            if id == host {
                on_host.push(pid);
            }
            if !self.subjects.contains_key(&id) {
                let Ok(Some(handle)) = Handle::open(&format!("/proc/{pid}/ns/net")) else { continue };
                self.add(handle);
            }
            if let Some(subject) = self.subjects.get_mut(&id)
                && subject.pids.len() < PIDS
            {
                subject.pids.push(pid);
            }
        }
        on_host
    }

    /// The namespace of a container: the engine's own mount of it, or that of its process.
    fn container(&mut self, container: &mut Container, host: NamespaceId) {
        if container.network_mode == "host" {
            container.namespace = Some(host);
            return;
        }
        let mut places = vec![format!("/proc/{}/ns/net", container.pid)];
        if !container.sandbox_key.is_empty() {
            places.insert(0, container.sandbox_key.clone());
        }
        for place in places {
            if let Ok(Some(handle)) = Handle::open(&place) {
                let id = handle.id;
                let subject = self.add(handle);
                if !place.starts_with("/proc/") && !subject.paths.contains(&place) {
                    subject.paths.push(place);
                }
                container.namespace = Some(id);
                return;
            }
        }
        let detail = format!("container {} ({})", container.name, container.id);
        self.gap(GapKind::NotEntered, detail);
    }

    fn gap(&mut self, kind: GapKind, detail: String) {
        self.gaps.push(Gap { kind, namespace: None, link: None, detail });
    }
}
