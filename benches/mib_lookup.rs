//! `NEREUS_MIB_CORPUS=DIR cargo bench --bench mib_lookup`: from an instance's OID to its node, by the names of a whole
//! tree of MIB files: the same OID again and again, and 10,000 OIDs at random. Without a tree, by the built-in names.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nereus::mib::{Collection, Kind, Mib, Scan};

const QUESTIONS: usize = 10_000;

fn names() -> Arc<Mib> {
    let Some(corpus) = std::env::var_os("NEREUS_MIB_CORPUS") else { return Mib::builtin() };
    let scan = Scan::of(&[corpus.into()]);
    let (collection, _) = Collection::make(scan, None, false, &AtomicBool::new(false)).unwrap();
    Arc::clone(collection.mib())
}

/// Instances of columns, far apart in the tree and in no order.
fn questions(mib: &Mib) -> Vec<Vec<u32>> {
    let columns: Vec<_> = mib.nodes().filter(|node| node.kind() == Kind::Column).collect();
    // Numerical Recipes' generator: the same questions each time.
    let mut state = 1u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    };
    let ask = |_| {
        let column = columns[random() as usize % columns.len()];
        [column.oid().arcs(), &[random() % 500, random() % 1000]].concat()
    };
    (0..QUESTIONS).map(ask).collect()
}

fn mib_lookup(criterion: &mut Criterion) {
    let mib = names();
    let questions = questions(&mib);
    let mut group = criterion.benchmark_group("mib_lookup");
    group.throughput(Throughput::Elements(1));
    group.bench_function("hot", |bencher| bencher.iter(|| mib.lookup(black_box(&questions[0]))));
    let mut at = 0;
    group.bench_function("random", |bencher| {
        bencher.iter(|| {
            at = (at + 1) % QUESTIONS;
            mib.lookup(black_box(&questions[at]))
        });
    });
    group.finish();
}

criterion_group!(benches, mib_lookup);
criterion_main!(benches);
