//! How many connections there may be: in all, and of one identity; and how many handshakes of one address, before anybody has an identity.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::{Limits, Tenant};
use crate::identity::Identity;

/// The count of open connections. One for a process.
#[derive(Debug)]
pub struct Gate {
    max: u32,
    max_per_identity: u32,
    max_per_address: u32,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    all: u32,
    /// By the tenant that an identity has of itself: one text for each identity, whatever its certificate's serial.
    by_identity: BTreeMap<Tenant, u32>,
    /// Handshakes under way, by where they come from.
    by_address: BTreeMap<IpAddr, u32>,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Full {
    /// Handshakes of this address.
    #[error("{0} handshakes of this address are under way, as many as there may be")]
    Address(u32),
    /// In all.
    #[error("there are {0} connections, as many as there may be")]
    All(u32),
    /// Of this identity.
    #[error("this identity has {0} connections, as many as it may have")]
    Identity(u32),
}

/// A place in the limits, until it is dropped.
#[derive(Debug)]
pub struct Ticket {
    gate: Arc<Gate>,
    of: Tenant,
}

/// A handshake under way, until it is dropped.
#[derive(Debug)]
pub struct Handshaking {
    gate: Arc<Gate>,
    of: IpAddr,
}

/// One address may have this part of all handshakes that there may be.
const PART: u32 = 4;

/// Whoever has one address of a network of IPv6 has them all (RFC 4291 §2.5.4).
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

impl Gate {
    /// An empty house with these limits.
    #[must_use]
    pub fn new(limits: &Limits) -> Arc<Self> {
        let (max, max_per_identity) = (limits.max_connections, limits.max_connections_per_identity);
        let max_per_address = limits.max_handshakes.div_ceil(PART);
        Arc::new(Self { max, max_per_identity, max_per_address, open: Mutex::default() })
    }

    /// Begins a handshake. Who holds many of them open keeps out himself alone.
    ///
    /// # Errors
    /// There are too many of this address.
    pub fn begin(self: &Arc<Self>, address: IpAddr) -> Result<Handshaking, Full> {
        let of = source(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.by_address.entry(of).or_default();
        if *count >= self.max_per_address {
            return Err(Full::Address(self.max_per_address));
        }
        *count = count.saturating_add(1);
        drop(open);
        Ok(Handshaking { gate: Arc::clone(self), of })
    }

    /// Takes a place for a connection of `identity`.
    ///
    /// # Errors
    /// There is none left.
    pub fn enter(self: &Arc<Self>, identity: &Identity) -> Result<Ticket, Full> {
        let of = identity.tenant();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.all >= self.max {
            return Err(Full::All(self.max));
        }
        let count = open.by_identity.get(&of).copied().unwrap_or(0);
        if count >= self.max_per_identity {
            return Err(Full::Identity(self.max_per_identity));
        }
        open.by_identity.insert(of.clone(), count.saturating_add(1));
        open.all = open.all.saturating_add(1);
        Ok(Ticket { gate: Arc::clone(self), of })
    }

    /// How many connections are open.
    #[must_use]
    pub fn open(&self) -> u32 {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).all
    }
}

/// One less; none leaves nothing behind.
fn leave<K: Ord>(counts: &mut BTreeMap<K, u32>, of: &K) {
    match counts.get_mut(of) {
        Some(count) if *count > 1 => *count = count.saturating_sub(1),
        Some(_) | None => {
            counts.remove(of);
        }
    }
}

impl Drop for Handshaking {
    fn drop(&mut self) {
        let mut open = self.gate.open.lock().unwrap_or_else(PoisonError::into_inner);
        leave(&mut open.by_address, &self.of);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut open = self.gate.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.all = open.all.saturating_sub(1);
        leave(&mut open.by_identity, &self.of);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::PeerIdentity;

    #[test]
    fn a_place_is_free_again_when_its_ticket_is_gone() {
        let limits = Limits { max_connections: 3, max_connections_per_identity: 2, ..Limits::default() };
        let gate = Gate::new(&limits);
        let peer = |uid| Identity::Peer(PeerIdentity { uid, gid: 0, pid: None });
        let one = gate.enter(&peer(1)).unwrap();
        let two = gate.enter(&peer(1)).unwrap();
        assert_eq!(gate.enter(&peer(1)).unwrap_err(), Full::Identity(2));
        let other = gate.enter(&peer(2)).unwrap();
        assert_eq!(gate.enter(&peer(3)).unwrap_err(), Full::All(3));
        drop(one);
        assert!(gate.enter(&peer(3)).is_ok());
        drop((two, other));
        assert_eq!(gate.open(), 0);
        assert!(gate.open.lock().unwrap().by_identity.is_empty());
    }

    #[test]
    fn one_address_cannot_hold_all_handshakes() {
        let gate = Gate::new(&Limits { max_handshakes: 8, ..Limits::default() });
        let begin = |address: &str| gate.begin(address.parse().unwrap());
        let held = [begin("192.0.2.1").unwrap(), begin("::ffff:192.0.2.1").unwrap()];
        assert_eq!(begin("192.0.2.1").unwrap_err(), Full::Address(2));
        let other = [begin("2001:db8::1").unwrap(), begin("2001:db8::2").unwrap()];
        assert_eq!(begin("2001:db8::3").unwrap_err(), Full::Address(2));
        assert!(begin("2001:db8:0:1::1").is_ok());
        drop((held, other));
        assert!(begin("192.0.2.1").is_ok());
        assert!(gate.open.lock().unwrap().by_address.is_empty());
    }
}
