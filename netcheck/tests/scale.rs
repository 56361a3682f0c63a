//! How long the analysis of all pairs takes on hosts of growing size, with rules as Docker 28 writes them.
//!
//! `NETCHECK_SCALE` is a list of `containers/networks`; the default is small. Only release builds say something about time:
//! `NETCHECK_SCALE=200/20,1000/100 cargo test --release -p netcheck --test scale -- --nocapture`.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

#[path = "scale/host.rs"]
mod host;

use std::net::IpAddr;
use std::time::Instant;

use netcheck::analyse::{Answer, Attacker, Question, analyse, analyse_within, explain};
use netcheck::model::Model;
use netcheck::packet::Protocol;
use netcheck::snapshot::{Bytes, ChainKind, CtMatch, Expression, Hook, Match, NatKind, PayloadBase, Register, Set, Snapshot, Verdict};

use host::host;

#[test]
fn all_pairs_of_a_large_host_are_answered() {
    let sizes = std::env::var("NETCHECK_SCALE").unwrap_or_else(|_| "30/5".to_owned());
    for size in sizes.split(',') {
        let (containers, networks) = size.split_once('/').unwrap();
        let (containers, networks): (usize, usize) = (containers.parse().unwrap(), networks.parse().unwrap());
        let snapshot = host(containers, networks);
        let count: usize = snapshot.namespaces[0].tables.iter().flat_map(|table| &table.chains).map(|chain| chain.rules.len()).sum();
        let start = Instant::now();
        let model = Model::new(&snapshot);
        let built = start.elapsed();
        let reachability = analyse(&model, Attacker::Process);
        let analysed = start.elapsed();
        let open = reachability.pairs().filter(|(_, pair)| !pair.open.is_empty()).count();
        let pairs = (reachability.endpoints.len() - 1) * reachability.endpoints.len();
        println!(
            "{containers} containers, {networks} networks, {count} rules: model {built:?}, analysis {:?} ({} classes), all {pairs} pairs {:?}, {open} open",
            analysed - built,
            reachability.classes,
            start.elapsed() - analysed,
        );
        let pair = |from: usize, to: usize| reachability.pair(&format!("c{from}"), &format!("c{to}")).unwrap().open_ports(Protocol::Tcp);
        assert_eq!(pair(0, networks).count(), 65535, "one network is open");
        assert_eq!(pair(0, 1).count(), 0, "networks are apart");
        assert_eq!(pair(1, 0).count(), 0);
        assert_eq!(pair(networks, 0).count(), 65535);
    }
}

/// The host with so many addresses more, and for each of them a rule that lets in two ports of its own; what else comes in is dropped. Rules that are
/// not `plain` begin with a question that every packet has to be asked.
fn host_with_rules_of_their_own(addresses: usize, plain: bool) -> Snapshot {
    let mut snapshot = host::host(2, 2);
    let content = &mut snapshot.namespaces[0];
    let mut input = host::table("own", vec![host::chain("INPUT", Some((ChainKind::Filter, Hook::Input, 0)), Vec::new())]);
    for index in 0..addresses {
        let own = IpAddr::from([10, 9, u8::try_from(index / 250).unwrap(), u8::try_from(1 + index % 250).unwrap()]);
        host::addressed(content, 2, own, 32);
        let name = format!("__set{index}");
        let first = 1000 + 3 * u16::try_from(index).unwrap();
        input.sets.push(ports_of(&name, first));
        let [protocol, is_tcp, port, _] = <[Expression; 4]>::try_from(host::tcp(first)).unwrap();
        let ports = vec![protocol, is_tcp, port, Expression::Lookup { set: name, source: Register(0), into: None, invert: false, verdict: false }];
        let new = Match::Conntrack(Box::new(CtMatch { state: Some((8, false)), ..CtMatch::default() }));
        let asked = if plain { Vec::new() } else { vec![Expression::Match(new)] };
        input.chains[0].rules.push(host::rule([asked, host::destination(own), ports, host::say(Verdict::Accept)]));
    }
    input.chains[0].rules.push(host::rule([host::say(Verdict::Drop)]));
    content.tables.push(input);
    snapshot
}

/// A set of a port and the next one.
fn ports_of(name: &str, first: u16) -> Set {
    let element = |port: u16| serde_json::json!({ "from": Bytes(port.to_be_bytes().to_vec()), "to": Bytes(port.to_be_bytes().to_vec()) });
    let set = serde_json::json!({ "name": name, "handle": 1, "key_len": 2, "elements": [element(first), element(first + 1)] });
    serde_json::from_value(set).unwrap()
}

/// Rules for ports of single addresses do not multiply: twice as many are about twice as many classes.
///
/// `NETCHECK_ADDRESSES` is how many addresses there are.
#[test]
fn rules_of_single_addresses_do_not_multiply() {
    let addresses = std::env::var("NETCHECK_ADDRESSES").map_or(25, |text| text.parse().unwrap());
    let classes = [true, false].map(|plain| {
        [addresses, 2 * addresses].map(|addresses| {
            let start = Instant::now();
            let reachability = analyse(&Model::new(&host_with_rules_of_their_own(addresses, plain)), Attacker::Process);
            println!("{addresses} addresses, plain {plain}: {} classes, {:?}", reachability.classes, start.elapsed());
            let ports = reachability.pair("outside", "host").unwrap().open_ports(Protocol::Tcp);
            assert_eq!(ports.count(), u128::try_from(2 * addresses).unwrap());
            reachability.classes
        })
    });
    assert!(classes.iter().all(|[once, twice]| *twice < 3 * once), "{classes:?}");
}

/// What nobody looked at is unknown, and says why.
#[test]
fn what_is_not_looked_at_is_unknown() {
    let model = Model::new(&host_with_rules_of_their_own(25, false));
    let (process, raw) = (Attacker::Process, Attacker::NetRaw);
    for (attacker, most_looks, enough) in [(process, 0, false), (process, 200, false), (process, 1_000_000, true), (raw, 0, false), (raw, 200, false)]
    {
        let reachability = analyse_within(&model, attacker, most_looks);
        let unknown = |(from, to): (&str, &str)| {
            let pair = reachability.pair(from, to).unwrap();
            assert!(pair.unknown.iter().all(|flow| flow.doubts == ["too many rules and flows to look at"]));
            let known = pair.open_ports(Protocol::Tcp).union(&pair.unknown_ports(Protocol::Tcp));
            known.count() == 65535 && !pair.unknown.is_empty()
        };
        for pair in [("outside", "host"), ("c0", "host"), ("c0", "c1")] {
            assert_eq!(unknown(pair), !enough, "{attacker:?} {most_looks}: {pair:?}");
        }
    }
}

/// A rule that sends everybody to an address of its own has to be asked for each: whoever may have any address has too many.
#[test]
fn too_many_addresses_to_look_at_are_unknown() {
    let mut snapshot = host::host(2, 2);
    let nat = Expression::Nat { kind: NatKind::Dnat, family: 2, addresses: Some((Register(0), Register(0))), ports: None, flags: 1 };
    let source = Expression::Payload { into: Register(0), base: PayloadBase::Network, offset: 12, len: 4 };
    let own = host::chain("OWN", Some((ChainKind::Nat, Hook::Prerouting, -110)), vec![host::rule([vec![source, nat]])]);
    snapshot.namespaces[0].tables.push(host::table("own", vec![own]));
    let model = Model::new(&snapshot);
    let ask = |attacker| {
        let question = Question { from: "c0".to_owned(), to: "c1".to_owned(), protocol: Protocol::Udp, port: Some(9), attacker };
        let explanation = explain(&model, &question).unwrap();
        (explanation.answer, explanation.unknown_because.iter().any(|why| why == "too many addresses to look at one by one"))
    };
    assert_eq!(ask(Attacker::Process), (Answer::Closed, false));
    assert_eq!(ask(Attacker::NetRaw), (Answer::Unknown, true));
}
