//! `netcheck`: the command line and the shell around the pure library.

mod commands;
mod shell;

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::run()
}
