//! The open alerts: found by key, ordered by the time at which they expire, densely packed.
//!
//! Invariants: `index` finds each alert's slot by its key, which lies in the record alone; a scheduled alert's `timer` is the place of its one
//! entry in `timers`, which is a binary heap by time; a timer never stands later than its alert's
//! `expires_at`. A repeat that postpones the expiry leaves the heap alone: the timer is looked at again when
//! its time comes. So the heap never holds more entries than there are open alerts, whatever comes and goes.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use hashbrown::HashTable;
use hashbrown::hash_table::OccupiedEntry;

use super::alert::Open;
use super::restore::{RestoredAlert, Restorer};
use crate::event::{AlertId, AlertRecord, EventId, Muted, Timestamp};
use crate::severity::Severity;

/// Where an alert lies now. Any removal may move another alert, so that a slot is not kept.
pub(super) type Slot = u32;

/// The `timer` of an alert that never expires.
pub(super) const NO_TIMER: u32 = u32::MAX;

/// The most alerts that slots can number.
pub(super) const MAX_ALERTS: usize = NO_TIMER as usize - 1;

#[derive(Debug, Clone, Copy)]
struct Timer {
    at: Timestamp,
    slot: Slot,
}

#[derive(Debug, Default)]
pub(super) struct OpenAlerts {
    alerts: Vec<Open>,
    index: HashTable<Slot>,
    /// Keys come out of packets: nobody may know where they go.
    hasher: RandomState,
    timers: Vec<Timer>,
    octets: usize,
    uncounted: usize,
    muted: usize,
    by_severity: [usize; Severity::ALL.len()],
}

impl OpenAlerts {
    /// The table with these alerts. Of two with one key the later is in it; the earlier comes back beside it. O(n), and
    /// looks into no record.
    pub(super) fn of(
        restorer: Restorer,
        alerts: impl ExactSizeIterator<Item = RestoredAlert>,
    ) -> (Self, Vec<Open>) {
        let mut table = Self {
            index: HashTable::with_capacity(alerts.len()),
            alerts: Vec::with_capacity(alerts.len()),
            timers: Vec::with_capacity(alerts.len()),
            hasher: restorer.hasher,
            ..Self::default()
        };
        let mut superseded = Vec::new();
        for RestoredAlert { open, severity, muted, .. } in alerts {
            let twin = |slot: &Slot| {
                let other = &table.alerts[*slot as usize];
                other.hash == open.hash && other.record.key == open.record.key
            };
            if let Some(slot) = table.index.find(open.hash, twin).copied() {
                superseded.push(table.remove(slot));
            }
            table.append(open, severity, muted);
        }
        for (slot, open) in table.alerts.iter_mut().enumerate() {
            if let Some(at) = open.expires_at {
                open.timer = table.timers.len() as u32;
                table.timers.push(Timer { at, slot: slot as Slot });
            }
        }
        for place in (0..table.timers.len() / 2).rev() {
            table.sift_down(place);
        }
        (table, superseded)
    }

    pub(super) fn len(&self) -> usize {
        self.alerts.len()
    }

    pub(super) fn octets(&self) -> usize {
        self.octets
    }

    /// How many are open, by severity, least first.
    pub(super) fn by_severity(&self) -> [usize; Severity::ALL.len()] {
        self.by_severity
    }

    /// How many are muted.
    pub(super) fn muted(&self) -> usize {
        self.muted
    }

    /// Says what mutes an alert.
    pub(super) fn set_muted(&mut self, slot: Slot, muted: Option<Muted>) {
        let record = self.alerts[slot as usize].fold();
        self.muted -= usize::from(record.muted.is_some());
        self.muted += usize::from(muted.is_some());
        record.muted = muted;
    }

    /// How many were repeated since the writer was told their counts.
    pub(super) fn uncounted(&self) -> usize {
        self.uncounted
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &Open> {
        self.alerts.iter()
    }

    /// The keys of the alerts that are `wanted`. Costs a walk over all.
    pub(super) fn keys_of(&self, wanted: impl Fn(&AlertRecord) -> bool) -> Vec<Box<str>> {
        let wanted = self.alerts.iter().filter(|open| wanted(&open.record));
        wanted.map(|open| open.record.key.clone()).collect()
    }

    pub(super) fn find(&self, key: &str) -> Option<Slot> {
        let hash = self.hasher.hash_one(key);
        let is_it = |slot: &Slot| {
            let open = &self.alerts[*slot as usize];
            open.hash == hash && *open.record.key == *key
        };
        self.index.find(hash, is_it).copied()
    }

    pub(super) fn get(&self, slot: Slot) -> &Open {
        &self.alerts[slot as usize]
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> &mut Open {
        &mut self.alerts[slot as usize]
    }

    /// Adds an alert whose key is not there, and fewer than [`MAX_ALERTS`] are.
    pub(super) fn insert(&mut self, mut open: Open) -> Slot {
        debug_assert!(self.find(&open.record.key).is_none() && self.len() < MAX_ALERTS);
        open.place(&self.hasher);
        let (at, severity, muted) = (open.expires_at, open.record.severity, open.record.muted.is_some());
        let slot = self.append(open, severity, muted);
        self.expire_at(slot, at);
        slot
    }

    /// Adds an alert that knows its place ([`Open::place`]), without a timer.
    fn append(&mut self, open: Open, severity: Severity, muted: bool) -> Slot {
        let slot = self.alerts.len() as Slot;
        self.octets += open.octets as usize;
        self.by_severity[severity as usize] += 1;
        self.muted += usize::from(muted);
        let hash = open.hash;
        self.alerts.push(open);
        let alerts = &self.alerts;
        self.index.insert_unique(hash, slot, |slot| alerts[*slot as usize].hash);
        slot
    }

    /// Takes an alert out; the last one moves into its slot.
    pub(super) fn remove(&mut self, slot: Slot) -> Open {
        self.unschedule(slot);
        self.told(slot);
        self.entry_of(slot).remove();
        let last = (self.alerts.len() - 1) as Slot;
        if slot != last {
            *self.entry_of(last).get_mut() = slot;
        }
        let open = self.alerts.swap_remove(slot as usize);
        self.octets -= open.octets as usize;
        self.by_severity[open.record.severity as usize] -= 1;
        self.muted -= usize::from(open.record.muted.is_some());
        if let Some(moved) = self.alerts.get(slot as usize).filter(|moved| moved.timer != NO_TIMER) {
            self.timers[moved.timer as usize].slot = slot;
        }
        open
    }

    /// The index's entry of an alert.
    fn entry_of(&mut self, slot: Slot) -> OccupiedEntry<'_, Slot> {
        let hash = self.alerts[slot as usize].hash;
        self.index.find_entry(hash, |other| *other == slot).expect("every open alert is indexed")
    }

    /// Weighs an alert again whose record has changed.
    pub(super) fn reweigh(&mut self, slot: Slot) {
        let open = &mut self.alerts[slot as usize];
        let octets = open.weigh();
        self.octets = self.octets - open.octets as usize + octets as usize;
        open.octets = octets;
    }

    /// The alert was repeated silently: its count is due at the next flush.
    pub(super) fn untold(&mut self, slot: Slot) {
        let open = &mut self.alerts[slot as usize];
        self.uncounted += usize::from(!open.uncounted);
        open.uncounted = true;
    }

    /// The writer is told of the alert's count, by a change or by a flush.
    pub(super) fn told(&mut self, slot: Slot) {
        let open = &mut self.alerts[slot as usize];
        self.uncounted -= usize::from(open.uncounted);
        open.uncounted = false;
    }

    /// Appends the counts of the repeated alerts among `scan` slots from `from` on. Returns where to go on, or
    /// `None` at the end. An alert that is moved to before `from` meanwhile waits for the next round.
    pub(super) fn take_counts(
        &mut self,
        from: usize,
        scan: usize,
        into: &mut Vec<(AlertId, u64, Timestamp, EventId)>,
    ) -> Option<usize> {
        let until = from.saturating_add(scan).min(self.alerts.len());
        for open in self.alerts.get_mut(from..until).unwrap_or_default() {
            if open.uncounted {
                open.uncounted = false;
                self.uncounted -= 1;
                into.push(open.counts());
            }
        }
        (until < self.alerts.len() && self.uncounted > 0).then_some(until)
    }

    /// Gives memory back after many alerts have ended.
    pub(super) fn shrink(&mut self) {
        let (keep, outsized) = (2 * self.len() + 256, 8 * self.len() + 1024);
        if self.alerts.capacity() > outsized {
            self.alerts.shrink_to(keep);
        }
        if self.index.capacity() > outsized {
            let alerts = &self.alerts;
            self.index.shrink_to(keep, |slot| alerts[*slot as usize].hash);
        }
        if self.timers.capacity() > outsized {
            self.timers.shrink_to(keep);
        }
    }

    /// Sets when an alert expires. O(1) if that is later than before, O(log n) else.
    pub(super) fn expire_at(&mut self, slot: Slot, at: Option<Timestamp>) {
        let open = &mut self.alerts[slot as usize];
        open.expires_at = at;
        let Some(at) = at else {
            return;
        };
        if open.timer == NO_TIMER {
            open.timer = self.timers.len() as u32;
            self.timers.push(Timer { at, slot });
            self.sift_up(self.timers.len() - 1);
        } else if at < self.timers[open.timer as usize].at {
            let place = open.timer as usize;
            self.timers[place].at = at;
            self.sift_up(place);
        }
    }

    /// No alert expires before this time.
    pub(super) fn earliest(&self) -> Option<Timestamp> {
        self.timers.first().map(|timer| timer.at)
    }

    /// The alert that expires first, if it has at `now`. Each timer that is looked at takes one from `budget`; at 0 there
    /// may be more.
    pub(super) fn expired(&mut self, now: Timestamp, budget: &mut usize) -> Option<Slot> {
        while *budget > 0 {
            let timer = *self.timers.first().filter(|timer| timer.at <= now)?;
            *budget -= 1;
            match self.alerts[timer.slot as usize].expires_at {
                Some(at) if at <= timer.at => return Some(timer.slot),
                Some(at) => {
                    self.timers[0].at = at;
                    self.sift_down(0);
                }
                None => self.unschedule(timer.slot),
            }
        }
        None
    }

    fn unschedule(&mut self, slot: Slot) {
        let place = std::mem::replace(&mut self.alerts[slot as usize].timer, NO_TIMER) as usize;
        if place == NO_TIMER as usize {
            return;
        }
        self.timers.swap_remove(place);
        if place < self.timers.len() {
            // What came from the end may belong in either direction, since it is of another branch.
            self.sift_up(place);
            self.sift_down(place);
        }
    }

    fn sift_up(&mut self, mut place: usize) {
        let timer = self.timers[place];
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.timers[parent].at <= timer.at {
                break;
            }
            self.put(place, self.timers[parent]);
            place = parent;
        }
        self.put(place, timer);
    }

    fn sift_down(&mut self, mut place: usize) {
        let timer = self.timers[place];
        loop {
            let mut child = 2 * place + 1;
            if child >= self.timers.len() {
                break;
            }
            if self.timers.get(child + 1).is_some_and(|right| right.at < self.timers[child].at) {
                child += 1;
            }
            if timer.at <= self.timers[child].at {
                break;
            }
            self.put(place, self.timers[child]);
            place = child;
        }
        self.put(place, timer);
    }

    fn put(&mut self, place: usize, timer: Timer) {
        self.timers[place] = timer;
        self.alerts[timer.slot as usize].timer = place as u32;
    }

    /// Panics where an invariant of this file is broken.
    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.index.len(), self.alerts.len());
        for (slot, open) in self.alerts.iter().enumerate() {
            assert_eq!(self.find(&open.record.key), Some(slot as Slot));
            assert_eq!(open.octets, open.weigh(), "weighed as it is now");
            assert_eq!(open.hash, self.hasher.hash_one(&*open.record.key), "its key stays");
            if open.timer != NO_TIMER {
                assert_eq!(self.timers[open.timer as usize].slot as usize, slot);
            }
            if let Some(at) = open.expires_at {
                assert!(self.timers[open.timer as usize].at <= at, "a timer is never late");
            }
        }
        for place in 1..self.timers.len() {
            assert!(self.timers[(place - 1) / 2].at <= self.timers[place].at, "a heap");
        }
        assert_eq!(self.timers.len(), self.alerts.iter().filter(|open| open.timer != NO_TIMER).count());
        assert_eq!(self.octets, self.alerts.iter().map(|open| open.octets as usize).sum::<usize>());
        assert_eq!(self.uncounted, self.alerts.iter().filter(|open| open.uncounted).count());
        assert_eq!(self.by_severity.iter().sum::<usize>(), self.alerts.len());
        assert_eq!(self.muted, self.alerts.iter().filter(|open| open.record.muted.is_some()).count());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlator::tests::record;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Against a map: every insertion, removal, postponement and expiry, the invariants after each.
        #[test]
        fn the_table_is_a_map_ordered_by_expiry(
            steps in prop::collection::vec((0_u8..6, 0_u64..40, prop::option::weighted(0.9, 0_i64..1000)), 1..400)
        ) {
            let mut table = OpenAlerts::default();
            let mut model: BTreeMap<String, Option<i64>> = BTreeMap::new();
            let mut now = 0;
            for (step, number, at) in steps {
                let key = format!("key {number}");
                let at = at.map(|after| now + after);
                match (step, table.find(&key)) {
                    (0..=2, None) => {
                        let mut alert = record(number, &key);
                        alert.expires_at = at.map(Timestamp);
                        table.insert(Open::new(alert));
                        model.insert(key, at);
                    }
                    (0 | 1, Some(slot)) => {
                        table.expire_at(slot, at.map(Timestamp));
                        model.insert(key, at);
                    }
                    (2, Some(slot)) => {
                        prop_assert_eq!(&*table.remove(slot).record.key, key.as_str());
                        model.remove(&key);
                    }
                    (3, Some(slot)) => table.untold(slot),
                    _ => {
                        now += at.map_or(1, |at| (at - now) / 10);
                        let mut budget = usize::MAX;
                        let mut last = i64::MIN;
                        while let Some(slot) = table.expired(Timestamp(now), &mut budget) {
                            let open = table.remove(slot);
                            let at = model.remove(&*open.record.key).flatten();
                            prop_assert_eq!(open.expires_at.map(|at| at.0), at);
                            prop_assert!(at.is_some_and(|at| last <= at && at <= now), "in order of time");
                            last = at.unwrap_or_default();
                        }
                        prop_assert!(model.values().flatten().all(|at| *at > now), "none is left behind");
                    }
                }
                table.check();
                prop_assert_eq!(table.len(), model.len());
            }
        }
    }

    #[test]
    fn a_budget_bounds_the_work_and_says_that_more_is_due() {
        let mut table = OpenAlerts::default();
        for number in 0..10 {
            let mut alert = record(number, &format!("{number}"));
            alert.expires_at = Some(Timestamp(5));
            let slot = table.insert(Open::new(alert));
            table.expire_at(slot, Some(Timestamp(50)));
        }
        let mut budget = 4;
        assert_eq!(table.expired(Timestamp(5), &mut budget), None);
        assert_eq!((budget, table.earliest()), (0, Some(Timestamp(5))));
        budget = 100;
        assert_eq!(table.expired(Timestamp(5), &mut budget), None);
        assert_eq!((budget, table.earliest()), (94, Some(Timestamp(50))), "each is put right once");
    }
}
