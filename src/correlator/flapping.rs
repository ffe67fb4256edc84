//! Alerts that come and go: counted over their ends and beginnings, and held open once they flap.
//!
//! An open alert's record says when it changed ([`Flap`]). That of an ended one is remembered here for as long as a
//! window may still count it, and stands in the record as well: so the disk gives it back after a
//! restart.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::alert::How;
use super::route::Routes;
use super::state::{Correlator, Here, change};
use super::table::Slot;
use crate::event::{AlertChange, AlertId, AlertRecord, AlertState, Effect, Flap, Flapping, Held, Timestamp};
use crate::severity::Severity;

/// Keys whose past is remembered while no alert is open; beyond, those go that would go first.
const MAX_ENDED: usize = 1 << 16;
/// The longest window and the longest hold that settings can say.
const LONGEST_WINDOW: Duration = Duration::from_secs(3_600);
const LONGEST_HOLD: Duration = Duration::from_secs(86_400);

/// What keys were like that have no open alert, and when what is held is looked at.
#[derive(Debug, Default)]
pub(super) struct Flaps {
    ended: HashMap<Arc<str>, (Timestamp, Vec<Timestamp>)>,
    /// When each of `ended` may be forgotten.
    forget_at: BTreeSet<(Timestamp, Arc<str>)>,
    /// Alerts that are held; a time may lie before the one in the record, and is looked at again then.
    held: BTreeSet<(Timestamp, Box<str>)>,
}

impl Flaps {
    /// Goes on with an open alert that the disk knows.
    pub(super) fn restore(&mut self, open: &AlertRecord) {
        if let Some(held) = open.flap.as_ref().and_then(|flap| flap.held) {
            self.hold(held.until, open.key.clone());
        }
    }

    /// Goes on with the newest ended alert of each key that has no open one.
    pub(super) fn restore_ended(&mut self, ended: Vec<(Box<str>, Flap)>) {
        for (key, flap) in ended {
            self.keep(&key, flap.changes);
        }
    }

    /// Remembers an ended alert's changes for as long as any rule may count them.
    fn keep(&mut self, key: &str, changes: Vec<Timestamp>) {
        let Some(newest) = changes.iter().max() else { return };
        let until = newest.after(LONGEST_WINDOW);
        drop(self.take(key));
        while self.ended.len() >= MAX_ENDED {
            let Some((_, first)) = self.forget_at.pop_first() else { break };
            self.ended.remove(&first);
        }
        let key: Arc<str> = key.into();
        self.forget_at.insert((until, Arc::clone(&key)));
        self.ended.insert(key, (until, changes));
    }

    /// The changes of the alert that ended under `key`, for the one that begins.
    fn take(&mut self, key: &str) -> Vec<Timestamp> {
        let Some((key, (until, changes))) = self.ended.remove_entry(key) else { return Vec::new() };
        self.forget_at.remove(&(until, key));
        changes
    }

    fn hold(&mut self, at: Timestamp, key: Box<str>) {
        self.held.insert((at, key));
    }

    /// Windows end.
    pub(super) fn clear(&mut self) {
        self.ended.clear();
        self.forget_at.clear();
    }

    /// Alerts that are held are looked at by then.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        self.held.first().map(|(at, _)| *at)
    }

    /// Drops what no window counts any more.
    fn forget(&mut self, now: Timestamp, most: usize) {
        for _ in 0..most {
            match self.forget_at.first() {
                Some((at, _)) if *at <= now => {}
                _ => return,
            }
            if let Some((_, key)) = self.forget_at.pop_first() {
                self.ended.remove(&key);
            }
        }
    }
}

/// Adds a change at `time` and leaves out what the window no longer counts. Says whether they are enough.
fn note(changes: &mut Vec<Timestamp>, time: Timestamp, flapping: Flapping) -> bool {
    // Also what lies further ahead than a window: the clock was set back.
    changes.retain(|at| time.since(*at) < flapping.window && at.since(time) < flapping.window);
    changes.push(time);
    let surplus = changes.len().saturating_sub(flapping.count);
    changes.drain(..surplus);
    changes.len() >= flapping.count
}

impl Correlator {
    /// What an alert that begins under a key without one carries of the key's past.
    pub(super) fn flap_of_beginning(
        &mut self,
        effect: &Effect,
        severity: Severity,
        here: Here<'_>,
    ) -> Option<Box<Flap>> {
        let flapping = effect.rule.flapping?;
        let mut flap = Flap { changes: self.flaps.take(&effect.key), held: None };
        if note(&mut flap.changes, here.event.time, flapping) {
            flap.held = Some(self.held(effect, flapping, Some(severity), here));
        }
        Some(Box::new(flap))
    }

    /// An open alert is raised with another severity. What the next one carries; `None` where this one is held
    /// and goes on: only what is worse than all that was told comes through.
    pub(super) fn flap_of_severity(
        &mut self,
        slot: Slot,
        effect: &Effect,
        severity: Severity,
        here: Here<'_>,
    ) -> Option<Option<Box<Flap>>> {
        let record = &self.open.get(slot).record;
        let Some(flapping) = effect.rule.flapping else { return Some(None) };
        let mut flap = record.flap.as_deref().cloned().unwrap_or_default();
        if flap.held.is_some() && severity < record.severity {
            return None;
        }
        if note(&mut flap.changes, here.event.time, flapping) || flap.held.is_some() {
            let since = flap.held.map(|held| held.since);
            let held = self.held(effect, flapping, Some(severity), here);
            flap.held = Some(Held { since: since.unwrap_or(held.since), ..held });
        }
        Some(Some(Box::new(flap)))
    }

    fn held(&mut self, effect: &Effect, flapping: Flapping, said: Option<Severity>, here: Here<'_>) -> Held {
        let until = here.now.after(flapping.hold);
        self.flaps.hold(until, effect.key.clone());
        Held { since: here.event.time, until, said, by: here.id }
    }

    /// Whether the alert is held and its rule still wants that.
    pub(super) fn is_held(&self, slot: Slot, effect: &Effect) -> bool {
        effect.rule.flapping.is_some() && self.open.get(slot).record.flapping_since().is_some()
    }

    /// A notification about an alert that is held: `said` is what it says. The disk hears of each change, webhooks
    /// do not.
    pub(super) fn hold_on(
        &mut self,
        slot: Slot,
        effect: &Effect,
        said: Option<Severity>,
        here: Here<'_>,
        changes: &mut Vec<AlertChange>,
    ) -> AlertId {
        let id = self.open.get(slot).record.id;
        if said.is_some() {
            self.repeat(slot, effect, here);
        }
        let open = self.open.get(slot);
        let (Some(flapping), Some(held)) =
            (effect.rule.flapping, open.record.flap.as_ref().and_then(|flap| flap.held))
        else {
            return id;
        };
        // A repeat of what was said is counted as any repeat. An end has no count: its row must have a change.
        if held.said == said && said.is_some() {
            return id;
        }
        let until = if held.said == said { held.until } else { here.now.after(flapping.hold) };
        if until < held.until {
            self.flaps.hold(until, effect.key.clone());
        }
        let number = self.changes.next(here.now);
        let open = self.open.get_mut(slot);
        (open.last_seen, open.last_event) = (here.event.time, here.id);
        let record = open.fold();
        record.change = number;
        if let Some(flap) = &mut record.flap {
            flap.held = Some(Held { said, until, by: here.id, ..held });
        }
        self.open.told(slot);
        changes.push(AlertChange { record: Arc::clone(&self.open.get(slot).record), queue_for: Vec::new() });
        id
    }

    /// An open alert is cleared. True: it flaps with that, and is held in place of ended.
    pub(super) fn flaps_by_end(
        &mut self,
        slot: Slot,
        effect: &Effect,
        here: Here<'_>,
        changes: &mut Vec<AlertChange>,
    ) -> bool {
        let Some(flapping) = effect.rule.flapping else { return false };
        let mut flap = self.open.get(slot).record.flap.as_deref().cloned().unwrap_or_default();
        let flaps = note(&mut flap.changes, here.event.time, flapping);
        if flaps {
            flap.held = Some(self.held(effect, flapping, None, here));
        }
        let open = self.open.get_mut(slot);
        open.fold().flap = Some(Box::new(flap));
        self.open.reweigh(slot);
        if flaps {
            let number = self.changes.next(here.now);
            let open = self.open.get_mut(slot);
            (open.last_seen, open.last_event) = (here.event.time, here.id);
            open.fold().change = number;
            self.open.told(slot);
            changes.push(change(&self.open.get(slot).record, here.routes));
        }
        flaps
    }

    /// Windows end: what was counted is not, and what is held is let go with the next tick.
    pub(super) fn release_early(&mut self, slot: Slot) {
        let record = self.open.get_mut(slot).fold();
        let Some(flap) = &mut record.flap else { return };
        flap.changes = Vec::new();
        if let Some(held) = &mut flap.held {
            held.until = Timestamp(i64::MIN);
            let key = record.key.clone();
            self.flaps.hold(Timestamp(i64::MIN), key);
        }
        self.open.reweigh(slot);
    }

    /// An alert goes on under another key.
    pub(super) fn move_flap(&mut self, record: &mut AlertRecord, clears_windows: bool) {
        let Some(flap) = &mut record.flap else { return };
        if clears_windows {
            flap.changes = Vec::new();
        }
        if let Some(held) = &mut flap.held {
            if clears_windows {
                held.until = Timestamp(i64::MIN);
            }
            self.flaps.hold(held.until, record.key.clone());
        }
    }

    /// An alert has ended on a clear: its changes still count for the next one.
    pub(super) fn keep_flap(&mut self, record: &AlertRecord, effect: &Effect) {
        if let (true, Some(flap)) = (effect.rule.flapping.is_some(), &record.flap) {
            self.flaps.keep(&record.key, flap.changes.clone());
        }
    }

    /// Lets go what has been quiet for long enough. Each look takes one from `budget`.
    pub(super) fn release_flapping(
        &mut self,
        now: Timestamp,
        routes: &Routes,
        budget: &mut usize,
        most: usize,
        changes: &mut Vec<AlertChange>,
    ) {
        self.flaps.forget(now, *budget);
        while *budget > 0 && changes.len() < most {
            // One that lies further ahead than any hold: the clock was set back.
            let due = |at: &Timestamp| *at <= now || at.since(now) > LONGEST_HOLD;
            let key = match self.flaps.held.first() {
                Some((at, _)) if due(at) => self.flaps.held.pop_first().map(|(_, key)| key),
                _ => None,
            };
            let Some(key) = key else { return };
            *budget -= 1;
            let Some(slot) = self.open.find(&key) else { continue };
            let Some(held) = self.open.get(slot).record.flap.as_ref().and_then(|flap| flap.held) else {
                continue;
            };
            if due(&held.until) {
                self.release(slot, held, now, routes, changes);
            } else {
                self.flaps.hold(held.until, key);
            }
        }
    }

    fn release(
        &mut self,
        slot: Slot,
        held: Held,
        now: Timestamp,
        routes: &Routes,
        changes: &mut Vec<AlertChange>,
    ) {
        let severity = self.open.get(slot).record.severity;
        if held.said == Some(severity) {
            let number = self.changes.next(now);
            let record = self.open.get_mut(slot).fold();
            record.change = number;
            record.flap = Some(Box::default());
            self.open.told(slot);
            self.open.reweigh(slot);
            changes.push(change(&self.open.get(slot).record, routes));
            return;
        }
        let open = self.open.remove(slot);
        let record = AlertRecord::clone(&open.record);
        let (last_seen, last_event, count) = (open.last_seen, open.last_event, open.count);
        let (expires_at, generation) = (open.expires_at, open.generation);
        let how = if held.said.is_some() { How::Severity } else { How::Flapping };
        changes.push(self.resolve(open, how, now, now, routes));
        let Some(severity) = held.said else { return };
        // It has become less bad while it was held.
        let record = AlertRecord {
            id: AlertId(self.alerts.next(now)),
            change: self.changes.next(now),
            severity,
            state: AlertState::Firing,
            labels: self.names.with_severity(record.labels.clone(), severity),
            last_seen,
            last_event,
            count,
            expires_at,
            by_hand: None,
            flap: Some(Box::default()),
            ..record
        };
        self.open_alert(record, generation, routes, changes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_count_inside_the_window_alone() {
        let flapping = Flapping { count: 3, window: Duration::from_micros(10), hold: Duration::from_secs(1) };
        let mut changes = Vec::new();
        let flaps: Vec<_> =
            [0, 9, 10, 11, 30, 29, 31].map(|at| note(&mut changes, Timestamp(at), flapping)).into();
        assert_eq!(flaps, [false, false, false, true, false, false, true]);
        assert!(changes.len() <= 3);
        assert!(!note(&mut changes, Timestamp(-1_000), flapping), "a clock that was set back begins anew");
    }

    #[test]
    fn what_is_remembered_of_ended_alerts_is_bounded_and_forgotten() {
        let mut flaps = Flaps::default();
        for number in 0..i64::try_from(MAX_ENDED).unwrap() + 10 {
            flaps.keep(&format!("key {number}"), vec![Timestamp(number)]);
        }
        assert_eq!((flaps.ended.len(), flaps.forget_at.len()), (MAX_ENDED, MAX_ENDED));
        assert!(flaps.take("key 3").is_empty(), "the oldest have gone");
        assert_eq!(flaps.take("key 20"), [Timestamp(20)]);
        assert!(flaps.take("key 20").is_empty());
        flaps.forget(Timestamp(95).after(LONGEST_WINDOW), usize::MAX);
        assert!(flaps.take("key 30").is_empty());
        assert_eq!(flaps.take("key 96"), [Timestamp(96)]);
        assert_eq!(flaps.ended.len(), flaps.forget_at.len());
    }
}
