//! Networks and attachments to them: api/swagger.yaml, `NetworkCreateRequest`, `NetworkConnectRequest`, `EndpointSettings`, `IPAM`.

use crate::types::strings::{ContainerReference, Link};
use crate::wire::{Map, Text, body};

body! {
    /// The networks of a container at its creation. docker-py writes the network's name beside them, with `null`.
    pub struct NetworkingConfig<'a> {
        /// Network (name, id, or the beginning of an id) to settings.
        endpoints_config: Map<'a, Option<EndpointSettings<'a>>> = "EndpointsConfig",
    }
}

body! {
    /// A container's attachment to a network.
    pub struct EndpointSettings<'a> {
        /// Addresses that it asks for.
        ipam_config: EndpointIpamConfig<'a> = "IPAMConfig",
        /// Containers whose names it sees on this network.
        links: Vec<Link<'a>> = "Links",
        /// Names that it answers to on this network.
        aliases: Vec<Text<'a>> = "Aliases",
        /// Hardware address (1.44 here).
        mac_address: Text<'a> = "MacAddress",
        /// Options of the network driver; `com.docker.network.endpoint.sysctls` among them.
        driver_opts: Map<'a, Text<'a>> = "DriverOpts",
        /// Preference for the default route (1.48).
        gw_priority: i64 = "GwPriority",
        /// The network, once more. Wins over the key for user-defined networks, on every engine measured.
        network_id: Text<'a> = "NetworkID",
        /// Operational.
        endpoint_id: Text<'a> = "EndpointID",
        /// Operational.
        gateway: Text<'a> = "Gateway",
        /// Operational.
        ip_address: Text<'a> = "IPAddress",
        /// Operational.
        ip_prefix_len: i64 = "IPPrefixLen",
        /// Operational.
        ipv6_gateway: Text<'a> = "IPv6Gateway",
        /// Operational.
        global_ipv6_address: Text<'a> = "GlobalIPv6Address",
        /// Operational.
        global_ipv6_prefix_len: i64 = "GlobalIPv6PrefixLen",
        /// Names that the engine's DNS gives it.
        dns_names: Vec<Text<'a>> = "DNSNames",
    }
}

body! {
    /// Addresses that an attachment asks for.
    pub struct EndpointIpamConfig<'a> {
        /// IPv4.
        ipv4_address: Text<'a> = "IPv4Address",
        /// IPv6.
        ipv6_address: Text<'a> = "IPv6Address",
        /// Link-local ones.
        link_local_ips: Vec<Text<'a>> = "LinkLocalIPs",
    }
}

body! {
    /// The body of `POST /networks/create`.
    pub struct NetworkCreate<'a> {
        /// Its name.
        name: Text<'a> = "Name",
        /// Refuse a second network of this name (to 1.43; always so since).
        check_duplicate: bool = "CheckDuplicate",
        /// `bridge`, `macvlan`, `ipvlan`, `overlay`, or a plugin.
        driver: Text<'a> = "Driver",
        /// `local`, `swarm`, `global`.
        scope: Text<'a> = "Scope",
        /// No way out.
        internal: bool = "Internal",
        /// Plain containers may join a swarm network.
        attachable: bool = "Attachable",
        /// The swarm's ingress.
        ingress: bool = "Ingress",
        /// Only a configuration for others.
        config_only: bool = "ConfigOnly",
        /// The network whose configuration it takes.
        config_from: ConfigReference<'a> = "ConfigFrom",
        /// Address management.
        ipam: Ipam<'a> = "IPAM",
        /// IPv4 (1.48).
        enable_ipv4: bool = "EnableIPv4",
        /// IPv6.
        enable_ipv6: bool = "EnableIPv6",
        /// Options of the driver.
        options: Map<'a, Text<'a>> = "Options",
        /// Labels.
        labels: Map<'a, Text<'a>> = "Labels",
    }
}

body! {
    /// A network whose configuration another takes.
    pub struct ConfigReference<'a> {
        /// Its name.
        network: Text<'a> = "Network",
    }
}

body! {
    /// Address management of a network.
    pub struct Ipam<'a> {
        /// The driver.
        driver: Text<'a> = "Driver",
        /// Its pools.
        config: Vec<IpamPool<'a>> = "Config",
        /// Its options.
        options: Map<'a, Text<'a>> = "Options",
    }
}

body! {
    /// A pool of addresses. The host gets an address in it and a route to it.
    pub struct IpamPool<'a> {
        /// As `172.20.0.0/16`.
        subnet: Text<'a> = "Subnet",
        /// The part that the engine assigns from.
        ip_range: Text<'a> = "IPRange",
        /// The host's address.
        gateway: Text<'a> = "Gateway",
        /// Addresses that are not assigned.
        auxiliary_addresses: Map<'a, Text<'a>> = "AuxiliaryAddresses",
    }
}

body! {
    /// The body of `POST /networks/{id}/connect`.
    pub struct NetworkConnect<'a> {
        /// The container.
        container: ContainerReference<'a> = "Container",
        /// Its attachment.
        endpoint_config: EndpointSettings<'a> = "EndpointConfig",
    }
}

body! {
    /// The body of `POST /networks/{id}/disconnect`.
    pub struct NetworkDisconnect<'a> {
        /// The container.
        container: ContainerReference<'a> = "Container",
        /// Whatever state it is in.
        force: bool = "Force",
    }
}
