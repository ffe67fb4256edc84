//! The table of engines: what each was last heard to say of its boots and time, and so what is a replay
//! (RFC 3414 sections 2.2.1 and 3.2 (7b)).
//!
//! One table for all receivers. Only authenticated messages touch it, so that forged ones can neither fill it
//! nor push anybody out. A message of a known engine costs some atomic operations; a lock is taken where an
//! engine is met for the first time. Full, the engine that was silent for longest makes room.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::event::Timestamp;
use crate::security::EngineId;

/// How many engines are remembered.
pub const MAX_ENGINES: usize = 131_072;
/// The time window (RFC 3414 section 2.2.3), in seconds.
pub(super) const WINDOW: u32 = 150;
/// snmpEngineBoots at its end: nothing of such an engine is in the window any more.
pub(super) const LATCHED: u32 = i32::MAX as u32;
/// What is written down runs ahead of what was heard by so many seconds, so that an engine is written once in half
/// as long. Well within the window, so that what it sends after a restart is not behind.
const AHEAD: u32 = 60;
/// With so many seconds left to what is written, it is time to write again, without haste.
const SOON: u64 = AHEAD as u64 / 2;
/// So long what has time is gathered, in order to flush once for all.
const LEISURE: Duration = Duration::from_secs(2);
/// So long a commit waits at most for what was heard to be written. Where the disk refuses one, it refuses both.
const PATIENCE: Duration = Duration::from_millis(200);
const SHARDS: usize = 64;

/// The engines that have sent authenticated messages.
#[derive(Debug)]
pub struct Engines {
    shards: Box<[Mutex<HashMap<EngineId, Arc<Engine>>>]>,
    hashes: RandomState,
    most: usize,
    count: AtomicUsize,
    unwritten: Mutex<Unwritten>,
    /// One of them is ahead of what a restart would know.
    urgent: AtomicBool,
    wake: Condvar,
    /// Nothing urgent waits or is being written.
    done: Condvar,
}

/// What is to be written down.
#[derive(Debug, Default)]
struct Unwritten {
    engines: Vec<Arc<Engine>>,
    /// Urgent ones were taken and are not on the disk yet.
    writing: bool,
    /// There is somebody who writes.
    kept: bool,
    stopping: bool,
}

/// One engine.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) id: EngineId,
    /// The highest boots and time heard, as one number, so that one comparison orders both.
    heard: AtomicU64,
    /// When that was, in microseconds since 1970.
    at: AtomicI64,
    /// What a restart would know of it, on the same scale as `heard`.
    written: AtomicU64,
    queued: AtomicBool,
    /// No longer in the table.
    removed: AtomicBool,
}

/// An engine as it is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) id: EngineId,
    pub(super) boots: u32,
    pub(super) time: u32,
    pub(super) at: Timestamp,
}

const fn scale(boots: u32, time: u32) -> u64 {
    (boots as u64) << 32 | time as u64
}

impl Engine {
    fn new(written: &Written) -> Self {
        let heard = scale(written.boots, written.time);
        Self {
            id: written.id,
            heard: heard.into(),
            at: written.at.0.into(),
            written: heard.into(),
            queued: AtomicBool::new(false),
            removed: AtomicBool::new(false),
        }
    }

    /// Whether an authenticated message with these boots and time is in the window; if it is the newest so far,
    /// it becomes what others are held against.
    fn hears(&self, boots: u32, time: u32, now: Timestamp) -> bool {
        let claimed = scale(boots, time);
        let mut known = self.heard.load(Ordering::Acquire);
        while claimed > known {
            // Before the number: whoever reads the new number must not take it for an old one.
            self.at.fetch_max(now.0, Ordering::AcqRel);
            match self.heard.compare_exchange_weak(known, claimed, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(newer) => known = newer,
            }
        }
        // The local notion of its time: what was heard last, and what has passed since.
        let passed = now.since(Timestamp(self.at.load(Ordering::Acquire))).as_secs();
        let local = (known & u64::from(u32::MAX)) + passed;
        (known >> 32) as u32 == boots && u64::from(time) + u64::from(WINDOW) >= local
    }

    /// Whether it is time to write it down, and whether a restart now would know less than was heard.
    fn is_due(&self) -> (bool, bool) {
        let (heard, written) = (self.heard.load(Ordering::Relaxed), self.written.load(Ordering::Relaxed));
        (heard + SOON > written, heard > written)
    }

    /// What to write down, ahead of what was heard.
    pub(super) fn to_write(&self) -> Written {
        // Before the number is read: a message that comes meanwhile is either in it or queues the engine again.
        self.queued.swap(false, Ordering::AcqRel);
        let at = Timestamp(self.at.load(Ordering::Acquire));
        let heard = self.heard.load(Ordering::Acquire);
        let time = (heard as u32).saturating_add(AHEAD).min(LATCHED);
        Written { id: self.id, boots: (heard >> 32) as u32, time, at }
    }

    /// What is known of it, for a file that is written anew: not behind what was written before.
    pub(super) fn known(&self) -> Written {
        let at = Timestamp(self.at.load(Ordering::Acquire));
        let heard = self.heard.load(Ordering::Acquire).max(self.written.load(Ordering::Acquire));
        Written { id: self.id, boots: (heard >> 32) as u32, time: heard as u32, at }
    }

    /// It is on the disk.
    pub(super) fn wrote(&self, written: &Written) {
        self.written.fetch_max(scale(written.boots, written.time), Ordering::AcqRel);
    }

    pub(super) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }
}

impl Default for Engines {
    fn default() -> Self {
        Self::new(MAX_ENGINES)
    }
}

impl Engines {
    /// An empty table for at most `most` engines.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hashes: RandomState::new(),
            most: most.div_ceil(SHARDS).max(1),
            count: AtomicUsize::new(0),
            unwritten: Mutex::default(),
            urgent: AtomicBool::new(false),
            wake: Condvar::new(),
            done: Condvar::new(),
        }
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, id: &EngineId) -> &Mutex<HashMap<EngineId, Arc<Engine>>> {
        &self.shards[self.hashes.hash_one(id) as usize % SHARDS]
    }

    /// Decides on an authenticated message. `known` is what the caller remembers of the engine; it is set to what
    /// is to be remembered.
    pub(super) fn decide(
        &self,
        id: &EngineId,
        boots: u32,
        time: u32,
        now: Timestamp,
        known: &mut Option<Arc<Engine>>,
    ) -> bool {
        if boots >= LATCHED {
            // Outside of every window, and nothing to remember.
            return false;
        }
        let engine = match known {
            Some(engine) if !engine.is_removed() => engine,
            _ => known.insert(self.meet(id, boots, time, now)),
        };
        let inside = engine.hears(boots, time, now);
        let (due, urgent) = engine.is_due();
        if inside && due {
            if !engine.queued.swap(true, Ordering::AcqRel) {
                let mut unwritten = self.unwritten.lock();
                unwritten.engines.push(Arc::clone(engine));
                if unwritten.engines.len() == 1 {
                    self.wake.notify_one();
                }
            }
            if urgent && !self.urgent.swap(true, Ordering::AcqRel) {
                // Under the lock, so that the one who waits either sees the flag or is woken.
                let _unwritten = self.unwritten.lock();
                self.wake.notify_one();
            }
        }
        inside
    }

    /// The engine's entry. A new one knows nothing older than this message.
    fn meet(&self, id: &EngineId, boots: u32, time: u32, now: Timestamp) -> Arc<Engine> {
        let mut shard = self.shard(id).lock();
        if let Some(engine) = shard.get(id) {
            return Arc::clone(engine);
        }
        self.make_room(&mut shard);
        let engine = Engine::new(&Written { id: *id, boots, time, at: now });
        engine.written.store(0, Ordering::Relaxed);
        let engine = Arc::new(engine);
        shard.insert(*id, Arc::clone(&engine));
        self.count.fetch_add(1, Ordering::Relaxed);
        engine
    }

    fn make_room(&self, shard: &mut HashMap<EngineId, Arc<Engine>>) {
        while shard.len() >= self.most {
            let silent = shard.values().min_by_key(|engine| engine.at.load(Ordering::Relaxed));
            let Some(id) = silent.map(|engine| engine.id) else { return };
            if let Some(engine) = shard.remove(&id) {
                // Whoever remembers it asks the table again.
                engine.removed.store(true, Ordering::Release);
                self.count.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// Takes over what was written down before. Of an engine that is written twice the higher one counts.
    pub(super) fn restore(&self, written: &Written) {
        let mut shard = self.shard(&written.id).lock();
        let scaled = scale(written.boots, written.time);
        if let Some(engine) = shard.get(&written.id) {
            if engine.heard.fetch_max(scaled, Ordering::AcqRel) < scaled {
                engine.at.store(written.at.0, Ordering::Release);
                engine.written.store(scaled, Ordering::Release);
            }
            return;
        }
        self.make_room(&mut shard);
        shard.insert(written.id, Arc::new(Engine::new(written)));
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Every engine.
    pub(super) fn all(&self) -> Vec<Arc<Engine>> {
        self.shards.iter().flat_map(|shard| shard.lock().values().cloned().collect::<Vec<_>>()).collect()
    }

    /// Whether there is nothing more to come.
    pub(super) fn is_stopping(&self) -> bool {
        self.unwritten.lock().stopping
    }

    /// Waits until it is time to write, and takes what there is. The second is whether there will be no more.
    pub(super) fn wait_for_unwritten(&self) -> (Vec<Arc<Engine>>, bool) {
        let mut unwritten = self.unwritten.lock();
        let mut gathering = false;
        while !unwritten.stopping && (!gathering || unwritten.engines.is_empty()) {
            if self.urgent.load(Ordering::Acquire) && !unwritten.engines.is_empty() {
                break;
            }
            if unwritten.engines.is_empty() {
                // Taken and written before the flag was seen.
                if self.urgent.swap(false, Ordering::AcqRel) {
                    self.done.notify_all();
                }
                self.wake.wait(&mut unwritten);
            } else {
                gathering = self.wake.wait_for(&mut unwritten, LEISURE).timed_out();
            }
        }
        unwritten.writing = self.urgent.swap(false, Ordering::AcqRel);
        (std::mem::take(&mut unwritten.engines), unwritten.stopping)
    }

    /// Says that somebody writes, or does so no longer.
    pub(super) fn keep(&self, kept: bool) {
        self.unwritten.lock().kept = kept;
        self.done.notify_all();
    }

    /// What was taken is on the disk, or cannot be written.
    pub(super) fn wrote(&self) {
        self.unwritten.lock().writing = false;
        self.done.notify_all();
    }

    /// Waits until what was heard by now is on the disk as far as a restart must not know less: engines that were met
    /// for the first time, or booted again. At once where there is none, else some milliseconds, and never longer than
    /// [`PATIENCE`].
    pub fn flush(&self) {
        let until = Instant::now() + PATIENCE;
        let mut unwritten = self.unwritten.lock();
        while unwritten.kept && (unwritten.writing || self.urgent.load(Ordering::Acquire)) {
            if self.done.wait_until(&mut unwritten, until).timed_out() {
                return;
            }
        }
    }

    /// Takes what is to be written by now.
    pub(super) fn take_unwritten(&self) -> Vec<Arc<Engine>> {
        std::mem::take(&mut self.unwritten.lock().engines)
    }

    /// Lets [`wait_for_unwritten`](Self::wait_for_unwritten) come to its end.
    pub(super) fn stop_writing(&self) {
        self.unwritten.lock().stopping = true;
        self.wake.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(number: u32) -> EngineId {
        EngineId::new(&[&[0x80], &number.to_be_bytes()[..]].concat()).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp(1_700_000_000_000_000 + seconds * 1_000_000)
    }

    fn ask(engines: &Engines, boots: u32, time: u32, now: i64) -> bool {
        engines.decide(&id(1), boots, time, at(now), &mut None)
    }

    #[test]
    fn the_window_is_that_of_rfc_3414() {
        let engines = Engines::default();
        assert!(ask(&engines, 3, 1_000, 0), "the first is believed");
        assert!(ask(&engines, 3, 850, 0) && !ask(&engines, 3, 849, 0));
        assert!(ask(&engines, 3, 1_100, 0));
        assert!(!ask(&engines, 3, 949, 0) && ask(&engines, 3, 950, 0));
        // Its time goes on while it is silent; what is newer than the newest is believed however slow its clock is.
        assert!(!ask(&engines, 3, 1_100, 151) && ask(&engines, 3, 1_101, 10_000));
        assert!(!ask(&engines, 2, 9_999, 10_000), "older boots");
        assert!(ask(&engines, 4, 0, 10_000) && !ask(&engines, 3, 1_101, 10_000), "it has booted again");
        let mut known = None;
        assert!(!engines.decide(&id(1), LATCHED, 0, at(10_000), &mut known) && known.is_none());
        assert!(ask(&engines, 4, 1, 10_000), "a latched one changes nothing");
        // A clock that was set back makes nothing older.
        assert!(ask(&engines, 4, 5, -10_000) && ask(&engines, 4, 0, -10_000));
        assert_eq!(engines.len(), 1);
    }

    #[test]
    fn what_comes_again_inside_the_window_sets_no_time_back() {
        let engines = Engines::default();
        assert!(ask(&engines, 3, 1_000, 0) && ask(&engines, 3, 1_200, 100));
        for again in 0..50 {
            // Captured earlier, and inside of the window: RFC 3414 takes it. What others are held against stays.
            assert!(ask(&engines, 3, 1_050 + again, 100));
            assert!(!ask(&engines, 3, 1_000, 100), "latestReceivedEngineTime is 1,200 still");
        }
        // Nor does it stop the clock: 49 seconds on, only the newest of them are inside.
        assert!(!ask(&engines, 3, 1_098, 149) && ask(&engines, 3, 1_099, 149));
        assert!(!ask(&engines, 3, 1_200, 251), "the newest one itself is a replay then");
    }

    #[test]
    fn it_is_bounded_and_who_is_pushed_out_is_asked_for_again() {
        let engines = Engines::new(64);
        let mut remembered = None;
        assert!(engines.decide(&id(0), 9, 9, at(0), &mut remembered));
        for number in 1..10_000 {
            assert!(engines.decide(&id(number), 1, 1, at(i64::from(number)), &mut None));
            assert!(engines.len() <= 64);
        }
        assert!(remembered.as_ref().unwrap().is_removed());
        assert!(engines.decide(&id(0), 9, 9, at(10_000), &mut remembered));
        assert!(!remembered.unwrap().is_removed());
    }

    #[test]
    fn an_engine_is_written_at_once_and_then_once_in_a_while() {
        let engines = Engines::default();
        let mut known = None;
        let mut written = 0_u64;
        for second in 0..300_u32 {
            assert!(engines.decide(&id(1), 1, 1_000 + second, at(second.into()), &mut known));
            for engine in std::mem::take(&mut engines.unwritten.lock().engines) {
                engine.wrote(&engine.to_write());
                written += 1;
            }
        }
        assert!((4..=300 / SOON + 2).contains(&written), "{written}");
        // What a restart knows is never behind, and refuses nothing that comes next.
        let after = Engines::default();
        let last = known.unwrap().to_write();
        assert!(last.time >= 1_299);
        after.restore(&last);
        assert!(
            ask(&after, 1, 1_300, 300) && !ask(&after, 1, 1_299 - WINDOW, 300) && !ask(&after, 0, 9_999, 300)
        );
    }

    proptest! {
        /// Against the rule as RFC 3414 writes it, one message after the other.
        #[test]
        fn it_decides_as_the_rfc_says(messages in prop::collection::vec((0u32..4, 0u32..1_000, 0i64..400), 1..60)) {
            let engines = Engines::default();
            let mut model: Option<(u32, u32, i64)> = None;
            let mut now = 0;
            let mut known = None;
            for (boots, time, pause) in messages {
                now += pause;
                let newer = model.is_none_or(|(b, t, _)| (boots, time) > (b, t));
                if newer {
                    model = Some((boots, time, now));
                }
                let (b, t, since) = model.unwrap();
                let local = i64::from(t) + now - since;
                let expected = boots == b && i64::from(time) >= local - 150;
                prop_assert_eq!(engines.decide(&id(7), boots, time, at(now), &mut known), expected);
            }
        }
    }

    #[test]
    fn many_receivers_agree_on_the_newest() {
        let engines = Engines::default();
        std::thread::scope(|scope| {
            for part in 0..4 {
                let engines = &engines;
                scope.spawn(move || {
                    let mut known = None;
                    for step in 0..5_000_u32 {
                        engines.decide(&id(1), 1, step * 4 + part, at(0), &mut known);
                    }
                });
            }
        });
        assert!(ask(&engines, 1, 19_999 - WINDOW, 0) && !ask(&engines, 1, 19_999 - WINDOW - 1, 0));
    }
}
