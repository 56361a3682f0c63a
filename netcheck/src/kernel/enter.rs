//! Entering network namespaces. The only place that calls `setns`.
//!
//! INVARIANT: a thread that enters a namespace never does anything else again. Work is handed to scoped threads which go from one
//! namespace to the next and end; none of them returns to where it came from, so none can be in the wrong place afterwards.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::snapshot::NamespaceId;

/// A namespace that is held open, so that its id stays its own.
#[derive(Debug)]
pub struct Handle {
    /// Which.
    pub id: NamespaceId,
    /// An nsfs file.
    pub file: File,
}

impl Handle {
    /// Opens a path to a namespace: below `/proc`, or where it is mounted. None when the file is not of nsfs.
    ///
    /// # Errors
    /// When it is not there, or may not be opened.
    pub fn open(path: &str) -> io::Result<Option<Self>> {
        let nsfs = nsfs()?;
        // `ip netns add` mounts it on a file that nobody may open, and `ip netns del` leaves that file for a moment.
        let is_one = || std::fs::metadata(path).map(|found| found.dev() == nsfs);
        if !is_one()? {
            return Ok(None);
        }
        let file = match File::open(path) {
            Err(_) if !is_one()? => return Ok(None),
            opened => opened?,
        };
        let found = file.metadata()?;
        Ok((found.dev() == nsfs).then_some(Self { id: NamespaceId(found.ino()), file }))
    }

    /// Makes a new namespace. It has no name: it is gone when this and every socket that was opened inside are.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN.
    pub fn create() -> io::Result<Self> {
        let make = || -> io::Result<Self> {
            #[expect(deprecated, reason = "what makes it unsafe is CLONE_FILES, which is not asked for; this thread ends here")]
            rustix::thread::unshare(UnshareFlags::NEWNET)?;
            let file = File::open("/proc/thread-self/ns/net")?;
            let id = NamespaceId(file.metadata()?.ino());
            Ok(Self { id, file })
        };
        std::thread::scope(|scope| scope.spawn(make).join().unwrap_or_else(|_| Err(io::Error::other("the thread ended"))))
    }

    /// Does something inside, on a thread of its own.
    ///
    /// # Errors
    /// When it cannot be entered.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let worker = || enter(self).map(|()| work());
        std::thread::scope(|scope| scope.spawn(worker).join().unwrap_or_else(|_| Err(io::Error::other("the thread ended"))))
    }
}

/// The device that files of namespaces are on: there is one, as long as the kernel runs (`nsfs_init`, fs/nsfs.c).
fn nsfs() -> io::Result<u64> {
    static NSFS: OnceLock<u64> = OnceLock::new();
    if let Some(known) = NSFS.get() {
        return Ok(*known);
    }
    let found = std::fs::metadata("/proc/self/ns/net")?.dev();
    Ok(*NSFS.get_or_init(|| found))
}

/// Does something in each namespace, on as many threads as there are processors, and gives the results in order.
pub fn in_each<T: Send>(
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
