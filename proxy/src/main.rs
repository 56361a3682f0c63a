//! `seawall`: a filtered, per-client Docker engine.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use proxy::{commands, config};

/// A filtered, per-client Docker engine.
#[derive(Debug, Parser)]
#[command(name = "seawall", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a filtered engine on a socket of its own.
    Serve(config::Flags),
    /// Say which version this is.
    Version,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(flags) => commands::serve::run(&flags),
        Command::Version => Ok(()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("seawall: {error:#}");
            ExitCode::FAILURE
        }
    }
}
