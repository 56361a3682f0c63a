//! Containers stand still while the engine walks their files, and what would move them waits.
//!
//! Engines look up the paths of a container's mounts, and those that a copy names, one part after the other, while its processes may exchange a
//! directory for a link to one of the host's: a volume is mounted over the host's path then (GHSA-rg2x-37c3-w2rh, GHSA-vp62-88p7-qqf5), or an error
//! tells what is in it. So whatever copies has what the container is made of for itself, and whatever lets processes run shares it with others.
//! One process keeps it, as it does names.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};
use tokio::time::timeout;

/// Which places are held.
#[derive(Debug, Default)]
pub struct Stills {
    places: RefCell<BTreeMap<String, Weak<RwLock<()>>>>,
}

/// Places that are held while it lasts: a container, those whose namespaces it shares, what it mounts.
#[derive(Debug)]
pub enum Hold {
    /// Something may begin to run there.
    Moving(Vec<OwnedRwLockReadGuard<()>>),
    /// Nothing begins to run there.
    Still(Vec<OwnedRwLockWriteGuard<()>>),
}

impl Stills {
    /// Waits until nothing stands still in these places, and keeps it so. `None`: it takes too long.
    pub async fn moving(&self, places: &BTreeSet<String>, patience: Duration) -> Option<Hold> {
        let take = async {
            let mut held = Vec::new();
            // In their order: two that want the same places do not wait for each other.
            for place in self.places(places) {
                held.push(place.read_owned().await);
            }
            Hold::Moving(held)
        };
        timeout(patience, take).await.ok()
    }

    /// Waits until nothing else is under way in these places, and keeps it so. `None`: it takes too long.
    pub async fn still(&self, places: &BTreeSet<String>, patience: Duration) -> Option<Hold> {
        let take = async {
            let mut held = Vec::new();
            for place in self.places(places) {
                held.push(place.write_owned().await);
            }
            Hold::Still(held)
        };
        timeout(patience, take).await.ok()
    }

    fn places(&self, places: &BTreeSet<String>) -> Vec<Arc<RwLock<()>>> {
        let mut known = self.places.borrow_mut();
        known.retain(|_, place| place.strong_count() > 0);
        let mut place = |name: &String| {
            let place = known.get(name).and_then(Weak::upgrade).unwrap_or_default();
            known.insert(name.clone(), Arc::downgrade(&place));
            place
        };
        places.iter().map(&mut place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_stands_still_is_alone() {
        // What is to be had is had at once.
        let patience = Duration::ZERO;
        let places = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let stills = Stills::default();
        let moving = (stills.moving(&places(&["a"]), patience).await, stills.moving(&places(&["a", "b"]), patience).await);
        assert!(moving.0.is_some() && moving.1.is_some(), "many may run");
        assert!(stills.still(&places(&["a", "b"]), patience).await.is_none());
        drop(moving.0);
        assert!(stills.still(&places(&["a"]), patience).await.is_none());
        drop(moving.1);
        let still = stills.still(&places(&["a", "b"]), patience).await;
        assert!(still.is_some());
        assert!(stills.moving(&places(&["b", "c"]), patience).await.is_none());
        assert!(stills.still(&places(&["b"]), patience).await.is_none(), "one copy at a time");
        assert!(stills.moving(&places(&["c"]), patience).await.is_some(), "what was not to be had keeps nothing");
        drop(still);
        assert!(stills.still(&places(&["b"]), patience).await.is_some());
        drop(stills.places(&places(&["d"])));
        assert_eq!(stills.places.borrow().len(), 1);
    }
}
