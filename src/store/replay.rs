//! Applying the journal to the state again, at a start or once a damaged state was set aside.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::{Connection, OptionalExtension};

use super::files::JournalFile;
use super::journal::{self, Entry, Mark, MarkKind};
use super::row;
use super::state::{self, Position, State};
use crate::event::{AlertChange, AlertId, EventId, Timestamp};

/// Entries of one transaction.
const STEP: usize = 4096;

/// What was applied again.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Replayed {
    /// Entries whose changes were new to the state.
    pub(super) applied: u64,
    /// Rows that could not be understood.
    pub(super) damaged: u64,
}

/// A repeat's alert: what of the journal is on it already, and what is not.
struct Tally {
    settled: u64,
    added: u64,
    last_seen: Timestamp,
    last_event: u64,
}

struct Session<'a> {
    connection: &'a Connection,
    /// Where the state stood; changes up to it are in.
    start: Position,
    position: Position,
    tallies: HashMap<AlertId, Tally>,
    /// Outbox rows up to these changes were served.
    served: &'a HashMap<Arc<str>, u64>,
    journal: u64,
    /// The newest entry that was looked at.
    reached: u64,
    now: Timestamp,
    pending: usize,
    applied: u64,
    damaged: u64,
}

impl State {
    /// Applies what the journal files hold and the state does not: changes once, repeats once. `marks`
    /// keep what webhooks were told from being told again. Costs one walk over the events since the
    /// counts were last written; over all events for an empty state. A kill in the middle loses
    /// nothing: the next call goes on.
    ///
    /// # Errors
    /// Those of the databases; what was applied up to then stays.
    pub(super) fn replay(
        &mut self,
        journals: &[Arc<JournalFile>],
        marks: &[Mark],
        now: Timestamp,
    ) -> rusqlite::Result<Replayed> {
        let mut served = HashMap::new();
        for mark in marks {
            match mark.kind {
                MarkKind::State => state::set_progress(&self.connection, &mark.webhook, mark.change)?,
                MarkKind::Outbox => {
                    self.outboxes.insert(mark.webhook.clone());
                    served.insert(mark.webhook.clone(), mark.change);
                }
            }
        }
        let from = self.position.counted.min(self.position.last_event);
        let mut result = Replayed::default();
        let mut session = Session {
            connection: &self.connection,
            start: self.position,
            position: self.position,
            tallies: HashMap::new(),
            served: &served,
            journal: 0,
            reached: from,
            now,
            pending: 0,
            applied: 0,
            damaged: 0,
        };
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        // Whatever stands before the first event of a file that begins at `from` or earlier is in. Files
        // without an event hold changes, so that their events say nothing of them.
        let begins = |file: &Arc<JournalFile>| file.first.load(Ordering::Relaxed) <= from;
        let first = journals.iter().rposition(begins).unwrap_or(0);
        for file in &journals[first..] {
            session.journal = file.number;
            let shared = RefCell::new(&mut session);
            match journal::replay(&file.path, from, |entry| shared.borrow_mut().entry(entry)) {
                Ok(damaged) => result.damaged += damaged,
                // A file that breaks off gives what it could; the others still count.
                Err(error) if super::error::Trouble::of(&error) == super::error::Trouble::Damaged => {
                    result.damaged += 1;
                }
                Err(error) => {
                    let _ = self.connection.execute_batch("ROLLBACK");
                    return Err(error);
                }
            }
        }
        session.reached = session.position.last_event;
        let end = session.flush();
        let (position, applied, damaged) = (session.position, session.applied, session.damaged);
        if let Err(error) = end.and_then(|()| self.connection.execute_batch("COMMIT")) {
            let _ = self.connection.execute_batch("ROLLBACK");
            return Err(error);
        }
        self.position = position;
        result.applied = applied;
        result.damaged += damaged;
        Ok(result)
    }
}

impl Session<'_> {
    fn entry(&mut self, entry: Entry) -> rusqlite::Result<()> {
        match entry {
            Entry::Carried(record) => {
                self.position.last_alert = self.position.last_alert.max(record.id.0);
                self.position.last_change = self.position.last_change.max(record.change);
                state::upsert(self.connection, &record, self.journal)?;
            }
            Entry::Changes { after, changes } => {
                self.reach(after.0);
                self.changes(&changes)?;
            }
            Entry::Event { id, time, alert, changes } => {
                self.reach(id.0);
                if let Some(alert) = alert
                    && changes.iter().all(|change| change.record.id != alert)
                {
                    self.repeat(alert, id, time)?;
                }
                self.changes(&changes)?;
            }
        }
        self.pending += 1;
        if self.pending >= STEP {
            self.flush()?;
            self.connection.execute_batch("COMMIT; BEGIN IMMEDIATE")?;
        }
        Ok(())
    }

    fn reach(&mut self, event: u64) {
        self.reached = self.reached.max(event);
        self.position.last_event = self.position.last_event.max(event);
    }

    fn changes(&mut self, changes: &[AlertChange]) -> rusqlite::Result<()> {
        for change in changes {
            let record = &*change.record;
            if record.change <= self.start.last_change {
                continue;
            }
            self.applied += 1;
            self.position.last_change = self.position.last_change.max(record.change);
            self.position.last_alert = self.position.last_alert.max(record.id.0);
            state::upsert(self.connection, record, self.journal)?;
            // A record counts all repeats up to its own event.
            let settled =
                Tally { settled: record.last_event.0, added: 0, last_seen: record.last_seen, last_event: 0 };
            self.tallies.insert(record.id, settled);
            for webhook in &change.queue_for {
                if self.served.get(webhook).is_none_or(|served| record.change > *served) {
                    state::queue_record(self.connection, webhook, record, self.now)?;
                }
            }
        }
        Ok(())
    }

    fn repeat(&mut self, alert: AlertId, id: EventId, time: Timestamp) -> rusqlite::Result<()> {
        let tally = match self.tallies.entry(alert) {
            std::collections::hash_map::Entry::Occupied(tally) => tally.into_mut(),
            std::collections::hash_map::Entry::Vacant(vacant) => {
                let select = "SELECT last_event, last_seen FROM alerts WHERE id = ?";
                let mut select = self.connection.prepare_cached(select)?;
                let read =
                    |found: &rusqlite::Row<'_>| Ok((row::unsigned(found, 0)?, Timestamp(found.get(1)?)));
                let found = match select.query_row([row::signed(alert.0)], read).optional() {
                    Err(error) if row::is_damaged_row(&error) => {
                        self.damaged += 1;
                        None
                    }
                    found => found?,
                };
                // An alert that is not there counts nothing.
                let (settled, last_seen) = found.unwrap_or((u64::MAX, Timestamp::default()));
                vacant.insert(Tally { settled, added: 0, last_seen, last_event: 0 })
            }
        };
        if id.0 > tally.settled {
            tally.added += 1;
            tally.last_event = id.0;
            tally.last_seen = tally.last_seen.max(time);
        }
        Ok(())
    }

    /// Writes the tallies and the position, so that the transaction may end.
    fn flush(&mut self) -> rusqlite::Result<()> {
        for (alert, tally) in self.tallies.drain() {
            if tally.added > 0 {
                state::add_repeats(self.connection, alert, tally.added, tally.last_seen, tally.last_event)?;
            }
        }
        self.position.counted = self.reached;
        self.pending = 0;
        state::write_position(self.connection, self.position)
    }
}
