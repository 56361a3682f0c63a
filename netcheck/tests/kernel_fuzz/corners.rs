//! Ways that few hosts have: each was closed for netcheck once, and a packet passed.

use std::net::UdpSocket;

use netcheck::analyse::{Answer, Attacker};
use netcheck::twin::Sockets;

use crate::lab::{Lab, run};
use crate::programs::{arrives, ask, ask_as, build, send};

/// Whether one of many datagrams arrives: some ways open after the first.
fn one_arrives(lab: &Lab, sockets: &Sockets, to: &str) -> bool {
    (1..50).any(|id| {
        send(lab, (None, None), to.parse().unwrap(), id);
        arrives(sockets, id)
    })
}

/// `arp_process`: whatever is routed to the namespace itself is answered for.
#[test]
fn a_local_route_of_another_table_is_answered_for() {
    let lab = build("k");
    lab.ip("b", "rule add to 10.40.9.0/24 lookup 100 pref 100\nroute add local 10.40.9.0/24 dev lo table 100\n");
    lab.ip("h", "route add 10.40.9.0/24 dev v2\n");
    let got = ask(&lab, "10.40.9.5");
    assert_eq!((one_arrives(&lab, &lab.sockets("b"), "10.40.9.5"), got.answer), (true, Answer::Open), "{got:#?}");
}

/// `fib_select_default`.
#[test]
fn a_router_that_does_not_answer_is_passed_over() {
    let lab = build("d");
    lab.ip("a", "route prepend default via 10.40.1.77\n");
    let got = ask(&lab, "10.40.2.2");
    assert_eq!((one_arrives(&lab, &lab.sockets("b"), "10.40.2.2"), got.answer), (true, Answer::Unknown), "{got:#?}");
}

/// `ip_forward`: a router tells of a shorter way before its rules are asked.
#[test]
fn a_redirect_leads_around_the_router() {
    let mut lab = Lab::new("i");
    for name in ["h", "a", "b"] {
        lab.add(name);
        lab.sysctl(name, "net.ipv4.conf.all.rp_filter=0\nnet.ipv4.conf.default.rp_filter=0\nnet.ipv4.conf.all.accept_redirects=1\n");
    }
    lab.sysctl("h", "net.ipv4.ip_forward=1\nnet.ipv4.conf.all.send_redirects=1\nnet.bridge.bridge-nf-call-iptables=0\n");
    lab.ip("h", "link add br0 type bridge forward_delay 0\naddr add 10.40.1.1/24 dev br0\naddr add 10.40.2.1/24 dev br0\nlink set br0 up\n");
    for (net, name) in [(1, "a"), (2, "b")] {
        let full = lab.full(name);
        lab.ip("h", &format!("link add v{net} type veth peer name eth0 netns {full}\nlink set v{net} master br0 up\n"));
        lab.ip(name, &format!("addr add 10.40.{net}.2/24 dev eth0\nlink set eth0 up\nroute add default via 10.40.{net}.1\n"));
    }
    lab.nft("h", "table ip t {\n  chain c {\n    type filter hook forward priority 0; policy drop;\n  }\n}\n").unwrap();
    let got = ask(&lab, "10.40.2.2");
    assert_eq!((one_arrives(&lab, &lab.sockets("b"), "10.40.2.2"), got.answer), (true, Answer::Unknown), "{got:#?}");
}

/// `ndisc_recv_ns`: who asks is remembered, and sent to without being asked.
#[test]
fn a_neighbour_that_does_not_answer_is_known_from_earlier() {
    let lab = build("n");
    lab.nft("b", "table inet t {\n  chain c {\n    type filter hook input priority 0;\n    meta nfproto ipv4 drop\n    icmpv6 type nd-neighbor-solicit drop\n  }\n}\n")
        .unwrap();
    let to = "fd40:0:0:2::2";
    let got = ask(&lab, &lab.full("b"));
    lab.inside("b", || UdpSocket::bind("[::]:0").unwrap().send_to(b"first", "[fd40:0:0:2::1]:9").unwrap());
    assert_eq!((one_arrives(&lab, &lab.sockets("b"), to), got.answer), (true, Answer::Unknown), "{got:#?}");
}

/// `udp_v4_early_demux`: a connected socket is found before INPUT.
#[test]
fn a_connected_socket_has_an_owner_in_input() {
    let lab = build("u");
    lab.nft("b", "table inet t {\n  chain c {\n    type filter hook input priority 0; policy drop;\n    meta skuid 0 accept\n  }\n}\n").unwrap();
    let sockets = lab.sockets("b");
    let got = ask(&lab, &lab.full("b"));
    let sends = |id: u32| {
        lab.inside("a", || UdpSocket::bind("10.40.1.2:4444").unwrap().send_to(&id.to_be_bytes(), "10.40.2.2:53").unwrap());
        arrives(&sockets, id)
    };
    let before = sends(1);
    let _connected = lab.inside("b", || {
        let socket = UdpSocket::bind("10.40.2.2:53").unwrap();
        socket.connect("10.40.1.2:4444").unwrap();
        socket
    });
    assert_eq!((before, sends(2), got.answer), (false, true, Answer::Unknown), "{got:#?}");
}

/// `nft_fib4_eval`: the way back of a packet depends on its type of service.
#[test]
fn the_way_back_is_looked_up_with_the_type_of_service() {
    let lab = build("o");
    lab.ip("h", "route add 10.40.1.0/24 tos 0x10 dev v1\nroute del 10.40.1.0/24 dev v1 tos 0\nroute add 10.40.1.0/24 dev v2\n");
    lab.nft(
        "h",
        "table inet t {\n  chain c {\n    type filter hook prerouting priority 0;\n    iifname v1 fib saddr . iif oif missing drop\n  }\n}\n",
    )
    .unwrap();
    let sockets = lab.sockets("b");
    let got = ask(&lab, "10.40.2.2");
    let arrived = [(1_u32, 0), (2, 0x10)].map(|(id, tos)| {
        lab.inside("a", || {
            let socket = UdpSocket::bind("10.40.1.2:0").unwrap();
            socket2::SockRef::from(&socket).set_tos_v4(tos).unwrap();
            socket.send_to(&id.to_be_bytes(), "10.40.2.2:53").unwrap();
        });
        arrives(&sockets, id)
    });
    assert_eq!((arrived, got.answer), ([false, true], Answer::Open), "{got:#?}");
}

/// `nf_nat_l4proto_unique_tuple`: of several ports, the first that is free.
#[test]
fn a_port_that_is_taken_is_passed_over() {
    let lab = build("w");
    lab.nft("h", "table ip t {\n  chain c {\n    type nat hook prerouting priority -100;\n    udp dport 53 dnat to 10.40.2.2:1053-1054\n  }\n}\n")
        .unwrap();
    lab.nft("b", "table ip t {\n  chain c {\n    type filter hook input priority 0;\n    udp dport 1053 drop\n  }\n}\n").unwrap();
    let sockets = lab.sockets("b");
    let got = ask(&lab, "10.40.1.1");
    let arrived = [(1_u32, "10.40.1.1:53"), (2, "10.40.2.1:53")].map(|(id, to)| {
        lab.inside("a", || UdpSocket::bind("10.40.1.2:4444").unwrap().send_to(&id.to_be_bytes(), to).unwrap());
        arrives(&sockets, id)
    });
    assert_eq!((arrived, got.answer), ([false, true], Answer::Unknown), "{got:#?}");
}

/// `fib_dump_info`: with `nexthop_compat_mode` off, a route names an object by its number alone.
#[test]
fn a_route_by_an_object_is_not_nowhere() {
    let lab = build("cx");
    lab.sysctl("h", "net.ipv4.nexthop_compat_mode=0\n");
    lab.ip("h", "nexthop add id 7 dev v2\nroute replace 10.40.2.0/24 nhid 7\nnexthop add id 8 via fd40:0:0:2::2 dev v2\nroute del fd40:0:0:2::/64 dev v2\nroute add fd40:0:0:2::/64 nhid 8\n");
    for to in ["10.40.2.2", "fd40:0:0:2::2"] {
        let got = ask(&lab, to);
        assert_eq!((one_arrives(&lab, &lab.sockets("b"), to), got.answer), (true, Answer::Unknown), "{got:#?}");
    }
}

/// Hardware address of `b`.
const B: &str = "02:40:00:00:00:03";

/// `a` and `b` on a bridge of `h`; `a` knows where `b` is.
fn bridged(tag: &str) -> Lab {
    let mut lab = Lab::new(tag);
    for name in ["h", "a", "b"] {
        lab.add(name);
        lab.sysctl(name, "net.ipv6.conf.default.accept_dad=0\n");
    }
    lab.sysctl("h", "net.bridge.bridge-nf-call-iptables=0\n");
    lab.ip("h", "link add br0 address 02:40:00:00:00:01 type bridge forward_delay 0\nlink set br0 up\n");
    for (name, last) in [("a", 2), ("b", 3)] {
        let full = lab.full(name);
        lab.ip(
            "h",
            &format!("link add v{name} type veth peer name eth0 netns {full} address 02:40:00:00:00:0{last}\nlink set v{name} master br0 up\n"),
        );
        lab.ip(name, &format!("addr add 10.40.1.{last}/24 dev eth0\nlink set eth0 up\n"));
    }
    lab.ip("a", &format!("neigh add 10.40.1.3 lladdr {B} dev eth0\n"));
    lab
}

fn bridge(lab: &Lab, commands: &str) {
    run(&["ip", "netns", "exec", &lab.full("h"), "bridge", "-batch", "-"], commands);
}

/// `br_handle_frame_finish`: the forwarding database says what is the bridge's own, not the addresses that its ports have.
#[test]
fn the_address_of_a_port_may_be_behind_it() {
    let lab = bridged("cf");
    lab.ip("h", &format!("link set vb address {B}\n"));
    bridge(&lab, &format!("fdb del {B} dev vb master\nfdb replace {B} dev vb master static\n"));
    let got = ask(&lab, "10.40.1.3");
    assert_eq!((one_arrives(&lab, &lab.sockets("b"), "10.40.1.3"), got.answer), (true, Answer::Open), "{got:#?}");
}

/// The reverse: an address that no link has may be the bridge's own.
#[test]
fn a_bridge_may_have_addresses_that_no_link_has() {
    let lab = bridged("ce");
    let more = "02:40:00:00:00:77";
    lab.ip("h", "addr add 10.40.1.1/24 dev br0\n");
    lab.nft("h", "table netdev t {\n  chain c {\n    type filter hook ingress device br0 priority 0;\n    meta pkttype set host\n  }\n}\n").unwrap();
    bridge(&lab, &format!("fdb add {more} dev br0 self permanent\n"));
    lab.ip("a", &format!("neigh add 10.40.1.1 lladdr {more} dev eth0\n"));
    let got = ask(&lab, "10.40.1.1");
    assert_eq!((one_arrives(&lab, &lab.sockets("h"), "10.40.1.1"), got.answer), (true, Answer::Unknown), "{got:#?}");
}

/// A macvlan on `h`'s bridge, in a namespace instead of its other link.
fn macvlan(lab: &Lab, name: &str, mac: u8, mode: &str) {
    let full = lab.full(name);
    lab.ip("h", &format!("link add x{name} link br0 address 02:40:00:00:01:0{mac} type macvlan mode {mode}\nlink set x{name} netns {full}\n"));
    lab.ip(name, &format!("link set eth0 down\naddr flush dev eth0\nlink set x{name} up\n"));
}

/// `macvlan_handle_frame` does not scrub.
#[test]
fn a_mark_goes_up_to_a_macvlan() {
    let lab = bridged("cm");
    macvlan(&lab, "b", 3, "private");
    lab.ip("b", "addr add 10.40.1.4/24 dev xb\n");
    lab.nft("h", "table bridge t {\n  chain c {\n    type filter hook prerouting priority 0;\n    meta mark set 1\n  }\n}\n").unwrap();
    lab.nft("b", "table inet t {\n  chain c {\n    type filter hook input priority 0; policy drop;\n    meta mark 1 accept\n  }\n}\n").unwrap();
    let got = ask(&lab, "10.40.1.4");
    assert_eq!((one_arrives(&lab, &lab.sockets("b"), "10.40.1.4"), got.answer), (true, Answer::Open), "{got:#?}");
}

/// `macvlan_open`: of several with one address, those that are up get its frames. `macvlan_queue_xmit`: from another one they come by the lower link.
#[test]
fn a_macvlan_that_is_down_hides_no_other() {
    let mut lab = bridged("cv");
    lab.add("c");
    lab.ip("h", &format!("link add xc link br0 address 02:40:00:00:01:03 type macvlan mode bridge\nlink set xc netns {}\n", lab.full("c")));
    macvlan(&lab, "b", 3, "bridge");
    lab.ip("b", "addr add 10.40.1.4/24 dev xb\n");
    let got = ask(&lab, "10.40.1.4");
    assert_eq!((one_arrives(&lab, &lab.sockets("b"), "10.40.1.4"), got.answer), (true, Answer::Open), "{got:#?}");
    macvlan(&lab, "a", 2, "bridge");
    lab.ip("a", "addr add 10.40.1.2/24 dev xa\n");
    let got = ask(&lab, "10.40.1.4");
    assert_eq!((one_arrives(&lab, &lab.sockets("b"), "10.40.1.4"), got.answer), (true, Answer::Open), "{got:#?}");
}

/// `br_forward`: what is for a port without carrier leaves by its backup.
#[test]
fn a_backup_port_stands_in_for_another_one() {
    let mut lab = bridged("cp");
    lab.add("c");
    lab.ip("h", &format!("link add vc type veth peer name eth0 netns {}\nlink set vc master br0 up\n", lab.full("c")));
    bridge(&lab, &format!("link set dev vb flood off learning off\nfdb replace {B} dev vc master static\n"));
    assert_eq!(ask(&lab, "10.40.1.3").answer, Answer::Closed);
    lab.ip("h", "link set vc type bridge_slave backup_port vb\n");
    let got = ask(&lab, "10.40.1.3");
    assert_eq!((one_arrives(&lab, &lab.sockets("b"), "10.40.1.3"), got.answer), (true, Answer::Unknown), "{got:#?}");
}

/// `br_flood`: what is for nobody comes to everybody, and rules there may take it.
#[test]
fn a_frame_for_nobody_may_be_taken() {
    let lab = bridged("ct");
    lab.ip("a", "neigh replace 10.40.1.3 lladdr 02:40:00:00:00:77 dev eth0\n");
    assert_eq!(ask(&lab, "10.40.1.3").answer, Answer::Closed);
    lab.nft("b", "table netdev t {\n  chain c {\n    type filter hook ingress device eth0 priority 0;\n    meta pkttype set host\n  }\n}\n").unwrap();
    let got = ask(&lab, "10.40.1.3");
    assert_eq!((one_arrives(&lab, &lab.sockets("b"), "10.40.1.3"), got.answer), (true, Answer::Unknown), "{got:#?}");
}

/// What is asked of a sender with NET_RAW, and whether a datagram of its comes with this mark.
fn arrives_marked(lab: &Lab, to: &str, mark: u32) -> (bool, Answer) {
    let got = ask_as(lab, Attacker::NetRaw, to);
    let sockets = lab.sockets("b");
    let arrived = (1..50_u32).any(|id| {
        lab.inside("a", || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket2::SockRef::from(&socket).set_mark(mark).unwrap();
            // A drop at the egress of its own link is an error.
            let _ = socket.send_to(&id.to_be_bytes(), (to, 53));
        });
        arrives(&sockets, id)
    });
    (arrived, got.answer)
}

/// `__dev_direct_xmit`: what an AF_XDP socket sends passes by the egress of its link.
#[test]
fn the_egress_of_a_link_does_not_hold_who_has_net_raw() {
    let lab = bridged("cl");
    lab.nft("a", "table netdev t {\n  chain c {\n    type filter hook egress device eth0 priority 0; policy drop;\n  }\n}\n").unwrap();
    let answers = [Attacker::Process, Attacker::NetRaw].map(|attacker| ask_as(&lab, attacker, "10.40.1.3").answer);
    assert_eq!(answers, [Answer::Closed, Answer::Unknown]);
}

/// `sk_setsockopt`: `SO_MARK` takes no more than NET_RAW, and neither a link's own egress nor the way down from a macvlan takes the mark off.
#[test]
fn a_sender_with_net_raw_chooses_marks() {
    let rules = "policy drop;\n    ether type arp accept\n    meta mark 5 accept\n  }\n}\n";
    let lab = bridged("cj");
    lab.nft("a", &format!("table netdev t {{\n  chain c {{\n    type filter hook egress device eth0 priority 0; {rules}")).unwrap();
    assert_eq!(arrives_marked(&lab, "10.40.1.3", 5), (true, Answer::Unknown));
    macvlan(&lab, "a", 2, "private");
    lab.ip("a", "addr add 10.40.1.2/24 dev xa\n");
    lab.nft("h", &format!("table bridge t {{\n  chain c {{\n    type filter hook output priority 0; {rules}")).unwrap();
    assert_eq!(arrives_marked(&lab, "10.40.1.3", 5), (true, Answer::Unknown));
    let got = ask(&lab, "10.40.1.3");
    assert_eq!(got.answer, Answer::Closed, "{got:#?}");
}

/// `addrconf_dad_completed`: an address that is looked at for duplicates is about to be used.
#[test]
fn a_tentative_address_is_soon_one() {
    let lab = build("cy");
    lab.sysctl("b", "net.ipv6.conf.eth0.accept_dad=1\nnet.ipv6.conf.eth0.dad_transmits=2\n");
    let to = "fd40:0:0:2::3";
    lab.ip("b", &format!("addr add {to}/64 dev eth0\n"));
    let got = ask(&lab, to);
    assert_eq!((one_arrives(&lab, &lab.sockets("b"), to), got.answer), (true, Answer::Open), "{got:#?}");
}
