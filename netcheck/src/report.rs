//! Answers for people and for programs, as pure functions from a [`Document`] to text.
//!
//! | module | for |
//! |---|---|
//! | [`document`] | everything: the JSON that is published in `schema/check.json`, and what the others print |
//! | [`text`] | a terminal: the matrix, violations with their path |
//! | [`html`] | a browser: one page without anything from outside |
//! | [`svg`] | a picture of the networks |
//! | [`sarif`] | code scanning |
//! | [`junit`] | CI |
//! | [`prometheus`] | monitoring |
//!
//! Names, labels and comments come from containers. Each format escapes them in its own way, after [`text::plain`] has made visible what is hidden.

pub mod document;
pub mod html;
pub mod junit;
pub mod prometheus;
pub mod sarif;
pub mod svg;
pub mod text;

pub use document::Document;
