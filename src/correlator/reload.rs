//! Rules that changed, applied to open alerts: held back by the fence, then walked through step by step.
//!
//! Changes are applied in the order of their generations, each to the alerts whose identity is older than it
//! ([`super::alert::Open::generation`]): so a step may be done again, and an alert that an event of the new
//! generation has opened meanwhile is left alone. An event never meets an alert that has to leave its key under
//! the event's generation: that one is brought up to it first. What is due together is applied together, and
//! each alert goes straight to its last identity. The walk goes from the last slot to the first. A removal moves
//! the last alert down, and an insertion adds at the end: neither brings an alert of the part that is still
//! to come into the part that is done.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::alert::{How, Open};
use super::deduplicate::quiet_until;
use super::identity::{LabelNames, Labels};
use super::rekey::{Fate, fate};
use super::route::Routes;
use super::state::{Correlator, TICK_ALERTS, change};
use super::table::Slot;
use crate::event::{
    AlertChange, AlertId, AlertRecord, Effect, EventId, Generation, Muted, RuleAction, RuleChange,
    RuleChanges, Timestamp,
};

/// How many clears are remembered for each generation that is pending.
const MAX_CLEARS: usize = 1 << 16;

/// Changes of rules that wait, or are being applied, in the order of generations.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    pending: Vec<Pending>,
    /// Up to which generation the walk applies them, and the slot that it has come down to.
    walk: Option<(Generation, usize)>,
}

#[derive(Debug)]
struct Pending {
    changes: Arc<RuleChanges>,
    /// Whether events of older generations may still come.
    fenced: bool,
    by_rule: HashMap<Arc<str>, usize>,
    successors: HashSet<Arc<str>>,
    /// The last clear of each key by an event that these changes are the newest for. It found nothing where
    /// the alert still lay under its old key, and has to end it when it comes to the new one.
    clears: HashMap<Box<str>, Cleared>,
}

/// An event that cleared a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cleared {
    pub(super) how: How,
    pub(super) event: EventId,
    pub(super) time: Timestamp,
    pub(super) generation: Generation,
}

impl Reloads {
    fn add(&mut self, changes: Arc<RuleChanges>, fenced: bool) {
        if changes.rules.is_empty() && !changes.clear_windows {
            return;
        }
        let by_rule = changes.rules.iter().zip(0..).map(|(change, place)| (Arc::clone(&change.rule), place));
        let successors = changes.rules.iter().filter_map(|change| change.successor.as_ref());
        let pending = Pending {
            by_rule: by_rule.collect(),
            successors: successors.map(|rule| Arc::clone(&rule.rule)).collect(),
            clears: HashMap::new(),
            fenced,
            changes,
        };
        let place = self.pending.partition_point(|other| other.generation() <= pending.generation());
        self.pending.insert(place, pending);
    }

    /// How many can be applied now.
    pub(super) fn due(&self, fence: Generation) -> usize {
        self.pending.iter().take_while(|first| !first.fenced || fence >= first.generation()).count()
    }

    /// An event has cleared a key. Returns false where that matters and there is no room to remember it.
    pub(super) fn cleared(&mut self, effect: &Effect, cleared: Cleared) -> bool {
        let known = self.pending.partition_point(|pending| pending.generation() <= cleared.generation);
        let Some((newest, older)) = self.pending[..known].split_last_mut() else { return true };
        let rule = &effect.rule.rule;
        if !newest.successors.contains(rule) && !older.iter().any(|older| older.successors.contains(rule)) {
            return true;
        }
        if newest.clears.len() >= MAX_CLEARS && !newest.clears.contains_key(&effect.key) {
            return false;
        }
        newest.clears.insert(effect.key.clone(), cleared);
        true
    }
}

impl Pending {
    fn generation(&self) -> Generation {
        self.changes.generation
    }

    fn of(&self, rule: &str) -> Option<&RuleChange> {
        self.by_rule.get(rule).map(|&place| &self.changes.rules[place])
    }
}

/// Changes that are applied to an alert together: the first `number` of those that are pending, at least one.
#[derive(Clone, Copy)]
struct Batch<'a> {
    pending: &'a [Pending],
    number: usize,
}

impl Batch<'_> {
    fn generation(self) -> Generation {
        self.pending[..self.number].last().map(Pending::generation).unwrap_or_default()
    }

    /// With those that are pending up to `generation`, if they are more.
    fn up_to(self, generation: Generation) -> Option<Self> {
        let number = self.pending.partition_point(|pending| pending.generation() <= generation);
        (number > self.number).then_some(Self { number, ..self })
    }

    fn newer_than(&self, generation: Generation) -> impl Iterator<Item = &Pending> {
        self.pending[..self.number].iter().filter(move |pending| pending.generation() > generation)
    }

    /// Whether repeats of an alert whose identity is of `generation` are news again.
    fn clears_windows(&self, generation: Generation) -> bool {
        self.newer_than(generation).any(|pending| pending.changes.clear_windows)
    }

    /// What becomes of an alert whose identity is older.
    fn turn(&self, names: &LabelNames, open: &Open) -> Turn {
        let mut record = Cow::Borrowed(&*open.record);
        let mut moved_by = None;
        for pending in self.newer_than(open.generation) {
            if let Some(change) = pending.of(&record.rule) {
                let fate = fate(names, &record, change);
                let (Some(successor), true) = (&change.successor, fate != Fate::Ends) else {
                    return Turn::Leaves(Leaving::Ends);
                };
                if fate != Fate::Stays {
                    record.to_mut().rule = Arc::clone(&successor.rule);
                }
                if let Fate::Moves { key, labels } = fate {
                    let record = record.to_mut();
                    record.alert = Arc::clone(&successor.alert);
                    (record.key, record.labels) = (key, labels);
                    moved_by = Some(successor);
                } else if moved_by.is_some() {
                    moved_by = Some(successor);
                }
            }
            let cleared = pending.clears.get(&record.key);
            if let Some(cleared) = cleared.filter(|cleared| cleared.event > open.last_event) {
                return Turn::Leaves(Leaving::Cleared(*cleared));
            }
        }
        let back = record.key == open.record.key && record.labels == open.record.labels;
        match (moved_by, record) {
            (Some(rule), Cow::Owned(record)) if !back => Turn::Leaves(Leaving::Moves {
                key: record.key,
                labels: record.labels,
                rule: Arc::clone(rule),
            }),
            (_, record) if record.rule != open.record.rule => Turn::Renamed(Arc::clone(&record.rule)),
            _ => Turn::Stays,
        }
    }
}

/// What to do with an alert.
enum Turn {
    Stays,
    Renamed(Arc<str>),
    Leaves(Leaving),
}

/// Why an alert leaves its key.
enum Leaving {
    Ends,
    /// An event of a newer generation has ended it.
    Cleared(Cleared),
    Moves {
        key: Box<str>,
        labels: Labels,
        rule: Arc<RuleAction>,
    },
}

/// What became of the alerts that were treated together.
#[derive(Default)]
struct Moves {
    ended: Vec<(Open, How)>,
    /// The keys of alerts that were opened, or have come back.
    begun: Vec<Box<str>>,
}

impl Correlator {
    /// A generation was published whose rules differ, or that wants repeats to be news again. Applied by
    /// [`Self::tick`] once [`Self::fence`] has reached it, in the order of generations; the same changes again
    /// change nothing more.
    ///
    /// Of each open alert of a changed rule:
    /// - the rule is gone: it ends (`reload`);
    /// - the rule that stands for it gives it the same key and labels: it goes on. Where that rule has another
    ///   name, a change tells it to the disk and to those who read the state; event webhooks hear nothing;
    /// - it gives it others, and the alert knows them: it ends (`reload`), and one under the new identity begins
    ///   in the same command, with the severity, counts, times and annotations that it had, and with the rule's
    ///   `notify`, window and expiry (one that nothing has repeated for so long ends as `expire` instead);
    /// - only an event can tell what it is now: it ends (`reload`), and the next event opens it.
    ///
    /// An alert that finds another one open under its new key is one problem with it: the older of the two
    /// ends (`superseded`). A severity is not decided again. Windows end in memory alone: a restart has them
    /// again, unless `reload.preserve_state` is off then too.
    ///
    /// An event of the new generation that clears an alert which still lies under its old key ends it when its
    /// turn comes, by what it said. Of such clears 65,536 a generation are remembered; more are told in the
    /// log. The changes have to come before the first event of their generation for that: hand them over
    /// before it is published.
    pub fn reloaded(&mut self, changes: Arc<RuleChanges>) {
        self.reloads.add(changes, true);
    }

    /// As [`Self::reloaded`], for the rules of a start: no receiver hands over anything older, so that nothing
    /// is waited for.
    pub fn reconcile(&mut self, changes: RuleChanges) {
        self.reloads.add(Arc::new(changes), false);
    }

    /// One bounded step of what is due. Returns whether more is.
    pub(super) fn apply_reloads(
        &mut self,
        now: Timestamp,
        routes: &Routes,
        most: usize,
        changes: &mut Vec<AlertChange>,
    ) -> bool {
        let number = self.reloads.due(self.fence());
        if number == 0 {
            return false;
        }
        let mut reloads = std::mem::take(&mut self.reloads);
        let batch = Batch { pending: &reloads.pending, number };
        let generation = batch.generation();
        // Another change has become due: those that were seen are looked at for its sake.
        let begun = reloads.walk.filter(|(walked, _)| *walked == generation);
        let mut above = begun.map_or(usize::MAX, |(_, above)| above).min(self.open.len());
        let mut budget = TICK_ALERTS;
        while above > 0 && budget > 0 && changes.len() < most {
            above -= 1;
            budget -= 1;
            self.reload_alert(above as Slot, batch, now, routes, changes);
            above = above.min(self.open.len());
        }
        reloads.walk = (above > 0).then_some((generation, above));
        if above == 0 {
            if reloads.pending.drain(..number).any(|pending| pending.changes.clear_windows) {
                self.flaps.clear();
            }
            // A mute may name the rule that stands for an alert now.
            self.mutes.look_at_all(self.open.len());
        }
        self.reloads = reloads;
        above > 0
    }

    /// Brings the alert under `key`, if there is one, up to `generation` ahead of its turn: an event of a
    /// generation must not take an alert for its own that has to leave the key under that generation's rules.
    pub(super) fn catch_up(
        &mut self,
        key: &str,
        generation: Generation,
        now: Timestamp,
        routes: &Routes,
        changes: &mut Vec<AlertChange>,
    ) {
        if self.reloads.pending.is_empty() {
            return;
        }
        let reloads = std::mem::take(&mut self.reloads);
        let batch = Batch { pending: &reloads.pending, number: 0 }.up_to(generation);
        if let (Some(slot), Some(batch)) = (self.open.find(key), batch) {
            self.reload_alert(slot, batch, now, routes, changes);
        }
        self.reloads = reloads;
    }

    fn reload_alert(
        &mut self,
        slot: Slot,
        batch: Batch<'_>,
        now: Timestamp,
        routes: &Routes,
        changes: &mut Vec<AlertChange>,
    ) {
        let open = self.open.get(slot);
        if open.generation >= batch.generation() {
            return;
        }
        // No rule has raised it, whatever one is called.
        if !open.record.origin.is_rule() {
            self.open.get_mut(slot).generation = batch.generation();
            return;
        }
        match batch.turn(&self.names, open) {
            Turn::Stays => self.settle(slot, batch),
            Turn::Renamed(rule) => {
                self.settle(slot, batch);
                changes.push(self.rename(slot, rule, now));
            }
            Turn::Leaves(leaving) => self.relocate(slot, leaving, batch, now, routes, changes),
        }
    }

    /// An alert that goes on as it is.
    fn settle(&mut self, slot: Slot, batch: Batch<'_>) {
        let open = self.open.get_mut(slot);
        let clears_windows = batch.clears_windows(open.generation);
        open.generation = batch.generation();
        if clears_windows && open.record.quiet_until.is_some() {
            open.fold().quiet_until = None;
        }
        if clears_windows && open.record.flap.is_some() {
            self.release_early(slot);
        }
    }

    /// The alert's rule has another name. The disk must know, or a restart would miss the rule.
    fn rename(&mut self, slot: Slot, rule: Arc<str>, now: Timestamp) -> AlertChange {
        let number = self.changes.next(now);
        let record = self.open.get_mut(slot).fold();
        record.rule = rule;
        record.change = number;
        self.open.told(slot);
        AlertChange { record: Arc::clone(&self.open.get(slot).record), queue_for: Vec::new() }
    }

    /// Takes an alert from its key; what has to leave the key that it comes to is treated with it, so that
    /// rules which exchange their keys lose nothing. All ends come before all begins: who tells alerts
    /// apart by labels would take a later end for that of the new one.
    fn relocate(
        &mut self,
        slot: Slot,
        leaving: Leaving,
        batch: Batch<'_>,
        now: Timestamp,
        routes: &Routes,
        changes: &mut Vec<AlertChange>,
    ) {
        let mut moves = Moves::default();
        let mut next = Some((self.open.remove(slot), leaving, batch));
        while let Some((open, leaving, batch)) = next {
            next = self.relocate_one(open, leaving, batch, now, &mut moves);
        }
        for (open, how) in moves.ended {
            let at = if matches!(how, How::Trap | How::Severity) { open.last_seen } else { now };
            changes.push(self.resolve(open, how, at, now, routes));
        }
        for key in moves.begun {
            let Some(slot) = self.open.find(&key) else { continue };
            let number = self.changes.next(now);
            self.open.get_mut(slot).fold().change = number;
            changes.push(change(&self.open.get(slot).record, routes));
        }
    }

    /// Treats one alert that has left the table. Returns what is to be treated next: the one that had to leave
    /// its new key, or itself for newer changes.
    fn relocate_one<'a>(
        &mut self,
        mut open: Open,
        leaving: Leaving,
        batch: Batch<'a>,
        now: Timestamp,
        moves: &mut Moves,
    ) -> Option<(Open, Leaving, Batch<'a>)> {
        let (key, labels, rule) = match leaving {
            Leaving::Moves { key, labels, rule } => (key, labels, rule),
            Leaving::Cleared(cleared) => {
                (open.last_event, open.last_seen) = (cleared.event, cleared.time);
                moves.ended.push((open, cleared.how));
                return None;
            }
            Leaving::Ends => {
                moves.ended.push((open, How::Reload));
                return None;
            }
        };
        let expires_at = rule.expire.map(|expire| open.last_seen.after(expire));
        if expires_at.is_some_and(|at| at <= now) {
            moves.ended.push((open, How::Expire));
            return None;
        }
        let mut displaced = None;
        if let Some(place) = self.open.find(&key) {
            let other = self.open.get(place);
            if let Turn::Leaves(leaving) = batch.turn(&self.names, other) {
                displaced = Some((self.open.remove(place), leaving, batch));
            } else if let Some(wider) = batch.up_to(other.generation) {
                // The key means another problem to the generation that has opened the other one.
                return self.relocate_further(open, wider, moves);
            } else if other.record.id < open.record.id {
                moves.ended.push((self.open.remove(place), How::Superseded));
            } else {
                moves.ended.push((open, How::Superseded));
                return None;
            }
        }
        let clears_windows = batch.clears_windows(open.generation);
        let mut record = AlertRecord {
            id: AlertId(self.alerts.next(now)),
            alert: Arc::clone(&rule.alert),
            rule: Arc::clone(&rule.rule),
            key: key.clone(),
            labels,
            quiet_until: quiet_until(now, rule.deduplicate).filter(|_| !clears_windows),
            expires_at,
            notify: rule.notify.clone(),
            ..open.fold().clone()
        };
        record.muted = self.mutes.of(&record).map(|by| Muted { by, unheard: true });
        self.move_flap(&mut record, clears_windows);
        moves.ended.push((open, How::Reload));
        moves.begun.push(key);
        self.tally.fired += 1;
        let mut begun = Open::new(record);
        begun.generation = batch.generation();
        self.open.insert(begun);
        displaced
    }

    /// Applies newer changes as well to an alert that has left the table: they may bring it to its place, too.
    fn relocate_further<'a>(
        &mut self,
        mut open: Open,
        batch: Batch<'a>,
        moves: &mut Moves,
    ) -> Option<(Open, Leaving, Batch<'a>)> {
        let rule = match batch.turn(&self.names, &open) {
            Turn::Leaves(leaving) => return Some((open, leaving, batch)),
            Turn::Renamed(rule) => rule,
            Turn::Stays => Arc::clone(&open.record.rule),
        };
        if self.open.find(&open.record.key).is_some() {
            moves.ended.push((open, How::Superseded));
            return None;
        }
        open.generation = batch.generation();
        open.fold().rule = rule;
        moves.begun.push(open.record.key.clone());
        self.open.insert(open);
        None
    }
}
