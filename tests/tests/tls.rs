//! Who may connect: the certificates that `seawall cert` makes, and nobody else.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tests::front::Front;
use tests::http::{Framing, Reader, request};
use tests::pki::{Odd, Pki, Tls, free_port};
use tests::proxy::binary;
use tests::scratch::wait_until;

const LIST: &str = "/v1.41/containers/json";

/// A proxy with a TLS listener of this CA.
fn front(pki: &Pki) -> (Front, u16) {
    let port = free_port();
    (Front::listening(&pki.listener(port), |_| false, |_| None), port)
}

/// How often the engine was asked for the list; the proxy's own look-ups are not the client's.
fn heard(front: &Front) -> usize {
    let requests = front.stub().requests();
    requests.iter().filter(|request| request.route() == "/containers/json").count()
}

/// The client gets no answer at all; the engine hears nothing.
fn is_refused(front: &Front, client: &Tls, who: &str) {
    let before = heard(front);
    let outcome = client.call("GET", LIST, None);
    assert!(outcome.is_err(), "{who} gets an answer: {outcome:?}");
    assert_eq!(heard(front), before, "the engine hears of {who}");
}

#[test]
fn certificate_of_the_ca_is_let_in() {
    let pki = Pki::new();
    let folder = pki.issue("job", &[]);
    let (front, port) = front(&pki);
    let answer = Tls::new(port, &pki, Some(&folder)).call("GET", LIST, None).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let record = front.proxy.wait_for_audit("the list", |record| record.to_string().contains("seawall:client/job"));
    assert!(record["tenant"] == "job", "{record}");
}

#[test]
fn client_without_certificate_is_refused() {
    let pki = Pki::new();
    let (front, port) = front(&pki);
    is_refused(&front, &Tls::new(port, &pki, None), "a client without certificate");
}

#[test]
fn certificate_of_another_ca_is_refused() {
    let (pki, other) = (Pki::new(), Pki::new());
    let folder = other.issue("job", &[]);
    let (front, port) = front(&pki);
    is_refused(&front, &Tls::new(port, &pki, Some(&folder)), "a client of another CA");
}

#[test]
fn certificate_outside_its_time_or_use_is_refused() {
    let pki = Pki::new();
    let (front, port) = front(&pki);
    for odd in [Odd::Expired, Odd::NotYetValid, Odd::ServerUse] {
        let folder = pki.forge("job", odd);
        is_refused(&front, &Tls::new(port, &pki, Some(&folder)), &format!("{odd:?}"));
    }
    let server = pki.path().join("server");
    is_refused(&front, &Tls::new(port, &pki, Some(&server)), "the server's own certificate");
}

#[test]
fn name_in_the_subject_is_no_identity() {
    let pki = Pki::new();
    let (front, port) = front(&pki);
    let folder = pki.forge("job", Odd::OnlyCommonName);
    let before = heard(&front);
    // a chain that is right, and nobody's: the handshake may go well, no request does
    let outcome = Tls::new(port, &pki, Some(&folder)).call("GET", LIST, None);
    assert!(outcome.as_ref().map_or(true, |answer| answer.status == 403), "{outcome:?}");
    assert_eq!(heard(&front), before);
}

#[test]
fn revoked_certificate_is_refused_at_start() {
    let pki = Pki::new();
    let (revoked, other) = (pki.issue("job", &[]), pki.issue("other", &[]));
    pki.cert("revoke", &[&Pki::serial(&revoked)]);
    let (front, port) = front(&pki);
    is_refused(&front, &Tls::new(port, &pki, Some(&revoked)), "a revoked client");
    let answer = Tls::new(port, &pki, Some(&other)).call("GET", LIST, None).unwrap();
    assert_eq!(answer.status, 200, "another certificate of the CA is still good: {}", answer.text());
}

#[test]
fn revocation_while_others_work_ends_one_client_alone() {
    let pki = Pki::new();
    let (revoked, other) = (pki.issue("job", &[]), pki.issue("other", &[]));
    let (_front, port) = front(&pki);
    let (revoked_client, other) = (Tls::new(port, &pki, Some(&revoked)), Tls::new(port, &pki, Some(&other)));
    assert_eq!(revoked_client.call("GET", LIST, None).unwrap().status, 200);
    let over = AtomicBool::new(false);
    let answers = thread::scope(|scope| {
        let working = scope.spawn(|| {
            let mut answers = Vec::new();
            while !over.load(Ordering::Relaxed) {
                answers.push(other.call("GET", LIST, None).map(|answer| answer.status).map_err(|error| error.to_string()));
            }
            answers
        });
        pki.cert("revoke", &[&Pki::serial(&revoked)]);
        wait_until("the revoked client is refused", Duration::from_secs(20), || revoked_client.call("GET", LIST, None).is_err());
        over.store(true, Ordering::Relaxed);
        working.join().unwrap()
    });
    assert!(!answers.is_empty() && answers.iter().all(|answer| *answer == Ok(200)), "the other client is disturbed: {answers:?}");
}

#[test]
fn session_is_not_resumed_around_a_revocation() {
    let pki = Pki::new();
    let folder = pki.issue("job", &[]);
    let (_front, port) = front(&pki);
    let client = Tls::new(port, &pki, Some(&folder));
    for round in 0..3 {
        let mut stream = client.connect().unwrap();
        stream.write_all(&request("GET", LIST, None)).unwrap();
        let mut reader = Reader::new(&mut stream);
        let head = reader.head().unwrap();
        reader.body(head.framing(Framing::UntilClose), &mut Vec::new()).unwrap();
        assert_eq!(head.status(), 200);
        let kind = stream.conn.handshake_kind();
        assert_eq!(kind, Some(rustls::HandshakeKind::Full), "connection {round} proves its certificate again");
    }
}

#[test]
fn certificate_that_ends_while_connected_is_refused_at_the_next_request() {
    let pki = Pki::new();
    let folder = pki.issue("short", &["--ttl", "4s"]);
    let (_front, port) = front(&pki);
    let mut stream = Tls::new(port, &pki, Some(&folder)).connect().unwrap();
    let mut ask = || {
        stream.write_all(&request("GET", LIST, None)).ok()?;
        let mut reader = Reader::new(&mut stream);
        let head = reader.head().ok()?;
        reader.body(head.framing(Framing::UntilClose), &mut Vec::new()).ok()?;
        Some(head.status())
    };
    assert_eq!(ask(), Some(200), "it is good at first");
    wait_until("the certificate's end is seen on an open connection", Duration::from_secs(15), || ask() != Some(200));
}

#[test]
fn tls_1_2_is_refused() {
    let pki = Pki::new();
    let folder = pki.issue("job", &[]);
    let (_front, port) = front(&pki);
    let handshake = |version: &str| {
        let mut openssl = Command::new("openssl");
        openssl.args(["s_client", "-connect", &format!("127.0.0.1:{port}"), version, "-brief"]);
        openssl.arg("-cert").arg(folder.join("cert.pem")).arg("-key").arg(folder.join("key.pem")).arg("-CAfile").arg(pki.path().join("ca.pem"));
        openssl.stdin(Stdio::null()).output().unwrap()
    };
    let newer = handshake("-tls1_3");
    assert!(newer.status.success(), "{}", String::from_utf8_lossy(&newer.stderr));
    let older = handshake("-tls1_2");
    assert!(!older.status.success(), "{}", String::from_utf8_lossy(&older.stderr));
}

#[test]
fn plain_http_on_a_tls_port_gets_no_api() {
    let pki = Pki::new();
    let (front, port) = front(&pki);
    let before = heard(&front);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(&request("GET", LIST, None)).unwrap();
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    assert!(!String::from_utf8_lossy(&answer).contains("200"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(heard(&front), before);
}

/// A bare FIN is no end of what a client says: whoever is on the way can send one.
#[test]
fn half_of_a_request_is_not_forwarded() {
    let pki = Pki::new();
    let folder = pki.issue("job", &[]);
    let (front, port) = front(&pki);
    let whole = request("POST", "/v1.41/networks/create", Some(&json!({ "Name": "half" })));
    let archive = "PUT /v1.41/containers/ci-own1/archive?path=/ HTTP/1.1\r\nHost: docker\r\nContent-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n";
    let halves = [&whole[..20], &whole[..whole.len() - 3], archive.as_bytes(), &[archive.as_bytes(), b"5\r\nabc"].concat()];
    for half in halves {
        let mut stream = Tls::new(port, &pki, Some(&folder)).connect().unwrap();
        stream.write_all(half).unwrap();
        stream.flush().unwrap();
        stream.sock.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        drop(stream.sock.read_to_end(&mut answer));
    }
    let record = |record: &Value| record["decision"] == "failed" && record["status"] == 0;
    wait_until("all of them are recorded as failed", Duration::from_secs(20), || {
        front.proxy.audit().iter().filter(|line| record(line)).count() == halves.len()
    });
    let asked = front.stub().requests();
    let half = asked.iter().find(|request| matches!(request.method.as_str(), "POST" | "PUT"));
    assert!(half.is_none(), "{half:?}");
}

#[test]
fn silent_client_does_not_stop_the_others() {
    let pki = Pki::new();
    let folder = pki.issue("job", &[]);
    let (_front, port) = front(&pki);
    let silent: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    let answer = Tls::new(port, &pki, Some(&folder)).call("GET", LIST, None).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    drop(silent);
}

#[test]
fn ca_writes_what_clients_want_and_keeps_keys_to_itself() {
    let pki = Pki::new();
    let folder = pki.issue("job", &["--dns", "job.example.org", "--uri", "spiffe://example.org/ci/job"]);
    for file in ["ca.pem", "crl.pem", "server/cert.pem", "clients/job/ca.pem", "clients/job/cert.pem"] {
        assert!(pki.path().join(file).exists(), "{file}");
    }
    for file in ["ca-key.pem", "server/key.pem", "clients/job/key.pem"] {
        let mode = std::fs::metadata(pki.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let names = names_in(&folder.join("cert.pem"));
    assert!(names.contains("DNS:job.example.org") && names.contains("URI:spiffe://example.org/ci/job"), "{names}");
    assert!(names_in(&pki.issue("plain", &[]).join("cert.pem")).contains("URI:seawall:client/plain"));
    let printed = pki.cert("issue", &["--client", "third"]);
    for variable in ["DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"] {
        assert!(printed.contains(variable), "the lines to paste: {printed}");
    }
    let again = Command::new(binary()).args(["cert", "init"]).arg(pki.path()).output().unwrap();
    assert!(!again.status.success(), "a CA is never written over");
}

fn names_in(certificate: &Path) -> String {
    tests::scratch::must(Command::new("openssl").args(["x509", "-noout", "-ext", "subjectAltName", "-in"]).arg(certificate))
}
