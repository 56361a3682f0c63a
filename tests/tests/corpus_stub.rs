//! The corpus in front of a stub engine that does whatever it is asked: every `deny` is stopped by the proxy alone.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test fails where something does not hold")]

use std::sync::Arc;

use serde_json::json;
use tests::corpus::{Case, Expect, cases};
use tests::fixtures::IMAGE;
use tests::judge::{Seen, Tally, allow, deny};
use tests::proxy::{CORPUS_POLICY, Seawall};
use tests::replay::{prepare, send};
use tests::scratch::Scratch;
use tests::stub::Stub;
use tests::world::{LABEL, World};

#[test]
fn corpus_holds_in_front_of_a_stub_engine() {
    let home = Scratch::new("stub");
    let world = World::with_fixtures("nobody");
    let stub = {
        let world = world.clone();
        Arc::new(Stub::start(&home.join("engine.sock"), move |request| world.answer(request)))
    };
    let proxy = Seawall::serve(&stub.address(), CORPUS_POLICY);
    let tenant = tenant_of(&proxy, &stub);

    let mut tally = Tally::default();
    for (number, case) in cases().iter().enumerate() {
        world.reset(&tenant);
        let seen = through(case, &format!("s{number}"), &world, &stub, proxy.socket());
        let outcome = match case.expect {
            Expect::Deny => deny(case, &seen),
            Expect::Allow => {
                world.reset(&tenant);
                let direct = through(case, &format!("d{number}"), &world, &stub, &home.join("engine.sock"));
                allow(case, &seen, direct.answers.responses.first().map(|answer| answer.status))
            }
        };
        tally.add(case, outcome);
    }
    println!("{}", tally.report("corpus on a stub engine"));
    tally.must_hold("corpus on a stub engine");
}

/// The tenant that a client of the proxy's unix socket gets: what it creates carries the label.
fn tenant_of(proxy: &Seawall, stub: &Stub) -> String {
    let created = proxy.call("POST", "/v1.41/containers/create?name=ci-tenant", Some(&json!({ "Image": IMAGE, "Cmd": ["true"] })));
    assert_eq!(created.status, 201, "an ordinary create: {}", created.text());
    let sent = stub.wait_for("POST", "/containers/create").json();
    sent["Labels"][LABEL].as_str().expect("a created container carries its owner").to_owned()
}

fn through(case: &Case, unique: &str, world: &World, stub: &Stub, socket: &std::path::Path) -> Seen {
    let values = world.values(unique);
    if let Err(stopped) = prepare(case, &values, socket, std::path::Path::new(stub.address().trim_start_matches("unix://"))) {
        return Seen { stopped: Some(stopped), values, ..Seen::default() };
    }
    let before = stub.requests().len();
    let mut seen = send(case, values, socket);
    seen.sent = stub.requests().split_off(before);
    seen
}
