//! What is allowed: the policy language, and the decision.
//!
//! ```text
//!   YAML ─▶ syntax ─▶ compile (include is a union) ─▶ Policy ─┐
//!                                                             ├─▶ decide ─▶ Permitted (the only thing that can be forwarded) | Denial
//!   engine::Request ─▶ fill ─▶ bind ─▶ demands ───────────────┘
//! ```
//!
//! A policy is a set of grants and nothing else: no deny rules, no order, no precedence. A request is permitted when every one of its demands
//! is covered by a grant. So the empty policy permits nothing, another grant never denies more, and another demand never permits more.
//!
//! This crate never does I/O: files that a policy includes are handed to it.

mod compile;
pub mod decide;
mod fill;
pub mod grant;
pub mod isolation;
pub mod reference;
pub mod shipped;
pub mod syntax;

pub use compile::{CompileError, Policy, Read};
pub use decide::{Denial, Permitted, Rows};
