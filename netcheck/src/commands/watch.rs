//! `netcheck watch`: again and again, on a clock and when the kernel says that something changed.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use miette::miette;
use netcheck::analyse::Attacker;
use netcheck::report::{Document, prometheus, text};

use super::output::{Output, complain, say};
use super::{Failure, Outcome, WatchArguments, check};
use crate::shell::events::Events;
use crate::shell::{collect, metrics, privilege};

/// Never ends by itself.
pub(crate) fn run(arguments: &WatchArguments) -> Result<Outcome, Failure> {
    let isolation = check::policy(&arguments.policy)?;
    let metrics = Arc::new(Mutex::new(String::new()));
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
        match collect::collect(engine.as_ref()) {
            Ok(snapshot) => {
                let (document, _) = check::compare(&snapshot, &isolation, attacker);
                *metrics.lock().unwrap_or_else(PoisonError::into_inner) = prometheus::metrics(&document);
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
    if let Some(command) = &arguments.on_change {
        notify(command, now);
    }
    Ok(())
}

/// Runs a command with the result on its standard input.
fn notify(command: &str, document: &Document) {
    let Ok(json) = serde_json::to_vec(document) else { return };
    let child = Command::new("/bin/sh").args(["-c", command]).stdin(Stdio::piped()).spawn();
    let result = child.and_then(|mut child| {
        if let Some(mut input) = child.stdin.take() {
            // A command that does not read is not an error.
            let _ = input.write_all(&json);
        }
        child.wait()
    });
    match result {
        Ok(status) if status.success() => {}
        Ok(status) => say(&format!("`{command}` ended with {status}")),
        Err(error) => say(&format!("`{command}` could not be run: {error}")),
    }
}
