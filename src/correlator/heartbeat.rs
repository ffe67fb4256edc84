//! Heartbeats: devices that must send something within a time, and the alert of one that does not.
//!
//! A timer stands for each device of each heartbeat, from the start on (nobody knows what came in while Nereus was
//! not there) or from the reload that added it. An alert that is open over a restart or a reload stays open until
//! the device is heard.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use smallvec::SmallVec;

use super::alert::How;
use super::route::Routes;
use super::state::{Correlator, Here};
use crate::device::Device;
use crate::event::{
    AlertChange, AlertId, AlertOrigin, AlertRecord, AlertState, EventId, Generation, KEY_SEPARATOR, Raises,
    Timestamp, Watch,
};

/// What is waited for.
#[derive(Debug, Default)]
pub(super) struct Heartbeats {
    watch: Arc<Watch>,
    beats: Vec<Beat>,
    by_source: HashMap<Device, SmallVec<[u32; 2]>>,
    /// When beats are looked at; one that was heard meanwhile is looked at again.
    timers: BTreeSet<(Timestamp, u32)>,
    looked: Timestamp,
}

#[derive(Debug, Clone)]
struct Beat {
    /// Its place among the settings.
    heartbeat: u32,
    source: Device,
    due: Timestamp,
    /// Its alert is open: nothing is waited for but the device.
    silent: bool,
}

impl Heartbeats {
    /// When the next one is due.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Whether anything is waited for.
    pub(super) fn is_on(&self) -> bool {
        !self.beats.is_empty()
    }

    fn key(&self, beat: &Beat) -> Box<str> {
        let name = self.watch.heartbeats.get(beat.heartbeat as usize).map_or("", |own| &own.name);
        key_of(name, &beat.source)
    }
}

/// No rule's key begins with a separator.
fn key_of(name: &str, source: &Device) -> Box<str> {
    format!("{KEY_SEPARATOR}heartbeat{KEY_SEPARATOR}{name}{KEY_SEPARATOR}{source}").into()
}

impl Correlator {
    /// Goes by other settings from now on: of a start before the first event, or of a reload. Alerts of what is no
    /// longer watched end (`reload`). Costs a walk over the open alerts.
    pub fn watch(
        &mut self,
        watch: &Arc<Watch>,
        now: Timestamp,
        routes: &Routes,
        changes: &mut Vec<AlertChange>,
    ) {
        self.storms.set(watch);
        let before: HashMap<Box<str>, Timestamp> =
            self.heartbeats.beats.iter().map(|beat| (self.heartbeats.key(beat), beat.due)).collect();
        let mut made = Heartbeats { watch: Arc::clone(watch), looked: now, ..Heartbeats::default() };
        let mut keys = HashMap::new();
        for (heartbeat, number) in watch.heartbeats.iter().zip(0..) {
            for source in &heartbeat.sources {
                let key = key_of(&heartbeat.name, source);
                // A shorter time counts from now on.
                let due = now.after(heartbeat.within);
                let due = before.get(&key).map_or(due, |before| due.min(*before));
                let silent = self.open.find(&key).is_some();
                let place = made.beats.len() as u32;
                if !silent {
                    made.timers.insert((due, place));
                }
                made.by_source.entry(source.clone()).or_default().push(place);
                made.beats.push(Beat { heartbeat: number, source: source.clone(), due, silent });
                keys.insert(key, number);
            }
        }
        self.heartbeats = made;
        let gone =
            |record: &AlertRecord| record.origin == AlertOrigin::Heartbeat && !keys.contains_key(&record.key);
        for key in self.open.keys_of(gone) {
            if let Some(slot) = self.open.find(&key) {
                let open = self.open.remove(slot);
                changes.push(self.resolve(open, How::Reload, now, now, routes));
            }
        }
    }

    /// A device has sent something. The alert that it ends, if one was open.
    pub(super) fn heard(&mut self, here: Here<'_>, changes: &mut Vec<AlertChange>) -> Option<AlertId> {
        let places = self.heartbeats.by_source.get(&here.event.source)?.clone();
        let mut ended = None;
        for place in places {
            let beat = self.heartbeats.beats[place as usize].clone();
            let within = self.heartbeats.watch.heartbeats[beat.heartbeat as usize].within;
            let due = here.now.after(within);
            self.heartbeats.beats[place as usize].due = due;
            if !beat.silent {
                continue;
            }
            self.heartbeats.beats[place as usize].silent = false;
            self.heartbeats.timers.insert((due, place));
            if let Some(slot) = self.open.find(&self.heartbeats.key(&beat)) {
                ended = ended.or(Some(self.open.get(slot).record.id));
                self.end(slot, How::Heartbeat, here, changes);
            }
        }
        ended
    }

    /// Raises what is due. Each look takes one from `budget`.
    pub(super) fn miss(
        &mut self,
        now: Timestamp,
        routes: &Routes,
        budget: &mut usize,
        most: usize,
        changes: &mut Vec<AlertChange>,
    ) {
        if now < self.heartbeats.looked {
            self.wind_back(now);
        }
        self.heartbeats.looked = now;
        while *budget > 0 && changes.len() < most {
            let Some(&(at, place)) = self.heartbeats.timers.first().filter(|(at, _)| *at <= now) else {
                return;
            };
            self.heartbeats.timers.remove(&(at, place));
            *budget -= 1;
            let beat = self.heartbeats.beats[place as usize].clone();
            if beat.due > now {
                self.heartbeats.timers.insert((beat.due, place));
                continue;
            }
            self.heartbeats.beats[place as usize].silent = true;
            let key = self.heartbeats.key(&beat);
            if self.open.find(&key).is_some() {
                continue;
            }
            let watch = Arc::clone(&self.heartbeats.watch);
            let heartbeat = &watch.heartbeats[beat.heartbeat as usize];
            let seconds = heartbeat.within.as_secs();
            let summary = format!("{} has sent nothing for {seconds} s", beat.source);
            let record = self.watched(&heartbeat.raises, &beat.source.to_string(), key, summary, now);
            let mut labels = record.labels.clone();
            labels.push(("heartbeat".into(), heartbeat.name.to_string()));
            labels.sort_unstable();
            let record = AlertRecord {
                rule: Arc::clone(&heartbeat.name),
                origin: AlertOrigin::Heartbeat,
                labels,
                ..record
            };
            self.open_alert(record, Generation::default(), routes, changes);
        }
    }

    /// The clock was set back: nothing is waited for longer than its time.
    fn wind_back(&mut self, now: Timestamp) {
        let own = &mut self.heartbeats;
        own.timers.clear();
        for (beat, place) in own.beats.iter_mut().zip(0..) {
            beat.due = beat.due.min(now.after(own.watch.heartbeats[beat.heartbeat as usize].within));
            if !beat.silent {
                own.timers.insert((beat.due, place));
            }
        }
    }

    /// An alert that no rule raises, as it begins at `now`.
    pub(super) fn watched(
        &mut self,
        raises: &Raises,
        source: &str,
        key: Box<str>,
        summary: String,
        now: Timestamp,
    ) -> AlertRecord {
        let labels = raises.labels.clone();
        AlertRecord {
            id: AlertId(self.alerts.next(now)),
            change: self.changes.next(now),
            alert: Arc::clone(&raises.alert),
            rule: "".into(),
            severity: raises.severity,
            state: AlertState::Firing,
            key,
            labels: self.names.identity(&raises.alert, raises.severity, source, std::iter::empty(), labels),
            annotations: vec![("summary".into(), summary)],
            count: 1,
            first_seen: now,
            last_seen: now,
            last_event: EventId(0),
            resolved_at: None,
            resolved_by: None,
            quiet_until: None,
            expires_at: None,
            notify: raises.notify.clone(),
            by_hand: None,
            muted: None,
            flap: None,
            origin: AlertOrigin::Rule,
        }
    }
}
