//! Tunnels to containers that have not started, so that they end when a start is refused.
//!
//! `docker run` attaches first and starts then. When the engine refuses a start it ends the attached streams; when we refuse it, nobody would.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::sync::Notify;

/// The tunnels of this thread, by container.
#[derive(Debug, Default)]
pub struct Attached {
    tunnels: RefCell<BTreeMap<String, Vec<Rc<Notify>>>>,
}

/// One tunnel, while it lasts.
#[derive(Debug)]
pub struct Tunnel<'a> {
    all: &'a Attached,
    container: String,
    end: Rc<Notify>,
}

impl Attached {
    /// A tunnel begins.
    pub fn enter(&self, container: &str) -> Tunnel<'_> {
        let end = Rc::new(Notify::new());
        self.tunnels.borrow_mut().entry(container.to_owned()).or_default().push(Rc::clone(&end));
        Tunnel { all: self, container: container.to_owned(), end }
    }

    /// Ends the tunnels to a container.
    pub fn end(&self, container: &str) {
        self.tunnels.borrow().get(container).into_iter().flatten().for_each(|tunnel| tunnel.notify_one());
    }
}

impl Tunnel<'_> {
    /// Waits until it is to end.
    pub async fn ended(&self) {
        self.end.notified().await;
    }
}

impl Drop for Tunnel<'_> {
    fn drop(&mut self) {
        let mut tunnels = self.all.tunnels.borrow_mut();
        if let Some(list) = tunnels.get_mut(&self.container) {
            list.retain(|tunnel| !Rc::ptr_eq(tunnel, &self.end));
            if list.is_empty() {
                tunnels.remove(&self.container);
            }
        }
    }
}
