//! Archives that stream to the engine: read as they pass, and written anew.
//!
//! What the engine gets is our own archive of the entries that were read, plain, whatever the client's was like: nothing in it can be read
//! otherwise, and no decompressor of the engine's ever runs (before 29.5.1 it is a program out of the container, run as the host's root:
//! CVE-2026-41567). The end of a build's context is sent when its Dockerfile was judged, and the classic builder begins with the end; most
//! contexts begin with their Dockerfile, and then a refusal reaches the client before the engine hears of the build at all.

use std::collections::BTreeMap;
use std::io::Write;

use bytes::Bytes;
use engine::context::Context;
use engine::dockerfile::Dockerfile;
use engine::operation::OperationId;
use engine::query::Value;
use engine::{DecodeError, Request};
use flate2::write::MultiGzDecoder;

/// An archive on its way.
#[derive(Debug)]
pub struct Vet {
    /// The arguments of a build; `None`: an archive that is unpacked into a container.
    build: Option<BTreeMap<String, Option<String>>>,
    first: Vec<u8>,
    reader: Reader,
    stage: Stage,
}

/// How far a build's Dockerfile has come.
#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// It has not passed yet.
    Awaited,
    /// It was given out to be judged.
    Given,
    /// The engine gets this.
    Written(String),
}

#[derive(Debug)]
enum Reader {
    Gzip(Box<MultiGzDecoder<Sink>>),
    Plain(Box<Sink>),
    /// The first bytes decide.
    Unknown(Box<Sink>),
}

/// Where the archive's own bytes go.
#[derive(Debug)]
struct Sink {
    context: Context,
    out: Vec<u8>,
    error: Option<String>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.error.is_none() {
            self.error = self.context.push(bytes, &mut self.out).err().map(|error| error.to_string());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Reader {
    fn sink(&mut self) -> &mut Sink {
        match self {
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Plain(sink) | Self::Unknown(sink) => sink,
        }
    }
}

impl Vet {
    /// For a request with an archive.
    #[must_use]
    pub fn of(request: &Request<'_>) -> Self {
        let is_build = request.operation.id == OperationId::ImageBuild;
        let args = match request.query.get("buildargs") {
            Some(Value::Pairs(args)) => args.clone(),
            _ => BTreeMap::new(),
        };
        let context = if is_build { Context::new(request.query.text("dockerfile")) } else { Context::any() };
        let sink = Sink { context, out: Vec::new(), error: None };
        Self { build: is_build.then_some(args), first: Vec::new(), reader: Reader::Unknown(Box::new(sink)), stage: Stage::Awaited }
    }

    /// How many bytes of a part are looked at in one go: what is compressed may become a thousand times as much.
    #[must_use]
    pub fn step(&self) -> usize {
        if matches!(self.reader, Reader::Plain(_)) { usize::MAX } else { 256 }
    }

    /// Looks at the next bytes. Gives what may be sent of them.
    ///
    /// # Errors
    /// It is not an archive that is understood.
    pub fn look(&mut self, bytes: Bytes) -> Result<Bytes, DecodeError> {
        // Most of an archive is the content of its files: it is not copied.
        if let Reader::Plain(sink) = &mut self.reader
            && sink.out.is_empty()
            && sink.context.pass(bytes.len())
        {
            return Ok(bytes);
        }
        self.feed(&bytes).map_err(refused)?;
        Ok(self.take())
    }

    /// The body has ended. Gives what is to be sent at the end.
    ///
    /// # Errors
    /// The archive is cut off, or a build's context has no Dockerfile that was judged.
    pub fn end(&mut self) -> Result<Bytes, DecodeError> {
        if matches!(self.reader, Reader::Unknown(_)) {
            self.choose().map_err(refused)?;
        }
        if let Reader::Gzip(decoder) = &mut self.reader {
            decoder.try_finish().map_err(|error| refused(format!("archive: {error}")))?;
        }
        let dockerfile = match std::mem::replace(&mut self.stage, Stage::Given) {
            Stage::Written(text) => text,
            Stage::Awaited | Stage::Given if self.build.is_none() => String::new(),
            Stage::Awaited | Stage::Given => {
                return Err(refused("the build context has no Dockerfile where the request says it is".to_owned()));
            }
        };
        let sink = self.reader.sink();
        sink.error.take().map_or(Ok(()), |error| Err(refused(error)))?;
        sink.context.end(dockerfile.as_bytes(), &mut sink.out).map_err(|error| refused(error.to_string()))?;
        Ok(self.take())
    }

    /// A Dockerfile that has passed, once. Nothing ends before it has been [written](Vet::write).
    ///
    /// # Errors
    /// It is not understood.
    pub fn dockerfile(&mut self) -> Result<Option<Dockerfile>, DecodeError> {
        let (Some(args), Stage::Awaited) = (&self.build, &self.stage) else { return Ok(None) };
        let Some(text) = self.reader.sink().context.dockerfile() else { return Ok(None) };
        let read = Dockerfile::parse(text, args).map_err(|error| refused(error.to_string()))?;
        self.stage = Stage::Given;
        Ok(Some(read))
    }

    /// Takes the Dockerfile that the engine gets.
    pub fn write(&mut self, dockerfile: String) {
        self.stage = Stage::Written(dockerfile);
    }

    /// Whether nothing more is expected to be found.
    #[must_use]
    pub fn is_settled(&mut self) -> bool {
        if self.build.is_some() { self.stage != Stage::Awaited } else { self.reader.sink().context.is_begun() }
    }

    /// About how many bytes of memory it takes, besides what a reader of archives always takes.
    #[must_use]
    pub fn kept(&mut self) -> usize {
        let written = if let Stage::Written(text) = &self.stage { text.capacity() } else { 0 };
        self.reader.sink().context.kept() + written
    }

    fn take(&mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.reader.sink().out))
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        let error = match &mut self.reader {
            Reader::Unknown(_) => {
                self.first.extend_from_slice(bytes);
                return if self.first.len() < 8 { Ok(()) } else { self.choose() };
            }
            Reader::Plain(sink) => {
                let _ = sink.write(bytes);
                sink.error.take()
            }
            Reader::Gzip(decoder) => {
                decoder.write_all(bytes).and_then(|()| decoder.flush()).map_err(|error| format!("archive: {error}"))?;
                decoder.get_mut().error.take()
            }
        };
        error.map_or(Ok(()), Err)
    }

    /// Chooses a reader by the first bytes. Whatever is not gzip is read as tar, and refused when it is none.
    fn choose(&mut self) -> Result<(), String> {
        let empty = Sink { context: Context::any(), out: Vec::new(), error: None };
        let sink = std::mem::replace(self.reader.sink(), empty);
        self.reader = match self.first.as_slice() {
            [0x1f, 0x8b, ..] if self.build.is_some() => Reader::Gzip(Box::new(MultiGzDecoder::new(sink))),
            [0x1f, 0x8b, ..] => return Err("a plain tar archive is needed, not a compressed one".to_owned()),
            _ => Reader::Plain(Box::new(sink)),
        };
        let first = std::mem::take(&mut self.first);
        self.feed(&first)
    }
}

pub(crate) fn refused(why: String) -> DecodeError {
    DecodeError::Body { at: String::new(), why }
}
