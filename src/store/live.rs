//! Who follows what is stored, as it is stored.
//!
//! The writer shows each committed event to every follower and waits for none: a follower has a queue of its own, bounded
//! by octets, and what finds no room there is counted for it as missed. Without a follower a commit costs one load more.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::event::{Command, Decided, EffectKind, EventRecord};

/// Followers at once.
const FOLLOWERS: usize = 16;
/// What one follower's queue may hold.
const OCTETS: usize = 4 << 20;
/// What an event takes beside its PDU, about.
const EVENT_OCTETS: usize = 256;

/// The followers of one store.
#[derive(Debug, Default)]
pub(super) struct Live {
    followers: Mutex<Vec<Arc<Place>>>,
    /// How many there are: read at each commit, without the lock.
    number: AtomicUsize,
}

#[derive(Debug, Default)]
struct Place {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    events: Vec<Arc<EventRecord>>,
    octets: usize,
    missed: u64,
    over: bool,
}

/// What a follower takes at once: the events in their order, and how many it missed behind them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// Events that were stored.
    pub events: Vec<Arc<EventRecord>>,
    /// So many were stored behind these while there was no room for them.
    pub missed: u64,
}

/// Sees every event that is stored from its making on, or hears how many it missed. Dropped, its place is free.
#[derive(Debug)]
pub struct Follower {
    live: Arc<super::files::Shared>,
    place: Arc<Place>,
}

impl Live {
    /// One more follower; `None` if there are as many as may be.
    pub(super) fn follow(shared: &Arc<super::files::Shared>) -> Option<Follower> {
        let live = &shared.live;
        let mut followers = live.followers.lock();
        if followers.len() >= FOLLOWERS {
            return None;
        }
        let place = Arc::<Place>::default();
        followers.push(Arc::clone(&place));
        live.number.store(followers.len(), Ordering::Release);
        drop(followers);
        Some(Follower { live: Arc::clone(shared), place })
    }

    /// Shows what a commit has stored. Never waits for a follower: its lock is held for moving a few pointers.
    pub(super) fn show(&self, commands: &[Command]) {
        if self.number.load(Ordering::Acquire) == 0 {
            return;
        }
        let rows = commands.iter().filter_map(|command| match command {
            Command::Event(decided) if decided.row => Some(Arc::new(record(decided))),
            _ => None,
        });
        let rows: Vec<_> = rows.collect();
        if rows.is_empty() {
            return;
        }
        for place in self.followers.lock().iter() {
            let mut waiting = place.waiting.lock();
            for event in &rows {
                let octets = EVENT_OCTETS + event.pdu.len();
                // Behind a gap nothing is added until it was told: its place in the order is there.
                if waiting.missed > 0 || waiting.octets + octets > OCTETS {
                    waiting.missed += 1;
                } else {
                    waiting.octets += octets;
                    waiting.events.push(Arc::clone(event));
                }
            }
            drop(waiting);
            place.filled.notify_one();
        }
    }

    /// Nothing more is stored.
    pub(super) fn end(&self) {
        for place in self.followers.lock().iter() {
            place.waiting.lock().over = true;
            place.filled.notify_one();
        }
    }
}

impl Follower {
    /// Waits until something was stored. `None` once nothing more will be.
    pub async fn next(&mut self) -> Option<Followed> {
        loop {
            {
                let mut waiting = self.place.waiting.lock();
                if !waiting.events.is_empty() || waiting.missed > 0 {
                    waiting.octets = 0;
                    let events = mem::take(&mut waiting.events);
                    return Some(Followed { events, missed: mem::take(&mut waiting.missed) });
                }
                if waiting.over {
                    return None;
                }
            }
            self.place.filled.notified().await;
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let live = &self.live.live;
        let mut followers = live.followers.lock();
        followers.retain(|place| !Arc::ptr_eq(place, &self.place));
        live.number.store(followers.len(), Ordering::Release);
    }
}

/// The event as it is read back from its row.
fn record(decided: &Decided) -> EventRecord {
    let event = &decided.event;
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let first = event.effects.first();
    EventRecord {
        id: decided.id,
        time: event.time,
        generation: event.generation,
        source: event.source.clone(),
        peer: event.peer,
        version: event.version,
        trap_oid: event.trap_oid.clone(),
        trap_name: event.trap_name.as_deref().and_then(text),
        rule: first.and_then(|effect| text(&effect.rule.rule)),
        alert: first.and_then(|effect| text(&effect.rule.alert)),
        severity: event.effects.iter().find_map(|effect| match effect.kind {
            EffectKind::Raise(severity) => Some(severity),
            EffectKind::Clear(_) | EffectKind::Store => None,
        }),
        alert_id: decided.alert,
        pdu: event.pdu().to_vec(),
    }
}
