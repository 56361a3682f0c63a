//! `seawall cert`: the small authority, from the command line.

use std::io::{self, Write};
use std::path::PathBuf;

use crate::cert::{Authority, CLIENT_LIFETIME, CertError, ClientRequest, Issued, Revocation, SERVER_LIFETIME};
use crate::config::{ClientName, DOCKER_TLS_PORT, Period};
use crate::identity::{Serial, UnixSeconds};

/// Make certificates: an authority, the server's, one for each client; and take them back.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    #[command(subcommand)]
    step: Step,
}

const EXAMPLE: &str = "\
Five minutes, from nothing to a client:

  seawall cert init pki
  seawall cert server pki --host build.example.org
  seawall serve --listen tls://0.0.0.0:2376 --tls-cert pki/server/cert.pem --tls-key pki/server/key.pem \\
                --client-ca pki/ca.pem --client-crl pki/crl.pem
  seawall cert issue pki --client alice

`issue` prints the lines that make the docker CLI use it. The key in pki/ca-key.pem can make any client: keep it
where the proxy is not, and copy only pki/ca.pem, pki/crl.pem and pki/server to the proxy.";

#[derive(clap::Subcommand, Clone, Debug)]
enum Step {
    /// Make an authority: DIR/ca.pem, DIR/ca-key.pem and an empty DIR/crl.pem. Never overwrites one.
    Init {
        /// The authority's folder.
        dir: PathBuf,
    },
    /// Make a certificate for a tls:// listener: DIR/server/cert.pem and key.pem.
    Server {
        /// The authority's folder.
        dir: PathBuf,
        /// A name or address by which clients reach the proxy. May be repeated.
        #[arg(long, value_name = "HOST", required = true)]
        host: Vec<String>,
        /// How long it lasts, as in `90d` or `12h`.
        #[arg(long, value_name = "TIME", default_value_t = Period(SERVER_LIFETIME))]
        ttl: Period,
    },
    /// Make a certificate for a client, and print the lines with which the docker CLI uses it.
    Issue {
        /// The authority's folder.
        dir: PathBuf,
        /// The client's name; its files go to DIR/clients/NAME.
        #[arg(long, value_name = "NAME")]
        client: ClientName,
        /// A URI that says who it is, as in `spiffe://example.org/ci/job`. May be repeated. Without --uri and --dns, the
        /// certificate carries `seawall:client/NAME`.
        #[arg(long, value_name = "URI")]
        uri: Vec<String>,
        /// A DNS name that says who it is. May be repeated.
        #[arg(long, value_name = "NAME")]
        dns: Vec<String>,
        /// How long it lasts, as in `2h` or `30d`.
        #[arg(long, value_name = "TIME", default_value_t = Period(CLIENT_LIFETIME))]
        ttl: Period,
    },
    /// Take a certificate back: its serial goes into DIR/crl.pem.
    Revoke {
        /// The authority's folder.
        dir: PathBuf,
        /// The serial number that `issue` printed (`openssl x509 -noout -serial -in cert.pem` shows it too).
        serial: String,
    },
}

/// Why `seawall cert` did not do it.
#[derive(Debug, thiserror::Error)]
pub enum CertCommandError {
    /// The authority refused or failed.
    #[error(transparent)]
    Authority(#[from] CertError),
    /// What was done could not be printed.
    #[error("cannot print what was done")]
    Print(#[from] io::Error),
}

/// Runs `seawall cert`; what was done is written to `out`.
///
/// # Errors
/// Any [`CertError`], or `out` cannot be written.
pub fn run(args: &Args, out: &mut impl Write) -> Result<(), CertCommandError> {
    let now = UnixSeconds::now();
    match &args.step {
        Step::Init { dir } => {
            Authority::init(dir, now)?;
            let dir = dir.display();
            writeln!(out, "made an authority in {dir}; keep {dir}/ca-key.pem secret: it can make any client")?;
            writeln!(out, "next: seawall cert server {dir} --host NAME")?;
        }
        Step::Server { dir, host, ttl } => {
            let issued = Authority::open(dir)?.server(host, ttl.0, now)?;
            describe(out, &issued)?;
        }
        Step::Issue { dir, client, uri, dns, ttl } => {
            let authority = Authority::open(dir)?;
            let request = ClientRequest { name: client.clone(), uris: uri.clone(), dns_names: dns.clone(), ttl: ttl.0 };
            let issued = authority.client(&request, now)?;
            describe(out, &issued)?;
            exports(out, &issued, authority.server_host().as_deref())?;
        }
        Step::Revoke { dir, serial } => {
            let serial: Serial = serial.parse().map_err(CertError::Serial)?;
            match Authority::open(dir)?.revoke(&serial, now)? {
                Revocation::Done => writeln!(out, "revoked {serial}: it is in {}/crl.pem", dir.display())?,
                Revocation::Already => writeln!(out, "{serial} was revoked before")?,
            }
        }
    }
    Ok(())
}

/// Comments, so that the whole output can be given to `eval` or `source`.
fn describe(out: &mut impl Write, issued: &Issued) -> io::Result<()> {
    let until = jiff::Timestamp::from_second(issued.identity.not_after.0).map_or_else(|_| "the end of time".to_owned(), |at| at.to_string());
    let names = issued.identity.uris.iter().chain(&issued.identity.dns_names).cloned().collect::<Vec<_>>().join(" ");
    writeln!(out, "# {}: {names}", issued.folder.display())?;
    writeln!(out, "# serial {} until {until}", issued.identity.serial)
}

/// The three variables of the docker CLI (`cli/command/context.go`, `cli/flags/options.go`).
fn exports(out: &mut impl Write, issued: &Issued, host: Option<&str>) -> io::Result<()> {
    let folder = std::path::absolute(&issued.folder).unwrap_or_else(|_| issued.folder.clone());
    if host.is_none() {
        writeln!(out, "# there is no certificate for a server yet: put the proxy's name for HOST")?;
    }
    writeln!(out, "export DOCKER_HOST=tcp://{}:{DOCKER_TLS_PORT}", host.unwrap_or("HOST"))?;
    writeln!(out, "export DOCKER_TLS_VERIFY=1")?;
    writeln!(out, "export DOCKER_CERT_PATH={}", quoted(&folder.display().to_string()))
}

/// For a shell: as it is when plain, in single quotes otherwise.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-');
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Cert {
        #[command(flatten)]
        args: Args,
    }

    fn cert(args: &[&str]) -> Result<String, String> {
        let parsed = Cert::try_parse_from(std::iter::once(&"cert").chain(args)).map_err(|error| error.to_string())?;
        let mut out = Vec::new();
        run(&parsed.args, &mut out).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_command_line_is_sound() {
        Cert::command().debug_assert();
    }

    #[test]
    fn issue_prints_what_the_docker_cli_needs_and_a_shell_can_read() {
        let dir = std::env::temp_dir().join(format!("seawall-cert-command-{} it's", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let folder = dir.to_str().unwrap();
        cert(&["init", folder]).unwrap();
        let before = cert(&["issue", folder, "--client", "early"]).unwrap();
        assert!(before.contains("\nexport DOCKER_HOST=tcp://HOST:2376\n"), "{before}");
        cert(&["server", folder, "--host", "::1", "--host", "build.example.org"]).unwrap();
        let text = cert(&["issue", folder, "--client", "alice", "--ttl", "2h"]).unwrap();
        let rest: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let path = format!("'{}/clients/alice'", folder.replace('\'', r"'\''"));
        let expected =
            ["export DOCKER_HOST=tcp://[::1]:2376".to_owned(), "export DOCKER_TLS_VERIFY=1".to_owned(), format!("export DOCKER_CERT_PATH={path}")];
        assert_eq!(rest, expected);
        let serial = text.split("serial ").nth(1).unwrap().split(' ').next().unwrap();
        assert!(cert(&["revoke", folder, serial]).unwrap().starts_with("revoked "));
        assert!(cert(&["revoke", folder, serial]).unwrap().contains("was revoked before"));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn says_what_is_wrong() {
        for (args, needle) in [
            (&["issue", "/nonexistent", "--client", "a"][..], "there is no authority in `/nonexistent`"),
            (&["issue", "d", "--client", "../ca"], "is not a name"),
            (&["issue", "d", "--client", "a", "--ttl", "soon"], "is not a length of time"),
            (&["issue", "d"], "--client <NAME>"),
            (&["server", "d"], "--host <HOST>"),
            (&["revoke", "d", "alice"], "is not a serial number"),
        ] {
            let message = cert(args).expect_err("a mistake");
            assert!(message.contains(needle), "{args:?}: {message}");
        }
    }
}
