//! A mistake in `seawall.yaml`, shown where it was made.

use std::path::PathBuf;

use miette::{Diagnostic, NamedSource, SourceSpan};
use serde_saphyr::{Error as YamlError, Location, MessageFormatter, UserMessageFormatter};

/// Why there is no usable configuration. Always the fault of who wrote it, never of a client.
#[derive(Debug, Diagnostic, thiserror::Error)]
pub enum ConfigError {
    /// Flags, or the environment, that cannot be served.
    #[error("{message}")]
    Flags {
        /// What is wrong.
        message: String,
        /// What to write instead.
        #[help]
        help: String,
    },
    /// A mistake in the file.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Mistake(#[from] Box<Mistake>),
    /// The file cannot be read.
    #[error("cannot read `{}`", path.display())]
    #[diagnostic(help("`--config` names the file; without it, seawall runs from its flags alone"))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

impl ConfigError {
    pub(crate) fn flags(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Flags { message: message.into(), help: help.into() }
    }
}

/// One mistake: what it is, where it is (file, line, column), and what to write instead.
#[derive(Debug, Diagnostic, thiserror::Error)]
#[error("{message}")]
pub struct Mistake {
    message: String,
    #[source_code]
    source_code: NamedSource<String>,
    #[label("{label}")]
    span: SourceSpan,
    label: String,
    #[help]
    help: Option<String>,
}

/// The text being read, to turn locations into [`Mistake`]s.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    pub(super) name: &'a str,
    pub(super) text: &'a str,
}

impl Source<'_> {
    /// A mistake that we found ourselves, in a value that serde accepted.
    pub(super) fn mistake(self, at: Location, message: impl Into<String>, help: impl Into<String>) -> Box<Mistake> {
        self.point(at, message.into(), "here".to_owned(), Some(help.into()))
    }

    /// A mistake that the YAML reader or serde found.
    pub(super) fn yaml(self, error: &YamlError) -> Box<Mistake> {
        let at = error.location().unwrap_or(Location::UNKNOWN);
        let (message, label, help) = explain(error);
        self.point(at, message, label, help)
    }

    fn point(self, at: Location, message: String, label: String, help: Option<String>) -> Box<Mistake> {
        let span = at.span();
        let start = span.byte_offset().and_then(|byte| usize::try_from(byte).ok()).unwrap_or(0).min(self.text.len());
        let node = span.byte_len().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0);
        // A mark under a whole block hides more than it shows: at most the rest of its first line.
        let line = self.text.get(start..).and_then(|rest| rest.lines().next()).map_or(0, |line| line.trim_end().len());
        Box::new(Mistake {
            message,
            source_code: NamedSource::new(self.name, self.text.to_owned()),
            span: (start, if node == 0 { line.min(1) } else { node.min(line) }).into(),
            label,
            help,
        })
    }
}

/// The words for an error of the YAML reader: its own text speaks to programmers.
fn explain(error: &YamlError) -> (String, String, Option<String>) {
    #[expect(clippy::wildcard_enum_match_arm, reason = "some 80 syntax errors of YAML have their own good words")]
    match error.without_snippet() {
        YamlError::SerdeUnknownField { field, expected, .. } => {
            (format!("unknown key `{field}`"), "not a key of this mapping".to_owned(), Some(suggest(field, expected)))
        }
        YamlError::SerdeUnknownVariant { variant, expected, .. } => {
            (format!("unknown value `{variant}`"), "not known here".to_owned(), Some(suggest(variant, expected)))
        }
        YamlError::SerdeMissingField { field, .. } => {
            (format!("the key `{field}` is missing"), "in this mapping".to_owned(), Some(format!("add `{field}:` here")))
        }
        YamlError::DuplicateMappingKey { key, .. } => (
            format!("the key `{}` is there twice", key.as_deref().unwrap_or("?")),
            "the second one".to_owned(),
            Some("keep one of the two: which one wins would be a guess".to_owned()),
        ),
        YamlError::SerdeInvalidType { unexpected, expected, .. } => {
            (format!("expected {expected}, found {unexpected}"), format!("expected {expected}"), None)
        }
        YamlError::Unexpected { expected: "mapping start", .. } => ("expected a mapping".to_owned(), "not `key: value`".to_owned(), None),
        YamlError::InvalidScalar { ty, .. } if matches!(*ty, "u32" | "u64") => {
            ("expected a whole number, 0 or more".to_owned(), "not such a number".to_owned(), None)
        }
        YamlError::Message { msg, .. } => (msg.clone(), "here".to_owned(), None),
        other => (UserMessageFormatter.format_message(other).into_owned(), "here".to_owned(), None),
    }
}

/// `did you mean …?`, or the list of what is known when nothing is close.
fn suggest(found: &str, known: &[&'static str]) -> String {
    let near = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&found.to_lowercase(), known), known))
        .filter(|(distance, known)| *distance <= known.len().div_ceil(3).max(1))
        .min();
    match near {
        Some((_, known)) => format!("did you mean `{known}`?"),
        None => format!("known here: {}", known.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ")),
    }
}
