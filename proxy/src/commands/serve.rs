//! `seawall serve`: opens, serves, reads its files again on SIGHUP, and ends on SIGTERM when what is under way has ended.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::LocalOptions;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::attached::Attached;
use crate::audit::{Audit, Sink};
use crate::budget::{self, Budget};
use crate::clients::Clients;
use crate::config::{self, AuditTarget, Config, ListenConfig};
use crate::dial::{Engine, EngineAddress};
use crate::lease::Leases;
use crate::listener::{Accepted, Arrival, Gate, Listener, Refusal, raise_descriptor_limit};
use crate::receive::Bounds;
use crate::resolve::Resolver;
use crate::serve::{Client, Shared, connection};
use crate::still::Stills;
use crate::tls::EngineConnector;
use crate::turns::Turns;
use crate::unseen::Unseen;

/// Serves until it is told to stop.
///
/// # Errors
/// The configuration, a policy, the audit or a listener cannot be used.
pub fn run(config: &Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).context("cannot start")?;
    runtime.block_on(serve(config))
}

async fn serve(config: &Config) -> anyhow::Result<()> {
    if let Err(error) = raise_descriptor_limit() {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    let (end, ending) = watch::channel(false);
    let shared = Rc::new(Shared {
        budget: Budget::of(budget::REQUESTS),
        answers: Budget::of(budget::ANSWERS),
        underway: Budget::of(budget::UNDERWAY),
        leases: Leases::default(),
        turns: Turns::default(),
        unseen: Unseen::default(),
        attached: Attached::default(),
        stills: Stills::default(),
        clients: Clients::load(config.clients.clone())?,
        resolver: Resolver::new(Engine::new(address(&config.engine)?)),
        audit: Audit::start(sink(&config.audit)?),
        bounds: Bounds {
            body: usize::try_from(config.limits.max_body.0).unwrap_or(usize::MAX),
            patience: config.limits.header_timeout.0,
            stall: config.limits.stall_timeout.0,
            ..Bounds::default()
        },
        ending,
        busy: Rc::new(Cell::new(0)),
    });
    let mut signals = Signals::new()?;
    let reload = open(config, &shared).await?;
    announce(config, &shared).await;
    while !signals.next().await {
        match shared.clients.reload() {
            Ok(()) => tracing::info!("policies are read again"),
            Err(error) => tracing::error!("the former policies stay in use: {error}"),
        }
        reload.send_modify(|count| *count += 1);
        shared.audit.reopen();
    }
    let _ = end.send(true);
    drain(&shared, config.limits.drain_timeout.0, &mut signals).await;
    shared.audit.end();
    Ok(())
}

/// Opens all listeners, each served by a task of its own. Gives the bell for reading certificates again.
async fn open(config: &Config, shared: &Rc<Shared>) -> anyhow::Result<watch::Sender<u32>> {
    let (reload, bell) = watch::channel(0);
    let gate = Gate::new(&config.limits);
    for listen in &config.listen {
        for listener in Listener::bind(listen, config.limits, &gate)? {
            listener.ready().await?;
            tokio::task::spawn_local(accept(listener, Rc::clone(shared), bell.clone()));
        }
    }
    Ok(reload)
}

async fn accept(mut listener: Listener, shared: Rc<Shared>, mut bell: watch::Receiver<u32>) {
    let mut ending = shared.ending.clone();
    loop {
        tokio::select! {
            biased;
            // Dropped here, the listener takes its socket away.
            _ = ending.wait_for(|ending| *ending) => return,
            rung = bell.changed() => {
                if rung.is_ok() && let Err(error) = listener.reload().await {
                    tracing::error!("the former certificates stay in use: {error}");
                }
            }
            arrival = listener.accept() => match arrival {
                Arrival::Accepted(accepted) => admit(&shared, *accepted),
                Arrival::Refused(refusal) => record(&shared, &refusal),
            },
        }
    }
}

fn admit(shared: &Rc<Shared>, accepted: Accepted) {
    let Accepted { stream, identity, trust, ticket, address: _ } = accepted;
    let client = Client::new(identity, trust);
    let shared = Rc::clone(shared);
    tokio::task::spawn_local(async move {
        connection(shared, client, stream).await;
        drop(ticket);
    });
}

/// Somebody who did not get in has a record, too.
fn record(shared: &Shared, refusal: &Refusal) {
    let who = match (&refusal.identity, refusal.address) {
        (Some(identity), _) => identity.to_string(),
        (None, Some(address)) => address.to_string(),
        (None, None) => "unknown".to_owned(),
    };
    if let Ok(mut open) = shared.audit.open(&who.into()) {
        open.record.decision = "denied";
        open.record.uncovered = vec![refusal.why.to_string()];
    }
}

/// Says where to go, and whether there is an engine.
async fn announce(config: &Config, shared: &Shared) {
    for listen in &config.listen {
        match listen {
            ListenConfig::Unix { path, .. } => eprintln!("export DOCKER_HOST=unix://{}", path.display()),
            ListenConfig::Tls { at, .. } => eprintln!("listening on tls://{at}; `seawall cert issue` prints what a client needs"),
            ListenConfig::Activated { .. } => eprintln!("listening on the sockets that systemd passed"),
        }
    }
    match shared.resolver.about().await {
        Ok(about) if about.removes_by_path() => {
            eprintln!(
                "seawall: this engine is built with {}, and can be led to the host's files when it removes a tenant's (golang/go#52745)",
                about.go
            );
        }
        Ok(_) => {}
        Err(error) => eprintln!("seawall: {error}; requests are answered with 502 until there is one"),
    }
}

/// Waits until nothing is under way, for so long at most, or until a second signal.
async fn drain(shared: &Shared, patience: Duration, signals: &mut Signals) {
    let deadline = Instant::now() + patience;
    while shared.busy.get() > 0 && Instant::now() < deadline {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
            stop = signals.next() => if stop { return },
        }
    }
}

struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self { hangup: listen(SignalKind::hangup())?, interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// The next one: whether it says to stop, or else to read files again.
    async fn next(&mut self) -> bool {
        tokio::select! {
            _ = self.hangup.recv() => false,
            _ = self.interrupt.recv() => true,
            _ = self.terminate.recv() => true,
        }
    }
}

fn address(engine: &config::Engine) -> anyhow::Result<EngineAddress> {
    Ok(match engine {
        config::Engine::Unix(path) => EngineAddress::Unix(path.clone()),
        config::Engine::Tls { at, tls } => EngineAddress::Tls(at.clone(), Box::new(EngineConnector::new(at, tls)?)),
    })
}

fn sink(target: &AuditTarget) -> anyhow::Result<Sink> {
    Ok(match target {
        AuditTarget::File(path) => Sink::file(path.clone()).with_context(|| format!("cannot write the audit to {}", path.display()))?,
        AuditTarget::Journald => Sink::journal().context("cannot reach the journal")?,
        AuditTarget::Stderr => Sink::Stderr,
        AuditTarget::Stdout => Sink::Stdout,
    })
}
