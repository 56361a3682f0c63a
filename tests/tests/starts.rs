//! Containers and execs are judged a second time when they are started, as the engine has them by then, and containers that were just made are
//! looked at.
#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test fails where something does not hold")]

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};
use tests::cli::Docker;
use tests::engine::Engine;
use tests::front::Front;
use tests::image;
use tests::packages::Suite;
use tests::proxy::Seawall;
use tests::record::Request;
use tests::stub::Reply;
use tests::world::LABEL;

const POLICY: &str =
    "version: 1\ninclude: [ci]\nimages: [docker.io/library/cifixture]\nallow: [privileged, host-pid, host-ipc, unmasked-paths, writable-kernel]\n";
const IMAGE: &str = "cifixture:1";

/// Of the operations on containers `GRANTED` alone, and all that a plain container demands.
const NO_START: &str = "version: 1\noperations: { system: { all: all }, GRANTED }\nimages: [docker.io/library/cifixture]\nnetworks: [bridge]\n\
    capabilities: [default]\nallow: [mutable-tag, new-privileges, root-user, shareable-ipc, writable-rootfs]\n\
    limits: { memory: unlimited, swap: unlimited, pids: unlimited, cpus: unlimited, shm: unlimited }\n";

#[test]
fn containers_without_labels_of_their_own_start_on_docker_20_10() {
    // Its runc wants capabilities for `--privileged` that a test's machine may not have.
    containers_without_labels_of_their_own_start(Suite::Bookworm, &["--pid=host", "--ipc=host"]);
}

#[test]
fn containers_without_labels_of_their_own_start_on_docker_26_1() {
    containers_without_labels_of_their_own_start(Suite::Trixie, &["--pid=host", "--ipc=host", "--privileged"]);
}

fn containers_without_labels_of_their_own_start(suite: Suite, options: &[&str]) {
    let engine = Engine::start(suite);
    image::import(&engine, "cifixture", "1", "good");
    let proxy = Seawall::serve(&engine.address(), POLICY);
    let docker = Docker::at(&proxy.address());
    for option in options {
        docker.ok(&["create", "--name", "unlabelled", option, IMAGE]);
        let host = engine.json("/containers/unlabelled/json").unwrap()["HostConfig"].clone();
        assert_eq!(host["SecurityOpt"], json!(["label=disable"]), "{option}: the engine's own");
        docker.ok(&["rm", "unlabelled"]);
        let heard = docker.ok(&["run", "--rm", option, IMAGE, "echo", "heard"]);
        assert_eq!(heard.trim(), "heard", "{option}");
    }
    // Nobody is granted what they ask for themselves.
    let refused = docker.fails(&["run", "--rm", "--privileged", "--security-opt", "label=disable", IMAGE, "true"]);
    assert!(refused.contains("selinux: [disable]"), "{refused}");
}

/// A container of the client's own that was made before its policy was what it is.
fn stored(id: &str, auto_remove: bool) -> Value {
    json!({ "Id": id, "Name": "/ci-own2", "Image": "sha256:0", "Config": { "Labels": { LABEL: "job", "seawall.kind": "container" } },
        "HostConfig": { "AutoRemove": auto_remove, "Privileged": true, "NetworkMode": "none" }, "Mounts": [], "NetworkSettings": { "Networks": {} } })
}

/// `docker run --rm` waits until its container is gone, for ever.
#[test]
fn container_that_removes_itself_is_removed_when_its_start_is_refused() {
    for auto_remove in [true, false] {
        let front = Front::new(move |request: &Request| {
            let look = request.method == "GET" && request.route().starts_with("/containers/") && request.route().ends_with("/json");
            let name = request.route().split('/').nth(2).unwrap_or_default().to_owned();
            look.then(|| Reply::Json(200, stored(if name == "ci-own2" { "c0ffee" } else { &name }, auto_remove)))
        });
        let answer = front.proxy.call("POST", "/v1.41/containers/ci-own2/start", None);
        assert_eq!(answer.status, 403, "{}", answer.text());
        let asked = front.stub().requests();
        assert!(asked.iter().all(|request| !request.route().ends_with("/start")), "the start reached the engine");
        let removals: Vec<&str> = asked.iter().filter(|request| request.method == "DELETE").map(|request| request.target.as_str()).collect();
        let expected: &[&str] = if auto_remove { &["/v1.47/containers/c0ffee?v=1"] } else { &[] };
        assert_eq!(removals, expected, "not by force: one that runs stays");
    }
}

/// Who may make containers and not start them: `docker run` has attached, and waits.
#[test]
fn nobody_waits_for_a_container_that_is_not_started_on_docker_20_10() {
    nobody_waits_for_a_container_that_is_not_started(Suite::Bookworm, Docker::of_20_10);
}

#[test]
fn nobody_waits_for_a_container_that_is_not_started_on_docker_26_1() {
    nobody_waits_for_a_container_that_is_not_started(Suite::Trixie, |newest| newest);
}

fn nobody_waits_for_a_container_that_is_not_started(suite: Suite, cli: fn(Docker) -> Docker) {
    let engine = Engine::start(suite);
    image::import(&engine, "cifixture", "1", "good");
    let containers = || engine.json("/containers/json?all=1").unwrap().as_array().unwrap().len();
    // Removed like one whose start fails, by who may remove it; otherwise it stays as `docker create` leaves it.
    for (deletes, left) in [(", delete: own", 0), ("", 1)] {
        let granted = format!("container: {{ read: own, create: own, enter: own{deletes} }}");
        let proxy = Seawall::serve(&engine.address(), &NO_START.replace("GRANTED", &granted));
        let docker = cli(Docker::at(&proxy.address()));
        let refused = docker.fails(&["run", "--rm", IMAGE, "true"]);
        assert!(refused.contains("does not grant this ContainerStart"), "{refused}");
        assert_eq!(containers(), left, "{granted}");
        let refused = docker.fails(&["run", IMAGE, "true"]);
        assert!(refused.contains("does not grant this ContainerStart"), "{refused}");
        assert_eq!(containers(), left + 1, "{granted}: only `--rm` removes");
        for container in engine.json("/containers/json?all=1").unwrap().as_array().unwrap() {
            engine.call("DELETE", &format!("/containers/{}", container["Id"].as_str().unwrap()), None);
        }
    }
}

/// The streams of who is refused end, those of others do not, and neither do those of a container that runs.
#[test]
fn refused_start_ends_what_waits_for_it() {
    for running in [false, true] {
        let front = Front::new(move |request: &Request| match (request.method.as_str(), request.route().as_str()) {
            ("POST", route) if route.ends_with("/wait") => Some(Reply::Hang),
            ("GET", route) if route.starts_with("/containers/") && route.ends_with("/json") => {
                let mut container = stored("c0ffee", false);
                container["State"] = json!({ "Running": running });
                Some(Reply::Json(200, container))
            }
            _ => None,
        });
        let mut wait = UnixStream::connect(front.proxy.socket()).unwrap();
        wait.write_all(b"POST /v1.41/containers/ci-own2/wait?condition=next-exit HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n").unwrap();
        wait.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        front.stub().wait_for("POST", "/containers/c0ffee/wait");
        let answer = front.proxy.call("POST", "/v1.41/containers/ci-own2/start", None);
        assert_eq!(answer.status, 403, "{}", answer.text());
        wait.set_nonblocking(running).unwrap();
        let read = wait.read(&mut [0]);
        assert_eq!(read.map_err(|error| error.kind()), if running { Err(ErrorKind::WouldBlock) } else { Ok(0) });
    }
}

/// It may have been made before the policy was what it is.
#[test]
fn exec_is_judged_again_when_it_is_started() {
    let cases = [(true, "", 403), (false, "", 200), (false, "root", 200), (false, "a b", 400)];
    for (privileged, user, status) in cases {
        let process = json!({ "entrypoint": "id", "arguments": [], "tty": false, "privileged": privileged, "user": user });
        let exec = move |request: &Request| {
            let (route, target) = (request.route(), request.target.clone());
            let id = route.split('/').nth(2).unwrap_or_default();
            let made = json!({ "ID": id, "ContainerID": "ci-own1", "Running": false, "ProcessConfig": process });
            (request.method == "GET" && target.contains("/exec/")).then(|| Reply::Json(200, made))
        };
        let front = Front::new(exec);
        let answer = front.proxy.call("POST", "/v1.41/exec/c0ffee/start", Some(&json!({ "Detach": true })));
        assert_eq!(answer.status, status, "{privileged} {user:?}: {}", answer.text());
        assert_eq!(privileged, answer.text().contains("allow: [privileged]"), "{}", answer.text());
        let started = front.stub().requests().iter().any(|request| request.method == "POST" && request.route() == "/exec/c0ffee/start");
        assert_eq!(started, status == 200, "{privileged} {user:?}");
    }
}

/// It was made, and nobody knows with what.
#[test]
fn container_that_cannot_be_looked_at_is_removed() {
    let broken: [fn() -> Reply; 4] = [
        || Reply::BytesThenClose(Vec::new()),
        || Reply::error(500, "no"),
        || Reply::Json(200, json!({ "Id": "made" })),
        || Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}}".to_vec()),
    ];
    for (n, broken) in broken.into_iter().enumerate() {
        let front = Front::new(move |request: &Request| match (request.method.as_str(), request.route().as_str()) {
            ("POST", "/containers/create") => Some(Reply::Json(201, json!({ "Id": "made", "Warnings": [] }))),
            ("GET", "/containers/made/json") => Some(broken()),
            _ => None,
        });
        let body = json!({ "Image": "docker.io/library/cifixture:1" });
        let answer = front.proxy.call("POST", "/v1.41/containers/create", Some(&body));
        assert_eq!(answer.status, 502, "{n}: {}", answer.text());
        let removals = front.stub().requests().into_iter().filter(|request| request.method == "DELETE" && request.route() == "/containers/made");
        assert_eq!(removals.count(), 1, "{n}");
    }
}
