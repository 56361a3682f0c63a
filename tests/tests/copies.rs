//! Containers stand still while the engine walks their files, and run afterwards.
#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test fails where something does not hold")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tests::cli::Docker;
use tests::engine::Engine;
use tests::front::Front;
use tests::http::Reader;
use tests::image;
use tests::packages::Suite;
use tests::proxy::{CORPUS_POLICY, Seawall};
use tests::record::Request;
use tests::scratch::{Scratch, wait_until};
use tests::stub::{Reply, Script, Stub};
use tests::world::{LABEL, World};

const TAR: &[u8] = &[0; 1024];

/// What the engine was asked for about containers, but for looks at them.
fn asked(stub: &Stub) -> Vec<String> {
    let short = |request: &Request| {
        let route = request.route();
        let what = route.rsplit('/').next().unwrap_or_default().to_owned();
        let look = what == "json" || request.query("ps_args").is_some();
        (route.starts_with("/containers/") && !look).then(|| format!("{} {what}", request.method))
    };
    stub.requests().iter().filter_map(short).collect()
}

fn send(front: &Front, request: &str, body: &[u8]) -> UnixStream {
    send_with(front, request, "", body)
}

fn send_json(front: &Front, request: &str, body: &[u8]) -> UnixStream {
    send_with(front, request, "Content-Type: application/json\r\n", body)
}

fn send_with(front: &Front, request: &str, headers: &str, body: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(front.proxy.socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(format!("{request} HTTP/1.1\r\nHost: d\r\n{headers}Content-Length: {}\r\n\r\n", body.len()).as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    stream
}

fn status(stream: UnixStream) -> u16 {
    Reader::new(stream).head().unwrap().status()
}

/// Each way of walking a container's files.
const WALKS: [(&str, &str, &[u8]); 5] = [
    ("GET archive", "GET /v1.41/containers/ci-own1/archive?path=/etc", b""),
    ("HEAD archive", "HEAD /v1.41/containers/ci-own1/archive?path=/etc", b""),
    ("PUT archive", "PUT /v1.41/containers/ci-own1/archive?path=/etc", TAR),
    ("GET changes", "GET /v1.41/containers/ci-own1/changes", b""),
    ("GET export", "GET /v1.41/containers/ci-own1/export", b""),
];

#[test]
fn a_container_that_runs_is_paused_while_its_files_are_walked() {
    for (walk, request, body) in WALKS {
        let front = Front::new(|_| None);
        assert_eq!(status(send(&front, request, body)), 200, "{walk}");
        wait_until("the container runs again", Duration::from_secs(10), || asked(front.stub()).len() == 3);
        assert_eq!(asked(front.stub()), ["POST pause", walk, "POST unpause"]);
        // One that does not run is not; what runs and has its volume is.
        assert_eq!(status(send(&front, &request.replace("ci-own1", "ci-own2"), body)), 200, "{walk}");
        wait_until("the other one runs again", Duration::from_secs(10), || asked(front.stub()).len() == 6);
        assert_eq!(asked(front.stub())[3..], ["POST pause", walk, "POST unpause"]);
        let paused = front.world.values("n").get("OWN_ID").unwrap().clone();
        let route = format!("/containers/{paused}/unpause");
        assert_eq!(front.stub().requests().iter().filter(|request| request.route() == route).count(), 2, "{walk}");
    }
}

/// A container of the client's own in this state.
fn in_state(state: Value, host: Value, mounts: Value) -> impl Fn(&Request) -> Option<Reply> + Send + Sync {
    move |request: &Request| {
        let look = request.method == "GET" && request.route().starts_with("/containers/") && request.route().ends_with("/json");
        (look && request.route() != "/containers/json").then(|| {
            let id = request.route().split('/').nth(2).unwrap_or_default().to_owned();
            Reply::Json(
                200,
                json!({ "Id": id, "Name": "/own", "Image": "sha256:0", "Config": { "Labels": { LABEL: "job", "seawall.kind": "container" } },
                    "State": state, "HostConfig": host, "Mounts": mounts, "NetworkSettings": { "Networks": {} } }),
            )
        })
    }
}

#[test]
fn one_that_its_owner_paused_stays_paused() {
    for (walk, request, body) in WALKS {
        let front = Front::new(in_state(json!({ "Running": true, "Paused": true }), json!({}), json!([])));
        assert_eq!(status(send(&front, request, body)), 200, "{walk}");
        assert_eq!(asked(front.stub()), [walk]);
    }
}

#[test]
fn one_that_cannot_be_paused_is_not_walked() {
    for (walk, request, body) in WALKS {
        let front = Front::new(|request| request.route().ends_with("/pause").then(|| Reply::error(500, "no freezer")));
        let mut answer = String::new();
        let mut stream = send(&front, request, body);
        let mut reader = Reader::new(&mut stream);
        assert_eq!(reader.head().unwrap().status(), 409, "{walk}");
        if walk != "HEAD archive" {
            answer = String::from_utf8_lossy(&reader.some(1 << 16).unwrap_or_default()).into_owned();
            assert!(answer.contains("cannot be paused") && answer.contains("no freezer"), "{answer}");
        }
        assert!(asked(front.stub()).iter().all(|what| what == "POST pause"), "{answer}");
    }
}

/// The engine says that it has paused one whose process ends just then, and starts it again.
#[test]
fn one_that_ended_and_starts_again_is_not_walked() {
    for (paused, policy, pid, status_code) in
        [(false, "always", 1, 409), (true, "always", 1, 409), (false, "always", 4242, 200), (true, "on-failure", 4242, 200), (false, "no", 1, 200)]
    {
        let state = json!({ "Running": true, "Paused": paused, "Pid": pid });
        let front = Front::new(in_state(state, json!({ "RestartPolicy": { "Name": policy } }), json!([])));
        for (walk, request, body) in WALKS {
            assert_eq!(status(send(&front, request, body)), status_code, "{walk}: {policy} {pid}");
            assert_eq!(asked(front.stub()).contains(&walk.to_owned()), status_code == 200, "{walk}");
        }
        let count = |what: &str| asked(front.stub()).iter().filter(|asked| *asked == what).count();
        wait_until("what was paused runs again", Duration::from_secs(10), || count("POST pause") == count("POST unpause"));
    }
}

#[test]
fn one_that_another_reaches_is_not_walked() {
    // In the foreign network namespace of the container that the stub lists as running, or with its volume.
    let foreign = World::with_fixtures("job").values("n").get("FOREIGN_ID").unwrap().clone();
    let volume = json!([{ "Type": "volume", "Name": "ci-foreign-vol", "Destination": "/v", "RW": false }]);
    for (running, host, mounts, status_code) in [
        (true, json!({ "NetworkMode": format!("container:{foreign}") }), json!([]), 409),
        (true, json!({}), volume.clone(), 409),
        // Where its mounts lie, links of its image say: it need not run.
        (false, json!({}), volume, 409),
        (false, json!({}), json!([{ "Type": "volume", "Name": "ci-own-vol", "Destination": "/v", "RW": true }]), 200),
    ] {
        let front = Front::new(in_state(json!({ "Running": running }), host, mounts));
        for (walk, request, body) in WALKS {
            assert_eq!(status(send(&front, request, body)), status_code, "{walk}");
        }
        assert_eq!(asked(front.stub()).len(), if status_code == 409 { 0 } else { WALKS.len() });
    }
}

#[test]
fn who_may_race_is_not_held_up() {
    let home = Scratch::new("racy");
    let world = World::with_fixtures("job");
    let stub = Stub::start(&home.join("engine.sock"), move |request| world.answer(request));
    let proxy = Seawall::serve(&stub.address(), "version: 1\ninclude: [admin]\n");
    assert_eq!(proxy.call("GET", "/v1.41/containers/ci-own1/changes", None).status, 200);
    assert_eq!(asked(&stub), ["GET changes"]);
}

/// Answers a request of this kind when it is told to, and as it is told to.
fn gated(method: &'static str, tail: &'static str) -> (Sender<Vec<u8>>, impl Fn(&Request) -> Option<Reply> + Send + Sync) {
    let (open, gate) = channel::<Vec<u8>>();
    let gate = Arc::new(Mutex::new(gate));
    let part = move |request: &Request| {
        let gate = Arc::clone(&gate);
        let script: Script = Box::new(move |mut stream: &UnixStream, _| {
            while let Ok(bytes) = gate.lock().unwrap().recv() {
                drop(stream.write_all(&bytes));
                if bytes.is_empty() {
                    return;
                }
            }
        });
        (request.method == method && request.route().ends_with(tail)).then_some(Reply::Script(script))
    };
    (open, part)
}

/// What the engine was asked for it still does: nothing moves before it has answered.
#[test]
fn one_whose_client_is_gone_runs_again_when_the_engine_has_ended() {
    for (walk, request, body) in WALKS {
        let (method, tail) = walk.split_once(' ').unwrap();
        let (open, part) = gated(method, tail);
        let front = Front::new(part);
        let stream = send(&front, request, body);
        wait_until("the engine walks", Duration::from_secs(10), || asked(front.stub()).len() == 2);
        drop(stream);
        front.proxy.wait_for_audit(walk, |record| record["phase"] == "end" && record["object"].as_str().is_some_and(|id| id.len() == 64));
        assert_eq!(asked(front.stub()), ["POST pause", walk]);
        open.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()).unwrap();
        front.stub().wait_for("POST", &format!("/containers/{}/unpause", front.world.values("n").get("OWN_ID").unwrap()));
        open.send(Vec::new()).unwrap();
    }
}

/// Each takes memory and a connection until the engine has answered, though it takes no connection of the client's.
#[test]
fn a_tenant_has_so_much_under_way_though_its_clients_are_gone() {
    let (open, part) = gated("POST", "/stop");
    let front = Front::new(part);
    let clients: Vec<UnixStream> = (0..512).map(|_| send(&front, "POST /v1.41/containers/ci-own1/stop", b"")).collect();
    wait_until("the engine is asked", Duration::from_secs(60), || asked(front.stub()).len() == clients.len());
    drop(clients);
    assert_eq!(status(send(&front, "POST /v1.41/containers/ci-own1/stop", b"")), 429);
    assert_eq!(status(send(&front, "GET /v1.41/containers/ci-own1/top", b"")), 200);
    drop(open);
    wait_until("there is room again", Duration::from_secs(10), || status(send(&front, "POST /v1.41/containers/ci-own1/stop", b"")) != 429);
}

#[test]
fn an_upload_that_is_cut_off_ends_and_its_container_runs_again() {
    let front = Front::new(|_| None);
    let mut stream = UnixStream::connect(front.proxy.socket()).unwrap();
    stream.write_all(b"PUT /v1.41/containers/ci-own1/archive?path=/etc HTTP/1.1\r\nHost: d\r\nContent-Length: 4096\r\n\r\n").unwrap();
    stream.write_all(TAR).unwrap();
    wait_until("the container is paused", Duration::from_secs(10), || !asked(front.stub()).is_empty());
    drop(stream);
    wait_until("the container runs again", Duration::from_secs(10), || asked(front.stub()).len() == 3);
    assert_eq!(asked(front.stub()), ["POST pause", "PUT archive", "POST unpause"]);
}

/// The engine fills the volume of a create also when nobody waits for it: what mounts that volume next comes after.
#[test]
fn a_volume_is_kept_until_the_engine_has_filled_it_though_its_client_is_gone() {
    let named = json!({ "Binds": ["ci-own-vol:/v"] });
    waits_until_the_engine_has_filled("ci-own-vol", &named, &named);
}

/// The engine makes a volume for it and tells its id before it is full.
#[test]
fn a_volume_without_a_name_is_kept_until_the_engine_has_filled_it() {
    let id = "5".repeat(64);
    let made = json!({ "Mounts": [{ "Type": "volume", "Target": "/v" }] });
    waits_until_the_engine_has_filled(&id, &made, &json!({ "Binds": [format!("{id}:/v")] }));
}

/// Without its volume the engine would make one that is nobody's.
#[test]
fn a_volume_that_is_being_mounted_is_removed_afterwards() {
    let (open, part) = gated("POST", "/containers/create");
    let front = Front::new(part);
    let body = json!({ "Image": "cifixture:1", "HostConfig": { "Binds": ["ci-own-vol:/v"] } }).to_string();
    let _create = send_json(&front, "POST /v1.41/containers/create", body.as_bytes());
    wait_until("the engine makes the container", Duration::from_secs(10), || asked(front.stub()) == ["POST create"]);
    let about = |method: &str| front.stub().requests().iter().filter(|one| one.method == method && one.route() == "/volumes/ci-own-vol").count();
    let before = about("GET");
    let remove = send(&front, "DELETE /v1.41/volumes/ci-own-vol", b"");
    wait_until("the volume has been looked at", Duration::from_secs(10), || about("GET") > before);
    assert_eq!(front.proxy.call("GET", "/v1.41/containers/ci-own1/top", None).status, 200);
    assert_eq!(about("DELETE"), 0);
    open.send(b"HTTP/1.1 500 Failed\r\nContent-Length: 0\r\n\r\n".to_vec()).unwrap();
    open.send(Vec::new()).unwrap();
    assert_eq!(status(remove), 204);
}

/// Two creates with these `HostConfig`s, of which the second one has the volume.
fn waits_until_the_engine_has_filled(volume: &str, first: &Value, second: &Value) {
    let (open, part) = gated("POST", "/containers/create");
    let (route, labels) = (format!("/volumes/{volume}"), json!({ LABEL: "job" }));
    let known = json!({ "Name": volume, "Driver": "local", "Mountpoint": "/x", "Labels": labels, "Scope": "local", "Options": null });
    let look = route.clone();
    let front = Front::new(move |request| if request.route() == look { Some(Reply::Json(200, known.clone())) } else { part(request) });
    let create = |host: &Value| {
        let body = json!({ "Image": "cifixture:1", "HostConfig": host }).to_string();
        send_json(&front, "POST /v1.41/containers/create", body.as_bytes())
    };
    let looks = || front.stub().requests().iter().filter(|request| request.route() == route).count();
    let first = create(first);
    wait_until("the engine fills the volume", Duration::from_secs(10), || asked(front.stub()) == ["POST create"]);
    drop(first);
    front.proxy.wait_for_audit("a create", |record| record["phase"] == "end" && record["operation"] == "ContainerCreate");
    let before = looks();
    let _second = create(second);
    wait_until("the next one has been looked at", Duration::from_secs(10), || looks() > before);
    assert_eq!(front.proxy.call("GET", "/v1.41/containers/ci-own1/top", None).status, 200);
    assert_eq!(asked(front.stub()), ["POST create", "GET top"]);
    open.send(b"HTTP/1.1 500 Failed\r\nContent-Length: 0\r\n\r\n".to_vec()).unwrap();
    open.send(Vec::new()).unwrap();
    wait_until("its turn has come", Duration::from_secs(10), || asked(front.stub()) == ["POST create", "GET top", "POST create"]);
    open.send(Vec::new()).unwrap();
}

#[test]
fn what_would_move_it_waits_for_the_end_of_a_copy() {
    for (action, copied) in [
        ("start", "archive"),
        ("restart", "archive"),
        ("stop", "archive"),
        ("kill", "archive"),
        ("pause", "archive"),
        ("unpause", "archive"),
        ("exec", "archive"),
        ("delete", "archive"),
        ("update", "archive"),
        // A start makes the working directory, by path, where it finds the root mounted.
        ("start", "export"),
    ] {
        let (open, part) = gated("GET", copied);
        let front = Front::new(part);
        let query = if copied == "archive" { "?path=/etc" } else { "" };
        let copy = send(&front, &format!("GET /v1.41/containers/ci-own1/{copied}{query}"), b"");
        open.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()).unwrap();
        let mut reader = Reader::new(copy);
        assert_eq!(reader.head().unwrap().status(), 200);
        let (request, body): (_, &[u8]) = match action {
            "exec" => ("POST /v1.41/containers/ci-own1/exec".to_owned(), br#"{"Cmd":["true"]}"#),
            "update" => ("POST /v1.41/containers/ci-own1/update".to_owned(), br#"{"Memory":6291456}"#),
            "delete" => ("DELETE /v1.41/containers/ci-own1?force=1".to_owned(), b""),
            _ => (format!("POST /v1.41/containers/ci-own1/{action}"), b""),
        };
        let mover = send_json(&front, &request, body);
        // It is judged by now, and a request that came after it has been answered.
        thread::sleep(Duration::from_millis(100));
        assert_eq!(front.proxy.call("GET", "/v1.41/containers/ci-own1/top", None).status, 200);
        assert_eq!(asked(front.stub()), ["POST pause", &format!("GET {copied}"), "GET top"], "{action}");
        open.send(b"0\r\n\r\n".to_vec()).unwrap();
        let moved = Reader::new(mover).head().unwrap().status();
        assert!((200..300).contains(&moved), "{action}: {moved}");
        let order = asked(front.stub());
        assert_eq!(order.len(), 5, "{order:?}");
        assert_eq!(order.get(3).unwrap(), "POST unpause", "{order:?}");
    }
}

#[test]
fn a_proxy_that_is_told_to_end_ends_what_it_copies_first() {
    let (open, part) = gated("HEAD", "/archive");
    let mut front = Front::new(part);
    let stream = send(&front, "HEAD /v1.41/containers/ci-own1/archive?path=/etc", b"");
    wait_until("the engine walks", Duration::from_secs(10), || asked(front.stub()).len() == 2);
    drop(stream);
    front.proxy.terminate();
    open.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()).unwrap();
    assert!(front.proxy.wait(Duration::from_secs(20)).success());
    assert_eq!(asked(front.stub()), ["POST pause", "HEAD archive", "POST unpause"]);
}

#[test]
fn a_proxy_that_must_end_at_once_does() {
    let (_open, part) = gated("HEAD", "/archive");
    let mut front = Front::new(part);
    let _stream = send(&front, "HEAD /v1.41/containers/ci-own1/archive?path=/etc", b"");
    wait_until("the engine walks", Duration::from_secs(10), || asked(front.stub()).len() == 2);
    front.proxy.terminate();
    wait_until("it takes no more", Duration::from_secs(10), || UnixStream::connect(front.proxy.socket()).is_err());
    front.proxy.terminate();
    assert!(front.proxy.wait(Duration::from_secs(20)).success());
    assert!(!front.proxy.stderr().contains("panicked"), "{}", front.proxy.stderr());
}

/// The engine keeps a container locked while it is copied, and with it whoever wants to remove or count it.
#[test]
fn who_takes_nothing_of_an_archive_is_cut_off() {
    for (tail, query) in [("/archive", "?path=/bin"), ("/export", "")] {
        let part = move |request: &Request| {
            let script: Script = Box::new(|mut stream: &UnixStream, _| {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-tar\r\nContent-Length: 1073741824\r\n\r\n").unwrap();
                while stream.write_all(&[0; 65536]).is_ok() {}
            });
            (request.method == "GET" && request.route().ends_with(tail)).then_some(Reply::Script(script))
        };
        let front = Front::limited("stall_timeout: 1s", part);
        let stream = send(&front, &format!("GET /v1.41/containers/ci-own1{tail}{query}"), b"");
        let what = format!("GET {}", tail.trim_start_matches('/'));
        wait_until("the engine is asked", Duration::from_secs(10), || asked(front.stub()).contains(&what));
        let own = front.world.values("n").get("OWN_ID").unwrap().clone();
        let connection = front.stub().wait_for("GET", &format!("/containers/{own}{tail}")).connection;
        front.stub().wait_for_end(connection, Duration::from_secs(20));
        front.stub().wait_for("POST", &format!("/containers/{own}/unpause"));
        drop(stream);
    }
}

#[test]
fn who_sends_nothing_more_of_an_archive_is_cut_off() {
    let front = Front::limited("stall_timeout: 1s", |_| None);
    let mut stream = UnixStream::connect(front.proxy.socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"PUT /v1.41/containers/ci-own1/archive?path=/etc HTTP/1.1\r\nHost: d\r\nContent-Length: 4096\r\n\r\n").unwrap();
    // What is sent is being looked for: nothing is locked for it.
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(asked(front.stub()), [""; 0]);
    stream.write_all(TAR).unwrap();
    assert_eq!(status(stream), 408);
    wait_until("the container runs again", Duration::from_secs(10), || asked(front.stub()).len() == 3);
    assert_eq!(asked(front.stub()), ["POST pause", "PUT archive", "POST unpause"]);
}

#[test]
fn files_are_copied_to_and_from_a_container_that_runs_on_docker_20_10() {
    files_are_copied_to_and_from_a_container_that_runs(Suite::Bookworm);
}

#[test]
fn files_are_copied_to_and_from_a_container_that_runs_on_docker_26_1() {
    files_are_copied_to_and_from_a_container_that_runs(Suite::Trixie);
}

/// What the engine has told of a container that was paused and let go.
fn pauses(engine: &Engine, id: &str) -> Vec<String> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let told = engine.call("GET", &format!("/events?since=0&until={}&filters={{\"container\":[\"{id}\"]}}", now + 1), None).text();
    let actions = told.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()?["Action"].as_str().map(str::to_owned));
    actions.filter(|action| action.ends_with("pause")).collect()
}

fn files_are_copied_to_and_from_a_container_that_runs(suite: Suite) {
    let engine = Engine::start(suite);
    image::import(&engine, "cifixture", "1", "good");
    let proxy = Seawall::serve(&engine.address(), CORPUS_POLICY);
    let docker = Docker::at(&proxy.address());
    let state = || engine.json("/containers/run/json").unwrap()["State"].clone();
    let runs = || (state()["Running"].clone(), state()["Paused"].clone()) == (json!(true), json!(false));
    let busy = "head -c 16777216 /dev/zero > /v/large.part; mv /v/large.part /v/large; sleep 1000";
    docker.ok(&["run", "--detach", "--restart", "always", "--name", "run", "--volume", "data:/v", "cifixture:1", "sh", "-c", busy]);

    let home = Scratch::new("copies");
    let file = home.write("file", "one line\n");
    docker.ok(&["cp", file.to_str().unwrap(), "run:/v/file"]);
    assert!(runs());
    assert_eq!(docker.ok(&["exec", "run", "cat", "/v/file"]), "one line");
    docker.ok(&["cp", "run:/v/file", home.join("back").to_str().unwrap()]);
    wait_until("the container runs again", Duration::from_secs(20), runs);
    assert_eq!(std::fs::read_to_string(home.join("back")).unwrap(), "one line\n");
    docker.ok(&["diff", "run"]);
    assert!(runs());
    docker.ok(&["export", "--output", home.join("root.tar").to_str().unwrap(), "run"]);
    wait_until("the container runs again", Duration::from_secs(20), runs);
    docker.ok(&["pause", "run"]);
    docker.ok(&["cp", "run:/v/file", home.join("again").to_str().unwrap()]);
    assert_eq!(state()["Paused"], true, "as its owner wants it");
    docker.ok(&["unpause", "run"]);

    // A client that takes a part, and goes: the engine has the rest.
    wait_until("there is much to copy", Duration::from_secs(20), || docker.ok(&["exec", "run", "ls", "/v"]).lines().any(|name| name == "large"));
    let mut stream = UnixStream::connect(proxy.socket()).unwrap();
    stream.write_all(b"GET /v1.41/containers/run/archive?path=/v HTTP/1.1\r\nHost: d\r\n\r\n").unwrap();
    stream.read_exact(&mut [0; 1024]).unwrap();
    // An engine that is asked about the container now answers when the copy has ended.
    drop(stream);
    wait_until("the container runs again", Duration::from_secs(20), runs);

    // And one that sends a part.
    let mut stream = UnixStream::connect(proxy.socket()).unwrap();
    stream.write_all(b"PUT /v1.41/containers/run/archive?path=/v HTTP/1.1\r\nHost: d\r\nContent-Length: 4096\r\n\r\n").unwrap();
    stream.write_all(TAR).unwrap();
    wait_until("the container is paused", Duration::from_secs(20), || state()["Paused"] == true);
    drop(stream);
    wait_until("the container runs again", Duration::from_secs(20), runs);

    // Another that mounts the same, or sees its processes, could change what is walked: it is paused, too.
    for shared in [["--volume", "data:/x"], ["--pid", "container:run"], ["--network", "container:run"]] {
        docker.ok(&["run", "--detach", "--name", "other", shared[0], shared[1], "cifixture:1", "sleep", "1000"]);
        docker.ok(&["cp", "run:/v/file", home.join("beside").to_str().unwrap()]);
        let other = || engine.json("/containers/other/json").unwrap();
        // The docker CLI has the end of the archive before it has the end of the answer.
        wait_until("both run again", Duration::from_secs(20), || runs() && other()["State"]["Paused"] == false);
        let told = pauses(&engine, other()["Id"].as_str().unwrap());
        assert!(!told.is_empty() && told.chunks(2).all(|pair| pair == ["pause", "unpause"]), "{shared:?}: {told:?}");
        docker.ok(&["rm", "--force", "other"]);
    }
    docker.ok(&["rm", "--force", "run"]);
}
