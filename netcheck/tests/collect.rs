//! The collector in namespaces of its own: what was set up is what is read, and nothing is left changed.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that cannot go on says so")]

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Output, Stdio};

use netcheck::snapshot::{Expression, LinkKind, Match, NamespaceId, Snapshot, Target};

/// Namespaces with a common prefix; gone when this is dropped.
struct Lab {
    prefix: String,
    names: Vec<String>,
}

impl Lab {
    fn new(tag: &str) -> Self {
        Self { prefix: format!("ncc{}{tag}", std::process::id()), names: Vec::new() }
    }

    fn full(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    fn add(&mut self, name: &str) {
        let full = self.full(name);
        run(&["ip", "netns", "add", &full], "");
        self.names.push(full);
    }

    fn ip(&self, name: &str, batch: &str) {
        run(&["ip", "-n", &self.full(name), "-batch", "-"], batch);
    }

    fn inside(&self, name: &str, command: &[&str], input: &str) -> String {
        let full = self.full(name);
        let whole: Vec<&str> = ["ip", "netns", "exec", &full].into_iter().chain(command.iter().copied()).collect();
        run(&whole, input)
    }

    /// `netcheck snapshot`, started in a namespace.
    fn snapshot(&self, name: &str) -> Snapshot {
        let net = format!("--net=/run/netns/{}", self.full(name));
        let json = run(&["nsenter", &net, env!("CARGO_BIN_EXE_netcheck"), "snapshot", "--engine", "none"], "");
        Snapshot::from_json(json.as_bytes()).unwrap()
    }

    fn id(&self, snapshot: &Snapshot, name: &str) -> NamespaceId {
        let full = self.full(name);
        snapshot.namespaces.iter().find(|namespace| namespace.names.contains(&full)).unwrap_or_else(|| panic!("{full} is not in the snapshot")).id
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn run(command: &[&str], input: &str) -> String {
    let Output { status, stdout, stderr } = try_run(command, input);
    assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

fn try_run(command: &[&str], input: &str) -> Output {
    let mut child = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// `ip netns add` makes a file that nobody may open before it mounts a namespace on it: there is none to be read yet.
#[test]
fn a_name_without_a_namespace_is_no_gap() {
    let mut lab = Lab::new("name");
    lab.add("a");
    let bare = lab.full("bare");
    let path = format!("/run/netns/{bare}");
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o000).open(&path).unwrap();
    lab.names.push(bare);
    let snapshot = lab.snapshot("a");
    assert!(!snapshot.gaps.iter().any(|gap| gap.detail.contains(&path)), "{:?}", snapshot.gaps);
    lab.id(&snapshot, "a");
}

/// Two containers on a bridge of a host.
fn small(tag: &str) -> Lab {
    let mut lab = Lab::new(tag);
    for name in ["host", "a", "b"] {
        lab.add(name);
    }
    lab.ip("host", "link set lo up\nlink add br0 type bridge\naddr add 10.0.0.1/24 dev br0\nlink set br0 up\n");
    for (name, last) in [("a", 2), ("b", 3)] {
        lab.ip("host", &format!("link add v{name} type veth peer name eth0 netns {}\nlink set v{name} master br0 up\n", lab.full(name)));
        lab.ip(name, &format!("link set lo up\nlink set eth0 up\naddr add 10.0.0.{last}/24 dev eth0\nroute add default via 10.0.0.1\n"));
    }
    lab
}

#[test]
fn wiring_is_read_from_both_ends() {
    let lab = small("w");
    let snapshot = lab.snapshot("host");
    assert_eq!(snapshot.namespaces.len(), 3, "this host's namespace and those that links lead to");
    assert_eq!(snapshot.this_host, lab.id(&snapshot, "host"));
    assert!(snapshot.gaps.is_empty(), "{:?}", snapshot.gaps);
    let host = snapshot.namespace(snapshot.this_host).unwrap();
    for name in ["a", "b"] {
        let inside = snapshot.namespace(lab.id(&snapshot, name)).unwrap();
        let eth0 = inside.links.iter().find(|link| link.name == "eth0").unwrap();
        let port = host.links.iter().find(|link| link.name == format!("v{name}")).unwrap();
        let (up, down) = (eth0.peer.unwrap(), port.peer.unwrap());
        assert_eq!((up.index, up.namespace), (port.index, Some(host.id)));
        assert_eq!((down.index, down.namespace), (eth0.index, Some(inside.id)));
        assert!(port.port.as_ref().is_some_and(|port| !port.isolated && !port.hairpin));
        let bridge = host.link(port.master.unwrap()).unwrap();
        assert!(matches!(bridge.kind, LinkKind::Bridge(_)));
    }
    let json = snapshot.to_json().unwrap();
    assert_eq!(Snapshot::from_json(&json).unwrap(), snapshot, "what is written is what is read");
}

#[test]
fn rules_are_read_as_bytecode_without_anything_opaque() {
    let lab = small("r");
    lab.inside(
        "host",
        &["nft", "-f", "-"],
        "table inet t {
            map jumps { type ifname : verdict; flags interval; elements = { \"br*\" : drop, \"eth0\" : accept } }
            set nets { type ipv4_addr; flags interval; elements = { 10.1.0.0/16, 10.3.0.5-10.3.0.9 } }
            set pairs { type ipv4_addr . inet_service; flags interval; elements = { 10.0.0.0/8 . 80-90 } }
            chain fw { type filter hook forward priority 5; policy drop;
                ct state established,related accept
                iifname vmap @jumps
                ip saddr @nets ip saddr . tcp dport @pairs accept
                fib daddr type local meta mark set 7
                tcp dport { 22, 443 } limit rate 5/second accept comment \"few\"
            }
        }",
    );
    lab.inside(
        "host",
        &["iptables-restore"],
        "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -m addrtype --dst-type LOCAL -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.0.0.2:80\nCOMMIT\n*filter\n:FORWARD DROP [0:0]\n-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\nCOMMIT\n",
    );
    let snapshot = lab.snapshot("host");
    let host = snapshot.namespace(snapshot.this_host).unwrap();
    let expressions: Vec<&Expression> =
        host.tables.iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules).flat_map(|rule| &rule.expressions).collect();
    let opaque = |expression: &&&Expression| {
        matches!(expression, Expression::Opaque { .. } | Expression::Match(Match::Opaque { .. }) | Expression::Target(Target::Opaque { .. }))
    };
    assert_eq!(expressions.iter().find(opaque), None);
    assert!(
        expressions.iter().any(|one| matches!(one, Expression::Target(Target::Dnat(range)) if range.ports.is_some_and(|ports| ports.first == 80)))
    );
    assert!(expressions.iter().any(|one| matches!(one, Expression::Match(Match::Conntrack(ct)) if ct.state == Some((6, false)))));
    let table = host.tables.iter().find(|table| table.name == "t").unwrap();
    let set = |name: &str| &table.sets.iter().find(|set| set.name == name).unwrap().elements;
    let ends: Vec<(String, String)> = set("nets").iter().map(|one| (one.from.to_string(), one.to.to_string())).collect();
    assert_eq!(ends, [("0a010000".to_owned(), "0a01ffff".to_owned()), ("0a030005".to_owned(), "0a030009".to_owned())]);
    assert_eq!((set("jumps").len(), set("pairs").len()), (2, 1));
    assert!(table.chains.iter().flat_map(|chain| &chain.rules).any(|rule| rule.comment.as_deref() == Some("few")));
}

#[test]
fn what_is_not_modelled_is_told() {
    let lab = small("g");
    lab.inside("host", &["tc", "qdisc", "add", "dev", "va", "clsact"], "");
    let snapshot = lab.snapshot("host");
    let kinds: Vec<String> = snapshot.gaps.iter().map(|gap| format!("{:?} {}", gap.kind, gap.detail)).collect();
    assert!(kinds.iter().any(|kind| kind.contains("TrafficControl") && kind.contains("clsact")), "{kinds:?}");
}

#[test]
fn collecting_leaves_rules_and_links_as_they_are() {
    let lab = small("n");
    let state = || {
        let links = lab.inside("host", &["ip", "-o", "link"], "");
        let rules = lab.inside("host", &["nft", "list", "ruleset"], "");
        let legacy = lab.inside("host", &["cat", "/proc/net/ip_tables_names"], "");
        (links, rules, legacy)
    };
    let before = state();
    lab.snapshot("host");
    assert_eq!(state(), before);
}

#[test]
fn namespaces_that_come_and_go_are_no_error() {
    let lab = small("c");
    let prefix = lab.full("x");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let host = lab.full("host");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0.. {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                let name = format!("{prefix}{round}");
                run(&["ip", "netns", "add", &name], "");
                run(&["ip", "-n", &host, "link", "add", "vx", "type", "veth", "peer", "name", "eth0", "netns", &name], "");
                run(&["ip", "-n", &host, "link", "set", "vx", "master", "br0", "up"], "");
                run(&["ip", "netns", "del", &name], "");
                // The other end goes with the namespace, a little later.
                let _ = try_run(&["ip", "-n", &host, "link", "del", "vx"], "");
            }
        });
        for _ in 0..30 {
            let snapshot = lab.snapshot("host");
            let a = snapshot.namespace(lab.id(&snapshot, "a")).unwrap();
            assert!(a.addresses.iter().any(|address| address.address.addr().to_string() == "10.0.0.2"));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// What comes to a proxy's sockets goes on to a container: without a look at its sockets nothing may be called closed.
#[test]
fn a_proxy_that_cannot_be_looked_at_is_a_gap() {
    let mut lab = Lab::new("x");
    lab.add("host");
    let folder = std::env::temp_dir().join(lab.full("bin"));
    std::fs::create_dir_all(&folder).unwrap();
    let program = folder.join("docker-proxy");
    // Its name is that of the link. A copy could be held open by a child of another test, and could not be run then.
    std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
    let mut proxy = Command::new(&program).arg("1000").spawn().unwrap();
    let net = format!("--net=/run/netns/{}", lab.full("host"));
    let seen = |capabilities: &str| {
        let bounds = format!("-all,{capabilities}");
        let output = Command::new("nsenter")
            .args([&net, "setpriv", "--bounding-set", &bounds, "--inh-caps", "-all", env!("CARGO_BIN_EXE_netcheck"), "snapshot", "--engine", "none"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let pid = format!("process {} (docker-proxy)", proxy.id());
        Snapshot::from_json(&output.stdout).unwrap().gaps.iter().any(|gap| gap.detail.starts_with(&pid))
    };
    let (without, with) = (seen("+sys_admin,+net_admin"), seen("+sys_admin,+net_admin,+sys_ptrace"));
    proxy.kill().unwrap();
    proxy.wait().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(without && !with, "a gap without: {without}, with CAP_SYS_PTRACE: {with}");
}
