//! `cloudevents`: CloudEvents 1.0 over HTTP. With `batch.max: 1` in the structured mode
//! (`application/cloudevents+json`), else batched (`application/cloudevents-batch+json`).
//!
//! `source` and `id` together are unique, and the same when a change comes again: `id` is the alert's number and
//! that of the change. `type` is `nereus.alert.firing`, `….acknowledged` or `….resolved`; `data` is the alert as
//! the format `json` has it.

pub(super) const STRUCTURED: &str = "application/cloudevents+json; charset=utf-8";
pub(super) const BATCHED: &str = "application/cloudevents-batch+json; charset=utf-8";

/// A URI reference's segment (RFC 3986).
pub(super) fn segment(name: &str) -> String {
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
