//! Instructions of nf_tables. `include/uapi/linux/netfilter/nf_tables.h`, one `enum nft_*_attributes` each; numbers are in network order.

use super::attribute::Attributes;
use super::compat;
use super::{DecodeError, missing};
use crate::snapshot::{
    BitOperation, Bytes, CmpOperation, CtKey, Data, Direction, Expression, ExthdrKind, Family, FibResult, LimitUnit, MetaKey, NatKind, PayloadBase,
    RangeOperation, Register, Target, Verdict,
};
use crate::uapi::NFTA_LIST_ELEM;

const WHAT: &str = "nf_tables expression";

/// A list of expressions: the rule's, or an element's.
///
/// # Errors
/// When the list itself is malformed. An expression that is not understood is [`Expression::Opaque`].
pub fn list(bytes: &[u8], family: Family) -> Result<Vec<Expression>, DecodeError> {
    let list = Attributes::parse(bytes, WHAT)?;
    list.all(NFTA_LIST_ELEM).map(|one| expression(one, family)).collect()
}

/// One expression: its name and its attributes.
///
/// # Errors
/// When it has no name.
pub fn expression(bytes: &[u8], family: Family) -> Result<Expression, DecodeError> {
    let outer = Attributes::parse(bytes, WHAT)?;
    let name = outer.string(1).ok_or(missing("name of an expression"))?;
    let payload = outer.find(2).unwrap_or_default();
    let opaque = || Expression::Opaque { name: name.clone(), bytes: Bytes::from(payload) };
    let Ok(attributes) = Attributes::parse(payload, WHAT) else {
        return Ok(opaque());
    };
    Ok(known(&name, &attributes, family).unwrap_or_else(opaque))
}

/// None when the instruction, or a value in it, is not known here.
fn known(name: &str, a: &Attributes<'_>, family: Family) -> Option<Expression> {
    match name {
        "bitwise" => bitwise(a),
        "byteorder" => byteorder(a),
        "cmp" => cmp(a),
        "counter" => Some(Expression::Counter),
        "ct" => ct(a),
        "exthdr" => exthdr(a),
        "fib" => fib(a),
        "immediate" => immediate(a),
        "last" => Some(Expression::Last),
        "lookup" => lookup(a),
        "match" => compat::matching(&a.string(1)?, a.be32(2)?, a.find(3)?, family).map(Expression::Match),
        "meta" => meta(a),
        "notrack" => Some(Expression::Notrack),
        "objref" => objref(a),
        "payload" => payload(a),
        "range" => range(a),
        "rt" => Some(Expression::Rt { key: a.be32(2)?, into: register(a, 1)? }),
        "socket" => Some(Expression::Socket { key: a.be32(1)?, into: register(a, 2)? }),
        "target" => compat::target(&a.string(1)?, a.be32(2)?, a.find(3)?, family).map(Expression::Target),
        _ => translating(name, a).or_else(|| uncertain(name, a)),
    }
}

/// Those that change where the packet goes.
fn translating(name: &str, a: &Attributes<'_>) -> Option<Expression> {
    match name {
        "dup" => Some(Expression::Dup),
        "flow_offload" => Some(Expression::FlowOffload { table: a.string(1)? }),
        "fwd" => Some(Expression::Fwd { device: register(a, 1)? }),
        "masq" => Some(Expression::Masq { flags: a.be32(1).unwrap_or(0), ports: pair(a, 2, 3) }),
        "nat" => nat(a),
        "queue" => Some(Expression::Queue),
        "redir" => Some(Expression::Redir { flags: a.be32(3).unwrap_or(0), ports: pair(a, 1, 2) }),
        "reject" => Some(Expression::Reject { kind: a.be32(1)?, code: a.u8(2).unwrap_or(0) }),
        "tproxy" => Some(Expression::Tproxy { family: a.be32(1).unwrap_or(0), address: register(a, 2), port: register(a, 3) }),
        _ => None,
    }
}

/// Those that depend on earlier packets, chance or volume.
fn uncertain(name: &str, a: &Attributes<'_>) -> Option<Expression> {
    let flag = |kind| a.be32(kind).unwrap_or(0) & 1 != 0;
    match name {
        "connlimit" => Some(Expression::Connlimit { count: a.be32(1)?, over: flag(2) }),
        "dynset" => {
            Some(Expression::Dynset { set: a.string(1)?, operation: a.be32(3)?, key: register(a, 4)?, data: register(a, 5), invert: flag(9) })
        }
        "hash" => Some(Expression::Hash { into: register(a, 2)?, modulus: a.be32(4)?, offset: a.be32(6).unwrap_or(0) }),
        "limit" => Some(Expression::Limit { unit: if a.be32(4) == Some(1) { LimitUnit::Bytes } else { LimitUnit::Packets }, over: flag(5) }),
        "log" => Some(Expression::Log { prefix: a.string(2).unwrap_or_default() }),
        "numgen" => {
            Some(Expression::Numgen { into: register(a, 1)?, modulus: a.be32(2)?, offset: a.be32(4).unwrap_or(0), random: a.be32(3) == Some(1) })
        }
        "quota" => Some(Expression::Quota { over: flag(2) }),
        _ => None,
    }
}

/// `nft_parse_register`: `NFT_REG_1..4` are sixteen bytes, `NFT_REG32_00..15` four.
fn register(a: &Attributes<'_>, kind: u16) -> Option<Register> {
    let word = match a.be32(kind)? {
        number @ 1..=4 => (number - 1) * 4,
        number @ 8..=23 => number - 8,
        _ => return None,
    };
    u8::try_from(word).ok().map(Register)
}

fn is_verdict_register(a: &Attributes<'_>, kind: u16) -> bool {
    a.be32(kind) == Some(0)
}

/// A range of registers; the second defaults to the first.
fn pair(a: &Attributes<'_>, first: u16, last: u16) -> Option<(Register, Register)> {
    let from = register(a, first)?;
    Some((from, register(a, last).unwrap_or(from)))
}

/// `NFTA_DATA_VALUE` or `NFTA_DATA_VERDICT`.
#[must_use]
pub fn data(bytes: &[u8]) -> Option<Data> {
    let outer = Attributes::parse(bytes, WHAT).ok()?;
    if let Some(value) = outer.find(1) {
        return Some(Data::Value(Bytes::from(value)));
    }
    verdict(&outer.nested(2, WHAT).ok()??).map(Data::Verdict)
}

fn verdict(a: &Attributes<'_>) -> Option<Verdict> {
    let code = i32::from_ne_bytes(a.be32(1)?.to_ne_bytes());
    Some(match code {
        0 => Verdict::Drop,
        1 => Verdict::Accept,
        -1 => Verdict::Continue,
        -2 => Verdict::Break,
        -3 => Verdict::Jump(a.string(2)?),
        -4 => Verdict::Goto(a.string(2)?),
        -5 => Verdict::Return,
        // The queue's number is in the upper half.
        other if other & 0xffff == 3 => Verdict::Queue,
        other => Verdict::Other(other),
    })
}

fn value(a: &Attributes<'_>, kind: u16) -> Option<Bytes> {
    match data(a.find(kind)?)? {
        Data::Value(bytes) => Some(bytes),
        Data::Verdict(_) => None,
    }
}

fn bitwise(a: &Attributes<'_>) -> Option<Expression> {
    let shift = || value(a, 7)?.0.first_chunk().copied().map(u32::from_ne_bytes);
    let operation = match a.be32(6).unwrap_or(0) {
        0 => BitOperation::Mask { mask: value(a, 4)?, xor: value(a, 5)? },
        1 => BitOperation::ShiftLeft(shift()?),
        2 => BitOperation::ShiftRight(shift()?),
        3 => BitOperation::And(register(a, 8)?),
        4 => BitOperation::Or(register(a, 8)?),
        5 => BitOperation::Xor(register(a, 8)?),
        _ => return None,
    };
    let (source, into) = (register(a, 1)?, register(a, 2)?);
    Some(Expression::Bitwise { source, into, len: a.be32(3)?, operation })
}

fn byteorder(a: &Attributes<'_>) -> Option<Expression> {
    Some(Expression::Byteorder { source: register(a, 1)?, into: register(a, 2)?, to_network: a.be32(3)? == 1, len: a.be32(4)?, size: a.be32(5)? })
}

fn cmp(a: &Attributes<'_>) -> Option<Expression> {
    let operation = match a.be32(2)? {
        0 => CmpOperation::Eq,
        1 => CmpOperation::Neq,
        2 => CmpOperation::Lt,
        3 => CmpOperation::Lte,
        4 => CmpOperation::Gt,
        5 => CmpOperation::Gte,
        _ => return None,
    };
    Some(Expression::Cmp { source: register(a, 1)?, operation, value: value(a, 3)? })
}

fn range(a: &Attributes<'_>) -> Option<Expression> {
    let operation = match a.be32(2)? {
        0 => RangeOperation::Eq,
        1 => RangeOperation::Neq,
        _ => return None,
    };
    let (from, to) = (value(a, 3)?, value(a, 4)?);
    Some(Expression::Range { source: register(a, 1)?, operation, from, to })
}

fn ct(a: &Attributes<'_>) -> Option<Expression> {
    let key = CtKey::from(a.be32(2)?);
    let direction = match a.u8(3) {
        None => None,
        Some(0) => Some(Direction::Original),
        Some(1) => Some(Direction::Reply),
        Some(_) => return None,
    };
    if let Some(source) = register(a, 4) {
        return Some(Expression::CtSet { key, direction, source });
    }
    Some(Expression::Ct { key, direction, into: register(a, 1)? })
}

fn meta(a: &Attributes<'_>) -> Option<Expression> {
    let key = MetaKey::from(a.be32(2)?);
    if let Some(source) = register(a, 3) {
        return Some(Expression::MetaSet { key, source });
    }
    Some(Expression::Meta { key, into: register(a, 1)? })
}

fn payload(a: &Attributes<'_>) -> Option<Expression> {
    let base = match a.be32(2)? {
        0 => PayloadBase::Link,
        1 => PayloadBase::Network,
        2 => PayloadBase::Transport,
        3 => PayloadBase::Inner,
        4 => PayloadBase::Tunnel,
        other => PayloadBase::Other(other),
    };
    let (offset, len) = (a.be32(3)?, a.be32(4)?);
    if let Some(source) = register(a, 5) {
        return Some(Expression::PayloadSet { source, base, offset, len });
    }
    Some(Expression::Payload { into: register(a, 1)?, base, offset, len })
}

/// One that writes into an option (`tcp option maxseg size set`) or takes one out changes nothing about where the packet goes: like iptables'
/// TCPMSS, which is told the same way.
fn exthdr(a: &Attributes<'_>) -> Option<Expression> {
    const PRESENT: u32 = 1;
    if register(a, 1).is_none() {
        return Some(Expression::Target(Target::Continue("exthdr set".to_owned())));
    }
    let kind = match a.be32(6).unwrap_or(0) {
        0 => ExthdrKind::Ipv6,
        1 => ExthdrKind::Tcp,
        2 => ExthdrKind::Ipv4,
        3 => ExthdrKind::Sctp,
        4 => ExthdrKind::Dccp,
        other => ExthdrKind::Other(other),
    };
    Some(Expression::Exthdr {
        into: register(a, 1)?,
        kind,
        header: a.u8(2)?,
        offset: a.be32(3).unwrap_or(0),
        len: a.be32(4).unwrap_or(0),
        present: a.be32(5).unwrap_or(0) & PRESENT != 0,
    })
}

fn fib(a: &Attributes<'_>) -> Option<Expression> {
    let result = match a.be32(2)? {
        1 => FibResult::Oif,
        2 => FibResult::OifName,
        3 => FibResult::AddressType,
        _ => return None,
    };
    Some(Expression::Fib { into: register(a, 1)?, result, flags: a.be32(3).unwrap_or(0) })
}

fn immediate(a: &Attributes<'_>) -> Option<Expression> {
    let data = data(a.find(2)?)?;
    let into = if is_verdict_register(a, 1) { None } else { Some(register(a, 1)?) };
    Some(Expression::Immediate { into, data })
}

fn lookup(a: &Attributes<'_>) -> Option<Expression> {
    const INVERT: u32 = 1;
    Some(Expression::Lookup {
        set: a.string(1)?,
        source: register(a, 2)?,
        into: register(a, 3),
        invert: a.be32(5).unwrap_or(0) & INVERT != 0,
        verdict: is_verdict_register(a, 3),
    })
}

fn nat(a: &Attributes<'_>) -> Option<Expression> {
    let kind = match a.be32(1)? {
        0 => NatKind::Snat,
        1 => NatKind::Dnat,
        _ => return None,
    };
    Some(Expression::Nat { kind, family: a.be32(2)?, addresses: pair(a, 3, 4), ports: pair(a, 5, 6), flags: a.be32(7).unwrap_or(0) })
}

fn objref(a: &Attributes<'_>) -> Option<Expression> {
    if let Some(name) = a.string(2) {
        return Some(Expression::Objref { kind: a.be32(1)?, name, source: None });
    }
    Some(Expression::Objref { kind: 0, name: a.string(4)?, source: Some(register(a, 3)?) })
}
