//! One client's connection: a request is read, decoded, resolved, decided, forwarded, answered, recorded; then the next.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;
use engine::demand::{Demand, Demands, Role, UsedObject};
use engine::facts::{Facts, Object, ObjectKind, Owner, Reference};
use engine::operation::{Answer, BodyKind, OperationId};
use engine::{Headers, Request, Route};
use policies::Permitted;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;

use crate::attached::{Attached, Waiting};
use crate::audit::{Audit, Open};
use crate::budget::{Budget, Share};
use crate::clients::{Clients, Known};
use crate::forward::{Exchange, Next};
use crate::identity::{Identity, MatchError, UnixSeconds};
use crate::lease::{Holder, Lease, Leases};
use crate::locks::Taken;
use crate::receive::{Bounds, Framing, Head, ReceiveError, Receiver};
use crate::relay::End;
use crate::resolve::{About, Resolver, Room};
use crate::respond::Refusal;
use crate::standing::Standing;
use crate::still::Stills;
use crate::tls::Trust;
use crate::turns::{Turn, Turns};
use crate::unseen::Unseen;

/// Who is at the other end of a connection.
#[derive(Debug)]
pub struct Client {
    /// What its certificate or socket proves, for the record.
    pub shown: Rc<str>,
    /// The same, to be matched.
    pub identity: Identity,
    /// Why that is believed; asked at each request.
    pub trust: Trust,
    /// Which entry of the configuration that is, once it was asked for.
    known: RefCell<Option<Rc<Known>>>,
}

impl Client {
    /// Somebody who is believed.
    #[must_use]
    pub fn new(identity: Identity, trust: Trust) -> Self {
        Self { shown: identity.to_string().into(), identity, trust, known: RefCell::default() }
    }

    /// The one client of the configuration that this is, with its policy as it is now.
    fn know(&self, clients: &Clients) -> Result<Rc<Known>, MatchError> {
        if let Some(known) = self.known.borrow().as_ref().filter(|known| clients.is_current(known)) {
            return Ok(Rc::clone(known));
        }
        let known = clients.know(&self.identity)?;
        *self.known.borrow_mut() = Some(Rc::clone(&known));
        Ok(known)
    }
}

/// What all connections of a thread share.
#[derive(Debug)]
pub struct Shared {
    /// Asks the engine.
    pub resolver: Resolver,
    /// Memory for requests.
    pub budget: Budget,
    /// Memory for answers that are looked into.
    pub answers: Budget,
    /// Memory for what the engine does to its end, though its client has gone.
    pub underway: Budget,
    /// Names that requests under way may give.
    pub leases: Leases,
    /// Creates that mount one volume come one after another.
    pub turns: Turns,
    /// Volumes that may be filled.
    pub unseen: Unseen,
    /// Streams that wait for a container, to be ended when its start is refused.
    pub attached: Attached,
    /// Containers that stand still.
    pub stills: Stills,
    /// Who is who.
    pub clients: Clients,
    /// Writes records.
    pub audit: Rc<Audit>,
    /// Bounds of requests.
    pub bounds: Bounds,
    /// Becomes true when no further request is to be taken.
    pub ending: watch::Receiver<bool>,
    /// Requests under way.
    pub busy: Rc<Cell<usize>>,
}

/// Serves a connection until it ends.
pub async fn connection<S: End>(shared: Rc<Shared>, client: Client, stream: S) {
    let requests = boxed(|| requests(&shared, &client, stream));
    tokio::select! {
        () = requests => {}
        // A stream that outlives its certificate is cut; its record closes with it.
        why = client.trust.ended() => tracing::info!(identity = %client.shown, %why, "cut"),
    }
}

/// A future in a place of its own, where it is made: one that awaits another has room for all that may become of that, and twice where it is moved. An
/// open stream holds what its answer needs, not what the decision needed.
pub(crate) fn boxed<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    Box::pin(make())
}

async fn requests<S: End>(shared: &Shared, client: &Client, stream: S) {
    let mut receiver = Receiver::new(stream, shared.bounds);
    let mut ending = shared.ending.clone();
    loop {
        // A long head is kept while its request lasts.
        let mut share = None;
        let room = |bytes| share.get_or_insert_with(|| shared.budget.begin(&tenant(shared, client))).resize(bytes);
        let head = tokio::select! {
            biased;
            head = receiver.head(room) => head,
            () = ended(&mut ending) => return,
        };
        let outcome = match head {
            Ok(None) => return,
            Ok(Some(head)) => {
                let busy = Busy::new(&shared.busy);
                let outcome = boxed(|| request(shared, client, receiver, head)).await;
                drop(busy);
                outcome
            }
            Err(error) => boxed(|| unreadable(shared, client, receiver, error)).await,
        };
        match outcome {
            Some(next) if !*shared.ending.borrow() => receiver = next,
            _ => return,
        }
    }
}

/// Whose memory a client's is.
fn tenant(shared: &Shared, client: &Client) -> Rc<str> {
    client.know(&shared.clients).map_or_else(|_| Rc::clone(&client.shown), |known| Rc::clone(&known.tenant))
}

/// Counts a request while it lasts, also one that is cut, and what it leaves to be done.
#[derive(Debug)]
pub(crate) struct Busy(Rc<Cell<usize>>);

impl Busy {
    pub(crate) fn new(busy: &Rc<Cell<usize>>) -> Self {
        busy.set(busy.get() + 1);
        Self(Rc::clone(busy))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

async fn ended(ending: &mut watch::Receiver<bool>) {
    if ending.wait_for(|ending| *ending).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Bytes that are no request: recorded, answered, and the connection ends.
async fn unreadable<S: End>(shared: &Shared, client: &Client, mut receiver: Receiver<S>, error: ReceiveError) -> Option<Receiver<S>> {
    if let Ok(mut open) = shared.audit.open(&client.shown) {
        if let Ok(known) = client.know(&shared.clients) {
            describe(&mut open, &known);
        }
        refuse(&mut receiver, &mut open, &Refusal::Receive(error), false).await;
        drop(open);
        boxed(|| receiver.linger()).await;
    }
    None
}

/// One request. Gives the connection back when another can follow on it.
async fn request<S: End>(shared: &Shared, client: &Client, mut receiver: Receiver<S>, head: Head) -> Option<Receiver<S>> {
    let head_only = head.method == "HEAD";
    let mut open = match shared.audit.open(&client.shown) {
        Ok(open) => open,
        Err(error) => {
            let reply = Refusal::NotRecorded(error).reply();
            if receiver.stream.write_all(&reply.bytes(head_only)).await.is_ok() {
                boxed(|| receiver.linger()).await;
            }
            return None;
        }
    };
    let unread = head.framing != Framing::None;
    let mut body = Bytes::new();
    let refusal = match boxed(|| judge(shared, client, &mut receiver, &head, &mut body, &mut open)).await {
        Ok(judged) => {
            let exchange = Exchange {
                shared,
                client: &client.shown,
                known: &judged.known,
                permitted: &judged.permitted,
                about: &judged.about,
                image: judged.image,
                lease: &judged.lease,
                turns: judged.turns,
                unseen: judged.unseen,
            };
            return match boxed(|| exchange.run(receiver, &head, &mut open)).await {
                Next::Another(receiver) => Some(receiver),
                Next::Over => None,
            };
        }
        Err(refusal) => refusal,
    };
    if open.record.operation.is_empty() {
        open.record.request = format!("{} {}", head.method, head.target.chars().take(SHOWN).collect::<String>());
    }
    let read = refuse(&mut receiver, &mut open, &refusal, head_only).await;
    // A body that was not read would be taken for the next request.
    let clean = !unread || open.body_was_read;
    drop(open);
    if read && clean && !head.close {
        return Some(receiver);
    }
    boxed(|| receiver.linger()).await;
    None
}

/// Characters of a target that is no operation's, in its record.
const SHOWN: usize = 200;

/// A request that was permitted, and what its forwarding needs to know.
struct Judged<'b, 's> {
    permitted: Permitted<'b>,
    lease: Lease<'s>,
    /// Volumes that nobody else mounts meanwhile.
    turns: Rc<[Taken]>,
    /// The volumes that it names and that no process has seen.
    unseen: Vec<String>,
    /// What its body takes.
    _share: Option<Share>,
    /// What its facts take.
    _room: Room,
    known: Rc<Known>,
    about: Rc<About>,
    /// The id of the image that was judged.
    image: Option<String>,
}

/// Decodes, resolves and decides.
#[expect(clippy::too_many_arguments, reason = "the body is the caller's, because what is judged borrows from it")]
async fn judge<'b, 's, S: End>(
    shared: &'s Shared,
    client: &Client,
    receiver: &mut Receiver<S>,
    head: &'b Head,
    body: &'b mut Bytes,
    open: &mut Open,
) -> Result<Judged<'b, 's>, Refusal> {
    client.trust.still_trusted(UnixSeconds::now()).map_err(|error| Refusal::Certificate(error.to_string()))?;
    let known = client.know(&shared.clients).map_err(|error| Refusal::NoClient(error.to_string()))?;
    describe(open, &known);
    let route = Route::parse(head.method, &head.target)?;
    let operation = route.operation;
    open.record.operation = operation.id.name();
    if head.encoded && operation.body != BodyKind::Tar {
        return Err(ReceiveError::Head("a Content-Encoding, which engines ignore, of what is no archive").into());
    }
    let share;
    match operation.body {
        BodyKind::Tar => share = None,
        BodyKind::Untyped => return Err(undecoded(operation, &known)),
        BodyKind::Json | BodyKind::None => {
            if head.expects_continue && head.framing != Framing::None {
                receiver.invite().await?;
            }
            let mut taken = shared.budget.begin(&known.tenant);
            *body = receiver.body(head.framing, |bytes| taken.resize(bytes)).await?;
            share = Some(taken);
        }
    }
    let body: &'b Bytes = body;
    open.body_was_read = operation.body != BodyKind::Tar;
    open.record.bytes[0] = u64::try_from(body.len()).unwrap_or_default();
    let headers = Headers {
        content_type: head.content_type.as_deref(),
        registry_auth: head.registry_auth.as_deref(),
        registry_config: head.registry_config.as_deref(),
    };
    let mut request = route.decode(&headers, body)?;
    known.policy.fill(&mut request);
    let about = shared.resolver.about().await?;
    let references = request.references();
    if references.len() > MOST_REFERENCES {
        return Err(Refusal::Decode(engine::DecodeError::Body { at: String::new(), why: format!("more than {MOST_REFERENCES} objects are named") }));
    }
    // Before it is asked who has a name: whoever gets it meanwhile would not be seen.
    let lease = lease(shared, &known, request.new_names(&references), &holder(&request, &known)).await?;
    let (mut facts, room) = shared.resolver.facts(&request, references, &known).await?;
    let (turns, unseen) = take_turns(shared, &known, &request, &mut facts).await?;
    let image = judged_image(&request, &facts);
    request.bind(&facts);
    open.record.object = request.object.clone().unwrap_or_default();
    let demands = request.demands(&facts);
    let decided = decide(shared, &known, request, &demands).await;
    if operation.id == OperationId::ContainerStart
        && decided.is_err()
        && let Some(container) = facts.object(ObjectKind::Container, &open.record.object)
    {
        give_up(shared, &client.shown, &known, container).await;
    }
    let permitted = decided?;
    open.record.decision = "permitted";
    open.record.covered = u64::try_from(permitted.demands()).unwrap_or_default();
    Ok(Judged { permitted, _share: share, _room: room, lease, turns: turns.into(), unseen, known, about, image })
}

/// Decides; what is to be started is judged once more, as it is now.
async fn decide<'b>(shared: &Shared, known: &Known, request: Request<'b>, demands: &Demands) -> Result<Permitted<'b>, Refusal> {
    let operation = request.operation;
    let permitted = known.policy.decide(request, demands, &known.tenant)?;
    if matches!(operation.id, OperationId::ContainerStart | OperationId::ContainerRestart) {
        recheck(shared, known, permitted.request().object.as_deref().unwrap_or_default(), operation).await?;
    }
    Ok(permitted)
}

/// Most engine objects that one request may name: each is looked up.
const MOST_REFERENCES: usize = 256;

fn holder(request: &Request<'_>, known: &Known) -> Holder {
    let pulls = request.operation.id == OperationId::ImageCreate;
    if pulls { Holder::Pulls } else { Holder::Tenant(known.tenant.to_string()) }
}

/// Keeps names. One that another keeps is one's own all the same where one's volume has it: nobody else can give it.
async fn lease<'s>(shared: &'s Shared, known: &Known, mut names: Vec<Reference>, holder: &Holder) -> Result<Lease<'s>, Refusal> {
    loop {
        let kept = match shared.leases.take(names.clone(), holder) {
            Ok(lease) => return Ok(lease),
            Err(kept) => kept,
        };
        let volume = if kept.kind == ObjectKind::Volume { shared.resolver.volume(&kept.name, &known.tenant).await? } else { None };
        if volume.is_none_or(|volume| volume.owner != Owner::Own) {
            return Err(in_use(&kept));
        }
        names.retain(|name| *name != kept);
    }
}

/// Waits until nobody else makes, mounts or removes the volumes that a create names, or the one that is to be removed: without its volume the engine would
/// make one that is nobody's. Then it is known which of them no process has seen.
async fn take_turns(shared: &Shared, known: &Known, request: &Request<'_>, facts: &mut Facts) -> Result<(Vec<Taken>, Vec<String>), Refusal> {
    if request.operation.id == OperationId::VolumeDelete {
        let own = facts.object(ObjectKind::Volume, request.object.as_deref().unwrap_or_default()).filter(|volume| volume.owner == Owner::Own);
        let turn = own.map(|volume| Turn::Volume(volume.id.clone())).into_iter().collect();
        return Ok((shared.turns.alone(&turn).await, Vec::new()));
    }
    if !matches!(request.operation.id, OperationId::ContainerCreate | OperationId::VolumeCreate) {
        return Ok((Vec::new(), Vec::new()));
    }
    let mut turns = shared.turns.alone(&mounts(request, facts, known)).await;
    if request.operation.id == OperationId::ContainerCreate && !request.mounts_unnamed_volumes() {
        // It may make volumes without a name in more ways than one: its own, its image's.
        turns.extend(shared.turns.beside(&[Turn::Unnamed(known.tenant.to_string())].into()).await);
    }
    let mut unseen = request.named_volumes();
    for name in std::mem::take(&mut unseen) {
        let there = facts.object(ObjectKind::Volume, &name).is_some() || shared.resolver.volume(&name, &known.tenant).await?.is_some();
        if !there || shared.unseen.has(&known.tenant, &name) {
            facts.insert_unseen_volume(name.clone());
            unseen.push(name);
        }
    }
    Ok((turns, unseen))
}

/// The turns of a create: one at each volume that it names and may have.
fn mounts(request: &Request<'_>, facts: &Facts, known: &Known) -> BTreeSet<Turn> {
    let may = |name: &String| match facts.object(ObjectKind::Volume, name) {
        Some(volume) => known.policy.covers(&Demand::Use(Role::MountVolume, UsedObject::Known(Rc::clone(volume)))),
        None => true,
    };
    let unnamed = request.mounts_unnamed_volumes().then(|| Turn::Unnamed(known.tenant.to_string()));
    request.named_volumes().into_iter().filter(may).map(Turn::Volume).chain(unnamed).collect()
}

fn in_use(name: &Reference) -> Refusal {
    Refusal::Conflict(format!("seawall: the {} name {} is about to be given by another request", name.kind.name(), name.name))
}

fn undecoded(operation: &'static engine::operation::Operation, known: &Known) -> Refusal {
    Refusal::Denied(known.policy.deny(operation, Vec::new()))
}

fn judged_image(request: &Request<'_>, facts: &Facts) -> Option<String> {
    let engine::Body::ContainerCreate(body) = &request.body else { return None };
    facts.object(ObjectKind::Image, body.image.as_deref().unwrap_or_default()).map(|object| object.id.clone())
}

/// Judges a container as it is now against the policy as it is now, before it is started.
pub(crate) async fn recheck(shared: &Shared, known: &Known, id: &str, operation: &'static engine::operation::Operation) -> Result<(), Refusal> {
    let Some((mut stored, facts, _room)) = shared.resolver.stored(id, known).await? else {
        return Err(Refusal::Missing(format!("No such container: {id}")));
    };
    let about = shared.resolver.about().await?;
    Ok(known.policy.cover(operation, &stored.demands(&facts, &about.defaults))?)
}

/// A start was refused: its client waits no longer for the container to speak, or to end or be gone (`docker run --rm` would wait for ever). It is
/// removed as the engine removes it when a start fails, for who may start or remove it; one that runs stays as it is.
async fn give_up(shared: &Shared, client: &Rc<str>, known: &Known, container: &Rc<Object>) {
    let Ok(Some(Standing { running: false, removes_itself, .. })) = shared.resolver.standing(&container.id).await else { return };
    let may = [OperationId::ContainerStart, OperationId::ContainerDelete].into_iter().any(|id| known.policy.grants(id, container));
    shared.attached.end(&container.id, client, Waiting::ForItsOutput);
    if !(removes_itself && may && remove(shared, &container.id).await) {
        shared.attached.end(&container.id, client, Waiting::ForItsEnd);
    }
}

/// Removes a container that does not run. Whether it did.
async fn remove(shared: &Shared, id: &str) -> bool {
    let Ok(about) = shared.resolver.about().await else { return false };
    let removed = shared.resolver.engine().ask("DELETE", &format!("/v{}/containers/{id}?v=1", about.version), None).await;
    removed.is_ok_and(|(status, _)| status.is_success())
}

fn describe(open: &mut Open, known: &Known) {
    open.record.client = Rc::clone(&known.name);
    open.record.tenant = Rc::clone(&known.tenant);
    open.record.policy = Rc::clone(&known.policy_shown);
}

/// Answers with a refusal. Says whether the connection is still good.
pub(crate) async fn refuse<S: End>(receiver: &mut Receiver<S>, open: &mut Open, refusal: &Refusal, head_only: bool) -> bool {
    let reply = refusal.reply();
    if matches!(refusal, Refusal::Receive(ReceiveError::Gone(_))) {
        // Nothing was decided, and nobody is there to be answered.
        (open.record.status, open.record.decision, open.record.uncovered) = (0, "failed", vec![reply.message]);
        return false;
    }
    open.record.status = reply.status.as_u16();
    open.record.decision = if matches!(refusal, Refusal::Engine(_) | Refusal::Raced(_)) { "failed" } else { "denied" };
    open.record.uncovered = vec![reply.message.clone()];
    if let Refusal::Denied(denial) = refusal
        && !denial.uncovered.is_empty()
    {
        open.record.uncovered = denial.lines();
    }
    let bytes = reply.bytes(head_only);
    let written = receiver.stream.write_all(&bytes).await.is_ok() && receiver.stream.flush().await.is_ok();
    written && !reply.close
}

/// Whether an operation's answer may last, so that its record is announced when it begins.
pub(crate) fn may_last(answer: Answer) -> bool {
    match answer {
        Answer::Plain => false,
        Answer::Stream | Answer::Tunnel => true,
    }
}
