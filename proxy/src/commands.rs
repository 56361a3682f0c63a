//! The command line.

pub mod cert;
pub mod policy;
pub mod serve;
