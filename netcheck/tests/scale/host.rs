//! A host with containers on networks, and rules as Docker 28 writes them.

use std::net::IpAddr;

use netcheck::snapshot::{
    Address, BaseChain, Bridge, BridgePort, Bytes, Chain, ChainKind, CmpOperation, Container, CtMatch, Data, Engine, Expression, Family, Fdb, Hook,
    Ipv4Conf, Link, LinkKind, Mac, Match, MetaKey, Namespace, NamespaceId, NatRange, NextHop, NfRule, PayloadBase, Peer, Policy, PolicyRule,
    PortRange, Register, Route, RouteKind, RuleAction, Snapshot, Table, Target, Verdict,
};

const HOST: u64 = 1;
const R: Register = Register(0);

pub(super) fn address(network: usize, last: usize) -> IpAddr {
    IpAddr::from([10, u8::try_from(1 + network / 200).unwrap(), u8::try_from(network % 200).unwrap(), u8::try_from(last).unwrap()])
}

pub(super) fn mac(kind: u8, number: usize) -> Mac {
    let [.., a, b, c] = number.to_be_bytes();
    Mac([2, kind, 0, a, b, c])
}

pub(super) fn link(index: u32, name: &str, kind: LinkKind, mac: Mac) -> Link {
    Link {
        index,
        name: name.to_owned(),
        kind,
        mac: Some(mac),
        mtu: 1500,
        up: true,
        running: true,
        noarp: false,
        master: None,
        peer: None,
        port: None,
        ipv4: Some(Ipv4Conf { forwarding: true, send_redirects: true, ..Ipv4Conf::default() }),
        ipv6: None,
        group: 0,
    }
}

/// That a bridge takes what is sent to the address of a port, or to its own.
pub(super) const fn own(link: u32, bridge: u32, mac: Mac) -> Fdb {
    Fdb { link, bridge: Some(bridge), mac, vlan: None, permanent: true, fixed: false, remote: None }
}

fn route(table: u32, destination: &str, kind: RouteKind, oif: u32, gateway: Option<IpAddr>) -> Route {
    Route {
        table,
        destination: destination.parse().unwrap(),
        source: None,
        kind,
        tos: 0,
        metric: 0,
        protocol: 2,
        scope: 0,
        preferred_source: None,
        next_hops: vec![NextHop { oif: Some(oif), gateway, dead: false, onlink: false, encapsulated: false }],
    }
}

pub(super) fn addressed(namespace: &mut Namespace, link: u32, own: IpAddr, length: u8) {
    let net = format!("{own}/{length}").parse().unwrap();
    namespace.addresses.push(Address { link, address: net, peer: None, broadcast: None, scope: 0, secondary: false, unusable: false });
    namespace.routes.push(route(255, &format!("{own}/32"), RouteKind::Local, link, None));
    namespace.routes.push(route(254, &ipnet::IpNet::trunc(&net).to_string(), RouteKind::Unicast, link, None));
}

fn default_rules() -> Vec<PolicyRule> {
    let rule = |priority: u32, table: u32| PolicyRule {
        family: Family::Ip,
        priority,
        action: RuleAction::Table(table),
        invert: false,
        source: None,
        destination: None,
        iif: None,
        oif: None,
        fwmark: 0,
        fwmask: 0,
        tos: 0,
        ip_protocol: 0,
        source_ports: None,
        destination_ports: None,
        users: None,
        suppress_prefix_length: None,
        suppress_group: None,
        l3mdev: false,
        unknown: Vec::new(),
    };
    vec![rule(0, 255), rule(32766, 254), rule(32767, 253)]
}

pub(super) fn cmp(operation: CmpOperation, value: &[u8]) -> Expression {
    Expression::Cmp { source: R, operation, value: Bytes(value.to_vec()) }
}

pub(super) fn on(key: MetaKey, name: &str, is: bool) -> Vec<Expression> {
    let mut padded = name.as_bytes().to_vec();
    padded.resize(16, 0);
    vec![Expression::Meta { key, into: R }, cmp(if is { CmpOperation::Eq } else { CmpOperation::Neq }, &padded)]
}

pub(super) fn destination(address: IpAddr) -> Vec<Expression> {
    let IpAddr::V4(v4) = address else { panic!() };
    vec![Expression::Payload { into: R, base: PayloadBase::Network, offset: 16, len: 4 }, cmp(CmpOperation::Eq, &v4.octets())]
}

pub(super) fn tcp(port: u16) -> Vec<Expression> {
    vec![
        Expression::Payload { into: R, base: PayloadBase::Network, offset: 9, len: 1 },
        cmp(CmpOperation::Eq, &[6]),
        Expression::Payload { into: R, base: PayloadBase::Transport, offset: 2, len: 2 },
        cmp(CmpOperation::Eq, &port.to_be_bytes()),
    ]
}

pub(super) fn say(verdict: Verdict) -> Vec<Expression> {
    vec![Expression::Counter, Expression::Immediate { into: None, data: Data::Verdict(verdict) }]
}

pub(super) fn rule(parts: impl IntoIterator<Item = Vec<Expression>>) -> NfRule {
    NfRule { handle: 1, expressions: parts.into_iter().flatten().collect(), comment: None }
}

pub(super) fn chain(name: &str, base: Option<(ChainKind, Hook, i32)>, rules: Vec<NfRule>) -> Chain {
    let base = base.map(|(kind, hook, priority)| BaseChain { kind, hook, priority, policy: Policy::Accept, devices: Vec::new() });
    Chain { name: name.to_owned(), handle: 1, base, rules }
}

pub(super) fn table(name: &str, chains: Vec<Chain>) -> Table {
    Table {
        family: Family::Ip,
        name: name.to_owned(),
        handle: 1,
        dormant: false,
        chains,
        sets: Vec::new(),
        objects: Vec::new(),
        flowtables: Vec::new(),
    }
}

fn jump(name: &str) -> Verdict {
    Verdict::Jump(name.to_owned())
}

/// Rules as Docker 28 writes them, with a published port for every fifth container.
#[expect(clippy::too_many_lines, reason = "one arm a kind")]
fn rules(containers: usize, networks: usize) -> Vec<Table> {
    let bridge = |network: usize| format!("br-{network}");
    let own = |index: usize| (index % networks, address(index % networks, 2 + index / networks));
    let (mut raw, mut published, mut dnat) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..containers {
        let (network, own) = own(index);
        raw.push(rule([destination(own), on(MetaKey::IifName, &bridge(network), false), say(Verdict::Drop)]));
        for extra in 0..4_u16 {
            let port = 80 + extra;
            let accept = [
                destination(own),
                on(MetaKey::IifName, &bridge(network), false),
                on(MetaKey::OifName, &bridge(network), true),
                tcp(port),
                say(Verdict::Accept),
            ];
            published.push(rule(accept));
            let from = 10_000 + u16::try_from(index).unwrap() * 4 + extra;
            let to = NatRange { flags: 3, addresses: Some((own, own)), ports: Some(PortRange { first: port, last: port }) };
            dnat.push(rule([on(MetaKey::IifName, &bridge(network), false), tcp(from), vec![Expression::Target(Target::Dnat(to))]]));
        }
    }
    let established = |network: usize| {
        let state = CtMatch { state: Some((6, false)), ..CtMatch::default() };
        rule([on(MetaKey::OifName, &bridge(network), true), vec![Expression::Match(Match::Conntrack(Box::new(state)))], say(Verdict::Accept)])
    };
    let each = |make: &dyn Fn(usize) -> NfRule| (0..networks).map(make).collect::<Vec<_>>();
    published.extend(each(&|network| {
        rule([on(MetaKey::IifName, &bridge(network), false), on(MetaKey::OifName, &bridge(network), true), say(Verdict::Drop)])
    }));
    let local = Match::Addrtype {
        source: None,
        destination: Some(netcheck::snapshot::AddressType { types: 4, invert: false }),
        limit_iif: false,
        limit_oif: false,
    };
    vec![
        table("raw", vec![chain("PREROUTING", Some((ChainKind::Filter, Hook::Prerouting, -300)), raw)]),
        table(
            "filter",
            vec![
                chain(
                    "FORWARD",
                    Some((ChainKind::Filter, Hook::Forward, 0)),
                    vec![rule([say(jump("CT"))]), rule([say(jump("STAGE-1"))]), rule([say(jump("BRIDGE"))]), rule([say(jump("OUT"))])],
                ),
                chain("CT", None, each(&established)),
                chain(
                    "STAGE-1",
                    None,
                    each(&|network| {
                        rule([on(MetaKey::IifName, &bridge(network), true), on(MetaKey::OifName, &bridge(network), false), say(jump("STAGE-2"))])
                    }),
                ),
                chain("STAGE-2", None, each(&|network| rule([on(MetaKey::OifName, &bridge(network), true), say(Verdict::Drop)]))),
                chain("BRIDGE", None, each(&|network| rule([on(MetaKey::OifName, &bridge(network), true), say(jump("DOCKER"))]))),
                chain("DOCKER", None, published),
                chain("OUT", None, each(&|network| rule([on(MetaKey::IifName, &bridge(network), true), say(Verdict::Accept)]))),
            ],
        ),
        table(
            "nat",
            vec![
                chain(
                    "PREROUTING",
                    Some((ChainKind::Nat, Hook::Prerouting, -100)),
                    vec![rule([vec![Expression::Match(local)], say(jump("DOCKER"))])],
                ),
                chain("DOCKER", None, dnat),
            ],
        ),
    ]
}

/// The host, with so many containers in turn on so many networks.
pub(super) fn host(containers: usize, networks: usize) -> Snapshot {
    let mut host = Namespace { id: NamespaceId(HOST), rules: default_rules(), tables: rules(containers, networks), ..Namespace::default() };
    host.sysctls.insert("net/bridge/bridge-nf-call-iptables".to_owned(), "1".to_owned());
    host.links.push(link(1, "lo", LinkKind::Loopback, Mac::default()));
    host.links.push(link(2, "eth0", LinkKind::Physical, mac(1, 0)));
    addressed(&mut host, 2, "192.168.0.1".parse().unwrap(), 24);
    host.routes.push(route(254, "0.0.0.0/0", RouteKind::Unicast, 2, Some("192.168.0.254".parse().unwrap())));
    for network in 0..networks {
        let index = u32::try_from(10 + network).unwrap();
        host.links.push(link(index, &format!("br-{network}"), LinkKind::Bridge(Bridge::default()), mac(2, network)));
        host.fdb.push(own(index, index, mac(2, network)));
        addressed(&mut host, index, address(network, 1), 24);
    }
    let mut namespaces = Vec::new();
    let mut named = Vec::new();
    for container in 0..containers {
        let (network, id) = (container % networks, NamespaceId(100 + u64::try_from(container).unwrap()));
        let index = u32::try_from(10_000 + container).unwrap();
        let mut port = link(index, &format!("veth{container}"), LinkKind::Veth, mac(3, container));
        port.master = Some(u32::try_from(10 + network).unwrap());
        port.peer = Some(Peer { index: 2, namespace: Some(id) });
        port.port =
            Some(BridgePort { forwarding: true, learning: true, flood: true, multicast_flood: true, broadcast_flood: true, ..BridgePort::default() });
        host.fdb.push(own(index, u32::try_from(10 + network).unwrap(), mac(3, container)));
        host.links.push(port);
        let mut inside = Namespace { id, rules: default_rules(), ..Namespace::default() };
        inside.links.push(link(1, "lo", LinkKind::Loopback, Mac::default()));
        let mut eth0 = link(2, "eth0", LinkKind::Veth, mac(4, container));
        eth0.peer = Some(Peer { index, namespace: Some(NamespaceId(HOST)) });
        inside.links.push(eth0);
        addressed(&mut inside, 2, address(network, 2 + container / networks), 24);
        inside.routes.push(route(254, "0.0.0.0/0", RouteKind::Unicast, 2, Some(address(network, 1))));
        namespaces.push(inside);
        named.push(Container { name: format!("c{container}"), namespace: Some(id), ..Container::default() });
    }
    namespaces.insert(0, host);
    Snapshot {
        version: netcheck::snapshot::VERSION,
        taken: String::new(),
        host: "scale".to_owned(),
        kernel: "6.18".to_owned(),
        little_endian: true,
        this_host: NamespaceId(HOST),
        namespaces,
        engine: Some(Engine { containers: named, ..Engine::default() }),
        gaps: Vec::new(),
    }
}
