//! The engine's side: connections, kept for plain exchanges, fresh for whatever streams.
//!
//! Each engine connection lives on the thread of the clients that use it. A kept connection that the engine closed meanwhile gives the request
//! back unsent, and a fresh one takes it: nothing is ever sent twice. Kept connections are hyper's; a fresh one for a stream is read and written
//! here, because hyper keeps some 29 KiB for one on which nothing moves.

mod alone;
mod framing;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use engine::request::{Encoded, Payload};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::config::HostPort;
use crate::tls::EngineConnector;

pub use self::alone::Alone;

/// Where the engine is.
#[derive(Debug, Clone)]
pub enum EngineAddress {
    /// Behind TLS.
    Tls(HostPort, Box<EngineConnector>),
    /// A unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for EngineAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tls(at, _) => write!(f, "tls://{at}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// What goes wrong between here and the engine. Never the client's mistake.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The engine's answer is not HTTP, or not what its API says.
    #[error("the engine's answer is not understood: {0}")]
    Answer(String),
    /// A connection for one exchange broke.
    #[error("the engine ended the connection: {0}")]
    Broken(#[source] std::io::Error),
    /// Nobody is there.
    #[error("cannot reach the engine at {address}: {source}")]
    Connect {
        /// Where it should be.
        address: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A kept connection broke.
    #[error("the engine ended the connection: {0}")]
    Exchange(#[source] hyper::Error),
    /// It has more to tell than may be kept.
    #[error("what the engine tells of the objects that your requests name takes more memory than there is for them")]
    Room,
    /// It does not answer.
    #[error("the engine does not answer")]
    Silent,
}

/// A connection to the engine.
#[derive(Debug)]
pub enum EngineStream {
    /// Behind TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// A unix socket.
    Unix(UnixStream),
}

/// The body of a request on a connection of its own.
#[derive(Debug)]
pub enum Upload {
    /// Known as a whole.
    Whole(Option<Bytes>),
    /// Parts as they come; an error ends the connection, so that an unfinished body is not taken for a finished one.
    Parts(mpsc::Receiver<Result<Bytes, Aborted>>),
}

/// The client's body will not be finished.
#[derive(Debug, Clone, Copy, Error)]
#[error("the client's body was not finished")]
pub struct Aborted;

/// The engine, and the connections to it that are free.
#[derive(Debug)]
pub struct Engine {
    address: EngineAddress,
    free: RefCell<Vec<SendRequest<Full<Bytes>>>>,
    /// Changes whenever a connection was found broken: what was known of the engine may be of another one.
    generation: Cell<u64>,
    /// Long answers to questions of ours are read by turns.
    long: Semaphore,
    /// Connections that carry one exchange: one for each that is open.
    alone: Rc<()>,
}

/// An answer, with the connection that it came on.
#[derive(Debug)]
pub struct Answered {
    /// The answer.
    pub response: Response<Download>,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// The body of an answer.
#[derive(Debug)]
pub enum Download {
    /// On a connection of its own.
    Alone(Alone),
    /// On one that is kept.
    Kept(Incoming),
}

const KEEP: usize = 256;
/// Most bytes of an answer that is read as a whole.
const MOST_ANSWER: usize = 16 << 20;
/// Bytes of an answer to a question of ours from which on it is a long one, and how many of those are read at once.
const LONG: usize = 16 << 10;
const LONG_AT_ONCE: usize = 2;
/// Bytes of an answer that a kept connection reads ahead.
const KEPT_BUFFER: usize = 16 << 10;
const LOOKUP: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(10);

impl Engine {
    /// An engine at an address. Nothing is dialled yet.
    #[must_use]
    pub fn new(address: EngineAddress) -> Rc<Self> {
        Rc::new(Self { address, free: RefCell::default(), generation: Cell::new(0), long: Semaphore::new(LONG_AT_ONCE), alone: Rc::default() })
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> &EngineAddress {
        &self.address
    }

    /// See [`Engine`].
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// Sends a request on a kept connection, or on a fresh one.
    ///
    /// # Errors
    /// The engine cannot be reached, or breaks off.
    pub async fn exchange(&self, request: Request<Option<Bytes>>) -> Result<Answered, EngineError> {
        let mut request = request.map(|body| Full::new(body.unwrap_or_default()));
        while let Some(mut sender) = self.take() {
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(Answered { response: response.map(Download::Kept), sender: Some(sender) }),
                Err(mut error) => match error.take_message() {
                    // It was not sent: the engine had closed the connection.
                    Some(unsent) => {
                        self.broke();
                        request = unsent;
                    }
                    None => {
                        self.broke();
                        return Err(EngineError::Exchange(error.into_error()));
                    }
                },
            }
        }
        let mut sender = self.dial().await?;
        let response = sender.send_request(request).await.map_err(EngineError::Exchange)?;
        Ok(Answered { response: response.map(Download::Kept), sender: Some(sender) })
    }

    /// Sends a request on a connection of its own.
    ///
    /// # Errors
    /// The engine cannot be reached, or breaks off.
    pub async fn exchange_alone(&self, request: Request<impl Into<Upload>>) -> Result<Answered, EngineError> {
        let response = alone::exchange(self.connect().await?, request.map(Into::into), Rc::clone(&self.alone)).await?;
        Ok(Answered { response: response.map(Download::Alone), sender: None })
    }

    /// Asks for something small, and reads all of it.
    ///
    /// # Errors
    /// The engine cannot be reached, breaks off, or does not answer in half a minute.
    pub async fn ask(&self, method: &'static str, target: &str, json: Option<Vec<u8>>) -> Result<(http::StatusCode, Bytes), EngineError> {
        timeout(LOOKUP, self.ask_patiently(method, target, json)).await.unwrap_or(Err(EngineError::Silent))
    }

    async fn ask_patiently(&self, method: &'static str, target: &str, json: Option<Vec<u8>>) -> Result<(http::StatusCode, Bytes), EngineError> {
        let payload = json.map_or(Payload::None, Payload::Json);
        let headers = if matches!(payload, Payload::Json(_)) { vec![("Content-Type", "application/json".to_owned())] } else { Vec::new() };
        let request = head(&Encoded { method, target: target.to_owned(), headers, payload })?;
        let answered = self.exchange(request).await?;
        let status = answered.response.status();
        let whole = self.whole(answered.response.into_body(), &format_args!("{method} {target}")).await?;
        self.give_back(answered.sender);
        Ok((status, Bytes::from(whole)))
    }

    /// The whole of an answer to a question of ours.
    ///
    /// # Errors
    /// See [`collect`].
    pub async fn whole(&self, body: Download, of: &dyn std::fmt::Display) -> Result<Vec<u8>, EngineError> {
        let mut turn = None;
        let by_turns = async |bytes| {
            if bytes > LONG && turn.is_none() {
                turn = self.long.acquire().await.ok();
            }
            Ok(())
        };
        collect(body, of, by_turns).await
    }

    /// Keeps the connection of an answer that was read to its end.
    pub fn give_back(&self, sender: Option<SendRequest<Full<Bytes>>>) {
        let mut free = self.free.borrow_mut();
        if let Some(sender) = sender.filter(|sender| !sender.is_closed() && free.len() < KEEP) {
            free.push(sender);
        }
    }

    fn take(&self) -> Option<SendRequest<Full<Bytes>>> {
        loop {
            let sender = self.free.borrow_mut().pop()?;
            if sender.is_ready() {
                return Some(sender);
            }
            if sender.is_closed() {
                self.broke();
            }
        }
    }

    fn broke(&self) {
        self.generation.set(self.generation.get().wrapping_add(1));
    }

    /// Opens a connection that is kept.
    async fn dial(&self) -> Result<SendRequest<Full<Bytes>>, EngineError> {
        let stream = TokioIo::new(self.connect().await?);
        let (sender, connection) = http1::Builder::new().max_buf_size(KEPT_BUFFER).handshake(stream).await.map_err(EngineError::Exchange)?;
        // How it ended is told by the exchange that it carried.
        tokio::task::spawn_local(connection);
        Ok(sender)
    }

    async fn connect(&self) -> Result<EngineStream, EngineError> {
        let failed = |source: std::io::Error| EngineError::Connect { address: self.address.to_string(), source };
        match timeout(CONNECT, self.address.connect()).await {
            Ok(result) => result.map_err(|error| {
                self.broke();
                failed(error)
            }),
            Err(_) => Err(failed(std::io::ErrorKind::TimedOut.into())),
        }
    }
}

impl EngineAddress {
    async fn connect(&self) -> std::io::Result<EngineStream> {
        match self {
            Self::Unix(path) => UnixStream::connect(path).await.map(EngineStream::Unix),
            Self::Tls(_, connector) => connector.connect().await.map(|stream| EngineStream::Tls(Box::new(stream))),
        }
    }
}

impl Download {
    /// The next part, which is not empty; `None` at the end.
    ///
    /// # Errors
    /// The engine breaks off.
    pub async fn part(&mut self) -> Result<Option<Bytes>, EngineError> {
        match self {
            Self::Alone(alone) => alone.part().await,
            Self::Kept(body) => {
                while let Some(frame) = body.frame().await {
                    if let Ok(part) = frame.map_err(EngineError::Exchange)?.into_data()
                        && !part.is_empty()
                    {
                        return Ok(Some(part));
                    }
                }
                Ok(None)
            }
        }
    }

    /// Bytes that are left, where that is known.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::Alone(alone) => alone.length(),
            Self::Kept(body) => body.size_hint().exact(),
        }
    }
}

impl Answered {
    /// The answer and its connection.
    #[must_use]
    pub fn into_parts(self) -> (Response<Download>, Option<SendRequest<Full<Bytes>>>) {
        (self.response, self.sender)
    }
}

/// The whole of an answer that has to be read before anything is done with it; `of` is what it answers. `room` waits until there is room for so
/// many bytes, or says that there is none.
///
/// # Errors
/// The engine breaks off, it is longer than such an answer may be, or there is no room.
pub async fn collect<E: From<EngineError>>(
    mut body: Download,
    of: &dyn std::fmt::Display,
    mut room: impl AsyncFnMut(usize) -> Result<(), E>,
) -> Result<Vec<u8>, E> {
    let mut whole = Vec::new();
    while let Some(part) = body.part().await? {
        whole.extend_from_slice(&part);
        if whole.len() > MOST_ANSWER {
            return Err(EngineError::Answer(format!("more than {MOST_ANSWER} bytes to {of}")).into());
        }
        room(whole.len()).await?;
    }
    Ok(whole)
}

/// The head of a request to the engine; the body where it is known.
///
/// # Errors
/// A target that is no URI; the encoder writes none.
pub fn head(encoded: &Encoded) -> Result<Request<Option<Bytes>>, EngineError> {
    let whole = match &encoded.payload {
        Payload::Json(json) => Some(Bytes::copy_from_slice(json)),
        Payload::None | Payload::Stream => None,
    };
    build(encoded, whole)
}

/// The head of a request to the engine, with a body.
///
/// # Errors
/// A target that is no URI; the encoder writes none.
pub fn build<B>(encoded: &Encoded, body: B) -> Result<Request<B>, EngineError> {
    let mut request = Request::builder().method(encoded.method).uri(encoded.target.as_str()).header("Host", "docker").header("User-Agent", AGENT);
    for (name, value) in &encoded.headers {
        request = request.header(*name, value);
    }
    request.body(body).map_err(|error| EngineError::Answer(error.to_string()))
}

const AGENT: &str = concat!("seawall/", env!("CARGO_PKG_VERSION"));

impl From<Option<Bytes>> for Upload {
    fn from(whole: Option<Bytes>) -> Self {
        Self::Whole(whole)
    }
}

impl AsyncRead for EngineStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for EngineStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[std::io::IoSlice<'_>]) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
