//! The corpus on real engines: what client, engine and its objects say afterwards.
#![expect(clippy::print_stdout, reason = "a test fails where something does not hold; it has a report")]

use serde_json::{Value, json};
use tests::corpus::{Case, Expect, cases};
use tests::engine::Engine;
use tests::fixtures::{Fixtures, IMAGE};
use tests::judge::{Seen, Tally, allow, deny};
use tests::packages::Suite;
use tests::proxy::{CORPUS_POLICY, Seawall};
use tests::record::route;
use tests::replay::{prepare, send};
use tests::scratch::Scratch;
use tests::tap::Tap;
use tests::world::LABEL;

#[test]
fn corpus_holds_on_docker_20_10() {
    corpus_holds_on(Suite::Bookworm);
}

#[test]
fn corpus_holds_on_docker_26_1() {
    corpus_holds_on(Suite::Trixie);
}

fn corpus_holds_on(suite: Suite) {
    let home = Scratch::new("tap");
    let engine = Engine::start(suite);
    let tap = Tap::start(&home.join("tap.sock"), &engine.socket());
    let proxy = Seawall::serve(&tap.address(), CORPUS_POLICY);
    let mut fixtures = Fixtures::new(&engine, proxy.socket());

    let mut tally = Tally::default();
    for (number, case) in cases().iter().enumerate() {
        let seen = through(case, &format!("p{number}"), &fixtures, Some(&tap), proxy.socket());
        let outcome = match case.expect {
            Expect::Deny => deny(case, &seen),
            Expect::Allow => {
                fixtures.restore();
                let direct = through(case, &format!("d{number}"), &fixtures, None, &engine.socket());
                allow(case, &seen, direct.answers.responses.first().map(|answer| answer.status))
            }
        };
        tally.add(case, outcome);
        fixtures.restore();
    }
    let title = format!("corpus on {suite:?}");
    println!("{}", tally.report(&title));
    assert!(fixtures.refused.is_empty(), "ordinary requests were refused: {:#?}\n{}", fixtures.refused, tally.report(&title));
    tally.must_hold(&title);
}

fn through(case: &Case, unique: &str, fixtures: &Fixtures<'_>, tap: Option<&Tap>, socket: &std::path::Path) -> Seen {
    let engine = fixtures.engine();
    let values = fixtures.values(unique, &case.text());
    if let Err(stopped) = prepare(case, &values, socket, &engine.socket()) {
        return Seen { stopped: Some(stopped), values, ..Seen::default() };
    }
    let path = route(&tests::corpus::fill(&case.target, &values));
    if path.ends_with("/prune") {
        idle_foreign(engine);
    }
    if case.expect == Expect::Allow && !case.observed.values().any(|seen| seen.contains("409")) {
        make_ready(engine, &path);
    }
    let (before, mark) = (fixtures.state(), tap.map(Tap::mark));
    let mut seen = send(case, values, socket);
    seen.sent = tap.zip(mark).map(|(tap, mark)| tap.since(&mark)).unwrap_or_default();
    if case.expect == Expect::Deny {
        let after = fixtures.state();
        seen.new = after.iter().filter(|(key, _)| !before.contains_key(*key)).map(|(key, name)| format!("{} {name}", key.0)).collect();
        let gone = before.iter().filter(|(key, name)| !after.contains_key(*key) && !name.contains("own"));
        seen.taken = gone.map(|(key, name)| format!("{} {name}", key.0)).collect();
    }
    seen
}

/// Something of the victim's that a prune would take.
fn idle_foreign(engine: &Engine) {
    let labels = json!({ LABEL: "victim" });
    engine.call("POST", "/networks/create", Some(&json!({ "Name": "ci-foreign-idle", "Labels": labels })));
    engine.call("POST", "/volumes/create", Some(&json!({ "Name": "ci-foreign-idle", "Labels": labels })));
    engine.call("POST", "/containers/create?name=ci-foreign-idle", Some(&json!({ "Image": IMAGE, "Labels": labels })));
}

/// What a request that is allowed needs to have been done, so that the engine can do it.
fn make_ready(engine: &Engine, path: &str) {
    let before = [("/unpause", "/pause"), ("/stop", "/start"), ("/kill", "/start")];
    for (last, first) in before {
        if let Some(container) = path.strip_suffix(last) {
            engine.call("POST", &format!("{container}{first}"), Some(&Value::Null));
        }
    }
}
