//! placeholder

pub mod isolation;
