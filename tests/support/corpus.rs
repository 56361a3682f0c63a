//! The request corpus: what the `ci` policy must deny, and what it must allow.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use crate::record::{Request, requests};

/// The decision a case must get.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "lowercase")]
pub enum Expect {
    /// The engine's own answer comes back.
    Allow,
    /// The engine hears nothing of it.
    Deny,
}

/// A request that prepares a case.
#[derive(Clone, Debug, Deserialize)]
pub struct Step {
    /// Its method.
    pub method: String,
    /// Its target, with placeholders.
    pub target: String,
    /// Its body, with placeholders.
    pub body: Option<String>,
}

/// One case.
#[derive(Clone, Debug, Deserialize)]
pub struct Case {
    /// What failures are listed by.
    pub id: String,
    /// The kind of attack, or `benign.…`.
    pub class: String,
    /// Its method.
    pub method: String,
    /// Its target, with placeholders.
    pub target: String,
    /// Its headers, in order; left out, an ordinary client's.
    pub headers: Option<serde_json::Map<String, Value>>,
    /// Its body, with placeholders.
    pub body: Option<String>,
    /// A body that is not text.
    pub body_b64: Option<String>,
    /// The exact bytes to send instead, with placeholders.
    pub raw_b64: Option<String>,
    /// What the same client sends first.
    #[serde(default)]
    pub pre: Vec<Step>,
    /// What happens on the engine in between.
    #[serde(default)]
    pub admin: Vec<Step>,
    /// The decision it must get.
    pub expect: Expect,
    /// It depends on the policy, and does not count.
    #[serde(default)]
    pub optional: bool,
    /// Why.
    pub why: String,
    /// What engines without a filter did.
    #[serde(default)]
    pub observed: BTreeMap<String, String>,
}

/// What the placeholders stand for.
pub type Values = BTreeMap<String, String>;

impl Case {
    /// The bytes of the request.
    #[must_use]
    pub fn wire(&self, values: &Values) -> Vec<u8> {
        if let Some(raw) = &self.raw_b64 {
            return fill_bytes(&STANDARD.decode(raw).unwrap(), values);
        }
        let body = match (&self.body, &self.body_b64) {
            (_, Some(coded)) => Some(STANDARD.decode(coded).unwrap()),
            (Some(text), None) => Some(fill(text, values).into_bytes()),
            (None, None) => None,
        };
        let headers = self.headers.iter().flatten().map(|(name, value)| (name.clone(), fill(value.as_str().unwrap(), values)));
        assemble(&self.method, &fill(&self.target, values), headers.collect(), body, self.headers.is_none())
    }

    /// The method and route of each request in these bytes, as a lenient engine reads them.
    #[must_use]
    pub fn asked(&self, bytes: &[u8]) -> Vec<Request> {
        requests(0, bytes, false).into_iter().filter(|r| !r.method.is_empty()).collect()
    }

    /// Everything in the case that may hold a placeholder, as one text.
    #[must_use]
    pub fn text(&self) -> String {
        let raw = self.raw_b64.as_ref().map(|raw| String::from_utf8_lossy(&STANDARD.decode(raw).unwrap()).into_owned());
        format!("{} {:?} {:?} {:?} {:?} {}", self.target, self.body, self.headers, self.pre, self.admin, raw.unwrap_or_default())
    }

    /// Whether the case is several requests on one connection, of which the first may pass.
    #[must_use]
    pub fn carries(&self, asked: usize) -> bool {
        self.raw_b64.is_some() && (asked > 1 || matches!(self.class.as_str(), "hijack" | "http.pipeline"))
    }
}

impl Step {
    /// The bytes of the request.
    #[must_use]
    pub fn wire(&self, values: &Values) -> Vec<u8> {
        let body = self.body.as_ref().map(|text| fill(text, values).into_bytes());
        assemble(&self.method, &fill(&self.target, values), Vec::new(), body, true)
    }
}

fn assemble(method: &str, target: &str, mut headers: Vec<(String, String)>, body: Option<Vec<u8>>, ordinary: bool) -> Vec<u8> {
    let has = |headers: &[(String, String)], name: &str| headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name));
    let chunked = headers.iter().any(|(key, value)| key.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked"));
    if ordinary && body.is_some() {
        headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
    }
    let framed = has(&headers, "content-length") || has(&headers, "transfer-encoding");
    if !framed && (body.is_some() || (ordinary && method == "POST")) {
        headers.push(("Content-Length".to_owned(), body.as_ref().map_or(0, Vec::len).to_string()));
    }
    let mut bytes = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
    if !has(&headers, "host") {
        bytes.extend(b"Host: docker\r\n");
    }
    for (name, value) in headers {
        bytes.extend(format!("{name}: {value}\r\n").into_bytes());
    }
    bytes.extend(b"\r\n");
    match body {
        Some(body) if chunked => bytes.extend([format!("{:x}\r\n", body.len()).into_bytes(), body, b"\r\n0\r\n\r\n".to_vec()].concat()),
        Some(body) => bytes.extend(body),
        None => {}
    }
    bytes
}

/// The text with its placeholders filled.
#[must_use]
pub fn fill(text: &str, values: &Values) -> String {
    String::from_utf8(fill_bytes(text.as_bytes(), values)).unwrap()
}

fn fill_bytes(text: &[u8], values: &Values) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.windows(2).position(|two| two == b"${") {
        let end = at + rest[at..].iter().position(|byte| *byte == b'}').expect("an open placeholder");
        let name = std::str::from_utf8(&rest[at + 2..end]).unwrap();
        out.extend_from_slice(&rest[..at]);
        out.extend(values.get(name).unwrap_or_else(|| panic!("no value for ${{{name}}}")).bytes());
        rest = &rest[end + 1..];
    }
    out.extend_from_slice(rest);
    out
}

/// Every case of `tests/corpus/requests.jsonl`; of `$CORPUS_ONLY`, when it is set: a class's beginning or an id.
#[must_use]
pub fn cases() -> Vec<Case> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/requests.jsonl");
    let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let only = std::env::var("CORPUS_ONLY").unwrap_or_default();
    let all = text.lines().map(|line| serde_json::from_str::<Case>(line).unwrap_or_else(|e| panic!("{e}: {line}")));
    all.filter(|case| case.id == only || case.class.starts_with(&only)).collect()
}
