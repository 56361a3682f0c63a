//! A tunnel: bytes both ways, each way ended by itself.
//!
//! `docker run -i` closes its standard input and reads on: the end of one way is passed on as the end of that way alone. Nothing is kept while
//! nothing moves: bytes are read into one buffer that all tunnels of the thread share, and only what the other side does not take at once
//! is copied.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

use crate::budget::part;
use crate::dial::EngineStream;
use crate::listener::Stream;

/// How often a client that has ended its half is looked after.
const LOOK: Duration = Duration::from_millis(250);

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; 64 << 10]);
    /// One for each tunnel that is open.
    static OPEN: Rc<()> = Rc::default();
}

/// One end of a tunnel.
pub trait End: AsyncRead + AsyncWrite + Unpin {
    /// Whether the peer has gone altogether. After the end of what it sends it may still be reading; asked for a moment, without waiting.
    fn is_gone(&self) -> bool;
}

impl End for UnixStream {
    fn is_gone(&self) -> bool {
        has(self, PollFlags::HUP | PollFlags::ERR)
    }
}

impl End for Stream {
    fn is_gone(&self) -> bool {
        match self {
            // The end of what a TLS client sends is an alert; FIN is the end of the connection.
            Self::Tls(stream) => has(stream.get_ref().0, PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR),
            Self::Unix(stream) => stream.is_gone(),
        }
    }
}

impl End for EngineStream {
    fn is_gone(&self) -> bool {
        match self {
            Self::Tls(stream) => has(stream.get_ref().0, PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR),
            Self::Unix(stream) => stream.is_gone(),
        }
    }
}

/// Waits until a peer that has ended its half is gone altogether. The kernel wakes nobody for the difference.
pub async fn gone(end: &impl End) {
    while !end.is_gone() {
        tokio::time::sleep(LOOK).await;
    }
}

/// Reads what has come, no more than so many bytes, into the buffer that all share, and gives it in no more room than it takes.
pub(crate) fn poll_take(cx: &mut Context<'_>, from: &mut (impl AsyncRead + Unpin), most: usize) -> Poll<io::Result<Bytes>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let room = most.min(scratch.len());
        let mut buffer = ReadBuf::new(scratch.get_mut(..room).unwrap_or_default());
        ready!(Pin::new(from).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(Bytes::copy_from_slice(buffer.filled())))
    })
}

/// Whether a descriptor is in one of these states now.
fn has(descriptor: &impl std::os::fd::AsFd, states: PollFlags) -> bool {
    let mut asked = [PollFd::new(descriptor, states)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut asked, Some(&now)).is_ok() && asked.first().is_some_and(|answer| answer.revents().intersects(states))
}

/// How many bytes went each way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// From the client to the engine.
    pub up: u64,
    /// From the engine to the client.
    pub down: u64,
}

/// One direction.
#[derive(Debug, Default)]
struct Way {
    pending: Bytes,
    state: State,
    moved: u64,
    unflushed: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    Ending,
    Ended,
}

impl Way {
    fn poll(&mut self, cx: &mut Context<'_>, from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) -> Poll<io::Result<()>> {
        loop {
            while self.pending.has_remaining() {
                let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.pending))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.pending.advance(written);
            }
            match self.state {
                State::Ended => return Poll::Ready(Ok(())),
                State::Ending => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.state = State::Ended;
                }
                State::Open => match SCRATCH.with_borrow_mut(|scratch| self.pump(cx, from, to, scratch)) {
                    Poll::Ready(result) => result?,
                    Poll::Pending => {
                        if self.unflushed {
                            ready!(Pin::new(&mut *to).poll_flush(cx))?;
                            self.unflushed = false;
                        }
                        return Poll::Pending;
                    }
                },
            }
        }
    }

    /// Reads once and writes what the other side takes.
    fn pump(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        scratch: &mut [u8],
    ) -> Poll<io::Result<()>> {
        let room = part(OPEN.with(Rc::strong_count)).min(scratch.len());
        let mut buffer = ReadBuf::new(scratch.get_mut(..room).unwrap_or_default());
        ready!(Pin::new(from).poll_read(cx, &mut buffer))?;
        let read = buffer.filled();
        if read.is_empty() {
            self.state = State::Ending;
            return Poll::Ready(Ok(()));
        }
        self.moved += u64::try_from(read.len()).unwrap_or_default();
        self.unflushed = true;
        let taken = match Pin::new(to).poll_write(cx, read) {
            Poll::Ready(result) => result?,
            Poll::Pending => 0,
        };
        let left = read.get(taken..).unwrap_or_default();
        if !left.is_empty() {
            self.pending = Bytes::copy_from_slice(left);
        }
        Poll::Ready(Ok(()))
    }
}

/// Moves bytes until both ways have ended, one breaks, or the client is gone. `early` came from the client before the tunnel stood.
pub async fn relay(client: &mut impl End, engine: &mut impl End, early: Bytes, first: Bytes) -> (Moved, io::Result<()>) {
    let _open = OPEN.with(Rc::clone);
    let mut up = Way { moved: u64::try_from(early.len()).unwrap_or_default(), pending: early, ..Way::default() };
    let mut down = Way { moved: u64::try_from(first.len()).unwrap_or_default(), pending: first, unflushed: true, ..Way::default() };
    let mut look = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
    let result = poll_fn(|cx| {
        let upward = up.poll(cx, client, engine)?;
        let downward = down.poll(cx, engine, client)?;
        if upward.is_ready() && downward.is_ready() {
            return Poll::Ready(Ok(()));
        }
        // The kernel wakes nobody for the difference between half a close and a whole one.
        while (up.state == State::Ended || down.state == State::Ended) && look.as_mut().poll(cx).is_ready() {
            if (up.state == State::Ended && client.is_gone()) || (down.state == State::Ended && engine.is_gone()) {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            look.set(tokio::time::sleep(LOOK));
        }
        Poll::Pending
    })
    .await;
    (Moved { up: up.moved, down: down.moved }, result)
}
