//! What a Dockerfile asks for: images that it builds from or copies from, and what it makes the engine fetch.
//!
//! Read as the classic builder reads it (buildkit `frontend/dockerfile/parser` and moby `daemon/builder/dockerfile`). Where two versions of it read
//! a line differently, or one of them knows a feature that another does not, the line is refused.

use std::collections::{BTreeMap, BTreeSet};

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
        // moby cuts lines at spaces and tabs alone; any other blank is a character to it, and a blank to people.
        if let Some(at) = text.find(|c: char| (c.is_whitespace() || c.is_control()) && !matches!(c, ' ' | '\t' | '\n' | '\r')) {
            let line = text.get(..at).unwrap_or_default().matches('\n').count() + 1;
            return Err(DockerfileError { line, why: "a control character, or a blank that is neither space nor tab".to_owned() });
        }
        let mut reader =
            Reader { found: Self::default(), variables: BTreeMap::new(), stages: 0, names: BTreeSet::new(), current: String::new(), args };
        for instruction in instructions(text.strip_prefix('\u{feff}').unwrap_or(text))? {
            reader.instruction(instruction.line, &instruction.text, false)?;
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
    /// How many stages have begun.
    stages: usize,
    /// Names of the stages before the current one.
    names: BTreeSet<String>,
    /// The name of the current one.
    current: String,
    args: &'a BTreeMap<String, Option<String>>,
}

impl Reader<'_> {
    fn instruction(&mut self, line: usize, text: &str, trigger: bool) -> Result<(), DockerfileError> {
        let error = |why: String| DockerfileError { line, why };
        let (word, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
        let word = word.to_ascii_uppercase();
        let rest = rest.trim_matches([' ', '\t']);
        if !word.bytes().all(|b| b.is_ascii_uppercase()) {
            return Err(error(format!("`{}` is no instruction", word.escape_debug().take(40).collect::<String>())));
        }
        if matches!(word.as_str(), "RUN" | "COPY" | "ADD") && has_heredoc(rest) {
            return Err(error("a here-document is BuildKit's: classic builders would read its lines as instructions".to_owned()));
        }
        match word.as_str() {
            "ONBUILD" if trigger => Err(error("ONBUILD in ONBUILD".to_owned())),
            "ONBUILD" => self.instruction(line, rest, true),
            "FROM" if trigger => Err(error("ONBUILD FROM".to_owned())),
            "FROM" => self.from(line, rest),
            "ARG" if self.stages == 0 => self.arg(line, rest),
            "COPY" | "ADD" => self.copy(line, &word, rest, trigger),
            "RUN" => match flags(rest).map_err(error)?.0.first() {
                Some(flag) => Err(DockerfileError { line, why: format!("`{flag}` is BuildKit's, and this is a classic build") }),
                None => Ok(()),
            },
            // Of all stages but the last its labels would stand as they are written.
            "LABEL" if names_reserved_label(rest) => {
                Err(error("a label that begins with `seawall.`, or a label's name that is a variable".to_owned()))
            }
            _ => Ok(()),
        }
    }

    fn copy(&mut self, line: usize, word: &str, rest: &str, trigger: bool) -> Result<(), DockerfileError> {
        let error = |why: String| DockerfileError { line, why };
        let (flags, sources) = flags(rest).map_err(error)?;
        let mut froms = flags.iter().filter_map(|flag| flag.strip_prefix("--from="));
        if let Some(from) = froms.next() {
            self.copy_from(line, from, trigger)?;
        }
        if froms.next().is_some() || flags.contains(&"--from") {
            return Err(error("`--from` takes one name, once".to_owned()));
        }
        if word == "ADD" { self.add(line, sources) } else { Ok(()) }
    }

    fn from(&mut self, line: usize, rest: &str) -> Result<(), DockerfileError> {
        let error = |why: String| DockerfileError { line, why };
        let (_, rest) = flags(rest).map_err(error)?;
        let words: Vec<&str> = rest.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
        let (image, stage) = match words.as_slice() {
            [image] => (*image, String::new()),
            [image, word, stage] if word.eq_ignore_ascii_case("as") => (*image, stage.to_ascii_lowercase()),
            _ => return Err(error("FROM takes an image, and `AS` with a name".to_owned())),
        };
        let image = self.expand(image).map_err(error)?;
        if image.is_empty() {
            return Err(error("FROM names no image: a variable in it is empty".to_owned()));
        }
        let before = std::mem::replace(&mut self.current, stage);
        if !before.is_empty() {
            self.names.insert(before);
        }
        if !self.names.contains(&image.to_ascii_lowercase()) && image != "scratch" {
            self.found.images.push((line, image));
        }
        self.stages += 1;
        if self.stages > MOST_STAGES || self.found.images.len() > MOST_STAGES {
            return Err(error(format!("more than {MOST_STAGES} stages or images")));
        }
        Ok(())
    }

    /// A stage that came before, or an image. The trigger of an image runs in another build, which has other stages.
    fn copy_from(&mut self, line: usize, from: &str, trigger: bool) -> Result<(), DockerfileError> {
        if from.is_empty() || from.contains('$') {
            return Err(DockerfileError { line, why: format!("`--from={from}`: a name without variables is needed") });
        }
        let index = from.parse::<usize>().ok();
        if trigger && index.is_some() {
            return Err(DockerfileError { line, why: "a stage's number in ONBUILD".to_owned() });
        }
        let is_stage = !trigger && (self.names.contains(&from.to_ascii_lowercase()) || index.is_some_and(|index| index + 1 < self.stages));
        if !is_stage {
            self.found.images.push((line, from.to_owned()));
        }
        Ok(())
    }

    /// URLs and repositories among the sources of an ADD.
    fn add(&mut self, line: usize, sources: &str) -> Result<(), DockerfileError> {
        let words: Vec<String> = match serde_json::from_str::<Vec<String>>(sources) {
            Ok(words) => words,
            Err(_) if sources.contains(['"', '\'', '\\', '`']) => {
                return Err(DockerfileError { line, why: "quotes in ADD: write it as [\"SOURCE\", \"TARGET\"], or use COPY".to_owned() });
            }
            Err(_) => sources.split([' ', '\t']).map(str::to_owned).collect(),
        };
        for word in words {
            let lower = word.to_ascii_lowercase();
            // A variable may hold an URL.
            if lower.contains("://") || lower.starts_with("git@") || lower.contains(['$', '\\']) || lower.contains("github.com/") {
                self.found.fetches.push((line, word));
            }
        }
        Ok(())
    }

    /// `ARG` before the first `FROM`: what variables in a `FROM` mean.
    fn arg(&mut self, line: usize, rest: &str) -> Result<(), DockerfileError> {
        if rest.contains(['\'', '\\']) || (rest.contains('"') && rest.split_whitespace().count() > 1) {
            return Err(DockerfileError { line, why: "quotes in a list of ARGs".to_owned() });
        }
        for word in rest.split_whitespace() {
            if !is_name(word.split('=').next().unwrap_or_default()) {
                return Err(DockerfileError { line, why: format!("`{word}` as an argument's name") });
            }
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
                // `$1` is a position to moby, and never set.
                _ if !is_name(name) => return Err(format!("`{text}`: a variable's name")),
                (None, _) if modifier.is_empty() => out.push_str(value),
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
fn flags(text: &str) -> Result<(Vec<&str>, &str), String> {
    let (mut found, mut rest) = (Vec::new(), text.trim_start_matches([' ', '\t']));
    while rest.starts_with("--") {
        let (flag, after) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
        // moby takes quotes and escapes out of flags before it looks at their names.
        let name = flag.trim_start_matches("--").split('=').next().unwrap_or_default();
        if flag.contains(['"', '\'', '\\', '`']) || !name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') {
            return Err(format!("`{}`: a flag in lower case, without quotes", flag.chars().take(40).collect::<String>()));
        }
        found.push(flag);
        rest = after.trim_start_matches([' ', '\t']);
    }
    Ok((found, rest))
}

/// The name of a variable: a letter or `_`, then digits too.
fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Whether a LABEL sets a label that says whose an image is, or may.
fn names_reserved_label(rest: &str) -> bool {
    let plain: String = rest.to_ascii_lowercase().chars().filter(|c| !matches!(c, '"' | '\'' | '\\' | '`')).collect();
    let keys = plain.split([' ', '\t']).map(|word| word.split('=').next().unwrap_or_default());
    plain.contains("seawall.") || keys.into_iter().any(|key| key.contains('$'))
}

/// Most stages, and most images that they name.
const MOST_STAGES: usize = 256;

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
        let error = |why: &str| DockerfileError { line: line_number, why: why.to_owned() };
        if escapes > 1 {
            return Err(error("a line that ends with two escape characters goes on for some engines and not for others"));
        }
        // Lines are joined without a space: a word that goes on in the next line is another word than it seems.
        let first = open.as_ref().map_or(body, |open: &Instruction| open.text.as_str());
        let word = first.split([' ', '\t']).next().unwrap_or_default().to_ascii_uppercase();
        let whole_words = body.is_empty() || body.ends_with([' ', '\t']);
        let free = matches!(word.as_str(), "RUN" | "CMD" | "ENTRYPOINT" | "ENV" | "LABEL" | "EXPOSE" | "HEALTHCHECK" | "SHELL" | "VOLUME");
        if escapes == 1 && !whole_words && !(free && first.contains([' ', '\t'])) {
            return Err(error("a line that goes on in the middle of a word: put a space before the escape character"));
        }
        let mut instruction = open.take().unwrap_or(Instruction { line: line_number, text: String::new() });
        instruction.text.push_str(body);
        if escapes == 1 {
            // A space more or less changes no word that is looked at.
            instruction.text.push(' ');
            open = Some(instruction);
        } else {
            found.push(instruction);
        }
    }
    found.extend(open);
    Ok(found)
}

/// The `# escape=` directive: only at the very top, behind no other comment but `# syntax=`.
fn escape_character(text: &str) -> Result<char, DockerfileError> {
    let (mut escape, mut over) = ('\\', false);
    for (at, line) in text.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let Some(comment) = line.trim_start_matches([' ', '\t']).strip_prefix('#') else { break };
        let (key, value) = comment.split_once('=').unwrap_or((comment, ""));
        let error = |why: &str| DockerfileError { line: at + 1, why: why.to_owned() };
        match key.trim_matches([' ', '\t']).to_ascii_lowercase().as_str() {
            "escape" if over || !line.starts_with('#') => return Err(error("an escape directive where some engines read one and others a comment")),
            "escape" => {
                escape = match value.trim_matches([' ', '\t']) {
                    "\\" => '\\',
                    "`" => '`',
                    _ => return Err(error("an escape character is `\\` or a backtick")),
                };
                over = true;
            }
            "syntax" if !over => {}
            _ => over = true,
        }
    }
    Ok(escape)
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
            ("the stage's own name is an image", "FROM alpine AS victim\nCOPY --from=victim / /", &["alpine", "victim"]),
            ("a trigger knows no stage", "FROM alpine AS victim\nFROM alpine\nONBUILD COPY --from=victim / /", &["alpine", "alpine", "victim"]),
            ("on build", "FROM alpine\nONBUILD COPY --from=evil/img / /", &["alpine", "evil/img"]),
            ("continued", "FROM \\\n# comment\n\n  evil/img", &["evil/img"]),
            ("other escape", "# escape=`\nFROM alpine\nRUN dir \\\nFROM evil", &["alpine", "evil"]),
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
            "FROM a\nRUN echo x \\\u{a0}\nCOPY --from=evil /x /x",
            "FROM a\nCO\\\nPY --from=evil /x /x",
            "FROM a\nCOPY --fr\\\nom=evil /x /x",
            "FROM a\nADD http:\\\n//127.0.0.1/x /x",
            "FROM a\nCOPY --fr\\om=evil /x /x",
            "FROM a\nCOPY --\"from\"=evil /x /x",
            "FROM a\nADD http\":\"//127.0.0.1/x /x",
            "# foo=bar\n# escape=`\nFROM a\nRUN x # `\nCOPY --from=evil /x /x",
            "ARG 1=evil/\nFROM $1img:1",
            "ARG A=x\nFROM $1img:1",
            "FROM a\nONBUILD COPY --from=0 /x /x",
            "FROM a\nONBUILD FROM evil",
            "FROM a\nLABEL \"sea\"wall.tenant=victim\nFROM a",
            "FROM a\nARG K=seawall\nLABEL $K.tenant=victim\nFROM a",
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
