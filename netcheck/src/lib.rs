//! What the network of a Docker host really permits.
//!
//! The core is pure: it does no I/O, asks no clock and reads no environment. The binary's shell collects a [`snapshot::Snapshot`];
//! everything after it happens here and can be repeated from the file. Two modules touch a kernel: [`kernel`], which speaks with it,
//! and [`twin`], which rebuilds a snapshot in throwaway namespaces and sends real packets there.
//!
//! ```text
//!   netlink, /proc, engine                                            shell (binary only)
//!      ▼  decode    ● bytes ▶ typed values
//!   Snapshot ─────────── a file ────────────────────────────────────────────────────────────
//!      ▼  model     ● Snapshot ▶ Model         what the state means                core (here)
//!      ▼  analyse   ● Model ▶ Reachability     which packets pass
//!      ▼  compare   ● + Isolation ▶ Violations
//!      ▼  report    ● ▶ text, JSON, HTML, SVG, SARIF, JUnit, Prometheus
//! ```
//!
//! It never says *closed* when something on the way was not understood, and it never changes what it looks at.

pub mod analyse;
pub mod compare;
pub mod decode;
pub mod drift;
pub mod encode;
pub mod kernel;
pub mod model;
pub mod packet;
pub mod report;
pub mod snapshot;
pub mod space;
pub mod twin;
pub mod uapi;
pub mod walk;
