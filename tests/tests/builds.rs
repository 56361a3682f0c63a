//! Builds take from no image that their tenant may not have, and give no name that is not theirs to give, at whatever moment one looks.
#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test fails where something does not hold")]

use std::io::Write;
use std::process::Command;

use serde_json::{Value, json};
use tests::cli::Docker;
use tests::http::over;
use tests::image;
use tests::packages::Suite;
use tests::registry::{ADDRESS, Registry};
use tests::scratch::{Scratch, must};
use tests::town::{IMAGE, Town};
use tests::world::LABEL;

/// A repository that the policy grants by its name.
const TEAM: &str = "registry.example.com/team";

fn context(dockerfile: &str) -> Scratch {
    let context = Scratch::new("context");
    context.write("Dockerfile", dockerfile);
    context
}

fn build(docker: &Docker, tag: &str, dockerfile: &str) -> tests::cli::Outcome {
    docker.run(&["build", "--tag", tag, context(dockerfile).path().to_str().unwrap()])
}

/// One piece of a chunked body.
fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

#[test]
fn a_build_that_waits_keeps_what_it_was_judged_with() {
    let town = Town::new(Suite::Trixie);
    let _ = town.furnish();
    image::tag(&town.engine, IMAGE, &format!("{TEAM}/base"), "1");
    let folder = context(&format!("FROM {TEAM}/base:1\nRUN test ! -e /tag\n"));
    // More than anything between here and the engine holds: when it is gone, what came before it has been judged.
    folder.write("ballast", "x".repeat(32 << 20));
    let archive = folder.join("../archive.tar");
    must(Command::new("tar").arg("-C").arg(folder.path()).arg("-cf").arg(&archive).args(["Dockerfile", "ballast"]));
    let bytes = std::fs::read(&archive).unwrap();
    std::fs::remove_file(&archive).unwrap();
    let (first, last) = bytes.split_at(bytes.len() - 4096);

    let mut bob = town.bob_raw.connect().unwrap();
    bob.sock.set_read_timeout(None).unwrap();
    bob.write_all(b"POST /v1.41/build?t=bob-app HTTP/1.1\r\nHost: docker\r\nContent-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n")
        .unwrap();
    bob.write_all(&chunk(first)).unwrap();
    bob.flush().unwrap();

    let meanwhile = build(&town.alice, "bob-app", &format!("FROM {IMAGE}\n"));
    assert!(meanwhile.stderr.contains("docker.io/library/bob-app:latest is about to be given by another request"), "{}", meanwhile.stderr);
    image::tag(&town.engine, "alice-app", &format!("{TEAM}/base"), "1");

    let answer = over(&mut bob, &[chunk(last), chunk(b"")].concat()).unwrap();
    assert!(answer.text().contains("Successfully tagged bob-app:latest"), "{}", answer.text());
    let after = build(&town.alice, "bob-app", &format!("FROM {IMAGE}\n"));
    assert!(after.stderr.contains("which an image of somebody else has"), "{}", after.stderr);
    // The same build begins anew with an image that is not bob's.
    assert_ne!(build(&town.bob, "bob-app", &format!("FROM {TEAM}/base:1\n")).code, 0);
}

#[test]
fn triggers_of_a_base_image_take_nothing_that_is_not_granted() {
    let town = Town::new(Suite::Trixie);
    let _ = town.furnish();
    let base = |tag: &str, trigger: &str| {
        image::import_with(&town.engine, &format!("{TEAM}/base"), tag, &[&format!("ONBUILD {trigger}")]);
        build(&town.bob, "bob-app", &format!("FROM {TEAM}/base:{tag}\n"))
    };
    let thief = base("thief", "COPY --from=alice-app /tag /tag");
    assert!(thief.stderr.contains("a trigger of registry.example.com/team/base:thief: `--from` in ONBUILD"), "{}", thief.stderr);
    let fetch = base("fetch", "ADD http://169.254.169.254/x /x");
    assert!(fetch.stderr.contains("fetch of `http://169.254.169.254/x`"), "{}", fetch.stderr);
    let plain = base("plain", "RUN echo triggered > /triggered");
    assert_eq!(plain.code, 0, "{}", plain.stderr);
    assert_eq!(town.bob.ok(&["run", "--rm", "bob-app", "cat", "/triggered"]), "triggered");
}

#[test]
fn what_a_build_leaves_belongs_to_its_tenant_on_docker_20_10() {
    what_a_build_leaves_belongs_to_its_tenant(Suite::Bookworm);
}

#[test]
fn what_a_build_leaves_belongs_to_its_tenant_on_docker_26_1() {
    what_a_build_leaves_belongs_to_its_tenant(Suite::Trixie);
}

/// Stages before the last, and steps before one that fails.
fn what_a_build_leaves_belongs_to_its_tenant(suite: Suite) {
    let town = Town::new(suite);
    let images = || town.engine.json("/images/json?all=1").unwrap().as_array().cloned().unwrap_or_default();
    let before: Vec<Value> = images().iter().map(|image| image["Id"].clone()).collect();
    let stages = format!("FROM {IMAGE} AS first\nRUN echo one > /one\nFROM scratch\nCOPY --from=first /one /one\n");
    assert_eq!(build(&town.alice, "alice-stages", &stages).code, 0);
    assert_ne!(build(&town.alice, "alice-fails", &format!("FROM {IMAGE}\nRUN echo two > /two\nRUN false\n")).code, 0);
    let made: Vec<Value> = images().into_iter().filter(|image| !before.contains(&image["Id"])).collect();
    assert!(made.len() > 4, "{made:?}");
    let tenant = made[0]["Labels"][LABEL].as_str().unwrap().to_owned();
    for image in &made {
        assert_eq!((&image["Labels"][LABEL], &image["Labels"]["seawall.kind"]), (&json!(tenant), &json!("image")), "{image}");
    }
    // Hers to remove, all of them.
    let dangling = town.alice.ok(&["images", "--quiet", "--filter", "dangling=true"]);
    assert!(dangling.lines().count() >= 2, "{dangling}");
    assert_eq!(town.bob.ok(&["images", "--quiet", "--filter", "dangling=true"]), "");
    for id in dangling.lines() {
        town.bob.fails(&["rmi", id]);
        town.alice.ok(&["rmi", id]);
    }
}

#[test]
fn base_images_are_pulled_and_looked_at_before_the_build_on_docker_20_10() {
    base_images_are_pulled_and_looked_at(Suite::Bookworm);
}

#[test]
fn base_images_are_pulled_and_looked_at_before_the_build_on_docker_26_1() {
    base_images_are_pulled_and_looked_at(Suite::Trixie);
}

fn base_images_are_pulled_and_looked_at(suite: Suite) {
    let town = Town::with_images(suite, &format!("  - {ADDRESS}/team/*\n"));
    let _ = town.furnish();
    let registry = Registry::start(&town.engine);
    let publish = |name: &str, change: &str| {
        let id = image::import_with(&town.engine, "published", name, &[change]);
        registry.publish(&town.engine, &id, &format!("team/{name}"), "1");
        let removed = town.engine.call("DELETE", &format!("/images/published:{name}"), None);
        assert_eq!(removed.status, 200, "{}", removed.text());
    };
    publish("thief", "ONBUILD COPY --from=alice-app /tag /tag");
    publish("base", "ENV FROM_REGISTRY=first");

    let thief = build(&town.bob, "bob-app", &format!("FROM {ADDRESS}/team/thief:1\n"));
    assert!(thief.stderr.contains("`--from` in ONBUILD"), "{}", thief.stderr);
    let missing = build(&town.bob, "bob-app", &format!("FROM {ADDRESS}/team/missing:1\n"));
    assert!(missing.code != 0 && missing.stderr.contains("team/missing"), "{}", missing.stderr);
    let says = |flags: &[&str]| {
        let folder = context(&format!("FROM {ADDRESS}/team/base:1\nRUN echo $FROM_REGISTRY > /says\n"));
        town.bob.ok(&[&["build", "--tag", "bob-app"], flags, &[folder.path().to_str().unwrap()]].concat());
        town.bob.ok(&["run", "--rm", "bob-app", "cat", "/says"])
    };
    assert_eq!(says(&[]), "first");
    // `publish` takes the engine's name away; a build with `--pull` takes what the registry has now, one without what is there.
    publish("base", "ENV FROM_REGISTRY=second");
    assert_eq!(says(&["--pull"]), "second");
    assert_eq!(says(&[]), "second");
}
