//! One packet, as it is on the wire: what a witness is made of.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

/// The first packet of a flow, or an answer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Packet {
    /// Source address.
    pub source: IpAddr,
    /// Destination address, of the same family.
    pub destination: IpAddr,
    /// What it carries.
    #[serde(flatten)]
    pub transport: Transport,
    /// Type of service, or traffic class.
    pub tos: u8,
    /// Bytes with the IP header.
    pub length: u16,
}

/// What a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(tag = "protocol", rename_all = "lowercase")]
pub enum Transport {
    /// An ICMP message.
    Icmp {
        /// Type: 8 echo request, 0 echo reply.
        kind: u8,
        /// Code.
        code: u8,
        /// Identifier of an echo.
        id: u16,
    },
    /// An ICMPv6 message.
    Icmpv6 {
        /// Type: 128 echo request, 129 echo reply, 135 neighbour solicitation, …
        kind: u8,
        /// Code.
        code: u8,
        /// Identifier of an echo.
        id: u16,
    },
    /// A TCP segment.
    Tcp {
        /// Source port.
        source_port: u16,
        /// Destination port.
        destination_port: u16,
        /// 1 FIN, 2 SYN, 4 RST, 8 PSH, 16 ACK, 32 URG, 64 ECE, 128 CWR.
        flags: u8,
    },
    /// A UDP datagram.
    Udp {
        /// Source port.
        source_port: u16,
        /// Destination port.
        destination_port: u16,
    },
}

/// The protocols that flows are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// ICMP echo.
    Icmp,
    /// ICMPv6 echo.
    Icmpv6,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// SYN.
pub const SYN: u8 = 2;
/// ACK.
pub const ACK: u8 = 16;
/// ECE and CWR, with which a SYN offers explicit congestion notification. RFC 3168 §6.1.1.
pub const ECN: u8 = 64 | 128;
/// Flags that a SYN may have besides: PSH, URG, ECE, CWR. `tcp_valid_flags`.
pub(crate) const BESIDES_SYN: u8 = 8 | 32 | ECN;

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Icmp, Self::Icmpv6, Self::Tcp, Self::Udp];

    /// Its name, as users write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Icmp => "icmp",
            Self::Icmpv6 => "icmpv6",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// The protocol of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.name() == name)
    }

    /// Whether it has ports.
    #[must_use]
    pub const fn has_ports(self) -> bool {
        matches!(self, Self::Tcp | Self::Udp)
    }

    /// Whether it runs over this version of IP.
    #[must_use]
    pub const fn runs_over(self, ipv4: bool) -> bool {
        match self {
            Self::Icmp => ipv4,
            Self::Icmpv6 => !ipv4,
            Self::Tcp | Self::Udp => true,
        }
    }

    /// The first packet of a flow.
    #[must_use]
    pub const fn first(self, source_port: u16, destination_port: u16) -> Transport {
        match self {
            Self::Icmp => Transport::Icmp { kind: 8, code: 0, id: source_port },
            Self::Icmpv6 => Transport::Icmpv6 { kind: 128, code: 0, id: source_port },
            Self::Tcp => Transport::Tcp { source_port, destination_port, flags: SYN },
            Self::Udp => Transport::Udp { source_port, destination_port },
        }
    }
}

impl Transport {
    /// The protocol.
    #[must_use]
    pub const fn protocol(self) -> Protocol {
        match self {
            Self::Icmp { .. } => Protocol::Icmp,
            Self::Icmpv6 { .. } => Protocol::Icmpv6,
            Self::Tcp { .. } => Protocol::Tcp,
            Self::Udp { .. } => Protocol::Udp,
        }
    }

    /// Its number in the IP header.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Icmp { .. } => 1,
            Self::Icmpv6 { .. } => 58,
            Self::Tcp { .. } => 6,
            Self::Udp { .. } => 17,
        }
    }

    /// Source and destination port, where there are any.
    #[must_use]
    pub const fn ports(self) -> Option<(u16, u16)> {
        match self {
            Self::Tcp { source_port, destination_port, .. } | Self::Udp { source_port, destination_port } => Some((source_port, destination_port)),
            Self::Icmp { .. } | Self::Icmpv6 { .. } => None,
        }
    }
}

impl Packet {
    /// A packet with nothing unusual about it.
    #[must_use]
    pub fn new(source: IpAddr, destination: IpAddr, transport: Transport) -> Self {
        let header = if source.is_ipv4() { 20 } else { 40 };
        let length = match transport {
            Transport::Tcp { .. } => header + 20,
            Transport::Icmp { .. } | Transport::Icmpv6 { .. } | Transport::Udp { .. } => header + 8,
        };
        Self { source, destination, transport, tos: 0, length }
    }

    /// Whether it is IPv4.
    #[must_use]
    pub const fn is_ipv4(&self) -> bool {
        self.source.is_ipv4()
    }

    /// The same, of a sender with `tcp_ecn`: a SYN offers ECN.
    #[must_use]
    pub const fn offering_ecn(mut self) -> Self {
        if let Transport::Tcp { flags, .. } = &mut self.transport {
            *flags |= ECN;
        }
        self
    }

    /// The packet that answers it: SYN+ACK, a datagram back, an echo reply.
    #[must_use]
    pub const fn answer(&self) -> Transport {
        match self.transport {
            Transport::Icmp { id, .. } => Transport::Icmp { kind: 0, code: 0, id },
            Transport::Icmpv6 { id, .. } => Transport::Icmpv6 { kind: 129, code: 0, id },
            Transport::Tcp { source_port, destination_port, .. } => {
                Transport::Tcp { source_port: destination_port, destination_port: source_port, flags: SYN | ACK }
            }
            Transport::Udp { source_port, destination_port } => Transport::Udp { source_port: destination_port, destination_port: source_port },
        }
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.transport.protocol().name();
        let side = |address: IpAddr, port: u16| match address {
            IpAddr::V4(v4) => format!("{v4}:{port}"),
            IpAddr::V6(v6) => format!("[{v6}]:{port}"),
        };
        match self.transport {
            Transport::Icmp { kind, .. } | Transport::Icmpv6 { kind, .. } => {
                write!(f, "{name} {} > {} type {kind}", self.source, self.destination)
            }
            Transport::Tcp { source_port, destination_port, flags } => {
                let flags = match flags {
                    SYN => " SYN".to_owned(),
                    both if both == SYN | ACK => " SYN+ACK".to_owned(),
                    offer if offer == SYN | ECN => " SYN+ECE+CWR".to_owned(),
                    other => format!(" flags {other:#x}"),
                };
                write!(f, "{name} {} > {}{flags}", side(self.source, source_port), side(self.destination, destination_port))
            }
            Transport::Udp { source_port, destination_port } => {
                write!(f, "{name} {} > {}", side(self.source, source_port), side(self.destination, destination_port))
            }
        }
    }
}
