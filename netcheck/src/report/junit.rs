//! For CI: JUnit's XML. A test case an ordered pair, and one a requirement about nobody; what is against the policy fails, what is not known
//! is an error.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::document::{Document, State, Violation};
use super::text;

/// A test suite.
#[must_use]
pub fn suite(document: &Document) -> String {
    let count = |state: &dyn Fn(State) -> bool| document.violations.iter().filter(|one| state(one.state)).count();
    let (failures, errors) = (count(&|state| state != State::Unknown), count(&|state| state == State::Unknown));
    let pairs = document.flows.iter().map(|flow| (flow.from.as_str(), flow.to.as_str()));
    let mut cases: BTreeMap<(&str, &str), Vec<&Violation>> = pairs.map(|pair| (pair, Vec::new())).collect();
    for violation in &document.violations {
        cases.entry((violation.from.as_str(), violation.to.as_str())).or_default().push(violation);
    }
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "<testsuite name=\"netcheck {}\" tests=\"{}\" failures=\"{failures}\" errors=\"{errors}\" timestamp=\"{}\">",
        escape(&document.host),
        cases.len(),
        escape(&document.taken)
    );
    for ((from, to), found) in cases {
        let _ = write!(out, "  <testcase classname=\"{}\" name=\"to {}\"", escape(from), escape(to));
        if found.is_empty() {
            let _ = writeln!(out, "/>");
            continue;
        }
        let _ = writeln!(out, ">");
        for violation in found {
            let element = if violation.state == State::Unknown { "error" } else { "failure" };
            let _ = writeln!(
                out,
                "    <{element} type=\"{}\" message=\"{}\">{}</{element}>",
                escape(&violation.kind),
                escape(&text::title(violation)),
                escape(&text::violation(violation))
            );
        }
        let _ = writeln!(out, "  </testcase>");
    }
    out.push_str("</testsuite>\n");
    out
}

/// Text for an element or an attribute. What XML cannot have, and what would reorder or hide text, is made visible.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text::plain_lines(text).chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_a_container_gets_out_of_its_place() {
        assert_eq!(escape("</testsuite>\"'&\u{1b}[31m\n"), "&lt;/testsuite&gt;&quot;&#39;&amp;\\u{1b}[31m\n");
        assert_eq!(escape("\u{202e}\u{200b}\u{fffe}\u{2028}"), "\\u{202e}\\u{200b}\\u{fffe}\\u{2028}");
    }
}
