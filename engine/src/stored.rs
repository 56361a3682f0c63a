//! A container as the engine has it: judged again before it is started, against the policy of that moment.
//!
//! It may have been made before the policy changed, or with a name that means another object now (measured: `NetworkMode` naming a network
//! or container that did not exist, and an own network that was removed and made again by somebody else).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::demand::Demands;
use crate::demands::container::{View, create};
use crate::error::DecodeError;
use crate::facts::{Facts, ObjectKind, Reference};
use crate::types::container::{self as types, ContainerCreate, HostConfig};
use crate::types::network::{EndpointSettings, NetworkingConfig};
use crate::types::strings::NetworkMode;
use crate::wire::{Empty, Map, Text};

/// What an engine fills in by itself (`GET /info`: `LoggingDriver`, `DefaultRuntime`, `SwapLimit`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Defaults {
    /// The log driver.
    pub log_driver: String,
    /// The runtime.
    pub runtime: String,
    /// The IPC mode (not in `info`; `private` unless the daemon is told otherwise, `shareable` below API 1.40).
    pub ipc_mode: String,
    /// Whether it can limit swap (`SwapLimit`): one that cannot stores -1.
    pub swap_limit: bool,
}

/// A container as `GET /containers/{id}/json` describes it, in the form of the request that would make it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Its full id.
    pub id: String,
    /// The id of its image.
    pub image: String,
    create: ContainerCreate<'static>,
}

impl Stored {
    /// Reads the engine's description. A field of `HostConfig` that is not known here must be zero.
    ///
    /// # Errors
    /// It is not such a description, or says something that is not understood.
    pub fn decode(json: &[u8]) -> Result<Self, DecodeError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Inspect {
            id: String,
            image: String,
            config: Config,
            host_config: BTreeMap<String, Value>,
            #[serde(default)]
            network_settings: NetworkSettings,
        }
        let odd = |why: String| DecodeError::Body { at: "stored container".to_owned(), why };
        let inspect: Inspect = serde_json::from_slice(json).map_err(|error| odd(error.to_string()))?;
        let mut host = inspect.host_config;
        let unknown = host.iter().find(|(key, value)| !HostConfig::FIELDS.contains(&key.as_str()) && !is_zero(value));
        if let Some((key, _)) = unknown {
            return Err(odd(format!("HostConfig.{key} is not known here")));
        }
        host.retain(|key, value| HostConfig::FIELDS.contains(&key.as_str()) && (!is_zero(value) || PATHS.contains(&key.as_str())));
        let text = serde_json::to_string(&host).map_err(|error| odd(error.to_string()))?;
        let host: HostConfig<'_> = serde_json::from_str(&text).map_err(|error| odd(error.to_string()))?;
        let endpoints = inspect.network_settings.endpoints(host.network_mode.as_ref());
        let host = own(&host).map_err(odd)?;
        let keys = |map: Option<BTreeMap<String, IgnoredAny>>| Map(map.into_iter().flatten().map(|(key, _)| (Text::from(key), Empty {})).collect());
        Ok(Self {
            id: inspect.id,
            image: inspect.image.clone(),
            create: ContainerCreate {
                user: Some(Text::from(inspect.config.user)),
                working_dir: Some(Text::from(inspect.config.working_dir)),
                healthcheck: inspect.config.healthcheck.map(|check| types::Healthcheck {
                    test: check.test.map(|test| test.into_iter().map(Text::from).collect()),
                    ..types::Healthcheck::default()
                }),
                stop_timeout: inspect.config.stop_timeout,
                exposed_ports: Some(keys(inspect.config.exposed_ports)),
                volumes: Some(keys(inspect.config.volumes)),
                image: Some(Text::from(inspect.image)),
                host_config: Some(host),
                networking_config: Some(NetworkingConfig { endpoints_config: Some(endpoints) }),
                ..ContainerCreate::default()
            },
        })
    }

    /// The objects that its start would use.
    #[must_use]
    pub fn references(&self) -> Vec<Reference> {
        let mut found = Vec::new();
        self.create.references(&mut |kind, name| found.push(Reference { kind, name: name.to_owned() }));
        // A volume that it mounts cannot be removed or replaced while it exists (409), and was judged when it was made.
        found.retain(|reference| reference.kind != ObjectKind::Volume);
        found.sort();
        found.dedup();
        found
    }

    /// The host paths that it mounts, clean; those that it inherits among them.
    #[must_use]
    pub fn host_paths(&self, facts: &Facts) -> BTreeSet<String> {
        self.create.host_paths(facts)
    }

    /// What its start demands.
    #[must_use]
    pub fn demands(&mut self, facts: &Facts, defaults: &Defaults) -> Demands {
        self.create.bind(facts);
        let mut demands = Demands::default();
        create(&self.create, facts, View::Stored(defaults), &mut demands);
        demands
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default)]
    user: String,
    #[serde(default)]
    working_dir: String,
    /// Those of its image too, as its volumes.
    #[serde(default)]
    exposed_ports: Option<BTreeMap<String, IgnoredAny>>,
    #[serde(default)]
    healthcheck: Option<Healthcheck>,
    #[serde(default)]
    stop_timeout: Option<i64>,
    #[serde(default)]
    volumes: Option<BTreeMap<String, IgnoredAny>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Healthcheck {
    #[serde(default)]
    test: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    #[serde(default)]
    networks: Option<BTreeMap<String, Option<Endpoint>>>,
}

#[derive(Deserialize, Default)]
struct Endpoint {
    #[serde(default, rename = "NetworkID")]
    network_id: String,
}

impl NetworkSettings {
    /// The networks that a container of this mode is attached to.
    fn endpoints(self, mode: Option<&NetworkMode<'_>>) -> Map<'static, Option<EndpointSettings<'static>>> {
        let mut endpoints = Map::default();
        let names = !matches!(mode, Some(NetworkMode::Container(_) | NetworkMode::Host | NetworkMode::None));
        for (name, endpoint) in self.networks.into_iter().flatten().filter(|_| names) {
            // Once it has an id, the id decides; before the first start the name will be looked up.
            let id = endpoint.unwrap_or_default().network_id;
            endpoints.insert(Text::from(if id.is_empty() { name } else { id }), Some(EndpointSettings::default()));
        }
        endpoints
    }
}

/// Lists whose emptiness means something.
const PATHS: [&str; 2] = ["MaskedPaths", "ReadonlyPaths"];

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.iter().all(is_zero),
        Value::Object(map) => map.values().all(is_zero),
    }
}

/// The same configuration, borrowing nothing.
fn own(host: &HostConfig<'_>) -> Result<HostConfig<'static>, String> {
    let value = serde_json::to_value(host).map_err(|error| error.to_string())?;
    HostConfig::deserialize(value).map_err(|error| error.to_string())
}
