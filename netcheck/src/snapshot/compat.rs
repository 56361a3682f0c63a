//! Matches and targets of iptables, which nf_tables runs through its `match` and `target` expressions with the kernel's own structures.
//! `include/uapi/linux/netfilter/xt_*.h`, `net/netfilter/xt_*.c`.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::route::PortRange;
use super::{Bytes, Mac};

/// A match (`-m NAME`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Match {
    /// `addrtype`.
    Addrtype {
        /// Condition on the source.
        source: Option<AddressType>,
        /// Condition on the destination.
        destination: Option<AddressType>,
        /// Looks only at the incoming link.
        limit_iif: bool,
        /// Looks only at the outgoing link.
        limit_oif: bool,
    },
    /// `comment`: always matches.
    Comment(String),
    /// `connmark`: `(mark & mask) == mark`.
    Connmark {
        /// Value.
        mark: u32,
        /// Bits that count.
        mask: u32,
        /// Matches when it does not.
        invert: bool,
    },
    /// `conntrack` and `state`.
    Conntrack(Box<CtMatch>),
    /// `icmp`.
    Icmp(IcmpMatch),
    /// `icmp6`.
    Icmp6(IcmpMatch),
    /// `iprange`.
    Iprange {
        /// Condition on the source.
        source: Option<IpRange>,
        /// Condition on the destination.
        destination: Option<IpRange>,
    },
    /// `limit`, `hashlimit`, `statistic`, `recent`, `quota`, `connlimit`, `connbytes`, `time`…: may match or not. The name.
    Sometimes(String),
    /// `mac`: source address of the frame.
    Mac {
        /// The address.
        address: Mac,
        /// Matches when it is another.
        invert: bool,
    },
    /// `mark`: `(mark & mask) == value`.
    Mark {
        /// Value.
        mark: u32,
        /// Bits that count.
        mask: u32,
        /// Matches when it does not.
        invert: bool,
    },
    /// `multiport`.
    Multiport(Multiport),
    /// `owner`, `cgroup`, `socket`…: about the local socket, which only the host's own packets have. The name.
    Local(String),
    /// `physdev`: the bridge ports of a bridged frame.
    Physdev {
        /// Name of the incoming port, with `+` for a prefix; empty for any.
        input: String,
        /// Name of the outgoing port.
        output: String,
        /// `XT_PHYSDEV_OP_*`: which conditions there are: 1 in, 2 out, 4 bridged, 8 is-in, 16 is-out.
        conditions: u8,
        /// Which of them are inverted.
        invert: u8,
    },
    /// `pkttype`: `PACKET_HOST` 0, `BROADCAST` 1, `MULTICAST` 2.
    Pkttype {
        /// Which.
        kind: u32,
        /// Matches when it is another.
        invert: bool,
    },
    /// `rpfilter`: the reverse path.
    Rpfilter {
        /// `XT_RPFILTER_*`: 1 loose, 2 valid mark, 4 accept local, 8 invert.
        flags: u8,
    },
    /// `set`: in an ipset.
    Set(SetMatch),
    /// `tcp`.
    Tcp {
        /// Ports.
        ports: PortMatch,
        /// Flags of the segment.
        flags: Option<TcpFlags>,
        /// An option that must be there (or not, when `invert_option`); 0 for none.
        option: u8,
        /// Matches when the option is not there.
        invert_option: bool,
    },
    /// `udp`.
    Udp(PortMatch),
    /// A match, or a revision of one, that is not understood: may match or not.
    Opaque {
        /// Its name.
        name: String,
        /// Its revision.
        revision: u32,
        /// The kernel's structure.
        bytes: Bytes,
    },
}

/// Types of address, as bits `1 << RTN_*`: 2 unicast, 4 local, 8 broadcast, 16 anycast, 32 multicast, 64 blackhole, 128 unreachable, 256 prohibit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AddressType {
    /// Any of these.
    pub types: u16,
    /// None of these.
    pub invert: bool,
}

/// `conntrack`: every condition that is there must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct CtMatch {
    /// States and whether they are inverted. `XT_CONNTRACK_STATE_*` bits: 1 invalid, 2 established, 4 related, 8 new, 64 snat, 128 dnat, 256 untracked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<(u16, bool)>,
    /// `IPS_*` bits: any of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<(u16, bool)>,
    /// Whether it is the original direction that is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original: Option<bool>,
    /// IP protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<(u16, bool)>,
    /// Address and mask of the original source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original_source: Option<(IpAddr, IpAddr, bool)>,
    /// Address and mask of the original destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original_destination: Option<(IpAddr, IpAddr, bool)>,
    /// Address and mask of the reply's source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_source: Option<(IpAddr, IpAddr, bool)>,
    /// Address and mask of the reply's destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_destination: Option<(IpAddr, IpAddr, bool)>,
    /// Ports of the original source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original_source_ports: Option<(PortRange, bool)>,
    /// Ports of the original destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original_destination_ports: Option<(PortRange, bool)>,
    /// Ports of the reply's source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_source_ports: Option<(PortRange, bool)>,
    /// Ports of the reply's destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_destination_ports: Option<(PortRange, bool)>,
    /// Has a condition on the time until it expires: may match or not.
    pub expires: bool,
}

/// `icmp` and `icmp6`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IcmpMatch {
    /// Type; 255 is any for `icmp`.
    pub kind: u8,
    /// Lowest code.
    pub code_from: u8,
    /// Highest code.
    pub code_to: u8,
    /// Matches when it does not.
    pub invert: bool,
}

/// Addresses, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IpRange {
    /// First.
    pub from: IpAddr,
    /// Last.
    pub to: IpAddr,
    /// Outside of them.
    pub invert: bool,
}

/// `multiport`: TCP, UDP, UDP-Lite, SCTP, DCCP.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Multiport {
    /// Which ports.
    pub kind: MultiportKind,
    /// Any of these.
    pub ports: Vec<PortRange>,
    /// None of these.
    pub invert: bool,
}

/// `XT_MULTIPORT_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MultiportKind {
    /// The destination port.
    Destination,
    /// Either port.
    Either,
    /// The source port.
    Source,
}

/// Ports of `tcp` and `udp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortMatch {
    /// Source ports.
    pub source: PortRange,
    /// Outside of them.
    pub invert_source: bool,
    /// Destination ports.
    pub destination: PortRange,
    /// Outside of them.
    pub invert_destination: bool,
}

/// `tcp --tcp-flags`: `(flags & mask) == set`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TcpFlags {
    /// Flags that count: 1 FIN, 2 SYN, 4 RST, 8 PSH, 16 ACK, 32 URG.
    pub mask: u8,
    /// Those of them that are set.
    pub set: u8,
    /// Matches when it does not.
    pub invert: bool,
}

/// `set`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SetMatch {
    /// The set's [`super::IpSet::index`].
    pub index: u16,
    /// How many dimensions of the key there are.
    pub dimensions: u8,
    /// Bit n+1: dimension n is of the source; otherwise of the destination.
    pub source: u8,
    /// Not in the set.
    pub invert: bool,
    /// Has conditions on counters: may match or not.
    pub counters: bool,
}

/// A target (`-j NAME`). Those that give a verdict end the rule with it; the others go on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// `AUDIT`, `CHECKSUM`, `CLASSIFY`, `DSCP`, `IDLETIMER`, `LED`, `LOG`, `NFLOG`, `SECMARK`, `TCPMSS`, `TRACE`, `TTL`…: no influence on where the packet goes. The name.
    Continue(String),
    /// `CONNMARK`: the connection's mark, possibly from or to the packet's.
    Connmark {
        /// 0 set, 1 save (packet to connection), 2 restore (connection to packet).
        mode: u8,
        /// Value.
        ctmark: u32,
        /// Bits of the connection's mark.
        ctmask: u32,
        /// Bits of the packet's mark.
        nfmask: u32,
    },
    /// `DNAT`: accepts.
    Dnat(NatRange),
    /// `MARK`: `mark = (mark & !mask) ^ value`.
    Mark {
        /// Value.
        mark: u32,
        /// Bits that are cleared first.
        mask: u32,
    },
    /// `MASQUERADE`: accepts.
    Masquerade(NatRange),
    /// `NETMAP`: the prefix of the address becomes that of the range; accepts.
    Netmap(NatRange),
    /// `CT --notrack` and `NOTRACK`.
    Notrack,
    /// `CT` with a zone or helper.
    Ct {
        /// Zone.
        zone: u16,
        /// No conntrack for this packet.
        notrack: bool,
        /// The helper that watches the connection, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        helper: Option<String>,
    },
    /// `REDIRECT`: accepts.
    Redirect(NatRange),
    /// `REJECT`: drops, with a message. `enum ipt_reject_with` or `ip6t_reject_with`.
    Reject {
        /// Which message.
        with: u32,
    },
    /// `SET`: changes ipsets; goes on.
    Set(SetTarget),
    /// `SNAT`: accepts.
    Snat(NatRange),
    /// `TPROXY`: hands the packet to a local socket and accepts, if there is one; drops otherwise.
    Tproxy {
        /// Where the socket is; zero for the incoming link's own.
        address: IpAddr,
        /// Its port; 0 for the packet's.
        port: u16,
        /// Value of the mark.
        mark: u32,
        /// Bits of the mark that are changed.
        mask: u32,
    },
    /// A target, or a revision of one, that is not understood: anything may happen.
    Opaque {
        /// Its name.
        name: String,
        /// Its revision.
        revision: u32,
        /// The kernel's structure.
        bytes: Bytes,
    },
}

/// What an address and port may become (`struct nf_nat_range2`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct NatRange {
    /// `NF_NAT_RANGE_*`: 1 addresses, 2 ports, 4 random, 8 persistent, 16 random fully, 32 port offset, 64 netmap.
    pub flags: u32,
    /// First and last address, when they change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addresses: Option<(IpAddr, IpAddr)>,
    /// Ports, when they change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<PortRange>,
}

/// What `SET` changes: the sets' [`super::IpSet::index`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SetTarget {
    /// Adds to this one.
    pub add: Option<u16>,
    /// Deletes from this one.
    pub delete: Option<u16>,
    /// Gives the packet a mark that elements of a set have.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub marks: bool,
}
