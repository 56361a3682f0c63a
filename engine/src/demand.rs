//! Demands: everything that a request would make the engine do, beyond what every container gets in a hardened default.
//!
//! The absence of hardening is a demand like any other: a container without a memory limit demands unlimited memory.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;

use crate::facts::{Object, ObjectKind, Owner};
use crate::operation::{Effect, Family, Operation};
use crate::reference::ImageReference;

/// A demand and the place of the request that makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demanded {
    /// Path of the field, or of the query key; `request` for the operation itself.
    pub at: Cow<'static, str>,
    /// What is demanded.
    pub demand: Demand,
}

/// Something that a request would make the engine do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Demand {
    /// A path of the host in a container.
    Bind(Bind),
    /// Something that is on or off.
    Flag(Flag),
    /// Something that has a name.
    Named(Name, String),
    /// An image: to run, pull, build from, look at.
    Image(ImageUse),
    /// Nothing that a policy could grant: a value that is not understood.
    NotUnderstood(String),
    /// The operation, on an object where it has one.
    Operate(Operate),
    /// A port of the host.
    Port(Port),
    /// An amount of something.
    Quantity(Quantity, Amount),
    /// A name for an image that is built.
    Tag(TagUse),
    /// A name that somebody else's object has. Nobody can be granted it: engines to 24 would make a second one, and the name would mean neither.
    Taken(ObjectKind, String),
    /// Another object: its network, namespaces, mounts.
    Use(Role, UsedObject),
}

/// An operation, and the object that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operate {
    /// The operation.
    pub operation: &'static Operation,
    /// Its object; `None` for lists and what has none.
    pub object: Option<Rc<Object>>,
}

impl Operate {
    /// What it is about.
    #[must_use]
    pub fn family(&self) -> Family {
        self.operation.family
    }

    /// What it does.
    #[must_use]
    pub fn effect(&self) -> Effect {
        self.operation.effect
    }
}

/// A host path in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Absolute and clean; symbolic links in it are not resolved yet.
    pub source: String,
    /// It can be written.
    pub writable: bool,
    /// Mounts made on either side appear on the other: `shared`, `slave` and so on; `None`: private.
    pub propagation: Option<String>,
    /// SELinux labels of the source are changed.
    pub relabel: bool,
    /// The engine makes the directory when it is missing. Always so for `Binds`.
    pub create: bool,
    /// No part of the path is a symbolic link, as the proxy sees it.
    pub plain: bool,
}

impl Bind {
    /// What a mode of propagation demands: nothing where mounts stay private, as they do unless it is said otherwise.
    #[must_use]
    pub fn propagation(mode: &str) -> Option<String> {
        (!matches!(mode, "" | "private" | "rprivate")).then(|| mode.to_owned())
    }
}

/// An image, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUse {
    /// As it was written.
    pub written: String,
    /// The names under which it may be granted: the one that was written, or all that the engine has for an id.
    pub names: Vec<ImageReference>,
    /// Whose it is; nobody's when it is not on the engine yet.
    pub owner: Owner,
}

/// A name for an image that is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagUse {
    /// The name.
    pub name: ImageReference,
    /// Whose image has it now; `None`: none has.
    pub taken: Option<Owner>,
}

/// A port of the host that leads into a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The host's address; `None`: all of them.
    pub address: Option<IpAddr>,
    /// First and last; `None`: the engine chooses a free one.
    pub ports: Option<(u16, u16)>,
    /// `tcp`, `udp`, `sctp`.
    pub protocol: &'static str,
}

/// How one object is used by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A container is put on a network.
    AttachNetwork,
    /// A container is given to an operation on something else.
    Container,
    /// A container's IPC namespace is joined.
    JoinIpc,
    /// A container's network namespace is joined.
    JoinNetwork,
    /// A container's PID namespace is joined.
    JoinPid,
    /// A container's name and environment are seen.
    Link,
    /// A volume is mounted.
    MountVolume,
    /// A container's mounts are inherited.
    VolumesFrom,
}

/// An object that is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UsedObject {
    /// It is there.
    Known(Rc<Object>),
    /// It is not there, and is made with the request, as its tenant's.
    New(ObjectKind, String),
    /// It is not there, and would be looked for later, when it may be somebody else's.
    Missing(ObjectKind, String),
}

/// An amount; `None`: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount(pub Option<u64>);

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $(#[doc = $meaning:literal] $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $(#[doc = $meaning] $variant,)* }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// As policies write it.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// What it means, in a sentence.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning.trim(),)* }
            }

            /// Reads a word of a policy.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

words! {
    /// What is on or off.
    Flag {
        /// All tags of a repository are pulled.
        AllTags = "all-tags",
        /// BuildKit builds, with its own sessions and exporters.
        BuildKit = "buildkit",
        /// What containers have written is summed up (`size`) by path, while they exchange it: that can tell the size of the host's files.
        ContainerSizes = "container-sizes",
        /// A device of the host is looked at, or throttled.
        DeviceThrottle = "device-throttle",
        /// The cgroup namespace of the host.
        HostCgroup = "host-cgroup",
        /// The host's own address under a name.
        HostGateway = "host-gateway",
        /// The IPC namespace of the host.
        HostIpc = "host-ipc",
        /// The network namespace of the host.
        HostNetwork = "host-network",
        /// The PID namespace of the host.
        HostPid = "host-pid",
        /// No user namespace, where the engine remaps users.
        HostUser = "host-user",
        /// The UTS namespace of the host.
        HostUts = "host-uts",
        /// A content that came from a client or an URL becomes an image.
        ImageImport = "image-import",
        /// A hardware address of its own choice.
        MacAddress = "mac-address",
        /// A tag where a digest would pin the image.
        MutableTag = "mutable-tag",
        /// Privileges may be gained by set-user-id programs.
        NewPrivileges = "new-privileges",
        /// The OOM killer is told to spare it.
        OomProtection = "oom-protection",
        /// Everything: all capabilities and devices, no confinement.
        Privileged = "privileged",
        /// Files are copied while processes exchange them, or a build joins a container: engines can be led to the host's then.
        RacyCopy = "racy-copy",
        /// Real-time scheduling, by a share of its own or by `rtprio` among its ulimits.
        RealtimeCpu = "realtime-cpu",
        /// A build context that the engine fetches.
        RemoteContext = "remote-context",
        /// It runs as root, in its own namespace.
        RootUser = "root-user",
        /// Builds use the engine's cache, which all tenants share; without it every build runs every step.
        SharedBuildCache = "shared-build-cache",
        /// Its IPC namespace may be joined.
        ShareableIpc = "shareable-ipc",
        /// An address of its own choice.
        StaticAddress = "static-address",
        /// A mount over `/`, `/proc`, `/sys` or `/dev`, as paths are written: where links inside an image lead is runc's to check.
        SystemMount = "system-mount",
        /// A working directory in `/proc`, `/sys` or `/dev` (CVE-2024-21626, closed in runc 1.1.12), as paths are written.
        SystemWorkingDir = "system-working-dir",
        /// Masked paths of `/proc` and `/sys` are visible.
        UnmaskedPaths = "unmasked-paths",
        /// The cgroup filesystem is writable.
        WritableCgroups = "writable-cgroups",
        /// `/proc/sys` and its like are writable: the host's root without any capability.
        WritableKernel = "writable-kernel",
        /// The root filesystem is writable.
        WritableRootfs = "writable-rootfs",
    }
}

words! {
    /// What has a name.
    Name {
        /// An annotation for the OCI runtime.
        Annotation = "annotations",
        /// An AppArmor profile.
        AppArmor = "apparmor",
        /// A capability, as `NET_RAW`; the default ones that are kept among them.
        Capability = "capabilities",
        /// A cgroup to be made below.
        CgroupParent = "cgroup_parents",
        /// A device with its access, as `/dev/fuse:rwm`.
        Device = "devices",
        /// A rule of the device cgroup.
        DeviceRule = "device_rules",
        /// Devices by driver, as `nvidia`.
        DeviceRequest = "device_requests",
        /// A DNS server.
        Dns = "dns",
        /// An option of an attachment.
        EndpointOption = "endpoint_options",
        /// An address under a name of the hosts file.
        ExtraHost = "extra_hosts",
        /// An URL that the engine fetches from its own network, in a build.
        Fetch = "fetches",
        /// A supplementary group.
        Group = "groups",
        /// An option of an IPAM driver, or the driver.
        Ipam = "ipam",
        /// A log driver.
        LogDriver = "log_drivers",
        /// An option of a log driver.
        LogOption = "log_options",
        /// A network driver.
        NetworkDriver = "network_drivers",
        /// An option of a network driver, as `com.docker.network.driver.mtu=1450`.
        NetworkOption = "network_options",
        /// A restart policy.
        Restart = "restart",
        /// An OCI runtime.
        Runtime = "runtimes",
        /// A seccomp profile: `unconfined`, or `custom`.
        Seccomp = "seccomp",
        /// An SELinux option.
        SelinuxLabel = "selinux",
        /// An option of the storage driver.
        StorageOption = "storage_options",
        /// A subnet for a new network, which the host then routes to.
        Subnet = "subnets",
        /// A kernel parameter.
        Sysctl = "sysctls",
        /// Options of an in-memory filesystem beyond size and mode.
        TmpfsOption = "tmpfs_options",
        /// Arguments of `ps`, which the engine runs on the host.
        TopArguments = "top_arguments",
        /// A driver of volumes.
        VolumeDriver = "volume_drivers",
        /// An option of a volume driver, as `device=/dev/sdb`.
        VolumeOption = "volume_options",
    }
}

words! {
    /// What has an amount.
    Quantity {
        /// CPUs, in billionths.
        Cpus = "cpus",
        /// Bytes of memory.
        Memory = "memory",
        /// Processes.
        Pids = "pids",
        /// Ports of the host that lead into one container, each counted once for every address that is named.
        Ports = "ports",
        /// Bytes of `/dev/shm`; a volume that is mounted there has no limit.
        Shm = "shm",
        /// Seconds that a container may take to stop, where it asks for more than 10: the engine waits for it when it ends itself.
        StopTimeout = "stop_timeout",
        /// Bytes of memory and swap.
        Swap = "swap",
        /// Bytes of an in-memory filesystem.
        Tmpfs = "tmpfs",
    }
}

impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(bind) => {
                write!(f, "bind mount of {} ({}", bind.source, if bind.writable { "rw" } else { "ro" })?;
                if let Some(propagation) = &bind.propagation {
                    write!(f, ", {propagation}")?;
                }
                f.write_str(")")
            }
            Self::Flag(flag) => f.write_str(flag.word()),
            Self::Named(name, value) => write!(f, "{} `{}`", name.noun(), value.escape_debug()),
            // Whether it is there, and whose, is not said.
            Self::Image(image) => write!(f, "image {}", image.written),
            Self::NotUnderstood(what) => write!(f, "something that is not understood: {what}"),
            Self::Operate(operate) => {
                write!(f, "{}", operate.operation.id)?;
                match &operate.object {
                    Some(object) => write!(f, " of {} {}", object.kind.name(), object.asked),
                    None => Ok(()),
                }
            }
            Self::Port(port) => {
                match port.address {
                    Some(IpAddr::V6(address)) => write!(f, "host port [{address}]:")?,
                    Some(IpAddr::V4(address)) => write!(f, "host port {address}:")?,
                    None => f.write_str("host port ")?,
                }
                match port.ports {
                    None => write!(f, "of the engine's choice/{}", port.protocol),
                    Some((first, last)) if first == last => write!(f, "{first}/{}", port.protocol),
                    Some((first, last)) => write!(f, "{first}-{last}/{}", port.protocol),
                }
            }
            Self::Quantity(quantity, Amount(None)) => write!(f, "unlimited {}", quantity.word()),
            Self::Quantity(quantity, Amount(Some(amount))) => write!(f, "{amount} of {}", quantity.word()),
            Self::Tag(tag) => match tag.taken {
                Some(Owner::Own) | None => write!(f, "image name {}", tag.name),
                Some(Owner::Nobody | Owner::Other) => write!(f, "image name {}, which an image of somebody else has", tag.name),
            },
            Self::Taken(kind, name) => write!(f, "the name {name}, which a {} of somebody else has", kind.name()),
            Self::Use(role, object) => write!(f, "{} {object}", role.phrase()),
        }
    }
}

impl fmt::Display for UsedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(object) => write!(f, "{} {}", object.kind.name(), object.asked),
            Self::New(kind, name) => write!(f, "new {} {name}", kind.name()),
            Self::Missing(kind, name) => write!(f, "{} {name}, which does not exist yet", kind.name()),
        }
    }
}

impl Role {
    /// The beginning of a sentence about it.
    #[must_use]
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::AttachNetwork => "attachment to",
            Self::Container => "use of",
            Self::JoinIpc => "IPC namespace of",
            Self::JoinNetwork => "network namespace of",
            Self::JoinPid => "PID namespace of",
            Self::Link => "link to",
            Self::MountVolume => "mount of",
            Self::VolumesFrom => "mounts of",
        }
    }
}

impl Name {
    /// What one of them is called.
    #[must_use]
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Annotation => "annotation",
            Self::AppArmor => "AppArmor profile",
            Self::Capability => "capability",
            Self::CgroupParent => "cgroup parent",
            Self::Device => "device",
            Self::DeviceRule => "device rule",
            Self::DeviceRequest => "device request",
            Self::Dns => "DNS server",
            Self::EndpointOption => "endpoint option",
            Self::ExtraHost => "extra host",
            Self::Fetch => "fetch of",
            Self::Group => "group",
            Self::Ipam => "IPAM option",
            Self::LogDriver => "log driver",
            Self::LogOption => "log option",
            Self::NetworkDriver => "network driver",
            Self::NetworkOption => "network option",
            Self::Restart => "restart policy",
            Self::Runtime => "runtime",
            Self::Seccomp => "seccomp profile",
            Self::SelinuxLabel => "SELinux option",
            Self::StorageOption => "storage option",
            Self::Subnet => "subnet",
            Self::Sysctl => "sysctl",
            Self::TmpfsOption => "tmpfs option",
            Self::TopArguments => "ps arguments",
            Self::VolumeDriver => "volume driver",
            Self::VolumeOption => "volume option",
        }
    }
}

/// The demands of one request, in the order in which they were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Demands(Vec<Demanded>);

/// Most demands of one request: a string of options is one value, and each of them a demand.
const MOST_DEMANDS: usize = 4096;

impl Demands {
    /// Adds one. A request that makes more than can be wanted makes one more, which nobody is granted, and no further.
    pub fn push(&mut self, at: impl Into<Cow<'static, str>>, demand: Demand) {
        if self.0.len() >= MOST_DEMANDS {
            if self.0.len() == MOST_DEMANDS {
                self.0.push(Demanded { at: at.into(), demand: Demand::NotUnderstood(format!("more than {MOST_DEMANDS} demands")) });
            }
            return;
        }
        // No name that a policy could mean has a control character, and the engine would write it into a file.
        let odd = match &demand {
            Demand::Named(name, value) if value.chars().any(char::is_control) => Some(format!("{} `{}`", name.noun(), value.escape_debug())),
            Demand::Bind(_) | Demand::Flag(_) | Demand::Named(..) | Demand::Image(_) | Demand::NotUnderstood(_) | Demand::Operate(_) => None,
            Demand::Port(_) | Demand::Quantity(..) | Demand::Tag(_) | Demand::Taken(..) | Demand::Use(..) => None,
        };
        self.0.push(Demanded { at: at.into(), demand: odd.map_or(demand, Demand::NotUnderstood) });
    }

    /// Adds a flag where a condition holds.
    pub fn flag(&mut self, at: impl Into<Cow<'static, str>>, flag: Flag, on: bool) {
        if on {
            self.push(at, Demand::Flag(flag));
        }
    }

    /// Adds a name where there is one.
    pub fn named(&mut self, at: impl Into<Cow<'static, str>>, name: Name, value: &str) {
        if !value.is_empty() {
            self.push(at, Demand::Named(name, value.to_owned()));
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Demanded> {
        self.0.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
