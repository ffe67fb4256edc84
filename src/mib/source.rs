//! MIB files: reading directories, and places in what was read.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::ast::{FileRecord, Problem};
use crate::diagnostic::{Diagnostic, Place};

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

/// What tells a change of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The device and the inode.
    pub inode: (u64, u64),
    /// Octets.
    pub size: u64,
    /// When the contents changed last: seconds and nanoseconds since the epoch.
    pub modified: (i64, i64),
    /// When contents or inode changed last; no program can set it back.
    pub changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            inode: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether a later change of the file gives another stamp, seen at `now`: file systems count in ticks of
    /// 10 ms, in seconds, or in two of them, so a file that was written just now may be written once more
    /// under the same stamp.
    fn is_settled(&self, now: i64) -> bool {
        const TICK: i64 = 2;
        self.changed.0 < now.saturating_sub(TICK)
    }
}

/// A file below a MIB directory.
#[derive(Debug, Clone)]
pub struct FoundFile {
    /// Where it is.
    pub path: PathBuf,
    /// The number of the directory that it was found in.
    pub directory: usize,
    /// As it was when it was found.
    pub stamp: Stamp,
    /// Whether every later change gives another stamp.
    pub settled: bool,
}

/// The files of MIB directories by their stat alone.
#[derive(Debug, Clone, Default)]
pub struct Scan {
    /// As they were asked for.
    pub directories: Vec<PathBuf>,
    /// In the order in which they are compiled.
    pub files: Vec<FoundFile>,
    /// What could not be looked at.
    pub problems: Vec<Diagnostic>,
}

impl Scan {
    /// Looks at all files below `directories`, recursively. The order is that of the directories, and below
    /// one by name, so that it is equal on every machine. Names that begin with a dot are passed over. A
    /// directory or file that is met again, by a link or by being named twice, counts once. What cannot be
    /// looked at, or is larger than [`LARGEST_FILE`], is a diagnostic. Costs a stat of each file.
    #[must_use]
    pub fn of(directories: &[PathBuf]) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut scanning = Scanning {
            scan: Self { directories: directories.to_vec(), ..Self::default() },
            seen: HashSet::new(),
            now: now.as_secs() as i64,
        };
        // Depth first without recursion: what is on top comes next.
        let mut stack: Vec<(PathBuf, usize, usize)> =
            directories.iter().enumerate().rev().map(|(number, path)| (path.clone(), number, 0)).collect();
        while let Some((path, directory, depth)) = stack.pop() {
            match scanning.visit(&path, directory, depth) {
                Ok(mut below) => {
                    below.sort_unstable_by(|a, b| b.cmp(a));
                    stack.extend(below.into_iter().map(|path| (path, directory, depth + 1)));
                }
                Err(error) => scanning.scan.problems.push(unreadable(&path, &error)),
            }
        }
        scanning.scan
    }
}

struct Scanning {
    scan: Scan,
    /// Device and inode of each directory and file.
    seen: HashSet<(u64, u64)>,
    /// Seconds since the epoch.
    now: i64,
}

impl Scanning {
    /// Notes a file, or tells what is in a directory.
    fn visit(&mut self, path: &Path, directory: usize, depth: usize) -> io::Result<Vec<PathBuf>> {
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
        if metadata.len() > LARGEST_FILE {
            return Err(too_large());
        }
        let stamp = Stamp::of(&metadata);
        let settled = stamp.is_settled(self.now);
        self.scan.files.push(FoundFile { path: path.to_owned(), directory, stamp, settled });
        Ok(Vec::new())
    }
}

fn too_large() -> io::Error {
    io::Error::other(format!("it is larger than {} MiB", LARGEST_FILE >> 20))
}

/// That a file or a directory cannot be read.
pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Diagnostic {
    Diagnostic::error("mib-unreadable", format!("cannot read {}: {error}", path.display()))
}

/// Everything in a file of at most [`LARGEST_FILE`], into `bytes`, which is emptied before.
pub(crate) fn read_file(path: &Path, bytes: &mut Vec<u8>) -> io::Result<()> {
    bytes.clear();
    // A FIFO that has taken the file's place would hold a blocking open for ever.
    let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file any more"));
    }
    bytes.reserve_exact(metadata.len().min(LARGEST_FILE) as usize + 1);
    file.take(LARGEST_FILE + 1).read_to_end(bytes)?;
    if bytes.len() as u64 > LARGEST_FILE { Err(too_large()) } else { Ok(()) }
}

/// Reads all files below `directories`, as [`Scan::of`] finds them. What cannot be read is a diagnostic.
#[must_use]
pub fn read_directories(directories: &[PathBuf]) -> (Vec<SourceFile>, Vec<Diagnostic>) {
    let Scan { files: found, mut problems, .. } = Scan::of(directories);
    let mut files = Vec::with_capacity(found.len());
    for file in found {
        let mut bytes = Vec::new();
        match read_file(&file.path, &mut bytes) {
            Ok(()) => files.push(SourceFile::new(file.path.to_string_lossy(), bytes)),
            Err(error) => problems.push(unreadable(&file.path, &error)),
        }
    }
    (files, problems)
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

/// What linking has to tell of each of `files` files.
pub(crate) fn problems_by_file(files: usize, linking: Vec<(u32, Problem)>) -> Vec<Vec<Problem>> {
    let mut by_file: Vec<Vec<Problem>> = (0..files).map(|_| Vec::new()).collect();
    for (file, problem) in linking {
        // Past the files are the built-in names, of which linking tells no problem.
        if let Some(problems) = by_file.get_mut(file as usize) {
            problems.push(problem);
        }
    }
    by_file
}

/// Adds the problems of parsing to those of linking, by place.
pub(crate) fn add_parsing(problems: &mut Vec<Problem>, record: &FileRecord) {
    problems.extend_from_slice(&record.problems);
    problems.sort_by_key(|problem| problem.start);
    // A module that was linked twice has its problems twice.
    problems.dedup();
}

/// One file's problems as diagnostics. `bytes` are all of the file.
pub(crate) fn diagnostics(
    path: &Arc<str>,
    bytes: &[u8],
    problems: &[Problem],
    left_out: u32,
) -> Vec<Diagnostic> {
    if problems.is_empty() && left_out == 0 {
        return Vec::new();
    }
    let text = normalise(bytes);
    let mut lines = Lines::new(&text);
    let mut diagnostics: Vec<Diagnostic> = problems
        .iter()
        .map(|problem| Diagnostic {
            level: problem.level,
            code: problem.code,
            message: problem.message.clone(),
            place: Some(lines.place(path, problem.start as usize, problem.end as usize)),
            help: problem.help.map(str::to_owned),
            part: None,
        })
        .collect();
    if left_out > 0 {
        let message = format!("{path}: {left_out} more problems are not told");
        diagnostics.push(Diagnostic::warning("mib-too-many", message));
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
