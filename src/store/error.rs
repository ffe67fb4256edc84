//! What can go wrong with the data directory, with the place, the cause and what to do.

use std::path::{Path, PathBuf};
use std::{error, fmt, io};

use rusqlite::ErrorCode;

/// A failure of the store that the caller must hear of.
#[derive(Debug)]
pub struct StoreError {
    /// The file or directory that it is about.
    pub place: PathBuf,
    /// What sort of failure.
    pub kind: StoreErrorKind,
    /// What happened, in the words of the system where it spoke.
    pub cause: String,
    /// What to do about it.
    pub remedy: &'static str,
}

/// Sorts of [`StoreError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// Another Nereus uses the directory.
    Locked,
    /// The file was made by a newer Nereus.
    Newer,
    /// The file system refuses.
    Io,
    /// SQLite refuses, or its file is damaged.
    Database,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.place.display(), self.cause, self.remedy)
    }
}

impl error::Error for StoreError {}

impl StoreError {
    pub(super) fn io(place: &Path, cause: &io::Error) -> Self {
        let remedy = match cause.kind() {
            io::ErrorKind::PermissionDenied => {
                "the user that runs nereus must own storage.path and may write there"
            }
            io::ErrorKind::StorageFull => "free space on that file system",
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                "storage.path must be a directory of Nereus' own"
            }
            _ => "check storage.path and the file system that holds it",
        };
        Self { place: place.into(), kind: StoreErrorKind::Io, cause: cause.to_string(), remedy }
    }

    pub(super) fn database(place: &Path, cause: &rusqlite::Error) -> Self {
        let remedy = match Trouble::of(cause) {
            Trouble::Space => "free space on that file system",
            Trouble::Disk => "check the disk and the kernel's log",
            Trouble::Busy => "another program holds the file; end it",
            Trouble::Damaged => "restart nereus: it sets damaged files aside and goes on with the rest",
            Trouble::Other => "check that the file is readable and writable, and report this if it is",
        };
        Self { place: place.into(), kind: StoreErrorKind::Database, cause: cause.to_string(), remedy }
    }

    pub(super) fn newer(place: &Path, found: i64, known: i64) -> Self {
        Self {
            place: place.into(),
            kind: StoreErrorKind::Newer,
            cause: format!("its format is number {found}, and this version knows up to {known}"),
            remedy: "run the newer nereus that wrote it, or move the directory away",
        }
    }
}

/// What an error of SQLite means for the one who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No room: it passes when somebody makes room.
    Space,
    /// The disk fails to read or write.
    Disk,
    /// Somebody else holds a lock.
    Busy,
    /// The file holds what SQLite did not write.
    Damaged,
    /// Anything else.
    Other,
}

impl Trouble {
    pub(super) fn of(error: &rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Space,
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::ReadOnly) => Self::Disk,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged,
            _ => Self::Other,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Space => "no_space",
            Self::Disk => "input_output",
            Self::Busy => "busy",
            Self::Damaged => "damaged",
            Self::Other => "other",
        }
    }
}
