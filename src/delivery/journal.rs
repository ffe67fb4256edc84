//! Sending on of events: a lane follows the journal, which is its queue.
//!
//! Nothing is written for an event that is to be sent on; what the store keeps is the number of the last one that was
//! sent (a dead letter aside). So a receiver that is away costs nothing but its place in the journal, and what it has
//! missed is there as long as the journal keeps it. What cannot be sent at all becomes a dead letter; one that is sent
//! again comes by the outbox.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use super::lane::{Fresh, Lane};
use super::output::{Framed, datagram};
use super::webhook::{Message, Outcome};
use super::{Events, OutboxRow, SourceError};
use crate::config::settings::{ForwardOutput, Output};
use crate::event::{
    AlertId, AlertOrigin, AlertRecord, AlertState, Delivered, EventId, EventRecord, KEY_SEPARATOR,
};
use crate::severity::Severity;

/// A lane that sends events on.
pub(super) struct JournalLane {
    lane: Lane,
    /// Rows of the outbox up to here are done.
    row: u64,
    /// At most so many events at once, since more were refused.
    narrow: usize,
    /// Where it ends: the newest event when it was told to drain.
    last: Option<EventId>,
    stored: watch::Receiver<u64>,
    /// Whether `stored` still has a sender.
    signals: bool,
}

/// What the store has for the lane.
struct Found {
    rows: Vec<(OutboxRow, Option<EventRecord>)>,
    events: Events,
}

/// What becomes of an event that is not sent.
struct Refused {
    row: Option<u64>,
    record: Box<AlertRecord>,
    reason: String,
}

/// What a step did.
enum Step {
    Sent,
    Nothing,
    /// To be tried again once the lane says so.
    Failed,
}

impl JournalLane {
    pub(super) fn new(lane: Lane) -> Self {
        let stored = lane.context.stored();
        Self { lane, row: 0, narrow: usize::MAX, last: None, stored, signals: true }
    }

    pub(super) async fn run(mut self) {
        loop {
            match self.lane.refresh() {
                Fresh::Over => return,
                Fresh::Changed => self.narrow = usize::MAX,
                Fresh::Same => {}
            }
            if let Some(resume) = self.lane.resumes() {
                self.lane.rest_until(resume).await;
                continue;
            }
            match self.step().await {
                Ok(Step::Sent) => {}
                Ok(Step::Nothing) if self.lane.drains() => return,
                Ok(Step::Nothing) => {
                    let poll = Instant::now() + self.lane.context.timing.poll;
                    tokio::select! {
                        stored = self.stored.changed(), if self.signals => self.signals = stored.is_ok(),
                        () = self.lane.wait(poll) => {}
                    }
                }
                // The lane says above until when it rests.
                Ok(Step::Failed) => {}
                Err(error) => {
                    self.lane.context.source_failed(&error);
                    self.lane.rest(self.lane.context.timing.source).await;
                }
            }
        }
    }

    /// Sends what comes next.
    async fn step(&mut self) -> Result<Step, SourceError> {
        let Some(Output::Forward(settings)) = self.lane.settings.output.clone() else {
            return Ok(Step::Nothing);
        };
        if self.lane.drains() && self.last.is_none() {
            self.last = Some(self.lane.context.ask(|source| source.newest_event()).await?);
        }
        // What comes while it is read wakes the next wait.
        self.stored.borrow_and_update();
        let Found { rows, events } = self.read().await?;
        if !rows.is_empty() {
            return Ok(self.send_rows(&settings, rows).await);
        }
        self.count_lost(events.lost);
        if events.upto.0 <= self.lane.position {
            return Ok(Step::Nothing);
        }
        let (mut good, mut refused) = (Vec::new(), Vec::new());
        for event in &events.events {
            match datagram(&settings, event) {
                Ok(datagram) => good.push((event, datagram)),
                Err(reason) => refused.push(Refused { row: None, record: Box::new(letter(event)), reason }),
            }
        }
        match self.send(good.iter().map(|(_, datagram)| &**datagram)).await {
            Outcome::Taken => self.narrow = usize::MAX,
            Outcome::Content { reason } | Outcome::Refused { reason } => match &good[..] {
                [(event, _)] => {
                    refused.push(Refused { row: None, record: Box::new(letter(event)), reason });
                    self.narrow = usize::MAX;
                }
                many => {
                    self.narrow = (many.len() / 2).max(1);
                    return Ok(Step::Sent);
                }
            },
            Outcome::Again { .. } => return Ok(Step::Failed),
        }
        for refused in refused {
            self.refuse(refused).await;
        }
        self.lane.position = events.upto.0;
        self.lane.board.passed(&self.lane.url, events.upto.0, Vec::new());
        self.lane.context.settle(&self.lane.board).await;
        Ok(Step::Sent)
    }

    /// Reads the next events, up to where the lane ends, and dead letters that are to be sent again.
    async fn read(&self) -> Result<Found, SourceError> {
        let most = self.lane.settings.batch.max.min(self.narrow).max(1);
        let (name, row, position) = (Arc::clone(&self.lane.context.name), self.row, self.lane.position);
        let ended = self.last.is_some_and(|last| position >= last.0);
        let asked = self.lane.context.ask(move |source| {
            let rows = source.outbox(&name, row, most)?.into_iter().map(|row| {
                let event = source.event(row.record.last_event)?;
                Ok((row, event))
            });
            let rows = rows.collect::<Result<Vec<_>, SourceError>>()?;
            let events = match rows.is_empty() && !ended {
                true => source.events_after(&name, EventId(position), most)?,
                false => Events { upto: EventId(position), ..Events::default() },
            };
            Ok(Found { rows, events })
        });
        asked.await
    }

    /// Sends dead letters again, one after the other: they are few.
    async fn send_rows(
        &mut self,
        settings: &ForwardOutput,
        rows: Vec<(OutboxRow, Option<EventRecord>)>,
    ) -> Step {
        for (row, event) in rows {
            let made = match &event {
                Some(event) => datagram(settings, event),
                None => Err("the event is no longer in the journal".to_owned()),
            };
            let reason = match made {
                Err(reason) => Some(reason),
                Ok(datagram) => match self.send(std::iter::once(&*datagram)).await {
                    Outcome::Taken => None,
                    Outcome::Content { reason } | Outcome::Refused { reason } => Some(reason),
                    Outcome::Again { .. } => return Step::Failed,
                },
            };
            self.row = row.row;
            match reason {
                Some(reason) => {
                    self.refuse(Refused { row: Some(row.row), record: Box::new(row.record), reason }).await;
                }
                None => self.lane.context.report(Delivered::Rows(vec![row.row])).await,
            }
        }
        Step::Sent
    }

    /// Sends datagrams as one write; nothing is a success.
    async fn send(&mut self, datagrams: impl Iterator<Item = &[u8]>) -> Outcome {
        let (mut framed, mut number) = (Framed::default(), 0);
        for datagram in datagrams {
            framed.push(datagram);
            number += 1;
        }
        if number == 0 {
            return Outcome::Taken;
        }
        while let Err(turn) = self.lane.turn() {
            self.lane.rest_until(turn).await;
            if self.lane.is_over() {
                return Outcome::unreached(String::new());
            }
        }
        let message = Message {
            id: String::new(),
            content_type: "application/octet-stream".into(),
            body: framed.into_octets().into(),
        };
        self.lane.post(message, number).await
    }

    async fn refuse(&mut self, refused: Refused) {
        let Refused { row, record, reason } = refused;
        self.lane.say_dead(&record, &reason);
        let webhook = Arc::clone(&self.lane.context.name);
        self.lane.context.report(Delivered::Dead { webhook, row, record, reason }).await;
    }

    fn count_lost(&self, events: u64) {
        if events == 0 {
            return;
        }
        self.lane.context.counters.events_lost.inc_by(events);
        warn!(
            component = "notifier", webhook = %self.lane.context.name, endpoint = %self.lane.url, events,
            "Retention has taken events away that were still to be sent on",
        );
    }
}

/// What a dead letter says of an event: its notification, device and number, in the form that dead letters have.
fn letter(event: &EventRecord) -> AlertRecord {
    let name: Arc<str> = match &event.trap_name {
        Some(name) => name.as_str().into(),
        None => event.trap_oid.to_string().into(),
    };
    let label = |name: &str, value: String| (Arc::<str>::from(name), value);
    AlertRecord {
        id: AlertId(event.id.0),
        change: event.id.0,
        key: format!("{name}{KEY_SEPARATOR}{}", event.source).into(),
        labels: vec![
            label("source", event.source.to_string()),
            label("trap", event.trap_oid.to_string()),
            label("version", event.version.to_string()),
        ],
        alert: name,
        rule: event.rule.as_deref().unwrap_or_default().into(),
        severity: event.severity.unwrap_or(Severity::Info),
        state: AlertState::Firing,
        annotations: Vec::new(),
        count: 1,
        first_seen: event.time,
        last_seen: event.time,
        last_event: event.id,
        resolved_at: None,
        resolved_by: None,
        quiet_until: None,
        expires_at: None,
        notify: None,
        by_hand: None,
        muted: None,
        flap: None,
        origin: AlertOrigin::Rule,
    }
}
