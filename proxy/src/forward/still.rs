//! A container stands still from before the engine walks its files until after, whatever becomes of the client.
//!
//! What the engine has been asked for it does, also when nobody waits for it: a request to it is left to end before anything moves again.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use engine::Version;
use engine::demand::{Demand, Flag};
use engine::operation::OperationId;
use engine::request::{Encoded, Payload};
use http::StatusCode;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::timeout;

use crate::budget::{self, Share};
use crate::dial::{Answered, Engine, EngineError, head};
use crate::locks::Taken;
use crate::receive::ReceiveError;
use crate::respond::Refusal;
use crate::serve::Busy;
use crate::standing::Standing;

use super::Exchange;

/// What a container does for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// Its volumes are filled.
    Filling,
    /// Its processes may begin to run.
    Moving,
    /// Something of it begins to run with all that it shares.
    Starting,
    /// Its files are walked.
    Still,
}

fn keep(operation: OperationId) -> Option<Keep> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "most operations neither move a container nor walk its files")]
    match operation {
        // An export is written in the container's own root, without its mounts (moby daemon/export.go); but it keeps the root mounted, and a start that
        // finds it so makes the working directory by path, whoever has the root open (moby container/container.go, `SetupWorkingDirectory`).
        OperationId::ContainerArchive
        | OperationId::ContainerArchiveInfo
        | OperationId::ContainerChanges
        | OperationId::ContainerExport
        | OperationId::PutContainerArchive => Some(Keep::Still),
        OperationId::ContainerCreate => Some(Keep::Filling),
        OperationId::ContainerStart | OperationId::ContainerRestart => Some(Keep::Starting),
        // A signal lets one that is paused go on (moby daemon/kill.go).
        OperationId::ContainerDelete
        | OperationId::ContainerExec
        | OperationId::ContainerKill
        | OperationId::ContainerPause
        | OperationId::ContainerStop
        | OperationId::ContainerUnpause
        // Less memory ends it (cgroups v2), and a restart policy starts it again.
        | OperationId::ContainerUpdate => Some(Keep::Moving),
        _ => None,
    }
}

/// What is held for a request. Dropped, it is let go when the engine has done what it was asked for.
#[derive(Debug)]
pub(super) struct Held(Option<Holding>);

#[derive(Debug)]
struct Holding {
    engine: Rc<Engine>,
    version: Version,
    /// The containers that are to run again.
    paused: Vec<String>,
    underway: Option<JoinHandle<Result<Answered, EngineError>>>,
    _taken: Rc<[Taken]>,
    _busy: Busy,
    _share: Share,
}

impl Exchange<'_> {
    /// Waits until the container stands still where that is needed, or until what stands still may move. `None`: neither is.
    pub(super) async fn hold(&self) -> Result<Option<Held>, Refusal> {
        let request = self.permitted.request();
        let Some(keep) = keep(request.operation.id) else { return Ok(None) };
        let racy = self.known.policy.covers(&Demand::Flag(Flag::RacyCopy));
        let id = request.object.as_deref().unwrap_or_default();
        match keep {
            Keep::Filling => self.held(Rc::clone(&self.turns)).map(Some),
            Keep::Still if racy => Ok(None),
            Keep::Still => self.still(id).await.map(Some),
            Keep::Moving => self.moving([id.to_owned()].into()).await.map(Some),
            Keep::Starting => match self.shared.resolver.standing(id).await? {
                Some(container) => self.moving(container.places()).await.map(Some),
                // The engine says itself that it is not there.
                None => Ok(None),
            },
        }
    }

    async fn moving(&self, places: BTreeSet<String>) -> Result<Held, Refusal> {
        let taken = timeout(PATIENCE, self.shared.stills.beside(&places)).await.map_err(|_| self.is_copied())?;
        self.held(taken.into())
    }

    async fn still(&self, id: &str) -> Result<Held, Refusal> {
        let resolver = &self.shared.resolver;
        let missing = || Refusal::Missing(format!("No such container: {id}"));
        let mut places = resolver.standing(id).await?.ok_or_else(missing)?.places();
        for _ in 0..LOOKS {
            let taken = timeout(PATIENCE, self.shared.stills.alone(&places)).await.map_err(|_| self.is_copied())?;
            // As it is now that nothing moves it.
            let container = resolver.standing(id).await?.ok_or_else(missing)?;
            let others = resolver.reaching(&container).await?;
            if others.iter().any(|other| other.tenant != container.tenant) {
                return Err(self.is_shared());
            }
            let needed = container.places().into_iter().chain(others.iter().map(|other| other.id.clone())).collect();
            if places.is_superset(&needed) {
                let mut held = self.held(taken.into())?;
                for moving in others.iter().chain([&container]).filter(|container| container.running) {
                    if let Err(refusal) = self.keep_still(&mut held, moving).await
                        && resolver.standing(&moving.id).await?.is_some_and(|moving| moving.running)
                    {
                        return Err(refusal);
                    }
                }
                return Ok(held);
            }
            places = needed;
        }
        Err(self.is_shared())
    }

    /// Pauses a container, unless its owner did, until it is let go.
    async fn keep_still(&self, held: &mut Held, container: &Standing) -> Result<(), Refusal> {
        if !container.paused {
            held.pause(&container.id).await?;
        }
        if container.restarts_itself
            && let Some(why) = self.shared.resolver.ended(container).await?
        {
            return Err(cannot_be_paused(&container.id, &why));
        }
        Ok(())
    }

    fn is_shared(&self) -> Refusal {
        let id = self.permitted.request().object.as_deref().unwrap_or_default();
        Refusal::Conflict(format!(
            "seawall: container {id} shares volumes, directories or namespaces with another container that runs, which could exchange its files \
             while they are copied: stop one of them first (or `allow: [racy-copy]`, where the engine is mended)"
        ))
    }

    fn held(&self, taken: Rc<[Taken]>) -> Result<Held, Refusal> {
        let mut share = self.shared.underway.begin(&self.known.tenant);
        if !share.resize(budget::UNDERWAY / budget::MOST_UNDERWAY) {
            return Err(ReceiveError::Busy.into());
        }
        let engine = Rc::clone(self.shared.resolver.engine());
        let (version, busy) = (self.about.version, Busy::new(&self.shared.busy));
        Ok(Held(Some(Holding { engine, version, paused: Vec::new(), underway: None, _taken: taken, _busy: busy, _share: share })))
    }

    fn is_copied(&self) -> Refusal {
        let id = self.permitted.request().object.as_deref().unwrap_or_default();
        Refusal::Conflict(format!("Container {id} is being copied from or to, or started; wait until that has ended"))
    }
}

fn cannot_be_paused(id: &str, why: &str) -> Refusal {
    Refusal::Conflict(format!("seawall: container {id} runs, and cannot be paused while its files are copied: {why}; stop it first"))
}

/// How often it is looked which containers reach the files of one, while others begin to.
const LOOKS: usize = 3;

/// How long something waits for a copy to end: longer than a client may be silent that takes or sends one.
const PATIENCE: Duration = Duration::from_secs(90);

impl Held {
    /// Freezes the processes. While they make others, runc may give up on that (cgroup v1).
    async fn pause(&mut self, id: &str) -> Result<(), Refusal> {
        let mut why = String::new();
        for _ in 0..FREEZES {
            match self.freeze(id).await? {
                Ok(()) => return Ok(()),
                Err(failed) => why = failed,
            }
        }
        Err(cannot_be_paused(id, &why))
    }

    /// Freezes the processes, or says why the engine does not.
    async fn freeze(&mut self, id: &str) -> Result<Result<(), String>, EngineError> {
        let Some(holding) = &mut self.0 else { return Ok(Ok(())) };
        let request = head(&post(holding.version, id, "pause"))?;
        let engine = Rc::clone(&holding.engine);
        // From now on: whether it is paused shows when the engine has answered.
        holding.paused.push(id.to_owned());
        let asked = Rc::clone(&engine);
        let (response, connection) = self.finish(async move { asked.exchange(request).await }).await?.into_parts();
        let status = response.status();
        let said = engine.whole(response.into_body(), &"pause").await?;
        engine.give_back(connection);
        let Some(holding) = &mut self.0 else { return Ok(Ok(())) };
        if status == StatusCode::NO_CONTENT {
            return Ok(Ok(()));
        }
        holding.paused.pop();
        Ok(Err(format!("{status} {}", String::from_utf8_lossy(&said).trim())))
    }

    /// Has the engine do something, which it does to its end.
    pub(super) async fn finish(&mut self, exchange: impl Future<Output = Result<Answered, EngineError>> + 'static) -> Result<Answered, EngineError> {
        let Some(holding) = &mut self.0 else { return exchange.await };
        let answered = holding.underway.insert(spawn_local(exchange)).await;
        holding.underway = None;
        answered.unwrap_or_else(|error| Err(EngineError::Answer(error.to_string())))
    }

    /// Lets the container go on, and waits until it does.
    pub(super) async fn release(mut self) {
        if let Some(holding) = self.0.take() {
            // On a task of its own, which a client that goes away does not end.
            let _ = spawn_local(holding.end()).await;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(holding) = self.0.take().filter(|holding| !holding.paused.is_empty() || holding.underway.is_some()) {
            spawn_local(holding.end());
        }
    }
}

impl Holding {
    async fn end(mut self) {
        if let Some(underway) = self.underway.take() {
            let _ = underway.await;
        }
        // What is copied was paused last.
        while let Some(id) = self.paused.pop() {
            self.unpause(&id).await;
        }
    }

    async fn unpause(&self, id: &str) {
        let unpause = post(self.version, id, "unpause");
        for _ in 0..TRIES {
            let Ok(request) = head(&unpause) else { return };
            // The engine answers when what it does with the container has ended.
            match self.engine.exchange(request).await {
                Ok(_) => return,
                Err(error) => tracing::warn!(%error, container = %id, "cannot unpause what was paused for a copy"),
            }
            tokio::time::sleep(PAUSE).await;
        }
        tracing::error!(container = %id, "stays paused");
    }
}

/// How often it is tried to freeze processes.
const FREEZES: usize = 3;

/// How often an engine that is gone is asked to let a container go on.
const TRIES: u32 = 60;
const PAUSE: Duration = Duration::from_secs(1);

fn post(version: Version, id: &str, what: &str) -> Encoded {
    Encoded { method: "POST", target: format!("/v{version}/containers/{id}/{what}"), headers: Vec::new(), payload: Payload::None }
}

/// Has the engine answer: to the end, where something is held for it.
pub(super) fn answer<'h>(held: &'h mut Option<Held>, exchange: impl Future<Output = Result<Answered, EngineError>> + 'static) -> Answer<'h> {
    match held {
        Some(held) => Box::pin(held.finish(exchange)),
        None => Box::pin(exchange),
    }
}

/// An answer that is awaited.
pub(super) type Answer<'h> = Pin<Box<dyn Future<Output = Result<Answered, EngineError>> + 'h>>;
