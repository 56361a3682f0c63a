//! TLS 1.3 with a client certificate always: the files of a listener ▶ what it accepts with.
//!
//! - **One verifier.** Chain, validity, usage (`clientAuth` where a certificate restricts its use, RFC 5280 §4.2.1.12) and
//!   revocation are webpki's. With a `client_crl`, a certificate whose status no list tells is refused, and a list past its
//!   `nextUpdate` refuses everyone: unknown is not good.
//! - **No way around it.** No tickets, no session cache, no early data: rustls restores a resumed client's certificate without
//!   asking the verifier again (rustls 0.23 `server/tls13.rs`).
//! - **Trust can end.** A connection keeps its [`Trust`]: who asks it again learns of expiry, of a new revocation list, of a
//!   removed authority.
//! - **Files change.** They are read again when they change or when [`TlsSource::reload`] is called (SIGHUP). Bad files change
//!   nothing: the old ones stay in use, and the log says why.

mod files;

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio::sync::watch;

pub use files::TlsError;

use crate::config::{EngineTls, HostPort, TlsFiles};
use crate::identity::{Identity, UnixSeconds};
use files::{Loaded, Stamp};

/// How often the files are looked at (four calls of stat(2)).
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the verifier's word is taken on a living connection when nothing has changed; then a list may have run out.
const ASK_AGAIN_AFTER: i64 = 60;
/// HTTP/1.1 and nothing else (RFC 7301): what we decode is what is spoken.
const ALPN: &[u8] = b"http/1.1";

/// What a `tls://` listener accepts with, as of now.
#[derive(Debug)]
pub struct TlsSource {
    files: TlsFiles,
    /// None until the first load is done; then always the last good one.
    current: watch::Sender<Option<Arc<Accepting>>>,
}

/// One generation of files.
#[derive(Debug)]
pub(crate) struct Accepting {
    pub(crate) config: Arc<ServerConfig>,
    verifier: Arc<dyn ClientCertVerifier>,
    stamp: Stamp,
    /// Grows with each one that is put to use.
    generation: u64,
}

/// What a reload found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reload {
    /// The files are in use from now on.
    Changed,
    /// They are as they were.
    Same,
}

impl TlsSource {
    /// A source that has loaded nothing yet. Missing and unreadable files are an error now; what needs cryptography waits for
    /// [`Self::reload`], because the first use of aws-lc-rs costs some 30 ms and a unix listener beside us needs none of it.
    ///
    /// # Errors
    /// A file that cannot be read, or holds no PEM of its kind.
    pub fn new(files: &TlsFiles) -> Result<Self, TlsError> {
        Loaded::read(files)?;
        Ok(Self { files: files.clone(), current: watch::Sender::new(None) })
    }

    /// Reads the files again, and uses them if all are good.
    ///
    /// # Errors
    /// The first thing that is wrong with them; what was in use stays in use.
    pub async fn reload(&self) -> Result<Reload, TlsError> {
        let files = self.files.clone();
        let work = move || Loaded::read(&files).and_then(Accepting::new);
        let fresh = tokio::task::spawn_blocking(work).await.map_err(|_| TlsError::Interrupted)??;
        let changed = self.current.send_if_modified(|current| match current {
            Some(old) if old.stamp == fresh.stamp => false,
            old => {
                let generation = old.as_ref().map_or(0, |old| old.generation.wrapping_add(1));
                *old = Some(Arc::new(Accepting { generation, ..fresh }));
                true
            }
        });
        Ok(if changed { Reload::Changed } else { Reload::Same })
    }

    /// Looks at the files each second, for as long as it is polled, and reloads when they changed. Each bad state of them is
    /// logged once.
    pub async fn follow(self: Arc<Self>) {
        let mut bad = None;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let stamp = Stamp::of(&self.files);
            let known = self.current.borrow().as_ref().map(|current| current.stamp.clone());
            if known.as_ref() == Some(&stamp) || bad.as_ref() == Some(&stamp) {
                continue;
            }
            match self.reload().await {
                Ok(_) => {
                    bad = None;
                    tracing::info!(certificate = %self.files.certificate.display(), "certificates read again");
                }
                Err(error) => {
                    bad = Some(stamp);
                    tracing::error!(error = %chain(&error), "certificates not read: the former ones stay in use");
                }
            }
        }
    }

    /// What a new handshake is to use; waits for the first load.
    pub(crate) async fn accepting(&self) -> Option<Arc<Accepting>> {
        let mut changes = self.current.subscribe();
        let ready = changes.wait_for(Option::is_some).await.ok()?;
        ready.clone()
    }

    /// Asks the verifier in use now about a chain that an earlier one accepted.
    fn verify(&self, chain: &[CertificateDer<'static>], now: UnixSeconds) -> Result<Arc<Accepting>, Distrust> {
        let current = self.current.borrow().clone().ok_or(Distrust::Unverified)?;
        let (leaf, others) = chain.split_first().ok_or(Distrust::Unverified)?;
        let seconds = u64::try_from(now.0).map_err(|_| Distrust::Expired)?;
        let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        current.verifier.verify_client_cert(leaf, others, at).map_err(|why| Distrust::Refused(why.to_string()))?;
        Ok(current)
    }
}

impl Accepting {
    fn new(loaded: Loaded) -> Result<Self, TlsError> {
        let provider = provider();
        let mut roots = RootCertStore::empty();
        for ca in loaded.client_ca {
            roots.add(ca).map_err(TlsError::ClientCa)?;
        }
        let mut verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        if let Some(lists) = loaded.client_crl {
            verifier = verifier.with_crls(lists).enforce_revocation_expiration();
        }
        let verifier = verifier.build().map_err(TlsError::Verifier)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Certificate)?
            .with_client_cert_verifier(Arc::clone(&verifier))
            .with_single_cert(loaded.certificate, loaded.key)
            .map_err(TlsError::Certificate)?;
        // INVARIANT: every connection asks the verifier; nothing is remembered from an earlier one.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { config: Arc::new(config), verifier, stamp: loaded.stamp, generation: 0 })
    }
}

/// aws-lc-rs, named each time: a process-wide default could be another one.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Why a connection's identity counts no longer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Distrust {
    /// Its certificate has ended, or the clock says it has not begun.
    #[error("the client's certificate is no longer valid")]
    Expired,
    /// It would not be accepted today: revoked, its authority removed, the revocation list run out.
    #[error("the client's certificate is no longer accepted: {0}")]
    Refused(String),
    /// There is no chain to ask about.
    #[error("the client's certificate was never verified")]
    Unverified,
}

/// Why a living connection is believed, and until when. One for each connection; ask it at each request.
#[derive(Debug)]
pub struct Trust(Basis);

#[derive(Debug)]
enum Basis {
    /// The kernel's word at `connect(2)`; it does not age.
    Peer,
    Certificate(Box<Verified>),
}

#[derive(Debug)]
struct Verified {
    source: Arc<TlsSource>,
    chain: Vec<CertificateDer<'static>>,
    identity: Identity,
    /// Which generation of files said yes, and when it did.
    last: std::sync::Mutex<(u64, UnixSeconds)>,
}

impl Trust {
    /// Trust in a socket's peer.
    #[must_use]
    pub fn in_peer() -> Self {
        Self(Basis::Peer)
    }

    /// Trust in a chain that `by`, of `source`, has just accepted in a handshake.
    pub(crate) fn in_chain(source: &Arc<TlsSource>, by: &Accepting, chain: Vec<CertificateDer<'static>>, identity: &Identity) -> Self {
        let last = std::sync::Mutex::new((by.generation, UnixSeconds::now()));
        let verified = Verified { source: Arc::clone(source), chain, identity: identity.clone(), last };
        Self(Basis::Certificate(Box::new(verified)))
    }

    /// Whether the identity still counts at `now`. Two comparisons, unless the files changed or the last answer is a minute
    /// old: then the whole chain is verified again (some 100 µs).
    ///
    /// # Errors
    /// Why it counts no longer. The connection is to be closed.
    pub fn still_trusted(&self, now: UnixSeconds) -> Result<(), Distrust> {
        let Basis::Certificate(verified) = &self.0 else {
            return Ok(());
        };
        if !verified.identity.valid_at(now) {
            return Err(Distrust::Expired);
        }
        let mut last = verified.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let current = verified.source.current.borrow().as_ref().is_some_and(|c| c.generation == last.0);
        let fresh = (0..ASK_AGAIN_AFTER).contains(&now.0.saturating_sub(last.1.0));
        if current && fresh {
            return Ok(());
        }
        let by = verified.source.verify(&verified.chain, now)?;
        *last = (by.generation, now);
        Ok(())
    }

    /// Waits until the identity counts no longer, and says why: for streams that stay open without a request. Never ends for a
    /// socket's peer.
    pub async fn ended(&self) -> Distrust {
        let Basis::Certificate(verified) = &self.0 else {
            return std::future::pending().await;
        };
        let mut changes = verified.source.current.subscribe();
        loop {
            let now = UnixSeconds::now();
            if let Err(why) = self.still_trusted(now) {
                return why;
            }
            let Identity::Certificate(certificate) = &verified.identity else {
                return Distrust::Unverified;
            };
            let left = certificate.not_after.0.saturating_sub(now.0).saturating_add(1).min(ASK_AGAIN_AFTER);
            let pause = Duration::from_secs(u64::try_from(left).unwrap_or(1));
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

/// Connects to an engine behind `tls://`, with our certificate and their authority.
#[derive(Clone)]
pub struct EngineConnector {
    at: HostPort,
    name: ServerName<'static>,
    connector: tokio_rustls::TlsConnector,
}

impl std::fmt::Debug for EngineConnector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineConnector").field("at", &self.at).finish_non_exhaustive()
    }
}

impl EngineConnector {
    /// Reads the files.
    ///
    /// # Errors
    /// A file that cannot be read or does not fit the others, or a host that no certificate can name.
    pub fn new(at: &HostPort, tls: &EngineTls) -> Result<Self, TlsError> {
        let (certificate, key) = files::pair(&tls.certificate, &tls.key)?;
        let mut roots = RootCertStore::empty();
        for ca in files::certificates(&tls.ca)? {
            roots.add(ca).map_err(TlsError::EngineCa)?;
        }
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Certificate)?
            .with_root_certificates(roots)
            .with_client_auth_cert(certificate, key)
            .map_err(TlsError::Certificate)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        let name = ServerName::try_from(at.host.clone()).map_err(|_| TlsError::EngineName(at.host.clone()))?;
        Ok(Self { at: at.clone(), name, connector: Arc::new(config).into() })
    }

    /// A new connection, after its handshake.
    ///
    /// # Errors
    /// The engine cannot be reached, or is not the one that its authority vouches for.
    pub async fn connect(&self) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let stream = TcpStream::connect((self.at.host.as_str(), self.at.port)).await?;
        stream.set_nodelay(true)?;
        self.connector.connect(self.name.clone(), stream).await
    }
}

/// An error with its causes, for one line of the log.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests;
