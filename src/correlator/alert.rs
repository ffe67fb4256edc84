//! One open alert as the correlator keeps it, and what may end it.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

use crate::event::{AlertId, AlertRecord, ByHand, EventId, Flap, Generation, Timestamp};

/// What ends an alert: `resolved_by`, and the label of `nereus_alerts_resolved_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// A clearing notification.
    Trap,
    /// The severity map said `clear`; or it was raised with another severity, and a new alert goes on from
    /// there.
    Severity,
    /// It was raised with other labels; a new alert goes on from there.
    Labels,
    /// Nothing repeated it for the rule's `expire`.
    Expire,
    /// Another open alert with the same key was restored beside it, or has come to it by a reload.
    Superseded,
    /// Its rule is gone or gives it another identity, under which a new alert may go on.
    Reload,
    /// An operator closed it.
    Operator,
    /// It flapped, and its last word when it came to rest was that it has ended.
    Flapping,
    /// Its source has calmed down.
    Quiet,
    /// Its source was heard again.
    Heartbeat,
}

impl How {
    pub(super) const ALL: [Self; 10] = [
        Self::Trap,
        Self::Severity,
        Self::Labels,
        Self::Expire,
        Self::Superseded,
        Self::Reload,
        Self::Operator,
        Self::Flapping,
        Self::Quiet,
        Self::Heartbeat,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Severity => "severity",
            Self::Labels => "labels",
            Self::Expire => "expire",
            Self::Superseded => "superseded",
            Self::Reload => "reload",
            Self::Operator => "operator",
            Self::Flapping => "flapping",
            Self::Quiet => "quiet",
            Self::Heartbeat => "heartbeat",
        }
    }
}

/// An open alert. What a repeat changes lies beside the shared record, so that a silent repeat writes a few
/// words and allocates nothing; [`Self::fold`] brings the record up to date when a change is made.
#[derive(Debug)]
pub(super) struct Open {
    /// As of its newest change. Shared with the commands that carried it.
    pub(super) record: Arc<AlertRecord>,
    pub(super) count: u64,
    pub(super) last_seen: Timestamp,
    pub(super) last_event: EventId,
    /// Set by [`super::table::OpenAlerts::expire_at`] alone.
    pub(super) expires_at: Option<Timestamp>,
    /// The newest generation whose rule is known to give it the key and the labels that it has; 0 after a
    /// restart.
    pub(super) generation: Generation,
    /// Its place among the table's timers. The table's own.
    pub(super) timer: u32,
    /// What it weighs against the table's bound. The table's own.
    pub(super) octets: u32,
    /// That of its key. The table's own.
    pub(super) hash: u64,
    /// Repeated since the writer was told the count. The table's own.
    pub(super) uncounted: bool,
}

impl Open {
    pub(super) fn new(record: AlertRecord) -> Self {
        Self {
            count: record.count,
            last_seen: record.last_seen,
            last_event: record.last_event,
            expires_at: record.expires_at,
            generation: Generation::default(),
            timer: super::table::NO_TIMER,
            octets: 0,
            hash: 0,
            uncounted: false,
            record: Arc::new(record),
        }
    }

    /// Works out what the table has to know of it, whose `hasher` it is.
    pub(super) fn place(&mut self, hasher: &RandomState) {
        self.octets = self.weigh();
        self.hash = hasher.hash_one(&*self.record.key);
    }

    /// The record with the newest counts and times, to be changed. Copies it while a command that carried it
    /// is still under way.
    pub(super) fn fold(&mut self) -> &mut AlertRecord {
        let record = Arc::make_mut(&mut self.record);
        record.count = self.count;
        record.last_seen = self.last_seen;
        record.last_event = self.last_event;
        record.expires_at = self.expires_at;
        record
    }

    /// What a count flush says of it.
    pub(super) fn counts(&self) -> (AlertId, u64, Timestamp, EventId) {
        (self.record.id, self.count, self.last_seen, self.last_event)
    }

    /// Its octets in memory, roughly.
    pub(super) fn weigh(&self) -> u32 {
        let pair = size_of::<(Arc<str>, String)>();
        let text =
            |list: &[(Arc<str>, String)]| list.iter().map(|(_, value)| pair + value.len()).sum::<usize>();
        let record = &self.record;
        let octets = size_of::<Self>()
            + size_of::<AlertRecord>()
            + record.key.len()
            + record.by_hand.as_ref().map_or(0, |_| size_of::<ByHand>() + 2 * 64)
            + record.flap.as_ref().map_or(0, |flap| size_of::<Flap>() + size_of_val(&*flap.changes))
            + text(&record.labels)
            + text(&record.annotations);
        u32::try_from(octets).unwrap_or(u32::MAX)
    }
}
