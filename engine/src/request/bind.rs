//! The objects that a request names, and putting ids in the place of names.
//!
//! A name can mean another object a moment later; an id cannot. So the id is what is sent.

use std::collections::{BTreeMap, BTreeSet};

use super::{Body, Request, object_kind};
use crate::facts::{Facts, Object, ObjectKind, PREDEFINED_NETWORKS, Reference};
use crate::operation::OperationId;
use crate::query::{Filters, Value};
use crate::reference::ImageReference;
use crate::types::container::{ContainerCreate, DriverConfig, HostConfig, Mount, VolumeOptions};
use crate::types::network::EndpointSettings;
use crate::types::strings::{
    Bind, BindSource, ContainerPath, ContainerReference, IpcMode, NetworkMode, PidMode, clean_path, is_object_name, looks_like_id,
};
use crate::wire::{Map, Text};
use crate::{KIND_LABEL, OWNER_LABEL};

impl Request<'_> {
    /// Every object that the request names, once each.
    #[must_use]
    pub fn references(&self) -> Vec<Reference> {
        let mut found = Vec::new();
        let mut add = |kind, name: &str| found.push(Reference { kind, name: name.to_owned() });
        if let (Some(kind), Some(object)) = (object_kind(self.operation), &self.object) {
            add(kind, object);
        }
        match &self.body {
            Body::ContainerCreate(body) => body.references(&mut add),
            Body::NetworkConnect(body) => {
                body.container.iter().for_each(|container| add(ObjectKind::Container, container.as_str()));
                body.endpoint_config.iter().for_each(|endpoint| endpoint_references(endpoint, &mut add));
            }
            Body::NetworkDisconnect(body) => body.container.iter().for_each(|container| add(ObjectKind::Container, container.as_str())),
            Body::VolumeCreate(body) => body.name.iter().filter(|name| !name.is_empty()).for_each(|name| add(ObjectKind::Volume, name)),
            Body::NetworkCreate(body) => body.name.iter().filter(|name| is_object_name(name)).for_each(|name| network_reference(name, &mut add)),
            Body::ContainerUpdate(_) | Body::ExecCreate(_) | Body::ExecStart(_) | Body::None | Body::Tar => {}
        }
        self.listed_beside().filter(|name| is_object_name(name)).for_each(|name| add(ObjectKind::Container, name));
        self.tags().iter().for_each(|tag| add(ObjectKind::Image, &tag.to_string()));
        if self.operation.id == OperationId::ImageBuild {
            self.build_references(&mut add);
        }
        found.sort();
        found.dedup();
        found
    }

    /// The host paths that the request mounts, clean; those that it inherits among them.
    #[must_use]
    pub fn host_paths(&self, facts: &Facts) -> BTreeSet<String> {
        if let Body::ContainerCreate(body) = &self.body { body.host_paths(facts) } else { BTreeSet::new() }
    }

    /// The named volumes that the request mounts, those with a driver of their own left out.
    #[must_use]
    pub fn mounted_volumes(&self) -> Vec<String> {
        let Body::ContainerCreate(body) = &self.body else { return Vec::new() };
        let mut names = Vec::new();
        let Some(host) = &body.host_config else { return names };
        // A driver of its own makes a volume with its own options, labelled in the request itself.
        if !matches!(host.volume_driver.as_deref().unwrap_or_default(), "" | "local") {
            return names;
        }
        for bind in host.binds.iter().flatten() {
            if let BindSource::Volume(name) = &bind.source {
                names.push(name.to_string());
            }
        }
        for mount in host.mounts.iter().flatten().filter(|mount| mount.kind.as_deref() == Some("volume")) {
            let configured = mount.volume_options.as_ref().is_some_and(|options| options.driver_config.is_some());
            names.extend(mount.source.iter().filter(|name| !name.is_empty() && !configured).map(ToString::to_string));
        }
        names.sort();
        names.dedup();
        names
    }

    /// All named volumes that the request mounts.
    #[must_use]
    pub fn named_volumes(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.references().into_iter().filter(|reference| reference.kind == ObjectKind::Volume).map(|reference| reference.name).collect();
        names.dedup();
        names
    }

    /// Whether it mounts volumes that were made without a name, by the ids that the engine has given them.
    #[must_use]
    pub fn mounts_unnamed_volumes(&self) -> bool {
        matches!(self.body, Body::ContainerCreate(_)) && self.named_volumes().iter().any(|name| looks_like_id(name))
    }

    /// Names that it may give to what it makes, and that are one for all tenants: tags, and of its references the volumes.
    #[must_use]
    pub fn new_names(&self, references: &[Reference]) -> Vec<Reference> {
        let makes_volumes = matches!(self.body, Body::ContainerCreate(_) | Body::VolumeCreate(_));
        let volumes = references.iter().filter(|reference| makes_volumes && reference.kind == ObjectKind::Volume);
        let mut names: Vec<Reference> = volumes.cloned().collect();
        // With the tag that is meant where none is written: one name, one spelling.
        let full = |tag: &ImageReference| format!("{}:{}", tag.repository(), tag.effective_tag().unwrap_or_default());
        names.extend(self.tags().iter().map(|tag| Reference { kind: ObjectKind::Image, name: full(tag) }));
        names.sort();
        names.dedup();
        names
    }

    /// The containers that a list of containers is to begin or end at: `before` and `since` tell whether there is one of that name, and when it
    /// was made.
    pub(crate) fn listed_beside(&self) -> impl Iterator<Item = &str> {
        let filters = match self.query.get("filters") {
            Some(Value::Filters(filters)) if self.operation.id == OperationId::ContainerList => Some(filters),
            _ => None,
        };
        filters.into_iter().flat_map(|filters| Filters::POINTS.iter().filter_map(|key| filters.0.get(*key)).flatten()).map(String::as_str)
    }

    /// Names that it gives to images.
    fn tags(&self) -> Vec<ImageReference> {
        let written: Vec<String> = match (self.operation.id, self.query.get("t")) {
            (OperationId::ImageBuild, Some(Value::Texts(tags))) => tags.iter().map(ToString::to_string).collect(),
            (OperationId::ImageCreate, _) => vec![self.pulled_name()],
            (OperationId::ImageTag, _) => vec![self.tag_name()],
            _ => Vec::new(),
        };
        written.iter().filter_map(|tag| ImageReference::parse(tag).ok()).collect()
    }

    /// The name that `POST /images/create` pulls; the tag may be a digest.
    pub(crate) fn pulled_name(&self) -> String {
        match (self.query.text("fromImage"), self.query.text("tag")) {
            (name, "") => name.to_owned(),
            (name, digest) if digest.contains(':') => format!("{name}@{digest}"),
            (name, tag) => format!("{name}:{tag}"),
        }
    }

    /// The name that `POST /images/{name}/tag` gives.
    pub(crate) fn tag_name(&self) -> String {
        match (self.query.text("repo"), self.query.text("tag")) {
            (repository, "") => repository.to_owned(),
            (repository, tag) => format!("{repository}:{tag}"),
        }
    }

    fn build_references(&self, add: &mut impl FnMut(ObjectKind, &str)) {
        if let Some(Value::List(images)) = self.query.get("cachefrom") {
            images.iter().for_each(|image| add(ObjectKind::Image, image));
        }
        if let Ok(mode) = NetworkMode::parse(self.query.text("networkmode")) {
            mode.reference(add);
        }
    }

    /// Puts ids in the place of names, as the facts have them. What the facts do not have stays as it is, and is judged as missing.
    pub fn bind(&mut self, facts: &Facts) {
        if let (Some(kind), Some(written)) = (object_kind(self.operation), &mut self.object)
            && let Some(object) = facts.object(kind, written)
        {
            *written = match kind {
                // By the time that it is tagged, the name may mean another image.
                ObjectKind::Image if self.operation.id == OperationId::ImageTag => object.id.clone(),
                ObjectKind::Image => image_spelling(written, object),
                ObjectKind::Network if object.is_predefined_network() => object.name.clone(),
                ObjectKind::Container | ObjectKind::Exec | ObjectKind::Network | ObjectKind::Volume => object.id.clone(),
            };
        }
        match &mut self.body {
            Body::ContainerCreate(body) => {
                body.bind(facts);
                self.unnamed_volumes = body.unnamed_volumes(facts);
            }
            Body::NetworkConnect(body) => {
                bind_container(&mut body.container, facts);
                let network = self.object.as_deref().unwrap_or_default();
                body.endpoint_config.iter_mut().for_each(|endpoint| bind_endpoint(endpoint, network, facts));
            }
            Body::NetworkDisconnect(body) => bind_container(&mut body.container, facts),
            Body::ContainerUpdate(_)
            | Body::ExecCreate(_)
            | Body::ExecStart(_)
            | Body::NetworkCreate(_)
            | Body::None
            | Body::Tar
            | Body::VolumeCreate(_) => {}
        }
        if self.operation.id == OperationId::ImageBuild {
            self.bind_build(facts);
        }
        if self.listed_beside().next().is_some() {
            self.query.change_filters(|filters| {
                let points = filters.0.iter_mut().filter(|(key, _)| Filters::POINTS.contains(&key.as_str()));
                for name in points.flat_map(|(_, names)| names) {
                    *name = facts.object(ObjectKind::Container, name).map_or_else(|| name.clone(), |container| container.id.clone());
                }
            });
        }
    }

    fn bind_build(&mut self, facts: &Facts) {
        if let Ok(mut mode) = NetworkMode::parse(self.query.text("networkmode")) {
            mode.bind(facts);
            if self.query.get("networkmode").is_some() {
                self.query.set("networkmode", Value::Text(Text::from(mode.to_string())));
            }
        }
        if let Some(Value::Texts(tags)) = self.query.get("t") {
            let tags = tags.iter().map(|tag| ImageReference::parse(tag).map_or_else(|_| tag.clone().into_owned(), |tag| Text::from(tag.to_string())));
            let tags = tags.collect();
            self.query.set("t", Value::Texts(tags));
        }
    }

    /// Labels what the request makes with its owner.
    pub fn claim(&mut self, tenant: &str) {
        let owner = |labels: &mut Option<Map<'_, Text<'_>>>| {
            labels.get_or_insert_with(Map::default).insert(Text::from(OWNER_LABEL), Text::from(tenant.to_owned()));
        };
        let kind = |labels: &mut Option<Map<'_, Text<'_>>>, kind: ObjectKind| {
            labels.get_or_insert_with(Map::default).insert(Text::from(KIND_LABEL), Text::from(kind.label().unwrap_or_default()));
        };
        match &mut self.body {
            Body::ContainerCreate(body) => {
                owner(&mut body.labels);
                kind(&mut body.labels, ObjectKind::Container);
                body.write_volumes(&std::mem::take(&mut self.unnamed_volumes));
                // Volumes that are made with the container; those that exist keep what they have.
                let mounts = body.host_config.iter_mut().flat_map(|host| host.mounts.iter_mut()).flatten();
                for mount in mounts.filter(|mount| mount.kind.as_deref() == Some("volume")) {
                    owner(&mut mount.volume_options.get_or_insert_default().labels);
                }
            }
            Body::NetworkCreate(body) => owner(&mut body.labels),
            Body::VolumeCreate(body) => owner(&mut body.labels),
            Body::Tar if self.operation.id == OperationId::ImageBuild => {
                let mut labels = match self.query.get("labels") {
                    Some(Value::Pairs(labels)) => labels.clone(),
                    _ => BTreeMap::new(),
                };
                labels.insert(OWNER_LABEL.to_owned(), Some(tenant.to_owned()));
                labels.insert(KIND_LABEL.to_owned(), ObjectKind::Image.label().map(str::to_owned));
                self.query.set("labels", Value::Pairs(labels));
            }
            Body::ContainerUpdate(_)
            | Body::ExecCreate(_)
            | Body::ExecStart(_)
            | Body::NetworkConnect(_)
            | Body::NetworkDisconnect(_)
            | Body::None
            | Body::Tar => {}
        }
    }
}

impl<'a> ContainerCreate<'a> {
    /// The host paths that it mounts, clean; those that it inherits among them.
    pub(crate) fn host_paths(&self, facts: &Facts) -> BTreeSet<String> {
        let Some(host) = &self.host_config else { return BTreeSet::new() };
        let binds = host.binds.iter().flatten().filter_map(|bind| match &bind.source {
            BindSource::Host(path) => Some(path.clone()),
            BindSource::Anonymous | BindSource::Volume(_) => None,
        });
        let mounts = host.mounts.iter().flatten().filter(|mount| mount.kind.as_deref() == Some("bind"));
        let inherited = host.donors(facts).flat_map(|donor| &donor.binds).map(|bind| bind.source.clone());
        binds.chain(mounts.filter_map(|mount| clean_path(mount.source.as_deref().unwrap_or_default()))).chain(inherited).collect()
    }

    /// Where the engine would make volumes without a name, its image's among them: nowhere where something else is mounted (moby
    /// daemon/create_unix.go, `HasMountFor`). An image's place that is not absolute is left to the engine, which does not find a mount for it.
    fn unnamed_volumes(&self, facts: &Facts) -> BTreeSet<String> {
        let image = self.image.as_deref().and_then(|image| facts.object(ObjectKind::Image, image));
        let brought = image.into_iter().flat_map(|image| &image.brings.volumes).map(String::as_str);
        let given = self.volumes.iter().flat_map(|volumes| volumes.keys()).map(Text::as_str);
        let mut places: BTreeSet<String> = brought.chain(given).filter_map(clean_path).collect();
        let Some(host) = &self.host_config else { return places };
        for Bind { source, target, .. } in host.binds.iter().flatten() {
            match source {
                BindSource::Anonymous => places.insert(target.to_string()),
                BindSource::Host(_) | BindSource::Volume(_) => places.remove(target.as_str()),
            };
        }
        for mount in host.mounts.iter().flatten().filter_map(|mount| mount.target.as_ref()) {
            places.remove(mount.as_str());
        }
        let inherited: BTreeSet<&str> = host.donors(facts).flat_map(|donor| &donor.mounted).map(String::as_str).collect();
        let in_memory: BTreeSet<String> = host.tmpfs.iter().flat_map(|tmpfs| tmpfs.keys()).filter_map(|path| clean_path(path)).collect();
        places.retain(|place| !inherited.contains(place.as_str()) && !in_memory.contains(place));
        places
    }

    /// Writes volumes without a name as mounts, which can have labels; the engine takes them for the same.
    fn write_volumes(&mut self, places: &BTreeSet<String>) {
        if places.is_empty() {
            return;
        }
        let host = self.host_config.get_or_insert_default();
        host.binds.iter_mut().for_each(|binds| binds.retain(|bind| bind.source != BindSource::Anonymous || !places.contains(bind.target.as_str())));
        let driver = host.volume_driver.clone().filter(|driver| !matches!(driver.as_str(), "" | "local"));
        let driver_config = driver.map(|name| DriverConfig { name: Some(name), options: None });
        let volume_options = VolumeOptions { driver_config, ..VolumeOptions::default() };
        host.mounts.get_or_insert_default().extend(places.iter().filter_map(|place| ContainerPath::parse(place).ok()).map(|place| Mount {
            kind: Some(Text::from("volume")),
            target: Some(place),
            volume_options: Some(volume_options.clone()),
            ..Mount::default()
        }));
    }

    /// Every object that it names.
    pub(crate) fn references(&self, add: &mut impl FnMut(ObjectKind, &str)) {
        self.image.iter().filter(|image| !image.is_empty()).for_each(|image| add(ObjectKind::Image, image));
        for (key, endpoint) in self.endpoints() {
            network_reference(key, add);
            endpoint.into_iter().for_each(|endpoint| endpoint_references(endpoint, add));
        }
        self.host_config.iter().for_each(|host| host.references(add));
    }

    /// Puts ids in the place of names.
    pub(crate) fn bind(&mut self, facts: &Facts) {
        if let Some(image) = &mut self.image
            && let Some(object) = facts.object(ObjectKind::Image, image)
        {
            *image = Text::from(image_spelling(image, object));
        }
        if let Some(host) = &mut self.host_config {
            host.bind(facts);
        }
        let Some(endpoints) = self.networking_config.as_mut().and_then(|config| config.endpoints_config.as_mut()) else { return };
        for (key, settings) in std::mem::take(&mut endpoints.0) {
            let bound = bound_network(&key, facts);
            let mut settings = settings.unwrap_or_default();
            bind_endpoint(&mut settings, &bound, facts);
            // Two keys that mean one network: kept apart under the second's own spelling, which no network has, and so denied.
            let key = if endpoints.contains_key(bound.as_str()) { key.into_owned() } else { Text::from(bound) };
            endpoints.insert(key, Some(settings));
        }
    }
}

impl HostConfig<'_> {
    /// The containers whose mounts it inherits.
    fn donors<'f>(&self, facts: &'f Facts) -> impl Iterator<Item = &'f Object> {
        self.volumes_from.iter().flatten().filter_map(|from| facts.object(ObjectKind::Container, from.container.as_str())).map(AsRef::as_ref)
    }

    fn references(&self, add: &mut impl FnMut(ObjectKind, &str)) {
        self.network_mode.iter().for_each(|mode| mode.reference(add));
        if let Some(PidMode::Container(container)) = &self.pid_mode {
            add(ObjectKind::Container, container.as_str());
        }
        if let Some(IpcMode::Container(container)) = &self.ipc_mode {
            add(ObjectKind::Container, container.as_str());
        }
        self.volumes_from.iter().flatten().for_each(|from| add(ObjectKind::Container, from.container.as_str()));
        self.links.iter().flatten().for_each(|link| add(ObjectKind::Container, link.container.as_str()));
        for bind in self.binds.iter().flatten() {
            if let BindSource::Volume(name) = &bind.source {
                add(ObjectKind::Volume, name);
            }
        }
        for mount in self.mounts.iter().flatten() {
            let source = mount.source.as_deref().unwrap_or_default();
            match mount.kind.as_deref().unwrap_or_default() {
                "volume" if !source.is_empty() => add(ObjectKind::Volume, source),
                "image" if !source.is_empty() => add(ObjectKind::Image, source),
                _ => {}
            }
        }
    }

    fn bind(&mut self, facts: &Facts) {
        self.network_mode.iter_mut().for_each(|mode| mode.bind(facts));
        let resolve = |container: &mut ContainerReference<'_>| {
            if let Some(object) = facts.object(ObjectKind::Container, container.as_str()) {
                container.set(&object.id);
            }
        };
        if let Some(PidMode::Container(container)) = &mut self.pid_mode {
            resolve(container);
        }
        if let Some(IpcMode::Container(container)) = &mut self.ipc_mode {
            resolve(container);
        }
        self.volumes_from.iter_mut().flatten().for_each(|from| resolve(&mut from.container));
        self.links.iter_mut().flatten().for_each(|link| resolve(&mut link.container));
        self.leave_as_they_are(facts);
        for mount in self.mounts.iter_mut().flatten() {
            if mount.kind.as_deref() == Some("image")
                && let Some(source) = &mut mount.source
                && let Some(object) = facts.object(ObjectKind::Image, source)
            {
                *source = Text::from(object.id.clone());
            }
        }
    }
}

impl HostConfig<'_> {
    /// A volume that a process may have seen is not filled with what the image has in its place: through an open directory, its own or handed on, it
    /// could lead the engine, which writes as root and by path, out of the volume.
    fn leave_as_they_are(&mut self, facts: &Facts) {
        for bind in self.binds.iter_mut().flatten() {
            if matches!(&bind.source, BindSource::Volume(name) if !facts.is_unseen_volume(name)) {
                bind.options.no_copy = true;
            }
        }
        for mount in self.mounts.iter_mut().flatten().filter(|mount| mount.kind.as_deref() == Some("volume")) {
            if mount.source.as_deref().is_some_and(|name| !name.is_empty() && !facts.is_unseen_volume(name)) {
                mount.volume_options.get_or_insert_default().no_copy = Some(true);
            }
        }
    }
}

impl NetworkMode<'_> {
    fn reference(&self, add: &mut impl FnMut(ObjectKind, &str)) {
        match self {
            Self::Container(container) => add(ObjectKind::Container, container.as_str()),
            Self::Network(network) => network_reference(network, add),
            Self::Default | Self::Host | Self::None => {}
        }
    }

    fn bind(&mut self, facts: &Facts) {
        match self {
            Self::Container(container) => {
                if let Some(object) = facts.object(ObjectKind::Container, container.as_str()) {
                    container.set(&object.id);
                }
            }
            Self::Network(network) => {
                *self = match bound_network(network, facts).as_str() {
                    "host" => Self::Host,
                    "none" => Self::None,
                    other => Self::Network(Text::from(other.to_owned())),
                };
            }
            Self::Default | Self::Host | Self::None => {}
        }
    }
}

fn bind_container(container: &mut Option<ContainerReference<'_>>, facts: &Facts) {
    if let Some(container) = container
        && let Some(object) = facts.object(ObjectKind::Container, container.as_str())
    {
        container.set(&object.id);
    }
}

fn network_reference(name: &str, add: &mut impl FnMut(ObjectKind, &str)) {
    if name != "default" && !PREDEFINED_NETWORKS.contains(&name) {
        add(ObjectKind::Network, name);
    }
}

fn endpoint_references(endpoint: &EndpointSettings<'_>, add: &mut impl FnMut(ObjectKind, &str)) {
    endpoint.links.iter().flatten().for_each(|link| add(ObjectKind::Container, link.container.as_str()));
    endpoint.network_id.iter().filter(|id| !id.is_empty()).for_each(|id| network_reference(id, add));
}

/// What stands for a network in a bound request: its id, or its name where every engine has it.
fn bound_network(name: &str, facts: &Facts) -> String {
    match facts.object(ObjectKind::Network, name) {
        Some(object) if object.is_predefined_network() => object.name.clone(),
        Some(object) => object.id.clone(),
        None => name.to_owned(),
    }
}

/// Resolves the links; takes out `NetworkID` where it says what the key says. Anywhere else it stays, and is denied.
fn bind_endpoint(endpoint: &mut EndpointSettings<'_>, network: &str, facts: &Facts) {
    for link in endpoint.links.iter_mut().flatten() {
        if let Some(object) = facts.object(ObjectKind::Container, link.container.as_str()) {
            link.container.set(&object.id);
        }
    }
    if endpoint.network_id.as_ref().is_some_and(|id| id.is_empty() || bound_network(id, facts) == network) {
        endpoint.network_id = None;
    }
}

/// The reference in its short spelling where the image has that name; the image's id where it was named by id.
fn image_spelling(written: &str, object: &Object) -> String {
    match ImageReference::parse(written) {
        Ok(reference) if has_name(object, &reference) => reference.to_string(),
        _ => object.id.clone(),
    }
}

/// Whether the engine has this image under this name (and did not find it by the beginning of its id).
#[must_use]
pub fn has_name(object: &Object, reference: &ImageReference) -> bool {
    object.references.iter().filter_map(|name| ImageReference::parse(name).ok()).any(|name| match (reference.digest(), reference.tag()) {
        (Some(digest), _) => name.repository() == reference.repository() && name.digest() == Some(digest),
        (None, _) => name.names_same(reference),
    })
}
