//! Private Docker engines: own network and mount namespace, own socket, data root and exec root.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::http;
use crate::packages::{Suite, unpacked};
use crate::scratch::wait_until;

/// A running engine; dropping it stops it and removes everything it made.
#[derive(Debug)]
pub struct Engine {
    home: PathBuf,
    netns: String,
    supervisor: Child,
}

impl Engine {
    /// Starts the suite's engine and waits until it answers.
    #[must_use]
    pub fn start(suite: Suite) -> Self {
        Self::start_with(suite, &[])
    }

    /// [`Engine::start`] with further flags of dockerd.
    #[must_use]
    pub fn start_with(suite: Suite, flags: &[&str]) -> Self {
        Self::start_on(suite, &[], flags)
    }

    /// [`Engine::start_with`] on a host with these sysctls of the network namespace, as in `net.ipv4.ip_forward=0`.
    #[must_use]
    pub fn start_on(suite: Suite, sysctls: &[&str], flags: &[&str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        needs_root();
        let bin = programs(suite);
        let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let home = PathBuf::from(format!("/var/tmp/seawall-engine-{name}"));
        let netns = format!("seawall-{name}");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("support/engine.sh");
        // a process group of its own: Ctrl-C reaches the tests alone, and their end reaches the supervisor through its input
        let supervisor = Command::new("bash")
            .args([&script, &home])
            .arg(&netns)
            .arg(bin)
            .args(flags)
            .env("SYSCTLS", sysctls.join(" "))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("bash {}: {e}", script.display()));
        let mut engine = Self { home, netns, supervisor };
        engine.wait_until_it_answers();
        engine
    }

    /// The engine's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.home.join("docker.sock")
    }

    /// The engine's address as `--engine` and `DOCKER_HOST` take it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The name of the engine's network namespace, as `ip netns` has it.
    #[must_use]
    pub fn netns(&self) -> &str {
        &self.netns
    }

    /// What the machine has of the engine while it runs: its folder and its namespace, which `ip netns` keeps as a file.
    #[must_use]
    pub fn traces(&self) -> [PathBuf; 2] {
        [self.home.clone(), Path::new("/run/netns").join(&self.netns)]
    }

    /// A command that runs in the engine's network namespace.
    pub fn inside(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.netns)).arg(program);
        command
    }

    /// A plain request straight to the engine.
    pub fn call(&self, method: &str, target: &str, body: Option<&Value>) -> http::Response {
        http::call(&self.socket(), method, target, body)
    }

    /// The JSON of a `GET` that the engine answers with 200; otherwise nothing.
    #[must_use]
    pub fn json(&self, target: &str) -> Option<Value> {
        let answer = self.call("GET", target, None);
        (answer.status == 200).then(|| answer.json())
    }

    fn wait_until_it_answers(&mut self) {
        let (socket, log) = (self.socket(), self.home.join("log"));
        wait_until("the private engine answers GET /_ping", Duration::from_secs(60), || {
            let gone = self.supervisor.try_wait().unwrap();
            assert!(gone.is_none(), "the engine's supervisor ended: {gone:?}");
            let dead = fs::read_to_string(&log).is_ok_and(|text| text.contains("failed to start daemon"));
            assert!(!dead, "the engine did not start:\n{}", fs::read_to_string(&log).unwrap_or_default());
            socket.exists() && http::try_call(&socket, "GET", "/_ping").is_ok_and(|answer| answer.status == 200)
        });
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        drop(self.supervisor.wait());
    }
}

/// Engines need namespaces, mounts and cgroups.
fn needs_root() {
    assert!(rustix::process::getuid().is_root(), "private engines need root: run the tests as root (tests/run does)");
    for tool in ["ip", "nsenter", "unshare", "iptables", "dpkg", "apt-get", "pgrep"] {
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|dir| dir.join(tool).exists());
        assert!(found, "private engines need `{tool}`: run tests/run, which installs what is missing");
    }
}

/// A folder with the programs of one suite's engine. dockerd and containerd of trixie run on an older libc, its runc does not:
/// every engine has bookworm's.
fn programs(suite: Suite) -> PathBuf {
    let (root, base) = (unpacked(suite), unpacked(Suite::Bookworm));
    let bin = root.parent().unwrap().join("bin");
    fs::create_dir_all(&bin).unwrap();
    let own = ["usr/sbin/dockerd", "usr/sbin/docker-proxy", "usr/bin/containerd", "usr/bin/containerd-shim-runc-v2", "usr/bin/ctr"];
    let shared = [("runc", "usr/sbin/runc"), ("docker-init", "usr/bin/tini-static")];
    let links = own.iter().map(|path| (Path::new(path).file_name().unwrap().to_str().unwrap(), root.join(path)));
    for (name, target) in links.chain(shared.iter().map(|(name, path)| (*name, base.join(path)))) {
        assert!(target.exists(), "the {} packages have no {}", suite.name(), target.display());
        let link = bin.join(name);
        // another test process may be making the same links
        drop(symlink(&target, &link));
        assert!(link.exists(), "{} points nowhere", link.display());
    }
    bin
}
