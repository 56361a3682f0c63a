//! Known isolation failures of Docker hosts: each is set up in a snapshot of a real engine's host, and must be seen.
//!
//! The stock engines show which failures are theirs, and that what they do close is closed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;

use netcheck::analyse::{Answer, Attacker, Explanation, Question, analyse, explain};
use netcheck::compare::Comparison;
use netcheck::model::{EndpointKind, Model};
use netcheck::packet::Protocol;
use netcheck::snapshot::{
    Address, BaseChain, BitOperation, Bytes, Chain, ChainKind, CmpOperation, CtKey, Data, Element, Expression, Family, Fdb, Gap, GapKind, Hook,
    IpSet, IpSetElement, LinkKind, Match, MetaKey, Namespace, NatKind, NfObject, NfRule, PayloadBase, Policy, PortMatch, PortRange, Register, Set,
    SetFlags, SetMatch, SetTarget, Snapshot, Table, Target, TcpFlags, Verdict,
};

const ENGINES: [&str; 5] = ["20.10.24", "26.1.5", "28.5.2", "29.7.2-iptables", "29.7.2-nftables"];

fn snapshot(engine: &str) -> Snapshot {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(engine).join("snapshot.json");
    Snapshot::from_json(&std::fs::read(path).unwrap()).unwrap()
}

fn ask(snapshot: &Snapshot, attacker: Attacker, from: &str, to: &str, flow: &str) -> Explanation {
    let (protocol, port) = flow.split_once('/').map_or((flow, None), |(protocol, port)| (protocol, Some(port.parse().unwrap())));
    let question = Question { from: from.to_owned(), to: to.to_owned(), protocol: Protocol::named(protocol).unwrap(), port, attacker };
    explain(&Model::new(snapshot), &question).unwrap()
}

fn host(snapshot: &mut Snapshot) -> &mut Namespace {
    let id = snapshot.this_host;
    snapshot.namespaces.iter_mut().find(|namespace| namespace.id == id).unwrap()
}

#[track_caller]
fn expect(name: &str, got: &Explanation, want: Answer) {
    let reasons: Vec<&str> = got.closed_by.iter().map(|reason| reason.as_hop().text.as_str()).collect();
    let trace: Vec<String> = got.trace.iter().map(|hop| format!("{} {}", hop.at, hop.text)).collect();
    assert_eq!(
        got.answer,
        want,
        "{name}: {} > {} as {}\nwitness {:?}\ntrace {trace:#?}\nclosed by {reasons:#?}\nunknown {:?}",
        got.from,
        got.to,
        got.attacker.name(),
        got.witness.map(|packet| packet.to_string()),
        got.unknown_because
    );
    if want == Answer::Open {
        assert!(got.witness.is_some() && !got.trace.is_empty(), "{name}: open without a witness");
    } else if want == Answer::Closed {
        assert!(!got.closed_by.is_empty(), "{name}: closed without a reason");
    }
}

/// F01: the rules of `--internal` look at addresses, and whoever has NET_RAW chooses its own.
#[test]
fn a_spoofed_source_enters_an_internal_network() {
    for (engine, want) in [("26.1.5", Answer::Open), ("28.5.2", Answer::Open), ("29.7.2-iptables", Answer::Open), ("29.7.2-nftables", Answer::Closed)]
    {
        let snapshot = snapshot(engine);
        expect(engine, &ask(&snapshot, Attacker::Process, "a1", "i1", "udp/7000"), Answer::Closed);
        let got = ask(&snapshot, Attacker::NetRaw, "a1", "i1", "udp/7000");
        expect(engine, &got, want);
        assert!(!got.reply, "{engine}: no answer comes back to a spoofed source");
    }
}

/// F01, the other half: strict reverse-path filtering closes it.
#[test]
fn strict_rp_filter_keeps_spoofed_sources_out() {
    let mut snapshot = snapshot("28.5.2");
    host(&mut snapshot).ipv4_all.rp_filter = 1;
    expect("strict", &ask(&snapshot, Attacker::NetRaw, "a1", "i1", "udp/7000"), Answer::Closed);
    host(&mut snapshot).ipv4_all.rp_filter = 2;
    expect("loose", &ask(&snapshot, Attacker::NetRaw, "a1", "i1", "udp/7000"), Answer::Open);
}

/// F02: with Docker 29's own nftables rules, an internal container reaches published ports of other networks.
#[test]
fn an_internal_container_reaches_published_ports() {
    for (engine, want) in
        [("26.1.5", Answer::Closed), ("28.5.2", Answer::Closed), ("29.7.2-iptables", Answer::Closed), ("29.7.2-nftables", Answer::Open)]
    {
        let snapshot = snapshot(engine);
        let got = explain_kernel(&snapshot, "i1", "a2", "tcp/80");
        expect(engine, &got, want);
    }
}

/// What the kernel alone passes on: without the host's proxies.
fn explain_kernel(snapshot: &Snapshot, from: &str, to: &str, flow: &str) -> Explanation {
    let mut snapshot = snapshot.clone();
    host(&mut snapshot).sockets.clear();
    ask(&snapshot, Attacker::Process, from, to, flow)
}

/// F06: 20.10 leaves IPv6 alone.
#[test]
fn engine_20_10_does_not_isolate_ipv6() {
    let got = ask(&snapshot("20.10.24"), Attacker::Process, "s1", "t1", "tcp/7777");
    expect("20.10.24", &got, Answer::Open);
    assert!(!got.witness.unwrap().is_ipv4());
}

/// F07: up to 27, FORWARD accepts when forwarding was on before the engine came.
#[test]
fn a_neighbour_reaches_unpublished_ports_up_to_27() {
    for (engine, want) in [("26.1.5", Answer::Open), ("28.5.2", Answer::Closed), ("29.7.2-nftables", Answer::Closed)] {
        expect(engine, &explain_kernel(&snapshot(engine), "outside", "a1", "tcp/7777"), want);
    }
}

/// F08: up to 27, a port published on 127.0.0.1 answers a neighbour who writes that address into a frame.
#[test]
fn a_neighbour_reaches_ports_published_on_loopback_up_to_27() {
    for (engine, want) in [("26.1.5", Answer::Open), ("28.5.2", Answer::Closed), ("29.7.2-nftables", Answer::Closed)] {
        let snapshot = snapshot(engine);
        let got = ask(&snapshot, Attacker::NetRaw, "outside", "127.0.0.1", "tcp/8081");
        expect(engine, &got, want);
    }
}

/// F10: a container on two networks that forwards is a router; 28's raw rules see the bridged frames, unless these have a priority tag.
#[test]
fn a_dual_homed_container_routes() {
    for (engine, tagged) in [("26.1.5", false), ("28.5.2", true)] {
        let mut snapshot = snapshot(engine);
        expect(engine, &ask(&snapshot, Attacker::Process, "a1", "b1", "udp/7000"), Answer::Closed);
        let id = snapshot.containers().iter().find(|container| container.name == "ab").unwrap().namespace.unwrap();
        let ab = snapshot.namespaces.iter_mut().find(|namespace| namespace.id == id).unwrap();
        for link in &mut ab.links {
            link.ipv4.as_mut().unwrap().forwarding = true;
        }
        let got = ask(&snapshot, Attacker::NetRaw, "a1", "b1", "udp/7000");
        expect(engine, &got, Answer::Open);
        assert_eq!(got.trace[0].text.contains("priority tag"), tagged, "{engine}: {:?}", got.trace);
    }
}

/// F16: with `route_localnet` on a bridge, the host's loopback answers containers.
#[test]
fn route_localnet_opens_the_loopback_of_the_host() {
    let mut snapshot = snapshot("28.5.2");
    expect("off", &ask(&snapshot, Attacker::NetRaw, "d1", "127.0.0.1", "udp/6666"), Answer::Open);
    let to_host = |snapshot: &Snapshot| {
        let got = ask(snapshot, Attacker::NetRaw, "d1", "127.0.0.1", "udp/6666");
        got.trace.last().is_some_and(|hop| hop.at == "host")
    };
    assert!(!to_host(&snapshot), "only its own loopback");
    for link in &mut host(&mut snapshot).links {
        link.ipv4.as_mut().unwrap().route_localnet |= link.name == "docker0";
    }
    let model = Model::new(&snapshot);
    let reached = netcheck::analyse::analyse(&model, Attacker::NetRaw);
    let pair = &reached.pair("d1", "host").unwrap();
    assert!(!pair.open.is_empty());
}

/// M17: without rules, everything that is routed is open.
#[test]
fn a_flushed_rule_set_opens_everything() {
    for engine in ENGINES {
        let mut snapshot = snapshot(engine);
        host(&mut snapshot).tables.clear();
        for (from, to) in [("a1", "b1"), ("a1", "i1"), ("n1", "n2"), ("b1", "d1")] {
            expect(engine, &ask(&snapshot, Attacker::Process, from, to, "tcp/7777"), Answer::Open);
        }
    }
}

fn accept_first(snapshot: &mut Snapshot, chain: &str) {
    let rule = NfRule { handle: 9999, expressions: vec![Expression::Immediate { into: None, data: Data::Verdict(Verdict::Accept) }], comment: None };
    let chains = host(snapshot).tables.iter_mut().flat_map(|table| &mut table.chains);
    for found in chains.filter(|found| found.name == chain) {
        found.rules.insert(0, rule.clone());
    }
}

/// M18: an ACCEPT in DOCKER-USER ends the engine's isolation; 28's raw rules still hold.
#[test]
fn an_accept_in_docker_user_opens_networks() {
    for (engine, between) in [("26.1.5", Answer::Open), ("28.5.2", Answer::Closed), ("29.7.2-iptables", Answer::Closed)] {
        let mut snapshot = snapshot(engine);
        expect(engine, &explain_kernel(&snapshot, "n1", "n2", "tcp/7777"), Answer::Closed);
        accept_first(&mut snapshot, "DOCKER-USER");
        expect(engine, &explain_kernel(&snapshot, "a1", "b1", "tcp/7777"), between);
        expect(engine, &explain_kernel(&snapshot, "a1", "i1", "tcp/7777"), Answer::Open);
        expect(engine, &explain_kernel(&snapshot, "n1", "n2", "tcp/7777"), Answer::Open);
    }
}

/// M20: without br_netfilter, `icc=false` is nothing; the bridge's own flag is as good as the sysctl.
#[test]
fn icc_false_needs_br_netfilter() {
    for engine in ENGINES {
        let mut snapshot = snapshot(engine);
        expect(engine, &ask(&snapshot, Attacker::Process, "n1", "n2", "tcp/7777"), Answer::Closed);
        host(&mut snapshot).sysctls.insert("net/bridge/bridge-nf-call-iptables".to_owned(), "0".to_owned());
        expect(engine, &ask(&snapshot, Attacker::Process, "n1", "n2", "tcp/7777"), Answer::Open);
        for link in &mut host(&mut snapshot).links {
            if let netcheck::snapshot::LinkKind::Bridge(bridge) = &mut link.kind {
                bridge.nf_call_iptables = true;
            }
        }
        expect(engine, &ask(&snapshot, Attacker::Process, "n1", "n2", "tcp/7777"), Answer::Closed);
    }
}

/// br_netfilter does not look behind a priority tag, and who receives the frame takes it off: `icc=false` does not hold against NET_RAW.
#[test]
fn a_priority_tag_passes_icc_false() {
    for engine in ENGINES {
        let mut snapshot = snapshot(engine);
        expect(engine, &ask(&snapshot, Attacker::Process, "n1", "n2", "tcp/7777"), Answer::Closed);
        let got = ask(&snapshot, Attacker::NetRaw, "n1", "n2", "tcp/7777");
        expect(engine, &got, Answer::Open);
        assert!(got.trace.iter().any(|hop| hop.text.contains("with a priority tag")), "{engine}: {:?}", got.trace);
        // The host's rules see what goes up to its own stack.
        expect(engine, &ask(&snapshot, Attacker::Process, "a1", "i1", "udp/7000"), Answer::Closed);
        // What `bridge-nf-filter-vlan-tagged` makes of it is not followed.
        host(&mut snapshot).sysctls.insert("net/bridge/bridge-nf-filter-vlan-tagged".to_owned(), "1".to_owned());
        expect(engine, &ask(&snapshot, Attacker::NetRaw, "n1", "n2", "tcp/7777"), Answer::Unknown);
    }
}

/// M21: 28 without its raw rules.
#[test]
fn without_raw_rules_28_still_drops_unpublished_ports() {
    let mut snapshot = snapshot("28.5.2");
    host(&mut snapshot).tables.retain(|table| table.name != "raw");
    expect("28.5.2", &explain_kernel(&snapshot, "outside", "a1", "tcp/7777"), Answer::Closed);
}

/// H35: a service of the host on every address is on every network, internal ones too.
#[test]
fn services_of_the_host_are_on_every_network() {
    for engine in ENGINES {
        for from in ["a1", "i1", "n1", "outside"] {
            expect(engine, &ask(&snapshot(engine), Attacker::Process, from, "host", "tcp/7777"), Answer::Open);
        }
    }
}

/// N47, N49, M27: what may carry packets past the rules makes unknown, never closed.
#[test]
fn what_is_not_modelled_is_never_closed() {
    for kind in [GapKind::TrafficControl, GapKind::Xdp, GapKind::LegacyTables, GapKind::Ipvs, GapKind::Bpf, GapKind::Xfrm] {
        let mut snapshot = snapshot("28.5.2");
        let id = snapshot.this_host;
        snapshot.gaps.push(Gap { kind, namespace: Some(id), link: None, detail: "for a test".to_owned() });
        for attacker in [Attacker::Process, Attacker::NetRaw] {
            expect("gap", &ask(&snapshot, attacker, "a1", "b1", "tcp/7777"), Answer::Unknown);
            expect("gap", &ask(&snapshot, attacker, "n1", "n2", "tcp/7777"), Answer::Unknown);
        }
    }
}

/// R54: isolated ports do not exchange frames, and the gateway is the way around.
#[test]
fn isolated_ports_do_not_exchange_frames() {
    let mut snapshot = snapshot("28.5.2");
    expect("open", &ask(&snapshot, Attacker::Process, "a1", "a2", "tcp/7777"), Answer::Open);
    for link in &mut host(&mut snapshot).links {
        if let Some(port) = link.port.as_mut() {
            port.isolated = true;
        }
    }
    expect("isolated", &ask(&snapshot, Attacker::Process, "a1", "a2", "tcp/7777"), Answer::Closed);
    expect("through the gateway", &ask(&snapshot, Attacker::NetRaw, "a1", "a2", "tcp/7777"), Answer::Open);
}

/// An opaque match on the way makes unknown.
#[test]
fn an_opaque_match_is_not_closed() {
    let mut snapshot = snapshot("28.5.2");
    let opaque = Expression::Opaque { name: "osf".to_owned(), bytes: netcheck::snapshot::Bytes(vec![1]) };
    let rule = NfRule { handle: 9998, expressions: vec![opaque], comment: None };
    for chain in host(&mut snapshot).tables.iter_mut().flat_map(|table| &mut table.chains).filter(|chain| chain.name == "DOCKER-USER") {
        chain.rules.insert(0, rule.clone());
    }
    expect("opaque", &explain_kernel(&snapshot, "n1", "n2", "tcp/7777"), Answer::Unknown);
}

/// The same before every rule of a hook of the host.
fn opaque_first(snapshot: &mut Snapshot, chain: &str) {
    let opaque = Expression::Opaque { name: "osf".to_owned(), bytes: netcheck::snapshot::Bytes(vec![1]) };
    let rule = NfRule { handle: 9998, expressions: vec![opaque], comment: None };
    for found in host(snapshot).tables.iter_mut().flat_map(|table| &mut table.chains).filter(|found| found.name == chain) {
        found.rules.insert(0, rule.clone());
    }
}

/// A class of packets has many destinations: when its fate is not known, that is so for whoever has one of them.
#[test]
fn an_opaque_class_is_unknown_for_all_its_destinations() {
    for engine in ["20.10.24", "26.1.5", "28.5.2", "29.7.2-iptables"] {
        let mut snapshot = snapshot(engine);
        opaque_first(&mut snapshot, "FORWARD");
        // since 28 the raw table drops what goes to a container of a network with a way out
        let internal: &[(&str, &str)] = &[("a1", "i1"), ("a1", "i2"), ("b1", "i1")];
        let others: &[(&str, &str)] = &[("a1", "b1"), ("a1", "b2"), ("b1", "a2"), ("i1", "a1"), ("d1", "n2")];
        let others = if engine < "28" { others } else { &[] };
        for (from, to) in internal.iter().chain(others).copied() {
            // i1 has no route to anywhere: it needs to write frames itself
            for attacker in [Attacker::Process, Attacker::NetRaw].into_iter().filter(|attacker| from != "i1" || *attacker == Attacker::NetRaw) {
                let got = ask(&snapshot, attacker, from, to, "udp/7777");
                assert_ne!(got.answer, Answer::Closed, "{engine}: {from} > {to} as {}", attacker.name());
            }
        }
    }
}

/// What may come to a proxy's socket may go on to the container behind it.
#[test]
fn an_opaque_way_to_a_proxy_is_one_to_its_container() {
    for engine in ["20.10.24", "26.1.5", "28.5.2"] {
        let mut snapshot = snapshot(engine);
        expect(engine, &ask(&snapshot, Attacker::Process, "b1", "a2", "tcp/80"), Answer::Open);
        opaque_first(&mut snapshot, "INPUT");
        let input = host(&mut snapshot).tables.iter().flat_map(|table| &table.chains).any(|chain| chain.name == "INPUT" && !chain.rules.is_empty());
        assert!(input, "{engine}: the rule is there");
        expect(engine, &ask(&snapshot, Attacker::Process, "b1", "a2", "tcp/80"), Answer::Unknown);
    }
}

/// A program on the link sees packets before their destination is translated.
#[test]
fn an_opaque_link_is_before_translation() {
    for engine in ["20.10.24", "26.1.5", "28.5.2", "29.7.2-iptables", "29.7.2-nftables"] {
        let mut snapshot = snapshot(engine);
        expect(engine, &ask(&snapshot, Attacker::Process, "outside", "a2", "tcp/80"), Answer::Open);
        let model = Model::new(&snapshot);
        let uplinks: Vec<u32> = model.uplinks.iter().map(|uplink| uplink.link).collect();
        let id = snapshot.this_host;
        for link in uplinks {
            snapshot.gaps.push(Gap { kind: GapKind::Xdp, namespace: Some(id), link: Some(link), detail: "for a test".to_owned() });
        }
        for to in ["a1", "a2", "b1", "i1", "n1", "host"] {
            expect(engine, &ask(&snapshot, Attacker::Process, "outside", to, "tcp/80"), Answer::Unknown);
        }
    }
}

/// Stock engines are told what they leak, as what it is, and nothing else. (The hosts of the first two forwarded before the engine
/// came: F07. F01 and F08 need frames of one's own, and so do those with a priority tag: within a network without `icc`, and through a container
/// on two networks. F02 is 29's with nftables; F06 is IPv6.)
#[test]
fn stock_engines_are_told_only_what_they_leak() {
    type Kinds = &'static [(&'static str, usize)];
    let table: [(&str, Attacker, Kinds); 7] = [
        ("20.10.24", Attacker::Process, &[("cross-network", 4), ("outside-in", 24)]),
        ("26.1.5", Attacker::Process, &[("outside-in", 22)]),
        ("28.5.2", Attacker::Process, &[]),
        ("28.5.2", Attacker::NetRaw, &[("cross-network", 8), ("icc", 2), ("internal-egress", 8), ("internal-ingress", 22), ("outside-in", 4)]),
        ("29.7.2-iptables", Attacker::Process, &[]),
        (
            "29.7.2-iptables",
            Attacker::NetRaw,
            &[("cross-network", 8), ("icc", 2), ("internal-egress", 8), ("internal-ingress", 22), ("outside-in", 4)],
        ),
        ("29.7.2-nftables", Attacker::Process, &[("internal-egress", 8)]),
    ];
    let isolation = policies::isolation::Isolation::preset(policies::isolation::Preset::DockerDefault);
    for (engine, attacker, kinds) in table {
        let snapshot = snapshot(engine);
        let model = Model::new(&snapshot);
        let reachability = analyse(&model, attacker);
        let comparison = Comparison { snapshot: &snapshot, model: &model, reachability: &reachability, isolation: &isolation, today: "2026-11-25" };
        let (document, _) = comparison.document();
        let mut found: BTreeMap<&str, usize> = BTreeMap::new();
        for violation in &document.violations {
            *found.entry(violation.kind.as_str()).or_default() += 1;
            assert!(violation.witness.is_some(), "{engine}: {} to {} has no witness", violation.from, violation.to);
        }
        assert_eq!(found, kinds.iter().copied().collect(), "{engine} as {}", attacker.name());
    }
}

fn rule(expressions: Vec<Expression>) -> NfRule {
    NfRule { handle: 9999, expressions, comment: None }
}

/// Engines accept what is related: with a helper, or an expectation of a rule's, that may be a new connection.
#[test]
fn a_helper_may_expect_a_connection() {
    let raw = |namespace: &mut Namespace, expression: Expression| {
        let chains = namespace.tables.iter_mut().filter(|table| table.name == "raw").flat_map(|table| &mut table.chains);
        chains.filter(|chain| chain.name == "PREROUTING").for_each(|chain| chain.rules.insert(0, rule(vec![expression.clone()])));
    };
    let object = |namespace: &mut Namespace, kind: u32| {
        namespace.tables.iter_mut().for_each(|table| table.objects.push(NfObject { kind, name: "ftp".to_owned() }))
    };
    let target = |helper: Option<&str>| Expression::Target(Target::Ct { zone: 0, notrack: false, helper: helper.map(str::to_owned) });
    type Case<'a> = (&'a str, &'a dyn Fn(&mut Namespace), Answer);
    let cases: [Case<'_>; 7] = [
        ("stock", &|_| {}, Answer::Closed),
        ("a counter", &|namespace| object(namespace, 1), Answer::Closed),
        ("a helper", &|namespace| object(namespace, 3), Answer::Unknown),
        ("an expectation", &|namespace| object(namespace, 9), Answer::Unknown),
        ("CT without a helper", &|namespace| raw(namespace, target(None)), Answer::Closed),
        ("CT --helper ftp", &|namespace| raw(namespace, target(Some("ftp"))), Answer::Unknown),
        (
            "nf_conntrack_helper",
            &|namespace| {
                namespace.sysctls.insert("net/netfilter/nf_conntrack_helper".to_owned(), "1".to_owned());
            },
            Answer::Unknown,
        ),
    ];
    for (name, change, want) in cases {
        let mut snapshot = snapshot("28.5.2");
        change(host(&mut snapshot));
        let got = ask(&snapshot, Attacker::Process, "n1", "n2", "tcp/7777");
        expect(name, &got, want);
        assert_eq!(got.unknown_because.iter().any(|why| why.contains("helper")), want == Answer::Unknown, "{name}: {:?}", got.unknown_because);
    }
}

/// What n2 gets from n1 when the host's DOCKER-USER begins with these rules; it gets nothing without them.
fn from_n1(rules: &[Vec<Expression>]) -> Explanation {
    let mut snapshot = snapshot("28.5.2");
    docker_user(&mut snapshot, rules);
    ask(&snapshot, Attacker::Process, "n1", "n2", "tcp/7777")
}

/// Puts rules before those of the host's DOCKER-USER.
fn docker_user(snapshot: &mut Snapshot, rules: &[Vec<Expression>]) {
    let chains = host(snapshot).tables.iter_mut().filter(|table| table.family == Family::Ip).flat_map(|table| &mut table.chains);
    for chain in chains.filter(|chain| chain.name == "DOCKER-USER") {
        chain.rules.splice(0..0, rules.iter().cloned().map(rule));
    }
}

/// What a rule reads is what the kernel has there, or not known.
#[test]
fn what_a_rule_reads_is_no_constant() {
    const R: Register = Register(0);
    let accept = || Expression::Immediate { into: None, data: Data::Verdict(Verdict::Accept) };
    let cmp = |operation: CmpOperation, value: &[u8]| Expression::Cmp { source: R, operation, value: Bytes(value.to_vec()) };
    let meta = |key: MetaKey, operation: CmpOperation, value: &[u8]| vec![Expression::Meta { key, into: R }, cmp(operation, value), accept()];
    let labels = || vec![Expression::Ct { key: CtKey::Labels, direction: None, into: R }, cmp(CmpOperation::Neq, &[0; 16]), accept()];
    let label = vec![
        Expression::Immediate { into: Some(R), data: Data::Value(Bytes(vec![1; 16])) },
        Expression::CtSet { key: CtKey::Labels, direction: None, source: R },
    ];
    let cases = [
        ("nothing", vec![], Answer::Closed),
        ("dup", vec![vec![Expression::Dup]], Answer::Unknown),
        ("labels that nobody sets", vec![labels()], Answer::Closed),
        ("labels", vec![label, labels()], Answer::Unknown),
        ("rtclassid", vec![meta(MetaKey::RtClassId, CmpOperation::Neq, &[0; 4])], Answer::Unknown),
        ("rt nexthop", vec![vec![Expression::Rt { key: 2, into: R }, cmp(CmpOperation::Eq, &[1; 16]), accept()]], Answer::Unknown),
        ("sdif without a VRF", vec![meta(MetaKey::Sdif, CmpOperation::Eq, &[0; 4])], Answer::Open),
        ("no sdif without a VRF", vec![meta(MetaKey::Sdif, CmpOperation::Neq, &[0; 4])], Answer::Closed),
        ("sdifname without a VRF", vec![meta(MetaKey::SdifName, CmpOperation::Eq, &[0; 16])], Answer::Open),
    ];
    for (name, rules, want) in cases {
        expect(name, &from_n1(&rules), want);
    }
}

/// What a rule finds in a set that rules change is not what was in it when it was read, whatever the set's flags say.
#[test]
fn a_set_that_rules_change_is_not_known() {
    const R: Register = Register(0);
    let verdict = |verdict: Verdict| Expression::Immediate { into: None, data: Data::Verdict(verdict) };
    let source = || Expression::Payload { into: R, base: PayloadBase::Network, offset: 12, len: 4 };
    let change = |operation: u32| vec![source(), Expression::Dynset { set: "knock".to_owned(), operation, key: R, data: None, invert: false }];
    let look = |verdict: bool| Expression::Lookup { set: "knock".to_owned(), source: R, into: None, invert: false, verdict };
    let element = |from: [u8; 4], to: [u8; 4], catch_all: bool, data: Option<Verdict>| Element {
        from: Bytes(from.to_vec()),
        to: Bytes(to.to_vec()),
        catch_all,
        data: data.map(Data::Verdict),
        object: None,
        expires_ms: None,
        expressions: Vec::new(),
    };
    let all = || element([0; 4], [255; 4], false, None);
    let other = |verdict: Verdict| element([0; 4], [0; 4], true, Some(verdict));
    type Case<'a> = (&'a str, Vec<Element>, bool, Vec<Vec<Expression>>, Answer);
    let accept = |set: bool| if set { vec![source(), look(false), verdict(Verdict::Accept)] } else { vec![source(), look(true)] };
    let cases: [Case<'_>; 7] = [
        ("nobody adds", vec![], false, vec![accept(true)], Answer::Closed),
        ("a rule adds", vec![], false, vec![change(0), accept(true)], Answer::Unknown),
        ("everything is in it", vec![all()], false, vec![change(0), accept(true)], Answer::Open),
        (
            "a rule deletes",
            vec![all()],
            false,
            vec![change(2), vec![source(), look(false), verdict(Verdict::Drop)], vec![verdict(Verdict::Accept)]],
            Answer::Unknown,
        ),
        ("a map", vec![other(Verdict::Drop)], true, vec![accept(false)], Answer::Closed),
        ("a map to accept", vec![other(Verdict::Accept)], true, vec![accept(false)], Answer::Open),
        ("a map that a rule adds to", vec![other(Verdict::Drop)], true, vec![change(0), accept(false)], Answer::Unknown),
    ];
    for (name, elements, map, rules, want) in cases {
        let mut snapshot = snapshot("28.5.2");
        for table in host(&mut snapshot).tables.iter_mut().filter(|table| table.family == Family::Ip && table.name == "filter") {
            let flags = SetFlags { map, verdicts: map, ..SetFlags::default() };
            let set = Set {
                name: "knock".to_owned(),
                handle: 999,
                flags,
                key_type: 7,
                key_len: 4,
                fields: Vec::new(),
                data_len: 0,
                elements: elements.clone(),
                expressions: Vec::new(),
            };
            table.sets.push(set);
        }
        docker_user(&mut snapshot, &rules);
        expect(name, &ask(&snapshot, Attacker::Process, "n1", "n2", "tcp/7777"), want);
    }
}

/// The same of ipsets, and of the marks that their elements give.
#[test]
fn an_ipset_that_rules_change_is_not_known() {
    const R: Register = Register(0);
    let verdict = |verdict: Verdict| Expression::Immediate { into: None, data: Data::Verdict(verdict) };
    let set = |add: Option<u16>, delete: Option<u16>, marks: bool| vec![Expression::Target(Target::Set(SetTarget { add, delete, marks }))];
    let found = |end: Verdict| {
        let condition = SetMatch { index: 7, dimensions: 1, source: 2, invert: false, counters: false };
        vec![Expression::Match(Match::Set(condition)), verdict(end)]
    };
    let marked = || {
        let one = Expression::Cmp { source: R, operation: CmpOperation::Eq, value: Bytes(vec![1, 0, 0, 0]) };
        vec![Expression::Meta { key: MetaKey::Mark, into: R }, one, verdict(Verdict::Accept)]
    };
    let empty: &[&str] = &[];
    let cases = [
        ("nobody adds", empty, vec![found(Verdict::Accept)], Answer::Closed),
        ("a rule adds", empty, vec![set(Some(7), None, false), found(Verdict::Accept)], Answer::Unknown),
        ("a rule adds to another", empty, vec![set(Some(8), None, false), found(Verdict::Accept)], Answer::Closed),
        ("in it", &["0.0.0.0/1"], vec![found(Verdict::Drop), vec![verdict(Verdict::Accept)]], Answer::Closed),
        ("a rule deletes", &["0.0.0.0/1"], vec![set(None, Some(7), false), found(Verdict::Drop), vec![verdict(Verdict::Accept)]], Answer::Unknown),
        ("no mark", empty, vec![set(None, None, false), marked()], Answer::Closed),
        ("a mark", empty, vec![set(None, None, true), marked()], Answer::Unknown),
    ];
    for (name, elements, rules, want) in cases {
        let mut snapshot = snapshot("28.5.2");
        let element = |net: &&str| {
            let (address, prefix) = net.split_once('/').unwrap();
            IpSetElement { address: Some(address.parse().unwrap()), prefix: Some(prefix.parse().unwrap()), ..IpSetElement::default() }
        };
        let elements = elements.iter().map(element).collect();
        host(&mut snapshot).ipsets.push(IpSet {
            index: 7,
            name: "knock".to_owned(),
            kind: "hash:net".to_owned(),
            family: Family::Ip,
            masked: false,
            elements,
        });
        docker_user(&mut snapshot, &rules);
        expect(name, &ask(&snapshot, Attacker::Process, "n1", "n2", "tcp/7777"), want);
    }
}

/// What a2 gets from a1 when the host's bridges have these rules at one hook.
fn over_a_bridge(hook: Hook, policy: Policy, expressions: Vec<Expression>, attacker: Attacker) -> Explanation {
    let mut snapshot = snapshot("28.5.2");
    bridge_table(&mut snapshot, hook, policy, expressions);
    ask(&snapshot, attacker, "a1", "a2", "udp/7777")
}

/// Gives the host's bridges a rule.
fn bridge_table(snapshot: &mut Snapshot, hook: Hook, policy: Policy, expressions: Vec<Expression>) {
    let base = Some(BaseChain { kind: ChainKind::Filter, hook, priority: 0, policy, devices: Vec::new() });
    let chain = Chain { name: "frames".to_owned(), handle: 1, base, rules: vec![rule(expressions)] };
    host(snapshot).tables.push(Table {
        family: Family::Bridge,
        name: "frames".to_owned(),
        handle: 999,
        dormant: false,
        chains: vec![chain],
        sets: Vec::new(),
        objects: Vec::new(),
        flowtables: Vec::new(),
    });
}

/// Whoever has NET_RAW writes any hardware address into a frame, and what is sent to all arrives at one too.
#[test]
fn frames_of_ones_own_pass_rules_for_hardware_addresses() {
    let stock = snapshot("28.5.2");
    let a2 = stock.containers().iter().find(|container| container.name == "a2").unwrap().namespace.unwrap();
    let a2 = stock.namespaces.iter().find(|namespace| namespace.id == a2).unwrap();
    let mac = a2.links.iter().find(|link| link.name == "eth0").unwrap().mac.unwrap();
    const R: Register = Register(0);
    let say = |verdict: Verdict| Expression::Immediate { into: None, data: Data::Verdict(verdict) };
    let cmp = |operation: CmpOperation, value: &[u8]| Expression::Cmp { source: R, operation, value: Bytes(value.to_vec()) };
    let ether = |offset: u32| Expression::Payload { into: R, base: PayloadBase::Link, offset, len: 6 };
    let pkttype = || Expression::Meta { key: MetaKey::PktType, into: R };
    let allowed = || vec![ether(6), cmp(CmpOperation::Eq, &[2, 0, 0, 0, 0, 99]), say(Verdict::Accept)];
    let refused = || vec![ether(0), cmp(CmpOperation::Eq, &mac.0), say(Verdict::Drop)];
    let of_type = |kind: u8| vec![pkttype(), cmp(CmpOperation::Eq, &[kind]), say(Verdict::Accept)];
    let (process, raw) = (Attacker::Process, Attacker::NetRaw);
    let cases = [
        ("ether saddr", Hook::Postrouting, Policy::Drop, allowed(), process, Answer::Closed),
        ("a forged ether saddr", Hook::Postrouting, Policy::Drop, allowed(), raw, Answer::Unknown),
        ("ether daddr", Hook::Postrouting, Policy::Accept, refused(), process, Answer::Closed),
        ("a broadcast", Hook::Postrouting, Policy::Accept, refused(), raw, Answer::Unknown),
        ("what is bridged is for others", Hook::Forward, Policy::Drop, of_type(3), process, Answer::Open),
        ("what is bridged is not for the host", Hook::Forward, Policy::Drop, of_type(0), process, Answer::Closed),
        ("pkttype of a broadcast", Hook::Forward, Policy::Drop, of_type(1), process, Answer::Closed),
    ];
    for (name, hook, policy, expressions, attacker, want) in cases {
        expect(name, &over_a_bridge(hook, policy, expressions, attacker), want);
    }
}

/// What the host sends over a bridge of its own has an Ethernet header by then.
#[test]
fn rules_of_a_bridge_read_the_frames_of_the_host() {
    let ethertype = Expression::Payload { into: Register(0), base: PayloadBase::Link, offset: 12, len: 2 };
    let is = |operation: CmpOperation| Expression::Cmp { source: Register(0), operation, value: Bytes(vec![8, 0]) };
    let accept = || Expression::Immediate { into: None, data: Data::Verdict(Verdict::Accept) };
    for (operation, want) in [(CmpOperation::Eq, Answer::Open), (CmpOperation::Neq, Answer::Closed)] {
        let mut snapshot = snapshot("28.5.2");
        bridge_table(&mut snapshot, Hook::Output, Policy::Drop, vec![ethertype.clone(), is(operation), accept()]);
        expect("host", &ask(&snapshot, Attacker::Process, "host", "a1", "udp/7777"), want);
    }
}

/// What a tunnel unwraps arrives behind it, whoever has wrapped it: who sends to the host is on the bridge that its VXLAN is a port of.
#[test]
fn a_tunnel_is_an_entry() {
    for (kind, up, (bridge, to), want) in [
        (LinkKind::Vxlan { vni: 7 }, true, ("br-ni", "i1"), Answer::Unknown),
        (LinkKind::Vxlan { vni: 7 }, false, ("br-ni", "i1"), Answer::Closed),
        (LinkKind::Other("geneve".to_owned()), true, ("br-ni", "i1"), Answer::Unknown),
        (LinkKind::Other("gretap".to_owned()), true, ("br-ni", "i1"), Answer::Unknown),
        (LinkKind::Other("nlmon".to_owned()), true, ("br-ni", "i1"), Answer::Closed),
        // `icc=false` holds against frames without a priority tag.
        (LinkKind::Vxlan { vni: 7 }, true, ("br-nn", "n1"), Answer::Unknown),
        (LinkKind::Vxlan { vni: 7 }, false, ("br-nn", "n1"), Answer::Closed),
    ] {
        let mut snapshot = snapshot("28.5.2");
        let links = &mut host(&mut snapshot).links;
        let port =
            links.iter().find(|link| link.port.is_some() && link.master == links.iter().find(|link| link.name == bridge).map(|link| link.index));
        let mut tunnel = port.unwrap().clone();
        (tunnel.index, tunnel.name, tunnel.kind, tunnel.up, tunnel.peer) = (999, "tunnel".to_owned(), kind.clone(), up, None);
        tunnel.mac = Some(netcheck::snapshot::Mac([2, 0, 0, 0, 0, 77]));
        links.push(tunnel);
        let got = ask(&snapshot, Attacker::Process, "a1", to, "udp/7000");
        expect(&format!("{kind:?} {up} {to}"), &got, want);
        assert_eq!(got.unknown_because.iter().any(|why| why.contains("unwraps")), want == Answer::Unknown);
    }
}

/// Headers that are not followed are the sender's choice: routing headers, options and fragments anybody's, further flags of a SYN with NET_RAW.
#[test]
fn unusual_headers_pass_rules_that_know_the_usual() {
    const R: Register = Register(0);
    const ALL: PortRange = PortRange { first: 0, last: 65535 };
    let drop = || Expression::Immediate { into: None, data: Data::Verdict(Verdict::Drop) };
    let payload = |base: PayloadBase, offset: u32| Expression::Payload { into: R, base, offset, len: 1 };
    let cmp = |value: u8| Expression::Cmp { source: R, operation: CmpOperation::Eq, value: Bytes(vec![value]) };
    let mask =
        |bits: u8| Expression::Bitwise { source: R, into: R, len: 1, operation: BitOperation::Mask { mask: Bytes(vec![bits]), xor: Bytes(vec![0]) } };
    let tcp = || vec![Expression::Meta { key: MetaKey::L4Proto, into: R }, cmp(6)];
    let flags = |more: Vec<Expression>| [tcp(), vec![payload(PayloadBase::Transport, 13)], more, vec![cmp(2), drop()]].concat();
    let next_header = {
        let ipv6 = [
            Expression::Meta { key: MetaKey::Protocol, into: R },
            Expression::Cmp { source: R, operation: CmpOperation::Eq, value: Bytes(vec![0x86, 0xdd]) },
        ];
        [ipv6.to_vec(), vec![payload(PayloadBase::Network, 6), cmp(6), drop()]].concat()
    };
    let iptables = |mask: u8| {
        let ports = PortMatch { source: ALL, destination: ALL, invert_source: false, invert_destination: false };
        let flags = Some(TcpFlags { mask, set: 2, invert: false });
        vec![Expression::Match(Match::Tcp { ports, flags, option: 0, invert_option: false }), drop()]
    };
    let (chosen, ecn) = ("sender chooses", "offer ECN");
    let cases = [
        ("tcp flags == syn", flags(vec![]), Attacker::Process, ecn),
        ("a SYN with other flags", flags(vec![]), Attacker::NetRaw, chosen),
        ("tcp flags syn / fin,syn,rst,ack", flags(vec![mask(0x17)]), Attacker::Process, ""),
        ("tcp flags syn / fin,syn,rst,ack", flags(vec![mask(0x17)]), Attacker::NetRaw, ""),
        ("--tcp-flags ALL SYN", iptables(0x3f), Attacker::Process, ""),
        ("--tcp-flags ALL SYN, with other flags", iptables(0x3f), Attacker::NetRaw, chosen),
        ("ECE and CWR in a mask", iptables(0xff), Attacker::Process, ecn),
        ("--syn", iptables(0x17), Attacker::NetRaw, ""),
        ("ip6 nexthdr", next_header.clone(), Attacker::Process, chosen),
        ("an extension header", next_header, Attacker::NetRaw, chosen),
    ];
    for (name, expressions, attacker, want) in cases {
        let mut snapshot = snapshot("28.5.2");
        let to = if name.contains("ext") || name.contains("ip6") { "fd00:5::3" } else { "a2" };
        let from = if to == "a2" { "a1" } else { "s1" };
        bridge_table(&mut snapshot, Hook::Postrouting, Policy::Accept, expressions);
        let got = ask(&snapshot, attacker, from, to, "tcp/7777");
        assert_ne!(got.answer, Answer::Open, "{name}");
        // A second priority tag hides all of it from rules that see frames: that is another reason.
        let why = [chosen, ecn].into_iter().filter(|why| got.unknown_because.iter().any(|because| because.contains(why)));
        assert!(why.eq(Some(want).filter(|want| !want.is_empty())), "{name}: {:?} {:?}", got.answer, got.unknown_because);
        let closed = attacker == Attacker::Process && want.is_empty();
        assert!(!closed || got.answer == Answer::Closed, "{name}: {:?}", got.unknown_because);
    }
}

/// `br_fdb_find`: someone fixed where a hardware address is, and a frame for all goes past that.
#[test]
fn a_frame_for_all_goes_past_a_static_entry() {
    let mut snapshot = snapshot("28.5.2");
    let model = Model::new(&snapshot);
    let link_of = |name: &str| match model.endpoint(name).map(|endpoint| endpoint.kind) {
        Some(EndpointKind::Inside(namespace)) => model.namespace(namespace).link_named("eth0").unwrap().clone(),
        other => panic!("{name} is {other:?}"),
    };
    let (mac, port) = (link_of("a2").mac.unwrap(), link_of("a1").peer.unwrap().index);
    let content = host(&mut snapshot);
    let bridge = content.links.iter().find(|link| link.index == port).unwrap().master;
    expect("learnt", &ask(&snapshot, Attacker::NetRaw, "a1", "a2", "udp/7000"), Answer::Open);
    host(&mut snapshot).fdb.push(Fdb { link: port, bridge, mac, vlan: None, permanent: false, fixed: true, remote: None });
    expect("fixed", &ask(&snapshot, Attacker::NetRaw, "a1", "a2", "udp/7000"), Answer::Unknown);
    expect("TCP", &ask(&snapshot, Attacker::NetRaw, "a1", "a2", "tcp/7000"), Answer::Closed);
}

/// `nft_meta_store_ifkind`: hardware has no kind, and no rule that asks for one matches.
#[test]
fn hardware_is_of_no_kind() {
    const R: Register = Register(0);
    let mut snapshot = snapshot("28.5.2");
    let mut name = b"bridge".to_vec();
    name.resize(16, 0);
    let kind = Expression::Meta { key: MetaKey::IifKind, into: R };
    let other = Expression::Cmp { source: R, operation: CmpOperation::Neq, value: Bytes(name) };
    let drop = Expression::Immediate { into: None, data: Data::Verdict(Verdict::Drop) };
    for link in host(&mut snapshot).links.iter_mut().filter(|link| link.name == "up0") {
        link.kind = LinkKind::Physical;
    }
    for chain in host(&mut snapshot).tables.iter_mut().flat_map(|table| &mut table.chains).filter(|chain| chain.name == "INPUT") {
        chain.rules.insert(0, rule(vec![kind.clone(), other.clone(), drop.clone()]));
    }
    expect("hardware", &ask(&snapshot, Attacker::Process, "outside", "host", "tcp/7777"), Answer::Open);
}

/// Where source routes are accepted, addresses do not say where a packet goes.
#[test]
fn a_source_route_leads_elsewhere() {
    let mut snapshot = snapshot("28.5.2");
    expect("off", &explain_kernel(&snapshot, "a1", "b1", "tcp/7777"), Answer::Closed);
    for link in &mut host(&mut snapshot).links {
        link.ipv4.as_mut().unwrap().accept_source_route = true;
    }
    expect("off for all", &explain_kernel(&snapshot, "a1", "b1", "tcp/7777"), Answer::Closed);
    host(&mut snapshot).ipv4_all.accept_source_route = true;
    expect("i1", &ask(&snapshot, Attacker::Process, "a1", "i1", "tcp/7777"), Answer::Unknown);
}

/// The metadata service is an endpoint of its own: who has a way out reaches it, and a rule on the host is what closes it.
#[test]
fn the_metadata_service_is_an_endpoint() {
    for engine in ENGINES {
        let stock = snapshot(engine);
        expect(engine, &ask(&stock, Attacker::Process, "a1", "metadata", "tcp/80"), Answer::Open);
        expect(engine, &ask(&stock, Attacker::Process, "i1", "metadata", "tcp/80"), Answer::Closed);
        let reachability = analyse(&Model::new(&stock), Attacker::Process);
        let pair = |from: &str| reachability.pair(from, "metadata").unwrap();
        assert!(pair("a1").open_ports(Protocol::Tcp).contains(80), "{engine}");
        assert!(pair("i1").open.is_empty() && pair("i1").unknown.is_empty(), "{engine}");
        assert!(!reachability.pairs().any(|((from, _), _)| from == "metadata"), "{engine}: it only receives");
    }
    let mut closed = snapshot("28.5.2");
    let address = |text: &str| Expression::Cmp { source: Register(0), operation: CmpOperation::Eq, value: text.parse().unwrap() };
    let destination = Expression::Payload { into: Register(0), base: PayloadBase::Network, offset: 16, len: 4 };
    let drop = Expression::Immediate { into: None, data: Data::Verdict(Verdict::Drop) };
    let user = host(&mut closed).tables.iter_mut().find(|table| table.family == Family::Ip && table.name == "filter").unwrap();
    let user = user.chains.iter_mut().find(|chain| chain.name == "DOCKER-USER").unwrap();
    user.rules.insert(0, NfRule { handle: 9999, expressions: vec![destination, address("a9fea9fe"), drop], comment: None });
    expect("a rule", &ask(&closed, Attacker::Process, "a1", "metadata", "tcp/80"), Answer::Closed);
}

/// A container that runs, and whose namespace nobody found, may send to everybody.
#[test]
fn a_container_without_a_namespace_is_unknown_to_all() {
    let mut snapshot = snapshot("28.5.2");
    let engine = snapshot.engine.as_mut().unwrap();
    engine.containers.iter_mut().find(|container| container.name == "a1").unwrap().namespace = None;
    let reachability = analyse(&Model::new(&snapshot), Attacker::Process);
    for other in ["a2", "host", "outside", "metadata"] {
        let pair = reachability.pair("a1", other).unwrap();
        assert!(pair.open.is_empty() && !pair.unknown.is_empty(), "{other}");
    }
    assert!(!reachability.pair("a2", "a1").unwrap().unknown.is_empty());
}

/// Nobody hides the host, outside or the metadata service by taking its name, and a policy can name who tried.
#[test]
fn a_container_does_not_take_the_place_of_what_it_is_called_like() {
    let stock = snapshot("26.1.5");
    let before = analyse(&Model::new(&stock), Attacker::Process);
    for taken in ["host", "outside", "metadata", "any", "containers", "10.1.1.2", "b1"] {
        let mut snapshot = stock.clone();
        let a1 = snapshot.engine.as_mut().unwrap().containers.iter_mut().find(|container| container.name == "a1").unwrap();
        taken.clone_into(&mut a1.name);
        let model = Model::new(&snapshot);
        let name = format!("container:{taken}");
        let names = |model: &Model| model.endpoints.iter().map(|endpoint| endpoint.name.clone()).collect::<Vec<_>>();
        let mut expected: Vec<String> = names(&Model::new(&stock)).into_iter().filter(|name| name != "a1").chain([name.clone()]).collect();
        expected.sort();
        let mut found = names(&model);
        // One of two containers of one name has it.
        assert!(found.is_sorted(), "{taken}");
        found.sort();
        assert_eq!(found, expected, "{taken}");
        let reachability = analyse(&model, Attacker::Process);
        for other in ["host", "outside", "metadata", "a2", "i1"] {
            let open = |reachability: &netcheck::analyse::Reachability, from: &str, to: &str| {
                reachability.pair(from, to).map(|pair| (pair.open_ports(Protocol::Tcp), pair.unknown_ports(Protocol::Tcp)))
            };
            if taken != "b1" {
                assert_eq!(open(&reachability, &name, other), open(&before, "a1", other), "{name} > {other}");
                assert_eq!(open(&reachability, other, &name), open(&before, other, "a1"), "{other} > {name}");
            }
        }
        let policy = format!("version: 1\npreset: none\nallow: [{{ from: 'container:{taken}', to: host }}]\n");
        let isolation = policies::isolation::Isolation::parse("p.yaml", &policy).unwrap();
        let parties = netcheck::compare::parties(&snapshot, &model);
        let party = |name: &str| parties.iter().find(|party| party.name == name).unwrap();
        assert_eq!(party("host").kind, policies::isolation::PartyKind::Host, "{taken}");
        assert_eq!(party("outside").kind, policies::isolation::PartyKind::Outside, "{taken}");
        assert_eq!(party(&name).kind, policies::isolation::PartyKind::Container, "{taken}");
        assert!(!isolation.allowed(party(&name), party("host")).is_empty(), "{taken}");
        assert!(isolation.allowed(party("a2"), party("host")).is_empty(), "{taken}");
        assert!(explain_kernel(&snapshot, &name, "host", "tcp/7777").answer == Answer::Open, "{taken}");
    }
}

/// iptables counts rules, nft names handles: a rule is told by both.
#[test]
fn a_rule_is_told_by_its_place_and_its_handle() {
    let snapshot = snapshot("29.7.2-nftables");
    let got = ask(&snapshot, Attacker::Process, "a1", "i1", "tcp/5432");
    let rule = got.closed_by[0].as_hop();
    let (table, chain) = (rule.table.as_deref().unwrap(), rule.chain.as_deref().unwrap());
    let host = snapshot.namespace(snapshot.this_host).unwrap();
    let of_table = host.tables.iter().find(|own| table == format!("ip {}", own.name) && own.family == Family::Ip).unwrap();
    let of_chain = of_table.chains.iter().find(|own| own.name == chain).unwrap();
    let place = of_chain.rules.iter().position(|own| Some(own.handle) == rule.handle).unwrap();
    let expected = format!("{table} {chain} rule {} (handle {}, INTERNAL NETWORK INGRESS) drops", place + 1, rule.handle.unwrap());
    assert_eq!(rule.text, expected);
}

/// A host that nothing leads to says so, where it is asked about outside.
#[test]
fn a_host_without_an_uplink_has_nothing_outside() {
    let mut snapshot = snapshot("28.5.2");
    let uplinks: Vec<u32> = Model::new(&snapshot).uplinks.iter().map(|uplink| uplink.link).collect();
    assert!(!uplinks.is_empty());
    let own = host(&mut snapshot);
    own.links.retain(|link| !uplinks.contains(&link.index));
    own.routes.retain(|route| route.next_hops.iter().all(|hop| hop.oif.is_none_or(|link| !uplinks.contains(&link))));
    for (from, to) in [("outside", "a1"), ("a1", "outside"), ("outside", "host")] {
        let got = ask(&snapshot, Attacker::Process, from, to, "tcp/80");
        expect("alone", &got, Answer::Closed);
        assert_eq!(got.closed_by[0].as_hop().text, "there is no uplink: nothing is outside of this host", "{from} to {to}");
    }
    let model = Model::new(&snapshot);
    let reachability = analyse(&model, Attacker::Process);
    let isolation = policies::isolation::Isolation::preset(policies::isolation::Preset::DockerDefault);
    let comparison = Comparison { snapshot: &snapshot, model: &model, reachability: &reachability, isolation: &isolation, today: "2026-11-25" };
    assert!(comparison.document().0.notes.iter().any(|note| note.contains("no uplink")));
}

/// What closes a flow is told of what somebody would try first: rules before routes, and nothing of sources that no wire carries.
#[test]
fn what_closes_a_flow_is_told_in_one_order() {
    let snapshot = snapshot("29.7.2-nftables");
    let cases: [(&str, &str, &[&str]); 3] = [
        ("a1", "b1", &["rule"]),
        ("a1", "i1", &["rule"]),
        // i1 has no default route, and no address of IPv6.
        ("i1", "outside", &["no route to 198.51.100.1"]),
    ];
    for (from, to, expected) in cases {
        let got = ask(&snapshot, Attacker::Process, from, to, "tcp/5432");
        let told: Vec<&str> =
            got.closed_by.iter().map(|reason| reason.as_hop()).map(|hop| if hop.kind == "rule" { hop.kind } else { &hop.text }).collect();
        assert_eq!(told, expected, "{from} to {to}");
    }
}

/// A port that is published for SCTP is not one that is published for TCP.
#[test]
fn a_publication_is_for_its_protocol() {
    let ports = |protocol: &str| {
        let mut snapshot = snapshot("28.5.2");
        let container = snapshot.engine.as_mut().unwrap().containers.iter_mut().find(|container| container.name == "a2").unwrap();
        container.published.iter_mut().for_each(|port| protocol.clone_into(&mut port.protocol));
        let parties = netcheck::compare::parties(&snapshot, &Model::new(&snapshot));
        let a2 = parties.into_iter().find(|party| party.name == "a2").unwrap().published_flows(true);
        (a2.tcp.contains(80), a2.udp.contains(80))
    };
    assert_eq!([ports("tcp"), ports("udp"), ports("sctp")], [(true, false), (false, true), (false, false)]);
}

/// The packet that is shown is the one that somebody would send: to the port that was asked about, from an address that is answered.
#[test]
fn a_witness_is_what_somebody_would_send() {
    let snapshot = snapshot("28.5.2");
    for (from, to) in [("ab", "a1"), ("ab", "b1"), ("ab", "host"), ("a1", "metadata"), ("a1", "a1")] {
        let got = ask(&snapshot, Attacker::Process, from, to, "tcp/7777");
        assert_eq!(got.answer, Answer::Open, "{from} to {to}");
        assert!(got.reply || to == "metadata", "{from} to {to}: {:?}", got.witness);
        assert_eq!(got.witness.unwrap().transport.ports().unwrap().1, 7777, "{from} to {to}");
    }
    let model = Model::new(&snapshot);
    let reachability = analyse(&model, Attacker::Process);
    let isolation = policies::isolation::Isolation::preset(policies::isolation::Preset::None);
    let comparison = Comparison { snapshot: &snapshot, model: &model, reachability: &reachability, isolation: &isolation, today: "2026-11-25" };
    let (document, _) = comparison.document();
    for (from, to, source) in [("ab", "a1", "10.1.1."), ("ab", "b1", "10.1.2.")] {
        let found = document.violations.iter().find(|violation| violation.from == from && violation.to == to).unwrap();
        assert!(found.witness.as_ref().unwrap().starts_with(&format!("tcp {source}")), "{:?}", found.witness);
    }
    // What is published is not said to be unpublished where the policy does not allow it.
    let why = |to: &str| &document.violations.iter().find(|violation| violation.from == "outside" && violation.to == to).unwrap().why;
    assert_eq!(why("a2"), "a2 publishes this, and the policy does not allow outside to reach it there");
}

/// Nothing is closed without a reason.
#[test]
fn whoever_sends_nothing_is_told_why() {
    let snapshot = snapshot("28.5.2");
    for (from, to, reason) in [("metadata", "a1", "only receives"), ("d1", "fe80::1", "has no address to send this from")] {
        let got = ask(&snapshot, Attacker::Process, from, to, "tcp/80");
        expect(from, &got, Answer::Closed);
        assert!(got.closed_by[0].as_hop().text.contains(reason), "{:?}", got.closed_by);
    }
}

/// Who watches hears of violations that are new, also of those that only the day brings.
#[test]
fn news_are_flows_and_violations() {
    let policy = "version: 1\npreset: none\nallow: [{ from: any, to: any, udp: [1-65535], icmp: true }]\n\
        exceptions: [{ from: any, to: any, tcp: [1-65535], until: 2026-12-01, reason: for a test }]\n";
    let isolation = policies::isolation::Isolation::parse("p.yaml", policy).unwrap();
    let document = |snapshot: &Snapshot, today: &str| {
        let model = Model::new(snapshot);
        let reachability = analyse(&model, Attacker::Process);
        Comparison { snapshot, model: &model, reachability: &reachability, isolation: &isolation, today }.document().0
    };
    let stock = snapshot("28.5.2");
    let before = document(&stock, "2026-11-25");
    assert_eq!(netcheck::report::text::news(&before, &document(&stock, "2026-11-26")), None);
    let later = netcheck::report::text::news(&before, &document(&stock, "2026-12-01")).unwrap();
    assert!(later.contains("VIOLATION") && !later.contains("opened") && !later.contains("nothing changed"), "{later}");
    let mut opened = stock;
    accept_first(&mut opened, "DOCKER-USER");
    let opened = netcheck::report::text::news(&before, &document(&opened, "2026-11-25")).unwrap();
    assert!(opened.contains("opened: a1 → i1") && !opened.contains("VIOLATION"), "{opened}");
}

/// A table of the host with one chain and one rule.
fn host_table(snapshot: &mut Snapshot, family: Family, kind: ChainKind, hook: Hook, expressions: Vec<Expression>) {
    let priority = if kind == ChainKind::Nat { -90 } else { 1 };
    let base = Some(BaseChain { kind, hook, priority, policy: Policy::Accept, devices: Vec::new() });
    host(snapshot).tables.push(Table {
        family,
        name: "own".to_owned(),
        handle: 998,
        dormant: false,
        chains: vec![Chain { name: "own".to_owned(), handle: 1, base, rules: vec![rule(expressions)] }],
        sets: Vec::new(),
        objects: Vec::new(),
        flowtables: Vec::new(),
    });
}

/// There are too many IPv6 addresses to look at each: what a rule makes of each of them differently is unknown, and the analysis ends.
#[test]
fn ipv6_addresses_are_not_looked_at_one_by_one() {
    const R: Register = Register(0);
    let address = |from: &str| Data::Value(Bytes(from.parse::<std::net::Ipv6Addr>().unwrap().octets().to_vec()));
    let masked = |mask: [u8; 16], operation: CmpOperation, value: [u8; 16]| {
        vec![
            Expression::Payload { into: R, base: PayloadBase::Network, offset: 24, len: 16 },
            Expression::Bitwise {
                source: R,
                into: R,
                len: 16,
                operation: BitOperation::Mask { mask: Bytes(mask.to_vec()), xor: Bytes(vec![0; 16]) },
            },
            Expression::Cmp { source: R, operation, value: Bytes(value.to_vec()) },
            Expression::Immediate { into: None, data: Data::Verdict(Verdict::Drop) },
        ]
    };
    let low = |last: u8| std::array::from_fn(|at| if at == 15 { last } else { 0 });
    let half = std::array::from_fn(|at| if at < 8 { 0 } else { 0xff });
    let masquerade = || vec![Expression::Masq { flags: 0, ports: None }];
    let netmap = vec![
        Expression::Immediate { into: Some(Register(0)), data: address("fd99::") },
        Expression::Immediate { into: Some(Register(4)), data: address("fd99::ffff:ffff:ffff:ffff") },
        Expression::Nat { kind: NatKind::Dnat, family: 10, addresses: Some((Register(0), Register(4))), ports: None, flags: 0x40 },
    ];
    type Case = (&'static str, ChainKind, Hook, Vec<Expression>, usize, Answer);
    let cases: [Case; 5] = [
        ("masquerade", ChainKind::Nat, Hook::Postrouting, masquerade(), 0, Answer::Open),
        ("masquerade behind several addresses", ChainKind::Nat, Hook::Postrouting, masquerade(), 3, Answer::Open),
        ("a prefix for a prefix", ChainKind::Nat, Hook::Prerouting, netmap, 0, Answer::Unknown),
        ("low bits that nobody has", ChainKind::Filter, Hook::Forward, masked(half, CmpOperation::Eq, low(0xfe)), 0, Answer::Open),
        ("one bit", ChainKind::Filter, Hook::Forward, masked(low(0), CmpOperation::Neq, low(0)), 0, Answer::Open),
    ];
    for (name, kind, hook, expressions, more, want) in cases {
        let mut snapshot = snapshot("20.10.24");
        host_table(&mut snapshot, Family::Ip6, kind, hook, expressions);
        let host = host(&mut snapshot);
        let global = |own: &&Address| own.address.addr().is_ipv6() && own.scope == 0;
        let known: Vec<Address> = host.addresses.iter().filter(global).cloned().collect();
        for (index, own) in known.iter().flat_map(|own| (0..more).map(move |index| (index, own))) {
            let also = format!("fd98:{index}::{}/64", own.link);
            host.addresses.push(Address { address: also.parse().unwrap(), ..own.clone() });
        }
        let model = Model::new(&snapshot);
        let got = analyse(&model, Attacker::Process);
        assert!(got.classes < 1_000_000, "{name}: {}", got.classes);
        let pair = got.pair("s1", "t1").unwrap();
        let answer = match (pair.open_ports(Protocol::Tcp).is_empty(), pair.unknown_ports(Protocol::Tcp).is_empty()) {
            (false, _) => Answer::Open,
            (true, false) => Answer::Unknown,
            (true, true) => Answer::Closed,
        };
        assert_eq!(answer, want, "{name}");
    }
}

/// Class E and what else of 0.0.0.0/8 is not 0.0.0.0 are unicast.
#[test]
fn class_e_and_zero_net_are_unicast() {
    for own in ["240.1.2.3", "255.255.255.254", "0.1.2.3"] {
        let mut snapshot = snapshot("28.5.2");
        let host = host(&mut snapshot);
        let local =
            host.routes.iter().find(|route| route.table == 255 && route.destination.addr().is_loopback() && route.destination.prefix_len() == 32);
        let mut route = local.unwrap().clone();
        route.destination = format!("{own}/32").parse().unwrap();
        host.routes.push(route);
        let known = host.addresses.iter().find(|known| known.address.addr().is_ipv4()).unwrap().clone();
        host.addresses.push(Address { address: format!("{own}/32").parse().unwrap(), ..known });
        expect(own, &ask(&snapshot, Attacker::Process, "a1", own, "tcp/7777"), Answer::Open);
    }
}

/// Packets are as long as their header can say, and whoever writes them may write 0 as their port.
#[test]
fn packets_of_any_length_and_source_port_are_looked_at() {
    const R: Register = Register(0);
    let load = |base: PayloadBase, offset: u32| Expression::Payload { into: R, base, offset, len: 2 };
    let cmp = |operation: CmpOperation, value: u16| Expression::Cmp { source: R, operation, value: Bytes(value.to_be_bytes().to_vec()) };
    let accept = || Expression::Immediate { into: None, data: Data::Verdict(Verdict::Accept) };
    let cases = [
        ("long", vec![load(PayloadBase::Network, 2), cmp(CmpOperation::Gt, 9000), accept()], Answer::Open, Answer::Open),
        ("port 0", vec![load(PayloadBase::Transport, 0), cmp(CmpOperation::Eq, 0), accept()], Answer::Closed, Answer::Open),
    ];
    for (name, expressions, process, raw) in cases {
        let mut snapshot = snapshot("26.1.5");
        expect(name, &ask(&snapshot, Attacker::NetRaw, "d1", "n2", "tcp/7777"), Answer::Closed);
        let tables = host(&mut snapshot).tables.iter_mut().filter(|table| table.family == Family::Ip);
        for chain in tables.flat_map(|table| &mut table.chains).filter(|chain| chain.name == "DOCKER-USER") {
            chain.rules.insert(0, rule(expressions.clone()));
        }
        expect(name, &ask(&snapshot, Attacker::Process, "d1", "n2", "tcp/7777"), process);
        expect(name, &ask(&snapshot, Attacker::NetRaw, "d1", "n2", "tcp/7777"), raw);
    }
}

/// An ipset with a mask holds more than its elements; in a set of ports, those of ICMP are its types and codes.
#[test]
fn ipsets_hold_what_their_masks_and_protocols_say() {
    let element = |protocol: Option<u8>, port: Option<u16>| IpSetElement { protocol, port, ..IpSetElement::default() };
    type Case = (&'static str, &'static str, bool, IpSetElement, &'static str, Answer);
    let cases: [Case; 5] = [
        ("plain", "hash:ip", false, element(None, None), "tcp/7777", Answer::Closed),
        ("netmask", "hash:ip", true, element(None, None), "tcp/7777", Answer::Unknown),
        ("icmp:8/0", "bitmap:port", false, element(Some(1), Some(0x0800)), "icmp", Answer::Open),
        ("icmp:0/0", "bitmap:port", false, element(Some(1), Some(0)), "icmp", Answer::Closed),
        ("tcp:7777", "bitmap:port", false, element(Some(6), Some(7777)), "tcp/7777", Answer::Open),
    ];
    for (name, kind, masked, element, flow, want) in cases {
        let mut snapshot = snapshot("28.5.2");
        let host = host(&mut snapshot);
        let address = kind.ends_with("ip").then(|| "203.0.113.0".parse().unwrap());
        let elements = vec![IpSetElement { address, ..element }];
        host.ipsets.push(IpSet { index: 77, name: "own".to_owned(), kind: kind.to_owned(), family: Family::Ip, masked, elements });
        let condition = SetMatch { index: 77, dimensions: 1, source: 0, invert: false, counters: false };
        let accept = Expression::Immediate { into: None, data: Data::Verdict(Verdict::Accept) };
        for chain in host.tables.iter_mut().filter(|table| table.family == Family::Ip).flat_map(|table| &mut table.chains) {
            if chain.name == "DOCKER-USER" {
                chain.rules.insert(0, rule(vec![Expression::Match(Match::Set(condition)), accept.clone()]));
            }
        }
        expect(name, &ask(&snapshot, Attacker::Process, "n1", "n2", flow), want);
    }
}

/// Without a link, `iif` is 0, and no link's.
#[test]
fn iif_is_zero_where_there_is_none() {
    let mut snapshot = snapshot("28.5.2");
    expect("stock", &ask(&snapshot, Attacker::Process, "host", "n1", "tcp/7777"), Answer::Open);
    let expressions = vec![
        Expression::Meta { key: MetaKey::Iif, into: Register(0) },
        Expression::Cmp { source: Register(0), operation: CmpOperation::Neq, value: Bytes(vec![1, 0, 0, 0]) },
        Expression::Immediate { into: None, data: Data::Verdict(Verdict::Drop) },
    ];
    host_table(&mut snapshot, Family::Inet, ChainKind::Filter, Hook::Output, expressions);
    expect("iif != lo drop", &ask(&snapshot, Attacker::Process, "host", "n1", "tcp/7777"), Answer::Closed);
}

/// An expected connection has the helper of the one that announced it.
#[test]
fn an_expected_connection_may_have_a_helper() {
    let mut snapshot = snapshot("28.5.2");
    let name: Vec<u8> = "ftp".bytes().chain(std::iter::repeat(0)).take(16).collect();
    let helper = vec![
        Expression::Ct { key: CtKey::Helper, direction: None, into: Register(0) },
        Expression::Cmp { source: Register(0), operation: CmpOperation::Eq, value: Bytes(name) },
        Expression::Immediate { into: None, data: Data::Verdict(Verdict::Accept) },
    ];
    let drop = vec![Expression::Immediate { into: None, data: Data::Verdict(Verdict::Drop) }];
    for table in &mut host(&mut snapshot).tables {
        table.objects.push(NfObject { kind: 3, name: "ftp".to_owned() });
        for chain in table.chains.iter_mut().filter(|chain| chain.name == "DOCKER-USER") {
            chain.rules.splice(0..0, [rule(helper.clone()), rule(drop.clone())]);
        }
    }
    expect("ct helper ftp", &ask(&snapshot, Attacker::Process, "n1", "n2", "tcp/7777"), Answer::Unknown);
}

/// What TOS and DSCP make of a header is not what the sender chose.
#[test]
fn a_type_of_service_that_was_set_is_unknown() {
    let tos = |verdict: Verdict| {
        vec![
            Expression::Payload { into: Register(0), base: PayloadBase::Network, offset: 1, len: 1 },
            Expression::Cmp { source: Register(0), operation: CmpOperation::Eq, value: Bytes(vec![0x10]) },
            Expression::Immediate { into: None, data: Data::Verdict(verdict) },
        ]
    };
    for (target, want) in [("LOG", Answer::Closed), ("TOS", Answer::Unknown), ("DSCP", Answer::Unknown)] {
        let set = vec![Expression::Target(Target::Continue(target.to_owned()))];
        expect(target, &from_n1(&[tos(Verdict::Drop), set, tos(Verdict::Accept)]), want);
    }
}
