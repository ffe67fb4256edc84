//! Alert records out of their JSON, many of them: a start reads one for each open alert.
//!
//! What a record holds is [`AlertRecord`]'s to say; this is another way to read the same, which makes a name that many
//! alerts have in common (of the alert, its rule, its labels, its webhooks) once.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

use crate::event::{AlertId, AlertOrigin, AlertRecord, AlertState, ByHand, EventId, Flap, Muted, Timestamp};
use crate::severity::Severity;

/// Names that are known at most; further ones stand for themselves. Rules make them, so that there are far fewer.
const MOST_NAMES: usize = 4096;

/// Reads records one after the other.
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
    /// The record that `json` holds; what [`AlertRecord`]'s own way to read it gives, names shared.
    ///
    /// # Errors
    /// It holds none.
    pub(super) fn read(&mut self, json: &[u8]) -> serde_json::Result<AlertRecord> {
        // Its texts are looked at as a whole: one by one costs more.
        let text = std::str::from_utf8(json).map_err(Error::custom)?;
        let stored: Stored<'_> = serde_json::from_str(text)?;
        self.next = 0;
        Ok(AlertRecord {
            id: stored.id,
            change: stored.change,
            alert: self.share(&stored.alert),
            rule: self.share(&stored.rule),
            severity: stored.severity,
            state: stored.state,
            key: stored.key,
            labels: self.share_all(stored.labels),
            annotations: self.share_all(stored.annotations),
            count: stored.count,
            first_seen: stored.first_seen,
            last_seen: stored.last_seen,
            last_event: stored.last_event,
            resolved_at: stored.resolved_at,
            resolved_by: stored.resolved_by.map(|by| self.share(&by)),
            quiet_until: stored.quiet_until,
            expires_at: stored.expires_at,
            notify: stored.notify.map(|webhooks| self.share_list(&webhooks)),
            by_hand: stored.by_hand,
            muted: stored.muted,
            flap: stored.flap,
            origin: stored.origin,
        })
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

    fn share_all(&mut self, list: Vec<(Text<'_>, String)>) -> Vec<(Arc<str>, String)> {
        let mut shared = Vec::with_capacity(list.len());
        shared.extend(list.into_iter().map(|(name, value)| (self.share(&name), value)));
        shared
    }

    fn share_list(&mut self, list: &[Text<'_>]) -> Arc<[Arc<str>]> {
        if let Some(before) = &self.notify
            && before.len() == list.len()
            && before.iter().zip(list).all(|(before, name)| **before == **name)
        {
            return Arc::clone(before);
        }
        let shared: Arc<[Arc<str>]> = list.iter().map(|name| self.share(name)).collect();
        self.notify = Some(Arc::clone(&shared));
        shared
    }
}

/// An [`AlertRecord`] as its JSON has it, names borrowed.
#[derive(serde::Deserialize)]
struct Stored<'a> {
    id: AlertId,
    change: u64,
    #[serde(borrow)]
    alert: Text<'a>,
    #[serde(borrow)]
    rule: Text<'a>,
    severity: Severity,
    state: AlertState,
    key: Box<str>,
    #[serde(borrow)]
    labels: Vec<(Text<'a>, String)>,
    #[serde(borrow)]
    annotations: Vec<(Text<'a>, String)>,
    count: u64,
    first_seen: Timestamp,
    last_seen: Timestamp,
    last_event: EventId,
    resolved_at: Option<Timestamp>,
    #[serde(borrow)]
    resolved_by: Option<Text<'a>>,
    quiet_until: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    #[serde(borrow)]
    notify: Option<Vec<Text<'a>>>,
    #[serde(default)]
    by_hand: Option<Box<ByHand>>,
    #[serde(default)]
    muted: Option<Muted>,
    #[serde(default)]
    flap: Option<Box<Flap>>,
    #[serde(default)]
    origin: AlertOrigin,
}

/// A text: borrowed, unless its JSON has an escape in it.
enum Text<'a> {
    Borrowed(&'a str),
    Owned(Box<str>),
}

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Owned(text) => text,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text::Borrowed(text))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text::Owned(text.into()))
            }
        }
        deserializer.deserialize_str(Read)
    }
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
        fn each_is_what_its_own_way_to_read_it_gives(
            records in vec(records(), 1..8),
            damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        ) {
            let mut reader = RecordReader::default();
            for record in records {
                let mut json = serde_json::to_vec(&record).unwrap();
                prop_assert_eq!(&reader.read(&json).unwrap(), &record);
                if let Some((at, octet)) = damage {
                    let at = at.index(json.len());
                    json[at] = octet;
                    let own = serde_json::from_slice::<AlertRecord>(&json).ok();
                    prop_assert_eq!(reader.read(&json).ok(), own);
                }
            }
        }
    }

    #[test]
    fn names_are_shared_between_records_and_bounded() {
        let read = |reader: &mut RecordReader, rule: &str, label: &str| {
            let json = format!(
                r#"{{"id":1,"change":1,"alert":"A","rule":"{rule}","severity":"info","state":"firing","key":"k",
                    "labels":[["{label}","x"]],"annotations":[],"count":1,"first_seen":"1970-01-01T00:00:00.000000Z",
                    "last_seen":"1970-01-01T00:00:00.000000Z","last_event":1,"notify":["hook"]}}"#
            );
            reader.read(json.as_bytes()).unwrap()
        };
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
