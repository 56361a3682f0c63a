//! The 56 known ways in which the isolation of a Docker host fails. F: the engine's own gaps. M: rules that drift. H: the host is
//! exposed. N: links and namespaces that nobody meant. R: tricks on one link.

/// One way.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) id: &'static str,
    pub(crate) what: &'static str,
    pub(crate) covered: Covered,
}

/// Where it is shown.
#[derive(Debug)]
pub(crate) enum Covered {
    /// On a private engine, with packets.
    Live(Live),
    /// On edited captures of engines that are not in the packages: a test of `netcheck/tests/failures.rs`.
    Captured(&'static str),
    /// Nowhere, and why.
    Not(&'static str),
}

/// What is done on a private engine, and what must be reported then.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) on: On,
    /// What is set up before; without a fault, all there is.
    pub(crate) given: &'static [&'static str],
    /// What opens it; before, it is not open. Without one, the engine itself leaves it open.
    pub(crate) fault: &'static [&'static str],
    /// What undoes both, beyond rules.
    pub(crate) undo: &'static [&'static str],
    /// `FROM > TO PROTOCOL/PORT ATTACKER`
    pub(crate) flow: &'static str,
    /// A preset or a policy.
    pub(crate) policy: &'static str,
    pub(crate) reported: Reported,
}

/// On which host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum On {
    /// 26.1, which turned forwarding on itself.
    Docker26,
    /// 20.10, on a host that forwarded before it came.
    Docker20,
    /// 26.1 with `--iptables=false`.
    WithoutRules,
}

/// What must be reported.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reported {
    /// A violation of this kind, whose packet arrives.
    Open(&'static str),
    /// That it is not known whether there is a violation of this kind.
    Unknown(&'static str),
}

/// Nothing is allowed that is not listed.
const NONE: &str = "version: 1\npreset: none\n";

const fn live(id: &'static str, what: &'static str, fault: &'static [&'static str], flow: &'static str, kind: &'static str) -> Failure {
    let live = Live { on: On::Docker26, given: &[], fault, undo: &[], flow, policy: "docker-default", reported: Reported::Open(kind) };
    Failure { id, what, covered: Covered::Live(live) }
}

const fn captured(id: &'static str, what: &'static str, test: &'static str) -> Failure {
    Failure { id, what, covered: Covered::Captured(test) }
}

const fn not(id: &'static str, what: &'static str, why: &'static str) -> Failure {
    Failure { id, what, covered: Covered::Not(why) }
}

impl Failure {
    fn with(mut self, change: impl FnOnce(&mut Live)) -> Self {
        if let Covered::Live(live) = &mut self.covered {
            change(live);
        }
        self
    }

    fn on(self, on: On) -> Self {
        self.with(|live| live.on = on)
    }

    fn given(self, given: &'static [&'static str]) -> Self {
        self.with(|live| live.given = given)
    }

    fn undo(self, undo: &'static [&'static str]) -> Self {
        self.with(|live| live.undo = undo)
    }

    fn under(self, policy: &'static str) -> Self {
        self.with(|live| live.policy = policy)
    }

    fn unknown(self) -> Self {
        self.with(|live| {
            if let Reported::Open(kind) = live.reported {
                live.reported = Reported::Unknown(kind);
            }
        })
    }
}

/// All of them.
pub(crate) fn catalogue() -> Vec<Failure> {
    [engines(), rules(), host(), links()].into_iter().flatten().collect()
}

fn engines() -> Vec<Failure> {
    vec![
        live("F01", "a spoofed source enters an --internal network", &[], "a1 > i1 udp/7000 net-raw", "internal-ingress")
            .given(&["host: sysctl -qw net.ipv4.conf.all.rp_filter=2"])
            .undo(&["host: sysctl -qw net.ipv4.conf.all.rp_filter=0"]),
        captured(
            "F02",
            "29 with nftables: an --internal container reaches ports that other networks publish",
            "an_internal_container_reaches_published_ports",
        ),
        live(
            "F03",
            "28: the RETURN of a routed network lands above the DROP of an --internal one",
            &["host: iptables -I DOCKER-ISOLATION-STAGE-1 -o br-na -j RETURN"],
            "i1 > a2 tcp/80 net-raw",
            "internal-egress",
        )
        .given(&["host: ip6tables -I INPUT -j DROP"]),
        live(
            "F04",
            "a bridge without IPv6 keeps a link-local address, at which the host's services answer",
            &[],
            "i1 > host tcp/7777 net-raw",
            "host-exposure",
        )
        .given(&["host: iptables -I INPUT -i br-ni -j DROP"])
        .under("strict"),
        not(
            "F05",
            "a container announces itself as router to its neighbours",
            "what neighbours can be told (RA, ARP, ND) is outside what netcheck promises",
        ),
        live("F06", "20.10 does not isolate IPv6", &[], "s1 > t1 tcp/7777 process", "cross-network").on(On::Docker20),
        live("F07", "up to 27, a host that forwarded before forwards to every port", &[], "outside > a1 tcp/7777 process", "outside-in")
            .on(On::Docker20),
        live("F08", "up to 27, a port on 127.0.0.1 answers frames of a neighbour", &[], "outside > b1 tcp/80 net-raw", "outside-in"),
        not("F09", "icc=false passes frames that are not IP", "netcheck is about IP; it says so"),
        live(
            "F10",
            "a container on two networks is a router",
            &["ab: sysctl -qw net.ipv4.ip_forward=1"],
            "a1 > b1 udp/7000 net-raw",
            "cross-network",
        )
        .given(&["ab: sysctl -qw net.ipv4.ip_forward=0"])
        .undo(&["ab: sysctl -qw net.ipv4.ip_forward=0"]),
        live(
            "F11",
            "a reload of firewalld takes the isolation chains' rules away",
            &["host: iptables -F DOCKER-ISOLATION-STAGE-1", "host: iptables -F DOCKER-ISOLATION-STAGE-2"],
            "a1 > b1 tcp/7777 process",
            "cross-network",
        ),
        not(
            "F12",
            "the embedded resolver asks outside on behalf of an --internal container",
            "the engine's process asks, no packet of the container does",
        ),
        live(
            "F13",
            "IPv6 is left on in networks without it, and icc=false knows nothing of it",
            &[
                "n1: sysctl -qw net.ipv6.conf.eth0.accept_dad=0 net.ipv6.conf.eth0.disable_ipv6=0",
                "n2: sysctl -qw net.ipv6.conf.eth0.accept_dad=0 net.ipv6.conf.eth0.disable_ipv6=0",
            ],
            "n1 > n2 tcp/7777 process",
            "icc",
        )
        .undo(&["n1: sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1", "n2: sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1"]),
        not(
            "F14",
            "an encrypted overlay takes packets that are not",
            "swarm overlays are namespaces that hold IPsec state: xfrm is reported as a gap",
        ),
        not(
            "F15",
            "a container on the host's network reaches abstract unix sockets",
            "unix sockets carry no packets; that it is on the host's network is H40",
        ),
        live(
            "F16",
            "route_localnet lets containers reach the host's loopback",
            &["host: sysctl -qw net.ipv4.conf.br-na.route_localnet=1"],
            "a1 > host udp/6666 net-raw",
            "host-exposure",
        )
        .given(&["host: iptables -I INPUT -i br-na ! -d 127.0.0.0/8 -j DROP", "host: ip6tables -I INPUT -j DROP"])
        .under("strict")
        .undo(&["host: sysctl -qw net.ipv4.conf.br-na.route_localnet=0"]),
    ]
}

fn rules() -> Vec<Failure> {
    vec![
        live("M17", "the rules are flushed", &["host: nft flush ruleset"], "a1 > i1 tcp/7777 process", "internal-ingress"),
        live("M18", "DOCKER-USER accepts everything", &["host: iptables -I DOCKER-USER -j ACCEPT"], "n1 > n2 tcp/7777 process", "icc"),
        live("M19", "FORWARD accepts by policy", &["host: iptables -P FORWARD ACCEPT"], "outside > a1 tcp/7777 process", "outside-in"),
        live(
            "M20",
            "bridged packets do not meet the rules",
            &["host: sysctl -qw net.bridge.bridge-nf-call-iptables=0"],
            "n1 > n2 tcp/7777 process",
            "icc",
        )
        .undo(&["host: sysctl -qw net.bridge.bridge-nf-call-iptables=1"]),
        captured("M21", "28 without its raw table", "without_raw_rules_28_still_drops_unpublished_ports"),
        live(
            "M22",
            "a network is nat-unprotected",
            &["host: iptables -A DOCKER ! -i br-na -o br-na -j ACCEPT"],
            "outside > a1 tcp/7777 process",
            "outside-in",
        ),
        live(
            "M23",
            "a mark is trusted that anybody's packet gets",
            &["host: iptables -t mangle -A PREROUTING -i eth0 -j MARK --set-mark 1"],
            "outside > a1 udp/7777 process",
            "outside-in",
        )
        .given(&["host: iptables -I FORWARD -m mark --mark 1 -j ACCEPT"]),
        live("M24", "the engine makes no rules (--iptables=false)", &[], "a1 > b1 tcp/7777 process", "cross-network").on(On::WithoutRules),
        live(
            "M25",
            "another tool accepts before the engine's rules",
            &["host: iptables -I FORWARD -s 10.91.0.0/16 -j ACCEPT"],
            "a1 > b1 udp/7777 process",
            "cross-network",
        ),
        live(
            "M26",
            "rules of a container that is gone are another's now",
            &[
                "host: iptables -t nat -A DOCKER ! -i br-na -p tcp --dport 8090 -j DNAT --to-destination 10.91.1.2:80",
                "host: iptables -A DOCKER -d 10.91.1.2 ! -i br-na -o br-na -p tcp --dport 80 -j ACCEPT",
            ],
            "outside > a1 tcp/80 process",
            "outside-in",
        ),
        captured("M27", "rules of the old ip_tables run beside those that are seen", "what_is_not_modelled_is_never_closed"),
        live("M28", "a container's own rules are gone", &["a2: nft delete table ip own"], "a1 > a2 tcp/7777 process", "same-network")
            .given(&[
                "a2: nft add table ip own",
                "a2: nft 'add chain ip own input { type filter hook input priority 0; }'",
                "a2: nft add rule ip own input iifname eth0 drop",
            ])
            .under(NONE),
        live(
            "M29",
            "a rule is the same, the set that it names is not",
            &["host: ipset add trusted 10.91.1.2"],
            "a1 > b1 tcp/7777 process",
            "cross-network",
        )
        .given(&["host: ipset create trusted hash:ip", "host: iptables -I DOCKER-USER -m set --match-set trusted src -j ACCEPT"])
        .undo(&["host: iptables -F DOCKER-USER", "host: ipset destroy trusted"]),
        live(
            "M30",
            "a set that packets fill decides",
            &[
                "host: nft 'add set ip guard known { type ipv4_addr; flags dynamic,timeout; }'",
                "host: nft 'insert rule ip guard forward ip saddr @known accept'",
                "host: nft 'insert rule ip guard forward udp dport 9 add @known { ip saddr timeout 1h }'",
            ],
            "a1 > b1 tcp/7777 process",
            "cross-network",
        )
        .given(&[
            "host: iptables -I DOCKER-USER -j ACCEPT",
            "host: nft add table ip guard",
            "host: nft 'add chain ip guard forward { type filter hook forward priority -1; }'",
            "host: nft add rule ip guard forward iifname br-na oifname br-nb drop",
        ])
        .unknown(),
        live(
            "M31",
            "a rule hands packets to a local proxy, which sends them on as its own",
            &["host: iptables -t nat -I PREROUTING -i br-ni -p tcp --dport 25 -j REDIRECT --to-ports 8080"],
            "i1 > a2 tcp/80 process",
            "internal-egress",
        ),
        live(
            "M32",
            "somebody translates to a container by hand",
            &["host: iptables -t nat -I PREROUTING -i eth0 -p tcp --dport 9999 -j DNAT --to-destination 10.91.1.2:7777"],
            "outside > a1 tcp/7777 process",
            "outside-in",
        )
        .given(&["host: iptables -I DOCKER-USER -m conntrack --ctstate DNAT -j ACCEPT"]),
        live(
            "M33",
            "packets are not tracked, and rules about their state never match",
            &["host: iptables -t raw -A PREROUTING -i br-na -j NOTRACK"],
            "a1 > b1 udp/7777 process",
            "cross-network",
        )
        .given(&["host: iptables -I DOCKER-USER -j ACCEPT", "host: iptables -I DOCKER-USER -i br-na -m conntrack --ctstate NEW -j DROP"]),
        not("M34", "connections outlive the rules that would not let them begin", "netcheck answers for the first packet of a new flow"),
    ]
}

fn host() -> Vec<Failure> {
    vec![
        live("H35", "a service of the host on every address is on --internal networks too", &[], "i1 > host tcp/7777 process", "host-exposure")
            .under("strict"),
        live(
            "H36",
            "the engine's API is on an address that containers reach",
            &["host: iptables -D INPUT -p tcp --dport 2375 -j DROP"],
            "a1 > host tcp/2375 process",
            "host-exposure",
        )
        .given(&["host: iptables -I INPUT -p tcp --dport 2375 -j DROP", "host: ip6tables -I INPUT -p tcp --dport 2375 -j DROP"])
        .under("strict"),
        live(
            "H37",
            "a port's proxy gives IPv6 access to a container without it",
            &["host: ip6tables -D INPUT -p tcp --dport 8080 -j DROP"],
            "outside > a2 tcp/80 process",
            "outside-in",
        )
        .given(&[
            "host: iptables -I DOCKER-USER -i eth0 -j DROP",
            "host: iptables -I INPUT -p tcp --dport 8080 -j DROP",
            "host: ip6tables -I INPUT -p tcp --dport 8080 -j DROP",
        ])
        .under(NONE),
        live(
            "H38",
            "a port is published on every address and was meant for one",
            &["docker: run --detach --name b3 --network nb --publish 8083:80 cifixture:1 sleep 100000"],
            "outside > b3 tcp/80 process",
            "outside-in",
        )
        .under(NONE)
        .undo(&["docker: rm --force b3"]),
        live("H39", "the host routes containers to its own neighbours", &[], "a1 > {lan} tcp/22 process", "egress").under("strict"),
        live(
            "H40",
            "a container is on the host's network",
            &["docker: run --detach --name hh --network host cifixture:1 sleep 100000"],
            "a1 > hh tcp/7777 process",
            "host-exposure",
        )
        .under("strict")
        .undo(&["docker: rm --force hh"]),
    ]
}

fn links() -> Vec<Failure> {
    vec![
        live(
            "N41",
            "a link of its own between two containers",
            &[
                "host: ip link add patch type veth peer name patch2",
                "host: ip link set patch netns {ns:a1}",
                "host: ip link set patch2 netns {ns:b1}",
                "a1: ip address add 10.77.0.1/30 dev patch",
                "a1: ip link set patch up",
                "b1: ip address add 10.77.0.2/30 dev patch2",
                "b1: ip link set patch2 up",
            ],
            "a1 > b1 tcp/7777 process",
            "cross-network",
        )
        .undo(&["a1: ip link del patch"]),
        live(
            "N42",
            "a sidecar is on the networks of the container whose namespace it shares",
            &["docker: run --detach --name side --network container:i1 cifixture:1 sleep 100000"],
            "side > i2 tcp/7777 process",
            "same-network",
        )
        .under(NONE)
        .undo(&["docker: rm --force side"]),
        live(
            "N43",
            "a link is moved into an --internal container",
            &[
                "host: ip link add direct type veth peer name direct2",
                "host: ip link set direct netns {ns:i1}",
                "host: ip link set direct2 netns {ns:lan}",
                "i1: ip address add 10.77.1.1/30 dev direct",
                "i1: ip link set direct up",
                "lan: ip address add 10.77.1.2/30 dev direct2",
                "lan: ip link set direct2 up",
            ],
            "i1 > {lan} udp/53 process",
            "internal-egress",
        )
        .undo(&["i1: ip link del direct"]),
        live(
            "N44",
            "a foreign link is a port of a container network",
            &[
                "host: ip link add tap type veth peer name tap2",
                "host: ip link set tap2 netns {ns:lan}",
                "host: ip link set tap master br-na up",
                "lan: ip address add 10.91.1.99/24 dev tap2",
                "lan: ip link set tap2 up",
            ],
            "{lan} > a1 tcp/7777 process",
            "foreign-namespace",
        )
        .undo(&["host: ip link del tap"]),
        live(
            "N45",
            "two container networks are joined on their link",
            &[
                "host: ip link add join1 type veth peer name join2",
                "host: ip link set join1 master br-na up",
                "host: ip link set join2 master br-nb up",
            ],
            "a1 > b1 udp/7777 net-raw",
            "cross-network",
        )
        .undo(&["host: ip link del join1"]),
        live(
            "N46",
            "a macvlan network is on the uplink's link, past all rules",
            &[
                "docker: network create --driver macvlan --opt parent=eth0 --subnet 192.0.2.0/24 --gateway 192.0.2.1 nm",
                "docker: run --detach --name m1 --network nm --ip 192.0.2.77 cifixture:1 sleep 100000",
            ],
            "outside > m1 tcp/7777 process",
            "outside-in",
        )
        .undo(&["docker: rm --force m1", "docker: network rm nm"]),
        live(
            "N47",
            "traffic control redirects frames past all rules",
            &[
                "host: tc qdisc add dev {port:a1} clsact",
                "host: tc filter add dev {port:a1} ingress protocol ip u32 match ip dst 10.91.2.2/32 action mirred egress redirect dev {port:b1}",
            ],
            "a1 > b1 udp/7777 net-raw",
            "cross-network",
        )
        .undo(&["host: tc qdisc del dev {port:a1} clsact"])
        .unknown(),
        live(
            "N48",
            "a rule on a device forwards frames past all others",
            &[
                "host: nft add table netdev detour",
                "host: nft 'add chain netdev detour in { type filter hook ingress device {port:a1} priority 0; }'",
                "host: nft add rule netdev detour in ip daddr 10.91.2.2 fwd to {port:b1}",
            ],
            "a1 > b1 udp/7777 net-raw",
            "cross-network",
        )
        .unknown(),
        captured("N49", "a BPF program decides", "what_is_not_modelled_is_never_closed"),
        not("N50", "a flowtable passes what is established", "netcheck answers for the first packet of a new flow, which no flowtable passes"),
        not("N51", "AF_VSOCK, unix sockets and shared volumes know no network namespaces", "they carry no IP packets"),
        not("R52", "ARP spoofing", "what neighbours can be told (RA, ARP, ND) is outside what netcheck promises; it is within one network"),
        not(
            "R53",
            "a hardware address is taken over in the bridge",
            "what a bridge can be taught is outside what netcheck promises; it is within one network",
        ),
        live(
            "R54",
            "isolated ports reach each other through the gateway",
            &["host: sysctl -qw net.ipv4.conf.br-na.proxy_arp_pvlan=1", "a1: ip neighbour flush dev eth0"],
            "a1 > a2 tcp/7777 process",
            "same-network",
        )
        .given(&["host: bridge link set dev {port:a1} isolated on", "host: bridge link set dev {port:a2} isolated on"])
        .under(NONE)
        .undo(&[
            "host: sysctl -qw net.ipv4.conf.br-na.proxy_arp_pvlan=0",
            "host: bridge link set dev {port:a1} isolated off",
            "host: bridge link set dev {port:a2} isolated off",
        ]),
        live(
            "R55",
            "a policy route sends containers to each other by way of a neighbour",
            &["host: ip rule add iif br-na lookup 100", "host: ip route add default via 192.0.2.2 table 100"],
            "a1 > b1 udp/7777 process",
            "cross-network",
        )
        .given(&[
            "host: iptables -P FORWARD ACCEPT",
            "host: iptables -t nat -I POSTROUTING -s 10.91.1.0/24 -o eth0 -j ACCEPT",
            "lan: sysctl -qw net.ipv4.ip_forward=1",
        ])
        .undo(&["host: ip rule del iif br-na lookup 100", "host: ip route flush table 100", "lan: sysctl -qw net.ipv4.ip_forward=0"]),
        live(
            "R56",
            "a sysctl of one link forwards IPv6 although the host does not",
            &["host: sysctl -qw net.ipv6.conf.br-n6.force_forwarding=1"],
            "s1 > t1 udp/7777 process",
            "cross-network",
        )
        .on(On::Docker20)
        .given(&["host: sysctl -qw net.ipv6.conf.all.forwarding=0"])
        .undo(&["host: sysctl -qw net.ipv6.conf.br-n6.force_forwarding=0", "host: sysctl -qw net.ipv6.conf.all.forwarding=1"]),
        live("R57", "icc=false does not see frames with a priority tag", &[], "n1 > n2 tcp/7777 net-raw", "icc"),
    ]
}
