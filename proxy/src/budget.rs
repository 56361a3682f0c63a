//! Memory for bodies that are read as a whole: so much for each tenant, however many connections it has.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// What is taken, by tenant.
#[derive(Debug, Default)]
pub struct Budget {
    taken: RefCell<BTreeMap<Rc<str>, usize>>,
}

/// A part of it, until it is dropped.
#[derive(Debug)]
pub struct Share<'b> {
    budget: &'b Budget,
    tenant: Rc<str>,
    bytes: usize,
}

/// Most bytes of all bodies of a tenant.
const MOST: usize = 16 << 20;
/// Bodies up to this length are not counted: connections are.
const SMALL: usize = 8 << 10;

impl Budget {
    /// Takes room for a body. `None`: the tenant has no more.
    pub fn take(&self, tenant: &Rc<str>, bytes: usize) -> Option<Share<'_>> {
        let bytes = if bytes <= SMALL { 0 } else { bytes };
        let mut taken = self.taken.borrow_mut();
        let before = taken.get(tenant).copied().unwrap_or_default();
        if bytes > 0 && before > 0 && before + bytes > MOST {
            return None;
        }
        if bytes > 0 {
            taken.insert(Rc::clone(tenant), before + bytes);
        }
        Some(Share { budget: self, tenant: Rc::clone(tenant), bytes })
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let mut taken = self.budget.taken.borrow_mut();
        let left = taken.get(&self.tenant).copied().unwrap_or_default().saturating_sub(self.bytes);
        if left > 0 {
            taken.insert(Rc::clone(&self.tenant), left);
        } else {
            taken.remove(&self.tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_its_own_part() {
        let (alice, bob) = (Rc::from("alice"), Rc::from("bob"));
        let budget = Budget::default();
        let held: Vec<Share<'_>> = (0..4).map(|_| budget.take(&alice, 4 << 20).unwrap()).collect();
        assert!(budget.take(&alice, SMALL + 1).is_none());
        assert!(budget.take(&alice, SMALL).is_some(), "small ones always pass");
        assert!(budget.take(&bob, 4 << 20).is_some());
        drop(held);
        // One alone may be as large as the configuration lets it be.
        assert!(budget.take(&alice, 2 * MOST).is_some());
        assert!(budget.taken.borrow().is_empty());
    }
}
