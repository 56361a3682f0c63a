//! What can be typed. Exit status: 0 conforms, 1 violation, 2 unknown where isolation is required, 3 usage or policy error, 4 could
//! not collect, 5 model and kernel disagree.

mod baseline;
mod check;
mod explain;
mod output;
mod policy;
mod snapshot;
mod source;
mod verify;
mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use miette::miette;
use netcheck::analyse;
use policies::isolation::IsolationError;

use crate::shell::engine::{Address, Endpoint};
use crate::shell::tls::Files;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The host conforms, or what was asked for was done.
    Conforms,
    /// Something is not known where the policy requires isolation.
    Unknown,
    /// A flow contradicts the policy.
    Violation,
    /// The kernel says otherwise than the model.
    Disagreement,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Conforms => 0,
            Outcome::Violation => 1,
            Outcome::Unknown => 2,
            Outcome::Disagreement => 5,
        })
    }
}

/// Why a command could not do what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The host could not be read.
    Collect(miette::Report),
    /// A policy that is wrong.
    Policy(IsolationError),
    /// Wrong arguments, or a file that is not what it should be.
    Usage(miette::Report),
}

impl Failure {
    fn report(self) -> ExitCode {
        match self {
            Self::Collect(report) => {
                output::complain(&report);
                ExitCode::from(4)
            }
            Self::Policy(error) => {
                output::complain_of_policy(&error);
                ExitCode::from(3)
            }
            Self::Usage(report) => {
                output::complain(&report);
                ExitCode::from(3)
            }
        }
    }
}

/// Computes which packets can really pass between the containers of this host, the host and outside, and compares that with a policy.
///
/// Without a command it checks this host against the built-in policy `docker-default`.
#[derive(Debug, Parser)]
#[command(name = "netcheck", version, about, after_help = EXIT_CODES, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    check: CheckArguments,
}

const EXIT_CODES: &str = "Exit status: 0 conforms, 1 violation, 2 unknown where isolation is required, \
3 usage or policy error, 4 could not collect, 5 model and kernel disagree";

#[derive(Debug, Subcommand)]
enum Command {
    /// Remember what passes, and tell later what changed
    #[command(subcommand)]
    Baseline(BaselineCommand),
    /// Compare what can pass with a policy
    Check(CheckArguments),
    /// Answer one question: the path hop by hop, or what closes it
    Explain(ExplainArguments),
    /// Write a policy to start from, or look for mistakes in one
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Write what can be read from this host to a file; everything else can be done elsewhere, unprivileged, from it
    Snapshot(SnapshotArguments),
    /// Rebuild the host in throwaway namespaces, send packets there, and compare what arrives with what is computed
    Verify(VerifyArguments),
    /// Check again and again, on a clock and when something changes, and tell what changed
    Watch(WatchArguments),
}

#[derive(Debug, Subcommand)]
pub(crate) enum BaselineCommand {
    /// Write what passes now to a file
    Save {
        #[command(flatten)]
        source: SourceArguments,
        /// What a sender is able to do
        #[arg(long, value_enum, default_value_t = Attacker::Process)]
        attacker: Attacker,
        /// Write to this file instead of the standard output
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Tell what changed since a file was saved; exit status 1 when something opened
    Diff {
        /// A file of `baseline save`
        #[arg(value_name = "FILE")]
        baseline: PathBuf,
        #[command(flatten)]
        source: SourceArguments,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Write a policy that allows what passes now and nothing more
    Init {
        #[command(flatten)]
        source: SourceArguments,
        /// Write to this file instead of the standard output
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Read a policy, and say where it is wrong
    Check {
        /// The policy
        #[arg(value_name = "FILE")]
        file: String,
        /// Look also for rules that are about nobody in this snapshot; exit status 1 when one of them is required
        #[arg(long, value_name = "SNAPSHOT")]
        from: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct WatchArguments {
    #[command(flatten)]
    engine: EngineArguments,
    /// The policy: a file, or docker-default or strict
    #[arg(long, value_name = "FILE", default_value = "docker-default")]
    policy: String,
    /// What a sender is able to do; the policy's, or process, without it
    #[arg(long, value_enum)]
    attacker: Option<Attacker>,
    /// Check at least this often, as in 60s or 5m
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    every: Duration,
    /// Serve /metrics for Prometheus here, as in 127.0.0.1:9464
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,
    /// Run this with /bin/sh when something changed; the result is on its standard input as JSON
    #[arg(long, value_name = "CMD")]
    on_change: Option<String>,
}

/// `60s`, `5m`, `1h`, or seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    let seconds = match text.strip_prefix(digits) {
        Some("" | "s") => 1,
        Some("m") => 60,
        Some("h") => 3600,
        _ => return Err("expected a time like 60s, 5m or 1h".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "expected a time like 60s, 5m or 1h".to_owned())?;
    number.checked_mul(seconds).filter(|seconds| *seconds > 0).map(Duration::from_secs).ok_or_else(|| "too short or too long".to_owned())
}

/// Where the containers' names come from.
#[derive(Debug, Clone, Args)]
pub(crate) struct EngineArguments {
    /// The engine to ask: unix:///path, tls://host:port, or none. Without it: DOCKER_HOST, the rootless socket, /var/run/docker.sock, Podman's
    #[arg(long, value_name = "ADDR")]
    engine: Option<Address>,
    /// The authority of the engine's certificate; ca.pem in DOCKER_CERT_PATH without it
    #[arg(long, value_name = "FILE")]
    tlscacert: Option<PathBuf>,
    /// The certificate to show the engine; cert.pem in DOCKER_CERT_PATH without it
    #[arg(long, value_name = "FILE")]
    tlscert: Option<PathBuf>,
    /// The key of that certificate; key.pem in DOCKER_CERT_PATH without it
    #[arg(long, value_name = "FILE")]
    tlskey: Option<PathBuf>,
    /// Give the engine so long for each answer, as in 30s or 2m
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    engine_timeout: Duration,
}

impl EngineArguments {
    /// The engine that is meant; none when there is none. Reads certificates, so it comes before privileges are given up.
    pub(crate) fn endpoint(&self) -> Result<Option<Endpoint>, Failure> {
        let given = self.engine.clone().map(Ok);
        let address = given.unwrap_or_else(Address::find).map_err(|error| Failure::Usage(miette!("{error}")))?;
        let files = Files { ca: self.tlscacert.clone(), certificate: self.tlscert.clone(), key: self.tlskey.clone() };
        address.endpoint(&files, self.engine_timeout).map_err(|error| Failure::Usage(miette!("{error}")))
    }
}

/// What is looked at: this host, or a file.
#[derive(Debug, Clone, Args)]
pub(crate) struct SourceArguments {
    #[command(flatten)]
    engine: EngineArguments,
    /// Use this snapshot instead of reading the host
    #[arg(long, value_name = "SNAPSHOT", conflicts_with = "engine")]
    from: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    #[command(flatten)]
    source: SourceArguments,
    /// The policy: a file, or docker-default or strict
    #[arg(long, value_name = "FILE", default_value = "docker-default")]
    policy: String,
    /// What a sender is able to do; the policy's, or process, without it
    #[arg(long)]
    attacker: Option<Attacker>,
    /// How to write the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Write to this file instead of the standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArguments {
    /// Who sends: a container, host or outside; a container that is called like one of these is container:host
    #[arg(value_name = "A")]
    sender: String,
    /// Who receives: the same, or an address
    #[arg(value_name = "B")]
    receiver: String,
    /// tcp/80, udp/53, icmp or icmpv6
    #[arg(value_name = "PROTO/PORT")]
    service: explain::Service,
    #[command(flatten)]
    source: SourceArguments,
    /// What the sender is able to do
    #[arg(long, value_enum, default_value_t = Attacker::Process)]
    attacker: Attacker,
    /// How to write the answer
    #[arg(long, value_enum, default_value_t = ExplainFormat::Text)]
    format: ExplainFormat,
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotArguments {
    #[command(flatten)]
    engine: EngineArguments,
    /// Write to this file instead of the standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    #[command(flatten)]
    source: SourceArguments,
    /// Rebuild this snapshot instead of the one that is computed from: tells whether what was true there is true here
    #[arg(long, value_name = "SNAPSHOT")]
    against: Option<PathBuf>,
    /// What a sender is able to do; what only net-admin can do is not sent
    #[arg(long, value_enum, default_value_t = Attacker::Process)]
    attacker: Attacker,
    /// Send at most this many packets, evenly chosen
    #[arg(long, value_name = "NUMBER", default_value_t = 20_000)]
    packets: usize,
    /// How to write the result
    #[arg(long, value_enum, default_value_t = ExplainFormat::Text)]
    format: ExplainFormat,
    /// Write to this file instead of the standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What a sender is able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Attacker {
    /// Open sockets
    Process,
    /// Write any packet onto its links (CAP_NET_RAW, the engine's default)
    NetRaw,
    /// Change its own addresses, routes and rules (CAP_NET_ADMIN)
    NetAdmin,
}

impl From<Attacker> for analyse::Attacker {
    fn from(attacker: Attacker) -> Self {
        match attacker {
            Attacker::Process => Self::Process,
            Attacker::NetRaw => Self::NetRaw,
            Attacker::NetAdmin => Self::NetAdmin,
        }
    }
}

/// How to write the result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A matrix and the violations, for a terminal
    Text,
    /// Everything; schema/check.json describes it
    Json,
    /// One page for a browser
    Html,
    /// For code scanning
    Sarif,
    /// For CI
    Junit,
    /// For a node exporter's textfile collector
    Prometheus,
    /// A picture of the networks
    Svg,
}

/// How to write an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExplainFormat {
    /// For a terminal
    Text,
    /// For programs
    Json,
}

/// Parses the arguments and does what they say.
pub(crate) fn run() -> ExitCode {
    output::keep_lines_whole();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are errors to clap, and go to the standard output.
            if error.use_stderr() {
                output::say(error.render().to_string().trim_end());
                return ExitCode::from(3);
            }
            // Nobody is left to tell when the terminal is gone.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
    };
    let result = match arguments.command {
        None => check::run(&arguments.check),
        Some(Command::Baseline(command)) => baseline::run(&command),
        Some(Command::Check(arguments)) => check::run(&arguments),
        Some(Command::Explain(arguments)) => explain::run(&arguments),
        Some(Command::Policy(command)) => policy::run(&command),
        Some(Command::Snapshot(arguments)) => snapshot::run(&arguments),
        Some(Command::Verify(arguments)) => verify::run(&arguments),
        Some(Command::Watch(arguments)) => watch::run(&arguments),
    };
    match result {
        Ok(outcome) => outcome.into(),
        Err(failure) => failure.report(),
    }
}
