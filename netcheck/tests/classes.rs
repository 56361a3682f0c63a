//! On random rule sets, what the analysis says of every pair is what single packets do: each one is walked alone, and nothing that
//! arrives is missing; nothing is said to be open of which the witness does not arrive.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

#[path = "scale/host.rs"]
mod host;

use std::net::IpAddr;

use netcheck::analyse::{Attacker, Pair, Reachability, analyse};
use netcheck::model::{EndpointKind, Model};
use netcheck::packet::{Packet, Protocol};
use netcheck::snapshot::{
    BaseChain, Chain, ChainKind, CmpOperation, Expression, Family, Hook, MetaKey, PayloadBase, Policy, Register, Snapshot, Table, Verdict,
};
use netcheck::space::Ranges;
use netcheck::walk::{Branch, End, Start, Walker, point};

/// xorshift: the same cases each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(limit).unwrap()).unwrap()
    }

    fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
}

const CONTAINERS: usize = 9;
const NETWORKS: usize = 3;
const PORTS: [u16; 7] = [79, 80, 81, 10_000, 10_005, 10_012, 40_000];

/// A rule that any of the conditions may be in, for any chain.
fn random_rule(random: &mut Random, chain: &str) -> netcheck::snapshot::NfRule {
    let mut parts = Vec::new();
    let bridge = |random: &mut Random| if random.one_in(6) { "eth0".to_owned() } else { format!("br-{}", random.below(NETWORKS)) };
    if random.one_in(2) {
        parts.push(host::on(MetaKey::IifName, &bridge(random), !random.one_in(3)));
    }
    if random.one_in(2) && !chain.starts_with("PRE") {
        parts.push(host::on(MetaKey::OifName, &bridge(random), !random.one_in(3)));
    }
    if random.one_in(2) {
        let index = random.below(CONTAINERS);
        parts.push(host::destination(host::address(index % NETWORKS, 1 + random.below(5))));
    }
    if random.one_in(3) {
        parts.push(host::tcp(PORTS[random.below(PORTS.len())]));
    }
    if random.one_in(8) {
        parts.push(vec![
            netcheck::snapshot::Expression::Payload {
                into: netcheck::snapshot::Register(0),
                base: netcheck::snapshot::PayloadBase::Transport,
                offset: 2,
                len: 2,
            },
            host::cmp(CmpOperation::Gte, &PORTS[random.below(PORTS.len())].to_be_bytes()),
        ]);
    }
    let verdict = match random.below(5) {
        0 => Verdict::Return,
        1 | 2 => Verdict::Accept,
        _ => Verdict::Drop,
    };
    parts.push(host::say(verdict));
    host::rule(parts)
}

/// A Docker host in whose chains rules were added, taken away and exchanged.
fn random_host(random: &mut Random, containers: usize, networks: usize) -> Snapshot {
    let mut snapshot = host::host(containers, networks);
    let tables = &mut snapshot.namespaces[0].tables;
    let (filter, nat): (Vec<&mut netcheck::snapshot::Table>, Vec<_>) = tables.iter_mut().partition(|table| table.name != "nat");
    for table in filter {
        for chain in &mut table.chains {
            for _ in 0..random.below(4) {
                let rule = random_rule(random, &chain.name);
                let place = random.below(chain.rules.len() + 1);
                chain.rules.insert(place, rule);
            }
            exchange(random, chain);
        }
    }
    for table in nat {
        for chain in &mut table.chains {
            exchange(random, chain);
        }
    }
    snapshot
}

fn exchange(random: &mut Random, chain: &mut Chain) {
    for _ in 0..random.below(3) {
        if chain.rules.len() > 1 {
            let (one, other) = (random.below(chain.rules.len()), random.below(chain.rules.len()));
            chain.rules.swap(one, other);
        }
    }
    if !chain.rules.is_empty() && random.one_in(4) {
        let place = random.below(chain.rules.len());
        chain.rules.remove(place);
    }
}

fn arrives(model: &Model, branch: &Branch) -> Vec<String> {
    let names = |kind| model.endpoints.iter().filter(move |endpoint| endpoint.kind == kind).map(|endpoint| endpoint.name.clone());
    match branch.end {
        End::Delivered { namespace } => names(EndpointKind::Inside(namespace)).collect(),
        End::Left { .. } => names(EndpointKind::Outside).collect(),
        End::Dropped(_) | End::Unknown(_) => Vec::new(),
    }
}

/// What is said to pass, or may.
fn known(pair: &Pair, protocol: Protocol) -> Ranges {
    pair.open_ports(protocol).union(&pair.unknown_ports(protocol))
}

/// Every packet of a sample, alone.
fn nothing_is_missing(model: &Model, reachability: &Reachability, case: u64) -> usize {
    let mut walker = Walker::new(model);
    let mut arrived = 0;
    let targets: Vec<IpAddr> = (0..NETWORKS).flat_map(|network| (1..6).map(move |last| host::address(network, last))).collect();
    for from in &model.endpoints {
        let EndpointKind::Inside(namespace) = from.kind else { continue };
        let Some(source) = model.namespace(namespace).addresses().map(|own| own.address.addr()).next() else { continue };
        for target in targets.iter().copied().chain(["192.168.0.1".parse().unwrap(), "8.8.8.8".parse().unwrap()]) {
            for port in PORTS {
                for protocol in [Protocol::Tcp, Protocol::Udp] {
                    let packet = Packet::new(source, target, protocol.first(40_000, port));
                    for branch in walker.branches(packet, Start::Process { namespace, link: None }, &point(&packet)) {
                        for to in arrives(model, &branch).into_iter().filter(|to| *to != from.name) {
                            let at = branch.packet.transport.ports().unwrap().1;
                            let pair = reachability.pair(&from.name, &to).unwrap();
                            assert!(known(&pair, protocol).contains(u128::from(at)), "case {case}: {packet} of {} reaches {to} at {at}", from.name);
                            arrived += 1;
                        }
                    }
                }
            }
        }
    }
    arrived
}

/// Every witness, alone; and for each end of what is said to be open, that it is not more than what single ports do.
fn nothing_is_made_up(model: &Model, reachability: &Reachability, case: u64) {
    let mut walker = Walker::new(model);
    for ((from, to), pair) in reachability.pairs() {
        for flow in &pair.open {
            let Some(start) = flow.start else { continue };
            let branches = walker.branches(flow.witness, start, &point(&flow.witness));
            // What is sent to the metadata service is open wherever it arrives.
            let there =
                |branch: &Branch| if to == "metadata" { !arrives(model, branch).is_empty() } else { arrives(model, branch).contains(&to.to_owned()) };
            assert!(branches.iter().all(there), "case {case}: {} from {from} to {to}", flow.witness);
            let port = branches[0].packet.transport.ports().map(|(_, port)| u128::from(port));
            assert!(port.is_none_or(|port| flow.ports.contains(port)), "case {case}: {} arrives at {port:?}, not {}", flow.witness, flow.ports);
            // Where the port is kept, each edge of what is open and one beside it.
            if branches[0].packet.destination != flow.witness.destination || !flow.protocol.has_ports() {
                continue;
            }
            for edge in flow.ports.as_slice().iter().flat_map(|(first, last)| [*first, *last]) {
                let (source_port, _) = flow.witness.transport.ports().unwrap();
                let packet = Packet { transport: flow.protocol.first(source_port, u16::try_from(edge).unwrap()), ..flow.witness };
                let branches = walker.branches(packet, start, &point(&packet));
                assert!(
                    branches.iter().all(there),
                    "case {case}: {packet} from {from} does not reach {to}, which is said to be open at {}",
                    flow.ports
                );
            }
        }
    }
}

#[test]
fn classes_of_random_rules_are_what_their_packets_do() {
    let cases: u64 = std::env::var("NETCHECK_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(12);
    let mut arrived = 0;
    for case in 1..=cases {
        let snapshot = random_host(&mut Random(case.wrapping_mul(0x9e37_79b9_7f4a_7c15)), CONTAINERS, NETWORKS);
        let model = Model::new(&snapshot);
        let reachability = analyse(&model, Attacker::Process);
        arrived += nothing_is_missing(&model, &reachability, case);
        nothing_is_made_up(&model, &reachability, case);
    }
    assert!(arrived > 1000, "{arrived} packets prove nothing");
}

/// A group of containers that send alike is spoken for by two of them, and of its members' hardware addresses few are asked: nothing comes of it that
/// does not come of each alone. With a table of its own, even an empty one, a container is of no group.
#[test]
fn what_a_group_sends_is_what_its_members_send() {
    let ether_type =
        || vec![Expression::Payload { into: Register(0), base: PayloadBase::Link, offset: 12, len: 2 }, host::cmp(CmpOperation::Eq, &[0x86, 0xdd])];
    let in_frames = |family: Family, base: BaseChain, rule: Vec<Expression>| {
        let chain = Chain { name: "c".to_owned(), handle: 1, base: Some(base), rules: vec![host::rule([rule, host::say(Verdict::Drop)])] };
        Table { family, ..host::table("frames", vec![chain]) }
    };
    let base = |hook: Hook, devices: &[&str]| BaseChain {
        kind: ChainKind::Filter,
        hook,
        priority: 0,
        policy: Policy::Accept,
        devices: devices.iter().map(|name| (*name).to_owned()).collect(),
    };
    let frames = [
        None,
        Some(in_frames(Family::Bridge, base(Hook::Forward, &[]), ether_type())),
        Some(in_frames(Family::Bridge, base(Hook::Forward, &[]), host::on(MetaKey::IifName, "veth4", true))),
        Some(in_frames(Family::Inet, base(Hook::Ingress, &["veth4"]), host::tcp(80))),
    ];
    for (case, frames) in (1..).zip(frames) {
        let mut snapshot = random_host(&mut Random(case * 0x9e37_79b9), 6, 1);
        snapshot.namespaces[0].tables.extend(frames);
        let mut alone = snapshot.clone();
        for namespace in alone.namespaces.iter_mut().skip(1) {
            namespace.tables.push(host::table("none", Vec::new()));
        }
        let (model, alone) = (Model::new(&snapshot), Model::new(&alone));
        let [found, expected] = [&model, &alone].map(|model| analyse(model, Attacker::NetRaw));
        assert!(case > 2 || found.classes * 3 < expected.classes * 2, "case {case}: {} of {} classes", found.classes, expected.classes);
        for (((from, to), found), (_, expected)) in found.pairs().zip(expected.pairs()) {
            for protocol in Protocol::ALL {
                let ports = |pair: &Pair| (pair.open_ports(protocol), pair.unknown_ports(protocol));
                assert_eq!(ports(&found), ports(&expected), "case {case}: {protocol:?} from {from} to {to}");
            }
        }
    }
}
