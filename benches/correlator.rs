//! One event through the correlator, with 50,000 alerts open: a silent repeat, and an alert that opens and is
//! cleared again.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use nereus::correlator::{Correlator, Limits, Restored, Routes};
use nereus::event::{
    AlertText, ClearedBy, Effect, EffectKind, Event, Generation, KEY_SEPARATOR, Rendered, RuleAction,
    Timestamp, Version,
};
use nereus::oid::Oid;
use nereus::severity::Severity;

const OPEN: u32 = 50_000;
const RAISE: EffectKind = EffectKind::Raise(Severity::Major);

/// Fixed texts: templates have a bench of their own.
#[derive(Debug)]
struct Fixed(Rendered);

impl AlertText for Fixed {
    fn render(&self, _: &Event, _: Severity) -> Rendered {
        self.0.clone()
    }

    fn constant_labels(&self) -> Option<Vec<(Arc<str>, String)>> {
        None
    }
}

fn event(rule: &Arc<RuleAction>, key: u32, kind: EffectKind, time: Timestamp) -> Event {
    let key = format!("InterfaceDown{KEY_SEPARATOR}10.0.0.1{KEY_SEPARATOR}{key}").into();
    Event {
        time,
        generation: Generation(1),
        listener: 0,
        peer: (Ipv4Addr::new(10, 0, 0, 1), 50_000).into(),
        source: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)).into(),
        version: Version::V2c,
        community: None,
        trap_oid: Oid::new([1, 3, 6, 1, 6, 3, 1, 1, 5, 3]).expect("a legal OID"),
        trap_name: None,
        datagram: vec![0; 160].into(),
        pdu: 20..160,
        effects: [Effect { rule: Arc::clone(rule), kind, key }].into_iter().collect(),
        answer: None,
    }
}

fn correlator(bench: &mut Criterion) {
    let text = Rendered {
        labels: vec![("team".into(), "noc".into())],
        annotations: vec![("summary".into(), "core-1 Gi0/1 is down".into())],
    };
    let rule = Arc::new(RuleAction {
        rule: "link".into(),
        alert: "InterfaceDown".into(),
        key_names: Box::new(["source".into(), "ifIndex".into()]),
        deduplicate: Some(Duration::from_secs(300)),
        store_repeats: true,
        expire: Some(Duration::from_secs(3600)),
        flapping: None,
        notify: None,
        text: Box::new(Fixed(text)),
    });
    let routes = Routes::default();
    let mut core = Correlator::new(Limits::default(), Restored::default(), &[0]);
    let mut out = Vec::new();
    let now = Timestamp(1_000_000);
    for key in 0..OPEN {
        core.event(event(&rule, key, RAISE, now), now, &routes, &mut out);
        out.clear();
    }
    let mut next = 0_u32;
    let mut key = move || {
        next = next.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (next >> 8) % OPEN
    };

    bench.bench_function("correlator/repeat", |bencher| {
        bencher.iter_batched(
            || event(&rule, key(), RAISE, now),
            |event| {
                out.clear();
                core.event(black_box(event), now, &routes, &mut out);
            },
            BatchSize::SmallInput,
        );
    });
    bench.bench_function("correlator/open_and_clear", |bencher| {
        bencher.iter_batched(
            || (event(&rule, OPEN, RAISE, now), event(&rule, OPEN, EffectKind::Clear(ClearedBy::Trap), now)),
            |(raise, clear)| {
                out.clear();
                core.event(black_box(raise), now, &routes, &mut out);
                core.event(black_box(clear), now, &routes, &mut out);
            },
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, correlator);
criterion_main!(benches);
