//! A local registry in the network namespace of a private engine, where dockerd trusts it without TLS.

use std::process::{Child, Stdio};
use std::time::Duration;

use crate::engine::Engine;
use crate::packages::{Suite, unpacked};
use crate::record::escape;
use crate::scratch::{Scratch, wait_until};

/// Where the engine reaches it.
pub const ADDRESS: &str = "127.0.0.1:5000";

/// A running registry; dropping it forgets its images.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    _home: Scratch,
}

impl Registry {
    /// Starts it beside the engine and waits until it answers.
    #[must_use]
    pub fn start(engine: &Engine) -> Self {
        let home = Scratch::new("registry");
        let storage = home.join("storage");
        let config = home.write(
            "config.yml",
            format!(
                "version: 0.1\nlog: {{ level: error }}\nstorage: {{ filesystem: {{ rootdirectory: {} }}, delete: {{ enabled: true }} }}\n\
                 http: {{ addr: {ADDRESS} }}\n",
                storage.display()
            ),
        );
        let program = unpacked(Suite::Bookworm).join("usr/bin/docker-registry");
        let mut command = engine.inside(&program);
        command.arg("serve").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let registry = Self { child, _home: home };
        let port = format!("sport = :{}", ADDRESS.rsplit(':').next().unwrap());
        wait_until("the registry listens", Duration::from_secs(10), || {
            let listening = engine.inside("ss".as_ref()).args(["-Hltn", &port]).output().unwrap();
            listening.stdout.starts_with(b"LISTEN")
        });
        registry
    }

    /// Puts an image of the engine into the registry as `name:tag`, and takes the engine's name for it away.
    pub fn publish(&self, engine: &Engine, image: &str, name: &str, tag: &str) {
        let repo = format!("{ADDRESS}/{name}");
        crate::image::tag(engine, image, &repo, tag);
        let push = format!("POST /images/{repo}/push?tag={tag} HTTP/1.1\r\nHost: docker\r\nX-Registry-Auth: e30=\r\nContent-Length: 0\r\n\r\n");
        let stream = std::os::unix::net::UnixStream::connect(engine.socket()).unwrap();
        let answer = crate::http::over(stream, push.as_bytes()).unwrap();
        assert!(answer.status == 200 && answer.text().contains("digest"), "push {repo}:{tag}: {}", answer.text());
        let removed = engine.call("DELETE", &format!("/images/{}:{tag}", escape(&repo).replace("%2F", "/")), None);
        assert_eq!(removed.status, 200, "untag {repo}:{tag}: {}", removed.text());
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
