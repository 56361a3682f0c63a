//! `POST /containers/create` and `POST /containers/{id}/update`: api/swagger.yaml, `ContainerConfig`, `HostConfig`, `Resources`, `Mount`.
//!
//! All fields of API 1.24 to 1.55, those of Windows engines and those that were removed on the way included.

use crate::types::network::{EndpointSettings, NetworkingConfig};
use crate::types::strings::{Bind, CgroupnsMode, ContainerPath, ExtraHost, IpcMode, Link, NetworkMode, PidMode, SecurityOption, VolumeFrom};
use crate::wire::{Empty, Map, Text, Words, body};

body! {
    /// The body of `POST /containers/create`: the container's configuration, flattened, with what belongs to the host beside it.
    pub struct ContainerCreate<'a> {
        /// The container's host name.
        hostname: Text<'a> = "Hostname",
        /// Its domain name.
        domainname: Text<'a> = "Domainname",
        /// The user that its process runs as: `name`, `uid`, `name:group`, `uid:gid`.
        user: Text<'a> = "User",
        /// Attach standard input.
        attach_stdin: bool = "AttachStdin",
        /// Attach standard output.
        attach_stdout: bool = "AttachStdout",
        /// Attach standard error.
        attach_stderr: bool = "AttachStderr",
        /// Ports that the container says it listens on.
        exposed_ports: Map<'a, Empty> = "ExposedPorts",
        /// Give it a terminal.
        tty: bool = "Tty",
        /// Keep standard input open.
        open_stdin: bool = "OpenStdin",
        /// Close standard input after the first client.
        stdin_once: bool = "StdinOnce",
        /// Environment, `KEY=value`.
        env: Vec<Text<'a>> = "Env",
        /// The command.
        cmd: Words<'a> = "Cmd",
        /// The health check.
        healthcheck: Healthcheck<'a> = "Healthcheck",
        /// Windows.
        args_escaped: bool = "ArgsEscaped",
        /// The image: a reference, an id, or the beginning of an id.
        image: Text<'a> = "Image",
        /// Paths that get an anonymous volume.
        volumes: Map<'a, Empty> = "Volumes",
        /// The directory that the process starts in.
        working_dir: Text<'a> = "WorkingDir",
        /// The entry point.
        entrypoint: Words<'a> = "Entrypoint",
        /// No networking at all.
        network_disabled: bool = "NetworkDisabled",
        /// Hardware address; in the endpoint's settings since 1.44.
        mac_address: Text<'a> = "MacAddress",
        /// Build triggers of the image; without meaning at create.
        on_build: Vec<Text<'a>> = "OnBuild",
        /// Labels.
        labels: Map<'a, Text<'a>> = "Labels",
        /// The signal that `stop` sends.
        stop_signal: Text<'a> = "StopSignal",
        /// Seconds that `stop` waits.
        stop_timeout: i64 = "StopTimeout",
        /// The shell of shell-form commands.
        shell: Vec<Text<'a>> = "Shell",
        /// What the container gets from the host.
        host_config: HostConfig<'a> = "HostConfig",
        /// The networks that it is attached to.
        networking_config: NetworkingConfig<'a> = "NetworkingConfig",
        ; drop {
            name = "name",
            platform = "platform",
            auth_config = "authConfig",
        }
    }
}

body! {
    /// A health check. Durations are in nanoseconds.
    pub struct Healthcheck<'a> {
        /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", …]`.
        test: Vec<Text<'a>> = "Test",
        /// Time between checks.
        interval: i64 = "Interval",
        /// Time that one check may take.
        timeout: i64 = "Timeout",
        /// Failures until it is unhealthy.
        retries: i64 = "Retries",
        /// Time at the start in which failures do not count.
        start_period: i64 = "StartPeriod",
        /// Time between checks at the start (1.44).
        start_interval: i64 = "StartInterval",
    }
}

body! {
    /// What a container gets from the host.
    pub struct HostConfig<'a> {
        /// Host paths and named volumes, `source:target[:options]`.
        binds: Vec<Bind<'a>> = "Binds",
        /// A file on the client's side; engines ignore it.
        container_id_file: Text<'a> = "ContainerIDFile",
        /// Where its output goes.
        log_config: LogConfig<'a> = "LogConfig",
        /// The network that it starts in.
        network_mode: NetworkMode<'a> = "NetworkMode",
        /// Ports of the host that lead into it.
        port_bindings: Map<'a, Option<Vec<Option<PortBinding<'a>>>>> = "PortBindings",
        /// When the engine starts it again.
        restart_policy: RestartPolicy<'a> = "RestartPolicy",
        /// Remove it when it ends.
        auto_remove: bool = "AutoRemove",
        /// The driver of volumes that do not exist yet.
        volume_driver: Text<'a> = "VolumeDriver",
        /// Containers whose mounts it inherits.
        volumes_from: Vec<VolumeFrom<'a>> = "VolumesFrom",
        /// Rows and columns of the terminal.
        console_size: [u32; 2] = "ConsoleSize",
        /// Annotations for the OCI runtime (1.43).
        annotations: Map<'a, Text<'a>> = "Annotations",
        /// Capabilities beyond the default ones.
        cap_add: Vec<Text<'a>> = "CapAdd",
        /// Capabilities of the default ones that it does not keep.
        cap_drop: Vec<Text<'a>> = "CapDrop",
        /// The exact set of capabilities (1.40 only).
        capabilities: Vec<Text<'a>> = "Capabilities",
        /// The cgroup namespace (1.41).
        cgroupns_mode: CgroupnsMode<'a> = "CgroupnsMode",
        /// DNS servers.
        dns: Vec<Text<'a>> = "Dns",
        /// Options of the resolver.
        dns_options: Vec<Text<'a>> = "DnsOptions",
        /// Search domains.
        dns_search: Vec<Text<'a>> = "DnsSearch",
        /// Lines for its hosts file, `name:address`.
        extra_hosts: Vec<ExtraHost<'a>> = "ExtraHosts",
        /// Supplementary groups.
        group_add: Vec<Text<'a>> = "GroupAdd",
        /// The IPC namespace.
        ipc_mode: IpcMode<'a> = "IpcMode",
        /// The cgroup of another container; engines store it.
        cgroup: Text<'a> = "Cgroup",
        /// Containers whose names and environment it sees.
        links: Vec<Link<'a>> = "Links",
        /// Preference of the OOM killer.
        oom_score_adj: i64 = "OomScoreAdj",
        /// The PID namespace.
        pid_mode: PidMode<'a> = "PidMode",
        /// Everything.
        privileged: bool = "Privileged",
        /// A free port of the host for every exposed port.
        publish_all_ports: bool = "PublishAllPorts",
        /// The root filesystem is read-only.
        readonly_rootfs: bool = "ReadonlyRootfs",
        /// Options of the security modules.
        security_opt: Vec<SecurityOption<'a>> = "SecurityOpt",
        /// Options of the storage driver.
        storage_opt: Map<'a, Text<'a>> = "StorageOpt",
        /// In-memory filesystems: path to mount options.
        tmpfs: Map<'a, Text<'a>> = "Tmpfs",
        /// The UTS namespace.
        uts_mode: Text<'a> = "UTSMode",
        /// The user namespace.
        userns_mode: Text<'a> = "UsernsMode",
        /// Bytes of `/dev/shm`.
        shm_size: i64 = "ShmSize",
        /// Kernel parameters.
        sysctls: Map<'a, Text<'a>> = "Sysctls",
        /// The OCI runtime.
        runtime: Text<'a> = "Runtime",
        /// Windows.
        isolation: Text<'a> = "Isolation",
        /// Mounts.
        mounts: Vec<Mount<'a>> = "Mounts",
        /// Paths of `/proc` and `/sys` that it cannot see. An empty list is not a missing one: it unmasks everything.
        masked_paths: Vec<Text<'a>> = "MaskedPaths",
        /// Paths of `/proc` and `/sys` that it cannot write. An empty list is not a missing one.
        readonly_paths: Vec<Text<'a>> = "ReadonlyPaths",
        /// Run an init inside (1.25).
        init: bool = "Init",
        /// Path of the init on the host (1.25, experimental).
        init_path: Text<'a> = "InitPath",
        /// Relative weight of CPU time.
        cpu_shares: i64 = "CpuShares",
        /// Bytes of memory.
        memory: i64 = "Memory",
        /// Billionths of a CPU.
        nano_cpus: i64 = "NanoCpus",
        /// The cgroup that its own is made in.
        cgroup_parent: Text<'a> = "CgroupParent",
        /// Relative weight of block I/O.
        blkio_weight: i64 = "BlkioWeight",
        /// Weights by device.
        blkio_weight_device: Vec<WeightDevice<'a>> = "BlkioWeightDevice",
        /// Bytes a second by device.
        blkio_device_read_bps: Vec<ThrottleDevice<'a>> = "BlkioDeviceReadBps",
        /// Bytes a second by device.
        blkio_device_write_bps: Vec<ThrottleDevice<'a>> = "BlkioDeviceWriteBps",
        /// Operations a second by device.
        blkio_device_read_iops: Vec<ThrottleDevice<'a>> = "BlkioDeviceReadIOps",
        /// Operations a second by device.
        blkio_device_write_iops: Vec<ThrottleDevice<'a>> = "BlkioDeviceWriteIOps",
        /// Microseconds of a CFS period.
        cpu_period: i64 = "CpuPeriod",
        /// Microseconds of CPU in a period.
        cpu_quota: i64 = "CpuQuota",
        /// Microseconds of a real-time period.
        cpu_realtime_period: i64 = "CpuRealtimePeriod",
        /// Microseconds of real-time CPU in a period.
        cpu_realtime_runtime: i64 = "CpuRealtimeRuntime",
        /// The CPUs that it may use.
        cpuset_cpus: Text<'a> = "CpusetCpus",
        /// The memory nodes that it may use.
        cpuset_mems: Text<'a> = "CpusetMems",
        /// Devices of the host.
        devices: Vec<Device<'a>> = "Devices",
        /// Rules of the device cgroup (1.28).
        device_cgroup_rules: Vec<Text<'a>> = "DeviceCgroupRules",
        /// Devices by capability, as GPUs are asked for (1.40).
        device_requests: Vec<DeviceRequest<'a>> = "DeviceRequests",
        /// Bytes of disk; never implemented.
        disk_quota: i64 = "DiskQuota",
        /// Bytes of kernel memory (to 1.41).
        kernel_memory: i64 = "KernelMemory",
        /// Bytes of kernel TCP memory (1.40 to 1.51).
        kernel_memory_tcp: i64 = "KernelMemoryTCP",
        /// Bytes that it keeps under pressure.
        memory_reservation: i64 = "MemoryReservation",
        /// Bytes of memory and swap; -1: unlimited.
        memory_swap: i64 = "MemorySwap",
        /// Willingness to swap, 0 to 100; -1: the default.
        memory_swappiness: i64 = "MemorySwappiness",
        /// Spare it from the OOM killer.
        oom_kill_disable: bool = "OomKillDisable",
        /// Most processes; 0 or less: unlimited.
        pids_limit: i64 = "PidsLimit",
        /// Resource limits of processes.
        ulimits: Vec<Ulimit<'a>> = "Ulimits",
        /// Windows.
        cpu_count: i64 = "CpuCount",
        /// Windows.
        cpu_percent: i64 = "CpuPercent",
        /// Windows.
        io_maximum_iops: u64 = "IOMaximumIOps",
        /// Windows.
        io_maximum_bandwidth: u64 = "IOMaximumBandwidth",
    }
}

body! {
    /// The body of `POST /containers/{id}/update`: limits, and the restart policy.
    pub struct ContainerUpdate<'a> {
        /// See [`HostConfig`], as all of these.
        restart_policy: RestartPolicy<'a> = "RestartPolicy",
        /// Relative weight of CPU time.
        cpu_shares: i64 = "CpuShares",
        /// Bytes of memory.
        memory: i64 = "Memory",
        /// Billionths of a CPU.
        nano_cpus: i64 = "NanoCpus",
        /// Engines ignore it here.
        cgroup_parent: Text<'a> = "CgroupParent",
        /// Relative weight of block I/O.
        blkio_weight: i64 = "BlkioWeight",
        /// In force since 1.55.
        blkio_weight_device: Vec<WeightDevice<'a>> = "BlkioWeightDevice",
        /// In force since 1.55.
        blkio_device_read_bps: Vec<ThrottleDevice<'a>> = "BlkioDeviceReadBps",
        /// In force since 1.55.
        blkio_device_write_bps: Vec<ThrottleDevice<'a>> = "BlkioDeviceWriteBps",
        /// In force since 1.55.
        blkio_device_read_iops: Vec<ThrottleDevice<'a>> = "BlkioDeviceReadIOps",
        /// In force since 1.55.
        blkio_device_write_iops: Vec<ThrottleDevice<'a>> = "BlkioDeviceWriteIOps",
        /// Microseconds of a CFS period.
        cpu_period: i64 = "CpuPeriod",
        /// Microseconds of CPU in a period.
        cpu_quota: i64 = "CpuQuota",
        /// Microseconds of a real-time period.
        cpu_realtime_period: i64 = "CpuRealtimePeriod",
        /// Microseconds of real-time CPU in a period.
        cpu_realtime_runtime: i64 = "CpuRealtimeRuntime",
        /// The CPUs that it may use.
        cpuset_cpus: Text<'a> = "CpusetCpus",
        /// The memory nodes that it may use.
        cpuset_mems: Text<'a> = "CpusetMems",
        /// Engines ignore it here.
        devices: Vec<Device<'a>> = "Devices",
        /// Engines ignore it here.
        device_cgroup_rules: Vec<Text<'a>> = "DeviceCgroupRules",
        /// Engines ignore it here.
        device_requests: Vec<DeviceRequest<'a>> = "DeviceRequests",
        /// Never implemented.
        disk_quota: i64 = "DiskQuota",
        /// Bytes of kernel memory.
        kernel_memory: i64 = "KernelMemory",
        /// Bytes of kernel TCP memory.
        kernel_memory_tcp: i64 = "KernelMemoryTCP",
        /// Bytes that it keeps under pressure.
        memory_reservation: i64 = "MemoryReservation",
        /// Bytes of memory and swap; -1: unlimited.
        memory_swap: i64 = "MemorySwap",
        /// Willingness to swap.
        memory_swappiness: i64 = "MemorySwappiness",
        /// Spare it from the OOM killer.
        oom_kill_disable: bool = "OomKillDisable",
        /// Most processes.
        pids_limit: i64 = "PidsLimit",
        /// Engines ignore it here.
        ulimits: Vec<Ulimit<'a>> = "Ulimits",
        /// Windows.
        cpu_count: i64 = "CpuCount",
        /// Windows.
        cpu_percent: i64 = "CpuPercent",
        /// Windows.
        io_maximum_iops: u64 = "IOMaximumIOps",
        /// Windows.
        io_maximum_bandwidth: u64 = "IOMaximumBandwidth",
    }
}

body! {
    /// Where a container's output goes.
    pub struct LogConfig<'a> {
        /// The driver.
        driver: Text<'a> = "Type",
        /// Its options.
        config: Map<'a, Text<'a>> = "Config",
    }
}

body! {
    /// A port of the host.
    pub struct PortBinding<'a> {
        /// The address; empty: all of them.
        host_ip: Text<'a> = "HostIp",
        /// A port, a range `8000-8010`, or empty: the engine chooses.
        host_port: Text<'a> = "HostPort",
    }
}

body! {
    /// When the engine starts a container again.
    pub struct RestartPolicy<'a> {
        /// ``, `no`, `on-failure`, `always`, `unless-stopped`.
        name: Text<'a> = "Name",
        /// How often, for `on-failure`.
        maximum_retry_count: i64 = "MaximumRetryCount",
    }
}

body! {
    /// A mount.
    pub struct Mount<'a> {
        /// `bind`, `volume`, `tmpfs`, `image` (1.48), `cluster`, `npipe`.
        kind: Text<'a> = "Type",
        /// A host path, a volume's name, or an image.
        source: Text<'a> = "Source",
        /// Where it appears in the container.
        target: ContainerPath<'a> = "Target",
        /// It cannot be written.
        read_only: bool = "ReadOnly",
        /// macOS.
        consistency: Text<'a> = "Consistency",
        /// Options of `bind`.
        bind_options: BindOptions<'a> = "BindOptions",
        /// Options of `volume`.
        volume_options: VolumeOptions<'a> = "VolumeOptions",
        /// Options of `tmpfs`.
        tmpfs_options: TmpfsOptions<'a> = "TmpfsOptions",
        /// Options of `image` (1.48).
        image_options: ImageOptions<'a> = "ImageOptions",
        /// Options of `cluster` (1.42).
        cluster_options: Empty = "ClusterOptions",
    }
}

body! {
    /// Options of a bind mount.
    pub struct BindOptions<'a> {
        /// `private`, `rprivate`, `shared`, `rshared`, `slave`, `rslave`.
        propagation: Text<'a> = "Propagation",
        /// Without the mounts below it (1.40).
        non_recursive: bool = "NonRecursive",
        /// Make the directory when it is missing (1.42).
        create_mountpoint: bool = "CreateMountpoint",
        /// Mounts below stay writable (1.44).
        read_only_non_recursive: bool = "ReadOnlyNonRecursive",
        /// Fail when mounts below cannot be made read-only (1.44).
        read_only_force_recursive: bool = "ReadOnlyForceRecursive",
    }
}

body! {
    /// Options of a volume mount.
    pub struct VolumeOptions<'a> {
        /// Do not copy the image's content into it.
        no_copy: bool = "NoCopy",
        /// Labels, when it is made.
        labels: Map<'a, Text<'a>> = "Labels",
        /// Driver and options, when it is made. The `local` driver's options mount any host path.
        driver_config: DriverConfig<'a> = "DriverConfig",
        /// A path inside it (1.45).
        subpath: Text<'a> = "Subpath",
    }
}

body! {
    /// A driver with its options.
    pub struct DriverConfig<'a> {
        /// The driver.
        name: Text<'a> = "Name",
        /// Its options.
        options: Map<'a, Text<'a>> = "Options",
    }
}

body! {
    /// Options of an in-memory filesystem.
    pub struct TmpfsOptions<'a> {
        /// Most bytes.
        size_bytes: i64 = "SizeBytes",
        /// Mode of its root.
        mode: u32 = "Mode",
        /// Mount options, each `[name]` or `[name, value]` (1.46).
        options: Vec<Vec<Text<'a>>> = "Options",
    }
}

body! {
    /// Options of an image mount.
    pub struct ImageOptions<'a> {
        /// A path inside it.
        subpath: Text<'a> = "Subpath",
    }
}

body! {
    /// A device of the host.
    pub struct Device<'a> {
        /// A device, or a directory of them.
        path_on_host: Text<'a> = "PathOnHost",
        /// Where it appears.
        path_in_container: Text<'a> = "PathInContainer",
        /// Any of `r`, `w`, `m`.
        cgroup_permissions: Text<'a> = "CgroupPermissions",
    }
}

body! {
    /// A request for devices by capability.
    pub struct DeviceRequest<'a> {
        /// `nvidia`, `cdi`, …
        driver: Text<'a> = "Driver",
        /// How many; -1: all.
        count: i64 = "Count",
        /// Which.
        device_ids: Vec<Text<'a>> = "DeviceIDs",
        /// Alternatives of capabilities.
        capabilities: Vec<Vec<Text<'a>>> = "Capabilities",
        /// Options of the driver.
        options: Map<'a, Text<'a>> = "Options",
    }
}

body! {
    /// A weight for a device.
    pub struct WeightDevice<'a> {
        /// Its path on the host; the engine looks at it.
        path: Text<'a> = "Path",
        /// 10 to 1000.
        weight: u16 = "Weight",
    }
}

body! {
    /// A rate for a device.
    pub struct ThrottleDevice<'a> {
        /// Its path on the host; the engine looks at it.
        path: Text<'a> = "Path",
        /// A second.
        rate: u64 = "Rate",
    }
}

body! {
    /// A resource limit of processes.
    pub struct Ulimit<'a> {
        /// As `nofile`.
        name: Text<'a> = "Name",
        /// The soft limit.
        soft: i64 = "Soft",
        /// The hard limit.
        hard: i64 = "Hard",
    }
}

impl<'a> ContainerCreate<'a> {
    /// The endpoints that the request names, key and settings.
    pub fn endpoints(&self) -> impl Iterator<Item = (&Text<'a>, Option<&EndpointSettings<'a>>)> {
        self.networking_config
            .iter()
            .flat_map(|config| config.endpoints_config.iter())
            .flat_map(|endpoints| endpoints.iter())
            .map(|(key, settings)| (key, settings.as_ref()))
    }
}

/// Names that the create's query repeats when dockerode writes it; engines ignore them there.
pub(crate) const ALSO_IN_QUERY: &[&[&str]] = &[ContainerCreate::FIELDS];
