//! What `seawall serve` was told: flags over `seawall.yaml` over what the machine itself says.
//!
//! ```text
//!   seawall.yaml ──load──▶ Draft ──with_flags──▶ Draft ──complete──▶ Config
//! ```
//!
//! A [`Draft`] may leave things open; a [`Config`] leaves nothing open. What is unknown, doubled or contradictory in the file
//! is an error that points at its line. All paths in the file are relative to the file.

mod address;
mod diagnostic;
mod find;
mod flags;
mod names;
mod syntax;
mod units;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_saphyr::Spanned;

pub use address::{Address, AddressError, DOCKER_TLS_PORT, HostPort};
pub use diagnostic::{ConfigError, Mistake};
pub use find::Environment;
pub use flags::Flags;
pub use names::{ClientName, NameError, Tenant};
pub use syntax::{AuditTarget, EngineTls, Limits, schema};
pub use units::{AmountError, ByteSize, Period};

use crate::identity::Matcher;
use diagnostic::Source;

/// A configuration in which nothing is left open.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// The engine to forward to.
    pub engine: Engine,
    /// Where clients reach us; at least one.
    pub listen: Vec<ListenConfig>,
    /// Who is who; at least one. See [`crate::identity::match_client`].
    pub clients: Vec<Client>,
    /// Where audit records go.
    pub audit: AuditTarget,
    /// How much, and for how long.
    pub limits: Limits,
}

/// A configuration as far as somebody wrote it.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// The engine, if it was named.
    pub engine: Option<Engine>,
    /// The certificates for an engine behind TLS, for `--engine tls://…` too.
    pub engine_tls: Option<EngineTls>,
    /// The listeners; none: one of our own.
    pub listen: Vec<ListenConfig>,
    /// The clients; none: everyone, with [`Self::policy`].
    pub clients: Vec<Client>,
    /// The policy of everyone; none: the shipped one named [`SHIPPED_DEFAULT`].
    pub policy: Option<PolicyRef>,
    /// Where audit records go.
    pub audit: AuditTarget,
    /// How much, and for how long.
    pub limits: Limits,
}

/// Where the engine answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Engine {
    /// TCP with TLS both ways.
    Tls {
        /// Host and port.
        at: HostPort,
        /// Our certificate and their CA.
        tls: EngineTls,
    },
    /// A unix socket.
    Unix(PathBuf),
}

/// Where clients reach us, and with what.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ListenConfig {
    /// The sockets that systemd passes (`sd_listen_fds(3)`): unix or TCP as they come.
    Activated {
        /// For the TCP sockets among them; without it these are refused.
        tls: Option<TlsFiles>,
    },
    /// A TCP socket with TLS and a client certificate always.
    Tls {
        /// Address and port.
        at: HostPort,
        /// Certificates.
        files: TlsFiles,
    },
    /// A unix socket of our own.
    Unix {
        /// Its path.
        path: PathBuf,
        /// The group it is handed to, by name or number.
        group: Option<String>,
        /// Its permission bits.
        mode: u32,
    },
}

/// The files of a `tls://` listener. They are read again when they change.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct TlsFiles {
    /// Our certificate, the leaf first (PEM).
    pub certificate: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
    /// The CAs that clients' certificates must come from (PEM).
    pub client_ca: PathBuf,
    /// What these CAs have revoked (PEM).
    pub client_crl: Option<PathBuf>,
}

/// A client, or a kind of clients: who it is, what it may do, and whose what it creates is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Client {
    /// What audit records call it; none when the configuration lists no clients and this is everyone.
    pub name: Option<ClientName>,
    /// What an identity must prove to be it.
    pub matcher: Matcher,
    /// What it may do.
    pub policy: PolicyRef,
    /// The owner of what it creates; none: one tenant for each identity.
    pub tenant: Option<Tenant>,
}

/// A policy by name or file.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum PolicyRef {
    /// A file; absolute, or relative to the working directory when a flag named it.
    File(PathBuf),
    /// One that comes with seawall.
    Shipped(String),
}

impl FromStr for PolicyRef {
    type Err = std::convert::Infallible;

    /// A `/` in it, or `.yaml` or `.yml` at its end, makes it a file.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let file = text.contains('/') || text.ends_with(".yaml") || text.ends_with(".yml");
        Ok(if file { Self::File(PathBuf::from(text)) } else { Self::Shipped(text.to_owned()) })
    }
}

/// The policy of everyone when nobody chose one.
pub const SHIPPED_DEFAULT: &str = "ci";
/// The mode of a socket that only its owner may use.
pub const OWNER_ONLY: u32 = 0o600;
/// The mode of a socket that its group may use too.
pub const OWNER_AND_GROUP: u32 = 0o660;

impl Config {
    /// What `seawall serve` runs with: the file that the flags name, the flags, the environment, and the sockets that are
    /// there.
    ///
    /// # Errors
    /// Any [`ConfigError`].
    pub fn of_command_line(flags: &Flags) -> Result<Self, ConfigError> {
        let draft = match &flags.config {
            Some(path) => Draft::load(path)?,
            None => Draft::default(),
        };
        draft.with_flags(flags)?.complete(&Environment::of_this_process(), |path| {
            use std::os::unix::fs::FileTypeExt as _;
            std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
        })
    }
}

impl Engine {
    fn at(address: Address, tls: Option<EngineTls>) -> Result<Self, &'static str> {
        match (address, tls) {
            (Address::Unix(path), _) => Ok(Self::Unix(path)),
            (Address::Tls(at), Some(tls)) => Ok(Self::Tls { at, tls }),
            (Address::Tls(_), None) => Err("`engine_tls` with `certificate`, `key` and `ca` is missing"),
            (Address::Activated, _) => Err("`fd://` is for a listener"),
        }
    }
}

impl Draft {
    /// Reads `seawall.yaml`. The text that is checked is the text that is used: the file is read once.
    ///
    /// # Errors
    /// The file cannot be read, or there is a mistake in it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(read)?;
        let base = std::path::absolute(path).map_err(read)?;
        let base = base.parent().unwrap_or(Path::new("/"));
        Ok(Self::parse(&path.display().to_string(), &text, base)?)
    }

    /// Reads the text of a `seawall.yaml`; `name` is for messages, `base` is what its paths are relative to.
    ///
    /// # Errors
    /// The first mistake in it.
    pub fn parse(name: &str, text: &str, base: &Path) -> Result<Self, Box<Mistake>> {
        let source = Source { name, text };
        let options = serde_saphyr::options! { with_snippet: false };
        let file: syntax::File = serde_saphyr::from_str_with_options(text, options).map_err(|error| source.yaml(&error))?;
        let at = Reader { source, base };
        let engine_tls =
            file.engine_tls.map(|tls| EngineTls { certificate: base.join(tls.certificate), key: base.join(tls.key), ca: base.join(tls.ca) });
        let engine = file.engine.map(|engine| at.engine(engine, engine_tls.clone())).transpose()?;
        let audit = match file.audit.to {
            AuditTarget::File(path) => AuditTarget::File(base.join(path)),
            other @ (AuditTarget::Journald | AuditTarget::Stderr | AuditTarget::Stdout) => other,
        };
        Ok(Self {
            engine,
            engine_tls,
            listen: at.listeners(&file.listen)?,
            clients: at.clients(file.clients)?,
            policy: None,
            audit,
            limits: at.limits(file.limits)?,
        })
    }
}

/// Turns what serde read into what is meant, with mistakes at their place.
#[derive(Clone, Copy)]
struct Reader<'a> {
    source: Source<'a>,
    base: &'a Path,
}

impl Reader<'_> {
    fn engine(self, engine: Spanned<Address>, tls: Option<EngineTls>) -> Result<Engine, Box<Mistake>> {
        let at = engine.referenced;
        Engine::at(engine.value, tls).map_err(|why| {
            let help = "an engine is at `unix:///path`, or at `tls://host:port` with `engine_tls` beside it";
            self.source.mistake(at, format!("cannot use this engine: {why}"), help)
        })
    }

    fn limits(self, limits: Option<Spanned<Limits>>) -> Result<Limits, Box<Mistake>> {
        let Some(limits) = limits else {
            return Ok(Limits::default());
        };
        match limits.value.impossible() {
            None => Ok(limits.value),
            Some(name) => {
                let message = format!("`{name}` is zero, so nobody could ever be served");
                Err(self.source.mistake(limits.referenced, message, "leave it out for its default"))
            }
        }
    }

    fn listeners(self, listen: &[Spanned<syntax::ListenText>]) -> Result<Vec<ListenConfig>, Box<Mistake>> {
        let mut seen = BTreeMap::new();
        for listener in listen {
            let address = &listener.value.0.address;
            if seen.insert(address.clone(), ()).is_some() {
                let help = "one listener for each address";
                return Err(self.source.mistake(listener.referenced, format!("`{address}` is there twice"), help));
            }
        }
        listen.iter().map(|listener| self.listener(listener)).collect()
    }

    fn listener(self, listener: &Spanned<syntax::ListenText>) -> Result<ListenConfig, Box<Mistake>> {
        let mistake = |message: String, help: &str| Err(self.source.mistake(listener.referenced, message, help));
        let written = &listener.value.0;
        let files = match (&written.certificate, &written.key, &written.client_ca, &written.client_crl) {
            (Some(certificate), Some(key), Some(ca), crl) => Some(TlsFiles {
                certificate: self.base.join(certificate),
                key: self.base.join(key),
                client_ca: self.base.join(ca),
                client_crl: crl.as_ref().map(|crl| self.base.join(crl)),
            }),
            (None, None, None, None) => None,
            _ => {
                return mistake("`certificate`, `key` and `client_ca` go together".to_owned(), TLS_HELP);
            }
        };
        let socket = written.group.is_some() || written.mode.is_some();
        match (&written.address, files) {
            (Address::Unix(_), Some(_)) => mistake("a unix socket has no certificate".to_owned(), "the peer's uid and gid say who it is"),
            (Address::Unix(path), None) => match mode(written.mode.as_deref(), written.group.is_some()) {
                Some(mode) => Ok(ListenConfig::Unix { path: path.clone(), group: written.group.clone(), mode }),
                None => mistake(
                    format!("`{}` is not a mode for a socket", written.mode.as_deref().unwrap_or_default()),
                    "expected octal digits with read and write for the owner, as in `0600` or `0660`",
                ),
            },
            (Address::Activated | Address::Tls(_), _) if socket => {
                mistake("`group` and `mode` are for a unix socket of our own".to_owned(), "take them out")
            }
            (Address::Activated, tls) => Ok(ListenConfig::Activated { tls }),
            (Address::Tls(at), Some(files)) => Ok(ListenConfig::Tls { at: at.clone(), files }),
            (Address::Tls(at), None) => mistake(format!("`tls://{at}` needs certificates"), TLS_HELP),
        }
    }

    fn clients(self, entries: Vec<Spanned<syntax::ClientEntry>>) -> Result<Vec<Client>, Box<Mistake>> {
        let mut names = BTreeMap::new();
        let mut matches = BTreeMap::new();
        let mut clients = Vec::with_capacity(entries.len());
        for entry in entries {
            let client = self.client(&entry)?;
            let name = entry.value.name;
            if names.insert(name.clone(), ()).is_some() {
                let help = "the name says in audit records who it was: give each its own";
                return Err(self.source.mistake(entry.referenced, format!("two clients are called `{name}`"), help));
            }
            if let Some(other) = matches.insert(client.matcher.clone(), name.clone()) {
                let message = format!("`{name}` matches exactly who `{other}` matches, so both would be refused");
                let help = "make one of the two narrower, or take it out";
                return Err(self.source.mistake(entry.value.matches.referenced, message, help));
            }
            clients.push(client);
        }
        Ok(clients)
    }

    fn client(self, entry: &Spanned<syntax::ClientEntry>) -> Result<Client, Box<Mistake>> {
        let matches = &entry.value.matches;
        let written = matches.value.clone();
        let certificate = written.uri.is_some() || written.dns.is_some() || written.spki.is_some();
        let peer = written.uid.is_some() || written.gid.is_some();
        if !certificate && !peer {
            let help = "write one or more of `uri`, `dns`, `spki`, `uid` and `gid`";
            return Err(self.source.mistake(matches.referenced, "this matches everyone", help));
        }
        if certificate && peer {
            let message = "this matches nobody: a client has a certificate or is a socket's peer, never both";
            return Err(self.source.mistake(matches.referenced, message, "make two entries of it"));
        }
        let policy = match entry.value.policy.parse() {
            Ok(PolicyRef::File(path)) => PolicyRef::File(self.base.join(path)),
            Ok(shipped @ PolicyRef::Shipped(_)) => shipped,
            Err(never) => match never {},
        };
        Ok(Client {
            name: Some(entry.value.name.clone()),
            matcher: Matcher { uri: written.uri, dns: written.dns, spki: written.spki, uid: written.uid, gid: written.gid },
            policy,
            tenant: entry.value.tenant.clone(),
        })
    }
}

/// The permission bits of a socket: connecting needs `w` (unix(7)), and nobody but owner, group and others has any.
fn mode(written: Option<&str>, group: bool) -> Option<u32> {
    let Some(digits) = written else {
        return Some(if group { OWNER_AND_GROUP } else { OWNER_ONLY });
    };
    let digits = digits.strip_prefix("0o").unwrap_or(digits);
    let mode = u32::from_str_radix(digits, 8).ok()?;
    (digits.len() <= 4 && mode <= 0o777 && mode & OWNER_ONLY == OWNER_ONLY).then_some(mode)
}

const TLS_HELP: &str = "write `certificate`, `key` and `client_ca`: TLS without a client's certificate proves nothing about \
                        the client; `seawall cert` makes all three";

#[cfg(test)]
mod tests;
