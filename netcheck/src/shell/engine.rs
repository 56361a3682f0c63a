//! Asking the engine what it made: three kinds of `GET` over its unix socket, or TLS. Its answers are facts for names and grouping.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use netcheck::snapshot::{Attachment, Capabilities, Container, Engine, Mac, Network, PublishedPort, Subnet};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::{TcpStream, UnixStream};

use super::tls::{Tls, TlsError};

/// The API version that is asked for, unless the engine is older or has dropped it: its answers are what the types here say.
const API: (u32, u32) = (1, 44);
/// An answer larger than this is not read: ten thousand containers are far below.
const LARGEST: usize = 64 * 1024 * 1024;
/// Inspections that are under way at the same time.
const CONNECTIONS: usize = 4;

/// Why the engine could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    /// Nothing listens there.
    #[error("cannot connect to the engine at {path}: {source}")]
    Connect {
        /// The socket, or host and port.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The connection broke, or it does not speak HTTP.
    #[error("the engine's answer to GET {path} is not HTTP: {source}")]
    Http {
        /// What was asked.
        path: String,
        /// Why.
        #[source]
        source: hyper::Error,
    },
    /// It is too long, or ended early.
    #[error("the engine's answer to GET {path} could not be read: {reason}")]
    Body {
        /// What was asked.
        path: String,
        /// Why.
        reason: String,
    },
    /// It said no.
    #[error("the engine answered GET {path} with {status}: {message}")]
    Status {
        /// What was asked.
        path: String,
        /// Its status.
        status: StatusCode,
        /// Its message.
        message: String,
    },
    /// It took too long: it does not listen to us, or does not come to an end.
    #[error("the engine at {at} did not answer {what} within {} s (--engine-timeout)", patience.as_secs())]
    Slow {
        /// The socket, or host and port.
        at: String,
        /// What was asked.
        what: String,
        /// How long it had.
        patience: Duration,
    },
    /// It is not the JSON that the API describes.
    #[error("the engine's answer to GET {path} is not understood: {source}")]
    Json {
        /// What was asked.
        path: String,
        /// Where.
        #[source]
        source: serde_json::Error,
    },
    /// The runtime could not be started.
    #[error("cannot start the client: {0}")]
    Runtime(#[source] std::io::Error),
}

/// Where the engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// There is none: namespaces are found from the kernel alone.
    None,
    /// Behind TLS: host and port. Its certificates are named apart.
    Tls(String, u16),
    /// A unix socket.
    Unix(PathBuf),
}

/// How the engine is connected to.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    way: Way,
    /// How long it has for each answer, from its first byte to its last, and for the handshake.
    patience: Duration,
}

#[derive(Debug, Clone)]
enum Way {
    /// By TLS.
    Tls(Tls),
    /// By a unix socket.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::None);
        }
        if let Some(path) = text.strip_prefix("unix://").filter(|path| path.starts_with('/')) {
            return Ok(Self::Unix(path.into()));
        }
        let expected = || "expected unix:///path/to/docker.sock, tls://host:port or none".to_owned();
        let (host, port) = text.strip_prefix("tls://").and_then(|rest| rest.rsplit_once(':')).ok_or_else(|| match text.strip_prefix("tcp://") {
            Some(rest) => format!("the engine would be asked without TLS; if it has TLS, write tls://{rest}"),
            None => expected(),
        })?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().ok().filter(|port| *port != 0 && !host.is_empty()).ok_or_else(expected)?;
        Ok(Self::Tls(host.to_owned(), port))
    }
}

impl Address {
    /// The engine that `docker` would use: `DOCKER_HOST`, the rootless socket, the system's, Podman's.
    ///
    /// # Errors
    /// When `DOCKER_HOST` names one that cannot be asked: another would be the wrong one.
    pub(crate) fn find() -> Result<Self, String> {
        match std::env::var("DOCKER_HOST") {
            Ok(host) if !host.is_empty() => return docker_host(&host).map_err(|error| format!("DOCKER_HOST: {error}")),
            _ => {}
        }
        let runtime = std::env::var("XDG_RUNTIME_DIR").unwrap_or_default();
        let candidates = [
            format!("{runtime}/docker.sock"),
            "/var/run/docker.sock".to_owned(),
            format!("{runtime}/podman/podman.sock"),
            "/run/podman/podman.sock".to_owned(),
        ];
        let found = candidates.iter().map(PathBuf::from).find(|path| path.exists());
        Ok(found.map_or(Self::None, Self::Unix))
    }
}

impl Address {
    /// What connects to it; none when there is no engine. Certificates are read here.
    pub(crate) fn endpoint(self, files: &super::tls::Files, patience: Duration) -> Result<Option<Endpoint>, TlsError> {
        let way = match self {
            Self::None => return Ok(None),
            Self::Tls(host, port) => Way::Tls(Tls::new(&host, port, files)?),
            Self::Unix(path) => Way::Unix(path),
        };
        Ok(Some(Endpoint { way, patience }))
    }
}

/// `tcp://` is TLS when `DOCKER_TLS_VERIFY` says so, as `docker` has it.
fn docker_host(host: &str) -> Result<Address, String> {
    let verify = std::env::var("DOCKER_TLS_VERIFY").is_ok_and(|value| !value.is_empty());
    match host.strip_prefix("tcp://").filter(|_| verify) {
        Some(rest) => format!("tls://{rest}").parse(),
        None => host.parse(),
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.way {
            Way::Tls(tls) => tls.fmt(f),
            Way::Unix(path) => path.display().fmt(f),
        }
    }
}

impl Endpoint {
    /// Waits as long as the engine has, and no longer.
    async fn patiently<T>(&self, what: &str, answer: impl Future<Output = Result<T, EngineError>>) -> Result<T, EngineError> {
        let slow = |_| EngineError::Slow { at: self.to_string(), what: what.to_owned(), patience: self.patience };
        tokio::time::timeout(self.patience, answer).await.map_err(slow)?
    }
}

/// Asks for networks and running containers.
pub(crate) fn ask(at: &Endpoint) -> Result<Engine, EngineError> {
    run(engine(at))
}

/// The ids of the containers that run, to see which of them still do.
pub(crate) fn running(at: &Endpoint) -> Result<Vec<String>, EngineError> {
    run(async {
        let mut connection = connect(at).await?;
        let version: Version = connection.get("/version").await?;
        let list: Vec<Listed> = connection.get(&format!("{}/containers/json", version.api())).await?;
        Ok(list.into_iter().map(|listed| listed.id).collect())
    })
}

fn run<T>(asked: impl Future<Output = Result<T, EngineError>>) -> Result<T, EngineError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(EngineError::Runtime)?;
    let answer = runtime.block_on(asked);
    // A name that is still looked up is not waited for.
    runtime.shutdown_background();
    answer
}

/// A connection to the engine.
struct Connection<'a> {
    at: &'a Endpoint,
    sender: SendRequest<Empty<Bytes>>,
}

async fn engine(at: &Endpoint) -> Result<Engine, EngineError> {
    let mut connection = connect(at).await?;
    let version: Version = connection.get("/version").await?;
    let api = version.api();
    let networks: Vec<RawNetwork> = connection.get(&format!("{api}/networks")).await?;
    let list: Vec<Listed> = connection.get(&format!("{api}/containers/json")).await?;
    let mut containers = inspect_all(at, &api, list).await?;
    containers.sort_by(|a, b| a.name.cmp(&b.name));
    let mut networks: Vec<Network> = networks.into_iter().map(Network::from).collect();
    networks.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Engine { version: version.version, containers, networks })
}

async fn inspect_all(at: &Endpoint, api: &str, list: Vec<Listed>) -> Result<Vec<Container>, EngineError> {
    let share = list.len().div_ceil(CONNECTIONS).max(1);
    let mut tasks = tokio::task::JoinSet::new();
    for part in list.chunks(share) {
        let ids: Vec<String> = part.iter().map(|listed| listed.id.clone()).collect();
        let (at, api) = (at.clone(), api.to_owned());
        tasks.spawn(async move { inspect(&at, &api, ids).await });
    }
    let mut containers = Vec::with_capacity(list.len());
    while let Some(result) = tasks.join_next().await {
        let part = result.map_err(|error| EngineError::Body { path: "/containers".to_owned(), reason: error.to_string() })?;
        containers.extend(part?);
    }
    Ok(containers)
}

/// Inspects some; one that is gone meanwhile is left out.
async fn inspect(at: &Endpoint, api: &str, ids: Vec<String>) -> Result<Vec<Container>, EngineError> {
    let mut connection = connect(at).await?;
    let mut containers = Vec::with_capacity(ids.len());
    for id in ids {
        match connection.get::<Inspected>(&format!("{api}/containers/{id}/json")).await {
            Ok(inspected) if inspected.state.pid != 0 => containers.push(inspected.into()),
            Ok(_) | Err(EngineError::Status { status: StatusCode::NOT_FOUND, .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(containers)
}

async fn connect(at: &Endpoint) -> Result<Connection<'_>, EngineError> {
    let refused = |source| EngineError::Connect { path: at.to_string(), source };
    let sender = at.patiently("the connection", async {
        match &at.way {
            Way::Unix(path) => speak(at, UnixStream::connect(path).await.map_err(refused)?).await,
            Way::Tls(tls) => {
                let stream = TcpStream::connect((tls.host.as_str(), tls.port)).await.map_err(refused)?;
                speak(at, tls.handshake(stream).await.map_err(refused)?).await
            }
        }
    });
    Ok(Connection { at, sender: sender.await? })
}

async fn speak<S>(at: &Endpoint, stream: S) -> Result<SendRequest<Empty<Bytes>>, EngineError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|source| EngineError::Http { path: at.to_string(), source })?;
    // Its errors come out of the requests that are under way.
    tokio::spawn(connection);
    Ok(sender)
}

impl Connection<'_> {
    async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, EngineError> {
        let (status, body) = self.at.patiently(&format!("GET {path}"), exchange(&mut self.sender, path)).await?;
        let path = path.to_owned();
        if !status.is_success() {
            return Err(EngineError::Status { path, status, message: message(&body) });
        }
        serde_json::from_slice(&body).map_err(|source| EngineError::Json { path, source })
    }
}

/// A request and the whole answer.
async fn exchange(sender: &mut SendRequest<Empty<Bytes>>, path: &str) -> Result<(StatusCode, Bytes), EngineError> {
    let named = || path.to_owned();
    let request = Request::get(path).header("host", "engine").body(Empty::new());
    let request = request.map_err(|error| EngineError::Body { path: named(), reason: error.to_string() })?;
    let ready = sender.ready().await;
    ready.map_err(|source| EngineError::Http { path: named(), source })?;
    let response = sender.send_request(request).await.map_err(|source| EngineError::Http { path: named(), source })?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LARGEST).collect().await;
    let body = body.map_err(|error| EngineError::Body { path: named(), reason: error.to_string() })?.to_bytes();
    Ok((status, body))
}

fn message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Message {
        message: String,
    }
    serde_json::from_slice::<Message>(body).map_or_else(|_| String::new(), |said| said.message)
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Version {
    version: String,
    api_version: String,
    #[serde(rename = "MinAPIVersion")]
    min_api_version: String,
}

impl Version {
    /// The prefix of paths: the version that is asked for, within what the engine has.
    fn api(&self) -> String {
        let parse = |text: &str| {
            let (major, minor) = text.split_once('.')?;
            Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
        };
        let newest = parse(&self.api_version).unwrap_or(API);
        let oldest = parse(&self.min_api_version).unwrap_or((1, 0));
        let (major, minor) = API.min(newest).max(oldest);
        format!("/v{major}.{minor}")
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
}

/// `GET /containers/{id}/json`, as far as it matters here.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Inspected {
    id: String,
    name: String,
    state: State,
    config: Config,
    host_config: HostConfig,
    network_settings: NetworkSettings,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct State {
    pid: u32,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    image: String,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HostConfig {
    network_mode: String,
    privileged: bool,
    cap_add: Option<Vec<String>>,
    cap_drop: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkSettings {
    sandbox_key: String,
    ports: Option<BTreeMap<String, Option<Vec<Binding>>>>,
    networks: Option<BTreeMap<String, Option<RawAttachment>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Binding {
    #[serde(default)]
    host_ip: String,
    #[serde(default)]
    host_port: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawAttachment {
    #[serde(rename = "NetworkID")]
    network_id: String,
    #[serde(rename = "IPAddress")]
    ip_address: String,
    #[serde(rename = "GlobalIPv6Address")]
    global_ipv6_address: String,
    #[serde(rename = "MacAddress")]
    mac_address: String,
}

impl From<Inspected> for Container {
    fn from(inspected: Inspected) -> Self {
        let labels = inspected.config.labels.unwrap_or_default();
        let attachments = inspected.network_settings.networks.unwrap_or_default();
        Self {
            id: inspected.id,
            name: inspected.name.trim_start_matches('/').to_owned(),
            image: inspected.config.image,
            pid: inspected.state.pid,
            namespace: None,
            sandbox_key: inspected.network_settings.sandbox_key,
            capabilities: capabilities(&inspected.host_config),
            network_mode: inspected.host_config.network_mode,
            project: labels.get("com.docker.compose.project").cloned(),
            service: labels.get("com.docker.compose.service").cloned(),
            labels,
            attachments: attachments.into_iter().map(|(name, raw)| attachment(name, &raw.unwrap_or_default())).collect(),
            published: published(inspected.network_settings.ports.unwrap_or_default()),
        }
    }
}

fn attachment(network: String, raw: &RawAttachment) -> Attachment {
    Attachment {
        network,
        network_id: raw.network_id.clone(),
        ipv4: raw.ip_address.parse().ok(),
        ipv6: raw.global_ipv6_address.parse().ok(),
        mac: raw.mac_address.parse::<Mac>().ok(),
    }
}

fn published(ports: BTreeMap<String, Option<Vec<Binding>>>) -> Vec<PublishedPort> {
    let mut published = Vec::new();
    for (port, bindings) in ports {
        let (number, protocol) = port.split_once('/').unwrap_or((&port, "tcp"));
        let Ok(container_port) = number.parse() else { continue };
        for binding in bindings.unwrap_or_default() {
            let Ok(host_port) = binding.host_port.parse() else { continue };
            let any = IpAddr::from([0, 0, 0, 0]);
            let host_address = binding.host_ip.parse().unwrap_or(any);
            let protocol = protocol.to_owned();
            published.push(PublishedPort { protocol, container_port, host_address, host_port });
        }
    }
    published.sort();
    published
}

/// NET_RAW is among the engine's default capabilities, NET_ADMIN is not.
fn capabilities(host: &HostConfig) -> Capabilities {
    let listed = |list: &Option<Vec<String>>, name: &str| {
        let same = |entry: &String| entry.to_uppercase().trim_start_matches("CAP_") == name;
        list.as_ref().is_some_and(|list| list.iter().any(same))
    };
    let has = |name, default: bool| {
        if host.privileged || listed(&host.cap_add, name) {
            return true;
        }
        if listed(&host.cap_add, "ALL") {
            return !listed(&host.cap_drop, name);
        }
        default && !listed(&host.cap_drop, name) && !listed(&host.cap_drop, "ALL")
    };
    Capabilities { net_raw: has("NET_RAW", true), net_admin: has("NET_ADMIN", false) }
}

/// `GET /networks`, as far as it matters here.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawNetwork {
    id: String,
    name: String,
    driver: String,
    scope: String,
    internal: bool,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    options: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
    #[serde(rename = "IPAM")]
    ipam: Ipam,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Ipam {
    config: Option<Vec<RawSubnet>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawSubnet {
    subnet: String,
    gateway: String,
}

impl From<RawNetwork> for Network {
    fn from(raw: RawNetwork) -> Self {
        let options = raw.options.unwrap_or_default();
        let option = |name: &str| options.get(&format!("com.docker.network.bridge.{name}"));
        // The engine names a bridge after the first twelve digits of the network's id.
        let default_bridge = || format!("br-{}", raw.id.get(..12).unwrap_or(&raw.id));
        let bridge = (raw.driver == "bridge").then(|| option("name").cloned().unwrap_or_else(default_bridge));
        let subnets = raw.ipam.config.unwrap_or_default();
        Self {
            icc: option("enable_icc").is_none_or(|value| value != "false"),
            bridge,
            id: raw.id.clone(),
            name: raw.name,
            driver: raw.driver,
            scope: raw.scope,
            internal: raw.internal,
            ipv6: raw.enable_ipv6,
            labels: raw.labels.unwrap_or_default(),
            subnets: subnets
                .iter()
                .filter_map(|raw| {
                    let subnet = raw.subnet.parse().ok()?;
                    Some(Subnet { subnet, gateway: raw.gateway.parse().ok() })
                })
                .collect(),
            options,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_follow_the_engines_rules() {
        let list = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        let cases = [
            ("default", None, None, false, (true, false)),
            ("privileged", None, None, true, (true, true)),
            ("drop all", None, list(&["ALL"]), false, (false, false)),
            ("drop one", None, list(&["CAP_NET_RAW"]), false, (false, false)),
            ("add one", list(&["net_admin"]), None, false, (true, true)),
            ("add all but", list(&["ALL"]), list(&["NET_RAW"]), false, (false, true)),
            ("drop all, add one", list(&["NET_RAW"]), list(&["ALL"]), false, (true, false)),
        ];
        for (name, cap_add, cap_drop, privileged, (net_raw, net_admin)) in cases {
            let host = HostConfig { privileged, cap_add, cap_drop, ..HostConfig::default() };
            assert_eq!(capabilities(&host), Capabilities { net_raw, net_admin }, "{name}");
        }
    }

    #[test]
    fn the_api_version_is_within_what_the_engine_has() {
        let cases =
            [("1.41", "1.12", "/v1.41"), ("1.45", "1.24", "/v1.44"), ("1.52", "1.44", "/v1.44"), ("1.60", "1.50", "/v1.50"), ("", "", "/v1.44")];
        for (newest, oldest, expected) in cases {
            let version = Version { api_version: newest.to_owned(), min_api_version: oldest.to_owned(), ..Version::default() };
            assert_eq!(version.api(), expected, "{newest} {oldest}");
        }
    }

    #[test]
    fn an_inspection_with_nulls_is_read() {
        let json = r#"{"Id":"abc","Name":"/web","State":{"Pid":7},"Config":{"Image":"nginx","Labels":null},
            "HostConfig":{"NetworkMode":"na","CapAdd":null,"CapDrop":null,"Privileged":false},
            "NetworkSettings":{"SandboxKey":"/var/run/docker/netns/1","Ports":{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"}],"53/udp":null},
            "Networks":{"na":{"NetworkID":"n","IPAddress":"10.1.1.3","GlobalIPv6Address":"","MacAddress":"02:42:0a:01:01:03"}}}}"#;
        let container = Container::from(serde_json::from_str::<Inspected>(json).unwrap());
        assert_eq!(container.name, "web");
        assert_eq!(container.published.len(), 1);
        assert_eq!(container.attachments[0].ipv4, Some(IpAddr::from([10, 1, 1, 3])));
    }
}
