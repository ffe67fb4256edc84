//! The data directory: modes, the lock against a second instance, the list of journal files,
//! connections with their pragmas, schema versions, and setting damaged files aside.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{FlockOperation, flock};
use tokio::sync::watch;

use super::error::{StoreError, StoreErrorKind};
use super::follow::Counted;
use super::live::Live;
use super::sources::Sources;
use crate::diagnostic::Diagnostic;
use crate::event::Timestamp;

/// The derived state's file.
pub(super) const STATE: &str = "state.db";
const LOCK: &str = "lock";
const JOURNAL_PREFIX: &str = "events-";

/// What writer and readers share: where the files are.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) directory: PathBuf,
    /// All journal files, oldest first; the last one is live.
    pub(super) journals: Mutex<Vec<Arc<JournalFile>>>,
    /// Rises when `state.db` is replaced by another file, so that readers open it anew.
    pub(super) epoch: AtomicU64,
    /// Rows that could not be read since the start.
    pub(super) damaged_rows: AtomicU64,
    /// How many events retention has taken away that lay behind a webhook's place, by its name, until it is asked
    /// ([`super::Reader::events_lost`]). Webhooks of state have a place too and never ask.
    pub(super) lost: Mutex<BTreeMap<Arc<str>, u64>>,
    /// Shows the newest event that is on the disk, for those who follow the journal.
    pub(super) stored: watch::Sender<u64>,
    /// The program ends: what the disk refuses is retried for a bounded time only.
    pub(super) stopping: std::sync::atomic::AtomicBool,
    /// Who sees each event as it is stored.
    pub(super) live: Live,
    /// Pages that a database may have, for tests of a full disk; 0 is no bound.
    #[cfg(test)]
    pub(super) page_limit: AtomicU64,
}

/// One journal file. Its numbers rise with time whatever the clock does.
#[derive(Debug)]
pub(super) struct JournalFile {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    /// The lowest and the highest event number within; `u64::MAX` and 0 while there is none.
    pub(super) first: AtomicU64,
    pub(super) last: AtomicU64,
    /// The earliest reception within, in microseconds.
    pub(super) earliest: AtomicI64,
    /// Where the events of a source are, while the file has no index for that.
    pub(super) sources: Sources,
    /// How many events lie behind a place.
    pub(super) counted: Counted,
}

impl JournalFile {
    pub(super) fn new(number: u64, path: PathBuf) -> Self {
        Self {
            number,
            path,
            first: AtomicU64::new(u64::MAX),
            last: AtomicU64::new(0),
            earliest: AtomicI64::new(i64::MAX),
            sources: Sources::default(),
            counted: Counted::default(),
        }
    }

    /// Says that the events `first..=last` are in it, received no earlier than `earliest`.
    pub(super) fn holds(&self, first: u64, last: u64, earliest: i64) {
        self.first.fetch_min(first, Ordering::Relaxed);
        self.last.fetch_max(last, Ordering::Relaxed);
        self.earliest.fetch_min(earliest, Ordering::Relaxed);
    }

    pub(super) fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }
}

/// `events-NNNNNNNN-YYYYMMDD.db`: the number orders, the day is for people.
pub(super) fn journal_name(number: u64, now: Timestamp) -> String {
    let day = jiff::Timestamp::from_microsecond(now.0).unwrap_or_default().strftime("%Y%m%d").to_string();
    format!("{JOURNAL_PREFIX}{number:08}-{day}.db")
}

fn journal_number(name: &str) -> Option<u64> {
    let (number, day) = name.strip_prefix(JOURNAL_PREFIX)?.strip_suffix(".db")?.split_once('-')?;
    (day.len() == 8 && day.bytes().all(|digit| digit.is_ascii_digit())).then_some(())?;
    number.parse().ok()
}

impl Shared {
    /// Makes the directory if need be, takes the lock, and lists the journal files. The
    /// lock lasts as long as the file that holds it.
    pub(super) fn open(directory: &Path, notes: &mut Vec<Diagnostic>) -> Result<(Self, File), StoreError> {
        let failed = |error: io::Error| StoreError::io(directory, &error);
        if !directory.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
            if let Some(parent) = directory.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                sync_directory(parent).map_err(failed)?;
            }
        }
        let mode = fs::metadata(directory).map_err(failed)?.permissions().mode();
        if mode & 0o007 != 0 {
            let text = format!("{} is open to every user (mode {:o})", directory.display(), mode & 0o777);
            notes.push(Diagnostic::warning("storage-mode", text).help("chmod 700 it: events are evidence"));
        }
        let lock = lock(directory)?;
        let mut journals = Vec::new();
        for entry in fs::read_dir(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if let Some(number) = entry.file_name().to_str().and_then(journal_number) {
                journals.push(Arc::new(JournalFile::new(number, entry.path())));
            }
        }
        journals.sort_by_key(|file| file.number);
        let shared = Self {
            directory: directory.into(),
            journals: Mutex::new(journals),
            epoch: AtomicU64::new(0),
            stored: watch::Sender::new(0),
            lost: Mutex::default(),
            damaged_rows: AtomicU64::new(0),
            stopping: false.into(),
            live: Live::default(),
            #[cfg(test)]
            page_limit: AtomicU64::new(0),
        };
        Ok((shared, lock))
    }

    pub(super) fn state_path(&self) -> PathBuf {
        self.directory.join(STATE)
    }

    /// The files as they are now, oldest first.
    pub(super) fn journals(&self) -> Vec<Arc<JournalFile>> {
        self.journals.lock().clone()
    }

    /// What the directory takes on disk, in octets.
    pub(super) fn size(&self) -> io::Result<u64> {
        let mut size = 0;
        for entry in fs::read_dir(&self.directory)? {
            // A file may go away between its listing and its look-up.
            if let Ok(metadata) = entry?.metadata() {
                size += metadata.len();
            }
        }
        Ok(size)
    }

    /// Bounds the pages of `connection` as a full disk would; for tests.
    #[cfg(test)]
    pub(super) fn limit_pages(&self, connection: &Connection) -> rusqlite::Result<()> {
        let pages = match self.page_limit.load(Ordering::Relaxed) {
            0 => 4_294_967_294,
            pages => pages,
        };
        connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
    }
}

fn lock(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join(LOCK);
    let failed = |error: io::Error| StoreError::io(&path, &error);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            let _ = file.take(32).read_to_string(&mut holder);
            let holder = match holder.trim().parse::<u32>() {
                Ok(pid) => format!("process {pid}"),
                Err(_) => "another process".to_owned(),
            };
            return Err(StoreError {
                place: directory.into(),
                kind: StoreErrorKind::Locked,
                cause: format!("{holder} uses this data directory"),
                remedy: "stop that nereus first, or give this one a storage.path of its own",
            });
        }
        Err(error) => return Err(failed(error.into())),
    }
    let pid = std::process::id().to_string();
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(pid.as_bytes()))
        .map_err(failed)?;
    Ok(file)
}

/// Makes the directory's entries durable.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// How a database file is written.
pub(super) struct Shape {
    pub(super) application_id: i64,
    /// One script a version; the first makes version 1.
    pub(super) migrations: &'static [&'static str],
    pub(super) synchronous: &'static str,
    /// Whether rows go away one by one, so that free pages must be given back.
    pub(super) shrinks: bool,
    /// For tests whether the file is whole: a table that must be there.
    pub(super) table: &'static str,
}

/// Why a file could not be opened for writing.
#[derive(Debug)]
pub(super) enum OpenFailure {
    /// It is damaged or not ours: to be set aside.
    Damaged(String),
    /// It is whole, or may be; it must be left as it is.
    Refused(StoreError),
}

impl std::fmt::Display for OpenFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Damaged(cause) => f.write_str(cause),
            Self::Refused(error) => error.fmt(f),
        }
    }
}

impl OpenFailure {
    /// For a file that was made just now: damage is no longer a reason to set it aside.
    pub(super) fn into_error(self, path: &Path) -> StoreError {
        match self {
            Self::Refused(error) => error,
            Self::Damaged(cause) => StoreError {
                place: path.into(),
                kind: StoreErrorKind::Database,
                cause,
                remedy: "a new file was damaged at once: check the disk",
            },
        }
    }

    pub(super) fn of(path: &Path, error: &rusqlite::Error) -> Self {
        match super::error::Trouble::of(error) {
            super::error::Trouble::Damaged => Self::Damaged(error.to_string()),
            _ => Self::Refused(StoreError::database(path, error)),
        }
    }
}

/// Opens `path` for writing, makes it if need be, brings it to the newest version.
pub(super) fn open_for_writing(path: &Path, shape: &Shape) -> Result<Connection, OpenFailure> {
    let refused = |error: io::Error| OpenFailure::Refused(StoreError::io(path, &error));
    // SQLite makes files by the umask; its -wal and -shm take the mode of the file beside them.
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => path.parent().map_or(Ok(()), sync_directory).map_err(refused)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(refused(error)),
    }
    let opened = || -> rusqlite::Result<(Connection, i64, i64, bool)> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        let id = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
        let version = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let empty = connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))?;
        Ok((connection, id, version, empty))
    };
    let (connection, id, version, empty) = opened().map_err(|error| OpenFailure::of(path, &error))?;
    let known = i64::try_from(shape.migrations.len()).unwrap_or(i64::MAX);
    if !empty {
        // A number beyond any that will be given is a flipped bit, no newer version.
        if id != shape.application_id || !(1..1000).contains(&version) {
            return Err(OpenFailure::Damaged("its header is not the one that nereus writes".into()));
        }
        if version > known {
            return Err(OpenFailure::Refused(StoreError::newer(path, version, known)));
        }
    }
    let prepared = || -> rusqlite::Result<()> {
        if empty && shape.shrinks {
            connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL")?;
        }
        connection.execute_batch(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = {}; PRAGMA cache_size = -1024; PRAGMA mmap_size = 0;
             PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA foreign_keys = OFF;
             PRAGMA wal_autocheckpoint = 2000; PRAGMA journal_size_limit = 16777216;",
            shape.synchronous
        ))?;
        connection.set_prepared_statement_cache_capacity(24);
        let from = if empty { 0 } else { usize::try_from(version).unwrap_or(0) };
        for (at, script) in shape.migrations.iter().enumerate().skip(from) {
            connection.execute_batch(&format!(
                "BEGIN IMMEDIATE; {script}; PRAGMA application_id = {}; PRAGMA user_version = {}; COMMIT;",
                shape.application_id,
                at + 1
            ))?;
        }
        connection.prepare(&format!("SELECT 1 FROM {} LIMIT 1", shape.table)).map(drop)
    };
    prepared().map_err(|error| match error.sqlite_error_code() {
        // The schema lacks a table: nobody but a flipped bit removes one.
        Some(rusqlite::ErrorCode::Unknown) => OpenFailure::Damaged(error.to_string()),
        _ => OpenFailure::of(path, &error),
    })?;
    Ok(connection)
}

/// Walks the whole file. Costs one read of it.
pub(super) fn quick_check(connection: &Connection) -> Result<(), String> {
    let verdict = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))
        .map_err(|error| error.to_string())?;
    if verdict == "ok" { Ok(()) } else { Err(verdict) }
}

/// Moves the WAL into the file, as far as readers let it.
pub(super) fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

/// Opens `path` for reading alone, beside the one who writes it.
pub(super) fn open_for_reading(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.execute_batch(
        "PRAGMA cache_size = -256; PRAGMA mmap_size = 0; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;",
    )?;
    connection.set_prepared_statement_cache_capacity(8);
    Ok(connection)
}

/// SQLite's own files beside `path`.
fn companions(path: &Path) -> [PathBuf; 2] {
    ["-wal", "-shm"].map(|suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    })
}

/// Renames a damaged file, and what belongs to it, to `NAME.damaged-TIME`. Nothing is deleted but the
/// index of the WAL, which SQLite makes again. Returns the new path.
pub(super) fn quarantine(path: &Path, now: Timestamp) -> Result<PathBuf, StoreError> {
    let failed = |error: io::Error| StoreError::io(path, &error);
    let time =
        jiff::Timestamp::from_microsecond(now.0).unwrap_or_default().strftime("%Y%m%dT%H%M%S").to_string();
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".damaged-{time}"));
    let mut aside = PathBuf::from(aside);
    // Two in one second keep both.
    while aside.exists() {
        aside.as_mut_os_string().push("x");
    }
    let [wal, shm] = companions(path);
    let [wal_aside, _] = companions(&aside);
    for result in [fs::rename(&wal, wal_aside), fs::remove_file(&shm)] {
        match result {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    fs::rename(path, &aside).map_err(failed)?;
    path.parent().map_or(Ok(()), sync_directory).map_err(failed)?;
    Ok(aside)
}

/// Unlinks a journal file and what belongs to it.
pub(super) fn unlink(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    for companion in companions(path) {
        match fs::remove_file(companion) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journal_names_carry_number_and_day() {
        let name = journal_name(42, Timestamp(1_785_024_000_000_000));
        assert_eq!(name, "events-00000042-20260726.db");
        assert_eq!(journal_number(&name), Some(42));
        for other in ["events-1.db", "events-00000042-20260726.db-wal", "state.db", "events-x-20260726.db"] {
            assert_eq!(journal_number(other), None, "{other}");
        }
        assert_eq!(journal_number("events-00000042-20260726.db.damaged-20260726T000000"), None);
    }
}
