//! Containers are judged a second time when they are started, as the engine has them by then.
#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test fails where something does not hold")]

use serde_json::json;
use tests::cli::Docker;
use tests::engine::Engine;
use tests::image;
use tests::packages::Suite;
use tests::proxy::Seawall;

const POLICY: &str =
    "version: 1\ninclude: [ci]\nimages: [docker.io/library/cifixture]\nallow: [privileged, host-pid, host-ipc, unmasked-paths, writable-kernel]\n";
const IMAGE: &str = "cifixture:1";

#[test]
fn containers_without_labels_of_their_own_start_on_docker_20_10() {
    // Its runc wants capabilities for `--privileged` that a test's machine may not have.
    containers_without_labels_of_their_own_start(Suite::Bookworm, &["--pid=host", "--ipc=host"]);
}

#[test]
fn containers_without_labels_of_their_own_start_on_docker_26_1() {
    containers_without_labels_of_their_own_start(Suite::Trixie, &["--pid=host", "--ipc=host", "--privileged"]);
}

fn containers_without_labels_of_their_own_start(suite: Suite, options: &[&str]) {
    let engine = Engine::start(suite);
    image::import(&engine, "cifixture", "1", "good");
    let proxy = Seawall::serve(&engine.address(), POLICY);
    let docker = Docker::at(&proxy.address());
    for option in options {
        docker.ok(&["create", "--name", "unlabelled", option, IMAGE]);
        let host = engine.json("/containers/unlabelled/json").unwrap()["HostConfig"].clone();
        assert_eq!(host["SecurityOpt"], json!(["label=disable"]), "{option}: the engine's own");
        docker.ok(&["rm", "unlabelled"]);
        let heard = docker.ok(&["run", "--rm", option, IMAGE, "echo", "heard"]);
        assert_eq!(heard.trim(), "heard", "{option}");
    }
    // Nobody is granted what they ask for themselves.
    let refused = docker.fails(&["run", "--rm", "--privileged", "--security-opt", "label=disable", IMAGE, "true"]);
    assert!(refused.contains("selinux: [disable]"), "{refused}");
}
