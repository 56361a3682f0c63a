//! A build context: a tar archive that streams by, looked through for its Dockerfile.
//!
//! Formats: POSIX ustar and pax (IEEE Std 1003.1-2017, pax), GNU long names. What two readers of tar could take differently is refused: entries
//! that are given twice where it matters, sizes that contradict each other, links on the way to the Dockerfile.

use std::collections::BTreeSet;

use crate::types::strings::clean_path;

/// Looks through an archive.
#[derive(Debug)]
pub struct Context {
    /// Paths that the engine may read the Dockerfile from, clean, with a leading slash.
    wanted: Vec<String>,
    state: State,
    block: Vec<u8>,
    /// A name from a pax header or a GNU long name, for the next entry.
    name: Option<String>,
    links: BTreeSet<String>,
    found: Option<Vec<u8>>,
    ended: bool,
}

#[derive(Debug)]
enum State {
    /// At a header.
    Header,
    /// In an entry's content; then padding.
    Content { left: u64, padding: u64, keep: Keep },
}

/// What an entry's content is kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    Dockerfile,
    LongLink,
    LongName,
    Nothing,
    Pax,
    PaxGlobal,
}

/// An archive that is not understood, or that engines could read differently.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("build context: {0}")]
pub struct ContextError(pub String);

const BLOCK: usize = 512;
/// Most bytes of a Dockerfile, or of a header's extension.
const MOST: u64 = 1 << 20;
/// Most symbolic links that are remembered.
const MOST_LINKS: usize = 100_000;

impl Context {
    /// Looks for the Dockerfile of this name; empty: `Dockerfile`, or `dockerfile` where there is none.
    #[must_use]
    pub fn new(dockerfile: &str) -> Self {
        let wanted = match dockerfile {
            "" | "Dockerfile" => vec!["/Dockerfile".to_owned(), "/dockerfile".to_owned()],
            other => clean_path(&format!("/{other}")).into_iter().collect(),
        };
        Self { wanted, state: State::Header, block: Vec::new(), name: None, links: BTreeSet::new(), found: None, ended: false }
    }

    /// The Dockerfile, once it has passed.
    #[must_use]
    pub fn dockerfile(&self) -> Option<&[u8]> {
        let passing = matches!(self.state, State::Content { keep: Keep::Dockerfile, .. });
        self.found.as_deref().filter(|_| !passing)
    }

    /// Whether the archive has ended: what follows is read by nobody.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Takes the next bytes of the archive.
    ///
    /// # Errors
    /// [`ContextError`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), ContextError> {
        let mut rest = bytes;
        while !rest.is_empty() && !self.ended {
            rest = match self.state {
                State::Header => self.header(rest)?,
                State::Content { .. } => self.content(rest)?,
            };
        }
        Ok(())
    }

    fn header<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], ContextError> {
        let (taken, rest) = bytes.split_at(bytes.len().min(BLOCK - self.block.len()));
        self.block.extend_from_slice(taken);
        if self.block.len() == BLOCK {
            let block = std::mem::take(&mut self.block);
            if block.iter().all(|b| *b == 0) {
                // One empty block ends an archive for some readers, two for others.
                self.ended = true;
            } else {
                self.entry(&block)?;
            }
        }
        Ok(rest)
    }

    fn content<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], ContextError> {
        let State::Content { left, padding, keep } = &mut self.state else { return Ok(bytes) };
        let take = |most: u64| usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len());
        if *left > 0 {
            let (content, rest) = bytes.split_at(take(*left));
            *left -= u64::try_from(content.len()).unwrap_or_default();
            match keep {
                Keep::Nothing => {}
                Keep::Dockerfile => self.found.get_or_insert_default().extend_from_slice(content),
                Keep::LongLink | Keep::LongName | Keep::Pax | Keep::PaxGlobal => self.block.extend_from_slice(content),
            }
            if *left > 0 || *padding > 0 {
                return Ok(rest);
            }
            let keep = *keep;
            self.finish(keep)?;
            return Ok(rest);
        }
        let (_, rest) = bytes.split_at(take(*padding));
        *padding -= u64::try_from(bytes.len() - rest.len()).unwrap_or_default();
        if *padding == 0 {
            let keep = *keep;
            self.finish(keep)?;
        }
        Ok(rest)
    }

    /// The end of an entry.
    fn finish(&mut self, keep: Keep) -> Result<(), ContextError> {
        self.state = State::Header;
        let extension = std::mem::take(&mut self.block);
        match keep {
            Keep::Dockerfile | Keep::LongLink | Keep::Nothing => {}
            Keep::LongName => {
                let name = extension.split(|b| *b == 0).next().unwrap_or_default();
                self.name = Some(text(name)?);
            }
            Keep::Pax => {
                if let Some(name) = pax(&extension, false)? {
                    self.name = Some(name);
                }
            }
            Keep::PaxGlobal => {
                pax(&extension, true)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, block: &[u8]) -> Result<(), ContextError> {
        let field = |from: usize, length: usize| block.get(from..from + length).unwrap_or_default();
        check_sum(block, field(148, 8))?;
        let size = number(field(124, 12))?;
        let kind = field(156, 1).first().copied().unwrap_or_default();
        let keep = match kind {
            b'x' => Keep::Pax,
            b'g' => Keep::PaxGlobal,
            b'L' => Keep::LongName,
            b'K' => Keep::LongLink,
            _ => Keep::Nothing,
        };
        if keep != Keep::Nothing {
            return self.enter(size, keep);
        }
        let short = name_in(field(0, 100), field(345, 155), field(257, 6))?;
        let name = self.name.take().unwrap_or(short);
        if name.split('/').any(|part| part == "..") {
            return Err(ContextError(format!("`{}` leads out of it", name.escape_debug())));
        }
        let path = clean_path(&format!("/{name}")).ok_or_else(|| ContextError(format!("the name `{}`", name.escape_debug())))?;
        self.place(&path, kind)?;
        match kind {
            0 | b'0' | b'7' if self.wanted.contains(&path) => {
                if self.found.is_some() {
                    return Err(ContextError(format!("`{name}` is there twice, or in two spellings: engines would take the one or the other")));
                }
                self.found = Some(Vec::new());
                self.enter(size, Keep::Dockerfile)
            }
            0 | b'0' | b'7' => self.enter(size, Keep::Nothing),
            // Links and directories have no content, whatever the size says.
            b'1' | b'2' | b'5' if size == 0 => Ok(()),
            b'1' | b'2' | b'5' => Err(ContextError(format!("`{}` is no file and has a size", name.escape_debug()))),
            b'3' | b'4' | b'6' => Err(ContextError(format!("`{}` is a device or a pipe", name.escape_debug()))),
            other => Err(ContextError(format!("an entry of type `{}`", char::from(other).escape_debug()))),
        }
    }

    /// Whether an entry may be where it is: not behind a link, and not in the place of the Dockerfile or of a directory above it.
    fn place(&mut self, path: &str, kind: u8) -> Result<(), ContextError> {
        let is_directory = kind == b'5';
        let is_file = matches!(kind, 0 | b'0' | b'7');
        let above = |link: &str| path.strip_prefix(link).is_some_and(|rest| rest.starts_with('/'));
        if path.match_indices('/').skip(1).any(|(at, _)| path.get(..at).is_some_and(|parent| self.links.contains(parent) && above(parent))) {
            return Err(ContextError(format!("`{path}` is behind a symbolic link")));
        }
        let leads_to_dockerfile = self.wanted.iter().any(|wanted| wanted.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')));
        if (leads_to_dockerfile && !is_directory) || (self.wanted.iter().any(|wanted| wanted == path) && !is_file) {
            return Err(ContextError(format!("`{path}` is a link, or something else in the place of the Dockerfile")));
        }
        if kind == b'2' {
            if self.links.len() >= MOST_LINKS {
                return Err(ContextError("too many symbolic links".to_owned()));
            }
            self.links.insert(path.to_owned());
        }
        Ok(())
    }

    fn enter(&mut self, size: u64, keep: Keep) -> Result<(), ContextError> {
        if keep != Keep::Nothing && size > MOST {
            return Err(ContextError(format!("a Dockerfile or header of {size} bytes")));
        }
        let padding = size.next_multiple_of(512) - size;
        self.state = State::Content { left: size, padding, keep };
        if size == 0 { self.finish(keep) } else { Ok(()) }
    }
}

/// Whether bytes begin as a plain tar archive does: with a header whose checksum is right, or with an empty block.
#[must_use]
pub fn is_archive(bytes: &[u8]) -> bool {
    match bytes.get(..BLOCK) {
        Some(block) => block.iter().all(|b| *b == 0) || check_sum(block, block.get(148..156).unwrap_or_default()).is_ok(),
        None => false,
    }
}

fn text(bytes: &[u8]) -> Result<String, ContextError> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| ContextError("a name that is not UTF-8".to_owned()))
}

fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == 0).next().unwrap_or_default()
}

fn name_in(name: &[u8], prefix: &[u8], magic: &[u8]) -> Result<String, ContextError> {
    let name = text(until_zero(name))?;
    // GNU archives have other fields in the place of the prefix.
    let prefix = if magic == b"ustar\0" { text(until_zero(prefix))? } else { String::new() };
    Ok(if prefix.is_empty() { name } else { format!("{prefix}/{name}") })
}

/// Octal, or base 256 where the first bit is set.
fn number(field: &[u8]) -> Result<u64, ContextError> {
    let bad = || ContextError("a header with a size that is no number".to_owned());
    if let Some((first, rest)) = field.split_first()
        && first & 0x80 != 0
    {
        let mut number = u64::from(first & 0x7f);
        for b in rest {
            number = number.checked_mul(256).and_then(|number| number.checked_add(u64::from(*b))).ok_or_else(bad)?;
        }
        return if number > 1 << 50 { Err(bad()) } else { Ok(number) };
    }
    let digits = std::str::from_utf8(until_zero(field)).map_err(|_| bad())?.trim_matches(' ');
    if digits.is_empty() {
        return Ok(0);
    }
    if !digits.bytes().all(|b| (b'0'..=b'7').contains(&b)) {
        return Err(bad());
    }
    u64::from_str_radix(digits, 8).map_err(|_| bad())
}

fn check_sum(block: &[u8], field: &[u8]) -> Result<(), ContextError> {
    let sum: u64 = block.iter().enumerate().map(|(at, b)| if (148..156).contains(&at) { 32 } else { u64::from(*b) }).sum();
    match number(field.get(..7).unwrap_or_default()) {
        Ok(given) if given == sum => Ok(()),
        _ => Err(ContextError("not a tar archive: a header's checksum is wrong".to_owned())),
    }
}

/// Reads a pax header. Gives the path that it sets; refuses a size, which would contradict the header's own.
fn pax(bytes: &[u8], global: bool) -> Result<Option<String>, ContextError> {
    let bad = || ContextError("a malformed pax header".to_owned());
    let (mut rest, mut path) = (bytes, None);
    while !rest.is_empty() {
        let space = rest.iter().position(|b| *b == b' ').ok_or_else(bad)?;
        let length: usize = std::str::from_utf8(rest.get(..space).unwrap_or_default()).ok().and_then(|digits| digits.parse().ok()).ok_or_else(bad)?;
        if length <= space + 1 || length > rest.len() {
            return Err(bad());
        }
        let (record, after) = rest.split_at(length);
        let record = record.get(space + 1..).and_then(|record| record.strip_suffix(b"\n")).ok_or_else(bad)?;
        let equals = record.iter().position(|b| *b == b'=').ok_or_else(bad)?;
        let (key, value) = record.split_at(equals);
        let value = value.get(1..).unwrap_or_default();
        match key {
            b"path" if !global && path.is_none() => path = Some(text(value)?),
            b"path" | b"size" => return Err(ContextError("a pax header with a second path, or with a size".to_owned())),
            key if key.starts_with(b"GNU.sparse") => return Err(ContextError("a sparse file".to_owned())),
            _ => {}
        }
        rest = after;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One entry of an archive.
    fn entry(name: &str, kind: u8, content: &str) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        block[156] = kind;
        block[257..263].copy_from_slice(b"ustar\0");
        block[148..156].copy_from_slice(b"        ");
        let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        block.extend_from_slice(content.as_bytes());
        block.resize(block.len().next_multiple_of(BLOCK), 0);
        block
    }

    fn read(name: &str, entries: &[Vec<u8>]) -> Result<Option<String>, ContextError> {
        let mut bytes = entries.concat();
        bytes.resize(bytes.len() + 2 * BLOCK, 0);
        // In odd pieces, so that nothing depends on where they end.
        let mut context = Context::new(name);
        for piece in bytes.chunks(77) {
            context.push(piece)?;
        }
        assert!(context.is_ended());
        Ok(context.dockerfile().map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
    }

    #[test]
    fn finds_the_dockerfile() {
        let found = read("", &[entry("a", b'0', "x"), entry("./Dockerfile", b'0', "FROM a"), entry("d/", b'5', ""), entry("d/Dockerfile", b'0', "FROM b")]);
        assert_eq!(found, Ok(Some("FROM a".to_owned())));
        assert_eq!(read("d/../d/Dockerfile", &[entry("d/Dockerfile", b'0', "FROM b")]), Ok(Some("FROM b".to_owned())));
        let long = entry("././@LongLink", b'L', "Dockerfile\0");
        assert_eq!(read("", &[long, entry("other", b'0', "FROM c")]), Ok(Some("FROM c".to_owned())));
        let pax = entry("x", b'x', "19 path=Dockerfile\n");
        assert_eq!(read("", &[pax, entry("other", b'0', "FROM d")]), Ok(Some("FROM d".to_owned())));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let good = || entry("Dockerfile", b'0', "FROM a");
        for (name, entries) in [
            ("twice", vec![good(), entry("./Dockerfile", b'0', "FROM evil")]),
            ("two cases", vec![good(), entry("dockerfile", b'0', "FROM evil")]),
            ("then a link", vec![good(), entry("Dockerfile", b'2', "")]),
            ("through a link", vec![entry("d", b'2', ""), entry("d/Dockerfile", b'0', "FROM evil")]),
            ("out of it", vec![entry("../Dockerfile", b'0', "FROM evil")]),
            ("device", vec![entry("x", b'3', "")]),
            ("sparse", vec![entry("x", b'S', "")]),
            ("pax size", vec![entry("x", b'x', "10 size=9\n"), good()]),
            ("no archive", vec![vec![7; BLOCK]]),
        ] {
            assert!(read("", &entries).is_err(), "{name}");
        }
    }
}
