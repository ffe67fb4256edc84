//! The writer as a whole: commands into its queue, until the last of them is on the disk and applied.
//!
//! Directories are made below `target/tmp`, so that the syncs are real ones.
//!
//! `cargo bench --bench journal -- scale` asks what grows: the newest 100 events of one source among 10 million (some
//! minutes, 3 GiB), and a start with a million open alerts.

#![allow(clippy::print_stderr, reason = "rates beside criterion's times")]

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use ipnet::IpNet;
use nereus::config::settings::StorageSettings;
use nereus::event::{
    AlertChange, AlertId, AlertRecord, AlertState, AlertText, Command, Decided, Effect, EffectKind, Event,
    EventId, Generation, Queue, Rendered, RuleAction, Timestamp, Version,
};
use nereus::metrics::Metrics;
use nereus::severity::Severity;
use nereus::store::{EventQuery, Store, spawn_writer};
use tokio::sync::watch;

const EVENTS: u64 = 200_000;

#[derive(Debug)]
struct NoText;

impl AlertText for NoText {
    fn render(&self, _: &Event, _: Severity) -> Rendered {
        Rendered::default()
    }

    fn constant_labels(&self) -> Option<Vec<(Arc<str>, String)>> {
        Some(Vec::new())
    }
}

/// What an event does.
#[derive(Debug, Clone, Copy)]
enum Does {
    /// It repeats one of 50,000 alerts.
    Repeats,
    /// It opens an alert.
    Opens,
}

fn command(number: u64, does: Does, rule: &Arc<RuleAction>) -> Command {
    let id = EventId(1_785_024_000_000_000 + number);
    let time = Timestamp(1_785_024_000_000_000 + i64::try_from(number).unwrap_or(0));
    let octets = u32::try_from(number % 5000).unwrap_or(0).to_be_bytes();
    let event = Event {
        time,
        generation: Generation(1),
        listener: 0,
        peer: ([10, 0, octets[2], octets[3]], 40000).into(),
        source: IpAddr::from([10, 0, octets[2], octets[3]]).into(),
        version: Version::V2c,
        community: None,
        trap_oid: "1.3.6.1.6.3.1.1.5.3".parse().expect("an OID"),
        trap_name: Some("IF-MIB::linkDown".into()),
        datagram: vec![0x5a; 157].into(),
        pdu: 17..157,
        effects: [Effect {
            rule: rule.clone(),
            kind: EffectKind::Raise(Severity::Major),
            key: "InterfaceDown".into(),
        }]
        .into_iter()
        .collect(),
        answer: None,
    };
    let (alert, changes) = match does {
        Does::Repeats => (AlertId(number % 50_000), Vec::new()),
        Does::Opens => {
            let record = AlertRecord {
                id: AlertId(number),
                change: number,
                alert: "InterfaceDown".into(),
                rule: "link".into(),
                severity: Severity::Major,
                state: AlertState::Firing,
                key: format!("InterfaceDown\u{1f}10.0.0.1\u{1f}{number}").into(),
                labels: vec![("source".into(), "10.0.0.1".into()), ("ifIndex".into(), number.to_string())],
                annotations: vec![("summary".into(), "interface is down".into())],
                count: 1,
                first_seen: time,
                last_seen: time,
                last_event: id,
                resolved_at: None,
                resolved_by: None,
                quiet_until: Some(time),
                expires_at: Some(time),
                notify: None,
                by_hand: None,
                muted: None,
                flap: None,
                origin: nereus::event::AlertOrigin::Rule,
            };
            (AlertId(number), vec![AlertChange { record: Arc::new(record), queue_for: Vec::new() }])
        }
    };
    Command::Event(Box::new(Decided { id, event, row: true, alert: Some(alert), changes }))
}

fn rule() -> Arc<RuleAction> {
    Arc::new(RuleAction {
        rule: "link".into(),
        alert: "InterfaceDown".into(),
        key_names: Box::new([]),
        deduplicate: None,
        store_repeats: true,
        expire: None,
        flapping: None,
        notify: None,
        text: Box::new(NoText),
    })
}

fn run(count: u64, does: Does) -> Duration {
    let rule = rule();
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let settings = StorageSettings { path: directory.path().join("data"), ..StorageSettings::default() };
    let metrics = Arc::new(Metrics::new());
    let store = Store::open(&settings, metrics.clone()).expect("a store").store;
    let queue = Arc::new(Queue::new(64 << 20));
    let thread = spawn_writer(store, queue.clone(), watch::channel(0).0, metrics.clone()).expect("a thread");
    let commands: Vec<_> = (1..=count).map(|number| command(number, does, &rule)).collect();
    let began = Instant::now();
    for command in commands {
        queue.push(command).expect("an open queue");
    }
    let (sender, receiver) = sync_channel(1);
    queue.push_control(Command::Flush(sender)).expect("an open queue");
    receiver.recv().expect("an answer");
    let took = began.elapsed();
    assert_eq!(metrics.events_stored.get(), count);
    let commits = metrics.storage_commit_seconds.get_sample_count();
    let mean = metrics.storage_commit_seconds.get_sample_sum() / commits.max(1) as f64;
    eprintln!(
        "{does:?}: {:.0} events/s, {commits} commits of {:.1} ms",
        count as f64 / took.as_secs_f64(),
        mean * 1e3
    );
    queue.push_control(Command::Stop).expect("an open queue");
    thread.join().expect("no panic");
    let began = Instant::now();
    let opened = Store::open(&settings, metrics).expect("a store");
    eprintln!("opened with {} open alerts in {:.2} s", opened.alerts.len(), began.elapsed().as_secs_f64());
    let began = Instant::now();
    let source = IpNet::from(IpAddr::from([10, 0, 0, 7]));
    let page = opened.store.reader().events(&EventQuery { source: Some(source), ..EventQuery::default() });
    let found = page.expect("a page").events.len();
    eprintln!(
        "{found} events of a source among {count} in the live file in {:.3} s",
        began.elapsed().as_secs_f64()
    );
    drop(opened);
    std::fs::remove_file(settings.path.join("state.db")).expect("the state");
    let began = Instant::now();
    Store::open(&settings, Arc::default()).expect("a store");
    eprintln!("the state made again from {count} events in {:.2} s", began.elapsed().as_secs_f64());
    took
}

fn journal(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("writer");
    group.sample_size(10).throughput(Throughput::Elements(EVENTS));
    for does in [Does::Repeats, Does::Opens] {
        group.bench_with_input(BenchmarkId::from_parameter(format!("{does:?}")), &does, |bencher, does| {
            bencher.iter_custom(|times| (0..times).map(|_| run(EVENTS, *does)).sum());
        });
    }
    group.finish();
}

/// Of 10 million events of 5,000 sources, some are a rare source's: 150 among the first, one among the last.
fn scale() {
    const RARE: [u8; 4] = [192, 0, 2, 1];
    let count = 10_000_000_u64;
    let rule = rule();
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    // The events say that they are of 2026: none is to go for its age.
    let retention = Duration::from_secs(100 * 366 * 86_400);
    let settings =
        |name: &str| StorageSettings { path: directory.path().join(name), retention, ..Default::default() };
    let filled = |settings: &StorageSettings, commands: &mut dyn Iterator<Item = Command>| {
        let metrics = Arc::new(Metrics::new());
        let store = Store::open(settings, metrics.clone()).expect("a store").store;
        let reader = store.reader();
        let queue = Arc::new(Queue::new(64 << 20));
        let thread = spawn_writer(store, queue.clone(), watch::channel(0).0, metrics).expect("a thread");
        commands.for_each(|command| queue.push(command).expect("an open queue"));
        let (sender, receiver) = sync_channel(1);
        queue.push_control(Command::Flush(sender)).expect("an open queue");
        receiver.recv().expect("an answer");
        (reader, queue, thread)
    };
    let many = settings("events");
    let began = Instant::now();
    let mut commands = (1..=count).map(|number| {
        let mut command = command(number, Does::Repeats, &rule);
        if let Command::Event(decided) = &mut command
            && (number % 1000 == 0 && number <= 150_000 || number == count - 1000)
        {
            decided.event.source = IpAddr::from(RARE).into();
        }
        command
    });
    let (reader, queue, thread) = filled(&many, &mut commands);
    eprintln!("{count} events in {:.0} s", began.elapsed().as_secs_f64());
    let ask = |what: &str, reader: &nereus::store::Reader| {
        for (name, source) in
            [("one of 5,000", [10, 0, 0, 7]), ("a rare one", RARE), ("one that never sent", [192, 0, 2, 2])]
        {
            let mut took: Vec<_> = (0..9)
                .map(|_| {
                    let source = Some(IpNet::from(IpAddr::from(source)));
                    let began = Instant::now();
                    let page =
                        reader.events(&EventQuery { source, ..EventQuery::default() }).expect("a page");
                    (began.elapsed(), page.events.len())
                })
                .collect();
            let first = took[0].0.as_secs_f64() * 1e3;
            took.sort_unstable();
            let (median, found) = (took[4].0.as_secs_f64() * 1e3, took[4].1);
            eprintln!("{what}: the newest {found} of {name}: {first:.1} ms at first, {median:.1} ms then");
        }
    };
    ask("while it runs", &reader);
    queue.push_control(Command::Stop).expect("an open queue");
    thread.join().expect("no panic");
    let began = Instant::now();
    let opened = Store::open(&many, Arc::default()).expect("a store");
    eprintln!("opened in {:.2} s", began.elapsed().as_secs_f64());
    ask("just after a start", &opened.store.reader());
    drop(opened);
    let open = settings("alerts");
    let (_, queue, thread) =
        filled(&open, &mut (1..=1_000_000).map(|number| command(number, Does::Opens, &rule)));
    queue.push_control(Command::Stop).expect("an open queue");
    thread.join().expect("no panic");
    let began = Instant::now();
    let opened = Store::open(&open, Arc::default()).expect("a store");
    let seconds = began.elapsed().as_secs_f64();
    eprintln!("opened with {} open alerts in {seconds:.2} s", opened.alerts.len());
}

criterion_group!(benches, journal);

fn main() {
    if std::env::args().any(|argument| argument == "scale") {
        return scale();
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}
