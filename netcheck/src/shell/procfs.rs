//! What only `/proc` knows: which process is in which namespace and holds which socket, a few switches, and things of the kernel that
//! the model does not cover. Processes choose what much of it says; it is bounded and never trusted.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};

use netcheck::snapshot::{Gap, GapKind, Ipv4Conf, Namespace, NamespaceId, Owner, Proxy};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// Files of `/proc` are small; a command line may be long.
const LIMIT: u64 = 64 * 1024;

/// Reads a file up to a bound; none when it is not there.
pub(crate) fn read(path: &str) -> Option<String> {
    read_file(&File::open(path).ok()?)
}

/// The same of a file in a directory.
fn read_below(directory: &OwnedFd, name: &str) -> Option<String> {
    read_file(&File::from(openat(directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?))
}

fn read_file(file: &File) -> Option<String> {
    let mut bytes = Vec::new();
    file.take(LIMIT).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The numbers that are names of directories in `/proc`.
pub(crate) fn processes() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut pids: Vec<u32> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

/// The namespace that a process is in, by its link; none when it may not be read or the process is gone.
pub(crate) fn namespace_of(pid: u32) -> Option<NamespaceId> {
    let link = fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
    let inode = link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?;
    inode.parse().ok().map(NamespaceId)
}

/// `/proc/sys`, in a procfs of this thread's own that nobody else sees.
///
/// The kernel keeps what was looked up below `/proc/sys/net` for each namespace, all of them under the same names: a look-up compares with
/// every namespace that was read before (`proc_sys_compare`, fs/proc/proc_sysctl.c). In a procfs of one's own there are but a few.
#[derive(Debug)]
struct Sys {
    root: Option<OwnedFd>,
    /// How many namespaces it may yet be used for.
    left: u32,
}

/// Namespaces that share a procfs.
const SHARED: u32 = 32;

thread_local! {
    static SYS: RefCell<Sys> = const { RefCell::new(Sys { root: None, left: 0 }) };
}

impl Sys {
    /// Opens a directory below `/proc/sys`, of the namespace that this thread is in.
    fn open(&mut self, path: &str) -> Option<OwnedFd> {
        if self.left == 0 {
            // Where no procfs may be mounted, the one that everybody sees serves as well, and takes longer.
            self.root = mount().ok();
            self.left = SHARED;
        }
        self.left -= 1;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = match &self.root {
            Some(root) => openat(root, format!("sys/{path}"), flags, Mode::empty()),
            None => openat(CWD, format!("/proc/sys/{path}"), flags, Mode::empty()),
        };
        opened.ok()
    }
}

/// A procfs that is mounted nowhere; gone when it is closed.
fn mount() -> rustix::io::Result<OwnedFd> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)
}

/// Switches of `all` that no netlink message has, of the namespace that this thread is in.
pub(crate) fn ipv4_all(conf: &mut Ipv4Conf, everything: bool) {
    let Some(all) = SYS.with_borrow_mut(|sys| sys.open("net/ipv4/conf/all")) else { return };
    let number = |name: &str| read_below(&all, name)?.trim().parse::<u32>().ok();
    let on = |name: &str| number(name).unwrap_or(0) != 0;
    conf.route_localnet = on("route_localnet");
    conf.accept_local = on("accept_local");
    if !everything {
        return;
    }
    let small = |name: &str| number(name).and_then(|value| u8::try_from(value).ok()).unwrap_or(0);
    conf.src_valid_mark = on("src_valid_mark");
    conf.proxy_arp_pvlan = on("proxy_arp_pvlan");
    conf.arp_ignore = small("arp_ignore");
    conf.arp_announce = small("arp_announce");
    conf.arp_accept = small("arp_accept");
    conf.accept_redirects = on("accept_redirects");
    conf.send_redirects = on("send_redirects");
    conf.accept_source_route = on("accept_source_route");
}

/// Whether a bridge hands frames to iptables, of the namespace that this thread is in. Nothing when br_netfilter is not loaded.
pub(crate) fn bridge_switches() -> BTreeMap<String, String> {
    let names = [
        "bridge-nf-call-iptables",
        "bridge-nf-call-ip6tables",
        "bridge-nf-call-arptables",
        "bridge-nf-filter-vlan-tagged",
        "bridge-nf-pass-vlan-input-dev",
    ];
    names
        .iter()
        .filter_map(|name| {
            let value = read(&format!("/proc/sys/net/bridge/{name}"))?;
            Some((format!("net/bridge/{name}"), value.trim().to_owned()))
        })
        .collect()
}

const HELPER_SWITCH: &str = "net/netfilter/nf_conntrack_helper";

/// Whether this kernel can make helpers watch connections without being told to; Linux 6.0 can no longer do so.
pub(crate) fn has_conntrack_switches() -> bool {
    fs::metadata(format!("/proc/sys/{HELPER_SWITCH}")).is_ok()
}

/// Whether they do, of the namespace that this thread is in.
pub(crate) fn conntrack_switches() -> BTreeMap<String, String> {
    read(&format!("/proc/sys/{HELPER_SWITCH}")).map(|value| (HELPER_SWITCH.to_owned(), value.trim().to_owned())).into_iter().collect()
}

/// Things of the kernel that are not modelled and that a file betrays.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unmodelled {
    files: Vec<(&'static str, GapKind)>,
}

impl Unmodelled {
    /// Which of them this kernel has at all: the files are there in every namespace or in none.
    pub(crate) fn on_this_kernel() -> Self {
        let candidates = [
            ("ip_tables_names", GapKind::LegacyTables),
            ("ip6_tables_names", GapKind::LegacyTables),
            ("arp_tables_names", GapKind::LegacyTables),
            ("ip_vs", GapKind::Ipvs),
        ];
        let there = |(name, _): &(&str, GapKind)| fs::metadata(format!("/proc/thread-self/net/{name}")).is_ok();
        Self { files: candidates.into_iter().filter(there).collect() }
    }

    /// What of it the namespace has that this thread is in.
    pub(crate) fn here(&self, id: NamespaceId) -> Vec<Gap> {
        if self.files.is_empty() {
            return Vec::new();
        }
        // The directory is looked up once, for that is most of the work.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(net) = openat(CWD, "/proc/thread-self/net", flags, Mode::empty()) else { return Vec::new() };
        let gap = |(name, kind): &(&str, GapKind)| {
            let content = read_below(&net, name)?;
            let detail = if *kind == GapKind::Ipvs { ipvs(&content)? } else { legacy(name, &content)? };
            Some(Gap { kind: *kind, namespace: Some(id), link: None, detail })
        };
        self.files.iter().filter_map(gap).collect()
    }
}

/// Legacy tables, unless all of them are empty: the tool that shows them makes them.
fn legacy(file: &str, content: &str) -> Option<String> {
    let tables: Vec<&str> = content.split_whitespace().collect();
    if tables.is_empty() {
        return None;
    }
    let kind = file.trim_end_matches("_names");
    let save = match kind {
        "ip_tables" => "iptables-legacy-save",
        "ip6_tables" => "ip6tables-legacy-save",
        _ => "arptables-legacy-save",
    };
    // The child is in the namespace of this thread.
    let shown = Command::new(save).stdin(Stdio::null()).stderr(Stdio::null()).output().ok();
    let empty = shown.is_some_and(|shown| shown.status.success() && tables.iter().all(|table| shows_empty(&shown.stdout, table)));
    (!empty).then(|| format!("{kind}: tables {}", tables.join(", ")))
}

/// Whether a table is in the output of `iptables-save` with nothing but chains that accept.
fn shows_empty(output: &[u8], table: &str) -> bool {
    let text = String::from_utf8_lossy(output);
    let head = format!("*{table}");
    let mut lines = text.lines().skip_while(|line| *line != head);
    let found = lines.next().is_some();
    let mut own = lines.take_while(|line| *line != "COMMIT");
    found && own.all(|line| line.starts_with('#') || line.starts_with(':') && line.contains(" ACCEPT "))
}

/// Three lines of heading, then one line a service and one an address behind it.
fn ipvs(content: &str) -> Option<String> {
    let services = content.lines().skip(3).filter(|line| !line.trim_start().starts_with("->"));
    let count = services.count();
    (count > 0).then(|| format!("{count} services"))
}

/// Which process holds which socket, and which of them hold BPF links.
pub(crate) fn owners(pids: &[u32]) -> (BTreeMap<u64, Owner>, Vec<Gap>) {
    let mut owners = BTreeMap::new();
    let mut gaps = Vec::new();
    for &pid in pids {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        let mut owner = None;
        for descriptor in descriptors.flatten() {
            let Ok(target) = fs::read_link(descriptor.path()) else { continue };
            let Some(target) = target.to_str() else { continue };
            if target == "anon_inode:bpf_link" {
                let number = descriptor.file_name();
                gaps.extend(bpf_link(pid, &number.to_string_lossy()));
            }
            let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
            if let Some(inode) = inode.and_then(|inode| inode.parse().ok()) {
                let owner = owner.get_or_insert_with(|| owner_of(pid));
                owners.entry(inode).or_insert_with(|| owner.clone());
            }
        }
    }
    (owners, gaps)
}

/// A BPF program on the network, by what the holder's descriptor says.
fn bpf_link(pid: u32, descriptor: &str) -> Option<Gap> {
    let info = read(&format!("/proc/{pid}/fdinfo/{descriptor}"))?;
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
    let kind = field("link_type:")?;
    let on_the_network = ["cgroup", "netns", "netfilter", "xdp", "tcx", "netkit"];
    if !on_the_network.contains(&kind.as_str()) {
        return None;
    }
    let detail = format!("{kind} program held by process {pid}");
    Some(Gap { kind: GapKind::Bpf, namespace: namespace_of(pid), link: None, detail })
}

/// The name of a process, which anybody may read.
pub(crate) fn command_of(pid: u32) -> String {
    read(&format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}

/// Whether processes of this name pass on to containers what comes to their sockets.
pub(crate) fn is_proxy(command: &str) -> bool {
    command == "docker-proxy" || command == "rootlessport"
}

fn owner_of(pid: u32) -> Owner {
    let command = command_of(pid);
    let proxy = if is_proxy(&command) { read(&format!("/proc/{pid}/cmdline")).and_then(|line| proxy(&line)) } else { None };
    Owner { pid, command, proxy }
}

/// `docker-proxy -container-ip A -container-port P`, arguments separated by zeros.
fn proxy(command_line: &str) -> Option<Proxy> {
    let arguments: Vec<&str> = command_line.split('\0').collect();
    let value = |name: &str| {
        let place = arguments.iter().position(|argument| *argument == name)?;
        arguments.get(place + 1).copied()
    };
    let address: IpAddr = value("-container-ip")?.parse().ok()?;
    Some(Proxy { address, port: value("-container-port")?.parse().ok()? })
}

/// Gives sockets their owners.
pub(crate) fn attribute(namespace: &mut Namespace, owners: &BTreeMap<u64, Owner>) {
    for socket in &mut namespace.sockets {
        socket.owner = owners.get(&socket.inode).cloned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_legacy_table_is_empty_only_without_rules_and_with_accepting_policies() {
        let cases = [
            ("*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n", true),
            ("*filter\n:INPUT DROP [0:0]\nCOMMIT\n", false),
            ("*filter\n:INPUT ACCEPT [0:0]\n:mine - [0:0]\nCOMMIT\n", false),
            ("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j DROP\nCOMMIT\n", false),
            ("*nat\n:INPUT ACCEPT [0:0]\nCOMMIT\n", false),
        ];
        for (output, expected) in cases {
            assert_eq!(shows_empty(output.as_bytes(), "filter"), expected, "{output}");
        }
    }

    #[test]
    fn proxy_arguments_are_found_by_name() {
        let line = [
            "/usr/bin/docker-proxy",
            "-proto",
            "tcp",
            "-host-ip",
            "0.0.0.0",
            "-host-port",
            "8080",
            "-container-ip",
            "10.1.1.3",
            "-container-port",
            "80",
            "",
        ]
        .join("\0");
        let expected = Proxy { address: IpAddr::from([10, 1, 1, 3]), port: 80 };
        assert_eq!(proxy(&line), Some(expected));
        assert_eq!(proxy("docker-proxy\0-container-ip\0"), None);
    }
}
