//! Filling: what a request leaves unset gets a value of the policy, before it is judged, so that unchanged clients run hardened.

use engine::demand::Flag;
use engine::operation::OperationId;
use engine::query::{Query, Value};
use engine::request::Body;
use engine::types::container::{ContainerCreate, HostConfig};
use engine::types::strings::{CgroupnsMode, IpcMode, SecurityOption};
use engine::wire::{Map, Text};
use engine::{OWNER_LABEL, Request, Version};

use crate::compile::Policy;

/// Below it the engine makes the IPC namespace of a container that names none `shareable` (moby, `postContainersCreate`).
const PRIVATE_IPC: u8 = 40;

impl Policy {
    /// Sets what the request leaves unset.
    pub fn fill(&self, request: &mut Request<'_>) {
        match &mut request.body {
            Body::ContainerCreate(body) => self.fill_container(body, request.version),
            Body::NetworkCreate(body) => self.fill_labels(&mut body.labels),
            Body::VolumeCreate(body) => self.fill_labels(&mut body.labels),
            Body::Tar if request.operation.id == OperationId::ImageBuild => {
                // The engine's build cache is everybody's, and does not look at how a step was run: another tenant's `--add-host` would decide
                // what this one's `RUN curl` had fetched.
                if !self.allow.contains(&Flag::SharedBuildCache) {
                    request.query.set("nocache", Value::Flag(true));
                }
                // The containers of its steps are nobody's: nobody but the engine could remove those that a step leaves when it fails.
                request.query.set("rm", Value::Flag(true));
                request.query.set("forcerm", Value::Flag(true));
                self.fill_build(&mut request.query);
            }
            Body::ContainerUpdate(_)
            | Body::ExecCreate(_)
            | Body::ExecStart(_)
            | Body::NetworkConnect(_)
            | Body::NetworkDisconnect(_)
            | Body::None
            | Body::Tar => {}
        }
    }

    fn fill_labels(&self, labels: &mut Option<Map<'_, Text<'_>>>) {
        for (key, value) in self.fill.labels.iter().filter(|(key, _)| *key != OWNER_LABEL) {
            labels.get_or_insert_with(Map::default).entry(Text::from(key.clone())).or_insert_with(|| Text::from(value.clone()));
        }
    }

    /// The limits of a build's steps.
    fn fill_build(&self, query: &mut Query<'_>) {
        const PERIOD: i64 = 100_000;
        let int = |query: &Query<'_>, key: &str| if let Some(Value::Int(value)) = query.get(key) { Some(*value) } else { None };
        if let Some(bytes) = amount(self.fill.memory).filter(|_| unset(int(query, "memory")) && unset(int(query, "memswap"))) {
            query.set("memory", Value::Int(bytes));
        }
        if let Some(swap) = self.swap(int(query, "memory"), int(query, "memswap")) {
            query.set("memswap", Value::Int(swap));
        }
        if let Some(billionths) = amount(self.fill.cpus).filter(|_| unset(int(query, "cpuquota")) && unset(int(query, "cpuperiod"))) {
            query.set("cpuperiod", Value::Int(PERIOD));
            query.set("cpuquota", Value::Int((billionths / (1_000_000_000 / PERIOD)).max(1000)));
        }
    }

    /// The limit of memory and swap, where none is named and the engine's own, twice the memory, would be more than is filled in.
    fn swap(&self, memory: Option<i64>, swap: Option<i64>) -> Option<i64> {
        let memory = memory.filter(|memory| *memory > 0 && unset(swap))?;
        amount(self.fill.swap).filter(|most| memory.saturating_mul(2) > *most).map(|most| most.max(memory))
    }

    fn fill_container(&self, body: &mut ContainerCreate<'_>, version: Option<Version>) {
        let fill = &self.fill;
        self.fill_labels(&mut body.labels);
        if let Some(user) = fill.user.as_ref().filter(|_| body.user.as_ref().is_none_or(|user| user.is_empty())) {
            body.user = Some(Text::from(user.clone()));
        }
        let host = body.host_config.get_or_insert_default();
        if unset(host.memory) {
            // Never more than the memory and swap that are asked for, which the engine refuses.
            let swap = host.memory_swap.filter(|swap| *swap > 0).unwrap_or(i64::MAX);
            host.memory = amount(fill.memory).map(|memory| memory.min(swap)).or(host.memory);
        }
        if unset(host.pids_limit) {
            host.pids_limit = amount(fill.pids).or(host.pids_limit);
        }
        if unset(host.nano_cpus) && unset(host.cpu_quota) {
            host.nano_cpus = amount(fill.cpus).or(host.nano_cpus);
        }
        host.memory_swap = self.swap(host.memory, host.memory_swap).or(host.memory_swap);
        if let Some(bytes) = amount(fill.tmpfs) {
            fill_tmpfs(host, bytes);
        }
        let shares_ipc = version.is_some_and(|version| version.minor() < PRIVATE_IPC) && !self.allow.contains(&Flag::ShareableIpc);
        if shares_ipc && matches!(host.ipc_mode, None | Some(IpcMode::Default)) {
            host.ipc_mode = Some(IpcMode::Private);
        }
        // On cgroup v1 the engine's own is the host's (moby daemon/daemon_unix.go; below API 1.41 `postContainersCreate`). Engines read the field
        // whatever the version, and refuse it there for what is privileged.
        let shares_cgroup = !self.allow.contains(&Flag::HostCgroup) && host.privileged != Some(true);
        if shares_cgroup && matches!(host.cgroupns_mode, None | Some(CgroupnsMode::Default(_))) {
            host.cgroupns_mode = Some(CgroupnsMode::Private);
        }
        if fill.readonly_rootfs {
            host.readonly_rootfs.get_or_insert(true);
            // The CLI writes `false` where nobody asked for anything.
            host.readonly_rootfs = Some(true);
        }
        let options = host.security_opt.get_or_insert_default();
        if fill.no_new_privileges && !options.iter().any(|option| matches!(option, SecurityOption::NoNewPrivileges(_))) {
            options.push(SecurityOption::NoNewPrivileges(true));
        }
        if options.is_empty() {
            host.security_opt = None;
        }
        let added: Vec<String> = host.cap_add.iter().flatten().map(|name| name.to_ascii_uppercase().trim_start_matches("CAP_").to_owned()).collect();
        let drop: Vec<Text<'_>> = fill.cap_drop.iter().filter(|name| !added.contains(name)).map(|name| Text::from(name.clone())).collect();
        if !drop.is_empty() {
            let dropped = host.cap_drop.get_or_insert_default();
            drop.into_iter().for_each(|name| {
                if !dropped.contains(&name) {
                    dropped.push(name)
                }
            });
        }
    }
}

fn unset(value: Option<i64>) -> bool {
    value.is_none_or(|value| value == 0)
}

fn amount(amount: Option<u64>) -> Option<i64> {
    amount.and_then(|amount| i64::try_from(amount).ok())
}

/// Gives every in-memory filesystem without a size this one.
fn fill_tmpfs(host: &mut HostConfig<'_>, bytes: i64) {
    let sizes = |option: &str| option == "size" || option == "nr_blocks";
    for options in host.tmpfs.iter_mut().flat_map(|map| map.values_mut()) {
        if !options.split(',').filter_map(|option| option.split_once('=')).any(|(name, _)| sizes(name)) {
            *options = Text::from(if options.is_empty() { format!("size={bytes}") } else { format!("{options},size={bytes}") });
        }
    }
    for mount in host.mounts.iter_mut().flatten().filter(|mount| mount.kind.as_deref() == Some("tmpfs")) {
        let options = mount.tmpfs_options.get_or_insert_default();
        let named = options.options.iter().flatten().any(|option| option.first().is_some_and(|name| sizes(name)));
        if !named && options.size_bytes.is_none_or(|size| size == 0) {
            options.size_bytes = Some(bytes);
        }
    }
}
