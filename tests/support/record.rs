//! What an engine was sent, as it understood it.

use std::io::ErrorKind;

use serde_json::Value;

use crate::http::{Framing, Head, Reader};

/// One request that arrived at an engine.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The connection it came on, counted from 0.
    pub connection: usize,
    /// Its method.
    pub method: String,
    /// Its target, with the query.
    pub target: String,
    /// Its first line and headers.
    pub head: Head,
    /// Its body, or as much of it as came.
    pub body: Vec<u8>,
    /// Why the bytes are no request, when they are none.
    pub error: Option<String>,
}

impl Request {
    pub(crate) fn new(connection: usize, head: Head) -> Self {
        let mut words = head.first.split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        Self { connection, method, target, head, ..Self::default() }
    }

    /// The path without version, query and escapes: see [`route`].
    #[must_use]
    pub fn route(&self) -> String {
        route(&self.target)
    }

    /// A value of the query.
    #[must_use]
    pub fn query(&self, key: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').filter_map(|pair| pair.split_once('=')).find(|(k, _)| *k == key).map(|(_, v)| unescape(&v.replace('+', " ")))
    }

    /// The body as JSON, or null.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Whether the client asks for a stream of its own after the answer.
    #[must_use]
    pub fn upgrades(&self) -> bool {
        self.head.header("upgrade").is_some()
    }
}

/// A target's path as the engine's router compares it: no scheme and host, query, version or escapes.
#[must_use]
pub fn route(target: &str) -> String {
    let path = target.split('?').next().unwrap_or_default();
    let path = match path.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => rest.find('/').map_or("", |at| &rest[at..]),
        Some(_) | None => path,
    };
    let plain = match path.strip_prefix("/v").and_then(|rest| rest.split_once('/')) {
        Some((version, rest)) if !version.is_empty() && version.chars().all(|c| c.is_ascii_digit() || c == '.') => {
            format!("/{rest}")
        }
        Some(_) | None => path.to_owned(),
    };
    unescape(&plain)
}

/// Percent escapes undone, byte by byte; what is no escape stays.
#[must_use]
pub fn unescape(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
        match digits {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            Some(_) | None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A value of a query, escaped.
#[must_use]
pub fn escape(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

/// The requests in the bytes of one connection, as a lenient engine reads them; `tunnel` says that an upgrade was answered with
/// one, so that nothing after it is a request.
#[must_use]
pub fn requests(connection: usize, bytes: &[u8], tunnel: bool) -> Vec<Request> {
    let (mut reader, mut found) = (Reader::new(bytes), Vec::<Request>::new());
    loop {
        let head = match reader.head() {
            Ok(head) => head,
            Err(error) => {
                if error.kind() != ErrorKind::UnexpectedEof {
                    found.push(Request { connection, error: Some(error.to_string()), ..Request::default() });
                }
                return found;
            }
        };
        let framing = head.framing(Framing::Length(0));
        let mut request = Request::new(connection, head);
        if !request.head.first.contains(" HTTP/1.") {
            request.error = Some(format!("not HTTP/1.1: {:?}", request.head.first));
        }
        let whole = reader.body(framing, &mut request.body).is_ok();
        let stop = !whole || request.error.is_some() || (tunnel && request.upgrades());
        found.push(request);
        if stop {
            return found;
        }
    }
}
