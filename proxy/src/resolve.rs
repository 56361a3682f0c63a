//! Facts: what the engine says about the objects that a request names, asked for just before the decision and kept for no other.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use engine::demand::Bind;
use engine::facts::{Brings, Facts, Object, ObjectKind, Process, Reference};
use engine::stored::{Defaults, Stored};
use engine::{Request, Version};
use http::StatusCode;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::budget::{self, Budget, Share};
use crate::clients::Known;
use crate::dial::{Engine, EngineError};
use crate::host::{self, Host};

/// What is known of the engine itself, until a connection to it breaks.
#[derive(Debug, Clone)]
pub struct About {
    /// The newest version that both it and we speak.
    pub version: Version,
    /// What it fills in where a request says nothing.
    pub defaults: Defaults,
    /// The Go that it is built with, as `go1.24.4`.
    pub go: String,
}

impl About {
    /// Whether it removes files by path: a process that exchanges a directory for a link meanwhile leads it elsewhere (golang/go#52745, mended on Linux
    /// in Go 1.24 at the latest).
    #[must_use]
    pub fn removes_by_path(&self) -> bool {
        let minor = self.go.strip_prefix("go1.").and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u32>().ok());
        minor.is_some_and(|minor| minor < 24)
    }
}

/// Asks an engine for facts.
#[derive(Debug)]
pub struct Resolver {
    engine: Rc<Engine>,
    about: RefCell<Option<(u64, Rc<About>)>>,
    host: Host,
    facts: Budget,
}

/// The memory of facts: they are its tenant's while it lasts.
#[derive(Debug)]
pub struct Room {
    share: Share,
    taken: usize,
}

impl Room {
    fn take(&mut self, bytes: usize) -> Result<(), EngineError> {
        self.taken += bytes;
        if self.taken <= budget::FACTS && self.share.resize(self.taken) { Ok(()) } else { Err(EngineError::Room) }
    }
}

impl Resolver {
    /// For an engine.
    #[must_use]
    pub fn new(engine: Rc<Engine>) -> Self {
        Self { engine, about: RefCell::default(), host: Host::default(), facts: Budget::of(budget::FACTS) }
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &Rc<Engine> {
        &self.engine
    }

    /// What is known of the engine.
    ///
    /// # Errors
    /// It cannot be asked.
    pub async fn about(&self) -> Result<Rc<About>, EngineError> {
        let known = self.about.borrow().clone();
        if let Some((generation, about)) = known
            && generation == self.engine.generation()
        {
            return Ok(about);
        }
        let about = Rc::new(self.ask_about().await?);
        *self.about.borrow_mut() = Some((self.engine.generation(), Rc::clone(&about)));
        Ok(about)
    }

    async fn ask_about(&self) -> Result<About, EngineError> {
        #[derive(Deserialize)]
        struct EngineVersion {
            #[serde(rename = "ApiVersion")]
            api_version: String,
            #[serde(rename = "GoVersion", default)]
            go_version: String,
        }
        #[derive(Deserialize, Default)]
        #[serde(rename_all = "PascalCase", default)]
        struct Info {
            logging_driver: String,
            default_runtime: String,
            swap_limit: bool,
        }
        let answer: EngineVersion = parse(&self.must("/version").await?)?;
        let minor = answer.api_version.strip_prefix("1.").and_then(|minor| minor.parse::<u8>().ok());
        let version = minor.and_then(|minor| Version::new(minor.min(Version::MAX.minor())));
        let version = version.ok_or_else(|| EngineError::Answer(format!("it speaks API {}", answer.api_version)))?;
        let info: Info = parse(&self.must(&format!("/v{version}/info")).await?)?;
        let Info { logging_driver: log_driver, default_runtime: runtime, swap_limit } = info;
        let defaults = Defaults { log_driver, runtime, ipc_mode: "private".to_owned(), swap_limit };
        Ok(About { version, defaults, go: answer.go_version })
    }

    pub(crate) async fn must(&self, target: &str) -> Result<Bytes, EngineError> {
        match self.engine.ask("GET", target, None).await? {
            (StatusCode::OK, body) => Ok(body),
            (status, _) => Err(EngineError::Answer(format!("{status} to GET {target}"))),
        }
    }

    /// Facts about everything that a request names: its references, and the host paths that its client may be granted.
    ///
    /// # Errors
    /// The engine cannot be asked.
    pub async fn facts(&self, request: &Request<'_>, references: Vec<Reference>, known: &Known) -> Result<(Facts, Room), EngineError> {
        let (mut facts, mut room) = (Facts::default(), self.room(known));
        if !references.is_empty() {
            self.add(&mut facts, &mut room, references, &known.tenant).await?;
        }
        let mut paths = request.host_paths(&facts);
        paths.retain(|path| known.policy.reaches(path));
        if request.version.map_or(self.about().await?.version.minor(), Version::minor) < RECURSIVE_READ_ONLY {
            host::add_mounts(&paths, &mut facts);
        }
        self.host.look(paths, &mut facts).await;
        Ok((facts, room))
    }

    fn room(&self, known: &Known) -> Room {
        Room { share: self.facts.begin(&known.tenant), taken: 0 }
    }

    /// A volume as it is now.
    ///
    /// # Errors
    /// The engine cannot be asked.
    pub async fn volume(&self, name: &str, tenant: &str) -> Result<Option<Rc<Object>>, EngineError> {
        let version = self.about().await?.version;
        Ok(self.look_up(&Reference { kind: ObjectKind::Volume, name: name.to_owned() }, version, tenant).await?.map(Rc::new))
    }

    /// Facts about images.
    ///
    /// # Errors
    /// The engine cannot be asked.
    pub async fn images(&self, references: Vec<Reference>, known: &Known) -> Result<(Facts, Room), EngineError> {
        let (mut facts, mut room) = (Facts::default(), self.room(known));
        self.add(&mut facts, &mut room, references, &known.tenant).await?;
        Ok((facts, room))
    }

    /// A container as the engine has it, and facts about what its start would use. `None`: there is no such container.
    ///
    /// # Errors
    /// The engine cannot be asked, or describes something that is not understood.
    pub async fn stored(&self, id: &str, known: &Known) -> Result<Option<(Stored, Facts, Room)>, EngineError> {
        let Some(body) = self.container(id).await? else { return Ok(None) };
        let mut room = self.room(known);
        // The description, and what is read of it.
        room.take(2 * body.len())?;
        let stored = Stored::decode(&body).map_err(|error| EngineError::Answer(error.to_string()))?;
        let mut facts = Facts::default();
        self.add(&mut facts, &mut room, stored.references(), &known.tenant).await?;
        let mut paths = stored.host_paths(&facts);
        paths.retain(|path| known.policy.reaches(path));
        self.host.look(paths, &mut facts).await;
        Ok(Some((stored, facts, room)))
    }

    /// The engine's description of a container. `None`: there is no such container.
    pub(crate) async fn container(&self, id: &str) -> Result<Option<Bytes>, EngineError> {
        let version = self.about().await?.version;
        match self.engine.ask("GET", &format!("/v{version}/containers/{id}/json"), None).await? {
            (StatusCode::OK, body) => Ok(Some(body)),
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (status, _) => Err(EngineError::Answer(format!("{status} to a look at container {id}"))),
        }
    }

    async fn add(&self, facts: &mut Facts, room: &mut Room, references: Vec<Reference>, tenant: &str) -> Result<(), EngineError> {
        let version = self.about().await?.version;
        for reference in references {
            let object = self.look_up(&reference, version, tenant).await?;
            let object = object.map(|object| Rc::new(Object { asked: reference.name.clone(), ..object }));
            if let Some(object) = &object {
                room.take(weight(object))?;
                let mut insert = |name: &str| facts.insert(Reference { kind: object.kind, name: name.to_owned() }, Some(Rc::clone(object)));
                // Once bound, the request names it by what it is forwarded as.
                insert(&object.id);
                if object.is_predefined_network() {
                    insert(&object.name);
                }
                if object.kind == ObjectKind::Image
                    && let Ok(name) = engine::reference::ImageReference::parse(&reference.name)
                {
                    insert(&name.to_string());
                }
            }
            facts.insert(reference, object);
        }
        Ok(())
    }

    async fn look_up(&self, reference: &Reference, version: Version, tenant: &str) -> Result<Option<Object>, EngineError> {
        // Of no object: the engine would clean the path, and answer to another one.
        if reference.name.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Ok(None);
        }
        let name = encode(&reference.name);
        let target = match reference.kind {
            ObjectKind::Container => format!("/v{version}/containers/{name}/json"),
            ObjectKind::Exec => format!("/v{version}/exec/{name}/json"),
            ObjectKind::Image => format!("/v{version}/images/{name}/json"),
            ObjectKind::Network => format!("/v{version}/networks/{name}"),
            ObjectKind::Volume => format!("/v{version}/volumes/{name}"),
        };
        match self.engine.ask("GET", &target, None).await? {
            (StatusCode::OK, body) if reference.kind == ObjectKind::Exec => self.exec(&body, version, tenant).await,
            (StatusCode::OK, body) => read(reference.kind, &body, tenant).map(Some),
            // 400: the name is ambiguous, or none that an object can have.
            (StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST, _) => Ok(None),
            (status, _) => Err(EngineError::Answer(format!("{status} to GET {target}"))),
        }
    }

    /// An exec is whose its container is.
    async fn exec(&self, body: &[u8], version: Version, tenant: &str) -> Result<Option<Object>, EngineError> {
        #[derive(Deserialize)]
        struct Exec {
            #[serde(rename = "ID")]
            id: String,
            #[serde(rename = "ContainerID")]
            container: String,
            #[serde(rename = "ProcessConfig")]
            process: ProcessConfig,
        }
        #[derive(Deserialize)]
        struct ProcessConfig {
            privileged: bool,
            #[serde(default)]
            user: String,
        }
        let Exec { id, container, process: ProcessConfig { privileged, user } } = parse(body)?;
        match self.engine.ask("GET", &format!("/v{version}/containers/{}/json", encode(&container)), None).await? {
            (StatusCode::OK, body) => {
                let container = read(ObjectKind::Container, &body, tenant)?;
                Ok(Some(Object { kind: ObjectKind::Exec, id: id.clone(), name: id, process: Process { privileged, user }, ..container }))
            }
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (status, _) => Err(EngineError::Answer(format!("{status} to a look at the container of an exec"))),
        }
    }
}

/// The parts of the engine's descriptions that facts are made of. All four kinds in one: a field that a kind has not is empty.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Description {
    #[serde(rename = "Id")]
    id: String,
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "Labels")]
    labels: Option<BTreeMap<String, String>>,
    #[serde(rename = "Config")]
    config: Option<Config>,
    #[serde(rename = "Mounts")]
    mounts: Option<Vec<MountPoint>>,
    #[serde(rename = "RepoTags")]
    tags: Option<Vec<String>>,
    #[serde(rename = "RepoDigests")]
    digests: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Config {
    #[serde(rename = "Healthcheck")]
    health: Option<Health>,
    #[serde(rename = "Labels")]
    labels: Option<BTreeMap<String, String>>,
    #[serde(rename = "OnBuild")]
    triggers: Option<Vec<String>>,
    #[serde(rename = "ExposedPorts")]
    ports: Option<BTreeMap<String, IgnoredAny>>,
    #[serde(rename = "Volumes")]
    volumes: Option<BTreeMap<String, IgnoredAny>>,
    #[serde(rename = "WorkingDir")]
    working_dir: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Health {
    #[serde(rename = "Test")]
    test: Option<Vec<String>>,
}

/// A mount of a container.
#[derive(Deserialize, Default)]
#[serde(default)]
struct MountPoint {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "Destination")]
    target: String,
    #[serde(rename = "Source")]
    source: String,
    #[serde(rename = "RW")]
    writable: bool,
    #[serde(rename = "Propagation")]
    propagation: String,
}

fn read(kind: ObjectKind, body: &[u8], tenant: &str) -> Result<Object, EngineError> {
    let Description { id, name, labels, config, mounts, tags, digests } = parse(body)?;
    let Config { health, labels: configured, triggers, ports, volumes, working_dir } = config.unwrap_or_default();
    let keys = |map: Option<BTreeMap<String, IgnoredAny>>| map.into_iter().flatten().map(|(key, _)| key).collect();
    let health = health.and_then(|health| health.test).unwrap_or_default();
    let brings = Brings { health, triggers: triggers.unwrap_or_default(), ports: keys(ports), volumes: keys(volumes), working_dir };
    let mut labels = labels.or(configured).unwrap_or_default();
    let owner = kind.owner(&labels, tenant);
    if labels.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > MOST_LABELS {
        // No grant by label covers it then.
        labels.clear();
    }
    let references: Vec<String> = tags.into_iter().chain(digests).flatten().collect();
    let name = name.strip_prefix('/').map_or_else(|| name.clone(), str::to_owned);
    let (id, name) = match kind {
        ObjectKind::Volume => (name.clone(), name),
        ObjectKind::Image => {
            let name = references.first().cloned().unwrap_or_else(|| id.clone());
            (id, name)
        }
        ObjectKind::Container | ObjectKind::Exec | ObjectKind::Network => (id, name),
    };
    if id.is_empty() {
        return Err(EngineError::Answer(format!("a {} without an id", kind.name())));
    }
    // Of the other kinds `Mounts` is something else, or nothing.
    let mounts = mounts.filter(|_| kind == ObjectKind::Container).unwrap_or_default();
    let mounted = mounts.iter().map(|mount| mount.target.clone()).collect();
    let binds = mounts.into_iter().filter(|mount| mount.kind == "bind").map(bind).collect();
    let process = Process::default();
    Ok(Object { kind, id, asked: name.clone(), name, owner, labels, references, brings, binds, mounted, process })
}

/// About how many bytes of memory what is told of an object takes.
fn weight(object: &Object) -> usize {
    let Object { labels, references, brings: Brings { health, triggers, ports, volumes, .. }, binds, mounted, .. } = object;
    let labels = labels.iter().flat_map(|(key, value)| [key, value]);
    let lists = references.iter().chain(health).chain(triggers).chain(ports).chain(volumes).chain(mounted);
    labels.chain(lists).chain(binds.iter().map(|bind| &bind.source)).map(|text| text.len() + TEXT).sum()
}

/// Bytes that a text takes besides its own, with its place in a list or map.
const TEXT: usize = 64;

/// Most bytes of an object's labels that are kept.
const MOST_LABELS: usize = 64 << 10;

fn bind(mount: MountPoint) -> Bind {
    let MountPoint { kind: _, target: _, source, writable, propagation } = mount;
    Bind { plain: false, source, writable, propagation: Bind::propagation(&propagation), relabel: false, create: false }
}

pub(crate) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, EngineError> {
    serde_json::from_slice(body).map_err(|error| EngineError::Answer(error.to_string()))
}

/// A name for a path: everything but what names are made of is escaped.
pub(crate) fn encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for b in name.bytes() {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'/' | b':') {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

/// The API version from which on a read-only bind mount is read-only with all that is mounted below it (moby `postContainersCreate`).
const RECURSIVE_READ_ONLY: u8 = 44;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_as_old_as_its_go() {
        for (go, old) in [("go1.19.8", true), ("go1.23", true), ("go1.24.4", false), ("go1.27rc1", false), ("go2.0", false), ("", false)] {
            let version = Version::MAX;
            assert_eq!(About { version, defaults: Defaults::default(), go: go.to_owned() }.removes_by_path(), old, "{go}");
        }
    }
}
