//! Random topologies: a host with bridges, containers, a router between two of them, an uplink.

use std::fmt::Write as _;
use std::net::IpAddr;

use netcheck::twin::Sockets;

use crate::lab::Lab;
use crate::random::Random;

/// A topology in the kernel.
pub(crate) struct World {
    pub(crate) lab: Lab,
    pub(crate) members: Vec<Member>,
    /// What was set up, for a report.
    pub(crate) text: String,
}

/// A namespace that sends and receives.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) sockets: Sockets,
    pub(crate) addresses: Vec<IpAddr>,
}

/// One end on a segment.
struct End {
    namespace: String,
    link: String,
    ipv4: String,
    ipv6: String,
    mac: String,
}

pub(crate) const BRIDGES: [&str; 3] = ["br0", "br1", "br2"];
/// Container, its bridge.
const CONTAINERS: [(&str, usize); 7] = [("c0", 0), ("c1", 0), ("c2", 0), ("c3", 1), ("c4", 1), ("c5", 2), ("c6", 2)];

impl World {
    pub(crate) fn new(seed: u64, random: &mut Random) -> Self {
        let mut lab = Lab::new(&format!("w{seed}"));
        let mut text = String::new();
        let mut ends = Vec::new();
        let names: Vec<&str> = ["h", "r", "lan"].into_iter().chain(CONTAINERS.iter().map(|(name, _)| *name)).collect();
        for name in &names {
            lab.add(name);
            lab.sysctl(name, &quiet());
        }
        wire(&lab, random, &mut ends, &mut text);
        neighbours(&lab, &ends, random);
        switches(&lab, random, &mut text);
        let members = names
            .iter()
            .map(|name| Member {
                name: (*name).to_owned(),
                sockets: lab.sockets(name),
                addresses: ends
                    .iter()
                    .filter(|end| end.namespace == *name)
                    .flat_map(|end| [end.ipv4.parse().unwrap(), end.ipv6.parse().unwrap()])
                    .collect(),
            })
            .collect();
        Self { lab, members, text }
    }

    /// Addresses worth sending to, of one family.
    pub(crate) fn destinations(&self, ipv4: bool) -> Vec<IpAddr> {
        let own = self.members.iter().flat_map(|member| member.addresses.iter().copied());
        let extra: [&str; 6] = if ipv4 {
            ["10.20.0.77", "10.20.1.200", "127.0.0.1", "8.8.8.8", "192.168.77.50", "10.20.3.3"]
        } else {
            ["fd20::77", "fd20:0:0:1::200", "::1", "2001:db8::8", "fd77::50", "fd20:0:0:3::3"]
        };
        own.chain(extra.iter().map(|text| text.parse().unwrap())).filter(|address| address.is_ipv4() == ipv4).collect()
    }
}

/// No redirects, no duplicate address detection, no router advertisements: they would change the world while it is looked at.
fn quiet() -> String {
    let mut text = String::new();
    for scope in ["all", "default"] {
        for setting in ["accept_redirects=0", "secure_redirects=0"] {
            let _ = writeln!(text, "net.ipv4.conf.{scope}.{setting}");
        }
        for setting in ["accept_redirects=0", "accept_dad=0", "dad_transmits=0", "accept_ra=0", "router_solicitations=0"] {
            let _ = writeln!(text, "net.ipv6.conf.{scope}.{setting}");
        }
    }
    text
}

fn wire(lab: &Lab, random: &mut Random, ends: &mut Vec<End>, text: &mut String) {
    let mut batch = String::new();
    for (number, bridge) in BRIDGES.iter().enumerate() {
        let mac = format!("02:20:00:00:0{number}:01");
        let _ = writeln!(batch, "link add {bridge} address {mac} type bridge forward_delay 0");
        let (ipv4, ipv6) = (format!("10.20.{number}.1"), format!("fd20:0:0:{number}::1"));
        let _ = writeln!(batch, "addr add {ipv4}/24 dev {bridge}\naddr add {ipv6}/64 dev {bridge} nodad\nlink set {bridge} up");
        ends.push(End { namespace: "h".into(), link: (*bridge).into(), ipv4, ipv6, mac });
    }
    let mut attach = |namespace: &str, link: &str, bridge: usize, host: &str, number: usize, ends: &mut Vec<End>| {
        let mac = format!("02:20:00:00:0{bridge}:{number:02}");
        let full = lab.full(namespace);
        let _ =
            writeln!(batch, "link add {host} type veth peer name {link} address {mac} netns {full}\nlink set {host} master {} up", BRIDGES[bridge]);
        for flag in ["isolated", "hairpin"] {
            if random.percent(20) {
                let _ = writeln!(batch, "link set {host} type bridge_slave {flag} on");
                let _ = writeln!(text, "{host} {flag}");
            }
        }
        ends.push(End {
            namespace: namespace.into(),
            link: link.into(),
            ipv4: format!("10.20.{bridge}.{number}"),
            ipv6: format!("fd20:0:0:{bridge}::{number}"),
            mac,
        });
    };
    for (index, (name, bridge)) in CONTAINERS.iter().enumerate() {
        attach(name, "eth0", *bridge, &format!("v{name}"), 10 + index, ends);
    }
    attach("r", "eth0", 0, "vr0", 30, ends);
    attach("r", "eth1", 1, "vr1", 30, ends);
    let lan = lab.full("lan");
    let _ = writeln!(batch, "link add up0 address 02:77:00:00:00:01 type veth peer name lan0 address 02:77:00:00:00:02 netns {lan}");
    let _ = writeln!(batch, "addr add 192.168.77.1/24 dev up0\naddr add fd77::1/64 dev up0 nodad\nlink set up0 up");
    lab.ip("h", &batch);
    for (namespace, link, last) in [("h", "up0", 1), ("lan", "lan0", 2)] {
        ends.push(End {
            namespace: namespace.into(),
            link: link.into(),
            ipv4: format!("192.168.77.{last}"),
            ipv6: format!("fd77::{last}"),
            mac: format!("02:77:00:00:00:0{last}"),
        });
    }
    for end in ends.iter().filter(|end| end.namespace != "h") {
        let End { link, ipv4, ipv6, .. } = end;
        lab.ip(&end.namespace, &format!("addr add {ipv4}/24 dev {link}\naddr add {ipv6}/64 dev {link} nodad\nlink set {link} up\n"));
    }
    lab.ip("h", "route add default via 192.168.77.2\nroute add default via fd77::2\n");
    lab.ip("lan", "route add default via 192.168.77.1\nroute add default via fd77::1\n");
    for (name, bridge) in CONTAINERS.iter().copied().chain([("r", 0)]) {
        if random.percent(92) {
            lab.ip(name, &format!("route add default via 10.20.{bridge}.1\nroute add default via fd20:0:0:{bridge}::1\n"));
        }
    }
    extras(lab, random, ends, text);
}

/// What Docker did not make: routes through another container, a cable between two containers.
fn extras(lab: &Lab, random: &mut Random, ends: &mut Vec<End>, text: &mut String) {
    if random.percent(50) {
        lab.ip("c0", "route add 10.20.1.0/24 via 10.20.0.30\nroute add fd20:0:0:1::/64 via fd20::30\n");
        text.push_str("c0 routes 10.20.1.0/24 via r\n");
    }
    if random.percent(30) {
        // A next hop of its own choice, with the hardware address of a container: what CAP_NET_RAW can do.
        let mac = "02:20:00:00:00:30";
        let gateway = "neigh add 10.20.0.253 lladdr 02:20:00:00:00:30 dev eth0 nud permanent\nroute add 10.20.2.0/24 via 10.20.0.253\n";
        lab.ip("c1", gateway);
        let _ = writeln!(text, "c1 sends 10.20.2.0/24 to {mac}");
    }
    if random.percent(40) {
        let c4 = lab.full("c4");
        lab.ip("c2", &format!("link add x0 address 02:99:00:00:00:01 type veth peer name x0 address 02:99:00:00:00:02 netns {c4}\n"));
        for (name, last) in [("c2", 1), ("c4", 2)] {
            lab.ip(name, &format!("addr add 10.99.0.{last}/24 dev x0\naddr add fd99::{last}/64 dev x0 nodad\nlink set x0 up\n"));
            ends.push(End {
                namespace: name.into(),
                link: "x0".into(),
                ipv4: format!("10.99.0.{last}"),
                ipv6: format!("fd99::{last}"),
                mac: format!("02:99:00:00:00:0{last}"),
            });
        }
        text.push_str("a cable between c2 and c4\n");
    }
}

/// IPv6 neighbours are fixed: solicitations pass the rules, and the kernel remembers answers from before the rules changed.
fn neighbours(lab: &Lab, ends: &[End], random: &mut Random) {
    let segment = |end: &End| end.ipv6.rsplit_once("::").unwrap().0.to_owned();
    let arp = random.percent(60);
    let namespaces: std::collections::BTreeSet<&String> = ends.iter().map(|end| &end.namespace).collect();
    for namespace in namespaces {
        let mut batch = String::new();
        for own in ends.iter().filter(|end| end.namespace == *namespace) {
            for other in ends.iter().filter(|end| end.namespace != *namespace && segment(end) == segment(own)) {
                let _ = writeln!(batch, "neigh replace {} lladdr {} dev {} nud permanent", other.ipv6, other.mac, own.link);
                if !arp {
                    let _ = writeln!(batch, "neigh replace {} lladdr {} dev {} nud permanent", other.ipv4, other.mac, own.link);
                }
            }
        }
        lab.ip(namespace, &batch);
    }
}

/// Switches of the kernel, and policy routing.
fn switches(lab: &Lab, random: &mut Random, text: &mut String) {
    let mut host = String::new();
    let mut set = |line: String, into: &mut String| {
        let _ = writeln!(into, "{line}");
        let _ = writeln!(text, "{line}");
    };
    let bit = |random: &mut Random, percent: u64| u8::from(random.percent(percent));
    for tool in ["iptables", "ip6tables"] {
        let on = bit(random, 65);
        set(format!("net.bridge.bridge-nf-call-{tool}={on}"), &mut host);
    }
    set(format!("net.ipv4.ip_forward={}", bit(random, 92)), &mut host);
    set(format!("net.ipv6.conf.all.forwarding={}", bit(random, 92)), &mut host);
    let all = *random.one(&[0, 0, 0, 1, 2]);
    set(format!("net.ipv4.conf.all.rp_filter={all}"), &mut host);
    for link in ["br0", "br1", "br2", "up0"] {
        for (setting, percent) in [("forwarding", 92), ("route_localnet", 12), ("send_redirects", 50), ("accept_local", 10), ("proxy_arp", 10)] {
            let on = bit(random, percent);
            set(format!("net.ipv4.conf.{link}.{setting}={on}"), &mut host);
        }
        let filter = *random.one(&[0, 0, 0, 1, 2]);
        set(format!("net.ipv4.conf.{link}.rp_filter={filter}"), &mut host);
    }
    lab.sysctl("h", &host);
    let mut router = String::new();
    set(format!("net.ipv4.ip_forward={}", bit(random, 80)), &mut router);
    set(format!("net.ipv6.conf.all.forwarding={}", bit(random, 80)), &mut router);
    lab.sysctl("r", &router);
    let bridge_flag = random.percent(15);
    if bridge_flag {
        lab.ip("h", "link set br1 type bridge nf_call_iptables 1\n");
        text.push_str("br1 nf_call_iptables\n");
    }
    let mut batch = String::new();
    if random.percent(40) {
        let rules = [
            "rule add iif br0 to 10.20.1.0/24 lookup 100 pref 100",
            "rule add fwmark 1 lookup 101 pref 101",
            "rule add iif br2 lookup 102 suppress_prefixlength 0 pref 102",
            "rule add from 10.20.2.15 iif br2 blackhole pref 103",
            "rule add iif br1 dport 80 ipproto tcp prohibit pref 104",
            "rule add not iif br0 to 10.20.2.16 lookup 100 pref 105",
        ];
        for rule in rules {
            if random.percent(40) {
                let _ = writeln!(batch, "{rule}");
            }
        }
        batch.push_str("route add 10.20.1.13 dev br1 table 100\nroute add unreachable 10.20.1.14 table 100\nroute add throw 10.20.1.30 table 100\n");
        batch.push_str(
            "route add default via 192.168.77.2 table 101\nroute add 10.20.2.0/24 dev br2 table 102\nroute add blackhole 10.20.2.16 table 100\n",
        );
    }
    lab.ip("h", &batch);
    text.push_str(&batch);
}
