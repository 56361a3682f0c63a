//! placeholder
pub mod config;
pub mod identity;
