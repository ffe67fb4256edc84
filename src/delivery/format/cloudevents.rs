//! `cloudevents`: CloudEvents 1.0 over HTTP. With `batch.max: 1` in the structured mode
//! (`application/cloudevents+json`), else batched (`application/cloudevents-batch+json`).
//!
//! `source` and `id` together are unique, and the same when a change comes again: `id` is the alert's number and
//! that of the change. `type` is `nereus.alert.firing`, `….acknowledged` or `….resolved`; `data` is the alert as
//! the format `json` has it.

use serde::Serialize;

use super::{AlertView, SpacedKey, ended};
use crate::event::{AlertRecord, Timestamp};

pub(super) const STRUCTURED: &str = "application/cloudevents+json; charset=utf-8";
pub(super) const BATCHED: &str = "application/cloudevents-batch+json; charset=utf-8";

#[derive(Serialize)]
pub(super) struct Event<'a> {
    data: AlertView<'a>,
    datacontenttype: &'static str,
    id: String,
    source: String,
    specversion: &'static str,
    subject: SpacedKey<'a>,
    time: Timestamp,
    r#type: String,
}

impl<'a> Event<'a> {
    pub(super) fn new(webhook: &str, record: &'a AlertRecord, data: AlertView<'a>) -> Self {
        Self {
            data,
            datacontenttype: "application/json",
            id: format!("{}-{}", record.id, record.change),
            source: format!("/nereus/{}", encoded(webhook)),
            specversion: "1.0",
            subject: SpacedKey(&record.key),
            time: ended(record).unwrap_or(record.last_seen),
            r#type: format!("nereus.alert.{}", record.state.as_str()),
        }
    }
}

/// A URI reference's segment (RFC 3986).
fn encoded(name: &str) -> String {
    let mut out = String::new();
    for octet in name.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            out.push(char::from(octet));
        } else {
            out.push_str(&format!("%{octet:02X}"));
        }
    }
    out
}
