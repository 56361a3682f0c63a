//! What can be asked of a Docker engine: every operation, every field, and what each would make the engine do.
//!
//! ```text
//!   method, target ─▶ Route ─▶ Request ─▶ references ─▶ (the shell asks the engine) ─▶ Facts
//!   headers, body ───────────────▲  │                                                    │
//!                                   ├─▶ bind(Facts): names become ids ◀──────────────────┤
//!                                   ├─▶ demands(Facts) ─▶ a policy decides ◀─────────────┘
//!                                   └─▶ encode ─▶ the only bytes that an engine ever sees
//! ```
//!
//! This crate promises that what it does not understand it refuses, with the place in the request; and that `encode` writes a request that
//! every engine from 20.10 on reads as it was judged here. It never does I/O, reads a clock, or keeps state.
//!
//! Sources of facts: moby `api/docs/v1.24.yaml` to `v1.55.yaml`, `daemon/server/router/*`; behaviour measured on engines 20.10, 26.1, 28.5, 29.7.

pub mod context;
pub mod demand;
mod demands;
pub mod dockerfile;
pub mod error;
pub mod facts;
pub mod operation;
mod path;
pub mod query;
pub mod reference;
pub mod request;
pub mod stored;
pub mod types;
mod version;
pub mod wire;

pub use error::DecodeError;
pub use request::{Body, Encoded, Headers, Payload, Request, Route};
pub use version::Version;

/// The label that carries the owner of an object.
pub const OWNER_LABEL: &str = "seawall.tenant";

/// The label that says what the owner label was set on. A container inherits its image's labels, and an image its base's: an owner label that was
/// set on the image says nothing about a container that somebody else made from it.
pub const KIND_LABEL: &str = "seawall.kind";
