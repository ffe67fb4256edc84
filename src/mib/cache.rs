//! What a compile came to, kept over restarts: the image, and what tells whether the files are still the same.
//!
//! ```text
//! magic, version, checksum over the account, length of the account, checksum of the image
//! the account: directories, counts, each file with its stamp and content, every problem
//! the image, which is mapped where it lies
//! ```
//! The file is written under another name, flushed, and put in its place by rename: a cache that can be opened was
//! written whole. Nothing in it is trusted all the same: whatever is not as it was written is refused with a reason.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};

use super::collection::{Collection, Kept, Parsed};
use super::format::{ImageError, checksum, written_checksum};
use super::source::Stamp;
use super::{CompileStats, Mib};
use crate::diagnostic::{Diagnostic, Level, Place};

const MAGIC: [u8; 8] = *b"NereuMIC";
/// Raised with every change of the account, and with every change of what the compiler makes of a file.
const VERSION: u32 = 2;
/// Magic, version, checksum and length of the account, checksum of the image.
const HEADER: usize = 36;
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

impl Collection {
    /// Writes what was compiled from `directories` to `path`, which is replaced as a whole once all of it is on the
    /// disk. Beside it lies `path` with `.new` meanwhile. Blocks for the writing of about 1.1 times [`Mib::size`].
    ///
    /// # Errors
    /// When the disk refuses it, or another process is writing the same cache.
    pub fn write_cache(&self, path: &Path, directories: &[PathBuf]) -> io::Result<()> {
        /// One after the other in this process; others are told by the lock.
        static WRITING: Mutex<()> = Mutex::new(());
        let _writing = WRITING.lock();
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&beside)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        // Who had the lock before may have put this very file in the cache's place, where it must not change.
        let (own, there) = (file.metadata()?, fs::symlink_metadata(&beside)?);
        if !own.is_file() || (own.dev(), own.ino()) != (there.dev(), there.ino()) || own.nlink() != 1 {
            return Err(io::Error::other("another process is writing it"));
        }
        file.set_len(0)?;
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        let (account, image) = (account(self, directories), self.mib.image());
        let mut header = Vec::with_capacity(HEADER);
        header.extend(MAGIC);
        header.extend(VERSION.to_le_bytes());
        header.extend(checksum(&account).to_le_bytes());
        header.extend((account.len() as u64).to_le_bytes());
        header.extend(written_checksum(image));
        for part in [&header, &account, image] {
            file.write_all(part)?;
        }
        file.sync_all()?;
        fs::rename(&beside, path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
    }

    /// What [`write_cache`](Self::write_cache) has written of `directories`. The image is mapped, and all of it looked
    /// at once; whether the files are still those, [`make`](Self::make) tells. Holds no records: the first change
    /// parses all files.
    ///
    /// # Errors
    /// [`CacheError`] for anything else than what was written.
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
        let (Some(account_sum), Some(len), Some(image_sum)) = (fields.u64(), fields.u64(), fields.take(8))
        else {
            return Err(CacheError::Damaged);
        };
        if len > LARGEST_ACCOUNT || len > metadata.len() {
            return Err(CacheError::Damaged);
        }
        let mut account = vec![0; len as usize];
        file.read_exact(&mut account)?;
        if checksum(&account) != account_sum {
            return Err(CacheError::Damaged);
        }
        let image = file.stream_position()? as usize..metadata.len() as usize;
        let account = Account::read(&account).ok_or(CacheError::Foreign)?;
        if account.directories != directories {
            return Err(CacheError::OtherDirectories);
        }
        let mib = Mib::map_image(&file, image, directories).map_err(|error| {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<ImageError>());
            inner.map_or(CacheError::Io(io::Error::from(error.kind())), |inner| CacheError::Image(*inner))
        })?;
        // It fits what is behind it, or the image would have been refused.
        if written_checksum(mib.image()) != image_sum {
            return Err(CacheError::Damaged);
        }
        let (files, unread, diagnostics, stats) =
            (account.files, account.unread, account.diagnostics, account.stats);
        Ok(Self { files, unread, diagnostics: diagnostics.into(), mib: Arc::new(mib), stats })
    }
}

/// Another version of the program may compile otherwise.
const PROGRAM: &str = env!("CARGO_PKG_VERSION");

fn account(collection: &Collection, directories: &[PathBuf]) -> Vec<u8> {
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
    for file in &collection.files {
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
        out.u64(file.told);
        let own = collection.diagnostics.get(file.diagnostics.clone()).unwrap_or_default();
        out.u32(own.len() as u32);
        own.iter().for_each(|problem| out.problem(problem));
    }
    out.0
}

struct Account {
    directories: Vec<PathBuf>,
    stats: CompileStats,
    unread: Vec<Diagnostic>,
    files: Vec<Kept>,
    diagnostics: Vec<Diagnostic>,
}

impl Account {
    /// `None` for what another version or nobody has written.
    fn read(octets: &[u8]) -> Option<Self> {
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
        let mut codes = Codes::default();
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
            let told = from.u64()?;
            let start = diagnostics.len();
            for _ in 0..from.u32()? {
                diagnostics.push(from.problem(Some(&path), &mut codes)?);
            }
            let own = start..diagnostics.len();
            let parsed = Arc::new(Parsed { content, record: None });
            files.push(Kept { path, directory, relative, stamp, settled, parsed, told, diagnostics: own });
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

    fn problem(&mut self, file: Option<&Arc<str>>, codes: &mut Codes) -> Option<Diagnostic> {
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

/// Codes live for ever, and there are few: each is kept once, for the life of the process.
#[derive(Default)]
struct Codes(HashSet<&'static str>);

impl Codes {
    /// `None` for more of them, or longer ones, than there are.
    fn get(&mut self, code: &str) -> Option<&'static str> {
        const MOST: usize = 256;
        const LONGEST: usize = 64;
        static KNOWN: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());
        if let Some(&known) = self.0.get(code) {
            return Some(known);
        }
        let mut known = KNOWN.lock();
        let code = match known.iter().find(|known| **known == code) {
            Some(&code) => code,
            None if known.len() < MOST && code.len() <= LONGEST => {
                let code: &'static str = Box::leak(code.into());
                known.push(code);
                code
            }
            None => return None,
        };
        self.0.insert(code);
        Some(code)
    }
}
