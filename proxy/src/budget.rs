//! Memory for what is kept as a whole, of requests or of answers: so much for each tenant, however many connections it has.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// What is taken, by tenant.
#[derive(Debug, Clone)]
pub struct Budget {
    most: usize,
    taken: Rc<RefCell<BTreeMap<Rc<str>, usize>>>,
}

/// A part of it, until it is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    tenant: Rc<str>,
    bytes: usize,
}

/// Most bytes of all requests of a tenant.
pub const REQUESTS: usize = 16 << 20;
/// Most bytes of all answers to a tenant that are looked into.
pub const ANSWERS: usize = 32 << 20;
/// Most bytes of facts about the objects that all requests of a tenant name, and that one of them names.
pub const FACTS: usize = 8 << 20;
/// Most bytes of what the engine does for a tenant to its end, and how many requests those are: one takes about 32 KiB until it is answered.
pub const UNDERWAY: usize = 16 << 20;
/// See [`UNDERWAY`].
pub const MOST_UNDERWAY: usize = 512;

/// Up to this length nothing is counted: connections are.
const SMALL: usize = 8 << 10;

/// Bytes that streams share of what is under way to their readers.
const ALL_PARTS: usize = 4 << 20;

/// How many bytes a stream may keep of what its reader does not take, where so many are open: the more there are, the less has each. Parts of 64 KiB
/// cost least; what all of them keep is about 16 MiB for a thousand.
#[must_use]
pub fn part(open: usize) -> usize {
    ALL_PARTS.checked_div(open).unwrap_or(usize::MAX).clamp(8 << 10, 64 << 10)
}

impl Budget {
    /// So many bytes for each tenant.
    #[must_use]
    pub fn of(most: usize) -> Self {
        Self { most, taken: Rc::default() }
    }

    /// Begins something, of which nothing is there yet.
    #[must_use]
    pub fn begin(&self, tenant: &Rc<str>) -> Share {
        Share { budget: self.clone(), tenant: Rc::clone(tenant), bytes: 0 }
    }
}

impl Share {
    /// Takes as much room as it has now. False: the tenant has no more.
    pub fn resize(&mut self, bytes: usize) -> bool {
        let bytes = if bytes <= SMALL { 0 } else { bytes };
        let mut taken = self.budget.taken.borrow_mut();
        let others = taken.get(&self.tenant).copied().unwrap_or_default().saturating_sub(self.bytes);
        if bytes > self.bytes && others > 0 && others + bytes > self.budget.most {
            return false;
        }
        self.bytes = bytes;
        if others + bytes > 0 {
            taken.insert(Rc::clone(&self.tenant), others + bytes);
        } else {
            taken.remove(&self.tenant);
        }
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_streams_the_less_has_each() {
        assert_eq!([0, 1, 64, 128, 1024].map(|open| part(open) >> 10), [64, 64, 64, 32, 8]);
    }

    #[test]
    fn a_tenant_has_its_own_part() {
        let (alice, bob) = (Rc::from("alice"), Rc::from("bob"));
        let budget = Budget::of(REQUESTS);
        let take = |tenant, bytes| {
            let mut share = budget.begin(tenant);
            share.resize(bytes).then_some(share)
        };
        let mut held: Vec<Share> = (0..4).map(|_| take(&alice, 4 << 20).unwrap()).collect();
        assert!(take(&alice, SMALL + 1).is_none());
        assert!(take(&alice, SMALL).is_some(), "small ones always pass");
        assert!(take(&bob, 4 << 20).is_some());
        assert!(!held[0].resize((4 << 20) + 1), "it does not grow");
        assert!(held[0].resize(3 << 20) && held[0].resize(4 << 20), "and what it gave back it may have again");
        drop(held);
        // One alone may be as large as the configuration lets it be.
        assert!(take(&alice, 32 << 20).is_some());
        assert!(budget.taken.borrow().is_empty());
    }
}
