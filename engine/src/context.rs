//! An archive that streams by: read, judged, and written anew.
//!
//! Formats that are read: POSIX ustar and pax (IEEE Std 1003.1-2017, pax), GNU long names. What is sent is written here, entry by entry, in one form
//! (ustar, with a pax header where a name or number does not fit), so that there is nothing for a second reader of tar to read otherwise.
//! Extended attributes, owners' names and everything else beside type, name, link, mode, owner, time and content is left out.
//! A build's Dockerfile comes last, in the form in which it was judged.

use std::collections::BTreeSet;

use crate::types::strings::clean_path;

/// Reads an archive, looks for a Dockerfile in it, and writes it anew.
#[derive(Debug)]
pub struct Context {
    /// Paths that the engine may read the Dockerfile from, clean, with a leading slash. None: nothing is looked for.
    wanted: Vec<String>,
    state: State,
    block: Vec<u8>,
    extended: Extended,
    links: Links,
    found: Option<Found>,
    entries: u64,
    ended: bool,
}

#[derive(Debug)]
enum State {
    /// At a header.
    Header,
    /// In an entry's content; then padding.
    Content { left: u64, padding: u64, keep: Keep },
}

/// The Dockerfile of a build.
#[derive(Debug)]
struct Found {
    path: String,
    mode: u64,
    owner: (u64, u64),
    time: u64,
    content: Vec<u8>,
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

/// What headers before an entry say about it.
#[derive(Debug, Default)]
struct Extended {
    name: Option<String>,
    link: Option<String>,
}

/// An entry as it is written.
struct Entry<'e> {
    kind: u8,
    name: &'e str,
    link: &'e str,
    size: u64,
    mode: u64,
    owner: (u64, u64),
    time: u64,
}

/// An archive that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("archive: {0}")]
pub struct ContextError(pub String);

const BLOCK: usize = 512;
/// Most bytes of a Dockerfile, or of a header's extension.
const MOST: u64 = 1 << 20;
/// Most symbolic links.
const MOST_LINKS: usize = 100_000;
/// Most bytes of a path (linux/limits.h, PATH_MAX).
const MOST_PATH: usize = 4096;
/// The largest number that eleven octal digits hold.
const MOST_SIZE: u64 = 0o777_7777_7777;

impl Context {
    /// Looks for the Dockerfile of this name; empty: `Dockerfile`, or `dockerfile` where there is none.
    #[must_use]
    pub fn new(dockerfile: &str) -> Self {
        let wanted = match dockerfile {
            "" | "Dockerfile" => vec!["/Dockerfile".to_owned(), "/dockerfile".to_owned()],
            other => clean_path(&format!("/{other}")).into_iter().collect(),
        };
        Self { wanted, ..Self::any() }
    }

    /// Looks for nothing.
    #[must_use]
    pub fn any() -> Self {
        Self {
            wanted: Vec::new(),
            state: State::Header,
            block: Vec::new(),
            extended: Extended::default(),
            links: Links::default(),
            found: None,
            entries: 0,
            ended: false,
        }
    }

    /// The Dockerfile, once it has passed.
    #[must_use]
    pub fn dockerfile(&self) -> Option<&[u8]> {
        let passing = matches!(self.state, State::Content { keep: Keep::Dockerfile, left: 1.., .. });
        self.found.as_ref().filter(|_| !passing).map(|found| found.content.as_slice())
    }

    /// Whether there was an entry, or the end.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        self.entries > 0 || self.ended
    }

    /// About how many bytes of memory it takes: of an archive that is compressed it takes few to fill much.
    #[must_use]
    pub fn kept(&self) -> usize {
        let found = self.found.as_ref().map_or(0, |found| found.content.capacity());
        let extended = [&self.extended.name, &self.extended.link].into_iter().flatten().map(String::capacity).sum::<usize>();
        self.block.capacity() + found + extended + self.links.kept()
    }

    /// Whether the next bytes, as many as are said, lie within a file's content and are sent as they are: then they are taken.
    pub fn pass(&mut self, length: usize) -> bool {
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        match &mut self.state {
            State::Content { left, keep: Keep::Nothing, .. } if *left > length => {
                *left -= length;
                true
            }
            State::Content { .. } | State::Header => false,
        }
    }

    /// Takes the next bytes of the archive; adds what is to be sent.
    ///
    /// # Errors
    /// [`ContextError`].
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), ContextError> {
        let mut rest = bytes;
        while !rest.is_empty() && !self.ended {
            rest = match self.state {
                State::Header => self.header(rest, out)?,
                State::Content { .. } => self.content(rest, out)?,
            };
        }
        Ok(())
    }

    /// Ends the archive; adds what is to be sent: the Dockerfile that was looked for, with the content that it is to have.
    ///
    /// # Errors
    /// It ends in the middle of an entry.
    pub fn end(&mut self, dockerfile: &[u8], out: &mut Vec<u8>) -> Result<(), ContextError> {
        if !self.block.is_empty() || !matches!(self.state, State::Header) {
            return Err(ContextError("it is cut off".to_owned()));
        }
        self.ended = true;
        if let Some(Found { path, mode, owner, time, content: _ }) = self.found.take() {
            let size = u64::try_from(dockerfile.len()).unwrap_or_default();
            Entry { kind: b'0', name: path.trim_start_matches('/'), link: "", size, mode, owner, time }.write(out)?;
            out.extend_from_slice(dockerfile);
            out.resize(out.len().next_multiple_of(BLOCK), 0);
        }
        out.resize(out.len() + 2 * BLOCK, 0);
        Ok(())
    }

    fn header<'b>(&mut self, bytes: &'b [u8], out: &mut Vec<u8>) -> Result<&'b [u8], ContextError> {
        let (taken, rest) = bytes.split_at(bytes.len().min(BLOCK - self.block.len()));
        self.block.extend_from_slice(taken);
        if self.block.len() == BLOCK {
            let block = std::mem::take(&mut self.block);
            if block.iter().all(|b| *b == 0) {
                self.ended = true;
            } else {
                self.entry(&block, out)?;
            }
        }
        Ok(rest)
    }

    fn content<'b>(&mut self, bytes: &'b [u8], out: &mut Vec<u8>) -> Result<&'b [u8], ContextError> {
        let State::Content { left, padding, keep } = &mut self.state else { return Ok(bytes) };
        let take = |most: u64| usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len());
        let (content, rest) = bytes.split_at(take(if *left > 0 { *left } else { *padding }));
        let length = u64::try_from(content.len()).unwrap_or_default();
        if *left > 0 {
            *left -= length;
            match keep {
                Keep::Nothing => out.extend_from_slice(content),
                Keep::Dockerfile => self.found.iter_mut().for_each(|found| found.content.extend_from_slice(content)),
                Keep::LongLink | Keep::LongName | Keep::Pax | Keep::PaxGlobal => self.block.extend_from_slice(content),
            }
            if *left == 0 && *keep == Keep::Nothing {
                out.resize(out.len() + usize::try_from(*padding).unwrap_or_default(), 0);
            }
        } else {
            *padding -= length;
        }
        if *left == 0 && *padding == 0 {
            let keep = *keep;
            self.finish(keep)?;
        }
        Ok(rest)
    }

    /// The end of an entry.
    fn finish(&mut self, keep: Keep) -> Result<(), ContextError> {
        self.state = State::Header;
        let extension = std::mem::take(&mut self.block);
        let line = || text(extension.split(|b| *b == 0).next().unwrap_or_default());
        match keep {
            Keep::Dockerfile | Keep::Nothing => {}
            Keep::LongLink => self.extended.link = Some(line()?),
            Keep::LongName => self.extended.name = Some(line()?),
            Keep::Pax => self.extended = pax(&extension, false)?,
            Keep::PaxGlobal => drop(pax(&extension, true)?),
        }
        Ok(())
    }

    fn entry(&mut self, block: &[u8], out: &mut Vec<u8>) -> Result<(), ContextError> {
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
        let extended = std::mem::take(&mut self.extended);
        let name = match extended.name {
            Some(name) => name,
            None => name_in(field(0, 100), field(345, 155), field(257, 6))?,
        };
        let link = match extended.link {
            Some(link) => link,
            None => text(until_zero(field(157, 100)))?,
        };
        let shown = name.escape_debug().take(100).collect::<String>();
        if name.split('/').any(|part| part == "..") {
            return Err(ContextError(format!("`{shown}` leads out of it")));
        }
        let path =
            clean_path(&format!("/{name}")).filter(|path| path.len() <= MOST_PATH).ok_or_else(|| ContextError(format!("the name `{shown}`")))?;
        if link.len() > MOST_PATH || link.chars().any(char::is_control) {
            return Err(ContextError(format!("the target of the link `{shown}`")));
        }
        let (kind, size) = match kind {
            0 | b'0' | b'7' if !name.ends_with('/') && path != "/" => (b'0', size),
            b'1' | b'2' if size == 0 && path != "/" => (kind, 0),
            b'5' if size == 0 => (kind, 0),
            b'3' | b'4' | b'6' => return Err(ContextError(format!("`{shown}` is a device or a pipe"))),
            other => {
                return Err(ContextError(format!("`{shown}` is an entry of type `{}` that is not understood", char::from(other).escape_debug())));
            }
        };
        self.place(&path, kind, &link)?;
        let loose = |from, length| number(field(from, length)).unwrap_or_default();
        let (mode, owner, time) = (loose(100, 8) & 0o7777, (loose(108, 8), loose(116, 8)), loose(136, 12).min(MOST_SIZE));
        self.entries += 1;
        if kind == b'0' && self.wanted.contains(&path) {
            if self.found.replace(Found { path, mode, owner, time, content: Vec::new() }).is_some() {
                return Err(ContextError(format!("`{shown}` is there twice, or in two spellings: engines would take the one or the other")));
            }
            return self.enter(size, Keep::Dockerfile);
        }
        let entry = Entry { kind, name: path.trim_start_matches('/'), link: &link, size, mode, owner, time };
        entry.write(out)?;
        self.enter(size, Keep::Nothing)
    }

    /// Whether an entry may be where it is: not behind a link, and not in the place of the Dockerfile or of a directory above it.
    fn place(&mut self, path: &str, kind: u8, link: &str) -> Result<(), ContextError> {
        let shown = || path.chars().take(100).collect::<String>();
        if self.links.lead_to(path) == Leads::Behind {
            return Err(ContextError(format!("`{}` is behind a symbolic link", shown())));
        }
        let leads_to_dockerfile = self.wanted.iter().any(|wanted| wanted.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')));
        if (leads_to_dockerfile && kind != b'5') || (self.wanted.iter().any(|wanted| wanted == path) && kind != b'0') {
            return Err(ContextError(format!("`{}` is a link, or something else in the place of the Dockerfile", shown())));
        }
        if kind == b'1' {
            let target = clean_path(&format!("/{link}")).unwrap_or_default();
            if self.links.lead_to(&target) != Leads::Nowhere || self.wanted.contains(&target) || link.split('/').any(|part| part == "..") {
                return Err(ContextError(format!("`{}` is a hard link to a symbolic link, or to the Dockerfile", shown())));
            }
        }
        if kind == b'2' && !self.links.insert(path) {
            return Err(ContextError(format!("more than {MOST_LINKS} symbolic links")));
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

/// The paths of symbolic links, as a hash of each: two that have one lead to a refusal that is not needed, which nobody meets who does not look for it.
#[derive(Debug, Default)]
struct Links(BTreeSet<u64>);

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
enum Leads {
    /// Through a symbolic link.
    Behind,
    /// Past all of them.
    Nowhere,
    /// To one.
    There,
}

impl Links {
    /// Looks for the beginnings of a path in one walk along it.
    fn lead_to(&self, path: &str) -> Leads {
        let mut hash = FNV_OFFSET;
        for byte in path.bytes() {
            if byte == b'/' && self.0.contains(&hash) {
                return Leads::Behind;
            }
            hash = hashed(hash, byte);
        }
        if self.0.contains(&hash) { Leads::There } else { Leads::Nowhere }
    }

    /// A node of the set has eleven places, of which five are filled at least.
    fn kept(&self) -> usize {
        self.0.len() * (3 * size_of::<u64>())
    }

    /// Remembers a link; `false`: there are too many.
    fn insert(&mut self, path: &str) -> bool {
        self.0.insert(path.bytes().fold(FNV_OFFSET, hashed));
        self.0.len() <= MOST_LINKS
    }
}

/// FNV-1a (draft-eastlake-fnv).
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

fn hashed(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
}

impl Entry<'_> {
    /// Writes the header, and a pax header before it where something does not fit.
    fn write(&self, out: &mut Vec<u8>) -> Result<(), ContextError> {
        if self.size > MOST_SIZE {
            return Err(ContextError("a file of 8 GiB or more".to_owned()));
        }
        let mut name = if self.name.is_empty() { "./".to_owned() } else { self.name.to_owned() };
        if self.kind == b'5' && !name.ends_with('/') {
            name.push('/');
        }
        let mut records = Vec::new();
        for (key, value, fits) in [("path", name.as_str(), fits(&name)), ("linkpath", self.link, fits(self.link))] {
            if !fits {
                record(key, value, &mut records);
            }
        }
        let (uid, gid) = self.owner;
        for (key, number) in [("uid", uid), ("gid", gid)].into_iter().filter(|(_, number)| *number > 0o777_7777) {
            record(key, &number.to_string(), &mut records);
        }
        if !records.is_empty() {
            let extension = Entry {
                kind: b'x',
                name: "pax",
                link: "",
                size: u64::try_from(records.len()).unwrap_or_default(),
                mode: 0o644,
                owner: (0, 0),
                time: 0,
            };
            extension.write_header("pax", out);
            out.extend_from_slice(&records);
            out.resize(out.len().next_multiple_of(BLOCK), 0);
        }
        self.write_header(&name, out);
        Ok(())
    }

    fn write_header(&self, name: &str, out: &mut Vec<u8>) {
        let mut block = Vec::with_capacity(BLOCK);
        let mut put = |bytes: &[u8], length: usize| {
            block.extend(bytes.iter().copied().chain(std::iter::repeat(0)).take(length));
        };
        let ascii = |text: &str| if fits(text) { text.as_bytes().to_vec() } else { b"pax".to_vec() };
        let (uid, gid) = self.owner;
        put(&ascii(name), 100);
        put(format!("{:07o}", self.mode).as_bytes(), 8);
        put(format!("{:07o}", if uid > 0o777_7777 { 0 } else { uid }).as_bytes(), 8);
        put(format!("{:07o}", if gid > 0o777_7777 { 0 } else { gid }).as_bytes(), 8);
        put(format!("{:011o}", self.size).as_bytes(), 12);
        put(format!("{:011o}", self.time).as_bytes(), 12);
        put(b"        ", 8);
        put(&[self.kind], 1);
        put(&ascii(self.link), 100);
        put(b"ustar\x0000", 8);
        put(b"", 247);
        let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
        let sum = format!("{sum:06o}\0 ");
        for (place, b) in block.iter_mut().skip(148).zip(sum.bytes()) {
            *place = b;
        }
        out.extend_from_slice(&block);
    }
}

/// Whether a name fits into a header's field as it is.
fn fits(text: &str) -> bool {
    text.len() <= 100 && text.is_ascii()
}

/// A record of a pax header: its length counts itself.
fn record(key: &str, value: &str, out: &mut Vec<u8>) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(format!("{length} {key}={value}\n").as_bytes());
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

/// Reads a pax header: the names that it sets. Refuses a size, which would contradict the header's own.
fn pax(bytes: &[u8], global: bool) -> Result<Extended, ContextError> {
    let bad = || ContextError("a malformed pax header".to_owned());
    let (mut rest, mut extended) = (bytes, Extended::default());
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
            b"path" if !global && extended.name.is_none() && !value.is_empty() => extended.name = Some(text(value)?),
            b"linkpath" if !global && extended.link.is_none() => extended.link = Some(text(value)?),
            b"path" | b"linkpath" | b"size" => return Err(ContextError("a pax header with a second path, or with a size".to_owned())),
            key if key.starts_with(b"GNU.sparse") => return Err(ContextError("a sparse file".to_owned())),
            _ => {}
        }
        rest = after;
    }
    Ok(extended)
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

    fn linked(name: &str, kind: u8, target: &str) -> Vec<u8> {
        let mut block = entry(name, kind, "");
        block[157..157 + target.len()].copy_from_slice(target.as_bytes());
        block[148..156].copy_from_slice(b"        ");
        let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        block
    }

    fn read(name: &str, entries: &[Vec<u8>]) -> Result<Option<String>, ContextError> {
        let mut bytes = entries.concat();
        bytes.resize(bytes.len() + 2 * BLOCK, 0);
        // In odd pieces, so that nothing depends on where they end.
        let (mut context, mut sent) = (Context::new(name), Vec::new());
        for piece in bytes.chunks(77) {
            if context.pass(piece.len()) {
                sent.extend_from_slice(piece);
            } else {
                context.push(piece, &mut sent)?;
            }
        }
        let found = context.dockerfile().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        context.end(found.as_deref().unwrap_or_default().as_bytes(), &mut sent)?;
        // What is sent is read as it was judged, and written once more as it is.
        let (mut again, mut twice) = (Context::new(name), Vec::new());
        again.push(&sent, &mut twice)?;
        assert_eq!(again.dockerfile().map(|bytes| String::from_utf8_lossy(bytes).into_owned()), found);
        again.end(found.as_deref().unwrap_or_default().as_bytes(), &mut twice)?;
        assert_eq!(twice, sent);
        Ok(found)
    }

    #[test]
    fn finds_the_dockerfile() {
        let found =
            read("", &[entry("a", b'0', "x"), entry("./Dockerfile", b'0', "FROM a"), entry("d/", b'5', ""), entry("d/Dockerfile", b'0', "FROM b")]);
        assert_eq!(found, Ok(Some("FROM a".to_owned())));
        assert_eq!(read("d/../d/Dockerfile", &[entry("d/Dockerfile", b'0', "FROM b")]), Ok(Some("FROM b".to_owned())));
        let long = entry("././@LongLink", b'L', "Dockerfile\0");
        assert_eq!(read("", &[long, entry("other", b'0', "FROM c")]), Ok(Some("FROM c".to_owned())));
        let pax = entry("x", b'x', "19 path=Dockerfile\n");
        assert_eq!(read("", &[pax, entry("other", b'0', "FROM d")]), Ok(Some("FROM d".to_owned())));
    }

    #[test]
    fn long_names_survive() {
        let long = format!("{}/Dockerfile", "d".repeat(200));
        let pax = format!("path={long}\n");
        let length = pax.len() + 4;
        let entries = [entry("x", b'x', &format!("{length} {pax}")), entry("other", b'0', "FROM long")];
        assert_eq!(read(&long, &entries), Ok(Some("FROM long".to_owned())));
    }

    #[test]
    fn what_is_kept_is_counted() {
        let kept = |bytes: &[u8]| {
            let mut context = Context::new("");
            context.push(bytes, &mut Vec::new()).unwrap();
            context.kept()
        };
        let long = "x".repeat(100_000);
        assert!(kept(&entry("a", b'0', &long)) < BLOCK, "what passes is not kept");
        for (name, kind) in [("Dockerfile", b'0'), ("././@LongLink", b'L'), ("x", b'x')] {
            let whole = entry(name, kind, &long);
            assert!(kept(whole.get(..90_000).unwrap()) > 80_000, "{name}");
        }
        let links: Vec<u8> = (0..5000).flat_map(|n| linked(&format!("{n}/a/b/c"), b'2', "x")).collect();
        assert!((5000 * 8..5000 * 32).contains(&kept(&links)), "a hash of each");
    }

    #[test]
    fn links_are_found_along_a_path() {
        let mut links = Links::default();
        assert!(links.insert("/a/b") && links.insert("/c"));
        for (path, leads) in [
            ("/a", Leads::Nowhere),
            ("/a/b", Leads::There),
            ("/a/b/c", Leads::Behind),
            ("/a/bc", Leads::Nowhere),
            ("/c/d/e", Leads::Behind),
            ("/", Leads::Nowhere),
        ] {
            assert_eq!(links.lead_to(path), leads, "{path}");
        }
        let inserted = (0..).take_while(|n| links.insert(&format!("/{n}"))).count();
        assert_eq!(inserted, MOST_LINKS - 2);
        assert!(links.kept() < 4 << 20, "a quarter of what a tenant has");
    }

    #[test]
    fn content_passes_as_it_is_and_nothing_else_does() {
        let (mut context, mut sent) = (Context::new(""), Vec::new());
        assert!(!context.pass(1), "a header");
        context.push(&entry("Dockerfile", b'0', &"#".repeat(600))[..BLOCK], &mut sent).unwrap();
        assert!(!context.pass(10), "the Dockerfile");
        context.push(&entry("Dockerfile", b'0', &"#".repeat(600))[BLOCK..], &mut sent).unwrap();
        context.push(&entry("file", b'0', &"x".repeat(600))[..BLOCK], &mut sent).unwrap();
        assert!(context.pass(599));
        assert!(!context.pass(1), "the last byte, which padding follows");
    }

    #[test]
    fn an_archive_that_is_cut_off_is_refused() {
        let (mut context, mut sent) = (Context::new(""), Vec::new());
        let whole = entry("Dockerfile", b'0', "FROM evil");
        context.push(&whole[..BLOCK + 9], &mut sent).unwrap();
        assert!(context.end(b"", &mut sent).is_err());
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let good = || entry("Dockerfile", b'0', "FROM a");
        let mut leading = entry("Dockerfile", b'0', "FROM a");
        leading[124] = 0;
        for (name, entries) in [
            ("size behind a zero", vec![leading]),
            ("directory with content", vec![entry("d/", 0, "x")]),
            ("hard link to a link", vec![entry("s", b'2', ""), linked("h", b'1', "s")]),
            ("hard link to the Dockerfile", vec![good(), linked("h", b'1', "Dockerfile")]),
            ("control character", vec![entry("P*M\u{18}", b'0', "")]),
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
