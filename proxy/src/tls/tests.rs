use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::cert::{Authority, ClientRequest, SERVER_LIFETIME};
use crate::identity::CertificateIdentity;

/// An authority with a server, in a folder of this test alone.
struct Pki {
    dir: PathBuf,
    authority: Authority,
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Pki {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("seawall-tls-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let authority = Authority::init(&dir, UnixSeconds::now()).unwrap();
        authority.server(&["localhost".into()], SERVER_LIFETIME, UnixSeconds::now()).unwrap();
        Self { dir, authority }
    }

    fn files(&self, crl: bool) -> TlsFiles {
        TlsFiles {
            certificate: self.dir.join("server/cert.pem"),
            key: self.dir.join("server/key.pem"),
            client_ca: self.dir.join("ca.pem"),
            client_crl: crl.then(|| self.dir.join("crl.pem")),
        }
    }

    /// A client by `seawall cert issue`.
    fn client(&self, name: &str) -> (Pair, CertificateIdentity) {
        let name = name.parse().unwrap();
        let ttl = Duration::from_secs(3600);
        let request = ClientRequest { name, uris: vec![], dns_names: vec![], ttl };
        let issued = self.authority.client(&request, UnixSeconds::now()).unwrap();
        (pair_in(&issued.folder), issued.identity)
    }

    /// A certificate of this authority that `seawall cert` would not make.
    fn odd(&self, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let read = |file: &str| std::fs::read_to_string(self.dir.join(file)).unwrap();
        let ca_key = KeyPair::from_pem(&read("ca-key.pem")).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&read("ca.pem"), ca_key).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI("seawall:client/odd".try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        (vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }
}

impl Drop for Pki {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn pair_in(folder: &Path) -> Pair {
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap();
    (files::certificates(&folder.join("cert.pem")).unwrap(), key)
}

async fn source(files: &TlsFiles) -> Arc<TlsSource> {
    let source = TlsSource::new(files).unwrap();
    assert_eq!(source.reload().await.unwrap(), Reload::Changed);
    Arc::new(source)
}

/// A client as a stock one is: TLS 1.3 with whatever certificate it has.
fn client_config(pki: &Pki, pair: Option<Pair>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(files::certificates(&pki.dir.join("ca.pem")).unwrap().remove(0)).unwrap();
    let builder =
        ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13]).unwrap().with_root_certificates(roots);
    match pair {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    }
}

/// A whole handshake in memory, and a byte each way: in TLS 1.3 a client learns of its refusal only when it reads.
async fn handshake(source: &Arc<TlsSource>, client: ClientConfig) -> Result<Trust, String> {
    let accepting = source.accepting().await.unwrap();
    let (near, far) = tokio::io::duplex(1 << 16);
    let server = async {
        let mut stream = TlsAcceptor::from(Arc::clone(&accepting.config)).accept(near).await.map_err(|e| e.to_string())?;
        let chain = stream.get_ref().1.peer_certificates().unwrap().to_vec();
        let identity = Identity::Certificate(CertificateIdentity::of_certificate(&chain[0]).unwrap());
        stream.write_all(b"!").await.unwrap();
        stream.flush().await.unwrap();
        Ok(Trust::in_chain(source, &accepting, chain, &identity))
    };
    let client = async {
        let name = ServerName::try_from("localhost").unwrap();
        if let Ok(mut stream) = TlsConnector::from(Arc::new(client)).connect(name, far).await {
            let _ = stream.read_u8().await;
        }
    };
    tokio::join!(server, client).0
}

#[tokio::test]
async fn only_a_client_whose_certificate_is_good_gets_in() {
    let (ours, theirs) = (Pki::new("ours"), Pki::new("theirs"));
    let strict = source(&ours.files(true)).await;
    let moment = |seconds| time::OffsetDateTime::from_unix_timestamp(UnixSeconds::now().0 + seconds).unwrap();
    let (revoked, identity) = ours.client("revoked");
    ours.authority.revoke(&identity.serial, UnixSeconds::now()).unwrap();
    strict.reload().await.unwrap();
    let usage = ExtendedKeyUsagePurpose::ServerAuth;
    for (name, pair, expected) in [
        ("good", Some(ours.client("good").0), None),
        ("no certificate", None, Some("peer sent no certificates")),
        ("another authority", Some(theirs.client("good").0), Some("UnknownIssuer")),
        ("expired", Some(ours.odd(|p| p.not_after = moment(-60))), Some("certificate expired")),
        ("not yet valid", Some(ours.odd(|p| p.not_before = moment(60))), Some("not valid yet")),
        ("a server's", Some(pair_in(&ours.dir.join("server"))), Some("extended key usage")),
        ("made for servers", Some(ours.odd(|p| p.extended_key_usages = vec![usage])), Some("extended key usage")),
        ("revoked", Some(revoked), Some("Revoked")),
    ] {
        let found = handshake(&strict, client_config(&ours, pair)).await;
        match (&found, expected) {
            (Ok(_), None) => {}
            (Err(why), Some(needle)) => assert!(why.contains(needle), "{name}: {why}"),
            _ => panic!("{name}: {found:?}"),
        }
    }
}

#[tokio::test]
async fn a_client_of_tls_1_2_is_refused() {
    let pki = Pki::new("tls12");
    let source = source(&pki.files(true)).await;
    let (near, mut far) = tokio::io::duplex(1 << 16);
    let accepting = source.accepting().await.unwrap();
    let server = TlsAcceptor::from(Arc::clone(&accepting.config)).accept(near);
    let client = async {
        far.write_all(&client_hello_of_tls_1_2()).await.unwrap();
        let mut alert = [0; 7];
        far.read_exact(&mut alert).await.unwrap();
        alert
    };
    let (server, alert) = tokio::join!(server, client);
    assert!(server.is_err());
    // RFC 8446 §6: alert, fatal, protocol_version.
    assert_eq!((alert[0], alert[5], alert[6]), (21, 2, 70), "{alert:?}");
}

/// RFC 5246 §7.4.1.2, with groups and signature algorithms but without `supported_versions`.
fn client_hello_of_tls_1_2() -> Vec<u8> {
    let extensions = [&[0, 10, 0, 6, 0, 4, 0, 23, 0, 29][..], &[0, 13, 0, 6, 0, 4, 4, 3, 8, 4][..], &[0, 11, 0, 2, 1, 0][..]].concat();
    let length = |n: usize| u8::try_from(n).unwrap();
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 4, 0xc0, 0x2b, 0xc0, 0x2f, 1, 0, 0, length(extensions.len())]);
    body.extend(extensions);
    let mut hello = vec![22, 3, 1, 0, length(body.len() + 4), 1, 0, 0, length(body.len())];
    hello.extend(body);
    hello
}

#[tokio::test]
async fn speaks_http_1_1_and_forgets_everyone() {
    let pki = Pki::new("alpn");
    let source = source(&pki.files(true)).await;
    for (name, offered, expected) in [
        ("nothing offered", vec![], true),
        ("http/1.1", vec![b"http/1.1".to_vec()], true),
        ("both", vec![b"h2".to_vec(), b"http/1.1".to_vec()], true),
        ("h2 alone", vec![b"h2".to_vec()], false),
    ] {
        let mut client = client_config(&pki, Some(pki.client("a").0));
        client.alpn_protocols = offered;
        assert_eq!(handshake(&source, client).await.is_ok(), expected, "{name}");
    }
    let config = &source.accepting().await.unwrap().config;
    assert_eq!((config.send_tls13_tickets, config.max_early_data_size), (0, 0));
    assert!(!config.session_storage.can_cache());
}

#[tokio::test]
async fn unknown_status_and_a_list_that_ran_out_refuse_everyone() {
    let (ours, theirs) = (Pki::new("crl"), Pki::new("crl-theirs"));
    let good = ours.client("a").0;
    let with = |crl: PathBuf| TlsFiles { client_crl: Some(crl), ..ours.files(false) };
    let foreign = source(&with(theirs.dir.join("crl.pem"))).await;
    let found = handshake(&foreign, client_config(&ours, Some((good.0.clone(), good.1.clone_key())))).await;
    assert!(found.as_ref().is_err_and(|why| why.contains("UnknownRevocationStatus")), "{found:?}");

    // A list signed two years ago, for one year.
    let past = UnixSeconds(UnixSeconds::now().0 - 2 * 365 * 86_400);
    ours.authority.revoke(&"0a".parse().unwrap(), past).unwrap();
    let old = source(&ours.files(true)).await;
    let found = handshake(&old, client_config(&ours, Some(good))).await;
    assert!(found.as_ref().is_err_and(|why| why.contains("revocation list")), "{found:?}");
}

#[tokio::test]
async fn a_living_connection_ends_when_its_certificate_is_revoked() {
    let pki = Pki::new("live");
    let source = source(&pki.files(true)).await;
    let (pair, identity) = pki.client("a");
    let trust = handshake(&source, client_config(&pki, Some(pair))).await.unwrap();
    let other = handshake(&source, client_config(&pki, Some(pki.client("b").0))).await.unwrap();
    let now = UnixSeconds::now();
    assert_eq!(trust.still_trusted(now), Ok(()));
    assert_eq!(trust.still_trusted(UnixSeconds(identity.not_after.0 + 1)), Err(Distrust::Expired));
    pki.authority.revoke(&identity.serial, now).unwrap();
    let follow = tokio::spawn(Arc::clone(&source).follow());
    let why = tokio::time::timeout(Duration::from_secs(5), trust.ended()).await.unwrap();
    follow.abort();
    assert!(matches!(&why, Distrust::Refused(text) if text.contains("Revoked")), "{why:?}");
    assert_eq!(other.still_trusted(UnixSeconds::now()), Ok(()));
    assert_eq!(Trust::in_peer().still_trusted(UnixSeconds(i64::MAX)), Ok(()));
}

#[tokio::test]
async fn bad_files_change_nothing() {
    let (pki, other) = (Pki::new("reload"), Pki::new("reload-other"));
    let client = client_config(&pki, Some(pki.client("a").0));
    let files = pki.files(true);
    let source = source(&files).await;
    let theirs = std::fs::read(other.dir.join("server/cert.pem")).unwrap();
    let (certificate, ca, crl) = (&files.certificate, &files.client_ca, files.client_crl.as_ref().unwrap());
    for (name, path, content) in [
        ("no PEM", certificate, &b"nothing"[..]),
        ("another key's certificate", certificate, &theirs),
        ("no authority", ca, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ("half a list", crl, b"-----BEGIN X509 CRL-----\nMII"),
        ("no list", crl, b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"),
    ] {
        let good = std::fs::read(path).unwrap();
        std::fs::write(path, content).unwrap();
        assert!(source.reload().await.is_err(), "{name}");
        assert!(handshake(&source, client.clone()).await.is_ok(), "{name}");
        std::fs::write(path, good).unwrap();
    }
    assert_eq!(source.reload().await.unwrap(), Reload::Changed);
    assert_eq!(source.reload().await.unwrap(), Reload::Same);
}

#[tokio::test]
async fn reaches_an_engine_behind_tls_and_no_other() {
    let (engine, other) = (Pki::new("engine"), Pki::new("engine-other"));
    let (_, _) = engine.client("seawall");
    let source = source(&engine.files(true)).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = HostPort { host: "localhost".into(), port: listener.local_addr().unwrap().port() };
    let accepting = source.accepting().await.unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = TlsAcceptor::from(Arc::clone(&accepting.config)).accept(stream).await {
                let _ = stream.write_all(b"!").await;
                let _ = stream.flush().await;
            }
        }
    });
    let ours = engine.dir.join("clients/seawall");
    let tls = |ca: &Path| EngineTls { certificate: ours.join("cert.pem"), key: ours.join("key.pem"), ca: ca.join("ca.pem") };
    let mut stream = EngineConnector::new(&at, &tls(&engine.dir)).unwrap().connect().await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'!');
    assert!(EngineConnector::new(&at, &tls(&other.dir)).unwrap().connect().await.is_err());
    let elsewhere = HostPort { host: "127.0.0.1".into(), ..at };
    assert!(EngineConnector::new(&elsewhere, &tls(&engine.dir)).unwrap().connect().await.is_err());
}

/// No byte of a revocation list makes us panic, and a broken one is never taken for an empty one.
#[tokio::test]
async fn a_list_that_was_tampered_with_never_lets_the_revoked_in() {
    let pki = Pki::new("tampered");
    let (revoked, identity) = pki.client("a");
    pki.authority.revoke(&identity.serial, UnixSeconds::now()).unwrap();
    let files = pki.files(true);
    let path = files.client_crl.as_ref().unwrap();
    let good = CertificateRevocationListDer::from_pem_file(path).unwrap().to_vec();
    let client = client_config(&pki, Some(revoked));
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 0x41;
        let coded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &bytes);
        std::fs::write(path, format!("-----BEGIN X509 CRL-----\n{coded}\n-----END X509 CRL-----\n")).unwrap();
        let source = TlsSource::new(&files).unwrap();
        if source.reload().await.is_ok() {
            let source = Arc::new(source);
            assert!(handshake(&source, client.clone()).await.is_err(), "byte {at}");
        }
    }
}
