//! A stub engine on a unix socket: it keeps every byte it gets, and answers what a script tells it to.

use std::fmt;
use std::fs;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::http::{Framing, Reader};
use crate::record::Request;
use crate::scratch::{wait_for, wait_until};

/// What the stub does with a request that it has read.
pub enum Reply {
    /// These bytes, whatever they are; the connection stays open.
    Bytes(Vec<u8>),
    /// These bytes, then the connection is closed.
    BytesThenClose(Vec<u8>),
    /// A status and JSON with a length.
    Json(u16, Value),
    /// 200, and each piece as a chunk.
    Chunked(Vec<Vec<u8>>),
    /// 101, then every byte comes back until the client's end, which is answered with the stub's.
    Echo,
    /// Nothing, until the client goes away.
    Hang,
    /// Whatever the script does with the connection; it is closed afterwards.
    Script(Script),
}

/// A conversation after a request: the stream, and the bytes of it that were already read.
pub type Script = Box<dyn FnOnce(&UnixStream, Vec<u8>) + Send>;

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

impl Reply {
    /// A status without a body.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Bytes(format!("HTTP/1.1 {status} Stub\r\nContent-Length: 0\r\n\r\n").into_bytes())
    }

    /// Docker's error JSON.
    #[must_use]
    pub fn error(status: u16, message: &str) -> Self {
        Self::Json(status, serde_json::json!({ "message": message }))
    }
}

/// A connection the stub has accepted.
#[derive(Debug, Default)]
struct Connection {
    bytes: Vec<u8>,
    ended: bool,
    stream: Option<UnixStream>,
}

type Answer = dyn Fn(&Request) -> Reply + Send + Sync;

struct Shared {
    answer: Box<Answer>,
    leaves_body: fn(&Request) -> bool,
    connections: Mutex<Vec<Connection>>,
    requests: Mutex<Vec<Request>>,
    stopped: AtomicBool,
}

/// The stub. Dropping it closes its socket and every connection, as an engine that is killed does.
pub struct Stub {
    socket: PathBuf,
    shared: Arc<Shared>,
}

impl fmt::Debug for Stub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stub").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Stub {
    /// Listens at `socket`, also where an older stub listened, and answers each request with `answer`.
    #[must_use]
    pub fn start(socket: &Path, answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_streaming(socket, |_| false, answer)
    }

    /// [`Stub::start`], where the bodies of the requests that `leaves_body` picks are left for the script to read.
    #[must_use]
    pub fn start_streaming(socket: &Path, leaves_body: fn(&Request) -> bool, answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        drop(fs::remove_file(socket));
        let listener = UnixListener::bind(socket).unwrap_or_else(|e| panic!("{}: {e}", socket.display()));
        let shared = Arc::new(Shared {
            answer: Box::new(answer),
            leaves_body,
            connections: Mutex::default(),
            requests: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let stub = Self { socket: socket.to_owned(), shared: Arc::clone(&shared) };
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let number = {
                    let mut connections = shared.connections.lock().unwrap();
                    let stream = stream.try_clone().ok();
                    connections.push(Connection { stream, ..Connection::default() });
                    connections.len() - 1
                };
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    converse(&shared, number, &stream);
                    let connection = &mut shared.connections.lock().unwrap()[number];
                    (connection.ended, connection.stream) = (true, None);
                });
            }
        });
        stub
    }

    /// The address as `--engine` takes it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Every request so far, in order of arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Every byte that came on a connection so far.
    #[must_use]
    pub fn bytes(&self, connection: usize) -> Vec<u8> {
        self.shared.connections.lock().unwrap()[connection].bytes.clone()
    }

    /// How many connections there were.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.lock().unwrap().len()
    }

    /// Waits for a request with this route; gives the last one.
    pub fn wait_for(&self, method: &str, route: &str) -> Request {
        wait_for(&format!("the stub engine is sent {method} {route}"), Duration::from_secs(10), || {
            self.requests().into_iter().rev().find(|r| r.method == method && r.route() == route)
        })
    }

    /// Waits until the client of this connection is gone.
    pub fn wait_for_end(&self, connection: usize, limit: Duration) {
        wait_until("the stub's client closes the connection", limit, || self.shared.connections.lock().unwrap()[connection].ended);
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // wakes the thread that accepts, which then closes the listener; another stub may own the path by now
        drop(UnixStream::connect(&self.socket));
        drop(fs::remove_file(&self.socket));
        for stream in self.shared.connections.lock().unwrap().iter().filter_map(|c| c.stream.as_ref()) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

/// Keeps what is read from the client.
struct Kept<'a> {
    shared: &'a Shared,
    number: usize,
    stream: &'a UnixStream,
}

impl std::io::Read for Kept<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let mut stream = self.stream;
        let count = stream.read(into)?;
        self.shared.connections.lock().unwrap()[self.number].bytes.extend_from_slice(&into[..count]);
        Ok(count)
    }
}

fn converse(shared: &Shared, number: usize, stream: &UnixStream) {
    let mut reader = Reader::new(Kept { shared, number, stream });
    while let Ok(head) = reader.head() {
        let framing = head.framing(Framing::Length(0));
        let mut request = Request::new(number, head);
        let unread = (shared.leaves_body)(&request);
        let whole = unread || reader.body(framing, &mut request.body).is_ok();
        let reply = (shared.answer)(&request);
        shared.requests.lock().unwrap().push(request);
        if !whole {
            return;
        }
        match reply {
            Reply::Script(script) => {
                let (_, early) = reader.into_parts();
                return script(stream, early);
            }
            Reply::Echo => return echo(stream, &mut reader),
            Reply::Hang => return while reader.some(u64::MAX).is_ok() {},
            Reply::BytesThenClose(bytes) => {
                drop((&*stream).write_all(&bytes));
                return drop(stream.shutdown(Shutdown::Both));
            }
            Reply::Bytes(bytes) => drop((&*stream).write_all(&bytes)),
            Reply::Json(status, value) => drop((&*stream).write_all(&json(status, &value))),
            Reply::Chunked(pieces) => drop((&*stream).write_all(&chunked(&pieces))),
        }
    }
}

fn echo<R: std::io::Read>(mut stream: &UnixStream, reader: &mut Reader<R>) {
    let head = "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    drop(stream.write_all(head.as_bytes()));
    while let Ok(piece) = reader.some(u64::MAX) {
        if stream.write_all(&piece).is_err() {
            return;
        }
    }
    drop(stream.shutdown(Shutdown::Write));
}

/// The bytes of an answer with JSON.
#[must_use]
pub fn json(status: u16, value: &Value) -> Vec<u8> {
    let body = format!("{value}\n");
    let head = format!("HTTP/1.1 {status} Stub\r\nApi-Version: 1.41\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    (head + &body).into_bytes()
}

fn chunked(pieces: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for piece in pieces {
        bytes.extend(format!("{:x}\r\n", piece.len()).into_bytes());
        bytes.extend_from_slice(piece);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n\r\n");
    bytes
}
