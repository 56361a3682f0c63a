//! Chains of one priority: whichever was hooked last is first, and nothing that is read says which that is. `nf_hook_entries_grow`.

use std::collections::BTreeSet;

use netcheck::analyse::{Answer, Attacker, Question, analyse, explain};
use netcheck::model::Model;
use netcheck::packet::{Packet, Protocol};
use netcheck::snapshot::Snapshot;
use netcheck::walk::{Branch, End, Start, Walker, point};

use crate::lab::Lab;

/// A packet from an address of `a` to `h` or `b`, sent and walked: whether it arrived, and how it may go.
fn sent(lab: &Lab, from: &str, to: (&str, &str), port: u16) -> (bool, Vec<Branch>) {
    let sockets = ["a", to.0].map(|name| lab.sockets(name));
    let snapshot = Snapshot::from_json(&lab.snapshot("h")).unwrap();
    let model = Model::new(&snapshot);
    let namespace = crate::place(&model, &lab.full("a"));
    let packet = Packet::new(from.parse().unwrap(), to.1.parse().unwrap(), Protocol::Udp.first(20_000, port));
    let branches = Walker::new(&model).branches(packet, Start::Process { namespace, link: None }, &point(&packet));
    let arrived = crate::bridges::exchange(&sockets, 0, &packet, 1).is_some();
    let question = Question { from: lab.full("a"), to: to.1.to_owned(), protocol: Protocol::Udp, port: Some(port), attacker: Attacker::Process };
    let answer = explain(&model, &question).unwrap().answer;
    let sure = if arrived { Answer::Closed } else { Answer::Open };
    assert_ne!(answer, sure, "{branches:#?}");
    (arrived, branches)
}

const A: &str = "10.36.0.2";
/// Its second address.
const A2: &str = "10.36.0.6";

/// A host with a neighbour, and tables whose numbers say nothing.
fn host(tag: &str) -> Lab {
    let mut lab = Lab::new(tag);
    for name in ["h", "a"] {
        lab.add(name);
    }
    let full = lab.full("a");
    lab.ip("h", &format!("link add va type veth peer name eth0 netns {full}\naddr add 10.36.0.1/24 dev va\nlink set va up\n"));
    lab.ip("a", &format!("addr add {A}/24 dev eth0\naddr add {A2}/24 dev eth0\nlink set eth0 up\n"));
    lab.nft("h", "table ip one { }\ntable ip two { }\ntable netdev one { }\ntable netdev two { }\ntable ip last { }\n").unwrap();
    lab
}

fn chain(family: &str, table: &str, hook: &str, rules: &str) -> String {
    format!("table {family} {table} {{\n  chain c {{\n    type {hook};\n    {rules}\n  }}\n}}\n")
}

#[test]
fn of_two_chains_of_one_priority_either_may_be_first() {
    let pre = "filter hook prerouting priority 0";
    let ingress = "filter hook ingress device va priority 0";
    let at_nat = "filter hook prerouting priority -100";
    let nat = "nat hook prerouting priority -100";
    let cases = [
        ("a mark", chain("ip", "one", pre, "meta mark set 7"), chain("ip", "two", pre, "meta mark != 7 drop"), ""),
        ("frames", chain("netdev", "one", ingress, "meta mark set 7"), chain("netdev", "two", ingress, "meta mark != 7 drop"), ""),
        ("a translation", chain("ip", "one", nat, "udp dport 53 redirect to :54"), chain("ip", "two", at_nat, "udp dport 53 drop"), ""),
        (
            "two translations",
            chain("ip", "one", nat, "udp dport 53 redirect to :54"),
            chain("ip", "two", nat, "udp dport 53 redirect to :55"),
            "udp dport 55 drop",
        ),
        (
            "connections",
            chain("ip", "one", "filter hook prerouting priority -200", "notrack"),
            chain("ip", "two", "filter hook prerouting priority 0", "ct state != untracked drop"),
            "",
        ),
    ];
    for (name, one, two, last) in cases {
        let mut outcomes = BTreeSet::new();
        for rules in [[&one, &two], [&two, &one]] {
            let lab = host("e");
            for rules in rules {
                lab.nft("h", rules).unwrap();
            }
            lab.nft("h", &chain("ip", "last", "filter hook input priority 0", last)).unwrap();
            let (arrived, branches) = sent(&lab, A, ("h", "10.36.0.1"), 53);
            outcomes.insert(arrived);
            let ends: BTreeSet<bool> = branches.iter().map(|branch| matches!(branch.end, End::Delivered { .. })).collect();
            assert_eq!(ends, [false, true].into(), "{name}: {branches:#?}");
        }
        assert_eq!(outcomes, [false, true].into(), "{name}: the order does not matter");
    }
}

/// Of more orders than are looked at, none is taken for granted.
#[test]
fn too_many_orders_of_chains_are_unknown() {
    let lab = host("o");
    for (table, mark) in ["k", "l", "m", "n", "o"].into_iter().zip(1..) {
        lab.nft("h", &chain("ip", table, "filter hook input priority 0", &format!("meta mark set {mark}"))).unwrap();
    }
    lab.nft("h", &chain("ip", "last", "filter hook input priority 1", "meta mark != 1 drop")).unwrap();
    let (arrived, branches) = sent(&lab, A, ("h", "10.36.0.1"), 53);
    assert!(arrived);
    assert!(branches.iter().all(|branch| matches!(branch.end, End::Unknown(_))), "{branches:#?}");
}

/// Rules that only drop say the same in any order.
#[test]
fn chains_that_change_nothing_have_one_order() {
    let lab = host("f");
    for (table, rule) in [("one", "udp dport 53 accept"), ("two", "udp dport 54 drop"), ("last", "ct state invalid drop")] {
        lab.nft("h", &chain("ip", table, "filter hook input priority 0", rule)).unwrap();
    }
    let lengths = [(53, true), (54, false)].map(|(port, arrives)| {
        let (arrived, branches) = sent(&lab, A, ("h", "10.36.0.1"), port);
        assert_eq!(arrived, arrives);
        branches.len()
    });
    assert_eq!(lengths, [1, 1]);
}

/// br_netfilter hooks itself where the first bridge is made, and its rules run between those of the bridge. `brnf_device_event`.
#[test]
fn rules_of_a_bridge_may_be_before_br_netfilter_or_after_it() {
    let bridge = "link add br0 type bridge forward_delay 0\nlink set br0 up\n";
    let rules = chain("ip", "one", "filter hook prerouting priority 0", "meta mark set 7")
        + &chain("bridge", "two", "filter hook prerouting priority 0", "meta mark != 7 ip protocol udp drop");
    let outcomes = [true, false].map(|bridge_first| {
        let mut lab = Lab::new("g");
        for name in ["h", "a", "b"] {
            lab.add(name);
        }
        if bridge_first {
            lab.ip("h", bridge);
        }
        lab.nft("h", &rules).unwrap();
        if !bridge_first {
            lab.ip("h", bridge);
        }
        lab.sysctl("h", "net.bridge.bridge-nf-call-iptables=1\n");
        for (last, name) in [(2, "a"), (3, "b")] {
            let full = lab.full(name);
            lab.ip("h", &format!("link add v{name} type veth peer name eth0 netns {full}\nlink set v{name} master br0 up\n"));
            lab.ip(name, &format!("addr add 10.36.0.{last}/24 dev eth0\nlink set eth0 up\n"));
        }
        let (arrived, branches) = sent(&lab, A, ("b", "10.36.0.3"), 53);
        let ends: BTreeSet<bool> = branches.iter().map(|branch| matches!(branch.end, End::Delivered { .. })).collect();
        assert_eq!(ends, [false, true].into(), "{branches:#?}");
        arrived
    });
    assert_eq!(outcomes, [false, true]);
}

/// What a rule translates to may be of the packet itself: then each packet goes its own way.
#[test]
fn chains_may_translate_to_what_is_in_the_packet() {
    let nat = |rule: &str| chain("ip", "one", "nat hook prerouting priority -100", rule);
    let cases = [
        // From ports and addresses that are not the first to be looked at.
        (nat("udp dport 53 redirect to :udp sport"), "udp dport != 20000 drop", A, "10.36.0.1", Some(20_000)),
        (nat("ip daddr 10.36.0.77 dnat to ip saddr ^ 0.0.0.7"), "ip saddr 10.36.0.2 drop", A2, "10.36.0.77", Some(53)),
        (nat("ip daddr 10.36.0.77 dnat to @nh,32,32"), "udp dport 53 drop", A, "10.36.0.77", None),
    ];
    for (translation, last, from, to, arrives) in cases {
        let lab = host("s");
        lab.ip("a", "route add 10.36.0.77 via 10.36.0.1\n");
        lab.nft("h", &translation).unwrap();
        lab.nft("h", &chain("ip", "last", "filter hook input priority 0", last)).unwrap();
        let (arrived, branches) = sent(&lab, from, ("h", to), 53);
        assert_eq!((arrived, branches.len()), (arrives.is_some(), 1), "{branches:#?}");
        assert_eq!(matches!(branches[0].end, End::Unknown(_)), arrives.is_none(), "{branches:#?}");
        let model = Model::new(&Snapshot::from_json(&lab.snapshot("h")).unwrap());
        let pair = analyse(&model, Attacker::Process).pair(&lab.full("a"), "host").unwrap();
        let known = if arrives.is_some() { pair.open_ports(Protocol::Udp) } else { pair.unknown_ports(Protocol::Udp) };
        assert!(known.contains(arrives.unwrap_or(53)), "{translation}: {known}");
    }
}
