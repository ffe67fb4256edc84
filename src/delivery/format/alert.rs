//! An alert's JSON, written straight behind a post's text: a post holds up to thousands of them, and a serializer looks at
//! each octet of each name again.

use serde_json::value::RawValue;

use super::{encode, ended};
use crate::event::{AlertId, AlertRecord, KEY_SEPARATOR, MuteId, Timestamp};

/// What can be written as a member's value.
pub(super) trait Put {
    fn put(&self, text: &mut Vec<u8>);
}

impl Put for u64 {
    fn put(&self, text: &mut Vec<u8>) {
        encode(self, text);
    }
}

impl Put for AlertId {
    fn put(&self, text: &mut Vec<u8>) {
        self.0.put(text);
    }
}

impl Put for MuteId {
    fn put(&self, text: &mut Vec<u8>) {
        self.0.put(text);
    }
}

impl Put for str {
    fn put(&self, text: &mut Vec<u8>) {
        // Without a branch for each octet, so that many are looked at at once.
        if self.bytes().fold(false, |found, octet| found | is_escaped(octet)) {
            encode(self, text);
        } else {
            quoted(self.as_bytes(), text);
        }
    }
}

impl Put for Timestamp {
    fn put(&self, text: &mut Vec<u8>) {
        match self.rfc3339() {
            Some(written) => quoted(&written, text),
            None => encode(self, text),
        }
    }
}

impl Put for RawValue {
    fn put(&self, text: &mut Vec<u8>) {
        text.extend_from_slice(self.get().as_bytes());
    }
}

impl<T: Put + ?Sized> Put for &T {
    fn put(&self, text: &mut Vec<u8>) {
        (**self).put(text);
    }
}

impl<T: Put> Put for Option<T> {
    fn put(&self, text: &mut Vec<u8>) {
        match self {
            Some(value) => value.put(text),
            None => text.extend_from_slice(b"null"),
        }
    }
}

/// Names and values as an object, in the order of the names.
struct Pairs<'a, N>(&'a [(N, String)]);

impl<N: AsRef<str>> Put for Pairs<'_, N> {
    fn put(&self, text: &mut Vec<u8>) {
        text.push(b'{');
        let mut member = |at: usize, name: &str, value: &str| {
            if at > 0 {
                text.push(b',');
            }
            name.put(text);
            text.push(b':');
            value.put(text);
        };
        let pairs = self.0.iter().map(|(name, value)| (name.as_ref(), value.as_str()));
        if self.0.windows(2).all(|two| two[0].0.as_ref() < two[1].0.as_ref()) {
            pairs.enumerate().for_each(|(at, (name, value))| member(at, name, value));
        } else {
            // Of two with one name the last counts.
            let sorted: std::collections::BTreeMap<_, _> = pairs.collect();
            sorted.into_iter().enumerate().for_each(|(at, (name, value))| member(at, name, value));
        }
        text.push(b'}');
    }
}

/// An alert's key as people read it: its parts with spaces between them.
pub(super) struct SpacedKey<'a>(pub(super) &'a str);

impl Put for SpacedKey<'_> {
    fn put(&self, text: &mut Vec<u8>) {
        self.0.replace(KEY_SEPARATOR, " ").as_str().put(text);
    }
}

/// Whether JSON cannot have this octet in a string as it is.
fn is_escaped(octet: u8) -> bool {
    octet < 0x20 || octet == b'"' || octet == b'\\'
}

fn quoted(plain: &[u8], text: &mut Vec<u8>) {
    text.push(b'"');
    text.extend_from_slice(plain);
    text.push(b'"');
}

/// Writes what comes before a member's value, which is JSON already, and the value.
pub(super) fn member(text: &mut Vec<u8>, before: &str, value: impl Put) {
    text.extend_from_slice(before.as_bytes());
    value.put(text);
}

/// Writes `record` as [`super::alert_json`] shows it, with its last event, behind `text`. A test holds the two against each
/// other.
pub(super) fn write(record: &AlertRecord, event: Option<&RawValue>, text: &mut Vec<u8>) {
    let by_hand = record.by_hand.as_deref();
    member(text, "{\"acknowledged_at\":", by_hand.and_then(|hand| hand.acknowledged_at));
    member(text, ",\"acknowledged_by\":", by_hand.and_then(|hand| hand.acknowledged_by.as_deref()));
    member(text, ",\"alert\":", &*record.alert);
    member(text, ",\"annotations\":", Pairs(&record.annotations));
    member(text, ",\"change\":", record.change);
    member(text, ",\"closed_by\":", by_hand.and_then(|hand| hand.closed_by.as_deref()));
    member(text, ",\"count\":", record.count);
    member(text, ",\"event\":", event);
    member(text, ",\"first_seen\":", record.first_seen);
    member(text, ",\"flapping_since\":", record.flapping_since());
    member(text, ",\"id\":", record.id);
    member(text, ",\"key\":", SpacedKey(&record.key));
    member(text, ",\"labels\":", Pairs(&record.labels));
    member(text, ",\"last_seen\":", record.last_seen);
    member(text, ",\"muted_by\":", record.muted.map(|muted| muted.by));
    member(text, ",\"resolved_at\":", record.resolved_at);
    member(text, ",\"resolved_by\":", record.resolved_by.as_deref());
    member(text, ",\"severity\":", record.severity.as_str());
    member(text, ",\"state\":", record.state.as_str());
    text.push(b'}');
}

/// Writes `record` as a CloudEvent of `webhook` behind `text`; see [`super::cloudevents`].
pub(super) fn write_cloud_event(
    webhook: &str,
    record: &AlertRecord,
    event: Option<&RawValue>,
    text: &mut Vec<u8>,
) {
    text.extend_from_slice(b"{\"data\":");
    write(record, event, text);
    member(text, ",\"datacontenttype\":", "application/json");
    member(text, ",\"id\":", &*format!("{}-{}", record.id, record.change));
    member(text, ",\"source\":", &*format!("/nereus/{}", super::cloudevents::segment(webhook)));
    member(text, ",\"specversion\":", "1.0");
    member(text, ",\"subject\":", SpacedKey(&record.key));
    member(text, ",\"time\":", ended(record).unwrap_or(record.last_seen));
    member(text, ",\"type\":", &*format!("nereus.alert.{}", record.state.as_str()));
    text.push(b'}');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::delivery::format::with_event;
    use crate::delivery::tests::record;

    proptest! {
        #[test]
        fn any_alert_is_written_as_it_is_shown(
            key in "\\PC{0,20}|[\u{0}-\u{80}\"\\\\]{0,20}",
            pairs in proptest::collection::vec(("[a-c\"]{0,2}", any::<String>()), 0..6),
            time in any::<i64>(),
            alert in any::<String>(),
        ) {
            let mut given = record(3, 4);
            given.key = key.into();
            given.alert = alert.into();
            given.labels = pairs.iter().map(|(name, value)| (Arc::from(name.as_str()), value.clone())).collect();
            given.annotations = pairs.into_iter().rev().map(|(name, value)| (name.into(), value)).collect();
            given.last_seen = Timestamp(time);
            let mut text = Vec::new();
            write(&given, None, &mut text);
            let shown = serde_json::to_string(&with_event(&given, None)).unwrap();
            prop_assert_eq!(String::from_utf8(text).unwrap(), shown);
        }
    }
}
