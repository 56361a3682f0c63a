//! What can be typed. Exit status: 0 conforms, 1 violation, 2 unknown where isolation is required, 3 usage or policy error, 4 could
//! not collect, 5 model and kernel disagree.

mod output;
mod snapshot;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::shell::engine::Address;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The host conforms, or what was asked for was done.
    Conforms,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Conforms => 0,
        })
    }
}

/// Why a command could not do what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Wrong arguments, or a file that is not what it should be.
    Usage(miette::Report),
    /// The host could not be read.
    Collect(miette::Report),
}

/// Computes which packets can really pass between the containers of this host, the host and outside, and compares that with a policy.
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

const EXIT_CODES: &str = "Exit status: 0 conforms, 1 violation, 2 unknown where isolation is required, \
3 usage or policy error, 4 could not collect, 5 model and kernel disagree";

#[derive(Debug, Subcommand)]
enum Command {
    /// Write what can be read from this host to a file; everything else can be done elsewhere, unprivileged, from it
    Snapshot(SnapshotArguments),
}

/// Where the containers' names come from.
#[derive(Debug, Clone, Args)]
pub(crate) struct EngineArguments {
    /// The engine to ask: unix:///path, or none. Without it: DOCKER_HOST, the rootless socket, /var/run/docker.sock, Podman's
    #[arg(long, value_name = "ADDR")]
    engine: Option<Address>,
}

impl EngineArguments {
    pub(crate) fn address(&self) -> Address {
        self.engine.clone().unwrap_or_else(Address::find)
    }
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotArguments {
    #[command(flatten)]
    engine: EngineArguments,
    /// Write to this file instead of the standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Parses the arguments and does what they say.
pub(crate) fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are errors to clap, and go to the standard output.
            let status = if error.use_stderr() { 3 } else { 0 };
            let _ = error.print();
            return ExitCode::from(status);
        }
    };
    let result = match arguments.command {
        Some(Command::Snapshot(arguments)) => snapshot::run(&arguments),
        None => Ok(Outcome::Conforms),
    };
    match result {
        Ok(outcome) => outcome.into(),
        Err(Failure::Usage(report)) => {
            eprintln!("{report:?}");
            ExitCode::from(3)
        }
        Err(Failure::Collect(report)) => {
            eprintln!("{report:?}");
            ExitCode::from(4)
        }
    }
}
