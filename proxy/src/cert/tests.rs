use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::identity::SpkiPin;

/// A folder of this test alone, gone when it is done.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("seawall-cert-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn request(name: &str) -> ClientRequest {
    ClientRequest { name: name.parse().unwrap(), uris: vec![], dns_names: vec![], ttl: Duration::from_secs(7200) }
}

#[test]
fn makes_the_files_of_the_interface_and_keeps_keys_private() {
    let dir = Scratch::new("files");
    let authority = Authority::init(&dir.0, UnixSeconds::now()).unwrap();
    authority.server(&["build.example.org".into(), "127.0.0.1".into()], SERVER_LIFETIME, UnixSeconds::now()).unwrap();
    authority.client(&request("alice"), UnixSeconds::now()).unwrap();
    for (file, mode) in [
        ("ca.pem", 0o644),
        ("ca-key.pem", 0o600),
        ("crl.pem", 0o644),
        ("server/cert.pem", 0o644),
        ("server/key.pem", 0o600),
        ("clients/alice/ca.pem", 0o644),
        ("clients/alice/cert.pem", 0o644),
        ("clients/alice/key.pem", 0o600),
    ] {
        let found = std::fs::metadata(dir.0.join(file)).expect(file).permissions().mode();
        assert_eq!(found & 0o777, mode, "{file}");
    }
    let left: Vec<_> = std::fs::read_dir(&dir.0).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 5, "{left:?}");
    assert_eq!(authority.server_host().as_deref(), Some("build.example.org"));
}

#[test]
fn never_overwrites_an_authority() {
    let dir = Scratch::new("again");
    drop(Authority::init(&dir.0, UnixSeconds::now()).unwrap());
    let before = std::fs::read(dir.0.join("ca-key.pem")).unwrap();
    assert!(matches!(Authority::init(&dir.0, UnixSeconds::now()), Err(CertError::AuthorityExists(_))));
    // Half of one is one too.
    std::fs::remove_file(dir.0.join("ca.pem")).unwrap();
    assert!(matches!(Authority::init(&dir.0, UnixSeconds::now()), Err(CertError::AuthorityExists(_))));
    assert_eq!(std::fs::read(dir.0.join("ca-key.pem")).unwrap(), before);
}

#[test]
fn a_client_is_who_it_was_asked_to_be() {
    let dir = Scratch::new("names");
    let now = UnixSeconds::now();
    let authority = Authority::init(&dir.0, now).unwrap();
    let uri = "spiffe://example.org/ci/a";
    for (name, request, uris, dns_names) in [
        ("by default", request("a"), vec!["seawall:client/a"], vec![]),
        ("URI", ClientRequest { uris: vec![uri.into()], ..request("a") }, vec![uri], vec![]),
        ("DNS", ClientRequest { dns_names: vec!["a.example.org".into()], ..request("a") }, vec![], vec!["a.example.org"]),
    ] {
        let identity = authority.client(&request, now).unwrap().identity;
        assert_eq!(
            (identity.uris, identity.dns_names),
            (uris.into_iter().map(str::to_owned).collect(), dns_names.into_iter().map(str::to_owned).collect()),
            "{name}"
        );
        assert_eq!(identity.not_after, UnixSeconds(now.0 + 7200), "{name}");
        assert_eq!(identity.serial.as_bytes().len(), 16, "{name}");
    }
    let (one, two) = (authority.client(&request("a"), now).unwrap(), authority.client(&request("a"), now).unwrap());
    assert_ne!(one.identity.serial, two.identity.serial);
    assert_ne!(one.identity.spki, SpkiPin([0; 32]));
}

#[test]
fn refuses_names_that_mean_something_else() {
    let dir = Scratch::new("bad");
    let now = UnixSeconds::now();
    let authority = Authority::init(&dir.0, now).unwrap();
    for uri in ["", "alice", "spiffe://example.org/ci/../admin", "spiffe://example.org/a\nb", "spiffe://example.org/ы"] {
        let request = ClientRequest { uris: vec![uri.into()], ..request("a") };
        assert!(matches!(authority.client(&request, now), Err(CertError::Uri(_))), "{uri:?}");
    }
    for name in ["", "*.example.org", "a b", "a\0b"] {
        let request = ClientRequest { dns_names: vec![name.into()], ..request("a") };
        assert!(matches!(authority.client(&request, now), Err(CertError::Dns(_))), "{name:?}");
        assert!(matches!(authority.server(&[name.into()], CLIENT_LIFETIME, now), Err(CertError::Host(_))), "{name:?}");
    }
    for ttl in [Duration::ZERO, Duration::MAX] {
        let request = ClientRequest { ttl, ..request("a") };
        assert!(matches!(authority.client(&request, now), Err(CertError::Lifetime(_))), "{ttl:?}");
    }
    assert!(!dir.0.join("clients/a/cert.pem").exists());
}

#[test]
fn no_certificate_outlives_its_authority() {
    let dir = Scratch::new("end");
    let now = UnixSeconds::now();
    let authority = Authority::init(&dir.0, now).unwrap();
    let late = UnixSeconds(authority.certificate.not_after.0 - 60);
    assert_eq!(authority.client(&request("a"), late).unwrap().identity.not_after, authority.certificate.not_after);
    let after = UnixSeconds(authority.certificate.not_after.0 + 1);
    assert!(matches!(authority.client(&request("a"), after), Err(CertError::AuthorityExpired(_))));
}

#[test]
fn a_revocation_stays_through_everything_that_is_signed_later() {
    let dir = Scratch::new("revoke");
    let now = UnixSeconds::now();
    let authority = Authority::init(&dir.0, now).unwrap();
    let first = authority.client(&request("a"), now).unwrap().identity.serial;
    let second = authority.client(&request("b"), now).unwrap().identity.serial;
    assert_eq!(authority.revoke(&first, now).unwrap(), Revocation::Done);
    assert_eq!(authority.revoke(&second, now).unwrap(), Revocation::Done);
    assert_eq!(authority.revoke(&first, now).unwrap(), Revocation::Already);
    authority.client(&request("c"), now).unwrap();
    assert_eq!(authority.revoked().unwrap().len(), 2);
    drop(authority);
    std::fs::write(dir.0.join("crl.pem"), "no list").unwrap();
    let authority = Authority::open(&dir.0).unwrap();
    assert!(matches!(authority.revoke(&second, now), Err(CertError::Crl { .. })));
}
