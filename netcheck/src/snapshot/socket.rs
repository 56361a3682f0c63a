//! Sockets that wait for somebody.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A socket that takes the first packet of a flow. `include/uapi/linux/inet_diag.h`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    /// IP protocol: 6 TCP (listening), 17 UDP (unconnected).
    pub protocol: u8,
    /// What it is bound to; `0.0.0.0` or `::` for every address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// An IPv6 socket that does not take IPv4: only when bound to `::`.
    #[serde(default)]
    pub v6only: bool,
    /// ifindex of the link that it is bound to, 0 for every link.
    #[serde(default)]
    pub link: u32,
    /// Its inode, 0 when unknown.
    #[serde(default)]
    pub inode: u64,
    /// The user who made it.
    #[serde(default)]
    pub uid: u32,
    /// A process that holds it, when it could be found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
}

/// A process that holds a socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// In the collector's pid namespace.
    pub pid: u32,
    /// `comm`: fifteen bytes that the process itself can choose.
    pub command: String,
    /// Where it passes connections on to, if it is the engine's proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
}

/// Where a `docker-proxy` connects to (`-container-ip`, `-container-port`), from its own namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Proxy {
    /// The container's address.
    pub address: IpAddr,
    /// The container's port.
    pub port: u16,
}
