//! Bodies, field by field, and the strings in them that have rules.

pub mod container;
pub mod exec;
pub mod network;
pub mod registry;
pub mod strings;
pub mod volume;

pub use crate::demands::container::DEFAULT_CAPABILITIES;
