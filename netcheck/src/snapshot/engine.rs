//! What the engine says it has made. Facts for names and grouping: reachability never rests on them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Mac, NamespaceId};

/// An engine's containers and networks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Engine {
    /// Its version, as it says.
    pub version: String,
    /// Running containers, by name.
    pub containers: Vec<Container>,
    /// Networks, by name.
    pub networks: Vec<Network>,
}

/// A running container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Container {
    /// Its full id.
    pub id: String,
    /// Its name, without the slash.
    pub name: String,
    /// Its image, as it was named.
    pub image: String,
    /// Its first process, in the engine's pid namespace.
    pub pid: u32,
    /// The namespace it was found in; none when it could not be found: an unknown endpoint.
    pub namespace: Option<NamespaceId>,
    /// Where the engine keeps its namespace.
    pub sandbox_key: String,
    /// `HostConfig.NetworkMode`: `host`, `none`, `container:ID` or a network.
    pub network_mode: String,
    /// Labels. The container's author chose them.
    pub labels: BTreeMap<String, String>,
    /// `com.docker.compose.project`.
    pub project: Option<String>,
    /// `com.docker.compose.service`.
    pub service: Option<String>,
    /// Networks it is attached to, by name.
    pub attachments: Vec<Attachment>,
    /// Ports that the engine publishes for it.
    pub published: Vec<PublishedPort>,
    /// What its processes may do with the network.
    pub capabilities: Capabilities,
}

/// What a container's processes may do with their network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// `CAP_NET_RAW`: any packet. The engine's default.
    pub net_raw: bool,
    /// `CAP_NET_ADMIN`: its own addresses, routes and rules.
    pub net_admin: bool,
}

/// A container's attachment to a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// The network's name.
    pub network: String,
    /// The network's id.
    pub network_id: String,
    /// IPv4 address.
    pub ipv4: Option<IpAddr>,
    /// IPv6 address.
    pub ipv6: Option<IpAddr>,
    /// Hardware address.
    pub mac: Option<Mac>,
}

/// A port of the host that leads to a port of a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PublishedPort {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// In the container.
    pub container_port: u16,
    /// Address of the host; `0.0.0.0` or `::` for all.
    pub host_address: IpAddr,
    /// On the host.
    pub host_port: u16,
}

/// A network of the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// Its full id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `bridge`, `macvlan`, `ipvlan`, `overlay`, `host`, `null`, or a plug-in.
    pub driver: String,
    /// `local` or `swarm`.
    pub scope: String,
    /// Promised to have no way out.
    pub internal: bool,
    /// Has IPv6.
    pub ipv6: bool,
    /// Containers on it may talk to each other (`com.docker.network.bridge.enable_icc`, true unless said).
    pub icc: bool,
    /// Name of its bridge link on the host, when its driver is `bridge`.
    pub bridge: Option<String>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Subnets.
    pub subnets: Vec<Subnet>,
}

/// A subnet of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// Its prefix.
    pub subnet: IpNet,
    /// The host's address in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}
