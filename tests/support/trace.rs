//! What real clients sent: `tests/corpus/client-traces`.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::Deserialize;
use serde_json::Value;

use crate::record::route;

/// One request of a client to an engine.
#[derive(Clone, Debug, Deserialize)]
pub struct Traced {
    /// The command it belongs to.
    pub label: String,
    /// Its place in the command.
    pub seq: u64,
    /// Its method.
    pub method: String,
    /// Its path, with the version.
    pub path: String,
    /// Its query.
    pub query: Option<String>,
    /// Its headers.
    pub headers: serde_json::Map<String, Value>,
    /// The beginning of its body: text, or `{"b64": …}`.
    #[serde(default)]
    pub body: Value,
    /// The length of the whole body.
    #[serde(default)]
    pub body_len: u64,
    /// What the engine answered.
    pub status: Option<u16>,
}

impl Traced {
    /// Where it stands, for messages.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} #{} {} {}{}", self.label, self.seq, self.method, self.path, self.query.as_ref().map(|q| format!("?{q}")).unwrap_or_default())
    }

    /// Method and path, with what is a name or an id replaced.
    #[must_use]
    pub fn operation(&self) -> String {
        let path = route(&self.path);
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let shape = match parts.as_slice() {
            ["images", _, .., last @ ("json" | "history" | "push" | "tag" | "get")] if parts.len() > 2 => format!("/images/{{name}}/{last}"),
            [family @ ("containers" | "exec"), _, rest @ ..] if !rest.is_empty() => {
                format!("/{family}/{{id}}/{}", rest.join("/"))
            }
            ["distribution", .., last] => format!("/distribution/{{name}}/{last}"),
            [
                "containers" | "images" | "networks" | "volumes" | "build" | "system" | "swarm",
                "json" | "create" | "prune" | "search" | "load" | "get" | "df" | "init" | "join" | "leave" | "unlockkey",
            ] => path.clone(),
            [
                family @ ("images" | "containers" | "networks" | "volumes" | "plugins" | "services" | "tasks" | "nodes" | "secrets" | "configs"),
                _,
                rest @ ..,
            ] => {
                let tail = if *family == "images" { &[][..] } else { rest };
                format!("/{family}/{{id}}{}", tail.iter().map(|word| format!("/{word}")).collect::<String>())
            }
            _ => path.clone(),
        };
        format!("{} {shape}", self.method)
    }

    /// The bytes of the request; nothing when its body was not kept whole.
    #[must_use]
    pub fn wire(&self) -> Option<Vec<u8>> {
        let body = match &self.body {
            Value::String(text) => text.clone().into_bytes(),
            Value::Object(coded) => STANDARD.decode(coded["b64"].as_str()?).ok()?,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => Vec::new(),
        };
        (u64::try_from(body.len()).ok()? == self.body_len).then_some(())?;
        let target = self.query.as_ref().filter(|q| !q.is_empty()).map_or_else(|| self.path.clone(), |query| format!("{}?{query}", self.path));
        let mut bytes = format!("{} {target} HTTP/1.1\r\n", self.method).into_bytes();
        let framing = ["content-length", "transfer-encoding"];
        for (name, value) in self.headers.iter().filter(|(name, _)| !framing.contains(&name.to_ascii_lowercase().as_str())) {
            // the recorder shows decoded what clients send encoded
            let text = value.as_str()?;
            let sent = text.strip_prefix("b64url:").map_or_else(|| text.to_owned(), |plain| URL_SAFE.encode(plain));
            bytes.extend(format!("{name}: {sent}\r\n").into_bytes());
        }
        if !body.is_empty() || self.headers.keys().any(|name| framing.contains(&name.to_ascii_lowercase().as_str())) {
            bytes.extend(format!("Content-Length: {}\r\n", body.len()).into_bytes());
        }
        Some([bytes, b"\r\n".to_vec(), body].concat())
    }
}

/// Every trace, by the name of its file.
#[must_use]
pub fn traces() -> Vec<(String, Vec<Traced>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/client-traces");
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path: &Path| {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    };
    files.iter().map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), read(path))).collect()
}
