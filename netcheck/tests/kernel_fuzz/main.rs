//! The walker against the kernel: random topologies and rules in throwaway namespaces, real packets, and no difference allowed.
//!
//! `NETCHECK_FUZZ_CASES` says how many rule sets (default: a short run), `NETCHECK_FUZZ_SEED` where to begin. A difference is printed
//! with everything that is needed to see it again: seed, topology, rules, packet, and what the walker says it met. Needs root.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod bridges;
mod chains;
mod corners;
mod lab;
mod programs;
mod random;
mod rules;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use netcheck::model::Model;
use netcheck::packet::{Packet, Protocol, Transport};
use netcheck::snapshot::{Data, Expression, Snapshot, Verdict};
use netcheck::twin::{Seen, wire};
use netcheck::walk::{Branch, End, Start, Walker};

use random::Random;
use world::World;

/// Rule sets a topology: source ports must stay unique while the kernel remembers connections.
const CASES_A_WORLD: usize = 60;
const PROBES_A_CASE: usize = 300;

#[derive(Debug, Clone)]
struct Probe {
    id: u32,
    from: usize,
    packet: Packet,
}

#[derive(Debug, Default)]
struct Tally {
    cases: usize,
    not_loaded: usize,
    probes: usize,
    delivered: usize,
    replies: usize,
    unknown: usize,
    mutants: usize,
    killed: usize,
    mismatches: Vec<String>,
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn kernel_and_walker_agree() {
    assert!(is_root(), "this test makes network namespaces: run it as root");
    let cases = usize::try_from(setting("NETCHECK_FUZZ_CASES", 240)).unwrap();
    let seed = setting("NETCHECK_FUZZ_SEED", 1);
    let most_mismatches = usize::try_from(setting("NETCHECK_FUZZ_STOP", 3)).unwrap();
    let mut tally = Tally::default();
    let start = Instant::now();
    for number in 0_u64.. {
        if tally.cases >= cases || tally.mismatches.len() >= most_mismatches {
            break;
        }
        one_world(seed + number, cases, most_mismatches, &mut tally);
    }
    println!(
        "{} cases ({} rule sets not taken), {} probes of which {} delivered, {} replies, {} unknown, {} of {} mutants noticed, {} mismatches, {:.0} s",
        tally.cases,
        tally.not_loaded,
        tally.probes,
        tally.delivered,
        tally.replies,
        tally.unknown,
        tally.killed,
        tally.mutants,
        tally.mismatches.len(),
        start.elapsed().as_secs_f64()
    );
    assert!(tally.mismatches.is_empty(), "{}", tally.mismatches.join("\n\n"));
    assert!(tally.killed * 100 >= tally.mutants * 99, "{} of {} mutants went unnoticed", tally.mutants - tally.killed, tally.mutants);
    assert!(tally.delivered * 20 > tally.probes, "hardly anything is delivered: this proves nothing");
}

fn one_world(seed: u64, cases: usize, stop: usize, tally: &mut Tally) {
    let mut random = Random::new(seed);
    let world = World::new(seed, &mut random);
    let mut next_id = 1;
    warm_up(&world, &mut random, &mut next_id);
    for case in 0..CASES_A_WORLD {
        if tally.cases >= cases || tally.mismatches.len() >= stop {
            return;
        }
        let Some(loaded) = load(&world, &mut random) else {
            tally.not_loaded += 1;
            continue;
        };
        let json = world.lab.snapshot("h");
        let snapshot = Snapshot::from_json(&json).unwrap();
        let model = Model::new(&snapshot);
        let places: Vec<usize> = world.members.iter().map(|member| place(&model, &world.lab.full(&member.name))).collect();
        let probes: Vec<Probe> = (0..PROBES_A_CASE).map(|_| probe(&world, &mut random, &mut next_id)).collect();
        let mut walker = Walker::new(&model);
        let expected: Vec<Vec<Branch>> = probes.iter().map(|probe| branches(&mut walker, probe, &places)).collect();
        let observed = fire(&world, &probes, &expected);
        tally.cases += 1;
        let describe = |probe: &Probe| {
            let loaded = if std::env::var_os("NETCHECK_FUZZ_BRIEF").is_some() { "" } else { &loaded };
            format!(
                "seed {seed} case {case}\n{}\n{loaded}\nsent by {}: {}",
                world.text.lines().filter(|line| !line.ends_with("=0")).collect::<Vec<_>>().join("; "),
                world.members[probe.from].name,
                probe.packet
            )
        };
        let mut sound = Vec::new();
        for (probe, branches) in probes.iter().zip(&expected) {
            tally.probes += 1;
            let seen = observed.get(&probe.id);
            if branches.iter().any(|branch| matches!(branch.end, End::Unknown(_))) {
                tally.unknown += 1;
                continue;
            }
            tally.delivered += usize::from(seen.is_some());
            if !fits(&places, branches, seen, None) {
                let ways: Vec<String> = branches.iter().map(|branch| way(&model, branch)).collect();
                let seen =
                    seen.map(|seen| seen.iter().map(|(member, seen)| format!("{}: {seen:?}", world.members[*member].name)).collect::<Vec<_>>());
                tally.mismatches.push(format!("{}\nobserved {seen:?}\nexpected {}", describe(probe), ways.join("\n or ")));
                if let Some(file) = std::env::var_os("NETCHECK_FUZZ_KEEP") {
                    std::fs::write(file, &json).unwrap();
                }
            } else if let ([branch], Some([(_, seen)])) = (branches.as_slice(), seen.map(Vec::as_slice)) {
                sound.push((probe.clone(), branch.clone(), seen.clone()));
            }
        }
        answer(&world, &mut walker, &places, &sound, (tally, &describe));
        mutate(&snapshot, &mut random, &probes, (&expected, &observed, &places), tally);
    }
}

/// Lets neighbours find each other while there are no rules, so that no packet has to wait for ARP.
fn warm_up(world: &World, random: &mut Random, next_id: &mut u32) {
    let probes: Vec<Probe> = (0..600).map(|_| probe(world, random, next_id)).collect();
    fire(world, &probes, &[]);
    std::thread::sleep(Duration::from_millis(50));
}

/// Loads random rules; none when the tools do not take them.
fn load(world: &World, random: &mut Random) -> Option<String> {
    let mut loaded = String::new();
    for name in ["h", "r", "c0", "c3"] {
        let wanted = match name {
            "h" => true,
            "r" => random.percent(40),
            _ => random.percent(15),
        };
        let rules = if wanted { rules::nft(random) } else { "flush ruleset\n".to_owned() };
        let Some(rules) = world.lab.nft(name, &rules) else {
            world.lab.nft(name, "flush ruleset\n");
            return None;
        };
        loaded.push_str(&format!("--- nft {name}\n{rules}"));
        if name == "h"
            && random.percent(35)
            && let Some(rules) = world.lab.iptables(name, true, &rules::iptables(random))
        {
            loaded.push_str(&format!("--- iptables {name}\n{rules}"));
        }
    }
    Some(loaded)
}

fn place(model: &Model, name: &str) -> usize {
    match model.endpoint(name).map(|endpoint| endpoint.kind) {
        Some(netcheck::model::EndpointKind::Inside(index)) => index,
        _ => model.host,
    }
}

fn probe(world: &World, random: &mut Random, next_id: &mut u32) -> Probe {
    let from = random.below(world.members.len());
    let ipv4 = random.percent(65);
    let mut destination = *random.one(&world.destinations(ipv4));
    let member = &world.members[from];
    let own: Vec<IpAddr> = member.addresses.iter().copied().filter(|address| address.is_ipv4() == ipv4).collect();
    let mut source = *random.one(&own);
    if random.percent(15) {
        // Spoofed: any address that somebody has or could have.
        let others: Vec<IpAddr> = world.destinations(ipv4).into_iter().filter(|address| !address.is_loopback()).collect();
        source = *random.one(&others);
    }
    // A loopback destination from a routable source is only interesting at home.
    if destination.is_loopback() && random.percent(70) {
        destination = *random.one(&own);
    }
    let id = *next_id;
    *next_id += 1;
    let source_port = u16::try_from(1024 + id % 60_000).unwrap();
    let port = if random.percent(90) { *random.one(rules::ports()) } else { 1 + u16::try_from(random.below(65_000)).unwrap() };
    let protocol = match random.below(10) {
        0..=4 => Protocol::Tcp,
        5..=7 => Protocol::Udp,
        _ if ipv4 => Protocol::Icmp,
        _ => Protocol::Icmpv6,
    };
    let mut packet = Packet::new(source, destination, protocol.first(source_port, port));
    packet.length = wire::length(&packet);
    if random.percent(5) {
        packet.tos = 0x20;
    }
    Probe { id, from, packet }
}

fn branches(walker: &mut Walker<'_>, probe: &Probe, places: &[usize]) -> Vec<Branch> {
    let start = Start::Process { namespace: places[probe.from], link: None };
    walker.branches(probe.packet, start, &netcheck::walk::point(&probe.packet))
}

type Observed = BTreeMap<u32, Vec<(usize, Seen)>>;

/// Sends all probes and collects what arrives; waits while something that is expected is missing.
fn fire(world: &World, probes: &[Probe], expected: &[Vec<Branch>]) -> Observed {
    for member in &world.members {
        member.sockets.drain();
    }
    for probe in probes {
        world.members[probe.from].sockets.send(&wire::bytes(&probe.packet, probe.id), probe.packet.destination, None);
    }
    let surely = |branches: &Vec<Branch>| branches.iter().all(|branch| matches!(branch.end, End::Delivered { .. }));
    let awaited: BTreeSet<u32> = probes.iter().zip(expected).filter(|(_, branches)| surely(branches)).map(|(probe, _)| probe.id).collect();
    collect(world, &awaited)
}

fn collect(world: &World, awaited: &BTreeSet<u32>) -> Observed {
    let mut observed = Observed::new();
    let deadline = Instant::now() + Duration::from_secs(2);
    let mut quiet = 0;
    loop {
        let mut any = false;
        for (index, member) in world.members.iter().enumerate() {
            for seen in member.sockets.drain() {
                if let Some((id, _)) = seen.identify() {
                    any = true;
                    observed.entry(id).or_default().push((index, seen));
                }
            }
        }
        let complete = awaited.iter().all(|id| observed.contains_key(id));
        quiet = if any { 0 } else { quiet + 1 };
        // Delivery is part of sending; a packet that waits for ARP, or for a busy machine, is late.
        if (complete && quiet >= 3) || Instant::now() > deadline {
            return observed;
        }
        std::thread::sleep(Duration::from_micros(if complete { 200 } else { 1000 }));
    }
}

/// Whether what was seen is one of the ways that the walker allows. `picked` is the destination port that the kernel picked
/// at random, once it is known.
fn fits(places: &[usize], branches: &[Branch], seen: Option<&Vec<(usize, Seen)>>, picked: Option<u16>) -> bool {
    let nothing = branches.iter().any(|branch| !matches!(branch.end, End::Delivered { .. }));
    let Some(seen) = seen else { return nothing };
    let [(member, seen)] = seen.as_slice() else {
        return false;
    };
    branches.iter().any(|branch| {
        let End::Delivered { namespace } = branch.end else {
            return false;
        };
        let same_ports = match (seen.identify().and_then(|(_, ports)| ports), branch.ports()) {
            (Some(seen), Some((source, destination))) => {
                source.is_none_or(|source| source == seen.0) && destination.or(picked).is_none_or(|destination| destination == seen.1)
            }
            (seen, expected) => seen.is_none() && expected.is_none(),
        };
        namespace == places[*member]
            && seen.source == branch.packet.source
            && seen.destination.is_none_or(|destination| destination == branch.packet.destination)
            && same_ports
    })
}

fn way(model: &Model, branch: &Branch) -> String {
    let hops: Vec<String> = branch.trace(model).into_iter().map(|hop| format!("    {} {}: {}", hop.at, hop.kind, hop.text)).collect();
    format!("{:?} as {}\n{}", branch.end, branch.packet, hops.join("\n"))
}

/// Sends an answer to every datagram that arrived, and compares where it goes.
fn answer(
    world: &World,
    walker: &mut Walker<'_>,
    places: &[usize],
    sound: &[(Probe, Branch, Seen)],
    (tally, describe): (&mut Tally, &dyn Fn(&Probe) -> String),
) {
    const ANSWERS: u32 = 0x4000_0000;
    let mut sent: Vec<(Probe, Vec<Branch>, (&Branch, u16))> = Vec::new();
    for (probe, branch, seen) in sound {
        if !matches!(probe.packet.transport, Transport::Udp { .. }) {
            continue;
        }
        let End::Delivered { namespace } = branch.end else {
            continue;
        };
        let member = places.iter().position(|place| *place == namespace).unwrap();
        // A raw socket gets a loopback source past a check that a real one does not pass.
        let loopback = branch.packet.destination.is_loopback() && !branch.packet.source.is_loopback();
        if branch.doubts.is_empty() && !loopback {
            // A random source port is only known to who has seen it.
            let (source_port, destination_port) = seen.identify().and_then(|(_, ports)| ports).unwrap();
            let answer = Transport::Udp { source_port: destination_port, destination_port: source_port };
            let mut packet = Packet::new(branch.packet.destination, branch.packet.source, answer);
            packet.tos = branch.packet.tos;
            packet.length = wire::length(&packet);
            let answers = walker.answers(branch);
            world.members[member].sockets.send(&wire::bytes(&packet, probe.id | ANSWERS), packet.destination, None);
            sent.push((Probe { id: probe.id | ANSWERS, from: member, packet }, answers, (branch, source_port)));
        }
    }
    let surely = |branches: &Vec<Branch>| branches.iter().all(|branch| matches!(branch.end, End::Delivered { .. }));
    let awaited: BTreeSet<u32> = sent.iter().filter(|(_, branches, _)| surely(branches)).map(|(probe, ..)| probe.id).collect();
    let observed = collect(world, &awaited);
    for (probe, branches, (asked, asked_from)) in &sent {
        if branches.iter().any(|branch| matches!(branch.end, End::Unknown(_))) {
            tally.unknown += 1;
            continue;
        }
        tally.replies += 1;
        let seen = observed.get(&probe.id);
        if !fits(places, branches, seen, Some(*asked_from)) {
            let ways: Vec<String> = branches.iter().map(|branch| way(walker.model(), branch)).collect();
            let asked = way(walker.model(), asked);
            tally.mismatches.push(format!("{} (an answer)\nobserved {seen:?}\nexpected {}\n to {asked}", describe(probe), ways.join("\n or ")));
        }
    }
}

/// The oracle can fail: with one deciding rule flipped in what the model is told, the same packets must disagree.
fn mutate(
    snapshot: &Snapshot,
    random: &mut Random,
    probes: &[Probe],
    (expected, observed, places): (&[Vec<Branch>], &Observed, &[usize]),
    tally: &mut Tally,
) {
    let model = Model::new(snapshot);
    let mut deciding: BTreeSet<(String, String, String, u64)> = BTreeSet::new();
    for branches in expected {
        let [branch] = branches.as_slice() else {
            continue;
        };
        if let End::Dropped(reason) = &branch.end
            && let hop = reason.as_hop()
            && let (Some(table), Some(chain), Some(handle)) = (&hop.table, &hop.chain, hop.handle)
        {
            deciding.insert((hop.at.clone(), table.clone(), chain.clone(), handle));
        }
    }
    let deciding: Vec<_> = deciding.into_iter().collect();
    if deciding.is_empty() {
        return;
    }
    let (at, table, chain, handle) = random.one(&deciding);
    let mut mutant = snapshot.clone();
    if !flip(&mut mutant, &model, (at, table, chain, *handle)) {
        return;
    }
    let changed = Model::new(&mutant);
    let mut walker = Walker::new(&changed);
    let mut differs = false;
    let mut noticed = false;
    for (probe, before) in probes.iter().zip(expected) {
        let after = branches(&mut walker, probe, places);
        let ends = |branches: &[Branch]| branches.iter().map(|branch| (branch.end.clone(), branch.packet)).collect::<Vec<_>>();
        let delivered = |branches: &[Branch]| branches.iter().any(|branch| matches!(branch.end, End::Delivered { .. }));
        differs |= ends(&after) != ends(before) && delivered(&after) != delivered(before);
        noticed |= !fits(places, &after, observed.get(&probe.id), None);
    }
    // Another rule may drop all the same packets: then nothing has changed, and there is nothing to notice.
    if differs {
        tally.mutants += 1;
        tally.killed += usize::from(noticed);
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "whatever else there is goes the same way")]
fn flip(snapshot: &mut Snapshot, model: &Model, (at, table, chain, handle): (&str, &str, &str, u64)) -> bool {
    let Some((index, _)) = model.namespaces().find(|(_, namespace)| namespace.label == at) else {
        return false;
    };
    let Some(namespace) = snapshot.namespaces.get_mut(index) else {
        return false;
    };
    for found in &mut namespace.tables {
        if !table.ends_with(&format!(" {}", found.name)) {
            continue;
        }
        for rule in found.chains.iter_mut().filter(|found| found.name == chain).flat_map(|chain| &mut chain.rules) {
            if rule.handle != handle {
                continue;
            }
            for expression in &mut rule.expressions {
                match expression {
                    Expression::Immediate { data: Data::Verdict(verdict @ Verdict::Drop), .. } => {
                        *verdict = Verdict::Accept;
                        return true;
                    }
                    Expression::Reject { .. } => {
                        *expression = Expression::Immediate { into: None, data: Data::Verdict(Verdict::Accept) };
                        return true;
                    }
                    _ => {}
                }
            }
        }
    }
    false
}
