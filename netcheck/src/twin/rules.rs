//! Loading a rule set from its bytecode.

use rustix::net::netlink::NETFILTER;

use crate::decode::message::{ACK, Request};
use crate::encode::link::remove_neighbour;
use crate::encode::{Lack, table as encode};
use crate::kernel::enter::Handle;
use crate::kernel::netlink::{Connection, ReadError};
use crate::kernel::routing;
use crate::snapshot::{Namespace, Table};
use crate::uapi::NUD_PERMANENT;

use super::TwinError;

/// Rounds in which what the kernel refuses is taken out.
const ROUNDS: u32 = 24;

/// What a rule set lost, and whether it decides.
pub(super) type Losses = Vec<(String, bool)>;

/// A message, and what it is for people.
struct Part {
    what: String,
    request: Request,
}

/// Loads the tables of a namespace into the one that this thread is in.
pub(super) fn load(namespace: &Namespace) -> Result<Losses, ReadError> {
    if namespace.tables.is_empty() {
        return Ok(Losses::new());
    }
    let mut losses = Losses::new();
    let mut parts = parts(namespace, &mut losses);
    let mut connection = Connection::open(Some(NETFILTER), "netfilter socket")?;
    for _ in 0..ROUNDS {
        let requests: Vec<Request> = parts.iter().map(|part| part.request.clone()).collect();
        let failed = connection.transaction("rules", encode::SUBSYSTEM, &requests)?;
        if failed.is_empty() {
            return Ok(losses);
        }
        let mut places: Vec<usize> = Vec::new();
        for (place, errno) in failed {
            match place.and_then(|place| Some((place, parts.get(place)?))) {
                Some((place, part)) => {
                    losses.push((format!("{}: {errno}", part.what), true));
                    places.push(place);
                }
                None => {
                    losses.push((format!("the whole rule set: {errno}"), true));
                    return Ok(losses);
                }
            }
        }
        let mut place = 0;
        parts.retain(|_| {
            place += 1;
            !places.contains(&(place - 1))
        });
    }
    losses.push(("the whole rule set: the kernel takes no part of it".to_owned(), true));
    Ok(losses)
}

/// Everything in the order in which it can be made: chains before what jumps to them, sets before what looks into them.
fn parts(namespace: &Namespace, losses: &mut Losses) -> Vec<Part> {
    let mut parts = Vec::new();
    // Of chains with equal priority the newest runs first, so they are made in the order of their handles.
    let mut tables: Vec<&Table> = namespace.tables.iter().collect();
    tables.sort_by_key(|table| table.handle);
    let mut sets = 0;
    for table in &tables {
        let name = &table.name;
        parts.push(Part { what: format!("table {name}"), request: encode::table(table) });
        let mut chains: Vec<_> = table.chains.iter().collect();
        chains.sort_by_key(|chain| chain.handle);
        for chain in chains {
            match encode::chain(table, chain) {
                Ok(request) => parts.push(Part { what: format!("chain {name} {}", chain.name), request }),
                Err(lack) => lose(lack, "", losses),
            }
        }
        for set in &table.sets {
            sets += 1;
            parts.push(Part { what: format!("set {name} {}", set.name), request: encode::set(table, set, sets) });
            for request in encode::elements(table, set) {
                parts.push(Part { what: format!("elements of set {name} {}", set.name), request });
            }
        }
    }
    for table in tables {
        for chain in &table.chains {
            for rule in &chain.rules {
                let what = format!("rule {} {} handle {}", table.name, chain.name, rule.handle);
                match encode::rule(table, chain, rule) {
                    Ok(written) => {
                        losses.extend(
                            written.left_out.into_iter().filter(|left| left.starts_with("target")).map(|left| (format!("{what}: {left}"), false)),
                        );
                        parts.push(Part { what, request: written.request });
                    }
                    Err(lack) => lose(lack, &format!("{what}: "), losses),
                }
            }
        }
    }
    parts
}

fn lose(lack: Lack, place: &str, losses: &mut Losses) {
    losses.push(match lack {
        Lack::Decides(what) => (format!("{place}{what}"), true),
        Lack::Harmless(what) => (format!("{place}{what}"), false),
        Lack::Perhaps(what) => (format!("{place}{what}: may match or not, so the rule is left out"), false),
    });
}

/// Takes out every neighbour that was found, or looked for, and the group that was asked for it. One that is gone by then, or cannot be read, is no loss.
pub(super) fn forget_neighbours(connection: &mut Connection) {
    let found = routing::neighbours(connection, false).into_iter().flatten();
    for neighbour in found.filter(|neighbour| neighbour.state & NUD_PERMANENT == 0) {
        let _ = connection.order("neighbours", &remove_neighbour(&neighbour));
    }
}

/// `IPCTNL_MSG_CT_DELETE` of everything.
pub(super) fn forget_connections(handle: &Handle) -> Result<(), TwinError> {
    const CT_DELETE: u16 = 1 << 8 | 2;
    let forget = || Connection::open(Some(NETFILTER), "conntrack")?.order("conntrack", &Request::new(CT_DELETE, ACK, &[0; 4]));
    handle.inside(forget).map_err(TwinError::Namespace)?.map_err(TwinError::Netlink)
}
