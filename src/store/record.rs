//! Alert records as `state.db` keeps them: a start reads one for each open alert, a webhook's lane one for each post.
//!
//! The first octet tells the form. Behind [`PACKED`] come the members of [`Stored`] as postcard has them, one after the
//! other and without names, so that to read one costs little more than to copy its texts. Up to format 1 of the file a
//! record was JSON: that is still read, and written in the new form once its alert changes.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use rusqlite::Row;
use rusqlite::types::{Type, ValueRef};
use serde::{Deserialize, Serialize};

use crate::event::{AlertId, AlertOrigin, AlertRecord, AlertState, ByHand, EventId, Flap, Muted, Timestamp};
use crate::severity::Severity;

/// The form that is written. Whoever changes [`Stored`] gives it another number, and goes on to read this one.
const PACKED: u8 = 1;
/// Names that are known at most; further ones stand for themselves. Rules make them, so that there are far fewer.
const MOST_NAMES: usize = 4096;

/// What no record says, or in a way that is not known.
#[derive(Debug)]
pub(super) struct NoRecord;

impl fmt::Display for NoRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an alert's record")
    }
}

impl std::error::Error for NoRecord {}

/// The octets that [`RecordReader::read`] takes.
pub(super) fn octets(record: &AlertRecord) -> Vec<u8> {
    let stored = Stored {
        id: record.id,
        change: record.change,
        alert: &record.alert,
        rule: &record.rule,
        severity: record.severity,
        state: record.state,
        key: &record.key,
        labels: &record.labels[..],
        annotations: &record.annotations[..],
        count: record.count,
        first_seen: record.first_seen,
        last_seen: record.last_seen,
        last_event: record.last_event,
        resolved_at: record.resolved_at,
        resolved_by: record.resolved_by.as_deref(),
        quiet_until: record.quiet_until,
        expires_at: record.expires_at,
        notify: record.notify.as_deref(),
        by_hand: record.by_hand.as_deref(),
        muted: record.muted,
        flap: record.flap.as_deref(),
        origin: record.origin,
    };
    // Fails for a sequence of unknown length and for what an own implementation refuses: there is neither.
    postcard::to_extend(&stored, vec![PACKED]).expect("a record has a packed form")
}

/// Reads records one after the other. A name that many alerts have in common (of the alert, its rule, its labels, its
/// webhooks) is made once.
#[derive(Default)]
pub(super) struct RecordReader {
    known: HashSet<Arc<str>>,
    /// The names of the record before, in their order: that of the same rule has the same ones.
    before: Vec<Arc<str>>,
    /// Which of them is next.
    next: usize,
    notify: Option<Arc<[Arc<str>]>>,
}

impl RecordReader {
    /// The record in a column of a row.
    ///
    /// # Errors
    /// It holds none, which is the row's damage ([`super::row::is_damaged_row`]).
    pub(super) fn column(&mut self, row: &Row<'_>, column: usize) -> rusqlite::Result<AlertRecord> {
        let read = match row.get_ref(column)? {
            ValueRef::Text(octets) | ValueRef::Blob(octets) => self.read(octets),
            _ => Err(NoRecord),
        };
        read.map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, Box::new(error)))
    }

    /// The record that `octets` hold, in whichever form.
    ///
    /// # Errors
    /// They hold none.
    pub(super) fn read(&mut self, octets: &[u8]) -> Result<AlertRecord, NoRecord> {
        self.next = 0;
        match octets.split_first() {
            Some((&PACKED, packed)) => self.packed(packed),
            Some((b'{', _)) => self.json(octets),
            _ => Err(NoRecord),
        }
    }

    fn packed(&mut self, octets: &[u8]) -> Result<AlertRecord, NoRecord> {
        type Read<'a> = Stored<'a, Vec<(&'a str, String)>, Vec<&'a str>, Box<ByHand>, Box<Flap>>;
        let (stored, rest) = postcard::take_from_bytes::<Read<'_>>(octets).map_err(|_| NoRecord)?;
        if !rest.is_empty() {
            return Err(NoRecord);
        }
        Ok(AlertRecord {
            id: stored.id,
            change: stored.change,
            alert: self.share(stored.alert),
            rule: self.share(stored.rule),
            severity: stored.severity,
            state: stored.state,
            key: stored.key.into(),
            labels: self.share_all(stored.labels),
            annotations: self.share_all(stored.annotations),
            count: stored.count,
            first_seen: stored.first_seen,
            last_seen: stored.last_seen,
            last_event: stored.last_event,
            resolved_at: stored.resolved_at,
            resolved_by: stored.resolved_by.map(|by| self.share(by)),
            quiet_until: stored.quiet_until,
            expires_at: stored.expires_at,
            notify: stored.notify.map(|webhooks| self.share_list(&webhooks)),
            by_hand: stored.by_hand,
            muted: stored.muted,
            flap: stored.flap,
            origin: stored.origin,
        })
    }

    fn json(&mut self, octets: &[u8]) -> Result<AlertRecord, NoRecord> {
        let mut record: AlertRecord = serde_json::from_slice(octets).map_err(|_| NoRecord)?;
        record.alert = self.share(&record.alert);
        record.rule = self.share(&record.rule);
        for (name, _) in record.labels.iter_mut().chain(&mut record.annotations) {
            *name = self.share(name);
        }
        record.resolved_by = record.resolved_by.map(|by| self.share(&by));
        record.notify = record.notify.map(|webhooks| self.share_list(&webhooks));
        Ok(record)
    }

    fn share(&mut self, name: &str) -> Arc<str> {
        let place = self.next;
        self.next += 1;
        if let Some(before) = self.before.get(place).filter(|before| ***before == *name) {
            return Arc::clone(before);
        }
        let shared = match self.known.get(name) {
            Some(known) => Arc::clone(known),
            None => {
                let new: Arc<str> = name.into();
                if self.known.len() < MOST_NAMES {
                    self.known.insert(Arc::clone(&new));
                }
                new
            }
        };
        match self.before.get_mut(place) {
            Some(before) => *before = Arc::clone(&shared),
            // Their order is from the start on, without a gap.
            None => self.before.push(Arc::clone(&shared)),
        }
        shared
    }

    fn share_all(&mut self, list: Vec<(&str, String)>) -> Vec<(Arc<str>, String)> {
        let mut shared = Vec::with_capacity(list.len());
        shared.extend(list.into_iter().map(|(name, value)| (self.share(name), value)));
        shared
    }

    fn share_list<N: AsRef<str>>(&mut self, list: &[N]) -> Arc<[Arc<str>]> {
        if let Some(before) = &self.notify
            && before.iter().map(|name| &**name).eq(list.iter().map(AsRef::as_ref))
        {
            return Arc::clone(before);
        }
        let shared: Arc<[Arc<str>]> = list.iter().map(|name| self.share(name.as_ref())).collect();
        self.notify = Some(Arc::clone(&shared));
        shared
    }
}

/// The members of an [`AlertRecord`] in their order, names and texts borrowed: lists of pairs `L`, names `N`, what operators
/// did `B` and how it flapped `F`, borrowed to be written and owned as they are read.
#[derive(Serialize, Deserialize)]
struct Stored<'a, L, N, B, F> {
    id: AlertId,
    change: u64,
    alert: &'a str,
    rule: &'a str,
    severity: Severity,
    state: AlertState,
    key: &'a str,
    labels: L,
    annotations: L,
    count: u64,
    first_seen: Timestamp,
    last_seen: Timestamp,
    last_event: EventId,
    resolved_at: Option<Timestamp>,
    resolved_by: Option<&'a str>,
    quiet_until: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    notify: Option<N>,
    by_hand: Option<B>,
    muted: Option<Muted>,
    flap: Option<F>,
    origin: AlertOrigin,
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::event::{Held, MuteId};

    fn texts() -> impl Strategy<Value = Arc<str>> {
        prop_oneof![Just("source"), Just("ifIndex"), Just("a \"b\"\n"), Just("\u{1f}é"), Just("")]
            .prop_map(Into::into)
    }

    fn labels() -> impl Strategy<Value = Vec<(Arc<str>, String)>> {
        vec((texts(), any::<String>()), 0..12)
    }

    fn times() -> impl Strategy<Value = Timestamp> {
        prop_oneof![Just(i64::MAX), 0..=253_402_207_200_999_999_i64].prop_map(Timestamp)
    }

    prop_compose! {
        fn numbers()(id: u64, change: u64, count: u64, last_event: u64, by: u64, severity in 0..5_usize, state in 0..3_usize)
            -> AlertRecord {
            AlertRecord {
                id: AlertId(id),
                change,
                alert: "".into(),
                rule: "".into(),
                severity: Severity::ALL[severity],
                state: [AlertState::Firing, AlertState::Acknowledged, AlertState::Resolved][state],
                key: "".into(),
                labels: Vec::new(),
                annotations: Vec::new(),
                count,
                first_seen: Timestamp(0),
                last_seen: Timestamp(0),
                last_event: EventId(last_event),
                resolved_at: None,
                resolved_by: None,
                quiet_until: None,
                expires_at: None,
                notify: None,
                by_hand: None,
                muted: (by % 3 == 0).then_some(Muted { by: MuteId(by), unheard: by % 2 == 0 }),
                flap: None,
                origin: [AlertOrigin::Rule, AlertOrigin::Storm, AlertOrigin::Heartbeat][(by % 3) as usize],
            }
        }
    }

    prop_compose! {
        fn records()(
            record in numbers(),
            names in [texts(), texts()],
            key in any::<String>(),
            lists in [labels(), labels()],
            seen in [times(), times()],
            perhaps in [prop::option::of(times()), prop::option::of(times()), prop::option::of(times())],
            resolved_by in prop::option::of(texts()),
            notify in prop::option::of(vec(texts(), 0..3)),
            acknowledged_by in prop::option::of(texts()),
            flap in prop::option::of((vec(times(), 0..3), times())),
        ) -> AlertRecord {
            let ([alert, rule], [labels, annotations], [first_seen, last_seen]) = (names, lists, seen);
            let [resolved_at, quiet_until, expires_at] = perhaps;
            let acknowledged = |by| ByHand { acknowledged_by: Some(by), acknowledged_at: quiet_until, closed_by: None };
            let flap = flap.map(|(changes, since)| {
                let held = Held { since, until: since, said: Some(record.severity), by: record.last_event };
                Box::new(Flap { changes, held: (since.0 % 2 == 0).then_some(held) })
            });
            AlertRecord {
                alert, rule, key: key.into(), labels, annotations, first_seen, last_seen, resolved_at, resolved_by, quiet_until,
                expires_at, flap, notify: notify.map(Into::into), by_hand: acknowledged_by.map(acknowledged).map(Box::new), ..record
            }
        }
    }

    proptest! {
        #[test]
        fn each_comes_back_in_both_forms(records in vec((records(), any::<bool>()), 1..8)) {
            let mut reader = RecordReader::default();
            for (record, packed) in records {
                let written = if packed { octets(&record) } else { serde_json::to_vec(&record).unwrap() };
                prop_assert_eq!(reader.read(&written).unwrap(), record);
            }
        }

        /// What comes out of damage can be written again: it is a record, if another one.
        #[test]
        fn damaged_octets_are_a_record_or_none(
            record in records(),
            packed: bool,
            damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut written = if packed { octets(&record) } else { serde_json::to_vec(&record).unwrap() };
            for (at, octet) in damage {
                let at = at.index(written.len());
                written[at] = octet;
            }
            if let Ok(read) = RecordReader::default().read(&written) {
                prop_assert_eq!(RecordReader::default().read(&octets(&read)).unwrap(), read);
            }
        }

        #[test]
        fn one_cut_short_or_with_more_behind_is_none(
            record in records(),
            at in any::<prop::sample::Index>(),
            more in vec(any::<u8>(), 1..9),
        ) {
            let mut written = octets(&record);
            prop_assert!(RecordReader::default().read(&written[..at.index(written.len())]).is_err());
            written.extend(more);
            prop_assert!(RecordReader::default().read(&written).is_err());
        }
    }

    /// A form that files have stays as it is: a member that is added or moved needs another number.
    #[test]
    fn the_packed_form_stays_as_it_is() {
        let [time, later] = [Timestamp(1_785_024_000_000_000), Timestamp(i64::MAX)];
        let record = AlertRecord {
            id: AlertId(1),
            change: 300,
            alert: "A".into(),
            rule: "r".into(),
            severity: Severity::Major,
            state: AlertState::Acknowledged,
            key: "A\u{1f}7".into(),
            labels: vec![("ifIndex".into(), "7".to_owned())],
            annotations: vec![("é".into(), String::new())],
            count: 2,
            first_seen: time,
            last_seen: Timestamp(-1),
            last_event: EventId(3),
            resolved_at: None,
            resolved_by: Some("trap".into()),
            quiet_until: Some(time),
            expires_at: Some(later),
            notify: Some(["hook".into()].into()),
            by_hand: Some(Box::new(ByHand { acknowledged_by: Some("me".into()), ..ByHand::default() })),
            muted: Some(Muted { by: MuteId(5), unheard: true }),
            flap: Some(Box::new(Flap { changes: vec![time], held: None })),
            origin: AlertOrigin::Heartbeat,
        };
        let octets = octets(&record);
        let digits: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
        let number = "8080fc9689deab06";
        let expected = [
            "01 01 ac02 0141 0172 03 01 03411f37",
            "01 07 6966496e646578 0137 01 02 c3a9 00",
            "02",
            number,
            "01 03 00 01 04 74726170 01",
            number,
            "01 feffffffffffffffff01",
            "01 01 04 686f6f6b 01 01 02 6d65 00 00 01 05 01 01 01",
            number,
            "00 02",
        ];
        assert_eq!(digits, expected.concat().replace(' ', ""));
        assert_eq!(RecordReader::default().read(&octets).unwrap(), record);
    }

    #[test]
    fn names_are_shared_between_records_and_bounded() {
        let json = |rule: &str, label: &str| {
            let json = format!(
                r#"{{"id":1,"change":1,"alert":"A","rule":"{rule}","severity":"info","state":"firing","key":"k",
                    "labels":[["{label}","x"]],"annotations":[],"count":1,"first_seen":"1970-01-01T00:00:00.000000Z",
                    "last_seen":"1970-01-01T00:00:00.000000Z","last_event":1,"notify":["hook"]}}"#
            );
            json.into_bytes()
        };
        for packed in [false, true] {
            are_shared(|reader, rule, label| {
                let json = json(rule, label);
                let first = reader.read(&json).unwrap();
                if packed { reader.read(&octets(&first)).unwrap() } else { first }
            });
        }
    }

    fn are_shared(read: impl Fn(&mut RecordReader, &str, &str) -> AlertRecord) {
        let mut reader = RecordReader::default();
        let first = read(&mut reader, "r", "source");
        let _ = read(&mut reader, "another", "ifIndex");
        let third = read(&mut reader, "r", "source");
        assert!(Arc::ptr_eq(&first.alert, &third.alert) && Arc::ptr_eq(&first.rule, &third.rule));
        assert!(Arc::ptr_eq(&first.labels[0].0, &third.labels[0].0));
        assert!(Arc::ptr_eq(first.notify.as_ref().unwrap(), third.notify.as_ref().unwrap()));
        for number in 0..2 * MOST_NAMES {
            let label = number.to_string();
            assert_eq!(*read(&mut reader, "r", &label).labels[0].0, *label);
        }
        assert_eq!(reader.known.len(), MOST_NAMES);
    }
}
