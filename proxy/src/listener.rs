//! Where clients arrive: sockets, limits and handshakes, up to the point where it is proven who it is.
//!
//! ```text
//!   unix  ── accept ── peer credentials ─────────────────────────┐
//!   tls   ── accept ── handshake (its own task, a deadline) ─────┼──▶ limits ──▶ Arrival
//!   fd:// ── one of the two, opened by systemd ──────────────────┘
//! ```
//!
//! One slow client delays nobody: a handshake is a task of its own, and there are at most so many of them. Nothing of HTTP is
//! read here. Every arrival is reported, the refused ones too, so that each can have its record.

mod gate;
mod socket;
mod stream;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;

pub use gate::{Full, Gate, Handshaking, Ticket};
pub use socket::raise_descriptor_limit;
pub use stream::Stream;

use crate::config::{Limits, ListenConfig, TlsFiles};
use crate::identity::{CertificateError, CertificateIdentity, Identity, PeerIdentity};
use crate::tls::{Reload, TlsError, TlsSource, Trust};

/// How long accepting pauses when the process has no descriptor left (accept(2), `EMFILE`): no spin, and back soon.
const PAUSE: Duration = Duration::from_millis(50);

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// `fd://`, but systemd passed nothing (`sd_listen_fds(3)`).
    #[error("`fd://`: systemd passed no sockets (`LISTEN_FDS` is not for this process)")]
    NoneActivated,
    /// A TCP socket from systemd, but no certificates for it.
    #[error("`fd://`: socket {0} is TCP, and there are no certificates for it: plain TCP is never served")]
    PlainTcp(usize),
    /// Somebody answers there.
    #[error("`{}` is in use: another process answers there", .0.display())]
    InUse(PathBuf),
    /// Something else is in the way.
    #[error("`{}` is there and is no socket: it is left alone", .0.display())]
    NotASocket(PathBuf),
    /// The group has no number.
    #[error("there is no group `{0}` in `/etc/group`: a group from elsewhere can be given by number")]
    NoGroup(String),
    /// A step failed.
    #[error("cannot {what} `{at}`")]
    Io {
        /// Which step.
        what: &'static str,
        /// Which address.
        at: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// One socket on which clients arrive.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    gate: Arc<Gate>,
    limits: Limits,
    /// Handshakes under way. They go on while nobody waits for the next arrival, and end with the listener.
    handshakes: JoinSet<Arrival>,
    /// Whether the last accept failed, to log each such time once.
    failing: bool,
}

#[derive(Debug)]
enum Socket {
    Tls { listener: TcpListener, source: Arc<TlsSource>, _follower: Follower },
    Unix { listener: UnixListener, _file: Option<socket::SocketFile> },
}

/// The task that looks at the certificate files; it ends with its listener.
#[derive(Debug)]
struct Follower(tokio::task::AbortHandle);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A client, or somebody who is none.
#[derive(Debug)]
pub enum Arrival {
    /// It is proven who it is, and there is room.
    Accepted(Box<Accepted>),
    /// The connection is closed already.
    Refused(Refusal),
}

/// A connection of somebody who is known. Which client it is, is [`crate::identity::match_client`]'s to say.
#[derive(Debug)]
pub struct Accepted {
    /// The bytes, both ways.
    pub stream: Stream,
    /// Who it is, for as long as the connection lives.
    pub identity: Identity,
    /// Whether that still counts: to be asked at each request.
    pub trust: Trust,
    /// Its place in the limits; it is free again when this is dropped.
    pub ticket: Ticket,
    /// From where; none for a unix socket.
    pub address: Option<SocketAddr>,
}

/// Somebody who did not get in.
#[derive(Debug)]
pub struct Refusal {
    /// From where; none for a unix socket.
    pub address: Option<SocketAddr>,
    /// Who it would have been, where that was proven.
    pub identity: Option<Identity>,
    /// Why not.
    pub why: Refused,
}

/// Why somebody did not get in.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The certificate is good, but names somebody in a way that can be misread.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Limits.
    #[error(transparent)]
    Full(#[from] Full),
    /// TLS failed: no certificate, a bad one, an old protocol, or no TLS at all.
    #[error("the TLS handshake failed: {0}")]
    Handshake(io::Error),
    /// The kernel did not say who the socket's peer is.
    #[error("the socket's peer is unknown: {0}")]
    Peer(io::Error),
    /// TLS took too long.
    #[error("the TLS handshake took longer than {0:?}")]
    Slow(Duration),
}

impl Listener {
    /// Opens what a configuration asks for: one listener, or as many as systemd passes. All listeners of a process share one
    /// `gate`. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// Any [`ListenError`]; nothing is left open then.
    pub fn bind(config: &ListenConfig, limits: Limits, gate: &Arc<Gate>) -> Result<Vec<Self>, ListenError> {
        let sockets = match config {
            ListenConfig::Activated { tls } => activated(tls.as_ref())?,
            ListenConfig::Tls { at, files } => vec![Socket::tls(socket::tcp(at)?, files)?],
            ListenConfig::Unix { path, group, mode } => {
                let (listener, file) = socket::unix(path, group.as_deref(), *mode)?;
                vec![Socket::Unix { listener, _file: Some(file) }]
            }
        };
        let listener = |socket| Self { socket, gate: Arc::clone(gate), limits, handshakes: JoinSet::new(), failing: false };
        Ok(sockets.into_iter().map(listener).collect())
    }

    /// Loads the certificates for the first time, off this thread. A unix listener is ready at once; a TLS listener takes
    /// connections meanwhile, and their handshakes wait. To be awaited before anybody is told that we are ready.
    ///
    /// # Errors
    /// The certificates cannot be used.
    pub async fn ready(&self) -> Result<(), TlsError> {
        self.reload().await.map(drop)
    }

    /// Reads the certificates again: what SIGHUP asks for. They are also read when their files change.
    ///
    /// # Errors
    /// They cannot be used; the former ones stay in use.
    pub async fn reload(&self) -> Result<Reload, TlsError> {
        match &self.socket {
            Socket::Tls { source, .. } => source.reload().await,
            Socket::Unix { .. } => Ok(Reload::Same),
        }
    }

    /// The TCP address of a TLS listener, with the port that the kernel chose.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Tls { listener, .. } => listener.local_addr().ok(),
            Socket::Unix { .. } => None,
        }
    }

    /// The next arrival. Dropping the future loses nobody.
    pub async fn accept(&mut self) -> Arrival {
        loop {
            let busy = u32::try_from(self.handshakes.len()).unwrap_or(u32::MAX);
            let room = busy < self.limits.max_handshakes;
            tokio::select! {
                Some(done) = self.handshakes.join_next() => {
                    // A task that panicked had a connection, and its end closed it.
                    if let Ok(arrival) = done {
                        return arrival;
                    }
                }
                next = self.socket.next(), if room => match next {
                    Ok(Next::Unix(stream)) => {
                        self.failing = false;
                        return unix_arrival(stream, &self.gate);
                    }
                    Ok(Next::Tls(stream, address, source)) => {
                        self.failing = false;
                        let began = match self.gate.begin(address.ip()) {
                            Ok(began) => began,
                            Err(full) => return Arrival::Refused(Refusal { address: Some(address), identity: None, why: full.into() }),
                        };
                        let handshake = Handshake { source, gate: Arc::clone(&self.gate), address, _began: began };
                        self.handshakes.spawn(handshake.run(stream, self.limits.handshake_timeout.0));
                    }
                    // accept(2): that client has given up; the next one has not.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(error) => {
                        if !self.failing {
                            tracing::error!(%error, "cannot accept connections; trying again");
                        }
                        self.failing = true;
                        tokio::time::sleep(PAUSE).await;
                    }
                },
            }
        }
    }
}

enum Next {
    Tls(TcpStream, SocketAddr, Arc<TlsSource>),
    Unix(UnixStream),
}

impl Socket {
    fn tls(listener: TcpListener, files: &TlsFiles) -> Result<Self, ListenError> {
        let source = Arc::new(TlsSource::new(files)?);
        let follower = tokio::spawn(Arc::clone(&source).follow()).abort_handle();
        Ok(Self::Tls { listener, source, _follower: Follower(follower) })
    }

    async fn next(&self) -> io::Result<Next> {
        match self {
            Self::Tls { listener, source, .. } => {
                let (stream, address) = listener.accept().await?;
                Ok(Next::Tls(stream, address, Arc::clone(source)))
            }
            Self::Unix { listener, .. } => Ok(Next::Unix(listener.accept().await?.0)),
        }
    }
}

/// The sockets that systemd passed, each as what it is.
fn activated(tls: Option<&TlsFiles>) -> Result<Vec<Socket>, ListenError> {
    let failed = |source| ListenError::Io { what: "take", at: "fd://".to_owned(), source };
    let mut passed = listenfd::ListenFd::from_env();
    let mut sockets = Vec::with_capacity(passed.len());
    for index in 0..passed.len() {
        // The crate asks the kernel what it is, and gives it back when it is another kind.
        if let Ok(Some(listener)) = passed.take_unix_listener(index) {
            listener.set_nonblocking(true).map_err(failed)?;
            let listener = UnixListener::from_std(listener).map_err(failed)?;
            sockets.push(Socket::Unix { listener, _file: None });
        } else if let Some(listener) = passed.take_tcp_listener(index).map_err(failed)? {
            let files = tls.ok_or(ListenError::PlainTcp(index))?;
            listener.set_nonblocking(true).map_err(failed)?;
            sockets.push(Socket::tls(TcpListener::from_std(listener).map_err(failed)?, files)?);
        }
    }
    if sockets.is_empty() { Err(ListenError::NoneActivated) } else { Ok(sockets) }
}

fn unix_arrival(stream: UnixStream, gate: &Arc<Gate>) -> Arrival {
    let refused = |identity, why| Arrival::Refused(Refusal { address: None, identity, why });
    let identity = match stream.peer_cred() {
        Ok(peer) => Identity::Peer(PeerIdentity { uid: peer.uid(), gid: peer.gid(), pid: peer.pid() }),
        Err(error) => return refused(None, Refused::Peer(error)),
    };
    match gate.enter(&identity) {
        Ok(ticket) => {
            Arrival::Accepted(Box::new(Accepted { stream: Stream::Unix(stream), identity, trust: Trust::in_peer(), ticket, address: None }))
        }
        Err(full) => refused(Some(identity), full.into()),
    }
}

/// What a handshake needs beside its connection.
struct Handshake {
    source: Arc<TlsSource>,
    gate: Arc<Gate>,
    address: SocketAddr,
    _began: Handshaking,
}

impl Handshake {
    async fn run(self, stream: TcpStream, deadline: Duration) -> Arrival {
        let mut identity = None;
        let result = match tokio::time::timeout(deadline, self.prove(stream)).await {
            Ok(Ok(proven)) => {
                identity = Some(proven.identity.clone());
                self.gate.enter(&proven.identity).map(|ticket| (proven, ticket)).map_err(Refused::from)
            }
            Ok(Err(why)) => Err(why),
            Err(_) => Err(Refused::Slow(deadline)),
        };
        match result {
            Ok((proven, ticket)) => Arrival::Accepted(Box::new(Accepted {
                stream: proven.stream,
                identity: proven.identity,
                trust: proven.trust,
                ticket,
                address: Some(self.address),
            })),
            Err(why) => Arrival::Refused(Refusal { address: Some(self.address), identity, why }),
        }
    }

    async fn prove(&self, stream: TcpStream) -> Result<Proven, Refused> {
        socket::keep_alive(&stream).map_err(Refused::Handshake)?;
        let unloaded = || Refused::Handshake(io::Error::other("there are no certificates yet"));
        let accepting = self.source.accepting().await.ok_or_else(unloaded)?;
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(&accepting.config));
        let stream = acceptor.accept(stream).await.map_err(Refused::Handshake)?;
        let anonymous = || Refused::Handshake(io::Error::other("the client sent no certificate"));
        let chain = stream.get_ref().1.peer_certificates().ok_or_else(anonymous)?.to_vec();
        let leaf = chain.first().ok_or_else(anonymous)?;
        let identity = Identity::Certificate(CertificateIdentity::of_certificate(leaf)?);
        let trust = Trust::in_chain(&self.source, &accepting, chain, &identity);
        Ok(Proven { stream: Stream::Tls(Box::new(stream)), identity, trust })
    }
}

struct Proven {
    stream: Stream,
    identity: Identity,
    trust: Trust,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Some(address) => write!(f, "{address}: {}", self.why),
            None => write!(f, "{}", self.why),
        }
    }
}

#[cfg(test)]
mod tests;
