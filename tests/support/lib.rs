//! What the end-to-end tests stand on: private Docker engines, a stub engine that records every byte, a local registry, the
//! `seawall` binary as a user starts it, and the stock clients.
//!
//! ```text
//!   clients                          proxy              engines
//!   cli::Docker     docker CLI  ─┐                  ┌─ engine::Engine   20.10 or 26.1, in namespaces of its own
//!   python::Venv    docker-py   ─┼▶ proxy::Seawall ─┼─ tap::Tap ▶ …     a relay that records what an engine is sent
//!   http, pki       wire bytes  ─┘                  └─ stub::Stub       canned answers, every byte kept
//! ```
//!
//! It never touches the machine's own engine, waits for conditions and never for a time, and leaves nothing behind: also when a
//! test panics or is killed. What is missing on the machine is an error that names it, never a skipped test.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "test support: what does not hold fails the test where it happens"
)]

pub mod cli;
pub mod corpus;
pub mod engine;
pub mod fixtures;
pub mod front;
pub mod http;
pub mod image;
pub mod job;
pub mod judge;
pub mod mutate;
pub mod packages;
pub mod pki;
pub mod proxy;
pub mod python;
pub mod record;
pub mod registry;
pub mod replay;
pub mod scratch;
pub mod stub;
pub mod tap;
pub mod town;
pub mod trace;
pub mod world;
