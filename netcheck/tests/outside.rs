//! Whoever is behind hardware is outside, by whatever link it comes in: hosts of which rules close one way, and another one is there.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

#[path = "scale/host.rs"]
mod host;

use netcheck::analyse::{Answer, Attacker, Explanation, Question, explain};
use netcheck::model::{Model, Place, Tags};
use netcheck::packet::{Packet, Protocol};
use netcheck::snapshot::{
    Bridge, BridgePort, ChainKind, CmpOperation, Expression, Family, Fdb, Hook, Link, LinkKind, Lower, MetaKey, Namespace, PayloadBase, PortVlan,
    Register, Route, RouteKind, Snapshot, Table, Verdict,
};
use netcheck::walk::{End, Start, walk};

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
                host.fdb.push(Fdb { vlan: Some(7), ..host::own(90, 90, host::mac(9, 90)) });
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

/// A bridge with a port that is a vlan on this link, and rules by which nothing is forwarded.
fn host_with_a_vlan_as_port(lower: u32, bridge: u32) -> Snapshot {
    let mut snapshot = host::host(2, 2);
    let content = &mut snapshot.namespaces[0];
    let on = Some(Lower { index: lower, namespace: None });
    let mut tagged = link(90, "port.7", LinkKind::Vlan { lower: on, id: 7, protocol: 0x8100 });
    port(&mut tagged, bridge);
    content.links.push(tagged);
    let filter = content.tables.iter_mut().find(|table| table.name == "filter").unwrap();
    filter.chains[0].rules.insert(0, host::rule([host::say(Verdict::Drop)]));
    snapshot
}

/// br_netfilter looks behind no priority tag, and a vlan's tag is off when the bridge gets the frame.
#[test]
fn a_priority_tag_behind_that_of_a_vlan_passes_rules_of_the_ip_stack() {
    let snapshot = host_with_a_vlan_as_port(2, 10);
    for (attacker, want) in [(Attacker::Process, Answer::Closed), (Attacker::NetRaw, Answer::Open)] {
        let got = ask(&snapshot, attacker, "outside", "c0");
        assert_eq!(got.answer, want, "{attacker:?}: {:?}", got.trace);
        let first = got.trace.first().map(|hop| hop.text.as_str());
        assert!(want == Answer::Closed || first == Some("arrives on eth0 in vlan 7 with a priority tag"), "{first:?}");
    }
}

/// The same, written onto the link of a vlan that a container has.
#[test]
fn a_vlans_tag_comes_before_a_priority_tag() {
    // From c0, whose port is on no bridge any more, to c1.
    let mut snapshot = host_with_a_vlan_as_port(10_000, 11);
    snapshot.namespaces[0].links.iter_mut().filter(|link| link.index == 10_000).for_each(|link| (link.master, link.port) = (None, None));
    snapshot.namespaces[1].links.push(link(90, "eth0.7", LinkKind::Vlan { lower: lower(), id: 7, protocol: 0x8100 }));
    let model = Model::new(&snapshot);
    let to = snapshot.namespaces[2].links[1].mac.unwrap();
    let packet = Packet::new("10.1.1.9".parse().unwrap(), host::address(1, 2), Protocol::Udp.first(1, 9));
    for (tags, arrives) in [(Tags::NONE, false), (Tags::one(0), true), (Tags::one(5), false)] {
        let start = Start::Wire { from: Place { namespace: 1, link: 90 }, to, tags, forged: false };
        let ends: Vec<End> = walk(&model, packet, start).into_iter().map(|branch| branch.end).collect();
        assert_eq!(ends == [End::Delivered { namespace: 2 }], arrives, "{tags:?}: {ends:?}");
    }
}

/// `__br_forward`: what a port does to a frame's tag is done before rules see it.
#[test]
fn rules_see_a_frame_as_it_leaves_a_bridge() {
    const R: Register = Register(0);
    let ip = |content: &mut Namespace| {
        let filter = content.tables.iter_mut().find(|table| table.name == "filter").unwrap();
        filter.chains[0].rules.insert(0, host::rule([host::say(Verdict::Drop)]));
    };
    let bridge = |content: &mut Namespace| {
        let tag = Expression::Payload { into: R, base: PayloadBase::Link, offset: 12, len: 2 };
        let rule = host::rule([vec![tag, host::cmp(CmpOperation::Eq, &[0x81, 0])], host::say(Verdict::Drop)]);
        let chain = host::chain("FORWARD", Some((ChainKind::Filter, Hook::Forward, 0)), vec![rule]);
        content.tables.push(Table { family: Family::Bridge, ..host::table("tags", vec![chain]) });
    };
    // From c0, whose port puts frames into vlan 7, to c2, whose port takes the tag off or leaves it.
    type Rules = fn(&mut Namespace);
    let cases: [(&str, Rules, bool, Answer); 4] = [
        ("FORWARD of ip, without the tag", ip, true, Answer::Closed),
        ("FORWARD of ip, with it", ip, false, Answer::Open),
        ("FORWARD of bridge, without the tag", bridge, true, Answer::Open),
        ("FORWARD of bridge, with it", bridge, false, Answer::Closed),
    ];
    for (name, rules, untagged, want) in cases {
        let mut snapshot = host::host(4, 2);
        let content = &mut snapshot.namespaces[0];
        rules(content);
        content
            .links
            .iter_mut()
            .filter(|link| link.index == 10)
            .for_each(|link| link.kind = LinkKind::Bridge(Bridge { vlan_filtering: true, ..Bridge::default() }));
        content.vlans = vec![
            PortVlan { link: 10_000, first: 7, last: 7, pvid: true, untagged: true },
            PortVlan { link: 10_002, first: 7, last: 7, pvid: untagged, untagged },
        ];
        let target = &mut snapshot.namespaces[3];
        if !untagged {
            let vlan = LinkKind::Vlan { lower: lower(), id: 7, protocol: 0x8100 };
            target.links.push(Link { mac: target.links[1].mac, ..link(90, "eth0.7", vlan) });
            target.addresses.iter_mut().for_each(|own| own.link = 90);
            target.routes.iter_mut().flat_map(|route| &mut route.next_hops).for_each(|hop| hop.oif = Some(90));
        }
        let got = ask(&snapshot, Attacker::Process, "c0", "c2");
        assert_eq!(got.answer, want, "{name}: {:?} {:?}", got.trace, got.closed_by);
    }
}
