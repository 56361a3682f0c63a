//! Whether a case of the corpus got the decision it must get, by what client and engine saw.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::corpus::{Case, Expect, Values};
use crate::http::Answers;
use crate::record::{Request, route};

/// What was seen of one case.
#[derive(Debug, Default)]
pub struct Seen {
    /// What the client got; nothing when a preparation was refused.
    pub answers: Answers,
    /// The requests in the client's bytes.
    pub asked: Vec<Request>,
    /// What the engine was sent meanwhile.
    pub sent: Vec<Request>,
    /// Objects that are new on the engine.
    pub new: Vec<String>,
    /// Objects of others that are gone from it.
    pub taken: Vec<String>,
    /// The preparation that was refused.
    pub stopped: Option<String>,
    /// What the placeholders stood for.
    pub values: Values,
}

impl Seen {
    fn statuses(&self) -> Vec<u16> {
        self.answers.responses.iter().map(|answer| answer.status).collect()
    }

    fn sent_text(&self) -> String {
        self.sent.iter().map(|r| r.error.clone().unwrap_or_else(|| format!("{} {}", r.method, r.target))).collect::<Vec<_>>().join(" ")
    }

    /// Something of the victim's in an answer that is no refusal.
    fn leaks(&self) -> bool {
        let id = self.values.get("FOREIGN_ID").map_or("foreign-secret", String::as_str);
        let marks = [id.as_bytes(), b"foreign-secret", b"ci-foreign"];
        let has = |body: &[u8], mark: &[u8]| body.windows(mark.len()).any(|window| window == mark);
        self.answers.responses.iter().filter(|a| a.status < 300).any(|a| marks.iter().any(|mark| has(&a.body, mark)))
    }

    fn lists(&self, case: &Case) -> bool {
        let path = route(&case.target);
        let list = matches!(path.as_str(), "/containers/json" | "/images/json" | "/networks" | "/volumes" | "/events" | "/system/df");
        list && matches!(case.method.as_str(), "GET" | "HEAD") && case.raw_b64.is_none()
    }
}

/// `deny` holds when the client got a refusal (4xx, or 5xx or a closed connection of which the engine heard nothing), the engine was
/// sent nothing but look-ups, and nothing is new or taken. A list may come back without the victim's objects.
///
/// # Errors
/// Why it does not hold.
pub fn deny(case: &Case, seen: &Seen) -> Result<(), String> {
    if seen.stopped.is_some() {
        return Ok(());
    }
    if !seen.new.is_empty() || !seen.taken.is_empty() {
        return Err(format!("new on the engine: {:?}; taken: {:?}; sent: {}", seen.new, seen.taken, seen.sent_text()));
    }
    let statuses = seen.statuses();
    if seen.lists(case) && statuses.first() == Some(&200) {
        return if seen.leaks() { Err("the victim's objects are listed".to_owned()) } else { Ok(()) };
    }
    let carrier = case.carries(seen.asked.len()).then(|| seen.asked.first()).flatten();
    for sent in &seen.sent {
        let carries = carrier.is_some_and(|first| first.method == sent.method && same_route(first, sent));
        let hidden = String::from_utf8_lossy(&sent.body).contains("rivileged");
        if sent.error.is_some() || !(is_look_up(sent) || carries) || (carries && hidden) {
            return Err(format!("the engine was sent: {}", seen.sent_text()));
        }
    }
    if seen.leaks() {
        return Err("the victim's data is in the answer".to_owned());
    }
    let refusals = if carrier.is_some() && !statuses.is_empty() { &statuses[1..] } else { &statuses[..] };
    if statuses.is_empty() && !seen.answers.closed {
        return Err("no answer, and the connection is open".to_owned());
    }
    let refused = refusals.iter().all(|status| (400..500).contains(status) || (*status >= 500 && seen.sent.is_empty()));
    if refused { Ok(()) } else { Err(format!("answered {statuses:?}; sent: {}", seen.sent_text())) }
}

/// An id stands for the name that was asked for.
fn same_route(asked: &Request, sent: &Request) -> bool {
    let (a, b) = (asked.route(), sent.route());
    let words = |path: &str| path.split('/').filter(|word| word.len() < 64).map(str::to_owned).collect::<Vec<_>>();
    a == b
        || (a.split('/').count() == b.split('/').count()
            && a.split('/').nth(1) == b.split('/').nth(1)
            && a.rsplit('/').next() == b.rsplit('/').next())
        || words(&a) == words(&b)
}

/// Read-only look-ups of names, and reads that tell nothing of containers.
fn is_look_up(request: &Request) -> bool {
    let path = request.route();
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let reads = matches!(
        parts.as_slice(),
        ["_ping" | "version" | "info" | "networks" | "volumes" | "plugins" | "events"]
            | ["containers" | "images", "json"]
            | ["containers" | "exec", _, "json"]
            | ["networks" | "volumes", _]
            | ["system", "df"]
            | ["images" | "plugins", _, .., "json" | "history"]
    );
    reads && matches!(request.method.as_str(), "GET" | "HEAD")
}

/// `allow` holds when the client got the status that the engine gives to the same request, and the engine was asked.
///
/// # Errors
/// Why it does not hold.
pub fn allow(case: &Case, seen: &Seen, engine: Option<u16>) -> Result<(), String> {
    if let Some(stopped) = &seen.stopped {
        return Err(format!("refused before it: {stopped}"));
    }
    let first = seen.answers.responses.first();
    let (status, why) = (first.map(|a| a.status), first.map(|a| a.text().chars().take(200).collect::<String>()).unwrap_or_default());
    if status.is_none() || status != engine {
        return Err(format!("the engine says {engine:?}, the client got {status:?} {why}"));
    }
    let read = matches!(case.method.as_str(), "GET" | "HEAD");
    let heard = seen.sent.iter().any(|sent| sent.method == case.method);
    if !heard && (!read || status.is_some_and(|status| status >= 400)) {
        return Err(format!("{status:?}, but the engine was not asked: {why}"));
    }
    if seen.lists(case) && seen.answers.responses.iter().any(|a| String::from_utf8_lossy(&a.body).contains("ci-foreign")) {
        return Err("the victim's objects are listed".to_owned());
    }
    Ok(())
}

/// Counts by class, and what does not hold by id.
#[derive(Debug, Default)]
pub struct Tally {
    rows: BTreeMap<String, [(u32, u32); 3]>,
    failed: BTreeMap<String, String>,
}

impl Tally {
    /// Takes a case's outcome.
    pub fn add(&mut self, case: &Case, outcome: Result<(), String>) {
        let column = match (case.optional, case.expect) {
            (true, _) => 2,
            (false, Expect::Allow) => 1,
            (false, Expect::Deny) => 0,
        };
        let cell = &mut self.rows.entry(case.class.clone()).or_default()[column];
        cell.1 += 1;
        match outcome {
            Ok(()) => cell.0 += 1,
            Err(why) if column < 2 => drop(self.failed.insert(case.id.clone(), format!("{} {} {}: {why}", case.class, case.method, case.target))),
            Err(_) => {}
        }
    }

    /// The table, and the failures.
    #[must_use]
    pub fn report(&self, title: &str) -> String {
        let mut text = format!("\n{title}\n{:<22}{:>10}{:>10}{:>10}\n", "class", "deny", "allow", "optional");
        let mut total = [(0, 0); 3];
        for (class, row) in &self.rows {
            write!(text, "{class:<22}").unwrap();
            for (sum, (held, of)) in total.iter_mut().zip(row) {
                *sum = (sum.0 + held, sum.1 + of);
                write!(text, "{:>10}", if *of == 0 { String::new() } else { format!("{held}/{of}") }).unwrap();
            }
            text.push('\n');
        }
        let [deny, allow, optional] = total.map(|(held, of)| format!("{held}/{of}"));
        writeln!(text, "{title}: deny {deny}, allow {allow}, optional {optional}").unwrap();
        for (id, why) in &self.failed {
            let line: String = why.chars().map(|c| if c.is_control() { '.' } else { c }).take(400).collect();
            writeln!(text, "  {id} {line}").unwrap();
        }
        text
    }

    /// Fails the test when anything does not hold, with the report.
    pub fn must_hold(&self, title: &str) {
        let ids = self.failed.keys().cloned().collect::<Vec<_>>().join(" ");
        assert!(self.failed.is_empty(), "{}\nwhat does not hold: {ids}", self.report(title));
    }
}
