//! Tables, chains, rules, sets. `include/uapi/linux/netfilter/nf_tables.h`; each message begins with `struct nfgenmsg`.

use super::attribute::{Attributes, string};
use super::{DecodeError, expression, missing};
use crate::snapshot::{BaseChain, Bytes, Chain, ChainKind, Element, Family, Flowtable, Hook, NfObject, NfRule, Policy, Set, SetFlags, Table};
use crate::uapi::{NFT_SET_ELEM_CATCHALL, NFT_SET_ELEM_INTERVAL_END, NFTA_LIST_ELEM};

/// `struct nfgenmsg`.
const HEADER: usize = 4;

/// Something and the table that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Within<T> {
    /// The table's family.
    pub family: Family,
    /// The table's name.
    pub table: String,
    /// What is in it.
    pub value: T,
}

/// A rule and the chain that it is in.
pub type RuleOf = Within<(String, NfRule)>;

/// Elements and the set that they are in, as the kernel keeps them.
pub type ElementsOf = Within<(String, Vec<RawElement>)>;

/// `NFPROTO_*`.
#[must_use]
pub const fn family(number: u8) -> Family {
    match number {
        1 => Family::Inet,
        2 => Family::Ip,
        3 => Family::Arp,
        5 => Family::Netdev,
        7 => Family::Bridge,
        10 => Family::Ip6,
        other => Family::Other(other),
    }
}

/// The number of a family, for requests.
#[must_use]
pub const fn family_number(family: Family) -> u8 {
    match family {
        Family::Inet => 1,
        Family::Ip => 2,
        Family::Arp => 3,
        Family::Netdev => 5,
        Family::Bridge => 7,
        Family::Ip6 => 10,
        Family::Other(number) => number,
    }
}

fn open<'a>(payload: &'a [u8], what: &'static str) -> Result<(Family, Attributes<'a>), DecodeError> {
    let number = *payload.first().ok_or(DecodeError::Truncated { what })?;
    let attributes = payload.get(HEADER..).ok_or(DecodeError::Truncated { what })?;
    Ok((family(number), Attributes::parse(attributes, what)?))
}

/// `NFT_MSG_NEWGEN`: the generation of the rule set.
///
/// # Errors
/// When it is malformed.
pub fn generation(payload: &[u8]) -> Result<u32, DecodeError> {
    let (_, a) = open(payload, "nf_tables generation")?;
    a.need_be32(1, "nf_tables generation")
}

/// `NFT_MSG_NEWTABLE`, without what is in it.
///
/// # Errors
/// When it is malformed.
pub fn table(payload: &[u8]) -> Result<Table, DecodeError> {
    const DORMANT: u32 = 1;
    let (family, a) = open(payload, "nf_tables table")?;
    Ok(Table {
        family,
        name: a.string(1).ok_or(missing("name of a table"))?,
        handle: a.be64(4).unwrap_or(0),
        dormant: a.be32(2).unwrap_or(0) & DORMANT != 0,
        chains: Vec::new(),
        sets: Vec::new(),
        objects: Vec::new(),
        flowtables: Vec::new(),
    })
}

/// `NFT_MSG_NEWCHAIN`, without its rules.
///
/// # Errors
/// When it is malformed.
pub fn chain(payload: &[u8]) -> Result<Within<Chain>, DecodeError> {
    let (family, a) = open(payload, "nf_tables chain")?;
    let base = a.nested(4, "hook of a chain")?.map(|hook| base_chain(&a, &hook, family)).transpose()?;
    let value = Chain { name: a.string(3).ok_or(missing("name of a chain"))?, handle: a.be64(2).unwrap_or(0), base, rules: Vec::new() };
    Ok(Within { family, table: table_name(&a)?, value })
}

fn table_name(a: &Attributes<'_>) -> Result<String, DecodeError> {
    a.string(1).ok_or(missing("name of a table"))
}

fn base_chain(chain: &Attributes<'_>, hook: &Attributes<'_>, family: Family) -> Result<BaseChain, DecodeError> {
    let priority = hook.need_be32(2, "priority of a chain")?;
    Ok(BaseChain {
        kind: match chain.string(7).unwrap_or_default().as_str() {
            "filter" => ChainKind::Filter,
            "nat" => ChainKind::Nat,
            "route" => ChainKind::Route,
            other => ChainKind::Other(other.to_owned()),
        },
        hook: hook_of(hook.need_be32(1, "hook of a chain")?, family),
        priority: i32::from_ne_bytes(priority.to_ne_bytes()),
        policy: if chain.be32(5) == Some(0) { Policy::Drop } else { Policy::Accept },
        devices: devices(hook, 3, 4)?,
    })
}

fn hook_of(number: u32, family: Family) -> Hook {
    match (family, number) {
        (Family::Netdev, 0) | (Family::Inet, 5) => Hook::Ingress,
        (Family::Netdev, 1) => Hook::Egress,
        (Family::Arp, 0) => Hook::Input,
        (Family::Arp, 1) => Hook::Output,
        (Family::Arp, 2) => Hook::Forward,
        (Family::Inet | Family::Ip | Family::Ip6 | Family::Bridge, 0) => Hook::Prerouting,
        (Family::Inet | Family::Ip | Family::Ip6 | Family::Bridge, 1) => Hook::Input,
        (Family::Inet | Family::Ip | Family::Ip6 | Family::Bridge, 2) => Hook::Forward,
        (Family::Inet | Family::Ip | Family::Ip6 | Family::Bridge, 3) => Hook::Output,
        (Family::Inet | Family::Ip | Family::Ip6 | Family::Bridge, 4) => Hook::Postrouting,
        (_, other) => Hook::Other(other),
    }
}

/// One name (`NFTA_HOOK_DEV`) or a list of names and prefixes (`NFTA_HOOK_DEVS`).
fn devices(hook: &Attributes<'_>, one: u16, many: u16) -> Result<Vec<String>, DecodeError> {
    const NFTA_DEVICE_PREFIX: u16 = 2;
    if let Some(list) = hook.nested(many, "devices of a hook")? {
        let name = |(kind, payload): (u16, &[u8])| match kind {
            NFTA_DEVICE_PREFIX => format!("{}*", string(payload)),
            _ => string(payload),
        };
        return Ok(list.iter().map(name).collect());
    }
    Ok(hook.string(one).into_iter().collect())
}

/// `NFT_MSG_NEWRULE`.
///
/// # Errors
/// When it is malformed.
pub fn rule(payload: &[u8]) -> Result<RuleOf, DecodeError> {
    let (family, a) = open(payload, "nf_tables rule")?;
    let chain = a.string(2).ok_or(missing("chain of a rule"))?;
    let rule = NfRule {
        handle: a.be64(3).unwrap_or(0),
        expressions: match a.find(4) {
            Some(list) => expression::list(list, family)?,
            None => Vec::new(),
        },
        comment: a.find(7).and_then(comment),
    };
    Ok(Within { family, table: table_name(&a)?, value: (chain, rule) })
}

/// User data of libnftnl: type and length in a byte each; type 0 is the comment.
fn comment(mut user_data: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = user_data {
        let value = rest.get(..usize::from(*length))?;
        if *kind == 0 {
            return Some(string(value));
        }
        user_data = rest.get(usize::from(*length)..)?;
    }
    None
}

/// `NFT_MSG_NEWSET`, without its elements.
///
/// # Errors
/// When it is malformed.
pub fn set(payload: &[u8]) -> Result<Within<Set>, DecodeError> {
    let (family, a) = open(payload, "nf_tables set")?;
    let flags = a.be32(3).unwrap_or(0);
    let verdicts = a.be32(6) == Some(0xffff_ff00);
    let value = Set {
        name: a.string(2).ok_or(missing("name of a set"))?,
        handle: a.be64(16).unwrap_or(0),
        flags: set_flags(flags, verdicts),
        key_type: a.be32(4).unwrap_or(0),
        key_len: a.need_be32(5, "length of a set's key")?,
        fields: fields(&a)?,
        data_len: if verdicts { 0 } else { a.be32(7).unwrap_or(0) },
        elements: Vec::new(),
        expressions: element_expressions(&a, 17, 18, family)?,
    };
    Ok(Within { family, table: table_name(&a)?, value })
}

const fn set_flags(flags: u32, verdicts: bool) -> SetFlags {
    SetFlags {
        anonymous: flags & 0x1 != 0,
        constant: flags & 0x2 != 0,
        interval: flags & 0x4 != 0,
        map: flags & 0x8 != 0,
        verdicts,
        timeout: flags & 0x10 != 0,
        dynamic: flags & 0x20 != 0,
        object: flags & 0x40 != 0,
    }
}

/// `NFTA_SET_DESC_CONCAT`: a list of field lengths.
fn fields(set: &Attributes<'_>) -> Result<Vec<u32>, DecodeError> {
    let what = "fields of a set's key";
    let Some(description) = set.nested(9, what)? else {
        return Ok(Vec::new());
    };
    let Some(list) = description.nested(2, what)? else {
        return Ok(Vec::new());
    };
    list.all(NFTA_LIST_ELEM).map(|field| Attributes::parse(field, what)?.need_be32(1, what)).collect()
}

fn element_expressions(a: &Attributes<'_>, one: u16, many: u16, family: Family) -> Result<Vec<crate::snapshot::Expression>, DecodeError> {
    match (a.find(many), a.find(one)) {
        (Some(list), _) => expression::list(list, family),
        (None, Some(single)) => Ok(vec![expression::expression(single, family)?]),
        (None, None) => Ok(Vec::new()),
    }
}

/// An element as the kernel keeps it: an interval may be two of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawElement {
    /// `NFT_SET_ELEM_INTERVAL_END`: not an element but the first key after one.
    pub interval_end: bool,
    /// The element, whose `to` is its `from` unless the kernel said otherwise.
    pub element: Element,
    /// Whether the kernel gave the end of the interval itself.
    pub has_end: bool,
}

/// `NFT_MSG_NEWSETELEM`.
///
/// # Errors
/// When it is malformed.
pub fn elements(payload: &[u8]) -> Result<ElementsOf, DecodeError> {
    let what = "elements of a set";
    let (family, a) = open(payload, what)?;
    let set = a.string(2).ok_or(missing("set of elements"))?;
    let list = match a.nested(3, what)? {
        Some(list) => list.all(NFTA_LIST_ELEM).map(|one| element(one, family)).collect::<Result<_, _>>()?,
        None => Vec::new(),
    };
    Ok(Within { family, table: table_name(&a)?, value: (set, list) })
}

fn element(bytes: &[u8], family: Family) -> Result<RawElement, DecodeError> {
    let a = Attributes::parse(bytes, "element of a set")?;
    let flags = a.be32(3).unwrap_or(0);
    let key =
        |kind| -> Result<Option<Bytes>, DecodeError> { Ok(a.nested(kind, "key of an element")?.and_then(|data| data.find(1).map(Bytes::from))) };
    let from = key(1)?.unwrap_or_default();
    let end = key(10)?;
    let element = Element {
        to: end.clone().unwrap_or_else(|| from.clone()),
        from,
        catch_all: flags & NFT_SET_ELEM_CATCHALL != 0,
        data: a.find(2).and_then(expression::data),
        object: a.string(9),
        expires_ms: a.be64(5),
        expressions: element_expressions(&a, 7, 11, family)?,
    };
    Ok(RawElement { interval_end: flags & NFT_SET_ELEM_INTERVAL_END != 0, element, has_end: end.is_some() })
}

/// Joins the two halves of intervals: `[10, 20)` is an element at 10 and an end at 20. One without an end reaches to the highest key.
#[must_use]
pub fn join_intervals(raw: Vec<RawElement>, flags: SetFlags) -> Vec<Element> {
    if !flags.interval || raw.iter().any(|one| one.has_end) {
        let whole = raw.into_iter().filter(|one| !one.interval_end);
        return whole.map(|one| one.element).collect();
    }
    let (catch_all, mut ordered): (Vec<_>, Vec<_>) = raw.into_iter().partition(|one| one.element.catch_all);
    // Where one interval ends and the next begins, the end comes first.
    ordered.sort_by(|a, b| (&a.element.from, !a.interval_end).cmp(&(&b.element.from, !b.interval_end)));
    let mut joined: Vec<Element> = Vec::with_capacity(ordered.len() / 2 + 1);
    let mut is_open = false;
    for one in ordered {
        if is_open && let Some(last) = joined.last_mut() {
            last.to = before(&one.element.from);
        }
        is_open = !one.interval_end;
        if is_open {
            let highest = Bytes(vec![0xff; one.element.from.len()]);
            joined.push(Element { to: highest, ..one.element });
        }
    }
    joined.extend(catch_all.into_iter().map(|one| one.element));
    joined
}

/// The key before this one, as a number in network order.
fn before(key: &Bytes) -> Bytes {
    let mut bytes = key.0.clone();
    for byte in bytes.iter_mut().rev() {
        let (value, borrowed) = byte.overflowing_sub(1);
        *byte = value;
        if !borrowed {
            break;
        }
    }
    Bytes(bytes)
}

/// `NFT_MSG_NEWOBJ`.
///
/// # Errors
/// When it is malformed.
pub fn object(payload: &[u8]) -> Result<Within<NfObject>, DecodeError> {
    let (family, a) = open(payload, "nf_tables object")?;
    let value = NfObject { kind: a.need_be32(3, "kind of an object")?, name: a.string(2).ok_or(missing("name of an object"))? };
    Ok(Within { family, table: table_name(&a)?, value })
}

/// `NFT_MSG_NEWFLOWTABLE`.
///
/// # Errors
/// When it is malformed.
pub fn flowtable(payload: &[u8]) -> Result<Within<Flowtable>, DecodeError> {
    let (family, a) = open(payload, "nf_tables flowtable")?;
    let hook = a.nested(3, "hook of a flowtable")?;
    let value =
        Flowtable { name: a.string(2).ok_or(missing("name of a flowtable"))?, devices: hook.map_or(Ok(Vec::new()), |hook| devices(&hook, 0, 3))? };
    Ok(Within { family, table: table_name(&a)?, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(key: u8, interval_end: bool) -> RawElement {
        let element = Element {
            from: Bytes(vec![0, key]),
            to: Bytes(vec![0, key]),
            catch_all: false,
            data: None,
            object: None,
            expires_ms: None,
            expressions: Vec::new(),
        };
        RawElement { interval_end, element, has_end: false }
    }

    #[test]
    fn halves_of_intervals_are_joined_in_any_order() {
        let flags = SetFlags { interval: true, ..SetFlags::default() };
        let cases = [
            ("one", vec![raw(10, false), raw(20, true)], vec![("000a", "0013")]),
            (
                "adjacent, from the top",
                vec![raw(30, true), raw(20, false), raw(20, true), raw(10, false), raw(0, true)],
                vec![("000a", "0013"), ("0014", "001d")],
            ),
            ("to the top", vec![raw(0, true), raw(10, false)], vec![("000a", "ffff")]),
        ];
        for (name, elements, expected) in cases {
            let joined: Vec<_> =
                join_intervals(elements, flags).into_iter().map(|element| (element.from.to_string(), element.to.to_string())).collect();
            let expected: Vec<_> = expected.into_iter().map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
            assert_eq!(joined, expected, "{name}");
        }
    }
}
