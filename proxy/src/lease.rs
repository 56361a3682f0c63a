//! Names that requests under way may give to what they make. A name is judged when a request comes, and given when it is done, which for a build
//! is much later: until then it is kept from other tenants. One process keeps it; two in front of one engine do not know of each other.

use std::cell::RefCell;
use std::collections::BTreeMap;

use engine::facts::Reference;

/// Which names are kept, and for whom.
#[derive(Debug, Default)]
pub struct Leases {
    held: RefCell<BTreeMap<Reference, Holders>>,
}

#[derive(Debug)]
struct Holders {
    holder: Holder,
    requests: usize,
}

/// For whom a name is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// Whoever pulls it: they get the same image.
    Pulls,
    /// What a tenant makes.
    Tenant(String),
}

/// Names that are kept while it lasts.
#[derive(Debug)]
pub struct Lease<'l> {
    all: &'l Leases,
    names: Vec<Reference>,
}

impl Leases {
    /// Keeps names for a tenant, or for pulls; requests of one holder share them.
    ///
    /// # Errors
    /// The first name that is kept for another.
    pub fn take(&self, names: Vec<Reference>, holder: &Holder) -> Result<Lease<'_>, Reference> {
        let mut held = self.held.borrow_mut();
        if let Some(name) = names.iter().find(|name| held.get(name).is_some_and(|holders| holders.holder != *holder)) {
            return Err(name.clone());
        }
        for name in &names {
            held.entry(name.clone()).or_insert_with(|| Holders { holder: holder.clone(), requests: 0 }).requests += 1;
        }
        drop(held);
        Ok(Lease { all: self, names })
    }
}

impl Lease<'_> {
    /// Whether no other request shares a name.
    #[must_use]
    pub fn is_alone(&self, name: &Reference) -> bool {
        self.names.contains(name) && self.all.held.borrow().get(name).is_some_and(|holders| holders.requests == 1)
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut held = self.all.held.borrow_mut();
        for name in &self.names {
            if let Some(holders) = held.get_mut(name) {
                holders.requests -= 1;
                if holders.requests == 0 {
                    held.remove(name);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::facts::ObjectKind;

    use super::*;

    #[test]
    fn a_name_is_one_tenants_while_a_request_lasts() {
        let leases = Leases::default();
        let name = |name: &str| Reference { kind: ObjectKind::Image, name: name.to_owned() };
        let (alice, bob) = (Holder::Tenant("alice".to_owned()), Holder::Tenant("bob".to_owned()));
        let first = leases.take(vec![name("app"), name("web")], &alice).unwrap();
        assert!(first.is_alone(&name("app")));
        assert_eq!(leases.take(vec![name("other"), name("web")], &bob).unwrap_err(), name("web"));
        let second = leases.take(vec![name("web")], &alice).unwrap();
        assert!(!second.is_alone(&name("web")));
        drop(first);
        assert!(leases.take(vec![name("web")], &bob).is_err());
        drop(second);
        // What was refused keeps nothing.
        assert!(leases.take(vec![name("web"), name("other")], &bob).is_ok());
        assert!(leases.held.borrow().is_empty());
    }
}
