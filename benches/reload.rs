//! A reload from its request to its outcome, as whoever asks for it waits: reading and hashing the file,
//! decoding, building, rehearsal, publication, commit. A thousand rules, no MIB tree, no samples.

#[path = "../tests/common/bed.rs"]
mod bed;

use std::hint::black_box;
use std::time::{Duration, Instant};

use bed::Bed;
use criterion::{Criterion, criterion_group, criterion_main};
use nereus::reload::{ReloadOutcome, ReloadType};

/// The configuration, with one rule and one webhook that `variant` changes.
fn configuration(rule: usize, webhook: usize) -> String {
    let mut text = String::from("reload: {enabled: false}\nrules:\n");
    for number in 0..1000 {
        let count = if number == 500 { rule } else { 0 };
        text += &format!(
            "  - name: rule-{number}\n    match: {{trap: '1.3.6.1.4.1.9.9.{number}.0.1', when: {{ifIndex: {{above: {count}}}}}}}\n    \
             alert: Alert{number}\n    severity: major\n    key: [source, ifIndex]\n    labels: {{team: noc}}\n    \
             annotations: {{summary: '{{{{ source }}}} {{{{ ifIndex }}}} is down'}}\n"
        );
    }
    text + &format!(
        "webhooks:\n  - {{name: w, format: json, url: 'http://127.0.0.1:9/', timeout: {}s}}\n",
        webhook + 1
    )
}

fn measure(c: &mut Criterion, name: &str, kind: ReloadType, texts: [String; 2], expected: ReloadOutcome) {
    let bed = Bed::start(&texts[0]);
    let mut turn = 0;
    c.bench_function(name, |bencher| {
        bencher.iter_custom(|times| {
            let mut sum = Duration::ZERO;
            for _ in 0..times {
                turn += 1;
                bed.configure(&texts[turn % 2]);
                let begun = Instant::now();
                let event = black_box(bed.reload(kind));
                sum += begun.elapsed();
                assert_eq!(event.outcome, expected, "{event:?}");
            }
            sum
        });
    });
}

fn reload(c: &mut Criterion) {
    use ReloadOutcome::{Published, Unchanged};
    measure(c, "reload/webhook", ReloadType::Webhook, [configuration(1, 1), configuration(1, 2)], Published);
    measure(
        c,
        "reload/config_1_of_1000",
        ReloadType::Config,
        [configuration(1, 1), configuration(2, 1)],
        Published,
    );
    measure(
        c,
        "reload/all_unchanged",
        ReloadType::All,
        [configuration(1, 1), configuration(1, 1)],
        Unchanged,
    );
}

criterion_group!(benches, reload);
criterion_main!(benches);
