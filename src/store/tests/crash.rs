//! What a crash or damage leaves is made what it was.

use super::*;

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

#[test]
fn a_damaged_file_that_claims_to_begin_early_hides_nothing() {
    let directory = TempDir::new().unwrap();
    let settings = settings(directory.path());
    let mut store = open(&settings).store;
    for first in [1, 201] {
        let commands: Vec<_> = (first..first + 200).map(|number| decided(number, None, Vec::new())).collect();
        commit(&mut store, &commands);
        store.journal.rotate(&store.shared, &[], Timestamp(BASE)).unwrap();
    }
    // Opened whole, so that it is not put aside; damaged while the store runs.
    let path = named(&settings.path, "events-00000002").remove(0);
    let mut content = fs::read(&path).unwrap();
    content[100..].fill(0xbd);
    fs::write(&path, &content).unwrap();
    store.shared.journals()[1].first.store(id_of(150).0, Ordering::Relaxed);
    let page = store.reader().events(&EventQuery { limit: usize::MAX, ..EventQuery::default() }).unwrap();
    assert!(page.damaged > 0, "the damage is told");
    assert_eq!(page.events.len(), 200, "the other file is whole");
    let older = EventQuery { limit: usize::MAX, before: Some(id_of(101)), ..EventQuery::default() };
    assert_eq!(
        store.reader().events(&older).unwrap().events.len(),
        100,
        "and a page ends where it was asked to"
    );
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

/// A store that runs and holds so many open alerts.
fn with_alerts(settings: &StorageSettings, alerts: u64) -> Running {
    let running = Running::start(settings);
    for number in 1..=alerts {
        running.push(raise(number, number, number));
    }
    running.flush();
    running
}

#[test]
fn open_alerts_are_read_in_their_order_whether_most_have_ended_or_few() {
    for ended in [2, 8] {
        let directory = TempDir::new().unwrap();
        let settings = settings(directory.path());
        let running = with_alerts(&settings, 10);
        let end = |alert| change(record(alert, 10 + alert, AlertState::Resolved, 1, alert), &[]);
        running.push(Command::Changes((2..2 + ended).map(end).collect()));
        running.flush();
        running.stop();
        let open = open(&settings).alerts.iter().map(|alert| alert.id.0).collect::<Vec<_>>();
        assert_eq!(open, std::iter::once(1).chain(2 + ended..=10).collect::<Vec<_>>());
    }
}

#[test]
fn damage_of_a_state_that_is_not_checked_at_each_start_shows_as_its_alerts_are_read() {
    let directory = TempDir::new().unwrap();
    let settings = settings(directory.path());
    let running = with_alerts(&settings, 300);
    running.stop();
    let path = settings.path.join("state.db");
    let root: i64 = {
        let connection = rusqlite::Connection::open(&path).unwrap();
        let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'alerts'";
        connection.query_row(root, [], |found| found.get(0)).unwrap()
    };
    let file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut page = [0; 4096];
    let at = 4096 * (u64::try_from(root).unwrap() - 1);
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut page, at).unwrap();
    assert_eq!(page[0], 5, "an interior page of a table");
    // Its last child is a page that does not exist.
    page[8..12].fill(0x7f);
    std::os::unix::fs::FileExt::write_all_at(&file, &page, at).unwrap();
    // So large that only a run that did not end in order has it checked.
    file.set_len(ALWAYS_CHECKED + 4096).unwrap();
    drop(file);
    let opened = open(&settings);
    assert!(codes(&opened).contains(&"storage-damaged"), "{:?}", opened.notes);
    assert_eq!(named(&settings.path, "state.db.damaged-").len(), 1);
    assert_eq!(opened.alerts.len(), 300);
    assert_eq!(opened.store.reader().outbox("hook", 0, 1000).unwrap().len(), 300);
}

#[test]
fn a_state_damaged_in_use_is_made_again_and_nothing_is_lost() {
    let directory = TempDir::new().unwrap();
    let settings = settings(directory.path());
    let running = with_alerts(&settings, 300);
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
    // A webhook that had read up to the last of the lost rows meets all of the new ones.
    assert_eq!(running.reader.outbox("hook", 300, 1000).unwrap().len(), 320);
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
