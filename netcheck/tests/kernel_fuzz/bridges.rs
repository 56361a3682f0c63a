//! The basic scenario: two bridges with two containers each, a neighbour, and rules like an engine's. Every question is answered
//! from what the collector reads, and asked of the kernel with a packet.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netcheck::analyse::{Answer, Attacker, Question, explain};
use netcheck::model::{EndpointKind, Model};
use netcheck::packet::{Packet, Protocol};
use netcheck::snapshot::Snapshot;
use netcheck::space::{Field, Ranges};
use netcheck::twin::{Sockets, wire};
use netcheck::walk::{End, Start, Walker, point};

use crate::lab::Lab;

const RULES: &str = r#"
table inet engine {
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname "br1" oifname "br1" drop
    meta l4proto ipv6-icmp accept
    iifname "br0" oifname "br1" drop
    iifname "br1" oifname "br0" drop
    ip daddr 10.30.0.10 tcp dport 80 accept
    iifname { "br0", "br1" } accept
  }
}
table ip nat {
  chain prerouting {
    type nat hook prerouting priority -100;
    fib daddr type local tcp dport 8080 dnat to 10.30.0.10:80
  }
  chain postrouting {
    type nat hook postrouting priority 100;
    ip saddr 10.30.0.0/24 oifname != "br0" masquerade
  }
}
"#;

/// Name, address, IPv6 address.
const MEMBERS: [(&str, &str, &str); 6] = [
    ("a1", "10.30.0.10", "fd30::10"),
    ("a2", "10.30.0.11", "fd30::11"),
    ("b1", "10.30.1.10", "fd30:0:0:1::10"),
    ("b2", "10.30.1.11", "fd30:0:0:1::11"),
    ("lan", "192.168.78.2", "fd78::2"),
    ("h", "10.30.0.1", "fd30::1"),
];

fn build() -> Lab {
    let mut lab = Lab::new("b");
    for (name, ..) in MEMBERS {
        lab.add(name);
        lab.sysctl(name, "net.ipv6.conf.default.accept_dad=0\nnet.ipv6.conf.default.dad_transmits=0\nnet.ipv4.conf.all.accept_redirects=0\n");
    }
    lab.sysctl(
        "h",
        "net.ipv4.ip_forward=1\nnet.ipv6.conf.all.forwarding=1\nnet.bridge.bridge-nf-call-iptables=1\nnet.bridge.bridge-nf-call-ip6tables=1\n",
    );
    for bridge in 0..2 {
        lab.ip("h", &format!("link add br{bridge} type bridge forward_delay 0\naddr add 10.30.{bridge}.1/24 dev br{bridge}\naddr add fd30:0:0:{bridge}::1/64 dev br{bridge} nodad\nlink set br{bridge} up\n"));
    }
    for (name, ipv4, ipv6) in MEMBERS.iter().filter(|(name, ..)| name.len() == 2) {
        let bridge = u8::from(name.starts_with('b'));
        let full = lab.full(name);
        lab.ip("h", &format!("link add v{name} type veth peer name eth0 netns {full}\nlink set v{name} master br{bridge} up\n"));
        lab.ip(name, &format!("addr add {ipv4}/24 dev eth0\naddr add {ipv6}/64 dev eth0 nodad\nlink set eth0 up\nroute add default via 10.30.{bridge}.1\nroute add default via fd30:0:0:{bridge}::1\n"));
    }
    let lan = lab.full("lan");
    lab.ip("h", &format!("link add up0 type veth peer name lan0 netns {lan}\naddr add 192.168.78.1/24 dev up0\naddr add fd78::1/64 dev up0 nodad\nlink set up0 up\nroute add default via 192.168.78.2\n"));
    lab.ip("lan", "addr add 192.168.78.2/24 dev lan0\naddr add fd78::2/64 dev lan0 nodad\nlink set lan0 up\nroute add default via 192.168.78.1\nroute add default via fd78::1\n");
    assert!(lab.nft("h", RULES).is_some());
    lab
}

#[test]
fn two_bridges_are_as_the_kernel_has_them() {
    let lab = build();
    let sockets: Vec<(&str, Sockets)> = MEMBERS.iter().map(|(name, ..)| (*name, lab.sockets(name))).collect();
    let model = Model::new(&Snapshot::from_json(&lab.snapshot("h")).unwrap());
    let mut wrong = Vec::new();
    let mut open = 0;
    let mut id = 0;
    for (from, source4, source6) in MEMBERS {
        for (to, target4, target6) in MEMBERS.iter().filter(|(to, ..)| *to != from) {
            for (source, target) in [(source4, *target4), (source6, *target6)] {
                for (protocol, port) in [(Protocol::Tcp, 80), (Protocol::Tcp, 8080), (Protocol::Udp, 53)] {
                    id += 1;
                    // Programs let the kernel choose the source; the lab must, too.
                    let source = if from == "h" && target.starts_with("10.30.1.") { "10.30.1.1" } else { source };
                    let source = if from == "h" && target.starts_with("fd30:0:0:1:") { "fd30:0:0:1::1" } else { source };
                    let mut packet = Packet::new(source.parse().unwrap(), target.parse::<IpAddr>().unwrap(), protocol.first(20_000 + id, port));
                    packet.length = wire::length(&packet);
                    let arrived = fire(&sockets, from, &packet, u32::from(id));
                    let name = if from == "h" { "host".to_owned() } else { lab.full(from) };
                    let question = Question { from: name, to: target.to_owned(), protocol, port: Some(port), attacker: Attacker::Process };
                    let got = explain(&model, &question).unwrap();
                    open += usize::from(arrived.is_some());
                    if (got.answer == Answer::Open) != arrived.is_some() || got.answer == Answer::Unknown {
                        wrong.push(format!("{packet} of {from} to {to}: kernel {arrived:?}, netcheck {:?}\n{:#?}", got.answer, got.closed_by));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(open > 40, "only {open} are open");
}

/// Where a packet arrives; neighbours may have to be found first.
fn fire(sockets: &[(&str, Sockets)], from: &str, packet: &Packet, id: u32) -> Option<String> {
    let sender = &sockets.iter().find(|(name, _)| *name == from).unwrap().1;
    sender.send(&wire::bytes(packet, id), packet.destination, None);
    for _ in 0..60 {
        std::thread::sleep(std::time::Duration::from_millis(1));
        let seen: BTreeSet<&str> = sockets
            .iter()
            .filter(|(_, sockets)| sockets.drain().iter().any(|seen| seen.identify().is_some_and(|(got, _)| got == id)))
            .map(|(name, _)| *name)
            .collect();
        if let Some(name) = seen.first() {
            return Some((*name).to_owned());
        }
    }
    None
}

/// A macvlan on a bridge gets what the bridge's ports send to it, and the bridge's own namespace cannot speak with it.
#[test]
fn a_macvlan_on_a_bridge_is_behind_it() {
    let mut lab = Lab::new("m");
    for name in ["h", "a", "m"] {
        lab.add(name);
    }
    lab.ip("h", "link add br0 type bridge forward_delay 0\naddr add 10.31.0.1/24 dev br0\nlink set br0 up\n");
    let (a, m) = (lab.full("a"), lab.full("m"));
    lab.ip("h", &format!("link add va type veth peer name eth0 netns {a}\nlink set va master br0 up\n"));
    lab.ip("h", &format!("link add link br0 name eth0 netns {m} type macvlan mode bridge\n"));
    for (name, address) in [("a", "10.31.0.2"), ("m", "10.31.0.3")] {
        lab.ip(name, &format!("addr add {address}/24 dev eth0\nlink set eth0 up\n"));
    }
    let sockets: Vec<(&str, Sockets)> = ["h", "a", "m"].map(|name| (name, lab.sockets(name))).into();
    let model = Model::new(&Snapshot::from_json(&lab.snapshot("h")).unwrap());
    for (id, (from, source, target, open)) in
        [("a", "10.31.0.2", "10.31.0.3", true), ("m", "10.31.0.3", "10.31.0.2", true), ("h", "10.31.0.1", "10.31.0.3", false)].into_iter().enumerate()
    {
        let mut packet = Packet::new(source.parse().unwrap(), target.parse().unwrap(), Protocol::Udp.first(30_000, 53));
        packet.length = wire::length(&packet);
        let arrived = fire(&sockets, from, &packet, u32::try_from(id).unwrap() + 1);
        let name = if from == "h" { "host".to_owned() } else { lab.full(from) };
        let question = Question { from: name, to: target.to_owned(), protocol: Protocol::Udp, port: Some(53), attacker: Attacker::Process };
        let got = explain(&model, &question).unwrap();
        assert_eq!((arrived.is_some(), got.answer == Answer::Open), (open, open), "{from} to {target}: {:?} {:#?}", got.answer, got.closed_by);
    }
}

/// Links that resolve no addresses, and ports that pass on no questions for them. `arp_constructor`, `arp_rcv`, `br_flood`.
#[test]
fn who_is_not_asked_is_not_found() {
    let mut lab = Lab::new("q");
    for name in ["h", "a", "q", "n", "k"] {
        lab.add(name);
        lab.sysctl(name, "net.ipv6.conf.default.accept_dad=0\nnet.ipv6.conf.default.dad_transmits=0\n");
    }
    lab.ip("h", "link add br0 type bridge forward_delay 0\naddr add 10.32.0.1/24 dev br0\naddr add fd32::1/64 dev br0 nodad\nlink set br0 up\n");
    // q is behind a port without floods; n and k have links without ARP, and k knows a.
    for (last, name) in (2..).zip(["a", "q", "n", "k"]) {
        let (full, arp) = (lab.full(name), if last > 3 { "off" } else { "on" });
        lab.ip(
            "h",
            &format!("link add v{name} type veth peer name eth0 address 02:32:00:00:00:0{last} netns {full}\nlink set v{name} master br0 up\n"),
        );
        lab.ip(
            name,
            &format!("link set eth0 arp {arp}\naddr add 10.32.0.{last}/24 dev eth0\naddr add fd32::{last}/64 dev eth0 nodad\nlink set eth0 up\n"),
        );
    }
    lab.ip("h", "link set vq type bridge_slave bcast_flood off mcast_flood off\n");
    for to in ["10.32.0.2", "fd32::2"] {
        lab.ip("k", &format!("neigh replace {to} lladdr 02:32:00:00:00:02 dev eth0 nud permanent\n"));
    }
    let sockets: Vec<(&str, Sockets)> = ["h", "a", "q", "n", "k"].map(|name| (name, lab.sockets(name))).into();
    let model = Model::new(&Snapshot::from_json(&lab.snapshot("h")).unwrap());
    // What a learnt of q is not in the snapshot, so netcheck does not say that it is closed.
    let cases = [
        ("a", 2, 3, Answer::Unknown),
        ("h", 1, 3, Answer::Open),
        ("a", 2, 4, Answer::Closed),
        ("h", 1, 4, Answer::Closed),
        ("n", 4, 2, Answer::Closed),
        ("n", 4, 5, Answer::Closed),
        ("k", 5, 2, Answer::Open),
    ];
    for (id, (from, source, target, want)) in (1..).zip(cases) {
        for net in ["10.32.0.", "fd32::"] {
            let address = |last: u8| format!("{net}{last}").parse::<IpAddr>().unwrap();
            let mut packet = Packet::new(address(source), address(target), Protocol::Udp.first(30_000, 53));
            packet.length = wire::length(&packet);
            let arrived = fire(&sockets, from, &packet, id);
            let name = if from == "h" { "host".to_owned() } else { lab.full(from) };
            let question =
                Question { from: name, to: address(target).to_string(), protocol: Protocol::Udp, port: Some(53), attacker: Attacker::Process };
            let got = explain(&model, &question).unwrap();
            assert_eq!((arrived.is_some(), got.answer), (want == Answer::Open, want), "{packet}: {:?} {:#?}", got.trace, got.closed_by);
        }
    }
}

/// `nf_nat_l4proto_unique_tuple`: whoever is asked from a port that the kernel picked answers to that port, whichever it is.
#[test]
fn an_answer_to_a_port_that_the_kernel_picked_may_be_to_any() {
    for (rule, want) in [("udp sport 54 drop", &[true][..]), ("udp dport 1024-32767 drop", &[false, true])] {
        let mut lab = Lab::new("p");
        for name in ["h", "a", "l"] {
            lab.add(name);
        }
        lab.sysctl("h", "net.ipv4.ip_forward=1\n");
        for (last, name) in [(4, "a"), (5, "l")] {
            let full = lab.full(name);
            lab.ip(
                "h",
                &format!("link add v{name} type veth peer name eth0 netns {full}\naddr add 10.33.{last}.1/24 dev v{name}\nlink set v{name} up\n"),
            );
            lab.ip(name, &format!("addr add 10.33.{last}.2/24 dev eth0\nlink set eth0 up\nroute add default via 10.33.{last}.1\n"));
        }
        lab.nft("h", "table ip nat {\n  chain c {\n    type nat hook postrouting priority 100;\n    oifname \"vl\" masquerade random\n  }\n}\n")
            .unwrap();
        lab.nft("l", &format!("table ip t {{\n  chain c {{\n    type filter hook output priority 0;\n    {rule}\n  }}\n}}\n")).unwrap();
        let sockets = ["a", "l"].map(|name| lab.sockets(name));
        let model = Model::new(&Snapshot::from_json(&lab.snapshot("h")).unwrap());
        let place = |name: &str| model.endpoint(&lab.full(name)).map(|endpoint| endpoint.kind);
        let Some(EndpointKind::Inside(namespace)) = place("a") else { panic!("a is not found") };
        let mut arrived = BTreeSet::new();
        for id in 1..60 {
            let source_port = 20_000 + u16::try_from(id).unwrap();
            let asked = Packet::new("10.33.4.2".parse().unwrap(), "10.33.5.2".parse().unwrap(), Protocol::Udp.first(source_port, 53));
            let mut walker = Walker::new(&model);
            let branches = walker.branches(asked, Start::Process { namespace, link: None }, &point(&asked));
            let [branch] = branches.as_slice() else { panic!("{branches:?}") };
            assert_eq!(branch.ports(), Some((None, Some(53))));
            let back: BTreeSet<bool> = walker.answers(branch).iter().map(|answer| answer.end == End::Delivered { namespace }).collect();
            assert_eq!(back, want.iter().copied().collect(), "{rule}");
            let Some((picked, _)) = exchange(&sockets, 0, &asked, id) else { panic!("{asked} does not arrive") };
            let answer = Packet::new("10.33.5.2".parse().unwrap(), "10.33.5.1".parse().unwrap(), Protocol::Udp.first(53, picked));
            let got = exchange(&sockets, 1, &answer, id);
            assert!(got.is_none_or(|ports| ports == (53, source_port)), "{got:?}");
            arrived.insert(got.is_some());
        }
        assert_eq!(arrived, want.iter().copied().collect(), "{rule}");
    }
}

/// An answer that a bridge translates, and that is then routed back to the host, is a connection of its own, whose answer is what the first one
/// began with: its source gets another port. `nf_conntrack_tuple_taken`.
#[test]
fn an_answer_that_is_routed_back_gets_another_port() {
    let mut lab = Lab::new("t");
    for name in ["h", "a", "r", "c"] {
        lab.add(name);
        lab.sysctl(name, "net.ipv4.ip_forward=1\nnet.ipv4.conf.all.send_redirects=0\nnet.ipv4.conf.default.send_redirects=0\n");
    }
    lab.sysctl("h", "net.bridge.bridge-nf-call-iptables=1\n");
    lab.ip("h", "link add br0 type bridge forward_delay 0\naddr add 10.34.0.1/24 dev br0\nlink set br0 up\n");
    for (name, address) in [("a", "10.34.0.2"), ("r", "10.34.0.3"), ("c", "10.34.5.2")] {
        let full = lab.full(name);
        lab.ip("h", &format!("link add v{name} type veth peer name eth0 netns {full}\nlink set v{name} up\n"));
        lab.ip(name, &format!("addr add {address}/24 dev eth0\nlink set eth0 up\n"));
    }
    lab.ip("h", "link set va master br0\nlink set vr master br0\naddr add 10.34.5.1/24 dev vc\n");
    lab.ip("a", "route add default via 10.34.0.3\n");
    lab.ip("r", "route add default via 10.34.0.1\n");
    lab.ip("c", "route add default via 10.34.5.1\n");
    lab.nft("h", "table ip nat {\n  chain c {\n    type nat hook prerouting priority -100;\n    udp dport 53 dnat to 10.34.0.2:8080\n  }\n}\n")
        .unwrap();
    let sockets = ["c", "a"].map(|name| lab.sockets(name));
    let model = Model::new(&Snapshot::from_json(&lab.snapshot("h")).unwrap());
    let Some(EndpointKind::Inside(namespace)) = model.endpoint(&lab.full("c")).map(|endpoint| endpoint.kind) else { panic!("c is not found") };
    let asked = Packet::new("10.34.5.2".parse().unwrap(), "10.99.0.2".parse().unwrap(), Protocol::Udp.first(20_000, 53));
    let mut walker = Walker::new(&model);
    let branches = walker.branches(asked, Start::Process { namespace, link: None }, &point(&asked));
    let [branch] = branches.as_slice() else { panic!("{branches:?}") };
    assert_eq!(branch.ports(), Some((Some(20_000), Some(8080))));
    let back: Vec<_> = walker.answers(branch).iter().map(|answer| (answer.end.clone(), answer.ports())).collect();
    assert_eq!(back, [(End::Delivered { namespace }, Some((None, Some(20_000))))]);
    assert_eq!(exchange(&sockets, 0, &asked, 1), Some((20_000, 8080)));
    let answer = Packet::new("10.34.0.2".parse().unwrap(), "10.34.5.2".parse().unwrap(), Protocol::Udp.first(8080, 20_000));
    let Some((picked, 20_000)) = exchange(&sockets, 1, &answer, 2) else { panic!("the answer does not arrive") };
    assert_ne!(picked, 53);
}

/// Sends from one of two, and tells the ports with which it arrives at the other one.
pub(crate) fn exchange(sockets: &[Sockets; 2], from: usize, packet: &Packet, id: u32) -> Option<(u16, u16)> {
    sockets[from].send(&wire::bytes(packet, id), packet.destination, None);
    for _ in 0..60 {
        let seen = sockets[1 - from].drain();
        if let Some((_, ports)) = seen.iter().filter_map(|seen| seen.identify()).find(|(got, _)| *got == id) {
            return ports;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    None
}

/// `fib_validate_source`: for the way back the ports are exchanged, too, so a rule about source ports looks at the destination port.
#[test]
fn the_way_back_is_looked_up_with_the_ports_exchanged() {
    let mut lab = Lab::new("v");
    for name in ["h", "a"] {
        lab.add(name);
    }
    let full = lab.full("a");
    lab.ip(
        "h",
        &format!("link add va address 02:35:00:00:00:01 type veth peer name eth0 netns {full}\naddr add 10.35.0.1/24 dev va\nlink set va up\n"),
    );
    lab.ip("h", "rule add sport 80 blackhole pref 100\n");
    lab.sysctl("h", "net.ipv4.conf.va.rp_filter=1\n");
    lab.ip("a", "addr add 10.35.0.2/24 dev eth0\nlink set eth0 up\n");
    // Neighbours are known: whether one answers is another lookup.
    lab.ip("a", "neigh replace 10.35.0.1 lladdr 02:35:00:00:00:01 dev eth0 nud permanent\n");
    let sockets = ["a", "h"].map(|name| lab.sockets(name));
    let model = Model::new(&Snapshot::from_json(&lab.snapshot("h")).unwrap());
    let Some(EndpointKind::Inside(namespace)) = model.endpoint(&lab.full("a")).map(|endpoint| endpoint.kind) else { panic!("a is not found") };
    for (id, port, arrives) in [(1, 81, true), (2, 80, false)] {
        let asked = Packet::new("10.35.0.2".parse().unwrap(), "10.35.0.1".parse().unwrap(), Protocol::Udp.first(20_000, port));
        let space = point(&asked).with(Field::DestinationPort, Ranges::between(1, 65535));
        let branches = Walker::new(&model).branches(asked, Start::Process { namespace, link: None }, &space);
        let [branch] = branches.as_slice() else { panic!("{branches:?}") };
        assert_eq!(matches!(branch.end, End::Delivered { .. }), arrives, "{:?}", branch.end);
        assert_eq!(exchange(&sockets, 0, &asked, id).is_some(), arrives, "port {port}");
        let ports = branch.space.of(Field::DestinationPort);
        assert_eq!([80, 81].map(|port| ports.contains(port)), [!arrives, arrives], "{ports:?} go the way of port {port}");
    }
}
