//! What is made for a request: the tenant's own, or gone again.

use engine::OWNER_LABEL;
use engine::demand::{Demand, Role, UsedObject};
use engine::facts::{ObjectKind, Owner, Reference};
use engine::operation::OperationId;
use http::StatusCode;
use serde_json::json;

use crate::dial::EngineError;
use crate::resolve::parse;
use crate::respond::Refusal;
use crate::serve::recheck;

use super::Exchange;

impl Exchange<'_> {
    /// Makes the volumes that a container mounts and that do not exist yet: the engine would make them without an owner.
    pub(super) async fn prepare(&self) -> Result<Vec<String>, Refusal> {
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

    /// From now on a container may have the volumes that it names. Those of them that were new.
    pub(super) fn forget_unseen(&self) -> Vec<String> {
        let request = self.permitted.request();
        let mut mounted = if request.operation.id == OperationId::ContainerCreate { request.named_volumes() } else { Vec::new() };
        mounted.retain(|name| self.shared.unseen.forget(name));
        mounted
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
    pub(super) async fn undo(&self, made: &[String]) {
        for name in made {
            let alone = self.lease.is_alone(&Reference { kind: ObjectKind::Volume, name: name.clone() });
            let own = matches!(self.shared.resolver.volume(name, &self.known.tenant).await, Ok(Some(volume)) if volume.owner == Owner::Own);
            if !alone || !own {
                continue;
            }
            let _ = self.shared.resolver.engine().ask("DELETE", &format!("/v{}/volumes/{name}", self.about.version), None).await;
        }
    }

    /// The container was made with the image that was judged, or it is judged once more. It is removed when it does not pass, and when it cannot be
    /// looked at.
    pub(super) async fn check_container(&self, body: &[u8]) -> Result<(), Refusal> {
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
}

/// The owner that a volume's description names.
pub(super) fn owner(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Volume {
        #[serde(rename = "Labels")]
        labels: Option<std::collections::BTreeMap<String, String>>,
    }
    parse::<Volume>(body).ok().and_then(|volume| volume.labels).and_then(|mut labels| labels.remove(OWNER_LABEL))
}
