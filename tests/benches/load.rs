//! The load, and what is measured under it.

use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::Options;
use crate::http::Wire;
use crate::micro::CREATE;
use crate::stub::{EXPORT, container_id};
use crate::table::{Goal, Row, Table};
use crate::target::{Bed, Kind, Shared, Way};

/// What a scenario does to its target.
#[derive(Debug, Clone, Copy)]
enum Load {
    /// A gibibyte from the engine.
    Download,
    /// 64 bytes there and back through a hijacked connection.
    Echo(u32),
    /// Streams on which nothing happens.
    Idle(u32),
    /// A new connection for each request.
    NewConnections(u32),
    /// Requests on connections that stay.
    Requests(What, u32),
    /// Start to first answer.
    Start(u32),
    /// A gibibyte to the engine.
    Upload,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Create,
    List,
    Ping,
}

/// One scenario on one target.
pub(crate) struct Measured {
    /// What is compared.
    pub(crate) value: f64,
    /// What is printed beside it.
    pub(crate) beside: String,
}

const SCENARIOS: [(&str, &str, Way, Load, Goal); 15] = [
    ("unix/ping-32", "CPU s/10k", Way::Unix, Load::Requests(What::Ping, 40_000), Goal::Ratio(0.6)),
    ("mtls/ping-32", "CPU s/10k", Way::Mtls, Load::Requests(What::Ping, 40_000), Goal::Ratio(0.6)),
    ("unix/list-64k-32", "CPU s/10k", Way::Unix, Load::Requests(What::List, 10_000), Goal::None),
    ("mtls/list-64k-32", "CPU s/10k", Way::Mtls, Load::Requests(What::List, 10_000), Goal::None),
    ("unix/create-3k-32", "CPU s/10k", Way::Unix, Load::Requests(What::Create, 20_000), Goal::Ratio(0.75)),
    ("mtls/create-3k-32", "CPU s/10k", Way::Mtls, Load::Requests(What::Create, 20_000), Goal::Ratio(0.75)),
    ("mtls/new-connection", "CPU s/10k", Way::Mtls, Load::NewConnections(2_000), Goal::Ratio(0.3)),
    ("unix/upload-1G", "CPU s/GiB", Way::Unix, Load::Upload, Goal::Ratio(0.6)),
    ("mtls/upload-1G", "CPU s/GiB", Way::Mtls, Load::Upload, Goal::Ratio(0.6)),
    ("unix/download-1G", "CPU s/GiB", Way::Unix, Load::Download, Goal::Ratio(0.6)),
    ("mtls/download-1G", "CPU s/GiB", Way::Mtls, Load::Download, Goal::Ratio(0.6)),
    ("unix/echo-64B", "p50 µs", Way::Unix, Load::Echo(10_000), Goal::Most(60.0)),
    ("mtls/echo-64B", "p50 µs", Way::Mtls, Load::Echo(10_000), Goal::Most(65.0)),
    ("unix/idle-1000", "KiB/stream", Way::Unix, Load::Idle(1_000), Goal::None),
    ("mtls/idle-1000", "KiB/stream", Way::Mtls, Load::Idle(1_000), Goal::Most(30.0)),
];
const START: (&str, &str, Way, Load, Goal) = ("unix/start", "ms", Way::Unix, Load::Start(10), Goal::Most(10.0));

const CONNECTIONS: u32 = 32;
/// Longer than any scenario takes.
const LIMIT: Duration = Duration::from_secs(60);
const SMALL: usize = 8 << 10;
const LARGE: usize = 256 << 10;

pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let bed = Bed::new(options).await?;
    let mut table = Table::default();
    let wanted = |name: &str| options.only.is_empty() || options.only.iter().any(|part| name.contains(part.as_str()));
    for (name, unit, way, load, goal) in SCENARIOS.into_iter().chain([START]).filter(|(name, ..)| wanted(name)) {
        let mut row = Row::new(name, unit, goal);
        for round in 0..options.rounds {
            for kind in bed.kinds() {
                write!(std::io::stderr(), "\r{name} {kind:?} {}/{}          ", round + 1, options.rounds)?;
                let measured = match timeout(LIMIT, measure(&bed, kind, way, load)).await {
                    Ok(Ok(measured)) => measured,
                    Ok(Err(error)) => Err(format!("{error:#}")),
                    Err(_) => Err("timed out".to_owned()),
                };
                row.add(kind, measured);
            }
        }
        table.add(row);
    }
    writeln!(std::io::stderr(), "\r{:60}", "")?;
    bed.end()?;
    table.print(&mut std::io::stdout())
}

/// `Ok(Err)`: there is nothing to measure here, and why.
async fn measure(bed: &Bed, kind: Kind, way: Way, load: Load) -> anyhow::Result<Result<Measured, String>> {
    if let Load::Start(times) = load {
        return start(bed, kind, times).await;
    }
    let target: Shared = Rc::new(bed.start(kind).await?);
    if matches!(load, Load::Idle(_)) && !target.is_fresh() {
        return Ok(Err("-".to_owned()));
    }
    let cpu = target.cpu()?;
    let began = Instant::now();
    let measured = match load {
        Load::Start(_) => return Ok(Err("-".to_owned())),
        Load::Idle(streams) => return idle(&target, way, streams).await.map(Ok),
        Load::Echo(times) => {
            let p50 = echo(&target, way, times).await?;
            let used = (target.cpu()? - cpu) * 10_000.0 / f64::from(times);
            return Ok(Ok(Measured { value: p50.as_secs_f64() * 1e6, beside: format!("{used:.3} s/10k") }));
        }
        Load::Download => {
            download(&target, way).await?;
            Measured { value: target.cpu()? - cpu, beside: format!("{:.0} MiB/s", 1024.0 / began.elapsed().as_secs_f64()) }
        }
        Load::Upload => {
            upload(&target, way).await?;
            Measured { value: target.cpu()? - cpu, beside: format!("{:.0} MiB/s", 1024.0 / began.elapsed().as_secs_f64()) }
        }
        Load::NewConnections(times) => {
            requests(&target, way, None, times).await?;
            let took = began.elapsed().as_secs_f64();
            Measured { value: (target.cpu()? - cpu) * 10_000.0 / f64::from(times), beside: format!("{:.0}/s", f64::from(times) / took) }
        }
        Load::Requests(what, times) => {
            requests(&target, way, Some(what), times).await?;
            let took = began.elapsed().as_secs_f64();
            Measured { value: (target.cpu()? - cpu) * 10_000.0 / f64::from(times), beside: format!("{:.0}/s", f64::from(times) / took) }
        }
    };
    Ok(Ok(measured))
}

async fn start(bed: &Bed, kind: Kind, times: u32) -> anyhow::Result<Result<Measured, String>> {
    if kind == Kind::Direct {
        return Ok(Err("-".to_owned()));
    }
    let mut took = Vec::new();
    for _ in 0..times {
        took.push(bed.start(kind).await?.started.as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    let fastest = took.first().copied().unwrap_or_default();
    let median = took.get(took.len() / 2).copied().unwrap_or_default();
    Ok(Ok(Measured { value: median, beside: format!("fastest {fastest:.1}") }))
}

/// Requests in a closed loop on 32 connections that stay; or, when it is not said what, pings on a new connection each.
async fn requests(target: &Shared, way: Way, what: Option<What>, times: u32) -> anyhow::Result<()> {
    let left = Rc::new(Cell::new(times));
    let mut tasks = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (target, left) = (Rc::clone(target), Rc::clone(&left));
        tasks.spawn_local(async move {
            let (bytes, status) = match what {
                Some(What::Create) => (create(), "201"),
                Some(What::List) => (get("/containers/json"), "200"),
                Some(What::Ping) | None => (get("/_ping"), "200"),
            };
            let keep = what.is_some();
            let mut wire = None;
            while left.get() > 0 {
                left.set(left.get() - 1);
                let mut open = match wire.take() {
                    Some(open) => open,
                    None => target.connect(way, SMALL).await?,
                };
                expect(&mut open, &bytes, status).await?;
                wire = Some(open).filter(|_| keep);
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

async fn download(target: &Shared, way: Way) -> anyhow::Result<()> {
    let mut wire = target.connect(way, LARGE).await?;
    let length = expect(&mut wire, &get(&format!("/containers/{}/export", container_id())), "200").await?;
    if length == EXPORT { Ok(()) } else { bail!("{length} bytes of {EXPORT}") }
}

/// Chunks of 32 KiB, as `docker cp` sends them, eight to a write: an archive with one file.
async fn upload(target: &Shared, way: Way) -> anyhow::Result<()> {
    const CHUNK: usize = 32 << 10;
    let mut wire = target.connect(way, SMALL).await?;
    let head = format!(
        "PUT /v1.51/containers/{}/archive?path=/ HTTP/1.1\r\nHost: docker\r\nContent-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n",
        container_id()
    );
    wire.stream.write_all(head.as_bytes()).await?;
    wire.stream.write_all(&chunk(&file_header(1 << 30))).await?;
    let batch = chunk(&[b'.'; CHUNK]).repeat(8);
    for _ in 0..(1 << 30) / (8 * CHUNK) {
        wire.stream.write_all(&batch).await?;
    }
    wire.stream.write_all(&chunk(&[0; 1024])).await?;
    expect(&mut wire, b"0\r\n\r\n", "200").await.map(drop)
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// A header of tar (POSIX.1-1988 ustar) for a file of so many bytes.
fn file_header(size: u64) -> Vec<u8> {
    let head = |sum: &str| format!("{:\0<100}0000644\00000000\00000000\0{size:011o}\000000000000\0{sum}0{:\0<100}ustar\000", "data", "");
    let sum: u32 = head("        ").bytes().map(u32::from).sum();
    let mut header = head(&format!("{sum:06o}\0 ")).into_bytes();
    header.resize(512, 0);
    header
}

/// The median of round trips through a hijacked connection.
async fn echo(target: &Shared, way: Way, times: u32) -> anyhow::Result<Duration> {
    let mut wire = target.connect(way, SMALL).await?;
    let attach = format!(
        "POST /v1.51/containers/{}/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
        container_id()
    );
    let head = timeout(Duration::from_secs(3), wire.ask(attach.as_bytes())).await.context("no answer to attach")??;
    if head.status() != "101" {
        bail!("refused: {}", head.status());
    }
    let mut took = Vec::new();
    let mut back = [0; 64];
    for _ in 0..times {
        let began = Instant::now();
        wire.stream.write_all(&[b'x'; 64]).await?;
        wire.stream.flush().await?;
        timeout(Duration::from_secs(3), wire.stream.read_exact(&mut back)).await.context("no echo")??;
        took.push(began.elapsed());
    }
    took.sort();
    took.get(took.len() / 2).copied().context("no round trip")
}

/// Growth of the target's memory for each stream that is open and silent.
async fn idle(target: &Shared, way: Way, streams: u32) -> anyhow::Result<Measured> {
    let before = target.memory()?;
    let cpu = target.cpu()?;
    let mut open = Vec::new();
    for _ in 0..streams {
        let mut wire = target.connect(way, 1 << 10).await?;
        let head = wire.ask(&get("/events")).await?;
        if head.status() != "200" {
            bail!("refused: {}", head.first);
        }
        open.push(wire);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let grown = target.memory()? - before;
    let used = target.cpu()? - cpu;
    Ok(Measured { value: grown / f64::from(streams), beside: format!("{used:.2} s to open") })
}

async fn expect(wire: &mut Wire, bytes: &[u8], status: &str) -> anyhow::Result<u64> {
    let head = wire.ask(bytes).await?;
    let length = wire.skip(head.framing).await?;
    if head.status() == status { Ok(length) } else { bail!("refused: {}", head.first) }
}

fn get(path: &str) -> Vec<u8> {
    format!("GET /v1.51{path} HTTP/1.1\r\nHost: docker\r\nUser-Agent: Docker-Client/28.2.2 (linux)\r\n\r\n").into_bytes()
}

fn create() -> Vec<u8> {
    format!(
        "POST /v1.51/containers/create?name=shop-web-1 HTTP/1.1\r\nHost: docker\r\nUser-Agent: Docker-Client/28.2.2 (linux)\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{CREATE}",
        CREATE.len()
    )
    .into_bytes()
}
