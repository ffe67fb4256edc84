//! A question for events on its way through one journal file: its conditions as SQL, and which rows are read for it.

use std::net::IpAddr;
use std::time::Instant;

use rusqlite::types::Value;
use rusqlite::{CachedStatement, Connection, OptionalExtension, params_from_iter};

use super::files::JournalFile;
use super::query::{EventPage, EventQuery};
use super::row::{self, EVENT_COLUMNS};
use super::sources;
use crate::event::EventRecord;
use crate::oid::Oid;

/// Rows of the live file that one read transaction walks: the WAL cannot start anew under a longer one.
const WINDOW: i64 = 20_000;
/// Octets of PDUs in one page, roughly: a page ends early at it, and its cursor goes on.
const PAGE_OCTETS: usize = 8 << 20;
/// Rows that a keeper refuses between two looks at the clock.
const REFUSED: u32 = 1024;

/// What a page still takes.
pub(super) struct Room {
    events: usize,
    octets: usize,
}

impl Room {
    /// For a page of at most `events`.
    pub(super) fn of(events: usize) -> Self {
        Self { events, octets: PAGE_OCTETS }
    }

    pub(super) fn is_full(&self) -> bool {
        self.events == 0 || self.octets == 0
    }

    fn take(&mut self, event: &EventRecord) {
        self.events = self.events.saturating_sub(1);
        self.octets = self.octets.saturating_sub(event.pdu.len());
    }
}

/// The conditions of an [`EventQuery`] as SQL.
pub(super) struct EventFilter<'a> {
    conditions: String,
    values: Vec<Value>,
    /// Checked on the row, where SQL cannot: an OID of one arc has no encoding.
    trap: Option<&'a Oid>,
    /// The hash of the one source that is asked for.
    source: Option<u64>,
}

/// One question on its way through the files.
pub(super) struct Walk<'a> {
    /// Everything from here on was seen.
    before: &'a mut u64,
    until: Instant,
    /// How many rows `keep` did not want.
    refused: u32,
    room: &'a mut Room,
    page: &'a mut EventPage,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        before: &'a mut u64,
        until: Instant,
        room: &'a mut Room,
        page: &'a mut EventPage,
    ) -> Self {
        Self { before, until, refused: 0, room, page }
    }
}

impl<'a> EventFilter<'a> {
    pub(super) fn new(query: &'a EventQuery) -> Self {
        let mut filter =
            Self { conditions: String::new(), values: Vec::new(), trap: query.trap.as_ref(), source: None };
        if let Some(since) = query.since {
            filter.add("e.time >= ?", [since.0.into()]);
        }
        if let Some(until) = query.until {
            filter.add("e.time <= ?", [until.0.into()]);
        }
        if let Some(source) = query.source {
            let octets = |address: IpAddr| {
                let mut out = Vec::with_capacity(16);
                row::address_octets(address, &mut out);
                match &query.realm {
                    None => Value::Blob(out),
                    Some(realm) => Value::Text(row::source_text(realm, &out)),
                }
            };
            if source.prefix_len() == source.max_prefix_len() {
                let octets = octets(source.addr());
                filter.source = match &octets {
                    Value::Blob(octets) => Some(sources::hash(octets)),
                    Value::Text(text) => Some(sources::hash(text.as_bytes())),
                    _ => None,
                };
                filter.add("e.source = ?", [octets]);
            } else {
                // The same length first: octets of both families compare with each other.
                let length = match octets(source.addr()) {
                    Value::Text(text) => text.len(),
                    _ => usize::from(source.max_prefix_len() / 8),
                };
                let length = i64::try_from(length).unwrap_or(i64::MAX);
                let range = [length.into(), octets(source.network()), octets(source.broadcast())];
                filter.add("length(e.source) = ? AND e.source BETWEEN ? AND ?", range);
            }
        }
        if let Some(trap) = &query.trap {
            let mut octets = Vec::new();
            if crate::oid::encode(trap.arcs(), &mut octets).is_ok() {
                // Sub-identifiers end themselves: a prefix of octets is a prefix of arcs.
                let length = i64::try_from(octets.len()).unwrap_or(i64::MAX);
                filter.add("substr(e.trap, 1, ?) = ?", [length.into(), Value::Blob(octets)]);
            }
        }
        if let Some(severity) = query.severity {
            filter.add("e.severity = ?", [row::severity_number(severity).into()]);
        }
        if let Some(rule) = &query.rule {
            filter.add("e.rule = (SELECT id FROM texts WHERE text = ?)", [rule.clone().into()]);
        }
        if let Some(after) = query.after {
            filter.add("e.id > ?", [row::signed(after.0).into()]);
        }
        if let Some(alert) = query.alert {
            filter.add("e.alert_id = ?", [row::signed(alert.0).into()]);
        }
        filter
    }

    fn add<const N: usize>(&mut self, condition: &str, values: [Value; N]) {
        self.conditions += " AND ";
        self.conditions += condition;
        self.values.extend(values);
    }

    /// Walks one file downwards from `walk.before`, which is left where the walk ended.
    pub(super) fn walk(
        &self,
        connection: &Connection,
        file: &JournalFile,
        live: bool,
        keep: &impl Fn(&EventRecord) -> bool,
        walk: &mut Walk<'_>,
    ) -> rusqlite::Result<()> {
        let select = format!(
            "SELECT {EVENT_COLUMNS} FROM events e WHERE e.id < ? AND e.id >= ?{} ORDER BY e.id DESC",
            self.conditions
        );
        let mut select = connection.prepare_cached(&select)?;
        if let Some(known) = self.source.and_then(|source| file.sources.of(source, *walk.before)) {
            // First what was committed since; then the stretches that may hold the source.
            let newer = (known.to.saturating_add(1), u64::MAX);
            for (low, high) in std::iter::once(newer).chain(known.ranges) {
                *walk.before = high.saturating_add(1).min(*walk.before);
                if *walk.before > low {
                    if self.span(&mut select, row::signed(low), keep, walk)? {
                        return Ok(());
                    }
                    *walk.before = low;
                }
                if Instant::now() >= walk.until {
                    return Ok(());
                }
            }
            *walk.before = known.from.min(*walk.before);
        }
        let window = "SELECT id FROM events WHERE id < ? ORDER BY id DESC LIMIT 1 OFFSET ?";
        let mut window = connection.prepare_cached(window)?;
        loop {
            // A closed file has no writer that a long read could hold up.
            let low = if live {
                window.query_row([row::signed(*walk.before), WINDOW], |found| found.get(0)).optional()?
            } else {
                None
            };
            if self.span(&mut select, low.unwrap_or(i64::MIN), keep, walk)? {
                return Ok(());
            }
            let Some(low) = low else {
                // All of this file was seen: the page goes on below it.
                let lowest = connection
                    .query_row("SELECT min(id) FROM events", [], |row| row.get::<_, Option<i64>>(0))?;
                if let Some(lowest) = lowest {
                    *walk.before = (*walk.before).min(u64::try_from(lowest).unwrap_or(0));
                }
                return Ok(());
            };
            *walk.before = u64::try_from(low).unwrap_or(0);
            if Instant::now() >= walk.until {
                return Ok(());
            }
        }
    }

    /// Reads the events from `low` up to `walk.before`, downwards. Says whether the walk ends: the page is full, or the time
    /// is up.
    fn span(
        &self,
        select: &mut CachedStatement<'_>,
        low: i64,
        keep: &impl Fn(&EventRecord) -> bool,
        walk: &mut Walk<'_>,
    ) -> rusqlite::Result<bool> {
        let bounds = [Value::Integer(row::signed(*walk.before)), Value::Integer(low)];
        let mut rows =
            select.query(params_from_iter(bounds.into_iter().chain(self.values.iter().cloned())))?;
        while let Some(found) = rows.next()? {
            match row::event(found) {
                Ok(event) => {
                    *walk.before = event.id.0;
                    if self.trap.is_none_or(|trap| event.trap_oid.starts_with(trap.arcs())) && keep(&event) {
                        walk.room.take(&event);
                        walk.page.events.push(event);
                    } else {
                        walk.refused = walk.refused.wrapping_add(1);
                        if walk.refused.is_multiple_of(REFUSED) && Instant::now() >= walk.until {
                            return Ok(true);
                        }
                    }
                }
                Err(error) if row::is_damaged_row(&error) => {
                    walk.page.damaged += 1;
                    *walk.before = row::unsigned(found, 0).unwrap_or(*walk.before);
                }
                Err(error) => return Err(error),
            }
            if walk.room.is_full() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
