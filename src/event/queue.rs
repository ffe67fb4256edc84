//! The bounded queue between threads: receivers to the correlator (the handoff), and everyone to the writer.
//!
//! Bounded by octets, not by entries, since datagrams differ by three orders of magnitude. Producers
//! take the lock once a batch; the consumer takes everything at once. Receivers never wait
//! ([`Queue::offer`]); the correlator waits for the writer ([`Queue::push`]).

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Buffers of up to so many entries are kept, whatever is used of them.
const KEEP: usize = 1024;

/// What a queue asks of its entries.
pub trait QueueEntry {
    /// Its octets in memory, roughly: what it weighs against the queue's bound.
    fn octets(&self) -> usize;

    /// Whether somebody waits for what becomes of it: [`Queue::rest`] ends for it.
    fn is_urgent(&self) -> bool;
}

/// A queue of many producers and one consumer, bounded by octets.
#[derive(Debug)]
pub struct Queue<T> {
    inner: Mutex<Inner<T>>,
    filled: Condvar,
    drained: Condvar,
    /// For a consumer that rests.
    hurry: Condvar,
    limit: usize,
}

#[derive(Debug)]
struct Inner<T> {
    entries: Vec<T>,
    octets: usize,
    /// Whether an urgent entry is among them.
    urgent: bool,
    closed: bool,
    /// More octets than this end a rest.
    enough: usize,
}

impl<T> Inner<T> {
    fn ends_rest(&self) -> bool {
        self.closed || self.urgent || self.octets > self.enough
    }
}

impl<T: QueueEntry> Queue<T> {
    /// An empty queue that holds at most `limit` octets (an entry larger than that passes alone).
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            inner: Mutex::new(Inner {
                entries: Vec::new(),
                octets: 0,
                urgent: false,
                closed: false,
                enough: usize::MAX,
            }),
            filled: Condvar::new(),
            drained: Condvar::new(),
            hurry: Condvar::new(),
            limit,
        }
    }

    /// Takes what fits from the front of `batch` and leaves the rest there. Never waits.
    /// A closed queue takes nothing.
    pub fn offer(&self, batch: &mut Vec<T>) {
        if batch.is_empty() {
            return;
        }
        let mut inner = self.inner.lock();
        if inner.closed {
            return;
        }
        let was_empty = inner.entries.is_empty();
        let mut taken = 0;
        for entry in batch.iter() {
            let octets = entry.octets();
            if inner.octets + octets > self.limit && !(inner.entries.is_empty() && taken == 0) {
                break;
            }
            inner.octets += octets;
            inner.urgent |= entry.is_urgent();
            taken += 1;
        }
        inner.entries.extend(batch.drain(..taken));
        if was_empty && taken > 0 {
            self.filled.notify_one();
        }
        self.hurry_if_due(&inner);
    }

    /// Adds one entry, waiting for room. Gives it back if the queue is closed.
    ///
    /// # Errors
    /// The entry itself, from a closed queue.
    pub fn push(&self, entry: T) -> Result<(), T> {
        let octets = entry.octets();
        let mut inner = self.inner.lock();
        while !inner.closed && inner.octets + octets > self.limit && !inner.entries.is_empty() {
            self.drained.wait(&mut inner);
        }
        Self::add(&mut inner, entry, octets)?;
        self.filled.notify_one();
        self.hurry_if_due(&inner);
        Ok(())
    }

    /// Adds one entry past the bound: for control messages, of which there are few.
    ///
    /// # Errors
    /// The entry itself, from a closed queue.
    pub fn push_control(&self, entry: T) -> Result<(), T> {
        let octets = entry.octets();
        let mut inner = self.inner.lock();
        Self::add(&mut inner, entry, octets)?;
        self.filled.notify_one();
        self.hurry_if_due(&inner);
        Ok(())
    }

    fn hurry_if_due(&self, inner: &Inner<T>) {
        if inner.ends_rest() {
            self.hurry.notify_one();
        }
    }

    fn add(inner: &mut Inner<T>, entry: T, octets: usize) -> Result<(), T> {
        if inner.closed {
            return Err(entry);
        }
        inner.urgent |= entry.is_urgent();
        inner.entries.push(entry);
        inner.octets += octets;
        Ok(())
    }

    /// Waits up to `patience` for entries and swaps all of them into `into`, which must be empty and whose
    /// memory is used again. Returns false once the queue is closed and empty.
    pub fn take_all(&self, into: &mut Vec<T>, patience: Duration) -> bool {
        debug_assert!(into.is_empty(), "the consumer has handled what it took before");
        let until = Instant::now() + patience;
        let mut inner = self.inner.lock();
        while inner.entries.is_empty() && !inner.closed {
            if self.filled.wait_until(&mut inner, until).timed_out() {
                break;
            }
        }
        // The consumer's buffer becomes the queue's: one that a burst has made large goes, once it comes
        // round nearly empty. It is freed after the lock.
        let used = inner.entries.len();
        let large = into.capacity() > KEEP.max(used.saturating_mul(4));
        let outgrown = if large { std::mem::take(into) } else { Vec::new() };
        std::mem::swap(&mut inner.entries, into);
        inner.octets = 0;
        inner.urgent = false;
        let open = !(inner.closed && into.is_empty());
        drop(inner);
        self.drained.notify_all();
        drop(outgrown);
        open
    }

    /// Lets entries come for `span`, without waking for each: it ends sooner where one of them is urgent, where they weigh
    /// more than `enough` octets, and where the queue is closed. For the consumer, of whom there is one.
    pub fn rest(&self, span: Duration, enough: usize) {
        let until = Instant::now() + span;
        let mut inner = self.inner.lock();
        // Producers wait for room beyond the limit.
        inner.enough = enough.min(self.limit / 2);
        while !inner.ends_rest() {
            if self.hurry.wait_until(&mut inner, until).timed_out() {
                break;
            }
        }
        inner.enough = usize::MAX;
    }

    /// Nothing more comes in; what is there is still taken.
    pub fn close(&self) {
        self.inner.lock().closed = true;
        self.filled.notify_all();
        self.drained.notify_all();
        self.hurry.notify_all();
    }

    /// The octets waiting now.
    #[must_use]
    pub fn octets(&self) -> usize {
        self.inner.lock().octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Debug, PartialEq)]
    struct Entry(usize);

    impl QueueEntry for Entry {
        fn octets(&self) -> usize {
            10
        }

        fn is_urgent(&self) -> bool {
            self.0 == URGENT
        }
    }

    const URGENT: usize = 77;
    /// Longer than any test takes.
    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn a_rest_ends_for_what_is_urgent_for_much_and_at_the_end() {
        let queue = Queue::new(1000);
        queue.push(Entry(1)).unwrap();
        let began = Instant::now();
        queue.rest(Duration::from_millis(20), 100);
        assert!(began.elapsed() >= Duration::from_millis(20), "one entry is no reason");
        let mut taken = Vec::new();
        let ends: [&dyn Fn(); 5] = [
            &|| queue.push(Entry(URGENT)).unwrap(),
            &|| queue.push_control(Entry(URGENT)).unwrap(),
            &|| queue.offer(&mut vec![Entry(1), Entry(URGENT)]),
            &|| queue.offer(&mut (0..11).map(Entry).collect()),
            &|| queue.close(),
        ];
        for end in ends {
            queue.take_all(&mut taken, Duration::ZERO);
            taken.clear();
            std::thread::scope(|scope| {
                let resting = scope.spawn(|| queue.rest(LONG, 100));
                std::thread::sleep(Duration::from_millis(5));
                assert!(!resting.is_finished());
                end();
            });
            // Also where it was there before.
            queue.rest(LONG, 100);
        }
    }

    #[test]
    fn a_rest_leaves_room_for_those_who_wait_for_it() {
        let queue = Queue::new(100);
        std::thread::scope(|scope| {
            scope.spawn(|| (0..50).for_each(|number| queue.push(Entry(number)).unwrap()));
            let (mut seen, mut taken) = (0, Vec::new());
            while seen < 50 {
                // The last few are no reason to wake.
                queue.rest(if seen < 45 { LONG } else { Duration::ZERO }, usize::MAX);
                queue.take_all(&mut taken, Duration::from_secs(60));
                seen += taken.drain(..).count();
            }
        });
    }

    #[test]
    fn offer_takes_what_fits_and_leaves_the_rest() {
        let queue = Queue::new(25);
        let mut batch: Vec<_> = (0..5).map(Entry).collect();
        queue.offer(&mut batch);
        assert_eq!(batch, [Entry(2), Entry(3), Entry(4)]);
        let mut taken = Vec::new();
        assert!(queue.take_all(&mut taken, Duration::ZERO));
        assert_eq!(taken, [Entry(0), Entry(1)]);
        assert_eq!(queue.octets(), 0);
    }

    #[test]
    fn an_entry_larger_than_the_bound_passes_alone() {
        let queue = Queue::new(5);
        let mut batch = vec![Entry(0), Entry(1)];
        queue.offer(&mut batch);
        assert_eq!(batch, [Entry(1)]);
    }

    #[test]
    fn push_waits_for_room_and_order_holds() {
        let queue = Arc::new(Queue::new(30));
        let producer = Arc::clone(&queue);
        let thread = std::thread::spawn(move || {
            for number in 0..1000 {
                producer.push(Entry(number)).unwrap();
            }
            producer.close();
        });
        let (mut seen, mut batch) = (0, Vec::new());
        while queue.take_all(&mut batch, Duration::from_secs(10)) {
            assert!(batch.len() <= 3, "the bound holds");
            for entry in batch.drain(..) {
                assert_eq!(entry, Entry(seen));
                seen += 1;
            }
        }
        thread.join().unwrap();
        assert_eq!(seen, 1000);
    }

    #[test]
    fn what_a_burst_made_large_is_not_kept() {
        let queue = Queue::new(usize::MAX);
        let mut taken = Vec::new();
        queue.offer(&mut (0..100_000).map(Entry).collect());
        for _ in 0..3 {
            assert!(queue.take_all(&mut taken, Duration::ZERO));
            taken.clear();
            queue.push(Entry(0)).unwrap();
        }
        assert!(taken.capacity() <= KEEP && queue.inner.lock().entries.capacity() <= KEEP);
    }

    #[test]
    fn a_closed_queue_takes_nothing_and_gives_what_it_has() {
        let queue = Queue::new(100);
        queue.push(Entry(1)).unwrap();
        queue.close();
        assert_eq!(queue.push(Entry(2)), Err(Entry(2)));
        let mut taken = Vec::new();
        assert!(queue.take_all(&mut taken, Duration::ZERO));
        taken.clear();
        assert!(!queue.take_all(&mut taken, Duration::ZERO));
    }
}
