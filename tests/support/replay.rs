//! One case of the corpus, sent.

use std::path::Path;
use std::time::Duration;

use crate::corpus::{Case, Expect, Values};
use crate::http::{Patience, exchange};
use crate::judge::Seen;
use crate::record::route;

/// What comes before the case: the same client's requests through the proxy, then what happens on the engine.
///
/// # Errors
/// The client's request that was refused.
pub fn prepare(case: &Case, values: &Values, proxy: &Path, engine: &Path) -> Result<(), String> {
    let patience = Patience { first: Duration::from_secs(30), more: Duration::from_secs(5) };
    for step in &case.pre {
        let answers = exchange(proxy, &step.wire(values), std::slice::from_ref(&step.method), patience);
        let answer = answers.responses.first();
        if answer.is_none_or(|answer| answer.status >= 300) {
            let got = answer.map_or_else(|| "no answer".to_owned(), |answer| format!("{} {}", answer.status, answer.text()));
            return Err(format!("{} {}: {got}", step.method, step.target));
        }
    }
    for step in &case.admin {
        exchange(engine, &step.wire(values), std::slice::from_ref(&step.method), patience);
    }
    Ok(())
}

/// Sends the case to a socket. What the engine saw of it is the caller's to add.
#[must_use]
pub fn send(case: &Case, values: Values, socket: &Path) -> Seen {
    let bytes = case.wire(&values);
    let asked = case.asked(&bytes);
    let mut methods: Vec<String> = asked.iter().map(|request| request.method.clone()).collect();
    if methods.is_empty() {
        methods.push(case.method.clone());
    }
    if case.carries(asked.len()) {
        methods.push("GET".to_owned()); // whatever else comes back
    }
    let slow = case.expect == Expect::Allow || route(&case.target).starts_with("/images/create");
    let patience = Patience { first: Duration::from_secs(if slow { 60 } else { 10 }), more: Duration::from_secs(1) };
    Seen { answers: exchange(socket, &bytes, &methods, patience), asked, values, ..Seen::default() }
}
