//! The model says of five engines' hosts what was measured on them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;

use netcheck::analyse::{Answer, Attacker, Question, explain};
use netcheck::model::Model;
use netcheck::packet::Protocol;
use netcheck::snapshot::Snapshot;
use netcheck::walk::Start;

type Measured = BTreeMap<String, BTreeMap<String, String>>;

fn read(engine: &str) -> (Model, Measured) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(engine);
    let snapshot = std::fs::read(directory.join("snapshot.json")).unwrap();
    let measured = std::fs::read(directory.join("reachability.json")).unwrap_or_else(|_| b"{}".to_vec());
    (Model::new(&Snapshot::from_json(&snapshot).unwrap()), serde_json::from_slice(&measured).unwrap())
}

/// Where a connection ended, as it was measured: a name, or nothing.
fn measured_target(result: &str) -> Option<String> {
    let target = result.strip_prefix("OK ")?.split(':').next()?;
    Some(target.to_owned())
}

/// What the model says of a connection: delivered where, or not; and what it rests on.
fn computed(model: &Model, from: &str, address: &str) -> (Option<String>, String) {
    let (host, port) = address.rsplit_once(':').unwrap();
    let question = Question {
        from: from.to_owned(),
        to: host.to_owned(),
        protocol: Protocol::Tcp,
        port: Some(port.parse().unwrap()),
        attacker: Attacker::Process,
    };
    let explanation = explain(model, &question).unwrap();
    let last = |kinds: &[&str]| explanation.trace.iter().rev().find(|hop| kinds.contains(&hop.kind)).map(|hop| hop.at.clone());
    let why = format!("{:?}\n{:#?}\n{:#?}", explanation.answer, explanation.trace, explanation.closed_by);
    // Connections were measured with sockets that keep to no link: E101 says that there is no route.
    let kept = matches!(explanation.start, Some(Start::Process { link: Some(_), .. }));
    match explanation.answer {
        Answer::Open if kept => (None, why),
        Answer::Open => (last(&["delivered"]), why),
        Answer::Closed => (None, why),
        Answer::Unknown => (Some(format!("unknown: {:?}", explanation.unknown_because)), why),
    }
}

fn agrees(engine: &str) {
    let (model, measured) = read(engine);
    let mut wrong = Vec::new();
    let mut asked = 0;
    for (from, targets) in &measured {
        for (address, result) in targets {
            // The neighbour had no IPv6 route when this was measured; the snapshot's has.
            if from == "lan" && address.starts_with("fd00:") {
                continue;
            }
            asked += 1;
            let (got, why) = computed(&model, from, address);
            // Refused: it arrived, and nobody listens; the host is the only one that refuses here.
            let wanted = measured_target(result);
            let right = match result.as_str() {
                "E111" => got.is_some(),
                // A docker-proxy or a translated port answers for the container behind it.
                _ => got == wanted || (got.as_deref() == Some("host") && wanted.is_some() && why.contains("proxy")),
            };
            let proxied = wanted.is_some() && got.as_deref() == Some("host") && address_is_published(&model, address);
            if !right && !proxied {
                wrong.push(format!("{from} > {address}: measured {result}, computed {got:?}\n{why}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{engine}: {} of {asked} differ\n{}", wrong.len(), wrong.iter().take(3).cloned().collect::<Vec<_>>().join("\n"));
}

fn address_is_published(model: &Model, address: &str) -> bool {
    let port: u16 = address.rsplit_once(':').unwrap().1.parse().unwrap();
    model.namespace(model.host).sockets.iter().any(|socket| socket.port == port && socket.owner.as_ref().is_some_and(|owner| owner.proxy.is_some()))
}

#[test]
fn engine_26_1_5_is_as_it_was_measured() {
    agrees("26.1.5");
}

#[test]
fn engine_28_5_2_is_as_it_was_measured() {
    agrees("28.5.2");
}

#[test]
fn engine_29_7_2_with_iptables_is_as_it_was_measured() {
    agrees("29.7.2-iptables");
}

#[test]
fn engine_29_7_2_with_nftables_is_as_it_was_measured() {
    agrees("29.7.2-nftables");
}
