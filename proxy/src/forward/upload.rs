//! A request whose body streams from the client: what is known of it is looked at before the engine hears of it.

use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use engine::operation::OperationId;
use tokio::sync::mpsc;

use crate::audit::Open;
use crate::budget::Share;
use crate::dial::{Aborted, Answered, Upload, build};
use crate::receive::{Head, ReceiveError, Receiver, Remaining};
use crate::relay::End;
use crate::respond::Refusal;
use crate::vet::Vet;

use super::Exchange;
use super::still::{Held, answer};

impl Exchange<'_> {
    /// Sends a request whose body streams from the client. The answer may come before its end.
    #[expect(clippy::too_many_lines, reason = "one select between the client's parts and the engine's answer")]
    pub(super) async fn upload<S: End>(
        &self,
        receiver: &mut Receiver<S>,
        head: &Head,
        open: &mut Open,
        held: &mut Option<Held>,
    ) -> Result<Option<Answered>, Refusal> {
        let encoded = self.permitted.encode(self.version());
        if head.expects_continue {
            receiver.invite().await?;
        }
        open.upload_unfinished = true;
        let mut vet = Vet::of(self.permitted.request());
        let mut remaining = Remaining::from(head.framing);
        let patience = self.silence(receiver.body_patience());
        let Begun { mut first, mut rest, mut share } = self.begin(receiver, &mut vet, &mut remaining, open).await?;
        let mut ended = remaining == Remaining::Done && rest.is_empty();
        if ended {
            first.extend_from_slice(&vet.end()?);
        }
        *held = self.hold().await?;
        let stands = held.is_some();
        let (sender, parts) = mpsc::channel(PARTS);
        let request = build(&encoded, Upload::Parts(parts))?;
        let engine = Rc::clone(self.shared.resolver.engine());
        let mut answer = answer(held, async move { engine.exchange_alone(request).await });
        let mut sender = Some(sender);
        let mut counted = |bytes| if share.resize(bytes) { Ok(()) } else { Err(ReceiveError::Busy) };
        counted(first.len() + vet.kept())?;
        loop {
            let Some(to_engine) = &sender else {
                open.upload_unfinished = false;
                return tokio::select! {
                    biased;
                    answered = &mut answer => Ok(Some(answered?)),
                    () = receiver.gone() => Ok(None),
                };
            };
            let next = async {
                let Ok(permit) = to_engine.reserve().await else {
                    // The engine does not want more: its answer is coming.
                    return std::future::pending().await;
                };
                let (part, length) = match () {
                    () if !first.is_empty() => (first.split_to(first.len().min(PIECE)).freeze(), 0),
                    () if ended => return Ok::<_, Refusal>(None),
                    () if !rest.is_empty() => (self.step(&mut vet, &mut rest).await?, 0),
                    () => match part_in_time(receiver, &mut remaining, patience).await? {
                        Some(part) => {
                            let length = part.len();
                            rest = part;
                            (self.step(&mut vet, &mut rest).await?, length)
                        }
                        None => {
                            ended = true;
                            (vet.end()?, 0)
                        }
                    },
                };
                counted(first.len() + vet.kept())?;
                if !part.is_empty() {
                    permit.send(Ok(part));
                }
                Ok(Some(u64::try_from(length).unwrap_or_default()))
            };
            tokio::select! {
                biased;
                answered = &mut answer => return Ok(Some(answered?)),
                part = next => match part {
                    Ok(Some(length)) => open.record.bytes[0] += length,
                    Ok(None) => sender = None,
                    Err(refusal) => {
                        // An archive is unpacked as it comes: where a container stands still until that has ended, it ends here.
                        if !stands {
                            let _ = to_engine.send(Err(Aborted)).await;
                        }
                        return Err(refusal);
                    }
                },
            }
        }
    }

    /// How long an upload that has begun may be silent: the engine keeps a container locked while it waits for what is unpacked there.
    fn silence(&self, patience: Duration) -> Duration {
        let build = self.permitted.request().operation.id == OperationId::ImageBuild;
        if build { SILENCE } else { patience.min(self.shared.bounds.stall) }
    }

    /// Reads as much of an archive as it takes to know, within bounds, before the engine hears of it. What is kept of it counts against the tenant's
    /// memory, and is not kept for a client that is silent.
    async fn begin<S: End>(&self, receiver: &mut Receiver<S>, vet: &mut Vet, remaining: &mut Remaining, open: &mut Open) -> Result<Begun, Refusal> {
        let mut begun = Begun { first: BytesMut::new(), rest: Bytes::new(), share: self.shared.budget.begin(&self.known.tenant) };
        let mut length = 0;
        while !vet.is_settled() && length < BEFORE {
            if begun.rest.is_empty() {
                // A client that looks for what to send may take its time until it has sent something.
                let patience = if length == 0 { SILENCE } else { receiver.body_patience() };
                let Some(part) = part_in_time(receiver, remaining, patience).await? else { break };
                open.record.bytes[0] += u64::try_from(part.len()).unwrap_or_default();
                begun.rest = part;
            }
            let part = self.step(vet, &mut begun.rest).await?;
            length += part.len().max(1);
            begun.first.extend_from_slice(&part);
            if !begun.share.resize(READING + begun.first.capacity() + vet.kept()) {
                return Err(ReceiveError::Busy.into());
            }
        }
        Ok(begun)
    }

    /// Looks at as much of a part of an archive as is looked at in one go, and judges a Dockerfile in it. Gives what is sent of it.
    async fn step(&self, vet: &mut Vet, rest: &mut Bytes) -> Result<Bytes, Refusal> {
        let step = vet.step();
        let out = vet.look(rest.split_to(step.min(rest.len())))?;
        self.judge_dockerfile(vet).await?;
        if step < usize::MAX {
            // Other clients are served between two steps; between two plain parts they are anyway.
            tokio::task::yield_now().await;
        }
        Ok(out)
    }
}

/// Parts of an upload that may wait for the engine.
const PARTS: usize = 4;

/// What an upload has before the engine hears of it.
struct Begun {
    /// What the engine gets first.
    first: BytesMut,
    /// Of the last part, what was not looked at yet.
    rest: Bytes,
    /// What of a tenant's memory that takes.
    share: Share,
}

/// Bytes of it that are handed over together.
const PIECE: usize = 64 << 10;

/// Bytes that it takes to read an archive: the client's buffer, and a decompressor.
const READING: usize = 128 << 10;

/// Bytes of an archive that are looked at before the engine hears of the request.
const BEFORE: usize = 1 << 20;

/// The next part of an upload, which may be slow, and not silent for ever.
async fn part_in_time<S: End>(receiver: &mut Receiver<S>, remaining: &mut Remaining, patience: Duration) -> Result<Option<Bytes>, ReceiveError> {
    tokio::time::timeout(patience, receiver.part(remaining)).await.unwrap_or(Err(ReceiveError::Slow))
}

/// How long an upload may be silent.
pub(crate) const SILENCE: Duration = Duration::from_secs(600);
