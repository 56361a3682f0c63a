//! Streams as the engine gives them: both ways, at the pace of the slower side, to the last byte.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails where something does not hold")]

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tests::front::Front;
use tests::http::{Framing, Reader};
use tests::pki::{Pki, Tls, free_port};
use tests::record::Request;
use tests::scratch::{Scratch, wait_until};
use tests::stub::{Reply, Script};

const UPGRADED: &[u8] = b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
const ATTACH: &str = "POST /v1.41/containers/ci-own1/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n";
const LOGS: &str = "GET /v1.41/containers/ci-own1/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: docker\r\n\r\n";

/// Far more than sockets and the proxy hold, far less than a stream that nobody reads.
const HELD: usize = 16 << 20;

/// Connects to the proxy and sends a request.
fn sent(front: &Front, request: &str) -> UnixStream {
    let mut stream = UnixStream::connect(front.proxy.socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// Answers the requests whose route ends so with a script.
fn play(
    tail: &'static str,
    script: impl Fn(&UnixStream, Vec<u8>) + Clone + Send + Sync + 'static,
) -> impl Fn(&Request) -> Option<Reply> + Send + Sync {
    move |request: &Request| {
        let script = script.clone();
        let boxed: Script = Box::new(script);
        request.route().ends_with(tail).then_some(Reply::Script(boxed))
    }
}

/// A sender that many scripts can share.
fn shared<T>() -> (Arc<Mutex<Sender<T>>>, Receiver<T>) {
    let (sender, receiver) = channel();
    (Arc::new(Mutex::new(sender)), receiver)
}

fn next<T>(receiver: &Receiver<T>, what: &str) -> T {
    receiver.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|e| panic!("{what}: {e}"))
}

/// Reads the 101, and gives what came with it.
fn upgraded<S: Read>(stream: S) -> Reader<S> {
    let mut reader = Reader::new(stream);
    let head = reader.head().unwrap();
    assert_eq!(head.first, "HTTP/1.1 101 UPGRADED", "the engine's own words");
    reader
}

#[test]
fn slow_reader_slows_the_engine() {
    let (stalled, stall) = shared();
    let front = Front::new(play("/logs", move |mut stream: &UnixStream, _| {
        let frame = [b"10000\r\n".to_vec(), vec![7; 65536], b"\r\n".to_vec()].concat();
        stream.write_all(CHUNKED).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut written = 0;
        // until a write of two seconds does not get rid of a byte
        while let Ok(count) = stream.write(&frame[written % frame.len()..]) {
            written += count;
            assert!(written < 4 * HELD, "nobody reads, and everything was taken");
        }
        stalled.lock().unwrap().send(written).unwrap();
        stream.set_write_timeout(None).unwrap();
        let rest = written.next_multiple_of(frame.len()) - written;
        stream.write_all(&frame[frame.len() - rest..]).unwrap();
        stream.write_all(b"0\r\n\r\n").unwrap();
        drop(stream.read(&mut [0]));
    }));
    let before = front.proxy.resident();
    let mut reader = Reader::new(sent(&front, LOGS));
    let written = next(&stall, "the engine stalls");
    let grown = front.proxy.resident().saturating_sub(before);
    assert!(written < HELD, "{written} bytes are on their way to a client that does not read");
    assert!(grown < 16 << 20, "the proxy holds {grown} bytes more than before");
    let head = reader.head().unwrap();
    let mut body = Vec::new();
    reader.body(head.framing(Framing::UntilClose), &mut body).unwrap();
    assert_eq!(body.len(), written.div_ceil(65536 + 9) * 65536, "and nothing of it is lost");
}

/// Clients that do not say how long a body is (docker-java) have as many requests open as others.
#[test]
fn bodies_are_counted_by_what_they_are() {
    const OPEN: usize = 12;
    let front = Front::new(play("/wait", |mut stream: &UnixStream, _| {
        stream.write_all(CHUNKED).unwrap();
        drop(stream.read(&mut [0]));
    }));
    let wait = "POST /v1.41/containers/ci-own1/wait HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    let open: Vec<Reader<UnixStream>> = (0..OPEN).map(|_| Reader::new(sent(&front, wait))).collect();
    for mut reader in open {
        assert_eq!(reader.head().unwrap().status(), 200);
    }
    // A length that is said is counted before the bytes are there.
    let create =
        "POST /v1.41/containers/create HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: ";
    let begin = || {
        let mut reader = Reader::new(sent(&front, &format!("{create}{}\r\n\r\n", 4 << 20)));
        assert_eq!(reader.head().unwrap().status(), 100);
        reader
    };
    let begun: Vec<Reader<UnixStream>> = (0..4).map(|_| begin()).collect();
    assert_eq!(begin().head().unwrap().status(), 429);
    drop(begun);
}

/// HTTP/1.0 ends a body where the connection ends: it is told so, and the connection ends.
#[test]
fn an_older_http_is_refused_and_not_waited_for() {
    let front = Front::new(|_| None);
    for request in [
        "GET /v1.41/containers/json HTTP/1.0\r\n\r\n",
        "GET /v1.41/containers/json HTTP/1.0\r\nHost: docker\r\nConnection: keep-alive\r\n\r\nGET /v1.41/containers/json HTTP/1.1\r\nHost: docker\r\n\r\n",
        "POST /v1.41/networks/create HTTP/1.0\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
        "GET /v1.41/containers/json\r\n",
    ] {
        let mut answer = String::new();
        let mut stream = sent(&front, request);
        stream.read_to_string(&mut answer).unwrap();
        let status = if request.contains(" HTTP/") { "HTTP/1.1 505 " } else { "HTTP/1.1 400 " };
        assert!(answer.starts_with(status) && answer.matches("Content-Length: ").count() == 1, "{request}: {answer}");
    }
    assert!(front.stub().requests().iter().all(|request| !matches!(request.route().as_str(), "/containers/json" | "/networks/create")));
}

#[test]
fn slow_engine_slows_the_upload() {
    const TOTAL: usize = 64 << 20;
    let (go, gone) = channel::<()>();
    let gone = Arc::new(Mutex::new(gone));
    let (counted, count) = shared();
    let part = move |request: &Request| {
        let (framing, gone, counted) = (request.head.framing(Framing::Length(0)), Arc::clone(&gone), Arc::clone(&counted));
        let script: Script = Box::new(move |mut stream: &UnixStream, early| {
            gone.lock().unwrap().recv().unwrap();
            let mut body = Vec::new();
            Reader::new(early.as_slice().chain(stream)).body(framing, &mut body).unwrap();
            counted.lock().unwrap().send(body.len()).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        });
        (request.method == "PUT").then_some(Reply::Script(script))
    };
    let front = Front::listening("", |request| request.method == "PUT", part);
    let head = format!(
        "PUT /v1.41/containers/ci-own1/archive?path=/tmp HTTP/1.1\r\nHost: docker\r\nContent-Type: application/x-tar\r\nContent-Length: {TOTAL}\r\n\r\n"
    );
    let mut stream = sent(&front, &head);
    stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    // One file that is as long as the whole upload, less its header and the end of the archive.
    let file = tar_header("file", TOTAL - 3 * 512);
    stream.write_all(&file).unwrap();
    let (zeros, mut written) = (vec![0; 65536], file.len());
    while let Ok(count) = stream.write(&zeros) {
        written += count;
        assert!(written < HELD, "the engine reads nothing, and {written} bytes were taken");
    }
    go.send(()).unwrap();
    stream.set_write_timeout(None).unwrap();
    while written < TOTAL {
        written += stream.write(&zeros[..zeros.len().min(TOTAL - written)]).unwrap();
    }
    assert_eq!(next(&count, "the engine reads the body"), TOTAL);
    assert_eq!(Reader::new(stream).head().unwrap().status(), 200);
}

/// The engine's side of a half close: everything up to the client's end, and then an answer.
fn counts_until_end(mut stream: &UnixStream, early: Vec<u8>) {
    stream.write_all(UPGRADED).unwrap();
    let mut got = early;
    stream.read_to_end(&mut got).unwrap();
    stream.write_all(format!("got {} bytes", got.len()).as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
}

#[test]
fn end_of_the_clients_input_reaches_the_engine_while_output_goes_on() {
    let front = Front::new(play("/attach", counts_until_end));
    let (mut stream, mut answer) = upgraded(sent(&front, ATTACH)).into_parts();
    stream.write_all(b"abc").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "got 3 bytes");
}

#[test]
fn close_notify_of_a_tls_client_reaches_the_engine_while_output_goes_on() {
    let (pki, port) = (Pki::new(), free_port());
    let folder = pki.issue("job", &[]);
    let _front = Front::listening(&pki.listener(port), |_| false, play("/attach", counts_until_end));
    let mut stream = Tls::new(port, &pki, Some(&folder)).connect().unwrap();
    stream.write_all(ATTACH.as_bytes()).unwrap();
    let (mut stream, mut answer) = upgraded(stream).into_parts();
    stream.write_all(b"abc").unwrap();
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    // an end with close_notify, not a cut
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "got 3 bytes");
}

#[test]
fn end_of_the_engines_output_reaches_the_client_while_input_goes_on() {
    let (heard, hear) = shared();
    let front = Front::new(play("/attach", move |mut stream: &UnixStream, early| {
        stream.write_all(UPGRADED).unwrap();
        stream.write_all(b"bye").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut got = early;
        stream.read_to_end(&mut got).unwrap();
        heard.lock().unwrap().send(got).unwrap();
    }));
    let (mut stream, mut answer) = upgraded(sent(&front, ATTACH)).into_parts();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"bye");
    stream.write_all(b"late").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(next(&hear, "the engine reads on"), b"late");
}

#[test]
fn tunnel_is_exact_in_both_directions() {
    const TOTAL: usize = 64 << 20;
    let front = Front::new(|request| request.route().ends_with("/attach").then_some(Reply::Echo));
    let (mut stream, mut got) = upgraded(sent(&front, ATTACH)).into_parts();
    let mut state = 1_u32;
    let data: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(TOTAL)
    .collect();
    let (mut writer, copy) = (stream.try_clone().unwrap(), data.clone());
    let sending = thread::spawn(move || {
        writer.write_all(&copy).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    stream.read_to_end(&mut got).unwrap();
    sending.join().unwrap();
    assert!(got == data, "{} of {TOTAL} bytes came back, and not all the same", got.len());
}

#[test]
fn nothing_of_a_stream_reaches_the_engine_before_its_101() {
    let (heard, hear) = shared();
    let front = Front::new(play("/attach", move |mut stream: &UnixStream, early| {
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let quiet = stream.read(&mut [0; 64]).is_err_and(|e| e.kind() == ErrorKind::WouldBlock);
        heard.lock().unwrap().send(early.is_empty() && quiet).unwrap();
        stream.write_all(UPGRADED).unwrap();
    }));
    let stream = sent(&front, &format!("{ATTACH}early bytes"));
    let head = Reader::new(stream).head().unwrap();
    // to refuse such a client is right too
    if head.status() == 101 {
        assert!(next(&hear, "the engine listens"), "bytes came before the engine agreed to a stream");
    } else {
        assert_eq!(head.status(), 400, "{head:?}");
    }
}

#[test]
fn refusal_of_a_stream_is_an_ordinary_answer() {
    let front = Front::new(|request| request.route().ends_with("/attach").then(|| Reply::error(409, "the container is paused")));
    let answer = tests::http::over(sent(&front, ATTACH), b"").unwrap();
    assert_eq!((answer.status, answer.message().as_str()), (409, "the container is paused"));
}

#[test]
fn each_piece_of_a_stream_comes_when_it_is_sent() {
    let (asked, ask) = channel::<()>();
    let ask = Arc::new(Mutex::new(ask));
    let front = Front::new(play("/logs", move |mut stream: &UnixStream, _| {
        stream.write_all(CHUNKED).unwrap();
        for piece in ["one", "two", "six"] {
            // the next piece is not sent before the client has this one
            stream.write_all(format!("3\r\n{piece}\r\n").as_bytes()).unwrap();
            ask.lock().unwrap().recv().unwrap();
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
    }));
    let mut stream = sent(&front, LOGS);
    let mut text = String::new();
    for piece in ["one", "two", "six"] {
        while !text.contains(piece) {
            let mut bytes = [0; 512];
            let count = stream.read(&mut bytes).unwrap_or_else(|e| panic!("{piece} is held back: {e}"));
            assert_ne!(count, 0, "the stream ended: {text}");
            text.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        asked.send(()).unwrap();
    }
}

#[test]
fn engine_hears_within_a_second_that_the_client_is_gone() {
    let get = |target: &str| format!("GET /v1.41{target} HTTP/1.1\r\nHost: docker\r\n\r\n");
    let streams = [
        ("/logs", LOGS.to_owned()),
        ("/events", get("/events")),
        ("/stats", get("/containers/ci-own1/stats")),
        ("/wait", "POST /v1.41/containers/ci-own1/wait HTTP/1.1\r\nHost: docker\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("/attach", ATTACH.to_owned()),
    ];
    for (tail, request) in streams {
        let front = Front::new(play(tail, move |mut stream: &UnixStream, _| {
            stream.write_all(if tail == "/attach" { UPGRADED } else { CHUNKED }).unwrap();
            drop(stream.read_to_end(&mut Vec::new()));
        }));
        let mut reader = Reader::new(sent(&front, &request));
        reader.head().unwrap_or_else(|e| panic!("{tail}: the head comes before the stream ends: {e}"));
        let asked = front.stub().requests().into_iter().rev().find(|r| r.route().ends_with(tail)).unwrap();
        drop(reader);
        front.stub().wait_for_end(asked.connection, Duration::from_secs(1));
    }
}

#[test]
fn engine_that_does_not_answer_hears_that_the_client_is_gone() {
    let front = Front::new(|request| request.route().ends_with("/top").then_some(Reply::Hang));
    let stream = sent(&front, "GET /v1.41/containers/ci-own1/top HTTP/1.1\r\nHost: docker\r\n\r\n");
    let asked = front.stub().wait_for("GET", &top_route(&front));
    drop(stream);
    front.stub().wait_for_end(asked.connection, Duration::from_secs(1));
}

/// The id is what is forwarded.
fn top_route(front: &Front) -> String {
    format!("/containers/{}/top", front.world.values("n").get("OWN_ID").unwrap())
}

/// The header of a file in an archive (POSIX ustar).
fn tar_header(name: &str, size: usize) -> Vec<u8> {
    let fields = |sum: &str| {
        let mut block = Vec::new();
        for (text, width) in [
            (name, 100),
            ("0000644", 8),
            ("0000000", 8),
            ("0000000", 8),
            (format!("{size:011o}").as_str(), 12),
            ("00000000000", 12),
            (sum, 8),
            ("0", 1),
            ("", 100),
            ("ustar\x0000", 8),
            ("", 247),
        ] {
            let bytes = text.bytes().chain(std::iter::repeat(0));
            block.extend(bytes.take(width));
        }
        block
    };
    let sum: u64 = fields("        ").iter().map(|b| u64::from(*b)).sum();
    fields(&format!("{sum:06o}\0 "))
}

/// Most that the proxy ever held, in bytes.
fn peak(front: &Front) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", front.proxy.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// A thousandth of its length when it is compressed, and the engine gets all of it.
#[test]
fn a_compressed_context_is_never_in_memory_as_a_whole() {
    const LENGTH: u64 = 256 << 20;
    let folder = Scratch::new("context");
    folder.write("Dockerfile", "FROM scratch\n");
    std::fs::File::create(folder.join("zeros")).unwrap().set_len(LENGTH).unwrap();
    let archive = Command::new("tar").arg("-C").arg(folder.path()).args(["-cz", "Dockerfile", "zeros"]).output().unwrap().stdout;
    let (sender, lengths) = shared();
    let front = Front::listening(
        "",
        |request| request.route() == "/build",
        play("/build", move |stream, early| {
            let mut reader = Reader::new(stream);
            let mut length = u64::try_from(early.len()).unwrap();
            while length < LENGTH {
                length += u64::try_from(reader.some(1 << 20).unwrap().len()).unwrap();
            }
            sender.lock().unwrap().send(length).unwrap();
        }),
    );
    let before = peak(&front);
    let head =
        format!("POST /v1.41/build?t=app HTTP/1.1\r\nHost: docker\r\nContent-Type: application/x-tar\r\nContent-Length: {}\r\n\r\n", archive.len());
    let mut client = sent(&front, &head);
    client.write_all(&archive).unwrap();
    assert!(next(&lengths, "the engine gets the context") >= LENGTH);
    let more = peak(&front) - before;
    assert!(more < 24 << 20, "{more} bytes more than before");
}

/// Builds of which the Dockerfile has not come yet, and nothing else comes.
#[test]
fn half_open_builds_take_no_more_than_their_tenants_memory() {
    const OPEN: usize = 400;
    let front = Front::new(|_| None);
    let folder = Scratch::new("context");
    std::fs::File::create(folder.join("zeros")).unwrap().set_len(1 << 30).unwrap();
    let archive = Command::new("sh").arg("-c").arg("tar -c zeros | head -c 1000000 | gzip").current_dir(folder.path()).output().unwrap().stdout;
    assert!(archive.len() < 2048, "{} bytes", archive.len());
    let head = "POST /v1.41/build?t=app HTTP/1.1\r\nHost: docker\r\nContent-Type: application/x-tar\r\nContent-Length: 1000000\r\n\r\n";
    let before = front.proxy.resident();
    let open: Vec<UnixStream> = (0..OPEN)
        .map(|_| {
            let mut stream = sent(&front, head);
            stream.write_all(&archive).unwrap();
            stream
        })
        .collect();
    let busy = || front.proxy.audit().iter().filter(|record| record["status"] == 429).count();
    wait_until("builds for which there is no room are refused", Duration::from_secs(20), || busy() > OPEN - 20);
    let more = front.proxy.resident().saturating_sub(before);
    assert!(more < 160 << 20, "{more} bytes more than before");
    drop(open);
    assert!(front.stub().requests().iter().all(|request| request.route() != "/build"));
}
