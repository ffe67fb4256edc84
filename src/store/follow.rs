//! Reading the journal forwards, for those who follow it: what is sent on as events has no queue of its own.

use std::sync::atomic::Ordering;

use rusqlite::OptionalExtension;
use tokio::sync::watch;

use super::error::{StoreError, Trouble};
use super::query::Reader;
use super::row::{self, EVENT_COLUMNS};
use crate::event::{EventId, EventRecord, Timestamp};

/// The most events that are counted.
const COUNTED: i64 = 100_000;

/// A stretch of the journal, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stretch {
    /// The events.
    pub events: Vec<EventRecord>,
    /// Everything up to here was read; the next stretch begins behind it.
    pub upto: EventId,
    /// Whether retention took events away that lay behind where it was asked to begin.
    pub lost: bool,
}

impl Reader {
    /// Changes whenever events have come to the disk; it shows the newest.
    #[must_use]
    pub fn stored(&self) -> watch::Receiver<u64> {
        self.shared.stored.subscribe()
    }

    /// The events after `after`, in the order of their numbers, at most `limit` of them. Costs what it reads: the
    /// number is the key. A damaged row is skipped, counted and logged; a damaged file is passed over once it is
    /// closed.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub fn events_after(&self, after: EventId, limit: usize) -> Result<Stretch, StoreError> {
        let sql = format!("SELECT {EVENT_COLUMNS} FROM events e WHERE e.id > ? ORDER BY e.id LIMIT ?");
        let lost = after.0 > 0 && self.shared.unlinked.load(Ordering::Relaxed) > after.0;
        let mut stretch = Stretch { events: Vec::new(), upto: after, lost };
        let files = self.shared.journals();
        for (at, file) in files.iter().enumerate() {
            let live = at + 1 == files.len();
            if !live && file.last() <= stretch.upto.0 {
                continue;
            }
            let room = limit.saturating_sub(stretch.events.len());
            if room == 0 {
                break;
            }
            let (mut read, mut damaged) = (0, 0);
            let walked = self.journal(file, |connection| {
                let mut select = connection.prepare_cached(&sql)?;
                let limit = i64::try_from(room).unwrap_or(i64::MAX);
                let mut rows = select.query([row::signed(stretch.upto.0), limit])?;
                while let Some(found) = rows.next()? {
                    read += 1;
                    stretch.upto = stretch.upto.max(EventId(row::unsigned(found, 0)?));
                    match row::event(found) {
                        Ok(event) => stretch.events.push(event),
                        Err(error) if row::is_damaged_row(&error) => damaged += 1,
                        Err(error) => return Err(error),
                    }
                }
                Ok(())
            });
            self.shared.damaged_rows.fetch_add(damaged, Ordering::Relaxed);
            match walked {
                Ok(()) if read >= room => break,
                Ok(()) => {}
                // Retention took it away.
                Err(_) if !file.path.exists() => {}
                Err(error) if !live && Trouble::of(&error) == Trouble::Damaged => {
                    self.damaged(&file.path.display().to_string(), &error);
                    stretch.upto = stretch.upto.max(EventId(file.last()));
                }
                Err(error) => return Err(StoreError::database(&file.path, &error)),
            }
        }
        Ok(stretch)
    }

    /// How many events there are after `after` (at most 100,000 are counted), and when the first of them was received.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub fn events_waiting(&self, after: EventId) -> Result<(u64, Option<Timestamp>), StoreError> {
        let (mut number, mut oldest) = (0, None);
        let files = self.shared.journals();
        for (at, file) in files.iter().enumerate() {
            if at + 1 < files.len() && file.last() <= after.0 {
                continue;
            }
            let counted = self.journal(file, |connection| {
                let first = "SELECT time FROM events WHERE id > ? ORDER BY id LIMIT 1";
                let first =
                    connection.prepare_cached(first)?.query_row([row::signed(after.0)], |found| found.get(0));
                let many = "SELECT count(*) FROM (SELECT 1 FROM events WHERE id > ? LIMIT ?)";
                let many = connection
                    .prepare_cached(many)?
                    .query_row([row::signed(after.0), COUNTED - number], |found| found.get::<_, i64>(0))?;
                Ok((first.optional()?, many))
            });
            match counted {
                Ok((first, many)) => {
                    number += many;
                    oldest = oldest.or(first.map(Timestamp));
                }
                Err(_) if !file.path.exists() => {}
                Err(error) if Trouble::of(&error) == Trouble::Damaged => {}
                Err(error) => return Err(StoreError::database(&file.path, &error)),
            }
            if number >= COUNTED {
                break;
            }
        }
        Ok((u64::try_from(number).unwrap_or(0), oldest))
    }

    /// The newest event that is on the disk; 0 if there is none.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub fn newest_event(&self) -> Result<EventId, StoreError> {
        for file in self.shared.journals().iter().rev() {
            let newest = self.journal(file, |connection| {
                let sql = "SELECT max(id) FROM events";
                connection.query_row(sql, [], |found| found.get::<_, Option<i64>>(0))
            });
            match newest {
                Ok(Some(newest)) => return Ok(EventId(u64::try_from(newest).unwrap_or(0))),
                Ok(None) => {}
                Err(_) if !file.path.exists() => {}
                Err(error) if Trouble::of(&error) == Trouble::Damaged => {}
                Err(error) => return Err(StoreError::database(&file.path, &error)),
            }
        }
        Ok(EventId(0))
    }
}
