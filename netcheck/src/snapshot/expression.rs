//! The instructions of nf_tables. `include/uapi/linux/netfilter/nf_tables.h`, `NFTA_*`; semantics in `net/netfilter/nft_*.c`.

use serde::{Deserialize, Serialize};

use super::Bytes;
use super::compat::{Match, Target};

/// A register: the index of its first 4-byte word, 0–15. `NFT_REG_1..4` are words 0, 4, 8, 12.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Register(pub u8);

/// What an expression puts where, or a map's value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Data {
    /// Bytes for a register.
    Value(Bytes),
    /// What happens to the packet.
    Verdict(Verdict),
}

/// A verdict (`NFT_*`, `NF_*`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Ends this base chain.
    Accept,
    /// `NFT_BREAK`: ends this rule.
    Break,
    /// `NFT_CONTINUE`: goes on with the next rule.
    Continue,
    /// Ends the packet.
    Drop,
    /// Goes to a chain and does not come back to this one.
    Goto(String),
    /// Calls a chain.
    Jump(String),
    /// Hands the packet to a process.
    Queue,
    /// Back to the caller, or the policy.
    Return,
    /// `NF_STOLEN` or any other number: not modelled.
    Other(i32),
}

/// One instruction. An operand that an instruction reads is `source`, the one it writes is `into`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expression {
    /// `into = operation(source)`, over `len` bytes.
    Bitwise {
        /// Reads.
        source: Register,
        /// Writes.
        into: Register,
        /// Bytes.
        len: u32,
        /// What it does.
        operation: BitOperation,
    },
    /// Swaps the bytes of each item of `size` bytes in `len` bytes.
    Byteorder {
        /// Reads.
        source: Register,
        /// Writes.
        into: Register,
        /// True: host to network, false: network to host. Both swap on a little-endian host.
        to_network: bool,
        /// Bytes in all.
        len: u32,
        /// Bytes of an item: 2, 4 or 8.
        size: u32,
    },
    /// Breaks unless the register compares so with the bytes (`memcmp`).
    Cmp {
        /// Reads.
        source: Register,
        /// How.
        operation: CmpOperation,
        /// With what; also says how many bytes count.
        value: Bytes,
    },
    /// Breaks when there are more (or fewer) connections than this.
    Connlimit {
        /// Connections.
        count: u32,
        /// Matches above instead of below.
        over: bool,
    },
    /// Counts; always matches.
    Counter,
    /// `into = conntrack key`.
    Ct {
        /// What.
        key: CtKey,
        /// Of which direction, for keys that have two.
        direction: Option<Direction>,
        /// Writes.
        into: Register,
    },
    /// Sets a property of the connection.
    CtSet {
        /// What.
        key: CtKey,
        /// Of which direction.
        direction: Option<Direction>,
        /// Reads.
        source: Register,
    },
    /// Sends a copy elsewhere; always matches.
    Dup,
    /// Adds to, updates or deletes from a set, and matches when it could.
    Dynset {
        /// The set's name.
        set: String,
        /// 0 add, 1 update, 2 delete.
        operation: u32,
        /// Key.
        key: Register,
        /// Value, for a map.
        data: Option<Register>,
        /// `NFT_DYNSET_F_INV`.
        invert: bool,
    },
    /// `into = bytes of an extension header or option`.
    Exthdr {
        /// Writes.
        into: Register,
        /// Which kind of header.
        kind: ExthdrKind,
        /// Type of the header or option.
        header: u8,
        /// From where in it.
        offset: u32,
        /// How many bytes.
        len: u32,
        /// Writes 1 if it is there and 0 if not, instead of its bytes.
        present: bool,
    },
    /// `into = what the routing tables say`.
    Fib {
        /// Writes.
        into: Register,
        /// What is asked.
        result: FibResult,
        /// `NFTA_FIB_F_*`: 1 source address, 2 destination address, 4 mark, 8 incoming link, 16 outgoing link, 32 present.
        flags: u32,
    },
    /// Adds the flow to a flowtable.
    FlowOffload {
        /// Its name.
        table: String,
    },
    /// Sends the packet out of a link (family netdev); a verdict.
    Fwd {
        /// Register that holds the link's index.
        device: Register,
    },
    /// `into = a number that depends on the packet's bytes`: nondeterministic for us.
    Hash {
        /// Writes.
        into: Register,
        /// The number is below `modulus`, plus `offset`.
        modulus: u32,
        /// See `modulus`.
        offset: u32,
    },
    /// Writes bytes into a register, or gives a verdict.
    Immediate {
        /// Writes; none for a verdict.
        into: Option<Register>,
        /// What.
        data: Data,
    },
    /// Remembers when it was met; always matches.
    Last,
    /// Matches as long as a rate is not exceeded: nondeterministic for us.
    Limit {
        /// Of what.
        unit: LimitUnit,
        /// Matches above the rate instead of below.
        over: bool,
    },
    /// Logs; always matches.
    Log {
        /// What it puts before the line.
        prefix: String,
    },
    /// Breaks unless the key is in the set; a map's value goes into a register, or is the verdict.
    Lookup {
        /// The set's name.
        set: String,
        /// Reads the key.
        source: Register,
        /// Writes the value; none for plain sets and verdict maps.
        into: Option<Register>,
        /// Matches when the key is not there.
        invert: bool,
        /// The set is a verdict map: its value is the verdict.
        verdict: bool,
    },
    /// Source address of the outgoing link; a verdict (accept).
    Masq {
        /// `NF_NAT_RANGE_*`.
        flags: u32,
        /// Registers of the first and last source port.
        ports: Option<(Register, Register)>,
    },
    /// A match of iptables.
    Match(Match),
    /// `into = property of the packet`.
    Meta {
        /// What.
        key: MetaKey,
        /// Writes.
        into: Register,
    },
    /// Sets a property of the packet.
    MetaSet {
        /// What.
        key: MetaKey,
        /// Reads.
        source: Register,
    },
    /// Changes an address; a verdict (accept).
    Nat {
        /// Which.
        kind: NatKind,
        /// `AF_INET` 2 or `AF_INET6` 10.
        family: u32,
        /// Registers of the first and last address; the address stays when none.
        addresses: Option<(Register, Register)>,
        /// Registers of the first and last port (network order); the port stays when none.
        ports: Option<(Register, Register)>,
        /// `NF_NAT_RANGE_*`: 0x40 maps a prefix to a prefix (`NETMAP`).
        flags: u32,
    },
    /// No conntrack for this packet.
    Notrack,
    /// `into = a counter or random number`: nondeterministic for us.
    Numgen {
        /// Writes.
        into: Register,
        /// The number is below `modulus`, plus `offset`.
        modulus: u32,
        /// See `modulus`.
        offset: u32,
        /// Random rather than incremental.
        random: bool,
    },
    /// Runs a named object.
    Objref {
        /// `NFT_OBJECT_*`, see [`super::NfObject`]; 0 when a map chooses it.
        kind: u32,
        /// Its name, or the map's name.
        name: String,
        /// Reads the key, when a map chooses it.
        source: Option<Register>,
    },
    /// `into = bytes of the packet`.
    Payload {
        /// Writes.
        into: Register,
        /// From which header.
        base: PayloadBase,
        /// From where in it.
        offset: u32,
        /// How many bytes.
        len: u32,
    },
    /// Writes bytes into the packet.
    PayloadSet {
        /// Reads.
        source: Register,
        /// In which header.
        base: PayloadBase,
        /// Where in it.
        offset: u32,
        /// How many bytes.
        len: u32,
    },
    /// Hands the packet to a process; a verdict.
    Queue,
    /// Matches until (or after) a volume: nondeterministic for us.
    Quota {
        /// Matches after the volume instead of before.
        over: bool,
    },
    /// Breaks unless the register is (not) within both ends (`memcmp`).
    Range {
        /// Reads.
        source: Register,
        /// Within or not.
        operation: RangeOperation,
        /// Lowest.
        from: Bytes,
        /// Highest.
        to: Bytes,
    },
    /// Destination becomes this host; a verdict (accept).
    Redir {
        /// `NF_NAT_RANGE_*`.
        flags: u32,
        /// Registers of the first and last port.
        ports: Option<(Register, Register)>,
    },
    /// Refuses with a message; a verdict (drop).
    Reject {
        /// `NFT_REJECT_ICMP_UNREACH` 0, `TCP_RST` 1, `ICMPX_UNREACH` 2.
        kind: u32,
        /// The ICMP code.
        code: u8,
    },
    /// `into = property of the route`: `NFT_RT_*`.
    Rt {
        /// Which: 0 classid, 1 next hop v4, 2 next hop v6, 3 tcp mss, 4 xfrm.
        key: u32,
        /// Writes.
        into: Register,
    },
    /// `into = property of the local socket`; breaks when there is none.
    Socket {
        /// Which: 0 transparent, 1 mark, 2 wildcard, 3 cgroup.
        key: u32,
        /// Writes.
        into: Register,
    },
    /// A target of iptables.
    Target(Target),
    /// Hands the packet to a local socket; breaks when there is none.
    Tproxy {
        /// `NFPROTO_*`.
        family: u32,
        /// Register of the address.
        address: Option<Register>,
        /// Register of the port.
        port: Option<Register>,
    },
    /// An instruction that is not understood: the rule may or may not match, and may do anything.
    Opaque {
        /// The kernel's name for it.
        name: String,
        /// Its attributes, as they came.
        bytes: Bytes,
    },
}

/// What `bitwise` does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BitOperation {
    /// `source & other`.
    And(Register),
    /// `(source & mask) ^ xor`, byte by byte.
    Mask {
        /// Bits that are kept.
        mask: Bytes,
        /// Bits that are flipped then.
        xor: Bytes,
    },
    /// `source | other`.
    Or(Register),
    /// Shifted left by this many bits, as host-order words.
    ShiftLeft(u32),
    /// Shifted right.
    ShiftRight(u32),
    /// `source ^ other`.
    Xor(Register),
}

/// `NFT_CMP_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CmpOperation {
    /// Equal.
    Eq,
    /// Greater.
    Gt,
    /// Greater or equal.
    Gte,
    /// Less.
    Lt,
    /// Less or equal.
    Lte,
    /// Not equal.
    Neq,
}

/// `NFT_RANGE_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RangeOperation {
    /// Within.
    Eq,
    /// Outside.
    Neq,
}

/// `IP_CT_DIR_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// As the first packet went.
    Original,
    /// Back.
    Reply,
}

/// Which address a `nat` changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NatKind {
    /// The destination.
    Dnat,
    /// The source.
    Snat,
}

/// `NFT_PAYLOAD_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PayloadBase {
    /// What is in the transport header's payload.
    Inner,
    /// Ethernet.
    Link,
    /// IPv4, IPv6 or ARP.
    Network,
    /// TCP, UDP, ICMP; breaks on fragments that are not the first.
    Transport,
    /// Tunnel header.
    Tunnel,
    /// Any other number: not modelled.
    Other(u32),
}

/// `NFT_EXTHDR_OP_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExthdrKind {
    /// DCCP options.
    Dccp,
    /// IPv4 options.
    Ipv4,
    /// IPv6 extension headers.
    Ipv6,
    /// SCTP chunks.
    Sctp,
    /// TCP options.
    Tcp,
    /// Any other number: not modelled.
    Other(u32),
}

/// What `fib` asks (`NFT_FIB_RESULT_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FibResult {
    /// Type of the address: `RTN_UNICAST` 1, `LOCAL` 2, `BROADCAST` 3, …; four bytes in host order.
    AddressType,
    /// Index of the link.
    Oif,
    /// Name of the link.
    OifName,
}

/// What a `limit` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LimitUnit {
    /// Bytes.
    Bytes,
    /// Packets.
    Packets,
}

macro_rules! keys {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $number:literal $variant:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
            /// A key that is not known here: not modelled.
            Other(u32),
        }

        impl From<u32> for $name {
            fn from(number: u32) -> Self {
                match number {
                    $($number => Self::$variant,)*
                    other => Self::Other(other),
                }
            }
        }

        impl From<$name> for u32 {
            fn from(key: $name) -> Self {
                match key {
                    $($name::$variant => $number,)*
                    $name::Other(other) => other,
                }
            }
        }
    };
}

keys! {
    /// `NFT_META_*`. Values are in host order, four bytes unless said.
    MetaKey {
        /// Length of the packet.
        0 Len,
        /// Ethernet type, two bytes in network order.
        1 Protocol,
        /// Priority of the packet.
        2 Priority,
        /// The mark.
        3 Mark,
        /// Index of the incoming link; breaks when there is none.
        4 Iif,
        /// Index of the outgoing link.
        5 Oif,
        /// Name of the incoming link, sixteen bytes, zeros after it; all zeros when there is none.
        6 IifName,
        /// Name of the outgoing link.
        7 OifName,
        /// `ARPHRD_*` of the incoming link, two bytes.
        8 IifType,
        /// `ARPHRD_*` of the outgoing link.
        9 OifType,
        /// User of the local socket; breaks when there is none.
        10 SkUid,
        /// Group of the local socket.
        11 SkGid,
        /// Tracing, one byte.
        12 NfTrace,
        /// Class of the route.
        13 RtClassId,
        /// Security mark.
        14 SecMark,
        /// `NFPROTO_*` of the packet, one byte.
        15 NfProto,
        /// IP protocol, one byte; breaks when it is not known.
        16 L4Proto,
        /// Name of the bridge that the incoming link is a port of.
        17 BriIifName,
        /// Name of the bridge that the outgoing link is a port of.
        18 BriOifName,
        /// `PACKET_*`, one byte.
        19 PktType,
        /// The processor.
        20 Cpu,
        /// Group of the incoming link.
        21 IifGroup,
        /// Group of the outgoing link.
        22 OifGroup,
        /// Cgroup of the local socket.
        23 Cgroup,
        /// A random number.
        24 PRandom,
        /// Whether it came through IPsec, one byte.
        25 SecPath,
        /// Kind of the incoming link, sixteen bytes.
        26 IifKind,
        /// Kind of the outgoing link.
        27 OifKind,
        /// Vlan of the incoming port, two bytes.
        28 BriIifPvid,
        /// Vlan protocol of the incoming bridge.
        29 BriIifVproto,
        /// Time, eight bytes.
        30 TimeNs,
        /// Day of the week, one byte.
        31 TimeDay,
        /// Second of the day.
        32 TimeHour,
        /// Index of the slave link in a VRF.
        33 Sdif,
        /// Name of the slave link.
        34 SdifName,
        /// Set only: routes the frame instead of bridging it.
        35 BriBroute,
        /// Hardware address of the incoming bridge.
        36 BriIifHwAddr,
    }
}

keys! {
    /// `NFT_CT_*`.
    CtKey {
        /// Bits: 1 invalid, 2 established, 4 related, 8 new, 64 untracked.
        0 State,
        /// 0 original, 1 reply, one byte.
        1 Direction,
        /// `IPS_*` bits.
        2 Status,
        /// The connection's mark.
        3 Mark,
        /// Security mark.
        4 SecMark,
        /// Milliseconds until it expires.
        5 Expiration,
        /// Name of the helper, sixteen bytes.
        6 Helper,
        /// `NFPROTO_*`, one byte.
        7 L3Protocol,
        /// Source address.
        8 Src,
        /// Destination address.
        9 Dst,
        /// IP protocol, one byte.
        10 Protocol,
        /// Source port, two bytes in network order.
        11 ProtoSrc,
        /// Destination port.
        12 ProtoDst,
        /// Labels, sixteen bytes.
        13 Labels,
        /// Packets, eight bytes.
        14 Pkts,
        /// Bytes, eight bytes.
        15 Bytes,
        /// Average size, eight bytes.
        16 AvgPkt,
        /// Zone, two bytes.
        17 Zone,
        /// Events.
        18 EventMask,
        /// IPv4 source address.
        19 SrcIp,
        /// IPv4 destination address.
        20 DstIp,
        /// IPv6 source address.
        21 SrcIp6,
        /// IPv6 destination address.
        22 DstIp6,
        /// Id of the connection.
        23 Id,
    }
}
