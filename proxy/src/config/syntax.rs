//! `seawall.yaml` as serde reads it: one struct a mapping, every key known, every value typed.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

use super::address::Address;
use super::names::{ClientName, Tenant};
use super::units::{ByteSize, Period};
use crate::identity::{DnsPattern, SpkiPin, UriPattern};

/// The configuration of `seawall serve`. Paths are relative to this file.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(title = "seawall.yaml")]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// Where the engine answers: `unix:///path` or `tls://host:port`. Left out: found, as the docker CLI would.
    #[schemars(with = "Option<String>")]
    pub(super) engine: Option<Spanned<Address>>,
    /// What we show to, and ask from, an engine behind `tls://`.
    pub(super) engine_tls: Option<EngineTls>,
    /// Where clients reach us. Left out: one unix socket of our own user.
    #[schemars(with = "Vec<ListenShape>")]
    #[serde(default)]
    pub(super) listen: Vec<Spanned<ListenText>>,
    /// Who is who: a client that matches no entry, or two, is refused. Left out: every accepted client gets the policy
    /// of `--policy`, or `ci`.
    #[schemars(with = "Vec<ClientEntry>")]
    #[serde(default)]
    pub(super) clients: Vec<Spanned<ClientEntry>>,
    /// Where audit records go.
    #[serde(default)]
    pub(super) audit: Audit,
    /// How much, and for how long.
    #[schemars(with = "Option<Limits>")]
    pub(super) limits: Option<Spanned<Limits>>,
}

/// The files of a connection to an engine behind TLS.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct EngineTls {
    /// Our certificate for the engine (PEM, the chain with the leaf first).
    pub certificate: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
    /// The CA that the engine's certificate must come from (PEM).
    pub ca: PathBuf,
}

/// One listener, in its long form.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Listen {
    /// `unix:///path`, `tls://host:port`, or `fd://` for the sockets that systemd passes.
    #[schemars(with = "String")]
    pub(super) address: Address,
    /// The group that may use a unix socket, by name or number; its mode is then 0660.
    #[schemars(with = "Option<NumberOrText>")]
    pub(super) group: Option<String>,
    /// The mode of a unix socket, in octal. Left out: 0600, or 0660 with a `group`.
    #[schemars(with = "Option<NumberOrText>")]
    pub(super) mode: Option<String>,
    /// Our certificate (PEM, the chain with the leaf first).
    pub(super) certificate: Option<PathBuf>,
    /// Its private key (PEM, mode 0600).
    pub(super) key: Option<PathBuf>,
    /// The CAs that clients' certificates must come from (PEM).
    pub(super) client_ca: Option<PathBuf>,
    /// What these CAs have revoked (PEM). With it, a certificate of unknown status is refused, and so is everyone when it
    /// is past its next update.
    pub(super) client_crl: Option<PathBuf>,
}

/// The two ways to write a listener.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
#[schemars(untagged)]
enum ListenShape {
    /// The address alone.
    Address(String),
    /// The address with its options.
    Options(Listen),
}

/// A number, or a text of one.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
#[schemars(untagged)]
enum NumberOrText {
    Number(u32),
    Text(String),
}

/// A client, or a kind of clients.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientEntry {
    /// What audit records call it; unique.
    #[schemars(with = "String")]
    pub(super) name: ClientName,
    /// What its certificate or socket peer must prove: all of these.
    #[serde(rename = "match")]
    #[schemars(with = "Matches")]
    pub(super) matches: Spanned<Matches>,
    /// A shipped policy's name, or a file (a `/`, or `.yaml` at its end, makes it one).
    pub(super) policy: String,
    /// The owner of what it creates. Left out: one tenant for each identity.
    #[schemars(with = "Option<String>")]
    pub(super) tenant: Option<Tenant>,
}

/// What an identity must prove. Everything that is written must hold, and something must be written.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Matches {
    /// One of the certificate's URIs (`*`: within a segment; `**`: whole segments).
    #[schemars(with = "Option<String>")]
    pub(super) uri: Option<UriPattern>,
    /// One of the certificate's DNS names (`*`: one whole label).
    #[schemars(with = "Option<String>")]
    pub(super) dns: Option<DnsPattern>,
    /// The certificate's public key: `sha256:` and its SHA-256 in hexadecimal.
    #[schemars(with = "Option<String>")]
    pub(super) spki: Option<SpkiPin>,
    /// The user of the socket's peer, by number.
    pub(super) uid: Option<u32>,
    /// The primary group of the socket's peer, by number.
    pub(super) gid: Option<u32>,
}

/// The audit trail.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct Audit {
    /// `stdout`, `stderr`, `journald` or `file: PATH`.
    #[serde(default)]
    pub(super) to: AuditTarget,
}

/// Where audit records go, one JSON object a line.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum AuditTarget {
    /// Appended to this file.
    File(PathBuf),
    /// systemd's journal.
    Journald,
    /// Standard error.
    Stderr,
    /// Standard output.
    #[default]
    Stdout,
}

/// How much, and for how long.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// How long a stop waits for open streams (attach, exec, logs) to end by themselves.
    #[schemars(with = "String")]
    pub drain_timeout: Period,
    /// How long a client may take to send a request's head, from its first byte to its last.
    #[schemars(with = "String")]
    pub header_timeout: Period,
    /// How long a client may take for its TLS handshake, in all.
    #[schemars(with = "String")]
    pub handshake_timeout: Period,
    /// The largest JSON body of a request. Streams (build contexts, archives, images) are not bounded by it.
    #[schemars(with = "String")]
    pub max_body: ByteSize,
    /// Open connections, all listeners together.
    pub max_connections: u32,
    /// Open connections of one identity.
    pub max_connections_per_identity: u32,
    /// TLS handshakes under way at once, before anybody has proven who they are; a quarter of them from one address (of IPv6: one /64).
    pub max_handshakes: u32,
    /// How long a client may take nothing of an archive (`docker cp`, `docker export`), or send nothing more of one: the engine keeps its container
    /// locked meanwhile.
    #[schemars(with = "String")]
    pub stall_timeout: Period,
}

impl Limits {
    /// The first limit that would let nobody in. Zero never means "no limit" here.
    pub(super) fn impossible(&self) -> Option<&'static str> {
        let Self { drain_timeout: _, header_timeout, handshake_timeout, max_body, .. } = self;
        let Self { max_connections, max_connections_per_identity, max_handshakes, stall_timeout, .. } = self;
        let zeros = [
            ("header_timeout", header_timeout.0.is_zero()),
            ("handshake_timeout", handshake_timeout.0.is_zero()),
            ("max_body", max_body.0 == 0),
            ("max_connections", *max_connections == 0),
            ("max_connections_per_identity", *max_connections_per_identity == 0),
            ("max_handshakes", *max_handshakes == 0),
            ("stall_timeout", stall_timeout.0.is_zero()),
        ];
        zeros.iter().find(|(_, zero)| *zero).map(|(name, _)| *name)
    }
}

impl Default for Limits {
    /// Ten seconds for a head and five for a handshake cut slow clients without hurting a slow line; the counts leave room
    /// under the usual 20,000 descriptors, two to a connection.
    fn default() -> Self {
        Self {
            drain_timeout: Period(std::time::Duration::from_secs(30)),
            header_timeout: Period(std::time::Duration::from_secs(10)),
            handshake_timeout: Period(std::time::Duration::from_secs(5)),
            max_body: ByteSize(4 << 20),
            max_connections: 8192,
            max_connections_per_identity: 1024,
            max_handshakes: 512,
            stall_timeout: Period(std::time::Duration::from_secs(60)),
        }
    }
}

impl Listen {
    fn short(address: Address) -> Self {
        Self { address, group: None, mode: None, certificate: None, key: None, client_ca: None, client_crl: None }
    }
}

/// A listener as the file has it: a text or a mapping.
#[derive(Clone, Debug)]
pub(super) struct ListenText(pub(super) Listen);

impl<'de> Deserialize<'de> for ListenText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = ListenText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address, or a mapping with `address`")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ListenText, E> {
                text.parse().map(|address| ListenText(Listen::short(address))).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ListenText, A::Error> {
                Listen::deserialize(MapAccessDeserializer::new(map)).map(ListenText)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// The JSON Schema of `seawall.yaml` (draft 2020-12), for editors.
///
/// # Errors
/// Never in practice: the schema is made of values that JSON has.
pub fn schema() -> Result<String, serde_json::Error> {
    let mut text = serde_json::to_string_pretty(&schemars::schema_for!(File))?;
    text.push('\n');
    Ok(text)
}
