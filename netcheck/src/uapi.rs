//! The kernel's own numbers that are both read and written: `include/uapi/linux/if_link.h`, `if.h`, `if_addr.h`, `neighbour.h`, `rtnetlink.h`,
//! `netlink.h`, `netfilter/nf_tables.h`, `socket.h`.

/// IPv4.
pub const AF_INET: u8 = 2;
/// Bridges, in messages about links and neighbours.
pub const AF_BRIDGE: u8 = 7;
/// IPv6.
pub const AF_INET6: u8 = 10;

/// Of a request: to be made.
pub const NLM_F_CREATE: u16 = 0x400;
/// Of a request: behind the others.
pub const NLM_F_APPEND: u16 = 0x800;

/// A link.
pub const RTM_NEWLINK: u16 = 16;

/// Of a link: turned on.
pub const IFF_UP: u32 = 0x1;
/// Of a link: nobody is asked for there.
pub const IFF_NOARP: u32 = 0x80;

/// Hardware address.
pub const IFLA_ADDRESS: u16 = 1;
/// Name.
pub const IFLA_IFNAME: u16 = 3;
/// Largest packet.
pub const IFLA_MTU: u16 = 4;
/// The link that it lies on, or the other end.
pub const IFLA_LINK: u16 = 5;
/// The bridge.
pub const IFLA_MASTER: u16 = 10;
/// What kind of link it is.
pub const IFLA_LINKINFO: u16 = 18;
/// What families know of it.
pub const IFLA_AF_SPEC: u16 = 26;
/// Its group.
pub const IFLA_GROUP: u16 = 27;

/// The address, or that of the other end.
pub const IFA_ADDRESS: u16 = 1;
/// The own address.
pub const IFA_LOCAL: u16 = 2;

/// Of a neighbour: needs no finding.
pub const NUD_NOARP: u16 = 0x40;
/// Of a neighbour: fixed by somebody.
pub const NUD_PERMANENT: u16 = 0x80;
/// Of a neighbour: answered for.
pub const NTF_PROXY: u8 = 0x08;

/// Of a policy rule: matches what it does not say (`FIB_RULE_INVERT`).
pub const FIB_RULE_INVERT: u32 = 0x02;

/// An element of a list.
pub const NFTA_LIST_ELEM: u16 = 1;
/// Of an element: the first value behind an interval.
pub const NFT_SET_ELEM_INTERVAL_END: u32 = 1;
/// Of an element: everything that no other has.
pub const NFT_SET_ELEM_CATCHALL: u32 = 2;
