//! The stock docker CLI, as people run it.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::packages::{Suite, unpacked};
use crate::scratch::{Scratch, wait_for, wait_until};

/// No command of a test takes longer than this, in seconds.
const LIMIT_S: &str = "20";

/// A docker CLI that is pointed at an engine.
#[derive(Debug)]
pub struct Docker {
    environment: Vec<(String, PathBuf)>,
    uid: Option<u32>,
    program: PathBuf,
    _config: Scratch,
}

/// What a command did.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit status; -1 for a signal.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Docker {
    /// The CLI with this `DOCKER_HOST`.
    #[must_use]
    pub fn at(address: &str) -> Self {
        let config = Scratch::new("cli");
        let host = PathBuf::from(address.replacen("tls://", "tcp://", 1));
        let environment = vec![("DOCKER_HOST".to_owned(), host), ("DOCKER_CONFIG".to_owned(), config.path().to_owned())];
        Self { environment, uid: None, program: program().to_owned(), _config: config }
    }

    /// The CLI with this `DOCKER_HOST`, and a folder for `DOCKER_CERT_PATH`.
    #[must_use]
    pub fn over_tls(address: &str, certificates: &Path) -> Self {
        let mut docker = Self::at(address);
        docker.environment.push(("DOCKER_TLS_VERIFY".to_owned(), PathBuf::from("1")));
        docker.environment.push(("DOCKER_CERT_PATH".to_owned(), certificates.to_owned()));
        docker
    }

    /// The same, run by another user.
    #[must_use]
    pub fn as_user(mut self, uid: u32) -> Self {
        self.uid = Some(uid);
        self
    }

    /// The same, with the CLI of Docker 20.10.
    #[must_use]
    pub fn of_20_10(mut self) -> Self {
        self.program = unpacked(Suite::Bookworm).join("usr/bin/docker");
        self
    }

    /// The variables that point any Docker client at the same engine.
    #[must_use]
    pub fn environment(&self) -> &[(String, PathBuf)] {
        &self.environment
    }

    /// A command, not yet started. BuildKit is off: it is not mediated.
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--foreground", "--kill-after=1", LIMIT_S]);
        if let Some(uid) = self.uid {
            command.args(["setpriv", &format!("--reuid={uid}"), "--clear-groups"]);
        }
        command.arg(&self.program).args(args).env("DOCKER_BUILDKIT", "0").envs(self.environment.iter().cloned());
        command.env_remove("DOCKER_CONTEXT").stdin(Stdio::null());
        command
    }

    /// Runs a command.
    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Outcome {
        let mut command = self.command(args);
        Outcome::from(command.output().unwrap_or_else(|e| panic!("{command:?}: {e}")))
    }

    /// Runs a command that must succeed; gives its trimmed standard output.
    pub fn ok<S: AsRef<OsStr>>(&self, args: &[S]) -> String {
        let outcome = self.run(args);
        let shown = shown(args);
        assert_eq!(outcome.code, 0, "docker {shown}\n{}{}", outcome.stdout, outcome.stderr);
        outcome.stdout.trim().to_owned()
    }

    /// Runs a command that must fail; gives its standard error.
    pub fn fails<S: AsRef<OsStr>>(&self, args: &[S]) -> String {
        let outcome = self.run(args);
        assert_ne!(outcome.code, 0, "docker {} was not refused:\n{}", shown(args), outcome.stdout);
        outcome.stderr
    }

    /// Runs a command with standard input, which is closed after `input`.
    pub fn with_input<S: AsRef<OsStr>>(&self, args: &[S], input: &[u8]) -> Outcome {
        let mut child = self.command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
        let writer = thread::spawn(move || drop(stdin.write_all(&input)));
        let outcome = Outcome::from(child.wait_with_output().unwrap());
        writer.join().unwrap();
        outcome
    }

    /// Starts a command that goes on, with pipes.
    pub fn spawn<S: AsRef<OsStr>>(&self, args: &[S]) -> Running {
        Running::new(&mut self.command(args))
    }

    /// Starts a command on a pseudo terminal, whose other end is the pipes.
    pub fn spawn_on_pty(&self, args: &[&str]) -> Running {
        let line = format!("{} {}", self.program.display(), args.join(" "));
        let mut command = Command::new("timeout");
        command.args(["--foreground", "--kill-after=1", LIMIT_S, "script", "--quiet", "--return", "--command", &line, "/dev/null"]);
        command.envs(self.environment.iter().cloned());
        Running::new(&mut command)
    }
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

fn shown<S: AsRef<OsStr>>(args: &[S]) -> String {
    args.iter().map(|arg| arg.as_ref().to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// A command that is running. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    output: Arc<Mutex<String>>,
}

impl Running {
    fn new(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let output = Arc::<Mutex<String>>::default();
        let sources: [Box<dyn Read + Send>; 2] = [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for source in sources {
            let into = Arc::clone(&output);
            thread::spawn(move || {
                let mut reader = BufReader::new(source);
                while let Ok(piece @ [_, ..]) = reader.fill_buf() {
                    let count = piece.len();
                    into.lock().unwrap().push_str(&String::from_utf8_lossy(piece));
                    reader.consume(count);
                }
            });
        }
        Self { child, output }
    }

    /// Everything it wrote so far, standard error too.
    #[must_use]
    pub fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    /// Waits until its output contains `text`.
    pub fn wait_for(&mut self, text: &str) {
        let what = format!("a command writes {text:?}");
        wait_until(&what, Duration::from_secs(20), || {
            let ended = self.child.try_wait().unwrap();
            let seen = self.output().contains(text);
            assert!(seen || ended.is_none(), "{what}: it ended with {ended:?}\n{}", self.output());
            seen
        });
    }

    /// Writes to its standard input.
    pub fn write(&mut self, text: &str) {
        self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Closes its standard input.
    pub fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Interrupts it, as Ctrl-C does.
    pub fn interrupt(&self) {
        let _ = rustix::process::kill_process_group(Pid::from_child(&self.child), Signal::INT);
    }

    /// Waits for its end; gives the exit status.
    pub fn wait(&mut self) -> i32 {
        wait_for("a command ends", Duration::from_secs(30), || self.child.try_wait().unwrap()).code().unwrap_or(-1)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = kill_process(Pid::from_child(&self.child), Signal::KILL);
        drop(self.child.wait());
    }
}

/// The machine's own docker CLI when it is a 28, otherwise Debian's.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let right = |program: &PathBuf| {
            let version = Command::new(program).arg("--version").output();
            version.is_ok_and(|output| output.stdout.starts_with(b"Docker version 28."))
        };
        let own = std::env::split_paths(&path).map(|folder| folder.join("docker")).find(right);
        own.unwrap_or_else(|| unpacked(Suite::Sid).join("usr/bin/docker"))
    })
}
