//! As much HTTP/1.1 as both ends of a benchmark need; both trust each other.

use anyhow::{Context, bail};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A connection, of whatever kind.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Chunked,
    Length(u64),
}

/// A head: its first line, and how its body ends. A head that says nothing of a body has none.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) first: String,
    pub(crate) framing: Framing,
}

impl Head {
    /// The status of an answer.
    pub(crate) fn status(&self) -> &str {
        self.first.split(' ').nth(1).unwrap_or_default()
    }
}

/// The reading side of a connection.
pub(crate) struct Wire {
    pub(crate) stream: Box<dyn Io>,
    buffer: BytesMut,
    /// Bytes that are read at once.
    pub(crate) grow: usize,
}

impl Wire {
    pub(crate) fn new(stream: Box<dyn Io>, grow: usize) -> Self {
        Self { stream, buffer: BytesMut::new(), grow }
    }

    /// Sends a request, and reads the head of the answer.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> anyhow::Result<Head> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        self.head().await?.context("the connection ended")
    }

    async fn fill(&mut self) -> anyhow::Result<bool> {
        self.buffer.reserve(self.grow);
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }

    async fn need(&mut self) -> anyhow::Result<()> {
        if self.fill().await? { Ok(()) } else { bail!("the connection ended") }
    }

    /// The next head; `None` when the peer has ended the connection.
    pub(crate) async fn head(&mut self) -> anyhow::Result<Option<Head>> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let bytes = self.buffer.split_to(end + 4);
                return parse(std::str::from_utf8(&bytes)?).map(Some);
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// Reads a body, keeps nothing of it, and says how long it was.
    pub(crate) async fn skip(&mut self, framing: Framing) -> anyhow::Result<u64> {
        let mut whole = 0;
        match framing {
            Framing::Length(length) => self.skip_bytes(length).await.map(|()| length),
            Framing::Chunked => loop {
                let size = self.chunk_size().await?;
                self.skip_bytes(size + 2).await?;
                whole += size;
                if size == 0 {
                    return Ok(whole);
                }
            },
        }
    }

    async fn chunk_size(&mut self) -> anyhow::Result<u64> {
        loop {
            if let Some(end) = self.buffer.iter().take(32).position(|b| *b == b'\n') {
                let line = self.buffer.split_to(end + 1);
                return u64::from_str_radix(std::str::from_utf8(&line)?.trim(), 16).context("a chunk's size");
            }
            self.need().await?;
        }
    }

    async fn skip_bytes(&mut self, length: u64) -> anyhow::Result<()> {
        let mut left = length;
        loop {
            let here = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            self.buffer.advance(here);
            left -= u64::try_from(here)?;
            if left == 0 {
                return Ok(());
            }
            self.need().await?;
        }
    }

    /// Some bytes of a tunnel; none at its end.
    pub(crate) async fn some(&mut self) -> anyhow::Result<BytesMut> {
        if self.buffer.is_empty() {
            self.fill().await?;
        }
        Ok(self.buffer.split())
    }
}

fn parse(head: &str) -> anyhow::Result<Head> {
    let mut lines = head.lines();
    let first = lines.next().unwrap_or_default().to_owned();
    let mut framing = Framing::Length(0);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            framing = Framing::Length(value.trim().parse()?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            framing = Framing::Chunked;
        }
    }
    Ok(Head { first, framing })
}
