//! Mutes, applied to the open alerts: which one matches which alert, as the clock goes on.
//!
//! What an operator has said is on the disk already and comes in whole ([`Correlator::mute`]). Each alert's record
//! carries what mutes it, since those who deliver read the records alone. So a change of what is in force walks
//! once over the open alerts, step by step, from the last slot to the first: a removal moves the last alert
//! down, an insertion adds at the end, and an alert that begins is compared as it begins.

use std::sync::Arc;

use super::route::Routes;
use super::state::{Correlator, TICK_ALERTS, change};
use super::table::Slot;
use crate::event::{AlertChange, AlertRecord, Mute, MuteId, MuteState, Muted, Timestamp};

/// The mutes that are not over, and those in force.
#[derive(Debug, Default)]
pub(super) struct Mutes {
    known: Arc<[Mute]>,
    /// In force as of `looked`, by number.
    active: Vec<Mute>,
    looked: Timestamp,
    /// When the next one begins or ends.
    turns_at: Option<Timestamp>,
    /// Alerts below this slot have still to be compared.
    walk: Option<usize>,
}

impl Mutes {
    /// `muted`: whether records of open alerts say that they are, which was so at the end of the last run.
    pub(super) fn new(known: Arc<[Mute]>, muted: bool) -> Self {
        let look = !known.is_empty() || muted;
        Self { known, turns_at: look.then_some(Timestamp(i64::MIN)), ..Self::default() }
    }

    /// The one that matches `record`, if any is in force.
    pub(super) fn of(&self, record: &AlertRecord) -> Option<MuteId> {
        self.active.iter().find(|mute| mute.matchers.match_alert(record)).map(|mute| mute.id)
    }

    /// How many are in force.
    pub(super) fn active(&self) -> usize {
        self.active.len()
    }

    /// Brings what is in force up to `now`. Cheap while nothing turns.
    pub(super) fn look(&mut self, now: Timestamp, alerts: usize) {
        let due = self.turns_at.is_some_and(|at| at <= now);
        // A clock that was set back may have brought one into force again.
        let back = now < self.looked && !self.known.is_empty();
        self.looked = now;
        if due || back {
            self.turn(now, alerts);
        }
    }

    fn turn(&mut self, now: Timestamp, alerts: usize) {
        let in_force = self.known.iter().filter(|mute| mute.state(now) == MuteState::Active);
        self.active = in_force.cloned().collect();
        self.active.sort_unstable_by_key(|mute| mute.id);
        let turns = self.known.iter().filter(|mute| mute.state(now) != MuteState::Ended);
        self.turns_at = turns.flat_map(|mute| [mute.from, mute.until]).filter(|at| *at > now).min();
        self.look_at_all(alerts);
    }

    /// Every open alert is to be compared again.
    pub(super) fn look_at_all(&mut self, alerts: usize) {
        self.walk = Some(alerts);
    }

    /// When there is something to do, at the latest.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        if self.walk.is_some() { Some(Timestamp(i64::MIN)) } else { self.turns_at }
    }
}

impl Correlator {
    /// These mutes hold from now on, in place of all before. Open alerts follow with the next ticks; whatever
    /// begins from here on is compared with them.
    pub fn mute(&mut self, mutes: Arc<[Mute]>, now: Timestamp) {
        self.mutes.known = mutes;
        self.mutes.turn(now, self.open.len());
    }

    /// One bounded step over the alerts that are still to be compared. Returns whether there are more.
    pub(super) fn apply_mutes(
        &mut self,
        now: Timestamp,
        routes: &Routes,
        most: usize,
        changes: &mut Vec<AlertChange>,
    ) -> bool {
        self.mutes.look(now, self.open.len());
        let Some(mut above) = self.mutes.walk else { return false };
        above = above.min(self.open.len());
        let mut budget = TICK_ALERTS;
        while above > 0 && budget > 0 && changes.len() < most {
            above -= 1;
            budget -= 1;
            changes.extend(self.compare(above as Slot, now, routes));
        }
        self.mutes.walk = (above > 0).then_some(above);
        above > 0
    }

    fn compare(&mut self, slot: Slot, now: Timestamp, routes: &Routes) -> Option<AlertChange> {
        let record = &self.open.get(slot).record;
        let (was, by) = (record.muted, self.mutes.of(record));
        if was.map(|muted| muted.by) == by {
            return None;
        }
        // Whoever heard of it before hears of its end.
        let muted = by.map(|by| Muted { by, unheard: was.is_some_and(|was| was.unheard) });
        let number = self.changes.next(now);
        self.open.get_mut(slot).fold().change = number;
        self.open.set_muted(slot, muted);
        self.open.told(slot);
        Some(change(&self.open.get(slot).record, routes))
    }
}
