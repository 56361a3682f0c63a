//! Who flows are between, as far as a policy can tell them apart.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::ports::{Flows, Ports};

/// An endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Party {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: PartyKind,
    /// Identifies its network namespace: parties with the same one are not isolated from each other.
    pub namespace: Option<u64>,
    /// Networks that it is attached to, by name.
    pub networks: BTreeMap<String, Membership>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Compose project.
    pub project: Option<String>,
    /// Compose service.
    pub service: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Ports that the engine publishes for it.
    pub published: Vec<Publication>,
}

/// What a party is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PartyKind {
    /// A container of the engine.
    #[default]
    Container,
    /// The host itself, or a container on its network.
    Host,
    /// The cloud's metadata service.
    Metadata,
    /// A namespace that the engine does not know.
    Namespace,
    /// A neighbour on the uplink.
    Outside,
}

/// How a network is, for those on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    /// Has no way out.
    pub internal: bool,
    /// Those on it may talk to each other.
    pub icc: bool,
}

/// A published port, by where it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publication {
    /// UDP rather than TCP.
    pub udp: bool,
    /// The container's port.
    pub port: u16,
    /// Published on the host's loopback only.
    pub loopback: bool,
}

impl Party {
    /// Whether it has a way out: a network that is not internal.
    #[must_use]
    pub fn has_way_out(&self) -> bool {
        self.kind != PartyKind::Container || self.networks.values().any(|network| !network.internal)
    }

    /// Whether it is on a network with another, and may talk to it there.
    #[must_use]
    pub fn shares_network(&self, other: &Self) -> bool {
        self.networks.iter().any(|(name, network)| network.icc && other.networks.contains_key(name))
    }

    /// Ports that the engine publishes for it; on the host's loopback too when that counts.
    #[must_use]
    pub fn published_flows(&self, loopback: bool) -> Flows {
        let mut flows = Flows::default();
        for publication in self.published.iter().filter(|publication| loopback || !publication.loopback) {
            let ports = if publication.udp { &mut flows.udp } else { &mut flows.tcp };
            *ports = ports.union(&Ports::one(publication.port));
        }
        flows
    }
}
