//! What a publication costs the thread that publishes, with readers at work on the same cores.
//!
//! Criterion tells the mean of publications one after the other, with readers that do nothing but load.
//! A table of percentiles follows, for a publication each millisecond. Receivers spend their time waiting
//! for datagrams; so beside readers that never wait there are readers that wait between two batches. Where a
//! publication was slow because another thread had the core, the kernel's run-queue time says so. Interrupts
//! and the hypervisor take a core without telling there: the control, a loop that takes as long as a
//! publication and touches nothing, paced with it in the same rounds, shows what they cost anything.
//!
//! `cargo bench --bench swap -- --quick`

#![allow(clippy::print_stdout, reason = "the tables are the result")]

#[path = "common/measure.rs"]
mod measure;
#[path = "common/traffic.rs"]
mod traffic;

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion};
use measure::{Histogram, RunQueue, Samples, StopOnDrop, Tables, time};
use nereus::pipeline::{Scratch, process};
use nereus::snapshot::{Publisher, SnapshotHandle, SnapshotReader};

/// How many datagrams a receiver takes under one load.
const BATCH: u32 = 64;

/// What the readers do while something is published.
#[derive(Clone, Copy)]
enum Readers {
    /// Load, and nothing else, without a pause.
    Spin,
    /// A batch after the other, without a pause: every core is taken.
    Busy,
    /// A batch, then a wait, so that all readers together process so many datagrams a second.
    Receive(u32),
}

impl Readers {
    fn work(self, number: u32, mut reader: SnapshotReader, stop: &AtomicBool) {
        let octets = traffic::link_down(24);
        let mut scratch = Scratch::default();
        let mut batch = |reader: &mut SnapshotReader| {
            let snapshot = reader.load();
            for _ in 0..BATCH {
                drop(black_box(process(snapshot, &traffic::received(black_box(&octets)), &mut scratch)));
            }
        };
        while !stop.load(Ordering::Relaxed) {
            match self {
                Self::Spin => {
                    let _ = black_box(reader.load().generation());
                }
                Self::Busy => batch(&mut reader),
                Self::Receive(rate) => {
                    batch(&mut reader);
                    thread::sleep(Duration::from_secs(1) * BATCH * number / rate);
                }
            }
        }
    }

    /// Runs `measured` while `number` threads read.
    fn during<R>(self, number: u32, handle: &SnapshotHandle, measured: impl FnOnce() -> R) -> R {
        let stop = &AtomicBool::new(false);
        thread::scope(|scope| {
            let _stop = StopOnDrop(stop);
            for _ in 0..number {
                let reader = handle.reader();
                scope.spawn(move || self.work(number, reader, stop));
            }
            measured()
        })
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let candidate = traffic::candidate(100);
    let mut group = criterion.benchmark_group("publish");
    for readers in [0, 1, 4, 8] {
        let mut publisher = Publisher::new(candidate.clone(), 8).unwrap();
        let handle = publisher.handle();
        group.bench_function(
            BenchmarkId::new("one after the other, readers that spin", readers),
            |bencher| {
                Readers::Spin.during(readers, &handle, || {
                    bencher.iter_custom(|publications| {
                        let mut sum = Duration::ZERO;
                        for _ in 0..publications {
                            let candidate = candidate.clone();
                            let start = Instant::now();
                            let published = publisher.publish(candidate);
                            sum += start.elapsed();
                            drop(published);
                        }
                        sum
                    });
                });
            },
        );
    }
    group.finish();
    criterion.final_summary();
    match Tables::asked() {
        Tables::Skip => {}
        Tables::Quick => percentiles(2_000, 3),
        Tables::Full => percentiles(10_000, 3),
    }
}

/// How many turns of [`spin`] take as long as a publication beside 8 receivers: 0.6 us.
const CONTROL_NANOSECONDS: u64 = 600;

/// Registers alone: no cache line of anybody else, no system call.
fn spin(turns: u64) {
    for turn in 0..turns {
        black_box(turn);
    }
}

fn control_turns() -> u64 {
    const MANY: u64 = 10_000_000;
    let start = Instant::now();
    spin(MANY);
    MANY * CONTROL_NANOSECONDS / (start.elapsed().as_nanos() as u64).max(1)
}

/// `number` publications, one each millisecond, each followed by a control half a millisecond later. The run
/// queue is asked before and after each publication.
fn paced(publisher: &mut Publisher, number: usize) -> (Samples, Histogram, Histogram) {
    let candidate = traffic::candidate(100);
    let run_queue = RunQueue::of_this_thread();
    let mut samples = Samples::new();
    let mut waits = Histogram::new();
    let mut control = Histogram::new();
    let turns = control_turns();
    for _ in 0..number {
        thread::sleep(Duration::from_micros(500));
        // What surrounds a publication surrounds it too.
        let staged = publisher.stage(candidate.clone());
        black_box(run_queue.waited());
        let start = Instant::now();
        spin(black_box(turns));
        control.record(start.elapsed().as_nanos() as u64);
        drop(staged);
        thread::sleep(Duration::from_micros(500));
        // As the reload engine does: what is published has been staged before, for the components.
        let staged = publisher.stage(candidate.clone());
        let before = run_queue.waited();
        let start = Instant::now();
        let published = publisher.publish_staged(staged);
        let taken = start.elapsed().as_nanos() as u64;
        let waited = run_queue.waited() - before;
        drop(published);
        samples.add(&[taken], waited);
        if waited > 0 {
            waits.record(waited);
        }
    }
    (samples, waits, control)
}

fn percentiles(publications: usize, rounds: usize) {
    const ROWS: [(u32, Readers, &str); 6] = [
        (0, Readers::Spin, "none"),
        (1, Readers::Receive(20_000), "1 receiver, 20,000 datagrams/s"),
        (8, Readers::Receive(20_000), "8 receivers, 20,000 datagrams/s"),
        (8, Readers::Receive(200_000), "8 receivers, 200,000 datagrams/s"),
        (8, Readers::Busy, "8 receivers that never wait"),
        (8, Readers::Spin, "8 that load and nothing else"),
    ];
    println!(
        "\nPublisher::publish_staged, once a millisecond: {publications} publications a round, each round a row. The left columns"
    );
    println!(
        "are every publication, and judge. In `put aside` another thread had the publisher's core meanwhile; that may be"
    );
    println!("a thread that the publication itself woke, so the right columns (without these) only explain.");
    println!(
        "`control`: a loop of {CONTROL_NANOSECONDS} ns in the same rounds, which shares nothing with anybody.\n"
    );
    println!(
        "{:<34} {:>9} {:>9} {:>9} {:>9} | {:>9} {:>9} {:>9} | {:>9} {:>12} | {:>9} {:>9} {:>9}",
        "readers",
        "p50",
        "p99",
        "p99.9",
        "max",
        "p99",
        "p99.9",
        "max",
        "put aside",
        "longest wait",
        "control",
        "p99.9",
        "max"
    );
    for (number, readers, name) in ROWS {
        for _ in 0..rounds {
            let mut publisher = Publisher::new(traffic::candidate(100), 8).unwrap();
            let handle = publisher.handle();
            let (samples, waits, control) =
                readers.during(number, &handle, || paced(&mut publisher, publications));
            let (all, kept) = (&samples.all, &samples.kept);
            println!(
                "{name:<34} {:>9} {:>9} {:>9} {:>9} | {:>9} {:>9} {:>9} | {:>9} {:>12} | {:>9} {:>9} {:>9}",
                time(all.at(0.5)),
                time(all.at(0.99)),
                time(all.at(0.999)),
                time(all.max()),
                time(kept.at(0.99)),
                time(kept.at(0.999)),
                time(kept.max()),
                all.total() - kept.total(),
                time(waits.max()),
                time(control.at(0.5)),
                time(control.at(0.999)),
                time(control.max())
            );
        }
    }
}
