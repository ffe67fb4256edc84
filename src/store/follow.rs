//! Reading the journal forwards, for those who follow it: what is sent on as events has no queue of its own.

use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension};
use tokio::sync::watch;

use super::error::{StoreError, Trouble};
use super::query::Reader;
use super::row::{self, EVENT_COLUMNS};
use crate::event::{EventId, EventRecord, Timestamp};

/// Events between two places of a file that are remembered with their count.
const STRIDE: u64 = 65_536;

/// A stretch of the journal, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stretch {
    /// The events.
    pub events: Vec<EventRecord>,
    /// Everything up to here was read; the next stretch begins behind it.
    pub upto: EventId,
}

/// How many events of a file lie before some of them: places that were counted once are not counted again, whoever asks.
/// Costs 16 octets for each 65,536 events.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// An event's number, and how many there are behind the first place up to it. At most [`STRIDE`] lie between two, and
    /// the last one is the newest event that was seen.
    places: Mutex<Vec<(u64, u64)>>,
}

impl Counted {
    /// How many events of the file `connection` reads have a higher number than `after`.
    pub(super) fn after(&self, connection: &Connection, after: u64) -> rusqlite::Result<u64> {
        let mut places = self.places.lock();
        if places.first().is_none_or(|(first, _)| after < *first) {
            *places = vec![(after, 0)];
        }
        let step = "SELECT count(*), coalesce(max(id), 0) FROM (SELECT id FROM events WHERE id > ? ORDER BY id LIMIT ?)";
        let mut step = connection.prepare_cached(step)?;
        let mut last = places.last().copied().unwrap_or((after, 0));
        loop {
            let (number, newest) = step.query_row([row::signed(last.0), row::signed(STRIDE)], |found| {
                Ok((row::unsigned(found, 0)?, row::unsigned(found, 1)?))
            })?;
            if number == 0 {
                break;
            }
            last = (newest, last.1 + number);
            // The newest place moves on until it is a stride behind the one before it; the first one stays.
            if matches!(places[..], [.., (_, before), _] if last.1 - before <= STRIDE) {
                places.pop();
            }
            places.push(last);
            if number < STRIDE {
                break;
            }
        }
        let at = places.partition_point(|(place, _)| *place <= after).saturating_sub(1);
        let (place, before) = places[at];
        let between = "SELECT count(*) FROM events WHERE id > ? AND id <= ?";
        let between: u64 = connection
            .prepare_cached(between)?
            .query_row([row::signed(place), row::signed(after)], |found| row::unsigned(found, 0))?;
        Ok(last.1.saturating_sub(before + between))
    }

    /// The places.
    #[cfg(test)]
    pub(super) fn places(&self) -> Vec<(u64, u64)> {
        self.places.lock().clone()
    }
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
        let mut stretch = Stretch { events: Vec::new(), upto: after };
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

    /// How many events retention has taken away behind the stored place of `follower` since this was asked last, or since the
    /// start. Those that it had been given, and the writer had not been told of yet, count too.
    #[must_use]
    pub fn events_lost(&self, follower: &str) -> u64 {
        self.shared.lost.lock().remove(follower).unwrap_or(0)
    }

    /// How many events there are after `after`, and when the first of them was received.
    ///
    /// Cost: the first question walks all events behind `after`, a later one at most 65,536 of each file and what came
    /// since then.
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
                Ok((first.optional()?, file.counted.after(connection, after.0)?))
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
        }
        Ok((number, oldest))
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
