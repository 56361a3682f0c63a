//! Whatever the kernel, or somebody who plays it, sends: decoders give a value or an error, never a panic.

use netcheck::decode::message::{Message, Request};
use netcheck::decode::{expression, ipset, link, route, socket, table};
use netcheck::kernel::enter::Handle;
use netcheck::kernel::netlink::{Connection, dump_request};
use netcheck::snapshot::{Family, Snapshot};
use rustix::net::netlink::NETFILTER;

/// Numbers that look random and are the same each time (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }
}

fn decode_everything(payload: &[u8]) {
    let _ = link::link(payload, &|_| None);
    let _ = link::address(payload);
    let _ = link::neighbour(payload);
    let _ = link::netconf(payload);
    let _ = link::nsid(payload);
    let _ = link::port_vlans(payload);
    let _ = link::traffic_control(payload);
    let _ = route::route(payload);
    let _ = route::rule(payload);
    let _ = socket::socket(payload, 6);
    let _ = table::generation(payload);
    let _ = table::table(payload);
    let _ = table::chain(payload);
    let _ = table::rule(payload);
    let _ = table::set(payload);
    let _ = table::elements(payload);
    let _ = table::object(payload);
    let _ = table::flowtable(payload);
    let _ = ipset::ipset(payload);
    let _ = ipset::index(payload);
    let _ = expression::list(payload, Family::Ip);
    let _ = expression::expression(payload, Family::Ip6);
    let _ = expression::data(payload);
    let _ = Message::parse(payload);
}

#[test]
fn noise_is_a_value_or_an_error() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for round in 0..20_000_u32 {
        let length = usize::try_from(numbers.next() % 300).unwrap();
        let mut payload: Vec<u8> = (0..length).map(|_| numbers.byte()).collect();
        if round % 2 == 0 {
            // Lengths that are plausible get further.
            for header in payload.chunks_mut(12) {
                if header.len() > 3 {
                    (header[0], header[1], header[3]) = (header.len().to_le_bytes()[0], 0, 0);
                }
            }
        }
        decode_everything(&payload);
    }
}

#[test]
fn nested_messages_with_one_wrong_byte_are_a_value_or_an_error() {
    let names = [
        "bitwise",
        "byteorder",
        "cmp",
        "ct",
        "dynset",
        "exthdr",
        "fib",
        "immediate",
        "limit",
        "lookup",
        "match",
        "meta",
        "nat",
        "objref",
        "payload",
        "range",
        "reject",
        "target",
        "tproxy",
        "unheard of",
    ];
    let mut numbers = Numbers(42);
    for name in names {
        let inner = Request::new(0, 0, &[]);
        let inner = (1..9_u16).fold(inner, |request, kind| request.attribute(kind, &[0, 0, 0, u8::try_from(kind).unwrap()])).finish(0);
        let one = Request::new(0, 0, &[]).string(1, name).attribute(2, &inner[16..]).finish(0);
        let list = Request::new(0, 0, &[]).attribute(1, &one[16..]).finish(0);
        let rule = Request::new(0, 0, &[2, 0, 0, 0]).string(1, "t").string(2, "c").attribute(4, &list[16..]).finish(0);
        assert!(table::rule(&rule[16..]).is_ok(), "{name}");
        for place in 16..rule.len() {
            let mut wrong = rule.clone();
            wrong[place] = numbers.byte();
            decode_everything(&wrong[16..]);
            decode_everything(&rule[16..place]);
        }
    }
}

#[test]
fn malformed_snapshots_are_errors() {
    let cases: [&[u8]; 7] = [b"", b"{", b"[]", b"{\"version\":1}", b"{\"version\":\"1\"}", b"{\"version\":1,\"this_host\":-1}", &[0xff, 0xfe]];
    for json in cases {
        assert!(Snapshot::from_json(json).is_err(), "{}", String::from_utf8_lossy(json));
    }
    let missing = br#"{"version":1,"taken":"","host":"","kernel":"","little_endian":true,"this_host":7,"namespaces":[]}"#;
    assert!(Snapshot::from_json(missing).is_err());
}

/// What a kernel says of an ipset that was made with a netmask, and of one that was not.
#[test]
fn an_ipset_with_a_netmask_is_told_from_one_without() {
    const CREATE: u16 = 6 << 8 | 2;
    const LIST: u16 = 6 << 8 | 7;
    const NESTED: u16 = 0x8000;
    // `IPSET_ATTR_NETMASK`: 24 bits, as an attribute of one byte.
    let netmask: &[u8] = &[5, 0, 20, 0, 24, 0, 0, 0];
    let sets = Handle::create().unwrap().inside(|| {
        let mut connection = Connection::open(Some(NETFILTER), "netfilter socket").unwrap();
        for (name, created) in [("masked", netmask), ("plain", &[])] {
            let request = Request::new(CREATE, 0, &[2, 0, 0, 0]).attribute(1, &[7]).string(2, name).string(3, "hash:ip");
            let request = request.attribute(4, &[0]).attribute(5, &[2]).attribute(7 | NESTED, created);
            connection.order("an ipset", &request).unwrap();
        }
        let request = dump_request(LIST, &[2, 0, 0, 0]).attribute(1, &[7]);
        connection.dump("ipsets", &request, |message| ipset::ipset(message.payload).map(Some)).unwrap()
    });
    let mut masked: Vec<(String, bool)> = sets.unwrap().into_iter().map(|set| (set.name, set.masked)).collect();
    masked.sort();
    assert_eq!(masked, [("masked".to_owned(), true), ("plain".to_owned(), false)]);
}
