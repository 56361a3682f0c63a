use std::io::{Read, Write};
use std::os::unix::net::UnixStream as Engine;

use http::{Method, StatusCode};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::super::framing::Chunk;
use super::*;

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bounded = async { tokio::time::timeout(std::time::Duration::from_secs(10), test).await.expect("it does not hang") };
    runtime.block_on(tokio::task::LocalSet::new().run_until(bounded))
}

/// Both ends of a connection: ours, and the engine's, which does not wait.
fn connection() -> (EngineStream, Engine) {
    let (ours, engine) = Engine::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    engine.set_nonblocking(true).unwrap();
    (EngineStream::Unix(UnixStream::from_std(ours).unwrap()), engine)
}

fn request(method: Method, body: Upload) -> Request<Upload> {
    Request::builder().method(method).uri("/x?y=z").header("Host", "docker").body(body).unwrap()
}

fn get() -> Request<Upload> {
    request(Method::GET, Upload::Whole(None))
}

/// What has come to the engine.
fn sent(engine: &mut Engine) -> String {
    let mut bytes = Vec::new();
    let _ = engine.read_to_end(&mut bytes);
    String::from_utf8(bytes).unwrap()
}

/// A whole answer: its status and body.
async fn read(response: Response<Alone>) -> Result<(u16, String), EngineError> {
    let (status, mut body, mut whole) = (response.status().as_u16(), response.into_body(), Vec::new());
    while let Some(part) = body.part().await? {
        assert!(!part.is_empty());
        whole.extend_from_slice(&part);
    }
    assert_eq!(body.length(), Some(0), "it has ended");
    Ok((status, String::from_utf8(whole).unwrap()))
}

/// What becomes of an answer that comes in two pieces, after which the engine closes.
fn answered(method: Method, first: &[u8], second: &[u8]) -> Result<(u16, String), EngineError> {
    run(async {
        let (ours, mut engine) = connection();
        engine.write_all(first).unwrap();
        let second = second.to_vec();
        tokio::task::spawn_local(async move {
            tokio::task::yield_now().await;
            engine.write_all(&second).unwrap();
            // Closed with something unread, it would be reset.
            sent(&mut engine);
        });
        read(exchange(ours, request(method, Upload::Whole(None)), Rc::default()).await?).await
    })
}

const CHUNKS: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;a=\"b\"\r\nabcd\r\n01 \r\ne\r\n0\r\nX: y\r\nZ: \r\n\r\n";

#[test]
fn answers_are_whole_wherever_they_are_split() {
    for (name, method, answer, expected) in [
        ("length", Method::GET, &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde"[..], (200, "abcde")),
        ("same length twice", Method::GET, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab", (200, "ab")),
        ("chunks, extensions and trailers", Method::GET, CHUNKS, (200, "abcde")),
        ("until it closes", Method::GET, b"HTTP/1.1 200 OK\r\n\r\nabcde", (200, "abcde")),
        ("until it closes, HTTP/1.0", Method::GET, b"HTTP/1.0 404 No\r\n\r\nabcde", (404, "abcde")),
        (
            "interim",
            Method::GET,
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
            (200, "a"),
        ),
        ("no content", Method::POST, b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", (204, "")),
        ("not modified", Method::GET, b"HTTP/1.1 304 Not Modified\r\n\r\n", (304, "")),
        ("head alone", Method::HEAD, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", (200, "")),
    ] {
        for at in 0..=answer.len() {
            let (first, second) = answer.split_at(at);
            let (status, body) = answered(method.clone(), first, second).unwrap_or_else(|error| panic!("{name} at {at}: {error}"));
            assert_eq!((status, body.as_str()), expected, "{name} at {at}");
        }
    }
}

#[test]
fn what_breaks_off_is_never_whole() {
    for answer in [&b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde"[..], CHUNKS] {
        for end in 0..answer.len() {
            assert!(matches!(answered(Method::GET, &answer[..end], b""), Err(EngineError::Broken(_))), "{}", answer[..end].escape_ascii());
        }
    }
}

#[test]
fn malformed_answers_are_not_understood() {
    let (chunked, endless) = ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "a".repeat(70 << 10));
    for answer in [
        "garbage\r\n\r\n".to_owned(),
        "HTTP/9.9 200 OK\r\n\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\nX: {endless}"),
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na".to_owned(),
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        format!("{chunked}x\r\n"),
        format!("{chunked}\r\n"),
        format!("{chunked}1\na\r\n0\r\n\r\n"),
        format!("{chunked}1;x\na\r\n0\r\n\r\n"),
        format!("{chunked}1\r\nab\r\n0\r\n\r\n"),
        format!("{chunked}11111111111111111\r\n"),
    ] {
        let found = answered(Method::GET, answer.as_bytes(), b"");
        assert!(matches!(found, Err(EngineError::Answer(_))), "{:?}: {found:?}", answer.get(..90.min(answer.len())));
    }
}

#[test]
fn a_tunnel_begins_with_what_came_behind_101() {
    run(async {
        let (ours, mut engine) = connection();
        engine.write_all(b"HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\nfirst").unwrap();
        let body = Upload::Whole(Some(Bytes::from_static(b"{}")));
        let response = exchange(ours, request(Method::POST, body), Rc::default()).await.unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        let (mut stream, first) = response.into_body().into_stream().unwrap();
        assert_eq!(first, "first");
        assert_eq!(sent(&mut engine), "POST /x?y=z HTTP/1.1\r\nhost: docker\r\ncontent-length: 2\r\n\r\n{}");
        stream.write_all(b"up").await.unwrap();
        assert_eq!(sent(&mut engine), "up");
    });
}

#[test]
fn parts_are_sent_as_they_come() {
    run(async {
        let (ours, mut engine) = connection();
        let (sender, parts) = mpsc::channel(4);
        let answer = tokio::task::spawn_local(exchange(ours, request(Method::PUT, Upload::Parts(parts)), Rc::default()));
        for (part, wire) in [
            ("abc", "PUT /x?y=z HTTP/1.1\r\nhost: docker\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"),
            ("", ""),
            ("0123456789", "a\r\n0123456789\r\n"),
        ] {
            sender.send(Ok(Bytes::from(part))).await.unwrap();
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            assert_eq!(sent(&mut engine), wire);
        }
        drop(sender);
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        assert_eq!(sent(&mut engine), "0\r\n\r\n");
        engine.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        assert_eq!(read(answer.await.unwrap().unwrap()).await.unwrap(), (200, String::new()));
    });
}

/// More than a socket takes.
fn endless() -> (Upload, mpsc::Sender<Result<Bytes, Aborted>>) {
    let (sender, parts) = mpsc::channel(64);
    for _ in 0..64 {
        sender.try_send(Ok(Bytes::from(vec![b'x'; 64 << 10]))).unwrap();
    }
    (Upload::Parts(parts), sender)
}

#[test]
fn an_answer_may_come_before_the_end_of_the_request() {
    for closes in [false, true] {
        run(async {
            let (ours, mut engine) = connection();
            let (body, _sender) = endless();
            engine.write_all(b"HTTP/1.1 400 No\r\nContent-Length: 2\r\n\r\nno").unwrap();
            let kept = (!closes).then_some(engine);
            let response = exchange(ours, request(Method::PUT, body), Rc::default()).await.unwrap();
            assert_eq!(read(response).await.unwrap(), (400, "no".to_owned()));
            drop(kept);
        });
    }
}

#[test]
fn the_rest_of_a_request_is_sent_while_its_answer_is_read() {
    run(async {
        let (ours, mut engine) = connection();
        let (body, sender) = endless();
        drop(sender);
        engine.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let response = exchange(ours, request(Method::POST, body), Rc::default()).await.unwrap();
        let reading = tokio::task::spawn_local(read(response));
        let mut whole = String::new();
        while !whole.ends_with("\r\n0\r\n\r\n") {
            whole += &sent(&mut engine);
            tokio::task::yield_now().await;
        }
        drop(engine);
        assert_eq!(reading.await.unwrap().unwrap(), (200, String::new()));
    });
}

#[test]
fn a_request_that_is_aborted_never_ends() {
    run(async {
        let (ours, mut engine) = connection();
        let (sender, parts) = mpsc::channel(4);
        sender.send(Ok(Bytes::from_static(b"abc"))).await.unwrap();
        sender.send(Err(Aborted)).await.unwrap();
        drop(sender);
        let found = exchange(ours, request(Method::PUT, Upload::Parts(parts)), Rc::default()).await;
        assert!(matches!(found, Err(EngineError::Broken(_))), "{found:?}");
        let mut bytes = Vec::new();
        engine.read_to_end(&mut bytes).expect("it is closed");
        assert!(bytes.ends_with(b"\r\n\r\n3\r\nabc\r\n"), "{}", bytes.escape_ascii());
    });
}

#[test]
fn dropped_it_closes_the_connection() {
    run(async {
        let (ours, mut engine) = connection();
        engine.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        let response = exchange(ours, get(), Rc::default()).await.unwrap();
        sent(&mut engine);
        assert_eq!(engine.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(response);
        assert_eq!(engine.read(&mut [0]).unwrap(), 0);
    });
}

/// What an engine can send until it has to wait.
fn fill(engine: &mut Engine) -> usize {
    std::iter::repeat_with(|| engine.write(&[b'x'; 4 << 10])).map_while(Result::ok).sum()
}

#[test]
fn no_more_is_read_than_a_stream_may_keep() {
    run(async {
        let (_unread, mut engine) = connection();
        let kernel = fill(&mut engine);
        for open in [1, 1024] {
            let open: Vec<Rc<()>> = vec![Rc::default(); open];
            let (ours, mut engine) = connection();
            engine.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let first = fill(&mut engine);
            let mut body = exchange(ours, get(), Rc::clone(&open[0])).await.unwrap().into_body();
            let part = body.part().await.unwrap().unwrap();
            assert_eq!(body.came.len(), 0, "nothing is kept beside what is given");
            assert!(part.len() <= super::part(open.len()), "{} of {first}", part.len());
            let more = fill(&mut engine);
            assert!(first + more <= kernel + super::part(open.len()), "{first} + {more} of {kernel}");
        }
    });
}

#[test]
fn nothing_is_kept_while_nothing_comes() {
    run(async {
        let (ours, mut engine) = connection();
        engine.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").unwrap();
        let mut body = exchange(ours, get(), Rc::default()).await.unwrap().into_body();
        assert_eq!(body.part().await.unwrap().unwrap(), "abc");
        let waiting = tokio::time::timeout(std::time::Duration::ZERO, body.part()).await;
        assert!(waiting.is_err());
        assert!(body.came.is_empty());
        assert_eq!(body.left, Left::Chunks(Chunk::Start));
        assert!(matches!(body.request, Sending::Sent(_)), "what was needed to send is gone");
    });
}
