//! The kernel's switches, as files below `/proc/sys/net` of the namespace that a thread is in.

use std::fmt::Display;

use crate::snapshot::{Ipv4Conf, Ipv6Conf, Namespace};

/// Switches that would change a namespace while it is looked at: redirects, router advertisements, looking for duplicate addresses,
/// addresses of the kernel's own making.
const QUIET: [(&str, &str); 14] = [
    ("ipv4/conf/all/accept_redirects", "0"),
    ("ipv4/conf/default/accept_redirects", "0"),
    ("ipv4/conf/all/secure_redirects", "0"),
    ("ipv4/conf/default/secure_redirects", "0"),
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/dad_transmits", "0"),
    ("ipv6/conf/all/accept_ra", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/all/accept_redirects", "0"),
    ("ipv6/conf/default/accept_redirects", "0"),
    ("ipv6/conf/default/router_solicitations", "0"),
    // IN6_ADDR_GEN_MODE_NONE: link-local addresses come from the snapshot like all others.
    ("ipv6/conf/default/addr_gen_mode", "1"),
    ("ipv6/conf/default/disable_ipv6", "0"),
];

/// What could not be set.
pub(super) type Failures = Vec<String>;

/// Sets one; a value that is there already is not written.
fn set(name: &str, value: &dyn Display, failures: &mut Failures) {
    let path = format!("/proc/sys/net/{name}");
    let value = value.to_string();
    let current = std::fs::read_to_string(&path);
    if current.as_ref().is_ok_and(|current| current.trim() == value) {
        return;
    }
    match std::fs::write(&path, &value) {
        Ok(()) => {}
        // What this kernel does not have is off.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && value == "0" => {}
        Err(error) => failures.push(format!("{} = {value}: {error}", name.replace('/', "."))),
    }
}

/// Before there are links: what new ones get.
pub(super) fn quiet() -> Failures {
    let mut failures = Failures::new();
    for (name, value) in QUIET {
        set(name, &value, &mut failures);
    }
    failures
}

/// When there are links, and before they have addresses.
pub(super) fn apply(namespace: &Namespace) -> Failures {
    let mut failures = Failures::new();
    // `all` first: writing it writes every link.
    ipv4("all", &namespace.ipv4_all, &mut failures);
    ipv6("all", &namespace.ipv6_all, &mut failures);
    ipv4("default", &namespace.ipv4_default, &mut failures);
    for link in &namespace.links {
        if let Some(conf) = &link.ipv4 {
            ipv4(&link.name, conf, &mut failures);
        }
        // An answer for an anycast address is given at once, not after a random time (RFC 4861 §7.2.7).
        set(&format!("ipv6/neigh/{}/proxy_delay", link.name), &0, &mut failures);
        match &link.ipv6 {
            Some(conf) => ipv6(&link.name, conf, &mut failures),
            None => set(&format!("ipv6/conf/{}/disable_ipv6", link.name), &1, &mut failures),
        }
    }
    for name in ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables", "bridge-nf-filter-vlan-tagged"] {
        let value = namespace.sysctls.get(&format!("net/bridge/{name}")).map_or("0", |value| value.trim());
        set(&format!("bridge/{name}"), &value, &mut failures);
    }
    failures
}

fn ipv4(name: &str, conf: &Ipv4Conf, failures: &mut Failures) {
    let Ipv4Conf {
        forwarding,
        rp_filter,
        route_localnet,
        accept_local,
        src_valid_mark,
        proxy_arp,
        proxy_arp_pvlan,
        arp_ignore,
        arp_announce,
        arp_accept,
        accept_redirects: _,
        send_redirects,
        accept_source_route,
    } = *conf;
    let values = [
        ("forwarding", u8::from(forwarding)),
        ("rp_filter", rp_filter),
        ("route_localnet", u8::from(route_localnet)),
        ("accept_local", u8::from(accept_local)),
        ("src_valid_mark", u8::from(src_valid_mark)),
        ("proxy_arp", u8::from(proxy_arp)),
        ("proxy_arp_pvlan", u8::from(proxy_arp_pvlan)),
        ("arp_ignore", arp_ignore),
        ("arp_announce", arp_announce),
        ("arp_accept", arp_accept),
        ("send_redirects", u8::from(send_redirects)),
        ("accept_source_route", u8::from(accept_source_route)),
        ("accept_redirects", 0),
    ];
    for (switch, value) in values {
        set(&format!("ipv4/conf/{name}/{switch}"), &value, failures);
    }
}

fn ipv6(name: &str, conf: &Ipv6Conf, failures: &mut Failures) {
    let Ipv6Conf { forwarding, force_forwarding, disable_ipv6, accept_ra: _, accept_redirects: _, proxy_ndp, accept_source_route } = *conf;
    let values = [
        ("disable_ipv6", i32::from(disable_ipv6)),
        ("forwarding", i32::from(forwarding)),
        ("force_forwarding", i32::from(force_forwarding)),
        ("proxy_ndp", i32::from(proxy_ndp)),
        ("accept_source_route", accept_source_route),
        ("accept_ra", 0),
        ("accept_redirects", 0),
    ];
    for (switch, value) in values {
        set(&format!("ipv6/conf/{name}/{switch}"), &value, failures);
    }
}
