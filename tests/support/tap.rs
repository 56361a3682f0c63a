//! A relay between proxy and engine that keeps every byte the engine is sent.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::record::{Request, requests};

#[derive(Debug, Default)]
struct Connection {
    up: Vec<u8>,
    tunnel: bool,
}

/// The relay. It lives as long as the test process.
#[derive(Debug)]
pub struct Tap {
    socket: PathBuf,
    connections: Arc<Mutex<Vec<Connection>>>,
}

impl Tap {
    /// Listens at `socket` and relays to `engine`.
    #[must_use]
    pub fn start(socket: &Path, engine: &Path) -> Self {
        drop(fs::remove_file(socket));
        let listener = UnixListener::bind(socket).unwrap_or_else(|e| panic!("{}: {e}", socket.display()));
        let tap = Self { socket: socket.to_owned(), connections: Arc::default() };
        let (connections, engine) = (Arc::clone(&tap.connections), engine.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = UnixStream::connect(&engine) else {
                    continue;
                };
                let number = {
                    let mut all = connections.lock().unwrap();
                    all.push(Connection::default());
                    all.len() - 1
                };
                let (keep, watch) = (Arc::clone(&connections), Arc::clone(&connections));
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                // kept before it is sent on: what the engine has heard is always in the record
                thread::spawn(move || pump(from, to, |piece| keep.lock().unwrap()[number].up.extend_from_slice(piece)));
                thread::spawn(move || {
                    pump(server, client, |piece| {
                        if piece.starts_with(b"HTTP/1.1 101") {
                            watch.lock().unwrap()[number].tunnel = true;
                        }
                    });
                });
            }
        });
        tap
    }

    /// The address as `--engine` takes it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Every request so far, by connection.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        let all = self.connections.lock().unwrap();
        all.iter().enumerate().flat_map(|(number, c)| requests(number, &c.up, c.tunnel)).collect()
    }

    /// How many bytes came on each connection so far: hand it to [`Tap::since`].
    #[must_use]
    pub fn mark(&self) -> Vec<usize> {
        self.connections.lock().unwrap().iter().map(|c| c.up.len()).collect()
    }

    /// The requests that came after the mark.
    #[must_use]
    pub fn since(&self, mark: &[usize]) -> Vec<Request> {
        let all = self.connections.lock().unwrap();
        let tails = all.iter().enumerate().map(|(number, c)| (number, &c.up[mark.get(number).copied().unwrap_or(0)..], c.tunnel));
        tails.flat_map(|(number, bytes, tunnel)| requests(number, bytes, tunnel)).collect()
    }
}

fn pump(mut from: UnixStream, mut to: UnixStream, mut keep: impl FnMut(&[u8])) {
    let mut piece = vec![0; 65536];
    while let Ok(count @ 1..) = from.read(&mut piece) {
        keep(&piece[..count]);
        if to.write_all(&piece[..count]).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Write));
    drop(from.shutdown(Shutdown::Read));
}
