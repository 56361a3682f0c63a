//! An engine that says nothing, or never comes to an end, is left alone after a while, with a message and the exit status of what could not
//! be collected.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n";

/// Answers on a socket of its own, each connection on a thread.
fn engine(name: &str, answer: fn(UnixStream)) -> PathBuf {
    let path = std::env::temp_dir().join(format!("netcheck-slow-{}-{name}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    path
}

fn silent(stream: UnixStream) {
    BufReader::new(stream).lines().for_each(drop);
}

fn ends_in_the_head(mut stream: UnixStream) {
    asked(&stream);
    stream.write_all(HEAD.get(..20).unwrap().as_bytes()).unwrap();
    silent(stream);
}

fn trickles(mut stream: UnixStream) {
    asked(&stream);
    stream.write_all(HEAD.as_bytes()).unwrap();
    // Each byte comes in good time, and all of them would take a day.
    while stream.write_all(b" ").is_ok() {
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Reads a request.
fn asked(stream: &UnixStream) {
    BufReader::new(stream).lines().take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty())).for_each(drop);
}

#[test]
fn an_engine_that_does_not_answer_is_not_waited_for() {
    type Case = (&'static str, fn(UnixStream));
    let cases: [Case; 3] = [("silent", silent), ("head", ends_in_the_head), ("trickles", trickles)];
    for (name, answer) in cases {
        let path = engine(name, answer);
        let at = format!("unix://{}", path.display());
        let output = Command::new(env!("CARGO_BIN_EXE_netcheck")).args(["snapshot", "--engine", &at, "--engine-timeout", "1s"]).output().unwrap();
        let said: String = String::from_utf8(output.stderr).unwrap();
        std::fs::remove_file(path).unwrap();
        assert_eq!(output.status.code(), Some(4), "{name}: {said}");
        assert!(said.contains("did not answer GET /") && said.contains("within 1 s"), "{name}: {said}");
    }
}
