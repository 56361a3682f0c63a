//! The kernel, asked with real packets in copies of five engines' hosts, says what the model says.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use netcheck::analyse::{Attacker, samples};
use netcheck::model::Model;
use netcheck::snapshot::Snapshot;
use netcheck::twin::{Disagreement, Twin, Verification, verify};

fn snapshot(engine: &str) -> Snapshot {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(engine).join("snapshot.json");
    Snapshot::from_json(&std::fs::read(path).unwrap()).unwrap()
}

/// One in so many packets of the analysis.
fn every() -> usize {
    std::env::var("NETCHECK_TWIN_EVERY").ok().map_or(4, |text| text.parse().unwrap())
}

fn agrees(engine: &str, attacker: Attacker, every: usize, least: usize) {
    let snapshot = snapshot(engine);
    let model = Model::new(&snapshot);
    let start = std::time::Instant::now();
    let mut twin = Twin::build(&snapshot).unwrap();
    let built = start.elapsed();
    assert!(twin.left_out().iter().all(|left| !left.decides), "{engine}: {:#?}", twin.left_out().iter().map(|left| format!("{} {}", left.namespace, left.what)).collect::<Vec<_>>());
    let all = samples(&model, attacker);
    let sampled = start.elapsed();
    let some: Vec<_> = all.iter().copied().step_by(every).collect();
    let verification = verify(&mut twin, &model, &some).unwrap();
    println!(
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
    assert!(verification.compared >= least && verification.arrived * 20 > verification.compared, "{engine}: {verification:?} proves nothing");
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
        agrees(engine, Attacker::Process, every(), 500);
    }
}

#[test]
fn every_engine_for_net_raw() {
    for engine in ["20.10.24", "26.1.5", "28.5.2", "29.7.2-iptables", "29.7.2-nftables"] {
        agrees(engine, Attacker::NetRaw, every() * 4, 500);
    }
}
