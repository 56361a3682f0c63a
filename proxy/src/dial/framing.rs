//! The engine's answer, as it is framed: its head, and what is left of its body.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

use super::EngineError;

/// What is left of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// Chunks, and where in them the reader is.
    Chunks(Chunk),
    /// Nothing.
    Nothing,
    /// So many bytes.
    Length(u64),
    /// All that comes.
    UntilClose,
}

/// Where in a chunked body the reader is. Extensions and trailers mean nothing here (RFC 9112 §7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunk {
    /// Before the line end behind a chunk.
    AfterBytes,
    /// In it.
    AfterBytesLf,
    /// In a chunk that has so many bytes left.
    Bytes(u64),
    /// In the line end behind the trailers.
    EndLf,
    /// Behind the size of a chunk.
    Extension(u64),
    /// In the line end behind it.
    ExtensionLf(u64),
    /// In the size of a chunk.
    Size(u64),
    /// Before it.
    Start,
    /// In a trailer.
    Trailer,
    /// Before one, or the end.
    TrailerStart,
}

/// Takes the head of an answer off the bytes that came; `None`: it is not complete. Interim answers are passed over.
///
/// # Errors
/// It is no answer to such a request.
pub(super) fn take_head(bytes: &mut BytesMut, method: &Method) -> Result<Option<(Response<()>, Left)>, EngineError> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut parsed = httparse::Response::new(&mut headers);
        let length = match parsed.parse(bytes).map_err(|error| wrong(&format!("its head: {error}")))? {
            httparse::Status::Complete(length) => length,
            httparse::Status::Partial if bytes.len() > MOST_HEAD => return Err(wrong("its head is too long")),
            httparse::Status::Partial => return Ok(None),
        };
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(parsed.code.unwrap_or_default()).map_err(|error| wrong(&error.to_string()))?;
        for header in parsed.headers.iter() {
            let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|error| wrong(&error.to_string()))?;
            let value = HeaderValue::from_bytes(header.value).map_err(|error| wrong(&error.to_string()))?;
            response.headers_mut().append(name, value);
        }
        let old = parsed.version == Some(0);
        bytes.advance(length);
        let status = response.status();
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            continue;
        }
        let bodyless = status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) || *method == Method::HEAD;
        let left = if bodyless { Left::Nothing } else { left(response.headers(), old)? };
        return Ok(Some((response, left)));
    }
}

/// How a body is framed (RFC 9112 §6.3).
fn left(headers: &HeaderMap, old: bool) -> Result<Left, EngineError> {
    if let Some(coding) = headers.get_all(header::TRANSFER_ENCODING).iter().next_back() {
        if old {
            return Err(wrong("a Transfer-Encoding in HTTP/1.0"));
        }
        let last = coding.as_bytes().rsplit(|b| *b == b',').next().unwrap_or_default().trim_ascii();
        return Ok(if last.eq_ignore_ascii_case(b"chunked") { Left::Chunks(Chunk::Start) } else { Left::UntilClose });
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(Left::UntilClose) };
    if lengths.any(|other| other != length) {
        return Err(wrong("two lengths"));
    }
    let digits = length.to_str().unwrap_or_default();
    match digits.parse() {
        Ok(0) => Ok(Left::Nothing),
        Ok(length) if digits.bytes().all(|b| b.is_ascii_digit()) => Ok(Left::Length(length)),
        _ => Err(wrong("a Content-Length that is no number")),
    }
}

impl Left {
    /// Takes the next part of the body off the bytes that came; `None`: it takes more of them, or nothing is left.
    ///
    /// # Errors
    /// They are not framed as chunks are.
    pub(super) fn take(&mut self, bytes: &mut Bytes) -> Result<Option<Bytes>, EngineError> {
        loop {
            if bytes.is_empty() {
                return Ok(None);
            }
            match self {
                Self::Nothing => return Ok(None),
                Self::UntilClose => return Ok(Some(std::mem::take(bytes))),
                Self::Length(left) => {
                    let part = split(bytes, left);
                    if *left == 0 {
                        *self = Self::Nothing;
                    }
                    return Ok(Some(part));
                }
                Self::Chunks(Chunk::Bytes(left)) => {
                    let part = split(bytes, left);
                    if *left == 0 {
                        *self = Self::Chunks(Chunk::AfterBytes);
                    }
                    return Ok(Some(part));
                }
                Self::Chunks(chunk) => *self = chunk.step(bytes.get_u8()).ok_or_else(|| wrong("its chunks are malformed"))?,
            }
        }
    }

    /// The connection ended.
    ///
    /// # Errors
    /// Something is missing.
    pub(super) fn end(&mut self) -> Result<(), EngineError> {
        match self {
            Self::Nothing => Ok(()),
            Self::UntilClose => {
                *self = Self::Nothing;
                Ok(())
            }
            Self::Chunks(_) | Self::Length(_) => Err(EngineError::Broken(std::io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

impl Chunk {
    /// What is left behind one byte that is not a chunk's own; `None`: it does not belong there.
    fn step(self, b: u8) -> Option<Left> {
        let next = match (self, b) {
            (Self::AfterBytes, b'\r') => Self::AfterBytesLf,
            (Self::AfterBytesLf, b'\n') => Self::Start,
            (Self::Start, _) => Self::Size(digit(b)?),
            (Self::Size(size) | Self::Extension(size), b'\r') => Self::ExtensionLf(size),
            (Self::Size(size), b';' | b' ' | b'\t') => Self::Extension(size),
            (Self::Size(size), _) => Self::Size(size.checked_mul(16)?.checked_add(digit(b)?)?),
            (Self::Extension(size), _) if b != b'\n' => Self::Extension(size),
            (Self::ExtensionLf(0), b'\n') => Self::TrailerStart,
            (Self::ExtensionLf(size), b'\n') => Self::Bytes(size),
            (Self::TrailerStart, b'\r') => Self::EndLf,
            (Self::Trailer, b'\n') => Self::TrailerStart,
            (Self::Trailer | Self::TrailerStart, _) => Self::Trailer,
            (Self::EndLf, b'\n') => return Some(Left::Nothing),
            _ => return None,
        };
        Some(Left::Chunks(next))
    }
}

fn digit(b: u8) -> Option<u64> {
    char::from(b).to_digit(16).map(u64::from)
}

/// As much as there is of what is left.
fn split(bytes: &mut Bytes, left: &mut u64) -> Bytes {
    let part = bytes.split_to(usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len()));
    *left = left.saturating_sub(u64::try_from(part.len()).unwrap_or(u64::MAX));
    part
}

fn wrong(what: &str) -> EngineError {
    EngineError::Answer(what.to_owned())
}

const MOST_HEADERS: usize = 100;
/// Most bytes of a head: that of an archive tells where a link leads.
const MOST_HEAD: usize = 64 << 10;
