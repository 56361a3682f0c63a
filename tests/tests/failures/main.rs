//! Known failures of Docker's network isolation, as one table: each is set up on a private engine, must be reported by `netcheck` as
//! what it is, and the packet that netcheck shows must really arrive. Before the fault the same flow must not be there.

#![expect(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a test fails where something does not hold, and says what it did"
)]

#[expect(clippy::too_many_lines, reason = "a table is one thing")]
mod catalogue;
mod host;
mod probe;
mod stock;

use anyhow::{Context, Result, bail, ensure};
use catalogue::{Covered, Live, On, Reported, catalogue};
use host::{Container, Host, Network};
use netcheck::analyse::{Answer, Attacker, Explanation, Question, explain};
use netcheck::model::Model;
use netcheck::packet::Protocol;
use netcheck::snapshot::Snapshot;
use serde_json::Value;
use stock::Leaks;
use tests::packages::Suite;
use tests::scratch::root;

const NETWORKS: [Network; 6] = [
    ("na", "--subnet 10.91.1.0/24"),
    ("nb", "--subnet 10.91.2.0/24"),
    ("ni", "--subnet 10.91.3.0/24 --internal"),
    ("nn", "--subnet 10.91.4.0/24 --opt com.docker.network.bridge.enable_icc=false"),
    ("n6", "--subnet 10.91.5.0/24 --ipv6 --subnet fd00:91:5::/64"),
    ("t6", "--subnet 10.91.6.0/24 --ipv6 --subnet fd00:91:6::/64"),
];

const CONTAINERS: [Container; 10] = [
    ("a1", "--network na --ip 10.91.1.2"),
    ("a2", "--network na --ip 10.91.1.3 --publish 8080:80"),
    ("ab", "--network na --ip 10.91.1.4 --sysctl net.ipv4.ip_forward=0"),
    ("b1", "--network nb --ip 10.91.2.2 --publish 127.0.0.1:8081:80"),
    ("i1", "--network ni --ip 10.91.3.2"),
    ("i2", "--network ni --ip 10.91.3.3"),
    ("n1", "--network nn --ip 10.91.4.2"),
    ("n2", "--network nn --ip 10.91.4.3"),
    ("s1", "--network n6"),
    ("t1", "--network t6"),
];

#[test]
fn docker_26_1_is_told_what_it_leaks_and_what_fails() {
    // forwarding is off until the engine turns it on: then it also makes FORWARD drop
    let host = Host::new(Suite::Trixie, &["net.ipv4.ip_forward=0"], &[], &NETWORKS, &CONTAINERS);
    // IPv6 is not isolated up to 26, a port on 127.0.0.1 is open to a neighbour who sends to the container itself, and `icc=false` does not see frames
    // with a priority tag
    let leaks: [Leaks; 3] = [
        ("process", "docker-default", &["cross-network", "outside-in"]),
        ("process", "strict", &["cross-network", "egress", "from-host", "host-exposure", "metadata", "outside-in"]),
        ("net-raw", "docker-default", &["cross-network", "icc", "internal-egress", "internal-ingress", "outside-in"]),
    ];
    stock::leaks_only(&host, &leaks).unwrap();
    every_row(On::Docker26, &host);
}

#[test]
fn docker_20_10_is_told_what_it_leaks_and_what_fails() {
    let sysctls = ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"];
    let host = Host::new(Suite::Bookworm, &sysctls, &[], &NETWORKS, &CONTAINERS);
    stock::leaks_only(&host, &[("process", "docker-default", &["cross-network", "outside-in"])]).unwrap();
    every_row(On::Docker20, &host);
}

/// As most have it: nobody forwards before the engine comes, no network has IPv6, and no port is published on 127.0.0.1.
#[test]
fn plain_hosts_are_told_nothing() {
    let containers: Vec<Container> =
        CONTAINERS[..8].iter().map(|(name, arguments)| (*name, arguments.split(" --publish 127").next().unwrap())).collect();
    for suite in [Suite::Bookworm, Suite::Trixie] {
        let host = Host::new(suite, &["net.ipv4.ip_forward=0"], &[], &NETWORKS[..4], &containers);
        stock::leaks_only(&host, &[("process", "docker-default", &[])]).unwrap();
    }
}

#[test]
fn an_engine_without_rules_is_told_that_networks_are_not_isolated() {
    let host = Host::new(Suite::Trixie, &["net.ipv4.ip_forward=1"], &["--iptables=false"], &NETWORKS[..2], &CONTAINERS[..4]);
    stock::leaks_only(&host, &[("process", "docker-default", &["cross-network", "outside-in"])]).unwrap();
    every_row(On::WithoutRules, &host);
}

#[test]
fn the_table_has_every_failure_and_says_where_it_is_shown() {
    let table = catalogue();
    let numbers: Vec<usize> = table.iter().map(|failure| failure.id[1..].parse().unwrap()).collect();
    assert_eq!(numbers, (1..=57).collect::<Vec<_>>());
    let captures = std::fs::read_to_string(root().join("netcheck/tests/failures.rs")).unwrap();
    for failure in &table {
        match failure.covered {
            Covered::Captured(test) => assert!(captures.contains(&format!("\nfn {test}()")), "{}: there is no {test}", failure.id),
            Covered::Not(why) => assert!(!why.is_empty(), "{}", failure.id),
            Covered::Live(_) => {}
        }
    }
    let count = |is: fn(&Covered) -> bool| table.iter().filter(|failure| is(&failure.covered)).count();
    let unknown = |covered: &Covered| matches!(covered, Covered::Live(Live { reported: Reported::Unknown(_), .. }));
    let live = count(|covered| matches!(covered, Covered::Live(_)));
    let captured = count(|covered| matches!(covered, Covered::Captured(_)));
    let not = count(|covered| matches!(covered, Covered::Not(_)));
    eprintln!("{live} on engines, {} of them with a packet; {captured} on captures; {not} not covered", live - count(unknown));
    assert!(live >= 40 && not <= 12, "{live} on engines, {not} not covered");
}

fn every_row(on: On, host: &Host) {
    let mut failed = Vec::new();
    let mut rows = 0;
    for failure in catalogue() {
        let Covered::Live(row) = &failure.covered else { continue };
        if row.on != on {
            continue;
        }
        rows += 1;
        let done = shown(host, row);
        let undone = host.undo(row.undo);
        failed.extend([done, undone].into_iter().filter_map(Result::err).map(|error| format!("{} {}: {error:#}", failure.id, failure.what)));
    }
    assert!(failed.is_empty(), "{} of {rows} rows:\n{}", failed.len(), failed.join("\n"));
    assert!(rows > 0, "no row is for {on:?}");
}

/// Sets a row up, and looks at what netcheck says and at what packets do.
fn shown(host: &Host, row: &Live) -> Result<()> {
    let flow = host.expanded(row.flow)?;
    host.all(row.given)?;
    if !row.fault.is_empty() {
        let (_, before) = host.look()?;
        if before.engine.is_some() && knows(&before, &flow) {
            let answer = ask(&Model::new(&before), &flow)?;
            ensure!(answer.answer == Answer::Closed, "it is {:?} before the fault: {:?}", answer.answer, answer.unknown_because);
        }
    }
    host.all(row.fault)?;
    let (file, after) = host.look()?;
    let report = host.check(&file, row.policy, flow.rsplit_once(' ').context("no attacker")?.1)?;
    let model = Model::new(&after);
    let answer = ask(&model, &flow)?;
    match row.reported {
        Reported::Open(kind) => {
            reported(&report, &flow, "open", kind)?;
            ensure!(answer.answer == Answer::Open, "{:?}", answer.answer);
            probe::arrives(host, &model, &answer)
        }
        Reported::Unknown(kind) => reported(&report, &flow, "unknown", kind),
    }
}

/// Whether both ends are there yet.
fn knows(snapshot: &Snapshot, flow: &str) -> bool {
    let model = Model::new(snapshot);
    let words: Vec<&str> = flow.split(' ').collect();
    [words[0], words[2]].iter().all(|name| model.endpoint(name).is_some())
}

fn ask(model: &Model, flow: &str) -> Result<Explanation> {
    let [from, ">", to, service, attacker] = flow.split(' ').collect::<Vec<_>>()[..] else {
        bail!("`{flow}` is not a flow");
    };
    let (protocol, port) = service.split_once('/').map_or((service, None), |(protocol, port)| (protocol, Some(port)));
    let question = Question {
        from: from.to_owned(),
        to: to.to_owned(),
        protocol: Protocol::named(protocol).context("no such protocol")?,
        port: port.map(str::parse).transpose()?,
        attacker: Attacker::named(attacker).context("no such attacker")?,
    };
    Ok(explain(model, &question)?)
}

/// The violation of this kind has the flow in it.
fn reported(report: &Value, flow: &str, state: &str, kind: &str) -> Result<()> {
    let words: Vec<&str> = flow.split(' ').collect();
    let (from, to) = (words[0], words[2]);
    let (protocol, port) = words[3].split_once('/').context("no port")?;
    let port: u16 = port.parse()?;
    let between: Vec<&Value> =
        report["violations"].as_array().into_iter().flatten().filter(|violation| violation["from"] == from && violation["to"] == to).collect();
    let right = between.iter().find(|violation| violation["state"] == state && violation["kind"] == kind);
    let right = right.with_context(|| {
        let others: Vec<String> = between.iter().map(|other| format!("{} {} {}", other["state"], other["kind"], other["flows"])).collect();
        format!("no {state} {kind} from {from} to {to} is reported, but {others:?}; gaps {}", report["gaps"])
    })?;
    let has = |ranges: &Value| ranges.as_array().into_iter().flatten().filter_map(Value::as_str).any(|range| within(range, port));
    let found = right["flows"].as_array().into_iter().flatten().any(|one| one["protocol"] == protocol && has(&one["ports"]));
    ensure!(found, "{} is not in {}", words[3], right["flows"]);
    ensure!(state != "open" || right["witness"].is_string(), "a violation without a witness");
    Ok(())
}

fn within(range: &str, port: u16) -> bool {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    first.parse().is_ok_and(|first: u16| first <= port) && last.parse().is_ok_and(|last: u16| port <= last)
}
