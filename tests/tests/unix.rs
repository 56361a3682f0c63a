//! Unix sockets: who the peer is, by the kernel's word.
#![expect(clippy::unwrap_used, reason = "a test fails where something does not hold")]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tests::front::Front;
use tests::proxy::Seawall;
use tests::scratch::Scratch;
use tests::scratch::must;
use tests::stub::Stub;
use tests::world::World;

const GROUP: u32 = 54_321;

/// What a user with these groups gets from a socket: the answer's status, `None` when the kernel does not let them connect.
fn status(socket: &Path, uid: u32, groups: &[u32], method: &str, target: &str) -> Option<String> {
    let groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
    let groups = if groups.is_empty() { "--clear-groups".to_owned() } else { format!("--groups={}", groups.join(",")) };
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={uid}"), &format!("--regid={uid}"), &groups, "curl", "--silent", "--output", "/dev/null"]);
    command
        .args(["--write-out", "%{http_code}", "--max-time", "20", "--request", method, "--unix-socket"])
        .arg(socket)
        .arg(format!("http://docker{target}"));
    if method == "POST" {
        command.args(["--header", "Content-Type: application/json", "--data", "{}"]);
    }
    let output = command.output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

#[test]
fn users_are_told_apart_and_others_kept_out() {
    let home = Scratch::new("unix");
    let world = World::with_fixtures("one");
    let stub = Stub::start(&home.join("engine.sock"), move |request| world.answer(request));
    let shared = home.join("shared.sock");
    let proxy = Seawall::configured(&format!(
        "engine: {}\nlisten:\n  - unix://${{HOME}}/docker.sock\n  - address: unix://{}\n    group: {GROUP}\nclients:\n  \
         - {{ name: root, match: {{ uid: 0 }}, policy: read-only }}\n  - {{ name: one, match: {{ uid: 54001 }}, policy: ci, tenant: one }}\n  \
         - {{ name: two, match: {{ uid: 54002 }}, policy: read-only, tenant: two }}\n",
        stub.address(),
        shared.display(),
    ));
    let mode = must(Command::new("stat").args(["--format", "%a %g"]).arg(&shared));
    assert_eq!(mode.trim(), format!("660 {GROUP}"));
    let create = "/v1.41/volumes/create";
    for (who, uid, groups, expected) in [
        ("a member of the group that the configuration knows", 54_001, &[GROUP][..], Some("200")),
        ("another one", 54_002, &[GROUP], Some("200")),
        ("a member that no client is", 54_003, &[GROUP], Some("403")),
        ("a client that is no member", 54_001, &[], None),
        ("a stranger", 54_004, &[GROUP + 1], None),
    ] {
        assert_eq!(status(&shared, uid, groups, "GET", "/v1.41/containers/json").as_deref(), expected, "{who}");
    }
    // Each has its own policy: one may make volumes, the other may not.
    assert_ne!(status(&shared, 54_001, &[GROUP], "POST", create).as_deref(), Some("403"));
    assert_eq!(status(&shared, 54_002, &[GROUP], "POST", create).as_deref(), Some("403"));
    // The first socket is its own user's alone.
    assert_eq!(status(proxy.socket(), 54_001, &[GROUP], "GET", "/_ping"), None);
    let record = proxy.wait_for_audit("the refused member", |record| record["identity"] == "uid 54003");
    assert_eq!(record["decision"], "denied");
}

/// `socat` and some libraries end their half of the connection with the request, and read on.
#[test]
fn a_client_that_has_ended_its_half_gets_its_answer() {
    let home = Scratch::new("half");
    let world = World::with_fixtures("me");
    let stub = Stub::start(&home.join("engine.sock"), move |request| world.answer(request));
    let proxy = Seawall::configured(&format!(
        "engine: {}\nlisten: [unix://${{HOME}}/docker.sock]\nclients:\n  - {{ name: me, match: {{ uid: 0 }}, policy: ci }}\n",
        stub.address()
    ));
    for request in [
        "GET /v1.41/containers/json HTTP/1.1\r\nHost: d\r\n\r\n",
        "POST /v1.41/volumes/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
    ] {
        let mut stream = UnixStream::connect(proxy.socket()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 20"), "{request} {answer:?}");
    }
}

#[test]
fn a_client_that_goes_in_the_middle_of_a_request_is_not_denied_it() {
    let front = Front::new(|_| None);
    for (operation, request) in [
        (None, "GET /v1.41/containers/js"),
        (Some("VolumeCreate"), "POST /v1.41/volumes/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 40\r\n\r\n{\"Na"),
    ] {
        UnixStream::connect(front.proxy.socket()).unwrap().write_all(request.as_bytes()).unwrap();
        let gone = |record: &Value| record["uncovered"][0] == "seawall: the client went away" && record["operation"].as_str() == operation;
        let record = front.proxy.wait_for_audit(request, gone);
        assert_eq!((record["decision"].as_str(), record["status"].as_u64()), (Some("failed"), Some(0)), "{record}");
    }
}
