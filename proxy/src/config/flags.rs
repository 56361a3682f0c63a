//! The flags of `seawall serve`, over what the file says.

use std::path::PathBuf;

use super::address::Address;
use super::{ConfigError, Draft, Engine, ListenConfig, PolicyRef, TlsFiles};

/// `seawall serve [--config FILE] [--engine ADDR] [--listen ADDR]… [--policy NAME|FILE]
/// [--tls-cert F --tls-key F --client-ca F [--client-crl F]]`.
///
/// A flag replaces what the file says about the same thing: `--listen` replaces all of `listen`.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Flags {
    /// The configuration file; its paths are relative to it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the engine answers: `unix:///path`, or `tls://host:port` with `engine_tls` in the file.
    #[arg(long, value_name = "ADDR")]
    pub engine: Option<Address>,
    /// Where clients reach us: `unix:///path`, `tls://host:port` or `fd://`. May be repeated.
    #[arg(long, value_name = "ADDR")]
    pub listen: Vec<Address>,
    /// The policy of every client, when the file lists no clients: a shipped policy's name, or a file.
    #[arg(long, value_name = "NAME|FILE")]
    pub policy: Option<PolicyRef>,
    /// Our certificate for `tls://` listeners (PEM, the leaf first).
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// The private key of that certificate (PEM, mode 0600).
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// The CAs that clients' certificates must come from (PEM).
    #[arg(long, value_name = "FILE")]
    pub client_ca: Option<PathBuf>,
    /// What these CAs have revoked (PEM).
    #[arg(long, value_name = "FILE")]
    pub client_crl: Option<PathBuf>,
}

impl Draft {
    /// Puts the flags over what the file said.
    ///
    /// # Errors
    /// Flags that contradict each other or the file: TLS files without a `tls://` listener or the other way round,
    /// `--policy` beside `clients`, an engine behind TLS without `engine_tls`.
    pub fn with_flags(mut self, flags: &Flags) -> Result<Self, ConfigError> {
        if let Some(engine) = &flags.engine {
            self.engine = Some(
                Engine::at(engine.clone(), self.engine_tls.clone())
                    .map_err(|why| ConfigError::flags(format!("cannot use `--engine {engine}`: {why}"), ENGINE_HELP))?,
            );
        }
        let files = flags.tls_files()?;
        if !flags.listen.is_empty() {
            let listeners = flags.listen.iter().map(|address| listener(address, files.as_ref()));
            self.listen = listeners.collect::<Result<_, _>>()?;
        } else if files.is_some() {
            return Err(ConfigError::flags(
                "`--tls-cert` is there, but no `--listen` to use it",
                "add `--listen tls://0.0.0.0:2376`, or write the certificate beside its listener in the file",
            ));
        }
        if let Some(policy) = &flags.policy {
            if !self.clients.is_empty() {
                return Err(ConfigError::flags(
                    "`--policy` is there, but the file says which client has which policy",
                    "leave `--policy` out, or take `clients` out of the file",
                ));
            }
            self.policy = Some(policy.clone());
        }
        Ok(self)
    }
}

impl Flags {
    fn tls_files(&self) -> Result<Option<TlsFiles>, ConfigError> {
        match (&self.tls_cert, &self.tls_key, &self.client_ca) {
            (Some(certificate), Some(key), Some(client_ca)) => Ok(Some(TlsFiles {
                certificate: certificate.clone(),
                key: key.clone(),
                client_ca: client_ca.clone(),
                client_crl: self.client_crl.clone(),
            })),
            (None, None, None) if self.client_crl.is_none() => Ok(None),
            _ => Err(ConfigError::flags(
                "`--tls-cert`, `--tls-key` and `--client-ca` go together",
                "TLS without a client's certificate proves nothing about the client; `seawall cert` makes all three",
            )),
        }
    }
}

fn listener(address: &Address, files: Option<&TlsFiles>) -> Result<ListenConfig, ConfigError> {
    match address {
        Address::Activated => Ok(ListenConfig::Activated { tls: files.cloned() }),
        Address::Unix(path) => Ok(ListenConfig::Unix { path: path.clone(), group: None, mode: super::OWNER_ONLY }),
        Address::Tls(at) => match files {
            Some(files) => Ok(ListenConfig::Tls { at: at.clone(), files: files.clone() }),
            None => Err(ConfigError::flags(
                format!("`--listen {address}` needs `--tls-cert`, `--tls-key` and `--client-ca`"),
                "`seawall cert init DIR` and `seawall cert server DIR --host NAME` make them",
            )),
        },
    }
}

const ENGINE_HELP: &str = "an engine is at `unix:///path`, or at `tls://host:port` with `engine_tls` in the file";
