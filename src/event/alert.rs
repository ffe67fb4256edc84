//! Alerts as they travel from the correlator to the disk and on to the webhooks.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Event, EventId, Muted, QueueEntry, Timestamp};
use crate::severity::Severity;

/// An alert's number: unique, rising, stable over restarts; built as an [`EventId`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct AlertId(pub u64);

impl fmt::Display for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// Open.
    Firing,
    /// Open, and somebody has taken it.
    Acknowledged,
    /// Ended; it never opens again (the next one has a number of its own).
    Resolved,
}

impl AlertState {
    /// The name as it stands in JSON and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
        }
    }
}

/// One alert, whole: what the derived state stores and what webhooks are told.
///
/// `labels` is its identity (alertname, severity, source, key parts, the rule's labels), frozen while
/// it is open. When the severity or a label changes, this alert ends and another one begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertRecord {
    /// Its number.
    pub id: AlertId,
    /// The number of the state change that made this version: rising over all alerts, so that a webhook
    /// can say up to where it has been told.
    pub change: u64,
    /// Its name.
    pub alert: Arc<str>,
    /// The rule that raised it.
    pub rule: Arc<str>,
    /// How bad it is.
    pub severity: Severity,
    /// Where it stands.
    pub state: AlertState,
    /// What finds it: alert name and key parts joined by the unit separator.
    pub key: Box<str>,
    /// The identity, sorted by name.
    pub labels: Vec<(Arc<str>, String)>,
    /// For people; newest rendering.
    pub annotations: Vec<(Arc<str>, String)>,
    /// How often it was raised, repeats included.
    pub count: u64,
    /// The first event's time.
    pub first_seen: Timestamp,
    /// The newest event's time.
    pub last_seen: Timestamp,
    /// The newest event.
    pub last_event: EventId,
    /// When it ended.
    pub resolved_at: Option<Timestamp>,
    /// What ended it: `trap`, `severity`, `labels`, `expire`, `superseded`, `reload`, `operator`…
    pub resolved_by: Option<Arc<str>>,
    /// Repeats before this time send nothing.
    pub quiet_until: Option<Timestamp>,
    /// It ends at this time if nothing repeats it.
    pub expires_at: Option<Timestamp>,
    /// Webhooks by name; `None` is every one.
    pub notify: Option<Arc<[Arc<str>]>>,
    /// What operators did with it. Boxed: most alerts come and go without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_hand: Option<Box<ByHand>>,
    /// What mutes it; for an ended one, what muted it at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted: Option<Muted>,
    /// How it has come and gone lately, where its rule looks at that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flap: Option<Box<Flap>>,
    /// What raised it.
    #[serde(default, skip_serializing_if = "AlertOrigin::is_rule")]
    pub origin: AlertOrigin,
}

impl AlertRecord {
    /// Whether those who are told each change (event webhooks) hear of this one. Of a muted alert they hear the
    /// end alone, and that only if they heard of its beginning.
    #[must_use]
    pub fn is_news(&self) -> bool {
        self.muted.is_none_or(|muted| self.state == AlertState::Resolved && !muted.unheard)
    }

    /// Whether those who are told what the alert is now (Alertmanager) know of it. One that began while it was
    /// muted is told once it no longer is. One that they knew before goes on to be told as it is: to fall
    /// silent about it would let them take it for ended.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.muted.is_none_or(|muted| !muted.unheard)
    }

    /// Since when it flaps.
    #[must_use]
    pub fn flapping_since(&self) -> Option<Timestamp> {
        self.flap.as_ref().and_then(|flap| flap.held.as_ref()).map(|held| held.since)
    }
}

/// What raised an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertOrigin {
    /// A rule of the settings or a built-in one.
    #[default]
    Rule,
    /// Storm control: one source raised too many alerts.
    Storm,
    /// A heartbeat that did not come.
    Heartbeat,
}

impl AlertOrigin {
    /// Whether a rule did.
    #[must_use]
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
    pub fn is_rule(&self) -> bool {
        *self == Self::Rule
    }
}

/// How an alert comes and goes. For an open one, up to its last beginning or end; an ended one keeps it, so that
/// the next of its key goes on from there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flap {
    /// When it changed, oldest first: as many as the rule counts, inside its window.
    pub changes: Vec<Timestamp>,
    /// Set while it flaps. Never left out: forms without names need each member in its place.
    #[serde(default)]
    pub held: Option<Held>,
}

/// An alert that flaps: it is held open, whatever comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Since when.
    pub since: Timestamp,
    /// It is let go at this time, unless it changes before.
    pub until: Timestamp,
    /// What the last notification said: this severity, or that it has ended.
    pub said: Option<Severity>,
    /// Which notification said so last.
    pub by: EventId,
}

/// What operators did with an alert. Names are what they called themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ByHand {
    /// Who acknowledged it first.
    pub acknowledged_by: Option<Arc<str>>,
    /// When.
    pub acknowledged_at: Option<Timestamp>,
    /// Who closed it; when is [`AlertRecord::resolved_at`].
    pub closed_by: Option<Arc<str>>,
}

/// A new version of an alert and who must hear of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertChange {
    /// The alert as it is now.
    pub record: Arc<AlertRecord>,
    /// Event-format webhooks (not Alertmanager, which reads the state) that get an outbox row for it.
    pub queue_for: Vec<Arc<str>>,
}

/// An event with the correlator's decision: one row of the journal. The decision is stored with the
/// event, so that the derived state can be made again from the journal alone.
#[derive(Debug)]
pub struct Decided {
    /// Its number.
    pub id: EventId,
    /// The event.
    pub event: Event,
    /// Whether it gets a row; a repeat that gets none counts as deduplicated.
    pub row: bool,
    /// The alert that it belongs to, first effect first.
    pub alert: Option<AlertId>,
    /// The alerts that it changed (a repeat inside its window changes none).
    pub changes: Vec<AlertChange>,
}

/// What a webhook's worker has done, for the writer to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivered {
    /// A state webhook (Alertmanager) knows every change up to this one; what is sent events has every event up to it.
    UpTo {
        /// The webhook.
        webhook: Arc<str>,
        /// The last change that it knows, or the last event that it has.
        change: u64,
    },
    /// These outbox rows are done.
    Rows(Vec<u64>),
    /// These outbox rows failed and are tried again later.
    Retry {
        /// Row, attempts so far, not before.
        rows: Vec<(u64, u32, Timestamp)>,
    },
    /// This outbox row (or state change, with `row: None`) was refused for good.
    Dead {
        /// The webhook.
        webhook: Arc<str>,
        /// The outbox row that it was.
        row: Option<u64>,
        /// The alert as it was posted.
        record: Box<AlertRecord>,
        /// Why, as the endpoint or the network said it; bounded, without secrets.
        reason: String,
    },
}

impl Delivered {
    /// About what it holds besides itself.
    fn octets(&self) -> usize {
        match self {
            Self::UpTo { .. } => 0,
            Self::Rows(rows) => size_of_val(&rows[..]),
            Self::Retry { rows } => size_of_val(&rows[..]),
            Self::Dead { reason, .. } => RECORD_OCTETS + reason.len(),
        }
    }
}

/// What is to be done with dead letters.
#[derive(Debug)]
pub struct DeadLetterRequest {
    /// Queue them again, or forget them.
    pub deed: DeadLetterDeed,
    /// Of these webhooks alone.
    pub webhooks: Vec<Arc<str>>,
    /// These alone; `None` is all of the webhooks'.
    pub ids: Option<Vec<u64>>,
    /// The oldest so many.
    pub limit: usize,
    /// Told once it is in the state: how many it were.
    pub done: std::sync::mpsc::SyncSender<u64>,
}

/// What is to be done with a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadLetterDeed {
    /// It becomes a row of its webhook's outbox, behind what is queued.
    Resend,
    /// It goes.
    Purge,
}

/// What an alert's record takes, roughly: the queue's bound is on memory, not on exactness.
const RECORD_OCTETS: usize = 1024;

/// What the writer is asked to do.
#[derive(Debug)]
pub enum Command {
    /// Commit an event, answer it, apply its changes.
    Event(Box<Decided>),
    /// Apply changes that no event made: time ran out, an operator spoke.
    Changes(Vec<AlertChange>),
    /// Newer counts of open alerts, without a change: alert, count, last seen, last event.
    Counts(Vec<(AlertId, u64, Timestamp, EventId)>),
    /// A webhook's progress.
    Delivered(Delivered),
    /// Dead letters are sent again or forgotten.
    DeadLetters(DeadLetterRequest),
    /// How long and how much of the past is kept from now on.
    Retention {
        /// Events and ended alerts of this age go.
        age: std::time::Duration,
        /// The oldest go beyond so many octets.
        octets: u64,
    },
    /// Commit what came before, then tell.
    Flush(std::sync::mpsc::SyncSender<()>),
    /// Commit what came before, then end.
    Stop,
}

impl QueueEntry for Command {
    fn octets(&self) -> usize {
        let changes = |changes: &[AlertChange]| changes.len() * RECORD_OCTETS;
        size_of::<Self>()
            + match self {
                Self::Event(decided) => {
                    size_of::<Decided>() + decided.event.octets() + changes(&decided.changes)
                }
                Self::Changes(list) => changes(list),
                Self::Counts(list) => list.len() * 32,
                Self::Delivered(delivered) => delivered.octets(),
                Self::DeadLetters(request) => 256 + request.ids.as_ref().map_or(0, |ids| ids.len() * 8),
                Self::Retention { .. } | Self::Flush(_) | Self::Stop => 0,
            }
    }

    fn is_urgent(&self) -> bool {
        match self {
            Self::Event(decided) => decided.event.is_urgent(),
            Self::Changes(_) | Self::Counts(_) | Self::Delivered(_) => false,
            Self::DeadLetters(_) | Self::Retention { .. } | Self::Flush(_) | Self::Stop => true,
        }
    }
}
