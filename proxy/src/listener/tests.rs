use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::cert::{Authority, ClientRequest, SERVER_LIFETIME};
use crate::config::{EngineTls, HostPort, OWNER_ONLY, Period};
use crate::identity::UnixSeconds;
use crate::tls::EngineConnector;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("seawall-listener-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// An authority, a server for `localhost` and a client, in here.
    fn pki(&self) -> TlsFiles {
        let dir = self.0.join("pki");
        let now = UnixSeconds::now();
        let authority = Authority::init(&dir, now).unwrap();
        authority.server(&["localhost".into()], SERVER_LIFETIME, now).unwrap();
        let ttl = Duration::from_secs(60);
        let request = ClientRequest { name: "a".parse().unwrap(), uris: vec![], dns_names: vec![], ttl };
        authority.client(&request, now).unwrap();
        TlsFiles {
            certificate: dir.join("server/cert.pem"),
            key: dir.join("server/key.pem"),
            client_ca: dir.join("ca.pem"),
            client_crl: Some(dir.join("crl.pem")),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn bind(config: &ListenConfig, limits: Limits) -> Listener {
    Listener::bind(config, limits, &Gate::new(&limits)).unwrap().remove(0)
}

fn unix_at(path: &Path) -> ListenConfig {
    ListenConfig::Unix { path: path.to_owned(), group: None, mode: OWNER_ONLY }
}

fn accepted(arrival: Arrival) -> Accepted {
    match arrival {
        Arrival::Accepted(accepted) => *accepted,
        Arrival::Refused(refusal) => panic!("{refusal}"),
    }
}

#[tokio::test]
async fn a_peer_is_who_the_kernel_says() {
    let dir = Scratch::new("peer");
    let path = dir.0.join("s");
    let mut listener = bind(&unix_at(&path), Limits::default());
    let mut client = UnixStream::connect(&path).await.unwrap();
    let mut served = accepted(listener.accept().await);
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    assert!(matches!(served.identity, Identity::Peer(peer) if (peer.uid, peer.gid) == (uid, gid)));
    served.stream.write_all(b"hello").await.unwrap();
    served.stream.shutdown().await.unwrap();
    let mut heard = String::new();
    client.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "hello");
}

#[tokio::test]
async fn one_identity_cannot_take_every_place() {
    let dir = Scratch::new("limits");
    let path = dir.0.join("s");
    let limits = Limits { max_connections_per_identity: 1, ..Limits::default() };
    let mut listener = bind(&unix_at(&path), limits);
    let _one = UnixStream::connect(&path).await.unwrap();
    let served = accepted(listener.accept().await);
    let _two = UnixStream::connect(&path).await.unwrap();
    let refused = listener.accept().await;
    assert!(matches!(&refused, Arrival::Refused(Refusal { why: Refused::Full(Full::Identity(1)), identity: Some(_), .. })), "{refused:?}");
    drop(served);
    let _three = UnixStream::connect(&path).await.unwrap();
    accepted(listener.accept().await);
}

#[tokio::test]
async fn one_slow_client_delays_nobody_and_is_cut() {
    let dir = Scratch::new("slow");
    let files = dir.pki();
    let folder = dir.0.join("pki/clients/a");
    let at = HostPort { host: "127.0.0.1".into(), port: 0 };
    let limits = Limits { handshake_timeout: Period(Duration::from_millis(500)), ..Limits::default() };
    let mut listener = bind(&ListenConfig::Tls { at, files }, limits);
    listener.ready().await.unwrap();
    let address = listener.local_addr().unwrap();
    // The first says nothing at all, the second is a good client, the third speaks plain HTTP.
    let _silent = TcpStream::connect(address).await.unwrap();
    let tls = EngineTls { certificate: folder.join("cert.pem"), key: folder.join("key.pem"), ca: folder.join("ca.pem") };
    let at = HostPort { host: "localhost".into(), port: address.port() };
    let client = tokio::spawn(async move { EngineConnector::new(&at, &tls).unwrap().connect().await.unwrap() });
    let mut served = accepted(listener.accept().await);
    assert_eq!(served.identity.to_string(), "seawall:client/a");
    assert!(served.trust.still_trusted(UnixSeconds::now()).is_ok());
    served.stream.write_all(b"hello").await.unwrap();
    served.stream.shutdown().await.unwrap();
    let mut heard = String::new();
    client.await.unwrap().read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "hello");

    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut whys = Vec::new();
    for _ in 0..2 {
        match listener.accept().await {
            Arrival::Refused(Refusal { why, address: Some(_), identity: None }) => whys.push(why.to_string()),
            other @ (Arrival::Accepted(_) | Arrival::Refused(_)) => panic!("{other:?}"),
        }
    }
    whys.sort();
    assert!(whys[0].starts_with("the TLS handshake failed"), "{whys:?}");
    assert!(whys[1].starts_with("the TLS handshake took longer than"), "{whys:?}");
}

#[tokio::test]
async fn missing_certificates_are_said_at_once() {
    let dir = Scratch::new("missing");
    let missing = dir.0.join("cert.pem");
    let files = TlsFiles { certificate: missing, ..dir.pki() };
    let config = ListenConfig::Tls { at: HostPort { host: "127.0.0.1".into(), port: 0 }, files };
    let limits = Limits::default();
    let error = Listener::bind(&config, limits, &Gate::new(&limits)).expect_err("no certificate");
    assert!(matches!(error, ListenError::Tls(TlsError::Read { .. })), "{error:?}");
}

#[tokio::test]
async fn nothing_is_activated_without_systemd() {
    let limits = Limits::default();
    let error = Listener::bind(&ListenConfig::Activated { tls: None }, limits, &Gate::new(&limits));
    assert!(matches!(error, Err(ListenError::NoneActivated)), "{error:?}");
}
