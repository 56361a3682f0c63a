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
        ("content encoding", "Host: docker\r\n", "Host: docker\r\nContent-Encoding: gzip\r\n"),
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
            body = receiver.body(framing) => body,
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
