//! The pieces that every body is made of: borrowed text, maps without duplicate keys, and the macro that declares a body once.
//!
//! A body is declared field by field with `body!`; its decoder refuses every key that is not declared and says something, every duplicate, and
//! every key in another case. Go's `encoding/json` accepts all three (it folds case, also U+017F and U+212A, and merges duplicate objects), so
//! what is refused here could have meant something else to the engine.

use std::borrow::{Borrow, Cow};
use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::error::DecodeError;

/// A string that borrows from the request where the JSON has no escapes in it.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<'a>(Cow<'a, str>);

impl<'a> Text<'a> {
    /// The string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same text, borrowing nothing.
    #[must_use]
    pub fn into_owned(self) -> Text<'static> {
        Text(Cow::Owned(self.0.into_owned()))
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl From<String> for Text<'_> {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text))
    }
}

impl<'a> From<Cow<'a, str>> for Text<'a> {
    fn from(text: Cow<'a, str>) -> Self {
        Self(text)
    }
}

impl Borrow<str> for Text<'_> {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<&str> for Text<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyText;
        impl<'de> Visitor<'de> for AnyText {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(AnyText)
    }
}

/// A JSON object with free keys. Two equal keys are refused: Go would merge them.
#[derive(Debug, Clone, PartialEq)]
pub struct Map<'a, V>(pub BTreeMap<Text<'a>, V>);

impl<V> Default for Map<'_, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'a, V> std::ops::Deref for Map<'a, V> {
    type Target = BTreeMap<Text<'a>, V>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<V> std::ops::DerefMut for Map<'_, V> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<V: Serialize> Serialize for Map<'_, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de: 'a, 'a, V: Deserialize<'de>> Deserialize<'de> for Map<'a, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyMap<V>(std::marker::PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for AnyMap<V> {
            type Value = Map<'de, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
                let mut map = BTreeMap::new();
                while let Some(key) = access.next_key::<Text<'de>>()? {
                    if map.contains_key(&key) {
                        return Err(de::Error::custom(format_args!("duplicate field `{}`", key.chars().take(64).collect::<String>())));
                    }
                    map.insert(key, access.next_value()?);
                }
                Ok(Map(map))
            }
        }
        deserializer.deserialize_map(AnyMap(std::marker::PhantomData))
    }
}

/// A value that real clients send and every engine ignores: read, and left out when the request is encoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped;

impl<'de> Deserialize<'de> for Dropped {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// An object without members, as in `"ExposedPorts": {"80/tcp": {}}`; read from `null` as well, as Go does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Empty {}

impl<'de> Deserialize<'de> for Empty {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::<Members>::deserialize(deserializer).map(|_| Self {})
    }
}

crate::wire::body! {
    /// What is in an [`Empty`].
    pub struct Members {}
}

/// A command: a list of words, or a string, which is a list of one (moby `strslice.StrSlice`).
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Words<'a>(pub Vec<Text<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Words<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListOrOne;
        impl<'de> Visitor<'de> for ListOrOne {
            type Value = Words<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of strings or a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Words(vec![Text::from(text)]))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Words(vec![Text::from(text.to_owned())]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Words)
            }
        }
        deserializer.deserialize_any(ListOrOne)
    }
}

/// Reads a structure from a JSON object alone (serde's own code takes a list of the fields' values as well), and leaves out a key that is not
/// declared where its value is `null`.
///
/// docker-java writes every field that it has ever known, unset ones as `null`. To Go that is the same as a missing key, unless the key is a
/// declared one in another spelling: then it undoes what was said before it.
#[derive(Debug)]
pub(crate) struct ObjectOnly<D>(pub(crate) D);

/// The visitor of a structure, and then the members of its object, with the names of its fields.
struct Declared<I> {
    inner: I,
    fields: &'static [&'static str],
    /// Where the last key was found: clients write them in the order of their declaration.
    last: usize,
}

impl<I> Declared<I> {
    fn is_field(&mut self, key: &str) -> bool {
        let (before, after) = self.fields.split_at(self.last);
        let found = after.iter().position(|field| *field == key).map(|n| self.last + n).or_else(|| before.iter().position(|field| *field == key));
        self.last = found.unwrap_or(self.last);
        found.is_some()
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Declared<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(Declared { inner: members, fields: self.fields, last: 0 })
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Declared<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        loop {
            let Some(key) = self.inner.next_key::<Text<'de>>()? else { return Ok(None) };
            if self.is_field(&key) {
                return seed.deserialize(key.0.into_deserializer()).map(Some);
            }
            let folded = fold(&key);
            let respelled = self.fields.iter().any(|field| field.eq_ignore_ascii_case(&folded));
            if respelled || self.inner.next_value::<Option<IgnoredAny>>()?.is_some() {
                return Err(de::Error::unknown_field(&key, self.fields));
            }
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.next_value_seed(seed)
    }
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for ObjectOnly<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(self, _: &'static str, fields: &'static [&'static str], visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(Declared { inner: visitor, fields, last: 0 })
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct seq tuple
        tuple_struct map enum identifier ignored_any
    }
}

/// Declares a body or a part of one: each field with its name on the wire and its documentation, and the keys that are dropped.
///
/// Every field is optional. `null` means the same as a missing key, as it does to Go; a zero value is kept as it was sent.
macro_rules! body {
    ($(#[$doc:meta])* pub struct $name:ident <$lt:lifetime> { $($rest:tt)* }) => {
        $crate::wire::body! { @ [#[serde(remote = "Self", deny_unknown_fields, bound(deserialize = "'de: 'a"))]] [$(#[$doc])*] $name [<$lt>] $($rest)* }

        impl<'de: $lt, $lt> serde::Deserialize<'de> for $name<$lt> {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::deserialize($crate::wire::ObjectOnly(deserializer))
            }
        }
    };
    ($(#[$doc:meta])* pub struct $name:ident { $($rest:tt)* }) => {
        $crate::wire::body! { @ [#[serde(remote = "Self", deny_unknown_fields)]] [$(#[$doc])*] $name [] $($rest)* }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::deserialize($crate::wire::ObjectOnly(deserializer))
            }
        }
    };
    (@ [$(#[$serde:meta])*] [$(#[$doc:meta])*] $name:ident [$($generics:tt)*]
        $($(#[$field_doc:meta])* $field:ident: $type:ty = $key:literal,)*
        $(; drop { $($dropped:ident = $dropped_key:literal,)* })?
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        $(#[$serde])*
        pub struct $name $($generics)* {
            $(
                $(#[$field_doc])*
                #[serde(rename = $key, skip_serializing_if = "Option::is_none")]
                pub $field: Option<$type>,
            )*
            $($(
                #[doc = concat!("`", $dropped_key, "`: sent by real clients, ignored by every engine, never forwarded.")]
                #[serde(rename = $dropped_key, default, skip_serializing)]
                pub $dropped: $crate::wire::Dropped,
            )*)?
        }

        impl $($generics)* serde::Serialize for $name $($generics)* {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                Self::serialize(self, serializer)
            }
        }

        impl $($generics)* $name $($generics)* {
            /// The names of the fields on the wire, in the order of their declaration.
            pub const FIELDS: &'static [&'static str] = &[$($key),*];
        }
    };
}
pub(crate) use body;

/// A type that stands in JSON as a string with rules: `parse` reads it, `Display` writes its canonical form.
macro_rules! string_form {
    ($name:ident $(<$lt:lifetime>)?) => {
        impl $(<$lt>)? serde::Serialize for $name $(<$lt>)? {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de $(: $lt, $lt)?> serde::Deserialize<'de> for $name $(<$lt>)? {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = $crate::wire::Text::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use string_form;

/// Decodes one JSON document strictly: one value, no trailing bytes, no unknown or duplicate key, valid UTF-8, depth at most 128.
///
/// # Errors
/// [`DecodeError::Body`], with the path of the field.
pub fn decode_json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    // Once for the whole text: for each string by itself it takes a tenth of the time of a decision.
    let text = std::str::from_utf8(bytes).map_err(|_| explain::<T>(bytes))?;
    serde_json::from_str(text).map_err(|_| explain::<T>(bytes))
}

/// Decodes again, slower, to say where it went wrong.
fn explain<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> DecodeError {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    match serde_path_to_error::deserialize::<_, T>(&mut json) {
        Err(error) => {
            let at = error.path().to_string();
            DecodeError::Body { at: if at == "." { String::new() } else { at }, why: plain(&error.into_inner().to_string()) }
        }
        Ok(_) if std::str::from_utf8(bytes).is_err() => DecodeError::Body { at: String::new(), why: "bytes that are not UTF-8".to_owned() },
        Ok(_) => DecodeError::Body { at: String::new(), why: "bytes after the end of the JSON document".to_owned() },
    }
}

/// serde's message in our words: no position (the path says it), no list of every field there is, a suggestion instead.
fn plain(message: &str) -> String {
    let message = message.split(" at line ").next().unwrap_or(message);
    let Some((unknown, expected)) = message.split_once(", expected ") else { return message.to_owned() };
    let Some(given) = unknown.strip_prefix("unknown field `").and_then(|rest| rest.strip_suffix('`')) else {
        return message.to_owned();
    };
    if given.len() > 64 {
        return format!("unknown field of {} characters", given.chars().count());
    }
    let folded = fold(given);
    let near = expected
        .split('`')
        .filter(|name| !name.is_empty() && name.chars().all(char::is_alphanumeric) && *name != "of" && *name != "or")
        .map(|name| (strsim::damerau_levenshtein(&fold(name), &folded), name))
        .min();
    match near {
        Some((0, name)) => format!("unknown field `{given}`: it is spelled `{name}`"),
        Some((distance, name)) if distance <= 2 => format!("unknown field `{given}`, did you mean `{name}`?"),
        _ => format!("unknown field `{given}`"),
    }
}

/// Most values of a body. Real ones have a few hundred; each is decoded, judged and maybe looked up, while nobody else is served.
pub(crate) const MOST_VALUES: usize = 16 << 10;

/// Whether a document has more values than that, without decoding it.
pub(crate) fn has_too_many_values(json: &[u8]) -> bool {
    if json.len() <= MOST_VALUES {
        return false;
    }
    let (mut values, mut quoted, mut escaped) = (0, false, false);
    for b in json {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b',' | b'[' | b'{' if !quoted => values += 1,
            _ => {}
        }
    }
    values > MOST_VALUES
}

/// A key as Go's `encoding/json` compares it: ASCII case, U+017F as `s`, U+212A as `k`.
fn fold(key: &str) -> String {
    key.chars()
        .map(|c| match c {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            other => other.to_ascii_lowercase(),
        })
        .collect()
}
