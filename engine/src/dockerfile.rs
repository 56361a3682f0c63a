//! What a Dockerfile asks for: images that it builds from or copies from, and what it makes the engine fetch.
//!
//! Read as the classic builder reads it (buildkit `frontend/dockerfile/parser` and moby `daemon/builder/dockerfile`). Where two versions of it read
//! a line differently, or one of them knows a feature that another does not, the line is refused.

use std::collections::BTreeMap;

use crate::demand::{Demand, Demands, Name};
use crate::facts::{Facts, ObjectKind, Reference};

/// What a Dockerfile asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dockerfile {
    images: Vec<(usize, String)>,
    fetches: Vec<(usize, String)>,
}

/// A Dockerfile that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Dockerfile:{line}: {why}")]
pub struct DockerfileError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

/// One instruction, with its continuation lines joined.
struct Instruction {
    line: usize,
    text: String,
}

impl Dockerfile {
    /// Reads a Dockerfile with the arguments of its build.
    ///
    /// # Errors
    /// Something in it is not understood, or is understood differently by different engines.
    pub fn parse(bytes: &[u8], args: &BTreeMap<String, Option<String>>) -> Result<Self, DockerfileError> {
        let text = std::str::from_utf8(bytes).map_err(|_| DockerfileError { line: 1, why: "not UTF-8".to_owned() })?;
        let mut reader = Reader { found: Self::default(), variables: BTreeMap::new(), stages: Vec::new(), args };
        for instruction in instructions(text.strip_prefix('\u{feff}').unwrap_or(text))? {
            reader.instruction(instruction.line, &instruction.text)?;
        }
        Ok(reader.found)
    }

    /// The images that it names.
    #[must_use]
    pub fn references(&self) -> Vec<Reference> {
        self.images.iter().map(|(_, name)| Reference { kind: ObjectKind::Image, name: name.clone() }).collect()
    }

    /// What it demands.
    #[must_use]
    pub fn demands(&self, facts: &Facts) -> Demands {
        let mut demands = Demands::default();
        for (line, name) in &self.images {
            crate::demands::image(format!("Dockerfile:{line}"), name, facts, &mut demands);
        }
        for (line, url) in &self.fetches {
            demands.push(format!("Dockerfile:{line}"), Demand::Named(Name::Fetch, url.clone()));
        }
        demands
    }
}

struct Reader<'a> {
    found: Dockerfile,
    variables: BTreeMap<String, String>,
    stages: Vec<String>,
    args: &'a BTreeMap<String, Option<String>>,
}

impl Reader<'_> {
    fn instruction(&mut self, line: usize, text: &str) -> Result<(), DockerfileError> {
        let error = |why: &str| DockerfileError { line, why: why.to_owned() };
        let (word, rest) = text.split_once(|c: char| c.is_whitespace()).unwrap_or((text, ""));
        let rest = rest.trim();
        match word.to_ascii_uppercase().as_str() {
            "ONBUILD" => return self.instruction(line, rest),
            "FROM" => self.from(line, rest)?,
            "ARG" if self.stages.is_empty() => self.arg(line, rest)?,
            "COPY" | "ADD" => {
                let (flags, sources) = flags(rest);
                for from in flags.iter().filter_map(|flag| flag.strip_prefix("--from=")) {
                    self.copy_from(line, from)?;
                }
                if word.eq_ignore_ascii_case("ADD") {
                    self.add(line, sources);
                }
            }
            "RUN" => {
                if let Some(flag) = flags(rest).0.first() {
                    return Err(error(&format!("`{flag}` is BuildKit's, and this is a classic build")));
                }
            }
            _ => {}
        }
        if matches!(word.to_ascii_uppercase().as_str(), "RUN" | "COPY" | "ADD") && has_heredoc(rest) {
            return Err(error("a here-document is BuildKit's: classic builders would read its lines as instructions"));
        }
        Ok(())
    }

    fn from(&mut self, line: usize, rest: &str) -> Result<(), DockerfileError> {
        let error = |why: String| DockerfileError { line, why };
        let (_, rest) = flags(rest);
        let words: Vec<&str> = rest.split_whitespace().collect();
        let (image, stage) = match words.as_slice() {
            [image] => (*image, String::new()),
            [image, word, stage] if word.eq_ignore_ascii_case("as") => (*image, stage.to_ascii_lowercase()),
            _ => return Err(error("FROM takes an image, and `AS` with a name".to_owned())),
        };
        let image = self.expand(image).map_err(error)?;
        if image.is_empty() {
            return Err(error("FROM names no image: a variable in it is empty".to_owned()));
        }
        let known = self.stages.iter().any(|known| *known == image.to_ascii_lowercase());
        if !known && image != "scratch" {
            self.found.images.push((line, image));
        }
        self.stages.push(stage);
        Ok(())
    }

    fn copy_from(&mut self, line: usize, from: &str) -> Result<(), DockerfileError> {
        let from = from.trim_matches('"');
        if from.contains(['$', '\\', '\'']) {
            return Err(DockerfileError { line, why: format!("`--from={from}`: a name without variables and quotes is needed") });
        }
        let is_stage = self.stages.iter().any(|known| !known.is_empty() && *known == from.to_ascii_lowercase());
        let is_index = from.parse::<usize>().is_ok_and(|index| index < self.stages.len());
        if !is_stage && !is_index {
            self.found.images.push((line, from.to_owned()));
        }
        Ok(())
    }

    /// URLs and repositories among the sources of an ADD; the last word is where they go.
    fn add(&mut self, line: usize, sources: &str) {
        let words: Vec<&str> = sources.split(|c: char| c.is_whitespace() || matches!(c, '[' | ']' | ',' | '"' | '\'')).filter(|word| !word.is_empty()).collect();
        for word in words.iter().take(words.len().saturating_sub(1)) {
            let lower = word.to_ascii_lowercase();
            // A variable may hold an URL.
            if lower.contains("://") || lower.starts_with("git@") || lower.contains('$') || lower.contains('\\') {
                self.found.fetches.push((line, (*word).to_owned()));
            }
        }
    }

    /// `ARG` before the first `FROM`: what variables in a `FROM` mean.
    fn arg(&mut self, line: usize, rest: &str) -> Result<(), DockerfileError> {
        if rest.contains(['\'', '\\']) || (rest.contains('"') && rest.split_whitespace().count() > 1) {
            return Err(DockerfileError { line, why: "quotes in a list of ARGs".to_owned() });
        }
        for word in rest.split_whitespace() {
            let (name, default) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value.trim_matches('"'))));
            let default = default.map(|value| self.expand(value)).transpose().map_err(|why| DockerfileError { line, why })?;
            let value = match self.args.get(name) {
                Some(given) => given.clone().or(default),
                None => default,
            };
            self.variables.insert(name.to_owned(), value.unwrap_or_default());
        }
        Ok(())
    }

    /// `$NAME`, `${NAME}`, `${NAME:-word}`, `${NAME:+word}`.
    fn expand(&self, text: &str) -> Result<String, String> {
        if text.contains(['\'', '"', '\\', '`']) {
            return Err(format!("quotes in `{text}`"));
        }
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            let (expression, left) = match after.strip_prefix('{') {
                Some(braced) => braced.split_once('}').ok_or_else(|| format!("`{text}` has no closing brace"))?,
                None => after.split_at(after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len())),
            };
            let end = expression.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(expression.len());
            let (name, modifier) = expression.split_at(end);
            let value = self.variables.get(name).map_or("", String::as_str);
            match (modifier.get(..2), modifier.get(2..)) {
                (None, _) if modifier.is_empty() && !name.is_empty() => out.push_str(value),
                (Some(":-"), Some(word)) if !word.contains('$') => out.push_str(if value.is_empty() { word } else { value }),
                (Some(":+"), Some(word)) if !word.contains('$') => out.push_str(if value.is_empty() { "" } else { word }),
                _ => return Err(format!("`{text}`: only $NAME, ${{NAME}}, ${{NAME:-word}} and ${{NAME:+word}} are understood")),
            }
            rest = left;
        }
        out.push_str(rest);
        Ok(out)
    }
}

/// The leading words that begin with `--`, and the rest.
fn flags(text: &str) -> (Vec<&str>, &str) {
    let (mut found, mut rest) = (Vec::new(), text.trim_start());
    while rest.starts_with("--") {
        let (flag, after) = rest.split_once(|c: char| c.is_whitespace()).unwrap_or((rest, ""));
        found.push(flag);
        rest = after.trim_start();
    }
    (found, rest)
}

/// `<<` with the name of an end behind it.
fn has_heredoc(text: &str) -> bool {
    text.match_indices("<<").any(|(at, _)| {
        let after = text.get(at + 2..).unwrap_or_default().trim_start_matches('-').trim_start_matches(['\'', '"']);
        after.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
    })
}

/// Joins continuation lines, and leaves out comments and empty lines.
fn instructions(text: &str) -> Result<Vec<Instruction>, DockerfileError> {
    let escape = escape_character(text)?;
    let mut found: Vec<Instruction> = Vec::new();
    let mut open: Option<Instruction> = None;
    for (at, line) in text.split('\n').enumerate() {
        let line_number = at + 1;
        let line = line.strip_suffix('\r').unwrap_or(line);
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        if trimmed.contains(['\r', '\0']) {
            return Err(DockerfileError { line: line_number, why: "a control character".to_owned() });
        }
        let body = trimmed.trim_end_matches(escape);
        let escapes = trimmed.len() - body.len();
        if escapes > 1 {
            return Err(DockerfileError { line: line_number, why: "a line that ends with two escape characters goes on for some engines and not for others".to_owned() });
        }
        let mut instruction = open.take().unwrap_or(Instruction { line: line_number, text: String::new() });
        instruction.text.push_str(if instruction.text.is_empty() { body.trim_start() } else { body });
        if escapes == 1 {
            // A line that goes on is joined without a space; leaving one more in changes no word that is looked at.
            instruction.text.push(' ');
            open = Some(instruction);
        } else {
            found.push(instruction);
        }
    }
    found.extend(open);
    Ok(found)
}

/// The `# escape=` directive: only at the very top.
fn escape_character(text: &str) -> Result<char, DockerfileError> {
    for (at, line) in text.split('\n').enumerate() {
        let Some(comment) = line.trim().strip_prefix('#') else { break };
        let Some((key, value)) = comment.split_once('=') else { break };
        if key.trim().eq_ignore_ascii_case("escape") {
            return match value.trim() {
                "\\" => Ok('\\'),
                "`" => Ok('`'),
                other => Err(DockerfileError { line: at + 1, why: format!("`{other}` as escape character") }),
            };
        }
    }
    Ok('\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(text: &str, args: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let args = args.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect();
        let read = Dockerfile::parse(text.as_bytes(), &args).map_err(|error| error.to_string())?;
        Ok(read.images.into_iter().map(|(_, name)| name).chain(read.fetches.into_iter().map(|(_, url)| url)).collect())
    }

    #[test]
    fn every_image_that_a_build_takes_from_is_found() {
        for (name, text, found) in [
            ("plain", "FROM alpine:3\nRUN id", &["alpine:3"][..]),
            ("stages", "FROM alpine AS base\nFROM base\nCOPY --from=base /a /b\nCOPY --from=0 /a /b", &["alpine"]),
            ("stage names fold", "FROM alpine AS Base\nFROM BASE", &["alpine"]),
            ("copy from an image", "FROM scratch\nCOPY --from=evil/img / /", &["evil/img"]),
            ("copy from a number that is no stage", "FROM scratch\nCOPY --from=3 / /", &["3"]),
            ("on build", "FROM alpine\nONBUILD COPY --from=evil/img / /", &["alpine", "evil/img"]),
            ("continued", "FROM \\\n# comment\n\n  evil/img", &["evil/img"]),
            ("other escape", "# escape=`\nFROM alpine\nRUN dir \\\nFROM evil", &["alpine", "evil"]),
            ("directive behind a comment", "# hello\n# escape=`\nFROM alpine\nRUN x \\\n y", &["alpine"]),
            ("argument", "ARG B=alpine\nFROM ${B}", &["alpine"]),
            ("argument without default", "ARG B\nFROM ${B:-alpine}:3", &["alpine:3"]),
            ("comment at the end is none", "FROM alpine\nRUN echo '\\\n'\nFROM evil", &["alpine", "evil"]),
            ("platform", "FROM --platform=linux/amd64 alpine", &["alpine"]),
            ("fetch", "FROM scratch\nADD http://169.254.169.254/x /x\nADD a b /x", &["http://169.254.169.254/x"]),
            ("fetch in brackets", "FROM scratch\nADD [\"https://x/y\", \"/x\"]", &["https://x/y"]),
            ("byte order mark", "\u{feff}FROM alpine", &["alpine"]),
            ("lower case", "from evil", &["evil"]),
        ] {
            assert_eq!(images(text, &[]).as_deref(), Ok(&*found.iter().map(ToString::to_string).collect::<Vec<_>>()), "{name}");
        }
        assert_eq!(images("ARG B=alpine\nFROM $B", &[("B", "evil")]).unwrap(), ["evil"]);
        assert_eq!(images("FROM $B", &[("B", "evil")]).unwrap_err(), "Dockerfile:1: FROM names no image: a variable in it is empty");
    }

    #[test]
    fn what_engines_read_differently_is_refused() {
        for text in [
            "FROM alpine\nRUN <<EOF\nFROM evil\nEOF",
            "FROM alpine\nRUN cat <<-'EOF'\nEOF",
            "FROM alpine\nRUN --mount=type=bind,from=evil id",
            "FROM alpine\nRUN echo \\\\\nFROM evil",
            "FROM scratch\nCOPY --from=$X / /",
            "FROM a b",
            "FROM ${A:?x}",
            "FROM \"alpine\"",
        ] {
            assert!(images(text, &[]).is_err(), "{text}");
        }
    }
}
