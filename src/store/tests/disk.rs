//! A disk that refuses, a program that ends, a kill.

use super::*;

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
            .args(["store::tests::disk::writes_until_it_is_killed", "--exact", "--ignored", "--nocapture"])
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
