//! Dumps of rtnetlink that are taken of hosts and of twins alike: routes, policy rules, neighbours.

use super::netlink::{Connection, ReadError, dump_request};
use crate::decode::link::{self, DecodedNeighbour};
use crate::decode::message::Message;
use crate::decode::{DecodeError, route};
use crate::snapshot::{Neighbour, PolicyRule, Route};
use crate::uapi::{AF_INET, AF_INET6, NTF_PROXY};

const RTM_GETROUTE: u16 = 26;
const RTM_GETNEIGH: u16 = 30;
const RTM_GETRULE: u16 = 34;

/// Routes of all tables.
///
/// # Errors
/// They cannot be read.
pub fn routes(connection: &mut Connection) -> Result<Vec<Route>, ReadError> {
    connection.dump("routes", &dump_request(RTM_GETROUTE, &[0; 12]), |message| if_ip(&message, route::route))
}

/// Policy rules.
///
/// # Errors
/// They cannot be read.
pub fn policy_rules(connection: &mut Connection) -> Result<Vec<PolicyRule>, ReadError> {
    connection.dump("policy rules", &dump_request(RTM_GETRULE, &[0; 12]), |message| if_ip(&message, |payload| route::rule(payload).map(Some)))
}

/// Neighbours: those that are known or looked for, or those that are answered for.
///
/// # Errors
/// They cannot be read.
pub fn neighbours(connection: &mut Connection, answered_for: bool) -> Result<Vec<Neighbour>, ReadError> {
    let mut header = [0; 12];
    if let Some(flags) = header.get_mut(10).filter(|_| answered_for) {
        *flags = NTF_PROXY;
    }
    connection.dump("neighbours", &dump_request(RTM_GETNEIGH, &header), |message| {
        if_ip(&message, |payload| {
            Ok(match link::neighbour(payload)? {
                DecodedNeighbour::Neighbour(neighbour) => Some(neighbour),
                DecodedNeighbour::Fdb(_) => None,
            })
        })
    })
}

/// Decodes a message of IPv4 or IPv6; other families are dumped, too.
fn if_ip<T>(message: &Message<'_>, decode: impl Fn(&[u8]) -> Result<Option<T>, DecodeError>) -> Result<Option<T>, DecodeError> {
    match message.payload.first() {
        Some(&(AF_INET | AF_INET6)) => decode(message.payload),
        _ => Ok(None),
    }
}
