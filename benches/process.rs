//! What one datagram costs from its octets to its Verdict, with 1, 100 and 10,000 rules.
//!
//! Freeing the Verdict is part of the figure (in the collector the correlator's thread pays for that).
//! How often memory is allocated is asserted in `tests/allocations.rs`.
//!
//! `cargo bench --bench process -- --quick`

#[path = "common/traffic.rs"]
mod traffic;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput};
use nereus::event::Verdict;
use nereus::metrics::{DropReason, Metrics};
use nereus::pipeline::{Scratch, Usm, process, settle};
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
    let publisher = Publisher::new(traffic::candidate_with_user(1_000), 1).unwrap();
    let snapshot = publisher.current();
    for (name, octets) in [
        ("linkDown, v3 SHA-256 + AES-128, 1000 rules", traffic::link_down_v3(24, true)),
        ("linkDown, v3 SHA-256, 1000 rules", traffic::link_down_v3(24, false)),
    ] {
        group.bench_function(name, |bencher| {
            let metrics = Metrics::new();
            let mut scratch = Scratch::with(Arc::new(Usm::unkept(&metrics)));
            assert_eq!(outcome(snapshot, &octets, &mut scratch), None, "{name}");
            bencher.iter(|| {
                let datagram = traffic::received(black_box(&octets));
                let verdict = process(snapshot, &datagram, &mut scratch);
                settle(verdict, datagram.received, &mut scratch)
            });
        });
    }
    // Known users at made-up engines, with wrong digests: what a forgery costs.
    let mut forged = traffic::link_down_v3(24, true);
    let place = forged.windows(5).position(|window| window == &traffic::ENGINE[..5]).unwrap();
    forged[place + 4] ^= 1;
    group.bench_function("forged v3 of a made-up engine", |bencher| {
        let mut scratch = Scratch::default();
        assert_eq!(outcome(snapshot, &forged, &mut scratch), Some(DropReason::WrongDigests));
        bencher.iter(|| process(snapshot, &traffic::received(black_box(&forged)), &mut scratch));
    });
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
