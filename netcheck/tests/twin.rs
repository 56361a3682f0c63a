//! The kernel, asked with real packets in copies of five engines' hosts, says what the model says.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use netcheck::analyse::{Attacker, Sample, samples, samples_from};
use netcheck::model::{EndpointKind, Model, Place, Tags};
use netcheck::packet::{ECN, Packet, Protocol, SYN, Transport};
use netcheck::snapshot::{
    Address, BaseChain, Bytes, Chain, ChainKind, CmpOperation, Data, Expression, Family, Hook, Ipv6Conf, Link, LinkKind, Mac, Match, MetaKey,
    Namespace, NfRule, PayloadBase, Policy, Register, SetMatch, Snapshot, Table, Target, Verdict,
};
use netcheck::twin::{Arrival, Disagreement, Twin, Verification, verify};
use netcheck::walk::{End, Start, Walker, point};

fn snapshot(engine: &str) -> Snapshot {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(engine).join("snapshot.json");
    Snapshot::from_json(&std::fs::read(path).unwrap()).unwrap()
}

/// One in so many packets of the analysis.
fn every() -> usize {
    std::env::var("NETCHECK_TWIN_EVERY").ok().map_or(4, |text| text.parse().unwrap())
}

/// From some of the endpoints, or all when none is named.
fn agrees(engine: &str, attacker: Attacker, from: &[&str], every: usize) {
    let snapshot = snapshot(engine);
    let model = Model::new(&snapshot);
    let start = std::time::Instant::now();
    let mut twin = Twin::build(&snapshot).unwrap();
    let built = start.elapsed();
    assert!(
        twin.left_out().iter().all(|left| !left.decides),
        "{engine}: {:#?}",
        twin.left_out().iter().map(|left| format!("{} {}", left.namespace, left.what)).collect::<Vec<_>>()
    );
    let all = match from {
        [] => samples(&model, attacker),
        names => names.iter().flat_map(|name| samples_from(&model, attacker, name)).collect(),
    };
    let sampled = start.elapsed();
    let some: Vec<_> = all.iter().copied().step_by(every).collect();
    let verification = verify(&mut twin, &model, &some).unwrap();
    eprintln!(
        "{engine} {}: {} of {} packets, {} arrived, {} unknown, skipped {:?}, {} disagreements; built {built:.1?} sampled {sampled:.1?} done {:.1?}",
        attacker.name(),
        verification.compared,
        all.len(),
        verification.arrived,
        verification.unknown,
        verification.skipped,
        verification.disagreements.len(),
        start.elapsed()
    );
    assert!(verification.disagreements.is_empty(), "{engine}: {}", told(&verification));
    assert!(verification.compared >= 500 && verification.arrived * 20 > verification.compared, "{engine}: {verification:?} proves nothing");
}

/// The first disagreements, a line each.
fn told(verification: &Verification) -> String {
    let line = |one: &Disagreement| {
        let trace: Vec<String> = one.trace.iter().map(|hop| format!("{} {}", hop.at, hop.text)).collect();
        format!("{} sent by {}: expected {:?}, observed {:?}\n    {}", one.packet, one.from, one.expected, one.observed, trace.join("; "))
    };
    verification.disagreements.iter().take(12).map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_engine_for_a_process() {
    for engine in ["20.10.24", "26.1.5", "28.5.2", "29.7.2-iptables", "29.7.2-nftables"] {
        agrees(engine, Attacker::Process, &[], every());
    }
}

/// Many more packets: one engine of each backend, and some endpoints.
#[test]
fn two_engines_for_net_raw() {
    for engine in ["28.5.2", "29.7.2-nftables"] {
        agrees(engine, Attacker::NetRaw, &["i1", "n1", "outside"], every());
    }
}

/// Whether packets were skipped because of what the twin lacks.
fn lacking(verification: &Verification) -> bool {
    verification.skipped.keys().any(|reason| reason.starts_with("the twin lacks"))
}

fn host(snapshot: &mut Snapshot) -> &mut Namespace {
    let id = snapshot.this_host;
    snapshot.namespaces.iter_mut().find(|namespace| namespace.id == id).unwrap()
}

/// The kernel passes a frame with a priority tag by the rules that close a network without `icc`.
#[test]
fn a_priority_tag_passes_rules_of_the_ip_stack() {
    let snapshot = snapshot("28.5.2");
    let model = Model::new(&snapshot);
    let mut twin = Twin::build(&snapshot).unwrap();
    let named = |name: &str| match model.endpoint(name).map(|endpoint| endpoint.kind) {
        Some(EndpointKind::Inside(namespace)) => namespace,
        other => panic!("{name} is {other:?}"),
    };
    let (n1, n2) = (named("n1"), named("n2"));
    let place = |namespace: usize| {
        let link = model.namespace(namespace).link_named("eth0").unwrap();
        (Place { namespace, link: link.index }, link.mac.unwrap())
    };
    let address =
        |namespace: usize| model.namespace(namespace).addresses().map(|own| own.address.addr()).find(|own| own.is_ipv4() && !own.is_loopback());
    let packet = Packet::new(address(n1).unwrap(), address(n2).unwrap(), Protocol::Udp.first(40_000, 7777));
    let arrives = |twin: &mut Twin, tags: Tags| {
        let start = Start::Wire { from: place(n1).0, to: place(n2).1, tags, forged: false };
        twin.send(&Sample { start, packet }, tags != Tags::NONE).len()
    };
    assert_eq!([Tags::NONE, Tags::one(0)].map(|tags| arrives(&mut twin, tags)), [0, 1]);
}

/// A SYN that offers ECN has two flags more, and the kernel's rules see them.
#[test]
fn an_offer_of_ecn_passes_a_rule_for_a_plain_syn() {
    const R: Register = Register(0);
    let mut snapshot = snapshot("28.5.2");
    let rule = vec![
        Expression::Meta { key: MetaKey::L4Proto, into: R },
        Expression::Cmp { source: R, operation: CmpOperation::Eq, value: Bytes(vec![6]) },
        Expression::Payload { into: R, base: PayloadBase::Transport, offset: 13, len: 1 },
        Expression::Cmp { source: R, operation: CmpOperation::Eq, value: Bytes(vec![SYN]) },
        Expression::Immediate { into: None, data: Data::Verdict(Verdict::Drop) },
    ];
    let chains = host(&mut snapshot).tables.iter_mut().flat_map(|table| &mut table.chains);
    for chain in chains.filter(|chain| chain.name == "DOCKER-USER") {
        chain.rules.insert(0, NfRule { handle: 9999, expressions: rule.clone(), comment: None });
    }
    let model = Model::new(&snapshot);
    let mut twin = Twin::build(&snapshot).unwrap();
    let some: Vec<_> = samples_from(&model, Attacker::Process, "a1").into_iter().step_by(every()).collect();
    let verification = verify(&mut twin, &model, &some).unwrap();
    assert!(verification.disagreements.is_empty(), "{}", told(&verification));
    let arrives = |twin: &mut Twin, sample: &Sample| !twin.send(sample, false).is_empty();
    let offers = some.iter().filter(|sample| matches!(sample.packet.transport, Transport::Tcp { flags, .. } if flags == SYN | ECN));
    let plain = |sample: &Sample| {
        let (source, port) = sample.packet.transport.ports().unwrap();
        Sample { packet: Packet { transport: Protocol::Tcp.first(source, port), ..sample.packet }, ..*sample }
    };
    let passed = offers.filter(|offer| arrives(&mut twin, offer) && !arrives(&mut twin, &plain(offer))).count();
    assert!(passed > 0, "no offer passed");
}

/// What the kernel does with frames that only NET_RAW can write, where rules look at hardware addresses.
#[test]
fn frames_of_ones_own_pass_rules_for_hardware_addresses() {
    const R: Register = Register(0);
    let mut snapshot = snapshot("28.5.2");
    let before = Model::new(&snapshot);
    let named = |name: &str| match before.endpoint(name).map(|endpoint| endpoint.kind) {
        Some(EndpointKind::Inside(namespace)) => namespace,
        other => panic!("{name} is {other:?}"),
    };
    let (a1, a2) = (named("a1"), named("a2"));
    let eth0 = |namespace: usize| before.namespace(namespace).link_named("eth0").unwrap().clone();
    let own = eth0(a2).mac.unwrap();
    let drop = || Expression::Immediate { into: None, data: Data::Verdict(Verdict::Drop) };
    let cmp = |operation: CmpOperation, value: &[u8]| Expression::Cmp { source: R, operation, value: Bytes(value.to_vec()) };
    let ether = |offset: u32| Expression::Payload { into: R, base: PayloadBase::Link, offset, len: 6 };
    let rules = [
        vec![ether(0), cmp(CmpOperation::Eq, &own.0), drop()],
        vec![ether(6), cmp(CmpOperation::Eq, &eth0(a1).mac.unwrap().0), drop()],
        vec![Expression::Meta { key: MetaKey::PktType, into: R }, cmp(CmpOperation::Eq, &[0]), drop()],
    ];
    let broadcast = Mac([0xff; 6]);
    let multicast = Mac([1, 0, 0x5e, 0, 0, 1]);
    // Of each rule: whether a usual frame arrives, one from another address, a broadcast, and a multicast.
    let expected = [[false, false, true, true], [false, true, false, false], [true; 4]];
    for (expressions, expected) in rules.into_iter().zip(expected) {
        let base = Some(BaseChain { kind: ChainKind::Filter, hook: Hook::Forward, priority: 0, policy: Policy::Accept, devices: Vec::new() });
        let rules = vec![NfRule { handle: 9999, expressions, comment: None }];
        let chains = vec![Chain { name: "frames".to_owned(), handle: 1, base, rules }];
        let (sets, objects, flowtables) = (Vec::new(), Vec::new(), Vec::new());
        let table = Table { family: Family::Bridge, name: "frames".to_owned(), handle: 999, dormant: false, chains, sets, objects, flowtables };
        host(&mut snapshot).tables.retain(|table| table.family != Family::Bridge);
        host(&mut snapshot).tables.push(table);
        let model = Model::new(&snapshot);
        let mut twin = Twin::build(&snapshot).unwrap();
        let address = |namespace: usize| {
            model.namespace(namespace).addresses_of(eth0(namespace).index).iter().map(|own| own.address.addr()).find(IpAddr::is_ipv4)
        };
        let packet = Packet::new(address(a1).unwrap(), address(a2).unwrap(), Protocol::Udp.first(40_000, 7777));
        let from = Place { namespace: a1, link: eth0(a1).index };
        let frames = [(own, false), (own, true), (broadcast, false), (multicast, false)];
        for ((to, forged), arrives) in frames.into_iter().zip(expected) {
            let start = Start::Wire { from, to, tags: Tags::NONE, forged };
            let arrived = twin.send(&Sample { start, packet }, arrives);
            let inside = |arrival: &Arrival| matches!(arrival, Arrival::Inside { namespace, .. } if *namespace == a2);
            assert_eq!(arrived.iter().any(inside), arrives, "{to} forged: {forged}");
            let branches = Walker::new(&model).branches(packet, start, &point(&packet));
            let delivered = branches.iter().any(|branch| branch.end == End::Delivered { namespace: a2 });
            assert_eq!(delivered, arrives, "{to} forged: {forged}: {branches:?}");
        }
    }
}

/// Turns one verdict round: the first drop of a chain.
fn flip(snapshot: &mut Snapshot, chain: &str) {
    let drop = Expression::Immediate { into: None, data: Data::Verdict(Verdict::Drop) };
    let chains = host(snapshot).tables.iter_mut().flat_map(|table| &mut table.chains).filter(|one| one.name == chain);
    let found = chains.flat_map(|chain| &mut chain.rules).flat_map(|rule| &mut rule.expressions).find(|one| **one == drop);
    *found.unwrap() = Expression::Immediate { into: None, data: Data::Verdict(Verdict::Accept) };
}

fn file(name: &str, snapshot: &Snapshot) -> String {
    let path = std::env::temp_dir().join(format!("netcheck-twin-{}-{name}.json", std::process::id()));
    std::fs::write(&path, snapshot.to_json().unwrap()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// One rule that the twin has otherwise is enough; the same command without it says that all is well.
#[test]
fn a_rule_that_is_flipped_in_the_twin_is_a_disagreement() {
    let cases = [("28.5.2", None, 0), ("28.5.2", Some("DOCKER-FORWARD"), 5), ("26.1.5", Some("DOCKER-ISOLATION-STAGE-2"), 5)];
    for (engine, chain, status) in cases {
        let original = snapshot(engine);
        let mut changed = original.clone();
        chain.into_iter().for_each(|chain| flip(&mut changed, chain));
        let (from, against) = (file("from", &original), file("against", &changed));
        let output = Command::new(env!("CARGO_BIN_EXE_netcheck")).args(["verify", "--from", &from, "--against", &against]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(status), "{chain:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(text.contains("DISAGREEMENT"), status == 5, "{chain:?}: {text}");
    }
}

/// What cannot be made again is said, and packets that pass there are skipped, where it decides.
#[test]
fn what_the_twin_lacks_is_never_passed() {
    let set = Match::Set(SetMatch { index: 7, dimensions: 1, source: 0, invert: false, counters: false });
    let cases: [(&str, Expression, bool); 3] = [
        ("ipset", Expression::Match(set), true),
        ("match limit", Expression::Match(Match::Sometimes("limit".to_owned())), false),
        ("target LOG", Expression::Target(Target::Continue("LOG".to_owned())), false),
    ];
    for (name, expression, decides) in cases {
        let mut snapshot = snapshot("28.5.2");
        let chains = host(&mut snapshot).tables.iter_mut().flat_map(|table| &mut table.chains);
        let chain = chains.filter(|chain| chain.name == "DOCKER-USER").last().unwrap();
        let drop = Expression::Immediate { into: None, data: Data::Verdict(Verdict::Drop) };
        let expressions = if name.starts_with("target") { vec![expression] } else { vec![expression, drop] };
        chain.rules.insert(0, NfRule { handle: 9999, expressions, comment: None });
        let model = Model::new(&snapshot);
        let mut twin = Twin::build(&snapshot).unwrap();
        let left: Vec<_> = twin.left_out().iter().filter(|left| left.what.contains(name)).collect();
        assert!(left.len() == 1 && left[0].decides == decides, "{name}: {:?}", twin.left_out());
        let some: Vec<_> = samples(&model, Attacker::Process).into_iter().step_by(8).collect();
        let verification = verify(&mut twin, &model, &some).unwrap();
        assert!(verification.disagreements.is_empty() && verification.compared > 0, "{name}: {}", told(&verification));
        assert_eq!(lacking(&verification), decides, "{name}: {:?}", verification.skipped);
    }
}

/// Hardware is stood in for: what leaves by it is seen, and what comes by it arrives.
#[test]
fn what_is_behind_hardware_is_a_namespace_of_its_own() {
    let mut snapshot = snapshot("29.7.2-iptables");
    let content = host(&mut snapshot);
    let uplink = content.links.iter_mut().find(|link| link.name == "up0").unwrap();
    uplink.kind = LinkKind::Physical;
    let lan = uplink.peer.take().unwrap().namespace.unwrap();
    // A second way in, without a default route.
    let ipv6 = uplink.ipv6.map(|conf| Ipv6Conf { disable_ipv6: true, ..conf });
    let second = Link { index: 90, name: "up1".to_owned(), mac: Some(Mac([2, 9, 0, 0, 0, 90])), ipv6, ..uplink.clone() };
    content.links.push(second);
    let own = content.addresses.iter().find(|own| own.address.to_string() == "192.168.29.1/24").unwrap().clone();
    content.addresses.push(Address { link: 90, address: "192.168.79.1/24".parse().unwrap(), ..own });
    let routes = content.routes.iter().filter(|route| route.destination.to_string().starts_with("192.168.29.")).cloned();
    let routes = routes.map(|mut route| {
        route.destination = route.destination.to_string().replace(".29.", ".79.").parse().unwrap();
        route.preferred_source = Some("192.168.79.1".parse().unwrap());
        route.next_hops[0].oif = Some(90);
        route
    });
    content.routes.extend(routes.collect::<Vec<_>>());
    snapshot.namespaces.retain(|namespace| namespace.id != lan);
    let model = Model::new(&snapshot);
    let mut twin = Twin::build(&snapshot).unwrap();
    assert!(twin.left_out().is_empty(), "{:?}", twin.left_out());
    let some: Vec<_> = samples(&model, Attacker::Process).into_iter().step_by(2).collect();
    let verification = verify(&mut twin, &model, &some).unwrap();
    assert!(verification.disagreements.is_empty() && !lacking(&verification), "{} {:?}", told(&verification), verification.skipped);
    let mut left = 0;
    let mut walker = Walker::new(&model);
    for sample in some.iter().take(400) {
        let branches = walker.branches(sample.packet, sample.start, &point(&sample.packet));
        if branches.iter().all(|branch| matches!(branch.end, End::Left { .. })) {
            left += usize::from(matches!(twin.send(sample, true).as_slice(), [Arrival::Outside { .. }]));
        }
    }
    assert!(left > 10, "{left} packets left");
    let by_second = |sample: &&Sample| matches!(sample.start, Start::Arrival { at: Place { link: 90, .. }, .. });
    let inside = |arrivals: Vec<Arrival>| usize::from(matches!(arrivals.as_slice(), [Arrival::Inside { .. }]));
    let arrived: usize = some.iter().filter(by_second).map(|sample| inside(twin.send(sample, false))).sum();
    assert!(arrived > 10, "{arrived} packets arrived by the second link");
}
