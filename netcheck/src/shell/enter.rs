//! Entering network namespaces. The only place that calls `setns`.
//!
//! INVARIANT: a thread that enters a namespace never does anything else again. Work is handed to scoped threads which go from one
//! namespace to the next and end; none of them returns to where it came from, so none can be in the wrong place afterwards.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicUsize, Ordering};

use netcheck::snapshot::NamespaceId;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A namespace that is held open, so that its id stays its own.
#[derive(Debug)]
pub(crate) struct Handle {
    /// Which.
    pub(crate) id: NamespaceId,
    /// An nsfs file.
    pub(crate) file: File,
}

impl Handle {
    /// Opens a path to a namespace: below `/proc`, or where it is mounted. None when the file is not of nsfs.
    pub(crate) fn open(path: &str) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        let found = file.metadata()?;
        let nsfs = File::open("/proc/self/ns/net")?.metadata()?.dev();
        Ok((found.dev() == nsfs).then_some(Self { id: NamespaceId(found.ino()), file }))
    }
}

/// Does something in each namespace, on as many threads as there are processors, and gives the results in order.
pub(crate) fn in_each<T: Send>(
    handles: &[&Handle],
    threads: usize,
    work: impl Fn(&Handle) -> T + Sync,
    failed: impl Fn(&Handle, io::Error) -> T + Sync,
) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(handle) = handles.get(index) else { return done };
            let result = match enter(handle) {
                Ok(()) => work(handle),
                Err(error) => failed(handle, error),
            };
            done.push((index, result));
        }
    };
    let mut results: Vec<(usize, T)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
    });
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Moves this thread, and makes sure that it arrived.
fn enter(handle: &Handle) -> io::Result<()> {
    move_into_link_name_space(handle.file.as_fd(), Some(LinkNameSpaceType::Network))?;
    let here = std::fs::metadata("/proc/thread-self/ns/net")?.ino();
    if here == handle.id.0 {
        return Ok(());
    }
    Err(io::Error::other(format!("arrived in namespace {here} instead of {}", handle.id)))
}
