//! Throwaway namespaces, and sockets inside them that one process holds.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use netcheck::twin::Sockets;

/// Namespaces with a common prefix; gone when this is dropped.
pub(crate) struct Lab {
    prefix: String,
    names: Vec<String>,
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
        self.inside(name, || Sockets::open().unwrap())
    }

    /// Does something in a namespace. A thread that enters one ends there; its sockets stay in it.
    pub(crate) fn inside<T: Send>(&self, name: &str, what: impl FnOnce() -> T + Send) -> T {
        let file = File::open(format!("/run/netns/{}", self.full(name))).unwrap();
        let enter = || {
            let kind = rustix::thread::LinkNameSpaceType::Network;
            rustix::thread::move_into_link_name_space(file.as_fd(), Some(kind)).unwrap();
            what()
        };
        std::thread::scope(|scope| scope.spawn(enter).join().unwrap())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
        }
    }
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
