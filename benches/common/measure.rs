//! Latency percentiles: criterion tells means, a promise about the slowest of 10,000 needs every sample.
//!
//! Noise is told apart in two ways. Each table has the same loop with nothing in it, which shows what the
//! timer and the machine cost. And the kernel says how long the measuring thread stood in the run queue
//! while another thread had its core (`/proc/thread-self/schedstat`): samples taken while it did are
//! counted by themselves.

#![allow(dead_code, reason = "each bench uses its part")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Buckets for each power of two: a percentile is at most 1/64 too high.
const STEPS: usize = 64;

/// How often each latency occurred, in nanoseconds.
#[derive(Clone)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; STEPS * 60], total: 0, max: 0 }
    }

    pub(crate) fn record(&mut self, nanoseconds: u64) {
        self.counts[bucket(nanoseconds)] += 1;
        self.total += 1;
        self.max = self.max.max(nanoseconds);
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(own, other)| *own += other);
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// Whether there are samples enough for `share`: at least one lies beyond it.
    pub(crate) fn tells(&self, share: f64) -> bool {
        self.total as f64 * (1.0 - share) >= 1.0
    }

    /// The least latency that `share` of the samples do not exceed. 0 without samples.
    pub(crate) fn at(&self, share: f64) -> u64 {
        let wanted = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted.max(1) {
                return upper(bucket).min(self.max);
            }
        }
        self.max
    }
}

fn bucket(value: u64) -> usize {
    if value < STEPS as u64 {
        return value as usize;
    }
    let shift = value.ilog2() - STEPS.ilog2();
    STEPS * (shift as usize + 1) + ((value >> shift) as usize - STEPS)
}

/// The largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let shift = bucket / STEPS - 1;
    (((bucket % STEPS + STEPS + 1) as u64) << shift) - 1
}

/// How long the calling thread has stood ready and without a core, by the kernel's count.
pub(crate) struct RunQueue {
    file: Option<File>,
}

impl RunQueue {
    /// For the calling thread alone. Where the kernel does not count, [`RunQueue::waited`] says 0.
    pub(crate) fn of_this_thread() -> Self {
        Self { file: File::open("/proc/thread-self/schedstat").ok() }
    }

    /// Nanoseconds since the thread began.
    pub(crate) fn waited(&self) -> u64 {
        let mut text = [0; 96];
        let read = self.file.as_ref().and_then(|file| file.read_at(&mut text, 0).ok()).unwrap_or(0);
        std::str::from_utf8(&text[..read])
            .ok()
            .and_then(|text| text.split_whitespace().nth(1))
            .and_then(|field| field.parse().ok())
            .unwrap_or(0)
    }
}

/// Samples of one measurement: all of them, and those during which the thread kept its core.
pub(crate) struct Samples {
    pub(crate) all: Histogram,
    pub(crate) kept: Histogram,
}

impl Samples {
    pub(crate) fn new() -> Self {
        Self { all: Histogram::new(), kept: Histogram::new() }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.all.merge(&other.all);
        self.kept.merge(&other.kept);
    }

    /// Adds what was measured while the thread stood `waited` in the run queue.
    pub(crate) fn add(&mut self, nanoseconds: &[u64], waited: u64) {
        for &sample in nanoseconds {
            self.all.record(sample);
            if waited == 0 {
                self.kept.record(sample);
            }
        }
    }
}

/// Runs `between` once and then `sample` as often as `chunk` says, again and again for `span`. Each call of
/// `sample` is timed with two readings of the clock, whose cost is not taken off: measure an empty `sample`
/// and compare.
///
/// The run queue is asked around each `chunk` of samples. Only with a chunk of one is what was kept a fair
/// choice. A longer chunk is put aside as a whole, and a publisher that wakes on the reader's core makes that
/// happen just where it publishes: the samples that were kept then lack the publications.
pub(crate) fn sample_for(
    span: Duration,
    chunk: usize,
    mut between: impl FnMut(),
    mut sample: impl FnMut(),
) -> Samples {
    let run_queue = RunQueue::of_this_thread();
    let mut taken = vec![0; chunk];
    let mut samples = Samples::new();
    let end = Instant::now() + span;
    while Instant::now() < end {
        between();
        let before = run_queue.waited();
        for slot in &mut taken {
            let start = Instant::now();
            sample();
            *slot = start.elapsed().as_nanos() as u64;
        }
        samples.add(&taken, run_queue.waited() - before);
    }
    samples
}

/// How often something is published while something else is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Publications {
    /// Never.
    Quiet,
    /// Once a millisecond.
    Paced,
    /// One after the other.
    Continuous,
}

impl Publications {
    pub(crate) const ALL: [Self; 3] = [Self::Quiet, Self::Paced, Self::Continuous];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Paced => "every 1 ms",
            Self::Continuous => "continuous",
        }
    }

    /// Runs `measured` while another thread calls `publish`.
    pub(crate) fn during<R>(self, mut publish: impl FnMut() + Send, measured: impl FnOnce() -> R) -> R {
        let stop = &AtomicBool::new(false);
        thread::scope(|scope| {
            let _stop = StopOnDrop(stop);
            match self {
                Self::Quiet => {}
                Self::Paced => {
                    scope.spawn(move || {
                        while !stop.load(Ordering::Relaxed) {
                            publish();
                            thread::sleep(Duration::from_millis(1));
                        }
                    });
                }
                Self::Continuous => {
                    scope.spawn(move || {
                        while !stop.load(Ordering::Relaxed) {
                            publish();
                        }
                    });
                }
            }
            measured()
        })
    }
}

/// Ends the threads that watch the flag, also when the measurement panics.
pub(crate) struct StopOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What the command line asks of the tables that follow criterion's own output.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tables {
    /// None: `cargo test`, `--list`, or a filter that does not name them.
    Skip,
    /// Under `--quick`.
    Quick,
    /// Otherwise.
    Full,
}

impl Tables {
    /// Tables are made under `cargo bench` without a filter, or with the filter `percentiles`.
    pub(crate) fn asked() -> Self {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
        let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
        if !has("--bench")
            || has("--test")
            || has("--list")
            || filter.is_some_and(|text| text != "percentiles")
        {
            Self::Skip
        } else if has("--quick") {
            Self::Quick
        } else {
            Self::Full
        }
    }
}

/// `412 ns`, `8.31 us`, `1.20 ms`.
pub(crate) fn time(nanoseconds: u64) -> String {
    match nanoseconds {
        0..1_000 => format!("{nanoseconds} ns"),
        1_000..1_000_000 => format!("{:.2} us", nanoseconds as f64 / 1e3),
        _ => format!("{:.2} ms", nanoseconds as f64 / 1e6),
    }
}
