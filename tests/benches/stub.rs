//! An engine that does nothing but answer, on a unix socket and, for the direct column, behind TLS.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::Context;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, UnixListener};

use crate::http::{Head, Io, Wire};
use crate::target;

/// Bytes of an export.
pub(crate) const EXPORT: u64 = 1 << 30;
const PART: usize = 64 << 10;
const LIST: usize = 64 << 10;
const BUFFER: usize = 8 << 10;
const BULK: usize = 256 << 10;

/// The id of the one container that there is.
pub(crate) fn container_id() -> String {
    "c0ffee".repeat(11).chars().take(64).collect()
}

pub(crate) fn image_id() -> String {
    format!("sha256:{}", "5".repeat(64))
}

/// The owner of the container.
pub(crate) const TENANT: &str = "bench";

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let path = args.first().context("stub needs the path of its socket")?;
    crate::runtime()?.block_on(async {
        let answers = Rc::new(Answers::new());
        if let (Some(port), Some(pki)) = (args.get(1), args.get(2)) {
            tokio::task::spawn_local(behind_tls(port.parse()?, PathBuf::from(pki), Rc::clone(&answers)));
        }
        let listener = UnixListener::bind(path)?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::task::spawn_local(serve(Box::new(stream), Rc::clone(&answers)));
        }
    })
}

async fn behind_tls(port: u16, pki: PathBuf, answers: Rc<Answers>) -> anyhow::Result<()> {
    let acceptor = target::acceptor(Path::new(&pki))?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (acceptor, answers) = (acceptor.clone(), Rc::clone(&answers));
        tokio::task::spawn_local(async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve(Box::new(stream), answers).await;
            }
        });
    }
}

async fn serve(stream: Box<dyn Io>, answers: Rc<Answers>) {
    let mut wire = Wire::new(stream, BUFFER);
    // A peer that goes away is the normal end.
    while let Ok(Some(head)) = wire.head().await {
        if !matches!(answers.give(&mut wire, &head).await, Ok(true)) {
            return;
        }
    }
}

/// Answers that are written again and again.
struct Answers {
    created: Vec<u8>,
    container: Vec<u8>,
    image: Vec<u8>,
    info: Vec<u8>,
    list: Vec<u8>,
    missing: Vec<u8>,
    ping: Vec<u8>,
    version: Vec<u8>,
    part: Vec<u8>,
}

impl Answers {
    fn new() -> Self {
        let id = container_id();
        let image = image_id();
        let row = format!(
            r#"{{"Id":"{id}","Names":["/shop-web-1"],"Image":"alpine:3","ImageID":"{image}","Command":"httpd -f -p 80","Created":1700000000,"Ports":[{{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":32768,"Type":"tcp"}}],"Labels":{{"com.docker.compose.project":"shop","com.docker.compose.service":"web","seawall.tenant":"{TENANT}","seawall.kind":"container"}},"State":"running","Status":"Up 3 hours","HostConfig":{{"NetworkMode":"bridge"}},"NetworkSettings":{{"Networks":{{"bridge":{{"NetworkID":"{id}","Gateway":"172.17.0.1","IPAddress":"172.17.0.2","IPPrefixLen":16}}}}}},"Mounts":[]}}"#
        );
        let rows = vec![row.as_str(); LIST / (row.len() + 1)].join(",");
        let mut part = format!("{PART:x}\r\n").into_bytes();
        part.resize(part.len() + PART, b'.');
        part.extend_from_slice(b"\r\n");
        Self {
            created: json("201 Created", &format!(r#"{{"Id":"{id}","Warnings":[]}}"#)),
            container: json(
                "200 OK",
                &format!(
                    r#"{{"Id":"{id}","Name":"/shop-web-1","Image":"{image}","State":{{"Status":"created"}},"Config":{{"Image":"alpine:3","Labels":{{"seawall.tenant":"{TENANT}","seawall.kind":"container"}}}},"HostConfig":{{"NetworkMode":"bridge"}},"Mounts":[]}}"#
                ),
            ),
            image: json("200 OK", &format!(r#"{{"Id":"{image}","RepoTags":["alpine:3"],"RepoDigests":[],"Config":{{"Labels":null}}}}"#)),
            info: json("200 OK", r#"{"LoggingDriver":"json-file","DefaultRuntime":"runc"}"#),
            list: json("200 OK", &format!("[{rows}]")),
            missing: json("404 Not Found", r#"{"message":"page not found"}"#),
            ping: b"HTTP/1.1 200 OK\r\nApi-Version: 1.51\r\nBuilder-Version: 2\r\nDocker-Experimental: false\r\nOstype: linux\r\nServer: Docker/28.5.2 (linux)\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\n\r\nOK".to_vec(),
            version: json("200 OK", r#"{"Version":"28.5.2","ApiVersion":"1.51","MinAPIVersion":"1.24"}"#),
            part,
        }
    }

    /// Answers one request; whether another can follow.
    async fn give(&self, wire: &mut Wire, head: &Head) -> anyhow::Result<bool> {
        let mut words = head.first.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let path = target.split('?').next().unwrap_or_default();
        let parts: Vec<&str> = path.split('/').skip(1).skip_while(|part| part.starts_with("v1.")).collect();
        if method == "PUT" {
            wire.grow = BULK;
        }
        wire.skip(head.framing).await?;
        let bytes = match (method, parts.as_slice()) {
            ("GET" | "HEAD", ["_ping"]) => &self.ping,
            ("GET", ["version"]) => &self.version,
            ("GET", ["info"]) => &self.info,
            ("GET", ["containers", "json"]) => &self.list,
            ("POST", ["containers", "create"]) => &self.created,
            ("GET", ["containers", _, "json"]) => &self.container,
            ("GET", ["images", .., "json"]) => &self.image,
            ("PUT", ["containers", _, "archive"]) => return send(wire, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await,
            ("GET", ["containers", _, "export"]) => return self.export(wire).await,
            ("GET", ["events"]) => return self.events(wire).await,
            ("POST", ["containers", _, "attach"]) => return echo(wire).await,
            _ => &self.missing,
        };
        send(wire, bytes).await
    }

    async fn export(&self, wire: &mut Wire) -> anyhow::Result<bool> {
        send(wire, b"HTTP/1.1 200 OK\r\nContent-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
        for _ in 0..EXPORT / u64::try_from(PART)? {
            wire.stream.write_all(&self.part).await?;
        }
        send(wire, b"0\r\n\r\n").await
    }

    /// A stream that stays open until the client goes.
    async fn events(&self, wire: &mut Wire) -> anyhow::Result<bool> {
        send(wire, b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
        wire.some().await.map(|_| false)
    }
}

async fn echo(wire: &mut Wire) -> anyhow::Result<bool> {
    send(wire, b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n").await?;
    loop {
        let bytes = wire.some().await?;
        if bytes.is_empty() {
            return Ok(false);
        }
        send(wire, &bytes).await?;
    }
}

async fn send(wire: &mut Wire, bytes: &[u8]) -> anyhow::Result<bool> {
    wire.stream.write_all(bytes).await?;
    wire.stream.flush().await?;
    Ok(true)
}

fn json(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nApi-Version: 1.51\r\nContent-Type: application/json\r\nOstype: linux\r\nServer: Docker/28.5.2 (linux)\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}
