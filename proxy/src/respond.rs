//! Answers: the one match from what went wrong to a status and a text, and how answers are written.

use engine::DecodeError;
use http::StatusCode;
use policies::Denial;
use policies::decide::{DenialKind, clip};

use crate::audit::NotRecorded;
use crate::dial::EngineError;
use crate::receive::ReceiveError;

/// Why a request has no answer of the engine's own.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The client's certificate is no longer good.
    #[error("{0}")]
    Certificate(String),
    /// The name is taken.
    #[error("{0}")]
    Conflict(String),
    /// It is not an API request that can be understood.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It is not granted.
    #[error(transparent)]
    Denied(#[from] Box<Denial>),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Nobody knows who this is.
    #[error("{0}")]
    NoClient(String),
    /// It cannot be recorded.
    #[error(transparent)]
    NotRecorded(#[from] NotRecorded),
    /// The object is not there.
    #[error("{0}")]
    Missing(String),
    /// An object came between the decision and its use.
    #[error("{0}")]
    Raced(String),
    /// The bytes of the request.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
}

/// What a refusal looks like on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// Docker's `message`.
    pub message: String,
    /// Nothing that follows on the connection can be trusted to be a request.
    pub close: bool,
}

impl Refusal {
    /// The status and text of a refusal.
    #[must_use]
    pub fn reply(&self) -> Reply {
        let (status, close) = match self {
            Self::Certificate(_) => (StatusCode::FORBIDDEN, true),
            Self::NoClient(_) => (StatusCode::FORBIDDEN, false),
            Self::Decode(DecodeError::NoSuchOperation) | Self::Missing(_) => (StatusCode::NOT_FOUND, false),
            Self::Decode(_) => (StatusCode::BAD_REQUEST, false),
            Self::Denied(denial) => match denial.kind() {
                DenialKind::Conflict => (StatusCode::CONFLICT, false),
                DenialKind::Hidden => (StatusCode::NOT_FOUND, false),
                DenialKind::NotGranted => (StatusCode::FORBIDDEN, false),
                DenialKind::HiddenInCreate | DenialKind::NotUnderstood => (StatusCode::BAD_REQUEST, false),
            },
            Self::Engine(EngineError::Room) => (StatusCode::TOO_MANY_REQUESTS, false),
            Self::Engine(EngineError::Silent) => (StatusCode::GATEWAY_TIMEOUT, false),
            Self::Engine(EngineError::Answer(_) | EngineError::Broken(_) | EngineError::Connect { .. } | EngineError::Exchange(_)) => {
                (StatusCode::BAD_GATEWAY, false)
            }
            Self::NotRecorded(_) => (StatusCode::SERVICE_UNAVAILABLE, false),
            Self::Conflict(_) | Self::Raced(_) => (StatusCode::CONFLICT, false),
            Self::Receive(ReceiveError::Busy) => (StatusCode::TOO_MANY_REQUESTS, true),
            Self::Receive(ReceiveError::Slow) => (StatusCode::REQUEST_TIMEOUT, true),
            Self::Receive(ReceiveError::TooLarge { what: "head", .. }) => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, true),
            Self::Receive(ReceiveError::TooLarge { .. }) => (StatusCode::PAYLOAD_TOO_LARGE, true),
            Self::Receive(ReceiveError::Version) => (StatusCode::HTTP_VERSION_NOT_SUPPORTED, true),
            Self::Receive(ReceiveError::Chunked(_) | ReceiveError::Gone(_) | ReceiveError::Head(_) | ReceiveError::Method(_)) => {
                (StatusCode::BAD_REQUEST, true)
            }
        };
        let text = clip(self.to_string(), MOST_MESSAGE);
        // These stand as the engine would say them.
        let engines_own = matches!(
            self,
            Self::Conflict(_) | Self::Denied(_) | Self::Missing(_) | Self::Decode(DecodeError::NoSuchOperation | DecodeError::Version { .. })
        );
        Reply { status, message: if engines_own { text } else { format!("seawall: {text}") }, close }
    }
}

/// Most characters of a message: what a client wrote must not come back, and into the record, as a whole.
const MOST_MESSAGE: usize = 16_000;

impl Reply {
    /// The bytes of the answer: Docker's error JSON, which every client prints.
    #[must_use]
    pub fn bytes(&self, head_only: bool) -> Vec<u8> {
        let body = serde_json::json!({ "message": self.message }).to_string() + "\n";
        let connection = if self.close { "Connection: close\r\n" } else { "" };
        let mut bytes = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{connection}\r\n",
            self.status.as_u16(),
            self.status.canonical_reason().unwrap_or_default(),
            body.len()
        )
        .into_bytes();
        if !head_only {
            bytes.extend_from_slice(body.as_bytes());
        }
        bytes
    }
}
