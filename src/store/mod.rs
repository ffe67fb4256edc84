//! The store: a journal that loses nothing, and the state that follows from it.
//!
//! # Invariants
//! 1. An inform is answered after the commit that holds its event has reached the disk, never before.
//! 2. Whatever changes an alert is in the journal, in the order in which it happened: events with the
//!    correlator's decision on them, and the changes that no event made (time ran out, an operator
//!    spoke) in a table beside them. So one sync acknowledges, and `state.db` is derived: it may lose its
//!    newest transactions, or all of them, and the journal makes it again.
//! 3. Applying is idempotent. Changes are numbered in their order and the state knows the highest one
//!    that is in; a repeat without a change counts one if its number lies behind its alert's last event.
//! 4. A damaged file is set aside under another name, never deleted, and said; what can be read of a
//!    journal goes on in a new file of the same number. A damaged row is skipped and counted.
//! 5. One instance writes a directory: it holds the lock on `lock`, where its process number stands.
//!
//! # Files (directory 0700, files 0600)
//! * `events-NNNNNNNN-YYYYMMDD.db`, one a UTC day or every 32nd part of `storage.max_size`. Numbers
//!   rise whatever the clock does; only the newest is written. WAL, `synchronous=FULL`: a commit returns
//!   once it is on the disk. Retention unlinks whole files; an open alert whose newest version is only in
//!   such a file is first written into the live one (`carried`).
//!   Tables: `events` (a linkDown takes about 220 octets; the datagram, which holds the community, is
//!   not in it, only the PDU), `texts` (names by number), `changes` (changes without an event's row, each
//!   after the event that came before), `carried`, `marks` (how far webhooks were served), `meta`.
//!   The live file has no index beside its key, but a filter of the sources of each 256 events in memory; a closed one
//!   gets an index on the source, off the writer.
//! * `state.db`: `position` (last event, change and alert that are in), `alerts`, `outbox`, `progress`,
//!   `dead_letters`. WAL, `synchronous=NORMAL`: a loss of power may take its newest transactions, never
//!   some from the middle. Alerts and new outbox rows come again from the journal. What it alone knows is
//!   what webhooks were told; losing the end of that repeats deliveries, which are promised at least
//!   once. A whole loss would repeat a month of them, so that the journal keeps `marks`, at most
//!   10 seconds old.
//! * `mutes.json`: what operators have muted; replaced whole, after a sync.
//! * `lock`, and `*.damaged-TIME`: files that were set aside, for a person to look at and remove.
//!
//! # Counts
//! Alerts are written when they change, counts of repeats every so often ([`Command::Counts`]). The
//! position's `counted` says up to which event repeats are on their alerts; a start counts those behind
//! it, and moves the expiry with the last event. Repeats that got no row are counted by the next
//! [`Command::Counts`] alone.
//!
//! [`Command::Counts`]: crate::event::Command::Counts

mod alerts;
mod error;
mod files;
mod follow;
mod journal;
mod live;
mod mutes;
mod query;
mod record;
mod replay;
mod retention;
mod row;
mod sources;
mod state;
#[cfg(test)]
mod tests;
mod walk;
mod writer;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub use error::{StoreError, StoreErrorKind};
pub use follow::Stretch;
pub use live::{Followed, Follower};
pub use mutes::{MuteBook, MuteRefusal, NewMute};
pub use query::{AlertQuery, Counts, DeadLetter, EventPage, EventQuery, OutboxRow, Reader};
pub use writer::spawn_writer;

use crate::config::settings::StorageSettings;
use crate::diagnostic::Diagnostic;
use crate::event::{AlertId, AlertRecord, EventId, Flap, Timestamp};
use crate::metrics::Metrics;
use files::{JournalFile, OpenFailure, Shared};
use journal::{Journal, Mark};
use state::State;

/// A file up to this size is checked at every start; a larger one after a run that did not end in order.
const ALWAYS_CHECKED: u64 = 64 << 20;
/// Journal files whose marks are read: the newest holds all of them, unless it was damaged.
const MARKED: usize = 3;

/// An open data directory, to be given to [`spawn_writer`]. Dropped, it gives up the lock.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    settings: StorageSettings,
    journal: Journal,
    state: State,
    before_commit: BeforeCommit,
    /// Held open for its lock. Last, so that the databases are closed before another instance comes.
    lock: fs::File,
}

/// See [`Store::before_commit`].
#[derive(Default)]
struct BeforeCommit(Option<Box<dyn Fn() + Send>>);

impl std::fmt::Debug for BeforeCommit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BeforeCommit")
    }
}

impl BeforeCommit {
    fn call(&self) {
        if let Some(hook) = &self.0 {
            hook();
        }
    }
}

/// What [`Store::open`] found.
#[derive(Debug)]
pub struct Opened<T = AlertRecord> {
    /// The store itself.
    pub store: Store,
    /// All open alerts, oldest first, repeats counted; or what was made of each.
    pub alerts: Vec<T>,
    /// The highest event number that is known; the next one must be higher.
    pub last_event: EventId,
    /// The highest alert number that is known.
    pub last_alert: AlertId,
    /// The highest change number that is known.
    pub last_change: u64,
    /// How keys without an open alert came and went, as far as their alerts ended within an hour.
    pub ended: Vec<(Box<str>, Flap)>,
    /// The mutes.
    pub mutes: MuteBook,
    /// What was found on the way, for the log: damage, quarantine, what was applied again.
    pub notes: Vec<Diagnostic>,
}

/// Tells the writer that the program ends: what the disk refuses is given up after 5 seconds. Needed
/// beside [`Command::Stop`], which a full queue keeps from the writer.
///
/// [`Command::Stop`]: crate::event::Command::Stop
#[derive(Debug, Clone)]
pub struct StopSignal(Arc<Shared>);

impl StopSignal {
    /// From now on, a refusing disk is given up. Commits that work go on as before.
    pub fn set(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
    }
}

impl Store {
    /// Opens the data directory and brings the state up to the journal. Makes the directory if it is not there.
    ///
    /// Cost: a check of small files (of all that were written last, after a run that did not end in
    /// order), a walk over the events since the counts were last written, and all open alerts in memory.
    ///
    /// # Errors
    /// Another instance holds the directory, a file is of a newer version, or the file system or SQLite
    /// refuses. Damage is no error: the file is set aside, and `notes` says so.
    pub fn open(settings: &StorageSettings, metrics: Arc<Metrics>) -> Result<Opened, StoreError> {
        Self::open_with(settings, metrics, |record| record)
    }

    /// As [`Store::open`], with what `each` makes of an open alert in its place. That is done where the alert is read:
    /// on several threads, and before the processor has forgotten it.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with<T: Send>(
        settings: &StorageSettings,
        metrics: Arc<Metrics>,
        each: impl Fn(AlertRecord) -> T + Sync,
    ) -> Result<Opened<T>, StoreError> {
        let now = Timestamp::now();
        let mut notes = Vec::new();
        let (shared, lock) = Shared::open(&settings.path, &mut notes)?;
        let shared = Arc::new(shared);
        let state_path = shared.state_path();
        let failed = |error: rusqlite::Error| StoreError::database(&state_path, &error);
        let existed = state_path.exists();
        let mut state = open_state(&shared, now, &mut notes)?;
        let clean = state.was_clean;
        if !existed && !shared.journals().is_empty() {
            let text = "state.db is missing; it is made again from the journal";
            notes.push(Diagnostic::warning("storage-rebuilt", text));
        }
        let mut journal = open_journals(&shared, &state, clean, now, &mut notes)?;
        let files = shared.journals();
        let marks = read_marks(&files);
        let bring_up = |state: &mut State| -> rusqlite::Result<_> {
            let replayed = state.replay(&files, &marks, now)?;
            let (alerts, damaged) = state.open_alerts(&each)?;
            Ok((replayed, alerts, damaged, state.ended_flaps(now)?))
        };
        let (replayed, alerts, damaged, ended) = match bring_up(&mut state) {
            Ok(all) => all,
            // A large file is not walked through at each start, so that damage may show here first.
            Err(error) if error::Trouble::of(&error) == error::Trouble::Damaged => {
                drop(state);
                set_aside(&state_path, &error.to_string(), now, &mut notes)?;
                state = open_state(&shared, now, &mut notes)?;
                bring_up(&mut state).map_err(failed)?
            }
            Err(error) => return Err(failed(error)),
        };
        if replayed.applied > 0 {
            let text = format!("{} changes of the journal were applied to the state", replayed.applied);
            notes.push(Diagnostic {
                level: crate::diagnostic::Level::Note,
                ..Diagnostic::warning("storage-replayed", text)
            });
        }
        let mutes = MuteBook::open(&shared.directory, now, &mut notes)?;
        let damaged = damaged + replayed.damaged;
        if damaged > 0 {
            shared.damaged_rows.fetch_add(damaged, Ordering::Relaxed);
            let text = format!("{damaged} rows could not be read and are skipped");
            notes.push(Diagnostic::error("storage-damaged-rows", text));
        }
        state.set_clean(false).map_err(failed)?;
        show_dead_letters(&mut state, &metrics);
        metrics
            .storage_size_bytes
            .set(shared.size().map_or(0, |size| i64::try_from(size).unwrap_or(i64::MAX)));
        let last_event = state.position.last_event.max(journal.last_event());
        journal.seen(last_event);
        let progress = marks.iter().map(|mark| mark.change).max().unwrap_or(0);
        Ok(Opened {
            alerts,
            last_event: EventId(last_event),
            last_alert: AlertId(state.position.last_alert),
            last_change: state.position.last_change.max(progress),
            ended,
            mutes,
            notes,
            store: Self {
                shared,
                settings: settings.clone(),
                journal,
                state,
                before_commit: BeforeCommit::default(),
                lock,
            },
        })
    }

    /// A reader; it may be cloned and outlives the writer.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(self.shared.clone())
    }

    /// Has `hook` called before each commit, by the writer: for what has to be on the disk no later than the events
    /// that follow from it.
    pub fn before_commit(&mut self, hook: impl Fn() + Send + 'static) {
        self.before_commit = BeforeCommit(Some(Box::new(hook)));
    }

    /// The way to tell the writer that the program ends.
    #[must_use]
    pub fn stop_signal(&self) -> StopSignal {
        StopSignal(self.shared.clone())
    }
}

fn open_state(shared: &Shared, now: Timestamp, notes: &mut Vec<Diagnostic>) -> Result<State, StoreError> {
    let path = shared.state_path();
    let again = || State::open(&path).map_err(|failure| failure.into_error(&path));
    let state = match State::open(&path) {
        Ok(state) => state,
        Err(OpenFailure::Damaged(cause)) => {
            set_aside(&path, &cause, now, notes)?;
            return again();
        }
        Err(OpenFailure::Refused(error)) => return Err(error),
    };
    if (!state.was_clean || is_small(&path))
        && let Err(cause) = files::quick_check(&state.connection)
    {
        drop(state);
        set_aside(&path, &cause, now, notes)?;
        return again();
    }
    Ok(state)
}

/// Looks at every journal file, and opens the newest or makes the first.
fn open_journals(
    shared: &Shared,
    state: &State,
    clean: bool,
    now: Timestamp,
    notes: &mut Vec<Diagnostic>,
) -> Result<Journal, StoreError> {
    let files = shared.journals();
    let last_event = state.position.last_event;
    let Some((newest, closed)) = files.split_last() else {
        return Journal::create(shared, last_event, &[], now)
            .map_err(|failure| failure.into_error(&shared.directory));
    };
    for file in closed {
        match journal::inspect(file) {
            Ok(()) => {}
            Err(OpenFailure::Damaged(cause)) => drop(salvage(file, last_event, &cause, now, notes)?),
            Err(OpenFailure::Refused(error)) => return Err(error),
        }
    }
    let journal = match Journal::open(newest, last_event) {
        Ok(journal) => journal,
        Err(OpenFailure::Damaged(cause)) => return salvage(newest, last_event, &cause, now, notes),
        Err(OpenFailure::Refused(error)) => return Err(error),
    };
    if (!clean || is_small(&newest.path))
        && let Err(cause) = files::quick_check(journal.connection())
    {
        drop(journal);
        return salvage(newest, last_event, &cause, now, notes);
    }
    Ok(journal)
}

/// Sets a damaged journal aside and goes on with what can be read of it, under its name.
fn salvage(
    file: &Arc<JournalFile>,
    last_event: u64,
    cause: &str,
    now: Timestamp,
    notes: &mut Vec<Diagnostic>,
) -> Result<Journal, StoreError> {
    let aside = set_aside(&file.path, cause, now, notes)?;
    // What the damaged one said of itself is no longer so.
    file.first.store(u64::MAX, Ordering::Relaxed);
    file.last.store(0, Ordering::Relaxed);
    file.earliest.store(i64::MAX, Ordering::Relaxed);
    let mut journal = Journal::open(file, last_event).map_err(|failure| failure.into_error(&file.path))?;
    let text = match journal.salvage(&aside) {
        Ok(events) => format!("{events} events of it could be read and are kept"),
        Err(error) => format!("nothing of it could be read: {error}"),
    };
    notes.push(Diagnostic::warning("storage-salvaged", format!("{}: {text}", file.path.display())));
    Ok(journal)
}

fn set_aside(
    path: &Path,
    cause: &str,
    now: Timestamp,
    notes: &mut Vec<Diagnostic>,
) -> Result<std::path::PathBuf, StoreError> {
    let aside = files::quarantine(path, now)?;
    let text = format!("{} is damaged: {cause}; it is set aside as {}", path.display(), aside.display());
    notes.push(
        Diagnostic::error("storage-damaged", text)
            .help("look at it or remove it; nereus does not touch it again"),
    );
    Ok(aside)
}

fn is_small(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.len() <= ALWAYS_CHECKED)
}

/// The marks of the newest files, the newest word last.
fn read_marks(files: &[Arc<JournalFile>]) -> Vec<Mark> {
    let newest = files.iter().skip(files.len().saturating_sub(MARKED));
    newest.flat_map(|file| journal::marks(&file.path).unwrap_or_default()).collect()
}

/// Sets a state aside that proved damaged while in use, and makes it again. Nobody may have it open for writing.
fn replace_state(shared: &Shared, now: Timestamp) -> rusqlite::Result<State> {
    let path = shared.state_path();
    let refused = |cause: String| {
        let error = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
        rusqlite::Error::SqliteFailure(error, Some(cause))
    };
    if path.exists() {
        files::quarantine(&path, now).map_err(|error| refused(error.to_string()))?;
    }
    let mut state = State::open(&path).map_err(|failure| refused(failure.to_string()))?;
    // Who reads the queues goes on behind the numbers that the lost file gave.
    state.number_rows_from(now)?;
    let files = shared.journals();
    state.replay(&files, &read_marks(&files), now)?;
    shared.epoch.fetch_add(1, Ordering::Release);
    Ok(state)
}

/// Sets the gauge anew; a webhook whose letters are gone shows 0.
fn show_dead_letters(state: &mut State, metrics: &Metrics) {
    let letters = state.dead_letters().unwrap_or_default();
    state.lettered.extend(letters.iter().map(|(webhook, _)| webhook.clone()));
    for webhook in &state.lettered {
        let number = letters.iter().find(|(of, _)| of == webhook).map_or(0, |(_, number)| *number);
        metrics.dead_letters.with_label_values(&[webhook]).set(number);
    }
}
