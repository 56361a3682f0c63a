//! A container as the engine has it: what the engine has added itself is not demanded.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use engine::demand::{Demand, Name};
use engine::facts::Facts;
use engine::stored::{Defaults, Stored};

/// The SELinux labels that a start demands.
fn labels(host: &str) -> Vec<String> {
    let json = format!("{{\"Id\":\"c\",\"Image\":\"base\",\"Config\":{{\"User\":\"1\"}},\"HostConfig\":{host}}}");
    let demands = Stored::decode(json.as_bytes()).unwrap().demands(&Facts::default(), &Defaults::default());
    let named = demands.iter().filter_map(|demanded| {
        let Demand::Named(Name::SelinuxLabel, value) = &demanded.demand else { return None };
        Some(value.clone())
    });
    named.collect()
}

#[test]
fn labels_that_the_engine_disables_itself_are_not_demanded() {
    for (host, expected) in [
        (r#"{"Privileged":true,"SecurityOpt":["label=disable"]}"#, None),
        (r#"{"PidMode":"host","SecurityOpt":["no-new-privileges","label=disable"]}"#, None),
        (r#"{"IpcMode":"host","SecurityOpt":["label=disable"]}"#, None),
        (r#"{"Privileged":true,"SecurityOpt":["label=type:spc_t"]}"#, Some("type:spc_t")),
        (r#"{"UTSMode":"host","SecurityOpt":["label=disable"]}"#, Some("disable")),
        (r#"{"PidMode":"container:x","SecurityOpt":["label=disable"]}"#, Some("disable")),
        (r#"{"SecurityOpt":["label=disable"]}"#, Some("disable")),
    ] {
        assert_eq!(labels(host), Vec::from_iter(expected.map(str::to_owned)), "{host}");
    }
}
