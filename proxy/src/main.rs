//! `seawall`: a filtered, per-client Docker engine.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use proxy::commands::{cert, policy, serve};
use proxy::config::{self, Config};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A filtered, per-client Docker engine: stands in front of docker.sock and forwards only what each client's policy grants.
#[derive(Debug, Parser)]
#[command(name = "seawall", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make certificates: a small authority in a folder.
    Cert(cert::Args),
    /// Look at policies, check them, and explain decisions.
    Policy(policy::Args),
    /// Serve a filtered engine. Without flags: finds the engine, opens a socket of its own, applies the policy `ci`.
    Serve(Box<config::Flags>),
    /// Say which version this is, and which API versions it speaks.
    Version,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(report) => {
            eprintln!("seawall: {report}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a command: whether it went well, or what to say.
fn run(command: Command) -> Result<bool, String> {
    let chain = |error: anyhow::Error| format!("{error:#}");
    let mut out = std::io::stdout();
    match command {
        Command::Cert(args) => cert::run(&args, &mut out.lock()).map(|()| true).map_err(|error| chain(error.into())),
        Command::Policy(args) => policy::run(&args, &mut out.lock()).map_err(chain),
        Command::Serve(flags) => {
            tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_target(false).without_time().init();
            let config = Config::of_command_line(&flags).map_err(|error| format!("{:?}", miette::Report::new(error)))?;
            serve::run(&config).map(|()| true).map_err(chain)
        }
        Command::Version => {
            let (min, max) = (engine::Version::MIN, engine::Version::MAX);
            writeln!(out, "seawall {} (Engine API {min} to {max})", env!("CARGO_PKG_VERSION")).map(|()| true).map_err(|error| error.to_string())
        }
    }
}
