//! What a Dockerfile asks for: images that it builds from or copies from, and what it makes the engine fetch.
//!
//! Read as the classic builder reads it (buildkit `frontend/dockerfile/parser` and moby `daemon/builder/dockerfile`). Where two versions of it read
//! a line differently, or one of them knows a feature that another does not, the line is refused. What the engine gets is written anew from what
//! was read: without comments and directives, and with the ids of the images that were judged in the place of their names.

use std::collections::{BTreeMap, BTreeSet};

use crate::demand::{Demand, Demands, Flag, Name};
use crate::demands::container::brought_volume;
use crate::facts::{Brings, Facts, ObjectKind, Reference};
use crate::types::strings::{follow, is_system_path};
use crate::{KIND_LABEL, OWNER_LABEL};

/// What a Dockerfile asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dockerfile {
    images: Vec<UsedImage>,
    fetches: Vec<(usize, String)>,
    /// What its working directories and volumes demand.
    places: Demands,
    /// How many instructions it has.
    instructions: usize,
    /// The whole of it, as it is written anew.
    parts: Vec<Part>,
    /// Whose images its steps make.
    owner: Option<String>,
}

/// An image that a build uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedImage {
    /// The line, from 1.
    pub line: usize,
    /// As it is named, variables replaced.
    pub name: String,
    /// What is done with it.
    pub usage: Usage,
}

/// What a build does with an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Usage {
    /// A stage begins with it, and its triggers run.
    Base {
        /// The platform that is asked for; empty: none is.
        platform: String,
    },
    /// Files are copied from it.
    Copy,
}

/// A part of the Dockerfile that the engine gets.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// The name or id of an image, by its place among the images.
    Image(usize),
    /// A stage has begun with an image that no stage before it has made.
    Stage,
    Text(String),
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

/// One instruction.
struct Instruction {
    line: usize,
    /// Its lines, as they are joined: nothing comes between them.
    pieces: Vec<String>,
}

impl Dockerfile {
    /// Reads a Dockerfile with the arguments of its build.
    ///
    /// # Errors
    /// Something in it is not understood, or is understood differently by different engines.
    pub fn parse(bytes: &[u8], args: &BTreeMap<String, Option<String>>) -> Result<Self, DockerfileError> {
        let text = std::str::from_utf8(bytes).map_err(|_| DockerfileError { line: 1, why: "not UTF-8".to_owned() })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let escape = escape_character(text)?;
        let mut reader = Reader::new(escape, args);
        if escape != '\\' {
            reader.write(format!("# escape={escape}\n"));
        }
        for instruction in instructions(text, escape)? {
            reader.instruction(&instruction)?;
        }
        Ok(reader.found)
    }

    /// Gives the images of all its steps an owner, one who needs no quotes in a Dockerfile. The builder's own labels are the last step's alone (moby
    /// daemon/builder/dockerfile, `buildLabelOptions`): what other stages make, and builds that fail, would be nobody's.
    pub fn claim(&mut self, tenant: &str) {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':' | '-');
        self.owner = Some(tenant.to_owned()).filter(|tenant| tenant.chars().all(plain));
    }

    /// The images that it uses.
    #[must_use]
    pub fn images(&self) -> &[UsedImage] {
        &self.images
    }

    /// The images that it names.
    #[must_use]
    pub fn references(&self) -> Vec<Reference> {
        let mut found: Vec<Reference> = self.images.iter().map(|image| Reference { kind: ObjectKind::Image, name: image.name.clone() }).collect();
        found.sort();
        found.dedup();
        found
    }

    /// What it demands.
    #[must_use]
    pub fn demands(&self, facts: &Facts) -> Demands {
        let mut demands = self.places.clone();
        for image in &self.images {
            crate::demands::image(format!("Dockerfile:{}", image.line), &image.name, facts, &mut demands);
        }
        for (line, url) in &self.fetches {
            demands.push(format!("Dockerfile:{line}"), Demand::Named(Name::Fetch, url.clone()));
        }
        demands
    }

    /// What the images that it builds from bring with them: triggers (`ONBUILD`), volumes, a working directory.
    ///
    /// # Errors
    /// A trigger is not understood, or takes from another image: it would run as it is, whatever that name means by then.
    pub fn brought_demands(&self, facts: &Facts) -> Result<Demands, DockerfileError> {
        let mut demands = Demands::default();
        let no_args = BTreeMap::new();
        let bases = self.images.iter().filter(|image| matches!(image.usage, Usage::Base { .. }));
        for image in bases {
            let Some(Brings { health: _, triggers, ports: _, volumes, working_dir }) =
                facts.object(ObjectKind::Image, &image.name).map(|object| &object.brings)
            else {
                continue;
            };
            let at = format!("Dockerfile:{}", image.line);
            volumes.iter().for_each(|path| brought_volume(at.clone(), path, &mut demands));
            crate::demands::working_dir(at, working_dir, &mut demands);
            for trigger in triggers {
                let error = |why: String| DockerfileError { line: image.line, why: format!("a trigger of {}: {why}", image.name) };
                if trigger.contains('\n') {
                    return Err(error("it has several lines".to_owned()));
                }
                let mut reader = Reader::new('\\', &no_args);
                for instruction in instructions(trigger, '\\').map_err(|read| error(read.why))? {
                    let text = instruction.pieces.concat();
                    reader.judge(image.line, &text, true).map_err(|read| error(read.why))?;
                }
                for demanded in reader.found.demands(facts).iter() {
                    demands.push(demanded.at.clone(), demanded.demand.clone());
                }
            }
        }
        Ok(demands)
    }

    /// The Dockerfile that the engine gets, with a name or id for every image.
    ///
    /// # Errors
    /// What was written is read as something else than what was judged. That cannot happen, and is looked at all the same.
    pub fn write(&self, name: impl Fn(&UsedImage) -> String) -> Result<String, DockerfileError> {
        let out = self.join(&name, "");
        let error = |why: String| DockerfileError { line: 1, why: format!("it cannot be written as it was read: {why}") };
        let again = Self::parse(out.as_bytes(), &BTreeMap::new()).map_err(|read| error(read.to_string()))?;
        let same_images = self.images.len() == again.images.len()
            && self.images.iter().zip(&again.images).all(|(judged, written)| judged.usage == written.usage && name(judged) == written.name);
        let same_fetches = self.fetches.iter().map(|(_, url)| url).eq(again.fetches.iter().map(|(_, url)| url));
        if same_images && same_fetches && self.instructions == again.instructions {
            let kind = ObjectKind::Image.label().unwrap_or_default();
            let label = |owner: &String| format!("LABEL {KIND_LABEL}={kind} {OWNER_LABEL}={owner}\n");
            Ok(self.owner.as_ref().map(label).map_or(out, |label| self.join(&name, &label)))
        } else {
            Err(error("it would have other instructions or images".to_owned()))
        }
    }

    /// All parts of it, with a line behind every `FROM`.
    fn join(&self, name: &impl Fn(&UsedImage) -> String, begin: &str) -> String {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Image(at) => out.extend(self.images.get(*at).map(name)),
                Part::Stage => out.push_str(begin),
                Part::Text(text) => out.push_str(text),
            }
        }
        out
    }
}

struct Reader<'a> {
    found: Dockerfile,
    escape: char,
    variables: BTreeMap<String, String>,
    /// Bytes of their values.
    variables_length: usize,
    /// How many stages have begun.
    stages: usize,
    /// Names of the stages before the current one.
    names: BTreeSet<String>,
    /// The name of the current one.
    current: String,
    /// Where its instructions work, as far as it says so itself; empty: `/`.
    working_dir: String,
    args: &'a BTreeMap<String, Option<String>>,
}

/// What an instruction has written of itself.
enum Written {
    /// All of it, and a stage begins that has nothing of another.
    First,
    /// Nothing: it goes on as it was read.
    Not,
    /// All of it.
    Whole,
}

impl<'a> Reader<'a> {
    fn new(escape: char, args: &'a BTreeMap<String, Option<String>>) -> Self {
        Self {
            found: Dockerfile::default(),
            escape,
            variables: BTreeMap::new(),
            variables_length: 0,
            stages: 0,
            names: BTreeSet::new(),
            current: String::new(),
            working_dir: String::new(),
            args,
        }
    }

    fn write(&mut self, text: String) {
        self.found.parts.push(Part::Text(text));
    }

    fn instruction(&mut self, instruction: &Instruction) -> Result<(), DockerfileError> {
        self.found.instructions += 1;
        let text = instruction.pieces.concat();
        let written = self.judge(instruction.line, &text, false)?;
        if matches!(written, Written::Not) {
            let join = format!("{}\n", self.escape);
            self.write(instruction.pieces.join(&join));
        }
        self.write("\n".to_owned());
        if matches!(written, Written::First) {
            self.found.parts.push(Part::Stage);
        }
        Ok(())
    }

    fn judge(&mut self, line: usize, text: &str, trigger: bool) -> Result<Written, DockerfileError> {
        let error = |why: String| DockerfileError { line, why };
        let (word, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
        let rest = rest.trim_matches([' ', '\t']);
        let written = word;
        let word = written.to_ascii_uppercase();
        if !INSTRUCTIONS.contains(&word.as_str()) {
            return Err(error(format!("`{}` is no instruction", written.escape_debug().take(40).collect::<String>())));
        }
        if matches!(word.as_str(), "RUN" | "COPY" | "ADD") && has_heredoc(rest) {
            return Err(error("`<<` before a word begins a here-document for some builders, and not for others".to_owned()));
        }
        if !matches!(word.as_str(), "CMD" | "ENTRYPOINT" | "RUN") && text.len() > MOST_LENGTH {
            return Err(error(format!("{word} of more than {MOST_LENGTH} bytes")));
        }
        match word.as_str() {
            "ONBUILD" if trigger => return Err(error("ONBUILD in ONBUILD".to_owned())),
            // The builder reads a trigger with the usual escape character, and takes it apart with the file's.
            "ONBUILD" if self.escape != '\\' => return Err(error("ONBUILD in a Dockerfile with another escape character".to_owned())),
            // Nothing in a trigger is written anew.
            "ONBUILD" => return self.judge(line, rest, true),
            "FROM" if trigger => return Err(error("ONBUILD FROM".to_owned())),
            "FROM" => return self.from(line, rest),
            "ARG" if self.stages == 0 => self.arg(line, rest)?,
            "COPY" | "ADD" => return self.copy(line, &word, rest, trigger),
            "RUN" => {
                if let Some(flag) = flags(rest).map_err(error)?.0.first() {
                    return Err(DockerfileError { line, why: format!("`{flag}` is BuildKit's, and this is a classic build") });
                }
            }
            "WORKDIR" => {
                follow(&mut self.working_dir, &unquoted(rest));
                if self.working_dir.len() > MOST_VALUE {
                    return Err(error("a path that is too long".to_owned()));
                }
                if !self.working_dir.is_empty() && is_system_path(&self.working_dir) {
                    self.found.places.push(format!("Dockerfile:{line}"), Demand::Flag(Flag::SystemWorkingDir));
                }
            }
            "VOLUME" => {
                let paths: Vec<String> = match serde_json::from_str(rest) {
                    Ok(paths) => paths,
                    // The builder reads an array to its end, whatever follows, and half a surrogate as U+FFFD.
                    Err(_) if rest.starts_with('[') => return Err(error("a VOLUME that begins with `[` and is no list of strings".to_owned())),
                    Err(_) => words(rest, self.escape),
                };
                paths.iter().for_each(|path| brought_volume(format!("Dockerfile:{line}"), &unquoted(path), &mut self.found.places));
            }
            // Of all stages but the last its labels would stand as they are written.
            "LABEL" if names_reserved_label(rest, self.escape) => {
                return Err(error("a label that begins with `seawall.`, or a label's name that is a variable".to_owned()));
            }
            _ => {}
        }
        Ok(Written::Not)
    }

    fn copy(&mut self, line: usize, word: &str, rest: &str, trigger: bool) -> Result<Written, DockerfileError> {
        let error = |why: String| DockerfileError { line, why };
        let (flags, sources) = flags(rest).map_err(error)?;
        let known: &[&str] = if word == "COPY" { &["--chown=", "--chmod=", "--from="] } else { &["--chown=", "--chmod="] };
        if let Some(flag) = flags.iter().find(|flag| !known.iter().any(|known| flag.starts_with(known))) {
            return Err(error(format!("`{flag}`: a classic builder's {word} takes {}", known.join(" "))));
        }
        if flags.iter().filter(|flag| flag.starts_with("--from")).count() > 1 || flags.contains(&"--from") {
            return Err(error("`--from` takes one name, once".to_owned()));
        }
        if word == "ADD" {
            self.add(line, sources)?;
        }
        let Some(from) = flags.iter().find_map(|flag| flag.strip_prefix("--from=")) else { return Ok(Written::Not) };
        if trigger {
            return Err(error("`--from` in ONBUILD: it would mean what that name means in another build".to_owned()));
        }
        if from.is_empty() || from.contains('$') {
            return Err(error(format!("`--from={from}`: a name without variables is needed")));
        }
        // Engines take what is no number to them for an image.
        let index = from.parse::<u16>().ok().filter(|_| from.bytes().all(|b| b.is_ascii_digit()));
        if self.names.contains(&from.to_ascii_lowercase()) || index.is_some_and(|index| usize::from(index) < self.stages.saturating_sub(1)) {
            return Ok(Written::Not);
        }
        let flags: String = flags.iter().filter(|flag| !flag.starts_with("--from=")).map(|flag| format!("{flag} ")).collect();
        self.write(format!("{word} {flags}--from="));
        self.image(line, from, Usage::Copy)?;
        self.write(format!(" {sources}"));
        Ok(Written::Whole)
    }

    fn image(&mut self, line: usize, name: &str, usage: Usage) -> Result<(), DockerfileError> {
        if self.found.images.len() >= MOST_STAGES {
            return Err(DockerfileError { line, why: format!("more than {MOST_STAGES} images") });
        }
        self.found.parts.push(Part::Image(self.found.images.len()));
        self.found.images.push(UsedImage { line, name: name.to_owned(), usage });
        Ok(())
    }

    fn from(&mut self, line: usize, rest: &str) -> Result<Written, DockerfileError> {
        let error = |why: String| DockerfileError { line, why };
        let (flags, rest) = flags(rest).map_err(error)?;
        let platform = match flags.as_slice() {
            [] => "",
            [flag] => flag.strip_prefix("--platform=").ok_or_else(|| error(format!("`{flag}`: FROM takes `--platform=OS/ARCH`")))?,
            [..] => return Err(error("FROM takes one flag, `--platform=OS/ARCH`".to_owned())),
        };
        let platform = self.expand(platform).map_err(error)?;
        if !platform.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'-')) {
            return Err(error(format!("`{}` is no platform", platform.escape_debug().take(40).collect::<String>())));
        }
        let words: Vec<&str> = rest.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
        let (image, stage) = match words.as_slice() {
            [image] => (*image, ""),
            [image, word, stage] if word.eq_ignore_ascii_case("as") => (*image, *stage),
            _ => return Err(error("FROM takes an image, and `AS` with a name".to_owned())),
        };
        if !stage.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
            return Err(error(format!("`{}` is no stage's name", stage.escape_debug().take(40).collect::<String>())));
        }
        let image = self.expand(image).map_err(error)?;
        if !image.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(error(format!("`{}` is no image", image.escape_debug().take(40).collect::<String>())));
        }
        if image.is_empty() {
            return Err(error("FROM names no image: a variable in it is empty".to_owned()));
        }
        let before = std::mem::replace(&mut self.current, stage.to_ascii_lowercase());
        if !before.is_empty() {
            self.names.insert(before);
        }
        self.write(if platform.is_empty() { "FROM ".to_owned() } else { format!("FROM --platform={platform} ") });
        let is_stage = self.names.contains(&image.to_ascii_lowercase());
        if is_stage || image == "scratch" {
            self.write(image);
        } else {
            self.image(line, &image, Usage::Base { platform })?;
        }
        if !stage.is_empty() {
            self.write(format!(" AS {stage}"));
        }
        self.stages += 1;
        self.working_dir.clear();
        if self.stages > MOST_STAGES {
            return Err(error(format!("more than {MOST_STAGES} stages")));
        }
        Ok(if is_stage { Written::Whole } else { Written::First })
    }

    /// URLs and repositories among the sources of an ADD.
    fn add(&mut self, line: usize, sources: &str) -> Result<(), DockerfileError> {
        let words: Vec<String> = match serde_json::from_str::<Vec<String>>(sources) {
            Ok(words) => words,
            Err(_) => sources.split([' ', '\t']).map(str::to_owned).collect(),
        };
        for word in words {
            // Taken out of every word before it is looked at, also of those in brackets.
            if word.contains(['"', '\'', '\\', '`']) {
                return Err(DockerfileError {
                    line,
                    why: "quotes or escapes in an ADD: use COPY, or write it as [\"SOURCE\", \"TARGET\"]".to_owned(),
                });
            }
            let lower = word.to_ascii_lowercase();
            // A variable may hold an URL.
            if lower.contains("://") || lower.starts_with("git@") || lower.contains('$') || lower.contains("github.com/") {
                self.found.fetches.push((line, word));
            }
        }
        if self.found.fetches.len() > MOST_FETCHES {
            return Err(DockerfileError { line, why: format!("more than {MOST_FETCHES} sources of ADD that may be URLs") });
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
            let value = value.unwrap_or_default();
            self.variables_length += value.len();
            if value.len() > MOST_VALUE || self.variables_length > MOST_VALUES {
                return Err(DockerfileError { line, why: format!("the value of `{name}` is too long") });
            }
            self.variables.insert(name.to_owned(), value);
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
            if out.len() > MOST_VALUE {
                return Err(format!("`{}` becomes too long", text.chars().take(40).collect::<String>()));
            }
            rest = left;
        }
        out.push_str(rest);
        Ok(out)
    }
}

/// All that there are (moby `daemon/builder/dockerfile`, buildkit `frontend/dockerfile/command`).
const INSTRUCTIONS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// The leading words that begin with `--`, and the rest.
fn flags(text: &str) -> Result<(Vec<&str>, &str), String> {
    let (mut found, mut rest) = (Vec::new(), text.trim_start_matches([' ', '\t']));
    while rest.starts_with("--") {
        let (flag, after) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
        // moby takes quotes and escapes out of flags before it looks at their names.
        let name = flag.trim_start_matches("--").split('=').next().unwrap_or_default();
        // And it goes through them byte by byte: the second byte of `à` is a blank to it, and another flag may come behind.
        if flag.contains(['"', '\'', '\\', '`']) || !flag.is_ascii() || !name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') {
            return Err(format!("`{}`: a flag in lower case and ASCII, without quotes", flag.chars().take(40).collect::<String>()));
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

/// Whether a LABEL sets a label that says whose an image is, or may. `LABEL key=value …`, or `LABEL key value`.
fn names_reserved_label(rest: &str, escape: char) -> bool {
    let plain: String = rest.to_ascii_lowercase().chars().filter(|c| !matches!(c, '"' | '\'' | '\\' | '`')).collect();
    plain.contains("seawall.") || words(rest, escape).iter().any(|word| word.split('=').next().unwrap_or_default().contains('$'))
}

/// Without what the builder takes out of a word. A variable stays: what it means, and where links lead, is known in the container alone.
fn unquoted(word: &str) -> String {
    word.chars().filter(|c| !matches!(c, '"' | '\'' | '\\' | '`')).collect()
}

/// Words as the builder cuts them (`parseWords`): at blanks, but for those in quotes or behind the escape character.
fn words(text: &str, escape: char) -> Vec<String> {
    let (mut found, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (c, quote) {
            (' ' | '\t', None) => found.push(std::mem::take(&mut word)),
            _ if c == escape && quote != Some('\'') => word.extend([c].into_iter().chain(characters.next())),
            ('"' | '\'', None) => {
                quote = Some(c);
                word.push(c);
            }
            _ => {
                quote = quote.filter(|quote| *quote != c);
                word.push(c);
            }
        }
    }
    found.push(word);
    found.retain(|word| !word.is_empty());
    found
}

/// Most stages, and most images that are used.
const MOST_STAGES: usize = 256;
/// Most instructions: each is a step, and an image.
const MOST_INSTRUCTIONS: usize = 1024;
/// Most bytes of an instruction that is taken apart.
const MOST_LENGTH: usize = 64 << 10;
/// Most sources of ADD that are judged as URLs.
const MOST_FETCHES: usize = 256;
/// Most bytes of a variable's value.
const MOST_VALUE: usize = 4 << 10;
/// Most bytes of all of them.
const MOST_VALUES: usize = 1 << 20;

/// `<<` with anything behind it that could be the name of an end, in whatever quotes; `<<<` begins none (buildkit `parser.ParseHeredoc`).
fn has_heredoc(text: &str) -> bool {
    text.match_indices("<<").any(|(at, _)| {
        let (before, after) = text.split_at(at);
        !before.ends_with('<') && !matches!(after.chars().nth(2), None | Some(' ' | '\t' | '<'))
    })
}

/// Finds continuation lines, and leaves out comments and empty lines.
fn instructions(text: &str, escape: char) -> Result<Vec<Instruction>, DockerfileError> {
    let mut found: Vec<Instruction> = Vec::new();
    let mut open: Option<Instruction> = None;
    for (at, line) in text.split('\n').enumerate() {
        let error = |why: &str| DockerfileError { line: at + 1, why: why.to_owned() };
        let line = line.strip_suffix('\r').unwrap_or(line);
        // moby cuts lines at spaces and tabs alone; any other blank is a character to it, and a blank to people.
        if line.contains(|c: char| (c.is_whitespace() || c.is_control()) && !matches!(c, ' ' | '\t')) {
            return Err(error("a control character, or a blank that is neither space nor tab"));
        }
        let line = line.trim_end_matches([' ', '\t']);
        let blank = line.trim_start_matches([' ', '\t']);
        if blank.is_empty() || blank.starts_with('#') {
            continue;
        }
        // Blanks before an instruction mean nothing; those before a continuation are part of it.
        let piece = if open.is_some() { line } else { blank };
        let body = piece.trim_end_matches(escape);
        let escapes = piece.chars().count() - body.chars().count();
        if escapes > 1 {
            return Err(error("a line that ends with two escape characters goes on for some engines and not for others"));
        }
        if found.len() >= MOST_INSTRUCTIONS {
            return Err(DockerfileError { line: at + 1, why: format!("more than {MOST_INSTRUCTIONS} instructions") });
        }
        let mut instruction = open.take().unwrap_or(Instruction { line: at + 1, pieces: Vec::new() });
        // The builder looks for the word at the beginning of what is joined, behind blanks.
        let body = if instruction.pieces.is_empty() { body.trim_start_matches([' ', '\t']) } else { body };
        if !body.is_empty() {
            instruction.pieces.push(body.to_owned());
        }
        if escapes == 1 {
            open = Some(instruction);
        } else {
            found.push(instruction);
        }
    }
    found.extend(open.filter(|instruction| !instruction.pieces.is_empty()));
    for Instruction { line, pieces } in &mut found {
        let last = pieces.last_mut().map(|last| {
            last.truncate(last.trim_end_matches([' ', '\t']).len());
            last.as_str()
        });
        if last.is_none_or(|last| last.is_empty() || last.ends_with(escape)) {
            return Err(DockerfileError { line: *line, why: "an instruction that ends in a continuation".to_owned() });
        }
    }
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
        Ok(read.images.into_iter().map(|image| image.name).chain(read.fetches.into_iter().map(|(_, url)| url)).collect())
    }

    #[test]
    fn a_dockerfile_has_a_size_that_people_write() {
        let read = |text: String| images(&text, &[]).err();
        let (from, words) = ("FROM a\n", |count: usize| "$ ".repeat(count));
        assert_eq!(read(format!("{from}{}", "RUN true\n".repeat(1000))), None);
        for (text, why) in [
            (format!("{from}{}", "LABEL a=b\n".repeat(1024)), "more than 1024 instructions"),
            (format!("{from}ADD {} /y", words(40_000)), "ADD of more than 65536 bytes"),
            (format!("{from}ADD {} /y", words(300)), "more than 256 sources of ADD that may be URLs"),
            (format!("{from}VOLUME [\"/dev/x\"] y"), "a VOLUME that begins with `[` and is no list of strings"),
            (format!("{from}VOLUME [\"/dev/x\",\"\\ud800\"]"), "a VOLUME that begins with `[` and is no list of strings"),
            (format!("{from}ONBUILD VOLUME [\"/dev/x\"] y"), "a VOLUME that begins with `[` and is no list of strings"),
        ] {
            let read = read(text).unwrap_or_default();
            assert!(read.ends_with(why), "{read}: {why}");
        }
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
            ("a word goes on in the next line", "FROM a\nCO\\\nPY --from=evil /x /x", &["a", "evil"]),
            ("an instruction begins in the second line", "FROM a\n\\\n COPY --from=evil /x /x", &["a", "evil"]),
            ("an instruction begins behind blank lines", "FROM a\n\\\n  \\\n\n COPY --from=evil /x /x", &["a", "evil"]),
            ("a flag goes on in the next line", "FROM a\nCOPY --fr\\\n# comment\nom=evil /x /x", &["a", "evil"]),
            ("an URL goes on in the next line", "FROM a\nADD http:\\\n//127.0.0.1/x /x", &["a", "http://127.0.0.1/x"]),
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
        let injected = "linux/amd64 a\nCOPY --from=evil /x /x\nFROM";
        assert_eq!(
            images("ARG P\nFROM --platform=$P scratch", &[("P", injected)]).unwrap_err(),
            "Dockerfile:2: `linux/amd64 a\\nCOPY --from=evil /x /x\\nF` is no platform"
        );
        assert_eq!(images("ARG B\nFROM $B", &[("B", "a\nFROM b")]).unwrap_err(), "Dockerfile:2: `a\\nFROM b` is no image");
        for index in ["18446744073709551615", "65536", "+0"] {
            assert_eq!(images(&format!("FROM a\nFROM b\nCOPY --from={index} / /"), &[]).unwrap(), ["a", "b", index]);
        }
        assert_eq!(images("FROM $B", &[("B", "evil")]).unwrap_err(), "Dockerfile:1: FROM names no image: a variable in it is empty");
    }

    #[test]
    fn what_engines_read_differently_is_refused() {
        for text in [
            "FROM a\nRUN echo x \\\u{a0}\nCOPY --from=evil /x /x",
            "FROM alpine AS victim\nFROM alpine\nONBUILD COPY --from=victim / /",
            "FROM alpine\nONBUILD COPY --from=evil/img / /",
            "FROM alpine\nFR\\\nOM x y z",
            "FROM alpine\nRUN x \\ \\\n",
            "FROM --chown=x alpine",
            "FROM alpine\nMOUNT x",
            "FROM a\nCOPY --fr\\om=evil /x /x",
            "FROM a\nCOPY --\"from\"=evil /x /x",
            "FROM a\nADD http\":\"//127.0.0.1/x /x",
            "# foo=bar\n# escape=`\nFROM a\nRUN x # `\nCOPY --from=evil /x /x",
            "ARG 1=evil/\nFROM $1img:1",
            "ARG A=x\nFROM $1img:1",
            "FROM a\nONBUILD COPY --from=0 /x /x",
            "FROM a\nONBUILD FROM evil",
            "FROM a\nLABEL \"sea\"wall.tenant=victim\nFROM a",
            "FROM a\nLABEL sea\\\nwall.tenant=victim\nFROM a",
            "FROM a\nONBUILD LABEL sea\\\nwall.tenant=victim\nFROM a",
            "FROM a\nARG K=seawall\nLABEL $K.tenant=victim\nFROM a",
            "FROM a\nARG K=seawall\nLABEL a='b \\' $K.tenant=victim\nFROM a",
            "FROM alpine\nRUN <<EOF\nFROM evil\nEOF",
            "FROM alpine\nRUN cat <<-'EOF'\nEOF",
            "FROM alpine\nRUN --mount=type=bind,from=evil id",
            "FROM alpine\nRUN echo \\\\\nFROM evil",
            "FROM scratch\nCOPY --from=$X / /",
            "FROM a b",
            "FROM ${A:?x}",
            "# escape=`\nFROM a\nONBUILD RUN x",
            "FROM a\nCOPY --chown=u\u{e0}--from=evil /x /x",
            "FROM a\nADD --chown=u\u{e0}http://127.0.0.1/x /x",
            "FROM a\nONBUILD COPY --chown=u\u{e0}--from=evil /x /x",
            "FROM a\nCOPY --link /x /x",
            "FROM a\nADD [\"http:''//127.0.0.1/x\", \"/x\"]",
            "# escape=`\nFROM a\nADD [\"http:`//127.0.0.1/x\", \"/x\"]",
            "FROM a\nRUN true <<\\CMD\nFROM scratch AS evil\nFROM a\nCMD\nCOPY --from=evil /x /x",
            "FROM a\nRUN true <<\"\"\\RUN\nRUN",
            "FROM a\nRUN true 3<<'EOF' x",
            "FROM \"alpine\"",
        ] {
            assert!(images(text, &[]).is_err(), "{text}");
        }
    }

    fn written(text: &str) -> String {
        Dockerfile::parse(text.as_bytes(), &BTreeMap::new()).unwrap().write(|image| image.name.to_uppercase()).unwrap()
    }

    #[test]
    fn the_engine_gets_what_was_read() {
        for (text, wanted) in [
            ("\u{feff}# syntax=evil\nfrom  alpine  as  b # x\n", None),
            ("\u{feff}# syntax=evil\nARG V=3\nfrom  alpine:$V  as  b\n\n# x\nFROM B", Some("ARG V=3\nFROM ALPINE:3 AS b\nFROM B\n")),
            ("FROM --platform=linux/arm64 a", Some("FROM --platform=linux/arm64 A\n")),
            ("FROM scratch\r\nCOPY --chown=1  --from=b  /x   /y \r\n", Some("FROM scratch\nCOPY --chown=1 --from=B /x   /y\n")),
            ("FROM scratch\nRUN a \\\n  # comment\n\n   b \\\n c", Some("FROM scratch\nRUN a \\\n   b \\\n c\n")),
            ("# escape=`\nFROM a\nRUN a `\n b\\\nRUN c", Some("# escape=`\nFROM A\nRUN a `\n b\\\nRUN c\n")),
            ("FROM a\nLABEL d=\"x $V\" e='$V y'", Some("FROM A\nLABEL d=\"x $V\" e='$V y'\n")),
            ("FROM a\nRUN cat <<< x && echo $((1 << 2))", Some("FROM A\nRUN cat <<< x && echo $((1 << 2))\n")),
        ] {
            let read = Dockerfile::parse(text.as_bytes(), &BTreeMap::new());
            let written = read.as_ref().ok().map(|read| read.write(|image| image.name.to_uppercase()).unwrap());
            assert_eq!(written.as_deref(), wanted, "{text:?} {read:?}");
        }
        // Once written it is read as it is, and written the same.
        let once = written("FROM a AS b\nRUN x\\\n  y\nCOPY --from=b /c /d\nWORKDIR /w");
        assert_eq!(written(&once), once);
        // With an owner, whatever begins a stage that is not a stage.
        let mut owned = Dockerfile::parse(b"FROM a AS b\nFROM b\nFROM scratch\nCOPY --from=b / /", &BTreeMap::new()).unwrap();
        owned.claim("uid:1000");
        let label = "LABEL seawall.kind=image seawall.tenant=uid:1000\n";
        let wanted = format!("FROM a AS b\n{label}FROM b\nFROM scratch\n{label}COPY --from=b / /\n");
        assert_eq!(owned.write(|image| image.name.clone()).as_deref(), Ok(&*wanted));
        owned.claim("a\nRUN x");
        assert!(!owned.write(|image| image.name.clone()).unwrap().contains("RUN"));
        // A name that brings an instruction with it is seen.
        let read = Dockerfile::parse(b"FROM a", &BTreeMap::new()).unwrap();
        assert!(read.write(|_| "a\nCOPY --from=victim / /".to_owned()).is_err());
    }

    #[test]
    fn triggers_of_base_images_are_judged() {
        let demands = |trigger: &str| {
            let mut facts = Facts::default();
            let image = crate::facts::Object {
                brings: Brings { triggers: vec![trigger.to_owned()], ..Brings::default() },
                ..crate::facts::Object::named(ObjectKind::Image, "base", crate::facts::Owner::Nobody)
            };
            facts.insert(Reference { kind: ObjectKind::Image, name: "base".to_owned() }, Some(image.into()));
            let read = Dockerfile::parse(b"FROM base", &BTreeMap::new()).unwrap();
            read.brought_demands(&facts).map(|demands| demands.len()).map_err(|error| error.to_string())
        };
        assert_eq!(demands("RUN make"), Ok(0));
        assert_eq!(demands("COPY . /app"), Ok(0));
        assert_eq!(demands("ADD http://10.0.0.1/x /x"), Ok(1));
        for trigger in ["COPY --from=victim / /", "COPY --fr\\\nom=victim / /", "FROM victim", "LABEL seawall.tenant=victim", "ONBUILD RUN x"] {
            assert!(demands(trigger).unwrap_err().starts_with("Dockerfile:1: a trigger of base: "), "{trigger}");
        }
    }

    #[test]
    fn variables_do_not_grow_without_bound() {
        let mut text = "ARG A=xxxxxxxxxxxxxxxx\n".to_owned();
        for _ in 0..64 {
            text.push_str("ARG A=$A$A$A$A\n");
        }
        assert_eq!(images(&text, &[]).unwrap_err(), "Dockerfile:6: `$A$A$A$A` becomes too long");
        let many: String = (0..400).map(|n| format!("ARG A{n}={}\n", "x".repeat(4000))).collect();
        assert!(images(&many, &[]).unwrap_err().ends_with("is too long"));
        let copies = format!("FROM a\n{}", "COPY --from=b / /\n".repeat(300));
        assert_eq!(images(&copies, &[]).unwrap_err(), "Dockerfile:257: more than 256 images");
    }
}
