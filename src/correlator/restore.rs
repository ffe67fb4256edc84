//! Open alerts as the disk gives them back at a start.
//!
//! There may be a million of them, spread over all of memory: to look into each record once more costs a wait for memory
//! each time. So what a start asks of every alert is worked out where its record is read ([`Restorer::alert`]).

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::sync::Arc;

use super::alert::Open;
use crate::event::{AlertId, AlertOrigin, AlertRecord, AlertState};
use crate::severity::Severity;

/// Makes alerts ready for the correlator. May be used by several threads at a time.
#[derive(Debug, Default)]
pub struct Restorer {
    pub(super) hasher: RandomState,
}

impl Restorer {
    /// An alert, ready for the correlator that is given this [`Restorer`] too.
    #[must_use]
    pub fn alert(&self, record: AlertRecord) -> RestoredAlert {
        let mut alert = RestoredAlert {
            id: record.id,
            change: record.change,
            rule: Arc::as_ptr(&record.rule).cast::<()>() as usize,
            severity: record.severity,
            origin: record.origin,
            is_open: record.state != AlertState::Resolved,
            muted: record.muted.is_some(),
            held: record.flap.as_ref().is_some_and(|flap| flap.held.is_some()),
            open: Open::new(record),
        };
        alert.open.place(&self.hasher);
        alert
    }
}

/// An alert that was made ready, with what is asked of all of them.
#[derive(Debug)]
pub struct RestoredAlert {
    pub(super) open: Open,
    pub(super) id: AlertId,
    pub(super) change: u64,
    /// Where its rule's name lies: who has the same has the same rule.
    rule: usize,
    pub(super) severity: Severity,
    pub(super) origin: AlertOrigin,
    pub(super) is_open: bool,
    pub(super) muted: bool,
    /// It flaps, and is held open.
    pub(super) held: bool,
}

impl RestoredAlert {
    /// Its record.
    #[must_use]
    pub fn record(&self) -> &AlertRecord {
        &self.open.record
    }

    /// Of each rule that has raised any of `alerts` the first one that is open. A rule may come more than once.
    pub fn of_each_rule(alerts: &[Self]) -> impl Iterator<Item = &AlertRecord> {
        let mut rules = HashSet::new();
        let mut before = 0;
        alerts.iter().filter(|alert| alert.is_open && alert.origin.is_rule()).filter_map(move |alert| {
            // Mostly many come in a row.
            let is_new = alert.rule != before && rules.insert(alert.rule);
            before = alert.rule;
            is_new.then(|| alert.record())
        })
    }
}
