//! What a client sees when the engine goes, comes back or breaks off, and when the proxy itself is told to end.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tests::front::Front;
use tests::http::{Framing, Reader, Response, over, request};
use tests::scratch::wait_until;
use tests::stub::{Reply, Script};
use tests::world::LABEL;

const LIST: &str = "/v1.41/containers/json";
const ATTACH: &str = "POST /v1.41/containers/ci-own1/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n";

#[test]
fn engine_that_is_gone_is_a_clear_502_and_its_return_is_found() {
    let mut front = Front::new(|_| None);
    assert_eq!(front.proxy.call("GET", LIST, None).status, 200);
    for round in 0..3 {
        front.stop_engine();
        let asked = Instant::now();
        let gone = front.proxy.call("GET", LIST, None);
        assert_eq!(gone.status, 502, "round {round}: {}", gone.text());
        assert!(gone.message().contains("engine"), "it says what is wrong: {}", gone.message());
        assert!(asked.elapsed() < Duration::from_secs(1), "it says so at once: {:?}", asked.elapsed());
        front.start_engine();
        let back = front.proxy.call("GET", LIST, None);
        assert_eq!(back.status, 200, "round {round}: the next request finds the new socket: {}", back.text());
    }
}

/// One container of many mounts, named in as many ways as its id can be shortened.
#[test]
fn what_is_told_of_the_objects_of_a_request_has_an_end() {
    let id = "a".repeat(64);
    let targets: Vec<serde_json::Value> = (0..1000)
        .map(|n| serde_json::json!({ "Type": "volume", "Name": "v", "Destination": format!("/{n}/{}", "t".repeat(3800)), "RW": true }))
        .collect();
    let described = serde_json::json!({ "Id": id, "Name": "/huge", "Image": "sha256:0", "Config": { "Labels": { LABEL: "job", "seawall.kind": "container" } },
        "State": { "Running": false }, "HostConfig": {}, "Mounts": targets, "NetworkSettings": { "Networks": {} } });
    let front = Front::new(move |request| {
        let short = request.route().strip_prefix("/containers/")?.strip_suffix("/json")?.to_owned();
        (!short.is_empty() && id.starts_with(&short)).then(|| Reply::Json(200, described.clone()))
    });
    let create = |names: usize| {
        let from: Vec<String> = (0..names).map(|n| "a".repeat(64 - n)).collect();
        front.proxy.call(
            "POST",
            "/v1.41/containers/create",
            Some(&serde_json::json!({ "Image": "cifixture:1", "HostConfig": { "VolumesFrom": from } })),
        )
    };
    assert_eq!(create(1).status, 201);
    let refused = create(53);
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert!(refused.message().contains("takes more memory"), "{}", refused.message());
    assert_eq!(create(1).status, 201, "what it took is given back");
}

#[test]
fn connection_of_a_client_outlives_the_engine() {
    let mut front = Front::new(|_| None);
    let mut stream = UnixStream::connect(front.proxy.socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut ask = || {
        stream.write_all(&request("GET", LIST, None)).unwrap();
        let mut reader = Reader::new(&stream);
        let head = reader.head().unwrap();
        reader.body(head.framing(Framing::UntilClose), &mut Vec::new()).unwrap();
        head.status()
    };
    assert_eq!(ask(), 200);
    front.stop_engine();
    front.start_engine();
    assert_eq!(ask(), 200, "a pooled connection of the old engine is not used");
}

#[test]
fn answer_that_breaks_off_never_looks_whole() {
    let answers: [(&str, &[u8]); 3] = [
        ("/top", b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 34\r\n\r\n{\"Titles\":[\"PID\"],\"Processes\":[[1]]}"),
        (
            "/logs",
            b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n",
        ),
        ("/containers/json", b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]"),
    ];
    for (tail, whole) in answers {
        // every byte of the body and of its framing, and some of the head
        let body = whole.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        for cut in [0, 1, 9, body, body + 3].into_iter().chain(body + 4..whole.len() - 2) {
            let sent = whole[..cut].to_vec();
            let front = Front::new(move |request| request.route().ends_with(tail).then(|| Reply::BytesThenClose(sent.clone())));
            let target = match tail {
                "/top" => "/v1.41/containers/ci-own1/top",
                "/logs" => "/v1.41/containers/ci-own1/logs?stdout=1",
                _ => LIST,
            };
            let stream = UnixStream::connect(front.proxy.socket()).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let outcome = over(stream, &request("GET", target, None));
            let broken = outcome.as_ref().map_or(true, |answer| answer.status == 502);
            assert!(broken, "{tail} cut at byte {cut} of {}: {outcome:?}", whole.len());
        }
    }
}

#[test]
fn answer_that_is_not_http_is_a_502() {
    for nonsense in ["garbage\r\n\r\n", "HTTP/9.9 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"] {
        let front = Front::new(move |request| request.route().ends_with("/top").then(|| Reply::BytesThenClose(nonsense.as_bytes().to_vec())));
        let answer = front.proxy.call("GET", "/v1.41/containers/ci-own1/top", None);
        assert_eq!(answer.status, 502, "{nonsense:?}: {}", answer.text());
    }
}

#[test]
fn proxy_told_to_end_finishes_what_it_has_begun() {
    let (go, gone) = channel::<()>();
    let gone = Arc::new(Mutex::new(gone));
    let mut front = Front::new(move |request| {
        let gone = Arc::clone(&gone);
        let script: Script = Box::new(move |mut stream: &UnixStream, _| {
            gone.lock().unwrap().recv().unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").unwrap();
            drop(stream.read(&mut [0]));
        });
        request.route().ends_with("/top").then_some(Reply::Script(script))
    });
    let socket = front.proxy.socket().to_owned();
    let asking = thread::spawn(move || {
        let stream = UnixStream::connect(socket).unwrap();
        over(stream, &request("GET", "/v1.41/containers/ci-own1/top", None))
    });
    let id = front.world.values("n").get("OWN_ID").unwrap().clone();
    front.stub().wait_for("GET", &format!("/containers/{id}/top"));
    front.proxy.terminate();
    let proxy = front.proxy.socket().to_owned();
    wait_until("the proxy takes no new clients", Duration::from_secs(2), || UnixStream::connect(&proxy).is_err());
    go.send(()).unwrap();
    let answer: Response = asking.join().unwrap().unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "{}"), "the request that was there is answered");
    assert!(front.proxy.wait(Duration::from_secs(5)).success(), "{}", front.proxy.stderr());
}

#[test]
fn proxy_told_to_end_lets_streams_end_first() {
    let mut front = Front::new(|request| request.route().ends_with("/attach").then_some(Reply::Echo));
    let mut stream = UnixStream::connect(front.proxy.socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(ATTACH.as_bytes()).unwrap();
    let mut reader = Reader::new(&stream);
    assert_eq!(reader.head().unwrap().status(), 101);
    front.proxy.terminate();
    let proxy = front.proxy.socket().to_owned();
    wait_until("the proxy takes no new clients", Duration::from_secs(2), || UnixStream::connect(&proxy).is_err());
    (&stream).write_all(b"still here").unwrap();
    assert_eq!(reader.exactly(10).unwrap(), b"still here");
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(front.proxy.wait(Duration::from_secs(5)).success(), "{}", front.proxy.stderr());
}

#[test]
fn idle_proxy_told_to_end_ends_at_once() {
    let mut front = Front::new(|_| None);
    // an idle connection is nothing to wait for
    let idle = UnixStream::connect(front.proxy.socket()).unwrap();
    front.proxy.terminate();
    assert!(front.proxy.wait(Duration::from_secs(2)).success(), "{}", front.proxy.stderr());
    drop(idle);
    assert!(!front.proxy.socket().exists(), "its socket is gone with it");
}
