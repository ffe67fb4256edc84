//! `cargo bench --bench wire_decode`: one linkDown of 157 octets from datagram to notification, its
//! four varbinds walked, and the same encoded.
//!
//! Wanted: `decode` at most 150 ns (docs/performance.md).

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nereus::oid::{OidArray, OidRef};
use nereus::value::Value;
use nereus::wire::{Kind, Message, V2Notification, decode, encode_v2c};

const COLUMNS: [[u32; 11]; 4] = [
    [1, 3, 6, 1, 2, 1, 2, 2, 1, 1, 7],
    [1, 3, 6, 1, 2, 1, 2, 2, 1, 7, 7],
    [1, 3, 6, 1, 2, 1, 2, 2, 1, 8, 7],
    [1, 3, 6, 1, 2, 1, 2, 2, 1, 2, 7],
];

fn wire_decode(criterion: &mut Criterion) {
    let values =
        [Value::Integer(7), Value::Integer(1), Value::Integer(2), Value::Octets(b"GigabitEthernet1")];
    let varbinds: Vec<_> = COLUMNS.iter().map(|name| OidRef(name)).zip(values).collect();
    let link_down = V2Notification {
        community: b"public",
        kind: Kind::Trap,
        request_id: 0x1234_5678,
        uptime: 123_456_789,
        trap_oid: OidRef(&[1, 3, 6, 1, 6, 3, 1, 1, 5, 3]),
        varbinds: &varbinds,
    };
    let mut datagram = Vec::new();
    encode_v2c(&link_down, &mut datagram).expect("it fits");
    assert_eq!(datagram.len(), 157);
    let Ok(Message::Community(message)) = decode(&datagram) else { panic!("it decodes") };

    let mut group = criterion.benchmark_group("wire_linkdown_157");
    group.throughput(Throughput::Elements(1));
    group.bench_function("decode", |bencher| bencher.iter(|| decode(black_box(&datagram))));
    group.bench_function("walk", |bencher| {
        bencher.iter(|| {
            for varbind in black_box(message.notification.varbinds) {
                black_box(varbind);
            }
        });
    });
    let mut arcs = OidArray::default();
    group.bench_function("trap_oid", |bencher| {
        bencher.iter(|| {
            black_box(message.notification.trap_oid).decode_into(&mut arcs);
            arcs.arcs().len()
        });
    });
    let mut out = Vec::with_capacity(512);
    group.bench_function("encode", |bencher| {
        bencher.iter(|| {
            out.clear();
            encode_v2c(black_box(&link_down), &mut out)
        });
    });
    group.finish();
}

criterion_group!(benches, wire_decode);
criterion_main!(benches);
