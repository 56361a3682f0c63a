//! Tables, chains, rules, sets. `include/uapi/linux/netfilter/nf_tables.h`; each message begins with `struct nfgenmsg`.

use super::{Attributes, Lack, expression};
use crate::decode::message::Request;
use crate::decode::table::family_number;
use crate::snapshot::{
    BaseChain, Bytes, Chain, ChainKind, CmpOperation, Element, Expression, Family, Hook, Match, MetaKey, NfRule, Policy, Set, SetFlags, Table,
};
use crate::uapi::{NFT_SET_ELEM_CATCHALL, NFT_SET_ELEM_INTERVAL_END, NFTA_LIST_ELEM, NLM_F_APPEND, NLM_F_CREATE};

/// `NFNL_SUBSYS_NFTABLES`.
pub const SUBSYSTEM: u8 = 10;
const NEWTABLE: u16 = 0;
const NEWCHAIN: u16 = 3;
const NEWRULE: u16 = 6;
const NEWSET: u16 = 9;
const NEWSETELEM: u16 = 12;
/// Elements of one message: an attribute holds 64 KiB.
const ELEMENTS: usize = 200;

fn request(kind: u16, flags: u16, table: &Table, attributes: &Attributes) -> Request {
    let header = [family_number(table.family), 0, 0, 0];
    Request::new(u16::from(SUBSYSTEM) << 8 | kind, NLM_F_CREATE | flags, &header).attributes(attributes.as_slice())
}

/// `NFT_MSG_NEWTABLE`.
#[must_use]
pub fn table(table: &Table) -> Request {
    request(NEWTABLE, 0, table, &Attributes::new().string(1, &table.name).be32(2, u32::from(table.dormant)))
}

/// `NFT_MSG_NEWCHAIN`, without its rules. Chains that belong to one rule get a name like any other.
///
/// # Errors
/// When its type or hook is not known.
pub fn chain(table: &Table, chain: &Chain) -> Result<Request, Lack> {
    let attributes = Attributes::new().string(1, &table.name).string(3, &chain.name);
    let attributes = match &chain.base {
        Some(base) => based(attributes, table, chain, base)?,
        None => attributes,
    };
    Ok(request(NEWCHAIN, 0, table, &attributes))
}

fn based(attributes: Attributes, table: &Table, chain: &Chain, base: &BaseChain) -> Result<Attributes, Lack> {
    let unknown = |what: &str| Lack::Decides(format!("chain {} {}: {what}", table.name, chain.name));
    let hook = hook_number(table.family, base.hook).ok_or_else(|| unknown("its hook"))?;
    let kind = match &base.kind {
        ChainKind::Filter => "filter",
        ChainKind::Nat => "nat",
        ChainKind::Route => "route",
        ChainKind::Other(_) => return Err(unknown("its type")),
    };
    let place = Attributes::new().be32(1, hook).bytes(2, &base.priority.to_be_bytes());
    let place = match base.devices.as_slice() {
        [] => place,
        devices => place.nest(4, &devices.iter().fold(Attributes::new(), |list, device| list.string(1, device))),
    };
    let policy = u32::from(base.policy == Policy::Accept);
    Ok(attributes.nest(4, &place).be32(5, policy).string(7, kind))
}

/// The way back of `decode::table::hook_of`.
const fn hook_number(family: Family, hook: Hook) -> Option<u32> {
    Some(match (family, hook) {
        (_, Hook::Other(_)) => return None,
        (Family::Netdev, Hook::Ingress) | (Family::Arp, Hook::Input) => 0,
        (Family::Netdev, Hook::Egress) | (Family::Arp, Hook::Output) => 1,
        (Family::Inet, Hook::Ingress) => 5,
        (Family::Arp, Hook::Forward) => 2,
        (Family::Inet | Family::Ip | Family::Ip6 | Family::Bridge, Hook::Prerouting) => 0,
        (Family::Inet | Family::Ip | Family::Ip6 | Family::Bridge, Hook::Input) => 1,
        (Family::Inet | Family::Ip | Family::Ip6 | Family::Bridge, Hook::Forward) => 2,
        (Family::Inet | Family::Ip | Family::Ip6 | Family::Bridge, Hook::Output) => 3,
        (Family::Inet | Family::Ip | Family::Ip6 | Family::Bridge, Hook::Postrouting) => 4,
        _ => return None,
    })
}

/// A rule, and what was left out of it because it decides nothing.
#[derive(Debug, Clone)]
pub struct Written {
    /// `NFT_MSG_NEWRULE`, at the end of its chain.
    pub request: Request,
    /// What was left out.
    pub left_out: Vec<String>,
}

/// `NFT_MSG_NEWRULE`.
///
/// # Errors
/// When an expression that may decide cannot be written.
pub fn rule(table: &Table, chain: &Chain, rule: &NfRule) -> Result<Written, Lack> {
    let mut list = Attributes::new();
    let mut left_out = Vec::new();
    for one in &rule.expressions {
        match expression::expression(one, table.family) {
            Ok(written) => list = list.nest(NFTA_LIST_ELEM, &written),
            Err(Lack::Harmless(what)) => left_out.push(what),
            Err(lack) => return Err(lack),
        }
    }
    let attributes = Attributes::new().string(1, &table.name).string(2, &chain.name).nest(4, &list);
    let attributes = match protocol(&rule.expressions) {
        // NFTA_RULE_COMPAT: matches like `tcp` are taken only in rules that say which protocol they are about.
        Some(protocol) => attributes.nest(5, &Attributes::new().be32(1, u32::from(protocol)).be32(2, 0)),
        None => attributes,
    };
    Ok(Written { request: request(NEWRULE, NLM_F_APPEND, table, &attributes), left_out })
}

/// The protocol of a rule that has matches of iptables: what `-p` was (`nft_rule_parse_compat`).
#[expect(clippy::wildcard_enum_match_arm, reason = "only one instruction follows another here")]
fn protocol(expressions: &[Expression]) -> Option<u8> {
    let compared = expressions.windows(2).find_map(|two| match two {
        [Expression::Meta { key: MetaKey::L4Proto, into }, Expression::Cmp { source, operation: CmpOperation::Eq, value }] if into == source => {
            value.as_slice().first().copied()
        }
        _ => None,
    });
    let compat = expressions.iter().any(|one| matches!(one, Expression::Match(_) | Expression::Target(_)));
    let implied = expressions.iter().find_map(|one| match one {
        Expression::Match(Match::Tcp { .. }) => Some(6),
        Expression::Match(Match::Udp(_)) => Some(17),
        Expression::Match(Match::Icmp(_)) => Some(1),
        Expression::Match(Match::Icmp6(_)) => Some(58),
        _ => None,
    });
    compared.or(implied).filter(|_| compat)
}

/// `NFT_MSG_NEWSET`, without its elements. Sets that belong to one rule get a name like any other.
#[must_use]
pub fn set(table: &Table, set: &Set, number: u32) -> Request {
    const VERDICTS: u32 = 0xffff_ff00;
    let SetFlags { anonymous: _, constant, interval, map, verdicts, timeout, dynamic, object } = set.flags;
    let bits = [(constant, 0x2), (interval, 0x4), (map, 0x8), (timeout, 0x10), (dynamic, 0x20), (object, 0x40), (set.fields.len() > 1, 0x80)];
    let flags = bits.iter().filter(|(on, _)| *on).fold(0_u32, |all, (_, bit)| all | bit);
    let attributes = Attributes::new().string(1, &table.name).string(2, &set.name).be32(3, flags).be32(4, set.key_type).be32(5, set.key_len);
    let attributes = if verdicts {
        attributes.be32(6, VERDICTS)
    } else if map {
        // The type of data is the author's affair; any that is not for verdicts will do.
        attributes.be32(6, 0).be32(7, set.data_len)
    } else {
        attributes
    };
    let attributes = match set.fields.as_slice() {
        [] => attributes,
        fields => {
            let list = fields.iter().fold(Attributes::new(), |list, len| list.nest(NFTA_LIST_ELEM, &Attributes::new().be32(1, *len)));
            attributes.nest(9, &Attributes::new().nest(2, &list))
        }
    };
    request(NEWSET, 0, table, &attributes.be32(10, number))
}

/// `NFT_MSG_NEWSETELEM`, in as many messages as it takes. What counts or limits in an element is left out.
#[must_use]
pub fn elements(table: &Table, set: &Set) -> Vec<Request> {
    let message = |part: &[Element]| {
        let list = part.iter().fold(Attributes::new(), |list, one| element(list, set, one));
        request(NEWSETELEM, 0, table, &Attributes::new().string(1, &table.name).string(2, &set.name).nest(3, &list))
    };
    set.elements.chunks(ELEMENTS).map(message).collect()
}

fn element(list: Attributes, set: &Set, element: &Element) -> Attributes {
    let key = |bytes: &Bytes| Attributes::new().bytes(1, bytes.as_slice());
    let mut attributes = Attributes::new();
    if element.catch_all {
        attributes = attributes.be32(3, NFT_SET_ELEM_CATCHALL);
    } else {
        attributes = attributes.nest(1, &key(&element.from));
    }
    let concatenated = set.fields.len() > 1;
    if set.flags.interval && concatenated && !element.catch_all {
        attributes = attributes.nest(10, &key(&element.to));
    }
    if let Some(data) = &element.data {
        attributes = attributes.nest(2, &expression::data(data));
    }
    if let Some(object) = &element.object {
        attributes = attributes.string(9, object);
    }
    let list = list.nest(NFTA_LIST_ELEM, &attributes);
    // A range is two elements, unless it reaches to the highest key.
    match after(&element.to).filter(|_| set.flags.interval && !concatenated && !element.catch_all) {
        Some(end) => list.nest(NFTA_LIST_ELEM, &Attributes::new().be32(3, NFT_SET_ELEM_INTERVAL_END).nest(1, &key(&end))),
        None => list,
    }
}

/// The key after this one, as a number in network order; none after the highest.
fn after(key: &Bytes) -> Option<Bytes> {
    let mut bytes = key.0.clone();
    for byte in bytes.iter_mut().rev() {
        let (value, carried) = byte.overflowing_add(1);
        *byte = value;
        if !carried {
            return Some(Bytes(bytes));
        }
    }
    None
}
