//! The shipped policies, the schema and the reference are what the program does today. `UPDATE_GOLDEN=1` writes them anew.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use std::path::Path;

use engine::demand::{Demand, Flag};
use policies::{Policy, shipped};

#[test]
fn decision_matrices_are_as_reviewed() {
    for (name, _, _) in shipped::SHIPPED {
        let policy = Policy::shipped(name).unwrap();
        golden(&format!("policies/shipped/{name}.matrix"), &policy.matrix());
    }
}

#[test]
fn the_schema_is_current() {
    golden("policies/schema/policy.schema.json", &policies::syntax::schema());
}

#[test]
fn the_reference_is_current() {
    golden("docs/policy.md", &policies::reference::markdown());
}

#[test]
fn the_empty_policy_permits_nothing() {
    let policy = Policy::compile("empty", "version: 1", &|_, _| Err(String::new())).unwrap();
    for operation in engine::operation::OPERATIONS {
        assert_eq!(policy.widest(operation), "-", "{}", operation.id);
    }
}

#[test]
fn mistakes_are_shown_where_they_are() {
    for (text, expected) in [
        ("", "the file is empty"),
        ("images: [official]", "`version: 1` is missing"),
        ("version: 2", "version 2 is not known here"),
        ("version: 1\nimage: [official]", "unknown field `image`"),
        ("version: 1\nimages: [alpine]", "docker.io/library/alpine"),
        ("version: 1\nallow: [privilegd]", "did you mean `privileged`?"),
        ("version: 1\noperations: { contaner: { read: own } }", "did you mean `container`?"),
        ("version: 1\noperations: { container: { raed: own } }", "did you mean `read`?"),
        ("version: 1\noperations: { image: { ContainerList: own } }", "belongs to another family"),
        ("version: 1\nlimits: { memory: lots }", "is no amount of memory"),
        ("version: 1\nbinds: [{ source: srv }]", "is not an absolute path"),
        ("version: 1\ninclude: [hardend]", "did you mean `hardened`?"),
        ("version: 1\nports: [x]", "is neither a port nor a range"),
    ] {
        let error = Policy::compile("p.yaml", text, &|_, _| Err("no file".to_owned())).unwrap_err().to_string();
        assert!(error.contains(expected), "{text:?}: {error}");
        assert!(error.contains("p.yaml"), "{text:?}: {error}");
    }
    let error = Policy::compile("p.yaml", "version: 1\nallow:\n  - privilegd\n", &|_, _| Err(String::new())).unwrap_err().to_string();
    assert!(error.contains("3:5") || error.contains("line 3"), "{error}");
}

#[test]
fn files_that_include_each_other_are_refused() {
    let read = |_: &str, name: &str| Ok((name.to_owned(), format!("version: 1\ninclude: [{}]", if name == "./a" { "./b" } else { "./a" })));
    let error = Policy::compile("./a", "version: 1\ninclude: [./b]", &read).unwrap_err().to_string();
    assert!(error.contains("includes itself"), "{error}");
}

#[test]
fn a_file_that_many_include_is_read_once() {
    // Each of 64 files includes the next one twice: 2^64 paths lead to the last.
    let text = |n: u32| format!("version: 1\ninclude: [./{0}, ./{0}]\nports: [{1}]", n + 1, n + 1000);
    let read = |_: &str, name: &str| {
        let n: u32 = name.trim_start_matches("./").parse().unwrap();
        Ok((name.to_owned(), if n < 64 { text(n) } else { "version: 1".to_owned() }))
    };
    let policy = Policy::compile("./0", &text(0), &read).unwrap();
    assert_eq!(policy.fingerprint(), Policy::compile("./0", &text(0), &read).unwrap().fingerprint());
}

/// What is included is granted beside everything else: a policy that is made for looking must not let others be led astray.
#[test]
fn no_shipped_policy_but_admin_grants_a_race() {
    for (name, _, _) in shipped::SHIPPED {
        let races = Policy::shipped(name).unwrap().covers(&Demand::Flag(Flag::RacyCopy));
        assert_eq!(races, name == "admin", "{name}");
    }
}

/// Compares with a file of the repository.
fn golden(path: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
    }
    let stored = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(stored == text, "{path} is not current: read the difference after UPDATE_GOLDEN=1");
}
