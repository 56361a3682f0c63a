//! What real clients sent to real engines, sent again: everything is understood, and what is refused is refused as not granted.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a test fails where something does not hold; it has a report")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use tests::http::{Patience, exchange};
use tests::proxy::Seawall;
use tests::scratch::Scratch;
use tests::stub::Stub;
use tests::trace::{Traced, traces};
use tests::world::World;

/// How often an operation was sent, and how often it was refused.
type Counts = BTreeMap<String, (u32, u32)>;

#[test]
fn everything_that_clients_sent_is_understood_under_admin() {
    replay_under("admin");
}

#[test]
fn everything_that_clients_sent_is_understood_under_ci() {
    replay_under("ci");
}

fn replay_under(policy: &str) {
    let home = Scratch::new("traces");
    let world = World::obliging("job");
    let stub = Stub::start(&home.join("engine.sock"), move |request| world.answer(request));
    let proxy = Seawall::configured(&format!(
        "engine: {}\nlisten:\n  - unix://${{HOME}}/docker.sock\nclients:\n  - name: job\n    match: {{ uid: 0 }}\n    policy: {policy}\n    tenant: job\n",
        stub.address()
    ));

    let (mut counts, mut wrong, mut cut) = (Counts::new(), Vec::new(), 0);
    for (file, requests) in traces() {
        for request in requests {
            let Some(bytes) = request.wire() else {
                cut += 1;
                continue;
            };
            let count = counts.entry(request.operation()).or_default();
            count.0 += 1;
            match judge(&request, &bytes, proxy.socket()) {
                Ok(true) => {}
                Ok(false) => count.1 += 1,
                Err(why) => wrong.push(format!("{file} {}: {why}", request.name())),
            }
        }
    }
    println!("{cut} requests are not sent: the traces do not have their whole body");
    assert!(wrong.is_empty(), "under `{policy}` {} requests are not understood:\n{}", wrong.len(), wrong.join("\n"));
    golden(&format!("client-traces.{policy}.txt"), &table(&counts));
}

/// Whether the request is permitted; an error when it is neither permitted nor refused as not granted or not there.
fn judge(request: &Traced, bytes: &[u8], proxy: &Path) -> Result<bool, String> {
    let patience = Patience { first: Duration::from_secs(10), more: Duration::from_secs(1) };
    let answers = exchange(proxy, bytes, std::slice::from_ref(&request.method), patience);
    let answer = answers.responses.first().ok_or("no answer")?;
    match answer.status {
        101 | 200..=399 => Ok(true),
        403 | 404 => Ok(false),
        // what the engine itself could not understand
        400 if request.status == Some(400) => Ok(false),
        status => Err(format!("{status} {}", answer.text())),
    }
}

fn table(counts: &Counts) -> String {
    counts.iter().fold("# refused/sent operation\n".to_owned(), |mut text, (operation, (sent, refused))| {
        writeln!(text, "{refused:>4}/{sent:<4} {operation}").unwrap();
        text
    })
}

/// The decisions are reviewed like code: `UPDATE_GOLDEN=1` writes them.
fn golden(name: &str, found: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&file, found).unwrap();
    }
    let wanted = fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(found, wanted, "{} differs; UPDATE_GOLDEN=1 writes it, then read the difference", file.display());
}
