//! What one datagram costs from its octets to its Verdict, with 1, 100 and 10,000 rules.
//!
//! Freeing the Verdict is part of the figure (in the collector the correlator's thread pays for that).
//! How often memory is allocated is asserted in `tests/allocations.rs`.
//!
//! `cargo bench --bench process -- --quick`

#[path = "common/traffic.rs"]
mod traffic;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use nereus::event::Verdict;
use nereus::metrics::DropReason;
use nereus::pipeline::{Scratch, process};
use nereus::snapshot::{Candidate, Publisher, Snapshot};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let link_down = traffic::link_down(24);
    assert_eq!(link_down.len(), 157, "the size that linkDowns have");
    let unknown = traffic::trap(traffic::UNKNOWN, 24);
    let chatter = traffic::trap(traffic::CHATTER, 24);

    let mut group = criterion.benchmark_group("process");
    group.throughput(Throughput::Elements(1));
    for rules in [1, 100, 10_000] {
        let publisher = Publisher::new(traffic::candidate(rules), 1).unwrap();
        let snapshot = publisher.current();
        let mut run = |name: &str, octets: &[u8], expected: Option<DropReason>| {
            group.bench_function(BenchmarkId::new(name, rules), |bencher| {
                let mut scratch = Scratch::default();
                assert_eq!(outcome(snapshot, octets, &mut scratch), expected, "{name}");
                bencher.iter(|| process(snapshot, &traffic::received(black_box(octets)), &mut scratch));
            });
        };
        run("linkDown", &link_down, None);
        run("unmatched", &unknown, Some(DropReason::Unmatched));
        if rules >= 100 {
            run("dropped by a rule", &chatter, Some(DropReason::Rule));
        }
    }
    let publisher = Publisher::new(Candidate::embedded_default(), 1).unwrap();
    let snapshot = publisher.current();
    let mut scratch = Scratch::default();
    for (name, octets) in [
        ("linkDown, embedded default", link_down.as_slice()),
        ("unknown trap, embedded default", &unknown),
        ("truncated", &link_down[..120]),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| process(snapshot, &traffic::received(black_box(octets)), &mut scratch));
        });
    }
    group.finish();
    criterion.final_summary();
}

/// `None` for an event, else why there is none: a bench of the wrong path would be fast.
fn outcome(snapshot: &Snapshot, octets: &[u8], scratch: &mut Scratch) -> Option<DropReason> {
    match process(snapshot, &traffic::received(octets), scratch) {
        Verdict::Accepted(event) => {
            assert!(!event.effects.is_empty());
            None
        }
        Verdict::Dropped(reason) => Some(reason),
    }
}
