//! MIB files: reading directories, and places in what was read.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::ast::{FileRecord, Problem};
use super::workers;
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
    /// looked at, or is larger than [`LARGEST_FILE`], is a diagnostic. Costs a stat of each file, on as many threads as
    /// there are cores.
    #[must_use]
    pub fn of(directories: &[PathBuf]) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut scanning = Scanning {
            scan: Self { directories: directories.to_vec(), ..Self::default() },
            seen: HashSet::new(),
            now: now.as_secs() as i64,
        };
        let roots: Vec<(PathBuf, io::Result<Seen>)> =
            directories.iter().map(|path| (path.clone(), Seen::of(path))).collect();
        let mut listed = listed(&roots);
        // Depth first without recursion: what is on top comes next.
        let roots = roots.into_iter().enumerate().rev();
        let mut stack: Vec<(PathBuf, io::Result<Seen>, usize, usize)> =
            roots.map(|(number, (path, seen))| (path, seen, number, 0)).collect();
        while let Some((path, seen, directory, depth)) = stack.pop() {
            match seen.and_then(|seen| scanning.visit(&path, seen, depth, directory, &mut listed)) {
                Ok(below) => {
                    let below = below.into_iter().rev();
                    stack.extend(below.map(|(name, seen)| (path.join(name), seen, directory, depth + 1)));
                }
                Err(error) => scanning.scan.problems.push(unreadable(&path, &error)),
            }
        }
        scanning.scan
    }
}

/// What is in a directory, by name.
type Listing = Vec<(OsString, io::Result<Seen>)>;

/// Everything below some directories, for each directory by its device and inode. Looks at many at a time.
fn listed(roots: &[(PathBuf, io::Result<Seen>)]) -> HashMap<(u64, u64), io::Result<Listing>> {
    let mut listed = HashMap::new();
    let mut level: Vec<(PathBuf, (u64, u64))> = Vec::new();
    let mut met = HashSet::new();
    let mut enter = |path: PathBuf, seen: &io::Result<Seen>, level: &mut Vec<_>| {
        if let Ok(Seen { kind: SeenKind::Directory, stamp }) = seen
            && met.insert(stamp.inode)
        {
            level.push((path, stamp.inode));
        }
    };
    for (path, seen) in roots {
        enter(path.clone(), seen, &mut level);
    }
    // One deeper than is visited at the most.
    for _ in 0..=DEEPEST {
        let names = workers::in_parallel(level.len(), || (), |(), at| names_in(&level[at].0));
        let places: Vec<(usize, &OsString)> = names
            .iter()
            .enumerate()
            .flat_map(|(at, names)| names.iter().flatten().map(move |name| (at, name)))
            .collect();
        let seen = workers::in_parallel(
            places.len(),
            || (),
            |(), place| {
                let (at, name) = places[place];
                Seen::of(&level[at].0.join(name))
            },
        );
        let mut seen = seen.into_iter();
        let mut below = Vec::new();
        for ((path, inode), names) in level.into_iter().zip(names) {
            let listing = names.map(|names| names.into_iter().zip(seen.by_ref()).collect::<Listing>());
            for (name, seen) in listing.iter().flatten() {
                if let Ok(Seen { kind: SeenKind::Directory, .. }) = seen {
                    enter(path.join(name), seen, &mut below);
                }
            }
            listed.insert(inode, listing);
        }
        level = below;
    }
    listed
}

/// The names in a directory, in their order, but for those that begin with a dot.
fn names_in(path: &Path) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        if !name.as_encoded_bytes().starts_with(b".") {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// What lies at a path, links followed.
#[derive(Debug, Clone, Copy)]
struct Seen {
    kind: SeenKind,
    stamp: Stamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SeenKind {
    Directory,
    File,
    Other,
}

impl Seen {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        let kind = match (metadata.is_dir(), metadata.is_file()) {
            (true, _) => SeenKind::Directory,
            (_, true) => SeenKind::File,
            _ => SeenKind::Other,
        };
        Ok(Self { kind, stamp: Stamp::of(&metadata) })
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
    fn visit(
        &mut self,
        path: &Path,
        Seen { kind, stamp }: Seen,
        depth: usize,
        directory: usize,
        listed: &mut HashMap<(u64, u64), io::Result<Listing>>,
    ) -> io::Result<Listing> {
        if kind == SeenKind::Other || !self.seen.insert(stamp.inode) {
            return Ok(Listing::new());
        }
        if kind == SeenKind::Directory {
            if depth > DEEPEST {
                return Err(io::Error::other("the directories lie too deep in each other"));
            }
            return listed.remove(&stamp.inode).unwrap_or_else(|| Ok(Listing::new()));
        }
        if stamp.size > LARGEST_FILE {
            return Err(too_large());
        }
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
    fn a_directory_with_two_ways_to_it_is_read_by_the_first_one() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        // Deeper than the other way, and before it.
        fs::create_dir_all(path("a/deep")).unwrap();
        symlink(path("z"), path("a/deep/link")).unwrap();
        // Enough for several threads.
        let mut wanted = Vec::new();
        for directory in 0..50 {
            let name = format!("z/{directory:02}");
            fs::create_dir_all(path(&name)).unwrap();
            for file in 0..40 {
                fs::write(path(&name).join(format!("{file:02}")), "").unwrap();
                wanted.push(path(&format!("a/deep/link/{directory:02}/{file:02}")));
            }
        }
        fs::write(path("b"), "").unwrap();
        wanted.push(path("b"));
        let scan = Scan::of(&[root.path().to_owned(), path("z")]);
        assert!(scan.files.iter().map(|file| &file.path).eq(&wanted));
        assert!(scan.problems.is_empty() && scan.files.iter().all(|file| file.directory == 0));
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
