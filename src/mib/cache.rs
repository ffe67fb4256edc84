//! What a compile came to, kept over restarts: the image, the record of each file, and what tells whether the files
//! are still the same.
//!
//! ```text
//! magic, version, lengths and checksums; then zeros up to 4096 octets
//! the image, which is mapped where it lies
//! the record of each file, each with a checksum in the account, read when something has changed
//! the account: directories, counts, each file with its stamp, its content and the place of its record, every problem
//! ```
//! The file is written under another name, flushed, and put in its place by rename: a cache that can be opened was
//! written whole. Nothing in it is trusted all the same: whatever is not as it was written is refused with a reason.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};

use super::ast::Problem;
use super::collection::{Collection, Kept};
use super::format::{ImageError, Parts, checksum, written_checksum};
use super::record::{Fixed, Parsed, Stored, Words};
use super::source::Stamp;
use super::{CompileStats, Mib};
use crate::diagnostic::{Diagnostic, Level, Place};

const MAGIC: [u8; 8] = *b"NereuMIC";
/// Raised with every change of the account or the records, and with every change of what the compiler makes of a file.
const VERSION: u32 = 4;
/// Where the image begins, at a page of its own.
const HEADER: usize = 4096;
/// No account of any tree of files is larger.
const LARGEST_ACCOUNT: u64 = 1 << 30;

/// Why a cache is not used.
#[derive(Debug)]
pub enum CacheError {
    /// There is none yet.
    Absent,
    /// It cannot be read.
    Io(io::Error),
    /// Another user owns it, or may write it.
    Exposed,
    /// It is no cache, or another version of Nereus has written it.
    Foreign,
    /// It is not what was written.
    Damaged,
    /// It is of other directories.
    OtherDirectories,
    /// The image in it cannot be used.
    Image(ImageError),
}

impl std::fmt::Display for CacheError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => f.write_str("there is none yet"),
            Self::Io(error) => write!(f, "it cannot be read: {error}"),
            Self::Exposed => f.write_str("another user owns it or may write it"),
            Self::Foreign => f.write_str("another version of Nereus, or another program, has written it"),
            Self::Damaged => f.write_str("it is not what was written: it was damaged"),
            Self::OtherDirectories => f.write_str("it was made from other directories"),
            Self::Image(error) => write!(f, "of the image in it, {error}"),
        }
    }
}

impl std::error::Error for CacheError {}

impl From<io::Error> for CacheError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { Self::Absent } else { Self::Io(error) }
    }
}

/// A cache on its way. Dropped unfinished, it is removed.
#[derive(Debug)]
pub(super) struct Draft {
    file: Arc<File>,
    /// Where it is, until it is in the place of `target`.
    path: PathBuf,
    target: PathBuf,
    image: Range<usize>,
    placed: bool,
}

impl Draft {
    /// The image of `parts`, in a draft of the cache `target`; where that cannot be, in memory.
    pub(super) fn with_image(
        target: Option<&Path>,
        parts: &Parts,
        files: Vec<Arc<str>>,
    ) -> (Arc<Mib>, Option<Self>) {
        if let Some(Ok(mut draft)) = target.map(Self::new)
            && let Ok(mib) = Mib::made_in(parts, files.clone(), &draft.file, HEADER)
        {
            draft.image = HEADER..HEADER + mib.size();
            return (Arc::new(mib), Some(draft));
        }
        (Arc::new(Mib::made(parts, files)), None)
    }

    /// An empty one beside `target`, locked for as long as it is open.
    fn new(target: &Path) -> io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let beside = draft_name(target)?;
        remove_left_behind(target, &beside);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut name = beside;
        name.push(format!("{}-{number}", std::process::id()));
        let path = target.with_file_name(name);
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)?;
        let draft =
            Self { file: Arc::new(file), path, target: target.to_owned(), image: 0..0, placed: false };
        flock(&*draft.file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(draft)
    }

    /// Adds the records and the account, and puts it in the place of its target once all of it is on the disk. The
    /// records are read from it from then on.
    fn finish(mut self, collection: &Collection, directories: &[PathBuf]) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(1 << 18, &*self.file);
        let mut at = out.seek(SeekFrom::Start(self.image.end as u64))?;
        let mut places = Vec::with_capacity(collection.files.len());
        for file in &collection.files {
            let octets = file.parsed.encoded()?;
            out.write_all(&octets)?;
            let end = at + octets.len() as u64;
            places.push(Stored { file: Arc::clone(&self.file), at: at..end, checksum: checksum(&octets) });
            at = end;
        }
        let account = account(collection, &places, directories)?;
        out.write_all(&account)?;
        out.flush()?;
        drop(out);
        let mut header = Vec::with_capacity(HEADER);
        header.extend(MAGIC);
        header.extend(VERSION.to_le_bytes());
        header.extend((self.image.len() as u64).to_le_bytes());
        header.extend(written_checksum(collection.mib.image()));
        header.extend(at.to_le_bytes());
        header.extend((account.len() as u64).to_le_bytes());
        header.extend(checksum(&account).to_le_bytes());
        header.resize(HEADER, 0);
        self.file.write_all_at(&header, 0)?;
        self.file.sync_all()?;
        fs::rename(&self.path, &self.target)?;
        self.placed = true;
        let folder = self.target.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()?;
        for (file, place) in collection.files.iter().zip(places) {
            file.parsed.put_away(place);
        }
        // What is in memory stays there where it cannot be.
        #[cfg(target_os = "linux")]
        match collection.mib.settle(&self.file, HEADER) {
            // Out of the pages that were just given back, as long as they are at hand.
            Ok(true) => collection.spare.make(&collection.mib.layout, usize::MAX),
            Ok(false) => {}
            Err(error) => tracing::debug!(%error, "the compiled MIBs stay in memory"),
        }
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.placed {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// With which the names of all drafts of `target` begin.
fn draft_name(target: &Path) -> io::Result<OsString> {
    let mut name = target.file_name().ok_or(io::ErrorKind::InvalidFilename)?.to_owned();
    name.push(".new-");
    Ok(name)
}

/// Removes the drafts of processes that ended before they were done: nobody holds their locks.
fn remove_left_behind(target: &Path, beside: &OsStr) {
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_name().as_bytes().starts_with(beside.as_bytes()) {
            let file = fs::OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(entry.path());
            if file.is_ok_and(|file| {
                file.metadata().is_ok_and(|metadata| metadata.is_file())
                    && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
            }) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

impl Collection {
    /// Writes what was compiled from `directories` to `path`, which is replaced as a whole once all of it is on the
    /// disk. Beside it lies a file of its name, `.new-` and numbers meanwhile. Blocks for the writing of about 1.7
    /// times [`Mib::size`]. Afterwards the records take no memory any more; after an edit that gave names, OIDs or types
    /// anew, [`Mib::size`] is kept for the next one. Of several calls that wait for the same
    /// path only the last one writes.
    ///
    /// # Errors
    /// When the disk refuses it.
    pub fn write_cache(&self, path: &Path, directories: &[PathBuf]) -> io::Result<()> {
        /// How often each path was asked for.
        static ASKED: Mutex<BTreeMap<PathBuf, u64>> = Mutex::new(BTreeMap::new());
        /// One after the other.
        static WRITING: Mutex<()> = Mutex::new(());
        let ask = |more: u64| {
            let mut asked = ASKED.lock();
            let number = asked.entry(path.to_owned()).or_default();
            *number += more;
            *number
        };
        let number = ask(1);
        let _writing = WRITING.lock();
        if ask(0) != number {
            return Ok(());
        }
        let begun = self.draft.lock().take().filter(|draft| draft.target == path);
        let draft = match begun {
            Some(draft) => draft,
            None => {
                let mut draft = Draft::new(path)?;
                self.mib.write_image(&draft.file, HEADER as u64)?;
                draft.image = HEADER..HEADER + self.mib.size();
                draft
            }
        };
        draft.finish(self, directories)
    }

    /// What [`write_cache`](Self::write_cache) has written of `directories`. The image is mapped, and all of it looked
    /// at once; whether the files are still those, [`make`](Self::make) tells. Records stay where they are until
    /// something has changed.
    ///
    /// # Errors
    /// [`CacheError`] for anything else than what was written. A record that was damaged is no error: its file is
    /// parsed when it is needed.
    pub fn read_cache(path: &Path, directories: &[PathBuf]) -> Result<Self, CacheError> {
        let mut file =
            fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(CacheError::Foreign);
        }
        // What others may write could change while it is mapped.
        if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
            return Err(CacheError::Exposed);
        }
        let mut header = [0; HEADER];
        file.read_exact(&mut header).map_err(|_| CacheError::Foreign)?;
        let mut fields = Reader(&header);
        if fields.take(MAGIC.len()) != Some(&MAGIC) || fields.u32() != Some(VERSION) {
            return Err(CacheError::Foreign);
        }
        let (Some(image_len), Some(image_sum), Some(account_at), Some(account_len), Some(account_sum)) =
            (fields.u64(), fields.take(8), fields.u64(), fields.u64(), fields.u64())
        else {
            return Err(CacheError::Damaged);
        };
        let image_end = (HEADER as u64).saturating_add(image_len);
        if fields.0.iter().any(|&octet| octet != 0)
            || account_len > LARGEST_ACCOUNT
            || image_end > account_at
            || account_at.checked_add(account_len) != Some(metadata.len())
        {
            return Err(CacheError::Damaged);
        }
        let file = Arc::new(file);
        let mut account = vec![0; account_len as usize];
        file.read_exact_at(&mut account, account_at)?;
        if checksum(&account) != account_sum {
            return Err(CacheError::Damaged);
        }
        let account = Account::read(&account, &file, image_end..account_at).ok_or(CacheError::Foreign)?;
        if account.directories != directories {
            return Err(CacheError::OtherDirectories);
        }
        let mib = Mib::map_image(&file, HEADER..image_end as usize, directories).map_err(|error| {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ImageError>());
            inner.map_or(CacheError::Io(io::Error::from(error.kind())), |inner| CacheError::Image(*inner))
        })?;
        // It fits what is behind it, or the image would have been refused.
        if written_checksum(mib.image()) != image_sum {
            return Err(CacheError::Damaged);
        }
        let Account { files, unread, diagnostics, stats, .. } = account;
        let (diagnostics, draft, spare) = (diagnostics.into(), Mutex::default(), Arc::default());
        Ok(Self { files, unread, diagnostics, mib: Arc::new(mib), stats, draft, spare })
    }
}

/// Another version of the program may compile otherwise.
const PROGRAM: &str = env!("CARGO_PKG_VERSION");

fn account(collection: &Collection, records: &[Stored], directories: &[PathBuf]) -> io::Result<Vec<u8>> {
    let mut out = Writer(Vec::new());
    out.bytes(PROGRAM.as_bytes());
    out.u32(directories.len() as u32);
    for directory in directories {
        out.bytes(directory.as_os_str().as_bytes());
    }
    let CompileStats { files, modules, nodes, problems } = collection.stats;
    for count in [files, modules, nodes, problems] {
        out.u64(count as u64);
    }
    out.u32(collection.unread.len() as u32);
    collection.unread.iter().for_each(|problem| out.problem(problem));
    out.u32(collection.files.len() as u32);
    for (file, record) in collection.files.iter().zip(records) {
        out.bytes(file.path.as_bytes());
        out.u32(file.directory);
        out.u32(file.relative);
        let Stamp { inode, size, modified, changed } = file.stamp;
        for number in [inode.0, inode.1, size] {
            out.u64(number);
        }
        for number in [modified.0, modified.1, changed.0, changed.1] {
            out.u64(number.cast_unsigned());
        }
        out.0.push(file.settled.into());
        out.0.extend(file.parsed.content);
        for number in [record.at.start, record.at.end, record.checksum, file.told] {
            out.u64(number);
        }
        out.0.push(file.parsed.words.several.into());
        out.bytes(
            file.parsed.words.all.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>().as_slice(),
        );
        out.bytes(&postcard::to_stdvec(&*file.linking).map_err(io::Error::other)?);
        let own = collection.diagnostics.get(file.diagnostics.clone()).unwrap_or_default();
        out.u32(own.len() as u32);
        own.iter().for_each(|problem| out.problem(problem));
    }
    Ok(out.0)
}

struct Account {
    directories: Vec<PathBuf>,
    stats: CompileStats,
    unread: Vec<Diagnostic>,
    files: Vec<Kept>,
    diagnostics: Vec<Diagnostic>,
}

impl Account {
    /// `None` for what another version or nobody has written. `records` is the part of `file` that holds them.
    fn read(octets: &[u8], file: &Arc<File>, records: Range<u64>) -> Option<Self> {
        let mut from = Reader(octets);
        if from.bytes()? != PROGRAM.as_bytes() {
            return None;
        }
        let mut directories = Vec::new();
        for _ in 0..from.u32()? {
            directories.push(PathBuf::from(OsStr::from_bytes(from.bytes()?)));
        }
        let mut count = || from.u64().map(|count| count as usize);
        let stats = CompileStats { files: count()?, modules: count()?, nodes: count()?, problems: count()? };
        let mut codes = Fixed::default();
        let nothing: Arc<[Problem]> = Arc::new([]);
        let mut unread = Vec::new();
        for _ in 0..from.u32()? {
            unread.push(from.problem(None, &mut codes)?);
        }
        let mut diagnostics = unread.clone();
        let mut files = Vec::new();
        for _ in 0..from.u32()? {
            let path: Arc<str> = from.text()?.into();
            let (directory, relative) = (from.u32()?, from.u32()?);
            let (inode, size) = ((from.u64()?, from.u64()?), from.u64()?);
            let modified = (from.u64()?.cast_signed(), from.u64()?.cast_signed());
            let changed = (from.u64()?.cast_signed(), from.u64()?.cast_signed());
            let stamp = Stamp { inode, size, modified, changed };
            let settled = from.take(1)? == [1];
            let content = <[u8; 32]>::try_from(from.take(32)?).ok()?;
            let at = from.u64()?..from.u64()?;
            if at.start < records.start || at.end > records.end {
                return None;
            }
            let (checksum, told) = (from.u64()?, from.u64()?);
            let several = from.take(1)? == [1];
            let (words, []) = from.bytes()?.as_chunks() else { return None };
            let all = words.iter().map(|&word| u32::from_le_bytes(word)).collect();
            let words = Words { all, several };
            let linking: Vec<Problem> = postcard::from_bytes(from.bytes()?).ok()?;
            let linking = if linking.is_empty() { Arc::clone(&nothing) } else { linking.into() };
            let start = diagnostics.len();
            for _ in 0..from.u32()? {
                diagnostics.push(from.problem(Some(&path), &mut codes)?);
            }
            let own = start..diagnostics.len();
            let stored = Stored { file: Arc::clone(file), at, checksum };
            let parsed = Arc::new(Parsed::stored(content, words, stored));
            let diagnostics = own;
            files.push(Kept {
                path,
                directory,
                relative,
                stamp,
                settled,
                parsed,
                linking,
                told,
                diagnostics,
            });
        }
        from.0.is_empty().then_some(Self { directories, stats, unread, files, diagnostics })
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn u32(&mut self, number: u32) {
        self.0.extend(number.to_le_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.0.extend(number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.u32(bytes.len() as u32);
        self.0.extend_from_slice(bytes);
    }

    /// Its file is said by where it stands.
    fn problem(&mut self, problem: &Diagnostic) {
        self.0.push(problem.level as u8);
        self.bytes(problem.code.as_bytes());
        self.bytes(problem.message.as_bytes());
        self.0.push(problem.help.is_some().into());
        self.bytes(problem.help.as_deref().unwrap_or_default().as_bytes());
        self.0.push(problem.place.is_some().into());
        if let Some(place) = &problem.place {
            for number in [place.line, place.column, place.width] {
                self.u32(number);
            }
            self.bytes(place.source.as_bytes());
        }
    }
}

/// What is left to read. Every read is within it, or `None`.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()?;
        self.take(len as usize)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    fn problem(&mut self, file: Option<&Arc<str>>, codes: &mut Fixed) -> Option<Diagnostic> {
        let level = match self.take(1)? {
            [0] => Level::Note,
            [1] => Level::Warning,
            _ => Level::Error,
        };
        let code = codes.get(self.text()?)?;
        let message = self.text()?.to_owned();
        let has_help = self.take(1)? == [1];
        let help = self.text()?;
        let place = match self.take(1)? {
            [1] => {
                let (line, column, width) = (self.u32()?, self.u32()?, self.u32()?);
                Some(Place { file: Arc::clone(file?), line, column, width, source: self.text()?.into() })
            }
            _ => None,
        };
        Some(Diagnostic { level, code, message, place, help: has_help.then(|| help.to_owned()), part: None })
    }
}
