//! Alerts as they stand in `state.db`, read one at a time or all at once.

use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::{mem, thread};

use parking_lot::Mutex;
use rusqlite::{Row, Rows};

use super::record::RecordReader;
use super::row;
use crate::event::{AlertRecord, EventId, Timestamp};

/// The columns that [`alert`] reads.
pub(super) const ALERT_COLUMNS: &str = "record, count, last_seen, last_event, expires_at";
/// So many rows are understood at a time.
pub(super) const PIECE: usize = 2048;
/// Pieces that wait to be understood: what is read ahead is bounded.
const AHEAD: usize = 4;

/// An alert of [`ALERT_COLUMNS`]. The columns are newer than the record: counts change without it.
pub(super) fn alert(found: &Row<'_>) -> rusqlite::Result<AlertRecord> {
    let columns = Columns::read(found)?;
    Ok(columns.complete(RecordReader::default().column(found, 0)?))
}

/// What stands beside the record.
struct Columns {
    count: u64,
    last_seen: Timestamp,
    last_event: EventId,
    expires_at: Option<Timestamp>,
}

impl Columns {
    fn read(found: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            count: row::unsigned(found, 1)?,
            last_seen: Timestamp(found.get(2)?),
            last_event: EventId(row::unsigned(found, 3)?),
            expires_at: found.get::<_, Option<i64>>(4)?.map(Timestamp),
        })
    }

    fn complete(self, mut record: AlertRecord) -> AlertRecord {
        record.count = self.count;
        record.last_seen = self.last_seen;
        record.last_event = self.last_event;
        record.expires_at = self.expires_at;
        record
    }
}

/// The records of some rows, one after the other, with where each ends.
#[derive(Default)]
struct Piece {
    number: usize,
    octets: Vec<u8>,
    rows: Vec<(usize, Columns)>,
}

/// What became of a piece, and how many of its rows could not be understood.
struct Understood<T> {
    number: usize,
    alerts: Vec<T>,
    damaged: u64,
}

impl Piece {
    /// Takes all rows out of it.
    fn understand<T>(
        &mut self,
        reader: &mut RecordReader,
        each: &impl Fn(AlertRecord) -> T,
    ) -> Understood<T> {
        let alerts = Vec::with_capacity(self.rows.len());
        let mut understood = Understood { number: self.number, alerts, damaged: 0 };
        let mut start = 0;
        for (end, columns) in self.rows.drain(..) {
            let record = reader.read(&self.octets[start..end]).ok();
            start = end;
            match record {
                Some(record) => understood.alerts.push(each(columns.complete(record))),
                None => understood.damaged += 1,
            }
        }
        self.octets.clear();
        understood
    }
}

/// What `each` makes of all alerts of `rows`, in their order, and how many rows could not be understood. To understand a
/// record takes longer than to read its row: where there are many, other threads do it, and `each` with it.
///
/// # Errors
/// The rows cannot be read.
pub(super) fn all<T: Send>(
    rows: &mut Rows<'_>,
    each: impl Fn(AlertRecord) -> T + Sync,
) -> rusqlite::Result<(Vec<T>, u64)> {
    let mut damaged = 0;
    let mut piece = Piece::default();
    let more = fill(rows, &mut piece, &mut damaged)?;
    if !more {
        let understood = piece.understand(&mut RecordReader::default(), &each);
        return Ok((understood.alerts, damaged + understood.damaged));
    }
    let threads = thread::available_parallelism().map_or(1, usize::from).min(8);
    let (give, take) = sync_channel::<Piece>(AHEAD);
    let (tell, told) = channel::<Understood<T>>();
    let (give_back, emptied) = channel::<Piece>();
    let take = Mutex::new(take);
    let read: rusqlite::Result<()> = thread::scope(|scope| {
        for _ in 0..threads {
            let (take, each, tell, give_back) = (&take, &each, tell.clone(), give_back.clone());
            scope.spawn(move || understand_all(take, each, &tell, &give_back));
        }
        drop(tell);
        let give = give;
        let mut more = true;
        while more {
            let mut next = emptied.try_recv().unwrap_or_default();
            next.number = piece.number + 1;
            // They end only when there is nothing more to take.
            if give.send(mem::replace(&mut piece, next)).is_err() {
                break;
            }
            more = fill(rows, &mut piece, &mut damaged)?;
        }
        let _ = give.send(mem::take(&mut piece));
        Ok(())
    });
    read?;
    let mut understood: Vec<_> = told.into_iter().collect();
    understood.sort_unstable_by_key(|piece| piece.number);
    let mut alerts = Vec::with_capacity(understood.iter().map(|piece| piece.alerts.len()).sum());
    for piece in understood {
        alerts.extend(piece.alerts);
        damaged += piece.damaged;
    }
    Ok((alerts, damaged))
}

/// Reads rows into `piece`. Says whether there may be more.
fn fill(rows: &mut Rows<'_>, piece: &mut Piece, damaged: &mut u64) -> rusqlite::Result<bool> {
    while piece.rows.len() < PIECE {
        let Some(found) = rows.next()? else { return Ok(false) };
        let record = found.get_ref(0)?.as_bytes();
        match (record, Columns::read(found)) {
            (Ok(record), Ok(columns)) => {
                piece.octets.extend_from_slice(record);
                piece.rows.push((piece.octets.len(), columns));
            }
            (_, Err(error)) if !row::is_damaged_row(&error) => return Err(error),
            _ => *damaged += 1,
        }
    }
    Ok(true)
}

fn understand_all<T>(
    take: &Mutex<Receiver<Piece>>,
    each: &impl Fn(AlertRecord) -> T,
    tell: &Sender<Understood<T>>,
    give_back: &Sender<Piece>,
) {
    let mut reader = RecordReader::default();
    loop {
        let piece = take.lock().recv();
        let Ok(mut piece) = piece else { return };
        // Whoever asked is there until all is told.
        let _ = tell.send(piece.understand(&mut reader, each));
        let _ = give_back.send(piece);
    }
}
