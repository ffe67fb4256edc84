//! State delivery: a lane posts what each alert is now, for Alertmanager.
//!
//! A lane has told its endpoint of every change up to its position; what is later is *dirty* and goes out
//! as soon as it is committed. Beside that a *round* each minute sends all open alerts again, and for 15
//! minutes the resolved ones, since Alertmanager forgets over a restart, and ignores an end that its own slower
//! clock puts into the future.
//!
//! What keeps an endpoint from taking anything (no connection, 5xx, but also 401, 404 or a redirect) never
//! gives an alert up: the lane retries with backoff, each time with the newest state. Only what is refused
//! because of its contents (400, 413, 422) is narrowed down by halves; the single bad alert becomes a dead
//! letter and is posted again when it changes or when the webhook's settings do.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::SourceError;
use super::board::Refusals;
use super::format;
use super::lane::{Fresh, Lane};
use super::webhook::{Message, Outcome};
use crate::event::{AlertId, AlertRecord, Delivered, Timestamp};

/// A lane that delivers state.
pub(super) struct StateLane {
    lane: Lane,
    refused: Refusals,
    round: Option<Round>,
    next_round: Instant,
    /// The first round leaves out what this lane has posted as a change since it began there.
    first_round: Option<u64>,
}

/// One round of re-sends, page by page: open alerts first, then the resolved ones whose labels no open
/// alert has. Alertmanager tells alerts apart by labels alone: the old end would end the new alert.
struct Round {
    began: Instant,
    /// Part of the posts' ids: a re-send is not a retry.
    number: u64,
    at: Cursor,
    open: HashSet<u64>,
}

/// How far a round is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cursor {
    /// Behind this open alert.
    Open(AlertId),
    /// Behind the alert that ended then, with this number.
    Resolved(Timestamp, AlertId),
}

impl Cursor {
    /// Where it is behind `record`, of a page that was read from it.
    fn behind(self, record: &AlertRecord) -> Self {
        match self {
            Self::Open(_) => Self::Open(record.id),
            Self::Resolved(..) => Self::Resolved(record.resolved_at.unwrap_or(record.last_seen), record.id),
        }
    }
}

/// What a step did.
enum Step {
    Posted,
    Nothing,
    /// To be tried again once the lane says so.
    Failed,
}

/// How far a list was posted, and whether it stopped there.
struct Sent {
    done: usize,
    failed: bool,
}

impl StateLane {
    pub(super) fn new(lane: Lane) -> Self {
        let first_round = Some(lane.position);
        Self { lane, refused: Refusals::default(), round: None, next_round: Instant::now(), first_round }
    }

    pub(super) async fn run(mut self) {
        loop {
            match self.lane.refresh() {
                Fresh::Over => return,
                Fresh::Changed => {
                    if self.refused.any() {
                        self.round = None;
                        self.next_round = Instant::now();
                    }
                    self.refused.clear();
                }
                Fresh::Same => {}
            }
            let step = match self.post_dirty().await {
                Ok(Step::Nothing) => self.post_round().await,
                // While something always changes, what does not change has its turn too: it would end where it was
                // told last, once its hold is over.
                Ok(Step::Posted) => match self.post_round().await {
                    Ok(Step::Nothing) => Ok(Step::Posted),
                    other => other,
                },
                other => other,
            };
            match step {
                Ok(Step::Posted) => {}
                Ok(Step::Nothing) if self.lane.drains() => return,
                Ok(Step::Nothing) => {
                    let poll = Instant::now() + self.lane.context.timing.poll;
                    self.lane.wait(self.next_round.min(poll)).await;
                }
                Ok(Step::Failed) => {
                    if let Some(resume) = self.lane.resumes() {
                        self.lane.rest_until(resume).await;
                    }
                }
                Err(error) => {
                    self.lane.context.source_failed(&error);
                    self.lane.rest(self.lane.context.timing.source).await;
                }
            }
        }
    }

    /// Posts the next changes, if there are any.
    async fn post_dirty(&mut self) -> Result<Step, SourceError> {
        let most = self.lane.settings.batch.max.max(1);
        let mut page = self.changes(most).await?;
        if page.is_empty() {
            return Ok(Step::Nothing);
        }
        let wait = self.lane.settings.batch.wait;
        if page.len() < most && !wait.is_zero() {
            self.lane.rest(wait).await;
            if self.lane.is_over() {
                return Ok(Step::Posted);
            }
            page = self.changes(most).await?;
        }
        let Some(last) = page.last().map(|record| record.change) else { return Ok(Step::Nothing) };
        // Alertmanager has ended by itself what it was last told of longer ago than it holds alerts.
        let forgotten = before(self.lane.context.timing.hold);
        let list: Vec<_> = page
            .into_iter()
            .filter(|record| self.concerns(record))
            .filter(|record| format::ended(record).is_none_or(|ended| ended >= forgotten))
            .map(Arc::new)
            .collect();
        if let Some(round) = &mut self.round {
            let open = list.iter().filter(|record| format::ended(record).is_none());
            round.open.extend(open.map(|record| format::fingerprint(record)));
        }
        let Sent { done, failed } = self.send(&list, 0).await;
        let position = match failed {
            false => Some(last),
            true => done.checked_sub(1).map(|index| list[index].change),
        };
        if let Some(position) = position {
            self.lane.position = position;
            self.lane.board.passed(&self.lane.url, position, Vec::new());
            self.lane.context.settle(&self.lane.board).await;
        }
        Ok(if failed { Step::Failed } else { Step::Posted })
    }

    async fn changes(&self, most: usize) -> Result<Vec<AlertRecord>, SourceError> {
        let position = self.lane.position;
        let page = self.lane.context.ask(move |source| source.alerts_changed_after(position, most)).await?;
        Ok(page.into_iter().filter(|record| record.change > position).collect())
    }

    /// Posts the next page of the round that is due, if one is.
    async fn post_round(&mut self) -> Result<Step, SourceError> {
        if self.round.is_none() {
            if Instant::now() < self.next_round {
                return Ok(Step::Nothing);
            }
            self.round = Some(Round {
                began: Instant::now(),
                number: u64::try_from(Timestamp::now().0).unwrap_or(1),
                at: Cursor::Open(AlertId(0)),
                open: HashSet::new(),
            });
        }
        let Some(round) = &mut self.round else { return Ok(Step::Nothing) };
        let (at, number) = (round.at, round.number);
        let most = self.lane.settings.batch.max.max(1);
        let page = self.lane.context.ask(move |source| match at {
            Cursor::Open(after) => source.open_alerts_after(after, most),
            Cursor::Resolved(time, after) => source.alerts_resolved_after((time, after), most),
        });
        let page = page.await?;
        let Some(last) = page.last().map(|record| at.behind(record)).filter(|last| *last != at) else {
            match at {
                Cursor::Open(_) => {
                    let since = before(self.lane.context.timing.resolved_for);
                    round.at = Cursor::Resolved(since, AlertId(0));
                    return Ok(Step::Posted);
                }
                Cursor::Resolved(..) => {
                    // A slow endpoint gets some rest between rounds that take longer than their interval.
                    let resend = self.lane.context.timing.resend;
                    self.next_round = (round.began + resend).max(Instant::now() + resend / 4);
                    self.round = None;
                    self.first_round = None;
                    return Ok(Step::Nothing);
                }
            }
        };
        let resolved = matches!(at, Cursor::Resolved(..));
        if !resolved {
            let told = page.iter().filter(|record| record.is_told());
            round.open.extend(told.map(format::fingerprint));
        }
        let superseded = |record: &AlertRecord| {
            self.round.as_ref().is_some_and(|round| round.open.contains(&format::fingerprint(record)))
        };
        let list: Vec<_> = page
            .into_iter()
            .filter(|record| self.concerns(record))
            // What is dirty goes out as such, at once.
            .filter(|record| record.change <= self.first_round.unwrap_or(self.lane.position))
            .filter(|record| !resolved || !superseded(record))
            .map(Arc::new)
            .collect();
        let Sent { done, failed } = self.send(&list, number).await;
        let reached = match failed {
            false => Some(last),
            true => done.checked_sub(1).map(|index| at.behind(&list[index])),
        };
        if let (Some(round), Some(reached)) = (&mut self.round, reached) {
            round.at = reached;
        }
        Ok(if failed { Step::Failed } else { Step::Posted })
    }

    /// Whether this lane posts `record`: it is for this webhook, no mute has kept it back from the beginning, and it was
    /// not refused as it is.
    fn concerns(&self, record: &AlertRecord) -> bool {
        let name = &self.lane.context.name;
        record.notify.as_ref().is_none_or(|names| names.contains(name))
            && record.is_told()
            && !self.refused.contains(record)
    }

    /// Posts `list` in order, by halves where its contents are refused.
    async fn send(&mut self, list: &[Arc<AlertRecord>], round: u64) -> Sent {
        let mut done = 0;
        let mut parts: Vec<Range<usize>> = Vec::new();
        if !list.is_empty() {
            parts.push(0..list.len());
        }
        while let Some(part) = parts.pop() {
            while let Err(turn) = self.lane.turn() {
                self.lane.rest_until(turn).await;
                if self.lane.is_over() {
                    break;
                }
            }
            if self.lane.is_over() {
                return Sent { done, failed: true };
            }
            let batch = &list[part.clone()];
            let body = format::alertmanager(batch, Timestamp::now(), self.lane.context.timing.hold);
            let changes = batch.iter().map(|record| (record.id, record.change));
            let id = format::post_id(&self.lane.context.name, round, changes);
            let message = Message { id, content_type: "application/json".into(), body: body.into() };
            match self.lane.post(message, batch.len()).await {
                Outcome::Taken => done = part.end,
                Outcome::Content { reason } => {
                    if let [record] = batch {
                        self.refuse(record, reason).await;
                        done = part.end;
                    } else {
                        let middle = part.start + batch.len() / 2;
                        parts.push(middle..part.end);
                        parts.push(part.start..middle);
                    }
                }
                Outcome::Again { .. } | Outcome::Refused { .. } => return Sent { done, failed: true },
            }
        }
        Sent { done, failed: false }
    }

    /// Sets `record` aside. Its dead letter is one, however many members of a cluster refuse it.
    async fn refuse(&mut self, record: &AlertRecord, reason: String) {
        self.refused.insert(record);
        if !self.lane.board.is_news(record, self.lane.again) {
            return;
        }
        self.lane.say_dead(record, &reason);
        let webhook = Arc::clone(&self.lane.context.name);
        let record = Box::new(record.clone());
        self.lane.context.report(Delivered::Dead { webhook, row: None, record, reason }).await;
    }
}

/// The time that lies `span` back.
fn before(span: Duration) -> Timestamp {
    Timestamp(Timestamp::now().0.saturating_sub(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
}
