//! `docker-compose.yml` on a private engine: the proxy as a hardened container beside a job that uses its socket, and netcheck behind
//! a proxy of its own.
#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test fails where something does not hold")]

use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tests::cli::{self, Docker};
use tests::engine::Engine;
use tests::image::{self, busybox};
use tests::packages::Suite;
use tests::record::escape;
use tests::scratch::{must, root, wait_until};

/// The compose file's project on an engine.
struct Project {
    engine: Engine,
}

impl Project {
    fn new() -> Self {
        must(Command::new(root().join("proxy/image")).env("BUSYBOX", busybox()).env("DOCKER_CLI", cli::program()).env("PROFILE", "dev"));
        Self { engine: Engine::start(Suite::Bookworm) }
    }

    fn compose(&self, args: &[&str]) -> String {
        let mut command = Command::new("docker-compose");
        let owner = std::fs::metadata(self.engine.socket()).unwrap().gid();
        command
            .current_dir(root())
            .args(["--project-name", "seawall-test", "--no-ansi"])
            .args(args)
            .env("DOCKER_HOST", self.engine.address())
            .env("DOCKER_SOCKET", self.engine.socket())
            .env("DOCKER_GID", owner.to_string());
        must(&mut command)
    }

    /// What the engine says of a service's container.
    fn container(&self, service: &str) -> Value {
        // older and newer docker-compose name containers differently, and label them alike
        let label = escape(&format!(r#"{{"label":["com.docker.compose.service={service}"]}}"#));
        let found = self.engine.json(&format!("/containers/json?all=1&filters={label}")).unwrap();
        let id = found[0]["Id"].as_str().unwrap();
        self.engine.json(&format!("/containers/{id}/json")).unwrap()
    }
}

#[test]
fn job_and_netcheck_run_beside_hardened_containers() {
    let project = Project::new();
    project.compose(&["build"]);
    let shown = project.compose(&["up", "--no-build", "--exit-code-from", "job"]);
    assert!(shown.contains("hello from what the job built"), "{shown}");
    assert!(shown.contains("the job is done"), "{shown}");
    assert!(!shown.contains("Pulling"), "{shown}");
    assert!(!shown.contains("netcheck"), "it is only started by its name: {shown}");
    assert_eq!(project.container("seawall")["HostConfig"]["ReadonlyRootfs"], true);
    netcheck_reports(&project);
    project.compose(&["--profile", "netcheck", "down", "--volumes"]);
}

/// It tells what it found, and later what changed: a container that got a way around the rules.
fn netcheck_reports(project: &Project) {
    let docker = Docker::at(&project.engine.address());
    image::import(&project.engine, "cifixture", "1", "good");
    for network in ["left", "right"] {
        docker.ok(&["network", "create", network]);
        docker.ok(&["run", "--detach", "--name", &format!("of-{network}"), "--network", network, "cifixture:1", "sleep", "100000"]);
    }
    project.compose(&["build", "netcheck", "netcheck-engine"]);
    project.compose(&["up", "--no-build", "--detach", "netcheck"]);
    let container = project.container("netcheck");
    let host = &container["HostConfig"];
    assert_eq!(host["CapDrop"][0], "ALL", "{host}");
    assert_eq!((&host["ReadonlyRootfs"], &host["Privileged"]), (&true.into(), &false.into()), "{host}");
    let said = |text: &str| {
        wait_until(&format!("netcheck says {text:?}"), Duration::from_secs(60), || {
            let logs = docker.run(&["logs", container["Id"].as_str().unwrap()]);
            assert!(project.container("netcheck")["State"]["Running"] == true, "netcheck ended: {}{}", logs.stdout, logs.stderr);
            assert!(!logs.stderr.contains("Error"), "{}", logs.stderr);
            logs.stdout.contains(text)
        });
    };
    said("conforms: ");
    must(project.engine.inside("iptables".as_ref()).args(["-I", "DOCKER-USER", "-j", "ACCEPT"]));
    said("opened: of-left \u{2192} of-right");
    docker.ok(&["rm", "--force", "of-left", "of-right"]);
}
