//! `prometheus`: what Alertmanager itself posts to its webhook receivers, `{"alerts": […]}`.
//!
//! Programs that take Alertmanager's notifications (version 4) take this: `status`, `receiver`, `groupLabels`,
//! `commonLabels`, `commonAnnotations`, `externalURL`, and for each alert `status`, `labels`, `annotations`,
//! `startsAt`, `endsAt`, `generatorURL`, `fingerprint`. Each alert stands there as it was at its change; a `status`
//! of `resolved` for all of them says that none in the post is open.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{ended, labels, legal_pairs};
use crate::event::AlertRecord;

/// The end of an alert that is open.
const NEVER: &str = "0001-01-01T00:00:00Z";

pub(super) fn body(webhook: &str, alerts: &[&AlertRecord]) -> Value {
    let list: Vec<_> = alerts.iter().map(|record| alert(record)).collect();
    let open = alerts.iter().any(|record| ended(record).is_none());
    json!({
        "version": "4",
        "groupKey": format!("{{}}:{{nereus={webhook:?}}}"),
        "truncatedAlerts": 0,
        "status": status(open),
        "receiver": webhook,
        "groupLabels": {},
        "commonLabels": common(alerts.iter().map(|record| labels(record))),
        "commonAnnotations": common(alerts.iter().map(|record| legal_pairs(&record.annotations))),
        "externalURL": "",
        "alerts": list,
    })
}

fn status(open: bool) -> &'static str {
    if open { "firing" } else { "resolved" }
}

fn alert(record: &AlertRecord) -> Value {
    let end = ended(record);
    json!({
        "status": status(end.is_none()),
        "labels": labels(record),
        "annotations": legal_pairs(&record.annotations),
        "startsAt": record.first_seen,
        "endsAt": end.map_or_else(|| json!(NEVER), |end| json!(end.max(record.first_seen))),
        "generatorURL": "",
        "fingerprint": stable_fingerprint(record),
    })
}

/// Sixteen hexadecimal digits that stay the same for the same labels, in every run.
fn stable_fingerprint(record: &AlertRecord) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for (name, value) in labels(record) {
        for octet in name.bytes().chain([0xff]).chain(value.bytes()).chain([0xff]) {
            hash = (hash ^ u64::from(octet)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}

/// The pairs that every alert has.
fn common<'a>(
    mut sets: impl Iterator<Item = BTreeMap<Cow<'a, str>, &'a str>>,
) -> BTreeMap<Cow<'a, str>, &'a str> {
    let mut common = sets.next().unwrap_or_default();
    for set in sets {
        common.retain(|name, value| set.get(name) == Some(value));
    }
    common
}
