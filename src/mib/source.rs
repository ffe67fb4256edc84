//! MIB files: reading directories, and places in what was read.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ast::{FileRecord, Problem};
use crate::diagnostic::{Diagnostic, Level, Place};

/// The largest file that is read, in octets. The largest MIB seen in the wild has 9 MiB.
pub const LARGEST_FILE: u64 = 64 << 20;
/// How deep directories may lie in each other.
const DEEPEST: usize = 64;
/// How many characters of a line a diagnostic quotes.
const QUOTED: usize = 400;

/// One file's octets, as they were read.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// The path as the user knows it.
    pub path: Arc<str>,
    /// Everything in it.
    pub bytes: Arc<[u8]>,
}

impl SourceFile {
    /// A file from memory.
    #[must_use]
    pub fn new(path: impl Into<Arc<str>>, bytes: impl Into<Arc<[u8]>>) -> Self {
        Self { path: path.into(), bytes: bytes.into() }
    }
}

/// Reads all files below `directories`, recursively. The order is that of the directories, and below one by
/// name, so that it is equal on every machine. Names that begin with a dot are passed over. A directory that
/// is met again, by a link or by being named twice, is read once. What cannot be read, or is larger than
/// [`LARGEST_FILE`], is a diagnostic.
#[must_use]
pub fn read_directories(directories: &[PathBuf]) -> (Vec<SourceFile>, Vec<Diagnostic>) {
    let mut reading = Reading { files: Vec::new(), diagnostics: Vec::new(), seen: HashSet::new() };
    // Depth first without recursion: what is on top comes next.
    let mut stack: Vec<(PathBuf, usize)> = directories.iter().rev().map(|path| (path.clone(), 0)).collect();
    while let Some((path, depth)) = stack.pop() {
        match reading.visit(&path, depth) {
            Ok(mut below) => {
                below.sort_unstable_by(|a, b| b.cmp(a));
                stack.extend(below.into_iter().map(|path| (path, depth + 1)));
            }
            Err(error) => reading.refuse(&path, &error.to_string()),
        }
    }
    (reading.files, reading.diagnostics)
}

struct Reading {
    files: Vec<SourceFile>,
    diagnostics: Vec<Diagnostic>,
    /// Device and inode of each directory and file.
    seen: HashSet<(u64, u64)>,
}

impl Reading {
    /// Reads a file, or tells what is in a directory.
    fn visit(&mut self, path: &Path, depth: usize) -> io::Result<Vec<PathBuf>> {
        let metadata = fs::metadata(path)?;
        if !metadata.is_dir() && !metadata.is_file() {
            return Ok(Vec::new());
        }
        if !self.seen.insert((metadata.dev(), metadata.ino())) {
            return Ok(Vec::new());
        }
        if metadata.is_dir() {
            if depth > DEEPEST {
                return Err(io::Error::other("the directories lie too deep in each other"));
            }
            let mut below = Vec::new();
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                    below.push(entry.path());
                }
            }
            return Ok(below);
        }
        let mut bytes = Vec::with_capacity(metadata.len().min(LARGEST_FILE) as usize);
        fs::File::open(path)?.take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > LARGEST_FILE {
            return Err(io::Error::other(format!("it is larger than {} MiB", LARGEST_FILE >> 20)));
        }
        self.files.push(SourceFile::new(path.to_string_lossy(), bytes));
        Ok(Vec::new())
    }

    fn refuse(&mut self, path: &Path, reason: &str) {
        let message = format!("cannot read {}: {reason}", path.display());
        self.diagnostics.push(Diagnostic::error("mib-unreadable", message));
    }
}

/// The text to parse: UTF-16 with a byte order mark becomes UTF-8, a UTF-8 mark becomes blanks.
pub(crate) fn normalise(bytes: &[u8]) -> Cow<'_, [u8]> {
    let wide = |decode: fn([u8; 2]) -> u16| {
        let units = bytes[2..].chunks_exact(2).map(|pair| decode([pair[0], pair[1]]));
        let text: String =
            char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
        Cow::Owned(text.into_bytes())
    };
    match bytes {
        [0xff, 0xfe, ..] => wide(u16::from_le_bytes),
        [0xfe, 0xff, ..] => wide(u16::from_be_bytes),
        _ => Cow::Borrowed(bytes),
    }
}

/// Turns offsets into lines, for offsets that only grow: one pass over the text for all of them.
pub(crate) struct Lines<'a> {
    text: &'a [u8],
    end_of_line: u8,
    at: usize,
    line: u32,
    start: usize,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        // Only a file without any line feed has its lines ended by CR alone.
        let end_of_line = if text.contains(&b'\n') { b'\n' } else { b'\r' };
        Self { text, end_of_line, at: 0, line: 1, start: 0 }
    }

    /// The line of `offset`, from 1, and where it begins. An offset before the last one asked for counts as
    /// on that line.
    pub(crate) fn locate(&mut self, offset: usize) -> (u32, usize) {
        let to = offset.clamp(self.at, self.text.len().max(self.at));
        let passed = &self.text[self.at..to];
        if let Some(last) = passed.iter().rposition(|&octet| octet == self.end_of_line) {
            self.line += passed.iter().filter(|&&octet| octet == self.end_of_line).count() as u32;
            self.start = self.at + last + 1;
        }
        self.at = to;
        (self.line, self.start)
    }

    fn place(&mut self, file: &Arc<str>, start: usize, end: usize) -> Place {
        let (line, line_start) = self.locate(start);
        let rest = &self.text[line_start..];
        let len = rest.iter().take(QUOTED * 4).position(|&octet| octet == self.end_of_line);
        let source = &rest[..len.unwrap_or(rest.len().min(QUOTED * 4))];
        let clamp = |offset: usize| offset.saturating_sub(line_start).min(source.len());
        let characters = |octets: &[u8]| String::from_utf8_lossy(octets).chars().count() as u32;
        let (from, to) = (clamp(start), clamp(end).max(clamp(start)));
        let shown = String::from_utf8_lossy(source);
        let shown = shown.trim_end_matches(['\r', '\n']);
        Place {
            file: Arc::clone(file),
            line,
            column: 1 + characters(&source[..from]),
            width: characters(&source[from..to]).max(1),
            // A control character in a quoted line would act on the terminal that shows it.
            source: shown
                .chars()
                .take(QUOTED)
                .map(|c| if c.is_control() && c != '\t' { ' ' } else { c })
                .collect(),
        }
    }
}

/// The problems of parsing and linking as diagnostics, by file and place.
pub(crate) fn diagnostics(
    files: &[SourceFile],
    records: &[FileRecord],
    linking: Vec<(u32, Problem)>,
) -> Vec<Diagnostic> {
    let mut problems: Vec<(u32, Problem)> = linking;
    for (file, record) in records.iter().enumerate() {
        problems.extend(record.problems.iter().map(|problem| (file as u32, problem.clone())));
    }
    problems.sort_by_key(|(file, problem)| (*file, problem.start));
    // A module that was linked twice has its problems twice.
    problems.dedup();
    let mut diagnostics = Vec::with_capacity(problems.len());
    let mut rest = problems.into_iter().peekable();
    while let Some(&(number, _)) = rest.peek() {
        let Some(file) = files.get(number as usize) else {
            // The built-in names: linking tells no problem of them.
            rest.next();
            continue;
        };
        let text = normalise(&file.bytes);
        let mut lines = Lines::new(&text);
        while let Some((_, problem)) = rest.next_if(|(other, _)| *other == number) {
            let place = lines.place(&file.path, problem.start as usize, problem.end as usize);
            diagnostics.push(Diagnostic {
                level: problem.level,
                code: problem.code,
                message: problem.message,
                place: Some(place),
                help: problem.help.map(str::to_owned),
                part: None,
            });
        }
        let left_out = records[number as usize].problems_left_out;
        if left_out > 0 {
            let message = format!("{}: {left_out} more problems are not told", file.path);
            diagnostics
                .push(Diagnostic { level: Level::Warning, ..Diagnostic::warning("mib-too-many", message) });
        }
    }
    diagnostics
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn directories_are_read_in_order_and_loops_are_harmless() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::create_dir_all(path("b/deep")).unwrap();
        for name in ["c", "a", "b/two", "b/deep/three", ".hidden"] {
            fs::write(path(name), name).unwrap();
        }
        symlink(root.path(), path("b/loop")).unwrap();
        symlink(path("a"), path("b/again")).unwrap();
        symlink(path("nowhere"), path("dangling")).unwrap();
        fs::File::create(path("huge")).unwrap().set_len(LARGEST_FILE + 1).unwrap();
        let (files, told) = read_directories(&[root.path().to_owned(), path("b"), path("missing")]);
        let read: Vec<&str> = files.iter().map(|file| std::str::from_utf8(&file.bytes).unwrap()).collect();
        assert_eq!(read, ["a", "b/deep/three", "b/two", "c"]);
        let told: Vec<&str> = told.iter().map(|told| &*told.message).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].contains("dangling") && told[1].contains("huge") && told[2].contains("missing"));
    }

    #[test]
    fn places_count_lines_of_every_ending() {
        for text in ["one\ntwo\n x y", "one\r\ntwo\r\n x y", "one\rtwo\r x y"] {
            let file: Arc<str> = "f".into();
            let at = text.find('y').unwrap();
            let place = Lines::new(text.as_bytes()).place(&file, at, at + 1);
            assert_eq!(
                (place.line, place.column, place.width, &*place.source),
                (3, 4, 1, " x y"),
                "{text:?}"
            );
        }
        let mut lines = Lines::new(b"a\nb\nc");
        assert_eq!(
            [lines.locate(0).0, lines.locate(2).0, lines.locate(2).0, lines.locate(99).0],
            [1, 2, 2, 3]
        );
    }

    #[test]
    fn quoted_lines_hold_nothing_that_acts_on_a_terminal() {
        let place = Lines::new(b"\xff\x1b[31m x").place(&"f".into(), 7, 8);
        assert_eq!((place.column, &*place.source), (8, "\u{fffd} [31m x"));
    }

    #[test]
    fn wide_text_is_narrowed() {
        assert_eq!(&*normalise(b"\xff\xfea\0b\0"), b"ab");
        assert_eq!(&*normalise(b"\xfe\xff\0a\0b"), b"ab");
        assert_eq!(&*normalise(b"\xff\xfe\0"), b"");
        assert_eq!(&*normalise(b"ab"), b"ab");
    }
}
