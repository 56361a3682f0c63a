//! What can be wrong with a request before anyone asks whether it is allowed.

use thiserror::Error;

/// A request that is not an Engine API request as this crate knows it. Always the client's mistake, never forwarded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The body, or a JSON value in the query, is not what the operation takes. `at` is the path of the field.
    #[error("{}{why}", if at.is_empty() { "body: ".to_owned() } else { format!("{at}: ") })]
    Body {
        /// Path of the field, as in `HostConfig.Binds[0]`; empty for the document itself.
        at: String,
        /// What is wrong with it.
        why: String,
    },
    /// A body where the operation has none.
    #[error("{0} takes no body")]
    BodyNotExpected(&'static str),
    /// The media type of the body is missing or another one.
    #[error("the body must be `{expected}`, not `{given}`")]
    ContentType {
        /// What the operation takes.
        expected: &'static str,
        /// What the header says; empty when there is none.
        given: String,
    },
    /// A header that is understood has a value that is not.
    #[error("header {name}: {why}")]
    Header {
        /// The header's name.
        name: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The method is not one of the operation's.
    #[error("page not found")]
    NoSuchOperation,
    /// The path is not in canonical form.
    #[error("path: {0}")]
    Path(&'static str),
    /// A key or value of the query.
    #[error("query: `{key}`: {why}")]
    Query {
        /// The key, decoded; empty when the pair itself is malformed.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// The operation is not in this API version.
    #[error("{operation} is not in API version {version}: it is in {since} to {until}")]
    OperationVersion {
        /// swagger's operation id.
        operation: &'static str,
        /// The version that the request names.
        version: crate::Version,
        /// First version that has it.
        since: crate::Version,
        /// Last version that has it.
        until: crate::Version,
    },
    /// The version is not one that this crate knows. The words are Docker's, which clients recognise.
    #[error("client version {given} is too {side}. {bound} supported API version is {limit}, please use a supported API version")]
    Version {
        /// As in the path, without the `v`.
        given: String,
        /// `old` or `new`.
        side: &'static str,
        /// `Minimum` or `Maximum`.
        bound: &'static str,
        /// The nearest version that is known.
        limit: crate::Version,
    },
}
