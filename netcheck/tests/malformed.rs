//! What is not a snapshot, or not what the kernel's headers say, is an error or something opaque, and never a panic.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::wildcard_enum_match_arm, reason = "a test fails by panicking")]

use std::path::Path;

use netcheck::analyse::{Attacker, Question, explain};
use netcheck::decode::{link, message::Message, route, socket, table};
use netcheck::encode;
use netcheck::model::Model;
use netcheck::packet::Protocol;
use netcheck::snapshot::Snapshot;

/// Documents and messages of each kind; twenty thousand in all.
const CASES: usize = 10_000;

/// xorshift64*: the same cases every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }
}

fn capture(engine: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(engine).join("snapshot.json")).unwrap()
}

/// A small document with something of every kind: two containers, their bridge, and every tenth rule.
fn small() -> serde_json::Value {
    let mut document: serde_json::Value = serde_json::from_slice(&capture("28.5.2")).unwrap();
    document["namespaces"].as_array_mut().unwrap().truncate(2);
    document["engine"]["containers"].as_array_mut().unwrap().truncate(1);
    for list in ["links", "routes", "neighbours", "fdb", "addresses", "sockets"] {
        // A list that is empty is not written.
        document["namespaces"][0].get_mut(list).into_iter().for_each(|list| thin(list, 12));
    }
    for table in document["namespaces"][0]["tables"].as_array_mut().unwrap() {
        thin(&mut table["chains"], 3);
        for chain in table["chains"].as_array_mut().unwrap() {
            chain.get_mut("rules").into_iter().for_each(|rules| thin(rules, 12));
        }
    }
    Snapshot::from_json(&serde_json::to_vec(&document).unwrap()).unwrap();
    document
}

fn thin(list: &mut serde_json::Value, every: usize) {
    if let Some(list) = list.as_array_mut() {
        *list = list.iter().step_by(every).cloned().collect();
    }
}

/// Changes one value somewhere: another number, text, kind or list, or nothing there at all.
fn change(value: &mut serde_json::Value, random: &mut Random) {
    let inner = match value {
        serde_json::Value::Array(list) if !list.is_empty() => {
            let place = random.below(list.len());
            if random.below(12) == 0 {
                let copy = list[random.below(list.len())].clone();
                list.push(copy);
                return;
            }
            list.get_mut(place)
        }
        serde_json::Value::Object(map) if !map.is_empty() => {
            let key = map.keys().nth(random.below(map.len())).unwrap().clone();
            if random.below(20) == 0 {
                map.remove(&key);
                return;
            }
            map.get_mut(&key)
        }
        _ => None,
    };
    if let Some(inner) = inner.filter(|_| random.below(60) != 0) {
        return change(inner, random);
    }
    // Mostly a value of the same kind, so that what is said is wrong and not how.
    if random.below(5) != 0 {
        let numbers = [0_u64, 1, 2, 3, 32, 33, 128, 254, 255, 256, 65_535, 65_536, u64::from(u32::MAX), u64::MAX];
        let texts = ["", "lo", "eth0", "br-na", "ffff", "00", "0.0.0.0/0", "::/0", "10.1.1.2", "fd00::1", "02:42:ac:11:00:02", "drop", "ip6"];
        match value {
            serde_json::Value::Bool(switch) => return *switch = !*switch,
            serde_json::Value::Number(_) => return *value = numbers[random.below(numbers.len())].into(),
            serde_json::Value::String(text) => return texts[random.below(texts.len())].clone_into(text),
            _ => {}
        }
    }
    let others = ["null", "true", "-1", "0", "1", "255", "4294967295", "18446744073709551615", "1e99", "\"\"", "\"ffff\"", "\"::/0\"", "[]", "{}"];
    *value = serde_json::from_str(others[random.below(others.len())]).unwrap();
}

#[test]
fn snapshots_that_were_changed_are_errors_or_are_analysed() {
    let mut random = Random(7);
    let document = small();
    let (mut refused, mut analysed) = (0, 0);
    for case in 0..CASES {
        let mut changed = document.clone();
        for _ in 0..=random.below(3) {
            change(&mut changed, &mut random);
        }
        let mut json = serde_json::to_vec(&changed).unwrap();
        if case % 10 == 0 {
            // Not even JSON any more, mostly.
            let place = random.below(json.len());
            json[place] = random.byte();
        }
        let Ok(snapshot) = Snapshot::from_json(&json) else {
            refused += 1;
            continue;
        };
        analysed += 1;
        let model = Model::new(&snapshot);
        let names: Vec<&str> = model.endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
        let (from, to) = (names[random.below(names.len())], names[random.below(names.len())]);
        let question = Question { from: from.to_owned(), to: to.to_owned(), protocol: Protocol::Tcp, port: Some(80), attacker: Attacker::Process };
        // Whatever it answers, it answers.
        if case % 50 == 0 {
            let _ = explain(&model, &question);
        }
        write(&snapshot);
    }
    assert!(refused > CASES / 10 && analysed > CASES / 10, "{refused} refused and {analysed} analysed prove nothing");
}

/// Writing the kernel's messages for it does not panic either.
fn write(snapshot: &Snapshot) {
    for namespace in &snapshot.namespaces {
        for table in &namespace.tables {
            for chain in &table.chains {
                let _ = encode::table::chain(table, chain);
                chain.rules.iter().for_each(|rule| drop(encode::table::rule(table, chain, rule)));
            }
            table.sets.iter().for_each(|set| drop(encode::table::elements(table, set)));
        }
        namespace.routes.iter().for_each(|route| drop(encode::route::route(route)));
        namespace.rules.iter().for_each(|rule| drop(encode::route::rule(rule)));
    }
}

/// Messages of every kind that a capture is made of.
fn messages() -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    for engine in ["28.5.2", "29.7.2-nftables"] {
        let snapshot = Snapshot::from_json(&capture(engine)).unwrap();
        for namespace in &snapshot.namespaces {
            messages.extend(namespace.routes.iter().map(|route| encode::route::route(route).unwrap().finish(1)));
            messages.extend(namespace.rules.iter().map(|rule| encode::route::rule(rule).unwrap().finish(1)));
            messages.extend(namespace.addresses.iter().map(|address| encode::link::address(address).finish(1)));
            messages.extend(namespace.neighbours.iter().map(|neighbour| encode::link::neighbour(neighbour).finish(1)));
            messages.extend(namespace.links.iter().map(|link| encode::link::veth(link.into(), link.into(), 3).finish(1)));
            for table in &namespace.tables {
                messages.push(encode::table::table(table).finish(1));
                for chain in &table.chains {
                    messages.push(encode::table::chain(table, chain).unwrap().finish(1));
                    messages.extend(chain.rules.iter().map(|rule| encode::table::rule(table, chain, rule).unwrap().request.finish(1)));
                }
                messages.extend(table.sets.iter().map(|set| encode::table::set(table, set, 1).finish(1)));
                messages.extend(table.sets.iter().flat_map(|set| encode::table::elements(table, set)).map(|request| request.finish(1)));
            }
        }
    }
    messages
}

/// How many of the decoders take it.
fn decode(payload: &[u8]) -> usize {
    let elements = table::elements(payload).map(|elements| {
        let flags = netcheck::snapshot::SetFlags { interval: true, ..Default::default() };
        table::join_intervals(elements.value.1, flags)
    });
    let taken = [
        elements.is_ok(),
        link::link(payload, &|_| None).is_ok(),
        link::address(payload).is_ok(),
        link::neighbour(payload).is_ok(),
        link::netconf(payload).is_ok(),
        link::port_vlans(payload).is_ok(),
        link::nsid(payload).is_ok(),
        link::traffic_control(payload).is_ok(),
        route::route(payload).is_ok(),
        route::rule(payload).is_ok(),
        socket::socket(payload, 6).is_ok(),
        table::table(payload).is_ok(),
        table::chain(payload).is_ok(),
        table::rule(payload).is_ok(),
        table::set(payload).is_ok(),
        table::object(payload).is_ok(),
        table::flowtable(payload).is_ok(),
        table::generation(payload).is_ok(),
    ];
    taken.into_iter().filter(|taken| *taken).count()
}

#[test]
fn netlink_messages_that_were_changed_are_errors_or_are_read() {
    let mut random = Random(11);
    let messages = messages();
    let (mut refused, mut read) = (0, 0);
    for _ in 0..CASES {
        let mut bytes = messages[random.below(messages.len())].clone();
        for _ in 0..=random.below(4) {
            let place = random.below(bytes.len());
            match random.below(4) {
                0 => bytes.truncate(place),
                1 => bytes[place..].rotate_left(1),
                _ => bytes[place] = random.byte(),
            }
            if bytes.is_empty() {
                break;
            }
        }
        // The envelope is checked by itself; what is in it is given to every decoder whatever it says.
        let whole = Message::parse(&bytes).map(|messages| messages.into_iter().all(|message| message.step().is_ok()));
        let taken = decode(bytes.get(16..).unwrap_or_default());
        if whole.is_err() || taken == 0 {
            refused += 1;
        } else {
            read += 1;
        }
    }
    assert!(refused > CASES / 10 && read > CASES / 10, "{refused} refused and {read} read prove nothing");
}
