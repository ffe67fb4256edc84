//! What one datagram costs from its octets to its Verdict, with 1, 100 and 10,000 rules.
//!
//! Freeing the Verdict is part of the figure (in the collector the correlator's thread pays for that).
//! How often memory is allocated is asserted in `tests/allocations.rs`.
//!
//! `cargo bench --bench process -- --quick`; with `NEREUS_MIB_CORPUS=DIR` also under the names of a whole tree of MIB
//! files and 1,000 rules for notifications of it: one linkDown again and again, and 10,000 notifications of the tree at
//! random, each with the objects that it says it has, half of them with a rule of their own.

#[path = "common/traffic.rs"]
mod traffic;

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use criterion::{BenchmarkId, Criterion, Throughput};
use nereus::config::Settings;
use nereus::config::settings::{Condition, Scalar, Test};
use nereus::event::Verdict;
use nereus::metrics::{DropReason, Metrics};
use nereus::mib::{BaseType, Collection, Kind, Mib, Scan};
use nereus::oid::Oid;
use nereus::pipeline::{Scratch, Usm, process, settle};
use nereus::snapshot::{Candidate, Publisher, Snapshot, build};
use nereus::value::Value;
use nereus::wire::{self, V2Notification};

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
    if let Some(corpus) = std::env::var_os("NEREUS_MIB_CORPUS") {
        let scan = Scan::of(&[corpus.into()]);
        let (collection, _) = Collection::make(scan, None, false, &AtomicBool::new(false)).unwrap();
        let (candidate, mixed) = zoo(collection.mib());
        let publisher = Publisher::new(candidate, 1).unwrap();
        let snapshot = publisher.current();
        assert_eq!(outcome(snapshot, &link_down, &mut scratch), None);
        group.bench_function("linkDown, whole tree, 1000 rules", |bencher| {
            bencher.iter(|| process(snapshot, &traffic::received(black_box(&link_down)), &mut scratch));
        });
        mixed.iter().for_each(|octets| assert_eq!(outcome(snapshot, octets, &mut scratch), None));
        let mut next = mixed.iter().cycle();
        group.bench_function("mixed, whole tree, 1000 rules", |bencher| {
            bencher.iter(|| {
                let octets = next.next().unwrap();
                process(snapshot, &traffic::received(black_box(octets)), &mut scratch)
            });
        });
    }
    group.finish();
    criterion.final_summary();
}

/// 1,000 rules for notifications of `mib`, every tenth with a `when`, and 10,000 traps: each second one is of a rule's
/// notification, the others become what the built-in rules make of them.
fn zoo(mib: &Arc<Mib>) -> (Candidate, Vec<Vec<u8>>) {
    let all: Vec<_> = mib.nodes().filter(|node| node.kind() == Kind::Notification).collect();
    assert!(all.len() > 2_000, "a tree with {} notifications is no zoo", all.len());
    // Numerical Recipes' generator: the same traps each time.
    let mut state = 1_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let ruled: Vec<_> = (0..999).map(|place| all[place * all.len() / 999]).collect();
    let mut rules = traffic::rules(1);
    for (place, node) in ruled.iter().enumerate() {
        let when = (place % 10 == 0).then(|| Condition::Field {
            name: "ifOperStatus".into(),
            test: Test::Equals(Scalar::Text("down".into())),
        });
        rules.push(traffic::alert_rule(format!("zoo-{place}"), node.oid(), when));
    }
    let mut trap = |place: usize| {
        let node = if place.is_multiple_of(2) { ruled[random(ruled.len())] } else { all[random(all.len())] };
        let instance = random(1000) as u32;
        let names: Vec<_> = node
            .objects()
            .map(|object| {
                let object = mib.node(object);
                let last = if object.kind() == Kind::Column { instance } else { 0 };
                let name = Oid::new([object.oid().arcs(), &[last]].concat()).unwrap();
                (name, object.syntax().map(|syntax| syntax.base()))
            })
            .collect();
        let varbinds: Vec<_> = names
            .iter()
            .map(|(name, base)| {
                let value = match base {
                    Some(BaseType::Octets | BaseType::Bits) => Value::Octets(b"GigabitEthernet1/0/24"),
                    Some(BaseType::Counter32) => Value::Counter32(instance),
                    Some(BaseType::Unsigned32) => Value::Unsigned32(instance),
                    Some(BaseType::TimeTicks) => Value::TimeTicks(instance),
                    Some(BaseType::Counter64) => Value::Counter64(u64::from(instance)),
                    Some(BaseType::IpAddress) => Value::IpAddress([10, 0, 0, 1]),
                    _ => Value::Integer(2),
                };
                (name.borrow(), value)
            })
            .collect();
        let (mut octets, trap_oid) = (Vec::new(), node.oid());
        let notification = V2Notification {
            community: b"public",
            kind: wire::Kind::Trap,
            request_id: place as i32,
            uptime: 123_456_789,
            trap_oid: trap_oid.borrow(),
            varbinds: &varbinds,
        };
        wire::encode_v2c(&notification, &mut octets).unwrap();
        octets
    };
    let mixed = (0..10_000).map(&mut trap).collect();
    let settings = Settings { rules: rules.into_iter().map(Arc::new).collect(), ..Settings::default() };
    (build(settings, Arc::clone(mib), None).unwrap(), mixed)
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
