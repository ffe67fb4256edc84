//! The derived state: alerts, what webhooks must still hear, and what they have heard.
//!
//! All of it but the webhooks' side follows from the journal; see the room's header.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::alerts::{self, ALERT_COLUMNS};
use super::files::{self, OpenFailure, Shape};
use super::journal::{Mark, MarkKind};
use super::record::{self, RecordReader};
use super::row;
use crate::event::{
    AlertChange, AlertId, AlertRecord, AlertState, Command, DeadLetterDeed, DeadLetterRequest, Delivered,
    EventId, Flap, Timestamp,
};

const SHAPE: Shape = Shape {
    application_id: 0x4e72_5374,
    migrations: &["
        CREATE TABLE position (one INTEGER PRIMARY KEY CHECK (one = 1), last_event INTEGER NOT NULL,
            last_change INTEGER NOT NULL, last_alert INTEGER NOT NULL, counted INTEGER NOT NULL,
            clean INTEGER NOT NULL);
        INSERT INTO position VALUES (1, 0, 0, 0, 0, 0);
        CREATE TABLE alerts (
            id INTEGER PRIMARY KEY, change INTEGER NOT NULL, state INTEGER NOT NULL, severity INTEGER NOT NULL,
            alert TEXT NOT NULL, rule TEXT NOT NULL, key TEXT NOT NULL, count INTEGER NOT NULL,
            last_seen INTEGER NOT NULL, last_event INTEGER NOT NULL, expires_at INTEGER, resolved_at INTEGER,
            journal INTEGER NOT NULL, record TEXT NOT NULL);
        CREATE INDEX alerts_change ON alerts (change);
        CREATE INDEX alerts_open ON alerts (id) WHERE state < 2;
        CREATE INDEX alerts_resolved ON alerts (resolved_at) WHERE state = 2;
        CREATE TABLE outbox (
            id INTEGER PRIMARY KEY AUTOINCREMENT, webhook TEXT NOT NULL, alert INTEGER NOT NULL,
            change INTEGER NOT NULL, queued INTEGER NOT NULL, attempts INTEGER NOT NULL,
            not_before INTEGER NOT NULL, record TEXT NOT NULL);
        CREATE INDEX outbox_webhook ON outbox (webhook);
        CREATE TABLE progress (webhook TEXT PRIMARY KEY, change INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE dead_letters (
            id INTEGER PRIMARY KEY AUTOINCREMENT, webhook TEXT NOT NULL, time INTEGER NOT NULL,
            record TEXT NOT NULL, reason TEXT NOT NULL)",
        // Records are packed from here on (see `record`), so that SQL finds nothing in them.
        "ALTER TABLE dead_letters ADD COLUMN alert INTEGER NOT NULL DEFAULT 0;
        UPDATE dead_letters SET alert = coalesce(json_extract(record, '$.id'), 0) WHERE json_valid(record)"],
    synchronous: "NORMAL",
    shrinks: true,
    table: "position",
};

const UPSERT: &str = "INSERT INTO alerts (id, change, state, severity, alert, rule, key, count, last_seen, \
     last_event, expires_at, resolved_at, journal, record) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?) \
     ON CONFLICT (id) DO UPDATE SET change = excluded.change, state = excluded.state, \
     severity = excluded.severity, alert = excluded.alert, rule = excluded.rule, key = excluded.key, \
     count = excluded.count, last_seen = excluded.last_seen, last_event = excluded.last_event, \
     expires_at = excluded.expires_at, resolved_at = excluded.resolved_at, journal = excluded.journal, \
     record = excluded.record WHERE excluded.change > alerts.change";

/// The expiry as far behind the newest event as it was: a repeat moves both. An expiry at the end of
/// time stays there (the sum would leave SQLite's integers).
const MOVED_EXPIRY: &str = "expires_at = CASE WHEN expires_at < 4611686018427387904 THEN expires_at + (?1 - last_seen) ELSE expires_at END";

/// Dead letters that are kept; beyond, the oldest go, and it is said.
pub(super) const DEAD_LETTERS: i64 = 100_000;
/// How far back ended alerts are asked how they came and went, in microseconds: no rule counts over longer.
const ENDED_FLAPS: i64 = 3_600 * 1_000_000;
/// Rows that one step of pruning takes away.
const PRUNE_STEP: i64 = 500;
/// Outbox rows that one step of shedding takes away.
const SHED_STEP: i64 = 20_000;
/// What a row of the outbox takes beside its record, in octets, with its entry in the index.
const ROW_OCTETS: i64 = 100;

/// Up to where the state has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Position {
    /// The newest event whose effects are in.
    pub(super) last_event: u64,
    /// The highest change that is in.
    pub(super) last_change: u64,
    /// The highest alert that was ever in.
    pub(super) last_alert: u64,
    /// Repeats up to this event are counted on their alerts; those behind it may be not.
    pub(super) counted: u64,
}

/// Repeats that are in the journal and not yet on their alerts: for each alert the first of them.
#[derive(Debug, Default)]
struct Uncounted {
    first: HashMap<AlertId, u64>,
    alerts: BTreeMap<u64, AlertId>,
}

impl Uncounted {
    fn repeat(&mut self, alert: AlertId, event: EventId) {
        if let std::collections::hash_map::Entry::Vacant(vacant) = self.first.entry(alert) {
            vacant.insert(event.0);
            self.alerts.insert(event.0, alert);
        }
    }

    fn settled(&mut self, alert: AlertId) {
        if let Some(event) = self.first.remove(&alert) {
            self.alerts.remove(&event);
        }
    }

    fn counted(&self, last_event: u64) -> u64 {
        self.alerts.first_key_value().map_or(last_event, |(first, _)| first.saturating_sub(1))
    }
}

/// `state.db`, open for writing.
#[derive(Debug)]
pub(super) struct State {
    pub(super) connection: Connection,
    pub(super) position: Position,
    /// Whether the last run ended in order.
    pub(super) was_clean: bool,
    uncounted: Uncounted,
    /// Webhooks that ever got an outbox row, as far as is known.
    pub(super) outboxes: BTreeSet<Arc<str>>,
    /// Webhooks that have dead letters or had some.
    pub(super) lettered: BTreeSet<String>,
    /// What those who asked about dead letters are to hear of the last transaction.
    pub(super) answers: Vec<(SyncSender<u64>, u64)>,
    /// Whether webhooks were served since the marks were last written.
    pub(super) marks_due: bool,
}

impl State {
    /// The rows of the queues and dead letters of a new file get numbers above any that another file gave: those count
    /// from 1, or from an earlier `now`, in microseconds.
    pub(super) fn number_rows_from(&self, now: Timestamp) -> rusqlite::Result<()> {
        self.connection.execute(
            "INSERT INTO sqlite_sequence (name, seq) VALUES ('outbox', ?1), ('dead_letters', ?1)",
            [now.0],
        )?;
        Ok(())
    }

    pub(super) fn open(path: &Path) -> Result<Self, OpenFailure> {
        let connection = files::open_for_writing(path, &SHAPE)?;
        let read = || -> rusqlite::Result<(Position, bool)> {
            connection.query_row(
                "SELECT last_event, last_change, last_alert, counted, clean FROM position",
                [],
                |found| {
                    let position = Position {
                        last_event: row::unsigned(found, 0)?,
                        last_change: row::unsigned(found, 1)?,
                        last_alert: row::unsigned(found, 2)?,
                        counted: row::unsigned(found, 3)?,
                    };
                    Ok((position, found.get(4)?))
                },
            )
        };
        let (position, was_clean) = read().map_err(|error| match error {
            rusqlite::Error::QueryReturnedNoRows => OpenFailure::Damaged("its position is missing".into()),
            error if row::is_damaged_row(&error) => OpenFailure::Damaged(error.to_string()),
            error => OpenFailure::of(path, &error),
        })?;
        Ok(Self {
            connection,
            position,
            was_clean,
            uncounted: Uncounted::default(),
            outboxes: BTreeSet::new(),
            lettered: BTreeSet::new(),
            answers: Vec::new(),
            marks_due: false,
        })
    }

    /// Applies committed commands in one transaction. `journal` is the number of the file that holds
    /// them. With `replayed`, events and changes came in from the journal and only the rest is applied.
    ///
    /// # Errors
    /// Nothing was applied; the same call may be made again.
    pub(super) fn apply(
        &mut self,
        commands: &[Command],
        journal: u64,
        replayed: bool,
        now: Timestamp,
    ) -> rusqlite::Result<()> {
        let mut position = self.position;
        let mut outboxes = Vec::new();
        let mut served = false;
        self.answers.clear();
        let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
        {
            let mut waiting = Upserts { connection: &transaction, journal, latest: BTreeMap::new() };
            for command in commands {
                match command {
                    Command::Event(_) | Command::Changes(_) if replayed => {}
                    Command::Event(decided) => {
                        position.last_event = position.last_event.max(decided.id.0);
                        if let (true, Some(alert)) = (decided.row, decided.alert)
                            && decided.changes.iter().all(|change| change.record.id != alert)
                        {
                            self.uncounted.repeat(alert, decided.id);
                        }
                        waiting.changes(&decided.changes, &mut position, &mut self.uncounted);
                        queue(&transaction, &decided.changes, now, &mut outboxes)?;
                    }
                    Command::Changes(changes) => {
                        waiting.changes(changes, &mut position, &mut self.uncounted);
                        queue(&transaction, changes, now, &mut outboxes)?;
                    }
                    Command::Counts(counts) => {
                        waiting.flush()?;
                        for (alert, count, last_seen, last_event) in counts {
                            set_count(&transaction, *alert, *count, *last_seen, *last_event)?;
                            self.uncounted.settled(*alert);
                        }
                    }
                    Command::Delivered(delivered) => {
                        served = true;
                        deliver(&transaction, delivered, now)?;
                    }
                    Command::DeadLetters(request) => {
                        served = true;
                        let number = dead_letters(&transaction, request, position.last_change, now)?;
                        self.answers.push((request.done.clone(), number));
                    }
                    Command::Retention { .. } | Command::Flush(_) | Command::Stop => {}
                }
            }
            waiting.flush()?;
        }
        position.counted = self.uncounted.counted(position.last_event);
        write_position(&transaction, position)?;
        transaction.commit()?;
        self.position = position;
        self.outboxes.extend(outboxes);
        self.marks_due |= served;
        Ok(())
    }

    /// Up to where each webhook of state has been told, and each output that follows the journal. A damaged row says
    /// nothing: at worst something is told once more.
    pub(super) fn progress(&self) -> rusqlite::Result<Vec<(Arc<str>, u64)>> {
        let mut all = Vec::new();
        let mut progress = self.connection.prepare_cached("SELECT webhook, change FROM progress")?;
        let mut rows = progress.query([])?;
        while let Some(found) = rows.next()? {
            if let (Ok(webhook), Ok(change)) = (found.get::<_, String>(0), row::unsigned(found, 1)) {
                all.push((webhook.into(), change));
            }
        }
        Ok(all)
    }

    /// Whether it says anything of webhooks that the journal should hold too.
    pub(super) fn marks(&self) -> rusqlite::Result<Vec<Mark>> {
        let state = |(webhook, change)| Mark { webhook, kind: MarkKind::State, change };
        let mut marks: Vec<_> = self.progress()?.into_iter().map(state).collect();
        let oldest = "SELECT change FROM outbox WHERE webhook = ? ORDER BY id LIMIT 1";
        let mut oldest = self.connection.prepare_cached(oldest)?;
        for webhook in &self.outboxes {
            let first = match oldest.query_row([webhook], |found| row::unsigned(found, 0)).optional() {
                Err(error) if row::is_damaged_row(&error) => continue,
                first => first?,
            };
            let change = first.map_or(self.position.last_change, |first| first.saturating_sub(1));
            marks.push(Mark { webhook: webhook.clone(), kind: MarkKind::Outbox, change });
        }
        Ok(marks)
    }

    /// What `each` makes of all open alerts, oldest first, and how many rows could not be understood.
    pub(super) fn open_alerts<T: Send>(
        &self,
        each: impl Fn(AlertRecord) -> T + Sync,
    ) -> rusqlite::Result<(Vec<T>, u64)> {
        // To look each one up costs more than to pass over as many ended ones.
        let count = "SELECT (SELECT count(*) FROM alerts WHERE state = 2) <= (SELECT count(*) FROM alerts WHERE state < 2)";
        let most_are_open: bool = self.connection.query_row(count, [], |found| found.get(0))?;
        let way = if most_are_open { "NOT INDEXED" } else { "INDEXED BY alerts_open" };
        let sql = format!("SELECT {ALERT_COLUMNS} FROM alerts {way} WHERE state < 2 ORDER BY id");
        alerts::all(&mut self.connection.prepare(&sql)?.query([])?, each)
    }

    /// How keys came and went whose newest alert has ended within the hour before `now` and says so. Costs a walk
    /// over the alerts that ended since then.
    pub(super) fn ended_flaps(&self, now: Timestamp) -> rusqlite::Result<Vec<(Box<str>, Flap)>> {
        let since = now.0.saturating_sub(ENDED_FLAPS);
        let select = "SELECT key, record FROM alerts WHERE state = 2 AND resolved_at >= ? ORDER BY id";
        let mut select = self.connection.prepare(select)?;
        let mut rows = select.query([since])?;
        let mut reader = RecordReader::default();
        let mut newest: HashMap<Box<str>, Flap> = HashMap::new();
        while let Some(found) = rows.next()? {
            // A row that cannot be read counts for nothing: another alert of this key says more, or it flaps anew.
            let Ok(key) = found.get::<_, String>(0) else { continue };
            match reader.column(found, 1).ok().and_then(|record| record.flap) {
                Some(flap) => newest.insert(key.into(), *flap),
                None => newest.remove(&*key),
            };
        }
        let mut is_open = self.connection.prepare("SELECT key FROM alerts WHERE state < 2")?;
        let mut rows = is_open.query([])?;
        while let Some(found) = rows.next().ok().flatten().filter(|_| !newest.is_empty()) {
            if let Ok(key) = found.get::<_, String>(0) {
                newest.remove(&*key);
            }
        }
        Ok(newest.into_iter().collect())
    }

    /// Open alerts whose newest entry is in journal `number` or an older one, from alert `after` on.
    pub(super) fn alerts_of_journal(
        &self,
        number: u64,
        after: AlertId,
        limit: i64,
    ) -> rusqlite::Result<(Vec<AlertRecord>, u64)> {
        let sql = format!(
            "SELECT {ALERT_COLUMNS} FROM alerts WHERE state < 2 AND journal <= ? AND id > ? ORDER BY id LIMIT ?"
        );
        let mut statement = self.connection.prepare(&sql)?;
        let mut rows = statement.query(params![row::signed(number), row::signed(after.0), limit])?;
        alerts::all(&mut rows, |record| record)
    }

    /// Says that the newest entries of these alerts are in journal `number` now.
    pub(super) fn carried(&self, alerts: &[AlertRecord], number: u64) -> rusqlite::Result<()> {
        let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
        for record in alerts {
            transaction
                .prepare_cached("UPDATE alerts SET journal = ? WHERE id = ? AND change = ?")?
                .execute([row::signed(number), row::signed(record.id.0), row::signed(record.change)])?;
        }
        transaction.commit()
    }

    /// Dead letters by webhook.
    pub(super) fn dead_letters(&self) -> rusqlite::Result<Vec<(String, i64)>> {
        let sql = "SELECT webhook, count(*) FROM dead_letters GROUP BY webhook";
        let mut statement = self.connection.prepare_cached(sql)?;
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    }

    /// Takes away one step of what is older than `oldest`: alerts that ended before it, dead letters, and
    /// outbox rows, which become dead letters. Says how many rows went, and how many dead letters were
    /// too many.
    pub(super) fn prune(&mut self, oldest: Timestamp, now: Timestamp) -> rusqlite::Result<Pruned> {
        let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
        let mut pruned = Pruned::default();
        pruned.rows += transaction
            .prepare_cached(
                "DELETE FROM alerts WHERE id IN
                 (SELECT id FROM alerts WHERE state = 2 AND resolved_at < ? LIMIT ?)",
            )?
            .execute([oldest.0, PRUNE_STEP])?;
        // Rows are queued in time's order but for a clock that was set: the oldest stand first.
        let select = "SELECT id FROM (SELECT id, queued FROM outbox ORDER BY id LIMIT ?2) WHERE queued < ?1";
        pruned.undelivered = transaction
            .prepare_cached(&format!(
                "INSERT INTO dead_letters (webhook, alert, time, record, reason)
                 SELECT webhook, alert, ?3, record, 'not delivered within storage.retention'
                 FROM outbox WHERE id IN ({select})"
            ))?
            .execute([oldest.0, PRUNE_STEP, now.0])?;
        if pruned.undelivered > 0 {
            transaction
                .prepare_cached(&format!("DELETE FROM outbox WHERE id IN ({select})"))?
                .execute([oldest.0, PRUNE_STEP])?;
        }
        pruned.rows += transaction
            .prepare_cached(
                "DELETE FROM dead_letters WHERE id IN
                 (SELECT id FROM (SELECT id, time FROM dead_letters ORDER BY id LIMIT ?2) WHERE time < ?1)",
            )?
            .execute([oldest.0, PRUNE_STEP])?;
        let letters: i64 = transaction
            .prepare_cached("SELECT count(*) FROM dead_letters")?
            .query_row([], |row| row.get(0))?;
        if letters > DEAD_LETTERS {
            pruned.surplus = transaction
                .prepare_cached(
                    "DELETE FROM dead_letters WHERE id IN (SELECT id FROM dead_letters ORDER BY id LIMIT ?)",
                )?
                .execute([(letters - DEAD_LETTERS).min(PRUNE_STEP)])?;
        }
        transaction.commit()?;
        if pruned.any() {
            self.connection.execute_batch("PRAGMA incremental_vacuum(256)")?;
            self.marks_due |= pruned.undelivered > 0;
        }
        Ok(pruned)
    }

    /// Takes away one step of the oldest outbox rows if all of them take more than about `most` octets: how many of each
    /// webhook. Nothing is left once it says nothing. Costs a look at the file's size, unless the whole state takes more
    /// than that; then a walk over an index.
    pub(super) fn shed(&mut self, most: u64) -> rusqlite::Result<BTreeMap<String, u64>> {
        let most = row::signed(most);
        let pragma = |name: &str| -> rusqlite::Result<i64> {
            self.connection.query_row(&format!("PRAGMA {name}"), [], |found| found.get(0))
        };
        let used = (pragma("page_count")? - pragma("freelist_count")?) * pragma("page_size")?;
        let mut dropped = BTreeMap::new();
        if used <= most {
            return Ok(dropped);
        }
        let (rows, octets): (i64, f64) = self.connection.query_row(
            "SELECT (SELECT count(*) FROM outbox),
             (SELECT coalesce(avg(length(record)), 0) FROM (SELECT record FROM outbox ORDER BY id LIMIT 64))",
            [],
            |found| Ok((found.get(0)?, found.get(1)?)),
        )?;
        let kept = most / (octets as i64 + ROW_OCTETS);
        if rows <= kept {
            return Ok(dropped);
        }
        let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
        {
            let mut delete = transaction.prepare_cached(
                "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox ORDER BY id LIMIT ?) RETURNING webhook",
            )?;
            let mut gone = delete.query([(rows - kept).min(SHED_STEP)])?;
            while let Some(found) = gone.next()? {
                *dropped.entry(found.get(0)?).or_default() += 1;
            }
        }
        transaction.commit()?;
        self.connection.execute_batch("PRAGMA incremental_vacuum(1024)")?;
        self.marks_due = true;
        Ok(dropped)
    }

    /// Writes whether the run ended in order.
    pub(super) fn set_clean(&self, clean: bool) -> rusqlite::Result<()> {
        self.connection.execute("UPDATE position SET clean = ?", [clean]).map(drop)
    }
}

/// What a step of pruning did.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Pruned {
    rows: usize,
    /// Outbox rows that became dead letters.
    pub(super) undelivered: usize,
    /// Dead letters beyond [`DEAD_LETTERS`].
    pub(super) surplus: usize,
}

impl Pruned {
    /// Whether another step may find more.
    pub(super) fn any(self) -> bool {
        self.rows + self.undelivered + self.surplus > 0
    }
}

/// The newest version of each alert of a transaction, so that one that flaps is written once.
struct Upserts<'a> {
    connection: &'a Connection,
    journal: u64,
    /// By number: new alerts go to the table's end.
    latest: BTreeMap<AlertId, &'a AlertRecord>,
}

impl<'a> Upserts<'a> {
    fn changes(&mut self, changes: &'a [AlertChange], position: &mut Position, uncounted: &mut Uncounted) {
        for change in changes {
            let record = &*change.record;
            position.last_change = position.last_change.max(record.change);
            position.last_alert = position.last_alert.max(record.id.0);
            uncounted.settled(record.id);
            let latest = self.latest.entry(record.id).or_insert(record);
            if record.change >= latest.change {
                *latest = record;
            }
        }
    }

    fn flush(&mut self) -> rusqlite::Result<()> {
        for record in std::mem::take(&mut self.latest).into_values() {
            upsert(self.connection, record, self.journal)?;
        }
        Ok(())
    }
}

/// Writes a version of an alert, unless a newer one is there.
pub(super) fn upsert(connection: &Connection, record: &AlertRecord, journal: u64) -> rusqlite::Result<()> {
    let state = match record.state {
        AlertState::Firing => 0,
        AlertState::Acknowledged => 1,
        AlertState::Resolved => 2,
    };
    // Pruning goes by the end's time: an ended alert without one would stay for ever.
    let resolved_at = match record.state {
        AlertState::Resolved => Some(record.resolved_at.unwrap_or(record.last_seen).0),
        _ => None,
    };
    connection.prepare_cached(UPSERT)?.execute(params![
        row::signed(record.id.0),
        row::signed(record.change),
        state,
        row::severity_number(record.severity),
        record.alert,
        record.rule,
        record.key,
        row::signed(record.count),
        record.last_seen.0,
        row::signed(record.last_event.0),
        record.expires_at.map(|time| time.0),
        resolved_at,
        row::signed(journal),
        record::octets(record),
    ])?;
    Ok(())
}

/// Writes an outbox row for each webhook that must hear of each change.
fn queue(
    connection: &Connection,
    changes: &[AlertChange],
    now: Timestamp,
    outboxes: &mut Vec<Arc<str>>,
) -> rusqlite::Result<()> {
    for change in changes {
        if change.queue_for.is_empty() {
            continue;
        }
        let octets = record::octets(&change.record);
        for webhook in &change.queue_for {
            queue_row(connection, webhook, &change.record, &octets, now)?;
            outboxes.push(webhook.clone());
        }
    }
    outboxes.sort_unstable();
    outboxes.dedup();
    Ok(())
}

pub(super) fn queue_row(
    connection: &Connection,
    webhook: &str,
    record: &AlertRecord,
    octets: &[u8],
    now: Timestamp,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO outbox (webhook, alert, change, queued, attempts, not_before, record)
             VALUES (?, ?, ?, ?, 0, 0, ?)",
        )?
        .execute(params![webhook, row::signed(record.id.0), row::signed(record.change), now.0, octets])?;
    Ok(())
}

/// The same as [`queue_row`], with the record packed here.
pub(super) fn queue_record(
    connection: &Connection,
    webhook: &str,
    record: &AlertRecord,
    now: Timestamp,
) -> rusqlite::Result<()> {
    queue_row(connection, webhook, record, &record::octets(record), now)
}

fn set_count(
    connection: &Connection,
    alert: AlertId,
    count: u64,
    last_seen: Timestamp,
    last_event: EventId,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(&format!(
            "UPDATE alerts SET {MOVED_EXPIRY}, last_seen = ?1, count = ?2, last_event = ?3
             WHERE id = ?4 AND last_event <= ?3"
        ))?
        .execute(params![last_seen.0, row::signed(count), row::signed(last_event.0), row::signed(alert.0)])?;
    Ok(())
}

/// Adds repeats that are in the journal alone.
pub(super) fn add_repeats(
    connection: &Connection,
    alert: AlertId,
    added: u64,
    last_seen: Timestamp,
    last_event: u64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(&format!(
            "UPDATE alerts SET {MOVED_EXPIRY}, last_seen = ?1, count = count + ?2, last_event = ?3
             WHERE id = ?4 AND last_event < ?3 AND state < 2"
        ))?
        .execute(params![last_seen.0, row::signed(added), row::signed(last_event), row::signed(alert.0)])?;
    Ok(())
}

pub(super) fn set_progress(connection: &Connection, webhook: &str, change: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO progress VALUES (?, ?)
             ON CONFLICT (webhook) DO UPDATE SET change = max(change, excluded.change)",
        )?
        .execute(params![webhook, row::signed(change)])?;
    Ok(())
}

pub(super) fn write_position(connection: &Connection, position: Position) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE position SET last_event = ?, last_change = ?, last_alert = ?, counted = ?")?
        .execute(
            [position.last_event, position.last_change, position.last_alert, position.counted]
                .map(row::signed),
        )?;
    Ok(())
}

/// Queues dead letters again, or forgets them. A row of the outbox says at which change it was queued, which is now:
/// its record keeps its own.
fn dead_letters(
    connection: &Connection,
    request: &DeadLetterRequest,
    change: u64,
    now: Timestamp,
) -> rusqlite::Result<u64> {
    let names: Vec<&str> = request.webhooks.iter().map(|name| &**name).collect();
    let names = serde_json::to_string(&names).unwrap_or_default();
    let ids = request.ids.as_ref().map(|ids| serde_json::to_string(ids).unwrap_or_default());
    let limit = i64::try_from(request.limit).unwrap_or(i64::MAX);
    let select = "SELECT id FROM dead_letters WHERE webhook IN (SELECT value FROM json_each(?1))
         AND (?2 IS NULL OR id IN (SELECT value FROM json_each(?2))) ORDER BY id LIMIT ?3";
    if request.deed == DeadLetterDeed::Resend {
        connection
            .prepare_cached(&format!(
                "INSERT INTO outbox (webhook, alert, change, queued, attempts, not_before, record)
                 SELECT webhook, alert, ?4, ?5, 0, 0, record FROM dead_letters
                 WHERE id IN ({select}) ORDER BY id"
            ))?
            .execute(params![names, ids, limit, row::signed(change), now.0])?;
    }
    let gone = connection
        .prepare_cached(&format!("DELETE FROM dead_letters WHERE id IN ({select})"))?
        .execute(params![names, ids, limit])?;
    Ok(gone as u64)
}

fn deliver(connection: &Connection, delivered: &Delivered, now: Timestamp) -> rusqlite::Result<()> {
    // Rows that were posted together follow each other mostly: then they go by one statement.
    let delete = |rows: &[u64]| {
        let mut delete = connection.prepare_cached("DELETE FROM outbox WHERE id BETWEEN ? AND ?")?;
        for run in rows.chunk_by(|one, next| one.checked_add(1) == Some(*next)) {
            if let [first, ..] = run
                && let [.., last] = run
            {
                delete.execute([row::signed(*first), row::signed(*last)])?;
            }
        }
        Ok::<_, rusqlite::Error>(())
    };
    match delivered {
        Delivered::UpTo { webhook, change } => set_progress(connection, webhook, *change)?,
        Delivered::Rows(rows) => delete(rows)?,
        Delivered::Retry { rows } => {
            let update = "UPDATE outbox SET attempts = ?, not_before = ? WHERE id = ?";
            let mut update = connection.prepare_cached(update)?;
            for (id, attempts, not_before) in rows {
                update.execute(params![attempts, not_before.0, row::signed(*id)])?;
            }
        }
        Delivered::Dead { webhook, row, record, reason } => {
            connection
                .prepare_cached(
                    "INSERT INTO dead_letters (webhook, alert, time, record, reason) VALUES (?, ?, ?, ?, ?)",
                )?
                .execute(params![webhook, row::signed(record.id.0), now.0, record::octets(record), reason])?;
            delete(row.as_slice())?;
        }
    }
    Ok(())
}
