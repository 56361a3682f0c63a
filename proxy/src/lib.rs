//! The proxy: who calls, what they ask, whether it is granted, and the engine's answer.
//!
//! ```text
//!   listener ─▶ identity ─▶ receive ─▶ decode ● ─▶ resolve ─▶ decide ● ─▶ forward ─▶ audit
//!                                                                            │
//!                                                                    101 ─▶ relay
//! ```
//!
//! It promises that the engine only ever sees the encoding of a request that was judged, that nothing undecided can be forwarded, and that
//! nothing happens unrecorded. It keeps no state but that of requests under way (tunnels, leases, copies, memory): whose an object is stands on the object, in the engine.

pub mod answer;
pub mod attached;
pub mod audit;
pub mod budget;
pub mod build;
pub mod cert;
pub mod clients;
pub mod commands;
pub mod config;
pub mod dial;
pub mod forward;
pub mod host;
pub mod identity;
pub mod lease;
pub mod listener;
pub mod locks;
pub mod manual;
pub mod receive;
pub mod relay;
pub mod resolve;
pub mod respond;
pub mod serve;
pub mod standing;
pub mod still;
pub mod tls;
pub mod turns;
pub mod unseen;
pub mod vet;
