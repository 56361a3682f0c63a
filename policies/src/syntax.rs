//! A policy file as it is written. Its documentation is the language's reference, and its JSON Schema.

use std::collections::BTreeMap;

use engine::demand::{Flag, Name, Quantity};
use engine::operation::Family;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::grant::{BindGrant, Ceiling, ContainerPattern, ImagePattern, NetworkPattern, Operations, Pattern, PortGrant, TagPattern, VolumePattern};

macro_rules! policy_file {
    ($($(#[$doc:meta])* $field:ident: $name:ident,)*) => {
        /// A policy: what a client may have. Every key adds; none takes away.
        #[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        #[schemars(title = "Seawall policy")]
        pub struct PolicyFile {
            /// The version of the language: 1.
            pub version: Version,
            /// Policies whose grants are taken over: a shipped one by its name (`ci`, `read-only`, `hardened`, `netcheck`, `admin`), or a file,
            /// relative to this one. The union of all of them is granted; order means nothing.
            pub include: Vec<String>,
            /// Operations, by family (`system`, `container`, `image`, `network`, `volume`, `plugin`, `swarm`), then by effect or name; the value is whose objects.
            pub operations: BTreeMap<FamilyKey, Operations>,
            /// Images that may be pulled, run, built from and looked at.
            pub images: Vec<ImagePattern>,
            /// Names that a build may give to images.
            pub tags: Vec<TagPattern>,
            /// Directories of the host that may be mounted.
            pub binds: Vec<BindGrant>,
            /// Volumes that may be mounted.
            pub volumes: Vec<VolumePattern>,
            /// Networks that a container may be attached to.
            pub networks: Vec<NetworkPattern>,
            /// Containers whose namespaces, mounts and links another may take.
            pub containers: Vec<ContainerPattern>,
            /// Ports of the host that may lead into containers.
            pub ports: Vec<PortGrant>,
            /// What is on or off, most of it hardening that a container may go without.
            pub allow: Vec<FlagKey>,
            /// The most that a container may use. What is not listed may not be used at all: a container without a memory limit demands `unlimited`.
            pub limits: BTreeMap<QuantityKey, Ceiling>,
            /// Values that are set where a request leaves them unset, before it is judged.
            pub fill: Fill,
            $($(#[$doc])* pub $field: Vec<Pattern>,)*
        }

        impl PolicyFile {
            /// The grants of names, by kind.
            pub fn names(&self) -> impl Iterator<Item = (Name, &[Pattern])> {
                [$((Name::$name, self.$field.as_slice())),*].into_iter()
            }
        }

        /// The keys of a policy that grant names.
        pub const NAME_KEYS: &[(Name, &str)] = &[$((Name::$name, stringify!($field))),*];
    };
}

policy_file! {
    /// Capabilities in effect: `default` (what Docker gives without being asked), a name, or `all`.
    capabilities: Capability,
    /// Devices, as `/dev/fuse` or `/dev/fuse:rw`.
    devices: Device,
    /// Rules of the device cgroup, as `c 10:229 rwm`.
    device_rules: DeviceRule,
    /// Drivers of device requests, as `nvidia`, `cdi`; `default` is a request without one.
    device_requests: DeviceRequest,
    /// Kernel parameters, as `net.core.somaxconn`, `net.ipv4.*`, or with a value.
    sysctls: Sysctl,
    /// seccomp profiles: `unconfined`, `builtin`, or `custom` for any profile that comes with the request.
    seccomp: Seccomp,
    /// AppArmor profiles.
    apparmor: AppArmor,
    /// SELinux options, as `disable`, `type:container_t`.
    selinux: SelinuxLabel,
    /// Log drivers.
    log_drivers: LogDriver,
    /// Options of log drivers, as `max-size`.
    log_options: LogOption,
    /// OCI runtimes.
    runtimes: Runtime,
    /// Restart policies: `on-failure`, `always`, `unless-stopped`.
    restart: Restart,
    /// Supplementary groups.
    groups: Group,
    /// DNS servers.
    dns: Dns,
    /// Addresses in the hosts file; the host itself is `host-gateway` in `allow`.
    extra_hosts: ExtraHost,
    /// Drivers of new networks.
    network_drivers: NetworkDriver,
    /// Options of new networks, as `com.docker.network.driver.mtu`.
    network_options: NetworkOption,
    /// Subnets that new networks may ask for, and what is in them.
    subnets: Subnet,
    /// IPAM drivers and their options.
    ipam: Ipam,
    /// Options of attachments to networks.
    endpoint_options: EndpointOption,
    /// Drivers of new volumes, beside `local`.
    volume_drivers: VolumeDriver,
    /// Options of volume drivers. Those of `local` mount any path of the host.
    volume_options: VolumeOption,
    /// Options of the storage driver, as `size`.
    storage_options: StorageOption,
    /// Options of in-memory filesystems, as `exec`.
    tmpfs_options: TmpfsOption,
    /// Annotations for the OCI runtime.
    annotations: Annotation,
    /// Cgroups to be below.
    cgroup_parents: CgroupParent,
    /// Arguments of `docker top`: the engine runs `ps` with them on the host.
    top_arguments: TopArguments,
    /// URLs that a build may fetch from the engine's own network.
    fetches: Fetch,
}

/// The version of the language.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u64")]
pub struct Version;

impl TryFrom<u64> for Version {
    type Error = String;

    fn try_from(number: u64) -> Result<Self, String> {
        if number == 1 { Ok(Self) } else { Err(format!("version {number} is not known here: this is version 1")) }
    }
}

impl JsonSchema for Version {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Version".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "const": 1 })
    }
}

macro_rules! word_key {
    ($(#[$doc:meta])* $key:ident($inner:ident), $what:literal, $words:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $key(pub $inner);

        impl TryFrom<String> for $key {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                let words: Vec<($inner, &'static str)> = $words;
                if let Some((value, _)) = words.iter().find(|(_, word)| *word == text) {
                    return Ok(Self(*value));
                }
                match words.iter().map(|(_, word)| (strsim::damerau_levenshtein(word, &text), *word)).min() {
                    Some((distance, near)) if distance <= 3 => Err(format!("`{text}` is no {}, did you mean `{near}`?", $what)),
                    _ => Err(format!("`{text}` is no {}; there are {}", $what, words.iter().map(|(_, word)| *word).collect::<Vec<_>>().join(", "))),
                }
            }
        }

        impl JsonSchema for $key {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($key).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let words: Vec<($inner, &'static str)> = $words;
                let words: Vec<&str> = words.into_iter().map(|(_, word)| word).collect();
                schemars::json_schema!({ "type": "string", "enum": words })
            }
        }
    };
}

word_key!(
    /// A word of `allow`.
    FlagKey(Flag), "word of `allow`", Flag::ALL.iter().map(|flag| (*flag, flag.word())).collect()
);
word_key!(
    /// A key of `limits`.
    QuantityKey(Quantity), "key of `limits`", Quantity::ALL.iter().map(|quantity| (*quantity, quantity.word())).collect()
);
word_key!(
    /// A key of `operations`.
    FamilyKey(Family), "family of operations", Family::ALL.iter().map(|family| (*family, family.name())).collect()
);

/// Values that are set where a request leaves them unset.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fill {
    /// The memory limit.
    pub memory: Option<Ceiling>,
    /// The limit of processes.
    pub pids: Option<Ceiling>,
    /// The limit of CPUs.
    pub cpus: Option<Ceiling>,
    /// The limit of memory and swap, where the engine's own (twice the memory) would be more; never less than the memory.
    pub swap: Option<Ceiling>,
    /// The size of in-memory filesystems.
    pub tmpfs: Option<Ceiling>,
    /// Capabilities that are dropped, beside those that the request drops, unless it adds them.
    pub cap_drop: Vec<String>,
    /// Sets `no-new-privileges`.
    pub no_new_privileges: bool,
    /// Makes the root filesystem read-only.
    pub readonly_rootfs: bool,
    /// The user, where the request names none: a file's own before one of its includes', and of those the last.
    pub user: Option<String>,
    /// Labels of what is created. Of two values of one label that counts which would of two users.
    pub labels: BTreeMap<String, String>,
}

/// The JSON Schema of a policy.
#[must_use]
pub fn schema() -> String {
    let schema = schemars::schema_for!(PolicyFile);
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}
