//! `cargo bench --bench mib_render`: one linkDown as a person reads it: the notification's name, and name, instance
//! and value of four varbinds, from their encoded OIDs into one String.
//!
//! Wanted: `linkdown` at most 1.5 µs (docs/performance.md). With `NEREUS_MIB_CORPUS` naming a tree of MIB files
//! the names come from those, else from the built-in ones.

#![expect(clippy::print_stderr, reason = "says which names are measured")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nereus::mib::{Mib, read_directories};
use nereus::oid::{EncodedOid, OidArray, encode};
use nereus::value::Value;

const LINK_DOWN: [u32; 10] = [1, 3, 6, 1, 6, 3, 1, 1, 5, 3];
const COLUMNS: [u32; 4] = [1, 7, 8, 2];

fn mib_render(criterion: &mut Criterion) {
    let mib = match std::env::var_os("NEREUS_MIB_CORPUS") {
        Some(corpus) => Arc::new(Mib::compile(&read_directories(&[corpus.into()]).0).mib),
        None => {
            eprintln!("NEREUS_MIB_CORPUS names no tree of MIB files: the built-in names are measured");
            Mib::builtin()
        }
    };
    let names = COLUMNS.map(|column| {
        let mut octets = Vec::new();
        encode(&[1, 3, 6, 1, 2, 1, 2, 2, 1, column, 7], &mut octets).expect("it has eleven arcs");
        octets
    });
    let values =
        [Value::Integer(7), Value::Integer(1), Value::Integer(2), Value::Octets(b"GigabitEthernet1")];
    let varbinds: Vec<_> =
        names.iter().map(|name| EncodedOid::new(name).expect("it was encoded")).zip(values).collect();
    let mut arcs = OidArray::default();
    let mut out = String::with_capacity(512);
    let mut render = |varbinds: &[(EncodedOid<'_>, Value<'_>)]| {
        out.clear();
        mib.write_name(&LINK_DOWN, &mut out);
        for (name, value) in varbinds {
            name.decode_into(&mut arcs);
            out.push(' ');
            let found = mib.lookup(arcs.arcs());
            mib.write_found(found, arcs.arcs(), &mut out);
            out.push('=');
            mib.write_varbind(found, arcs.arcs(), value, varbinds.iter().copied(), &mut out);
        }
        out.len()
    };
    render(&varbinds);
    let mut group = criterion.benchmark_group("mib_render");
    group.throughput(Throughput::Elements(1));
    group.bench_function("linkdown", |bencher| bencher.iter(|| render(black_box(&varbinds))));
    group.finish();
    eprintln!("{out}");
}

criterion_group!(benches, mib_render);
criterion_main!(benches);
