//! One exchange on a connection of its own, which may last: nothing is kept for it while nothing moves, and no task of its own drives it.
//!
//! Whoever waits for the answer, and then for the parts of its body, sends what is left of the request and reads what comes: one who takes nothing
//! holds the engine up. Dropped, it closes the connection.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::request::Parts;
use http::{Request, Response};
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf, split};

use super::framing::{Left, take_head};
use super::{Aborted, EngineError, EngineStream, Upload};
use crate::budget::part;
use crate::relay::poll_take;

/// The body of an answer, and the connection that it comes on.
#[derive(Debug)]
pub struct Alone {
    reader: ReadHalf<EngineStream>,
    request: Sending,
    /// What came and was not taken yet.
    came: Bytes,
    left: Left,
    /// One for each connection that is open.
    open: Rc<()>,
}

type Writer = WriteHalf<EngineStream>;

/// A request on its way.
enum Sending {
    /// The engine takes no more of it. It may have said why.
    Refused,
    Sent(Writer),
    Underway(Pin<Box<dyn Future<Output = Result<Writer, Unsent>>>>),
}

/// Why the rest of a request is not sent.
enum Unsent {
    Aborted(Aborted),
    Refused,
}

/// Sends a request and reads the head of the answer, which may come before the whole request was sent. `open` is there once for each exchange that
/// lasts, and once more.
///
/// # Errors
/// The engine breaks off, its answer is not understood, or the client's body will not be finished.
pub(super) async fn exchange(stream: EngineStream, request: Request<Upload>, open: Rc<()>) -> Result<Response<Alone>, EngineError> {
    let (reader, writer) = split(stream);
    let (parts, body) = request.into_parts();
    let sending = Box::pin(send(writer, head(&parts, &body), body));
    let mut alone = Alone { reader, request: Sending::Underway(sending), came: Bytes::new(), left: Left::UntilClose, open };
    let mut bytes = BytesMut::new();
    loop {
        let came = poll_fn(|cx| alone.poll_read(cx)).await?;
        if came.is_empty() {
            return Err(EngineError::Broken(io::ErrorKind::UnexpectedEof.into()));
        }
        bytes.extend_from_slice(&came);
        if let Some((response, left)) = take_head(&mut bytes, &parts.method)? {
            (alone.came, alone.left) = (bytes.freeze(), left);
            return Ok(response.map(|()| alone));
        }
    }
}

impl Alone {
    /// The next part of the body, which is not empty; `None` at its end.
    ///
    /// # Errors
    /// The engine breaks off, or the body is malformed.
    pub async fn part(&mut self) -> Result<Option<Bytes>, EngineError> {
        poll_fn(|cx| self.poll_part(cx)).await
    }

    /// Bytes of the body that are left, where that is known.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        match self.left {
            Left::Chunks(_) | Left::UntilClose => None,
            Left::Length(length) => Some(length),
            Left::Nothing => Some(0),
        }
    }

    /// The connection, and what came on it behind the head. `None`: the request was not sent.
    #[must_use]
    pub fn into_stream(self) -> Option<(EngineStream, Bytes)> {
        match self.request {
            Sending::Sent(writer) => Some((self.reader.unsplit(writer), self.came)),
            Sending::Refused | Sending::Underway(_) => None,
        }
    }

    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, EngineError>> {
        loop {
            if let Some(part) = self.left.take(&mut self.came)? {
                return Poll::Ready(Ok(Some(part)));
            }
            if self.left == Left::Nothing {
                return Poll::Ready(Ok(None));
            }
            // All of it was taken: what it was read into goes with its last part.
            self.came = Bytes::new();
            self.came = ready!(self.poll_read(cx))?;
            if self.came.is_empty() {
                self.left.end()?;
            }
        }
    }

    /// Goes on sending the request, and reads what came: no more than this stream may keep. Nothing: the engine has ended.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, EngineError>> {
        if let Sending::Underway(sending) = &mut self.request
            && let Poll::Ready(sent) = sending.as_mut().poll(cx)
        {
            self.request = match sent {
                Ok(writer) => Sending::Sent(writer),
                Err(Unsent::Refused) => Sending::Refused,
                // Nobody waits for the answer any more.
                Err(Unsent::Aborted(aborted)) => return Poll::Ready(Err(EngineError::Broken(io::Error::other(aborted)))),
            };
        }
        poll_take(cx, &mut self.reader, part(Rc::strong_count(&self.open))).map_err(EngineError::Broken)
    }
}

/// The head of a request, as it is sent.
fn head(parts: &Parts, body: &Upload) -> Vec<u8> {
    let mut head = format!("{} {} HTTP/1.1\r\n", parts.method, parts.uri).into_bytes();
    for (name, value) in &parts.headers {
        head.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    match body {
        Upload::Parts(_) => head.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Upload::Whole(Some(body)) => head.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes()),
        Upload::Whole(None) => {}
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Sends a request. Without the end of its body it stays unfinished.
async fn send(mut writer: Writer, head: Vec<u8>, body: Upload) -> Result<Writer, Unsent> {
    match body {
        Upload::Whole(body) => writer.write_all_buf(&mut head.chain(body.unwrap_or_default())).await?,
        Upload::Parts(mut parts) => {
            writer.write_all(&head).await?;
            while let Some(part) = parts.recv().await {
                let part = part?;
                // An empty chunk is the end.
                if !part.is_empty() {
                    let size = format!("{:x}\r\n", part.len());
                    writer.write_all_buf(&mut size.as_bytes().chain(part).chain(&b"\r\n"[..])).await?;
                    writer.flush().await?;
                }
            }
            writer.write_all(b"0\r\n\r\n").await?;
        }
    }
    writer.flush().await?;
    Ok(writer)
}

impl From<Aborted> for Unsent {
    fn from(aborted: Aborted) -> Self {
        Self::Aborted(aborted)
    }
}

impl From<io::Error> for Unsent {
    fn from(_: io::Error) -> Self {
        Self::Refused
    }
}

impl std::fmt::Debug for Sending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Refused => "Refused",
            Self::Sent(_) => "Sent",
            Self::Underway(_) => "Underway",
        })
    }
}

#[cfg(test)]
mod tests;
