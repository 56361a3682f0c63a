//! Networks, and attachments to them.

use super::{labels, used_container, used_network};
use crate::demand::{Demand, Demands, Flag, Name, Role};
use crate::facts::{Facts, ObjectKind, Owner};
use crate::types::network::{ConfigReference, EndpointIpamConfig, EndpointSettings, Ipam, IpamPool, NetworkConnect, NetworkCreate};
use crate::types::strings::{is_host_name, is_object_name, looks_like_id};

pub(super) fn create(body: &NetworkCreate<'_>, facts: &Facts, demands: &mut Demands) {
    let NetworkCreate {
        name,
        check_duplicate: _,
        driver,
        scope,
        internal: _,
        attachable: _,
        ingress,
        config_only,
        config_from,
        ipam: pools,
        enable_ipv4: _,
        enable_ipv6: _,
        options,
        labels: given,
    } = body;
    let name = name.as_deref().unwrap_or_default();
    if !is_object_name(name) || looks_like_id(name) || matches!(name, "default" | "bridge" | "host" | "none" | "create" | "prune") {
        demands.push("Name", Demand::NotUnderstood(format!("`{}` as a network's name", name.escape_debug())));
    }
    if facts.object(ObjectKind::Network, name).is_some_and(|object| object.owner != Owner::Own && object.name == name) {
        demands.push("Name", Demand::Taken(ObjectKind::Network, name.to_owned()));
    }
    let driver = driver.as_deref().unwrap_or_default();
    demands.named("Driver", Name::NetworkDriver, if driver.is_empty() { "bridge" } else { driver });
    if !matches!(scope.as_deref().unwrap_or_default(), "" | "local") || *ingress == Some(true) {
        demands.push("Scope", Demand::NotUnderstood("a network of a swarm".to_owned()));
    }
    let from = config_from.as_ref().and_then(|ConfigReference { network }| network.as_deref()).unwrap_or_default();
    if *config_only == Some(true) || !from.is_empty() {
        demands.push("ConfigOnly", Demand::NotUnderstood("a configuration of another network".to_owned()));
    }
    for (key, value) in options.iter().flat_map(|options| options.iter()) {
        demands.push("Options", Demand::Named(Name::NetworkOption, format!("{key}={value}")));
    }
    if let Some(pools) = pools {
        ipam(pools, demands);
    }
    labels("Labels", given.as_ref(), demands);
}

fn ipam(Ipam { driver, config, options }: &Ipam<'_>, demands: &mut Demands) {
    let driver = driver.as_deref().unwrap_or_default();
    if driver != "default" {
        demands.named("IPAM.Driver", Name::Ipam, driver);
    }
    for (key, value) in options.iter().flat_map(|options| options.iter()) {
        demands.push("IPAM.Options", Demand::Named(Name::Ipam, format!("{key}={value}")));
    }
    for IpamPool { subnet, ip_range, gateway, auxiliary_addresses } in config.iter().flatten() {
        let subnet = subnet.as_deref().unwrap_or_default();
        let Ok(network) = subnet.parse::<ipnet::IpNet>() else {
            let empty = [ip_range, gateway].into_iter().all(|text| text.as_deref().unwrap_or_default().is_empty()) && auxiliary_addresses.is_none();
            if !(subnet.is_empty() && empty) {
                demands.push("IPAM.Config.Subnet", Demand::NotUnderstood(format!("`{}` is no subnet", subnet.escape_debug())));
            }
            continue;
        };
        demands.push("IPAM.Config.Subnet", Demand::Named(Name::Subnet, network.trunc().to_string()));
        let range = ip_range.as_deref().unwrap_or_default();
        if !range.is_empty() && !range.parse::<ipnet::IpNet>().is_ok_and(|range| network.contains(&range)) {
            demands.push("IPAM.Config.IPRange", Demand::NotUnderstood(format!("`{}` is not in {network}", range.escape_debug())));
        }
        let auxiliary = auxiliary_addresses.iter().flat_map(|map| map.values()).map(|address| address.as_str());
        for address in gateway.iter().map(|gateway| gateway.as_str()).chain(auxiliary).filter(|address| !address.is_empty()) {
            if !address.parse::<std::net::IpAddr>().is_ok_and(|address| network.contains(&address)) {
                demands.push("IPAM.Config.Gateway", Demand::NotUnderstood(format!("`{}` is not in {network}", address.escape_debug())));
            }
        }
    }
}

pub(super) fn connect(body: &NetworkConnect<'_>, network: &str, facts: &Facts, demands: &mut Demands) {
    let NetworkConnect { container, endpoint_config } = body;
    let container = container.as_ref().map(ToString::to_string).unwrap_or_default();
    used_container("Container", Role::Container, &container, facts, demands);
    used_network("path", network, facts, demands);
    if let Some(settings) = endpoint_config {
        endpoint(settings, facts, demands);
    }
}

/// What an attachment asks for, beside the network.
pub(super) fn endpoint(settings: &EndpointSettings<'_>, facts: &Facts, demands: &mut Demands) {
    let EndpointSettings {
        ipam_config,
        links,
        aliases,
        mac_address,
        driver_opts,
        gw_priority: _,
        network_id,
        endpoint_id: _,
        gateway: _,
        ip_address: _,
        ip_prefix_len: _,
        ipv6_gateway: _,
        global_ipv6_address: _,
        global_ipv6_prefix_len: _,
        dns_names: _,
    } = settings;
    if let Some(EndpointIpamConfig { ipv4_address, ipv6_address, link_local_ips }) = ipam_config {
        let set = [ipv4_address, ipv6_address].into_iter().flatten().any(|address| !address.is_empty());
        demands.flag("EndpointSettings.IPAMConfig", Flag::StaticAddress, set || link_local_ips.as_ref().is_some_and(|list| !list.is_empty()));
    }
    for link in links.iter().flatten() {
        used_container("EndpointSettings.Links", Role::Link, link.container.as_str(), facts, demands);
    }
    if let Some(alias) = aliases.iter().flatten().find(|alias| !is_host_name(alias)) {
        demands.push("EndpointSettings.Aliases", Demand::NotUnderstood(format!("`{}` as a name on a network", alias.escape_debug())));
    }
    demands.flag("EndpointSettings.MacAddress", Flag::MacAddress, mac_address.as_ref().is_some_and(|address| !address.is_empty()));
    for (key, value) in driver_opts.iter().flat_map(|options| options.iter()) {
        demands.push("EndpointSettings.DriverOpts", Demand::Named(Name::EndpointOption, format!("{key}={value}")));
    }
    if let Some(id) = network_id.as_ref().filter(|id| !id.is_empty()) {
        demands.push("EndpointSettings.NetworkID", Demand::NotUnderstood(format!("`{id}` is not the network of its key, and would win over it")));
    }
}
