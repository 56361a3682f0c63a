//! The head of a request.

use super::ReceiveError;

/// The head of a request, as far as it means something here. What is not here is not forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// One of the Engine API's methods.
    pub method: &'static str,
    /// As it was sent.
    pub target: String,
    /// How the body is framed.
    pub framing: Framing,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `X-Registry-Auth`.
    pub registry_auth: Option<String>,
    /// `X-Registry-Config`.
    pub registry_config: Option<String>,
    /// `Upgrade`, when `Connection` names it or not: engines look at its presence alone.
    pub upgrade: Option<String>,
    /// `Connection: close`.
    pub close: bool,
    /// `Expect: 100-continue`.
    pub expects_continue: bool,
    /// A `Content-Encoding`, which engines ignore: archives are unpacked as what they are, and JSON is none then.
    pub encoded: bool,
}

/// How a body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// `Content-Length`.
    Length(u64),
    /// There is none.
    None,
}

const METHODS: [&str; 5] = ["GET", "HEAD", "POST", "PUT", "DELETE"];
const MOST_HEADERS: usize = 64;

/// Reads a head, and how many bytes it has; `None`: it is not complete.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, ReceiveError> {
    check_bytes(bytes)?;
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(ReceiveError::Head("too many headers")),
        Err(httparse::Error::Version) => return Err(ReceiveError::Version),
        Err(_) => return Err(ReceiveError::Head("not an HTTP/1.1 request")),
    };
    if request.version != Some(1) {
        return Err(ReceiveError::Version);
    }
    let method = request.method.unwrap_or_default();
    let method = METHODS.into_iter().find(|known| *known == method).ok_or_else(|| ReceiveError::Method(method.chars().take(32).collect()))?;
    let target = request.path.unwrap_or_default().to_owned();
    let mut head = Head {
        method,
        target,
        framing: Framing::None,
        content_type: None,
        registry_auth: None,
        registry_config: None,
        upgrade: None,
        close: false,
        expects_continue: false,
        encoded: false,
    };
    let mut host = false;
    for header in request.headers.iter() {
        let value = std::str::from_utf8(header.value).map_err(|_| ReceiveError::Head("a header that is not UTF-8"))?;
        if value.chars().any(char::is_control) {
            return Err(ReceiveError::Head("a control character in a header"));
        }
        head.take(header.name, value, &mut host)?;
    }
    if !host {
        return Err(ReceiveError::Head("no Host"));
    }
    Ok(Some((head, length)))
}

/// What httparse takes and this does not: line feeds alone, empty lines before the request, tabs.
fn check_bytes(bytes: &[u8]) -> Result<(), ReceiveError> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
    let head = bytes.get(..end).unwrap_or_default();
    if matches!(head.first(), Some(b'\r' | b'\n' | b' ')) {
        return Err(ReceiveError::Head("an empty line before the request"));
    }
    let mut before = 0;
    for b in head {
        match b {
            b'\n' if before != b'\r' => return Err(ReceiveError::Head("a bare line feed")),
            b'\t' => return Err(ReceiveError::Head("a tab")),
            0 => return Err(ReceiveError::Head("a zero byte")),
            _ => {}
        }
        if before == b'\r' && *b != b'\n' {
            return Err(ReceiveError::Head("a bare carriage return"));
        }
        before = *b;
    }
    Ok(())
}

impl Head {
    fn take(&mut self, name: &str, value: &str, host: &mut bool) -> Result<(), ReceiveError> {
        match name.to_ascii_lowercase().as_str() {
            "host" if std::mem::replace(host, true) => return Err(ReceiveError::Head("two Hosts")),
            // Empty is what Go writes for a request that it hijacks: the docker CLI to 20.10, buildx.
            "host" if value.contains(' ') => return Err(ReceiveError::Head("a Host that is none")),
            "content-length" => self.frame(Framing::Length(content_length(value)?))?,
            "transfer-encoding" if value == "chunked" => self.frame(Framing::Chunked)?,
            "transfer-encoding" => return Err(ReceiveError::Head("a Transfer-Encoding other than `chunked`")),
            "content-type" => once(&mut self.content_type, value)?,
            "x-registry-auth" => once(&mut self.registry_auth, value)?,
            "x-registry-config" => once(&mut self.registry_config, value)?,
            "upgrade" => once(&mut self.upgrade, value)?,
            "connection" => self.connection(value)?,
            "expect" if value.eq_ignore_ascii_case("100-continue") => self.expects_continue = true,
            "expect" => return Err(ReceiveError::Head("an expectation other than `100-continue`")),
            "content-encoding" if !value.eq_ignore_ascii_case("identity") => self.encoded = true,
            "trailer" => return Err(ReceiveError::Head("trailers")),
            _ => {}
        }
        Ok(())
    }

    fn frame(&mut self, framing: Framing) -> Result<(), ReceiveError> {
        if self.framing != Framing::None {
            return Err(ReceiveError::Head("more than one of Content-Length and Transfer-Encoding"));
        }
        self.framing = framing;
        Ok(())
    }

    /// Names of other headers in `Connection` would be taken out by proxies that follow the letter, and read by engines that do not.
    fn connection(&mut self, value: &str) -> Result<(), ReceiveError> {
        for token in value.split(',').map(str::trim) {
            match token.to_ascii_lowercase().as_str() {
                "close" => self.close = true,
                // What answers may be encoded as (`TE`) is left behind, as every header is that is not named above.
                "keep-alive" | "te" | "upgrade" | "" => {}
                _ => return Err(ReceiveError::Head("a Connection option other than close, keep-alive, te and upgrade")),
            }
        }
        Ok(())
    }
}

fn once(place: &mut Option<String>, value: &str) -> Result<(), ReceiveError> {
    match place.replace(value.to_owned()) {
        None => Ok(()),
        Some(_) => Err(ReceiveError::Head("a header that is given twice")),
    }
}

fn content_length(value: &str) -> Result<u64, ReceiveError> {
    let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) && (value == "0" || !value.starts_with('0'));
    digits.then(|| value.parse().ok()).flatten().filter(|length| *length <= 1 << 62).ok_or(ReceiveError::Head("a Content-Length that is no number"))
}
