//! ipsets. `include/uapi/linux/netfilter/ipset/ip_set.h`; numbers are in network order.

use std::net::IpAddr;

use super::attribute::{Attributes, address};
use super::{DecodeError, missing, table};
use crate::snapshot::{IpSet, IpSetElement};

/// `IPSET_ATTR_DATA` of an element: those that only describe it.
const HARMLESS: [u16; 8] = [9, 24, 25, 26, 27, 28, 29, 30];

/// Of what a set was created with, `IPSET_ATTR_BITMASK` and `IPSET_ATTR_NETMASK`: addresses are looked for under them.
const MASKS: [u16; 2] = [12, 20];

/// `IPSET_CMD_LIST`: a set, or more elements of the one before.
///
/// # Errors
/// When it is malformed.
pub fn ipset(payload: &[u8]) -> Result<IpSet, DecodeError> {
    let what = "ipset";
    let attributes = payload.get(4..).ok_or(DecodeError::Truncated { what })?;
    let a = Attributes::parse(attributes, what)?;
    let elements = match a.nested(8, "elements of an ipset")? {
        Some(list) => list.iter().map(|(_, one)| Ok(element(&Attributes::parse(one, "element of an ipset")?))).collect::<Result<_, DecodeError>>()?,
        None => Vec::new(),
    };
    let created = a.nested(7, "header of an ipset")?;
    Ok(IpSet {
        index: 0,
        name: a.string(2).ok_or(missing("name of an ipset"))?,
        kind: a.string(3).unwrap_or_default(),
        family: table::family(a.u8(5).unwrap_or(0)),
        masked: created.is_some_and(|created| created.iter().any(|(kind, _)| MASKS.contains(&kind))),
        elements,
    })
}

/// The answer to `IPSET_CMD_GET_BYNAME`: the number that rules use.
///
/// # Errors
/// When it is malformed.
pub fn index(payload: &[u8]) -> Result<u16, DecodeError> {
    let a = Attributes::parse(payload.get(4..).unwrap_or_default(), "ipset index")?;
    a.be16(11).ok_or(missing("index of an ipset"))
}

fn element(a: &Attributes<'_>) -> IpSetElement {
    const KNOWN: [u16; 11] = [1, 2, 3, 4, 5, 7, 8, 18, 20, 21, 23];
    const NOMATCH: u32 = 0x4;
    let flags = a.be32(8).unwrap_or(0);
    IpSetElement {
        address: inet(a, 1),
        address_to: inet(a, 2),
        prefix: a.u8(3),
        address2: inet(a, 20),
        prefix2: a.u8(21),
        protocol: a.u8(7),
        port: a.be16(4),
        port_to: a.be16(5),
        interface: a.string(23),
        set: a.string(18),
        nomatch: flags & NOMATCH != 0,
        uncertain: flags & !NOMATCH != 0 || a.iter().any(|(kind, _)| !KNOWN.contains(&kind) && !HARMLESS.contains(&kind)),
    }
}

/// A nest of `IPSET_ATTR_IPADDR_IPV4` or `_IPV6`.
fn inet(a: &Attributes<'_>, kind: u16) -> Option<IpAddr> {
    let nest = a.nested(kind, "address of an ipset").ok()??;
    nest.iter().find_map(|(_, bytes)| address(bytes))
}
