//! The query: each key declared by its operation, read once into a typed value, and written anew.
//!
//! The engine takes duplicates (the first wins), drops malformed pairs on `/build`, and lets a urlencoded body win over the query
//! (`r.ParseForm`). Here each of these is refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::DecodeError;
use crate::path::{percent_decode, percent_encode};
use crate::wire::{Map, Text, decode_json};

/// How a value of the query is read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `httputils.BoolValue`: the words that every client means alike. Written `1` or `0`.
    Flag,
    /// A whole number.
    Int,
    /// Any text without control characters.
    Text,
    /// Any text, any number of times.
    Texts,
    /// JSON, `{"key": ["value"]}` or the older `{"key": {"value": true}}`. Written in the first form.
    Filters,
    /// JSON, `{"name": "value" | null}`.
    Pairs,
    /// JSON, `["text"]`.
    List,
    /// JSON, `[{"Name": …, "Soft": …, "Hard": …}]`.
    Ulimits,
}

impl Kind {
    /// Whether its values are JSON documents.
    const fn is_json(self) -> bool {
        match self {
            Self::Filters | Self::List | Self::Pairs | Self::Ulimits => true,
            Self::Flag | Self::Int | Self::Text | Self::Texts => false,
        }
    }
}

/// One key of an operation's query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param {
    /// As it stands in the query; case matters.
    pub key: &'static str,
    /// How it is read.
    pub kind: Kind,
}

/// A value as it was read.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// [`Kind::Filters`].
    Filters(Filters),
    /// [`Kind::Flag`].
    Flag(bool),
    /// [`Kind::Int`].
    Int(i64),
    /// [`Kind::List`].
    List(Vec<String>),
    /// [`Kind::Pairs`].
    Pairs(BTreeMap<String, Option<String>>),
    /// [`Kind::Text`].
    Text(Text<'a>),
    /// [`Kind::Texts`].
    Texts(Vec<Text<'a>>),
    /// [`Kind::Ulimits`].
    Ulimits(Vec<QueryUlimit>),
}

/// A ulimit in the query of a build (API 1.24: `POST /build`, `ulimits`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryUlimit {
    /// As `nofile`.
    #[serde(rename = "Name")]
    pub name: String,
    /// The hard limit.
    #[serde(rename = "Hard")]
    pub hard: i64,
    /// The soft limit.
    #[serde(rename = "Soft")]
    pub soft: i64,
}

/// Filters of a list: values of one key are alternatives, except labels, which the engine ANDs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(pub BTreeMap<String, Vec<String>>);

impl Filters {
    /// Keys that take an object's name: where a list begins or ends.
    pub const POINTS: [&str; 2] = ["before", "since"];

    /// Demands one more label. Only narrows: the engine ANDs labels (API 1.24, measured on four engines).
    pub fn and_label(&mut self, label: String) {
        let labels = self.0.entry("label".to_owned()).or_default();
        if !labels.contains(&label) {
            labels.push(label);
        }
    }

    fn decode(json: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Values {
            List(Vec<String>),
            Set(BTreeMap<String, bool>),
        }
        let body = |error: DecodeError| error.to_string();
        // Read as a Map first: it refuses duplicate keys at the top, which an untagged value cannot see below.
        let map: Map<'_, serde_json::Value> = decode_json(json.as_bytes()).map_err(body)?;
        let mut filters = Self::default();
        for (key, value) in map.0 {
            let values = match serde_json::from_value(value).map_err(|_| format!("`{key}` is neither a list nor a set of strings"))? {
                Values::List(list) => list,
                Values::Set(set) => {
                    if set.values().any(|on| !on) {
                        return Err(format!("`{key}` has a value that is false"));
                    }
                    set.into_keys().collect()
                }
            };
            filters.0.insert(key.to_string(), values);
        }
        Ok(filters)
    }
}

/// The query of one request, in the order of the operation's declaration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Query<'a>(Vec<(&'static str, Value<'a>)>);

impl<'a> Query<'a> {
    /// Reads a raw query against the declared keys. Keys in `dropped` are read and left out.
    ///
    /// # Errors
    /// [`DecodeError::Query`].
    pub(crate) fn decode(raw: &'a str, params: &'static [Param], dropped: &[&[&str]]) -> Result<Self, DecodeError> {
        let mut query = Self::default();
        if raw.is_empty() {
            return Ok(query);
        }
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            let malformed = |why: &str| DecodeError::Query { key: pair.chars().take(60).collect(), why: why.to_owned() };
            if pair.contains(';') {
                return Err(malformed("`;` is not a separator; write it as %3B"));
            }
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if key.bytes().any(|b| matches!(b, b'%' | b'+')) {
                return Err(malformed("a key needs no escapes"));
            }
            let value = if value.contains(['%', '+']) {
                let bytes = percent_decode(value, true).ok_or_else(|| malformed("a malformed percent escape"))?;
                Text::from(String::from_utf8(bytes).map_err(|_| malformed("not UTF-8"))?)
            } else {
                Text::from(value)
            };
            match params.iter().find(|param| param.key == key) {
                Some(param) => query.add(param, value)?,
                None if dropped.iter().any(|keys| keys.contains(&key)) => {}
                None => return Err(DecodeError::Query { key: key.chars().take(64).collect(), why: unknown_key(key, params) }),
            }
        }
        query.0.retain(|(key, value)| !is_json_key(params, key) || !matches!(value, Value::Text(_)));
        let place = |key: &str| params.iter().position(|param| param.key == key);
        query.0.sort_by_key(|(key, _)| place(key));
        Ok(query)
    }

    fn add(&mut self, param: &'static Param, text: Text<'a>) -> Result<(), DecodeError> {
        // An empty JSON value says nothing; kept, it would stand before the filters that narrow a list, and the engine takes the first.
        if param.kind.is_json() && matches!(text.as_str(), "" | "null") && self.get(param.key).is_none() {
            self.0.push((param.key, Value::Text(Text::default())));
            return Ok(());
        }
        let known = self.0.iter_mut().find(|(key, _)| *key == param.key).map(|(_, value)| value);
        match (known, param.kind) {
            (Some(Value::Texts(list)), Kind::Texts) => {
                list.push(text);
                Ok(())
            }
            (Some(_), _) => Err(DecodeError::Query { key: param.key.to_owned(), why: "given twice".to_owned() }),
            (None, kind) => {
                let value = read(kind, text).map_err(|why| DecodeError::Query { key: param.key.to_owned(), why })?;
                self.0.push((param.key, value));
                Ok(())
            }
        }
    }

    /// Writes the query, but for the keys that are done here.
    pub(crate) fn encode(&self, done: &[&str], out: &mut String) {
        let sent = self.0.iter().filter(|(key, _)| !done.contains(key));
        let pairs = sent.flat_map(|(key, value)| write(value).into_iter().map(move |value| (*key, value)));
        for (n, (key, value)) in pairs.enumerate() {
            out.push(if n == 0 { '?' } else { '&' });
            out.push_str(key);
            out.push('=');
            percent_encode(&value, b"/:", out);
        }
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value<'a>> {
        self.0.iter().find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    /// Every key that is there, with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Value<'a>)> {
        self.0.iter().map(|(key, value)| (*key, value))
    }

    /// The text of a key; empty when it is missing.
    #[must_use]
    pub fn text(&self, key: &str) -> &str {
        match self.get(key) {
            Some(Value::Text(text)) => text.as_str(),
            _ => "",
        }
    }

    /// Whether a flag is set.
    #[must_use]
    pub fn flag(&self, key: &str) -> bool {
        matches!(self.get(key), Some(Value::Flag(true)))
    }

    /// A number, where one is given.
    #[must_use]
    pub fn int(&self, key: &str) -> Option<i64> {
        if let Some(Value::Int(number)) = self.get(key) { Some(*number) } else { None }
    }

    /// Sets a value, replacing what is there.
    pub fn set(&mut self, key: &'static str, value: Value<'a>) {
        match self.0.iter_mut().find(|(k, _)| *k == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key, value)),
        }
    }

    /// Takes the filters of a list out; empty where there are none.
    fn take_filters(&mut self) -> Filters {
        // One key, one value: anything else under it goes.
        let filters = match self.0.iter().position(|(key, _)| *key == "filters").map(|place| self.0.remove(place)) {
            Some((_, Value::Filters(filters))) => filters,
            Some(_) | None => Filters::default(),
        };
        self.0.retain(|(key, _)| *key != "filters");
        filters
    }

    /// Changes the filters of a list, made empty where there are none.
    pub fn change_filters(&mut self, change: impl FnOnce(&mut Filters)) {
        let mut filters = self.take_filters();
        change(&mut filters);
        self.0.push(("filters", Value::Filters(filters)));
    }
}

fn is_json_key(params: &[Param], key: &str) -> bool {
    params.iter().any(|param| param.key == key && param.kind.is_json())
}

fn unknown_key(key: &str, params: &[Param]) -> String {
    if key.len() > 64 {
        return "unknown key".to_owned();
    }
    match params.iter().map(|param| (strsim::damerau_levenshtein(&param.key.to_ascii_lowercase(), &key.to_ascii_lowercase()), param.key)).min() {
        Some((0, near)) => format!("unknown key: it is spelled `{near}`"),
        Some((distance, near)) if distance <= 2 => format!("unknown key, did you mean `{near}`?"),
        _ => "unknown key".to_owned(),
    }
}

fn read<'a>(kind: Kind, text: Text<'a>) -> Result<Value<'a>, String> {
    let json = |error: DecodeError| error.to_string();
    Ok(match kind {
        Kind::Flag => Value::Flag(match text.as_str() {
            "1" | "true" | "True" | "TRUE" | "yes" => true,
            "" | "0" | "false" | "False" | "FALSE" | "no" | "none" => false,
            _ => return Err("neither true nor false (write 1 or 0)".to_owned()),
        }),
        Kind::Int if text.is_empty() => Value::Text(text),
        Kind::Int => Value::Int(text.parse().map_err(|_| "not a whole number".to_owned())?),
        Kind::Text | Kind::Texts if text.chars().any(char::is_control) => return Err("a control character".to_owned()),
        Kind::Text => Value::Text(text),
        Kind::Texts => Value::Texts(vec![text]),
        Kind::Filters => Value::Filters(Filters::decode(&text)?),
        Kind::Pairs => {
            let map: Map<'_, Option<String>> = decode_json(text.as_bytes()).map_err(json)?;
            Value::Pairs(map.0.into_iter().map(|(key, value)| (key.to_string(), value)).collect())
        }
        Kind::List => Value::List(decode_json(text.as_bytes()).map_err(json)?),
        Kind::Ulimits => Value::Ulimits(decode_json(text.as_bytes()).map_err(json)?),
    })
}

/// The texts that a value is written as: one for each time that its key stands in the query.
fn write(value: &Value<'_>) -> Vec<String> {
    let json = |value: Result<String, serde_json::Error>| value.unwrap_or_default();
    vec![match value {
        Value::Filters(filters) => json(serde_json::to_string(&filters.0)),
        Value::Flag(on) => if *on { "1" } else { "0" }.to_owned(),
        Value::Int(number) => number.to_string(),
        Value::List(list) => json(serde_json::to_string(list)),
        Value::Pairs(pairs) => json(serde_json::to_string(pairs)),
        Value::Text(text) => text.to_string(),
        Value::Texts(texts) => return texts.iter().map(ToString::to_string).collect(),
        Value::Ulimits(ulimits) => json(serde_json::to_string(ulimits)),
    }]
}
