//! Archives that stream to the engine, looked through as they pass.
//!
//! The classic builder unpacks the whole context before it reads the Dockerfile. So the part of a context that its Dockerfile is in, and whatever
//! follows, is sent when the Dockerfile was judged; most contexts begin with it, and then a refusal reaches the client before the engine
//! hears of the build at all.

use std::collections::BTreeMap;
use std::io::Write;

use bytes::Bytes;
use engine::context::{Context, is_archive};
use engine::dockerfile::Dockerfile;
use engine::operation::OperationId;
use engine::query::Value;
use engine::{DecodeError, Request};
use flate2::write::MultiGzDecoder;

/// What an archive is looked through for.
#[derive(Debug)]
pub enum Vet {
    /// A build's context.
    Build(Box<BuildVet>),
    /// An archive that is unpacked into a container: that it is a plain one. For a compressed one engines before 29.5.1 run a program out of
    /// the container as the host's root (CVE-2026-41567).
    Plain(Vec<u8>, bool),
}

/// A build's context on its way.
#[derive(Debug)]
pub struct BuildVet {
    args: BTreeMap<String, Option<String>>,
    first: Vec<u8>,
    reader: Reader,
    judged: bool,
}

#[derive(Debug)]
enum Reader {
    Gzip(Box<MultiGzDecoder<Sink>>),
    Plain(Box<Sink>),
    Unknown(String),
}

/// Where the archive's own bytes go.
#[derive(Debug)]
struct Sink {
    context: Context,
    error: Option<String>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.error.is_none() {
            self.error = self.context.push(bytes).err().map(|error| error.to_string());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Vet {
    /// For a request with an archive.
    #[must_use]
    pub fn of(request: &Request<'_>) -> Self {
        if request.operation.id != OperationId::ImageBuild {
            return Self::Plain(Vec::new(), false);
        }
        let args = match request.query.get("buildargs") {
            Some(Value::Pairs(args)) => args.clone(),
            _ => BTreeMap::new(),
        };
        Self::Build(Box::new(BuildVet { args, first: Vec::new(), reader: Reader::Unknown(request.query.text("dockerfile").to_owned()), judged: false }))
    }

    /// Looks at the next part.
    ///
    /// # Errors
    /// It is not an archive that is understood.
    pub fn look(&mut self, part: &Bytes) -> Result<(), DecodeError> {
        let refused = |why: String| DecodeError::Body { at: String::new(), why };
        match self {
            Self::Plain(_, true) => Ok(()),
            Self::Plain(first, seen) => {
                first.extend_from_slice(part);
                if first.len() < 512 {
                    return Ok(());
                }
                *seen = true;
                if is_archive(first) { Ok(()) } else { Err(refused("a plain tar archive is needed, not a compressed one".to_owned())) }
            }
            Self::Build(build) => build.look(part).map_err(refused),
        }
    }

    /// The body has ended.
    ///
    /// # Errors
    /// What there was of it is no archive.
    pub fn end(&self) -> Result<(), DecodeError> {
        match self {
            Self::Plain(first, false) if !first.is_empty() => Err(DecodeError::Body { at: String::new(), why: "a tar archive is needed".to_owned() }),
            Self::Plain(..) | Self::Build(_) => Ok(()),
        }
    }

    /// A Dockerfile that has passed and was not judged yet.
    ///
    /// # Errors
    /// It is not understood.
    pub fn dockerfile(&mut self) -> Result<Option<Dockerfile>, DecodeError> {
        let Self::Build(build) = self else { return Ok(None) };
        if build.judged {
            return Ok(None);
        }
        let context = match &build.reader {
            Reader::Gzip(decoder) => &decoder.get_ref().context,
            Reader::Plain(sink) => &sink.context,
            Reader::Unknown(_) => return Ok(None),
        };
        let Some(text) = context.dockerfile() else { return Ok(None) };
        build.judged = true;
        Dockerfile::parse(text, &build.args).map(Some).map_err(|error| DecodeError::Body { at: String::new(), why: error.to_string() })
    }

    /// Whether nothing more is expected to be found.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        match self {
            Self::Plain(_, seen) => *seen,
            Self::Build(build) => build.judged,
        }
    }
}

impl BuildVet {
    fn look(&mut self, part: &[u8]) -> Result<(), String> {
        if let Reader::Unknown(name) = &self.reader {
            self.first.extend_from_slice(part);
            if self.first.len() < 8 {
                return Ok(());
            }
            let sink = Sink { context: Context::new(name), error: None };
            self.reader = match self.first.as_slice() {
                [0x1f, 0x8b, ..] => Reader::Gzip(Box::new(MultiGzDecoder::new(sink))),
                [b'B', b'Z', b'h', ..] | [0xfd, b'7', b'z', b'X', b'Z', ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                    return Err("a build context is a tar archive, plain or compressed with gzip; this one is compressed with something else".to_owned());
                }
                _ => Reader::Plain(Box::new(sink)),
            };
            let first = std::mem::take(&mut self.first);
            return self.feed(&first);
        }
        self.feed(part)
    }

    fn feed(&mut self, part: &[u8]) -> Result<(), String> {
        let error = match &mut self.reader {
            Reader::Unknown(_) => return Ok(()),
            Reader::Plain(sink) => {
                let _ = sink.write(part);
                sink.error.clone()
            }
            Reader::Gzip(decoder) => {
                decoder.write_all(part).and_then(|()| decoder.flush()).map_err(|error| format!("build context: {error}"))?;
                decoder.get_ref().error.clone()
            }
        };
        error.map_or(Ok(()), Err)
    }
}
