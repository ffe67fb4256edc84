//! Publication: the one place where a Snapshot becomes the current one, and the only file that names ArcSwap.
//!
//! * There is one [`Publisher`], it is not `Clone`, and publishing needs it exclusively: generation
//!   numbers rise by one and never go back.
//! * A [`SnapshotReader`] belongs to one thread. Loading costs one relaxed comparison while nothing was
//!   published and never waits for a writer. Load once per unit of work (a batch), so that the whole
//!   of it is decided under one generation.
//! * Nothing is freed on a reader's thread: the Publisher keeps each retired Snapshot until it is the
//!   last holder and drops it on the reaper's thread. A reader that never loads again pins one Snapshot,
//!   which is why idle receivers tick.
//!
//! A published Snapshot cannot be changed:
//! ```compile_fail
//! fn change(reader: &mut nereus::snapshot::SnapshotReader) {
//!     let snapshot: &mut nereus::snapshot::Snapshot = &mut *reader.load();
//! }
//! ```
//! ```
//! fn read(reader: &mut nereus::snapshot::SnapshotReader) {
//!     let snapshot: &nereus::snapshot::Snapshot = reader.load();
//! }
//! ```
//! nor can its parts be reached from outside:
//! ```compile_fail
//! fn number(snapshot: &nereus::snapshot::Snapshot) -> nereus::event::Generation { snapshot.generation }
//! ```
//! ```
//! fn number(snapshot: &nereus::snapshot::Snapshot) -> nereus::event::Generation { snapshot.generation() }
//! ```
//! and a second Publisher cannot be made of the first:
//! ```compile_fail
//! fn two(publisher: nereus::snapshot::Publisher) -> (nereus::snapshot::Publisher, nereus::snapshot::Publisher) {
//!     (publisher.clone(), publisher)
//! }
//! ```
//! ```
//! fn one(publisher: nereus::snapshot::Publisher) -> (nereus::snapshot::SnapshotHandle, nereus::snapshot::Publisher) {
//!     (publisher.handle(), publisher)
//! }
//! ```

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender, TryRecvError, TrySendError};
use std::thread;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};

use super::{Candidate, Snapshot};
use crate::event::Generation;

/// How often the reaper looks whether it is the last holder of what was retired.
const REAP_EVERY: Duration = Duration::from_millis(20);

/// How often it looks for something retired while it has nothing: as often as an idle receiver ticks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How many retired Snapshots find a place without an allocation between two looks of the reaper.
const PLACES: usize = 64;

/// Publishes Snapshots. The only one of its kind in a program.
#[derive(Debug)]
pub struct Publisher {
    current: Arc<ArcSwap<Snapshot>>,
    /// The kept generations, oldest first; the last one is the current one.
    ring: VecDeque<Arc<Snapshot>>,
    keep: usize,
    retired: Retired,
}

/// The way to the reaper. Its places are made beforehand, so that a publication allocates nothing: the reaper
/// frees at the same time, and the allocator's lock would be waited for.
#[derive(Debug)]
struct Retired {
    places: SyncSender<Arc<Snapshot>>,
    /// For a storm of publications between two looks of the reaper.
    overflow: Sender<Arc<Snapshot>>,
}

impl Retired {
    fn send(&self, old: Arc<Snapshot>) {
        if let Err(TrySendError::Full(old) | TrySendError::Disconnected(old)) = self.places.try_send(old) {
            // The reaper lives as long as these senders; were it gone, dropping here would still be right.
            let _ = self.overflow.send(old);
        }
    }
}

impl Publisher {
    /// Publishes `first` as generation 1 and keeps the last `keep` generations (at least the current one).
    /// Starts the reaper thread, which ends with the Publisher.
    ///
    /// # Errors
    /// When the system refuses the thread.
    pub fn new(first: Candidate, keep: usize) -> io::Result<Self> {
        let first = Arc::new(first.into_snapshot(Generation(1)));
        let (places, inbox) = mpsc::sync_channel(PLACES);
        let (overflow, more) = mpsc::channel();
        let keep = keep.max(1);
        // One more than are kept, for the moment between the push and the trim.
        let mut ring = VecDeque::with_capacity(keep.saturating_add(1).min(PLACES));
        ring.push_back(Arc::clone(&first));
        thread::Builder::new().name("reaper".into()).spawn(move || reap(&inbox, &more))?;
        Ok(Self {
            current: Arc::new(ArcSwap::from(first)),
            ring,
            keep,
            retired: Retired { places, overflow },
        })
    }

    /// Gives `candidate` the number that it will have if it is published next. Nobody reads it yet.
    #[must_use]
    pub fn stage(&self, candidate: Candidate) -> Staged {
        let next = Generation(self.current().generation().0 + 1);
        Staged(Arc::new(candidate.into_snapshot(next)))
    }

    /// Makes `candidate` the current Snapshot under the next number. One pointer swap; cannot fail.
    pub fn publish(&mut self, candidate: Candidate) -> Arc<Snapshot> {
        let staged = self.stage(candidate);
        self.publish_staged(staged)
    }

    /// As [`publish`](Self::publish). One that another publication has overtaken gets the next number
    /// all the same.
    pub fn publish_staged(&mut self, Staged(mut snapshot): Staged) -> Arc<Snapshot> {
        let next = Generation(self.current().generation().0 + 1);
        if snapshot.generation() != next {
            snapshot = Arc::new(snapshot.candidate().into_snapshot(next));
        }
        let before = self.current.swap(Arc::clone(&snapshot));
        // The ring holds it too: this drop frees nothing.
        drop(before);
        self.ring.push_back(Arc::clone(&snapshot));
        self.trim();
        snapshot
    }

    /// Changes how many generations are kept. What falls out is retired at once.
    pub fn keep(&mut self, generations: usize) {
        self.keep = generations.max(1);
        self.trim();
    }

    fn trim(&mut self) {
        while self.ring.len() > self.keep {
            let Some(old) = self.ring.pop_front() else { break };
            self.retired.send(old);
        }
    }

    /// The current Snapshot.
    #[must_use]
    pub fn current(&self) -> &Arc<Snapshot> {
        // The ring is never empty: it begins with one and `trim` keeps at least one.
        &self.ring[self.ring.len() - 1]
    }

    /// The kept generations, oldest first, the current one last.
    pub fn kept(&self) -> impl DoubleEndedIterator<Item = &Arc<Snapshot>> {
        self.ring.iter()
    }

    /// A handle that makes readers. It may be cloned and sent anywhere.
    #[must_use]
    pub fn handle(&self) -> SnapshotHandle {
        SnapshotHandle { current: Arc::clone(&self.current) }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        for old in self.ring.drain(..) {
            self.retired.send(old);
        }
    }
}

/// A Snapshot with its number that is not published: what components prepare for. Dropped, it has never been.
#[derive(Debug)]
pub struct Staged(Arc<Snapshot>);

impl Staged {
    /// For reading alone.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.0
    }
}

/// Frees what was retired once nobody else holds it. It looks now and then and never waits in the inbox:
/// else each publication would wake it, which takes the publisher longer than the publication.
fn reap(inbox: &Receiver<Arc<Snapshot>>, more: &Receiver<Arc<Snapshot>>) {
    let mut waiting: Vec<Arc<Snapshot>> = Vec::new();
    loop {
        let open = loop {
            match inbox.try_recv() {
                Ok(old) => waiting.push(old),
                Err(TryRecvError::Empty) => break true,
                Err(TryRecvError::Disconnected) => break false,
            }
        };
        waiting.extend(more.try_iter());
        // With a count of one nobody else can get at it: clones come from holders, and the swap has gone on.
        waiting.retain(|old| Arc::strong_count(old) > 1);
        if !open {
            // The program ends; whoever still holds one frees it.
            return;
        }
        thread::sleep(if waiting.is_empty() { LOOK_EVERY } else { REAP_EVERY });
    }
}

/// Makes readers of the current Snapshot.
#[derive(Debug, Clone)]
pub struct SnapshotHandle {
    current: Arc<ArcSwap<Snapshot>>,
}

impl SnapshotHandle {
    /// A reader for the calling thread's hot path.
    #[must_use]
    pub fn reader(&self) -> SnapshotReader {
        SnapshotReader { cache: Cache::new(Arc::clone(&self.current)) }
    }

    /// The current Snapshot, for cold paths: a request, a rendering. Keep it no longer than that.
    #[must_use]
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }
}

/// One thread's view of the current Snapshot.
#[derive(Debug)]
pub struct SnapshotReader {
    cache: Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
}

impl SnapshotReader {
    /// The current Snapshot. Its generation is never lower than that of the load before.
    /// A refresh lets go of the old one, which the Publisher or the reaper still holds: nothing is freed here.
    /// Whoever keeps a clone past the next load pins that generation until it lets go.
    pub fn load(&mut self) -> &Arc<Snapshot> {
        self.cache.load()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Weak;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;

    fn publisher(keep: usize) -> Publisher {
        Publisher::new(Candidate::embedded_default(), keep).unwrap()
    }

    #[test]
    fn numbers_rise_by_one_and_the_ring_keeps_the_last() {
        let mut publisher = publisher(3);
        for number in 2..=6 {
            assert_eq!(publisher.publish(Candidate::embedded_default()).generation(), Generation(number));
        }
        let kept: Vec<u64> = publisher.kept().map(|snapshot| snapshot.generation().0).collect();
        assert_eq!(kept, [4, 5, 6]);
        publisher.keep(1);
        assert_eq!(publisher.kept().count(), 1);
        assert_eq!(publisher.handle().current().generation(), Generation(6));
    }

    #[test]
    fn what_left_the_ring_is_freed_once_the_last_reader_moves_on() {
        let mut publisher = publisher(1);
        let mut reader = publisher.handle().reader();
        assert_eq!(reader.load().generation(), Generation(1));
        let first = Arc::downgrade(publisher.current());
        publisher.publish(Candidate::embedded_default());
        // The idle reader pins generation 1, and only until it loads again.
        thread::sleep(REAP_EVERY * 3);
        assert!(first.upgrade().is_some());
        assert_eq!(reader.load().generation(), Generation(2));
        wait_until_freed(&[first]);
    }

    fn wait_until_freed(snapshots: &[Weak<Snapshot>]) {
        let started = Instant::now();
        while snapshots.iter().any(|weak| weak.strong_count() > 0) {
            assert!(started.elapsed() < Duration::from_secs(10), "retired Snapshots were not freed");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The promise under load: 8 readers, 1 writer, 100,000 publications (fewer under Miri).
    #[test]
    fn generations_never_go_back_and_everything_retired_is_freed() {
        let publications = if cfg!(miri) { 100 } else { 100_000 };
        let readers = if cfg!(miri) { 2 } else { 8 };
        let mut publisher = publisher(8);
        let candidate = Candidate::embedded_default();
        let done = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..readers)
            .map(|_| {
                let (mut reader, done) = (publisher.handle().reader(), Arc::clone(&done));
                thread::spawn(move || {
                    let (mut last, mut changes) = (Generation(0), 0u64);
                    while !done.load(Ordering::Relaxed) {
                        let generation = reader.load().generation();
                        assert!(generation >= last, "{generation} came after {last}");
                        changes += u64::from(generation > last);
                        last = generation;
                    }
                    changes
                })
            })
            .collect();
        let mut retired = Vec::new();
        for _ in 0..publications {
            let snapshot = publisher.publish(candidate.clone());
            if snapshot.generation().0.is_multiple_of(100) {
                retired.push(Arc::downgrade(&snapshot));
            }
        }
        done.store(true, Ordering::Relaxed);
        for thread in threads {
            assert!(thread.join().unwrap() > 0, "every reader saw publications");
        }
        assert_eq!(publisher.current().generation(), Generation(publications + 1));
        publisher.keep(1);
        publisher.publish(candidate);
        wait_until_freed(&retired);
    }
}
