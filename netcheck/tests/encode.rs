//! What is written is read again: `decode(encode(x)) == x`, for everything in five captures.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use netcheck::decode::{link, route, table};
use netcheck::encode;
use netcheck::snapshot::{Chain, Expression, NfRule, Set, SetFlags, Snapshot};

const ENGINES: [&str; 5] = ["20.10.24", "26.1.5", "28.5.2", "29.7.2-iptables", "29.7.2-nftables"];

fn snapshots() -> impl Iterator<Item = Snapshot> {
    ENGINES.into_iter().map(|engine| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(engine).join("snapshot.json");
        Snapshot::from_json(&std::fs::read(path).unwrap()).unwrap()
    })
}

#[test]
fn rules_sets_and_chains_are_read_as_they_were_written() {
    let (mut rules, mut elements) = (0, 0);
    for snapshot in snapshots() {
        for one in snapshot.namespaces.iter().flat_map(|namespace| &namespace.tables) {
            let read = table::table(encode::table::table(one).payload()).unwrap();
            assert_eq!((read.family, &read.name, read.dormant), (one.family, &one.name, one.dormant));
            for chain in &one.chains {
                let read = table::chain(encode::table::chain(one, chain).unwrap().payload()).unwrap();
                assert_eq!(read.value, Chain { handle: 0, rules: Vec::new(), ..chain.clone() });
                for rule in &chain.rules {
                    rules += 1;
                    let written = encode::table::rule(one, chain, rule).unwrap();
                    let (name, read) = table::rule(written.request.payload()).unwrap().value;
                    let counts = |expression: &&Expression| !matches!(expression, Expression::Counter);
                    let expressions = rule.expressions.iter().filter(counts).cloned().collect();
                    assert_eq!((name, read), (chain.name.clone(), NfRule { handle: 0, expressions, comment: None }), "{written:?}");
                }
            }
            for set in &one.sets {
                let read = table::set(encode::table::set(one, set, 1).payload()).unwrap().value;
                let flags = SetFlags { anonymous: false, ..set.flags };
                assert_eq!(Set { key_type: set.key_type, ..read }, Set { handle: 0, elements: Vec::new(), flags, ..set.clone() });
                let written = encode::table::elements(one, set);
                let raw = written.iter().flat_map(|request| table::elements(request.payload()).unwrap().value.1).collect();
                let mut read = table::join_intervals(raw, set.flags);
                let mut wanted = set.elements.clone();
                wanted.iter_mut().for_each(|element| element.expressions.clear());
                elements += wanted.len();
                for list in [&mut read, &mut wanted] {
                    list.sort_by(|a, b| a.from.cmp(&b.from));
                }
                assert_eq!(read, wanted);
            }
        }
    }
    assert!(rules > 300 && elements > 10, "{rules} rules and {elements} elements prove nothing");
}

#[test]
fn routes_rules_addresses_and_neighbours_are_read_as_they_were_written() {
    let mut count = 0;
    for namespace in snapshots().flat_map(|snapshot| snapshot.namespaces) {
        for one in &namespace.routes {
            assert_eq!(route::route(encode::route::route(one).unwrap().payload()).unwrap().as_ref(), Some(one));
            count += 1;
        }
        for one in &namespace.rules {
            assert_eq!(&route::rule(encode::route::rule(one).unwrap().payload()).unwrap(), one);
        }
        for one in &namespace.addresses {
            assert_eq!(&link::address(encode::link::address(one).payload()).unwrap(), one);
        }
        for one in &namespace.neighbours {
            assert_eq!(link::neighbour(encode::link::neighbour(one).payload()).unwrap(), link::DecodedNeighbour::Neighbour(one.clone()));
        }
    }
    assert!(count > 300, "{count} routes prove nothing");
}
