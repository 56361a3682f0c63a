//! Ports of the host.

use engine::demand::Port;
use engine::types::strings::parse_ports;

use super::from_yaml_string;

/// Ports of the host that may lead into containers: `ephemeral` (the engine chooses), or `[ADDRESS:]PORT[-PORT]`, as `8000-8999` or
/// `127.0.0.1:1024-65535`. Without an address every address is covered; an address covers only itself. A range with all unprivileged ports covers
/// those that the engine chooses, too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(try_from = "String")]
pub enum PortGrant {
    /// Free ports that the engine chooses, on any address.
    Ephemeral,
    /// A range, on one address or on any.
    Range {
        /// The address; `None`: any.
        address: Option<std::net::IpAddr>,
        /// First and last.
        ports: (u16, u16),
    },
}

from_yaml_string!(PortGrant, "127.0.0.1:8000-8999");

impl PortGrant {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text == "ephemeral" {
            return Ok(Self::Ephemeral);
        }
        let (address, ports) = match text.rsplit_once(':') {
            Some((address, ports)) => {
                let bare = address.trim_start_matches('[').trim_end_matches(']');
                (Some(bare.parse().map_err(|_| format!("`{address}` is no address"))?), ports)
            }
            None => (None, text),
        };
        let ports = parse_ports(ports).ok_or_else(|| format!("`{ports}` is neither a port nor a range of ports"))?;
        Ok(Self::Range { address, ports })
    }

    /// Whether it covers a port.
    #[must_use]
    pub fn covers(&self, port: &Port) -> bool {
        match (self, port.ports) {
            (Self::Ephemeral, None) => true,
            (Self::Ephemeral, Some(_)) => false,
            (Self::Range { address, ports: (first, last) }, asked) => {
                // The engine chooses among those of `net.ipv4.ip_local_port_range`, 32768–60999 unless the host says otherwise.
                let (from, to) = asked.unwrap_or((1024, u16::MAX));
                *first <= from && to <= *last && (address.is_none() || *address == port.address)
            }
        }
    }
}
