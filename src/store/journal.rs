//! The journal: events and state changes in the order in which they happened, in files that are
//! unlinked whole. See the room's header for the format and what is promised.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rusqlite::types::Value;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::files::{self, JournalFile, OpenFailure, Shape, Shared};
use super::row;
use super::sources::{self, Survey};
use crate::event::{
    AlertChange, AlertId, AlertRecord, Command, Decided, Effect, EffectKind, EventId, QueueEntry, Timestamp,
};

const SHAPE: Shape = Shape {
    application_id: 0x4e72_4a6c,
    migrations: &["
        CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE texts (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
        CREATE TABLE events (
            id INTEGER PRIMARY KEY, time INTEGER NOT NULL, generation INTEGER NOT NULL, source BLOB NOT NULL,
            peer BLOB NOT NULL, version INTEGER NOT NULL, trap BLOB NOT NULL, trap_name INTEGER, rule INTEGER,
            alert INTEGER, severity INTEGER, alert_id INTEGER, pdu BLOB NOT NULL, decision BLOB);
        CREATE TABLE changes (seq INTEGER PRIMARY KEY, after INTEGER NOT NULL, decision BLOB NOT NULL);
        CREATE TABLE carried (alert INTEGER PRIMARY KEY, record BLOB NOT NULL);
        CREATE TABLE marks (webhook TEXT NOT NULL, kind INTEGER NOT NULL, change INTEGER NOT NULL,
            PRIMARY KEY (webhook, kind)) WITHOUT ROWID"],
    synchronous: "FULL",
    shrinks: false,
    table: "events",
};

const INSERT_EVENT: &str = "INSERT OR IGNORE INTO events (id, time, generation, source, peer, version, trap, \
     trap_name, rule, alert, severity, alert_id, pdu, decision) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)";

/// A commit takes at most so much, so that its duration and the WAL stay bounded.
const COMMIT_OCTETS: usize = 4 << 20;
const COMMIT_TIME: Duration = Duration::from_millis(20);
/// Texts whose numbers are remembered; beyond, the cache starts anew.
const TEXTS: usize = 4096;
/// What a row takes beside its PDU and its decision, about.
const ROW_OCTETS: u64 = 72;

/// How far a webhook has been served, kept in the journal so that a `state.db` that is made again does
/// not tell everything once more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) webhook: Arc<str>,
    pub(super) kind: MarkKind,
    /// It needs nothing up to this change.
    pub(super) change: u64,
}

/// What a [`Mark`] speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum MarkKind {
    /// A state webhook's progress.
    State,
    /// An event webhook's outbox.
    Outbox,
}

/// What a commit took.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Appended {
    /// Commands, from the front.
    pub(super) taken: usize,
    /// Rows of events.
    pub(super) stored: u64,
    /// Events that get none.
    pub(super) deduplicated: u64,
    /// Events whose number was there already; the row that stood there stays.
    pub(super) known: u64,
    /// Whether anything was written.
    pub(super) wrote: bool,
}

/// An entry of the journal as it is applied again.
#[derive(Debug)]
pub(super) enum Entry {
    /// An event: a repeat where `changes` lacks its alert.
    Event { id: EventId, time: Timestamp, alert: Option<AlertId>, changes: Vec<AlertChange> },
    /// An open alert whose own entry was in a file that is gone. Only where a whole file is replayed, first.
    Carried(Box<AlertRecord>),
    /// Changes that no row carries.
    Changes { after: EventId, changes: Vec<AlertChange> },
}

/// The live journal file.
#[derive(Debug)]
pub(super) struct Journal {
    connection: Connection,
    file: Arc<JournalFile>,
    created: Timestamp,
    texts: HashMap<Box<str>, i64>,
    /// What the file takes, about.
    octets: u64,
    /// The newest event that was seen, with a row or without.
    last_event: u64,
}

impl Journal {
    /// Opens an existing file.
    pub(super) fn open(file: &Arc<JournalFile>, last_event: u64) -> Result<Self, OpenFailure> {
        let path = &file.path;
        let connection = files::open_for_writing(path, &SHAPE)?;
        let read = || -> rusqlite::Result<(i64, bool)> {
            describe(&connection, file)?;
            let created = "SELECT value FROM meta WHERE key = 'created'";
            let created = connection.query_row(created, [], |row| row.get(0)).optional()?.unwrap_or(0);
            let empty = "SELECT NOT EXISTS (SELECT 1 FROM events) AND NOT EXISTS (SELECT 1 FROM changes)";
            Ok((created, connection.query_row(empty, [], |row| row.get(0))?))
        };
        let (created, empty) = read().map_err(|error| OpenFailure::of(path, &error))?;
        let created = Timestamp(created);
        let octets = if empty { 0 } else { std::fs::metadata(path).map_or(0, |metadata| metadata.len()) };
        file.sources.begin(if empty { 0 } else { file.last().saturating_add(1) });
        let last_event = last_event.max(file.last());
        Ok(Self { connection, file: file.clone(), created, texts: HashMap::new(), octets, last_event })
    }

    /// Makes the next file and puts it on the list.
    pub(super) fn create(
        shared: &Shared,
        last_event: u64,
        marks: &[Mark],
        now: Timestamp,
    ) -> Result<Self, OpenFailure> {
        let number = shared.journals.lock().last().map_or(1, |file| file.number + 1);
        let path = shared.directory.join(files::journal_name(number, now));
        let begin = || {
            let connection = files::open_for_writing(&path, &SHAPE)?;
            let written = || -> rusqlite::Result<()> {
                let transaction = Transaction::new_unchecked(&connection, TransactionBehavior::Immediate)?;
                transaction.execute("INSERT OR IGNORE INTO meta VALUES ('created', ?)", [now.0])?;
                write_marks(&transaction, marks)?;
                transaction.commit()
            };
            written().map_err(|error| OpenFailure::of(&path, &error))?;
            Ok(connection)
        };
        let connection = begin().inspect_err(|_| {
            // It is on no list and holds nothing; tomorrow's attempt has another name.
            let _ = files::unlink(&path);
        })?;
        let file = Arc::new(JournalFile::new(number, path));
        file.sources.begin(0);
        shared.journals.lock().push(file.clone());
        Ok(Self { connection, file, created: now, texts: HashMap::new(), octets: 0, last_event })
    }

    pub(super) fn file(&self) -> &Arc<JournalFile> {
        &self.file
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn last_event(&self) -> u64 {
        self.last_event
    }

    /// Says that events up to this one are known.
    pub(super) fn seen(&mut self, last_event: u64) {
        self.last_event = self.last_event.max(last_event);
    }

    /// Whether the next file is due: the UTC day is another one than the file's, or it is large enough.
    pub(super) fn is_due(&mut self, now: Timestamp, limit: u64) -> bool {
        const DAY: i64 = 86_400_000_000;
        let other_day = now.0.div_euclid(DAY) != self.created.0.div_euclid(DAY);
        if other_day && self.octets == 0 {
            // Nothing was written: the day's first event gives the file its day.
            self.created = now;
            return false;
        }
        other_day || self.octets > limit
    }

    /// Commits `commands` from the front, as many as one commit takes, and `marks`. When this returns,
    /// they are on the disk. Control commands count as taken and write nothing.
    ///
    /// # Errors
    /// Nothing was committed; the same call may be made again.
    pub(super) fn append(&mut self, commands: &[Command], marks: &[Mark]) -> rusqlite::Result<Appended> {
        let began = Instant::now();
        let mut texts = std::mem::take(&mut self.texts);
        let mut batch = Batch::default();
        let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
        let mut last_event = self.last_event;
        {
            let mut insert = transaction.prepare_cached(INSERT_EVENT)?;
            let mut octets = 0;
            for command in commands {
                match command {
                    Command::Event(decided) => {
                        last_event = last_event.max(decided.id.0);
                        if decided.row {
                            batch.event(&transaction, &mut insert, &mut texts, decided)?;
                        } else {
                            batch.appended.deduplicated += 1;
                            batch.changes(&transaction, last_event, &decided.changes)?;
                        }
                    }
                    Command::Changes(changes) => batch.changes(&transaction, last_event, changes)?,
                    Command::Counts(_)
                    | Command::Delivered(_)
                    | Command::DeadLetters(_)
                    | Command::Retention { .. }
                    | Command::Flush(_)
                    | Command::Stop => {}
                }
                batch.appended.taken += 1;
                octets += command.octets();
                let pause = batch.appended.taken % 256 == 0 && began.elapsed() > COMMIT_TIME;
                if octets > COMMIT_OCTETS || pause || matches!(command, Command::Stop) {
                    break;
                }
            }
        }
        write_marks(&transaction, marks)?;
        if batch.earliest < self.file.earliest.load(Ordering::Relaxed) {
            transaction.execute("INSERT OR REPLACE INTO meta VALUES ('earliest', ?)", [batch.earliest])?;
        }
        transaction.commit()?;
        if batch.appended.stored > 0 {
            self.file.holds(batch.first, batch.last, batch.earliest);
        }
        self.file.sources.add(&batch.sources);
        self.octets += batch.octets;
        self.last_event = last_event;
        batch.appended.wrote = batch.octets > 0;
        // Only now: the numbers of texts that were rolled back would name others later.
        self.texts = texts;
        Ok(batch.appended)
    }

    /// Writes open alerts once more, so that the files that held them may go.
    pub(super) fn carry(&mut self, records: &[AlertRecord]) -> rusqlite::Result<()> {
        let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
        let mut octets = 0;
        {
            let mut insert = transaction.prepare_cached("INSERT OR REPLACE INTO carried VALUES (?, ?)")?;
            for record in records {
                let json = row::json(record);
                octets += json.len() as u64;
                insert.execute(params![row::signed(record.id.0), json])?;
            }
        }
        transaction.commit()?;
        self.octets += octets;
        Ok(())
    }

    /// Ends this file and begins the next. The old one is left without a WAL if no reader holds it.
    pub(super) fn rotate(
        &mut self,
        shared: &Shared,
        marks: &[Mark],
        now: Timestamp,
    ) -> Result<(), OpenFailure> {
        let next = Self::create(shared, self.last_event, marks, now)?;
        let old = std::mem::replace(self, next);
        // A failure costs nothing: the WAL beside the file is read as well.
        let _ = files::checkpoint(&old.connection);
        Ok(())
    }

    /// Copies what can still be read of a damaged file: from its beginning up to the damage, and from
    /// its end back to it. Returns the number of events.
    pub(super) fn salvage(&mut self, damaged: &Path) -> rusqlite::Result<u64> {
        let from = files::open_for_reading(damaged)?;
        let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
        for (table, key) in
            [("meta", "key"), ("marks", "webhook"), ("texts", "id"), ("changes", "seq"), ("carried", "alert")]
        {
            copy(&from, &transaction, table, key)?;
        }
        let copied = copy(&from, &transaction, "events", "id")?;
        transaction.commit()?;
        describe(&self.connection, &self.file)?;
        self.file.sources.begin(self.file.last().saturating_add(1));
        self.last_event = self.last_event.max(self.file.last());
        Ok(copied)
    }
}

/// One commit in the making.
struct Batch {
    appended: Appended,
    octets: u64,
    first: u64,
    last: u64,
    earliest: i64,
    /// The events and the hashes of their sources.
    sources: Vec<(u64, u64)>,
    source: Vec<u8>,
    peer: Vec<u8>,
    trap: Vec<u8>,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            appended: Appended::default(),
            octets: 0,
            first: u64::MAX,
            last: 0,
            earliest: i64::MAX,
            sources: Vec::new(),
            source: Vec::new(),
            peer: Vec::new(),
            trap: Vec::new(),
        }
    }
}

impl Batch {
    fn event(
        &mut self,
        connection: &Connection,
        insert: &mut CachedStatement<'_>,
        texts: &mut HashMap<Box<str>, i64>,
        decided: &Decided,
    ) -> rusqlite::Result<()> {
        let event = &decided.event;
        for octets in [&mut self.peer, &mut self.trap] {
            octets.clear();
        }
        let source = row::source(&event.source, &mut self.source);
        row::peer_octets(event.peer, &mut self.peer);
        row::oid_octets(&event.trap_oid, &mut self.trap);
        let mut number = |text: Option<&str>| match text.filter(|text| !text.is_empty()) {
            Some(text) => number_of(connection, texts, text).map(Some),
            None => Ok(None),
        };
        let trap_name = number(event.trap_name.as_deref())?;
        let first = event.effects.first();
        let rule = number(first.map(|effect| &*effect.rule.rule))?;
        let alert = number(first.map(|effect| &*effect.rule.alert))?;
        let severity = event.effects.iter().find_map(raised).map(row::severity_number);
        let decision = (!decided.changes.is_empty()).then(|| row::json(&decided.changes));
        let inserted = insert.execute(params![
            row::signed(decided.id.0),
            event.time.0,
            row::signed(event.generation.0),
            source,
            self.peer,
            row::version_number(event.version),
            self.trap,
            trap_name,
            rule,
            alert,
            severity,
            decided.alert.map(|alert| row::signed(alert.0)),
            event.pdu(),
            decision,
        ])?;
        self.sources.push((decided.id.0, sources::hash(&self.source)));
        if inserted == 0 {
            self.appended.known += 1;
            return Ok(());
        }
        self.appended.stored += 1;
        self.first = self.first.min(decided.id.0);
        self.last = self.last.max(decided.id.0);
        self.earliest = self.earliest.min(event.time.0);
        self.octets +=
            ROW_OCTETS + (event.pdu().len() + decision.map_or(0, |decision| decision.len())) as u64;
        Ok(())
    }

    fn changes(
        &mut self,
        connection: &Connection,
        after: u64,
        changes: &[AlertChange],
    ) -> rusqlite::Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let decision = row::json(changes);
        self.octets += 16 + decision.len() as u64;
        connection
            .prepare_cached("INSERT INTO changes (after, decision) VALUES (?, ?)")?
            .execute(params![row::signed(after), decision])?;
        Ok(())
    }
}

fn raised(effect: &Effect) -> Option<crate::severity::Severity> {
    match effect.kind {
        EffectKind::Raise(severity) => Some(severity),
        EffectKind::Clear(_) | EffectKind::Store => None,
    }
}

/// The number of `text` in this file's dictionary; a new one gets the next.
fn number_of(
    connection: &Connection,
    texts: &mut HashMap<Box<str>, i64>,
    text: &str,
) -> rusqlite::Result<i64> {
    if let Some(&number) = texts.get(text) {
        return Ok(number);
    }
    connection.prepare_cached("INSERT OR IGNORE INTO texts (text) VALUES (?)")?.execute([text])?;
    let number = connection
        .prepare_cached("SELECT id FROM texts WHERE text = ?")?
        .query_row([text], |row| row.get(0))?;
    if texts.len() >= TEXTS {
        texts.clear();
    }
    texts.insert(text.into(), number);
    Ok(number)
}

fn write_marks(connection: &Connection, marks: &[Mark]) -> rusqlite::Result<()> {
    for mark in marks {
        let kind = i64::from(mark.kind == MarkKind::Outbox);
        connection.prepare_cached("INSERT OR REPLACE INTO marks VALUES (?, ?, ?)")?.execute(params![
            mark.webhook,
            kind,
            row::signed(mark.change)
        ])?;
    }
    Ok(())
}

/// Reads which events a file holds.
pub(super) fn describe(connection: &Connection, file: &JournalFile) -> rusqlite::Result<()> {
    let range = "SELECT min(id), max(id) FROM events WHERE id = (SELECT min(id) FROM events) \
         OR id = (SELECT max(id) FROM events)";
    let (first, last) = connection
        .query_row(range, [], |row| Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?)))?;
    if let (Some(first), Some(last)) = (first, last) {
        let earliest = "SELECT value FROM meta WHERE key = 'earliest'";
        let earliest: Option<i64> = connection.query_row(earliest, [], |row| row.get(0)).optional()?;
        let number = |id| u64::try_from(id).unwrap_or(0);
        file.holds(number(first), number(last), earliest.unwrap_or(i64::MIN));
    }
    Ok(())
}

/// Checks that a closed file can be read, brings it to the newest version, and reads which events it holds.
pub(super) fn inspect(file: &JournalFile) -> Result<(), OpenFailure> {
    let path = &file.path;
    let known = i64::try_from(SHAPE.migrations.len()).unwrap_or(i64::MAX);
    let read = || -> rusqlite::Result<(i64, i64)> {
        let connection = files::open_for_reading(path)?;
        let id = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
        let version = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if (id, version) == (SHAPE.application_id, known) {
            describe(&connection, file)?;
        }
        Ok((id, version))
    };
    let (id, version) = read().map_err(|error| match error.sqlite_error_code() {
        // A table is missing.
        Some(rusqlite::ErrorCode::Unknown) => OpenFailure::Damaged(error.to_string()),
        _ => OpenFailure::of(path, &error),
    })?;
    if (id, version) == (SHAPE.application_id, known) {
        return Ok(());
    }
    // Refuses what is newer or not ours.
    let connection = files::open_for_writing(path, &SHAPE)?;
    describe(&connection, file).map_err(|error| OpenFailure::of(path, &error))
}

/// The marks of one file; none where they cannot be read.
pub(super) fn marks(path: &Path) -> rusqlite::Result<Vec<Mark>> {
    let connection = files::open_for_reading(path)?;
    let mut statement = connection.prepare("SELECT webhook, kind, change FROM marks")?;
    let marks = statement.query_map([], |found| {
        let webhook: String = found.get(0)?;
        let kind = if found.get::<_, i64>(1)? == 0 { MarkKind::State } else { MarkKind::Outbox };
        Ok(Mark { webhook: webhook.into(), kind, change: row::unsigned(found, 2)? })
    })?;
    marks.collect()
}

/// Gives every entry of a file that follows event `after` to `each`, in order; changes that follow
/// `after` itself are given too, for it cannot be told here whether they were applied. Returns how many
/// rows could not be understood. Costs one walk over the events behind `after`.
///
/// # Errors
/// Those of `each`, and those of the database once it cannot be read on.
pub(super) fn replay(
    path: &Path,
    after: u64,
    mut each: impl FnMut(Entry) -> rusqlite::Result<()>,
) -> rusqlite::Result<u64> {
    let connection = files::open_for_reading(path)?;
    let mut damaged = 0;
    let first: Option<i64> = connection.query_row("SELECT min(id) FROM events", [], |row| row.get(0))?;
    if first.is_none_or(|first| row::signed(after) < first) {
        let mut carried = connection.prepare("SELECT record FROM carried")?;
        let mut carried = carried.query([])?;
        while let Some(found) = carried.next()? {
            match row::from_json(found, 0) {
                Ok(record) => each(Entry::Carried(Box::new(record)))?,
                Err(_) => damaged += 1,
            }
        }
    }
    let mut events = connection.prepare(
        "SELECT id, time, alert_id, decision FROM events
         WHERE id > ? AND (alert_id IS NOT NULL OR decision IS NOT NULL) ORDER BY id",
    )?;
    let mut changes =
        connection.prepare("SELECT after, decision FROM changes WHERE after >= ? ORDER BY seq")?;
    let mut events = events.query([row::signed(after)])?;
    let mut changes = changes.query([row::signed(after)])?;
    // What a damaged row held is lost; what follows it is not.
    let mut whole = |read: rusqlite::Result<Entry>| match read {
        Ok(entry) => Ok(Some(entry)),
        Err(error) if row::is_damaged_row(&error) => {
            damaged += 1;
            Ok(None)
        }
        Err(error) => Err(error),
    };
    let mut next_change = || -> rusqlite::Result<Option<(u64, Option<Entry>)>> {
        let Some(found) = changes.next()? else { return Ok(None) };
        let at = row::unsigned(found, 0).unwrap_or(0);
        let read = row::from_json(found, 1).map(|changes| Entry::Changes { after: EventId(at), changes });
        Ok(Some((at, whole(read)?)))
    };
    let mut lost = 0;
    let mut waiting = next_change()?;
    while let Some(found) = events.next()? {
        let id = row::unsigned(found, 0).unwrap_or(0);
        while waiting.as_ref().is_some_and(|(at, _)| *at < id) {
            if let Some((_, Some(entry))) = waiting.take() {
                each(entry)?;
            }
            waiting = next_change()?;
        }
        let read = || -> rusqlite::Result<Entry> {
            let alert = match found.get::<_, Option<i64>>(2)? {
                Some(_) => Some(AlertId(row::unsigned(found, 2)?)),
                None => None,
            };
            let changes = if found.get_ref(3)?.as_blob_or_null().is_ok_and(|octets| octets.is_none()) {
                Vec::new()
            } else {
                row::from_json(found, 3)?
            };
            Ok(Entry::Event { id: EventId(id), time: Timestamp(found.get(1)?), alert, changes })
        };
        match read() {
            Ok(entry) => each(entry)?,
            Err(error) if row::is_damaged_row(&error) => lost += 1,
            Err(error) => return Err(error),
        }
    }
    while let Some((_, entry)) = waiting {
        if let Some(entry) = entry {
            each(entry)?;
        }
        waiting = next_change()?;
    }
    Ok(damaged + lost)
}

/// Copies a table of a damaged file as far as it can be read from both ends.
fn copy(from: &Connection, to: &Connection, table: &str, key: &str) -> rusqlite::Result<u64> {
    let mut copied = 0;
    let mut reached = None;
    for (order, first) in [("ASC", true), ("DESC", false)] {
        let Ok(mut select) = from.prepare(&format!("SELECT * FROM {table} ORDER BY {key} {order}")) else {
            return Ok(copied);
        };
        let width = select.column_count();
        let places = vec!["?"; width].join(",");
        let mut insert = to.prepare(&format!("INSERT OR IGNORE INTO {table} VALUES ({places})"))?;
        let Ok(mut rows) = select.query([]) else { continue };
        loop {
            let Ok(next) = rows.next() else { break };
            let Some(found) = next else { return Ok(copied) };
            let values: Result<Vec<Value>, _> = (0..width).map(|column| found.get(column)).collect();
            let Ok(values) = values else { continue };
            if let (false, Some(Value::Integer(at)), Some(reached)) = (first, values.first(), reached)
                && *at <= reached
            {
                break;
            }
            if let (true, Some(Value::Integer(at))) = (first, values.first()) {
                reached = Some(*at);
            }
            copied += insert.execute(rusqlite::params_from_iter(values))? as u64;
        }
    }
    Ok(copied)
}

/// Builds the indexes that queries want of a file that is written no more. Slow: off the writer.
pub(super) fn index(file: &JournalFile) -> rusqlite::Result<()> {
    let connection = Connection::open_with_flags(
        &file.path,
        rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.execute_batch(
        "PRAGMA synchronous = NORMAL; PRAGMA cache_size = -4096;
         CREATE INDEX IF NOT EXISTS events_source ON events (source);
         PRAGMA wal_checkpoint(TRUNCATE);",
    )?;
    file.sources.forget();
    Ok(())
}

/// Reads which sources are where in a file that goes on being written, as far as that is not known.
pub(super) fn survey(file: &JournalFile) -> rusqlite::Result<()> {
    const ROWS: i64 = 20_000;
    let Some(before) = file.sources.lacks() else { return Ok(()) };
    let connection = files::open_for_reading(&file.path)?;
    let some = "SELECT id, source FROM events WHERE id > ? AND id < ? ORDER BY id LIMIT ?";
    let mut some = connection.prepare(some)?;
    let (mut survey, mut at) = (Survey::new(), i64::MIN);
    loop {
        // Some at a time: a long read holds up the file's checkpoints.
        let mut rows = some.query(params![at, row::signed(before), ROWS])?;
        let mut read = 0;
        while let Some(found) = rows.next()? {
            at = found.get(0)?;
            if let Ok(octets) = found.get_ref(1)?.as_bytes() {
                survey.add(row::unsigned(found, 0)?, octets);
            }
            read += 1;
        }
        if read < ROWS {
            break;
        }
    }
    file.sources.complete(survey.stretches());
    Ok(())
}
