//! Addresses: where the engine answers, and where we listen.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The port Docker registered for an engine behind TLS (IANA service name `docker-s`).
pub const DOCKER_TLS_PORT: u16 = 2376;

/// `unix:///path`, `tls://host:port` or `fd://`, as a flag or `seawall.yaml` writes it.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Address {
    /// `fd://`: the sockets that systemd passed (`sd_listen_fds(3)`). Only for a listener.
    Activated,
    /// `tls://host:port`: TCP, with TLS and a client certificate always.
    Tls(HostPort),
    /// `unix:///path`: an absolute path of a unix socket.
    Unix(PathBuf),
}

/// A host name or IP address with its port.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct HostPort {
    /// A DNS name or an IP address, without the brackets of `[::1]`.
    pub host: String,
    /// The TCP port; 0 lets the kernel choose one for a listener.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') { write!(f, "[{}]:{}", self.host, self.port) } else { write!(f, "{}:{}", self.host, self.port) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Activated => f.write_str("fd://"),
            Self::Tls(at) => write!(f, "tls://{at}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// Why a text is not an [`Address`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AddressError {
    /// `fd://` with something behind it.
    #[error("`{0}`: systemd passes the sockets itself, so write just `fd://`")]
    Activated(String),
    /// A host or port that cannot be read.
    #[error("`{0}` is not `tls://host:port` (an IPv6 address goes in brackets: `tls://[::1]:2376`)")]
    HostPort(String),
    /// TCP without TLS.
    #[error(
        "`{0}` would be TCP without TLS: whoever reaches the port would own the engine; write `tls://host:port` \
         and let `seawall cert` make the certificates"
    )]
    PlainTcp(String),
    /// A scheme that is not one of ours.
    #[error("`{0}` is not an address: expected `unix:///path`, `tls://host:port` or (to listen) `fd://`")]
    Scheme(String),
    /// A socket path that is relative, empty or longer than the kernel takes (unix(7): 107 bytes).
    #[error("`{0}` is not `unix:///path`: the path must be absolute and at most 107 bytes long")]
    UnixPath(String),
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let owned = || text.to_owned();
        match text.split_once("://") {
            Some(("unix", path)) => unix(path).ok_or_else(|| AddressError::UnixPath(owned())),
            Some(("tls", at)) => host_port(at).map(Self::Tls).ok_or_else(|| AddressError::HostPort(owned())),
            Some(("fd", "")) => Ok(Self::Activated),
            Some(("fd", _)) => Err(AddressError::Activated(owned())),
            Some(("tcp" | "http" | "https", _)) => Err(AddressError::PlainTcp(owned())),
            _ => Err(AddressError::Scheme(owned())),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

fn unix(path: &str) -> Option<Address> {
    // unix(7): sun_path is 108 bytes with its terminating NUL.
    let fits = path.starts_with('/') && path.len() <= 107 && !path.contains('\0') && !path.ends_with('/');
    fits.then(|| Address::Unix(PathBuf::from(path)))
}

pub(super) fn host_port(at: &str) -> Option<HostPort> {
    let (host, port) = match at.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once("]:")?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, port)
        }
        None => at.rsplit_once(':')?,
    };
    let bracketed = at.starts_with('[');
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if host.is_empty() || !(bracketed || host.chars().all(named)) || !port.chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    Some(HostPort { host: host.to_owned(), port: port.parse().ok()? })
}

/// Whether two paths name the same socket, as far as their text can say: `/var/run` is `/run` (FHS 3.0 §3.15).
pub(super) fn same_socket(a: &Path, b: &Path) -> bool {
    let plain = |path: &Path| match path.strip_prefix("/var/run") {
        Ok(below) => Path::new("/run").join(below),
        Err(_) => path.to_owned(),
    };
    // `components` already drops `//` and `/./`.
    plain(a).components().eq(plain(b).components())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_interface_names() {
        let tls = |host: &str, port| Address::Tls(HostPort { host: host.into(), port });
        for (text, expected) in [
            ("unix:///var/run/docker.sock", Address::Unix("/var/run/docker.sock".into())),
            ("tls://0.0.0.0:2376", tls("0.0.0.0", 2376)),
            ("tls://build.example.org:0", tls("build.example.org", 0)),
            ("tls://[::1]:2376", tls("::1", 2376)),
            ("fd://", Address::Activated),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
            assert_eq!(text.parse::<Address>().map(|a| a.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn refuses_with_the_reason() {
        for (text, needle) in [
            ("tcp://0.0.0.0:2375", "TCP without TLS"),
            ("http://0.0.0.0:2375", "TCP without TLS"),
            ("unix://docker.sock", "must be absolute"),
            ("unix:///", "must be absolute"),
            ("/var/run/docker.sock", "is not an address"),
            ("tls://host", "is not `tls://host:port`"),
            ("tls://host:99999", "is not `tls://host:port`"),
            ("tls://::1:2376", "is not `tls://host:port`"),
            ("tls://ho/st:1", "is not `tls://host:port`"),
            ("tls://[x]:1", "is not `tls://host:port`"),
            ("fd://3", "write just `fd://`"),
            ("", "is not an address"),
        ] {
            let message = text.parse::<Address>().expect_err(text).to_string();
            assert!(message.contains(needle), "{text}: {message}");
        }
        let long = format!("unix:///{}", "x".repeat(107));
        assert!(matches!(long.parse::<Address>(), Err(AddressError::UnixPath(_))));
    }

    #[test]
    fn knows_one_socket_by_two_paths() {
        for (a, b, expected) in [
            ("/run/seawall/docker.sock", "/var/run/seawall/docker.sock", true),
            ("/run//seawall/./docker.sock", "/run/seawall/docker.sock", true),
            ("/run/docker.sock", "/run/seawall/docker.sock", false),
        ] {
            assert_eq!(same_socket(Path::new(a), Path::new(b)), expected, "{a} {b}");
        }
    }
}
