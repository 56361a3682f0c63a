//! Whoever is behind hardware is outside, by whatever link it comes in: hosts of which rules close one way, and another one is there.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

#[path = "scale/host.rs"]
mod host;

use netcheck::analyse::{Answer, Attacker, Explanation, Question, explain};
use netcheck::model::Model;
use netcheck::packet::Protocol;
use netcheck::snapshot::{Bridge, BridgePort, Family, Link, LinkKind, Lower, MetaKey, Namespace, PortVlan, Route, RouteKind, Snapshot, Verdict};

fn ask(snapshot: &Snapshot, attacker: Attacker, from: &str, to: &str) -> Explanation {
    let question = Question { from: from.to_owned(), to: to.to_owned(), protocol: Protocol::Udp, port: Some(9), attacker };
    explain(&Model::new(snapshot), &question).unwrap()
}

/// A host whose rules drop what comes in by `eth0`.
fn closed_host() -> Snapshot {
    let mut snapshot = host::host(2, 2);
    let raw = snapshot.namespaces[0].tables.iter_mut().find(|table| table.name == "raw").unwrap();
    assert_eq!(raw.family, Family::Ip);
    raw.chains[0].rules.insert(0, host::rule([host::on(MetaKey::IifName, "eth0", true), host::say(Verdict::Drop)]));
    snapshot
}

fn link(index: u32, name: &str, kind: LinkKind) -> Link {
    host::link(index, name, kind, host::mac(9, usize::try_from(index).unwrap()))
}

fn lower() -> Option<Lower> {
    Some(Lower { index: 2, namespace: None })
}

fn port(link: &mut Link, bridge: u32) {
    link.master = Some(bridge);
    link.port =
        Some(BridgePort { forwarding: true, learning: true, flood: true, multicast_flood: true, broadcast_flood: true, ..BridgePort::default() });
}

fn move_default_route(namespace: &mut Namespace, to: u32) {
    let is_default = |route: &&mut Route| route.kind == RouteKind::Unicast && route.destination.prefix_len() == 0;
    let route = namespace.routes.iter_mut().find(is_default).unwrap();
    route.next_hops[0].oif = Some(to);
    route.next_hops[0].gateway = Some("10.9.0.254".parse().unwrap());
}

/// What is added to the host, or a container, and where a frame from outside then comes in.
type Case = (&'static str, &'static str, fn(&mut Snapshot), Option<&'static str>);

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn every_hardware_link_leads_in() {
    let cases: [Case; 9] = [
        ("nothing more", "host", |_| {}, None),
        (
            "a second link without a default route",
            "host",
            |snapshot| {
                let host = &mut snapshot.namespaces[0];
                host.links.push(link(90, "eth1", LinkKind::Physical));
                host::addressed(host, 90, "10.9.0.1".parse().unwrap(), 24);
            },
            Some("arrives on eth1"),
        ),
        (
            "one without an address",
            "host",
            |snapshot| snapshot.namespaces[0].links.push(link(90, "eth1", LinkKind::Physical)),
            Some("arrives on eth1"),
        ),
        ("one that is down", "host", |snapshot| snapshot.namespaces[0].links.push(Link { up: false, ..link(90, "eth1", LinkKind::Physical) }), None),
        (
            "a vlan on the link",
            "host",
            |snapshot| {
                let host = &mut snapshot.namespaces[0];
                host.links.push(link(90, "eth0.7", LinkKind::Vlan { lower: lower(), id: 7, protocol: 0x8100 }));
                host::addressed(host, 90, "10.9.0.1".parse().unwrap(), 24);
                move_default_route(host, 90);
            },
            Some("arrives on eth0 in vlan 7"),
        ),
        (
            "a vlan on a bridge that the link is a port of",
            "host",
            |snapshot| {
                let host = &mut snapshot.namespaces[0];
                port(&mut host.links[1], 90);
                host.links.push(link(90, "br0", LinkKind::Bridge(Bridge { vlan_filtering: true, ..Bridge::default() })));
                for link in [2, 90] {
                    host.vlans.push(PortVlan { link, first: 5, last: 9, pvid: false, untagged: false });
                }
                let on_bridge = Some(Lower { index: 90, namespace: None });
                let vlan = LinkKind::Vlan { lower: on_bridge, id: 7, protocol: 0x8100 };
                host.links.push(Link { mac: Some(host::mac(9, 90)), ..link(91, "br0.7", vlan) });
                host::addressed(host, 91, "10.9.0.1".parse().unwrap(), 24);
            },
            Some("arrives on eth0 in vlan 7"),
        ),
        (
            "a bond",
            "host",
            |snapshot| {
                let host = &mut snapshot.namespaces[0];
                host.links.push(link(90, "bond0", LinkKind::Other("bond".to_owned())));
                host.links.push(Link { master: Some(90), ..link(91, "eth1", LinkKind::Physical) });
                host::addressed(host, 90, "10.9.0.1".parse().unwrap(), 24);
            },
            Some("arrives on bond0"),
        ),
        (
            "a link that a container was given",
            "c1",
            |snapshot| snapshot.namespaces[2].links.push(link(90, "vf0", LinkKind::Physical)),
            Some("arrives on vf0"),
        ),
        (
            "a way through a container that was given one",
            "host",
            |snapshot| {
                let router = &mut snapshot.namespaces[2];
                router.links.push(link(90, "vf0", LinkKind::Physical));
                host::addressed(router, 90, "10.9.0.1".parse().unwrap(), 24);
                // Nothing of the host's holds containers apart.
                snapshot.namespaces[0].tables.clear();
                snapshot.namespaces[0].links.remove(1);
            },
            Some("arrives on vf0"),
        ),
    ];
    for (name, to, change, want) in cases {
        let mut snapshot = closed_host();
        change(&mut snapshot);
        let got = ask(&snapshot, Attacker::Process, "outside", to);
        let first = got.trace.first().map_or("", |hop| hop.text.as_str());
        assert_eq!(got.answer, if want.is_some() { Answer::Open } else { Answer::Closed }, "{name}: {:?} {:?}", got.trace, got.closed_by);
        assert!(got.answer == Answer::Closed || Some(first) == want, "{name}: {first}");
    }
}

/// A tag that no bridge port and no link of the host's knows goes to whoever has a vlan on the link behind the bridge.
#[test]
fn a_tag_of_its_own_leads_from_container_to_container() {
    let cases = [(Attacker::NetRaw, false, Answer::Closed), (Attacker::Process, true, Answer::Closed), (Attacker::NetRaw, true, Answer::Open)];
    for (attacker, vlan, want) in cases {
        let mut snapshot = host::host(4, 2);
        let other = snapshot.namespaces.iter_mut().find(|namespace| namespace.id.0 == 102).unwrap();
        if vlan {
            other.links.push(Link { mac: other.links[1].mac, ..link(90, "eth0.7", LinkKind::Vlan { lower: lower(), id: 7, protocol: 0x8100 }) });
        }
        let rules = closed_host().namespaces[0].tables.iter().find(|table| table.name == "raw").cloned();
        snapshot.namespaces.iter_mut().find(|namespace| namespace.id.0 == 102).unwrap().tables = rules.into_iter().collect();
        let got = ask(&snapshot, attacker, "c0", "c2");
        assert_eq!(got.answer, want, "{attacker:?} {vlan}: {:?}", got.trace);
    }
}
