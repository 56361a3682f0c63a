use super::*;

fn parse(text: &str) -> Result<Option<Head>, ReceiveError> {
    head::parse(text.as_bytes()).map(|found| found.map(|(head, _)| head))
}

#[test]
fn a_head_has_one_form() {
    let good = "POST /v1.41/containers/create HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n";
    let head = parse(good).unwrap().unwrap();
    assert_eq!((head.method, head.framing, head.content_type.as_deref()), ("POST", Framing::Length(2), Some("application/json")));
    for (name, from, to) in [
        ("two hosts", "Host: docker\r\n", "Host: docker\r\nHost: evil\r\n"),
        ("no host", "Host: docker\r\n", ""),
        ("both framings", "Content-Length: 2\r\n", "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n"),
        ("the same length twice", "Content-Length: 2\r\n", "Content-Length: 2\r\nContent-Length: 2\r\n"),
        ("length with a sign", "Content-Length: 2", "Content-Length: +2"),
        ("length with a zero", "Content-Length: 2", "Content-Length: 02"),
        ("list of lengths", "Content-Length: 2", "Content-Length: 2, 2"),
        ("no length", "Content-Length: 2", "Content-Length:"),
        ("encoding in capitals", "Content-Length: 2", "Transfer-Encoding: Chunked"),
        ("two encodings", "Content-Length: 2", "Transfer-Encoding: gzip, chunked"),
        ("encoding behind a tab", "Content-Length: 2", "Transfer-Encoding:\tchunked"),
        ("a folded line", "Host: docker\r\n", "Host: docker\r\nX: y\r\n z\r\n"),
        ("space before colon", "Host:", "Host :"),
        ("line feed alone", "Host: docker\r\n", "Host: docker\n"),
        ("old version", "HTTP/1.1", "HTTP/1.0"),
        ("unknown version", "HTTP/1.1", "HTTP/1.2"),
        ("method in lower case", "POST", "post"),
        ("other method", "POST", "OPTIONS"),
        ("expectation", "Host: docker\r\n", "Host: docker\r\nExpect: something\r\n"),
        ("nominated header", "Host: docker\r\n", "Host: docker\r\nConnection: Content-Length\r\n"),
        ("trailer", "Host: docker\r\n", "Host: docker\r\nTrailer: X\r\n"),
        ("two types", "Content-Type: application/json\r\n", "Content-Type: application/json\r\nContent-Type: text/plain\r\n"),
        ("empty line first", "POST", "\r\nPOST"),
        ("two spaces", "POST /", "POST  /"),
    ] {
        let bad = good.replace(from, to);
        assert_ne!(bad, good, "{name}");
        assert!(parse(&bad).is_err(), "{name}");
    }
}

#[test]
fn what_says_how_answers_may_be_encoded_is_left_behind() {
    let head = parse("GET /_ping HTTP/1.1\r\nTE: deflate,gzip;q=0.3\r\nConnection: TE, close\r\nHost: docker\r\n\r\n").unwrap().unwrap();
    assert!(head.close, "as Perl's LWP asks");
}

/// Reads a whole body that arrives one byte at a time.
fn read(framing: Framing, bytes: &'static [u8]) -> Result<Bytes, ReceiveError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(1);
        let mut receiver = Receiver::new(server, Bounds { body: 64, ..Bounds::default() });
        let send = async move {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut client, bytes).await;
            drop(client);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            body = receiver.body(framing, |_| true) => body,
            () = send => Err(ReceiveError::Slow),
        }
    })
}

#[test]
fn chunked_bodies_are_read_strictly() {
    assert_eq!(read(Framing::Chunked, b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").unwrap(), "abcde");
    assert_eq!(read(Framing::Chunked, b"0\r\n\r\n").unwrap(), "");
    for bytes in [
        &b"3;x=y\r\nabc\r\n0\r\n\r\n"[..],
        b"3\nabc\r\n0\r\n\r\n",
        b"03\r\nabc\r\n0\r\n\r\n",
        b"3 \r\nabc\r\n0\r\n\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"3\r\nabc\r\n0\r\nX: y\r\n\r\n",
        b"fffffffff\r\n",
        b"3\r\nab",
        b"ff\r\n0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
    ] {
        assert!(read(Framing::Chunked, bytes).is_err(), "{}", bytes.escape_ascii());
    }
}

#[test]
fn bodies_are_bounded() {
    assert!(matches!(read(Framing::Length(65), b""), Err(ReceiveError::TooLarge { what: "body", limit: 64 })));
    assert_eq!(read(Framing::Length(3), b"abc").unwrap(), "abc");
    assert!(matches!(read(Framing::Length(4), b"abc"), Err(ReceiveError::Gone(_))));
}

proptest::proptest! {
    /// Whatever is done to a head: what is still taken has one host, one framing, whole lines, and ends where its blank line is.
    #[test]
    fn a_changed_head_is_refused_or_keeps_its_form(changes in proptest::collection::vec((0_usize..200, "[\\r\\n\t :,a-zA-Z0-9+]{0,3}|Host: x\r\n|Content-Length: 1\r\n|Transfer-Encoding: chunked\r\n", 0_usize..4), 1..4)) {
        let mut bytes = b"POST /v1.41/containers/create?name=x HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}".to_vec();
        for (at, text, removed) in changes {
            let at = at.min(bytes.len());
            let end = (at + removed).min(bytes.len());
            bytes.splice(at..end, text.into_bytes());
        }
        let Ok(Some((head, length))) = head::parse(&bytes) else { return Ok(()) };
        let text = String::from_utf8(bytes.get(..length).unwrap().to_vec()).unwrap();
        let lines: Vec<&str> = text.split("\r\n").collect();
        let named = |name: &str| lines.iter().filter(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:"))).count();
        proptest::prop_assert!(text.ends_with("\r\n\r\n") && text.matches("\r\n\r\n").count() == 1, "{text:?}");
        proptest::prop_assert!(!text.replace("\r\n", "").contains(['\r', '\n']), "{text:?}");
        proptest::prop_assert_eq!(named("host"), 1);
        proptest::prop_assert_eq!(named("content-length") + named("transfer-encoding"), usize::from(head.framing != Framing::None));
        let first = format!("{} {} HTTP/1.1", head.method, head.target);
        proptest::prop_assert_eq!(lines.first().copied(), Some(first.as_str()));
    }
}

/// A connection that breaks off.
struct Broken(std::io::ErrorKind);

impl AsyncRead for Broken {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Err(self.0.into()))
    }
}

/// Clients of TLS often go without `close_notify`.
#[test]
fn a_client_that_goes_between_two_requests_has_asked_for_nothing() {
    use std::io::ErrorKind;
    let head = |first: &'static [u8], kind| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(Receiver::new(first.chain(Broken(kind)), Bounds::default()).head(|_| true))
    };
    for kind in [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset, ErrorKind::TimedOut] {
        assert!(matches!(head(b"", kind), Ok(None)), "{kind}");
        assert!(matches!(head(b"GET /_ping HT", kind), Err(ReceiveError::Gone(_))), "{kind}");
    }
    assert!(matches!(head(b"", ErrorKind::InvalidData), Err(ReceiveError::Gone(_))), "what is no TLS is recorded");
}
