//! Forwarding: what was permitted is encoded and sent, and the engine's answer goes back as it comes.
//!
//! Only a [`Permitted`] can be forwarded. A tunnel begins when the engine has said 101, and not before.

mod give;
mod made;
mod still;
mod tunnel;
mod upload;

use std::rc::Rc;

use engine::operation::{Answer, BodyKind, OperationId};
use http::StatusCode;
use policies::Permitted;

use crate::attached::{Stream, Waiting};
use crate::audit::Open;
use crate::clients::Known;
use crate::dial::{Answered, head as request_head};
use crate::lease::Lease;
use crate::locks::Taken;
use crate::receive::{Head, Receiver};
use crate::relay::End;
use crate::resolve::About;
use crate::respond::Refusal;
use crate::serve::{Shared, boxed, may_last, refuse};

use self::still::{Held, answer};
pub(crate) use self::upload::SILENCE;

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
    /// Volumes that nobody else mounts meanwhile.
    pub turns: Rc<[Taken]>,
    /// The volumes that it names and that no process has seen.
    pub unseen: Vec<String>,
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

        let made = match boxed(|| self.prepare()).await {
            Ok(made) => made,
            Err(refusal) => return boxed(|| self.turn_away(receiver, head, open, &refusal)).await,
        };
        if self.is_tunnel() {
            return boxed(|| self.tunnel(receiver, head, open)).await;
        }
        let forgotten = self.forget_unseen();
        let mut held = None;
        let answered = if self.uploads() {
            boxed(|| self.upload(&mut receiver, head, open, &mut held)).await
        } else {
            boxed(|| self.ask(&mut receiver, &mut held)).await
        };
        if held.is_none() {
            // The engine was not asked.
            self.shared.unseen.made(&self.known.tenant, &forgotten);
        }
        let answered = match answered {
            Ok(Some(answered)) => answered,
            Ok(None) => return Next::Over,
            Err(refusal) => {
                drop(held);
                boxed(|| self.undo(&made)).await;
                return boxed(|| self.turn_away(receiver, head, open, &refusal)).await;
            }
        };
        open.record.status = answered.response.status().as_u16();
        // The engine still walks files when its answer has begun.
        let walks = is_archive(operation.id) && answered.response.status().is_success();
        if let Some(held) = held.take_if(|_| !walks) {
            boxed(|| held.release()).await;
        }
        if !answered.response.status().is_success() {
            self.shared.unseen.made(&self.known.tenant, &forgotten);
            boxed(|| self.undo(&made)).await;
        }
        // The engine's own text names the id of the container that has the name, whoever it belongs to.
        if answered.response.status() == StatusCode::CONFLICT && matches!(operation.id, OperationId::ContainerCreate | OperationId::ContainerRename) {
            let name = self.permitted.request().query.text("name");
            let refusal = Refusal::Conflict(format!(
                "Conflict. The container name \"{name}\" is already in use. You have to remove (or rename) that container to be able to reuse that name."
            ));
            let good = refuse(&mut receiver, open, &refusal, false).await;
            return if good && !head.close { Next::Another(receiver) } else { Next::Over };
        }
        let result = if self.is_streamed_list(&answered) {
            boxed(|| self.give_images(&mut receiver, answered, head, open)).await
        } else if self.is_read(&answered) {
            boxed(|| self.give_read(&mut receiver, answered, head, open)).await
        } else {
            boxed(|| self.give(&mut receiver, (answered, held), head, open)).await
        };
        match result {
            Ok(()) if !head.close && !open.upload_unfinished => Next::Another(receiver),
            Ok(()) | Err(()) => Next::Over,
        }
    }

    fn uploads(&self) -> bool {
        self.permitted.request().operation.body == BodyKind::Tar
    }

    /// Answers with a refusal. What is left of an upload is no request.
    async fn turn_away<S: End>(&self, mut receiver: Receiver<S>, head: &Head, open: &mut Open, refusal: &Refusal) -> Next<S> {
        let good = refuse(&mut receiver, open, refusal, head.method == "HEAD").await;
        if good && !self.uploads() && !head.close {
            return Next::Another(receiver);
        }
        receiver.linger().await;
        Next::Over
    }

    /// Sends a request without a streamed body. `None`: the client is gone.
    async fn ask<S: End>(&self, receiver: &mut Receiver<S>, held: &mut Option<Held>) -> Result<Option<Answered>, Refusal> {
        let request = request_head(&self.permitted.encode(self.version()))?;
        let engine = Rc::clone(self.shared.resolver.engine());
        let alone = self.permitted.request().operation.answer != Answer::Plain;
        tokio::select! {
            biased;
            taken = self.hold() => *held = taken?,
            () = receiver.gone() => return Ok(None),
        }
        let exchange = async move { if alone { engine.exchange_alone(request).await } else { engine.exchange(request).await } };
        tokio::select! {
            biased;
            answered = answer(held, exchange) => Ok(Some(answered?)),
            () = receiver.gone() => Ok(None),
        }
    }

    pub(crate) fn version(&self) -> engine::Version {
        self.permitted.request().version.unwrap_or(self.about.version)
    }
}

/// Whether the answer is what the engine finds while it walks a container's files.
fn is_archive(operation: OperationId) -> bool {
    matches!(operation, OperationId::ContainerArchive | OperationId::ContainerExport)
}
