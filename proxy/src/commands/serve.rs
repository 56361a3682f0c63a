//! `seawall serve`.

use std::cell::Cell;
use std::rc::Rc;

use anyhow::Context as _;
use policies::Policy;
use tokio::sync::watch;
use tokio::task::LocalSet;

use crate::audit::{Audit, Sink};
use crate::config::{self, AuditTarget, Config, ListenConfig, PolicyRef};
use crate::dial::{Engine, EngineAddress};
use crate::identity::{Identity, PeerIdentity, match_client};
use crate::receive::Bounds;
use crate::resolve::Resolver;
use crate::serve::{Client, Known, Shared, connection};

/// Serves until it is told to stop.
///
/// # Errors
/// The configuration, the policies or a listener cannot be used.
pub fn run(flags: &config::Flags) -> anyhow::Result<()> {
    let config = Config::of_command_line(flags)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve(config))
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let known = clients(&config)?;
    let engine = Engine::new(address(&config.engine)?);
    let (_end, ending) = watch::channel(false);
    let shared = Rc::new(Shared {
        resolver: Resolver::new(engine),
        audit: Audit::start(sink(&config.audit)?),
        bounds: Bounds { body: usize::try_from(config.limits.max_body.0)?, patience: config.limits.header_timeout.0, ..Bounds::default() },
        ending,
        busy: Cell::new(0),
    });
    let ListenConfig::Unix { path, .. } = config.listen.first().context("no listener")? else { anyhow::bail!("only unix") };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let _ = std::fs::remove_file(path);
    let listener = tokio::net::UnixListener::bind(path)?;
    eprintln!("export DOCKER_HOST=unix://{}", path.display());
    let config = Rc::new(config);
    loop {
        let (stream, _) = listener.accept().await?;
        let cred = stream.peer_cred()?;
        let identity = Identity::Peer(PeerIdentity { uid: cred.uid(), gid: cred.gid(), pid: cred.pid() });
        let client = Client { identity: identity.to_string(), known: who(&config, &known, &identity), still_trusted: Box::new(|| Ok(())) };
        tokio::task::spawn_local(connection(Rc::clone(&shared), client, stream));
    }
}

fn who(config: &Config, known: &[Rc<Policy>], identity: &Identity) -> Result<Known, String> {
    let client = match_client(&config.clients, identity).map_err(|error| error.to_string())?;
    let place = config.clients.iter().position(|one| std::ptr::eq(one, client)).unwrap_or_default();
    let policy = known.get(place).map(Rc::clone).ok_or("no policy")?;
    let tenant = client.tenant.clone().unwrap_or_else(|| identity.tenant());
    Ok(Known { name: client.name.as_ref().map(ToString::to_string).unwrap_or_default(), policy, tenant: tenant.as_str().to_owned() })
}

fn clients(config: &Config) -> anyhow::Result<Vec<Rc<Policy>>> {
    config.clients.iter().map(|client| Ok(Rc::new(load(&client.policy)?))).collect()
}

/// Loads a policy by name or file.
///
/// # Errors
/// It cannot be read.
pub fn load(reference: &PolicyRef) -> anyhow::Result<Policy> {
    Ok(match reference {
        PolicyRef::Shipped(name) => Policy::shipped(name)?,
        PolicyRef::File(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read policy {}", path.display()))?;
            let base = path.parent().map(std::path::Path::to_owned).unwrap_or_default();
            Policy::compile(&path.display().to_string(), &text, &|include| {
                let file = base.join(include);
                std::fs::read_to_string(&file).map(|text| (file.display().to_string(), text)).map_err(|error| error.to_string())
            })?
        }
    })
}

fn address(engine: &config::Engine) -> anyhow::Result<EngineAddress> {
    match engine {
        config::Engine::Unix(path) => Ok(EngineAddress::Unix(path.clone())),
        config::Engine::Tls { .. } => anyhow::bail!("tls engine"),
    }
}

fn sink(target: &AuditTarget) -> anyhow::Result<Sink> {
    Ok(match target {
        AuditTarget::File(path) => Sink::file(path).with_context(|| format!("cannot write the audit to {}", path.display()))?,
        AuditTarget::Journald => Sink::journal().context("cannot reach the journal")?,
        AuditTarget::Stderr => Sink::Stderr,
        AuditTarget::Stdout => Sink::Stdout,
    })
}
