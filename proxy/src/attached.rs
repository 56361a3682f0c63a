//! What waits for containers that have not started, so that it ends when a start is refused.
//!
//! `docker run` attaches first, waits for the end, and starts then. When the engine refuses a start it ends the attached streams, and removes a
//! container of `--rm`, for which the wait is; when we refuse it, nobody would.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::sync::Notify;

/// What waits on this thread, by container and by client.
#[derive(Debug, Default)]
pub struct Attached {
    streams: RefCell<BTreeMap<Place, Vec<Rc<Notify>>>>,
}

/// A way of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Waiting {
    /// Until it has ended, or is gone.
    ForItsEnd,
    /// For what it says.
    ForItsOutput,
}

/// A container, which client waits, and how.
type Place = (String, Rc<str>, Waiting);

/// One stream, while it lasts.
#[derive(Debug)]
pub struct Stream<'a> {
    all: &'a Attached,
    place: Place,
    end: Rc<Notify>,
}

impl Attached {
    /// A client begins to wait.
    pub fn enter(&self, container: &str, client: &Rc<str>, waiting: Waiting) -> Stream<'_> {
        let end = Rc::new(Notify::new());
        let place = (container.to_owned(), Rc::clone(client), waiting);
        self.streams.borrow_mut().entry(place.clone()).or_default().push(Rc::clone(&end));
        Stream { all: self, place, end }
    }

    /// Ends the streams of a client that waits so for a container.
    pub fn end(&self, container: &str, client: &Rc<str>, waiting: Waiting) {
        let place = (container.to_owned(), Rc::clone(client), waiting);
        self.streams.borrow().get(&place).into_iter().flatten().for_each(|stream| stream.notify_one());
    }
}

impl Stream<'_> {
    /// Waits until it is to end.
    pub async fn ended(&self) {
        self.end.notified().await;
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        let mut streams = self.all.streams.borrow_mut();
        if let Some(list) = streams.get_mut(&self.place) {
            list.retain(|stream| !Rc::ptr_eq(stream, &self.end));
            if list.is_empty() {
                streams.remove(&self.place);
            }
        }
    }
}
