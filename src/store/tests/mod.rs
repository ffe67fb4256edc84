//! The room as a whole. Here: what its tests share, and restarts; beside: crashes and damage, a full
//! disk and a kill, reading, files of earlier versions.

mod crash;
mod disk;
mod live;
mod old;
mod reading;

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
    AlertChange, AlertOrigin, AlertState, AlertText, Answer, Command, Decided, Delivered, Effect, EffectKind,
    Event, Generation, Queue, Rendered, RuleAction, Version,
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
        store_repeats: true,
        expire: None,
        flapping: None,
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
        by_hand: None,
        muted: None,
        flap: None,
        origin: AlertOrigin::Rule,
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
    assert_eq!((found.time, &found.source, found.peer), (given.time, &given.source, given.peer));
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
        let connection = rusqlite::Connection::open(&path).unwrap();
        let known: i64 = connection.pragma_query_value(None, "user_version", |found| found.get(0)).unwrap();
        let set = |version: i64| connection.pragma_update(None, "user_version", version).unwrap();
        set(known + 1);
        let error = Store::open(&settings, Arc::new(Metrics::new())).unwrap_err();
        assert_eq!((error.kind, &error.place), (StoreErrorKind::Newer, &path), "{error}");
        set(known);
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
