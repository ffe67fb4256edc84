//! Queries, the webhooks' side, retention.

use super::*;

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
                IpAddr::from([10, 0, last, 1]).into()
            };
            if number % 10 == 4 {
                decided.event.source.realm = Some("branch".into());
            }
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
    // The same addresses in another realm are other devices.
    let branch = |network: &str| EventQuery {
        source: Some(network.parse().unwrap()),
        realm: Some("branch".into()),
        ..all.clone()
    };
    assert_eq!(numbers(branch("10.0.4.1/32")), expected(|n| n % 5 == 4 && n % 10 == 4));
    assert_eq!(numbers(branch("10.0.4.0/22")), expected(|n| n % 10 == 4));
    assert_eq!(numbers(branch("10.0.0.0/22")), expected(|_| false));
    assert_eq!(numbers(branch("::/0")), expected(|_| false));
    let own = EventQuery { source: Some("10.0.4.0/22".parse().unwrap()), ..all.clone() };
    assert_eq!(numbers(own), expected(|_| false));
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
        journal::index(file).unwrap();
    }
    let reader = store.reader();
    let found = reader.events(&EventQuery { source: Some("10.0.2.1/32".parse().unwrap()), ..all }).unwrap();
    assert_eq!(found.events.len(), 12);
}

#[test]
fn one_source_is_found_in_the_live_file_whatever_is_known_of_its_stretches() {
    const EVENTS: u64 = 6_000;
    let directory = TempDir::new().unwrap();
    let settings = settings(directory.path());
    // Of 400 sources each comes by itself now and then, and one thrice.
    let from = |number: u64| match number {
        700 | 4_000 | 4_001 => IpAddr::from([10, 9, 9, 9]),
        _ => IpAddr::from([10, 0, (number * number / 256 % 4) as u8, (number * number % 100) as u8]),
    };
    let commands = |numbers: std::ops::RangeInclusive<u64>| -> Vec<Command> {
        let command = |number| {
            let mut command = decided(number, None, Vec::new());
            if let Command::Event(decided) = &mut command {
                decided.event.source = from(number).into();
            }
            command
        };
        numbers.map(command).collect()
    };
    let check = |store: &Store, events: u64, what: &str| {
        for address in [[10, 9, 9, 9], [10, 0, 1, 36], [10, 0, 0, 0], [10, 8, 8, 8]].map(IpAddr::from) {
            let expected = (1..=events).rev().filter(|number| from(*number) == address).map(id_of);
            let expected: Vec<_> = expected.collect();
            for limit in [1, 7, 1000] {
                let (mut seen, mut before) = (Vec::new(), None);
                loop {
                    let query =
                        EventQuery { source: Some(address.into()), limit, before, ..Default::default() };
                    let page = store.reader().events(&query).unwrap();
                    seen.extend(page.events.iter().map(|event| event.id));
                    before = page.next;
                    if before.is_none() {
                        break;
                    }
                }
                assert_eq!(seen, expected, "{address}, pages of {limit}, {what}");
            }
        }
    };
    let mut store = open(&settings).store;
    commit(&mut store, &commands(1..=EVENTS / 2));
    check(&store, EVENTS / 2, "known from the beginning");
    drop(store);
    let mut store = open(&settings).store;
    assert!(store.journal.file().sources.lacks().is_some());
    commit(&mut store, &commands(EVENTS / 2 + 1..=EVENTS));
    check(&store, EVENTS, "the half before the start unknown");
    journal::survey(store.journal.file()).unwrap();
    assert_eq!(store.journal.file().sources.lacks(), None);
    check(&store, EVENTS, "surveyed");
    let file = Arc::clone(store.journal.file());
    store.journal.rotate(&store.shared, &[], Timestamp(BASE)).unwrap();
    check(&store, EVENTS, "closed");
    journal::index(&file).unwrap();
    check(&store, EVENTS, "indexed");
}

#[test]
fn many_alerts_come_in_their_order_without_the_damaged_ones() {
    const ROWS: i64 = 3 * alerts::PIECE as i64 + 100;
    let table = rusqlite::Connection::open_in_memory().unwrap();
    table
        .execute_batch(
            "CREATE TABLE a (id INTEGER PRIMARY KEY, record, count, last_seen, last_event, expires_at)",
        )
        .unwrap();
    let record = record(1, 1, AlertState::Firing, 1, 1);
    for number in 1..=ROWS {
        let record = AlertRecord { change: number.cast_unsigned(), ..record.clone() };
        let octets = if number == 5000 { b"{".to_vec() } else { record::octets(&record) };
        let count = if number == 7 { -1 } else { number };
        let octets = (number != 3000).then_some(octets);
        table
            .execute("INSERT INTO a VALUES (?, ?, ?, 8, 9, NULL)", rusqlite::params![number, octets, count])
            .unwrap();
    }
    for most in [10, ROWS] {
        let mut select = table
            .prepare(&format!("SELECT {} FROM a ORDER BY id LIMIT {most}", alerts::ALERT_COLUMNS))
            .unwrap();
        let (read, damaged) = alerts::all(&mut select.query([]).unwrap(), |record| record).unwrap();
        let expected = (1..=most.cast_unsigned()).filter(|number| ![7, 3000, 5000].contains(number));
        assert!(read.iter().map(|alert| alert.change).eq(expected));
        assert_eq!(damaged, if most == 10 { 1 } else { 3 });
        assert!(read.iter().all(|alert| alert.count == alert.change && alert.last_event == EventId(9)));
    }
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
fn a_keeper_is_asked_of_every_event_and_a_page_is_bounded_in_octets() {
    let directory = TempDir::new().unwrap();
    let mut store = open(&settings(directory.path())).store;
    let commands = (1..=5_000).map(|number| {
        let mut command = decided(number, None, Vec::new());
        if let Command::Event(decided) = &mut command {
            decided.event.datagram = vec![0; 8 << 10].into();
            decided.event.pdu = 0..8 << 10;
        }
        command
    });
    commit(&mut store, &commands.collect::<Vec<_>>());
    store.journal.rotate(&store.shared, &[], Timestamp(BASE)).unwrap();
    let reader = store.reader();
    for (patience, all) in [(Duration::from_secs(60), true), (Duration::ZERO, false)] {
        let (mut seen, mut before, mut pages) = (Vec::new(), None, 0);
        loop {
            let query = EventQuery { before, patience, limit: 10_000, ..EventQuery::default() };
            let page = reader.events_where(&query, |event| all || event.id.0 % 1_000 == 7_000_000).unwrap();
            let octets: usize = page.events.iter().map(|event| event.pdu.len()).sum();
            assert!(octets <= (8 << 20) + (8 << 10), "{octets}");
            seen.extend(page.events.iter().map(|event| event.id));
            before = page.next;
            pages += 1;
            if before.is_none() {
                break;
            }
        }
        let expected: Vec<_> = if all { (1..=5_000).rev().map(id_of).collect() } else { Vec::new() };
        assert_eq!(seen, expected, "no gap between pages, none twice");
        assert!(pages > 4, "{pages}: a page ends early, be it full or late");
    }
}

#[test]
fn a_damaged_row_is_counted_and_no_error_for_who_asks_for_it() {
    let directory = TempDir::new().unwrap();
    let settings = settings(directory.path());
    let running = Running::start(&settings);
    (1..=3).for_each(|number| running.push(raise(number, number, number)));
    running.flush();
    let journal = rusqlite::Connection::open(named(&settings.path, "events-00000001").remove(0)).unwrap();
    let id = i64::try_from(id_of(2).0).unwrap();
    assert_eq!(journal.execute("UPDATE events SET source = 'no address' WHERE id = ?", [id]).unwrap(), 1);
    let found = |number| running.reader.event(id_of(number)).unwrap().is_some();
    // Who has a change of it to post goes on, and posts without it.
    assert_eq!([found(1), found(2), found(3)], [true, false, true]);
    assert_eq!(running.reader.counts().unwrap().damaged_rows, 1);
    running.stop();
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
    show_dead_letters(&mut store.state, &metrics);
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
    assert_eq!(changes(reader.open_alerts_after(AlertId(0), 2).unwrap()), [1, 3]);
    assert_eq!(changes(reader.open_alerts_after(AlertId(3), 9).unwrap()), [5, 6]);
    let ended =
        |seconds, id| reader.alerts_resolved_after((Timestamp(BASE + seconds * SECOND), AlertId(id)), 9);
    assert_eq!(changes(ended(0, 0).unwrap()), [7, 8]);
    assert_eq!(changes(ended(100, 1).unwrap()), [7, 8]);
    assert_eq!(changes(ended(100, 2).unwrap()), [8]);
    assert_eq!(changes(ended(150, 0).unwrap()), [8]);
    assert_eq!(changes(ended(200, 4).unwrap()), [0; 0]);
    assert_eq!(reader.alerts(&AlertQuery::default()).unwrap().len(), 4);
    let paged = AlertQuery { before: Some(AlertId(5)), limit: 1, ..AlertQuery::default() };
    assert_eq!(reader.alerts(&paged).unwrap()[0].id, AlertId(3));
    assert_eq!(reader.alert(AlertId(4)).unwrap().unwrap().state, AlertState::Resolved);
    assert_eq!(reader.alert(AlertId(9)).unwrap(), None);
}

#[test]
fn a_page_of_a_round_costs_what_it_gives() {
    let directory = TempDir::new().unwrap();
    let store = open(&settings(directory.path())).store;
    for (sql, index) in [(query::open_after(), "alerts_open"), (query::resolved_after(), "alerts_resolved")] {
        let mut plan = store.state.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let numbers = vec![1; plan.parameter_count()];
        let steps =
            plan.query_map(rusqlite::params_from_iter(numbers), |row| row.get::<_, String>(3)).unwrap();
        let steps: Vec<_> = steps.map(Result::unwrap).collect();
        assert_eq!(steps.len(), 1, "nothing is sorted: {steps:?}");
        assert!(steps[0].starts_with("SEARCH") && steps[0].contains(index), "{steps:?}");
    }
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
fn the_journal_is_followed_over_its_files() {
    let directory = TempDir::new().unwrap();
    let settings = settings(directory.path());
    let mut store = open(&settings).store;
    let reader = store.reader();
    assert_eq!(reader.newest_event().unwrap(), EventId(0));
    assert_eq!(reader.events_waiting(EventId(0)).unwrap(), (0, None));
    assert_eq!(reader.events_after(EventId(0), 10).unwrap(), Stretch::default());
    for number in 1..=60 {
        commit(&mut store, &[decided(number, None, Vec::new())]);
        if number % 20 == 0 {
            store.journal.rotate(&store.shared, &[], Timestamp(BASE)).unwrap();
        }
    }
    assert_eq!(reader.newest_event().unwrap(), id_of(60));
    for limit in [1, 7, 20, 21, 1000] {
        let (mut seen, mut after) = (Vec::new(), EventId(0));
        loop {
            let (waiting, oldest) = reader.events_waiting(after).unwrap();
            assert_eq!(waiting, 60 - seen.len() as u64);
            let stretch = reader.events_after(after, limit).unwrap();
            assert_eq!(oldest, stretch.events.first().map(|event| event.time));
            assert!(stretch.events.len() <= limit);
            if stretch.events.is_empty() {
                break;
            }
            after = stretch.upto;
            seen.extend(stretch.events.into_iter().map(|event| event.id));
        }
        assert_eq!(seen, (1..=60).map(id_of).collect::<Vec<_>>(), "by {limit}");
    }
    // Retention takes the first file: who was not at its end has lost what lay behind its place.
    let place =
        |webhook: &str, change| Command::Delivered(Delivered::UpTo { webhook: webhook.into(), change });
    commit(&mut store, &[place("none", 1), place("midst", id_of(17).0), place("end", id_of(20).0)]);
    let tight = StorageSettings { retention: Duration::from_secs(1), ..settings.clone() };
    let now = Timestamp(BASE + 22 * SECOND);
    let retained = retention::run(&store.shared, &tight, &mut store.journal, &store.state, now).unwrap();
    assert_eq!(retained.unlinked, 1);
    assert_eq!(["none", "midst", "end"].map(|name| reader.events_lost(name)), [20, 3, 0]);
    assert_eq!(reader.events_lost("none"), 0, "it has been told");
    assert_eq!(reader.events_after(id_of(17), 1).unwrap().upto, id_of(21));
}

#[test]
fn what_waits_is_counted_exactly_and_once() {
    let directory = TempDir::new().unwrap();
    let mut store = open(&settings(directory.path())).store;
    let reader = store.reader();
    let waiting = |after: u64| reader.events_waiting(EventId(after)).unwrap().0;
    let places = |file: &JournalFile| file.counted.places();
    let mut add = |numbers: std::ops::RangeInclusive<u64>| {
        commit(&mut store, &numbers.map(|number| decided(number, None, Vec::new())).collect::<Vec<_>>());
    };
    add(1..=150_000);
    assert_eq!(waiting(id_of(100_000).0), 50_000);
    assert_eq!(waiting(0), 150_000, "more than one stride, and more than was asked about before");
    add(150_001..=150_010);
    for passed in [0, 1, 65_535, 65_536, 65_537, 131_072, 131_073, 150_000, 150_009, 150_010] {
        assert_eq!(
            waiting(if passed == 0 { 0 } else { id_of(passed).0 }),
            150_010 - passed,
            "behind {passed}"
        );
    }
    assert_eq!(waiting(u64::MAX), 0);
    let file = Arc::clone(&store.shared.journals()[0]);
    assert_eq!(places(&file).len(), 4, "the first, two strides, the newest: {:?}", places(&file));
}

#[test]
fn a_damaged_row_holds_up_nobody_who_follows() {
    let directory = TempDir::new().unwrap();
    let mut store = open(&settings(directory.path())).store;
    for number in 1..=3 {
        commit(&mut store, &[decided(number, None, Vec::new())]);
    }
    store
        .journal
        .connection()
        .execute("UPDATE events SET source = x'00' WHERE id = ?", [row::signed(id_of(2).0)])
        .unwrap();
    let stretch = store.reader().events_after(EventId(0), 10).unwrap();
    assert_eq!(stretch.events.iter().map(|event| event.id).collect::<Vec<_>>(), [id_of(1), id_of(3)]);
    assert_eq!(stretch.upto, id_of(3));
    assert_eq!(store.shared.damaged_rows.load(Ordering::Relaxed), 1);
}

#[test]
fn queues_are_bounded_by_their_size_and_the_oldest_rows_go() {
    let directory = TempDir::new().unwrap();
    let mut store = open(&settings(directory.path())).store;
    let raise = |number, webhooks: &[&str]| {
        let queued = change(record(number, number, AlertState::Firing, 1, number), webhooks);
        decided(number, Some(number), vec![queued])
    };
    commit(&mut store, &(1..=2000).map(|number| raise(number, &[])).collect::<Vec<_>>());
    let queued: Vec<_> =
        (2001..=2400).map(|number| raise(number, if number % 4 == 0 { &["b"] } else { &["a"] })).collect();
    commit(&mut store, &queued);
    let reader = store.reader();
    let left = || ["a", "b"].map(|webhook| reader.outbox_depth(webhook).unwrap().0);
    assert_eq!(left(), [300, 100]);
    assert!(store.state.shed(10 << 20).unwrap().is_empty());
    // The alerts alone take more than this: that is not the queues' fault.
    assert!(store.state.shed(1 << 20).unwrap().is_empty());
    assert_eq!(left(), [300, 100]);
    let octets: i64 = store
        .state
        .connection
        .query_row("SELECT sum(length(record) + 100) FROM outbox", [], |row| row.get(0))
        .unwrap();
    let dropped = store.state.shed(u64::try_from(octets / 2).unwrap()).unwrap();
    let number = dropped["a"] + dropped["b"];
    assert!((198..=202).contains(&number) && dropped["b"].abs_diff(number / 4) <= 1, "{dropped:?}");
    assert_eq!(left(), [300 - dropped["a"], 100 - dropped["b"]]);
    assert_eq!(reader.outbox("b", 0, 1).unwrap()[0].record.change % 4, 0);
    let first = reader.outbox("a", 0, 1).unwrap()[0].record.change;
    assert!((2198..=2203).contains(&first), "the oldest are gone: {first}");
    assert!(
        store.state.shed(u64::try_from(octets / 2).unwrap()).unwrap().is_empty(),
        "and no more than that"
    );
}
