//! The loop around the core, with real queues.

use std::sync::atomic::AtomicI64;

use super::*;
use crate::metrics::Metrics;

const MANY: usize = 64 << 20;

fn raise(rule: &Arc<RuleAction>, key: u32) -> Handed {
    Handed::Event(event(seconds(1), 0, [effect(rule, key, EffectKind::Raise(Severity::Major))]))
}

fn clear(rule: &Arc<RuleAction>, key: u32) -> Handed {
    Handed::Event(event(seconds(1), 0, [effect(rule, key, EffectKind::Clear(ClearedBy::Trap))]))
}

#[test]
fn everything_handed_over_reaches_the_writer_and_is_counted() {
    let (handoff, writer) = (Queue::new(MANY), Queue::new(4096));
    let (metrics, rule) = (Metrics::new(), rule("link", Some(60), None, &Arc::default()));
    let clock = || seconds(1);
    let (disk, ended) = std::thread::scope(|scope| {
        let store = scope.spawn(|| {
            let (mut disk, mut batch) = (Disk::default(), Vec::new());
            while writer.take_all(&mut batch, Duration::from_secs(5)) {
                batch.drain(..).for_each(|command| disk.apply(&command));
            }
            disk
        });
        let correlator = scope.spawn(|| {
            let limits = Limits { open_alerts: 900, ..Limits::default() };
            let correlator = Correlator::new(limits, Restored::default(), &[0]);
            let routes = Arc::new(routes());
            let ended = run(correlator, &handoff, &writer, || Arc::clone(&routes), clock, &metrics);
            writer.close();
            ended
        });
        handoff.push(Handed::Generation { receiver: 0, generation: Generation(1) }).unwrap();
        for round in 0..3 {
            for key in 0..1_000 {
                handoff.push(raise(&rule, key)).unwrap();
            }
            if round == 1 {
                (0..10).for_each(|key| handoff.push(clear(&rule, key)).unwrap());
            }
        }
        handoff.close();
        (store.join().unwrap(), correlator.join().unwrap())
    });
    assert_eq!(ended, Ended::Drained);
    assert_eq!(disk.events, 3_010);
    assert_eq!(disk.open().len(), 900);
    let untouched = disk.open().iter().filter(|record| record.count == 3).count();
    assert_eq!(untouched, 890, "the counts came along at the end");
    assert_eq!(metrics.alerts_fired.get(), 910);
    assert_eq!(metrics.alerts_refused.get(), 300);
    let text = metrics.render().unwrap();
    for line in [
        "nereus_alerts_open{severity=\"major\"} 900",
        "nereus_alerts_open{severity=\"critical\"} 0",
        "nereus_alerts_resolved_total{how=\"trap\"} 10",
        "nereus_alerts_resolved_total{how=\"expire\"} 0",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn time_alone_ends_an_alert() {
    let (handoff, writer) = (Queue::new(MANY), Queue::new(MANY));
    let (metrics, rule) = (Metrics::new(), rule("link", Some(60), Some(10), &Arc::default()));
    let clock = AtomicI64::new(SECOND);
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let correlator = Correlator::new(Limits::default(), Restored::default(), &[]);
            let routes = Arc::new(routes());
            let now = || Timestamp(clock.load(Ordering::Relaxed));
            run(correlator, &handoff, &writer, || Arc::clone(&routes), now, &metrics)
        });
        handoff.push(raise(&rule, 1)).unwrap();
        let (mut disk, mut batch) = (Disk::default(), Vec::new());
        while disk.alerts.values().all(|record| record.state != AlertState::Resolved) {
            writer.take_all(&mut batch, Duration::from_secs(5));
            for command in batch.drain(..) {
                disk.apply(&command);
            }
            if disk.events == 1 {
                clock.store(11 * SECOND, Ordering::Relaxed);
            }
        }
        handoff.close();
        assert_eq!(thread.join().unwrap(), Ended::Drained);
    });
}

#[test]
fn a_closed_writer_ends_the_thread_and_the_lost_are_counted() {
    let (handoff, writer) = (Queue::new(MANY), Queue::new(MANY));
    let (metrics, rule) = (Metrics::new(), rule("link", None, None, &Arc::default()));
    (0..700).for_each(|key| handoff.push(raise(&rule, key)).unwrap());
    writer.close();
    let correlator = Correlator::new(Limits::default(), Restored::default(), &[]);
    let routes = Arc::new(routes());
    let ended = run(correlator, &handoff, &writer, || Arc::clone(&routes), || seconds(1), &metrics);
    assert_eq!(ended, Ended::WriterClosed { lost: 700 });
    assert!(handoff.push(raise(&rule, 1)).is_err(), "receivers see a closed handoff");
    let text = metrics.render().unwrap();
    assert!(text.contains("nereus_traps_dropped_total{reason=\"stopped\"} 700"), "{text}");
}

#[test]
fn a_reload_takes_effect_once_the_last_receiver_has_read_it() {
    let (handoff, writer) = (Queue::new(MANY), Queue::new(MANY));
    let (metrics, rule) = (Metrics::new(), rule("link", Some(60), None, &Arc::default()));
    let change = RuleChange { rule: "link".into(), key_names: None, same_labels: false, successor: None };
    let changes = RuleChanges { generation: Generation(2), clear_windows: false, rules: vec![change] };
    handoff.push(raise(&rule, 1)).unwrap();
    handoff.push(Handed::Reloaded(Arc::new(changes))).unwrap();
    handoff.push(Handed::Generation { receiver: 0, generation: Generation(2) }).unwrap();
    handoff.push(raise(&rule, 2)).unwrap();
    handoff.push(Handed::Left { receiver: 1 }).unwrap();
    handoff.close();
    let correlator = Correlator::new(Limits::default(), Restored::default(), &[0, 1]);
    let routes = Arc::new(routes());
    let ended = run(correlator, &handoff, &writer, || Arc::clone(&routes), || seconds(1), &metrics);
    assert_eq!(ended, Ended::Drained);
    let (mut disk, mut batch) = (Disk::default(), Vec::new());
    writer.close();
    writer.take_all(&mut batch, Duration::ZERO);
    batch.iter().for_each(|command| disk.apply(command));
    assert_eq!((disk.events, disk.open().len()), (2, 0), "also what a late event has opened");
    let text = metrics.render().unwrap();
    assert!(text.contains("nereus_alerts_resolved_total{how=\"reload\"} 2"), "{text}");
}
