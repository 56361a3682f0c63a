//! What a violation is called, how bad it is, why it is one, and the smallest change that ends it.

use std::net::IpAddr;

use policies::isolation::{Party, PartyKind};

use crate::packet::Packet;
use crate::report::document::{Severity, Step};
use crate::report::text::word;
use crate::snapshot::{Family, Namespace};

/// Kind, severity and reason of a flow that is against the policy; all of it may be published.
pub(super) fn judge(from: &Party, to: &Party, published: bool) -> (&'static str, Severity, String) {
    use PartyKind::{Container, Host, Metadata, Namespace, Outside};
    let (a, b) = (from.name.as_str(), to.name.as_str());
    match (from.kind, to.kind) {
        (Container, Container) => between_containers(from, to, published),
        (Outside, Container) if published => {
            ("outside-in", Severity::Critical, format!("{b} publishes this, and the policy does not allow outside to reach it there"))
        }
        (Outside, Container) => ("outside-in", Severity::Critical, format!("nothing allows outside to reach {b} there: it is not published")),
        (Namespace | Metadata, Container) => {
            ("foreign-namespace", Severity::Critical, format!("{a} is a namespace that the engine does not know, and nothing allows it to reach {b}"))
        }
        (Container, Host) => ("host-exposure", Severity::High, format!("nothing allows {a} to reach services of the host")),
        (Outside | Namespace | Metadata, Host) => ("host-exposure", Severity::High, format!("nothing allows {a} to reach the host")),
        (Container, Metadata) => ("metadata", Severity::High, format!("nothing allows {a} to reach the metadata service")),
        (Container, Outside | Namespace) if !from.has_way_out() => {
            ("internal-egress", Severity::High, format!("{a} is only on internal networks, which have no way out"))
        }
        (_, Outside | Metadata | Namespace) => ("egress", Severity::Medium, format!("nothing allows {a} to reach {b}")),
        (Host, Container | Host) => ("from-host", Severity::Medium, format!("nothing allows the host to reach {b} there")),
    }
}

fn between_containers(from: &Party, to: &Party, published: bool) -> (&'static str, Severity, String) {
    let (a, b) = (from.name.as_str(), to.name.as_str());
    let internal = |party: &Party| !party.networks.is_empty() && party.networks.values().all(|network| network.internal);
    let common: Vec<&str> = from.networks.keys().filter(|name| to.networks.contains_key(*name)).map(String::as_str).collect();
    match common.first() {
        Some(name) if from.networks.get(*name).is_some_and(|network| !network.icc) => {
            ("icc", Severity::High, format!("network {name} has icc=false: {a} and {b} may not talk to each other on it"))
        }
        Some(name) => ("same-network", Severity::Medium, format!("{a} and {b} share network {name}, and the policy does not allow that")),
        None if internal(to) => ("internal-ingress", Severity::High, format!("{b} is only on internal networks, and {a} is on none of them")),
        None if internal(from) => ("internal-egress", Severity::High, format!("{a} is only on internal networks, and {b} is on none of them")),
        None if published => ("cross-network", Severity::High, format!("{b} publishes this, and the policy does not allow {a} to reach it there")),
        None => ("cross-network", Severity::High, format!("{a} and {b} share no network, and {b} does not publish this")),
    }
}

/// The smallest change that ends it: the packet passes, and this is what it meets.
pub(super) fn fix(host: Option<&Namespace>, from: &Party, to: &Party, (packet, trace): (&Packet, &[Step])) -> String {
    let host = Host { namespace: host, ipv4: packet.is_ipv4() };
    let written = trace.first().is_some_and(|step| step.text.starts_with("written"));
    let forged = from.kind == PartyKind::Container && !from.addresses.contains(&packet.source);
    let change = match Way::of(trace) {
        Way::Proxied { input } => host.drop_at_proxy(&input, packet),
        Way::Direct { how, .. } if to.kind == PartyKind::Host => {
            let bind = format!("bind the service to an address that {} has no route to", from.name);
            // What comes by the uplink may be whoever reads this.
            let input = how.strip_prefix("received by ").filter(|_| from.kind == PartyKind::Container);
            input.map_or_else(|| format!("{bind}, or drop it in INPUT"), |input| format!("{}; or {bind}", host.drop_arriving(input)))
        }
        Way::Routed { at, input, output } if at == HOST => {
            let is_published = trace.iter().any(|step| step.kind == "nat" && step.text.starts_with("destination"));
            let only_to = (to.kind == PartyKind::Metadata).then_some(packet.destination);
            let rule = host.drop_forwarded(&input, &output, only_to, !is_published);
            if forged { format!("{rule}; or refuse forged sources: {}", host.refuse_forged(&input)) } else { rule }
        }
        Way::Routed { at, input, output } => {
            let switch = if packet.is_ipv4() { "net.ipv4.ip_forward" } else { "net.ipv6.conf.all.forwarding" };
            format!("{at} is the router, from {input} to {output}: sysctl -w {switch}=0 there, or take it off one of its networks")
        }
        Way::Sent { output } => host.drop_sent(&output, packet.destination),
        Way::Bridged { input, output } => {
            format!("bridge link set dev {} isolated on; bridge link set dev {} isolated on", word(&input), word(&output))
        }
        Way::Direct { at, how } => format!("it does not cross the host's FORWARD: remove the link by which it arrives in {at} ({how})"),
        Way::Hidden => String::new(),
    };
    if written && from.kind == PartyKind::Container {
        return format!("{change}; or start {} without what writing frames needs: --cap-drop NET_RAW", from.name);
    }
    change
}

/// What the host's own namespace is called in traces.
const HOST: &str = "host";

/// How a packet gets to its receiver.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// From port to port of a bridge of the host.
    Bridged { input: String, output: String },
    /// Not through the host.
    Direct { at: String, how: String },
    /// Nothing is known of it.
    Hidden,
    /// To a proxy on the host, by a link.
    Proxied { input: String },
    /// Through a namespace, from link to link.
    Routed { at: String, input: String, output: String },
    /// By the host itself, through a link.
    Sent { output: String },
}

impl Way {
    /// The first router between two links counts: what it does not pass on needs no other rule. One that sends back by the same link is a detour.
    fn of(trace: &[Step]) -> Self {
        let after =
            |step: &Step, before: &str| step.text.split_once(before).and_then(|(_, after)| after.split_whitespace().next()).map(str::to_owned);
        let mut routers: Vec<Self> = Vec::new();
        let (mut received, mut bridged, mut arrived) = (None, None, None);
        let host_sends = trace.first().is_some_and(|step| step.at == HOST);
        for step in trace {
            match step.kind.as_str() {
                "link" => {
                    received = after(step, "received by ").map(|link| (step.at.clone(), link)).or(received);
                    arrived = Some(Self::Direct { at: step.at.clone(), how: step.text.clone() });
                }
                "proxy" => return received.map_or(Self::Hidden, |(_, input)| Self::Proxied { input }),
                "bridge" if step.at == HOST => {
                    let ports = after(step, " from ").filter(|port| port != "itself").zip(after(step, " to "));
                    bridged = bridged.or(ports.map(|(input, output)| Self::Bridged { input, output }));
                }
                "route" if !step.text.starts_with("local ") => {
                    let output = after(step, " dev ");
                    match (&received, output) {
                        (Some((at, input)), Some(output)) if *at == step.at => {
                            routers.push(Self::Routed { at: at.clone(), input: input.clone(), output });
                        }
                        // Of what others send, a bridge asks for the route before the host has received it, where rules of IP are asked in bridges.
                        (None, Some(output)) if host_sends => return Self::Sent { output },
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        let first = routers.iter().position(|way| matches!(way, Self::Routed { input, output, .. } if input != output)).unwrap_or(0);
        routers.into_iter().nth(first).or(bridged).or(arrived).unwrap_or(Self::Hidden)
    }
}

/// The host, where most changes are made, and the version of IP that they are about.
struct Host<'a> {
    namespace: Option<&'a Namespace>,
    ipv4: bool,
}

impl Host<'_> {
    const fn iptables(&self) -> &'static str {
        if self.ipv4 { "iptables" } else { "ip6tables" }
    }

    fn has_chain(&self, table: &str, chain: &str) -> bool {
        let family = if self.ipv4 { Family::Ip } else { Family::Ip6 };
        let mut tables = self.namespace.iter().flat_map(|host| &host.tables).filter(|own| own.family == family && own.name == table);
        tables.any(|own| own.chains.iter().any(|own| own.name == chain))
    }

    fn drop_arriving(&self, input: &str) -> String {
        format!("{} -I INPUT -i {} -m conntrack --ctstate NEW -j DROP", self.iptables(), word(input))
    }

    fn drop_sent(&self, output: &str, to: IpAddr) -> String {
        format!("{} -I OUTPUT -o {} -d {to} -m conntrack --ctstate NEW -j DROP", self.iptables(), word(output))
    }

    /// New connections only: answers go the same way, and so do published ports of others on the network, unless such a one is what passes.
    fn drop_forwarded(&self, input: &str, output: &str, only_to: Option<IpAddr>, spare_published: bool) -> String {
        if self.has_chain("docker-bridges", "filter-FORWARD") {
            let family = if self.ipv4 { "ip" } else { "ip6" };
            let only_to = only_to.map_or_else(String::new, |address| format!(" {family} daddr {address}"));
            let spare = if spare_published { " ct status & dnat == 0" } else { "" };
            let rule = format!(
                "insert rule {family} docker-bridges filter-FORWARD iifname \"{input}\" oifname \"{output}\"{only_to} ct state new{spare} drop"
            );
            return format!("nft {}", word(&rule));
        }
        let chain = if self.has_chain("filter", "DOCKER-USER") { "DOCKER-USER" } else { "FORWARD" };
        let only_to = only_to.map_or_else(String::new, |address| format!(" -d {address}"));
        let spare = if spare_published { " -m conntrack ! --ctstate DNAT" } else { "" };
        let links = format!("-i {} -o {}", word(input), word(output));
        format!("{} -I {chain} {links}{only_to} -m conntrack --ctstate NEW{spare} -j DROP", self.iptables())
    }

    fn drop_at_proxy(&self, input: &str, packet: &Packet) -> String {
        let port =
            packet.transport.ports().map_or_else(String::new, |(_, port)| format!(" -p {} --dport {port}", packet.transport.protocol().name()));
        let rule = format!("{} -I INPUT -i {}{port} -j DROP", self.iptables(), word(input));
        format!("{rule}; or publish the port on an address of its own")
    }

    /// IPv6 has no switch for it.
    fn refuse_forged(&self, input: &str) -> String {
        if self.ipv4 {
            // A dot in a link's name would be taken for a level.
            return format!("sysctl -w {}", word(&format!("net.ipv4.conf.{}.rp_filter=1", input.replace('.', "/"))));
        }
        format!("ip6tables -t raw -I PREROUTING -i {} -m rpfilter --invert -j DROP", word(input))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Protocol;

    fn trace(steps: &[&str]) -> Vec<Step> {
        let step = |text: &&str| {
            let [at, kind, text] = text.splitn(3, ' ').collect::<Vec<_>>().try_into().unwrap();
            let [at, kind, text] = [at, kind, text].map(str::to_owned);
            Step { at, kind, text, ..Step::default() }
        };
        steps.iter().map(step).collect()
    }

    fn party(name: &str, kind: PartyKind, address: &str) -> Party {
        Party { name: name.to_owned(), kind, addresses: vec![address.parse().unwrap()], ..Party::default() }
    }

    fn advice(source: &str, destination: &str, steps: &[&str]) -> String {
        let packet = Packet::new(source.parse().unwrap(), destination.parse().unwrap(), Protocol::Tcp.first(40_000, 80));
        let (a, b) = (party("a", PartyKind::Container, "10.1.1.2"), party("b", PartyKind::Container, "10.1.2.2"));
        fix(None, &a, &b, (&packet, &trace(steps)))
    }

    #[test]
    fn advice_is_about_whoever_is_the_router() {
        let through_host = ["a sent sent", "host link received by br-a", "host route 10.1.2.0/24 dev br-b", "b link received by eth0"];
        assert_eq!(
            advice("10.1.1.2", "10.1.2.2", &through_host),
            "iptables -I FORWARD -i br-a -o br-b -m conntrack --ctstate NEW -m conntrack ! --ctstate DNAT -j DROP"
        );
        let through_ab = [
            "a sent sent",
            "host bridge bridge br-a from veth1 to veth2",
            "ab link received by eth0",
            "ab route 10.1.2.0/24 dev eth1",
            "host bridge bridge br-b from veth3 to veth4",
            "b link received by eth0",
            "b route local 10.1.2.2/32",
        ];
        assert_eq!(
            advice("10.1.1.2", "10.1.2.2", &through_ab),
            "ab is the router, from eth0 to eth1: sysctl -w net.ipv4.ip_forward=0 there, or take it off one of its networks"
        );
        let detour = ["ab link received by eth0", "ab route 0.0.0.0/0 via 10.1.1.1 dev eth0"];
        let detour = [&through_host[..1], &detour, &through_host[1..]].concat();
        assert_eq!(advice("10.1.1.2", "10.1.2.2", &detour), advice("10.1.1.2", "10.1.2.2", &through_host));
        let bridged = ["a sent sent", "host bridge bridge br-a from veth1 to veth2", "b link received by eth0", "b route local 10.1.2.2/32"];
        assert_eq!(advice("10.1.1.2", "10.1.2.2", &bridged), "bridge link set dev veth1 isolated on; bridge link set dev veth2 isolated on");
        let proxied =
            ["a sent sent", "host link received by br-a", "host route local 10.1.1.1/32", "host proxy docker-proxy connects to 10.1.2.2 port 80"];
        assert!(advice("10.1.1.2", "10.1.1.1", &proxied).starts_with("iptables -I INPUT -i br-a -p tcp --dport 80 -j DROP"));
        let published =
            ["a sent sent", "host link received by br-a", "host nat destination becomes 10.1.2.2 port 80", "host route 10.1.2.0/24 dev br-b"];
        assert!(!advice("10.1.1.2", "10.1.1.1", &published).contains("DNAT"));
        let in_bridge = [
            "a sent sent",
            "host nat destination becomes 10.1.2.2 port 80",
            "host route 10.1.2.0/24 dev br-b",
            "host link received by br-a",
            "host route 10.1.2.0/24 dev br-b",
        ];
        assert_eq!(advice("10.1.1.2", "10.1.1.1", &in_bridge), advice("10.1.1.2", "10.1.1.1", &published));
        let sent = ["host sent sent", "host route 10.1.2.0/24 dev br-b", "host bridge bridge br-b from itself to veth3", "b link received by eth0"];
        assert_eq!(advice("10.1.2.1", "10.1.2.2", &sent), "iptables -I OUTPUT -o br-b -d 10.1.2.2 -m conntrack --ctstate NEW -j DROP");
        let beside = ["a sent sent", "b link received by mv0"];
        assert!(advice("10.1.1.2", "10.1.2.2", &beside).contains("arrives in b (received by mv0)"));
    }

    #[test]
    fn forged_sources_are_refused_in_the_way_that_their_version_has() {
        let written = |link: &str| {
            [
                "a sent written to eth0 for 02:00:00:00:00:01".to_owned(),
                format!("host link received by {link}"),
                "host route 10.1.2.0/24 dev br-b".to_owned(),
            ]
        };
        let drop_raw = "; or start a without what writing frames needs: --cap-drop NET_RAW";
        let cases = [
            (
                "10.1.1.2",
                "10.1.2.2",
                "br-a",
                format!("iptables -I FORWARD -i br-a -o br-b -m conntrack --ctstate NEW -m conntrack ! --ctstate DNAT -j DROP{drop_raw}"),
            ),
            (
                "10.1.9.9",
                "10.1.2.2",
                "br.7",
                format!(
                    "iptables -I FORWARD -i br.7 -o br-b -m conntrack --ctstate NEW -m conntrack ! --ctstate DNAT -j DROP; or refuse forged sources: sysctl -w net.ipv4.conf.br/7.rp_filter=1{drop_raw}"
                ),
            ),
            (
                "fd00::9",
                "fd00::2",
                "$(id)",
                format!(
                    "ip6tables -I FORWARD -i '$(id)' -o br-b -m conntrack --ctstate NEW -m conntrack ! --ctstate DNAT -j DROP; or refuse forged sources: ip6tables -t raw -I PREROUTING -i '$(id)' -m rpfilter --invert -j DROP{drop_raw}"
                ),
            ),
        ];
        for (source, destination, link, expected) in cases {
            let steps = written(link);
            let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
            assert_eq!(advice(source, destination, &steps), expected, "{source} by {link}");
        }
    }
}
