//! What one load of the current Snapshot costs a reader: while nothing is published, with a publication
//! every millisecond, and with publications without a pause, beside what else the job could be done with.
//!
//! The others carry a payload of the Snapshot's shape and are measured at their cheapest: the generation
//! is read under the lock or the borrow. A receiver that kept the lock for its batch would stop the
//! publisher, so it would have to clone the `Arc` as well.
//!
//! After criterion's means a table of percentiles for `SnapshotReader` follows (see `common/measure.rs`).
//!
//! `cargo bench --bench snapshot_load -- --quick`

#![allow(clippy::print_stdout, reason = "the tables are the result")]

#[path = "common/measure.rs"]
mod measure;
#[path = "common/traffic.rs"]
mod traffic;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion};
use measure::{Histogram, Publications, Samples, Tables, sample_for, time};
use nereus::pipeline::{Scratch, process};
use nereus::snapshot::{Publisher, SnapshotHandle, SnapshotReader};

/// How many datagrams a receiver takes under one load.
const BATCH: usize = 64;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for publications in Publications::ALL {
        let mut group = criterion.benchmark_group(format!("load/{}", publications.name()));
        own(&mut group, publications);
        others(&mut group, publications);
        group.finish();
    }
    criterion.final_summary();
    match Tables::asked() {
        Tables::Skip => {}
        Tables::Quick => percentiles(Duration::from_millis(250), 8),
        Tables::Full => percentiles(Duration::from_secs(1), 16),
    }
}

fn own(group: &mut BenchmarkGroup<'_, WallTime>, publications: Publications) {
    let candidate = traffic::candidate(100);
    let mut publisher = Publisher::new(candidate.clone(), 8).unwrap();
    let handle = publisher.handle();
    let mut publish = move || drop(publisher.publish(candidate.clone()));
    let mut reader = handle.reader();
    publications.during(&mut publish, || {
        group.bench_function("SnapshotReader::load", |bencher| {
            bencher.iter(|| black_box(reader.load().generation()));
        });
    });
    publications.during(&mut publish, || {
        group.bench_function("SnapshotHandle::current", |bencher| {
            bencher.iter(|| black_box(handle.current().generation()));
        });
    });
}

/// As large as a Snapshot: a number and shared parts.
#[derive(Clone)]
struct Payload {
    generation: u64,
    _parts: [Arc<[u8]>; 4],
}

fn payload() -> impl FnMut() -> Arc<Payload> + Send {
    let parts = [(); 4].map(|()| Arc::from([0; 64]));
    let mut generation = 0;
    move || {
        generation += 1;
        Arc::new(Payload { generation, _parts: parts.clone() })
    }
}

fn others(group: &mut BenchmarkGroup<'_, WallTime>, publications: Publications) {
    let mut next = payload();

    let shared = std::sync::RwLock::new(next());
    publications.during(
        || *shared.write().unwrap() = next(),
        || {
            group.bench_function("std::sync::RwLock<Arc>", |bencher| {
                bencher.iter(|| black_box(shared.read().unwrap().generation));
            });
        },
    );

    let mut next = payload();
    let shared = parking_lot::RwLock::new(next());
    publications.during(
        || *shared.write() = next(),
        || {
            group.bench_function("parking_lot::RwLock<Arc>", |bencher| {
                bencher.iter(|| black_box(shared.read().generation));
            });
        },
    );

    let mut next = payload();
    let shared = std::sync::Mutex::new(next());
    publications.during(
        || *shared.lock().unwrap() = next(),
        || {
            group.bench_function("std::sync::Mutex<Arc>", |bencher| {
                bencher.iter(|| black_box(shared.lock().unwrap().generation));
            });
        },
    );

    let mut next = payload();
    let (sender, receiver) = tokio::sync::watch::channel(next());
    publications.during(
        || drop(sender.send(next())),
        || {
            group.bench_function("tokio::sync::watch", |bencher| {
                bencher.iter(|| black_box(receiver.borrow().generation));
            });
        },
    );
}

/// What a sample is.
#[derive(Clone, Copy)]
enum Work {
    /// Nothing: two readings of the clock.
    Nothing,
    /// One load, right after the one before.
    Load,
    /// One load, as a receiver does it: between two of them lies a batch, which is not timed.
    LoadBetweenBatches,
    /// One load and a batch of datagrams processed under it.
    Batch,
}

impl Work {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Nothing, "nothing (the timer)"),
        (Self::Load, "load after load"),
        (Self::LoadBetweenBatches, "load between batches"),
        (Self::Batch, "load + 64 datagrams"),
    ];

    /// Whether its samples are far enough apart to ask the run queue around each.
    fn is_paced(self) -> bool {
        matches!(self, Self::LoadBetweenBatches | Self::Batch)
    }

    fn measure(self, handle: &SnapshotHandle, span: Duration) -> Samples {
        let mut reader = handle.reader();
        let octets = traffic::link_down(24);
        let mut scratch = Scratch::default();
        let mut batch = |reader: &mut SnapshotReader| {
            let snapshot = reader.load();
            for _ in 0..BATCH {
                drop(black_box(process(snapshot, &traffic::received(black_box(&octets)), &mut scratch)));
            }
        };
        match self {
            Self::Nothing => sample_for(span, 1 << 14, || (), || ()),
            Self::Load => sample_for(
                span,
                1 << 14,
                || (),
                || {
                    let _ = black_box(reader.load().generation());
                },
            ),
            Self::LoadBetweenBatches => {
                // The batch goes on under its own reader, so that the timed one meets each publication.
                let mut own = handle.reader();
                sample_for(
                    span,
                    1,
                    || batch(&mut own),
                    || {
                        let _ = black_box(reader.load().generation());
                    },
                )
            }
            Self::Batch => sample_for(span, 1, || (), || batch(&mut reader)),
        }
    }
}

/// All conditions in turn, `rounds` times, so that a passing load of the machine meets each of them; the
/// rounds of a condition are told together.
fn percentiles(span: Duration, rounds: usize) {
    const SHARES: [f64; 5] = [0.5, 0.99, 0.999, 0.9999, 0.99999];
    println!(
        "\nSnapshotReader: latency of a sample, two readings of the clock included; {rounds} rounds of {span:?} each."
    );
    println!(
        "Left of the bar every sample. Right of it, in a batch's rhythm, those during which the reader kept its core.\n"
    );
    println!(
        "{:<21} {:<11} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} | {:>9} {:>9} {:>9} {:>9} | {:>9} {:>6}",
        "sample",
        "published",
        "p50",
        "p99",
        "p99.9",
        "p99.99",
        "p99.999",
        "max",
        "p99",
        "p99.9",
        "p99.99",
        "max",
        "samples",
        "kept"
    );
    for (work, name) in Work::ALL {
        let mut told = Publications::ALL.map(|_| Samples::new());
        for _ in 0..rounds {
            for (publications, told) in Publications::ALL.into_iter().zip(&mut told) {
                let candidate = traffic::candidate(100);
                let mut publisher = Publisher::new(candidate.clone(), 8).unwrap();
                let handle = publisher.handle();
                let publish = || drop(publisher.publish(candidate.clone()));
                told.merge(&publications.during(publish, || work.measure(&handle, span)));
            }
        }
        for (publications, Samples { all, kept }) in Publications::ALL.into_iter().zip(&told) {
            let figure =
                |of: &Histogram, share| if of.tells(share) { time(of.at(share)) } else { "-".into() };
            print!("{name:<21} {:<11}", publications.name());
            for share in SHARES {
                print!(" {:>9}", figure(all, share));
            }
            print!(" {:>9} |", time(all.max()));
            for share in &SHARES[1..4] {
                let kept = if work.is_paced() { figure(kept, *share) } else { String::new() };
                print!(" {kept:>9}");
            }
            let (max, share) = if work.is_paced() {
                (time(kept.max()), format!("{:.1}%", 100.0 * kept.total() as f64 / all.total() as f64))
            } else {
                Default::default()
            };
            println!(" {max:>9} | {:>9} {share:>6}", all.total());
        }
    }
}
