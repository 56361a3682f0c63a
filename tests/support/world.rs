//! A plausible engine for the stub: the fixtures of the corpus, and answers of the right shape for everything else.
//!
//! It does what it is asked, whoever asks: whatever a case must not reach is the proxy's to stop.

use std::sync::{Arc, Mutex};

use serde_json::{Map, Value, json};

use crate::corpus::Values;
use crate::record::Request;
use crate::stub::Reply;

/// The owner label.
pub const LABEL: &str = "seawall.tenant";

/// The engine's objects: full JSON as its inspect has it.
#[derive(Debug, Default)]
struct Objects {
    containers: Vec<Value>,
    execs: Vec<Value>,
    images: Vec<Value>,
    networks: Vec<Value>,
    volumes: Vec<Value>,
    made: u32,
}

/// The engine. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct World {
    objects: Arc<Mutex<Objects>>,
    /// Any name that is asked for exists, and belongs to this tenant.
    obliging: Option<String>,
}

impl World {
    /// The fixtures of the corpus. The client's own objects belong to `tenant`.
    #[must_use]
    pub fn with_fixtures(tenant: &str) -> Self {
        let world = Self::default();
        {
            let mut objects = world.objects.lock().unwrap();
            for name in ["bridge", "host", "none"] {
                objects.networks.push(network(name, &json!({ "Driver": if name == "none" { "null" } else { name } })));
            }
            for name in ["ci-own-net", "ci-own-net2", "ci-foreign-net"] {
                objects.networks.push(network(name, &json!({ "Labels": labels(name, tenant) })));
            }
            for name in ["ci-own-vol", "ci-foreign-vol"] {
                objects.volumes.push(volume(name, &json!({ "Labels": labels(name, tenant) })));
            }
            for name in ["cifixture:1", "evil/img:1"] {
                objects.images.push(image(name));
            }
            for (name, running) in [("ci-own1", true), ("ci-own2", false), ("ci-foreign1", true)] {
                let side = if name.contains("own") { "own" } else { "foreign" };
                let body = json!({ "Image": "docker.io/library/cifixture:1", "Cmd": ["sleep", "100000"], "OpenStdin": true, "Labels": labels(name, tenant),
                    "Env": if side == "own" { json!([]) } else { json!(["SECRET=foreign-secret"]) },
                    "HostConfig": { "NetworkMode": format!("ci-{side}-net"), "Binds": [format!("ci-{side}-vol:/v")] } });
                let mut made = container(name, &body);
                made["State"] = state(running);
                objects.containers.push(made);
            }
            for (name, of) in [("OWN_EXEC", "ci-own1"), ("OWN_EXEC2", "ci-own1"), ("OWN_EXEC3", "ci-own1"), ("FOREIGN_EXEC", "ci-foreign1")] {
                objects.execs.push(exec(name, of));
            }
        }
        world
    }

    /// The fixtures again, as they were.
    pub fn reset(&self, tenant: &str) {
        let fresh = Self::with_fixtures(tenant);
        *self.objects.lock().unwrap() = std::mem::take(&mut *fresh.objects.lock().unwrap());
    }

    /// An engine on which every name that is asked for exists, and belongs to `tenant`.
    #[must_use]
    pub fn obliging(tenant: &str) -> Self {
        Self { objects: Arc::default(), obliging: Some(tenant.to_owned()) }
    }

    /// What the corpus' placeholders stand for.
    #[must_use]
    pub fn values(&self, unique: &str) -> Values {
        let image = id("image cifixture:1");
        let evil = id("image evil/img:1");
        let (own, foreign) = (id("ci-own1"), id("ci-foreign1"));
        let net = id("ci-foreign-net");
        let pairs = [
            ("N", unique.to_owned()),
            ("IMAGE", "docker.io/library/cifixture:1".to_owned()),
            ("IMAGE_ID", format!("sha256:{image}")),
            ("EVIL_IMAGE", "evil/img:1".to_owned()),
            ("EVIL_IMAGE_ID", format!("sha256:{evil}")),
            ("EVIL_IMAGE_SHORT", evil[..12].to_owned()),
            ("EVIL_IMAGE_PREFIX", evil[..5].to_owned()),
            ("EVIL_IMAGE_HEX", evil),
            ("OWN_NAME", "ci-own1".to_owned()),
            ("OWN_SHORT", own[..12].to_owned()),
            ("OWN_ID", own),
            ("OWN2_NAME", "ci-own2".to_owned()),
            ("FOREIGN_NAME", "ci-foreign1".to_owned()),
            ("FOREIGN_SHORT", foreign[..12].to_owned()),
            ("FOREIGN_PREFIX", foreign[..7].to_owned()),
            ("FOREIGN_ID", foreign),
            ("OWN_NET", "ci-own-net".to_owned()),
            ("OWN_NET_ID", id("ci-own-net")),
            ("OWN_NET2", "ci-own-net2".to_owned()),
            ("FOREIGN_NET", "ci-foreign-net".to_owned()),
            ("FOREIGN_NET_PREFIX", net[..7].to_owned()),
            ("FOREIGN_NET_ID", net),
            ("HOST_NET_ID", id("host")),
            ("OWN_VOL", "ci-own-vol".to_owned()),
            ("FOREIGN_VOL", "ci-foreign-vol".to_owned()),
            ("OWN_EXEC", id("OWN_EXEC")),
            ("OWN_EXEC2", id("OWN_EXEC2")),
            ("OWN_EXEC3", id("OWN_EXEC3")),
            ("FOREIGN_EXEC", id("FOREIGN_EXEC")),
            ("OWNER_LABEL", LABEL.to_owned()),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The answer to a request.
    #[must_use]
    pub fn answer(&self, request: &Request) -> Reply {
        let route = request.route();
        let parts: Vec<&str> = route.trim_start_matches('/').split('/').collect();
        let mut objects = self.objects.lock().unwrap();
        let world = &mut View { objects: &mut objects, obliging: self.obliging.as_deref() };
        match (request.method.as_str(), parts.as_slice()) {
            (method @ ("GET" | "HEAD"), _) => world.read(method, &parts, request),
            ("POST", [kind @ ("containers" | "networks" | "volumes"), "create"]) => world.create(kind, request),
            ("POST", ["containers", name, "exec"]) => world.create_exec(name),
            ("POST", ["containers", _, "attach"]) | ("POST", ["exec", _, "start"]) if request.upgrades() => greeting(),
            ("POST", ["containers", _, "wait"]) => Reply::Json(200, json!({ "StatusCode": 0 })),
            ("POST", ["containers", _, "update"]) => Reply::Json(200, json!({ "Warnings": [] })),
            ("POST", ["containers", _, "start" | "stop" | "restart" | "kill" | "rename" | "pause" | "unpause"]) => Reply::status(204),
            ("POST", ["images", "create"]) | ("POST", ["build"]) => Reply::Chunked(vec![
                b"{\"status\":\"working\"}\r\n".to_vec(),
                format!("{{\"aux\":{{\"ID\":\"sha256:{}\"}}}}\r\n", id("image cifixture:1")).into_bytes(),
            ]),
            ("POST", [_, "prune"]) => Reply::Json(200, json!({ "SpaceReclaimed": 0 })),
            ("DELETE", [kind @ ("containers" | "networks" | "volumes"), name]) => world.remove(kind, name),
            ("DELETE", ["images", ..]) => Reply::Json(200, json!([])),
            (_, _) => Reply::status(200),
        }
    }
}

/// The objects while one request is answered.
struct View<'a> {
    objects: &'a mut Objects,
    obliging: Option<&'a str>,
}

impl View<'_> {
    fn read(&self, method: &str, parts: &[&str], request: &Request) -> Reply {
        let found = match parts {
            ["_ping"] => return ping(method),
            ["version"] => version(),
            ["info"] => {
                json!({ "ID": "STUB", "ServerVersion": "26.1.5", "OSType": "linux", "Driver": "overlay2", "Labels": [], "Warnings": null, "IndexServerAddress": "https://index.docker.io/v1/" })
            }
            ["containers", "json"] => {
                let all = request.query("all").is_some();
                let shown: Vec<Value> = self.objects.containers.iter().filter(|one| all || one["State"]["Running"] == true).cloned().collect();
                listed(&shown, request, summary)
            }
            ["images", "json"] => listed(
                &self.objects.images,
                request,
                |image| json!({ "Id": image["Id"], "RepoTags": image["RepoTags"], "Labels": image["Config"]["Labels"], "ParentId": "", "Size": 1, "Created": 1 }),
            ),
            ["networks"] => listed(&self.objects.networks, request, Clone::clone),
            ["volumes"] => {
                json!({ "Volumes": listed(&self.objects.volumes, request, Clone::clone), "Warnings": null })
            }
            ["containers", name, "json"] => {
                return self.one(&self.objects.containers, name, "container", container);
            }
            ["networks", name] => {
                return self.one(&self.objects.networks, name, "network", network);
            }
            ["volumes", name] => return self.one(&self.objects.volumes, name, "volume", volume),
            ["exec", name, "json"] => {
                return self.one(&self.objects.execs, name, "exec instance", |name, _| exec(name, "ci-own1"));
            }
            ["images", middle @ .., "json"] => {
                return self.one(&self.objects.images, &middle.join("/"), "image", |name, _| image(name));
            }
            ["images", .., "history"] => {
                json!([{ "Id": "x", "Created": 1, "CreatedBy": "", "Size": 1, "Tags": null, "Comment": "" }])
            }
            ["containers", _, "logs" | "export"] | ["events"] | ["containers", _, "stats"] => {
                return Reply::Chunked(vec![b"{}\n".to_vec()]);
            }
            ["containers", name, "archive"] => return self.archive(method, name),
            ["containers", _, "top"] => json!({ "Titles": ["PID"], "Processes": [["4242"]] }),
            ["containers", _, "changes"] => json!([]),
            _ => json!({}),
        };
        Reply::Json(200, found)
    }

    fn one(&self, all: &[Value], name: &str, kind: &str, make: impl Fn(&str, &Value) -> Value) -> Reply {
        let known = find(all, name).map(|at| all[at].clone());
        let obliged = || self.obliging.map(|tenant| make(name, &json!({ "Labels": { LABEL: tenant } })));
        known.or_else(obliged).map_or_else(|| Reply::error(404, &format!("No such {kind}: {name}")), |found| Reply::Json(200, found))
    }

    fn archive(&self, method: &str, name: &str) -> Reply {
        if self.obliging.is_none() && find(&self.objects.containers, name).is_none() {
            return Reply::error(404, &format!("No such container: {name}"));
        }
        let stat = "eyJuYW1lIjoiZiIsInNpemUiOjEsIm1vZGUiOjQyMCwibXRpbWUiOiIyMDI0LTAxLTAxVDAwOjAwOjAwWiIsImxpbmtUYXJnZXQiOiIifQ==";
        let body = if method == "HEAD" { "" } else { "\0\0" };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/x-tar\r\nX-Docker-Container-Path-Stat: {stat}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        Reply::Bytes((head + body).into_bytes())
    }

    fn create(&mut self, kind: &str, request: &Request) -> Reply {
        self.objects.made += 1;
        let (body, unnamed) = (request.json(), format!("made-{}", self.objects.made));
        let name = request.query("name").or_else(|| body["Name"].as_str().map(str::to_owned)).filter(|n| !n.is_empty()).unwrap_or(unnamed);
        let (all, made, answer) = match kind {
            "containers" => (&mut self.objects.containers, container(&name, &body), json!({ "Id": id(&name), "Warnings": [] })),
            "networks" => (&mut self.objects.networks, network(&name, &body), json!({ "Id": id(&name), "Warning": "" })),
            _ => (&mut self.objects.volumes, volume(&name, &body), volume(&name, &body)),
        };
        all.push(made);
        Reply::Json(201, answer)
    }

    fn create_exec(&mut self, name: &str) -> Reply {
        if self.obliging.is_none() && find(&self.objects.containers, name).is_none() {
            return Reply::error(404, &format!("No such container: {name}"));
        }
        self.objects.made += 1;
        let unique = format!("exec {}", self.objects.made);
        let of = find(&self.objects.containers, name)
            .map_or_else(|| name.to_owned(), |at| self.objects.containers[at]["Name"].as_str().unwrap()[1..].to_owned());
        self.objects.execs.push(exec(&unique, &of));
        Reply::Json(201, json!({ "Id": id(&unique) }))
    }

    fn remove(&mut self, kind: &str, name: &str) -> Reply {
        let all = match kind {
            "containers" => &mut self.objects.containers,
            "networks" => &mut self.objects.networks,
            _ => &mut self.objects.volumes,
        };
        match find(all, name) {
            Some(at) => drop(all.remove(at)),
            None if self.obliging.is_some() => {}
            None => return Reply::error(404, &format!("No such object: {name}")),
        }
        Reply::status(204)
    }
}

/// By full id, name, then an id's beginning, as the engines look.
fn find(all: &[Value], name: &str) -> Option<usize> {
    let plain = name.trim_start_matches("sha256:").trim_start_matches("docker.io/").trim_start_matches("library/");
    let key = |object: &Value| object["Id"].as_str().or(object["ID"].as_str()).unwrap_or_default().trim_start_matches("sha256:").to_owned();
    let named = |object: &Value| {
        let tags = object["RepoTags"].as_array().into_iter().flatten();
        let tagged = tags.filter_map(Value::as_str).any(|tag| tag == plain || (tag == format!("{plain}:latest")));
        tagged || object["Name"].as_str().is_some_and(|n| n.trim_start_matches('/') == name.trim_start_matches('/'))
    };
    let exact = all.iter().position(|object| key(object) == plain).or_else(|| all.iter().position(named));
    exact.or_else(|| all.iter().position(|object| plain.len() >= 3 && key(object).starts_with(plain)))
}

/// The objects that have every label of the request's filters, and one of its volumes.
fn listed(all: &[Value], request: &Request, show: impl Fn(&Value) -> Value) -> Value {
    let filters: Value = request.query("filters").and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let values = |key: &str| -> Vec<String> {
        match &filters[key] {
            Value::Object(map) => map.keys().cloned().collect(),
            Value::Array(list) => list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
        }
    };
    let (wanted, volumes) = (values("label"), values("volume"));
    let mounts = |object: &Value| object["Mounts"].as_array().cloned().unwrap_or_default();
    let mounted = |object: &Value| volumes.is_empty() || mounts(object).iter().any(|mount| volumes.iter().any(|name| mount["Name"] == name.as_str()));
    let has = |object: &Value, label: &str| {
        let (key, value) = label.split_once('=').map_or((label, None), |(key, value)| (key, Some(value)));
        let labels = [&object["Labels"], &object["Config"]["Labels"]];
        labels.iter().any(|labels| labels[key].as_str().is_some_and(|own| value.is_none_or(|value| own == value)))
    };
    all.iter().filter(|object| mounted(object) && wanted.iter().all(|label| has(object, label))).map(show).collect()
}

/// 64 hexadecimal digits that only depend on the name.
fn id(name: &str) -> String {
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    (0..4_u64).fold(String::new(), |text, round| {
        for byte in name.bytes().chain(round.to_le_bytes()) {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            state ^= state >> 29;
        }
        text + &format!("{state:016x}")
    })
}

fn labels(name: &str, tenant: &str) -> Value {
    json!({ LABEL: if name.contains("own") { tenant } else { "victim" }, "seawall.kind": "container" })
}

fn state(running: bool) -> Value {
    json!({ "Status": if running { "running" } else { "created" }, "Running": running, "Paused": false, "Restarting": false, "Dead": false, "Pid": if running { 4242 } else { 0 }, "ExitCode": 0 })
}

fn container(name: &str, body: &Value) -> Value {
    let mut config = body.as_object().cloned().unwrap_or_else(Map::new);
    let host = config.remove("HostConfig").unwrap_or_else(|| json!({}));
    config.remove("NetworkingConfig");
    let mode = host["NetworkMode"].as_str().unwrap_or("default");
    let net = if mode == "default" { "bridge" } else { mode };
    let mounts: Vec<Value> = host["Binds"].as_array().into_iter().flatten().filter_map(Value::as_str).filter_map(|bind| bind.split_once(':'))
        .map(|(source, target)| json!({ "Type": "volume", "Name": source, "Source": format!("/volumes/{source}"), "Destination": target, "Driver": "local", "RW": true }))
        .collect();
    json!({ "Id": id(name), "Name": format!("/{name}"), "Image": format!("sha256:{}", id("image cifixture:1")), "State": state(false), "Created": "2024-01-01T00:00:00Z",
        "Config": config, "HostConfig": host, "Mounts": mounts, "Path": "sleep", "Args": [],
        "NetworkSettings": { "Networks": { net: { "NetworkID": id(net), "EndpointID": "" } } } })
}

fn summary(container: &Value) -> Value {
    json!({ "Id": container["Id"], "Names": [container["Name"]], "Image": container["Config"]["Image"], "ImageID": container["Image"], "Command": "sleep",
        "Created": 1, "Ports": [], "Labels": container["Config"]["Labels"], "State": container["State"]["Status"], "Status": "Up",
        "HostConfig": { "NetworkMode": container["HostConfig"]["NetworkMode"] }, "NetworkSettings": container["NetworkSettings"], "Mounts": container["Mounts"] })
}

fn network(name: &str, body: &Value) -> Value {
    json!({ "Id": id(name), "Name": name, "Driver": body["Driver"].as_str().unwrap_or("bridge"), "Scope": "local", "Internal": false, "Attachable": false,
        "Ingress": false, "ConfigOnly": false, "EnableIPv6": false, "IPAM": { "Driver": "default", "Config": [] }, "Containers": {}, "Options": {},
        "Labels": body.get("Labels").cloned().unwrap_or_else(|| json!({})) })
}

fn volume(name: &str, body: &Value) -> Value {
    json!({ "Name": name, "Driver": "local", "Mountpoint": format!("/volumes/{name}"), "Scope": "local", "Options": null, "CreatedAt": "2024-01-01T00:00:00Z",
        "Labels": body.get("Labels").cloned().unwrap_or(Value::Null) })
}

fn image(name: &str) -> Value {
    let tag = name.trim_start_matches("docker.io/").trim_start_matches("library/");
    json!({ "Id": format!("sha256:{}", id(&format!("image {tag}"))), "RepoTags": [tag], "RepoDigests": [], "Parent": "", "Size": 1, "Created": "2024-01-01T00:00:00Z",
        "Architecture": "amd64", "Os": "linux", "Config": { "Labels": null, "Env": ["PATH=/bin"], "Cmd": ["sh"], "User": "" }, "RootFS": { "Type": "layers", "Layers": [] } })
}

fn exec(name: &str, of: &str) -> Value {
    json!({ "ID": id(name), "ContainerID": id(of), "Running": false, "ExitCode": null, "Pid": 0, "OpenStdin": false, "OpenStdout": true, "OpenStderr": true, "CanRemove": false,
        "ProcessConfig": { "entrypoint": "id", "arguments": [], "tty": false, "privileged": false, "user": "" } })
}

fn ping(method: &str) -> Reply {
    let body = if method == "HEAD" { "" } else { "OK" };
    let head = format!(
        "HTTP/1.1 200 OK\r\nApi-Version: 1.47\r\nBuilder-Version: 2\r\nDocker-Experimental: false\r\nOstype: linux\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    Reply::Bytes((head + body).into_bytes())
}

fn version() -> Value {
    json!({ "Version": "26.1.5", "ApiVersion": "1.47", "MinAPIVersion": "1.24", "Os": "linux", "Arch": "amd64", "KernelVersion": "6", "GoVersion": "go", "GitCommit": "x", "BuildTime": "x",
        "Platform": { "Name": "" }, "Components": [{ "Name": "Engine", "Version": "26.1.5", "Details": { "ApiVersion": "1.47", "MinAPIVersion": "1.24" } }] })
}

/// A stream that says something and ends.
fn greeting() -> Reply {
    let head = "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nhello\n";
    Reply::BytesThenClose(head.as_bytes().to_vec())
}
