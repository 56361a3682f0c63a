//! What nobody configured: which engine, and where to listen.

use std::path::{Path, PathBuf};

use super::address::{Address, same_socket};
use super::{Client, Config, ConfigError, Draft, Engine, EngineTls, ListenConfig, Matcher, OWNER_ONLY, PolicyRef, SHIPPED_DEFAULT};

/// The part of the environment that decides defaults. Read once, at the edge.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `DOCKER_CERT_PATH`: the folder with `ca.pem`, `cert.pem` and `key.pem` (docker CLI, `cli/command/context.go`).
    pub docker_cert_path: Option<PathBuf>,
    /// `DOCKER_HOST`: the engine that the docker CLI would use.
    pub docker_host: Option<String>,
    /// `DOCKER_TLS_VERIFY`: whether a `tcp://` of `DOCKER_HOST` is behind TLS (anything but empty).
    pub docker_tls_verify: bool,
    /// `HOME`, for `~/.docker`.
    pub home: Option<PathBuf>,
    /// Whether we run as root (effective uid 0).
    pub root: bool,
    /// `XDG_RUNTIME_DIR`: the user's own folder of sockets (XDG Base Directory 0.8).
    pub xdg_runtime_dir: Option<PathBuf>,
}

impl Environment {
    /// The environment of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            docker_cert_path: set("DOCKER_CERT_PATH").map(PathBuf::from),
            docker_host: set("DOCKER_HOST").and_then(|host| host.into_string().ok()),
            docker_tls_verify: set("DOCKER_TLS_VERIFY").is_some(),
            home: set("HOME").map(PathBuf::from),
            root: rustix::process::geteuid().is_root(),
            xdg_runtime_dir: set("XDG_RUNTIME_DIR").map(PathBuf::from),
        }
    }
}

impl Draft {
    /// Fills what neither the file nor a flag said: the engine, the listener, the policy of everyone.
    ///
    /// `exists` says whether there is a socket at a path; this function itself looks at nothing.
    ///
    /// # Errors
    /// No engine to be found, a `DOCKER_HOST` that we cannot use, or no place for a socket of our own.
    pub fn complete(self, env: &Environment, exists: impl Fn(&Path) -> bool) -> Result<Config, ConfigError> {
        let listen = if self.listen.is_empty() { vec![own_listener(env)?] } else { self.listen };
        let engine = match self.engine {
            Some(engine) => engine,
            None => find_engine(env, &listen, exists)?,
        };
        if let Engine::Unix(path) = &engine
            && is_ours(path, &listen)
        {
            return Err(ConfigError::flags(
                format!("`unix://{}` is both the engine and our own listener", path.display()),
                "give seawall a socket of its own with `--listen` or `listen`",
            ));
        }
        let clients = if self.clients.is_empty() { vec![everyone(self.policy)] } else { self.clients };
        Ok(Config { engine, listen, clients, audit: self.audit, limits: self.limits })
    }
}

fn everyone(policy: Option<PolicyRef>) -> Client {
    Client { name: None, matcher: Matcher::default(), policy: policy.unwrap_or_else(|| PolicyRef::Shipped(SHIPPED_DEFAULT.to_owned())), tenant: None }
}

fn own_listener(env: &Environment) -> Result<ListenConfig, ConfigError> {
    let folder = match &env.xdg_runtime_dir {
        _ if env.root => PathBuf::from("/run"),
        Some(folder) if folder.is_absolute() => folder.clone(),
        _ => {
            return Err(ConfigError::flags("there is no `XDG_RUNTIME_DIR` to put a socket into", "say where with `--listen unix:///path`"));
        }
    };
    Ok(ListenConfig::Unix { path: folder.join("seawall/docker.sock"), group: None, mode: OWNER_ONLY })
}

fn is_ours(path: &Path, listen: &[ListenConfig]) -> bool {
    listen.iter().any(|listener| match listener {
        ListenConfig::Unix { path: ours, .. } => same_socket(path, ours),
        ListenConfig::Activated { .. } | ListenConfig::Tls { .. } => false,
    })
}

/// `DOCKER_HOST`, the rootless engine's socket, the engine's, Podman's of this user, Podman's: the first that is there
/// and is not ours (after `export DOCKER_HOST=…` of a former run, it would be).
fn find_engine(env: &Environment, listen: &[ListenConfig], exists: impl Fn(&Path) -> bool) -> Result<Engine, ConfigError> {
    if let Some(host) = &env.docker_host {
        let engine = docker_host(host, env)?;
        if !matches!(&engine, Engine::Unix(path) if is_ours(path, listen)) {
            return Ok(engine);
        }
    }
    let of_user = |socket: &str| env.xdg_runtime_dir.as_ref().map(|folder| folder.join(socket));
    let places = [
        of_user("docker.sock"),
        Some(PathBuf::from("/var/run/docker.sock")),
        of_user("podman/podman.sock"),
        Some(PathBuf::from("/run/podman/podman.sock")),
    ];
    let mut there = places.iter().flatten().filter(|path| !is_ours(path, listen));
    there.find(|path| exists(path)).map(|path| Engine::Unix(path.clone())).ok_or_else(|| {
        let looked = places.iter().flatten().map(|path| format!("`{}`", path.display())).collect::<Vec<_>>();
        ConfigError::flags(
            format!("found no engine: `DOCKER_HOST` does not name one, and nothing is at {}", looked.join(", ")),
            "start the engine, or say where it is with `--engine unix:///path`; on Debian, `apt-get install docker.io` \
             brings one",
        )
    })
}

/// `DOCKER_HOST` as the docker CLI reads it (`opts/hosts.go`), as far as we can use it.
fn docker_host(host: &str, env: &Environment) -> Result<Engine, ConfigError> {
    let unusable = |why: &str| {
        let help = "say where the engine is with `--engine unix:///path`, or in the file";
        Err(ConfigError::flags(format!("cannot use `DOCKER_HOST={host}`: {why}"), help))
    };
    if let Some(at) = host.strip_prefix("tcp://") {
        if !env.docker_tls_verify {
            return unusable("it is TCP without TLS (`DOCKER_TLS_VERIFY` is not set)");
        }
        let Some(at) = super::address::host_port(at.trim_end_matches('/')) else {
            return unusable("expected `tcp://host:port`");
        };
        let folder = match (&env.docker_cert_path, &env.home) {
            (Some(folder), _) => folder.clone(),
            (None, Some(home)) => home.join(".docker"),
            (None, None) => {
                return unusable("there is no `DOCKER_CERT_PATH` with the certificates for it");
            }
        };
        let tls = EngineTls { certificate: folder.join("cert.pem"), key: folder.join("key.pem"), ca: folder.join("ca.pem") };
        return Ok(Engine::Tls { at, tls });
    }
    match host.parse::<Address>() {
        Ok(Address::Unix(path)) => Ok(Engine::Unix(path)),
        Ok(Address::Activated | Address::Tls(_)) | Err(_) => unusable("expected `unix:///path` or `tcp://host:port`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env() -> Environment {
        Environment { xdg_runtime_dir: Some("/run/user/1000".into()), ..Environment::default() }
    }

    fn unix(path: &str) -> ListenConfig {
        ListenConfig::Unix { path: path.into(), group: None, mode: OWNER_ONLY }
    }

    #[test]
    fn finds_the_first_engine_that_is_there() {
        let host = |host: &str| Some(host.to_owned());
        for (name, docker_host, there, expected) in [
            ("DOCKER_HOST first", host("unix:///a.sock"), &["/var/run/docker.sock"][..], Some("/a.sock")),
            ("rootless", None, &["/run/user/1000/docker.sock", "/var/run/docker.sock"], Some("/run/user/1000/docker.sock")),
            ("system", None, &["/var/run/docker.sock", "/run/podman/podman.sock"], Some("/var/run/docker.sock")),
            (
                "podman of the user",
                None,
                &["/run/user/1000/podman/podman.sock", "/run/podman/podman.sock"],
                Some("/run/user/1000/podman/podman.sock"),
            ),
            ("podman", None, &["/run/podman/podman.sock"], Some("/run/podman/podman.sock")),
            ("nothing", None, &[], None),
            ("not ourselves", host("unix:///run/user/1000/seawall/docker.sock"), &["/var/run/docker.sock"], Some("/var/run/docker.sock")),
            ("plain TCP", host("tcp://10.0.0.1:2375"), &["/var/run/docker.sock"], None),
            ("ssh", host("ssh://me@host"), &["/var/run/docker.sock"], None),
        ] {
            let env = Environment { docker_host, ..env() };
            let config = Draft::default().complete(&env, |path| there.iter().any(|t| Path::new(t) == path));
            assert_eq!(config.ok().map(|c| c.engine), expected.map(|p| Engine::Unix(p.into())), "{name}");
        }
    }

    #[test]
    fn takes_an_engine_behind_tls_from_dockers_own_variables() {
        let env = Environment {
            docker_host: Some("tcp://build.example.org:2376".into()),
            docker_tls_verify: true,
            docker_cert_path: Some("/certs".into()),
            ..env()
        };
        let config = Draft::default().complete(&env, |_| false).unwrap();
        assert!(matches!(config.engine, Engine::Tls { at, tls } if at.port == 2376 && tls.ca == Path::new("/certs/ca.pem")));
    }

    #[test]
    fn listens_where_only_this_user_can() {
        for (name, env, expected) in [
            ("user", env(), Some("/run/user/1000/seawall/docker.sock")),
            ("root", Environment { root: true, ..env() }, Some("/run/seawall/docker.sock")),
            ("nowhere", Environment::default(), None),
        ] {
            let config = Draft::default().complete(&env, |_| true);
            assert_eq!(config.ok().map(|c| c.listen), expected.map(|p| vec![unix(p)]), "{name}");
        }
    }

    #[test]
    fn refuses_an_engine_that_is_our_own_listener() {
        let draft = Draft {
            engine: Some(Engine::Unix("/var/run/seawall/docker.sock".into())),
            listen: vec![unix("/run/seawall/docker.sock")],
            ..Draft::default()
        };
        let error = draft.complete(&env(), |_| true).expect_err("a loop");
        assert!(error.to_string().contains("both the engine and our own listener"), "{error}");
    }

    #[test]
    fn everyone_gets_ci_when_nobody_is_listed() {
        let config = Draft::default().complete(&env(), |_| true).unwrap();
        assert_eq!(config.clients.len(), 1);
        assert_eq!(config.clients[0].policy, PolicyRef::Shipped("ci".into()));
    }
}
