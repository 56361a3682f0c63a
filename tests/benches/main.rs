//! What Seawall costs, with the direct socket and HAProxy beside it in the same run. `tests/bench` runs it.
//!
//! ```text
//!   CPU 1: this program, generating load        CPU 0: the proxy under test ──▶ a stub engine
//! ```
//!
//! Rates drift with whatever else the machine does; the CPU time of the proxy's process is the figure to compare. Everything goes over
//! unix sockets and loopback, is bounded in count and time, and stops by itself.

mod http;
mod load;
mod micro;
mod stub;
mod table;
mod target;

use std::path::PathBuf;

use anyhow::{Context, bail};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str =
    "usage: bench micro | bench run --seawall BINARY [--haproxy BINARY] [--rounds N] [--only TEXT]... | bench stub UNIX [TLS-PORT PKI]";

/// What `bench run` is told.
#[derive(Debug, Default)]
struct Options {
    seawall: PathBuf,
    haproxy: Option<PathBuf>,
    /// Each scenario is measured so often; the median counts.
    rounds: usize,
    /// Parts of the names of scenarios; none: all of them.
    only: Vec<String>,
}

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("micro") => micro::run(),
        Some("stub") => stub::run(&args.collect::<Vec<_>>()),
        Some("run") => {
            let options = options(args)?;
            runtime()?.block_on(load::run(&options))
        }
        _ => bail!(USAGE),
    }
}

fn options(mut args: impl Iterator<Item = String>) -> anyhow::Result<Options> {
    let mut options = Options { rounds: 1, ..Options::default() };
    while let Some(flag) = args.next() {
        let value = args.next().with_context(|| format!("{flag} needs a value\n{USAGE}"))?;
        match flag.as_str() {
            "--seawall" => options.seawall = value.into(),
            "--haproxy" => options.haproxy = Some(value.into()),
            "--rounds" => options.rounds = value.parse().context("--rounds")?,
            "--only" => options.only.push(value),
            other => bail!("{other}: {USAGE}"),
        }
    }
    Ok(options)
}

fn runtime() -> std::io::Result<tokio::runtime::LocalRuntime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build_local(tokio::runtime::LocalOptions::default())
}
