//! A private engine with containers on networks of every kind and a neighbour on its uplink; whatever a row sets up is undone, and
//! that it is undone is looked at.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netcheck::snapshot::Snapshot;
use serde_json::Value;
use tests::cli::Docker;
use tests::engine::Engine;
use tests::image;
use tests::packages::Suite;
use tests::proxy;
use tests::scratch::{Scratch, must, wait_until};

/// A network: its name, and what `docker network create` is given.
pub(crate) type Network = (&'static str, &'static str);
/// A container: its name, and what `docker run` is given.
pub(crate) type Container = (&'static str, &'static str);

/// The host.
pub(crate) struct Host {
    engine: Engine,
    docker: Docker,
    lan: Neighbour,
    files: Scratch,
    rules: Rules,
    stock: Value,
}

/// Its rules as the engine made them, in the words of `iptables-save` and `ip6tables-save`.
struct Rules {
    ipv4: String,
    ipv6: String,
}

/// A namespace on the other end of the uplink.
struct Neighbour {
    name: String,
}

impl Neighbour {
    fn on_uplink_of(engine: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("seawall-{}-lan{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        must(Command::new("ip").args(["netns", "add", &name]));
        let made = Self { name };
        let lan = &made.name;
        let batches = [
            (engine, format!("link add eth0 type veth peer name eth0 netns {lan}\naddr add 192.0.2.1/24 dev eth0\naddr add fd00:91:ff::1/64 dev eth0 nodad\nlink set eth0 up\n")),
            (lan, "link set lo up\naddr add 192.0.2.2/24 dev eth0\naddr add fd00:91:ff::2/64 dev eth0 nodad\nlink set eth0 up\nroute add default via 192.0.2.1\nroute add default via fd00:91:ff::1\n".to_owned()),
            (engine, "route add default via 192.0.2.2\n".to_owned()),
        ];
        for (place, lines) in batches {
            for line in lines.lines() {
                must(Command::new("ip").args(["-n", place]).args(line.split(' ')));
            }
        }
        must(Command::new("nsenter").arg(format!("--net=/run/netns/{lan}")).args(["sysctl", "-qw", "net.ipv4.ip_forward=0"]));
        made
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        drop(Command::new("ip").args(["netns", "del", &self.name]).stderr(Stdio::null()).status());
    }
}

impl Host {
    pub(crate) fn new(suite: Suite, sysctls: &[&str], flags: &[&str], networks: &[Network], containers: &[Container]) -> Self {
        let engine = Engine::start_on(suite, sysctls, flags);
        image::import(&engine, "cifixture", "1", "good");
        let docker = Docker::at(&engine.address());
        let lan = Neighbour::on_uplink_of(engine.netns());
        for (name, arguments) in networks {
            let bridge = format!("com.docker.network.bridge.name=br-{name}");
            let begin = ["network", "create", "--opt", &bridge];
            docker.ok(&[&begin, words(arguments).as_slice(), &[name]].concat());
        }
        for (name, arguments) in containers {
            let begin = ["run", "--detach", "--name", name];
            docker.ok(&[&begin, words(arguments).as_slice(), &["cifixture:1", "sleep", "100000"]].concat());
        }
        docker.run(&["network", "connect", "nb", "ab"]);
        let mut host = Self {
            engine,
            docker,
            lan,
            files: Scratch::new("failures"),
            rules: Rules { ipv4: String::new(), ipv6: String::new() },
            stock: Value::Null,
        };
        host.wait_for_addresses(containers);
        host.rules = Rules { ipv4: host.sh("host", "iptables-save").unwrap(), ipv6: host.sh("host", "ip6tables-save").unwrap() };
        host.stock = host.state().unwrap();
        host
    }

    /// An address is not one until nobody objects to it.
    fn wait_for_addresses(&self, containers: &[Container]) {
        for place in containers.iter().map(|(name, _)| *name).chain(["host", "lan"]) {
            wait_until(&format!("no address of {place} is tentative"), Duration::from_secs(30), || {
                self.sh(place, "ip -6 address show tentative").is_ok_and(|shown| shown.trim().is_empty())
            });
        }
    }

    /// The file of a namespace.
    pub(crate) fn namespace(&self, place: &str) -> Result<PathBuf> {
        let named = |name: &str| PathBuf::from("/run/netns").join(name);
        match place {
            "host" => Ok(named(self.engine.netns())),
            "lan" | "outside" => Ok(named(&self.lan.name)),
            name if name == self.lan.name => Ok(named(name)),
            name => {
                let shown = self.engine.json(&format!("/containers/{name}/json")).with_context(|| format!("no container {name}"))?;
                Ok(PathBuf::from(format!("/proc/{}/ns/net", shown["State"]["Pid"])))
            }
        }
    }

    /// A command in a namespace.
    pub(crate) fn inside(&self, place: &str, program: &str) -> Result<Command> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace(place)?.display())).arg(program);
        Ok(command)
    }

    fn sh(&self, place: &str, line: &str) -> Result<String> {
        let mut command = self.inside(place, "sh")?;
        let output = command.args(["-ec", line]).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{place}: {line}: {said}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Runs lines of the form `PLACE: COMMAND`; a place is a container, `host`, `lan`, or `docker` for the client.
    pub(crate) fn all(&self, lines: &[&str]) -> Result<()> {
        for line in lines {
            let line = self.expanded(line)?;
            let (place, command) = line.split_once(": ").with_context(|| format!("`{line}` has no place"))?;
            if place == "docker" {
                let outcome = self.docker.run(&words(command));
                ensure!(outcome.code == 0, "docker {command}: {}", outcome.stderr);
            } else {
                self.sh(place, command)?;
            }
        }
        Ok(())
    }

    /// `{lan}` is the neighbour's name, `{mac:a1}` a hardware address, `{port:a1}` the other end of its link, `{ns:a1}` its file.
    pub(crate) fn expanded(&self, line: &str) -> Result<String> {
        let mut text = line.replace("{lan}", &self.lan.name);
        while let Some((before, rest)) = text.split_once("{mac:").or_else(|| text.split_once("{port:")).or_else(|| text.split_once("{ns:")) {
            let (name, after) = rest.split_once('}').context("an open bracket")?;
            let value = match text.get(before.len()..before.len() + 4) {
                Some("{mac") => self.link(name)?["address"].as_str().context("no address")?.to_owned(),
                Some("{ns:") => self.namespace(name)?.display().to_string(),
                _ => self.port(name)?,
            };
            text = format!("{before}{value}{after}");
        }
        Ok(text)
    }

    fn link(&self, place: &str) -> Result<Value> {
        let shown: Value = serde_json::from_str(&self.sh(place, "ip -json link show eth0")?)?;
        Ok(shown[0].clone())
    }

    fn port(&self, place: &str) -> Result<String> {
        let index = self.link(place)?["link_index"].clone();
        let links: Value = serde_json::from_str(&self.sh("host", "ip -json link show")?)?;
        let port = links.as_array().into_iter().flatten().find(|link| link["ifindex"] == index);
        Ok(port.and_then(|port| port["ifname"].as_str()).with_context(|| format!("{place} has no port"))?.to_owned())
    }

    /// What netcheck reads here: its file, and it.
    pub(crate) fn look(&self) -> Result<(PathBuf, Snapshot)> {
        let path = self.files.join("snapshot.json");
        let program = proxy::netcheck();
        let mut command = self.inside("host", program.to_str().context("a path")?)?;
        let output = command.args(["snapshot", "--engine", &self.engine.address(), "-o"]).arg(&path).output()?;
        ensure!(output.status.success(), "netcheck snapshot: {}", String::from_utf8_lossy(&output.stderr));
        let snapshot = Snapshot::from_json(&fs::read(&path)?)?;
        Ok((path, snapshot))
    }

    /// `netcheck check` of a snapshot under a preset, or the text of a policy.
    pub(crate) fn check(&self, snapshot: &PathBuf, policy: &str, attacker: &str) -> Result<Value> {
        let policy = match policy {
            "docker-default" | "strict" => policy.to_owned(),
            text => self.files.write("policy.yaml", text).display().to_string(),
        };
        let mut command = Command::new(proxy::netcheck());
        command.args(["check", "--format", "json", "--policy", &policy, "--attacker", attacker, "--from"]).arg(snapshot);
        let output = command.output()?;
        ensure!(output.stderr.is_empty(), "netcheck check: {}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Undoes what a row did, puts all rules back, and looks whether everything is as it was.
    pub(crate) fn undo(&self, lines: &[&str]) -> Result<()> {
        self.all(lines)?;
        // not table by table: a row may have made one that the engine has not
        self.sh("host", "nft flush ruleset")?;
        self.restore("iptables-restore", &self.rules.ipv4)?;
        self.restore("ip6tables-restore", &self.rules.ipv6)?;
        let now = self.state()?;
        let parts = self.stock.as_object().into_iter().flatten();
        let left: Vec<String> = parts.filter_map(|(name, was)| differing(name, was, &now[name])).collect();
        ensure!(left.is_empty(), "it is not undone: {}", left.join("\n"));
        Ok(())
    }

    fn restore(&self, program: &str, rules: &str) -> Result<()> {
        let file = self.files.write("rules", rules);
        let mut command = self.inside("host", program)?;
        let output = command.arg(&file).output()?;
        ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// What a row may change, without what changes by itself.
    fn state(&self) -> Result<Value> {
        let (path, _) = self.look()?;
        let read: Value = serde_json::from_slice(&fs::read(path)?)?;
        let mut state = BTreeMap::new();
        for namespace in read["namespaces"].as_array().into_iter().flatten() {
            for part in
                ["links", "addresses", "routes", "rules", "ipv4_all", "ipv4_default", "ipv6_all", "ipv6_default", "sysctls", "tables", "ipsets"]
            {
                // iptables-restore may write the same rule in other words than the engine did
                if part == "tables" && namespace["id"] == read["this_host"] {
                    continue;
                }
                let mut value = namespace[part].clone();
                settle(&mut value);
                state.insert(format!("{} {part}", namespace["id"]), value);
            }
        }
        state.insert("gaps".to_owned(), read["gaps"].clone());
        for list in ["iptables-save", "ip6tables-save", "nft list tables"] {
            let shown = self.sh("host", list)?;
            let words = |line: &str| line.split(" [").next().unwrap_or_default().to_owned();
            let mut lines: Vec<String> = shown.lines().filter(|line| !line.starts_with('#')).map(words).collect();
            if list.ends_with("tables") {
                lines.sort();
            }
            state.insert(list.to_owned(), lines.into());
        }
        Ok(serde_json::to_value(state)?)
    }
}

/// Handles are new whenever a rule is made again, and so is the order of tables and chains.
fn settle(value: &mut Value) {
    match value {
        Value::Array(list) => {
            list.iter_mut().for_each(settle);
            if list.iter().all(|one| one["chains"].is_array() || one["rules"].is_array() || one["base"].is_object() || one["destination"].is_string())
            {
                list.sort_by_key(ToString::to_string);
            }
        }
        Value::Object(map) => {
            map.remove("handle");
            map.values_mut().for_each(settle);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What was and is not, and what is and was not.
fn differing(name: &str, was: &Value, is: &Value) -> Option<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
    let only = |here: &Value, there: &Value| -> Vec<String> {
        list(here).iter().filter(|one| !list(there).contains(one)).map(ToString::to_string).collect()
    };
    let short = |found: Vec<String>| found.join(" ").chars().take(300).collect::<String>();
    (was != is).then(|| format!("{name}:\n  was {}\n  is  {}", short(only(was, is)), short(only(is, was))))
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}
