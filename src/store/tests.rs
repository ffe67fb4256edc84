//! The room as a whole: what is promised of a kill, damage, a full disk, and a second instance.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use proptest::prelude::*;
use smallvec::smallvec;
use tempfile::TempDir;
use tokio::sync::watch;

use super::*;
use crate::event::{
    AlertChange, AlertState, AlertText, Answer, Command, Decided, Delivered, Effect, EffectKind, Event,
    Generation, Queue, Rendered, RuleAction, Version,
};
use crate::severity::Severity;

type Answers = Arc<Mutex<Vec<(EventId, bool)>>>;

const SECOND: i64 = 1_000_000;
/// 2026-07-26T00:00:00Z.
const BASE: i64 = 1_785_024_000_000_000;

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

fn settings(directory: &Path) -> StorageSettings {
    StorageSettings { path: directory.join("data"), ..StorageSettings::default() }
}

fn open(settings: &StorageSettings) -> Opened {
    Store::open(settings, Arc::new(Metrics::new())).unwrap()
}

fn event(id: u64) -> Event {
    // About what a linkDown of a switch takes.
    let pdu = vec![0xa7; 140];
    let action = RuleAction {
        rule: "link".into(),
        alert: "InterfaceDown".into(),
        key_names: Box::new([]),
        deduplicate: None,
        expire: None,
        notify: None,
        text: Box::new(NoText),
    };
    Event {
        time: Timestamp(BASE + i64::try_from(id).unwrap() * SECOND),
        generation: Generation(3),
        listener: 0,
        peer: "192.0.2.1:40000".parse().unwrap(),
        source: "192.0.2.1".parse().unwrap(),
        version: Version::V2c,
        community: None,
        trap_oid: "1.3.6.1.6.3.1.1.5.3".parse().unwrap(),
        trap_name: Some("IF-MIB::linkDown".into()),
        datagram: [b"public".as_slice(), &pdu].concat().into(),
        pdu: 6..146,
        effects: smallvec![Effect {
            rule: Arc::new(action),
            kind: EffectKind::Raise(Severity::Major),
            key: "InterfaceDown".into(),
        }],
        answer: None,
    }
}

fn id_of(number: u64) -> EventId {
    EventId(u64::try_from(BASE).unwrap() + number * 1_000_000)
}

fn decided(number: u64, alert: Option<u64>, changes: Vec<AlertChange>) -> Command {
    let alert = alert.map(AlertId);
    Command::Event(Box::new(Decided { id: id_of(number), event: event(number), row: true, alert, changes }))
}

fn record(alert: u64, change: u64, state: AlertState, count: u64, number: u64) -> AlertRecord {
    let time = Timestamp(BASE + i64::try_from(number).unwrap() * SECOND);
    AlertRecord {
        id: AlertId(alert),
        change,
        alert: "InterfaceDown".into(),
        rule: "link".into(),
        severity: Severity::Major,
        state,
        key: format!("InterfaceDown\u{1f}192.0.2.1\u{1f}{alert}").into(),
        labels: vec![("source".into(), "192.0.2.1".into())],
        annotations: vec![("summary".into(), "down".into())],
        count,
        first_seen: time,
        last_seen: time,
        last_event: id_of(number),
        resolved_at: (state == AlertState::Resolved).then_some(time),
        resolved_by: (state == AlertState::Resolved).then(|| "trap".into()),
        quiet_until: None,
        expires_at: Some(time.after(Duration::from_secs(3600))),
        notify: None,
    }
}

fn change(record: AlertRecord, queue_for: &[&str]) -> AlertChange {
    AlertChange { record: Arc::new(record), queue_for: queue_for.iter().map(|name| (*name).into()).collect() }
}

fn raise(number: u64, alert: u64, number_of_change: u64) -> Command {
    let record = record(alert, number_of_change, AlertState::Firing, 1, number);
    decided(number, Some(alert), vec![change(record, &["hook"])])
}

/// Commits as the writer does, without its thread.
fn commit(store: &mut Store, commands: &[Command]) {
    let mut at = 0;
    while at < commands.len() {
        let appended = store.journal.append(&commands[at..], &[]).unwrap();
        let number = store.journal.file().number;
        store.state.apply(&commands[at..at + appended.taken], number, false, Timestamp(BASE)).unwrap();
        at += appended.taken;
    }
}

struct Running {
    queue: Arc<Queue<Command>>,
    applied: watch::Receiver<u64>,
    metrics: Arc<Metrics>,
    reader: Reader,
    stop: StopSignal,
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

impl Running {
    fn start(settings: &StorageSettings) -> Self {
        let metrics = Arc::new(Metrics::new());
        let store = Store::open(settings, metrics.clone()).unwrap().store;
        let queue = Arc::new(Queue::new(16 << 20));
        let (sender, applied) = watch::channel(0);
        let (reader, stop, shared) = (store.reader(), store.stop_signal(), store.shared.clone());
        let thread = spawn_writer(store, queue.clone(), sender, metrics.clone()).unwrap();
        Self { queue, applied, metrics, reader, stop, shared, thread }
    }

    fn push(&self, command: Command) {
        self.queue.push(command).unwrap();
    }

    fn flush(&self) {
        let (sender, receiver) = sync_channel(1);
        self.push(Command::Flush(sender));
        receiver.recv_timeout(Duration::from_secs(30)).unwrap();
    }

    fn stop(self) {
        self.queue.push_control(Command::Stop).unwrap();
        self.thread.join().unwrap();
    }
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::yield_now();
    }
}

/// Checks, when it is sent, that the event is in the file.
#[derive(Debug)]
struct Checked {
    id: EventId,
    reader: Reader,
    answers: Answers,
}

impl Answer for Checked {
    fn send(self: Box<Self>) {
        let there = self.reader.event(self.id).unwrap().is_some();
        self.answers.lock().push((self.id, there));
    }
}

fn inform(number: u64, reader: &Reader, answers: &Answers) -> Command {
    let mut command = decided(number, None, Vec::new());
    if let Command::Event(decided) = &mut command {
        let (reader, answers) = (reader.clone(), answers.clone());
        decided.event.answer = Some(Box::new(Checked { id: decided.id, reader, answers }));
    }
    command
}

fn everything(reader: &Reader) -> (Vec<AlertRecord>, Vec<(u64, AlertRecord)>) {
    let query = AlertQuery { open_only: false, limit: usize::MAX, ..AlertQuery::default() };
    let rows = reader.outbox("hook", 0, usize::MAX).unwrap();
    let rows = rows.into_iter().map(|row| (row.record.change, row.record)).collect();
    (reader.alerts(&query).unwrap(), rows)
}

fn named(directory: &Path, part: &str) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().contains(part))
        .collect();
    found.sort();
    found
}

/// Copies a directory as a kill would leave it: without SQLite's closing.
fn copy(from: &Path, to: &Path, only: &str) {
    fs::create_dir_all(to).unwrap();
    for path in named(from, only) {
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

fn codes(opened: &Opened) -> Vec<&'static str> {
    opened.notes.iter().map(|note| note.code).collect()
}

#[test]
fn informs_are_answered_after_their_commit_and_events_come_back_whole() {
    let directory = TempDir::new().unwrap();
    let running = Running::start(&settings(directory.path()));
    let answers: Answers = Arc::default();
    for number in 1..=50 {
        running.push(inform(number, &running.reader, &answers));
    }
    running.flush();
    let expected: Vec<_> = (1..=50).map(|number| (id_of(number), true)).collect();
    assert_eq!(*answers.lock(), expected);
    let found = running.reader.event(id_of(7)).unwrap().unwrap();
    let given = event(7);
    assert_eq!((found.time, found.source, found.peer), (given.time, given.source, given.peer));
    assert_eq!((found.version, &found.trap_oid), (given.version, &given.trap_oid));
    assert_eq!(found.pdu, given.pdu());
    assert_eq!(found.trap_name.as_deref(), Some("IF-MIB::linkDown"));
    assert_eq!((found.rule.as_deref(), found.alert.as_deref()), (Some("link"), Some("InterfaceDown")));
    assert_eq!((found.severity, found.alert_id), (Some(Severity::Major), None));
    assert_eq!(running.reader.event(id_of(51)).unwrap(), None);
    assert_eq!(running.metrics.events_stored.get(), 50);
    let data = running.shared.directory.clone();
    running.stop();
    for path in named(&data, "") {
        assert!(
            !fs::read(&path).unwrap().windows(6).any(|octets| octets == b"public"),
            "{path:?} holds the community"
        );
    }
}

#[test]
fn the_directory_is_private_and_refuses_a_second_instance() {
    use std::os::unix::fs::PermissionsExt;
    let directory = TempDir::new().unwrap();
    let settings = settings(directory.path());
    let first = open(&settings);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&settings.path), 0o700);
    for path in named(&settings.path, "") {
        assert_eq!(mode(&path), 0o600, "{path:?}");
    }
    let error = Store::open(&settings, Arc::new(Metrics::new())).unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Locked);
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    drop(first);
    assert!(open(&settings).alerts.is_empty());
}

#[test]
fn a_newer_format_is_refused_and_left_as_it_is() {
    let directory = TempDir::new().unwrap();
    let settings = settings(directory.path());
    drop(open(&settings));
    for part in ["state.db", "events-"] {
        let path = named(&settings.path, part).remove(0);
        let set = |version: i64| {
            let connection = rusqlite::Connection::open(&path).unwrap();
            connection.pragma_update(None, "user_version", version).unwrap();
        };
        set(2);
        let error = Store::open(&settings, Arc::new(Metrics::new())).unwrap_err();
        assert_eq!((error.kind, &error.place), (StoreErrorKind::Newer, &path), "{error}");
        set(1);
    }
    assert!(named(&settings.path, "damaged").is_empty());
    open(&settings);
}

#[test]
fn open_alerts_and_uncounted_repeats_survive_a_restart() {
    let directory = TempDir::new().unwrap();
    let settings = settings(directory.path());
    let running = Running::start(&settings);
    running.push(raise(1, 10, 1));
    running.push(raise(2, 11, 2));
    running.push(decided(3, Some(10), Vec::new()));
    running.push(decided(4, Some(10), Vec::new()));
    running.push(Command::Changes(vec![change(record(11, 3, AlertState::Resolved, 1, 2), &["hook"])]));
    running.flush();
    assert_eq!(*running.applied.borrow(), 3);
    running.stop();
    for _ in 0..2 {
        let opened = open(&settings);
        let [alert] = &opened.alerts[..] else { panic!("{:?}", opened.alerts) };
        assert_eq!((alert.id, alert.count, alert.last_event), (AlertId(10), 3, id_of(4)));
        assert_eq!(alert.last_seen, Timestamp(BASE + 4 * SECOND));
        assert_eq!(alert.expires_at, Some(alert.last_seen.after(Duration::from_secs(3600))));
        assert_eq!((opened.last_event, opened.last_alert, opened.last_change), (id_of(4), AlertId(11), 3));
        assert!(opened.notes.is_empty(), "{:?}", opened.notes);
    }
}

#[test]
fn counts_are_taken_over_and_repeats_behind_them_are_added_once() {
    let directory = TempDir::new().unwrap();
    let settings = settings(directory.path());
    let mut store = open(&settings).store;
    commit(
        &mut store,
        &[raise(1, 10, 1), decided(2, Some(10), Vec::new()), decided(3, Some(10), Vec::new())],
    );
    assert_eq!(store.state.position.counted, id_of(2).0 - 1);
    let seen = Timestamp(BASE + 3 * SECOND);
    commit(
        &mut store,
        &[Command::Counts(vec![(AlertId(10), 3, seen, id_of(3))]), decided(4, Some(10), Vec::new())],
    );
    assert_eq!(store.state.position.counted, id_of(4).0 - 1);
    drop(store);
    let opened = open(&settings);
    assert_eq!((opened.alerts[0].count, opened.alerts[0].last_event), (4, id_of(4)));
    assert_eq!(opened.store.state.position.counted, id_of(4).0);
}

#[test]
fn an_event_without_a_row_is_counted_answered_and_its_changes_are_kept() {
    let directory = TempDir::new().unwrap();
    let settings = settings(directory.path());
    let running = Running::start(&settings);
    running.push(raise(1, 10, 1));
    let mut repeat = decided(2, Some(10), vec![change(record(10, 2, AlertState::Firing, 2, 2), &[])]);
    if let Command::Event(decided) = &mut repeat {
        decided.row = false;
    }
    running.push(repeat);
    running.flush();
    assert_eq!((running.metrics.events_stored.get(), running.metrics.events_deduplicated.get()), (1, 1));
    assert_eq!(running.reader.event(id_of(2)).unwrap(), None);
    running.stop();
    fs::remove_file(settings.path.join("state.db")).unwrap();
    let opened = open(&settings);
    assert_eq!((opened.alerts[0].count, opened.alerts[0].change, opened.last_event), (2, 2, id_of(2)));
}

/// One step of a network, from small numbers.
#[derive(Debug, Clone)]
enum Step {
    Raise(u64),
    Repeat(u64),
    Acknowledge(u64),
    ResolveByTrap(u64),
    Expire(u64),
    Counts,
    Rotate,
    Serve,
    /// From here on the state file is lost.
    Save,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0u64..4).prop_map(Step::Raise),
        6 => (0u64..4).prop_map(Step::Repeat),
        1 => (0u64..4).prop_map(Step::Acknowledge),
        2 => (0u64..4).prop_map(Step::ResolveByTrap),
        2 => (0u64..4).prop_map(Step::Expire),
        1 => Just(Step::Counts),
        1 => Just(Step::Rotate),
        1 => Just(Step::Serve),
        1 => Just(Step::Save),
    ]
}

/// The correlator in small: open alerts by key, and the numbers it gives.
#[derive(Default)]
struct Model {
    open: std::collections::BTreeMap<u64, AlertRecord>,
    event: u64,
    alert: u64,
    change: u64,
}

impl Model {
    fn next(&mut self, key: u64, state: AlertState, event: Option<u64>) -> Option<AlertRecord> {
        let old = self.open.get(&key)?.clone();
        self.change += 1;
        let mut new = AlertRecord { change: self.change, state, ..old };
        if let Some(number) = event {
            let by = record(new.id.0, 0, state, 0, number);
            (new.last_seen, new.last_event, new.expires_at) = (by.last_seen, by.last_event, by.expires_at);
        }
        if state == AlertState::Resolved {
            new.resolved_at = Some(new.last_seen);
            self.open.remove(&key);
        } else {
            self.open.insert(key, new.clone());
        }
        Some(new)
    }

    fn commands(&mut self, step: &Step) -> Vec<Command> {
        self.event += 1;
        let number = self.event;
        let changed = |record: AlertRecord| vec![change(record, &["hook"])];
        match step {
            Step::Raise(key) if !self.open.contains_key(key) => {
                self.alert += 1;
                self.change += 1;
                let record = record(self.alert, self.change, AlertState::Firing, 1, number);
                self.open.insert(*key, record.clone());
                vec![decided(number, Some(self.alert), changed(record))]
            }
            Step::Raise(key) | Step::Repeat(key) => {
                let Some(alert) = self.open.get_mut(key) else {
                    return vec![decided(number, None, Vec::new())];
                };
                let by = record(alert.id.0, 0, alert.state, 0, number);
                alert.count += 1;
                (alert.last_seen, alert.last_event, alert.expires_at) =
                    (by.last_seen, by.last_event, by.expires_at);
                vec![decided(number, Some(alert.id.0), Vec::new())]
            }
            Step::Acknowledge(key) => self
                .next(*key, AlertState::Acknowledged, None)
                .map(changed)
                .map(Command::Changes)
                .into_iter()
                .collect(),
            Step::Expire(key) => self
                .next(*key, AlertState::Resolved, None)
                .map(changed)
                .map(Command::Changes)
                .into_iter()
                .collect(),
            Step::ResolveByTrap(key) => self
                .next(*key, AlertState::Resolved, Some(number))
                .map(|record| decided(number, Some(record.id.0), changed(record)))
                .into_iter()
                .collect(),
            Step::Counts => {
                let count = |alert: &AlertRecord| (alert.id, alert.count, alert.last_seen, alert.last_event);
                vec![Command::Counts(self.open.values().map(count).collect())]
            }
            Step::Rotate | Step::Serve | Step::Save => Vec::new(),
        }
    }
}

/// Runs the steps, and compares what a start makes of older states, or none, with what there was.
fn crash(steps: &[Step]) -> Result<(), TestCaseError> {
    let directory = TempDir::new().unwrap();
    let settings = settings(directory.path());
    let saved = directory.path().join("saved");
    let mut opened = open(&settings);
    let mut model = Model::default();
    let mut served = false;
    for step in steps {
        let commands = model.commands(step);
        commit(&mut opened.store, &commands);
        let store = &mut opened.store;
        match step {
            Step::Rotate => {
                let marks = store.state.marks().unwrap();
                store.journal.rotate(&store.shared, &marks, Timestamp(BASE)).unwrap();
            }
            Step::Serve => {
                let rows = store.reader().outbox("hook", 0, 2).unwrap();
                let rows = rows.iter().map(|row| row.row).collect();
                commit(store, &[Command::Delivered(Delivered::Rows(rows))]);
                store.journal.append(&[], &store.state.marks().unwrap()).unwrap();
                served = true;
            }
            Step::Save => {
                let _ = fs::remove_dir_all(&saved);
                copy(&settings.path, &saved, "state.db");
            }
            _ => {}
        }
    }
    let reader = opened.store.reader();
    // Repeats are on the alerts after a start; before it, the model knows them.
    let (_, outbox) = everything(&reader);
    let expected: Vec<AlertRecord> = model.open.values().cloned().collect();
    for lose_all in [false, true] {
        let crashed = StorageSettings {
            path: directory.path().join(format!("crashed-{lose_all}")),
            ..settings.clone()
        };
        copy(&settings.path, &crashed.path, "events-");
        if !lose_all && saved.exists() {
            copy(&saved, &crashed.path, "state.db");
        }
        for _ in 0..2 {
            let again = open(&crashed);
            let mut alerts = again.alerts;
            alerts.sort_by_key(|alert| alert.key.clone());
            let mut expected = expected.clone();
            expected.sort_by_key(|alert| alert.key.clone());
            prop_assert_eq!(&alerts, &expected);
            let (_, rows) = everything(&again.store.reader());
            // What was served after the state was saved, and not marked, may come again; nothing is missing.
            prop_assert!(outbox.iter().all(|row| rows.contains(row)));
            if !served || lose_all {
                prop_assert_eq!(&rows, &outbox);
            }
            prop_assert_eq!(again.last_change, model.change);
        }
    }
    Ok(())
}

#[test]
fn a_file_with_changes_alone_is_applied_too() {
    crash(&[Step::Raise(0), Step::Save, Step::Rotate, Step::Acknowledge(0), Step::Rotate]).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// However old the state is that a crash leaves, and if it leaves none: the journal makes it what it
    /// was, alerts and outbox alike.
    #[test]
    fn state_after_a_crash_equals_state_without_it(steps in prop::collection::vec(step(), 1..60)) {
        crash(&steps)?;
    }

    /// Whatever octets are overwritten: the store opens, says what it did, and answers.
    #[test]
    fn damage_is_contained(
        part in prop::sample::select(vec!["state.db", "events-00000001", "events-00000002"]),
        place in 0.0f64..1.0, octets in prop::collection::vec(any::<u8>(), 1..600), truncate in prop::bool::weighted(0.2)
    ) {
        let directory = TempDir::new().unwrap();
        let settings = settings(directory.path());
        let mut store = open(&settings).store;
        for first in [1, 201] {
            let commands: Vec<_> = (first..first + 200).map(|number| match number % 10 {
                0 => raise(number, number, number),
                _ => decided(number, Some(number / 10 * 10), Vec::new()),
            }).collect();
            commit(&mut store, &commands);
            store.journal.rotate(&store.shared, &[], Timestamp(BASE)).unwrap();
        }
        drop(store);
        let path = named(&settings.path, part).remove(0);
        let mut content = fs::read(&path).unwrap();
        let at = (place * content.len() as f64) as usize;
        if truncate {
            content.truncate(at);
        } else {
            let end = (at + octets.len()).min(content.len());
            content[at..end].copy_from_slice(&octets[..end - at]);
        }
        fs::write(&path, &content).unwrap();
        match Store::open(&settings, Arc::new(Metrics::new())) {
            Ok(opened) => {
                let reader = opened.store.reader();
                let page = reader.events(&EventQuery { limit: usize::MAX, ..EventQuery::default() }).unwrap();
                // The other file is whole.
                prop_assert!(page.events.len() >= 200, "{}", page.events.len());
                if part == "state.db" {
                    prop_assert_eq!(page.events.len(), 400);
                    if !named(&settings.path, "damaged").is_empty() {
                        prop_assert_eq!(opened.alerts.len(), 40);
                    }
                }
                everything(&reader);
                reader.counts().unwrap();
            }
            // A flipped bit can look like a newer version: refused, and nothing is touched.
            Err(error) => prop_assert_eq!(error.kind, StoreErrorKind::Newer, "{}", error),
        }
    }
}

#[test]
fn a_damaged_state_is_set_aside_and_made_again_without_telling_webhooks_twice() {
    let directory = TempDir::new().unwrap();
    let settings = settings(directory.path());
    let running = Running::start(&settings);
    for number in 1..=20 {
        running.push(raise(number, number, number));
    }
    running.push(Command::Changes(vec![change(record(20, 21, AlertState::Resolved, 1, 20), &["hook"])]));
    running.flush();
    let rows = running.reader.outbox("hook", 0, 15).unwrap();
    running.push(Command::Delivered(Delivered::Rows(rows.iter().map(|row| row.row).collect())));
    running.push(Command::Delivered(Delivered::UpTo { webhook: "manager".into(), change: 17 }));
    running.flush();
    running.stop();
    let path = settings.path.join("state.db");
    let mut content = fs::read(&path).unwrap();
    content[4096..].fill(0x5a);
    fs::write(&path, content).unwrap();
    let opened = open(&settings);
    assert!(codes(&opened).starts_with(&["storage-damaged"]), "{:?}", opened.notes);
    assert_eq!(named(&settings.path, "state.db.damaged-").len(), 1);
    assert_eq!(opened.alerts.len(), 19);
    assert_eq!(opened.last_change, 21);
    let reader = opened.store.reader();
    let waiting: Vec<_> =
        reader.outbox("hook", 0, 100).unwrap().iter().map(|row| row.record.change).collect();
    assert_eq!(waiting, [16, 17, 18, 19, 20, 21]);
    assert_eq!(reader.progress("manager").unwrap(), 17);
}

#[test]
fn a_state_damaged_in_use_is_made_again_and_nothing_is_lost() {
    let directory = TempDir::new().unwrap();
    let settings = settings(directory.path());
    let running = Running::start(&settings);
    for number in 1..=300 {
        running.push(raise(number, number, number));
    }
    running.flush();
    assert_eq!(running.reader.counts().unwrap().outbox, 300);
    let path = settings.path.join("state.db");
    let checkpoint = rusqlite::Connection::open(&path).unwrap();
    checkpoint.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(checkpoint);
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let length = file.metadata().unwrap().len();
    for page in 2..length / 4096 {
        std::os::unix::fs::FileExt::write_all_at(&file, &[0x5a; 4096], page * 4096).unwrap();
    }
    // Enough that pages are read that are in no cache.
    for number in 301..=320 {
        running.push(raise(number, number, number));
        running.push(Command::Counts(
            (1..=300).map(|alert| (AlertId(alert), 2, Timestamp(BASE), id_of(alert))).collect(),
        ));
        running.flush();
    }
    wait_for("the state to be replaced", || !named(&settings.path, "state.db.damaged-").is_empty());
    let (alerts, rows) = everything(&running.reader);
    assert_eq!((alerts.len(), rows.len()), (320, 320));
    running.stop();
    assert_eq!(open(&settings).alerts.len(), 320);
}

#[test]
fn a_damaged_journal_is_set_aside_and_what_can_be_read_of_it_goes_on() {
    let directory = TempDir::new().unwrap();
    let settings = settings(directory.path());
    let mut store = open(&settings).store;
    let commands: Vec<_> = (1..=1000).map(|number| decided(number, None, Vec::new())).collect();
    commit(&mut store, &commands);
    store.journal.rotate(&store.shared, &[], Timestamp(BASE)).unwrap();
    let commands: Vec<_> = (1001..=2000).map(|number| decided(number, None, Vec::new())).collect();
    commit(&mut store, &commands);
    drop(store);
    let path = named(&settings.path, "events-00000002").remove(0);
    let mut content = fs::read(&path).unwrap();
    let middle = content.len() / 2 / 4096 * 4096;
    content[middle..middle + 4096].fill(0xff);
    fs::write(&path, content).unwrap();
    let opened = open(&settings);
    assert_eq!(codes(&opened), ["storage-damaged", "storage-salvaged"], "{:?}", opened.notes);
    let aside = named(&settings.path, "damaged-")
        .into_iter()
        .filter(|path| !path.to_str().unwrap().contains("-wal") && !path.to_str().unwrap().contains("-shm"));
    assert_eq!(aside.count(), 1);
    let query = EventQuery { limit: 3000, ..EventQuery::default() };
    let events = opened.store.reader().events(&query).unwrap().events;
    // One page of about nineteen rows is lost.
    assert!((1970..2000).contains(&events.len()), "{}", events.len());
    assert_eq!((events[0].id, events.last().unwrap().id), (id_of(2000), id_of(1)));
    assert_eq!(opened.last_event, id_of(2000));
}

#[test]
fn a_full_disk_answers_nothing_loses_nothing_and_drains_by_itself() {
    let directory = TempDir::new().unwrap();
    let running = Running::start(&settings(directory.path()));
    running.push(decided(1, None, Vec::new()));
    running.flush();
    let answers: Answers = Arc::default();
    for (first, whose) in [(2, "the journal"), (5002, "the journal, again")] {
        running.shared.page_limit.store(10, Ordering::Relaxed);
        let errors = running.metrics.storage_errors.get();
        let before = answers.lock().len();
        for number in first..first + 5000 {
            running.push(inform(number, &running.reader, &answers));
        }
        wait_for(whose, || running.metrics.storage_errors.get() > errors + 2);
        // The file's few pages took a part at most; what was answered is there.
        let answered = answers.lock().len();
        assert!(answered < before + 1000, "{answered}");
        assert!(answers.lock().iter().all(|(_, there)| *there));
        running.shared.page_limit.store(0, Ordering::Relaxed);
        running.flush();
    }
    let expected: Vec<_> = (2..10_002).map(|number| (id_of(number), true)).collect();
    assert_eq!(*answers.lock(), expected);
    assert_eq!(running.metrics.events_stored.get(), 10_001);
    let page = running.reader.events(&EventQuery { limit: usize::MAX, ..EventQuery::default() }).unwrap();
    assert_eq!((page.events.len(), page.next), (10_001, None));
    running.stop();
}

#[test]
fn a_dead_disk_at_the_end_is_given_up_and_counted() {
    let directory = TempDir::new().unwrap();
    let running = Running::start(&settings(directory.path()));
    running.push(decided(1, None, Vec::new()));
    running.flush();
    running.shared.page_limit.store(1, Ordering::Relaxed);
    let answers: Answers = Arc::default();
    let reader = running.reader.clone();
    for number in 2..3002 {
        running.push(inform(number, &reader, &answers));
    }
    wait_for("the disk to refuse", || running.metrics.storage_errors.get() > 0);
    let metrics = running.metrics.clone();
    running.stop.set();
    running.stop();
    let lost = metrics.traps_dropped.with_label_values(&["stopped"]).get();
    assert_eq!(lost + metrics.events_stored.get(), 3001);
    assert!(lost > 0);
    assert_eq!(answers.lock().len() as u64, metrics.events_stored.get() - 1);
}

#[test]
fn what_comes_behind_a_stop_is_counted_and_the_queue_is_closed() {
    let directory = TempDir::new().unwrap();
    let running = Running::start(&settings(directory.path()));
    let mut batch = vec![decided(1, None, Vec::new()), Command::Stop, decided(2, None, Vec::new())];
    running.queue.offer(&mut batch);
    let Running { queue, metrics, reader, thread, .. } = running;
    thread.join().unwrap();
    assert!(queue.push(decided(3, None, Vec::new())).is_err());
    assert_eq!(
        (metrics.events_stored.get(), metrics.traps_dropped.with_label_values(&["stopped"]).get()),
        (1, 1)
    );
    assert!(reader.event(id_of(1)).unwrap().is_some());
    assert!(reader.event(id_of(2)).unwrap().is_none());
}

#[test]
fn queries_filter_and_page_over_all_files() {
    let directory = TempDir::new().unwrap();
    let settings = settings(directory.path());
    let mut store = open(&settings).store;
    for number in 1..=60 {
        let mut command = decided(number, Some(number % 3), Vec::new());
        if let Command::Event(decided) = &mut command {
            let last = u8::try_from(number % 5).unwrap();
            decided.event.source = if number % 10 == 9 {
                "2001:db8::1".parse().unwrap()
            } else {
                IpAddr::from([10, 0, last, 1])
            };
            if number % 4 == 0 {
                decided.event.trap_oid = "1.3.6.1.4.1.9.9.43.2.0.1".parse().unwrap();
                decided.event.effects[0].kind = EffectKind::Raise(Severity::Info);
            }
            if number % 6 == 0 {
                decided.event.effects.clear();
            }
        }
        commit(&mut store, &[command]);
        if number % 20 == 0 {
            store.journal.rotate(&store.shared, &[], Timestamp(BASE)).unwrap();
        }
    }
    let reader = store.reader();
    let numbers = |query: EventQuery| -> Vec<u64> {
        let page = reader.events(&query).unwrap();
        assert_eq!(page.damaged, 0);
        page.events.iter().map(|event| (event.id.0 - u64::try_from(BASE).unwrap()) / 1_000_000).collect()
    };
    let expected = |keep: fn(&u64) -> bool| -> Vec<u64> { (1..=60).rev().filter(keep).collect() };
    let all = EventQuery { limit: 1000, ..EventQuery::default() };
    assert_eq!(numbers(all.clone()), expected(|_| true));
    assert_eq!(
        numbers(EventQuery { source: Some("10.0.2.1/32".parse().unwrap()), ..all.clone() }),
        expected(|n| n % 5 == 2)
    );
    assert_eq!(
        numbers(EventQuery { source: Some("10.0.2.0/23".parse().unwrap()), ..all.clone() }),
        expected(|n| n % 10 != 9 && (2..=3).contains(&(n % 5)))
    );
    assert_eq!(
        numbers(EventQuery { source: Some("2001:db8::/32".parse().unwrap()), ..all.clone() }),
        expected(|n| n % 10 == 9)
    );
    assert_eq!(
        numbers(EventQuery { trap: Some("1.3.6.1.4.1.9".parse().unwrap()), ..all.clone() }),
        expected(|n| n % 4 == 0)
    );
    assert_eq!(numbers(EventQuery { trap: Some("1".parse().unwrap()), ..all.clone() }).len(), 60);
    assert_eq!(numbers(EventQuery { trap: Some("2".parse().unwrap()), ..all.clone() }).len(), 0);
    assert_eq!(
        numbers(EventQuery { severity: Some(Severity::Info), ..all.clone() }),
        expected(|n| n % 4 == 0 && n % 6 != 0)
    );
    assert_eq!(numbers(EventQuery { rule: Some("link".into()), ..all.clone() }), expected(|n| n % 6 != 0));
    assert_eq!(numbers(EventQuery { rule: Some("none".into()), ..all.clone() }).len(), 0);
    assert_eq!(numbers(EventQuery { alert: Some(AlertId(2)), ..all.clone() }), expected(|n| n % 3 == 2));
    let span = EventQuery {
        since: Some(Timestamp(BASE + 15 * SECOND)),
        until: Some(Timestamp(BASE + 25 * SECOND)),
        ..all.clone()
    };
    assert_eq!(numbers(span.clone()), expected(|n| (15..=25).contains(n)));
    // Pages meet without a gap, whatever the page's size.
    for limit in 1..25 {
        let (mut seen, mut before) = (Vec::new(), None);
        loop {
            let page = reader
                .events(&EventQuery { limit, before, severity: Some(Severity::Major), ..all.clone() })
                .unwrap();
            seen.extend(page.events.iter().map(|event| event.id));
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        let expected: Vec<_> = expected(|n| n % 4 != 0 && n % 6 != 0).into_iter().map(id_of).collect();
        assert_eq!(seen, expected, "pages of {limit}");
    }
    // The same after the closed files were indexed.
    for file in store.shared.journals().iter().take(3) {
        journal::index(&file.path).unwrap();
    }
    let reader = store.reader();
    let found = reader.events(&EventQuery { source: Some("10.0.2.1/32".parse().unwrap()), ..all }).unwrap();
    assert_eq!(found.events.len(), 12);
}

#[test]
fn a_long_walk_gives_what_it_has_and_a_place_to_go_on() {
    let directory = TempDir::new().unwrap();
    let mut store = open(&settings(directory.path())).store;
    let commands: Vec<_> = (1..=45_000).map(|number| decided(number, None, Vec::new())).collect();
    commit(&mut store, &commands);
    let reader = store.reader();
    let rare =
        EventQuery { severity: Some(Severity::Critical), patience: Duration::ZERO, ..EventQuery::default() };
    let (mut calls, mut before) = (0, None);
    loop {
        let page = reader.events(&EventQuery { before, ..rare.clone() }).unwrap();
        assert!(page.events.is_empty());
        calls += 1;
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(calls, 3, "windows of 20,000 rows");
}

#[test]
fn a_linkdown_takes_less_than_300_octets() {
    let directory = TempDir::new().unwrap();
    let mut store = open(&settings(directory.path())).store;
    let commands: Vec<_> =
        (1..=20_000).map(|number| decided(number, Some(number % 100), Vec::new())).collect();
    commit(&mut store, &commands);
    files::checkpoint(store.journal.connection()).unwrap();
    let size = fs::metadata(&store.journal.file().path).unwrap().len();
    let row = size / 20_000;
    assert!(row <= 300, "a row takes {row} octets");
}

#[test]
fn the_outbox_keeps_order_tries_again_and_parks_the_dead() {
    let directory = TempDir::new().unwrap();
    let settings = settings(directory.path());
    let metrics = Arc::new(Metrics::new());
    let mut store = Store::open(&settings, metrics.clone()).unwrap().store;
    commit(&mut store, &[raise(1, 1, 1), raise(2, 2, 2), raise(3, 3, 3)]);
    let reader = store.reader();
    let rows = reader.outbox("hook", 0, 10).unwrap();
    assert_eq!(
        rows.iter().map(|row| (row.record.change, row.attempts)).collect::<Vec<_>>(),
        [(1, 0), (2, 0), (3, 0)]
    );
    assert_eq!(reader.outbox_depth("hook").unwrap(), (3, Some(Timestamp(BASE))));
    assert_eq!(reader.outbox_depth("other").unwrap(), (0, None));
    let retry = Delivered::Retry { rows: vec![(rows[0].row, 4, Timestamp(500))] };
    let dead = Delivered::Dead {
        webhook: "hook".into(),
        row: Some(rows[1].row),
        record: Box::new(rows[1].record.clone()),
        reason: "400 Bad Request".into(),
    };
    commit(&mut store, &[Command::Delivered(retry), Command::Delivered(dead)]);
    let left: Vec<_> = reader.outbox("hook", 0, 10).unwrap();
    assert_eq!(
        left.iter().map(|row| (row.row, row.attempts, row.not_before)).collect::<Vec<_>>(),
        [(rows[0].row, 4, Timestamp(500)), (rows[2].row, 0, left[1].not_before)],
        "a failed row keeps its place before those behind it"
    );
    let due: Vec<_> = reader.outbox("hook", rows[0].row, 10).unwrap().iter().map(|row| row.row).collect();
    assert_eq!(due, [rows[2].row]);
    commit(&mut store, &[Command::Delivered(Delivered::Rows(due))]);
    let left = reader.outbox("hook", 0, 10).unwrap();
    assert_eq!((left.len(), left[0].attempts, left[0].not_before), (1, 4, Timestamp(500)));
    let letters = reader.dead_letters(Some("hook"), None, 10).unwrap();
    assert_eq!((letters.len(), &*letters[0].reason, letters[0].record.change), (1, "400 Bad Request", 2));
    assert!(reader.dead_letters(Some("other"), None, 10).unwrap().is_empty());
    // A row's number is never given again, so that a late word about it harms none.
    commit(&mut store, &[Command::Delivered(Delivered::Rows(vec![rows[0].row])), raise(4, 4, 4)]);
    assert!(reader.outbox("hook", 0, 10).unwrap()[0].row > rows[2].row);
    show_dead_letters(&store.state, &metrics);
    assert_eq!(metrics.dead_letters.with_label_values(&["hook"]).get(), 1);
}

#[test]
fn alerts_are_listed_by_change_and_for_resending() {
    let directory = TempDir::new().unwrap();
    let mut store = open(&settings(directory.path())).store;
    commit(&mut store, &(1..=6).map(|number| raise(number, number, number)).collect::<Vec<_>>());
    let resolved = |alert, number_of_change, at| {
        change(record(alert, number_of_change, AlertState::Resolved, 1, at), &[])
    };
    commit(&mut store, &[Command::Changes(vec![resolved(2, 7, 100), resolved(4, 8, 200)])]);
    let reader = store.reader();
    let changes = |records: Vec<AlertRecord>| records.iter().map(|alert| alert.change).collect::<Vec<_>>();
    assert_eq!(changes(reader.alerts_changed_after(3, 3).unwrap()), [5, 6, 7]);
    assert_eq!(changes(reader.alerts_changed_after(7, 10).unwrap()), [8]);
    let since = Timestamp(BASE + 150 * SECOND);
    assert_eq!(changes(reader.alerts_to_resend(since, AlertId(0), 3).unwrap()), [1, 3, 8]);
    assert_eq!(changes(reader.alerts_to_resend(since, AlertId(4), 3).unwrap()), [5, 6]);
    assert_eq!(reader.alerts(&AlertQuery::default()).unwrap().len(), 4);
    let paged = AlertQuery { before: Some(AlertId(5)), limit: 1, ..AlertQuery::default() };
    assert_eq!(reader.alerts(&paged).unwrap()[0].id, AlertId(3));
    assert_eq!(reader.alert(AlertId(4)).unwrap().unwrap().state, AlertState::Resolved);
    assert_eq!(reader.alert(AlertId(9)).unwrap(), None);
    assert_eq!(reader.counts().unwrap().open_alerts, [0, 0, 0, 4, 0]);
}

#[test]
fn retention_unlinks_whole_files_and_carries_open_alerts_on() {
    let directory = TempDir::new().unwrap();
    let settings = settings(directory.path());
    let mut store = open(&settings).store;
    commit(&mut store, &[raise(1, 1, 1), raise(2, 2, 2)]);
    store.journal.rotate(&store.shared, &[], Timestamp(BASE)).unwrap();
    commit(&mut store, &[raise(3, 3, 3)]);
    let ended = change(record(2, 4, AlertState::Resolved, 1, 3), &[]);
    commit(&mut store, &[Command::Changes(vec![ended])]);
    store.journal.rotate(&store.shared, &[], Timestamp(BASE)).unwrap();
    commit(&mut store, &[decided(100, None, Vec::new())]);
    let mut run = |settings: &StorageSettings, now: i64| {
        retention::run(
            &store.shared,
            settings,
            &mut store.journal,
            &store.state,
            Timestamp(BASE + now * SECOND),
        )
        .unwrap()
    };
    let short = StorageSettings { retention: Duration::from_secs(50), ..settings.clone() };
    assert_eq!(run(&short, 40), retention::Retained::default());
    assert_eq!(run(&short, 52).unlinked, 0, "the newest event of the oldest file is 50 s old");
    assert_eq!(run(&short, 53), retention::Retained { unlinked: 1, carried: 1, too_large: false });
    let small = StorageSettings { max_size: 1, ..settings.clone() };
    assert_eq!(run(&small, 60), retention::Retained { unlinked: 1, carried: 1, too_large: true });
    let reader = store.reader();
    assert_eq!(reader.events(&EventQuery::default()).unwrap().events.len(), 1);
    // The journal alone still makes the alerts, though the files are gone that raised them.
    drop(store);
    fs::remove_file(settings.path.join("state.db")).unwrap();
    let opened = open(&settings);
    assert_eq!(opened.alerts.iter().map(|alert| alert.id.0).collect::<Vec<_>>(), [1, 3]);
    assert!(codes(&opened).contains(&"storage-rebuilt"));
    // Ended alerts and undelivered rows go by age.
    let mut state = opened.store.state;
    let ended = change(record(3, 5, AlertState::Resolved, 1, 4), &["hook"]);
    state.apply(&[Command::Changes(vec![ended])], 3, false, Timestamp(BASE)).unwrap();
    let now = Timestamp(BASE + 100 * SECOND);
    while state.prune(Timestamp(BASE + 10 * SECOND), now).unwrap().any() {}
    let reader = Reader::new(opened.store.shared);
    let (alerts, rows) = everything(&reader);
    assert_eq!((alerts.len(), rows.len()), (1, 0));
    assert_eq!(reader.dead_letters(None, None, 10).unwrap()[0].record.id, AlertId(3));
}

#[test]
fn a_day_and_a_size_begin_another_file() {
    let directory = TempDir::new().unwrap();
    let mut store = open(&settings(directory.path())).store;
    let now = Timestamp::now();
    let tomorrow = now.after(Duration::from_secs(86_400));
    assert!(!store.journal.is_due(now, 1 << 20));
    assert!(!store.journal.is_due(tomorrow, 1 << 20), "an empty file takes the day of its first event");
    commit(&mut store, &[decided(1, None, Vec::new())]);
    assert!(store.journal.is_due(now, 1 << 20), "and any other day, were it an earlier one, ends it");
    assert!(!store.journal.is_due(tomorrow, 1 << 20));
    assert!(store.journal.is_due(tomorrow, 100));
}

#[test]
fn a_number_that_comes_twice_keeps_the_first_row() {
    let directory = TempDir::new().unwrap();
    let mut store = open(&settings(directory.path())).store;
    commit(&mut store, &[decided(1, None, Vec::new())]);
    let appended = store.journal.append(&[decided(1, Some(4), Vec::new())], &[]).unwrap();
    assert_eq!((appended.taken, appended.stored, appended.known), (1, 0, 1));
    assert_eq!(store.reader().event(id_of(1)).unwrap().unwrap().alert_id, None);
}

/// The child of the test below: answers are lines, each after the sync.
#[test]
#[ignore = "run by the test that kills it"]
fn writes_until_it_is_killed() {
    #[derive(Debug)]
    struct Line(EventId);

    impl Answer for Line {
        fn send(self: Box<Self>) {
            use std::io::Write;
            let _ = writeln!(std::io::stdout().lock(), "answered {}", self.0);
        }
    }

    let Some(directory) = std::env::var_os("NEREUS_TEST_KILLED") else { return };
    let settings = settings(Path::new(&directory));
    let first = (open(&settings).last_event.0.saturating_sub(id_of(0).0)) / 1_000_000;
    let running = Running::start(&settings);
    for number in first + 1.. {
        let mut command =
            if number % 3 == 0 { raise(number, number, number) } else { decided(number, None, Vec::new()) };
        if let Command::Event(decided) = &mut command {
            decided.event.answer = Some(Box::new(Line(decided.id)));
        }
        running.push(command);
    }
}

#[test]
fn what_was_answered_is_there_after_kill_9() {
    use std::io::BufRead;
    let directory = TempDir::new().unwrap();
    let mut answered = Vec::new();
    for round in 1..=6u64 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["store::tests::writes_until_it_is_killed", "--exact", "--ignored", "--nocapture"])
            .env("NEREUS_TEST_KILLED", directory.path())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        let mut left = 150 * round * round;
        for line in lines.by_ref() {
            // Anything else is the test harness, which may share a line with the first answer.
            if let Some((_, id)) = line.unwrap().split_once("answered ") {
                answered.push(EventId(id.parse().unwrap()));
                left -= 1;
                if left == 0 {
                    child.kill().unwrap();
                }
                if left == 0 {
                    break;
                }
            }
        }
        assert_eq!(left, 0, "the child ended by itself");
        for line in lines {
            // The last line may be cut.
            let line = line.unwrap();
            let whole = line.strip_prefix("answered ").filter(|id| id.len() == id_of(1).to_string().len());
            answered.extend(whole.map(|id| EventId(id.parse().unwrap())));
        }
        child.wait().unwrap();
        let opened = open(&settings(directory.path()));
        let reader = opened.store.reader();
        let query = EventQuery { limit: usize::MAX, ..EventQuery::default() };
        let stored: std::collections::HashSet<_> =
            reader.events(&query).unwrap().events.into_iter().map(|event| event.id).collect();
        assert!(answered.iter().all(|id| stored.contains(id)), "an answered event is missing");
        assert!(named(&directory.path().join("data"), "damaged").is_empty());
        // Whatever the moment of the kill: each third event has its alert and its outbox row, once.
        let raised = stored.iter().filter(|id| ((id.0 - id_of(0).0) / 1_000_000).is_multiple_of(3)).count();
        let (alerts, rows) = everything(&reader);
        assert_eq!((alerts.len(), rows.len()), (raised, raised));
    }
    assert!(answered.len() > 10_000);
}

#[test]
fn the_journal_syncs_every_commit_and_the_state_none() {
    let directory = TempDir::new().unwrap();
    let store = open(&settings(directory.path())).store;
    let pragma = |connection: &rusqlite::Connection, name: &str| -> String {
        connection
            .query_row(&format!("SELECT * FROM pragma_{name}"), [], |row| {
                row.get::<_, rusqlite::types::Value>(0)
            })
            .map(|value| format!("{value:?}"))
            .unwrap()
    };
    assert_eq!(pragma(store.journal.connection(), "synchronous"), "Integer(2)");
    assert_eq!(pragma(&store.state.connection, "synchronous"), "Integer(1)");
    for connection in [store.journal.connection(), &store.state.connection] {
        assert_eq!(pragma(connection, "journal_mode"), "Text(\"wal\")");
    }
}
