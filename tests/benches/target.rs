//! The processes under test: started fresh for each scenario, pinned to CPU 0, and ended with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::Options;
use crate::http::{Io, Wire};
use crate::stub::TENANT;

/// What is measured: one column of the table each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Direct,
    Haproxy,
    Seawall,
}

/// How a client reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Mtls,
    Unix,
}

/// A folder with everything that a run needs: certificates, configurations, sockets, the stub engine.
pub(crate) struct Bed {
    dir: PathBuf,
    seawall: PathBuf,
    haproxy: Option<PathBuf>,
    stub: Process,
    connector: TlsConnector,
}

/// A process of ours, which ends with its value.
pub(crate) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A target that answers.
pub(crate) struct Target {
    process: Option<Process>,
    pid: u32,
    socket: PathBuf,
    port: u16,
    connector: TlsConnector,
    /// From its start to its first answer.
    pub(crate) started: Duration,
}

impl Bed {
    pub(crate) async fn new(options: &Options) -> anyhow::Result<Self> {
        // In memory: neither records nor logs wait for a disk.
        let base = Path::new("/dev/shm");
        let dir = if base.is_dir() { base.to_owned() } else { std::env::temp_dir() }.join(format!("seawall-bench-{}", std::process::id()));
        fs::create_dir_all(&dir)?;
        let pki = dir.join("pki");
        for args in [vec!["init"], vec!["server", "--host", "127.0.0.1"], vec!["issue", "--client", "bench"]] {
            let (verb, rest) = args.split_first().context("a verb")?;
            let made = Command::new(&options.seawall).arg("cert").arg(verb).arg(&pki).args(rest).output().context("cannot run seawall")?;
            if !made.status.success() {
                bail!("seawall cert {verb}: {}", String::from_utf8_lossy(&made.stderr));
            }
        }
        let pem = fs::read_to_string(pki.join("server/cert.pem"))? + &fs::read_to_string(pki.join("server/key.pem"))?;
        fs::write(pki.join("haproxy.pem"), pem)?;
        let connector = connector(&pki)?;
        let stub = pinned(&std::env::current_exe()?).arg("stub").arg(dir.join("stub.sock")).arg(port(Kind::Direct).to_string()).arg(&pki).spawn();
        let bed = Self { stub: Process(stub?), seawall: options.seawall.clone(), haproxy: options.haproxy.clone(), connector, dir };
        bed.configure()?;
        bed.start(Kind::Direct).await?;
        Ok(bed)
    }

    fn configure(&self) -> anyhow::Result<()> {
        let dir = self.dir.display().to_string();
        let uid = std::os::unix::fs::MetadataExt::uid(&fs::metadata(&self.dir)?);
        let yaml = format!(
            "engine: unix://{dir}/stub.sock
listen:
  - unix://{dir}/seawall.sock
  - {{ address: 'tls://127.0.0.1:{}', certificate: pki/server/cert.pem, key: pki/server/key.pem, client_ca: pki/ca.pem, client_crl: pki/crl.pem }}
clients:
  - {{ name: local, match: {{ uid: {uid} }}, policy: ci, tenant: {TENANT} }}
  - {{ name: remote, match: {{ uri: 'seawall:client/bench' }}, policy: ci, tenant: {TENANT} }}
audit:
  to: {{ file: audit.jsonl }}
",
            port(Kind::Seawall)
        );
        fs::write(self.dir.join("seawall.yaml"), yaml)?;
        let config = include_str!("haproxy.cfg")
            .replace("@STUB@", &format!("{dir}/stub.sock"))
            .replace("@SOCKET@", &format!("{dir}/haproxy.sock"))
            .replace("@PORT@", &port(Kind::Haproxy).to_string())
            .replace("@PKI@", &format!("{dir}/pki"));
        fs::write(self.dir.join("haproxy.cfg"), config)?;
        Ok(())
    }

    /// The targets that there are.
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        let haproxy = self.haproxy.is_some();
        [Kind::Direct, Kind::Haproxy, Kind::Seawall].into_iter().filter(|kind| *kind != Kind::Haproxy || haproxy).collect()
    }

    /// Starts a target, and waits for its first answer.
    pub(crate) async fn start(&self, kind: Kind) -> anyhow::Result<Target> {
        let name = match kind {
            Kind::Direct => "stub",
            Kind::Haproxy => "haproxy",
            Kind::Seawall => "seawall",
        };
        let socket = self.dir.join(format!("{name}.sock"));
        let log = fs::File::create(self.dir.join(format!("{name}.log")))?;
        let _ = fs::remove_file(self.dir.join("audit.jsonl"));
        let began = Instant::now();
        let process = match (kind, &self.haproxy) {
            (Kind::Direct, _) | (Kind::Haproxy, None) => None,
            (Kind::Haproxy, Some(binary)) => {
                Some(pinned(binary).args(["-db", "-f"]).arg(self.dir.join("haproxy.cfg")).stdout(log.try_clone()?).stderr(log).spawn()?)
            }
            (Kind::Seawall, _) => Some(
                pinned(&self.seawall).args(["serve", "--config"]).arg(self.dir.join("seawall.yaml")).stdout(log.try_clone()?).stderr(log).spawn()?,
            ),
        };
        let process = process.map(Process);
        let pid = process.as_ref().map_or(self.stub.0.id(), |process| process.0.id());
        let mut target = Target { process, pid, socket, port: port(kind), connector: self.connector.clone(), started: Duration::ZERO };
        while target.ping(Way::Unix).await.is_err() {
            if began.elapsed() > Duration::from_secs(10) {
                bail!("{name} does not answer; see {}", self.dir.display());
            }
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        target.started = began.elapsed();
        // TLS may be ready a moment later.
        while target.ping(Way::Mtls).await.is_err() {
            if began.elapsed() > Duration::from_secs(10) {
                bail!("{name} does not answer over mTLS; see {}", self.dir.display());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(target)
    }

    /// Takes the folder away.
    pub(crate) fn end(self) -> std::io::Result<()> {
        drop(self.stub);
        fs::remove_dir_all(&self.dir)
    }
}

impl Target {
    /// A new connection. Over mTLS each has a full handshake.
    pub(crate) async fn connect(&self, way: Way, grow: usize) -> anyhow::Result<Wire> {
        let stream: Box<dyn Io> = match way {
            Way::Unix => Box::new(UnixStream::connect(&self.socket).await?),
            Way::Mtls => {
                let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
                stream.set_nodelay(true)?;
                Box::new(self.connector.connect(ServerName::try_from("127.0.0.1")?, stream).await?)
            }
        };
        Ok(Wire::new(stream, grow))
    }

    async fn ping(&self, way: Way) -> anyhow::Result<()> {
        let mut wire = self.connect(way, 4 << 10).await?;
        let head = wire.ask(b"GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n").await?;
        wire.skip(head.framing).await?;
        if head.status() == "200" { Ok(()) } else { bail!("{}", head.first) }
    }

    /// CPU seconds of its process so far (proc_pid_stat(5): utime and stime, in ticks of 10 ms).
    pub(crate) fn cpu(&self) -> anyhow::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        let (_, fields) = stat.rsplit_once(')').context("stat")?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>).sum::<Result<f64, _>>()?;
        Ok(ticks / 100.0)
    }

    /// KiB of its memory, shared pages in proportion (PSS).
    pub(crate) fn memory(&self) -> anyhow::Result<f64> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid))?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).context("Pss")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// Whether it is a process of its own, not the stub.
    pub(crate) fn is_fresh(&self) -> bool {
        self.process.is_some()
    }
}

fn pinned(binary: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(binary).stdin(Stdio::null());
    command
}

/// Ports on loopback, different for each run on the machine.
fn port(kind: Kind) -> u16 {
    let base = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap_or(0);
    match kind {
        Kind::Direct => base,
        Kind::Haproxy => base + 1,
        Kind::Seawall => base + 2,
    }
}

fn roots(pki: &Path) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pki.join("ca.pem"))?)?;
    Ok(roots)
}

fn pair(dir: &Path) -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = CertificateDer::pem_file_iter(dir.join("cert.pem"))?.collect::<Result<_, _>>()?;
    Ok((chain, PrivateKeyDer::from_pem_file(dir.join("key.pem"))?))
}

fn connector(pki: &Path) -> anyhow::Result<TlsConnector> {
    let (chain, key) = pair(&pki.join("clients/bench"))?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots(pki)?)
        .with_client_auth_cert(chain, key)?;
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config).into())
}

/// What the stub engine accepts TLS with.
pub(crate) fn acceptor(pki: &Path) -> anyhow::Result<TlsAcceptor> {
    let provider = Arc::new(default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(pki)?), Arc::clone(&provider)).build()?;
    let (chain, key) = pair(&pki.join("server"))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config).into())
}

/// Shared by the tasks of one scenario.
pub(crate) type Shared = Rc<Target>;
