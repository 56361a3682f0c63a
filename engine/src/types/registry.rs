//! Credentials for registries: the header `X-Registry-Auth` (pull, push) and `X-Registry-Config` (build).
//! Source: moby api/types/registry/authconfig.go; base64url of a JSON object.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};

use crate::error::DecodeError;
use crate::wire::{Map, Text, body, decode_json};

body! {
    /// Credentials for one registry.
    pub struct AuthConfig<'a> {
        /// User name.
        username: Text<'a> = "username",
        /// Password.
        password: Text<'a> = "password",
        /// `base64(user:password)`.
        auth: Text<'a> = "auth",
        /// The registry that they are for.
        server_address: Text<'a> = "serveraddress",
        /// A refresh token.
        identity_token: Text<'a> = "identitytoken",
        /// A bearer token.
        registry_token: Text<'a> = "registrytoken",
        ; drop {
            email = "email",
        }
    }
}

/// Credentials by registry, as a build sends them.
pub type RegistryConfig<'a> = Map<'a, AuthConfig<'a>>;

/// Undoes the header's base64. Clients write it with and without padding, and old ones in the standard alphabet.
pub(crate) fn unwrap_header(name: &'static str, value: &str) -> Result<Vec<u8>, DecodeError> {
    [&URL_SAFE, &URL_SAFE_NO_PAD, &STANDARD]
        .iter()
        .find_map(|alphabet| alphabet.decode(value).ok())
        .ok_or_else(|| DecodeError::Header { name, why: "not base64url".to_owned() })
}

/// Decodes the JSON of such a header.
pub(crate) fn decode_header<'a, T: serde::Deserialize<'a>>(name: &'static str, json: &'a [u8]) -> Result<T, DecodeError> {
    decode_json(json).map_err(|error| DecodeError::Header { name, why: error.to_string() })
}

/// Writes such a header.
pub(crate) fn wrap_header<T: serde::Serialize>(value: &T) -> String {
    URL_SAFE.encode(serde_json::to_vec(value).unwrap_or_default())
}
