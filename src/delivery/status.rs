//! What the webhooks are at, for people and programs.

use serde::Serialize;

use crate::event::Timestamp;

/// A webhook and its endpoints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WebhookStatus {
    /// Its name.
    pub name: String,
    /// What is posted; `file` or `syslog` for an output.
    pub format: &'static str,
    /// Alert changes that wait; `None` while the store does not answer.
    pub queued: Option<u64>,
    /// Since when the oldest of them waits.
    pub oldest: Option<Timestamp>,
    /// `run`, or `drain`: the settings no longer have it, and what was queued is still delivered.
    pub duty: &'static str,
    /// Its URLs.
    pub endpoints: Vec<EndpointStatus>,
}

/// One URL of a webhook. Paths, queries and user names are not shown: tokens live there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EndpointStatus {
    /// Scheme, host and port.
    pub url: String,
    /// `closed`, `open` or `half_open`.
    pub breaker: &'static str,
    /// Failed posts since the last that was answered well.
    pub failures: u32,
    /// When the next post may go out, if it has to wait: for the breaker, a retry or the rate limit.
    pub next_attempt: Option<Timestamp>,
    /// Whether it waits for the rate limit.
    pub rate_limited: bool,
    /// Posts that wait for their answer.
    pub in_flight: usize,
    /// When a post was taken last, since the start or the last change of settings.
    pub last_success: Option<Timestamp>,
    /// When a post failed last.
    pub last_failure: Option<Timestamp>,
    /// Why; without secrets.
    pub last_error: Option<String>,
}
