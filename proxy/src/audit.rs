//! The audit: one record a request, opened before the engine hears of it, closed when its answer or tunnel has ended.
//!
//! A record is a line of JSON. Records are gathered in memory and written by a thread that does nothing else; when it cannot write, or cannot
//! keep up, no request is forwarded: what is not recorded does not happen. Long ones (streams, tunnels) get a line when they begin, too.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use thiserror::Error;

/// Where records go.
#[derive(Debug)]
pub enum Sink {
    /// The end of a file, which is opened again by its name when that is asked for.
    File(std::fs::File, PathBuf),
    /// The journal's own socket.
    Journal(UnixDatagram),
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
}

/// The records cannot be written: nothing may be forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the audit cannot be written")]
pub struct NotRecorded;

/// The audit of this process.
#[derive(Debug)]
pub struct Audit {
    shared: Arc<Shared>,
    sequence: Cell<u64>,
    /// Lines of this turn of the loop.
    lines: RefCell<Vec<u8>>,
    flushing: Cell<bool>,
    writer: RefCell<Option<std::thread::JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    writing: usize,
    failed: bool,
    ended: bool,
    /// The file is another one by now (`logrotate`).
    moved: bool,
}

/// What is known of a request when it begins.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Record {
    /// When it began, RFC 3339, UTC.
    #[serde(serialize_with = "microseconds")]
    pub time: Timestamp,
    /// Counts the requests of this process.
    pub sequence: u64,
    /// `open` for the first of two lines, `end` for the last or only one.
    pub phase: &'static str,
    /// Who asked: a certificate's URI, DNS name or pin, or a uid.
    pub identity: Rc<str>,
    /// The entry of `clients` that they match.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub client: Rc<str>,
    /// The owner of what they make.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub tenant: Rc<str>,
    /// The operation; empty when it was not understood.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub operation: &'static str,
    /// Method and target as they were sent, where no operation was found in them.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub request: String,
    /// The object, by its id where it is known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub object: String,
    /// `permitted`, `denied`, `failed`.
    pub decision: &'static str,
    /// What no grant covered, or what went wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uncovered: Vec<String>,
    /// How many demands were covered.
    #[serde(skip_serializing_if = "is_zero")]
    pub covered: u64,
    /// The policy, and its fingerprint.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub policy: Rc<str>,
    /// The status of the answer; 0 when there was none.
    pub status: u16,
    /// Bytes of bodies and tunnels, from the client and to it.
    pub bytes: [u64; 2],
    /// Microseconds from the head of the request to the end of its answer.
    pub duration_us: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn microseconds<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.6}"))
}

/// Most bytes of records that wait to be written.
const MOST_WAITING: usize = 4 << 20;

impl Audit {
    /// Starts the thread that writes.
    #[must_use]
    pub fn start(sink: Sink) -> Rc<Self> {
        let shared = Arc::new(Shared::default());
        let writer = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name("audit".to_owned()).spawn(move || write_all(&shared, sink)).ok()
        };
        if writer.is_none()
            && let Ok(mut state) = shared.state.lock()
        {
            state.failed = true;
        }
        Rc::new(Self { shared, sequence: Cell::new(0), lines: RefCell::default(), flushing: Cell::new(false), writer: RefCell::new(writer) })
    }

    /// Opens a record: from here on the request is accounted for.
    ///
    /// # Errors
    /// [`NotRecorded`].
    pub fn open(self: &Rc<Self>, identity: &Rc<str>) -> Result<Open, NotRecorded> {
        let state = self.shared.state.lock().map_err(|_| NotRecorded)?;
        if state.failed || state.waiting.len() + state.writing > MOST_WAITING {
            return Err(NotRecorded);
        }
        drop(state);
        let sequence = self.sequence.get();
        self.sequence.set(sequence + 1);
        let record =
            Record { time: Timestamp::now(), sequence, phase: "end", identity: Rc::clone(identity), decision: "failed", ..Record::default() };
        Ok(Open { audit: Rc::clone(self), record, body_was_read: false, upload_unfinished: false, began: Instant::now() })
    }

    fn append(self: &Rc<Self>, record: &Record) {
        {
            let mut lines = self.lines.borrow_mut();
            // Memory takes all that is written to it, and a record is text and numbers.
            let _ = serde_json::to_writer(&mut *lines, record);
            lines.push(b'\n');
        }
        if !self.flushing.replace(true) {
            let audit = Rc::clone(self);
            tokio::task::spawn_local(async move {
                // Everything that this turn of the loop records goes to the writer at once.
                tokio::time::sleep(GATHER).await;
                audit.hand_over();
            });
        }
    }

    fn hand_over(&self) {
        self.flushing.set(false);
        let lines = std::mem::take(&mut *self.lines.borrow_mut());
        if let Ok(mut state) = self.shared.state.lock() {
            state.waiting.extend_from_slice(&lines);
            self.shared.changed.notify_one();
        }
    }

    /// Opens the file again by its name, before anything else is written: what SIGHUP asks for.
    pub fn reopen(&self) {
        if let Ok(mut state) = self.shared.state.lock() {
            state.moved = true;
            self.shared.changed.notify_one();
        }
    }

    /// Writes what is left, and waits for it.
    pub fn end(&self) {
        self.hand_over();
        if let Ok(mut state) = self.shared.state.lock() {
            state.ended = true;
            self.shared.changed.notify_one();
        }
        if let Some(writer) = self.writer.borrow_mut().take() {
            let _ = writer.join();
        }
    }
}

const GATHER: Duration = Duration::from_millis(2);

/// A record that is not closed yet. It closes when it is dropped.
#[derive(Debug)]
pub struct Open {
    audit: Rc<Audit>,
    /// What it will say.
    pub record: Record,
    /// The body of the request was read to its end, so that another request can follow it.
    pub body_was_read: bool,
    /// The engine answered before it had the whole upload.
    pub upload_unfinished: bool,
    began: Instant,
}

impl Open {
    /// Writes the first of two lines, for what may last.
    pub fn announce(&self) {
        self.audit.append(&Record { phase: "open", ..self.record.clone() });
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.record.duration_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.audit.append(&self.record);
    }
}

fn write_all(shared: &Shared, sink: Sink) {
    let mut sink = sink;
    let mut lines = Vec::new();
    loop {
        let Ok(state) = shared.state.lock() else { return };
        let idle = |state: &mut State| lines.is_empty() && state.waiting.is_empty() && !state.ended && !state.moved;
        let Ok(mut state) = shared.changed.wait_while(state, idle) else { return };
        let moved = std::mem::take(&mut state.moved);
        if lines.is_empty() {
            std::mem::swap(&mut lines, &mut state.waiting);
            state.writing = lines.len();
        }
        let ended = state.ended;
        drop(state);
        if moved {
            sink.reopen();
        }
        if lines.is_empty() {
            if ended {
                return;
            }
            continue;
        }
        let written = sink.write(&lines);
        let Ok(mut state) = shared.state.lock() else { return };
        state.failed = written.is_err();
        let ended = state.ended;
        if written.is_ok() {
            state.writing = 0;
            lines.clear();
        } else if ended {
            return;
        } else {
            drop(state);
            // The disk may have space again, the journal may be back.
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Sink {
    /// Opens a file to append to, readable by its owner alone.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn file(path: PathBuf) -> std::io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        Ok(Self::File(file, path))
    }

    /// Opens a file again by its name. Where that fails the former one is written to.
    fn reopen(&mut self) {
        let Self::File(_, path) = self else { return };
        match Self::file(path.clone()) {
            Ok(sink) => *self = sink,
            Err(error) => tracing::error!(%error, "the audit stays in its former file: cannot open {}", path.display()),
        }
    }

    /// Connects to the journal.
    ///
    /// # Errors
    /// There is none.
    pub fn journal() -> std::io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect("/run/systemd/journal/socket")?;
        Ok(Self::Journal(socket))
    }

    fn write(&mut self, lines: &[u8]) -> std::io::Result<()> {
        match self {
            Self::File(file, _) => write_or_undo(file, lines),
            Self::Journal(socket) => lines.split(|b| *b == b'\n').filter(|line| !line.is_empty()).try_for_each(|line| {
                let entry = [b"SYSLOG_IDENTIFIER=seawall\nPRIORITY=6\nMESSAGE=", line, b"\n"].concat();
                socket.send(&entry).map(drop)
            }),
            Self::Stderr => std::io::stderr().lock().write_all(lines),
            Self::Stdout => {
                let mut out = std::io::stdout().lock();
                out.write_all(lines)?;
                out.flush()
            }
        }
    }
}

/// Appends all or nothing: a full disk leaves no half of a record behind.
fn write_or_undo(file: &mut std::fs::File, lines: &[u8]) -> std::io::Result<()> {
    let before = file.metadata()?.len();
    file.write_all(lines).inspect_err(|_| {
        let _ = file.set_len(before);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_stops_requests_and_leaves_whole_lines() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            let audit = Audit::start(Sink::file("/dev/full".into()).unwrap());
            drop(audit.open(&"uid:0".into()).unwrap());
            while audit.open(&"uid:0".into()).is_ok() {
                tokio::time::sleep(GATHER).await;
            }
            assert_eq!(audit.open(&"uid:0".into()).err(), Some(NotRecorded));
        });
    }

    #[test]
    fn a_file_that_was_moved_is_followed_by_a_new_one() {
        let path = std::env::temp_dir().join(format!("seawall-moved-{}", std::process::id()));
        let moved = path.with_extension("1");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let audit = Audit::start(Sink::file(path.clone()).unwrap());
            drop(audit.open(&"uid:1".into()).unwrap());
            while std::fs::metadata(&path).unwrap().len() == 0 {
                tokio::time::sleep(GATHER).await;
            }
            std::fs::rename(&path, &moved).unwrap();
            audit.reopen();
            drop(audit.open(&"uid:2".into()).unwrap());
            audit.end();
        });
        let (before, after) = (std::fs::read_to_string(&moved).unwrap(), std::fs::read_to_string(&path).unwrap());
        for path in [&moved, &path] {
            std::fs::remove_file(path).unwrap();
        }
        assert!(before.contains("uid:1") && !before.contains("uid:2"), "{before}");
        assert!(after.contains("uid:2") && !after.contains("uid:1"), "{after}");
    }

    #[test]
    fn every_request_is_one_record() {
        let path = std::env::temp_dir().join(format!("seawall-audit-{}", std::process::id()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let audit = Audit::start(Sink::file(path.clone()).unwrap());
            for n in 0..100_u16 {
                let mut open = audit.open(&"uid:0".into()).unwrap();
                open.record.status = n;
            }
            audit.end();
        });
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let sequences: Vec<u64> =
            text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["sequence"].as_u64().unwrap()).collect();
        assert_eq!(sequences, (0..100).collect::<Vec<_>>());
    }
}
