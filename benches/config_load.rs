//! From a configuration's text to a Candidate: 1,000 rules, one of them changed since the Snapshot before.

use std::fmt::Write;
use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use nereus::config::{Loaded, System, parse};
use nereus::mib::Mib;
use nereus::snapshot::{Publisher, build};

const RULES: usize = 1_000;

/// Rules as operators write them: templates, a condition with a regular expression, a clear. `edited` is the
/// first rule's severity, so that two texts differ in one rule.
fn configuration(edited: &str) -> String {
    let mut text = String::from(
        "webhooks:\n  - {name: am, url: http://127.0.0.1:9093/api/v2/alerts, format: alertmanager}\nrules:\n",
    );
    for rule in 0..RULES {
        let severity = if rule == 0 { edited } else { "major" };
        let _ = write!(
            text,
            "  - name: rule-{rule}
    match:
      trap: 1.3.6.1.4.1.{}.2.0.{rule}
      source: [10.{}.0.0/16]
      when: {{ifAdminStatus: up, ifDescr: {{matches: \"^(Gi|Te){rule}/\"}}}}
    alert: Alert{rule}
    severity: {severity}
    key: [source, ifIndex]
    cleared_by: IF-MIB::linkUp
    deduplicate: 5m
    labels: {{team: noc, rack: \"{{{{ ifAlias }}}}-{rule}\"}}
    annotations: {{summary: \"{{{{ source }}}} {{{{ ifDescr }}}} is down ({rule})\"}}
    notify: [am]
",
            9 + rule,
            rule % 256
        );
    }
    text
}

fn read(text: &str) -> Loaded {
    parse("bench.yaml", text.as_bytes(), &System).unwrap_or_else(|problems| panic!("{problems}"))
}

fn load(c: &mut Criterion) {
    let (before, after) = (configuration("major"), configuration("minor"));
    let mib = Mib::builtin();
    let mut group = c.benchmark_group("config_load");
    group.sample_size(20);
    group.bench_function("first start", |b| {
        b.iter(|| build(read(&before).settings, mib.clone(), None).expect("valid"));
    });
    let first = build(read(&before).settings, mib.clone(), None).expect("valid");
    let publisher = Publisher::new(first, 1).expect("a thread");
    let current = publisher.current();
    group.bench_function("parse", |b| b.iter(|| black_box(read(&after))));
    group.bench_function("one rule of 1,000 changed", |b| {
        b.iter(|| build(read(&after).settings, mib.clone(), Some(current)).expect("valid"));
    });
    group.bench_function("nothing changed", |b| {
        b.iter(|| {
            let candidate = build(read(&before).settings, mib.clone(), Some(current)).expect("valid");
            assert!(candidate.is(current));
        });
    });
    let settings = read(&after).settings;
    group.bench_function("build alone", |b| {
        b.iter_batched(
            || settings.clone(),
            |settings| build(settings, mib.clone(), Some(current)).expect("valid"),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, load);
criterion_main!(benches);
