//! A build's Dockerfile on its way: judged, and written for the engine with the ids of the images that it begins with.
//!
//! The engine's builder is left nothing to look up or pull by a name that could mean another image by then, nor an image whose triggers (`ONBUILD`)
//! nobody has seen: what is missing is pulled here first, looked at, and named by its id.

use bytes::Bytes;
use engine::demand::{Demand, Demands, ImageUse};
use engine::dockerfile::{Dockerfile, Usage, UsedImage};
use engine::facts::{Facts, ObjectKind, Owner};
use engine::reference::ImageReference;
use http::StatusCode;
use serde::Deserialize;

use crate::dial::{EngineError, head as request_head};
use crate::forward::{Exchange, SILENCE};
use crate::resolve::Room;
use crate::respond::Refusal;
use crate::vet::{Vet, refused};

impl Exchange<'_> {
    /// Judges a Dockerfile that has passed, and gives back how the engine gets it.
    pub(crate) async fn judge_dockerfile(&self, vet: &mut Vet) -> Result<(), Refusal> {
        let Some(mut dockerfile) = vet.dockerfile()? else { return Ok(()) };
        // What comes out of the cache of all tenants is nobody's.
        if self.permitted.request().query.flag("nocache") {
            dockerfile.claim(&self.known.tenant);
        }
        let (mut facts, mut _room) = self.image_facts(&dockerfile).await?;
        self.cover(&dockerfile.demands(&facts))?;
        let mut pulled = false;
        for image in dockerfile.images() {
            if let Some((name, platform)) = self.to_pull(image, &facts) {
                self.pull(&name, platform).await?;
                pulled = true;
            }
        }
        if pulled {
            (facts, _room) = self.image_facts(&dockerfile).await?;
            self.cover(&dockerfile.demands(&facts))?;
        }
        let brought = dockerfile.brought_demands(&facts).map_err(|error| refused(error.to_string()))?;
        self.cover(&brought)?;
        if let Some(image) = dockerfile.images().iter().find(|image| image.usage != Usage::Copy && known(&facts, image).is_none()) {
            return Err(Refusal::Missing(format!("No such image: {}", image.name)));
        }
        let written = dockerfile.write(|image| match known(&facts, image) {
            Some(id) => id.to_owned(),
            // It may be had under this name, whatever image has it.
            None => ImageReference::parse(&image.name).map_or_else(|_| image.name.clone(), |name| name.to_string()),
        });
        vet.write(written.map_err(|error| refused(error.to_string()))?);
        Ok(())
    }

    async fn image_facts(&self, dockerfile: &Dockerfile) -> Result<(Facts, Room), EngineError> {
        self.shared.resolver.images(dockerfile.references(), self.known).await
    }

    fn cover(&self, demands: &Demands) -> Result<(), Refusal> {
        Ok(self.known.policy.cover(self.permitted.request().operation, demands)?)
    }

    /// The name and platform of an image that has to be pulled: one that may be had by its name, and is not there, or not as it is asked for.
    fn to_pull<'i>(&'i self, image: &'i UsedImage, facts: &Facts) -> Option<(ImageReference, &'i str)> {
        let Usage::Base { platform } = &image.usage else { return None };
        let name = ImageReference::parse(&image.name).ok()?;
        let platform = if platform.is_empty() { self.permitted.request().query.text("platform") } else { platform.as_str() };
        let as_anyones = ImageUse { written: image.name.clone(), names: vec![name.clone()], owner: Owner::Nobody };
        let object = facts.object(ObjectKind::Image, &image.name);
        let by_id = object.is_some_and(|object| !engine::request::has_name(object, &name));
        let granted = object.is_none_or(|object| object.owner == Owner::Nobody) && self.known.policy.covers(&Demand::Image(as_anyones));
        let wanted = object.is_none() || self.permitted.request().pulls() || !platform.is_empty();
        (wanted && granted && !by_id).then_some((name, platform))
    }

    /// Pulls an image, with the credentials that the client gave for the build.
    async fn pull(&self, name: &ImageReference, platform: &str) -> Result<(), Refusal> {
        let request = request_head(&self.permitted.request().pull(name, platform, self.version()))?;
        let answered = self.shared.resolver.engine().exchange_alone(request).await?;
        let status = answered.response.status();
        let mut body = answered.response.into_body();
        let mut messages = Messages::default();
        while let Some(part) = tokio::time::timeout(SILENCE, body.part()).await.map_err(|_| EngineError::Silent)?? {
            messages.add(&part);
        }
        messages.end();
        match (status, messages.error) {
            (StatusCode::OK, None) => Ok(()),
            (StatusCode::OK | StatusCode::NOT_FOUND, Some(error)) => Err(Refusal::Missing(error)),
            (_, error) => Err(Refusal::Engine(EngineError::Answer(format!("{status} to the pull of {name}: {}", error.unwrap_or_default())))),
        }
    }
}

fn known<'f>(facts: &'f Facts, image: &UsedImage) -> Option<&'f str> {
    facts.object(ObjectKind::Image, &image.name).map(|object| object.id.as_str())
}

/// The messages of a stream, one a line: only what went wrong is kept.
#[derive(Debug, Default)]
struct Messages {
    line: Vec<u8>,
    error: Option<String>,
}

impl Messages {
    fn add(&mut self, part: &Bytes) {
        for (n, piece) in part.split(|b| *b == b'\n').enumerate() {
            if n > 0 {
                self.end();
            }
            if self.line.len() < MOST_LINE {
                self.line.extend_from_slice(piece);
            }
        }
    }

    fn end(&mut self) {
        #[derive(Deserialize)]
        struct Message {
            #[serde(alias = "message")]
            error: Option<String>,
        }
        let line = std::mem::take(&mut self.line);
        let error = serde_json::from_slice::<Message>(&line).ok().and_then(|message| message.error);
        self.error = self.error.take().or(error);
    }
}

/// Most bytes of a message.
const MOST_LINE: usize = 64 << 10;
