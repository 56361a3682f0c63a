//! Requests off the wire: heads, read more strictly than hyper and the engine read them, and bodies, bounded or streamed.
//!
//! hyper forgives what hides a request from a filter: two hosts, `Content-Length` beside `Transfer-Encoding`, bare line feeds, any method
//! token (measured with 1.12), and then does not tell. So the client's side of a connection is read here, on `httparse`. The engine's side, which
//! is trusted to speak HTTP, is hyper's where connections are kept, and read in [`crate::dial`] where a stream has its own.
//!
//! A head has one form: CRLF line ends, HTTP/1.1, one `Host`, at most one of `Content-Length` and `Transfer-Encoding: chunked`, no folded lines,
//! no tabs. Anything else ends the connection, because what follows on it cannot be trusted to be a request.

mod head;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::relay::{self, End};

pub use head::{Framing, Head};

/// Bounds of what is read.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes of a head.
    pub head: usize,
    /// Bytes of a body that is decoded.
    pub body: usize,
    /// From the first byte of a head, or of a decoded body, to its last.
    pub patience: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// Between two pieces of an archive.
    pub stall: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { head: 64 << 10, body: 4 << 20, patience: Duration::from_secs(10), idle: Duration::from_secs(600), stall: Duration::from_secs(60) }
    }
}

/// What is wrong with the bytes of a request. Always the client's mistake; the connection ends with it.
#[derive(Debug, Error)]
pub enum ReceiveError {
    /// The tenant has too much under way.
    #[error("your requests under way take all the memory that there is for them")]
    Busy,
    /// The framing of a chunked body.
    #[error("chunked body: {0}")]
    Chunked(&'static str),
    /// The client went away in the middle.
    #[error("the client went away")]
    Gone(#[source] std::io::Error),
    /// The head is not in the one form that is read.
    #[error("malformed request: {0}")]
    Head(&'static str),
    /// The method is none of the Engine API's.
    #[error("method `{0}` is not one of the Engine API's")]
    Method(String),
    /// It takes too long.
    #[error("the request did not arrive in time")]
    Slow,
    /// It is too large.
    #[error("the {what} is larger than {limit} bytes")]
    TooLarge {
        /// `head` or `body`.
        what: &'static str,
        /// The limit, in bytes.
        limit: usize,
    },
    /// Another version of HTTP.
    #[error("only HTTP/1.1 is spoken here")]
    Version,
}

/// The reading side of a client's connection.
#[derive(Debug)]
pub struct Receiver<S> {
    /// The connection; answers are written to it.
    pub stream: S,
    buffer: BytesMut,
    bounds: Bounds,
}

/// Where in a body the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remaining {
    /// At the beginning of a chunk.
    Chunk,
    /// In a chunk that has so many bytes left; more chunks follow.
    InChunk(u64),
    /// At the end.
    Done,
    /// So many bytes are left.
    Length(u64),
}

impl From<Framing> for Remaining {
    fn from(framing: Framing) -> Self {
        match framing {
            Framing::Chunked => Self::Chunk,
            Framing::Length(0) | Framing::None => Self::Done,
            Framing::Length(length) => Self::Length(length),
        }
    }
}

impl<S: AsyncRead + Unpin> Receiver<S> {
    /// Reads from a new connection.
    pub fn new(stream: S, bounds: Bounds) -> Self {
        Self { stream, buffer: BytesMut::new(), bounds }
    }

    /// The next head; `None` when the client has gone between two requests, with or without an end (`close_notify`), or been idle for too long.
    /// `room` says whether there is room for so many bytes of one that is not complete.
    ///
    /// # Errors
    /// The head is not in the one form that is read, or there is no room.
    pub async fn head(&mut self, room: impl FnMut(usize) -> bool) -> Result<Option<Head>, ReceiveError> {
        if self.buffer.is_empty() {
            // An idle connection holds no buffer.
            self.buffer = BytesMut::new();
            match timeout(self.bounds.idle, self.more(HEAD_ROOM)).await {
                Err(_) | Ok(Ok(0)) => return Ok(None),
                Ok(Ok(_)) => {}
                // Of a TLS stream this is said of bytes that are none.
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::InvalidData => return Err(ReceiveError::Gone(error)),
                Ok(Err(_)) => return Ok(None),
            }
        }
        if let Some(head) = self.parse()? {
            return Ok(Some(head));
        }
        let patience = self.bounds.patience;
        match timeout(patience, self.rest_of_head(room)).await {
            Ok(head) => head.map(Some),
            Err(_) => Err(ReceiveError::Slow),
        }
    }

    async fn rest_of_head(&mut self, mut room: impl FnMut(usize) -> bool) -> Result<Head, ReceiveError> {
        loop {
            if !room(self.buffer.len()) {
                return Err(ReceiveError::Busy);
            }
            self.fill(HEAD_ROOM).await?;
            if let Some(head) = self.parse()? {
                return Ok(head);
            }
        }
    }

    fn parse(&mut self) -> Result<Option<Head>, ReceiveError> {
        let Some((head, length)) = head::parse(&self.buffer)? else {
            return if self.buffer.len() > self.bounds.head {
                Err(ReceiveError::TooLarge { what: "head", limit: self.bounds.head })
            } else {
                Ok(None)
            };
        };
        if length > self.bounds.head {
            return Err(ReceiveError::TooLarge { what: "head", limit: self.bounds.head });
        }
        let _ = self.buffer.split_to(length);
        Ok(Some(head))
    }

    /// A whole body that is going to be decoded. `room` says whether there is room for so many bytes of it, before they are kept.
    ///
    /// # Errors
    /// It is too large, malformed, or takes too long, or there is no room.
    pub async fn body(&mut self, framing: Framing, mut room: impl FnMut(usize) -> bool) -> Result<Bytes, ReceiveError> {
        let limit = self.bounds.body;
        match framing {
            Framing::None | Framing::Length(0) => Ok(Bytes::new()),
            Framing::Length(length) if usize::try_from(length).map_or(true, |length| length > limit) => {
                Err(ReceiveError::TooLarge { what: "body", limit })
            }
            Framing::Length(length) if !usize::try_from(length).is_ok_and(&mut room) => Err(ReceiveError::Busy),
            Framing::Length(_) | Framing::Chunked => {
                timeout(self.body_patience(), self.collect(framing, limit, room)).await.unwrap_or(Err(ReceiveError::Slow))
            }
        }
    }

    /// How long a client may take for what is kept in memory until it is complete.
    #[must_use]
    pub fn body_patience(&self) -> Duration {
        self.bounds.patience.max(Duration::from_secs(30))
    }

    async fn collect(&mut self, framing: Framing, limit: usize, mut room: impl FnMut(usize) -> bool) -> Result<Bytes, ReceiveError> {
        let mut remaining = Remaining::from(framing);
        let mut whole = BytesMut::new();
        // How long a chunked body becomes is not known, and nothing is counted until some of it is there.
        let most = if framing == Framing::Chunked { HEAD_ROOM } else { STREAM_ROOM };
        while let Some(part) = self.part_within(&mut remaining, most).await? {
            if whole.len() + part.len() > limit {
                return Err(ReceiveError::TooLarge { what: "body", limit });
            }
            if framing == Framing::Chunked && !room(whole.len() + part.len()) {
                return Err(ReceiveError::Busy);
            }
            if whole.is_empty() && remaining == Remaining::Done && framing != Framing::Chunked {
                return Ok(part);
            }
            // Out of the buffer that chunks are read into: the request may last.
            whole.extend_from_slice(&part);
        }
        Ok(whole.freeze())
    }

    /// The next part of a streamed body; `None` at its end.
    ///
    /// # Errors
    /// The framing is malformed, or the client went away.
    pub async fn part(&mut self, remaining: &mut Remaining) -> Result<Option<Bytes>, ReceiveError> {
        self.part_within(remaining, STREAM_ROOM).await
    }

    /// [`Receiver::part`], of at most about so many bytes.
    async fn part_within(&mut self, remaining: &mut Remaining, most: usize) -> Result<Option<Bytes>, ReceiveError> {
        loop {
            match *remaining {
                Remaining::Done => return Ok(None),
                Remaining::Chunk => match self.chunk_size()? {
                    Some(0) => *remaining = Remaining::Done,
                    Some(size) => *remaining = Remaining::InChunk(size),
                    None => self.fill(most).await?,
                },
                Remaining::Length(left) | Remaining::InChunk(left) => {
                    if self.buffer.is_empty() {
                        // Of a body with a length no more is read than it has; behind a chunk others follow.
                        let room = if matches!(remaining, Remaining::Length(_)) { usize::try_from(left).unwrap_or(most) } else { most };
                        self.fill(room.min(most)).await?;
                    }
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
                    let part = self.buffer.split_to(take).freeze();
                    let left = left.saturating_sub(u64::try_from(take).unwrap_or(u64::MAX));
                    *remaining = match (*remaining, left) {
                        (Remaining::InChunk(_), 0) => {
                            while self.buffer.len() < 2 {
                                self.fill(most).await?;
                            }
                            if self.buffer.split_to(2).as_ref() != b"\r\n" {
                                return Err(ReceiveError::Chunked("no line end after a chunk"));
                            }
                            // The last chunk may be here already: then the body is known to be complete.
                            match self.chunk_size()? {
                                Some(0) => Remaining::Done,
                                Some(size) => Remaining::InChunk(size),
                                None => Remaining::Chunk,
                            }
                        }
                        (Remaining::InChunk(_), left) => Remaining::InChunk(left),
                        (_, 0) => Remaining::Done,
                        (_, left) => Remaining::Length(left),
                    };
                    return Ok(Some(part));
                }
            }
        }
    }

    /// Takes a chunk's size off the buffer, and behind the last one the end of the body. `None`: more bytes are needed.
    fn chunk_size(&mut self) -> Result<Option<u64>, ReceiveError> {
        let window = self.buffer.get(..self.buffer.len().min(12)).unwrap_or_default();
        let Some(end) = window.iter().position(|b| *b == b'\n') else {
            return if window.len() == 12 { Err(ReceiveError::Chunked("a chunk's size with more than hexadecimal digits")) } else { Ok(None) };
        };
        let line = window.get(..end).unwrap_or_default();
        let digits = line.strip_suffix(b"\r").ok_or(ReceiveError::Chunked("a bare line feed"))?;
        let text = std::str::from_utf8(digits).unwrap_or_default();
        if text.is_empty() || text.len() > 8 || !text.bytes().all(|b| b.is_ascii_hexdigit()) || (text.len() > 1 && text.starts_with('0')) {
            return Err(ReceiveError::Chunked("a chunk's size is hexadecimal digits and nothing else"));
        }
        let size = u64::from_str_radix(text, 16).map_err(|_| ReceiveError::Chunked("a chunk's size"))?;
        if size == 0 {
            let Some(after) = self.buffer.get(end + 1..end + 3) else { return Ok(None) };
            if after != b"\r\n" {
                return Err(ReceiveError::Chunked("trailers"));
            }
            let _ = self.buffer.split_to(end + 3);
            return Ok(Some(0));
        }
        let _ = self.buffer.split_to(end + 1);
        Ok(Some(size))
    }

    /// Reads more; the client must not end here.
    async fn fill(&mut self, room: usize) -> Result<(), ReceiveError> {
        match self.more(room).await {
            Ok(0) => Err(ReceiveError::Gone(std::io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => Ok(()),
            Err(error) => Err(ReceiveError::Gone(error)),
        }
    }

    /// Reads into a buffer with about so much room: what is left of the last one, as long as that is half of it.
    async fn more(&mut self, room: usize) -> std::io::Result<usize> {
        if self.buffer.capacity() - self.buffer.len() < room / 2 + 1 {
            self.buffer.reserve(room);
        }
        self.stream.read_buf(&mut self.buffer).await
    }

    /// Waits until the client goes away, keeping what it sends meanwhile. Never returns while it stays; one that has only ended its half
    /// (`shutdown(SHUT_WR)`) stays for its answer.
    pub async fn gone(&mut self)
    where
        S: End,
    {
        loop {
            if self.buffer.len() >= PIPELINE {
                // It sends on without waiting for answers: look no further, the next write will tell.
                return std::future::pending().await;
            }
            let room = if self.buffer.is_empty() {
                // Most send nothing before they have their answer, which may take days (`GET /events`).
                self.buffer = BytesMut::new();
                WAITING_ROOM
            } else {
                HEAD_ROOM
            };
            match self.more(room).await {
                Ok(0) => return relay::gone(&self.stream).await,
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    /// Tells a client that waits with its body (`Expect: 100-continue`) to send it.
    ///
    /// # Errors
    /// The client went away.
    pub async fn invite(&mut self) -> Result<(), ReceiveError>
    where
        S: AsyncWrite,
    {
        self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.map_err(ReceiveError::Gone)?;
        self.stream.flush().await.map_err(ReceiveError::Gone)
    }

    /// Ends a connection on which the client may still be sending: our answer would be lost with the reset that closing sends (RFC 9112 §9.6).
    pub async fn linger(mut self)
    where
        S: AsyncWrite,
    {
        if self.stream.shutdown().await.is_err() {
            return;
        }
        let drained = async {
            loop {
                self.buffer.clear();
                if matches!(self.more(STREAM_ROOM).await, Ok(0) | Err(_)) {
                    return;
                }
            }
        };
        let _ = timeout(LINGER, drained).await;
    }

    /// Bytes that came behind the request, and the connection: for a tunnel.
    pub fn into_parts(self) -> (S, Bytes) {
        (self.stream, self.buffer.freeze())
    }

    /// Whether bytes of a next request are here already.
    pub fn has_pipelined(&self) -> bool {
        !self.buffer.is_empty()
    }
}

/// Bytes that are read at once while heads arrive.
const HEAD_ROOM: usize = 4 << 10;
/// Bytes that are read at first from a client that waits for an answer.
const WAITING_ROOM: usize = 64;
/// Bytes that are read at once while a body streams: 8 KiB cost three times the CPU a gibibyte, 256 KiB save nothing more.
const STREAM_ROOM: usize = 64 << 10;
/// How long a refused client may go on sending before it is cut.
const LINGER: Duration = Duration::from_secs(5);

/// Bytes of requests that are kept while an answer is under way.
const PIPELINE: usize = 8 << 10;

#[cfg(test)]
mod tests;
