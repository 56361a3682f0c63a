//! Places that requests under way have alone, or beside each other. One process keeps them; two in front of one engine do not know of each other.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// Which places are taken.
#[derive(Debug)]
pub struct Locks<P> {
    places: RefCell<BTreeMap<P, Weak<RwLock<()>>>>,
}

/// A place that is taken while it lasts.
#[derive(Debug)]
pub enum Taken {
    /// By nobody else.
    Alone(OwnedRwLockWriteGuard<()>),
    /// By others too, and by nobody alone.
    Beside(OwnedRwLockReadGuard<()>),
}

impl<P> Default for Locks<P> {
    fn default() -> Self {
        Self { places: RefCell::default() }
    }
}

impl<P: Ord + Clone> Locks<P> {
    /// Waits until nobody else has these places. They are taken in their order, so that no two wait for each other.
    pub async fn alone(&self, places: &BTreeSet<P>) -> Vec<Taken> {
        let mut taken = Vec::new();
        for place in self.locks(places) {
            taken.push(Taken::Alone(place.write_owned().await));
        }
        taken
    }

    /// Waits until nobody has these places alone; in their order, too.
    pub async fn beside(&self, places: &BTreeSet<P>) -> Vec<Taken> {
        let mut taken = Vec::new();
        for place in self.locks(places) {
            taken.push(Taken::Beside(place.read_owned().await));
        }
        taken
    }

    fn locks(&self, places: &BTreeSet<P>) -> Vec<Arc<RwLock<()>>> {
        let mut known = self.places.borrow_mut();
        known.retain(|_, lock| lock.strong_count() > 0);
        let mut lock = |place: &P| {
            let lock = known.get(place).and_then(Weak::upgrade).unwrap_or_default();
            known.insert(place.clone(), Arc::downgrade(&lock));
            lock
        };
        places.iter().map(&mut lock).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// What is to be had is had at once.
    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(taken) => Some(taken),
            Poll::Pending => None,
        }
    }

    fn places(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_place_is_one_s_alone_or_many_s() {
        let locks = Locks::default();
        let moving = (now(locks.beside(&places(&["a"]))), now(locks.beside(&places(&["a", "b"]))));
        assert!(moving.0.is_some() && moving.1.is_some(), "many may run");
        assert!(now(locks.alone(&places(&["a", "b"]))).is_none());
        drop(moving.0);
        assert!(now(locks.alone(&places(&["a"]))).is_none());
        drop(moving.1);
        let still = now(locks.alone(&places(&["a", "b"])));
        assert!(still.is_some());
        assert!(now(locks.beside(&places(&["b", "c"]))).is_none());
        assert!(now(locks.alone(&places(&["b"]))).is_none(), "one copy at a time");
        assert!(now(locks.beside(&places(&["c"]))).is_some(), "what was not to be had keeps nothing");
        drop(still);
        assert!(now(locks.alone(&places(&["b"]))).is_some());
        drop(locks.locks(&places(&["d"])));
        assert_eq!(locks.places.borrow().len(), 1);
    }

    #[test]
    fn who_waits_is_next() {
        let locks = Locks::default();
        let first = now(locks.alone(&places(&["a", "b"])));
        let wanted = places(&["a"]);
        let mut waiting = pin!(locks.alone(&wanted));
        let mut ask = || waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
        assert!(!ask());
        drop(first);
        assert!(ask());
    }
}
