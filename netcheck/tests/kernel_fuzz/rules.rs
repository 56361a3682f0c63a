//! Random rule sets, as text for nft and iptables-restore.

use std::fmt::Write as _;

use crate::random::Random;

const PORTS: [u16; 8] = [22, 53, 80, 443, 1000, 1001, 2000, 8080];
const LINKS: [&str; 7] = ["br0", "br1", "br2", "up0", "lo", "eth0", "eth1"];

pub(crate) fn ports() -> &'static [u16] {
    &PORTS
}

fn address4(random: &mut Random) -> String {
    let known = [
        "10.20.0.10",
        "10.20.0.11",
        "10.20.0.12",
        "10.20.1.13",
        "10.20.1.14",
        "10.20.2.15",
        "10.20.2.16",
        "10.20.0.30",
        "10.20.1.30",
        "10.20.0.1",
        "10.20.1.1",
        "10.20.2.1",
        "192.168.77.1",
        "192.168.77.2",
        "127.0.0.1",
        "10.99.0.2",
    ];
    random.pick(&known).to_owned()
}

fn address6(random: &mut Random) -> String {
    let known = [
        "fd20::10",
        "fd20::11",
        "fd20::12",
        "fd20:0:0:1::13",
        "fd20:0:0:1::14",
        "fd20:0:0:2::15",
        "fd20:0:0:2::16",
        "fd20::30",
        "fd20:0:0:1::30",
        "fd20::1",
        "fd20:0:0:1::1",
        "fd77::1",
        "fd77::2",
        "fd99::2",
    ];
    random.pick(&known).to_owned()
}

fn addresses(random: &mut Random, ipv4: bool) -> String {
    if ipv4 {
        match random.below(6) {
            0 | 1 => address4(random),
            2 => format!("10.20.{}.0/24", random.below(3)),
            3 => random.pick(&["10.20.0.0/16", "10.20.0.8/29", "192.168.77.0/24", "127.0.0.0/8", "0.0.0.0/0"]).to_owned(),
            4 => "10.20.0.11-10.20.1.13".to_owned(),
            _ => format!("{{ {}, 10.20.{}.0/25, 192.168.77.2-192.168.77.9 }}", address4_outside(random), random.below(3)),
        }
    } else {
        match random.below(5) {
            0 | 1 => address6(random),
            2 => format!("fd20:0:0:{}::/64", random.below(3)),
            3 => "fd20::/48".to_owned(),
            _ => "{ fd20::10, fd77::/64 }".to_owned(),
        }
    }
}

/// One that no other element of the set holds.
fn address4_outside(random: &mut Random) -> &'static str {
    random.pick(&["10.99.0.2", "127.0.0.1", "8.8.8.8", "192.168.77.1"])
}

fn port(random: &mut Random) -> String {
    match random.below(5) {
        0 | 1 => random.one(&PORTS).to_string(),
        2 => "1000-2000".to_owned(),
        3 => "{ 22, 80, 1000-1001 }".to_owned(),
        _ => "!= 443".to_owned(),
    }
}

/// Which hook a chain is at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Pre,
    In,
    Forward,
    Out,
    Post,
}

const HOOKS: [(At, &str); 5] = [(At::Pre, "prerouting"), (At::In, "input"), (At::Forward, "forward"), (At::Out, "output"), (At::Post, "postrouting")];

fn family(random: &mut Random) -> &'static str {
    random.pick(&["ip", "ip", "ip6", "inet", "inet"])
}

#[expect(clippy::too_many_lines, reason = "one arm a kind")]
fn condition(random: &mut Random, family: &str, at: Option<At>) -> String {
    let ipv4 = match family {
        "ip" => true,
        "ip6" => false,
        _ => random.percent(60),
    };
    let ip = if ipv4 { "ip" } else { "ip6" };
    let not = if random.percent(20) { "!= " } else { "" };
    match random.below(22) {
        0 | 1 if at != Some(At::Out) => {
            let name = random.pick(&["br0", "br1", "br2", "up0", "eth0", "br*", "lo"]);
            format!("iifname {not}\"{name}\"")
        }
        2 | 3 if !matches!(at, Some(At::Pre | At::In)) => {
            let name = random.pick(&["br0", "br1", "br2", "up0", "eth1", "br*"]);
            format!("oifname {not}\"{name}\"")
        }
        4 => "iifname { \"br0\", \"br2\" }".to_owned(),
        5 | 6 => format!("{ip} saddr {not}{}", addresses(random, ipv4)),
        7..=9 => format!("{ip} daddr {not}{}", addresses(random, ipv4)),
        10 | 11 => format!("{} dport {}", random.pick(&["tcp", "udp", "tcp", "th"]).replace("th", "meta l4proto { tcp, udp } th"), port(random)),
        12 => format!("tcp sport {}", random.pick(&["1024-30000", "!= 40000", ">= 30000", "< 20000"])),
        13 => format!("meta l4proto {}", random.pick(&["tcp", "udp", "{ tcp, icmp }", "!= tcp"])),
        14 => {
            random.pick(&["tcp flags syn / syn,ack", "tcp flags & (syn|ack) == syn", "icmp type echo-request", "icmpv6 type echo-request"]).to_owned()
        }
        15 | 16 => format!(
            "ct {}",
            random.pick(&[
                "state new",
                "state established,related",
                "state invalid",
                "state untracked",
                "status dnat",
                "status snat",
                "direction original",
                "mark 2",
                "state { new, invalid }"
            ])
        ),
        17 => format!("meta mark {}", random.pick(&["1", "2", "!= 0", "& 0x3 == 1", "0-1", "{ 1, 7 }"])),
        18 => match at {
            Some(At::Pre | At::In) => random
                .pick(&[
                    "fib daddr type local",
                    "fib saddr . iif oif missing",
                    "fib saddr . iif oif exists",
                    "fib daddr type unicast",
                    "fib saddr type local",
                    "fib daddr . iif type local",
                ])
                .to_owned(),
            _ => random.pick(&["fib daddr type local", "fib saddr type local", "fib daddr type { local, unicast }"]).to_owned(),
        },
        19 if ipv4 => format!(
            "ip {} . tcp dport {{ 10.20.1.13 . 80, {} . 1000-2000, 10.20.0.0/24 . 443 }}",
            random.pick(&["daddr", "saddr"]),
            random.pick(&["10.20.2.15", "192.168.77.1", "10.20.1.30"])
        ),
        20 => random
            .pick(&["meta nfproto ipv4", "meta nfproto ipv6", "meta pkttype host", "meta length < 48", "meta length 40-44", "meta protocol ip"])
            .to_owned(),
        21 if ipv4 => random
            .pick(&[
                "ct original ip daddr 10.20.0.1",
                "ct original proto-dst 8080",
                "ip dscp cs1",
                "ip protocol udp",
                "ip daddr & 0.0.0.255 == 0.0.0.13",
            ])
            .to_owned(),
        _ => String::new(),
    }
}

fn statement(random: &mut Random, family: &str, at: Option<At>, jumps: &[String], early: bool) -> String {
    let target = |random: &mut Random| (!jumps.is_empty()).then(|| random.one(jumps).clone());
    match random.below(16) {
        0..=3 => "accept".to_owned(),
        4 | 5 => "drop".to_owned(),
        6 | 7 => target(random).map_or("accept".to_owned(), |name| format!("jump {name}")),
        8 => target(random).map_or("drop".to_owned(), |name| format!("goto {name}")),
        9 => "return".to_owned(),
        10 => format!("meta mark set {}", random.below(4)),
        11 => random
            .pick(&[
                "ct mark set meta mark",
                "meta mark set ct mark",
                "ct mark set 2",
                "meta mark set meta mark or 0x4",
                "meta mark set meta mark and 0x1",
            ])
            .to_owned(),
        12 if at.is_some_and(|at| matches!(at, At::In | At::Forward | At::Out)) => "reject".to_owned(),
        12 if early => "notrack".to_owned(),
        13 => {
            let jump = target(random).map_or("drop".to_owned(), |name| format!("jump {name}"));
            match random.below(3) {
                0 => format!("tcp dport vmap {{ 22 : accept, 80 : {jump}, 1000-2000 : drop }}"),
                1 => format!("iifname vmap {{ \"br0\" : {jump}, \"br1\" : accept, \"up0\" : continue }}"),
                _ if family == "ip" => format!("ip daddr . tcp dport vmap {{ 10.20.1.13 . 80 : accept, 10.20.0.10 . 443 : {jump} }}"),
                _ => format!("meta l4proto vmap {{ tcp : {jump}, udp : return }}"),
            }
        }
        14 if family == "ip" => "meta mark set ip saddr map { 10.20.0.10 : 1, 10.20.0.11 : 2, 10.20.1.0/24 : 3 }".to_owned(),
        _ => "counter".to_owned(),
    }
}

fn rules(random: &mut Random, family: &str, at: Option<At>, jumps: &[String], early: bool) -> String {
    let mut text = String::new();
    for _ in 0..random.below(6) {
        let conditions: Vec<String> = (0..random.below(3)).map(|_| condition(random, family, at)).filter(|text| !text.is_empty()).collect();
        let _ = writeln!(text, "    {} counter {}", conditions.join(" "), statement(random, family, at, jumps, early));
    }
    text
}

fn filter_table(random: &mut Random, number: usize, next_priority: &mut i32) -> String {
    let family = family(random);
    let mut text = format!("table {family} t{number} {{\n");
    // Chains may only jump to chains before them: no loops.
    let mut jumps: Vec<String> = Vec::new();
    for extra in 0..random.below(4) {
        let name = format!("x{extra}");
        let body = rules(random, family, None, &jumps, false);
        let _ = writeln!(text, "  chain {name} {{\n{body}  }}");
        jumps.push(name);
    }
    for base in 0..1 + random.below(3) {
        let (at, hook) = *random.one(&HOOKS);
        // Never twice the same, and never that of conntrack, nat or iptables: the order of equals is another question.
        *next_priority += 7;
        let priority = (*next_priority * 37).rem_euclid(690) - 347;
        let priority = if priority % 10 == 0 { priority + 1 } else { priority };
        let policy = if random.percent(20) { "drop" } else { "accept" };
        let kind = if at == At::Out && random.percent(30) { "route" } else { "filter" };
        let early = priority < -200 && matches!(at, At::Pre | At::Out);
        let body = rules(random, family, Some(at), &jumps, early);
        let _ = writeln!(text, "  chain b{base} {{\n    type {kind} hook {hook} priority {priority}; policy {policy};\n{body}  }}");
    }
    text.push_str("}\n");
    text
}

fn nat_table(random: &mut Random) -> String {
    let ipv4 = random.percent(70);
    let family = if ipv4 { "ip" } else { "ip6" };
    let to = |random: &mut Random, port: bool| {
        let address = if ipv4 { address4(random) } else { address6(random) };
        let loopback = address == "127.0.0.1";
        let address = if loopback { "10.20.1.13".to_owned() } else { address };
        match (port, ipv4) {
            (true, true) => format!("{address}:{}", random.one(&PORTS)),
            (true, false) => format!("[{address}]:{}", random.one(&PORTS)),
            (false, _) => address,
        }
    };
    let mut text = format!("table {family} nat{} {{\n", random.below(9));
    for (hook, priority, source) in [("prerouting", -100, false), ("output", -100, false), ("postrouting", 100, true), ("input", 100, true)] {
        if !random.percent(match hook {
            "prerouting" | "postrouting" => 75,
            "output" => 40,
            _ => 15,
        }) {
            continue;
        }
        let _ = writeln!(text, "  chain {hook} {{\n    type nat hook {hook} priority {priority};");
        for _ in 0..1 + random.below(4) {
            let at = match hook {
                "prerouting" => At::Pre,
                "output" => At::Out,
                "input" => At::In,
                _ => At::Post,
            };
            let extra = condition(random, family, Some(at));
            let l4 = random.pick(&["tcp dport 8080", "tcp dport { 80, 443 }", "udp dport 53", "meta l4proto { tcp, udp } th dport 1000-2000"]);
            let action = if source {
                match random.below(3) {
                    0 if hook == "postrouting" => "masquerade".to_owned(),
                    _ => format!("snat to {}", to(random, false)),
                }
            } else {
                match random.below(5) {
                    0 => format!("redirect to :{}", random.one(&PORTS)),
                    1 => format!("dnat to {}", to(random, false)),
                    2 => "accept".to_owned(),
                    _ => format!("dnat to {}", to(random, true)),
                }
            };
            let _ = writeln!(text, "    {l4} {extra} counter {action}");
        }
        text.push_str("  }\n");
    }
    text.push_str("}\n");
    text
}

fn bridge_table(random: &mut Random) -> String {
    let mut text = "table bridge l2 {\n".to_owned();
    for (name, hook, priority) in
        [("c0", "prerouting", -300), ("c1", "input", -200), ("c2", "forward", -200), ("c3", "output", 100), ("c4", "postrouting", 300)]
    {
        if !random.percent(35) {
            continue;
        }
        let policy = if random.percent(10) { "drop" } else { "accept" };
        let _ = writeln!(text, "  chain {name} {{\n    type filter hook {hook} priority {priority}; policy {policy};\n    meta protocol arp accept");
        for _ in 0..random.below(4) {
            let what = random.pick(&[
                "iifname \"vc0\"",
                "oifname \"vc1\"",
                "ip daddr 10.20.0.12",
                "ip saddr 10.20.1.13",
                "tcp dport 80",
                "ip protocol udp",
                "meta protocol ip6",
                "meta ibrname \"br0\"",
                "ether saddr 02:20:00:00:00:10",
                "ether daddr 02:20:00:00:00:01",
                "meta pkttype host",
                "meta pkttype other",
            ]);
            let what = if hook == "output" && what.starts_with("iif") || hook == "prerouting" && what.starts_with("oif") { "" } else { what };
            let _ = writeln!(text, "    {what} counter {}", random.pick(&["accept", "drop", "drop", "meta mark set 1"]));
        }
        text.push_str("  }\n");
    }
    text.push_str("}\n");
    text
}

/// Rules for nft.
pub(crate) fn nft(random: &mut Random) -> String {
    let mut text = "flush ruleset\n".to_owned();
    let mut priority = i32::try_from(random.below(300)).unwrap();
    for number in 0..1 + random.below(3) {
        text.push_str(&filter_table(random, number, &mut priority));
    }
    if random.percent(60) {
        text.push_str(&nat_table(random));
    }
    if random.percent(15) {
        text.push_str(&bridge_table(random));
    }
    text
}

/// Rules for iptables-restore.
pub(crate) fn iptables(random: &mut Random) -> String {
    let mut text = String::new();
    for (table, chains) in [
        ("raw", &["PREROUTING", "OUTPUT"][..]),
        ("mangle", &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"][..]),
        ("nat", &["PREROUTING", "OUTPUT", "POSTROUTING"][..]),
        ("filter", &["INPUT", "FORWARD", "OUTPUT"][..]),
    ] {
        if !random.percent(60) {
            continue;
        }
        let _ = writeln!(text, "*{table}");
        for chain in chains {
            let policy = if table == "filter" && random.percent(25) { "DROP" } else { "ACCEPT" };
            let _ = writeln!(text, ":{chain} {policy} [0:0]");
        }
        let _ = writeln!(text, ":USER - [0:0]");
        for chain in chains.iter().chain(&["USER"]) {
            for _ in 0..random.below(4) {
                let _ = writeln!(text, "-A {chain} {}", iptables_rule(random, table, chain));
            }
        }
        text.push_str("COMMIT\n");
    }
    text
}

#[expect(clippy::too_many_lines, reason = "one arm a kind")]
fn iptables_rule(random: &mut Random, table: &str, chain: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    let not = if random.percent(25) { "! " } else { "" };
    let mut transport = false;
    for _ in 0..random.below(3) {
        let input = matches!(chain, "PREROUTING" | "INPUT" | "FORWARD");
        let output = matches!(chain, "FORWARD" | "OUTPUT" | "POSTROUTING");
        let part = match random.below(12) {
            0 => format!("{not}-s 10.20.{}.0/24", random.below(3)),
            1 => format!("{not}-d {}", address4(random)),
            2 if input => format!("{not}-i {}", random.pick(&LINKS)),
            3 if output => format!("{not}-o {}", random.pick(&["br0", "br1", "br2", "up0", "br+"])),
            4 if !transport => {
                transport = true;
                format!("-p tcp -m tcp {not}--dport {}", random.pick(&["80", "1000:2000", "443"]))
            }
            5 if !transport => {
                transport = true;
                "-p udp -m udp --dport 53".to_owned()
            }
            6 if !transport => {
                transport = true;
                format!("-p tcp -m multiport {not}--dports 22,80,1000:1001")
            }
            7 => format!("-m addrtype {not}--dst-type {}", random.pick(&["LOCAL", "UNICAST"])),
            8 if table != "raw" => {
                format!("-m conntrack {not}--ctstate {}", random.pick(&["NEW", "RELATED,ESTABLISHED", "INVALID", "DNAT", "NEW,UNTRACKED"]))
            }
            9 => format!("-m mark {not}--mark {}", random.pick(&["0x1", "0x0/0x2", "0x2/0x3"])),
            10 => format!("-m iprange {not}--src-range 10.20.0.11-10.20.1.14"),
            11 if input && chain != "INPUT" => format!("-m physdev {not}--physdev-in {}", random.pick(&["vc0", "vc1", "vc+"])),
            _ => continue,
        };
        let kind = part.trim_start_matches("! ").split(' ').take(2).collect::<Vec<_>>().join(" ");
        let kind = if part.starts_with("! -") || part.starts_with('-') && !part.starts_with("-m") && !part.starts_with("-p") {
            kind.split(' ').next().unwrap().to_owned()
        } else {
            kind
        };
        if !parts.iter().any(|known| known.contains(&kind)) {
            parts.push(part);
        }
    }
    let user = chain != "USER";
    let action = match (table, random.below(8)) {
        ("nat", 0..=4) if matches!(chain, "PREROUTING" | "OUTPUT") => {
            parts.retain(|part| !part.starts_with("-p"));
            parts.push("-p tcp -m tcp --dport 8080".to_owned());
            format!("-j DNAT --to-destination {}", random.pick(&["10.20.1.13:80", "10.20.0.10:443", "10.20.2.15", "192.168.77.2:80"]))
        }
        ("nat", 5) if matches!(chain, "PREROUTING" | "OUTPUT") => {
            parts.retain(|part| !part.starts_with("-p"));
            parts.push("-p tcp -m tcp --dport 2000".to_owned());
            "-j REDIRECT --to-ports 80".to_owned()
        }
        ("nat", 0..=3) if chain == "POSTROUTING" => "-j MASQUERADE".to_owned(),
        ("nat", 4) if chain == "POSTROUTING" => "-j SNAT --to-source 192.168.77.1".to_owned(),
        ("mangle", 0..=2) => format!("-j MARK --set-xmark {}", random.pick(&["0x1/0xffffffff", "0x2/0x2", "0x0/0x1"])),
        ("mangle", 3) => random.pick(&["-j CONNMARK --save-mark", "-j CONNMARK --restore-mark"]).to_owned(),
        ("raw", 0) => "-j CT --notrack".to_owned(),
        ("filter", 0) if chain != "USER" => "-j REJECT".to_owned(),
        (_, 1..=3) => "-j ACCEPT".to_owned(),
        ("filter" | "raw" | "mangle", 4) => "-j DROP".to_owned(),
        (_, 5 | 6) if user => "-j USER".to_owned(),
        (_, 7) => "-j RETURN".to_owned(),
        _ => "-m comment --comment nothing".to_owned(),
    };
    parts.push(action);
    parts.join(" ")
}
