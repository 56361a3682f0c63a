//! How long the analysis of all pairs takes on hosts of growing size, with rules as Docker 28 writes them.
//!
//! `NETCHECK_SCALE` is a list of `containers/networks`; the default is small. Only release builds say something about time:
//! `NETCHECK_SCALE=200/20,1000/100 cargo test --release -p netcheck --test scale -- --nocapture`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "scale/host.rs"]
mod host;

use std::time::Instant;

use netcheck::analyse::{Attacker, analyse};
use netcheck::model::Model;
use netcheck::packet::Protocol;

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
            "{containers} containers, {networks} networks, {count} rules: model {built:?}, analysis {:?}, all {pairs} pairs {:?}, {open} open",
            analysed - built,
            start.elapsed() - analysed,
        );
        let pair = |from: usize, to: usize| reachability.pair(&format!("c{from}"), &format!("c{to}")).unwrap().open_ports(Protocol::Tcp);
        assert_eq!(pair(0, networks).count(), 65535, "one network is open");
        assert_eq!(pair(0, 1).count(), 0, "networks are apart");
        assert_eq!(pair(1, 0).count(), 0);
        assert_eq!(pair(networks, 0).count(), 65535);
    }
}
