//! Forwarding: what was permitted is encoded and sent, and the engine's answer goes back as it comes.
//!
//! Only a [`Permitted`] can be forwarded. A tunnel begins when the engine has said 101, and not before.

use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use engine::demand::{Demand, Role, UsedObject};
use engine::facts::{ObjectKind, Owner, Reference};
use engine::operation::{Answer, OperationId};
use engine::{Body, OWNER_LABEL};
use http::{Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::TokioIo;
use policies::{Permitted, Rows};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use crate::answer;
use crate::attached::{Stream, Waiting};
use crate::audit::Open;
use crate::budget::Share;
use crate::clients::Known;
use crate::dial::{Aborted, Answered, EngineError, EngineStream, Upload, build, collect, head as request_head};
use crate::lease::Lease;
use crate::receive::{Head, ReceiveError, Receiver, Remaining};
use crate::relay::{End, Moved, relay};
use crate::resolve::{About, parse};
use crate::respond::Refusal;
use crate::serve::{Shared, may_last, recheck, refuse};
use crate::vet::Vet;

/// What follows a request on its connection.
#[derive(Debug)]
pub enum Next<S> {
    /// Another request.
    Another(Receiver<S>),
    /// Nothing.
    Over,
}

/// A permitted request on its way.
#[derive(Debug)]
pub struct Exchange<'r> {
    /// What all connections share.
    pub shared: &'r Shared,
    /// Who asks, as the record shows it.
    pub client: &'r Rc<str>,
    /// What is known of them.
    pub known: &'r Known,
    /// What was judged.
    pub permitted: &'r Permitted<'r>,
    /// The engine.
    pub about: &'r About,
    /// The id of the image that a new container was judged with.
    pub image: Option<String>,
    /// Names that are kept for what it makes.
    pub lease: &'r Lease<'r>,
}

impl Exchange<'_> {
    /// Sends the request, and gives the answer to the client; but for one who waits for the end of a container that will not start.
    pub async fn run<S: End>(self, receiver: Receiver<S>, head: &Head, open: &mut Open) -> Next<S> {
        if self.permitted.request().operation.id != OperationId::ContainerWait {
            return self.exchange(receiver, head, open).await;
        }
        let wait = self.waits(Waiting::ForItsEnd);
        tokio::select! {
            next = self.exchange(receiver, head, open) => next,
            () = wait.ended() => Next::Over,
        }
    }

    /// The client waits for the container from now on.
    fn waits(&self, waiting: Waiting) -> Stream<'_> {
        self.shared.attached.enter(self.permitted.request().object.as_deref().unwrap_or_default(), self.client, waiting)
    }

    async fn exchange<S: End>(&self, mut receiver: Receiver<S>, head: &Head, open: &mut Open) -> Next<S> {
        let operation = self.permitted.request().operation;
        if may_last(operation.answer) {
            open.announce();
        }
        let head_only = head.method == "HEAD";
        let uploads = operation.body == engine::operation::BodyKind::Tar;
        let made = match Box::pin(self.prepare()).await {
            Ok(made) => made,
            Err(refusal) => {
                let good = refuse(&mut receiver, open, &refusal, head_only).await;
                if good && !uploads && !head.close {
                    return Next::Another(receiver);
                }
                receiver.linger().await;
                return Next::Over;
            }
        };
        if self.is_tunnel() {
            return Box::pin(self.tunnel(receiver, head, open)).await;
        }
        let answered = if uploads { Box::pin(self.upload(&mut receiver, head, open)).await } else { Box::pin(self.ask(&mut receiver)).await };
        let answered = match answered {
            Ok(Some(answered)) => answered,
            Ok(None) => return Next::Over,
            Err(refusal) => {
                self.undo(&made).await;
                let good = refuse(&mut receiver, open, &refusal, head_only).await;
                if good && !uploads && !head.close {
                    return Next::Another(receiver);
                }
                receiver.linger().await;
                return Next::Over;
            }
        };
        open.record.status = answered.response.status().as_u16();
        if !answered.response.status().is_success() {
            self.undo(&made).await;
        }
        // The engine's own text names the id of the container that has the name, whoever it belongs to.
        if answered.response.status() == StatusCode::CONFLICT && matches!(operation.id, OperationId::ContainerCreate | OperationId::ContainerRename) {
            let name = self.permitted.request().query.text("name");
            let refusal = Refusal::Conflict(format!(
                "Conflict. The container name \"{name}\" is already in use. You have to remove (or rename) that container to be able to reuse that name."
            ));
            let good = refuse(&mut receiver, open, &refusal, head_only).await;
            return if good && !head.close { Next::Another(receiver) } else { Next::Over };
        }
        let result = if self.is_streamed_list(&answered) {
            Box::pin(self.give_images(&mut receiver, answered, head, open)).await
        } else if self.is_read(&answered) {
            Box::pin(self.give_read(&mut receiver, answered, head, open)).await
        } else {
            self.give(&mut receiver, answered, head, open).await
        };
        match result {
            Ok(()) if !head.close && !open.upload_unfinished => Next::Another(receiver),
            Ok(()) | Err(()) => Next::Over,
        }
    }

    fn is_tunnel(&self) -> bool {
        let request = self.permitted.request();
        let detached = matches!(&request.body, Body::ExecStart(start) if start.detach == Some(true));
        request.operation.answer == Answer::Tunnel && !detached
    }

    /// Makes the volumes that a container mounts and that do not exist yet: the engine would make them without an owner.
    async fn prepare(&self) -> Result<Vec<String>, Refusal> {
        let mut made = Vec::new();
        for name in self.permitted.request().mounted_volumes() {
            match self.prepare_volume(&name).await {
                Ok(true) => made.push(name),
                Ok(false) => {}
                Err(refusal) => {
                    self.undo(&made).await;
                    return Err(refusal);
                }
            }
        }
        Ok(made)
    }

    /// Makes a volume where there is none. Whether it did.
    async fn prepare_volume(&self, name: &str) -> Result<bool, Refusal> {
        if self.shared.resolver.volume(name, &self.known.tenant).await?.is_some() {
            self.check_volume(name).await?;
            return Ok(false);
        }
        let request = json!({ "Name": name, "Labels": { OWNER_LABEL: self.known.tenant } }).to_string();
        let target = format!("/v{}/volumes/create", self.about.version);
        let (status, _) = self.shared.resolver.engine().ask("POST", &target, Some(request.into_bytes())).await?;
        if status != StatusCode::CREATED {
            return Err(Refusal::Engine(EngineError::Answer(format!("{status} to the creation of volume {name}"))));
        }
        // "201" is also the answer to the name of somebody else's volume.
        self.check_volume(name).await?;
        Ok(true)
    }

    /// A volume was judged as the tenant's own, or as granted by its name; one that came in between is neither.
    async fn check_volume(&self, name: &str) -> Result<(), Refusal> {
        let Some(object) = self.shared.resolver.volume(name, &self.known.tenant).await? else { return Ok(()) };
        if self.known.policy.covers(&Demand::Use(Role::MountVolume, UsedObject::Known(object))) {
            Ok(())
        } else {
            Err(Refusal::Raced(format!("volume {name} became somebody else's just now")))
        }
    }

    /// Removes what was made for a container that was not, where it is still the tenant's and nobody else counts on it.
    async fn undo(&self, made: &[String]) {
        for name in made {
            let alone = self.lease.is_alone(&Reference { kind: ObjectKind::Volume, name: name.clone() });
            let own = matches!(self.shared.resolver.volume(name, &self.known.tenant).await, Ok(Some(volume)) if volume.owner == Owner::Own);
            if !alone || !own {
                continue;
            }
            let _ = self.shared.resolver.engine().ask("DELETE", &format!("/v{}/volumes/{name}", self.about.version), None).await;
        }
    }

    /// Sends a request without a streamed body. `None`: the client is gone.
    async fn ask<S: End>(&self, receiver: &mut Receiver<S>) -> Result<Option<Answered>, Refusal> {
        let request = request_head(&self.permitted.encode(self.version()))?;
        let engine = self.shared.resolver.engine();
        let alone = self.permitted.request().operation.answer != Answer::Plain;
        let answer = async { if alone { engine.exchange_alone(request).await } else { engine.exchange(request).await } };
        tokio::select! {
            biased;
            answered = answer => Ok(Some(answered?)),
            () = receiver.gone() => Ok(None),
        }
    }

    pub(crate) fn version(&self) -> engine::Version {
        self.permitted.request().version.unwrap_or(self.about.version)
    }

    /// Sends a request whose body streams from the client. The answer may come before its end.
    #[expect(clippy::too_many_lines, reason = "one select between the client's parts and the engine's answer")]
    async fn upload<S: End>(&self, receiver: &mut Receiver<S>, head: &Head, open: &mut Open) -> Result<Option<Answered>, Refusal> {
        let encoded = self.permitted.encode(self.version());
        if head.expects_continue {
            receiver.invite().await?;
        }
        open.upload_unfinished = true;
        let mut vet = Vet::of(self.permitted.request());
        let mut remaining = Remaining::from(head.framing);
        let Begun { mut first, mut rest, mut share } = self.begin(receiver, &mut vet, &mut remaining, open).await?;
        let mut ended = remaining == Remaining::Done && rest.is_empty();
        if ended {
            first.extend_from_slice(&vet.end()?);
        }
        let (sender, parts) = mpsc::channel(PARTS);
        let request = build(&encoded, Upload::Parts(parts))?;
        let engine = self.shared.resolver.engine();
        let mut answer = std::pin::pin!(engine.exchange_alone(request));
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
                    () => match part_in_time(receiver, &mut remaining, SILENCE).await? {
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
                        let _ = to_engine.send(Err(Aborted)).await;
                        return Err(refusal);
                    }
                },
            }
        }
    }

    /// Reads as much of an archive as it takes to know, within bounds, before the engine hears of it. What is kept of it counts against the tenant's
    /// memory, and is not kept for a client that is silent.
    async fn begin<S: End>(
        &self,
        receiver: &mut Receiver<S>,
        vet: &mut Vet,
        remaining: &mut Remaining,
        open: &mut Open,
    ) -> Result<Begun<'_>, Refusal> {
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
        let out = vet.look(rest.split_to(vet.step().min(rest.len())))?;
        self.judge_dockerfile(vet).await?;
        // Other clients are served between two steps.
        tokio::task::yield_now().await;
        Ok(out)
    }

    /// Whether the answer is looked into before it is passed on.
    fn is_read(&self, answered: &Answered) -> bool {
        let operation = self.permitted.request().operation.id;
        answered.response.status().is_success()
            && (answer::is_read(operation, self.permitted.rows()) || matches!(operation, OperationId::ContainerCreate | OperationId::VolumeCreate))
    }

    fn is_streamed_list(&self, answered: &Answered) -> bool {
        let images = self.permitted.request().operation.id == OperationId::ImageList && *self.permitted.rows() == Rows::Images;
        images && answered.response.status().is_success()
    }

    /// Gives a list of images row by row: that of all tenants may be of any length, and is never here as a whole.
    async fn give_images<S: End>(&self, receiver: &mut Receiver<S>, answered: Answered, head: &Head, open: &mut Open) -> Result<(), ()> {
        let (response, connection) = answered.into_parts();
        let (parts, mut body) = response.into_parts();
        let mut out = Outgoing::new(Length::Chunked);
        self.write_head(&mut out.text, &Response::from_parts(parts, ()), Length::Chunked, head.close);
        let mut images = answer::Images::new(&self.known.policy, &self.known.tenant);
        // Cut off, the client must not take this for the end.
        while let Some(frame) = body.frame().await.transpose().map_err(drop)? {
            if let Ok(part) = frame.into_data() {
                images.push(&part);
            }
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

    async fn give_read<S: End>(&self, receiver: &mut Receiver<S>, answered: Answered, head: &Head, open: &mut Open) -> Result<(), ()> {
        let (response, connection) = answered.into_parts();
        let (parts, body) = response.into_parts();
        let rewritten = match collect(body, &self.permitted.request().operation.id).await {
            Ok(body) => {
                self.shared.resolver.engine().give_back(connection);
                self.rewrite(&body).await
            }
            Err(error) => Err(error.into()),
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
                    Ok(body.to_vec())
                } else {
                    Err(Refusal::Raced("a volume of this name exists".to_owned()))
                }
            }
            operation => Ok(answer::rewrite(operation, self.permitted.rows(), &self.known.policy, &self.known.tenant, body)?),
        }
    }

    /// The container was made with the image that was judged, or it is judged once more. It is removed when it does not pass, and when it cannot be
    /// looked at.
    async fn check_container(&self, body: &[u8]) -> Result<(), Refusal> {
        #[derive(serde::Deserialize)]
        struct Created {
            #[serde(rename = "Id")]
            id: String,
        }
        let created: Created = parse(body)?;
        let judged = self.judge_container(&created.id).await;
        if judged.is_err() {
            let target = format!("/v{}/containers/{}?force=1&v=1", self.about.version, created.id);
            let _ = self.shared.resolver.engine().ask("DELETE", &target, None).await;
        }
        judged
    }

    async fn judge_container(&self, id: &str) -> Result<(), Refusal> {
        #[derive(serde::Deserialize)]
        struct Described {
            #[serde(rename = "Image")]
            image: String,
        }
        let target = format!("/v{}/containers/{id}/json", self.about.version);
        let (status, described) = self.shared.resolver.engine().ask("GET", &target, None).await?;
        for name in self.permitted.request().named_volumes() {
            self.check_volume(&name).await?;
        }
        let same_image = status == StatusCode::OK && Some(parse::<Described>(&described)?.image) == self.image;
        if same_image { Ok(()) } else { recheck(self.shared, self.known, id, self.permitted.request().operation).await }
    }

    /// Passes an answer on as it comes.
    async fn give<S: End>(&self, receiver: &mut Receiver<S>, answered: Answered, head: &Head, open: &mut Open) -> Result<(), ()> {
        let (response, connection) = answered.into_parts();
        let (parts, mut body) = response.into_parts();
        let bodyless = head.method == "HEAD" || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let length = match body.size_hint().exact() {
            _ if bodyless => Length::None,
            Some(length) => Length::Known(usize::try_from(length).unwrap_or(usize::MAX)),
            None => Length::Chunked,
        };
        let mut out = Outgoing::new(length);
        self.write_head(&mut out.text, &Response::from_parts(parts, ()), length, head.close);
        // What has come with the head goes with it; what has not is not waited for.
        let mut ended = bodyless || body.is_end_stream();
        if !ended {
            match futures_now(body.frame()).await {
                Some(frame) => ended = out.add(frame, &mut open.record.bytes[1])?,
                None => out.send(receiver).await?,
            }
        }
        while !ended {
            out.send(receiver).await?;
            tokio::select! {
                biased;
                frame = body.frame() => ended = out.add(frame, &mut open.record.bytes[1])?,
                () = receiver.gone() => return Err(()),
            }
        }
        out.end();
        out.send(receiver).await?;
        self.shared.resolver.engine().give_back(connection);
        Ok(())
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

    /// Asks for a tunnel, and keeps it until it ends.
    async fn tunnel<S: End>(&self, mut receiver: Receiver<S>, head: &Head, open: &mut Open) -> Next<S> {
        let asked = match request_head(&self.permitted.encode(self.version())) {
            Ok(mut request) => {
                request.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
                request.headers_mut().insert(header::UPGRADE, header::HeaderValue::from_static("tcp"));
                let engine = self.shared.resolver.engine();
                tokio::select! {
                    biased;
                    answered = engine.exchange_alone(request) => answered,
                    () = receiver.gone() => return Next::Over,
                }
            }
            Err(error) => Err(error),
        };
        let answered = match asked {
            Ok(answered) => answered,
            Err(error) => {
                let good = refuse(&mut receiver, open, &Refusal::Engine(error), false).await;
                return if good && !head.close { Next::Another(receiver) } else { Next::Over };
            }
        };
        open.record.status = answered.response.status().as_u16();
        if answered.response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return match self.give(&mut receiver, answered, head, open).await {
                Ok(()) if !head.close => Next::Another(receiver),
                Ok(()) | Err(()) => Next::Over,
            };
        }
        let (response, _) = answered.into_parts();
        let kind = response
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .unwrap_or("application/vnd.docker.raw-stream")
            .to_owned();
        let Ok((mut engine, first)) = take_over(response).await else { return Next::Over };
        // A client that did not ask for an upgrade gets what the engine gives one: 200, and the same bytes.
        let reply = match &head.upgrade {
            Some(_) => format!("HTTP/1.1 101 UPGRADED\r\nContent-Type: {kind}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"),
            None => format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n\r\n"),
        };
        if send(&mut receiver, reply.as_bytes()).await.is_err() {
            return Next::Over;
        }
        let (mut client, early) = receiver.into_parts();
        let attached = self.waits(Waiting::ForItsOutput);
        let moved = tokio::select! {
            (moved, _) = relay(&mut client, &mut engine, early, first) => moved,
            // Its container will not start: the engine would keep the stream open for ever, and the client would wait for it.
            () = attached.ended() => Moved::default(),
        };
        open.record.bytes = [open.record.bytes[0] + moved.up, moved.down];
        let _ = client.shutdown().await;
        Next::Over
    }
}

/// Parts of an upload that may wait for the engine: written together, they cost one call.
const PARTS: usize = 4;

/// What an upload has before the engine hears of it.
struct Begun<'s> {
    /// What the engine gets first.
    first: BytesMut,
    /// Of the last part, what was not looked at yet.
    rest: Bytes,
    /// What of a tenant's memory that takes.
    share: Share<'s>,
}

/// Bytes of it that are handed over together.
const PIECE: usize = 64 << 10;

/// Bytes that it takes to read an archive: the client's buffer, and a decompressor.
const READING: usize = 128 << 10;

/// Bytes of a list that are sent together.
const STREAMED: usize = 16 << 10;

/// Bytes of an archive that are looked at before the engine hears of the request.
const BEFORE: usize = 1 << 20;

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
}

impl Outgoing {
    fn new(length: Length) -> Self {
        Self { text: BytesMut::with_capacity(1024), part: Bytes::new(), length }
    }

    /// Adds a part; what was added before has been sent. Says whether it was the last.
    fn add(&mut self, frame: Option<Result<hyper::body::Frame<Bytes>, hyper::Error>>, count: &mut u64) -> Result<bool, ()> {
        // The engine broke off: the client must not take this for the end.
        let Some(frame) = frame.transpose().map_err(drop)? else { return Ok(true) };
        if let Some(part) = frame.into_data().ok().filter(|part| !part.is_empty()) {
            self.add_part(part, count);
        }
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

    /// Writes all of it, in one call where the socket takes it.
    async fn send<S: End>(&mut self, receiver: &mut Receiver<S>) -> Result<(), ()> {
        let part = std::mem::take(&mut self.part);
        if part.is_empty() && self.text.is_empty() {
            return Ok(());
        }
        let end = if part.is_empty() || self.length != Length::Chunked { b"" } else { LINE_END };
        receiver.stream.write_all_buf(&mut self.text.as_ref().chain(part).chain(end)).await.map_err(drop)?;
        self.text.clear();
        receiver.stream.flush().await.map_err(drop)
    }
}

/// Parts of a body that are smaller are copied behind the text before them.
const COPIED: usize = 4 << 10;
const LINE_END: &[u8] = b"\r\n";

async fn send<S: End>(receiver: &mut Receiver<S>, bytes: &[u8]) -> Result<(), ()> {
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

/// The next part of an upload, which may be slow, and not silent for ever.
async fn part_in_time<S: End>(receiver: &mut Receiver<S>, remaining: &mut Remaining, patience: Duration) -> Result<Option<Bytes>, ReceiveError> {
    tokio::time::timeout(patience, receiver.part(remaining)).await.unwrap_or(Err(ReceiveError::Slow))
}

/// How long an upload may be silent.
pub(crate) const SILENCE: Duration = Duration::from_secs(600);

/// The engine's connection behind a 101, and what came on it already.
async fn take_over(response: Response<Incoming>) -> Result<(EngineStream, Bytes), ()> {
    let upgraded = hyper::upgrade::on(response).await.map_err(drop)?;
    let parts = upgraded.downcast::<TokioIo<EngineStream>>().map_err(drop)?;
    Ok((parts.io.into_inner(), parts.read_buf))
}

/// The owner that a volume's description names.
fn owner(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Volume {
        #[serde(rename = "Labels")]
        labels: Option<std::collections::BTreeMap<String, String>>,
    }
    parse::<Volume>(body).ok().and_then(|volume| volume.labels).and_then(|mut labels| labels.remove(OWNER_LABEL))
}
