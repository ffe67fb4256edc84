//! What is posted. Pure: time is a parameter, nothing is read.
//!
//! # Alertmanager
//! A bare JSON array for `POST /api/v2/alerts`: `labels`, `annotations`, `startsAt`, `endsAt`. Names are
//! made legal (`[a-zA-Z_][a-zA-Z0-9_]*`), empty values are left out, as Alertmanager itself does.
//!
//! # JSON
//! ```json
//! {"version": 1, "webhook": "NAME", "alerts": [{
//!   "id": 1722470400000001, "change": 1722470400000007,
//!   "alert": "InterfaceDown", "severity": "major", "state": "firing",
//!   "key": "InterfaceDown 10.0.0.1 3",
//!   "labels": {"alertname": "InterfaceDown", "source": "10.0.0.1"},
//!   "annotations": {"summary": "…"},
//!   "count": 1, "first_seen": "2024-08-01T00:00:00.000000Z", "last_seen": "2024-08-01T00:00:00.000000Z",
//!   "resolved_at": null, "resolved_by": null,
//!   "acknowledged_at": null, "acknowledged_by": null, "closed_by": null, "muted_by": null, "flapping_since": null,
//!   "event": {"id": 1722470400000001, "…": "the last event, as `events --json` shows it; null once retention has removed it"}
//! }]}
//! ```
//! `state` is `firing`, `acknowledged` or `resolved`. The changes of one alert come in their order.
//! After a crash or a lost answer a change may come again, with the same `id` and `change`. New
//! members may be added under version 1; none changes its meaning.

mod alert;
mod cloudevents;
mod prometheus;
mod rehearsal;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

pub use rehearsal::rehearse;

use super::output::syslog_messages;
use super::webhook::Message;
use crate::config::settings::{Output, WebhookFormat, WebhookSettings};
use crate::event::{AlertId, AlertRecord, AlertState, KEY_SEPARATOR, Timestamp};
use crate::template::BodyTemplate;

/// `name` as Alertmanager takes it: every character outside `[a-zA-Z0-9_]` becomes `_`, and a `_` goes
/// before a leading digit or stands for an empty name. Legal names stay as they are.
#[must_use]
pub fn legal_name(name: &str) -> Cow<'_, str> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let prefix = name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit());
    if !prefix && name.chars().all(legal) {
        return Cow::Borrowed(name);
    }
    let prefix = prefix.then_some('_');
    Cow::Owned(prefix.into_iter().chain(name.chars().map(|c| if legal(c) { c } else { '_' })).collect())
}

/// Names made legal, empty values left out. Where two names become one, a name that was legal keeps it
/// and the others, in their alphabetical order, get `_2`, `_3`, …: the result depends on the set alone,
/// never on the order, since it is the alert's identity.
fn legal_pairs(pairs: &[(Arc<str>, String)]) -> BTreeMap<Cow<'_, str>, &str> {
    let mut legal = BTreeMap::new();
    let mut changed = BTreeSet::new();
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        match legal_name(name) {
            Cow::Borrowed(name) => {
                legal.insert(Cow::Borrowed(name), value.as_str());
            }
            Cow::Owned(new) => {
                changed.insert((&**name, new, value.as_str()));
            }
        }
    }
    for (_, name, value) in changed {
        let mut free = Cow::Owned(name.clone());
        let mut number = 2;
        while legal.contains_key(&free) {
            free = Cow::Owned(format!("{name}_{number}"));
            number += 1;
        }
        legal.insert(free, value);
    }
    legal
}

/// The labels that Alertmanager knows `record` by. It takes no alert without labels: the name is the last resort.
fn labels(record: &AlertRecord) -> BTreeMap<Cow<'_, str>, &str> {
    let mut labels = legal_pairs(&record.labels);
    if labels.is_empty() && !record.alert.is_empty() {
        labels.insert(Cow::Borrowed("alertname"), &record.alert);
    }
    labels
}

/// Equal for alerts that Alertmanager takes for one; within this run alone.
pub(super) fn fingerprint(record: &AlertRecord) -> u64 {
    let mut hasher = DefaultHasher::new();
    labels(record).hash(&mut hasher);
    hasher.finish()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PostableAlert<'a> {
    labels: BTreeMap<Cow<'a, str>, &'a str>,
    annotations: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    starts_at: Timestamp,
    ends_at: Timestamp,
}

/// The body for Alertmanager at `now`: an open alert ends at `now + hold` unless it is sent again, a
/// resolved one ended when it did; never before its start, which Alertmanager refuses.
pub(super) fn alertmanager(records: &[Arc<AlertRecord>], now: Timestamp, hold: Duration) -> Vec<u8> {
    let alerts: Vec<_> = records
        .iter()
        .map(|record| PostableAlert {
            labels: labels(record),
            annotations: annotations(record),
            starts_at: record.first_seen,
            ends_at: ended(record).unwrap_or_else(|| now.after(hold)).max(record.first_seen),
        })
        .collect();
    encoded(&alerts)
}

/// The texts for people, with what Nereus knows besides: that it flaps, that it is muted.
fn annotations(record: &AlertRecord) -> BTreeMap<Cow<'_, str>, Cow<'_, str>> {
    let mut texts: BTreeMap<_, _> =
        legal_pairs(&record.annotations).into_iter().map(|(name, text)| (name, text.into())).collect();
    if let Some(since) = record.flapping_since() {
        texts.entry("flapping".into()).or_insert_with(|| format!("since {since}").into());
    }
    if let Some(muted) = record.muted.filter(|_| record.state != AlertState::Resolved) {
        texts.entry("muted".into()).or_insert_with(|| format!("by mute {}", muted.by).into());
    }
    texts
}

/// When `record` ended; `None` while it is open.
pub(super) fn ended(record: &AlertRecord) -> Option<Timestamp> {
    (record.state == AlertState::Resolved).then(|| record.resolved_at.unwrap_or(record.last_seen))
}

/// One alert as Nereus' JSON shows it, everywhere.
#[must_use]
pub fn alert_json(record: &AlertRecord) -> Map<String, Value> {
    let pairs = |pairs: &[(Arc<str>, String)]| -> Map<String, Value> {
        pairs.iter().map(|(name, value)| (name.to_string(), Value::from(value.as_str()))).collect()
    };
    let by_hand = record.by_hand.as_deref();
    let value = json!({
        "id": record.id,
        "change": record.change,
        "alert": &*record.alert,
        "severity": record.severity,
        "state": record.state,
        "key": record.key.replace(KEY_SEPARATOR, " "),
        "labels": pairs(&record.labels),
        "annotations": pairs(&record.annotations),
        "count": record.count,
        "first_seen": record.first_seen,
        "last_seen": record.last_seen,
        "resolved_at": record.resolved_at,
        "resolved_by": record.resolved_by.as_deref(),
        "acknowledged_at": by_hand.and_then(|hand| hand.acknowledged_at),
        "acknowledged_by": by_hand.and_then(|hand| hand.acknowledged_by.as_deref()),
        "closed_by": by_hand.and_then(|hand| hand.closed_by.as_deref()),
        "muted_by": record.muted.map(|muted| muted.by),
        "flapping_since": record.flapping_since(),
    });
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// An alert as a post of one webhook will hold it. It is made where the alert's row is read, beside the posts in flight,
/// and the record is let go there.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) id: AlertId,
    change: u64,
    piece: Piece,
}

#[derive(Debug)]
enum Piece {
    /// Its octets.
    Text(Bytes),
    /// What a template reads.
    Tree(Map<String, Value>),
    /// Nothing that could be made before the post.
    Record(Box<AlertRecord>),
}

/// Whether posts of `settings` show the last event of an alert.
pub(super) fn shows_events(settings: &WebhookSettings) -> bool {
    match &settings.output {
        Some(Output::File(_)) => true,
        Some(Output::Syslog(_) | Output::Forward(_)) => false,
        None => !matches!(settings.format, WebhookFormat::Prometheus),
    }
}

impl Prepared {
    /// For posts of `settings`; each record stands with its last event, if that is known and shown. The texts of all share
    /// one allocation.
    ///
    /// # Errors
    /// The first that `alerts` has.
    pub(super) fn all<E>(
        settings: &WebhookSettings,
        alerts: impl Iterator<Item = Result<(AlertRecord, Option<Box<RawValue>>), E>>,
    ) -> Result<Vec<Self>, E> {
        let mut text = Vec::with_capacity(1024 * alerts.size_hint().0);
        let (mut all, mut ends) = (Vec::with_capacity(alerts.size_hint().0), Vec::new());
        for found in alerts {
            let (record, event) = found?;
            let event = event.as_deref();
            let (id, change) = (record.id, record.change);
            let piece = match (&settings.output, &settings.format) {
                (Some(Output::Syslog(_) | Output::Forward(_)), _) | (None, WebhookFormat::Prometheus) => {
                    Piece::Record(Box::new(record))
                }
                (None, WebhookFormat::Template { .. }) => Piece::Tree(with_event(&record, event)),
                (None, WebhookFormat::CloudEvents) => {
                    alert::write_cloud_event(&settings.name, &record, event, &mut text);
                    Piece::Text(Bytes::new())
                }
                (Some(Output::File(_)), _) | (None, WebhookFormat::Alertmanager | WebhookFormat::Json) => {
                    alert::write(&record, event, &mut text);
                    if settings.output.is_some() {
                        text.push(b'\n');
                    }
                    Piece::Text(Bytes::new())
                }
            };
            all.push(Self { id, change, piece });
            ends.push(text.len());
        }
        let (text, mut start) = (Bytes::from(text), 0);
        for (alert, end) in all.iter_mut().zip(ends) {
            if let Piece::Text(piece) = &mut alert.piece {
                *piece = text.slice(start..end);
            }
            start = end;
        }
        Ok(all)
    }

    fn record(&self) -> Option<&AlertRecord> {
        match &self.piece {
            Piece::Record(record) => Some(record),
            Piece::Text(_) | Piece::Tree(_) => None,
        }
    }

    fn tree(&self) -> Option<&Map<String, Value>> {
        match &self.piece {
            Piece::Tree(tree) => Some(tree),
            Piece::Text(_) | Piece::Record(_) => None,
        }
    }
}

/// The texts of `alerts`, with `before` before them, `between` between them, and `after` after them.
fn joined<'a>(alerts: impl Iterator<Item = &'a Prepared>, [before, between, after]: [&[u8]; 3]) -> Vec<u8> {
    let texts = alerts.filter_map(|alert| match &alert.piece {
        Piece::Text(text) => Some(&**text),
        Piece::Tree(_) | Piece::Record(_) => None,
    });
    let texts: Vec<_> = texts.collect();
    let octets: usize = texts.iter().map(|text| text.len() + between.len()).sum();
    let mut body = Vec::with_capacity(before.len() + octets + after.len());
    body.extend_from_slice(before);
    for (at, text) in texts.into_iter().enumerate() {
        if at > 0 {
            body.extend_from_slice(between);
        }
        body.extend_from_slice(text);
    }
    body.extend_from_slice(after);
    body
}

/// What a queued webhook posts of these alerts, which were prepared for these settings.
///
/// # Errors
/// A template that fails: why.
pub(super) fn queued<'a>(
    settings: &WebhookSettings,
    alerts: impl ExactSizeIterator<Item = &'a Prepared> + Clone,
) -> Result<Message, String> {
    const JSON: &str = "application/json";
    let id = post_id(&settings.name, 0, alerts.clone().map(|alert| (alert.id, alert.change)));
    let webhook = &*settings.name;
    let (content_type, body) = match (&settings.output, &settings.format) {
        (Some(Output::File(_)), _) => ("application/jsonl".into(), joined(alerts, [b"", b"", b""])),
        (Some(Output::Syslog(syslog)), _) => {
            let records = alerts.filter_map(Prepared::record);
            ("application/octet-stream".into(), syslog_messages(syslog, records))
        }
        // It is sent events by a lane of its own.
        (Some(Output::Forward(_)), _) => return Err("an SNMP receiver is told of no alert".to_owned()),
        (None, WebhookFormat::Alertmanager | WebhookFormat::Json) => {
            let end = format!("],\"version\":1,\"webhook\":{}}}", Value::from(webhook));
            (JSON.into(), joined(alerts, [b"{\"alerts\":[", b",", end.as_bytes()]))
        }
        (None, WebhookFormat::Prometheus) => {
            let records: Vec<_> = alerts.filter_map(Prepared::record).collect();
            (JSON.into(), encoded(&prometheus::body(webhook, &records)))
        }
        (None, WebhookFormat::CloudEvents) if settings.batch.max <= 1 && alerts.len() == 1 => {
            (cloudevents::STRUCTURED.into(), joined(alerts, [b"", b"", b""]))
        }
        (None, WebhookFormat::CloudEvents) => {
            (cloudevents::BATCHED.into(), joined(alerts, [b"[", b",", b"]"]))
        }
        (None, WebhookFormat::Template { body, content_type }) => {
            let text = templated(webhook, body, alerts.filter_map(Prepared::tree).collect())?;
            if content_type.contains("json")
                && let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&text)
            {
                return Err(format!("the template renders to what is no JSON: {error}"));
            }
            (Cow::Owned(content_type.to_string()), text.into_bytes())
        }
    };
    Ok(Message { id, content_type, body: body.into() })
}

/// The template's names: `webhook`; `alerts`, each as the format `json` has it; `alert`, the last of them; `status`,
/// `firing` if any of them is open, else `resolved`.
fn templated(webhook: &str, body: &BodyTemplate, alerts: Vec<&Map<String, Value>>) -> Result<String, String> {
    let open = alerts.iter().any(|alert| alert.get("state").is_none_or(|state| state != "resolved"));
    let context = json!({
        "webhook": webhook,
        "status": if open { "firing" } else { "resolved" },
        "alert": alerts.last(),
        "alerts": alerts,
    });
    body.render(&context, alerts.len()).map_err(|error| format!("the template fails: {error}"))
}

/// An alert as Nereus' JSON shows it, with its last event.
fn with_event(record: &AlertRecord, event: Option<&RawValue>) -> Map<String, Value> {
    let mut members = alert_json(record);
    let event = event.and_then(|event| serde_json::from_str(event.get()).ok());
    members.insert("event".to_owned(), event.unwrap_or(Value::Null));
    members
}

fn encoded(body: &impl Serialize) -> Vec<u8> {
    let mut text = Vec::new();
    encode(body, &mut text);
    text
}

/// Writes `body` behind `text`.
fn encode<T: Serialize + ?Sized>(body: &T, text: &mut Vec<u8>) {
    serde_json::to_writer(text, body).expect("maps with text keys encode into memory");
}

/// The `webhook-id` of a post: the same webhook, alerts and changes (and the same `round` of re-sends,
/// 0 for a change) give the same id, in this run and the next.
pub(super) fn post_id(webhook: &str, round: u64, changes: impl Iterator<Item = (AlertId, u64)>) -> String {
    // FNV-1a: stable over releases, which std's hashers do not promise.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut mix = |octets: &[u8]| {
        for octet in octets {
            hash = (hash ^ u64::from(*octet)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    mix(webhook.as_bytes());
    mix(&[0xff]);
    mix(&round.to_be_bytes());
    let (mut first, mut last) = (None, 0);
    for (alert, change) in changes {
        mix(&alert.0.to_be_bytes());
        mix(&change.to_be_bytes());
        first.get_or_insert(change);
        last = change;
    }
    format!("msg_{}_{last}_{hash:016x}", first.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::tests::record;
    use crate::event::{Flap, Held, MuteId, Muted};
    use proptest::prelude::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(Arc<str>, String)> {
        list.iter().map(|(name, value)| (Arc::from(*name), (*value).to_owned())).collect()
    }

    #[test]
    fn names_become_legal() {
        for (name, legal) in [
            ("alertname", "alertname"),
            ("_x9", "_x9"),
            ("ifTable.ifDescr", "ifTable_ifDescr"),
            ("9lives", "_9lives"),
            ("größe", "gr__e"),
            ("", "_"),
            ("a-b c", "a_b_c"),
            ("__name__", "__name__"),
        ] {
            assert_eq!(legal_name(name), legal);
        }
    }

    #[test]
    fn collisions_are_told_apart_and_empty_values_left_out() {
        let list = pairs(&[("a.b", "1"), ("a-b", "2"), ("a_b", "3"), ("a b", ""), ("a_b_2", "4")]);
        let legal = legal_pairs(&list);
        let legal: Vec<_> = legal.iter().map(|(name, value)| (&**name, *value)).collect();
        assert_eq!(legal, [("a_b", "3"), ("a_b_2", "4"), ("a_b_3", "2"), ("a_b_4", "1")]);
    }

    #[test]
    fn alertmanager_s_array_is_bare_and_says_when_it_ends() {
        let hold = Duration::from_secs(1800);
        let now = Timestamp(1_000_000_000);
        let mut open = record(1, 1);
        open.first_seen = Timestamp(900_000_000);
        open.annotations = pairs(&[("summary", "down"), ("runbook-url", "x"), ("empty", "")]);
        let mut resolved = record(2, 2);
        resolved.first_seen = Timestamp(900_000_000);
        resolved.state = AlertState::Resolved;
        resolved.resolved_at = Some(Timestamp(950_000_000));
        let mut backwards = resolved.clone();
        backwards.resolved_at = Some(Timestamp(1));
        let body = alertmanager(&[open.into(), resolved.into(), backwards.into()], now, hold);
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            body[0],
            json!({
                "labels": {"alertname": "Test", "number": "1"},
                "annotations": {"summary": "down", "runbook_url": "x"},
                "startsAt": "1970-01-01T00:15:00.000000Z",
                "endsAt": "1970-01-01T00:46:40.000000Z",
            })
        );
        assert_eq!(body[1]["endsAt"], "1970-01-01T00:15:50.000000Z");
        assert_eq!(
            body[2]["endsAt"], body[2]["startsAt"],
            "an end before the start is refused by Alertmanager"
        );
    }

    /// An alert with every member.
    fn everything() -> AlertRecord {
        let mut record = record(3, 4);
        record.state = AlertState::Resolved;
        record.resolved_at = Some(Timestamp(5));
        record.resolved_by = Some("operator".into());
        record.annotations = pairs(&[("z", "1"), ("a", "2")]);
        record.by_hand = Some(Box::new(crate::event::ByHand {
            acknowledged_by: Some("me".into()),
            acknowledged_at: Some(Timestamp(4)),
            closed_by: Some("you".into()),
        }));
        record
    }

    #[test]
    fn json_has_its_documented_members() {
        let record = record(7, 9);
        let settings = WebhookSettings { name: "log".into(), ..WebhookSettings::default() };
        let event = serde_json::value::to_raw_value(&json!({"id": 3})).unwrap();
        let alerts = [Some(event.clone()), None].map(|event| Ok::<_, ()>((record.clone(), event)));
        let alerts = Prepared::all(&settings, alerts.into_iter()).unwrap();
        let body = queued(&settings, alerts.iter()).unwrap().body;
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&body["version"], &body["webhook"]), (&json!(1), &json!("log")));
        let names: Vec<_> = body["alerts"][0].as_object().unwrap().keys().map(String::as_str).collect();
        let mut expected = vec![
            "id",
            "change",
            "alert",
            "severity",
            "state",
            "key",
            "labels",
            "annotations",
            "count",
            "first_seen",
            "last_seen",
            "resolved_at",
            "resolved_by",
            "acknowledged_at",
            "acknowledged_by",
            "closed_by",
            "muted_by",
            "flapping_since",
            "event",
        ];
        expected.sort_unstable();
        assert_eq!(names, expected);
        assert_eq!(body["alerts"][0]["event"], json!({"id": 3}));
        for record in [record.clone(), everything()] {
            let tree = with_event(&record, Some(&event));
            let mut written = Vec::new();
            alert::write(&record, Some(&event), &mut written);
            assert_eq!(String::from_utf8(written).unwrap(), serde_json::to_string(&tree).unwrap());
        }
        assert_eq!(body["alerts"][1]["event"], Value::Null);
        assert_eq!(body["alerts"][0]["state"], "firing");
    }

    #[test]
    fn people_read_that_it_flaps_and_that_it_is_muted() {
        let mut alert = record(1, 1);
        alert.annotations = vec![("muted".into(), "the rule's own".to_owned())];
        alert.muted = Some(Muted { by: MuteId(7), unheard: false });
        let held =
            Held { since: Timestamp(0), until: Timestamp(9), said: None, by: crate::event::EventId(1) };
        alert.flap = Some(Box::new(Flap { changes: Vec::new(), held: Some(held) }));
        let read = |alert: &AlertRecord| {
            let body = alertmanager(&[Arc::new(alert.clone())], Timestamp(0), Duration::from_secs(1));
            let body: Value = serde_json::from_slice(&body).unwrap();
            (body[0]["annotations"].clone(), body[0]["labels"].clone())
        };
        let (annotations, labels) = read(&alert);
        assert_eq!(
            annotations,
            json!({"flapping": "since 1970-01-01T00:00:00.000000Z", "muted": "the rule's own"})
        );
        alert.annotations.clear();
        assert_eq!(read(&alert).0["muted"], "by mute 7");
        (alert.muted, alert.flap) = (None, None);
        assert_eq!(read(&alert), (json!({}), labels), "the same alert");
    }

    #[test]
    fn a_post_s_id_is_its_contents() {
        let (one, two) = (record(1, 1), record(2, 2));
        let id = |webhook, round, list: &[&AlertRecord]| {
            post_id(webhook, round, list.iter().map(|alert| (alert.id, alert.change)))
        };
        assert_eq!(id("a", 0, &[&one, &two]), id("a", 0, &[&one, &two]));
        let others = [
            id("b", 0, &[&one, &two]),
            id("a", 1, &[&one, &two]),
            id("a", 0, &[&two, &one]),
            id("a", 0, &[&one]),
        ];
        assert!(!others.contains(&id("a", 0, &[&one, &two])));
        assert_eq!(id("a", 0, &[&one, &two]), "msg_1_2_07a3aeb11f019de9", "stable over releases");
    }

    proptest! {
        #[test]
        fn any_labels_become_legal_and_none_is_lost(
            names in proptest::collection::btree_set(".{0,6}|[a_.-]{0,3}", 0..12), turn in 0usize..12,
        ) {
            let mut list: Vec<(Arc<str>, String)> =
                names.iter().map(|name| (Arc::from(name.as_str()), format!("value of {name}"))).collect();
            let legal = legal_pairs(&list);
            prop_assert_eq!(legal.len(), list.len());
            for name in legal.keys() {
                let mut chars = name.chars();
                prop_assert!(chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_'));
                prop_assert!(chars.all(|c| c.is_ascii_alphanumeric() || c == '_'));
            }
            for (name, value) in &list {
                if legal_name(name) == **name {
                    prop_assert_eq!(legal.get(&**name), Some(&value.as_str()));
                }
                prop_assert!(legal.values().any(|kept| kept == value));
            }
            let owned: Vec<_> = legal.into_iter().map(|(n, v)| (n.into_owned(), v.to_owned())).collect();
            let length = list.len().max(1);
            if turn < length && turn < list.len() { list.rotate_left(turn); }
            let again: Vec<_> =
                legal_pairs(&list).into_iter().map(|(n, v)| (n.into_owned(), v.to_owned())).collect();
            prop_assert_eq!(owned, again, "the order does not matter");
        }
    }
}
