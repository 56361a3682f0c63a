//! Throwaway namespaces, and sockets inside them that one process holds.

use std::fs::File;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};

use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketAddrAny, SocketFlags, SocketType};

/// Namespaces with a common prefix; gone when this is dropped.
pub(crate) struct Lab {
    prefix: String,
    names: Vec<String>,
}

/// Sockets in one namespace: to send any packet, and to see what passed INPUT.
pub(crate) struct Sockets {
    send4: OwnedFd,
    send6: OwnedFd,
    /// Protocol, whether IPv4, and the socket.
    receive: Vec<(u8, bool, OwnedFd)>,
}

/// A packet that passed INPUT.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) protocol: u8,
    pub(crate) source: IpAddr,
    /// Only IPv4 sockets tell.
    pub(crate) destination: Option<IpAddr>,
    /// The transport header and what follows.
    pub(crate) bytes: Vec<u8>,
}

impl Lab {
    pub(crate) fn new(tag: &str) -> Self {
        Self { prefix: format!("nc{}{tag}", std::process::id()), names: Vec::new() }
    }

    pub(crate) fn full(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    pub(crate) fn add(&mut self, name: &str) {
        let full = self.full(name);
        run(&["ip", "netns", "add", &full], "");
        self.names.push(full.clone());
        run(&["ip", "-n", &full, "link", "set", "lo", "up"], "");
    }

    /// Lines of `ip`, inside a namespace.
    pub(crate) fn ip(&self, name: &str, batch: &str) {
        run(&["ip", "-n", &self.full(name), "-batch", "-"], batch);
    }

    pub(crate) fn sysctl(&self, name: &str, settings: &str) {
        run(&["ip", "netns", "exec", &self.full(name), "sysctl", "-q", "-p", "-"], settings);
    }

    /// Loads rules, without the lines that nft does not take; the rules that it took.
    pub(crate) fn nft(&self, name: &str, rules: &str) -> Option<String> {
        self.load(name, "nft", &["-f", "-"], rules)
    }

    /// Loads rules of iptables, without the lines that it does not take.
    pub(crate) fn iptables(&self, name: &str, ipv4: bool, rules: &str) -> Option<String> {
        self.load(name, if ipv4 { "iptables-restore" } else { "ip6tables-restore" }, &[], rules)
    }

    fn load(&self, name: &str, tool: &str, arguments: &[&str], rules: &str) -> Option<String> {
        let mut lines: Vec<String> = rules.lines().map(str::to_owned).collect();
        for _ in 0..12 {
            let mut child = Command::new("ip")
                .args(["netns", "exec", &self.full(name), tool])
                .args(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let text = lines.join("\n") + "\n";
            child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            if output.status.success() {
                return Some(text);
            }
            let said = String::from_utf8_lossy(&output.stderr);
            let wrong = wrong_lines(&said);
            if std::env::var_os("NETCHECK_FUZZ_VERBOSE").is_some() {
                eprintln!("{said}");
            }
            // Only whole rules can be left out.
            let is_rule = |line: &String| line.starts_with("    ") && !line.contains("hook") || line.starts_with("-A");
            let before = lines.len();
            let mut number = 0;
            lines.retain(|line| {
                number += 1;
                !(wrong.contains(&number) && is_rule(line))
            });
            if lines.len() == before {
                return None;
            }
        }
        None
    }

    /// What the collector reads when it is started in a namespace.
    pub(crate) fn snapshot(&self, name: &str) -> Vec<u8> {
        let output = Command::new("ip")
            .args(["netns", "exec", &self.full(name), env!("CARGO_BIN_EXE_netcheck"), "snapshot", "--engine", "none"])
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(output.status.success(), "netcheck snapshot failed");
        output.stdout
    }

    pub(crate) fn sockets(&self, name: &str) -> Sockets {
        let file = File::open(format!("/run/netns/{}", self.full(name))).unwrap();
        // A thread that enters a namespace ends there; its sockets stay in it.
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    let kind = rustix::thread::LinkNameSpaceType::Network;
                    rustix::thread::move_into_link_name_space(file.as_fd(), Some(kind)).unwrap();
                    Sockets::open()
                })
                .join()
                .unwrap()
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
        }
    }
}

fn raw(family: AddressFamily, protocol: u32) -> OwnedFd {
    let protocol = Protocol::from_raw(rustix::net::RawProtocol::new(protocol).unwrap());
    rustix::net::socket_with(family, SocketType::RAW, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, Some(protocol)).unwrap()
}

impl Sockets {
    fn open() -> Self {
        const RAW: u32 = 255;
        let mut receive = Vec::new();
        for (protocol, ipv4) in [(1, true), (6, true), (17, true), (6, false), (17, false), (58, false)] {
            let family = if ipv4 { AddressFamily::INET } else { AddressFamily::INET6 };
            let socket = raw(family, u32::from(protocol));
            let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 4 << 20);
            receive.push((protocol, ipv4, socket));
        }
        Self { send4: raw(AddressFamily::INET, RAW), send6: raw(AddressFamily::INET6, RAW), receive }
    }

    /// Sends a whole packet, IP header included. Errors are an outcome: no route, a rule in OUTPUT.
    pub(crate) fn send(&self, packet: &[u8], destination: IpAddr, scope: u32) {
        // A full socket is not an outcome: its packets wait for neighbours who are not there.
        for _ in 0..4000 {
            if self.try_send(packet, destination, scope) != Err(rustix::io::Errno::AGAIN) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    fn try_send(&self, packet: &[u8], destination: IpAddr, scope: u32) -> rustix::io::Result<usize> {
        let flags = SendFlags::empty();
        match destination {
            IpAddr::V4(v4) => rustix::net::sendto(&self.send4, packet, flags, &SocketAddrV4::new(v4, 0)),
            IpAddr::V6(v6) => rustix::net::sendto(&self.send6, packet, flags, &SocketAddrV6::new(v6, 0, 0, scope)),
        }
    }

    /// Everything that has passed INPUT since the last time.
    pub(crate) fn drain(&self) -> Vec<Seen> {
        let mut seen = Vec::new();
        let mut buffer = [0_u8; 2048];
        for (protocol, ipv4, socket) in &self.receive {
            while let Ok((_, length, from)) = rustix::net::recvfrom(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                let bytes = &buffer[..length];
                let source = address(from);
                if *ipv4 {
                    let header = usize::from(bytes[0] & 15) * 4;
                    let destination: [u8; 4] = bytes[16..20].try_into().unwrap();
                    let source: [u8; 4] = bytes[12..16].try_into().unwrap();
                    seen.push(Seen {
                        protocol: *protocol,
                        source: source.into(),
                        destination: Some(destination.into()),
                        bytes: bytes[header..].to_vec(),
                    });
                } else {
                    seen.push(Seen { protocol: *protocol, source: source.unwrap(), destination: None, bytes: bytes.to_vec() });
                }
            }
        }
        seen
    }
}

fn address(from: Option<SocketAddrAny>) -> Option<IpAddr> {
    let from = from?;
    if let Ok(v4) = SocketAddrV4::try_from(from.clone()) {
        return Some(IpAddr::V4(*v4.ip()));
    }
    SocketAddrV6::try_from(from).ok().map(|v6| IpAddr::V6(*v6.ip()))
}

pub(crate) fn run(arguments: &[&str], input: &str) {
    assert!(try_run(arguments, input), "{arguments:?} failed on\n{input}");
}

fn try_run(arguments: &[&str], input: &str) -> bool {
    let quiet = std::env::var_os("NETCHECK_FUZZ_VERBOSE").is_none();
    let mut child = Command::new(arguments[0])
        .args(&arguments[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(if quiet { Stdio::null() } else { Stdio::inherit() })
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait().unwrap().success()
}

/// Line numbers in what nft (`/dev/stdin:7:1-2: Error`) or iptables-restore (`line 7 failed`) complains of.
fn wrong_lines(said: &str) -> Vec<usize> {
    let nft = said.lines().filter(|line| line.contains("Error")).filter_map(|line| line.split(':').nth(1)?.parse().ok());
    let words: Vec<&str> = said.split_whitespace().collect();
    let iptables =
        words.windows(2).filter(|pair| pair[0].eq_ignore_ascii_case("line")).filter_map(|pair| pair[1].trim_end_matches([':', '.']).parse().ok());
    nft.chain(iptables).collect()
}
