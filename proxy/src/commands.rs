//! The command line.

pub mod policy;
pub mod serve;
