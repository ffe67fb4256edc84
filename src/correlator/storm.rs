//! Storm control: a source that begins too many alerts gets one that says so, until it has calmed down.
//!
//! Events are stored as ever, and open alerts are repeated and end; only what would begin is held back, and counted
//! on the storm's alert. Where more sources begin alerts than are remembered, those beyond are not controlled: the
//! bound on open alerts still holds.
//!
//! A source is what rules see as `source` ([`Watch::source`]): the addresses of a device that has one name are counted
//! together.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::alert::{How, Open};
use super::heartbeat::called;
use super::route::Routes;
use super::state::{Correlator, Here};
use crate::device::Device;
use crate::event::{
    AlertChange, AlertId, AlertOrigin, AlertRecord, KEY_SEPARATOR, StormControl, Timestamp, Watch,
};

/// Sources that are counted at once.
const MAX_SOURCES: usize = 1 << 16;

/// How fast sources begin alerts.
#[derive(Debug, Default)]
pub(super) struct Storms {
    watch: Option<Arc<Watch>>,
    sources: HashMap<Box<str>, Pace>,
    /// Sources in a storm, by when it may be over; that time may lie before the real one.
    over_at: BTreeSet<(Timestamp, Box<str>)>,
    /// When sources that are quiet were last forgotten.
    swept: Timestamp,
}

#[derive(Debug, Clone, Copy)]
struct Pace {
    window: Timestamp,
    begun: u32,
    /// When it was last too fast, while it is in a storm.
    exceeded: Option<Timestamp>,
}

impl Storms {
    fn control(&self) -> Option<&StormControl> {
        self.watch.as_deref()?.storm.as_ref()
    }

    /// Whether anything is controlled.
    pub(super) fn is_on(&self) -> bool {
        self.control().is_some()
    }

    /// An open storm of the time before a restart.
    pub(super) fn restore(&mut self, record: &AlertRecord) {
        if let Some(source) = source_of(&record.key) {
            let at = record.last_seen;
            self.sources.insert(source.into(), Pace { window: at, begun: 0, exceeded: Some(at) });
            self.over_at.insert((at, source.into()));
        }
    }

    /// Goes by other settings from now on. Without control, every storm is over.
    pub(super) fn set(&mut self, watch: &Arc<Watch>) {
        self.watch = watch.storm.is_some().then(|| Arc::clone(watch));
        if self.watch.is_none() {
            let storms = self.sources.iter().filter(|(_, source)| source.exceeded.is_some());
            self.over_at = storms.map(|(source, _)| (Timestamp(i64::MIN), source.clone())).collect();
        }
    }

    /// A source in a storm is called otherwise from now on. What stands under its old name in `over_at` is passed
    /// over.
    fn rename(&mut self, old: &str, new: &str) {
        let Some(pace) = self.sources.remove(old) else { return };
        self.over_at.insert((pace.window, new.into()));
        let own = self.sources.entry(new.into()).or_insert(pace);
        own.exceeded = own.exceeded.max(pace.exceeded);
    }

    /// When a storm may be over.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        self.over_at.first().map(|(at, _)| *at)
    }

    /// Counts an alert that would begin. Says whether the source is too fast, or still in a storm.
    fn count(&mut self, source: &str, now: Timestamp) -> Counted {
        let Some((alerts, per, hold)) = self.control().map(|own| (own.alerts, own.per, own.hold)) else {
            return Counted::Calm;
        };
        if !self.sources.contains_key(source) && !self.has_room(now, per) {
            return Counted::Calm;
        }
        let own = self.sources.entry(source.into()).or_insert(Pace { window: now, begun: 0, exceeded: None });
        // Also after a clock was set back.
        if now < own.window || now.since(own.window) >= per {
            (own.window, own.begun) = (now, 0);
        }
        own.begun = own.begun.saturating_add(1);
        let before = own.exceeded;
        if own.begun > alerts {
            own.exceeded = Some(now);
            if before.is_none() {
                self.over_at.insert((now.after(hold), source.into()));
            }
        }
        match (before, own.exceeded) {
            (_, None) => Counted::Calm,
            (None, Some(_)) => Counted::Begins,
            (Some(_), Some(_)) => Counted::GoesOn,
        }
    }

    fn has_room(&mut self, now: Timestamp, per: Duration) -> bool {
        if self.sources.len() < MAX_SOURCES {
            return true;
        }
        if now < self.swept || now.since(self.swept) >= per.max(Duration::from_secs(1)) {
            self.swept = now;
            self.forget(now, per);
        }
        self.sources.len() < MAX_SOURCES
    }

    fn forget(&mut self, now: Timestamp, per: Duration) {
        self.sources.retain(|_, own| own.exceeded.is_some() || now.since(own.window) < per);
    }
}

enum Counted {
    Calm,
    Begins,
    GoesOn,
}

/// No rule's key begins with a separator.
fn key_of(source: &str) -> Box<str> {
    format!("{KEY_SEPARATOR}storm{KEY_SEPARATOR}{source}").into()
}

fn source_of(key: &str) -> Option<&str> {
    key.split(KEY_SEPARATOR).nth(2)
}

impl Correlator {
    /// An alert would begin. The storm's alert that holds it back, if one does.
    pub(super) fn held_back(&mut self, here: Here<'_>, changes: &mut Vec<AlertChange>) -> Option<AlertId> {
        let watch = self.storms.watch.clone()?;
        let source = watch.source(&here.event.source);
        let begins = match self.storms.count(&source, here.now) {
            Counted::Calm => return None,
            Counted::Begins => true,
            Counted::GoesOn => false,
        };
        let key = key_of(&source);
        let Some(slot) = self.open.find(&key) else {
            if !begins {
                // An operator has closed it: it counts anew.
                self.storms.sources.remove(&*source);
                return None;
            }
            return self.open_storm(&source, key, here, changes);
        };
        let open = self.open.get_mut(slot);
        open.count = open.count.saturating_add(1);
        (open.last_seen, open.last_event) = (here.event.time, here.id);
        let id = open.record.id;
        self.open.untold(slot);
        Some(id)
    }

    fn open_storm(
        &mut self,
        source: &str,
        key: Box<str>,
        here: Here<'_>,
        changes: &mut Vec<AlertChange>,
    ) -> Option<AlertId> {
        let device = called(source, &here.event.source.to_string());
        let record = AlertRecord {
            first_seen: here.event.time,
            last_seen: here.event.time,
            last_event: here.id,
            ..self.storm(source, &device, key, here.now)?
        };
        let id = record.id;
        self.open_alert(record, here.event.generation, here.routes, changes);
        Some(id)
    }

    /// The alert of a storm as it begins at `now`; `device` is the source as its summary calls it.
    fn storm(&mut self, source: &str, device: &str, key: Box<str>, now: Timestamp) -> Option<AlertRecord> {
        let watch = self.storms.watch.clone()?;
        let control = watch.storm.as_ref()?;
        let seconds = control.per.as_secs();
        let summary = format!(
            "{device} has begun more than {} alerts within {seconds} s: further ones are held back until it is calm",
            control.alerts
        );
        let record = self.watched(&control.raises, source, key, summary, now);
        Some(AlertRecord { rule: "storm".into(), origin: AlertOrigin::Storm, ..record })
    }

    /// Takes storms of addresses that have a name now out of the table, each with the alert that goes on under the
    /// name, if there is none yet. A storm under a name that nobody has any more is over by itself (`quiet`).
    pub(super) fn renamed_storms(&mut self, now: Timestamp) -> Vec<(Open, Option<AlertRecord>)> {
        let Some(watch) = self.storms.watch.clone() else { return Vec::new() };
        let renamed = self.storms.sources.iter().filter_map(|(old, pace)| {
            pace.exceeded?;
            let device: Device = old.parse().ok()?;
            match watch.source(&device) {
                new if *new == **old => None,
                new => Some((Box::clone(old), Box::from(new))),
            }
        });
        // In order, so that of several the same one goes on at each start.
        let renamed: BTreeSet<(Box<str>, Box<str>)> = renamed.collect();
        let mut ended = Vec::new();
        let mut begun = HashSet::new();
        for (old, new) in renamed {
            self.storms.rename(&old, &new);
            let Some(slot) = self.open.find(&key_of(&old)) else { continue };
            let open = self.open.remove(slot);
            let key = key_of(&new);
            let free = self.open.find(&key).is_none() && begun.insert(Box::clone(&key));
            let begins = if free { self.storm(&new, &called(&new, &old), key, now) } else { None };
            ended.push((open, begins));
        }
        ended
    }

    /// Ends storms that are over. Each look takes one from `budget`.
    pub(super) fn end_storms(
        &mut self,
        now: Timestamp,
        routes: &Routes,
        budget: &mut usize,
        most: usize,
        changes: &mut Vec<AlertChange>,
    ) {
        while *budget > 0 && changes.len() < most {
            if self.storms.over_at.first().is_none_or(|(at, _)| *at > now) {
                return;
            }
            let Some((_, source)) = self.storms.over_at.pop_first() else { return };
            *budget -= 1;
            let Some(exceeded) = self.storms.sources.get(&source).and_then(|own| own.exceeded) else {
                continue;
            };
            let hold = self.storms.control().map(|control| control.hold);
            if let Some(over) = hold.map(|hold| exceeded.after(hold)).filter(|over| *over > now) {
                // A time that is further ahead than a whole hold: the clock was set back.
                let ahead = hold.is_some_and(|hold| over.since(now) > hold);
                if !ahead {
                    self.storms.over_at.insert((over, source));
                    continue;
                }
            }
            self.storms.sources.remove(&source);
            if let Some(slot) = self.open.find(&key_of(&source)) {
                let open = self.open.remove(slot);
                let how = if hold.is_some() { How::Quiet } else { How::Reload };
                changes.push(self.resolve(open, how, now, now, routes));
            }
        }
    }
}
