//! What a violation is called, how bad it is, why it is one, and the smallest change that ends it.

use policies::isolation::{Party, PartyKind};

use crate::report::document::{Severity, Step};
use crate::snapshot::Snapshot;

/// Kind, severity and reason of a flow that is against the policy.
pub(super) fn judge(from: &Party, to: &Party) -> (&'static str, Severity, String) {
    use PartyKind::{Container, Host, Metadata, Namespace, Outside};
    let (a, b) = (from.name.as_str(), to.name.as_str());
    match (from.kind, to.kind) {
        (Container, Container) => between_containers(from, to),
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

fn between_containers(from: &Party, to: &Party) -> (&'static str, Severity, String) {
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
        None => ("cross-network", Severity::High, format!("{a} and {b} share no network, and {b} does not publish this")),
    }
}

/// The smallest change that ends it.
pub(super) fn fix(snapshot: &Snapshot, from: &Party, to: &Party, trace: &[Step]) -> String {
    let crossing = Crossing::of(trace);
    let ipv6 = trace.iter().any(|step| step.table.as_deref().is_some_and(|table| table.starts_with("ip6 ")));
    let own_table = snapshot.namespace(snapshot.this_host).is_some_and(|host| host.tables.iter().any(|table| table.name == "docker-bridges"));
    match (crossing.input.as_deref(), crossing.output.as_deref()) {
        _ if to.kind == PartyKind::Host => format!("bind the service to an address that {} has no route to, or drop it in INPUT", from.name),
        (Some(input), Some(output)) if input == output => {
            format!("sysctl -w net.bridge.bridge-nf-call-iptables=1, or isolate the ports: bridge link set dev PORT isolated on ({input})")
        }
        (Some(input), Some(output)) if own_table => {
            let family = if ipv6 { "ip6" } else { "ip" };
            format!("nft insert rule {family} docker-bridges filter-FORWARD iifname \"{input}\" oifname \"{output}\" drop")
        }
        (Some(input), Some(output)) => {
            let command = if ipv6 { "ip6tables" } else { "iptables" };
            let spoofed =
                if crossing.spoofed { format!("; sysctl -w net.ipv4.conf.{input}.rp_filter=1 stops forged sources") } else { String::new() };
            format!("{command} -I DOCKER-USER -i {input} -o {output} -m conntrack --ctstate NEW -j DROP{spoofed}")
        }
        _ => match trace.iter().rev().find(|step| step.kind == "link") {
            Some(step) => format!("it does not cross the host's FORWARD: remove the link by which it arrives in {} ({})", step.at, step.text),
            None => String::new(),
        },
    }
}

/// How a packet crosses the host.
#[derive(Default)]
struct Crossing {
    input: Option<String>,
    output: Option<String>,
    spoofed: bool,
}

impl Crossing {
    fn of(trace: &[Step]) -> Self {
        let mut crossing = Self::default();
        for step in trace.iter().filter(|step| step.at == "host") {
            let word = |before: &str| step.text.split_once(before).and_then(|(_, after)| after.split_whitespace().next()).map(str::to_owned);
            match step.kind.as_str() {
                "link" if crossing.input.is_none() => crossing.input = word("received by "),
                "route" => crossing.output = word(" dev ").or(crossing.output),
                _ => {}
            }
        }
        crossing.spoofed = trace.iter().any(|step| step.kind == "sent" && step.text.starts_with("written"));
        crossing
    }
}
