//! Keeping the directory within its bounds: whole journal files go by age and by size, the state's
//! ended alerts row by row in small steps.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::error::Trouble;
use super::files::{self, JournalFile, Shared};
use super::journal::Journal;
use super::row;
use super::state::State;
use crate::config::settings::StorageSettings;
use crate::event::{AlertId, Timestamp};

/// A journal file is closed at a day's end, or once it is so large: retention needs files that it can
/// take away, and a query of the newest events walks the live one.
pub(super) fn journal_limit(settings: &StorageSettings) -> u64 {
    (settings.max_size / 32).clamp(1 << 20, 1 << 30)
}

/// The time before which things may go.
pub(super) fn cutoff(settings: &StorageSettings, now: Timestamp) -> Timestamp {
    let span = i64::try_from(settings.retention.as_micros()).unwrap_or(i64::MAX);
    Timestamp(now.0.saturating_sub(span))
}

/// What a run did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Retained {
    /// Files that are gone.
    pub(super) unlinked: u64,
    /// Open alerts that were written again into the live file.
    pub(super) carried: u64,
    /// The bound on size is broken, and no closed file is left to take away.
    pub(super) too_large: bool,
}

/// Unlinks closed journal files, oldest first: those whose newest event is older than the retention, and
/// as many as the size demands. Files that were set aside as damaged are neither counted nor touched.
///
/// An open alert whose newest entry is in such a file is first written into the live one, so that the
/// journal alone still makes the state.
///
/// # Errors
/// The file system's, and SQLite's where an alert could not be carried for another reason than room.
pub(super) fn run(
    shared: &Shared,
    settings: &StorageSettings,
    journal: &mut Journal,
    state: &State,
    now: Timestamp,
) -> io::Result<Retained> {
    let cutoff = u64::try_from(cutoff(settings, now).0).unwrap_or(0);
    let mut size = own_size(shared)?;
    let mut retained = Retained::default();
    let files = shared.journals();
    // The live file is the last one.
    for pair in files.windows(2) {
        let [file, next] = pair else { break };
        // An event's number never lies before the time at which it was received. A file with changes
        // alone is as old as the event that follows it.
        let newest = if file.last() > 0 { file.last() } else { next.first.load(Ordering::Relaxed) };
        let expired = newest < cutoff;
        if !expired && size <= settings.max_size {
            break;
        }
        match carry(journal, state, file) {
            Ok(carried) => retained.carried += carried,
            // Room is what unlinking makes. The state knows which alerts are still to be carried.
            Err(error) if Trouble::of(&error) == Trouble::Space => {}
            Err(error) => return Err(io::Error::other(error)),
        }
        count_lost(shared, state, file);
        size = size.saturating_sub(file_size(file));
        shared.journals.lock().retain(|kept| kept.number != file.number);
        files::unlink(&file.path)?;
        retained.unlinked += 1;
    }
    retained.too_large = size > settings.max_size;
    Ok(retained)
}

fn carry(journal: &mut Journal, state: &State, file: &Arc<JournalFile>) -> rusqlite::Result<u64> {
    let (mut after, mut carried) = (AlertId(0), 0);
    loop {
        let (alerts, _) = state.alerts_of_journal(file.number, after, 500)?;
        let Some(last) = alerts.last() else { return Ok(carried) };
        after = last.id;
        journal.carry(&alerts)?;
        state.carried(&alerts, journal.file().number)?;
        carried += alerts.len() as u64;
    }
}

/// Notes for whoever follows the journal how many events of `file` it has not come to. Costs a look-up; where there are
/// some, a walk over the file's index, and over the events themselves where one stands in their midst. What cannot be read
/// cannot be counted either: that is told in the log.
fn count_lost(shared: &Shared, state: &State, file: &JournalFile) {
    let counted = state.progress().and_then(|all| {
        let behind: Vec<_> = all.into_iter().filter(|(_, position)| *position < file.last()).collect();
        if behind.is_empty() {
            return Ok(());
        }
        let connection = files::open_for_reading(&file.path)?;
        let whole =
            || connection.query_row("SELECT count(*) FROM events", [], |found| row::unsigned(found, 0));
        let mut all = None;
        for (name, position) in behind {
            let lost = match all {
                _ if position >= file.first.load(Ordering::Relaxed) => {
                    file.counted.after(&connection, position)?
                }
                Some(all) => all,
                None => *all.insert(whole()?),
            };
            *shared.lost.lock().entry(name).or_default() += lost;
        }
        Ok(())
    });
    if let Err(error) = counted {
        let file = file.path.display();
        tracing::warn!(component = "storage", %file, %error, "What retention takes away unsent could not be counted");
    }
}

fn file_size(file: &JournalFile) -> u64 {
    let mut wal = file.path.as_os_str().to_owned();
    wal.push("-wal");
    let size = |path: &std::ffi::OsStr| fs::metadata(path).map_or(0, |metadata| metadata.len());
    size(file.path.as_os_str()) + size(&wal)
}

/// What journals and state take, without what was set aside.
fn own_size(shared: &Shared) -> io::Result<u64> {
    let mut size = shared.journals().iter().map(|file| file_size(file)).sum();
    for name in [files::STATE.to_owned(), format!("{}-wal", files::STATE)] {
        match fs::metadata(shared.directory.join(name)) {
            Ok(metadata) => size += metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(size)
}
