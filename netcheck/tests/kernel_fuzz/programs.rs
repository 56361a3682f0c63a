//! What a program without privilege chooses by itself: the address that it sends from, and the link.

use std::net::{IpAddr, SocketAddr};

use netcheck::analyse::{Answer, Attacker, Explanation, Question, explain};
use netcheck::model::Model;
use netcheck::packet::Protocol;
use netcheck::snapshot::{Address, LinkKind, Snapshot};
use netcheck::twin::Sockets;
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use socket2::{Domain, Socket, Type};

use crate::lab::Lab;

const PORT: u16 = 53;

/// A sender `a` and a receiver `b` on two links of a router `h`.
pub(crate) fn build(tag: &str) -> Lab {
    let mut lab = Lab::new(tag);
    for name in ["h", "a", "b"] {
        lab.add(name);
        lab.sysctl(name, "net.ipv6.conf.default.accept_dad=0\nnet.ipv4.conf.all.rp_filter=0\nnet.ipv4.conf.default.rp_filter=0\n");
    }
    lab.sysctl("h", "net.ipv4.ip_forward=1\nnet.ipv6.conf.all.forwarding=1\n");
    for (net, name) in [(1, "a"), (2, "b")] {
        link(&lab, name, "eth0", net);
        lab.ip(name, &format!("route add default via 10.40.{net}.1\nroute add default via fd40:0:0:{net}::1\n"));
    }
    lab
}

/// A link of the router's to a namespace, with a subnet of each family.
fn link(lab: &Lab, name: &str, own: &str, net: u8) {
    let (full, v) = (lab.full(name), format!("v{net}"));
    lab.ip("h", &format!("link add {v} type veth peer name {own} netns {full}\naddr add 10.40.{net}.1/24 dev {v}\naddr add fd40:0:0:{net}::1/64 dev {v} nodad\nlink set {v} up\n"));
    lab.ip(name, &format!("addr add 10.40.{net}.2/24 dev {own}\naddr add fd40:0:0:{net}::2/64 dev {own} nodad\nlink set {own} up\n"));
}

/// A datagram of `a`'s, sent without any capability from an address and by a link of its choice. That the kernel refuses it is an outcome.
pub(crate) fn send(lab: &Lab, choice: (Option<&str>, Option<&str>), to: IpAddr, id: u32) {
    send_bytes(lab, choice, to, &id.to_be_bytes());
}

fn send_bytes(lab: &Lab, (source, link): (Option<&str>, Option<&str>), to: IpAddr, bytes: &[u8]) {
    lab.inside("a", || {
        let none = CapabilitySet::empty();
        set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none }).unwrap();
        let socket = Socket::new(if to.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 }, Type::DGRAM, None).unwrap();
        if to.is_ipv4() {
            socket.set_freebind_v4(true).unwrap()
        } else {
            socket.set_freebind_v6(true).unwrap()
        }
        if link.is_some() {
            socket.bind_device(link.map(str::as_bytes)).unwrap();
        }
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(source.parse().unwrap(), 0).into()).unwrap();
        }
        let _ = socket.send_to(bytes, &SocketAddr::new(to, PORT).into());
    });
}

/// Whether a datagram arrives; neighbours may have to be found first.
pub(crate) fn arrives(sockets: &Sockets, id: u32) -> bool {
    (0..60).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(1));
        sockets.drain().iter().any(|seen| seen.identify().is_some_and(|(got, _)| got == id))
    })
}

/// What is read when all links have addresses of their own: they get them a moment after their other ends are up.
fn snapshot(lab: &Lab) -> Snapshot {
    let settled = |snapshot: &Snapshot| {
        let local = |own: &Address| matches!(own.address.addr(), IpAddr::V6(v6) if v6.is_unicast_link_local());
        let mut links = snapshot.namespaces.iter().flat_map(|read| read.links.iter().map(move |link| (read, link)));
        links.all(|(read, link)| {
            link.kind != LinkKind::Veth || !(link.up && link.running) || read.addresses.iter().any(|own| own.link == link.index && local(own))
        })
    };
    let read = || Snapshot::from_json(&lab.snapshot("h")).unwrap();
    (0..200).map(|_| read()).find(settled).unwrap()
}

pub(crate) fn ask(lab: &Lab, to: &str) -> Explanation {
    ask_as(lab, Attacker::Process, to)
}

pub(crate) fn ask_as(lab: &Lab, attacker: Attacker, to: &str) -> Explanation {
    let model = Model::new(&snapshot(lab));
    let question = Question { from: lab.full("a"), to: to.to_owned(), protocol: Protocol::Udp, port: Some(PORT), attacker };
    explain(&model, &question).unwrap()
}

/// `__ip_dev_find`: over IPv4, what is local by a route of the table `local`. `ipv6_can_nonlocal_bind`: over IPv6, anything.
#[test]
fn a_program_sends_from_what_is_local_and_over_ipv6_from_anything() {
    let lab = build("s");
    lab.nft("h", "table inet t {\n  chain c {\n    type filter hook forward priority 0;\n    ip saddr 10.40.1.0/24 drop\n    ip6 saddr fd40:0:0:1::/64 drop\n  }\n}\n").unwrap();
    let sockets = lab.sockets("b");
    let (ipv4, ipv6) = ("10.40.2.2", "fd40:0:0:2::2");
    // What is added to the sender, where it sends from and to, whether that arrives, and what then is the answer.
    let cases = [
        ("", None, ipv4, false, Answer::Closed),
        ("", Some("10.78.0.5"), ipv4, false, Answer::Closed),
        ("route add local 10.78.0.0/16 dev lo table 100\n", Some("10.78.0.5"), ipv4, false, Answer::Closed),
        ("route add local 10.77.0.0/16 dev lo\n", Some("10.77.0.5"), ipv4, true, Answer::Open),
        ("", None, ipv6, false, Answer::Open),
        ("", Some("fd77::5"), ipv6, true, Answer::Open),
    ];
    for (id, (more, source, to, arrived, want)) in (1..).zip(cases) {
        lab.ip("a", more);
        let got = ask(&lab, to);
        send(&lab, (source, None), to.parse().unwrap(), id);
        assert_eq!((arrives(&sockets, id), got.answer), (arrived, want), "{more:?} from {source:?} to {to}: {got:#?}");
    }
}

/// `SO_BINDTODEVICE`, which needs no privilege since 5.7: other routes do not count, and over IPv4 no route is needed at all.
#[test]
fn a_program_keeps_to_a_link_of_its_choice() {
    let lab = build("l");
    link(&lab, "a", "eth1", 3);
    lab.ip("h", "addr add 10.41.0.1/32 dev lo\naddr add fd41::1/128 dev lo\n");
    lab.nft("h", "table inet t {\n  chain i {\n    type filter hook input priority 0;\n    iifname v1 udp dport 53 drop\n  }\n  chain f {\n    type filter hook forward priority 0;\n    iifname v1 drop\n  }\n}\n").unwrap();
    let sockets = ["h", "b"].map(|name| lab.sockets(name));
    let by = |link: &str| Some(link.to_owned());
    let second = "route add default via 10.40.3.1 metric 500\nroute add default via fd40:0:0:3::1 metric 5000\n";
    // What is added to the sender, the link that it keeps to, where it sends to, whether that arrives, and what then is the answer.
    let cases = [
        ("", None, "10.40.2.2", false, Answer::Closed),
        // The router does not answer for others.
        ("", by("eth1"), "10.40.2.2", false, Answer::Closed),
        ("", by("eth1"), "fd40:0:0:2::2", false, Answer::Closed),
        ("", by("eth1"), "10.41.0.1", true, Answer::Open),
        ("", by("eth1"), "fd41::1", false, Answer::Closed),
        ("route add blackhole 10.41.0.0/16\n", by("eth1"), "10.41.0.1", true, Answer::Open),
        (second, by("eth0"), "10.40.2.2", false, Answer::Open),
        ("", by("eth1"), "10.40.2.2", true, Answer::Open),
        ("", by("eth1"), "fd40:0:0:2::2", true, Answer::Open),
        ("", by("eth1"), "fd41::1", true, Answer::Open),
    ];
    for (id, (more, link, to, arrived, want)) in (1..).zip(cases) {
        lab.ip("a", more);
        let got = ask(&lab, to);
        send(&lab, (None, link.as_deref()), to.parse().unwrap(), id);
        let receiver = &sockets[usize::from(!to.contains("41:") && !to.contains("41."))];
        assert_eq!((arrives(receiver, id), got.answer), (arrived, want), "{more:?} by {link:?} to {to}: {got:#?}");
    }
}

/// `fib4_rule_match`: who leaves the choice of an address to the kernel is routed before there is one.
#[test]
fn a_program_without_an_address_passes_by_rules_for_addresses() {
    let lab = build("r");
    lab.ip("a", "rule add from 10.40.1.2 lookup 100 pref 100\nroute add blackhole default table 100\n");
    let sockets = lab.sockets("b");
    for (id, (source, arrived)) in (1..).zip([(None, true), (Some("10.40.1.2"), false)]) {
        let got = ask(&lab, "10.40.2.2");
        send(&lab, (source, None), "10.40.2.2".parse().unwrap(), id);
        assert_eq!((arrives(&sockets, id), got.answer), (arrived, Answer::Open), "from {source:?}: {got:#?}");
    }
}

/// A long datagram goes in fragments, which rules see where nothing tracks connections. `nf_ct_netns_get`.
#[test]
fn a_long_datagram_passes_by_rules_for_fragments() {
    let lab = build("f");
    let sockets = lab.sockets("b");
    let (ipv4, ipv6) = ("ip frag-off & 0x3fff != 0 accept", "exthdr frag exists accept");
    let cases = [
        ("10.40.2.2", [""; 2], false, Answer::Closed),
        ("10.40.2.2", ["", ipv4], true, Answer::Unknown),
        ("10.40.2.2", ["ct state invalid drop", ipv4], false, Answer::Closed),
        ("fd40:0:0:2::2", ["", ipv6], true, Answer::Unknown),
        ("fd40:0:0:2::2", ["ct state invalid drop", ipv6], false, Answer::Closed),
    ];
    for (id, (to, rules, arrived, want)) in (1_u32..).zip(cases) {
        let rules = rules.join("\n    ");
        lab.nft("h", &format!("flush ruleset\ntable inet t {{\n  chain c {{\n    type filter hook forward priority 0;\n    {rules}\n    udp dport 53 drop\n  }}\n}}\n")).unwrap();
        let got = ask(&lab, to);
        send_bytes(&lab, (None, None), to.parse().unwrap(), &[&id.to_be_bytes()[..], &[0; 3000]].concat());
        assert_eq!((arrives(&sockets, id), got.answer), (arrived, want), "{rules} to {to}: {got:#?}");
    }
}
