//! The mutes, in a file of their own.
//!
//! They are an operator's word: nothing else can make them again, so that they stand apart from what is derived, and
//! a damaged `state.db` does not take them along. The file is replaced whole by rename, after its sync; who hears
//! that a mute was added can rely on it. Which alerts it mutes stands on the alerts.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::files;
use crate::diagnostic::Diagnostic;
use crate::event::{Matchers, Mute, MuteEnd, MuteId, MuteState, Timestamp};

const FILE: &str = "mutes.json";
/// The format of the file.
const VERSION: i64 = 1;
/// Mutes that are not over. Each is compared with each alert that begins.
const MAX_MUTES: usize = 1_000;
/// Mutes that are over are kept for so long, in microseconds, and so many of them.
const KEPT: i64 = 30 * 86_400 * 1_000_000;
const MAX_ENDED: usize = 1_000;

#[derive(Serialize, Deserialize)]
struct Content {
    version: i64,
    mutes: Vec<Mute>,
}

/// All mutes, on the disk and at hand.
#[derive(Debug)]
pub struct MuteBook {
    path: PathBuf,
    /// By number, those that are over included.
    mutes: Mutex<Vec<Mute>>,
}

/// A mute to be added.
#[derive(Debug, Clone)]
pub struct NewMute {
    /// Which alerts.
    pub matchers: Matchers,
    /// In force from this time on …
    pub from: Timestamp,
    /// … and before this one.
    pub until: Timestamp,
    /// Why.
    pub comment: String,
    /// Who makes it.
    pub by: Arc<str>,
}

/// Why a mute was not added or ended; nothing has changed.
#[derive(Debug)]
pub enum MuteRefusal {
    /// As many are open as may be.
    TooMany,
    /// There is none of this number (any more).
    Unknown,
    /// It is over.
    Ended,
    /// The disk refuses.
    Disk(StoreError),
}

impl std::fmt::Display for MuteRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooMany => write!(f, "there are {MAX_MUTES} mutes already; end some of them"),
            Self::Unknown => f.write_str("there is no such mute"),
            Self::Ended => f.write_str("this mute is over already"),
            Self::Disk(error) => write!(f, "it could not be written, and nothing has changed: {error}"),
        }
    }
}

impl MuteBook {
    /// Reads the file of a data directory. The caller holds the directory's lock.
    ///
    /// # Errors
    /// The file is of a newer version, or cannot be read. A damaged one is set aside, and `notes` says so.
    pub(super) fn open(
        directory: &Path,
        now: Timestamp,
        notes: &mut Vec<Diagnostic>,
    ) -> Result<Self, StoreError> {
        let path = directory.join(FILE);
        let octets = match fs::read(&path) {
            Ok(octets) => octets,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(StoreError::io(&path, &error)),
        };
        let mut mutes = if octets.is_empty() && !path.exists() {
            Vec::new()
        } else {
            match Self::parse(&octets) {
                Ok(mutes) => mutes,
                Err(Unreadable::Newer(version)) => return Err(StoreError::newer(&path, version, VERSION)),
                Err(Unreadable::Damaged(cause)) => {
                    super::set_aside(&path, &cause, now, notes)?;
                    let text = "what was muted is not any more; `nereus mutes add` mutes it again";
                    notes.push(Diagnostic::warning("storage-mutes-lost", text));
                    Vec::new()
                }
            }
        };
        mutes.sort_by_key(|mute| mute.id);
        Ok(Self { path, mutes: Mutex::new(mutes) })
    }

    fn parse(octets: &[u8]) -> Result<Vec<Mute>, Unreadable> {
        #[derive(Deserialize)]
        struct Head {
            version: i64,
        }
        let damaged = |error: serde_json::Error| Unreadable::Damaged(error.to_string());
        let Head { version } = serde_json::from_slice(octets).map_err(damaged)?;
        if version > VERSION {
            return Err(Unreadable::Newer(version));
        }
        let Content { mutes, .. } = serde_json::from_slice(octets).map_err(damaged)?;
        Ok(mutes)
    }

    /// All of them, by number; those that were over long ago are gone.
    #[must_use]
    pub fn all(&self) -> Vec<Mute> {
        self.mutes.lock().clone()
    }

    /// Those that are not over at `now`.
    #[must_use]
    pub fn open_at(&self, now: Timestamp) -> Arc<[Mute]> {
        open_of(&self.mutes.lock(), now)
    }

    /// Adds a mute. When this returns it is on the disk, and `then` was given all that are open. Blocks on the disk.
    ///
    /// # Errors
    /// [`MuteRefusal`]: nothing was added.
    pub fn add(
        &self,
        new: NewMute,
        now: Timestamp,
        then: impl FnOnce(Arc<[Mute]>),
    ) -> Result<Mute, MuteRefusal> {
        self.change(now, then, |mutes| {
            if mutes.iter().filter(|mute| mute.state(now) != MuteState::Ended).count() >= MAX_MUTES {
                return Err(MuteRefusal::TooMany);
            }
            let clock = u64::try_from(now.0).unwrap_or(0);
            let last = mutes.last().map_or(0, |mute| mute.id.0);
            let NewMute { matchers, from, until, comment, by } = new;
            let id = MuteId(clock.max(last.saturating_add(1)));
            let mute = Mute { id, matchers, from, until, comment, by, created: now, ended: None };
            mutes.push(mute.clone());
            Ok(mute)
        })
    }

    /// Ends a mute before its time. Otherwise as [`Self::add`].
    ///
    /// # Errors
    /// [`MuteRefusal`]: nothing has changed.
    pub fn end(
        &self,
        id: MuteId,
        by: Arc<str>,
        now: Timestamp,
        then: impl FnOnce(Arc<[Mute]>),
    ) -> Result<Mute, MuteRefusal> {
        self.change(now, then, |mutes| {
            let mute = mutes.iter_mut().find(|mute| mute.id == id).ok_or(MuteRefusal::Unknown)?;
            if mute.state(now) == MuteState::Ended {
                return Err(MuteRefusal::Ended);
            }
            mute.ended = Some(MuteEnd { at: now, by });
            Ok(mute.clone())
        })
    }

    fn change(
        &self,
        now: Timestamp,
        then: impl FnOnce(Arc<[Mute]>),
        change: impl FnOnce(&mut Vec<Mute>) -> Result<Mute, MuteRefusal>,
    ) -> Result<Mute, MuteRefusal> {
        // Held over the write: what follows hears of the changes in their order.
        let mut mutes = self.mutes.lock();
        let mut changed = mutes.clone();
        let made = change(&mut changed)?;
        forget(&mut changed, now);
        self.write(&changed).map_err(|error| MuteRefusal::Disk(StoreError::io(&self.path, &error)))?;
        *mutes = changed;
        then(open_of(&mutes, now));
        Ok(made)
    }

    fn write(&self, mutes: &[Mute]) -> io::Result<()> {
        let octets = serde_json::to_vec_pretty(&Content { version: VERSION, mutes: mutes.to_vec() })?;
        let next = self.path.with_extension("json.next");
        let mut file: File =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        file.write_all(&octets)?;
        file.sync_all()?;
        fs::rename(&next, &self.path)?;
        self.path.parent().map_or(Ok(()), files::sync_directory)
    }
}

enum Unreadable {
    Newer(i64),
    Damaged(String),
}

fn open_of(mutes: &[Mute], now: Timestamp) -> Arc<[Mute]> {
    mutes.iter().filter(|mute| mute.state(now) != MuteState::Ended).cloned().collect()
}

/// Drops what was over long ago, and the oldest of too many.
fn forget(mutes: &mut Vec<Mute>, now: Timestamp) {
    let over = |mute: &Mute| mute.ended.as_ref().map_or(mute.until, |end| end.at.min(mute.until));
    let open = |mute: &Mute| mute.state(now) != MuteState::Ended;
    mutes.retain(|mute| open(mute) || now.0.saturating_sub(over(mute).0) < KEPT);
    let mut surplus = mutes.iter().filter(|mute| !open(mute)).count().saturating_sub(MAX_ENDED);
    mutes.retain(|mute| {
        let goes = surplus > 0 && !open(mute);
        surplus -= usize::from(goes);
        !goes
    });
}

#[cfg(test)]
mod tests {
    use super::super::error::StoreErrorKind;
    use super::*;

    fn new(alert: &str, from: i64, until: i64) -> NewMute {
        NewMute {
            matchers: Matchers { alert: vec![alert.into()], ..Matchers::default() },
            from: Timestamp(from),
            until: Timestamp(until),
            comment: "works".into(),
            by: "ann".into(),
        }
    }

    fn open(folder: &Path, notes: &mut Vec<Diagnostic>) -> MuteBook {
        MuteBook::open(folder, Timestamp(0), notes).unwrap()
    }

    #[test]
    fn what_was_added_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mut notes = Vec::new();
        let book = open(folder.path(), &mut notes);
        assert!(book.all().is_empty());
        let mut heard = Vec::new();
        let first = book.add(new("A", 0, 100), Timestamp(10), |open| heard = open.to_vec()).unwrap();
        assert_eq!(heard, std::slice::from_ref(&first));
        let second = book.add(new("B", 50, 100), Timestamp(5), |_| {}).unwrap();
        assert!(second.id > first.id, "numbers rise whatever the clock does");
        let ended = book.end(first.id, "bob".into(), Timestamp(20), |open| heard = open.to_vec()).unwrap();
        assert_eq!((ended.ended.unwrap().by, heard.len()), ("bob".into(), 1));
        assert!(matches!(book.end(first.id, "bob".into(), Timestamp(20), |_| {}), Err(MuteRefusal::Ended)));
        assert!(matches!(
            book.end(MuteId(9_999), "bob".into(), Timestamp(20), |_| {}),
            Err(MuteRefusal::Unknown)
        ));
        let again = open(folder.path(), &mut notes);
        assert_eq!(again.all(), book.all());
        assert_eq!(&*again.open_at(Timestamp(20)), [second]);
        assert!(notes.is_empty());
    }

    #[test]
    fn a_refusing_disk_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let book = open(folder.path(), &mut Vec::new());
        book.add(new("A", 0, 100), Timestamp(1), |_| {}).unwrap();
        // A folder stands where the next version is written.
        fs::create_dir(folder.path().join("mutes.json.next")).unwrap();
        let before = book.all();
        let mut told = false;
        let refused = book.add(new("B", 0, 100), Timestamp(2), |_| told = true);
        assert!(matches!(refused, Err(MuteRefusal::Disk(_))));
        assert!(!told && book.all() == before && open(folder.path(), &mut Vec::new()).all() == before);
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_a_newer_one_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        for damaged in ["", "{", r#"{"version": 1, "mutes": [{}]}"#] {
            fs::write(&path, damaged).unwrap();
            let mut notes = Vec::new();
            assert!(open(folder.path(), &mut notes).all().is_empty());
            assert!(notes[0].message.contains("damaged") && !path.exists(), "{notes:?}");
        }
        fs::write(&path, r#"{"version": 2, "mutes": "in another shape"}"#).unwrap();
        let error = MuteBook::open(folder.path(), Timestamp(0), &mut Vec::new()).unwrap_err();
        assert!(error.kind == StoreErrorKind::Newer && path.exists(), "{error}");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let book = open(folder.path(), &mut Vec::new());
        *book.mutes.lock() = (1..=3_000)
            .map(|id| {
                let NewMute { matchers, from, until, comment, by } = new("A", 0, id);
                let id = MuteId(u64::try_from(id).unwrap());
                Mute { id, matchers, from, until, comment, by, created: from, ended: None }
            })
            .collect();
        let now = Timestamp(2_500);
        book.add(new("B", 0, 9_000), now, |_| {}).unwrap();
        let ended = book.all().iter().filter(|mute| mute.state(now) == MuteState::Ended).count();
        assert_eq!((ended, book.open_at(now).len()), (MAX_ENDED, 501));
        book.mutes.lock().iter_mut().for_each(|mute| mute.until = Timestamp(9_000));
        assert!(matches!(book.add(new("C", 0, 9_000), now, |_| {}), Err(MuteRefusal::TooMany)));
    }
}
