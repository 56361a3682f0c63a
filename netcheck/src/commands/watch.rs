//! `netcheck watch`: again and again, on a clock and when the kernel says that something changed.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use miette::miette;
use netcheck::analyse::Attacker;
use netcheck::report::{Document, prometheus, text};
use rustix::process::{Pid, Signal, kill_process_group};

use super::output::{Output, complain, say};
use super::{Failure, Outcome, WatchArguments, check};
use crate::shell::events::Events;
use crate::shell::{collect, metrics, privilege};

/// Never ends by itself.
pub(crate) fn run(arguments: &WatchArguments) -> Result<Outcome, Failure> {
    let isolation = check::policy(&arguments.policy)?;
    let metrics = Arc::new(Mutex::new(prometheus::metrics(None, false)));
    if let Some(address) = arguments.metrics {
        let served = metrics::serve(address, Arc::clone(&metrics));
        served.map_err(|error| Failure::Usage(miette!("cannot serve metrics on {address}: {error}")))?;
    }
    let engine = arguments.engine.endpoint()?;
    privilege::keep_only_what_is_needed().map_err(Failure::Collect)?;
    let attacker = arguments.attacker.map(Attacker::from);
    let events = Events::subscribe().map_err(|error| Failure::Collect(miette!("cannot watch the kernel: {error}")))?;
    let mut before: Option<Document> = None;
    loop {
        let collected = collect::collect(engine.as_ref()).map(|snapshot| check::compare(&snapshot, &isolation, attacker).0);
        let known = collected.as_ref().ok().or(before.as_ref());
        *metrics.lock().unwrap_or_else(PoisonError::into_inner) = prometheus::metrics(known, collected.is_ok());
        match collected {
            Ok(document) => {
                tell(arguments, before.as_ref(), &document)?;
                before = Some(document);
            }
            // The engine may be restarting: what was known stays until it is back.
            Err(report) => complain(&report),
        }
        events.wait(arguments.every);
    }
}

/// Prints the first result, and later only what is new.
fn tell(arguments: &WatchArguments, before: Option<&Document>, now: &Document) -> Result<(), Failure> {
    let Some(before) = before else {
        return Output::Standard.write(text::document(now).as_bytes());
    };
    let Some(news) = text::news(before, now) else { return Ok(()) };
    Output::Standard.write(news.as_bytes())?;
    if let Some(command) = &arguments.on_change
        && let Err(why) = serde_json::to_vec(now).map_err(|error| error.to_string()).and_then(|json| notify(command, json, PATIENCE))
    {
        say(&format!("`{command}` {why}"));
    }
    Ok(())
}

/// A command that is told has so long: the host is not looked at meanwhile.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a command with this on its standard input. One that does not end in time is killed, with all that it has started.
fn notify(command: &str, input: Vec<u8>, patience: Duration) -> Result<(), String> {
    let not_run = |error: std::io::Error| format!("could not be run: {error}");
    let mut child = Command::new("/bin/sh").args(["-c", command]).stdin(Stdio::piped()).process_group(0).spawn().map_err(not_run)?;
    if let Some(mut pipe) = child.stdin.take() {
        // A command that does not read is not an error, and not waited for.
        std::thread::spawn(move || drop(pipe.write_all(&input)));
    }
    let end = Instant::now() + patience;
    loop {
        match child.try_wait().map_err(not_run)? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("ended with {status}")),
            None if Instant::now() < end => std::thread::sleep(Duration::from_millis(20)),
            None => {
                if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                    // It may be ending by itself just now.
                    let _ = kill_process_group(group, Signal::KILL);
                }
                child.wait().map_err(not_run)?;
                return Err(format!("did not end within {} s, and was killed", patience.as_secs()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_told_and_not_waited_for_without_end() {
        let long = Duration::from_hours(1);
        let large = vec![b'x'; 1 << 20];
        assert_eq!(notify("test $(wc -c) = 1048576", large.clone(), long), Ok(()));
        assert_eq!(notify("exec true", large.clone(), long), Ok(()));
        assert_eq!(notify("exit 3", large.clone(), long).unwrap_err(), "ended with exit status: 3");
        // Neither it nor what it has started reads or ends.
        let hangs = notify("sleep 1000 & sleep 1000", large, Duration::from_millis(50)).unwrap_err();
        assert_eq!(hangs, "did not end within 0 s, and was killed");
    }
}
