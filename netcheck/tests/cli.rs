//! The command line: exit statuses, and what goes where.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

fn netcheck(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_netcheck")).args(arguments).output().unwrap()
}

fn capture(engine: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(engine).join("snapshot.json");
    path.to_str().unwrap().to_owned()
}

fn file(name: &str, content: &str) -> String {
    let path = std::env::temp_dir().join(format!("netcheck-cli-{}-{name}", std::process::id()));
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn exit_statuses_say_what_was_found() {
    let (conforming, violating) = (capture("28.5.2"), capture("29.7.2-nftables"));
    let wrong_policy = file("wrong.yaml", "version: 1\nallow: 7\n");
    let no_snapshot = file("no.json", "{}");
    let too_new = file("new.json", "{\"version\": 999}");
    let broken = file("broken.yaml", "version: 1\nrequire:\n  - { from: a1, to: b1, tcp: [80] }\n");
    let cases: [(&str, &[&str], i32); 12] = [
        ("conforms", &["check", "--from", &conforming], 0),
        ("violation", &["check", "--from", &violating], 1),
        ("without a command", &["--from", &violating], 1),
        ("required and missing", &["check", "--from", &conforming, "--policy", &broken], 1),
        ("explain answers", &["explain", "a1", "b1", "tcp/80", "--from", &conforming], 0),
        ("no such endpoint", &["explain", "a1", "nobody", "tcp/80", "--from", &conforming], 3),
        ("no port", &["explain", "a1", "b1", "tcp", "--from", &conforming], 3),
        ("wrong policy", &["check", "--from", &conforming, "--policy", &wrong_policy], 3),
        ("no policy", &["check", "--from", &conforming, "--policy", "/nonexistent"], 3),
        ("not a snapshot", &["check", "--from", &no_snapshot], 3),
        ("a newer snapshot", &["check", "--from", &too_new], 3),
        ("no engine there", &["snapshot", "--engine", "unix:///nonexistent"], 4),
    ];
    for (name, arguments, status) in cases {
        let output = netcheck(arguments);
        assert_eq!(output.status.code(), Some(status), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.stderr.is_empty(), status < 3, "{name}: messages are for failures");
    }
}

#[test]
fn an_engine_that_cannot_be_asked_is_not_replaced_by_another() {
    let output = Command::new(env!("CARGO_BIN_EXE_netcheck")).args(["snapshot"]).env("DOCKER_HOST", "tcp://127.0.0.1:1").output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("DOCKER_HOST"));
}

#[test]
fn every_format_is_written() {
    let snapshot = capture("29.7.2-nftables");
    let cases = [
        ("text", "VIOLATION [high] internal-egress: i1 reaches a2 tcp/80"),
        ("json", "\"schema\": \"netcheck/check/1\""),
        ("html", "<!doctype html>"),
        ("svg", "<svg xmlns="),
        ("sarif", "\"ruleId\": \"internal-egress\""),
        ("junit", "<testsuite "),
        ("prometheus", "netcheck_violations{severity=\"high\",kind=\"internal-egress\"} 8"),
    ];
    for (format, expected) in cases {
        let output = netcheck(&["check", "--from", &snapshot, "--format", format]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(expected), "{format}");
        assert!(!text.contains("http://") || format == "svg" || format == "html" || format == "sarif", "{format}");
    }
}

#[test]
fn a_policy_that_is_drafted_is_conformed_to_and_drift_is_found() {
    let snapshot = capture("26.1.5");
    let policy = file("draft.yaml", "");
    assert_eq!(netcheck(&["policy", "init", "--from", &snapshot, "-o", &policy]).status.code(), Some(0));
    assert_eq!(netcheck(&["check", "--from", &snapshot, "--policy", &policy]).status.code(), Some(0));
    let baseline = file("baseline.json", "");
    assert_eq!(netcheck(&["baseline", "save", "--from", &snapshot, "-o", &baseline]).status.code(), Some(0));
    assert_eq!(netcheck(&["baseline", "diff", &baseline, "--from", &snapshot]).status.code(), Some(0));
    let output = netcheck(&["baseline", "diff", &baseline, "--from", &capture("29.7.2-nftables")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("opened: i1 → a2 tcp/80"));
}

/// What is required of somebody who is not there is not there: a container that is gone, or a name that is misspelt, passes no check.
#[test]
fn a_requirement_about_nobody_fails_in_every_format() {
    let snapshot = capture("28.5.2");
    let rules = [("typo", "from: [a1, typo], to: a2"), ("to itself", "from: a1, to: a1"), ("unasked", "from: { name: outside }, to: metadata")];
    for (name, rule) in rules {
        let policy = file("nobody.yaml", &format!("version: 1\npreset: docker-default\nrequire:\n  - {{ {rule}, tcp: [80] }}\n"));
        for format in ["text", "json", "html", "sarif", "junit", "prometheus"] {
            let output = netcheck(&["check", "--from", &snapshot, "--policy", &policy, "--format", format]);
            let text = String::from_utf8(output.stdout).unwrap();
            assert_eq!(output.status.code(), Some(1), "{name}: {format}");
            assert!(
                text.contains(if format == "prometheus" { "kind=\"required\"} 1" } else { "nobody.yaml:4 requires it, and nobody is " }),
                "{name}: {format}: {text}"
            );
        }
    }
    let policy = file("some.yaml", "version: 1\nallow:\n  - { from: a1, to: gone }\nrequire:\n  - { from: typo, to: a1 }\n");
    let output = netcheck(&["policy", "check", &policy, "--from", &snapshot]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("some.yaml:3: nobody is `gone`") && text.contains("some.yaml:5: nobody is `typo`"), "{text}");
    let policy = file("allows.yaml", "version: 1\nallow:\n  - { from: a1, to: gone }\n");
    assert_eq!(netcheck(&["policy", "check", &policy, "--from", &snapshot]).status.code(), Some(0), "a permission for nobody is only told");
}

/// What somebody else wrote does nothing to the terminal that shows it.
#[test]
fn hidden_characters_are_visible_wherever_they_come_from() {
    let hidden = "x\u{1b}[2J\r\u{9b}\u{61c}\u{202e}\u{2028}\u{200b}\nforged";
    let escaped: Vec<String> = hidden.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
    // In JSON and in YAML.
    let quoted = format!("\"{}\"", escaped.concat());
    let snapshot = std::fs::read_to_string(capture("28.5.2")).unwrap();
    let named = snapshot.replace("\"a1\"", &quoted).replace("\"docker0\"", &quoted);
    assert_ne!(named, snapshot);
    let named = file("named.json", &named);
    let broken = file("broken.json", &format!("{{\"version\": {quoted}}}"));
    let other = file("other.json", &format!("{{\"schema\": {quoted}, \"taken\": \"\", \"attacker\": \"\", \"endpoints\": [], \"flows\": []}}"));
    let policy = file("hidden.yaml", &format!("version: 1\npreset: none\nrequire:\n  - {{ from: {quoted}, to: any }}\n"));
    let wrong = file("wrong-hidden.yaml", &format!("version: 1\npreset: {quoted}\n"));
    let socket = engine(&format!("{{\"message\": {quoted}}}"));
    let cases: [(&str, &[&str]); 9] = [
        ("check", &["check", "--from", &named, "--policy", "strict"]),
        ("policy", &["check", "--from", &named, "--policy", &policy]),
        ("wrong policy", &["policy", "check", &wrong]),
        ("explain", &["explain", "a2", hidden, "tcp/1", "--from", &named]),
        ("no endpoint", &["explain", "a2", "nobody", "tcp/1", "--from", &named]),
        ("no snapshot", &["check", "--from", &broken]),
        ("no baseline", &["baseline", "diff", &other, "--from", &named]),
        ("argument", &["check", "--format", hidden]),
        ("engine", &["snapshot", "--engine", &socket]),
    ];
    for (name, arguments) in cases {
        let output = netcheck(arguments);
        let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        let acts = |character: char| (character.is_control() && character != '\n') || "\u{61c}\u{202e}\u{2028}\u{200b}".contains(character);
        assert!(!told.contains(acts), "{name}: {told:?}");
        assert!(told.contains("\\r\\u{9b}\\u{61c}"), "{name}: {told}");
        assert!(name == "argument" || told.lines().all(|line| !line.starts_with("forged")), "{name}: {told}");
    }
}

/// An engine that refuses with this body.
fn engine(body: &str) -> String {
    let path = std::env::temp_dir().join(format!("netcheck-cli-{}-engine.sock", std::process::id()));
    // One of an earlier test.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let answer = format!("HTTP/1.1 500 Internal Server Error\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
    });
    format!("unix://{}", path.to_str().unwrap())
}

/// Nobody has to read what is told: the exit status says it too.
#[test]
fn an_exit_status_does_not_depend_on_a_reader() {
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer
    };
    let snapshot = capture("29.7.2-nftables");
    let cases: [(&str, &[&str], i32); 4] = [
        ("usage", &["check", "--policy", "/nonexistent"], 3),
        ("argument", &["check", "--nonsense"], 3),
        ("collect", &["snapshot", "--engine", "unix:///nonexistent"], 4),
        ("violation", &["check", "--from", &snapshot], 1),
    ];
    for (name, arguments, status) in cases {
        let run = |stdout: Stdio, stderr: Stdio| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_netcheck"));
            command.args(arguments).stdout(stdout).stderr(stderr).status().unwrap().code()
        };
        assert_eq!(run(closed().into(), closed().into()), Some(status), "{name}: closed");
        assert_eq!(run(Stdio::null(), full().into()), Some(status), "{name}: full");
        // What was not written is not there: that is not the status of what would have been.
        assert_eq!(run(full().into(), full().into()), Some(if status == 1 { 3 } else { status }), "{name}: full output");
    }
}

/// What is named on the command line may be anything: no file is read without an end.
#[test]
fn a_file_without_an_end_is_refused_with_its_limit() {
    let snapshot = capture("28.5.2");
    // Nothing is in it, however long it is.
    let huge = file("huge.json", "");
    std::fs::File::options().write(true).open(&huge).unwrap().set_len((1 << 30) + 1).unwrap();
    let cases: [(&str, &[&str], &str, &str); 5] = [
        ("snapshot", &["check", "--from", &huge], &huge, "1024 MiB"),
        ("against", &["verify", "--from", &snapshot, "--against", &huge], &huge, "1024 MiB"),
        ("baseline", &["baseline", "diff", &huge, "--from", &snapshot], &huge, "1024 MiB"),
        ("policy", &["check", "--from", &snapshot, "--policy", "/dev/zero"], "/dev/zero", "16 MiB"),
        ("authority", &["snapshot", "--engine", "tls://127.0.0.1:1", "--tlscacert", "/dev/zero"], "/dev/zero", "4 MiB"),
    ];
    for (name, arguments, path, limit) in cases {
        let output = netcheck(arguments);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{name}: {told}");
        assert!(told.contains(path) && told.contains(limit), "{name}: {told}");
    }
    std::fs::remove_file(huge).unwrap();
    // A pipe is as good as a file.
    let mut child = Command::new(env!("CARGO_BIN_EXE_netcheck"));
    let mut child = child.args(["check", "--from", "/dev/stdin"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&std::fs::read(&snapshot).unwrap()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
