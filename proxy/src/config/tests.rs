use super::*;

/// The example of the reference, as it stands there.
const EXAMPLE: &str = r#"engine: unix:///var/run/docker.sock
listen:
  - unix:///run/seawall/docker.sock            # short form; mode 0600
  - address: unix:///run/seawall/ci.sock
    group: ci                                  # 0660, this group
  - address: tls://0.0.0.0:2376
    certificate: pki/server/cert.pem
    key: pki/server/key.pem
    client_ca: pki/ca.pem
    client_crl: pki/crl.pem
clients:                                       # who is who: a client that matches no entry, or two, is refused and the record says so
  - name: ci
    match: { uri: "spiffe://example.org/ci/*" }
    policy: ci
    tenant: ci                                 # owner of what it creates; left out: one tenant per identity
  - name: ops
    match: { dns: ops.example.org }
    policy: admin
  - name: job
    match: { uid: 1000 }
    policy: policies/job.yaml                  # paths are relative to this file
audit:
  to: stdout                                   # stdout | stderr | journald | file: PATH
"#;

fn parse(text: &str) -> Result<Draft, Box<Mistake>> {
    Draft::parse("seawall.yaml", text, Path::new("/etc/seawall"))
}

fn parsed(text: &str) -> Draft {
    parse(text).unwrap_or_else(|mistake| panic!("{:?}", miette::Report::from(*mistake)))
}

#[test]
fn the_example_means_what_it_says() {
    let draft = parsed(EXAMPLE);
    assert_eq!(draft.engine, Some(Engine::Unix("/var/run/docker.sock".into())));
    let unix = |path: &str, group: Option<&str>, mode| ListenConfig::Unix { path: path.into(), group: group.map(str::to_owned), mode };
    let files = TlsFiles {
        certificate: "/etc/seawall/pki/server/cert.pem".into(),
        key: "/etc/seawall/pki/server/key.pem".into(),
        client_ca: "/etc/seawall/pki/ca.pem".into(),
        client_crl: Some("/etc/seawall/pki/crl.pem".into()),
    };
    assert_eq!(
        draft.listen,
        [
            unix("/run/seawall/docker.sock", None, 0o600),
            unix("/run/seawall/ci.sock", Some("ci"), 0o660),
            ListenConfig::Tls { at: HostPort { host: "0.0.0.0".into(), port: 2376 }, files },
        ]
    );
    let client = |name: &str, matcher, policy, tenant: Option<&str>| Client {
        name: Some(name.parse().unwrap()),
        matcher,
        policy,
        tenant: tenant.map(|t| t.parse().unwrap()),
    };
    let shipped = |name: &str| PolicyRef::Shipped(name.into());
    let uri = Some("spiffe://example.org/ci/*".parse().unwrap());
    let dns = Some("ops.example.org".parse().unwrap());
    assert_eq!(
        draft.clients,
        [
            client("ci", Matcher { uri, ..Matcher::default() }, shipped("ci"), Some("ci")),
            client("ops", Matcher { dns, ..Matcher::default() }, shipped("admin"), None),
            client("job", Matcher { uid: Some(1000), ..Matcher::default() }, PolicyRef::File("/etc/seawall/policies/job.yaml".into()), None),
        ]
    );
    assert_eq!(draft.audit, AuditTarget::Stdout);
    assert_eq!(draft.limits, Limits::default());
}

#[test]
fn reads_what_else_can_be_written() {
    let file = AuditTarget::File("/etc/seawall/audit.jsonl".into());
    for (text, expected) in [
        ("audit: { to: journald }", AuditTarget::Journald),
        ("audit: { to: stderr }", AuditTarget::Stderr),
        ("audit:\n  to:\n    file: audit.jsonl\n", file.clone()),
        ("audit: { to: { file: audit.jsonl } }", file.clone()),
        ("audit: {}", AuditTarget::Stdout),
    ] {
        assert_eq!(parsed(text).audit, expected, "{text}");
    }
    let limits = parsed("limits: { drain_timeout: 1m30s, max_body: 1MiB, max_connections: 10 }").limits;
    assert_eq!(limits.drain_timeout.0.as_secs(), 90);
    assert_eq!((limits.max_body.0, limits.max_connections), (1 << 20, 10));
    for (written, expected) in [("0660", 0o660), ("\"0666\"", 0o666), ("600", 0o600)] {
        let text = format!("listen: [{{ address: \"unix:///run/x\", mode: {written} }}]");
        assert!(matches!(&parsed(&text).listen[..], [ListenConfig::Unix { mode, .. }] if *mode == expected), "{text}");
    }
    assert!(parsed("").listen.is_empty());
}

#[test]
fn flags_go_over_the_file() {
    let flags = |args: &[&str]| -> Flags {
        #[derive(clap::Parser)]
        struct Serve {
            #[command(flatten)]
            flags: Flags,
        }
        <Serve as clap::Parser>::parse_from(std::iter::once(&"serve").chain(args)).flags
    };
    let tls = ["--tls-cert", "c", "--tls-key", "k", "--client-ca", "a"];
    let with = |more: &[&str]| -> Vec<String> { more.iter().chain(&tls).map(|a| (*a).to_owned()).collect() };
    let no_clients = "engine: unix:///e\nlisten: [unix:///a]\n";
    for (file, args, expected) in [
        (EXAMPLE, vec!["--engine".into(), "unix:///x".into()], Ok(3)),
        (EXAMPLE, vec!["--listen".into(), "unix:///x".into(), "--listen".into(), "fd://".into()], Ok(2)),
        (no_clients, vec!["--policy".into(), "hardened".into()], Ok(1)),
        (no_clients, with(&["--listen", "tls://0.0.0.0:1"]), Ok(1)),
        (no_clients, with(&[]), Err("no `--listen` to use it")),
        (no_clients, vec!["--listen".into(), "tls://0.0.0.0:1".into()], Err("needs `--tls-cert`")),
        (no_clients, vec!["--tls-cert".into(), "c".into()], Err("go together")),
        (no_clients, vec!["--engine".into(), "tls://e:1".into()], Err("`engine_tls`")),
        (EXAMPLE, vec!["--policy".into(), "ci".into()], Err("says which client has which policy")),
    ] {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        match (parsed(file).with_flags(&flags(&args)), expected) {
            (Ok(draft), Ok(listeners)) => assert_eq!(draft.listen.len(), listeners, "{args:?}"),
            (Err(error), Err(needle)) => {
                assert!(error.to_string().contains(needle), "{args:?}: {error}")
            }
            (result, _) => panic!("{args:?}: {result:?}"),
        }
    }
}

/// What people see. Rewritten with `UPDATE_GOLDEN=1`, and then read.
#[test]
fn mistakes_are_shown_where_they_are() {
    let mut shown = String::new();
    for (name, text) in MISTAKES {
        let mistake = parse(text).expect_err(name);
        let theme = miette::GraphicalTheme::unicode_nocolor();
        let mut report = String::new();
        miette::GraphicalReportHandler::new_themed(theme).with_width(110).render_report(&mut report, mistake.as_ref()).unwrap();
        shown += &format!("== {name}\n{report}\n");
    }
    golden("src/config/mistakes.golden", &shown);
}

#[test]
fn the_schema_in_the_repository_is_current() {
    golden("schema/seawall.schema.json", &schema().unwrap());
}

fn golden(path: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{} is not current (UPDATE_GOLDEN=1 rewrites it):\n{found}", path.display());
}

const MISTAKES: &[(&str, &str)] = &[
    ("unknown key", "engine: unix:///var/run/docker.sock\nlistens:\n  - unix:///run/a.sock\n"),
    ("unknown key in a listener", "listen:\n  - address: tls://0.0.0.0:1\n    client_cert: pki/ca.pem\n"),
    ("unknown key far from all", "audit:\n  destination: stdout\n"),
    ("doubled key", "engine: unix:///a\nengine: unix:///b\n"),
    ("missing key", "clients:\n  - name: ci\n    match: { uid: 1 }\n"),
    ("plain TCP", "engine: unix:///a\nlisten:\n  - tcp://0.0.0.0:2375\n"),
    ("plain TCP in the long form", "listen:\n  - address: tcp://0.0.0.0:2375\n"),
    ("not a listener", "listen:\n  - [a]\n"),
    ("no certificates", "listen:\n  - tls://0.0.0.0:2376\n"),
    ("half of the certificates", "listen:\n  - address: tls://0.0.0.0:2376\n    certificate: a\n    key: b\n"),
    ("mode of a TCP socket", "listen:\n  - { address: \"fd://\", mode: 0600 }\n"),
    ("not a mode", "listen:\n  - { address: \"unix:///run/x\", mode: 888 }\n"),
    ("twice the same listener", "listen:\n  - unix:///run/x\n  - unix:///run/x\n"),
    ("engine behind TLS without certificates", "engine: tls://build.example.org:2376\n"),
    ("engine by activation", "engine: fd://\n"),
    ("matches everyone", "clients:\n  - name: a\n    match: {}\n    policy: ci\n"),
    ("matches nobody", "clients:\n  - name: a\n    match: { uid: 1, dns: a.example.org }\n    policy: ci\n"),
    ("authority left open", "clients:\n  - name: a\n    match: { uri: \"spiffe://*/ci\" }\n    policy: ci\n"),
    ("not a pin", "clients:\n  - name: a\n    match: { spki: \"sha256:00\" }\n    policy: ci\n"),
    ("not a uid", "clients:\n  - name: a\n    match: { uid: -1 }\n    policy: ci\n"),
    ("two of one name", "clients:\n  - { name: a, match: { uid: 1 }, policy: ci }\n  - { name: a, match: { uid: 2 }, policy: ci }\n"),
    ("two of one match", "clients:\n  - { name: a, match: { uid: 1 }, policy: ci }\n  - { name: b, match: { uid: 1 }, policy: admin }\n"),
    ("not a tenant", "clients:\n  - { name: a, match: { uid: 1 }, policy: ci, tenant: \"uid:0\" }\n"),
    ("unknown target", "audit:\n  to: stdou\n"),
    ("not a length of time", "limits:\n  drain_timeout: 30\n"),
    ("not a size", "limits:\n  max_body: 4MB\n"),
    ("limit of zero", "limits: { max_handshakes: 0 }\n"),
    ("not YAML", "listen:\n  - [\n"),
    ("not a mapping", "- a\n"),
    ("two documents", "engine: unix:///a\n---\nengine: unix:///b\n"),
];
