//! The `seawall` binary, as a user starts it.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::http;
use crate::scratch::{Scratch, root, wait_for, wait_until};

/// The policy that the corpora's README names.
pub const CORPUS_POLICY: &str = "version: 1\ninclude: [ci]\nimages:\n  - docker.io/library/cifixture\n  - \"registry.example.com/**\"\n";

/// The binary: `$SEAWALL_BIN`, or what cargo makes of this checkout in the profile of the test itself.
#[must_use]
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(given) = std::env::var_os("SEAWALL_BIN") {
            return PathBuf::from(given);
        }
        // target/PROFILE/deps/TEST; nothing is built again when `cargo build --workspace` was up to date
        let test = std::env::current_exe().unwrap();
        let profile = test.ancestors().nth(2).unwrap();
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--workspace", "--bins", "--quiet", "--locked"]).current_dir(root());
        if profile.ends_with("release") {
            build.arg("--release");
        }
        crate::scratch::must(&mut build);
        let binary = profile.join("seawall");
        assert!(binary.exists(), "cargo made no {}", binary.display());
        binary
    })
}

/// `netcheck`, made beside it.
#[must_use]
pub fn netcheck() -> PathBuf {
    let program = binary().with_file_name("netcheck");
    assert!(program.exists(), "there is no {}", program.display());
    program
}

/// A running proxy. It is killed on drop.
#[derive(Debug)]
pub struct Seawall {
    child: Child,
    socket: PathBuf,
    stdout: Arc<Mutex<Vec<String>>>,
    stderr: Arc<Mutex<String>>,
    _home: Scratch,
}

impl Seawall {
    /// `seawall serve` in front of `engine` with one unix socket and the text of a policy.
    #[must_use]
    pub fn serve(engine: &str, policy: &str) -> Self {
        let home = Scratch::new("proxy");
        let file = home.write("policy.yaml", policy);
        let socket = home.join("docker.sock");
        let listen = format!("unix://{}", socket.display());
        let args = ["serve", "--engine", engine, "--listen", &listen, "--policy", file.to_str().unwrap()];
        Self::start(&args, socket.clone(), home)
    }

    /// `seawall serve --config` with this `seawall.yaml`; `${HOME}` in it is the folder of its own, where its socket
    /// `docker.sock` must be listened on.
    #[must_use]
    pub fn configured(yaml: &str) -> Self {
        let home = Scratch::new("proxy");
        let file = home.write("seawall.yaml", yaml.replace("${HOME}", home.path().to_str().unwrap()));
        let socket = home.join("docker.sock");
        Self::start(&["serve", "--config", file.to_str().unwrap()], socket, home)
    }

    /// Starts the binary with these arguments and waits until `socket` answers `GET /_ping`. `home` lives as long as the proxy.
    #[must_use]
    pub fn start(args: &[&str], socket: PathBuf, home: Scratch) -> Self {
        let mut command = Command::new(binary());
        command.args(args).env_remove("DOCKER_HOST").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let stdout = lines(child.stdout.take().unwrap());
        let stderr = text(child.stderr.take().unwrap());
        let mut proxy = Self { child, socket, stdout, stderr, _home: home };
        proxy.wait_until_ready(args);
        proxy
    }

    fn wait_until_ready(&mut self, args: &[&str]) {
        let deadline = Instant::now() + Duration::from_secs(15);
        // any answer will do: whether `_ping` is granted is the policy's business
        while !(self.socket.exists() && http::try_call(&self.socket, "GET", "/_ping").is_ok()) {
            if let Some(status) = self.child.try_wait().unwrap() {
                thread::sleep(Duration::from_millis(50)); // for the reader of its last words, nothing depends on it
                panic!("seawall {args:?} ended with {status}:\n{}", self.stderr());
            }
            assert!(Instant::now() < deadline, "seawall {args:?} does not answer at {}:\n{}", self.socket.display(), self.stderr());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The unix socket it listens on.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The socket as `DOCKER_HOST` takes it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// A plain request.
    pub fn call(&self, method: &str, target: &str, body: Option<&Value>) -> http::Response {
        http::call(&self.socket, method, target, body)
    }

    /// The JSON lines on standard output so far: the audit records.
    #[must_use]
    pub fn audit(&self) -> Vec<Value> {
        self.stdout.lock().unwrap().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for an audit record that `is` it.
    pub fn wait_for_audit(&self, what: &str, mut is: impl FnMut(&Value) -> bool) -> Value {
        wait_for(&format!("an audit record of {what}"), Duration::from_secs(5), || self.audit().into_iter().find(&mut is))
    }

    /// What it wrote to standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its resident memory, in bytes.
    #[must_use]
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Sends it SIGTERM.
    pub fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// Waits until it has ended.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let mut status = None;
        wait_until("seawall ends", limit, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Seawall {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if thread::panicking() {
            eprintln!("seawall's standard error:\n{}", self.stderr());
        }
    }
}

fn lines(from: impl Read + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let kept = Arc::<Mutex<Vec<String>>>::default();
    let into = Arc::clone(&kept);
    thread::spawn(move || BufReader::new(from).lines().map_while(Result::ok).for_each(|line| into.lock().unwrap().push(line)));
    kept
}

fn text(from: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let kept = Arc::<Mutex<String>>::default();
    let into = Arc::clone(&kept);
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut text = into.lock().unwrap();
            text.push_str(&line);
            text.push('\n');
        }
    });
    kept
}
