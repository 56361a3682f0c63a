//! The engine's answer on its way to the client: passed on as it comes, or read and narrowed first.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use engine::operation::OperationId;
use http::{Response, StatusCode, header};
use policies::Rows;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::answer;
use crate::audit::Open;
use crate::dial::{Answered, EngineError, collect};
use crate::receive::{Head, ReceiveError, Receiver};
use crate::relay::End;
use crate::respond::Refusal;
use crate::serve::{boxed, refuse};

use super::made::owner;
use super::still::Held;
use super::{Exchange, is_archive};

impl Exchange<'_> {
    /// Whether the answer is looked into before it is passed on.
    pub(super) fn is_read(&self, answered: &Answered) -> bool {
        let operation = self.permitted.request().operation.id;
        answered.response.status().is_success()
            && (answer::is_read(operation, self.permitted.rows()) || matches!(operation, OperationId::ContainerCreate | OperationId::VolumeCreate))
    }

    pub(super) fn is_streamed_list(&self, answered: &Answered) -> bool {
        let images = self.permitted.request().operation.id == OperationId::ImageList && *self.permitted.rows() == Rows::Images;
        images && answered.response.status().is_success()
    }

    /// Gives a list of images row by row: that of all tenants may be of any length, and is never here as a whole.
    pub(super) async fn give_images<S: End>(&self, receiver: &mut Receiver<S>, answered: Answered, head: &Head, open: &mut Open) -> Result<(), ()> {
        let (response, connection) = answered.into_parts();
        let (parts, mut body) = response.into_parts();
        let mut out = Outgoing::new(Length::Chunked, None);
        self.write_head(&mut out.text, &Response::from_parts(parts, ()), Length::Chunked, head.close);
        let mut images = answer::Images::new(&self.known.policy, &self.known.tenant);
        // Cut off, the client must not take this for the end.
        while let Some(part) = body.part().await.map_err(drop)? {
            images.push(&part);
            if images.waiting() > STREAMED {
                out.add_part(images.take().into(), &mut open.record.bytes[1]);
                out.send(receiver).await?;
            }
        }
        images.end().map_err(drop)?;
        out.add_part(images.take().into(), &mut open.record.bytes[1]);
        out.send(receiver).await?;
        out.end();
        out.send(receiver).await?;
        self.shared.resolver.engine().give_back(connection);
        Ok(())
    }

    pub(super) async fn give_read<S: End>(&self, receiver: &mut Receiver<S>, answered: Answered, head: &Head, open: &mut Open) -> Result<(), ()> {
        let (response, connection) = answered.into_parts();
        let (parts, body) = response.into_parts();
        let mut share = self.shared.answers.begin(&self.known.tenant);
        let room = async |bytes| if share.resize(bytes) { Ok(()) } else { Err(Refusal::from(ReceiveError::Busy)) };
        let rewritten = match collect(body, &self.permitted.request().operation.id, room).await {
            Ok(body) => {
                self.shared.resolver.engine().give_back(connection);
                self.rewrite(&body).await
            }
            Err(refusal) => Err(refusal),
        };
        let body = match rewritten {
            Ok(body) => body,
            Err(refusal) => {
                let good = refuse(receiver, open, &refusal, false).await;
                return if good { Ok(()) } else { Err(()) };
            }
        };
        open.record.bytes[1] = u64::try_from(body.len()).unwrap_or_default();
        let mut out = BytesMut::with_capacity(512 + body.len());
        self.write_head(&mut out, &Response::from_parts(parts, ()), Length::Known(body.len()), head.close);
        out.extend_from_slice(&body);
        send(receiver, &out).await
    }

    /// Reads an answer, checks what it says was made, and narrows it.
    async fn rewrite(&self, body: &[u8]) -> Result<Vec<u8>, Refusal> {
        let request = self.permitted.request();
        #[expect(clippy::wildcard_enum_match_arm, reason = "of all operations two make something that is checked")]
        match request.operation.id {
            OperationId::ContainerCreate => {
                self.check_container(body).await?;
                Ok(body.to_vec())
            }
            OperationId::VolumeCreate => {
                // "201" is also the answer to the name of somebody else's volume.
                if owner(body).as_deref() == Some(&*self.known.tenant) {
                    self.shared.unseen.made(&self.known.tenant, &self.unseen);
                    Ok(body.to_vec())
                } else {
                    Err(Refusal::Raced("a volume of this name exists".to_owned()))
                }
            }
            operation => Ok(answer::rewrite(operation, self.permitted.rows(), &self.known.policy, &self.known.tenant, body)?),
        }
    }

    /// Passes an answer on as it comes. What is held for it is let go before its end.
    pub(super) async fn give<S: End>(
        &self,
        receiver: &mut Receiver<S>,
        (answered, held): (Answered, Option<Held>),
        head: &Head,
        open: &mut Open,
    ) -> Result<(), ()> {
        let (response, connection) = answered.into_parts();
        let (parts, mut body) = response.into_parts();
        let bodyless = head.method == "HEAD" || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let length = match body.length() {
            _ if bodyless => Length::None,
            Some(length) => Length::Known(usize::try_from(length).unwrap_or(usize::MAX)),
            None => Length::Chunked,
        };
        let mut out = Outgoing::new(length, self.patience());
        self.write_head(&mut out.text, &Response::from_parts(parts, ()), length, head.close);
        // What has come with the head goes with it; what has not is not waited for.
        let mut ended = bodyless || body.length() == Some(0);
        if !ended {
            match futures_now(body.part()).await {
                Some(part) => ended = out.add(part, &mut open.record.bytes[1])?,
                None => out.send(receiver).await?,
            }
        }
        while !ended {
            out.send(receiver).await?;
            tokio::select! {
                biased;
                part = body.part() => ended = out.add(part, &mut open.record.bytes[1])?,
                () = receiver.gone() => return Err(()),
            }
        }
        if let Some(held) = held {
            boxed(|| held.release()).await;
        }
        out.end();
        out.send(receiver).await?;
        self.shared.resolver.engine().give_back(connection);
        Ok(())
    }

    /// How long a client may take nothing, where the engine keeps a container locked for it.
    fn patience(&self) -> Option<Duration> {
        let archive = is_archive(self.permitted.request().operation.id);
        archive.then_some(self.shared.bounds.stall)
    }

    fn write_head(&self, out: &mut BytesMut, response: &Response<()>, length: Length, close: bool) {
        let status = response.status();
        write(out, format_args!("HTTP/1.1 {} {}\r\n", status.as_u16(), status.canonical_reason().unwrap_or("Unknown")));
        for (name, value) in response.headers() {
            if HOP_BY_HOP.contains(name) {
                continue;
            }
            push(out, name.as_str());
            out.extend_from_slice(b": ");
            match name.as_str() {
                "api-version" => push(out, &answer::clamp(value.to_str().unwrap_or_default())),
                // Clients that are offered the classic builder use it.
                "builder-version" => push(out, "1"),
                _ => out.extend_from_slice(value.as_bytes()),
            }
            out.extend_from_slice(b"\r\n");
        }
        match length {
            Length::Chunked => push(out, "Transfer-Encoding: chunked\r\n"),
            Length::Known(length) => write(out, format_args!("Content-Length: {length}\r\n")),
            Length::None => {
                if let Some(length) = response.headers().get(header::CONTENT_LENGTH).filter(|_| status == StatusCode::OK) {
                    write(out, format_args!("Content-Length: {}\r\n", length.to_str().unwrap_or("0")));
                }
            }
        }
        push(out, if close { "Connection: close\r\n\r\n" } else { "\r\n" });
    }
}

/// Bytes of a list that are sent together.
const STREAMED: usize = 16 << 10;

/// Headers that belong to one connection. The body's framing is written anew.
const HOP_BY_HOP: [header::HeaderName; 7] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TRAILER,
    header::TE,
    header::HeaderName::from_static("keep-alive"),
];

/// How the body of an answer is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Chunked,
    Known(usize),
    None,
}

fn push(out: &mut BytesMut, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn write(out: &mut BytesMut, text: std::fmt::Arguments<'_>) {
    // Memory takes all that is written to it.
    let _ = out.write_fmt(text);
}

/// What is written to the client next: text, then a part of a body that is too large to be copied behind it.
struct Outgoing {
    text: BytesMut,
    part: Bytes,
    length: Length,
    patience: Option<Duration>,
}

impl Outgoing {
    fn new(length: Length, patience: Option<Duration>) -> Self {
        Self { text: BytesMut::with_capacity(1024), part: Bytes::new(), length, patience }
    }

    /// Adds a part; what was added before has been sent. Says whether it was the last.
    fn add(&mut self, part: Result<Option<Bytes>, EngineError>, count: &mut u64) -> Result<bool, ()> {
        // The engine broke off: the client must not take this for the end.
        let Some(part) = part.map_err(drop)? else { return Ok(true) };
        self.add_part(part, count);
        Ok(false)
    }

    /// Adds a part, which is not empty.
    fn add_part(&mut self, part: Bytes, count: &mut u64) {
        *count += u64::try_from(part.len()).unwrap_or_default();
        if self.length == Length::Chunked {
            write(&mut self.text, format_args!("{:x}\r\n", part.len()));
        }
        if part.len() >= COPIED {
            self.part = part;
            return;
        }
        self.text.extend_from_slice(&part);
        if self.length == Length::Chunked {
            self.text.extend_from_slice(LINE_END);
        }
    }

    /// The body is complete.
    fn end(&mut self) {
        if self.length == Length::Chunked {
            self.text.extend_from_slice(b"0\r\n\r\n");
        }
    }

    /// Writes all of it, in one call where the socket takes it, to a client that goes on taking it.
    async fn send<S: End>(&mut self, receiver: &mut Receiver<S>) -> Result<(), ()> {
        let part = std::mem::take(&mut self.part);
        if part.is_empty() && self.text.is_empty() {
            return Ok(());
        }
        let end = if part.is_empty() || self.length != Length::Chunked { b"" } else { LINE_END };
        let mut left = self.text.as_ref().chain(part).chain(end);
        while left.has_remaining() {
            if in_time(self.patience, receiver.stream.write_buf(&mut left)).await? == 0 {
                return Err(());
            }
        }
        self.text.clear();
        in_time(self.patience, receiver.stream.flush()).await
    }
}

/// Parts of a body that are smaller are copied behind the text before them.
const COPIED: usize = 4 << 10;

const LINE_END: &[u8] = b"\r\n";

async fn in_time<T>(patience: Option<Duration>, write: impl Future<Output = std::io::Result<T>>) -> Result<T, ()> {
    let written = match patience {
        Some(patience) => timeout(patience, write).await.map_err(drop)?,
        None => write.await,
    };
    written.map_err(drop)
}

pub(super) async fn send<S: End>(receiver: &mut Receiver<S>, bytes: &[u8]) -> Result<(), ()> {
    receiver.stream.write_all(bytes).await.map_err(drop)?;
    receiver.stream.flush().await.map_err(drop)
}

/// The result of a future if it is there already.
async fn futures_now<F: Future>(future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match future.as_mut().poll(cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}
