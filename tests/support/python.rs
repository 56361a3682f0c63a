//! docker-py, in a virtual environment of its own.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use crate::cli::{Docker, Outcome};
use crate::scratch::{cache, must};

/// What pip installs.
const PACKAGES: [&str; 1] = ["docker==7.1.0"];

/// Runs a Python script with docker-py, pointed at the same engine as `docker`.
pub fn run(docker: &Docker, script: &str, args: &[&str]) -> Outcome {
    let mut command = Command::new("timeout");
    command.arg("120").arg(interpreter()).args(["-c", script]).args(args).envs(docker.environment().iter().cloned());
    // the machine's idea of who to trust would win over DOCKER_CERT_PATH
    command.env_remove("REQUESTS_CA_BUNDLE").env_remove("CURL_CA_BUNDLE");
    Outcome::from(command.output().unwrap_or_else(|e| panic!("{command:?}: {e}")))
}

fn interpreter() -> PathBuf {
    let venv = cache().join("venv");
    let (python, done) = (venv.join("bin/python"), venv.join("installed"));
    fs::create_dir_all(&venv).unwrap();
    let lock = File::create(venv.join("lock")).unwrap();
    lock.lock().unwrap();
    if fs::read_to_string(&done).is_ok_and(|list| list == PACKAGES.join(" ")) {
        return python;
    }
    must(Command::new("python3").args(["-m", "venv"]).arg(&venv));
    must(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(PACKAGES));
    fs::write(done, PACKAGES.join(" ")).unwrap();
    python
}
