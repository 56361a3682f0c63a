//! Images without a registry: a busybox, imported.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::engine::Engine;
use crate::http::{Response, over};
use crate::packages::{Suite, unpacked};
use crate::record::escape;
use crate::scratch::{Scratch, must};

/// The static busybox of Debian.
#[must_use]
pub fn busybox() -> PathBuf {
    let root = unpacked(Suite::Bookworm);
    ["usr/bin/busybox", "bin/busybox"].iter().map(|path| root.join(path)).find(|path| path.exists()).expect("no busybox in its package")
}

/// A tar of a root file system: busybox with a link for each applet, and root's account.
#[must_use]
pub fn root_tar() -> Vec<u8> {
    let root = Scratch::new("rootfs");
    for folder in ["bin", "etc", "tmp", "root", "proc", "sys", "dev", "var"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::copy(busybox(), root.join("bin/busybox")).unwrap();
    let applets = must(Command::new(busybox()).arg("--list"));
    for applet in applets.lines().filter(|name| *name != "busybox") {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    root.write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
    root.write("etc/group", "root:x:0:\n");
    let tar = Command::new("tar").arg("-C").arg(root.path()).args(["-c", "."]).output().unwrap();
    assert!(tar.status.success(), "tar: {}", String::from_utf8_lossy(&tar.stderr));
    tar.stdout
}

/// Imports the busybox image straight into the engine as `name:tag`; gives its id. `mark` makes images of different content.
pub fn import(engine: &Engine, name: &str, tag: &str, mark: &str) -> String {
    import_with(engine, name, tag, &[&format!("ENV MARK={mark}")])
}

/// The same, with instructions of a Dockerfile that change its configuration.
pub fn import_with(engine: &Engine, name: &str, tag: &str, changes: &[&str]) -> String {
    let changes = ["CMD [\"sh\"]", "ENV PATH=/bin"].iter().chain(changes);
    let query: String = changes.map(|change| format!("&changes={}", escape(change))).collect();
    let target = format!("/images/create?fromSrc=-&repo={}&tag={tag}{query}", escape(name));
    let answer = post_tar(engine, &target, &root_tar());
    assert_eq!(answer.status, 200, "import {name}:{tag}: {}", answer.text());
    let image = engine.json(&format!("/images/{name}:{tag}/json")).unwrap_or_else(|| panic!("no {name}:{tag} after its import"));
    image["Id"].as_str().unwrap().to_owned()
}

/// Sends a tar to the engine itself.
pub fn post_tar(engine: &Engine, target: &str, tar: &[u8]) -> Response {
    let head = format!("POST {target} HTTP/1.1\r\nHost: docker\r\nContent-Type: application/x-tar\r\nContent-Length: {}\r\n\r\n", tar.len());
    let stream = std::os::unix::net::UnixStream::connect(engine.socket()).unwrap();
    over(stream, &[head.as_bytes(), tar].concat()).unwrap()
}

/// Tags an image straight on the engine.
pub fn tag(engine: &Engine, image: &str, repo: &str, tag: &str) {
    let answer = engine.call("POST", &format!("/images/{image}/tag?repo={}&tag={tag}", escape(repo)), Some(&Value::Null));
    assert_eq!(answer.status, 201, "tag {repo}:{tag}: {}", answer.text());
}
