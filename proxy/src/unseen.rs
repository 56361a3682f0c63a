//! Volumes that no process has seen: made here, and in no container yet.
//!
//! Whether some container has a volume now says too little: a process may keep a directory of one that it had, or be given it by another one
//! (unix(7), `SCM_RIGHTS`). So it is remembered which volumes are new, as far as this proxy made them; all others are mounted as they are.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// The volumes of each tenant.
#[derive(Debug, Default)]
pub struct Unseen {
    volumes: RefCell<BTreeMap<Rc<str>, BTreeSet<String>>>,
}

/// Most volumes that are remembered for a tenant. A further one is not filled when it is mounted first.
const MOST: usize = 1024;

impl Unseen {
    /// These volumes of a tenant were made just now, or no container came to have them.
    pub fn made(&self, tenant: &Rc<str>, names: &[String]) {
        if names.is_empty() {
            return;
        }
        let mut volumes = self.volumes.borrow_mut();
        let of_tenant = volumes.entry(Rc::clone(tenant)).or_default();
        let room = MOST.saturating_sub(of_tenant.len());
        of_tenant.extend(names.iter().take(room).cloned());
    }

    /// Whether it is one.
    #[must_use]
    pub fn has(&self, tenant: &str, name: &str) -> bool {
        self.volumes.borrow().get(tenant).is_some_and(|volumes| volumes.contains(name))
    }

    /// A container is about to have a volume, whoever's. Whether it was one.
    pub fn forget(&self, name: &str) -> bool {
        let mut was = false;
        self.volumes.borrow_mut().retain(|_, volumes| {
            was |= volumes.remove(name);
            !volumes.is_empty()
        });
        was
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_new_until_a_container_has_it() {
        let (alice, bob) = (Rc::from("alice"), Rc::from("bob"));
        let unseen = Unseen::default();
        unseen.made(&alice, &["cache".to_owned()]);
        assert!(unseen.has(&alice, "cache") && !unseen.has(&bob, "cache"));
        assert!(unseen.forget("cache"), "whoever mounts it");
        assert!(!unseen.has(&alice, "cache") && !unseen.forget("cache"));
        unseen.made(&alice, &(0..=MOST).map(|n| n.to_string()).collect::<Vec<String>>());
        unseen.made(&bob, &["cache".to_owned()]);
        assert!(!unseen.has(&alice, &MOST.to_string()) && unseen.has(&bob, "cache"), "each tenant has its own part");
    }
}
