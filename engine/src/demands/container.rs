//! A container: what it asks of the host, of other objects, and what hardening it goes without.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::network::endpoint;
use super::resources::{cpus, device_requests, device_rules, devices, given, limit, realtime, restart, swap, throttles, ulimit, weights};
use super::{host_path, image, labels, used_container, used_network, used_volume, user, volume_driver, working_dir};
use crate::demand::{Amount, Bind, Demand, Demands, Flag, Name, Port, Quantity, Role};
use crate::facts::{Facts, ObjectKind};
use crate::stored::Defaults;
use crate::types::container::{
    BindOptions, ContainerCreate, DriverConfig, HostConfig, ImageOptions, LogConfig, Mount, PortBinding, TmpfsOptions, Ulimit, VolumeOptions,
};
use crate::types::strings::{
    BindSource, CgroupnsMode, ContainerPath, ExtraHost, IpcMode, NetworkMode, PidMode, PortKey, SecurityOption, clean_path, is_host_name, parse_ports,
};
use crate::wire::{Map, Text};

/// Where a configuration comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum View<'d> {
    /// A client asks for it.
    Request,
    /// The engine has it, with its own defaults filled in.
    Stored(&'d Defaults),
}

/// What a container demands.
#[expect(clippy::too_many_lines, reason = "one field a line")]
pub(crate) fn create(body: &ContainerCreate<'_>, facts: &Facts, view: View<'_>, demands: &mut Demands) {
    let ContainerCreate {
        hostname,
        domainname,
        user: container_user,
        attach_stdin: _,
        attach_stdout: _,
        attach_stderr: _,
        exposed_ports,
        tty: _,
        open_stdin: _,
        stdin_once: _,
        env: _,
        cmd: _,
        healthcheck,
        args_escaped: _,
        image: written,
        volumes,
        working_dir: directory,
        entrypoint: _,
        network_disabled: _,
        mac_address,
        on_build: _,
        labels: given_labels,
        stop_signal: _,
        stop_timeout,
        shell: _,
        host_config,
        networking_config: _,
        name: _,
        platform: _,
        auth_config: _,
    } = body;
    for (at, name) in [("Hostname", hostname), ("Domainname", domainname)] {
        if let Some(name) = name.as_ref().filter(|name| !name.is_empty() && !is_host_name(name)) {
            demands.push(at, Demand::NotUnderstood(format!("`{}` is no host name", name.escape_debug())));
        }
    }
    user("User", container_user.as_deref().unwrap_or_default(), demands);
    match written.as_deref().unwrap_or_default() {
        "" => demands.push("Image", Demand::NotUnderstood("a container without an image".to_owned())),
        name => image("Image", name, facts, demands),
    }
    let brought = written.as_deref().and_then(|name| facts.object(ObjectKind::Image, name)).map(|object| &object.brings);
    match (directory.as_ref().filter(|path| !path.is_empty()), brought) {
        (None, Some(brought)) => working_dir("Image", &brought.working_dir, demands),
        (path, _) => working_dir("WorkingDir", path.map_or("", Text::as_str), demands),
    }
    if matches!(view, View::Request) {
        labels("Labels", given_labels.as_ref(), demands);
    }
    demands.flag("MacAddress", Flag::MacAddress, mac_address.as_ref().is_some_and(|address| !address.is_empty()));
    if matches!(view, View::Request) {
        understood_ports("ExposedPorts", exposed_ports.iter().flat_map(|ports| ports.keys()), demands);
    }
    let exposed = exposed_ports.iter().flat_map(|ports| ports.keys()).map(Text::as_str);
    published(host_config.as_ref(), exposed.chain(brought.iter().flat_map(|brought| &brought.ports).map(String::as_str)), demands);
    for path in volumes.iter().flat_map(|volumes| volumes.keys()) {
        match view {
            View::Request => written_target("Volumes", path, &[None], demands),
            View::Stored(_) => brought_volume("Volumes", path, demands),
        }
    }
    // Once it is made, its volumes are in its own configuration.
    for path in brought.iter().flat_map(|brought| &brought.volumes).filter(|_| matches!(view, View::Request)) {
        brought_volume("Image", path, demands);
    }
    for (key, settings) in body.endpoints() {
        used_network("NetworkingConfig.EndpointsConfig", key, facts, demands);
        settings.into_iter().for_each(|settings| endpoint(settings, facts, demands));
    }
    stop("StopTimeout", *stop_timeout, demands);
    let check: Vec<&str> = healthcheck.iter().flat_map(|check| check.test.iter().flatten()).map(Text::as_str).collect();
    let inherited = || brought.iter().flat_map(|brought| &brought.health).map(String::as_str).collect::<Vec<_>>();
    health(&if check.is_empty() { inherited() } else { check }, demands);
    match host_config {
        Some(host) => host_demands(host, facts, view, demands),
        None => host_demands(&HostConfig::default(), facts, view, demands),
    }
}

#[expect(clippy::too_many_lines, reason = "one field a line")]
fn host_demands(host: &HostConfig<'_>, facts: &Facts, view: View<'_>, demands: &mut Demands) {
    let HostConfig {
        binds,
        container_id_file: _,
        log_config,
        network_mode,
        port_bindings,
        restart_policy,
        auto_remove: _,
        volume_driver: driver,
        volumes_from,
        console_size: _,
        annotations,
        cap_add,
        cap_drop,
        capabilities: exact,
        cgroupns_mode,
        dns,
        dns_options,
        dns_search,
        extra_hosts,
        group_add,
        ipc_mode,
        cgroup,
        links,
        oom_score_adj,
        pid_mode,
        privileged,
        publish_all_ports,
        readonly_rootfs,
        security_opt,
        storage_opt,
        tmpfs,
        uts_mode,
        userns_mode,
        shm_size,
        sysctls,
        runtime,
        isolation,
        mounts,
        masked_paths,
        readonly_paths,
        init: _,
        init_path,
        cpu_shares: _,
        memory,
        nano_cpus,
        cgroup_parent,
        blkio_weight: _,
        blkio_weight_device,
        blkio_device_read_bps,
        blkio_device_write_bps,
        blkio_device_read_iops,
        blkio_device_write_iops,
        cpu_period,
        cpu_quota,
        cpu_realtime_period,
        cpu_realtime_runtime,
        cpuset_cpus: _,
        cpuset_mems: _,
        devices: given_devices,
        device_cgroup_rules: rules,
        device_requests: requests,
        disk_quota: _,
        kernel_memory: _,
        kernel_memory_tcp: _,
        memory_reservation: _,
        memory_swap,
        memory_swappiness: _,
        oom_kill_disable,
        pids_limit,
        ulimits,
        cpu_count: _,
        cpu_percent: _,
        io_maximum_iops: _,
        io_maximum_bandwidth: _,
    } = host;

    for bind in binds.iter().flatten() {
        bind_line(bind, facts, demands);
    }
    for mount in mounts.iter().flatten() {
        mount_demands(mount, facts, view, demands);
    }
    volume_driver("HostConfig.VolumeDriver", "HostConfig.VolumeDriver", driver.as_ref(), None, demands);
    for from in volumes_from.iter().flatten() {
        used_container("HostConfig.VolumesFrom", Role::VolumesFrom, from.container.as_str(), facts, demands);
    }
    for link in links.iter().flatten() {
        used_container("HostConfig.Links", Role::Link, link.container.as_str(), facts, demands);
    }
    for (path, options) in tmpfs.iter().flat_map(|map| map.iter()) {
        tmpfs_line(path, options, demands);
    }

    network("HostConfig.NetworkMode", network_mode.as_ref(), facts, demands);
    match pid_mode {
        Some(PidMode::Container(container)) => used_container("HostConfig.PidMode", Role::JoinPid, container.as_str(), facts, demands),
        Some(PidMode::Host) => demands.flag("HostConfig.PidMode", Flag::HostPid, true),
        Some(PidMode::Private) | None => {}
    }
    match ipc_mode {
        Some(IpcMode::Container(container)) => used_container("HostConfig.IpcMode", Role::JoinIpc, container.as_str(), facts, demands),
        Some(IpcMode::Host) => demands.flag("HostConfig.IpcMode", Flag::HostIpc, true),
        Some(IpcMode::Shareable) => demands.flag("HostConfig.IpcMode", Flag::ShareableIpc, !view.is_default(|d| d.ipc_mode == "shareable")),
        Some(IpcMode::Default | IpcMode::None | IpcMode::Private) | None => {}
    }
    own_namespace("HostConfig.UTSMode", Flag::HostUts, uts_mode.as_ref(), demands);
    own_namespace("HostConfig.UsernsMode", Flag::HostUser, userns_mode.as_ref(), demands);
    let privileged = *privileged == Some(true);
    // On cgroup v1 what is privileged gets it unasked.
    let asked = matches!(view, View::Request) || !privileged;
    demands.flag("HostConfig.CgroupnsMode", Flag::HostCgroup, asked && cgroupns_mode == &Some(CgroupnsMode::Host));
    demands.flag("HostConfig.Privileged", Flag::Privileged, privileged);
    capability_demands(cap_add.as_deref(), cap_drop.as_deref(), exact.as_deref(), demands);
    // The engine's own there (moby daemon/create.go, `generateSecurityOpt`), where no label is asked for.
    let unlabelled = matches!(view, View::Stored(_)) && (privileged || pid_mode == &Some(PidMode::Host) || ipc_mode == &Some(IpcMode::Host));
    security_options(security_opt.as_deref(), unlabelled, demands);
    paths("HostConfig.MaskedPaths", Flag::UnmaskedPaths, masked_paths.as_deref(), view, demands);
    paths("HostConfig.ReadonlyPaths", Flag::WritableKernel, readonly_paths.as_deref(), view, demands);
    demands.flag("HostConfig.ReadonlyRootfs", Flag::WritableRootfs, *readonly_rootfs != Some(true));
    devices("HostConfig.Devices", given_devices.as_deref(), demands);
    device_rules("HostConfig.DeviceCgroupRules", rules.as_deref(), demands);
    device_requests("HostConfig.DeviceRequests", requests.as_deref(), demands);
    for (key, value) in sysctls.iter().flat_map(|map| map.iter()) {
        // The kernel reads `/` as `.`, and so does runc.
        demands.push("HostConfig.Sysctls", Demand::Named(Name::Sysctl, format!("{}={value}", key.replace('/', "."))));
    }
    for (key, value) in annotations.iter().flat_map(|map| map.iter()) {
        demands.push("HostConfig.Annotations", Demand::Named(Name::Annotation, format!("{key}={value}")));
    }
    for (key, value) in storage_opt.iter().flat_map(|map| map.iter()) {
        demands.push("HostConfig.StorageOpt", Demand::Named(Name::StorageOption, format!("{key}={value}")));
    }
    for group in group_add.iter().flatten() {
        demands.named("HostConfig.GroupAdd", Name::Group, group);
    }
    let runtime = runtime.as_deref().unwrap_or_default();
    if !view.is_default(|defaults| defaults.runtime == runtime) {
        demands.named("HostConfig.Runtime", Name::Runtime, runtime);
    }
    demands.named("HostConfig.CgroupParent", Name::CgroupParent, cgroup_parent.as_deref().unwrap_or_default());
    for (at, value) in [("HostConfig.Cgroup", cgroup), ("HostConfig.InitPath", init_path)] {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            demands.push(at, Demand::NotUnderstood(format!("`{}`", value.escape_debug())));
        }
    }
    // An engine without Windows says `default`, or nothing.
    if let Some(isolation) = isolation.as_ref().filter(|isolation| !isolation.is_empty() && isolation.as_str() != "default") {
        demands.push("HostConfig.Isolation", Demand::NotUnderstood(format!("isolation `{}` of Windows engines", isolation.escape_debug())));
    }

    log("HostConfig.LogConfig", log_config.as_ref(), view, demands);
    ports(port_bindings.as_ref(), publish_all_ports == &Some(true), demands);
    name_service(dns.as_deref(), dns_options.as_deref(), dns_search.as_deref(), extra_hosts.as_deref(), demands);
    restart("HostConfig.RestartPolicy", restart_policy.as_ref(), demands);

    limit("HostConfig.Memory", Quantity::Memory, *memory, demands);
    limit("HostConfig.PidsLimit", Quantity::Pids, *pids_limit, demands);
    cpus("HostConfig.NanoCpus", *nano_cpus, *cpu_period, *cpu_quota, demands);
    // Without swap accounting the engine drops the limit and writes -1; what was asked for was judged when it was made.
    if !(view.is_default(|defaults| !defaults.swap_limit) && *memory_swap == Some(-1)) {
        swap("HostConfig.MemorySwap", *memory_swap, *memory, demands);
    }
    if let Some(bytes) = given(*shm_size) {
        limit("HostConfig.ShmSize", Quantity::Shm, Some(bytes), demands);
    }
    realtime("HostConfig.CpuRealtimeRuntime", *cpu_realtime_period, *cpu_realtime_runtime, demands);
    demands.flag("HostConfig.OomKillDisable", Flag::OomProtection, *oom_kill_disable == Some(true));
    demands.flag("HostConfig.OomScoreAdj", Flag::OomProtection, oom_score_adj.is_some_and(|adjust| adjust < 0));
    weights("HostConfig.BlkioWeightDevice", blkio_weight_device.as_deref(), demands);
    for list in [blkio_device_read_bps, blkio_device_write_bps, blkio_device_read_iops, blkio_device_write_iops] {
        throttles("HostConfig.BlkioDevice…", list.as_deref(), demands);
    }
    for Ulimit { name, soft, hard } in ulimits.iter().flatten() {
        ulimit("HostConfig.Ulimits", name.as_deref().unwrap_or_default(), [*soft, *hard].map(Option::unwrap_or_default), demands);
    }
}

impl View<'_> {
    /// Whether the engine has filled in a value itself.
    fn is_default(self, same: impl Fn(&Defaults) -> bool) -> bool {
        match self {
            Self::Request => false,
            Self::Stored(defaults) => same(defaults),
        }
    }
}

/// A check is for an engine that ends when it has no word to run (moby daemon/health.go, `cmdProbe.run`, before 14efa29c44 of 2026-05).
fn health(test: &[&str], demands: &mut Demands) {
    let understood = match test {
        [] | ["NONE", ..] => true,
        ["CMD" | "CMD-SHELL", words @ ..] => !words.is_empty(),
        [_, ..] => false,
    };
    if !understood {
        let kind = test.first().copied().unwrap_or_default().escape_debug();
        demands
            .push("Healthcheck.Test", Demand::NotUnderstood(format!("a health check of kind `{kind}` with {} words", test.len().saturating_sub(1))));
    }
}

/// How long it may take to stop, where that is more than engines wait by themselves. A negative time is for ever, for the engine's own end too (moby
/// daemon/daemon.go, `ShutdownTimeout`).
pub(super) fn stop(at: &'static str, timeout: Option<i64>, demands: &mut Demands) {
    const DEFAULT: i64 = 10;
    if let Some(seconds) = timeout.filter(|seconds| !(0..=DEFAULT).contains(seconds)) {
        limit(at, Quantity::StopTimeout, Some(seconds), demands);
    }
}

/// Where an image has a volume. It may say so without the first `/`: the engine begins at the root.
pub(crate) fn brought_volume(at: impl Into<Cow<'static, str>>, path: &str, demands: &mut Demands) {
    written_target(at, &format!("/{path}"), &[None], demands);
}

/// A [`target`] that is not read yet.
fn written_target(at: impl Into<Cow<'static, str>>, path: &str, sizes: &[Option<i64>], demands: &mut Demands) {
    match ContainerPath::parse(path) {
        Ok(path) => target(at, &path, sizes, demands),
        Err(why) => demands.push(at, Demand::NotUnderstood(why)),
    }
}

/// A place in the container where something is mounted that has at most so many bytes; `None`: nothing limits them.
fn target(at: impl Into<Cow<'static, str>>, path: &ContainerPath<'_>, sizes: &[Option<i64>], demands: &mut Demands) {
    let at = at.into();
    demands.flag(at.clone(), Flag::SystemMount, path.is_system());
    // In the place of the engine's own, which has `ShmSize`.
    if path.is_shm() {
        sizes.iter().for_each(|size| limit(at.clone(), Quantity::Shm, *size, demands));
    }
}

fn bind_line(bind: &crate::types::strings::Bind<'_>, facts: &Facts, demands: &mut Demands) {
    const AT: &str = "HostConfig.Binds";
    target(AT, &bind.target, &[None], demands);
    match &bind.source {
        BindSource::Anonymous => {}
        BindSource::Volume(name) => {
            used_volume(AT, name, facts, demands);
            if let Some(propagation) = bind.options.propagation {
                demands.push(AT, Demand::NotUnderstood(format!("propagation `{propagation}` of a volume")));
            }
        }
        BindSource::Host(source) => {
            let bind = Bind {
                source: source.clone(),
                writable: !bind.options.read_only || facts.is_writable_below(source),
                propagation: Bind::propagation(bind.options.propagation.unwrap_or_default()),
                relabel: bind.options.relabel.is_some(),
                create: true,
                plain: false,
            };
            host_path(AT, bind, facts, demands);
        }
    }
}

fn mount_demands(mount: &Mount<'_>, facts: &Facts, view: View<'_>, demands: &mut Demands) {
    const AT: &str = "HostConfig.Mounts";
    let Mount { kind, source, target: place, read_only, consistency: _, bind_options, volume_options, tmpfs_options, image_options, cluster_options } =
        mount;
    let kind = kind.as_deref().unwrap_or_default();
    let sizes = if kind == "tmpfs" { tmpfs_mount(AT, tmpfs_options.as_ref(), demands) } else { vec![None] };
    match place {
        Some(path) => target(AT, path, &sizes, demands),
        None => demands.push(AT, Demand::NotUnderstood("a mount without a target".to_owned())),
    }
    let source = source.as_deref().unwrap_or_default();
    let stray = [
        ("BindOptions", bind_options.is_some(), "bind"),
        ("VolumeOptions", volume_options.is_some(), "volume"),
        ("TmpfsOptions", tmpfs_options.is_some(), "tmpfs"),
        ("ImageOptions", image_options.is_some(), "image"),
        ("ClusterOptions", cluster_options.is_some(), "cluster"),
    ];
    for (name, _, _) in stray.into_iter().filter(|(_, given, of)| *given && *of != kind) {
        demands.push(AT, Demand::NotUnderstood(format!("{name} of a `{}` mount", kind.escape_debug())));
    }
    match kind {
        "bind" => bind_mount(source, *read_only == Some(true), bind_options.as_ref(), facts, demands),
        "volume" => {
            // A stored one carries the label that was set for it, and its volume was judged when it was mounted.
            let given = volume_options.as_ref().and_then(|options| options.labels.as_ref()).filter(|_| matches!(view, View::Request));
            labels(AT, given, demands);
            if matches!(view, View::Request) && !source.is_empty() {
                used_volume(AT, source, facts, demands);
            }
            volume_mount(AT, volume_options.as_ref(), demands);
        }
        "tmpfs" => {}
        "image" => {
            image(AT, source, facts, demands);
            if let Some(ImageOptions { subpath }) = image_options {
                inner_path(AT, subpath.as_deref().unwrap_or_default(), demands);
            }
        }
        other => demands.push(AT, Demand::NotUnderstood(format!("a mount of type `{}`", other.escape_debug()))),
    }
}

fn bind_mount(source: &str, read_only: bool, options: Option<&BindOptions<'_>>, facts: &Facts, demands: &mut Demands) {
    let at = "HostConfig.Mounts";
    let Some(source) = clean_path(source) else {
        demands.push(at, Demand::NotUnderstood(format!("`{}` is not an absolute path", source.escape_debug())));
        return;
    };
    let (propagation, create, part_writable) = match options {
        Some(BindOptions { propagation, non_recursive: _, create_mountpoint, read_only_non_recursive, read_only_force_recursive: _ }) => {
            (propagation.as_deref().unwrap_or_default(), *create_mountpoint == Some(true), *read_only_non_recursive == Some(true))
        }
        None => ("", false, false),
    };
    let propagation = Bind::propagation(propagation);
    // Below a read-only mount other mounts may stay writable; then it is judged as a writable one.
    let part_writable = part_writable || facts.is_writable_below(&source);
    host_path(at, Bind { source, writable: !read_only || part_writable, propagation, relabel: false, create, plain: false }, facts, demands);
}

fn volume_mount(at: &'static str, options: Option<&VolumeOptions<'_>>, demands: &mut Demands) {
    let Some(VolumeOptions { no_copy: _, labels: _, driver_config, subpath }) = options else { return };
    inner_path(at, subpath.as_deref().unwrap_or_default(), demands);
    if let Some(DriverConfig { name, options }) = driver_config {
        volume_driver(at, at, name.as_ref(), options.as_ref(), demands);
    }
}

/// A path inside a volume or image: relative, and not out of it.
fn inner_path(at: &'static str, path: &str, demands: &mut Demands) {
    if path.starts_with('/') || path.split('/').any(|part| part == "..") || path.chars().any(char::is_control) {
        demands.push(at, Demand::NotUnderstood(format!("subpath `{}`", path.escape_debug())));
    }
}

fn tmpfs_mount(at: &'static str, options: Option<&TmpfsOptions<'_>>, demands: &mut Demands) -> Vec<Option<i64>> {
    let none = TmpfsOptions::default();
    let TmpfsOptions { size_bytes, mode: _, options } = options.unwrap_or(&none);
    let options: Vec<String> = options.iter().flatten().map(|option| option.iter().map(|part| part.as_str()).collect::<Vec<_>>().join("=")).collect();
    tmpfs_options(at, *size_bytes, options.iter().map(String::as_str), demands)
}

/// A line of `HostConfig.Tmpfs`: mount options as `mount(8)` writes them.
fn tmpfs_line(path: &str, options: &str, demands: &mut Demands) {
    const AT: &str = "HostConfig.Tmpfs";
    let sizes = tmpfs_options(AT, None, options.split(',').filter(|option| !option.is_empty()), demands);
    written_target(AT, path, &sizes, demands);
}

/// Mount options of a tmpfs; gives back its sizes. Which of several holds is the kernel's matter: each is demanded. One without a size is unlimited:
/// the kernel's default is half of the memory (Documentation/filesystems/tmpfs.rst).
fn tmpfs_options<'o>(at: &'static str, size: Option<i64>, options: impl Iterator<Item = &'o str>, demands: &mut Demands) -> Vec<Option<i64>> {
    let mut sizes: Vec<Option<i64>> = size.filter(|size| *size != 0).map(Some).into_iter().collect();
    for option in options {
        match option.split_once('=') {
            Some(("size", size)) => match tmpfs_size(size) {
                Some(bytes) => sizes.push(bytes),
                None => demands.push(at, Demand::NotUnderstood(format!("size `{}` of a tmpfs", size.escape_debug()))),
            },
            // Pages, which have another size on another machine.
            Some(("nr_blocks", _)) => sizes.push(None),
            Some(("mode" | "uid" | "gid" | "nr_inodes", _)) => {}
            None if matches!(option, "ro" | "rw" | "noexec" | "nosuid" | "nodev" | "noatime" | "nodiratime" | "relatime" | "strictatime") => {}
            _ => demands.named(at, Name::TmpfsOption, option),
        }
    }
    if sizes.is_empty() {
        sizes.push(None);
    }
    sizes.iter().for_each(|size| limit(at, Quantity::Tmpfs, *size, demands));
    sizes
}

/// The bytes of `size=`, as the kernel reads them (lib/cmdline.c, `memparse`); inner `None`: a share of the memory. Octal and hexadecimal ones are
/// not read: nobody writes them.
fn tmpfs_size(text: &str) -> Option<Option<i64>> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let decimal = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    let number = digits.parse::<i64>().ok().filter(|_| decimal)?;
    match text.get(digits.len()..)?.to_ascii_lowercase().as_str() {
        "%" => Some(None),
        unit => Some(Some(number.checked_mul(1 << shift(unit)?)?)),
    }
}

/// By how many bits a unit shifts a number.
fn shift(unit: &str) -> Option<u32> {
    ["", "k", "m", "g", "t", "p", "e"].iter().zip([0, 10, 20, 30, 40, 50, 60]).find(|(name, _)| **name == unit).map(|(_, bits)| bits)
}

fn network(at: &'static str, mode: Option<&NetworkMode<'_>>, facts: &Facts, demands: &mut Demands) {
    match mode {
        Some(NetworkMode::Container(container)) => used_container(at, Role::JoinNetwork, container.as_str(), facts, demands),
        Some(NetworkMode::Host) => demands.flag(at, Flag::HostNetwork, true),
        Some(NetworkMode::Network(network)) => used_network(at, network, facts, demands),
        Some(NetworkMode::None) => used_network(at, "none", facts, demands),
        Some(NetworkMode::Default) | None => used_network(at, "default", facts, demands),
    }
}

/// A namespace that has only two words: nothing, and `host`.
fn own_namespace(at: &'static str, flag: Flag, mode: Option<&Text<'_>>, demands: &mut Demands) {
    match mode.map_or("", |mode| mode.as_str()) {
        "" | "private" => {}
        "host" => demands.flag(at, flag, true),
        other => demands.push(at, Demand::NotUnderstood(format!("`{}`", other.escape_debug()))),
    }
}

/// The capabilities that a container has in effect: the default ones, less those dropped, and those added.
fn capability_demands(add: Option<&[Text<'_>]>, drop: Option<&[Text<'_>]>, exact: Option<&[Text<'_>]>, demands: &mut Demands) {
    let canonical = |text: &Text<'_>| {
        let upper = text.to_ascii_uppercase();
        upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned()
    };
    let dropped: BTreeSet<String> = drop.unwrap_or_default().iter().map(canonical).collect();
    if let Some(exact) = exact.filter(|exact| !exact.is_empty()) {
        exact.iter().for_each(|name| demands.push("HostConfig.Capabilities", Demand::Named(Name::Capability, format!("+{}", canonical(name)))));
    }
    let all_dropped = dropped.contains("ALL");
    for name in DEFAULT_CAPABILITIES.iter().filter(|name| !all_dropped && !dropped.contains(**name)) {
        demands.named("HostConfig.CapDrop", Name::Capability, name);
    }
    // `--cap-drop ALL --cap-add CHOWN` keeps one of the default ones. Any other is an addition, and `+` says so: also one that is there anyway,
    // which nobody asks for who knows what they have. With `ALL` added, what is dropped besides is still everything else: judged as all.
    for name in add.unwrap_or_default().iter().map(canonical) {
        let kept = DEFAULT_CAPABILITIES.contains(&name.as_str()) && (all_dropped || dropped.contains(&name));
        demands.push("HostConfig.CapAdd", Demand::Named(Name::Capability, if kept { name } else { format!("+{name}") }));
    }
}

/// moby daemon/pkg/oci/caps/defaults.go.
pub const DEFAULT_CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// `unlabelled`: the engine has added `label=disable` itself.
fn security_options(options: Option<&[SecurityOption<'_>]>, unlabelled: bool, demands: &mut Demands) {
    let options = options.unwrap_or_default();
    let own = |option: &SecurityOption<'_>| unlabelled && matches!(option, SecurityOption::Label(value) if value == &"disable");
    options.iter().filter(|option| !own(option)).for_each(|option| security_option("HostConfig.SecurityOpt", option, demands));
    // The last one wins in the engine; here one that turns it off is enough.
    let on = options.contains(&SecurityOption::NoNewPrivileges(true)) && !options.contains(&SecurityOption::NoNewPrivileges(false));
    demands.flag("HostConfig.SecurityOpt", Flag::NewPrivileges, !on);
}

/// An option of the security modules. `no-new-privileges=false` is refused as what it is: a way to undo the engine's own default.
pub(super) fn security_option(at: &'static str, option: &SecurityOption<'_>, demands: &mut Demands) {
    match option {
        SecurityOption::AppArmor(profile) => demands.push(at, Demand::Named(Name::AppArmor, profile.to_string())),
        SecurityOption::Label(value) => demands.push(at, Demand::Named(Name::SelinuxLabel, value.to_string())),
        SecurityOption::NoNewPrivileges(true) => {}
        SecurityOption::NoNewPrivileges(false) => {
            demands.push(at, Demand::NotUnderstood("no-new-privileges=false undoes a default of the engine".to_owned()))
        }
        SecurityOption::Seccomp(profile) => demands
            .push(at, Demand::Named(Name::Seccomp, if profile.trim_start().starts_with('{') { "custom".to_owned() } else { profile.to_string() })),
        SecurityOption::SystemPaths(value) => {
            demands.flag(at, Flag::UnmaskedPaths, true);
            demands.flag(at, Flag::WritableKernel, true);
            if value != &"unconfined" {
                demands.push(at, Demand::NotUnderstood(format!("systempaths=`{}`", value.escape_debug())));
            }
        }
        SecurityOption::WritableCgroups(on) => demands.flag(at, Flag::WritableCgroups, *on),
    }
}

/// The lists of masked and read-only paths. A request that names any replaces the engine's whole list; a stored one is the engine's.
fn paths(at: &'static str, flag: Flag, list: Option<&[Text<'_>]>, view: View<'_>, demands: &mut Demands) {
    let Some(list) = list else { return };
    let needed: &[&str] = match (view, flag) {
        (View::Request, _) => return demands.flag(at, flag, true),
        (View::Stored(_), Flag::UnmaskedPaths) => &ALWAYS_MASKED,
        (View::Stored(_), _) => &ALWAYS_READONLY,
    };
    demands.flag(at, flag, !needed.iter().all(|path| list.iter().any(|given| given.as_str() == *path)));
}

/// moby daemon/pkg/oci/defaults.go, those of every engine from 20.10 on.
const ALWAYS_MASKED: [&str; 9] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
];
const ALWAYS_READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn log(at: &'static str, config: Option<&LogConfig<'_>>, view: View<'_>, demands: &mut Demands) {
    let Some(LogConfig { driver, config }) = config else { return };
    let driver = driver.as_deref().unwrap_or_default();
    if view.is_default(|defaults| defaults.log_driver == driver) {
        return;
    }
    demands.named(at, Name::LogDriver, driver);
    for (key, value) in config.iter().flat_map(|map| map.iter()) {
        demands.named(at, Name::LogOption, key);
        if let Err(why) = log_option(key, value) {
            demands.push(at, Demand::NotUnderstood(format!("log option `{key}={}`: {why}", value.escape_debug())));
        }
    }
}

/// Whether the engine can bear a value. It keeps the buffer, moves the files and evaluates the tag itself, in its own memory and time, whatever
/// limits the container has (moby daemon/logger/ring.go, loggerutils/logfile.go, templates/templates.go).
fn log_option(key: &str, value: &str) -> Result<(), String> {
    const MOST_FILES: u64 = 1000;
    const LEAST_FILE: u64 = 4 << 10;
    const MOST_BUFFER: u64 = 64 << 20;
    let size = |allowed: fn(&u64) -> bool| log_size(value).filter(allowed).map(drop);
    match key {
        "max-file" if !value.parse().is_ok_and(|files: u64| (1..=MOST_FILES).contains(&files)) => {
            Err(format!("it must be a number from 1 to {MOST_FILES}"))
        }
        "max-size" if value != "-1" && size(|size| *size >= LEAST_FILE).is_none() => Err("it must be `-1`, or a size of at least 4k".to_owned()),
        "max-buffer-size" if size(|size| *size <= MOST_BUFFER).is_none() => Err("it must be a size of at most 64m".to_owned()),
        "tag" if !is_plain_tag(value) => {
            let fields = TAG_FIELDS.map(|field| format!("{{{{{field}}}}}")).join(", ");
            Err(format!("a template runs in the engine, and may name {fields} and nothing else"))
        }
        _ => Ok(()),
    }
}

/// A size as it is usually written: a number, and `k`, `m` or `g`, maybe with `b`.
fn log_size(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let text = lower.strip_suffix('b').unwrap_or(&lower);
    let digits = text.trim_end_matches(['k', 'm', 'g']);
    let number = digits.parse::<u64>().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()))?;
    number.checked_mul(1 << shift(text.get(digits.len()..)?)?)
}

/// What a tag of a log may have of its container (moby daemon/logger/loginfo.go).
const TAG_FIELDS: [&str; 8] = [".ID", ".FullID", ".Name", ".ImageID", ".ImageFullID", ".ImageName", ".DaemonName", ".Command"];

/// Whether a template does nothing but name fields: its functions run in the engine (`{{pad "" 1000000000000 0}}`).
fn is_plain_tag(template: &str) -> bool {
    let mut parts = template.split("{{");
    let before = parts.next().unwrap_or_default();
    !before.contains("}}")
        && parts.all(|part| part.split_once("}}").is_some_and(|(field, text)| TAG_FIELDS.contains(&field.trim_matches(' ')) && !text.contains("}}")))
}

type PortBindings<'a> = Map<'a, Option<Vec<Option<PortBinding<'a>>>>>;

fn ports(bindings: Option<&PortBindings<'_>>, all: bool, demands: &mut Demands) {
    if all {
        demands.push("HostConfig.PublishAllPorts", Demand::Port(Port { address: None, ports: None, protocol: "tcp" }));
    }
    understood_ports("HostConfig.PortBindings", bindings.iter().flat_map(|map| map.keys()), demands);
    for (key, list) in bindings.iter().flat_map(|map| map.iter()) {
        let Some(PortKey { protocol, .. }) = PortKey::parse(key) else { continue };
        // No binding, an empty list and an empty binding are all one ephemeral port (29.7, measured).
        let list = list.as_deref().unwrap_or_default();
        if list.is_empty() {
            port(&PortBinding::default(), protocol, demands);
        }
        list.iter().for_each(|binding| port(binding.as_ref().unwrap_or(&PortBinding::default()), protocol, demands));
    }
}

fn understood_ports<'k>(at: &'static str, keys: impl Iterator<Item = &'k Text<'k>>, demands: &mut Demands) {
    for key in keys.filter(|key| PortKey::parse(key).is_none()) {
        demands.push(at, Demand::NotUnderstood(format!("`{}` is no port", key.escape_debug())));
    }
}

/// How many ports of the host it takes: for each the engine has a process of its own (moby libnetwork/portmapper). Of a range of the host's ports it
/// takes one; with all published, the exposed ones that have no binding too.
fn published<'p>(host: Option<&HostConfig<'_>>, exposed: impl Iterator<Item = &'p str>, demands: &mut Demands) {
    let Some(HostConfig { port_bindings, publish_all_ports, .. }) = host else { return };
    let bindings = port_bindings.iter().flat_map(|map| map.iter()).filter_map(|(key, list)| Some((PortKey::parse(key)?, list.as_ref())));
    let mut bound = BTreeSet::new();
    let mut count = 0;
    for (key, list) in bindings {
        bound.insert(key);
        count += key.count() * list.map_or(1, |list| u64::try_from(list.len()).unwrap_or(u64::MAX).max(1));
    }
    let mut amount = Some(count);
    if *publish_all_ports == Some(true) {
        // One that is not understood is of any number.
        let others: Option<BTreeSet<PortKey>> = exposed.map(PortKey::parse).collect();
        amount = others.map(|others| others.difference(&bound).fold(count, |count, key| count.saturating_add(key.count())));
    }
    if amount != Some(0) {
        demands.push("HostConfig.PortBindings", Demand::Quantity(Quantity::Ports, Amount(amount)));
    }
}

fn port(PortBinding { host_ip, host_port }: &PortBinding<'_>, protocol: &'static str, demands: &mut Demands) {
    const AT: &str = "HostConfig.PortBindings";
    let address = match host_ip.as_deref().unwrap_or_default() {
        "" | "0.0.0.0" | "::" => None,
        text => match text.parse() {
            Ok(address) => Some(address),
            Err(_) => return demands.push(AT, Demand::NotUnderstood(format!("`{}` is no address", text.escape_debug()))),
        },
    };
    let ports = match host_port.as_deref().unwrap_or_default() {
        "" | "0" => None,
        text => match parse_ports(text) {
            Some(ports) => Some(ports),
            None => return demands.push(AT, Demand::NotUnderstood(format!("`{}` is no port", text.escape_debug()))),
        },
    };
    demands.push(AT, Demand::Port(Port { address, ports, protocol }));
}

/// What goes into the container's `resolv.conf` and `hosts`. A newline in one of them would write lines of its own (measured on 26.1).
fn name_service(
    dns: Option<&[Text<'_>]>,
    options: Option<&[Text<'_>]>,
    search: Option<&[Text<'_>]>,
    hosts: Option<&[ExtraHost<'_>]>,
    demands: &mut Demands,
) {
    for server in dns.unwrap_or_default() {
        match server.parse::<std::net::IpAddr>() {
            Ok(address) => demands.push("HostConfig.Dns", Demand::Named(Name::Dns, address.to_string())),
            Err(_) => demands.push("HostConfig.Dns", Demand::NotUnderstood(format!("`{}` is no address", server.escape_debug()))),
        }
    }
    for (at, list) in [("HostConfig.DnsOptions", options), ("HostConfig.DnsSearch", search)] {
        let word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-'));
        if let Some(text) = list.unwrap_or_default().iter().find(|text| !word(text)) {
            demands.push(at, Demand::NotUnderstood(format!("`{}`", text.escape_debug())));
        }
    }
    for ExtraHost { name: _, address } in hosts.unwrap_or_default() {
        match address {
            Some(address) => demands.push("HostConfig.ExtraHosts", Demand::Named(Name::ExtraHost, address.to_string())),
            None => demands.flag("HostConfig.ExtraHosts", Flag::HostGateway, true),
        }
    }
}
