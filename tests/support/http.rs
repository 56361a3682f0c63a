//! HTTP/1.1 byte by byte, as a client that may do anything. It forgives what the engines forgive.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// The first line and the headers of a message.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The request or status line.
    pub first: String,
    /// Names as they were sent, values trimmed.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The first header of that name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The status of an answer's first line.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.first.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or_default()
    }

    /// How the message's body ends; `bare` is what it means when no header says it.
    #[must_use]
    pub fn framing(&self, bare: Framing) -> Framing {
        if self.header("transfer-encoding").is_some_and(|value| value.to_ascii_lowercase().contains("chunked")) {
            Framing::Chunked
        } else {
            self.header("content-length").and_then(|value| value.parse().ok()).map_or(bare, Framing::Length)
        }
    }
}

/// How a body ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    /// Chunked coding.
    Chunked,
    /// After so many bytes.
    Length(u64),
    /// When the connection does.
    UntilClose,
}

/// Reads messages from a stream.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    buffer: Vec<u8>,
    at: usize,
}

impl<R: Read> Reader<R> {
    /// A reader that has read nothing yet.
    pub fn new(source: R) -> Self {
        Self { source, buffer: Vec::new(), at: 0 }
    }

    /// The stream below, and what was read from it and not used.
    pub fn into_parts(self) -> (R, Vec<u8>) {
        (self.source, self.buffer[self.at..].to_vec())
    }

    /// # Errors
    /// The stream's own, and `UnexpectedEof` at its end.
    fn fill(&mut self) -> io::Result<()> {
        let mut piece = [0; 65536];
        let count = loop {
            match self.source.read(&mut piece) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.extend_from_slice(&piece[..count]);
        Ok(())
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer[self.at..].iter().position(|byte| *byte == b'\n') {
                let line = &self.buffer[self.at..self.at + end];
                let text = line.strip_suffix(b"\r").unwrap_or(line).iter().map(|byte| char::from(*byte)).collect();
                self.at += end + 1;
                return Ok(text);
            }
            if self.buffer.len() - self.at > 1 << 20 {
                return Err(io::Error::new(ErrorKind::InvalidData, "a line of more than a mebibyte"));
            }
            self.fill()?;
        }
    }

    /// The next head.
    ///
    /// # Errors
    /// The stream's own; `UnexpectedEof` at its end; `InvalidData` for what is not HTTP.
    pub fn head(&mut self) -> io::Result<Head> {
        let mut first = self.line()?;
        while first.is_empty() {
            first = self.line()?;
        }
        let mut head = Head { first, headers: Vec::new() };
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(head);
            }
            match (line.split_once(':'), head.headers.last_mut()) {
                (_, Some((_, last))) if line.starts_with([' ', '\t']) => last.push_str(line.trim_end()),
                (Some((name, value)), _) => head.headers.push((name.to_owned(), value.trim().to_owned())),
                (None, _) => {
                    return Err(io::Error::new(ErrorKind::InvalidData, format!("not a header: {line:?}")));
                }
            }
        }
    }

    /// Up to `limit` bytes of what comes next.
    ///
    /// # Errors
    /// The stream's own; `UnexpectedEof` at its end.
    pub fn some(&mut self, limit: u64) -> io::Result<Vec<u8>> {
        if self.at == self.buffer.len() {
            self.fill()?;
        }
        let count = (self.buffer.len() - self.at).min(usize::try_from(limit).unwrap_or(usize::MAX));
        self.at += count;
        Ok(self.buffer[self.at - count..self.at].to_vec())
    }

    /// Exactly `count` bytes.
    ///
    /// # Errors
    /// The stream's own; `UnexpectedEof` at its end.
    pub fn exactly(&mut self, count: u64) -> io::Result<Vec<u8>> {
        let mut found = Vec::new();
        self.length(count, &mut found)?;
        Ok(found)
    }

    /// Reads a body into `body`, which keeps what came also when the stream fails.
    ///
    /// # Errors
    /// The stream's own; `UnexpectedEof` at an end that the framing does not allow; `InvalidData` for bad chunks.
    pub fn body(&mut self, framing: Framing, body: &mut Vec<u8>) -> io::Result<()> {
        match framing {
            Framing::Length(count) => self.length(count, body),
            Framing::Chunked => self.chunks(body),
            Framing::UntilClose => loop {
                match self.some(u64::MAX) {
                    Ok(piece) => body.extend(piece),
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
                    Err(error) => return Err(error),
                }
            },
        }
    }

    fn length(&mut self, mut count: u64, body: &mut Vec<u8>) -> io::Result<()> {
        while count > 0 {
            let piece = self.some(count)?;
            count -= u64::try_from(piece.len()).unwrap();
            body.extend(piece);
        }
        Ok(())
    }

    fn chunks(&mut self, body: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let line = self.line()?;
            let size = u64::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
                .map_err(|_| io::Error::new(ErrorKind::InvalidData, format!("not a chunk: {line:?}")))?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(());
            }
            self.length(size, body)?;
            self.line()?;
        }
    }
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Its status line and headers.
    pub head: Head,
    /// Its body, or as much of it as came.
    pub body: Vec<u8>,
}

impl Response {
    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {} {}", self.status, self.text()))
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim().to_owned()
    }

    /// `message` of an error's JSON.
    #[must_use]
    pub fn message(&self) -> String {
        let json: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        json["message"].as_str().map_or_else(|| format!("(no message) {}", self.text()), str::to_owned)
    }
}

/// The bytes of a request as an ordinary client writes it.
#[must_use]
pub fn request(method: &str, target: &str, body: Option<&Value>) -> Vec<u8> {
    let content = body.map(|value| value.to_string()).unwrap_or_default();
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: docker\r\n");
    if body.is_some() {
        text.push_str("Content-Type: application/json\r\n");
    }
    if body.is_some() || method == "POST" {
        text.push_str(&format!("Content-Length: {}\r\n", content.len()));
    }
    (text + "\r\n" + &content).into_bytes()
}

/// Sends a plain request to a unix socket and gives the whole answer.
///
/// # Errors
/// Nobody listens, or what comes back is not a whole answer.
pub fn try_call(socket: &Path, method: &str, target: &str) -> io::Result<Response> {
    over(UnixStream::connect(socket)?, &request(method, target, None))
}

/// Sends a plain request to a unix socket and gives the whole answer; fails the test when there is none.
pub fn call(socket: &Path, method: &str, target: &str, body: Option<&Value>) -> Response {
    let stream = UnixStream::connect(socket).unwrap_or_else(|e| panic!("{}: {e}", socket.display()));
    over(stream, &request(method, target, body)).unwrap_or_else(|e| panic!("{method} {target}: {e}"))
}

/// Sends bytes over a connection and reads one answer.
///
/// # Errors
/// The connection's own, and what is not a whole answer.
pub fn over(mut stream: impl Read + Write, bytes: &[u8]) -> io::Result<Response> {
    stream.write_all(bytes)?;
    let head_only = bytes.starts_with(b"HEAD ");
    let mut answer = Response::default();
    answer_into(&mut Reader::new(stream), head_only, &mut answer)?;
    Ok(answer)
}

/// Reads one answer, past `100 Continue`; a 101 has no body here.
fn answer_into<R: Read>(reader: &mut Reader<R>, head_only: bool, answer: &mut Response) -> io::Result<()> {
    loop {
        answer.head = reader.head()?;
        answer.status = answer.head.status();
        if !(100..200).contains(&answer.status) || answer.status == 101 {
            break;
        }
    }
    if head_only || matches!(answer.status, 101 | 204 | 304) {
        return Ok(());
    }
    reader.body(answer.head.framing(Framing::UntilClose), &mut answer.body)
}

/// What came back for some bytes.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// Every answer, also the last one that was cut.
    pub responses: Vec<Response>,
    /// The other side closed the connection.
    pub closed: bool,
}

/// How long [`exchange`] waits.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the first answer's head. Then the sending side is closed, and a little more time is given.
    pub first: Duration,
    /// For what follows it.
    pub more: Duration,
}

/// Sends any bytes, and reads up to one answer for each of `methods`.
pub fn exchange(socket: &Path, bytes: &[u8], methods: &[String], patience: Patience) -> Answers {
    let stream = UnixStream::connect(socket).unwrap_or_else(|e| panic!("{}: {e}", socket.display()));
    let mut sender = stream.try_clone().unwrap();
    sender.set_write_timeout(Some(patience.first)).unwrap();
    let (hand, bytes) = (stream.try_clone().unwrap(), bytes.to_vec());
    thread::spawn(move || drop(sender.write_all(&bytes)));
    let mut reader = Reader::new(stream.try_clone().unwrap());
    let mut answers = Answers::default();
    for method in methods {
        stream.set_read_timeout(Some(if answers.responses.is_empty() { patience.first } else { patience.more })).unwrap();
        let mut answer = Response::default();
        let mut outcome = answer_into(&mut reader, method == "HEAD", &mut answer);
        if answer.status == 0 && answers.responses.is_empty() && outcome.as_ref().is_err_and(timed_out) {
            drop(hand.shutdown(Shutdown::Write));
            stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
            outcome = answer_into(&mut reader, method == "HEAD", &mut answer);
        }
        if answer.status == 101 {
            stream.set_read_timeout(Some(patience.more)).unwrap();
            outcome = reader.body(Framing::UntilClose, &mut answer.body);
        }
        if answer.status != 0 {
            answers.responses.push(answer);
        }
        if let Err(error) = outcome {
            answers.closed = !timed_out(&error);
            break;
        }
    }
    drop(stream.shutdown(Shutdown::Both));
    answers
}

fn timed_out(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
