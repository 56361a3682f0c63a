//! Instructions of nf_tables. `include/uapi/linux/netfilter/nf_tables.h`, one `enum nft_*_attributes` each; numbers are in network order.

use super::{Attributes, Lack, compat};
use crate::snapshot::{
    BitOperation, CmpOperation, CtKey, Data, Direction, Expression, ExthdrKind, Family, FibResult, MetaKey, NatKind, PayloadBase, RangeOperation,
    Register, Verdict,
};

/// An expression: its name and its attributes.
///
/// # Errors
/// When it was read in less detail than the kernel needs.
pub fn expression(expression: &Expression, family: Family) -> Result<Attributes, Lack> {
    let (name, attributes) = if let Expression::Match(condition) = expression {
        ("match", extension(&compat::matching(condition)?))
    } else if let Expression::Target(target) = expression {
        ("target", extension(&compat::target(target, family)?))
    } else {
        loading(expression).or_else(|| storing(expression)).or_else(|| translating(expression)).ok_or_else(|| lack(expression))?
    };
    Ok(Attributes::new().string(1, name).nest(2, &attributes))
}

fn extension(of: &compat::Extension) -> Attributes {
    Attributes::new().string(1, &of.name).be32(2, of.revision).bytes(3, &of.info)
}

/// What cannot be written, by what the walk makes of it.
#[expect(clippy::wildcard_enum_match_arm, reason = "what decides is the rest")]
fn lack(expression: &Expression) -> Lack {
    match expression {
        Expression::Counter | Expression::Dup | Expression::FlowOffload { .. } | Expression::Last | Expression::Log { .. } => {
            Lack::Harmless("counter, log, dup, last or flow offload".to_owned())
        }
        Expression::Objref { kind: 1 | 3 | 7 | 8 | 9, name, .. } => Lack::Harmless(format!("object {name}")),
        Expression::Objref { name, .. } => Lack::Perhaps(format!("object {name}")),
        Expression::Connlimit { .. } | Expression::Limit { .. } | Expression::Quota { .. } => Lack::Perhaps("a limit or quota".to_owned()),
        Expression::Dynset { set, .. } => Lack::Perhaps(format!("an instruction that adds to set {set}")),
        Expression::Fwd { .. } | Expression::Queue | Expression::Tproxy { .. } => Lack::Perhaps("fwd, queue or tproxy".to_owned()),
        Expression::Hash { .. } => Lack::Perhaps("a hash".to_owned()),
        Expression::Opaque { name, .. } => Lack::Perhaps(format!("instruction {name}")),
        other => Lack::Decides(format!("{other:?}")),
    }
}

/// Those that fill a register.
#[expect(clippy::wildcard_enum_match_arm, reason = "the others are elsewhere")]
fn loading(expression: &Expression) -> Option<(&'static str, Attributes)> {
    let new = Attributes::new;
    Some(match expression {
        Expression::Bitwise { source, into, len, operation } => ("bitwise", bitwise(*source, *into, *len, operation)),
        Expression::Byteorder { source, into, to_network, len, size } => {
            let direction = u32::from(*to_network);
            ("byteorder", new().be32(1, number(*source)).be32(2, number(*into)).be32(3, direction).be32(4, *len).be32(5, *size))
        }
        Expression::Ct { key, direction, into } => ("ct", with_direction(new().be32(1, number(*into)).be32(2, ct_key(*key)), *direction)),
        Expression::Exthdr { into, kind, header, offset, len, present } => {
            let attributes = new().be32(1, number(*into)).u8(2, *header).be32(3, *offset).be32(4, *len);
            ("exthdr", attributes.be32(5, u32::from(*present)).be32(6, exthdr_kind(*kind)))
        }
        Expression::Fib { into, result, flags } => {
            let result = match result {
                FibResult::Oif => 1,
                FibResult::OifName => 2,
                FibResult::AddressType => 3,
            };
            ("fib", new().be32(1, number(*into)).be32(2, result).be32(3, *flags))
        }
        Expression::Meta { key, into } => ("meta", new().be32(1, number(*into)).be32(2, meta_key(*key))),
        Expression::Numgen { into, modulus, offset, random } => {
            ("numgen", new().be32(1, number(*into)).be32(2, *modulus).be32(3, u32::from(*random)).be32(4, *offset))
        }
        Expression::Payload { into, base, offset, len } => {
            ("payload", new().be32(1, number(*into)).be32(2, payload_base(*base)).be32(3, *offset).be32(4, *len))
        }
        Expression::Rt { key, into } => ("rt", new().be32(1, number(*into)).be32(2, *key)),
        Expression::Socket { key, into } => ("socket", new().be32(1, *key).be32(2, number(*into))),
        _ => return None,
    })
}

/// Those that compare, look up, or set something of the packet.
#[expect(clippy::wildcard_enum_match_arm, reason = "the others are elsewhere")]
fn storing(expression: &Expression) -> Option<(&'static str, Attributes)> {
    let new = Attributes::new;
    Some(match expression {
        Expression::Cmp { source, operation, value } => {
            let operation = match operation {
                CmpOperation::Eq => 0,
                CmpOperation::Neq => 1,
                CmpOperation::Lt => 2,
                CmpOperation::Lte => 3,
                CmpOperation::Gt => 4,
                CmpOperation::Gte => 5,
            };
            ("cmp", new().be32(1, number(*source)).be32(2, operation).nest(3, &value_of(value.as_slice())))
        }
        Expression::CtSet { key, direction, source } => ("ct", with_direction(new().be32(2, ct_key(*key)).be32(4, number(*source)), *direction)),
        Expression::Immediate { into, data } => ("immediate", new().be32(1, into.map_or(0, number)).nest(2, &self::data(data))),
        Expression::Lookup { set, source, into, invert, verdict } => {
            let attributes = new().string(1, set).be32(2, number(*source));
            let attributes = match into {
                Some(into) => attributes.be32(3, number(*into)),
                None if *verdict => attributes.be32(3, 0),
                None => attributes,
            };
            ("lookup", attributes.be32(5, u32::from(*invert)))
        }
        Expression::MetaSet { key, source } => ("meta", new().be32(2, meta_key(*key)).be32(3, number(*source))),
        Expression::Notrack => ("notrack", new()),
        Expression::PayloadSet { source, base, offset, len } => {
            let attributes = new().be32(2, payload_base(*base)).be32(3, *offset).be32(4, *len).be32(5, number(*source));
            ("payload", checksummed(attributes, *base, *offset))
        }
        Expression::Range { source, operation, from, to } => {
            let operation = u32::from(*operation == RangeOperation::Neq);
            let (from, to) = (value_of(from.as_slice()), value_of(to.as_slice()));
            ("range", new().be32(1, number(*source)).be32(2, operation).nest(3, &from).nest(4, &to))
        }
        _ => return None,
    })
}

/// What nft adds to a write: the IPv4 header's checksum, and the pseudo header of the transport's. It is not in what the kernel tells.
fn checksummed(attributes: Attributes, base: PayloadBase, offset: u32) -> Attributes {
    const INET: u32 = 1;
    const PSEUDO_HEADER: u32 = 1;
    match base {
        PayloadBase::Network if offset < 20 => attributes.be32(6, INET).be32(7, 10).be32(8, PSEUDO_HEADER),
        PayloadBase::Inner | PayloadBase::Link | PayloadBase::Network | PayloadBase::Transport | PayloadBase::Tunnel | PayloadBase::Other(_) => {
            attributes
        }
    }
}

/// Those that change where the packet goes.
#[expect(clippy::wildcard_enum_match_arm, reason = "the others are elsewhere")]
fn translating(expression: &Expression) -> Option<(&'static str, Attributes)> {
    let new = Attributes::new;
    let pair = |attributes: Attributes, registers: &Option<(Register, Register)>, first: u16| match registers {
        Some((from, to)) => attributes.be32(first, number(*from)).be32(first + 1, number(*to)),
        None => attributes,
    };
    let flagged = |attributes: Attributes, kind, flags: u32| if flags == 0 { attributes } else { attributes.be32(kind, flags) };
    Some(match expression {
        Expression::Masq { flags, ports } => ("masq", pair(flagged(new(), 1, *flags), ports, 2)),
        Expression::Nat { kind, family, addresses, ports, flags } => {
            let kind = u32::from(*kind == NatKind::Dnat);
            let attributes = pair(pair(new().be32(1, kind).be32(2, *family), addresses, 3), ports, 5);
            ("nat", flagged(attributes, 7, *flags))
        }
        Expression::Redir { flags, ports } => ("redir", flagged(pair(new(), ports, 1), 3, *flags)),
        Expression::Reject { kind, code } => ("reject", new().be32(1, *kind).u8(2, *code)),
        _ => return None,
    })
}

/// The numbers by which the kernel tells registers: sixteen bytes where the word allows, four elsewhere (`nft_dump_register`).
fn number(register: Register) -> u32 {
    let word = u32::from(register.0);
    if word.is_multiple_of(4) { word / 4 + 1 } else { word + 8 }
}

fn value_of(bytes: &[u8]) -> Attributes {
    Attributes::new().bytes(1, bytes)
}

/// `NFTA_DATA_VALUE` or `NFTA_DATA_VERDICT`.
#[must_use]
pub fn data(data: &Data) -> Attributes {
    match data {
        Data::Value(value) => value_of(value.as_slice()),
        Data::Verdict(verdict) => Attributes::new().nest(2, &self::verdict(verdict)),
    }
}

fn verdict(verdict: &Verdict) -> Attributes {
    let code = |code: i32| Attributes::new().bytes(1, &code.to_be_bytes());
    match verdict {
        Verdict::Drop => code(0),
        Verdict::Accept => code(1),
        Verdict::Continue => code(-1),
        Verdict::Break => code(-2),
        Verdict::Jump(chain) => code(-3).string(2, chain),
        Verdict::Goto(chain) => code(-4).string(2, chain),
        Verdict::Return => code(-5),
        Verdict::Queue => code(3),
        Verdict::Other(other) => code(*other),
    }
}

fn bitwise(source: Register, into: Register, len: u32, operation: &BitOperation) -> Attributes {
    let with = |operation: u32| Attributes::new().be32(1, number(source)).be32(2, number(into)).be32(3, len).be32(6, operation);
    let bits = |count: u32| value_of(&count.to_ne_bytes());
    match operation {
        BitOperation::Mask { mask, xor } => with(0).nest(4, &value_of(mask.as_slice())).nest(5, &value_of(xor.as_slice())),
        BitOperation::ShiftLeft(count) => with(1).nest(7, &bits(*count)),
        BitOperation::ShiftRight(count) => with(2).nest(7, &bits(*count)),
        BitOperation::And(other) => with(3).be32(8, number(*other)),
        BitOperation::Or(other) => with(4).be32(8, number(*other)),
        BitOperation::Xor(other) => with(5).be32(8, number(*other)),
    }
}

fn with_direction(attributes: Attributes, direction: Option<Direction>) -> Attributes {
    match direction {
        Some(Direction::Original) => attributes.u8(3, 0),
        Some(Direction::Reply) => attributes.u8(3, 1),
        None => attributes,
    }
}

fn payload_base(base: PayloadBase) -> u32 {
    match base {
        PayloadBase::Link => 0,
        PayloadBase::Network => 1,
        PayloadBase::Transport => 2,
        PayloadBase::Inner => 3,
        PayloadBase::Tunnel => 4,
        PayloadBase::Other(other) => other,
    }
}

fn exthdr_kind(kind: ExthdrKind) -> u32 {
    match kind {
        ExthdrKind::Ipv6 => 0,
        ExthdrKind::Tcp => 1,
        ExthdrKind::Ipv4 => 2,
        ExthdrKind::Sctp => 3,
        ExthdrKind::Dccp => 4,
        ExthdrKind::Other(other) => other,
    }
}

fn meta_key(key: MetaKey) -> u32 {
    key.into()
}

fn ct_key(key: CtKey) -> u32 {
    key.into()
}
