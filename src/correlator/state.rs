//! The correlator itself: it owns the open alerts and decides on each event. No I/O, no clock.

use std::sync::Arc;
use std::time::Duration;

use super::alert::{How, Open};
use super::deduplicate::{is_quiet, quiet_until};
use super::fence::Fence;
use super::flapping::Flaps;
use super::heartbeat::Heartbeats;
use super::identity::{LabelNames, Labels};
use super::mute::Mutes;
use super::number::Numbers;
use super::reload::{Cleared, Reloads};
use super::restore::{RestoredAlert, Restorer};
use super::route::Routes;
use super::storm::Storms;
use super::table::{MAX_ALERTS, OpenAlerts, Slot};
use crate::event::{
    AlertChange, AlertId, AlertOrigin, AlertRecord, AlertState, ClearedBy, Command, Decided, Effect,
    EffectKind, Event, EventId, Flap, Generation, Mute, Muted, Rendered, Timestamp,
};
use crate::severity::Severity;

/// How often the writer is told the counts of silently repeated alerts.
const FLUSH_INTERVAL: Duration = Duration::from_secs(30);
/// How many alerts one tick ends at most.
const TICK_CHANGES: usize = 256;
/// How many timers one tick looks at.
const TICK_TIMERS: usize = 4096;
/// How many alerts one tick looks at, for a reload and for mutes each.
pub(super) const TICK_ALERTS: usize = 4096;
/// How many alerts one tick looks at for their counts.
const TICK_COUNTS: usize = 8192;

/// What the correlator may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open alerts. Beyond it an event that would open one is stored without, and counted.
    pub open_alerts: usize,
    /// Octets of open alerts, roughly: keys and texts come out of packets. At the bound no alert is opened
    /// and none is rendered anew: an open one keeps the texts that it has.
    pub open_octets: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { open_alerts: 1_000_000, open_octets: 2 << 30 }
    }
}

/// What the disk knows at a start.
#[derive(Debug, Default)]
pub struct Restored {
    /// The open alerts with their newest counts. Whoever applies [`Command::Counts`] to a stored alert moves
    /// its `expires_at` by as much as `last_seen`: a repeat postpones both. Resolved ones are passed over.
    /// All are kept, also beyond [`Limits::open_alerts`].
    pub open: Vec<RestoredAlert>,
    /// What has made them ready.
    pub restorer: Restorer,
    /// The largest number of an event in the journal.
    pub last_event: EventId,
    /// The largest number of an alert, resolved ones included.
    pub last_alert: AlertId,
    /// The largest number of a change.
    pub last_change: u64,
    /// How keys without an open alert came and went up to the end of their newest alert, an hour back.
    pub ended: Vec<(Box<str>, Flap)>,
    /// The mutes that are not over.
    pub mutes: Arc<[Mute]>,
}

impl Restored {
    /// These alerts and nothing else.
    #[must_use]
    pub fn of(alerts: impl IntoIterator<Item = AlertRecord>) -> Self {
        let restorer = Restorer::default();
        let open = alerts.into_iter().map(|record| restorer.alert(record)).collect();
        Self { open, restorer, ..Self::default() }
    }
}

/// What happened since the counts were last taken.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) fired: u64,
    pub(super) refused: u64,
    pub(super) acknowledged: u64,
    /// Clears that a reload under way should have remembered and could not.
    pub(super) forgotten: u64,
    /// In the order of [`How::ALL`].
    pub(super) resolved: [u64; How::ALL.len()],
}

/// Owns the open alerts and decides on each event; pure, with the time as a parameter.
///
/// An alert is found by [`Effect::key`]. Raising one that is not open opens it, under a new number: an alert
/// is never opened again. Raising an open one
/// - with another severity ends it (`severity`) and begins the next, also inside the window;
/// - inside the window of `deduplicate` only counts: no change, nothing rendered, O(1);
/// - outside it renders the rule's texts: other labels end it (`labels`) and begin the next, the same labels
///   make a change with the new annotations and a new window, which event webhooks hear of. Without
///   `deduplicate` each repeat is such a change.
///
/// So labels are frozen for a window, and a label template that depends on the event is looked at once a
/// window, not at each repeat: else a label made of a varbind that never stands still would end and begin an
/// alert with every event, and the window would bound nothing, neither what webhooks are sent nor what a flood
/// of repeats costs. Rule, `notify` and source stay those of the opening, so that whoever heard of an alert's
/// beginning hears of its end. An event raises an alert once: of several effects with one key the first
/// counts. A clear keeps the annotations of the last raise: the clearing notification seldom has the
/// varbinds that they speak of.
///
/// A silent repeat of a rule without `store_repeats` gets no row in the journal: it is on the disk with the next
/// [`Command::Counts`] alone, so that a crash forgets up to 30 s of such repeats, and how they postponed the
/// expiry. An event that does anything else as well gets its row.
///
/// `first_seen`, `last_seen`, `resolved_at` and the window follow [`Event::time`]; numbers and expiry follow
/// `now`. Times may go back: numbers rise all the same, and `resolved_at` is never before `first_seen`.
///
/// Alerts whose rule a reload has changed are ended or go on under their new identity: [`Self::reloaded`].
///
#[derive(Debug)]
pub struct Correlator {
    limits: Limits,
    pub(super) open: OpenAlerts,
    /// Restored alerts whose key another one has as well; ended by the next ticks.
    superseded: Vec<Open>,
    events: Numbers,
    pub(super) alerts: Numbers,
    pub(super) changes: Numbers,
    pub(super) names: LabelNames,
    hows: [Arc<str>; How::ALL.len()],
    flush_at: Option<Timestamp>,
    /// How far the flush that is under way has come.
    flushed: Option<usize>,
    pub(super) tally: Tally,
    fence: Fence,
    pub(super) reloads: Reloads,
    pub(super) mutes: Mutes,
    pub(super) flaps: Flaps,
    pub(super) storms: Storms,
    pub(super) heartbeats: Heartbeats,
}

/// What an effect needs of its event.
#[derive(Clone, Copy)]
pub(super) struct Here<'a> {
    pub(super) event: &'a Event,
    pub(super) id: EventId,
    pub(super) now: Timestamp,
    pub(super) routes: &'a Routes,
}

/// The decision on one event. `row` has its place here for `history: first`, under which a silent repeat
/// gets none; this version stores every event.
struct Decision {
    row: bool,
    alert: Option<AlertId>,
    changes: Vec<AlertChange>,
}

impl Correlator {
    /// Goes on from what the disk knows; `receivers` is how many will say which generation they have read.
    /// O(n) in the open alerts if they come oldest first.
    ///
    /// Of two restored alerts with one key, which no version writes, the younger stays and the first tick
    /// ends the other, so that neither is orphaned.
    #[must_use]
    pub fn new(limits: Limits, restored: Restored, receivers: &[u32]) -> Self {
        let Restored { mut open, restorer, last_event, last_alert, last_change, ended, mutes } = restored;
        open.retain(|alert| alert.is_open);
        if !open.is_sorted_by_key(|alert| alert.id) {
            open.sort_unstable_by_key(|alert| alert.id);
        }
        let mut last = (last_event, last_alert, last_change);
        let mut storms = Storms::default();
        let mut flaps = Flaps::default();
        for alert in &open {
            let last_event = alert.open.last_event;
            last = (last.0.max(last_event), last.1.max(alert.id), last.2.max(alert.change));
            if alert.origin == AlertOrigin::Storm {
                storms.restore(alert.record());
            }
            if alert.held {
                flaps.restore(alert.record());
            }
        }
        flaps.restore_ended(ended);
        let mutes = Mutes::new(mutes, open.iter().any(|alert| alert.muted));
        let (open, superseded) = OpenAlerts::of(restorer, open.into_iter());
        Self {
            limits: Limits { open_alerts: limits.open_alerts.min(MAX_ALERTS), ..limits },
            open,
            superseded,
            events: Numbers::after(last.0.0),
            alerts: Numbers::after(last.1.0),
            changes: Numbers::after(last.2),
            names: LabelNames::default(),
            hows: How::ALL.map(|how| how.as_str().into()),
            flush_at: None,
            flushed: None,
            tally: Tally::default(),
            fence: Fence::new(receivers),
            reloads: Reloads::default(),
            mutes,
            flaps,
            storms,
            heartbeats: Heartbeats::default(),
        }
    }

    /// Decides on `event` and appends one [`Command::Event`] with the decision to `out`. Costs a lookup an
    /// effect; texts are rendered for an alert that opens or changes alone.
    pub fn event(&mut self, event: Event, now: Timestamp, routes: &Routes, out: &mut Vec<Command>) {
        let id = EventId(self.events.next(now));
        self.mutes.look(now, self.open.len());
        let here = Here { event: &event, id, now, routes };
        // An event is left to the counts if all that it does is what need not be stored.
        let mut decision = Decision { row: event.effects.is_empty(), alert: None, changes: Vec::new() };
        if self.heartbeats.is_on() {
            decision.alert = self.heard(here, &mut decision.changes);
        }
        for effect in &event.effects {
            self.catch_up(&effect.key, event.generation, now, routes, &mut decision.changes);
            let alert = match effect.kind {
                // An alert that would begin: the event is stored, and belongs to the storm.
                EffectKind::Raise(_)
                    if self.storms.is_on()
                        && self.open.find(&effect.key).is_none()
                        && let Some(storm) = self.held_back(here, &mut decision.changes) =>
                {
                    decision.row = true;
                    Some(storm)
                }
                EffectKind::Raise(severity) => {
                    let before = decision.changes.len();
                    let alert = self.raise(effect, severity, here, &mut decision.changes);
                    let silent = alert.is_some() && decision.changes.len() == before;
                    decision.row |= effect.rule.store_repeats || !silent;
                    alert
                }
                EffectKind::Clear(by) => {
                    decision.row = true;
                    self.clear(effect, by, here, &mut decision.changes)
                }
                EffectKind::Store => {
                    decision.row = true;
                    None
                }
            };
            decision.alert = decision.alert.or(alert);
        }
        let Decision { row, alert, changes } = decision;
        let row = row || !changes.is_empty();
        out.push(Command::Event(Box::new(Decided { id, event, row, alert, changes })));
    }

    /// Applies reloads that are due and mutes that begin or end, ends what has expired, lets go what has flapped and is
    /// quiet, ends storms, raises heartbeats that are missing, and, every 30 s, tells the counts of what was repeated silently. The work of one call is bounded; returns
    /// whether more is due now.
    pub fn tick(&mut self, now: Timestamp, routes: &Routes, out: &mut Vec<Command>) -> bool {
        let mut changes = Vec::new();
        let mut budget = TICK_TIMERS;
        // What is muted is known before a reload tells of anything.
        self.mutes.look(now, self.open.len());
        let mut more = self.apply_reloads(now, routes, TICK_CHANGES, &mut changes);
        more |= self.apply_mutes(now, routes, TICK_CHANGES, &mut changes);
        while changes.len() < TICK_CHANGES {
            if let Some(open) = self.superseded.pop() {
                changes.push(self.resolve(open, How::Superseded, now, now, routes));
            } else if let Some(slot) = self.open.expired(now, &mut budget) {
                let open = self.open.remove(slot);
                changes.push(self.resolve(open, How::Expire, now, now, routes));
            } else {
                break;
            }
        }
        self.release_flapping(now, routes, &mut budget, TICK_CHANGES, &mut changes);
        self.end_storms(now, routes, &mut budget, TICK_CHANGES, &mut changes);
        self.miss(now, routes, &mut budget, TICK_CHANGES, &mut changes);
        more |= budget == 0 || changes.len() >= TICK_CHANGES;
        if !changes.is_empty() {
            out.push(Command::Changes(changes));
        }
        self.flush(now, out) || more
    }

    /// The counts that the writer has not been told yet, for an orderly end.
    pub fn finish(&mut self, out: &mut Vec<Command>) {
        let mut from = Some(0);
        while let Some(place) = from {
            from = self.take_counts(place, out);
        }
        self.flushed = None;
    }

    /// When [`Self::tick`] has something to do at the latest; `None` is not before the next event.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        if self.reloads.due(self.fence()) > 0 {
            return Some(Timestamp(i64::MIN));
        }
        let flush = self.flush_at.filter(|_| self.open.uncounted() > 0);
        let due = [
            flush,
            self.open.earliest(),
            self.mutes.wake_at(),
            self.flaps.wake_at(),
            self.storms.wake_at(),
            self.heartbeats.wake_at(),
        ];
        due.into_iter().flatten().min()
    }

    /// A receiver has read `generation` and hands over nothing older from here on.
    pub fn mark(&mut self, receiver: u32, generation: Generation) {
        self.fence.mark(receiver, generation);
    }

    /// A receiver has ended.
    pub fn leave(&mut self, receiver: u32) {
        self.fence.leave(receiver);
    }

    /// No event of an older generation than this one can still come. Without receivers that is any: the largest
    /// number.
    #[must_use]
    pub fn fence(&self) -> Generation {
        self.fence.lowest()
    }

    /// How many alerts are open.
    #[must_use]
    pub fn open_alerts(&self) -> usize {
        self.open.len()
    }

    /// How many of them are muted, and how many mutes are in force.
    pub(super) fn muted(&self) -> (usize, usize) {
        (self.open.muted(), self.mutes.active())
    }

    pub(super) fn open_by_severity(&self) -> [usize; Severity::ALL.len()] {
        self.open.by_severity()
    }

    pub(super) fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    fn raise(
        &mut self,
        effect: &Effect,
        severity: Severity,
        here: Here<'_>,
        changes: &mut Vec<AlertChange>,
    ) -> Option<AlertId> {
        let rule = &effect.rule;
        let Some(slot) = self.open.find(&effect.key) else {
            // Refused before anything is rendered: this is the path of a flood of made-up keys.
            if self.open.len() >= self.limits.open_alerts || self.full() {
                self.tally.refused += 1;
                return None;
            }
            let rendered = rule.text.render(here.event, severity);
            let labels = self.identity(effect, severity, &here.event.source.to_string(), rendered.labels);
            let flap = self.flap_of_beginning(effect, severity, here);
            return Some(self.begin(effect, severity, labels, rendered.annotations, flap, here, changes));
        };
        let open = self.open.get(slot);
        if open.last_event == here.id {
            return Some(open.record.id);
        }
        let same = open.record.severity == severity;
        if same && self.is_held(slot, effect) {
            return Some(self.hold_on(slot, effect, Some(severity), here, changes));
        }
        let open = self.open.get(slot);
        if same && is_quiet(open.record.quiet_until, rule.deduplicate, here.event.time) {
            return Some(self.repeat(slot, effect, here));
        }
        let flap = match same {
            true => open.record.flap.clone(),
            false => match self.flap_of_severity(slot, effect, severity, here) {
                Some(flap) => flap,
                None => return Some(self.hold_on(slot, effect, Some(severity), here, changes)),
            },
        };
        let Some(Rendered { labels, annotations }) =
            (!self.full()).then(|| rule.text.render(here.event, severity))
        else {
            return Some(self.raise_unrendered(slot, effect, severity, flap, here, changes));
        };
        if same {
            let record = &self.open.get(slot).record;
            let labels = self.identity(effect, severity, self.names.source(&record.labels), labels);
            if labels == record.labels {
                return Some(self.renew(slot, Some(annotations), effect, here, changes));
            }
            self.end(slot, How::Labels, here, changes);
            return Some(self.begin(effect, severity, labels, annotations, flap, here, changes));
        }
        let labels = self.identity(effect, severity, &here.event.source.to_string(), labels);
        self.end(slot, How::Severity, here, changes);
        Some(self.begin(effect, severity, labels, annotations, flap, here, changes))
    }

    /// A change of an open alert while the table is full: it goes on with the texts that it has.
    fn raise_unrendered(
        &mut self,
        slot: Slot,
        effect: &Effect,
        severity: Severity,
        flap: Option<Box<Flap>>,
        here: Here<'_>,
        changes: &mut Vec<AlertChange>,
    ) -> AlertId {
        let record = Arc::clone(&self.open.get(slot).record);
        if record.severity == severity {
            return self.renew(slot, None, effect, here, changes);
        }
        self.end(slot, How::Severity, here, changes);
        let labels = self.names.with_severity(record.labels.clone(), severity);
        self.begin(effect, severity, labels, record.annotations.clone(), flap, here, changes)
    }

    fn clear(
        &mut self,
        effect: &Effect,
        by: ClearedBy,
        here: Here<'_>,
        changes: &mut Vec<AlertChange>,
    ) -> Option<AlertId> {
        let how = match by {
            ClearedBy::Trap => How::Trap,
            ClearedBy::Severity => How::Severity,
        };
        let Event { time, generation, .. } = *here.event;
        let cleared = Cleared { how, event: here.id, time, generation };
        self.tally.forgotten += u64::from(!self.reloads.cleared(effect, cleared));
        let slot = self.open.find(&effect.key)?;
        let id = self.open.get(slot).record.id;
        if self.is_held(slot, effect) {
            return Some(self.hold_on(slot, effect, None, here, changes));
        }
        if self.flaps_by_end(slot, effect, here, changes) {
            return Some(id);
        }
        if effect.rule.flapping.is_none() {
            self.end(slot, how, here, changes);
            return Some(id);
        }
        let open = self.take_on(slot, here);
        let ended = self.resolve_keeping(open, how, here.event.time, here.now, here.routes);
        self.keep_flap(&ended.record, effect);
        changes.push(ended);
        Some(id)
    }

    /// Whether texts may no longer grow.
    fn full(&self) -> bool {
        self.open.octets() >= self.limits.open_octets
    }

    fn identity(&self, effect: &Effect, severity: Severity, source: &str, rule_labels: Labels) -> Labels {
        let parts = effect.rule.key_parts(&effect.key);
        self.names.identity(&effect.rule.alert, severity, source, parts, rule_labels)
    }

    /// Opens an alert whose key is free.
    #[allow(clippy::too_many_arguments, reason = "what an alert is made of")]
    fn begin(
        &mut self,
        effect: &Effect,
        severity: Severity,
        labels: Labels,
        mut annotations: Labels,
        flap: Option<Box<Flap>>,
        here: Here<'_>,
        changes: &mut Vec<AlertChange>,
    ) -> AlertId {
        let (rule, time) = (&effect.rule, here.event.time);
        let id = AlertId(self.alerts.next(here.now));
        annotations.shrink_to_fit();
        let record = AlertRecord {
            id,
            change: self.changes.next(here.now),
            alert: Arc::clone(&rule.alert),
            rule: Arc::clone(&rule.rule),
            severity,
            state: AlertState::Firing,
            key: effect.key.clone(),
            labels,
            annotations,
            count: 1,
            first_seen: time,
            last_seen: time,
            last_event: here.id,
            resolved_at: None,
            resolved_by: None,
            quiet_until: quiet_until(time, rule.deduplicate),
            expires_at: rule.expire.map(|expire| here.now.after(expire)),
            notify: rule.notify.clone(),
            by_hand: None,
            muted: None,
            flap,
            origin: AlertOrigin::Rule,
        };
        self.open_alert(record, here.event.generation, here.routes, changes);
        id
    }

    /// Puts an alert that begins into the table, muted if a mute wants it, and tells it.
    pub(super) fn open_alert(
        &mut self,
        mut record: AlertRecord,
        generation: Generation,
        routes: &Routes,
        changes: &mut Vec<AlertChange>,
    ) {
        record.muted = self.mutes.of(&record).map(|by| Muted { by, unheard: true });
        let mut open = Open::new(record);
        open.generation = generation;
        self.tally.fired += 1;
        changes.push(change(&open.record, routes));
        self.open.insert(open);
    }

    /// Counts a repeat and postpones the expiry.
    pub(super) fn repeat(&mut self, slot: Slot, effect: &Effect, here: Here<'_>) -> AlertId {
        let open = self.open.get_mut(slot);
        open.count = open.count.saturating_add(1);
        open.last_seen = here.event.time;
        open.last_event = here.id;
        let id = open.record.id;
        self.open.expire_at(slot, effect.rule.expire.map(|expire| here.now.after(expire)));
        self.open.untold(slot);
        id
    }

    /// A repeat outside the window: a change, and a new window.
    fn renew(
        &mut self,
        slot: Slot,
        annotations: Option<Labels>,
        effect: &Effect,
        here: Here<'_>,
        changes: &mut Vec<AlertChange>,
    ) -> AlertId {
        let id = self.repeat(slot, effect, here);
        let number = self.changes.next(here.now);
        let open = self.open.get_mut(slot);
        // Another rule that raises the same alert says nothing of this alert's own.
        if annotations.is_some() && open.record.rule == effect.rule.rule {
            open.generation = open.generation.max(here.event.generation);
        }
        let record = open.fold();
        record.change = number;
        record.quiet_until = quiet_until(here.event.time, effect.rule.deduplicate);
        if let Some(mut annotations) = annotations {
            annotations.shrink_to_fit();
            record.annotations = annotations;
        }
        self.open.told(slot);
        self.open.reweigh(slot);
        changes.push(change(&self.open.get(slot).record, here.routes));
        id
    }

    /// Ends an alert on an event, which becomes its last.
    pub(super) fn end(&mut self, slot: Slot, how: How, here: Here<'_>, changes: &mut Vec<AlertChange>) {
        let open = self.take_on(slot, here);
        changes.push(self.resolve(open, how, here.event.time, here.now, here.routes));
    }

    /// Takes an alert out of the table on an event, which becomes its last.
    fn take_on(&mut self, slot: Slot, here: Here<'_>) -> Open {
        let mut open = self.open.remove(slot);
        open.last_seen = here.event.time;
        open.last_event = here.id;
        open
    }

    /// The last change of an alert that has left the table.
    pub(super) fn resolve(
        &mut self,
        mut open: Open,
        how: How,
        at: Timestamp,
        now: Timestamp,
        routes: &Routes,
    ) -> AlertChange {
        if open.record.flap.is_some() {
            open.fold().flap = None;
        }
        self.resolve_keeping(open, how, at, now, routes)
    }

    /// As [`Self::resolve`], of one that may come and go on: how it did stays on its record.
    fn resolve_keeping(
        &mut self,
        mut open: Open,
        how: How,
        at: Timestamp,
        now: Timestamp,
        routes: &Routes,
    ) -> AlertChange {
        self.tally.resolved[how as usize] += 1;
        let record = open.fold();
        record.change = self.changes.next(now);
        record.state = AlertState::Resolved;
        record.resolved_at = Some(at.max(record.first_seen));
        record.resolved_by = Some(Arc::clone(&self.hows[how as usize]));
        record.quiet_until = None;
        record.expires_at = None;
        change(&open.record, routes)
    }

    /// One step of the flush of counts, if it is time. Returns whether it has more.
    fn flush(&mut self, now: Timestamp, out: &mut Vec<Command>) -> bool {
        let from = match self.flushed {
            Some(from) => from,
            None => {
                let at = *self.flush_at.get_or_insert_with(|| now.after(FLUSH_INTERVAL));
                // A time that is further ahead than an interval: the clock was set back.
                if now < at && at.since(now) <= FLUSH_INTERVAL {
                    return false;
                }
                self.flush_at = Some(now.after(FLUSH_INTERVAL));
                self.open.shrink();
                0
            }
        };
        self.flushed = self.take_counts(from, out);
        self.flushed.is_some()
    }

    fn take_counts(&mut self, from: usize, out: &mut Vec<Command>) -> Option<usize> {
        if self.open.uncounted() == 0 {
            return None;
        }
        let mut counts = Vec::new();
        let next = self.open.take_counts(from, TICK_COUNTS, &mut counts);
        if !counts.is_empty() {
            out.push(Command::Counts(counts));
        }
        next
    }

    /// The open alerts as they are now, by number.
    #[cfg(test)]
    pub(super) fn records(&self) -> Vec<AlertRecord> {
        self.open.check();
        let mut records: Vec<_> = self
            .open
            .iter()
            .map(|open| AlertRecord {
                count: open.count,
                last_seen: open.last_seen,
                last_event: open.last_event,
                expires_at: open.expires_at,
                ..AlertRecord::clone(&open.record)
            })
            .collect();
        records.sort_unstable_by_key(|record| record.id);
        records
    }
}

pub(super) fn change(record: &Arc<AlertRecord>, routes: &Routes) -> AlertChange {
    let queue_for = if record.is_news() { routes.queue_for(record.notify.as_deref()) } else { Vec::new() };
    AlertChange { record: Arc::clone(record), queue_for }
}
