//! Heartbeats: devices that must send something within a time, and the alert of one that does not.
//!
//! A timer stands for each device of each heartbeat, from the start on (nobody knows what came in while Nereus was
//! not there) or from the reload that added it. An alert that is open over a restart or a reload stays open until
//! the device is heard.
//!
//! A device is what `source` calls it ([`Watch::source`]): two addresses with one name are one device, heard from
//! either. An alert's key has the device as the settings say it, so that the alert is found again when a table of
//! names has changed; its label has the name.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use smallvec::SmallVec;

use super::alert::{How, Open};
use super::route::Routes;
use super::state::{Correlator, Here};
use crate::event::{
    AlertChange, AlertId, AlertOrigin, AlertRecord, AlertState, EventId, Generation, KEY_SEPARATOR, Raises,
    Timestamp, Watch,
};

/// What is waited for.
#[derive(Debug, Default)]
pub(super) struct Heartbeats {
    watch: Arc<Watch>,
    beats: Vec<Beat>,
    by_source: HashMap<Box<str>, SmallVec<[u32; 2]>>,
    /// When beats are looked at; one that was heard meanwhile is looked at again.
    timers: BTreeSet<(Timestamp, u32)>,
    looked: Timestamp,
}

#[derive(Debug, Clone)]
struct Beat {
    /// Its place among the settings.
    heartbeat: u32,
    /// As the settings say it. Of several ways to say one device, the first in order of their texts.
    meant: Box<str>,
    /// What it is called.
    source: Box<str>,
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
        key_of(name, &beat.meant)
    }
}

/// No rule's key begins with a separator.
fn key_of(name: &str, meant: &str) -> Box<str> {
    format!("{KEY_SEPARATOR}heartbeat{KEY_SEPARATOR}{name}{KEY_SEPARATOR}{meant}").into()
}

/// A device in a text: its name, and its address where that is another one.
pub(super) fn called(source: &str, address: &str) -> String {
    if source == address { source.to_owned() } else { format!("{source} ({address})") }
}

impl Correlator {
    /// Goes by other settings from now on: of a start before the first event, or of a reload. Alerts of what is no
    /// longer watched end (`reload`). One whose device is called otherwise now ends so too, and goes on under another
    /// number with the counts and times that it had: its labels are its identity. Costs a walk over the open alerts.
    pub fn watch(
        &mut self,
        watch: &Arc<Watch>,
        now: Timestamp,
        routes: &Routes,
        changes: &mut Vec<AlertChange>,
    ) {
        // What goes on under another name may be muted by that.
        self.mutes.look(now, self.open.len());
        self.storms.set(watch);
        let mut renamed = self.renamed_storms(now);
        let before: HashMap<Box<str>, Timestamp> =
            self.heartbeats.beats.iter().map(|beat| (self.heartbeats.key(beat), beat.due)).collect();
        let mut made = Heartbeats { watch: Arc::clone(watch), looked: now, ..Heartbeats::default() };
        let mut keys = HashMap::new();
        for (heartbeat, number) in watch.heartbeats.iter().zip(0..) {
            let mut devices: BTreeMap<Box<str>, Box<str>> = BTreeMap::new();
            for meant in &heartbeat.sources {
                let (source, meant) = (watch.source_meant(meant), Box::from(meant.to_string()));
                let first = devices.entry(source.into()).or_insert_with(|| Box::clone(&meant));
                *first = meant.min(std::mem::take(first));
            }
            for (source, meant) in devices {
                let key = key_of(&heartbeat.name, &meant);
                // A shorter time counts from now on.
                let due = now.after(heartbeat.within);
                let due = before.get(&key).map_or(due, |before| due.min(*before));
                let silent = self.open.find(&key).is_some();
                let place = made.beats.len() as u32;
                if !silent {
                    made.timers.insert((due, place));
                }
                made.by_source.entry(source.clone()).or_default().push(place);
                made.beats.push(Beat { heartbeat: number, meant, source, due, silent });
                keys.insert(key, place);
            }
        }
        self.heartbeats = made;
        let beat_of = |key: &str| keys.get(key).map(|place| &self.heartbeats.beats[*place as usize]);
        let stays = |record: &AlertRecord| {
            beat_of(&record.key).is_some_and(|beat| *beat.source == *self.names.source(&record.labels))
        };
        let heartbeat = |record: &AlertRecord| record.origin == AlertOrigin::Heartbeat;
        let leaving = self.open.keys_of(|record| heartbeat(record) && !stays(record));
        let leaving: Vec<_> = leaving.into_iter().map(|key| (beat_of(&key).cloned(), key)).collect();
        for (beat, key) in leaving {
            let Some(slot) = self.open.find(&key) else { continue };
            let open = self.open.remove(slot);
            let begins = beat.map(|beat| self.silence(&beat, key, now));
            renamed.push((open, begins));
        }
        self.rename_sources(renamed, now, routes, changes);
    }

    /// Ends alerts that no rule has raised, and begins those that go on in their place: all ends first, since who tells
    /// alerts apart by labels would take a later end for that of the new one.
    fn rename_sources(
        &mut self,
        renamed: Vec<(Open, Option<AlertRecord>)>,
        now: Timestamp,
        routes: &Routes,
        changes: &mut Vec<AlertChange>,
    ) {
        let mut begun = Vec::new();
        for (mut open, begins) in renamed {
            if let Some(begins) = begins {
                let own = open.fold();
                begun.push(AlertRecord {
                    state: own.state,
                    by_hand: own.by_hand.clone(),
                    count: own.count,
                    first_seen: own.first_seen,
                    last_seen: own.last_seen,
                    last_event: own.last_event,
                    ..begins
                });
            }
            changes.push(self.resolve(open, How::Reload, now, now, routes));
        }
        for mut record in begun {
            record.change = self.changes.next(now);
            self.open_alert(record, Generation::default(), routes, changes);
        }
    }

    /// A device has sent something. The alert that it ends, if one was open.
    pub(super) fn heard(&mut self, here: Here<'_>, changes: &mut Vec<AlertChange>) -> Option<AlertId> {
        let source = self.heartbeats.watch.source(&here.event.source);
        let places = self.heartbeats.by_source.get(&*source)?.clone();
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
            let record = self.silence(&beat, key, now);
            self.open_alert(record, Generation::default(), routes, changes);
        }
    }

    /// The alert of a device that is silent, as it begins at `now`.
    fn silence(&mut self, beat: &Beat, key: Box<str>, now: Timestamp) -> AlertRecord {
        let watch = Arc::clone(&self.heartbeats.watch);
        let heartbeat = &watch.heartbeats[beat.heartbeat as usize];
        let (device, seconds) = (called(&beat.source, &beat.meant), heartbeat.within.as_secs());
        let summary = format!("{device} has sent nothing for {seconds} s");
        let record = self.watched(&heartbeat.raises, &beat.source, key, summary, now);
        let mut labels = record.labels;
        labels.push(("heartbeat".into(), heartbeat.name.to_string()));
        labels.sort_unstable();
        AlertRecord { rule: Arc::clone(&heartbeat.name), origin: AlertOrigin::Heartbeat, labels, ..record }
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
