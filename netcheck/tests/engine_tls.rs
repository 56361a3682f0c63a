//! An engine behind TLS is asked like one on a socket, by who may ask it, and every mistake has a message of its own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::PrivateKeyDer;

/// An authority and what it signed.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        (CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// A directory as `DOCKER_CERT_PATH` names it.
    fn directory(&self, tag: &str, client: &Self) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("netcheck-tls-{}-{tag}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (certificate, key) = client.issue("client");
        for (name, content) in [("ca.pem", self.certificate.pem()), ("cert.pem", certificate.pem()), ("key.pem", key.serialize_pem())] {
            std::fs::write(directory.join(name), content).unwrap();
        }
        directory
    }
}

/// Serves an engine without containers, one thread a connection; the port.
fn engine(authority: &Authority) -> u16 {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let (certificate, key) = authority.issue("127.0.0.1");
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            // A client that is refused, or goes away, ends its own connection only.
            std::thread::spawn(move || answer(BufReader::new(StreamOwned::new(connection, stream))));
        }
    });
    port
}

fn answer<S: Read + Write>(mut stream: BufReader<S>) -> std::io::Result<()> {
    loop {
        let mut request = String::new();
        stream.read_line(&mut request)?;
        let mut line = String::new();
        while stream.read_line(&mut line)? > 2 {
            line.clear();
        }
        let body = match request.split_whitespace().nth(1) {
            Some("/version") => r#"{"Version":"28.5.2","ApiVersion":"1.51","MinAPIVersion":"1.24"}"#,
            Some(_) => "[]",
            None => return Ok(()),
        };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.get_mut().write_all((head + body).as_bytes())?;
        stream.get_mut().flush()?;
    }
}

fn snapshot(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netcheck"));
    command.arg("snapshot").args(arguments).env_remove("DOCKER_HOST").env_remove("DOCKER_CERT_PATH").env_remove("DOCKER_TLS_VERIFY");
    command.envs(environment.iter().copied()).output().unwrap()
}

/// A name, arguments, environment, the exit status, and something that is said.
type Case<'a> = (&'a str, &'a [&'a str], &'a [(&'a str, &'a str)], i32, &'a str);

#[test]
fn an_engine_behind_tls_is_asked_and_mistakes_are_told_apart() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let port = engine(&authority);
    let (tls, tcp) = (format!("tls://127.0.0.1:{port}"), format!("tcp://127.0.0.1:{port}"));
    let right = authority.directory("right", &authority);
    let (wrong_ca, wrong_client) = (stranger.directory("ca", &authority), authority.directory("client", &stranger));
    let text = |path: &Path, name: &str| path.join(name).to_str().unwrap().to_owned();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let named = [text(&right, "ca.pem"), text(&right, "cert.pem"), text(&right, "key.pem")];
    let [ca, certificate, key] = &named;
    let by_name = ["--engine", &tls, "--tlscacert", ca, "--tlscert", certificate, "--tlskey", key];
    let (right, wrong_ca, wrong_client) = (path(&right), path(&wrong_ca), path(&wrong_client));
    let at = ["--engine", &tls];
    // Connections come in, and nobody speaks.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("tls://{}", listener.local_addr().unwrap());
    let cases: [Case<'_>; 9] = [
        ("no handshake", &["--engine", &silent, "--engine-timeout", "1s"], &[("DOCKER_CERT_PATH", &right)], 4, "the connection within 1 s"),
        ("files by name", &by_name, &[], 0, ""),
        ("DOCKER_CERT_PATH", &at, &[("DOCKER_CERT_PATH", &right)], 0, ""),
        ("DOCKER_HOST", &[], &[("DOCKER_HOST", &tcp), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", &right)], 0, ""),
        ("DOCKER_HOST without TLS", &[], &[("DOCKER_HOST", &tcp), ("DOCKER_CERT_PATH", &right)], 3, "without TLS"),
        ("another authority", &at, &[("DOCKER_CERT_PATH", &wrong_ca)], 4, "invalid peer"),
        ("a certificate of a stranger", &at, &[("DOCKER_CERT_PATH", &wrong_client)], 4, "the engine"),
        ("no files", &at, &[("DOCKER_CERT_PATH", "/nonexistent")], 3, "/nonexistent/ca.pem"),
        ("no port", &["--engine", "tls://127.0.0.1"], &[], 3, "tls://host:port"),
    ];
    for (name, arguments, environment, status, said) in cases {
        let output = snapshot(arguments, environment);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{name}: {stderr}");
        assert!(stderr.contains(said), "{name}: {stderr}");
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert_eq!(stdout.contains(r#""version":"28.5.2""#), status == 0, "{name}: {stdout:.300}");
    }
}
