//! Reading nf_tables and ipsets of one namespace, by a thread that is in it.

use std::collections::BTreeMap;

use netcheck::decode::message::{Message, Request};
use netcheck::decode::table::{self, Within};
use netcheck::decode::{DecodeError, ipset};
use netcheck::snapshot::{Chain, Expression, Family, GapKind, IpSet, Match, Set, Table, Target};
use rustix::net::netlink::NETFILTER;

use super::read::Reading;
use netcheck::kernel::netlink::{Connection, ReadError, dump_request};

const NFTABLES: u16 = 10 << 8;
const IPSET: u16 = 6 << 8;
const NFT_MSG_GETTABLE: u16 = NFTABLES | 1;
const NFT_MSG_GETCHAIN: u16 = NFTABLES | 4;
const NFT_MSG_GETRULE: u16 = NFTABLES | 7;
const NFT_MSG_GETSET: u16 = NFTABLES | 10;
const NFT_MSG_GETSETELEM: u16 = NFTABLES | 13;
const NFT_MSG_GETGEN: u16 = NFTABLES | 16;
const NFT_MSG_GETOBJ: u16 = NFTABLES | 19;
const NFT_MSG_GETFLOWTABLE: u16 = NFTABLES | 23;
/// A rule set that changes faster than it is read this many times is recorded as it was last seen, with a gap.
const ATTEMPTS: u32 = 8;

/// `struct nfgenmsg` for all families.
const ALL: [u8; 4] = [0; 4];

/// Reads the rule set, again if it changed meanwhile.
pub(crate) fn read(reading: &mut Reading) {
    let mut connection = match Connection::open(Some(NETFILTER), "netfilter socket") {
        Ok(connection) => connection,
        Err(error) if error.is_absent() => return,
        Err(error) => return reading.gap(GapKind::NotRead, error.to_string()),
    };
    match generation(&mut connection) {
        Ok(_) => {}
        Err(error) if error.is_absent() => return,
        Err(error) => return reading.gap(GapKind::NotRead, error.to_string()),
    }
    read_tables(reading, &mut connection);
    if reading.namespace.tables.iter().any(uses_ipsets) {
        match ipsets(&mut connection) {
            Ok(found) => reading.namespace.ipsets = found,
            Err(error) => reading.gap(GapKind::NotRead, error.to_string()),
        }
    }
    let flowtables: Vec<String> =
        reading.namespace.tables.iter().flat_map(|table| &table.flowtables).map(|flowtable| flowtable.name.clone()).collect();
    for name in flowtables {
        reading.gap(GapKind::Flowtable, name);
    }
}

fn read_tables(reading: &mut Reading, connection: &mut Connection) {
    for attempt in 0..ATTEMPTS {
        match read_once(connection) {
            Ok(Read { before, after, tables }) => {
                reading.namespace.tables = tables;
                reading.namespace.generation = after;
                if before == after {
                    return;
                }
                if attempt + 1 == ATTEMPTS {
                    let detail = "the rule set kept changing while it was read".to_owned();
                    reading.gap(GapKind::Inconsistent, detail);
                }
            }
            // A chain or set that went away between two dumps.
            Err(error) if attempt + 1 == ATTEMPTS => {
                reading.gap(GapKind::NotRead, error.to_string());
            }
            Err(_) => {}
        }
    }
}

/// The rule set between two looks at its generation.
struct Read {
    before: u32,
    after: u32,
    tables: Vec<Table>,
}

fn read_once(connection: &mut Connection) -> Result<Read, ReadError> {
    let before = generation(connection)?;
    let mut tables = all(connection, "tables", NFT_MSG_GETTABLE, table::table)?;
    if !tables.is_empty() {
        fill(connection, &mut tables)?;
    }
    Ok(Read { before, after: generation(connection)?, tables })
}

fn generation(connection: &mut Connection) -> Result<u32, ReadError> {
    let request = Request::new(NFT_MSG_GETGEN, 0, &ALL);
    let get = |message: Message<'_>| table::generation(message.payload);
    Ok(connection.get("generation of the rule set", &request, get)?.unwrap_or(0))
}

fn all<T>(connection: &mut Connection, what: &'static str, kind: u16, decode: impl Fn(&[u8]) -> Result<T, DecodeError>) -> Result<Vec<T>, ReadError> {
    connection.dump(what, &dump_request(kind, &ALL), |message| decode(message.payload).map(Some))
}

fn fill(connection: &mut Connection, tables: &mut [Table]) -> Result<(), ReadError> {
    let chains = all(connection, "chains", NFT_MSG_GETCHAIN, table::chain)?;
    let rules = all(connection, "rules", NFT_MSG_GETRULE, table::rule)?;
    let sets = all(connection, "sets", NFT_MSG_GETSET, table::set)?;
    let objects = optional(all(connection, "objects", NFT_MSG_GETOBJ, table::object))?;
    let flowtables = optional(all(connection, "flowtables", NFT_MSG_GETFLOWTABLE, table::flowtable))?;
    let mut by_name: BTreeMap<(Family, String), &mut Table> = tables.iter_mut().map(|table| ((table.family, table.name.clone()), table)).collect();
    for chain in chains {
        if let Some(table) = by_name.get_mut(&(chain.family, chain.table)) {
            table.chains.push(chain.value);
        }
    }
    place_rules(&mut by_name, rules);
    for mut set in sets {
        read_elements(connection, &mut set)?;
        if let Some(table) = by_name.get_mut(&(set.family, set.table)) {
            table.sets.push(set.value);
        }
    }
    for object in objects {
        if let Some(table) = by_name.get_mut(&(object.family, object.table)) {
            table.objects.push(object.value);
        }
    }
    for flowtable in flowtables {
        if let Some(table) = by_name.get_mut(&(flowtable.family, flowtable.table)) {
            table.flowtables.push(flowtable.value);
        }
    }
    Ok(())
}

/// What an older kernel does not know is not there.
fn optional<T>(result: Result<Vec<T>, ReadError>) -> Result<Vec<T>, ReadError> {
    match result {
        Err(error) if error.is_absent() => Ok(Vec::new()),
        other => other,
    }
}

fn place_rules(tables: &mut BTreeMap<(Family, String), &mut Table>, rules: Vec<table::RuleOf>) {
    let mut places = BTreeMap::new();
    for ((family, name), table) in tables.iter() {
        for (index, chain) in table.chains.iter().enumerate() {
            places.insert((*family, name.clone(), chain.name.clone()), index);
        }
    }
    for rule in rules {
        let (chain, value) = rule.value;
        let place = (rule.family, rule.table, chain);
        let Some(index) = places.get(&place).copied() else { continue };
        let (family, table, _) = place;
        let table = tables.get_mut(&(family, table));
        if let Some(chain) = table.and_then(|table| table.chains.get_mut(index)) {
            chain.rules.push(value);
        }
    }
}

fn read_elements(connection: &mut Connection, set: &mut Within<Set>) -> Result<(), ReadError> {
    let header = [table::family_number(set.family), 0, 0, 0];
    let request = dump_request(NFT_MSG_GETSETELEM, &header).string(1, &set.table).string(2, &set.value.name);
    let chunks = connection.dump("elements of a set", &request, |message| table::elements(message.payload).map(|elements| Some(elements.value.1)))?;
    let raw = chunks.into_iter().flatten().collect();
    set.value.elements = table::join_intervals(raw, set.value.flags);
    Ok(())
}

fn uses_ipsets(table: &Table) -> bool {
    let uses = |expression: &Expression| matches!(expression, Expression::Match(Match::Set(_)) | Expression::Target(Target::Set(_)));
    table.chains.iter().flat_map(Chain::expressions).any(uses)
}

/// All ipsets, with the numbers that rules use.
fn ipsets(connection: &mut Connection) -> Result<Vec<IpSet>, ReadError> {
    const IPSET_CMD_LIST: u16 = IPSET | 7;
    const IPSET_CMD_GET_BYNAME: u16 = IPSET | 14;
    const PROTOCOL: [u8; 1] = [7];
    const ATTR_PROTOCOL: u16 = 1;
    const ATTR_SETNAME: u16 = 2;
    let request = dump_request(IPSET_CMD_LIST, &[2, 0, 0, 0]).attribute(ATTR_PROTOCOL, &PROTOCOL);
    let chunks = connection.dump("ipsets", &request, |message| ipset::ipset(message.payload).map(Some))?;
    let mut sets: Vec<IpSet> = Vec::new();
    for chunk in chunks {
        match sets.iter_mut().find(|set| set.name == chunk.name) {
            Some(set) => set.elements.extend(chunk.elements),
            None => sets.push(chunk),
        }
    }
    for set in &mut sets {
        let request = Request::new(IPSET_CMD_GET_BYNAME, 0, &[2, 0, 0, 0]).attribute(ATTR_PROTOCOL, &PROTOCOL).string(ATTR_SETNAME, &set.name);
        let index = connection.get("ipset index", &request, |message| ipset::index(message.payload))?;
        set.index = index.unwrap_or(u16::MAX);
    }
    Ok(sets)
}
