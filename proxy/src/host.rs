//! The host's own files, as far as a bind mount depends on them: links in its path, and what is mounted below it.
//!
//! A path may lie on a filesystem whose server is dead, which answers never. It is looked at on a thread of its own, and for so long; what is not
//! known by then is refused.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use engine::facts::Facts;
use tokio::sync::oneshot;

/// Looks at paths of the host.
#[derive(Debug)]
pub struct Host {
    /// Threads that have not come back.
    out: Arc<AtomicUsize>,
    /// How long a look may take.
    patience: Duration,
}

impl Default for Host {
    fn default() -> Self {
        Self { out: Arc::default(), patience: Duration::from_secs(5) }
    }
}

impl Host {
    /// Adds what paths are to facts.
    pub async fn look(&self, paths: BTreeSet<String>, facts: &mut Facts) {
        if paths.is_empty() {
            return;
        }
        match self.on_its_own(paths.clone(), is_plain).await {
            Some(plain) => plain.into_iter().for_each(|path| facts.insert_plain_path(path)),
            None => paths.into_iter().for_each(|path| facts.insert_unseen_path(path)),
        }
    }

    /// The paths of which something holds. `None`: it is not known in time, or too many threads wait already.
    async fn on_its_own(&self, paths: BTreeSet<String>, holds: impl Fn(&str) -> bool + Send + 'static) -> Option<Vec<String>> {
        let one = Out::begin(&self.out)?;
        let (sender, answer) = oneshot::channel();
        let look = move || {
            let found = paths.into_iter().filter(|path| holds(path)).collect();
            drop(one);
            drop(sender.send(found));
        };
        // Not one of the runtime's, which it would wait for at its end.
        std::thread::Builder::new().name("host".to_owned()).stack_size(STACK).spawn(look).ok()?;
        tokio::time::timeout(self.patience, answer).await.ok()?.ok()
    }
}

/// A thread that is out, as long as it is.
struct Out(Arc<AtomicUsize>);

impl Out {
    fn begin(out: &Arc<AtomicUsize>) -> Option<Self> {
        let one = Self(Arc::clone(out));
        (out.fetch_add(1, Ordering::Relaxed) < MOST_OUT).then_some(one)
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Most threads that look.
const MOST_OUT: usize = 64;
/// Bytes of their stacks.
const STACK: usize = 128 << 10;

/// Adds to facts what a read-only mount leaves writable: what is mounted below it. What cannot be looked at may be mounted anywhere.
pub fn add_mounts(paths: &BTreeSet<String>, facts: &mut Facts) {
    if paths.is_empty() {
        return;
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok().map(|mounts| mount_points(&mounts));
    let writable = paths.iter().filter(|path| mounts.as_ref().is_none_or(|mounts| has_mounts_below(mounts, path)));
    writable.for_each(|path| facts.insert_writable_below(path.clone()));
}

/// Where something is mounted, by `/proc/self/mountinfo` (proc_pid_mountinfo(5): the fifth field, blanks as `\040`).
fn mount_points(mounts: &str) -> BTreeSet<String> {
    let unescape = |text: &str| text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\");
    mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape).collect()
}

/// Whether something is mounted below a path.
fn has_mounts_below(points: &BTreeSet<String>, path: &str) -> bool {
    let inside = format!("{}/", path.trim_end_matches('/'));
    let next = points.range::<str, _>((Bound::Excluded(inside.as_str()), Bound::Unbounded)).next();
    next.is_some_and(|point| point.starts_with(&inside))
}

/// Whether no part of a host path is a symbolic link, as this process sees the host's files. A path that is not there yet is plain when what
/// there is of it is. What cannot be looked at is not.
fn is_plain(path: &str) -> bool {
    let mut so_far = PathBuf::from("/");
    for part in Path::new(path).components().skip(1) {
        so_far.push(part);
        match so_far.symlink_metadata() {
            Ok(metadata) if metadata.is_symlink() => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::NotFound,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;

    #[test]
    fn mounts_below_a_path_are_found() {
        let mounts = "21 1 0:20 / / rw - ext4 /dev/vda rw\n22 21 0:21 / /srv/share/sub\\040dir rw,relatime - tmpfs tmpfs rw\n23 21 0:22 / /srv/sharex rw - tmpfs t rw\n";
        for (path, below) in
            [("/", true), ("/srv", true), ("/srv/share", true), ("/srv/share/sub dir", false), ("/srv/shar", false), ("/home", false)]
        {
            assert_eq!(has_mounts_below(&mount_points(mounts), path), below, "{path}");
        }
    }

    /// A thread that does not come back holds nobody up, and there are only so many.
    #[test]
    fn a_path_that_does_not_answer_is_not_waited_for() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (answer, dead) = mpsc::channel::<()>();
        let dead = Arc::new(Mutex::new(dead));
        let host = Host { patience: Duration::ZERO, ..Host::default() };
        let paths = || BTreeSet::from(["/dead".to_owned()]);
        let stuck = || {
            let dead = Arc::clone(&dead);
            move |_: &str| dead.lock().unwrap().recv().is_ok()
        };
        runtime.block_on(async {
            for _ in 0..=MOST_OUT {
                assert_eq!(host.on_its_own(paths(), stuck()).await, None);
            }
            assert_eq!(host.out.load(Ordering::Relaxed), MOST_OUT);
            let mut facts = Facts::default();
            host.look(paths(), &mut facts).await;
            assert!(facts.is_unseen("/dead") && !facts.is_plain("/dead"));
        });
        drop(answer);
    }

    #[test]
    fn a_path_through_a_link_is_not_plain() {
        let folder = std::env::temp_dir().join(format!("seawall-host-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("real")).unwrap();
        std::os::unix::fs::symlink("real", folder.join("link")).unwrap();
        let place = |name: &str| folder.canonicalize().unwrap().join(name).display().to_string();
        let paths = ["real", "real/missing/x", "link", "link/x"].map(place);
        let mut facts = Facts::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(Host::default().look(BTreeSet::from(paths.clone()), &mut facts));
        assert_eq!(paths.map(|path| facts.is_plain(&path)), [true, true, false, false]);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
