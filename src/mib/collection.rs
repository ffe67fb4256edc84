//! MIB directories that are compiled again and again: what has not changed is neither read nor parsed.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::ast::{FileRecord, Problem};
use super::cache::Draft;
use super::parser::Parser;
use super::record::Parsed;
use super::relink::{self, Relinked};
use super::room::{BEFORE_FIRST, Spare};
use super::source::{self, FoundFile, Scan, Stamp};
use super::symbol::NONE;
use super::{CompileStats, Mib, builtin_input, edit, resolve, workers};
use crate::diagnostic::{Diagnostic, Level};

/// The parsed files of some directories, and what they compiled to. Immutable: a change makes another one, which
/// shares with it what is equal.
///
/// Equal to a fresh compile of the same files ([`Mib::compile`]), always. Keeps none of their texts, and a record of
/// each file: in memory (less than half of its size, 150 MB for LibreNMS' tree of 347 MB) until
/// [`write_cache`](Self::write_cache) has put it on the disk.
#[derive(Debug)]
pub struct Collection {
    /// In the order in which they are linked.
    pub(super) files: Vec<Kept>,
    /// What could not be looked at or read.
    pub(super) unread: Vec<Diagnostic>,
    pub(super) diagnostics: Arc<[Diagnostic]>,
    pub(super) mib: Arc<Mib>,
    pub(super) stats: CompileStats,
    /// The cache that was begun with the image.
    pub(super) draft: Mutex<Option<Draft>>,
    /// Shared with all that are made from this one.
    pub(super) spare: Arc<Spare>,
}

/// A file that was parsed.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) path: Arc<str>,
    /// The number of its directory, or [`NONE`] where its path does not begin with that.
    pub(super) directory: u32,
    /// Where in `path` what is below the directory begins.
    pub(super) relative: u32,
    pub(super) stamp: Stamp,
    /// Whether every change since gives another stamp.
    pub(super) settled: bool,
    pub(super) parsed: Arc<Parsed>,
    /// What linking had to tell of it.
    pub(super) linking: Arc<[Problem]>,
    /// Over the problems of it.
    pub(super) told: u64,
    /// Where they are among the diagnostics.
    pub(super) diagnostics: Range<usize>,
}

/// What making a [`Collection`] came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Files whose contents were read.
    pub read: usize,
    /// Of these, files whose contents were new.
    pub parsed: usize,
    /// Files whose record was taken over.
    pub reused: usize,
    /// Files whose names and OIDs were found anew, for their own sake or because of what they use.
    pub linked: usize,
    /// Warnings and errors that were not told before. A problem that only moved to another line is not new.
    pub new_problems: usize,
    /// Warnings and errors that are told no longer.
    pub gone_problems: usize,
    /// Whether all files are those of before, to the octet: then the [`Mib`] is the very same.
    pub unchanged: bool,
}

/// How far a [`Collection`] is made: files that were read and parsed, of those that have to be.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicUsize,
    total: AtomicUsize,
}

impl Progress {
    /// How many are done, of how many.
    #[must_use]
    pub fn get(&self) -> (usize, usize) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }

    fn begin(&self, files: usize) {
        self.total.fetch_add(files, Ordering::Relaxed);
    }

    fn step(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

/// It was asked to leave off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancelled;

/// What there is to do for one file of a scan.
enum Work<'a> {
    Take(&'a Kept),
    /// With what was known under its path.
    Read(Option<&'a Kept>),
}

impl Collection {
    /// Reads, parses and links the files of `scan`, as far as they differ from `before`'s.
    ///
    /// A file whose stat is unchanged is not read, unless it had changed just before it was read last, or
    /// `everything` asks for all contents. What cannot be read is a diagnostic. Works on threads of lower
    /// priority, at most as many as there are cores; each holds one file's text at a time.
    ///
    /// # Errors
    /// [`Cancelled`] soon after `cancel` is set, while files are read.
    pub fn make(
        scan: Scan,
        before: Option<&Self>,
        everything: bool,
        cancel: &AtomicBool,
    ) -> Result<(Self, Collected), Cancelled> {
        Self::make_with(
            scan,
            before,
            everything,
            &Making { cancel, progress: &Progress::default(), cache: None },
        )
    }

    /// As [`make`](Self::make), with what goes beside it.
    ///
    /// # Errors
    /// As [`make`](Self::make).
    pub fn make_with(
        scan: Scan,
        before: Option<&Self>,
        everything: bool,
        making: &Making<'_>,
    ) -> Result<(Self, Collected), Cancelled> {
        // Telling that nothing has changed takes milliseconds, and a start waits for it.
        if !everything && before.is_some_and(|before| !before.differs(&scan)) {
            return make(scan, before, everything, making);
        }
        workers::standing_back(|| make(scan, before, everything, making))
    }

    /// Keeps room for the image of the first edit ready, at most 72 MiB of it, so that this edit does not wait for the system
    /// either; an edit leaves its own for the next. What the start looked through and nobody looks up is let go, so that both
    /// take no more together. Takes tens of milliseconds, on a virtual machine some hundreds.
    pub fn make_ready_for_edits(&self) {
        self.mib.let_go();
        self.spare.make(&self.mib.layout, BEFORE_FIRST);
    }

    /// Whether the stat of any file differs, or may hide a change.
    #[must_use]
    pub fn differs(&self, scan: &Scan) -> bool {
        let same = |(kept, found): (&Kept, &FoundFile)| {
            kept.settled && kept.stamp == found.stamp && *kept.path == *found.path.to_string_lossy()
        };
        self.files.len() != scan.files.len() || !self.files.iter().zip(&scan.files).all(same)
    }

    /// What the files compiled to.
    #[must_use]
    pub fn mib(&self) -> &Arc<Mib> {
        &self.mib
    }

    /// Every problem: first what could not be read, then by file, then by place.
    #[must_use]
    pub fn diagnostics(&self) -> &Arc<[Diagnostic]> {
        &self.diagnostics
    }

    /// Counts.
    #[must_use]
    pub fn stats(&self) -> CompileStats {
        self.stats
    }

    /// What is told of one of its files.
    fn told(&self, file: &Kept) -> &[Diagnostic] {
        self.diagnostics.get(file.diagnostics.clone()).unwrap_or_default()
    }

    /// All octets of the files.
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.files.iter().map(|file| file.stamp.size).sum()
    }

    /// An estimate of what the records take in memory, without the [`Mib`], in octets.
    #[must_use]
    pub fn size(&self) -> usize {
        self.files.iter().map(|file| file.parsed.size() + size_of::<Kept>()).sum()
    }
}

/// What goes beside the making of a [`Collection`].
#[derive(Debug, Clone, Copy)]
pub struct Making<'a> {
    /// Set, it leaves off soon.
    pub cancel: &'a AtomicBool,
    /// How far it is.
    pub progress: &'a Progress,
    /// Where [`write_cache`](Collection::write_cache) will put it: the image is written beside that at once, and read
    /// from there, so that it takes no memory but for what is looked up. Where that cannot be, it is in memory.
    pub cache: Option<&'a Path>,
}

fn make(
    scan: Scan,
    before: Option<&Collection>,
    everything: bool,
    making: &Making<'_>,
) -> Result<(Collection, Collected), Cancelled> {
    let &Making { cancel, progress, cache } = making;
    let old = before.map_or(&[][..], |before| &before.files);
    let by_path = ByPath::of(old);
    // A file that was moved or copied is known by its contents.
    let by_content: LazyLock<HashMap<[u8; 32], &Kept>, _> =
        LazyLock::new(|| old.iter().map(|kept| (kept.parsed.content, kept)).collect());
    let Scan { directories, files: found, problems: mut unread } = scan;
    let mut next = 0;
    let plan: Vec<Work<'_>> = found
        .iter()
        .map(|file| {
            let known = by_path.get(&file.path.to_string_lossy(), next);
            next = known.map_or(next, |known| known + 1);
            match known.map(|known| &old[known]) {
                Some(kept) if kept.settled && kept.stamp == file.stamp && !everything => Work::Take(kept),
                known => Work::Read(known),
            }
        })
        .collect();
    let read: Vec<usize> = (0..plan.len()).filter(|&at| matches!(plan[at], Work::Read(_))).collect();
    progress.begin(read.len());
    let contents = workers::in_parallel(
        read.len(),
        || (Parser::default(), Vec::new()),
        |(parser, bytes), at| {
            progress.step();
            if cancel.load(Ordering::Relaxed) {
                return Err(io::Error::from(io::ErrorKind::Interrupted));
            }
            source::read_file(&found[read[at]].path, bytes)?;
            let content = content_of(bytes);
            Ok(match by_content.get(&content) {
                Some(known) => Arc::clone(&known.parsed),
                None => Arc::new(Parsed::new(content, parser.parse(bytes))),
            })
        },
    );
    if cancel.load(Ordering::Relaxed) {
        return Err(Cancelled);
    }
    let mut collected = Collected { read: read.len(), ..Collected::default() };
    let mut contents = contents.into_iter();
    let mut files = Vec::with_capacity(found.len());
    let nothing: Arc<[Problem]> = Arc::new([]);
    for (FoundFile { path, directory, stamp, settled }, work) in found.into_iter().zip(plan) {
        let (directory, relative) = below(&directories, directory, &path);
        let kept = |path, parsed| Kept {
            path,
            directory,
            relative,
            stamp,
            settled,
            parsed,
            linking: Arc::clone(&nothing),
            told: 0,
            diagnostics: 0..0,
        };
        match work {
            Work::Take(known) => files.push(kept(Arc::clone(&known.path), Arc::clone(&known.parsed))),
            Work::Read(known) => match contents.next() {
                Some(Ok(parsed)) => {
                    collected.parsed += usize::from(!by_content.contains_key(&parsed.content));
                    let name = known.map_or_else(|| path.to_string_lossy().into(), |k| Arc::clone(&k.path));
                    files.push(kept(name, parsed));
                }
                Some(Err(error)) => unread.push(source::unreadable(&path, &error)),
                None => {}
            },
        }
    }
    if let Some(before) = before
        && unread == before.unread
        && files.len() == old.len()
        && files.iter().zip(old).all(|(new, old)| new.is_at(old))
    {
        collected.reused = files.len() - collected.parsed;
        if files.iter().zip(old).all(|(new, old)| same(&new.parsed, &old.parsed)) {
            collected.unchanged = true;
            collected.reused = files.len();
            for (new, old) in files.iter_mut().zip(old) {
                new.linking = Arc::clone(&old.linking);
                (new.told, new.diagnostics) = (old.told, old.diagnostics.clone());
            }
            let (diagnostics, mib) = (Arc::clone(&before.diagnostics), Arc::clone(&before.mib));
            let (stats, draft, spare) = (before.stats, Mutex::default(), Arc::clone(&before.spare));
            return Ok((Collection { files, unread, diagnostics, mib, stats, draft, spare }, collected));
        }
        if let Some(mib) = edit::edited(before, &mut files) {
            let mut bytes = Vec::new();
            let told = files.iter().zip(old).enumerate().map(|(at, (file, old))| {
                let record = (!same(&file.parsed, &old.parsed)).then(|| file.parsed.record()).flatten();
                record.map_or(Told::Before(at), |record| told_of(file, &record, None, &mut bytes).into())
            });
            let told = told.collect();
            let made = Made { files, unread, mib, modules: before.stats.modules, draft: None };
            return Ok(made.conclude(told, Some(before), collected));
        }
    }
    if let Some(before) = before {
        match relink::relinked(before, &files) {
            Ok(relinked) => {
                return Ok(take_relinked(before, relinked, (files, unread), collected));
            }
            Err(reason) => tracing::debug!(reason, "all MIB files are linked"),
        }
    }
    let records = workers::in_parallel(
        files.len(),
        || (Parser::default(), Vec::new()),
        |(parser, bytes), at| record_of(&files[at], parser, bytes),
    );
    if cancel.load(Ordering::Relaxed) {
        return Err(Cancelled);
    }
    // What was lost in the cache was parsed again, and may have changed meanwhile, or be gone.
    let mut lacking = Vec::new();
    let mut records: Vec<Option<Arc<FileRecord>>> = records
        .into_iter()
        .enumerate()
        .map(|(at, record)| match record {
            Ok((record, None)) => Some(record),
            Ok((record, Some(parsed))) => {
                files[at].parsed = Arc::new(parsed);
                collected.parsed += 1;
                Some(record)
            }
            Err(error) => {
                lacking.push(source::unreadable(Path::new(&*files[at].path), &error));
                None
            }
        })
        .collect();
    unread.extend(lacking);
    let mut present = records.iter().map(Option::is_some).collect::<Vec<_>>().into_iter();
    files.retain(|_| present.next().unwrap_or(true));
    let records: Vec<Arc<FileRecord>> = records.drain(..).flatten().collect();
    collected.reused = files.len().saturating_sub(collected.parsed);
    collected.linked = files.len();
    collected.read = collected.read.max(collected.parsed);
    let mut inputs: Vec<resolve::Input<'_>> = files
        .iter()
        .zip(&records)
        .map(|(file, record)| resolve::Input {
            record,
            path: Arc::clone(&file.path),
            directory: file.directory,
            relative: file.relative,
            builtin: false,
        })
        .collect();
    inputs.push(builtin_input());
    let linked = resolve::link(&inputs);
    drop(inputs);
    let (mib, draft) = Draft::with_image(cache, &linked.parts, linked.files);
    drop(linked.parts);
    for (file, problems) in files.iter_mut().zip(source::problems_by_file(records.len(), linked.problems)) {
        if !problems.is_empty() {
            file.linking = problems.into();
        }
    }
    let told = workers::in_parallel(files.len(), Vec::new, |bytes, at| {
        let file = &files[at];
        let old = by_path.get(&file.path, at).map(|old_at| &old[old_at]);
        let old = old.filter(|old| same(&old.parsed, &file.parsed)).zip(before);
        let old = old.map(|(old, before)| (old.told, before.told(old)));
        told_of(file, &records[at], old, bytes).into()
    });
    let modules = records.iter().map(|record| record.modules.len()).sum();
    Ok(Made { files, unread, mib, modules, draft }.conclude(told, before, collected))
}

/// With what some of the files were linked to.
fn take_relinked(
    before: &Collection,
    relinked: Relinked,
    (mut files, unread): (Vec<Kept>, Vec<Diagnostic>),
    mut collected: Collected,
) -> (Collection, Collected) {
    let Relinked { linked, files: numbers, records, modules } = relinked;
    collected.reused = files.len().saturating_sub(collected.parsed);
    collected.linked = numbers.len();
    let mib = Arc::new(Mib::of_pages(linked.image, linked.files));
    let by_path = ByPath::of(&before.files);
    let mut next = 0;
    let problems = source::problems_by_file(files.len(), linked.problems);
    let mut bytes = Vec::new();
    let mut told = Vec::with_capacity(files.len());
    for ((file, problems), number) in files.iter_mut().zip(problems).zip(0..) {
        let old_at = by_path.get(&file.path, next);
        next = old_at.map_or(next, |old_at| old_at + 1);
        let old = old_at.map(|old_at| &before.files[old_at]);
        let record = records.get(&number).filter(|_| numbers.contains(&number));
        match (record, old_at.zip(old)) {
            (Some(record), _) => {
                if !problems.is_empty() {
                    file.linking = problems.into();
                }
                let old = old.filter(|old| same(&old.parsed, &file.parsed));
                let old = old.map(|old| (old.told, before.told(old)));
                told.push(told_of(file, record, old, &mut bytes).into());
            }
            (None, Some((old_at, old))) => {
                file.linking = Arc::clone(&old.linking);
                told.push(Told::Before(old_at));
            }
            (None, None) => unreachable!("a file that is new was linked"),
        }
    }
    Made { files, unread, mib, modules, draft: None }.conclude(told, Some(before), collected)
}

/// What a [`Collection`] is made of, but for its problems.
struct Made {
    files: Vec<Kept>,
    unread: Vec<Diagnostic>,
    mib: Arc<Mib>,
    modules: usize,
    draft: Option<Draft>,
}

/// What is to be told of a file.
enum Told {
    /// The same as of the file of before with this number.
    Before(usize),
    /// These problems, and a number that changes with them.
    Anew(u64, Vec<Diagnostic>),
}

impl From<(u64, Vec<Diagnostic>)> for Told {
    fn from((told, own): (u64, Vec<Diagnostic>)) -> Self {
        Self::Anew(told, own)
    }
}

impl Made {
    /// With what is to be told of each file.
    fn conclude(
        mut self,
        told: Vec<Told>,
        before: Option<&Collection>,
        mut collected: Collected,
    ) -> (Collection, Collected) {
        let old = before.map_or(&[][..], |before| &before.files);
        let mut diagnostics = self.unread.clone();
        // What is told as before is neither new nor gone.
        let (mut anew, mut stays) = (Vec::new(), vec![false; old.len()]);
        for (file, told) in self.files.iter_mut().zip(told) {
            let start = diagnostics.len();
            match (told, before) {
                (Told::Before(at), Some(before)) => {
                    diagnostics.extend_from_slice(before.told(&old[at]));
                    (file.told, stays[at]) = (old[at].told, true);
                }
                (Told::Before(_), None) => unreachable!("there was nothing before"),
                (Told::Anew(told, own), _) => {
                    diagnostics.extend(own);
                    file.told = told;
                    anew.push(start..diagnostics.len());
                }
            }
            file.diagnostics = start..diagnostics.len();
        }
        let gone = old.iter().zip(stays).filter(|(_, stays)| !stays);
        let gone = gone.flat_map(|(file, _)| before.map_or(&[][..], |before| before.told(file)));
        let gone = before.iter().flat_map(|before| &before.unread).chain(gone);
        let anew = anew.into_iter().flat_map(|range: Range<usize>| &diagnostics[range]);
        let anew = diagnostics[..self.unread.len()].iter().chain(anew);
        (collected.new_problems, collected.gone_problems) = difference(gone, anew);
        let Self { files, unread, mib, modules, draft } = self;
        let stats = CompileStats {
            files: files.len(),
            modules,
            nodes: mib.nodes().len(),
            problems: diagnostics.iter().filter(|problem| problem.level > Level::Note).count(),
        };
        let (diagnostics, draft) = (diagnostics.into(), Mutex::new(draft));
        let spare = before.map(|before| Arc::clone(&before.spare)).unwrap_or_default();
        (Collection { files, unread, diagnostics, mib, stats, draft, spare }, collected)
    }
}

/// The record of a file; where what is kept of it is lost, it is parsed again, and what it is now comes with it.
fn record_of(
    file: &Kept,
    parser: &mut Parser,
    bytes: &mut Vec<u8>,
) -> io::Result<(Arc<FileRecord>, Option<Parsed>)> {
    if let Some(record) = file.parsed.record() {
        return Ok((record, None));
    }
    source::read_file(Path::new(&*file.path), bytes)?;
    let record = Arc::new(parser.parse(bytes));
    Ok((Arc::clone(&record), Some(Parsed::new(content_of(bytes), record))))
}

/// A file's problems, and a number that changes with them; the old ones where they are the same.
fn told_of(
    file: &Kept,
    record: &FileRecord,
    old: Option<(u64, &[Diagnostic])>,
    bytes: &mut Vec<u8>,
) -> (u64, Vec<Diagnostic>) {
    let mut problems = file.linking.to_vec();
    source::add_parsing(&mut problems, record);
    let told = fingerprint(&problems);
    match old {
        Some((before, old)) if before == told => (told, old.to_vec()),
        _ => match tell(file, record, &problems, bytes) {
            Some(own) => (told, own),
            // Told without lines; not to be taken over.
            None => (!told, tell_without_text(file, record, &problems)),
        },
    }
}

/// Files by their paths. Most stand where they are looked for; only where one does not, all paths are gone through.
pub(super) struct ByPath<'a> {
    files: &'a [Kept],
    all: OnceLock<HashMap<&'a str, usize>>,
}

impl<'a> ByPath<'a> {
    pub(super) fn of(files: &'a [Kept]) -> Self {
        Self { files, all: OnceLock::new() }
    }

    /// The number of the file with that path, which may be the one with the number `near`.
    pub(super) fn get(&self, path: &str, near: usize) -> Option<usize> {
        if self.files.get(near).is_some_and(|file| *file.path == *path) {
            return Some(near);
        }
        let all = || self.files.iter().map(|file| &*file.path).zip(0..).collect();
        self.all.get_or_init(all).get(path).copied()
    }
}

impl Kept {
    /// Whether it is the file of that place, whatever it says now.
    pub(super) fn is_at(&self, old: &Self) -> bool {
        let place = |kept: &Self| (kept.directory, kept.relative);
        self.path == old.path && place(self) == place(old)
    }
}

/// The number of the directory that `path` lies in, and where in its text the rest begins.
fn below(directories: &[PathBuf], number: usize, path: &Path) -> (u32, u32) {
    let directory = directories.get(number);
    let whole = path.to_string_lossy();
    // As a scan puts a path together; the general way takes ten times as long.
    if let Some(directory) = directory.and_then(|directory| directory.to_str())
        && let Some(rest) = whole.strip_prefix(directory).and_then(|rest| rest.strip_prefix('/'))
        && !rest.is_empty()
        && !directory.ends_with('/')
    {
        return (number as u32, (whole.len() - rest.len()) as u32);
    }
    let rest = directory.and_then(|directory| path.strip_prefix(directory).ok());
    match rest.map(Path::to_string_lossy) {
        // A path that is no text is changed to be shown, in one piece as in two.
        Some(rest) if whole.ends_with(&*rest) => (number as u32, (whole.len() - rest.len()) as u32),
        _ => (NONE, 0),
    }
}

pub(super) fn same(a: &Parsed, b: &Parsed) -> bool {
    a.content == b.content
}

fn content_of(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn fingerprint(problems: &[Problem]) -> u64 {
    let mut hasher = DefaultHasher::new();
    problems.len().hash(&mut hasher);
    for problem in problems {
        (problem.level, problem.code, problem.start, problem.end, &problem.message, problem.help)
            .hash(&mut hasher);
    }
    hasher.finish()
}

/// The file's problems with their places, for which its text is read once more. `None` where that is another one
/// by now, or gone.
fn tell(
    file: &Kept,
    record: &FileRecord,
    problems: &[Problem],
    bytes: &mut Vec<u8>,
) -> Option<Vec<Diagnostic>> {
    let left_out = record.problems_left_out;
    if problems.is_empty() && left_out == 0 {
        return Some(Vec::new());
    }
    source::read_file(Path::new(&*file.path), bytes).ok()?;
    (content_of(bytes) == file.parsed.content)
        .then(|| source::diagnostics(&file.path, bytes, problems, left_out))
}

/// What has changed since it was parsed is taken in next time; until then its problems have no lines to show.
fn tell_without_text(file: &Kept, record: &FileRecord, problems: &[Problem]) -> Vec<Diagnostic> {
    let mut told = source::diagnostics(&file.path, &[], problems, record.problems_left_out);
    for problem in &mut told {
        if problem.place.take().is_some() {
            problem.message = format!("{}: {}", file.path, problem.message);
        }
    }
    told
}

/// How many warnings and errors are only in `new`, and how many only in `old`, wherever in their file they are.
fn difference<'a>(
    old: impl Iterator<Item = &'a Diagnostic>,
    new: impl Iterator<Item = &'a Diagnostic>,
) -> (usize, usize) {
    let mut count: HashMap<(Option<&str>, &str, &str), i64> = HashMap::new();
    let all = old.map(|told| (told, -1)).chain(new.map(|told| (told, 1)));
    for (told, step) in all.filter(|(told, _)| told.level > Level::Note) {
        let file = told.place.as_ref().map(|place| &*place.file);
        *count.entry((file, told.code, &told.message)).or_insert(0) += step;
    }
    let sum = |keep: fn(i64) -> i64| count.values().map(|&count| keep(count).max(0) as usize).sum();
    (sum(|count| count), sum(|count| -count))
}
