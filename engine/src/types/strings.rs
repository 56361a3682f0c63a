//! Strings with rules: parsed once, written in their canonical form.

use std::fmt;

use crate::wire::{Text, string_form};

/// A container as a body names it: a name, an id, or the beginning of one. Written without the leading slash that engines accept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerReference<'a>(Text<'a>);

impl<'a> ContainerReference<'a> {
    /// Reads a reference.
    ///
    /// # Errors
    /// It has characters that no container's name has (moby daemon/names/names.go, RestrictedNameChars).
    pub fn parse(text: &str) -> Result<Self, String> {
        let name = text.strip_prefix('/').unwrap_or(text);
        if is_object_name(name) {
            Ok(Self(Text::from(name.to_owned())))
        } else {
            Err(format!("`{}` is no container's name or id", text.escape_debug()))
        }
    }

    /// The name or id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Puts what it was resolved to in its place.
    pub fn set(&mut self, id: &str) {
        self.0 = Text::from(id.to_owned());
    }
}

impl fmt::Display for ContainerReference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
string_form!(ContainerReference<'a>);

/// Names of containers and volumes: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
#[must_use]
pub fn is_object_name(text: &str) -> bool {
    text.len() <= 255
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// A name that could be read as an id: 12 to 64 hexadecimal digits.
#[must_use]
pub fn looks_like_id(text: &str) -> bool {
    (12..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// An image's name that could be read as the beginning of an id. Words are left alone: nobody writes `facade` for an id.
#[must_use]
pub fn looks_like_image_id(name: &str) -> bool {
    let hex = name.len() >= 6 && name.bytes().all(|b| b.is_ascii_hexdigit());
    looks_like_id(name) || (hex && name.bytes().any(|b| b.is_ascii_digit()))
}

/// The network that a container starts in (`HostConfig.NetworkMode`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkMode<'a> {
    /// That of another container.
    Container(ContainerReference<'a>),
    /// The engine's default: unset, `default`.
    Default,
    /// The host's.
    Host,
    /// A network by name or id; `bridge` is one.
    Network(Text<'a>),
    /// `none`: only a loopback interface.
    None,
}

impl<'a> NetworkMode<'a> {
    /// Reads a mode.
    ///
    /// # Errors
    /// It names something that cannot be a network or container.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(match text {
            "" | "default" => Self::Default,
            "host" => Self::Host,
            "none" => Self::None,
            other => match other.strip_prefix("container:") {
                Some(container) => Self::Container(ContainerReference::parse(container)?),
                None if is_object_name(other) => Self::Network(Text::from(other.to_owned())),
                None => return Err(format!("`{other}` is no network")),
            },
        })
    }
}

impl fmt::Display for NetworkMode<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(container) => write!(f, "container:{container}"),
            Self::Default => f.write_str("default"),
            Self::Host => f.write_str("host"),
            Self::Network(network) => f.write_str(network),
            Self::None => f.write_str("none"),
        }
    }
}
string_form!(NetworkMode<'a>);

/// The PID namespace of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PidMode<'a> {
    /// That of another container.
    Container(ContainerReference<'a>),
    /// The host's.
    Host,
    /// Its own.
    Private,
}

impl<'a> PidMode<'a> {
    /// Reads a mode.
    ///
    /// # Errors
    /// It is none. (20.10 stores unknown values.)
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" | "private" => Ok(Self::Private),
            "host" => Ok(Self::Host),
            other => match other.strip_prefix("container:") {
                Some(container) => ContainerReference::parse(container).map(Self::Container),
                None => Err(format!("`{other}` is no PID mode")),
            },
        }
    }
}

impl fmt::Display for PidMode<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(container) => write!(f, "container:{container}"),
            Self::Host => f.write_str("host"),
            Self::Private => Ok(()),
        }
    }
}
string_form!(PidMode<'a>);

/// The IPC namespace of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IpcMode<'a> {
    /// That of another container, which must be shareable.
    Container(ContainerReference<'a>),
    /// The engine's default.
    Default,
    /// The host's.
    Host,
    /// Its own, without `/dev/shm`.
    None,
    /// Its own.
    Private,
    /// Its own, and others may join it.
    Shareable,
}

impl<'a> IpcMode<'a> {
    /// Reads a mode.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" => Ok(Self::Default),
            "host" => Ok(Self::Host),
            "none" => Ok(Self::None),
            "private" => Ok(Self::Private),
            "shareable" => Ok(Self::Shareable),
            other => match other.strip_prefix("container:") {
                Some(container) => ContainerReference::parse(container).map(Self::Container),
                None => Err(format!("`{other}` is no IPC mode")),
            },
        }
    }
}

impl fmt::Display for IpcMode<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(container) => write!(f, "container:{container}"),
            Self::Default => Ok(()),
            Self::Host => f.write_str("host"),
            Self::None => f.write_str("none"),
            Self::Private => f.write_str("private"),
            Self::Shareable => f.write_str("shareable"),
        }
    }
}
string_form!(IpcMode<'a>);

/// The cgroup namespace of a container (1.41).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupnsMode<'a> {
    /// The engine's default.
    Default(std::marker::PhantomData<&'a ()>),
    /// The host's.
    Host,
    /// Its own.
    Private,
}

impl<'a> CgroupnsMode<'a> {
    /// Reads a mode.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" => Ok(Self::Default(std::marker::PhantomData)),
            "host" => Ok(Self::Host),
            "private" => Ok(Self::Private),
            other => Err(format!("`{other}` is no cgroup namespace mode")),
        }
    }
}

impl fmt::Display for CgroupnsMode<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default(_) => "",
            Self::Host => "host",
            Self::Private => "private",
        })
    }
}
string_form!(CgroupnsMode<'a>);

/// An absolute path, cleaned as Go's `filepath.Clean` cleans it.
#[must_use]
pub fn clean_path(path: &str) -> Option<String> {
    if !path.starts_with('/') || path.chars().any(char::is_control) {
        return None;
    }
    let mut clean = String::with_capacity(path.len());
    follow(&mut clean, path);
    Some(if clean.is_empty() { "/".to_owned() } else { clean })
}

/// Follows a path from a directory, which is clean and stays so; `/` is empty.
pub(crate) fn follow(directory: &mut String, path: &str) {
    if path.starts_with('/') {
        directory.clear();
    }
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => directory.truncate(directory.rfind('/').unwrap_or_default()),
            other => directory.extend(["/", other]),
        }
    }
}

/// A path in a container: absolute and clean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerPath<'a>(Text<'a>);

impl<'a> ContainerPath<'a> {
    /// Reads a path; cleans it.
    ///
    /// # Errors
    /// It is not absolute.
    pub fn parse(text: &str) -> Result<Self, String> {
        match clean_path(text) {
            Some(clean) => Ok(Self(Text::from(clean))),
            None => Err(format!("`{}` is not an absolute path", text.escape_debug())),
        }
    }

    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is one of the kernel's filesystems, or below one. `/dev/shm` and `/dev/mqueue` are the container's own.
    #[must_use]
    pub fn is_system(&self) -> bool {
        is_system_path(&self.0)
    }

    /// Whether it is `/dev/shm`, or below it.
    #[must_use]
    pub fn is_shm(&self) -> bool {
        is_below("/dev/shm", &self.0)
    }
}

/// `/`, `/proc`, `/sys`, `/dev`, or below one of the last three.
#[must_use]
pub fn is_system_path(clean: &str) -> bool {
    let below = |root: &str| is_below(root, clean);
    clean == "/" || ["/proc", "/sys", "/dev"].into_iter().any(below) && !["/dev/shm", "/dev/mqueue"].into_iter().any(below)
}

fn is_below(root: &str, clean: &str) -> bool {
    clean.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl fmt::Display for ContainerPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
string_form!(ContainerPath<'a>);

/// A line of `HostConfig.Binds`: `source:target[:options]`, or only a target (moby volume/mounts/linux_parser.go).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind<'a> {
    /// What is mounted.
    pub source: BindSource<'a>,
    /// Where it appears.
    pub target: ContainerPath<'a>,
    /// How.
    pub options: BindMode,
}

/// What a bind mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BindSource<'a> {
    /// A new volume without a name.
    Anonymous,
    /// A path of the host, clean.
    Host(String),
    /// A named volume.
    Volume(Text<'a>),
}

/// The options of a bind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BindMode {
    /// `ro`.
    pub read_only: bool,
    /// `z` or `Z`: the engine relabels the source for SELinux.
    pub relabel: Option<char>,
    /// `shared`, `rshared`, `slave`, `rslave`, `private`, `rprivate`.
    pub propagation: Option<&'static str>,
    /// `nocopy`.
    pub no_copy: bool,
}

const PROPAGATIONS: [&str; 6] = ["shared", "rshared", "slave", "rslave", "private", "rprivate"];

impl<'a> Bind<'a> {
    /// Reads a line.
    ///
    /// # Errors
    /// Says which part of it is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let path = |text: &str| ContainerPath::parse(text);
        match parts.as_slice() {
            [target] => Ok(Self { source: BindSource::Anonymous, target: path(target)?, options: BindMode::default() }),
            [source, target] => Ok(Self { source: BindSource::parse(source)?, target: path(target)?, options: BindMode::default() }),
            [source, target, options] => Ok(Self { source: BindSource::parse(source)?, target: path(target)?, options: BindMode::parse(options)? }),
            _ => Err(format!("`{text}` is not `source:target[:options]`")),
        }
    }
}

impl BindSource<'_> {
    fn parse(text: &str) -> Result<Self, String> {
        match clean_path(text) {
            Some(path) => Ok(Self::Host(path)),
            None if is_object_name(text) => Ok(Self::Volume(Text::from(text.to_owned()))),
            None => Err(format!("`{}` is neither an absolute path nor a volume's name", text.escape_debug())),
        }
    }
}

impl BindMode {
    fn parse(text: &str) -> Result<Self, String> {
        let mut mode = Self::default();
        let mut seen = Vec::new();
        for word in text.split(',').filter(|word| !word.is_empty()) {
            let kind = match word {
                "ro" | "rw" => {
                    mode.read_only = word == "ro";
                    "access"
                }
                "z" | "Z" => {
                    mode.relabel = word.chars().next();
                    "label"
                }
                "nocopy" => {
                    mode.no_copy = true;
                    "copy"
                }
                "consistent" | "cached" | "delegated" | "default" => "consistency",
                _ => {
                    mode.propagation = Some(*PROPAGATIONS.iter().find(|known| **known == word).ok_or_else(|| format!("unknown option `{word}`"))?);
                    "propagation"
                }
            };
            if seen.contains(&kind) {
                return Err(format!("two options of one kind in `{text}`"));
            }
            seen.push(kind);
        }
        Ok(mode)
    }
}

impl fmt::Display for Bind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            BindSource::Anonymous => return write!(f, "{}", self.target),
            BindSource::Host(path) => write!(f, "{path}:{}", self.target)?,
            BindSource::Volume(name) => write!(f, "{name}:{}", self.target)?,
        }
        f.write_str(if self.options.read_only { ":ro" } else { ":rw" })?;
        if let Some(relabel) = self.options.relabel {
            write!(f, ",{relabel}")?;
        }
        if let Some(propagation) = self.options.propagation {
            write!(f, ",{propagation}")?;
        }
        if self.options.no_copy {
            f.write_str(",nocopy")?;
        }
        Ok(())
    }
}
string_form!(Bind<'a>);

/// A container whose mounts are inherited: `name[:ro|rw]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeFrom<'a> {
    /// The container.
    pub container: ContainerReference<'a>,
    /// `ro`.
    pub read_only: bool,
}

impl<'a> VolumeFrom<'a> {
    /// Reads it.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, mode) = text.split_once(':').unwrap_or((text, "rw"));
        let read_only = match mode {
            "ro" => true,
            "rw" | "z" | "Z" | "" => false,
            other => return Err(format!("unknown mode `{other}`")),
        };
        Ok(Self { container: ContainerReference::parse(name)?, read_only })
    }
}

impl fmt::Display for VolumeFrom<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.container, if self.read_only { "ro" } else { "rw" })
    }
}
string_form!(VolumeFrom<'a>);

/// A link: `container[:alias]`. The alias may stand with the paths that engines write, `/other/alias`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link<'a> {
    /// The container.
    pub container: ContainerReference<'a>,
    /// The name that it is seen under.
    pub alias: Text<'a>,
}

impl<'a> Link<'a> {
    /// Reads it.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, alias) = text.split_once(':').unwrap_or((text, text));
        let alias = alias.rsplit('/').next().unwrap_or(alias);
        if !is_object_name(alias) {
            return Err(format!("`{alias}` is no alias"));
        }
        Ok(Self { container: ContainerReference::parse(name)?, alias: Text::from(alias.to_owned()) })
    }
}

impl fmt::Display for Link<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.container, self.alias)
    }
}
string_form!(Link<'a>);

/// A line of a hosts file: `name:address`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraHost<'a> {
    /// The name.
    pub name: Text<'a>,
    /// The address; `None`: `host-gateway`, the host itself.
    pub address: Option<std::net::IpAddr>,
}

impl<'a> ExtraHost<'a> {
    /// Reads it.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, address) = text.split_once([':', '=']).ok_or_else(|| format!("`{}` is not `name:address`", text.escape_debug()))?;
        if !is_host_name(name) {
            return Err(format!("`{}` is no host name", name.escape_debug()));
        }
        let address = match address {
            "host-gateway" => None,
            other => {
                let bare = other.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(other);
                Some(bare.parse().map_err(|_| format!("`{}` is no address", other.escape_debug()))?)
            }
        };
        Ok(Self { name: Text::from(name.to_owned()), address })
    }
}

impl fmt::Display for ExtraHost<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "{}:{address}", self.name),
            None => write!(f, "{}:host-gateway", self.name),
        }
    }
}
string_form!(ExtraHost<'a>);

/// Letters, digits, `.`, `_`, `-`, at most 253.
#[must_use]
pub fn is_host_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= 253 && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// An option of the security modules (moby daemon/daemon_unix.go, parseSecurityOpt).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecurityOption<'a> {
    /// `apparmor=PROFILE`.
    AppArmor(Text<'a>),
    /// `label=VALUE`; `disable` alone is `label=disable`.
    Label(Text<'a>),
    /// `no-new-privileges[=BOOL]`.
    NoNewPrivileges(bool),
    /// `seccomp=PROFILE`: `unconfined`, `builtin`, or a profile's JSON.
    Seccomp(Text<'a>),
    /// `systempaths=unconfined`: the CLI turns it into empty `MaskedPaths` and `ReadonlyPaths`.
    SystemPaths(Text<'a>),
    /// `writable-cgroups[=BOOL]` (engine 28).
    WritableCgroups(bool),
}

impl<'a> SecurityOption<'a> {
    /// Reads an option: split at the first `=`, or else at the first `:`.
    ///
    /// # Errors
    /// The key is unknown, or a truth value is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let truth = |value: &str| match value {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            other => Err(format!("`{other}` is neither true nor false")),
        };
        let separator = if text.contains('=') { '=' } else { ':' };
        let (key, value) = match text.split_once(separator) {
            Some((key, value)) => (key, Some(value)),
            None => (text, None),
        };
        let owned = |value: &str| Text::from(value.to_owned());
        match (key, value) {
            ("no-new-privileges", value) => truth(value.unwrap_or("true")).map(Self::NoNewPrivileges),
            ("writable-cgroups", value) => truth(value.unwrap_or("true")).map(Self::WritableCgroups),
            ("disable", None) => Ok(Self::Label(Text::from("disable"))),
            ("apparmor", Some(value)) => Ok(Self::AppArmor(owned(value))),
            ("label", Some(value)) => Ok(Self::Label(owned(value))),
            ("seccomp", Some(value)) => Ok(Self::Seccomp(owned(value))),
            ("systempaths", Some(value)) => Ok(Self::SystemPaths(owned(value))),
            _ => Err(format!("unknown security option `{key}`")),
        }
    }
}

impl fmt::Display for SecurityOption<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AppArmor(profile) => write!(f, "apparmor={profile}"),
            Self::Label(value) => write!(f, "label={value}"),
            Self::NoNewPrivileges(on) => write!(f, "no-new-privileges={on}"),
            Self::Seccomp(profile) => write!(f, "seccomp={profile}"),
            Self::SystemPaths(value) => write!(f, "systempaths={value}"),
            Self::WritableCgroups(on) => write!(f, "writable-cgroups={on}"),
        }
    }
}
string_form!(SecurityOption<'a>);

/// A port or a range of ports with its protocol, `80`, `80/tcp`, `8000-8010/udp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortKey {
    /// First and last port.
    pub ports: (u16, u16),
    /// `tcp`, `udp`, `sctp`.
    pub protocol: &'static str,
}

impl PortKey {
    /// Reads it. `None`: it is not one; engines to 28 take some that are not.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = *["tcp", "udp", "sctp"].iter().find(|known| known.eq_ignore_ascii_case(protocol))?;
        Some(Self { ports: parse_ports(ports)?, protocol })
    }

    /// How many ports it is.
    #[must_use]
    pub fn count(self) -> u64 {
        let (first, last) = self.ports;
        u64::from(last.saturating_sub(first)) + 1
    }
}

/// `80` or `8000-8010`, without signs or leading zeroes.
#[must_use]
pub fn parse_ports(text: &str) -> Option<(u16, u16)> {
    let port = |text: &str| -> Option<u16> {
        (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'))).then(|| text.parse().ok()).flatten()
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(text)?, port(text)?),
    };
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_are_read_and_written_canonically() {
        for (text, canonical) in [
            ("/etc:/x", Some("/etc:/x:rw")),
            ("//etc/./a/../b:/x/:ro,z", Some("/etc/b:/x:ro,z")),
            ("/srv/ok/../../etc:/x:rshared", Some("/etc:/x:rw,rshared")),
            ("vol:/x:nocopy", Some("vol:/x:rw,nocopy")),
            ("/only-target", Some("/only-target")),
            ("../x:/y", None),
            ("C:\\:/y", None),
            ("vol:x", None),
            ("vol:/x:ro,rw", None),
            ("vol:/x:exec", None),
            ("a:/b:ro:c", None),
            ("", None),
        ] {
            assert_eq!(Bind::parse(text).ok().map(|bind| bind.to_string()).as_deref(), canonical, "{text}");
        }
    }

    #[test]
    fn security_options_have_one_spelling() {
        for (text, canonical) in [
            ("no-new-privileges", Some("no-new-privileges=true")),
            ("no-new-privileges:true", Some("no-new-privileges=true")),
            ("no-new-privileges=0", Some("no-new-privileges=false")),
            ("seccomp:unconfined", Some("seccomp=unconfined")),
            ("disable", Some("label=disable")),
            ("label=type:spc_t", Some("label=type:spc_t")),
            ("SECCOMP=unconfined", None),
            ("no-new-privileges=maybe", None),
            ("what", None),
        ] {
            assert_eq!(SecurityOption::parse(text).ok().map(|option| option.to_string()).as_deref(), canonical, "{text}");
        }
    }

    #[test]
    fn system_paths_are_told_from_their_neighbours() {
        for (path, system) in
            [("/", true), ("/proc", true), ("/proc/x", true), ("/process", false), ("/dev/shm", false), ("/dev/shmx", true), ("/data", false)]
        {
            assert_eq!(is_system_path(path), system, "{path}");
        }
    }

    #[test]
    fn ports_are_strict() {
        for (text, ports) in
            [("80", Some((80, 80))), ("8000-8010", Some((8000, 8010))), ("+80", None), ("080", None), ("9-8", None), ("", None), ("70000", None)]
        {
            assert_eq!(parse_ports(text), ports, "{text}");
        }
    }
}
