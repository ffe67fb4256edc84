//! Reading beside the writer: events over all journal files, alerts, and the webhooks' queues.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use parking_lot::Mutex;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};

use super::alerts::{ALERT_COLUMNS, alert};
use super::error::{StoreError, Trouble};
use super::files::{self, JournalFile, Shared};
use super::live::{Follower, Live};
use super::record::RecordReader;
use super::row::{self, EVENT_COLUMNS};
use super::walk::{EventFilter, Room, Walk};
use crate::event::{AlertId, AlertRecord, EventId, EventRecord, Timestamp};
use crate::oid::Oid;
use crate::severity::Severity;

/// Journal files that a reader keeps open.
const KEPT: usize = 2;

/// Which events. What is absent does not restrict.
#[derive(Debug, Clone)]
pub struct EventQuery {
    /// Received at this time or later.
    pub since: Option<Timestamp>,
    /// Received at this time or earlier.
    pub until: Option<Timestamp>,
    /// The device is in this network; a single address is a full-length one, and the fast case.
    pub source: Option<IpNet>,
    /// The realm of `source`; `None` is `default`. Alone it restricts nothing.
    pub realm: Option<Box<str>>,
    /// snmpTrapOID is this one or lies below it.
    pub trap: Option<Oid>,
    /// Exactly this severity.
    pub severity: Option<Severity>,
    /// The first rule that matched.
    pub rule: Option<String>,
    /// The alert that it belongs to.
    pub alert: Option<AlertId>,
    /// Only events before this one: the cursor of the page before.
    pub before: Option<EventId>,
    /// Only events after this one: what came since it was seen.
    pub after: Option<EventId>,
    /// At most so many.
    pub limit: usize,
    /// After about this time the page is given with what was found, and its cursor goes on from there.
    pub patience: Duration,
}

impl EventQuery {
    /// Whether an event that is at hand is one of those asked for, its number aside.
    #[must_use]
    pub fn keeps(&self, event: &EventRecord) -> bool {
        self.since.is_none_or(|since| event.time >= since)
            && self.until.is_none_or(|until| event.time <= until)
            && self.source.is_none_or(|network| {
                network.contains(&event.source.address)
                    && self.realm.as_deref() == event.source.realm.as_deref()
            })
            && self.trap.as_ref().is_none_or(|trap| event.trap_oid.starts_with(trap.arcs()))
            && self.severity.is_none_or(|severity| event.severity == Some(severity))
            && (self.rule.is_none() || self.rule == event.rule)
            && (self.alert.is_none() || self.alert == event.alert_id)
    }
}

impl Default for EventQuery {
    fn default() -> Self {
        Self {
            since: None,
            until: None,
            source: None,
            realm: None,
            trap: None,
            severity: None,
            rule: None,
            alert: None,
            before: None,
            after: None,
            limit: 100,
            patience: Duration::from_secs(5),
        }
    }
}

/// A page of events, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventPage {
    /// The events.
    pub events: Vec<EventRecord>,
    /// Where the next page begins ([`EventQuery::before`]); `None` at the end.
    pub next: Option<EventId>,
    /// Rows and stretches of files that could not be read.
    pub damaged: u64,
}

/// Which alerts. What is absent does not restrict.
#[derive(Debug, Clone)]
pub struct AlertQuery {
    /// Those that have not ended.
    pub open_only: bool,
    /// Exactly this severity.
    pub severity: Option<Severity>,
    /// The rule that raised it.
    pub rule: Option<String>,
    /// The alert's name.
    pub alert: Option<String>,
    /// Only alerts with a lower number: the last one of the page before.
    pub before: Option<AlertId>,
    /// At most so many.
    pub limit: usize,
}

impl Default for AlertQuery {
    fn default() -> Self {
        Self { open_only: true, severity: None, rule: None, alert: None, before: None, limit: 100 }
    }
}

/// A row that waits for an event webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Its number; never used twice.
    pub row: u64,
    /// When it was queued.
    pub queued: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// It is not to be tried before.
    pub not_before: Timestamp,
    /// The alert as it was then.
    pub record: AlertRecord,
}

/// What an endpoint refused for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its number.
    pub id: u64,
    /// The webhook.
    pub webhook: String,
    /// When it was given up.
    pub time: Timestamp,
    /// The alert as it was posted.
    pub record: AlertRecord,
    /// Why.
    pub reason: String,
}

/// How much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Outbox rows of all webhooks.
    pub outbox: u64,
    /// Dead letters of all webhooks.
    pub dead_letters: u64,
    /// Journal files.
    pub journals: u64,
    /// Rows that could not be read since the start.
    pub damaged_rows: u64,
}

/// Reads the store while the writer writes: neither waits for the other. It sees what was committed
/// before each call. A clone opens connections of its own, at its first use; each call blocks on the
/// disk, so that async code calls it where blocking is allowed.
#[derive(Debug)]
pub struct Reader {
    pub(super) shared: Arc<Shared>,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// With the epoch of the file it belongs to.
    state: Option<(u64, Connection)>,
    /// By number, the one used last at the end.
    journals: Vec<(u64, Connection)>,
}

impl Clone for Reader {
    fn clone(&self) -> Self {
        Self::new(self.shared.clone())
    }
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, open: Mutex::default() }
    }

    /// Events over all files, newest first (by number, which is the order in which they were taken).
    ///
    /// Cost: what it walks, about 3 million rows a second; for one source, files that are closed answer
    /// from an index. A damaged row or file is skipped, counted and logged.
    ///
    /// # Errors
    /// A file that is there and cannot be opened.
    pub fn events(&self, query: &EventQuery) -> Result<EventPage, StoreError> {
        self.events_where(query, |_| true)
    }

    /// As [`Self::events`], of those events alone that `keep` wants: for what SQL cannot see, as varbinds.
    /// Costs a call for each row that the query chooses; they count against its patience.
    ///
    /// # Errors
    /// As [`Self::events`].
    pub fn events_where(
        &self,
        query: &EventQuery,
        keep: impl Fn(&EventRecord) -> bool,
    ) -> Result<EventPage, StoreError> {
        let until = Instant::now() + query.patience;
        let filter = EventFilter::new(query);
        let mut room = Room::of(query.limit);
        let mut page = EventPage::default();
        let asked = query.before.map_or(u64::MAX, |id| id.0);
        let mut before = asked;
        let files = self.shared.journals();
        let live = files.last().map(|file| file.number);
        for (at, file) in files.iter().enumerate().rev() {
            if room.is_full() {
                break;
            }
            // An event's number never lies before its time: older files hold nothing of the span.
            if query.since.is_some_and(|since| file.last() < u64::try_from(since.0).unwrap_or(0))
                && file.last() > 0
            {
                return Ok(page);
            }
            if query.after.is_some_and(|after| file.last() <= after.0) && file.last() > 0 {
                return Ok(page);
            }
            let earliest = file.earliest.load(Ordering::Relaxed);
            if file.first.load(Ordering::Relaxed) >= before
                || query.until.is_some_and(|until| earliest > until.0)
            {
                continue;
            }
            let walked = self.journal(file, |connection| {
                let live = Some(file.number) == live;
                let mut walk = Walk::new(&mut before, until, &mut room, &mut page);
                filter.walk(connection, file, live, &keep, &mut walk)
            });
            match walked {
                Ok(()) => {}
                Err(error) if Trouble::of(&error) == Trouble::Damaged => {
                    self.damaged(&file.path.display().to_string(), &error);
                    page.damaged += 1;
                    before = before.min(file.first.load(Ordering::Relaxed));
                }
                // Retention took it away.
                Err(_) if !file.path.exists() => {}
                Err(error) => return Err(StoreError::database(&file.path, &error)),
            }
            // A damaged file may say of itself that it begins too early: that hides nothing of the one before.
            if let Some(older) = at.checked_sub(1).map(|at| files[at].last()) {
                before = before.max(older.saturating_add(1)).min(asked);
            }
            if Instant::now() >= until {
                break;
            }
        }
        let oldest = files.iter().map(|file| file.first.load(Ordering::Relaxed)).min().unwrap_or(u64::MAX);
        let low = query.after.map_or(oldest, |after| oldest.max(after.0.saturating_add(1)));
        if before > low {
            page.next = (before != u64::MAX).then_some(EventId(before));
        }
        self.shared.damaged_rows.fetch_add(page.damaged, Ordering::Relaxed);
        Ok(page)
    }

    /// One event. Costs one look-up in one file. A damaged row is told in the log, counted, and `None`: whoever waits
    /// for it would wait for ever.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn event(&self, id: EventId) -> Result<Option<EventRecord>, StoreError> {
        let sql = format!("SELECT {EVENT_COLUMNS} FROM events e WHERE e.id = ?");
        for file in self.shared.journals().iter().rev() {
            if !(file.first.load(Ordering::Relaxed)..=file.last()).contains(&id.0) {
                continue;
            }
            let found = self.journal(file, |connection| {
                connection.prepare_cached(&sql)?.query_row([row::signed(id.0)], row::event).optional()
            });
            match found {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                Err(_) if !file.path.exists() => {}
                Err(error)
                    if row::is_damaged_row(&error) || matches!(Trouble::of(&error), Trouble::Damaged) =>
                {
                    self.damaged(&file.path.display().to_string(), &error);
                    self.shared.damaged_rows.fetch_add(1, Ordering::Relaxed);
                    return Ok(None);
                }
                Err(error) => return Err(StoreError::database(&file.path, &error)),
            }
        }
        Ok(None)
    }

    /// Alerts, newest first.
    ///
    /// # Errors
    /// `state.db` cannot be read.
    pub fn alerts(&self, query: &AlertQuery) -> Result<Vec<AlertRecord>, StoreError> {
        let mut sql = format!("SELECT {ALERT_COLUMNS} FROM alerts WHERE id < ?");
        let mut values = vec![Value::Integer(query.before.map_or(i64::MAX, |id| row::signed(id.0)))];
        if query.open_only {
            sql += " AND state < 2";
        }
        if let Some(severity) = query.severity {
            sql += " AND severity = ?";
            values.push(row::severity_number(severity).into());
        }
        for (column, value) in [("rule", &query.rule), ("alert", &query.alert)] {
            if let Some(value) = value {
                sql += &format!(" AND {column} = ?");
                values.push(value.clone().into());
            }
        }
        sql += " ORDER BY id DESC";
        self.state_rows(&sql, values, query.limit, alert)
    }

    /// One alert.
    ///
    /// # Errors
    /// `state.db` cannot be read.
    pub fn alert(&self, id: AlertId) -> Result<Option<AlertRecord>, StoreError> {
        let sql = format!("SELECT {ALERT_COLUMNS} FROM alerts WHERE id = ?");
        Ok(self.state_rows(&sql, [row::signed(id.0).into()], 1, alert)?.pop())
    }

    /// The newest versions of alerts that changed after `change`, in the order of their changes.
    ///
    /// # Errors
    /// `state.db` cannot be read.
    pub fn alerts_changed_after(&self, change: u64, limit: usize) -> Result<Vec<AlertRecord>, StoreError> {
        let sql = format!("SELECT {ALERT_COLUMNS} FROM alerts WHERE change > ? ORDER BY change");
        self.state_rows(&sql, [row::signed(change).into()], limit, alert)
    }

    /// Open alerts behind `after`, by number. Costs what it gives, whatever else there is.
    ///
    /// # Errors
    /// `state.db` cannot be read.
    pub fn open_alerts_after(&self, after: AlertId, limit: usize) -> Result<Vec<AlertRecord>, StoreError> {
        self.state_rows(&open_after(), [row::signed(after.0).into()], limit, alert)
    }

    /// Alerts that ended behind `after`, a time and a number, in the order of their ends and numbers. Each has its end in
    /// `resolved_at`. Costs what it gives, whatever else there is.
    ///
    /// # Errors
    /// `state.db` cannot be read.
    pub fn alerts_resolved_after(
        &self,
        after: (Timestamp, AlertId),
        limit: usize,
    ) -> Result<Vec<AlertRecord>, StoreError> {
        let (time, id) = after;
        self.state_rows(&resolved_after(), [time.0.into(), row::signed(id.0).into()], limit, |found| {
            let mut record = alert(found)?;
            record.resolved_at = Some(Timestamp(found.get(5)?));
            Ok(record)
        })
    }

    /// The last change that a state webhook knows; 0 for one that was told nothing yet.
    ///
    /// # Errors
    /// `state.db` cannot be read.
    pub fn progress(&self, webhook: &str) -> Result<u64, StoreError> {
        let sql = "SELECT change FROM progress WHERE webhook = ?";
        let found = self.state_rows(sql, [webhook.to_owned().into()], 1, |found| row::unsigned(found, 0))?;
        Ok(found.first().copied().unwrap_or(0))
    }

    /// Rows above `after` that wait for an event webhook, in their order, whether due or not.
    ///
    /// # Errors
    /// `state.db` cannot be read.
    pub fn outbox(&self, webhook: &str, after: u64, limit: usize) -> Result<Vec<OutboxRow>, StoreError> {
        let sql = "SELECT id, queued, attempts, not_before, record FROM outbox
             WHERE webhook = ? AND id > ? ORDER BY id";
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let mut reader = RecordReader::default();
        self.state_rows(sql, [webhook.to_owned().into(), after.into()], limit, |found| {
            Ok(OutboxRow {
                row: row::unsigned(found, 0)?,
                queued: Timestamp(found.get(1)?),
                attempts: found.get(2)?,
                not_before: Timestamp(found.get(3)?),
                record: reader.column(found, 4)?,
            })
        })
    }

    /// How many rows wait for a webhook, and since when the oldest does.
    ///
    /// # Errors
    /// `state.db` cannot be read.
    pub fn outbox_depth(&self, webhook: &str) -> Result<(u64, Option<Timestamp>), StoreError> {
        let sql = "SELECT (SELECT count(*) FROM outbox WHERE webhook = ?1),
             (SELECT queued FROM outbox WHERE webhook = ?1 ORDER BY id LIMIT 1)";
        let found = self.state_rows(sql, [webhook.to_owned().into()], 1, |found| {
            Ok((row::unsigned(found, 0)?, found.get::<_, Option<i64>>(1)?.map(Timestamp)))
        })?;
        Ok(found.first().copied().unwrap_or_default())
    }

    /// Dead letters with a lower number than `before`, newest first; of one webhook or of all.
    ///
    /// # Errors
    /// `state.db` cannot be read.
    pub fn dead_letters(
        &self,
        webhook: Option<&str>,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let sql = "SELECT id, webhook, time, record, reason FROM dead_letters
             WHERE id < ?1 AND (?2 IS NULL OR webhook = ?2) ORDER BY id DESC";
        let webhook = webhook.map_or(Value::Null, |webhook| webhook.to_owned().into());
        let before = before.map_or(i64::MAX, row::signed);
        self.state_rows(sql, [before.into(), webhook], limit, dead_letter)
    }

    /// One dead letter.
    ///
    /// # Errors
    /// `state.db` cannot be read.
    pub fn dead_letter(&self, id: u64) -> Result<Option<DeadLetter>, StoreError> {
        let sql = "SELECT id, webhook, time, record, reason FROM dead_letters WHERE id = ?";
        Ok(self.state_rows(sql, [row::signed(id).into()], 1, dead_letter)?.pop())
    }

    /// Follows what is stored from now on. `None` if 16 do already.
    #[must_use]
    pub fn follow(&self) -> Option<Follower> {
        Live::follow(&self.shared)
    }

    /// How many dead letters each webhook has that has some, by name.
    ///
    /// # Errors
    /// `state.db` cannot be read.
    pub fn dead_letter_counts(&self) -> Result<Vec<(String, u64)>, StoreError> {
        let sql = "SELECT webhook, count(*) FROM dead_letters GROUP BY webhook ORDER BY webhook";
        self.state_rows(sql, [], usize::MAX, |found| Ok((found.get(0)?, row::unsigned(found, 1)?)))
    }

    /// How much there is. Walks the open alerts' index and counts two tables.
    ///
    /// # Errors
    /// `state.db` cannot be read.
    pub fn counts(&self) -> Result<Counts, StoreError> {
        let mut counts = Counts {
            journals: self.shared.journals.lock().len() as u64,
            damaged_rows: self.shared.damaged_rows.load(Ordering::Relaxed),
            ..Counts::default()
        };
        let sql = "SELECT (SELECT count(*) FROM outbox), (SELECT count(*) FROM dead_letters)";
        let totals =
            self.state_rows(sql, [], 1, |found| Ok((row::unsigned(found, 0)?, row::unsigned(found, 1)?)))?;
        (counts.outbox, counts.dead_letters) = totals.first().copied().unwrap_or_default();
        Ok(counts)
    }

    /// Up to `limit` rows of a statement on `state.db`; damaged ones are skipped, counted and logged.
    fn state_rows<T>(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
        limit: usize,
        mut each: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let mut open = self.open.lock();
        let epoch = self.shared.epoch.load(Ordering::Acquire);
        let path = self.shared.state_path();
        let failed = |error: rusqlite::Error| StoreError::database(&path, &error);
        let (_, connection) = match open.state.take() {
            Some(kept) if kept.0 == epoch => open.state.insert(kept),
            _ => open.state.insert((epoch, files::open_for_reading(&path).map_err(failed)?)),
        };
        let mut found = Vec::new();
        if limit == 0 {
            return Ok(found);
        }
        let mut statement = connection.prepare_cached(sql).map_err(failed)?;
        let mut rows = statement.query(params_from_iter(values)).map_err(failed)?;
        while let Some(next) = rows.next().map_err(failed)? {
            match each(next) {
                Ok(value) => found.push(value),
                Err(error) if row::is_damaged_row(&error) => {
                    self.shared.damaged_rows.fetch_add(1, Ordering::Relaxed);
                    self.damaged(files::STATE, &error);
                }
                Err(error) => return Err(failed(error)),
            }
            if found.len() >= limit {
                break;
            }
        }
        Ok(found)
    }

    /// Gives `each` a connection to a journal file, one that is open if there is one.
    pub(super) fn journal<T>(
        &self,
        file: &JournalFile,
        each: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let mut open = self.open.lock();
        let at = match open.journals.iter().position(|(number, _)| *number == file.number) {
            Some(at) => at,
            None => {
                let connection = files::open_for_reading(&file.path)?;
                // Files that retention took away would hold their blocks while they are open.
                let kept = self.shared.journals();
                open.journals.retain(|(number, _)| kept.iter().any(|file| file.number == *number));
                if open.journals.len() >= KEPT {
                    open.journals.remove(0);
                }
                open.journals.push((file.number, connection));
                open.journals.len() - 1
            }
        };
        let used = open.journals.remove(at);
        let result = each(&used.1);
        open.journals.push(used);
        result
    }

    pub(super) fn damaged(&self, file: &str, error: &rusqlite::Error) {
        // The first ones, then one for every thousand: a damaged page may hold many.
        let before = self.shared.damaged_rows.load(Ordering::Relaxed);
        if before < 10 || before.is_multiple_of(1000) {
            tracing::warn!(component = "storage", file, %error, "A row could not be read and is skipped");
        }
    }
}

/// An index has them in this order; with those that ended beside them in one statement, each page would sort all of these.
pub(super) fn open_after() -> String {
    format!("SELECT {ALERT_COLUMNS} FROM alerts WHERE state < 2 AND id > ? ORDER BY id")
}

/// So it is with the index on the end: its entries with one end are in the order of their numbers.
pub(super) fn resolved_after() -> String {
    format!(
        "SELECT {ALERT_COLUMNS}, resolved_at FROM alerts
         WHERE state = 2 AND (resolved_at, id) > (?, ?) ORDER BY resolved_at, id"
    )
}

fn dead_letter(found: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    Ok(DeadLetter {
        id: row::unsigned(found, 0)?,
        webhook: found.get(1)?,
        time: Timestamp(found.get(2)?),
        record: RecordReader::default().column(found, 3)?,
        reason: found.get(4)?,
    })
}
