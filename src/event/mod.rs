//! What travels from the receivers to the disk: owned events, the decisions on them, and the queues between threads.
//!
//! Nothing here borrows a Snapshot or a datagram: an [`Event`] outlives both.
//!
//! ```compile_fail
//! // An Event stores no borrow: its datagram is owned.
//! fn keep<'a>(event: &mut nereus::event::Event, datagram: &'a [u8]) {
//!     event.datagram = datagram;
//! }
//! ```
//! ```
//! fn keep(event: &mut nereus::event::Event, datagram: &[u8]) {
//!     event.datagram = datagram.into();
//! }
//! ```

mod alert;
mod answer;
mod mute;
mod operator;
mod queue;
mod timestamp;
mod watch;

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

pub use alert::{
    AlertChange, AlertId, AlertOrigin, AlertRecord, AlertState, ByHand, Command, DeadLetterDeed,
    DeadLetterRequest, Decided, Delivered, Flap, Held,
};
pub use answer::Answer;
pub use mute::{Matchers, Mute, MuteEnd, MuteId, MuteState, Muted, SourceMatcher};
pub use operator::{Deed, OperatorRequest, Operators, Outcome, Unanswered, operator_name};
pub use queue::{Queue, QueueEntry};
pub use timestamp::Timestamp;
pub use watch::{DeviceNames, Heartbeat, Raises, StormControl, Watch};

use crate::device::Device;
use crate::metrics::DropReason;
use crate::oid::Oid;
use crate::severity::Severity;
pub use crate::version::Version;

/// The number of a published Snapshot; 1 is the first, and it never goes back (a rollback is a new number).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An event's number: unique, rising in the order in which the correlator took the events, stable over
/// restarts. It is the larger of the clock's microseconds and one more than the number before, so that
/// it fits a JSON number and tells roughly when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct EventId(pub u64);

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the pure processing says of one datagram.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "it moves on into the handoff at once; a box costs an allocation an event"
)]
pub enum Verdict {
    /// It is an event.
    Accepted(Event),
    /// It is none, for a reason that is counted.
    Dropped(DropReason),
}

/// One accepted notification, owned.
#[derive(Debug)]
pub struct Event {
    /// When the datagram was received.
    pub time: Timestamp,
    /// The Snapshot that decided on it.
    pub generation: Generation,
    /// The listener's place in the settings of that generation.
    pub listener: u16,
    /// Who sent the datagram.
    pub peer: SocketAddr,
    /// The device it speaks of.
    pub source: Device,
    /// The message version.
    pub version: Version,
    /// The alias of its community, where it has one.
    pub community: Option<Arc<str>>,
    /// snmpTrapOID, after RFC 3584 for a v1 trap.
    pub trap_oid: Oid,
    /// `MODULE::name` of the notification, where the MIBs know exactly this OID.
    pub trap_name: Option<Box<str>>,
    /// The datagram as received. It holds the community: only `pdu` of it may be stored or shown.
    pub datagram: Box<[u8]>,
    /// Where in `datagram` the PDU stands, tag and length included.
    pub pdu: Range<usize>,
    /// What the rules say of it, in their order; clears first.
    pub effects: SmallVec<[Effect; 1]>,
    /// The way to answer, for an inform.
    pub answer: Option<Box<dyn Answer>>,
}

impl Event {
    /// The PDU's octets, tag and length included; empty if the range does not fit (it always does).
    #[must_use]
    pub fn pdu(&self) -> &[u8] {
        self.datagram.get(self.pdu.clone()).unwrap_or_default()
    }
}

impl QueueEntry for Event {
    fn octets(&self) -> usize {
        let effects: usize = self.effects.iter().map(|effect| effect.key.len()).sum();
        let answer = self.answer.as_ref().map_or(0, |answer| answer.octets());
        size_of::<Self>() + self.datagram.len() + effects + 4 * self.trap_oid.arcs().len() + answer
    }

    /// An inform, which is retransmitted until it is answered.
    fn is_urgent(&self) -> bool {
        self.answer.is_some()
    }
}

/// What a receiver puts into the handoff.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all of them are events; a box costs an allocation an event"
)]
pub enum Handed {
    /// An accepted notification.
    Event(Event),
    /// This receiver has read `generation` and hands over nothing older from here on. Once every receiver
    /// has said so, no event of an older generation can still come.
    Generation {
        /// The receiver's number, from 0, over all listeners.
        receiver: u32,
        /// The generation that it has read.
        generation: Generation,
    },
    /// A generation was published whose rules differ: what that means for open alerts.
    Reloaded(Arc<RuleChanges>),
    /// An operator asks for something.
    Operator(Box<OperatorRequest>),
    /// A generation was published that watches something else.
    Watch(Arc<Watch>),
    /// All mutes that are not over, as they are on the disk now.
    Mutes(Arc<[Mute]>),
    /// This receiver has ended and hands over nothing more.
    Left {
        /// The receiver's number.
        receiver: u32,
    },
}

impl QueueEntry for Handed {
    fn octets(&self) -> usize {
        match self {
            Self::Event(event) => event.octets(),
            Self::Generation { .. }
            | Self::Left { .. }
            | Self::Reloaded(_)
            | Self::Operator(_)
            | Self::Watch(_)
            | Self::Mutes(_) => size_of::<Self>(),
        }
    }

    fn is_urgent(&self) -> bool {
        match self {
            Self::Event(event) => event.is_urgent(),
            _ => true,
        }
    }
}

/// What one rule says of one event.
#[derive(Debug, Clone)]
pub struct Effect {
    /// The rule.
    pub rule: Arc<RuleAction>,
    /// Raise or clear.
    pub kind: EffectKind,
    /// The alert's key: alert name and key parts in the rule's order, as [`RuleAction`] lays it out. Empty for [`EffectKind::Store`].
    pub key: Box<str>,
}

/// Raise, clear, or only store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EffectKind {
    /// The alert is there, with this severity.
    Raise(Severity),
    /// The alert, if any, has ended.
    Clear(ClearedBy),
    /// No alert: the rule wants the event stored.
    Store,
}

/// What of a rule makes a notification the end of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClearedBy {
    /// It is one that the rule names in `cleared_by`.
    Trap,
    /// The rule's severity map says `clear` for what it carries.
    Severity,
}

/// The part of a compiled rule that an event carries with it: all that is needed once the rule has matched.
#[derive(Debug)]
pub struct RuleAction {
    /// The rule's name.
    pub rule: Arc<str>,
    /// The alert that it raises; empty for a rule that only stores.
    pub alert: Arc<str>,
    /// The names of the key's parts, in order.
    pub key_names: Box<[Arc<str>]>,
    /// Repeats inside this window update the alert and send nothing.
    pub deduplicate: Option<Duration>,
    /// Whether such a repeat gets a row in the journal; else it is only counted.
    pub store_repeats: bool,
    /// The alert ends after so long without a repeat.
    pub expire: Option<Duration>,
    /// When it counts as flapping.
    pub flapping: Option<Flapping>,
    /// Webhooks by name; `None` is every one.
    pub notify: Option<Arc<[Arc<str>]>>,
    /// Renders labels and annotations.
    pub text: Box<dyn AlertText>,
}

/// When an alert flaps, and for how long it is held then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flapping {
    /// So many changes, each a beginning, an end or another severity …
    pub count: usize,
    /// … within this time.
    pub window: Duration,
    /// Let go after so long without a change.
    pub hold: Duration,
}

/// Separates the alert's name and the key's parts within [`Effect::key`]. A unit separator does not occur
/// in a part: it is replaced when the key is built.
pub const KEY_SEPARATOR: char = '\u{1f}';

impl RuleAction {
    /// The key's parts with their names, from a key that was built for this rule.
    pub fn key_parts<'a>(&'a self, key: &'a str) -> impl Iterator<Item = (&'a Arc<str>, &'a str)> {
        self.key_names.iter().zip(key.split(KEY_SEPARATOR).skip(1))
    }
}

/// Renders what people read of an alert. Implemented by the compiled rules, so that an event needs
/// neither Snapshot nor MIB.
pub trait AlertText: Send + Sync + fmt::Debug {
    /// The rule's own labels and its annotations for `event`, each name once, in a stable order.
    /// Never fails: a template that cannot be rendered yields a text that says so.
    fn render(&self, event: &Event, severity: Severity) -> Rendered;

    /// The rule's own labels, if they are the same for every event; `None` where one depends on it.
    fn constant_labels(&self) -> Option<Vec<(Arc<str>, String)>>;
}

/// What a published generation means for the alerts that are open under rules of the one before.
/// It is applied once no event of an older generation can still come (see [`Handed::Generation`]), since a
/// late one would open an alert again under the old key.
#[derive(Debug, Default)]
pub struct RuleChanges {
    /// The published generation.
    pub generation: Generation,
    /// Whether repeats count as news again: deduplication and flap windows end.
    pub clear_windows: bool,
    /// The rules whose alerts are concerned.
    pub rules: Vec<RuleChange>,
}

/// One rule that raised alerts and is gone, renamed, or raises them under another identity.
#[derive(Debug)]
pub struct RuleChange {
    /// Its name in the generation before.
    pub rule: Arc<str>,
    /// The names of its key's parts in the generation before, in order. `None` where they are not known any
    /// more (at a start): then only what the alerts' labels leave no doubt about is taken from them.
    pub key_names: Option<Box<[Arc<str>]>>,
    /// Whether the templates of its labels are known to be those of `successor`.
    pub same_labels: bool,
    /// The rule that stands for it now: of the same name, or a renamed one. `None`: it is gone, and its
    /// alerts end.
    pub successor: Option<Arc<RuleAction>>,
}

/// Rendered labels and annotations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The rule's labels; they are part of the alert's identity.
    pub labels: Vec<(Arc<str>, String)>,
    /// The rule's annotations.
    pub annotations: Vec<(Arc<str>, String)>,
}

/// An event as it is read back from the journal. Names and texts of its varbinds are rendered from `pdu` on demand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRecord {
    /// Its number.
    pub id: EventId,
    /// When it was received.
    pub time: Timestamp,
    /// The generation that decided on it.
    pub generation: Generation,
    /// The device.
    pub source: Device,
    /// Who sent the datagram.
    pub peer: SocketAddr,
    /// The message version.
    pub version: Version,
    /// snmpTrapOID.
    pub trap_oid: Oid,
    /// The notification's name at that time.
    pub trap_name: Option<String>,
    /// The first rule that matched.
    pub rule: Option<String>,
    /// The alert's name, if the rule raised or cleared one.
    pub alert: Option<String>,
    /// The severity, if it raised one.
    pub severity: Option<Severity>,
    /// Which alert it belongs to.
    pub alert_id: Option<AlertId>,
    /// The PDU as received.
    pub pdu: Vec<u8>,
}
