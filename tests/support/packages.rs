//! Debian packages of other suites, unpacked beside the system's own.
//!
//! Each suite has an apt state of its own, so that neither the system's package lists nor its engine change. Only the mirror's
//! address and the archive's keys are the system's.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::scratch::{cache, must};

/// A Debian suite, oldest first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Suite {
    /// Docker 20.10, API 1.41.
    Bookworm,
    /// Docker 26.1, API 1.45.
    Trixie,
    /// Only for its docker CLI 28.
    Sid,
}

impl Suite {
    /// The suite's name in the archive.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Sid => "sid",
        }
    }

    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Bookworm => &["docker.io", "containerd", "runc", "tini", "busybox-static", "docker-registry"],
            Self::Trixie => &["docker.io", "docker-cli", "containerd"],
            Self::Sid => &["docker-cli"],
        }
    }
}

/// The root below which the suite's packages are unpacked; fetches them when they are not there. Safe to call from many test
/// processes at once.
#[must_use]
pub fn unpacked(suite: Suite) -> PathBuf {
    let home = cache().join("engines").join(suite.name());
    let (root, done) = (home.join("root"), home.join("unpacked"));
    fs::create_dir_all(&home).unwrap();
    let lock = File::create(home.join("lock")).unwrap();
    lock.lock().unwrap();
    if fs::read_to_string(&done).is_ok_and(|list| list == suite.packages().join(" ")) {
        return root;
    }
    let debs = download(suite, &home);
    for deb in debs {
        must(Command::new("dpkg").arg("-x").arg(deb).arg(&root));
    }
    fs::write(done, suite.packages().join(" ")).unwrap();
    root
}

fn download(suite: Suite, home: &Path) -> Vec<PathBuf> {
    let (apt, debs) = (home.join("apt"), home.join("debs"));
    drop(fs::remove_dir_all(&debs));
    for folder in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(apt.join(folder)).unwrap();
    }
    fs::create_dir_all(&debs).unwrap();
    let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let source = format!("deb [signed-by={keys}] {} {} main\n", mirror(), suite.name());
    fs::write(apt.join("sources.list"), source).unwrap();
    fs::write(apt.join("status"), "").unwrap();
    fs::write(apt.join("apt.conf"), configuration(&apt)).unwrap();
    let apt_get = || {
        let mut command = Command::new("apt-get");
        command.env("APT_CONFIG", apt.join("apt.conf")).current_dir(&debs);
        command
    };
    must(apt_get().arg("update"));
    must(apt_get().arg("download").args(suite.packages()));
    fs::read_dir(&debs).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// `Check-Valid-Until` is off because a mirror's unstable suite may be a snapshot; signatures are still checked.
fn configuration(apt: &Path) -> String {
    let apt = apt.display();
    format!(
        "Dir::State \"{apt}\"; Dir::State::Lists \"{apt}/lists\"; Dir::State::status \"{apt}/status\"; Dir::Cache \"{apt}/cache\";\n\
         Dir::Etc::sourcelist \"{apt}/sources.list\"; Dir::Etc::sourceparts \"-\";\n\
         APT::Sandbox::User \"root\"; Acquire::Check-Valid-Until \"false\";\n"
    )
}

/// The mirror that the machine's own sources name.
fn mirror() -> String {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    files.extend(fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().filter_map(|e| Some(e.ok()?.path())));
    files.sort();
    let found = files.iter().filter_map(|f| fs::read_to_string(f).ok()).find_map(|text| text.lines().find_map(mirror_in));
    found.expect("no Debian mirror in /etc/apt/sources.list*: the engines for the tests are Debian packages")
}

fn mirror_in(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let first = words.next()?;
    let address = words.find(|word| word.contains("://"))?;
    let plain = (first == "URIs:" || first == "deb") && address.trim_end_matches('/').ends_with("/debian");
    plain.then(|| address.to_owned())
}
