//! A request: decoded from what a client sent, bound to the objects that it means, encoded for the engine.

mod bind;

pub use bind::has_name;

use std::collections::BTreeSet;

use crate::demand::Demands;
use crate::demands;
use crate::error::DecodeError;
use crate::facts::{Facts, ObjectKind};
use crate::operation::{BodyKind, Family, Operation, OperationId};
use crate::path::{decode_segment, percent_encode, split};
use crate::query::Query;
use crate::reference::{ImageReference, is_hex};
use crate::types::container::{ALSO_IN_QUERY, ContainerCreate, ContainerUpdate};
use crate::types::exec::{ExecCreate, ExecStart, decode_exec};
use crate::types::network::{NetworkConnect, NetworkCreate, NetworkDisconnect};
use crate::types::registry::{AuthConfig, RegistryConfig, decode_header, unwrap_header, wrap_header};
use crate::types::strings::is_object_name;
use crate::types::volume::VolumeCreate;
use crate::version::Version;
use crate::wire::{Dropped, MOST_VALUES, Map, decode_json, has_too_many_values};

/// What a request line says: enough to know what the body must be.
#[derive(Debug, Clone, PartialEq)]
pub struct Route<'a> {
    /// The operation.
    pub operation: &'static Operation,
    /// The version that the path names.
    pub version: Option<Version>,
    /// The object that the path names.
    object: Option<String>,
    query: &'a str,
}

/// The headers that mean something to the engine. Every other one is left behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Headers<'a> {
    /// `Content-Type`.
    pub content_type: Option<&'a str>,
    /// `X-Registry-Auth`: credentials for a pull.
    pub registry_auth: Option<&'a str>,
    /// `X-Registry-Config`: credentials for a build.
    pub registry_config: Option<&'a str>,
}

/// A request of the Engine API, completely typed.
#[derive(Debug, Clone, PartialEq)]
pub struct Request<'a> {
    /// The version that the client speaks; `None`: the engine's own.
    pub version: Option<Version>,
    /// The operation.
    pub operation: &'static Operation,
    /// The object that the path names: as it was written, and as its id once it is bound.
    pub object: Option<String>,
    /// The query.
    pub query: Query<'a>,
    /// The body.
    pub body: Body<'a>,
    /// Credentials for a pull.
    pub registry_auth: Option<AuthConfig<'static>>,
    /// Credentials for a build.
    pub registry_config: Option<RegistryConfig<'static>>,
    /// Where the engine would make volumes that have no name, and nobody for their owner; known once it is bound.
    pub(crate) unnamed_volumes: BTreeSet<String>,
}

/// The body of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Body<'a> {
    /// See [`ContainerCreate`].
    ContainerCreate(Box<ContainerCreate<'a>>),
    /// See [`ContainerUpdate`].
    ContainerUpdate(Box<ContainerUpdate<'a>>),
    /// See [`ExecCreate`].
    ExecCreate(Box<ExecCreate<'a>>),
    /// See [`ExecStart`].
    ExecStart(ExecStart),
    /// See [`NetworkConnect`].
    NetworkConnect(Box<NetworkConnect<'a>>),
    /// See [`NetworkCreate`].
    NetworkCreate(Box<NetworkCreate<'a>>),
    /// See [`NetworkDisconnect`].
    NetworkDisconnect(NetworkDisconnect<'a>),
    /// Nothing.
    None,
    /// An archive that is streamed.
    Tar,
    /// See [`VolumeCreate`].
    VolumeCreate(VolumeCreate<'a>),
}

/// A request as an engine gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The method.
    pub method: &'static str,
    /// Path and query.
    pub target: String,
    /// Headers beside those of framing.
    pub headers: Vec<(&'static str, String)>,
    /// What follows.
    pub payload: Payload,
}

/// What follows the head of an encoded request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// A JSON document.
    Json(Vec<u8>),
    /// Nothing.
    None,
    /// The client's archive, streamed.
    Stream,
}

impl<'a> Route<'a> {
    /// Reads method and target.
    ///
    /// # Errors
    /// No engine routes it, or not in this spelling, or not in this version.
    pub fn parse(method: &str, target: &'a str) -> Result<Self, DecodeError> {
        let target = split(target)?;
        let (operation, object) = Operation::find(method, &target.segments).ok_or(DecodeError::NoSuchOperation)?;
        if let Some(version) = target.version
            && !(operation.since..=operation.until).contains(&version)
        {
            return Err(DecodeError::OperationVersion { operation: operation.id.name(), version, since: operation.since, until: operation.until });
        }
        // Escapes belong into the object's name alone; a literal segment that needed one was not found above.
        let object = match object {
            [] => None,
            raw => Some(parse_object(operation, &decode_segment(&raw.join("/"))?)?),
        };
        Ok(Self { operation, version: target.version, object, query: target.query })
    }

    /// Reads the rest of the request. `body` is the whole body, or empty where it is streamed.
    ///
    /// # Errors
    /// Something in it is unknown, ambiguous or malformed; says where.
    pub fn decode(self, headers: &Headers<'a>, body: &'a [u8]) -> Result<Request<'a>, DecodeError> {
        let Self { operation, version, object, query } = self;
        let unnamed_volumes = BTreeSet::new();
        if !operation.is_typed() {
            return Ok(Request {
                version,
                operation,
                object,
                query: Query::default(),
                body: Body::None,
                registry_auth: None,
                registry_config: None,
                unnamed_volumes,
            });
        }
        let dropped = dropped_keys(operation.id);
        let query = Query::decode(query, operation.query, dropped)?;
        let body = Body::decode(operation, headers, body)?;
        let registry_auth = match (operation.id, headers.registry_auth) {
            (OperationId::ImageCreate, Some(value)) if !value.is_empty() => decode_auth(value)?,
            _ => None,
        };
        let registry_config = match (operation.id, headers.registry_config) {
            (OperationId::ImageBuild, Some(value)) if !value.is_empty() => decode_registry_config(value)?,
            _ => None,
        };
        Ok(Request { version, operation, object, query, body, registry_auth, registry_config, unnamed_volumes })
    }
}

/// Keys of the query that real clients send and every engine ignores: docker-py's `trunc_cmd`, `only_ids` and `force` of a tag, dockerode's
/// `hijack`, `authconfig`, and its copy of the whole body of a create.
fn dropped_keys(operation: OperationId) -> &'static [&'static [&'static str]] {
    const KEYS: [(OperationId, &[&[&str]]); 6] = [
        (OperationId::ContainerAttach, &[&["hijack"]]),
        (OperationId::ContainerCreate, ALSO_IN_QUERY),
        (OperationId::ContainerList, &[&["trunc_cmd"]]),
        (OperationId::ImageCreate, &[&["authconfig"]]),
        (OperationId::ImageList, &[&["only_ids"]]),
        (OperationId::ImageTag, &[&["force"]]),
    ];
    KEYS.iter().find(|(id, _)| *id == operation).map_or(&[], |(_, keys)| *keys)
}

/// Whether a body where there is none is a JSON object with nothing but keys of the operation's query in it.
fn repeats_query(operation: &Operation, headers: &Headers<'_>, body: &[u8]) -> bool {
    let known = |key: &str| operation.query.iter().any(|param| param.key == key) || dropped_keys(operation.id).iter().any(|keys| keys.contains(&key));
    is_json(headers) && decode_json::<Map<'_, Dropped>>(body).is_ok_and(|map| map.keys().all(|key| known(key)))
}

fn is_json(headers: &Headers<'_>) -> bool {
    let media_type = headers.content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case("application/json")
}

/// What a name in a path may be. Names that no object can have are refused here: looking for them could only find something else.
fn parse_object(operation: &Operation, name: &str) -> Result<String, DecodeError> {
    let fits = match (operation.family, object_kind(operation)) {
        (_, Some(ObjectKind::Image)) => is_image_name(name),
        (_, Some(_)) => is_object_name(name),
        (_, None) => true,
    };
    if fits { Ok(name.to_owned()) } else { Err(DecodeError::Path("a name that no object can have")) }
}

/// An image reference, an id, or the beginning of one.
fn is_image_name(name: &str) -> bool {
    let hex = name.strip_prefix("sha256:").unwrap_or(name);
    (!hex.is_empty() && hex.len() <= 64 && hex.bytes().all(is_hex)) || ImageReference::parse(name).is_ok()
}

/// The kind of object that an operation's path names.
pub(crate) fn object_kind(operation: &Operation) -> Option<ObjectKind> {
    if !operation.path.contains('{') {
        return None;
    }
    match operation.family {
        Family::Container if operation.path.starts_with("/exec/") => Some(ObjectKind::Exec),
        Family::Container => Some(ObjectKind::Container),
        Family::Image => Some(ObjectKind::Image),
        Family::Network => Some(ObjectKind::Network),
        Family::Volume => Some(ObjectKind::Volume),
        Family::Plugin | Family::Swarm | Family::System => None,
    }
}

/// Clients that have no credentials send `{}` or `null`.
fn decode_auth(value: &str) -> Result<Option<AuthConfig<'static>>, DecodeError> {
    const NAME: &str = "X-Registry-Auth";
    let json = unwrap_header(NAME, value)?;
    let auth: Option<AuthConfig<'_>> = decode_header(NAME, &json)?;
    Ok(auth.map(own_auth))
}

fn decode_registry_config(value: &str) -> Result<Option<RegistryConfig<'static>>, DecodeError> {
    const NAME: &str = "X-Registry-Config";
    let json = unwrap_header(NAME, value)?;
    let config: Option<RegistryConfig<'_>> = decode_header(NAME, &json)?;
    Ok(config.map(|config| Map(config.0.into_iter().map(|(host, auth)| (host.into_owned(), own_auth(auth))).collect())))
}

fn own_auth(auth: AuthConfig<'_>) -> AuthConfig<'static> {
    let AuthConfig { username, password, auth, server_address, identity_token, registry_token, email } = auth;
    AuthConfig {
        username: username.map(crate::wire::Text::into_owned),
        password: password.map(crate::wire::Text::into_owned),
        auth: auth.map(crate::wire::Text::into_owned),
        server_address: server_address.map(crate::wire::Text::into_owned),
        identity_token: identity_token.map(crate::wire::Text::into_owned),
        registry_token: registry_token.map(crate::wire::Text::into_owned),
        email,
    }
}

impl<'a> Body<'a> {
    fn decode(operation: &Operation, headers: &Headers<'_>, body: &'a [u8]) -> Result<Self, DecodeError> {
        match operation.body {
            BodyKind::Tar => return Ok(Self::Tar),
            _ if has_too_many_values(body) => {
                return Err(DecodeError::Body { at: String::new(), why: format!("more than {MOST_VALUES} values") });
            }
            // Some clients send `{}` or `null` where there is no body, and dockerode the query once more; engines read none of it.
            BodyKind::None | BodyKind::Untyped if matches!(body.trim_ascii(), b"" | b"{}" | b"null") || repeats_query(operation, headers, body) => {
                return Ok(Self::None);
            }
            BodyKind::None | BodyKind::Untyped => return Err(DecodeError::BodyNotExpected(operation.id.name())),
            BodyKind::Json => {}
        }
        if !is_json(headers) {
            let given = headers.content_type.unwrap_or_default().to_owned();
            return Err(DecodeError::ContentType { expected: "application/json", given });
        }
        if body.trim_ascii() == b"null" {
            return Err(DecodeError::Body { at: String::new(), why: "an object is needed, not `null`".to_owned() });
        }
        #[expect(clippy::wildcard_enum_match_arm, reason = "an operation without a typed body is refused")]
        Ok(match operation.id {
            OperationId::ContainerCreate => Self::ContainerCreate(Box::new(decode_json(body)?)),
            OperationId::ContainerUpdate => Self::ContainerUpdate(Box::new(decode_json(body)?)),
            OperationId::ContainerExec => Self::ExecCreate(Box::new(decode_exec(body)?)),
            OperationId::ExecStart => Self::ExecStart(decode_json(body)?),
            OperationId::NetworkConnect => Self::NetworkConnect(Box::new(decode_json(body)?)),
            OperationId::NetworkCreate => Self::NetworkCreate(Box::new(decode_json(body)?)),
            OperationId::NetworkDisconnect => Self::NetworkDisconnect(decode_json(body)?),
            OperationId::VolumeCreate => Self::VolumeCreate(decode_json(body)?),
            _ => return Err(DecodeError::BodyNotExpected(operation.id.name())),
        })
    }

    fn encode(&self) -> Payload {
        let json = |bytes: Result<Vec<u8>, serde_json::Error>| Payload::Json(bytes.unwrap_or_default());
        match self {
            Self::ContainerCreate(body) => json(serde_json::to_vec(body)),
            Self::ContainerUpdate(body) => json(serde_json::to_vec(body)),
            Self::ExecCreate(body) => json(serde_json::to_vec(body)),
            Self::ExecStart(body) => json(serde_json::to_vec(body)),
            Self::NetworkConnect(body) => json(serde_json::to_vec(body)),
            Self::NetworkCreate(body) => json(serde_json::to_vec(body)),
            Self::NetworkDisconnect(body) => json(serde_json::to_vec(body)),
            Self::None => Payload::None,
            Self::Tar => Payload::Stream,
            Self::VolumeCreate(body) => json(serde_json::to_vec(body)),
        }
    }
}

impl Request<'_> {
    /// Everything that the request would make the engine do. The request must be bound to the facts.
    #[must_use]
    pub fn demands(&self, facts: &Facts) -> Demands {
        demands::of(self, facts)
    }

    /// Whether a build is to take its base images from their registries anew (moby `httputils.BoolValue`).
    #[must_use]
    pub fn pulls(&self) -> bool {
        let word = self.query.text("pull").to_ascii_lowercase();
        self.operation.id == OperationId::ImageBuild && !matches!(word.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// The pull of a build's base image, with the credentials that the build has for its registry; no platform: the engine's own.
    #[must_use]
    pub fn pull(&self, image: &ImageReference, platform: &str, version: Version) -> Encoded {
        let mut target = format!("/v{version}/images/create?fromImage=");
        percent_encode(&image.repository(), b"", &mut target);
        target.push_str("&tag=");
        percent_encode(image.digest().or(image.effective_tag()).unwrap_or_default(), b"", &mut target);
        if !platform.is_empty() {
            target.push_str("&platform=");
            percent_encode(platform, b"", &mut target);
        }
        // Docker's own registry has a name of its own among credentials (moby registry/config.go, IndexServer).
        let keys = if image.domain() == "docker.io" { vec!["https://index.docker.io/v1/", "docker.io"] } else { vec![image.domain()] };
        let auth = self.registry_config.iter().flat_map(|config| config.iter()).find(|(host, _)| keys.contains(&host.as_str())).map(|(_, auth)| auth);
        let headers = auth.map(|auth| ("X-Registry-Auth", wrap_header(auth))).into_iter().collect();
        Encoded { method: "POST", target, headers, payload: Payload::None }
    }

    /// The request as an engine gets it, in the version that both speak.
    #[must_use]
    pub fn encode(&self, version: Version) -> Encoded {
        let mut target = format!("/v{version}");
        for part in self.operation.path.split('/').skip(1) {
            target.push('/');
            match &self.object {
                Some(object) if part.starts_with('{') => percent_encode(object, b"/:", &mut target),
                _ => target.push_str(part),
            }
        }
        // What a build would pull is pulled before it; its Dockerfile names ids, which no registry has.
        self.query.encode(if self.operation.id == OperationId::ImageBuild { &["pull"] } else { &[] }, &mut target);
        let payload = self.body.encode();
        let mut headers = Vec::new();
        match payload {
            Payload::Json(_) => headers.push(("Content-Type", "application/json".to_owned())),
            Payload::Stream => headers.push(("Content-Type", "application/x-tar".to_owned())),
            Payload::None => {}
        }
        headers.extend(self.registry_auth.as_ref().map(|auth| ("X-Registry-Auth", wrap_header(auth))));
        headers.extend(self.registry_config.as_ref().map(|config| ("X-Registry-Config", wrap_header(config))));
        Encoded { method: self.operation.method, target, headers, payload }
    }
}
