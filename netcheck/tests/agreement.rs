//! What the analysis says of whole classes of packets, the walker says of each packet in them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use netcheck::analyse::{Attacker, Reachability, analyse};
use netcheck::model::{EndpointKind, Model};
use netcheck::packet::{Packet, Protocol};
use netcheck::snapshot::Snapshot;
use netcheck::walk::{End, Start, Walker, point};

const ENGINES: [&str; 3] = ["26.1.5", "28.5.2", "29.7.2-nftables"];

fn model(engine: &str) -> Model {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(engine).join("snapshot.json");
    Model::new(&Snapshot::from_json(&std::fs::read(path).unwrap()).unwrap())
}

fn inside(model: &Model, name: &str) -> Option<usize> {
    match model.endpoint(name)?.kind {
        EndpointKind::Inside(namespace) => Some(namespace),
        EndpointKind::Lost | EndpointKind::Metadata | EndpointKind::Outside => None,
    }
}

#[test]
fn every_witness_arrives_where_it_is_said_to() {
    for engine in ENGINES {
        let model = model(engine);
        for attacker in [Attacker::Process, Attacker::NetRaw] {
            let reachability = analyse(&model, attacker);
            let mut walker = Walker::new(&model);
            let mut witnesses = 0;
            for ((from, to), pair) in reachability.pairs() {
                for flow in pair.open.iter().filter(|flow| flow.proxy.is_none()) {
                    let Some(start) = flow.start else { continue };
                    witnesses += 1;
                    let branches = walker.branches(flow.witness, start, &point(&flow.witness));
                    let arrives = branches.iter().all(|branch| match inside(&model, to) {
                        Some(namespace) => branch.end == End::Delivered { namespace },
                        None => !branch.exits.is_empty() || matches!(branch.end, End::Left { .. }),
                    });
                    let port = branches[0].packet.transport.ports().map(|(_, port)| u128::from(port));
                    assert!(arrives, "{engine} {attacker:?} {from} > {to}: {} ends {:?}", flow.witness, branches[0].end);
                    assert!(port.is_none_or(|port| flow.ports.contains(port)), "{engine} {from} > {to}: {} at {port:?}", flow.witness);
                }
            }
            assert!(witnesses > 100, "{engine}: {witnesses} witnesses prove nothing");
        }
    }
}

/// Addresses and ports that rules speak of, and those beside them.
fn sampled(model: &Model) -> (Vec<IpAddr>, Vec<u16>) {
    let mut addresses: Vec<IpAddr> = model.namespaces().flat_map(|(_, namespace)| namespace.addresses().map(|own| own.address.addr())).collect();
    addresses.retain(|address| !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()));
    addresses.extend(["10.1.1.99", "10.1.3.200", "8.8.8.8", "10.1.1.0", "fd00:5::99"].map(|text| text.parse::<IpAddr>().unwrap()));
    (addresses, vec![1, 52, 53, 54, 79, 80, 81, 5353, 7777, 8079, 8080, 8081, 8086, 8999, 9000, 9002, 9003, 65535])
}

#[test]
fn every_sampled_packet_is_in_the_answer() {
    for engine in ENGINES {
        let model = model(engine);
        let reachability = analyse(&model, Attacker::Process);
        let (destinations, ports) = sampled(&model);
        let mut walker = Walker::new(&model);
        let mut tally: BTreeMap<bool, u32> = BTreeMap::new();
        for from in &model.endpoints {
            let EndpointKind::Inside(namespace) = from.kind else {
                continue;
            };
            let sources: Vec<IpAddr> =
                model.namespace(namespace).addresses().map(|own| own.address.addr()).filter(|own| !own.is_loopback()).collect();
            for destination in &destinations {
                let Some(source) = sources.iter().find(|source| source.is_ipv4() == destination.is_ipv4()) else {
                    continue;
                };
                for protocol in [Protocol::Tcp, Protocol::Udp] {
                    for port in &ports {
                        let packet = Packet::new(*source, *destination, protocol.first(40_000, *port));
                        let start = Start::Process { namespace, link: None };
                        let branches = walker.branches(packet, start, &point(&packet));
                        for branch in &branches {
                            let End::Delivered { namespace: reached } = branch.end else {
                                continue;
                            };
                            let (_, arrived) = branch.packet.transport.ports().unwrap();
                            let known =
                                names(&model, reached).any(|to| to == from.name || is_open(&reachability, &from.name, &to, protocol, arrived));
                            *tally.entry(known).or_default() += 1;
                            assert!(
                                known,
                                "{engine}: {packet} of {} reaches {}, which the analysis does not say",
                                from.name,
                                model.namespace(reached).label
                            );
                        }
                    }
                }
            }
        }
        assert!(tally.get(&true).is_some_and(|known| *known > 1000), "{engine}: {tally:?}");
    }
}

fn names(model: &Model, namespace: usize) -> impl Iterator<Item = String> {
    model.endpoints.iter().filter(move |endpoint| endpoint.kind == EndpointKind::Inside(namespace)).map(|endpoint| endpoint.name.clone())
}

fn is_open(reachability: &Reachability, from: &str, to: &str, protocol: Protocol, port: u16) -> bool {
    reachability.pair(from, to).unwrap().open_ports(protocol).contains(u128::from(port))
}
