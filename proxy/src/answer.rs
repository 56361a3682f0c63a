//! Answers of the engine that are read before they are passed on: what must not promise more than is mediated, and lists that are narrowed.

mod elements;

use std::collections::{BTreeMap, BTreeSet};

use engine::Version;
use engine::demand::{Demand, ImageUse};
use engine::facts::{ObjectKind, Owner};
use engine::operation::{OPERATIONS, OperationId};
use engine::reference::ImageReference;
use policies::{Policy, Rows};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use elements::Elements;

use crate::dial::EngineError;
use crate::resolve::parse;

/// Whether an answer must be read as a whole.
#[must_use]
pub fn is_read(operation: OperationId, rows: &Rows) -> bool {
    *rows != Rows::All || matches!(operation, OperationId::SystemInfo | OperationId::SystemVersion)
}

/// The answer as the client gets it.
///
/// # Errors
/// The engine's answer is not what its API says.
pub fn rewrite(operation: OperationId, rows: &Rows, policy: &Policy, tenant: &str, body: &[u8]) -> Result<Vec<u8>, EngineError> {
    match (operation, rows) {
        (OperationId::SystemVersion, _) => version(body),
        (OperationId::SystemInfo, _) => info(policy, body),
        (OperationId::ImageInspect, Rows::Images) => {
            // It was judged by the name that it was asked for; its other names are judged one by one.
            let value: Value = parse(body)?;
            write(&image(policy, tenant, value.clone()).unwrap_or(value))
        }
        (OperationId::ImageHistory, Rows::Images) => history(policy, body),
        (OperationId::VolumeList, Rows::Labelled(labels)) => volumes(labels, body),
        (_, Rows::Labelled(labels)) => labelled(labels, body),
        (_, Rows::BareNetwork) => Ok(bare(parse(body)?).to_string().into_bytes()),
        (_, Rows::Images) => {
            let mut images = Images::new(policy, tenant);
            images.push(body);
            images.end()?;
            Ok(images.take())
        }
        (_, Rows::All) => Ok(body.to_vec()),
    }
}

/// A version that clients may negotiate to: never newer than what is decoded here.
#[must_use]
pub fn clamp(version: &str) -> String {
    let minor = version.strip_prefix("1.").and_then(|minor| minor.parse::<u8>().ok());
    match minor {
        Some(minor) if minor > Version::MAX.minor() => Version::MAX.to_string(),
        Some(minor) if minor < Version::MIN.minor() => Version::MIN.to_string(),
        _ => version.to_owned(),
    }
}

fn version(body: &[u8]) -> Result<Vec<u8>, EngineError> {
    let mut value: Value = parse(body)?;
    clamp_in(&mut value, "ApiVersion");
    clamp_in(&mut value, "MinAPIVersion");
    if let Some(Value::Array(components)) = value.get_mut("Components") {
        for details in components.iter_mut().filter_map(|component| component.get_mut("Details")) {
            clamp_in(details, "ApiVersion");
            clamp_in(details, "MinAPIVersion");
        }
    }
    Ok(value.to_string().into_bytes())
}

fn clamp_in(value: &mut Value, key: &str) {
    if let Some(Value::String(version)) = value.get_mut(key) {
        *version = clamp(version);
    }
}

/// What a client learns of the engine: nothing of proxies and their credentials, of labels, or of a swarm's other nodes. What it may not list is not
/// counted either.
fn info(policy: &Policy, body: &[u8]) -> Result<Vec<u8>, EngineError> {
    const COUNTS: [(&str, OperationId); 5] = [
        ("Containers", OperationId::ContainerList),
        ("ContainersPaused", OperationId::ContainerList),
        ("ContainersRunning", OperationId::ContainerList),
        ("ContainersStopped", OperationId::ContainerList),
        ("Images", OperationId::ImageList),
    ];
    let mut value: Value = parse(body)?;
    if let Some(map) = value.as_object_mut() {
        let listed = |list| OPERATIONS.iter().any(|operation| operation.id == list && policy.widest(operation) == "all");
        for (key, _) in COUNTS.into_iter().filter(|(_, list)| !listed(*list)) {
            map.entry(key).and_modify(|count| *count = json!(0));
        }
        for key in ["HttpProxy", "HttpsProxy", "NoProxy"] {
            map.entry(key).and_modify(|value| *value = json!(""));
        }
        map.entry("Labels").and_modify(|value| *value = json!([]));
        if let Some(swarm) = map.get_mut("Swarm") {
            *swarm =
                json!({ "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "", "RemoteManagers": null });
        }
    }
    Ok(value.to_string().into_bytes())
}

/// The labels of a row, whatever else it has.
#[derive(Deserialize)]
struct Row {
    #[serde(rename = "Labels")]
    labels: Option<BTreeMap<String, String>>,
}

fn has_one(labels: &BTreeSet<Vec<(String, String)>>, row: &RawValue) -> bool {
    let Ok(Row { labels: Some(given) }) = serde_json::from_str(row.get()) else { return false };
    labels.iter().any(|set| set.iter().all(|(key, value)| given.get(key) == Some(value)))
}

fn labelled(labels: &BTreeSet<Vec<(String, String)>>, body: &[u8]) -> Result<Vec<u8>, EngineError> {
    let rows: Vec<&RawValue> = parse(body)?;
    write(&rows.into_iter().filter(|row| has_one(labels, row)).collect::<Vec<_>>())
}

fn volumes(labels: &BTreeSet<Vec<(String, String)>>, body: &[u8]) -> Result<Vec<u8>, EngineError> {
    #[derive(Deserialize, Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Volumes<'a> {
        #[serde(borrow)]
        volumes: Option<Vec<&'a RawValue>>,
        #[serde(borrow)]
        warnings: Option<&'a RawValue>,
    }
    let mut answer: Volumes<'_> = parse(body)?;
    if let Some(volumes) = &mut answer.volumes {
        volumes.retain(|row| has_one(labels, row));
    }
    write(&answer)
}

/// A network of everybody's, without the containers on it.
fn bare(mut network: Value) -> Value {
    if let Some(map) = network.as_object_mut() {
        map.entry("Containers").and_modify(|containers| *containers = json!({}));
    }
    network
}

/// The names of an image's layers, as far as they are granted.
fn history(policy: &Policy, body: &[u8]) -> Result<Vec<u8>, EngineError> {
    let mut rows: Vec<Value> = parse(body)?;
    for tags in rows.iter_mut().filter_map(|row| row.get_mut("Tags")).filter_map(Value::as_array_mut) {
        tags.retain(|tag| tag.as_str().is_some_and(|tag| grants(policy, tag, Owner::Nobody)));
    }
    write(&rows)
}

fn grants(policy: &Policy, name: &str, owner: Owner) -> bool {
    let names = ImageReference::parse(name).into_iter().collect();
    policy.covers(&Demand::Image(ImageUse { written: name.to_owned(), names, owner }))
}

/// A list of images on its way: rows that the client may use, under the names that it may use. That of all tenants may be of any length.
#[derive(Debug)]
pub struct Images<'p> {
    policy: &'p Policy,
    tenant: &'p str,
    elements: Elements,
    /// Whether a row was shown.
    any: bool,
    /// What is to be sent.
    shown: Vec<u8>,
}

impl<'p> Images<'p> {
    /// For a client of a policy and tenant.
    #[must_use]
    pub fn new(policy: &'p Policy, tenant: &'p str) -> Self {
        Self { policy, tenant, elements: Elements::default(), any: false, shown: b"[".to_vec() }
    }

    /// Takes the next bytes of the engine's list.
    pub fn push(&mut self, bytes: &[u8]) {
        let Self { policy, tenant, elements, any, shown } = self;
        elements.push(bytes, |row| {
            let Some(row) = serde_json::from_slice(row).ok().and_then(|row| image(policy, tenant, row)) else { return };
            if std::mem::replace(any, true) {
                shown.push(b',');
            }
            // Memory takes all that is written to it.
            let _ = serde_json::to_writer(&mut *shown, &row);
        });
    }

    /// The engine's list has ended.
    ///
    /// # Errors
    /// It was cut off.
    pub fn end(&mut self) -> Result<(), EngineError> {
        if !self.elements.is_whole() {
            return Err(EngineError::Answer("a list of images that is cut off".to_owned()));
        }
        self.shown.push(b']');
        Ok(())
    }

    /// How many bytes are to be sent.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shown.len()
    }

    /// What is to be sent.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.shown)
    }
}

fn image(policy: &Policy, tenant: &str, mut row: Value) -> Option<Value> {
    let labels = row.get("Labels").or_else(|| row.get("Config").and_then(|config| config.get("Labels"))).cloned().unwrap_or_default();
    let owner = ObjectKind::Image.owner(&serde_json::from_value(labels).unwrap_or_default(), tenant);
    let granted = |name: &str| grants(policy, name, owner);
    let nameless = granted("");
    let mut shown = nameless;
    for key in ["RepoTags", "RepoDigests"] {
        if let Some(Value::Array(names)) = row.get_mut(key) {
            names.retain(|name| name.as_str().is_some_and(|name| nameless || granted(name)));
            shown |= !names.is_empty();
        }
    }
    shown.then_some(row)
}

fn write(value: &impl Serialize) -> Result<Vec<u8>, EngineError> {
    serde_json::to_vec(value).map_err(|error| EngineError::Answer(error.to_string()))
}

#[cfg(test)]
mod tests {
    use engine::{KIND_LABEL, OWNER_LABEL};

    use super::*;

    #[test]
    fn versions_are_clamped_to_what_is_decoded() {
        for (given, clamped) in [("1.41", "1.41"), ("1.99", "1.55"), ("1.12", "1.24"), ("odd", "odd")] {
            assert_eq!(clamp(given), clamped);
        }
    }

    #[test]
    fn only_who_lists_everything_is_told_how_much_there_is() {
        let body = json!({ "Containers": 7, "ContainersRunning": 4, "ContainersPaused": 1, "ContainersStopped": 2, "Images": 9, "NCPU": 2 });
        for (name, counts) in [("ci", [0, 0, 0, 0, 0, 2]), ("netcheck", [7, 4, 1, 2, 0, 2]), ("read-only", [7, 4, 1, 2, 9, 2])] {
            let policy = Policy::shipped(name).unwrap();
            let shown = rewrite(OperationId::SystemInfo, &Rows::All, &policy, "me", body.to_string().as_bytes()).unwrap();
            let shown: Value = serde_json::from_slice(&shown).unwrap();
            let keys = ["Containers", "ContainersRunning", "ContainersPaused", "ContainersStopped", "Images", "NCPU"];
            assert_eq!(keys.map(|key| shown[key].as_i64().unwrap()), counts, "{name}");
        }
    }

    #[test]
    fn lists_of_images_show_what_may_be_used() {
        let policy = Policy::shipped("ci").unwrap();
        let body = json!([
            { "Id": "1", "RepoTags": ["alpine:3", "evil/alpine:3"], "RepoDigests": [], "Labels": null },
            { "Id": "2", "RepoTags": ["evil/img:1"], "Labels": {} },
            { "Id": "3", "RepoTags": ["app:1"], "Labels": { OWNER_LABEL: "me", KIND_LABEL: "image" } },
            { "Id": "4", "RepoTags": ["redis:7"], "Labels": { OWNER_LABEL: "you", KIND_LABEL: "image" } },
            { "Id": "5", "RepoTags": ["<none>:<none>"], "Labels": { OWNER_LABEL: "me", KIND_LABEL: "image" } },
        ]);
        let shown = rewrite(OperationId::ImageList, &Rows::Images, &policy, "me", body.to_string().as_bytes()).unwrap();
        let shown: Value = serde_json::from_slice(&shown).unwrap();
        let ids: Vec<(&str, usize)> =
            shown.as_array().unwrap().iter().map(|row| (row["Id"].as_str().unwrap(), row["RepoTags"].as_array().unwrap().len())).collect();
        assert_eq!(ids, [("1", 1), ("3", 1), ("5", 1)]);
    }
}
