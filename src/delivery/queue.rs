//! Delivery of queued events: a lane posts the rows of the outbox in their order.
//!
//! The order is strict: what cannot be posted now is retried before anything later is posted, so that
//! the changes of an alert never overtake each other. After a failure the next post holds half as many
//! rows, down to one, and after a success twice as many: one row that breaks its endpoint uses up its
//! attempts alone. What is refused, or has failed `retry.attempts` times, becomes a dead letter.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::board::Lost;
use super::lane::{Fresh, Lane};
use super::webhook::Outcome;
use super::{OutboxRow, SourceError, format};
use crate::event::{AlertRecord, Delivered, Timestamp};

/// The longest that a stored `not_before` is believed, whatever the clock did in between.
const LONGEST_STORED_PAUSE: Duration = Duration::from_secs(3600);

/// A lane that delivers queued events.
pub(super) struct QueueLane {
    lane: Lane,
    /// At most so many rows in the next post.
    width: usize,
    /// Posts in vain, of rows that this lane has tried.
    attempts: BTreeMap<u64, u32>,
    /// Whether the attempts that the store has are this lane's own, from before a restart. They are read
    /// once: later ones are in memory, and other lanes store theirs in the same rows.
    resumes: bool,
    /// Whether it waits for a slower lane.
    waits: bool,
}

enum Step {
    Posted,
    Nothing,
    Pause(Duration),
}

impl QueueLane {
    /// `resumes`: whether it goes on with what was queued before a restart.
    pub(super) fn new(lane: Lane, resumes: bool) -> Self {
        Self { lane, width: usize::MAX, attempts: BTreeMap::new(), resumes, waits: false }
    }

    pub(super) async fn run(mut self) {
        loop {
            match self.lane.refresh() {
                Fresh::Over => return,
                Fresh::Changed => {
                    self.attempts.clear();
                    self.resumes = false;
                    self.width = usize::MAX;
                }
                Fresh::Same => {}
            }
            match self.step().await {
                Ok(Step::Posted) => {}
                Ok(Step::Nothing) => {
                    let poll = Instant::now() + self.lane.context.timing.poll;
                    self.lane.wait(poll).await;
                }
                Ok(Step::Pause(span)) => self.lane.rest(span).await,
                Err(error) => {
                    self.lane.context.source_failed(&error);
                    self.lane.rest(self.lane.context.timing.source).await;
                }
            }
        }
    }

    async fn step(&mut self) -> Result<Step, SourceError> {
        let full = self.lane.board.is_full(&self.lane.url);
        if full && !self.waits {
            warn!(
                component = "notifier", webhook = %self.lane.context.name, endpoint = %self.lane.url,
                "This endpoint waits for a slower one of the same webhook",
            );
        }
        self.waits = full;
        if full {
            return Ok(Step::Pause(self.lane.context.timing.source));
        }
        let most = self.lane.settings.batch.max.max(1).min(self.width);
        let mut rows = self.rows(most).await?;
        let Some(first) = rows.first() else { return Ok(Step::Nothing) };
        if std::mem::take(&mut self.resumes) {
            let (now, not_before) = (Timestamp::now(), first.not_before);
            self.lane.failures = first.attempts;
            self.attempts = rows.iter().map(|row| (row.row, row.attempts)).collect();
            if not_before > now {
                return Ok(Step::Pause(not_before.since(now).min(LONGEST_STORED_PAUSE)));
            }
        }
        let wait = self.lane.settings.batch.wait;
        if rows.len() < most && !wait.is_zero() {
            self.lane.rest(wait).await;
            if self.lane.is_over() {
                return Ok(Step::Posted);
            }
            rows = self.rows(most).await?;
        }
        let events = rows.iter().map(|row| row.record.last_event).collect::<Vec<_>>();
        let events = self
            .lane
            .context
            .ask(move |source| events.into_iter().map(|event| source.event_json(event)).collect())
            .await?;
        Ok(self.send(&rows, events).await)
    }

    async fn rows(&self, most: usize) -> Result<Vec<OutboxRow>, SourceError> {
        let (name, position) = (Arc::clone(&self.lane.context.name), self.lane.position);
        let rows = self.lane.context.ask(move |source| source.outbox(&name, position, most)).await?;
        Ok(rows.into_iter().filter(|row| row.row > position).collect())
    }

    /// Posts `rows` in order, by halves where their contents are refused.
    async fn send(&mut self, rows: &[OutboxRow], events: Vec<Option<serde_json::Value>>) -> Step {
        let mut parts: Vec<Range<usize>> = Vec::new();
        if !rows.is_empty() {
            parts.push(0..rows.len());
        }
        while let Some(part) = parts.pop() {
            if self.lane.is_over() {
                return Step::Posted;
            }
            let batch = &rows[part.clone()];
            let records = || batch.iter().map(|row| &row.record);
            let name = &self.lane.context.name;
            let body = format::json(name, records().zip(events[part.clone()].iter().cloned()));
            let id = format::post_id(name, 0, records());
            match self.lane.post(body, &id, batch.len()).await {
                Outcome::Taken => {
                    self.width = self.width.saturating_mul(2);
                    self.pass(batch, None).await;
                }
                Outcome::Content { .. } if batch.len() > 1 => {
                    let middle = part.start + batch.len() / 2;
                    parts.push(middle..part.end);
                    parts.push(part.start..middle);
                }
                Outcome::Content { reason } | Outcome::Refused { reason } => {
                    // The endpoint has spoken its last word: the next row is not its retry.
                    self.lane.failures = 0;
                    self.pass(batch, Some(&reason)).await;
                }
                Outcome::Again { reason, after } => return self.again(batch, &reason, after).await,
            }
        }
        Step::Posted
    }

    /// After a post that may pass later: gives up the rows whose attempts are used up, keeps the others for after the pause.
    async fn again(&mut self, batch: &[OutboxRow], reason: &str, asked: Option<Duration>) -> Step {
        self.width = (batch.len() / 2).max(1);
        let pause = self.lane.pause(asked);
        let not_before = Timestamp::now().after(pause);
        let mut kept = Vec::new();
        for row in batch {
            let attempts = self.attempts.entry(row.row).or_default();
            *attempts = attempts.saturating_add(1);
            kept.push((row.row, *attempts, not_before));
        }
        // Earlier rows have been tried at least as often as later ones.
        let most = self.lane.settings.retry.attempts.max(1);
        let given_up = kept.iter().take_while(|(_, attempts, _)| *attempts >= most).count();
        if given_up > 0 {
            let reason = format!("{reason} (after {most} attempts)");
            self.pass(&batch[..given_up], Some(&reason)).await;
        }
        kept.drain(..given_up);
        if !kept.is_empty() {
            self.lane.context.report(Delivered::Retry { rows: kept }).await;
        }
        Step::Pause(pause)
    }

    /// `batch` is behind this lane: taken, or refused for `reason`.
    async fn pass(&mut self, batch: &[OutboxRow], reason: Option<&str>) {
        let Some(last) = batch.last() else { return };
        let lost = |record: &AlertRecord| {
            reason.map(|reason| Lost { record: Box::new(record.clone()), reason: reason.to_owned() })
        };
        let rows = batch.iter().map(|row| (row.row, lost(&row.record))).collect();
        if let Some(reason) = reason {
            for row in batch {
                self.lane.say_dead(&row.record, reason);
            }
        }
        self.lane.position = last.row;
        self.attempts = self.attempts.split_off(&(last.row + 1));
        self.lane.board.passed(&self.lane.url, last.row, rows);
        self.lane.context.settle(&self.lane.board).await;
    }
}
