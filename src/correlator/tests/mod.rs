//! The life cycle on a simulated clock, against a naive model, and through the thread.

mod flapping;
mod lifecycle;
mod model;
mod mute;
mod reload;
mod thread;
mod watch;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::event::*;
use crate::oid::Oid;
use crate::severity::Severity;

pub(super) const SECOND: i64 = 1_000_000;

pub(super) fn seconds(seconds: i64) -> Timestamp {
    Timestamp(seconds * SECOND)
}

/// An open alert that nothing else is known of.
pub(super) fn record(id: u64, key: &str) -> AlertRecord {
    AlertRecord {
        id: AlertId(id),
        change: id,
        alert: "Down".into(),
        rule: "link".into(),
        severity: Severity::Major,
        state: AlertState::Firing,
        key: key.into(),
        labels: Vec::new(),
        annotations: Vec::new(),
        count: 1,
        first_seen: Timestamp(0),
        last_seen: Timestamp(0),
        last_event: EventId(id),
        resolved_at: None,
        resolved_by: None,
        quiet_until: None,
        expires_at: None,
        notify: None,
        by_hand: None,
        muted: None,
        flap: None,
        origin: AlertOrigin::Rule,
    }
}

/// Renders the event's listener and counts how often it was asked.
#[derive(Debug, Default)]
pub(super) struct Text {
    /// Whether the rule's label depends on the event.
    pub(super) varies: bool,
    pub(super) rendered: AtomicUsize,
}

impl AlertText for Arc<Text> {
    fn render(&self, event: &Event, severity: Severity) -> Rendered {
        self.rendered.fetch_add(1, Ordering::Relaxed);
        let team = if self.varies { format!("team {}", event.listener) } else { "noc".to_owned() };
        Rendered {
            labels: vec![("team".into(), team)],
            annotations: vec![("summary".into(), format!("{severity} by listener {}", event.listener))],
        }
    }

    fn constant_labels(&self) -> Option<Vec<(Arc<str>, String)>> {
        (!self.varies).then(|| vec![("team".into(), "noc".to_owned())])
    }
}

pub(super) fn rule(
    name: &str,
    deduplicate: Option<u64>,
    expire: Option<u64>,
    text: &Arc<Text>,
) -> Arc<RuleAction> {
    Arc::new(RuleAction {
        rule: name.into(),
        alert: "Down".into(),
        key_names: Box::new(["source".into(), "ifIndex".into()]),
        deduplicate: deduplicate.map(Duration::from_secs),
        store_repeats: true,
        expire: expire.map(Duration::from_secs),
        flapping: None,
        notify: None,
        text: Box::new(Arc::clone(text)),
    })
}

pub(super) fn effect(rule: &Arc<RuleAction>, key: u32, kind: EffectKind) -> Effect {
    let key = match kind {
        EffectKind::Store => Box::default(),
        _ => format!("Down{KEY_SEPARATOR}10.0.0.1{KEY_SEPARATOR}{key}").into(),
    };
    Effect { rule: Arc::clone(rule), kind, key }
}

pub(super) fn event(time: Timestamp, listener: u16, effects: impl IntoIterator<Item = Effect>) -> Event {
    Event {
        time,
        generation: Generation(1),
        listener,
        peer: "10.9.9.9:50000".parse().unwrap(),
        source: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)).into(),
        version: Version::V2c,
        community: None,
        trap_oid: Oid::new([1, 3, 6, 1]).unwrap(),
        trap_name: None,
        datagram: Box::from([0x30, 0]),
        pdu: 0..2,
        effects: effects.into_iter().collect(),
        answer: None,
    }
}

/// An operator's request, and where its outcome comes.
pub(super) fn request(
    alert: AlertId,
    key: &str,
    deed: Deed,
) -> (OperatorRequest, std::sync::mpsc::Receiver<Outcome>) {
    let (outcome, answers) = std::sync::mpsc::sync_channel(1);
    let (committed, _) = std::sync::mpsc::sync_channel(1);
    let (key, by, place) = (key.into(), "ops".into(), Arc::new(()));
    (OperatorRequest { alert, key, deed, by, outcome, committed, place }, answers)
}

pub(super) fn routes() -> Routes {
    let route = |name: &str, kind| Route { name: name.into(), kind };
    Routes::new([route("am", RouteKind::State), route("hook", RouteKind::Event)])
}

/// Applies commands as the store does: what it holds is what a restart begins with.
#[derive(Debug, Default, Clone)]
pub(super) struct Disk {
    pub(super) alerts: BTreeMap<AlertId, AlertRecord>,
    last_event: EventId,
    last_change: u64,
    pub(super) events: usize,
    /// What the mutes' own file holds.
    pub(super) mutes: Arc<[Mute]>,
}

impl Disk {
    pub(super) fn apply(&mut self, command: &Command) {
        match command {
            Command::Event(decided) => {
                assert!(decided.id > self.last_event, "event numbers rise");
                assert!(decided.row || decided.changes.is_empty(), "what changes an alert is stored");
                self.last_event = decided.id;
                self.events += usize::from(decided.row);
                decided.changes.iter().for_each(|change| self.change(change));
            }
            Command::Changes(changes) => {
                assert!(!changes.is_empty());
                changes.iter().for_each(|change| self.change(change));
            }
            Command::Counts(counts) => {
                for &(id, count, last_seen, last_event) in counts {
                    let record = self.alerts.get_mut(&id).expect("counts are of stored alerts");
                    assert_ne!(record.state, AlertState::Resolved, "counts are of open alerts");
                    let postponed = last_seen.0 - record.last_seen.0;
                    record.expires_at = record.expires_at.map(|at| Timestamp(at.0 + postponed));
                    (record.count, record.last_seen, record.last_event) = (count, last_seen, last_event);
                }
            }
            // Told once all of this is on the disk; changes nothing.
            Command::Flush(_) => {}
            other => panic!("the correlator sends no {other:?}"),
        }
    }

    fn change(&mut self, change: &AlertChange) {
        let record = &change.record;
        assert!(record.change > self.last_change, "change numbers rise");
        self.last_change = record.change;
        if let Some(old) = self.alerts.insert(record.id, AlertRecord::clone(record)) {
            assert_ne!(old.state, AlertState::Resolved, "an ended alert never changes again");
            assert_eq!(old.labels, record.labels, "labels are frozen");
            assert!(old.count <= record.count, "counts rise");
        } else {
            let newest = self.alerts.last_key_value().map(|(id, _)| *id);
            assert_eq!(newest, Some(record.id), "alert numbers rise");
            assert_ne!(record.state, AlertState::Resolved, "an alert begins before it ends");
        }
        let ended = record.state == AlertState::Resolved;
        assert_eq!((record.resolved_at.is_some(), record.resolved_by.is_some()), (ended, ended));
        assert!(record.resolved_at.is_none_or(|at| at >= record.first_seen));
        assert!(record.labels.is_sorted_by(|(a, _), (b, _)| a < b), "sorted, each name once");
    }

    pub(super) fn open(&self) -> Vec<AlertRecord> {
        self.alerts.values().filter(|record| record.state != AlertState::Resolved).cloned().collect()
    }

    /// How keys without an open alert came and went, as the newest ended one of each says.
    fn ended(&self) -> Vec<(Box<str>, Flap)> {
        let mut newest: BTreeMap<&str, Option<&Flap>> = BTreeMap::new();
        for record in self.alerts.values() {
            let flap = record.flap.as_deref().filter(|_| record.state == AlertState::Resolved);
            newest.insert(&record.key, flap);
        }
        newest.into_iter().filter_map(|(key, flap)| Some((key.into(), flap?.clone()))).collect()
    }

    pub(super) fn restored(&self) -> Restored {
        Restored {
            last_event: self.last_event,
            last_alert: self.alerts.last_key_value().map(|(id, _)| *id).unwrap_or_default(),
            last_change: self.last_change,
            ended: self.ended(),
            mutes: Arc::clone(&self.mutes),
            ..Restored::of(self.open())
        }
    }
}
