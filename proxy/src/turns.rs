//! Whose turn it is to mount a volume in a new container.
//!
//! The engine fills an empty volume with what the image has in its place, by path and as root (moby daemon/create_unix.go, `populateVolumes`). A
//! process that has the volume meanwhile can put a symbolic link where the engine is about to write, and it writes where the link leads: anywhere on
//! the host. So a volume is filled only while no container has it, and creates that name one volume come one after another: what mounts it next is not
//! there before it is full. One process keeps the order; two in front of one engine do not know of each other.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// What creates take turns at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    /// The volume of this name.
    Volume(String),
    /// The volumes without a name of this tenant: those that are made, all beside each other, and those that are mounted by the name that the engine
    /// gave them, each alone. In this order, for whoever takes both.
    Unnamed(String),
}

/// The order of creates.
#[derive(Debug, Default)]
pub struct Turns {
    locks: RefCell<BTreeMap<Turn, Arc<RwLock<()>>>>,
}

/// The turns that a create has, while it lasts.
#[derive(Debug)]
pub struct Held<'t> {
    all: &'t Turns,
    alone: Vec<OwnedRwLockWriteGuard<()>>,
    beside: Option<OwnedRwLockReadGuard<()>>,
}

impl Turns {
    /// Begins to take turns.
    #[must_use]
    pub const fn begin(&self) -> Held<'_> {
        Held { all: self, alone: Vec::new(), beside: None }
    }

    fn lock(&self, turn: Turn) -> Arc<RwLock<()>> {
        Arc::clone(self.locks.borrow_mut().entry(turn).or_default())
    }
}

impl Held<'_> {
    /// Waits until nobody else has these turns. Whoever takes several takes them in their order, so that no two wait for each other.
    pub async fn alone(&mut self, mut turns: Vec<Turn>) {
        turns.sort();
        turns.dedup();
        for turn in turns {
            let lock = self.all.lock(turn);
            self.alone.push(lock.write_owned().await);
        }
    }

    /// Waits until nobody has this turn alone.
    pub async fn beside(&mut self, turn: Turn) {
        let lock = self.all.lock(turn);
        self.beside = Some(lock.read_owned().await);
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.alone.clear();
        self.beside = None;
        self.all.locks.borrow_mut().retain(|_, lock| Arc::strong_count(lock) > 1);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    fn is_there<F: Future>(future: std::pin::Pin<&mut F>) -> bool {
        future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    #[test]
    fn creates_of_one_volume_come_one_after_another() {
        let turns = Turns::default();
        let volume = |name: &str| Turn::Volume(name.to_owned());
        let (mut first, mut second, mut third) = (turns.begin(), turns.begin(), turns.begin());
        assert!(is_there(pin!(first.alone(vec![volume("b"), volume("a"), volume("a")]))));
        assert!(is_there(pin!(third.alone(vec![volume("c")]))));
        {
            let mut waiting = pin!(second.alone(vec![volume("a")]));
            assert!(!is_there(waiting.as_mut()));
            drop(first);
            assert!(is_there(waiting));
        }
        drop((second, third));
        assert!(turns.locks.borrow().is_empty());
    }

    #[test]
    fn unnamed_volumes_are_made_beside_each_other() {
        let turns = Turns::default();
        let unnamed = || Turn::Unnamed("alice".to_owned());
        let (mut first, mut second, mut by_name) = (turns.begin(), turns.begin(), turns.begin());
        assert!(is_there(pin!(first.beside(unnamed()))) && is_there(pin!(second.beside(unnamed()))));
        {
            let mut waiting = pin!(by_name.alone(vec![unnamed()]));
            assert!(!is_there(waiting.as_mut()));
            drop((first, second));
            assert!(is_there(waiting));
        }
        let mut third = turns.begin();
        assert!(!is_there(pin!(third.beside(unnamed()))));
        drop(by_name);
        drop(third);
        assert!(turns.locks.borrow().is_empty());
    }
}
