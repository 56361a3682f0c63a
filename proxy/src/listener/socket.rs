//! Opening sockets: modes before anybody can connect, stale files only when nothing answers.

use std::fs;
use std::io;
use std::net::ToSocketAddrs as _;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use rustix::process::{Resource, Rlimit};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener};

use super::ListenError;
use crate::config::{HostPort, OWNER_ONLY};

/// Connections that wait for accept(2); the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: u32 = 1024;

/// The file of a unix socket that we made. It is removed with the listener, unless it is no longer ours.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = |meta: &fs::Metadata| (meta.dev(), meta.ino()) == (self.device, self.inode);
        if fs::symlink_metadata(&self.path).is_ok_and(|meta| ours(&meta)) {
            // Nothing more can be done about it here; the next start removes it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A unix socket with its mode and group.
///
/// It is bound under another name, given its mode and group, told to listen, and only then moved to its place: at no moment can
/// somebody connect who may not (between bind(2) and chmod(2), the umask decides).
pub(super) fn unix(path: &Path, group: Option<&str>, mode: u32) -> Result<(UnixListener, SocketFile), ListenError> {
    let failed = |what| move |source: io::Error| ListenError::Io { what, at: format!("unix://{}", path.display()), source };
    let gid = group.map(group_id).transpose()?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    make_folder(folder, mode != OWNER_ONLY).map_err(failed("make the folder of"))?;
    check_place(path)?;
    let fresh = folder.join(format!(".{:x}", std::process::id()));
    // What is left of a process that died here had our number.
    let _ = fs::remove_file(&fresh);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listen = || -> io::Result<_> {
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(&fresh)?)?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(mode))?;
        if let Some(gid) = gid {
            chown(&fresh, None, Some(gid))?;
        }
        rustix::net::listen(&socket, i32::try_from(BACKLOG).unwrap_or(i32::MAX))?;
        let meta = fs::symlink_metadata(&fresh)?;
        fs::rename(&fresh, path)?;
        let file = SocketFile { path: path.to_owned(), device: meta.dev(), inode: meta.ino() };
        Ok((UnixListener::from_std(socket.into())?, file))
    };
    listen().map_err(|source| {
        let _ = fs::remove_file(&fresh);
        failed("listen on")(source)
    })
}

/// Nothing is there, or a socket at which nobody answers. Everything else is left alone.
fn check_place(path: &Path) -> Result<(), ListenError> {
    let failed = |source| ListenError::Io { what: "look at", at: format!("unix://{}", path.display()), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(meta) if !meta.file_type().is_socket() => Err(ListenError::NotASocket(path.to_owned())),
        Ok(_) => match StdUnixStream::connect(path) {
            Ok(_) => Err(ListenError::InUse(path.to_owned())),
            // connect(2): no one listening on the remote address.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Err(error) => Err(failed(error)),
        },
    }
}

/// Makes the folder of a socket where that is ours to do: below `XDG_RUNTIME_DIR`, and `/run/seawall`. It is 0700, or 0711 when
/// others than its owner are to reach a socket in it: the socket's own mode says who may connect.
fn make_folder(folder: &Path, shared: bool) -> io::Result<()> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|base| base.is_absolute());
    let ours = folder.starts_with("/run/seawall")
        || folder.starts_with("/var/run/seawall")
        || runtime.is_some_and(|base| folder.starts_with(&base) && folder != base);
    if !ours {
        return Ok(());
    }
    let mode = if shared { 0o711 } else { 0o700 };
    fs::DirBuilder::new().recursive(true).mode(mode).create(folder)?;
    let meta = fs::metadata(folder)?;
    let made_by_us = meta.uid() == rustix::process::geteuid().as_raw();
    if shared && made_by_us && meta.mode() & 0o001 == 0 {
        fs::set_permissions(folder, fs::Permissions::from_mode(meta.mode() & 0o777 | 0o011))?;
    }
    Ok(())
}

/// The number of a group: itself, or from `/etc/group` (group(5)). Other sources (NSS) would need the C library.
fn group_id(group: &str) -> Result<u32, ListenError> {
    if let Ok(gid) = group.parse() {
        return Ok(gid);
    }
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let number = |line: &str| {
        let mut fields = line.split(':');
        (fields.next() == Some(group)).then(|| fields.nth(1)?.parse().ok()).flatten()
    };
    groups.lines().find_map(number).ok_or_else(|| ListenError::NoGroup(group.to_owned()))
}

/// A TCP socket at the first address of the host that can be had.
pub(super) fn tcp(at: &HostPort) -> Result<TcpListener, ListenError> {
    let failed = |source| ListenError::Io { what: "listen on", at: format!("tls://{at}"), source };
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "the host has no address");
    for address in (at.host.as_str(), at.port).to_socket_addrs().map_err(failed)? {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let listen = |socket: TcpSocket| {
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            socket.listen(BACKLOG)
        };
        match socket.and_then(listen) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

/// A peer that is gone without a word is noticed within 90 seconds (tcp(7)); small answers leave at once.
pub(super) fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(60))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(10))?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    sockopt::set_tcp_user_timeout(stream, 90_000)?;
    Ok(())
}

/// Raises the soft limit of open descriptors to the hard one (getrlimit(2)), and says what it is now. A connection takes two.
///
/// # Errors
/// The kernel refuses.
pub fn raise_descriptor_limit() -> io::Result<Option<u64>> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(limit.maximum)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("seawall-socket-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test]
    async fn a_socket_has_its_mode_and_goes_with_its_listener() {
        let dir = Scratch::new("mode");
        let path = dir.0.join("s");
        for mode in [0o600, 0o660, 0o666] {
            let bound = unix(&path, None, mode).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, mode);
            assert!(StdUnixStream::connect(&path).is_ok(), "{mode:o}");
            assert_eq!(fs::read_dir(&dir.0).unwrap().count(), 1, "{mode:o}");
            drop(bound);
            assert!(!path.exists(), "{mode:o}");
        }
    }

    #[tokio::test]
    async fn a_socket_is_handed_to_its_group() {
        let dir = Scratch::new("group");
        let path = dir.0.join("s");
        let group = rustix::process::getegid().as_raw();
        let _bound = unix(&path, Some(&group.to_string()), 0o660).unwrap();
        let meta = fs::metadata(&path).unwrap();
        assert_eq!((meta.gid(), meta.mode() & 0o777), (group, 0o660));
        assert!(matches!(unix(&path, Some("no such group"), 0o660), Err(ListenError::NoGroup(_))));
    }

    #[tokio::test]
    async fn takes_the_place_of_nobody_who_answers() {
        let dir = Scratch::new("place");
        let path = dir.0.join("s");
        let bound = unix(&path, None, OWNER_ONLY).unwrap();
        assert!(matches!(unix(&path, None, OWNER_ONLY), Err(ListenError::InUse(_))));
        std::mem::drop(bound);

        // Left by a process that died: nothing answers.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let bound = unix(&path, None, OWNER_ONLY).unwrap();

        // Not ours any more: left alone.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "somebody else's").unwrap();
        drop(bound);
        assert!(path.exists());
        assert!(matches!(unix(&path, None, OWNER_ONLY), Err(ListenError::NotASocket(_))));
    }

    #[test]
    fn reads_groups_by_name_and_number() {
        assert_eq!(group_id("4242").unwrap(), 4242);
        assert_eq!(group_id("root").unwrap(), 0);
        assert!(matches!(group_id("no such group"), Err(ListenError::NoGroup(_))));
    }
}
