//! `docker-compose.yml`: the proxy as a hardened container beside a job that uses its socket, on a private engine.

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use tests::cli;
use tests::engine::Engine;
use tests::image::busybox;
use tests::packages::Suite;
use tests::scratch::{must, root};

#[test]
fn job_runs_beside_the_hardened_container() {
    must(Command::new(root().join("proxy/image")).env("BUSYBOX", busybox()).env("DOCKER_CLI", cli::program()));
    let engine = Engine::start(Suite::Bookworm);
    let compose = |args: &[&str]| {
        let mut command = Command::new("docker-compose");
        let owner = std::fs::metadata(engine.socket()).unwrap().gid();
        command
            .current_dir(root())
            .args(["--project-name", "seawall-test", "--no-ansi"])
            .args(args)
            .env("DOCKER_HOST", engine.address())
            .env("DOCKER_SOCKET", engine.socket())
            .env("DOCKER_GID", owner.to_string());
        must(&mut command)
    };
    compose(&["build"]);
    let shown = compose(&["up", "--no-build", "--exit-code-from", "job"]);
    assert!(shown.contains("hello from what the job built"), "{shown}");
    assert!(shown.contains("the job is done"), "{shown}");
    assert!(!shown.contains("Pulling"), "{shown}");
    // older and newer docker-compose name containers differently, and label them alike
    let label = tests::record::escape(r#"{"label":["com.docker.compose.service=seawall"]}"#);
    let found = engine.json(&format!("/containers/json?all=1&filters={label}")).unwrap();
    let id = found[0]["Id"].as_str().unwrap();
    let proxy = engine.json(&format!("/containers/{id}/json")).unwrap();
    assert_eq!(proxy["HostConfig"]["ReadonlyRootfs"], true, "the container is hardened: {proxy}");
    compose(&["down", "--volumes"]);
}
