//! Two tenants, alice and bob, in front of one engine.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cli::Docker;
use crate::engine::Engine;
use crate::image;
use crate::packages::Suite;
use crate::pki::{Pki, Tls, free_port};
use crate::proxy::{CORPUS_POLICY, Seawall};
use crate::scratch::Scratch;

/// The image that everyone may run.
pub const IMAGE: &str = "cifixture:1";

/// An engine behind a proxy, with a client for each of two certificates, and one for a unix user.
#[derive(Debug)]
pub struct Town {
    /// The engine itself.
    pub engine: Engine,
    /// What stands in front of it.
    pub proxy: Seawall,
    /// A docker CLI with alice's certificate.
    pub alice: Docker,
    /// A plain client with alice's certificate.
    pub alice_raw: Tls,
    /// A docker CLI with bob's certificate.
    pub bob: Docker,
    /// A plain client with bob's certificate.
    pub bob_raw: Tls,
    _pki: Pki,
}

impl Town {
    /// Starts all of it.
    #[must_use]
    pub fn new(suite: Suite) -> Self {
        Self::with_images(suite, "")
    }

    /// The same, where more images are granted: items of the policy's list, a line each.
    #[must_use]
    pub fn with_images(suite: Suite, images: &str) -> Self {
        let engine = Engine::start(suite);
        image::import(&engine, "cifixture", "1", "good");
        let (pki, port) = (Pki::new(), free_port());
        let policy = pki.path().join("policy.yaml");
        std::fs::write(&policy, format!("{CORPUS_POLICY}{images}")).unwrap();
        let proxy = Seawall::configured(&format!(
            "engine: {}\nlisten:\n  - unix://${{HOME}}/docker.sock\n{}clients:\n  - name: people\n    match: {{ uri: \"seawall:client/*\" }}\n    policy: {policy}\n  \
             - name: job\n    match: {{ uid: 0 }}\n    policy: {policy}\n    tenant: job\n",
            engine.address(),
            pki.listener(port),
            policy = policy.display(),
        ));
        let client = |folder: &PathBuf| (Docker::over_tls(&format!("tcp://127.0.0.1:{port}"), folder), Tls::new(port, &pki, Some(folder)));
        let (alice, alice_raw) = client(&pki.issue("alice", &[]));
        let (bob, bob_raw) = client(&pki.issue("bob", &[]));
        Self { engine, proxy, alice, alice_raw, bob, bob_raw, _pki: pki }
    }

    /// What bob gets for a plain request.
    #[must_use]
    pub fn bob_gets(&self, method: &str, target: &str, body: Option<&Value>) -> (u16, String) {
        let answer = self.bob_raw.call(method, &format!("/v1.41{target}"), body).unwrap_or_else(|e| panic!("{method} {target}: {e}"));
        (answer.status, answer.text())
    }

    /// Alice's network, volume, image, running container and exec; gives the ids of the container and the exec.
    #[must_use]
    pub fn furnish(&self) -> (String, String) {
        let docker = &self.alice;
        docker.ok(&["network", "create", "alice-net"]);
        docker.ok(&["volume", "create", "alice-vol"]);
        let context = Scratch::new("context");
        context.write("Dockerfile", format!("FROM {IMAGE}\nRUN echo alice-app > /tag\n"));
        docker.ok(&["build", "--tag", "alice-app", context.path().to_str().unwrap()]);
        let id = docker.ok(&[
            "run",
            "--detach",
            "--name",
            "alice-web",
            "--network",
            "alice-net",
            "--volume",
            "alice-vol:/v",
            "--env",
            "SECRET=alice-secret",
            IMAGE,
            "sleep",
            "100000",
        ]);
        let exec =
            self.alice_raw.call("POST", &format!("/v1.41/containers/{id}/exec"), Some(&json!({ "Cmd": ["id"], "AttachStdout": true }))).unwrap();
        assert_eq!(exec.status, 201, "{}", exec.text());
        (id, exec.json()["Id"].as_str().unwrap().to_owned())
    }
}
